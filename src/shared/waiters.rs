//! Callers that wait for what others bring without a lock.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::AcqRel;
use std::time::Duration;

use crate::shared::sync::{AtomicUsize, Condvar, Mutex};

/// How many callers wait, and the lock that they wait by. Who wakes them takes it only if somebody waits.
pub(super) struct Waiters {
    count: AtomicUsize,
    lock: Mutex<()>,
    changed: Condvar,
}

impl Waiters {
    pub(super) fn new() -> Self {
        Self { count: AtomicUsize::new(0), lock: Mutex::new(()), changed: Condvar::new() }
    }

    /// Waits until it is woken, at most as long as `left` if that is given, unless `is_over` says that there is no need to.
    pub(super) fn wait(&self, left: Option<Duration>, is_over: impl FnOnce() -> bool) {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        // In order with the look of whoever wakes: either that sees this caller, or this caller sees what was brought.
        self.count.fetch_add(1, AcqRel);
        if !is_over() {
            match left {
                None => drop(self.changed.wait(lock).unwrap_or_else(PoisonError::into_inner)),
                Some(left) => {
                    drop(self.changed.wait_timeout(lock, left).unwrap_or_else(PoisonError::into_inner));
                }
            }
        }
        self.count.fetch_sub(1, AcqRel);
    }

    /// Wakes all callers that wait.
    pub(super) fn wake(&self) {
        if self.any() {
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    pub(super) fn any(&self) -> bool {
        self.count.fetch_add(0, AcqRel) > 0
    }
}
