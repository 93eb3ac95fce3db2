//! The numbers of messages.

use std::fmt;
use std::ops::RangeInclusive;

/// The number of an accepted message: rises by one with each message of a client, in the order in which they go out.
/// Displayed as `#7`; for an id on the wire use [`number`](Self::number).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// Some [`Ticket`]s; may be none. Mostly one run of them: what expired or was withdrawn in between is not among them.
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

impl Ticket {
    /// The number itself. The first message of a client has 1.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl Tickets {
    /// The tickets after `after` up to `last`.
    pub(crate) fn between(after: u64, last: u64) -> Self {
        Self((after < last).then(|| after + 1..=last).into_iter().collect())
    }

    /// These and those.
    pub(crate) fn and(self, more: Self) -> Self {
        self.0.into_iter().chain(more.0).collect()
    }

    /// The runs of them, rising.
    pub(crate) fn into_runs(self) -> Vec<RangeInclusive<u64>> {
        self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|run| run.end() - run.start() + 1).sum()
    }

    /// Whether `ticket` is among them.
    pub fn contains(&self, ticket: Ticket) -> bool {
        self.0.iter().any(|run| run.contains(&ticket.0))
    }

    /// Each of them, rising.
    pub fn iter(&self) -> impl Iterator<Item = Ticket> {
        self.0.iter().cloned().flatten().map(Ticket)
    }
}

impl FromIterator<RangeInclusive<u64>> for Tickets {
    /// The tickets of these runs, in whatever order those come; some may be empty.
    fn from_iter<I: IntoIterator<Item = RangeInclusive<u64>>>(runs: I) -> Self {
        let mut runs: Vec<_> = runs.into_iter().filter(|run| !run.is_empty()).collect();
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
            if run.end() > run.start() {
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
}
