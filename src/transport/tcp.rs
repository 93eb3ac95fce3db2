//! A TCP connection to the address that answers first.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::config::NetworkConfig;
use crate::endpoint::Endpoint;
use crate::error::{AddressErrors, Error};
use crate::logging::LOG;
use crate::transport::addresses::{Sorted, sort};
use crate::transport::race::{Race, Step, delay};
use crate::transport::stream::Stream;
use crate::transport::wire::Wire;
use crate::transport::{Attempt, Settings, system};

/// How many unsent bytes the system may hold.
const UNSENT: u32 = 128 << 10;

/// The token of the wire that comes of the race. The waker has 0, and those in the race have what follows.
pub(super) const WIRE: usize = 1;

/// Races the addresses: see [`Race`]. One that fails, or that a later one overtakes, goes last in the next attempts.
pub(crate) fn connect(
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    settings: &Settings,
    attempt: &mut impl Attempt,
) -> Result<(Wire, SocketAddr), Error> {
    let (network, failed) = (&settings.config.network, &settings.failed);
    let Sorted { order, left_out } = sort(addresses, network, &failed.recent(attempt.now()));
    let delay = delay(network.attempt_delay, attempt.time_left(), order.len());
    let mut race = Race::new(order, delay);
    // However it ends, the others are closed with this list.
    let mut racers = Vec::new();
    let end = run(&mut race, &mut racers, network, attempt);
    let winner = end.as_ref().ok().and_then(Option::as_ref).map(|winner| winner.address);
    // Those that began after the winner have done nothing wrong.
    let slow = race.running().take_while(|address| Some(*address) != winner);
    let now = attempt.now();
    race.failures()
        .iter()
        .map(|(address, _)| *address)
        .chain(slow)
        .for_each(|address| failed.add(now, address));
    if let Ok(Some(winner)) = end {
        return winner.into_wire(attempt.registry());
    }
    let failures: Vec<_> = left_out.into_iter().chain(race.into_failures(now)).collect();
    let several = failures.len() > 1;
    let source = AddressErrors::join(failures);
    match end {
        Err(abandoned) => {
            if several {
                attempt.leave_unreached(source);
            }
            Err(abandoned)
        }
        Ok(_) => Err(Error::Connect { host: endpoint.to_string().into(), source: Arc::new(source) }),
    }
}

/// Returns the first that has connected, or `None` if all have failed.
fn run(
    race: &mut Race,
    racers: &mut Vec<Racer>,
    network: &NetworkConfig,
    attempt: &mut impl Attempt,
) -> Result<Option<Racer>, Error> {
    let mut token = WIRE;
    loop {
        let now = attempt.now();
        match race.poll(now) {
            Step::Begin(address) => {
                token += 1;
                match Racer::begin(address, network, attempt.registry(), Token(token)) {
                    Ok(racer) => racers.push(racer),
                    Err(error) => race.handle_failure(address, error),
                }
            }
            Step::GiveUp(address) => racers.retain(|racer| racer.address != address),
            Step::Wait(until) => {
                attempt.wait_any(until.map(|until| until.saturating_duration_since(now)))?;
                if let Some(winner) = look(race, racers) {
                    return Ok(Some(winner));
                }
            }
            Step::End => return Ok(None),
        }
    }
}

/// Looks at each that is under way, and returns the first that has connected.
fn look(race: &mut Race, racers: &mut Vec<Racer>) -> Option<Racer> {
    let mut at = 0;
    while let Some(racer) = racers.get(at) {
        match racer.is_connected() {
            Ok(true) => return Some(racers.remove(at)),
            Ok(false) => at += 1,
            Err(error) => race.handle_failure(racers.remove(at).address, error),
        }
    }
    None
}

/// A connection under way. Dropping it ends it, even if a process that was forked meanwhile holds its descriptor.
struct Racer {
    address: SocketAddr,
    /// It is there until it becomes a wire.
    tcp: Option<TcpStream>,
}

impl Racer {
    fn begin(
        address: SocketAddr,
        network: &NetworkConfig,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        prepare(&socket, network)?;
        if let Some(local) = network.local_address {
            let words = "must be an address of this machine";
            socket.bind(&from(local, address).into()).map_err(refused("local_address", &local, words))?;
        }
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(error) if !is_under_way(&error) => return Err(error),
            _ => {}
        }
        let mut tcp = TcpStream::from_std(socket.into());
        registry.register(&mut tcp, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { address, tcp: Some(tcp) })
    }

    fn is_connected(&self) -> io::Result<bool> {
        let Some(tcp) = &self.tcp else { return Ok(false) };
        if let Some(error) = tcp.take_error()? {
            return Err(error);
        }
        match tcp.peer_addr() {
            Ok(_) => Ok(true),
            // Systems say it in one of two ways, by mio's documentation.
            Err(error) if error.kind() == io::ErrorKind::NotConnected || is_under_way(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn into_wire(mut self, registry: &Registry) -> Result<(Wire, SocketAddr), Error> {
        let registration = |source| system("a socket's registration", source);
        let gone = || registration(io::ErrorKind::NotConnected.into());
        let mut tcp = self.tcp.take().ok_or_else(gone)?;
        registry.deregister(&mut tcp).map_err(registration)?;
        let mut wire = Wire::new(Stream::tcp(tcp));
        wire.register(registry, WIRE).map_err(registration)?;
        Ok((wire, self.address))
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        if let Some(tcp) = &self.tcp {
            // It fails only on a connection that was never established.
            let _ = tcp.shutdown(Shutdown::Both);
        }
    }
}

/// Sets a socket before it connects: only then does a buffer's size count for all of the connection.
fn prepare(socket: &Socket, network: &NetworkConfig) -> io::Result<()> {
    // By default messages, which are small, do not wait for the acknowledgement of those before them.
    socket.set_tcp_nodelay(network.nodelay)?;
    keep_short(socket);
    let words = "can't be set on this system";
    if let Some(size) = network.send_buffer {
        socket.set_send_buffer_size(size).map_err(refused("send_buffer", &size, words))?;
    }
    if let Some(size) = network.receive_buffer {
        socket.set_recv_buffer_size(size).map_err(refused("receive_buffer", &size, words))?;
    }
    if let Some(time) = network.keepalive {
        let keepalive = TcpKeepalive::new().with_time(time);
        // Without one, socket2 asks for no time at all between two probes there. This is the default of Windows.
        #[cfg(windows)]
        let keepalive = keepalive.with_interval(std::time::Duration::from_secs(1));
        let shown = format!("{time:?}");
        socket.set_tcp_keepalive(&keepalive).map_err(refused("keepalive", &shown, words))?;
    }
    Ok(())
}

/// Limits how much unsent data the system holds, because a ping would wait behind it. By default that is megabytes: on
/// a line of 256 KiB/s a ping took 14.7 s; with this limit it takes 0.4 s.
pub(super) fn keep_short(socket: &Socket) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let set = socket.set_tcp_notsent_lowat(UNSENT);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let set = socket.set_send_buffer_size(UNSENT as usize);
    if let Err(error) = set {
        log::debug!(target: LOG, "the system's send buffer keeps its size: {error}");
    }
}

/// Where a connection to this address begins. The address of one link has a meaning there only.
fn from(local: IpAddr, to: SocketAddr) -> SocketAddr {
    match (local, to) {
        (IpAddr::V6(local), SocketAddr::V6(to)) => SocketAddrV6::new(local, 0, 0, to.scope_id()).into(),
        _ => (local, 0).into(),
    }
}

/// Whether a connection that does not block goes on.
fn is_under_way(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(libc::EINPROGRESS);
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::WouldBlock;
}

/// The system's error, with what it is about in front of it.
#[derive(Debug)]
struct Explained {
    what: String,
    source: io::Error,
}

/// A setting of the network that the system refuses.
fn refused(setting: &str, value: &impl fmt::Display, words: &str) -> impl FnOnce(io::Error) -> io::Error {
    let what = format!("network.{setting} ({value}) {words}");
    move |source| explained(what, source)
}

pub(super) fn explained(what: impl Into<String>, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), Explained { what: what.into(), source })
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl StdError for Explained {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn prepared(network: &NetworkConfig) -> Socket {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        prepare(&socket, network).unwrap();
        socket
    }

    #[test]
    fn a_socket_has_the_options_of_the_network() {
        let defaults = prepared(&NetworkConfig::default());
        assert!(defaults.tcp_nodelay().unwrap() && !defaults.keepalive().unwrap());
        let network = NetworkConfig::default()
            .nodelay(false)
            .keepalive(Duration::from_secs(77))
            .send_buffer(40_000)
            .receive_buffer(50_000);
        let set = prepared(&network);
        assert!(!set.tcp_nodelay().unwrap() && set.keepalive().unwrap());
        // Linux doubles what it is asked for.
        let size = |asked: usize| [asked, 2 * asked];
        assert!(size(40_000).contains(&set.send_buffer_size().unwrap()));
        assert!(size(50_000).contains(&set.recv_buffer_size().unwrap()));
        #[cfg(target_os = "linux")]
        assert_eq!(set.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
    }

    #[test]
    fn a_setting_that_the_system_refuses_is_named_and_its_error_is_behind_it() {
        let error =
            refused("keepalive", &"77s", "can't be set on this system")(io::Error::from_raw_os_error(22));
        assert!(
            error.to_string().starts_with("network.keepalive (77s) can't be set on this system: "),
            "{error}"
        );
        let behind = error.get_ref().and_then(StdError::source).unwrap();
        assert_eq!(behind.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error), Some(22));
    }
}
