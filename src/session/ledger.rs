//! How many of a connection's bytes the system has taken.

use std::time::{Duration, Instant};

use crate::config::deadline;

/// How far a socket has come with its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes handed to the socket, including those of everything polled for it.
    pub(crate) handed: u64,
    /// How many of these the system has taken.
    pub(crate) taken: u64,
    /// Whether the remaining ones wait for the system.
    pub(crate) blocked: bool,
}

#[derive(Debug)]
pub(super) struct WriteLedger {
    /// Bytes handed to the socket.
    pub(super) handed: u64,
    taken: u64,
    /// Since when bytes have been waiting while the system takes none.
    blocked_since: Option<Instant>,
}

impl WriteLedger {
    /// A connection whose first `taken` bytes the system has taken in full.
    pub(super) fn new(taken: u64) -> Self {
        Self { handed: taken, taken, blocked_since: None }
    }

    /// Updates the counts. The socket has `handed` bytes, of which the system has taken `taken`; `blocked` says that
    /// more wait. Returns whether the system took any, and whether it had been blocked.
    pub(super) fn progress(&mut self, now: Instant, progress: Progress) -> (bool, bool) {
        let Progress { handed, taken, blocked } = progress;
        let moved = taken > self.taken;
        let was_blocked = self.is_blocked();
        (self.handed, self.taken) = (handed, taken);
        if !blocked {
            self.blocked_since = None;
        } else if moved || !was_blocked {
            self.blocked_since = Some(now);
        }
        (moved, was_blocked)
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.is_some()
    }

    /// When the system has taken nothing for longer than `timeout`.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        self.blocked_since.map(|since| deadline(since, timeout))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
mod tests {
    use super::*;

    fn progress(taken: u64, blocked: bool) -> Progress {
        Progress { handed: 200, taken, blocked }
    }

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_system_that_takes_nothing_is_late_from_when_it_took_the_last_byte() {
        let start = Instant::now();
        let mut ledger = WriteLedger::new(100);
        assert_eq!((ledger.is_blocked(), ledger.deadline(S)), (false, None));
        assert_eq!(ledger.progress(start, progress(100, true)), (false, false));
        assert_eq!(ledger.deadline(S), Some(start + S));
        assert_eq!(
            ledger.progress(start + S / 2, progress(100, true)),
            (false, true),
            "nothing taken: the time runs on"
        );
        assert_eq!(ledger.deadline(S), Some(start + S));
        assert_eq!(ledger.progress(start + S / 2, progress(101, true)), (true, true));
        assert_eq!(ledger.deadline(S), Some(start + S / 2 + S));
        assert_eq!(ledger.progress(start + S, progress(200, false)), (true, true));
        assert_eq!(ledger.deadline(S), None);
    }
}
