//! The close handshake (RFC 6455, section 7), whoever begins it.

use std::fmt::Display;
use std::time::Instant;

use crate::config::deadline;
use crate::error::{CloseFrame, Error};
use crate::event::{CloseReason, DisconnectReason};
use crate::message::Message;
use crate::session::close_handshake::{Closing, LINGER, Outcome, Step};
use crate::session::connection::{Connection, Role, Stage};
use crate::session::inquiry::{Inquiry, Matter};
use crate::session::moving::Goodbye;
use crate::session::{ConnectionId, Frame, Session};

impl Session {
    /// The caller closes the line, after the outbox has gone out if `flush` says so.
    pub(crate) fn handle_close(&mut self, now: Instant, frame: CloseFrame, flush: bool) {
        let until = deadline(now, self.config.close_timeout);
        let Some(current) = self.line.current_mut() else {
            if !self.line.is_closed() {
                self.close_for_good(CloseReason::ByCaller);
            }
            return;
        };
        if let Some(closing) = current.closing_mut() {
            closing.outcome = Outcome::ClosedByCaller;
            if let Step::Flushing { frame: last, outbox, .. } = &mut closing.step {
                *last = frame;
                *outbox |= flush;
            }
            closing.until = closing.until.min(until);
        } else if current.is_ready() && flush {
            let step = Step::Flushing { frame, inquiry: Inquiry::default(), outbox: true };
            self.begin_closing(now, until, step, Outcome::ClosedByCaller);
        } else if !self.say_goodbye(now, until, frame.clone(), Outcome::ClosedByCaller) {
            // The hook has ended the connection.
            self.handle_close(now, frame, false);
        }
    }

    /// Sends the close frame at once, after what the protocol says last. Returns whether the connection is closing by this:
    /// the protocol may have ended it.
    pub(super) fn say_goodbye(
        &mut self,
        now: Instant,
        until: Instant,
        frame: CloseFrame,
        outcome: Outcome,
    ) -> bool {
        let Some(current) = self.line.current_mut() else { return false };
        let id = current.id;
        current.sender.clear_waiting();
        self.hook(now, id, |protocol, cx| protocol.on_closing(cx));
        let is_open = |current: &&mut Connection| current.id == id && current.closing().is_none();
        let Some(current) = self.line.current_mut().filter(is_open) else { return false };
        current.heartbeat.stop();
        current.sender.push(Frame::Close(frame).into());
        self.begin_closing(now, until, Step::Sent, outcome);
        true
    }

    /// The caller waits until `until` for the end of a line that is closing.
    pub(crate) fn close_by(&mut self, until: Instant) {
        if let Some(closing) = self.line.current_mut().and_then(Connection::closing_mut) {
            closing.until = closing.until.min(until);
        }
    }

    /// The caller closes the line at once, without a handshake.
    pub(crate) fn handle_terminate(&mut self) {
        self.close_for_good(CloseReason::ByCaller);
    }

    /// No message has this ticket: its caller was refused, because the client began to close before the message was there.
    pub(crate) fn handle_revoked(&mut self, ticket: u64) {
        self.outbox.skip(ticket);
    }

    /// A message arrived on a closing line while there is no room for another one. The protocol hears it, because it may
    /// acknowledge or answer something. What it delivers is dropped, and all later messages are.
    pub(crate) fn handle_message_without_room(&mut self, now: Instant, id: ConnectionId, message: Message) {
        self.out.is_full = true;
        self.handle_message(now, id, message);
        self.out.is_full = false;
    }

    /// Whether what is about to be handed out is dropped. Once something has found no room on a closing line, all that follows is:
    /// what the application gets has no gaps.
    #[inline]
    pub(super) fn overflows(&mut self) -> bool {
        let is_full = self.out.is_full;
        let Some(closing) = self.line.current_mut().and_then(Connection::closing_mut) else { return false };
        closing.overflowed |= is_full;
        closing.overflowed
    }

    /// The server's close frame arrived on a connection; the socket has queued the answer, unless ours went out before.
    pub(crate) fn handle_close_frame(&mut self, now: Instant, id: ConnectionId, frame: CloseFrame) {
        let frame = frame.hiding(&self.secrets_of(id));
        match self.line.role(id) {
            Some(Role::Current) => self.current_closed(now, frame),
            Some(Role::Successor) => self.move_failed(now, &Error::ClosedByServer(frame), Goodbye::Answer),
            Some(Role::Predecessor | Role::Dismissed) => self.leaving_closed(now, id),
            None => {}
        }
    }

    fn current_closed(&mut self, now: Instant, frame: CloseFrame) {
        if self.line.has_standby() {
            return self.promote_over(now);
        }
        let until = deadline(now, self.config.close_timeout.min(LINGER));
        let Some(current) = self.line.current_mut() else { return };
        current.stop_sending();
        if let Some(closing) = current.closing_mut() {
            closing.step = Step::Answered;
            closing.until = closing.until.min(until);
        } else {
            let outcome = Outcome::Down(DisconnectReason::ClosedByServer(frame));
            self.begin_closing(now, until, Step::Answered, outcome);
        }
    }

    /// The peer violated the protocol. A close frame says so, and whatever the peer still sends is dropped.
    pub(super) fn tell_violation(&mut self, now: Instant, code: u16, reason: Box<str>) {
        let error = Error::Protocol { code, reason };
        if self.line.has_standby() {
            return self.line_lost(now, error);
        }
        let until = deadline(now, self.config.close_timeout.min(LINGER));
        let Some(current) = self.line.current_mut() else { return };
        let reason = match current.stage {
            Stage::Closing(_) => return self.finish_closing(now),
            Stage::LoggingIn { .. } => DisconnectReason::ConnectFailed(error),
            _ => DisconnectReason::Lost(error),
        };
        current.heartbeat.stop();
        // The hooks' replies to earlier messages go out first, because nothing may follow the close frame (RFC 6455,
        // section 5.5.1).
        current.sender.push(Frame::Close(CloseFrame::new(code, "")).into());
        self.begin_closing(now, until, Step::Sent, Outcome::Down(reason));
    }

    /// The protocol closes a connection; with `error`, it closes the client. Closing a successor cancels the move.
    /// Closing a predecessor ends listening to it.
    pub(super) fn close_for_protocol(
        &mut self,
        now: Instant,
        id: ConnectionId,
        code: u16,
        reason: &str,
        error: Option<Error>,
    ) {
        let secrets = self.secrets_of(id);
        if error.is_none() {
            match self.line.role(id) {
                Some(Role::Successor) => {
                    let (error, goodbye) = match CloseFrame::checked(code, reason) {
                        Ok(frame) => {
                            (format!("the protocol closed it: {}", secrets.hide(reason)), Goodbye::Say(frame))
                        }
                        Err(wrong) => (format!("the protocol closes it, and {wrong}"), Goodbye::None),
                    };
                    return self.move_failed(now, &Error::session(error), goodbye);
                }
                Some(Role::Predecessor | Role::Dismissed) => return self.end_leaving(id),
                Some(Role::Current) | None => {}
            }
        }
        let stops = error.is_some() && !self.hooks.stopped;
        self.hooks.stopped |= error.is_some();
        let frame = match CloseFrame::checked(code, reason) {
            Ok(frame) => frame.hiding(&secrets),
            Err(wrong) => {
                return self.line_lost(now, Error::session(format!("the protocol closes it, and {wrong}")));
            }
        };
        let error = error.unwrap_or_else(|| Error::session(format!("the protocol closed it with {frame}")));
        let until = deadline(now, self.config.close_timeout);
        let Some(up) = self.line.up_mut() else { return };
        let reason = match up.ready {
            Some(_) => DisconnectReason::Lost(error),
            None => DisconnectReason::ConnectFailed(error),
        };
        if let Some(closing) = up.current.closing_mut() {
            // The connection is closing already. A protocol that stops the client also changes the reason.
            if stops && let Outcome::Down(outcome) = &mut closing.outcome {
                *outcome = reason;
            }
            return;
        }
        up.current.heartbeat.stop();
        up.current.sender.push(Frame::Close(frame).into());
        self.begin_closing(now, until, Step::Sent, Outcome::Down(reason));
    }

    /// The line begins to close. From here on it does not move.
    pub(super) fn begin_closing(&mut self, now: Instant, until: Instant, step: Step, outcome: Outcome) {
        self.end_move();
        let why: Option<&dyn Display> = match &outcome {
            Outcome::ClosedByCaller => None,
            Outcome::Down(reason) => Some(reason),
        };
        let why = why.map(ToString::to_string);
        if let Some(current) = self.line.current_mut() {
            let (goodbye, overflowed) = (false, false);
            current.stage = Stage::Closing(Closing { until, step, outcome, since: now, goodbye, overflowed });
        }
        self.announce(why.as_ref().map(|why| why as &dyn Display));
    }

    /// Returns the close frame once the outbox is out and its last message confirmed, as far as pings can tell.
    pub(super) fn poll_closing(&mut self) -> Option<Frame> {
        let current = self.line.current_mut()?;
        let closing = current.closing_mut()?;
        let Step::Flushing { frame, inquiry, .. } = &closing.step else { return None };
        let frame = Some(frame).filter(|_| inquiry.is_over())?.clone();
        closing.step = Step::Sent;
        current.stop_sending();
        Some(Frame::Close(frame))
    }

    pub(super) fn closing_timeout(&mut self, now: Instant) {
        let waits = !self.is_out();
        let Some(current) = self.line.current_mut() else { return };
        let (id, holds) = (current.id, current.hold.is_some());
        let Some(closing) = current.closing_mut() else { return };
        let out = !waits || (holds && closing.patience_with_hold() <= now);
        let not_asked = matches!(closing.step, Step::Flushing { inquiry: Inquiry::NotAsked, .. });
        if not_asked && out && !std::mem::replace(&mut closing.goodbye, true) {
            self.hook(now, id, |protocol, cx| protocol.on_closing(cx));
        }
        let matter = Matter { out, ..self.closing_matter() };
        let Some(closing) = self.line.current_mut().and_then(|current| current.closing_mut()) else { return };
        if closing.until <= now {
            return self.finish_closing(now);
        }
        // A server that answers no ping must still leave time for the close handshake.
        let patience = deadline(now, closing.until.saturating_duration_since(now) / 2);
        let Step::Flushing { inquiry, .. } = &mut closing.step else { return };
        if inquiry.advance(now, matter, patience) {
            self.ping_to_confirm(now);
        }
    }

    /// What the ping before the goodbye asks about.
    pub(super) fn closing_matter(&self) -> Matter {
        let open = self.confirms() && self.outbox.has_unconfirmed();
        Matter { out: self.is_out(), open, can_ask: true }
    }

    /// Whether everything that is to go out before the close frame has been handed to the socket.
    fn is_out(&self) -> bool {
        let Some(current) = self.line.current() else { return true };
        match current.closing() {
            Some(closing) if closing.is_flushing() && !closing.flushes_outbox() => current.sender.is_empty(),
            _ => !self.outbox.has_waiting(),
        }
    }

    /// Ends the closing when the handshake is complete or its time is up.
    pub(super) fn finish_closing(&mut self, now: Instant) {
        let Some(closing) = self.line.current().and_then(|current| current.closing()) else { return };
        match &closing.outcome {
            Outcome::ClosedByCaller => self.close_for_good(CloseReason::ByCaller),
            Outcome::Down(reason) => {
                let reason = reason.clone();
                self.on_loss(now, reason);
            }
        }
    }
}
