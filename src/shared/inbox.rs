//! The messages that have arrived, for callers that must wait for nobody.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, TryRecvError};

use crate::message::Message;
use crate::shared::ring::Ring;
use crate::shared::waiters::Waiters;

/// The side of the callers.
pub(crate) struct Inbox {
    ring: Ring<Message>,
    /// What had found no place when the client ended.
    rest: OnceLock<Ring<Message>>,
    /// Callers that wait for a message.
    waiters: Waiters,
}

/// The side of the I/O thread. Dropping it closes the inbox.
pub(crate) struct InboxWriter {
    inbox: Arc<Inbox>,
    /// Messages that have found no place: a protocol has delivered many at once, or a caller has taken a message and not yet
    /// left its place.
    waiting: VecDeque<Message>,
}

impl Inbox {
    /// An inbox with room for this many messages, and the one side that puts them in.
    pub(crate) fn new(capacity: usize) -> (Arc<Self>, InboxWriter) {
        let inbox =
            Arc::new(Self { ring: Ring::new(capacity), rest: OnceLock::new(), waiters: Waiters::new() });
        let writer = InboxWriter { inbox: Arc::clone(&inbox), waiting: VecDeque::new() };
        (inbox, writer)
    }

    /// Takes the next message. Waits for nobody.
    ///
    /// # Errors
    /// There is none now, or none will come any more.
    pub(crate) fn try_take(&self) -> Result<Message, TryRecvError> {
        // In this order: nothing is put in behind the close.
        let closed = self.ring.is_closed();
        if let Some(message) = self.ring.take() {
            return Ok(message);
        }
        if !closed {
            return Err(TryRecvError::Empty);
        }
        self.rest.get().and_then(Ring::take).ok_or(TryRecvError::Disconnected)
    }

    /// Takes the next message, and waits for it until `deadline`. `remaining` returns the time left.
    ///
    /// # Errors
    /// None has come by then, or none will come any more.
    pub(crate) fn take(
        &self,
        deadline: Option<Instant>,
        remaining: impl Fn(Instant) -> Duration,
    ) -> Result<Message, RecvTimeoutError> {
        loop {
            match self.try_take() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            let left = deadline.map(&remaining);
            if left.is_some_and(|left| left.is_zero()) {
                return Err(RecvTimeoutError::Timeout);
            }
            self.waiters.wait(left, || !self.ring.is_empty() || self.ring.is_closed());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }

    /// The first half of [`try_take`](Self::try_take), of a caller that then loses its processor: says which message it will
    /// take.
    #[cfg(any(fuzzing, all(test, feature = "oracle")))]
    pub(crate) fn begin_take(&self) -> Option<u64> {
        self.ring.claim_next()
    }

    /// The second half: takes that message.
    #[cfg(any(fuzzing, all(test, feature = "oracle")))]
    pub(crate) fn end_take(&self, claimed: u64) -> Option<Message> {
        self.ring.empty(claimed)
    }
}

impl InboxWriter {
    /// Puts a message in or, if there is no place for it, keeps it for later. Callers that wait are woken by
    /// [`wake`](Self::wake).
    pub(crate) fn put(&mut self, message: Message) {
        if !self.waiting.is_empty() {
            return self.waiting.push_back(message);
        }
        if let Err(message) = self.inbox.ring.put(message) {
            self.waiting.push_back(message);
        }
    }

    /// Puts in what has waited for a place, as far as there are places. Returns whether there were any.
    pub(crate) fn put_waiting(&mut self) -> bool {
        let mut any = false;
        while let Some(message) = self.waiting.pop_front() {
            if let Err(message) = self.inbox.ring.put(message) {
                self.waiting.push_front(message);
                break;
            }
            any = true;
        }
        any
    }

    /// Wakes callers that wait for a message.
    pub(crate) fn wake(&self) {
        self.inbox.waiters.wake();
    }

    /// Whether a message waits for a place.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether a message waits for a place, and there is one.
    pub(crate) fn may_go_on(&self) -> bool {
        self.has_waiting() && self.inbox.ring.has_place()
    }

    /// How many messages were not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.inbox.ring.len() + self.waiting.len()
    }
}

impl Drop for InboxWriter {
    fn drop(&mut self) {
        if !self.waiting.is_empty() {
            let rest = Ring::new(self.waiting.len());
            self.waiting.drain(..).for_each(|message| _ = rest.put(message));
            let _ = self.inbox.rest.set(rest);
        }
        self.inbox.ring.close();
        self.wake();
    }
}
