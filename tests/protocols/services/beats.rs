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
