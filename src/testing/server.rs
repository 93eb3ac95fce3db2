//! The server's end of a connection, with as much as a test needs.

use crate::error::CloseFrame;
use crate::message::Message;
use crate::session::ConnectionId;
use crate::transport::pipe::{End, Head, Pipe, frame};

/// What arrives from the client and may need an answer.
pub(super) enum Arrival {
    Ping(Vec<u8>),
    Close(CloseFrame),
}

/// One connection. It exists before it is open, and after it has ended, because it holds what the server has heard.
pub(super) struct Server {
    pub(super) id: ConnectionId,
    pipe: Pipe,
    pub(super) is_open: bool,
    /// The bytes from the first incomplete frame on.
    buffer: Vec<u8>,
    pub(super) stalled: bool,
    /// How many more bytes the server takes before the connection breaks.
    pub(super) breaks_after: Option<usize>,
    /// Whether the server has sent its close frame, or ended the connection.
    pub(super) has_ended: bool,
    pub(super) heard: Vec<Message>,
    pub(super) pings: Vec<Vec<u8>>,
    pub(super) pongs: Vec<Vec<u8>>,
    pub(super) goodbye: Option<CloseFrame>,
    /// The fragments of a message so far, and whether they are text.
    parts: Vec<u8>,
    is_text: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            id: ConnectionId::default(),
            pipe: Pipe::new(),
            is_open: false,
            buffer: Vec::new(),
            stalled: false,
            breaks_after: None,
            has_ended: false,
            heard: Vec::new(),
            pings: Vec::new(),
            pongs: Vec::new(),
            goodbye: None,
            parts: Vec::new(),
            is_text: false,
        }
    }
}

impl Server {
    /// Opens the connection. Returns the client's end of it.
    pub(super) fn begin(&mut self, id: ConnectionId) -> Pipe {
        self.id = id;
        self.is_open = true;
        self.has_ended = false;
        self.goodbye = None;
        self.pipe.clone()
    }

    /// Discards the connection. What the server has heard can still be read.
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

    /// Sets how much the system takes before the next turn.
    pub(super) fn make_room(&mut self) {
        self.pipe.state().room = if self.stalled { 0 } else { self.breaks_after.unwrap_or(usize::MAX) };
    }

    /// Sends a frame.
    pub(super) fn say(&mut self, first: u8, payload: &[u8]) {
        self.pipe.state().incoming.extend(frame(first, payload));
    }

    /// Sends a close frame.
    pub(super) fn close(&mut self, frame: &CloseFrame) {
        let code = frame.code.to_be_bytes();
        // Code 1005 stands for a close frame without a code.
        let payload = if frame.code == 1005 { Vec::new() } else { [&code, frame.reason.as_bytes()].concat() };
        self.say(0x88, &payload);
    }

    /// Ends the connection.
    pub(super) fn hang_up(&mut self, end: End) {
        self.has_ended = true;
        self.breaks_after = None;
        self.pipe.end(end);
    }

    /// Whether the client has something to read.
    pub(super) fn is_heard(&self) -> bool {
        let state = self.pipe.state();
        !state.incoming.is_empty() || state.end.is_some()
    }

    /// Whether the client has given up the connection.
    pub(super) fn is_left(&self) -> bool {
        self.is_open && self.pipe.state().hung_up
    }

    /// Takes what the client has sent. Returns what may need an answer.
    pub(super) fn take(&mut self) -> Vec<Arrival> {
        let (taken, _) = self.pipe.take();
        self.breaks_after = self.breaks_after.map(|room| room - taken.len());
        self.buffer.extend(taken);
        let buffer = std::mem::take(&mut self.buffer);
        let mut rest = &buffer[..];
        let mut arrivals = Vec::new();
        while let Some(head) = Head::read(rest).filter(|head| head.end <= rest.len()) {
            debug_assert!(!head.compressed, "no compression was agreed on");
            arrivals.extend(self.hear(head.opcode, head.fin, head.payload(rest)));
            rest = &rest[head.end..];
        }
        self.buffer = rest.to_vec();
        arrivals
    }

    /// Whether the connection breaks now.
    pub(super) fn breaks(&self) -> bool {
        self.is_open && self.breaks_after == Some(0)
    }

    /// Handles a frame that has arrived.
    fn hear(&mut self, opcode: u8, fin: bool, payload: Vec<u8>) -> Option<Arrival> {
        match opcode {
            8 => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                let frame = CloseFrame::new(code, reason);
                self.goodbye = Some(frame.clone());
                return Some(Arrival::Close(frame));
            }
            9 => {
                self.pings.push(payload.clone());
                return Some(Arrival::Ping(payload));
            }
            10 => {
                self.pongs.push(payload);
                return None;
            }
            _ => {}
        }
        self.is_text = if opcode == 0 { self.is_text } else { opcode == 1 };
        self.parts.extend(payload);
        if fin {
            let bytes = std::mem::take(&mut self.parts);
            let text = self.is_text.then(|| String::from_utf8_lossy(&bytes).into_owned());
            self.heard.push(text.map_or_else(|| bytes.into(), Message::from));
        }
        None
    }
}
