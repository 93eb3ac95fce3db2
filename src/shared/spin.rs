//! All waiting by spinning: which thread polls for some microseconds, for what, and when it skips that.
//!
//! Sleeping and waking takes two system calls and a thread switch. What is already on its way often arrives sooner.
//! Each kind of spinning states how it makes room for the thread that brings it: by yielding its processor, or only by
//! a spin hint.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

/// What a spinning thread does between two checks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Between {
    /// The thread that is waited for may need this processor.
    Yield,
    /// The thread that is waited for has a processor of its own.
    Hint,
}

/// How often a thread yields to the holder of the message queue's lock before it sleeps until the lock is free. The
/// lock is held for some tens of nanoseconds. With more sending threads than processors, sleeping takes several times
/// as long.
#[cfg(not(all(test, loom)))]
pub(crate) const YIELDS_FOR_LOCK: usize = 32;

/// How often a thread that finds no room in the outbox yields to the I/O thread before it sleeps until there is some.
const YIELDS_FOR_ROOM: usize = 100;

/// A caller that receives something, and waits again within this time, in ns, is in a conversation: it spins before it
/// sleeps.
pub(crate) const IN_CONVERSATION_NS: u64 = 50_000;

/// A caller spins this many times as long as the I/O thread: that thread and the server may have to be woken meanwhile.
pub(crate) const CALLERS_FACTOR: u64 = 20;

impl Between {
    fn relax(self) {
        match self {
            Self::Yield => std::thread::yield_now(),
            Self::Hint => std::hint::spin_loop(),
        }
    }
}

/// Polls until something is found, or until `goes_on` returns `false`.
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

/// Polls until something is found, at most this many times.
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

/// Spins until there is room in the outbox (`full` is false), or for a limited number of checks.
pub(crate) fn spin_for_room(full: &AtomicBool) {
    let _ = spin_times(Between::Yield, YIELDS_FOR_ROOM, || (!full.load(Relaxed)).then_some(()));
}

/// Decides when to spin before a sleep. Where the processors are busy (with the very threads that are waited for, if
/// there are few), or nothing is on its way, spinning finds nothing and costs its time. Each time it finds nothing, the
/// number of spins skipped after it doubles, up to 256.
#[derive(Debug, Default)]
pub(crate) struct AdaptiveSpin {
    left_out: AtomicU32,
    /// How many spins to skip after the next one that finds nothing.
    next: AtomicU32,
}

impl AdaptiveSpin {
    /// Whether it is time to spin.
    pub(crate) fn wants(&self) -> bool {
        let left_out = self.left_out.load(Relaxed);
        if left_out > 0 {
            // Threads that arrive at the same time may count as one: one spin more or less does no harm.
            self.left_out.store(left_out - 1, Relaxed);
        }
        left_out == 0
    }

    /// Records whether a spin found something.
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
