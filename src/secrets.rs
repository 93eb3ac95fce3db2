//! What of a request may be shown to nobody, and how it is taken out of what a server says.

mod masking;
mod parts;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::secrets::masking::Search;
use crate::secrets::parts::{Parts, of_header, of_url};

/// What a request holds that is secret: its password and its tokens, each by itself, since a server may repeat any part of
/// what it was asked.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<[Box<[u8]>]>);

impl Secrets {
    /// The secrets of a request for this URL, with these headers.
    pub(crate) fn of(url: &str, headers: &[(String, String)]) -> Self {
        let mut parts = Parts::new();
        of_url(url, &mut parts);
        for (name, value) in headers {
            of_header(&name.to_ascii_lowercase(), value, &mut parts);
        }
        parts.sort_unstable();
        parts.dedup();
        Self(parts.into())
    }

    /// The text with `***` in place of each secret in it, whether a server repeats it as it was sent, decoded,
    /// percent-encoded, escaped as in JSON or HTML, or in other letters. A secret of 4 to 7 bytes is hidden where it is no
    /// piece of a longer word.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.search(text).shown()
    }

    fn search<'a>(&self, text: &'a str) -> Search<'a> {
        let mut search = Search::new(text);
        self.0.iter().for_each(|part| search.hide(part));
        search
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

#[cfg(test)]
mod tests;
