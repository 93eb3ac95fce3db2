//! What is confirmed, and when.

use std::collections::VecDeque;

use super::*;
use crate::config::{Delivery, QueueLimit};

/// A server that answers each ping a round trip after it went out.
struct Far {
    rig: Rig,
    round_trip: Duration,
    answers: VecDeque<(Instant, [u8; 8])>,
    pings: usize,
}

impl Far {
    fn new(config: ConnectionConfig, round_trip: Duration) -> Self {
        Self { rig: Rig::opened(config), round_trip, answers: VecDeque::new(), pings: 0 }
    }

    /// Lets time pass, delivers what arrives, and does what is due.
    fn step(&mut self, time: Duration) {
        self.rig.step(time);
        let arrived = self.answers.partition_point(|(at, _)| *at <= self.rig.now);
        for (_, payload) in self.answers.drain(..arrived) {
            self.rig.session.handle_pong(self.rig.now, self.rig.id(), &payload);
        }
        for frame in self.rig.transmit() {
            if let Frame::Ping(payload) = frame {
                self.pings += 1;
                self.answers.push_back((self.rig.now + self.round_trip, payload));
            }
        }
    }

    fn settled(&self) -> u64 {
        self.rig.session.watermarks().settled
    }
}

#[test]
fn however_many_wait_each_is_confirmed_within_two_round_trips_by_few_pings() {
    let mut far = Far::new(config(), 100 * MS);
    let mut waiting = VecDeque::new();
    for _ in 0..500 {
        far.rig.accept(&["a"]);
        far.rig.session.handle_confirm(far.rig.last_ticket);
        waiting.push_back((far.rig.last_ticket, far.rig.now));
        far.step(2 * MS);
        let settled = far.settled();
        let confirmed = waiting.partition_point(|(ticket, _)| *ticket <= settled);
        for (_, since) in waiting.drain(..confirmed) {
            let waited = far.rig.now - since;
            assert!(waited <= 202 * MS, "confirmed after {waited:?}");
        }
    }
    assert!(far.settled() >= 400, "{} of 500", far.settled());
    assert!(far.pings <= 50, "{} pings in a second", far.pings);
}

#[test]
fn a_confirmation_alone_takes_one_round_trip() {
    let mut far = Far::new(config(), 100 * MS);
    far.rig.accept(&["a", "b"]);
    far.rig.session.handle_confirm(2);
    far.step(Duration::ZERO);
    assert_eq!(far.pings, 1, "for both");
    far.rig.session.handle_confirm(1);
    far.step(50 * MS);
    assert_eq!(far.pings, 1, "what was asked for already is not asked for again");
    far.step(50 * MS);
    assert_eq!(far.settled(), 2);
    far.rig.session.handle_confirm(2);
    far.step(50 * MS);
    assert_eq!(far.pings, 1, "nor what is confirmed");
}

#[test]
fn a_confirmation_is_asked_for_though_newer_messages_wait() {
    let mut far = Far::new(config().fragment(2), 100 * MS);
    far.rig.accept(&["a", "b", "c"]);
    far.rig.session.handle_confirm(1);
    let frames = far.rig.transmit();
    assert_eq!(frames, [text("a"), ping(1), text("b"), text("c")]);
    far.rig.accept(&["d", "e", "f"]);
    far.rig.session.handle_confirm(5);
    far.rig.session.handle_confirm(6);
    let frames = far.rig.transmit();
    assert_eq!(frames, [text("d"), text("e"), ping(2), text("f"), ping(3)]);
}

#[test]
fn at_least_once_goes_on_while_many_heartbeats_are_under_way() {
    let heartbeat = HeartbeatConfig::default().interval(20 * MS).timeout(60 * S);
    let config =
        config().delivery(Delivery::AtLeastOnce).heartbeat(heartbeat).outbox(QueueLimit::new(20, 1 << 20));
    let mut far = Far::new(config, S);
    let mut released = 0;
    for _ in 0..1_200 {
        released += far.rig.session.take_released().messages as u64;
        if far.rig.last_ticket < 60 && far.rig.last_ticket - released < 20 {
            far.rig.accept(&["a"]);
        }
        far.step(5 * MS);
    }
    assert_eq!(released, 60, "within six round trips");
}

#[test]
fn a_slow_peer_confirms_as_it_answers_however_many_heartbeats_are_under_way() {
    let heartbeat = HeartbeatConfig::default().interval(10 * MS).timeout(600 * S);
    let mut far = Far::new(config().heartbeat(heartbeat), 10 * S);
    let mut longest = 0;
    for n in 0..3_000 {
        far.rig.accept(&["a"]);
        far.step(10 * MS);
        if n >= 1_000 {
            longest = longest.max(far.rig.last_ticket - far.settled());
        }
    }
    assert!(longest <= 1_150, "a message waits for its confirmation for {longest} times 10 ms");
}

/// A ping is on the wire behind a message.
fn asked() -> Rig {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    rig.session.handle_confirm(1);
    assert_eq!(rig.transmit(), [text("a"), ping(1)]);
    rig
}

fn foreign_pong(rig: &mut Rig) {
    rig.session.handle_pong(rig.now, rig.id(), b"");
}

#[test]
fn a_server_whose_pongs_repeat_nothing_is_asked_once_more_and_then_no_more() {
    let mut rig = asked();
    foreign_pong(&mut rig);
    assert_eq!(rig.transmit(), [ping(2)], "the pong may have been one that nobody asked for");
    foreign_pong(&mut rig);
    rig.accept(&["b"]);
    rig.session.handle_confirm(2);
    assert_eq!(rig.transmit(), texts(["b"]));
    assert_eq!(rig.session.watermarks().settled, 0);
    rig.step(30 * S);
    assert_eq!(rig.transmit(), [ping(3)], "heartbeats go on");
    foreign_pong(&mut rig);
    rig.step(10 * S);
    assert_eq!(rig.session.state(), ConnectionState::Connected, "a pong is life all the same");
    rig.pong(3);
    assert_eq!(rig.session.watermarks().settled, 2);
    rig.accept(&["c"]);
    rig.session.handle_confirm(3);
    assert_eq!(rig.transmit(), [text("c"), ping(4)], "it has learned it");
}

#[test]
fn a_close_does_not_wait_for_a_confirmation_that_can_not_come() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    rig.transmit();
    rig.close(true);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    foreign_pong(&mut rig);
    assert_eq!(rig.transmit(), [ping(2)]);
    foreign_pong(&mut rig);
    assert_eq!(rig.transmit(), [goodbye()]);
    rig.lose();
    assert_eq!(rig.left(), (vec![], vec![1]));

    let mut rig = asked();
    foreign_pong(&mut rig);
    rig.transmit();
    foreign_pong(&mut rig);
    rig.close(true);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [goodbye()], "where it is known, nothing is asked");
}

#[test]
fn a_pong_that_nobody_asked_for_changes_nothing() {
    let mut rig = asked();
    rig.pong(1);
    for _ in 0..3 {
        rig.accept(&["b"]);
        rig.session.handle_confirm(rig.last_ticket);
        assert!(matches!(rig.transmit()[..], [_, Frame::Ping(_)]));
        foreign_pong(&mut rig);
        assert_eq!(rig.transmit(), [], "the server has shown that it repeats what it gets");
    }

    let mut rig = Rig::opened(config());
    foreign_pong(&mut rig);
    assert_eq!(rig.transmit(), [], "no ping was out");
    rig.step(30 * S);
    assert_eq!(rig.hand(), [ping(1)]);
    foreign_pong(&mut rig);
    assert_eq!(rig.hand(), [], "the ping was not on the wire yet");

    let mut rig = asked();
    foreign_pong(&mut rig);
    assert_eq!(rig.transmit(), [ping(2)]);
    rig.pong(1);
    foreign_pong(&mut rig);
    rig.accept(&["b"]);
    rig.close(true);
    rig.transmit();
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(3)], "one that came ahead of the answer");
}

#[test]
fn another_connection_is_judged_anew() {
    let mut rig = asked();
    foreign_pong(&mut rig);
    rig.transmit();
    foreign_pong(&mut rig);
    rig.lose();
    rig.open();
    rig.accept(&["b"]);
    rig.session.handle_confirm(2);
    assert_eq!(rig.transmit(), [text("b"), ping(1)]);
    rig.pong(1);
    assert_eq!(rig.session.watermarks().settled, 2);
}
