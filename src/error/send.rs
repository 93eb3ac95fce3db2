//! A message that was not accepted.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::debug::print;
use crate::error::source::beyond;
use crate::error::{CloseReason, Error};
use crate::message::Message;
use crate::state::ConnectionState;

/// A message was not accepted. The error holds the message, as it was: to refuse one allocates no memory.
///
/// ```
/// # use tautline::{Client, SendErrorKind};
/// # let client = Client::start("ws://127.0.0.1:9")?;
/// # let _ = client.terminate();
/// let error = client.try_send("precious").unwrap_err();
/// assert_eq!(error.kind(), SendErrorKind::Closed);
/// assert_eq!(error.into_message().as_text(), Some("precious"));
/// # Ok::<(), tautline::Error>(())
/// ```
#[derive(Clone)]
pub struct SendError {
    unsent: Unsent,
    why: Why,
}

#[derive(Clone)]
enum Unsent {
    One(Message),
    /// The message, and what `send_all` had already taken from its iterator after it. Boxed, as it is rare: a result that is
    /// `Ok` has room for the error too.
    Many(Box<(Message, Vec<Message>)>),
}

#[derive(Clone)]
enum Why {
    /// The client is closed, and why, if that is known.
    Closed(Option<Arc<CloseReason>>),
    /// Any other kind.
    Other(SendErrorKind),
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// The outbox is full, by count or by bytes.
    #[non_exhaustive]
    Full {
        /// How many messages the outbox holds.
        messages: usize,
        /// How many bytes they have.
        bytes: usize,
    },
    /// The outbox stayed full until the timeout.
    #[non_exhaustive]
    Timeout {
        /// The timeout that the caller gave.
        after: Duration,
    },
    /// The outbox is full, and the application takes none of the messages that have arrived. The server may be waiting
    /// for that before it reads more. Take messages, or send from another thread.
    #[non_exhaustive]
    ConsumerStalled {
        /// How long neither side took a message: the heartbeat's timeout.
        after: Duration,
    },
    /// The line is not ready, and [`WhileDown::Refuse`](crate::WhileDown::Refuse) is configured or the message is for
    /// [this connection](crate::SendOptions::this_connection) only. If such a message waited for room, the line may be
    /// ready again.
    #[non_exhaustive]
    NotReady {
        /// The state of the line, or `Disconnected` if it was lost in the meantime.
        state: ConnectionState,
    },
    /// The client is closing or closed.
    Closed,
    /// The message is larger than `max_message_size`.
    #[non_exhaustive]
    TooLarge {
        /// The message's size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The outbox is full, and the call was made in a callback, on the I/O thread of this client or another, where
    /// blocking would stop that client's line. Send from another thread, or use [`try_send`](crate::Client::try_send).
    WouldDeadlock,
    /// The client was made by the process that this one was forked from: see [`Error::Forked`](crate::Error::Forked).
    Forked,
}

/// Why a client can't be used in a child process, and what to do.
pub(super) const FORKED: &str = "the client belongs to the process that forked this one, and its threads are there; make a new client in this process";

impl SendError {
    pub(crate) fn new(message: Message, kind: SendErrorKind) -> Self {
        Self { unsent: Unsent::One(message), why: kind.into() }
    }

    /// The same error with another reason.
    pub(crate) fn because(self, kind: SendErrorKind) -> Self {
        Self { why: kind.into(), ..self }
    }

    /// Says why the client is closed, if that is why the message was not accepted.
    pub(crate) fn explained(mut self, reason: impl FnOnce() -> Arc<CloseReason>) -> Self {
        if let Why::Closed(why) = &mut self.why {
            *why = Some(reason());
        }
        self
    }

    /// Adds the messages that were to follow.
    pub(crate) fn with(self, rest: impl Iterator<Item = Message>) -> Self {
        let (message, mut all) = self.unsent.apart();
        all.extend(rest);
        Self { unsent: Unsent::Many(Box::new((message, all))), ..self }
    }

    fn rest(&self) -> &[Message] {
        match &self.unsent {
            Unsent::One(_) => &[],
            Unsent::Many(all) => &all.1,
        }
    }

    fn closed(&self) -> Option<&Arc<CloseReason>> {
        match &self.why {
            Why::Closed(reason) => reason.as_ref(),
            Why::Other(_) => None,
        }
    }

    /// Returns why the message was not accepted.
    pub fn kind(&self) -> SendErrorKind {
        match self.why {
            Why::Closed(_) => SendErrorKind::Closed,
            Why::Other(kind) => kind,
        }
    }

    /// Returns the message that was not accepted.
    pub fn message(&self) -> &Message {
        match &self.unsent {
            Unsent::One(message) => message,
            Unsent::Many(all) => &all.0,
        }
    }

    /// Returns the message, to send it later or elsewhere.
    pub fn into_message(self) -> Message {
        match self.unsent {
            Unsent::One(message) => message,
            Unsent::Many(all) => all.0,
        }
    }

    /// Returns every message that was not accepted: the [`message`](Self::message), and those that
    /// [`send_all`](crate::Client::send_all) had already taken from its iterator after it.
    pub fn into_unsent(self) -> Vec<Message> {
        let (message, rest) = self.unsent.apart();
        std::iter::once(message).chain(rest).collect()
    }
}

/// Two errors are equal if the same messages were not accepted, and their kinds are equal.
impl PartialEq for SendError {
    fn eq(&self, other: &Self) -> bool {
        (self.kind(), self.message(), self.rest()) == (other.kind(), other.message(), other.rest())
    }
}

impl Eq for SendError {}

impl Unsent {
    /// The message, and the rest.
    fn apart(self) -> (Message, Vec<Message>) {
        match self {
            Self::One(message) => (message, Vec::new()),
            Self::Many(all) => *all,
        }
    }
}

impl From<SendErrorKind> for Why {
    fn from(kind: SendErrorKind) -> Self {
        match kind {
            SendErrorKind::Closed => Self::Closed(None),
            kind => Self::Other(kind),
        }
    }
}

/// A closed client is [`Error::Closed`], that of a parent process is [`Error::Forked`], and anything else is [`Error::Send`].
impl From<SendErrorKind> for Error {
    fn from(kind: SendErrorKind) -> Self {
        match kind {
            SendErrorKind::Closed => Self::Closed { reason: None },
            SendErrorKind::Forked => Self::Forked,
            kind => Self::Send(kind),
        }
    }
}

/// A closed client is [`Error::Closed`], with the reason, that of a parent process is [`Error::Forked`], and anything else is
/// [`Error::Send`]. The message is dropped.
impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error.why {
            Why::Closed(reason) => Self::Closed { reason },
            Why::Other(kind) => kind.into(),
        }
    }
}

impl fmt::Display for SendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { messages, bytes } => write!(f, "the outbox is full ({messages} messages, {bytes} bytes)"),
            Self::Timeout { after } => write!(f, "the outbox stayed full for {after:?}"),
            Self::ConsumerStalled { after } => write!(
                f,
                "the outbox is full, and none of the messages that arrived were taken for {after:?}; take messages, or send from another thread"
            ),
            Self::NotReady { state } => write!(
                f,
                "the line is {state}, and the message may not wait for it (while_down is Refuse, or it is for this connection only)"
            ),
            Self::Closed => f.write_str("the client is closed"),
            Self::TooLarge { size, limit } => {
                write!(f, "the message has {size} bytes; max_message_size allows {limit}")
            }
            Self::WouldDeadlock => f.write_str(
                "the outbox is full, and blocking in a callback, on an I/O thread, would stop the line; use try_send here",
            ),
            Self::Forked => f.write_str(FORKED),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.closed() {
            None => self.kind().fmt(f)?,
            closed => Error::Closed { reason: closed.cloned() }.fmt(f)?,
        }
        match self.rest().len() {
            0 => f.write_str("; the message is inside this error"),
            rest => write!(f, "; the message and {rest} that were to follow are inside this error"),
        }
    }
}

/// What Rust prints of an error that `main` returns: see [`Error`]. No message is shown.
impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self, self.closed().and_then(|reason| reason.error()?.http_answer()))
    }
}

impl StdError for SendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let error = self.closed().and_then(|reason| reason.error());
        beyond(&self.to_string(), error.map(|error| error as _))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_stays_below_the_size_at_which_a_box_would_pay() {
        let size = size_of::<Result<crate::ticket::Ticket, SendError>>();
        assert!(size < 128, "{size} bytes");
    }
}
