//! Heartbeats, and lines that are dead.

use super::*;
use crate::config::Beat;
use Action::Schedule;

/// The JSON beat at `unix` ms.
fn json(unix: u64) -> Frame {
    text(&format!(r#"{{"type":"ping","timestamp":{unix}}}"#))
}

fn json_beats() -> ConnectionConfig {
    config().heartbeat(HeartbeatConfig::json())
}

fn lost_to_silence(rig: &mut Rig) -> Option<Duration> {
    let events = rig.events();
    events.iter().find_map(|event| match event {
        Event::Disconnected {
            reason: DisconnectReason::Lost(Error::HeartbeatTimeout { silence }), ..
        } => Some(*silence),
        _ => None,
    })
}

#[test]
fn heartbeats_start_when_the_line_is_ready() {
    let mut rig = Rig::dialling(config().connect_timeout(100 * S));
    rig.step(60 * S);
    assert_eq!(rig.hand(), []);
    rig.fail(refused());
    assert_eq!(rig.deadline(), None);
    rig.open();
    let opened = rig.since_start();
    assert_eq!(rig.deadline(), Some(opened + 30 * S));
    rig.step(almost(30 * S));
    assert_eq!(rig.hand(), []);
    rig.step(MS);
    assert_eq!(rig.transmit(), [ping(1)]);
    rig.pong(1);
    rig.step(30 * S);
    assert_eq!(rig.transmit(), [ping(2)]);
    assert_eq!(rig.session.stats().heartbeats, 2);
}

#[test]
fn a_json_beat_carries_the_wall_clock() {
    let mut rig = Rig::opened(json_beats());
    rig.step(30 * S);
    assert_eq!(rig.transmit(), [text(r#"{"type":"ping","timestamp":1700000030123}"#)]);
    rig.receive(r#"{"type":"pong"}"#);
    rig.step(30 * S + MS);
    assert_eq!(rig.transmit(), [json(WALL_MS + 60_001)]);
}

#[test]
fn a_json_pong_is_not_delivered() {
    let mut rig = Rig::opened(json_beats());
    rig.step(30 * S);
    rig.transmit();
    rig.now += 7 * MS;
    rig.receive(r#"{"type":"pong"}"#);
    assert_eq!(rig.session.stats().round_trip, Some(7 * MS));
    rig.receive(r#" {"timestamp": 1, "type" : "pong"} "#);
    assert_eq!(rig.delivered(), Vec::<String>::new(), "asked for or not");
    assert_eq!(rig.session.stats().messages_received, 0);
}

#[test]
fn other_messages_with_the_word_pong_are_delivered() {
    let mut rig = Rig::opened(json_beats());
    let long = format!(r#"{{"type":"pong","padding":"{}"}}"#, "x".repeat(1024));
    let others = [
        r#"{"type":"message","text":"\"pong\""}"#,
        r#"{"kind":"pong"}"#,
        r#"{"type":{"type":"pong"}}"#,
        r#"{"type":"pong""#,
        r#"["pong"]"#,
        r#""pong""#,
        "pong",
        &long,
    ];
    for other in others {
        rig.receive(other);
    }
    assert_eq!(rig.delivered(), others);
    rig.receive(Message::from(br#"{"type":"pong"}"#));
    assert_eq!(rig.delivered().len(), 1, "a binary message is none of ours");
}

#[test]
fn a_json_pong_is_a_message_where_beats_are_pings() {
    let mut rig = Rig::opened(config());
    rig.receive(r#"{"type":"pong"}"#);
    assert_eq!(rig.delivered(), [r#"{"type":"pong"}"#]);
}

#[test]
fn a_silent_peer_is_lost_and_tried_again() {
    let mut rig = Rig::opened(config());
    rig.accept(&["1"]);
    rig.transmit();
    rig.step(30 * S);
    rig.transmit();
    assert_eq!(rig.deadline(), Some(40 * S));
    rig.step(almost(10 * S));
    rig.assert_nothing_happened();
    rig.step(MS);
    let actions = rig.actions();
    assert!(matches!(actions[..], [HANG_UP, Schedule(_)]), "{actions:?}");
    let (reason, retry_in, in_doubt) = rig.disconnected();
    let DisconnectReason::Lost(Error::HeartbeatTimeout { silence }) = reason else { panic!("{reason}") };
    assert_eq!((silence, retry_in, in_doubt), (10 * S, Some(S), vec![1]));
    assert_eq!(rig.deadline(), None);
}

#[test]
fn whatever_arrives_is_life() {
    let arrivals: [fn(&mut Rig); 4] = [
        |rig| rig.session.handle_activity(rig.now, rig.id()),
        |rig| rig.receive("hello"),
        |rig| rig.pong(1),
        // This is not the answer, so the peer is asked once more, and has its full time for that.
        |rig| rig.pong(77),
    ];
    for (n, (arrive, due)) in arrivals.iter().zip([60, 60, 60, 49]).enumerate() {
        let mut rig = Rig::opened(config());
        rig.step(30 * S);
        rig.transmit();
        rig.now += 9 * S;
        arrive(&mut rig);
        assert_eq!(rig.deadline(), Some(due * S), "arrival {n}");
        rig.step(S);
        assert_eq!(rig.session.state(), ConnectionState::Connected, "arrival {n}");
    }
}

#[test]
fn a_beat_is_judged_from_when_the_system_took_it() {
    let mut rig = Rig::opened(config());
    rig.accept(&["large"]);
    rig.hand();
    rig.step(almost(30 * S));
    rig.take(1);
    rig.step(MS);
    assert_eq!(rig.hand(), [ping(1)]);
    rig.step(9 * S);
    rig.take(u64::MAX - rig.taken);
    assert_eq!(rig.deadline(), Some(49 * S));
    rig.step(10 * S);
    assert_eq!(lost_to_silence(&mut rig), Some(10 * S));
}

#[test]
fn a_beat_that_waits_behind_a_blocked_write_is_not_counted_as_written() {
    let mut rig = Rig::opened(config());
    rig.accept(&["large"]);
    rig.hand();
    rig.take(1);
    rig.step(almost(30 * S));
    rig.take(1);
    rig.step(MS);
    // The socket itself hands over the answer to a server's ping, before the beat has been polled.
    rig.handed += FRAME;
    rig.report();
    rig.step(S);
    rig.take(u64::MAX - rig.taken);
    rig.step(5 * S);
    assert_eq!(rig.hand(), [ping(1)]);
    rig.take(u64::MAX - rig.taken);
    assert_eq!(rig.deadline(), Some(46 * S), "10 s from when it left");
}

#[test]
fn an_upload_that_moves_is_no_dead_peer() {
    let mut rig = Rig::opened(config());
    rig.accept(&["large"]);
    rig.hand();
    rig.handed += 1000;
    rig.report();
    for _ in 0..20 {
        rig.take(1);
        rig.step(6 * S);
        rig.hand();
    }
    assert_eq!(rig.session.state(), ConnectionState::Connected);
}

#[test]
fn a_peer_that_makes_room_lives_though_its_answer_stands_behind_what_it_has_to_read() {
    for strict in [false, true] {
        let mut rig = Rig::opened(config().heartbeat(HeartbeatConfig::default().strict(strict)));
        rig.step(30 * S);
        rig.transmit();
        rig.accept(&["large"]);
        rig.hand();
        rig.handed += 1000;
        rig.report();
        rig.take(1);
        for _ in 0..4 {
            rig.step(6 * S);
            rig.take(1);
        }
        let lives = rig.session.state() == ConnectionState::Connected;
        assert_eq!(lives, !strict, "strict: {strict}");
    }
}

#[test]
fn the_beats_of_a_lost_connection_do_not_judge_the_next() {
    let mut rig = Rig::opened(config());
    rig.step(30 * S);
    rig.transmit();
    rig.step(9 * S);
    rig.lose();
    rig.session.handle_reconnect_now(rig.now);
    rig.open();
    rig.forget();
    rig.step(2 * S);
    rig.assert_nothing_happened();
    assert_eq!(rig.deadline(), Some(69 * S));
}

#[test]
fn nobody_is_judged_while_reading_is_paused() {
    let mut rig = Rig::opened(config());
    rig.step(30 * S);
    rig.transmit();
    rig.session.handle_paused(rig.now, true);
    rig.step(29 * S);
    rig.session.handle_paused(rig.now, false);
    rig.assert_nothing_happened();
    assert_eq!(rig.deadline(), Some(60 * S));
}

#[test]
fn nobody_is_judged_by_what_was_not_read_for_want_of_room_until_it_is() {
    let mut rig = Rig::opened(config());
    rig.step(30 * S);
    rig.transmit();
    rig.now += 10 * S;
    rig.session.handle_timeout_unheard(rig.now);
    rig.assert_nothing_happened();
    assert_eq!(rig.deadline(), Some(40 * S), "it stays due");
    rig.session.handle_timeout(rig.now);
    assert_eq!(lost_to_silence(&mut rig), Some(10 * S));
}

#[test]
fn a_write_that_stalls_loses_the_line() {
    let mut rig = Rig::opened(without_beats());
    assert_eq!(rig.deadline(), None);
    rig.accept(&["1", "2"]);
    rig.hand();
    rig.now += S;
    rig.take(FRAME);
    assert_eq!(rig.deadline(), Some(31 * S));
    rig.now += 29 * S;
    rig.take(0);
    assert_eq!(rig.deadline(), Some(31 * S), "a report without progress is none");
    rig.take(1);
    assert_eq!(rig.deadline(), Some(60 * S));
    rig.step(almost(30 * S));
    rig.assert_nothing_happened();
    rig.step(MS);
    let actions = rig.actions();
    assert!(matches!(actions[..], [HANG_UP, Schedule(_)]), "{actions:?}");
    let (reason, retry_in, in_doubt) = rig.disconnected();
    let DisconnectReason::Lost(Error::WriteStalled { after }) = reason else { panic!("{reason}") };
    assert_eq!((after, retry_in, in_doubt), (30 * S, Some(S), vec![1, 2]));
}

#[test]
fn a_write_that_goes_through_is_not_late() {
    let mut rig = Rig::opened(without_beats());
    rig.accept(&["1"]);
    rig.hand();
    rig.take(1);
    assert_eq!(rig.deadline(), Some(30 * S));
    rig.take(FRAME);
    assert_eq!(rig.deadline(), None);
}

#[test]
fn a_wall_clock_that_ran_ahead_asks_the_peer_at_once() {
    let mut rig = Rig::opened(config());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(WALL_MS);
    rig.now += S;
    rig.session.handle_clock(rig.now, wall + 6 * S);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.hand(), [], "5 s ahead may be a correction");
    rig.session.handle_clock(rig.now, wall);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.hand(), [], "nor does one set back say that we slept");
    rig.session.handle_clock(rig.now, wall + 5 * S + MS);
    assert_eq!(rig.deadline(), Some(S));
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    assert_eq!(rig.session.state(), ConnectionState::Connected, "asked, not judged");
    assert_eq!(rig.deadline(), Some(11 * S));
    rig.step(10 * S);
    assert_eq!(lost_to_silence(&mut rig), Some(10 * S));
}

#[test]
fn a_wall_clock_that_jumps_while_the_line_is_down_asks_nobody() {
    let mut rig = Rig::waiting(config());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(WALL_MS);
    rig.session.handle_clock(rig.now, wall + 3600 * S);
    assert_eq!((rig.deadline(), rig.hand()), (None, vec![]));
}

#[test]
fn beats_follow_a_wall_clock_that_was_set() {
    let mut rig = Rig::opened(json_beats());
    let wall = SystemTime::UNIX_EPOCH + 5 * S;
    rig.session.handle_clock(rig.now, wall);
    rig.step(30 * S);
    assert_eq!(rig.transmit(), [json(35_000)]);
}

#[test]
fn a_caller_who_wants_no_waiting_has_an_open_line_asked_at_once() {
    let mut rig = Rig::opened(config());
    rig.step(S);
    rig.session.handle_reconnect_now(rig.now);
    assert_eq!(rig.deadline(), Some(S));
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    rig.assert_nothing_happened();
    assert_eq!(rig.deadline(), Some(11 * S), "judged by the answer to it");
}

#[test]
fn a_peer_that_is_being_asked_is_not_asked_anew() {
    let mut rig = Rig::opened(config());
    rig.step(30 * S);
    rig.transmit();
    rig.step(5 * S);
    rig.session.handle_reconnect_now(rig.now);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), []);
    rig.step(almost(5 * S));
    rig.assert_nothing_happened();
    rig.step(MS);
    assert_eq!(lost_to_silence(&mut rig), Some(10 * S));
}

#[test]
fn a_pong_gives_the_round_trip() {
    let mut rig = Rig::opened(config());
    rig.step(30 * S);
    rig.transmit();
    rig.now += 12 * MS;
    rig.pong(1);
    assert_eq!(rig.session.stats().round_trip, Some(12 * MS));
}

#[test]
fn without_heartbeats_an_idle_line_has_nothing_to_wake_for() {
    let mut rig = Rig::opened(config().heartbeat(HeartbeatConfig::default().beat(Beat::Off)));
    rig.step(10_000 * S);
    rig.session.handle_reconnect_now(rig.now);
    rig.session.handle_timeout(rig.now);
    assert_eq!((rig.deadline(), rig.hand()), (None, vec![]));
    rig.assert_nothing_happened();
}
