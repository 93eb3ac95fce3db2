//! The server's answer to the opening handshake (RFC 6455, section 4.1), as bytes.

use tungstenite::handshake::derive_accept_key;

use crate::error::Rejection;
use crate::transport::Target;

const MAX_HEADERS: usize = 128;

#[derive(Debug)]
pub(crate) enum Parsed {
    Partial,
    Accepted { length: usize, subprotocol: Option<Box<str>> },
    Refused { length: usize, rejection: Rejection },
}

/// Reads the head of the answer; the error says what is wrong with it.
pub(crate) fn parse(answer: &[u8], key: &str, target: &Target<'_>) -> Result<Parsed, String> {
    let mut skipped = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(&answer[skipped..]) {
            Ok(httparse::Status::Complete(length)) => skipped + length,
            Ok(httparse::Status::Partial) => return Ok(Parsed::Partial),
            Err(httparse::Error::TooManyHeaders) => {
                return Err(format!("it has more than {MAX_HEADERS} headers"));
            }
            Err(error) => return Err(format!("it is not HTTP: {error}")),
        };
        match response.code.unwrap_or_default() {
            101 => {
                let subprotocol = check(&response, key, target)?;
                return Ok(Parsed::Accepted { length, subprotocol });
            }
            // Interim answers, such as 103, come before the real one (RFC 9110, section 15.2).
            100..=199 => skipped = length,
            status => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = response.headers.iter().map(|h| (h.name.to_owned(), text(h.value))).collect();
                let reason = response.reason.unwrap_or_default().to_owned();
                return Ok(Parsed::Refused {
                    length,
                    rejection: Rejection { status, reason, headers, body: Vec::new() },
                });
            }
        }
    }
}

/// The rules of section 4.1 for a status of 101. Returns the subprotocol.
fn check(
    response: &httparse::Response<'_, '_>,
    key: &str,
    target: &Target<'_>,
) -> Result<Option<Box<str>>, String> {
    let values = |name: &'static str| {
        let named = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let lists = |name: &'static str, token: &str| {
        values(name).any(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case(token)))
    };
    if !lists("Upgrade", "websocket") {
        return Err("status 101 without 'Upgrade: websocket'".into());
    }
    if !lists("Connection", "upgrade") {
        return Err("status 101 without 'Connection: Upgrade'".into());
    }
    match values("Sec-WebSocket-Accept").next() {
        None => return Err("status 101 without a Sec-WebSocket-Accept header".into()),
        Some(accept) if accept != derive_accept_key(key.as_bytes()) => {
            return Err("its Sec-WebSocket-Accept does not belong to our key: is a cache in between?".into());
        }
        Some(_) => {}
    }
    if let Some(extension) = values("Sec-WebSocket-Extensions").find(|value| !value.is_empty()) {
        return Err(format!("it chose the extension {extension:?}, and none was offered"));
    }
    let mut chosen = values("Sec-WebSocket-Protocol").filter(|value| !value.is_empty());
    let subprotocol = chosen.next();
    if chosen.next().is_some() {
        return Err("it chose more than one subprotocol".into());
    }
    match subprotocol {
        Some(name) if !target.request.subprotocols.contains(&name) => {
            let offered = target.request.subprotocols.join(", ");
            let offered = if offered.is_empty() { "none".into() } else { offered };
            Err(format!("it chose the subprotocol {name:?}; offered: {offered}"))
        }
        other => Ok(other.map(Into::into)),
    }
}

/// How the body of a refusal ends (RFC 9112, section 6).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Length(usize),
    Chunked,
    UntilEnd,
}

impl Body {
    pub(crate) fn new(rejection: &Rejection) -> Self {
        if rejection
            .header("Transfer-Encoding")
            .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
        {
            return Self::Chunked;
        }
        match rejection.header("Content-Length").map(|value| value.trim().parse()) {
            Some(Ok(length)) => Self::Length(length),
            _ if matches!(rejection.status, 204 | 304) => Self::Length(0),
            _ => Self::UntilEnd,
        }
    }

    pub(crate) fn is_complete(&self, body: &[u8]) -> bool {
        match self {
            Self::Length(length) => body.len() >= *length,
            Self::Chunked => unchunk(body).1,
            Self::UntilEnd => false,
        }
    }

    pub(crate) fn decode(&self, mut body: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Length(length) => body.truncate(*length),
            Self::Chunked => body = unchunk(&body).0,
            Self::UntilEnd => {}
        }
        body
    }
}

/// The chunks that arrived, joined, and whether the last one is among them.
fn unchunk(mut encoded: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Ok(httparse::Status::Complete((head, size))) = httparse::parse_chunk_size(encoded) {
        if size == 0 {
            return (body, true);
        }
        let rest = &encoded[head..];
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        body.extend(&rest[..size.min(rest.len())]);
        // A chunk is followed by CR LF.
        let Some(next) = size.checked_add(2).and_then(|skip| rest.get(skip..)) else { break };
        encoded = next;
    }
    (body, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConnectionConfig;
    use crate::transport::upgrade::tests::{KEY, plain, settings, target};

    /// The answer of RFC 6455, section 1.3, to that key.
    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    fn parse_with(answer: &str, config: ConnectionConfig) -> Result<Parsed, String> {
        parse(answer.as_bytes(), KEY, &target(&settings(config)))
    }

    fn accepted(answer: &str, config: ConnectionConfig) -> Option<Box<str>> {
        match parse_with(answer, config) {
            Ok(Parsed::Accepted { subprotocol, .. }) => subprotocol,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_answer_of_the_rfc_is_accepted_and_frames_behind_it_are_kept() {
        let answer = format!("{GOOD}\r\n\u{1}frame");
        match parse_with(&answer, plain()) {
            Ok(Parsed::Accepted { length, subprotocol: None }) => assert_eq!(&answer[length..], "\u{1}frame"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connection_header_that_is_a_list_is_accepted() {
        accepted(&(GOOD.replace("Connection: Upgrade", "connection: keep-alive, upgrade") + "\r\n"), plain());
    }

    #[test]
    fn interim_answers_are_skipped() {
        accepted(&format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{GOOD}\r\n"), plain());
    }

    #[test]
    fn every_prefix_of_the_answer_is_partial() {
        let answer = format!("{GOOD}\r\n");
        for end in 0..answer.len() {
            assert!(matches!(parse_with(&answer[..end], plain()), Ok(Parsed::Partial)), "{end}");
        }
    }

    #[test]
    fn a_wrong_answer_says_what_is_wrong() {
        for (answer, says) in [
            ("SSH-2.0-OpenSSH\r\n\r\n".to_owned(), "not HTTP"),
            (GOOD.replace("Upgrade: websocket\r\n", ""), "Upgrade: websocket"),
            (GOOD.replace("Upgrade: websocket", "Upgrade: h2c"), "Upgrade: websocket"),
            (GOOD.replace("Connection: Upgrade\r\n", ""), "Connection: Upgrade"),
            (GOOD.replace("s3pP", "XXXX"), "does not belong to our key"),
            (GOOD.replace("Sec-WebSocket-Accept", "X-Accept"), "without a Sec-WebSocket-Accept"),
            (format!("{GOOD}Sec-WebSocket-Extensions: permessage-deflate\r\n"), "permessage-deflate"),
            (format!("{GOOD}Sec-WebSocket-Protocol: chat\r\n"), "offered: none"),
            (format!("{GOOD}{}", "X: y\r\n".repeat(200)), "more than 128 headers"),
        ] {
            let error = parse_with(&(answer + "\r\n"), plain()).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn the_subprotocol_is_one_of_those_offered_or_none() {
        let offers = || plain().subprotocol("a").subprotocol("b");
        let answer = |lines: &str| format!("{GOOD}{lines}\r\n");
        assert_eq!(accepted(&answer("Sec-WebSocket-Protocol: b\r\n"), offers()).as_deref(), Some("b"));
        assert_eq!(accepted(&answer(""), offers()), None);
        for wrong in
            ["Sec-WebSocket-Protocol: c\r\n", "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n"]
        {
            assert!(parse_with(&answer(wrong), offers()).is_err());
        }
    }

    #[test]
    fn bodies_end_as_their_headers_say() {
        let body = |headers: &str| match parse_with(&format!("HTTP/1.1 403 No\r\n{headers}\r\n"), plain()) {
            Ok(Parsed::Refused { rejection, .. }) => Body::new(&rejection),
            other => panic!("{other:?}"),
        };
        assert_eq!(body("Content-Length: 5\r\n"), Body::Length(5));
        assert_eq!(body("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), Body::Chunked);
        assert_eq!(body("Content-Length: x\r\n"), Body::UntilEnd);
        assert!(!Body::Length(5).is_complete(b"1234") && Body::Length(5).is_complete(b"12345"));
    }

    #[test]
    fn chunks_are_joined_as_far_as_they_came() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), (b"abcde".to_vec(), true));
        assert_eq!(unchunk(b"3\r\nabc\r\n2\r\nd"), (b"abcd".to_vec(), false));
        assert_eq!(unchunk(b"ffffffffffffffff\r\nab"), (b"ab".to_vec(), false));
        assert_eq!(unchunk(b"zz"), (Vec::new(), false));
    }
}
