//! What the I/O thread does between two calls of a test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::config::WhileDown;
use crate::error::{CloseFrame, Error, Fault, Phase};
use crate::intake::Item;
use crate::message::Message;
use crate::protocol::{Request, Work};
use crate::session::{Action, Frame};
use crate::state::ConnectionState;
use crate::testing::server::Sent;
use crate::testing::{Line, host};
use crate::worker::traffic::HIGH_WATER;

/// So many turns at one instant are a circle.
const TURNS: usize = 10_000;

impl Line {
    /// Does everything that is to be done at this instant.
    #[track_caller]
    pub(super) fn settle(&mut self) {
        for _ in 0..TURNS {
            if !self.turn() {
                return;
            }
        }
        panic!(
            "the line goes round in circles at {:?}, without time going by: does a hook ask each time for \
             what has it called again?",
            self.elapsed()
        );
    }

    /// Returns whether another turn may find something to do.
    fn turn(&mut self) -> bool {
        self.take_messages();
        if let Some(plan) = self.plan.take_if(|plan| plan.at <= self.now) {
            self.session.handle_retry(self.now, plan.generation);
        }
        self.session.handle_timeout(self.now);
        self.act();
        let moved = self.transmit();
        let moved = self.transmit_others() || moved;
        self.act();
        self.publish();
        let due = self.next_deadline().is_some_and(|at| at <= self.now);
        moved || due || self.session.has_output() || self.session.has_released()
    }

    /// What was accepted goes to the session, once it can go out.
    fn take_messages(&mut self) {
        let blocked = self.server.waiting() >= HIGH_WATER as u64;
        let wanted = self.session.wants_outbox() && !blocked || self.session.ages();
        if wanted || self.session.has_released() {
            self.exchange();
        }
    }

    pub(super) fn exchange(&mut self) {
        let released = self.session.take_released();
        self.intake.exchange(&mut self.accepted, (released.messages, released.bytes));
        for Item { ticket, message, reply, expires } in self.accepted.drain(..) {
            match reply {
                None => self.session.handle_accepted(ticket, message, expires),
                Some(reply) if self.session.state() == ConnectionState::Closed => {
                    // One who waits for many sees the end; one who waits for one answer is told.
                    if !reply.many {
                        let _ = reply.way.send(Err(Error::Closed));
                    }
                }
                Some(reply) => {
                    let many = reply.many;
                    self.publisher.expect(ticket, reply);
                    self.session.handle_request(ticket, message, many);
                }
            }
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Dial { generation, request } => self.dial(generation, request),
                Action::TimeOutDial { generation } => {
                    let Some((_, request)) = self.attempt.take() else { continue };
                    let after = self.config.connect_timeout;
                    let error = Error::ConnectTimeout { host: host(&request), phase: Phase::Upgrade, after };
                    self.session.handle_dial_failed(self.now, generation, error);
                }
                Action::AbandonDial => self.attempt = None,
                Action::Schedule(plan) => self.plan = Some(plan),
                Action::Unschedule => self.plan = None,
                Action::HangUp => {
                    self.server.end();
                    self.pieces.clear();
                }
                Action::Switch => self.switch(),
                Action::DropBeside => self.beside.end(),
                Action::LetGo => self.old.end(),
                Action::Stop => {
                    self.intake.close();
                    self.exchange();
                    self.left = Some(self.session.take_left());
                    self.reason = self.session.take_close_reason();
                }
            }
        }
        self.pieces.extend(std::iter::from_fn(|| self.session.poll_work()));
    }

    fn dial(&mut self, generation: u64, request: Request) {
        let fetched = match &self.fetch {
            None => Ok(request),
            Some(fetch) => catch_unwind(AssertUnwindSafe(|| fetch(request)))
                .unwrap_or(Err(Error::Panicked { callback: "fetch" })),
        };
        match fetched.and_then(|request| request.check().map(|_| request)) {
            Ok(request) => self.attempt = Some((generation, request)),
            Err(error) => self.session.handle_dial_failed(self.now, generation, error),
        }
    }

    /// The old connection is closed, and heard until its end.
    fn switch(&mut self) {
        let mut old = std::mem::take(&mut self.beside);
        std::mem::swap(&mut old, &mut self.server);
        old.heard.splice(0..0, std::mem::take(&mut self.old.heard));
        self.old = old;
        self.session.handle_switched(self.server.taken, self.server.handed);
        if self.old.has_ended {
            self.session.handle_left();
        } else {
            self.old.put(Sent::Frame(Frame::Close(CloseFrame::new(1000, ""))));
        }
    }

    /// Hands frames over, and has the server take them. Each counts by itself: what the server took a byte of may have
    /// been delivered, and what it took nothing of was never written.
    fn transmit(&mut self) -> bool {
        if !self.server.is_open {
            return false;
        }
        let before = (self.server.handed, self.server.taken);
        while self.server.waiting() < HIGH_WATER as u64
            && let Some(frame) = self.session.poll_transmit(self.now)
        {
            self.server.put(Sent::Frame(frame));
            self.session.handle_handed(self.server.handed);
        }
        // A hook has given the connection up: nothing more of it may go out.
        if !self.session.is_up() {
            return true;
        }
        let arrived = self.server.take();
        let (taken, blocked) = (self.server.taken, self.server.waiting() > 0);
        self.session.handle_progress(self.now, taken, blocked);
        let after = (self.server.handed, taken);
        for sent in arrived {
            self.arrive(sent);
        }
        if self.server.breaks() {
            self.end_of_stream();
        }
        before != after
    }

    /// Something of the client's has arrived at the server, which may answer.
    fn arrive(&mut self, sent: Sent) {
        match sent {
            Sent::Pong(payload) => self.server.pongs.push(payload),
            Sent::Frame(Frame::Ping(payload)) => {
                self.server.hear(Frame::Ping(payload));
                if self.answers_pings {
                    self.session.handle_pong(self.now, &payload);
                }
            }
            Sent::Frame(Frame::Close(frame)) => {
                self.server.hear(Frame::Close(frame.clone()));
                let ends = self.server.has_ended || self.answers_close;
                if !self.server.has_ended && self.answers_close {
                    self.session.handle_close_frame(self.now, frame);
                }
                if ends {
                    self.end_of_stream();
                }
            }
            Sent::Frame(frame) => self.server.hear(frame),
        }
    }

    /// The server ends the connection, or it breaks.
    pub(super) fn end_of_stream(&mut self) {
        self.server.has_ended = true;
        self.server.breaks_after = None;
        let fault = Fault::Broken(Error::ConnectionLost { source: None });
        self.session.handle_fault(self.now, fault);
    }

    fn transmit_others(&mut self) -> bool {
        let mut moved = false;
        while let Some(frame) = self.session.poll_beside() {
            self.beside.put(Sent::Frame(frame));
        }
        for sent in self.beside.take() {
            moved = true;
            match sent {
                Sent::Frame(frame) => self.beside.hear(frame),
                Sent::Pong(payload) => self.beside.pongs.push(payload),
            }
        }
        for sent in self.old.take() {
            moved = true;
            match sent {
                Sent::Frame(frame) => {
                    let ends = matches!(frame, Frame::Close(_)) && self.answers_close;
                    self.old.hear(frame);
                    if ends {
                        self.session.handle_left();
                    }
                }
                Sent::Pong(payload) => self.old.pongs.push(payload),
            }
        }
        moved
    }

    fn publish(&mut self) {
        if self.config.while_down == WhileDown::Refuse {
            let state = self.session.state();
            let ready = self.session.wants_outbox() && state != ConnectionState::Closing;
            self.intake.set_refusing((!ready).then_some(state));
        }
        while let Some(reply) = self.session.poll_reply() {
            self.publisher.reply(reply);
        }
        while let Some(event) = self.session.poll_event() {
            self.publisher.put(event);
            self.events.extend(self.inbox.try_iter());
        }
    }

    /// When something falls due next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let planned = self.plan.as_ref().map(|plan| plan.at);
        [self.session.next_deadline(), planned].into_iter().flatten().min()
    }

    /// The result of a piece of work comes in.
    #[track_caller]
    pub(super) fn worked(&mut self, id: u32, result: impl FnOnce(Work) -> Result<Message, Error>) {
        let found = self.pieces.iter().position(|piece| piece.id == id);
        let Some(piece) = found.and_then(|at| self.pieces.remove(at)) else {
            panic!(
                "no work {id} is to be done, but {:?}: the protocol asks for it with Context::work",
                self.work()
            );
        };
        let result = result(piece.work);
        self.session.handle_work(self.now, piece.connection, id, result);
        self.settle();
    }
}

/// Does it here, as the client does on another thread.
pub(super) fn run(work: Work) -> Result<Message, Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Error::Panicked { callback: "work" }))
}

/// An attempt that nobody listened to.
pub(super) fn refused(request: &Request) -> Error {
    let source = Arc::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
    Error::Connect { host: host(request), source }
}
