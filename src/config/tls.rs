//! Whom TLS trusts, and as whom it speaks.

use std::borrow::Cow;
use std::fmt::{self, Write};

use crate::config::certificates::{Certificate, Identity};
use crate::config::invalid;
use crate::config::setters::setters;
use crate::endpoint::Endpoint;
use crate::error::Error;

/// The settings of TLS: whom it trusts, and as whom it speaks. Without any, the server must have a certificate that the
/// operating system trusts.
///
/// A server whose certificate was issued by an authority of your own:
///
/// ```no_run
/// use tautline::{Certificate, Client, ConnectionConfig, TlsConfig};
///
/// let tls = TlsConfig::default().root(Certificate::from_pem(std::fs::read("ca.pem")?));
/// let client = Client::connect(ConnectionConfig::new("wss://gateway.local").tls(tls))?;
/// # drop(client);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A device with a certificate that it has signed itself is trusted by its fingerprint alone:
///
/// ```no_run
/// use tautline::{Client, ConnectionConfig, TlsConfig};
///
/// // See Pin for the commands that print it.
/// let tls = TlsConfig::default()
///     .pin("7B:4A:85:F5:86:68:6A:55:37:9D:24:DE:0F:6B:B1:F5:85:B9:5C:4B:D1:66:1F:4F:59:54:18:F4:0E:B4:7B:7A")
///     .danger_accept_invalid_certs(true); // nobody else vouches for it
/// let client = Client::connect(ConnectionConfig::new("wss://192.168.7.20").tls(tls))?;
/// # drop(client);
/// # Ok::<(), tautline::Error>(())
/// ```
///
/// Certificates are parsed when the client starts. One that can't be used is an [`Error::InvalidConfig`].
///
/// TLS needs one of the features `native-tls` (on by default) and `rustls`. Without both, these settings have no effect, and
/// a `wss://` URL is an [`Error::InvalidUrl`].
///
/// # What it costs
///
/// What the TLS library makes of these settings is a connector. The first attempt builds it or, with an
/// [`identity`](field@Self::identity), the start of the client. All clients with equal settings share it while one of them
/// lives. Nothing interrupts the building. Measured on Linux with OpenSSL and the 140 roots of Debian, as what the process
/// grows by (`VmRSS`):
///
/// | what | time | memory |
/// |---|---|---|
/// | the first connector of the process | 60 to 90 ms | 5 to 7 MB. 3 MB or more of that are pages of OpenSSL's files, which processes share |
/// | a further connector, for other settings | the same | 0.9 to 1.3 MB, most of it for the parsed roots of the system |
/// | a further client that shares a connector: its connection and its thread | | 55 to 80 KiB, of which a client without TLS has 30 to 40 |
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Certificates of authorities that are trusted beside those of the system. The certificate of the server itself may
    /// stand here, too. Default: none.
    pub roots: Vec<Certificate>,
    /// Whether the [`roots`](field@Self::roots) are trusted alone, and not those of the system. Default `false`.
    pub only_these_roots: bool,
    /// The client's own certificate, for a server that requires one. Default `None`.
    pub identity: Option<Identity>,
    /// The lowest version of TLS that is spoken. Default `None`: that of the backend, which is TLS 1.2 with both. Rustls speaks
    /// nothing lower in any case. On macOS, native-tls speaks no TLS 1.3.
    pub min_version: Option<TlsVersion>,
    /// The host name to ask the server for (SNI) and to find in its certificate, instead of that in the URL. Use it to connect
    /// to an address, through a tunnel or by a Unix socket. Default `None`.
    pub server_name: Option<String>,
    /// The certificates that the server may have, by their SHA-256 fingerprints. They are compared after the handshake, and
    /// before anything else is sent. A certificate must also be trusted, unless that is
    /// [off](field@Self::danger_accept_invalid_certs). Default: none, so that each trusted certificate is good.
    pub pins: Vec<Pin>,
    /// Whether a certificate is accepted that nobody trusts, is for another name, or is out of date. Without
    /// [`pins`](field@Self::pins), anybody on the way to the server can then read and change everything, and the log says so
    /// once a client. Default `false`.
    pub danger_accept_invalid_certs: bool,
    /// A connector of the application's own, for what can't be set here. Only
    /// [`server_name`](field@Self::server_name) and [`pins`](field@Self::pins) may be set beside it. Default `None`.
    #[cfg(feature = "native-tls")]
    pub connector: Option<native_tls::TlsConnector>,
    /// There is none without native-tls.
    #[cfg(not(feature = "native-tls"))]
    pub(crate) connector: Option<std::convert::Infallible>,
    /// Which library speaks TLS. Default [`TlsBackend::Default`].
    pub backend: TlsBackend,
}

/// What is wrong with a URL that needs TLS where there is none.
pub(crate) const MISSING: Option<&str> = if cfg!(any(feature = "native-tls", feature = "rustls")) {
    None
} else {
    Some(
        "its scheme is one for TLS, without which tautline was built here; give tautline the feature native-tls (on by \
         default) or rustls",
    )
};

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.0, of 1999. Not safe.
    Tls10,
    /// TLS 1.1, of 2006. Not safe.
    Tls11,
    /// TLS 1.2, of 2008.
    Tls12,
    /// TLS 1.3, of 2018.
    Tls13,
}

/// A library that speaks TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsBackend {
    /// The native one if it is there, and rustls otherwise.
    #[default]
    Default,
    /// The library of the operating system: OpenSSL on Linux, `SChannel` on Windows, Secure Transport on macOS. Needs the
    /// feature `native-tls`, which is on by default.
    #[cfg(feature = "native-tls")]
    NativeTls,
    /// Rustls, with the trust of the operating system. Needs the feature `rustls`. It takes no certificates of X.509 version
    /// 1 and no RSA keys of less than 2048 bits, whatever is pinned or accepted. Old devices may have them.
    #[cfg(feature = "rustls")]
    Rustls,
}

/// The SHA-256 fingerprint of a certificate in DER: 32 bytes, or hex digits with or without colons, or the whole line that
/// openssl prints:
///
/// ```sh
/// openssl x509 -in device.pem -noout -fingerprint -sha256                                      # of a file
/// openssl s_client -connect 192.168.7.20:443 </dev/null | openssl x509 -noout -fingerprint -sha256 # of a server
/// ```
///
/// ```
/// use tautline::Pin;
///
/// let pin = Pin::from([0xAB; 32]);
/// assert_eq!(Pin::from("ab".repeat(32)), pin);
/// assert_eq!(Pin::from(format!("sha256 Fingerprint={pin}")), pin);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Pin(Option<[u8; 32]>);

impl From<[u8; 32]> for Pin {
    fn from(fingerprint: [u8; 32]) -> Self {
        Self(Some(fingerprint))
    }
}

/// A text that is no fingerprint is refused by `connect` and `start`.
impl From<&str> for Pin {
    fn from(text: &str) -> Self {
        let digits = match text.split_once('=') {
            Some((name, digits)) if name.trim().eq_ignore_ascii_case("sha256 fingerprint") => digits,
            _ => text,
        };
        let digits: String = digits.trim().chars().filter(|c| *c != ':').collect();
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok();
        Self(bytes.and_then(|bytes| bytes.try_into().ok()))
    }
}

/// As from a `&str`.
impl From<String> for Pin {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

/// The hex digits, in pairs with colons between them.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bytes) = self.0 else { return f.write_str("unusable") };
        for (at, byte) in bytes.iter().enumerate() {
            if at > 0 {
                f.write_char(':')?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

setters!(TlsConfig {
    only_these_roots: bool,
    identity: Identity,
    min_version: TlsVersion,
    danger_accept_invalid_certs: bool,
    backend: TlsBackend,
});

impl TlsConfig {
    /// Adds certificates to [`roots`](field@Self::roots).
    pub fn root(mut self, root: Certificate) -> Self {
        self.roots.push(root);
        self
    }

    /// Sets [`server_name`](field@Self::server_name).
    pub fn server_name(mut self, server_name: impl Into<String>) -> Self {
        self.server_name = Some(server_name.into());
        self
    }

    /// Adds a fingerprint to [`pins`](field@Self::pins).
    pub fn pin(mut self, pin: impl Into<Pin>) -> Self {
        self.pins.push(pin.into());
        self
    }

    /// Sets [`connector`](field@Self::connector).
    #[cfg(feature = "native-tls")]
    pub fn connector(mut self, connector: native_tls::TlsConnector) -> Self {
        self.connector = Some(connector);
        self
    }

    /// Checks everything that takes no TLS library.
    pub(crate) fn check(&self) -> Result<(), Error> {
        for (at, root) in self.roots.iter().enumerate() {
            root.ders().or_else(|reason| invalid("tls.roots", self.of_root(at, &reason)))?;
        }
        if let Some(identity) = &self.identity {
            identity.parts().map(drop).or_else(|reason| invalid("tls.identity", reason))?;
        }
        if let Some(at) = self.pins.iter().position(|pin| pin.0.is_none()) {
            let why = format!(
                "number {} is not a SHA-256 fingerprint; write its 64 hex digits, with colons (7B:4A:…) or without (7b4a…), or the whole line (sha256 Fingerprint=7B:4A:…) that openssl x509 -in CERTIFICATE -noout -fingerprint -sha256 prints",
                at + 1
            );
            return invalid("tls.pins", why);
        }
        if let Some(name) = &self.server_name {
            ascii(name).map(drop).or_else(|reason| invalid("tls.server_name", reason))?;
        }
        if self.only_these_roots && self.roots.is_empty() {
            let why = "it is true, but there are no roots, so that nobody would be trusted; add one by TlsConfig::root, or set it to false";
            return invalid("tls.only_these_roots", why);
        }
        self.check_connector()
    }

    fn check_connector(&self) -> Result<(), Error> {
        let refused = [
            ("roots", !self.roots.is_empty()),
            ("only_these_roots", self.only_these_roots),
            ("identity", self.identity.is_some()),
            ("min_version", self.min_version.is_some()),
            ("danger_accept_invalid_certs", self.danger_accept_invalid_certs),
            #[cfg(feature = "rustls")]
            ("backend", self.backend == TlsBackend::Rustls),
        ];
        match refused.iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) if self.connector.is_some() => {
                let why = format!(
                    "it is set, and so is tls.{name}, which it would not obey; give that to the connector, or leave the connector out"
                );
                invalid("tls.connector", why)
            }
            _ => Ok(()),
        }
    }

    /// Whether a connector of the same backend for the other settings serves for these as well.
    pub(crate) fn is_built_like(&self, other: &Self) -> bool {
        let of =
            |config: &Self| (config.only_these_roots, config.min_version, config.danger_accept_invalid_certs);
        self.connector.is_none()
            && other.connector.is_none()
            && of(self) == of(other)
            && self.roots == other.roots
            && self.identity == other.identity
    }

    /// What is wrong with a root.
    pub(crate) fn of_root(&self, at: usize, reason: &str) -> String {
        match self.roots.len() {
            1 => reason.to_owned(),
            count => format!("number {} of {count}: {reason}", at + 1),
        }
    }

    /// The name to ask a server for that is called `own`.
    pub(crate) fn name_for<'a>(&'a self, own: &'a str) -> Cow<'a, str> {
        match &self.server_name {
            Some(name) => ascii(name).map_or(Cow::Borrowed(name), Cow::Owned),
            None => Cow::Borrowed(own),
        }
    }
}

/// A host name or an address, as TLS checks it.
fn ascii(name: &str) -> Result<String, String> {
    let is_v6 = name.parse::<std::net::Ipv6Addr>().is_ok();
    let url = if is_v6 { format!("wss://[{name}]") } else { format!("wss://{name}") };
    match Endpoint::parse(&url) {
        Ok(endpoint) if is_v6 || !name.contains(['/', '?', '@', ':', '[']) => {
            Ok(endpoint.tls_name().to_owned())
        }
        Ok(_) => Err("it is more than a host name, such as a URL or a name with a port".into()),
        Err(Error::InvalidUrl { reason }) => Err(format!("it is no host name: {reason}")),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(feature = "native-tls")]
impl From<native_tls::TlsConnector> for TlsConfig {
    fn from(connector: native_tls::TlsConnector) -> Self {
        Self::default().connector(connector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_the_tools_write_it() {
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap() * 7);
        let shown = Pin::from(bytes).to_string();
        assert!(shown.starts_with("00:07:0E:15:"), "{shown}");
        for text in [
            shown.clone(),
            shown.to_lowercase(),
            shown.replace(':', ""),
            format!(" {shown}\n"),
            // OpenSSL 3, and those before it.
            format!("sha256 Fingerprint={shown}\n"),
            format!("SHA256 Fingerprint={shown}\r\n"),
        ] {
            assert_eq!(Pin::from(text), Pin::from(bytes));
        }
        let of_sha1 = format!("sha1 Fingerprint={}", &shown[..59]);
        let of_another = format!("sha512 Fingerprint={shown}");
        for bad in ["", "00", &shown[..92], &shown.replace('0', "g"), "sha256//AAAA", &of_sha1, &of_another] {
            let error = TlsConfig::default().pin(bytes).pin(bad).check().unwrap_err().to_string();
            assert!(error.contains("tls.pins") && error.contains("number 2"), "{error}");
            assert!(error.contains("the whole line (sha256 Fingerprint=7B:4A:…)"), "{error}");
        }
    }

    #[test]
    fn another_name_is_one_that_tls_can_check() {
        let name = |text: &str| {
            let tls = TlsConfig::default().server_name(text);
            tls.check().map(|()| tls.name_for("own").into_owned()).map_err(|error| error.to_string())
        };
        for (text, asked) in [
            ("gateway.example", "gateway.example"),
            ("gateway.example.", "gateway.example"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("192.168.7.20", "192.168.7.20"),
            ("fe80::1", "fe80::1"),
        ] {
            assert_eq!(name(text).as_deref(), Ok(asked));
        }
        for bad in ["", "h:443", "https://h", "a b", "h/x", "me@h", "a\nb", "[::1]"] {
            let error = name(bad).unwrap_err();
            assert!(error.contains("tls.server_name"), "{bad}: {error}");
        }
        assert_eq!(TlsConfig::default().name_for("own"), "own");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let key = include_str!("../../tests/data/server.key");
        let identity = Identity::from_pem(include_bytes!("../../tests/data/server.pem"), key);
        let shown = format!("{:?}", TlsConfig::default().identity(identity));
        assert!(!shown.contains(&key[30..60]), "{shown}");
        let shown = format!("{:?}", Identity::from_pkcs12("0der", "s3cret"));
        assert!(!shown.contains("s3cret") && !shown.contains("der"), "{shown}");
    }
}
