//! Messages that the server's application acknowledges.

use serde_json::json;
use tautline::ConnectionState::{Closed, Closing};
use tautline::{Confirmation, Delivery, Error, JsonSession, QueueLimit, Ticket, Undelivered};

use super::*;

/// The server acknowledges by `ack` and the number of a message, or `through` and the number of the last of several. A
/// message may go elsewhere by `move`.
#[derive(Default)]
struct Receipts {
    sent: Vec<Ticket>,
}

impl Receipts {
    fn ticket(&self, number: &str) -> Ticket {
        let number: u64 = number.parse().expect("a number");
        *self.sent.iter().find(|ticket| ticket.number() == number).expect("one that was sent")
    }
}

impl Protocol for Receipts {
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        if attempt.moving {
            "ws://new.example".clone_into(&mut request.url);
        }
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let text = message.as_text().unwrap_or_default();
        match text.split_once(' ') {
            Some(("ack", number)) => cx.acknowledge(self.ticket(number)),
            Some(("through", number)) => cx.acknowledge(..=self.ticket(number)),
            _ if text == "all" => cx.acknowledge(..),
            _ if text == "move" => cx.move_line(),
            _ => cx.deliver(message),
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        self.sent.push(outgoing.ticket);
        if outgoing.message.as_text() == Some("own receipt") {
            cx.acknowledge(outgoing.ticket);
        }
        cx.send(outgoing.message);
        Ok(())
    }
}

fn acknowledged() -> ConnectionConfig {
    quiet().confirmation(Confirmation::Acknowledgement)
}

fn line(config: ConnectionConfig) -> Line {
    let mut line = Line::new(config, Receipts::default()).unwrap();
    line.open();
    line
}

fn confirmed(line: &Line) -> (u64, u64) {
    (line.confirmed_up_to().map_or(0, Ticket::number), line.stats().messages_confirmed)
}

#[test]
fn acknowledgements_count_in_any_order_and_once() {
    let mut line = line(acknowledged());
    let tickets = ["a", "b", "c", "d"].map(|text| line.send(text));
    line.say("ack 3");
    line.say("ack 3");
    assert_eq!(confirmed(&line), (0, 1));
    line.say("ack 1");
    assert_eq!(confirmed(&line), (1, 2));
    line.say("through 2");
    assert_eq!(confirmed(&line), (3, 3), "the third was acknowledged before");
    line.say("all");
    assert_eq!(confirmed(&line), (4, 4));
    line.break_off();
    assert!(line.doubtful().is_empty() && tickets.len() == 4);
}

#[test]
fn what_is_not_acknowledged_is_in_doubt_though_the_server_answers_pings() {
    let config = ConnectionConfig::new(URL).confirmation(Confirmation::Acknowledgement);
    let mut line = line(config);
    line.send("a");
    line.send("b");
    line.say("ack 2");
    line.step(31 * S);
    assert!(!line.pings().is_empty(), "the heartbeats go on");
    assert_eq!(confirmed(&line), (0, 1));
    line.break_off();
    assert_eq!(line.doubtful().to_string(), "#1");
    assert_eq!(confirmed(&line), (2, 1), "the fate of both is known");
}

#[test]
fn at_least_once_what_is_not_acknowledged_is_sent_again_and_an_acknowledgement_may_come_late() {
    let mut line = line(acknowledged().delivery(Delivery::AtLeastOnce));
    for text in ["a", "b", "c"] {
        line.send(text);
    }
    assert_eq!(line.heard(), ["a", "b", "c"]);
    line.say("ack 2");
    assert_eq!(line.stats().messages_queued, 2);
    line.break_off();
    line.step(4 * S);
    line.open();
    assert_eq!(line.heard(), ["a", "c"]);
    line.say("all");
    assert_eq!((confirmed(&line), line.stats().bytes_queued), ((3, 3), 0));
}

#[test]
fn at_least_once_an_acknowledgement_is_never_forgotten_however_many_came_out_of_order() {
    let outbox = QueueLimit::new(10_000, 1 << 20);
    let mut line = line(acknowledged().delivery(Delivery::AtLeastOnce).outbox(outbox));
    for n in 1..=6_000 {
        line.send(format!("message {n}"));
    }
    for n in (2..=6_000).step_by(2).chain((1..=6_000).step_by(2)) {
        line.say(format!("ack {n}"));
    }
    assert_eq!(confirmed(&line), (6_000, 6_000));
}

#[test]
fn what_was_never_sent_can_not_be_acknowledged() {
    let mut line = line(acknowledged().delivery(Delivery::AtLeastOnce));
    line.say("all");
    line.send("a");
    assert_eq!((confirmed(&line), line.heard()), ((0, 0), vec!["a".to_owned()]));
    line.break_off();
    line.send("b");
    line.step(4 * S);
    line.open();
    assert_eq!(line.heard(), ["a", "b"], "neither was taken for delivered");
}

#[test]
fn a_hook_that_acknowledges_what_it_is_given_to_send_loses_nothing_else() {
    let mut line = line(acknowledged().delivery(Delivery::AtLeastOnce));
    line.send("own receipt");
    line.send("b");
    line.break_off();
    line.step(4 * S);
    line.heard();
    line.open();
    assert_eq!(line.heard(), ["own receipt", "b"]);
    assert_eq!(confirmed(&line), (1, 1), "it was sent on the first connection");
    line.break_off();
    line.step(4 * S);
    line.open();
    assert_eq!(line.heard(), ["b"]);
}

#[test]
fn a_close_waits_for_the_acknowledgements_for_half_of_its_time() {
    for acknowledges in [true, false] {
        let mut line = line(acknowledged());
        line.send("a");
        line.close_client();
        assert_eq!((line.state(), line.goodbye()), (Closing, None));
        if acknowledges {
            line.say("ack 1");
        } else {
            line.step(1499 * MS);
            assert_eq!(line.goodbye(), None);
            line.step(MS);
        }
        assert!(line.goodbye().is_some());
        assert_eq!(line.state(), Closed);
        let left = line.left().unwrap();
        assert_eq!(left.maybe_delivered.is_empty(), acknowledges, "{left:?}");
        assert!(left.unconfirmed.is_empty(), "at most once, nothing is kept");
    }
}

#[test]
fn at_least_once_what_is_left_comes_back_with_its_payloads_and_tickets() {
    let mut line = line(acknowledged().delivery(Delivery::AtLeastOnce));
    let [_, b, c] = ["a", "b", "c"].map(|text| line.send(text));
    line.say("ack 1");
    line.break_off();
    let d = line.send("d");
    line.terminate();
    let left = line.left().unwrap();
    assert_eq!(left.unconfirmed, [(b, "b".into()), (c, "c".into())]);
    assert_eq!(left.never_written, [(d, "d".into())]);
    assert_eq!(left.maybe_delivered.to_string(), "#2 to #3");
    assert_eq!(line.stats().messages_queued, 0, "what was left was returned");
}

#[test]
fn a_move_waits_for_the_acknowledgements_and_the_old_server_may_send_them_late() {
    let mut line = line(acknowledged().delivery(Delivery::AtLeastOnce));
    line.send("a");
    line.say("move");
    line.open();
    assert!(line.is_moving(), "the first message is not acknowledged");
    line.say("ack 1");
    assert!(!line.is_moving());
    line.send("b");
    assert_eq!(line.heard(), ["b"]);
    line.answer_close(false);
    line.say("move");
    line.open();
    line.step(3 * S);
    assert!(!line.is_moving(), "after close_timeout it goes on");
    assert_eq!(line.heard(), ["b"], "sent again");
    line.say_old("ack 2");
    assert_eq!(confirmed(&line), (2, 2));
    line.break_off();
    line.step(4 * S);
    line.open();
    assert!(line.heard().is_empty());
}

#[test]
fn an_answered_request_acknowledges_itself() {
    let session = JsonSession::new().answers_by("id");
    let mut line = Line::new(acknowledged(), session).unwrap();
    line.open();
    line.request(json!({"id": 1}));
    line.request(json!({"id": 2}));
    line.say(json!({"id": 2}));
    assert_eq!(confirmed(&line), (0, 1));
    line.say(json!({"id": 1}));
    assert_eq!(confirmed(&line), (2, 2));
}

#[test]
fn a_json_session_pairs_acknowledgements_with_messages_by_their_fields() {
    let session = JsonSession::new().acknowledged_by("seq", "ack").answers_by("id");
    let mut line = Line::new(acknowledged().delivery(Delivery::AtLeastOnce), session).unwrap();
    line.open();
    line.send(json!({"text": "a"}));
    line.send(json!({"text": "b", "seq": "mine"}));
    line.send("no JSON");
    line.request(json!({"id": "q"}));
    let heard = line.heard();
    assert_eq!(heard[0], r#"{"seq":1,"text":"a"}"#);
    assert_eq!(heard[1..], [r#"{"seq":"mine","text":"b"}"#, "no JSON", r#"{"id":"q"}"#]);
    line.say(json!({"ack": "mine"}));
    line.say(json!({"ack": "nobody's"}));
    assert_eq!(line.messages(), [r#"{"ack":"nobody's"}"#]);
    assert_eq!(confirmed(&line), (0, 1));
    line.break_off();
    line.step(4 * S);
    line.open();
    assert_eq!(line.heard(), [r#"{"seq":1,"text":"a"}"#, "no JSON"], "with the same number");
    line.say(json!({"ack": 1}));
    assert_eq!(confirmed(&line).0, 2);
}

#[test]
fn an_acknowledgement_that_is_repeated_is_no_message_and_one_before_the_login_counts() {
    let session = JsonSession::new()
        .login(json!({"type": "login"}))
        .accepted(|m| m["type"] == "welcome")
        .acknowledged_by("seq", "ack");
    let mut line = Line::new(acknowledged().delivery(Delivery::AtLeastOnce), session).unwrap();
    line.open();
    line.say(json!({"type": "welcome"}));
    line.send(json!({"text": "a"}));
    line.send(json!({"text": "b"}));
    line.say(json!({"ack": 1}));
    line.say(json!({"ack": 1}));
    assert_eq!((line.messages(), confirmed(&line)), (Vec::new(), (1, 1)));
    line.break_off();
    line.step(4 * S);
    line.open();
    line.heard();
    line.say(json!({"ack": 2}));
    line.say(json!({"type": "welcome"}));
    assert_eq!((line.messages(), confirmed(&line), line.heard()), (Vec::new(), (2, 2), Vec::new()));
}

#[test]
fn a_value_that_is_in_use_again_on_the_next_connection_confirms_the_message_of_that_one() {
    // The application numbers its messages anew on each connection, and the first one is lost.
    let session = JsonSession::new().acknowledged_by("seq", "ack");
    let mut line = Line::new(acknowledged(), session).unwrap();
    line.open();
    line.send(json!({"seq": 1, "text": "lost"}));
    line.break_off();
    assert_eq!(line.doubtful().to_string(), "#1");
    line.step(4 * S);
    line.open();
    line.send(json!({"seq": 1, "text": "next"}));
    line.say(json!({"ack": 1}));
    assert_eq!(confirmed(&line), (2, 1));
}

#[test]
fn what_is_acknowledged_while_the_line_closes_counts_though_nobody_takes_its_messages() {
    for closes in [Line::close_client, Line::reconnect, Line::suspend_line] {
        let mut line = line(acknowledged().events(QueueLimit::new(1, 1000)));
        line.stop_taking();
        line.send("a");
        line.send("b");
        for text in ["taken late", "dropped", "ack 1", "dropped, too", "ack 2"] {
            line.say(text);
        }
        assert!(line.is_reading_paused());
        closes(&mut line);
        assert_eq!(confirmed(&line), (2, 2), "{}", line.state());
        assert!(line.doubtful().is_empty() && line.left().is_none_or(Undelivered::is_empty));
        line.take_all();
        assert_eq!(line.messages(), ["taken late"]);
    }
}
