//! The worker's turn around a session, and what must hold after each.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use super::wire::{HIGH_WATER, UPGRADE, Wire, message, ticket};
use super::{Arrival, Command, Op, Time, Weather};
use crate::config::{Beat, ConnectionConfig};
use crate::error::{CloseFrame, Error, Fault, Phase};
use crate::event::{DisconnectReason, Event, Ticket, Tickets};
use crate::message::Message;
use crate::protocol::Accepted;
use crate::session::reconnect::Plan;
use crate::session::{Action, ConnectionId, Frame, Mode, Session};
use crate::state::ConnectionState::{self, Closed, Closing, Connected, Connecting, Disconnected};

/// So many turns at one instant are a spin.
const SPIN: usize = 10;

pub(super) struct Run {
    config: ConnectionConfig,
    session: Session,
    now: Instant,
    wall: SystemTime,
    /// When anything last arrived, or the line opened.
    heard: Instant,
    /// The socket has an answer of its own to pass on.
    answers: bool,
    /// The attempt under way.
    dialling: Option<u64>,
    plan: Option<Plan>,
    last_plan: u64,
    /// The delays of the plans that were not yet told of.
    planned: VecDeque<Duration>,
    wire: Option<Wire>,
    /// What the next connections are like.
    room: u64,
    breaks: Option<bool>,
    paused_wanted: bool,
    paused: bool,
    /// The callers' side: accepted, and not yet with the session.
    intake: VecDeque<(u64, Message)>,
    intake_closed: bool,
    accepted: u64,
    /// Every ticket up to this one has met its fate.
    settled: u64,
    released: u64,
    /// What the end of a line in this turn leaves in doubt.
    in_doubt: Tickets,
    arrived: u64,
    /// Messages that are to be delivered.
    expected: VecDeque<Message>,
    state: ConnectionState,
    /// The last event has come.
    ended: bool,
    closed: bool,
}

impl Run {
    pub(super) fn new(config: ConnectionConfig, one_attempt: bool, now: Instant, wall: SystemTime) -> Self {
        let mut session =
            Session::new(config.clone(), None, Mode { one_attempt, fetches: false }, (now, wall)).unwrap();
        session.start(now);
        let mut run = Self {
            config,
            session,
            now,
            wall,
            heard: now,
            answers: false,
            dialling: None,
            plan: None,
            last_plan: 0,
            planned: VecDeque::new(),
            wire: None,
            room: u64::MAX,
            breaks: None,
            paused_wanted: false,
            paused: false,
            intake: VecDeque::new(),
            intake_closed: false,
            accepted: 0,
            settled: 0,
            released: 0,
            in_doubt: Tickets::default(),
            arrived: 0,
            expected: VecDeque::new(),
            state: Disconnected,
            ended: false,
            closed: false,
        };
        run.turn(&[]);
        run
    }

    /// The connection that carries the line.
    fn id(&self) -> ConnectionId {
        self.session.current().unwrap_or_default()
    }

    /// One turn of the worker, in its order, in which all of this happens.
    pub(super) fn turn(&mut self, ops: &[Op]) {
        for op in ops {
            match *op {
                Op::Time(time) => self.pass(time),
                Op::Wire(weather) => self.change(weather),
                Op::Command(_) | Op::Arrival(_) => {}
            }
        }
        for op in ops {
            if let Op::Command(command) = *op {
                self.command(command);
            }
        }
        if let Some(plan) = self.plan.take_if(|plan| plan.at <= self.now) {
            self.session.handle_retry(self.now, plan.generation);
        }
        self.take_messages();
        for op in ops {
            if let Op::Arrival(arrival) = *op
                && !self.read(arrival)
            {
                break;
            }
        }
        self.session.handle_timeout(self.now);
        self.transmit();
        self.act();
        self.publish();
        self.pause();
    }

    /// Turns until the worker would sleep: whatever was due is done.
    pub(super) fn settle(&mut self) {
        for _ in 0..SPIN {
            if !self.session.has_output() && self.session.next_deadline().is_none_or(|at| at > self.now) {
                return self.check();
            }
            self.turn(&[]);
        }
        panic!("a spin: {:?} at {:?}", self.session.next_deadline(), self.now);
    }

    /// Ends the client, and counts.
    pub(super) fn finish(mut self) {
        self.turn(&[Op::Command(Command::Terminate)]);
        self.settle();
        assert!(self.closed);
        assert!(self.session.take_close_reason().is_some());
        let in_doubt = std::mem::take(&mut self.in_doubt);
        let left = self.session.take_left();
        assert_eq!(left.maybe_delivered, in_doubt);
        let never_written: Vec<_> =
            left.never_written.iter().map(|message| ticket(message.as_bytes())).collect();
        assert_eq!(never_written, (self.settled + 1..=self.accepted).collect::<Vec<_>>());
        assert_eq!(self.released, self.settled, "room for what was written, once");
        assert!(self.expected.is_empty());
    }

    fn pass(&mut self, time: Time) {
        match time {
            Time::Step(ms) => self.advance(Duration::from_millis(ms)),
            Time::ToDeadline => {
                let due = [self.session.next_deadline(), self.plan.map(|plan| plan.at)];
                let due = due.into_iter().flatten().min().unwrap_or(self.now);
                self.advance(due.saturating_duration_since(self.now));
            }
            Time::WallJump(ms) => {
                let by = Duration::from_millis(ms.unsigned_abs());
                self.wall = if ms < 0 { self.wall - by } else { self.wall + by };
                self.session.handle_clock(self.now, self.wall);
            }
        }
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.wall += time;
    }

    fn change(&mut self, weather: Weather) {
        match weather {
            Weather::Room(room) => self.room = room,
            Weather::Clear => self.room = u64::MAX,
            Weather::Breaks { early } => self.breaks = Some(early),
            Weather::Paused(paused) => self.paused_wanted = paused,
        }
        if let Some(wire) = &mut self.wire {
            wire.room = self.room;
        }
    }

    fn command(&mut self, command: Command) {
        let now = self.now;
        match command {
            Command::Accept { messages, size } if !self.intake_closed => {
                for _ in 0..messages {
                    self.accepted += 1;
                    self.intake.push_back((self.accepted, message(self.accepted, size)));
                }
            }
            Command::Accept { .. } => {}
            Command::Opened { stale } => self.opened(stale),
            Command::DialFailed { stale, cause } => {
                let error = cause.error();
                match self.dialling {
                    Some(generation) if !stale => {
                        self.dialling = None;
                        self.session.handle_dial_failed(now, generation, error);
                    }
                    current => self.session.handle_dial_failed(now, current.unwrap_or(2) - 1, error),
                }
            }
            Command::Retry { stale } => match self.plan {
                Some(plan) if !stale => {
                    self.plan = None;
                    self.session.handle_retry(now, plan.generation);
                }
                Some(plan) => self.session.handle_retry(now, plan.generation - 1),
                None => self.session.handle_retry(now, self.last_plan),
            },
            Command::ReconnectNow => self.session.handle_reconnect_now(now),
            Command::Close { flush } => {
                self.close_intake();
                self.session.handle_close(now, CloseFrame::new(1000, ""), flush);
            }
            Command::Terminate => self.session.handle_terminate(),
            Command::Panic => self.session.handle_panic("on_event_ready"),
        }
    }

    fn opened(&mut self, stale: bool) {
        let opened = || Accepted { address: ([127, 0, 0, 1], 80).into(), subprotocol: None };
        match self.dialling {
            Some(generation) if !stale => {
                self.dialling = None;
                // A command before this one may have closed the client; nothing else makes it unwanted.
                let wanted = self.session.handle_opened(self.now, generation, opened(), UPGRADE);
                assert_eq!(wanted, self.session.state() == Connected);
                if wanted {
                    let mut wire = Wire::new(self.config.heartbeat.beat, self.settled);
                    wire.room = self.room;
                    self.heard = self.now;
                    assert!(self.wire.replace(wire).is_none(), "two sockets");
                }
            }
            current => {
                let stale = current.unwrap_or(2) - 1;
                assert!(!self.session.handle_opened(self.now, stale, opened(), UPGRADE));
            }
        }
    }

    fn take_messages(&mut self) {
        let released = self.session.take_released().messages;
        self.released += released as u64;
        if released > 0 || self.session.wants_outbox() {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        for (ticket, message) in self.intake.drain(..) {
            self.session.handle_accepted(ticket, message, None);
        }
    }

    fn close_intake(&mut self) {
        self.intake_closed = true;
        self.hand_over();
    }

    /// Returns whether there may be more to read.
    fn read(&mut self, arrival: Arrival) -> bool {
        let now = self.now;
        let delivering = self.session.hears() && !self.session.discards();
        let Some(wire) = self.wire.as_mut().filter(|_| !(self.paused && delivering)) else { return false };
        match arrival {
            Arrival::Bytes => {}
            Arrival::Ping => {
                wire.put_pong();
                self.answers = true;
            }
            Arrival::Message => {
                self.arrived += 1;
                let message = message(self.arrived, 3);
                if delivering {
                    self.expected.push_back(message.clone());
                }
                self.session.handle_message(now, self.id(), message);
            }
            Arrival::JsonPong => {
                let message = Message::from(r#"{"type":"pong"}"#);
                if delivering && self.config.heartbeat.beat != Beat::Json {
                    self.expected.push_back(message.clone());
                }
                self.session.handle_message(now, self.id(), message);
            }
            Arrival::Pong { back } => {
                // A line that was given up in this turn is settled already.
                let up = matches!(self.session.state(), Connected | Closing);
                if let Some(payload) = up.then(|| wire.answer(back)).flatten() {
                    self.session.handle_pong(now, self.id(), &payload);
                }
            }
            Arrival::ForgedPong(payload) => self.session.handle_pong(now, self.id(), payload),
            Arrival::Close(code) => {
                wire.finished = true;
                self.session.handle_close_frame(now, self.id(), CloseFrame::new(code, ""));
            }
            Arrival::End => {
                self.session.handle_fault(now, self.id(), broken());
                return false;
            }
            Arrival::Violation(code) => {
                self.session.handle_fault(now, self.id(), Fault::Violation { code, reason: "random".into() });
                return false;
            }
        }
        self.heard = now;
        self.session.handle_activity(now, self.id());
        true
    }

    fn transmit(&mut self) {
        let up = matches!(self.session.state(), Connected | Closing);
        let id = self.id();
        let Some(wire) = &mut self.wire else {
            assert_eq!(self.session.poll_transmit(self.now, id), None, "a frame, and no socket");
            return;
        };
        if !up {
            // What a connection that was given up still held was called unsent, and must stay so.
            wire.room = 0;
        }
        let breaks = self.breaks.take();
        let mut fault = None;
        while fault.is_none() && wire.spilled() < HIGH_WATER {
            let plain = self.session.poll_message(id).cloned().map(Frame::Message);
            let Some(frame) = plain.or_else(|| self.session.poll_transmit(self.now, id)) else { break };
            assert!(up, "{frame:?} for a connection that was given up");
            let before = wire.handed;
            wire.put(&frame);
            self.answers = true;
            if wire.handed > before {
                wire.report(&mut self.session);
            }
            fault = (breaks == Some(true)).then(broken);
        }
        if fault.is_none() && (std::mem::take(&mut self.answers) || wire.spilled() > 0) {
            wire.pass_on();
            wire.report(&mut self.session);
            fault = (breaks == Some(false)).then(broken);
        }
        self.session.handle_progress(self.now, id, wire.taken, wire.spilled() > 0);
        if let Some(fault) = fault {
            self.session.handle_fault(self.now, id, fault);
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.session.poll_action() {
            assert!(!self.closed, "{action:?} after the end");
            match action {
                Action::Dial { generation, .. } => {
                    assert!(self.dialling.replace(generation).is_none(), "two attempts");
                    assert!(self.wire.is_none(), "an attempt next to an open line");
                    assert!(self.plan.is_none(), "an attempt, and another planned");
                }
                Action::TimeOutDial { generation, .. } => {
                    assert_eq!(self.dialling.take(), Some(generation));
                    let after = self.config.connect_timeout;
                    let error = Error::ConnectTimeout { host: "h".into(), phase: Phase::Tls, after };
                    self.session.handle_dial_failed(self.now, generation, error);
                }
                Action::AbandonDial => self.dialling = None,
                Action::Schedule(plan) => {
                    assert_eq!(plan.at, self.now + plan.delay);
                    self.last_plan = plan.generation;
                    self.planned.push_back(plan.delay);
                    assert!(self.plan.replace(plan).is_none(), "two plans");
                }
                Action::Unschedule => self.plan = None,
                Action::Drop(_) => self.hang_up(),
                Action::Stop => {
                    self.closed = true;
                    self.close_intake();
                }
            }
        }
    }

    fn hang_up(&mut self) {
        let wire = self.wire.take().expect("a connection to hang up");
        let (touched, doubtful) = wire.settle();
        self.in_doubt = Tickets::between(doubtful - 1, touched);
        self.settled = touched;
        self.answers = false;
    }

    fn publish(&mut self) {
        while let Some(event) = self.session.poll_event() {
            if self.state == Closed {
                // The client's end, with the loss that led to it, follows its last state.
                assert!(
                    !self.ended && matches!(event, Event::Disconnected { .. } | Event::Closed { .. }),
                    "{event:?}"
                );
            }
            match &event {
                Event::StateChanged { from, to } => {
                    assert_eq!(*from, self.state);
                    assert!(from.may_become(*to), "{from} -> {to}");
                    self.state = *to;
                }
                Event::Connected { .. } => assert_eq!(self.state, Connected),
                Event::Message(message) => assert_eq!(Some(message), self.expected.pop_front().as_ref()),
                Event::Disconnected { reason, retry_in, maybe_delivered } => {
                    if matches!(reason, DisconnectReason::Lost(Error::HeartbeatTimeout { .. })) {
                        let silence = self.now - self.heard;
                        let heartbeat = &self.config.heartbeat;
                        assert!(heartbeat.strict || silence >= heartbeat.timeout, "heard {silence:?} ago");
                    }
                    assert_eq!(*maybe_delivered, self.in_doubt);
                    assert!(maybe_delivered.iter().map(Ticket::number).all(|n| n <= self.settled));
                    match retry_in {
                        Some(_) => {
                            assert_eq!(*retry_in, self.planned.pop_front());
                            self.in_doubt = Tickets::default();
                        }
                        None => assert!(self.closed),
                    }
                }
                Event::Closed { .. } => {
                    assert_eq!(self.state, Closed);
                    self.ended = true;
                }
                Event::Expired { .. } | Event::Missed { .. } | Event::Moved { .. } => {
                    panic!("{event:?} out of place")
                }
            }
        }
        assert_eq!(self.state, self.session.state());
        assert_eq!(self.ended, self.state == Closed);
        assert!(self.planned.is_empty());
    }

    fn pause(&mut self) {
        let paused = self.paused_wanted && self.session.delivers();
        if paused != self.paused {
            self.session.handle_paused(self.now, paused);
            self.paused = paused;
        }
    }

    /// How long the worker may sleep in this state, if not for ever.
    fn longest_wait(&self) -> Option<Duration> {
        let config = &self.config;
        match self.state {
            Connecting => Some(config.connect_timeout),
            Closing => Some(config.close_timeout),
            Connected => {
                let beats = config.heartbeat.beat != Beat::Off;
                let blocked = self.wire.as_ref().is_some_and(|wire| wire.spilled() > 0);
                let waits = [(beats, config.heartbeat.interval), (blocked, config.write_timeout)];
                waits.into_iter().filter(|(applies, _)| *applies).map(|(_, wait)| wait).min()
            }
            _ => None,
        }
    }

    /// What holds while the worker sleeps.
    fn check(&mut self) {
        assert_eq!(self.closed, self.state == Closed);
        assert_eq!(self.dialling.is_some(), self.state == Connecting, "dialling in {}", self.state);
        assert_eq!(self.plan.is_some(), self.state == Disconnected, "a plan in {}", self.state);
        let up = matches!(self.state, Connected | Closing);
        assert_eq!(self.wire.is_some(), up, "a socket in {}", self.state);
        assert!(up || !self.session.wants_outbox());
        let deadline = self.session.next_deadline();
        let wait = deadline.map(|at| at - self.now);
        let longest = self.longest_wait();
        assert_eq!(wait.is_some(), longest.is_some(), "a deadline in {}", self.state);
        assert!(wait <= longest, "{wait:?} in {}", self.state);
        self.session.handle_timeout(self.now);
        assert!(!self.session.has_output(), "a spurious call did something");
        assert_eq!(self.session.next_deadline(), deadline);
    }
}

fn broken() -> Fault {
    Fault::Broken(Error::ConnectionLost { source: None })
}
