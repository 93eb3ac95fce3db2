//! A line that the application takes down, and brings up again.

use super::*;
use Action::{AbandonDial, Dial, Unschedule};

fn going_away() -> Frame {
    Frame::Close(CloseFrame::new(1001, ""))
}

fn dials(actions: &[Action]) -> bool {
    matches!(actions, [Dial { .. }])
}

/// The one `Disconnected` by the caller: its call, whether another attempt follows at once, and what is in doubt.
fn taken_down(rig: &mut Rig) -> (&'static str, bool, Vec<u64>) {
    match rig.disconnected() {
        (DisconnectReason::ByCaller { call }, retry_in, doubts) => {
            (call, retry_in == Some(Duration::ZERO), doubts)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_suspended_line_asks_what_has_arrived_says_goodbye_and_makes_no_attempt() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    rig.transmit();
    rig.session.handle_suspend(rig.now);
    rig.accept(&["b"]);
    assert_eq!(rig.told(), ["CONNECTED -> CLOSING"]);
    assert!(!rig.session.wants_outbox(), "what waits stays");
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    assert_eq!(rig.hand(), []);
    rig.pong(1);
    assert_eq!(rig.transmit(), [going_away()]);
    rig.server_closes(1001);
    rig.lose();
    assert_eq!((rig.actions(), rig.session.state()), (vec![HANG_UP], ConnectionState::Disconnected));
    assert_eq!(taken_down(&mut rig), ("suspend", false, vec![]), "the first was confirmed");
    assert_eq!((rig.session.next_deadline(), rig.session.next_attempt()), (None, None));
    rig.session.handle_reconnect_now(rig.now);
    rig.session.handle_reconnect(rig.now);
    rig.session.handle_suspend(rig.now);
    rig.step(3600 * S);
    rig.assert_nothing_happened();
    rig.session.handle_resume(rig.now);
    assert!(dials(&rig.actions()));
    assert!(rig.try_open(rig.generation));
    rig.forget();
    assert_eq!(rig.transmit(), texts(["b"]));
}

#[test]
fn a_server_that_answers_nothing_is_left_after_the_close_timeout_and_the_doubts_are_named() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    rig.transmit();
    rig.session.handle_suspend(rig.now);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    rig.step(1500 * MS);
    assert_eq!(rig.transmit(), [going_away()]);
    rig.step(almost(1500 * MS));
    assert_eq!(rig.session.state(), ConnectionState::Closing);
    rig.step(MS);
    rig.actions();
    assert_eq!(taken_down(&mut rig), ("suspend", false, vec![1]));
}

#[test]
fn to_suspend_stops_what_is_planned_or_under_way() {
    let mut rig = Rig::waiting(config());
    rig.session.handle_suspend(rig.now);
    assert_eq!(rig.actions(), [Unschedule]);
    assert_eq!(taken_down(&mut rig), ("suspend", false, vec![]));
    let mut rig = Rig::dialling(config());
    rig.session.handle_suspend(rig.now);
    assert_eq!((rig.actions(), rig.session.state()), (vec![AbandonDial], ConnectionState::Disconnected));
    assert!(!rig.try_open(rig.generation), "it comes too late");
    rig.forget();
    rig.session.handle_resume(rig.now);
    assert!(dials(&rig.actions()));
}

#[test]
fn a_line_that_is_resumed_while_it_closes_is_dialled_when_it_is_down() {
    let mut rig = Rig::opened(config().reconnect(reconnect().max_attempts(0)));
    rig.session.handle_suspend(rig.now);
    rig.session.handle_timeout(rig.now);
    rig.transmit();
    rig.session.handle_resume(rig.now);
    rig.server_closes(1001);
    rig.lose();
    let actions = rig.actions();
    assert!(matches!(actions[..], [HANG_UP, Dial { .. }]), "though no reconnect is allowed: {actions:?}");
    assert_eq!(taken_down(&mut rig), ("suspend", true, vec![]));
}

#[test]
fn to_resume_what_is_not_suspended_does_nothing() {
    for mut rig in [Rig::opened(config()), Rig::waiting(config()), Rig::dialling(config())] {
        rig.session.handle_resume(rig.now);
        rig.assert_nothing_happened();
    }
}

#[test]
fn a_reconnect_replaces_the_connection_within_a_second_and_keeps_the_outbox() {
    let mut rig = Rig::opened(config());
    rig.session.handle_reconnect(rig.now);
    rig.accept(&["a"]);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [going_away()]);
    rig.step(almost(S));
    assert_eq!(rig.session.state(), ConnectionState::Closing);
    rig.step(MS);
    let actions = rig.actions();
    assert!(matches!(actions[..], [HANG_UP, Dial { .. }]), "{actions:?}");
    assert_eq!(taken_down(&mut rig), ("reconnect", true, vec![]));
    assert!(rig.try_open(rig.generation));
    rig.forget();
    assert_eq!(rig.transmit(), texts(["a"]));
    let mut rig = Rig::waiting(config());
    rig.session.handle_reconnect(rig.now);
    assert!(matches!(rig.actions()[..], [Unschedule, Dial { .. }]));
}

#[test]
fn a_client_that_is_closed_while_it_is_being_suspended_sends_the_outbox_first() {
    let mut rig = Rig::opened(config());
    rig.session.handle_suspend(rig.now);
    rig.accept(&["a"]);
    rig.close(true);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), texts(["a"]));
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    rig.pong(1);
    assert_eq!(rig.transmit(), [goodbye()]);
    rig.lose();
    assert!(matches!(rig.closed(), CloseReason::ByCaller));
    let mut rig = Rig::opened(config());
    rig.session.handle_suspend(rig.now);
    rig.session.handle_terminate();
    rig.session.handle_resume(rig.now);
    assert!(matches!(rig.closed(), CloseReason::ByCaller));
    let mut rig = Rig::waiting(config());
    rig.session.handle_suspend(rig.now);
    rig.close(true);
    assert!(matches!(rig.closed(), CloseReason::ByCaller));
}
