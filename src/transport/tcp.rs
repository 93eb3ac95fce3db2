//! A TCP connection to the first address that accepts one.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::transport::stream::Wire;
use crate::transport::{Attempt, system};

/// How many unsent bytes the system may hold.
const UNSENT: u32 = 128 << 10;

/// Tries the addresses in turn. Each gets an equal share of the time that is left, so that an address that never
/// answers does not use up the time of those after it.
pub(crate) fn connect(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    attempt: &mut impl Attempt,
) -> Result<(Wire, SocketAddr), Error> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "no address was tried");
    for (at, address) in addresses.iter().enumerate() {
        let others = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        match connect_one(*address, others, attempt)? {
            Ok(wire) => return Ok((wire, *address)),
            Err(error) => {
                log::debug!("{address} did not take the connection: {error}");
                last = error;
            }
        }
    }
    Err(Error::Connect { host: endpoint.to_string().into(), source: Arc::new(last) })
}

fn connect_one(
    address: SocketAddr,
    share: u32,
    attempt: &mut impl Attempt,
) -> Result<Result<Wire, io::Error>, Error> {
    let tcp = match TcpStream::connect(address) {
        Ok(tcp) => tcp,
        Err(error) => return Ok(Err(error)),
    };
    let mut wire = Wire::new(tcp);
    wire.register_connecting(attempt.registry())
        .map_err(|source| system("a socket's registration", source))?;
    // The last address may use all the time that is left: the I/O thread ends the attempt at its deadline.
    let patience = (share > 1).then(|| attempt.time_left() / share);
    loop {
        if !attempt.wait(&mut wire, patience)? {
            return Ok(Err(io::ErrorKind::TimedOut.into()));
        }
        match state(wire.tcp()) {
            Ok(true) => break,
            Ok(false) => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    wire.connected();
    // Messages are small, and must not wait for the acknowledgement of those before them (Nagle's algorithm).
    if let Err(error) = wire.tcp().set_nodelay(true) {
        return Ok(Err(error));
    }
    keep_short(wire.tcp());
    Ok(Ok(wire))
}

/// Limits how much unsent data the system holds, because a ping would wait behind it. By default that is megabytes: on
/// a line of 256 KiB/s a ping took 14.7 s; with this limit it takes 0.4 s.
fn keep_short(tcp: &TcpStream) {
    let socket = socket2::SockRef::from(tcp);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let set = socket.set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let set = socket.set_send_buffer_size(UNSENT as usize);
    if let Err(error) = set {
        log::debug!("the system's send buffer keeps its size: {error}");
    }
}

/// Whether the connection is established.
fn state(tcp: &TcpStream) -> io::Result<bool> {
    if let Some(error) = tcp.take_error()? {
        return Err(error);
    }
    match tcp.peer_addr() {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}
