//! A fake socket with the worker's habits, and its own account of what became of each message.

use crate::config::Beat;
use crate::message::{Message, Position};
use crate::session::{Frame, Session};

/// The size of a frame around its payload.
const HEADER: u64 = 6;

/// Above this the socket passes on what it has buffered before it is flushed.
const BUFFER: u64 = 200;

/// Above this many bytes that the system has not taken, nothing more is handed over.
pub(super) const HIGH_WATER: u64 = 300;

/// What the system has taken of a connection when it opens.
pub(super) const UPGRADE: u64 = 100;

pub(super) struct Wire {
    beat: Beat,
    /// In the socket's own buffer.
    buffered: u64,
    /// Passed on, and of that taken by the system.
    pub(super) handed: u64,
    pub(super) taken: u64,
    /// How much more the system takes.
    pub(super) room: u64,
    /// The tickets on this connection, each with its first byte.
    messages: Vec<(u64, u64)>,
    /// The last of them is not there in full.
    cut: bool,
    /// The ends of what was reported as handed over, each with the last ticket that is there in full before it, and
    /// the last of which there is anything.
    marks: Vec<(u64, u64, u64)>,
    /// The pings on this connection, each with the last ticket before it.
    pings: Vec<([u8; 8], u64)>,
    /// The last ticket that was settled before this connection, and the last one the peer has confirmed.
    before: u64,
    confirmed: u64,
    /// Nothing may follow a close frame, either side's.
    pub(super) finished: bool,
}

impl Wire {
    pub(super) fn new(beat: Beat, settled: u64) -> Self {
        Self {
            beat,
            buffered: 0,
            handed: UPGRADE,
            taken: UPGRADE,
            room: u64::MAX,
            messages: Vec::new(),
            cut: false,
            marks: Vec::new(),
            pings: Vec::new(),
            before: settled,
            confirmed: settled,
            finished: false,
        }
    }

    pub(super) fn spilled(&self) -> u64 {
        self.handed - self.taken
    }

    /// The last ticket of which there is anything.
    fn begun(&self) -> u64 {
        self.messages.last().map_or(self.before, |(ticket, _)| *ticket)
    }

    /// The last ticket that is there in full.
    fn last_ticket(&self) -> u64 {
        self.begun() - u64::from(self.cut)
    }

    fn begin(&mut self, payload: &[u8], start: u64) {
        assert!(!self.cut, "a message between the fragments of another");
        let ticket = ticket(payload);
        assert_eq!(ticket, self.begun() + 1, "out of order, left out, or sent twice");
        self.messages.push((ticket, start));
    }

    /// Takes a frame that may be taken.
    pub(super) fn put(&mut self, frame: &Frame) {
        assert!(!self.finished, "{frame:?} after a close frame");
        let start = self.handed + self.buffered;
        let size = match frame {
            Frame::Message(message) if is_beat(message.as_bytes()) => {
                assert!(self.beat == Beat::Json && !self.cut);
                message.len() as u64
            }
            Frame::Message(message) => {
                self.begin(message.as_bytes(), start);
                message.len() as u64
            }
            Frame::Fragment(fragment) => {
                if fragment.position == (Position::First { text: true }) {
                    self.begin(&fragment.payload, start);
                }
                self.cut = fragment.position != Position::Last;
                fragment.payload.len() as u64
            }
            Frame::Ping(payload) => {
                assert_eq!(self.beat, Beat::WebSocketPing);
                self.pings.push((*payload, self.last_ticket()));
                8
            }
            Frame::Close(_) => {
                self.finished = true;
                2
            }
        };
        self.buffered += HEADER + size;
        if self.buffered > BUFFER {
            self.pass_on();
        }
    }

    /// The socket's own answer to a ping.
    pub(super) fn put_pong(&mut self) {
        if !self.finished {
            self.buffered += HEADER;
        }
    }

    /// Passes on what is buffered, and lets the system take what it has room for.
    pub(super) fn pass_on(&mut self) {
        self.handed += std::mem::take(&mut self.buffered);
        let taken = self.spilled().min(self.room);
        self.taken += taken;
        self.room -= taken;
    }

    /// Says that everything so far was passed on.
    pub(super) fn report(&mut self, session: &mut Session) {
        session.handle_handed(session.current().unwrap_or_default(), self.handed);
        if self.handed > self.marks.last().map_or(UPGRADE, |(end, ..)| *end) {
            self.marks.push((self.handed, self.last_ticket(), self.begun()));
        }
    }

    /// The payload of the ping that was sent `back` pings before the newest that is unanswered, now answered.
    pub(super) fn answer(&mut self, back: usize) -> Option<[u8; 8]> {
        let at = self.pings.len().checked_sub(back + 1)?;
        let (payload, ticket) = self.pings.drain(..=at).next_back()?;
        self.confirmed = self.confirmed.max(ticket.min(self.written()));
        Some(payload)
    }

    /// The last ticket of which the system has taken every byte.
    fn written(&self) -> u64 {
        let mark = self.marks.iter().rev().find(|(end, ..)| *end <= self.taken);
        mark.map_or(self.before, |(_, ticket, _)| *ticket)
    }

    /// The line is lost: the last ticket that may have been delivered, and the first in doubt.
    pub(super) fn settle(&self) -> (u64, u64) {
        let starts = std::iter::once(UPGRADE).chain(self.marks.iter().map(|(end, ..)| *end));
        let touched = starts.zip(&self.marks).filter(|(start, _)| *start < self.taken).last();
        let touched = touched.map_or(self.before, |(_, (_, _, begun))| *begun);
        for (ticket, start) in &self.messages {
            assert!(*ticket <= touched || *start >= self.taken, "#{ticket} left, and would go out again");
        }
        (touched, self.confirmed + 1)
    }
}

pub(super) fn is_beat(payload: &[u8]) -> bool {
    payload.starts_with(br#"{"type":"ping""#)
}

/// A message that says which it is.
pub(super) fn message(ticket: u64, size: usize) -> Message {
    format!("{ticket}:{}", "x".repeat(size)).into()
}

pub(super) fn ticket(payload: &[u8]) -> u64 {
    let text = str::from_utf8(payload).expect("text");
    text.split(':').next().and_then(|number| number.parse().ok()).expect("one of ours")
}
