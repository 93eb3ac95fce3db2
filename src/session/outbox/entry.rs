//! A message in the outbox.

use std::time::Instant;

use crate::message::Message;

/// A message, whether it was written to a connection that was lost, how many connections were lost over it, and on how many
/// the protocol has failed to send it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ticket: u64,
    pub(super) message: Message,
    /// When the message is too old to be written for the first time.
    pub(super) expires: Option<Instant>,
    pub(super) was_written: bool,
    pub(super) losses: u8,
    pub(super) failures: u8,
    pub(super) carry: Carry,
}

/// Whether a message is carried over to another connection, as long as it has not arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carry {
    /// It is, as the delivery says.
    Always,
    /// A request: it is until it was handed over.
    Unsent,
    /// A message for this connection only: it is not. A move is no other connection in this sense, as long as nothing of
    /// the message was written.
    Never,
}
