//! What follows a loss: another attempt, or the end.

use std::fmt::Display;
use std::time::Instant;

use log::{info, warn};

use crate::error::Error;
use crate::event::{CloseReason, DisconnectReason, Event, Tickets};
use crate::protocol::{Down, Retry};
use crate::session::closing::Closing;
use crate::session::{Action, LOG, Line, Session};
use crate::state::ConnectionState;

impl Session {
    /// The attempt failed, or the line is lost: plans the next attempt, or closes.
    pub(super) fn down(&mut self, now: Instant, reason: DisconnectReason) {
        if let Line::Open { ready_at } | Line::Closing(Closing { ready_at, .. }) = self.line {
            // A server that accepts and drops must not be hammered: only a line that stayed up proves itself.
            if now.saturating_duration_since(ready_at) >= self.config.stable_after {
                self.reconnect.reset_backoff();
            }
        }
        let max_delay = self.reconnect.max_delay();
        let down = Down { reason: &reason, ever_ready: self.ever_ready, max_delay };
        let retry = if self.one_attempt && !self.ever_ready { Retry::Never } else { down.default_retry() };
        let floor = down.retry_after(self.wall_at(now)).unwrap_or_default().min(self.config.retry_after_cap);
        if retry == Retry::Never {
            return self.close_for_good(CloseReason::Refused(reason));
        }
        if self.reconnect.has_given_up() {
            let attempts = self.reconnect.attempts();
            return self.close_for_good(CloseReason::GaveUp { attempts, last: reason });
        }
        self.trouble = Some(reason.to_error());
        let maybe_delivered = self.end_connection();
        self.line = Line::Down;
        self.go(ConnectionState::Disconnected, Some(&reason));
        let attempt = self.attempts;
        let plan = self.reconnect.schedule_not_before(now, retry, floor);
        let retry_in = plan.map(|plan| plan.delay);
        self.actions.extend(plan.map(Action::Schedule));
        if matches!(reason, DisconnectReason::ConnectFailed(_)) {
            let delay = retry_in.unwrap_or_default().as_millis();
            warn!(target: LOG, "Attempt {attempt} failed: {reason}; next try in {delay}ms");
        }
        self.events.push_back(Event::Disconnected { reason, retry_in, maybe_delivered });
    }

    pub(super) fn line_lost(&mut self, now: Instant, error: Error) {
        match self.line {
            Line::Closing(_) => self.finish_closing(now),
            _ => self.down(now, DisconnectReason::Lost(error)),
        }
    }

    /// CLOSED, from any state.
    pub(super) fn close_for_good(&mut self, reason: CloseReason) {
        if self.state == ConnectionState::Closed {
            return;
        }
        let was_up = matches!(self.line, Line::Open { .. } | Line::Closing(_));
        if matches!(self.line, Line::Dialling(_)) {
            self.actions.push_back(Action::AbandonDial);
        }
        if self.reconnect.is_scheduled() {
            self.actions.push_back(Action::Unschedule);
        }
        self.reconnect.cleanup();
        let maybe_delivered = self.end_connection();
        self.left.maybe_delivered = maybe_delivered.clone();
        self.line = Line::Closed;
        self.go(ConnectionState::Closed, was_up.then_some(&reason as &dyn Display));
        if let CloseReason::Refused(last) | CloseReason::GaveUp { last, .. } = &reason {
            let reason = last.clone();
            self.events.push_back(Event::Disconnected { reason, retry_in: None, maybe_delivered });
        }
        if !was_up {
            info!(target: LOG, "Closed: {reason}");
        }
        self.close_reason = Some(reason.clone());
        self.events.push_back(Event::Closed { reason });
        self.actions.push_back(Action::Stop);
    }

    /// Forgets all that belongs to the connection, if there is one, and settles what was written to it.
    fn end_connection(&mut self) -> Tickets {
        if !matches!(self.line, Line::Open { .. } | Line::Closing(_)) {
            return Tickets::default();
        }
        self.stats.disconnects += 1;
        self.heartbeat.stop();
        self.frames.clear();
        self.pings.clear();
        self.blocked_since = None;
        self.actions.push_back(Action::HangUp);
        self.outbox.lost(self.taken)
    }
}
