//! A line that the application takes down, and brings up again.

use std::time::Instant;

use log::info;

use crate::config::deadline;
use crate::error::CloseFrame;
use crate::event::{DisconnectReason, Event, Tickets};
use crate::logging::LOG;
use crate::session::close_handshake::{LINGER, Outcome, Step};
use crate::session::inquiry::Inquiry;
use crate::session::line::Line;
use crate::session::{Action, Session};

/// The close code of a connection that the application takes down: the client is going away (RFC 6455, section 7.4.1).
const GOING_AWAY: u16 = 1001;

impl Session {
    /// The caller wants no connection until it says so.
    pub(crate) fn handle_suspend(&mut self, now: Instant) {
        if self.line.is_closed() || std::mem::replace(&mut self.retries.suspended, true) {
            return;
        }
        info!(target: LOG, "Suspended by the application");
        let until = deadline(now, self.config.close_timeout);
        if self.take_down(now, until, "suspend") {
            return;
        }
        if self.retries.manager.cancel_reconnect() {
            self.out.actions.push_back(Action::Unschedule);
        }
        // The line is down already, and now there is no plan.
        let (reason, maybe_delivered) = (DisconnectReason::ByCaller { call: "suspend" }, Tickets::default());
        self.retries.last_failure = Some(reason.clone());
        self.out.events.push_back(Event::Disconnected { reason, retry_in: None, maybe_delivered });
    }

    /// The caller wants a connection again.
    pub(crate) fn handle_resume(&mut self, now: Instant) {
        if !std::mem::take(&mut self.retries.suspended) {
            return;
        }
        info!(target: LOG, "Resumed by the application");
        // A close handshake that is still under way is followed by an attempt.
        if matches!(self.line, Line::Down) {
            self.dial(now);
        }
    }

    /// The caller wants a new connection at once.
    pub(crate) fn handle_reconnect(&mut self, now: Instant) {
        if self.line.current().is_some() {
            let until = deadline(now, self.config.close_timeout.min(LINGER));
            self.take_down(now, until, "reconnect");
        } else {
            self.handle_reconnect_now(now);
        }
    }

    /// Takes the line down in good order, if it is not down. An open connection gets a close handshake, until then at the
    /// latest. What waits in the outbox stays there.
    fn take_down(&mut self, now: Instant, until: Instant, call: &'static str) -> bool {
        let reason = DisconnectReason::ByCaller { call };
        if matches!(self.line, Line::Dialling(_)) {
            self.out.actions.push_back(Action::AbandonDial);
            self.on_loss(now, reason);
            return true;
        }
        let Some(current) = self.line.current_mut() else { return false };
        if current.closing().is_some() {
            // It is being closed already. What follows depends on whether the line is suspended then.
            return true;
        }
        let frame = CloseFrame::new(GOING_AWAY, "");
        if current.is_ready() {
            let step = Step::Flushing { frame, inquiry: Inquiry::default(), outbox: false };
            self.begin_closing(now, until, step, Outcome::Down(reason));
            return true;
        }
        self.say_goodbye(now, until, frame, Outcome::Down(reason));
        true
    }

    /// Whether the application has taken the line down.
    pub(crate) fn is_suspended(&self) -> bool {
        self.retries.suspended
    }
}
