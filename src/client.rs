//! The handle that callers hold.
#![expect(
    clippy::disallowed_methods,
    reason = "turns the caller's timeouts into deadlines, on the caller's thread"
)]

mod builder;
mod delivery;
mod ending;
mod messages;
mod options;
mod reconnecting;
mod requests;
mod sending;
mod status;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TryRecvError};

pub use crate::client::builder::Builder;
pub use crate::client::ending::Ending;
pub use crate::client::messages::{Messages, TryMessages};
pub use crate::client::options::SendOptions;
pub(crate) use crate::client::options::offer;
pub use crate::client::requests::Answers;
pub use crate::client::status::LineStatus;
use crate::config::{ConnectionConfig, deadline};
use crate::error::{Error, SendError};
use crate::event::{Event, Ticket};
use crate::handshake::Handshake;
use crate::io::helm::Helm;
use crate::message::Message;
use crate::shared::Shared;
use crate::shared::{
    AdaptiveSpin, Between, Command, EventQueue, IN_CONVERSATION_NS, Inbox, Inner, Thread, ThreadHandle, spin,
};
use crate::state::ConnectionState;
use crate::stats::Stats;
use crate::system::fork::Process;

/// A WebSocket client: one line to one server, run by a thread of its own.
///
/// The *line* is the client's link to the server as the application sees it. It outlives the TCP connection under it:
/// when that connection is lost, the client reconnects and the line goes on.
///
/// A `Client` is a handle, and cheap to clone. All clones share the same line, and any thread may use any of them.
///
/// # Threads
/// A client has three threads at most: `tautline-io` for its whole life, `tautline-dial` while an attempt is made, and
/// `tautline-work` while its protocol has [work](crate::Context::work). One that is about to end may still be there when the next
/// of its kind begins. [`thread_name`](field@ConnectionConfig::thread_name) gives them another name. All clients of a process
/// share one more, `tautline-timer`.
///
/// On a plain line, a caller stands in for `tautline-io` while that sleeps, because to wake it costs more than to write: who sends
/// reads what has come and writes the message, and who waits in [`recv`](Self::recv) waits for the socket and reads what comes. A
/// line is plain over TCP without TLS, compression, a protocol, [`on_event_ready`](Builder::on_event_ready) and
/// [`counts_as_data`](Builder::counts_as_data), so that only the code of this library and of the program's logger runs on the
/// caller's thread. With [`realtime`](field@ConnectionConfig::realtime) callers never do. A client whose callers wait in `recv` has
/// three descriptors more.
///
/// The threads of a client take nothing over from the thread that starts it. On Unix they block all signals, so that a host
/// which collects signals on a thread of its own gets them. The signals of a fault, such as SIGSEGV, are open, so that a handler for
/// crashes is called. A program that a callback executes inherits that, unless the standard library executes it. On Linux a
/// thread has no real-time policy, and the processors of the first thread of the process. What a thread needs beyond that,
/// [`Builder::on_thread_start`] can do.
///
/// # Callbacks
/// Callbacks and protocol hooks run on the client's I/O thread. A blocking call made there, on this client or on any
/// other, fails with [`Error::WouldDeadlock`]. A handle that is dropped there starts the close and does not wait for
/// it.
///
/// # Ending
/// [`close`](Self::close), [`terminate`](Self::terminate), a drop, and a failed `connect` return once the I/O thread
/// has ended. From then on no callback runs, and all callbacks have been dropped. This holds for each caller when
/// several threads end the client at once.
///
/// [`shutdown`](Self::shutdown) does the same by a deadline of the caller's, and says whether any thread of the client still runs.
///
/// A callback, or a [`Stream`](crate::Stream) of the application's, that does not return makes these calls at most one
/// second longer than their bound. After that second the thread is left behind:
/// [`Undelivered::still_inside`](crate::Undelivered::still_inside) and the log name it, the client calls no other
/// application code but an [`on_thread_end`](Builder::on_thread_end), and the thread ends when that call has returned and what
/// the thread holds of the application's, such as the `Stream`, is dropped. Until then, [`recv`](Self::recv) and
/// [`wait_closed`](Self::wait_closed) keep blocking.
///
/// # Forks
/// A child process made by fork has none of its parent's threads. There, each call on a client of the parent's fails at once
/// with [`Error::Forked`], or with [`SendErrorKind::Forked`](crate::SendErrorKind::Forked), which holds the message. A call that
/// returns no error says what is true of it there: the state is CLOSED, counters are zero, [`events`](Self::events) has ended,
/// `close` and `terminate` return [`unfinished`](crate::Undelivered::unfinished) at once, and `shutdown` returns `Gone`, as no
/// thread of it runs there. A drop does nothing. The parent's client goes on.
///
/// A client that the child makes works there. The child must not use a receiver that the parent has cloned from `events`, nor
/// return from a callback in which it was forked. Until it ends or executes a program, it shares the parent's sockets: a server
/// may see a connection of the parent's end only then.
///
/// # Dropping
/// Dropping the last handle closes the line with a close frame, within `close_timeout`. It does not flush the outbox,
/// and it does not report what was undelivered. Call [`close`](Self::close) to have the accepted messages written first
/// and to get back what could not be delivered.
///
/// A drop blocks. Dropping many clients one after the other therefore takes up to `close_timeout` for each. Close them
/// in parallel, as below, or [`terminate`](Self::terminate) them first.
///
/// ```
/// # use std::time::Duration;
/// # use tautline::{Client, ConnectionConfig};
/// # let server = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let config = ConnectionConfig::new(format!("ws://{}", server.local_addr()?)).close_timeout(Duration::from_millis(50));
/// # let clients = vec![Client::start(config.clone())?, Client::start(config)?];
/// std::thread::scope(|scope| {
///     for client in &clients {
///         scope.spawn(|| client.close()); // all of them together take one `close_timeout`
///     }
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Example
/// ```no_run
/// use tautline::Client;
///
/// let client = Client::connect("wss://example.com/socket")?; // blocks until the line is ready, or says why not
/// client.send("hello")?;
/// for message in client.messages() {                         // blocks; lives through reconnects; ends when closed
///     println!("{message}");
/// }
/// client.wait_closed().into_result()
/// # ?; Ok::<(), tautline::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    line: Arc<LineHandle>,
}

/// What all clones share. Dropping it ends the line.
struct LineHandle {
    shared: Shared,
    helm: Arc<Helm>,
    commands: Sender<Command>,
    events: Arc<EventQueue>,
    /// Where messages are taken from, if not from `events`: with `realtime`.
    inbox: Option<Arc<Inbox>>,
    /// The heartbeat's timeout: how long both sides may go without taking a message.
    patience: Duration,
    /// Whether messages can be confirmed.
    confirms: bool,
    /// Whether there is a protocol that can pair answers with requests.
    answers: bool,
    /// How long a caller spins for an answer before it sleeps, in ns, and whether spinning pays.
    look: u64,
    looks: AdaptiveSpin,
    began: Instant,
    /// When a caller last took something after a wait, in ns since the client began.
    taken_at: AtomicU64,
    /// How long an accepted message may wait.
    max_age: Option<Duration>,
    close_timeout: Duration,
    thread: Arc<ThreadHandle>,
    process: Process,
}

impl Client {
    /// Makes one attempt to connect, at each server if there are [several](field@ConnectionConfig::servers), and returns a
    /// client whose line is ready. Later losses are followed by reconnects. To wait for a server that isn't up yet, use [`start`](Self::start).
    ///
    /// Blocks until the line is ready or the attempt has failed. The bounds are:
    /// * `connect_timeout` (10 s) for the attempt;
    /// * with a protocol, also `login_timeout` (10 s), and `close_timeout` (3 s) if the protocol closes the connection
    ///   itself;
    /// * with several servers, that time for each, and 100 ms between two of them;
    /// * with a `fetch` or a protocol, the time of one more attempt, because refused credentials can be followed by one with
    ///   fresh ones;
    /// * one more second if the machine is too busy, and two if a callback does not return.
    ///
    /// # Errors
    /// * The reason the attempt failed; [`Error::AllServersFailed`] if several servers did. No thread is left behind, except one inside a call that can't be interrupted;
    ///   the log names it.
    /// * [`Error::Timeout`]: a callback did not return within the bound and one more second. It is left behind after another one.
    /// * [`Error::InvalidUrl`] or [`Error::InvalidConfig`]: the URL or a setting is invalid.
    ///
    /// ```
    /// use tautline::{Client, Error};
    ///
    /// let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    /// let error = Client::connect(format!("ws://{nobody}")).unwrap_err();
    /// assert!(matches!(error, Error::Connect { .. }), "{error}");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn connect(config: impl Into<ConnectionConfig>) -> Result<Self, Error> {
        Self::builder(config).connect()
    }

    /// Starts a client and returns at once. The client connects in the background, and retries for as long as it takes.
    ///
    /// Messages sent before the line is ready wait in the outbox.
    ///
    /// # Errors
    /// The URL or a setting is invalid, or the operating system refused a thread or a file descriptor.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use tautline::Client;
    ///
    /// let client = Client::start("ws://127.0.0.1:8080")?;
    /// client.wait_ready(Duration::from_secs(5))?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn start(config: impl Into<ConnectionConfig>) -> Result<Self, Error> {
        Self::builder(config).start()
    }

    /// Returns a builder, which adds behaviour to the configuration: a protocol, callbacks, a resolver.
    pub fn builder(config: impl Into<ConnectionConfig>) -> Builder {
        Builder::new(config.into())
    }

    /// Returns the current state of the line. Waits for nobody, not even for a lock.
    ///
    /// ```
    #[doc = include_str!("client/echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # use tautline::ConnectionState;
    /// assert_eq!(client.state(), ConnectionState::Connected);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn state(&self) -> ConnectionState {
        if !self.line.is_here() {
            return ConnectionState::Closed;
        }
        self.line.shared.status.state()
    }

    /// Returns what the server of the line's connection agreed to: its address or its proxy, the subprotocol, the headers of
    /// its answer, and how long the attempt took. `None` while the line has no connection. After a move it is that of the new
    /// connection.
    ///
    /// A connection whose login is pending has one, too. [`Event::Connected`] carries the same handshake.
    ///
    /// ```
    #[doc = include_str!("client/echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// let handshake = client.handshake().expect("the line is up");
    /// println!("connected to {:?} in {:?}", handshake.address, handshake.timings.total);
    /// assert_eq!(handshake.headers.get("upgrade"), Some("websocket"));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn handshake(&self) -> Option<Arc<Handshake>> {
        self.line.here().ok()?;
        self.line.shared.status.read(|status| status.handshake.clone())
    }

    /// Returns the subprotocol that the server of the line's connection chose. `None` if it chose none, and while the line
    /// has no connection.
    ///
    /// ```
    #[doc = include_str!("client/echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// assert_eq!(client.subprotocol(), None);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn subprotocol(&self) -> Option<String> {
        self.handshake()?.subprotocol.as_deref().map(Into::into)
    }

    /// Returns the client's counters. Waits for nobody, not even for a lock. So the counters are not all of one moment: each is
    /// as it was when this call looked at it, which may be a little ahead of [`state`](Self::state) and
    /// [`handshake`](Self::handshake).
    ///
    /// ```
    #[doc = include_str!("client/echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// assert_eq!(client.stats().connects, 1);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn stats(&self) -> Stats {
        if !self.line.is_here() {
            return Stats::default();
        }
        let mut stats = self.line.shared.status.counters.load();
        // The I/O thread may count the newest messages much later.
        self.line.complete(&mut stats);
        stats
    }

    /// Blocks until the line is ready, the client is closed, or `timeout` has passed.
    ///
    /// # Errors
    /// [`Error::Timeout`], whose source says why the line is down, if it is down. If the client is closed, the reason
    /// for that.
    ///
    /// ```
    #[doc = include_str!("client/echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # use std::time::Duration;
    /// client.wait_ready(Duration::from_secs(5))?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), Error> {
        self.line.may_block()?;
        let outcome = self.line.wait(Some(timeout), |status| match &status.closed {
            Some((reason, _)) => Some(Err(reason.clone().into_error())),
            None => status.ready.then_some(Ok(())),
        });
        outcome.unwrap_or_else(|| Err(self.line.timeout("the line to be ready", timeout)))
    }

    fn accepted(&self, ticket: Ticket) -> Ticket {
        self.line.helm.message_waits();
        ticket
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl LineHandle {
    /// Whether this is the process that made the client. In a child made by fork, another thread of the parent may have held
    /// any lock of this client, and nobody releases it there.
    fn is_here(&self) -> bool {
        self.process.is_current()
    }

    fn here(&self) -> Result<(), Error> {
        if self.is_here() { Ok(()) } else { Err(Error::Forked) }
    }

    fn may_block(&self) -> Result<(), Error> {
        self.here()?;
        not_on_io_thread()
    }

    /// Handles an event that was taken. Returns it if it is a message.
    #[inline]
    fn taken(&self, event: Event) -> Option<Message> {
        self.took(|| self.events.is_empty());
        event.into_message()
    }

    /// Something was taken. A reader that is paused goes on once nothing is left.
    fn took(&self, is_empty: impl FnOnce() -> bool) {
        // In this order: whether a queue is empty is costly to read, as another processor writes it.
        if self.shared.gate.is_stalled() && is_empty() {
            self.shared.gate.drained();
        }
    }

    /// Takes the next item by `try_take`, and calls `receive`, which blocks, only if there is none. A caller that has
    /// just taken something and waits again first spins for a moment: the answer to what it has sent since is on its
    /// way, and to sleep and be woken costs more. It spins no longer than `patience`, after which `receive` would end.
    fn take<T, E>(
        &self,
        try_take: impl Fn() -> Result<T, TryRecvError>,
        patience: Duration,
        receive: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        if let Ok(there) = try_take() {
            return Ok(there);
        }
        let taken = match self.look(try_take, patience) {
            Some(there) => Ok(there),
            None => receive(),
        };
        if taken.is_ok() {
            self.taken_at.store(self.now(), Ordering::Relaxed);
        }
        taken
    }

    /// Waits for the socket in place of the I/O thread, where that is possible, until there is an event or until `until`.
    fn attend(&self, until: Option<Instant>) {
        if !self.helm.is_for_callers() {
            return;
        }
        let look = Duration::from_nanos(self.look);
        let spins = self.is_busy() && !look.is_zero() && self.looks.wants();
        let spins = spins.then_some((look, &self.looks));
        if self.helm.attend(until, spins, || !self.events.is_empty()) {
            self.taken_at.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Whether this client has taken something just now: the answer to what was sent since may be on its way.
    fn is_busy(&self) -> bool {
        self.now().saturating_sub(self.taken_at.load(Ordering::Relaxed)) < IN_CONVERSATION_NS
    }

    fn look<T>(&self, try_take: impl Fn() -> Result<T, TryRecvError>, patience: Duration) -> Option<T> {
        let start = self.now();
        let look = self.look.min(u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
        if !self.is_busy() || look == 0 || !self.looks.wants() {
            return None;
        }
        // The thread that brings the item may share this processor.
        let found = spin(
            Between::Yield,
            || match try_take() {
                Ok(there) => Some(Some(there)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(None),
            },
            || self.now() < start + look,
        );
        let found = found.flatten();
        self.looks.note(found.is_some());
        found
    }

    /// The time since the client began, in ns.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Adds what stands in the outbox, which a closed client has no more: what was left was returned.
    fn complete(&self, stats: &mut Stats) {
        self.shared.intake.complete(stats);
        if self.shared.status.state() == ConnectionState::Closed {
            (stats.messages_queued, stats.bytes_queued) = (0, 0);
        }
    }

    fn command(&self, command: Command) {
        if !self.is_here() {
            return;
        }
        // An I/O thread that is gone has nothing left to do.
        let _ = self.commands.send(command);
        self.shared.gate.urgent();
    }

    fn wait<R>(&self, timeout: Option<Duration>, look: impl FnMut(&Inner) -> Option<R>) -> Option<R> {
        let until = timeout.map(|timeout| deadline(Instant::now(), timeout));
        self.shared.status.wait(until, remaining, look)
    }

    /// Waits until `look` finds a result in the watermarks.
    fn watch<R>(&self, timeout: Duration, look: impl FnMut(&Inner) -> Option<R>) -> Option<R> {
        self.shared.status.watch(Some(deadline(Instant::now(), timeout)), remaining, look)
    }

    /// When a message that is accepted now becomes too old.
    fn expires(&self) -> Option<Instant> {
        self.max_age.map(|age| deadline(Instant::now(), age))
    }

    fn closed(&self) -> Error {
        Error::Closed { reason: self.shared.status.close_reason().cloned() }
    }

    /// Says why the client is closed, if that is why a message was not accepted.
    fn explained(&self, error: SendError) -> SendError {
        error.explained(|| Arc::clone(self.shared.status.refusal()))
    }

    fn timeout(&self, waiting_for: &'static str, after: Duration) -> Error {
        let last_failure = self.shared.status.read(|status| status.last_failure.clone());
        Error::Timeout { waiting_for, after, source: last_failure.map(Arc::new) }
    }
}

fn not_on_io_thread() -> Result<(), Error> {
    if Thread::current() == Some(Thread::Io) { Err(Error::WouldDeadlock) } else { Ok(()) }
}

fn remaining(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
