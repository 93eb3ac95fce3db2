//! The queue of accepted messages, and the other things that callers leave for the I/O thread.

use std::collections::VecDeque;
use std::sync::PoisonError;
#[cfg(not(all(test, loom)))]
use std::sync::TryLockError;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use crate::config::{ConnectionConfig, QueueLimit};
use crate::error::{CloseFrame, SendError, SendErrorKind};
use crate::event::Ticket;
use crate::message::Message;
use crate::session::Readiness;
use crate::shared::item::{Item, Offer};
use crate::shared::outward::Outward;
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

/// Accepted messages on their way to the I/O thread. One short lock gives each message its place, its ticket and its
/// share of the bound at once. So order and count are exact, and closing loses nothing: whoever takes the lock is
/// either counted or refused. A line whose callers must wait for nobody has the other form, without that lock.
pub(crate) struct Intake {
    /// If it is there, no message goes through the queue.
    pub(super) outward: Option<Outward>,
    pub(super) queue: Mutex<Queue>,
    /// Whether messages are in the queue: a hint for a thread that polls often. No ordering depends on it, so it is not
    /// part of the models.
    news: std::sync::atomic::AtomicBool,
    /// Whether a caller has found no room since there last was some. A hint as well.
    full: std::sync::atomic::AtomicBool,
    /// What callers read without the lock. No ordering depends on it either.
    seen: Seen,
    room: Condvar,
    limit: QueueLimit,
    max_message_size: usize,
}

/// Copies of fields of the [`Queue`], each for itself.
#[derive(Default)]
struct Seen {
    last_ticket: AtomicU64,
    held: AtomicUsize,
    held_bytes: AtomicUsize,
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
    /// Whether callers can send now.
    readiness: Readiness,
    /// Whether nothing is accepted while the line is not ready.
    refuses: bool,
    pub(super) closed: bool,
}

impl Intake {
    /// The intake of a line with these settings.
    pub(crate) fn of(config: &ConnectionConfig) -> Self {
        let intake = Self::new(config.outbox, config.largest_message());
        match config.realtime {
            Some(_) => intake.with_ring(config.outbox.messages),
            None => intake,
        }
    }

    /// The form for callers that must wait for nobody, with room for this many messages.
    pub(super) fn with_ring(self, capacity: usize) -> Self {
        Self { outward: Some(Outward::new(capacity, self.limit)), ..self }
    }

    pub(crate) fn new(limit: QueueLimit, max_message_size: usize) -> Self {
        let hint = || std::sync::atomic::AtomicBool::new(false);
        let (queue, room) = (Mutex::default(), Condvar::new());
        Self {
            outward: None,
            queue,
            news: hint(),
            full: hint(),
            seen: Seen::default(),
            room,
            limit,
            max_message_size,
        }
    }

    /// Accepts a message, or returns why not.
    pub(crate) fn try_push(&self, offer: Offer) -> Result<Ticket, SendError> {
        if let Some(outward) = &self.outward {
            return self
                .try_push_to(outward, offer)
                .map_err(|(offer, kind)| SendError::new(offer.message, kind));
        }
        let mut queue = self.lock();
        if let Err(kind) = self.admit(&queue, offer.message.len(), offer.session()) {
            return Err(SendError::new(offer.message, kind));
        }
        Ok(self.enter(&mut queue, offer))
    }

    /// Accepts a message, waiting for room until `deadline` if need be. `remaining` returns the time left.
    pub(crate) fn push(
        &self,
        offer: Offer,
        deadline: Instant,
        remaining: impl Fn(Instant) -> Duration,
    ) -> Result<Ticket, SendError> {
        if let Some(outward) = &self.outward {
            return self.push_to(outward, offer, deadline, remaining);
        }
        let mut queue = self.lock();
        let mut spins = true;
        loop {
            let full = match self.admit(&queue, offer.message.len(), offer.session()) {
                Ok(()) => return Ok(self.enter(&mut queue, offer)),
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

    #[expect(
        clippy::result_large_err,
        reason = "the offer goes back, and a box for it would be an allocation"
    )]
    fn try_push_to(&self, outward: &Outward, offer: Offer) -> Result<Ticket, (Offer, SendErrorKind)> {
        if let Err(kind) = self.check_size(offer.message.len()) {
            return Err((offer, kind));
        }
        let ticket = outward.try_push(offer)?;
        self.news.store(true, Relaxed);
        Ok(ticket)
    }

    fn push_to(
        &self,
        outward: &Outward,
        mut offer: Offer,
        deadline: Instant,
        remaining: impl Fn(Instant) -> Duration,
    ) -> Result<Ticket, SendError> {
        let (size, session) = (offer.message.len(), offer.session());
        let mut spins = true;
        loop {
            let full;
            (offer, full) = match self.try_push_to(outward, offer) {
                Err(full @ (_, SendErrorKind::Full { .. })) => full,
                other => return other.map_err(|(offer, kind)| SendError::new(offer.message, kind)),
            };
            let left = remaining(deadline);
            if left.is_zero() {
                return Err(SendError::new(offer.message, full));
            }
            if std::mem::take(&mut spins) {
                self.full.store(true, Relaxed);
                spin_for_room(&self.full);
            } else {
                outward.wait_for_room(size, session, left);
            }
        }
    }

    /// Accepts as many of these messages as there is room for, from the first on, and as get tickets that follow each
    /// other. Returns the first ticket and the last.
    pub(crate) fn push_some(
        &self,
        messages: &mut VecDeque<Message>,
        expires: Option<Instant>,
    ) -> Option<(Ticket, Ticket)> {
        if let Some(outward) = &self.outward {
            // Another caller's ticket may be the next one.
            let offer = Offer::new(messages.pop_front()?, None, expires);
            return match self.try_push_to(outward, offer) {
                Ok(ticket) => Some((ticket, ticket)),
                Err((offer, _)) => {
                    messages.push_front(offer.message);
                    None
                }
            };
        }
        let mut queue = self.lock();
        let mut accepted = None;
        while let Some(message) = messages.pop_front() {
            if self.admit(&queue, message.len(), None).is_err() {
                messages.push_front(message);
                break;
            }
            let ticket = self.enter(&mut queue, Offer::new(message, None, expires));
            accepted = Some((accepted.map_or(ticket, |(first, _)| first), ticket));
        }
        accepted
    }

    fn enter(&self, queue: &mut Queue, offer: Offer) -> Ticket {
        self.news.store(true, Relaxed);
        let ticket = queue.push(offer);
        self.seen.show(queue);
        ticket
    }

    /// Swaps the I/O thread's empty queue for the one with all accepted messages, and gives back the room of the
    /// messages written since the last call. Returns the tickets that were revoked at the end: no message has them.
    pub(crate) fn exchange(&self, mine: &mut VecDeque<Item>, released: (usize, usize)) -> Vec<u64> {
        if let Some(outward) = &self.outward {
            self.news.store(false, Relaxed);
            let revoked = outward.exchange(mine, released);
            if released.0 > 0 {
                self.full.store(false, Relaxed);
            }
            return revoked;
        }
        let mut queue = self.lock();
        queue.held -= released.0;
        queue.held_bytes -= released.1;
        self.seen.show(&queue);
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
        Vec::new()
    }

    /// Whether messages are accepted and can't be taken yet, because their callers are about to bring them.
    pub(crate) fn owes(&self) -> bool {
        self.outward.as_ref().is_some_and(Outward::owes)
    }

    /// The ticket of the newest accepted message.
    pub(crate) fn last_ticket(&self) -> u64 {
        self.outward.as_ref().map_or_else(|| self.lock().last_ticket, Outward::last_ticket)
    }

    /// Adds how many messages were accepted, and what stands in the outbox. Takes no lock.
    pub(crate) fn complete(&self, stats: &mut Stats) {
        if let Some(outward) = &self.outward {
            stats.messages_accepted = outward.accepted();
            (stats.messages_queued, stats.bytes_queued) = outward.held();
            return;
        }
        stats.messages_accepted = self.seen.last_ticket.load(Relaxed);
        stats.messages_queued = self.seen.held.load(Relaxed);
        stats.bytes_queued = self.seen.held_bytes.load(Relaxed);
    }

    /// How many bytes were accepted and are not written yet, without a look under the lock. Only for the form without a ring.
    pub(crate) fn held_bytes(&self) -> usize {
        self.seen.held_bytes.load(Relaxed)
    }

    /// The ticket of the newest message, as [`held_bytes`](Self::held_bytes) gives the bytes.
    pub(crate) fn newest(&self) -> u64 {
        self.seen.last_ticket.load(Relaxed)
    }

    /// Whether messages seem to be there, without a look under the lock.
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Relaxed)
    }

    /// How many messages are accepted and not yet written, as far as the I/O thread has reported.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn held(&self) -> usize {
        self.outward.as_ref().map_or_else(|| self.lock().held, |outward| outward.held().0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outward.as_ref().map_or_else(|| self.lock().messages.is_empty(), |outward| !outward.has_next())
    }

    /// Frees the memory that a burst has left behind. A ring keeps its own.
    pub(crate) fn shrink(&self) {
        self.lock().messages.shrink_to_fit();
    }

    /// Whether callers can send now.
    pub(crate) fn readiness(&self) -> Readiness {
        self.outward.as_ref().map_or_else(|| self.lock().readiness, Outward::readiness)
    }

    /// Sets whether callers can send now, and wakes those that wait for room: what they send may have to be refused, and
    /// all of it if `refuses`.
    pub(crate) fn set_readiness(&self, readiness: Readiness, refuses: bool) {
        if let Some(outward) = &self.outward {
            return outward.set_readiness(readiness, refuses);
        }
        let mut queue = self.lock();
        (queue.readiness, queue.refuses) = (readiness, refuses);
        drop(queue);
        self.room.notify_all();
    }

    /// Accepts no more messages, and wakes callers that wait for room. Messages accepted before stay in the queue.
    pub(crate) fn close(&self) -> bool {
        if let Some(outward) = &self.outward {
            return outward.close();
        }
        let was_open = !std::mem::replace(&mut self.lock().closed, true);
        self.room.notify_all();
        was_open
    }

    fn check_size(&self, size: usize) -> Result<(), SendErrorKind> {
        let limit = self.max_message_size;
        if size > limit { Err(SendErrorKind::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// `session`: the session of the line that the message is for, if it is for one only.
    fn admit(&self, queue: &Queue, size: usize, session: Option<u64>) -> Result<(), SendErrorKind> {
        self.check_size(size)?;
        if queue.closed {
            return Err(SendErrorKind::Closed);
        }
        match queue.readiness {
            Readiness::NotReady(state) if queue.refuses || session.is_some() => {
                return Err(SendErrorKind::NotReady { state });
            }
            // The line was lost and has come back since.
            Readiness::Ready(now) if session.is_some_and(|session| session != now) => {
                return Err(SendErrorKind::NotReady { state: ConnectionState::Disconnected });
            }
            Readiness::Ready(_) | Readiness::NotReady(_) => {}
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

impl Seen {
    fn show(&self, queue: &Queue) {
        self.last_ticket.store(queue.last_ticket, Relaxed);
        self.held.store(queue.held, Relaxed);
        self.held_bytes.store(queue.held_bytes, Relaxed);
    }
}

impl Queue {
    fn push(&mut self, offer: Offer) -> Ticket {
        let Offer { message, special, expires } = offer;
        self.last_ticket += 1;
        self.held += 1;
        self.held_bytes += message.len();
        self.messages.push_back(Item { ticket: self.last_ticket, message, special, expires });
        Ticket(self.last_ticket)
    }
}
