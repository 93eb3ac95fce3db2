//! Counters of a client.

use std::time::Duration;

/// What a client has done since it was started.
///
/// A copy made by [`Client::stats`](crate::Client::stats), not a live view. Each counter is read for itself, so two of them may
/// be of different moments: what was written may for a moment be more than what was accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Attempts to connect, including failed ones.
    pub attempts: u64,
    /// How often the line became ready.
    pub connects: u64,
    /// How often an open line was lost or closed.
    pub disconnects: u64,
    /// Messages and requests accepted from callers.
    pub messages_accepted: u64,
    /// Messages that were given up before they were sent: see [`Event::Expired`](crate::Event::Expired).
    pub messages_expired: u64,
    /// Messages handed to the operating system. A message that was sent again counts once; one that was dropped before
    /// it was written does not count.
    pub messages_written: u64,
    /// Messages that the server has confirmed: see [`Confirmation`](crate::Confirmation). With pongs, only those count
    /// that a ping has asked for, by a heartbeat or a [`confirm`](crate::Client::confirm).
    pub messages_confirmed: u64,
    /// Messages in the outbox: accepted, and not yet written or, at least once, not yet confirmed. A message counts until
    /// its room is given back, which may be a moment later. Zero on a closed client.
    pub messages_queued: usize,
    /// The bytes of their payloads.
    pub bytes_queued: usize,
    /// Messages received, not counting answers to heartbeats, nor those that a closing line without a protocol drops.
    pub messages_received: u64,
    /// Bytes handed to the operating system on all connections, including TLS and framing.
    pub bytes_written: u64,
    /// Bytes read from all connections, including TLS and framing.
    pub bytes_read: u64,
    /// The payloads of the messages that were sent compressed. A message that goes out as it is does not count.
    pub compressed_written: Compressed,
    /// The payloads of the messages that were received compressed. One that is given up halfway, because it is broken or too
    /// long, counts as far as it was read.
    pub compressed_read: Compressed,
    /// Heartbeats sent, with the pings that ask for a confirmation.
    pub heartbeats: u64,
    /// The latest measured round trip of a heartbeat; `None` until one was answered.
    pub round_trip: Option<Duration>,
}

/// How many bytes compression has made of how many, on all connections: see [`Compression`](crate::Compression). Zero without
/// it.
///
/// ```
/// let sent = tautline::Stats::default().compressed_written;
/// let saved = sent.before.saturating_sub(sent.after);
/// assert_eq!(saved, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compressed {
    /// Bytes of payload as the application has them.
    pub before: u64,
    /// Bytes of payload as they are on the wire.
    pub after: u64,
}

/// What has gone over a socket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) written: u64,
    pub(crate) read: u64,
    pub(crate) compressed_written: Compressed,
    pub(crate) compressed_read: Compressed,
}

impl Traffic {
    /// What has gone over both.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            written: self.written + other.written,
            read: self.read + other.read,
            compressed_written: self.compressed_written.and(other.compressed_written),
            compressed_read: self.compressed_read.and(other.compressed_read),
        }
    }
}

impl Compressed {
    fn and(self, other: Self) -> Self {
        Self { before: self.before + other.before, after: self.after + other.after }
    }
}
