//! A stream inside TLS with a proxy.

use std::io::{self, ErrorKind, Read, Write};

use mio::event::{Event, Source};
use mio::{Interest, Registry, Token};

use crate::transport::carrier::Stream;
use crate::transport::link::Link;
use crate::transport::stream::Raw;

/// A link to a proxy, as the raw stream of what goes through it.
pub(crate) struct Tunnel {
    link: Link<Stream>,
    /// How many bytes of the last write wait in the link.
    held: usize,
}

/// How many bytes a write takes, so that the link never holds more.
const AT_ONCE: usize = 64 << 10;

impl Tunnel {
    pub(crate) fn new(link: Link<Stream>) -> Self {
        Self { link, held: 0 }
    }
}

impl Read for Tunnel {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.link.read(buffer)
    }
}

impl Write for Tunnel {
    /// Takes bytes only while the link holds none, so that it is known when the system has taken them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        if self.held > 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.held = self.link.write(&bytes[..bytes.len().min(AT_ONCE)])?;
        let written = self.held;
        self.flush()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.link.flush()?;
        if self.link.wire().is_broken() {
            // A read of the link returns the reason.
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.link.wire().spilled() == 0 {
            self.held = 0;
        }
        Ok(())
    }
}

impl Raw for Tunnel {
    fn half_close(&mut self) -> io::Result<()> {
        self.link.half_close();
        Ok(())
    }

    fn hang_up(&mut self) -> io::Result<()> {
        self.link.wire_mut().hang_up()
    }

    fn make_nonblocking(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_emptied_by_short_reads(&self) -> bool {
        // TLS returns a record a read.
        false
    }

    fn held(&self) -> usize {
        self.held
    }

    fn note(&mut self, event: &Event) {
        self.link.wire_mut().note(event);
    }
}

impl Source for Tunnel {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.link.wire_mut().source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.link.wire_mut().source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.link.wire_mut().source().deregister(registry)
    }
}
