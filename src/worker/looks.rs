//! A last look before a sleep.

use std::time::{Duration, Instant};

use crate::config::deadline;
use crate::worker::Worker;

/// What a turn has moved.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moved {
    /// Messages out alone: an answer may follow.
    Out = 0,
    /// Messages in: the application's next may follow.
    In = 1,
}

/// When to look again. Where the processors are taken (by the very threads that are waited for, when there are few) a
/// look is in vain and costs its time, so that each in vain doubles the number of those left out.
#[derive(Debug, Default)]
pub(super) struct Looks {
    left_out: u32,
    /// How many are left out after the next in vain.
    next: u32,
}

impl Looks {
    fn wants(&mut self) -> bool {
        let due = self.left_out == 0;
        self.left_out = self.left_out.saturating_sub(1);
        due
    }

    fn note(&mut self, found: bool) {
        const MOST: u32 = 256;
        self.left_out = if found { 0 } else { self.next };
        self.next = if found { 0 } else { (2 * self.next).clamp(1, MOST) };
    }
}

impl Worker {
    /// Looks again for a few microseconds: the answer to what has just moved, or the next message, is often on its way,
    /// and to sleep and be woken costs more.
    pub(super) fn linger(&mut self, now: Instant, moved: Moved) -> bool {
        let spin = self.settings.config.spin;
        if spin.is_zero() || !self.looks[moved as usize].wants() {
            return false;
        }
        let found = self.look(deadline(now, spin));
        self.looks[moved as usize].note(found);
        found
    }

    fn look(&mut self, until: Instant) -> bool {
        loop {
            if self.socket.is_some() {
                // An error here shows again in the wait proper.
                let _ = self.wait_for_sockets(Some(Duration::ZERO));
            }
            if self.socket.as_ref().is_some_and(|socket| socket.is_readable() || socket.has_room())
                || self.others.have_news()
            {
                return true;
            }
            let news = !self.commands.is_empty() || !self.results.is_empty() || !self.worked.is_empty();
            if news || self.shared.intake.has_news() {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_in_vain_grow_rare_and_one_that_pays_is_repeated() {
        let mut looks = Looks::default();
        let made = |looks: &mut Looks, turns: u32, found: bool| {
            (0..turns)
                .filter(|_| {
                    looks.wants() && {
                        looks.note(found);
                        true
                    }
                })
                .count()
        };
        assert_eq!(made(&mut looks, 100, true), 100);
        assert!(made(&mut looks, 1_000, false) < 15);
        assert!(made(&mut looks, 1_000, false) < 6, "one in 257");
        made(&mut looks, 257, true);
        assert_eq!(made(&mut looks, 100, true), 100);
    }
}
