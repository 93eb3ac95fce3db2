//! The I/O thread's turn around a real session and real sockets, over connections in memory.

mod callers;
mod invariants;
mod sim;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::check::Check;
use super::ledger::Ledger;
use super::peer::Said;
use super::wild::Fallen;
use crate::config::{Confirmation, ConnectionConfig, Inbound};
use crate::error::Error;
use crate::event::{DisconnectReason, Event};
use crate::io::publisher::Publisher;
use crate::io::thread::IDLE_BEFORE_SHRINK;
use crate::io::traffic::HIGH_WATER;
use crate::io::turn::{Next, Turn};
use crate::message::Message;
use crate::protocol::Protocol;
use crate::session::{Reply, Session, Startup};
use crate::shared::{EventQueue, Inbox, Intake, Sleep, Status};
use callers::Callers;
pub(super) use sim::{Line, Opening, Sim};

/// How many turns in a row without a change count as a busy loop.
const SPIN: usize = 3;

/// Who was away for longer did not hear the server.
const OVERSLEPT: Duration = Duration::from_secs(5);

pub(super) struct Rig {
    pub(super) turn: Turn<Sim>,
    pub(super) config: ConnectionConfig,
    pub(super) events: Arc<EventQueue>,
    /// Where messages arrive, if they do not come with the events.
    inbox: Option<Arc<Inbox>>,
    /// The message that another reader is taking: which one it is, and its place.
    halfway: Option<(Message, u64)>,
    /// The next one is to stop there.
    stops_a_reader: bool,
    callers: Callers,
    /// Where the answers to requests arrive, by ticket.
    pub(super) asked: BTreeMap<u64, Receiver<Result<Message, Error>>>,
    pub(super) wall: SystemTime,
    /// How many events the application takes after each turn, and how many messages if they do not come with the events.
    pub(super) taking: usize,
    pub(super) ledger: Ledger,
    pub(super) fallen: Fallen,
    pub(super) check: Check,
    /// The protocol pairs requests with answers.
    pub(super) answers_requests: bool,
    /// Bytes that need not be messages were sent on a connection that was wanted.
    raw: bool,
    /// Only messages of an even length count as data.
    pub(super) even_only: bool,
    /// When the last turn was, and what the session last learned of the clocks.
    last_turn: Instant,
    clocks: (Instant, SystemTime),
    /// How much output there was so far: it shows whether a turn did anything.
    work: usize,
    pub(super) stopped: bool,
}

impl Rig {
    pub(super) fn new(
        config: ConnectionConfig,
        protocol: Option<Box<dyn Protocol>>,
        mode: Startup,
        (now, wall): (Instant, SystemTime),
    ) -> Self {
        let (events, events_in) = EventQueue::new();
        let (inbox, inbox_in) = config.realtime.map(Inbox::new).unzip();
        let is_plain = protocol.is_none();
        let session =
            Session::new(config.clone(), protocol, mode, (now, wall)).expect("a good configuration");
        let draws = Arc::new(AtomicUsize::new(0));
        let random = move || [0.1, 0.9, 0.5, 0.3, 0.7][draws.fetch_add(1, Relaxed) % 5];
        let session = session.with_random(random).expect("a good configuration");
        let intake = Arc::new(Intake::of(&config));
        let publisher = Publisher::new(events_in, config.events).with_inbox(inbox_in);
        let sim = Sim::new(config.clone(), now);
        let callers = Callers::new(&config, is_plain);
        let mut rig = Self {
            turn: Turn::new(sim, session, publisher, intake, Arc::new(Status::new(now))),
            events,
            inbox,
            halfway: None,
            stops_a_reader: false,
            callers,
            asked: BTreeMap::new(),
            wall,
            taking: usize::MAX,
            ledger: Ledger::new(&config),
            fallen: Fallen::default(),
            check: Check::new(&config, now),
            answers_requests: false,
            raw: false,
            even_only: false,
            last_turn: now,
            clocks: (now, wall),
            work: 0,
            stopped: false,
            config,
        };
        rig.turn.session.start(now);
        rig.settle();
        rig
    }

    pub(super) fn now(&self) -> Instant {
        self.turn.host.now
    }

    /// Runs turns until the I/O thread would sleep. Returns until when it would sleep.
    pub(super) fn settle(&mut self) -> Option<Instant> {
        if self.a_caller_stands_in() {
            self.check_asleep();
            return self.callers.sleeps_until;
        }
        self.callers.io_sleeps = false;
        let mut idle = 0;
        while !self.stopped {
            let before = self.signs();
            self.turn();
            if self.stopped {
                break;
            }
            if let Next::Sleep { until, .. } = self.next() {
                self.check_asleep();
                (self.callers.io_sleeps, self.callers.sleeps_until) = (true, until);
                return until;
            }
            idle = if self.signs() == before { idle + 1 } else { 0 };
            let due = self.turn.session.next_deadline();
            assert!(idle < SPIN, "a spin at {:?}, due {due:?}", self.now());
        }
        None
    }

    /// A value that changes when anything is done.
    fn signs(&self) -> impl PartialEq + use<> {
        let (session, sim) = (&self.turn.session, &self.turn.host);
        let state = (session.state(), session.next_deadline(), session.stats());
        let traffic = self.turn.sockets.traffic();
        let intake = &self.turn.intake;
        // A message that its protocol drops goes without any other sign.
        ((traffic.written, traffic.read), self.work, sim.work, state, (intake.is_empty(), intake.held()))
    }

    /// From now on, only messages of an even length count as data.
    pub(super) fn count_even_lengths(&mut self) {
        self.even_only = true;
        self.turn.session.set_data_filter(Box::new(|message| message.len().is_multiple_of(2)));
    }

    /// The I/O thread reads the wall clock.
    pub(super) fn look_at_the_clock(&mut self) {
        let (now, wall) = (self.now(), self.wall);
        let (then, before) = std::mem::replace(&mut self.clocks, (now, wall));
        if wall.duration_since(before + (now - then)).is_ok_and(|ahead| ahead > OVERSLEPT) {
            self.check.slept = now;
        }
        self.turn.session.handle_clock(now, wall);
    }

    fn turn(&mut self) {
        let stop = self.run(Turn::advance);
        self.publish();
        if stop {
            self.stop();
        }
    }

    /// Runs a turn, or a part of one, on what the network has brought.
    fn run(&mut self, turn: impl FnOnce(&mut Turn<Sim>, Instant) -> bool) -> bool {
        let now = self.now();
        if now - std::mem::replace(&mut self.last_turn, now) > OVERSLEPT {
            self.check.slept = now;
        }
        self.deliver();
        let current = self.turn.session.current();
        let outcome = turn(&mut self.turn, now);
        self.follow();
        self.check.silent = current.is_some_and(|current| self.fallen.is_silent(current));
        outcome
    }

    fn publish(&mut self) {
        self.observe();
        self.turn.publish();
        self.application();
    }

    /// Delivers what the network brings, and what the poller reports of it.
    fn deliver(&mut self) {
        let Turn { host: sim, sockets, .. } = &mut self.turn;
        for open in sockets.iter_mut() {
            let Some(line) = sim.lines.iter_mut().find(|line| line.id == open.id) else { continue };
            let size = if line.cut == 0 { line.flight.len() } else { line.flight.len().min(line.cut) };
            sim.work += usize::from(size > 0 || line.end.is_some());
            if size > 0 {
                line.delivered += size as u64;
                line.pipe.state().incoming.extend(line.flight.drain(..size));
                open.socket.wire_mut().edge();
            } else if let Some(end) = line.end.take() {
                line.pipe.end(end);
                open.socket.wire_mut().edge_of_end();
            }
        }
    }

    /// The servers receive what the systems took, and connections that were dropped are removed.
    fn follow(&mut self) {
        let now = self.now();
        for (ticket, expires, session) in self.callers.accepted.borrow_mut().drain(..) {
            self.ledger.accept(ticket, false, expires, session);
        }
        self.work += usize::from(self.turn.moved.take().is_some());
        for ticket in self.fallen.take() {
            self.ledger.drop(ticket);
        }
        for ticket in self.fallen.take_answered() {
            self.ledger.answer(ticket, self.fallen.times(ticket));
        }
        self.check.planned.extend(self.turn.host.planned.drain(..));
        for url in self.turn.host.dialled.drain(..) {
            let configured = self.config.server_list().is_ok_and(|list| list.contains(&url));
            assert!(configured || self.fallen.has_named(&url), "{url} is no server");
            self.check.rounds.dialled.push_back(url);
        }
        // One message held by tungstenite, and the answers to pings, come on top.
        let most = HIGH_WATER + (128 << 10) + self.config.max_message_size + (128 << 10);
        for open in self.turn.sockets.iter_mut() {
            assert!(open.socket.spilled() <= most, "{} bytes wait", open.socket.spilled());
            let line = self.turn.host.lines.iter_mut().find(|line| line.id == open.id);
            let line = line.expect("a socket that was opened");
            line.moves(now, open.socket.taken(), open.socket.is_blocked());
            self.raw |= line.peer.raw;
        }
        self.check.raw = self.raw || self.turn.host.lines.iter().any(|line| line.peer.raw);
        let session = self.turn.session.stats().connects;
        for line in &mut self.turn.host.lines {
            let (taken, read) = line.pipe.take();
            if read {
                line.heard = now;
                line.note_data(now);
            }
            for said in line.peer.take(&taken) {
                match said {
                    Said::Message(payload) => {
                        self.check.requested(&payload);
                        self.ledger.see(&payload, (line.id, session), true);
                    }
                    Said::Close => {}
                }
            }
            if line.pipe.state().hung_up
                && let Some(torn) = line.peer.torn()
            {
                self.ledger.see(&torn, (line.id, session), false);
            }
        }
    }

    /// Checks what the session reports, before it is published.
    fn observe(&mut self) {
        let (now, session) = (self.turn.host.now, &self.turn.session);
        for Reply { ticket, answer, last } in session.pending_replies() {
            self.work += 1;
            if matches!(answer, Some(Ok(_) | Err(Error::Answer { .. }))) {
                self.ledger.answer(*ticket, self.fallen.times(*ticket));
            }
            if *last {
                self.ledger.reply(*ticket);
            }
            if let Some(answer) = answer {
                self.check.answered(*ticket, answer);
            }
        }
        let lines = &self.turn.host.lines;
        // Up to this ticket, a connection that is gone may have received confirmations.
        let pongs = self.config.confirmation == Confirmation::Pong;
        let sure = lines.iter().filter(|_| pongs).map(|line| line.peer.sure()).max().unwrap_or_default();
        let mut lost = false;
        for event in session.pending_events() {
            self.work += 1;
            self.check.event(event, now, &self.config, lines);
            match event {
                // The last event of a closed client repeats what is left.
                Event::Disconnected { reason, maybe_delivered, .. } if !self.check.is_closed() => {
                    self.ledger.doubt(maybe_delivered);
                    if matches!(reason, DisconnectReason::ByCaller { .. }) {
                        self.ledger.excuse();
                    }
                    lost = true;
                }
                Event::Moved { maybe_delivered, .. } => {
                    self.ledger.doubt(maybe_delivered);
                    self.ledger.excuse();
                    // Otherwise the new connection is lost as well, and its loss reports the rest.
                    if let Some(current) = session.current() {
                        self.ledger.lose(sure, Some(current));
                    }
                }
                Event::Message(message) => {
                    self.check.delivered += 1;
                    self.check.passed.push_back(message.clone());
                }
                Event::Expired { tickets } => {
                    self.ledger.expire(tickets, |ticket| self.fallen.times(ticket), session.readiness());
                }
                _ => {}
            }
        }
        // What callers had sent for the lost connection may be named behind the loss, in the same turn.
        if lost && !self.check.is_closed() {
            self.ledger.lose(sure, None);
        }
        self.check.published(session.state());
        self.ledger.tell(session.pending_lost());
        self.ledger.settle(&session.watermarks());
        self.count();
        self.turn.host.lines.retain(|line| !line.pipe.state().hung_up);
        let standing = self.config.events.messages.saturating_add(300);
        assert!(self.check.unruly || self.events.len() <= standing, "{} events wait", self.events.len());
        let messages = self.check.passed.len();
        assert!(self.check.unruly || messages <= self.config.events.messages, "{messages} messages wait");
    }

    /// The counters say what callers know.
    fn count(&mut self) {
        let mut stats = self.turn.stats();
        self.turn.intake.complete(&mut stats);
        let accepted = self.ledger.accepted();
        assert_eq!(stats.messages_accepted, accepted);
        assert!(stats.messages_written.max(stats.messages_confirmed) <= accepted, "{stats:?}");
        assert!(stats.messages_queued <= self.config.outbox.messages, "{stats:?}");
        let passes_all = !self.answers_requests && self.config.inbound == Inbound::Deliver;
        assert!(!passes_all || stats.messages_received == self.check.delivered, "{stats:?}");
    }

    fn application(&mut self) {
        let most = std::mem::take(&mut self.taking);
        for event in self.events.drain().take(most) {
            self.check.taken(event);
            self.work += 1;
        }
        self.begin_to_take();
        for _ in 0..most {
            let Ok(message) = self.take_message() else { break };
            self.check.taken_message(&message);
            self.work += 1;
        }
        if most == usize::MAX {
            self.taking = most;
        }
    }

    /// With an inbox, the next reader that takes a message past the events loses its processor halfway; or, if one has, it
    /// gets it back. Otherwise callers begin to stand in for the I/O thread, or end it.
    pub(super) fn switch(&mut self) {
        if self.inbox.is_none() {
            return self.callers.switch();
        }
        let Some((expected, claimed)) = self.halfway.take() else {
            self.stops_a_reader = !self.stops_a_reader;
            return;
        };
        let taken = self.inbox.as_ref().and_then(|inbox| inbox.end_take(claimed));
        assert_eq!(taken, Some(expected));
        self.work += 1;
    }

    /// Another reader begins to take a message, if one is to stop there.
    fn begin_to_take(&mut self) {
        let Some(inbox) = self.inbox.as_ref().filter(|_| self.stops_a_reader) else { return };
        if let Some(claimed) = inbox.begin_take() {
            let message = self.check.passed.pop_front().expect("a message that was passed");
            self.halfway = Some((message, claimed));
            self.stops_a_reader = false;
            self.work += 1;
        }
    }

    /// Takes a message past the events, by the call that waits and by the one that does not in turn.
    fn take_message(&self) -> Result<Message, TryRecvError> {
        let Some(inbox) = &self.inbox else { return Err(TryRecvError::Empty) };
        if self.check.passed.len().is_multiple_of(2) {
            return inbox.try_take();
        }
        inbox.take(Some(self.now()), |_| Duration::ZERO).map_err(|error| match error {
            RecvTimeoutError::Timeout => TryRecvError::Empty,
            RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Lets this much time pass while the I/O thread sleeps.
    pub(super) fn sleep(&mut self, time: Duration) {
        self.turn.host.now += time;
        self.wall += time;
        self.turn.host.work_on();
        if time >= IDLE_BEFORE_SHRINK {
            self.turn.shrink(self.turn.host.now);
            self.follow();
        }
    }

    /// Decides what follows the turn, including what the network does.
    fn next(&mut self) -> Next {
        match self.decide(|turn, now| turn.next(now, false)) {
            Next::Sleep { wakes, .. } if self.is_woken(wakes) => Next::Turn,
            other => other,
        }
    }

    fn decide<R>(&mut self, next: impl FnOnce(&mut Turn<Sim>, Instant) -> R) -> R {
        let now = self.now();
        let was_paused = self.turn.is_paused();
        let next = next(&mut self.turn, now);
        if was_paused || self.turn.is_paused() {
            self.check.excused = now;
        }
        next
    }

    /// Whether something ends this sleep at once.
    fn is_woken(&mut self, sleep: Sleep) -> bool {
        (sleep == Sleep::ForAll && !self.turn.intake.is_empty())
            || self.turn.host.has_news()
            || self.turn.may_go_on()
    }
}
