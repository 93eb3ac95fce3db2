//! The queue of accepted messages for callers that must wait for nobody: the second form of the intake.
//!
//! A message is accepted in two steps. The first takes its share of the bound, in one word: the line's readiness, how many
//! messages are held, and how many bytes. The second claims a position of the ring, which is the ticket, unless the ring is
//! closed. Between them, and until the position is filled, the caller may lose its processor; the I/O thread goes on without
//! it. When the ring is closed, the I/O thread revokes what is claimed and not filled: its caller gets the message back,
//! refused. So each message is refused, or with the I/O thread, and neither waits for the other.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::Duration;

use crate::config::QueueLimit;
use crate::error::SendErrorKind;
use crate::event::Ticket;
use crate::session::Readiness;
use crate::shared::item::{Item, Offer};
use crate::shared::ring::Ring;
use crate::shared::sync::AtomicU64;
use crate::shared::waiters::Waiters;
use crate::state::ConnectionState;

pub(super) struct Outward {
    ring: Ring<Item>,
    limit: QueueLimit,
    /// [`READY`], how many messages are accepted and not yet written, and their bytes: see [`Held`].
    held: AtomicU64,
    /// How many of them the I/O thread has taken. Only it changes this.
    taken: AtomicU64,
    /// How many claimed positions were revoked.
    revoked: AtomicU64,
    /// See [`pack`].
    readiness: AtomicU64,
    /// Callers that wait for room.
    pub(super) waiters: Waiters,
}

/// Whether the line is ready. With the bound in one word, no message for this connection only is accepted behind the loss.
const READY: u64 = 1 << 63;
/// One message.
const MESSAGE: u64 = 1 << BYTES_BITS;
const BYTES_BITS: u32 = 40;
/// A tebibyte: what a message has is in memory.
const MOST_BYTES: u64 = MESSAGE - 1;

/// What the word says.
#[derive(Clone, Copy)]
struct Held {
    ready: bool,
    messages: usize,
    bytes: usize,
}

impl Held {
    fn new(word: u64) -> Self {
        let number = |part| usize::try_from(part).unwrap_or(usize::MAX);
        Self {
            ready: word & READY != 0,
            messages: number((word & !READY) >> BYTES_BITS),
            bytes: number(word & MOST_BYTES),
        }
    }
}

/// The share of these messages.
fn share(messages: usize, bytes: usize) -> u64 {
    messages as u64 * MESSAGE + bytes as u64
}

impl Outward {
    /// With room for `capacity` messages, and for the bytes of the limit.
    pub(super) fn new(capacity: usize, limit: QueueLimit) -> Self {
        Self {
            ring: Ring::new(capacity),
            limit: QueueLimit::new(capacity, limit.bytes),
            held: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            readiness: AtomicU64::new(pack(Readiness::default(), false)),
            waiters: Waiters::new(),
        }
    }

    /// Accepts a message, or returns it with the reason.
    #[expect(
        clippy::result_large_err,
        reason = "the offer goes back, and a box for it would be an allocation"
    )]
    pub(super) fn try_push(&self, offer: Offer) -> Result<Ticket, (Offer, SendErrorKind)> {
        let size = offer.message.len();
        if let Err(kind) = self.reserve(size, offer.session()) {
            return Err((offer, kind));
        }
        let claimed = self.ring.claim();
        let Some(position) = claimed else {
            self.give_back(1, size);
            return Err((offer, SendErrorKind::Closed));
        };
        let Offer { message, special, expires } = offer;
        let ticket = position + 1;
        self.ring.fill(position, Item { ticket, message, special, expires }).map_err(|item| {
            self.give_back(1, size);
            let Item { ticket: _, message, special, expires } = item;
            (Offer { message, special, expires }, SendErrorKind::Closed)
        })?;
        Ok(Ticket(ticket))
    }

    /// Takes a message's share of the bound. Repeats only where another thread changed what is held.
    fn reserve(&self, size: usize, session: Option<u64>) -> Result<(), SendErrorKind> {
        let mut held = self.held.load(Acquire);
        loop {
            self.admit(Held::new(held), size, session)?;
            match self.held.compare_exchange(held, held + share(1, size), AcqRel, Acquire) {
                Ok(_) => return Ok(()),
                Err(now) => held = now,
            }
        }
    }

    fn admit(&self, held: Held, size: usize, session: Option<u64>) -> Result<(), SendErrorKind> {
        if self.ring.is_closed() {
            return Err(SendErrorKind::Closed);
        }
        let (readiness, refuses) = unpack(self.readiness.load(Acquire));
        match readiness {
            Readiness::NotReady(state) if refuses || session.is_some() => {
                return Err(SendErrorKind::NotReady { state });
            }
            // The line was lost and has come back since, or it is just being lost.
            Readiness::Ready(now)
                if session.is_some_and(|session| session != now)
                    || (!held.ready && (refuses || session.is_some())) =>
            {
                return Err(SendErrorKind::NotReady { state: ConnectionState::Disconnected });
            }
            Readiness::Ready(_) | Readiness::NotReady(_) => {}
        }
        let after = held.bytes.saturating_add(size);
        let fits = held.messages < self.limit.messages && after <= self.limit.bytes;
        // A message larger than the bound must get through as well. It has the queue to itself.
        if (fits || held.messages == 0) && after as u64 <= MOST_BYTES {
            return Ok(());
        }
        Err(SendErrorKind::Full { messages: held.messages, bytes: held.bytes })
    }

    /// Waits until there may be room, at most this long.
    pub(super) fn wait_for_room(&self, size: usize, session: Option<u64>, left: Duration) {
        self.waiters.wait(Some(left), || {
            let held = Held::new(self.held.load(Acquire));
            !matches!(self.admit(held, size, session), Err(SendErrorKind::Full { .. }))
        });
    }

    /// Takes what is there, in order, and gives back the room of the messages written since the last call. Returns the
    /// tickets that were revoked. For the I/O thread.
    pub(super) fn exchange(&self, mine: &mut VecDeque<Item>, released: (usize, usize)) -> Vec<u64> {
        let mut revoked = Vec::new();
        let before = mine.len();
        if self.ring.is_closed() {
            while let Some(next) = self.ring.next_or_revoke() {
                match next {
                    Ok(item) => mine.push_back(item),
                    Err(position) => revoked.push(position + 1),
                }
            }
            self.revoked.fetch_add(revoked.len() as u64, Relaxed);
        } else {
            mine.extend(std::iter::from_fn(|| self.ring.next()));
        }
        let taken = self.taken.load(Relaxed) + (mine.len() - before) as u64;
        self.taken.store(taken - released.0 as u64, Relaxed);
        if released.0 > 0 {
            self.give_back(released.0, released.1);
            self.waiters.wake();
        }
        revoked
    }

    fn give_back(&self, messages: usize, bytes: usize) {
        self.held.fetch_sub(share(messages, bytes), AcqRel);
    }

    /// Whether the next message is there. For the I/O thread.
    pub(super) fn has_next(&self) -> bool {
        self.ring.has_next()
    }

    /// Whether messages are accepted that the I/O thread has not taken: callers may be about to fill their places. For the
    /// I/O thread.
    pub(super) fn owes(&self) -> bool {
        self.held().0 as u64 > self.taken.load(Relaxed)
    }

    /// The ticket of the newest message.
    pub(super) fn last_ticket(&self) -> u64 {
        self.ring.end()
    }

    pub(super) fn accepted(&self) -> u64 {
        self.ring.end() - self.revoked.load(Relaxed)
    }

    /// How many messages are accepted and not yet written, and their bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        let Held { messages, bytes, .. } = Held::new(self.held.load(Acquire));
        (messages, bytes)
    }

    pub(super) fn readiness(&self) -> Readiness {
        unpack(self.readiness.load(Acquire)).0
    }

    pub(super) fn set_readiness(&self, readiness: Readiness, refuses: bool) {
        self.readiness.store(pack(readiness, refuses), Release);
        match readiness {
            Readiness::Ready(_) => self.held.fetch_or(READY, AcqRel),
            Readiness::NotReady(_) => self.held.fetch_and(!READY, AcqRel),
        };
        self.waiters.wake();
    }

    pub(super) fn close(&self) -> bool {
        let was_open = self.ring.close();
        self.waiters.wake();
        was_open
    }
}

/// The readiness in one word: the number of the session, whether messages are refused meanwhile, and the state or, of a ready
/// line, [`IS_READY`].
fn pack(readiness: Readiness, refuses: bool) -> u64 {
    let word = match readiness {
        Readiness::Ready(session) => session << 4 | IS_READY,
        Readiness::NotReady(state) => u64::from(state as u8),
    };
    word | u64::from(refuses) << 3
}

fn unpack(word: u64) -> (Readiness, bool) {
    let readiness = match word & IS_READY {
        IS_READY => Readiness::Ready(word >> 4),
        state => Readiness::NotReady(ConnectionState::from_number(state.to_le_bytes()[0])),
    };
    (readiness, word & 8 != 0)
}

const IS_READY: u64 = 7;
