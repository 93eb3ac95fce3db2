//! What wakes the I/O thread, and how that sleeps without missing anything.

use std::io;
use std::sync::atomic::Ordering::SeqCst;

use mio::Waker;

use crate::shared::queue::Intake;
use crate::shared::sync::{AtomicBool, AtomicU8, AtomicU64};

/// The one way to wake the I/O thread: put something where it looks, then call one of the methods here.
///
/// The I/O thread says how it sleeps, looks at every queue once more, and only then parks. So either it sees what was put
/// there, or whoever put it there sees it sleep; and an I/O thread that is awake costs no system call.
pub(crate) struct Gate<W = Waker> {
    /// Only ever swapped, never stored: swaps of one place stand in one order, and each sees all that was done before
    /// those ahead of it. So the I/O thread sees what was put anywhere before a swap that is ahead of its own, and a swap
    /// that comes later sees the I/O thread asleep.
    sleep: AtomicU8,
    pub(super) waker: W,
    /// The generation of the plan whose time has come; 0 for none. Set before the swap of `sleep` that tells of it.
    due: AtomicU64,
    /// Reading is paused, until the application takes its messages. The I/O thread sets this and then looks at the channel
    /// of events; the application takes from the channel and then looks at this. Only the single order of `SeqCst`,
    /// which the channel keeps too, rules out that both see the old.
    stalled: AtomicBool,
}

/// What ends the I/O thread's sleep, or the next one, if it is awake.
pub(crate) trait Wake {
    fn wake(&self) -> io::Result<()>;
}

impl Wake for Waker {
    fn wake(&self) -> io::Result<()> {
        Self::wake(self)
    }
}

/// What wakes the I/O thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Sleep {
    /// It is awake.
    Awake = 0,
    /// Only what is urgent: messages could not go out anyway.
    Light = 1,
    /// Messages too.
    ForAll = 2,
}

impl<W: Wake> Gate<W> {
    pub(crate) fn new(waker: W) -> Self {
        Self {
            sleep: AtomicU8::new(Sleep::Awake as u8),
            waker,
            due: AtomicU64::new(0),
            stalled: AtomicBool::new(false),
        }
    }

    /// Something urgent waits: a command, a result, a plan that is due.
    pub(crate) fn urgent(&self) {
        if self.sleep.swap(Sleep::Awake as u8, SeqCst) != Sleep::Awake as u8 {
            self.wake();
        }
    }

    /// A message waits.
    pub(crate) fn data(&self) {
        let all = Sleep::ForAll as u8;
        // The plain load keeps a burst of sends from fighting over the cache line. It sees no less than the I/O thread had
        // said when it looked into the queue in vain: the queue's lock was the I/O thread's then, and the sender's later.
        if self.sleep.load(SeqCst) == all
            && self.sleep.compare_exchange(all, Sleep::Awake as u8, SeqCst, SeqCst).is_ok()
        {
            self.wake();
        }
    }

    /// The time of plan `generation` has come.
    pub(crate) fn retry(&self, generation: u64) {
        // A swap, too: to loom, a plan that is taken meanwhile could hide one that is only stored.
        self.due.swap(generation, SeqCst);
        self.urgent();
    }

    /// Says whether reading is paused.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, SeqCst);
    }

    /// Whether reading is paused.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(SeqCst)
    }

    /// The application has emptied the channel: a paused reader goes on at once.
    pub(crate) fn drained(&self) {
        // The I/O thread takes the mark back: one who is slow to come here might take that of the next pause.
        if self.is_stalled() {
            self.urgent();
        }
    }

    /// Takes the plan that is due, if one is.
    pub(crate) fn take_due(&self) -> Option<u64> {
        if !self.is_due() {
            return None;
        }
        Some(self.due.swap(0, SeqCst)).filter(|generation| *generation != 0)
    }

    /// The I/O thread wants to sleep. Looks once more at what may have come before that was said, and so without a wake-up:
    /// a plan, a message in `intake`, or what `missed` finds. Returns whether it may park, and then say that it is
    /// [`awake`](Self::awake).
    pub(crate) fn falls_asleep(&self, sleep: Sleep, intake: &Intake, missed: impl FnOnce() -> bool) -> bool {
        self.sleep.swap(sleep as u8, SeqCst);
        let missed = missed() || self.is_due() || (sleep == Sleep::ForAll && !intake.is_empty());
        if missed {
            self.awake();
        }
        !missed
    }

    /// The I/O thread is awake, whatever woke it.
    pub(crate) fn awake(&self) {
        self.sleep.swap(Sleep::Awake as u8, SeqCst);
    }

    /// Whether a plan is due.
    fn is_due(&self) -> bool {
        self.due.load(SeqCst) != 0
    }

    fn wake(&self) {
        // A failed wake-up would leave the I/O thread to its next deadline; the system gives no reason for one.
        if let Err(error) = self.waker.wake() {
            log::error!("waking the I/O thread failed: {error}");
        }
    }
}
