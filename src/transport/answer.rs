//! The server's answer to the opening handshake (RFC 6455, section 4.1), as bytes that arrive in pieces. However it is
//! cut, each byte is examined once.

use tungstenite::handshake::derive_accept_key;

use crate::compression::Compression;
use crate::error::Rejection;
use crate::protocol::UpgradeRequest;
use crate::transport::deflate;
use crate::transport::head::{self, Head, Odd};

/// What the answer is, once its head is complete. `length` is that of the head and of the interim answers before it.
#[derive(Debug)]
pub(crate) enum Answer {
    Accepted {
        length: usize,
        subprotocol: Option<Box<str>>,
        compression: Option<Compression>,
        headers: Vec<(String, String)>,
    },
    Refused {
        length: usize,
        rejection: Rejection,
    },
}

/// Reads the head of an answer while it arrives.
#[derive(Debug, Default)]
pub(crate) struct Reader(head::Reader);

impl Reader {
    /// Continues with `answer`, which has grown since the last call. Returns `None` if more is needed. The error says
    /// what is wrong with the answer.
    pub(crate) fn read(
        &mut self,
        answer: &[u8],
        key: &str,
        request: &UpgradeRequest,
    ) -> Result<Option<Answer>, String> {
        let found = self.0.read(answer).map_err(|odd| match odd {
            Odd::Other => NO_HTTP,
            Odd::NoStatus => "it is not HTTP/1.1: its first line has no status",
        })?;
        found.map(|(head, length)| head.finish(length, key, request)).transpose()
    }
}

/// The subprotocol and the compression.
type Agreed = (Option<Box<str>>, Option<Compression>);

const NO_HTTP: &str = "it is not HTTP/1.1; does a WebSocket server listen on that port?";

impl Head {
    fn finish(self, length: usize, key: &str, request: &UpgradeRequest) -> Result<Answer, String> {
        if self.status == 101 {
            let (subprotocol, compression) = self.check(key, request)?;
            return Ok(Answer::Accepted { length, subprotocol, compression, headers: self.headers });
        }
        let rejection = Rejection::new(self.status, self.reason, self.headers);
        Ok(Answer::Refused { length, rejection })
    }

    /// Checks the rules of section 4.1 for a status of 101. Returns what was agreed on.
    fn check(&self, key: &str, request: &UpgradeRequest) -> Result<Agreed, String> {
        if self.minor_version == 0 {
            return Err("status 101 in HTTP/1.0, which knows no upgrade: is an old proxy in between?".into());
        }
        // "contains a value that is not an ASCII case-insensitive match for the value "websocket"": no other value is
        // allowed.
        let mut protocols = self.items("Upgrade").peekable();
        if protocols.peek().is_none() || !protocols.all(|item| item.eq_ignore_ascii_case("websocket")) {
            return Err("status 101 without 'Upgrade: websocket'".into());
        }
        if !self.items("Connection").any(|item| item.eq_ignore_ascii_case("upgrade")) {
            return Err("status 101 without 'Connection: Upgrade'".into());
        }
        let mut accepts = self.values("Sec-WebSocket-Accept").peekable();
        if accepts.peek().is_none() {
            return Err("status 101 without a Sec-WebSocket-Accept header".into());
        }
        let ours = derive_accept_key(key.as_bytes());
        if accepts.any(|accept| accept != ours) {
            return Err("its Sec-WebSocket-Accept does not belong to our key: is a cache in between?".into());
        }
        let compression =
            deflate::agree(request.compression.as_ref(), self.values("Sec-WebSocket-Extensions"))?;
        let mut chosen = self.values("Sec-WebSocket-Protocol").filter(|value| !value.is_empty());
        let subprotocol = chosen.next();
        if chosen.next().is_some() {
            return Err("it chose more than one subprotocol".into());
        }
        request.check_choice(subprotocol)?;
        Ok((subprotocol.map(Into::into), compression))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::ConnectionConfig;
    use crate::transport::head::tests::bytes_looked_at;
    use crate::transport::upgrade::tests::KEY;

    /// The answer of RFC 6455, section 1.3, to the key of that section.
    const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

    fn request(offered: &[&str]) -> UpgradeRequest {
        let config = ConnectionConfig::new("ws://h");
        UpgradeRequest::new(&offered.iter().fold(config, |config, name| config.subprotocol(*name)))
    }

    fn read(answer: &str, offered: &[&str]) -> Result<Option<Answer>, String> {
        Reader::default().read(answer.as_bytes(), KEY, &request(offered))
    }

    fn accepted(answer: &str, offered: &[&str]) -> Option<Box<str>> {
        match read(answer, offered) {
            Ok(Some(Answer::Accepted { length, subprotocol, .. })) => {
                assert_eq!(length, answer.len());
                subprotocol
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn refused(answer: &str) -> Rejection {
        match read(answer, &[]) {
            Ok(Some(Answer::Refused { length, rejection })) => {
                assert_eq!(length, answer.len());
                rejection
            }
            other => panic!("{other:?}"),
        }
    }

    /// What is wrong with an answer whose head consists of these lines.
    fn wrong(lines: &str) -> String {
        read(&format!("{lines}\r\n"), &[]).expect_err(lines)
    }

    #[test]
    fn the_answer_of_the_rfc_is_accepted_and_frames_behind_it_are_kept() {
        let answer = format!("{GOOD}\r\n\u{1}frame");
        match read(&answer, &[]) {
            Ok(Some(Answer::Accepted { length, subprotocol: None, compression: None, headers })) => {
                assert_eq!(&answer[length..], "\u{1}frame");
                let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
                assert_eq!(names, ["Upgrade", "Connection", "Sec-WebSocket-Accept"]);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connection_header_that_is_a_list_is_accepted() {
        accepted(&(GOOD.replace("Connection: Upgrade", "connection: keep-alive, upgrade") + "\r\n"), &[]);
    }

    #[test]
    fn interim_answers_are_skipped() {
        accepted(&format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{GOOD}\r\n"), &[]);
    }

    #[test]
    fn every_prefix_of_the_answer_is_partial() {
        let answer = format!("{GOOD}\r\n");
        for end in 0..answer.len() {
            assert!(matches!(read(&answer[..end], &[]), Ok(None)), "{end}");
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
            (GOOD.replace("HTTP/1.1", "HTTP/1.0"), "HTTP/1.0"),
            (GOOD.replace("HTTP/1.1", "HTTP/2.0"), "not HTTP/1.1"),
            (GOOD.replace("101", "one-oh-one"), "not HTTP/1.1: its first line has no status"),
            // Each value counts, whichever comes first.
            (format!("{GOOD}Sec-WebSocket-Accept: XXXX\r\n"), "does not belong to our key"),
            (format!("{GOOD}Upgrade: h2c\r\n"), "Upgrade: websocket"),
            (
                format!("{GOOD}Sec-WebSocket-Extensions:\r\nSec-WebSocket-Extensions : x\r\n"),
                "none was offered",
            ),
        ] {
            let error = wrong(&answer);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn what_is_not_http_is_told_the_same_however_it_is_cut() {
        for (answer, says) in [
            ("SSH-2.0-OpenSSH\r\n", NO_HTTP),
            ("\r\nSSH", NO_HTTP),
            ("HT\nTP/1.1 101 No", NO_HTTP),
            ("H\n", NO_HTTP),
            ("\r\r\n", NO_HTTP),
            ("HTTP/2.0", NO_HTTP),
            ("\u{15}?", NO_HTTP),
            ("HTTP/1.1 one-oh-one\n", "it is not HTTP/1.1: its first line has no status"),
        ] {
            assert_eq!(read(answer, &[]).unwrap_err(), says, "{answer:?}");
            let mut reader = Reader::default();
            let told = (1..=answer.len())
                .find_map(|end| reader.read(&answer.as_bytes()[..end], KEY, &request(&[])).err());
            assert_eq!(told.as_deref(), Some(says), "{answer:?} in single bytes");
        }
    }

    #[test]
    fn the_subprotocol_is_one_of_those_offered_or_none() {
        let offers = &["a", "b"];
        let answer = |lines: &str| format!("{GOOD}{lines}\r\n");
        assert_eq!(accepted(&answer("Sec-WebSocket-Protocol: b\r\n"), offers).as_deref(), Some("b"));
        assert_eq!(accepted(&answer(""), offers), None);
        for wrong in
            ["Sec-WebSocket-Protocol: c\r\n", "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n"]
        {
            assert!(read(&answer(wrong), offers).is_err());
        }
    }

    #[test]
    fn a_refusal_may_have_any_number_of_headers() {
        let many = "X-Filler: y\r\n".repeat(1000);
        let rejection = refused(&format!("HTTP/1.1 503 Busy\r\n{many}Retry-After: 7\r\n\r\n"));
        assert_eq!((rejection.status, rejection.headers.len()), (503, 1001));
        assert_eq!(rejection.header("retry-after"), Some("7"));
        accepted(&format!("{GOOD}{many}\r\n"), &[]);
    }

    #[test]
    fn a_header_that_matters_to_nobody_harms_nobody() {
        for odd in [
            "X-Spaced : y",
            "X-Folded: a\r\n  b\r\n\tc",
            " X-Folded-Behind-The-Accept: x",
            "X-Nul: a\0b",
            "X-Return: a\rb",
            "X-Control: \u{1}\u{7f}",
            "X-Latin: \u{e4}",
            "X Y: z",
            "X-\u{e4}: z",
            "(X): z",
            ": z",
            "no colon at all",
            "no colon at all\r\n and it goes on: x",
            "X-Line-Feed: a\nX-Other: b",
        ] {
            let first = GOOD.replacen("\r\n", &format!("\r\n{odd}\r\n"), 1);
            for answer in [format!("{first}\r\n"), format!("{first}{odd}\r\n\r\n")] {
                // A line that begins with a space continues the line before it, which must not be the accept key.
                if !(odd.starts_with(' ') && answer.contains("xOo=\r\n ")) {
                    accepted(&answer, &[]);
                }
            }
        }
    }

    #[test]
    fn odd_headers_are_read_as_the_rfc_says() {
        let rejection = refused(
            "\r\nHTTP/1.1  503\r\n bad: fold\r\nServer \t: test\nX-Folded: a \r\n  b\r\n\tc\r\n(bad): x\r\n y\r\n\
             X-Nul: a\0b\rc\r\nX-Empty:\r\n\r\n",
        );
        assert_eq!((rejection.status, &*rejection.reason), (503, ""));
        let headers: Vec<_> = rejection.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let nul = ("X-Nul", "a\u{FFFD}b\u{FFFD}c");
        assert_eq!(headers, [("Server", "test"), ("X-Folded", "a b c"), nul, ("X-Empty", "")]);
    }

    #[test]
    fn a_head_costs_what_it_has_in_bytes_however_it_is_cut() {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(100);
        let refusal = format!("{interim}HTTP/1.1 503 Busy\r\nX-Filler: {}\r\n\r\n", "x".repeat(10_000));
        for size in [1, 7, 1000, refusal.len()] {
            let mut reader = Reader::default();
            let ends = (0..refusal.len()).step_by(size).map(|begin| (begin + size).min(refusal.len()));
            let mut answers = 0;
            let looked_at = bytes_looked_at(|| {
                answers = ends
                    .filter_map(|end| reader.read(&refusal.as_bytes()[..end], KEY, &request(&[])).unwrap())
                    .count();
            });
            assert_eq!((answers, looked_at), (1, refusal.len()), "in pieces of {size}");
        }
    }
}
