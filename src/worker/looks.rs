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

impl Worker {
    /// Looks again for a few microseconds: the answer to what has just moved, or the next message, is often on its way,
    /// and to sleep and be woken costs more.
    pub(super) fn linger(&mut self, now: Instant, moved: Moved) -> bool {
        let spin = self.settings.config.spin;
        if spin.is_zero() || !self.looks[moved as usize].wants() {
            return false;
        }
        let found = self.look(deadline(now, spin), moved);
        self.looks[moved as usize].note(found);
        found
    }

    fn look(&mut self, until: Instant, moved: Moved) -> bool {
        loop {
            let now = Instant::now();
            if self.hears(now) {
                return true;
            }
            let news = !self.commands.is_empty() || !self.results.is_empty() || !self.worked.is_empty();
            if news || self.shared.intake.has_news() {
                return true;
            }
            if now >= until {
                return false;
            }
            match moved {
                // The server may share this processor.
                Moved::Out => std::thread::yield_now(),
                Moved::In => std::hint::spin_loop(),
            }
        }
    }

    /// Whether there is anything from the sockets, some of which may have been read already.
    fn hears(&mut self, now: Instant) -> bool {
        let takes = !self.session.delivers() || self.publisher.has_room();
        if self.sockets.is_empty() {
            return false;
        }
        match self.sockets.only() {
            // To read is to ask, where there is nothing else to be told: it saves a system call for each answer.
            Some(open) if takes && open.socket.spilled() == 0 => {
                let received = open.socket.received();
                open.socket.assume_readable();
                self.read(now);
                let only = self.sockets.only();
                let brought = only.as_ref().is_some_and(|open| open.socket.received() > received);
                let more = only.is_some_and(|open| open.may_have_more);
                // What it brought is not handed over yet, and so not counted: there might be no room for more.
                self.heard = brought;
                brought || more || self.session.has_output()
            }
            _ => {
                // An error here shows again in the wait proper.
                let _ = self.sockets.wait(&mut self.poller, Some(Duration::ZERO));
                self.sockets.have_news()
            }
        }
    }
}
