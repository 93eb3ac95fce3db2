//! A non-blocking TCP stream to which every write succeeds, and what waits for it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use native_tls::TlsStream;

const WAKER: Token = Token(0);
const STREAM: Token = Token(1);

/// Waits for streams, mostly one, and for a wake-up from other threads, in one system call.
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

    /// Waits for readiness, a wake-up or the timeout, whichever is first, and tells `wire` what it is ready for.
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

    /// Tells another wire what the last wait said of it.
    pub(crate) fn tell(&self, wire: &mut Wire) {
        let token = wire.token;
        self.events.iter().filter(|event| event.token() == token).for_each(|event| wire.note(event));
    }
}

/// The raw stream under a [`Wire`].
pub(crate) trait Raw: Read + Write {
    /// Says that nothing more will be written.
    fn half_close(&mut self) -> io::Result<()>;

    /// Ends the connection, whoever else holds its descriptor.
    fn hang_up(&mut self) -> io::Result<()>;
}

impl Raw for TcpStream {
    fn half_close(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn hang_up(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Both)
    }
}

/// A stream whose writes always succeed: what the system does not take at once waits in the *spill*. So nothing above
/// ever has to repeat a write, and TLS and WebSocket only ever wait to read.
///
/// A write that fails is remembered, and shown only when there is nothing more to read: what the peer said before it
/// went, a close code above all, is not lost to a reset.
///
/// Dropping it ends the connection. To close the descriptor would not do: a process that was forked meanwhile holds
/// another one, and the peer would see no end while it lives.
pub(crate) struct Wire<T: Raw = TcpStream> {
    raw: T,
    /// What it is registered with.
    token: Token,
    spill: VecDeque<u8>,
    /// Whether a read may bring something; cleared only by a read that came back empty or short.
    readable: bool,
    /// The peer's end of stream has been seen coming; it may hide behind a short read.
    ending: bool,
    /// Whether the system has made room since a write last found none: like a read's, its word comes once.
    room: bool,
    /// Whether the stream is registered for writability.
    armed: bool,
    /// Until TCP stands, writability is what is waited for.
    connecting: bool,
    write_error: Option<io::Error>,
    /// Why reading is over. The system and TLS say it once, and then act as if the peer had ended the stream.
    read_error: Option<Arc<io::Error>>,
    /// Bytes that came from the system.
    received: u64,
    /// Bytes that the system took.
    taken: u64,
}

/// A spill of up to this size keeps its memory when it is empty.
const MOST_KEPT_SPILL: usize = 16 << 10;

impl<T: Raw> Wire<T> {
    pub(crate) fn new(raw: T) -> Self {
        Self {
            raw,
            token: STREAM,
            spill: VecDeque::new(),
            readable: true,
            ending: false,
            room: false,
            armed: false,
            connecting: false,
            write_error: None,
            read_error: None,
            received: 0,
            taken: 0,
        }
    }

    /// Bytes written, those in the spill included.
    pub(crate) fn handed(&self) -> u64 {
        self.taken + self.spill.len() as u64
    }

    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// How many bytes wait for the system to take them.
    pub(crate) fn spilled(&self) -> usize {
        self.spill.len()
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether some of what waits to be written would go out now.
    pub(crate) fn has_room(&self) -> bool {
        self.room && !self.spill.is_empty()
    }

    /// Whether a write has failed.
    pub(crate) fn is_broken(&self) -> bool {
        self.write_error.is_some()
    }

    /// Whether a read brings something is not known without one.
    pub(crate) fn assume_readable(&mut self) {
        self.readable = true;
    }

    /// What the poller says when something has arrived.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn edge(&mut self) {
        self.assume_readable();
    }

    /// What the poller says when the peer's end has come.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn edge_of_end(&mut self) {
        self.readable = true;
        self.ending = true;
    }

    fn write_some(raw: &mut T, taken: &mut u64, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match raw.write(bytes) {
                Ok(0) if !bytes.is_empty() => return Err(ErrorKind::WriteZero.into()),
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
        // Whatever is to be read is read now; after it comes the error.
        self.readable = true;
    }

    /// Lets the system take what it will of the spill.
    fn drain(&mut self) {
        self.room = false;
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

    fn read_error(&self) -> Option<io::Error> {
        let error = self.read_error.as_ref()?;
        Some(match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(error.kind(), Arc::clone(error)),
        })
    }

    fn half_close(&mut self) {
        // It fails only on a connection that is gone, which the next read tells.
        let _ = self.raw.half_close();
    }
}

impl<T: Raw> Drop for Wire<T> {
    fn drop(&mut self) {
        // It fails only on a connection that is gone, or never stood.
        let _ = self.raw.hang_up();
    }
}

impl Wire {
    /// Registers a stream that is being connected.
    pub(crate) fn register_connecting(&mut self, registry: &Registry) -> io::Result<()> {
        self.connecting = true;
        self.armed = true;
        registry.register(&mut self.raw, self.token, Interest::READABLE | Interest::WRITABLE)
    }

    /// TCP stands.
    pub(crate) fn connected(&mut self) {
        self.connecting = false;
    }

    /// `number` tells it from others under the same wait.
    pub(crate) fn register(&mut self, registry: &Registry, number: usize) -> io::Result<()> {
        self.armed = false;
        self.token = Token(number);
        registry.register(&mut self.raw, self.token, Interest::READABLE)
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut self.raw)
    }

    /// Asks for writability exactly while something waits to be written; otherwise a wait would spin.
    pub(crate) fn arm(&mut self, registry: &Registry) -> io::Result<()> {
        let wanted = self.connecting || (!self.spill.is_empty() && self.write_error.is_none());
        if wanted != self.armed {
            let interest = if wanted { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            registry.reregister(&mut self.raw, self.token, interest)?;
            self.armed = wanted;
        }
        Ok(())
    }

    fn note(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.ending |= event.is_read_closed() || event.is_error();
        self.room |= event.is_writable();
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.raw
    }

    /// The bytes that a read would bring, and leaves them to it.
    pub(crate) fn peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let peeked = self.raw.peek(buffer);
        if matches!(&peeked, Err(error) if error.kind() == ErrorKind::WouldBlock) {
            self.readable = false;
        }
        peeked
    }
}

impl<T: Raw> Read for Wire<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.readable {
            return Err(ErrorKind::WouldBlock.into());
        }
        loop {
            match self.raw.read(buffer) {
                // The system tells an error once, and the write has had it.
                Ok(0) if self.write_error.is_some() && !buffer.is_empty() => {
                    return Err(self.write_error.take().unwrap_or(ErrorKind::BrokenPipe.into()));
                }
                Ok(n) => {
                    // A short read has emptied the system's buffer, so the next one would be in vain; not on Windows.
                    if n < buffer.len()
                        && n > 0
                        && !self.ending
                        && self.write_error.is_none()
                        && !cfg!(windows)
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
        if self.write_error.is_some() {
            return Ok(bytes.len());
        }
        let mut written = 0;
        if self.spill.is_empty() {
            match Self::write_some(&mut self.raw, &mut self.taken, bytes) {
                Ok(n) => written = n,
                Err(error) => {
                    self.fail(error);
                    return Ok(bytes.len());
                }
            }
        }
        self.spill.extend(&bytes[written..]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain();
        Ok(())
    }
}

/// What the WebSocket speaks through: TCP, or TLS over it.
pub(crate) enum Link<T: Raw = TcpStream> {
    Plain(Wire<T>),
    Tls(Box<Tls<T>>),
}

/// TLS that takes whole writes. By itself it takes 16 KiB a call, and tungstenite moves the rest of its buffer to the
/// front after each: 64 MiB took ten seconds.
pub(crate) struct Tls<T: Raw> {
    stream: TlsStream<Wire<T>>,
    /// What TLS could not take because it had to read first, in a renegotiation. Nearly always empty.
    backlog: Vec<u8>,
}

impl<T: Raw> Link<T> {
    pub(crate) fn tls(stream: TlsStream<Wire<T>>) -> Self {
        Self::Tls(Box::new(Tls { stream, backlog: Vec::new() }))
    }

    pub(crate) fn wire(&self) -> &Wire<T> {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(tls) => tls.stream.get_ref(),
        }
    }

    pub(crate) fn wire_mut(&mut self) -> &mut Wire<T> {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(tls) => tls.stream.get_mut(),
        }
    }

    /// Says to the peer, on every layer, that nothing more will be written.
    pub(crate) fn half_close(&mut self) {
        if let Self::Tls(tls) = self {
            // The alert is a courtesy; TCP's own end follows.
            let _ = tls.stream.shutdown();
        }
        self.wire_mut().half_close();
    }
}

impl<T: Raw> Tls<T> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            match self.stream.write(&bytes[written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn push_backlog(&mut self) -> io::Result<()> {
        if !self.backlog.is_empty() {
            let backlog = std::mem::take(&mut self.backlog);
            let written = self.write_all(&backlog)?;
            self.backlog.extend(&backlog[written..]);
        }
        Ok(())
    }
}

impl<T: Raw> Read for Link<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.wire().read_error.is_none() {
            let read = match self {
                Self::Plain(wire) => wire.read(buffer),
                Self::Tls(tls) => tls.stream.read(buffer),
            };
            match read {
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    let wire = self.wire_mut();
                    wire.read_error = Some(Arc::new(error));
                    // Whoever reads next is not to wait for it.
                    wire.readable = true;
                }
                other => return other,
            }
        }
        self.wire().read_error().map_or(Ok(0), Err)
    }
}

impl<T: Raw> Write for Link<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(wire) => wire.write(bytes),
            Self::Tls(tls) => {
                tls.push_backlog()?;
                let written = if tls.backlog.is_empty() { tls.write_all(bytes)? } else { 0 };
                tls.backlog.extend(&bytes[written..]);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(wire) => wire.flush(),
            Self::Tls(tls) => {
                tls.push_backlog()?;
                tls.stream.flush()
            }
        }
    }
}

#[cfg(test)]
mod tests;
