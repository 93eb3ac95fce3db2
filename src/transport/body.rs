//! The body of a refusal, as much of it as arrives.

use std::ops::Range;

use crate::error::Rejection;
use crate::transport::head::Lines;

/// How the body of a refusal ends (RFC 9112, section 6).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Length(usize),
    Chunked(Chunks),
    UntilEnd,
}

/// The chunks that have arrived. However they are cut, each byte of their framing is examined once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunks {
    lines: Lines,
    /// Where the data of each chunk lie. The last chunk may be incomplete.
    data: Vec<Range<usize>>,
    /// Whether the last chunk has arrived.
    ended: bool,
}

impl Body {
    pub(crate) fn new(rejection: &Rejection) -> Self {
        let chunked = |(name, value): &(String, String)| {
            name.eq_ignore_ascii_case("Transfer-Encoding") && value.to_ascii_lowercase().contains("chunked")
        };
        if rejection.headers.iter().any(chunked) {
            return Self::Chunked(Chunks::default());
        }
        match rejection.header("Content-Length").map(|value| value.trim().parse()) {
            Some(Ok(length)) => Self::Length(length),
            _ if matches!(rejection.status, 204 | 304) => Self::Length(0),
            _ => Self::UntilEnd,
        }
    }

    /// Whether `body`, which has grown since the last call, holds the whole body.
    pub(crate) fn is_complete(&mut self, body: &[u8]) -> bool {
        match self {
            Self::Length(length) => body.len() >= *length,
            Self::Chunked(chunks) => chunks.find(body),
            Self::UntilEnd => false,
        }
    }

    pub(crate) fn decode(&mut self, mut body: Vec<u8>) -> Vec<u8> {
        match self {
            Self::Length(length) => body.truncate(*length),
            Self::Chunked(chunks) => {
                chunks.find(&body);
                return chunks.join(&body);
            }
            Self::UntilEnd => {}
        }
        body
    }
}

impl Chunks {
    /// Finds the chunks that have begun. Returns whether the last one is among them.
    fn find(&mut self, encoded: &[u8]) -> bool {
        while let Some(line) = (!self.ended).then(|| self.lines.next(encoded)).flatten() {
            let begin = self.lines.begin;
            let Ok(httparse::Status::Complete((_, size))) =
                httparse::parse_chunk_size(&encoded[line.start..begin])
            else {
                // This is not a chunk, so nothing after it can be parsed.
                self.lines.skip_to(usize::MAX);
                break;
            };
            self.ended = size == 0;
            let end = begin.saturating_add(usize::try_from(size).unwrap_or(usize::MAX));
            self.data.push(begin..end);
            // A chunk is followed by CR LF.
            self.lines.skip_to(end.saturating_add(2));
        }
        self.ended
    }

    fn join(&self, encoded: &[u8]) -> Vec<u8> {
        let part = |range: &Range<usize>| encoded.get(range.start..range.end.min(encoded.len()));
        self.data.iter().filter_map(part).collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::answer::tests::refused;
    use crate::transport::head::tests::bytes_looked_at;

    fn unchunk(encoded: &[u8]) -> (Vec<u8>, bool) {
        let mut chunks = Chunks::default();
        let ended = chunks.find(encoded);
        (chunks.join(encoded), ended)
    }

    #[test]
    fn bodies_end_as_their_headers_say() {
        let body = |headers: &str| Body::new(&refused(&format!("HTTP/1.1 403 No\r\n{headers}\r\n")));
        let chunked = Body::Chunked(Chunks::default());
        assert_eq!(body("Content-Length: 5\r\n"), Body::Length(5));
        assert_eq!(body("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), chunked);
        assert_eq!(body("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"), chunked);
        assert_eq!(body("Content-Length: x\r\n"), Body::UntilEnd);
        assert!(!Body::Length(5).is_complete(b"1234") && Body::Length(5).is_complete(b"12345"));
    }

    #[test]
    fn chunks_are_joined_as_far_as_they_came() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), (b"abcde".to_vec(), true));
        assert_eq!(unchunk(b"3\r\nabc\r\n2\r\nd"), (b"abcd".to_vec(), false));
        assert_eq!(unchunk(b"ffffffffffffffff\r\nab"), (b"ab".to_vec(), false));
        assert_eq!(unchunk(b"zz"), (Vec::new(), false));
        assert_eq!(unchunk(b"2\r\nab\r\nzz\r\n1\r\nc\r\n"), (b"ab".to_vec(), false));
    }

    #[test]
    fn chunks_cost_what_their_framing_has_in_bytes_however_they_are_cut() {
        let extended = format!("1;{}\r\nx\r\n", "y".repeat(1000));
        let encoded = format!("{}{extended}0\r\n", "1\r\nx\r\n".repeat(1000));
        let framing = encoded.len() - 1001 * 3;
        for size in [1, 7, 1000, encoded.len()] {
            let mut chunks = Chunks::default();
            let looked_at = bytes_looked_at(|| {
                for begin in (0..encoded.len()).step_by(size) {
                    chunks.find(&encoded.as_bytes()[..(begin + size).min(encoded.len())]);
                }
            });
            assert_eq!((chunks.ended, looked_at), (true, framing), "in pieces of {size}");
            assert_eq!(chunks.join(encoded.as_bytes()), [b'x'; 1001]);
        }
    }
}
