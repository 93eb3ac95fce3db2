//! The TLS handshake, and what to say when it fails.

#[cfg(feature = "native-tls")]
mod native;
#[cfg(feature = "rustls")]
mod rustls;
mod verdicts;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use sha2::{Digest, Sha256};

use crate::config::proxy::Via;
use crate::config::tls::MISSING;
use crate::config::{Pin, TlsBackend, TlsConfig};
use crate::endpoint::Endpoint;
use crate::error::{Error, TlsErrorKind};
use crate::system::fork::PerProcess;
use crate::transport::link::{Layer, Link};
use crate::transport::tls::verdicts::{is_end, verdict};
use crate::transport::wire::Wire;
use crate::transport::{Attempt, Settings, Target};

/// Refuses an endpoint that needs TLS where there is none.
pub(crate) fn require(endpoint: &Endpoint) -> Result<(), Error> {
    let missing = MISSING.filter(|_| endpoint.secure);
    missing.map_or(Ok(()), |reason| Err(Error::InvalidUrl { reason: reason.into() }))
}

/// Checks what takes a TLS library. A connector is built for an identity alone: the key is compared with the certificate there.
pub(crate) fn check(config: &TlsConfig) -> Result<Connector, Error> {
    let checked = match backend(config) {
        #[cfg(feature = "native-tls")]
        TlsBackend::NativeTls => native::check(config),
        #[cfg(feature = "rustls")]
        TlsBackend::Rustls => rustls::check(config),
        TlsBackend::Default => Ok(()),
    };
    let connector = Connector::default();
    let checked = checked.and_then(|()| match config.identity {
        Some(_) => connector.get(config).map(drop).map_err(|said| ("tls.identity", said.to_string())),
        None => Ok(()),
    });
    let refused = |(setting, reason): Unusable| Error::InvalidConfig { setting, reason: reason.into() };
    checked.map(|()| connector).map_err(refused)
}

/// The setting that can't be used, and why.
type Unusable = (&'static str, String);

/// The backend that a configuration means.
fn backend(config: &TlsConfig) -> TlsBackend {
    match config.backend {
        #[cfg(feature = "native-tls")]
        TlsBackend::Default => TlsBackend::NativeTls,
        #[cfg(all(feature = "rustls", not(feature = "native-tls")))]
        TlsBackend::Default => TlsBackend::Rustls,
        other => other,
    }
}

/// The connector of one client, once it is built. It is shared by all clients with equal settings that are alive, because one
/// costs what the docs of [`TlsConfig`] say.
#[derive(Clone, Default)]
pub(crate) struct Connector(Arc<OnceLock<Arc<Built>>>);

/// A connector, and what it was built from.
struct Built {
    config: TlsConfig,
    library: Library,
}

enum Library {
    #[cfg(feature = "native-tls")]
    Native(native_tls::TlsConnector),
    #[cfg(feature = "rustls")]
    Rustls(Arc<::rustls::ClientConfig>),
}

impl Connector {
    fn get(&self, config: &TlsConfig) -> Result<Arc<Built>, Said> {
        if let Some(built) = self.0.get() {
            return Ok(Arc::clone(built));
        }
        let built = shared(config)?;
        Ok(Arc::clone(self.0.get_or_init(|| built)))
    }
}

/// A connector that a living client uses with equal settings, or a new one.
fn shared(config: &TlsConfig) -> Result<Arc<Built>, Said> {
    static SHARED: PerProcess<Mutex<Vec<Weak<Built>>>> = PerProcess::new();
    // A panic leaves nothing half done: the guard holds a list of pointers.
    let mut shared = SHARED.get().lock().unwrap_or_else(PoisonError::into_inner);
    shared.retain(|built| built.strong_count() > 0);
    let mut alive = shared.iter().filter_map(Weak::upgrade);
    if let Some(built) =
        alive.find(|built| backend(&built.config) == backend(config) && built.config.is_built_like(config))
    {
        return Ok(built);
    }
    let built = Arc::new(Built { config: config.clone(), library: Library::build(config)? });
    shared.push(Arc::downgrade(&built));
    Ok(built)
}

impl Library {
    fn build(config: &TlsConfig) -> Result<Self, Said> {
        match backend(config) {
            #[cfg(feature = "native-tls")]
            TlsBackend::NativeTls => native::build(config).map(Self::Native),
            #[cfg(feature = "rustls")]
            TlsBackend::Rustls => rustls::build(config).map(Self::Rustls),
            TlsBackend::Default => Err(Said::new(
                &"tautline was built without TLS; give it the feature native-tls (on by default) or rustls",
            )),
        }
    }

    fn begin(&self, name: &str, wire: Wire) -> Step {
        match *self {
            #[cfg(feature = "native-tls")]
            Self::Native(ref connector) => native::begin(connector, name, wire),
            #[cfg(feature = "rustls")]
            Self::Rustls(ref config) => rustls::begin(config, name, wire),
        }
    }
}

/// What errors call the peer of a handshake that is not with a proxy.
const SERVER: &str = "the server";

/// What they call one that is.
const PROXY: &str = "the proxy";

/// What to do about a peer that wants another certificate of the client, and about one that does not get the one that is set.
const IDENTITY: &str = "set the right one by TlsConfig::identity";
const WITHHELD: &str = "connect to it by its own URL: that of TlsConfig::identity is set, and is shown to no other \
                        origin that a redirect leads to";

fn identity_for(target: &Target<'_>) -> &'static str {
    if target.withholds_identity() { WITHHELD } else { IDENTITY }
}

/// Whom a handshake is with.
pub(crate) struct Peer<'a> {
    /// The name to ask for and to check.
    pub(crate) name: Cow<'a, str>,
    /// What it is: the server or the proxy.
    pub(crate) role: &'static str,
    /// What errors call the peer.
    pub(crate) shown: String,
    /// What to do if it speaks no TLS.
    pub(crate) plain: String,
    /// What to do if it wants another certificate of the client.
    pub(crate) identity: &'static str,
    pub(crate) config: &'a TlsConfig,
    pub(crate) connector: &'a Connector,
}

impl<'a> Peer<'a> {
    pub(crate) fn server(target: &'a Target<'_>) -> Self {
        let (endpoint, (config, connector)) = (&target.endpoint, target.tls());
        let name = config.name_for(endpoint.tls_name());
        let (shown, there) = (target.place(), place(endpoint));
        let plain = format!("if the server speaks no TLS {there}, use {}", endpoint.with_scheme(false));
        Self { name, role: SERVER, shown, plain, identity: identity_for(target), config, connector }
    }

    pub(crate) fn proxy(via: &'a Via, settings: &'a Settings) -> Self {
        let endpoint = &via.endpoint;
        let name = via.tls.name_for(endpoint.tls_name());
        let plain = format!("if the proxy speaks no TLS {}, its URL begins with http://", place(endpoint));
        let shown = format!("the proxy {endpoint}");
        let connector = &settings.proxy_tls;
        Self { name, role: PROXY, shown, plain, identity: IDENTITY, config: &via.tls, connector }
    }

    fn failed(
        &self,
        kind: TlsErrorKind,
        reason: String,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        Error::Tls { host: self.shown.as_str().into(), kind, reason: reason.into(), source: Arc::new(source) }
    }

    /// Compares the certificate that the peer has shown with those that it may have.
    fn check_pins(&self, certificate: Option<Vec<u8>>) -> Result<(), Error> {
        let (pins, role) = (&self.config.pins, self.role);
        let fingerprint = certificate.map(|der| Pin::from(<[u8; 32]>::from(Sha256::digest(der))));
        if pins.is_empty() || fingerprint.as_ref().is_some_and(|fingerprint| pins.contains(fingerprint)) {
            return Ok(());
        }
        let reason = match fingerprint {
            Some(fingerprint) => format!(
                "{role}'s certificate is not a pinned one: its SHA-256 fingerprint is {fingerprint}; if {role} has a new certificate, add this by TlsConfig::pin, and otherwise somebody else answers in its place"
            ),
            None => {
                format!("{role} has shown no certificate, but its fingerprint is pinned (TlsConfig::pin)")
            }
        };
        Err(self.failed(TlsErrorKind::Pin, reason, Said::new(&"no pin matches")))
    }
}

/// Where a handshake stands.
enum Step {
    Done(Box<dyn Secured>),
    /// It goes on when there is something to read.
    Waiting(Box<dyn Unfinished>),
    Failed(Said),
}

trait Unfinished {
    fn wire_mut(&mut self) -> &mut Wire;

    fn go_on(self: Box<Self>) -> Step;
}

/// TLS after its handshake.
trait Secured: Layer {
    /// The DER of the peer's own certificate.
    fn certificate(&self) -> Option<Vec<u8>>;
}

pub(crate) fn handshake(mut wire: Wire, peer: &Peer<'_>, attempt: &mut impl Attempt) -> Result<Link, Error> {
    let connector = attempt
        .uninterruptible("building the TLS connector", || peer.connector.get(peer.config))?
        .map_err(|said| peer.failed(TlsErrorKind::Setup, format!("TLS can't be set up: {said}"), said))?;
    // Of the proxy, if there is one.
    let before = wire.received();
    look_at_opening(&mut wire, before, peer)?;
    let mut step = connector.library.begin(&peer.name, wire);
    loop {
        match step {
            Step::Done(stream) => {
                peer.check_pins(stream.certificate())?;
                return Ok(Link::tls(stream));
            }
            Step::Failed(said) => {
                let (kind, reason) = match verdict(&said, peer.role, &peer.name, peer.identity) {
                    Some(verdict) => verdict,
                    None if is_end(&said) => (
                        TlsErrorKind::Ended,
                        format!("{} ended the connection in the middle of the handshake", peer.role),
                    ),
                    None => (TlsErrorKind::Other, format!("the handshake failed: {said}")),
                };
                return Err(peer.failed(kind, reason, said));
            }
            Step::Waiting(mut unfinished) => {
                attempt.wait(unfinished.wire_mut(), None)?;
                look_at_opening(unfinished.wire_mut(), before, peer)?;
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

/// The same error, with one text: those of its causes are in it.
fn said_once(error: io::Error) -> io::Error {
    if error.get_ref().is_some() { io::Error::new(error.kind(), Said::new(&error)) } else { error }
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

/// Looks at the first bytes of the peer, behind so many of others, before the TLS library reads them. If they are not TLS, each library reports that
/// in its own words, which are about a "version number".
fn look_at_opening(wire: &mut Wire, before: u64, peer: &Peer<'_>) -> Result<(), Error> {
    if wire.received() > before {
        return Ok(());
    }
    let ended = format!("{} ended the connection instead of answering", peer.role);
    let mut opening = [0; SHOWN];
    let (kind, reason, source) = match wire.peek(&mut opening) {
        Ok(0) => (TlsErrorKind::Ended, ended, io::ErrorKind::UnexpectedEof.into()),
        Ok(n) if is_tls(&opening[..n]) => return Ok(()),
        Ok(n) => {
            let said = String::from_utf8_lossy(&opening[..n]);
            let reason = format!("{} answered {said:?}, which is not TLS", peer.role);
            (TlsErrorKind::NotTls, reason.clone(), io::Error::new(io::ErrorKind::InvalidData, reason))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            return Ok(());
        }
        Err(error) => (TlsErrorKind::Ended, ended, error),
    };
    Err(peer.failed(kind, format!("{reason}; {}", peer.plain), source))
}

/// Returns what is wrong with an answer to plain HTTP, if the answer is TLS.
pub(crate) fn instead(answer: &[u8], endpoint: &Endpoint) -> Option<String> {
    let mixed_up = !endpoint.secure && is_tls(answer);
    mixed_up.then(|| format!("it speaks TLS {}; use {}", place(endpoint), endpoint.with_scheme(true)))
}

/// The error of a connection that broke before the upgrade was answered.
pub(crate) fn broken(error: io::Error, target: &Target<'_>) -> Error {
    let (endpoint, (config, _)) = (&target.endpoint, target.tls());
    let host = target.place().into();
    if endpoint.secure
        && let Some((kind, reason)) =
            late(&error, SERVER, &config.name_for(endpoint.tls_name()), identity_for(target))
    {
        return Error::Tls { host, kind, reason: reason.into(), source: Arc::new(error) };
    }
    let reason = format!("the connection broke: {error}{}", hint(target)).into();
    Error::Upgrade { host, reason, source: Some(Arc::new(error)) }
}

/// The same, before a proxy answered over TLS. Gives the error back if it is not about TLS.
pub(crate) fn broken_by_proxy(error: io::Error, via: &Via) -> Result<Error, io::Error> {
    let endpoint = &via.endpoint;
    let said = if via.is_secure() {
        late(&error, PROXY, &via.tls.name_for(endpoint.tls_name()), IDENTITY)
    } else {
        None
    };
    let Some((kind, reason)) = said else { return Err(error) };
    let host = format!("the proxy {endpoint}").into();
    Ok(Error::Tls { host, kind, reason: reason.into(), source: Arc::new(error) })
}

/// What the error of a first read over TLS says of the handshake. Over TLS 1.3, only then may the peer report what it requires.
fn late(error: &io::Error, role: &str, name: &str, identity: &str) -> Option<(TlsErrorKind, String)> {
    // The system's own errors are not about TLS, but on Windows: and there they don't say whose certificate they mean.
    if error.raw_os_error().is_some() { None } else { verdict(error, role, name, identity) }
}

/// Returns what to do about a server that does not answer the request: it may expect TLS or, with TLS, a certificate. TLS 1.3
/// ends the handshake before the server has seen that there is none.
pub(crate) fn hint(target: &Target<'_>) -> String {
    let (endpoint, (config, _)) = (&target.endpoint, target.tls());
    if endpoint.secure {
        return match config.identity {
            None => format!("; if the server wants a certificate of the client, {}", identity_for(target)),
            Some(_) => "; perhaps the server does not take the certificate of TlsConfig::identity".into(),
        };
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

    #[cfg(any(feature = "native-tls", feature = "rustls"))]
    #[test]
    fn clients_with_equal_settings_share_a_connector_as_long_as_one_of_them_lives() {
        use crate::config::{Certificate, TlsVersion};

        let ca = || Certificate::from_pem(include_bytes!("../../../tests/data/ca.pem"));
        let of =
            |config: &TlsConfig| Connector::default().get(config).map_err(|said| said.to_string()).unwrap();
        let tls = || TlsConfig::default().root(ca()).only_these_roots(true);
        let first = of(&tls());
        // These are no matter of the connector.
        let others = of(&tls().pin([1; 32]).server_name("h").backend(backend(&tls())));
        assert!(Arc::ptr_eq(&first, &others));
        #[cfg(all(feature = "native-tls", feature = "rustls"))]
        assert!(!Arc::ptr_eq(&first, &of(&tls().backend(TlsBackend::Rustls))));
        for other in
            [tls().root(ca()), tls().min_version(TlsVersion::Tls13), tls().danger_accept_invalid_certs(true)]
        {
            assert!(!Arc::ptr_eq(&first, &of(&other)), "{other:?}");
        }
        let weak = Arc::downgrade(&first);
        drop((first, others));
        assert!(weak.upgrade().is_none(), "nobody needs it any more");
    }

    #[cfg(feature = "native-tls")]
    #[test]
    fn a_connector_of_ones_own_is_shared_with_nobody() {
        let connector = native_tls::TlsConnector::builder().disable_built_in_roots(true).build().unwrap();
        let config = TlsConfig::from(connector);
        let of = || Connector::default().get(&config).map_err(|said| said.to_string()).unwrap();
        assert!(!Arc::ptr_eq(&of(), &of()));
    }
}
