//! Which messages are settled: their fate is known.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::event::Tickets;

/// All tickets up to `through`, and some after it.
#[derive(Debug, Default)]
pub(super) struct Settled {
    through: u64,
    /// Tickets after `through` that were settled out of order, or left without being written, as runs in rising order. No
    /// run is next to another one or to `through`.
    ahead: VecDeque<RangeInclusive<u64>>,
    /// Whether no run is forgotten.
    remembers_all: bool,
}

/// How many runs are remembered, unless something else bounds them. Beyond that the oldest runs count as unsettled.
pub(super) const MOST_RUNS: usize = 1024;

impl Settled {
    /// None is forgotten. For an outbox that keeps what is not settled: it has an entry in each gap between two runs, so
    /// its bound is theirs. There, a forgotten ticket would never be settled: the outbox has nothing left to send again.
    pub(super) fn of_all() -> Self {
        Self { remembers_all: true, ..Self::default() }
    }

    /// The last ticket up to which all are settled.
    pub(super) fn through(&self) -> u64 {
        self.through
    }

    pub(super) fn ahead(&self) -> &VecDeque<RangeInclusive<u64>> {
        &self.ahead
    }

    pub(super) fn contains(&self, ticket: u64) -> bool {
        let at = self.ahead.partition_point(|run| *run.end() < ticket);
        ticket <= self.through || self.ahead.get(at).is_some_and(|run| run.contains(&ticket))
    }

    /// Everything up to `ticket` is settled.
    pub(super) fn settle_through(&mut self, ticket: u64) {
        self.through = self.through.max(ticket);
        while let Some(run) = self.ahead.front().filter(|run| *run.start() <= self.through + 1) {
            self.through = self.through.max(*run.end());
            self.ahead.pop_front();
        }
    }

    /// The tickets from `first` to `last`, of which none is settled yet, are settled out of order.
    pub(super) fn settle(&mut self, first: u64, last: u64) {
        let at = self.ahead.partition_point(|run| *run.start() < first);
        let behind = self.ahead.get(at).filter(|run| *run.start() == last + 1).map(|run| *run.end());
        if behind.is_some() {
            self.ahead.remove(at);
        }
        let last = behind.unwrap_or(last);
        match at.checked_sub(1).and_then(|before| self.ahead.get_mut(before)) {
            Some(run) if run.end() + 1 == first => *run = *run.start()..=last,
            _ => self.ahead.insert(at, first..=last),
        }
        if self.ahead.len() > MOST_RUNS && !self.remembers_all {
            self.ahead.pop_front();
        }
        self.settle_through(self.through);
    }

    /// The tickets up to `last` that are not settled.
    pub(super) fn unsettled(&self, last: u64) -> Tickets {
        let mut runs = Vec::new();
        let mut next = self.through + 1;
        for run in self.ahead.iter().take_while(|run| *run.start() <= last) {
            runs.push(next..=run.start() - 1);
            next = next.max(run.end() + 1);
        }
        runs.push(next..=last);
        runs.into_iter().collect()
    }

    /// How many tickets up to `last` are not settled.
    pub(super) fn count_unsettled(&self, last: u64) -> u64 {
        let runs = self.ahead.iter().take_while(|run| *run.start() <= last);
        let settled: u64 = runs.map(|run| (*run.end()).min(last) + 1 - run.start()).sum();
        last.saturating_sub(self.through).saturating_sub(settled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_settle_in_any_order() {
        let mut settled = Settled::default();
        for run in [4..=5, 9..=9, 7..=7, 8..=8, 2..=2] {
            settled.settle(*run.start(), *run.end());
        }
        assert_eq!((settled.through(), settled.ahead()), (0, &VecDeque::from([2..=2, 4..=5, 7..=9])));
        assert_eq!((settled.unsettled(8).to_string(), settled.count_unsettled(8)), ("#1, #3, #6".into(), 3));
        assert!(settled.contains(8) && !settled.contains(6) && !settled.contains(10));
        settled.settle(1, 1);
        assert_eq!((settled.through(), settled.count_unsettled(2)), (2, 0));
        settled.settle_through(3);
        assert_eq!((settled.through(), settled.ahead()), (5, &VecDeque::from([7..=9])));
        settled.settle_through(12);
        assert!(settled.ahead().is_empty() && settled.unsettled(12).is_empty() && settled.contains(1));
    }

    #[test]
    fn of_too_many_runs_the_oldest_counts_as_unsettled() {
        let mut settled = Settled::default();
        for n in 1..=MOST_RUNS as u64 + 1 {
            settled.settle(2 * n, 2 * n);
        }
        assert_eq!(
            (settled.ahead().len(), settled.contains(2), settled.contains(4)),
            (MOST_RUNS, false, true)
        );
    }
}
