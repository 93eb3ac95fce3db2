//! What a setting can be.

/// How a delay is spread around its base, so that clients cut off together don't come back together.
///
/// `base` is `min(initial_delay * multiplier^attempts, max_delay)`, and `random` is uniform in [0, 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Jitter {
    /// `min(random * (3 * base - initial_delay) + initial_delay, max_delay)`. Once `base` has reached `max_delay`,
    /// two delays in three are exactly `max_delay`; in a simulation of 200,000 clients cut off together that does no
    /// harm (after 600 s the worst 100 ms sees 0.42 % of them, against 0.67 % with `Full`).
    #[default]
    Decorrelated,
    /// Uniform in `[0, base]`: the fastest return, at the price of more attempts.
    Full,
    /// `base / 2` and uniform in `[0, base / 2]` on top.
    Equal,
    /// `base` itself. For tests and for a client that is alone.
    None,
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
    /// What the protocol's [`on_beat`](crate::Protocol::on_beat) sends: for a protocol of your own that has this hook.
    /// Refused for a client without a protocol; a [`JsonSession`](crate::JsonSession) has heartbeats by
    /// [`Json`](Self::Json) instead.
    Protocol,
    /// Nothing: a dead peer is noticed only when a write stalls or the system reports an error.
    Off,
}

/// A bound by count and by bytes.
///
/// The outbox lets a message in that fits, and one larger than `bytes` when nothing else is there. Of the messages that
/// arrive, the one that reaches the bound may cross it, by its own size: that is known only once it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueLimit {
    /// At most this many messages.
    pub messages: usize,
    /// At most this many bytes of payload.
    pub bytes: usize,
}

/// What becomes of a message that was written to a connection which was lost before the server confirmed it.
///
/// The answer to a WebSocket ping confirms every message that was written before the ping. An intermediary that answers
/// pings itself confirms only up to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Delivery {
    /// It is not sent again, and its payload is let go once it is written;
    /// [`Event::Disconnected`](crate::Event::Disconnected) names its ticket.
    #[default]
    AtMostOnce,
    /// It is kept until it is confirmed, and sent again on the next connections, in order and ahead of newer ones, three
    /// times in all; after that it is named as above. The server may receive it more than once. Kept messages count
    /// against the outbox. A [`request`](crate::Client::request) is never sent again, and is named at once.
    ///
    /// A server whose pongs do not repeat the payload of their pings confirms nothing: the log says so once, and the outbox
    /// fills up.
    AtLeastOnce,
}

/// What becomes of messages that are sent while the line is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhileDown {
    /// They wait in the outbox, and go out in order once the line is ready; see
    /// [`max_age`](crate::ConnectionConfig::max_age).
    #[default]
    Queue,
    /// They are refused, with [`SendErrorKind::NotReady`](crate::SendErrorKind::NotReady). One that was accepted just
    /// before the line was lost, and was not written any more, waits all the same.
    Refuse,
}

/// What becomes of messages that arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Inbound {
    /// They are delivered; when the application does not take them, reading stops and the server is slowed down.
    #[default]
    Deliver,
    /// They are read and dropped: for a program that only sends.
    Discard,
}

impl QueueLimit {
    /// At most `messages` messages of at most `bytes` bytes together.
    pub const fn new(messages: usize, bytes: usize) -> Self {
        Self { messages, bytes }
    }
}

impl Default for QueueLimit {
    fn default() -> Self {
        Self::new(1024, 16 << 20)
    }
}
