//! From a configuration to a running client.

use std::env;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, LineHandle};
use crate::config::proxy::Ways;
use crate::config::{Beat, Confirmation, ConnectionConfig, TlsConfig};
use crate::dial::Reserve;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::io::thread::{IoThread, Notify, Setup};
use crate::logging::LOG;
use crate::message::Message;
use crate::protocol::{Protocol, UpgradeRequest};
use crate::session::DataFilter;
use crate::session::reconnect::BETWEEN_SERVERS;
use crate::shared::Shared;
use crate::shared::{
    AdaptiveSpin, CALLERS_FACTOR, Calls, EventQueue, Gate, Inbox, Intake, LATE, Status, Thread, ThreadHooks,
};
use crate::system::fork::Process;
use crate::timer::Timer;
use crate::transport::reach::Destination;
use crate::transport::stream::Stream;
use crate::transport::tls::{self, Connector};
use crate::transport::wire::Poller;
use crate::transport::{Fetch, Resolver, Settings, Supply};

/// Builds a client from a [`ConnectionConfig`] and from behaviour: a protocol, callbacks, a resolver.
///
/// ```no_run
/// use tautline::Client;
///
/// let client = Client::builder("ws://127.0.0.1:8080").on_event_ready(|| println!("something happened")).start()?;
/// # drop(client);
/// # Ok::<(), tautline::Error>(())
/// ```
#[must_use = "a builder does nothing until `connect` or `start`"]
pub struct Builder {
    config: ConnectionConfig,
    notify: Option<Notify>,
    resolver: Option<Resolver>,
    supply: Option<Supply>,
    fetch: Option<Fetch>,
    protocol: Option<Box<dyn Protocol>>,
    data: Option<DataFilter>,
    thread_hooks: ThreadHooks,
}

impl Builder {
    pub(super) fn new(config: ConnectionConfig) -> Self {
        Self {
            config,
            notify: None,
            resolver: None,
            supply: None,
            fetch: None,
            protocol: None,
            data: None,
            thread_hooks: ThreadHooks::default(),
        }
    }

    /// Calls `callback` on the I/O thread after events were queued, once for any number of them.
    ///
    /// Use it to wake an event loop. The loop must then take everything that is there, with
    /// [`try_messages`](Client::try_messages) or from [`events`](Client::events): what it leaves in the queue causes no
    /// further call.
    ///
    /// The callback must not block. If it panics, the client is closed.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # use tautline::Client;
    /// let (wake, woken) = crossbeam_channel::bounded(1);
    /// let client = Client::builder(url).on_event_ready(move || _ = wake.try_send(())).connect()?;
    /// client.send("hello")?;
    /// let mut messages = Vec::new();
    /// while messages.is_empty() {
    ///     woken.recv().expect("the client is open");
    ///     messages.extend(client.try_messages());
    /// }
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn on_event_ready(mut self, callback: impl Fn() + Send + 'static) -> Self {
        self.notify = Some(Box::new(callback));
        self
    }

    /// Resolves host names with `resolver` instead of the system's resolver.
    ///
    /// The resolver gets the host and the port, with a [`Proxy`](crate::Proxy) those of the proxy as well. It runs on the
    /// dial thread and may block; an attempt that ends meanwhile abandons it. The client races the addresses in the order
    /// returned, with the two families taking turns: see [`NetworkConfig`](crate::NetworkConfig).
    ///
    /// ```no_run
    /// # use tautline::Client;
    /// let client = Client::builder("ws://gateway.local:5000")
    ///     .resolver(|_host, port| Ok(vec![([127, 0, 0, 1], port).into()]))
    ///     .connect()?;
    /// # drop(client);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn resolver(
        mut self,
        resolver: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.resolver = Some(Box::new(resolver));
        self
    }

    /// Opens the stream of each attempt with `connector` instead of TCP: an SSH tunnel, a proxy with a login of its own
    /// kind, a serial line, or a socket that is set up in a special way. What follows is as with TCP: the proxy of the
    /// configuration, TLS for `wss://`, and the upgrade.
    ///
    /// The connector gets the host and the port of the URL or, with a [`proxy`](field@ConnectionConfig::proxy), of the
    /// proxy. It looks up the name itself. It runs on the dial thread and may block until the deadline; an attempt that ends
    /// meanwhile abandons the call, and no other attempt is made while the call still runs. An error is that of the attempt:
    /// [`Error::Connect`], which says that the connector failed, and has the error among its causes. If it panics, the attempt has failed. The settings of the
    /// [`network`](field@ConnectionConfig::network) and the [`resolver`](Self::resolver) do not apply. A URL with the scheme
    /// `ws+unix` needs no connector, and does not call it. The [`Stream`] must not block: `Stream::new` says on which threads
    /// it is called.
    ///
    /// ```no_run
    /// # use std::net::TcpStream;
    /// # use tautline::{Client, Stream};
    /// let client = Client::builder("wss://gateway.internal:5000")
    ///     .connector(|to| {
    ///         println!("connecting to {} port {}", to.host, to.port);
    ///         TcpStream::connect((to.host, to.port)).map(Stream::from)
    ///     })
    ///     .connect()?;
    /// # drop(client);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn connector(
        mut self,
        connector: impl Fn(&Destination<'_>) -> io::Result<Stream> + Send + Sync + 'static,
    ) -> Self {
        self.supply = Some(Box::new(connector));
        self
    }

    /// Runs `protocol` on every connection. By default there is none: the line is ready as soon as the WebSocket is
    /// open, and every message is delivered.
    pub fn protocol(mut self, protocol: impl Protocol + 'static) -> Self {
        self.protocol = Some(Box::new(protocol));
        self
    }

    /// Sets which messages restart [`idle_timeout`](ConnectionConfig::idle_timeout): those for which `counts` returns
    /// `true`. By default every message does, except answers to heartbeats, which never do.
    ///
    /// Use it for a server that keeps sending something when its feed is dead, such as heartbeats of its own. The closure
    /// gets each message as it arrived, before a protocol sees it, once the line is ready. It runs on the I/O thread and
    /// must not block. If it panics, the client is closed.
    ///
    /// Without an `idle_timeout`, `connect` and `start` return an error.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use tautline::{Client, ConnectionConfig};
    /// let config = ConnectionConfig::new("wss://feed.example").idle_timeout(Duration::from_secs(60));
    /// let client = Client::builder(config)
    ///     .counts_as_data(|message| !message.as_text().is_some_and(|text| text.contains("\"heartbeat\"")))
    ///     .connect()?;
    /// # drop(client);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn counts_as_data(mut self, counts: impl Fn(&Message) -> bool + Send + 'static) -> Self {
        self.data = Some(Box::new(counts));
        self
    }

    /// Completes the upgrade request of each attempt with something that takes a blocking call, such as a token or a
    /// one-use URL from an HTTP request.
    ///
    /// The closure gets the request as the configuration and the protocol have prepared it. It runs on the dial thread,
    /// and its time counts against `connect_timeout`. An attempt that ends meanwhile abandons the call; no other
    /// attempt is made while the call still runs, so give it a timeout of its own. If it returns an error or panics,
    /// the attempt has failed.
    ///
    /// With a `fetch`, refused credentials (HTTP 401 or 403, or a refused login) are followed at once by one more
    /// attempt with fresh ones. A protocol can do the same without one: see
    /// [`Loss::wants_credentials`](crate::Loss::wants_credentials).
    ///
    /// ```no_run
    /// # use tautline::Client;
    /// # fn ask_for_token() -> std::io::Result<String> { Ok(String::new()) }
    /// let client = Client::builder("wss://example.com/socket")
    ///     .fetch(|mut request| {
    ///         let token = ask_for_token().map_err(|error| tautline::Error::session(error.to_string()))?;
    ///         request.set_header("Authorization", format!("Bearer {token}"));
    ///         Ok(request)
    ///     })
    ///     .connect()?;
    /// # drop(client);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn fetch(
        mut self,
        fetch: impl Fn(UpgradeRequest) -> Result<UpgradeRequest, Error> + Send + Sync + 'static,
    ) -> Self {
        self.fetch = Some(Box::new(fetch));
        self
    }

    /// Calls `hook` first on each thread of the client, with the thread's name: to register the thread with a profiler, COM or
    /// a Java machine, or to set its priority. The threads are those of [`Client`](Client#threads) but `tautline-timer`,
    /// which runs no code of the application.
    ///
    /// The hook is called on each attempt's thread, too, so it should return soon. Until it does, its thread does nothing, and
    /// an end treats it like a callback. If it panics on `tautline-io`, the client is closed with [`Error::Panicked`]; on
    /// `tautline-dial` the attempt has failed with that error; on `tautline-work` it is the result of the work.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # use tautline::Client;
    /// let client = Client::builder(url)
    ///     .on_thread_start(|thread| println!("{thread} begins"))
    ///     .on_thread_end(|thread| println!("{thread} ends"))
    ///     .connect()?;
    /// # drop(client);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn on_thread_start(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.thread_hooks.start = Some(Box::new(hook));
        self
    }

    /// Calls `hook` last on each thread of the client, with the thread's name: when the callbacks and the protocol that the
    /// thread held have been dropped. An end waits for it like for a callback. When no thread is left running, no hook runs any
    /// more, and both have been dropped.
    ///
    /// It is called where [`on_thread_start`](Self::on_thread_start) has returned, also on a thread that an end left behind,
    /// because it undoes what that one did. Without an `on_thread_start` it is called on every thread. If it panics, the log
    /// says so.
    pub fn on_thread_end(mut self, hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.thread_hooks.end = Some(Box::new(hook));
        self
    }

    /// Connects: see [`Client::connect`].
    pub fn connect(self) -> Result<Client, Error> {
        if Thread::current() == Some(Thread::Io) {
            return Err(Error::WouldDeadlock);
        }
        let bound = self.patience();
        let client = self.launch(true)?;
        let outcome = client.line.wait(Some(bound), |status| match &status.closed {
            // The line was ready, and the server has closed it already. What the server sent can still be received.
            _ if client.line.shared.status.counters.connects() > 0 => Some(Ok(())),
            Some((reason, _)) => Some(Err(reason.clone().into_error())),
            None => None,
        });
        let error = match outcome {
            Some(Ok(())) => return Ok(client),
            Some(Err(error)) => error,
            None => client.line.timeout("the line to be ready", bound),
        };
        let _ = client.terminate();
        Err(error)
    }

    /// How long `connect` takes at most. Only a callback that does not return makes it longer.
    fn patience(&self) -> Duration {
        let config = &self.config;
        let login = config.login_timeout.saturating_add(config.close_timeout);
        let login = if self.protocol.is_some() { login } else { Duration::ZERO };
        let attempt = config.connect_timeout.saturating_add(login);
        // Each server has its attempt, and fresh credentials allow one more.
        let others = config.servers.as_ref().map_or(0, Vec::len);
        let attempts = 1 + others + usize::from(self.fetch.is_some() || self.protocol.is_some());
        let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
        let between = BETWEEN_SERVERS.saturating_mul(attempts - 1);
        attempt.saturating_mul(attempts).saturating_add(between).saturating_add(LATE)
    }

    /// Starts: see [`Client::start`].
    pub fn start(self) -> Result<Client, Error> {
        self.launch(false)
    }

    fn launch(self, one_attempt: bool) -> Result<Client, Error> {
        let Self { mut config, notify, resolver, supply, fetch, mut protocol, data, thread_hooks } = self;
        let servers = config.check()?;
        servers.iter().try_for_each(tls::require)?;
        let tls = tls::check(&config.tls)?;
        let proxy_tls = match &config.proxy {
            Some(proxy) => proxy.check_tls(tls::check)?,
            None => Connector::default(),
        };
        if data.is_some() && config.idle_timeout.is_none() {
            let reason = "it is not set, but counts_as_data says which messages restart it; set it, or leave counts_as_data out";
            return Err(Error::InvalidConfig { setting: "idle_timeout", reason: reason.into() });
        }
        if protocol.is_none() && fetch.is_none() {
            // Nobody else can make the request a valid one.
            UpgradeRequest::new(&config).check()?;
        }
        match &mut protocol {
            Some(protocol) => protocol.check()?,
            None if config.heartbeat.beat == Beat::Protocol => {
                let reason = "it is Protocol, but the client has no protocol to send the heartbeats; use WebSocketPing, Json or Off";
                return Err(Error::InvalidConfig { setting: "heartbeat.beat", reason: reason.into() });
            }
            None if config.confirmation == Confirmation::Acknowledgement => {
                let reason = "it is Acknowledgement, but the client has no protocol that acknowledges messages; use Pong, or give the builder a protocol";
                return Err(Error::InvalidConfig { setting: "confirmation", reason: reason.into() });
            }
            None => {}
        }
        config.fit_queues();
        warn_of_danger("the server", &config.tls);
        if let Some(proxy) = &config.proxy {
            warn_of_danger("the proxy", proxy.tls_config());
        }
        let ways = ways(&config, &servers)?;
        if has_one_processor() {
            // On a single processor, spinning keeps the I/O thread from running.
            config.spin = Duration::ZERO;
        }
        let refused = |what| move |source| Error::System { what, source: Arc::new(source) };
        let poller = Poller::new().map_err(refused("a descriptor to wait on"))?;
        let waker = poller.waker().map_err(refused("a descriptor to be woken by"))?;
        let reserve = Reserve::new().map_err(refused("the descriptors of an attempt"))?;
        let timer = Timer::shared(config.thread_stack).map_err(refused("a timer thread"))?;
        let shared = Shared {
            gate: Arc::new(Gate::new(waker)),
            intake: Arc::new(Intake::of(&config)),
            status: Arc::new(Status::new(Instant::now())),
            calls: Arc::new(Calls::new(&config.thread_name, thread_hooks)),
        };
        let (commands_in, commands) = crossbeam_channel::unbounded();
        let (events, events_in) = EventQueue::new();
        let (inbox, inbox_in) = config.realtime.map(Inbox::new).unzip();
        let stack = config.thread_stack;
        let answers = protocol.is_some();
        let (max_age, close_timeout) = (config.max_age, config.close_timeout);
        let look = u64::try_from(config.spin.as_nanos()).unwrap_or(u64::MAX).saturating_mul(CALLERS_FACTOR);
        let patience = config.heartbeat.timeout;
        let confirms = config.confirms();
        let supply = supply.map(|supply| watched(supply, &shared));
        let settings = Settings { ways, fetch, resolver, supply, tls, proxy_tls, ..Settings::new(config) };
        let worker = IoThread::new(Setup {
            settings,
            protocol,
            one_attempt,
            notify,
            data,
            poller,
            reserve,
            timer,
            shared: shared.clone(),
            commands,
            events: events_in,
            inbox: inbox_in,
        })?;
        let (helm, of_worker) = (worker.helm(), shared.clone());
        let run = move |begun| worker.run(&of_worker, &begun);
        let thread = shared.calls.spawn(Thread::Io, stack, run);
        let thread = thread.map_err(refused("an I/O thread"))?;
        let line = LineHandle {
            shared,
            helm,
            commands: commands_in,
            events,
            inbox,
            patience,
            confirms,
            answers,
            look,
            looks: AdaptiveSpin::default(),
            began: Instant::now(),
            taken_at: AtomicU64::new(0),
            max_age,
            close_timeout,
            thread,
            process: Process::current(),
        };
        Ok(Client { line: Arc::new(line) })
    }
}

/// Has the calls of a connector's streams watched.
fn watched(supply: Supply, shared: &Shared) -> Supply {
    let calls = Arc::clone(&shared.calls);
    Box::new(move |to| supply(to).map(|stream| stream.watched(calls.clone())))
}

/// Reads the environment, if the proxy is what it says. The log says what the proxy means for these servers.
fn ways(config: &ConnectionConfig, servers: &[Endpoint]) -> Result<Ways, Error> {
    let Some(proxy) = &config.proxy else { return Ok(Ways::default()) };
    let ways = proxy.ways(&|name| env::var_os(name))?;
    for server in servers {
        ways.to(server).map_or(Ok(()), |via| via.check_target(server))?;
    }
    for said in ways.said(servers) {
        log::info!(target: LOG, "{said}");
    }
    for doubt in ways.doubts() {
        log::warn!(target: LOG, "{doubt}");
    }
    Ok(ways)
}

/// Says in the log that this peer may be anybody, if the settings of TLS say so.
fn warn_of_danger(peer: &str, tls: &TlsConfig) {
    if tls.danger_accept_invalid_certs && tls.pins.is_empty() {
        log::warn!(target: LOG, "TLS accepts any certificate (danger_accept_invalid_certs): whoever is on the way to {peer} can read and change everything");
    }
}

/// Asks the system only once: the answer may take it some file reads.
fn has_one_processor() -> bool {
    static PROCESSORS: AtomicUsize = AtomicUsize::new(0);
    // No lock: another thread may hold it during a fork.
    if PROCESSORS.load(Ordering::Relaxed) == 0 {
        PROCESSORS.store(thread::available_parallelism().map_or(2, Into::into), Ordering::Relaxed);
    }
    PROCESSORS.load(Ordering::Relaxed) == 1
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::JsonSession;

    #[test]
    fn connect_has_time_for_one_more_attempt_where_there_may_be_fresh_credentials() {
        let config = || ConnectionConfig::new("ws://h").login_timeout(Duration::from_nanos(1));
        let once = Client::builder(config()).patience();
        let fetching = Client::builder(config()).fetch(Ok).patience();
        let with_protocol = Client::builder(config()).protocol(JsonSession::new()).patience();
        let (attempt, login) = (config().connect_timeout, config().close_timeout);
        assert_eq!(once, attempt + LATE, "nothing is closed without a protocol");
        assert!(fetching >= once + attempt, "{fetching:?}");
        assert!(with_protocol >= once + attempt + 2 * login, "{with_protocol:?}");
    }
}
