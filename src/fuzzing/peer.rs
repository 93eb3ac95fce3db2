//! The server's end of a connection: it takes what the client sends as RFC 6455 has it, and makes frames of its own.

use std::collections::VecDeque;

use super::ledger::label;

pub(super) struct Peer {
    /// What came, from the first frame that is not whole.
    buffer: Vec<u8>,
    /// The fragments of a message so far.
    partial: Option<Vec<u8>>,
    /// The client's pings that were not answered, each with the newest ticket before it.
    pings: Vec<(Vec<u8>, u64)>,
    /// The newest of the application's messages that came in whole, and up to which they were confirmed.
    newest: u64,
    sure: u64,
    /// The pings of our own that were not answered.
    asked: VecDeque<Vec<u8>>,
    /// The client's close frame has come.
    closed: bool,
    /// Bytes were sent that need not be frames: nobody knows what the client makes of them.
    pub(super) raw: bool,
    /// The messages that were sent.
    pub(super) sent: u64,
    /// A message of ours has more fragments to come.
    open: bool,
}

/// What a client said.
#[derive(Debug)]
pub(super) enum Said {
    Message(Vec<u8>),
    Close,
}

impl Peer {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            partial: None,
            pings: Vec::new(),
            newest: 0,
            sure: 0,
            asked: VecDeque::new(),
            closed: false,
            raw: false,
            sent: 0,
            open: false,
        }
    }

    /// Takes what the client has sent.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Said> {
        self.buffer.extend(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut said = Vec::new();
        let mut rest = &buffer[..];
        while let Some((opcode, fin, at, length)) = header(rest) {
            assert!(!self.closed, "a frame behind the close frame");
            let end = at + length;
            if rest.len() < end {
                break;
            }
            said.extend(self.hear(opcode, fin, unmask(rest, at, end)));
            rest = &rest[end..];
        }
        self.buffer = rest.to_vec();
        said
    }

    /// What there is of a message that did not come in whole.
    pub(super) fn torn(&self) -> Option<Vec<u8>> {
        let mut payload = self.partial.clone().unwrap_or_default();
        if let Some((opcode, _, at, _)) = header(&self.buffer)
            && opcode < 8
        {
            payload.extend(unmask(&self.buffer, at, self.buffer.len()));
        }
        (!payload.is_empty()).then_some(payload)
    }

    fn hear(&mut self, opcode: u8, fin: bool, payload: Vec<u8>) -> Option<Said> {
        match opcode {
            8 => {
                self.closed = true;
                match payload.as_slice() {
                    [] => {}
                    [high, low, reason @ ..] => {
                        let code = u16::from_be_bytes([*high, *low]);
                        assert!(matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999), "close code {code}");
                        assert!(std::str::from_utf8(reason).is_ok());
                    }
                    [_] => panic!("half a close code"),
                }
                Some(Said::Close)
            }
            9 => {
                assert_eq!(payload.len(), 8, "a heartbeat is a counter");
                self.pings.push((payload, self.newest));
                None
            }
            10 => {
                // Only the newest of several pings need be answered.
                let at = self.asked.iter().position(|asked| *asked == payload);
                assert!(at.is_some() || self.raw, "a pong that nobody asked for: {payload:?}");
                self.asked.drain(..at.map_or(0, |at| at + 1));
                None
            }
            0..=2 => {
                assert_eq!(opcode == 0, self.partial.is_some(), "fragments of two messages");
                let mut message = self.partial.take().unwrap_or_default();
                message.extend(payload);
                if fin {
                    self.newest = label(&message).unwrap_or(self.newest);
                    return Some(Said::Message(message));
                }
                self.partial = Some(message);
                None
            }
            _ => panic!("opcode {opcode}"),
        }
    }

    /// Whether the newest of our pings has its pong.
    pub(super) fn is_answered(&self) -> bool {
        self.asked.is_empty() || self.raw
    }

    /// A text message that says which it is.
    pub(super) fn message(&mut self, size: usize) -> Vec<u8> {
        let text = format!("m{}:{}", self.number(), "x".repeat(size));
        self.text(text.as_bytes())
    }

    pub(super) fn text(&mut self, payload: &[u8]) -> Vec<u8> {
        self.raw |= self.open;
        frame(0x81, payload)
    }

    /// One more fragment.
    pub(super) fn fragment(&mut self, fin: bool, size: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        if !self.open {
            payload.extend(format!("m{}:", self.number()).into_bytes());
        }
        payload.extend(std::iter::repeat_n(b'y', size));
        let opcode = u8::from(!self.open) | if fin { 0x80 } else { 0 };
        self.open = !fin;
        frame(opcode, &payload)
    }

    pub(super) fn ping(&mut self, payload: &[u8]) -> Vec<u8> {
        let payload = &payload[..payload.len().min(125)];
        self.asked.push_back(payload.to_vec());
        frame(0x89, payload)
    }

    /// The answer to the ping that came as `back` pings before the newest.
    pub(super) fn pong(&mut self, back: usize) -> Vec<u8> {
        let at = self.pings.len().checked_sub(back + 1);
        let Some(at) = at else { return Vec::new() };
        let (payload, newest) = self.pings.remove(at);
        self.sure = self.sure.max(newest);
        frame(0x8A, &payload)
    }

    /// A pong that may answer nothing.
    pub(super) fn forge(&mut self, payload: &[u8]) -> Vec<u8> {
        self.sure = u64::MAX;
        frame(0x8A, payload)
    }

    /// Up to this ticket, the client may have confirmations.
    pub(super) fn sure(&self) -> u64 {
        if self.raw { u64::MAX } else { self.sure }
    }

    fn number(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }
}

/// A frame of a server.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..=125), _) => frame.push(length),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// Opcode, FIN, where the payload begins and how long it is, as section 5.2 has it for a client's frames.
fn header(bytes: &[u8]) -> Option<(u8, bool, usize, usize)> {
    let [first, second, ..] = bytes else { return None };
    let (opcode, fin) = (first & 0x0F, first & 0x80 != 0);
    assert_eq!(first & 0x70, 0, "reserved bits");
    assert_ne!(second & 0x80, 0, "a client's frames are masked");
    let width = match second & 0x7F {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let extended = bytes.get(2..2 + width)?;
    let length = if width == 0 {
        usize::from(second & 0x7F)
    } else {
        let length = extended.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        assert!(length > if width == 2 { 125 } else { 0xFFFF }, "{length} bytes in {width}");
        length
    };
    assert!(opcode < 8 || (fin && length <= 125), "a control frame");
    let at = 2 + width + 4;
    (bytes.len() >= at).then_some((opcode, fin, at, length))
}

fn unmask(bytes: &[u8], at: usize, end: usize) -> Vec<u8> {
    let mask = &bytes[at - 4..at];
    let mut payload = bytes[at..end].to_vec();
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    payload
}
