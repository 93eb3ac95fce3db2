//! THREAD `tautline-timer`: one for all clients of a process (or of one loaded copy of this library). It sleeps until
//! the earliest planned attempt of any client, then signals that client's gate.
//!
//! It knows nothing of backoff, holds nothing that belongs to the user, and never takes the lock of the static that
//! finds it. The first client starts it; the last one stops and joins it, outside that lock.
#![expect(clippy::disallowed_methods, reason = "this thread reads the clock it waits by")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

use crate::shared::Gate;
use crate::system::fork::PerProcess;
use crate::system::threads;

/// A client's share in the timer thread.
pub(crate) struct Timer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    plans: BinaryHeap<Reverse<Entry>>,
    stopped: bool,
}

/// Ordered by time. A cancelled plan may stay until its time, and its client then ignores it. A client has one plan at
/// a time; a cancelled one is dropped as soon as the client makes another plan or leaves.
struct Entry {
    at: Instant,
    generation: u64,
    gate: Arc<Gate>,
}

impl Timer {
    /// The process's timer thread. Starts it if it isn't running.
    pub(crate) fn shared(stack: usize) -> io::Result<Arc<Self>> {
        static RUNNING: PerProcess<Mutex<Weak<Timer>>> = PerProcess::new();
        let mut running = RUNNING.get().lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(timer) = running.upgrade() {
            return Ok(timer);
        }
        let timer = Arc::new(Self::start(stack)?);
        *running = Arc::downgrade(&timer);
        Ok(timer)
    }

    fn start(stack: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let builder = Builder::new().name("tautline-timer".into()).stack_size(stack);
        let thread = threads::spawn(builder, move || theirs.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Calls `gate.retry(generation)` at `at`, and drops any earlier plan for that gate.
    pub(crate) fn schedule(&self, at: Instant, generation: u64, gate: &Arc<Gate>) {
        let mut queue = self.shared.lock();
        queue.forget(gate);
        queue.plans.push(Reverse(Entry { at, generation, gate: Arc::clone(gate) }));
        let first = queue.plans.peek().is_some_and(|Reverse(plan)| Arc::ptr_eq(&plan.gate, gate));
        drop(queue);
        if first {
            self.shared.changed.notify_one();
        }
    }

    /// Drops the plan for this gate.
    pub(crate) fn cancel(&self, gate: &Arc<Gate>) {
        self.shared.lock().forget(gate);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread holds no lock that anyone waits for and runs no foreign code, so it ends at once.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn forget(&mut self, gate: &Arc<Gate>) {
        self.plans.retain(|Reverse(plan)| !Arc::ptr_eq(&plan.gate, gate));
    }
}

impl Shared {
    fn run(&self) {
        let mut queue = self.lock();
        while !queue.stopped {
            let Some(Reverse(next)) = queue.plans.peek() else {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = next.at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            if let Some(Reverse(due)) = queue.plans.pop() {
                drop(queue);
                due.gate.retry(due.generation);
                drop(due);
                queue = self.lock();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QueueLimit;
    use crate::shared::{Intake, Sleep};
    use crate::transport::wire::Poller;
    use std::time::Duration;

    /// The gate of an I/O thread that sleeps in `Poller::wait`.
    fn sleeper() -> (Poller, Arc<Gate>) {
        let poller = Poller::new().unwrap();
        let gate = Arc::new(Gate::new(poller.waker().unwrap()));
        (poller, gate)
    }

    fn due(poller: &mut Poller, gate: &Gate) -> u64 {
        let intake = Intake::new(QueueLimit::new(1, 1), 1);
        loop {
            if gate.falls_asleep(Sleep::Light, &intake, || false) {
                poller.wait(None, Some(Duration::from_secs(10))).unwrap();
                gate.awake();
            }
            if let Some(generation) = gate.take_due() {
                return generation;
            }
        }
    }

    #[test]
    fn plans_come_due_in_the_order_of_their_times_and_not_early() {
        let timer = Timer::start(128 << 10).unwrap();
        let now = Instant::now();
        let (mut late_poller, late) = sleeper();
        let (mut early_poller, early) = sleeper();
        timer.schedule(now + Duration::from_millis(60), 1, &late);
        timer.schedule(now + Duration::from_millis(20), 2, &early);
        assert_eq!(due(&mut early_poller, &early), 2);
        assert!(now.elapsed() >= Duration::from_millis(20));
        assert_eq!(due(&mut late_poller, &late), 1);
        assert!(now.elapsed() >= Duration::from_millis(60));
    }

    #[test]
    fn a_new_plan_replaces_the_old_and_a_cancelled_one_is_forgotten() {
        let timer = Timer::start(128 << 10).unwrap();
        let now = Instant::now();
        let (mut poller, gate) = sleeper();
        let (_, other) = sleeper();
        timer.schedule(now, 1, &other);
        timer.schedule(now + Duration::from_secs(3600), 1, &gate);
        timer.schedule(now + Duration::from_millis(1), 2, &gate);
        assert_eq!(due(&mut poller, &gate), 2);
        timer.schedule(now + Duration::from_secs(3600), 3, &gate);
        timer.cancel(&gate);
        assert!(timer.shared.lock().plans.is_empty());
    }

    #[test]
    fn the_thread_is_shared_and_ends_with_its_last_user() {
        let first = Timer::shared(128 << 10).unwrap();
        let second = Timer::shared(128 << 10).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let shared = Arc::downgrade(&first.shared);
        drop(first);
        assert!(shared.upgrade().is_some());
        drop(second);
        // Other tests of this process may hold the timer. If none does, the join has freed it.
        assert!(shared.upgrade().is_none_or(|shared| !shared.lock().stopped));
    }
}
