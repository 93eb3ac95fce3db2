//! What comes from stdin, and goes to the server.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
#[cfg(unix)]
use std::os::fd::AsFd;
#[cfg(windows)]
use std::os::windows::io::AsHandle;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};
use tautline::{Client, Message, SendErrorKind};

use super::confirming::Confirming;
use super::options::{Options, Shape};
use super::prompt::{Entered, LineEditor};
use super::signals::Signals;

/// Input from stdin.
pub(crate) enum Typed {
    /// A line as it was read, with its end, and the message that it stands for.
    Line(Vec<u8>, Message),
    /// One that stands for no message, and why. Nothing more is read.
    Refused(Vec<u8>, &'static str),
    /// How a line begins that is longer than a message may be. Nothing more is read.
    Long(Vec<u8>),
    /// What was typed at a terminal: messages and commands, each a line.
    Entered(String),
    /// The end of stdin. Behind Ctrl-D at the prompt, more may be typed.
    End,
    /// Nothing more can be read.
    Failed(io::Error),
}

/// Reads stdin.
pub(crate) struct Reader {
    client: Client,
    /// Reports each line before it is sent. Disconnects when nothing more is read.
    told: Sender<Typed>,
    confirming: Confirming,
    shape: Arc<Shape>,
    max: usize,
}

/// Whether stdin is a file, which has an end.
pub(crate) fn is_file() -> bool {
    #[cfg(unix)]
    let stdin = io::stdin().as_fd().try_clone_to_owned();
    #[cfg(windows)]
    let stdin = io::stdin().as_handle().try_clone_to_owned();
    stdin.is_ok_and(|stdin| File::from(stdin).metadata().is_ok_and(|stdin| stdin.is_file()))
}

impl Reader {
    /// Starts to read, by the prompt if there is one. Nothing is read from a terminal where all that is to be sent stands among
    /// the arguments.
    pub(crate) fn start(
        client: &Client,
        options: &Options,
        editor: Option<LineEditor>,
        confirming: Confirming,
        signals: Signals,
    ) -> io::Result<Receiver<Typed>> {
        let (told, typed) = bounded(16);
        if options.sends_only && io::stdin().is_terminal() {
            let _ = told.send(Typed::End); // there is room
            return Ok(typed);
        }
        let (client, max) = (client.clone(), options.config.max_message_size);
        let from = Self { client, told, confirming, shape: Arc::clone(&options.shape), max };
        let read = move || {
            let read = match editor {
                Some(editor) => from.edit(editor, &signals),
                None => from.read(),
            };
            read.or_else(|error| from.told.send(Typed::Failed(error)))
        };
        thread::Builder::new().name("stdin".into()).spawn(read)?;
        Ok(typed)
    }

    /// THREAD `stdin` at a prompt: the main thread sends, so that this one always edits.
    fn edit(&self, mut editor: LineEditor, signals: &Signals) -> io::Result<()> {
        let told = self.told.clone();
        let end = move || _ = told.send(Typed::End); // the program may have ended
        editor.bind(end, signals.clone());
        loop {
            match editor.next()? {
                Entered::Line(text) => {
                    if self.told.send(Typed::Entered(text)).is_err() {
                        return Ok(());
                    }
                }
                Entered::Interrupted => signals.interrupt(),
                Entered::End => {
                    let _ = self.told.send(Typed::End); // the program may have ended
                    return Ok(());
                }
            }
        }
    }

    /// THREAD `stdin`: reads and sends, so that a full outbox blocks nothing but stdin.
    fn read(&self) -> io::Result<()> {
        let is_typed = io::stdin().is_terminal();
        let end = if is_typed { b'\n' } else { self.shape.end() };
        let mut stdin = io::stdin().lock();
        loop {
            let mut line = Vec::new();
            if stdin.by_ref().take(self.max as u64 + 1).read_until(end, &mut line)? == 0 {
                let _ = self.told.send(Typed::End); // the program may have ended
                return Ok(());
            }
            let is_last = !line.ends_with(&[end]);
            if is_last && line.len() > self.max {
                let _ = self.told.send(Typed::Long(line)); // the program may have ended
                return Ok(());
            }
            let bare = line.strip_suffix(&[end]).unwrap_or(&line);
            let bare = match bare.strip_suffix(b"\r") {
                Some(of_windows) if end == b'\n' && self.shape.is_lines() => of_windows,
                _ => bare,
            };
            let bare = bare.to_vec();
            if is_typed {
                let text = String::from_utf8_lossy(&bare).into_owned();
                // Behind a line without an end, another Ctrl-D would have to be struck.
                if self.told.send(Typed::Entered(text)).is_err() {
                    return Ok(());
                }
                if is_last {
                    let _ = self.told.send(Typed::End); // as above
                    return Ok(());
                }
                continue;
            }
            let message = match self.shape.message(bare) {
                Ok(message) => message,
                Err(what) => {
                    let _ = self.told.send(Typed::Refused(line, what)); // the program may have ended
                    return Ok(());
                }
            };
            if self.told.send(Typed::Line(line, message.clone())).is_err() || !self.send(message) {
                return Ok(());
            }
            self.confirming.request();
        }
    }

    /// Waits as long as it takes, also for somebody who reads stdout. Returns whether the line is still open.
    fn send(&self, mut message: Message) -> bool {
        while let Err(error) = self.client.send(message) {
            if !matches!(error.kind(), SendErrorKind::ConsumerStalled { .. }) {
                return false;
            }
            message = error.into_message();
        }
        true
    }
}
