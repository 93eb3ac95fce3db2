//! Messages that will not be confirmed any more, for those who wait for that.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use crate::event::Tickets;
use crate::session::Doubt;

/// The doubts of a client's life, of each kind apart: what may have arrived is not what was never sent.
#[derive(Default)]
pub(crate) struct Doubts {
    pub(crate) unconfirmed: Runs,
    pub(crate) expired: Runs,
}

/// Runs of tickets, numbered from 1 in the order in which they were told.
#[derive(Default)]
pub(crate) struct Runs {
    runs: VecDeque<(u64, RangeInclusive<u64>)>,
    last: u64,
}

/// How many runs of a kind are kept apart. Only who never asks comes to have more; then the two oldest become one, with
/// what lies between them.
const KEPT: usize = 1024;

impl Doubts {
    pub(super) fn add(&mut self, doubt: Doubt) {
        let kind = if doubt.expired { &mut self.expired } else { &mut self.unconfirmed };
        for run in doubt.tickets.into_runs() {
            kind.add(run);
        }
    }
}

impl Runs {
    fn add(&mut self, run: RangeInclusive<u64>) {
        self.last += 1;
        self.runs.push_back((self.last, run));
        if self.runs.len() > KEPT
            && let Some((_, oldest)) = self.runs.pop_front()
            && let Some((_, next)) = self.runs.front_mut()
        {
            *next = *oldest.start().min(next.start())..=*oldest.end().max(next.end());
        }
    }

    /// What was told of the messages up to ticket `through` after run `told`, and the number of the last run in that.
    /// Of newer messages, what is numbered between is in it: nobody looks there again.
    pub(crate) fn since(&self, told: u64, through: u64) -> Option<(u64, Tickets)> {
        let news = self.runs.iter().filter(|(number, _)| *number > told);
        let (last, _) = news.clone().rfind(|(_, run)| *run.start() <= through)?;
        Some((*last, news.take_while(|(number, _)| number <= last).map(|(_, run)| run.clone()).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(runs: &[RangeInclusive<u64>]) -> Tickets {
        runs.iter().cloned().collect()
    }

    fn runs(runs: &[RangeInclusive<u64>]) -> Runs {
        let mut kept = Runs::default();
        for run in runs {
            kept.add(run.clone());
        }
        kept
    }

    #[test]
    fn doubts_are_told_in_one_and_once() {
        let runs = runs(&[1..=2, 5..=5, 9..=9]);
        assert_eq!(runs.since(0, 6), Some((2, tickets(&[1..=2, 5..=5]))));
        assert_eq!(runs.since(2, 6), None);
        assert_eq!(runs.since(2, 100), Some((3, tickets(&[9..=9]))));
        assert_eq!(runs.since(3, 100), None);
    }

    #[test]
    fn what_expired_out_of_turn_is_told_too() {
        let runs = runs(&[9..=9, 5..=5]);
        assert_eq!(
            runs.since(0, 6),
            Some((2, tickets(&[5..=5, 9..=9]))),
            "behind the number 2 nobody looks again"
        );
    }

    #[test]
    fn what_expired_is_told_apart_from_what_is_unconfirmed() {
        let mut doubts = Doubts::default();
        for n in 1..=1_000 {
            doubts.add(Doubt { tickets: tickets(&[n..=n]), expired: n % 2 == 0 });
        }
        let even = (1..=500).map(|n| 2 * n..=2 * n).collect();
        assert_eq!(doubts.expired.since(0, 1_000), Some((500, even)));
        let odd = (1..=499).map(|n| 2 * n + 1..=2 * n + 1).collect();
        assert_eq!(doubts.unconfirmed.since(1, 1_000), Some((500, odd)));
    }

    #[test]
    fn however_many_there_are_they_cost_little() {
        let mut runs = Runs::default();
        for n in 1..=100_000 {
            runs.add(2 * n..=2 * n);
        }
        assert_eq!(runs.runs.len(), KEPT);
        let (last, all) = runs.since(0, u64::MAX).unwrap();
        let all = all.into_runs();
        assert_eq!((last, all.len(), &all[0]), (100_000, KEPT, &(2..=2 * (100_001 - 1_024))));
        assert_eq!(runs.since(99_999, u64::MAX), Some((100_000, tickets(&[200_000..=200_000]))));
    }
}
