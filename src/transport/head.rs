//! The head of an HTTP answer, as bytes that arrive in pieces. However it is cut, each byte is examined once.

use std::ops::Range;

use crate::config::is_token;

/// Reads a head while it arrives.
#[derive(Debug, Default)]
pub(super) struct Reader {
    lines: Lines,
    /// The head, from its status line on.
    head: Option<Head>,
}

/// Why bytes are no head of HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    /// They begin otherwise.
    Other,
    /// The first line begins as it should, and has no status.
    NoStatus,
}

/// As much of a head as has arrived.
#[derive(Debug)]
pub(super) struct Head {
    /// The minor version of HTTP/1.
    pub(super) minor_version: u8,
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) headers: Vec<(String, String)>,
    /// Whether the last line was not a header. Lines that continue it are skipped as well.
    skips: bool,
}

/// The lines of a buffer that grows at its end. No byte is examined twice.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lines {
    /// Where the next line begins.
    pub(super) begin: usize,
    /// Up to here, the next line has no end.
    seen: usize,
}

/// How every status line begins.
const START: &[u8] = b"HTTP/1.";

impl Reader {
    /// Continues with `answer`, which has grown since the last call. Returns `None` if more is needed, or the head and
    /// its length, that of the interim answers before it included.
    pub(super) fn read(&mut self, answer: &[u8]) -> Result<Option<(Head, usize)>, Odd> {
        while let Some(line) = self.lines.next(answer) {
            let line = &answer[line];
            match &mut self.head {
                // Empty lines before the status line do no harm (RFC 9112, section 2.2).
                None if line.is_empty() => {}
                None if !line.starts_with(START) => return Err(Odd::Other),
                None => self.head = Some(Head::new(line).ok_or(Odd::NoStatus)?),
                Some(head) if !line.is_empty() => head.add(line),
                // Interim answers, such as 103, come before the real one (RFC 9110, section 15.2).
                Some(Head { status: 100 | 102..=199, .. }) => self.head = None,
                Some(_) => return Ok(self.head.take().map(|head| (head, self.lines.begin))),
            }
        }
        // Bytes that can't become a status line are rejected without waiting for the rest of the line. It takes two
        // bytes to recognise TLS.
        let begun = &answer[self.lines.begin..];
        let judged = self.head.is_none() && begun.len() > 1;
        if judged && !begun.starts_with(&START[..begun.len().min(START.len())]) {
            return Err(Odd::Other);
        }
        Ok(None)
    }
}

impl Head {
    /// Parses a status line (RFC 9112, section 4).
    fn new(line: &[u8]) -> Option<Self> {
        let [minor @ b'0'..=b'9', b' ', rest @ ..] = line.strip_prefix(START)? else { return None };
        let (code, reason) = rest.trim_ascii_start().split_first_chunk::<3>()?;
        if !code.iter().all(u8::is_ascii_digit) || !matches!(reason, [] | [b' ', ..]) {
            return None;
        }
        Some(Self {
            minor_version: minor - b'0',
            status: code.iter().fold(0, |status, digit| 10 * status + u16::from(digit - b'0')),
            reason: text(reason),
            headers: Vec::new(),
            skips: true,
        })
    }

    /// Adds a line. A line that is not a header is skipped: nothing that matters is in such a line.
    fn add(&mut self, line: &[u8]) {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            // The continuation of a folded value (RFC 9112, section 5.2).
            if let Some((_, value)) = self.headers.last_mut().filter(|_| !self.skips) {
                value.push(' ');
                value.push_str(&text(line));
            }
            return;
        }
        let header = header(line);
        self.skips = header.is_none();
        self.headers.extend(header);
    }

    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.headers.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// The items of a header whose value is a list.
    pub(super) fn items(&self, name: &str) -> impl Iterator<Item = &str> {
        self.values(name).flat_map(|value| value.split(',')).map(str::trim).filter(|item| !item.is_empty())
    }
}

impl Lines {
    /// The next complete line, without its line ending.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Option<Range<usize>> {
        let unseen = bytes.get(self.seen..)?;
        let Some(length) = unseen.iter().position(|byte| *byte == b'\n') else {
            #[cfg(test)]
            tests::looked_at(unseen.len());
            self.seen = bytes.len();
            return None;
        };
        #[cfg(test)]
        tests::looked_at(length + 1);
        let end = self.seen + length;
        let begin = self.begin;
        self.skip_to(end + 1);
        Some(begin..if bytes[begin..end].ends_with(b"\r") { end - 1 } else { end })
    }

    /// Sets where the next line begins.
    pub(super) fn skip_to(&mut self, begin: usize) {
        self.begin = begin;
        self.seen = begin;
    }
}

/// Name and value of a header line. A space before the colon does no harm to a client, which only reads it (RFC 9112,
/// section 5.1).
fn header(line: &[u8]) -> Option<(String, String)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = str::from_utf8(line[..colon].trim_ascii_end()).ok().filter(|name| is_token(name))?;
    Some((name.into(), text(&line[colon + 1..])))
}

/// Decodes bytes as text. Invalid bytes become U+FFFD, and no CR or NUL remains.
fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.trim_ascii());
    text.replace(|c: char| c != '\t' && c.is_control(), "\u{FFFD}")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    thread_local! {
        static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    /// Counts bytes, for the tests that measure the work.
    pub(crate) fn looked_at(bytes: usize) {
        LOOKED_AT.set(LOOKED_AT.get() + bytes);
    }

    /// How many bytes this thread examined during `work`.
    pub(crate) fn bytes_looked_at(work: impl FnOnce()) -> usize {
        LOOKED_AT.set(0);
        work();
        LOOKED_AT.get()
    }
}
