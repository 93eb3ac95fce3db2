//! The end of a connection, and of the client.

use super::*;
use crate::error::Fault;
use Action::{AbandonDial, Stop, Unschedule};

fn violate(rig: &mut Rig, code: u16) {
    rig.session.handle_fault(rig.now, rig.id(), Fault::Violation { code, reason: "a reserved bit".into() });
}

/// A rig in each state, and what closing it at once asks for.
fn every_state() -> Vec<(&'static str, Rig, Vec<Action>)> {
    let new = Rig::new(config(), false);
    let mut closing = Rig::opened(config());
    closing.close(true);
    closing.forget();
    let mut closed_by_server = Rig::opened(config());
    closed_by_server.server_closes(1001);
    closed_by_server.forget();
    let mut timed_out = Rig::dialling(config());
    timed_out.step(10 * S);
    timed_out.forget();
    vec![
        ("new", new, vec![Stop]),
        ("dialling", Rig::dialling(config()), vec![AbandonDial, Stop]),
        ("timed out", timed_out, vec![AbandonDial, Stop]),
        ("waiting", Rig::waiting(config()), vec![Unschedule, Stop]),
        ("open", Rig::opened(config()), vec![HANG_UP, Stop]),
        ("closing", closing, vec![HANG_UP, Stop]),
        ("closed by the server", closed_by_server, vec![HANG_UP, Stop]),
    ]
}

#[test]
fn a_close_lets_the_outbox_out_asks_and_says_goodbye() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a", "b"]);
    rig.close(true);
    assert_eq!(rig.told(), ["CONNECTED -> CLOSING"]);
    assert!(rig.session.wants_outbox() && !rig.session.delivers());
    assert_eq!(rig.deadline(), Some(3 * S), "nothing is to be asked before the outbox is out");
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), texts(["a", "b"]));
    assert!(rig.session.next_deadline().unwrap() <= rig.now, "the question is due");
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    assert_eq!(rig.deadline(), Some(1500 * MS));
    rig.step(20 * MS);
    assert_eq!(rig.hand(), [], "the goodbye waits for the answer");
    rig.pong(1);
    assert_eq!(rig.transmit(), [goodbye()]);
    assert_eq!(rig.deadline(), Some(3 * S));
    rig.server_closes(1000);
    assert_eq!(rig.deadline(), Some(1020 * MS));
    rig.assert_nothing_happened();
    rig.lose();
    assert_eq!(rig.actions(), [HANG_UP, Stop]);
    assert_eq!(rig.told(), ["CLOSING -> CLOSED", "closed"]);
    assert!(matches!(rig.session.take_close_reason(), Some(CloseReason::ByCaller)));
    assert!(rig.session.take_close_reason().is_none(), "taken once");
    assert_eq!(rig.left(), (vec![], vec![]));
}

#[test]
fn without_an_answer_the_goodbye_comes_at_half_of_the_time() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    rig.close(true);
    rig.now += S;
    rig.transmit();
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    assert_eq!(rig.deadline(), Some(2 * S), "half of the 2 s that are left");
    rig.step(almost(S));
    rig.pong(77);
    assert_eq!(rig.hand(), [ping(2)], "that was not the answer");
    rig.step(MS);
    assert_eq!(rig.transmit(), [goodbye()]);
    rig.lose();
    assert_eq!(rig.left(), (vec![], vec![1]), "in doubt");
}

#[test]
fn nothing_is_asked_when_nothing_is_in_doubt() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    rig.transmit();
    rig.step(30 * S);
    rig.transmit();
    rig.pong(1);
    rig.close(true);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [goodbye()]);
}

#[test]
fn nothing_is_asked_where_beats_are_not_pings() {
    for heartbeat in [HeartbeatConfig::json(), HeartbeatConfig::off()] {
        let mut rig = Rig::opened(config().heartbeat(heartbeat));
        rig.accept(&["a"]);
        rig.close(true);
        assert_eq!(rig.transmit(), texts(["a"]));
        rig.session.handle_timeout(rig.now);
        assert_eq!(rig.transmit(), [goodbye()]);
        rig.lose();
        assert_eq!(rig.left(), (vec![], vec![1]));
    }
}

#[test]
fn a_ping_that_is_under_way_does_not_confirm_what_came_after_it() {
    let mut rig = Rig::opened(config());
    rig.step(30 * S);
    rig.accept(&["a"]);
    assert_eq!(rig.transmit(), [ping(1), text("a")]);
    rig.close(true);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(2)]);
    rig.pong(1);
    assert_eq!(rig.hand(), []);
    rig.pong(2);
    assert_eq!(rig.transmit(), [goodbye()]);
}

#[test]
fn a_close_without_flush_says_goodbye_ahead_of_the_outbox() {
    let mut rig = Rig::opened(config());
    rig.step(30 * S);
    rig.accept(&["a"]);
    rig.close(false);
    assert_eq!(rig.told(), ["CONNECTED -> CLOSING"]);
    assert_eq!(rig.transmit(), [goodbye()], "and ahead of the beat that was due");
    assert_eq!(rig.deadline(), Some(33 * S));
    rig.server_closes(1000);
    rig.lose();
    assert!(matches!(rig.closed(), CloseReason::ByCaller));
    assert_eq!(rig.left(), (vec!["a".into()], vec![]));
}

#[test]
fn nothing_follows_a_goodbye() {
    let mut rig = Rig::opened(config().close_timeout(100 * S));
    rig.close(false);
    assert_eq!(rig.transmit(), [goodbye()]);
    rig.accept(&["late"]);
    rig.session.handle_reconnect_now(rig.now);
    rig.step(60 * S);
    rig.close(true);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.hand(), [], "no beat, no message, no second close frame");
}

#[test]
fn a_close_ends_at_its_deadline_at_the_latest() {
    type Reach = fn(&mut Rig);
    let stages: [(&str, Reach); 4] = [
        ("flushing", |_| {}),
        ("blocked", |rig| {
            rig.hand();
            rig.take(1);
        }),
        ("asked", |rig| {
            rig.transmit();
            rig.session.handle_timeout(rig.now);
            rig.transmit();
        }),
        ("sent", |rig| {
            rig.transmit();
            rig.session.handle_timeout(rig.now);
            rig.transmit();
            rig.pong(1);
            rig.transmit();
        }),
    ];
    for (stage, reach) in stages {
        let mut rig = Rig::opened(config());
        rig.accept(&["a"]);
        rig.close(true);
        reach(&mut rig);
        rig.step(almost(3 * S));
        assert_eq!(rig.session.state(), ConnectionState::Closing, "{stage}");
        rig.step(MS);
        assert_eq!(rig.actions(), [HANG_UP, Stop], "{stage}");
        assert!(matches!(rig.closed(), CloseReason::ByCaller), "{stage}");
    }
}

#[test]
fn a_server_that_answers_and_keeps_tcp_open_is_left_after_a_second() {
    let mut rig = Rig::opened(config());
    rig.close(false);
    rig.transmit();
    rig.now += S;
    rig.server_closes(1000);
    rig.step(almost(S));
    assert_eq!(rig.session.state(), ConnectionState::Closing);
    rig.step(MS);
    assert!(matches!(rig.closed(), CloseReason::ByCaller));
}

#[test]
fn messages_that_arrive_while_closing_are_delivered() {
    let mut rig = Rig::opened(config());
    rig.close(true);
    rig.forget();
    rig.receive("late");
    assert!(!rig.session.delivers(), "and do not wait for room");
    assert_eq!((rig.told().len(), rig.session.stats().messages_received), (1, 1));
}

#[test]
fn a_second_close_makes_the_end_no_later() {
    let mut rig = Rig::opened(config());
    rig.close(true);
    rig.now += S;
    rig.close(false);
    rig.step(2 * S);
    assert!(matches!(rig.closed(), CloseReason::ByCaller));
}

#[test]
fn a_close_whose_caller_began_to_wait_earlier_ends_in_his_time() {
    for flush in [true, false] {
        let mut rig = Rig::opened(config());
        rig.close(flush);
        rig.session.close_by(rig.now + S);
        rig.session.close_by(rig.now + 10 * S);
        rig.step(S);
        assert!(matches!(rig.closed(), CloseReason::ByCaller));
    }
}

#[test]
fn a_server_that_closes_is_waited_for_and_named() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    rig.transmit();
    rig.accept(&["b"]);
    rig.server_closes(1001);
    assert_eq!((rig.told(), rig.actions()), (vec!["CONNECTED -> CLOSING".into()], vec![]));
    assert_eq!(rig.hand(), [], "the socket answers, and nothing may follow");
    rig.receive("late");
    rig.lose();
    let events = rig.events();
    assert_eq!(events.iter().map(brief).collect::<Vec<_>>(), ["CLOSING -> DISCONNECTED", "disconnected"]);
    let Event::Disconnected { reason: DisconnectReason::ClosedByServer(frame), maybe_delivered, .. } =
        &events[1]
    else {
        panic!("{events:?}")
    };
    assert_eq!((frame.code, numbers(maybe_delivered)), (1001, vec![1]));
    rig.open();
    assert_eq!(rig.transmit(), texts(["b"]));
}

#[test]
fn nothing_follows_the_goodbye_of_the_server() {
    let mut idle = Rig::opened(config());
    idle.step(30 * S);
    let mut asking = Rig::opened(config());
    asking.accept(&["a"]);
    asking.transmit();
    asking.close(true);
    asking.session.handle_timeout(asking.now);
    let mut leaving = Rig::opened(config());
    leaving.close(false);
    for mut rig in [idle, asking, leaving] {
        rig.server_closes(1001);
        assert_eq!(rig.hand(), [], "a beat or a close frame was still to be polled");
    }
}

#[test]
fn a_server_that_closes_and_keeps_tcp_open_is_left_after_a_second() {
    let mut rig = Rig::opened(config());
    rig.server_closes(1001);
    assert_eq!(rig.deadline(), Some(S));
    rig.step(almost(S));
    assert_eq!(rig.session.state(), ConnectionState::Closing);
    rig.step(MS);
    assert!(matches!(rig.disconnected().0, DisconnectReason::ClosedByServer(_)));
}

#[test]
fn a_short_close_timeout_shortens_the_wait_for_the_server() {
    let mut rig = Rig::opened(config().close_timeout(200 * MS));
    rig.server_closes(1001);
    assert_eq!(rig.deadline(), Some(200 * MS));
}

#[test]
fn a_line_that_stayed_up_until_the_server_closed_it_has_proved_itself() {
    let mut rig = Rig::opened(config());
    rig.lose();
    rig.open();
    rig.forget();
    rig.step(5 * S);
    rig.server_closes(1001);
    rig.lose();
    assert_eq!(rig.retry_in(), Some(S));
}

#[test]
fn a_server_that_closes_meanwhile_ends_the_flush() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    rig.close(true);
    rig.server_closes(1001);
    assert_eq!(rig.hand(), []);
    rig.lose();
    assert!(matches!(rig.closed(), CloseReason::ByCaller));
    assert_eq!(rig.left(), (vec!["a".into()], vec![]));
}

#[test]
fn a_caller_who_closes_while_the_server_does_ends_the_client() {
    let mut rig = Rig::opened(config());
    rig.server_closes(1001);
    rig.now += 100 * MS;
    rig.close(true);
    assert_eq!(rig.deadline(), Some(S), "no later than before");
    rig.lose();
    assert_eq!(rig.actions(), [HANG_UP, Stop]);
    assert!(matches!(rig.closed(), CloseReason::ByCaller));
}

#[test]
fn a_peer_that_breaks_the_protocol_is_told_so_and_lost() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    violate(&mut rig, 1007);
    assert_eq!(rig.told(), ["CONNECTED -> CLOSING"]);
    assert_eq!(rig.transmit(), [Frame::Close(CloseFrame::new(1007, ""))]);
    rig.receive("late");
    rig.lose();
    let (reason, retry_in, in_doubt) = rig.disconnected();
    let DisconnectReason::Lost(Error::Protocol { code: 1007, reason }) = reason else { panic!("{reason}") };
    assert_eq!((&*reason, retry_in, in_doubt), ("a reserved bit", Some(S), vec![]));
    rig.open();
    assert_eq!(rig.transmit(), texts(["a"]));
}

#[test]
fn a_peer_that_broke_the_protocol_is_left_after_a_second() {
    let mut rig = Rig::opened(config());
    violate(&mut rig, 1002);
    assert_eq!(rig.deadline(), Some(S));
    rig.step(S);
    let (reason, ..) = rig.disconnected();
    assert!(matches!(reason, DisconnectReason::Lost(Error::Protocol { code: 1002, .. })), "{reason}");
}

#[test]
fn a_peer_that_breaks_the_protocol_during_a_close_has_ended_it() {
    let mut rig = Rig::opened(config());
    rig.close(true);
    violate(&mut rig, 1002);
    assert!(matches!(rig.closed(), CloseReason::ByCaller));
    assert_eq!(rig.hand(), []);
}

#[test]
fn a_peer_that_dies_during_a_flush_ends_it() {
    let slow = config().close_timeout(100 * S);
    let mut rig = Rig::opened(slow.clone());
    rig.accept(&["a"]);
    rig.close(true);
    rig.transmit();
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    rig.step(10 * S);
    assert!(matches!(rig.closed(), CloseReason::ByCaller), "silent");
    assert_eq!(rig.left(), (vec![], vec![1]));

    let mut rig = Rig::opened(slow.heartbeat(HeartbeatConfig::off()));
    rig.accept(&["a", "b"]);
    rig.close(true);
    rig.hand();
    rig.take(1);
    rig.step(30 * S);
    assert!(matches!(rig.closed(), CloseReason::ByCaller), "stalled");
    assert_eq!(rig.left(), (vec!["b".into()], vec![1]));
}

#[test]
fn a_close_ends_an_attempt_or_a_wait_at_once() {
    for (state, mut rig, actions) in every_state() {
        if matches!(state, "new" | "dialling" | "timed out" | "waiting") {
            rig.close(true);
            assert_eq!(rig.actions(), actions, "{state}");
            assert!(matches!(rig.closed(), CloseReason::ByCaller), "{state}");
        }
    }
}

#[test]
fn a_caller_may_terminate_in_every_state() {
    for (state, mut rig, actions) in every_state() {
        rig.accept(&["a"]);
        rig.session.handle_terminate();
        assert_eq!(rig.actions(), actions, "{state}");
        let from = if state == "new" || state == "waiting" { "DISCONNECTED" } else { "C" };
        let told = rig.told();
        assert!(told[0].starts_with(from) && told[0].ends_with(" -> CLOSED"), "{state}: {told:?}");
        assert_eq!(told[1..], ["closed"], "{state}");
        assert_eq!(rig.left(), (vec!["a".into()], vec![]), "{state}");
        assert_eq!(rig.hand(), [], "{state}");
    }
}

#[test]
fn a_callback_that_panics_closes_the_client_in_every_state() {
    for (state, mut rig, actions) in every_state() {
        rig.session.handle_panic("on_event_ready");
        assert_eq!(rig.actions(), actions, "{state}");
        let reason = rig.closed();
        let CloseReason::Failed(Error::Panicked { callback }) = reason else { panic!("{state}: {reason:?}") };
        assert_eq!(callback, "on_event_ready");
    }
}

#[test]
fn closed_is_final() {
    for (state, mut rig, _) in every_state() {
        let plan = rig.plan;
        rig.session.handle_terminate();
        rig.forget();
        rig.session.start(rig.now);
        assert!(!rig.try_open(rig.generation), "{state}");
        rig.session.handle_dial_failed(rig.now, rig.generation, refused());
        if let Some(plan) = plan {
            rig.session.handle_retry(plan.at, plan.generation);
        }
        rig.session.handle_reconnect_now(rig.now);
        rig.accept(&["late"]);
        rig.receive("late");
        rig.pong(1);
        rig.session.handle_activity(rig.now, rig.id());
        rig.handed += FRAME;
        rig.report();
        rig.session.handle_paused(rig.now, true);
        rig.session.handle_paused(rig.now, false);
        rig.server_closes(1000);
        violate(&mut rig, 1002);
        rig.lose();
        rig.close(true);
        rig.close(false);
        rig.session.handle_terminate();
        rig.session.handle_panic("on_event_ready");
        rig.session.handle_clock(rig.now, SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33));
        assert_eq!(rig.deadline(), None, "{state}");
        rig.step(1000 * S);
        assert_eq!((rig.told(), rig.actions(), rig.hand()), (vec![], vec![], vec![]), "{state}");
        assert_eq!((rig.deadline(), rig.session.wants_outbox()), (None, false), "{state}");
        assert_eq!(rig.session.state(), ConnectionState::Closed, "{state}");
    }
}
