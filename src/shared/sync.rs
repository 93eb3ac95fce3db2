//! The locks and atomics of this folder: the standard library's or, in the models, loom's, which tries every order.

#[cfg(not(all(test, loom)))]
pub(super) use crossbeam_utils::atomic::AtomicCell;
#[cfg(all(test, loom))]
pub(super) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
#[cfg(all(test, loom))]
pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(test, loom)))]
pub(super) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
#[cfg(not(all(test, loom)))]
pub(super) use std::sync::{Condvar, Mutex, MutexGuard};

/// Stands for crossbeam's cell, whose swaps are in one order and acquire and release: so are the turns of a lock.
#[cfg(all(test, loom))]
pub(super) struct AtomicCell<T>(Mutex<T>);

#[cfg(all(test, loom))]
impl<T> AtomicCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(super) fn swap(&self, value: T) -> T {
        std::mem::replace(&mut *self.0.lock().unwrap(), value)
    }

    pub(super) fn take(&self) -> T
    where
        T: Default,
    {
        self.swap(T::default())
    }
}
