#![expect(clippy::disallowed_methods, reason = "an Instant has no other source; the tests step from it")]

use super::*;
use crate::session::ledger::Progress;

const S: Duration = Duration::from_secs(1);

/// A login may take 3 s, and a close 2 s.
fn config() -> ConnectionConfig {
    ConnectionConfig::new("ws://test.example").login_timeout(3 * S).close_timeout(2 * S)
}

fn connection(stage: Stage) -> Connection {
    let handshake = Arc::new(Handshake::new(Some(([192, 0, 2, 1], 80).into()), None));
    Connection::new(ConnectionId(1), handshake, stage, &config(), 100, false)
}

fn logging_in(until: Instant) -> Stage {
    Stage::LoggingIn { until }
}

#[test]
fn a_login_and_an_end_are_judged_by_what_the_server_says_and_not_while_reading_is_paused() {
    let until = Instant::now() + S;
    for stage in [logging_in(until), Stage::Leaving { until, heard: true }] {
        let connection = connection(stage);
        assert_eq!(connection.next_judgement(false, S), Some(until), "{connection:?}");
        assert_eq!(connection.next_judgement(true, S), None, "{connection:?}");
    }
    assert_eq!(connection(Stage::Ready).next_judgement(false, S), None);
}

#[test]
fn a_server_that_takes_nothing_is_judged_also_while_reading_is_paused() {
    let now = Instant::now();
    let mut connection = connection(logging_in(now + 5 * S));
    connection.ledger.progress(now, Progress { handed: 200, taken: 100, blocked: true });
    assert_eq!([true, false].map(|paused| connection.next_judgement(paused, S)), [Some(now + S); 2]);
    assert_eq!(connection.next_judgement(true, 9 * S), Some(now + 9 * S));
    assert_eq!(connection.next_judgement(false, 9 * S), Some(now + 5 * S), "whichever comes first");
}

#[test]
fn when_reading_goes_on_there_is_all_the_time_again() {
    let now = Instant::now();
    let after_a_pause = |stage| {
        let mut connection = connection(stage);
        connection.set_paused(now, true, &config());
        connection.set_paused(now + 9 * S, false, &config());
        connection.next_judgement(false, S)
    };
    assert_eq!(after_a_pause(logging_in(now + S)), Some(now + 12 * S));
    assert_eq!(after_a_pause(Stage::Leaving { until: now + S, heard: true }), Some(now + 11 * S));
}

#[test]
fn a_timer_that_runs_during_a_pause_knows_it() {
    let now = Instant::now();
    let mut connection = connection(Stage::Ready);
    connection.timers.set(now, 1, S, false);
    connection.set_paused(now, true, &config());
    connection.set_paused(now, false, &config());
    connection.timers.set(now, 2, S, false);
    assert_eq!([1, 2].map(|id| connection.timers.take_due(now + S, id)), [Some(true), Some(false)]);
}

#[test]
fn what_arrives_is_wanted_until_the_line_is_done_with_the_connection() {
    let until = Instant::now();
    let accepts = |stage| connection(stage).accepts_input();
    assert!(accepts(logging_in(until)) && accepts(Stage::Ready));
    assert!(accepts(Stage::Leaving { until, heard: true }));
    assert!(!accepts(Stage::Leaving { until, heard: false }));
}
