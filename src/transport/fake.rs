//! A stream whose behaviour a test sets.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex};

use crate::transport::wire::Raw;

#[derive(Clone, Default)]
pub(crate) struct Fake(pub(crate) Arc<Mutex<Script>>);

#[derive(Default)]
pub(crate) struct Script {
    /// What each read returns. An empty queue would block; an empty item is the end.
    pub(crate) reads: VecDeque<Vec<u8>>,
    pub(crate) written: Vec<u8>,
    /// How many more bytes the system takes.
    pub(crate) room: usize,
    /// The system takes each write whole while it has any room, as Windows does.
    pub(crate) takes_whole_writes: bool,
    pub(crate) write_fails: bool,
    pub(crate) half_closed: bool,
}

impl Fake {
    pub(crate) fn with_room(room: usize) -> Self {
        let fake = Self::default();
        fake.0.lock().unwrap().room = room;
        fake
    }

    pub(crate) fn feed(&self, bytes: impl Into<Vec<u8>>) {
        self.0.lock().unwrap().reads.push_back(bytes.into());
    }
}

impl Read for Fake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut script = self.0.lock().unwrap();
        let Some(mut next) = script.reads.pop_front() else { return Err(ErrorKind::WouldBlock.into()) };
        let n = next.len().min(buffer.len());
        buffer[..n].copy_from_slice(&next[..n]);
        if n < next.len() {
            script.reads.push_front(next.split_off(n));
        }
        Ok(n)
    }
}

impl Write for Fake {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut script = self.0.lock().unwrap();
        if script.write_fails {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let whole = script.takes_whole_writes && script.room > 0;
        let n = if whole { bytes.len() } else { bytes.len().min(script.room) };
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        script.room = script.room.saturating_sub(n);
        script.written.extend(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Raw for Fake {
    fn half_close(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().half_closed = true;
        Ok(())
    }

    fn hang_up(&mut self) -> io::Result<()> {
        Ok(())
    }
}
