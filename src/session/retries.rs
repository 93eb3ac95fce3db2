//! What follows a loss: another attempt, or the end of the client.

use std::collections::VecDeque;
use std::fmt::Display;
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::config::{checked_servers, deadline};
use crate::error::Error;
use crate::event::{CloseReason, DisconnectReason, Event, Tickets};
use crate::logging::LOG;
use crate::panics::caught;
use crate::protocol::{Loss, Retry};
use crate::session::connection::{Role, Stage};
use crate::session::line::{Line, Up};
use crate::session::moving::Goodbye;
use crate::session::reconnect::{BETWEEN_SERVERS, ReconnectPlan, ReconnectionManager};
use crate::session::servers::{Failure, Servers};
use crate::session::{Action, ConnectionId, Session};

/// The delay between repeated immediate attempts.
const BETWEEN_IMMEDIATE_ATTEMPTS: Duration = Duration::from_millis(100);

/// What is known of the attempts so far.
pub(super) struct Retries {
    pub(super) manager: ReconnectionManager,
    pub(super) servers: Servers,
    /// Failed attempts and losses since the line was last stable.
    failures: u32,
    /// Numbers the attempts, so that a late result can be recognized.
    pub(super) generation: u64,
    /// Attempts since the line was last ready.
    pub(super) attempts: u32,
    pub(super) ever_ready: bool,
    /// Fresh credentials have been tried since the line was last ready.
    pub(super) refreshed: bool,
    /// The application wants no connection.
    pub(super) suspended: bool,
    /// Why the line is down, until it is ready again.
    pub(super) last_failure: Option<DisconnectReason>,
}

impl Retries {
    pub(super) fn new(manager: ReconnectionManager, servers: Servers) -> Self {
        Self {
            manager,
            servers,
            failures: 0,
            generation: 0,
            attempts: 0,
            ever_ready: false,
            refreshed: false,
            suspended: false,
            last_failure: None,
        }
    }

    /// The line was stable: the backoff starts over, and so does the round through the servers.
    fn start_over(&mut self) {
        self.manager.reset_backoff();
        self.servers.begin_round();
        self.failures = 0;
    }

    /// The line is ready. Returns how many attempts that took.
    pub(super) fn succeed(&mut self) -> u32 {
        self.ever_ready = true;
        self.refreshed = false;
        self.last_failure = None;
        std::mem::take(&mut self.attempts)
    }
}

impl Session {
    /// The attempt failed, or the line was lost: plans the next attempt, or closes.
    pub(super) fn on_loss(&mut self, now: Instant, reason: DisconnectReason) {
        let ready = self.line.up().and_then(|up| up.ready);
        let ready_for = ready.map(|ready| now.saturating_duration_since(ready.since));
        // A server that accepts and then drops must not be hammered. Only a line that stayed up restarts the backoff. A
        // line that was lost at once does not, whatever `stable_after` says. Silence does not prove a line.
        let silence = match &reason {
            DisconnectReason::Lost(Error::IdleTimeout { after }) => *after,
            _ => Duration::ZERO,
        };
        let stable_for = ready_for.map(|time| time.saturating_sub(silence));
        if stable_for.is_some_and(|time| time >= self.config.stable_after.max(BETWEEN_IMMEDIATE_ATTEMPTS)) {
            self.retries.start_over();
        }
        let url = self.retries.servers.url().to_owned();
        let then = deadline(now, BETWEEN_SERVERS);
        let down = Loss {
            reason: &reason,
            url: &url,
            ever_ready: self.retries.ever_ready,
            ready_for,
            attempts: self.retries.attempts,
            failures: self.retries.failures.saturating_add(1),
            max_delay: self.retries.manager.max_delay(),
            fetches: self.startup.fetches,
            refreshed: self.retries.refreshed,
            has_other: self.retries.servers.has_other(then),
            rest: Duration::ZERO,
        };
        let rest = down.retry_after(self.wall_at(now)).map(|time| time.min(self.config.retry_after_cap));
        let down = Loss { rest: self.retries.servers.rest(now, rest), ..down };
        let out = (down.is_refusal() && self.retries.servers.count() > 1).then_some(down.max_delay);
        let retry = if self.hooks.protocol.is_some() {
            // A protocol that panicked has closed the client.
            let Some(retry) = self.guarded(|protocol| protocol.on_down(&down)) else { return };
            retry
        } else {
            down.default_retry()
        };
        if (self.hooks.is_abandoned)() {
            return self.close_for_good(CloseReason::ByCaller);
        }
        // The application's word counts more than that of the protocol, which is only told of it.
        let by_caller = matches!(reason, DisconnectReason::ByCaller { .. });
        let retry = if by_caller { Retry::Now } else { retry };
        let refresh = retry == Retry::Now && down.wants_credentials();
        self.retries.refreshed |= refresh;
        let suspended = self.retries.suspended;
        // What the application asked for says nothing of the server, and is no attempt that failed.
        let is_failure = !by_caller && !suspended;
        let servers = &mut self.retries.servers;
        let goes_on = if !is_failure {
            false
        } else if refresh {
            // Fresh credentials are for the server that wants them. They are tried in its round, and cost no reconnect.
            servers.stay();
            true
        } else {
            servers.fail(now, Failure { error: reason.to_error(), rest, out });
            servers.has_next(then)
        };
        // The one attempt of `connect` may be repeated with fresh credentials. Repeated immediate attempts get a short
        // delay: without it, a server that is not there, or a hook that fails, would be tried without a pause.
        let in_vain = retry == Retry::Now && self.retries.failures > 0;
        let retry = if in_vain { Retry::After(BETWEEN_IMMEDIATE_ATTEMPTS) } else { retry };
        let one_attempt = self.startup.one_attempt && !self.retries.ever_ready;
        let never = self.hooks.stopped || one_attempt && !refresh && !goes_on;
        let retry = if never { Retry::Never } else { retry };
        if retry == Retry::Never {
            let decided = goes_on || self.hooks.stopped;
            let reason = if decided { reason } else { self.reason_of_round(reason) };
            return self.close_for_good(CloseReason::NotRetried(reason));
        }
        // A client that never reconnects still goes through its servers once to get a line.
        let attempts = self.retries.manager.attempts();
        let is_over = !goes_on || self.retries.ever_ready && attempts == 0;
        if is_failure && is_over && self.retries.manager.has_given_up() {
            let last = self.reason_of_round(reason);
            return self.close_for_good(CloseReason::GaveUp { attempts, last });
        }
        let maybe_delivered = self.end_connection(&reason.to_error(), false);
        self.retries.last_failure = Some(reason.clone());
        self.line = Line::Down;
        self.announce(Some(&reason));
        let attempt = match self.retries.failures {
            0 => "The first attempt".to_owned(),
            failures => format!("Attempt {failures}"),
        };
        let plan = if is_failure { self.plan(now, retry, goes_on) } else { None };
        let at_once = by_caller && !suspended;
        let retry_in = if at_once { Some(Duration::ZERO) } else { plan.map(|plan| plan.delay) };
        self.out.actions.extend(plan.map(Action::Schedule));
        if matches!(reason, DisconnectReason::ConnectFailed(_)) {
            let delay = retry_in.unwrap_or_default().as_millis();
            warn!(target: LOG, "{attempt} failed: {reason}; next try in {delay}ms");
        }
        self.out.events.push_back(Event::Disconnected { reason, retry_in, maybe_delivered });
        if at_once {
            self.dial(now);
        }
    }

    /// Plans the next attempt: in this round, or in the next one.
    fn plan(&mut self, now: Instant, retry: Retry, goes_on: bool) -> Option<ReconnectPlan> {
        let Retries { manager, servers, failures, .. } = &mut self.retries;
        *failures = failures.saturating_add(1);
        if goes_on {
            return Some(manager.schedule_in_round(now, retry));
        }
        servers.begin_round();
        manager.schedule_not_before(now, retry, servers.floor(now))
    }

    /// Why a client is closed after a whole round: with several servers, why each has failed.
    fn reason_of_round(&self, reason: DisconnectReason) -> DisconnectReason {
        match (&reason, self.retries.servers.failures()) {
            (DisconnectReason::ConnectFailed(_), failures @ [_, _, ..]) => {
                DisconnectReason::ConnectFailed(Error::AllServersFailed { failures: failures.into() })
            }
            _ => reason,
        }
    }

    /// The protocol wants another list of servers.
    pub(super) fn replace_servers(&mut self, now: Instant, id: ConnectionId, urls: Vec<String>) {
        // A server must not lead the one attempt of `connect` from server to server.
        let tries_new = !self.startup.one_attempt || self.retries.ever_ready;
        match checked_servers(urls) {
            Ok(list) => self.retries.servers.replace(list, tries_new),
            Err(reason) => {
                let reason = format!("the protocol's list of servers can't be used: {reason}");
                self.lose(now, id, Error::session(reason));
            }
        }
    }

    /// A connection is lost. That ends the line, a move, or a leaving connection.
    pub(super) fn lose(&mut self, now: Instant, id: ConnectionId, error: Error) {
        match self.line.role(id) {
            // An error that stops the client does so, whichever connection it came from.
            Some(_) if self.hooks.stopped => self.line_lost(now, error),
            Some(Role::Current) => self.line_lost(now, error),
            Some(Role::Successor) => self.move_failed(now, &error, Goodbye::None),
            Some(Role::Predecessor) => {
                info!(target: LOG, "The connection that the line has moved from ends: {error}");
                self.end_leaving(id);
            }
            Some(Role::Dismissed) => self.end_leaving(id),
            None => {}
        }
    }

    /// The current connection is lost.
    pub(super) fn line_lost(&mut self, now: Instant, error: Error) {
        let Some(current) = self.line.current() else { return };
        match current.stage {
            Stage::Closing(_) => self.finish_closing(now),
            Stage::Ready if self.line.has_standby() && !self.hooks.stopped => {
                let id = current.id;
                self.promote(now);
                self.end_leaving(id);
            }
            // The line was not ready yet, so the attempt has failed.
            Stage::LoggingIn { .. } => self.on_loss(now, DisconnectReason::ConnectFailed(error)),
            _ => self.on_loss(now, DisconnectReason::Lost(error)),
        }
    }

    /// Closes the client for good, from any state.
    pub(super) fn close_for_good(&mut self, reason: CloseReason) {
        if self.line.is_closed() {
            return;
        }
        let was_up = self.is_up();
        if matches!(self.line, Line::Dialling(_)) {
            self.out.actions.push_back(Action::AbandonDial);
        }
        if self.retries.manager.is_scheduled() {
            self.out.actions.push_back(Action::Unschedule);
        }
        self.retries.manager.cleanup();
        let maybe_delivered = self.end_connection(&reason.clone().into_error(), true);
        self.out.undelivered.maybe_delivered = maybe_delivered.clone();
        self.line = Line::Closed;
        self.announce(was_up.then_some(&reason as &dyn Display));
        if let CloseReason::NotRetried(last) | CloseReason::GaveUp { last, .. } = &reason {
            let reason = last.clone();
            self.out.events.push_back(Event::Disconnected { reason, retry_in: None, maybe_delivered });
        }
        // An end that nobody asked for must not be silent in a log of warnings.
        if reason.clone().into_result().is_err() {
            warn!(target: LOG, "The client is closed for good: {reason}");
        } else if !was_up {
            info!(target: LOG, "Closed: {reason}");
        }
        self.out.close_reason = Some(reason.clone());
        self.out.events.push_back(Event::Closed { reason });
        self.out.actions.push_back(Action::Stop);
    }

    /// Drops all connections, if there are any, and settles what was written to the current one. Requests that were
    /// handed over fail with `error`; with `all`, those that still wait fail, too.
    fn end_connection(&mut self, error: &Error, all: bool) -> Tickets {
        let mut maybe_delivered = Tickets::default();
        if let Line::Up(up) = std::mem::replace(&mut self.line, Line::Down) {
            let Up { current, successor, leaving, .. } = *up;
            self.stats.disconnects += 1;
            for connection in &leaving {
                self.drop_connection(connection.id);
            }
            self.drop_successor(successor);
            self.drop_connection(current.id);
            // What the application ends is not the fault of a message.
            let lost_over = !matches!(error, Error::ByCaller { .. });
            maybe_delivered = self.settle(&current, all, lost_over);
            if !all {
                let meant_for_it = self.outbox.drop_for_this();
                self.never_sent(meant_for_it);
            }
        }
        // A request is never sent again.
        for ticket in self.requests.fail(all, error) {
            self.outbox.withdraw(ticket);
        }
        maybe_delivered
    }

    /// Drops the socket of a connection, and its jobs that were not begun.
    pub(super) fn drop_connection(&mut self, id: ConnectionId) {
        self.out.actions.push_back(Action::Drop(id));
        self.drop_jobs(id);
    }

    /// Drops the jobs of a connection that were not begun.
    pub(super) fn drop_jobs(&mut self, id: ConnectionId) {
        let (dropped, kept): (VecDeque<_>, _) =
            std::mem::take(&mut self.out.jobs).into_iter().partition(|piece| piece.connection == id);
        self.out.jobs = kept;
        // Dropping them runs the protocol's code.
        let _ = caught(|| drop(dropped));
    }
}
