//! The close handshake (RFC 6455, section 7), whoever begins it.

use std::fmt::Display;
use std::time::{Duration, Instant};

use crate::config::{Beat, deadline};
use crate::error::{CloseFrame, Error};
use crate::event::{CloseReason, DisconnectReason};
use crate::session::{Frame, Line, Session};
use crate::state::ConnectionState;

/// How long the server has to end the TCP connection once both close frames are through (RFC 6455, section 7.1.1: it
/// should do so first, and at once).
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Closing {
    /// When the connection is dropped, whatever has become of it.
    until: Instant,
    stage: Stage,
    outcome: Outcome,
    /// Since when the line was ready, if it was.
    pub(super) ready_at: Option<Instant>,
    /// When this began.
    since: Instant,
    /// The protocol has been asked for its goodbye.
    goodbye: bool,
}

#[derive(Debug)]
enum Stage {
    /// The outbox goes out first, then `frame`.
    Flushing { frame: CloseFrame, confirmation: Confirmation },
    /// Our close frame is out, or on its way; the server's is awaited.
    Sent,
    /// The server's close frame has come, and is answered: the end of the stream is awaited.
    Answered,
}

/// Whether the last messages arrived: the server is asked before the goodbye.
#[derive(Debug)]
enum Confirmation {
    NotAsked,
    /// A ping is out; its pong is awaited until then.
    Asked {
        until: Instant,
    },
    Over,
}

/// What comes after the handshake.
#[derive(Debug)]
enum Outcome {
    ClosedByCaller,
    Down(DisconnectReason),
}

impl Closing {
    /// `flushed`: the outbox has nothing more to hand over.
    pub(super) fn next_deadline(&self, flushed: bool, held: bool) -> Instant {
        match self.stage {
            Stage::Flushing { confirmation: Confirmation::NotAsked, .. } if held => self.patience_with_hold(),
            // Due already, and served by the next `handle_timeout`.
            Stage::Flushing { confirmation: Confirmation::NotAsked, .. } if flushed => self.since,
            Stage::Flushing { confirmation: Confirmation::Asked { until }, .. } => until.min(self.until),
            _ => self.until,
        }
    }

    /// Until when messages that the protocol holds back are waited for: the goodbye needs its time, too.
    fn patience_with_hold(&self) -> Instant {
        self.since + self.until.saturating_duration_since(self.since) / 2
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(self.stage, Stage::Answered)
    }

    pub(super) fn is_flushing(&self) -> bool {
        matches!(self.stage, Stage::Flushing { .. })
    }
}

impl Session {
    /// The caller closes the line, after the outbox has gone out if `flush` says so.
    pub(crate) fn handle_close(&mut self, now: Instant, frame: CloseFrame, flush: bool) {
        let until = deadline(now, self.config.close_timeout);
        match &mut self.line {
            Line::Open { .. } if flush => {
                let stage = Stage::Flushing { frame, confirmation: Confirmation::NotAsked };
                self.begin_closing(now, until, stage, Outcome::ClosedByCaller);
            }
            Line::Open { .. } | Line::LoggingIn { .. } => {
                self.frames.clear();
                self.hook(now, |protocol, cx| protocol.on_closing(cx));
                if !matches!(self.line, Line::Open { .. } | Line::LoggingIn { .. }) {
                    // The hook has ended the connection.
                    return self.handle_close(now, frame, false);
                }
                self.heartbeat.stop();
                self.frames.push_back(Frame::Close(frame).into());
                self.begin_closing(now, until, Stage::Sent, Outcome::ClosedByCaller);
            }
            Line::Closing(closing) => {
                closing.outcome = Outcome::ClosedByCaller;
                closing.until = closing.until.min(until);
            }
            Line::Down | Line::Dialling(_) => self.close_for_good(CloseReason::ByCaller),
            Line::Closed => {}
        }
    }

    /// The caller closes the line at once, without a handshake.
    pub(crate) fn handle_terminate(&mut self) {
        self.close_for_good(CloseReason::ByCaller);
    }

    /// The server's close frame arrived; the socket has queued the answer, unless ours went out before.
    pub(crate) fn handle_close_frame(&mut self, now: Instant, frame: CloseFrame) {
        let until = deadline(now, self.config.close_timeout.min(LINGER));
        if self.is_switching() {
            return self.switch(now);
        }
        match &mut self.line {
            Line::Open { .. } | Line::LoggingIn { .. } => {
                self.quiet();
                let outcome = Outcome::Down(DisconnectReason::ClosedByServer(frame));
                self.begin_closing(now, until, Stage::Answered, outcome);
            }
            Line::Closing(closing) => {
                closing.stage = Stage::Answered;
                closing.until = closing.until.min(until);
                self.quiet();
            }
            Line::Down | Line::Dialling(_) | Line::Closed => {}
        }
    }

    /// The peer broke the protocol: it is told so, and what it still sends is dropped.
    pub(super) fn tell_violation(&mut self, now: Instant, code: u16, reason: Box<str>) {
        if self.is_switching() {
            return self.switch(now);
        }
        let until = deadline(now, self.config.close_timeout.min(LINGER));
        let error = Error::Protocol { code, reason };
        let error = match self.line {
            Line::LoggingIn { .. } => DisconnectReason::ConnectFailed(error),
            _ => DisconnectReason::Lost(error),
        };
        self.heartbeat.stop();
        // What a hook has said to what came before goes out first; after the close frame, nothing does (RFC 6455, section
        // 5.5.1).
        self.frames.push_back(Frame::Close(CloseFrame::new(code, "")).into());
        self.begin_closing(now, until, Stage::Sent, Outcome::Down(error));
    }

    /// The protocol closes the connection; with `error`, the client.
    pub(super) fn close_for_protocol(&mut self, now: Instant, code: u16, reason: &str, error: Option<Error>) {
        let stops = error.is_some() && !self.stopped;
        self.stopped |= error.is_some();
        let frame = match CloseFrame::checked(code, reason) {
            Ok(frame) => frame,
            Err(wrong) => {
                return self.line_lost(now, Error::session(format!("the protocol closes it, and {wrong}")));
            }
        };
        let error = error.unwrap_or_else(|| Error::session(format!("the protocol closed it with {frame}")));
        let reason = match &mut self.line {
            Line::Open { .. } => DisconnectReason::Lost(error),
            Line::LoggingIn { .. } => DisconnectReason::ConnectFailed(error),
            Line::Closing(Closing { ready_at, outcome: outcome @ Outcome::Down(_), .. }) => {
                // It is being closed already; but to stop is to say why.
                if stops {
                    *outcome = Outcome::Down(match ready_at {
                        Some(_) => DisconnectReason::Lost(error),
                        None => DisconnectReason::ConnectFailed(error),
                    });
                }
                return;
            }
            _ => return,
        };
        self.heartbeat.stop();
        self.frames.push_back(Frame::Close(frame).into());
        let until = deadline(now, self.config.close_timeout);
        self.begin_closing(now, until, Stage::Sent, Outcome::Down(reason));
    }

    /// The line closes, and moves nowhere any more.
    fn begin_closing(&mut self, now: Instant, until: Instant, stage: Stage, outcome: Outcome) {
        self.end_move();
        let why: Option<&dyn Display> = match &outcome {
            Outcome::ClosedByCaller => None,
            Outcome::Down(reason) => Some(reason),
        };
        self.go(ConnectionState::Closing, why);
        let ready_at = self.ready_at();
        self.line = Line::Closing(Closing { until, stage, outcome, ready_at, since: now, goodbye: false });
    }

    /// The close frame's turn has come when the outbox is out and its last message confirmed, as far as pings can tell.
    pub(super) fn poll_closing(&mut self) -> Option<Frame> {
        let Line::Closing(closing) = &mut self.line else { return None };
        let Stage::Flushing { frame, confirmation: Confirmation::Over } = &closing.stage else { return None };
        let frame = frame.clone();
        closing.stage = Stage::Sent;
        self.quiet();
        Some(Frame::Close(frame))
    }

    /// A pong came in: perhaps the one that the goodbye waits for.
    pub(super) fn close_after_confirmation(&mut self) {
        if let Line::Closing(Closing { stage: Stage::Flushing { confirmation, .. }, .. }) = &mut self.line
            && matches!(confirmation, Confirmation::Asked { .. })
            && !self.outbox.has_unconfirmed()
        {
            *confirmation = Confirmation::Over;
        }
    }

    pub(super) fn closing_timeout(&mut self, now: Instant) {
        let given_up = |closing: &Closing| self.hold.is_some() && closing.patience_with_hold() <= now;
        let flushed =
            !self.outbox.has_waiting() || matches!(&self.line, Line::Closing(closing) if given_up(closing));
        let asks = self.heartbeat.kind() == Beat::WebSocketPing && self.outbox.has_unconfirmed();
        let Line::Closing(closing) = &mut self.line else { return };
        let said_all =
            matches!(closing.stage, Stage::Flushing { confirmation: Confirmation::NotAsked, .. }) && flushed;
        if said_all && !closing.goodbye {
            closing.goodbye = true;
            self.hook(now, |protocol, cx| protocol.on_closing(cx));
        }
        let Line::Closing(closing) = &mut self.line else { return };
        if closing.until <= now {
            return self.finish_closing(now);
        }
        let until = closing.until;
        let Stage::Flushing { confirmation, .. } = &mut closing.stage else { return };
        match confirmation {
            Confirmation::NotAsked if flushed && asks => {
                // A server that answers no ping must leave time for the handshake itself.
                let patience = until.saturating_duration_since(now) / 2;
                *confirmation = Confirmation::Asked { until: deadline(now, patience) };
                let pulse = self.heartbeat.beat(now);
                self.beat(now, pulse);
            }
            Confirmation::NotAsked if flushed => *confirmation = Confirmation::Over,
            Confirmation::Asked { until } if *until <= now => *confirmation = Confirmation::Over,
            Confirmation::NotAsked | Confirmation::Asked { .. } | Confirmation::Over => {}
        }
    }

    /// The handshake is through, or its time is.
    pub(super) fn finish_closing(&mut self, now: Instant) {
        match &self.line {
            Line::Closing(Closing { outcome: Outcome::ClosedByCaller, .. }) => {
                self.close_for_good(CloseReason::ByCaller);
            }
            Line::Closing(Closing { outcome: Outcome::Down(reason), .. }) => {
                let reason = reason.clone();
                self.down(now, reason);
            }
            Line::Down | Line::Dialling(_) | Line::LoggingIn { .. } | Line::Open { .. } | Line::Closed => {}
        }
    }

    /// Whether our close frame is out, or on its way.
    pub(super) fn goodbye_is_said(&self) -> bool {
        matches!(&self.line, Line::Closing(closing) if !closing.is_flushing())
    }

    /// Since when the line is ready, if it is.
    fn ready_at(&self) -> Option<Instant> {
        match self.line {
            Line::Open { ready_at } => Some(ready_at),
            _ => None,
        }
    }

    /// No more heartbeats and no more frames on this connection.
    fn quiet(&mut self) {
        self.heartbeat.stop();
        self.frames.clear();
        self.cut = None;
    }
}
