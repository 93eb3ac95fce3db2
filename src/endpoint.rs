//! A WebSocket URL, parsed once into something that can't be wrong.

mod authority;
mod names;
mod percent;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

pub(crate) use crate::endpoint::authority::{CUT, is_cut};
use crate::endpoint::authority::{credentials, port_of, split_host};
pub(crate) use crate::endpoint::percent::{LOGIN, decode};
use crate::error::Error;
use crate::system::facts::LONGEST_SOCKET_PATH;

/// Where to dial, from a `ws://` or `wss://` URL (RFC 6455, section 3), or one of a Unix socket. Displays as `host:port`, or
/// `unix:path`, and no more.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) secure: bool,
    /// A name or an address. An IPv6 address has no brackets here. A name outside ASCII is in punycode.
    pub(crate) host: Box<str>,
    /// The interface for an IPv6 address (RFC 6874). It has a meaning on this machine only, so it is not sent to the
    /// server.
    pub(crate) zone: Option<Box<str>>,
    pub(crate) port: u16,
    /// Path and query, as the request line needs them.
    pub(crate) resource: Box<str>,
    /// The Unix socket to connect to. Host and port are then those that a server there is told: `localhost`.
    pub(crate) path: Option<Box<str>>,
    /// User and password, decoded, with the colon between them. One may be empty, not both.
    pub(crate) userinfo: Option<Box<str>>,
}

impl Endpoint {
    /// The texts of its errors repeat nothing of the URL but the scheme: any other part may hold a password.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let bad = |reason: String| Err(Error::InvalidUrl { reason: reason.into() });
        if let Some(at) = url.find(|c: char| c.is_whitespace() || c.is_control()) {
            return bad(format!("white space or a control character at byte {at}"));
        }
        if let Some((secure, rest)) = of_unix_socket(url) {
            return Self::parse_path(secure, rest);
        }
        let Some((scheme, rest)) =
            url.split_once("://").filter(|(scheme, _)| !scheme.contains([':', '/', '?']))
        else {
            return bad(missing(url));
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            "unix" => return bad(missing(url)),
            other if other.len() <= 8 && other.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                return bad(format!("its scheme is {other}://; it must start with ws:// or wss://"));
            }
            _ => return bad("it must start with ws:// or wss://".into()),
        };
        let (authority, resource) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if resource.contains('#') {
            return bad(FRAGMENT.into());
        }
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (credentials(userinfo)?, authority),
            None => (None, authority),
        };
        // A host name alone may have such characters.
        let outside = |c: char| !c.is_ascii();
        let behind = url.len() - resource.len();
        let before = behind - authority.len();
        let at = url[..before].find(outside).or_else(|| Some(behind + resource.find(outside)?));
        if let Some(at) = at {
            return bad(format!("a character outside ASCII at byte {at}; write it percent-encoded"));
        }
        let parsed = split_host(authority)
            .and_then(|(host, zone, port)| Ok((host, zone, port_of(port, if secure { 443 } else { 80 })?)));
        let (host, zone, port) = match parsed {
            Err(Error::InvalidUrl { reason }) if is_cut(authority, resource) => {
                return bad(format!("{reason}; {CUT}"));
            }
            parsed => parsed?,
        };
        Ok(Self { secure, host, zone, port, resource: absolute(resource), path: None, userinfo })
    }

    /// Parses `/path/of/the/socket:/resource`, which may begin with `//`. The path is percent-decoded.
    fn parse_path(secure: bool, rest: &str) -> Result<Self, Error> {
        let bad = |reason: &str| Err(Error::InvalidUrl { reason: reason.into() });
        let Some(longest) = LONGEST_SOCKET_PATH else {
            return bad("its scheme is for Unix sockets, which this system does not have");
        };
        if rest.contains('#') {
            return bad(FRAGMENT);
        }
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, resource) = rest.split_at(rest.find([':', '?']).unwrap_or(rest.len()));
        let path = decode(path, "the path of its socket")?;
        if !path.starts_with('/') || path.contains(char::is_control) {
            return bad(&format!("its socket has no absolute path; {PATH}"));
        }
        if path.len() > longest {
            let length = path.len();
            return bad(&format!(
                "the path of its socket has {length} bytes; this system takes {longest} at most"
            ));
        }
        if !resource.is_ascii() {
            return bad("a character outside ASCII behind the path of its socket; write it percent-encoded");
        }
        let resource = absolute(resource.strip_prefix(':').unwrap_or(resource));
        let port = if secure { 443 } else { 80 };
        let host = "localhost".into();
        Ok(Self { secure, host, zone: None, port, resource, path: Some(path), userinfo: None })
    }

    /// As much of a URL as may be shown.
    pub(crate) fn redacted(url: &str) -> String {
        Self::parse(url).map_or_else(|_| "unusable".into(), |endpoint| format!("{endpoint:?}"))
    }

    /// The value of the `Host` header. It has the port only if that isn't the scheme's default (RFC 9110, section 7.2).
    pub(crate) fn host_header(&self) -> String {
        let default = if self.secure { 443 } else { 80 };
        let host = self.bracketed("");
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }

    /// Host and port, as a proxy gets them (RFC 9110, section 7.2 and 9.3.6).
    pub(crate) fn authority(&self) -> String {
        format!("{}:{}", self.bracketed(""), self.port)
    }

    /// The name that TLS checks, without the final dot of an absolute name (RFC 6066, section 3).
    pub(crate) fn tls_name(&self) -> &str {
        self.host.strip_suffix('.').unwrap_or(&self.host)
    }

    /// The endpoint's address, if it needs no look-up. An interface without a number needs one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        let scope = self.zone.as_deref().map_or(Some(0), |zone| zone.parse().ok())?;
        Some(match self.host.parse().ok()? {
            IpAddr::V4(address) => (address, self.port).into(),
            IpAddr::V6(address) => SocketAddrV6::new(address, self.port, 0, scope).into(),
        })
    }

    /// The name to look up: the host, with its zone as the system writes it.
    pub(crate) fn name(&self) -> Box<str> {
        match &self.zone {
            Some(zone) => format!("{}%{zone}", self.host).into(),
            None => self.host.clone(),
        }
    }

    /// As much of its URL as may be shown, with the scheme for TLS or that without.
    pub(crate) fn with_scheme(&self, secure: bool) -> String {
        let scheme = if secure { "wss" } else { "ws" };
        match &self.path {
            Some(path) => format!("{scheme}+unix:{path}"),
            None => format!("{scheme}://{self}"),
        }
    }

    fn bracketed(&self, zone: &str) -> String {
        if self.host.contains(':') { format!("[{}{zone}]", self.host) } else { self.host.to_string() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            return write!(f, "unix:{path}");
        }
        let zone = self.zone.as_ref().map(|zone| format!("%25{zone}")).unwrap_or_default();
        write!(f, "{}:{}", self.bracketed(&zone), self.port)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_scheme(self.secure))
    }
}

const PATH: &str =
    "write ws+unix:/path/of/the/socket:/resource, as in ws+unix:/run/app.sock:/feed, or wss+unix: for TLS";

const FRAGMENT: &str = "it has a fragment (#…), which a WebSocket URL must not have; write %23 for a '#'";

/// Whether a URL of a Unix socket is for TLS, and what follows its scheme. Node's ws and Bun know this scheme.
fn of_unix_socket(url: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    if scheme.eq_ignore_ascii_case("ws+unix") {
        Some((false, rest))
    } else {
        scheme.eq_ignore_ascii_case("wss+unix").then_some((true, rest))
    }
}

/// Path and query, as the request line needs them.
fn absolute(resource: &str) -> Box<str> {
    if resource.starts_with('/') { resource.into() } else { format!("/{resource}").into() }
}

/// What is missing in a URL that does not begin with a scheme of ours and `://`.
fn missing(url: &str) -> String {
    let begins = |start: &str| url.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
    let what = if begins("unix:") {
        return format!("its scheme is unix:, which says nothing of WebSocket; {PATH}");
    } else if url.starts_with("//") {
        "it has no scheme in front of its '//'"
    } else if url.starts_with('/') {
        return format!("it is a path without a scheme; if it is that of a Unix socket, {PATH}");
    } else if begins("ws:") || begins("wss:") {
        "it has no '//' behind its scheme"
    } else if begins("ws//") || begins("wss//") {
        "it has no ':' behind its scheme"
    } else {
        "it has no scheme"
    };
    format!("{what}; it must start with ws:// or wss://, as in ws://example.com:80/path")
}
