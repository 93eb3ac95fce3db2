//! Moves frames between the session and the sockets.

use std::time::Instant;

use crate::error::Fault;
use crate::io::publisher::Publisher;
use crate::io::sockets::Open;
use crate::session::{COMPRESSED_AT_ONCE, Frame, Progress, Session};
use crate::transport::socket::Incoming;
use crate::transport::wire::Raw;

/// While more than this many bytes wait for the system, a socket is handed no more messages.
pub(crate) const HIGH_WATER: usize = 64 << 10;

/// How much one turn reads at most, so that output never waits behind a flood of input.
const BURST_MESSAGES: usize = 256;
const BURST_BYTES: usize = 256 << 10;

/// Reports the progress of a socket, once everything polled for it is with the link.
fn progress<T: Raw>(session: &mut Session, open: &Open<T>, now: Instant) {
    let (handed, taken, blocked) = (open.socket.handed(), open.socket.taken(), open.socket.is_blocked());
    session.handle_progress(now, open.id, Progress { handed, taken, blocked });
}

/// Reads what has arrived, within the burst's bounds and the room for it. Returns how many frames were read.
pub(crate) fn read<T: Raw>(
    session: &mut Session,
    publisher: &mut Publisher,
    open: &mut Open<T>,
    now: Instant,
) -> usize {
    let id = open.id;
    let (received, mut taken) = (open.socket.received(), open.socket.taken());
    let (messages_before, _) = open.socket.messages_so_far();
    let (mut frames, mut bytes) = (0, 0);
    open.may_have_more = true;
    open.socket.begin_burst(BURST_BYTES);
    // A connection that was given up in this turn is already settled: a read could send more of it, together with a
    // pong.
    while session.has(id) && frames < BURST_MESSAGES && bytes < BURST_BYTES {
        // Messages that are dropped by configuration take no room. The answers to requests do.
        let room = publisher.has_room_behind(frames, bytes);
        if !room && session.delivers() {
            break;
        }
        let read = open.socket.read();
        if open.socket.taken() > taken {
            taken = open.socket.taken();
            progress(session, open, now);
        }
        match read {
            Ok(Some(Incoming::Message(message))) => {
                frames += 1;
                bytes += message.len();
                if room {
                    session.handle_message(now, id, message);
                } else {
                    // The line is closing: the server's answer must not wait behind messages that nobody takes.
                    session.handle_overflow();
                }
            }
            Ok(Some(Incoming::Ping(payload))) => {
                frames += 1;
                open.needs_flush = true;
                session.handle_ping(now, id, &payload);
            }
            Ok(Some(Incoming::Pong(payload))) => {
                frames += 1;
                session.handle_pong(now, id, &payload);
            }
            Ok(Some(Incoming::Close(frame))) => {
                open.needs_flush = true;
                session.handle_close_frame(now, id, frame);
            }
            Ok(None) => {
                open.may_have_more = open.socket.has_more();
                break;
            }
            Err(fault) => {
                session.handle_fault(now, id, fault);
                break;
            }
        }
    }
    if open.socket.received() > received {
        session.handle_activity(now, id);
        let (messages, is_incomplete) = open.socket.messages_so_far();
        // In the middle of a message, bytes that have brought nothing yet belong to a TLS record that holds more of it.
        if is_incomplete && (messages > messages_before || frames == 0) {
            session.handle_part(now, id);
        }
    }
    frames
}

/// Lets the system take as much as it can of what waits, before the peer is judged by that. The peer is not to blame
/// when this thread is late.
pub(crate) fn drain<T: Raw>(session: &mut Session, open: &mut Open<T>, now: Instant) {
    // A connection that was given up in this turn is already settled: no more of it may be sent.
    if open.socket.spilled() == 0 || !session.has(open.id) {
        return;
    }
    let flushed = open.socket.flush();
    progress(session, open, now);
    if let Err(fault) = flushed {
        session.handle_fault(now, open.id, fault);
    }
}

/// The line is idle: frees the memory that a burst has left behind.
pub(crate) fn shrink<T: Raw>(session: &mut Session, open: &mut Open<T>, now: Instant) {
    // Shrinking may send bytes, which a connection that was given up must not do.
    if session.has(open.id) {
        open.socket.shrink();
        progress(session, open, now);
    }
}

/// Hands frames to a socket until there are no more, or until the system takes no more, with one flush for all. `later`
/// gives the time again, in case a large message took long. Returns whether there were any frames.
pub(crate) fn transmit<T: Raw>(
    session: &mut Session,
    open: &mut Open<T>,
    now: Instant,
    later: impl Fn() -> Instant,
) -> bool {
    let before = open.socket.handed();
    let outcome = hand_over(session, open, now, &later);
    let handed = open.socket.handed() - before;
    // The time spent on a large message must not count against the peer.
    let now = if handed > BURST_BYTES as u64 { later() } else { now };
    progress(session, open, now);
    if let Err(fault) = outcome {
        session.handle_fault(now, open.id, fault);
    }
    handed > 0
}

fn hand_over<T: Raw>(
    session: &mut Session,
    open: &mut Open<T>,
    now: Instant,
    later: &impl Fn() -> Instant,
) -> Result<(), Fault> {
    let id = open.id;
    let mut unflushed = std::mem::take(&mut open.needs_flush) || open.socket.spilled() > 0;
    let compressed = open.socket.compressed();
    open.has_more_to_send = false;
    loop {
        let mut exhausted = false;
        while !exhausted && !open.has_more_to_send && open.socket.spilled() < HIGH_WATER {
            let socket = &mut open.socket;
            let before = socket.handed();
            if let Some(message) = session.poll_message(id) {
                socket.write(message)?;
            } else {
                match session.poll_transmit(now, id) {
                    None if session.frame_message(now, id) => continue,
                    None => exhausted = true,
                    Some(Frame::Message(message)) => socket.write(&message)?,
                    Some(Frame::Fragment(fragment)) => socket.write_fragment(&fragment)?,
                    Some(Frame::Ping(payload)) => socket.ping(payload)?,
                    Some(Frame::Close(frame)) => socket.close(&frame)?,
                }
            }
            unflushed |= !exhausted;
            open.has_more_to_send = open.socket.compressed() - compressed >= COMPRESSED_AT_ONCE as u64;
            // The socket has passed on its batch. A mark here makes the report of a loss more exact.
            let passed = open.socket.handed() - before;
            if passed > 0 {
                progress(session, open, if passed > BURST_BYTES as u64 { later() } else { now });
            }
        }
        // A hook has given the connection up, and it is already settled: no more of it may be sent.
        if !session.has(id) {
            return Ok(());
        }
        if unflushed {
            open.socket.flush()?;
            progress(session, open, now);
        }
        // If a flush made room, continue: nothing else would come back for what still waits.
        if exhausted || open.has_more_to_send || open.socket.spilled() >= HIGH_WATER {
            return Ok(());
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source; nothing here takes time")]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use crate::config::{ConnectionConfig, HeartbeatConfig, QueueLimit};
    use crate::error::{CloseFrame, Error};
    use crate::event::Event;
    use crate::handshake::Handshake;
    use crate::message::Message;
    use crate::protocol::{Context, Outgoing, Protocol};
    use crate::session::{ConnectionId, Startup};
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
            let socket =
                Box::new(Socket::new(Link::Plain(Wire::new(system.clone())), Vec::new(), &config, None));
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
            let (events, _inbox) = crossbeam_channel::unbounded();
            self.read_for(&mut Publisher::new(events, QueueLimit::default(), Arc::default()));
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

    #[test]
    fn what_is_delivered_while_a_line_closes_has_no_holes() {
        for flush in [false, true] {
            let mut bench = Bench::with(Herald, usize::MAX);
            let (events, inbox) = crossbeam_channel::unbounded();
            let mut publisher = Publisher::new(events, QueueLimit::new(2, 1000), Arc::default());
            bench.session.handle_close(bench.now, CloseFrame::new(1000, ""), flush);
            let taken = || inbox.try_iter().filter_map(Event::into_message).map(|m| m.to_string());
            let mut delivered = Vec::new();
            for numbers in ["12", "3456", "78"] {
                bench.system.feed(numbers.bytes().flat_map(|n| [0x81, 1, n]).collect::<Vec<_>>());
                bench.read_for(&mut publisher);
                std::iter::from_fn(|| bench.session.poll_event()).for_each(|event| publisher.put(event));
                // The application reads late, and makes room.
                if numbers != "12" {
                    delivered.extend(taken());
                }
            }
            bench.session.handle_timeout(bench.now + Duration::from_millis(2));
            std::iter::from_fn(|| bench.session.poll_event()).for_each(|event| publisher.put(event));
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
}
