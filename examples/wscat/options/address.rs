//! The URL of the server.

use std::net::IpAddr;

/// Puts a scheme before a URL that has none. TLS is for the name of a host without a port or with that of HTTPS: what listens at
/// another port, at an address or on this machine speaks rarely TLS.
pub(crate) fn completed(url: &str) -> Option<String> {
    let is_unix =
        |scheme: &str| url.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme));
    if url.is_empty() || url.contains("://") || is_unix("ws+unix:") || is_unix("wss+unix:") {
        return None;
    }
    // What is broken stays so, and the error is about what was typed: a name ws may have a port.
    if let Some((":" | "ws:" | "wss:", rest)) = url.find(':').map(|at| url.split_at(at + 1))
        && !rest.starts_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    if url.starts_with(':') {
        return Some(format!("ws://localhost{url}"));
    }
    let authority = url.split(['/', '?', '#']).next().unwrap_or_default();
    let place = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match place.strip_prefix('[').and_then(|place| place.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':')),
        None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
    };
    let is_near = host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok();
    let scheme = match port {
        Some("443") => "wss",
        None if !is_near => "wss",
        _ => "ws",
    };
    Some(format!("{scheme}://{url}"))
}
