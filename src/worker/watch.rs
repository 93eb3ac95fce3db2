//! An eye on callbacks of the application that keep the I/O thread too long.
#![expect(
    clippy::disallowed_methods,
    reason = "what it measures runs on this thread, between two looks at the clock"
)]

use std::time::{Duration, Instant};

use log::warn;

use crate::error::Error;
use crate::message::Message;
use crate::protocol::{Accepted, Attempt, Context, Down, Outgoing, Protocol, Request, RequestId, Retry};
use crate::session::LOG;

/// A callback that takes longer than this is told of in the log.
const PATIENCE: Duration = Duration::from_millis(100);

/// A protocol whose hooks are timed.
pub(super) struct Watched(pub(super) Box<dyn Protocol>);

/// Calls a callback, and says so when it took long.
pub(super) fn timed<R>(callback: &str, call: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = call();
    let took = start.elapsed();
    if took > PATIENCE {
        warn!(
            target: LOG,
            "The callback {callback} took {}ms on the I/O thread, where nothing else happens meanwhile; \
             what blocks belongs on another thread",
            took.as_millis()
        );
    }
    result
}

impl Protocol for Watched {
    fn check(&self) -> Result<(), Error> {
        self.0.check()
    }

    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut Request) -> Result<(), Error> {
        timed("prepare", || self.0.prepare(attempt, request))
    }

    fn on_open(&mut self, cx: &mut Context<'_>, accepted: &Accepted) -> Result<(), Error> {
        timed("on_open", || self.0.on_open(cx, accepted))
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        timed("on_message", || self.0.on_message(cx, message))
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        timed("on_ping", || self.0.on_ping(cx, payload))
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        timed("on_pong", || self.0.on_pong(cx, payload))
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        timed("on_send", || self.0.on_send(cx, outgoing))
    }

    fn on_withdrawn(&mut self, cx: &mut Context<'_>, request: RequestId) -> Result<(), Error> {
        timed("on_withdrawn", || self.0.on_withdrawn(cx, request))
    }

    fn on_work(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        result: Result<Message, Error>,
    ) -> Result<(), Error> {
        timed("on_work", || self.0.on_work(cx, id, result))
    }

    fn on_move_failed(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<(), Error> {
        timed("on_move_failed", || self.0.on_move_failed(cx, error))
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        timed("on_timer", || self.0.on_timer(cx, id))
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        timed("on_beat", || self.0.on_beat(cx))
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        timed("on_closing", || self.0.on_closing(cx))
    }

    fn on_down(&mut self, down: &Down<'_>) -> Retry {
        timed("on_down", || self.0.on_down(down))
    }
}
