//! The counters of a client, where callers read them without a lock.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::stats::{Compressed, Stats};

/// What the I/O thread has counted. Each counter is an atomic for itself, so that a reader waits for nobody: two of them
/// may be of different turns.
#[derive(Default)]
pub(crate) struct Counters {
    attempts: AtomicU64,
    connects: AtomicU64,
    disconnects: AtomicU64,
    messages_expired: AtomicU64,
    messages_written: AtomicU64,
    messages_confirmed: AtomicU64,
    messages_received: AtomicU64,
    bytes_written: AtomicU64,
    bytes_read: AtomicU64,
    compressed_written: Pair,
    compressed_read: Pair,
    heartbeats: AtomicU64,
    /// In ns, and one more; 0 for none.
    round_trip: AtomicU64,
}

#[derive(Default)]
struct Pair {
    before: AtomicU64,
    after: AtomicU64,
}

impl Counters {
    /// Only the I/O thread stores.
    pub(super) fn store(&self, stats: &Stats) {
        let Stats { attempts, connects, disconnects, heartbeats, round_trip, .. } = stats;
        let Stats { messages_expired, messages_written, messages_confirmed, messages_received, .. } = stats;
        let Stats { bytes_written, bytes_read, compressed_written, compressed_read, .. } = stats;
        // What callers have accepted, and what waits, is counted on their threads.
        let Stats { messages_accepted: _, messages_queued: _, bytes_queued: _, .. } = stats;
        self.attempts.store(*attempts, Relaxed);
        self.connects.store(*connects, Relaxed);
        self.disconnects.store(*disconnects, Relaxed);
        self.messages_expired.store(*messages_expired, Relaxed);
        self.messages_written.store(*messages_written, Relaxed);
        self.messages_confirmed.store(*messages_confirmed, Relaxed);
        self.messages_received.store(*messages_received, Relaxed);
        self.bytes_written.store(*bytes_written, Relaxed);
        self.bytes_read.store(*bytes_read, Relaxed);
        self.compressed_written.store(*compressed_written);
        self.compressed_read.store(*compressed_read);
        self.heartbeats.store(*heartbeats, Relaxed);
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        self.round_trip.store(round_trip.map_or(0, nanos), Relaxed);
    }

    /// What was counted, but for what callers count.
    pub(crate) fn load(&self) -> Stats {
        Stats {
            attempts: self.attempts.load(Relaxed),
            connects: self.connects(),
            disconnects: self.disconnects.load(Relaxed),
            messages_accepted: 0,
            messages_expired: self.messages_expired.load(Relaxed),
            messages_written: self.messages_written.load(Relaxed),
            messages_confirmed: self.messages_confirmed.load(Relaxed),
            messages_queued: 0,
            bytes_queued: 0,
            messages_received: self.messages_received(),
            bytes_written: self.bytes_written.load(Relaxed),
            bytes_read: self.bytes_read.load(Relaxed),
            compressed_written: self.compressed_written.load(),
            compressed_read: self.compressed_read.load(),
            heartbeats: self.heartbeats.load(Relaxed),
            round_trip: self.round_trip.load(Relaxed).checked_sub(1).map(Duration::from_nanos),
        }
    }

    pub(crate) fn connects(&self) -> u64 {
        self.connects.load(Relaxed)
    }

    pub(crate) fn messages_received(&self) -> u64 {
        self.messages_received.load(Relaxed)
    }
}

impl Pair {
    fn store(&self, Compressed { before, after }: Compressed) {
        self.before.store(before, Relaxed);
        self.after.store(after, Relaxed);
    }

    fn load(&self) -> Compressed {
        Compressed { before: self.before.load(Relaxed), after: self.after.load(Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_read_again() {
        let round_trip = |ns| Some(Duration::from_nanos(ns));
        let stats = Stats {
            attempts: 1,
            connects: 2,
            disconnects: 3,
            messages_expired: 4,
            messages_written: 5,
            messages_confirmed: 6,
            messages_received: 7,
            bytes_written: 8,
            bytes_read: 9,
            compressed_written: Compressed { before: 10, after: 11 },
            compressed_read: Compressed { before: 12, after: 13 },
            heartbeats: 14,
            ..Stats::default()
        };
        let counters = Counters::default();
        assert_eq!(counters.load(), Stats::default());
        for round_trip in [None, round_trip(0), round_trip(15)] {
            let stats = Stats { round_trip, ..stats.clone() };
            counters.store(&stats);
            assert_eq!(counters.load(), stats);
        }
    }
}
