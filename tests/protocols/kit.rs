//! The kit itself does what it says.
#![expect(clippy::disallowed_methods, reason = "a test looks at what it panics with")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;
use tautline::ConnectionState::{Authenticated, Closed, Closing, Connected, Connecting, Disconnected};
use tautline::{
    CloseReason, Delivery, DisconnectReason, Event, JsonSession, QueueLimit, SendErrorKind, SendOptions,
    Timings, WhileDown,
};

use super::*;

/// The sentence with which a call panics.
fn says(call: impl FnOnce()) -> String {
    let said = catch_unwind(AssertUnwindSafe(call)).expect_err("a panic");
    said.downcast_ref::<String>()
        .cloned()
        .or_else(|| said.downcast_ref::<&str>().map(|s| (*s).into()))
        .unwrap()
}

#[test]
fn an_attempt_asks_and_ends_as_the_test_says() {
    let config = quiet().header("X-Key", "1").subprotocol("a").subprotocol("b");
    let mut line = Line::new(config, Obedient { retry: Some(Retry::Backoff), ..Obedient::ready() }).unwrap();
    let ask = line.attempt().clone();
    assert_eq!((ask.url.as_str(), ask.subprotocols), (URL, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(ask.headers, [("X-Key".to_owned(), "1".to_owned())]);
    line.refuse();
    assert!(trouble(&line).starts_with("connecting to test.example:80:"), "{}", trouble(&line));
    line.step(2 * S);
    line.reject(403);
    assert!(
        trouble(&line).starts_with("test.example:80 answered 403 to the WebSocket upgrade;"),
        "{}",
        trouble(&line)
    );
    line.step(line.next_attempt().unwrap());
    assert_eq!(line.state(), Connecting);
    line.step(10 * S);
    assert!(trouble(&line).contains("timed out after 10s"), "{}", trouble(&line));
    line.reconnect_now();
    line.open_with("b");
    let subprotocol = |event: &Event| match event {
        Event::Connected { handshake, attempts, .. } => Some((handshake.subprotocol.clone(), *attempts)),
        _ => None,
    };
    assert_eq!(line.events().iter().find_map(subprotocol), Some((Some("b".into()), 4)));
}

#[test]
fn a_server_answers_with_headers_and_in_no_time() {
    let mut line = Line::new(quiet().subprotocol("a"), Obedient::ready()).unwrap();
    line.open_with_headers(&[("X-Node", "7"), ("sec-websocket-protocol", "a")]);
    let handshake = line.events().iter().find_map(|event| match event {
        Event::Connected { handshake, .. } => Some(handshake.clone()),
        _ => None,
    });
    let handshake = handshake.unwrap();
    assert_eq!((handshake.subprotocol.as_deref(), handshake.headers.get("x-node")), (Some("a"), Some("7")));
    assert_eq!(handshake.timings, Timings::default());
}

#[test]
fn an_attempt_and_a_move_fail_without_a_subprotocol_that_is_required() {
    let config = quiet().subprotocol("a").require_subprotocol(true);
    let mut line =
        Line::new(config, Obedient { elsewhere: "ws://new.example", ..Obedient::ready() }).unwrap();
    line.open();
    let says = "test.example:80 did not answer the WebSocket upgrade as it should: it chose no subprotocol, and \
                require_subprotocol is true; offered: a";
    assert_eq!(trouble(&line), says);
    line.step(line.next_attempt().unwrap());
    line.open_with("a");
    line.say("move");
    line.open();
    assert_eq!((line.is_moving(), line.state()), (false, Connected));
    let told = line.events();
    let why = told.iter().rev().find_map(|event| match event {
        Event::Message(message) => Some(message.to_string()),
        _ => None,
    });
    assert!(why.unwrap().ends_with("require_subprotocol is true; offered: a"), "{told:?}");
    line.say("move");
    line.open_with("a");
    line.say_beside("ready");
    assert!(line.events().iter().any(|event| matches!(event, Event::Moved { .. })));
}

#[test]
fn a_fetch_completes_the_request_and_may_fail() {
    let fetch = |mut request: UpgradeRequest| {
        request.url = if request.url == URL { "ws://fetched.example".into() } else { "nonsense".into() };
        Ok(request)
    };
    let line = Line::with_fetch(quiet(), Obedient::ready(), fetch).unwrap();
    assert_eq!(line.attempt().url, "ws://fetched.example");
    let line = Line::with_fetch(quiet(), Obedient::ready(), |_| panic!("on purpose")).unwrap();
    assert_eq!(trouble(&line), "the application's fetch callback panicked");
    let line = Line::with_fetch(ConnectionConfig::new("ws://other"), Obedient::ready(), fetch).unwrap();
    assert!(!line.is_dialling() && trouble(&line).contains("URL"));
    // With a fetch there are fresh credentials to be had, once.
    let mut line = Line::with_fetch(quiet(), Obedient::ready(), fetch).unwrap();
    line.reject(401);
    assert!(line.is_dialling());
    line.reject(401);
    assert!(matches!(line.close_reason(), Some(CloseReason::NotRetried(_))));
}

#[test]
fn time_goes_by_in_steps_and_everything_falls_due_in_its_order() {
    let mut line = opened(Obedient { on_timer: "timer 1", ..Obedient::ready() });
    line.say("timer 1");
    line.step(10 * S);
    assert_eq!(line.heard().len(), 10, "each sets the next");
    line.say("clock random");
    line.set_random(0.25);
    line.say("random");
    assert_eq!(line.heard(), [(Line::BEGINS + 10 * S).as_secs().to_string(), "0.5".into(), "0.25".into()]);
    assert_eq!(line.elapsed(), 10 * S);
    // The backoff draws from the same: 1 s and a quarter of the way to 3 s.
    line.break_off();
    assert_eq!(line.next_attempt(), Some(1500 * MS));
    line.step(S);
    assert_eq!(line.next_attempt(), Some(500 * MS));
    line.step(S);
    assert!(line.is_dialling() && line.next_attempt().is_none());
}

#[test]
fn pings_and_pongs_go_both_ways() {
    let mut line = Line::new(URL, Obedient::ready()).unwrap();
    line.open();
    line.ping("twelve bytes");
    assert_eq!(line.pongs(), [b"twelve bytes"]);
    line.step(60 * S);
    assert_eq!((line.pings().len(), line.state()), (2, Connected));
    line.answer_pings(false);
    line.step(30 * S);
    let ping = line.pings().remove(0);
    line.step(9 * S);
    line.pong(ping);
    line.step(29 * S);
    assert_eq!(line.state(), Connected, "the answer came in time");
    line.step(2 * S);
    assert_eq!(trouble(&line), "heartbeat timeout: no answer for 10.0s");
}

#[test]
fn a_connection_breaks_at_this_byte() {
    // The frame of "abcd" has ten bytes. What goes out together shares its fate, as on a real line.
    for (bytes, heard, doubtful) in [(0, 0, 0), (1, 0, 3), (9, 0, 3), (10, 1, 3), (19, 1, 3), (20, 2, 3)] {
        let mut line = opened(Obedient::ready());
        line.say("hold 1");
        line.send("abcd");
        line.send("efgh");
        line.send("ijkl");
        line.break_after(bytes);
        line.step(S);
        assert_eq!((line.state(), line.heard().len()), (Disconnected, heard), "{bytes}");
        assert_eq!(line.doubtful().len(), doubtful, "{bytes}");
        line.step(2 * S);
        line.open();
        let rest = line.heard();
        assert_eq!(rest.len() as u64, 3 - doubtful, "{rest:?}");
    }
    // The sizes of the heads.
    for (size, frame) in [(0, 6), (125, 131), (126, 134), (0xFFFF, 0x1_0007), (0x1_0000, 0x1_000E)] {
        let mut line = opened(Obedient::ready());
        line.break_after(frame - 1);
        line.send("x".repeat(size));
        assert_eq!((line.state(), line.heard().len()), (Disconnected, 0));
        let mut line = opened(Obedient::ready());
        line.break_after(frame + 1);
        line.send("x".repeat(size));
        assert_eq!((line.state(), line.heard().len()), (Connected, 1));
    }
    // In the login, where it is about the connection to come.
    let mut line = Line::new(quiet(), Obedient { on_open: "send login", ..Obedient::default() }).unwrap();
    line.break_after(7);
    line.open();
    assert_eq!((line.state(), line.heard().len()), (Disconnected, 0));
    line.step(2 * S);
    line.open();
    assert_eq!((line.state(), line.heard()), (Connected, vec!["login".to_owned()]), "it was about that one");
}

#[test]
fn a_server_that_stalls_takes_nothing_and_then_everything() {
    let mut line = opened(Obedient::ready());
    line.stall();
    line.send("one");
    line.step(29 * S);
    assert_eq!(line.heard(), [""; 0]);
    line.resume();
    assert_eq!(line.heard(), ["one"]);
    line.stall();
    line.send("two");
    line.step(30 * S);
    assert_eq!(trouble(&line), "the server took no more bytes for 30.0s");
    line.step(2 * S);
    line.open();
    assert_eq!(line.heard(), ["two"], "never written, and another connection takes it");
}

#[test]
fn a_stalled_line_holds_so_much_and_the_outbox_the_rest() {
    let mut line = opened(Obedient::ready());
    line.stall();
    for _ in 0..5 {
        line.send(vec![0; 40_000]);
    }
    line.resume();
    let sizes: Vec<_> = line.heard_messages().iter().map(Message::len).collect();
    assert_eq!(sizes, [40_000; 5]);

    let mut line = Line::new(quiet(), Obedient::ready()).unwrap();
    let asked = [1, 2, 3].map(|n| line.request(vec![n; 40_000]));
    line.stall();
    line.open();
    line.break_off();
    let failed = asked.map(|asked| line.answers(asked).len());
    assert_eq!(failed, [1, 1, 0], "the third waits for another connection");
}

#[test]
fn fragments_are_heard_as_one_message() {
    let mut line = Line::new(quiet().fragment(4), Obedient::ready()).unwrap();
    line.open();
    line.send("größer als vier");
    line.send([7; 9]);
    let heard = line.heard_messages();
    assert_eq!((heard[0].as_text(), heard[1].as_bytes()), (Some("größer als vier"), &[7; 9][..]));
    // Fourteen bytes in four frames.
    line.break_after(14 + 4 * 6 - 1);
    line.send("fourteen bytes");
    assert_eq!((line.heard().len(), line.state()), (0, Disconnected));
}

#[test]
fn each_side_may_close() {
    let mut line = opened(Obedient::ready());
    line.close(4004, "no");
    assert_eq!(trouble(&line), "the server closed the line with close code 4004: \"no\"");
    assert_eq!(line.goodbye().map(|frame| frame.code), Some(4004), "the client repeats it");
    line.step(2 * S);
    line.open();
    assert_eq!(line.goodbye(), None);

    let mut line = opened(Obedient { on_closing: "send bye", ..Obedient::ready() });
    line.send("last");
    line.close_client();
    assert_eq!((line.state(), line.heard()), (Closed, vec!["last".to_owned(), "bye".to_owned()]));
    assert!(matches!(line.close_reason(), Some(CloseReason::ByCaller)));
    assert!(matches!(line.events().last(), Some(Event::Closed { .. })));

    // A server that does not answer the close frame has three seconds; one that closes at last, none.
    for closes in [false, true] {
        let mut line = opened(Obedient::ready());
        line.answer_close(false);
        line.close_client();
        line.step(2 * S);
        assert_eq!((line.state(), line.goodbye().map(|frame| frame.code)), (Closing, Some(1000)));
        line.say("still heard");
        assert_eq!(line.messages(), ["still", "heard"]);
        if closes {
            line.close(1000, "");
        } else {
            line.step(S);
        }
        assert_eq!(line.state(), Closed);
    }

    // A server that takes nothing does not see the client's.
    let mut line = opened(Obedient::ready());
    line.stall();
    line.send("never");
    line.close(1001, "");
    assert_eq!((line.state(), line.goodbye()), (Closing, None));
    line.step(S);
    assert_eq!((line.state(), line.heard().len()), (Disconnected, 0));
    line.step(2 * S);
    line.open();
    assert_eq!(line.heard(), ["never"]);
}

#[test]
fn what_was_left_is_there_after_the_end() {
    let mut line = Line::new(quiet(), Obedient::ready()).unwrap();
    line.send("never");
    let asked = line.request("is not left over");
    line.terminate();
    assert_eq!(
        (answer(&mut line, asked).as_str(), line.is_dialling()),
        ("the client is closed: the application closed it", false)
    );
    let left = line.left().expect("it is closed");
    assert_eq!(left.never_written[0].1, "never".into());
    assert!(matches!(line.try_send("late").unwrap_err().kind(), SendErrorKind::Closed));
    assert_eq!(trouble(&line), "the client is closed: the application closed it");

    let mut line = opened(Obedient::ready());
    line.say("hold 9");
    line.send("held");
    line.request("neither");
    line.terminate();
    assert_eq!(line.left().expect("it is closed").never_written[0].1, "held".into());
}

#[test]
fn the_outbox_is_bounded_and_may_refuse() {
    let config = quiet().outbox(QueueLimit::new(2, 1000)).while_down(WhileDown::Refuse);
    let mut line = Line::new(config, Obedient::ready()).unwrap();
    assert!(matches!(line.try_send("down").unwrap_err().kind(), SendErrorKind::NotReady { .. }));
    line.open();
    line.stall();
    line.send("1");
    line.send("2");
    assert!(matches!(line.try_send("3").unwrap_err().kind(), SendErrorKind::Full { .. }));
    line.resume();
    line.send("3");
    assert_eq!(line.heard(), ["1", "2", "3"]);
}

#[test]
fn messages_that_waited_too_long_expire() {
    let mut line = Line::new(quiet().max_age(5 * S), Obedient::ready()).unwrap();
    line.send("old");
    line.step(5 * S);
    assert!(line.events().iter().any(|event| matches!(event, Event::Expired { .. })));
    line.send("young");
    line.open();
    assert_eq!(line.heard(), ["young"]);
}

#[test]
fn at_least_once_what_no_pong_confirmed_comes_again() {
    let mut line =
        Line::new(ConnectionConfig::new(URL).delivery(Delivery::AtLeastOnce), Obedient::ready()).unwrap();
    line.open();
    line.send("confirmed");
    line.step(30 * S);
    line.send("not");
    line.break_off();
    assert_eq!(line.heard(), ["confirmed", "not"]);
    line.step(2 * S);
    line.open();
    assert_eq!(line.heard(), ["not"]);
}

#[test]
fn work_is_done_or_answered_by_the_test() {
    let mut line = opened(Obedient::ready());
    line.say("work 1 work 2 work 3");
    assert_eq!(line.work(), [1, 2, 3]);
    line.finish_work(2, Ok("send made-up"));
    line.do_work(1);
    line.finish_work(3, Err::<Message, _>(Error::session("no")));
    assert_eq!(line.heard(), ["made-up", "done-1"]);
    assert_eq!(line.messages(), ["the", "session", "can't", "go", "on:", "no"]);
    line.say("work 4");
    line.break_off();
    assert_eq!(line.work(), [0; 0], "it dies with the connection");
}

fn mover() -> Line {
    opened(Obedient { elsewhere: "ws://new.example", ..Obedient::ready() })
}

#[test]
fn a_line_moves_to_another_server() {
    let mut line = mover();
    line.send("old");
    line.say("move");
    assert!(line.is_moving() && line.is_dialling());
    assert_eq!(line.attempt().url, "ws://new.example");
    line.send("still old");
    line.open();
    line.say_beside("send hello");
    assert_eq!(line.heard_beside(), ["hello"]);
    line.say("meanwhile");
    line.answer_close(false);
    line.say("number");
    line.say_beside("number");
    line.say_beside("send again ready");
    assert!(!line.is_moving());
    line.say_old("late number");
    line.say("number");
    assert_eq!(line.messages(), ["meanwhile", "1", "2", "late", "1", "2"], "each connection has a number");
    line.send("new");
    assert_eq!(line.heard(), ["again", "new"]);
    assert_eq!(line.heard_old(), ["old", "still old"]);
    line.step(3 * S);
    assert!(says(|| line.say_old("too late")).contains("no old connection"));
    assert_eq!(line.events().iter().filter(|event| matches!(event, Event::Moved { .. })).count(), 1);
    line.break_off();
    assert_eq!(line.state(), Disconnected, "that was the new one");
}

#[test]
fn what_the_old_servers_heard_is_kept() {
    let mut line = mover();
    for server in ["first", "second"] {
        line.send(server);
        line.say("move");
        line.open();
        line.say_beside("ready");
    }
    line.send("third");
    assert_eq!(
        (line.heard_old(), line.heard()),
        (vec!["first".to_owned(), "second".into()], vec!["third".into()])
    );
}

#[test]
fn a_move_that_fails_leaves_the_line_as_it_is() {
    let failures: [fn(&mut Line); 5] = [
        Line::refuse,
        |line| line.reject(503),
        |line| {
            line.open();
            line.close_beside(4000, "no");
        },
        |line| {
            line.open();
            line.break_off_beside();
        },
        |line| {
            line.open();
            line.say_beside("fail");
        },
    ];
    for fail in failures {
        let mut line = mover();
        line.say("move");
        fail(&mut line);
        assert!(!line.is_moving() && line.state() == Connected);
        assert_eq!(line.messages().len(), 1, "the protocol is told");
        line.say("still");
        assert_eq!(line.messages(), ["still"]);
    }
}

#[test]
fn a_line_that_closes_moves_no_more() {
    for opened in [false, true] {
        let mut line = mover();
        line.say("move");
        if opened {
            line.open();
        }
        line.answer_close(false);
        line.say("close 4000");
        assert!(!line.is_moving() && line.state() == Closing);
        line.step(3 * S);
        assert_eq!(line.state(), Disconnected);
        assert!(!line.events().iter().any(|event| matches!(event, Event::Moved { .. })));
    }
}

#[test]
fn a_misuse_says_what_to_do() {
    let mut line = Line::new(quiet().subprotocol("a"), Obedient::default()).unwrap();
    assert!(says(|| line.say("x")).contains("open() the attempt, or step()"));
    assert!(says(|| line.open_with("b")).contains("offers [\"a\"]"));
    assert!(says(|| line.open_with_headers(&[("X Y", "1")])).contains(r#"no server sends the header "X Y""#));
    assert!(says(|| line.open_with_headers(&[("X", "a\nb")])).contains(r#"with the value "a\nb""#));
    assert!(says(|| line.reject(101)).contains("200 to 599"));
    assert!(says(|| line.say_beside("x")).contains("move_line"));
    line.refuse();
    assert!(says(|| line.open()).contains("the next is due in 2s"));
    assert!(says(|| line.stall()).contains("open() the attempt, or step()"));
    line.reconnect_now();
    line.open();
    assert!(says(|| line.open()).contains("the line is CONNECTED"));
    assert!(says(|| line.do_work(1)).contains("no work 1"));
    assert!(says(|| line.ping([0; 126])).contains("125 bytes"));
    assert!(says(|| line.close(1006, "")).contains("1006 may not be sent"));
    assert!(says(|| line.set_random(1.0)).contains("below 1"));
    line.say("ready send text");
    assert!(says(|| drop(line.heard_json())).contains("text, which is no JSON"));
    let ticket = line.send("x");
    assert!(says(|| drop(line.answers(ticket))).contains("#1 is no request"));
    line.close_client();
    assert!(says(|| assert!(line.send("x").number() > 0)).contains("is closed"));
    assert!(says(|| line.open()).contains("the line is CLOSED"));
}

#[test]
fn attempts_that_are_made_at_once_and_fail_at_once_take_their_time() {
    let protocol = Obedient { elsewhere: "fails", retry: Some(Retry::Now), ..Obedient::default() };
    let mut line = Line::new(quiet(), protocol).unwrap();
    assert_eq!(line.next_attempt(), Some(100 * MS), "the first came at once");
    line.step(S);
    let losses = line.events().iter().filter(|event| matches!(event, Event::Disconnected { .. })).count();
    assert_eq!(losses, 12, "two at once, and then ten a second");
}

#[test]
fn a_move_that_fails_at_once_is_not_tried_again_in_the_same_breath() {
    struct Restless(bool);

    impl Protocol for Restless {
        fn prepare(&mut self, attempt: &Attempt<'_>, _: &mut UpgradeRequest) -> Result<(), Error> {
            if attempt.moving && self.0 { Err(Error::session("no URL")) } else { Ok(()) }
        }

        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.ready();
            Ok(())
        }

        fn on_message(&mut self, cx: &mut Context<'_>, _: Message) -> Result<(), Error> {
            cx.move_line();
            Ok(())
        }

        fn on_move_failed(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<(), Error> {
            cx.move_line();
            cx.deliver(error.to_string());
            cx.set_timer(1, S);
            Ok(())
        }

        fn on_timer(&mut self, cx: &mut Context<'_>, _: u32) -> Result<(), Error> {
            self.0 = false;
            cx.move_line();
            Ok(())
        }
    }

    let mut line = opened(Restless(true));
    line.say("move");
    assert_eq!(line.messages(), ["the session can't go on: no URL"], "once");
    line.step(S);
    line.refuse();
    assert_eq!((line.messages().len(), line.is_moving()), (1, false));
    line.step(S);
    assert!(line.is_moving() && line.is_dialling(), "a timer tries again");
}

#[test]
fn a_move_does_not_wait_for_a_confirmation_that_can_not_come() {
    let protocol = Obedient { elsewhere: "ws://new.example", ..Obedient::ready() };
    let mut line = Line::new(ConnectionConfig::new(URL), protocol).unwrap();
    line.open();
    line.answer_pings(false);
    let ticket = line.send("old");
    line.say("move");
    line.open();
    line.say_beside("ready");
    line.pong(b"");
    assert!(line.is_moving(), "it may have come unasked");
    assert_eq!(line.pings().len(), 2);
    line.pong(b"");
    assert!(!line.is_moving());
    let moved = line.events().into_iter().find_map(|event| match event {
        Event::Moved { maybe_delivered, .. } => Some(maybe_delivered),
        _ => None,
    });
    assert!(moved.is_some_and(|doubtful| doubtful.contains(ticket)));
}

#[test]
fn what_comes_late_on_the_old_connection_touches_the_new_one_in_nothing() {
    for late in ["send x", "timer 1", "close 4000", "hold 9", "fail", "work 1"] {
        let mut line = mover();
        line.say("move");
        line.open();
        line.answer_close(false);
        line.say_beside("timer 1 ready");
        line.say_old(format!("late {late}"));
        line.send("mine");
        assert_eq!(
            (line.messages(), line.heard()),
            (vec!["late".to_owned()], vec!["mine".to_owned()]),
            "{late}"
        );
        assert_eq!(line.work(), [0; 0]);
        line.step(S);
        assert_eq!((line.heard(), line.state()), (vec!["timer 1".to_owned()], Connected), "{late}");
    }
    let mut line = mover();
    line.say("move");
    line.open();
    line.answer_close(false);
    line.say_beside("ready");
    line.say_old("stop");
    assert_eq!(line.state(), Closing, "but a stop is the client's");
}

#[test]
fn an_error_goes_before_a_close_and_a_stop_before_everything() {
    let refused = "the server refused the login: as told";
    for (words, why, closed) in [
        ("close 4000 fail", "the session can't go on: as told", false),
        ("stop fail", refused, true),
        ("close 4000 stop", refused, true),
        ("stop close 4000", refused, true),
    ] {
        let mut line = opened(Obedient::ready());
        line.say(words);
        assert_eq!(trouble(&line), why, "{words}");
        assert_eq!(line.close_reason().is_some(), closed, "{words}");
    }
}

#[test]
fn a_close_waits_for_what_is_held_and_then_says_goodbye_without_it() {
    let mut line = opened(Obedient { on_closing: "send bye", ..Obedient::ready() });
    line.say("hold 3600");
    line.send("held");
    line.close_client();
    line.step(1_499 * MS);
    assert_eq!((line.state(), line.heard()), (Closing, vec![]));
    line.step(MS);
    assert_eq!((line.state(), line.heard()), (Closed, vec!["bye".to_owned()]));
    assert_eq!(line.goodbye().map(|frame| frame.code), Some(1000));
    let left = line.left().unwrap();
    assert_eq!((left.never_written.len(), left.maybe_delivered.len()), (1, 0));

    // One that ends in time is waited for.
    let mut line = opened(Obedient::ready());
    line.say("hold 1");
    line.send("held");
    line.close_client();
    line.step(S);
    assert_eq!((line.state(), line.heard()), (Closed, vec!["held".to_owned()]));
    assert!(line.left().unwrap().never_written.is_empty());
}

#[test]
fn a_beat_that_is_due_with_the_goodbye_goes_out_before_it() {
    // Half of the time for a close is for what is held.
    let beats = HeartbeatConfig::json().interval(1_500 * MS);
    let protocol = Obedient { on_closing: "send bye", ..Obedient::ready() };
    let mut line = Line::new(quiet().heartbeat(beats), protocol).unwrap();
    line.open();
    line.say("hold 3600");
    line.send("held");
    line.close_client();
    line.step(1_500 * MS);
    let heard = line.heard();
    assert_eq!(
        (line.state(), heard.len(), heard.last().map(String::as_str)),
        (Closed, 2, Some("bye")),
        "{heard:?}"
    );
}

#[test]
fn a_message_that_is_too_large_is_a_violation_here_too() {
    let mut line = Line::new(quiet().max_message_size(10), Obedient::ready()).unwrap();
    line.open();
    line.say("a message of more than that");
    assert_eq!(line.goodbye().map(|frame| frame.code), Some(1009));
    assert_eq!(line.messages(), [""; 0]);
}

#[test]
fn a_line_is_the_same_each_time() {
    let run = || {
        let mut line = Line::new(URL, Obedient { on_timer: "timer 1 random", ..Obedient::ready() }).unwrap();
        line.refuse();
        line.step(5 * S);
        line.open();
        line.say("timer 1 random clock");
        line.step(100 * S);
        line.break_after(100);
        line.send("x".repeat(100));
        let down = matches!(
            line.events().pop(),
            Some(Event::Disconnected { reason: DisconnectReason::Lost(_), .. })
        );
        (down, line.heard(), line.pings(), line.next_attempt(), line.state() == Authenticated)
    };
    assert_eq!(run(), run());
}

/// A line that holds this many messages, with heartbeats.
fn narrow(messages: usize) -> Line {
    let config = ConnectionConfig::new(URL).events(QueueLimit::new(messages, 1000));
    let mut line = Line::new(config, JsonSession::new().answers_by("id")).unwrap();
    line.open();
    line
}

#[test]
fn an_application_that_takes_nothing_pauses_reading_and_nothing_else() {
    let mut line = narrow(3);
    line.events();
    line.stop_taking();
    for n in 1..=3 {
        assert!(!line.is_reading_paused());
        line.say(n.to_string());
    }
    assert!(line.is_reading_paused());
    line.ping("unread");
    line.say("4");
    line.send("goes out");
    assert_eq!((line.heard(), line.pongs().len(), line.events().len()), (vec!["goes out".to_owned()], 0, 0));
    line.answer_pings(false);
    line.step(120 * S);
    assert_eq!((line.pings().len(), line.state()), (4, Connected), "heartbeats go on and nobody is judged");
    line.take(1);
    assert_eq!((line.messages(), line.pongs().len()), (vec!["1".to_owned()], 1), "the ping was next");
    assert!(line.is_reading_paused(), "the next message has taken the room");
    line.say("5");
    line.take(0);
    assert!(line.messages().is_empty() && line.is_reading_paused());
    line.take(10);
    line.say("6");
    assert_eq!(line.messages(), ["2", "3", "4", "5", "6"], "now and as they come");
    line.step(40 * S);
    assert!(trouble(&line).contains("heartbeat timeout"), "and the server is judged again");
}

/// Delivers each message so many times.
struct Echoes(usize);

impl Protocol for Echoes {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        (0..self.0).for_each(|_| cx.deliver(message.clone()));
        Ok(())
    }
}

#[test]
fn with_room_for_two_what_is_delivered_at_once_waits_and_comes_in_order_before_and_after_the_end() {
    let mut line = Line::new(ConnectionConfig::new(URL).realtime(2), Echoes(3)).unwrap();
    line.open();
    line.events();
    line.stop_taking();
    line.say("1");
    line.say("2");
    assert!(line.is_reading_paused());
    assert_eq!(line.stats().messages_received, 1, "the second is not read");
    line.take(1);
    assert_eq!(line.messages(), ["1"]);
    assert!(line.is_reading_paused(), "there is room for what waited, and not for more");
    line.take(2);
    assert_eq!(line.messages(), ["1", "1"]);
    assert_eq!(line.stats().messages_received, 2);
    line.terminate();
    assert_eq!(line.state(), Closed);
    line.take_all();
    assert_eq!(line.messages(), ["2", "2", "2"], "the end loses nothing that has arrived");
    assert!(matches!(line.events().last(), Some(Event::Closed { .. })));
}

#[test]
fn what_happens_meanwhile_stands_behind_the_messages_that_nobody_has_taken() {
    let mut line = narrow(1);
    line.events();
    line.stop_taking();
    line.say("1");
    line.say("2");
    line.break_off();
    assert_eq!(line.state(), Connected, "the end stands behind what was not read");
    line.take(2);
    assert_eq!((line.messages(), line.state()), (vec!["1".to_owned(), "2".to_owned()], Disconnected));
    assert!(line.events().is_empty(), "it took two messages and no more");
    line.take_all();
    assert!(line.events().iter().any(|event| matches!(event, Event::Disconnected { .. })));
}

#[test]
fn a_line_that_closes_does_not_wait_for_the_application() {
    let mut line = narrow(1);
    line.stop_taking();
    line.say("1");
    line.say("2");
    assert!(line.is_reading_paused());
    line.close_client();
    assert_eq!((line.state(), line.is_reading_paused()), (Closed, false));
    line.take_all();
    assert_eq!(line.messages(), ["1"], "what found no room is dropped");
}

#[test]
fn an_answer_that_comes_while_the_line_closes_is_one_to_its_request() {
    let mut line = narrow(2);
    let asked = line.request(json!({"get": "level"}));
    line.answer_close(false);
    line.close_client();
    line.say(json!({"id": 1, "level": 7}));
    assert_eq!(line.answers(asked).pop().unwrap().unwrap().as_text(), Some(r#"{"id":1,"level":7}"#));
    assert!(line.messages().is_empty());
}

#[test]
fn answers_that_nobody_takes_end_with_an_error_when_a_line_that_closes_has_no_room_for_more() {
    let mut line = narrow(1);
    let asked = line.request_many(json!({"subscribe": "all"}));
    let id = line.heard_json()[0]["id"].clone();
    for n in 1..=3 {
        line.say(json!({"id": id, "n": n}));
    }
    assert!(line.is_reading_paused());
    line.close_client();
    let answers = line.answers(asked);
    assert!(matches!(&answers[..], [Ok(_), Err(Error::Unanswered { .. })]), "{answers:?}");
    assert!(line.has_ended(asked));
}

#[test]
fn answers_that_nobody_takes_pause_reading_until_they_are_taken() {
    let mut line = narrow(2);
    let asked = line.request_many(json!({"subscribe": "all"}));
    for n in 1..=4 {
        line.say(json!({"id": 1, "n": n}));
    }
    assert!(line.is_reading_paused());
    assert_eq!(line.answers(asked).len(), 2);
    assert_eq!(line.answers(asked).len(), 2, "reading has gone on");
    assert!(!line.is_reading_paused());
}

#[test]
fn a_message_for_this_connection_is_refused_while_it_is_down_and_named_when_it_is_lost() {
    let mut line = Line::new(quiet(), Obedient::ready()).unwrap();
    let for_this = SendOptions::new().this_connection();
    let refused = line.send_with("early", for_this).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the line is CONNECTING, and the message may not wait for it (while_down is Refuse, or it is for this connection only); the message is inside this error"
    );
    line.open();
    line.stall();
    let ticket = line.send_with("key press", for_this).unwrap();
    line.break_off();
    let expired: Vec<_> = line
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::Expired { tickets, .. } => Some(tickets.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(expired, [ticket.to_string()]);
    line.step(2 * S);
    line.open();
    line.send("next");
    assert_eq!(line.heard(), ["next"]);
}

#[test]
fn a_json_session_is_lost_when_no_data_comes_after_the_login() {
    let session = JsonSession::new().login(json!({"login": "me"})).accepted(|m| m["ok"] == true);
    let config = ConnectionConfig::new(URL).idle_timeout(70 * S);
    let mut line = Line::new(config, session).unwrap();
    line.counts_as_data(|message| message.as_text().is_some_and(|text| text.contains("price")));
    line.open();
    line.step(5 * S);
    line.say(json!({"ok": true}));
    line.step(60 * S);
    line.say(json!({"price": 1}));
    line.step(60 * S);
    line.say(json!({"status": "fine"}));
    assert_eq!(line.pings().len(), 4, "they are answered");
    line.step(9 * S);
    assert_eq!(line.state(), Authenticated);
    line.step(S);
    assert!(trouble(&line).starts_with("the server sent no data for 70s"), "{}", trouble(&line));
}
