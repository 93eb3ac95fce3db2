//! Where the protocol is called, and what it asks for is done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::config::deadline;
use crate::error::Error;
use crate::event::{CloseReason, Event};
use crate::message::Message;
use crate::protocol::{Attempt, Context, Effect, Moment, Protocol, Request, RequestId};
use crate::session::heartbeat::Response;
use crate::session::moving::Side;
use crate::session::{Frame, Line, Piece, Queued, Session};
use crate::state::ConnectionState;

/// A timer that runs out at once would leave no time for anything else.
pub(super) const SHORTEST_TIMER: Duration = Duration::from_millis(1);

/// So many timers may be set at a time.
pub(super) const TIMERS: usize = 1024;

/// So much work may be under way for a connection.
pub(super) const WORKING: usize = 64;

/// A timer of the protocol's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timer {
    pub(super) at: Instant,
    /// The line was not heard all the time since it was set.
    pub(super) deaf: bool,
}

impl Session {
    /// Calls the protocol about the line, and does what it asked for. An error ends the connection, a panic the client.
    pub(super) fn hook(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut dyn Protocol, &mut Context<'_>) -> Result<(), Error>,
    ) {
        if let Err(error) = self.hook_at(Side::Line, now, call) {
            self.line_lost(now, error);
        }
    }

    /// Calls the protocol about this connection, and does what it asked for. A panic ends the client.
    pub(super) fn hook_at(
        &mut self,
        side: Side,
        now: Instant,
        call: impl FnOnce(&mut dyn Protocol, &mut Context<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let moment = self.moment(side, now);
        let Some(mut protocol) = self.protocol.take() else { return Ok(()) };
        let mut effects = std::mem::take(&mut self.effects);
        let waiting = |request| self.requests.is_waiting(request);
        let mut cx = Context::new(&mut effects, &waiting, &mut *self.random, moment);
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&mut *protocol, &mut cx)));
        let outcome = self.give_back(protocol, outcome);
        let Some(outcome) = outcome else { return Ok(()) };
        let outcome = self.overrule(&mut effects, outcome);
        for effect in effects.drain(..) {
            match side {
                Side::Line => self.apply(now, effect),
                Side::Beside => self.apply_beside(now, effect),
                Side::Old => self.apply_old(now, effect),
            }
        }
        self.effects = effects;
        outcome
    }

    /// An error ends a connection at once, ahead of a close that was asked for; one of a stop ends the client.
    fn overrule(&mut self, effects: &mut Vec<Effect>, outcome: Result<(), Error>) -> Result<(), Error> {
        let mut outcome = outcome;
        if outcome.is_err() {
            effects.retain(|effect| {
                if let Effect::Close { error: Some(error), .. } = effect
                    && !std::mem::replace(&mut self.stopped, true)
                {
                    outcome = Err(error.clone());
                }
                !matches!(effect, Effect::Close { .. })
            });
        }
        outcome
    }

    fn moment(&self, side: Side, now: Instant) -> Moment {
        let unix = self.wall_at(now).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (connection, ready) = match side {
            Side::Line => (self.connection, matches!(self.line, Line::Open { .. })),
            Side::Beside => (self.beside_number(), self.is_switching()),
            Side::Old => (self.old, true),
        };
        let (moving, old) = (side == Side::Beside, side == Side::Old);
        Moment { now, unix, connection, ready, moving, old, deaf: self.deaf }
    }

    /// Calls the protocol. `None` if there is none, or if it panicked: then it is never called again.
    pub(super) fn guarded<R>(&mut self, call: impl FnOnce(&mut dyn Protocol) -> R) -> Option<R> {
        let mut protocol = self.protocol.take()?;
        let outcome = catch_unwind(AssertUnwindSafe(|| call(&mut *protocol)));
        self.give_back(protocol, outcome)
    }

    fn give_back<R>(&mut self, protocol: Box<dyn Protocol>, outcome: thread::Result<R>) -> Option<R> {
        if let Ok(result) = outcome {
            self.protocol = Some(protocol);
            return Some(result);
        }
        // Its drop is its code, too.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(protocol)));
        self.handle_panic("protocol");
        None
    }

    /// What the next attempt asks for. `None` if the client was closed over it.
    pub(super) fn prepare(&mut self, moving: bool) -> Option<Result<Request, Error>> {
        let mut request = Request::new(&self.config);
        if self.protocol.is_none() {
            return Some(Ok(request));
        }
        let last = self.last.clone();
        let attempt =
            Attempt { number: self.attempts, ever_ready: self.ever_ready, last: last.as_ref(), moving };
        let outcome = self.guarded(|protocol| protocol.prepare(&attempt, &mut request))?;
        Some(outcome.map(|()| request))
    }

    /// A request was accepted from a caller, who wants `many` answers or one.
    pub(crate) fn handle_request(&mut self, ticket: u64, message: Message, many: bool) {
        // The caller learns of the end by itself, and a request is not left over.
        if !matches!(self.line, Line::Closed) {
            self.requests.add(ticket, many);
            // The caller waits with a timeout of its own.
            self.outbox.push_request(ticket, message);
        }
    }

    /// The caller waits no longer for the answer to a request.
    pub(crate) fn handle_withdrawn(&mut self, now: Instant, ticket: u64) {
        match self.requests.withdraw(ticket) {
            Some(false) => self.outbox.withdraw(ticket),
            Some(true) if matches!(self.line, Line::Open { .. }) => {
                self.hook(now, |protocol, cx| protocol.on_withdrawn(cx, RequestId(ticket)));
            }
            Some(true) | None => {}
        }
    }

    /// What the protocol had done elsewhere, for `connection`, has this result.
    pub(crate) fn handle_work(
        &mut self,
        now: Instant,
        connection: u64,
        id: u32,
        result: Result<Message, Error>,
    ) {
        self.working = self.working.saturating_sub(1);
        if self.is_beside(connection) {
            self.beside_hook(now, |protocol, cx| protocol.on_work(cx, id, result));
        } else if self.is_up() && connection == self.connection {
            self.hook(now, |protocol, cx| protocol.on_work(cx, id, result));
        }
    }

    pub(super) fn apply(&mut self, now: Instant, effect: Effect) {
        match effect {
            Effect::Send(message) => self.send_ahead(now, message),
            Effect::Deliver(message) => self.deliver(message),
            Effect::Ready { resumed } => self.logged_in(now, resumed),
            Effect::Part(request, answer) => self.requests.part(request.0, answer),
            Effect::End(request, end) => self.requests.end(request.0, end),
            // What follows belongs to a connection, and this one is gone.
            _ if !self.is_up() => {}
            Effect::SetTimer(id, after) => {
                self.timers.insert(id, self.timer(now, after));
                if self.timers.len() > TIMERS {
                    self.line_lost(
                        now,
                        Error::session(format!("the protocol set more than {TIMERS} timers")),
                    );
                }
            }
            Effect::CancelTimer(id) => {
                self.timers.remove(&id);
            }
            Effect::BeatAnswered => self.note_round_trip(now, Response::Json),
            Effect::Beats { first, interval } => self.heartbeat.set_beats(now, first, interval),
            Effect::Hold(time) => self.hold = Some(deadline(now, time)),
            Effect::Release => self.hold = None,
            Effect::Move => self.begin_move(now),
            Effect::Work(..) if self.working == WORKING => {
                self.line_lost(
                    now,
                    Error::session(format!("{WORKING} pieces of the protocol's work wait already")),
                );
            }
            Effect::Work(id, work) => {
                self.working += 1;
                self.pieces.push_back(Piece { connection: self.connection, id, work });
            }
            Effect::Close { code, reason, error } => self.close_for_protocol(now, code, &reason, error),
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

    fn logged_in(&mut self, now: Instant, resumed: bool) {
        let Line::LoggingIn { accepted, opening, .. } = &self.line else { return };
        let (accepted, opening) = (accepted.clone(), *opening);
        // Ready as soon as it is open: there was no login.
        if !opening {
            self.go(ConnectionState::Authenticated, None);
        }
        self.ready(now, accepted, resumed);
    }

    /// Calls for the timers that have run out.
    pub(super) fn timers_timeout(&mut self, now: Instant) {
        let due: Vec<u32> =
            self.timers.iter().filter(|(_, timer)| timer.at <= now).map(|(id, _)| *id).collect();
        for id in due {
            // One may have been cancelled by another, or have died with the connection.
            if self.timers.get(&id).is_some_and(|timer| timer.at <= now)
                && let Some(timer) = self.timers.remove(&id)
            {
                self.deaf = timer.deaf;
                self.hook(now, |protocol, cx| protocol.on_timer(cx, id));
                self.deaf = false;
            }
        }
    }

    pub(super) fn timer(&self, now: Instant, after: Duration) -> Timer {
        Timer { at: deadline(now, after.max(SHORTEST_TIMER)), deaf: self.paused }
    }

    /// The wall clock reads `wall`. One that ran ahead of `now` says that the machine slept: its peer is asked anew.
    pub(crate) fn handle_clock(&mut self, now: Instant, wall: SystemTime) {
        const SLEPT: Duration = Duration::from_secs(5);
        let ran_ahead = wall.duration_since(self.wall_at(now)).unwrap_or_default();
        self.wall = (now, wall);
        if ran_ahead > SLEPT {
            self.deafen();
            self.heartbeat.handle_sleep(now);
        }
    }

    /// What the timers wait for may come unheard.
    pub(super) fn deafen(&mut self) {
        self.timers.values_mut().for_each(|timer| timer.deaf = true);
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
