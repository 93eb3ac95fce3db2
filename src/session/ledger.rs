//! What of a connection's bytes the system has taken.

use std::time::{Duration, Instant};

use crate::config::deadline;

#[derive(Debug)]
pub(super) struct WriteLedger {
    /// Bytes handed to the socket.
    pub(super) handed: u64,
    taken: u64,
    /// The same, where it is known ahead of a report of progress.
    taken_ahead: u64,
    /// Since when bytes wait and the system takes none.
    blocked_since: Option<Instant>,
}

impl WriteLedger {
    /// The system has taken all of the first `taken` bytes.
    pub(super) fn new(taken: u64) -> Self {
        Self { handed: taken, taken, taken_ahead: taken, blocked_since: None }
    }

    /// The system has taken `taken` bytes, while more is handed over: a loss before the next progress counts with it.
    pub(super) fn take_ahead(&mut self, taken: u64) {
        self.taken_ahead = taken;
    }

    /// The system has taken `taken` bytes; `blocked` says that more wait. Returns whether it took any, and whether it had
    /// been blocked.
    pub(super) fn progress(&mut self, now: Instant, taken: u64, blocked: bool) -> (bool, bool) {
        let moved = taken > self.taken;
        let was_blocked = self.is_blocked();
        self.taken = taken;
        if !blocked {
            self.blocked_since = None;
        } else if moved || !was_blocked {
            self.blocked_since = Some(now);
        }
        (moved, was_blocked)
    }

    /// How much the system has taken, as far as is known.
    pub(super) fn taken(&self) -> u64 {
        self.taken.max(self.taken_ahead)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.is_some()
    }

    /// When it has taken nothing for too long.
    pub(super) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        self.blocked_since.map(|since| deadline(since, timeout))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_system_that_takes_nothing_is_late_from_when_it_took_the_last_byte() {
        let start = Instant::now();
        let mut ledger = WriteLedger::new(100);
        assert_eq!((ledger.is_blocked(), ledger.deadline(S)), (false, None));
        assert_eq!(ledger.progress(start, 100, true), (false, false));
        assert_eq!(ledger.deadline(S), Some(start + S));
        assert_eq!(
            ledger.progress(start + S / 2, 100, true),
            (false, true),
            "nothing taken: the time runs on"
        );
        assert_eq!(ledger.deadline(S), Some(start + S));
        assert_eq!(ledger.progress(start + S / 2, 101, true), (true, true));
        assert_eq!(ledger.deadline(S), Some(start + S / 2 + S));
        assert_eq!(ledger.progress(start + S, 200, false), (true, true));
        assert_eq!(ledger.deadline(S), None);
    }

    #[test]
    fn what_is_known_ahead_of_a_report_counts() {
        let mut ledger = WriteLedger::new(100);
        ledger.take_ahead(150);
        assert_eq!(ledger.taken(), 150);
        ledger.progress(Instant::now(), 170, false);
        assert_eq!(ledger.taken(), 170);
    }
}
