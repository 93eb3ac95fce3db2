//! The way of a line from one connection to another, without a gap.
//!
//! The new connection is dialled beside the old one, which goes on meanwhile. When the protocol has declared the new one
//! ready, nothing more of the outbox is handed to the old one; the server is asked to confirm what went out there, and
//! then they switch. The old one is closed, and heard until its end.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use log::{info, warn};

use crate::config::{Beat, deadline};
use crate::error::Error;
use crate::event::Event;
use crate::message::Message;
use crate::protocol::{Accepted, Context, Effect, Protocol};
use crate::session::hooks::{SHORTEST_TIMER, TIMERS, Timer, WORKING};
use crate::session::{Action, Frame, LOG, Line, Piece, Queued, Session};

/// The connection that a hook is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Line,
    Beside,
    Old,
}

/// The connection that the line is to move to.
#[derive(Debug)]
pub(super) struct Beside {
    generation: u64,
    stage: Stage,
    /// What the protocol sends there.
    frames: VecDeque<Queued>,
    timers: BTreeMap<u32, Timer>,
    /// The time to the first heartbeat, and between two, if the server told them.
    beats: Option<(Duration, Duration)>,
}

#[derive(Debug)]
enum Stage {
    /// An attempt is under way; it has no deadline once it was timed out.
    Dialling(Option<Instant>),
    LoggingIn {
        until: Instant,
        accepted: Accepted,
    },
    /// It is ready. What went out on the old connection is being confirmed; `asked`: the server was asked to.
    Switching {
        until: Instant,
        accepted: Accepted,
        asked: bool,
    },
}

impl Session {
    /// The protocol wants the line on another connection.
    pub(super) fn begin_move(&mut self, now: Instant) {
        if !matches!(self.line, Line::Open { .. }) || self.beside.is_some() || self.move_fails {
            return;
        }
        self.let_go();
        info!(target: LOG, "Moving to another connection");
        self.generation += 1;
        self.stats.attempts += 1;
        let generation = self.generation;
        let stage = Stage::Dialling(Some(deadline(now, self.config.connect_timeout)));
        let (frames, timers) = (VecDeque::new(), BTreeMap::new());
        self.beside = Some(Beside { generation, stage, frames, timers, beats: None });
        match self.prepare(true) {
            Some(Ok(request)) => self.actions.push_back(Action::Dial { generation, request }),
            Some(Err(error)) => self.move_failed(now, &error),
            None => {}
        }
    }

    /// Whether this is the attempt, or the connection, that the line is to move to.
    pub(crate) fn is_beside(&self, generation: u64) -> bool {
        self.beside.as_ref().is_some_and(|beside| beside.generation == generation)
    }

    /// The number of the connection that the line is to move to.
    pub(super) fn beside_number(&self) -> u64 {
        self.beside.as_ref().map_or(0, |beside| beside.generation)
    }

    /// Whether the new connection is ready, and the old one is being confirmed.
    pub(super) fn is_switching(&self) -> bool {
        matches!(self.beside, Some(Beside { stage: Stage::Switching { .. }, .. }))
    }

    /// The connection that the line is to move to stands. Returns whether it is wanted.
    pub(crate) fn handle_beside_opened(&mut self, now: Instant, accepted: &Accepted) -> bool {
        let until = deadline(now, self.config.login_timeout);
        let Some(beside) = &mut self.beside else { return false };
        beside.stage = Stage::LoggingIn { until, accepted: accepted.clone() };
        self.beside_hook(now, |protocol, cx| protocol.on_open(cx, accepted));
        self.beside.is_some()
    }

    /// A message arrived there.
    pub(crate) fn handle_beside_message(&mut self, now: Instant, message: Message) {
        self.stats.messages_received += 1;
        self.beside_hook(now, |protocol, cx| protocol.on_message(cx, message));
    }

    /// A ping or a pong arrived there.
    pub(crate) fn handle_beside_ping(&mut self, now: Instant, payload: &[u8], pong: bool) {
        self.beside_hook(now, |protocol, cx| {
            if pong { protocol.on_pong(cx, payload) } else { protocol.on_ping(cx, payload) }
        });
    }

    /// That connection ended.
    pub(crate) fn handle_beside_lost(&mut self, now: Instant, error: &Error) {
        if self.beside.is_some() {
            self.move_failed(now, error);
        }
    }

    /// A message arrived on the connection that the line has moved from.
    pub(crate) fn handle_old_message(&mut self, now: Instant, message: Message) {
        self.stats.messages_received += 1;
        self.old_hook(now, |protocol, cx| protocol.on_message(cx, message));
    }

    /// A ping arrived there.
    pub(crate) fn handle_old_ping(&mut self, now: Instant, payload: &[u8]) {
        self.old_hook(now, |protocol, cx| protocol.on_ping(cx, payload));
    }

    /// Calls the protocol about the connection that the line has moved from. An error ends that one alone.
    fn old_hook(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut dyn Protocol, &mut Context<'_>) -> Result<(), Error>,
    ) {
        if self.leaving.is_none() {
            return;
        }
        match self.hook_at(Side::Old, now, call) {
            // One that stops the client means it.
            Err(error) if self.stopped => self.line_lost(now, error),
            Err(error) => {
                warn!(target: LOG, "The connection that the line has moved from ends: {error}");
                self.let_go();
            }
            Ok(()) => {}
        }
    }

    /// Does what a hook about that connection asked for, as far as it can: what belongs to a connection is dropped.
    pub(super) fn apply_old(&mut self, now: Instant, effect: Effect) {
        match effect {
            effect @ (Effect::Deliver(_)
            | Effect::Part(..)
            | Effect::End(..)
            | Effect::Move
            | Effect::Close { error: Some(_), .. }) => self.apply(now, effect),
            Effect::Close { error: None, .. } => self.let_go(),
            Effect::Send(_)
            | Effect::Ready { .. }
            | Effect::SetTimer(..)
            | Effect::CancelTimer(_)
            | Effect::BeatAnswered
            | Effect::Beats { .. }
            | Effect::Hold(_)
            | Effect::Release
            | Effect::Work(..) => {}
        }
    }

    /// The connection that the line has moved from has ended.
    pub(crate) fn handle_left(&mut self) {
        self.let_go();
    }

    /// The next frame for the connection that the line is to move to.
    pub(crate) fn poll_beside(&mut self) -> Option<Frame> {
        self.beside.as_mut()?.frames.pop_front().map(|queued| queued.frame)
    }

    /// When `moving_timeout` has something to do next.
    pub(super) fn moving_deadline(&self) -> Option<Instant> {
        let beside = self.beside.as_ref().and_then(|beside| {
            let stage = match &beside.stage {
                Stage::Dialling(limit) => *limit,
                Stage::LoggingIn { until, .. } | Stage::Switching { until, .. } => Some(*until),
            };
            [stage, beside.timers.values().map(|timer| timer.at).min()].into_iter().flatten().min()
        });
        [beside, self.leaving].into_iter().flatten().min()
    }

    /// Does what is due for a line that moves.
    pub(super) fn moving_timeout(&mut self, now: Instant) {
        if self.leaving.is_some_and(|until| until <= now) {
            self.let_go();
        }
        self.beside_timers(now);
        let confirms = self.heartbeat.kind() == Beat::WebSocketPing && self.heartbeat.is_running();
        let out = self.frames.is_empty() && self.cut.is_none();
        let unconfirmed = self.outbox.has_unconfirmed();
        let Some(beside) = &mut self.beside else { return };
        match &mut beside.stage {
            Stage::Dialling(limit) => {
                if limit.take_if(|at| *at <= now).is_some() {
                    self.actions.push_back(Action::TimeOutDial { generation: beside.generation });
                }
            }
            Stage::LoggingIn { until, .. } => {
                if *until <= now {
                    self.move_failed(now, &Error::LoginTimeout { after: self.config.login_timeout });
                }
            }
            Stage::Switching { until, asked, .. } => {
                let settled = if confirms { !unconfirmed } else { self.blocked_since.is_none() };
                if *until <= now || (out && settled) {
                    return self.switch(now);
                }
                if out && confirms && !std::mem::replace(asked, true) {
                    let pulse = self.heartbeat.beat(now);
                    self.beat(now, pulse);
                }
            }
        }
    }

    fn beside_timers(&mut self, now: Instant) {
        let Some(beside) = &self.beside else { return };
        let due: Vec<u32> =
            beside.timers.iter().filter(|(_, timer)| timer.at <= now).map(|(id, _)| *id).collect();
        for id in due {
            let Some(beside) = &mut self.beside else { return };
            // One may have been cancelled by another, or set anew.
            if beside.timers.get(&id).is_some_and(|timer| timer.at <= now) {
                beside.timers.remove(&id);
                self.beside_hook(now, |protocol, cx| protocol.on_timer(cx, id));
            }
        }
    }

    /// Calls the protocol about the new connection. An error ends the move.
    pub(super) fn beside_hook(
        &mut self,
        now: Instant,
        call: impl FnOnce(&mut dyn Protocol, &mut Context<'_>) -> Result<(), Error>,
    ) {
        if self.beside.is_none() {
            return;
        }
        if let Err(error) = self.hook_at(Side::Beside, now, call)
            && self.beside.is_some()
        {
            self.move_failed(now, &error);
        }
    }

    /// Does what a hook about the new connection asked for.
    pub(super) fn apply_beside(&mut self, now: Instant, effect: Effect) {
        let Some(beside) = &mut self.beside else { return };
        match effect {
            Effect::Send(message) => {
                let (limit, size) = (self.config.outbox, message.len());
                if beside.frames.len() >= limit.messages || size > self.config.max_message_size {
                    let reason = "the protocol sent more than may wait, or too large a message, where the line was to move";
                    return self.move_failed(now, &Error::session(reason));
                }
                beside.frames.push_back(Frame::Message(message).into());
            }
            Effect::Ready { .. } => {
                if let Stage::LoggingIn { accepted, .. } = &beside.stage {
                    let until = deadline(now, self.config.close_timeout);
                    beside.stage = Stage::Switching { until, accepted: accepted.clone(), asked: false };
                }
            }
            Effect::SetTimer(id, after) => {
                // It is heard whether or not the application takes its messages.
                let at = deadline(now, after.max(SHORTEST_TIMER));
                beside.timers.insert(id, Timer { at, deaf: false });
                if beside.timers.len() > TIMERS {
                    self.move_failed(now, &Error::session("the protocol set too many timers"));
                }
            }
            Effect::CancelTimer(id) => {
                beside.timers.remove(&id);
            }
            Effect::Work(..) if self.working == WORKING => {
                self.move_failed(now, &Error::session("too much of the protocol's work waits already"));
            }
            Effect::Work(id, work) => {
                self.working += 1;
                self.pieces.push_back(Piece { connection: beside.generation, id, work });
            }
            Effect::Close { reason, error: None, .. } => {
                self.move_failed(now, &Error::session(format!("the protocol closed it: {reason}")));
            }
            Effect::Beats { first, interval } => beside.beats = Some((first, interval)),
            // These are about the session, whichever connection carries it.
            effect @ (Effect::Deliver(_)
            | Effect::Part(..)
            | Effect::End(..)
            | Effect::BeatAnswered
            | Effect::Hold(_)
            | Effect::Release
            | Effect::Move
            | Effect::Close { .. }) => self.apply(now, effect),
        }
    }

    /// The line stays where it is.
    pub(super) fn move_failed(&mut self, now: Instant, error: &Error) {
        self.end_beside();
        warn!(target: LOG, "The move to another connection failed: {error}");
        // A hook that moves again at once would do nothing else.
        self.move_fails = true;
        self.hook(now, |protocol, cx| protocol.on_move_failed(cx, error));
        self.move_fails = false;
    }

    /// The new connection becomes the line's.
    pub(super) fn switch(&mut self, now: Instant) {
        let Some(Beside { generation, stage: Stage::Switching { accepted, .. }, frames, timers, beats }) =
            self.beside.take()
        else {
            return;
        };
        let maybe_delivered = self.outbox.lost(self.taken.max(self.taken_ahead));
        self.doubt(&maybe_delivered, false);
        self.old = std::mem::replace(&mut self.connection, generation);
        self.frames = frames;
        self.timers = timers;
        self.cut = None;
        self.hold = None;
        self.pings.clear();
        self.asked = 0;
        self.blocked_since = None;
        self.line = Line::Open { ready_at: now };
        self.heartbeat.stop();
        if let Some((first, interval)) = beats {
            self.heartbeat.set_beats(now, first, interval);
        }
        self.heartbeat.start(now);
        self.leaving = Some(deadline(now, self.config.close_timeout));
        let Accepted { address, subprotocol } = accepted;
        info!(target: LOG, "Moved to another connection");
        self.actions.push_back(Action::Switch);
        self.events.push_back(Event::Moved { address, subprotocol, maybe_delivered });
    }

    /// Whether the line is another connection's, and its socket is to be exchanged before anything else.
    pub(crate) fn has_moved(&self) -> bool {
        self.actions.contains(&Action::Switch)
    }

    /// The line's socket is another, of which the system has taken `taken` bytes of the `handed`.
    pub(crate) fn handle_switched(&mut self, taken: u64, handed: u64) {
        self.taken = taken;
        self.taken_ahead = taken;
        self.outbox.begin(handed);
    }

    /// The connection that the line has moved from is heard no more; what was asked there and not answered never will
    /// be.
    fn let_go(&mut self) {
        if self.leaving.take().is_some() {
            self.actions.push_back(Action::LetGo);
            let error =
                Error::session("the line has moved, and the answer did not come on the old connection");
            self.requests.fail_before(self.connection, &error);
        }
    }

    fn end_beside(&mut self) {
        if let Some(beside) = self.beside.take() {
            let action = match beside.stage {
                Stage::Dialling(_) => Action::AbandonDial,
                Stage::LoggingIn { .. } | Stage::Switching { .. } => Action::DropBeside,
            };
            self.actions.push_back(action);
        }
    }

    /// The line is lost, or closed: it moves no more.
    pub(super) fn end_move(&mut self) {
        self.end_beside();
        if self.leaving.take().is_some() {
            self.actions.push_back(Action::LetGo);
        }
    }
}
