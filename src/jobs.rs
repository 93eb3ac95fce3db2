//! THREAD `tautline-work`: runs the jobs of a protocol, one after the other, and ends when there are none left. A job
//! may block; nothing interrupts it, and nobody waits for it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;

use crate::error::{CloseReason, Error};
use crate::message::Message;
use crate::panics::caught;
use crate::session::{ConnectionId, Job};
use crate::shared::{Calls, Gate, Thread, ThreadHandle};

/// The result of a job.
pub(crate) struct JobResult {
    pub(crate) connection: ConnectionId,
    pub(crate) id: u32,
    pub(crate) result: Result<Message, Error>,
}

/// Runs the jobs of one client's protocol.
pub(crate) struct Jobs {
    results: Sender<JobResult>,
    gate: Arc<Gate>,
    /// The thread registers a job here under the lock of `shared`.
    calls: Arc<Calls>,
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Job>,
    /// The thread takes the next job when it has finished this one.
    running: bool,
}

impl Jobs {
    pub(crate) fn new(results: Sender<JobResult>, gate: Arc<Gate>, calls: Arc<Calls>) -> Self {
        Self { results, gate, calls, shared: Arc::default() }
    }

    /// Queues a job, and starts the thread if need be.
    pub(crate) fn take(&mut self, piece: Job, stack: usize) {
        let (connection, id) = (piece.connection, piece.id);
        let mut state = lock(&self.shared);
        state.pieces.push_back(piece);
        if std::mem::replace(&mut state.running, true) {
            return;
        }
        drop(state);
        if let Err(source) = self.spawn(stack) {
            lock(&self.shared).running = false;
            self.drop_pieces(|_| true);
            let error = Error::System { what: "a thread for the protocol's work", source: Arc::new(source) };
            // The I/O thread, which is the caller, holds the receiver.
            let _ = self.results.send(JobResult { connection, id, result: Err(error) });
        }
    }

    fn spawn(&self, stack: usize) -> io::Result<Arc<ThreadHandle>> {
        let (shared, results) = (Arc::clone(&self.shared), self.results.clone());
        let (gate, calls) = (Arc::clone(&self.gate), Arc::clone(&self.calls));
        self.calls.spawn(Thread::Work, stack, move |begun| run(&shared, &results, &gate, &calls, &begun))
    }

    /// A connection is gone: its jobs that were not begun are dropped.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.drop_pieces(|piece| piece.connection == connection);
    }

    fn drop_pieces(&mut self, those: impl Fn(&Job) -> bool) {
        let mut state = lock(&self.shared);
        let (dropped, kept): (VecDeque<_>, _) =
            std::mem::take(&mut state.pieces).into_iter().partition(those);
        state.pieces = kept;
        drop(state);
        // Dropped outside the lock, because the jobs are the application's code.
        let _ = caught(|| self.calls.dispose(dropped));
    }

    /// The client is closed: the thread ends after the job under way.
    pub(crate) fn end(&mut self) {
        self.drop_pieces(|_| true);
    }
}

impl Drop for Jobs {
    fn drop(&mut self) {
        // If the I/O thread has panicked, some jobs may still wait.
        self.drop_pieces(|_| true);
    }
}

fn run(
    shared: &Mutex<State>,
    results: &Sender<JobResult>,
    gate: &Gate,
    calls: &Calls,
    begun: &Result<(), Error>,
) {
    loop {
        let mut state = lock(shared);
        let Some(Job { connection, id, work }) = state.pieces.pop_front() else {
            state.running = false;
            return;
        };
        let may = calls.enter(Thread::Work, "the protocol's work");
        drop(state);
        let result = match begun {
            Err(error) => Err(error.clone()),
            Ok(()) if may => caught(work).unwrap_or(Err(Error::Panicked { callback: "work" })),
            Ok(()) => Err(CloseReason::ByCaller.into_error()),
        };
        // An end that follows the result waits for the thread.
        calls.leave(Thread::Work);
        // If the I/O thread has ended, nobody needs the result.
        let _ = results.send(JobResult { connection, id, result });
        gate.urgent();
    }
}

fn lock(shared: &Mutex<State>) -> MutexGuard<'_, State> {
    // No code that can panic runs under the lock.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
