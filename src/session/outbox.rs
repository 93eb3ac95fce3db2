//! What became of each accepted message.
//!
//! Three watermarks over the tickets: *accepted* ≥ *written* ≥ *confirmed*. A message is written when the operating
//! system has taken its last byte, so the outbox follows the connection's byte count: what was handed to the socket in
//! one batch lies between two *marks*. At a loss, a batch of which the system took nothing was never written, and goes
//! out again on the next connection; a batch of which it took something may have been delivered.

use std::collections::VecDeque;

use crate::event::Tickets;
use crate::message::Message;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Not yet handed to a socket.
    waiting: VecDeque<(u64, Message)>,
    /// Handed to the socket, and not yet taken by the system in full.
    handed: VecDeque<(u64, Message)>,
    marks: VecDeque<Mark>,
    /// The byte count up to which everything handed over is marked.
    marked: u64,
    /// The last ticket handed to a socket.
    last_handed: u64,
    written: u64,
    confirmed: u64,
    released: Released,
}

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
    /// Takes an accepted message in; tickets rise by one.
    pub(crate) fn push(&mut self, ticket: u64, message: Message) {
        self.waiting.push_back((ticket, message));
    }

    /// A connection begins, of which the system has taken `taken` bytes.
    pub(crate) fn begin(&mut self, taken: u64) {
        self.marked = taken;
    }

    /// Hands the next message to the socket.
    pub(crate) fn pop(&mut self) -> Option<(u64, Message)> {
        let (ticket, message) = self.waiting.pop_front()?;
        self.last_handed = ticket;
        self.handed.push_back((ticket, message.clone()));
        Some((ticket, message))
    }

    /// Takes a message back that was not handed to a socket yet.
    pub(crate) fn withdraw(&mut self, ticket: u64) {
        if let Ok(at) = self.waiting.binary_search_by_key(&ticket, |(waiting, _)| *waiting)
            && let Some((_, message)) = self.waiting.remove(at)
        {
            self.released.messages += 1;
            self.released.bytes += message.len();
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
        self.release(self.written);
        beat
    }

    /// The peer has received every message up to `ticket`.
    pub(crate) fn confirm(&mut self, ticket: u64) {
        self.confirmed = self.confirmed.max(ticket.min(self.written));
    }

    /// The connection is lost, with `taken` bytes of it taken: what may have been delivered is named and settled, what
    /// was never written waits again, ahead of newer messages.
    pub(crate) fn lost(&mut self, taken: u64) -> Tickets {
        self.progress(taken);
        // Whatever is not marked yet lies behind the last mark.
        self.mark(u64::MAX, 0);
        let touched = self.marks.iter().take_while(|mark| mark.start < taken).last();
        let touched = touched.map_or(self.written, |mark| mark.ticket);
        self.release(touched);
        while let Some(entry) = self.handed.pop_back() {
            self.waiting.push_front(entry);
        }
        self.marks.clear();
        self.written = touched;
        self.last_handed = touched;
        let doubtful = Tickets::between(self.confirmed, touched);
        self.confirmed = touched;
        doubtful
    }

    /// Takes out what was never written.
    pub(crate) fn drain(&mut self) -> Vec<Message> {
        self.waiting.drain(..).map(|(_, message)| message).collect()
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

    /// The last ticket of which the system has taken every byte.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Lets the payloads up to `ticket` go.
    fn release(&mut self, ticket: u64) {
        while let Some((_, message)) = pop_if(&mut self.handed, |(handed, _)| *handed <= ticket) {
            self.released.messages += 1;
            self.released.bytes += message.len();
        }
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
        assert_eq!((outbox.written(), outbox.take_released()), (0, Released::default()));
        outbox.progress(130);
        assert_eq!((outbox.written(), outbox.take_released()), (2, Released { messages: 2, bytes: 18 }));
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
        let left: Vec<_> = outbox.drain().iter().map(ToString::to_string).collect();
        assert_eq!(left, ["message 3", "message 4", "message 5"]);
    }

    #[test]
    fn a_batch_that_was_not_marked_yet_counts_from_the_last_mark() {
        let mut untouched = outbox(1..=1);
        untouched.begin(100);
        untouched.pop();
        assert!(untouched.lost(100).is_empty());
        assert_eq!(untouched.drain().len(), 1);
        let mut touched = outbox(1..=1);
        touched.begin(100);
        touched.pop();
        assert_eq!(numbers(&touched.lost(101)), [1]);
        assert!(touched.drain().is_empty());
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
}
