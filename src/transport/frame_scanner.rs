//! The server's frames on their way to tungstenite (RFC 6455, section 5.2). Each is judged by its header, before its
//! payload arrives: tungstenite judges most frames afterwards, and reserves the whole length that a header announces. A
//! close frame is kept as the server sent it. tungstenite turns every code that it does not allow into 1002, including
//! the legal 1014, and 1006, which some servers do send.

use std::error::Error;
use std::fmt;
use std::ops::Range;

use crate::config::ConnectionConfig;

/// Follows the frames of a stream, and passes them on one by one until one that breaks the protocol, or a close frame.
#[derive(Debug)]
pub(crate) struct FrameScanner {
    max_message: u64,
    max_frame: u64,
    /// How many payload bytes of the frame, or of its present piece, are still to come.
    skip: u64,
    /// What remains of a long frame.
    rest: Option<Rest>,
    /// The size so far of a message whose last frame has not arrived.
    unfinished: Option<u64>,
    /// The payload of the close frame so far, once its header has been seen.
    close: Option<Vec<u8>>,
    violation: Option<Violation>,
    /// Whether the present frame, or the last one, belongs to a message.
    is_data: bool,
    /// How many bytes of messages there were so far, the headers of their frames included.
    message_bytes: u64,
    /// Whether messages may be compressed (RFC 7692).
    deflates: bool,
    /// The frame of a compressed message that is being read, or that was read last.
    deflated: Option<Deflated>,
}

/// A frame of a compressed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deflated {
    /// The opcode of its message.
    pub(crate) opcode: u8,
    /// Whether it is the first frame, and the last one, of its message.
    pub(crate) is_first: bool,
    pub(crate) is_last: bool,
}

/// What is still to come of a frame after its present piece.
#[derive(Debug)]
struct Rest {
    length: u64,
    /// The final bit of the frame, which its last piece gets.
    last: u8,
}

/// What a server did that breaks the protocol, and the close code for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) code: u16,
    pub(crate) reason: Box<str>,
}

/// What stands at the start of some bytes, between messages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A whole message in one frame, without compression. It breaks no rule, but that its text may not be UTF-8.
    Message { is_text: bool, payload: Range<usize> },
    /// The start of such a frame, which has so many bytes in all.
    Incomplete { size: u64 },
    /// Not even a header.
    Unknown,
    /// Any other frame, also one that breaks a rule.
    Other,
}

/// A longer frame is passed on as fragments of this size, each after the one before has arrived. So memory grows with
/// what arrives, and not with what a header announces.
pub(crate) const PIECE: u64 = 1 << 20;

/// The length of a piece's header.
const PIECE_HEAD: usize = 10;

struct Header {
    first: u8,
    masked: bool,
    /// The size of the header itself.
    size: usize,
    /// The length of the payload.
    length: u64,
}

impl FrameScanner {
    pub(crate) fn new(config: &ConnectionConfig) -> Self {
        Self {
            max_message: config.largest_message() as u64,
            max_frame: config.max_frame_size as u64,
            skip: 0,
            rest: None,
            unfinished: None,
            close: None,
            violation: None,
            is_data: false,
            message_bytes: 0,
            deflates: false,
            deflated: None,
        }
    }

    /// Messages may be compressed. Those that are go no further than [`begin_deflated`](Self::begin_deflated).
    pub(crate) fn allow_deflated(&mut self) {
        self.deflates = true;
    }

    /// The header of a compressed message's frame at the start of `bytes`, if there is one. Returns its size. The frame's
    /// payload follows it, which [`take_deflated`](Self::take_deflated) counts.
    pub(crate) fn begin_deflated(&mut self, bytes: &[u8]) -> Option<usize> {
        let header = Header::parse(bytes).filter(|header| self.skip == 0 && self.is_deflated(header))?;
        if let Err(violation) = self.judge(&header) {
            self.violation = Some(violation);
            return None;
        }
        let is_first = header.first & 0x0F != 0;
        let opcode = match self.deflated {
            Some(before) if !is_first => before.opcode,
            _ => header.first & 0x0F,
        };
        self.deflated = Some(Deflated { opcode, is_first, is_last: header.first & 0x80 != 0 });
        (self.skip, self.is_data) = (header.length, true);
        self.message_bytes += header.size as u64;
        Some(header.size)
    }

    /// How much of `bytes` is payload of the compressed frame that was begun.
    pub(crate) fn left_of(&self, bytes: &[u8]) -> usize {
        usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len())
    }

    /// So much of that payload was taken.
    pub(crate) fn take_deflated(&mut self, n: usize) {
        self.skip -= n as u64;
        self.message_bytes += n as u64;
    }

    /// Whether more payload of the frame is to come.
    pub(crate) fn is_inside_frame(&self) -> bool {
        self.skip > 0
    }

    /// The compressed frame that was begun last.
    pub(crate) fn deflated(&self) -> Option<Deflated> {
        self.deflated
    }

    /// Whether a frame belongs to a compressed message.
    fn is_deflated(&self, header: &Header) -> bool {
        let continues = || self.unfinished.is_some() && self.deflated.is_some_and(|frame| !frame.is_last);
        self.deflates && (header.first & 0x70 == 0x40 && matches!(header.first & 0x0F, 1 | 2))
            || matches!(header.first, 0 | 0x80) && continues()
    }

    /// What must be passed on before anything more is read: the header of a piece.
    pub(crate) fn due(&mut self) -> Option<[u8; PIECE_HEAD]> {
        let rest = self.rest.as_mut().filter(|_| self.skip == 0)?;
        self.skip = rest.length.min(PIECE);
        rest.length -= self.skip;
        let first = if rest.length == 0 { rest.last } else { 0 };
        if rest.length == 0 {
            self.rest = None;
        }
        let mut header = [first, 127, 0, 0, 0, 0, 0, 0, 0, 0];
        header[2..].copy_from_slice(&self.skip.to_be_bytes());
        Some(header)
    }

    /// Looks at the frame that comes next. Between messages only.
    #[inline]
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Next {
        let Some(header) = Header::parse(bytes) else { return Next::Unknown };
        if !matches!(header.first, 0x81 | 0x82) || self.judge(&header).is_err() {
            return Next::Other;
        }
        let size = header.length.saturating_add(header.size as u64);
        match usize::try_from(size) {
            Ok(end) if end <= bytes.len() => {
                Next::Message { is_text: header.first == 0x81, payload: header.size..end }
            }
            _ => Next::Incomplete { size },
        }
    }

    /// A message of so many bytes, the header included, was taken without being passed on.
    pub(crate) fn take_message(&mut self, size: usize) {
        self.is_data = true;
        self.message_bytes += size as u64;
    }

    /// How much more of the present frame, or of its present piece, may be passed on. Between frames there is no bound.
    pub(crate) fn room(&self) -> usize {
        if self.skip == 0 { usize::MAX } else { usize::try_from(self.skip).unwrap_or(usize::MAX) }
    }

    /// How much more of the present frame is to come, all its pieces included.
    pub(crate) fn left(&self) -> u64 {
        self.skip + self.rest.as_ref().map_or(0, |rest| rest.length)
    }

    /// Scans what is to be passed on next, up to the end of the frame, or of its piece. Returns how much of it that is. A
    /// header that is incomplete is not passed on.
    pub(crate) fn feed(&mut self, bytes: &mut [u8]) -> usize {
        let mut at = 0;
        loop {
            let n = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len() - at);
            if let Some(close) = &mut self.close {
                close.extend(&bytes[at..at + n]);
            }
            self.skip -= n as u64;
            self.message_bytes += if self.is_data { n as u64 } else { 0 };
            at += n;
            if at == bytes.len() || self.close.is_some() || (at > 0 && self.skip == 0) {
                return at;
            }
            let Some(header) = Header::parse(&bytes[at..]) else { return at };
            if let Err(violation) = self.judge(&header) {
                self.violation = Some(violation);
                return at;
            }
            self.skip = header.length;
            self.is_data = header.first & 0x0F < 8;
            self.message_bytes += if self.is_data { header.size as u64 } else { 0 };
            if header.length > PIECE {
                self.skip = PIECE;
                self.rest = Some(Rest { length: header.length - PIECE, last: header.first & 0x80 });
                bytes[at] &= 0x0F;
                bytes[at + 2..at + header.size].copy_from_slice(&PIECE.to_be_bytes());
            }
            if header.first & 0x0F == 8 {
                self.close = Some(Vec::new());
            }
            at += header.size;
        }
    }

    /// Checks a header against the rules and the limits.
    #[inline]
    fn judge(&mut self, header: &Header) -> Result<(), Violation> {
        let Header { first, masked, length, .. } = *header;
        let (last, opcode) = (first & 0x80 != 0, first & 0x0F);
        let broken = |reason: &str| Err(Violation { code: 1002, reason: reason.into() });
        let is_deflated = self.is_deflated(header);
        if first & 0x70 != 0 && !is_deflated {
            return broken(if self.deflates && first & 0x30 == 0 {
                "the bit of a compressed message in a frame that can't have it (RFC 7692, section 6)"
            } else if self.deflates {
                "a frame with a reserved bit that compression does not use"
            } else {
                "a frame with a reserved bit, which only an extension may set, and none was agreed on"
            });
        }
        if masked {
            return broken("a masked frame, which only a client may send");
        }
        if length > i64::MAX as u64 {
            return broken("a length whose highest bit is set (RFC 6455, section 5.2)");
        }
        if length < header.least() {
            return broken(&format!(
                "the length {length} in {} bytes, where the shortest form must be used (RFC 6455, section 5.2)",
                header.size - 2
            ));
        }
        match opcode {
            0..=2 => {}
            8..=10 if !last => return broken("a control frame in fragments"),
            8..=10 if length > 125 => {
                return broken(&format!("a control frame of {length} bytes, where 125 are allowed"));
            }
            8 if length == 1 => {
                return broken("a close frame of one byte, where a code takes two (RFC 6455, section 5.5.1)");
            }
            8..=10 => return Ok(()),
            unknown => return broken(&format!("a frame with the unknown opcode {unknown}")),
        }
        let size = match (opcode, self.unfinished) {
            (0, None) => return broken("a continuation frame with nothing to continue"),
            (1 | 2, Some(_)) => return broken("a new message in the middle of one in fragments"),
            (_, before) => before.unwrap_or(0).saturating_add(length),
        };
        let over = |what: &str, size: u64, allowed: u64, setting: &str| {
            let reason =
                format!("a {what} of at least {size} bytes, where {allowed} are allowed ({setting})");
            Err(Violation { code: 1009, reason: reason.into() })
        };
        // A compressed message is judged by what it becomes.
        if size > self.max_message && !is_deflated {
            return over("message", size, self.max_message, "max_message_size");
        }
        if length > self.max_frame {
            return over("frame", length, self.max_frame, "max_frame_size");
        }
        self.unfinished = (!last).then_some(size);
        Ok(())
    }

    /// Why nothing more is passed on, if the protocol was violated.
    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Whether the close frame was passed on. Nothing after it counts.
    pub(crate) fn is_closed(&self) -> bool {
        self.close.is_some() && self.skip == 0
    }

    /// The close frame's code and reason, if it has a code.
    pub(crate) fn close(&self) -> Option<(u16, &[u8])> {
        match self.close.as_deref()? {
            [high, low, reason @ ..] => Some((u16::from_be_bytes([*high, *low]), reason)),
            _ => None,
        }
    }

    /// How many bytes of messages there were so far, the headers of their frames included.
    pub(crate) fn message_bytes(&self) -> u64 {
        self.message_bytes
    }

    /// Whether a message has begun and is not complete.
    pub(crate) fn is_inside_message(&self) -> bool {
        self.unfinished.is_some() || self.is_data && (self.skip > 0 || self.rest.is_some())
    }

    /// Whether the stream so far consists of whole messages and control frames, and goes on.
    pub(crate) fn is_between_messages(&self) -> bool {
        let is_between_frames = self.skip == 0 && self.rest.is_none();
        is_between_frames && self.unfinished.is_none() && self.close.is_none() && self.violation.is_none()
    }
}

impl Header {
    /// Parses the header at the start of `bytes`, if it is complete.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [first, second, extended @ ..] = bytes else { return None };
        let masked = second & 0x80 != 0;
        let (width, short) = match second & 0x7F {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, short),
        };
        let length = extended.get(..width)?;
        let length = length.iter().fold(u64::from(short), |length, byte| length << 8 | u64::from(*byte));
        let size = 2 + width + if masked { 4 } else { 0 };
        (bytes.len() >= size).then_some(Self { first: *first, masked, size, length })
    }

    /// The smallest length for which an unmasked header of this size is the shortest form.
    fn least(&self) -> u64 {
        match self.size {
            2 => 0,
            4 => 126,
            _ => 0x1_0000,
        }
    }
}

/// What is wrong with a close code that no endpoint may send.
pub(super) fn misused(code: u16) -> &'static str {
    match code {
        1005 | 1006 | 1015 => "which must never be on the wire (RFC 6455, section 7.4.1)",
        1000..=2999 => "which is reserved and has no meaning (RFC 6455, section 7.4)",
        _ => "which is not between 1000 and 4999 (RFC 6455, section 7.4.2)",
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for Violation {}

#[cfg(test)]
mod tests;
