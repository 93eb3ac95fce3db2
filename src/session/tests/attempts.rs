//! From the first attempt to an open line, and back to one after a loss.

use super::*;
use Action::{AbandonDial, Dial, Schedule, Stop, TimeOutDial, Unschedule};

#[test]
fn the_first_attempt_leads_to_an_open_line_in_order() {
    let mut rig = Rig::new(config(), false);
    assert_eq!(rig.session.state(), ConnectionState::Disconnected);
    assert_eq!((rig.actions(), rig.deadline()), (vec![], None), "nothing happens before the start");
    rig.session.start(rig.now);
    assert!(matches!(rig.actions()[..], [Dial { generation: 1, .. }]));
    assert_eq!(rig.told(), ["DISCONNECTED -> CONNECTING"]);
    rig.open();
    assert_eq!(rig.session.state(), ConnectionState::Connected);
    let events = rig.events();
    assert_eq!(
        events.iter().map(brief).collect::<Vec<_>>(),
        ["CONNECTING -> CONNECTED", "connected, attempt 1"]
    );
    assert!(matches!(
        &events[1],
        Event::Connected { handshake, .. }
            if handshake.address == Some(address()) && handshake.subprotocol.as_deref() == Some("chat")
    ));
    assert_eq!(rig.actions(), []);
}

#[test]
fn a_start_makes_no_second_attempt() {
    let mut rig = Rig::dialling(config());
    rig.session.start(rig.now);
    assert_eq!(rig.actions(), []);
    rig.fail(refused());
    rig.actions();
    rig.session.start(rig.now);
    assert_eq!(rig.actions(), [], "the plan stands");
}

#[test]
fn a_setting_that_cannot_be_used_is_named() {
    let new = |config| {
        Session::new(config, None, Startup::default(), (Instant::now(), SystemTime::UNIX_EPOCH)).err()
    };
    let backoff = new(config().reconnect(reconnect().multiplier(0.5)));
    assert!(matches!(backoff, Some(Error::InvalidConfig { setting: "reconnect.multiplier", .. })));
    let heartbeat = new(config().heartbeat(HeartbeatConfig::default().interval(Duration::ZERO)));
    assert!(matches!(heartbeat, Some(Error::InvalidConfig { setting: "heartbeat.interval", .. })));
}

#[test]
fn a_late_result_of_an_old_attempt_is_not_wanted() {
    let mut rig = Rig::dialling(config());
    rig.fail(refused());
    rig.redial();
    rig.forget();
    assert_eq!(rig.generation, 2);
    assert!(!rig.try_open(1));
    rig.session.handle_dial_failed(rig.now, 1, refused());
    rig.assert_nothing_happened();
    assert_eq!(rig.session.state(), ConnectionState::Connecting);
    assert!(rig.try_open(2));
    rig.forget();
    assert!(!rig.try_open(2), "a second result of the same attempt");
    rig.session.handle_dial_failed(rig.now, 2, refused());
    rig.assert_nothing_happened();
}

#[test]
fn a_result_that_comes_during_the_backoff_is_not_wanted() {
    let mut rig = Rig::waiting(config());
    assert!(!rig.try_open(1));
    rig.session.handle_dial_failed(rig.now, 1, refused());
    rig.assert_nothing_happened();
}

#[test]
fn a_client_that_connects_is_closed_by_its_first_failure() {
    let mut rig = Rig::new(config(), true);
    rig.session.start(rig.now);
    rig.forget();
    rig.fail(refused());
    assert_eq!(rig.actions(), [AbandonDial, Stop]);
    let events = rig.events();
    assert_eq!(
        events.iter().map(brief).collect::<Vec<_>>(),
        ["CONNECTING -> CLOSED", "disconnected", "closed"]
    );
    let cause = DisconnectReason::ConnectFailed(refused()).to_string();
    let Event::Disconnected { reason, retry_in: None, .. } = &events[1] else { panic!("{events:?}") };
    assert_eq!(reason.to_string(), cause);
    let Event::Closed { reason: CloseReason::NotRetried(reason) } = &events[2] else { panic!("{events:?}") };
    assert_eq!(reason.to_string(), cause);
    assert!(matches!(
        rig.session.take_close_reason(),
        Some(CloseReason::NotRetried(DisconnectReason::ConnectFailed(Error::Connect { .. })))
    ));
}

#[test]
fn once_it_was_ready_a_client_that_connected_retries_like_any_other() {
    let mut rig = Rig::new(config(), true);
    rig.session.start(rig.now);
    rig.open();
    rig.forget();
    rig.lose();
    assert_eq!(rig.retry_in(), Some(S));
    rig.forget();
    rig.fail(refused());
    assert_eq!(rig.retry_in(), Some(2 * S));
}

#[test]
fn a_failed_attempt_is_made_again_after_the_backoff() {
    let mut rig = Rig::dialling(config());
    rig.step(3 * S);
    rig.fail(refused());
    let actions = rig.actions();
    let [Schedule(plan)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((plan.attempt, plan.delay, plan.at), (1, S, rig.now + S));
    let events = rig.events();
    assert_eq!(events.iter().map(brief).collect::<Vec<_>>(), ["CONNECTING -> DISCONNECTED", "disconnected"]);
    let Event::Disconnected { reason: DisconnectReason::ConnectFailed(error), retry_in, .. } = &events[1]
    else {
        panic!("{events:?}")
    };
    assert!(matches!(error, Error::Connect { .. }));
    assert_eq!(*retry_in, Some(S));
    assert_eq!(rig.deadline(), None, "the timer waits, not the I/O thread");
    rig.step(S);
    assert_eq!(rig.actions(), [], "nor does it dial by itself");

    rig.session.handle_retry(rig.now, plan.generation + 1);
    rig.session.handle_retry(rig.now, plan.generation - 1);
    assert_eq!(rig.actions(), [], "another plan's time");
    rig.session.handle_retry(rig.now, plan.generation);
    assert!(matches!(rig.actions()[..], [Dial { generation: 2, .. }]));
    assert_eq!(rig.told(), ["DISCONNECTED -> CONNECTING"]);
    rig.session.handle_retry(rig.now, plan.generation);
    rig.assert_nothing_happened();
}

#[test]
fn delays_grow_with_each_failure() {
    let mut rig = Rig::dialling(config());
    let delays = [1, 2, 4, 8, 16, 30, 30].map(|s| Some(s * S));
    for delay in delays {
        rig.forget();
        rig.fail(refused());
        let retry_in = rig.retry_in();
        assert_eq!(retry_in, delay);
    }
}

#[test]
fn attempts_are_counted_from_the_last_time_the_line_was_ready() {
    let mut rig = Rig::dialling(config());
    rig.fail(refused());
    rig.fail(refused());
    rig.redial();
    rig.forget();
    rig.open();
    assert_eq!(rig.told(), ["CONNECTING -> CONNECTED", "connected, attempt 3"]);
    rig.lose();
    rig.redial();
    rig.forget();
    rig.open();
    assert_eq!(rig.told(), ["CONNECTING -> CONNECTED", "connected, attempt 1"]);
    let stats = rig.session.stats();
    assert_eq!((stats.attempts, stats.connects, stats.disconnects), (4, 2, 1));
}

#[test]
fn attempts_end_at_the_maximum_with_the_last_cause() {
    let mut rig = Rig::dialling(config().reconnect(reconnect().max_attempts(2)));
    rig.fail(refused());
    rig.fail(unresolved());
    rig.redial();
    rig.forget();
    rig.fail(timed_out());
    assert_eq!(rig.actions(), [AbandonDial, Stop]);
    let (reason, retry_in, _) = rig.disconnected();
    assert!(matches!(reason, DisconnectReason::ConnectFailed(Error::ConnectTimeout { .. })), "{reason}");
    assert_eq!(retry_in, None);
    let reason = rig.session.take_close_reason();
    let Some(CloseReason::GaveUp { attempts: 2, last }) = reason else { panic!("{reason:?}") };
    assert!(matches!(last, DisconnectReason::ConnectFailed(Error::ConnectTimeout { .. })), "{last}");
    assert_eq!(rig.session.state(), ConnectionState::Closed);
}

#[test]
fn a_client_that_never_reconnects_is_closed_by_its_first_loss() {
    let mut rig = Rig::opened(config().reconnect(ReconnectConfig::never()));
    rig.lose();
    assert_eq!(rig.actions(), [HANG_UP, Stop]);
    assert_eq!(rig.told(), ["CONNECTED -> CLOSED", "disconnected", "closed"]);
    let reason = rig.session.take_close_reason();
    let Some(CloseReason::GaveUp { attempts: 0, last }) = reason else { panic!("{reason:?}") };
    assert!(matches!(last, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{last}");
}

#[test]
fn a_loss_hangs_up_before_the_next_attempt_is_planned() {
    let mut rig = Rig::opened(config());
    rig.lose();
    let actions = rig.actions();
    assert!(matches!(actions[..], [HANG_UP, Schedule(_)]), "{actions:?}");
    assert_eq!(rig.told(), ["CONNECTED -> DISCONNECTED", "disconnected"]);
}

#[test]
fn the_backoff_starts_anew_only_after_a_line_that_stayed_up() {
    let mut rig = Rig::opened(config());
    let mut lost_after = |time| {
        rig.step(time);
        rig.forget();
        rig.lose();
        let delay = rig.retry_in();
        rig.open();
        delay
    };
    assert_eq!(lost_after(Duration::ZERO), Some(S));
    assert_eq!(lost_after(4999 * MS), Some(2 * S), "ready, and gone too soon");
    assert_eq!(lost_after(S), Some(4 * S));
    assert_eq!(lost_after(5 * S), Some(S), "5 s prove it");
    assert_eq!(lost_after(S), Some(2 * S));
}

#[test]
fn a_long_backoff_does_not_prove_a_line() {
    let mut rig = Rig::opened(config());
    rig.lose();
    rig.step(60 * S);
    rig.forget();
    rig.fail(refused());
    assert_eq!(rig.retry_in(), Some(2 * S));
}

#[test]
fn failures_of_lines_that_were_ready_count_towards_the_maximum() {
    let mut rig = Rig::opened(config().reconnect(reconnect().max_attempts(2)));
    for _ in 0..2 {
        rig.lose();
        rig.open();
    }
    rig.forget();
    rig.lose();
    assert!(matches!(rig.closed(), CloseReason::GaveUp { attempts: 2, .. }));
}

#[test]
fn the_close_code_decides_whether_there_is_another_attempt() {
    for code in [1000, 1008] {
        let mut rig = Rig::opened(config());
        rig.server_closes(code);
        rig.lose();
        assert_eq!(rig.actions(), [HANG_UP, Stop]);
        let reason = rig.closed();
        let CloseReason::NotRetried(DisconnectReason::ClosedByServer(frame)) = reason else {
            panic!("{reason:?}")
        };
        assert_eq!(frame.code, code);
    }
    for code in [1001, 1005, 1011, 1012, 4000] {
        let mut rig = Rig::opened(config());
        rig.server_closes(code);
        rig.lose();
        assert_eq!(rig.retry_in(), Some(S), "{code}");
    }
}

#[test]
fn retry_after_is_a_floor_under_the_backoff() {
    for (value, delay) in [(None, S), (Some("0"), S), (Some("7"), 7 * S), (Some("soon"), S)] {
        let mut rig = Rig::dialling(config());
        rig.fail(rejected(503, value));
        assert_eq!(rig.retry_in(), Some(delay), "{value:?}");
    }
}

#[test]
fn retry_after_is_capped() {
    let mut rig = Rig::dialling(config());
    rig.fail(rejected(429, Some("99999")));
    assert_eq!(rig.retry_in(), Some(3600 * S));
    let mut rig = Rig::dialling(config().retry_after_cap(60 * S));
    rig.fail(rejected(503, Some("61")));
    assert_eq!(rig.retry_in(), Some(60 * S));
}

#[test]
fn retry_after_may_be_a_date_of_the_wall_clock_as_it_stands() {
    let mut rig = Rig::dialling(config());
    let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(WALL_MS);
    let date = httpdate::fmt_http_date(wall + 100 * S);
    rig.step(9877 * MS);
    rig.fail(rejected(503, Some(&date)));
    // The date has no fraction: 1,700,000,100 s against a clock of 1,700,000,010 s.
    assert_eq!(rig.retry_in(), Some(90 * S));
}

#[test]
fn a_refusal_is_final_before_the_line_was_ever_ready() {
    let mut rig = Rig::dialling(config());
    rig.fail(rejected(403, None));
    let reason = rig.closed();
    let CloseReason::NotRetried(DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection))) = reason
    else {
        panic!("{reason:?}")
    };
    assert_eq!(rejection.status, 403);
}

#[test]
fn a_refusal_of_a_line_that_was_ready_is_waited_out() {
    let mut rig = Rig::opened(config());
    rig.lose();
    rig.redial();
    rig.forget();
    rig.fail(rejected(403, None));
    assert_eq!(rig.retry_in(), Some(30 * S));
    for (retry_after, retry_in) in [("29", 30 * S), ("31", 31 * S), ("99999", 3600 * S)] {
        rig.redial();
        rig.forget();
        rig.fail(rejected(403, Some(retry_after)));
        assert_eq!(rig.retry_in(), Some(retry_in), "the later of both");
    }
}

#[test]
fn an_attempt_that_takes_too_long_is_timed_out_once() {
    let mut rig = Rig::dialling(config());
    assert_eq!(rig.deadline(), Some(10 * S));
    rig.step(almost(10 * S));
    assert_eq!(rig.actions(), [], "early is harmless");
    rig.step(MS);
    assert_eq!(rig.actions(), [TimeOutDial { generation: 1 }]);
    rig.step(S);
    assert_eq!((rig.actions(), rig.deadline()), (vec![], None));
    rig.fail(timed_out());
    assert_eq!(rig.retry_in(), Some(S));
    rig.redial();
    assert_eq!(rig.deadline(), Some(rig.since_start() + 10 * S), "the next has its own time");
}

#[test]
fn a_retry_that_the_caller_wants_now_replaces_the_plan() {
    let mut rig = Rig::waiting(config());
    let plan = rig.plan.unwrap();
    rig.session.handle_reconnect_now(rig.now);
    assert!(matches!(rig.actions()[..], [Unschedule, Dial { generation: 2, .. }]));
    assert_eq!(rig.told(), ["DISCONNECTED -> CONNECTING"]);
    // The old plan's timer fires late.
    rig.session.handle_retry(rig.now, plan.generation);
    rig.assert_nothing_happened();
    rig.fail(refused());
    assert_eq!(rig.retry_in(), Some(2 * S), "it was an attempt like any other");
}

#[test]
fn a_retry_now_does_nothing_while_an_attempt_is_made() {
    let mut rig = Rig::dialling(config());
    let deadline = rig.deadline();
    rig.session.handle_reconnect_now(rig.now);
    rig.session.handle_timeout(rig.now);
    rig.assert_nothing_happened();
    assert_eq!((rig.session.poll_transmit(rig.now, rig.id()), rig.deadline()), (None, deadline));
}

#[test]
fn the_trouble_is_known_until_the_line_is_ready_again() {
    let mut rig = Rig::opened(config());
    assert!(rig.session.last_failure().is_none());
    rig.server_closes(1001);
    rig.lose();
    assert!(matches!(rig.session.last_failure(), Some(Error::ClosedByServer(frame)) if frame.code == 1001));
    rig.redial();
    assert!(rig.session.last_failure().is_some(), "an attempt is not yet a line");
    rig.fail(unresolved());
    assert!(matches!(rig.session.last_failure(), Some(Error::Resolve { .. })));
    rig.open();
    assert!(rig.session.last_failure().is_none());
}

#[test]
fn a_wall_clock_that_is_set_to_its_end_breaks_nothing() {
    let mut wall = SystemTime::UNIX_EPOCH;
    let mut step = Duration::from_secs(1 << 62);
    while !step.is_zero() {
        match wall.checked_add(step) {
            Some(later) if later > wall => wall = later,
            // Too far, or shorter than what this clock counts.
            _ => step /= 2,
        }
    }
    let mut rig = Rig::dialling(config());
    rig.session.handle_clock(rig.now, wall);
    rig.step(Duration::from_secs(1));
    rig.fail(refused());
    assert_eq!(rig.session.state(), ConnectionState::Disconnected);
}
