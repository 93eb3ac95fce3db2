//! A port of the loopback interface that stays the server's own while nobody listens on it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::system::facts::ENDED_CONNECTIONS_KEEP_PORTS;
use crate::system::threads;

pub(super) struct Port {
    address: SocketAddr,
    acceptor: Option<Acceptor>,
    /// Holds the port while nobody listens, so that no other server gets it.
    reserved: Option<Socket>,
}

/// The thread that accepts connections.
struct Acceptor {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 128;

/// How long to wait for the connection that wakes the acceptor.
const WAKE: Duration = Duration::from_secs(5);

/// How long the acceptor waits after the system has refused it a connection.
const PAUSE: Duration = Duration::from_millis(10);

impl Port {
    /// Listens on a free port, and calls `serve` for each connection.
    pub(super) fn open(serve: impl Fn(TcpStream) + Send + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        Ok(Self { address, acceptor: Some(Acceptor::start(listener, serve)?), reserved: None })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, and keeps the port.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let Some(acceptor) = self.acceptor.take() else { return Ok(()) };
        acceptor.stop(self.address)?;
        self.reserved = Some(reserve(self.address)?);
        Ok(())
    }

    /// Listens again.
    pub(super) fn reopen(&mut self, serve: impl Fn(TcpStream) + Send + 'static) -> io::Result<()> {
        if self.acceptor.is_some() {
            return Ok(());
        }
        let socket = self.reserved.take().map_or_else(|| reserve(self.address), Ok)?;
        socket.listen(BACKLOG)?;
        self.acceptor = Some(Acceptor::start(socket.into(), serve)?);
        Ok(())
    }
}

fn reserve(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if ENDED_CONNECTIONS_KEEP_PORTS {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

impl Acceptor {
    fn start(listener: TcpListener, serve: impl Fn(TcpStream) + Send + 'static) -> io::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let thread = threads::spawn(Builder::new().name("tautline-loopback".into()), move || {
            loop {
                let accepted = listener.accept();
                if stop.load(SeqCst) {
                    return;
                }
                match accepted {
                    Ok((stream, _)) => serve(stream),
                    Err(_) => thread::park_timeout(PAUSE),
                }
            }
        })?;
        Ok(Self { stopped, thread })
    }

    /// Ends the thread, and with it the listener.
    fn stop(self, address: SocketAddr) -> io::Result<()> {
        self.stopped.store(true, SeqCst);
        // A connection wakes the thread. Without one it would have to be left behind.
        TcpStream::connect_timeout(&address, WAKE)?;
        self.thread.join().map_err(|_| io::Error::other("the acceptor has panicked"))
    }
}
