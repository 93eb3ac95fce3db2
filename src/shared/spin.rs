//! Whether a last look before a sleep pays.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// When to look again for a few microseconds before a sleep. Where the processors are taken (by the very threads that are
/// waited for, when there are few), or nothing is on its way, a look is in vain and costs its time, so that each in vain
/// doubles the number of those left out.
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
        const MOST: u32 = 200;
        let number = self.number.load(Relaxed);
        if number & 1 == 0 || self.given_up.load(Relaxed) == number {
            return;
        }
        for _ in 0..MOST {
            std::hint::spin_loop();
            if self.number.load(Relaxed) != number {
                return;
            }
        }
        self.given_up.store(number, Relaxed);
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
