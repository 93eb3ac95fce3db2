//! A TCP connection in memory.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use crate::transport::stream::Raw;

#[derive(Clone)]
pub(super) struct Pipe(Rc<RefCell<State>>);

pub(super) struct State {
    /// What has arrived and was not read.
    pub(super) incoming: VecDeque<u8>,
    pub(super) end: Option<End>,
    /// What the system took, as far as nobody has looked at it.
    pub(super) taken: Vec<u8>,
    /// How much the system still takes.
    pub(super) room: usize,
    /// Writes fail.
    pub(super) broken: bool,
    pub(super) half_closed: bool,
    /// So many calls are interrupted by a signal.
    pub(super) interrupts: u8,
}

/// How the peer's side ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It writes nothing more.
    Eof,
    /// What it said and was not read is gone.
    Reset,
}

impl Pipe {
    pub(super) fn new() -> Self {
        Self(Rc::new(RefCell::new(State {
            incoming: VecDeque::new(),
            end: None,
            taken: Vec::new(),
            room: usize::MAX,
            broken: false,
            half_closed: false,
            interrupts: 0,
        })))
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    pub(super) fn end(&self, end: End) {
        let mut state = self.state();
        if end == End::Reset {
            state.incoming.clear();
            state.broken = true;
        }
        state.end = Some(end);
    }
}

impl State {
    fn interrupted(&mut self) -> io::Result<()> {
        if self.interrupts == 0 {
            return Ok(());
        }
        self.interrupts -= 1;
        Err(ErrorKind::Interrupted.into())
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        state.interrupted()?;
        if state.incoming.is_empty() {
            return match state.end {
                None => Err(ErrorKind::WouldBlock.into()),
                Some(End::Eof) => Ok(0),
                Some(End::Reset) => {
                    // The system tells it once.
                    state.end = Some(End::Eof);
                    Err(ErrorKind::ConnectionReset.into())
                }
            };
        }
        let n = state.incoming.len().min(buffer.len());
        for (byte, arrived) in buffer.iter_mut().zip(state.incoming.drain(..n)) {
            *byte = arrived;
        }
        Ok(n)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        state.interrupted()?;
        assert!(!state.half_closed, "a write after the half-close");
        if state.broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let n = bytes.len().min(state.room);
        if n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.room -= n;
        state.taken.extend(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Raw for Pipe {
    fn half_close(&mut self) -> io::Result<()> {
        self.state().half_closed = true;
        Ok(())
    }

    fn hang_up(&mut self) -> io::Result<()> {
        Ok(())
    }
}
