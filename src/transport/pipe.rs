//! A TCP connection in memory, and a server's frames for it, for tests and fuzzers.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;

use crate::transport::wire::Raw;

#[derive(Clone)]
pub(crate) struct Pipe(Rc<RefCell<State>>);

pub(crate) struct State {
    /// Bytes that have arrived and have not been read.
    pub(crate) incoming: VecDeque<u8>,
    pub(crate) end: Option<End>,
    /// Bytes that the system took since the last [`take`](Pipe::take), and whether the client has read since then.
    pub(crate) taken: Vec<u8>,
    read: bool,
    /// How many more bytes the system takes.
    pub(crate) room: usize,
    /// Whether writes fail.
    pub(crate) broken: bool,
    half_closed: bool,
    /// Whether the client has ended the connection.
    pub(crate) hung_up: bool,
    /// How many calls a signal still interrupts.
    pub(crate) interrupts: u8,
    /// What happens elsewhere when the next write begins.
    pub(crate) meanwhile: Option<Box<dyn FnOnce()>>,
}

/// How the peer's side ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It writes nothing more.
    Eof,
    /// What it sent and the client has not read is lost.
    Reset,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(State {
            incoming: VecDeque::new(),
            end: None,
            taken: Vec::new(),
            read: false,
            room: usize::MAX,
            broken: false,
            half_closed: false,
            hung_up: false,
            interrupts: 0,
            meanwhile: None,
        })))
    }

    pub(crate) fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    /// Returns what the system took since the last call, and whether the client has read.
    pub(crate) fn take(&self) -> (Vec<u8>, bool) {
        let mut state = self.state();
        (std::mem::take(&mut state.taken), std::mem::take(&mut state.read))
    }

    pub(crate) fn end(&self, end: End) {
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
                    // The system reports a reset only once.
                    state.end = Some(End::Eof);
                    Err(ErrorKind::ConnectionReset.into())
                }
            };
        }
        let n = state.incoming.len().min(buffer.len());
        for (byte, arrived) in buffer.iter_mut().zip(state.incoming.drain(..n)) {
            *byte = arrived;
        }
        state.read = true;
        Ok(n)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        state.meanwhile.take().into_iter().for_each(|happen| happen());
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
        self.state().hung_up = true;
        Ok(())
    }
}

/// A server's frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// The head of a client's frame (RFC 6455, section 5.2).
pub(crate) struct Head {
    pub(crate) opcode: u8,
    pub(crate) fin: bool,
    /// The bit of a compressed message's first frame (RFC 7692).
    pub(crate) compressed: bool,
    /// Where the payload begins and ends.
    pub(crate) at: usize,
    pub(crate) end: usize,
}

impl Head {
    /// Parses the head at the start of `bytes`, if it is complete.
    ///
    /// # Panics
    /// If no client may send such a head.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let [first, second, ..] = bytes else { return None };
        let (opcode, fin) = (first & 0x0F, first & 0x80 != 0);
        let compressed = first & 0x40 != 0;
        assert!(first & 0x30 == 0 && (!compressed || matches!(opcode, 1 | 2)), "reserved bits");
        assert_ne!(second & 0x80, 0, "a client's frames are masked");
        let width = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let extended = bytes.get(2..2 + width)?;
        let length = if width == 0 {
            usize::from(second & 0x7F)
        } else {
            let length = extended.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            assert!(length > if width == 2 { 125 } else { 0xFFFF }, "{length} bytes in {width}");
            length
        };
        assert!(opcode < 8 || (fin && length <= 125), "a control frame");
        let at = 2 + width + 4;
        (bytes.len() >= at).then_some(Self { opcode, fin, compressed, at, end: at + length })
    }

    /// The payload, or as much of it as has arrived.
    pub(crate) fn payload(&self, bytes: &[u8]) -> Vec<u8> {
        let (mask, end) = (&bytes[self.at - 4..self.at], self.end.min(bytes.len()));
        bytes[self.at..end].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
    }
}
