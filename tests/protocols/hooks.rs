//! Hooks that do what they should not: the table of `Protocol`.

use tautline::ConnectionState::{Authenticated, Closed, Closing, Connected, Disconnected};
use tautline::{CloseReason, Delivery, Event, QueueLimit, Ticket};

use super::*;

/// How often the line became ready.
fn connects(line: &mut Line) -> usize {
    line.events().iter().filter(|event| matches!(event, Event::Connected { .. })).count()
}

#[test]
fn ready_twice_is_ready_once() {
    let mut line = opened(Obedient { on_open: "ready resumed ready", ..Obedient::default() });
    line.say("ready resumed");
    assert_eq!((line.state(), connects(&mut line)), (Connected, 1));
    let mut line = opened(Obedient::default());
    line.say("ready ready");
    line.say("ready");
    assert_eq!((line.state(), connects(&mut line)), (Authenticated, 1));
}

#[test]
fn an_error_fails_the_attempt_before_the_line_is_ready_and_loses_it_after() {
    let mut line = opened(Obedient { on_open: "send half fail", ..Obedient::default() });
    assert_eq!((line.state(), line.heard().len()), (Disconnected, 0), "nothing of it goes out");
    assert_eq!(trouble(&line), "the session can't go on: as told");
    line.step(2 * S);
    assert!(line.is_dialling());

    let mut line = opened(Obedient::ready());
    line.say("send half fail");
    assert_eq!((line.state(), line.heard().len()), (Disconnected, 0));

    let mut line = opened(Obedient { on_poison: "fail", ..Obedient::ready() });
    line.say("hold 1");
    line.send("healthy");
    line.send("poison");
    line.step(S);
    assert_eq!((line.state(), line.doubtful().len(), line.heard().len()), (Disconnected, 0, 0));

    let mut line = opened(Obedient { on_closing: "fail", ..Obedient::ready() });
    line.close_client();
    assert!(matches!(line.close_reason(), Some(CloseReason::ByCaller)));
}

/// The tickets that were named as never sent, and those in doubt.
fn given_up(line: &mut Line) -> (Vec<u64>, Vec<u64>) {
    let (mut never, mut doubtful) = (Vec::new(), Vec::new());
    for event in line.events() {
        match event {
            Event::Expired { tickets, .. } => never.extend(tickets.iter().map(Ticket::number)),
            Event::Disconnected { maybe_delivered, .. } => {
                doubtful.extend(maybe_delivered.iter().map(Ticket::number));
            }
            _ => {}
        }
    }
    (never, doubtful)
}

#[test]
fn a_message_over_which_on_send_fails_on_three_connections_is_given_up_and_named() {
    // An error, and other things that end the connection.
    for on_poison in ["fail", "send far-more-than-the-limit", "timers 1025", "close 4000"] {
        let protocol = Obedient { on_poison, retry: Some(Retry::After(5 * S)), ..Obedient::ready() };
        let mut line = Line::new(quiet().max_message_size(20), protocol).unwrap();
        line.open();
        line.send("poison");
        line.send("healthy");
        for failure in 1..=3 {
            line.step(3 * S); // a close that the server does not answer takes its time
            assert_eq!(line.state(), Disconnected, "{on_poison}, {failure}");
            let heard: Vec<_> =
                line.heard().into_iter().filter(|heard| !heard.starts_with("close")).collect();
            assert!(heard.is_empty(), "{on_poison}, {failure}: {heard:?}");
            let named = if failure == 3 { vec![1] } else { vec![] };
            assert_eq!(given_up(&mut line), (named, vec![]), "{on_poison}, {failure}");
            line.step(5 * S);
            line.open();
        }
        assert_eq!((line.state(), line.heard()), (Connected, vec!["healthy".to_owned()]), "{on_poison}");
    }
}

#[test]
fn a_message_that_was_written_before_on_send_failed_over_it_is_named_as_maybe_delivered() {
    /// It sends the message once; then it closes, or fails.
    struct Failing(u32, bool);
    impl Protocol for Failing {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.ready();
            Ok(())
        }

        fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
            self.0 += 1;
            match self {
                Self(1, _) => cx.send(outgoing.message),
                Self(_, true) => cx.close(4000, "no"),
                Self(_, false) => {
                    cx.send(outgoing.message);
                    return Err(Error::session("as told"));
                }
            }
            Ok(())
        }

        fn on_down(&mut self, _: &Loss<'_>) -> Retry {
            Retry::After(5 * S)
        }
    }
    for closes in [false, true] {
        let config = ConnectionConfig::new(URL).delivery(Delivery::AtLeastOnce);
        let mut line = Line::new(config, Failing(0, closes)).unwrap();
        line.open();
        line.send("once");
        assert_eq!(line.heard(), ["once"]);
        line.break_off();
        for _ in 0..3 {
            assert_eq!(given_up(&mut line), (vec![], vec![]));
            line.step(5 * S);
            line.open();
            line.step(3 * S);
        }
        assert_eq!(given_up(&mut line), (vec![], vec![1]));
        line.step(5 * S);
        line.open();
        assert_eq!((line.state(), line.heard().len()), (Connected, 0));
    }
}

#[test]
fn a_request_that_on_send_ends_with_its_connection_is_not_sent_again() {
    /// It fails the request, and then the connection over it.
    struct Refusing;
    impl Protocol for Refusing {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.ready();
            Ok(())
        }

        fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
            outgoing.request.into_iter().for_each(|request| cx.fail_request(request, Error::answer("no")));
            Err(Error::session("no"))
        }

        fn on_down(&mut self, _: &Loss<'_>) -> Retry {
            Retry::After(S)
        }
    }
    let mut line = opened(Refusing);
    let asked = line.request("a question");
    assert_eq!(answer(&mut line, asked), "the server answered with an error: no");
    line.step(S);
    line.open();
    assert_eq!((line.state(), line.heard().len()), (Connected, 0));
    let asked = line.request("another");
    line.answers(asked);
    line.terminate();
    assert!(line.left().unwrap().never_written.is_empty(), "a request is not left over");
}

#[test]
fn a_message_that_waits_to_fail_once_more_is_left_over_when_the_client_is_closed() {
    let retry = Some(Retry::After(S));
    let mut line = opened(Obedient { on_poison: "fail", retry, ..Obedient::ready() });
    line.send("poison");
    line.step(S);
    line.open();
    line.close_client();
    assert_eq!(line.left().unwrap().never_written.len(), 1);
    assert_eq!(given_up(&mut line), (vec![], vec![]));
}

#[test]
fn a_panic_ends_the_client_and_the_protocol_is_not_called_again() {
    for on_open in ["panic", "ready"] {
        let mut line = opened(Obedient { on_open, retry: Some(Retry::Now), ..Obedient::default() });
        if on_open == "ready" {
            line.say("panic");
        }
        assert_eq!(trouble(&line), "the application's protocol callback panicked");
        line.step(100 * S);
        assert!(!line.is_dialling() && line.state() == Closed);
    }
}

#[test]
fn a_close_in_on_closing_does_nothing() {
    let mut line =
        opened(Obedient { on_closing: "close 4001 send bye close 4002 stop", ..Obedient::ready() });
    line.close_client();
    assert_eq!((line.heard(), line.goodbye().unwrap().code), (vec!["bye".to_owned()], 1000));
    assert!(matches!(line.close_reason(), Some(CloseReason::ByCaller)));
}

#[test]
fn a_close_while_the_server_closes_does_nothing() {
    let mut line = opened(Obedient { on_timer: "close 4001", ..Obedient::ready() });
    line.say("timer 1");
    line.stall();
    line.step(S / 2);
    line.close(4000, "first");
    line.step(S / 2);
    assert_eq!(line.state(), Closing);
    line.resume();
    assert_eq!(line.goodbye().map(|frame| frame.code), Some(4000));
    assert_eq!(trouble(&line), "the server closed the line with close code 4000: \"first\"");
}

#[test]
fn once_it_has_closed_a_hook_sends_and_sets_nothing() {
    let mut line = opened(Obedient::ready());
    line.say("send before close 4001 send after close 4002 timer 1 work 1");
    assert_eq!(line.heard(), ["before"]);
    assert_eq!(line.goodbye().map(|frame| frame.code), Some(4001));
    assert!(trouble(&line).contains("closed it with close code 4001"), "{}", trouble(&line));
    line.reconnect_now();
    line.open();
    line.step(10 * S);
    assert_eq!(line.heard(), [""; 0], "no timer of the old connection's");
    assert_eq!(line.work(), [0; 0]);
}

#[test]
fn what_a_hook_asks_for_behind_the_lines_end_comes_to_nothing() {
    // A code that may not be sent loses the line at once, in the middle of what the hook asks for.
    let mut line = opened(Obedient::ready());
    line.say("close 1006 send gone timer 1 work 1 hold 9 move");
    assert_eq!((line.state(), line.heard().len()), (Disconnected, 0));
    assert!(trouble(&line).contains("1006 may not be sent"), "{}", trouble(&line));
    line.step(2 * S);
    line.open();
    line.send("flows");
    line.step(10 * S);
    assert_eq!(line.heard(), ["flows"]);
    assert!(line.work().is_empty() && !line.is_moving());
}

#[test]
fn a_thousand_timers_run_and_one_too_many_loses_the_line() {
    let mut line = opened(Obedient::ready());
    line.say("timers 1024 cancel 7 timer 1023");
    line.step(S);
    let heard = line.heard();
    assert_eq!((heard.len(), heard[0].as_str(), heard[7].as_str()), (1023, "timer 0", "timer 8"));
    line.say("timers 1025");
    assert_eq!(trouble(&line), "the session can't go on: the protocol set more than 1024 timers");
    line.reconnect_now();
    line.open();
    line.step(10 * S);
    assert_eq!(line.heard(), [""; 0], "they die with the connection");
}

#[test]
fn so_much_work_may_wait_and_no_more() {
    let mut line = opened(Obedient::ready());
    for id in 0..64 {
        line.say(format!("work {id}"));
    }
    line.do_work(0);
    line.say("work 64");
    assert_eq!((line.work().len(), line.state()), (64, Connected));
    line.say("work 65");
    assert!(trouble(&line).contains("64 pieces"), "{}", trouble(&line));
    assert_eq!(line.work(), [0; 0]);
}

#[test]
fn a_protocol_that_sends_more_than_may_wait_loses_the_line() {
    let mut line = Line::new(quiet().outbox(QueueLimit::new(2, 1000)), Obedient::ready()).unwrap();
    line.open();
    line.say("send 1 send 2");
    assert_eq!(line.heard(), ["1", "2"]);
    line.say("send 1 send 2 send 3");
    assert!(trouble(&line).contains("2 messages wait"), "{}", trouble(&line));
    assert_eq!(line.heard(), [""; 0]);
}

#[test]
fn a_stop_is_the_end_whatever_on_down_says() {
    let mut line = opened(Obedient { retry: Some(Retry::Now), ..Obedient::ready() });
    line.say("stop");
    assert_eq!((line.state(), line.goodbye().unwrap().code), (Closed, 1000));
    assert_eq!(trouble(&line), "the server refused the login: as told");
}

/// Answers with each message the request that came last, in part with `…`; `!` ends it.
#[derive(Default)]
struct Last(Option<tautline::RequestId>);

impl Protocol for Last {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        self.0 = outgoing.request;
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let Some(request) = self.0 else { return Ok(()) };
        match message.as_text() {
            Some("!") => cx.end_request(request),
            Some(text) if text.ends_with('…') => cx.answer_part(request, message),
            _ => cx.answer(request, message),
        }
        cx.deliver(format!("waiting: {}", cx.is_waiting(request)));
        Ok(())
    }

    fn on_withdrawn(&mut self, cx: &mut Context<'_>, _: tautline::RequestId) -> Result<(), Error> {
        cx.send("withdrawn");
        Ok(())
    }
}

#[test]
fn a_request_that_has_ended_is_past_answering() {
    let mut line = opened(Last::default());
    let once = line.request("once");
    line.say("first");
    line.say("second");
    assert_eq!(answer(&mut line, once), "first");
    assert_eq!(line.messages(), ["waiting: true", "waiting: false"], "as it was when the hook was called");

    let many = line.request_many("many");
    line.say("1…");
    line.say("2…");
    line.say("!");
    line.say("3…");
    let answers: Vec<_> = line.answers(many).into_iter().map(|answer| answer.unwrap().to_string()).collect();
    assert_eq!((answers, line.has_ended(many)), (vec!["1…".to_owned(), "2…".to_owned()], true));

    let gone = line.request("gone");
    line.withdraw(gone);
    line.say("late");
    assert!(line.answers(gone).is_empty() && line.has_ended(gone));
    assert_eq!(line.heard(), ["once", "many", "gone", "withdrawn"]);
}

#[test]
fn what_was_secret_in_the_request_or_is_called_so_is_in_no_text_of_a_hook_or_a_close() {
    const SAID: &str = "bad qu3ryt0ken h3ad3rt0k pr0t0t0k3nXYZ tops3cret";
    /// It repeats what the server says, in the way that it is made with.
    struct Parrot(&'static str);
    impl Protocol for Parrot {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            // More than are known at a time: the request's are not among those that are forgotten.
            (0..600).for_each(|n| cx.secret(format!("{n}-s0metoken")));
            cx.secret("tops3cret");
            if !cx.is_moving() {
                cx.ready();
            }
            Ok(())
        }

        fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
            let said = message.to_string();
            match self.0 {
                "session" => return Err(Error::session(said)),
                "refused" => return Err(Error::login_refused(said)),
                "stop" => cx.stop(Error::session(said)),
                "close" => cx.close(4001, said),
                "move" if cx.is_moving() => return Err(Error::session(said)),
                "close there" if cx.is_moving() => cx.close(4001, said),
                _ => cx.move_line(),
            }
            Ok(())
        }

        fn on_move_failed(&mut self, _: &mut Context<'_>, error: &Error) -> Result<(), Error> {
            Err(error.clone())
        }
    }
    for way in ["session", "refused", "stop", "close", "close frame", "move", "close there"] {
        let config = ConnectionConfig::new(format!("{URL}/p?token=qu3ryt0ken"));
        let config = config.header("X-Key", "h3ad3rt0k").subprotocol("pr0t0t0k3nXYZ");
        let mut line = Line::new(config, Parrot(way)).unwrap();
        line.open();
        match way {
            "close frame" => line.close(4001, SAID),
            "move" | "close there" => {
                line.say("go");
                line.open();
                line.say_beside(SAID);
            }
            _ => line.say(SAID),
        }
        line.step(4 * S);
        let error = line.last_failure().expect("it is down");
        let shown = format!("{error} {error:?} {:?}", line.events());
        assert!(error.to_string().contains("bad *** *** *** ***"), "{way}: {shown}");
        for secret in ["qu3ryt0ken", "h3ad3rt0k", "pr0t0t0k3nXYZ", "tops3cret"] {
            assert!(!shown.contains(secret), "{way}: {shown}");
        }
    }
}
