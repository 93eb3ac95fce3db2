//! A server that refuses the credentials, and a protocol that has others.

use std::collections::VecDeque;

use tautline::ConnectionState::{Connected, Disconnected};
use tautline::{CloseReason, DisconnectReason, ReconnectConfig};

use super::*;

/// Has a list of tokens. Sends one with each attempt, and takes the next when it is refused.
#[derive(Default)]
struct Tokens {
    token: String,
    others: VecDeque<&'static str>,
}

impl Tokens {
    fn new(tokens: &[&'static str]) -> Self {
        let mut others: VecDeque<_> = tokens.iter().copied().collect();
        Self { token: others.pop_front().unwrap_or_default().to_owned(), others }
    }
}

impl Protocol for Tokens {
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        // A server may say in its refusal what it wants.
        if let Some(DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection))) = attempt.last
            && let Some(nonce) = rejection.header("X-Nonce")
        {
            self.token.push_str(nonce);
        }
        request.set_header("X-Token", &*self.token);
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.send(format!("login {}", self.token));
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_text() {
            Some("welcome") => cx.ready(),
            Some("move") => cx.move_line(),
            _ => return Err(Error::login_refused("another token, please")),
        }
        Ok(())
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        let Some(other) = self.others.front().filter(|_| down.wants_credentials()) else {
            return down.default_retry();
        };
        (*other).clone_into(&mut self.token);
        self.others.pop_front();
        Retry::Now
    }
}

/// The same, behind another protocol that changes nothing.
struct Wrapped(Tokens);

impl Protocol for Wrapped {
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut self.0)
    }
}

fn token(line: &Line) -> &str {
    let found = line.attempt().headers.iter().find(|(name, _)| name == "X-Token");
    found.map(|(_, value)| value.as_str()).expect("a token")
}

/// The line is ready, is lost, and is dialled anew.
fn lose_and_redial(line: &mut Line) {
    line.open();
    line.say("welcome");
    assert_eq!(line.state(), tautline::ConnectionState::Authenticated);
    line.break_off();
    step_to_attempt(line);
}

/// Returns how long that took.
fn step_to_attempt(line: &mut Line) -> Duration {
    let delay = line.next_attempt().expect("an attempt is planned");
    line.step(delay);
    assert!(line.is_dialling());
    delay
}

#[test]
fn a_refused_attempt_is_made_again_at_once_with_what_the_protocol_has_then() {
    for status in [401, 403] {
        let mut line = Line::new(quiet(), Wrapped(Tokens::new(&["old", "new"]))).unwrap();
        assert_eq!(token(&line), "old");
        line.reject_with(status, &[("X-Nonce", "-7")]);
        assert_eq!((line.elapsed(), token(&line)), (Duration::ZERO, "new-7"), "{status}");
        line.open();
        assert_eq!(line.heard(), ["login new-7"]);
    }
    let mut line = Line::new(quiet(), Tokens::new(&["old", "new"])).unwrap();
    line.open();
    line.say("no");
    assert_eq!((line.elapsed(), token(&line)), (Duration::ZERO, "new"), "a refused login counts as well");
}

#[test]
fn credentials_that_are_refused_twice_close_a_client_that_was_never_ready() {
    let mut line = Line::new(quiet(), Tokens::new(&["old", "new", "newest"])).unwrap();
    line.reject(401);
    line.reject(401);
    let reason = line.close_reason().expect("it is closed");
    let CloseReason::NotRetried(DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection))) = reason
    else {
        panic!("{reason}")
    };
    assert_eq!(rejection.status, 401);
    let mut line = Line::new(quiet(), Tokens::new(&["only"])).unwrap();
    line.reject(401);
    assert!(line.close_reason().is_some(), "there are no others");
    let mut line = Line::new(quiet(), Tokens::new(&["old", "new"])).unwrap();
    line.reject(404);
    assert!(line.close_reason().is_some(), "no credentials help there");
}

#[test]
fn once_the_line_was_ready_others_are_tried_at_once_and_then_after_the_longest_delay() {
    let mut line = Line::new(quiet(), Tokens::new(&["1", "2", "3", "4"])).unwrap();
    lose_and_redial(&mut line);
    line.reject(401);
    assert_eq!((step_to_attempt(&mut line), token(&line)), (100 * MS, "2"), "right behind a loss");
    for _ in 0..2 {
        line.reject(401);
        assert_eq!((step_to_attempt(&mut line), token(&line)), (30 * S, "2"), "once");
    }
    // From when it is ready, it may ask once more.
    lose_and_redial(&mut line);
    line.reject(403);
    assert_eq!((step_to_attempt(&mut line), token(&line)), (100 * MS, "3"));
}

#[test]
fn fresh_credentials_cost_no_reconnect() {
    let never = quiet().reconnect(ReconnectConfig::never());
    let mut line = Line::new(never, Tokens::new(&["old", "new"])).unwrap();
    line.reject(401);
    assert_eq!(token(&line), "new");
    line.open();
    line.say("welcome");
    assert!(line.close_reason().is_none());
}

#[test]
fn a_move_that_is_refused_leaves_the_line_and_the_question_for_when_it_is_lost() {
    let mut line = Line::new(quiet(), Tokens::new(&["old", "new"])).unwrap();
    line.open();
    line.say("welcome");
    line.say("move");
    assert_eq!(token(&line), "old");
    line.reject(401);
    assert!(!line.is_dialling() && !line.is_moving(), "on_move_failed decides what follows");
    assert_ne!(line.state(), Disconnected);
    line.break_off();
    step_to_attempt(&mut line);
    line.reject(401);
    step_to_attempt(&mut line);
    assert_eq!(token(&line), "new");
    // The line may move with them, and be asked again afterwards.
    line.open();
    line.say("welcome");
    line.say("move");
    line.open();
    line.say_beside("welcome");
    assert!(!line.is_moving() && line.state() != Connected);
}
