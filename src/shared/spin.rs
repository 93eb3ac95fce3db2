//! All waiting by spinning: who looks again for some microseconds, for what, and when that is left out.
//!
//! To sleep and to be woken takes two system calls and a change of threads. What is on its way already is often there
//! sooner. Each kind says how it makes room for whoever brings it: it yields its processor, or only hints that it spins.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// What a thread that spins does between two looks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Between {
    /// Whoever brings what is looked for may need this processor.
    Yield,
    /// He has one of his own.
    Hint,
}

/// A thread makes way so often for whoever holds the queue of messages, before it sleeps until he leaves it. He holds it
/// for some tens of nanoseconds: where more threads send than there are processors, to sleep makes it several times as slow.
#[cfg(not(all(test, loom)))]
pub(crate) const YIELDS_FOR_LOCK: usize = 32;

/// A thread that finds no room in the outbox makes way so often for the I/O thread, before it sleeps until there is some.
const YIELDS_FOR_ROOM: usize = 100;

/// A caller who takes something, and waits again within this time, in ns, is in a conversation: he looks before he sleeps.
pub(crate) const IN_CONVERSATION_NS: u64 = 50_000;

/// A caller looks so many times as long as the I/O thread does: that thread and the server may have to be woken meanwhile.
pub(crate) const CALLERS_FACTOR: u64 = 20;

impl Between {
    fn relax(self) {
        match self {
            Self::Yield => std::thread::yield_now(),
            Self::Hint => std::hint::spin_loop(),
        }
    }
}

/// Looks until something is found, or until `goes_on` says no.
pub(crate) fn spin<T>(
    between: Between,
    mut look: impl FnMut() -> Option<T>,
    mut goes_on: impl FnMut() -> bool,
) -> Option<T> {
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if !goes_on() {
            return None;
        }
        between.relax();
    }
}

/// Looks until something is found, so many times at most.
pub(crate) fn spin_times<T>(
    between: Between,
    mut times: usize,
    look: impl FnMut() -> Option<T>,
) -> Option<T> {
    let goes_on = || {
        times -= 1;
        times > 0
    };
    spin(between, look, goes_on)
}

/// Looks again for room in the outbox, until `full` is not so or it took long enough.
pub(crate) fn spin_for_room(full: &AtomicBool) {
    let _ = spin_times(Between::Yield, YIELDS_FOR_ROOM, || (!full.load(Relaxed)).then_some(()));
}

/// When to look again before a sleep. Where the processors are taken (by the very threads that are waited for, when there are
/// few), or nothing is on its way, a look finds nothing and costs its time: each such look doubles the number of those left
/// out, up to 256.
#[derive(Debug, Default)]
pub(crate) struct AdaptiveSpin {
    left_out: AtomicU32,
    /// How many are left out after the next in vain.
    next: AtomicU32,
}

impl AdaptiveSpin {
    /// Whether it is time for a look.
    pub(crate) fn wants(&self) -> bool {
        let left_out = self.left_out.load(Relaxed);
        if left_out > 0 {
            // Threads that come at once may count as one: a look more or less does no harm.
            self.left_out.store(left_out - 1, Relaxed);
        }
        left_out == 0
    }

    /// What came of a look.
    pub(crate) fn note(&self, found: bool) {
        const MOST: u32 = 256;
        let next = self.next.load(Relaxed);
        self.left_out.store(if found { 0 } else { next }, Relaxed);
        self.next.store(if found { 0 } else { (2 * next).clamp(1, MOST) }, Relaxed);
    }
}

/// Whether the I/O thread is handing many events over. One who takes each as it comes would fight with it over the memory
/// in which both meet, and make each several times as dear; when the burst is over, all of it is there for the taking.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    /// Odd while one is under way.
    number: AtomicU32,
    /// The one that somebody has waited for in vain: the I/O thread may be off its processor.
    given_up: AtomicU32,
}

impl Burst {
    pub(crate) fn begin(&self) {
        self.number.fetch_or(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        let number = self.number.load(Relaxed);
        if number & 1 == 1 {
            self.number.store(number.wrapping_add(1), Relaxed);
        }
    }

    /// Stands back while a burst is under way, for some microseconds at most.
    pub(crate) fn wait_out_burst(&self) {
        const MOST: usize = 200;
        let number = self.number.load(Relaxed);
        if number & 1 == 0 || self.given_up.load(Relaxed) == number {
            return;
        }
        let over = || (self.number.load(Relaxed) != number).then_some(());
        if spin_times(Between::Hint, MOST, over).is_none() {
            self.given_up.store(number, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_back_goes_on_when_the_burst_is_over_or_takes_too_long() {
        let burst = Burst::default();
        burst.end();
        burst.wait_out_burst();
        assert_eq!(burst.given_up.load(Relaxed), 0, "there is none");
        burst.begin();
        burst.wait_out_burst();
        assert_eq!(burst.given_up.load(Relaxed), 1, "the I/O thread is off its processor");
        burst.end();
        burst.begin();
        assert_eq!(burst.number.load(Relaxed), 3);
        std::thread::scope(|scope| {
            scope.spawn(|| burst.wait_out_burst());
            burst.end();
        });
        assert_eq!(burst.number.load(Relaxed), 4);
    }

    #[test]
    fn looks_in_vain_grow_rare_and_one_that_pays_is_repeated() {
        let looks = AdaptiveSpin::default();
        let made = |turns: u32, found: bool| {
            (0..turns)
                .filter(|_| {
                    looks.wants() && {
                        looks.note(found);
                        true
                    }
                })
                .count()
        };
        assert_eq!(made(100, true), 100);
        assert!(made(1_000, false) < 15);
        assert!(made(1_000, false) < 6, "one in 257");
        made(257, true);
        assert_eq!(made(100, true), 100);
    }
}
