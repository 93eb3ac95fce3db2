//! Counters of a client.

use std::time::Duration;

/// What a client has done so far, since it was started.
///
/// Taken with [`Client::stats`](crate::Client::stats); a snapshot, not a live view.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Attempts to connect, failed ones included.
    pub attempts: u64,
    /// Times the line became ready.
    pub connects: u64,
    /// Times an open line was lost or closed.
    pub disconnects: u64,
    /// Messages taken from callers by `send` and its kin, and requests.
    pub messages_accepted: u64,
    /// Messages that waited longer than `max_age`, or over which the protocol failed, and that were never sent.
    pub messages_expired: u64,
    /// Messages handed to the operating system; one that was sent again is counted once, and one that was dropped before
    /// that is not counted.
    pub messages_written: u64,
    /// Messages received, heartbeat answers not counted.
    pub messages_received: u64,
    /// Bytes handed to the operating system on all connections, TLS and framing included.
    pub bytes_written: u64,
    /// Bytes read from all connections, TLS and framing included.
    pub bytes_read: u64,
    /// Heartbeats sent.
    pub heartbeats: u64,
    /// The newest measured round trip of a heartbeat, if one was answered.
    pub round_trip: Option<Duration>,
}
