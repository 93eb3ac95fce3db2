//! The TLS handshake, and what to say when it fails.

mod native;
mod verdicts;

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use native_tls::TlsConnector;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::transport::link::{Layer, Link};
use crate::transport::stream::Wire;
use crate::transport::tls::verdicts::verdict;
use crate::transport::{Attempt, Settings};

/// The connector of one client: its own, or the default one. The default one costs about 70 ms and 860 KiB to build,
/// and is shared by all clients that are alive.
#[derive(Clone, Default)]
pub(crate) struct Connector(Arc<OnceLock<Arc<TlsConnector>>>);

impl Connector {
    fn get(&self, settings: &Settings) -> Result<Arc<TlsConnector>, native_tls::Error> {
        if let Some(connector) = self.0.get() {
            return Ok(Arc::clone(connector));
        }
        let connector = match &settings.config.tls {
            Some(given) => Arc::new(given.clone()),
            None => default_connector()?,
        };
        Ok(Arc::clone(self.0.get_or_init(|| connector)))
    }
}

fn default_connector() -> Result<Arc<TlsConnector>, native_tls::Error> {
    static SHARED: Mutex<Weak<TlsConnector>> = Mutex::new(Weak::new());
    // A panic leaves nothing half done: the guard holds one pointer.
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(connector) = shared.upgrade() {
        return Ok(connector);
    }
    let connector = Arc::new(TlsConnector::new()?);
    *shared = Arc::downgrade(&connector);
    Ok(connector)
}

/// Whom a handshake is with.
pub(crate) struct Peer<'a> {
    /// The name to send and to check.
    pub(crate) name: &'a str,
    /// What it is: the server or the proxy.
    pub(crate) role: &'static str,
    /// What errors call the peer.
    pub(crate) shown: String,
    /// What to do if it speaks no TLS.
    pub(crate) plain: String,
    pub(crate) settings: &'a Settings,
}

impl<'a> Peer<'a> {
    pub(crate) fn server(endpoint: &'a Endpoint, settings: &'a Settings) -> Self {
        let (shown, there) = (endpoint.to_string(), place(endpoint));
        let plain = format!("if the server speaks no TLS {there}, use {}", endpoint.with_scheme(false));
        Self { name: endpoint.tls_name(), role: "the server", shown, plain, settings }
    }

    pub(crate) fn proxy(endpoint: &'a Endpoint, settings: &'a Settings) -> Self {
        let plain = format!("if the proxy speaks no TLS {}, its URL begins with http://", place(endpoint));
        let shown = format!("the proxy {endpoint}");
        Self { name: endpoint.tls_name(), role: "the proxy", shown, plain, settings }
    }

    fn failed(&self, reason: String, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::Tls { host: self.shown.as_str().into(), reason: reason.into(), source: Arc::new(source) }
    }
}

/// Where a handshake stands.
enum Step {
    Done(Box<dyn Layer>),
    /// It goes on when there is something to read.
    Waiting(Box<dyn Unfinished>),
    Failed(Said),
}

trait Unfinished {
    fn wire_mut(&mut self) -> &mut Wire;

    fn go_on(self: Box<Self>) -> Step;
}

pub(crate) fn handshake(mut wire: Wire, peer: &Peer<'_>, attempt: &mut impl Attempt) -> Result<Link, Error> {
    let connector = attempt
        .uninterruptible("building the TLS connector", || peer.settings.tls.get(peer.settings))?
        .map_err(|error| peer.failed(format!("TLS can't be set up: {error}"), error))?;
    look_at_opening(&mut wire, peer)?;
    let mut step = native::begin(&connector, peer.name, wire);
    loop {
        match step {
            Step::Done(stream) => return Ok(Link::tls(stream)),
            Step::Failed(said) => {
                let words = verdict(&said, peer.name);
                return Err(
                    peer.failed(words.unwrap_or_else(|| format!("the handshake failed: {said}")), said)
                );
            }
            Step::Waiting(mut unfinished) => {
                attempt.wait(unfinished.wire_mut(), None)?;
                look_at_opening(unfinished.wire_mut(), peer)?;
                step = unfinished.go_on();
            }
        }
    }
}

/// What a TLS library said. Its text includes that of its causes.
struct Said {
    text: String,
    details: String,
}

impl Said {
    fn new(error: &(impl fmt::Display + fmt::Debug)) -> Self {
        Self { text: error.to_string(), details: format!("{error:?}") }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.details)
    }
}

impl std::error::Error for Said {}

/// How many bytes of an answer that is not TLS are shown.
const SHOWN: usize = 40;

/// Looks at the first bytes of the peer before the TLS library reads them. If they are not TLS, each library reports that
/// in its own words, which are about a "version number".
fn look_at_opening(wire: &mut Wire, peer: &Peer<'_>) -> Result<(), Error> {
    if wire.received() > 0 {
        return Ok(());
    }
    let ended = format!("{} ended the connection instead of answering", peer.role);
    let mut opening = [0; SHOWN];
    let (reason, source) = match wire.peek(&mut opening) {
        Ok(0) => (ended, io::ErrorKind::UnexpectedEof.into()),
        Ok(n) if is_tls(&opening[..n]) => return Ok(()),
        Ok(n) => {
            let said = String::from_utf8_lossy(&opening[..n]);
            let reason = format!("{} answered {said:?}, which is not TLS", peer.role);
            (reason.clone(), io::Error::new(io::ErrorKind::InvalidData, reason))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            return Ok(());
        }
        Err(error) => (ended, error),
    };
    Err(peer.failed(format!("{reason}; {}", peer.plain), source))
}

/// Returns what is wrong with an answer to plain HTTP, if the answer is TLS.
pub(crate) fn instead(answer: &[u8], endpoint: &Endpoint) -> Option<String> {
    let mixed_up = !endpoint.secure && is_tls(answer);
    mixed_up.then(|| format!("it speaks TLS {}; use {}", place(endpoint), endpoint.with_scheme(true)))
}

/// Describes a connection that broke before the upgrade was answered. Over TLS, only then may the server report what it
/// requires.
pub(crate) fn broken(error: &io::Error, endpoint: &Endpoint) -> String {
    let said = Some(error).filter(|error| endpoint.secure && error.raw_os_error().is_none());
    match said.and_then(|error| verdict(error, endpoint.tls_name())) {
        Some(words) => format!("the connection broke: {words}"),
        None => format!("the connection broke: {error}{}", hint(endpoint)),
    }
}

/// Returns what to do about a server that does not answer plain HTTP: it may expect TLS.
pub(crate) fn hint(endpoint: &Endpoint) -> String {
    if endpoint.secure {
        return String::new();
    }
    format!("; if the server speaks TLS {}, use {}", place(endpoint), endpoint.with_scheme(true))
}

/// Where the server listens, in a sentence.
fn place(endpoint: &Endpoint) -> String {
    if endpoint.path.is_some() { "there".into() } else { format!("on port {}", endpoint.port) }
}

/// Whether a server that begins like this speaks TLS: with a handshake or alert record (RFC 8446, section 5.1).
pub(super) fn is_tls(opening: &[u8]) -> bool {
    matches!(opening, [0x15 | 0x16] | [0x15 | 0x16, 3, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_a_handshake_or_of_an_alert_is_tls_and_nothing_else_is() {
        for tls in [&[0x15][..], &[0x15, 3, 1, 0, 2], &[0x16, 3, 3, 0, 50]] {
            assert!(is_tls(tls), "{tls:?}");
        }
        for other in [&b""[..], b"HTTP/1.1 400", b"SSH-2.0", b"\r\n", &[0x15, 2], &[0x17, 3, 3]] {
            assert!(!is_tls(other), "{other:?}");
        }
    }
}
