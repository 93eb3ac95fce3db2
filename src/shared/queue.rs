//! The queue of accepted messages, and the other things that callers leave for the I/O thread.

use std::collections::VecDeque;
use std::sync::PoisonError;
#[cfg(not(all(test, loom)))]
use std::sync::TryLockError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::config::QueueLimit;
use crate::error::{CloseFrame, Error, SendError, SendErrorKind};
use crate::event::Ticket;
use crate::message::Message;
use crate::shared::spin::spin_for_room;
#[cfg(not(all(test, loom)))]
use crate::shared::spin::{Between, YIELDS_FOR_LOCK, spin_times};
use crate::shared::sync::{Condvar, Mutex, MutexGuard};
use crate::state::ConnectionState;
use crate::stats::Stats;

/// What callers ask of the I/O thread, besides sending messages.
pub(crate) enum Command {
    /// The caller no longer waits for the answer to this request.
    Withdraw {
        ticket: u64,
    },
    /// A caller waits for the confirmation of every message up to this ticket.
    Confirm {
        through: u64,
    },
    Close {
        frame: CloseFrame,
        flush: bool,
        /// When the caller stops waiting.
        until: Instant,
    },
    Terminate,
    ReconnectNow,
    /// A new connection, also where one is open.
    Reconnect,
    Suspend,
    Resume,
}

/// Where the answer to a request goes.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) way: Sender<Result<Message, Error>>,
    /// The caller takes several answers.
    pub(crate) many: bool,
}

/// A message on its way to the I/O thread.
pub(crate) struct Item {
    pub(crate) ticket: u64,
    pub(crate) message: Message,
    /// For a request. Boxed, because each message in the queue is copied in its full size to another processor.
    pub(crate) reply: Option<Box<Reply>>,
    /// When the message is too old to be written.
    pub(crate) expires: Option<Instant>,
}

/// A message that a caller wants accepted.
pub(crate) struct Offer {
    pub(crate) message: Message,
    /// For a request.
    pub(crate) reply: Option<Box<Reply>>,
    pub(crate) expires: Option<Instant>,
}

/// Accepted messages on their way to the I/O thread. One short lock gives each message its place, its ticket and its
/// share of the bound at once. So order and count are exact, and closing loses nothing: whoever takes the lock is
/// either counted or refused.
pub(crate) struct Intake {
    pub(super) queue: Mutex<Queue>,
    /// Whether messages are in the queue: a hint for a thread that polls often. No ordering depends on it, so it is not
    /// part of the models.
    news: std::sync::atomic::AtomicBool,
    /// Whether a caller has found no room since there last was some. A hint as well.
    full: std::sync::atomic::AtomicBool,
    room: Condvar,
    limit: QueueLimit,
    max_message_size: usize,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) messages: VecDeque<Item>,
    last_ticket: u64,
    /// The number of messages accepted and not yet written, here or with the I/O thread.
    held: usize,
    held_bytes: usize,
    /// Callers that wait for room.
    pub(super) waiting: usize,
    /// The state of the line, if nothing is accepted in that state.
    refusing: Option<ConnectionState>,
    pub(super) closed: bool,
}

impl Intake {
    pub(crate) fn new(limit: QueueLimit, max_message_size: usize) -> Self {
        let hint = || std::sync::atomic::AtomicBool::new(false);
        let (queue, room) = (Mutex::default(), Condvar::new());
        Self { queue, news: hint(), full: hint(), room, limit, max_message_size }
    }

    /// Accepts a message, or returns why not.
    pub(crate) fn try_push(&self, offer: Offer) -> Result<Ticket, SendError> {
        let mut queue = self.lock();
        if let Err(kind) = self.admit(&queue, offer.message.len()) {
            return Err(SendError::new(offer.message, kind));
        }
        self.news.store(true, Relaxed);
        Ok(queue.push(offer))
    }

    /// Accepts a message, waiting for room until `deadline` if need be. `remaining` returns the time left.
    pub(crate) fn push(
        &self,
        offer: Offer,
        deadline: Instant,
        remaining: impl Fn(Instant) -> Duration,
    ) -> Result<Ticket, SendError> {
        let mut queue = self.lock();
        let mut spins = true;
        loop {
            let full = match self.admit(&queue, offer.message.len()) {
                Ok(()) => {
                    self.news.store(true, Relaxed);
                    return Ok(queue.push(offer));
                }
                Err(full @ SendErrorKind::Full { .. }) => full,
                Err(other) => return Err(SendError::new(offer.message, other)),
            };
            let left = remaining(deadline);
            if left.is_zero() {
                return Err(SendError::new(offer.message, full));
            }
            if std::mem::take(&mut spins) {
                // There may be room before a sleeping thread would be woken.
                self.full.store(true, Relaxed);
                drop(queue);
                spin_for_room(&self.full);
                queue = self.lock();
                continue;
            }
            queue.waiting += 1;
            queue = self.room.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
            queue.waiting -= 1;
        }
    }

    /// Accepts as many of these messages as there is room for, from the first on. Returns the first ticket and the
    /// last.
    pub(crate) fn push_some(
        &self,
        messages: &mut VecDeque<Message>,
        expires: Option<Instant>,
    ) -> Option<(Ticket, Ticket)> {
        let mut queue = self.lock();
        let mut accepted = None;
        while let Some(message) = messages.pop_front() {
            if self.admit(&queue, message.len()).is_err() {
                messages.push_front(message);
                break;
            }
            let ticket = queue.push(Offer { message, reply: None, expires });
            accepted = Some((accepted.map_or(ticket, |(first, _)| first), ticket));
        }
        self.news.store(true, Relaxed);
        accepted
    }

    /// Swaps the I/O thread's empty queue for the one with all accepted messages, and gives back the room of the
    /// messages written since the last call.
    pub(crate) fn exchange(&self, mine: &mut VecDeque<Item>, released: (usize, usize)) {
        let mut queue = self.lock();
        queue.held -= released.0;
        queue.held_bytes -= released.1;
        std::mem::swap(&mut queue.messages, mine);
        self.news.store(false, Relaxed);
        let wake = queue.waiting > 0 && released.0 > 0;
        drop(queue);
        if released.0 > 0 {
            self.full.store(false, Relaxed);
        }
        if wake {
            self.room.notify_all();
        }
    }

    /// The ticket of the newest accepted message.
    pub(crate) fn last_ticket(&self) -> u64 {
        self.lock().last_ticket
    }

    /// Adds how many messages were accepted, and what stands in the outbox.
    pub(crate) fn complete(&self, stats: &mut Stats) {
        let queue = self.lock();
        stats.messages_accepted = queue.last_ticket;
        stats.messages_queued = queue.held;
        stats.bytes_queued = queue.held_bytes;
    }

    /// Whether messages seem to be there, without a look under the lock.
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Relaxed)
    }

    /// How many messages are accepted and not yet written, as far as the I/O thread has reported.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> usize {
        self.lock().held
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().messages.is_empty()
    }

    /// Frees the memory that a burst has left behind.
    pub(crate) fn shrink(&self) {
        self.lock().messages.shrink_to_fit();
    }

    /// Refuses new messages while the line is in this state, and wakes callers that wait for room. `None` accepts
    /// again.
    pub(crate) fn set_refusing(&self, state: Option<ConnectionState>) {
        self.lock().refusing = state;
        self.room.notify_all();
    }

    /// Accepts no more messages, and wakes callers that wait for room. Messages accepted before stay in the queue.
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
        // A message larger than the bound must get through as well. It has the queue to itself.
        if fits || queue.held == 0 {
            return Ok(());
        }
        Err(SendErrorKind::Full { messages: queue.held, bytes: queue.held_bytes })
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        #[cfg(not(all(test, loom)))]
        if let Some(queue) = self.spin_for_lock() {
            return queue;
        }
        // No code that can panic runs under the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(not(all(test, loom)))]
impl Intake {
    fn spin_for_lock(&self) -> Option<MutexGuard<'_, Queue>> {
        let look = || match self.queue.try_lock() {
            Ok(queue) => Some(queue),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        spin_times(Between::Yield, YIELDS_FOR_LOCK, look)
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
