//! A message that was not accepted.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::message::Message;
use crate::state::ConnectionState;

/// A message was not accepted. The error holds the message.
///
/// ```
/// # use tautline::{Client, SendErrorKind};
/// # let client = Client::start("ws://127.0.0.1:9")?;
/// # client.terminate();
/// let error = client.try_send("precious").unwrap_err();
/// assert_eq!(error.kind(), SendErrorKind::Closed);
/// assert_eq!(error.into_message().as_text(), Some("precious"));
/// # Ok::<(), tautline::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SendError {
    /// Boxed: a result that is `Ok` has room for the error too, and is moved in every call.
    message: Box<Message>,
    kind: SendErrorKind,
    /// What `send_all` had already taken from its iterator after that message.
    rest: Vec<Message>,
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
    /// The line is not ready, and [`WhileDown::Refuse`](crate::WhileDown::Refuse) is configured.
    #[non_exhaustive]
    NotReady {
        /// The state of the line.
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
}

impl SendError {
    pub(crate) fn new(message: Message, kind: SendErrorKind) -> Self {
        Self { message: Box::new(message), kind, rest: Vec::new() }
    }

    /// The same error with another reason.
    pub(crate) fn because(self, kind: SendErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// Adds the messages that were to follow.
    pub(crate) fn with(mut self, rest: impl Iterator<Item = Message>) -> Self {
        self.rest.extend(rest);
        self
    }

    /// Returns why the message was not accepted.
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// Returns the message that was not accepted.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the message, to send it later or elsewhere.
    pub fn into_message(self) -> Message {
        *self.message
    }

    /// Returns every message that was not accepted: the [`message`](Self::message), and those that
    /// [`send_all`](crate::Client::send_all) had already taken from its iterator after it.
    pub fn into_unsent(self) -> Vec<Message> {
        let mut unsent = vec![*self.message];
        unsent.extend(self.rest);
        unsent
    }
}

impl From<SendErrorKind> for Error {
    fn from(kind: SendErrorKind) -> Self {
        Self::Send(kind)
    }
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        Self::Send(error.kind)
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
            Self::NotReady { state } => write!(f, "the line is {state}, and while_down is Refuse"),
            Self::Closed => f.write_str("the client is closed"),
            Self::TooLarge { size, limit } => {
                write!(f, "the message has {size} bytes; max_message_size allows {limit}")
            }
            Self::WouldDeadlock => f.write_str(
                "the outbox is full, and blocking in a callback, on an I/O thread, would stop the line; use try_send here",
            ),
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rest.len() {
            0 => write!(f, "{}; the message is inside this error", self.kind),
            rest => {
                write!(f, "{}; the message and {rest} that were to follow are inside this error", self.kind)
            }
        }
    }
}

/// The text of `Display`, which is what Rust prints of an error that `main` returns. No message is shown.
impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for SendError {}
