//! `JsonSession`: logins, answers, losses.

use serde_json::{Value, json};
use tautline::ConnectionState::{Authenticated, Closed, Connected, Disconnected};
use tautline::{CloseReason, Delivery, JsonSession, Ticket};

use super::*;

fn login() -> JsonSession {
    JsonSession::new()
        .login(json!({"type": "login"}))
        .accepted(|m| m["type"] == "welcome")
        .refused(|m| m["type"] == "refused")
}

/// Logged in, with what led there heard.
fn logged_in(config: ConnectionConfig, session: JsonSession) -> Line {
    let mut line = Line::new(config, session).unwrap();
    line.open();
    log_in(&mut line);
    line
}

fn log_in(line: &mut Line) {
    assert_eq!(line.heard_json().remove(0), json!({"type": "login"}), "first of all");
    assert_eq!(line.state(), Connected);
    line.say(json!({"type": "welcome"}));
    assert_eq!((line.state(), line.messages().len()), (Authenticated, 0));
}

/// What the one answer says in its field `is`.
fn is(line: &mut Line, asked: Ticket) -> Value {
    json_is(&answer(line, asked).into())
}

fn json_is(message: &Message) -> Value {
    message.json::<Value>().expect("JSON")["is"].clone()
}

#[test]
fn a_login_is_accepted_after_whatever_else_the_server_says() {
    let mut line = Line::new(quiet(), login()).unwrap();
    line.send("mine");
    line.open();
    line.say("no JSON");
    line.say(json!({"type": "motd"}));
    assert_eq!(line.messages(), ["no JSON", r#"{"type":"motd"}"#]);
    log_in(&mut line);
    assert_eq!(line.heard(), ["mine"]);
    line.say(json!({"type": "welcome"}));
    line.say(json!({"type": "refused"}));
    assert_eq!(
        line.messages(),
        [r#"{"type":"refused"}"#],
        "one is repeated, the other comes too late to be one"
    );
}

#[test]
fn without_a_test_the_first_json_that_is_no_refusal_accepts() {
    let session = JsonSession::new().login(json!(1)).refused(|m| m == "no");
    let mut line = opened(session);
    line.say("{");
    assert_eq!(line.state(), Connected);
    line.say(json!("anything"));
    assert_eq!(line.state(), Authenticated);
}

#[test]
fn a_refusal_ends_a_line_that_was_never_ready_and_slows_one_that_was() {
    let mut line = Line::new(quiet(), login().answers_by("id")).unwrap();
    let waits = line.request(json!({}));
    line.open();
    line.say(json!({"type": "refused", "why": "password"}));
    assert_eq!(line.state(), Closed);
    assert!(trouble(&line).contains("password"), "{}", trouble(&line));
    assert_eq!(answer(&mut line, waits), format!("the client is closed: {}", trouble(&line)));

    let mut line = logged_in(quiet(), login());
    line.break_off();
    line.step(2 * S);
    line.open();
    line.say(json!({"type": "refused"}));
    assert_eq!((line.state(), line.next_attempt()), (Disconnected, Some(30 * S)));
}

#[test]
fn a_login_that_is_not_answered_has_ten_seconds() {
    let mut line = opened(login());
    line.step(9_999 * MS);
    assert_eq!(line.state(), Connected);
    line.step(MS);
    assert_eq!(line.state(), Disconnected);
    assert!(trouble(&line).contains("not accepted within 10s"), "{}", trouble(&line));
}

#[test]
fn each_connection_logs_in_with_a_message_of_its_own() {
    let mut number = 0;
    let session = JsonSession::new().login_with(move || {
        number += 1;
        json!(number)
    });
    let mut line = opened(session);
    line.break_off();
    line.step(2 * S);
    line.open();
    assert_eq!(line.heard(), ["1", "2"]);
}

#[test]
fn answers_by_a_field_come_in_any_order_and_others_are_messages() {
    let mut line = logged_in(quiet(), login().answers_by("id"));
    let first = line.request(json!({"get": "a"}));
    let second = line.request(json!({"get": "b", "id": "mine"}));
    assert_eq!(line.heard_json(), [json!({"get": "a", "id": 1}), json!({"get": "b", "id": "mine"})]);
    line.say(json!({"id": 7, "is": "unknown"}));
    line.say(json!({"id": "1", "is": "a text, where a number was sent"}));
    line.say(json!({"is": "without"}));
    line.say("[1, 2");
    assert_eq!(line.messages().len(), 4);
    line.say(json!({"id": "mine", "is": "b"}));
    line.say(json!({"id": 1, "is": "a"}));
    assert_eq!((is(&mut line, first), is(&mut line, second)), (json!("a"), json!("b")));
    line.say(json!({"id": 1, "is": "again"}));
    assert_eq!(line.messages().len(), 1, "a second answer is a message");
}

#[test]
fn an_id_is_taken_until_its_answer_has_come() {
    let mut line = logged_in(quiet(), login().answers_by("id"));
    let first = line.request(json!({"id": 1}));
    let twice = line.request(json!({"id": 1}));
    let given = line.request(json!({}));
    assert_eq!(line.heard_json(), [json!({"id": 1}), json!({"id": 3})]);
    assert!(answer(&mut line, twice).contains("use another value"));
    // Also when nobody waits for it any more.
    line.withdraw(first);
    let twice = line.request(json!({"id": 1}));
    assert!(answer(&mut line, twice).contains("use another value"));
    line.say(json!({"id": 1, "is": "late"}));
    assert_eq!(line.messages(), [""; 0], "the answer that nobody waits for is dropped");
    let again = line.request(json!({"id": 1}));
    line.say(json!({"id": 1, "is": "in time"}));
    assert_eq!(is(&mut line, again), "in time");
    line.say(json!({"id": 3, "is": "the other"}));
    assert_eq!(is(&mut line, given), "the other");
}

#[test]
fn a_request_that_has_no_field_to_be_answered_by_fails_and_is_not_sent() {
    let mut line = logged_in(quiet(), login().answers_by("id"));
    for request in ["[]", "no JSON", "{"] {
        let asked = line.request(request);
        assert!(answer(&mut line, asked).contains("is not a JSON object"), "{request}");
    }
    let mut plain = logged_in(quiet(), login());
    let asked = plain.request(json!({}));
    assert!(answer(&mut plain, asked).contains("pairs no answers"));
    assert_eq!((line.heard().len(), plain.heard().len()), (0, 0));
}

#[test]
fn answers_in_order_keep_the_place_of_one_that_timed_out() {
    let mut line = logged_in(quiet(), login().answers_in_order(|m| m["rtn"] == true));
    let [first, second, third] = [1, 2, 3].map(|n| line.request(json!({"n": n})));
    line.withdraw(first);
    line.say(json!({"event": 1}));
    line.say(json!({"rtn": true, "is": 1}));
    line.say(json!({"rtn": true, "is": 2}));
    line.say("{\"rtn\": true");
    line.say(json!({"rtn": true, "is": 3}));
    assert_eq!((is(&mut line, second), is(&mut line, third)), (json!(2), json!(3)));
    assert_eq!(line.answers(first).len(), 0);
    assert_eq!(line.messages(), [r#"{"event":1}"#, "{\"rtn\": true"]);
    line.say(json!({"rtn": true, "is": "nobody asked"}));
    assert_eq!(line.messages().len(), 1);
}

#[test]
fn a_request_is_lost_with_the_line_and_its_late_answer_is_not_the_next_ones() {
    for session in [login().answers_by("id"), login().answers_in_order(|m| m["is"].is_string())] {
        let mut line = logged_in(quiet(), session);
        let lost = line.request(json!({"get": "old", "id": 1}));
        line.break_off();
        assert_eq!(answer(&mut line, lost), "the server ended the connection without a close frame (1006)");
        let waits = line.request(json!({"get": "new", "id": 1}));
        line.heard();
        line.step(2 * S);
        line.open();
        log_in(&mut line);
        assert_eq!(line.heard_json(), [json!({"get": "new", "id": 1})], "never sent again");
        line.say(json!({"id": 1, "is": "new"}));
        assert_eq!(is(&mut line, waits), "new");
        assert!(line.has_ended(lost) && line.has_ended(waits));
    }
}

#[test]
fn a_request_that_was_not_written_goes_out_on_the_next_connection_only_if_the_line_had_not_got_it() {
    let mut line = Line::new(quiet(), login().answers_by("id")).unwrap();
    let waits = line.request(json!({"get": 1}));
    let withdrawn = line.request(json!({"get": 2}));
    line.withdraw(withdrawn);
    line.refuse();
    line.step(2 * S);
    line.open();
    log_in(&mut line);
    assert_eq!(line.heard_json(), [json!({"get": 1, "id": 1})]);
    line.close_client();
    assert_eq!(answer(&mut line, waits), "the client is closed: the application closed it");
    assert!(matches!(line.close_reason(), Some(CloseReason::ByCaller)));
}

/// Numbers what it sends, anew on each connection.
#[derive(Default)]
struct Numbers(u32);

impl Protocol for Numbers {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        self.0 = 0;
        cx.ready();
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        self.0 += 1;
        cx.send(format!("{}: {}", self.0, outgoing.message));
        Ok(())
    }
}

#[test]
fn what_is_sent_again_passes_through_on_send_again_and_a_request_does_not() {
    let config = ConnectionConfig::new(URL).delivery(Delivery::AtLeastOnce);
    let mut line = Line::new(config, Numbers::default()).unwrap();
    line.open();
    line.send("confirmed");
    line.step(30 * S);
    line.send("a");
    let asked = line.request("question");
    line.send("b");
    assert_eq!(line.heard(), ["1: confirmed", "2: a", "3: question", "4: b"]);
    line.break_off();
    assert!(answer(&mut line, asked).contains("1006"));
    line.step(2 * S);
    line.open();
    assert_eq!(line.heard(), ["1: a", "2: b"]);
}

#[test]
fn a_request_is_not_sent_again_whatever_has_become_of_it() {
    let config = ConnectionConfig::new(URL).delivery(Delivery::AtLeastOnce);
    let mut line = logged_in(config, login().answers_by("id"));
    let answered = line.request(json!({"id": 1}));
    let withdrawn = line.request(json!({"id": 2}));
    line.say(json!({"id": 1, "is": "done"}));
    line.withdraw(withdrawn);
    line.stall();
    let unwritten = line.request(json!({"id": 3}));
    line.send("again");
    line.break_off();
    assert_eq!(is(&mut line, answered), "done");
    assert!(answer(&mut line, unwritten).contains("1006"));
    line.heard();
    line.step(2 * S);
    line.open();
    log_in(&mut line);
    assert_eq!(line.heard(), ["again"]);
}

#[test]
fn a_json_pong_is_an_answer_to_the_heartbeat_and_no_message() {
    let config = ConnectionConfig::new(URL).heartbeat(HeartbeatConfig::json());
    let mut line = logged_in(config, login());
    line.step(30 * S);
    let now = (Line::BEGINS + line.elapsed()).as_millis();
    assert_eq!(line.heard(), [format!(r#"{{"type":"ping","timestamp":{now}}}"#)]);
    line.say(json!({"type": "pong", "timestamp": 1}));
    line.step(29 * S);
    assert_eq!((line.state(), line.messages().len()), (Authenticated, 0));
    line.step(11 * S);
    assert_eq!(trouble(&line), "heartbeat timeout: no answer for 10.0s");
}

#[test]
fn a_request_for_many_answers_has_all_that_carry_its_value_until_it_is_withdrawn() {
    let mut line = logged_in(quiet(), login().answers_by("id"));
    let subscribed = line.request_many(json!({"subscribe": "prices"}));
    let other = line.request(json!({"status": null}));
    assert_eq!(line.heard_json()[1]["id"], 2);
    line.say(json!({"id": 1, "is": "subscribed"}));
    line.say(json!({"id": 1, "is": 20}));
    line.say(json!({"id": 2, "is": "well"}));
    line.say(json!({"id": 1, "is": 21}));
    assert_eq!(is(&mut line, other), "well");
    let texts = |answers: Vec<Result<Message, Error>>| -> Vec<_> {
        answers.into_iter().map(|answer| json_is(&answer.unwrap())).collect()
    };
    assert_eq!(texts(line.answers(subscribed)), [json!("subscribed"), json!(20), json!(21)]);
    assert!(!line.has_ended(subscribed));

    // What still comes when nobody listens any more is no message for the application.
    line.withdraw(subscribed);
    line.say(json!({"id": 1, "is": 22}));
    assert!(line.answers(subscribed).is_empty() && line.messages().is_empty());

    let subscribed = line.request_many(json!({"subscribe": "prices"}));
    line.break_off();
    assert!(matches!(line.answers(subscribed)[..], [Err(Error::ConnectionLost { .. })]));
    assert!(line.has_ended(subscribed));
}

#[test]
fn where_order_alone_pairs_answers_each_request_has_one() {
    let mut line = logged_in(quiet(), login().answers_in_order(|m| m["is"] != Value::Null));
    let asked = line.request_many(json!({"list": null}));
    line.say(json!({"is": "all"}));
    line.say(json!({"is": "news"}));
    assert_eq!(is(&mut line, asked), "all");
    assert!(line.has_ended(asked));
    assert_eq!(line.messages(), [r#"{"is":"news"}"#]);
}

#[test]
fn the_server_says_how_often_it_wants_heartbeats_if_at_all() {
    let read = |value: &serde_json::Value| value["beat"].as_u64().map(Duration::from_secs);
    let session =
        || JsonSession::new().login(json!({"login": "me"})).accepted(|m| m["ok"] == true).beats_by(read);
    // The answers to JSON heartbeats would be one more thing to say.
    for config in [HeartbeatConfig::json(), HeartbeatConfig::default()] {
        let mut line =
            Line::new(ConnectionConfig::new(URL).heartbeat(config.timeout(7200 * S)), session()).unwrap();
        line.open();
        let count = |line: &mut Line| line.pings().len() + line.heard().len();
        assert_eq!(count(&mut line), 1, "the login");
        line.say(json!({"ok": true, "beat": 5}));
        line.step(15 * S);
        assert_eq!(count(&mut line), 3, "as the answer to the login says");
        line.say(json!({"beat": 0, "why": "none is wanted"}));
        assert_eq!(line.messages().len(), 1, "it is delivered all the same");
        line.step(3600 * S);
        assert_eq!((count(&mut line), line.state()), (0, tautline::ConnectionState::Authenticated));
        line.say(json!({"beat": 60}));
        line.say(json!({"other": 1}));
        line.step(60 * S);
        assert_eq!(count(&mut line), 1);
    }
}
