//! The fate of each accepted message.
//!
//! Three watermarks over the tickets: *accepted* ≥ *written* ≥ *confirmed*. A message is written when the operating
//! system has taken its last byte, so the outbox follows the connection's byte count: what was handed to the socket in
//! one batch lies between two *marks*. At a loss, a batch of which the system took nothing was never written, and goes
//! out again on the next connection; a batch of which it took something may have been delivered.
//!
//! At most once, a message is released when it was written. At least once, it is kept until it is confirmed, and sent
//! again after a loss. A message that kills the server must not do so for ever: it is given up once three connections were
//! lost over it. [`Caution`] finds out which one that is, and lets a line get on that is cut again and again. Nor must a
//! message that the protocol fails to send go on for ever: it is dropped once three connections have ended because of it.
//!
//! A message for this connection only is never sent again, whatever the delivery. If the line is lost before any of it was
//! written, it is dropped.

mod caution;
mod entry;
mod marks;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Instant;

use crate::config::{Delivery, QueueLimit};
use crate::event::{Ticket, Tickets};
use crate::message::Message;
use crate::session::outbox::caution::Caution;
use crate::session::outbox::entry::{Carry, Entry};
use crate::session::outbox::marks::Marks;
use crate::session::released::Released;
use crate::session::settled::Settled;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// First the messages that were handed to the socket, until the system has taken them in full or, at least once,
    /// until they are confirmed. Then those that wait.
    entries: VecDeque<Entry>,
    /// The number and bytes of the messages handed to the socket.
    held: Released,
    /// Whether messages are kept until they are confirmed: at least once.
    keeps: bool,
    /// How kept messages go out on this connection.
    caution: Caution,
    marks: Marks,
    /// The last ticket that was taken in.
    accepted: u64,
    /// The last ticket of a message that was handed to a socket at least in part.
    begun: u64,
    /// The last ticket handed to a socket in full.
    last_handed: u64,
    /// The last ticket of a message that the system has taken at least in part.
    touched: u64,
    written: u64,
    /// Confirmed, or given up, or known to be lost.
    settled: Settled,
    counts: Counts,
    released: Released,
    /// The remaining messages were taken out: nothing more is ever written.
    drained: bool,
}

/// Messages with their tickets.
type Kept = Vec<(Ticket, Message)>;

/// How many messages have come how far.
#[derive(Debug, Default)]
struct Counts {
    /// The last ticket that was ever written, on this connection or one before.
    last_written: u64,
    written: u64,
    confirmed: u64,
}

/// How many connections may be lost over a message.
pub(crate) const MOST_LOSSES: usize = 3;

/// How often the protocol may fail to send a message.
pub(crate) const MOST_FAILURES: u8 = 3;

impl Outbox {
    pub(crate) fn new(delivery: Delivery) -> Self {
        match delivery {
            Delivery::AtMostOnce => Self::default(),
            Delivery::AtLeastOnce => Self { keeps: true, settled: Settled::of_all(), ..Self::default() },
        }
    }

    /// Takes an accepted message in; tickets rise by one.
    pub(crate) fn push(&mut self, ticket: u64, message: Message, expires: Option<Instant>) {
        self.add(ticket, message, expires, Carry::Always);
    }

    /// Takes in an accepted request, like [`push`](Self::push).
    pub(crate) fn push_request(&mut self, ticket: u64, message: Message) {
        self.add(ticket, message, None, Carry::Unsent);
    }

    /// Takes in an accepted message for this connection only, like [`push`](Self::push).
    pub(crate) fn push_for_this(&mut self, ticket: u64, message: Message, expires: Option<Instant>) {
        self.add(ticket, message, expires, Carry::Never);
    }

    /// No message has this ticket: its caller was refused after all.
    pub(crate) fn skip(&mut self, ticket: u64) {
        self.accepted = self.accepted.max(ticket);
        self.settled.settle(ticket, ticket);
    }

    fn add(&mut self, ticket: u64, message: Message, expires: Option<Instant>, carry: Carry) {
        self.accepted = ticket;
        self.entries.push_back(Entry {
            ticket,
            message,
            expires,
            was_written: false,
            losses: 0,
            failures: 0,
            carry,
        });
    }

    /// When the next message that was never written becomes too old for it.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.entries.range(self.fresh()..).find_map(|entry| entry.expires)
    }

    /// Drops a run of messages that are too old. There may be more such runs.
    pub(crate) fn expire(&mut self, now: Instant) -> Tickets {
        let is_old = |entry: &Entry| entry.expires.is_some_and(|at| at <= now);
        let fresh = self.fresh();
        let Some(at) = self.entries.range(fresh..).position(is_old).map(|at| fresh + at) else {
            return Tickets::default();
        };
        let first = self.entries[at].ticket;
        let mut last = first - 1;
        while self.entries.get(at).is_some_and(|entry| entry.ticket == last + 1 && is_old(entry)) {
            let Some(entry) = self.entries.remove(at) else { break };
            self.released.add(&entry.message);
            last = entry.ticket;
        }
        self.settled.settle(first, last);
        Tickets::between(first - 1, last)
    }

    /// The position of the first message that was never written. Messages to be sent again are ahead of it.
    fn fresh(&self) -> usize {
        self.held.messages.max(self.entries.partition_point(|entry| entry.was_written))
    }

    /// A new connection begins, of which the system has already taken `taken` bytes.
    pub(crate) fn begin(&mut self, taken: u64) {
        self.marks.begin(taken);
        let has_doubtful = self.keeps && self.entries.front().is_some_and(|entry| entry.was_written);
        self.caution = Caution::new(self.settled.through(), has_doubtful);
    }

    /// The next message to hand to the socket.
    pub(crate) fn next(&self) -> Option<(u64, &Message)> {
        self.entries.get(self.held.messages).map(|entry| (entry.ticket, &entry.message))
    }

    /// Begins to hand the next message to the socket.
    pub(crate) fn pop(&mut self) -> Option<(u64, &Message)> {
        let entry = self.entries.get(self.held.messages)?;
        self.begun = entry.ticket;
        self.held.add(&entry.message);
        Some((entry.ticket, &entry.message))
    }

    /// Hands the next message to the socket in full.
    pub(crate) fn pop_whole(&mut self) -> Option<&Message> {
        let entry = self.entries.get(self.held.messages)?;
        self.last_handed = entry.ticket;
        self.begun = entry.ticket;
        self.held.add(&entry.message);
        self.caution.hand_over(&entry.message);
        Some(&entry.message)
    }

    /// The message that was begun last has been handed over in full.
    pub(crate) fn complete(&mut self) {
        self.last_handed = self.begun;
        if let Some(last) = self.held.messages.checked_sub(1).and_then(|at| self.entries.get(at)) {
            self.caution.hand_over(&last.message);
        }
    }

    /// The protocol sends nothing for this waiting message. Returns whether it was written to an earlier connection, so
    /// that it may have arrived.
    pub(crate) fn drop_unsent(&mut self, ticket: u64) -> Option<bool> {
        let entry = self.entries.remove(self.waiting(ticket)?)?;
        self.released.add(&entry.message);
        self.settled.settle(ticket, ticket);
        Some(entry.was_written)
    }

    /// The protocol has failed to send this waiting message. If it has failed too often, the message is dropped; then
    /// returns whether it was written to an earlier connection.
    pub(crate) fn fail(&mut self, ticket: u64) -> Option<bool> {
        let at = self.waiting(ticket)?;
        let entry = self.entries.get_mut(at)?;
        entry.failures += 1;
        if entry.failures < MOST_FAILURES { None } else { self.drop_unsent(ticket) }
    }

    /// Whether this message is a request that waits for a socket.
    pub(crate) fn is_request(&self, ticket: u64) -> bool {
        self.waiting(ticket)
            .and_then(|at| self.entries.get(at))
            .is_some_and(|entry| entry.carry == Carry::Unsent)
    }

    /// The position of this message, if it waits for a socket.
    fn waiting(&self, ticket: u64) -> Option<usize> {
        let at = self.entries.binary_search_by_key(&ticket, |entry| entry.ticket).ok()?;
        (at >= self.held.messages).then_some(at)
    }

    /// The server has answered or acknowledged a message, so the message has arrived. This confirms no earlier message.
    pub(crate) fn acknowledge(&mut self, ticket: u64) {
        if ticket <= self.last_sent() && !self.settled.contains(ticket) {
            self.settled.settle(ticket, ticket);
            if let Ok(at) = self.entries.binary_search_by_key(&ticket, |entry| entry.ticket) {
                self.remove_sent(at);
            }
            self.counts.confirmed += 1;
        }
    }

    /// The server has every message up to this one, if it was ever sent.
    pub(crate) fn acknowledge_through(&mut self, ticket: u64) {
        let ticket = ticket.min(self.last_sent());
        while self.entries.front().is_some_and(|entry| entry.ticket <= ticket) {
            self.remove_sent(0);
        }
        self.confirm_through(ticket);
    }

    /// The last message that was ever handed to a socket in full.
    pub(crate) fn last_sent(&self) -> u64 {
        // Messages to be sent again stand before those that were never sent.
        let sent =
            self.entries.partition_point(|entry| entry.was_written || entry.ticket <= self.last_handed);
        let newest = sent.checked_sub(1).and_then(|at| self.entries.get(at)).map(|entry| entry.ticket);
        newest.unwrap_or_default().max(self.last_handed)
    }

    /// Drops the entry of a message that has arrived.
    fn remove_sent(&mut self, at: usize) {
        let Some(entry) = self.entries.remove(at) else { return };
        if at < self.held.messages {
            self.held.take(&entry.message);
        }
        self.released.add(&entry.message);
        if entry.ticket > self.counts.last_written {
            // The server has it before the system's count says that it was written.
            self.counts.written += 1;
        }
    }

    /// Takes back a message that was not handed to a socket yet.
    pub(crate) fn withdraw(&mut self, ticket: u64) {
        self.drop_unsent(ticket);
    }

    /// Everything handed over so far, and all beats up to `beat`, end at byte `end` of the connection.
    pub(crate) fn mark(&mut self, end: u64, beat: u64) {
        self.marks.push(end, self.last_handed, self.begun, beat);
    }

    /// The system has taken `taken` bytes of the connection. Returns the newest beat within them.
    pub(crate) fn progress(&mut self, taken: u64) -> Option<u64> {
        let mut beat = None;
        while let Some(mark) = self.marks.pop_taken(taken) {
            self.written = mark.ticket;
            self.touched = mark.begun;
            beat = Some(mark.beat);
        }
        self.count_written(self.written);
        if !self.keeps {
            self.release(self.written);
        }
        beat
    }

    /// Counts the messages up to `ticket` as written, except those that were dropped before.
    fn count_written(&mut self, ticket: u64) {
        if ticket > self.counts.last_written {
            let up_to = |last: u64| self.entries.partition_point(|entry| entry.ticket <= last) as u64;
            self.counts.written += up_to(ticket) - up_to(self.counts.last_written);
            self.counts.last_written = ticket;
        }
    }

    /// The server has everything up to `ticket` that was not settled before.
    fn confirm_through(&mut self, ticket: u64) {
        self.counts.confirmed += self.settled.count_unsettled(ticket);
        self.settled.settle_through(ticket);
    }

    /// The peer has received every message up to `ticket`.
    pub(crate) fn confirm(&mut self, ticket: u64) {
        self.confirm_through(ticket.min(self.written));
        if self.keeps {
            self.release(self.settled.through());
            self.caution.confirm(self.settled.through());
        }
    }

    /// The connection is lost after the system has taken `taken` bytes of it. Messages that were never written wait
    /// again, ahead of newer ones, and so do those to be sent at least once. Messages that may have been delivered and
    /// are not sent again are returned, and settled. `lost_over`: a message may have caused the loss.
    pub(crate) fn lost(&mut self, taken: u64, lost_over: bool) -> Tickets {
        self.progress(taken);
        // Whatever has no mark yet lies behind the last mark.
        self.mark(u64::MAX, 0);
        let touched = self.marks.touched(taken).unwrap_or(self.touched);
        self.count_written(touched);
        self.marks.clear();
        let settled = if self.keeps { self.count_loss(touched, lost_over) } else { touched };
        self.release(settled);
        let doubtful = self.settled.unsettled(settled);
        let mut once = Vec::new();
        let mut handed = std::mem::take(&mut self.held).messages;
        let released = &mut self.released;
        self.entries.retain(|entry| {
            let stays = handed == 0
                || match entry.carry {
                    Carry::Always => true,
                    Carry::Unsent => false,
                    Carry::Never => entry.ticket > touched,
                };
            handed = handed.saturating_sub(1);
            if !stays {
                // A request has had its reply, or its caller has given up. It is not sent again, even if messages ahead
                // of it are.
                released.add(&entry.message);
                once.push(entry.ticket);
            }
            stays
        });
        for ticket in &once {
            self.settled.settle(*ticket, *ticket);
        }
        once.retain(|ticket| *ticket <= touched);
        self.written = settled;
        self.last_handed = settled;
        self.begun = settled;
        self.touched = settled;
        self.settled.settle_through(settled);
        doubtful.and(once.into_iter().map(|ticket| ticket..=ticket).collect())
    }

    /// The line is lost, after [`lost`](Self::lost). Messages for this connection only, of which nothing was written, are
    /// dropped.
    pub(crate) fn drop_for_this(&mut self) -> Tickets {
        let released = &mut self.released;
        let mut dropped = Vec::new();
        self.entries.retain(|entry| {
            let stays = entry.carry != Carry::Never;
            if !stays {
                released.add(&entry.message);
                dropped.push(entry.ticket);
            }
            stays
        });
        for ticket in &dropped {
            self.settled.settle(*ticket, *ticket);
        }
        dropped.into_iter().map(|ticket| ticket..=ticket).collect()
    }

    /// Marks the messages up to `touched` as written. If the loss was over one of them, it counts against the first that is in
    /// doubt, unless the connection has confirmed others in order. Returns the last message that is settled: confirmed, or
    /// given up after too many losses.
    fn count_loss(&mut self, touched: u64, lost_over: bool) -> u64 {
        let mut settled = self.settled.through();
        let mut counts = lost_over && !self.caution.has_got_on(settled);
        let handed = self.entries.range_mut(..self.held.messages);
        for entry in handed.take_while(|entry| entry.ticket <= touched) {
            entry.was_written = true;
            // The others are dropped after any loss.
            if counts && entry.carry == Carry::Always {
                counts = false;
                entry.losses += 1;
                if usize::from(entry.losses) >= MOST_LOSSES {
                    settled = entry.ticket;
                }
            }
        }
        settled
    }

    /// Takes out what is left, with the tickets: the messages that were never written, and those that may have been
    /// delivered though they wait to be sent again.
    pub(crate) fn drain(&mut self) -> (Kept, Kept) {
        self.drained = true;
        let left = self.entries.drain(self.held.messages..);
        let (maybe, never): (Vec<_>, Vec<_>) = left.partition(|entry| entry.was_written);
        let message = |entry: Entry| (Ticket(entry.ticket), entry.message);
        (never.into_iter().map(message).collect(), maybe.into_iter().map(message).collect())
    }

    /// Frees the memory that a burst has left behind.
    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
        self.marks.shrink();
    }

    pub(crate) fn has_released(&self) -> bool {
        self.released.messages > 0
    }

    /// The room that was freed since the last call.
    pub(crate) fn take_released(&mut self) -> Released {
        std::mem::take(&mut self.released)
    }

    /// Whether messages wait for a socket, in full or in part.
    pub(crate) fn has_waiting(&self) -> bool {
        self.entries.len() > self.held.messages || self.begun > self.last_handed
    }

    /// Whether messages were handed over that the peer has not confirmed.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        self.settled.through() < self.last_handed
    }

    /// The last ticket handed to a socket in full.
    pub(crate) fn last_handed(&self) -> u64 {
        self.last_handed
    }

    /// How many messages the system has taken, on this connection or one before, and how many the server has confirmed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.counts.written, self.counts.confirmed)
    }

    /// Tickets after `confirmed` whose fate is known, as runs in rising order.
    pub(crate) fn settled_ahead(&self) -> &VecDeque<RangeInclusive<u64>> {
        self.settled.ahead()
    }

    /// The last ticket that the peer has confirmed, or that was reported as doubtful.
    pub(crate) fn confirmed(&self) -> u64 {
        self.settled.through()
    }

    /// The tickets up to which nothing waits to be written, and up to which every fate is known. A message that left
    /// without being written counts as not waiting.
    pub(crate) fn watermarks(&self) -> (u64, u64) {
        let next = self.entries.partition_point(|entry| entry.ticket <= self.written);
        let written = match self.entries.get(next) {
            Some(entry) => entry.ticket - 1,
            None if self.drained => self.written,
            None => self.accepted,
        };
        (written.max(self.settled.through()), self.settled.through())
    }

    /// Whether messages are kept, and those that wait for a confirmation take up half of `limit`.
    pub(crate) fn is_half_full(&self, limit: QueueLimit) -> bool {
        self.keeps && (self.held.messages * 2 >= limit.messages || self.held.bytes * 2 >= limit.bytes)
    }

    /// Whether the next message is to wait until the server has confirmed others.
    pub(crate) fn is_cautious(&self) -> bool {
        self.caution.is_full(self.held.messages)
    }

    /// Whether messages are kept, and the server should be asked what it has of those handed over.
    pub(crate) fn should_ask(&self) -> bool {
        self.keeps && self.caution.should_ask(self.held.messages)
    }

    /// The server is asked what it has.
    pub(crate) fn ask(&mut self) {
        self.caution.ask();
    }

    /// Releases the payloads of all messages up to `ticket`.
    fn release(&mut self, ticket: u64) {
        while self.held.messages > 0
            && self.entries.front().is_some_and(|entry| entry.ticket <= ticket)
            && let Some(entry) = self.entries.pop_front()
        {
            self.held.take(&entry.message);
            self.released.add(&entry.message);
        }
    }
}

#[cfg(test)]
mod tests;
