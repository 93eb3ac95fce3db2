//! Which process this is. A child made by fork has copies of what its parent had, and none of the threads that served it.

use crossbeam_utils::atomic::AtomicCell;
#[cfg(unix)]
use forkguard::{atfork, pid};

/// The process in which this value was made. To compare it costs one load of an atomic: a handler that the C library calls
/// in each child counts the forks. No system but Unix can fork.
///
/// The first one of a process takes a lock while it registers that handler. If another thread forks in this moment, the child
/// can't make one.
pub(crate) struct Process {
    #[cfg(unix)]
    guard: Guard,
}

#[cfg(unix)]
enum Guard {
    Counted(atfork::Guard),
    /// The system refuses the handler. This one costs a system call.
    Id(pid::Guard),
}

/// A value that each process has for itself. There is no lock that another thread may hold during a fork; the value of
/// the parent stays where it is, and is never dropped.
pub(crate) struct PerProcess<T: 'static>(AtomicCell<Option<Own<T>>>);

/// Compared by its place.
struct Own<T: 'static>(&'static (Process, T));

impl Process {
    pub(crate) fn current() -> Self {
        Self {
            #[cfg(unix)]
            guard: atfork::Guard::try_new().map_or_else(|_| Guard::Id(pid::Guard::default()), Guard::Counted),
        }
    }

    /// Whether the caller is in that process.
    #[cfg(unix)]
    pub(crate) fn is_current(&self) -> bool {
        // A clone, because a guard reports a fork only once.
        !match &self.guard {
            Guard::Counted(guard) => guard.clone().detected_fork(),
            Guard::Id(guard) => guard.clone().detected_fork(),
        }
    }

    /// Whether the caller is in that process.
    #[cfg(not(unix))]
    #[expect(clippy::unused_self, reason = "there is no other")]
    pub(crate) fn is_current(&self) -> bool {
        true
    }
}

impl<T: Default + Send + Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicCell::new(None))
    }

    /// The value of this process. The first call makes it.
    pub(crate) fn get(&self) -> &'static T {
        loop {
            let found = self.0.load();
            if let Some(Own((process, value))) = found
                && process.is_current()
            {
                return value;
            }
            let own = Own(Box::leak(Box::new((Process::current(), T::default()))));
            // Another thread may have been faster.
            if self.0.compare_exchange(found, Some(own)).is_ok() {
                return &own.0.1;
            }
        }
    }
}

impl<T> Clone for Own<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Own<T> {}

impl<T> PartialEq for Own<T> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl<T> Eq for Own<T> {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::thread;

    #[test]
    fn all_threads_of_a_process_have_one_value_which_takes_no_lock() {
        static COUNT: PerProcess<Mutex<u32>> = PerProcess::new();
        assert!(AtomicCell::<Option<Own<Mutex<u32>>>>::is_lock_free());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| *COUNT.get().lock().unwrap() += 1);
            }
        });
        assert_eq!(*COUNT.get().lock().unwrap(), 8);
        assert!(Process::current().is_current());
    }
}
