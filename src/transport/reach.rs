//! A byte stream to the host that an attempt begins with.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::endpoint::Endpoint;
use crate::error::{Error, Phase};
use crate::transport::stream::Stream;
use crate::transport::wire::{Raw, Wire};
use crate::transport::{Attempt, Settings, tcp};

/// Where a [`connector`](crate::Builder::connector) is to connect to.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Destination<'a> {
    /// A host name or an address. An IPv6 address has no brackets. With a [proxy](crate::Proxy), the host is the proxy's.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// When the attempt times out: see [`connect_timeout`](crate::ConnectionConfig::connect_timeout).
    pub deadline: Instant,
}

/// Supplies the stream of an attempt. May block.
pub(crate) type Supply = Box<dyn Fn(&Destination<'_>) -> io::Result<Stream> + Send + Sync>;

/// Connects to the host of an endpoint: by its Unix socket, by the application's connector, or by TCP. Returns the address
/// too, if there is one. A timeout says that the attempt goes `whither`.
pub(crate) fn reach(
    endpoint: &Endpoint,
    whither: &dyn fmt::Display,
    settings: &Settings,
    attempt: &mut impl Attempt,
) -> Result<(Wire, Option<SocketAddr>), Error> {
    if let Some(path) = &endpoint.path {
        attempt.enter(Phase::Connect, Some(whither))?;
        return Ok((socket_of_path(path, endpoint, attempt)?, None));
    }
    if let Some(supply) = &settings.supply {
        attempt.enter(Phase::Connect, Some(whither))?;
        return Ok((supplied(supply, endpoint, attempt)?, None));
    }
    let addresses = if let Some(address) = endpoint.address() {
        vec![address]
    } else {
        attempt.enter(Phase::Resolve, Some(whither))?;
        attempt.resolve(endpoint, settings)?
    };
    attempt.enter(Phase::Connect, Some(whither))?;
    let (wire, address) = tcp::connect(endpoint, &addresses, settings, attempt)?;
    // Until somebody has answered there: what follows may fail as well.
    settings.failed.add(attempt.now(), address);
    Ok((wire, Some(address)))
}

fn supplied(supply: &Supply, endpoint: &Endpoint, attempt: &mut impl Attempt) -> Result<Wire, Error> {
    let host = endpoint.name();
    let deadline = crate::config::deadline(attempt.now(), attempt.time_left());
    let destination = Destination { host: &host, port: endpoint.port, deadline };
    let stream = attempt.uninterruptible("the application's connector", || supply(&destination))?;
    let mut stream = stream
        .map_err(|source| failed(endpoint, tcp::explained("the application's connector failed", source)))?;
    let unusable = |source| failed(endpoint, tcp::explained(UNUSABLE, source));
    stream.make_nonblocking().map_err(unusable)?;
    if let Some(tcp) = stream.as_tcp() {
        tcp::keep_short(&socket2::SockRef::from(tcp));
    }
    registered(stream, attempt).map_err(unusable)
}

const UNUSABLE: &str = "the system can't wait for the stream of the application's connector";

/// How long to wait before another try at a Unix socket whose server has no room for one more connection.
#[cfg(unix)]
const BETWEEN_TRIES: std::time::Duration = std::time::Duration::from_millis(10);

#[cfg(unix)]
fn socket_of_path(path: &str, endpoint: &Endpoint, attempt: &mut impl Attempt) -> Result<Wire, Error> {
    loop {
        match mio::net::UnixStream::connect(path) {
            Ok(stream) => {
                let wire = registered(Stream::new(stream), attempt);
                return wire.map_err(|source| failed(endpoint, source));
            }
            // No poller reports when there is room.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                attempt.wait_any(Some(BETWEEN_TRIES))?;
            }
            Err(source) => return Err(failed(endpoint, source)),
        }
    }
}

#[cfg(not(unix))]
fn socket_of_path(_: &str, endpoint: &Endpoint, _: &mut impl Attempt) -> Result<Wire, Error> {
    Err(failed(endpoint, io::ErrorKind::Unsupported.into()))
}

fn registered(stream: Stream, attempt: &mut impl Attempt) -> io::Result<Wire> {
    let mut wire = Wire::new(stream);
    wire.register(attempt.registry(), tcp::WIRE)?;
    Ok(wire)
}

fn failed(endpoint: &Endpoint, source: io::Error) -> Error {
    Error::Connect { host: endpoint.to_string().into(), source: Arc::new(source) }
}
