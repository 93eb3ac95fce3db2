//! What is sent: frames ahead of the outbox, the outbox itself, and how much of them the system has taken.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

use log::warn;

use crate::event::{Event, Ticket, Tickets};
use crate::logging::LOG;
use crate::message::Message;
use crate::protocol::{Outgoing, RequestId};
use crate::session::connection::{Connection, Role};
use crate::session::heartbeat::HeartbeatFrame;
use crate::session::ledger::Progress;
use crate::session::outbox::MOST_FAILURES;
use crate::session::sender::Queued;
use crate::session::{ConnectionId, Frame, Session};

/// How far the messages have come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) written: u64,
    /// Up to this ticket, every fate is known: confirmed, or in doubt for good.
    pub(crate) settled: u64,
    /// Beyond that, it is known of these runs, which rise.
    pub(crate) ahead: Vec<RangeInclusive<u64>>,
}

/// Messages that will not be confirmed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostMessages {
    pub(crate) tickets: Tickets,
    /// They were never written. Otherwise, they may have arrived or not.
    pub(crate) expired: bool,
}

impl Watermarks {
    /// The last message up to which the fate of all is known.
    pub(crate) fn confirmed_up_to(&self) -> Option<Ticket> {
        (self.settled > 0).then_some(Ticket(self.settled))
    }
}

impl Session {
    /// How far the messages have come.
    pub(crate) fn watermarks(&self) -> Watermarks {
        let (written, settled) = self.outbox.watermarks();
        Watermarks { written, settled, ahead: self.outbox.settled_ahead().iter().cloned().collect() }
    }

    /// Whether this is how far the messages have come, without a copy of it.
    pub(crate) fn is_at(&self, known: &Watermarks) -> bool {
        self.outbox.watermarks() == (known.written, known.settled)
            && *self.outbox.settled_ahead() == known.ahead
    }

    /// The messages that became doubtful since the last call.
    pub(crate) fn take_lost(&mut self) -> Vec<LostMessages> {
        std::mem::take(&mut self.out.lost)
    }

    pub(super) fn name_lost(&mut self, tickets: &Tickets, expired: bool) {
        if !tickets.is_empty() {
            self.out.lost.push(LostMessages { tickets: tickets.clone(), expired });
        }
    }

    /// Drops the messages that have waited too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        // What a closed session holds is counted as undelivered instead.
        while self.config.max_age.is_some() && !self.line.is_closed() {
            let tickets = self.outbox.expire(now);
            if tickets.is_empty() {
                return;
            }
            self.never_sent(tickets);
        }
    }

    pub(super) fn never_sent(&mut self, tickets: Tickets) {
        if tickets.is_empty() {
            return;
        }
        self.stats.messages_expired += tickets.len();
        self.name_lost(&tickets, true);
        self.out.events.push_back(Event::Expired { tickets });
    }

    /// The line is done with this connection. Messages that are not settled yet wait again, or are returned. What a
    /// closed session holds is counted as undelivered. `lost_over`: a message may have caused the loss.
    pub(super) fn settle(&mut self, connection: &Connection, closed: bool, lost_over: bool) -> Tickets {
        let mut maybe_delivered = self.outbox.lost(connection.ledger.taken(), lost_over);
        if let Some(ticket) = connection.framed {
            if self.outbox.is_request(ticket) {
                // The caller has a reply: the request is not sent again.
                self.outbox.withdraw(ticket);
            } else if !closed && let Some(may_have_arrived) = self.outbox.fail(ticket) {
                let tickets = Tickets::between(ticket - 1, ticket);
                warn!(target: LOG, "Message {tickets} is given up: the protocol failed {MOST_FAILURES} times to send it");
                if may_have_arrived {
                    maybe_delivered = maybe_delivered.and(tickets);
                } else {
                    self.never_sent(tickets);
                }
            }
        }
        self.name_lost(&maybe_delivered, false);
        maybe_delivered
    }

    /// A socket has everything that was polled for it so far, and reports its progress.
    pub(crate) fn handle_progress(&mut self, now: Instant, id: ConnectionId, progress: Progress) {
        let is_current = self.line.role(id) == Some(Role::Current);
        // A connection that was given up in this turn reports once more before its socket is dropped.
        let Some(connection) = self.line.connection_mut(id) else { return };
        if is_current {
            self.outbox.mark(progress.handed, connection.sender.beat_handed);
        }
        let (moved, was_blocked) = connection.ledger.progress(now, progress);
        if moved && was_blocked {
            connection.heartbeat.handle_progress(now);
        }
        if moved
            && is_current
            && let Some(beat) = self.outbox.progress(progress.taken)
        {
            connection.heartbeat.handle_written(now, beat);
            connection.pings.handle_written(beat);
        }
    }

    /// The next message for the socket, if it is sent unchanged and nothing else is due. It is asked for before
    /// [`poll_transmit`](Self::poll_transmit), which has to clone a reference to its payload.
    pub(crate) fn poll_message(&mut self, id: ConnectionId) -> Option<&Message> {
        let current = self.line.current().filter(|current| current.id == id)?;
        let fits = self.outbox.next()?.1.len() <= current.longest_frame(&self.config);
        let is_plain = self.hooks.protocol.is_none() && current.sender.is_empty();
        if !is_plain || !fits || !self.wants_outbox() || self.should_ask() || self.holds() {
            return None;
        }
        self.outbox.pop_whole()
    }

    /// The next frame for the socket of this connection. When there is none, [`frame_message`](Self::frame_message) may
    /// make more.
    pub(crate) fn poll_transmit(&mut self, now: Instant, id: ConnectionId) -> Option<Frame> {
        if let Some(frame) = self.next_frame(id) {
            return Some(frame);
        }
        // A connection other than the current one carries nothing else.
        if self.current() != Some(id) {
            return None;
        }
        if self.should_ask() {
            self.ping_to_confirm(now);
            return self.next_frame(id);
        }
        if self.waiting_message().is_none() {
            return self.poll_closing();
        }
        if self.hooks.protocol.is_some() {
            return None;
        }
        let message = self.outbox.pop()?.1.clone();
        let current = self.line.current_mut()?;
        current.sender.push(Queued { completes: true, ..Frame::Message(message).into() });
        self.next_frame(id)
    }

    /// The message of the outbox that is sent next, unless the protocol, a move or caution holds it back.
    fn waiting_message(&self) -> Option<(u64, &Message)> {
        self.outbox.next().filter(|_| self.wants_outbox() && !self.holds())
    }

    /// Lets the protocol frame the next message of the outbox for this connection. Returns whether there was one.
    pub(crate) fn frame_message(&mut self, now: Instant, id: ConnectionId) -> bool {
        if self.hooks.protocol.is_none() || self.current() != Some(id) {
            return false;
        }
        let Some((ticket, message)) = self.waiting_message() else { return false };
        let message = message.clone();
        self.frame(now, id, ticket, message);
        true
    }

    /// The protocol frames the next message of the outbox.
    fn frame(&mut self, now: Instant, id: ConnectionId, ticket: u64, message: Message) {
        let handed = self.requests.mark_handed(ticket, id);
        let outgoing = Outgoing {
            message,
            ticket: Ticket(ticket),
            request: handed.map(|_| RequestId(ticket)),
            many: handed.unwrap_or_default(),
        };
        if let Some(current) = self.line.current_mut() {
            current.framed = Some(ticket);
        }
        self.hook(now, id, |protocol, cx| protocol.on_send(cx, outgoing));
        let goes_on = self.wants_outbox();
        // The hook may have acknowledged the message: then it is no longer in the outbox.
        let is_there = self.outbox.next().is_some_and(|(next, _)| next == ticket);
        let Some(current) = self.line.current_mut().filter(|current| current.id == id) else { return };
        if !is_there {
            current.framed = None;
        } else if let Some(last) = current.sender.last_message_mut() {
            last.completes = true;
            current.framed = None;
            self.outbox.pop();
        } else if goes_on {
            current.framed = None;
            if self.outbox.drop_unsent(ticket) == Some(true) {
                self.name_lost(&Tickets::between(ticket - 1, ticket), false);
            }
        }
    }

    /// The next frame that is already queued.
    fn next_frame(&mut self, id: ConnectionId) -> Option<Frame> {
        let connection = self.line.connection_mut(id)?;
        let limit = connection.longest_frame(&self.config);
        let (frame, completes) = connection.sender.next(limit)?;
        if completes {
            self.outbox.complete();
        }
        Some(frame)
    }

    /// Sends a beat on the current connection.
    pub(super) fn beat(&mut self, now: Instant, pulse: HeartbeatFrame) {
        let unix = self.wall_at(now).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let Some(current) = self.line.current_mut() else { return };
        self.stats.heartbeats += 1;
        let number = current.heartbeat.sent();
        let frame = match pulse {
            HeartbeatFrame::Ping(payload) => {
                let handed = self.outbox.last_handed();
                current.pings.send(number, handed);
                self.wanted.ask(handed);
                self.outbox.ask();
                Frame::Ping(payload)
            }
            HeartbeatFrame::Json => Frame::Message(json_ping(unix)),
            HeartbeatFrame::Protocol => return self.protocol_beat(now),
        };
        current.sender.push_beat(frame, number);
    }
}

fn json_ping(unix: Duration) -> Message {
    format!(r#"{{"type":"ping","timestamp":{}}}"#, unix.as_millis()).into()
}

/// The answer to a [`json_ping`].
pub(super) fn is_json_pong(message: &Message) -> bool {
    // A pong may carry more than its type, but no server makes it large. Larger messages need no parsing.
    const LARGEST: usize = 1024;
    message.len() <= LARGEST
        && message.as_text().is_some_and(|text| text.contains("\"pong\""))
        && message.json::<serde_json::Value>().is_ok_and(|value| value["type"] == "pong")
}
