//! What the I/O thread reports of itself.

use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::event::{CloseReason, Undelivered};
use crate::handshake::Handshake;
use crate::session::{LostMessages, Watermarks};
use crate::shared::losses::Losses;
use crate::shared::sync::{Condvar, Mutex, MutexGuard};
use crate::state::ConnectionState;
use crate::stats::Stats;

/// What the I/O thread reports of itself.
pub(crate) struct Status {
    pub(super) inner: Mutex<Inner>,
    changed: Condvar,
}

pub(crate) struct Inner {
    pub(crate) state: ConnectionState,
    /// Since when.
    pub(crate) since: Instant,
    pub(crate) ready: bool,
    /// When the next attempt is made, if one is planned.
    pub(crate) next_attempt: Option<Instant>,
    /// The application has taken the line down.
    pub(crate) suspended: bool,
    /// What the server of the line's connection agreed to, if there is a connection.
    pub(crate) handshake: Option<Arc<Handshake>>,
    /// Why the line is down, if it is.
    pub(crate) last_failure: Option<Error>,
    /// Why the client closes, from the moment that this is decided.
    pub(crate) close_reason: Option<Arc<CloseReason>>,
    pub(crate) closed: Option<(CloseReason, Arc<Undelivered>)>,
    pub(crate) stats: Stats,
    pub(crate) watermarks: Watermarks,
    pub(crate) losses: Losses,
    /// Callers that wait for the watermarks to rise.
    pub(super) watching: usize,
}

impl Inner {
    /// Whether the fate of all these messages is known.
    pub(crate) fn knows(&self, tickets: RangeInclusive<u64>) -> bool {
        let (mut next, last) = tickets.into_inner();
        let Watermarks { settled, ahead, .. } = &self.watermarks;
        while next <= last {
            let at = ahead.partition_point(|run| *run.end() < next);
            let ahead = ahead.get(at).filter(|run| run.contains(&next)).map(|run| *run.end());
            let settled = Some(*settled).filter(|settled| next <= *settled);
            let Some(end) = settled.or(ahead).or_else(|| self.losses.run_end(next)) else { return false };
            next = end + 1;
        }
        true
    }

    /// The error of a call that a closed client can't serve.
    pub(crate) fn closed_error(&self) -> Error {
        Error::Closed { reason: self.close_reason.clone() }
    }
}

impl Status {
    pub(crate) fn new(now: Instant) -> Self {
        let inner = Inner {
            state: ConnectionState::Disconnected,
            since: now,
            ready: false,
            next_attempt: None,
            suspended: false,
            handshake: None,
            last_failure: None,
            close_reason: None,
            closed: None,
            stats: Stats::default(),
            watermarks: Watermarks::default(),
            losses: Losses::default(),
            watching: 0,
        };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&Inner) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the status, and wakes callers that wait for a change.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Changes the statistics, which nobody waits for.
    pub(crate) fn set_stats(&self, stats: Stats) {
        self.lock().stats = stats;
    }

    /// Sets how far the messages have come, and wakes callers that watch for that.
    pub(crate) fn set_watermarks(&self, watermarks: Watermarks, doubts: Vec<LostMessages>) {
        let mut inner = self.lock();
        let wake = inner.watching > 0 && (inner.watermarks != watermarks || !doubts.is_empty());
        // What was settled stays settled, even if the outbox does not remember it any more.
        let settled = watermarks.settled.max(inner.watermarks.settled);
        inner.watermarks = watermarks;
        inner.watermarks.settled = settled;
        for doubt in doubts {
            inner.losses.add(&doubt);
        }
        drop(inner);
        if wake {
            self.changed.notify_all();
        }
    }

    /// Waits until `look` finds something, or until the deadline.
    pub(crate) fn wait<R>(
        &self,
        deadline: Option<Instant>,
        remaining: impl Fn(Instant) -> Duration,
        mut look: impl FnMut(&Inner) -> Option<R>,
    ) -> Option<R> {
        let mut inner = self.lock();
        loop {
            if let Some(found) = look(&inner) {
                return Some(found);
            }
            inner = match deadline {
                None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = remaining(at);
                    if left.is_zero() {
                        return None;
                    }
                    self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Like [`wait`](Self::wait), but also watches the watermarks.
    pub(crate) fn watch<R>(
        &self,
        deadline: Option<Instant>,
        remaining: impl Fn(Instant) -> Duration,
        look: impl FnMut(&Inner) -> Option<R>,
    ) -> Option<R> {
        self.lock().watching += 1;
        let found = self.wait(deadline, remaining, look);
        self.lock().watching -= 1;
        found
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // After a panic under the lock, the value is still valid. The I/O thread's guard reports its end.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
