//! The server's end of a connection, as far as a test needs one.

use std::collections::VecDeque;

use crate::error::CloseFrame;
use crate::message::{Fragment, Message, Position};
use crate::session::{ConnectionId, Frame};

/// What the client puts on the wire.
pub(super) enum Sent {
    Frame(Frame),
    /// The answer to a ping, which the socket gives by itself.
    Pong(Vec<u8>),
}

/// One connection. It is there before it is open, and stays when it has ended, with what the server has heard.
#[derive(Default)]
pub(super) struct Server {
    pub(super) id: ConnectionId,
    pub(super) is_open: bool,
    /// What the server has not taken yet, with the bytes that each is short of.
    waiting: VecDeque<(Sent, u64)>,
    pub(super) handed: u64,
    pub(super) taken: u64,
    pub(super) stalled: bool,
    /// So many more bytes are taken; then it breaks.
    pub(super) breaks_after: Option<u64>,
    /// The client's close frame is on the wire.
    pub(super) client_closes: bool,
    /// The server has sent its close frame, or ended the connection.
    pub(super) has_ended: bool,
    pub(super) heard: Vec<Message>,
    pub(super) pings: Vec<Vec<u8>>,
    pub(super) pongs: Vec<Vec<u8>>,
    pub(super) goodbye: Option<CloseFrame>,
    /// The fragments of a message so far.
    parts: Vec<u8>,
    is_text: bool,
}

impl Server {
    /// The connection is open.
    pub(super) fn begin(&mut self, id: ConnectionId) {
        self.id = id;
        self.is_open = true;
        self.has_ended = false;
        self.goodbye = None;
    }

    /// The connection is gone. What was heard may still be asked for.
    pub(super) fn end(&mut self) {
        let before = std::mem::take(self);
        *self = Self {
            heard: before.heard,
            pings: before.pings,
            pongs: before.pongs,
            goodbye: before.goodbye,
            has_ended: true,
            ..Self::default()
        };
    }

    pub(super) fn put(&mut self, sent: Sent) {
        let size = sent.size();
        self.client_closes |= matches!(sent, Sent::Frame(Frame::Close(_)));
        self.handed += size;
        self.waiting.push_back((sent, size));
    }

    /// How many bytes wait.
    pub(super) fn waiting(&self) -> u64 {
        self.handed - self.taken
    }

    /// Takes what the server will take now, and returns what has arrived whole.
    pub(super) fn take(&mut self) -> Vec<Sent> {
        let mut whole = Vec::new();
        while !self.stalled
            && let Some((_, missing)) = self.waiting.front_mut()
        {
            let bytes = self.breaks_after.map_or(*missing, |room| room.min(*missing));
            *missing -= bytes;
            self.taken += bytes;
            self.breaks_after = self.breaks_after.map(|room| room - bytes);
            if *missing > 0 {
                break;
            }
            whole.extend(self.waiting.pop_front().map(|(sent, _)| sent));
        }
        whole
    }

    /// Whether the connection breaks now.
    pub(super) fn breaks(&self) -> bool {
        self.is_open && self.breaks_after == Some(0)
    }

    /// A message, or a piece of one, has arrived.
    pub(super) fn hear(&mut self, frame: Frame) {
        match frame {
            Frame::Message(message) => self.heard.push(message),
            Frame::Fragment(Fragment { position, payload }) => {
                if let Position::First { text } = position {
                    self.is_text = text;
                }
                self.parts.extend_from_slice(&payload);
                if position == Position::Last {
                    let bytes = std::mem::take(&mut self.parts);
                    let text = self.is_text.then(|| String::from_utf8_lossy(&bytes).into_owned());
                    self.heard.push(text.map_or_else(|| bytes.into(), Message::from));
                }
            }
            Frame::Ping(payload) => self.pings.push(payload.to_vec()),
            Frame::Close(frame) => self.goodbye = Some(frame),
        }
    }
}

impl Sent {
    /// Its size on the wire: a client's frame has a head of two to ten bytes and a mask of four (RFC 6455, section 5.2).
    fn size(&self) -> u64 {
        let payload = match self {
            Self::Frame(Frame::Message(message)) => message.len(),
            Self::Frame(Frame::Fragment(fragment)) => fragment.payload.len(),
            Self::Frame(Frame::Ping(payload)) => payload.len(),
            // Code 1005 stands for a frame without one.
            Self::Frame(Frame::Close(CloseFrame { code: 1005, .. })) => 0,
            Self::Frame(Frame::Close(frame)) => 2 + frame.reason.len(),
            Self::Pong(payload) => payload.len(),
        };
        let head = match payload {
            0..=125 => 2,
            126..=0xFFFF => 4,
            _ => 10,
        };
        (head + 4 + payload) as u64
    }
}
