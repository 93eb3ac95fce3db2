//! The rules of a line under one fake clock: an instant from which each test steps.
#![expect(clippy::disallowed_methods, reason = "an Instant has no other source; the tests step from it")]

mod attempts;
mod closing;
mod confirm;
mod delivery;
mod heartbeat;
mod idle;
mod moving;
mod servers;
mod suspending;
mod this_connection;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::config::{ConnectionConfig, HeartbeatConfig, Jitter, ReconnectConfig, ServerOrder};
use crate::error::{CloseFrame, Error, Phase, Rejection};
use crate::event::{CloseReason, DisconnectReason, Event, Ticket, Tickets};
use crate::handshake::Handshake;
use crate::message::Message;
use crate::protocol::Protocol;
use crate::session::reconnect::ReconnectPlan;
use crate::session::{Action, ConnectionId, Frame, Progress, Session, Startup};
use crate::state::ConnectionState;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// What the system has taken of a connection when it opens: the upgrade.
const UPGRADE: u64 = 100;

/// The size of each frame on the fake wire.
const FRAME: u64 = 10;

/// The wall clock at the first instant, in ms of unix time.
const WALL_MS: u64 = 1_700_000_000_123;

/// The socket of the first connection is dropped.
const HANG_UP: Action = Action::Drop(ConnectionId(1));

/// A session, the time that it is given, and the wire that it writes to.
struct Rig {
    session: Session,
    now: Instant,
    start: Instant,
    /// How many bytes of the connection were handed to the socket, and how many of those the system has taken.
    handed: u64,
    taken: u64,
    last_ticket: u64,
    /// The newest attempt that was asked for.
    generation: u64,
    /// The newest plan, until it is used.
    plan: Option<ReconnectPlan>,
}

/// Delays of 1, 2, 4, 8, 16, 30, 30 s; heartbeats as by default.
fn config() -> ConnectionConfig {
    ConnectionConfig::new("ws://test.example").reconnect(reconnect())
}

fn reconnect() -> ReconnectConfig {
    ReconnectConfig::default().jitter(Jitter::None)
}

fn without_beats() -> ConnectionConfig {
    config().heartbeat(HeartbeatConfig::off())
}

impl Rig {
    fn new(config: ConnectionConfig, one_attempt: bool) -> Self {
        Self::with(config, None, one_attempt)
    }

    fn with(config: ConnectionConfig, protocol: Option<Box<dyn Protocol>>, one_attempt: bool) -> Self {
        let now = Instant::now();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(WALL_MS);
        Self {
            session: Session::new(config, protocol, Startup { one_attempt, fetches: false }, (now, wall))
                .unwrap(),
            now,
            start: now,
            handed: 0,
            taken: 0,
            last_ticket: 0,
            generation: 0,
            plan: None,
        }
    }

    /// The connection that carries the line.
    fn id(&self) -> ConnectionId {
        self.session.current().unwrap_or_default()
    }

    /// The first attempt is under way.
    fn dialling(config: ConnectionConfig) -> Self {
        let mut rig = Self::new(config, false);
        rig.session.start(rig.now);
        rig.forget();
        rig
    }

    /// A line that is open; the events that led there are forgotten.
    fn opened(config: ConnectionConfig) -> Self {
        let mut rig = Self::dialling(config);
        rig.open();
        rig.forget();
        rig
    }

    /// The first attempt failed; the next is planned.
    fn waiting(config: ConnectionConfig) -> Self {
        let mut rig = Self::dialling(config);
        rig.fail(refused());
        rig.forget();
        rig
    }

    /// Opens the line, after waiting for the planned attempt if there is one.
    fn open(&mut self) {
        self.redial();
        assert!(self.try_open(self.generation), "wanted");
    }

    fn try_open(&mut self, generation: u64) -> bool {
        let opened = Arc::new(Handshake::new(Some(address()), Some("chat".into())));
        let wanted = self.session.handle_opened(self.now, generation, &opened, UPGRADE);
        if wanted {
            (self.handed, self.taken) = (UPGRADE, UPGRADE);
        }
        wanted
    }

    /// Makes the planned attempt, if one is planned.
    fn redial(&mut self) {
        self.actions();
        if let Some(plan) = self.plan.take() {
            self.now = self.now.max(plan.at);
            self.session.handle_retry(self.now, plan.generation);
            self.actions();
        }
    }

    /// The attempt under way, or the planned one, fails.
    fn fail(&mut self, error: Error) {
        self.redial();
        self.session.handle_dial_failed(self.now, self.generation, error);
    }

    /// The connection breaks.
    fn lose(&mut self) {
        self.session.handle_fault(self.now, self.id(), crate::error::Fault::Broken(broken()));
    }

    /// Lets time pass, and does what is due.
    fn step(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }

    fn deadline(&self) -> Option<Duration> {
        self.session.next_deadline().map(|at| at - self.start)
    }

    fn since_start(&self) -> Duration {
        self.now - self.start
    }

    fn accept(&mut self, texts: &[&str]) {
        for text in texts {
            self.last_ticket += 1;
            let expires = self.session.config.max_age.map(|age| self.now + age);
            self.session.handle_accepted(self.last_ticket, (*text).into(), expires);
        }
    }

    fn receive(&mut self, message: impl Into<Message>) {
        self.session.handle_message(self.now, self.id(), message.into());
    }

    fn pong(&mut self, counter: u64) {
        self.session.handle_pong(self.now, self.id(), &counter.to_be_bytes());
    }

    fn close(&mut self, flush: bool) {
        self.session.handle_close(self.now, CloseFrame::new(1000, "bye"), flush);
    }

    fn server_closes(&mut self, code: u16) {
        self.session.handle_close_frame(self.now, self.id(), CloseFrame::new(code, ""));
    }

    /// Hands over all frames; the system takes nothing.
    fn hand(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            match self.session.poll_transmit(self.now, self.id()) {
                Some(frame) => frames.push(frame),
                None if self.session.frame_message(self.now, self.id()) => continue,
                None => return frames,
            }
            self.handed += FRAME;
            self.report();
        }
    }

    /// The socket reports its progress.
    fn report(&mut self) {
        let (handed, taken) = (self.handed, self.taken);
        self.session.handle_progress(
            self.now,
            self.id(),
            Progress { handed, taken, blocked: taken < handed },
        );
    }

    /// The system takes this many of the bytes that were handed over.
    fn take(&mut self, bytes: u64) {
        self.taken = self.handed.min(self.taken + bytes);
        self.report();
    }

    /// Hands over all frames, and the system takes them.
    fn transmit(&mut self) -> Vec<Frame> {
        let frames = self.hand();
        self.take(u64::MAX - self.taken);
        frames
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    /// The actions, in order. Remembers the newest attempt and plan.
    fn actions(&mut self) -> Vec<Action> {
        let actions: Vec<_> = std::iter::from_fn(|| self.session.poll_action()).collect();
        for action in &actions {
            match action {
                Action::Dial { generation, .. } => self.generation = *generation,
                Action::Schedule(plan) => self.plan = Some(*plan),
                Action::Unschedule => self.plan = None,
                _ => {}
            }
        }
        actions
    }

    /// Forgets what happened so far.
    fn forget(&mut self) {
        self.events();
        self.actions();
    }

    /// The state changes and all other events, in short.
    fn told(&mut self) -> Vec<String> {
        self.events().iter().map(brief).collect()
    }

    /// The messages that were delivered.
    fn delivered(&mut self) -> Vec<String> {
        let messages = self.events().into_iter().filter_map(Event::into_message);
        messages.map(|message| message.to_string()).collect()
    }

    /// The one `Disconnected` among the events.
    fn disconnected(&mut self) -> (DisconnectReason, Option<Duration>, Vec<u64>) {
        let events = self.events();
        let mut found = events.iter().filter_map(|event| match event {
            Event::Disconnected { reason, retry_in, maybe_delivered } => {
                Some((reason.clone(), *retry_in, numbers(maybe_delivered)))
            }
            _ => None,
        });
        let one = found.next().unwrap_or_else(|| panic!("no Disconnected in {events:?}"));
        assert!(found.next().is_none(), "{events:?}");
        one
    }

    /// The tickets that the one `Disconnected` names.
    fn in_doubt(&mut self) -> Vec<u64> {
        self.disconnected().2
    }

    #[track_caller]
    fn assert_nothing_happened(&mut self) {
        assert_eq!((self.told(), self.actions()), (vec![], vec![]));
    }

    /// The delay of the retry that the one `Disconnected` announces, which is the plan's.
    fn retry_in(&mut self) -> Option<Duration> {
        let planned = self.actions().into_iter().find_map(|action| match action {
            Action::Schedule(plan) => Some(plan),
            _ => None,
        });
        let (_, retry_in, _) = self.disconnected();
        assert_eq!(planned.map(|plan| plan.at), retry_in.map(|delay| self.now + delay));
        retry_in
    }

    /// Why the session closed. It must have closed.
    fn closed(&mut self) -> CloseReason {
        assert_eq!(self.session.state(), ConnectionState::Closed);
        match self.events().pop() {
            Some(Event::Closed { reason }) => reason,
            other => panic!("{other:?} at the end"),
        }
    }

    /// What was undelivered: texts never written, tickets in doubt.
    fn left(&mut self) -> (Vec<String>, Vec<u64>) {
        let left = self.session.take_left();
        (
            left.never_written.iter().map(|(_, message)| message.to_string()).collect(),
            numbers(&left.maybe_delivered),
        )
    }
}

/// One ms less.
fn almost(time: Duration) -> Duration {
    time.saturating_sub(MS)
}

fn brief(event: &Event) -> String {
    match event {
        Event::StateChanged { from, to } => format!("{from} -> {to}"),
        Event::Connected { attempts, .. } => format!("connected, attempt {attempts}"),
        Event::Message(message) => format!("message {message}"),
        Event::Disconnected { .. } => "disconnected".into(),
        Event::Expired { tickets } => format!("expired {tickets}"),
        Event::Closed { .. } => "closed".into(),
        Event::Missed { .. } => "missed".into(),
        Event::Moved { .. } => "moved".into(),
    }
}

fn numbers(tickets: &Tickets) -> Vec<u64> {
    tickets.iter().map(Ticket::number).collect()
}

fn address() -> SocketAddr {
    ([192, 0, 2, 1], 80).into()
}

fn text(text: &str) -> Frame {
    Frame::Message(text.into())
}

fn texts<const N: usize>(all: [&str; N]) -> [Frame; N] {
    all.map(text)
}

fn ping(counter: u64) -> Frame {
    Frame::Ping(counter.to_be_bytes())
}

fn goodbye() -> Frame {
    Frame::Close(CloseFrame::new(1000, "bye"))
}

fn refused() -> Error {
    let source = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
    Error::Connect { host: "test.example:80".into(), source }
}

fn unresolved() -> Error {
    let source = Arc::new(io::Error::from(io::ErrorKind::NotFound));
    Error::Resolve { host: "test.example".into(), source }
}

fn timed_out() -> Error {
    Error::ConnectTimeout { host: "test.example:80".into(), phase: Phase::Tls, after: 10 * S, source: None }
}

fn broken() -> Error {
    Error::ConnectionLost { source: None }
}

fn rejected(status: u16, retry_after: Option<&str>) -> Error {
    let headers = retry_after.map(|value| ("Retry-After".to_owned(), value.to_owned()));
    let headers = headers.into_iter().collect();
    Error::UpgradeRejected(Arc::new(Rejection::new(status, "", headers)))
}
