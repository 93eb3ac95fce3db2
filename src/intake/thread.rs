//! The threads of this library.

use std::cell::Cell;

thread_local! {
    static OURS: Cell<Option<Thread>> = const { Cell::new(None) };
}

/// A thread of this library, on which callbacks of the application may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    Io,
    Dial,
    Work,
}

impl Thread {
    /// Marks the running thread as one of ours.
    pub(crate) fn mark(self) {
        OURS.set(Some(self));
    }

    /// Which of ours is running.
    pub(crate) fn current() -> Option<Self> {
        // A thread that is ending has no answer any more, and runs no callback either.
        OURS.try_with(Cell::get).unwrap_or_default()
    }
}
