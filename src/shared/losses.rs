//! Messages that will not arrive, or may not have arrived, for callers that ask.

use std::collections::VecDeque;

use crate::event::Tickets;
use crate::session::LostMessages;

/// The losses of a client's lifetime, as separate runs in rising order. Adjacent runs of one kind are merged.
#[derive(Default)]
pub(crate) struct Losses(VecDeque<Run>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u64,
    last: u64,
    /// None of them was ever sent. Otherwise, each may have arrived or not.
    never_sent: bool,
}

/// How many runs are kept. Beyond that, the two oldest are merged, together with what lies between them: of all that,
/// it is only known that it may have arrived or not.
const MOST_RUNS: usize = 1024;

impl Losses {
    pub(super) fn add(&mut self, doubt: &LostMessages) {
        for tickets in doubt.tickets.runs() {
            self.insert(Run { first: *tickets.start(), last: *tickets.end(), never_sent: doubt.expired });
        }
    }

    fn insert(&mut self, run: Run) {
        let at = self.find(run.first);
        if self.0.get(at).is_some_and(|other| other.first <= run.last) {
            // The run lies in a merged one.
            return;
        }
        self.0.insert(at, run);
        self.join(at);
        self.join(at.wrapping_sub(1));
        if self.0.len() > MOST_RUNS
            && let Some(oldest) = self.0.pop_front()
            && let Some(next) = self.0.front_mut()
        {
            *next = Run { first: oldest.first, last: next.last, never_sent: false };
        }
    }

    /// Merges this run with the next one, if they are adjacent and of one kind.
    fn join(&mut self, at: usize) {
        if let (Some(run), Some(next)) = (self.0.get(at), self.0.get(at.wrapping_add(1)))
            && (run.last + 1, run.never_sent) == (next.first, next.never_sent)
        {
            let first = run.first;
            self.0.remove(at);
            self.0[at].first = first;
        }
    }

    /// The position of the first run that ends at or after `ticket`.
    fn find(&self, ticket: u64) -> usize {
        self.0.partition_point(|run| run.last < ticket)
    }

    /// The last ticket of the run of losses that `ticket` is in.
    pub(crate) fn run_end(&self, ticket: u64) -> Option<u64> {
        let run = self.0.get(self.find(ticket))?;
        (run.first <= ticket).then_some(run.last)
    }

    /// Splits the lost ones among `tickets` into those that may have arrived and those that were never sent.
    pub(crate) fn among(&self, tickets: &Tickets) -> (Tickets, Tickets) {
        let of_kind = |never_sent| {
            let lost = tickets.runs().iter().flat_map(|asked| {
                let runs = self.0.range(self.find(*asked.start())..);
                let runs = runs.take_while(|run| run.first <= *asked.end());
                runs.filter(move |run| run.never_sent == never_sent)
                    .map(|run| run.first.max(*asked.start())..=run.last.min(*asked.end()))
            });
            lost.collect()
        };
        (of_kind(false), of_kind(true))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    fn tickets(runs: &[RangeInclusive<u64>]) -> Tickets {
        runs.iter().cloned().collect()
    }

    fn losses(runs: &[(RangeInclusive<u64>, bool)]) -> Losses {
        let mut losses = Losses::default();
        for (run, expired) in runs {
            losses.add(&LostMessages { tickets: tickets(std::slice::from_ref(run)), expired: *expired });
        }
        losses
    }

    #[test]
    fn what_is_asked_about_is_told_apart_and_nothing_else() {
        let losses = losses(&[(9..=12, false), (1..=2, true), (5..=6, false), (3..=3, false), (7..=7, true)]);
        let among = |runs: &[_]| losses.among(&tickets(runs));
        assert_eq!(among(&[1..=20]), (tickets(&[3..=3, 5..=6, 9..=12]), tickets(&[1..=2, 7..=7])));
        assert_eq!(among(&[2..=2, 6..=10]), (tickets(&[6..=6, 9..=10]), tickets(&[2..=2, 7..=7])));
        assert_eq!(among(&[4..=4, 8..=8, 13..=u64::MAX]), Default::default());
        let ends = [1, 2, 3, 4, 5, 7, 8, 10, 13].map(|ticket| losses.run_end(ticket));
        let (two, six) = (Some(2), Some(6));
        assert_eq!(ends, [two, two, Some(3), None, six, Some(7), None, Some(12), None]);
    }

    #[test]
    fn neighbours_are_one_run_in_whatever_order_they_come() {
        for order in [[1, 2, 3], [3, 2, 1], [1, 3, 2]] {
            let losses = losses(&order.map(|n| (2 * n - 1..=2 * n, true)));
            assert_eq!(losses.0, [Run { first: 1, last: 6, never_sent: true }]);
        }
        assert_eq!(losses(&[(1..=1, true), (2..=2, false)]).0.len(), 2, "of another kind");
    }

    #[test]
    fn however_many_there_are_they_cost_little_and_none_is_called_arrived_or_unsent_that_was_not() {
        let mut losses = Losses::default();
        for n in 1..=10_000 {
            losses.insert(Run { first: 2 * n, last: 2 * n, never_sent: n % 2 == 0 });
        }
        assert_eq!(losses.0.len(), MOST_RUNS);
        let merged = 2 * (10_001 - MOST_RUNS as u64);
        let (maybe, never) = losses.among(&tickets(&[1..=20_000]));
        assert!(maybe.runs()[0] == (2..=merged) && never.runs()[0].start() % 4 == 0, "{maybe}; {never}");
        // A later loss within a merged run is covered already.
        losses.insert(Run { first: 7, last: 7, never_sent: true });
        assert_eq!(losses.among(&tickets(&[7..=8])), (tickets(&[7..=8]), Tickets::default()));
        assert_eq!((losses.run_end(merged + 1), losses.run_end(1_000)), (None, Some(merged)));
        assert_eq!(losses.among(&tickets(&[1..=1, merged + 1..=merged + 1])), Default::default());
    }
}
