//! A server that refused the upgrade.

use std::fmt;

use crate::secrets::Secrets;

/// The HTTP answer of a server that refused the upgrade.
///
/// The fields hold what the server said, and it may repeat what it was asked. `Display` shows the start of that, and `Debug`
/// leaves the header values and the body out; both put `***` in place of what was secret in the request: passwords, the
/// values of the query, of cookies and of headers.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// The status code, such as 403.
    pub status: u16,
    /// The reason phrase, such as `Forbidden`; may be empty.
    pub reason: String,
    /// The headers, in order, names as they came; bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The start of the body: what arrived until it ended, until `max_response_size`, or until the attempt's time ran out.
    pub body: Vec<u8>,
    /// What was asked, and must not be shown when it is repeated.
    pub(crate) secrets: Secrets,
}

/// How much of a refusal's body its message shows.
const BODY_SHOWN: usize = 200;

/// How much of the body is looked at for that.
const BODY_READ: usize = 8 << 10;

impl Rejection {
    /// An answer without a body.
    pub(crate) fn new(status: u16, reason: impl Into<String>, headers: Vec<(String, String)>) -> Self {
        Self { status, reason: reason.into(), headers, body: Vec::new(), secrets: Secrets::default() }
    }

    /// The value of the first header of this name, in any case of letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.secrets.hide(&self.reason))?;
        }
        f.write_str(" to the WebSocket upgrade")?;
        let start = &self.body[..self.body.len().min(BODY_READ)];
        // Before it is cut: half a secret is one, too.
        let body = self.secrets.hide(&String::from_utf8_lossy(start));
        let line = body.trim().lines().next().unwrap_or_default();
        // The first line of a page says nothing.
        if !line.is_empty() && !line.starts_with('<') {
            let cut = line.char_indices().nth(BODY_SHOWN).map_or(line.len(), |(at, _)| at);
            write!(f, ": {:?}", &line[..cut])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| self.secrets.hide(name)).collect();
        f.debug_struct("Rejection")
            .field("status", &self.status)
            .field("reason", &self.secrets.hide(&self.reason))
            .field("headers", &names)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

#[cfg(test)]
mod property;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_its_status_and_the_first_line_of_its_body() {
        let headers = vec![("Set-Cookie".into(), "s3cret".into())];
        let mut rejection = Rejection::new(403, "Forbidden", headers);
        rejection.body = b"token expired\nrequest 17".to_vec();
        assert_eq!(
            rejection.to_string(),
            r#"the server answered 403 Forbidden to the WebSocket upgrade: "token expired""#
        );
        assert!(!format!("{rejection:?}").contains("s3cret"));
        assert_eq!(rejection.header("set-cookie"), Some("s3cret"));
    }
}
