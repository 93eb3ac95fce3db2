//! A line that moves: what belongs to which connection, and what becomes of it at each stage.

use tautline::ConnectionState::{Closed, Connected, Disconnected};
use tautline::{Beat, CloseReason, Delivery, Event, ReconnectConfig, Ticket};

use super::*;

const PONG: &str = r#"{"type":"pong"}"#;

const HOURS: Duration = Duration::from_secs(36_000);

fn mover() -> Obedient {
    Obedient { elsewhere: "ws://new.example", ..Obedient::ready() }
}

fn open(config: ConnectionConfig) -> Line {
    let mut line = Line::new(config, mover()).unwrap();
    line.open();
    line
}

/// The protocol sends heartbeats, and only their answers count.
fn strict() -> ConnectionConfig {
    let heartbeat = HeartbeatConfig::default().beat(Beat::Protocol);
    quiet().heartbeat(heartbeat.interval(10 * S).timeout(5 * S).strict(true))
}

/// The new server accepts, and its login is through.
fn arrive(line: &mut Line) {
    line.say("move");
    line.open();
    line.say_beside("ready");
    assert!(!line.is_moving());
}

fn moves(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Moved { .. })).count()
}

/// A line that is open after three failed reconnects, and gives up over the next failure in a row.
fn at_its_last_attempt(protocol: impl Protocol + 'static) -> Line {
    let config = quiet().reconnect(ReconnectConfig::default().max_attempts(3));
    let mut line = Line::new(config, protocol).unwrap();
    for _ in 0..3 {
        line.refuse();
        line.step(line.next_attempt().unwrap());
    }
    line.open();
    line
}

#[test]
fn a_move_goes_on_when_what_waited_for_the_old_server_is_out() {
    for beat in [Beat::WebSocketPing, Beat::Off] {
        let config = ConnectionConfig::new(URL).heartbeat(HeartbeatConfig::default().beat(beat));
        let mut line = open(config);
        line.stall();
        // More than is handed to a socket that takes nothing.
        let large = format!("send {} ", "x".repeat(40_000));
        line.say(format!("{} move", large.repeat(4)));
        line.send("the last on the old one");
        line.open();
        line.say_beside("ready");
        assert!(line.is_moving());
        line.resume();
        assert!(!line.is_moving(), "{beat:?}: it waits for something else to happen");
    }
}

#[test]
fn a_line_that_was_stable_stays_so_over_a_move() {
    let mut line = at_its_last_attempt(mover());
    line.step(HOURS);
    arrive(&mut line);
    line.step(4 * S);
    line.break_off();
    assert_eq!(line.state(), Disconnected, "{:?}", line.close_reason());
    assert_eq!(line.next_attempt(), Some(2 * S), "the backoff starts anew");
}

#[test]
fn a_lost_line_was_ready_since_before_its_moves() {
    struct Curious(Obedient);

    impl Protocol for Curious {
        fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
            self.0.prepare(attempt, request)
        }

        fn on_open(&mut self, cx: &mut Context<'_>, accepted: &Handshake) -> Result<(), Error> {
            self.0.on_open(cx, accepted)
        }

        fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
            self.0.on_message(cx, message)
        }

        fn on_down(&mut self, down: &Loss<'_>) -> Retry {
            Retry::After(down.ready_for.unwrap_or_default())
        }
    }

    let mut line = opened(Curious(mover()));
    line.step(HOURS);
    arrive(&mut line);
    line.step(4 * S);
    line.break_off();
    assert_eq!(line.next_attempt(), Some(HOURS + 4 * S));
}

#[test]
fn a_new_server_that_accepts_and_drops_is_backed_off_from() {
    // The first loss follows a stable line, and those behind it do not.
    let config = quiet().reconnect(ReconnectConfig::default().max_attempts(3));
    let mut line = open(config);
    line.step(HOURS);
    let mut delays = Vec::new();
    while line.state() != Closed && delays.len() < 10 {
        arrive(&mut line);
        line.step(S);
        line.break_off();
        if let Some(delay) = line.next_attempt() {
            delays.push(delay);
            line.step(delay);
            line.open();
            line.step(S);
        }
    }
    assert!(delays.len() == 3 && delays.is_sorted() && delays[2] > delays[0], "{delays:?}");
    assert!(matches!(line.close_reason(), Some(CloseReason::GaveUp { attempts: 3, .. })));
}

#[test]
fn moves_do_not_make_a_line_stable_that_never_was() {
    let mut line = at_its_last_attempt(mover());
    for _ in 0..2 {
        line.step(S);
        arrive(&mut line);
    }
    line.break_off();
    assert!(matches!(line.close_reason(), Some(CloseReason::GaveUp { .. })), "{:?}", line.state());
}

#[test]
fn a_hold_of_the_new_connection_holds_nothing_back_on_the_old_one() {
    let mut line = open(quiet());
    line.say("move");
    line.open();
    line.say_beside("hold 60");
    line.send("goes to the old one");
    assert_eq!(line.heard(), ["goes to the old one"]);
    line.say_beside("ready");
    line.send("held");
    line.step(59 * S);
    assert_eq!(line.heard(), [""; 0], "it is the new one's");
    line.step(S);
    assert_eq!(line.heard(), ["held"]);
}

#[test]
fn a_release_of_the_new_connection_releases_nothing_on_the_old_one() {
    let mut line = open(quiet());
    line.say("hold 60");
    line.send("held there");
    line.say("move");
    line.open();
    line.say_beside("release");
    assert_eq!(line.heard(), [""; 0]);
    line.say_beside("ready");
    assert_eq!(line.heard(), ["held there"], "the hold died with its connection");
    assert_eq!(line.heard_old(), [""; 0]);
}

#[test]
fn a_release_of_the_new_connection_ends_its_own_hold() {
    let mut line = open(quiet());
    line.say("move");
    line.open();
    line.say_beside("hold 60 release hold 30 ready");
    line.send("held");
    line.step(29 * S);
    assert_eq!(line.heard(), [""; 0]);
    line.say("release");
    assert_eq!(line.heard(), ["held"]);
}

#[test]
fn a_beat_that_is_answered_on_the_new_connection_is_not_so_on_the_old_one() {
    let mut line = open(strict().login_timeout(HOURS));
    line.say("move");
    line.open();
    line.step(10 * S);
    assert_eq!(line.heard(), ["beat"]);
    line.say_beside("answered");
    line.step(5 * S);
    assert_eq!(line.state(), Disconnected, "the old server has not answered");
    assert_eq!(trouble(&line), "heartbeat timeout: no answer for 5.0s");
}

#[test]
fn a_beat_that_is_answered_on_the_old_connection_is_not_so_on_the_new_one() {
    let mut line = open(strict().close_timeout(HOURS));
    line.answer_close(false);
    arrive(&mut line);
    line.step(10 * S);
    assert_eq!(line.heard(), ["beat"]);
    line.say_old("answered");
    line.step(5 * S);
    assert_eq!(line.state(), Disconnected, "the new server has not answered");
}

#[test]
fn a_request_is_withdrawn_where_it_was_asked_or_nowhere() {
    let mut line = open(quiet());
    line.answer_close(false);
    let asked = line.request("asked");
    assert_eq!(line.heard(), ["asked"]);
    arrive(&mut line);
    line.withdraw(asked);
    assert_eq!(line.heard(), [""; 0], "the new server knows nothing of it");
    let asked = line.request("asked anew");
    line.withdraw(asked);
    assert_eq!(line.heard(), ["asked anew", "withdrawn"]);
    assert_eq!(line.heard_old(), [""; 0]);
}

#[test]
fn a_request_that_is_withdrawn_while_the_line_moves_is_so_on_the_old_connection() {
    let mut line = open(quiet());
    let asked = line.request("asked");
    line.say("move");
    line.open();
    line.withdraw(asked);
    assert_eq!(line.heard(), ["asked", "withdrawn"]);
    assert_eq!(line.heard_beside(), [""; 0]);
}

#[test]
fn a_json_pong_of_the_new_server_is_not_delivered() {
    let mut line = open(ConnectionConfig::new(URL).heartbeat(HeartbeatConfig::json().interval(10 * S)));
    line.answer_close(false);
    line.step(10 * S);
    assert_eq!(line.heard().len(), 1, "a ping");
    line.say("move");
    line.open();
    line.say_beside(PONG);
    assert_eq!(line.messages(), [""; 0]);
    line.say_beside("ready");
    line.say(PONG);
    assert_eq!(line.messages(), [""; 0]);
}

#[test]
fn a_json_pong_of_the_old_server_is_not_delivered() {
    let mut line = open(ConnectionConfig::new(URL).heartbeat(HeartbeatConfig::json().interval(10 * S)));
    line.answer_close(false);
    line.step(10 * S);
    arrive(&mut line);
    line.say_old(PONG);
    assert_eq!(line.messages(), [""; 0]);
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dialling,
    LoggingIn,
    /// Ready, while the old server has not confirmed what went out there.
    Switching,
    /// The old server has not answered the close frame.
    Leaving,
}

const STAGES: [Stage; 4] = [Stage::Dialling, Stage::LoggingIn, Stage::Switching, Stage::Leaving];

/// A line at that stage, with a request and a message before it and a message since.
struct Moving {
    line: Line,
    asked: Ticket,
    tickets: [Ticket; 2],
}

impl Moving {
    fn at(stage: Stage, delivery: Delivery) -> Self {
        let mut line = open(ConnectionConfig::new(URL).delivery(delivery).login_timeout(HOURS));
        line.answer_close(false);
        line.answer_pings(stage != Stage::Switching);
        let asked = line.request("asked");
        let before = line.send("before");
        line.say("move");
        if stage != Stage::Dialling {
            line.open();
        }
        if matches!(stage, Stage::Switching | Stage::Leaving) {
            line.say_beside("ready");
        }
        assert_eq!(line.is_moving(), stage != Stage::Leaving);
        let since = line.send("since");
        Self { line, asked, tickets: [before, since] }
    }

    /// Whatever happened: the line comes back if it was lost, and each message has a fate.
    fn settle(self, delivery: Delivery, what: &str) {
        let Self { mut line, asked, tickets } = self;
        line.answer_pings(true);
        line.answer_close(true);
        for _ in 0..100 {
            line.step(S);
            if line.is_dialling() {
                line.open();
            }
            if line.is_moving() {
                line.say_beside("ready");
            }
        }
        assert!(!line.is_moving() && !line.is_dialling(), "{what}");
        let mut heard = line.heard();
        heard.extend(line.heard_old());
        heard.extend(line.heard_beside());
        let events = line.events();
        let left = line.left().cloned().unwrap_or_default();
        assert!(matches!(line.state(), Connected | Closed), "{what}: {}", line.state());
        for (ticket, text) in tickets.into_iter().zip(["before", "since"]) {
            let times = heard.iter().filter(|heard| *heard == text).count();
            let doubtful = events.iter().any(|event| match event {
                Event::Disconnected { maybe_delivered, .. } | Event::Moved { maybe_delivered, .. } => {
                    maybe_delivered.contains(ticket)
                }
                _ => false,
            });
            let left_over =
                left.maybe_delivered.contains(ticket) || left.never_written.contains(&(ticket, text.into()));
            match delivery {
                Delivery::AtMostOnce => assert!(times <= 1, "{what}: {text} was heard {times} times"),
                _ => assert!(times > 0 || left_over, "{what}: {text} is lost"),
            }
            assert!(times > 0 || doubtful || left_over, "{what}: {text} has no fate");
        }
        if line.state() == Closed {
            assert!(matches!(events.last(), Some(Event::Closed { .. })), "{what}");
        } else {
            // It still works, and may move again.
            line.send("afterwards");
            assert_eq!(line.heard(), ["afterwards"], "{what}");
            arrive(&mut line);
            line.send("elsewhere");
            assert_eq!(line.heard(), ["elsewhere"], "{what}");
        }
        let answers = line.answers(asked);
        assert!(answers.len() == 1 && answers[0].is_err() && line.has_ended(asked), "{what}: {answers:?}");
    }
}

type Deed = fn(&mut Line);

#[test]
fn whatever_happens_at_whichever_stage_of_a_move_everything_has_a_fate() {
    let deeds: [(&str, Deed); 9] = [
        ("nothing", |_| ()),
        ("close", Line::close_client),
        ("terminate", Line::terminate),
        ("the old server closes", |line| line.close(1012, "restart")),
        ("the old server dies", Line::break_off),
        ("the protocol closes", |line| line.say("close 4000")),
        ("the protocol fails", |line| line.say("fail")),
        ("the login times out", |line| line.step(HOURS)),
        ("the old server wants it once more", |line| line.say("move")),
    ];
    let new_deeds: [(&str, Deed); 4] = [
        ("the new server closes", |line| line.close_beside(1012, "restart")),
        ("the new server dies", Line::break_off_beside),
        ("the protocol closes there", |line| line.say_beside("close 4000")),
        ("the protocol fails there", |line| line.say_beside("fail")),
    ];
    let attempts: [(&str, Deed); 2] = [("nobody", Line::refuse), ("no", |line| line.reject(503))];
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        for stage in STAGES {
            let beside = match stage {
                Stage::Dialling => &attempts[..],
                Stage::LoggingIn | Stage::Switching => &new_deeds[..],
                Stage::Leaving => &[],
            };
            for (name, deed) in deeds.iter().chain(beside) {
                let mut moving = Moving::at(stage, delivery);
                deed(&mut moving.line);
                moving.settle(delivery, &format!("{delivery:?}, {stage:?}: {name}"));
            }
        }
    }
}

#[test]
fn a_line_that_is_closed_at_any_stage_of_a_move_moves_no_more() {
    for stage in STAGES {
        let mut moving = Moving::at(stage, Delivery::AtMostOnce);
        moving.line.events();
        moving.line.close_client();
        moving.line.step(HOURS);
        let moved = moves(&moving.line.events());
        assert_eq!((moved, moving.line.state(), moving.line.is_moving()), (0, Closed, false), "{stage:?}");
    }
}

#[test]
fn a_stop_in_a_hook_that_fails_is_a_stop_wherever_the_line_is() {
    for stage in [Stage::LoggingIn, Stage::Switching, Stage::Leaving] {
        for (side, say) in [("old", Line::say as fn(&mut Line, &'static str)), ("new", Line::say_beside)] {
            if (stage, side) == (Stage::Leaving, "new") {
                continue;
            }
            let mut line = Moving::at(stage, Delivery::AtMostOnce).line;
            say(&mut line, "stop fail");
            line.answer_close(true);
            line.step(HOURS);
            assert!(
                matches!(line.close_reason(), Some(CloseReason::NotRetried(_))),
                "{stage:?}, the {side} one: {:?}",
                line.close_reason()
            );
        }
    }
}

#[test]
fn what_a_hook_of_the_old_connection_asks_for_behind_its_end_does_not_touch_the_new_one() {
    // A code that may not be sent loses the connection at once, in the middle of what the hook asks for.
    let mut line = Moving::at(Stage::Switching, Delivery::AtMostOnce).line;
    line.answer_pings(true);
    line.say("close 1006 send stray timer 1 hold 9 work 1");
    assert_eq!(moves(&line.events()), 1);
    assert_eq!((line.heard(), line.work()), (vec!["since".to_owned()], vec![]));
    line.send("flows");
    line.step(S);
    assert_eq!(line.heard(), ["flows"]);
}

#[test]
fn what_a_hook_of_the_new_connection_delivers_behind_its_close_is_delivered() {
    let mut line = open(quiet());
    line.say("move");
    line.open();
    line.say_beside("close 4000 news");
    let messages = line.messages();
    assert!(messages.contains(&"news".to_owned()), "{messages:?}");
}
