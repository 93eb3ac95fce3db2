//! Hands events to the application.

use std::collections::{HashMap, VecDeque};

use crate::config::QueueLimit;
use crate::event::Event;
use crate::message::Message;
use crate::session::Reply;
use crate::shared::{self, EventWriter, InboxWriter};
use crate::state::ConnectionState;

/// Puts events into the queue that the application reads.
///
/// Messages exert backpressure: above the bound there is no room, and the I/O thread stops reading. All other events
/// always find room. Beyond [`MOST_UNREAD_EVENTS`] of them, the newest are merged into one [`Event::Missed`], so that a
/// program that never reads costs no memory. The queue's length shows what the application has taken.
///
/// Where callers must wait for nobody, messages have an inbox of their own, and the queue has the other events alone.
pub(crate) struct Publisher {
    queue: EventWriter,
    /// Where messages go, if they do not go through the queue.
    inbox: Option<InboxWriter>,
    limit: QueueLimit,
    /// The contents of the queue: the size of each message, `None` for any other event.
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
    /// The sizes of the answers that the caller has not taken, if there may be many.
    standing: VecDeque<usize>,
    bytes: usize,
}

/// How many events other than messages may be unread.
const MOST_UNREAD_EVENTS: usize = 256;

impl Publisher {
    pub(crate) fn new(queue: EventWriter, limit: QueueLimit) -> Self {
        Self {
            queue,
            inbox: None,
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

    /// Puts messages into this inbox, if one is given, instead of the queue.
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

    /// Whether messages go through the channel of events.
    pub(crate) fn has_channel(&self) -> bool {
        self.inbox.is_none() && self.queue.is_channel()
    }

    /// Whether there is room for a message, and half of the room of all.
    pub(crate) fn is_half_empty(&mut self) -> bool {
        self.settle();
        self.messages <= self.limit.messages / 2 && self.bytes <= self.limit.bytes / 2 && self.has_room()
    }

    /// Whether there is room for a message behind these, which are on their way.
    #[inline]
    pub(crate) fn has_room_behind(&mut self, messages: usize, bytes: usize) -> bool {
        let room =
            |me: &Self| me.messages + messages < me.limit.messages && me.bytes + bytes < me.limit.bytes;
        // The queue's length is only read when it matters.
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

    /// Publishes all of these events, and leaves none. Returns whether there are any.
    pub(crate) fn put(&mut self, events: &mut VecDeque<Event>) -> bool {
        let mut any = self.inbox.as_mut().is_some_and(InboxWriter::put_waiting) || !events.is_empty();
        if self.missed.is_some() || self.others() + events.len() > MOST_UNREAD_EVENTS {
            self.settle();
        }
        let is_near_full = self.others() + events.len() > MOST_UNREAD_EVENTS;
        if is_near_full || self.inbox.is_some() || self.missed.is_some() {
            self.sort_out(events);
        } else {
            for event in events.iter() {
                self.account(event);
            }
        }
        any |= !events.is_empty();
        self.queue.put(events);
        if let Some(inbox) = self.inbox.as_ref().filter(|_| any) {
            inbox.wake();
        }
        any
    }

    /// Leaves in `events` what goes into the queue.
    fn sort_out(&mut self, events: &mut VecDeque<Event>) {
        let count = events.len();
        // There may be room again, also if no other event follows.
        if self.others() < MOST_UNREAD_EVENTS {
            self.put_missed(events);
        }
        // What passes goes round to the back, so that a turn allocates nothing.
        for _ in 0..count {
            let Some(event) = events.pop_front() else { return };
            match (&mut self.inbox, event) {
                (Some(inbox), Event::Message(message)) => {
                    self.messages += 1;
                    self.bytes += message.len();
                    self.inside.push_back(message.len());
                    inbox.put(message);
                }
                (None, event @ Event::Message(_)) => {
                    self.account(&event);
                    events.push_back(event);
                }
                (_, event) => self.put_other(event, events),
            }
        }
    }

    /// An event goes into the queue.
    fn account(&mut self, event: &Event) {
        let size = match event {
            Event::Message(message) => {
                self.messages += 1;
                self.bytes += message.len();
                Some(message.len())
            }
            Event::StateChanged { to, .. } => {
                self.state = *to;
                None
            }
            _ => None,
        };
        self.standing.push_back(size);
    }

    /// An event that is no message goes into the queue, unless that is full.
    fn put_other(&mut self, event: Event, events: &mut VecDeque<Event>) {
        let is_last = matches!(event, Event::Closed { .. });
        if self.others() >= MOST_UNREAD_EVENTS && !is_last {
            if let Event::StateChanged { to, .. } = event {
                self.state = to;
            }
            let count = self.missed.map_or(0, |(count, _)| count);
            self.missed = Some((count + 1, self.state));
            return;
        }
        self.put_missed(events);
        self.account(&event);
        events.push_back(event);
    }

    /// Says that events were dropped, if some were.
    fn put_missed(&mut self, events: &mut VecDeque<Event>) {
        if let Some((count, state)) = self.missed.take() {
            self.standing.push_back(None);
            events.push_back(Event::Missed { count, state });
        }
    }

    /// Frees the memory that a burst has left behind.
    pub(crate) fn shrink(&mut self) {
        self.settle();
        self.standing.shrink_to_fit();
        self.queue.shrink();
        self.inside.shrink_to_fit();
    }

    /// How many events in the queue are no messages.
    fn others(&self) -> usize {
        self.standing.len() - (self.messages - self.inside.len())
    }

    /// Forgets the entries that the application has taken.
    fn settle(&mut self) {
        let taken = self.standing.len().saturating_sub(self.queue.len());
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
    use crate::shared::EventQueue;
    use ConnectionState::{Connecting, Disconnected};
    use std::sync::Arc;

    fn publisher(limit: QueueLimit) -> (Publisher, Arc<EventQueue>) {
        let (queue, writer) = EventQueue::new();
        (Publisher::new(writer, limit), queue)
    }

    fn put(publisher: &mut Publisher, event: Event) {
        assert!(publisher.put(&mut [event].into()));
    }

    fn message(size: usize) -> Event {
        Event::Message(Message::from(vec![0; size]))
    }

    fn change(to: ConnectionState) -> Event {
        Event::StateChanged { from: Disconnected, to }
    }

    #[test]
    fn messages_push_back_by_count_and_by_bytes() {
        let (mut publisher, queue) = publisher(QueueLimit::new(3, 100));
        put(&mut publisher, message(1));
        put(&mut publisher, message(1));
        assert!(publisher.has_room() && !publisher.has_room_behind(1, 0));
        put(&mut publisher, message(1));
        assert!(!publisher.has_room());
        queue.try_take().unwrap();
        assert!(publisher.has_room());
        assert!(publisher.has_room_behind(0, 97) && !publisher.has_room_behind(0, 98));
        put(&mut publisher, message(200));
        assert!(!publisher.has_room());
        queue.drain().for_each(drop);
        assert!(publisher.has_room());
    }

    #[test]
    fn who_takes_from_the_channel_is_waited_for_until_half_of_the_room_is_free() {
        let (mut publisher, queue) = publisher(QueueLimit::new(4, 100));
        publisher.put(&mut (0..4).map(|_| message(1)).collect());
        assert!(!publisher.has_channel(), "a caller who takes by recv says so");
        let channel = queue.channel();
        assert!(publisher.has_channel() && !publisher.is_half_empty());
        channel.recv().unwrap();
        assert!(publisher.has_room() && !publisher.is_half_empty());
        channel.recv().unwrap();
        assert!(publisher.is_half_empty());
        put(&mut publisher, message(97));
        assert!(!publisher.is_half_empty(), "by bytes");
        channel.try_iter().for_each(drop);
        let (way, answers) = crossbeam_channel::unbounded();
        publisher.expect(1, shared::Reply { way, many: true });
        for _ in 0..4 {
            publisher.reply(Reply { ticket: 1, answer: Some(Ok(Message::from("x"))), last: false });
        }
        assert!(!publisher.is_half_empty(), "a request has taken none of its answers");
        answers.recv().unwrap().unwrap();
        assert!(publisher.is_half_empty());
    }

    #[test]
    fn a_program_that_never_reads_costs_no_memory() {
        let (mut publisher, queue) = publisher(QueueLimit::default());
        for _ in 0..10_000 {
            put(&mut publisher, change(Connecting));
            put(&mut publisher, change(Disconnected));
        }
        assert_eq!((queue.len(), publisher.standing.len()), (MOST_UNREAD_EVENTS, MOST_UNREAD_EVENTS));
    }

    #[test]
    fn what_was_left_out_is_counted_in_its_place_and_the_end_always_arrives() {
        let (mut publisher, queue) = publisher(QueueLimit::default());
        for _ in 0..MOST_UNREAD_EVENTS / 2 + 5 {
            put(&mut publisher, change(Connecting));
            put(&mut publisher, change(Disconnected));
        }
        for _ in 0..2 {
            queue.try_take().unwrap();
        }
        put(&mut publisher, message(1));
        put(&mut publisher, change(Connecting));
        put(&mut publisher, Event::Closed { reason: crate::event::CloseReason::ByCaller });
        let rest: Vec<_> = queue.drain().collect();
        let [
            ..,
            Event::Missed { count: 10, state: Disconnected },
            Event::Message(_),
            Event::StateChanged { .. },
            Event::Closed { .. },
        ] = &rest[..]
        else {
            panic!("{:?}", &rest[rest.len() - 4..]);
        };
    }

    #[test]
    fn what_was_left_out_is_said_once_there_is_room_also_if_nothing_follows() {
        let (mut publisher, queue) = publisher(QueueLimit::default());
        for _ in 0..=MOST_UNREAD_EVENTS {
            put(&mut publisher, change(Connecting));
        }
        assert!(!publisher.put(&mut VecDeque::new()), "nobody has taken one");
        queue.drain().for_each(drop);
        assert!(publisher.put(&mut VecDeque::new()));
        let Ok(Event::Missed { count: 1, state: Connecting }) = queue.try_take() else { panic!() };
    }
}
