//! What goes out: frames ahead of the outbox, the outbox, and what the system has taken of them.

use std::time::{Duration, Instant, SystemTime};

use crate::config::{Beat, deadline};
use crate::error::CloseFrame;
use crate::event::{Event, Ticket, Tickets};
use crate::message::{Fragment, Message, Position};
use crate::protocol::{Outgoing, RequestId};
use crate::session::Session;
use crate::session::heartbeat::Pulse;
use crate::state::ConnectionState;

/// A frame for the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Message(Message),
    Fragment(Fragment),
    Ping([u8; 8]),
    Close(CloseFrame),
}

/// A frame that goes out ahead of the outbox.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) frame: Frame,
    /// The number of the heartbeat that it is.
    pub(super) beat: Option<u64>,
    /// A message of the outbox is complete with it.
    pub(super) completes: bool,
}

/// A message of which fragments have gone out.
#[derive(Debug)]
pub(super) struct Cut {
    message: Queued,
    sent: usize,
}

/// How far the messages have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) written: u64,
    /// Up to this ticket the fate is known: confirmed, or in doubt for good.
    pub(crate) settled: u64,
}

/// Messages that will not be confirmed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    pub(crate) tickets: Tickets,
    /// They were never written; else they may have arrived or not.
    pub(crate) expired: bool,
}

impl Session {
    /// The caller wants to know whether everything up to ticket `through` has arrived: the server is asked as soon as it
    /// is out.
    pub(crate) fn handle_confirm(&mut self, through: u64) {
        self.confirm_through = self.confirm_through.max(through);
    }

    /// How far the messages have come.
    pub(crate) fn watermarks(&self) -> Watermarks {
        let (written, settled) = self.outbox.watermarks();
        Watermarks { written, settled }
    }

    /// What became doubtful since the last call.
    pub(crate) fn take_doubts(&mut self) -> Vec<Doubt> {
        std::mem::take(&mut self.doubts)
    }

    pub(super) fn doubt(&mut self, tickets: &Tickets, expired: bool) {
        if !tickets.is_empty() {
            self.doubts.push(Doubt { tickets: tickets.clone(), expired });
        }
    }

    /// Lets fall what has waited too long.
    pub(super) fn expire(&mut self, now: Instant) {
        // What a closed session holds is counted as left.
        while self.config.max_age.is_some() && self.state != ConnectionState::Closed {
            let tickets = self.outbox.expire(now);
            if tickets.is_empty() {
                return;
            }
            self.stats.messages_expired += tickets.len();
            self.doubt(&tickets, true);
            self.events.push_back(Event::Expired { tickets });
        }
    }

    /// Everything polled so far has been handed to the socket, and ends at byte `end` of its connection.
    pub(crate) fn handle_handed(&mut self, end: u64) {
        self.outbox.mark(end, self.beat_handed);
    }

    /// The system has taken `taken` bytes of the connection, while more is handed over: a loss before the next
    /// `handle_progress` counts with it.
    pub(crate) fn handle_taken(&mut self, taken: u64) {
        self.taken_ahead = taken;
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

    /// The next message for the socket, where it goes out as it came and nothing else is due: asked for ahead of
    /// [`poll_transmit`](Self::poll_transmit), which has to take a share in its payload.
    pub(crate) fn poll_message(&mut self) -> Option<&Message> {
        let is_plain = self.protocol.is_none() && self.frames.is_empty() && self.cut.is_none();
        let fits = self.outbox.next_size()? <= self.config.fragment.unwrap_or(usize::MAX);
        if !is_plain || !fits || !self.wants_outbox() || self.should_ask() {
            return None;
        }
        self.outbox.pop_whole()
    }

    /// The next frame for the socket.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        loop {
            if let Some(frame) = self.next_frame() {
                return Some(frame);
            }
            if !self.wants_outbox() {
                return None;
            }
            if self.should_ask() {
                self.ask(now);
                continue;
            }
            if (self.hold.is_some() || self.is_switching()) && self.outbox.has_waiting() {
                return self.poll_closing();
            }
            let Some((ticket, message)) = self.outbox.pop() else { return self.poll_closing() };
            let message = message.clone();
            if self.protocol.is_none() {
                self.frames.push_back(Queued { completes: true, ..Frame::Message(message).into() });
                continue;
            }
            let handed = self.requests.hand(ticket, self.connection);
            let outgoing = Outgoing {
                message,
                ticket: Ticket(ticket),
                request: handed.map(|_| RequestId(ticket)),
                many: handed.unwrap_or_default(),
            };
            self.hook(now, |protocol, cx| protocol.on_send(cx, outgoing));
            // Else the hook has ended the connection.
            let goes_on = self.wants_outbox();
            match self.frames.back_mut() {
                Some(last) => last.completes = true,
                None if goes_on => {
                    let doubtful = self.outbox.let_fall();
                    self.doubt(&doubtful, false);
                }
                None => {}
            }
        }
    }

    /// The next of the frames that are there: of a message that was cut, its next fragment, and in between only what
    /// may stand there (RFC 6455, section 5.4).
    fn next_frame(&mut self) -> Option<Frame> {
        let limit = self.config.fragment.unwrap_or(usize::MAX);
        if let Some(cut) = &mut self.cut {
            let is_control = |queued: &Queued| !matches!(queued.frame, Frame::Message(_));
            if let Some(at) = self.frames.iter().position(is_control) {
                return self.frames.remove(at).map(|queued| self.hand(queued));
            }
            let fragment = cut.next(limit)?;
            if fragment.position == Position::Last {
                let Cut { message, .. } = self.cut.take()?;
                self.hand(message);
            }
            return Some(Frame::Fragment(fragment));
        }
        let queued = self.frames.pop_front()?;
        if matches!(&queued.frame, Frame::Message(message) if message.len() > limit) {
            self.cut = Some(Cut { message: queued, sent: 0 });
            return self.next_frame();
        }
        Some(self.hand(queued))
    }

    /// All of it goes to the socket.
    fn hand(&mut self, queued: Queued) -> Frame {
        self.beat_handed = queued.beat.unwrap_or(self.beat_handed);
        if queued.completes {
            self.outbox.complete();
        }
        if matches!(queued.frame, Frame::Close(_)) {
            // Nothing follows it, not even the rest of what was begun.
            self.cut = None;
            self.frames.clear();
        }
        queued.frame
    }

    /// Whether the window of unconfirmed messages fills up, or the caller waits for the last of them.
    fn should_ask(&self) -> bool {
        if self.heartbeat.kind() != Beat::WebSocketPing || !self.heartbeat.is_running() {
            return false;
        }
        let fills = self.asked <= self.outbox.confirmed() && self.outbox.is_half_full(self.config.outbox);
        let wanted = self.confirm_through.min(self.outbox.last_handed());
        let waits = self.asked < wanted && !self.outbox.has_waiting() && self.outbox.has_unconfirmed();
        fills || waits
    }

    /// A ping outside the schedule: its answer confirms what went before it.
    fn ask(&mut self, now: Instant) {
        let pulse = self.heartbeat.beat(now);
        self.beat(now, pulse);
    }

    pub(super) fn beat(&mut self, now: Instant, pulse: Pulse) {
        self.stats.heartbeats += 1;
        let beat = Some(self.heartbeat.sent());
        let frame = match pulse {
            Pulse::Ping(payload) => {
                self.pings.push_back((self.heartbeat.sent(), self.outbox.last_handed()));
                self.asked = self.outbox.last_handed();
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
        self.frames.push_back(Queued { frame, beat, completes: false });
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
            Self::Fragment(fragment) => fragment.payload.len(),
            Self::Ping(_) | Self::Close(_) => 0,
        }
    }
}

impl Cut {
    /// The next fragment, of `limit` bytes at most.
    fn next(&mut self, limit: usize) -> Option<Fragment> {
        let Frame::Message(message) = &self.message.frame else { return None };
        let start = self.sent;
        self.sent = start.saturating_add(limit).min(message.len());
        let position = match start {
            _ if self.sent == message.len() => Position::Last,
            0 => Position::First { text: message.as_text().is_some() },
            _ => Position::Middle,
        };
        Some(Fragment { position, payload: message.slice(start..self.sent) })
    }
}

impl From<Frame> for Queued {
    fn from(frame: Frame) -> Self {
        Self { frame, beat: None, completes: false }
    }
}

fn json_ping(unix: Duration) -> Message {
    format!(r#"{{"type":"ping","timestamp":{}}}"#, unix.as_millis()).into()
}

/// The answer to a [`json_ping`].
pub(super) fn is_json_pong(message: &Message) -> bool {
    // A pong may carry more than its type, but no server makes it large: others are spared the parser.
    const LARGEST: usize = 1024;
    message.len() <= LARGEST
        && message.as_text().is_some_and(|text| text.contains("\"pong\""))
        && message.json::<serde_json::Value>().is_ok_and(|value| value["type"] == "pong")
}
