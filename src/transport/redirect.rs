//! What to request next, when an answer names another address (RFC 9110, section 15.4).

use std::borrow::Cow;

use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::protocol::UpgradeRequest;
use crate::secrets::{is_secret_header, without_tokens};

/// Whether an answer with this status asks for the same request at another address.
pub(super) fn is_followed(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The request that the answer asks for, and its endpoint. The error says why it is not followed.
pub(super) fn follow(
    request: &UpgradeRequest,
    from: &Endpoint,
    location: &str,
) -> Result<(UpgradeRequest, Endpoint), String> {
    let url = resolve(&request.url, location)?;
    let to = Endpoint::parse(&url).map_err(|error| match error {
        Error::InvalidUrl { reason } => reason.into(),
        other => other.to_string(),
    })?;
    if from.secure && !to.secure {
        return Err("it leads from wss:// to ws://, out of TLS".into());
    }
    let mut next = UpgradeRequest { url, ..request.clone() };
    if is_same_origin(from, &to) {
        // The credentials of a URL are those of its origin, as a header is.
        if to.userinfo.is_none() && from.userinfo.is_some() {
            next.url = with_userinfo(&next.url, &request.url);
        } else if to.userinfo.is_some() && to.userinfo != from.userinfo {
            // The server names others, which a header of one's own would replace.
            next.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Authorization"));
        }
    } else {
        next.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("Host") && !is_secret_header(name));
        next.subprotocols = without_tokens(&request.subprotocols);
    }
    let to = next.check().map_err(|error| error.to_string())?;
    Ok((next, to))
}

/// Whether both have one origin (RFC 6454, section 5). A step from port 80 of a host to TLS on its port 443 counts as none:
/// what was sent there in the clear may be sent there in TLS.
pub(super) fn is_same_origin(from: &Endpoint, to: &Endpoint) -> bool {
    let host = |endpoint: &Endpoint| endpoint.tls_name().to_ascii_lowercase();
    let into_tls = !from.secure && to.secure && (from.port, to.port) == (80, 443);
    (host(from), &from.zone, &from.path) == (host(to), &to.zone, &to.path)
        && ((from.secure, from.port) == (to.secure, to.port) || into_tls)
}

/// Resolves a reference against a WebSocket URL (RFC 3986, section 5.2), without its fragment.
fn resolve(base: &str, location: &str) -> Result<String, String> {
    let location = location.split('#').next().unwrap_or_default();
    if let Some((scheme, rest)) = scheme_of(location) {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => "ws",
            "wss" | "https" => "wss",
            "ws+unix" | "wss+unix" => return Err("a server must not choose a socket of this machine".into()),
            _ => return Err("it is neither a WebSocket nor an HTTP address".into()),
        };
        return Ok(with_plain_path(&format!("{scheme}:{rest}")));
    }
    let (origin, resource) = split(base);
    if location.starts_with("//") {
        let scheme =
            if base.get(..3).is_some_and(|scheme| scheme.eq_ignore_ascii_case("wss")) { "wss" } else { "ws" };
        return Ok(with_plain_path(&format!("{scheme}:{location}")));
    }
    let (path, query) = cut_query(resource);
    // As the request line has it, the resource begins with a slash.
    let path = if path.starts_with('/') { path.into() } else { Cow::from(format!("/{path}")) };
    let (relative, own_query) = cut_query(location);
    let query = if relative.is_empty() && own_query.is_empty() { query } else { own_query };
    let path = if relative.is_empty() {
        path.into_owned()
    } else if relative.starts_with('/') {
        without_dots(relative)
    } else {
        let folder = &path[..=path.rfind('/').unwrap_or_default()];
        without_dots(&format!("{folder}{relative}"))
    };
    Ok(format!("{origin}{path}{query}"))
}

/// The scheme of a reference, if it has one, and what follows the colon.
fn scheme_of(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    is_scheme.then_some((scheme, rest))
}

/// The part of a URL in front of its resource, and the resource. In front of the resource of a Unix socket is a colon.
fn split(url: &str) -> (Cow<'_, str>, &str) {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let start = scheme.len() + 1;
    let slashes = if rest.starts_with("//") { 2 } else { 0 };
    if scheme.to_ascii_lowercase().ends_with("+unix") {
        let (socket, resource) = url.split_at(rest.find([':', '?']).map_or(url.len(), |at| start + at));
        return (format!("{socket}:").into(), resource.strip_prefix(':').unwrap_or(resource));
    }
    let authority = start + slashes;
    let end = url[authority..].find(['/', '?']).map_or(url.len(), |at| authority + at);
    let (origin, resource) = url.split_at(end);
    (origin.into(), resource)
}

/// A reference without its query, and its query with the question mark.
fn cut_query(reference: &str) -> (&str, &str) {
    reference.split_at(reference.find('?').unwrap_or(reference.len()))
}

/// A URL without the dots in its path.
fn with_plain_path(url: &str) -> String {
    let (origin, resource) = split(url);
    let (path, query) = cut_query(resource);
    if path.is_empty() { url.to_owned() } else { format!("{origin}{}{query}", without_dots(path)) }
}

/// RFC 3986, section 5.2.4, for a path that begins with a slash.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// The URL with the user and password of another one, which has some.
fn with_userinfo(url: &str, other: &str) -> String {
    let userinfo = |url: &str| {
        let (origin, _) = split(url);
        let start = origin.find("//").map_or(0, |at| at + 2);
        origin[start..].rfind('@').map(|at| origin[start..=start + at].to_owned())
    };
    match (userinfo(other), url.split_once("//")) {
        (Some(userinfo), Some((scheme, rest))) => {
            let host = rest.split_once('@').filter(|(before, _)| !before.contains(['/', '?']));
            format!("{scheme}//{userinfo}{}", host.map_or(rest, |(_, host)| host))
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    use proptest::prelude::*;

    use super::*;
    use crate::config::ConnectionConfig;

    fn next(config: &ConnectionConfig, location: &str) -> Result<UpgradeRequest, String> {
        let request = UpgradeRequest::new(config);
        let from = request.check().unwrap();
        follow(&request, &from, location).map(|(next, _)| next)
    }

    fn url(base: &str, location: &str) -> String {
        next(&ConnectionConfig::new(base), location).map_or_else(|why| why, |next| next.url)
    }

    #[test]
    fn a_location_is_resolved_against_the_url() {
        let base = "ws://h:81/a/b?x=1";
        for (location, url) in [
            ("ws://i/y", "ws://i/y"),
            ("http://i/y", "ws://i/y"),
            ("HTTPS://i/y?z#f", "wss://i/y?z"),
            ("//i:82/y", "ws://i:82/y"),
            ("/y", "ws://h:81/y"),
            ("/y?z=/../", "ws://h:81/y?z=/../"),
            ("y", "ws://h:81/a/y"),
            ("./y/", "ws://h:81/a/y/"),
            ("../y", "ws://h:81/y"),
            ("../../y/./z/..", "ws://h:81/y/"),
            ("?z", "ws://h:81/a/b?z"),
            ("", "ws://h:81/a/b?x=1"),
            ("#f", "ws://h:81/a/b?x=1"),
            ("y:z", "it is neither a WebSocket nor an HTTP address"),
            ("./y:z", "ws://h:81/a/y:z"),
        ] {
            assert_eq!(self::url(base, location), url, "{location}");
        }
        assert_eq!(url("ws://h", "y"), "ws://h/y");
        assert_eq!(url("ws://h?x", ""), "ws://h/?x");
        assert_eq!(url("wss://h", "//i/y"), "wss://i/y");
    }

    #[test]
    fn the_examples_of_the_rfc_are_resolved_as_it_says() {
        // RFC 3986, section 5.4.
        for (location, resource) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            ("g?y#s", "/b/c/g?y"),
            (";x", "/b/c/;x"),
            ("g;x?y#s", "/b/c/g;x?y"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            (".g", "/b/c/.g"),
            ("g..", "/b/c/g.."),
            ("..g", "/b/c/..g"),
            ("./../g", "/b/g"),
            ("./g/.", "/b/c/g/"),
            ("g/../h", "/b/c/h"),
            ("g;x=1/./y", "/b/c/g;x=1/y"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("g#s/../x", "/b/c/g"),
            ("//a/b/./c/../d?y/../x", "/b/d?y/../x"),
            ("http://a/../d/.", "/d/"),
        ] {
            assert_eq!(url("ws://a/b/c/d;p?q", location), format!("ws://a{resource}"), "{location}");
        }
        assert_eq!(url("ws://a/b/c/d;p?q", "//g"), "ws://g");
    }

    #[cfg(unix)]
    #[test]
    fn a_unix_socket_is_left_for_a_host_and_never_chosen_by_a_server() {
        for (base, there) in [
            ("ws+unix:/run/a.sock:/x/y", "/x/z"),
            ("ws+unix:/run/a.sock:x/y?a:b", "/x/z"),
            ("ws+unix:/run/a.sock:x", "/z"),
            ("ws+unix:/run/a.sock:", "/z"),
            ("ws+unix:/run/a.sock?x=1:2", "/z"),
            ("ws+unix:/run/a.sock", "/z"),
        ] {
            assert_eq!(url(base, "z"), format!("ws+unix:/run/a.sock:{there}"), "{base}");
        }
        assert_eq!(url("ws+unix:///run/a.sock?x=1", "?y"), "ws+unix:///run/a.sock:/?y");
        assert_eq!(url("ws+unix:/run/a.sock:/x", "http://h/z"), "ws://h/z");
        for location in ["ws+unix:/run/b.sock", "wss+unix:/run/b.sock:/x"] {
            assert_eq!(url("wss://h", location), "a server must not choose a socket of this machine");
        }
    }

    #[cfg(unix)]
    proptest! {
        #[test]
        fn whatever_a_server_names_is_a_request_that_can_be_made_or_says_why_not(
            base in prop::sample::select(vec![
                "ws://ann:s3cret@h/x?k=1", "wss://h:81", "ws://[::1]?q", "ws+unix:/run/a:b?q", "wss+unix:///a?q",
            ]),
            location in "(wss?:|https?:|ws\\+unix:|//|[a-z]:)?[a-z@:/?#.%ü \\[\\]-]{0,12}",
        ) {
            let config = ConnectionConfig::new(base);
            let secure = base.starts_with("wss");
            match next(&config, &location) {
                Ok(next) => {
                    let endpoint = next.check().unwrap();
                    prop_assert!(endpoint.secure || !secure, "{}", next.url);
                    prop_assert!(endpoint.path.is_none() || base.contains("+unix"), "{}", next.url);
                    prop_assert!(endpoint.host.as_bytes() == b"h" || !next.url.contains("s3cret"), "{}", next.url);
                }
                Err(why) => prop_assert!(!why.contains("s3cret"), "{why}"),
            }
        }
    }

    #[test]
    fn tls_is_never_left() {
        for location in ["ws://h", "http://h/", "http://other"] {
            assert_eq!(url("wss://h", location), "it leads from wss:// to ws://, out of TLS");
        }
    }

    #[test]
    fn an_address_that_can_not_be_used_says_why() {
        for (location, why) in [
            ("ftp://h", "neither a WebSocket nor an HTTP address"),
            ("javascript:alert(1)", "neither a WebSocket nor an HTTP address"),
            ("http://", "no host"),
            ("http:h", "no '//' behind its scheme"),
            ("http://h:0", "port"),
            ("/a b", "white space"),
        ] {
            assert!(url("ws://h", location).contains(why), "{location}: {}", url("ws://h", location));
        }
    }

    fn with_secrets() -> ConnectionConfig {
        ConnectionConfig::new("ws://ann:s3cret@h/x")
            .header("Authorization", "Bearer s3cret")
            .header("Cookie", "id=s3cret")
            .header("X-Api-Key", "s3cret")
            .header("Proxy-Authorization", "Basic s3cret")
            .header("Host", "front.example")
            .header("Origin", "http://h")
            .header("User-Agent", "me")
            .subprotocol("mqtt")
            .subprotocol("bearer.s3cret")
    }

    #[test]
    fn no_credentials_go_to_another_origin() {
        for location in ["ws://i/y", "ws://h:81/y", "wss://h:8443/y", "wss://i", "ws://h.i/y", "//h:8080"] {
            let next = next(&with_secrets(), location).unwrap();
            let sent = format!("{} {:?} {:?}", next.url, next.headers, next.subprotocols);
            assert!(!sent.contains("s3cret") && !sent.contains("front"), "{location}: {sent}");
            assert_eq!(next.subprotocols, ["mqtt"]);
            let names: Vec<_> = next.headers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["Origin", "User-Agent"]);
        }
    }

    #[test]
    fn the_same_origin_gets_the_same_request() {
        for location in ["/y", "y", "http://h/y", "//H./y", "ws://h:80/y", "https://h/y"] {
            let next = next(&with_secrets(), location).unwrap();
            assert_eq!(
                (next.headers, next.subprotocols),
                (with_secrets().headers, with_secrets().subprotocols)
            );
            assert!(next.url.contains("//ann:s3cret@"), "{location}: {}", next.url);
        }
    }

    #[test]
    fn the_credentials_of_a_location_are_used() {
        for (location, url) in [
            ("ws://bob:pw@h/y", "ws://bob:pw@h/y"),
            ("ws://bob:pw@i/y", "ws://bob:pw@i/y"),
            ("ws://@h/y@z", "ws://ann:s3cret@h/y@z"),
        ] {
            assert_eq!(next(&with_secrets(), location).unwrap().url, url, "{location}");
        }
        let sent = |location| {
            let next = next(&with_secrets(), location).unwrap();
            next.headers.iter().any(|(name, _)| name == "Authorization")
        };
        assert_eq!(["/y", "ws://bob:pw@h/y"].map(sent), [true, false], "a header does not replace them");
    }
}
