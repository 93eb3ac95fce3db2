//! The stream under the WebSocket.

use std::io::{self, ErrorKind, Read, Write};

use crate::transport::stream::Stream;
use crate::transport::wire::{Raw, Wire};

/// The stream under the WebSocket: TCP, or TLS over it.
pub(crate) enum Link<T: Raw = Stream> {
    Plain(Wire<T>),
    Tls(Box<Tls<T>>),
}

/// TLS over a wire, by any library. What it reports with [`ErrorKind::WouldBlock`], it can't do before it has read.
pub(crate) trait Layer<T: Raw = Stream>: Read + Write + Send {
    fn wire(&self) -> &Wire<T>;

    fn wire_mut(&mut self) -> &mut Wire<T>;

    /// Tells the peer that nothing more will be written.
    fn shutdown(&mut self) -> io::Result<()>;
}

/// TLS that accepts whole writes. On its own it takes 16 KiB a call, and tungstenite moves the rest of its buffer to
/// the front after each call: 64 MiB took ten seconds.
pub(crate) struct Tls<T: Raw> {
    stream: Box<dyn Layer<T>>,
    /// What TLS could not accept because it had to read first, in a renegotiation. Nearly always empty.
    backlog: Vec<u8>,
}

impl<T: Raw> Link<T> {
    pub(crate) fn tls(stream: Box<dyn Layer<T>>) -> Self {
        Self::Tls(Box::new(Tls { stream, backlog: Vec::new() }))
    }

    pub(crate) fn wire(&self) -> &Wire<T> {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(tls) => tls.stream.wire(),
        }
    }

    pub(crate) fn wire_mut(&mut self) -> &mut Wire<T> {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(tls) => tls.stream.wire_mut(),
        }
    }

    /// Tells the peer, on every layer, that nothing more will be written.
    pub(crate) fn half_close(&mut self) {
        if let Self::Tls(tls) = self {
            // The alert is a courtesy; TCP's own end of stream follows.
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
        if let Some(error) = self.wire().read_error() {
            return Err(error);
        }
        let read = match self {
            Self::Plain(wire) => wire.read(buffer),
            Self::Tls(tls) => tls.stream.read(buffer),
        };
        match read {
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                let wire = self.wire_mut();
                wire.fail_read(error);
                wire.read_error().map_or(Ok(0), Err)
            }
            other => other,
        }
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
