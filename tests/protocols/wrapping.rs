//! A protocol around another one: what the outer one does not change is what the inner one does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tautline::{Beat, ConnectionState};

use super::*;

/// The names of the hooks that were called.
type Called = Arc<Mutex<BTreeSet<&'static str>>>;

/// Records each hook that is called, and asks for what leads to the others.
struct Recorder(Called);

impl Recorder {
    fn note(&self, hook: &'static str) {
        self.0.lock().unwrap().insert(hook);
    }
}

#[deny(clippy::missing_trait_methods, reason = "each hook is recorded")]
impl Protocol for Recorder {
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        None
    }

    fn check(&mut self) -> Result<(), Error> {
        self.note("check");
        Ok(())
    }

    fn prepare(&mut self, _: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        self.note("prepare");
        request.set_header("X-Inner", "1");
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        self.note("on_open");
        cx.set_timer(1, S);
        cx.work(1, || Ok("done".into()));
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        self.note("on_message");
        cx.deliver(format!("inner: {message}"));
        cx.move_line();
        Ok(())
    }

    fn on_ping(&mut self, _: &mut Context<'_>, _: &[u8]) -> Result<(), Error> {
        self.note("on_ping");
        Ok(())
    }

    fn on_pong(&mut self, _: &mut Context<'_>, _: &[u8]) -> Result<(), Error> {
        self.note("on_pong");
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        self.note("on_send");
        cx.send(format!("inner: {}", outgoing.message));
        Ok(())
    }

    fn on_withdrawn(&mut self, _: &mut Context<'_>, _: RequestId) -> Result<(), Error> {
        self.note("on_withdrawn");
        Ok(())
    }

    fn on_work(&mut self, _: &mut Context<'_>, _: u32, _: Result<Message, Error>) -> Result<(), Error> {
        self.note("on_work");
        Ok(())
    }

    fn on_move_failed(&mut self, _: &mut Context<'_>, _: &Error) -> Result<(), Error> {
        self.note("on_move_failed");
        Ok(())
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: u32) -> Result<(), Error> {
        self.note("on_timer");
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        self.note("on_beat");
        cx.beat_answered();
        Ok(())
    }

    fn on_closing(&mut self, _: &mut Context<'_>) -> Result<(), Error> {
        self.note("on_closing");
        Ok(())
    }

    fn on_down(&mut self, _: &Loss<'_>) -> Retry {
        self.note("on_down");
        Retry::After(7 * S)
    }
}

/// Changes nothing.
struct Wrapper<P>(P);

impl<P: Protocol> Protocol for Wrapper<P> {
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut self.0)
    }
}

/// The hooks that the trait has, by its source.
fn hooks() -> BTreeSet<&'static str> {
    let source = include_str!("../../src/protocol/mod.rs");
    let body = source.split_once("pub trait Protocol").unwrap().1.split_once("\n}").unwrap().0;
    let names = body.lines().filter_map(|line| line.strip_prefix("    fn ")?.split('(').next());
    names.filter(|name| *name != "inner").collect()
}

/// Leads a line to each hook. Returns those that the inner protocol was called by.
fn lead(wrap: impl FnOnce(Recorder) -> Box<dyn Protocol>) -> BTreeSet<&'static str> {
    let called = Called::default();
    let beats = HeartbeatConfig::default().beat(Beat::Protocol);
    let config = ConnectionConfig::new(URL).heartbeat(beats);
    let mut line = Line::new(config, wrap(Recorder(Arc::clone(&called)))).unwrap();
    assert_eq!(line.attempt().headers, [("X-Inner".to_owned(), "1".to_owned())]);
    line.open();
    line.ping("");
    line.pong("");
    let asked = line.request("request");
    line.withdraw(asked);
    assert_eq!(line.heard(), ["inner: request"]);
    line.do_work(1);
    line.say("move");
    assert_eq!(line.messages(), ["inner: move"]);
    line.refuse();
    line.step(30 * S);
    line.break_off();
    assert_eq!(line.next_attempt(), Some(7 * S), "as the inner one decides");
    line.step(7 * S);
    line.open();
    line.close_client();
    assert_eq!(line.state(), ConnectionState::Closed);
    called.lock().unwrap().clone()
}

#[test]
fn every_hook_that_a_wrapper_does_not_change_is_the_inner_protocols() {
    assert!(hooks().len() > 10, "{:?}", hooks());
    assert_eq!(lead(|recorder| Box::new(recorder)), hooks(), "without a wrapper");
    assert_eq!(lead(|recorder| Box::new(Wrapper(recorder))), hooks());
    let boxed = |recorder| Box::new(recorder) as Box<dyn Protocol>;
    assert_eq!(lead(|recorder| Box::new(boxed(recorder))), hooks(), "a box is a wrapper, too");
    assert_eq!(lead(|recorder| Box::new(Wrapper(Wrapper(boxed(recorder))))), hooks(), "several");
}

#[test]
fn a_protocol_that_implements_nothing_is_ready_at_once_and_delivers_and_sends_everything() {
    struct Nothing;
    impl Protocol for Nothing {}
    let mut line = opened(Nothing);
    assert_eq!(line.state(), ConnectionState::Connected);
    line.say("in");
    line.send("out");
    assert_eq!((line.messages(), line.heard()), (vec!["in".to_owned()], vec!["out".to_owned()]));
    let beats = HeartbeatConfig::default().beat(Beat::Protocol);
    let mut line = Line::new(ConnectionConfig::new(URL).heartbeat(beats), Nothing).unwrap();
    line.open();
    line.step(30 * S);
    assert!(trouble(&line).contains("no on_beat"), "{}", trouble(&line));
}

#[test]
fn a_wrapper_checks_what_it_wraps() {
    let bad = tautline::JsonSession::new().answers_by("");
    let error = Line::new(URL, Wrapper(bad)).unwrap_err();
    assert!(error.to_string().contains("answers_by needs the name of a field"), "{error}");
}
