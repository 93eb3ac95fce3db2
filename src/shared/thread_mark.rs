//! The threads of this library: which of them is running, and a bounded wait for the end of one.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crate::logging::LOG;

thread_local! {
    static OURS: Cell<Option<Thread>> = const { Cell::new(None) };
}

/// How much larger the stack of an I/O thread is than those of the other threads, in bytes. The C library keeps the
/// stack of an ended thread for the next thread whose stack is no larger, and some of the pages that the ended thread
/// touched stay resident. An I/O thread lives long and touches little: on the stack of a thread that dialled for
/// another client, an idle client would cost 8 KiB more.
const ADDED_FOR_IO: usize = 64 << 10;

/// A thread of this library, on which callbacks of the application may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    Io,
    Dial,
    Work,
}

/// A thread that was started.
pub(crate) struct ThreadHandle {
    end: Arc<End>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A join has no timeout. So the last thing a thread does, when all it held has been dropped, is to signal that here.
#[derive(Default)]
struct End {
    reached: Mutex<bool>,
    changed: Condvar,
}

struct SignalsEnd(Arc<End>);

impl Thread {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Io => "tautline-io",
            Self::Dial => "tautline-dial",
            Self::Work => "tautline-work",
        }
    }

    /// Which of this library's threads is running, if any.
    pub(crate) fn current() -> Option<Self> {
        // A thread that is ending has no answer any more, and runs no callback either.
        OURS.try_with(Cell::get).unwrap_or_default()
    }

    /// Starts a thread.
    pub(crate) fn spawn(self, stack: usize, run: impl FnOnce() + Send + 'static) -> io::Result<ThreadHandle> {
        let end = Arc::<End>::default();
        let signals = SignalsEnd(Arc::clone(&end));
        let stack = if self == Self::Io { stack + ADDED_FOR_IO } else { stack };
        let thread = Builder::new().name(self.name().into()).stack_size(stack).spawn(move || {
            // Dropped after everything that `run` holds, whether or not it panics.
            let _signals = signals;
            OURS.set(Some(self));
            run();
        })?;
        Ok(ThreadHandle { end, thread: Mutex::new(Some(thread)) })
    }
}

impl ThreadHandle {
    /// Waits for the end of the thread, for `patience` at most. Returns whether it has ended. Once it has, every caller
    /// gets `true`.
    pub(crate) fn join_within(&self, patience: Duration) -> bool {
        let reached = self.end.reached.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.end.changed.wait_timeout_while(reached, patience, |reached| !*reached);
        let (reached, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !*reached {
            return false;
        }
        drop(reached);
        // A second caller waits here for the first.
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take()
            && thread.join().is_err()
        {
            log::error!(target: LOG, "a thread of the library panicked");
        }
        true
    }
}

impl Drop for SignalsEnd {
    fn drop(&mut self) {
        *self.0.reached.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: usize = 128 << 10;

    #[test]
    fn who_waits_for_a_thread_waits_until_all_that_it_held_was_dropped_or_for_so_long() {
        struct Slow(crossbeam_channel::Receiver<()>, Arc<Mutex<bool>>);
        impl Drop for Slow {
            fn drop(&mut self) {
                let _ = self.0.recv();
                *self.1.lock().unwrap() = true;
            }
        }
        for panics in [false, true] {
            let (go, held) = crossbeam_channel::bounded(0);
            let dropped = Arc::<Mutex<bool>>::default();
            let slow = Slow(held, Arc::clone(&dropped));
            let handle = Thread::Work.spawn(STACK, move || {
                let _slow = slow;
                assert_eq!(Thread::current(), Some(Thread::Work));
                assert!(!panics, "on purpose");
            });
            let handle = handle.unwrap();
            assert!(!handle.join_within(Duration::from_millis(10)));
            std::thread::scope(|scope| {
                let wait = || {
                    assert!(handle.join_within(Duration::MAX));
                    assert!(*dropped.lock().unwrap());
                };
                let waiting = [scope.spawn(wait), scope.spawn(wait)];
                drop(go);
                for thread in waiting {
                    thread.join().unwrap();
                }
            });
            assert!(handle.join_within(Duration::ZERO), "again");
        }
    }
}
