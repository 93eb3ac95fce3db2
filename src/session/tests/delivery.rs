//! The fate of messages, in both directions.

use super::*;
use crate::config::{Delivery, Inbound};
use crate::error::Fault;
use crate::session::released::Released;

#[test]
fn messages_wait_until_the_line_is_ready_and_go_out_in_order() {
    let mut rig = Rig::dialling(config());
    rig.accept(&["a", "b"]);
    assert!(!rig.session.wants_outbox());
    assert_eq!(rig.hand(), [], "not while dialling");
    rig.fail(refused());
    rig.accept(&["c"]);
    assert_eq!(rig.hand(), [], "not while waiting");
    rig.open();
    rig.accept(&["d"]);
    assert!(rig.session.wants_outbox());
    assert_eq!(rig.transmit(), texts(["a", "b", "c", "d"]));
    assert_eq!(rig.hand(), []);
    assert_eq!(rig.session.stats().messages_written, 4);
}

#[test]
fn room_becomes_free_when_the_system_has_taken_a_message() {
    let mut rig = Rig::opened(config());
    rig.accept(&["abc", "de"]);
    rig.hand();
    assert_eq!(rig.session.take_released(), Released::default(), "handed over is not written");
    rig.take(FRAME);
    assert_eq!(rig.session.take_released(), Released { messages: 1, bytes: 3 });
    rig.take(FRAME - 1);
    assert_eq!(rig.session.take_released(), Released::default());
    rig.take(1);
    assert_eq!(rig.session.take_released(), Released { messages: 1, bytes: 2 });
}

#[test]
fn a_loss_names_exactly_what_was_touched_and_the_rest_goes_out_first() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1", "2", "3", "4", "5", "6"]);
    for _ in 0..5 {
        rig.session.poll_transmit(rig.now, rig.id()).unwrap();
        rig.handed += FRAME;
        rig.report();
    }
    rig.take(2 * FRAME + 1);
    rig.lose();
    let in_doubt = rig.in_doubt();
    assert_eq!(in_doubt, [1, 2, 3], "two went out, the third in part");
    rig.accept(&["7"]);
    assert_eq!(rig.hand(), []);
    rig.open();
    rig.accept(&["8"]);
    assert_eq!(rig.transmit(), texts(["4", "5", "6", "7", "8"]));
    rig.events();
    rig.lose();
    let in_doubt = rig.in_doubt();
    assert_eq!(in_doubt, [4, 5, 6, 7, 8], "the old ones are not named again");
}

#[test]
fn a_message_that_never_reached_the_socket_is_in_no_doubt() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1"]);
    assert_eq!(rig.session.poll_transmit(rig.now, rig.id()), Some(text("1")));
    rig.lose();
    assert!(rig.in_doubt().is_empty());
    rig.open();
    assert_eq!(rig.transmit(), texts(["1"]));
}

#[test]
fn a_pong_confirms_what_was_handed_over_before_its_ping_and_nothing_else() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1", "2"]);
    rig.transmit();
    rig.step(30 * S);
    rig.accept(&["3"]);
    assert_eq!(rig.transmit(), [ping(1), text("3")]);
    rig.pong(1);
    rig.lose();
    assert_eq!(rig.in_doubt(), [3]);
}

#[test]
fn a_pong_confirms_nothing_that_was_not_written() {
    let mut rig = Rig::opened(config().write_timeout(60 * S));
    rig.accept(&["1", "2"]);
    rig.hand();
    rig.step(30 * S);
    rig.hand();
    rig.take(FRAME);
    rig.pong(1);
    rig.take(FRAME);
    rig.lose();
    assert_eq!(rig.in_doubt(), [2], "a peer that answers before it was asked");
}

#[test]
fn a_later_pong_speaks_for_the_earlier_pings() {
    let mut rig = Rig::opened(config());
    for n in 1..=3 {
        rig.accept(&["x"]);
        rig.transmit();
        rig.step(30 * S);
        assert_eq!(rig.transmit(), [ping(n)]);
        rig.session.handle_activity(rig.now, rig.id());
    }
    rig.pong(2);
    rig.pong(1);
    rig.lose();
    assert_eq!(rig.in_doubt(), [3]);
}

#[test]
fn a_forged_pong_confirms_nothing() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1"]);
    rig.transmit();
    rig.step(30 * S);
    rig.transmit();
    for payload in [&b""[..], b"1", &[0; 8], &9u64.to_be_bytes(), &[0xFF; 8], &[0; 125]] {
        rig.session.handle_pong(rig.now, rig.id(), payload);
    }
    rig.lose();
    assert_eq!(rig.in_doubt(), [1]);
}

#[test]
fn a_pong_of_the_old_connection_confirms_nothing_on_the_new_one() {
    let mut rig = Rig::opened(config().write_timeout(60 * S));
    rig.accept(&["1"]);
    rig.hand();
    rig.step(30 * S);
    assert_eq!(rig.hand(), [ping(1)]);
    rig.lose();
    rig.open();
    assert_eq!(rig.transmit(), texts(["1"]));
    rig.forget();
    rig.pong(1);
    assert_eq!(rig.session.stats().round_trip, None);
    rig.lose();
    assert_eq!(rig.in_doubt(), [1]);
}

#[test]
fn what_is_confirmed_stays_so_when_the_line_is_lost() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1"]);
    rig.transmit();
    rig.step(30 * S);
    rig.transmit();
    rig.pong(1);
    rig.lose();
    assert!(rig.in_doubt().is_empty());
    rig.session.handle_terminate();
    assert_eq!(rig.left(), (vec![], vec![]));
}

#[test]
fn a_beat_goes_out_ahead_of_the_outbox() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1"]);
    rig.step(30 * S);
    rig.accept(&["2"]);
    assert_eq!(rig.hand(), [ping(1), text("1"), text("2")]);
}

#[test]
fn a_beat_that_was_not_sent_dies_with_its_connection() {
    let mut rig = Rig::opened(config());
    rig.step(30 * S);
    rig.lose();
    rig.open();
    rig.accept(&["1"]);
    assert_eq!(rig.hand(), [text("1")]);
}

#[test]
fn a_beat_ahead_of_a_message_that_waits_again_says_nothing_about_it() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1"]);
    rig.hand();
    rig.lose();
    rig.open();
    rig.forget();
    rig.step(30 * S);
    assert_eq!(rig.session.poll_transmit(rig.now, rig.id()), Some(ping(1)));
    rig.handed += FRAME;
    rig.report();
    rig.take(FRAME);
    rig.pong(1);
    assert_eq!(rig.session.stats().messages_written, 0);
    rig.session.handle_terminate();
    assert_eq!(rig.left(), (vec!["1".into()], vec![]));
}

#[test]
fn a_json_beat_has_no_ticket() {
    let mut rig = Rig::opened(config().heartbeat(HeartbeatConfig::json()));
    rig.step(30 * S);
    assert_eq!(rig.transmit().len(), 1);
    let stats = rig.session.stats();
    assert_eq!((stats.heartbeats, stats.messages_written), (1, 0));
    rig.lose();
    assert!(rig.in_doubt().is_empty());
}

#[test]
fn progress_that_is_reported_after_the_loss_changes_nothing() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1"]);
    rig.hand();
    rig.take(0);
    rig.lose();
    assert_eq!(rig.deadline(), None);
    rig.report();
    rig.report();
    assert_eq!(rig.deadline(), None, "what a lost connection could not write is not late");
    rig.forget();
    rig.step(60 * S);
    rig.assert_nothing_happened();
    rig.open();
    assert_eq!(rig.transmit(), texts(["1"]));
}

#[test]
fn what_is_left_is_told_in_order() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1", "2", "3"]);
    rig.hand();
    rig.take(FRAME + 1);
    rig.accept(&["4"]);
    rig.session.handle_terminate();
    assert_eq!(rig.left(), (vec!["3".into(), "4".into()], vec![1, 2]));
}

#[test]
fn what_is_left_after_a_loss_has_no_doubt_that_was_told_before() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1", "2"]);
    rig.hand();
    rig.take(FRAME);
    rig.lose();
    rig.accept(&["3"]);
    assert_eq!(rig.in_doubt(), [1]);
    rig.session.handle_terminate();
    assert_eq!(rig.left(), (vec!["2".into(), "3".into()], vec![]));
}

#[test]
fn a_loss_that_closes_tells_the_doubt_in_both_places() {
    let mut rig = Rig::opened(config().reconnect(ReconnectConfig::never()));
    rig.accept(&["1", "2"]);
    rig.transmit();
    rig.lose();
    assert_eq!(rig.in_doubt(), [1, 2]);
    assert_eq!(rig.left(), (vec![], vec![1, 2]));
}

#[test]
fn at_least_once_a_request_in_doubt_is_left_among_the_messages_in_order() {
    let mut rig = Rig::opened(config().delivery(Delivery::AtLeastOnce));
    rig.accept(&["1"]);
    rig.session.handle_request(2, "2".into(), false);
    rig.last_ticket = 2;
    rig.accept(&["3"]);
    rig.session.handle_request(4, "4".into(), false);
    rig.session.handle_withdrawn(rig.now, 4);
    rig.session.handle_request(5, "5".into(), false);
    rig.transmit();
    // The caller has given up, but the request went out.
    rig.session.handle_withdrawn(rig.now, 5);
    rig.session.handle_terminate();
    assert_eq!(rig.left(), (vec![], vec![1, 2, 3, 5]));
    let doubts = rig.session.take_lost();
    let doubts: Vec<_> = doubts.iter().map(|doubt| numbers(&doubt.tickets)).collect();
    assert_eq!(doubts, [[2, 5], [1, 3]], "all that is left in doubt is told to who waits");
}

#[test]
fn a_message_that_is_accepted_at_the_last_moment_is_counted_as_left() {
    let mut rig = Rig::opened(config());
    rig.session.handle_terminate();
    rig.accept(&["1"]);
    assert_eq!(rig.hand(), []);
    assert_eq!(rig.left(), (vec!["1".into()], vec![]));
}

#[test]
fn messages_are_delivered_in_order() {
    let mut rig = Rig::opened(config());
    rig.receive("a");
    rig.receive([1, 2]);
    rig.receive("c");
    assert!(rig.session.delivers());
    assert_eq!(rig.delivered(), ["a", "<2 bytes>", "c"]);
    assert_eq!(rig.session.stats().messages_received, 3);
}

#[test]
fn discarded_messages_are_counted_and_not_delivered() {
    let mut rig = Rig::opened(config().inbound(Inbound::Discard));
    rig.receive("a");
    assert_eq!((rig.delivered(), rig.session.stats().messages_received), (vec![], 1));
}

#[test]
fn what_arrives_on_a_line_that_is_down_is_dropped() {
    let mut rig = Rig::opened(config());
    rig.lose();
    rig.forget();
    rig.receive("late");
    rig.pong(1);
    rig.server_closes(1000);
    rig.session.handle_fault(rig.now, rig.id(), Fault::Violation { code: 1002, reason: "late".into() });
    rig.lose();
    rig.assert_nothing_happened();
    assert_eq!(rig.session.stats().messages_received, 0);
}

#[test]
fn a_message_that_waited_too_long_is_told_and_never_sent() {
    let mut rig = Rig::waiting(config().max_age(S / 2));
    rig.accept(&["a", "b"]);
    rig.step(100 * MS);
    rig.accept(&["c"]);
    assert_eq!(rig.deadline(), Some(500 * MS));
    rig.step(400 * MS);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.told(), ["expired #1 to #2"]);
    assert_eq!(rig.session.take_released(), Released { messages: 2, bytes: 2 }, "there is room again");
    assert_eq!(rig.session.stats().messages_expired, 2);
    assert_eq!(rig.deadline(), Some(600 * MS));
    rig.open();
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), texts([]), "the attempt came a second after the first");
    rig.accept(&["d"]);
    assert_eq!(rig.transmit(), texts(["d"]));
}

#[test]
fn what_is_left_at_the_end_does_not_grow_old() {
    let mut rig = Rig::waiting(config().max_age(S));
    rig.accept(&["a"]);
    rig.session.handle_terminate();
    rig.step(2 * S);
    rig.session.handle_timeout(rig.now);
    assert!(matches!(rig.closed(), CloseReason::ByCaller), "the last event");
    assert_eq!(rig.left(), (vec!["a".to_owned()], vec![]));
}
