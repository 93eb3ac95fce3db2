//! The authority of a URL (RFC 3986, section 3.2): credentials, host and port.

use std::net::Ipv6Addr;

use crate::endpoint::names;
use crate::endpoint::percent::{LOGIN, decode};
use crate::error::Error;

/// What to do about a URL that [`is_cut`].
pub(crate) const CUT: &str =
    "if a '/', '?' or '#' in front of its '@' is one of the user name or password, write %2F, %3F or %23";

/// Whether host and port may have been cut short by a character of a user name or password that is not percent-encoded.
/// `behind` is what follows them.
pub(crate) fn is_cut(authority: &str, behind: &str) -> bool {
    !authority.contains('@') && behind.contains('@')
}

pub(super) fn port_of(digits: Option<&str>, default: u16) -> Result<u16, Error> {
    match digits.unwrap_or_default() {
        "" => Ok(default),
        digits => match digits.parse() {
            Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(port),
            _ => Err(Error::InvalidUrl { reason: "its port is not a number from 1 to 65535".into() }),
        },
    }
}

/// Host, zone and port.
type Authority<'a> = (Box<str>, Option<Box<str>>, Option<&'a str>);

pub(super) fn split_host(authority: &str) -> Result<Authority<'_>, Error> {
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
pub(super) fn credentials(userinfo: &str) -> Result<Option<Box<str>>, Error> {
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
