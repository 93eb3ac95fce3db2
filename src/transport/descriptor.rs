//! A stream of the application's that has a descriptor: only on Unix.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::logging::LOG;
use crate::panics::caught;
use crate::transport::stream::Watch;
use crate::transport::wire::Raw;

/// Something of the application's that has a descriptor. What it does wrong breaks its connection, and nothing else.
pub(super) struct Descriptor<S> {
    /// It is there until it is dropped.
    stream: Option<S>,
    watch: Option<Arc<dyn Watch>>,
}

impl<S> Descriptor<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream: Some(stream), watch: None }
    }

    fn call<R>(&mut self, call: impl FnOnce(&mut S) -> io::Result<R>) -> io::Result<R> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        // An end that did not wait has left it behind.
        let mut result = Err(ErrorKind::NotConnected.into());
        let mut call = Some(call);
        during(self.watch.as_deref(), &mut |may| {
            if let Some(call) = call.take().filter(|_| may) {
                result = caught(|| call(stream))
                    .unwrap_or_else(|| Err(io::Error::other("the stream of the connector panicked")));
            }
        });
        result
    }
}

fn during(watch: Option<&dyn Watch>, call: &mut dyn FnMut(bool)) {
    match watch {
        Some(watch) => watch.during(call),
        None => call(true),
    }
}

/// A count that a stream has returned, which must not be more than this.
fn counted(count: usize, most: usize) -> io::Result<usize> {
    let wrong = || format!("the stream of the connector returned {count}, where {most} is the most");
    if count <= most { Ok(count) } else { Err(io::Error::new(ErrorKind::InvalidData, wrong())) }
}

impl<S> Drop for Descriptor<S> {
    fn drop(&mut self) {
        let stream = &mut self.stream;
        during(self.watch.as_deref(), &mut |_| {
            let stream = stream.take();
            if caught(|| drop(stream)).is_none() {
                log::warn!(target: LOG, "the drop of the connector's stream panicked");
            }
        });
    }
}

impl<S: Read> Read for Descriptor<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len();
        self.call(|stream| counted(stream.read(buffer)?, most))
    }
}

impl<S: Write> Write for Descriptor<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.call(|stream| counted(stream.write(bytes)?, bytes.len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.call(Write::flush)
    }
}

impl<S: Read + Write + AsFd> Raw for Descriptor<S> {
    // Only a socket can be shut down. What is no socket ends when it is dropped.
    fn half_close(&mut self) -> io::Result<()> {
        self.call(|stream| socket2::SockRef::from(&*stream).shutdown(Shutdown::Write))
    }

    fn hang_up(&mut self) -> io::Result<()> {
        self.call(|stream| socket2::SockRef::from(&*stream).shutdown(Shutdown::Both))
    }

    fn make_nonblocking(&mut self) -> io::Result<()> {
        // The call is one for descriptors of every kind.
        self.call(|stream| socket2::SockRef::from(&*stream).set_nonblocking(true))
    }

    fn is_emptied_by_short_reads(&self) -> bool {
        // A terminal returns a line a read, and a process in between may return what it likes.
        false
    }

    fn watch(&mut self, watch: Arc<dyn Watch>) {
        self.watch = Some(watch);
    }
}

impl<S: AsFd> Source for Descriptor<S> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.call(|stream| SourceFd(&stream.as_fd().as_raw_fd()).register(registry, token, interests))
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.call(|stream| SourceFd(&stream.as_fd().as_raw_fd()).reregister(registry, token, interests))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.call(|stream| SourceFd(&stream.as_fd().as_raw_fd()).deregister(registry))
    }
}
