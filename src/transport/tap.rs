//! The close code as the server sent it. tungstenite turns every code that it does not allow into 1002, the legal 1014
//! among them, and 1006, which some servers do send; so the bytes are looked at on their way to it.

/// Follows the frames of a stream (RFC 6455, section 5.2), skipping what they carry, until a close frame.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    /// The header so far: 14 bytes at most.
    head: Vec<u8>,
    /// How much of a payload is still to come.
    skip: u64,
    /// The last data frame was not the last of its message.
    unfinished: bool,
    /// The payload of the close frame so far, once its header was seen.
    close: Option<Vec<u8>>,
}

/// What a close frame carries at most: more than this is a violation that tungstenite finds.
const LARGEST: u64 = 125;

impl Tap {
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if let Some(close) = &mut self.close {
                let n = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                close.extend(&bytes[..n]);
                self.skip -= n as u64;
                // Nothing counts after a close frame.
                return;
            }
            if self.skip > 0 {
                let n = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
                self.skip -= n as u64;
                bytes = &bytes[n..];
                continue;
            }
            let (byte, rest) = (bytes[0], &bytes[1..]);
            bytes = rest;
            self.head.push(byte);
            if let Some(length) = self.payload_length() {
                self.skip = length;
                if self.head[0] & 0x08 == 0 {
                    self.unfinished = self.head[0] & 0x80 == 0;
                }
                if self.head[0] & 0x0F == 8 && length <= LARGEST {
                    self.close = Some(Vec::new());
                }
                self.head.clear();
            }
        }
    }

    /// The close frame's code and reason, if its code was in it.
    pub(crate) fn close(&self) -> Option<(u16, &[u8])> {
        match self.close.as_deref()? {
            [high, low, reason @ ..] => Some((u16::from_be_bytes([*high, *low]), reason)),
            _ => None,
        }
    }

    /// Whether everything up to here was whole messages and control frames.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.head.is_empty() && self.skip == 0 && self.close.is_none() && !self.unfinished
    }

    /// The length of the payload, once the header is complete.
    fn payload_length(&self) -> Option<u64> {
        let [_, second, extended @ ..] = self.head.as_slice() else { return None };
        let masked = if second & 0x80 == 0 { 0 } else { 4 };
        let (width, short) = match second & 0x7F {
            126 => (2, 0),
            127 => (8, 0),
            short => (0, short),
        };
        if extended.len() < width + masked {
            return None;
        }
        let length = extended[..width].iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        Some(if width == 0 { u64::from(short) } else { length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text frames of all three forms of length, a ping, and a close frame with 1014 and a reason.
    fn stream() -> Vec<u8> {
        let mut stream = vec![0x81, 2, b'h', b'i', 0x82, 126, 1, 0];
        stream.extend([0x88; 256]);
        stream.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        stream.extend(std::iter::repeat_n(0x88, 65_536));
        stream.extend([0x89, 0, 0x88, 5, 0x03, 0xF6, b'b', b'y', b'e', 0x88, 2, 3, 0xE8]);
        stream
    }

    #[test]
    fn the_close_frame_is_found_however_the_stream_is_cut() {
        let stream = stream();
        for size in [1, 2, 3, 7, 1000, 70_000] {
            let mut tap = Tap::default();
            stream.chunks(size).for_each(|chunk| tap.feed(chunk));
            assert_eq!(tap.close(), Some((1014, &b"bye"[..])), "chunks of {size}");
        }
    }

    #[test]
    fn a_message_is_over_with_the_last_byte_of_its_last_fragment() {
        let mut tap = Tap::default();
        let mut between = |bytes: &[u8]| {
            tap.feed(bytes);
            tap.is_between_messages()
        };
        assert!(between(&[]));
        assert!(!between(&[0x01]) && !between(&[2, b'h']) && !between(b"i"), "more fragments are to come");
        assert!(!between(&[0x89, 0]), "a ping in between");
        assert!(!between(&[0x80, 1]) && between(b"!"));
        assert!(between(&[0x82, 0, 0x8A, 0]));
    }

    #[test]
    fn a_close_frame_without_a_code_has_none() {
        let mut tap = Tap::default();
        tap.feed(&[0x88, 0]);
        assert_eq!(tap.close(), None);
    }
}
