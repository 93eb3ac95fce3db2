//! The numbers of accepted messages.

use std::fmt;
use std::ops::{RangeFrom, RangeFull, RangeInclusive, RangeToInclusive};

/// The number of an accepted message. It rises by one with each message of a client, in the order in which they are
/// written. Displayed as `#7`; for an id on the wire use [`number`](Self::number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// A set of [`Ticket`]s; may be empty.
///
/// Make one from a single ticket, from a list or a range, or by collecting an iterator. `..` stands for all tickets,
/// and `first..` for `first` and all after it; the range ends at the newest message accepted when a call takes it.
///
/// ```no_run
/// # use tautline::Event;
/// # fn _look(event: Event, mine: tautline::Ticket) {
/// if let Event::Disconnected { maybe_delivered, .. } = event {
///     println!("in doubt: {maybe_delivered}, mine among them: {}", maybe_delivered.contains(mine));
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tickets(Vec<RangeInclusive<u64>>);

/// Where the run of `first..` ends: no message has this number.
pub(crate) const OPEN: u64 = u64::MAX;

/// How many separate runs `send_all` keeps.
const APART: usize = 1024;

impl Ticket {
    /// Returns the number. The first message of a client has the number 1.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl Tickets {
    /// The tickets after `after` up to `last`.
    pub(crate) fn between(after: u64, last: u64) -> Self {
        Self((after < last).then(|| after + 1..=last).into_iter().collect())
    }

    /// The tickets of both.
    pub(crate) fn and(self, more: Self) -> Self {
        self.0.into_iter().chain(more.0).collect()
    }

    /// The runs of tickets, in rising order.
    pub(crate) fn runs(&self) -> &[RangeInclusive<u64>] {
        &self.0
    }

    /// These tickets, with an open run ended at `last`, the newest accepted ticket. The error is a ticket that is
    /// newer.
    pub(crate) fn of_accepted(mut self, last: u64) -> Result<Self, Ticket> {
        let Some((first, end)) = self.0.last().cloned().map(RangeInclusive::into_inner) else {
            return Ok(self);
        };
        if end == OPEN && first <= last + 1 {
            self.0.pop();
            self.0.extend((first <= last).then_some(first..=last));
        } else if end > last {
            return Err(Ticket(if end == OPEN { first } else { end }));
        }
        Ok(self)
    }

    /// Adds the tickets `first..=last`, which are newer than all of these. If there are too many runs, the two oldest
    /// are merged, with the tickets between them.
    pub(crate) fn push(&mut self, Ticket(first): Ticket, Ticket(last): Ticket) {
        match self.0.last_mut() {
            Some(run) if *run.end() + 1 == first => *run = *run.start()..=last,
            _ => self.0.push(first..=last),
        }
        if self.0.len() > APART {
            let oldest = self.0.remove(0);
            self.0[0] = *oldest.start()..=*self.0[0].end();
        }
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many tickets the set has.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|run| run.end() - run.start() + 1).sum()
    }

    /// Whether `ticket` is in the set.
    pub fn contains(&self, ticket: Ticket) -> bool {
        let at = self.0.partition_point(|run| *run.end() < ticket.0);
        self.0.get(at).is_some_and(|run| *run.start() <= ticket.0)
    }

    /// Returns the tickets in rising order.
    pub fn iter(&self) -> impl Iterator<Item = Ticket> {
        self.0.iter().cloned().flatten().map(Ticket)
    }
}

impl FromIterator<RangeInclusive<u64>> for Tickets {
    /// Collects the tickets of these runs, in any order. Runs may be empty. Tickets are counted from 1: there is no 0.
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u64>>>(runs: I) -> Self {
        let counted = runs.into_iter().map(|run| (*run.start()).max(1)..=*run.end());
        let mut runs: Vec<_> = counted.filter(|run| !run.is_empty()).collect();
        runs.sort_unstable_by_key(|run| *run.start());
        runs.dedup_by(|next, run| {
            let joins = *next.start() <= run.end().saturating_add(1);
            if joins {
                *run = *run.start()..=*run.end().max(next.end());
            }
            joins
        });
        Self(runs)
    }
}

impl FromIterator<Ticket> for Tickets {
    fn from_iter<I: IntoIterator<Item = Ticket>>(tickets: I) -> Self {
        tickets.into_iter().map(|ticket| ticket.0..=ticket.0).collect()
    }
}

impl From<Ticket> for Tickets {
    fn from(ticket: Ticket) -> Self {
        Self::from(ticket..=ticket)
    }
}

impl From<RangeInclusive<Ticket>> for Tickets {
    fn from(run: RangeInclusive<Ticket>) -> Self {
        [run.start().0..=run.end().0].into_iter().collect()
    }
}

impl From<RangeToInclusive<Ticket>> for Tickets {
    fn from(run: RangeToInclusive<Ticket>) -> Self {
        Self::from(Ticket(1)..=run.end)
    }
}

impl From<RangeFrom<Ticket>> for Tickets {
    fn from(run: RangeFrom<Ticket>) -> Self {
        Self::from(run.start..=Ticket(OPEN))
    }
}

impl From<RangeFull> for Tickets {
    fn from(_: RangeFull) -> Self {
        Self::from(Ticket(1)..)
    }
}

impl From<&[Ticket]> for Tickets {
    fn from(tickets: &[Ticket]) -> Self {
        tickets.iter().copied().collect()
    }
}

impl<const N: usize> From<[Ticket; N]> for Tickets {
    fn from(tickets: [Ticket; N]) -> Self {
        tickets.into_iter().collect()
    }
}

impl From<Vec<Ticket>> for Tickets {
    fn from(tickets: Vec<Ticket>) -> Self {
        tickets.into_iter().collect()
    }
}

impl From<&Vec<Ticket>> for Tickets {
    fn from(tickets: &Vec<Ticket>) -> Self {
        tickets.as_slice().into()
    }
}

impl From<&Self> for Tickets {
    fn from(tickets: &Self) -> Self {
        tickets.clone()
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (at, run) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}#{}", run.start())?;
            if *run.end() == OPEN {
                f.write_str(" and all behind it")?;
            } else if run.end() > run.start() {
                write!(f, " to #{}", run.end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_ticket_0() {
        let all: Tickets = [0..=u64::MAX].into_iter().collect();
        assert_eq!((all.len(), all.contains(Ticket(0))), (u64::MAX, false));
        assert!([0..=0].into_iter().collect::<Tickets>().is_empty());
    }

    #[test]
    fn tickets_name_runs() {
        let run = Tickets::between(3, 6);
        assert_eq!(run.to_string(), "#4 to #6");
        assert_eq!(run.len(), 3);
        assert_eq!(run.iter().map(Ticket::number).collect::<Vec<_>>(), [4, 5, 6]);
        assert!(run.contains(Ticket(4)) && run.contains(Ticket(6)));
        assert!(!run.contains(Ticket(3)) && !run.contains(Ticket(7)));
        assert!(Tickets::between(6, 6).is_empty());
        assert_eq!(Tickets::between(6, 6).len(), 0);
        let runs = Tickets::between(0, 2).and(Tickets::between(4, 5)).and(Tickets::default());
        assert_eq!((runs.to_string().as_str(), runs.len()), ("#1 to #2, #5", 3));
        assert!(runs.contains(Ticket(5)) && !runs.contains(Ticket(3)));
        let runs: Tickets = [7..=9, 5..=5, 1..=2, 8..=8, 3..=4].into_iter().collect();
        assert_eq!((runs.to_string().as_str(), runs.len()), ("#1 to #5, #7 to #9", 8));
    }

    #[test]
    fn tickets_are_made_from_one_a_list_or_a_range() {
        let [one, two, four] = [1, 2, 4].map(Ticket);
        let list = vec![four, one, two, one];
        let all: [Tickets; 4] =
            [(&list).into(), list[..].into(), [four, two, one].into(), list.iter().copied().collect()];
        assert!(all.iter().all(|tickets| tickets.to_string() == "#1 to #2, #4"), "{all:?}");
        let ranges: [Tickets; 5] =
            [two.into(), (one..=two).into(), (..=four).into(), (two..).into(), (..).into()];
        let texts = ["#2", "#1 to #2", "#1 to #4", "#2 and all behind it", "#1 and all behind it"];
        assert_eq!(ranges.map(|tickets| tickets.to_string()), texts);
        assert!(Tickets::from(two..=one).is_empty());
        assert!(Tickets::from(two..).contains(Ticket(7)) && !Tickets::from(two..).contains(one));
    }

    #[test]
    fn an_open_range_ends_at_the_newest_ticket_and_one_of_the_future_is_named() {
        let accepted = |tickets: Tickets, last| match tickets.of_accepted(last) {
            Ok(tickets) => tickets.to_string(),
            Err(ticket) => format!("not {ticket}"),
        };
        assert_eq!(accepted((..).into(), 0), "none");
        assert_eq!(accepted((..).into(), 3), "#1 to #3");
        assert_eq!(accepted((Ticket(3)..).into(), 3), "#3");
        assert_eq!(accepted((Ticket(4)..).into(), 3), "none");
        assert_eq!(accepted((Ticket(5)..).into(), 3), "not #5");
        assert_eq!(accepted([Ticket(2), Ticket(5)].into(), 3), "not #5");
        assert_eq!(accepted(Tickets::default(), 0), "none");
    }

    #[test]
    fn many_runs_of_pushed_tickets_cost_little() {
        let mut tickets = Tickets::default();
        for n in 1..=2_000 {
            tickets.push(Ticket(3 * n), Ticket(3 * n));
            tickets.push(Ticket(3 * n + 1), Ticket(3 * n + 1));
        }
        assert_eq!(tickets.runs().len(), APART);
        assert!(
            tickets.runs()[0] == (3..=2_932) && tickets.runs()[1] == (2_934..=2_935),
            "{:?}",
            &tickets.runs()[..2]
        );
    }
}
