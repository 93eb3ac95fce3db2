//! Messages that will not be confirmed any more, for those who wait for that.

use std::collections::VecDeque;

use crate::session::Doubt;

/// The doubts of a client's life, numbered from 1. The oldest of each kind are merged, so that they cost little.
#[derive(Default)]
pub(crate) struct Doubts {
    unconfirmed: VecDeque<(u64, Doubt)>,
    expired: VecDeque<(u64, Doubt)>,
    last: u64,
}

/// How many of a kind are kept apart.
const KEPT: usize = 64;

impl Doubts {
    pub(super) fn add(&mut self, doubt: Doubt) {
        self.last += 1;
        let kind = if doubt.expired { &mut self.expired } else { &mut self.unconfirmed };
        kind.push_back((self.last, doubt));
        if kind.len() > KEPT
            && let Some((_, oldest)) = kind.pop_front()
            && let Some((_, next)) = kind.front_mut()
        {
            *next = oldest.and(next);
        }
    }

    /// What became doubtful of the messages up to ticket `through`, in one, after doubt `told`; and the number of the
    /// last doubt in that. Of newer messages, what is numbered between is in it: nobody looks there again.
    pub(crate) fn since(&self, told: u64, through: u64, expired_only: bool) -> Option<(u64, Doubt)> {
        let unconfirmed = self.unconfirmed.iter().filter(|_| !expired_only);
        let news = self.expired.iter().chain(unconfirmed).filter(|(number, _)| *number > told);
        let last =
            news.clone().filter(|(_, doubt)| doubt.first <= through).map(|(number, _)| *number).max()?;
        let all = news.filter(|(number, _)| *number <= last).map(|(_, doubt)| doubt);
        all.cloned().reduce(|all, doubt| all.and(&doubt)).map(|all| (last, all))
    }
}

impl Doubt {
    /// Both in one. Of some in it, at least, it is not known whether they arrived, unless all have expired.
    fn and(&self, later: &Self) -> Self {
        Self {
            first: self.first.min(later.first),
            last: self.last.max(later.last),
            expired: self.expired && later.expired,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubt(first: u64, last: u64, expired: bool) -> Doubt {
        Doubt { first, last, expired }
    }

    #[test]
    fn doubts_are_told_in_one_and_once() {
        let mut doubts = Doubts::default();
        assert_eq!(doubts.since(0, 100, false), None);
        doubts.add(doubt(1, 2, false));
        doubts.add(doubt(5, 5, true));
        doubts.add(doubt(9, 9, false));
        assert_eq!(doubts.since(0, 6, false), Some((2, doubt(1, 5, false))));
        assert_eq!(doubts.since(2, 100, false), Some((3, doubt(9, 9, false))));
        assert_eq!(doubts.since(3, 100, false), None);
        assert_eq!(doubts.since(0, 100, true), Some((2, doubt(5, 5, true))));
    }

    #[test]
    fn what_expired_out_of_turn_is_told_too() {
        let mut doubts = Doubts::default();
        doubts.add(doubt(9, 9, true));
        doubts.add(doubt(5, 5, true));
        assert_eq!(
            doubts.since(0, 6, true),
            Some((2, doubt(5, 9, true))),
            "behind the number 2 nobody looks again"
        );
    }

    #[test]
    fn what_expired_stays_told_apart_from_what_is_unconfirmed() {
        let mut doubts = Doubts::default();
        for n in 1..=1_000 {
            doubts.add(doubt(n, n, n % 2 == 0));
        }
        assert_eq!(doubts.since(0, 1_000, true), Some((1_000, doubt(2, 1_000, true))));
    }

    #[test]
    fn the_oldest_doubts_are_merged() {
        let mut doubts = Doubts::default();
        for n in 1..=1_000 {
            doubts.add(doubt(n, n, n > 1));
        }
        assert_eq!((doubts.unconfirmed.len(), doubts.expired.len()), (1, KEPT));
        assert_eq!(doubts.since(0, 2, false), Some((937, doubt(1, 937, false))));
        assert_eq!(doubts.since(999, 1_000, false), Some((1_000, doubt(1_000, 1_000, true))));
    }
}
