//! Hands events to the application.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::config::QueueLimit;
use crate::event::Event;
use crate::message::Message;
use crate::session::Reply;
use crate::shared::{self, Burst, InboxWriter};
use crate::state::ConnectionState;

/// Puts events into the channel that the application reads.
///
/// Messages exert backpressure: above the bound there is no room, and the I/O thread stops reading. All other events
/// always find room. Beyond [`MOST_UNREAD_EVENTS`] of them, the newest are merged into one [`Event::Missed`], so that a
/// program that never reads costs no memory. The channel's length shows what the application has taken.
///
/// Where callers must wait for nobody, messages have an inbox of their own, and the channel has the other events alone.
pub(crate) struct Publisher {
    channel: Sender<Event>,
    /// Where messages go, if they do not go through the channel.
    inbox: Option<InboxWriter>,
    burst: Arc<Burst>,
    limit: QueueLimit,
    /// The contents of the channel: the size of each message, `None` for any other event.
    standing: VecDeque<Option<usize>>,
    /// The sizes of the messages in the inbox.
    inside: VecDeque<usize>,
    messages: usize,
    bytes: usize,
    missed: Option<(u64, ConnectionState)>,
    state: ConnectionState,
    /// Where the answers to each request go, by ticket.
    requests: HashMap<u64, Asker>,
    /// An upper bound of the untaken answers of any one request: their number and their bytes.
    fullest: (usize, usize),
}

/// A caller that waits for answers.
struct Asker {
    reply: shared::Reply,
    /// The sizes of the answers that are in the channel, if there may be many.
    standing: VecDeque<usize>,
    bytes: usize,
}

/// How many events at once are a burst.
const BURST_EVENTS: usize = 8;

/// How many events other than messages may be unread.
const MOST_UNREAD_EVENTS: usize = 256;

impl Publisher {
    pub(crate) fn new(channel: Sender<Event>, limit: QueueLimit, burst: Arc<Burst>) -> Self {
        Self {
            channel,
            inbox: None,
            burst,
            limit,
            standing: VecDeque::new(),
            inside: VecDeque::new(),
            messages: 0,
            bytes: 0,
            missed: None,
            state: ConnectionState::Disconnected,
            requests: HashMap::new(),
            fullest: (0, 0),
        }
    }

    /// Puts messages into this inbox, if one is given, instead of the channel.
    pub(crate) fn with_inbox(self, inbox: Option<InboxWriter>) -> Self {
        Self { inbox, ..self }
    }

    /// Whether a message waits for a place in the inbox.
    pub(crate) fn has_waiting(&self) -> bool {
        self.inbox.as_ref().is_some_and(InboxWriter::has_waiting)
    }

    /// Whether a message waits for a place in the inbox, and there is one.
    pub(crate) fn may_go_on(&self) -> bool {
        self.inbox.as_ref().is_some_and(InboxWriter::may_go_on)
    }

    /// Whether there is room for a message.
    pub(crate) fn has_room(&mut self) -> bool {
        self.has_room_behind(0, 0)
    }

    /// Whether there is room for a message behind these, which are on their way.
    pub(crate) fn has_room_behind(&mut self, messages: usize, bytes: usize) -> bool {
        let room =
            |me: &Self| me.messages + messages < me.limit.messages && me.bytes + bytes < me.limit.bytes;
        // The channel's length is only read when it matters.
        let here = !self.has_waiting()
            && (room(self) || {
                self.settle();
                room(self)
            });
        let limit = self.limit;
        let fits = |(standing, size)| standing + messages < limit.messages && size + bytes < limit.bytes;
        here && (fits(self.fullest) || {
            let standing = self.requests.values_mut().map(Asker::settle);
            self.fullest = standing
                .fold((0, 0), |fullest, standing| (fullest.0.max(standing.0), fullest.1.max(standing.1)));
            fits(self.fullest)
        })
    }

    /// A request was accepted: its answers go to `reply`.
    pub(crate) fn expect(&mut self, ticket: u64, reply: shared::Reply) {
        self.requests.insert(ticket, Asker { reply, standing: VecDeque::new(), bytes: 0 });
    }

    /// The caller no longer waits for the answers to this request.
    pub(crate) fn forget(&mut self, ticket: u64) {
        self.requests.remove(&ticket);
    }

    /// Passes on a reply to a request.
    pub(crate) fn reply(&mut self, reply: Reply) {
        let Reply { ticket, answer, last } = reply;
        let Some(request) = self.requests.get_mut(&ticket) else { return };
        if let Some(answer) = answer {
            let size = answer.as_ref().map_or(0, Message::len);
            // A caller that no longer waits gets nothing.
            let _ = request.reply.way.send(answer);
            if request.reply.many && !last {
                request.standing.push_back(size);
                request.bytes += size;
                let (messages, bytes) = self.fullest;
                self.fullest = (messages.max(request.standing.len()), bytes.max(request.bytes));
            }
        }
        if last {
            self.requests.remove(&ticket);
        }
    }

    pub(crate) fn put(&mut self, event: Event) {
        if let Event::Message(message) = &event {
            self.messages += 1;
            self.bytes += message.len();
            return self.put_message(message.len(), event);
        }
        if let Event::StateChanged { to, .. } = event {
            self.state = to;
        }
        let last = matches!(event, Event::Closed { .. });
        if self.others() >= MOST_UNREAD_EVENTS {
            self.settle();
        }
        if self.others() >= MOST_UNREAD_EVENTS && !last {
            let count = self.missed.map_or(0, |(count, _)| count);
            self.missed = Some((count + 1, self.state));
            return;
        }
        self.put_missed();
        self.standing.push_back(None);
        self.send(event);
    }

    /// Says that events were dropped, if some were. Returns whether that is so.
    fn put_missed(&mut self) -> bool {
        let Some((count, state)) = self.missed.take() else { return false };
        self.standing.push_back(None);
        self.send(Event::Missed { count, state });
        true
    }

    /// Says so as soon as there is room, also if no other event follows.
    fn put_missed_in_time(&mut self) -> bool {
        if self.missed.is_none() {
            return false;
        }
        self.settle();
        self.others() < MOST_UNREAD_EVENTS && self.put_missed()
    }

    /// Publishes all of these events. Returns whether there are any.
    pub(crate) fn put_all(&mut self, events: impl Iterator<Item = Event>) -> bool {
        let mut count = usize::from(self.inbox.as_mut().is_some_and(InboxWriter::put_waiting));
        count += usize::from(self.put_missed_in_time());
        for event in events {
            count += 1;
            if count == BURST_EVENTS {
                self.burst.begin();
            }
            self.put(event);
        }
        self.burst.end();
        if let Some(inbox) = self.inbox.as_ref().filter(|_| count > 0) {
            inbox.wake();
        }
        count > 0
    }

    /// Frees the memory that a burst has left behind.
    pub(crate) fn shrink(&mut self) {
        self.settle();
        self.standing.shrink_to_fit();
        self.inside.shrink_to_fit();
    }

    fn put_message(&mut self, size: usize, event: Event) {
        match (&mut self.inbox, event) {
            (Some(inbox), Event::Message(message)) => {
                self.inside.push_back(size);
                inbox.put(message);
            }
            (_, event) => {
                self.standing.push_back(Some(size));
                self.send(event);
            }
        }
    }

    /// How many events in the channel are no messages.
    fn others(&self) -> usize {
        self.standing.len() - (self.messages - self.inside.len())
    }

    fn send(&self, event: Event) {
        // A send fails only if nobody is left who could read the event.
        let _ = self.channel.send(event);
    }

    /// Forgets the entries that the application has taken.
    fn settle(&mut self) {
        let taken = self.standing.len().saturating_sub(self.channel.len());
        for size in self.standing.drain(..taken).flatten() {
            self.messages -= 1;
            self.bytes -= size;
        }
        let here = self.inbox.as_ref().map_or(0, InboxWriter::len);
        let taken = self.inside.len().saturating_sub(here);
        self.messages -= taken;
        self.bytes -= self.inside.drain(..taken).sum::<usize>();
    }
}

impl Asker {
    /// Forgets the answers that the caller has taken. Returns how many remain, and their bytes.
    fn settle(&mut self) -> (usize, usize) {
        let taken = self.standing.len().saturating_sub(self.reply.way.len());
        self.bytes -= self.standing.drain(..taken).sum::<usize>();
        (self.standing.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use ConnectionState::{Connecting, Disconnected};
    use crossbeam_channel::Receiver;

    fn publisher(limit: QueueLimit) -> (Publisher, Receiver<Event>) {
        let (sender, receiver) = crossbeam_channel::unbounded();
        (Publisher::new(sender, limit, Arc::default()), receiver)
    }

    fn message(size: usize) -> Event {
        Event::Message(Message::from(vec![0; size]))
    }

    fn change(to: ConnectionState) -> Event {
        Event::StateChanged { from: Disconnected, to }
    }

    #[test]
    fn messages_push_back_by_count_and_by_bytes() {
        let (mut publisher, receiver) = publisher(QueueLimit::new(3, 100));
        publisher.put(message(1));
        publisher.put(message(1));
        assert!(publisher.has_room() && !publisher.has_room_behind(1, 0));
        publisher.put(message(1));
        assert!(!publisher.has_room());
        receiver.recv().unwrap();
        assert!(publisher.has_room());
        assert!(publisher.has_room_behind(0, 97) && !publisher.has_room_behind(0, 98));
        publisher.put(message(200));
        assert!(!publisher.has_room());
        receiver.try_iter().for_each(drop);
        assert!(publisher.has_room());
    }

    #[test]
    fn a_program_that_never_reads_costs_no_memory() {
        let (mut publisher, receiver) = publisher(QueueLimit::default());
        for _ in 0..10_000 {
            publisher.put(change(Connecting));
            publisher.put(change(Disconnected));
        }
        assert_eq!((receiver.len(), publisher.standing.len()), (MOST_UNREAD_EVENTS, MOST_UNREAD_EVENTS));
    }

    #[test]
    fn what_was_left_out_is_counted_in_its_place_and_the_end_always_arrives() {
        let (mut publisher, receiver) = publisher(QueueLimit::default());
        for _ in 0..MOST_UNREAD_EVENTS / 2 + 5 {
            publisher.put(change(Connecting));
            publisher.put(change(Disconnected));
        }
        for _ in 0..2 {
            receiver.recv().unwrap();
        }
        publisher.put(message(1));
        publisher.put(change(Connecting));
        publisher.put(Event::Closed { reason: crate::event::CloseReason::ByCaller });
        let rest: Vec<_> = receiver.try_iter().collect();
        let [
            ..,
            Event::Message(_),
            Event::Missed { count: 10, state: Disconnected },
            Event::StateChanged { .. },
            Event::Closed { .. },
        ] = &rest[..]
        else {
            panic!("{:?}", &rest[rest.len() - 4..]);
        };
    }

    #[test]
    fn what_was_left_out_is_said_once_there_is_room_also_if_nothing_follows() {
        let (mut publisher, receiver) = publisher(QueueLimit::default());
        for _ in 0..=MOST_UNREAD_EVENTS {
            publisher.put(change(Connecting));
        }
        assert!(!publisher.put_all(std::iter::empty()), "nobody has taken one");
        receiver.try_iter().for_each(drop);
        assert!(publisher.put_all(std::iter::empty()));
        let Ok(Event::Missed { count: 1, state: Connecting }) = receiver.try_recv() else { panic!() };
    }
}
