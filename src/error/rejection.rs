//! A server that refused the upgrade.

use std::fmt;

/// The HTTP answer of a server that refused the upgrade. `Debug` leaves the header values and the body out.
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
}

/// How much of a refusal's body its message shows.
const BODY_SHOWN: usize = 200;

impl Rejection {
    /// The value of the first header of this name, in any case of letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        f.write_str(" to the WebSocket upgrade")?;
        let body = String::from_utf8_lossy(&self.body);
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
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Rejection")
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("headers", &names)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_shows_its_status_and_the_first_line_of_its_body() {
        let rejection = Rejection {
            status: 403,
            reason: "Forbidden".into(),
            headers: vec![("Set-Cookie".into(), "s3cret".into())],
            body: b"token expired\nrequest 17".to_vec(),
        };
        assert_eq!(
            rejection.to_string(),
            r#"the server answered 403 Forbidden to the WebSocket upgrade: "token expired""#
        );
        assert!(!format!("{rejection:?}").contains("s3cret"));
        assert_eq!(rejection.header("set-cookie"), Some("s3cret"));
    }
}
