//! The messages of a client, as iterators.

use crate::client::Client;
use crate::message::Message;

/// The messages of a client: see [`Client::messages`].
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct Messages<'a> {
    pub(super) client: &'a Client,
}

impl Iterator for Messages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.client.recv().ok()
    }
}

/// The messages that a client has now: see [`Client::try_messages`].
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is asked"]
pub struct TryMessages<'a> {
    pub(super) client: &'a Client,
}

impl Iterator for TryMessages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.client.try_recv().ok().flatten()
    }
}
