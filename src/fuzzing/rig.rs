//! The worker's turn around a real session and a real socket, over a connection in memory.

mod invariants;

use std::collections::VecDeque;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;

use super::check::Check;
use super::ledger::Ledger;
use super::peer::{Peer, Said};
use super::pipe::{End, Pipe};
use super::wild::Fallen;
use crate::config::{ConnectionConfig, Delivery, WhileDown};
use crate::error::{Error, Phase};
use crate::event::Event;
use crate::intake::{Command, Intake, Item};
use crate::message::Message;
use crate::protocol::{Accepted, Protocol};
use crate::session::reconnect::Plan;
use crate::session::{Action, ConnectionId, Mode, Piece, Reply, Session};
use crate::state::ConnectionState;
use crate::transport::socket::Socket;
use crate::transport::stream::{Link, Wire};
use crate::worker::QUIET;
use crate::worker::publisher::Publisher;
use crate::worker::sockets::Open;
use crate::worker::traffic::{self, HIGH_WATER};

/// So many turns in a row that change nothing are a spin.
const SPIN: usize = 3;

pub(super) struct Rig {
    pub(super) config: ConnectionConfig,
    pub(super) session: Session,
    pub(super) intake: Intake,
    publisher: Publisher,
    pub(super) inbox: Receiver<Event>,
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
    pub(super) results: VecDeque<(u64, Result<Opening, Error>)>,
    pub(super) commands: VecDeque<Command>,
    /// What is being done elsewhere, and takes a moment.
    pieces: Vec<Piece>,
    /// What came of it: connection, id, result.
    worked: VecDeque<(ConnectionId, u32, Result<Message, Error>)>,
    pub(super) dialling: Option<u64>,
    pub(super) plan: Option<Plan>,
    pub(super) line: Option<Line>,
    accepted: VecDeque<Item>,
    look: Option<Duration>,
    /// How many events the application takes after each turn.
    pub(super) taking: usize,
    pub(super) ledger: Ledger,
    pub(super) fallen: Fallen,
    pub(super) check: Check,
    /// There is a protocol to pair requests with answers.
    pub(super) answers_requests: bool,
    /// Up to this ticket, the lost connection may have had confirmations.
    sure: u64,
    /// What was read, and what came out, so far: it says whether a turn did anything.
    work: u64,
    pub(super) stopped: bool,
}

/// A connection, both ends of it.
pub(super) struct Line {
    pub(super) open: Open<Pipe>,
    pub(super) pipe: Pipe,
    pub(super) peer: Peer,
    /// What the server has sent, and the network not delivered yet.
    pub(super) flight: VecDeque<u8>,
    pub(super) end: Option<End>,
    /// How much of it arrives at a time.
    pub(super) cut: usize,
}

/// A connection about to be.
pub(super) struct Opening {
    /// What came glued to the answer.
    pub(super) glued: Vec<u8>,
    pub(super) peer: Peer,
    pub(super) room: usize,
}

/// What the worker does between two turns.
enum Park {
    Turn,
    /// Sleeps, for so long at the most.
    Sleep(Option<Instant>),
}

impl Rig {
    pub(super) fn new(
        config: ConnectionConfig,
        protocol: Option<Box<dyn Protocol>>,
        mode: Mode,
        (now, wall): (Instant, SystemTime),
    ) -> Self {
        let (outbox, inbox) = crossbeam_channel::unbounded();
        let mut session =
            Session::new(config.clone(), protocol, mode, (now, wall)).expect("a good configuration");
        session.start(now);
        let mut rig = Self {
            intake: Intake::new(config.outbox, config.max_message_size),
            publisher: Publisher::new(outbox, config.events),
            inbox,
            answers_requests: false,
            session,
            now,
            wall,
            results: VecDeque::new(),
            commands: VecDeque::new(),
            pieces: Vec::new(),
            worked: VecDeque::new(),
            dialling: None,
            plan: None,
            line: None,
            accepted: VecDeque::new(),
            look: None,
            taking: usize::MAX,
            ledger: Ledger::new(config.delivery == Delivery::AtLeastOnce),
            fallen: Fallen::default(),
            check: Check::new(now),
            sure: 0,
            work: 0,
            stopped: false,
            config,
        };
        rig.settle();
        rig
    }

    /// Turns until the worker would sleep. Returns how long it would.
    pub(super) fn settle(&mut self) -> Option<Instant> {
        let mut idle = 0;
        while !self.stopped {
            let before = self.signs();
            self.turn();
            if self.stopped {
                break;
            }
            match self.park() {
                Park::Sleep(until) => {
                    self.check_asleep();
                    return until;
                }
                Park::Turn => {}
            }
            idle = if self.signs() == before { idle + 1 } else { 0 };
            assert!(idle < SPIN, "a spin at {:?}, due {:?}", self.now, self.session.next_deadline());
        }
        None
    }

    /// What changes when anything is done.
    fn signs(&self) -> impl PartialEq + use<> {
        let socket = self.line.as_ref().map(|line| &line.open.socket);
        let bytes = socket.map(|socket| (socket.received(), socket.handed(), socket.taken()));
        (bytes, self.work, self.session.state(), self.session.next_deadline(), self.intake.is_empty())
    }

    fn turn(&mut self) {
        self.deliver();
        self.take_commands();
        self.take_messages();
        self.read();
        self.drain();
        self.session.handle_timeout(self.now);
        let stop = self.act();
        self.transmit();
        let stop = stop || self.act();
        self.hear();
        self.publish();
        self.application();
        if stop {
            self.stop();
        }
    }

    /// What the network brings, and what the poller says of it.
    fn deliver(&mut self) {
        let Some(Line { open: Open { socket, .. }, pipe, flight, end, cut, .. }) = &mut self.line else {
            return;
        };
        let size = if *cut == 0 { flight.len() } else { flight.len().min(*cut) };
        self.work += u64::from(size > 0 || end.is_some());
        if size > 0 {
            pipe.state().incoming.extend(flight.drain(..size));
            socket.wire_mut().edge();
        } else if let Some(end) = end.take() {
            pipe.end(end);
            socket.wire_mut().edge_of_end();
        }
    }

    fn take_commands(&mut self) {
        let now = self.now;
        while let Some((generation, result)) = self.results.pop_front() {
            if self.dialling == Some(generation) {
                self.dialling = None;
            }
            match result {
                Ok(opening) => self.open(generation, opening),
                Err(error) => self.session.handle_dial_failed(now, generation, error),
            }
        }
        while let Some((connection, id, result)) = self.worked.pop_front() {
            self.session.handle_work(now, connection, id, result);
        }
        while let Some(command) = self.commands.pop_front() {
            match command {
                Command::Close { frame, flush, until } => {
                    self.close_intake();
                    self.session.handle_close(now, frame, flush);
                    self.session.close_by(until);
                }
                Command::Terminate => self.session.handle_terminate(),
                Command::Withdraw { ticket } => {
                    self.exchange();
                    self.ledger.drop(ticket);
                    self.session.handle_withdrawn(now, ticket);
                }
                Command::Confirm { through } => self.session.handle_confirm(through),
                Command::ReconnectNow => self.session.handle_reconnect_now(now),
            }
        }
        if let Some(plan) = self.plan.take_if(|plan| plan.at <= now) {
            self.session.handle_retry(now, plan.generation);
        }
    }

    fn open(&mut self, generation: u64, opening: Opening) {
        let pipe = Pipe::new();
        let mut link = Link::Plain(Wire::new(pipe.clone()));
        link.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a write always succeeds");
        pipe.state().taken.clear();
        pipe.state().room = opening.room;
        let socket = Socket::new(link, opening.glued, &self.config);
        let accepted = Accepted { address: ([127, 0, 0, 1], 80).into(), subprotocol: None };
        if self.session.handle_opened(self.now, generation, accepted, socket.taken()) {
            let (flight, peer) = (VecDeque::new(), opening.peer);
            assert!(self.line.is_none(), "two sockets");
            let open = Open::new(ConnectionId(generation), socket);
            self.line = Some(Line { open, pipe, peer, flight, end: None, cut: 0 });
            self.ledger.connect();
            self.check.opened(self.now);
        }
    }

    fn take_messages(&mut self) {
        if self.session.has_released() || self.session.wants_outbox() || self.session.ages() {
            self.exchange();
        }
    }

    fn exchange(&mut self) {
        let released = self.session.take_released();
        self.check.released += released.messages;
        self.intake.exchange(&mut self.accepted, (released.messages, released.bytes));
        for Item { ticket, message, reply, expires } in self.accepted.drain(..) {
            self.work += 1;
            if let Some(many) = reply.map(|reply| reply.many) {
                if self.session.state() == ConnectionState::Closed {
                    // Its caller learns of the end by itself.
                    self.ledger.drop(ticket);
                    self.check.released += 1;
                }
                self.session.handle_request(ticket, message, many);
            } else {
                self.session.handle_accepted(ticket, message, expires);
            }
        }
    }

    fn close_intake(&mut self) {
        self.intake.close();
        self.exchange();
    }

    fn read(&mut self) {
        let Some(Line { open, peer, .. }) = &mut self.line else { return };
        self.check.raw = peer.raw;
        if !open.is_readable() {
            return;
        }
        let received = open.socket.received();
        let frames = traffic::read(&mut self.session, &mut self.publisher, open, self.now);
        if open.socket.received() > received {
            self.check.heard = self.now;
        }
        self.work += frames as u64;
        if frames > 0 {
            self.look = self.look.map(|_| Duration::ZERO);
        }
    }

    fn drain(&mut self) {
        if let Some(Line { open, .. }) = &mut self.line {
            traffic::drain(&mut self.session, open, self.now);
            self.check.moved(self.now, open.socket.taken(), open.socket.is_blocked());
        }
    }

    fn transmit(&mut self) {
        let now = self.now;
        let Some(Line { open, .. }) = &mut self.line else {
            assert_eq!(self.session.current(), None, "a connection, and no socket");
            return;
        };
        let result = traffic::transmit(&mut self.session, open, now);
        // What tungstenite holds, one message, and the answers to pings come on top.
        let most = HIGH_WATER + (128 << 10) + self.config.max_message_size + (128 << 10);
        assert!(open.socket.spilled() <= most, "{} bytes wait", open.socket.spilled());
        self.check.moved(now, open.socket.taken(), open.socket.is_blocked());
        traffic::progress(&mut self.session, open, now);
        if let Err(fault) = result {
            self.session.handle_fault(now, open.id, fault);
        }
    }

    fn act(&mut self) -> bool {
        while let Some(action) = self.session.poll_action() {
            self.work += 1;
            match action {
                Action::Dial { generation, .. } => {
                    assert!(self.dialling.replace(generation).is_none(), "two attempts");
                    assert!(
                        self.line.is_none() && self.plan.is_none(),
                        "an attempt next to a line or a plan"
                    );
                }
                Action::TimeOutDial { generation } => {
                    assert_eq!(self.dialling.take(), Some(generation));
                    let after = self.config.connect_timeout;
                    let error = Error::ConnectTimeout { host: "h".into(), phase: Phase::Tls, after };
                    self.session.handle_dial_failed(self.now, generation, error);
                }
                Action::AbandonDial => self.dialling = None,
                Action::Schedule(plan) => {
                    assert_eq!(plan.at, self.now + plan.delay);
                    self.check.planned.push_back(plan.delay);
                    assert!(self.plan.replace(plan).is_none(), "two plans");
                }
                Action::Unschedule => self.plan = None,
                Action::Drop(id) => self.hang_up(id),
                Action::Stop => return true,
            }
        }
        self.pieces.extend(std::iter::from_fn(|| self.session.poll_work()));
        false
    }

    fn hang_up(&mut self, id: ConnectionId) {
        self.hear();
        assert!(self.line.as_ref().is_none_or(|line| line.open.id == id), "nobody moves");
        // One that the protocol gave up at once was never kept.
        let Some(line) = self.line.take() else { return };
        self.sure = line.peer.sure();
        if let Some(torn) = line.peer.torn() {
            self.ledger.see(&torn, false);
        }
    }

    /// The server takes what the system took.
    fn hear(&mut self) {
        for ticket in self.fallen.take() {
            self.ledger.drop(ticket);
        }
        let Some(Line { pipe, peer, .. }) = &mut self.line else { return };
        let taken = std::mem::take(&mut pipe.state().taken);
        for said in peer.take(&taken) {
            match said {
                Said::Message(payload) => {
                    self.check.requested(&payload);
                    self.ledger.see(&payload, true);
                }
                Said::Close => {}
            }
        }
    }

    fn publish(&mut self) {
        let state = self.session.state();
        if self.config.while_down == WhileDown::Refuse {
            let ready = self.session.wants_outbox() && state != ConnectionState::Closing;
            self.intake.set_refusing((!ready).then_some(state));
        }
        while let Some(Reply { ticket, answer, last }) = self.session.poll_reply() {
            self.work += 1;
            if matches!(answer, Some(Ok(_) | Err(Error::Answer { .. }))) {
                self.ledger.answer(ticket);
            }
            if last {
                self.ledger.reply(ticket);
            }
            if let Some(answer) = answer {
                self.check.answered(ticket, &answer);
            }
        }
        while let Some(event) = self.session.poll_event() {
            self.work += 1;
            self.check.event(&event, self.now, &self.config);
            match &event {
                Event::Disconnected { retry_in: Some(_), maybe_delivered, .. } => {
                    self.ledger.doubt(maybe_delivered);
                    self.ledger.lose(self.sure);
                }
                Event::Message(message) => self.check.passed.push_back(message.clone()),
                Event::Expired { tickets } => self.ledger.expire(tickets, |ticket| self.fallen.times(ticket)),
                _ => {}
            }
            self.publisher.put(event);
        }
        self.check.published(state);
        self.ledger.tell(&self.session.take_doubts());
        self.ledger.settle(&self.session.watermarks());
        let standing = self.config.events.messages.saturating_add(300);
        assert!(self.check.unruly || self.inbox.len() <= standing, "{} events wait", self.inbox.len());
    }

    fn application(&mut self) {
        for _ in 0..self.taking {
            let Ok(event) = self.inbox.try_recv() else { return };
            self.check.taken(event);
        }
        if self.taking != usize::MAX {
            self.taking = 0;
        }
    }

    /// So much time passes while the worker sleeps.
    pub(super) fn sleep(&mut self, time: Duration) {
        self.now += time;
        self.wall += time;
        for Piece { connection, id, work } in self.pieces.drain(..) {
            self.worked.push_back((connection, id, work()));
        }
        if time >= QUIET {
            self.session.rest();
            if let Some(Line { open, .. }) = &mut self.line {
                traffic::rest(&mut self.session, open, self.now);
                self.check.moved(self.now, open.socket.taken(), open.socket.is_blocked());
            }
            self.publisher.rest();
            self.intake.rest();
        }
    }

    fn park(&mut self) -> Park {
        let now = self.now;
        let mut deadline = self.session.next_deadline();
        let readable = self.line.as_ref().is_some_and(|line| line.open.is_readable());
        let paused = readable && self.session.delivers() && !self.publisher.has_room();
        if paused || self.look.is_some() {
            self.check.excused = now;
        }
        if paused != self.look.is_some() {
            self.session.handle_paused(now, paused);
            deadline = self.session.next_deadline();
        }
        if paused {
            let (shortest, longest) = (Duration::from_millis(1), Duration::from_millis(64));
            let look = self.look.map_or(shortest, |look| (look * 2).clamp(shortest, longest));
            self.look = Some(look);
            deadline = Some(deadline.map_or(now + look, |deadline| deadline.min(now + look)));
        } else {
            self.look = None;
            if readable {
                return Park::Turn;
            }
        }
        let due = deadline.is_some_and(|deadline| deadline <= now);
        if due || !self.worked.is_empty() || self.session.has_output() || self.session.has_released() {
            return Park::Turn;
        }
        let blocked = self.line.as_ref().is_some_and(|line| line.open.socket.spilled() >= HIGH_WATER);
        let for_all = self.session.wants_outbox() && !blocked || self.session.ages();
        let flying = self.line.as_ref().is_some_and(|line| !line.flight.is_empty() || line.end.is_some());
        if flying || for_all && !self.intake.is_empty() {
            return Park::Turn;
        }
        Park::Sleep(deadline)
    }
}
