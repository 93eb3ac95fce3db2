//! What carries the bytes of a connection: TCP, or a stream that the application supplies.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
#[cfg(unix)]
use std::os::fd::AsFd;
use std::sync::Arc;

use mio::event::{Event, Source};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

#[cfg(unix)]
use crate::transport::descriptor::Descriptor;
use crate::transport::wire::Raw;

/// A byte stream to a server, which a [`connector`](crate::Builder::connector) supplies.
///
/// It is made from a [`std::net::TcpStream`] or, on Unix, from a Unix socket or from anything else that has a descriptor: a
/// terminal device, a process behind a socket pair. The client makes it non-blocking, waits for its descriptor, and drops it
/// when the connection ends. `Stream::new`, on Unix, says what is promised if it blocks all the same.
///
/// ```
/// use tautline::Stream;
///
/// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = server.local_addr()?;
/// let stream = Stream::from(std::net::TcpStream::connect(address)?);
/// # drop(stream);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Stream(Kind);

enum Kind {
    Tcp(TcpStream),
    Other(Box<dyn Carrier>),
}

/// A raw stream of another kind, with what the poller can wait for.
pub(crate) trait Carrier: Raw + Source + Send {}

impl<T: Raw + Source + Send> Carrier for T {}

/// Knows when the code of a stream of the application's runs, so that an end that can't wait for it can name it.
pub(crate) trait Watch: Send + Sync {
    /// Runs `call`, which gets whether the application's code may be called. Its drop always may.
    #[cfg_attr(not(unix), allow(dead_code, reason = "only on Unix does the application bring code"))]
    fn during(&self, call: &mut dyn FnMut(bool));
}

impl Stream {
    /// Makes a stream of anything with a descriptor.
    ///
    /// A read and a write must use that descriptor and, once it is non-blocking, return
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) where they would wait. The system must be able to wait for it, which it is
    /// for sockets, terminals and pipes, and is not for files. When the connection ends, it is shut down, if it is a socket,
    /// and `stream` is dropped. If it panics, or returns a count that can't be, the connection breaks, and the client
    /// proceeds as after any loss.
    ///
    /// It is called on the dial thread until the connection is open, and then on the I/O thread. On neither may a read, a
    /// write or its drop block; what takes long belongs into the connector, which may, or on a thread of its own. While a
    /// call blocks on the I/O thread, nothing is sent or received, and no heartbeat or timeout is noticed. While one blocks on
    /// the dial thread, the attempt still ends by its timeout, and the next one waits until the call returns. A call that ends
    /// the client keeps its bound, which becomes one second longer: then the thread is left behind, and
    /// [`Undelivered::still_inside`](crate::Undelivered::still_inside) names it.
    ///
    /// ```
    /// use std::io::{self, Read, Write};
    /// use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    /// use std::os::unix::net::UnixStream;
    /// use std::process::{Child, Command};
    /// use tautline::{Client, Stream};
    ///
    /// /// A connection through a process that passes on its standard input and output.
    /// struct Tunnel {
    ///     stream: UnixStream,
    ///     process: Child,
    /// }
    ///
    /// impl Tunnel {
    ///     fn open(host: &str, port: u16) -> io::Result<Self> {
    ///         let (stream, theirs) = UnixStream::pair()?;
    ///         let process = Command::new("ssh")
    ///             .args(["-W", &format!("{host}:{port}"), "gateway.example"])
    ///             .stdin(OwnedFd::from(theirs.try_clone()?))
    ///             .stdout(OwnedFd::from(theirs))
    ///             .spawn()?;
    ///         Ok(Self { stream, process })
    ///     }
    /// }
    ///
    /// impl Drop for Tunnel {
    ///     fn drop(&mut self) {
    ///         let _ = self.process.kill();
    ///         let _ = self.process.wait();
    ///     }
    /// }
    ///
    /// impl AsFd for Tunnel {
    ///     fn as_fd(&self) -> BorrowedFd<'_> {
    ///         self.stream.as_fd()
    ///     }
    /// }
    ///
    /// impl Read for Tunnel {
    ///     fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
    ///         self.stream.read(buffer)
    ///     }
    /// }
    ///
    /// impl Write for Tunnel {
    ///     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
    ///         self.stream.write(bytes)
    ///     }
    ///
    ///     fn flush(&mut self) -> io::Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let builder = Client::builder("ws://device.internal/feed")
    ///     .connector(|to| Tunnel::open(to.host, to.port).map(Stream::new));
    /// # drop(builder);
    /// ```
    #[cfg(unix)]
    pub fn new(stream: impl Read + Write + AsFd + Send + 'static) -> Self {
        Self(Kind::Other(Box::new(Descriptor::new(stream))))
    }

    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self(Kind::Tcp(stream))
    }

    /// A stream inside another one.
    pub(crate) fn inside(carrier: impl Carrier + 'static) -> Self {
        Self(Kind::Other(Box::new(carrier)))
    }

    /// Has the calls of the application's code watched, if it is a stream of the application's.
    pub(crate) fn watched(mut self, watch: Arc<dyn Watch>) -> Self {
        self.watch(watch);
        self
    }

    /// The stream, if it is one of TCP.
    pub(crate) fn as_tcp(&self) -> Option<&TcpStream> {
        match &self.0 {
            Kind::Tcp(tcp) => Some(tcp),
            Kind::Other(_) => None,
        }
    }

    fn raw_mut(&mut self) -> &mut dyn Carrier {
        match &mut self.0 {
            Kind::Tcp(tcp) => tcp,
            Kind::Other(other) => &mut **other,
        }
    }
}

impl From<std::net::TcpStream> for Stream {
    fn from(stream: std::net::TcpStream) -> Self {
        Self::tcp(TcpStream::from_std(stream))
    }
}

/// On Unix.
#[cfg(unix)]
impl From<std::os::unix::net::UnixStream> for Stream {
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self::new(stream)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(tcp) => f.debug_tuple("Stream").field(tcp).finish(),
            Kind::Other(_) => f.debug_struct("Stream").finish_non_exhaustive(),
        }
    }
}

// TCP, the common case, is named here, so that its calls need no table.
impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Tcp(tcp) => tcp.read(buffer),
            Kind::Other(other) => other.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Tcp(tcp) => tcp.write(bytes),
            Kind::Other(other) => other.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Tcp(_) => Ok(()),
            Kind::Other(other) => other.flush(),
        }
    }
}

impl Raw for Stream {
    fn half_close(&mut self) -> io::Result<()> {
        self.raw_mut().half_close()
    }

    fn hang_up(&mut self) -> io::Result<()> {
        self.raw_mut().hang_up()
    }

    fn make_nonblocking(&mut self) -> io::Result<()> {
        self.raw_mut().make_nonblocking()
    }

    fn is_emptied_by_short_reads(&self) -> bool {
        match &self.0 {
            Kind::Tcp(tcp) => tcp.is_emptied_by_short_reads(),
            Kind::Other(other) => other.is_emptied_by_short_reads(),
        }
    }

    fn held(&self) -> usize {
        match &self.0 {
            Kind::Tcp(_) => 0,
            Kind::Other(other) => other.held(),
        }
    }

    fn note(&mut self, event: &Event) {
        self.raw_mut().note(event);
    }

    fn watch(&mut self, watch: Arc<dyn Watch>) {
        self.raw_mut().watch(watch);
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.raw_mut().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.raw_mut().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.raw_mut().deregister(registry)
    }
}

impl Raw for TcpStream {
    fn half_close(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }

    fn hang_up(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Both)
    }

    fn make_nonblocking(&mut self) -> io::Result<()> {
        socket2::SockRef::from(&*self).set_nonblocking(true)
    }

    fn is_emptied_by_short_reads(&self) -> bool {
        // On Windows the poller reports nothing more before a read has found nothing.
        !cfg!(windows)
    }
}
