//! Settings: plain data, with defaults and chained setters.

mod certificates;
mod choices;
mod heartbeat;
mod network;
pub(crate) mod proxy;
mod reconnect;
mod servers;
mod setters;
pub(crate) mod tls;
mod upgrade;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::compression::Compression;
#[cfg(any(feature = "native-tls", feature = "rustls"))]
pub(crate) use crate::config::certificates::Parts;
pub use crate::config::certificates::{Certificate, Identity};
pub use crate::config::choices::{
    AddressFamily, Beat, Confirmation, Delivery, Inbound, Jitter, QueueLimit, ServerOrder, WhileDown,
};
pub use crate::config::heartbeat::HeartbeatConfig;
pub use crate::config::network::NetworkConfig;
pub(crate) use crate::config::network::SHORTEST_ATTEMPT_DELAY;
pub use crate::config::proxy::Proxy;
pub use crate::config::reconnect::ReconnectConfig;
pub(crate) use crate::config::servers::checked_servers;
use crate::config::setters::setters;
pub use crate::config::tls::{Pin, TlsBackend, TlsConfig, TlsVersion};
pub(crate) use crate::config::upgrade::{check_headers, check_subprotocols, is_token};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::secrets::{shown_name, shown_subprotocols};

/// Where to connect and how to behave. A configuration is plain data; [`Client::connect`](crate::Client::connect) and
/// [`Client::start`](crate::Client::start) check it.
///
/// ```
/// use std::time::Duration;
/// use tautline::{ConnectionConfig, HeartbeatConfig, ReconnectConfig};
///
/// let config = ConnectionConfig::new("wss://gateway.example:5000")
///     .header("Authorization", "Bearer …")
///     .connect_timeout(Duration::from_secs(5))
///     .reconnect(ReconnectConfig::default().max_delay(Duration::from_secs(60)))
///     .heartbeat(HeartbeatConfig::json().interval(Duration::from_secs(20)));
/// assert!(!format!("{config:?}").contains("Bearer"));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectionConfig {
    /// The URL, with the scheme `ws://` or `wss://`. A percent-encoded user and password are sent as HTTP Basic
    /// credentials; the user must not contain a colon. Write the zone of an IPv6 address behind `%25`:
    /// `ws://[fe80::1%25eth0]`. A host name outside ASCII is converted to punycode; everything else outside ASCII must be
    /// percent-encoded.
    ///
    /// On Unix, `ws+unix:/run/app.sock:/feed` connects to a Unix socket: the absolute path of the socket, a colon, and the
    /// resource. Write a colon in the path as `%3A`. The server is told the host `localhost`. `wss+unix` does the same with
    /// TLS, and checks a certificate for that name. Neither a [`proxy`](field@Self::proxy) nor the
    /// [`network`](field@Self::network) concerns a Unix socket.
    pub url: String,
    /// Further servers. [`url`](field@Self::url) is the first of the list. A URL that is there twice counts once, and the
    /// list has at most 1,024 of them. Default `None`: one server.
    ///
    /// After a loss or a failed attempt, the next server of the list follows after 100 ms. When each has been tried, a
    /// round is over: it costs one delay of the backoff, and counts as one attempt of
    /// [`max_attempts`](ReconnectConfig::max_attempts). A line that was ready for
    /// [`stable_after`](field@Self::stable_after) begins a new round when it is lost. A `Retry-After` holds for the server
    /// that sent it. A server that refuses for good (by a status or a refused login, see [`Retry`](crate::Retry)) is left
    /// out for `max_delay`, and with all of them left out the rules are those of one server. A protocol can change the
    /// list by [`Context::set_servers`](crate::Context::set_servers).
    pub servers: Option<Vec<String>>,
    /// In which order the servers are tried. Default [`ServerOrder::InTurn`].
    pub server_order: ServerOrder,
    /// Headers to send with the upgrade, in order. A `Host` or `Authorization` here replaces the client's own.
    pub headers: Vec<(String, String)>,
    /// Subprotocols to offer, in order of preference. The server may choose one or none. `Debug` hides tokens.
    pub subprotocols: Vec<String>,
    /// Whether the server must choose one of the offered subprotocols. If it chooses none, the attempt fails with
    /// [`Error::Upgrade`], also that of a move, and the rules of [`Retry`](crate::Retry) apply: the client retries with
    /// backoff. At least one must be offered: here, by the protocol's [`prepare`](crate::Protocol::prepare), or by a
    /// [`fetch`](crate::Builder::fetch). Default `false`: the server may choose none. A choice that was not offered
    /// fails the attempt in any case.
    ///
    /// ```no_run
    /// use tautline::{Client, ConnectionConfig};
    ///
    /// let config = ConnectionConfig::new("wss://example.com/mqtt").subprotocol("mqtt").require_subprotocol(true);
    /// let client = Client::connect(config)?;
    /// assert_eq!(client.subprotocol().as_deref(), Some("mqtt"));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub require_subprotocol: bool,
    /// How many redirects an attempt follows: answers 301, 302, 303, 307 and 308 with a `Location`. The time of the attempt
    /// is not prolonged. An address may be relative, and `http` and `https` mean `ws` and `wss`. A redirect from `wss` to
    /// `ws` or to a Unix socket is never followed. What can't be followed is a refusal, whose text says why. The next attempt
    /// begins at the configured URL again. At most 20, as in browsers. Default 0: none is followed.
    ///
    /// A redirect to another origin (scheme, host or port) takes no credentials along: no user and password of the URL, no
    /// `Host`, no header but harmless ones such as `User-Agent`, no subprotocol that holds a token, and no
    /// [`identity`](field@TlsConfig::identity) of TLS. What is a secret is said at [`Error`](crate::Error). From port 80 of a
    /// host to TLS on its port 443 the origin counts as the same.
    /// If no subprotocol is left and [`require_subprotocol`](field@Self::require_subprotocol) is set, the redirect is not
    /// followed. A user and password in the address itself are used there. The other settings of [`tls`](field@Self::tls) hold
    /// for every server on the way: each is checked for the configured name and pins, and a connector of your own shows what
    /// it has.
    ///
    /// ```no_run
    /// use tautline::{Client, ConnectionConfig};
    ///
    /// let client = Client::connect(ConnectionConfig::new("wss://example.com/socket").redirects(3))?;
    /// # drop(client);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub redirects: u32,
    /// Whether to offer compression of messages, and how to compress. Default `None`: no extension is offered.
    pub compression: Option<Compression>,
    /// The settings of TLS for `wss://`: other roots, a client certificate, a fingerprint. Default: the system's roots.
    pub tls: TlsConfig,
    /// Which addresses of a host are tried, from where, and how the sockets are set. It concerns neither a Unix socket nor the
    /// stream of a [`connector`](crate::Builder::connector).
    pub network: NetworkConfig,
    /// The proxy to go through: one that the program names, or what the environment says. Default `None`: straight to the
    /// server, whatever the environment says. A server on a Unix socket (`ws+unix:`) is on this machine, and is reached
    /// without the proxy, also by a client whose other servers are reached through it. With a
    /// [`connector`](crate::Builder::connector), that one opens the stream to the proxy.
    ///
    /// ```
    /// use tautline::{ConnectionConfig, Proxy};
    ///
    /// let named = ConnectionConfig::new("wss://gateway.example").proxy(Proxy::new("http://proxy.corp.example:3128"));
    /// let usual = ConnectionConfig::new("wss://gateway.example").proxy(Proxy::from_env());
    /// # let _ = (named, usual);
    /// ```
    pub proxy: Option<Proxy>,
    /// How to reconnect.
    pub reconnect: ReconnectConfig,
    /// How to notice a dead peer.
    pub heartbeat: HeartbeatConfig,
    /// The time limit for one attempt: DNS lookup, TCP, proxy, TLS and upgrade together. Default 10 s.
    pub connect_timeout: Duration,
    /// The time limit for a protocol's login, counted from when the WebSocket is open. Default 10 s.
    pub login_timeout: Duration,
    /// The time limit for [`close`](crate::Client::close): flush and close handshake together. Default 3 s.
    pub close_timeout: Duration,
    /// How long the operating system may accept no byte of the pending output before the connection is given up.
    /// Default 30 s.
    pub write_timeout: Duration,
    /// How long a ready line may bring no message before the connection is given up with
    /// [`Error::IdleTimeout`](crate::Error::IdleTimeout), although the server answers heartbeats. Every message restarts
    /// the time, except answers to heartbeats; [`counts_as_data`](crate::Builder::counts_as_data) narrows that. A message
    /// that is still arriving is no silence. While reading is paused, nothing is judged.
    ///
    /// Choose it longer than a healthy server is ever silent. Otherwise every connection is lost after this time, and the
    /// client keeps reconnecting. The delays then grow up to `max_delay`, and `max_attempts` counts these losses, because
    /// the time without data does not count towards `stable_after`. Default `None`: no limit.
    pub idle_timeout: Option<Duration>,
    /// How long the line must have been ready for the backoff to start over; less counts as 100 ms. Default 5 s.
    pub stable_after: Duration,
    /// The longest `Retry-After` that the client honours. A longer one is cut to this. Default 1 h.
    pub retry_after_cap: Duration,
    /// The largest message to send or receive, in bytes. Default 64 MiB. Memory is allocated as bytes arrive, not as
    /// the frame header announces; `usize::MAX` lets a server use all of the memory. No system holds more than a quarter of
    /// its addresses in one message: in 32 bits that is 1 GiB, and a message to send needs up to three times its size.
    pub max_message_size: usize,
    /// The largest data frame to receive, in bytes. Default 64 MiB.
    pub max_frame_size: usize,
    /// The largest HTTP response to the upgrade that is read, in bytes. Default 64 KiB.
    pub max_response_size: usize,
    /// The bound on messages that are accepted and not yet written. Default 1,024 messages, 16 MiB.
    pub outbox: QueueLimit,
    /// The bound on messages that are received and not yet taken by the application. Default 1,024 messages, 16 MiB.
    pub events: QueueLimit,
    /// Makes [`try_send`](crate::Client::try_send), [`try_recv`](crate::Client::try_recv) and [`drain`](crate::Client::drain) wait
    /// for nobody, with room for this many messages each way. Default off.
    ///
    #[doc = include_str!("config/realtime.md")]
    pub realtime: Option<usize>,
    /// Whether incoming messages are delivered. Default: they are.
    pub inbound: Inbound,
    /// Whether messages that a lost connection left unconfirmed are sent again. Default [`Delivery::AtMostOnce`].
    pub delivery: Delivery,
    /// What confirms that the server has received a message. Default [`Confirmation::Pong`].
    pub confirmation: Confirmation,
    /// Whether messages are queued or refused while the line is not ready. Default [`WhileDown::Queue`].
    pub while_down: WhileDown,
    /// How long a message may wait before it is first written. A message that waits longer is never sent, and
    /// [`Event::Expired`](crate::Event::Expired) lists it. The time starts with the call of `send` and includes a wait
    /// for room; with `send_all` it starts when the batch is handed over. Requests have timeouts of their own instead.
    /// Default `None`: no limit.
    pub max_age: Option<Duration>,
    /// Messages larger than this many bytes are sent in fragments of this size, so that WebSocket pings and pongs can
    /// pass in between. Some servers reject fragments. Default `None`: each message is one frame. On a line
    /// with [`compression`](field@Self::compression), messages of more than 64 KiB go out in fragments of that size at most.
    pub fragment: Option<usize>,
    /// How long the I/O thread polls for more work before it sleeps, when messages have just moved and polling is
    /// likely to pay. A caller that waits again within 50 µs of its last message polls up to 20 times as long. Polling
    /// shortens round trips and costs processor time; when it finds nothing, it becomes rare. Zero turns it off, and it
    /// is off on a machine with one processor. At most 1 ms. Default 5 µs.
    pub spin: Duration,
    /// The stack size of the client's threads, in bytes of virtual memory: 384 KiB to 1 GiB. Default 512 KiB. The
    /// smallest size is enough for the library itself, in a debug build too; callbacks may need more.
    pub thread_stack: usize,
    /// What the names of the client's threads begin with, in a debugger, a profiler and the log: with `meter` they are
    /// `meter-io`, `meter-dial` and `meter-work`. One to ten printable ASCII characters, none of them a space: systems cut longer names.
    /// Default `tautline`. The thread that all clients share is always `tautline-timer`.
    pub thread_name: String,
}

/// The largest size for a buffer that doubles as it grows.
const LARGEST_BUFFER: usize = isize::MAX as usize / 2;

impl ConnectionConfig {
    /// The largest message to send or receive, whatever is set.
    pub(crate) fn largest_message(&self) -> usize {
        self.max_message_size.min(LARGEST_BUFFER)
    }

    /// Returns the default configuration for this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            servers: None,
            server_order: ServerOrder::default(),
            headers: Vec::new(),
            subprotocols: Vec::new(),
            require_subprotocol: false,
            redirects: 0,
            compression: None,
            tls: TlsConfig::default(),
            network: NetworkConfig::default(),
            proxy: None,
            reconnect: ReconnectConfig::default(),
            heartbeat: HeartbeatConfig::default(),
            connect_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(3),
            write_timeout: Duration::from_secs(30),
            idle_timeout: None,
            stable_after: Duration::from_secs(5),
            retry_after_cap: Duration::from_secs(3600),
            max_message_size: 64 << 20,
            max_frame_size: 64 << 20,
            max_response_size: 64 << 10,
            outbox: QueueLimit::default(),
            events: QueueLimit::default(),
            realtime: None,
            inbound: Inbound::default(),
            delivery: Delivery::default(),
            confirmation: Confirmation::default(),
            while_down: WhileDown::default(),
            max_age: None,
            fragment: None,
            spin: Duration::from_micros(5),
            thread_stack: 512 << 10,
            thread_name: "tautline".into(),
        }
    }

    /// Adds a header to the upgrade request.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Offers a subprotocol, after those offered before.
    pub fn subprotocol(mut self, name: impl Into<String>) -> Self {
        self.subprotocols.push(name.into());
        self
    }

    /// Sets [`tls`](field@Self::tls). A connector of native-tls can be given, too.
    pub fn tls(mut self, tls: impl Into<TlsConfig>) -> Self {
        self.tls = tls.into();
        self
    }

    /// Checks every setting. Returns the servers of the list.
    pub(crate) fn check(&self) -> Result<Vec<Endpoint>, Error> {
        let servers = self.server_list()?.iter().map(|url| Endpoint::parse(url)).collect::<Result<_, _>>()?;
        check_headers(&self.headers)?;
        check_subprotocols(&self.subprotocols)?;
        self.tls.check()?;
        self.network.check()?;
        self.proxy.as_ref().map_or(Ok(()), Proxy::check)?;
        self.reconnect.check()?;
        self.heartbeat.check()?;
        self.compression.as_ref().map_or(Ok(()), Compression::check)?;
        for (setting, duration) in [
            ("connect_timeout", self.connect_timeout),
            ("login_timeout", self.login_timeout),
            ("close_timeout", self.close_timeout),
            ("write_timeout", self.write_timeout),
            ("idle_timeout", self.idle_timeout.unwrap_or(Duration::MAX)),
            ("max_age", self.max_age.unwrap_or(Duration::MAX)),
        ] {
            not_zero(setting, duration)?;
        }
        for (setting, size) in [
            ("max_message_size", self.max_message_size),
            ("max_frame_size", self.max_frame_size),
            ("max_response_size", self.max_response_size),
            ("outbox.messages", self.outbox.messages),
            ("outbox.bytes", self.outbox.bytes),
            ("events.messages", self.events.messages),
            ("events.bytes", self.events.bytes),
            ("fragment", self.fragment.unwrap_or(1)),
            ("realtime", self.realtime.unwrap_or(1)),
        ] {
            if size == 0 {
                return invalid(setting, "it is 0; at least 1 is needed");
            }
        }
        if let Some(capacity) = self.realtime
            && capacity > MOST_REALTIME
        {
            let why = format!(
                "it is {capacity}, and so much memory would be allocated at once; at most {MOST_REALTIME} is allowed"
            );
            return invalid("realtime", why);
        }
        if self.delivery == Delivery::AtLeastOnce && !self.confirms() {
            let why = format!(
                "it is AtLeastOnce, which needs the confirmations of Beat::WebSocketPing or of \
                 Confirmation::Acknowledgement, but heartbeat.beat is {:?}",
                self.heartbeat.beat
            );
            return invalid("delivery", why);
        }
        if self.redirects > MOST_REDIRECTS {
            return invalid(
                "redirects",
                format!("it is {}; at most {MOST_REDIRECTS} are allowed", self.redirects),
            );
        }
        if self.spin > LONGEST_SPIN {
            let why = format!(
                "it is {:?}; at most {LONGEST_SPIN:?} is allowed, because longer polling costs more than the sleep that it avoids",
                self.spin
            );
            return invalid("spin", why);
        }
        if !STACKS.contains(&self.thread_stack) {
            let (least, most) = (STACKS.start(), STACKS.end());
            let why = format!("it is {} bytes; {least} to {most} are allowed", self.thread_stack);
            return invalid("thread_stack", why);
        }
        let name = &self.thread_name;
        if !(1..=LONGEST_THREAD_NAME).contains(&name.len())
            || !name.bytes().all(|byte| byte.is_ascii_graphic())
        {
            let why = format!(
                "it is {name:?}; 1 to {LONGEST_THREAD_NAME} printable ASCII characters without a space are allowed"
            );
            return invalid("thread_name", why);
        }
        Ok(servers)
    }

    /// The bounds of the queues are those of `realtime`, where that is set: whoever asks them gets one answer.
    pub(crate) fn fit_queues(&mut self) {
        if let Some(capacity) = self.realtime {
            self.outbox.messages = capacity;
            self.events.messages = capacity;
        }
    }

    /// Whether messages can be confirmed.
    pub(crate) fn confirms(&self) -> bool {
        match self.confirmation {
            Confirmation::Pong => self.heartbeat.beat == Beat::WebSocketPing,
            Confirmation::Acknowledgement => true,
        }
    }
}

setters!(ConnectionConfig {
    server_order: ServerOrder,
    require_subprotocol: bool,
    redirects: u32,
    compression: Compression,
    network: NetworkConfig,
    proxy: Proxy,
    reconnect: ReconnectConfig,
    heartbeat: HeartbeatConfig,
    connect_timeout: Duration,
    login_timeout: Duration,
    close_timeout: Duration,
    write_timeout: Duration,
    idle_timeout: Duration,
    stable_after: Duration,
    retry_after_cap: Duration,
    max_message_size: usize,
    max_frame_size: usize,
    max_response_size: usize,
    outbox: QueueLimit,
    events: QueueLimit,
    realtime: usize,
    inbound: Inbound,
    delivery: Delivery,
    confirmation: Confirmation,
    while_down: WhileDown,
    max_age: Duration,
    fragment: usize,
    spin: Duration,
    thread_stack: usize,
    thread_name: impl Into<String>,
});

/// Omits what may be secret: everything in the URL but the host, and the header values.
impl fmt::Debug for ConnectionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Endpoint::redacted(&self.url);
        let servers = self.servers.as_ref().map(|urls| urls.iter().map(|url| Endpoint::redacted(url)));
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| shown_name(name)).collect();
        let subprotocols = shown_subprotocols(&self.subprotocols);
        f.debug_struct("ConnectionConfig")
            .field("url", &url)
            .field("servers", &servers.map(Iterator::collect::<Vec<_>>))
            .field("server_order", &self.server_order)
            .field("headers", &headers)
            .field("subprotocols", &subprotocols)
            .field("require_subprotocol", &self.require_subprotocol)
            .field("redirects", &self.redirects)
            .field("compression", &self.compression)
            .field("tls", &self.tls)
            .field("network", &self.network)
            .field("proxy", &self.proxy)
            .field("reconnect", &self.reconnect)
            .field("heartbeat", &self.heartbeat)
            .field("connect_timeout", &self.connect_timeout)
            .field("login_timeout", &self.login_timeout)
            .field("close_timeout", &self.close_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("stable_after", &self.stable_after)
            .field("retry_after_cap", &self.retry_after_cap)
            .field("max_message_size", &self.max_message_size)
            .field("max_frame_size", &self.max_frame_size)
            .field("max_response_size", &self.max_response_size)
            .field("outbox", &self.outbox)
            .field("events", &self.events)
            .field("realtime", &self.realtime)
            .field("inbound", &self.inbound)
            .field("delivery", &self.delivery)
            .field("confirmation", &self.confirmation)
            .field("while_down", &self.while_down)
            .field("max_age", &self.max_age)
            .field("fragment", &self.fragment)
            .field("spin", &self.spin)
            .field("thread_stack", &self.thread_stack)
            .field("thread_name", &self.thread_name)
            .finish()
    }
}

/// `now + after`, or a time that never comes if an `Instant` can't hold the sum.
pub(crate) fn deadline(now: Instant, after: Duration) -> Instant {
    const FOR_EVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);
    now.checked_add(after.min(FOR_EVER)).unwrap_or(now)
}

const LONGEST_SPIN: Duration = Duration::from_millis(1);

/// More of them in a row are a loop. The secrets of each request are kept.
const MOST_REDIRECTS: u32 = 20;

/// The largest room for calls that wait for nobody, in messages. Its memory is allocated at the start: 20 MB.
const MOST_REALTIME: usize = 1 << 16;

/// The allowed sizes of a thread's stack. JSON with 127 levels, the deepest that is parsed, takes up to 224 KiB in a
/// build without optimisation.
const STACKS: RangeInclusive<usize> = 384 << 10..=1 << 30;

/// Linux keeps 15 bytes, of which `-dial` takes five.
const LONGEST_THREAD_NAME: usize = 10;

/// The shortest delay before another attempt.
pub(crate) const SHORTEST_DELAY: Duration = Duration::from_millis(10);

fn not_zero(setting: &'static str, duration: Duration) -> Result<(), Error> {
    if duration.is_zero() { invalid(setting, "it is zero; it must be longer") } else { Ok(()) }
}

fn invalid<T>(setting: &'static str, reason: impl Into<Box<str>>) -> Result<T, Error> {
    Err(Error::InvalidConfig { setting, reason: reason.into() })
}

#[cfg(test)]
mod tests;
