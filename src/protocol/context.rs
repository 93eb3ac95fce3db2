//! What a hook can ask for.

use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::event::Ticket;
use crate::message::Message;

/// What a hook of a [`Protocol`](crate::Protocol) works with. Everything asked for happens after the hook has returned,
/// in the order in which it was asked for.
pub struct Context<'a> {
    effects: &'a mut Vec<Effect>,
    waiting: &'a dyn Fn(u64) -> bool,
    unix: Duration,
    ready: bool,
}

/// A message of the application that is to go out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outgoing {
    /// The message, as it was given to `send` or `request`.
    pub message: Message,
    /// Its ticket.
    pub ticket: Ticket,
    /// Names the request, if it is one: hand it to [`Context::answer`] with the answer.
    pub request: Option<RequestId>,
}

/// Names a request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// Something that a hook asked for.
#[derive(Debug)]
pub(crate) enum Effect {
    Send(Message),
    Deliver(Message),
    Ready,
    Answer(RequestId, Result<Message, Error>),
    SetTimer(u32, Duration),
    CancelTimer(u32),
    BeatAnswered,
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        effects: &'a mut Vec<Effect>,
        waiting: &'a dyn Fn(u64) -> bool,
        unix: Duration,
        ready: bool,
    ) -> Self {
        Self { effects, waiting, unix, ready }
    }

    /// Sends a message, ahead of the application's.
    ///
    /// What waits to be sent is bounded as the outbox is; a protocol that exceeds that bound loses the line.
    pub fn send(&mut self, message: impl Into<Message>) {
        self.effects.push(Effect::Send(message.into()));
    }

    /// Gives a message to the application.
    pub fn deliver(&mut self, message: impl Into<Message>) {
        self.effects.push(Effect::Deliver(message.into()));
    }

    /// Declares the line ready: logged in. The application's messages flow and the heartbeats start. Once it is ready,
    /// this does nothing.
    pub fn ready(&mut self) {
        self.ready = true;
        self.effects.push(Effect::Ready);
    }

    /// Whether the line is ready.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Gives a request its answer. One that has been answered, has timed out or was lost is past answering, and this
    /// does nothing.
    pub fn answer(&mut self, request: RequestId, answer: impl Into<Message>) {
        self.effects.push(Effect::Answer(request, Ok(answer.into())));
    }

    /// Whether a request still waits for its answer: it was not answered, has not timed out, and was not lost.
    pub fn is_waiting(&self, request: RequestId) -> bool {
        (self.waiting)(request.0)
    }

    /// Ends a request with an error.
    pub fn fail_request(&mut self, request: RequestId, error: Error) {
        self.effects.push(Effect::Answer(request, Err(error)));
    }

    /// Has [`on_timer`](crate::Protocol::on_timer) called with `id` after this long, once, in place of an earlier timer
    /// of that `id`. Timers belong to the connection and die with it.
    pub fn set_timer(&mut self, id: u32, after: Duration) {
        self.effects.push(Effect::SetTimer(id, after));
    }

    /// Forgets the timer `id`.
    pub fn cancel_timer(&mut self, id: u32) {
        self.effects.push(Effect::CancelTimer(id));
    }

    /// The oldest heartbeat of [`Beat::Protocol`](crate::Beat::Protocol) was answered.
    pub fn beat_answered(&mut self) {
        self.effects.push(Effect::BeatAnswered);
    }

    /// The time since 1970 by the wall clock.
    pub fn unix_time(&self) -> Duration {
        self.unix
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("ready", &self.ready).finish_non_exhaustive()
    }
}
