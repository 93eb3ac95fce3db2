//! Messages between a caller and the I/O thread.

use std::time::Instant;

use crossbeam_channel::Sender;

use crate::error::Error;
use crate::message::Message;

/// Where the answer to a request goes.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) way: Sender<Result<Message, Error>>,
    /// The caller takes several answers.
    pub(crate) many: bool,
}

/// A message that is not sent like most others.
#[derive(Debug)]
pub(crate) enum Special {
    /// A request.
    Request(Reply),
    /// A message for this session of the line only: see [`Readiness::Ready`].
    ThisConnection(u64),
}

/// A message on its way to the I/O thread.
pub(crate) struct Item {
    pub(crate) ticket: u64,
    pub(crate) message: Message,
    /// Boxed, because each message in the queue is copied in its full size to another processor.
    pub(crate) special: Option<Box<Special>>,
    /// When the message is too old to be written.
    pub(crate) expires: Option<Instant>,
}

/// A message that a caller wants accepted.
pub(crate) struct Offer {
    pub(crate) message: Message,
    pub(crate) special: Option<Box<Special>>,
    pub(crate) expires: Option<Instant>,
}

impl Offer {
    /// A message, for this session of the line only if one is given.
    pub(crate) fn new(message: Message, session: Option<u64>, expires: Option<Instant>) -> Self {
        Self { message, special: session.map(|session| Box::new(Special::ThisConnection(session))), expires }
    }

    /// The session that the message is for, if it is for one only.
    pub(crate) fn session(&self) -> Option<u64> {
        match self.special.as_deref() {
            Some(Special::ThisConnection(session)) => Some(*session),
            Some(Special::Request(_)) | None => None,
        }
    }
}
