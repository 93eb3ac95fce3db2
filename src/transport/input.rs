//! What was read from the link and no frame has taken yet.

use std::io::{self, Read};
use std::ops::Range;

/// A buffer between the link and the frames. One read of the link fills it, and many small frames are taken out of it.
///
/// It has no memory until something is read, and grows as long as reads fill it.
#[derive(Default)]
pub(super) struct Input {
    /// What waits, and room for more. It is zeroed when it grows, and not at each read.
    bytes: Vec<u8>,
    waiting: Range<usize>,
    /// Whether the last read filled the room: there is more traffic than the buffer is meant for.
    filled: bool,
}

/// How much a first read takes.
const LEAST: usize = 4 << 10;

/// How large the buffer becomes. A larger one saves hardly any time a message, and costs more where the processor's cache has
/// no room for it.
pub(super) const MOST: usize = 16 << 10;

impl Input {
    /// `waiting` is what was read already.
    pub(super) fn new(waiting: Vec<u8>) -> Self {
        Self { waiting: 0..waiting.len(), bytes: waiting, filled: false }
    }

    pub(super) fn waiting(&self) -> &[u8] {
        &self.bytes[self.waiting.clone()]
    }

    pub(super) fn waiting_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.waiting.clone()]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The first `n` bytes of what waits are taken.
    pub(super) fn take(&mut self, n: usize) {
        self.waiting.start += n;
    }

    /// Drops what waits, and frees the memory.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Frees the memory that nothing waits in.
    pub(super) fn shrink(&mut self) {
        self.bytes.truncate(self.waiting.end);
        self.bytes.drain(..self.waiting.start);
        self.bytes.shrink_to_fit();
        (self.waiting, self.filled) = (0..self.bytes.len(), false);
    }

    /// Reads once, behind what waits. No more than some bytes of an incomplete frame may wait then.
    pub(super) fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        let waiting = self.waiting.len();
        if self.waiting.start > 0 {
            self.bytes.copy_within(self.waiting.clone(), 0);
            self.waiting = 0..waiting;
        }
        if self.filled || waiting == self.bytes.len() || self.bytes.len() < LEAST {
            let size = (4 * self.bytes.len()).clamp(LEAST, MOST.max(waiting + LEAST));
            self.bytes.resize(size.max(self.bytes.len()), 0);
        }
        let room = &mut self.bytes[waiting..];
        let n = source.read(room)?;
        self.filled = n == room.len();
        self.waiting.end += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes at a read at most, and then none.
    fn fill(input: &mut Input, bytes: &[u8]) -> usize {
        input.fill(&mut &*bytes).unwrap()
    }

    #[test]
    fn what_waits_stays_in_order_whatever_is_taken_and_read() {
        let stream: Vec<u8> = (0..300_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        for step in [1, 100, 5000, 70_000] {
            let mut input = Input::new(stream[..10].to_vec());
            let (mut read, mut taken) = (10, Vec::new());
            while taken.len() < stream.len() {
                read += fill(&mut input, &stream[read..(read + step).min(stream.len())]);
                // Some bytes always stay, as those of a header that is incomplete.
                let rest = if read < stream.len() { input.waiting().len().min(3) } else { 0 };
                let n = input.waiting().len() - rest;
                taken.extend_from_slice(&input.waiting()[..n]);
                input.take(n);
                if step == 100 {
                    input.shrink();
                }
            }
            assert!(taken == stream && input.is_empty(), "steps of {step}");
        }
    }

    #[test]
    fn it_has_no_memory_at_rest_and_grows_while_reads_fill_it() {
        let mut input = Input::new(Vec::new());
        assert_eq!(input.bytes.capacity(), 0);
        let much = vec![7; 1 << 20];
        let read = |input: &mut Input, bytes: &[u8]| {
            let n = fill(input, bytes);
            input.take(n);
            n
        };
        assert_eq!(read(&mut input, &much[..10]), 10);
        assert_eq!([(); 4].map(|()| read(&mut input, &much)), [LEAST, MOST, MOST, MOST]);
        assert_eq!(read(&mut input, &much[..10]), 10);
        assert_eq!(read(&mut input, &much), MOST, "it does not shrink between two reads");
        input.shrink();
        assert_eq!(input.bytes.capacity(), 0);
        assert_eq!(read(&mut input, &much), LEAST, "it begins anew");
    }

    #[test]
    fn it_grows_for_a_frame_that_has_no_room_in_it() {
        let mut input = Input::new(vec![1; 100]);
        let mut seen = 100;
        for _ in 0..6 {
            seen += fill(&mut input, &[2; 2000]);
        }
        assert_eq!((input.waiting().len(), input.waiting()[99..101].to_vec()), (seen, vec![1, 2]));
        assert!(input.bytes.len() <= MOST && seen > LEAST);
    }

    #[test]
    fn a_read_that_fails_loses_nothing() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
        let mut input = Input::new(vec![1, 2, 3]);
        input.take(1);
        assert!(input.fill(&mut Fails).is_err());
        assert_eq!(input.waiting(), [2, 3]);
        input.clear();
        assert!(input.is_empty() && input.bytes.capacity() == 0);
    }
}
