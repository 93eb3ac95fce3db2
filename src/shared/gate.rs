//! Wakes the I/O thread, and lets it sleep without missing anything.

use std::io;
use std::sync::atomic::Ordering::SeqCst;

use mio::Waker;

use crate::logging::LOG;
use crate::shared::queue::Intake;
use crate::shared::sync::{AtomicBool, AtomicU8, AtomicU64};

/// The one way to wake the I/O thread: put something where it looks, then call one of these methods.
///
/// The I/O thread announces how it sleeps, checks every queue once more, and only then parks. So either it sees what
/// was put there, or whoever put it there sees that it sleeps. Waking an I/O thread that is awake costs no system call.
pub(crate) struct Gate<W = Waker> {
    /// Only ever swapped, never stored: the swaps of one location are totally ordered, and each sees everything done
    /// before the earlier ones. So the I/O thread sees what was put anywhere before a swap that precedes its own, and a
    /// later swap sees that the I/O thread sleeps.
    sleep: AtomicU8,
    pub(super) waker: W,
    /// The generation of the plan that is due; 0 for none. Set before the swap of `sleep` that signals it.
    due: AtomicU64,
    /// Reading is paused until the application takes its messages. The I/O thread sets this and then looks at the
    /// queue of events; the application takes from the queue and then looks at this. Whoever is second at the queue's lock sees
    /// what the other has done. Where the queue is a channel, the total order of `SeqCst`, which it keeps too, says the same.
    stalled: AtomicBool,
}

/// Ends the I/O thread's sleep or, if it is awake, its next one.
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
    /// Nothing: the thread is awake.
    Awake = 0,
    /// Only what is urgent: messages could not be sent anyway.
    Light = 1,
    /// Messages too.
    ForAll = 2,
    /// Only what is urgent: a caller has its turn, and looks at everything else before he gives it back.
    Lent = 3,
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

    /// Something urgent waits: a command, a result, or a plan that is due.
    pub(crate) fn urgent(&self) {
        if self.sleep.swap(Sleep::Awake as u8, SeqCst) != Sleep::Awake as u8 {
            self.wake();
        }
    }

    /// A message waits.
    pub(crate) fn data(&self) {
        let all = Sleep::ForAll as u8;
        // The plain load keeps a burst of sends from contending for the cache line. It sees at least what the I/O
        // thread had announced when it found the queue empty: the I/O thread held the queue's lock then, and the sender
        // held it later. In a ring, both have swapped the cell of the message, and the sender was later.
        if self.sleep.load(SeqCst) == all
            && self.sleep.compare_exchange(all, Sleep::Awake as u8, SeqCst, SeqCst).is_ok()
        {
            self.wake();
        }
    }

    /// Whether the I/O thread sleeps, and a message would wake it.
    pub(crate) fn sleeps_for_all(&self) -> bool {
        self.sleep.load(SeqCst) == Sleep::ForAll as u8
    }

    /// Whether nobody has ended the sleep of the I/O thread, which a caller may stand in for.
    pub(crate) fn is_asleep(&self) -> bool {
        self.sleep.load(SeqCst) != Sleep::Awake as u8
    }

    /// A caller does the work of the I/O thread, which sleeps on. Returns whether it does sleep: then the caller must call
    /// [`falls_asleep`](Self::falls_asleep) for it or [`rouse`](Self::rouse) it. Callers take over one at a time.
    pub(crate) fn takes_over(&self) -> bool {
        let sleep = self.sleep.load(SeqCst);
        let lent = Sleep::Lent as u8;
        sleep != Sleep::Awake as u8 && self.sleep.compare_exchange(sleep, lent, SeqCst, SeqCst).is_ok()
    }

    /// A caller who took over leaves the rest to the I/O thread.
    pub(crate) fn rouse(&self) {
        self.awake();
        self.wake();
    }

    /// Plan `generation` is due.
    pub(crate) fn retry(&self, generation: u64) {
        // This is a swap, too: in loom's model, taking an earlier plan could hide one that is only stored.
        self.due.swap(generation, SeqCst);
        self.urgent();
    }

    /// Sets whether reading is paused.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, SeqCst);
    }

    /// Whether reading is paused.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stalled.load(SeqCst)
    }

    /// The application has emptied the queue: a paused reader resumes at once.
    pub(crate) fn drained(&self) {
        // The I/O thread clears the mark. A slow caller could otherwise clear the mark of the next pause.
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

    /// The I/O thread is about to sleep. Checks once more for what may have come before that was announced, and so
    /// without a wake-up: a plan, a message in `intake`, or what `missed` finds. Returns whether the thread may park;
    /// after that it must report [`awake`](Self::awake).
    pub(crate) fn falls_asleep(&self, sleep: Sleep, intake: &Intake, missed: impl FnOnce() -> bool) -> bool {
        self.sleep.swap(sleep as u8, SeqCst);
        let missed = missed() || self.is_due() || (sleep == Sleep::ForAll && !intake.is_empty());
        if missed {
            self.awake();
        }
        !missed
    }

    /// The I/O thread is awake, for whatever reason.
    pub(crate) fn awake(&self) {
        self.sleep.swap(Sleep::Awake as u8, SeqCst);
    }

    /// Whether a plan is due.
    fn is_due(&self) -> bool {
        self.due.load(SeqCst) != 0
    }

    /// Ends the I/O thread's sleep.
    pub(crate) fn wake(&self) {
        // After a failed wake-up the I/O thread would sleep until its next deadline. The system documents no reason for
        // a failure.
        if let Err(error) = self.waker.wake() {
            log::error!(target: LOG, "waking the I/O thread failed: {error}");
        }
    }
}
