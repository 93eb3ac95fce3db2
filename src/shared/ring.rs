//! A bounded queue of which no call waits for another thread, wherever that thread was stopped.
//!
//! A place is claimed by one atomic step, and filled by another. In between, the claimer may lose its processor for as long as
//! it takes. Nobody waits for it: a reader takes the place for not there yet, and a writer takes a place that a reader has
//! claimed and not left for occupied.
//!
//! Each place has two cells, for one box of memory that stays with it: in `free` the box is empty, in `full` it has a value,
//! and in neither it is in a thread's hands. So values are moved, and neither put nor take allocates or frees memory.
//!
//! A ring is used in one of two ways:
//!
//! * Many writers [`claim`](Ring::claim) and [`fill`](Ring::fill), and one reader calls [`next`](Ring::next). Somebody else
//!   bounds them: there are never more claims than places whose values the reader has taken.
//! * One writer [puts](Ring::put), and many readers [take](Ring::take).

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};

use crate::shared::sync::{AtomicCell, AtomicU64};

pub(super) struct Ring<T> {
    places: Box<[Place<T>]>,
    /// The position of the next claim, and [`CLOSED`]. Positions rise by one for ever.
    tail: AtomicU64,
    /// The position of the next value to be taken.
    head: AtomicU64,
}

struct Place<T> {
    full: AtomicCell<Option<Filled<T>>>,
    free: AtomicCell<Option<Filled<T>>>,
}

/// A box with a value or, in `free`, without one. Without a value in `full`, it says that the reader has gone on: no value may
/// come here any more.
type Filled<T> = Box<Option<T>>;

/// No position can be claimed any more.
const CLOSED: u64 = 1 << 63;

impl<T> Ring<T> {
    /// A ring with this many places, and one at least.
    pub(super) fn new(places: usize) -> Self {
        let place = |_| Place { full: AtomicCell::new(None), free: AtomicCell::new(Some(Box::default())) };
        Self {
            places: (0..places.max(1)).map(place).collect(),
            tail: AtomicU64::new(0),
            head: AtomicU64::new(0),
        }
    }

    /// Claims the next position, unless the ring is closed. Repeats only where another writer got ahead.
    pub(super) fn claim(&self) -> Option<u64> {
        let mut tail = self.tail.load(Relaxed);
        while tail & CLOSED == 0 {
            // Release and acquire: who claims a position has seen all that those before it had seen, among it that the
            // reader has left the place.
            match self.tail.compare_exchange(tail, tail + 1, AcqRel, Relaxed) {
                Ok(position) => return Some(position),
                Err(now) => tail = now,
            }
        }
        None
    }

    /// Fills a claimed position. Returns the value if the reader has gone on without it.
    pub(super) fn fill(&self, position: u64, value: T) -> Result<(), T> {
        let place = self.place(position);
        // The box is there: see the module.
        let mut filled = place.free.take().unwrap_or_default();
        *filled = Some(value);
        let Some(mark) = place.full.swap(Some(filled)) else { return Ok(()) };
        // The boxes stay with the place: a refusal frees no memory either.
        place.free.swap(Some(mark));
        let Some(mut filled) = place.full.take() else { return Ok(()) };
        let value = filled.take();
        place.full.swap(Some(filled));
        value.map_or(Ok(()), Err)
    }

    /// Takes the next value, if it is there. For the one reader.
    pub(super) fn next(&self) -> Option<T> {
        let position = self.head.load(Relaxed);
        let mut filled = self.place(position).full.take()?;
        let value = filled.take();
        self.place(position).free.swap(Some(filled));
        self.head.store(position + 1, SeqCst);
        value
    }

    /// Whether the next value is there. For the one reader.
    pub(super) fn has_next(&self) -> bool {
        let place = self.place(self.head.load(Relaxed));
        // Taken and put back: that is in order with every swap of a writer, so that this reader sees the value, or the writer
        // sees all that this reader did before.
        let filled = place.full.take();
        let there = filled.is_some();
        if there {
            place.full.swap(filled);
        }
        there
    }

    /// Takes the next value of a closed ring, or sees to it that it does not come: `Err` has its position. `None` behind the
    /// last claim. For the one reader.
    pub(super) fn next_or_revoke(&self) -> Option<Result<T, u64>> {
        let position = self.head.load(Relaxed);
        if position >= self.end() {
            return None;
        }
        if let Some(value) = self.next() {
            return Some(Ok(value));
        }
        let late = self.place(position).full.swap(Some(Box::default()));
        self.head.store(position + 1, SeqCst);
        Some(late.and_then(|filled| *filled).ok_or(position))
    }

    /// Puts a value into the next place, unless that is occupied. For the one writer.
    pub(super) fn put(&self, value: T) -> Result<(), T> {
        let position = self.end();
        let place = self.place(position);
        let Some(mut filled) = place.free.take() else { return Err(value) };
        *filled = Some(value);
        place.full.swap(Some(filled));
        self.tail.store(position + 1, SeqCst);
        Ok(())
    }

    /// Whether the next place is free. For the one writer.
    pub(super) fn has_place(&self) -> bool {
        let place = self.place(self.end());
        // As in `has_next`.
        let free = place.free.take();
        let there = free.is_some();
        if there {
            place.free.swap(free);
        }
        there
    }

    /// Takes the next value, if there is one.
    pub(super) fn take(&self) -> Option<T> {
        self.claim_next().and_then(|position| self.empty(position))
    }

    /// Claims the next value, if there is one. Repeats only where another reader got ahead.
    pub(super) fn claim_next(&self) -> Option<u64> {
        let mut head = self.head.load(SeqCst);
        loop {
            if head >= self.end() {
                return None;
            }
            match self.head.compare_exchange(head, head + 1, SeqCst, SeqCst) {
                Ok(_) => return Some(head),
                Err(now) => head = now,
            }
        }
    }

    /// Takes a claimed value, and leaves its place.
    pub(super) fn empty(&self, position: u64) -> Option<T> {
        // The writer had filled the place before it said so in the tail.
        let mut filled = self.place(position).full.take()?;
        let value = filled.take();
        self.place(position).free.swap(Some(filled));
        value
    }

    /// No position can be claimed any more.
    pub(super) fn close(&self) -> bool {
        self.tail.fetch_or(CLOSED, AcqRel) & CLOSED == 0
    }

    pub(super) fn is_closed(&self) -> bool {
        self.tail.load(Acquire) & CLOSED != 0
    }

    /// How many positions were ever claimed.
    pub(super) fn end(&self) -> u64 {
        self.tail.load(SeqCst) & !CLOSED
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values stand in the ring, or are about to.
    pub(super) fn len(&self) -> usize {
        let head = self.head.load(SeqCst);
        usize::try_from(self.end() - head).unwrap_or(usize::MAX)
    }

    fn place(&self, position: u64) -> &Place<T> {
        let places = self.places.len() as u64;
        let at = usize::try_from(position % places).unwrap_or_default();
        &self.places[at]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_swapped_in_one_step() {
        assert!(AtomicCell::<Option<Filled<[u8; 200]>>>::is_lock_free());
    }

    #[test]
    fn a_writer_that_was_stopped_holds_up_only_those_behind_it() {
        let ring = Ring::new(3);
        let stopped = ring.claim().unwrap();
        let other = ring.claim().unwrap();
        ring.fill(other, "second").unwrap();
        assert!(!ring.has_next() && ring.next().is_none(), "in order");
        ring.fill(stopped, "first").unwrap();
        assert!(ring.has_next());
        assert_eq!([ring.next(), ring.next(), ring.next()], [Some("first"), Some("second"), None]);
    }

    #[test]
    fn what_was_claimed_and_not_brought_when_the_ring_closes_comes_back_to_its_writer() {
        let ring = Ring::new(4);
        let claims = [(); 3].map(|()| ring.claim().unwrap());
        ring.fill(claims[0], "first").unwrap();
        ring.fill(claims[2], "third").unwrap();
        ring.close();
        assert_eq!(ring.claim(), None);
        let fates: Vec<_> = std::iter::from_fn(|| ring.next_or_revoke()).collect();
        assert_eq!(fates, [Ok("first"), Err(1), Ok("third")]);
        assert_eq!(ring.fill(claims[1], "second"), Err("second"));
        assert_eq!((ring.end(), ring.next_or_revoke()), (3, None));
    }

    #[test]
    fn a_reader_that_was_stopped_keeps_its_place_and_nobody_waits_for_it() {
        let ring = Ring::new(2);
        assert_eq!([ring.put(1), ring.put(2), ring.put(3)], [Ok(()), Ok(()), Err(3)]);
        let stopped = ring.claim_next().unwrap();
        assert_eq!([ring.take(), ring.take()], [Some(2), None]);
        assert!(!ring.has_place());
        assert_eq!(ring.put(3), Err(3), "the next place is that of the first value");
        assert_eq!(ring.empty(stopped), Some(1));
        assert!(ring.has_place());
        assert_eq!((ring.put(3), ring.put(4), ring.take()), (Ok(()), Ok(()), Some(3)));
    }
}
