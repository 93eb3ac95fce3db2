//! The server's end of a connection: it parses what the client sends according to RFC 6455, and makes frames of its
//! own.

use std::collections::VecDeque;

use super::codec::Codec;
use super::ledger::label;
use crate::compression::Compression;
use crate::transport::pipe::{Head, frame};

pub(super) struct Peer {
    /// Received bytes, from the first incomplete frame on.
    buffer: Vec<u8>,
    /// The fragments of an incomplete message so far.
    partial: Option<Vec<u8>>,
    /// Whether the message under way is compressed, and what compresses.
    compressed: bool,
    codec: Option<Codec>,
    /// The client's unanswered pings, each with the newest ticket before it.
    pings: Vec<(Vec<u8>, u64)>,
    /// The newest of the application's messages that arrived in full, and the newest that was confirmed.
    newest: u64,
    sure: u64,
    /// Our own unanswered pings.
    asked: VecDeque<Vec<u8>>,
    /// The client's close frame has come.
    closed: bool,
    /// Bytes that need not be frames were sent: nobody knows what the client makes of them.
    pub(super) raw: bool,
    /// The number of the connection, and how many messages were sent.
    connection: u64,
    sent: u64,
    /// A message of ours has more fragments to come.
    open: bool,
}

/// What codes a connection with this compression.
pub(super) fn codec(agreed: &Compression) -> Codec {
    Codec::new((agreed.client_no_context_takeover, agreed.server_no_context_takeover))
}

/// What a client has sent.
#[derive(Debug)]
pub(super) enum Said {
    Message(Vec<u8>),
    Close,
}

impl Peer {
    pub(super) fn new(connection: u64, agreed: Option<&Compression>) -> Self {
        Self {
            connection,
            compressed: false,
            codec: agreed.map(codec),
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

    /// Takes in what the client has sent.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<Said> {
        self.buffer.extend(bytes);
        let buffer = std::mem::take(&mut self.buffer);
        let mut said = Vec::new();
        let mut rest = &buffer[..];
        while let Some(head) = Head::read(rest) {
            assert!(!self.closed, "a frame behind the close frame");
            if rest.len() < head.end {
                break;
            }
            if matches!(head.opcode, 1 | 2) {
                self.compressed = head.compressed;
            }
            said.extend(self.hear(head.opcode, head.fin, head.payload(rest)));
            rest = &rest[head.end..];
        }
        self.buffer = rest.to_vec();
        said
    }

    /// The part that arrived of an incomplete message.
    pub(super) fn torn(&mut self) -> Option<Vec<u8>> {
        let mut payload = self.partial.clone().unwrap_or_default();
        if let Some(head) = Head::read(&self.buffer).filter(|head| head.opcode < 8) {
            self.compressed = if head.opcode == 0 { self.compressed } else { head.compressed };
            payload.extend(head.payload(&self.buffer));
        }
        if let Some(codec) = self.codec.as_mut().filter(|_| self.compressed) {
            payload = codec.inflate(payload, false);
            self.compressed = false;
            (self.partial, self.buffer) = (None, Vec::new());
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
                    if let Some(codec) = self.codec.as_mut().filter(|_| self.compressed) {
                        message = codec.inflate(message, true);
                    }
                    assert!(!self.compressed || self.codec.is_some(), "nothing was agreed on");
                    self.newest = label(&message).unwrap_or(self.newest);
                    return Some(Said::Message(message));
                }
                self.partial = Some(message);
                None
            }
            _ => panic!("opcode {opcode}"),
        }
    }

    /// Whether our newest ping has its pong.
    pub(super) fn is_answered(&self) -> bool {
        self.asked.is_empty() || self.raw
    }

    /// A text message that contains its number.
    pub(super) fn message(&mut self, size: usize) -> Vec<u8> {
        let text = format!("m{}:{}", self.number(), "x".repeat(size));
        self.text(text.as_bytes())
    }

    pub(super) fn text(&mut self, payload: &[u8]) -> Vec<u8> {
        self.raw |= self.open;
        // Every other message, so that both kinds follow each other.
        match &mut self.codec {
            Some(codec) if payload.len() % 2 == 1 => frame(0xC1, &codec.deflate(payload, true, true)),
            _ => frame(0x81, payload),
        }
    }

    /// One more fragment.
    pub(super) fn fragment(&mut self, fin: bool, size: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        if !self.open {
            payload.extend(format!("m{}:", self.number()).into_bytes());
        }
        payload.extend(std::iter::repeat_n(b'y', size));
        let is_first = !self.open;
        let mut first = u8::from(is_first) | if fin { 0x80 } else { 0 };
        self.open = !fin;
        if let Some(codec) = &mut self.codec {
            payload = codec.deflate(&payload, is_first, fin);
            first |= if is_first { 0x40 } else { 0 };
        }
        frame(first, &payload)
    }

    pub(super) fn ping(&mut self, payload: &[u8]) -> Vec<u8> {
        let payload = &payload[..payload.len().min(125)];
        self.asked.push_back(payload.to_vec());
        frame(0x89, payload)
    }

    /// The answer to the ping that came `back` pings before the newest.
    pub(super) fn pong(&mut self, back: usize) -> Vec<u8> {
        let at = self.pings.len().checked_sub(back + 1);
        let Some(at) = at else { return Vec::new() };
        let (payload, newest) = self.pings.remove(at);
        self.sure = self.sure.max(newest);
        frame(0x8A, &payload)
    }

    /// A pong that may belong to no ping.
    pub(super) fn forge(&mut self, payload: &[u8]) -> Vec<u8> {
        self.sure = u64::MAX;
        frame(0x8A, payload)
    }

    /// The ticket up to which the client may have confirmations.
    pub(super) fn sure(&self) -> u64 {
        if self.raw { u64::MAX } else { self.sure }
    }

    fn number(&mut self) -> String {
        self.sent += 1;
        format!("{}.{}", self.connection, self.sent)
    }
}
