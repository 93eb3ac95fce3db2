//! A WebSocket URL, parsed once into something that can't be wrong.

mod names;
mod percent;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

pub(crate) use crate::endpoint::percent::{LOGIN, decode};
use crate::error::Error;

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
            return bad(format!(
                "{}; it must start with ws:// or wss://, as in ws://example.com:80/path",
                missing(url)
            ));
        };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" => false,
            "wss" => true,
            other if other.len() <= 8 && other.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                return bad(format!("its scheme is {other}://; it must start with ws:// or wss://"));
            }
            _ => return bad("it must start with ws:// or wss://".into()),
        };
        if rest.contains('#') {
            return bad(FRAGMENT.into());
        }
        let (authority, resource) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
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
        let (host, zone, port) = split_host(authority)?;
        let port = match port {
            None | Some("") => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(digits) => match digits.parse() {
                Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => port,
                _ => return bad("its port is not a number from 1 to 65535".into()),
            },
        };
        Ok(Self { secure, host, zone, port, resource: absolute(resource), path: None, userinfo })
    }

    /// Parses `/path/of/the/socket:/resource`, which may begin with `//`. The path is percent-decoded.
    fn parse_path(secure: bool, rest: &str) -> Result<Self, Error> {
        let bad = |reason: &str| Err(Error::InvalidUrl { reason: reason.into() });
        if !cfg!(unix) {
            return bad("its scheme is for Unix sockets, which this system does not have");
        }
        if rest.contains('#') {
            return bad(FRAGMENT);
        }
        let rest = rest.strip_prefix("//").unwrap_or(rest);
        let (path, resource) = rest.split_at(rest.find([':', '?']).unwrap_or(rest.len()));
        let path = decode(path, "the path of its socket")?;
        if !path.starts_with('/') || path.contains(char::is_control) {
            return bad(
                "its socket has no absolute path; write ws+unix:/path/of/the/socket:/resource, as in ws+unix:/run/app.sock:/feed",
            );
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

/// What is missing in a URL that does not begin with a scheme and `://`.
fn missing(url: &str) -> &'static str {
    let begins = |start: &str| url.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start));
    if url.starts_with("//") {
        "it has no scheme in front of its '//'"
    } else if begins("ws:") || begins("wss:") {
        "it has no '//' behind its scheme"
    } else if begins("ws//") || begins("wss//") {
        "it has no ':' behind its scheme"
    } else {
        "it has no scheme"
    }
}

/// Host, zone and port.
type Authority<'a> = (Box<str>, Option<Box<str>>, Option<&'a str>);

fn split_host(authority: &str) -> Result<Authority<'_>, Error> {
    let bad = |reason: &str| Err(Error::InvalidUrl { reason: reason.into() });
    if let Some(rest) = authority.strip_prefix('[') {
        let Some((host, rest)) = rest.split_once(']') else {
            return bad("its IPv6 address has no closing bracket");
        };
        let (host, zone) = match host.split_once('%') {
            Some((host, zone)) => (host, Some(zone)),
            None => (host, None),
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return bad("what stands in brackets is not an IPv6 address");
        }
        let zone = match zone.map(|zone| zone.strip_prefix("25").unwrap_or_default()) {
            // RFC 6874, section 2. Only characters that need no percent-encoding are allowed.
            Some(zone) if zone.is_empty() || !zone.bytes().all(is_unreserved) => {
                return bad(
                    "the zone of its IPv6 address is not '%25' and the name or the number of an interface, as in [fe80::1%25eth0]; write the number if the name has other characters than letters, digits and -._~",
                );
            }
            zone => zone.map(Into::into),
        };
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host.into(), zone, Some(port))),
            None if rest.is_empty() => Ok((host.into(), zone, None)),
            None => bad("something other than a port follows the IPv6 address"),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if port.is_some_and(|port| port.contains(':')) {
        return bad("it has more than one ':' in host and port; an IPv6 address stands in brackets");
    }
    let is_good = |b: u8| !b.is_ascii() || b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if !host.bytes().all(is_good) {
        return bad("its host has a character that no host name has");
    }
    let host = names::to_ascii(host).map_err(|reason| Error::InvalidUrl { reason: reason.into() })?;
    if host.bytes().all(|b| b == b'.') {
        return bad("it has no host");
    }
    if !host.bytes().all(is_good) {
        return bad("its host has a character that no host name has");
    }
    Ok((host.into(), None, port))
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The text of Basic credentials (RFC 7617, section 2), or `None` if both parts are empty.
fn credentials(userinfo: &str) -> Result<Option<Box<str>>, Error> {
    let bad = |reason: &str| Err(Error::InvalidUrl { reason: reason.into() });
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let (user, password) = (decode(user, LOGIN)?, decode(password, LOGIN)?);
    // The server would take the text after the colon for the password.
    if user.contains(':') {
        return bad(
            "its user name has a colon (%3A), which Basic credentials can't carry; log in as another user, or by a header of your own",
        );
    }
    if user.chars().chain(password.chars()).any(char::is_control) {
        return bad("its user name or password has a control character, which Basic credentials can't carry");
    }
    Ok((!user.is_empty() || !password.is_empty()).then(|| format!("{user}:{password}").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (bool, String, u16, String) {
        let e = Endpoint::parse(url).unwrap();
        (e.secure, e.host.into(), e.port, e.resource.into())
    }

    #[test]
    fn urls_are_taken_apart() {
        assert_eq!(parsed("ws://example.com"), (false, "example.com".into(), 80, "/".into()));
        assert_eq!(parsed("wss://example.com"), (true, "example.com".into(), 443, "/".into()));
        assert_eq!(parsed("WSS://h:9000/a/b?x=1"), (true, "h".into(), 9000, "/a/b?x=1".into()));
        assert_eq!(parsed("ws://h?x=1"), (false, "h".into(), 80, "/?x=1".into()));
        assert_eq!(parsed("ws://h:/x"), (false, "h".into(), 80, "/x".into()));
        assert_eq!(parsed("ws://[::1]:81/"), (false, "::1".into(), 81, "/".into()));
        assert_eq!(parsed("ws://h/a@b:c"), (false, "h".into(), 80, "/a@b:c".into()));
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_stands_in_front_of_the_resource() {
        let parsed = |url| {
            let endpoint = Endpoint::parse(url).unwrap();
            (endpoint.to_string(), endpoint.resource.into_string())
        };
        let app = |resource: &str| ("unix:/run/app.sock".to_owned(), resource.to_owned());
        assert_eq!(parsed("ws+unix:/run/app.sock"), app("/"));
        assert_eq!(parsed("ws+unix:/run/app.sock:"), app("/"));
        assert_eq!(parsed("WS+UNIX:/run/app.sock:/feed?x=1"), app("/feed?x=1"));
        assert_eq!(parsed("ws+unix:///run/app.sock:/a:b"), app("/a:b"));
        assert_eq!(parsed("ws+unix:/run/app.sock?x=1"), app("/?x=1"));
        assert_eq!(parsed("ws+unix:/run/a%3Ab%20c:/x").0, "unix:/run/a:b c");
        let secure = Endpoint::parse("wss+unix:/run/app.sock:/s3cret").unwrap();
        assert_eq!(
            (secure.secure, secure.host_header(), secure.tls_name()),
            (true, "localhost".into(), "localhost")
        );
        assert_eq!(format!("{secure:?}"), "wss+unix:/run/app.sock");
        for bad in ["ws+unix:", "ws+unix:run/app.sock", "ws+unix://host/run/app.sock", "ws+unix:/run/%0A"] {
            assert!(Endpoint::parse(bad).unwrap_err().to_string().contains("absolute path"), "{bad}");
        }
        assert!(Endpoint::parse("ws+unix:/run/%zz").unwrap_err().to_string().contains("percent-encoded"));
        assert!(Endpoint::parse("ws+unix:/run/a:/ü").unwrap_err().to_string().contains("outside ASCII"));
        assert_eq!(parsed("ws+unix:/run/ü:/x").0, "unix:/run/ü");
        assert!(Endpoint::parse("ws+unix:/run/a#b").unwrap_err().to_string().contains("fragment"));
    }

    #[test]
    fn a_host_outside_ascii_is_in_punycode_wherever_it_is_used_or_shown() {
        let endpoint = Endpoint::parse("wss://me:pw@Bücher.Example:81/x").unwrap();
        assert_eq!((&*endpoint.host, &*endpoint.name()), ("xn--bcher-kva.example", "xn--bcher-kva.example"));
        assert_eq!(endpoint.host_header(), "xn--bcher-kva.example:81");
        assert_eq!(endpoint.tls_name(), "xn--bcher-kva.example");
        assert_eq!(endpoint.to_string(), "xn--bcher-kva.example:81");
        for (url, host) in [
            ("ws://例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("ws://faß.example.", "xn--fa-hia.example."),
            // A full stop of another script is one of a host name, too, and so are digits.
            ("ws://bücher。example", "xn--bcher-kva.example"),
            ("ws://１２７.0.0.1", "127.0.0.1"),
            // What is ASCII already stays as it is.
            ("ws://XN--Bcher-KVA.Example", "XN--Bcher-KVA.Example"),
        ] {
            assert_eq!(&*Endpoint::parse(url).unwrap().host, host, "{url}");
        }
        let long = format!("ws://{}.example", "ü".repeat(64));
        assert!(Endpoint::parse(&long).unwrap_err().to_string().contains("is too long"));
    }

    #[test]
    fn userinfo_is_decoded_and_never_shown() {
        let endpoint = Endpoint::parse("ws://bob:p%40ss@h:1/x?token=s3cret").unwrap();
        assert_eq!(endpoint.userinfo.as_deref(), Some("bob:p@ss"));
        for shown in [format!("{endpoint}"), format!("{endpoint:?}")] {
            assert!(!shown.contains("ss@") && !shown.contains("bob") && !shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn userinfo_is_sent_only_where_there_is_any() {
        let userinfo = |url| Endpoint::parse(url).unwrap().userinfo;
        for none in ["ws://h", "ws://@h", "ws://:@h"] {
            assert_eq!(userinfo(none), None, "{none}");
        }
        assert_eq!(userinfo("ws://bob@h").as_deref(), Some("bob:"));
        assert_eq!(userinfo("ws://:pw@h").as_deref(), Some(":pw"));
        assert_eq!(userinfo("ws://bob:p:w%3A@h").as_deref(), Some("bob:p:w:"));
    }

    #[test]
    fn the_dot_behind_an_absolute_name_is_no_part_of_the_name_that_tls_checks() {
        let endpoint = Endpoint::parse("wss://name.example.").unwrap();
        assert_eq!((endpoint.tls_name(), &*endpoint.name()), ("name.example", "name.example."));
        assert_eq!(
            (endpoint.host_header(), endpoint.to_string()),
            ("name.example.".into(), "name.example.:443".into())
        );
        assert_eq!(Endpoint::parse("wss://h").unwrap().tls_name(), "h");
    }

    #[test]
    fn the_zone_of_an_address_is_shown_and_dialled_and_not_sent() {
        let endpoint = Endpoint::parse("wss://[fe80::1%25eth0]/x").unwrap();
        assert_eq!((endpoint.host_header(), endpoint.tls_name()), ("[fe80::1]".into(), "fe80::1"));
        assert_eq!(
            (endpoint.to_string(), &*endpoint.name()),
            ("[fe80::1%25eth0]:443".into(), "fe80::1%eth0")
        );
        assert_eq!(endpoint.address(), None, "the system knows the number of an interface");
        let numbered = Endpoint::parse("ws://[fe80::1%257]:81").unwrap();
        assert_eq!(numbered.host_header(), "[fe80::1]:81");
        assert_eq!(numbered.address(), Some("[fe80::1%7]:81".parse().unwrap()));
    }

    #[test]
    fn an_address_needs_no_look_up() {
        let address = |url| Endpoint::parse(url).unwrap().address();
        assert_eq!(address("ws://127.0.0.1:81"), Some("127.0.0.1:81".parse().unwrap()));
        assert_eq!(address("ws://[::1]"), Some("[::1]:80".parse().unwrap()));
        assert_eq!(address("ws://localhost"), None);
    }

    #[test]
    fn the_host_header_brackets_ipv6_and_leaves_the_default_port_out() {
        let host = |url| Endpoint::parse(url).unwrap().host_header();
        assert_eq!(host("ws://h"), "h");
        assert_eq!(host("ws://h:443"), "h:443");
        assert_eq!(host("wss://h:443"), "h");
        assert_eq!(host("wss://[::1]:8443"), "[::1]:8443");
    }

    #[test]
    fn a_bad_url_says_what_is_wrong_and_repeats_no_secret() {
        for (url, says) in [
            ("", "it has no scheme; it must start with ws:// or wss://, as in ws://example.com:80/path"),
            ("example.com", "it has no scheme; it must start with ws:// or wss://, as in ws://"),
            ("h:80/x", "it has no scheme; it must start with ws:// or wss://, as in ws://"),
            ("h:80/x?s3cret=a://b", "it has no scheme; it must start with ws:// or wss://, as in ws://"),
            ("//h", "it has no scheme in front of its '//'; it must start with ws:// or wss://, as in ws://"),
            ("ws:/h", "it has no '//' behind its scheme; it must start with ws:// or wss://, as in ws://"),
            ("WS:h", "it has no '//' behind its scheme; it must start with ws:// or wss://, as in ws://"),
            ("wss:/h?s3cret=a://b", "it has no '//' behind its scheme; it must start with ws:// or wss://"),
            ("wss//h", "it has no ':' behind its scheme; it must start with ws:// or wss://, as in ws://"),
            ("http://h", "http://"),
            ("s3cret s3cret://h", "white space"),
            ("s3cretsecret://h", "must start with"),
            ("ws:// h", "white space"),
            ("ws://h\r\nX: y", "control character"),
            ("ws://", "no host"),
            ("ws:///path", "no host"),
            ("ws://user:s3cret@", "no host"),
            ("ws://:80", "no host"),
            ("ws://h:0", "port"),
            ("ws://h:99999", "port"),
            ("ws://h:+80", "port"),
            ("ws://user:s3cret/@h", "port"),
            ("ws://h#s3cret", "fragment"),
            ("ws://h/x#s3cret", "fragment"),
            ("ws://::1", "brackets"),
            ("ws://[::1", "closing bracket"),
            ("ws://[s3cret]", "IPv6"),
            ("ws://[::1]s3cret", "port"),
            ("ws://[fe80::1%eth0]", "[fe80::1%25eth0]"),
            ("ws://[fe80::1%25]", "[fe80::1%25eth0]"),
            ("ws://[fe80::1%25s3cret%2F]", "write the number"),
            ("ws://[s3cret%25eth0]", "not an IPv6 address"),
            ("ws://.", "no host"),
            ("ws://us%3Aer:s3cret@h", "user name has a colon (%3A)"),
            ("ws://us%3As3cret@h", "user name has a colon (%3A)"),
            ("ws://user:s3cret%0A@h", "control character"),
            ("ws://b%zz@h", "percent"),
            ("ws://b%4@h", "percent"),
            (
                "ws://bücher.example/s3cret/ü",
                "a character outside ASCII at byte 28; write it percent-encoded",
            ),
            ("ws://h?s3cret=ü", "a character outside ASCII at byte 14; write it percent-encoded"),
            ("ws://ü:s3cret@h", "a character outside ASCII at byte 5; write it percent-encoded"),
            ("ws://h:8ü", "port"),
            ("ws://[::1ü]", "not an IPv6 address"),
            ("wsü://h", "must start with ws://"),
            ("ws://bü<s3cret", "its host has a character that no host name has"),
            ("ws://s3cret\u{fffd}.example", "the character at byte 6 of its host can't stand in a host name"),
            ("ws://bücher\u{2488}example", "the character at byte 7 of its host can't stand in a host name"),
            ("ws://s3cret\u{5d0}.example", "letters of both directions"),
            ("ws://bücher..s3cret", "has an empty part"),
            ("ws://\u{ad}", "no host"),
            ("ws://\u{3002}", "no host"),
            ("ws://a<b", "character"),
        ] {
            let error = Endpoint::parse(url).expect_err(url).to_string();
            assert!(error.contains(says), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
