//! Where the protocol is called, and what it asks for is done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use crate::config::deadline;
use crate::error::Error;
use crate::event::{CloseReason, Event};
use crate::message::Message;
use crate::protocol::{Attempt, Context, Effect, Protocol, Request};
use crate::session::heartbeat::Response;
use crate::session::{Frame, Line, Queued, Session};
use crate::state::ConnectionState;

/// A timer that runs out at once would leave no time for anything else.
const SHORTEST_TIMER: Duration = Duration::from_millis(1);

impl Session {
    /// Calls the protocol, and does what it asked for. An error ends the connection, a panic the client.
    pub(super) fn hook(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut dyn Protocol, &mut Context<'_>) -> Result<(), Error>,
    ) {
        let unix = self.wall_at(now).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ready = matches!(self.line, Line::Open { .. });
        let requests = std::mem::take(&mut self.requests);
        let mut effects = std::mem::take(&mut self.effects);
        let outcome = self.guarded(|protocol| {
            call(
                protocol,
                &mut Context::new(&mut effects, &|request| requests.is_waiting(request), unix, ready),
            )
        });
        self.requests = requests;
        let Some(outcome) = outcome else { return };
        for effect in effects.drain(..) {
            self.apply(now, effect);
        }
        self.effects = effects;
        if let Err(error) = outcome {
            self.line_lost(now, error);
        }
    }

    /// Calls the protocol. `None` if there is none, or if it panicked: then it is never called again.
    pub(super) fn guarded<R>(&mut self, call: impl FnOnce(&mut dyn Protocol) -> R) -> Option<R> {
        let mut protocol = self.protocol.take()?;
        if let Ok(result) = catch_unwind(AssertUnwindSafe(|| call(&mut *protocol))) {
            self.protocol = Some(protocol);
            return Some(result);
        }
        // Its drop is its code, too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(protocol)));
        self.handle_panic("protocol");
        None
    }

    /// What the next attempt asks for. `None` if the client was closed over it.
    pub(super) fn prepare(&mut self) -> Option<Result<Request, Error>> {
        let mut request = Request::new(&self.config);
        if self.protocol.is_none() {
            return Some(Ok(request));
        }
        let last = self.last.clone();
        let attempt = Attempt { number: self.attempts, ever_ready: self.ever_ready, last: last.as_ref() };
        let outcome = self.guarded(|protocol| protocol.prepare(&attempt, &mut request))?;
        Some(outcome.map(|()| request))
    }

    /// A request was accepted from a caller.
    pub(crate) fn handle_request(&mut self, ticket: u64, message: Message) {
        // The caller learns of the end by itself, and a request is not left over.
        if !matches!(self.line, Line::Closed) {
            self.requests.add(ticket);
            self.stats.messages_accepted += 1;
            // The caller waits with a timeout of its own.
            self.outbox.push_request(ticket, message);
        }
    }

    /// The caller waits no longer for the answer to a request.
    pub(crate) fn handle_withdrawn(&mut self, ticket: u64) {
        if self.requests.withdraw(ticket) {
            self.outbox.withdraw(ticket);
        }
    }

    fn apply(&mut self, now: Instant, effect: Effect) {
        match effect {
            Effect::Send(message) => self.send_ahead(now, message),
            Effect::Deliver(message) => self.deliver(message),
            Effect::Ready => self.logged_in(now),
            Effect::Answer(request, reply) => self.requests.reply(request.0, reply),
            Effect::SetTimer(id, after) => {
                if self.is_up() {
                    self.timers.insert(id, deadline(now, after.max(SHORTEST_TIMER)));
                }
            }
            Effect::CancelTimer(id) => {
                self.timers.remove(&id);
            }
            Effect::BeatAnswered => self.note_round_trip(now, Response::Json),
        }
    }

    /// A message of the protocol's own goes out ahead of the application's.
    fn send_ahead(&mut self, now: Instant, message: Message) {
        if !self.is_up() || self.goodbye_is_said() {
            return;
        }
        let (size, allowed) = (message.len(), self.config.max_message_size);
        if size > allowed {
            let reason =
                format!("the protocol sent a message of {size} bytes; max_message_size allows {allowed}");
            return self.line_lost(now, Error::session(reason));
        }
        let (limit, waiting) = (self.config.outbox, &self.frames);
        let bytes: usize = waiting.iter().map(|queued| queued.frame.len()).sum();
        if waiting.len() >= limit.messages || (bytes + message.len() > limit.bytes && !waiting.is_empty()) {
            let reason =
                format!("the protocol sent more than the line took: {} messages wait", waiting.len());
            return self.line_lost(now, Error::session(reason));
        }
        self.frames.push_back(Queued::from(Frame::Message(message)));
    }

    /// A message for the application.
    pub(super) fn deliver(&mut self, message: Message) {
        if self.hears() && !self.discards() {
            self.events.push_back(Event::Message(message));
        }
    }

    fn logged_in(&mut self, now: Instant) {
        let Line::LoggingIn { accepted, opening, .. } = &self.line else { return };
        let (accepted, opening) = (accepted.clone(), *opening);
        // Ready as soon as it is open: there was no login.
        if !opening {
            self.go(ConnectionState::Authenticated, None);
        }
        self.ready(now, accepted);
    }

    /// Calls for the timers that have run out.
    pub(super) fn timers_timeout(&mut self, now: Instant) {
        let due: Vec<u32> = self.timers.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            // One may have been cancelled by another, or have died with the connection.
            if self.timers.get(&id).is_some_and(|at| *at <= now) {
                self.timers.remove(&id);
                self.hook(now, |protocol, cx| protocol.on_timer(cx, id));
            }
        }
    }

    /// The heartbeat is the protocol's: what it sends carries the beat.
    pub(super) fn protocol_beat(&mut self, now: Instant) {
        let number = self.heartbeat.sent();
        let before = self.frames.len();
        self.hook(now, |protocol, cx| protocol.on_beat(cx));
        let sent = self.frames.len() > before;
        match self.frames.back_mut() {
            Some(last) if sent => last.beat = Some(number),
            // Nothing to write: it waits for a sign of life from now on.
            _ => self.heartbeat.handle_written(now, number),
        }
    }

    /// A callback of the application panicked.
    pub(crate) fn handle_panic(&mut self, callback: &'static str) {
        self.close_for_good(CloseReason::Failed(Error::Panicked { callback }));
    }
}
