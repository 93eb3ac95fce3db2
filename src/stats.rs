//! Counters of a client.

use std::time::Duration;

/// What a client has done since it was started.
///
/// A snapshot taken by [`Client::stats`](crate::Client::stats), not a live view.
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
    /// Messages received, not counting answers to heartbeats.
    pub messages_received: u64,
    /// Bytes handed to the operating system on all connections, including TLS and framing.
    pub bytes_written: u64,
    /// Bytes read from all connections, including TLS and framing.
    pub bytes_read: u64,
    /// Heartbeats sent, with the pings that ask for a confirmation.
    pub heartbeats: u64,
    /// The latest measured round trip of a heartbeat; `None` until one was answered.
    pub round_trip: Option<Duration>,
}
