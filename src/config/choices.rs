//! The values of some settings.

/// How a delay is randomized around its base, so that clients that lost their connections together do not reconnect
/// together.
///
/// `base` is `min(initial_delay * multiplier^attempts, max_delay)`, and `random` is uniform in [0, 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Jitter {
    /// `min(random * (3 * base - initial_delay) + initial_delay, max_delay)`.
    ///
    /// Once `base` has reached `max_delay`, two delays in three equal `max_delay`. That does no harm in a simulation of
    /// 200,000 clients that lost their connections together: after 600 s the worst 100 ms sees 0.42 % of them, against
    /// 0.67 % with `Full`.
    #[default]
    Decorrelated,
    /// Uniform in `[0, base]`. The fastest return, at the price of more attempts.
    Full,
    /// `base / 2`, plus a part uniform in `[0, base / 2]`.
    Equal,
    /// `base` itself. For tests, and for a client that is alone.
    None,
}

/// In which order the servers of a list are tried: see [`servers`](field@crate::ConnectionConfig::servers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ServerOrder {
    /// In the order of the list, from its first server on, and from its beginning again.
    #[default]
    InTurn,
    /// Each attempt, the first one too, goes to any server that has not been tried in this round, so that a large fleet
    /// spreads over its servers.
    Random,
}

/// Which addresses of a host are used, and which of them come first: see [`NetworkConfig`](crate::NetworkConfig).
///
/// ```
/// use tautline::{AddressFamily, ConnectionConfig, NetworkConfig};
///
/// let network = NetworkConfig::default().family(AddressFamily::Ipv6Only);
/// let config = ConnectionConfig::new("wss://gateway.example").network(network);
/// # let _ = config;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AddressFamily {
    /// Both. The resolver's first address comes first; by default a system's resolver puts the family first that is
    /// likely to work.
    #[default]
    Any,
    /// Both, with an IPv4 address first.
    PreferIpv4,
    /// Both, with an IPv6 address first.
    PreferIpv6,
    /// IPv4 alone. An attempt at a host without such an address fails with [`Error::Connect`](crate::Error::Connect).
    Ipv4Only,
    /// IPv6 alone. An attempt at a host without such an address fails with [`Error::Connect`](crate::Error::Connect).
    Ipv6Only,
}

/// What is sent as a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Beat {
    /// A WebSocket ping (RFC 6455, section 5.5.2), which every compliant server answers.
    #[default]
    WebSocketPing,
    /// The text message `{"type":"ping","timestamp":<unix ms>}`, answered by `{"type":"pong"}`, which is not
    /// delivered to the application.
    Json,
    /// Whatever the protocol's [`on_beat`](crate::Protocol::on_beat) sends. For a protocol of your own that implements
    /// this hook. A client without a protocol rejects this setting. A [`JsonSession`](crate::JsonSession) does not
    /// implement the hook: use [`Json`](Self::Json) with it.
    Protocol,
    /// No heartbeats, whatever a protocol asks for. A dead peer is detected only when a write stalls or the operating
    /// system reports an error.
    Off,
}

/// A bound by count and by bytes.
///
/// The outbox accepts a message that fits, and a message larger than `bytes` when the outbox is empty. Incoming
/// messages may exceed the bound by the size of one message, because its size is known only once it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLimit {
    /// At most this many messages.
    pub messages: usize,
    /// At most this many bytes of payload.
    pub bytes: usize,
}

/// What happens to a message that was written to a connection that was lost before the server confirmed the message.
///
/// [`Confirmation`] says what confirms: by default a WebSocket pong, which proves that the server's WebSocket library has
/// read everything before the ping. It does not prove that the application behind it has handled the messages. An
/// intermediary that answers pings itself confirms only that it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Delivery {
    /// The message is not sent again. Its payload is freed once it is written.
    /// [`Event::Disconnected`](crate::Event::Disconnected) lists its ticket.
    #[default]
    AtMostOnce,
    /// The message is kept until it is confirmed. After a loss it is sent again, in order and ahead of newer messages. The
    /// server may receive it more than once.
    ///
    /// A message that ends each connection must not do so for ever. A loss counts against the first message in doubt, if
    /// the server had confirmed nothing new on that connection. After three such losses the message is given up, and listed as
    /// above. What the application ends itself, and a move, does not count.
    ///
    /// With [`Confirmation::Pong`], a connection begins slowly after a loss that left messages in doubt: with one message.
    /// Whenever the server confirms some, twice as many may be under way. So it becomes known which message ends the
    /// connection, and a line that is cut again and again still gets on. A [`flush`](crate::Client::flush) waits for these
    /// confirmations; [`close`](crate::Client::close) does not.
    ///
    /// The server is asked what it has by a ping, with each heartbeat and behind each 16 KiB of messages.
    ///
    /// Kept messages count against the outbox. A [`request`](crate::Client::request) and a message for
    /// [this connection](crate::SendOptions::this_connection) only are never sent again, and are listed at once.
    ///
    /// A server whose pongs do not repeat the payload of the ping confirms nothing: the log says so once, and the
    /// outbox fills up. One that answers no pings at all gets one message after a loss that left some in doubt, and the
    /// outbox fills up as well.
    AtLeastOnce,
}

/// What confirms that the server has received a message: for [`confirm`](crate::Client::confirm), for
/// [`Delivery::AtLeastOnce`], and before the client closes or moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Confirmation {
    /// A WebSocket pong confirms every message written before its ping. The server's WebSocket library answers pings, so
    /// this says that the library has read the message, and not that the application behind it has handled it. A server
    /// that is killed loses what lies in between.
    #[default]
    Pong,
    /// The protocol confirms messages by [`Context::acknowledge`](crate::Context::acknowledge) when the server's
    /// application says that it has handled them. Pings go out as heartbeats only. A client without a protocol rejects
    /// this setting. A [`JsonSession`](crate::JsonSession) acknowledges a request when it is answered, and other messages
    /// by [`acknowledged_by`](crate::JsonSession::acknowledged_by).
    Acknowledgement,
}

/// What happens to messages that are sent while the line is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhileDown {
    /// They wait in the outbox and are written in order once the line is ready. See also
    /// [`max_age`](crate::ConnectionConfig::max_age).
    #[default]
    Queue,
    /// They are refused with [`SendErrorKind::NotReady`](crate::SendErrorKind::NotReady). A message that was accepted
    /// just before the loss and not yet written still waits in the outbox.
    Refuse,
}

/// What happens to incoming messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Inbound {
    /// They are delivered. When the application does not take them, the client stops reading, and TCP flow control
    /// slows the server down.
    #[default]
    Deliver,
    /// They are read and dropped. For a program that only sends.
    Discard,
}

impl AddressFamily {
    /// Whether an address of this family is used at all.
    pub(crate) fn allows(self, ipv6: bool) -> bool {
        match self {
            Self::Any | Self::PreferIpv4 | Self::PreferIpv6 => true,
            Self::Ipv4Only => !ipv6,
            Self::Ipv6Only => ipv6,
        }
    }
}

impl QueueLimit {
    /// A bound of `messages` messages and `bytes` bytes in all.
    pub const fn new(messages: usize, bytes: usize) -> Self {
        Self { messages, bytes }
    }
}

impl Default for QueueLimit {
    fn default() -> Self {
        Self::new(1024, 16 << 20)
    }
}
