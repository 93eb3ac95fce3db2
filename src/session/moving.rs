//! Moves a line from one connection to another without a gap.
//!
//! The successor is dialled while the current connection stays in use. Once the protocol has declared the successor
//! ready, no more of the outbox is handed to the current connection. The server is asked to confirm what went out
//! there; then the successor takes its place. The predecessor is closed, and read to its end. A successor that is not
//! wanted is closed as well, but its messages are ignored.

use std::sync::Arc;
use std::time::Instant;

use log::{info, warn};

use crate::config::deadline;
use crate::error::{CloseFrame, Error};
use crate::event::Event;
use crate::handshake::Handshake;
use crate::logging::LOG;
use crate::session::close_handshake::LINGER;
use crate::session::connection::{Connection, ConnectionId, Stage};
use crate::session::hooks::During;
use crate::session::inquiry::Matter;
use crate::session::line::{Successor, Up};
use crate::session::{Action, Frame, Session};

/// How many connections may be closing beside the current one.
const MOST_LEAVING: usize = 4;

/// How to tell the server that a successor is not wanted.
#[derive(Debug)]
pub(super) enum Goodbye {
    /// Send nothing: the connection is dropped.
    None,
    /// Send this close frame, after what was queued before it.
    Say(CloseFrame),
    /// Only answer the server's own close frame; the answer is on its way.
    Answer,
}

impl Session {
    /// The protocol wants the line on another connection.
    pub(super) fn begin_move(&mut self, now: Instant, during: During) {
        let Some(up) = self.line.up() else { return };
        if !up.current.is_ready() || up.successor.is_some() || during == During::MoveFailed {
            return;
        }
        info!(target: LOG, "Moving to another connection");
        self.retries.generation += 1;
        self.stats.attempts += 1;
        let generation = self.retries.generation;
        let until = Some(deadline(now, self.config.connect_timeout));
        if let Some(up) = self.line.up_mut() {
            up.successor = Some(Successor::Dialling { id: ConnectionId(generation), until });
        }
        match self.prepare(true) {
            Some(Ok(request)) => self.out.actions.push_back(Action::Dial { generation, request }),
            Some(Err(error)) => self.move_failed(now, &error, Goodbye::None),
            None => {}
        }
    }

    /// The connection that the line is to move to is open.
    pub(super) fn successor_opened(&mut self, now: Instant, connection: Connection, handshake: &Handshake) {
        let id = connection.id;
        if let Some(up) = self.line.up_mut() {
            up.successor = Some(Successor::Open(Box::new(connection)));
            self.hook(now, id, |protocol, cx| protocol.on_open(cx, handshake));
        }
    }

    /// When `moving_timeout` next has something to do.
    pub(super) fn moving_deadline(&self) -> Option<Instant> {
        match &self.line.up()?.successor {
            Some(Successor::Dialling { until, .. }) => *until,
            Some(Successor::Open(successor)) => match &successor.stage {
                // Due already.
                Stage::Standby { since, inquiry, .. } if inquiry.is_due(self.moving_matter()) => Some(*since),
                Stage::Standby { until, .. } => Some(*until),
                _ => None,
            },
            None => None,
        }
    }

    /// Does what is due during a move.
    pub(super) fn moving_timeout(&mut self, now: Instant) {
        let matter = self.moving_matter();
        let Some(Up { successor: Some(successor), .. }) = self.line.up_mut() else { return };
        match successor {
            Successor::Dialling { id, until } => {
                if until.take_if(|at| *at <= now).is_some() {
                    self.out.actions.push_back(Action::TimeOutDial { generation: id.0 });
                }
            }
            Successor::Open(successor) => {
                let Stage::Standby { until, inquiry, .. } = &mut successor.stage else { return };
                let asks = inquiry.advance(now, matter, *until);
                if *until <= now || inquiry.is_over() {
                    self.promote(now);
                } else if asks {
                    self.ping_to_confirm(now);
                }
            }
        }
    }

    /// What the server of the current connection is asked before the successor takes over.
    fn moving_matter(&self) -> Matter {
        let can_ask = self.confirms();
        let current = self.line.current();
        let blocked = current.is_some_and(|current| current.ledger.is_blocked());
        let open = if can_ask { self.outbox.has_unconfirmed() } else { blocked };
        Matter { out: current.is_some_and(|current| current.sender.is_empty()), open, can_ask }
    }

    /// The move has failed: the line stays on its current connection.
    pub(super) fn move_failed(&mut self, now: Instant, error: &Error, goodbye: Goodbye) {
        let Some(up) = self.line.up_mut() else { return };
        let (id, successor) = (up.current.id, up.successor.take());
        match (successor, goodbye) {
            (Some(Successor::Open(mut connection)), Goodbye::Say(frame)) => {
                connection.sender.push(Frame::Close(frame).into());
                self.leave(deadline(now, self.config.close_timeout), *connection, false);
            }
            (Some(Successor::Open(mut connection)), Goodbye::Answer) => {
                connection.stop_sending();
                self.leave(deadline(now, self.config.close_timeout.min(LINGER)), *connection, false);
            }
            (successor, _) => self.drop_successor(successor),
        }
        warn!(target: LOG, "The move to another connection failed: {error}");
        self.hook_during(now, id, During::MoveFailed, |protocol, cx| protocol.on_move_failed(cx, error));
    }

    /// The server has closed the current connection while the successor was on standby: the successor takes over. The
    /// answer to the close frame is on its way.
    pub(super) fn promote_over(&mut self, now: Instant) {
        let Some(id) = self.current() else { return };
        self.promote(now);
        self.leaving_closed(now, id);
    }

    /// The successor becomes the current connection. Whatever the system had not taken on the predecessor is sent on
    /// the successor, and must not also go out on the predecessor: a predecessor with bytes that still wait is dropped.
    pub(super) fn promote(&mut self, now: Instant) {
        let until = deadline(now, self.config.close_timeout);
        let Some(up) = self.line.up_mut() else { return };
        let Some(Successor::Open(mut successor)) = up.successor.take() else { return };
        successor.stage = Stage::Ready;
        successor.heartbeat.start(now);
        successor.idle.start(now);
        let (handed, handshake) = (successor.ledger.handed, Arc::clone(&successor.handshake));
        let mut predecessor = std::mem::replace(&mut up.current, *successor);
        predecessor.stop_sending();
        predecessor.sender.push(Frame::Close(CloseFrame::new(1000, "")).into());
        let (id, is_blocked) = (predecessor.id, predecessor.ledger.is_blocked());
        let maybe_delivered = self.settle(&predecessor, false, false);
        self.leave(until, predecessor, true);
        self.outbox.begin(handed);
        self.wanted.ask_again(self.outbox.confirmed());
        info!(target: LOG, "Moved to another connection");
        self.out.events.push_back(Event::Moved { handshake, maybe_delivered });
        if is_blocked {
            self.end_leaving(id);
        }
    }

    /// The line is done with a connection, which is closed in good order. `heard`: what still arrives is wanted.
    fn leave(&mut self, until: Instant, mut connection: Connection, heard: bool) {
        connection.stage = Stage::Leaving { until, heard };
        connection.timers.clear();
        self.drop_jobs(connection.id);
        let Some(up) = self.line.up_mut() else { return };
        up.leaving.push(connection);
        if up.leaving.len() > MOST_LEAVING {
            let oldest = up.leaving[0].id;
            warn!(target: LOG, "More than {MOST_LEAVING} connections are being left: the oldest is dropped");
            self.end_leaving(oldest);
        }
    }

    /// The server has closed a leaving connection. Nothing more arrives on it, and the server has a moment to end it.
    pub(super) fn leaving_closed(&mut self, now: Instant, id: ConnectionId) {
        let linger = deadline(now, self.config.close_timeout.min(LINGER));
        let Some(connection) = self.line.connection_mut(id) else { return };
        if let Stage::Leaving { until, heard } = &mut connection.stage {
            *until = linger.min(*until);
            *heard = false;
            connection.sender.clear();
            self.fail_requests_on(id);
        }
    }

    /// A leaving connection is gone. Requests that were sent on it and not answered never will be.
    pub(super) fn end_leaving(&mut self, id: ConnectionId) {
        let Some(up) = self.line.up_mut() else { return };
        if up.leaving.extract_if(.., |connection| connection.id == id).next().is_some() {
            self.drop_connection(id);
            self.fail_requests_on(id);
        }
    }

    fn fail_requests_on(&mut self, id: ConnectionId) {
        let reason = "the line has moved to another connection, and the old one ended without the answer";
        let error = Error::Unanswered { reason: reason.into() };
        self.requests.fail_on(id, &error);
    }

    pub(super) fn drop_successor(&mut self, successor: Option<Successor>) {
        match successor {
            Some(Successor::Dialling { .. }) => self.out.actions.push_back(Action::AbandonDial),
            Some(Successor::Open(connection)) => self.drop_connection(connection.id),
            None => {}
        }
    }

    /// The line closes: any move ends.
    pub(super) fn end_move(&mut self) {
        let successor = self.line.up_mut().and_then(|up| up.successor.take());
        self.drop_successor(successor);
    }
}
