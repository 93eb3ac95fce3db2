//! The threads of this library: which of them is running, and a bounded wait for the end of one.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, JoinHandle, ThreadId};
use std::time::Duration;

use crate::logging::LOG;
use crate::system::threads;

thread_local! {
    static OURS: Cell<Option<Thread>> = const { Cell::new(None) };
    /// Set before anything else of a thread. The values of a thread are dropped in the reverse of the order in which they were
    /// first used, so that this one signals the end when those of the application have been dropped.
    static END: Cell<Option<SignalsEnd>> = const { Cell::new(None) };
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
    kind: Thread,
    id: ThreadId,
    end: Arc<End>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The threads of one client.
pub(crate) struct Threads {
    /// What their names begin with.
    name: Box<str>,
    /// Those that were started and have not been joined, in the order of their starts.
    started: Mutex<Vec<Arc<ThreadHandle>>>,
}

/// A thread that a wait was given up for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) thread: Thread,
    /// A thread that a library starts while it is being loaded may have to wait until that is done.
    pub(crate) has_begun: bool,
}

/// A join has no timeout. So the last thing a thread does, when all it held has been dropped, is to signal that here.
#[derive(Default)]
struct End {
    begun: AtomicBool,
    reached: Mutex<bool>,
    changed: Condvar,
}

struct SignalsEnd(Arc<End>);

impl Thread {
    /// Which of this library's threads is running, if any.
    pub(crate) fn current() -> Option<Self> {
        // A thread that is ending has no answer any more, and runs no callback either.
        OURS.try_with(Cell::get).unwrap_or_default()
    }

    /// Starts a thread.
    fn spawn(
        self,
        name: String,
        stack: usize,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<ThreadHandle> {
        let end = Arc::<End>::default();
        let signals = SignalsEnd(Arc::clone(&end));
        let stack = if self == Self::Io { stack + ADDED_FOR_IO } else { stack };
        let builder = Builder::new().name(name).stack_size(stack);
        let thread = threads::spawn(builder, move || {
            signals.0.begun.store(true, SeqCst);
            // Dropped after everything that `run` holds, whether or not it panics.
            END.set(Some(signals));
            OURS.set(Some(self));
            run();
        })?;
        let id = thread.thread().id();
        Ok(ThreadHandle { kind: self, id, end, thread: Mutex::new(Some(thread)) })
    }
}

impl Threads {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.into(), started: Mutex::default() }
    }

    /// Whether the caller is one of them.
    pub(crate) fn has_caller(&self) -> bool {
        let caller = thread::current().id();
        self.lock().iter().any(|thread| thread.id == caller)
    }

    pub(crate) fn name(&self, thread: Thread) -> String {
        let kind = match thread {
            Thread::Io => "io",
            Thread::Dial => "dial",
            Thread::Work => "work",
        };
        format!("{}-{kind}", self.name)
    }

    /// Starts a thread.
    pub(crate) fn spawn(
        &self,
        thread: Thread,
        stack: usize,
        run: impl FnOnce() + Send + 'static,
    ) -> io::Result<Arc<ThreadHandle>> {
        let handle = Arc::new(thread.spawn(self.name(thread), stack, run)?);
        let mut threads = self.lock();
        threads.retain(|other| !other.join_within(Duration::ZERO));
        threads.push(Arc::clone(&handle));
        Ok(handle)
    }

    /// Those that are not the thread of the I/O, sorted by their kinds.
    pub(crate) fn others(&self) -> Vec<(Thread, Arc<ThreadHandle>)> {
        let started = self.lock();
        let of = |kind| {
            started
                .iter()
                .filter(move |thread| thread.kind == kind)
                .map(move |thread| (kind, Arc::clone(thread)))
        };
        of(Thread::Dial).chain(of(Thread::Work)).collect()
    }

    /// Waits for the end of all threads, until `left` returns zero. Returns those that have not ended by then.
    pub(crate) fn join(&self, left: impl Fn() -> Duration) -> Vec<Running> {
        loop {
            // The I/O thread is the first. When it has ended, nobody starts another one.
            let Some(next) = self.lock().first().cloned() else { return Vec::new() };
            let ended = next.join_within(left());
            let mut threads = self.lock();
            threads.retain(|thread| !thread.join_within(Duration::ZERO));
            if !ended {
                return threads.iter().map(|thread| thread.running()).collect();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<ThreadHandle>>> {
        // No code that can panic runs under the lock.
        self.started.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ThreadHandle {
    fn running(&self) -> Running {
        Running { thread: self.kind, has_begun: self.end.begun.load(SeqCst) }
    }

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
            let threads = Threads::new("tautline");
            let handle = threads.spawn(Thread::Work, STACK, move || {
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

    #[test]
    fn the_end_of_a_thread_follows_the_drop_of_what_the_application_keeps_in_it() {
        struct Kept(crossbeam_channel::Receiver<()>);
        impl Drop for Kept {
            fn drop(&mut self) {
                let _ = self.0.recv();
            }
        }
        thread_local!(static KEPT: Cell<Option<Kept>> = const { Cell::new(None) });
        let (go, held) = crossbeam_channel::bounded(0);
        let threads = Threads::new("tautline");
        let handle = threads.spawn(Thread::Io, STACK, move || KEPT.set(Some(Kept(held)))).unwrap();
        assert!(!handle.join_within(Duration::from_millis(20)), "its drop has not returned");
        drop(go);
        assert!(handle.join_within(Duration::MAX));
    }

    #[test]
    fn all_threads_of_a_client_are_waited_for_and_those_that_run_are_named() {
        let (go, held) = crossbeam_channel::bounded::<()>(0);
        let threads = Threads::new("tautline");
        threads.spawn(Thread::Io, STACK, || ()).unwrap();
        let (begun_in, begun) = crossbeam_channel::bounded(1);
        let wait = move || {
            begun_in.send(()).unwrap();
            let _ = held.recv();
        };
        threads.spawn(Thread::Dial, STACK, wait).unwrap();
        begun.recv().unwrap();
        let running = threads.join(|| Duration::from_millis(20));
        assert_eq!(running, [Running { thread: Thread::Dial, has_begun: true }]);
        drop(go);
        assert_eq!(threads.join(|| Duration::MAX), []);
    }
}
