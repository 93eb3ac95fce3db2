//! What goes out: frames ahead of the outbox, the outbox, and what the system has taken of them.

use std::time::{Duration, Instant, SystemTime};

use crate::config::deadline;
use crate::error::CloseFrame;
use crate::event::Ticket;
use crate::message::Message;
use crate::protocol::{Outgoing, RequestId};
use crate::session::Session;
use crate::session::heartbeat::Pulse;

/// A frame for the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Message(Message),
    Ping([u8; 8]),
    Close(CloseFrame),
}

/// A frame that goes out ahead of the outbox.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) frame: Frame,
    /// The number of the heartbeat that it is.
    pub(super) beat: Option<u64>,
}

impl Session {
    /// Everything polled so far has been handed to the socket, and ends at byte `end` of its connection.
    pub(crate) fn handle_handed(&mut self, end: u64) {
        self.outbox.mark(end, self.beat_handed);
    }

    /// The system has taken `taken` bytes of the connection; `blocked` says that more wait.
    pub(crate) fn handle_progress(&mut self, now: Instant, taken: u64, blocked: bool) {
        // A connection that was given up in the same turn reports once more before its socket is dropped.
        if !self.is_up() {
            return;
        }
        let moved = taken > self.taken;
        self.taken = taken;
        if moved {
            if self.blocked_since.is_some() {
                self.heartbeat.handle_progress(now);
            }
            if let Some(beat) = self.outbox.progress(taken) {
                self.heartbeat.handle_written(now, beat);
            }
        }
        if !blocked {
            self.blocked_since = None;
        } else if moved || self.blocked_since.is_none() {
            self.blocked_since = Some(now);
        }
    }

    /// The next frame for the socket.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        loop {
            if let Some(Queued { frame, beat }) = self.frames.pop_front() {
                self.beat_handed = beat.unwrap_or(self.beat_handed);
                return Some(frame);
            }
            if !self.wants_outbox() {
                return None;
            }
            let Some((ticket, message)) = self.outbox.pop() else { return self.poll_closing() };
            if self.protocol.is_none() {
                return Some(Frame::Message(message));
            }
            let request = self.requests.hand(ticket).then_some(RequestId(ticket));
            let outgoing = Outgoing { message, ticket: Ticket(ticket), request };
            self.hook(now, |protocol, cx| protocol.on_send(cx, outgoing));
        }
    }

    pub(super) fn beat(&mut self, now: Instant, pulse: Pulse) {
        self.stats.heartbeats += 1;
        let beat = Some(self.heartbeat.sent());
        let frame = match pulse {
            Pulse::Ping(payload) => {
                self.pings.push_back((self.heartbeat.sent(), self.outbox.last_handed()));
                // The oldest would confirm the least.
                if self.pings.len() > 32 {
                    self.pings.pop_front();
                }
                Frame::Ping(payload)
            }
            Pulse::Json => {
                let unix = self.wall_at(now).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Frame::Message(json_ping(unix))
            }
            Pulse::Protocol => return self.protocol_beat(now),
        };
        self.frames.push_back(Queued { frame, beat });
    }

    pub(super) fn write_deadline(&self) -> Option<Instant> {
        self.blocked_since.map(|since| deadline(since, self.config.write_timeout))
    }
}

impl Frame {
    /// How much memory it takes, roughly.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Message(message) => message.len(),
            Self::Ping(_) | Self::Close(_) => 0,
        }
    }
}

impl From<Frame> for Queued {
    fn from(frame: Frame) -> Self {
        Self { frame, beat: None }
    }
}

fn json_ping(unix: Duration) -> Message {
    format!(r#"{{"type":"ping","timestamp":{}}}"#, unix.as_millis()).into()
}
