//! Servers for the tests of your program. A [`Line`] is for protocols: a scripted server and a virtual clock around a real
//! line, without a socket, a thread or a sleep. A [`LoopbackServer`] is for code that uses a whole
//! [`Client`](crate::Client): a real server on a loopback socket, with a script for each connection.
//!
//! They need the feature `testing`, which is off by default. Turn it on for the tests of your program:
//!
//! ```toml
//! [dev-dependencies]
//! tautline = { version = "0.1", features = ["testing"] }
//! ```
//!
//! A [`Line`] runs the same session logic as a [`Client`](crate::Client): logins, heartbeats, losses, reconnects and
//! deliveries follow the same rules. The test acts as the server, the network, the clock and the application. Time passes
//! only in [`step`](Line::step). Every other call happens at one instant, and everything that follows from it at that
//! instant is done when it returns. So a test always has the same result.
//!
//! A call that makes no sense, such as [`open`](Line::open) while no attempt is under way, panics with a message that says
//! what to do instead.
//!
//! An application that does not take its messages is one call: [`stop_taking`](Line::stop_taking). The kit does not simulate
//! TLS, HTTP, a slow network, or threads. For those there is the [`LoopbackServer`]. Neither server of the kit agrees on
//! compression.
//!
//! # A whole test
//!
//! The server of this example wants a token, says how often it expects `alive`, and resumes a session after a loss.
//!
//! ```
//! use std::time::Duration;
//!
//! use serde_json::{Value, json};
//! use tautline::testing::Line;
//! use tautline::{Handshake, ConnectionState, Context, Error, Message, Protocol};
//!
//! #[derive(Default)]
//! struct Tracker {
//!     interval: Duration,
//!     session: Option<String>,
//! }
//!
//! const ALIVE: u32 = 1;
//!
//! impl Protocol for Tracker {
//!     fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
//!         cx.send(match &self.session {
//!             Some(session) => json!({"resume": session}),
//!             None => json!({"token": "secret"}),
//!         });
//!         Ok(())
//!     }
//!
//!     fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
//!         if cx.is_ready() {
//!             cx.deliver(message);
//!             return Ok(());
//!         }
//!         let welcome: Value = message.json()?;
//!         let Some(session) = welcome["session"].as_str() else {
//!             return Err(Error::login_refused(message.to_string()));
//!         };
//!         self.interval = Duration::from_secs(welcome["every"].as_u64().unwrap_or(30));
//!         cx.set_timer(ALIVE, self.interval);
//!         if self.session.replace(session.to_owned()).is_some() { cx.resumed() } else { cx.ready() }
//!         Ok(())
//!     }
//!
//!     fn on_timer(&mut self, cx: &mut Context<'_>, _: u32) -> Result<(), Error> {
//!         cx.set_timer(ALIVE, self.interval);
//!         cx.send("alive");
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<(), Error> {
//! let mut line = Line::new("wss://tracker.example", Tracker::default())?;
//! assert_eq!(line.attempt().url, "wss://tracker.example");
//!
//! // The protocol logs in first. The application's message waits until then.
//! line.send("position");
//! line.open();
//! assert_eq!(line.heard_json(), [json!({"token": "secret"})]);
//! line.say(json!({"session": "s1", "every": 20}));
//! assert_eq!(line.state(), ConnectionState::Authenticated);
//! assert_eq!(line.heard(), ["position"]);
//!
//! // The server sets the interval of the heartbeat.
//! line.step(Duration::from_secs(19));
//! assert!(line.heard().is_empty());
//! line.step(Duration::from_secs(21));
//! assert_eq!(line.heard(), ["alive", "alive"]);
//!
//! // The connection breaks in the middle of a message. It may have arrived, so it is not sent again.
//! line.break_after(10);
//! let doubtful = line.send("a long message");
//! line.send("another");
//! assert_eq!(line.state(), ConnectionState::Disconnected);
//! assert!(line.doubtful().contains(doubtful));
//!
//! // Two seconds later the client reconnects and resumes the session.
//! assert_eq!(line.next_attempt(), Some(Duration::from_secs(2)));
//! line.step(Duration::from_secs(2));
//! line.open();
//! assert_eq!(line.heard_json(), [json!({"resume": "s1"})]);
//! line.say(json!({"session": "s1"}));
//! assert_eq!(line.heard(), ["another"]);
//! # Ok(())
//! # }
//! ```
#![expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other source; from it on, the clock is virtual"
)]

mod application;
mod attempts;
mod loopback;
mod moves;
mod script;
mod server;
mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;

pub use loopback::{LoopbackConnection, LoopbackServer};

use crate::config::ConnectionConfig;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::event::{CloseReason, Event, Undelivered};
use crate::io::publisher::Publisher;
use crate::io::turn::Turn;
use crate::message::Message;
use crate::protocol::{Protocol, UpgradeRequest};
use crate::session::{Session, Startup};
use crate::shared::{EventQueue, Inbox, Intake, Status};
use crate::testing::server::Server;
use crate::testing::turn::Script;

type Fetch = Box<dyn Fn(UpgradeRequest) -> Result<UpgradeRequest, Error>>;

/// A request that the application has made.
struct Asked {
    answers: Receiver<Result<Message, Error>>,
    /// Whether its caller waits for a single answer and has received none yet.
    waits: bool,
}

/// A line whose server, network, clock and application are the test: see the [module](self).
pub struct Line {
    turn: Turn<Script>,
    queue: Arc<EventQueue>,
    /// Where messages arrive, if they do not come with the events.
    ring: Option<Arc<Inbox>>,
    events: VecDeque<Event>,
    /// How many more messages the application takes; `None` for all.
    takes: Option<usize>,
    asked: BTreeMap<u64, Asked>,
    start: Instant,
    /// The bits of the value that a random source returns.
    random: Arc<AtomicU64>,
    server: Server,
    /// The connection that the line is to move to, and the one that it has moved from.
    beside: Server,
    old: Server,
    answers_pings: bool,
    answers_close: bool,
    reason: Option<CloseReason>,
    left: Option<Undelivered>,
}

impl Line {
    /// The wall-clock time at which each test starts, as time since 1970: 2025-01-01 00:00 UTC.
    pub const BEGINS: Duration = Duration::from_secs(1_735_689_600);

    /// Creates a line as [`Client::start`](crate::Client::start) does, with the first attempt under way.
    ///
    /// # Errors
    /// The configuration is invalid, or the protocol's [`check`](Protocol::check) failed.
    ///
    /// ```
    /// use tautline::testing::Line;
    /// use tautline::{ConnectionConfig, JsonSession};
    ///
    /// let config = ConnectionConfig::new("ws://test.example").header("X-Key", "abc");
    /// let line = Line::new(config, JsonSession::new())?;
    /// assert_eq!(line.attempt().headers, [("X-Key".to_owned(), "abc".to_owned())]);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn new(
        config: impl Into<ConnectionConfig>,
        protocol: impl Protocol + 'static,
    ) -> Result<Self, Error> {
        Self::begin(&config.into(), Box::new(protocol), None)
    }

    /// Like [`new`](Self::new), with a [`fetch`](crate::Builder::fetch) that is called at once for each attempt.
    ///
    /// # Errors
    /// As with [`new`](Self::new).
    pub fn with_fetch(
        config: impl Into<ConnectionConfig>,
        protocol: impl Protocol + 'static,
        fetch: impl Fn(UpgradeRequest) -> Result<UpgradeRequest, Error> + 'static,
    ) -> Result<Self, Error> {
        Self::begin(&config.into(), Box::new(protocol), Some(Box::new(fetch)))
    }

    fn begin(
        config: &ConnectionConfig,
        mut protocol: Box<dyn Protocol>,
        fetch: Option<Fetch>,
    ) -> Result<Self, Error> {
        config.check()?;
        protocol.check()?;
        let mut config = config.clone();
        config.fit_queues();
        let now = Instant::now();
        let random = Arc::new(AtomicU64::new(0.5_f64.to_bits()));
        let source = Arc::clone(&random);
        let mode = Startup { one_attempt: false, fetches: fetch.is_some() };
        let wall = SystemTime::UNIX_EPOCH + Self::BEGINS;
        let session = Session::new(config.clone(), Some(protocol), mode, (now, wall))?
            .with_random(move || f64::from_bits(source.load(SeqCst)))?;
        let (queue, writer) = EventQueue::new();
        let (ring, ring_in) = config.realtime.map(Inbox::new).unzip();
        let publisher = Publisher::new(writer, config.events).with_inbox(ring_in);
        let intake = Arc::new(Intake::of(&config));
        let script = Script::new(now, fetch);
        let mut line = Self {
            turn: Turn::new(script, session, publisher, intake, Arc::new(Status::new(now))),
            queue,
            ring,
            events: VecDeque::new(),
            takes: None,
            asked: BTreeMap::new(),
            start: now,
            random,
            server: Server::default(),
            beside: Server::default(),
            old: Server::default(),
            answers_pings: true,
            answers_close: true,
            reason: None,
            left: None,
        };
        line.turn.session.start(now);
        line.settle();
        Ok(line)
    }
}

fn host(request: &UpgradeRequest) -> Box<str> {
    Endpoint::parse(&request.url).map_or_else(|_| "?".into(), |endpoint| endpoint.to_string().into())
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("state", &self.state())
            .field("elapsed", &self.elapsed())
            .field("attempt", &self.turn.host.attempt.as_ref().map(|(_, request)| request))
            .field("next_attempt", &self.next_attempt())
            .finish_non_exhaustive()
    }
}
