//! Calls the protocol, and carries out what it asks for.

use std::time::{Duration, Instant, SystemTime};

use crate::config::deadline;
use crate::error::Error;
use crate::event::{CloseReason, Event};
use crate::message::Message;
use crate::panics::caught;
use crate::protocol::{Attempt, Context, Effect, Moment, Protocol, RequestId, UpgradeRequest};
use crate::session::connection::{Connection, Role, Stage};
use crate::session::heartbeat::HeartbeatResponse;
use crate::session::inquiry::Inquiry;
use crate::session::requests::Withdrawn;
use crate::session::timers::MOST_TIMERS;
use crate::session::{ConnectionId, Job, Session, WallClock};

/// How many jobs of the protocol may be under way for one connection.
const MOST_JOBS: usize = 64;

/// The occasion of a hook's call, where the effects depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum During {
    /// The connection has just been opened.
    Opening,
    /// A timer ran out. For part of that time, the connection was not read.
    TimerThatMissedInput,
    /// A move has failed. A protocol that moves again at once would never stop.
    MoveFailed,
    Anything,
}

/// The protocol, and what its calls need.
pub(super) struct Hooks {
    /// `None` for a plain session.
    pub(super) protocol: Option<Box<dyn Protocol>>,
    /// The protocol has stopped the client: there will be no further connection.
    pub(super) stopped: bool,
    pub(super) random: Box<dyn FnMut() -> f64 + Send>,
    /// Whether an end has given up its wait for the application's code, of which nothing is called any more.
    pub(super) is_abandoned: Box<dyn Fn() -> bool + Send>,
    /// A hook has called a message the answer to a heartbeat since this was last cleared.
    pub(super) beat_answered: bool,
    /// What a hook asks for. The vector is kept to reuse its memory.
    effects: Vec<Effect>,
}

impl Hooks {
    pub(super) fn new(protocol: Option<Box<dyn Protocol>>) -> Self {
        let (random, is_abandoned) = (Box::new(fastrand::f64), Box::new(|| false));
        Self { protocol, stopped: false, random, is_abandoned, beat_answered: false, effects: Vec::new() }
    }
}

impl Session {
    /// Sets what says whether the application's code may not be called any more. The error of a hook that was not called is no
    /// loss, then: the caller has ended the client.
    pub(crate) fn set_abandonment(&mut self, is_abandoned: impl Fn() -> bool + Send + 'static) {
        self.hooks.is_abandoned = Box::new(is_abandoned);
    }

    /// Calls the protocol about a connection, and carries out what it asks for. An error ends the connection; a panic
    /// ends the client.
    pub(super) fn hook(
        &mut self,
        now: Instant,
        id: ConnectionId,
        call: impl FnOnce(&mut dyn Protocol, &mut Context<'_>) -> Result<(), Error>,
    ) {
        self.hook_during(now, id, During::Anything, call);
    }

    pub(super) fn hook_during(
        &mut self,
        now: Instant,
        id: ConnectionId,
        during: During,
        call: impl FnOnce(&mut dyn Protocol, &mut Context<'_>) -> Result<(), Error>,
    ) {
        let Some(moment) = self.moment(now, id, during) else { return };
        let Some(mut protocol) = self.hooks.protocol.take() else { return };
        let mut effects = std::mem::take(&mut self.hooks.effects);
        let waiting = |request| self.requests.is_waiting(request);
        let mut cx = Context::new(&mut effects, &waiting, &mut *self.hooks.random, moment);
        let outcome = caught(|| call(&mut *protocol, &mut cx));
        let Some(outcome) = self.give_back(protocol, outcome) else { return };
        let outcome = self.hide_secrets(id, &mut effects, outcome);
        let outcome = self.overrule(&mut effects, outcome);
        // A move comes last: if it fails at once, what the protocol then asks for has to come behind all of this.
        let mut moves = false;
        for effect in effects.drain(..) {
            match effect {
                Effect::Move => moves = true,
                other => self.apply(now, id, during, other),
            }
        }
        self.hooks.effects = effects;
        if moves && self.line.role(id).is_some_and(|role| role != Role::Dismissed) {
            self.begin_move(now, during);
        }
        if let Err(error) = outcome {
            self.lose(now, id, error);
        }
    }

    /// An error ends a connection at once and overrides a close that was asked for. The error of a stop ends the
    /// client.
    fn overrule(&mut self, effects: &mut Vec<Effect>, outcome: Result<(), Error>) -> Result<(), Error> {
        let mut outcome = outcome;
        if outcome.is_err() {
            effects.retain(|effect| {
                if let Effect::Close { error: Some(error), .. } = effect
                    && !std::mem::replace(&mut self.hooks.stopped, true)
                {
                    outcome = Err(error.clone());
                }
                !matches!(effect, Effect::Close { .. })
            });
        }
        outcome
    }

    /// `None` if there is no such connection, or if its messages are ignored.
    fn moment(&self, now: Instant, id: ConnectionId, during: During) -> Option<Moment> {
        let unix = self.wall_at(now).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let role = self.line.role(id).filter(|role| *role != Role::Dismissed)?;
        let connection = self.line.connection(id)?;
        Some(Moment {
            now,
            unix,
            connection: id.0,
            ready: match connection.stage {
                Stage::LoggingIn { .. } => false,
                Stage::Standby { .. } | Stage::Ready | Stage::Leaving { .. } => true,
                Stage::Closing(_) => self.line.up().is_some_and(|up| up.ready.is_some()),
            },
            moving: role == Role::Successor,
            old: role == Role::Predecessor,
            missed_input: during == During::TimerThatMissedInput,
        })
    }

    /// Calls the protocol. `None` if there is none, or if it panicked: then it is never called again.
    pub(super) fn guarded<R>(&mut self, call: impl FnOnce(&mut dyn Protocol) -> R) -> Option<R> {
        let mut protocol = self.hooks.protocol.take()?;
        let outcome = caught(|| call(&mut *protocol));
        self.give_back(protocol, outcome)
    }

    fn give_back<R>(&mut self, protocol: Box<dyn Protocol>, outcome: Option<R>) -> Option<R> {
        if let Some(result) = outcome {
            self.hooks.protocol = Some(protocol);
            return Some(result);
        }
        // Dropping the protocol runs its code, too.
        let _ = caught(|| drop(protocol));
        self.handle_panic("protocol");
        None
    }

    /// The request for the next attempt. `None` if preparing it has closed the client.
    pub(super) fn prepare(&mut self, moving: bool) -> Option<Result<UpgradeRequest, Error>> {
        let mut request = UpgradeRequest::new(&self.config);
        self.retries.servers.url().clone_into(&mut request.url);
        if self.hooks.protocol.is_none() {
            return Some(Ok(request));
        }
        let last = self.retries.last_failure.clone();
        let attempt = Attempt {
            number: self.retries.attempts,
            ever_ready: self.retries.ever_ready,
            last: last.as_ref(),
            moving,
        };
        let outcome = self.guarded(|protocol| protocol.prepare(&attempt, &mut request))?;
        Some(outcome.map(|()| request))
    }

    /// A request was accepted from a caller, who wants one answer or, with `many`, several. Returns whether there will
    /// be a reply. On a closed line there is none: the caller learns of the end without one.
    pub(crate) fn handle_request(&mut self, ticket: u64, message: Message, many: bool) -> bool {
        let is_closed = self.line.is_closed();
        if !is_closed {
            self.requests.add(ticket, many);
            // The caller's wait has its own timeout.
            self.outbox.push_request(ticket, message);
        }
        !is_closed
    }

    /// The caller no longer waits for the answer to a request. The connection that carried the request is informed, if
    /// it still exists.
    pub(crate) fn handle_withdrawn(&mut self, now: Instant, ticket: u64) {
        match self.requests.withdraw(ticket) {
            Withdrawn::Queued => self.outbox.withdraw(ticket),
            Withdrawn::Handed(id) if self.line.ready().is_some() => {
                self.hook(now, id, |protocol, cx| protocol.on_withdrawn(cx, RequestId(ticket)));
            }
            Withdrawn::Handed(_) | Withdrawn::Ended => {}
        }
    }

    /// The result of a job that the protocol had done elsewhere, for connection `id`.
    pub(crate) fn handle_work(
        &mut self,
        now: Instant,
        id: ConnectionId,
        work: u32,
        result: Result<Message, Error>,
    ) {
        let Some(connection) = self.line.connection_mut(id) else { return };
        connection.jobs = connection.jobs.saturating_sub(1);
        if self.line.role(id) != Some(Role::Predecessor) {
            self.hook(now, id, |protocol, cx| protocol.on_work(cx, work, result));
        }
    }

    /// Carries out what a hook about connection `id` has asked for, but for a move. A predecessor is only listened to: apart from
    /// moves and closes, nothing that acts on a connection is done for it.
    fn apply(&mut self, now: Instant, id: ConnectionId, during: During, effect: Effect) {
        let role = self.line.role(id);
        match effect {
            Effect::Deliver(message) => return self.deliver(message),
            Effect::Acknowledge(tickets) => return self.acknowledge(now, id, &tickets),
            Effect::Part(request, answer) => {
                self.outbox.acknowledge(request.0);
                return self.answer_in_part(request.0, answer);
            }
            Effect::End(request, end) => {
                // Any other error comes from the protocol itself, not from the server.
                if matches!(end, Ok(Some(_)) | Err(Error::Answer { .. })) {
                    self.outbox.acknowledge(request.0);
                }
                return self.requests.end(request.0, end);
            }
            _ => {}
        }
        let paused = self.paused;
        if role == Some(Role::Dismissed) {
            return;
        }
        let Some(connection) = self.line.connection_mut(id) else { return };
        match effect {
            Effect::Close { code, reason, error } => self.close_for_protocol(now, id, code, &reason, error),
            _ if role == Some(Role::Predecessor) => {}
            Effect::Send(message) => self.send_ahead(now, id, message),
            Effect::Ready { resumed } => self.logged_in(now, id, during, resumed),
            Effect::SetTimer(timer, after) => {
                if !connection.timers.set(now, timer, after, paused) {
                    let reason = format!("the protocol set more than {MOST_TIMERS} timers");
                    self.lose(now, id, Error::session(reason));
                }
            }
            Effect::CancelTimer(timer) => connection.timers.cancel(timer),
            Effect::BeatAnswered => {
                self.hooks.beat_answered = true;
                self.note_round_trip(now, id, HeartbeatResponse::Json);
            }
            Effect::Beats { first, interval } => connection.heartbeat.set_beats(now, first, interval),
            Effect::StopBeats => connection.heartbeat.stop_beats(),
            Effect::Servers(urls) => self.replace_servers(now, id, urls),
            Effect::Hold(time) => connection.hold = Some(deadline(now, time)),
            Effect::Release => connection.hold = None,
            Effect::Work(..) if connection.jobs == MOST_JOBS => {
                let reason = format!("{MOST_JOBS} pieces of the protocol's work wait already");
                self.lose(now, id, Error::session(reason));
            }
            Effect::Work(work_id, work) => {
                connection.jobs += 1;
                self.out.jobs.push_back(Job { connection: id, id: work_id, work });
            }
            Effect::Move
            | Effect::Deliver(_)
            | Effect::Acknowledge(_)
            | Effect::Part(..)
            | Effect::End(..)
            | Effect::Secret(_) => {}
        }
    }

    /// Sends a message of the protocol itself ahead of the application's messages.
    fn send_ahead(&mut self, now: Instant, id: ConnectionId, message: Message) {
        let (size, allowed) = (message.len(), self.config.largest_message());
        let Some(connection) = self.line.connection_mut(id) else { return };
        if connection.closing().is_some_and(|closing| !closing.is_flushing()) {
            return;
        }
        let sent = if size > allowed {
            let reason =
                format!("the protocol sent a message of {size} bytes; max_message_size allows {allowed}");
            Err(Error::session(reason))
        } else {
            connection.sender.push_bounded(message, self.config.outbox)
        };
        if let Err(error) = sent {
            self.lose(now, id, error);
        }
    }

    /// Delivers a message to the application.
    #[inline]
    pub(super) fn deliver(&mut self, message: Message) {
        let accepts = self.line.current().is_some_and(Connection::accepts_input);
        if accepts && !self.discards() && !self.overflows() {
            self.out.handed_out.add(message.len());
            self.out.events.push_back(Event::Message(message));
        }
    }

    /// Passes on one of several answers. Where there is no room for it, that is the end of them.
    fn answer_in_part(&mut self, request: u64, answer: Message) {
        if self.overflows() {
            let reason = "the line is closing, and there is no room for its answers";
            return self.requests.end(request, Err(Error::Unanswered { reason: reason.into() }));
        }
        self.out.handed_out.add(answer.len());
        self.requests.part(request, answer);
    }

    fn logged_in(&mut self, now: Instant, id: ConnectionId, during: During, resumed: bool) {
        let until = deadline(now, self.config.close_timeout);
        let is_current = self.line.role(id) == Some(Role::Current);
        let Some(connection) = self.line.connection_mut(id) else { return };
        if !matches!(connection.stage, Stage::LoggingIn { .. }) {
            return;
        }
        if !is_current {
            connection.stage = Stage::Standby { since: now, until, inquiry: Inquiry::default() };
            return;
        }
        // A line that is ready as soon as it is open had no login.
        self.ready(now, during != During::Opening, resumed);
    }

    /// Calls the protocol for each expired timer of a connection.
    pub(super) fn timers_timeout(&mut self, now: Instant, id: ConnectionId) {
        let due = self.line.connection(id).map(|connection| connection.timers.due(now)).unwrap_or_default();
        for timer in due {
            // An earlier timer's hook may have ended the connection.
            let Some(connection) = self.line.connection_mut(id) else { return };
            let Some(missed_input) = connection.timers.take_due(now, timer) else { continue };
            let during = if missed_input { During::TimerThatMissedInput } else { During::Anything };
            self.hook_during(now, id, during, |protocol, cx| protocol.on_timer(cx, timer));
        }
    }

    /// The wall clock reads `wall`. If it ran ahead of `now`, the machine was suspended, and the peer is asked anew.
    pub(crate) fn handle_clock(&mut self, now: Instant, wall: SystemTime) {
        const SLEPT: Duration = Duration::from_secs(5);
        let ran_ahead = wall.duration_since(self.wall_at(now)).unwrap_or_default();
        self.clock = WallClock(now, wall);
        if ran_ahead > SLEPT {
            for connection in self.line.connections_mut() {
                connection.timers.miss_input();
                connection.heartbeat.handle_sleep(now);
                connection.idle.restart(now);
            }
        }
    }

    /// The protocol makes the heartbeat: the beat is whatever it sends.
    pub(super) fn protocol_beat(&mut self, now: Instant) {
        let Some(current) = self.line.current() else { return };
        let (id, number, before) = (current.id, current.heartbeat.sent(), current.sender.waiting());
        self.hook(now, id, |protocol, cx| protocol.on_beat(cx));
        let Some(current) = self.line.current_mut().filter(|current| current.id == id) else { return };
        let sent = current.sender.waiting() > before;
        match current.sender.last_mut() {
            Some(last) if sent => last.beat = Some(number),
            // There is nothing to write, so the wait for a sign of life starts now.
            _ => current.heartbeat.handle_written(now, number),
        }
    }

    /// Whether a message on this connection counts as data. `None` if the application's filter panicked.
    #[inline]
    pub(super) fn counts_as_data(&mut self, id: ConnectionId, message: &Message) -> Option<bool> {
        let judges = self.line.ready().is_some_and(|ready| ready.id == id && ready.idle.is_running());
        let Some(filter) = self.data.as_ref().filter(|_| judges) else { return Some(true) };
        let counts = caught(|| filter(message));
        if counts.is_none() {
            self.handle_panic("counts_as_data");
        }
        counts
    }

    /// A callback of the application panicked.
    pub(crate) fn handle_panic(&mut self, callback: &'static str) {
        self.close_for_good(CloseReason::Failed(Error::Panicked { callback }));
    }
}
