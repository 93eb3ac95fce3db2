//! What the I/O thread does between two calls of a test.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crate::config::WhileDown;
use crate::error::{Error, Fault, Phase};
use crate::intake::Item;
use crate::message::Message;
use crate::protocol::{Request, Work};
use crate::session::{Action, ConnectionId, Frame};
use crate::state::ConnectionState;
use crate::testing::server::{Sent, Server};
use crate::testing::{Line, host};
use crate::worker::traffic::HIGH_WATER;

/// So many turns at one instant are a circle.
const TURNS: usize = 10_000;

/// Which of the servers.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Old,
    Line,
    Beside,
}

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
        let mut moved = false;
        for role in [Role::Old, Role::Line, Role::Beside] {
            moved |= self.transmit(role);
        }
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
        self.follow();
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
                Action::Drop(id) => self.drop_connection(id),
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

    /// Whether the line has moved: then the servers change their roles.
    fn follow(&mut self) {
        if self.beside.is_open && self.session.current() == Some(self.beside.id) {
            let mut old = std::mem::take(&mut self.beside);
            std::mem::swap(&mut old, &mut self.server);
            old.heard.splice(0..0, std::mem::take(&mut self.old.heard));
            self.old = old;
        } else if self.beside.is_open && self.session.successor() != Some(self.beside.id) {
            self.dismiss();
        }
    }

    /// The line is not to move there any more: the server hears what goes out before the end.
    fn dismiss(&mut self) {
        let id = self.beside.id;
        while let Some(frame) = self.session.poll_transmit(self.now, id) {
            self.beside.hear(frame);
        }
        self.end_of_stream(Role::Beside);
    }

    fn drop_connection(&mut self, id: ConnectionId) {
        self.pieces.retain(|piece| piece.connection != id);
        for role in [Role::Old, Role::Line, Role::Beside] {
            let server = self.at(role);
            if server.is_open && server.id == id {
                server.end();
            }
        }
    }

    fn at(&mut self, role: Role) -> &mut Server {
        match role {
            Role::Old => &mut self.old,
            Role::Line => &mut self.server,
            Role::Beside => &mut self.beside,
        }
    }

    /// Hands frames over, and has the server take them. Each counts by itself: what the server took a byte of may have
    /// been delivered, and what it took nothing of was never written.
    fn transmit(&mut self, role: Role) -> bool {
        self.follow();
        let now = self.now;
        let server = self.at(role);
        if !server.is_open {
            return false;
        }
        let id = server.id;
        let before = (server.handed, server.taken);
        while self.at(role).waiting() < HIGH_WATER as u64
            && let Some(frame) = self.session.poll_transmit(now, id)
        {
            self.at(role).put(Sent::Frame(frame));
            let handed = self.at(role).handed;
            self.session.handle_handed(id, handed);
        }
        // A hook has given the connection up: nothing more of it may go out.
        if !self.session.has(id) {
            return true;
        }
        let server = self.at(role);
        let arrived = server.take();
        let (taken, blocked) = (server.taken, server.waiting() > 0);
        let after = (server.handed, taken);
        self.session.handle_progress(now, id, taken, blocked);
        for sent in arrived {
            self.arrive(role, sent);
        }
        if self.at(role).breaks() {
            self.end_of_stream(role);
        }
        before != after
    }

    /// Something of the client's has arrived at a server, which may answer.
    fn arrive(&mut self, role: Role, sent: Sent) {
        let (now, id, has_ended) = (self.now, self.at(role).id, self.at(role).has_ended);
        match sent {
            Sent::Pong(payload) => self.at(role).pongs.push(payload),
            Sent::Frame(Frame::Ping(payload)) => {
                self.at(role).hear(Frame::Ping(payload));
                if self.answers_pings {
                    self.session.handle_pong(now, id, &payload);
                }
            }
            Sent::Frame(Frame::Close(frame)) => {
                self.at(role).hear(Frame::Close(frame.clone()));
                if !has_ended && self.answers_close {
                    self.session.handle_close_frame(now, id, frame);
                }
                if has_ended || self.answers_close {
                    self.end_of_stream(role);
                }
            }
            Sent::Frame(frame) => self.at(role).hear(frame),
        }
    }

    /// A server ends its connection, or it breaks.
    pub(super) fn end_of_stream(&mut self, role: Role) {
        let server = self.at(role);
        server.has_ended = true;
        server.breaks_after = None;
        let id = server.id;
        let fault = Fault::Broken(Error::ConnectionLost { source: None });
        self.session.handle_fault(self.now, id, fault);
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
