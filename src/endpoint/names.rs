//! Host names outside ASCII.

use std::borrow::Cow;

use idna::uts46::verify_dns_length;
use idna::{AsciiDenyList, domain_to_ascii_cow};

/// The form of a host name that the DNS knows (UTS 46): each part outside ASCII in punycode. Otherwise what is wrong with the
/// name, without a character of it.
pub(super) fn to_ascii(host: &str) -> Result<Cow<'_, str>, String> {
    if host.is_ascii() {
        return Ok(Cow::Borrowed(host));
    }
    let name = convert(host).ok_or_else(|| wrong_with(host))?;
    if !name.bytes().all(|byte| byte == b'.') && !verify_dns_length(&name, true) {
        return Err("its host has an empty part, or is too long: in punycode (xn--…), a part has 1 to 63 characters, and all of them have 253 at most".into());
    }
    Ok(name)
}

fn convert(name: &str) -> Option<Cow<'_, str>> {
    domain_to_ascii_cow(name.as_bytes(), AsciiDenyList::URL).ok()
}

fn wrong_with(host: &str) -> String {
    // Some characters can't begin a part, others can't stand behind a letter of another direction.
    let is_bad =
        |c: char| convert(c.encode_utf8(&mut [0; 4])).is_none() && convert(&format!("a{c}")).is_none();
    match host.char_indices().find(|(_, c)| !c.is_ascii() && is_bad(*c)) {
        Some((at, _)) => format!("the character at byte {at} of its host can't stand in a host name (UTS 46)"),
        None => "the characters of its host can't stand together in a host name (UTS 46), such as letters of both directions of writing in one part".into(),
    }
}
