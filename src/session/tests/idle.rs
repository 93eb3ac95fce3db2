//! Servers that answer heartbeats and send no data.

use super::*;
use crate::config::Beat;
use crate::protocol::Context;

/// A server may be silent for 20 s. Heartbeats don't judge it.
fn config() -> ConnectionConfig {
    without_beats().idle_timeout(20 * S)
}

/// How the line was lost, if it was.
fn lost(rig: &mut Rig) -> Option<String> {
    rig.events().into_iter().find_map(|event| match event {
        Event::Disconnected { reason, .. } => Some(reason.to_string()),
        _ => None,
    })
}

#[track_caller]
fn assert_idle(rig: &mut Rig) {
    let reason = lost(rig).expect("the line is lost");
    let says = "the server sent no data for 20s, though the connection is open; if it may be silent for that long, raise idle_timeout";
    assert_eq!(reason, says);
    assert!(rig.actions().contains(&Action::Drop(ConnectionId(1))));
    assert_eq!(rig.session.state(), ConnectionState::Disconnected);
}

#[test]
fn a_server_that_answers_pings_and_sends_no_data_is_given_up_and_the_line_comes_back() {
    let mut rig = Rig::opened(super::config().idle_timeout(70 * S));
    for counter in 1..=2 {
        rig.step(30 * S);
        assert_eq!(rig.transmit(), [ping(counter)]);
        rig.pong(counter);
        rig.session.handle_ping(rig.now, rig.id(), b"");
        assert_eq!(lost(&mut rig), None);
    }
    rig.step(almost(10 * S));
    rig.assert_nothing_happened();
    rig.step(MS);
    let (reason, retry_in, _) = rig.disconnected();
    assert!(
        matches!(reason, DisconnectReason::Lost(Error::IdleTimeout { after }) if after == 70 * S),
        "{reason}"
    );
    assert_eq!(retry_in, Some(S));
    rig.open();
    assert_eq!(rig.session.state(), ConnectionState::Connected);
}

#[test]
fn each_message_restarts_the_time_also_where_messages_are_dropped() {
    let discarding = config().inbound(crate::config::Inbound::Discard);
    for config in [config(), discarding] {
        let mut rig = Rig::opened(config);
        for _ in 0..5 {
            rig.step(almost(20 * S));
            rig.receive("data");
        }
        assert_eq!(lost(&mut rig), None);
        rig.step(20 * S);
        assert_idle(&mut rig);
    }
}

#[test]
fn the_answer_to_a_json_beat_is_no_data() {
    let mut rig =
        Rig::opened(super::config().heartbeat(HeartbeatConfig::json().interval(15 * S)).idle_timeout(20 * S));
    rig.step(15 * S);
    rig.transmit();
    rig.receive(r#"{"type":"pong"}"#);
    rig.step(5 * S);
    assert_idle(&mut rig);
}

/// Logs in by the word "welcome", and calls "alive" the answer to its heartbeat.
struct Feed;

impl Protocol for Feed {
    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_text() {
            Some("welcome") => cx.ready(),
            Some("alive") => cx.beat_answered(),
            _ => cx.deliver(message),
        }
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("alive?");
        Ok(())
    }
}

fn feed(config: ConnectionConfig) -> Rig {
    let mut rig = Rig::with(config, Some(Box::new(Feed)), false);
    rig.session.start(rig.now);
    rig.open();
    rig
}

#[test]
fn the_time_begins_when_the_login_is_over_and_the_answer_to_a_protocols_beat_is_no_data() {
    let heartbeat = HeartbeatConfig::default().beat(Beat::Protocol).interval(15 * S);
    let mut rig = feed(config().login_timeout(60 * S).heartbeat(heartbeat));
    rig.step(30 * S);
    rig.receive("welcome");
    rig.step(15 * S);
    rig.transmit();
    assert_eq!(lost(&mut rig), None);
    rig.receive("alive");
    rig.step(almost(5 * S));
    assert_eq!(lost(&mut rig), None);
    rig.receive("news");
    rig.step(10 * S);
    rig.receive("alive");
    rig.step(almost(10 * S));
    assert_eq!(lost(&mut rig), None);
    rig.step(MS);
    assert_idle(&mut rig);
}

#[test]
fn a_filter_narrows_what_counts_and_sees_what_arrives_and_not_what_is_delivered() {
    let mut rig = feed(config());
    rig.session.set_data_filter(Box::new(|message| {
        assert_ne!(message.as_text(), Some("welcome"), "the line is not ready");
        message.as_text().is_some_and(|text| text.starts_with("data"))
    }));
    rig.receive("welcome");
    rig.step(15 * S);
    rig.receive("data");
    rig.step(15 * S);
    rig.receive("still here");
    rig.step(almost(5 * S));
    assert_eq!(lost(&mut rig), None);
    rig.step(MS);
    assert_idle(&mut rig);
}

#[test]
fn a_filter_that_panics_closes_the_client() {
    let mut rig = Rig::opened(config());
    rig.session.set_data_filter(Box::new(|_| panic!("on purpose")));
    rig.receive("data");
    rig.receive("more");
    let reason = rig.closed();
    assert!(
        matches!(reason, CloseReason::Failed(Error::Panicked { callback: "counts_as_data" })),
        "{reason}"
    );
}

#[test]
fn nobody_is_judged_by_what_was_not_read_for_want_of_room_until_it_is() {
    let mut rig = Rig::opened(config());
    rig.now += 20 * S;
    rig.session.handle_timeout_unheard(rig.now);
    rig.assert_nothing_happened();
    rig.session.handle_timeout(rig.now);
    assert_idle(&mut rig);
}

#[test]
fn nobody_is_judged_while_reading_is_paused_and_afterwards_there_is_all_the_time_again() {
    let mut rig = Rig::opened(config());
    rig.step(15 * S);
    rig.session.handle_paused(rig.now, true);
    assert_eq!(rig.deadline(), None);
    rig.step(60 * S);
    rig.session.handle_paused(rig.now, false);
    rig.step(almost(20 * S));
    rig.assert_nothing_happened();
    rig.step(MS);
    assert_idle(&mut rig);
}

#[test]
fn a_machine_that_slept_does_not_judge_by_the_time_it_slept() {
    let mut rig = Rig::opened(config());
    rig.step(15 * S);
    // The clock of the machine stood still for an hour.
    let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(WALL_MS) + 3615 * S;
    rig.session.handle_clock(rig.now, wall);
    rig.step(almost(20 * S));
    rig.assert_nothing_happened();
    // And here it went on.
    rig.step(60 * S);
    rig.assert_nothing_happened();
    rig.step(20 * S);
    assert_idle(&mut rig);
}

#[test]
fn a_download_that_moves_is_no_silence_and_one_that_stops_is() {
    let mut rig = Rig::opened(config());
    for _ in 0..5 {
        rig.step(almost(20 * S));
        rig.session.handle_part(rig.now, rig.id());
    }
    assert_eq!(lost(&mut rig), None);
    rig.session.handle_activity(rig.now + S, rig.id());
    rig.step(20 * S);
    assert_idle(&mut rig);
}

#[test]
fn a_line_that_closes_is_judged_by_its_close_and_not_by_its_silence() {
    let mut rig = Rig::opened(config().close_timeout(60 * S));
    rig.step(15 * S);
    rig.close(true);
    rig.transmit();
    rig.step(30 * S);
    assert_eq!(rig.session.state(), ConnectionState::Closing);
}

#[test]
fn a_silence_shorter_than_the_servers_own_lets_the_backoff_grow_however_long_it_is() {
    for idle in [S, 60 * S] {
        let mut rig = Rig::opened(super::without_beats().idle_timeout(idle));
        let mut delays = Vec::new();
        for _ in 0..4 {
            rig.step(idle);
            delays.extend(rig.retry_in());
            rig.open();
            rig.forget();
        }
        assert_eq!(delays, [S, 2 * S, 4 * S, 8 * S], "a line that brings nothing proves nothing");
        rig.step(MS);
        for _ in 0..10 {
            rig.receive("data");
            rig.step(almost(S));
        }
        rig.step(idle);
        assert_eq!(rig.retry_in(), Some(S), "10 s of data prove it");
    }
}

#[test]
fn lines_that_bring_nothing_count_towards_the_maximum() {
    let config = without_beats().idle_timeout(60 * S).reconnect(reconnect().max_attempts(2));
    let mut rig = Rig::opened(config);
    for _ in 0..2 {
        rig.step(60 * S);
        rig.open();
        rig.forget();
    }
    rig.step(60 * S);
    let reason = rig.closed();
    let CloseReason::GaveUp { attempts: 2, last: DisconnectReason::Lost(Error::IdleTimeout { .. }) } = reason
    else {
        panic!("{reason}");
    };
}
