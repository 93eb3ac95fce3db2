//! The parts of a request that must never be shown, and how they are removed from what a server says.

mod looks;
mod masking;
mod parts;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::Value;

use crate::secrets::looks::secrets_in_subprotocols;
use crate::secrets::masking::Search;
use crate::secrets::parts::{Parts, add, is_harmless, of_header, of_login, of_path, of_subprotocols, of_url};

/// The secrets of a request: its password and its tokens. Each is kept separately, because a server may repeat any part
/// of the request.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<[Box<[u8]>]>);

impl Secrets {
    /// The secrets of a request for this URL, with these headers and subprotocols.
    pub(crate) fn of(url: &str, headers: &[(String, String)], subprotocols: &[String]) -> Self {
        Self::gathered(|parts| {
            of_url(url, parts);
            for (name, value) in headers {
                of_header(&name.to_ascii_lowercase(), value, parts);
            }
            of_subprotocols(subprotocols, parts);
        })
    }

    /// The secrets of a login message.
    pub(crate) fn of_login(message: &Value) -> Self {
        // A login that is a plain text consists of its secret alone.
        let name = if message.is_string() { "token" } else { "" };
        Self::gathered(|parts| of_login(name, message, parts))
    }

    /// A secret that the caller names.
    pub(crate) fn of_text(text: &str) -> Self {
        Self::gathered(|parts| add(text.as_bytes(), parts))
    }

    /// Parts of a URL's path that look like a secret.
    pub(crate) fn of_path(path: &str) -> Self {
        Self::gathered(|parts| of_path(path, parts))
    }

    fn gathered(gather: impl FnOnce(&mut Parts)) -> Self {
        let mut parts = Parts::new();
        gather(&mut parts);
        parts.sort_unstable();
        parts.dedup();
        Self(parts.into())
    }

    /// The secrets of both.
    pub(crate) fn and(&self, others: &Self) -> Self {
        let new = others.0.iter().filter(|part| !self.0.contains(part));
        Self(self.0.iter().chain(new).cloned().collect())
    }

    /// The newest `most` parts.
    pub(crate) fn newest(self, most: usize) -> Self {
        match self.0.len().checked_sub(most) {
            None | Some(0) => self,
            Some(old) => Self(self.0[old..].into()),
        }
    }

    /// The text with `***` in place of each secret in it. A secret is recognised as it was sent, decoded,
    /// percent-encoded, escaped as in JSON or HTML, and in upper or lower case. A secret of 4 to 7 bytes is hidden only
    /// where it is not part of a longer word.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.search(text).shown()
    }

    /// The first `most` characters of what a peer said, without secrets. The rest costs nothing, however long it is.
    pub(crate) fn hide_start(&self, text: &str, most: usize) -> String {
        // What follows may be needed to find a secret that begins in what is shown.
        let start = cut(text, most + LOOKED_BEHIND);
        let mut shown = self.hide(start);
        if let Some((end, _)) = shown.char_indices().nth(most) {
            shown.truncate(end);
            shown.push('…');
        } else if start.len() < text.len() {
            shown.push('…');
        }
        shown
    }

    fn search<'a>(&self, text: &'a str) -> Search<'a> {
        let mut search = Search::new(text);
        self.0.iter().for_each(|part| search.hide(part));
        search
    }
}

/// So many bytes behind what is shown are searched: enough for the eight bytes of a secret by which it is known where the text
/// is cut, however they are escaped.
const LOOKED_BEHIND: usize = 256;

/// The first bytes of a text, `most` of them or a few less.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// How much may be shown of a name that should be a token (RFC 9110, section 5.6.2): the part before the first
/// character that no token has. What follows may be a value.
pub(crate) fn shown_name(name: &str) -> &str {
    &name[..name.find(|c| !is_token_char(c)).unwrap_or(name.len())]
}

/// How much may be shown of the offered subprotocols.
pub(crate) fn shown_subprotocols(names: &[String]) -> Vec<String> {
    let shown = secrets_in_subprotocols(names).map(|(name, starts)| {
        let name = shown_name(name);
        match starts.into_iter().min() {
            Some(start) if start < name.len() => format!("{}***", &name[..start]),
            _ => name.to_owned(),
        }
    });
    shown.collect()
}

/// Whether a header may hold a secret.
pub(crate) fn is_secret_header(name: &str) -> bool {
    !is_harmless(&name.to_ascii_lowercase())
}

/// The subprotocols without those that hold a token.
pub(crate) fn without_tokens(names: &[String]) -> Vec<String> {
    let harmless = secrets_in_subprotocols(names).filter(|(_, starts)| starts.is_empty());
    harmless.map(|(name, _)| name.to_owned()).collect()
}

/// Describes a name that is not a token. `shown` is the part that may be shown.
pub(crate) fn misnamed(name: &str, shown: &str) -> String {
    let what = match name[shown_name(name).len()..].chars().next() {
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

/// Two values are equal if the server said the same, whatever the request was.
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

#[cfg(test)]
mod tests;
