//! The way through a proxy: a TCP connection to it, and a handshake by which it opens a tunnel to the server.

pub(crate) mod connect;
pub(crate) mod socks;

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::NetworkConfig;
use crate::config::proxy::{Scheme, Via, too_long};
use crate::endpoint::Endpoint;
use crate::error::{AddressErrors, Cause, Error, Phase, ProxyError, ProxyErrorKind, Rejection};
use crate::secrets::Secrets;
use crate::transport::addresses::{Sorted, sort};
use crate::transport::proxy::connect::Connect;
use crate::transport::proxy::socks::{Socks, Whom};
use crate::transport::reach::reach;
use crate::transport::stream::Stream;
use crate::transport::tls::Peer;
use crate::transport::tunnel::Tunnel;
use crate::transport::wire::{Raw, Wire};
use crate::transport::{Attempt, Settings, Target, tls};

/// A handshake with a proxy: bytes in, bytes out.
pub(crate) trait Machine {
    /// What is to be sent now.
    fn poll_transmit(&mut self) -> Option<Vec<u8>>;

    /// How many bytes it takes at most, at least one. What comes behind them may belong to the tunnel.
    fn wanted(&self) -> usize;

    /// Takes the next bytes, no more than are wanted. Returns whether the tunnel is open.
    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<bool, Fault>;

    /// Whether it has failed already, and only waits for the rest of what the proxy says about it.
    fn has_failed(&self) -> bool;

    /// Nothing more comes.
    fn handle_end(&mut self) -> Fault;
}

/// Why a proxy did not open the way.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) kind: ProxyErrorKind,
    pub(crate) reason: String,
    pub(crate) answer: Option<Box<Rejection>>,
    pub(crate) source: Option<Cause>,
}

/// Where an attempt goes, as its timeout names it.
pub(crate) struct Through<'a> {
    pub(crate) via: &'a Via,
    pub(crate) target: &'a Endpoint,
}

/// What to do about an HTTP proxy that says nothing, without TLS and with it.
pub(crate) const HTTP_HINT: &str = "if it speaks TLS, use https://, and if it speaks SOCKS, socks5://";
const HTTPS_HINT: &str =
    "is it an HTTP proxy, and does it want a certificate of the client (TlsConfig::identity)?";
const IDENTITY_HINT: &str = "is it an HTTP proxy, and does it take the certificate of TlsConfig::identity?";

/// What to do about a server that the proxy did not reach.
pub(crate) const UNREACHED: &str = "; check host and port, and that the server runs";

/// How long to wait for the rest of a refusal.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many bytes of nonsense are read, and how many characters of it shown. What is not shown may be needed to find a
/// secret that begins in what is.
const READ: usize = 512;
const SHOWN: usize = 40;

/// Connects to the proxy, and has it open a tunnel to the target. Returns its address, too.
pub(super) fn tunnel(
    via: &Via,
    target: &Target<'_>,
    attempt: &mut impl Attempt,
) -> Result<(Wire, Option<SocketAddr>), Error> {
    let through = Through { via, target: &target.endpoint };
    let whom = whom(&through, target, attempt)?;
    let reached = reach(&via.endpoint, &target.place(), target.settings, attempt);
    let (wire, address) = reached.map_err(|error| through.unreachable(error))?;
    attempt.enter(Phase::Proxy, Some(&target.place()))?;
    let opened = open_by(wire, &through, whom, target.settings, attempt);
    // A proxy that answers as a proxy does is none of those that failed, whatever its answer is.
    let answers =
        |error: &ProxyError| !matches!(error.kind, ProxyErrorKind::Ended | ProxyErrorKind::Nonsense);
    let works =
        opened.as_ref().map_or_else(|error| matches!(error, Error::Proxy(why) if answers(why)), |_| true);
    address.filter(|_| works).inspect(|address| target.settings.failed.forget(*address));
    Ok((opened?, address))
}

fn open_by(
    mut wire: Wire,
    through: &Through<'_>,
    whom: Whom,
    settings: &Settings,
    attempt: &mut impl Attempt,
) -> Result<Wire, Error> {
    let Through { via, target } = through;
    if via.is_secure() {
        let secured = tls::handshake(wire, &Peer::proxy(via, settings), attempt);
        wire = Wire::new(Stream::inside(Tunnel::new(secured.map_err(|error| through.unreachable(error))?)));
    }
    let secrets = via.secrets.clone();
    match via.scheme {
        Scheme::Http | Scheme::Https => {
            let limit = settings.config.max_response_size;
            let hint = match &via.tls.identity {
                _ if !via.is_secure() => HTTP_HINT,
                None => HTTPS_HINT,
                Some(_) => IDENTITY_HINT,
            };
            let connect = Connect::new(&target.authority(), &via.headers, secrets, limit, hint);
            open(&mut wire, connect, through, attempt)?;
        }
        Scheme::Socks5 | Scheme::Socks5h => {
            open(&mut wire, Socks::new(whom, via.login.as_ref(), secrets), through, attempt)?;
        }
    }
    Ok(wire)
}

/// The target, as a SOCKS proxy is to be asked for it.
fn whom(through: &Through<'_>, target: &Target<'_>, attempt: &mut impl Attempt) -> Result<Whom, Error> {
    let endpoint = &target.endpoint;
    if let Some(address) = endpoint.address() {
        return Ok(Whom::Address(address));
    }
    if through.via.scheme == Scheme::Socks5 {
        attempt.enter(Phase::Resolve, Some(&target.place()))?;
        let found = attempt.resolve(endpoint, target.settings).map_err(|error| target.unreached(error))?;
        // It is the proxy that connects from its own address.
        let network = NetworkConfig { local_address: None, ..target.settings.config.network.clone() };
        let (zoned, found): (Vec<_>, Vec<_>) = found.into_iter().partition(has_zone);
        let Sorted { order, mut left_out } = sort(&found, &network, &[]);
        left_out.extend(zoned.into_iter().map(|address| {
            let why = "left out, because its zone means nothing at the proxy; use socks5h://";
            (address, io::Error::new(ErrorKind::AddrNotAvailable, why))
        }));
        return order.first().map(|address| Whom::Address(*address)).ok_or_else(|| Error::Connect {
            host: endpoint.to_string().into(),
            source: Arc::new(AddressErrors::join(left_out)),
        });
    }
    Whom::name(&endpoint.host, endpoint.port).ok_or_else(|| too_long(endpoint))
}

fn has_zone(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(address) if address.scope_id() != 0)
}

/// Drives the handshake until the tunnel is open, and reads nothing of what comes through it.
pub(crate) fn open<T: Raw>(
    wire: &mut Wire<T>,
    mut machine: impl Machine,
    through: &Through<'_>,
    attempt: &mut impl Attempt<T>,
) -> Result<(), Error> {
    // What it says about an end holds here as well.
    let broken = |machine: &mut dyn Machine, error: io::Error| {
        let error = match tls::broken_by_proxy(error, through.via) {
            Ok(tls) => return through.unreachable(tls),
            Err(error) => error,
        };
        let reason = format!("the connection broke: {error}; {}", machine.handle_end().reason);
        let fault = Fault::new(ProxyErrorKind::Ended, reason);
        through.failed(Fault { source: Some(Arc::new(error)), ..fault })
    };
    let mut reserve = None;
    loop {
        if let Some(bytes) = machine.poll_transmit() {
            wire.write_all(&bytes)
                .and_then(|()| wire.flush())
                .map_err(|error| broken(&mut machine, error))?;
        }
        let mut chunk = [0; 4096];
        let room = machine.wanted().min(chunk.len());
        match wire.read(&mut chunk[..room]) {
            Ok(0) => return Err(through.failed(machine.handle_end())),
            Ok(n) => {
                if machine.handle_bytes(&chunk[..n]).map_err(|fault| through.failed(fault))? {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = attempt.time_left();
                let patience = machine.has_failed().then(|| {
                    left.saturating_sub(*reserve.get_or_insert(left.saturating_sub(PATIENCE.min(left / 2))))
                });
                if patience.is_some_and(|patience| patience.is_zero()) || !attempt.wait(wire, patience)? {
                    return Err(through.failed(machine.handle_end()));
                }
            }
            // A refusal is one, however its connection ended.
            Err(_) if machine.has_failed() => return Err(through.failed(machine.handle_end())),
            Err(error) => return Err(broken(&mut machine, error)),
        }
    }
}

impl Through<'_> {
    /// Says that the proxy can't be reached, if that is what the error is about.
    fn unreachable(&self, error: Error) -> Error {
        match error {
            Error::Resolve { .. } | Error::Connect { .. } | Error::Tls { .. } => {
                let fault = Fault::new(ProxyErrorKind::Unreachable, error.to_string());
                self.failed(Fault { source: Some(Arc::new(error)), ..fault })
            }
            other => other,
        }
    }

    /// Makes an error of a fault.
    fn failed(&self, fault: Fault) -> Error {
        let Fault { kind, reason, answer, source } = fault;
        let answer = answer.map(|answer| *answer);
        let (proxy, target) = (self.via.endpoint.to_string().into(), self.target.to_string().into());
        Error::Proxy(Arc::new(ProxyError { proxy, target, kind, reason: reason.into(), source, answer }))
    }
}

impl fmt::Display for Through<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} through the proxy {}", self.target, self.via.endpoint)
    }
}

impl Fault {
    pub(crate) fn new(kind: ProxyErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into(), answer: None, source: None }
    }

    /// What is no answer of such a proxy, and why not, in the end of a sentence that begins with what it said.
    fn nonsense(said: &[u8], secrets: &Secrets, why: &str) -> Self {
        let what = match said {
            _ if tls::is_tls(said) => "it speaks TLS; use https:// for that proxy".to_owned(),
            [5, ..] => "it answered as a SOCKS 5 proxy does; use socks5:// or socks5h://".to_owned(),
            [0, 0x5A..=0x5D, ..] | [4, ..] => {
                "it answered as a SOCKS 4 proxy does, and can't be used".to_owned()
            }
            _ => {
                // The line that has come, whatever came behind it.
                let line = said.split(|byte| *byte == b'\n').next().unwrap_or_default();
                let line = secrets.hide(&String::from_utf8_lossy(line.trim_ascii_end()));
                let text: String = line.chars().take(SHOWN).collect();
                format!("it answered {text:?}{why}")
            }
        };
        Self::new(ProxyErrorKind::Nonsense, what)
    }
}

/// Whether so much of what is no answer has come that it can be judged and shown.
fn is_shown(said: &[u8]) -> bool {
    // It takes two bytes to recognise TLS.
    said.len() >= READ || said.contains(&b'\n') || (said.len() > 1 && tls::is_tls(said))
}

#[cfg(test)]
mod tests;
