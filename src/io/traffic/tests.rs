use super::*;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use crate::config::{ConnectionConfig, HeartbeatConfig, QueueLimit};
use crate::error::{CloseFrame, Error};
use crate::event::Event;
use crate::handshake::Handshake;
use crate::message::Message;
use crate::protocol::{Context, Outgoing, Protocol};
use crate::session::{ConnectionId, Startup};
use crate::shared::EventQueue;
use crate::transport::fake::Fake;
use crate::transport::link::Link;
use crate::transport::socket::Socket;
use crate::transport::wire::Wire;

/// A protocol that ends the connection over a bad message, in either direction.
struct Picky;

impl Protocol for Picky {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, _: &mut Context<'_>, message: Message) -> Result<(), Error> {
        if message.as_text() == Some("bad") { Err(Error::session("bad")) } else { Ok(()) }
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        self.on_message(cx, outgoing.message.clone())?;
        cx.send(outgoing.message);
        Ok(())
    }
}

/// An open line, and the system under it, which accepts `room` bytes.
struct Bench {
    session: Session,
    open: Open<Fake>,
    system: Fake,
    now: Instant,
    accepted: u64,
}

impl Bench {
    fn new(room: usize) -> Self {
        Self::with(Picky, room)
    }

    fn with(protocol: impl Protocol + 'static, room: usize) -> Self {
        Self::with_config(ConnectionConfig::new("ws://h"), protocol, room)
    }

    fn with_config(config: ConnectionConfig, protocol: impl Protocol + 'static, room: usize) -> Self {
        let now = Instant::now();
        let wall = SystemTime::UNIX_EPOCH;
        let system = Fake::with_room(room);
        let socket = Box::new(Socket::new(Link::Plain(Wire::new(system.clone())), Vec::new(), &config, None));
        let mut session =
            Session::new(config, Some(Box::new(protocol)), Startup::default(), (now, wall)).unwrap();
        session.start(now);
        let handshake = Arc::new(Handshake::new(Some(([127, 0, 0, 1], 80).into()), None));
        assert!(session.handle_opened(now, 1, &handshake, 0));
        Self { session, open: Open::new(ConnectionId(1), socket), system, now, accepted: 0 }
    }

    fn send(&mut self, messages: &[&str]) {
        for message in messages {
            self.accepted += 1;
            self.session.handle_accepted(self.accepted, (*message).into(), None);
        }
        transmit(&mut self.session, &mut self.open, self.now, || self.now);
    }

    /// The server sends a ping and a bad message.
    fn hear(&mut self) {
        self.system.feed([0x89, 0, 0x81, 3, b'b', b'a', b'd']);
        self.read();
    }

    fn read(&mut self) {
        self.read_for(&mut Publisher::new(EventQueue::new().1, QueueLimit::default()));
    }

    fn read_for(&mut self, publisher: &mut Publisher) {
        self.open.socket.wire_mut().edge();
        read(&mut self.session, publisher, &mut self.open, self.now);
    }

    fn make_room(&self) {
        self.system.0.lock().unwrap().room = usize::MAX;
    }

    fn bytes_out(&self) -> usize {
        self.system.0.lock().unwrap().written.len()
    }

    /// How many messages the loss left in doubt.
    fn in_doubt(&mut self) -> u64 {
        let lost = std::iter::from_fn(|| self.session.poll_event()).find_map(|event| match event {
            Event::Disconnected { maybe_delivered, .. } => Some(maybe_delivered.len()),
            _ => None,
        });
        lost.expect("a loss")
    }
}

#[test]
fn a_message_that_arrives_slowly_is_no_silence_and_pongs_in_the_middle_of_it_are() {
    const S: Duration = Duration::from_secs(1);
    let config = ConnectionConfig::new("ws://h").heartbeat(HeartbeatConfig::off()).idle_timeout(10 * S);
    let mut bench = Bench::with_config(config, Picky, usize::MAX);
    let start = bench.now;
    // When the server is given up, once these bytes have come 9 s later.
    let mut later = |bytes: &[u8]| {
        bench.now += 9 * S;
        bench.system.feed(bytes);
        bench.read();
        bench.session.handle_timeout(bench.now);
        bench.session.next_deadline().map(|due| due - start)
    };
    assert_eq!(later(&[0x01, 4]), Some(19 * S), "the header of a fragment");
    assert_eq!(later(b"go"), Some(28 * S));
    assert_eq!(later(b"od"), Some(37 * S), "the fragment is complete, and the message is not");
    assert_eq!(later(&[0x8A, 0]), Some(37 * S), "a pong is no part of it");
    bench.session.handle_timeout(start + 37 * S);
    assert!(!bench.session.has(ConnectionId(1)), "it stopped in the middle");
}

#[test]
fn a_part_that_came_behind_more_messages_than_a_turn_takes_is_no_silence_either() {
    const S: Duration = Duration::from_secs(1);
    let config = ConnectionConfig::new("ws://h").heartbeat(HeartbeatConfig::off()).idle_timeout(10 * S);
    let mut bench = Bench::with_config(config, Picky, usize::MAX);
    bench.session.set_data_filter(Box::new(|_| false));
    let start = bench.now;
    bench.now += 9 * S;
    bench.system.feed([[0x81, 1, b'A'].repeat(BURST_MESSAGES + 10), vec![0x82, 4]].concat());
    bench.read();
    assert_eq!(bench.session.next_deadline(), Some(start + 10 * S), "the part waits behind the rest");
    bench.read();
    assert_eq!(bench.session.next_deadline(), Some(start + 19 * S));
}

#[test]
fn a_hook_that_ends_the_connection_in_the_middle_of_a_batch_keeps_back_what_was_not_flushed() {
    let mut bench = Bench::new(usize::MAX);
    bench.send(&["good", "bad"]);
    assert_eq!((bench.in_doubt(), bench.bytes_out()), (0, 0), "it is sent again");
}

#[test]
fn a_hook_that_ends_the_connection_in_the_middle_of_a_batch_leaves_in_doubt_what_was_taken() {
    let mut bench = Bench::new(usize::MAX);
    bench.send(&[&"x".repeat(LARGE), "bad"]);
    assert!(bench.bytes_out() > LARGE);
    assert_eq!(bench.in_doubt(), 1);
}

/// The size of a message that is sent at once.
const LARGE: usize = 128 << 10;

#[test]
fn what_a_read_lets_out_before_it_ends_the_connection_is_left_in_doubt() {
    let mut bench = Bench::new(0);
    bench.send(&["good"]);
    bench.make_room();
    bench.hear();
    assert!(bench.bytes_out() > 0, "ahead of the pong");
    assert_eq!(bench.in_doubt(), 1);
}

/// Moves at any message, and is ready on the successor at any message.
struct Mover;

impl Protocol for Mover {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        if !cx.is_moving() {
            cx.ready();
        }
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, _: Message) -> Result<(), Error> {
        if cx.is_moving() {
            cx.ready();
        } else {
            cx.move_line();
        }
        Ok(())
    }
}

#[test]
fn a_line_that_is_about_to_move_outlives_an_old_connection_that_ends_at_once() {
    let ends: [&[&[u8]]; 2] = [&[b"\x88\x00", b""], &[b"\x88\x02\x03\xE8", b""]];
    for end in ends {
        let mut bench = Bench::with(Mover, usize::MAX);
        bench.send(&["not confirmed yet"]);
        bench.session.handle_message(bench.now, ConnectionId(1), "move".into());
        let handshake = Arc::new(Handshake::new(Some(([127, 0, 0, 1], 80).into()), None));
        assert!(bench.session.handle_opened(bench.now, 2, &handshake, 0));
        bench.session.handle_message(bench.now, ConnectionId(2), "welcome".into());
        for bytes in end {
            bench.system.feed(*bytes);
        }
        bench.open.socket.wire_mut().edge_of_end();
        bench.read();
        drain(&mut bench.session, &mut bench.open, bench.now);
        let last = std::iter::from_fn(|| bench.session.poll_event()).last();
        assert!(matches!(last, Some(Event::Moved { .. })), "{last:?}");
    }
}

/// Delivers every message, and one of its own while the line closes.
struct Herald;

impl Protocol for Herald {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        cx.deliver(message);
        Ok(())
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.set_timer(1, Duration::from_millis(1));
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: u32) -> Result<(), Error> {
        cx.deliver("a word of the protocol's own");
        Ok(())
    }
}

/// Keeps every message for itself, and counts them.
struct Listener(Arc<AtomicUsize>);

impl Protocol for Listener {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, _: &mut Context<'_>, _: Message) -> Result<(), Error> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }
}

#[test]
fn what_the_protocol_keeps_for_itself_takes_no_room() {
    for closing in [false, true] {
        let heard = Arc::new(AtomicUsize::new(0));
        let mut bench = Bench::with(Listener(Arc::clone(&heard)), usize::MAX);
        let mut publisher = Publisher::new(EventQueue::new().1, QueueLimit::new(2, 1000));
        if closing {
            bench.session.handle_close(bench.now, CloseFrame::new(1000, ""), true);
        }
        bench.system.feed((0..100).flat_map(|n| [0x81, 1, n]).collect::<Vec<_>>());
        bench.read_for(&mut publisher);
        assert_eq!(heard.load(Relaxed), 100, "in one turn");
    }
}

#[test]
fn what_is_delivered_while_a_line_closes_has_no_holes() {
    for flush in [false, true] {
        let mut bench = Bench::with(Herald, usize::MAX);
        let (queue, writer) = EventQueue::new();
        let mut publisher = Publisher::new(writer, QueueLimit::new(2, 1000));
        bench.session.handle_close(bench.now, CloseFrame::new(1000, ""), flush);
        let taken = || queue.drain().filter_map(Event::into_message).map(|m| m.to_string());
        let mut delivered = Vec::new();
        for numbers in ["12", "3456", "78"] {
            bench.system.feed(numbers.bytes().flat_map(|n| [0x81, 1, n]).collect::<Vec<_>>());
            bench.read_for(&mut publisher);
            publisher.put(bench.session.events());
            // The application reads late, and makes room.
            if numbers != "12" {
                delivered.extend(taken());
            }
        }
        bench.session.handle_timeout(bench.now + Duration::from_millis(2));
        publisher.put(bench.session.events());
        delivered.extend(taken());
        assert_eq!(delivered, ["1", "2"], "the third found no room");
    }
}

#[test]
fn what_a_rest_lets_out_before_the_end_is_left_in_doubt() {
    let mut bench = Bench::new(0);
    bench.send(&["good"]);
    // Shrinking replaces a buffer that is known to be empty.
    bench.read();
    bench.make_room();
    shrink(&mut bench.session, &mut bench.open, bench.now);
    assert!(bench.bytes_out() > 0);
    bench.session.handle_terminate();
    assert_eq!(bench.session.take_left().maybe_delivered.len(), 1);
}

#[test]
fn a_connection_that_was_given_up_lets_nothing_out_for_a_read_or_a_rest() {
    let mut bench = Bench::new(0);
    bench.send(&["good"]);
    bench.read();
    bench.make_room();
    bench.session.handle_terminate();
    bench.hear();
    shrink(&mut bench.session, &mut bench.open, bench.now);
    assert_eq!(bench.bytes_out(), 0, "it counts as never written");
}
