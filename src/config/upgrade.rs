//! What the upgrade request may contain.

use crate::config::invalid;
use crate::error::Error;
use crate::secrets::{is_token_char, misnamed, shown_name, shown_subprotocols};

/// RFC 9110, section 5.6.2.
pub(crate) fn is_token(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_token_char)
}

/// Headers of the upgrade that only the client sets.
const OURS: [&str; 9] = [
    "Connection",
    "Upgrade",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Extensions",
    "Sec-WebSocket-Protocol",
    "Content-Length",
    "Transfer-Encoding",
];

pub(crate) fn check_headers(headers: &[(String, String)]) -> Result<(), Error> {
    for (at, (name, value)) in headers.iter().enumerate() {
        check_header(name, value)?;
        let single = ["Host", "Authorization"].iter().any(|single| single.eq_ignore_ascii_case(name));
        if single && headers[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return invalid("headers", format!("{name} is there twice"));
        }
    }
    Ok(())
}

fn check_header(name: &str, value: &str) -> Result<(), Error> {
    if !is_token(name) {
        return invalid("headers", misnamed(name, shown_name(name)));
    }
    if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let instead = match () {
            () if is("Sec-WebSocket-Protocol") => "; use subprotocol",
            () if is("Sec-WebSocket-Extensions") => "; use compression",
            () => "",
        };
        return invalid("headers", format!("{name} is set by the client itself{instead}"));
    }
    check_value(name, value).or_else(|why| invalid("headers", why))
}

/// RFC 9110, section 5.5: CR, LF and NUL would let a value add header lines.
fn check_value(name: &str, value: &str) -> Result<(), String> {
    match value.bytes().position(|b| b != b'\t' && (b < b' ' || b == 0x7f)) {
        Some(at) => Err(format!("the value of {name} has a control character (CR or LF?) at byte {at}")),
        None => Ok(()),
    }
}

/// Checks the headers of CONNECT. The error says what is wrong with them.
pub(super) fn check_proxy_headers(headers: &[(String, String)]) -> Result<(), String> {
    for (at, (name, value)) in headers.iter().enumerate() {
        let is = |others: &[&str]| others.iter().any(|other| other.eq_ignore_ascii_case(name));
        if !is_token(name) {
            return Err(misnamed(name, shown_name(name)));
        }
        // The tunnel would begin with the body that they announce.
        if is(&["Content-Length", "Transfer-Encoding"]) {
            return Err(format!("{name} is set by the client itself"));
        }
        let single = is(&["Host", "Proxy-Authorization"]);
        if single && headers[..at].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err(format!("{name} is there twice"));
        }
        check_value(name, value)?;
    }
    Ok(())
}

pub(crate) fn check_subprotocols(names: &[String]) -> Result<(), Error> {
    let shown = shown_subprotocols(names);
    for (at, (name, shown)) in names.iter().zip(&shown).enumerate() {
        if !is_token(name) {
            return invalid("subprotocols", misnamed(name, shown));
        }
        if names[..at].contains(name) {
            return invalid("subprotocols", format!("{shown:?} is offered twice"));
        }
    }
    Ok(())
}
