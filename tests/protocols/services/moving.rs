//! A server that moves its clients: the new connection is opened first, the old one kept until the new welcome. Nothing
//! may be sent; the server's messages are its sign of life.

use super::*;

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
