//! A server that does not answer at all: its system drops new connections. Linux only, where the length of its queue is
//! exact.
#![allow(unreachable_pub, reason = "a module that several test crates include")]

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A server that accepts no more connections, because its queue is full.
pub struct Full {
    _listener: Socket,
    _queue: Vec<TcpStream>,
    pub address: SocketAddr,
}

impl Full {
    pub fn listen() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        let queue = std::iter::from_fn(connect).take(16).collect();
        Self { _listener: listener, _queue: queue, address }
    }
}
