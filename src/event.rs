//! What a client tells its application.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{CloseFrame, Error};
use crate::message::Message;
use crate::state::ConnectionState;
pub use crate::ticket::{Ticket, Tickets};

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
    /// Messages that arrived on the new one may stand before this.
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
    /// Messages were never sent, and never will be. Each waited longer than
    /// [`max_age`](crate::ConnectionConfig::max_age), or the protocol's [`on_send`](crate::Protocol::on_send) failed three
    /// times over it; the log has a warning for each of these.
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
    /// Events other than messages were left out, since more than 256 of them stood unread. The tickets that they named are
    /// gone with them; [`confirm`](crate::Client::confirm) still tells.
    ///
    /// It stands directly before the next event other than a message that finds room, which [`Closed`](Self::Closed) always
    /// does, and comes with that one. What came before the left-out events stands before it; so do the messages that have
    /// arrived since.
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
    NotRetried(DisconnectReason),
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

/// What is left of the outbox and of the last connection when a client is closed.
///
/// When the server closed the line or the client gave up, the same tickets stand in the last
/// [`Event::Disconnected`] too. What earlier connections lost, and what expired, is not in here: it was told by events
/// and by [`confirm`](crate::Client::confirm).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Undelivered {
    /// Messages that were accepted and never written to a connection, in order.
    pub never_written: Vec<Message>,
    /// Messages that were written to the last connection without a confirmation that they arrived; at least once, those
    /// of connections before it, too, that waited to be sent again.
    pub maybe_delivered: Tickets,
    /// The threads that are still inside a call that can't be interrupted, and which call: a look-up in the system's
    /// resolver, a `fetch`, a protocol's work (`tautline-dial: looking up gateway.example`), or a callback that did not
    /// return within the bound of the end (`tautline-io: on_message`). Each does no harm, and ends when that call returns.
    /// The code and the data of that call must stay until then; nothing else of the application's is called.
    pub still_inside: Option<Box<str>>,
    /// What is left is not known: the call was made on the I/O thread of a client, so that the close is still under way; a
    /// callback did not return, and that thread is still inside; or it ended by a defect of this library, and what it held
    /// is gone.
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
            | Self::NotRetried(DisconnectReason::ClosedByServer(CloseFrame { code: 1000, .. })) => Ok(()),
            other => Err(other.into_error()),
        }
    }

    /// The same as an error, also where the end was a normal one.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::ByCaller => Error::Closed,
            Self::NotRetried(reason) => reason.to_error(),
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

impl Undelivered {
    /// Whether nothing is left: nothing was in the outbox, and nothing that was written to the last connection is in
    /// doubt. It says nothing of earlier losses, nor of what expired; see [`Undelivered`].
    pub fn is_empty(&self) -> bool {
        self.never_written.is_empty() && self.maybe_delivered.is_empty() && !self.unfinished
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
            Self::NotRetried(reason) => write!(f, "not reconnecting: {reason}"),
            Self::GaveUp { .. } => self.clone().into_error().fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::tests::every_error;

    #[test]
    fn a_normal_close_is_no_error_and_any_other_is_one() {
        assert!(CloseReason::ByCaller.into_result().is_ok());
        let by_server =
            |code| CloseReason::NotRetried(DisconnectReason::ClosedByServer(CloseFrame::new(code, "")));
        assert!(by_server(1000).into_result().is_ok());
        assert!(matches!(by_server(1008).into_result(), Err(Error::ClosedByServer(_))));
        let gave_up = CloseReason::GaveUp { attempts: 2, last: DisconnectReason::Lost(Error::Closed) };
        assert!(matches!(gave_up.into_result(), Err(Error::GaveUp { attempts: 2, .. })));
    }

    #[test]
    fn the_reasons_of_events_say_what_happened_and_why_once() {
        for error in every_error() {
            let text = error.to_string();
            for reason in
                [DisconnectReason::ConnectFailed(error.clone()), DisconnectReason::Lost(error.clone())]
            {
                assert_eq!(reason.to_string(), text);
                assert_eq!(reason.to_error().to_string(), text);
                let ends = [
                    CloseReason::NotRetried(reason.clone()),
                    CloseReason::GaveUp { attempts: 2, last: reason },
                    CloseReason::Failed(error.clone()),
                ];
                for end in ends {
                    assert_eq!(end.to_string().matches(&text).count(), 1, "{end}");
                    assert_eq!(
                        end.into_result().unwrap_err().to_string().matches(&text).count(),
                        1,
                        "{text}"
                    );
                }
            }
        }
    }
}
