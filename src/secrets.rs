//! What of a request may be shown to nobody, and how it is taken out of what a server says.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD};

/// What a request holds that is secret: its password and its tokens, each by itself, since a server may repeat any part of
/// what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<[Box<[u8]>]>);

/// Anything shorter is no secret that could be kept.
const SHORTEST: usize = 4;

/// Of a secret that is cut off where the text ends, so much is hidden.
const SHORTEST_START: usize = 8;

/// How often what is escaped may have been escaped again.
const LEVELS: usize = 4;

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

impl Secrets {
    /// The secrets of a request for this URL, with these headers.
    pub(crate) fn of(url: &str, headers: &[(String, String)]) -> Self {
        let mut parts = Vec::new();
        of_url(url, &mut parts);
        for (name, value) in headers {
            of_header(&name.to_ascii_lowercase(), value, &mut parts);
        }
        parts.sort_unstable();
        parts.dedup();
        Self(parts.into())
    }

    /// The text with `***` in place of each secret in it, whether a server repeats it as it was sent, decoded,
    /// percent-encoded, escaped as in JSON, or in other letters.
    pub(crate) fn hide(&self, text: &str) -> String {
        let mut hidden = vec![false; text.len()];
        for at in 0..text.len() {
            // Which of them is longest decides how much is hidden.
            let ends = self.0.iter().filter_map(|part| end_of(part, &text.as_bytes()[at..]));
            if let Some(end) = ends.max() {
                hidden[at..at + end].fill(true);
            }
        }
        let mut shown = String::with_capacity(text.len());
        let mut inside = false;
        for (at, c) in text.char_indices() {
            let hide = hidden[at..at + c.len_utf8()].contains(&true);
            match (inside, hide) {
                (false, true) => shown.push_str("***"),
                (_, false) => shown.push(c),
                (true, true) => {}
            }
            inside = hide;
        }
        shown
    }
}

/// What may be shown of a name that is to be a token (RFC 9110, section 5.6.2): what stands behind the first character that
/// no token has may be a value.
pub(crate) fn shown_name(name: &str) -> &str {
    &name[..name.find(|c| !is_token_char(c)).unwrap_or(name.len())]
}

/// What is wrong with a name that is no token, without what may be a value behind it.
pub(crate) fn misnamed(name: &str) -> String {
    let shown = shown_name(name);
    let what = match name[shown.len()..].chars().next() {
        Some(c) if shown.is_empty() => format!("a name begins with {c:?}"),
        Some(c) => format!("the name that begins with {shown:?} has a {c:?}"),
        None => "a name is empty".into(),
    };
    format!("{what}; it is made of letters, digits and !#$%&'*+-.^_`|~")
}

/// RFC 9110, section 5.6.2.
pub(crate) fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// Two things that a server said are the same whatever was asked.
impl PartialEq for Secrets {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Secrets {}

impl Hash for Secrets {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

type Parts = Vec<Box<[u8]>>;

fn of_url(url: &str, parts: &mut Parts) {
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

fn of_header(name: &str, value: &str, parts: &mut Parts) {
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

/// Where `part` ends if the text begins with it, or with its start and breaks off there.
fn end_of(part: &[u8], text: &[u8]) -> Option<usize> {
    let begins = matches!((part, text), ([a, ..], [b, ..]) if is_escape(*b) || same(*a, *b));
    if !begins {
        return None;
    }
    let mut longest = None;
    // How far the part and the text were read. What is escaped can be read in more than one way.
    let mut states = BTreeSet::from([(0, 0)]);
    while let Some((known, at)) = states.pop_first() {
        let (missing, rest) = (&part[known..], &text[at..]);
        let breaks_off = match rest {
            [] => true,
            _ => is_escape(rest[0]) && rest.len() < LONGEST_ESCAPE && escaped(rest, 0).is_empty(),
        };
        if missing.is_empty() {
            longest = longest.max(Some(at));
        } else if breaks_off && known >= SHORTEST_START {
            longest = longest.max(Some(text.len()));
        }
        let Some(first) = rest.first() else { continue };
        if missing.first().is_some_and(|byte| same(*byte, *first)) {
            states.insert((known + 1, at + 1));
        }
        if is_escape(*first) {
            for (bytes, length) in escaped(rest, LEVELS) {
                let fits =
                    missing.len() >= bytes.len() && bytes.iter().zip(missing).all(|(a, b)| same(*a, *b));
                if fits {
                    states.insert((known + bytes.len(), at + length));
                }
            }
        }
    }
    longest
}

fn same(a: u8, b: u8) -> bool {
    // In a query, a '+' is a space.
    let is_space = |byte| byte == b' ' || byte == b'+';
    a.eq_ignore_ascii_case(&b) || is_space(a) && is_space(b)
}

fn is_escape(byte: u8) -> bool {
    byte == b'%' || byte == b'\\'
}

/// `\u00e4`
const LONGEST_ESCAPE: usize = 6;

/// What an escape at the start of the text may stand for, with its length: `%XX` (RFC 3986, section 2.1), or a backslash
/// and what follows (RFC 8259, section 7). Either may have been escaped again.
fn escaped(text: &[u8], levels: usize) -> Vec<(Vec<u8>, usize)> {
    let mut found = Vec::new();
    match text {
        [b'%', rest @ ..] => {
            let mut read = 0;
            while let Some(byte) = rest.get(read..).and_then(percent).filter(|_| read <= 2 * levels) {
                read += 2;
                found.push((vec![byte], 1 + read));
                if byte != b'%' {
                    break;
                }
            }
        }
        [b'\\', rest @ ..] => {
            match rest {
                [b'n', ..] => found.push((vec![b'\n'], 2)),
                [b'r', ..] => found.push((vec![b'\r'], 2)),
                [b't', ..] => found.push((vec![b'\t'], 2)),
                [b'u', digits @ ..] => {
                    let c = digits.get(..4).and_then(hex).and_then(char::from_u32);
                    found.extend(c.map(|c| (c.to_string().into_bytes(), LONGEST_ESCAPE)));
                }
                [other, ..] => found.push((vec![*other], 2)),
                [] => {}
            }
            if levels > 0 {
                found
                    .extend(escaped(rest, levels - 1).into_iter().map(|(bytes, length)| (bytes, length + 1)));
            }
        }
        _ => {}
    }
    found
}

fn percent(digits: &[u8]) -> Option<u8> {
    digits.get(..2).and_then(hex).and_then(|code| u8::try_from(code).ok())
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests;
