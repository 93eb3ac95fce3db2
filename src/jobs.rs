//! THREAD `tautline-work`: does what a protocol wants done elsewhere, one piece after the other, and lives while there
//! is some. A piece may block; nothing interrupts it, and nobody waits for it.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;

use crate::error::Error;
use crate::message::Message;
use crate::session::{ConnectionId, Job};
use crate::shared::{Calls, Gate, Thread, ThreadHandle};

/// What came of a piece of work.
pub(crate) struct JobResult {
    pub(crate) connection: ConnectionId,
    pub(crate) id: u32,
    pub(crate) result: Result<Message, Error>,
}

/// Does the work of one client's protocol.
pub(crate) struct Jobs {
    results: Sender<JobResult>,
    gate: Arc<Gate>,
    /// The thread enters a piece under the lock of `shared`.
    calls: Arc<Calls>,
    shared: Arc<Mutex<State>>,
    thread: Option<ThreadHandle>,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Job>,
    /// The thread takes the next piece when it is through with this one.
    running: bool,
}

impl Jobs {
    pub(crate) fn new(results: Sender<JobResult>, gate: Arc<Gate>, calls: Arc<Calls>) -> Self {
        Self { results, gate, calls, shared: Arc::default(), thread: None }
    }

    /// Has this done.
    pub(crate) fn take(&mut self, piece: Job, stack: usize) {
        let (connection, id) = (piece.connection, piece.id);
        let mut state = lock(&self.shared);
        state.pieces.push_back(piece);
        if std::mem::replace(&mut state.running, true) {
            return;
        }
        drop(state);
        match self.spawn(stack) {
            Ok(thread) => self.thread = Some(thread),
            Err(source) => {
                lock(&self.shared).running = false;
                self.drop_pieces(|_| true);
                let error =
                    Error::System { what: "a thread for the protocol's work", source: Arc::new(source) };
                // The I/O thread, which is the caller, holds the other end.
                let _ = self.results.send(JobResult { connection, id, result: Err(error) });
            }
        }
    }

    fn spawn(&self, stack: usize) -> io::Result<ThreadHandle> {
        let (shared, results) = (Arc::clone(&self.shared), self.results.clone());
        let (gate, calls) = (Arc::clone(&self.gate), Arc::clone(&self.calls));
        Thread::Work.spawn(stack, move || run(&shared, &results, &gate, &calls))
    }

    /// A connection is gone: what was not begun for it is not done.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.drop_pieces(|piece| piece.connection == connection);
    }

    fn drop_pieces(&mut self, those: impl Fn(&Job) -> bool) {
        let mut state = lock(&self.shared);
        let (dropped, kept): (VecDeque<_>, _) =
            std::mem::take(&mut state.pieces).into_iter().partition(those);
        state.pieces = kept;
        drop(state);
        // Dropped outside the lock: it is the application's.
        let _ = catch_unwind(AssertUnwindSafe(|| self.calls.dispose(dropped)));
    }

    /// The client is closed. Returns what the thread is still inside of, if it is.
    pub(crate) fn end(&mut self) -> Option<Box<str>> {
        self.drop_pieces(|_| true);
        self.calls.keeps(Thread::Work, &self.thread.take()?)
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        // Where the I/O thread has panicked, some may wait.
        self.drop_pieces(|_| true);
    }
}

fn run(shared: &Mutex<State>, results: &Sender<JobResult>, gate: &Gate, calls: &Calls) {
    loop {
        let mut state = lock(shared);
        calls.leave(Thread::Work);
        let Some(Job { connection, id, work }) = state.pieces.pop_front() else {
            state.running = false;
            return;
        };
        let may = calls.enter(Thread::Work, "the protocol's work");
        drop(state);
        let result = if may { catch_unwind(AssertUnwindSafe(work)) } else { Ok(Err(Error::Closed)) };
        let result = result.unwrap_or(Err(Error::Panicked { callback: "work" }));
        // An I/O thread that is gone wants no result.
        let _ = results.send(JobResult { connection, id, result });
        gate.urgent();
    }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    // No code that can panic runs under the lock.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
