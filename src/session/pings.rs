//! The pings of a connection, and what their answers confirm.

use std::collections::VecDeque;

#[derive(Debug, Default)]
pub(super) struct Pings {
    /// The number of each ping that is under way, with the last ticket handed over before it.
    sent: VecDeque<(u64, u64)>,
    /// The last ticket that a ping has asked for.
    pub(super) asked: u64,
}

impl Pings {
    pub(super) fn send(&mut self, number: u64, through: u64) {
        self.sent.push_back((number, through));
        self.asked = through;
        // The oldest would confirm the least.
        if self.sent.len() > 32 {
            self.sent.pop_front();
        }
    }

    /// The answer to ping `number` came: the ticket up to which everything has arrived.
    pub(super) fn answer(&mut self, number: u64) -> Option<u64> {
        let at = self.sent.iter().position(|(sent, _)| *sent == number)?;
        self.sent.drain(..=at).next_back().map(|(_, ticket)| ticket)
    }
}
