//! The sharpest rules of real services, each as a protocol in small.

use serde_json::{Value, json};
use tautline::ConnectionState::{Authenticated, Closed, Connected, Disconnected};
use tautline::{CloseFrame, DisconnectReason, Event, RequestId};

use super::*;

fn almost(time: Duration) -> Duration {
    time.saturating_sub(MS)
}

fn json_of(message: &Message) -> Result<Value, Error> {
    Ok(message.json()?)
}

// A gateway that tells the heartbeat's interval, whose first beat comes at a random time, and which is dead when it did
// not answer between two beats; a session can be resumed, elsewhere.

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

// A server whose pings are messages, and the only thing that counts as a sign of life; it refuses with a message, and
// leaves the connection open.

#[derive(Default)]
struct Pinged(Duration);

impl Protocol for Pinged {
    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let Some(text) = message.as_text() else { return Ok(()) };
        if text == "2" {
            cx.send("3");
            cx.set_timer(1, self.0);
        } else if let Some(open) = text.strip_prefix('0') {
            let open: Value = serde_json::from_str(open)?;
            let ms = |field: &str| open[field].as_u64().unwrap_or_default();
            self.0 = Duration::from_millis(ms("pingInterval") + ms("pingTimeout"));
            cx.set_timer(1, self.0);
            cx.send("40");
        } else if text.starts_with("40") {
            cx.ready();
        } else if text.starts_with("44") {
            cx.stop(Error::login_refused(text));
        } else {
            cx.deliver(message);
        }
        Ok(())
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: u32) -> Result<(), Error> {
        Err(Error::session("the server pings no more"))
    }

    fn on_down(&mut self, _: &Loss<'_>) -> Retry {
        Retry::Backoff // close codes say nothing
    }
}

fn pinged() -> Line {
    let mut line = opened(Pinged::default());
    line.say(r#"0{"pingInterval":25000,"pingTimeout":20000}"#);
    assert_eq!(line.heard(), ["40"]);
    line
}

#[test]
fn only_the_servers_ping_counts() {
    let mut line = pinged();
    line.say("40{}");
    for _ in 0..5 {
        line.step(44 * S);
        line.say("2");
        assert_eq!(line.heard(), ["3"]);
    }
    for _ in 0..44 {
        line.step(S);
        line.say("42[\"busy\"]");
        line.ping("websocket");
    }
    assert_eq!(line.state(), Authenticated);
    line.step(S);
    assert_eq!(trouble(&line), "the session can't go on: the server pings no more");
    assert_eq!(line.messages().len(), 44);
    // The next connection has a time of its own.
    line.step(2 * S);
    line.open();
    line.step(9 * S);
    assert_eq!(line.state(), Connected);
}

#[test]
fn a_refusal_that_leaves_the_connection_open_ends_the_client() {
    let mut line = pinged();
    line.say("44{\"message\":\"no\"}");
    assert_eq!((line.state(), line.goodbye().map(|frame| frame.code)), (Closed, Some(1000)));
    assert!(trouble(&line).contains("44{"), "{}", trouble(&line));
    let mut line = pinged();
    line.say("40{}");
    line.close(1000, "");
    assert!(line.next_attempt().is_some(), "a code that says nothing");
}

// A server that wants to hear something within a time, and asks nothing itself; binary, with a goodbye.

struct IdleOnSend;

const CONNECT: [u8; 2] = [0x10, 0];
const CONNECTED: [u8; 4] = [0x20, 2, 0, 0];
const PING: [u8; 2] = [0xC0, 0];
const PONG: [u8; 2] = [0xD0, 0];
const GOODBYE: [u8; 2] = [0xE0, 0];
const KEEP_ALIVE: u32 = 1;
const ANSWER: u32 = 2;

impl Protocol for IdleOnSend {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.send(CONNECT);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_bytes() {
            [0x20, 2, _, 0] => {
                cx.set_timer(KEEP_ALIVE, 20 * S);
                cx.ready();
            }
            [0x20, 2, _, code] => return Err(Error::login_refused(format!("code {code}"))),
            [0xD0, 0] => cx.cancel_timer(ANSWER),
            _ => cx.deliver(message),
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        cx.set_timer(KEEP_ALIVE, 20 * S);
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        if id == ANSWER {
            return Err(Error::session("no answer to a ping"));
        }
        cx.set_timer(KEEP_ALIVE, 20 * S);
        cx.set_timer(ANSWER, 10 * S);
        cx.send(PING);
        Ok(())
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send(GOODBYE);
        Ok(())
    }
}

fn bytes(line: &mut Line) -> Vec<Vec<u8>> {
    line.heard_messages().iter().map(|message| message.as_bytes().to_vec()).collect()
}

#[test]
fn who_sends_need_not_ping() {
    let mut line = opened(IdleOnSend);
    line.say(CONNECTED);
    assert_eq!(bytes(&mut line), [CONNECT]);
    for _ in 0..10 {
        line.step(19 * S);
        line.send([1]);
        line.say([2]);
    }
    assert_eq!(bytes(&mut line), [[1]; 10]);
    line.step(20 * S);
    assert_eq!(bytes(&mut line), [PING], "what was heard does not count");
    line.say(PONG);
    line.step(20 * S);
    assert_eq!((bytes(&mut line), line.state()), (vec![PING.to_vec()], Authenticated));
    line.step(10 * S);
    assert_eq!(trouble(&line), "the session can't go on: no answer to a ping");
}

#[test]
fn the_goodbye_follows_what_was_sent() {
    let mut line = opened(IdleOnSend);
    line.say(CONNECTED);
    line.stall();
    line.send([1]);
    line.close_client();
    line.step(S);
    line.resume();
    assert_eq!(bytes(&mut line), [&CONNECT[..], &[1], &GOODBYE]);
    let mut line = opened(IdleOnSend);
    line.say([0x20, 2, 0, 5]);
    assert_eq!((line.state(), trouble(&line).as_str()), (Closed, "the server refused the login: code 5"));
}

// A server that takes three messages in ten seconds, and throws out who sends more; beats are not counted.

#[derive(Default)]
struct Limited {
    sent: Vec<Duration>,
    asked: Vec<RequestId>,
}

impl Protocol for Limited {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        self.sent.clear();
        cx.set_timer(1, 4 * S);
        cx.ready();
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        let now = cx.unix_time();
        self.sent.retain(|at| *at + 10 * S > now);
        self.sent.push(now);
        if self.sent.len() == 3 {
            cx.hold((self.sent[0] + 10 * S).saturating_sub(now));
        }
        self.asked.extend(outgoing.request);
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: u32) -> Result<(), Error> {
        cx.set_timer(1, 4 * S);
        cx.send("beat");
        Ok(())
    }
}

/// What is heard of the application's each second, for so many.
fn each_second(line: &mut Line, seconds: u32) -> Vec<usize> {
    let heard = (0..seconds).map(|_| {
        line.step(S);
        line.heard().iter().filter(|text| *text != "beat").count()
    });
    heard.collect()
}

#[test]
fn a_limit_of_the_rate_holds_messages_and_requests_and_no_beats() {
    let mut line = opened(Limited::default());
    line.send("1");
    line.step(2 * S);
    for _ in 0..6 {
        line.send("x");
    }
    let asked = line.request("?");
    assert_eq!(line.heard().len(), 3);
    assert_eq!(each_second(&mut line, 20), [0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
    assert!(line.answers(asked).is_empty() && !line.has_ended(asked));
    line.step(4 * S);
    assert_eq!(line.heard(), ["beat"]);
}

#[test]
fn a_hold_dies_with_the_connection_and_what_it_held_goes_out_on_the_next() {
    let mut line = opened(Limited::default());
    for n in 1..=5 {
        line.send(n.to_string());
    }
    let waits = line.request("?");
    assert_eq!(line.heard(), ["1", "2", "3"]);
    line.break_off();
    assert!(line.answers(waits).is_empty(), "it was not handed over yet");
    line.step(2 * S);
    line.open();
    assert_eq!(line.heard(), ["4", "5", "?"]);
    line.say("release");
    line.close_client();
    assert_eq!(line.state(), Closed);
}

// A server that moves its clients: the new connection is opened first, the old one kept until the new welcome. Nothing
// may be sent; the server's messages are its sign of life.

#[derive(Default)]
struct Moving {
    to: Option<String>,
    patience: Duration,
}

impl Protocol for Moving {
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        match self.to.take() {
            Some(url) if attempt.moving => request.url = url,
            _ => {}
        }
        Ok(())
    }

    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let said = json_of(&message)?;
        match said["type"].as_str() {
            Some("welcome") => {
                self.patience = Duration::from_secs(said["keepalive"].as_u64().unwrap_or(10));
                if !cx.is_moving() {
                    cx.deliver(json!({"subscribe with": said["session"]}));
                }
                cx.ready();
            }
            Some("reconnect") => {
                self.to = said["url"].as_str().map(Into::into);
                cx.move_line();
            }
            Some("keepalive") => {}
            _ => cx.deliver(message),
        }
        cx.set_timer(1, self.patience);
        Ok(())
    }

    fn on_move_failed(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<(), Error> {
        cx.deliver(format!("stays: {error}"));
        Ok(())
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: u32) -> Result<(), Error> {
        Err(Error::session("no keepalive"))
    }
}

/// How something comes to its end.
type End = fn(&mut Line);

const NEW: &str = "ws://new.example/?token=x";

fn welcome(session: &str) -> Value {
    json!({"type": "welcome", "session": session, "keepalive": 10})
}

/// Subscribed, and told to move.
fn told_to_move() -> Line {
    let mut line = opened(Moving::default());
    line.say(welcome("a"));
    assert_eq!(line.messages(), [r#"{"subscribe with":"a"}"#]);
    line.say(json!({"type": "reconnect", "url": NEW}));
    assert!(line.is_moving());
    assert_eq!(line.attempt().url, NEW);
    line.events();
    line
}

#[test]
fn a_line_that_is_told_to_move_has_no_gap_and_subscribes_no_more() {
    let mut line = told_to_move();
    line.say(json!({"event": 1}));
    line.open();
    line.say(json!({"event": 2}));
    line.answer_close(false);
    line.say_beside(welcome("a"));
    line.say_old(json!({"event": 3}));
    line.say(json!({"event": 4}));
    assert_eq!(line.messages(), [1, 2, 3, 4].map(|n| format!(r#"{{"event":{n}}}"#)));
    assert_eq!((line.heard(), line.heard_old()), (vec![], vec![]), "a client must not speak");
    let told: Vec<_> = line.events();
    assert!(matches!(told[..], [Event::Moved { .. }]), "{told:?}");
    // The new server's keepalive counts, and its end is a loss, after which the usual URL is asked.
    line.step(9 * S);
    line.say(json!({"type": "keepalive"}));
    line.step(9 * S);
    assert_eq!(line.state(), Authenticated);
    line.step(S);
    assert_eq!(trouble(&line), "the session can't go on: no keepalive");
    line.step(2 * S);
    assert_eq!(line.attempt().url, URL);
    line.open();
    line.say(welcome("b"));
    assert_eq!(line.messages(), [r#"{"subscribe with":"b"}"#]);
}

#[test]
fn each_server_of_a_move_has_a_keepalive_of_its_own() {
    let mut line = told_to_move();
    line.open();
    line.step(9 * S);
    line.say_beside(welcome("a"));
    line.step(9 * S);
    assert_eq!(line.state(), Authenticated, "the old server's time is not the new one's");
    line.step(S);
    assert_eq!(trouble(&line), "the session can't go on: no keepalive");
}

#[test]
fn what_the_old_server_was_asked_and_does_not_answer_fails_when_it_ends() {
    for answers_close in [true, false] {
        let mut line = told_to_move();
        let asked = line.request("not to be said");
        line.answer_close(answers_close);
        line.open();
        line.say_beside(welcome("a"));
        if !answers_close {
            assert!(line.answers(asked).is_empty(), "it may still be answered");
            line.step(3 * S);
        }
        assert!(answer(&mut line, asked).starts_with("the request will not be answered: the line has moved"));
    }
}

#[test]
fn a_move_to_nobody_or_to_one_who_says_no_leaves_the_line_and_may_be_told_again() {
    let failures: [(End, &str); 4] = [
        (Line::refuse, "connecting to new.example:80"),
        (|line| line.reject(410), "410"),
        (
            |line| {
                line.open();
                line.close_beside(4003, "late");
            },
            "4003",
        ),
        (
            |line| {
                line.open();
                line.say_beside("no JSON");
            },
            "JSON",
        ),
    ];
    for (fail, why) in failures {
        let mut line = told_to_move();
        fail(&mut line);
        let told = line.messages();
        assert!(told.len() == 1 && told[0].starts_with("stays:") && told[0].contains(why), "{told:?}");
        line.step(9 * S);
        line.say(json!({"type": "reconnect", "url": "ws://third.example"}));
        assert_eq!(line.attempt().url, "ws://third.example");
        line.open();
        line.say_beside(welcome("a"));
        assert!(!line.is_moving() && line.state() == Authenticated);
        assert_eq!(line.messages(), [""; 0], "nothing to subscribe");
    }
}

#[test]
fn a_new_server_that_says_nothing_is_given_up_after_the_logins_time() {
    let mut line = told_to_move();
    line.open();
    for _ in 0..9 {
        line.step(S);
        line.say(json!({"type": "keepalive"}));
    }
    assert!(line.is_moving() && line.messages().is_empty());
    line.step(S);
    assert!(!line.is_moving() && line.state() == Authenticated);
    assert!(line.messages()[0].contains("not accepted within 10s"));
}

#[test]
fn an_old_server_that_ends_before_the_new_welcome_is_a_loss_and_the_usual_url_follows() {
    let ends: [End; 3] = [
        Line::break_off,
        |line| line.close(4004, "reconnect grace time expired"),
        // Its keepalive no longer comes.
        |line| line.step(10 * S),
    ];
    for end in ends {
        for opens in [false, true] {
            let mut line = told_to_move();
            if opens {
                line.open();
            }
            end(&mut line);
            assert_eq!((line.state(), line.is_moving()), (Disconnected, false));
            line.step(line.next_attempt().expect("another attempt"));
            assert_eq!(line.attempt().url, URL);
            line.open();
            line.say(welcome("b"));
            assert_eq!(line.messages(), [r#"{"subscribe with":"b"}"#]);
        }
    }
}

#[test]
fn an_old_server_that_ends_at_the_new_welcome_ends_no_line() {
    for closes in [false, true] {
        let mut line = told_to_move();
        line.open();
        // So that the switch waits for a confirmation: what went out must not be lost.
        line.stall();
        line.send("not to be said");
        line.say_beside(welcome("a"));
        assert!(line.is_moving(), "the old server has not taken it yet");
        if closes {
            line.close(4004, "");
        } else {
            line.break_off();
        }
        assert_eq!((line.state(), line.is_moving()), (Authenticated, false));
        assert_eq!(line.heard(), ["not to be said"], "the new one has it");
        line.say(json!({"event": 1}));
        assert_eq!(line.messages(), [r#"{"event":1}"#]);
    }
}

// Heartbeats that the library sends and judges, as often as the server says: the first after a time of its own, and one
// only when nothing else was sent.

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
