//! What a client tells its application.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{CloseFrame, Error};
use crate::message::Message;
use crate::state::ConnectionState;

/// Something that happened on the line, in the order in which it happened.
///
/// ```no_run
/// use tautline::{Client, Event};
///
/// let client = Client::start("ws://127.0.0.1:8080")?;
/// for event in client.events() {
///     match event {
///         Event::Message(message) => println!("{message}"),
///         Event::StateChanged { from, to, .. } => println!("{from} -> {to}"),
///         Event::Disconnected { reason, retry_in, .. } => println!("{reason}; next try in {retry_in:?}"),
///         _ => {}
///     }
/// }
/// # Ok::<(), tautline::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The line went from one state to the next.
    #[non_exhaustive]
    StateChanged {
        /// The state before.
        from: ConnectionState,
        /// The state now.
        to: ConnectionState,
    },
    /// The line is ready: what is sent goes out.
    #[non_exhaustive]
    Connected {
        /// The address that was reached.
        address: SocketAddr,
        /// The subprotocol that the server chose, if it chose one.
        subprotocol: Option<Box<str>>,
        /// How many attempts this took since the line was last ready, this one included.
        attempts: u32,
        /// The session goes on where the last connection left it: see [`Context::resumed`](crate::Context::resumed).
        resumed: bool,
    },
    /// The line has moved to another connection, without a gap: see [`Context::move_line`](crate::Context::move_line).
    #[non_exhaustive]
    Moved {
        /// The address that was reached.
        address: SocketAddr,
        /// The subprotocol that the server chose, if it chose one.
        subprotocol: Option<Box<str>>,
        /// The messages that were written to the old connection without a confirmation that they arrived, and that are
        /// not sent again.
        maybe_delivered: Tickets,
    },
    /// A message arrived.
    Message(Message),
    /// An attempt failed, or an open line was lost.
    #[non_exhaustive]
    Disconnected {
        /// Why.
        reason: DisconnectReason,
        /// When the next attempt will be made, or `None` if there will be none.
        retry_in: Option<Duration>,
        /// The messages that were written to this connection without a confirmation that they arrived, and that are
        /// not sent again.
        maybe_delivered: Tickets,
    },
    /// Messages waited longer than [`max_age`](crate::ConnectionConfig::max_age): they were never sent, and never will
    /// be.
    #[non_exhaustive]
    Expired {
        /// Which.
        tickets: Tickets,
    },
    /// The line is closed for good. Always the last event.
    #[non_exhaustive]
    Closed {
        /// Why.
        reason: CloseReason,
    },
    /// This many events other than messages were left out here, since more than 256 of them stood unread.
    #[non_exhaustive]
    Missed {
        /// How many were left out.
        count: u64,
        /// The state after the last of them.
        state: ConnectionState,
    },
}

/// Why an attempt failed or a line was lost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The attempt to connect failed.
    ConnectFailed(Error),
    /// The server closed the line with a close frame.
    ClosedByServer(CloseFrame),
    /// The open line broke: see the error.
    Lost(Error),
}

/// Why a client is closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// By [`close`](crate::Client::close), [`close_with`](crate::Client::close_with),
    /// [`terminate`](crate::Client::terminate), or because the last handle was dropped.
    ByCaller,
    /// The line was lost, and the rules say not to reconnect: see [`Retry`](crate::Retry).
    Refused(DisconnectReason),
    /// `max_attempts` reconnects have failed in a row.
    #[non_exhaustive]
    GaveUp {
        /// How many reconnects were tried.
        attempts: u32,
        /// Why the last one failed.
        last: DisconnectReason,
    },
    /// The client itself could not go on.
    Failed(Error),
}

/// The number of an accepted message: rises by one with each message of a client, in the order in which they go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(crate) u64);

/// Some [`Ticket`]s; may be none. Mostly one run of them: what expired or was withdrawn in between is not among them.
///
/// ```no_run
/// # use tautline::Event;
/// # fn look(event: Event, mine: tautline::Ticket) {
/// if let Event::Disconnected { maybe_delivered, .. } = event {
///     println!("in doubt: {maybe_delivered}, mine among them: {}", maybe_delivered.contains(mine));
/// }
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tickets(Vec<RangeInclusive<u64>>);

/// What a closed client could not deliver.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Left {
    /// Messages that were accepted and never written to a connection, in order.
    pub never_written: Vec<Message>,
    /// Messages that were written to the last connection without a confirmation that they arrived.
    pub maybe_delivered: Tickets,
    /// The thread that is still inside a call that can't be interrupted, and which call, such as a look-up in the
    /// system's resolver. It does no harm and ends when that call returns.
    pub still_inside: Option<Box<str>>,
    /// The call was made on the I/O thread itself: the close is under way, and what is left is not known yet.
    pub unfinished: bool,
}

impl Event {
    /// The message, if this event is one.
    pub fn into_message(self) -> Option<Message> {
        match self {
            Self::Message(message) => Some(message),
            _ => None,
        }
    }
}

impl DisconnectReason {
    /// The same as an [`Error`].
    pub fn to_error(&self) -> Error {
        match self {
            Self::ConnectFailed(error) | Self::Lost(error) => error.clone(),
            Self::ClosedByServer(frame) => Error::ClosedByServer(frame.clone()),
        }
    }
}

impl CloseReason {
    /// `Ok` if the caller closed the line, or the server closed it normally (1000); else why it ended.
    ///
    /// # Errors
    /// Why the line ended.
    pub fn into_result(self) -> Result<(), Error> {
        match self {
            Self::ByCaller
            | Self::Refused(DisconnectReason::ClosedByServer(CloseFrame { code: 1000, .. })) => Ok(()),
            other => Err(other.into_error()),
        }
    }

    /// The same as an error, also where the end was a normal one.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::ByCaller => Error::Closed,
            Self::Refused(reason) => reason.to_error(),
            Self::GaveUp { attempts, last } => Error::GaveUp { attempts, source: Arc::new(last.to_error()) },
            Self::Failed(error) => error,
        }
    }
}

impl From<Error> for CloseReason {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Ticket {
    /// The number itself. The first message of a client has 1.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl Tickets {
    /// The tickets after `after` up to `last`.
    pub(crate) fn between(after: u64, last: u64) -> Self {
        Self((after < last).then(|| after + 1..=last).into_iter().collect())
    }

    /// These and those, which follow.
    pub(crate) fn and(mut self, next: Self) -> Self {
        self.0.extend(next.0);
        self
    }

    /// The first and the last of them, if there are any.
    pub(crate) fn ends(&self) -> Option<(u64, u64)> {
        Some((*self.0.first()?.start(), *self.0.last()?.end()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|run| run.end() - run.start() + 1).sum()
    }

    /// Whether `ticket` is among them.
    pub fn contains(&self, ticket: Ticket) -> bool {
        self.0.iter().any(|run| run.contains(&ticket.0))
    }

    /// Each of them, rising.
    pub fn iter(&self) -> impl Iterator<Item = Ticket> {
        self.0.iter().cloned().flatten().map(Ticket)
    }
}

impl Left {
    /// Whether every accepted message is known to have arrived.
    pub fn is_empty(&self) -> bool {
        self.never_written.is_empty() && self.maybe_delivered.is_empty() && !self.unfinished
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (at, run) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}#{}", run.start())?;
            if run.end() > run.start() {
                write!(f, " to #{}", run.end())?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed(error) | Self::Lost(error) => error.fmt(f),
            Self::ClosedByServer(frame) => write!(f, "the server closed the line with {frame}"),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByCaller => f.write_str("closed by the caller"),
            Self::Refused(reason) => write!(f, "not reconnecting: {reason}"),
            Self::GaveUp { .. } => self.clone().into_error().fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_name_runs() {
        let run = Tickets::between(3, 6);
        assert_eq!(run.to_string(), "#4 to #6");
        assert_eq!(run.len(), 3);
        assert_eq!(run.iter().map(Ticket::number).collect::<Vec<_>>(), [4, 5, 6]);
        assert!(run.contains(Ticket(4)) && run.contains(Ticket(6)));
        assert!(!run.contains(Ticket(3)) && !run.contains(Ticket(7)));
        assert!(Tickets::between(6, 6).is_empty());
        assert_eq!(Tickets::between(6, 6).len(), 0);
        let runs = Tickets::between(0, 2).and(Tickets::between(4, 5)).and(Tickets::default());
        assert_eq!((runs.to_string().as_str(), runs.len(), runs.ends()), ("#1 to #2, #5", 3, Some((1, 5))));
        assert!(runs.contains(Ticket(5)) && !runs.contains(Ticket(3)));
    }

    #[test]
    fn a_normal_close_is_no_error_and_any_other_is_one() {
        assert!(CloseReason::ByCaller.into_result().is_ok());
        let by_server =
            |code| CloseReason::Refused(DisconnectReason::ClosedByServer(CloseFrame::new(code, "")));
        assert!(by_server(1000).into_result().is_ok());
        assert!(matches!(by_server(1008).into_result(), Err(Error::ClosedByServer(_))));
        let gave_up = CloseReason::GaveUp { attempts: 2, last: DisconnectReason::Lost(Error::Closed) };
        assert!(matches!(gave_up.into_result(), Err(Error::GaveUp { attempts: 2, .. })));
    }
}
