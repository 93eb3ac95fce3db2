//! Which bytes of a connection end which messages.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Marks {
    queue: VecDeque<Mark>,
    /// The byte count up to which everything handed over is marked.
    end: u64,
}

/// Everything up to `ticket` and up to beat `beat` lies before byte `end`, and nothing after ticket `begun`.
#[derive(Debug)]
pub(super) struct Mark {
    start: u64,
    end: u64,
    pub(super) ticket: u64,
    pub(super) begun: u64,
    pub(super) beat: u64,
}

impl Marks {
    /// A new connection begins, of which the system has already taken `taken` bytes.
    pub(super) fn begin(&mut self, taken: u64) {
        self.end = taken;
    }

    /// What was handed over since the last mark ends at byte `end`.
    pub(super) fn push(&mut self, end: u64, ticket: u64, begun: u64, beat: u64) {
        if end > self.end {
            self.queue.push_back(Mark { start: self.end, end, ticket, begun, beat });
            self.end = end;
        }
    }

    /// The oldest mark, if the system has taken all before it.
    pub(super) fn pop_taken(&mut self, taken: u64) -> Option<Mark> {
        self.queue.front().filter(|mark| mark.end <= taken)?;
        self.queue.pop_front()
    }

    /// The last message of which the system may have taken something, if that is behind a mark that it has not reached.
    pub(super) fn touched(&self, taken: u64) -> Option<u64> {
        self.queue.iter().take_while(|mark| mark.start < taken).last().map(|mark| mark.begun)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Frees the memory that a burst has left behind.
    pub(super) fn shrink(&mut self) {
        self.queue.shrink_to_fit();
    }
}
