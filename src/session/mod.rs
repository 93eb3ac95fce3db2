//! The rules of a line, without a clock, a thread, a socket or a channel.
//!
//! What happens goes in through `handle_*`, with the time as an argument; what is to be done comes out of three
//! getters, each asked until it has no more: [`Session::poll_transmit`] (not while writing is blocked),
//! [`Session::poll_event`] and [`Session::poll_action`]; [`Session::next_deadline`] says when to call
//! [`Session::handle_timeout`], which is harmless when early.

pub(crate) mod backoff;
mod closing;
pub(crate) mod heartbeat;
mod hooks;
mod loss;
mod moving;
pub(crate) mod outbox;
mod output;
pub(crate) mod reconnect;
mod requests;
mod transmit;

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::time::{Instant, SystemTime};

use log::info;

use crate::config::{Beat, ConnectionConfig, deadline};
use crate::error::{Error, Fault};
use crate::event::{CloseReason, DisconnectReason, Event, Left};
use crate::message::Message;
use crate::protocol::{Accepted, Effect, Protocol, Request, Work};
use crate::session::closing::Closing;
use crate::session::heartbeat::{HeartbeatAction, HeartbeatManager, Response, counter};
use crate::session::hooks::Timer;
use crate::session::moving::Beside;
use crate::session::outbox::Outbox;
use crate::session::reconnect::{Plan, ReconnectionManager};
pub(crate) use crate::session::requests::Reply;
use crate::session::requests::Requests;
use crate::session::transmit::{Cut, Queued, is_json_pong};
pub(crate) use crate::session::transmit::{Doubt, Frame, Watermarks};
use crate::state::ConnectionState;
use crate::stats::Stats;

/// What the log says comes from the library, not from one of its files.
pub(crate) const LOG: &str = "tautline";

/// Something for the worker to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make the socket beside the line's the line's own; say goodbye on the old one, and read it to its end.
    Switch,
    /// Drop the socket beside the line's.
    DropBeside,
    /// Drop the socket that the line has moved from.
    LetGo,
    /// Start an attempt.
    Dial { generation: u64, request: Request },
    /// The attempt took too long: abandon it, and report it as failed.
    TimeOutDial { generation: u64 },
    /// Abandon the attempt; its result is not wanted.
    AbandonDial,
    /// Have `handle_retry` called at the time of the plan.
    Schedule(Plan),
    /// Forget the plan.
    Unschedule,
    /// Drop the socket.
    HangUp,
    /// The client is closed: end the thread.
    Stop,
}

/// Something to be done elsewhere, with a call of `handle_work` for its result.
pub(crate) struct Piece {
    pub(crate) connection: u64,
    pub(crate) id: u32,
    pub(crate) work: Work,
}

/// How a client was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mode {
    /// `connect`: a first attempt that fails closes the client.
    pub(crate) one_attempt: bool,
    /// There is a callback that can fetch fresh credentials.
    pub(crate) fetches: bool,
}

pub(crate) struct Session {
    config: ConnectionConfig,
    mode: Mode,
    /// The wall clock at an instant; unix time is reckoned from it.
    wall: (Instant, SystemTime),
    state: ConnectionState,
    line: Line,
    reconnect: ReconnectionManager,
    heartbeat: HeartbeatManager,
    /// `None` for a plain session.
    protocol: Option<Box<dyn Protocol>>,
    requests: Requests,
    /// The connection that the line is to move to.
    beside: Option<Beside>,
    /// Until when the connection that the line has moved from is heard.
    leaving: Option<Instant>,
    /// The protocol's, which die with the connection.
    timers: BTreeMap<u32, Timer>,
    /// Reading is paused.
    paused: bool,
    /// What `Context::was_deaf` says.
    deaf: bool,
    /// The connection that the line has moved from.
    old: u64,
    /// The protocol is being told that a move has failed.
    move_fails: bool,
    /// Until when the protocol holds the outbox.
    hold: Option<Instant>,
    /// The protocol wants no other connection.
    stopped: bool,
    /// How much that the protocol wants done on this connection has no result yet.
    working: usize,
    random: Box<dyn FnMut() -> f64 + Send>,
    /// What a hook asks for; kept for its memory.
    effects: Vec<Effect>,
    outbox: Outbox,
    /// What goes out ahead of the outbox.
    frames: VecDeque<Queued>,
    /// The message that is going out in fragments.
    cut: Option<Cut>,
    /// The newest beat that was handed to the socket.
    beat_handed: u64,
    events: VecDeque<Event>,
    actions: VecDeque<Action>,
    pieces: VecDeque<Piece>,
    /// Pings on this connection, with the last ticket handed over before each.
    pings: VecDeque<(u64, u64)>,
    /// The last ticket that a ping has asked for.
    asked: u64,
    /// The last ticket that the caller wants confirmed.
    confirm_through: u64,
    /// Messages that will not be confirmed any more, for those who wait for that.
    doubts: Vec<Doubt>,
    /// The connection's bytes that the system has taken.
    taken: u64,
    /// The same, where `handle_taken` was ahead of `handle_progress`.
    taken_ahead: u64,
    /// Since when bytes wait and the system takes none.
    blocked_since: Option<Instant>,
    /// Numbers the attempts, so that a result that comes late is known as such.
    generation: u64,
    /// The attempt that brought the connection.
    connection: u64,
    /// Attempts since the line was last ready.
    attempts: u32,
    ever_ready: bool,
    /// Fresh credentials have been asked for since the line was last ready.
    refreshed: bool,
    left: Left,
    /// Why the line is down, until it is ready again.
    last: Option<DisconnectReason>,
    close_reason: Option<CloseReason>,
    stats: Stats,
}

#[derive(Debug)]
enum Line {
    Down,
    /// An attempt is under way; it has no deadline once it was timed out.
    Dialling(Option<Instant>),
    /// Open, and not ready yet. `opening`: the protocol is being told so.
    LoggingIn {
        until: Instant,
        accepted: Accepted,
        opening: bool,
    },
    /// Open and ready.
    Open {
        ready_at: Instant,
    },
    Closing(Closing),
    Closed,
}

impl Session {
    /// # Errors
    /// A setting of the backoff or the heartbeat can't be used.
    pub(crate) fn new(
        config: ConnectionConfig,
        protocol: Option<Box<dyn Protocol>>,
        mode: Mode,
        (now, wall): (Instant, SystemTime),
    ) -> Result<Self, Error> {
        let outbox = Outbox::new(config.delivery);
        Ok(Self {
            reconnect: ReconnectionManager::new(config.reconnect.clone())?,
            heartbeat: HeartbeatManager::new(config.heartbeat.clone())?,
            config,
            protocol,
            mode,
            requests: Requests::default(),
            beside: None,
            leaving: None,
            timers: BTreeMap::new(),
            paused: false,
            deaf: false,
            old: 0,
            move_fails: false,
            hold: None,
            stopped: false,
            working: 0,
            random: Box::new(fastrand::f64),
            effects: Vec::new(),
            wall: (now, wall),
            state: ConnectionState::Disconnected,
            line: Line::Down,
            outbox,
            asked: 0,
            confirm_through: 0,
            doubts: Vec::new(),
            frames: VecDeque::new(),
            cut: None,
            beat_handed: 0,
            events: VecDeque::new(),
            actions: VecDeque::new(),
            pieces: VecDeque::new(),
            pings: VecDeque::new(),
            taken: 0,
            taken_ahead: 0,
            blocked_since: None,
            generation: 0,
            connection: 0,
            attempts: 0,
            ever_ready: false,
            refreshed: false,
            left: Left::default(),
            last: None,
            close_reason: None,
            stats: Stats::default(),
        })
    }

    /// Makes the first attempt.
    pub(crate) fn start(&mut self, now: Instant) {
        if self.state == ConnectionState::Disconnected && !self.reconnect.is_scheduled() {
            self.dial(now);
        }
    }

    /// The attempt `generation` succeeded; the system has taken `taken` bytes of its connection. Returns whether the
    /// connection is wanted: if not, drop it.
    pub(crate) fn handle_opened(
        &mut self,
        now: Instant,
        generation: u64,
        accepted: Accepted,
        taken: u64,
    ) -> bool {
        if !matches!(self.line, Line::Dialling(_)) || generation != self.generation {
            return false;
        }
        self.connection = generation;
        self.go(ConnectionState::Connected, None);
        self.taken = taken;
        self.taken_ahead = taken;
        self.outbox.begin(taken);
        if self.protocol.is_none() {
            self.ready(now, accepted, false);
            return true;
        }
        let until = deadline(now, self.config.login_timeout);
        self.line = Line::LoggingIn { until, accepted: accepted.clone(), opening: true };
        self.hook(now, |protocol, cx| protocol.on_open(cx, &accepted));
        if let Line::LoggingIn { opening, .. } = &mut self.line {
            *opening = false;
        }
        self.is_up()
    }

    /// The attempt `generation` failed.
    pub(crate) fn handle_dial_failed(&mut self, now: Instant, generation: u64, error: Error) {
        if self.is_beside(generation) {
            self.move_failed(now, &error);
        } else if matches!(self.line, Line::Dialling(_)) && generation == self.generation {
            self.down(now, DisconnectReason::ConnectFailed(error));
        }
    }

    /// The time of a planned attempt has come.
    pub(crate) fn handle_retry(&mut self, now: Instant, generation: u64) {
        if self.reconnect.handle_due(generation) {
            self.dial(now);
        }
    }

    /// The caller wants no more waiting: an attempt at once, or, on an open line, a heartbeat at once.
    pub(crate) fn handle_reconnect_now(&mut self, now: Instant) {
        if self.reconnect.cancel_reconnect() {
            self.actions.push_back(Action::Unschedule);
            self.dial(now);
        } else {
            self.heartbeat.probe(now);
        }
    }

    /// A message was accepted from a caller. Unless it was written before `expires`, it never will be.
    pub(crate) fn handle_accepted(&mut self, ticket: u64, message: Message, expires: Option<Instant>) {
        self.outbox.push(ticket, message, expires);
    }

    /// A message arrived.
    pub(crate) fn handle_message(&mut self, now: Instant, message: Message) {
        self.heartbeat.handle_activity(now);
        if self.heartbeat.kind() == Beat::Json && is_json_pong(&message) {
            self.note_round_trip(now, Response::Json);
            return;
        }
        if !self.hears() {
            return;
        }
        self.stats.messages_received += 1;
        if self.protocol.is_some() {
            self.hook(now, |protocol, cx| protocol.on_message(cx, message));
        } else {
            self.deliver(message);
        }
    }

    /// A ping arrived; the socket has queued its pong.
    pub(crate) fn handle_ping(&mut self, now: Instant, payload: &[u8]) {
        if self.hears() {
            self.hook(now, |protocol, cx| protocol.on_ping(cx, payload));
        }
    }

    /// A pong arrived: it confirms every message handed over before its ping.
    pub(crate) fn handle_pong(&mut self, now: Instant, payload: &[u8]) {
        self.heartbeat.handle_activity(now);
        self.note_round_trip(now, Response::Pong(payload));
        let ping =
            counter(payload).and_then(|counter| self.pings.iter().position(|(sent, _)| *sent == counter));
        let confirmed = ping.and_then(|at| self.pings.drain(..=at).next_back());
        if let Some((_, ticket)) = confirmed {
            self.outbox.confirm(ticket);
            self.close_after_confirmation();
        }
        if self.hears() {
            self.hook(now, |protocol, cx| protocol.on_pong(cx, payload));
        }
    }

    /// Bytes arrived, whatever they are.
    pub(crate) fn handle_activity(&mut self, now: Instant) {
        self.heartbeat.handle_activity(now);
    }

    /// Reading is paused, since the application does not take its messages, or goes on.
    pub(crate) fn handle_paused(&mut self, now: Instant, paused: bool) {
        self.paused = paused;
        if paused {
            self.deafen();
        }
        self.heartbeat.handle_paused(now, paused);
    }

    /// The connection ended.
    pub(crate) fn handle_fault(&mut self, now: Instant, fault: Fault) {
        match (&self.line, fault) {
            (Line::Closing(_), _) => self.finish_closing(now),
            (Line::Open { .. } | Line::LoggingIn { .. }, Fault::Broken(error)) => self.line_lost(now, error),
            (Line::Open { .. } | Line::LoggingIn { .. }, Fault::Violation { code, reason }) => {
                self.tell_violation(now, code, reason);
            }
            (Line::Down | Line::Dialling(_) | Line::Closed, _) => {}
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Line::Dialling(limit) = &mut self.line
            && limit.take_if(|at| *at <= now).is_some()
        {
            self.actions.push_back(Action::TimeOutDial { generation: self.generation });
        }
        if matches!(self.line, Line::LoggingIn { until, .. } if until <= now) {
            let after = self.config.login_timeout;
            return self.line_lost(now, Error::LoginTimeout { after });
        }
        self.expire(now);
        self.hold.take_if(|until| *until <= now);
        self.timers_timeout(now);
        self.moving_timeout(now);
        self.closing_timeout(now);
        if self.write_deadline().is_some_and(|at| at <= now) {
            let after = self.config.write_timeout;
            return self.line_lost(now, Error::WriteStalled { after });
        }
        match self.heartbeat.handle_timeout(now) {
            Some(HeartbeatAction::Send(pulse)) => self.beat(now, pulse),
            Some(HeartbeatAction::Dead { silence }) => {
                self.line_lost(now, Error::HeartbeatTimeout { silence });
            }
            None => {}
        }
    }

    /// When `handle_timeout` has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let line = match &self.line {
            Line::Dialling(limit) => *limit,
            Line::LoggingIn { until, .. } => Some(*until),
            Line::Closing(closing) => {
                let waits = self.outbox.has_waiting();
                Some(closing.next_deadline(!waits, waits && self.hold.is_some()))
            }
            Line::Down | Line::Open { .. } | Line::Closed => None,
        };
        let timer = self.timers.values().map(|timer| timer.at).min();
        let expiry = self.config.max_age.and_then(|_| self.outbox.next_expiry());
        let deadlines = [
            line,
            timer,
            expiry,
            self.hold,
            self.moving_deadline(),
            self.write_deadline(),
            self.heartbeat.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn dial(&mut self, now: Instant) {
        self.go(ConnectionState::Connecting, None);
        self.generation += 1;
        self.attempts += 1;
        self.stats.attempts += 1;
        self.line = Line::Dialling(Some(deadline(now, self.config.connect_timeout)));
        match self.prepare(false) {
            Some(Ok(request)) => {
                self.actions.push_back(Action::Dial { generation: self.generation, request });
            }
            Some(Err(error)) => self.down(now, DisconnectReason::ConnectFailed(error)),
            None => {}
        }
    }

    fn ready(&mut self, now: Instant, accepted: Accepted, resumed: bool) {
        self.line = Line::Open { ready_at: now };
        self.ever_ready = true;
        self.refreshed = false;
        self.last = None;
        self.stats.connects += 1;
        self.heartbeat.start(now);
        let attempts = std::mem::take(&mut self.attempts);
        let Accepted { address, subprotocol } = accepted;
        self.events.push_back(Event::Connected { address, subprotocol, attempts, resumed });
    }

    /// Whether there is a connection.
    pub(crate) fn is_up(&self) -> bool {
        matches!(self.line, Line::LoggingIn { .. } | Line::Open { .. } | Line::Closing(_))
    }

    fn note_round_trip(&mut self, now: Instant, response: Response<'_>) {
        if let Some(round_trip) = self.heartbeat.handle_response(now, response) {
            self.stats.round_trip = Some(round_trip);
        }
    }

    fn wall_at(&self, now: Instant) -> SystemTime {
        let (then, wall) = self.wall;
        // A clock can be set to any time, the last there is among them.
        wall.checked_add(now.saturating_duration_since(then)).unwrap_or(wall)
    }

    /// The one place where the state changes; an illegal transition is not made.
    fn go(&mut self, to: ConnectionState, why: Option<&dyn Display>) {
        let from = self.state;
        debug_assert!(from.may_become(to), "{from} -> {to}");
        if !from.may_become(to) {
            return;
        }
        match why {
            Some(why) => info!(target: LOG, "Connection state: {from} -> {to} ({why})"),
            None => info!(target: LOG, "Connection state: {from} -> {to}"),
        }
        self.state = to;
        self.events.push_back(Event::StateChanged { from, to });
    }
}
