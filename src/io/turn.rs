//! One turn: take what has come in, do what is due, publish what happened. It has no thread, no clock and no system
//! calls of its own: the [`Host`] provides them. The I/O thread has a real host; the test kit and the fuzzers have
//! simulated ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::config::WhileDown;
use crate::dial::Dialled;
use crate::error::{Error, Phase};
use crate::io::backpressure::Backpressure;
use crate::io::publisher::Publisher;
use crate::io::sockets::{Open, Sockets};
use crate::io::traffic;
use crate::jobs::JobResult;
use crate::protocol::UpgradeRequest;
use crate::session::reconnect::ReconnectPlan;
use crate::session::{Action, ConnectionId, Job, Readiness, Session, Watermarks};
use crate::shared::{Command, Intake, Item, Sleep, Special, Status};
use crate::state::ConnectionState;
use crate::stats::{Stats, Traffic};
use crate::transport::Connection;
use crate::transport::wire::Raw;

/// What a turn needs from outside.
pub(crate) trait Host {
    type Raw: Raw;

    /// The current time, after a part of the turn that may have taken long.
    fn now(&self) -> Instant;

    /// The next thing that has come in.
    fn poll(&mut self) -> Option<News<Self::Raw>>;

    /// Starts an attempt.
    fn dial(&mut self, now: Instant, generation: u64, request: UpgradeRequest);

    /// Abandons the attempt under way. Returns the phase it was in, the host it dealt with, and why the addresses of that
    /// had not been reached, if there are several.
    fn abandon_dial(&mut self) -> (Phase, Box<str>, Option<Arc<std::io::Error>>);

    /// Delivers [`News::Due`] when this plan is due. It replaces any other plan.
    fn schedule(&mut self, plan: ReconnectPlan);

    fn unschedule(&mut self);

    /// Has a job of the protocol done on another thread.
    fn run(&mut self, job: Job);

    /// Drops the jobs of a connection that were not begun.
    fn drop_jobs(&mut self, connection: ConnectionId);

    /// Reading pauses, because the application does not take its messages, or resumes.
    fn set_paused(&mut self, _paused: bool) {}

    /// Signals that there are events for the application. Returns `false` if the callback failed.
    fn notify(&mut self) -> bool {
        true
    }
}

/// Something that has come in.
pub(crate) enum News<T: Raw> {
    Dialled(Dialled<T>),
    JobResult(JobResult),
    Command(Command),
    /// This plan is due.
    Due {
        generation: u64,
    },
}

/// Which way messages moved in a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moved {
    /// Messages went out only: an answer may follow.
    Out = 0,
    /// Messages came in: the application's next one may follow.
    In = 1,
}

/// What follows a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// Another turn at once.
    Turn,
    /// Something is due. The sockets are polled before it is decided: this side may be late, and not the peer.
    Look,
    /// Nothing to do until `until`, or until something comes in.
    Sleep { until: Option<Instant>, wakes: Sleep },
}

pub(crate) struct Turn<H: Host> {
    pub(crate) host: H,
    pub(crate) session: Session,
    pub(crate) sockets: Sockets<H::Raw>,
    pub(crate) publisher: Publisher,
    pub(crate) intake: Arc<Intake>,
    pub(crate) status: Arc<Status>,
    /// Swapped with the intake's queue.
    accepted: VecDeque<Item>,
    /// Messages were taken from the intake since what there was last went out.
    has_fresh: bool,
    pause: Backpressure,
    /// The spin before the sleep has already read, so the next turn need not.
    pub(crate) already_read: bool,
    /// For want of room, the last read has left something that may speak for the peer.
    is_unheard: bool,
    /// Which way messages moved in this turn, if any did.
    pub(crate) moved: Option<Moved>,
    /// What callers have been told.
    published: Published,
    watermarks: Watermarks,
    readiness: Readiness,
    /// When the line was lost, callers were about to bring messages that they had been accepted for. They are taken in as they
    /// come, so that their fate is known now and not when the line is back.
    owed: bool,
}

/// What callers know of the line.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Published {
    state: ConnectionState,
    connection: Option<ConnectionId>,
    next_attempt: Option<Instant>,
    suspended: bool,
}

impl<H: Host> Turn<H> {
    pub(crate) fn new(
        host: H,
        session: Session,
        publisher: Publisher,
        intake: Arc<Intake>,
        status: Arc<Status>,
    ) -> Self {
        let readiness = session.readiness();
        intake.set_readiness(readiness, session.config().while_down == WhileDown::Refuse);
        Self {
            host,
            published: Published {
                state: session.state(),
                connection: None,
                next_attempt: None,
                suspended: false,
            },
            session,
            sockets: Sockets::default(),
            publisher,
            intake,
            status,
            accepted: VecDeque::new(),
            has_fresh: false,
            pause: Backpressure::default(),
            already_read: false,
            is_unheard: false,
            moved: None,
            watermarks: Watermarks::default(),
            readiness,
            owed: false,
        }
    }

    /// Does everything there is to do at `now`. Returns whether the client is closed.
    pub(crate) fn turn(&mut self, now: Instant) -> bool {
        let stop = self.advance(now);
        self.publish();
        stop
    }

    /// Like [`turn`](Self::turn), but without publishing what happened.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        self.take_news(now);
        self.take_messages();
        if !std::mem::take(&mut self.already_read) {
            self.read(now);
        }
        self.sockets.iter_mut().for_each(|open| traffic::drain(&mut self.session, open, now));
        if std::mem::take(&mut self.is_unheard) {
            self.session.handle_timeout_unheard(now);
        } else {
            self.session.handle_timeout(now);
        }
        // A connection that was given up is dropped before another byte of it is sent: a message reported as never
        // written must not be received.
        let stop = self.act(now);
        self.transmit(now);
        let stop = stop || self.act(now);
        self.admit();
        stop
    }

    /// The part of a turn that a caller may run: what has come goes to the callers, and what they sent goes out. Returns whether
    /// there are new events.
    pub(crate) fn take_turn(&mut self, now: Instant) -> bool {
        self.stand_in(now) && self.publish()
    }

    /// Like [`take_turn`](Self::take_turn), but without publishing what happened. Returns `false` if that is left to the I/O
    /// thread. Like a whole turn it reads first, so that nothing is written to a connection that has ended.
    pub(crate) fn stand_in(&mut self, now: Instant) -> bool {
        self.take_messages();
        self.sockets.iter_mut().for_each(|open| open.socket.assume_readable());
        self.read(now);
        self.session.expire(now);
        // A connection that was given up is left to the I/O thread, which drops it before anybody hears of that.
        if !self.session.has_actions() {
            self.transmit(now);
        }
        // The I/O thread did not move them, and need not wait for what follows.
        self.moved = None;
        if self.session.has_actions() {
            return false;
        }
        // Freed room is given back.
        self.take_messages();
        true
    }

    fn take_news(&mut self, now: Instant) {
        while let Some(news) = self.host.poll() {
            match news {
                News::Dialled(Dialled { generation, result: Ok(connection) }) => {
                    let Connection { socket, handshake } = connection;
                    if self.session.handle_opened(now, generation, &handshake, socket.taken()) {
                        self.sockets.add(Open::new(ConnectionId(generation), socket));
                    }
                }
                News::Dialled(Dialled { generation, result: Err(error) }) => {
                    self.session.handle_dial_failed(now, generation, error);
                }
                News::JobResult(JobResult { connection, id, result }) => {
                    self.session.handle_work(now, connection, id, result);
                }
                News::Command(command) => self.obey(now, command),
                News::Due { generation } => self.session.handle_retry(now, generation),
            }
        }
    }

    fn obey(&mut self, now: Instant, command: Command) {
        match command {
            Command::Close { frame, flush, until } => {
                self.close_intake();
                self.session.handle_close(now, frame, flush);
                self.session.close_by(until);
            }
            Command::Terminate => self.session.handle_terminate(),
            Command::Withdraw { ticket } => {
                self.exchange();
                self.publisher.forget(ticket);
                self.session.handle_withdrawn(now, ticket);
            }
            Command::Confirm { through } => self.session.handle_confirm(through),
            Command::ReconnectNow => self.session.handle_reconnect_now(now),
            Command::Reconnect => self.session.handle_reconnect(now),
            Command::Suspend => self.session.handle_suspend(now),
            Command::Resume => self.session.handle_resume(now),
        }
    }

    /// Hands accepted messages to the session, once they can be sent.
    fn take_messages(&mut self) {
        let takes = self.session.wants_outbox() || self.session.has_expiry() || self.owed;
        if takes || self.session.has_released() {
            self.exchange();
        }
    }

    /// Takes the accepted messages, and gives back the room of the written ones.
    fn exchange(&mut self) {
        // A look before the sleep may have found the line lost: what is accepted in the room that becomes free must know.
        self.set_readiness();
        let released = self.session.take_released();
        let revoked = self.intake.exchange(&mut self.accepted, (released.messages, released.bytes));
        self.owed &= self.intake.owes();
        self.has_fresh |= !self.accepted.is_empty();
        for Item { ticket, message, special, expires } in self.accepted.drain(..) {
            match special.map(|special| *special) {
                None => self.session.handle_accepted(ticket, message, expires),
                Some(Special::ThisConnection(session)) => {
                    self.session.handle_accepted_for(ticket, message, expires, session);
                }
                Some(Special::Request(reply)) => {
                    if self.session.handle_request(ticket, message, reply.many) {
                        self.publisher.expect(ticket, reply);
                    }
                }
            }
        }
        for ticket in revoked {
            self.session.handle_revoked(ticket);
        }
    }

    /// Lets callers send, or not. When the line is lost, what they have sent for this connection only is taken in, so that
    /// its fate is known now and not when the line is back.
    fn admit(&mut self) {
        if let Some(Readiness::Ready(_)) = self.set_readiness() {
            self.exchange();
            self.owed = self.intake.owes();
        }
    }

    /// Says whether callers can send now, if that has changed. Returns what was so before.
    fn set_readiness(&mut self) -> Option<Readiness> {
        let before = std::mem::replace(&mut self.readiness, self.session.readiness());
        if self.readiness == before {
            return None;
        }
        let refuses = self.session.config().while_down == WhileDown::Refuse;
        self.intake.set_readiness(self.readiness, refuses);
        Some(before)
    }

    /// Closes the intake: no more messages are accepted, and all accepted ones are with the session.
    pub(crate) fn close_intake(&mut self) {
        self.intake.close();
        self.exchange();
    }

    pub(crate) fn read(&mut self, now: Instant) {
        self.sockets.take_turns();
        let mut is_paused = false;
        for open in self.sockets.iter_mut().filter(|open| open.is_readable()) {
            let outcome = traffic::read(&mut self.session, &mut self.publisher, open, now);
            is_paused |= outcome.is_paused;
            if outcome.frames > 0 {
                self.moved = Some(Moved::In);
                self.pause.look_soon();
            }
        }
        self.is_unheard = is_paused;
    }

    fn transmit(&mut self, now: Instant) {
        self.has_fresh = false;
        for open in self.sockets.iter_mut() {
            if traffic::transmit(&mut self.session, open, now, || self.host.now()) {
                self.moved.get_or_insert(Moved::Out);
            }
        }
    }

    /// Performs the session's actions. Returns whether one of them is to stop.
    fn act(&mut self, now: Instant) -> bool {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Dial { generation, request } => self.host.dial(now, generation, request),
                Action::TimeOutDial { generation } => {
                    let (phase, host, source) = self.host.abandon_dial();
                    let after = self.session.config().connect_timeout;
                    let error = Error::ConnectTimeout { host, phase, after, source };
                    self.session.handle_dial_failed(now, generation, error);
                }
                Action::AbandonDial => drop(self.host.abandon_dial()),
                Action::Schedule(plan) => self.host.schedule(plan),
                Action::Unschedule => self.host.unschedule(),
                Action::Drop(id) => {
                    self.sockets.remove(id);
                    self.host.drop_jobs(id);
                }
                Action::Stop => return true,
            }
        }
        while let Some(job) = self.session.poll_job() {
            self.host.run(job);
        }
        false
    }

    /// Publishes to the callers what happened: first the state, then the events, then the signal that there are some.
    /// Returns whether there are new events.
    pub(crate) fn publish(&mut self) -> bool {
        self.status.set_stats(&self.stats());
        let (state, next_attempt) = (self.session.state(), self.session.next_attempt());
        // A move changes the connection, and not the state.
        let (connection, suspended) = (self.session.current(), self.session.is_suspended());
        let published = Published { state, connection, next_attempt, suspended };
        let before = std::mem::replace(&mut self.published, published);
        if published != before {
            let since = (state != before.state).then(|| self.host.now());
            let handshake = self.session.handshake().cloned();
            let ready = self.session.wants_outbox() && state != ConnectionState::Closing;
            let last_failure = self.session.last_failure();
            if let Some(reason) = self.session.close_reason() {
                self.status.set_close_reason(reason);
            }
            if state == ConnectionState::Closed {
                // Who knows that the client is closed has no message accepted any more.
                self.intake.close();
            }
            self.status.update(|status| {
                status.state = state;
                status.since = since.unwrap_or(status.since);
                status.ready = ready;
                status.next_attempt = next_attempt;
                status.suspended = published.suspended;
                status.handshake = handshake;
                status.last_failure = last_failure;
            });
        }
        while let Some(reply) = self.session.poll_reply() {
            self.publisher.reply(reply);
        }
        let any = self.publisher.put(self.session.events());
        // A caller that waits for a message's fate finds the events about it already in the queue.
        self.tell_watermarks();
        if any && !self.host.notify() {
            self.session.handle_panic("on_event_ready");
        }
        any
    }

    pub(crate) fn tell_watermarks(&mut self) {
        let doubts = self.session.take_lost();
        if !self.session.is_at(&self.watermarks) || !doubts.is_empty() {
            self.watermarks = self.session.watermarks();
            self.status.set_watermarks(self.watermarks.clone(), doubts);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.session.stats();
        let Traffic { written, read, compressed_written, compressed_read } = self.sockets.traffic();
        (stats.bytes_written, stats.bytes_read) = (written, read);
        (stats.compressed_written, stats.compressed_read) = (compressed_written, compressed_read);
        stats
    }

    /// Decides what follows the turn. `is_left`: what there is to read is left to somebody who comes for it.
    pub(crate) fn next(&mut self, now: Instant, is_left: bool) -> Next {
        let readable = self.sockets.are_readable();
        let paused = readable && self.session.delivers() && !self.publisher.has_room();
        // What has found no place waits for the application like what was not read.
        let stalled = paused || self.publisher.has_waiting();
        if stalled != self.pause.is_on() {
            self.host.set_paused(stalled);
        }
        let was_held = self.session.holds();
        self.session.handle_paused(now, paused);
        // Confirmations can't be read while reading is paused, so that nothing waits for them.
        let is_released = was_held && !self.session.holds();
        let mut until = self.session.next_deadline();
        if let Some(look) = self.pause.next_look(stalled) {
            let look = now + look;
            until = Some(until.map_or(look, |until| until.min(look)));
        }
        if until.is_some_and(|until| until <= now) {
            return Next::Look;
        }
        // Freed room is given back before anything else: a sender may wait for it. What was taken from the intake with that goes
        // out, too, though nobody sends another message.
        let unread = readable && !paused && !is_left;
        let more = is_released || unread || self.sockets.have_more_to_send() || self.has_fresh;
        if more || self.session.has_output() || self.session.has_released() {
            return Next::Turn;
        }
        let blocked = self.sockets.is_full(self.session.current());
        let all = (self.session.wants_outbox() && !blocked) || self.session.has_expiry() || self.owed;
        Next::Sleep { until, wakes: if all { Sleep::ForAll } else { Sleep::Light } }
    }

    /// How the I/O thread, which sleeps until `planned` at most, sleeps on after a caller's part of a turn. `None` if there is
    /// something to do for it before. For `is_left`, see [`next`](Self::next).
    pub(crate) fn may_sleep_on(
        &mut self,
        now: Instant,
        planned: Option<Instant>,
        is_left: bool,
    ) -> Option<Sleep> {
        let Next::Sleep { until, wakes } = self.next(now, is_left) else { return None };
        let is_early = until.is_some_and(|until| planned.is_none_or(|planned| until < planned));
        (!is_early && !self.sockets.are_blocked()).then_some(wakes)
    }

    /// Whether reading is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.pause.is_on()
    }

    /// Whether reading is paused and the application has made room.
    pub(crate) fn may_go_on(&mut self) -> bool {
        self.pause.is_on() && (self.publisher.has_room() || self.publisher.may_go_on())
    }

    /// Frees the memory that a burst has left behind.
    pub(crate) fn shrink(&mut self, now: Instant) {
        self.session.shrink();
        self.sockets.iter_mut().for_each(|open| traffic::shrink(&mut self.session, open, now));
        self.accepted.shrink_to_fit();
        self.publisher.shrink();
        self.intake.shrink();
    }
}
