//! stdout, which may be gone or full before the program has ended.

use std::io::{self, BufWriter, StdoutLock, Write};

/// Remembers its first failure, and writes nothing after it.
pub(crate) struct Stdout {
    out: BufWriter<StdoutLock<'static>>,
    failure: Option<io::Error>,
}

impl Stdout {
    pub(crate) fn new() -> Self {
        Self { out: BufWriter::new(io::stdout().lock()), failure: None }
    }

    pub(crate) fn write(&mut self, what: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if self.failure.is_none() {
            self.failure = what(&mut self.out).err();
        }
    }

    pub(crate) fn flush(&mut self) {
        self.write(|out| out.flush());
    }

    pub(crate) fn failure(&self) -> Option<&io::Error> {
        self.failure.as_ref()
    }
}
