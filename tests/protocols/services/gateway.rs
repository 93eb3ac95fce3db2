//! A gateway that tells the heartbeat's interval, whose first beat comes at a random time, and which is dead when it did
//! not answer between two beats; a session can be resumed, elsewhere.

use super::*;

#[derive(Default)]
struct Gateway {
    interval: Duration,
    /// The last beat has its answer.
    answered: bool,
    last: Option<u64>,
    session: Option<(String, String)>,
}

impl Gateway {
    fn beat(&mut self, cx: &mut Context<'_>) {
        self.answered = false;
        cx.send(json!({"op": 1, "d": self.last}));
    }
}

impl Protocol for Gateway {
    fn prepare(&mut self, _: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        if let Some((_, url)) = &self.session {
            request.url.clone_from(url);
        }
        Ok(())
    }

    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        Ok(()) // the server speaks first
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let said = json_of(&message)?;
        self.last = said["s"].as_u64().or(self.last);
        match (said["op"].as_u64(), said["t"].as_str()) {
            (Some(10), _) => {
                self.interval =
                    Duration::from_millis(said["d"]["heartbeat_interval"].as_u64().unwrap_or(45_000));
                self.answered = true;
                let first = self.interval.mul_f64(cx.random());
                cx.set_timer(1, first);
                cx.send(match &self.session {
                    Some((id, _)) => json!({"op": 6, "d": {"session_id": id, "seq": self.last}}),
                    None => json!({"op": 2}),
                });
            }
            (Some(1), _) => self.beat(cx),
            (Some(11), _) => self.answered = true,
            (Some(7), _) => cx.close(4000, "to resume"),
            (Some(9), _) => {
                if said["d"] != true {
                    self.session = None;
                }
                cx.close(4000, "invalid session");
            }
            (_, Some("READY")) => {
                let text = |field: &str| said["d"][field].as_str().unwrap_or_default().to_owned();
                self.session = Some((text("session_id"), text("resume_gateway_url")));
                cx.ready();
            }
            (_, Some("RESUMED")) => cx.resumed(),
            _ => cx.deliver(message),
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: u32) -> Result<(), Error> {
        if !self.answered {
            return Err(Error::session("zombie"));
        }
        cx.set_timer(1, self.interval);
        self.beat(cx);
        Ok(())
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        match down.reason {
            DisconnectReason::ClosedByServer(CloseFrame { code: 4004 | 4010..=4014, .. }) => Retry::Never,
            DisconnectReason::ClosedByServer(CloseFrame { code: 4007 | 4009, .. }) => {
                self.session = None;
                Retry::Backoff
            }
            _ => Retry::Backoff,
        }
    }
}

fn hello(line: &mut Line) {
    line.open();
    line.say(json!({"op": 10, "d": {"heartbeat_interval": 40_000}}));
}

/// At 0 s of its clock, with the first beat at 10 s.
fn gateway() -> Line {
    let mut line = Line::new(quiet(), Gateway::default()).unwrap();
    line.set_random(0.25);
    hello(&mut line);
    assert_eq!(line.heard_json(), [json!({"op": 2})]);
    let ready = json!({"session_id": "s", "resume_gateway_url": "ws://resume.example"});
    line.say(json!({"op": 0, "t": "READY", "s": 1, "d": ready}));
    assert_eq!(line.state(), Authenticated);
    line
}

#[test]
fn a_told_heartbeat_begins_at_random_and_carries_the_last_number() {
    let mut line = gateway();
    line.step(9_999 * MS);
    assert_eq!(line.heard(), [""; 0]);
    line.step(MS);
    assert_eq!(line.heard_json(), [json!({"op": 1, "d": 1})]);
    line.say(json!({"op": 0, "t": "X", "s": 42}));
    line.say(json!({"op": 11}));
    line.step(40 * S);
    assert_eq!(line.heard_json(), [json!({"op": 1, "d": 42})]);
    line.say(json!({"op": 1}));
    assert_eq!(line.heard_json(), [json!({"op": 1, "d": 42})], "at once");
    assert_eq!(line.messages().len(), 1);
}

#[test]
fn a_zombie_is_left_at_the_next_beat_whatever_else_it_says_and_the_session_is_resumed() {
    let mut line = gateway();
    line.step(10 * S);
    line.say(json!({"op": 0, "t": "X", "s": 2}));
    line.step(39_999 * MS);
    assert_eq!(line.state(), Authenticated);
    line.step(MS);
    assert_eq!((line.state(), trouble(&line).as_str()), (Disconnected, "the session can't go on: zombie"));
    line.heard();
    line.step(line.next_attempt().unwrap());
    assert_eq!(line.attempt().url, "ws://resume.example");
    hello(&mut line);
    assert_eq!(line.heard_json(), [json!({"op": 6, "d": {"session_id": "s", "seq": 2}})]);
    line.events();
    line.say(json!({"op": 0, "t": "RESUMED", "s": 3}));
    assert!(line.events().iter().any(|event| matches!(event, Event::Connected { resumed: true, .. })));
}

#[test]
fn the_gateway_says_by_code_and_by_message_what_follows() {
    for (code, fatal, resumes) in
        [(4000, false, true), (4009, false, false), (4004, true, false), (1000, false, true)]
    {
        let mut line = gateway();
        line.close(code, "");
        assert_eq!(line.state() == Closed, fatal, "{code}");
        if !fatal {
            line.step(line.next_attempt().unwrap());
            assert_eq!(line.attempt().url == "ws://resume.example", resumes, "{code}");
        }
    }
    for (said, resumes) in
        [(json!({"op": 7}), true), (json!({"op": 9, "d": true}), true), (json!({"op": 9, "d": false}), false)]
    {
        let mut line = gateway();
        line.say(said);
        assert_eq!(line.goodbye().map(|frame| frame.code), Some(4000), "one that keeps the session");
        line.step(line.next_attempt().unwrap());
        assert_eq!(line.attempt().url == "ws://resume.example", resumes);
    }
}
