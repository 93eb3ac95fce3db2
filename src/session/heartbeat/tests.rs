#![expect(clippy::disallowed_methods, reason = "an Instant has no other source; the tests step from it")]

use super::*;
use HeartbeatAction::{Dead, Send};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Interval 30 s, timeout 10 s, started at the returned instant.
fn started(config: HeartbeatConfig) -> (HeartbeatManager, Instant) {
    let now = Instant::now();
    let mut heartbeat = HeartbeatManager::new(config).unwrap();
    heartbeat.start(now);
    (heartbeat, now)
}

fn ping(n: u64) -> HeartbeatAction {
    Send(HeartbeatFrame::Ping(n.to_be_bytes()))
}

/// Sends the beat that is due at `now`, and puts it on the wire.
fn beat(heartbeat: &mut HeartbeatManager, now: Instant) {
    assert!(matches!(heartbeat.handle_timeout(now), Some(Send(_))));
    heartbeat.handle_written(now, heartbeat.sent());
}

#[test]
fn a_beat_goes_out_every_interval_answered_or_not() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default().timeout(100 * S));
    assert_eq!(heartbeat.handle_timeout(t + 29 * S), None, "early is harmless");
    assert_eq!(heartbeat.handle_timeout(t + 30 * S), Some(ping(1)));
    assert_eq!(heartbeat.handle_timeout(t + 30 * S), None);
    assert_eq!(heartbeat.handle_timeout(t + 60 * S), Some(ping(2)));
    assert_eq!(heartbeat.next_deadline(), Some(t + 90 * S));
}

#[test]
fn a_beat_that_is_late_does_not_make_the_next_one_late() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default().timeout(10_000 * S));
    for n in 1..=100 {
        assert_eq!(heartbeat.handle_timeout(t + 30 * S * n + 3 * MS), Some(ping(n.into())));
    }
    assert_eq!(heartbeat.next_deadline(), Some(t + 101 * 30 * S));
    assert_eq!(heartbeat.handle_timeout(t + 102 * 30 * S + 3 * MS), Some(ping(101)), "slept, and probes");
    assert_eq!(heartbeat.next_deadline(), Some(t + 103 * 30 * S + 3 * MS), "from there");
}

#[test]
fn a_silent_peer_is_dead_a_timeout_after_the_beat_was_written() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    heartbeat.handle_timeout(t + 30 * S);
    heartbeat.handle_written(t + 31 * S, 1);
    assert_eq!(heartbeat.next_deadline(), Some(t + 41 * S));
    assert_eq!(heartbeat.handle_timeout(t + 40_999 * MS), None);
    assert_eq!(heartbeat.handle_timeout(t + 41 * S), Some(Dead { silence: 10 * S }));
    assert!(!heartbeat.is_running());
}

#[test]
fn any_byte_after_the_beat_is_life() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    beat(&mut heartbeat, t + 30 * S);
    heartbeat.handle_activity(t + 39 * S);
    assert_eq!(heartbeat.next_deadline(), Some(t + 60 * S));
    beat(&mut heartbeat, t + 60 * S);
    assert_eq!(heartbeat.handle_timeout(t + 70 * S), Some(Dead { silence: 10 * S }));
}

#[test]
fn life_before_the_beat_does_not_answer_it() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    heartbeat.handle_activity(t + 29 * S);
    beat(&mut heartbeat, t + 30 * S);
    assert_eq!(heartbeat.handle_timeout(t + 40 * S), Some(Dead { silence: 10 * S }));
}

#[test]
fn strict_demands_the_answer_itself() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default().strict(true));
    beat(&mut heartbeat, t + 30 * S);
    heartbeat.handle_activity(t + 35 * S);
    heartbeat.handle_response(t + 36 * S, HeartbeatResponse::Pong(b"other"));
    assert_eq!(heartbeat.handle_timeout(t + 40 * S), Some(Dead { silence: 10 * S }));
}

#[test]
fn the_answer_gives_the_round_trip_and_satisfies_strict() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default().strict(true));
    beat(&mut heartbeat, t + 30 * S);
    let answer = HeartbeatResponse::Pong(&[0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(heartbeat.handle_response(t + 30 * S + 7 * MS, answer), Some(7 * MS));
    assert_eq!(heartbeat.handle_response(t + 31 * S, answer), None, "once");
    assert_eq!(heartbeat.next_deadline(), Some(t + 60 * S));
}

#[test]
fn a_pong_answers_every_beat_up_to_its_own() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default().strict(true).timeout(100 * S));
    for n in 1..=3 {
        beat(&mut heartbeat, t + 30 * n * S);
    }
    assert_eq!(
        heartbeat.handle_response(t + 91 * S, HeartbeatResponse::Pong(&2u64.to_be_bytes())),
        Some(31 * S)
    );
    assert_eq!(heartbeat.handle_response(t + 91 * S, HeartbeatResponse::Pong(&1u64.to_be_bytes())), None);
    assert_eq!(
        heartbeat.handle_response(t + 92 * S, HeartbeatResponse::Pong(&3u64.to_be_bytes())),
        Some(2 * S)
    );
}

#[test]
fn an_unknown_or_forged_answer_confirms_nothing() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    beat(&mut heartbeat, t + 30 * S);
    for payload in [&b""[..], b"x", &[0; 8], &[0xFF; 8], &[0; 125]] {
        assert_eq!(heartbeat.handle_response(t + 31 * S, HeartbeatResponse::Pong(payload)), None);
    }
}

#[test]
fn a_json_answer_has_no_number_and_answers_the_oldest() {
    let (mut heartbeat, t) = started(HeartbeatConfig::json().timeout(100 * S));
    assert_eq!(heartbeat.handle_timeout(t + 30 * S), Some(Send(HeartbeatFrame::Json)));
    assert_eq!(heartbeat.handle_timeout(t + 60 * S), Some(Send(HeartbeatFrame::Json)));
    heartbeat.handle_written(t + 60 * S, 2);
    assert_eq!(heartbeat.handle_response(t + 61 * S, HeartbeatResponse::Json), Some(31 * S));
    assert_eq!(heartbeat.handle_response(t + 61 * S, HeartbeatResponse::Json), Some(S));
    assert_eq!(heartbeat.handle_response(t + 61 * S, HeartbeatResponse::Json), None);
}

#[test]
fn an_answer_before_the_beat_has_left_is_no_round_trip() {
    let (mut heartbeat, t) = started(HeartbeatConfig::json().strict(true));
    heartbeat.handle_timeout(t + 30 * S);
    assert_eq!(heartbeat.handle_response(t + 30 * S, HeartbeatResponse::Json), None);
    heartbeat.handle_written(t + 30 * S, 1);
    assert_eq!(heartbeat.next_deadline(), Some(t + 60 * S), "it is answered, and not judged");
}

#[test]
fn a_beat_that_cannot_leave_is_late_only_when_nothing_moves() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    heartbeat.handle_timeout(t + 30 * S);
    for s in 31..55 {
        heartbeat.handle_progress(t + s * S);
        assert_eq!(heartbeat.handle_timeout(t + s * S), None, "the upload progresses at {s} s");
    }
    assert_eq!(heartbeat.handle_timeout(t + 64 * S), Some(Dead { silence: 10 * S }));
}

#[test]
fn a_slow_consumer_does_not_look_like_a_dead_peer() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    beat(&mut heartbeat, t + 30 * S);
    heartbeat.handle_paused(t + 31 * S, true);
    assert_eq!(heartbeat.handle_timeout(t + 45 * S), None);
    beat(&mut heartbeat, t + 60 * S);
    heartbeat.handle_paused(t + 80 * S, false);
    assert_eq!(
        heartbeat.next_deadline(),
        Some(t + 90 * S),
        "what was written while paused is not held against it"
    );
    beat(&mut heartbeat, t + 90 * S);
    assert_eq!(heartbeat.handle_timeout(t + 100 * S), Some(Dead { silence: 10 * S }));
}

#[test]
fn who_overslept_asks_before_it_judges() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    beat(&mut heartbeat, t + 30 * S);
    assert_eq!(heartbeat.handle_timeout(t + 46 * S), Some(ping(2)), "due at 40 s, asked at 46 s");
    heartbeat.handle_written(t + 46 * S, 2);
    assert_eq!(heartbeat.handle_timeout(t + 56 * S), Some(Dead { silence: 10 * S }));
}

#[test]
fn a_probe_goes_out_at_once() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    heartbeat.probe(t + S);
    assert_eq!(heartbeat.handle_timeout(t + S), Some(ping(1)));
    assert_eq!(heartbeat.next_deadline(), Some(t + 11 * S), "judged though the system has not taken it yet");
}

#[test]
fn probing_again_and_again_does_not_put_the_verdict_off() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    for s in 1..11 {
        heartbeat.probe(t + s * S);
        if heartbeat.handle_timeout(t + s * S).is_some() {
            heartbeat.handle_written(t + s * S, heartbeat.sent());
        }
    }
    assert_eq!(heartbeat.handle_timeout(t + 11 * S), Some(Dead { silence: 10 * S }));
}

#[test]
fn an_answer_that_arrives_late_does_not_touch_the_next_connection() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default().strict(true));
    beat(&mut heartbeat, t + 30 * S);
    heartbeat.stop();
    assert_eq!((heartbeat.is_running(), heartbeat.next_deadline()), (false, None));
    heartbeat.start(t + 35 * S);
    assert_eq!(heartbeat.handle_response(t + 36 * S, HeartbeatResponse::Pong(&1u64.to_be_bytes())), None);
    assert_eq!(heartbeat.handle_timeout(t + 40 * S), None, "the old timeout died with its connection");
    assert_eq!(heartbeat.handle_timeout(t + 65 * S), Some(ping(2)));
}

#[test]
fn off_never_beats() {
    let (mut heartbeat, t) = started(HeartbeatConfig::off());
    assert_eq!((heartbeat.next_deadline(), heartbeat.handle_timeout(t + 1000 * S)), (None, None));
}

#[test]
fn a_stop_ends_the_beats_and_the_verdict_that_was_on_its_way() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default().strict(true));
    beat(&mut heartbeat, t + 30 * S);
    heartbeat.stop_beats();
    assert!(heartbeat.is_running(), "it may still ask for a confirmation");
    assert_eq!(heartbeat.next_deadline(), None);
    assert_eq!(heartbeat.handle_timeout(t + 1000 * S), None);
    // What happens meanwhile starts nothing.
    heartbeat.probe(t + 1001 * S);
    heartbeat.handle_sleep(t + 1002 * S);
    heartbeat.handle_paused(t + 1003 * S, true);
    heartbeat.handle_paused(t + 1004 * S, false);
    assert_eq!((heartbeat.next_deadline(), heartbeat.handle_timeout(t + 2000 * S)), (None, None));
}

#[test]
fn a_ping_that_asks_for_a_confirmation_is_not_judged_after_a_stop_nor_after_the_next_start() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default().strict(true));
    heartbeat.stop_beats();
    assert_eq!(heartbeat.beat(t + S), HeartbeatFrame::Ping(1_u64.to_be_bytes()));
    heartbeat.handle_written(t + S, 1);
    assert_eq!(heartbeat.next_deadline(), None);
    let answer = HeartbeatResponse::Pong(&[0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(heartbeat.handle_response(t + 2 * S, answer), Some(S), "it measures the round trip");
    heartbeat.beat(t + 3 * S);
    heartbeat.handle_written(t + 3 * S, 2);
    heartbeat.set_beats(t + 100 * S, 5 * S, 20 * S);
    assert_eq!(heartbeat.next_deadline(), Some(t + 105 * S), "the first, and no verdict before it");
    beat(&mut heartbeat, t + 105 * S);
    assert_eq!(heartbeat.handle_timeout(t + 115 * S), Some(Dead { silence: 10 * S }));
}

#[test]
fn a_stop_before_the_start_keeps_it_silent_and_ends_with_the_connection() {
    let now = Instant::now();
    let mut heartbeat = HeartbeatManager::new(HeartbeatConfig::default()).unwrap();
    heartbeat.stop_beats();
    heartbeat.start(now);
    assert_eq!(heartbeat.next_deadline(), None);
    heartbeat.set_beats(now + S, S, 2 * S);
    assert_eq!(heartbeat.handle_timeout(now + 2 * S), Some(ping(1)));
    assert_eq!(heartbeat.next_deadline(), Some(now + 4 * S));
    heartbeat.stop_beats();
    heartbeat.stop();
    heartbeat.start(now);
    assert_eq!(heartbeat.next_deadline(), Some(now + 30 * S), "as configured");
}

#[test]
fn off_stays_off_whatever_a_protocol_asks_for() {
    let (mut heartbeat, t) = started(HeartbeatConfig::off());
    heartbeat.set_beats(t, S, S);
    assert_eq!((heartbeat.next_deadline(), heartbeat.handle_timeout(t + 1000 * S)), (None, None));
    heartbeat.stop_beats();
    heartbeat.set_beats(t, S, S);
    assert_eq!(heartbeat.next_deadline(), None);
}

#[test]
fn setting_the_beats_again_does_not_put_the_verdict_off() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    beat(&mut heartbeat, t + 30 * S);
    heartbeat.set_beats(t + 35 * S, 50 * S, 50 * S);
    assert_eq!(heartbeat.handle_timeout(t + 40 * S), Some(Dead { silence: 10 * S }));
}

#[test]
fn a_peer_that_never_answers_but_talks_costs_no_memory() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default());
    for n in 1..=10_000 {
        beat(&mut heartbeat, t + 30 * n * S);
        heartbeat.handle_activity(t + 30 * n * S + S);
    }
    assert!(heartbeat.running.unwrap().beats.len() <= 32);
}

#[test]
fn a_peer_that_falls_silent_is_judged_by_its_first_silence_however_many_beats_follow() {
    let (mut heartbeat, t) = started(HeartbeatConfig::default().interval(S).timeout(100 * S));
    for n in 1..=40 {
        beat(&mut heartbeat, t + n * S);
        heartbeat.handle_activity(t + n * S + MS);
    }
    for n in 41..=140 {
        beat(&mut heartbeat, t + n * S);
    }
    assert_eq!(heartbeat.handle_timeout(t + 141 * S), Some(Dead { silence: 100 * S }));
}

#[test]
fn answers_to_many_beats_under_way_keep_a_strict_judge_content_and_measure_the_round_trip() {
    for kind in [Beat::WebSocketPing, Beat::Json] {
        let config = HeartbeatConfig::default().beat(kind).interval(S).timeout(101 * S).strict(true);
        let (mut heartbeat, t) = started(config);
        let mut measured = 0;
        for n in 1..=1_000_u32 {
            beat(&mut heartbeat, t + n * S);
            if let Some(answered) = n.checked_sub(100).filter(|answered| *answered > 0) {
                let counter = u64::from(answered).to_be_bytes();
                let response = if kind == Beat::Json {
                    HeartbeatResponse::Json
                } else {
                    HeartbeatResponse::Pong(&counter)
                };
                let round_trip = heartbeat.handle_response(t + n * S, response);
                assert!(round_trip.is_none_or(|time| time == 100 * S), "{round_trip:?} of #{answered}");
                measured += u32::from(round_trip.is_some());
            }
        }
        assert!(measured >= 100, "measured {measured} times");
        let silent = (1_001..1_020).find_map(|n| match heartbeat.handle_timeout(t + n * S) {
            Some(Dead { silence }) => Some((n, silence)),
            _ => None,
        });
        assert!(silent.is_some(), "{kind:?}");
    }
}
