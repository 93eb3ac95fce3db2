//! What became of each accepted message.
//!
//! Three watermarks over the tickets: *accepted* ≥ *written* ≥ *confirmed*. A message is written when the operating
//! system has taken its last byte, so the outbox follows the connection's byte count: what was handed to the socket in
//! one batch lies between two *marks*. At a loss, a batch of which the system took nothing was never written, and goes
//! out again on the next connection; a batch of which it took something may have been delivered.
//!
//! At most once, a message is let go when it was written. At least once, it is kept until it is confirmed, and sent
//! again after a loss, three times at most: a message on which the server dies must not do so for ever.

use std::collections::VecDeque;

use crate::config::{Delivery, Limit};
use crate::event::Tickets;
use crate::message::Message;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Not yet handed to a socket.
    waiting: VecDeque<Entry>,
    /// Handed to the socket, and not yet taken by the system in full; at least once, not yet confirmed.
    handed: VecDeque<Entry>,
    /// What `handed` holds.
    held: Released,
    /// Whether messages are kept until they are confirmed.
    keeps: bool,
    marks: VecDeque<Mark>,
    /// The byte count up to which everything handed over is marked.
    marked: u64,
    /// The last ticket that was taken in.
    accepted: u64,
    /// The last ticket handed to a socket.
    last_handed: u64,
    written: u64,
    /// The last ticket that was ever written, on this connection or one before.
    ever_written: u64,
    confirmed: u64,
    released: Released,
    /// What was left has been taken out: nothing more is ever written.
    drained: bool,
}

/// A message, and how many connections were lost over it.
#[derive(Debug)]
struct Entry {
    ticket: u64,
    message: Message,
    losses: u8,
}

/// So often a message may be written at the most.
const SENDS: u8 = 3;

/// Everything up to `ticket` and up to beat `beat` lies before byte `end`.
#[derive(Debug)]
struct Mark {
    start: u64,
    end: u64,
    ticket: u64,
    beat: u64,
}

/// Room that became free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Outbox {
    pub(crate) fn new(delivery: Delivery) -> Self {
        Self { keeps: delivery == Delivery::AtLeastOnce, ..Self::default() }
    }

    /// Takes an accepted message in; tickets rise by one.
    pub(crate) fn push(&mut self, ticket: u64, message: Message) {
        self.accepted = ticket;
        self.waiting.push_back(Entry { ticket, message, losses: 0 });
    }

    /// A connection begins, of which the system has taken `taken` bytes.
    pub(crate) fn begin(&mut self, taken: u64) {
        self.marked = taken;
    }

    /// Hands the next message to the socket.
    pub(crate) fn pop(&mut self) -> Option<(u64, Message)> {
        let entry = self.waiting.pop_front()?;
        let (ticket, message) = (entry.ticket, entry.message.clone());
        self.last_handed = ticket;
        self.held.add(&message);
        self.handed.push_back(entry);
        Some((ticket, message))
    }

    /// The message that was handed over last was let fall by the protocol; `before` was handed over before it.
    pub(crate) fn let_fall(&mut self, before: u64) {
        if let Some(entry) = self.handed.pop_back() {
            self.held.messages -= 1;
            self.held.bytes -= entry.message.len();
            self.released.add(&entry.message);
            self.last_handed = before;
        }
    }

    /// Takes a message back that was not handed to a socket yet.
    pub(crate) fn withdraw(&mut self, ticket: u64) {
        if let Ok(at) = self.waiting.binary_search_by_key(&ticket, |entry| entry.ticket)
            && let Some(entry) = self.waiting.remove(at)
        {
            self.released.add(&entry.message);
        }
    }

    /// All that was handed over so far, and all beats up to `beat`, end at byte `end` of the connection.
    pub(crate) fn mark(&mut self, end: u64, beat: u64) {
        if end > self.marked {
            self.marks.push_back(Mark { start: self.marked, end, ticket: self.last_handed, beat });
            self.marked = end;
        }
    }

    /// The system has taken `taken` bytes of the connection. Returns the newest beat among them.
    pub(crate) fn progress(&mut self, taken: u64) -> Option<u64> {
        let mut beat = None;
        while let Some(mark) = pop_if(&mut self.marks, |mark| mark.end <= taken) {
            self.written = mark.ticket;
            beat = Some(mark.beat);
        }
        self.ever_written = self.ever_written.max(self.written);
        if !self.keeps {
            self.release(self.written);
        }
        beat
    }

    /// The peer has received every message up to `ticket`.
    pub(crate) fn confirm(&mut self, ticket: u64) {
        self.confirmed = self.confirmed.max(ticket.min(self.written));
        if self.keeps {
            self.release(self.confirmed);
        }
    }

    /// The connection is lost, with `taken` bytes of it taken. What was never written waits again, ahead of newer
    /// messages, and so does what is to be sent at least once. What may have been delivered and is not sent again is
    /// named, and settled.
    pub(crate) fn lost(&mut self, taken: u64) -> Tickets {
        self.progress(taken);
        // Whatever is not marked yet lies behind the last mark.
        self.mark(u64::MAX, 0);
        let touched = self.marks.iter().take_while(|mark| mark.start < taken).last();
        let touched = touched.map_or(self.written, |mark| mark.ticket);
        self.ever_written = self.ever_written.max(touched);
        self.marks.clear();
        let settled = if self.keeps { self.count_loss(touched) } else { touched };
        self.release(settled);
        self.waiting.reserve(self.handed.len());
        while let Some(entry) = self.handed.pop_back() {
            self.waiting.push_front(entry);
        }
        self.held = Released::default();
        self.written = settled;
        self.last_handed = settled;
        let doubtful = Tickets::between(self.confirmed, settled);
        self.confirmed = settled;
        doubtful
    }

    /// Counts the loss for every message up to `touched`, and returns the last one that has had too many.
    fn count_loss(&mut self, touched: u64) -> u64 {
        let mut settled = self.confirmed;
        for entry in self.handed.iter_mut().take_while(|entry| entry.ticket <= touched) {
            entry.losses += 1;
            // Older messages have been sent at least as often, so these come first.
            if entry.losses >= SENDS {
                settled = entry.ticket;
            }
        }
        settled
    }

    /// Takes out what is left: the messages that were never written, and the tickets of those that may have been
    /// delivered though they wait to be sent again.
    pub(crate) fn drain(&mut self) -> (Vec<Message>, Tickets) {
        self.drained = true;
        let mut last = self.confirmed;
        let mut never = Vec::new();
        for entry in self.waiting.drain(..) {
            if entry.losses > 0 {
                last = entry.ticket;
            } else {
                never.push(entry.message);
            }
        }
        (never, Tickets::between(self.confirmed, last))
    }

    pub(crate) fn has_released(&self) -> bool {
        self.released.messages > 0
    }

    /// The room that became free since the last call.
    pub(crate) fn take_released(&mut self) -> Released {
        std::mem::take(&mut self.released)
    }

    /// Whether messages wait for a socket.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether messages were handed over that the peer has not confirmed.
    pub(crate) fn has_unconfirmed(&self) -> bool {
        self.confirmed < self.last_handed
    }

    /// The last ticket handed to a socket.
    pub(crate) fn last_handed(&self) -> u64 {
        self.last_handed
    }

    /// The last ticket of which the system has taken every byte, on this connection or one before.
    pub(crate) fn ever_written(&self) -> u64 {
        self.ever_written
    }

    /// The last ticket that the peer has confirmed, or that was named as doubtful.
    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Up to which ticket nothing waits to be written, and up to which everything's fate is known. Tickets that were
    /// withdrawn wait for nothing.
    pub(crate) fn watermarks(&self) -> (u64, u64) {
        let done = self.waiting.is_empty() && !self.drained;
        let all = |mark: u64| if done && mark >= self.last_handed { self.accepted } else { mark };
        (all(self.written), all(self.confirmed))
    }

    /// Whether messages are kept, and what waits for a confirmation takes half of `limit`.
    pub(crate) fn is_half_full(&self, limit: Limit) -> bool {
        self.keeps && (self.held.messages * 2 >= limit.messages || self.held.bytes * 2 >= limit.bytes)
    }

    /// Lets the payloads up to `ticket` go.
    fn release(&mut self, ticket: u64) {
        while let Some(entry) = pop_if(&mut self.handed, |entry| entry.ticket <= ticket) {
            self.released.add(&entry.message);
            self.held.messages -= 1;
            self.held.bytes -= entry.message.len();
        }
    }
}

impl Released {
    fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += message.len();
    }
}

fn pop_if<T>(queue: &mut VecDeque<T>, wanted: impl FnOnce(&T) -> bool) -> Option<T> {
    if queue.front().is_some_and(wanted) { queue.pop_front() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Ticket;

    fn outbox(tickets: std::ops::RangeInclusive<u64>) -> Outbox {
        let mut outbox = Outbox::default();
        for ticket in tickets {
            outbox.push(ticket, format!("message {ticket}").into());
        }
        outbox
    }

    fn numbers(tickets: &Tickets) -> Vec<u64> {
        tickets.iter().map(Ticket::number).collect()
    }

    /// Hands `n` messages over as one batch that ends at `end`.
    fn hand(outbox: &mut Outbox, n: usize, end: u64) {
        for _ in 0..n {
            outbox.pop().unwrap();
        }
        outbox.mark(end, 0);
    }

    #[test]
    fn a_message_is_written_when_the_system_took_its_last_byte() {
        let mut outbox = outbox(1..=3);
        outbox.begin(100);
        hand(&mut outbox, 2, 130);
        outbox.progress(129);
        assert_eq!((outbox.ever_written(), outbox.take_released()), (0, Released::default()));
        outbox.progress(130);
        assert_eq!((outbox.ever_written(), outbox.take_released()), (2, Released { messages: 2, bytes: 18 }));
    }

    #[test]
    fn a_loss_names_what_was_touched_and_keeps_what_was_not() {
        let mut outbox = outbox(1..=5);
        outbox.begin(100);
        hand(&mut outbox, 1, 110);
        hand(&mut outbox, 1, 120);
        hand(&mut outbox, 1, 130);
        assert_eq!(
            numbers(&outbox.lost(111)),
            [1, 2],
            "the first went out, the second in part, the third not at all"
        );
        assert_eq!(outbox.take_released().messages, 2);
        let left: Vec<_> = outbox.drain().0.iter().map(ToString::to_string).collect();
        assert_eq!(left, ["message 3", "message 4", "message 5"]);
    }

    #[test]
    fn a_batch_that_was_not_marked_yet_counts_from_the_last_mark() {
        let mut untouched = outbox(1..=1);
        untouched.begin(100);
        untouched.pop();
        assert!(untouched.lost(100).is_empty());
        assert_eq!(untouched.drain().0.len(), 1);
        let mut touched = outbox(1..=1);
        touched.begin(100);
        touched.pop();
        assert_eq!(numbers(&touched.lost(101)), [1]);
        assert!(touched.drain().0.is_empty());
    }

    #[test]
    fn what_is_confirmed_is_no_longer_in_doubt() {
        let mut outbox = outbox(1..=3);
        outbox.begin(0);
        hand(&mut outbox, 3, 30);
        outbox.progress(30);
        outbox.confirm(2);
        assert!(outbox.has_unconfirmed());
        assert_eq!(numbers(&outbox.lost(30)), [3]);
        assert!(!outbox.has_unconfirmed());
    }

    #[test]
    fn nothing_is_confirmed_that_was_not_written() {
        let mut outbox = outbox(1..=2);
        outbox.begin(0);
        hand(&mut outbox, 1, 10);
        hand(&mut outbox, 1, 20);
        outbox.progress(10);
        outbox.confirm(2);
        assert_eq!(numbers(&outbox.lost(20)), [2]);
    }

    #[test]
    fn a_loss_is_reported_once() {
        let mut outbox = outbox(1..=2);
        outbox.begin(0);
        hand(&mut outbox, 2, 20);
        assert_eq!(numbers(&outbox.lost(20)), [1, 2]);
        outbox.begin(500);
        assert!(outbox.lost(500).is_empty());
    }

    #[test]
    fn beats_ride_on_the_marks() {
        let mut outbox = outbox(1..=1);
        outbox.begin(0);
        outbox.mark(8, 1);
        outbox.mark(8, 1);
        hand(&mut outbox, 1, 20);
        outbox.mark(30, 2);
        assert_eq!(outbox.progress(7), None);
        assert_eq!(outbox.progress(29), Some(0));
        assert_eq!(outbox.progress(30), Some(2));
    }

    fn kept(tickets: std::ops::RangeInclusive<u64>) -> Outbox {
        Outbox { keeps: true, ..outbox(tickets) }
    }

    #[test]
    fn at_least_once_a_message_is_kept_until_it_is_confirmed_and_sent_again_in_order() {
        let mut outbox = kept(1..=4);
        outbox.begin(0);
        hand(&mut outbox, 3, 30);
        outbox.progress(30);
        assert_eq!(outbox.take_released(), Released::default(), "written is not enough");
        outbox.confirm(1);
        assert_eq!(outbox.take_released().messages, 1);
        assert!(outbox.lost(30).is_empty(), "nothing is given up");
        outbox.begin(0);
        let again: Vec<_> = std::iter::from_fn(|| outbox.pop()).map(|(ticket, _)| ticket).collect();
        assert_eq!(again, [2, 3, 4]);
        outbox.mark(60, 0);
        outbox.confirm(4);
        assert!(outbox.has_unconfirmed(), "not written on this connection yet");
        outbox.progress(60);
        outbox.confirm(4);
        assert_eq!((outbox.has_unconfirmed(), outbox.take_released().messages), (false, 3));
    }

    #[test]
    fn a_message_is_given_up_and_named_when_three_connections_were_lost_over_it() {
        let mut outbox = kept(1..=2);
        for loss in 1..=3 {
            outbox.begin(0);
            hand(&mut outbox, 1, 10);
            let given_up = numbers(&outbox.lost(10));
            assert_eq!(given_up, if loss < 3 { vec![] } else { vec![1] });
        }
        assert_eq!(outbox.pop().unwrap().0, 2);
    }

    #[test]
    fn what_is_left_at_least_once_tells_the_doubtful_from_the_unwritten() {
        let mut outbox = kept(1..=3);
        outbox.begin(0);
        hand(&mut outbox, 2, 20);
        outbox.lost(20);
        let (never, maybe) = outbox.drain();
        assert_eq!((never.len(), numbers(&maybe)), (1, vec![1, 2]));
    }

    #[test]
    fn the_window_is_half_full_by_count_or_by_bytes() {
        let mut outbox = kept(1..=4);
        outbox.begin(0);
        hand(&mut outbox, 1, 10);
        assert!(!outbox.is_half_full(Limit::new(4, 1000)) && outbox.is_half_full(Limit::new(4, 18)));
        hand(&mut outbox, 1, 20);
        assert!(outbox.is_half_full(Limit::new(4, 1000)));
        outbox.progress(20);
        outbox.confirm(1);
        assert!(!outbox.is_half_full(Limit::new(4, 1000)));
    }
}
