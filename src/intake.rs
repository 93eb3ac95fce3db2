//! Where callers meet the worker: the gate that wakes it, the queue of messages, and what it tells of itself.

mod doubts;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::Waker;

use crate::config::Limit;
use crate::error::{CloseFrame, Error, SendError, SendErrorKind};
use crate::event::{CloseReason, Left, Ticket};
use crate::intake::doubts::Doubts;
use crate::message::Message;
use crate::session::{Doubt, Watermarks};
use crate::state::ConnectionState;
use crate::stats::Stats;

thread_local! {
    static OURS: Cell<Option<Thread>> = const { Cell::new(None) };
}

/// A thread of this library, on which callbacks of the application may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thread {
    Io,
    Dial,
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

/// The one way to wake the worker: put something where it looks, then call one of the methods here.
///
/// The worker says how it sleeps, looks at every queue once more, and only then parks. So either it sees what was put
/// there, or whoever put it there sees it sleep; all in one order (`SeqCst`), and a worker that is awake costs no
/// system call.
pub(crate) struct Gate {
    sleep: AtomicU8,
    waker: Waker,
    /// The generation of the plan whose time has come; 0 for none.
    due: AtomicU64,
    /// Reading is paused, until the application takes its messages.
    stalled: AtomicBool,
}

/// What wakes the worker.
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

impl Gate {
    pub(crate) fn new(waker: Waker) -> Self {
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
        // The plain load keeps a burst of sends from fighting over the cache line.
        if self.sleep.load(SeqCst) == all
            && self.sleep.compare_exchange(all, Sleep::Awake as u8, SeqCst, SeqCst).is_ok()
        {
            self.wake();
        }
    }

    /// The time of plan `generation` has come.
    pub(crate) fn retry(&self, generation: u64) {
        self.due.store(generation, SeqCst);
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
        if self.stalled.load(SeqCst) && self.stalled.swap(false, SeqCst) {
            self.urgent();
        }
    }

    /// Takes the plan that is due, if one is.
    pub(crate) fn take_due(&self) -> Option<u64> {
        if self.due.load(SeqCst) == 0 {
            return None;
        }
        Some(self.due.swap(0, SeqCst)).filter(|generation| *generation != 0)
    }

    /// Whether a plan is due.
    pub(crate) fn is_due(&self) -> bool {
        self.due.load(SeqCst) != 0
    }

    /// The worker is about to look at its queues for the last time before it parks, or is awake again.
    pub(crate) fn set_sleep(&self, sleep: Sleep) {
        self.sleep.store(sleep as u8, SeqCst);
    }

    fn wake(&self) {
        // A failed wake-up would leave the worker to its next deadline; the system gives no reason for one.
        if let Err(error) = self.waker.wake() {
            log::error!("waking the I/O thread failed: {error}");
        }
    }
}

/// What callers ask of the worker, besides messages.
pub(crate) enum Command {
    /// Nobody waits for the answer to this request any more.
    Withdraw {
        ticket: u64,
    },
    /// Somebody waits for the confirmation of every message up to this ticket.
    Confirm {
        through: u64,
    },
    Close {
        frame: CloseFrame,
        flush: bool,
    },
    Terminate,
    ReconnectNow,
}

/// Where the answer to a request goes.
pub(crate) type Reply = Sender<Result<Message, Error>>;

/// A message on its way to the worker.
pub(crate) struct Item {
    pub(crate) ticket: u64,
    pub(crate) message: Message,
    /// For a request.
    pub(crate) reply: Option<Reply>,
    /// When it is too old to be written.
    pub(crate) expires: Option<Instant>,
}

/// A message that a caller wants accepted.
pub(crate) struct Offer {
    pub(crate) message: Message,
    /// For a request.
    pub(crate) reply: Option<Reply>,
    pub(crate) expires: Option<Instant>,
}

/// Accepted messages on their way to the worker. One short lock gives each message its place, its ticket and its share
/// of the bound at once: order and count are exact, and closing loses nothing, since whoever holds the lock is either
/// counted or refused.
pub(crate) struct Intake {
    queue: Mutex<Queue>,
    /// Whether messages are in the queue: a hint, for who looks often.
    news: AtomicBool,
    room: Condvar,
    limit: Limit,
    max_message_size: usize,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Item>,
    last_ticket: u64,
    /// Accepted and not yet written, here or with the worker.
    held: usize,
    held_bytes: usize,
    /// Callers that wait for room.
    waiting: usize,
    /// The line is in this state, and nothing is accepted meanwhile.
    refusing: Option<ConnectionState>,
    closed: bool,
}

impl Intake {
    pub(crate) fn new(limit: Limit, max_message_size: usize) -> Self {
        let (queue, news) = (Mutex::default(), AtomicBool::new(false));
        Self { queue, news, room: Condvar::new(), limit, max_message_size }
    }

    /// Accepts a message, or says why not.
    pub(crate) fn try_push(&self, offer: Offer) -> Result<Ticket, SendError> {
        let mut queue = self.lock();
        if let Err(kind) = self.admit(&queue, offer.message.len()) {
            return Err(SendError::new(offer.message, kind));
        }
        self.news.store(true, Relaxed);
        Ok(queue.push(offer))
    }

    /// Accepts a message, when need be after a wait for room until `deadline`. `remaining` tells the time to it.
    pub(crate) fn push(
        &self,
        offer: Offer,
        deadline: Instant,
        remaining: impl Fn(Instant) -> Duration,
    ) -> Result<Ticket, SendError> {
        let mut queue = self.lock();
        loop {
            let full = match self.admit(&queue, offer.message.len()) {
                Ok(()) => {
                    self.news.store(true, Relaxed);
                    return Ok(queue.push(offer));
                }
                Err(full @ SendErrorKind::Full { .. }) => full,
                Err(other) => return Err(SendError::new(offer.message, other)),
            };
            queue.waiting += 1;
            let left = remaining(deadline);
            if left.is_zero() {
                queue.waiting -= 1;
                return Err(SendError::new(offer.message, full));
            }
            queue = self.room.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
            queue.waiting -= 1;
        }
    }

    /// Accepts the first of these, as many as there is room for at once, and returns the last ticket.
    pub(crate) fn push_some(
        &self,
        messages: &mut VecDeque<Message>,
        expires: Option<Instant>,
    ) -> Option<Ticket> {
        let mut queue = self.lock();
        let mut last = None;
        while let Some(message) = messages.pop_front() {
            if self.admit(&queue, message.len()).is_err() {
                messages.push_front(message);
                break;
            }
            last = Some(queue.push(Offer { message, reply: None, expires }));
        }
        self.news.store(true, Relaxed);
        last
    }

    /// Exchanges the worker's empty queue for the one with all that was accepted, and returns the room of what it has
    /// written since.
    pub(crate) fn exchange(&self, mine: &mut VecDeque<Item>, released: (usize, usize)) {
        let mut queue = self.lock();
        queue.held -= released.0;
        queue.held_bytes -= released.1;
        std::mem::swap(&mut queue.messages, mine);
        self.news.store(false, Relaxed);
        let wake = queue.waiting > 0 && released.0 > 0;
        drop(queue);
        if wake {
            self.room.notify_all();
        }
    }

    /// The ticket of the newest accepted message.
    pub(crate) fn last_ticket(&self) -> u64 {
        self.lock().last_ticket
    }

    /// Whether messages seem to be there, without a look under the lock.
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }

    /// Gives back the memory that a burst has left.
    pub(crate) fn rest(&self) {
        self.lock().messages.shrink_to_fit();
    }

    /// Refuses what comes while the line is in this state; who waits for room is told. `None` accepts again.
    pub(crate) fn set_refusing(&self, state: Option<ConnectionState>) {
        self.lock().refusing = state;
        self.room.notify_all();
    }

    /// Accepts no more; who waits for room is told. What was accepted before is still there.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.room.notify_all();
    }

    fn admit(&self, queue: &Queue, size: usize) -> Result<(), SendErrorKind> {
        let limit = self.max_message_size;
        if size > limit {
            return Err(SendErrorKind::TooLarge { size, limit });
        }
        if queue.closed {
            return Err(SendErrorKind::Closed);
        }
        if let Some(state) = queue.refusing {
            return Err(SendErrorKind::NotReady { state });
        }
        let fits =
            queue.held < self.limit.messages && queue.held_bytes.saturating_add(size) <= self.limit.bytes;
        // A message larger than the bound must have a way, and has it alone.
        if fits || queue.held == 0 {
            return Ok(());
        }
        Err(SendErrorKind::Full { messages: queue.held, bytes: queue.held_bytes })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, offer: Offer) -> Ticket {
        let Offer { message, reply, expires } = offer;
        self.last_ticket += 1;
        self.held += 1;
        self.held_bytes += message.len();
        self.messages.push_back(Item { ticket: self.last_ticket, message, reply, expires });
        Ticket(self.last_ticket)
    }
}

/// What the worker tells of itself.
pub(crate) struct Status {
    inner: Mutex<Inner>,
    changed: Condvar,
}

pub(crate) struct Inner {
    pub(crate) state: ConnectionState,
    pub(crate) ready: bool,
    /// Why the line is down, if it is.
    pub(crate) trouble: Option<Error>,
    pub(crate) closed: Option<(CloseReason, Arc<Left>)>,
    pub(crate) stats: Stats,
    pub(crate) watermarks: Watermarks,
    pub(crate) doubts: Doubts,
    /// Callers that wait for the watermarks to rise.
    pub(crate) watching: usize,
}

impl Status {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            state: ConnectionState::Disconnected,
            ready: false,
            trouble: None,
            closed: None,
            stats: Stats::default(),
            watermarks: Watermarks::default(),
            doubts: Doubts::default(),
            watching: 0,
        };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&Inner) -> R) -> R {
        look(&self.lock())
    }

    /// Changes it, and wakes who waits for a change.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Changes what nobody waits for.
    pub(crate) fn set_stats(&self, stats: Stats) {
        self.lock().stats = stats;
    }

    /// Says how far the messages have come, and wakes who watches for that.
    pub(crate) fn set_watermarks(&self, watermarks: Watermarks, doubts: Vec<Doubt>) {
        let mut inner = self.lock();
        let wake = inner.watching > 0 && (inner.watermarks != watermarks || !doubts.is_empty());
        inner.watermarks = watermarks;
        for doubt in doubts {
            inner.doubts.add(doubt);
        }
        drop(inner);
        if wake {
            self.changed.notify_all();
        }
    }

    /// Waits until `look` finds something, or until the deadline.
    pub(crate) fn wait<R>(
        &self,
        deadline: Option<Instant>,
        remaining: impl Fn(Instant) -> Duration,
        mut look: impl FnMut(&Inner) -> Option<R>,
    ) -> Option<R> {
        let mut inner = self.lock();
        loop {
            if let Some(found) = look(&inner) {
                return Some(found);
            }
            inner = match deadline {
                None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let left = remaining(at);
                    if left.is_zero() {
                        return None;
                    }
                    self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whatever a panic under the lock left is still a value; the worker's end is told by its guard.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
