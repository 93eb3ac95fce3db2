//! stdout, by a thread of its own: nobody else waits for who reads it. It may be gone or full before the program has ended.

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// A part is handed over when it has so many bytes.
const PART: usize = 1 << 13;

/// So many bytes may wait for the part that is being written.
const MOST: usize = 1 << 16;

/// How long a terminal may take, where what follows on stderr is to stand behind it.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often to look whether there is still a reason to wait.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) struct Stdout {
    text: Vec<u8>,
    parts: Sender<Vec<u8>>,
    /// A part is written. Disconnects behind a failure.
    pub(crate) written: Receiver<()>,
    is_writing: bool,
    is_terminal: bool,
    failure: Arc<OnceLock<io::Error>>,
}

impl Stdout {
    pub(crate) fn start() -> io::Result<Self> {
        let ((parts, received), (told, written)) = (bounded::<Vec<u8>>(1), bounded(1));
        let failure = Arc::<OnceLock<_>>::default();
        let failed = Arc::clone(&failure);
        // THREAD `stdout`
        let write = move || {
            for part in received {
                let mut out = io::stdout();
                if let Err(error) = out.write_all(&part).and_then(|()| out.flush()) {
                    let _ = failed.set(error); // the first one, behind which nothing is written
                    return;
                }
                if told.send(()).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("stdout".into()).spawn(write)?;
        let is_terminal = io::stdout().is_terminal();
        Ok(Self { text: Vec::new(), parts, written, is_writing: false, is_terminal, failure })
    }

    pub(crate) fn write(&mut self, what: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let _ = what(&mut self.text); // there is room
        if self.text.len() > PART {
            self.hand_over();
        }
    }

    /// Hands over what was written. Waits for a terminal, but not for long.
    pub(crate) fn flush(&mut self) {
        self.hand_over();
        if self.is_terminal {
            let began = Instant::now();
            self.finish(|| began.elapsed() > PATIENCE);
        }
    }

    /// Waits until all is written, stdout fails, or there is a reason to wait no longer.
    pub(crate) fn finish(&mut self, is_over: impl Fn() -> bool) {
        while self.has_more() && self.failure().is_none() && !is_over() {
            if self.written.recv_timeout(LOOK).is_ok() {
                self.go_on();
            }
        }
    }

    /// The part is written.
    pub(crate) fn go_on(&mut self) {
        self.is_writing = false;
        self.hand_over();
    }

    /// Whether so much waits to be written that there should not be more.
    pub(crate) fn is_behind(&self) -> bool {
        self.text.len() > MOST
    }

    /// After it, nothing is written.
    pub(crate) fn failure(&self) -> Option<&io::Error> {
        self.failure.get()
    }

    fn has_more(&self) -> bool {
        self.is_writing || !self.text.is_empty()
    }

    fn hand_over(&mut self) {
        if !self.is_writing && !self.text.is_empty() {
            self.is_writing = self.parts.send(mem::take(&mut self.text)).is_ok();
        }
    }
}
