//! Which parts of a request are secret.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD};

use serde_json::Value;

use crate::secrets::looks::{is_harmless_in_login, looks_random, secrets_in_subprotocols, tells};
use crate::secrets::masking::{LEVELS, percent};

/// A shorter part occurs in every text, and can't be kept secret.
const SHORTEST: usize = 4;

/// Headers that hold no secret. A `-` at the end stands for every header that begins with that text.
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

/// Values that choose between well-known options.
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

/// Schemes that may precede credentials in a header of any name.
const SCHEMES: [&str; 7] = ["apikey", "basic", "bearer", "digest", "hawk", "negotiate", "token"];

pub(super) type Parts = Vec<Box<[u8]>>;

pub(super) fn of_url(url: &str, parts: &mut Parts) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (authority, resource) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if let Some((userinfo, _)) = authority.rsplit_once('@') {
        credentials(&decoded(userinfo.as_bytes()), parts);
    }
    let (path, query) = resource.split_once('?').unwrap_or((resource, ""));
    of_path(path, parts);
    if !query.is_empty() {
        // Some servers split at a ';', too.
        for pair in query.split('&').chain(query.split(['&', ';'])) {
            add(value_of(pair).as_bytes(), parts);
        }
    }
}

pub(super) fn of_path(path: &str, parts: &mut Parts) {
    path.split('/').for_each(|segment| of_segment(segment, parts));
}

/// A segment of the path is secret if it looks random, and so is each piece of it that does: of `bot123:ABC…` the
/// server also knows the token without its user.
fn of_segment(segment: &str, parts: &mut Parts) {
    let readable = decoded(segment.as_bytes());
    let readable = String::from_utf8_lossy(&readable);
    if looks_random(&readable) {
        add(segment.as_bytes(), parts);
        let pieces = readable.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        pieces.filter(|piece| looks_random(piece)).for_each(|piece| add(piece.as_bytes(), parts));
    }
}

/// `user:password`, decoded. A user without a password is usually a token.
fn credentials(userinfo: &[u8], parts: &mut Parts) {
    let (user, password) = match userinfo.iter().position(|byte| *byte == b':') {
        Some(at) => (&userinfo[..at], &userinfo[at + 1..]),
        None => (userinfo, &[][..]),
    };
    add(user, parts);
    add(password, parts);
    // The credentials as they are sent (RFC 7617).
    let sent = [user, b":", password].concat();
    if sent.len() > 1 {
        add(BASE64.encode(&sent).as_bytes(), parts);
        add(BASE64URL_NOPAD.encode(&sent).as_bytes(), parts);
    }
    if !password.is_empty() {
        // User or password alone may be too short.
        add(&sent, parts);
    }
}

pub(super) fn of_subprotocols(names: &[String], parts: &mut Parts) {
    for (name, starts) in secrets_in_subprotocols(names) {
        for start in starts {
            add(&name.as_bytes()[start..], parts);
        }
    }
}

/// The secrets in a login message: each text and number under a name that announces a secret, and each text that does
/// not consist of words.
pub(super) fn of_login(name: &str, value: &Value, parts: &mut Parts) {
    match value {
        Value::String(text) if tells(name) || !is_harmless_in_login(text) => add(text.as_bytes(), parts),
        Value::Number(number) if tells(name) => add(number.to_string().as_bytes(), parts),
        Value::Array(values) => values.iter().for_each(|value| of_login(name, value, parts)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| of_login(name, value, parts)),
        _ => {}
    }
}

/// Whether a header, whose name is in lower case, never holds a secret.
pub(super) fn is_harmless(name: &str) -> bool {
    HARMLESS.iter().any(|known| if known.ends_with('-') { name.starts_with(known) } else { name == *known })
}

pub(super) fn of_header(name: &str, value: &str, parts: &mut Parts) {
    if is_harmless(name) {
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

/// The value after the name, if there is a name. A trailing `=` belongs to base64.
fn value_of(pair: &str) -> &str {
    match pair.split_once('=') {
        Some((_, value)) if !value.trim_matches('=').is_empty() => value,
        _ => pair,
    }
}

/// Adds a part as it is, and decoded.
pub(super) fn add(part: &[u8], parts: &mut Parts) {
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
