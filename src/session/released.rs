//! Room in the outbox.

use crate::message::Message;

/// A number of messages, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Released {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

impl Released {
    pub(super) fn add(&mut self, message: &Message) {
        self.messages += 1;
        self.bytes += message.len();
    }

    pub(super) fn take(&mut self, message: &Message) {
        self.messages -= 1;
        self.bytes -= message.len();
    }
}
