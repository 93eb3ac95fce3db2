//! A non-blocking stream on which every write succeeds, and the poller that waits for it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use mio::event::{Event, Source};
use mio::{Events, Interest, Poll, Registry, Token, Waker};

use crate::transport::stream::{Stream, Watch};

const WAKER: Token = Token(0);
const STREAM: Token = Token(1);

/// Waits in one system call for streams, usually one, and for a wake-up from other threads.
pub(crate) struct Poller {
    poll: Poll,
    events: Events,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { poll: Poll::new()?, events: Events::with_capacity(4) })
    }

    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.registry(), WAKER)
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Waits for readiness, a wake-up or the timeout, whichever comes first, and tells `wire` what it is ready for.
    pub(crate) fn wait(&mut self, wire: Option<&mut Wire>, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => self.events.clear(),
            other => other?,
        }
        if let Some(wire) = wire {
            self.tell(wire);
        }
        Ok(())
    }

    /// Whether the last wait has reported nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.events.is_empty()
    }

    /// Tells another wire what the last wait reported about it.
    pub(crate) fn tell(&self, wire: &mut Wire) {
        let token = wire.token;
        self.events.iter().filter(|event| event.token() == token).for_each(|event| wire.note(event));
    }
}

/// The raw stream under a [`Wire`].
pub(crate) trait Raw: Read + Write {
    /// Tells the peer that nothing more will be written.
    fn half_close(&mut self) -> io::Result<()>;

    /// Ends the connection, even if other processes hold its descriptor.
    fn hang_up(&mut self) -> io::Result<()>;

    /// Makes reads and writes return where they would wait.
    fn make_nonblocking(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Whether a read that does not fill its buffer has emptied the stream, so that another one would find nothing.
    fn is_emptied_by_short_reads(&self) -> bool {
        true
    }

    /// How many of the bytes that it has taken the system has not.
    fn held(&self) -> usize {
        0
    }

    /// Takes notice of what the poller reports about it.
    fn note(&mut self, _: &Event) {}

    /// Has the calls of the application's code watched, if it is a stream of the application's.
    fn watch(&mut self, _: Arc<dyn Watch>) {}
}

/// A stream whose writes always succeed: what the system does not take at once waits in the *spill*. So no layer above
/// ever has to repeat a write, and TLS and WebSocket only ever wait to read.
///
/// A failed write is remembered, and reported only when there is nothing more to read. So what the peer said before it
/// went, above all a close code, is not lost to a reset.
///
/// Dropping it ends the connection. Closing the descriptor is not enough: a process that was forked meanwhile holds a
/// copy, and the peer would not see the end while that process lives.
pub(crate) struct Wire<T: Raw = Stream> {
    raw: T,
    /// The token under which the stream is registered.
    token: Token,
    /// Bytes that were read and that the next read returns.
    ahead: Vec<u8>,
    spill: VecDeque<u8>,
    /// Whether a read may return something. Only a read that came back empty or short clears it.
    readable: bool,
    /// The poller has reported the peer's end of stream. It may still be hidden behind a short read.
    ending: bool,
    /// Whether the system has made room since a write last found none. Like readability, this is reported only once.
    room: bool,
    /// Whether the stream is registered for writability.
    armed: bool,
    write_error: Option<io::Error>,
    /// Why reading is over. The system and TLS report it once, and then act as if the peer had ended the stream.
    read_error: Option<Arc<io::Error>>,
    /// Bytes that came from the system.
    received: u64,
    /// Bytes that the raw stream took.
    taken: u64,
    /// Bytes that it will never take, because a write has failed.
    refused: u64,
}

/// A spill of up to this size keeps its memory when it is emptied.
const MOST_KEPT_SPILL: usize = 16 << 10;

/// The most that one write offers the system: all of a piece of a large message. While its buffer has any room, Windows takes a
/// write of any size, or has no memory for it: a ping would then stand behind all of that, and a slow line would be taken for dead.
const MOST_OFFERED: usize = if cfg!(windows) { 128 << 10 } else { 256 << 10 };

impl<T: Raw> Wire<T> {
    pub(crate) fn new(raw: T) -> Self {
        Self {
            raw,
            token: STREAM,
            ahead: Vec::new(),
            spill: VecDeque::new(),
            readable: true,
            ending: false,
            room: false,
            armed: false,
            write_error: None,
            read_error: None,
            received: 0,
            taken: 0,
            refused: 0,
        }
    }

    /// Bytes written, including those in the spill, and those that came too late.
    pub(crate) fn handed(&self) -> u64 {
        self.taken + self.spill.len() as u64 + self.refused
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken - self.raw.held() as u64
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// How many bytes wait for the system to take them.
    pub(crate) fn spilled(&self) -> usize {
        self.spill.len() + self.raw.held()
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.readable || !self.ahead.is_empty()
    }

    /// Whether the system would now take some of what waits to be written.
    pub(crate) fn has_room(&self) -> bool {
        self.room && self.spilled() > 0
    }

    /// Whether a write has failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.write_error.is_some()
    }

    /// Assumes that there may be something to read: only a read can tell.
    pub(crate) fn assume_readable(&mut self) {
        self.readable = true;
    }

    /// What the poller reports when something has arrived.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn edge(&mut self) {
        self.assume_readable();
    }

    /// What the poller reports when the peer has ended its stream.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn edge_of_end(&mut self) {
        self.readable = true;
        self.ending = true;
    }

    fn write_some(raw: &mut T, taken: &mut u64, bytes: &[u8]) -> io::Result<usize> {
        let offered = &bytes[..bytes.len().min(MOST_OFFERED)];
        loop {
            match raw.write(offered) {
                Ok(0) if !offered.is_empty() => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => {
                    *taken += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.write_error = Some(error);
        // What there is to read is read now. The error comes after it.
        self.readable = true;
    }

    /// Lets the system take as much of the spill as it will.
    fn drain(&mut self) {
        self.room = false;
        match self.raw.flush() {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                self.fail(error);
            }
            _ => {}
        }
        while self.write_error.is_none() && !self.spill.is_empty() {
            let (front, _) = self.spill.as_slices();
            match Self::write_some(&mut self.raw, &mut self.taken, front) {
                Ok(0) => return,
                Ok(n) => drop(self.spill.drain(..n)),
                Err(error) => self.fail(error),
            }
        }
        if self.spill.is_empty() && self.spill.capacity() > MOST_KEPT_SPILL {
            self.spill = VecDeque::new();
        }
    }

    /// Why reading is over, if it is.
    pub(super) fn read_error(&self) -> Option<io::Error> {
        let error = self.read_error.as_ref()?;
        Some(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), Arc::clone(error)),
        })
    }

    /// Remembers why reading is over. The next reader must not wait for the error.
    pub(super) fn fail_read(&mut self, error: io::Error) {
        self.read_error = Some(Arc::new(error));
        self.readable = true;
    }

    pub(super) fn half_close(&mut self) {
        // It fails only on a connection that is gone, which the next read reports.
        let _ = self.raw.half_close();
    }

    /// Copies what a read would return, without consuming it.
    pub(crate) fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read(buffer)?;
        self.ahead.splice(..0, buffer[..read].iter().copied());
        Ok(read)
    }

    /// Ends the connection on every layer.
    pub(super) fn hang_up(&mut self) -> io::Result<()> {
        self.raw.hang_up()
    }

    pub(super) fn note(&mut self, event: &Event) {
        self.raw.note(event);
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.ending |= event.is_read_closed() || event.is_error();
        self.room |= event.is_writable();
    }
}

impl<T: Raw + Source> Wire<T> {
    /// What is registered with a poller.
    pub(super) fn source(&mut self) -> &mut T {
        &mut self.raw
    }
}

impl<T: Raw> Drop for Wire<T> {
    fn drop(&mut self) {
        // It fails only on a connection that is gone, or was never established.
        let _ = self.raw.hang_up();
    }
}

impl Wire {
    /// Whether the stream is a socket of TCP, and none that the application supplies the code of.
    pub(super) fn is_tcp(&self) -> bool {
        self.raw.as_tcp().is_some()
    }

    /// Registers a connected stream. `number` distinguishes it from other streams under the same poller.
    pub(crate) fn register(&mut self, registry: &Registry, number: usize) -> io::Result<()> {
        self.armed = false;
        self.token = Token(number);
        registry.register(&mut self.raw, self.token, Interest::READABLE)
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.raw)
    }

    /// Registers it with another poller, which reports at once what there is. A failure ends the connection: nobody would wait for
    /// it.
    pub(crate) fn move_to(&mut self, from: &Registry, to: &Registry) {
        let moved = self.deregister(from).and_then(|()| self.register(to, self.token.0));
        if let Err(error) = moved {
            self.fail_read(error);
        }
    }

    /// Requests writability only while something waits to be written. Otherwise a wait would spin.
    pub(crate) fn arm(&mut self, registry: &Registry) -> io::Result<()> {
        let wanted = self.spilled() > 0 && self.write_error.is_none();
        if wanted != self.armed {
            let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            registry.reregister(&mut self.raw, self.token, interest)?;
            self.armed = wanted;
        }
        Ok(())
    }
}

impl<T: Raw> Read for Wire<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.ahead[..length]);
            self.ahead.drain(..length);
            return Ok(length);
        }
        if !self.readable {
            return Err(ErrorKind::WouldBlock.into());
        }
        loop {
            match self.raw.read(buffer) {
                // The system reports an error once, and the write has received it.
                Ok(0) if self.write_error.is_some() && !buffer.is_empty() => {
                    return Err(self.write_error.take().unwrap_or(ErrorKind::BrokenPipe.into()));
                }
                Ok(n) => {
                    // A short read has emptied the system's buffer, so another read would find nothing.
                    if n < buffer.len()
                        && n > 0
                        && !self.ending
                        && self.write_error.is_none()
                        && self.raw.is_emptied_by_short_reads()
                    {
                        self.readable = false;
                    }
                    self.received += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Err(self.write_error.take().unwrap_or(error));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl<T: Raw> Write for Wire<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while self.write_error.is_none() && self.spill.is_empty() && written < bytes.len() {
            match Self::write_some(&mut self.raw, &mut self.taken, &bytes[written..]) {
                Ok(0) => break,
                Ok(n) => written += n,
                Err(error) => self.fail(error),
            }
        }
        if self.write_error.is_some() {
            // Counted, or what is lost here would look as if the system had taken it.
            self.refused += (bytes.len() - written) as u64;
            return Ok(bytes.len());
        }
        self.spill.extend(&bytes[written..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
