//! TLS by the operating system's library.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use native_tls::{HandshakeError, TlsConnector};

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::transport::link::Link;
use crate::transport::stream::Wire;
use crate::transport::{Attempt, Settings, Target};

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

pub(crate) fn handshake(
    mut wire: Wire,
    target: &Target<'_>,
    attempt: &mut impl Attempt,
) -> Result<Link, Error> {
    let endpoint = &target.endpoint;
    let failed = |reason: String, source| Error::Tls {
        host: endpoint.to_string().into(),
        reason: reason.into(),
        source,
    };
    let connector = attempt
        .uninterruptible("building the TLS connector", || target.settings.tls.get(target.settings))?
        .map_err(|error| failed(format!("TLS can't be set up: {error}"), Arc::new(error)))?;
    let opening = |wire: &mut Wire| {
        look_at_opening(wire, endpoint).map_err(|(reason, source)| failed(reason, Arc::new(source)))
    };
    opening(&mut wire)?;
    let mut result = connector.connect(endpoint.tls_name(), wire);
    loop {
        match result {
            Ok(stream) => return Ok(Link::tls(stream)),
            Err(HandshakeError::Failure(error)) => {
                let reason =
                    verdict(&error, endpoint).unwrap_or_else(|| format!("the handshake failed: {error}"));
                return Err(failed(reason, Arc::new(Said(error))));
            }
            Err(HandshakeError::WouldBlock(mut unfinished)) => {
                attempt.wait(unfinished.get_mut(), None)?;
                opening(unfinished.get_mut())?;
                result = unfinished.handshake();
            }
        }
    }
}

/// An error of the TLS library. Its text includes that of its causes.
#[derive(Debug)]
struct Said(native_tls::Error);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Said {}

/// How many bytes of an answer that is not TLS are shown.
const SHOWN: usize = 40;

/// Looks at the first bytes of the server before the TLS library reads them. If they are not TLS, each library reports
/// that in its own words, which are about a "version number".
fn look_at_opening(wire: &mut Wire, endpoint: &Endpoint) -> Result<(), (String, io::Error)> {
    if wire.received() > 0 {
        return Ok(());
    }
    let plain = format!("if the server speaks no TLS on port {}, use ws://{endpoint}", endpoint.port);
    let ended = "the server ended the connection instead of answering";
    let mut opening = [0; SHOWN];
    match wire.peek(&mut opening) {
        Ok(0) => Err((format!("{ended}; {plain}"), io::ErrorKind::UnexpectedEof.into())),
        Ok(n) if is_tls(&opening[..n]) => Ok(()),
        Ok(n) => {
            let said = String::from_utf8_lossy(&opening[..n]);
            let reason = format!("the server answered {said:?}, which is not TLS");
            Err((format!("{reason}; {plain}"), io::Error::new(io::ErrorKind::InvalidData, reason)))
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(())
        }
        Err(error) => Err((format!("{ended}; {plain}"), error)),
    }
}

/// Returns what is wrong with an answer to plain HTTP, if the answer is TLS.
pub(crate) fn instead(answer: &[u8], endpoint: &Endpoint) -> Option<String> {
    let mixed_up = !endpoint.secure && is_tls(answer);
    mixed_up.then(|| format!("it speaks TLS on port {}; use wss://{endpoint}", endpoint.port))
}

/// Describes a connection that broke before the upgrade was answered. Over TLS, only then may the server report what it
/// requires.
pub(crate) fn broken(error: &io::Error, endpoint: &Endpoint) -> String {
    let said = Some(error).filter(|error| endpoint.secure && error.raw_os_error().is_none());
    match said.and_then(|error| verdict(error, endpoint)) {
        Some(words) => format!("the connection broke: {words}"),
        None => format!("the connection broke: {error}{}", hint(endpoint)),
    }
}

/// Returns what to do about a server that does not answer plain HTTP: it may expect TLS.
pub(crate) fn hint(endpoint: &Endpoint) -> String {
    if endpoint.secure {
        return String::new();
    }
    format!("; if the server speaks TLS on port {}, use wss://{endpoint}", endpoint.port)
}

/// Whether a server that begins like this speaks TLS: with a handshake or alert record (RFC 8446, section 5.1).
pub(super) fn is_tls(opening: &[u8]) -> bool {
    matches!(opening, [0x15 | 0x16] | [0x15 | 0x16, 3, ..])
}

/// What a TLS library's error means in plain words, and what to do, if the error is a known one.
fn verdict(error: &(impl fmt::Display + fmt::Debug), endpoint: &Endpoint) -> Option<String> {
    let said = format!("{error} {error:?}").to_ascii_lowercase();
    let known = VERDICTS.iter().find(|(signs, _)| signs.iter().any(|sign| said.contains(sign)));
    known.map(|(_, words)| words.replace("{host}", endpoint.tls_name()))
}

/// The signs of each verdict, in lower case, and the words for it. The first match counts. OpenSSL reports texts. The
/// libraries of Windows and macOS report codes, and texts in the language of the machine.
const VERDICTS: &[(&[&str], &str)] = &[
    (
        &[
            "certificate required",
            "alert bad certificate",
            "alert unknown ca",
            "alert certificate expired",
            "alert certificate revoked",
            "alert certificate unknown",
            "alert unsupported certificate",
        ],
        "the server wants a certificate of the client, or does not take the one it got; see ConnectionConfig::tls",
    ),
    (
        &[
            "certificate has expired",
            "certificate is expired",
            "code: -67818",
            "code: -9814",
            "code: -2146893016",
        ],
        "the server's certificate has expired; it has to be renewed there, unless this machine's clock is wrong",
    ),
    (
        &["certificate is not yet valid", "code: -67819", "code: -9815"],
        "the server's certificate is not valid yet; is this machine's clock right?",
    ),
    (
        // Windows does not say which of the two it is.
        &["code: -2146762495"],
        "the server's certificate has expired or is not valid yet; it has to be renewed there, unless this machine's \
         clock is wrong",
    ),
    (
        &[
            "hostname mismatch",
            "ip address mismatch",
            "code: -67602",
            "code: -9843",
            "code: -2146762481",
            "code: -2146893022",
        ],
        "the server's certificate is not for the name {host}; connect by a name that is in it",
    ),
    (
        &["certificate revoked", "code: -67820", "code: -2146762484", "code: -2146885616"],
        "the server's certificate was revoked; it has to be replaced there",
    ),
    (
        &["self-signed certificate", "self signed certificate"],
        "the server's certificate is self-signed, or its authority is; make it one that this system trusts, or trust it \
         with ConnectionConfig::tls",
    ),
    (
        &[
            "unable to get local issuer certificate",
            "unable to get issuer certificate",
            "unable to verify the first certificate",
            "code: -67843",
            "code: -9807",
            "code: -9812",
            "code: -9813",
            "code: -2146762487",
            "code: -2146762486",
            "code: -2146893019",
        ],
        "the server's certificate was issued by nobody whom this system trusts, or the server does not send the \
         certificates in between; make it one that this system trusts, or trust it with ConnectionConfig::tls",
    ),
    (
        &[
            "unsupported protocol",
            "alert protocol version",
            "alert handshake failure",
            "alert insufficient security",
            "no protocols available",
            "code: -9836",
            "code: -9801",
            "code: -2146893007",
        ],
        "the server and this system have no TLS version or cipher in common; one of them has to be updated",
    ),
    (&["unrecognized name"], "the server knows no host of the name {host}; is it the right one?"),
    (
        &["unexpected eof", "connection reset", "broken pipe", "code: -9805", "code: -9816"],
        "the server ended the connection in the middle of the handshake",
    ),
];

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

    /// The errors that native-tls shows on each system.
    #[test]
    fn the_verdict_of_each_library_is_put_into_words() {
        let endpoint = Endpoint::parse("wss://h.example").unwrap();
        assert_eq!(verdict(&"something new", &endpoint), None);
        for (said, words) in [
            // OpenSSL 1.1 and 3
            (
                "certificate verify failed:ssl/statem/statem_clnt.c:1919: (certificate has expired)",
                "has expired;",
            ),
            (
                "certificate verify failed:../ssl/statem/statem_clnt.c:2092: (certificate is not yet valid)",
                "not valid yet;",
            ),
            ("certificate verify failed: (hostname mismatch)", "not for the name h.example"),
            ("certificate verify failed: (IP address mismatch)", "not for the name h.example"),
            ("certificate verify failed: (self signed certificate)", "self-signed"),
            ("certificate verify failed: (self-signed certificate in certificate chain)", "self-signed"),
            (
                "certificate verify failed: (unable to get local issuer certificate)",
                "by nobody whom this system trusts",
            ),
            ("certificate verify failed: (certificate revoked)", "was revoked"),
            (
                "error:0A00042E:SSL routines:ssl3_read_bytes:tlsv1 alert protocol version",
                "no TLS version or cipher",
            ),
            (
                "error:0A000410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure",
                "no TLS version or cipher",
            ),
            (
                "error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required",
                "certificate of the client",
            ),
            (
                "error:0A000458:SSL routines:ssl3_read_bytes:tlsv1 unrecognized name",
                "no host of the name h.example",
            ),
            ("unexpected EOF", "ended the connection"),
            // Windows, on a German machine
            (
                "Os { code: -2146762495, message: \"Ein Zertifikat ist abgelaufen\" }",
                "has expired or is not valid yet",
            ),
            ("Os { code: -2146762481, message: \"…\" }", "not for the name h.example"),
            ("Os { code: -2146762487, message: \"…\" }", "by nobody whom this system trusts"),
            ("Os { code: -2146893019, message: \"…\" }", "by nobody whom this system trusts"),
            // macOS
            ("Error { code: -67818, message: \"An expired certificate was detected.\" }", "has expired;"),
            (
                "Error { code: -67602, message: \"A host name mismatch has occurred.\" }",
                "not for the name h.example",
            ),
            (
                "Error { code: -67843, message: \"The certificate was not trusted.\" }",
                "by nobody whom this system trusts",
            ),
            ("ssl3_read_bytes:sslv3 alert certificate revoked", "certificate of the client"),
        ] {
            let verdict = verdict(&said, &endpoint).unwrap_or_default();
            assert!(verdict.contains(words), "{said}: {verdict}");
            assert!(!verdict.contains("code:") && !verdict.contains("routines"), "{verdict}");
        }
    }

    #[test]
    fn a_verdict_names_what_was_checked_and_no_dot_behind_it() {
        let endpoint = Endpoint::parse("wss://h.example.").unwrap();
        for (said, words) in [
            ("certificate verify failed: (hostname mismatch)", "not for the name h.example;"),
            ("tlsv1 unrecognized name", "no host of the name h.example;"),
        ] {
            let verdict = verdict(&said, &endpoint).unwrap_or_default();
            assert!(verdict.contains(words), "{verdict}");
        }
    }
}
