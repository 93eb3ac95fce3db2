//! From a request to an open WebSocket: look-up, TCP, TLS, upgrade.

pub(crate) mod socket;
pub(crate) mod stream;
mod tap;
pub(crate) mod tls;

#[cfg(test)]
mod fake;
mod tcp;
mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::Registry;

use crate::config::ConnectionConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, Phase};
use crate::transport::socket::Socket;
use crate::transport::stream::{Link, Wire};

/// What an attempt asks for.
pub(crate) struct Request {
    pub(crate) endpoint: Endpoint,
    pub(crate) config: ConnectionConfig,
    /// In place of the system's resolver.
    pub(crate) resolver: Option<Arc<Resolver>>,
    /// The connector for this client's TLS set-up, once it has been built.
    pub(crate) tls: tls::Connector,
}

/// Looks a host name and a port up. May block.
pub(crate) type Resolver = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// What an attempt brought.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) address: SocketAddr,
    pub(crate) subprotocol: Option<Box<str>>,
}

/// The thread that makes an attempt: it waits, and can be told to stop waiting.
///
/// Every method fails once the attempt is abandoned; with what is of no matter, since nobody will see it.
pub(crate) trait Attempt {
    /// Names what comes next.
    fn enter(&mut self, phase: Phase) -> Result<(), Error>;

    /// Runs `call`, which nothing can interrupt; `what` names it to who asks where the thread is. Fails only before it.
    fn uninterruptible<R>(&mut self, what: &str, call: impl FnOnce() -> R) -> Result<R, Error>;

    /// The addresses of a host. May block.
    fn resolve(&mut self, request: &Request) -> Result<Vec<SocketAddr>, Error>;

    /// Waits until `wire` may go on, or `patience` ends: then `false`.
    fn wait(&mut self, wire: &mut Wire, patience: Option<Duration>) -> Result<bool, Error>;

    /// How much time the attempt has left.
    fn time_left(&self) -> Duration;

    fn registry(&self) -> &Registry;
}

pub(crate) fn connect(request: &Request, attempt: &mut impl Attempt) -> Result<Connection, Error> {
    attempt.enter(Phase::Resolve)?;
    let addresses = attempt.resolve(request)?;
    attempt.enter(Phase::Connect)?;
    let (wire, address) = tcp::connect(&request.endpoint, &addresses, attempt)?;
    let mut link = if request.endpoint.secure {
        attempt.enter(Phase::Tls)?;
        tls::handshake(wire, request, attempt)?
    } else {
        Link::Plain(wire)
    };
    attempt.enter(Phase::Upgrade)?;
    let upgraded = upgrade::upgrade(&mut link, request, attempt)?;
    let mut socket = Socket::new(link, upgraded.rest, &request.config);
    socket.deregister(attempt.registry()).map_err(|source| system("a socket's registration", source))?;
    Ok(Connection { socket, address, subprotocol: upgraded.subprotocol })
}

fn system(what: &'static str, source: io::Error) -> Error {
    Error::System { what, source: Arc::new(source) }
}
