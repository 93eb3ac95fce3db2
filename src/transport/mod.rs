//! From a request to an open WebSocket: name look-up, TCP, proxy, TLS, upgrade.

pub(crate) mod answer;
pub(crate) mod link;
#[cfg(any(test, fuzzing, feature = "testing"))]
pub(crate) mod pipe;
pub(crate) mod socket;
#[cfg_attr(
    not(any(feature = "native-tls", feature = "rustls")),
    allow(
        dead_code,
        unused_variables,
        clippy::needless_pass_by_value,
        reason = "without a backend, no handshake begins"
    )
)]
pub(crate) mod tls;
pub(crate) mod wire;

pub(crate) mod addresses;
mod body;
mod deflate;
#[cfg(unix)]
mod descriptor;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod frame;
mod frame_scanner;
pub(crate) mod head;
mod inflating;
mod input;
pub(crate) mod proxy;
mod race;
pub(crate) mod reach;
mod redirect;
mod scanned;
pub(crate) mod stream;
mod tcp;
mod tunnel;
pub(crate) mod upgrade;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Registry;

use crate::config::proxy::Ways;
use crate::config::{ConnectionConfig, TlsConfig};
use crate::endpoint::Endpoint;
use crate::error::{Error, Phase, Rejection};
use crate::handshake::{Handshake, ResponseHeaders, Timings};
use crate::logging::LOG;
use crate::protocol::UpgradeRequest;
use crate::secrets::Secrets;
use crate::transport::addresses::Failed;
use crate::transport::link::Link;
pub(crate) use crate::transport::reach::Supply;
use crate::transport::reach::reach;
use crate::transport::socket::Socket;
use crate::transport::stream::Stream;
use crate::transport::tls::Peer;
use crate::transport::upgrade::Upgraded;
use crate::transport::wire::{Raw, Wire};

/// What all attempts of one client share.
pub(crate) struct Settings {
    pub(crate) config: Arc<ConnectionConfig>,
    /// Which servers are reached through which proxy.
    pub(crate) ways: Ways,
    /// Completes each request before anything is dialled.
    pub(crate) fetch: Option<Fetch>,
    /// Replaces the system's resolver.
    pub(crate) resolver: Option<Resolver>,
    /// Replaces TCP.
    pub(crate) supply: Option<Supply>,
    /// The connector for this client's TLS set-up, once it has been built.
    pub(crate) tls: tls::Connector,
    /// That for its proxies.
    pub(crate) proxy_tls: tls::Connector,
    /// The addresses that failed.
    pub(crate) failed: Failed,
}

impl Settings {
    /// Those of a client whose application brings nothing but its configuration.
    pub(crate) fn new(config: impl Into<Arc<ConnectionConfig>>) -> Self {
        let (config, ways, failed) = (config.into(), Ways::default(), Failed::default());
        let (tls, proxy_tls) = (tls::Connector::default(), tls::Connector::default());
        Self { config, ways, fetch: None, resolver: None, supply: None, tls, proxy_tls, failed }
    }

    /// Refuses an endpoint that no attempt can reach with these settings.
    fn check_target(&self, endpoint: &Endpoint) -> Result<(), Error> {
        tls::require(endpoint)?;
        self.ways.to(endpoint).map_or(Ok(()), |via| via.check_target(endpoint))
    }
}

/// Completes a request. May block.
pub(crate) type Fetch = Box<dyn Fn(UpgradeRequest) -> Result<UpgradeRequest, Error> + Send + Sync>;

/// Looks up a host name and a port. May block.
pub(crate) type Resolver = Box<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// What an attempt requests, and of which server.
pub(crate) struct Target<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) request: UpgradeRequest,
    pub(crate) settings: &'a Settings,
    /// How many redirects have led here.
    followed: u32,
    /// Who redirected here, if that is not the same server.
    from: Option<Box<str>>,
    /// The secrets of the requests that were redirected.
    earlier: Secrets,
    /// TLS for another origin than that of the configuration, if it differs.
    strangers_tls: Option<(TlsConfig, tls::Connector)>,
}

impl<'a> Target<'a> {
    pub(crate) fn new(request: UpgradeRequest, settings: &'a Settings) -> Result<Self, Error> {
        let endpoint = request.check()?;
        settings.check_target(&endpoint)?;
        let earlier = Secrets::default();
        Ok(Self { endpoint, request, settings, followed: 0, from: None, earlier, strangers_tls: None })
    }

    /// Where the answer leads. If it can't be followed, the error says so.
    fn redirected(&self, rejection: &Rejection) -> Result<Self, Error> {
        let allowed = self.settings.config.redirects;
        let location = rejection.header("Location").unwrap_or_default();
        let next = if self.followed >= allowed {
            Err(format!("redirects allows {allowed} in a row"))
        } else if redirect::is_followed(rejection.status) {
            redirect::follow(&self.request, &self.endpoint, location)
        } else {
            Err("of redirects, only 301, 302, 303, 307 and 308 are".into())
        };
        let next = next.and_then(|(request, endpoint)| match self.settings.check_target(&endpoint) {
            Err(Error::InvalidUrl { reason }) => Err(reason.into()),
            Err(other) => Err(other.to_string()),
            Ok(()) => Ok((request, endpoint)),
        });
        let (request, endpoint) = next.map_err(|why| {
            Error::UpgradeRejected(Arc::new(Rejection { unfollowed: Some(why.into()), ..rejection.clone() }))
        })?;
        let (tls, _) = self.tls();
        let strangers_tls = if tls.identity.is_some() && !redirect::is_same_origin(&self.endpoint, &endpoint)
        {
            Some((TlsConfig { identity: None, ..tls.clone() }, tls::Connector::default()))
        } else {
            self.strangers_tls.clone()
        };
        log::info!(target: LOG, "{} redirects to {endpoint}", self.endpoint);
        let (settings, followed, earlier) = (self.settings, self.followed + 1, self.secrets());
        let (here, there) = (self.endpoint.to_string(), endpoint.to_string());
        let from = if here == there { self.from.clone() } else { Some(here.into()) };
        Ok(Self { endpoint, request, settings, followed, from, earlier, strangers_tls })
    }

    /// The server, as errors name it, who redirected there, and the proxy on the way there, if there is one.
    pub(crate) fn place(&self) -> String {
        let place = self.named(&self.endpoint.to_string());
        match self.settings.ways.to(&self.endpoint) {
            Some(via) => format!("{place} through the proxy {}", via.endpoint),
            None => place,
        }
    }

    /// The server by this name of it, and who redirected there.
    fn named(&self, host: &str) -> String {
        match &self.from {
            Some(from) => format!("{host} (where {from} redirected to)"),
            None => host.to_owned(),
        }
    }

    /// Says in an error of the way to the server who redirected there.
    fn unreached(&self, error: Error) -> Error {
        let named = |host: &str| self.named(host).into();
        match error {
            Error::Resolve { host, source } => Error::Resolve { host: named(&host), source },
            Error::Connect { host, source } => Error::Connect { host: named(&host), source },
            other => other,
        }
    }

    /// Whether the identity of TLS is kept from this server, since it is another origin's.
    pub(crate) fn withholds_identity(&self) -> bool {
        self.strangers_tls.is_some()
    }

    /// Whether the address that this answer names is looked at.
    pub(crate) fn follows(&self, rejection: &Rejection) -> bool {
        self.settings.config.redirects > 0 && rejection.new_address().is_some()
    }

    /// The settings of TLS with the server, and their connector.
    pub(crate) fn tls(&self) -> (&TlsConfig, &tls::Connector) {
        let Settings { config, tls, .. } = self.settings;
        self.strangers_tls.as_ref().map_or((&config.tls, tls), |(config, tls)| (config, tls))
    }

    /// The secrets of the request, and those that the proxy was sent, which must not be shown when somebody repeats them.
    pub(crate) fn secrets(&self) -> Secrets {
        let secrets = self.request.secrets().and(&self.earlier);
        self.settings.ways.to(&self.endpoint).map_or(secrets.clone(), |via| secrets.and(&via.secrets))
    }
}

/// The result of an attempt.
pub(crate) struct Connection<T: Raw = Stream> {
    /// Boxed, because it is moved from the dial thread to its place among the sockets, and each move takes room on a stack.
    pub(crate) socket: Box<Socket<T>>,
    pub(crate) handshake: Arc<Handshake>,
}

/// The thread that makes an attempt. It waits, and can be made to stop waiting.
///
/// Every method fails once the attempt is abandoned. The error does not matter, because nobody will see it.
pub(crate) trait Attempt<T: Raw = Stream> {
    /// Reports which phase begins and, if that changes, where the attempt goes. The phase before it ends.
    fn enter(&mut self, phase: Phase, whither: Option<&dyn fmt::Display>) -> Result<(), Error>;

    /// Ends the last phase. Returns how long each took.
    fn timings(&mut self) -> Timings;

    /// Runs `call`, which nothing can interrupt. `what` names the call to anyone who asks where the thread is. Fails
    /// only before the call.
    fn uninterruptible<R>(&mut self, what: &str, call: impl FnOnce() -> R) -> Result<R, Error>;

    /// The addresses of a host name. May block.
    fn resolve(&mut self, endpoint: &Endpoint, settings: &Settings) -> Result<Vec<SocketAddr>, Error>;

    /// Waits until `wire` can proceed. Returns `false` if `patience` ends first.
    fn wait(&mut self, wire: &mut Wire<T>, patience: Option<Duration>) -> Result<bool, Error>;

    /// Waits until a stream that is registered can proceed, or until this time has passed. It may end early.
    fn wait_any(&mut self, timeout: Option<Duration>) -> Result<(), Error>;

    /// Says why the addresses of a host had not been reached when the attempt was abandoned.
    fn leave_unreached(&mut self, why: io::Error);

    fn now(&self) -> Instant;

    /// How much time the attempt has left.
    fn time_left(&self) -> Duration;

    fn registry(&self) -> &Registry;
}

pub(crate) fn connect(
    request: UpgradeRequest,
    settings: &Settings,
    attempt: &mut impl Attempt,
) -> Result<Connection, Error> {
    let request = match &settings.fetch {
        None => request,
        Some(fetch) => {
            attempt.enter(Phase::Fetch, None)?;
            attempt.uninterruptible("the application's fetch", || fetch(request))??
        }
    };
    let mut target = Target::new(request, settings)?;
    loop {
        match open(&target, attempt) {
            Err(Error::UpgradeRejected(rejection)) if target.follows(&rejection) => {
                target = target.redirected(&rejection)?;
            }
            done => return done,
        }
    }
}

/// Opens a WebSocket at the target.
fn open(target: &Target<'_>, attempt: &mut impl Attempt) -> Result<Connection, Error> {
    let settings = target.settings;
    let via = settings.ways.to(&target.endpoint);
    let (wire, address) = match via {
        Some(via) => proxy::tunnel(via, target, attempt)?,
        None => reach(&target.endpoint, &target.place(), settings, attempt)
            .map_err(|error| target.unreached(error))?,
    };
    let mut link = if target.endpoint.secure {
        attempt.enter(Phase::Tls, None)?;
        tls::handshake(wire, &Peer::server(target), attempt)?
    } else {
        Link::Plain(wire)
    };
    attempt.enter(Phase::Upgrade, None)?;
    let upgraded = upgrade::upgrade(&mut link, target, attempt);
    if let (Some(address), Ok(_) | Err(Error::UpgradeRejected(_))) = (address, &upgraded) {
        settings.failed.forget(address);
    }
    let Upgraded { subprotocol, compression, headers, rest } = upgraded?;
    let timings = attempt.timings();
    let mut socket = Box::new(Socket::new(link, rest, &settings.config, compression.as_ref()));
    socket.deregister(attempt.registry()).map_err(|source| system("a socket's registration", source))?;
    let secrets = target.secrets();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let headers = ResponseHeaders::new(headers, secrets.clone());
    let proxy = via.map(|via| via.to_string().into());
    if let Some(proxy) = &proxy {
        log::debug!(target: LOG, "Connected to {} through the proxy {proxy}", target.endpoint);
    }
    let handshake =
        Handshake { proxy, compression, headers, timings, secrets, ..Handshake::new(address, subprotocol) };
    Ok(Connection { socket, handshake: Arc::new(handshake) })
}

fn system(what: &'static str, source: io::Error) -> Error {
    Error::System { what, source: Arc::new(source) }
}
