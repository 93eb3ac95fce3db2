//! Whether a last look before a sleep pays.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// When to look again for a few microseconds before a sleep. Where the processors are taken (by the very threads that are
/// waited for, when there are few), or nothing is on its way, a look is in vain and costs its time, so that each in vain
/// doubles the number of those left out.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    left_out: AtomicU32,
    /// How many are left out after the next in vain.
    next: AtomicU32,
}

impl Looks {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_in_vain_grow_rare_and_one_that_pays_is_repeated() {
        let looks = Looks::default();
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
