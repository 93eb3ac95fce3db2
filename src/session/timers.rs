//! The timers of a protocol, which belong to one connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::deadline;

/// The shortest timer. One that ran out at once would leave no time for anything else.
const SHORTEST: Duration = Duration::from_millis(1);

/// How many timers may be set at a time.
pub(super) const MOST_TIMERS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Timers(BTreeMap<u32, Timer>);

#[derive(Clone, Copy, Debug)]
struct Timer {
    at: Instant,
    /// For part of the time since it was set, the connection was not read.
    missed_input: bool,
}

impl Timers {
    /// Sets a timer. Returns `false` if there would be too many.
    pub(super) fn set(&mut self, now: Instant, id: u32, after: Duration, missed_input: bool) -> bool {
        self.0.insert(id, Timer { at: deadline(now, after.max(SHORTEST)), missed_input });
        self.0.len() <= MOST_TIMERS
    }

    pub(super) fn cancel(&mut self, id: u32) {
        self.0.remove(&id);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Reading pauses, so what the timers wait for may go unread.
    pub(super) fn miss_input(&mut self) {
        self.0.values_mut().for_each(|timer| timer.missed_input = true);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.0.values().map(|timer| timer.at).min()
    }

    /// The timers that have run out.
    pub(super) fn due(&self, now: Instant) -> Vec<u32> {
        self.0.iter().filter(|(_, timer)| timer.at <= now).map(|(id, _)| *id).collect()
    }

    /// Takes a timer that has run out, unless it was cancelled or set anew meanwhile. Returns whether input was missed.
    pub(super) fn take_due(&mut self, now: Instant, id: u32) -> Option<bool> {
        self.0.get(&id).filter(|timer| timer.at <= now)?;
        self.0.remove(&id).map(|timer| timer.missed_input)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_timer_runs_out_once_and_one_that_was_set_anew_or_cancelled_not_at_its_old_time() {
        let start = Instant::now();
        let mut timers = Timers::default();
        assert!(
            timers.set(start, 1, S, false) && timers.set(start, 2, S, false) && timers.set(start, 3, S, true)
        );
        assert_eq!(timers.next_deadline(), Some(start + S));
        assert_eq!(timers.due(start + S), [1, 2, 3]);
        timers.cancel(1);
        timers.set(start + S, 2, S, false);
        let taken = |timers: &mut Timers, id| timers.take_due(start + S, id);
        assert_eq!([1, 2, 3, 3].map(|id| taken(&mut timers, id)), [None, None, Some(true), None]);
        assert_eq!(timers.next_deadline(), Some(start + 2 * S));
    }

    #[test]
    fn those_that_run_while_input_is_missed_know_it() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.set(start, 1, S, false);
        timers.miss_input();
        timers.set(start, 2, Duration::ZERO, false);
        assert_eq!((timers.take_due(start + S, 1), timers.take_due(start + S, 2)), (Some(true), Some(false)));
    }

    #[test]
    fn there_may_be_so_many_and_none_runs_out_at_once() {
        let start = Instant::now();
        let mut timers = Timers::default();
        assert!((0..1024).all(|id| timers.set(start, id, Duration::ZERO, false)));
        assert!(timers.due(start).is_empty());
        assert!(timers.set(start, 0, S, false), "in place of another");
        assert!(!timers.set(start, 1024, S, false));
    }
}
