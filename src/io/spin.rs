//! Spins briefly before a sleep.
#![expect(clippy::disallowed_methods, reason = "it looks for some microseconds of the clock")]

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::config::deadline;
use crate::io::thread::{IoThread, Threads};
use crate::io::turn::{Moved, Turn};
use crate::shared::{Between, spin};

/// A thousand small messages are taken from a channel in a part of this.
const CHANNEL_PATIENCE: Duration = Duration::from_micros(300);

impl IoThread {
    /// Polls for a few more microseconds before the sleep. The answer to what was just sent, or the next message, is
    /// often on its way, and sleeping and waking cost more.
    pub(super) fn spin_before_park(&mut self, turn: &mut Turn<Threads>, now: Instant, moved: Moved) -> bool {
        let spin = turn.session.config().spin;
        if spin.is_zero() || !self.looks[moved as usize].wants() {
            return false;
        }
        let found = self.spin_until(turn, deadline(now, spin), moved);
        self.looks[moved as usize].note(found);
        found
    }

    /// While reading is paused, waits a little for a program that takes events from their channel, which wakes nobody. Without
    /// that, each pause would take the ms after which this thread looks.
    pub(super) fn spin_for_channel(&mut self, turn: &mut Turn<Threads>, now: Instant) -> bool {
        if !turn.is_paused() || !turn.publisher.has_channel() || !self.looks_for_room.wants() {
            return false;
        }
        let until = deadline(now, CHANNEL_PATIENCE);
        let look = || {
            let found = turn.publisher.is_half_empty();
            (found || turn.host.have_news() || turn.intake.has_news()).then_some(found)
        };
        // The program may share this processor.
        let found = spin(Between::Yield, look, || Instant::now() < until);
        self.looks_for_room.note(found == Some(true));
        found.is_some()
    }

    fn spin_until(&mut self, turn: &mut Turn<Threads>, until: Instant, moved: Moved) -> bool {
        let between = match moved {
            // The server may share this processor.
            Moved::Out => Between::Yield,
            Moved::In => Between::Hint,
        };
        let now = Cell::new(Instant::now());
        let look = || {
            let news = self.hears(turn, now.get()) || turn.host.have_news() || turn.intake.has_news();
            news.then_some(())
        };
        let goes_on = || {
            let spins = now.get() < until;
            now.set(Instant::now());
            spins
        };
        spin(between, look, goes_on).is_some()
    }

    /// Whether the sockets have brought anything. This may already read it.
    fn hears(&mut self, turn: &mut Turn<Threads>, now: Instant) -> bool {
        let takes = !turn.session.delivers() || turn.publisher.has_room();
        if turn.sockets.is_empty() {
            return false;
        }
        match turn.sockets.only() {
            // With only one socket to watch, and nothing to write, a read replaces the poll: it saves a system call for
            // each answer.
            Some(open) if takes && open.socket.spilled() == 0 => {
                let received = open.socket.received();
                open.socket.assume_readable();
                turn.read(now);
                let only = turn.sockets.only();
                let brought = only.as_ref().is_some_and(|open| open.socket.received() > received);
                let more = only.is_some_and(|open| open.may_have_more);
                // The bytes just read are not handed over yet, and so not counted: there might be no room for more.
                turn.already_read = brought;
                brought || more || turn.session.has_output()
            }
            _ => {
                // The proper wait will report an error again.
                let armed = turn.sockets.arm(&self.poller);
                let _ = armed.and_then(|()| self.poller.wait(None, Some(Duration::ZERO)));
                turn.sockets.hear(&self.poller);
                turn.sockets.have_news()
            }
        }
    }
}
