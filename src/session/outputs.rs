//! What the I/O thread asks of a session.

use std::collections::VecDeque;
use std::time::Instant;

use crate::config::{ConnectionConfig, Inbound};
use crate::error::Error;
use crate::event::{CloseReason, DisconnectReason, Event, Ticket, Tickets, Undelivered};
use crate::message::Message;
#[cfg(any(fuzzing, feature = "testing"))]
use crate::session::backoff::ExponentialBackoff;
use crate::session::connection::{Connection, Stage};
#[cfg(any(test, fuzzing))]
use crate::session::line::Successor;
#[cfg(any(fuzzing, feature = "testing"))]
use crate::session::reconnect::ReconnectionManager;
use crate::session::released::Released;
use crate::session::{Action, ConnectionId, Job, LostMessages, Readiness, Reply, Session};
use crate::state::ConnectionState;
use crate::stats::Stats;

/// What the I/O thread has not taken yet.
pub(super) struct Outputs {
    pub(super) events: VecDeque<Event>,
    pub(super) actions: VecDeque<Action>,
    pub(super) jobs: VecDeque<Job>,
    /// Messages that will not be confirmed any more, for the callers that wait for their confirmation.
    pub(super) lost: Vec<LostMessages>,
    pub(super) undelivered: Undelivered,
    pub(super) close_reason: Option<CloseReason>,
    /// The state that the events so far have led to.
    pub(super) state: ConnectionState,
    pub(super) handed_out: HandedOut,
    /// There is no room for another message.
    pub(super) is_full: bool,
}

/// What was handed out for the application so far: messages, and those of the answers of which a request has several.
#[derive(Clone, Copy, Default)]
pub(crate) struct HandedOut {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl HandedOut {
    pub(super) fn add(&mut self, bytes: usize) {
        self.messages = self.messages.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            messages: self.messages.wrapping_sub(before.messages),
            bytes: self.bytes.wrapping_sub(before.bytes),
        }
    }
}

impl Outputs {
    pub(super) fn new() -> Self {
        Self {
            events: VecDeque::new(),
            actions: VecDeque::new(),
            jobs: VecDeque::new(),
            lost: Vec::new(),
            undelivered: Undelivered::default(),
            close_reason: None,
            state: ConnectionState::Disconnected,
            handed_out: HandedOut::default(),
            is_full: false,
        }
    }
}

impl Session {
    /// Replaces the random source of the protocol, of the backoff and of the order of the servers.
    #[cfg(any(fuzzing, feature = "testing"))]
    pub(crate) fn with_random(
        mut self,
        random: impl Fn() -> f64 + Clone + Send + 'static,
    ) -> Result<Self, Error> {
        let backoff = ExponentialBackoff::with_random(self.config.reconnect.clone(), random.clone())?;
        self.retries.manager = ReconnectionManager::with_backoff(backoff);
        self.retries.servers.random = Box::new(random.clone());
        self.hooks.random = Box::new(random);
        Ok(self)
    }

    /// The events for the application that nobody has taken yet.
    pub(crate) fn events(&mut self) -> &mut VecDeque<Event> {
        &mut self.out.events
    }

    /// The next event for the application.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    /// The events that come next, without taking them.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn pending_events(&self) -> &VecDeque<Event> {
        &self.out.events
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn pending_replies(&self) -> &VecDeque<Reply> {
        self.requests.pending()
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn pending_lost(&self) -> &[LostMessages] {
        &self.out.lost
    }

    /// The next thing to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.out.actions.pop_front()
    }

    /// The next job to be done on another thread.
    pub(crate) fn poll_job(&mut self) -> Option<Job> {
        self.out.jobs.pop_front()
    }

    /// The next reply to a request.
    pub(crate) fn poll_reply(&mut self) -> Option<Reply> {
        self.requests.poll()
    }

    pub(crate) fn config(&self) -> &ConnectionConfig {
        &self.config
    }

    pub(crate) fn state(&self) -> ConnectionState {
        self.line.state()
    }

    /// Whether callers can send now.
    pub(crate) fn readiness(&self) -> Readiness {
        match self.line.ready() {
            Some(_) => Readiness::Ready(self.stats.connects),
            None => Readiness::NotReady(self.line.state()),
        }
    }

    /// The connection that carries the line.
    pub(crate) fn current(&self) -> Option<ConnectionId> {
        self.line.current().map(|current| current.id)
    }

    /// Whether the application's messages can be sent now.
    pub(crate) fn wants_outbox(&self) -> bool {
        self.line.current().is_some_and(|current| match &current.stage {
            Stage::Ready => true,
            Stage::Closing(closing) => closing.flushes_outbox(),
            Stage::LoggingIn { .. } | Stage::Standby { .. } | Stage::Leaving { .. } => false,
        })
    }

    /// Whether the protocol, a move or caution holds back the application's messages.
    pub(crate) fn holds(&self) -> bool {
        self.line.current().is_some_and(|current| current.hold.is_some())
            || self.line.has_standby()
            || self.is_cautious()
    }

    /// Whether an attempt is under way to open a successor.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn is_dialling_successor(&self) -> bool {
        self.line.up().is_some_and(|up| matches!(up.successor, Some(Successor::Dialling { .. })))
    }

    /// Whether the server may still send messages on the current connection.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn accepts_messages(&self) -> bool {
        self.line.current().is_some_and(Connection::accepts_input)
    }

    /// Whether messages that arrive wait until the application has taken earlier ones. On a closing line they do not:
    /// the server's answer must not wait behind messages that nobody takes.
    pub(crate) fn delivers(&self) -> bool {
        self.line.current().is_some_and(|current| current.closing().is_none())
    }

    /// Whether the server may still send messages on this connection: it has not closed.
    pub(super) fn accepts_input(&self, id: ConnectionId) -> bool {
        self.line.connection(id).is_some_and(Connection::accepts_input)
    }

    /// Whether messages should be taken in while they can't be sent: they may expire.
    pub(crate) fn has_expiry(&self) -> bool {
        self.config.max_age.is_some()
    }

    /// Whether messages that arrive are dropped.
    pub(crate) fn discards(&self) -> bool {
        self.config.inbound == Inbound::Discard
    }

    pub(crate) fn handed_out(&self) -> HandedOut {
        self.out.handed_out
    }

    /// Whether there is an event or an action to poll.
    pub(crate) fn has_output(&self) -> bool {
        !self.out.events.is_empty() || !self.out.actions.is_empty() || !self.out.jobs.is_empty()
    }

    /// Whether there is an action to poll.
    pub(crate) fn has_actions(&self) -> bool {
        !self.out.actions.is_empty()
    }

    /// When the next attempt is made, if one is planned.
    pub(crate) fn next_attempt(&self) -> Option<Instant> {
        self.retries.manager.next_attempt()
    }

    /// Why the line is down, if it is.
    pub(crate) fn last_failure(&self) -> Option<Error> {
        self.retries.last_failure.as_ref().map(DisconnectReason::to_error)
    }

    /// Why the session is closed, once it is.
    pub(crate) fn close_reason(&self) -> Option<&CloseReason> {
        self.out.close_reason.as_ref()
    }

    /// Takes the reason out.
    pub(crate) fn take_close_reason(&mut self) -> Option<CloseReason> {
        self.out.close_reason.take()
    }

    /// Whether room was freed in the outbox.
    pub(crate) fn has_released(&self) -> bool {
        self.outbox.has_released()
    }

    /// The room that was freed in the outbox since the last call.
    pub(crate) fn take_released(&mut self) -> Released {
        self.outbox.take_released()
    }

    /// What a closed session could not deliver.
    pub(crate) fn take_left(&mut self) -> Undelivered {
        let mut left = std::mem::take(&mut self.out.undelivered);
        let (never_written, unconfirmed) = self.outbox.drain();
        let tickets =
            |left: &[(Ticket, Message)]| left.iter().map(|(ticket, _)| *ticket).collect::<Tickets>();
        let doubtful = tickets(&unconfirmed);
        self.name_lost(&tickets(&never_written), true);
        self.name_lost(&doubtful, false);
        left.never_written = never_written;
        left.unconfirmed = unconfirmed;
        left.maybe_delivered = left.maybe_delivered.and(doubtful);
        left
    }

    /// Frees the memory that a burst has left behind.
    pub(crate) fn shrink(&mut self) {
        self.outbox.shrink();
        self.line.connections_mut().for_each(|connection| connection.sender.shrink());
        self.out.events.shrink_to_fit();
    }

    pub(crate) fn stats(&self) -> Stats {
        let (messages_written, messages_confirmed) = self.outbox.counts();
        Stats { messages_written, messages_confirmed, ..self.stats.clone() }
    }
}
