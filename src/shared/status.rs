//! What the I/O thread reports of itself.

use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::event::{CloseReason, Undelivered};
use crate::handshake::Handshake;
use crate::session::{LostMessages, Watermarks};
use crate::shared::counters::Counters;
use crate::shared::losses::Losses;
use crate::shared::sync::{Condvar, Mutex, MutexGuard};
use crate::state::ConnectionState;
use crate::stats::Stats;

/// What the I/O thread reports of itself. Callers wait for it under a lock. What they only look at, in calls that must wait
/// for nobody, stands beside that lock; none of the models depends on its order.
pub(crate) struct Status {
    pub(super) inner: Mutex<Inner>,
    changed: Condvar,
    /// The number of the state.
    state: AtomicU8,
    pub(crate) counters: Counters,
    /// Why the client closes, from the moment that this is decided.
    close_reason: OnceLock<Arc<CloseReason>>,
    /// Why it has closed. It is another reason if the I/O thread failed after the first was decided.
    ended: OnceLock<Arc<CloseReason>>,
    /// The reason of a client that its caller is about to close.
    by_caller: Arc<CloseReason>,
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
    pub(crate) closed: Option<(CloseReason, Arc<Undelivered>)>,
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
        Error::Closed { reason: self.closed.as_ref().map(|(reason, _)| Arc::new(reason.clone())) }
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
            closed: None,
            watermarks: Watermarks::default(),
            losses: Losses::default(),
            watching: 0,
        };
        Self {
            state: AtomicU8::new(inner.state as u8),
            inner: Mutex::new(inner),
            changed: Condvar::new(),
            counters: Counters::default(),
            close_reason: OnceLock::new(),
            ended: OnceLock::new(),
            by_caller: Arc::new(CloseReason::ByCaller),
        }
    }

    /// The state, without a lock.
    pub(crate) fn state(&self) -> ConnectionState {
        ConnectionState::from_number(self.state.load(Acquire))
    }

    /// Why the client closes or has closed, without a lock and without an allocation.
    pub(crate) fn close_reason(&self) -> Option<&Arc<CloseReason>> {
        self.ended.get().or_else(|| self.close_reason.get())
    }

    /// Why messages are refused. A caller that closes the client refuses further messages first, and its close follows. Any
    /// other reason is known before messages are refused.
    pub(crate) fn refusal(&self) -> &Arc<CloseReason> {
        self.close_reason().unwrap_or(&self.by_caller)
    }

    /// It is decided why the client closes. The first reason stays.
    pub(crate) fn set_close_reason(&self, reason: &CloseReason) {
        self.close_reason.get_or_init(|| Arc::new(reason.clone()));
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&Inner) -> R) -> R {
        look(&self.lock())
    }

    /// Changes the status, and wakes callers that wait for a change.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        change(&mut inner);
        if let Some((reason, _)) = &inner.closed {
            self.ended.get_or_init(|| Arc::new(reason.clone()));
        }
        self.state.store(inner.state as u8, Release);
        drop(inner);
        self.changed.notify_all();
    }

    /// Changes the statistics, which nobody waits for.
    pub(crate) fn set_stats(&self, stats: &Stats) {
        self.counters.store(stats);
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::QueueLimit;
    use crate::shared::{Intake, Offer};

    #[test]
    fn a_look_at_the_state_the_counters_and_the_reason_waits_for_no_lock() {
        #[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
        let status = Status::new(Instant::now());
        let intake = Intake::new(QueueLimit::default(), 100);
        intake.try_push(Offer::new("hello".into(), None, None)).unwrap();
        status.set_stats(&Stats { connects: 3, ..Stats::default() });
        status.set_close_reason(&CloseReason::ByCaller);
        status.update(|status| status.state = ConnectionState::Closing);
        let (status, intake) = (&status, &intake);
        let locks = (status.lock(), intake.queue.lock().unwrap());
        std::thread::scope(|scope| {
            let (way, seen) = crossbeam_channel::bounded(1);
            let look = move || {
                let mut counted = status.counters.load();
                intake.complete(&mut counted);
                let _ = way.send((status.state(), counted, status.close_reason().is_some()));
            };
            std::thread::Builder::new().name("looks".into()).spawn_scoped(scope, look).unwrap();
            let seen = seen.recv_timeout(Duration::from_secs(10));
            // A look that waits can only end without the locks.
            drop(locks);
            let expected = Stats {
                connects: 3,
                messages_accepted: 1,
                messages_queued: 1,
                bytes_queued: 5,
                ..Stats::default()
            };
            assert_eq!(seen, Ok((ConnectionState::Closing, expected, true)));
        });
    }
}
