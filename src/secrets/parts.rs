//! Which parts of a request are secret.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD};

use crate::secrets::masking::{LEVELS, percent};

/// Anything shorter is no secret that could be kept.
const SHORTEST: usize = 4;

/// Headers that hold no secret; a `-` at the end stands for all that begin so.
const HARMLESS: [&str; 20] = [
    "accept",
    "accept-",
    "cache-control",
    "connection",
    "content-type",
    "date",
    "dnt",
    "forwarded",
    "host",
    "origin",
    "pragma",
    "sec-ch-",
    "sec-fetch-",
    "sec-websocket-",
    "traceparent",
    "upgrade",
    "user-agent",
    "via",
    "x-correlation-id",
    "x-request-id",
];

/// Values that choose between what everybody knows.
const WORDS: [&str; 12] = [
    "binary",
    "false",
    "gzip",
    "identity",
    "json",
    "msgpack",
    "none",
    "null",
    "polling",
    "text",
    "true",
    "websocket",
];

/// What may stand before credentials in a header of any name.
const SCHEMES: [&str; 7] = ["apikey", "basic", "bearer", "digest", "hawk", "negotiate", "token"];

pub(super) type Parts = Vec<Box<[u8]>>;

pub(super) fn of_url(url: &str, parts: &mut Parts) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, resource) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if let Some((userinfo, _)) = authority.rsplit_once('@') {
        credentials(&decoded(userinfo.as_bytes()), parts);
    }
    if let Some((_, query)) = resource.split_once('?') {
        // Some servers split at a ';', too.
        for pair in query.split('&').chain(query.split(['&', ';'])) {
            add(value_of(pair).as_bytes(), parts);
        }
    }
}

/// `user:password`, decoded. A user without a password is a token, as a rule.
fn credentials(userinfo: &[u8], parts: &mut Parts) {
    let (user, password) = match userinfo.iter().position(|byte| *byte == b':') {
        Some(at) => (&userinfo[..at], &userinfo[at + 1..]),
        None => (userinfo, &[][..]),
    };
    add(if password.is_empty() { user } else { password }, parts);
    // As it is sent (RFC 7617).
    let sent = [user, b":", password].concat();
    if sent.len() > 1 {
        add(BASE64.encode(&sent).as_bytes(), parts);
        add(BASE64URL_NOPAD.encode(&sent).as_bytes(), parts);
    }
}

pub(super) fn of_header(name: &str, value: &str, parts: &mut Parts) {
    let harmless =
        |known: &&str| if known.ends_with('-') { name.starts_with(*known) } else { name == *known };
    if HARMLESS.iter().any(harmless) {
        return;
    }
    let (scheme, behind) = value.trim().split_once([' ', '\t']).unwrap_or_default();
    let scheme = scheme.to_ascii_lowercase();
    let value = if name.ends_with("authorization") && !scheme.is_empty() || SCHEMES.contains(&&*scheme) {
        behind.trim()
    } else {
        value
    };
    if scheme == "basic"
        && let Ok(userinfo) = BASE64_NOPAD.decode(value.trim_end_matches('=').as_bytes())
    {
        credentials(&userinfo, parts);
    }
    if name != "cookie" {
        add(value.as_bytes(), parts);
    }
    for pair in value.split([',', ';']) {
        add(value_of(pair).as_bytes(), parts);
    }
}

/// What stands behind the name, if there is a name: `=` at the end belongs to base64.
fn value_of(pair: &str) -> &str {
    match pair.split_once('=') {
        Some((_, value)) if !value.trim_matches('=').is_empty() => value,
        _ => pair,
    }
}

/// Adds what it is, and what it is when it is decoded.
fn add(part: &[u8], parts: &mut Parts) {
    let mut part = part.to_vec();
    for _ in 0..LEVELS {
        let around = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'"';
        let start = part.iter().take_while(|byte| around(byte)).count();
        let end = part.iter().rposition(|byte| !around(byte) && *byte != b'=').map_or(start, |at| at + 1);
        let bare = &part[start.min(end)..end];
        let is_word = WORDS.iter().any(|word| bare.eq_ignore_ascii_case(word.as_bytes()));
        if bare.len() >= SHORTEST && !is_word {
            parts.push(bare.into());
        }
        part = decoded(&part);
    }
}

/// Undoes percent-encoding.
fn decoded(mut encoded: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(encoded.len());
    while let [first, rest @ ..] = encoded {
        let byte = if *first == b'%' { percent(rest) } else { None };
        decoded.push(byte.unwrap_or(*first));
        encoded = &rest[if byte.is_some() { 2 } else { 0 }..];
    }
    decoded
}
