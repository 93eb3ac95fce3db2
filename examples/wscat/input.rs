//! What comes from stdin, and goes to the server.

use std::io::{self, BufRead, IsTerminal, Read};
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use tautline::{Client, Message};

use super::options::{Options, Shape};
use super::typing::{self, Key};

/// Input from stdin.
pub(crate) enum Typed {
    /// A line as it was read, with the message that it stands for.
    Line(Vec<u8>, Message),
    /// One that stands for no message, and why. Nothing more is read.
    Refused(Vec<u8>, &'static str),
    /// An incomplete line.
    Part(String),
}

/// The channels for the lines of stdin.
pub(crate) struct Lines {
    client: Client,
    /// Reports each line before it is sent. Disconnects at the end of stdin.
    told: Sender<io::Result<Typed>>,
    /// Requests a confirmation of what was sent, where that is possible.
    sent: Option<Sender<()>>,
    shape: Arc<Shape>,
    max: usize,
}

impl Lines {
    /// Starts to read. Nothing is read from a terminal where all that is to be sent stands among the arguments.
    pub(crate) fn start(
        client: &Client,
        options: &Options,
        by_key: bool,
        sent: Option<Sender<()>>,
    ) -> Result<Receiver<io::Result<Typed>>, (u8, String)> {
        let (told, lines) = bounded(16);
        if options.sends_only && io::stdin().is_terminal() {
            return Ok(lines);
        }
        let (client, max) = (client.clone(), options.config.max_message_size);
        let lines_in = Self { client, told, sent, shape: Arc::clone(&options.shape), max };
        let read = move || lines_in.read(by_key).or_else(|error| lines_in.told.send(Err(error)));
        let thread = thread::Builder::new().name("stdin".into()).spawn(read);
        thread.map(|_| lines).map_err(|error| (1, format!("a thread: {error}")))
    }

    /// THREAD `stdin`: reads and sends, so that a full outbox blocks nothing but stdin.
    fn read(&self, by_key: bool) -> io::Result<()> {
        let (mut stdin, mut typed) = (io::stdin().lock(), typing::Line::default());
        let end = if by_key { b'\n' } else { self.shape.end() };
        loop {
            let mut line = Vec::new();
            if by_key {
                let Some(typed) = self.type_line(&mut stdin, &mut typed)? else { return Ok(()) };
                line = typed;
            } else if stdin.by_ref().take(self.max as u64 + 1).read_until(end, &mut line)? == 0 {
                return Ok(());
            }
            if line.pop_if(|last| *last == end).is_none() && line.len() > self.max {
                return Err(io::Error::other("a line is too long"));
            }
            line.pop_if(|last| *last == b'\r' && end == b'\n' && self.shape.is_lines());
            let message = match self.shape.message(line.clone()) {
                Ok(message) => message,
                Err(what) => {
                    let _ = self.told.send(Ok(Typed::Refused(line, what))); // the program may have ended
                    return Ok(());
                }
            };
            // The main thread knows why the line was closed.
            let told = self.told.send(Ok(Typed::Line(line, message.clone())));
            if told.is_err() || self.client.send(message).is_err() {
                return Ok(());
            }
            self.sent.as_ref().map(|sent| sent.try_send(()));
        }
    }

    /// Returns the next typed line, or `None` at the end of the input or of the program.
    fn type_line(&self, stdin: &mut impl BufRead, line: &mut typing::Line) -> io::Result<Option<Vec<u8>>> {
        loop {
            let keys = stdin.fill_buf()?;
            let (mut taken, mut last) = (0, Key::Other);
            while let (Key::Other, Some(key)) = (&last, keys.get(taken)) {
                (taken, last) = (taken + 1, line.key(*key));
            }
            stdin.consume(taken);
            match last {
                Key::Enter(bytes) => return Ok(Some(bytes)),
                Key::Other if taken > 0 && self.told.send(Ok(Typed::Part(line.text()))).is_ok() => {}
                Key::Other | Key::End => return Ok(None),
            }
        }
    }
}
