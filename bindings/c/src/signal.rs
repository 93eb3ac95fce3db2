//! How the thread of a client tells those who wait for its events.
#![allow(
    clippy::disallowed_methods,
    reason = "turns the caller's timeouts into deadlines, on the caller's thread"
)]

#[cfg(unix)]
use std::io::{self, Read, Write};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
#[cfg(unix)]
use std::sync::OnceLock;
#[cfg(unix)]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst, fence};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Wakes waits, and makes a descriptor readable.
#[derive(Default)]
pub(crate) struct Signal {
    waits: Mutex<Waits>,
    changed: Condvar,
    /// How many wait. The thread of the client takes the lock only for them.
    waiting: AtomicUsize,
    #[cfg(unix)]
    bell: OnceLock<Bell>,
}

#[derive(Default)]
struct Waits {
    /// How often the waits were ended that were under way.
    ended: u64,
    /// A wake-up that nobody waited for ends the next wait.
    kept: bool,
}

/// How a wait ended without what was waited for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Woken,
    TimedOut,
}

/// A descriptor that is readable while `rung`.
#[cfg(unix)]
struct Bell {
    /// Whether a byte is on its way to `heard`, or there.
    rung: AtomicBool,
    ring: UnixStream,
    heard: UnixStream,
}

impl Signal {
    /// Events were queued. Called on the thread of the client.
    pub(crate) fn ready(&self) {
        // The events come before the looks at who waits for them.
        fence(SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            // Who has looked and found nothing is asleep when the lock is free.
            drop(self.lock());
            self.changed.notify_all();
        }
        #[cfg(unix)]
        self.ring();
    }

    /// Ends the waits that are under way, and the next one if there is none and `keep` says so.
    pub(crate) fn wake(&self, keep: bool) {
        let mut waits = self.lock();
        if self.waiting.load(SeqCst) > 0 {
            waits.ended += 1;
        } else {
            waits.kept |= keep;
        }
        drop(waits);
        self.changed.notify_all();
    }

    /// Waits until `look` finds something.
    pub(crate) fn wait<R>(&self, timeout: Duration, mut look: impl FnMut() -> Option<R>) -> Result<R, Ended> {
        let began = Instant::now();
        let mut waits = self.lock();
        let ended = waits.ended;
        self.waiting.fetch_add(1, SeqCst);
        let outcome = loop {
            // The look comes after `waiting`, which the thread of the client reads after it has queued.
            fence(SeqCst);
            if let Some(found) = look() {
                break Ok(found);
            }
            if waits.ended != ended || std::mem::take(&mut waits.kept) {
                break Err(Ended::Woken);
            }
            let left = timeout.saturating_sub(began.elapsed());
            if left.is_zero() {
                break Err(Ended::TimedOut);
            }
            waits = self.changed.wait_timeout(waits, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        self.waiting.fetch_sub(1, SeqCst);
        outcome
    }

    fn lock(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(unix)]
impl Signal {
    /// The descriptor. It is readable already if `is_waiting` says that events wait.
    pub(crate) fn descriptor(&self, is_waiting: impl FnOnce() -> bool) -> io::Result<std::os::fd::RawFd> {
        use std::os::fd::AsRawFd;

        if self.bell.get().is_none() {
            let (ring, heard) = UnixStream::pair()?;
            ring.set_nonblocking(true)?;
            heard.set_nonblocking(true)?;
            // Another thread may have been faster: then this pair is closed.
            let _ = self.bell.set(Bell { rung: AtomicBool::new(false), ring, heard });
            fence(SeqCst);
            if is_waiting() {
                self.ring();
            }
        }
        self.bell.get().map(|bell| bell.heard.as_raw_fd()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn ring(&self) {
        let Some(bell) = self.bell.get() else { return };
        if !bell.rung.swap(true, SeqCst) {
            // There is room: no more than one byte is ever there.
            let _ = (&bell.ring).write(&[1]);
        }
    }

    /// No event was found: the descriptor becomes unreadable, unless `is_waiting` finds one now.
    pub(crate) fn quiet(&self, is_waiting: impl FnOnce() -> bool) {
        let Some(bell) = self.bell.get() else { return };
        // Without a byte, the one who rang has not written it yet. It will be read when no event is found the next time.
        if !bell.rung.load(SeqCst) || !matches!((&bell.heard).read(&mut [0]), Ok(1)) {
            return;
        }
        bell.rung.store(false, SeqCst);
        // Who has queued before this saw that it was rung, and so wrote nothing.
        fence(SeqCst);
        if is_waiting() {
            self.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn a_wake_up_ends_the_waits_under_way_or_the_next_one_and_no_other() {
        let signal = Arc::new(Signal::default());
        signal.wake(true);
        signal.wake(true);
        assert_eq!(signal.wait(LONG, || None::<()>), Err(Ended::Woken), "kept");
        assert_eq!(signal.wait(Duration::ZERO, || None::<()>), Err(Ended::TimedOut), "once");
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let signal = Arc::clone(&signal);
                thread::spawn(move || signal.wait(LONG, || None::<()>))
            })
            .collect();
        while signal.waiting.load(SeqCst) < 2 {
            thread::yield_now();
        }
        signal.wake(true);
        for wait in waiting {
            assert_eq!(wait.join().unwrap(), Err(Ended::Woken));
        }
        assert_eq!(signal.wait(Duration::ZERO, || None::<()>), Err(Ended::TimedOut), "they have used it up");
        signal.wake(false);
        assert_eq!(signal.wait(Duration::ZERO, || None::<()>), Err(Ended::TimedOut), "not kept");
    }

    #[cfg(unix)]
    #[test]
    fn no_event_is_missed_by_who_waits_for_the_descriptor_alone() {
        use std::sync::atomic::AtomicU64;

        const EVENTS: u64 = 20_000;
        let signal = Arc::new(Signal::default());
        let (queued, taken) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let descriptor = signal.descriptor(|| false).unwrap();
        let (theirs, events, answered) = (Arc::clone(&signal), Arc::clone(&queued), Arc::clone(&taken));
        let sender = thread::spawn(move || {
            for event in 1..=EVENTS {
                events.store(event, SeqCst);
                theirs.ready();
                // The next event comes while the descriptor is made unreadable after this one. None comes to help it.
                while answered.load(SeqCst) < event {
                    thread::yield_now();
                }
            }
        });
        while taken.load(SeqCst) < EVENTS {
            let until = Instant::now() + LONG;
            while !is_readable(descriptor) {
                assert!(Instant::now() < until, "{taken:?} were taken, and {queued:?} queued");
            }
            taken.store(queued.load(SeqCst), SeqCst);
            signal.quiet(|| queued.load(SeqCst) > taken.load(SeqCst));
        }
        sender.join().unwrap();
        // The last ring may have come after its event was taken.
        signal.quiet(|| false);
        assert!(!is_readable(descriptor), "nothing waits");
    }

    #[cfg(unix)]
    fn is_readable(descriptor: std::os::fd::RawFd) -> bool {
        let mut one = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        // SAFETY: it is one entry, which nobody else uses.
        unsafe { libc::poll(&raw mut one, 1, 0) == 1 }
    }
}
