//! Heartbeats that the library sends and judges, as often as the server says: the first after a time of its own, and one
//! only when nothing else was sent.

use super::*;

struct Idle;

impl Protocol for Idle {
    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_text() {
            Some("every 20 s") => {
                cx.set_beats(5 * S, 20 * S);
                cx.ready();
            }
            Some("alive") => cx.beat_answered(),
            _ => cx.deliver(message),
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        cx.set_beats(20 * S, 20 * S);
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("alive?");
        Ok(())
    }
}

#[test]
fn heartbeats_go_out_as_the_server_wants_them_and_only_when_the_line_is_idle() {
    let beats = HeartbeatConfig::default().beat(tautline::Beat::Protocol).strict(true);
    let mut line = Line::new(ConnectionConfig::new(URL).heartbeat(beats), Idle).unwrap();
    line.open();
    line.say("every 20 s");
    line.step(almost(5 * S));
    assert_eq!(line.heard(), [""; 0]);
    line.step(MS);
    assert_eq!(line.heard(), ["alive?"], "the first");
    line.say("alive");
    line.step(20 * S);
    assert_eq!(line.heard(), ["alive?"], "and each");
    line.say("alive");
    for _ in 0..5 {
        line.step(19 * S);
        line.send("busy");
    }
    assert_eq!(line.heard(), ["busy"; 5]);
    line.step(20 * S);
    assert_eq!(line.heard(), ["alive?"]);
    line.step(10 * S);
    assert!(trouble(&line).contains("heartbeat timeout"), "{}", trouble(&line));
    // The next connection has the configuration's, until its server says something else.
    line.step(line.next_attempt().unwrap());
    line.open();
    line.say("every 20 s");
    line.step(5 * S);
    assert_eq!(line.heard(), ["alive?"]);
}

/// Its server says in the welcome whether and how often it wants heartbeats.
struct Told;

impl Protocol for Told {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.stop_beats();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_text() {
            Some("stop") => cx.stop_beats(),
            Some("every 20 s") => cx.set_beats(20 * S, 20 * S),
            _ => {}
        }
        cx.ready();
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("alive?");
        Ok(())
    }
}

/// How many heartbeats the server has got since the last call.
fn beats(line: &mut Line) -> usize {
    line.pings().len() + line.heard().len()
}

#[test]
fn heartbeats_stop_and_start_as_the_server_says_whatever_they_are() {
    use tautline::Beat::{Json, Protocol, WebSocketPing};
    for beat in [WebSocketPing, Json, Protocol] {
        let config = ConnectionConfig::new(URL).heartbeat(HeartbeatConfig::default().beat(beat));
        let mut line = Line::new(config, Told).unwrap();
        line.answer_pings(false);
        line.open();
        line.say("welcome");
        line.step(3600 * S);
        assert_eq!((beats(&mut line), line.state()), (0, tautline::ConnectionState::Authenticated));
        line.say("every 20 s");
        line.step(20 * S);
        assert_eq!(beats(&mut line), 1, "{beat:?}");
        // Its verdict is due in ten seconds, and another word of the server's would only postpone it.
        line.step(9 * S);
        line.say("stop");
        line.reconnect_now();
        line.step(3600 * S);
        assert_eq!(
            (beats(&mut line), line.state()),
            (0, tautline::ConnectionState::Authenticated),
            "{beat:?}"
        );
        line.say("every 20 s");
        line.step(31 * S);
        assert!(trouble(&line).contains("heartbeat timeout"), "{}", trouble(&line));
        line.step(line.next_attempt().unwrap());
        line.open();
        assert_eq!(beats(&mut line), 1);
        line.say("welcome");
        line.step(3600 * S);
        assert_eq!(beats(&mut line), 0, "each connection is asked anew");
    }
}

#[test]
fn a_protocol_does_not_start_what_is_configured_off() {
    let mut line = opened(Told);
    line.say("every 20 s");
    line.step(3600 * S);
    assert_eq!(beats(&mut line), 0);
}

#[test]
fn what_was_sent_is_confirmed_though_the_heartbeats_have_stopped() {
    let mut config = ConnectionConfig::new(URL).delivery(tautline::Delivery::AtLeastOnce);
    config.outbox.messages = 4;
    let mut line = Line::new(config, Told).unwrap();
    line.open();
    line.say("welcome");
    // Nothing else frees the outbox.
    for n in 0..40 {
        line.send(n.to_string());
    }
    assert_eq!(line.heard().len(), 40);
}

/// Its server does not answer heartbeats, and says nothing by itself.
struct OneWay;

impl Protocol for OneWay {
    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("alive");
        cx.beat_answered();
        Ok(())
    }
}

#[test]
fn heartbeats_without_an_answer_judge_nobody_and_measure_nothing() {
    for strict in [false, true] {
        let beats = HeartbeatConfig::default().beat(tautline::Beat::Protocol).strict(strict);
        let mut line = Line::new(ConnectionConfig::new(URL).heartbeat(beats), OneWay).unwrap();
        line.open();
        line.step(3600 * S);
        assert_eq!(line.heard(), ["alive"; 120]);
        assert_eq!((line.state(), line.stats().round_trip), (tautline::ConnectionState::Connected, None));
    }
}
