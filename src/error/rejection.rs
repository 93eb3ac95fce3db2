//! A server that refused the upgrade.

use std::fmt::{self, Write};

use crate::error::advice;
use crate::secrets::{Secrets, cut};

/// The HTTP response of a server that rejected the upgrade.
///
/// The fields hold the response unchanged, and it may repeat secrets of the request. `Display` shows the status and the
/// start of the body. `Debug` omits the header values and the body; that of [`Error`](crate::Error) shows the body,
/// 2,000 characters at most. All replace secrets of the request with `***`: see
/// [`Error`](crate::Error).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejection {
    /// The status code, such as 403.
    pub status: u16,
    /// The reason phrase, such as `Forbidden`. May be empty.
    pub reason: String,
    /// The headers, in order, with their names as received. Bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The start of the body: what arrived before the body ended, `max_response_size` was reached, or the attempt timed
    /// out.
    pub body: Vec<u8>,
    /// Host and port of the server, and the proxy, if the way there goes through one. Empty if it isn't known.
    pub(crate) place: Box<str>,
    /// Why the client did not go to the address that the answer names, although it follows redirects.
    pub(crate) unfollowed: Option<Box<str>>,
    /// The secrets of the request, which must not be shown when the server repeats them.
    pub(crate) secrets: Secrets,
}

/// How many characters are shown of the address of a redirect, and how many bytes of it are examined for that.
const ADDRESS_SHOWN: usize = 300;
const ADDRESS_READ: usize = 600;

/// How many characters are shown of a reason phrase, and of the name of a coding.
const REASON_SHOWN: usize = 200;

/// How many characters of a refusal's body its message shows, and how many bytes are examined for that.
const BODY_SHOWN: usize = 200;
const LINE_READ: usize = 1000;

/// How many characters of it `Debug` of an error shows, if it says more than that.
const UNSHOWN: usize = 2000;

/// How much of the body is examined for that.
const BODY_READ: usize = 8 << 10;

impl Rejection {
    /// An answer without a body.
    pub(crate) fn new(status: u16, reason: impl Into<String>, headers: Vec<(String, String)>) -> Self {
        let (body, place, unfollowed, secrets) = (Vec::new(), Box::default(), None, Secrets::default());
        Self { status, reason: reason.into(), headers, body, place, unfollowed, secrets }
    }

    /// Returns the value of the first header with this name. The comparison ignores case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.place.is_empty() { "the server" } else { &self.place };
        write!(f, "{who} answered {} to the WebSocket upgrade", self.status_text())?;
        if let Some(to) = self.new_address() {
            // What follows the target's path, or looks random in it, may be a token for whoever follows the redirect.
            let to = without_secrets(cut(to, ADDRESS_READ));
            let host = to.find("//").map_or(0, |at| at + 2);
            let path = to[host..].find('/').map_or("", |at| &to[host + at..]);
            let to = self.secrets.and(&Secrets::of_path(path)).hide_start(&to, ADDRESS_SHOWN);
            write!(f, ", with another address: {to:?}. ")?;
            match &self.unfollowed {
                Some(why) => write!(f, "It is not followed: {why}")?,
                None => f.write_str(
                    "Redirects are not followed: use that URL (ws:// or wss://), or set redirects",
                )?,
            }
            return Ok(());
        }
        let text = self.body_text();
        if !text.is_empty() {
            write!(f, ": {text}")?;
        }
        f.write_str(advice::of_status(self.status))
    }
}

impl Rejection {
    /// The address that a redirect names. Its body only repeats that, with what may be secret in it, and is not shown.
    pub(crate) fn new_address(&self) -> Option<&str> {
        self.header("Location").filter(|_| (300..400).contains(&self.status))
    }

    /// Status and reason phrase.
    fn status_text(&self) -> String {
        let mut text = self.status.to_string();
        if !self.reason.is_empty() {
            text.push(' ');
            for c in self.secrets.hide_start(&self.reason, REASON_SHOWN).chars() {
                // No character that a terminal would interpret or hide.
                if c.is_ascii() { text.push(c) } else { text.extend(c.escape_debug()) }
            }
        }
        text
    }

    /// What a proxy answered to CONNECT: status, reason phrase, and the start of the body, unless that is of a redirect.
    pub(crate) fn said_by_proxy(&self) -> String {
        let status = self.status_text();
        let body = if self.new_address().is_some() { String::new() } else { self.body_text() };
        if body.is_empty() { status } else { format!("{status}: {body}") }
    }

    /// The body for display: at most a line, in quotes. An unreadable body is described. Empty if the body says
    /// nothing.
    fn body_text(&self) -> String {
        match self.readable_body(LINE_READ) {
            Ok(body) => {
                // Once more: what stood on two lines may be a secret on one.
                let line = self.secrets.hide(&shown_line(&body));
                if line.is_empty() { line } else { format!("{line:?}") }
            }
            Err(description) => description,
        }
    }

    /// The start of a readable body that has more to say than the line for display, with nothing in it that a terminal
    /// would interpret.
    pub(super) fn unshown_body(&self) -> Option<String> {
        let body = self.readable_body(BODY_READ).ok().filter(|_| self.new_address().is_none())?;
        if body.split_whitespace().eq(shown_line(&body).split_whitespace()) {
            return None;
        }
        let mut text = String::new();
        let mut chars = body.chars().take(UNSHOWN).peekable();
        while let Some(c) = chars.next() {
            match c {
                '\n' | '\t' | ' '..='~' => text.push(c),
                // At the end of a line. Elsewhere it is shown, or what it parts would be one word again: a secret.
                '\r' if chars.peek().is_none_or(|next| *next == '\n') => {}
                _ => text.extend(c.escape_debug()),
            }
        }
        if body.chars().nth(UNSHOWN).is_some() || self.body.len() > BODY_READ {
            let _ = write!(text, "… ({} bytes)", self.body.len());
        }
        Some(text)
    }

    /// The first bytes of the body without secrets, or the description of a body that can't be read.
    fn readable_body(&self, read: usize) -> Result<String, String> {
        let coding = self
            .header("Content-Encoding")
            .map(str::trim)
            .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"));
        let size = self.body.len();
        if let Some(coding) = coding.filter(|_| size > 0) {
            return Err(format!(
                "(a body of {size} bytes, compressed: {:?})",
                self.secrets.hide_start(coding, REASON_SHOWN)
            ));
        }
        let start = &self.body[..size.min(read)];
        let is_binary = |b: &u8| (*b < 0x20 && !b"\t\r\n\x0C".contains(b)) || *b == 0x7F;
        if start.iter().any(is_binary) {
            return Err(format!("(a body of {size} bytes that is not text)"));
        }
        // Before the text is cut: half a secret is still a secret.
        let body = self.secrets.hide(&String::from_utf8_lossy(start));
        Ok(body.trim_start_matches('\u{FEFF}').trim().to_owned())
    }
}

/// The line of a body that is shown with the status. Empty if the body has none that says something.
fn shown_line(body: &str) -> String {
    let line = if body.starts_with(['{', '[']) {
        // JSON means the same on one line as on many.
        body.split_whitespace().collect::<Vec<_>>().join(" ")
    } else {
        body.lines().next().unwrap_or_default().to_owned()
    };
    // The first line of an HTML page says nothing.
    if line.starts_with('<') {
        return String::new();
    }
    let cut = line.char_indices().nth(BODY_SHOWN).map_or(line.len(), |(at, _)| at);
    line[..cut].to_owned()
}

/// A URL without its query, its fragment, and its user and password.
fn without_secrets(url: &str) -> String {
    let url = url.split('#').next().unwrap_or_default();
    let (url, query) = url.split_at(url.find('?').unwrap_or(url.len()));
    let authority = url.find("//").map_or(0, |at| at + 2);
    let path = url[authority..].find('/').map_or(url.len(), |at| authority + at);
    let host = url[authority..path].rfind('@').map_or(authority, |at| authority + at + 1);
    let query = if query.is_empty() { "" } else { "?***" };
    [&url[..authority], &url[host..], query].concat()
}

impl fmt::Debug for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| self.secrets.hide(name)).collect();
        f.debug_struct("Rejection")
            .field("status", &self.status)
            .field("reason", &self.secrets.hide_start(&self.reason, REASON_SHOWN))
            .field("headers", &names)
            .field("body", &format_args!("{} bytes", self.body.len()))
            .field("place", &self.place)
            .field("unfollowed", &self.unfollowed)
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
            r#"the server answered 403 Forbidden to the WebSocket upgrade: "token expired"; check the credentials, and the headers, such as Origin"#
        );
        let placed = Rejection { place: "h:80 through the proxy p:1".into(), ..rejection.clone() };
        assert!(placed.to_string().starts_with("h:80 through the proxy p:1 answered 403 "), "{placed}");
        assert!(!format!("{rejection:?}").contains("s3cret"));
        assert_eq!(rejection.header("set-cookie"), Some("s3cret"));
    }

    fn shown(headers: &[(&str, &str)], status: u16, body: &[u8]) -> String {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Rejection { body: body.to_vec(), ..Rejection::new(status, "No", headers) }.to_string()
    }

    #[test]
    fn a_redirect_says_where_to_without_what_may_be_secret() {
        for (to, shown_as) in [
            ("https://b.example/x", "https://b.example/x"),
            ("https://b.example/x?token=s3cret#f", "https://b.example/x?***"),
            ("https://me:s3cret@b.example/x", "https://b.example/x"),
            ("ftp://me:s3cret@b.example", "ftp://b.example"),
            ("?s3cret", "?***"),
            ("/elsewhere?s3cret", "/elsewhere?***"),
            ("//b.example", "//b.example"),
            ("https://a1b2c3d4e5.example/once/s3cretS3cret/go", "https://a1b2c3d4e5.example/once/***/go"),
            ("", ""),
        ] {
            let body = format!("Temporary Redirect. Redirecting to {to}");
            let text = shown(&[("location", to)], 307, body.as_bytes());
            assert!(text.contains(&format!("another address: {shown_as:?}")), "{text}");
            assert!(text.contains("not followed") && !text.contains("s3cret"), "{text}");
        }
        assert!(!shown(&[("Location", "/created")], 201, b"").contains("created"));
    }

    #[test]
    fn what_a_server_says_at_length_is_cut_and_a_secret_at_the_border_is_hidden() {
        let secret = "s3cretS3cret".repeat(20);
        let secrets = Secrets::of_text(&secret);
        for before in [0, 100, 150, 195, 280, 290, 295, 300, 400, 550, 590, 60_000] {
            let long = format!("{}{secret}{}", "word/".repeat(before / 5), "word/".repeat(12_000));
            let headers = vec![
                ("Location".into(), format!("https://h/{long}")),
                ("Content-Encoding".into(), long.clone()),
            ];
            for (status, body) in [(302, ""), (403, "x"), (403, "")] {
                let mut rejection = Rejection::new(status, &*long, headers.clone());
                rejection.body = body.as_bytes().to_vec();
                rejection.secrets = secrets.clone();
                for shown in [rejection.to_string(), format!("{rejection:?}"), rejection.said_by_proxy()] {
                    assert!(shown.len() < 2000 && !shown.contains("s3cret"), "{before}: {shown}");
                }
            }
        }
    }

    #[test]
    fn a_secret_on_two_lines_of_json_is_none_on_one() {
        let body = b"{\"said\":\n\"my long\n secret\"}".to_vec();
        let secrets = Secrets::of_text("my long secret");
        let rejection = Rejection { body, secrets, ..Rejection::new(403, "No", Vec::new()) };
        assert!(!rejection.to_string().contains("secret"), "{rejection}");
    }

    #[test]
    fn a_reason_phrase_shows_nothing_that_a_terminal_obeys() {
        let text = Rejection::new(400, "Isn't für \u{202E}you\u{200B}", Vec::new()).to_string();
        assert_eq!(text, "the server answered 400 Isn't für \\u{202e}you\\u{200b} to the WebSocket upgrade");
    }

    #[test]
    fn json_on_many_lines_is_shown_on_one() {
        let marked = shown(&[], 400, b"\xEF\xBB\xBF{\n  \"error\": 7\n}");
        assert!(marked.ends_with(r#": "{ \"error\": 7 }""#), "{marked}");
        let text = shown(&[], 400, b"{\r\n  \"error\": \"token expired\"\r\n}\r\n");
        assert!(text.ends_with(r#"{ \"error\": \"token expired\" }""#), "{text}");
    }

    #[test]
    fn what_nobody_could_read_is_described() {
        let text = shown(&[("Content-Encoding", "gzip")], 400, b"\x1F\x8B\x08garbage");
        assert!(text.ends_with(r#": (a body of 10 bytes, compressed: "gzip")"#), "{text}");
        let text = shown(&[], 400, b"\x1F\x8B\x08garbage");
        assert!(text.ends_with(": (a body of 10 bytes that is not text)"), "{text}");
        let text = shown(&[("Content-Encoding", "identity")], 400, b"plain");
        assert!(text.ends_with(r#": "plain""#), "{text}");
    }
    fn printed(headers: &[(&str, &str)], status: u16, body: &[u8]) -> Option<String> {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Rejection { body: body.to_vec(), ..Rejection::new(status, "No", headers) }.unshown_body()
    }

    #[test]
    fn the_body_is_printed_where_the_sentence_leaves_some_of_it_out() {
        let lines = printed(&[], 400, b"token expired\r\nrequest\t17\x0C\n\xE2\x80\xAEtxt\r\n");
        assert_eq!(lines.as_deref(), Some("token expired\nrequest\t17\\u{c}\n\\u{202e}txt"));
        assert_eq!(printed(&[], 400, b"s3c\rret\r\nx\r\ny").as_deref(), Some("s3c\\rret\nx\ny"));
        let page = printed(&[], 400, b"<html>\n<p>Ask your administrator</p>");
        assert_eq!(page.as_deref(), Some("<html>\n<p>Ask your administrator</p>"));
        let long = "x".repeat(UNSHOWN + 1);
        let cut = printed(&[], 400, long.as_bytes()).unwrap();
        assert_eq!(cut, format!("{}… (2001 bytes)", &long[1..]));
        assert_eq!(printed(&[], 400, &long.as_bytes()[..=BODY_SHOWN]).unwrap().len(), BODY_SHOWN + 1);
        // The sentence says it all, or nobody could read it, or it only repeats the new address.
        for whole in [&b""[..], b"token expired\r\n", b"{\n  \"error\": 7\n}", b"\x01\x02"] {
            assert_eq!(printed(&[], 400, whole), None, "{whole:?}");
        }
        assert_eq!(printed(&[("Content-Encoding", "gzip")], 400, b"a\nb"), None);
        assert_eq!(printed(&[("Location", "/x?t=1")], 302, b"Found.\n/x?t=1"), None);
    }
}
