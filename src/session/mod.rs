//! The rules of a line, without a clock, a thread, a socket or a channel.
//!
//! What happens goes in through `handle_*`, with the time as an argument; what is to be done comes out of three
//! getters, each asked until it has no more: [`Session::poll_transmit`] (not while writing is blocked),
//! [`Session::poll_event`] and [`Session::poll_action`]; [`Session::next_deadline`] says when to call
//! [`Session::handle_timeout`], which is harmless when early.

pub(crate) mod backoff;
mod close_handshake;
mod closing;
mod confirm;
mod connection;
mod due;
pub(crate) mod heartbeat;
mod hooks;
mod idle;
mod inquiry;
mod ledger;
mod line;
mod moving;
pub(crate) mod outbox;
mod outputs;
mod pings;
pub(crate) mod reconnect;
mod released;
mod requests;
mod retries;
mod secrets;
mod sender;
mod servers;
mod settled;
mod suspending;
mod timers;
mod transmit;
pub(crate) mod unanswered;

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use log::info;

use crate::config::{Beat, ConnectionConfig, deadline};
use crate::error::{CloseFrame, Error, Fault};
use crate::event::{DisconnectReason, Event, Tickets};
use crate::handshake::Handshake;
use crate::logging::LOG;
use crate::message::Message;
use crate::protocol::{Protocol, UpgradeRequest, Work};
pub(crate) use crate::session::connection::COMPRESSED_AT_ONCE;
pub(crate) use crate::session::connection::ConnectionId;
use crate::session::connection::{Connection, Role, Stage};
use crate::session::heartbeat::HeartbeatResponse;
use crate::session::hooks::{During, Hooks};
pub(crate) use crate::session::ledger::Progress;
pub(crate) use crate::session::line::Readiness;
use crate::session::line::{Line, Ready, Up};
use crate::session::moving::Goodbye;
use crate::session::outbox::Outbox;
use crate::session::outputs::Outputs;
use crate::session::pings::Wanted;
use crate::session::reconnect::{ReconnectPlan, ReconnectionManager};
pub(crate) use crate::session::requests::Reply;
use crate::session::requests::Requests;
use crate::session::retries::Retries;
pub(crate) use crate::session::sender::Frame;
use crate::session::servers::Servers;
use crate::session::transmit::is_json_pong;
pub(crate) use crate::session::transmit::{LostMessages, Watermarks};
use crate::stats::Stats;

/// Something for the I/O thread to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start an attempt.
    Dial { generation: u64, request: UpgradeRequest },
    /// The attempt took too long: abandon it, and report it as failed.
    TimeOutDial { generation: u64 },
    /// Abandon the attempt; its result is not needed.
    AbandonDial,
    /// Have `handle_retry` called when the plan is due.
    Schedule(ReconnectPlan),
    /// Forget the plan.
    Unschedule,
    /// Drop the socket of this connection.
    Drop(ConnectionId),
    /// The client is closed: end the thread.
    Stop,
}

/// Work to be done on another thread, with a call of `handle_work` for its result.
pub(crate) struct Job {
    pub(crate) connection: ConnectionId,
    pub(crate) id: u32,
    pub(crate) work: Work,
}

/// How a client was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Startup {
    /// `connect`: a first attempt that fails closes the client.
    pub(crate) one_attempt: bool,
    /// There is a callback that can fetch fresh credentials.
    pub(crate) fetches: bool,
}

pub(crate) struct Session {
    config: Arc<ConnectionConfig>,
    startup: Startup,
    clock: WallClock,
    hooks: Hooks,
    line: Line,
    retries: Retries,
    /// Reading is paused.
    paused: bool,
    requests: Requests,
    outbox: Outbox,
    /// What callers want to have confirmed.
    wanted: Wanted,
    out: Outputs,
    stats: Stats,
    /// Which messages count as data, if not all do.
    data: Option<DataFilter>,
}

/// Says whether a message counts as data.
pub(crate) type DataFilter = Box<dyn Fn(&Message) -> bool + Send>;

/// The wall clock at an instant; unix time is computed from it.
#[derive(Clone, Copy, Debug)]
struct WallClock(Instant, SystemTime);

impl Session {
    /// # Errors
    /// A setting of the servers, the backoff or the heartbeat can't be used.
    pub(crate) fn new(
        config: impl Into<Arc<ConnectionConfig>>,
        protocol: Option<Box<dyn Protocol>>,
        startup: Startup,
        (now, wall): (Instant, SystemTime),
    ) -> Result<Self, Error> {
        let config = config.into();
        config.heartbeat.check()?;
        let servers = Servers::new(config.server_list()?, config.server_order, Box::new(fastrand::f64));
        Ok(Self {
            startup,
            clock: WallClock(now, wall),
            hooks: Hooks::new(protocol),
            line: Line::Down,
            retries: Retries::new(ReconnectionManager::new(config.reconnect.clone())?, servers),
            paused: false,
            requests: Requests::default(),
            outbox: Outbox::new(config.delivery),
            wanted: Wanted::default(),
            out: Outputs::new(),
            stats: Stats::default(),
            data: None,
            config,
        })
    }

    /// Only messages that `filter` accepts count as data.
    pub(crate) fn set_data_filter(&mut self, filter: DataFilter) {
        self.data = Some(filter);
    }

    /// Makes the first attempt.
    pub(crate) fn start(&mut self, now: Instant) {
        if matches!(self.line, Line::Down) && !self.retries.manager.is_scheduled() {
            self.dial(now);
        }
    }

    /// The attempt `generation` succeeded; the system has taken `taken` bytes of its connection. Returns whether the
    /// connection is wanted. If it is not, drop it.
    pub(crate) fn handle_opened(
        &mut self,
        now: Instant,
        generation: u64,
        handshake: &Arc<Handshake>,
        taken: u64,
    ) -> bool {
        let id = ConnectionId(generation);
        let until = deadline(now, self.config.login_timeout);
        let stage = Stage::LoggingIn { until };
        let connection = Connection::new(id, Arc::clone(handshake), stage, &self.config, taken, self.paused);
        if self.line.is_dialling_successor(id) {
            self.successor_opened(now, connection, handshake);
            return self.line.connection(id).is_some();
        }
        if !matches!(self.line, Line::Dialling(_)) || generation != self.retries.generation {
            return false;
        }
        let up = Up { current: connection, successor: None, leaving: Vec::new(), ready: None };
        self.line = Line::Up(Box::new(up));
        self.announce(None);
        self.outbox.begin(taken);
        self.wanted.ask_again(self.outbox.confirmed());
        if self.hooks.protocol.is_none() {
            self.ready(now, false, false);
            return true;
        }
        self.hook_during(now, id, During::Opening, |protocol, cx| protocol.on_open(cx, handshake));
        self.is_up()
    }

    /// The attempt `generation` failed.
    pub(crate) fn handle_dial_failed(&mut self, now: Instant, generation: u64, error: Error) {
        if self.line.is_dialling_successor(ConnectionId(generation)) {
            self.move_failed(now, &error, Goodbye::None);
        } else if matches!(self.line, Line::Dialling(_)) && generation == self.retries.generation {
            self.on_loss(now, DisconnectReason::ConnectFailed(error));
        }
    }

    /// The time of a planned attempt has come.
    pub(crate) fn handle_retry(&mut self, now: Instant, generation: u64) {
        if self.retries.manager.handle_due(generation) {
            self.dial(now);
        }
    }

    /// A caller does not want to wait: makes an attempt at once or, on an open line, sends a heartbeat at once.
    pub(crate) fn handle_reconnect_now(&mut self, now: Instant) {
        if self.retries.manager.cancel_reconnect() {
            self.out.actions.push_back(Action::Unschedule);
            self.dial(now);
        } else if let Some(current) = self.line.current_mut() {
            current.heartbeat.probe(now);
        }
    }

    /// A message was accepted from a caller. If it has not been written before `expires`, it never will be.
    pub(crate) fn handle_accepted(&mut self, ticket: u64, message: Message, expires: Option<Instant>) {
        self.outbox.push(ticket, message, expires);
    }

    /// A message was accepted from a caller for this session of the line only: see [`Readiness::Ready`]. If that session
    /// is over, the message is never sent.
    pub(crate) fn handle_accepted_for(
        &mut self,
        ticket: u64,
        message: Message,
        expires: Option<Instant>,
        session: u64,
    ) {
        self.outbox.push_for_this(ticket, message, expires);
        let goes_on = self.line.up().is_some_and(|up| up.ready.is_some()) && session == self.stats.connects;
        // What a closed session holds is counted as undelivered instead.
        if !goes_on && !self.line.is_closed() {
            self.outbox.withdraw(ticket);
            self.never_sent(Tickets::between(ticket - 1, ticket));
        }
    }

    /// A message arrived.
    #[inline]
    pub(crate) fn handle_message(&mut self, now: Instant, id: ConnectionId, message: Message) {
        self.handle_activity(now, id);
        if self.config.heartbeat.beat == Beat::Json && is_json_pong(&message) {
            self.note_round_trip(now, id, HeartbeatResponse::Json);
            return self.end_of_message(now, id, false);
        }
        if !self.accepts_input(id) {
            return;
        }
        let Some(counts) = self.counts_as_data(id, &message) else { return };
        self.stats.messages_received += u64::from(self.hooks.protocol.is_some() || !self.overflows());
        if self.hooks.protocol.is_some() {
            self.hooks.beat_answered = false;
            self.hook(now, id, |protocol, cx| protocol.on_message(cx, message));
            self.end_of_message(now, id, counts && !self.hooks.beat_answered);
        } else {
            self.deliver(message);
            self.end_of_message(now, id, counts);
        }
    }

    /// Part of a message arrived, and the message is not complete.
    pub(crate) fn handle_part(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.line.connection_mut(id) {
            connection.idle.handle_part(now);
        }
    }

    /// A message is complete, and has been handled. `counts`: it is data.
    #[inline]
    fn end_of_message(&mut self, now: Instant, id: ConnectionId, counts: bool) {
        if self.config.idle_timeout.is_some()
            && let Some(connection) = self.line.connection_mut(id)
        {
            connection.idle.handle_message(now, counts);
        }
    }

    /// A ping arrived; the socket has queued its pong.
    pub(crate) fn handle_ping(&mut self, now: Instant, id: ConnectionId, payload: &[u8]) {
        if self.accepts_input(id) {
            self.hook(now, id, |protocol, cx| protocol.on_ping(cx, payload));
        }
    }

    /// A pong arrived. On the current connection, it confirms every message handed over before its ping.
    pub(crate) fn handle_pong(&mut self, now: Instant, id: ConnectionId, payload: &[u8]) {
        self.handle_activity(now, id);
        self.note_round_trip(now, id, HeartbeatResponse::Pong(payload));
        self.confirm(now, id, payload);
        if self.accepts_input(id) {
            self.hook(now, id, |protocol, cx| protocol.on_pong(cx, payload));
        }
    }

    /// Bytes of any kind arrived.
    #[inline]
    pub(crate) fn handle_activity(&mut self, now: Instant, id: ConnectionId) {
        if let Some(connection) = self.line.connection_mut(id) {
            connection.heartbeat.handle_activity(now);
        }
    }

    /// Reading pauses on every connection, because the application does not take its messages, or resumes.
    pub(crate) fn handle_paused(&mut self, now: Instant, paused: bool) {
        if std::mem::replace(&mut self.paused, paused) == paused {
            return;
        }
        for connection in self.line.connections_mut() {
            connection.set_paused(now, paused, &self.config);
        }
    }

    /// A connection ended.
    pub(crate) fn handle_fault(&mut self, now: Instant, id: ConnectionId, fault: Fault) {
        let fault = fault.hiding(&self.secrets_of(id));
        match (self.line.role(id), fault) {
            (Some(Role::Current), Fault::Broken(error)) => self.line_lost(now, error),
            (Some(Role::Current), Fault::Violation { code, reason }) => {
                self.tell_violation(now, code, reason);
            }
            (Some(Role::Successor), fault) => {
                let goodbye = match &fault {
                    Fault::Broken(_) => Goodbye::None,
                    Fault::Violation { code, .. } => Goodbye::Say(CloseFrame::new(*code, "")),
                };
                self.move_failed(now, &fault.into_error(), goodbye);
            }
            (Some(Role::Predecessor | Role::Dismissed), _) => self.end_leaving(id),
            (None, _) => {}
        }
    }

    fn dial(&mut self, now: Instant) {
        self.retries.generation += 1;
        self.retries.attempts += 1;
        self.stats.attempts += 1;
        self.retries.servers.choose(now);
        if self.retries.servers.count() > 1 {
            info!(target: LOG, "The next server is {}", self.retries.servers.host());
        }
        self.line = Line::Dialling(Some(deadline(now, self.config.connect_timeout)));
        self.announce(None);
        match self.prepare(false) {
            Some(Ok(request)) => {
                self.out.actions.push_back(Action::Dial { generation: self.retries.generation, request });
            }
            Some(Err(error)) => self.on_loss(now, DisconnectReason::ConnectFailed(error)),
            None => {}
        }
    }

    /// The line is ready; `authenticated`: after a login.
    fn ready(&mut self, now: Instant, authenticated: bool, resumed: bool) {
        let Some(up) = self.line.up_mut() else { return };
        up.ready = Some(Ready { since: now, authenticated });
        up.current.stage = Stage::Ready;
        up.current.heartbeat.start(now);
        up.current.idle.start(now);
        let handshake = Arc::clone(&up.current.handshake);
        self.announce(None);
        let attempts = self.retries.succeed();
        self.stats.connects += 1;
        self.out.events.push_back(Event::Connected { handshake, attempts, resumed });
    }

    /// Whether there is a connection.
    pub(crate) fn is_up(&self) -> bool {
        self.line.up().is_some()
    }

    /// What the server of the current connection agreed to.
    pub(crate) fn handshake(&self) -> Option<&Arc<Handshake>> {
        self.line.current().map(|current| &current.handshake)
    }

    /// Whether this connection is wanted: it has not been given up.
    pub(crate) fn has(&self, id: ConnectionId) -> bool {
        self.line.connection(id).is_some()
    }

    fn note_round_trip(&mut self, now: Instant, id: ConnectionId, response: HeartbeatResponse<'_>) {
        let Some(connection) = self.line.connection_mut(id) else { return };
        if let Some(round_trip) = connection.heartbeat.handle_response(now, response) {
            self.stats.round_trip = Some(round_trip);
        }
    }

    fn wall_at(&self, now: Instant) -> SystemTime {
        let WallClock(then, wall) = self.clock;
        // A wall clock can be set to any time, even to the latest that can be represented.
        wall.checked_add(now.saturating_duration_since(then)).unwrap_or(wall)
    }

    /// Announces the state of the line if it has changed.
    fn announce(&mut self, why: Option<&dyn Display>) {
        let to = self.line.state();
        let from = std::mem::replace(&mut self.out.state, to);
        if from == to {
            return;
        }
        debug_assert!(from.may_become(to), "{from} -> {to}");
        match why {
            Some(why) => info!(target: LOG, "Connection state: {from} -> {to} ({why})"),
            None => info!(target: LOG, "Connection state: {from} -> {to}"),
        }
        self.out.events.push_back(Event::StateChanged { from, to });
    }
}
