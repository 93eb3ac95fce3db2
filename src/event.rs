//! What a client reports to its application.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{CloseFrame, Error};
use crate::handshake::Handshake;
use crate::message::Message;
use crate::state::ConnectionState;
pub use crate::ticket::{Ticket, Tickets};

/// Something that happened on the line. Events arrive in the order in which they happened.
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
    /// The line changed its state.
    #[non_exhaustive]
    StateChanged {
        /// The previous state.
        from: ConnectionState,
        /// The new state.
        to: ConnectionState,
    },
    /// The line is ready: messages are now written.
    #[non_exhaustive]
    Connected {
        /// What the server agreed to: its address, the subprotocol, the headers of its answer, and how long the attempt
        /// took.
        handshake: Arc<Handshake>,
        /// How many attempts this took since the line was last ready, including this one.
        attempts: u32,
        /// Whether the session continues where the last connection left it: see
        /// [`Context::resumed`](crate::Context::resumed).
        resumed: bool,
    },
    /// The line has moved to another connection without a gap: see [`Context::move_line`](crate::Context::move_line).
    /// Messages that arrived on the new connection may precede this event.
    #[non_exhaustive]
    Moved {
        /// What the new server agreed to.
        handshake: Arc<Handshake>,
        /// Messages that were written to the old connection, were not confirmed, and are not sent again.
        maybe_delivered: Tickets,
    },
    /// A message arrived.
    Message(Message),
    /// An attempt failed, or an open connection was lost.
    #[non_exhaustive]
    Disconnected {
        /// Why.
        reason: DisconnectReason,
        /// The delay until the next attempt, or `None` if there will be none.
        retry_in: Option<Duration>,
        /// Messages that were written to this connection, were not confirmed, and are not sent again. Beyond 1,024 runs
        /// of answered requests among them, the oldest of those are listed, too.
        maybe_delivered: Tickets,
    },
    /// Messages were given up before they were sent. There are two reasons:
    /// * The message waited longer than [`max_age`](crate::ConnectionConfig::max_age).
    /// * The protocol's [`on_send`](crate::Protocol::on_send) failed for this message on three connections. The log has
    ///   a warning for each such message.
    #[non_exhaustive]
    Expired {
        /// The messages.
        tickets: Tickets,
    },
    /// The client is closed for good. This is always the last event.
    #[non_exhaustive]
    Closed {
        /// Why.
        reason: CloseReason,
    },
    /// Events other than messages were dropped, because more than 256 of them were unread. The tickets listed in them
    /// are lost, but [`confirm`](crate::Client::confirm) still knows the fate of those messages.
    ///
    /// This event precedes the next event that is not a message and finds room; [`Closed`](Self::Closed) always finds
    /// room. Messages that arrived after the dropped events precede it.
    #[non_exhaustive]
    Missed {
        /// How many events were dropped.
        count: u64,
        /// The state after the last dropped event.
        state: ConnectionState,
    },
}

/// Why an attempt failed or a line was lost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// An attempt to connect failed.
    ConnectFailed(Error),
    /// The server closed the connection with a close frame.
    ClosedByServer(CloseFrame),
    /// An open connection was lost.
    Lost(Error),
}

/// Why a client is closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CloseReason {
    /// The application called [`close`](crate::Client::close), [`close_with`](crate::Client::close_with) or
    /// [`terminate`](crate::Client::terminate), or dropped the last handle.
    ByCaller,
    /// The line was lost, and the retry rules forbid a reconnect: see [`Retry`](crate::Retry).
    NotRetried(DisconnectReason),
    /// `max_attempts` reconnects failed in a row.
    #[non_exhaustive]
    GaveUp {
        /// How many reconnects were tried.
        attempts: u32,
        /// Why the last one failed.
        last: DisconnectReason,
    },
    /// The client itself failed.
    Failed(Error),
}

/// What could not be delivered from the outbox and from the last connection when the client was closed.
///
/// Losses on earlier connections and expired messages are not included: events and [`confirm`](crate::Client::confirm)
/// report those. When the server closed the line or the client gave up, the last [`Event::Disconnected`] lists the same
/// tickets.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Undelivered {
    /// Messages that were accepted and never written to a connection, with their tickets, in order.
    pub never_written: Vec<(Ticket, Message)>,
    /// Messages that were written to the last connection and not confirmed. With
    /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce), also messages of earlier connections that were waiting
    /// to be sent again.
    pub maybe_delivered: Tickets,
    /// With [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce), those of `maybe_delivered` that were waiting to be
    /// sent again, with their payloads, in order. A message that was sent three times is no longer kept.
    pub unconfirmed: Vec<(Ticket, Message)>,
    /// The threads still inside a call that can't be interrupted, with the name of the call; `None` if there are none.
    /// The call is one of these:
    /// * a DNS lookup in the system's resolver, a `fetch`, or a protocol's work, such as `tautline-dial: looking up
    ///   gateway.example`;
    /// * a callback that did not return in time, such as `tautline-io: on_message`.
    ///
    /// Each thread ends when its call returns, and calls no other application code. Until then, the code and the data
    /// that the call uses must stay in place.
    pub still_inside: Option<Box<str>>,
    /// Whether the list is incomplete. There are three reasons:
    /// * The call was made on the I/O thread of a client, so the close is still under way.
    /// * A callback did not return, and the I/O thread is still inside it.
    /// * The I/O thread ended because of a defect in this library, and what it held is lost.
    pub unfinished: bool,
}

impl Event {
    /// Returns the message, if this event is one.
    pub fn into_message(self) -> Option<Message> {
        match self {
            Self::Message(message) => Some(message),
            _ => None,
        }
    }
}

impl DisconnectReason {
    /// Returns the reason as an [`Error`].
    pub fn to_error(&self) -> Error {
        match self {
            Self::ConnectFailed(error) | Self::Lost(error) => error.clone(),
            Self::ClosedByServer(frame) => Error::ClosedByServer(frame.clone()),
        }
    }
}

impl CloseReason {
    /// Returns `Ok` if the caller closed the client or the server closed the line normally (1000), and otherwise the
    /// reason as an error.
    ///
    /// # Errors
    /// The reason the client was closed.
    pub fn into_result(self) -> Result<(), Error> {
        match self {
            Self::ByCaller
            | Self::NotRetried(DisconnectReason::ClosedByServer(CloseFrame { code: 1000, .. })) => Ok(()),
            other => Err(other.into_error()),
        }
    }

    /// The reason as an error, even if the end was a normal one.
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
    /// Whether nothing was left: no message in the outbox, and none written to the last connection without a
    /// confirmation. Earlier losses and expired messages don't count: see [`Undelivered`].
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
    use crate::secrets::Secrets;

    #[test]
    fn debug_output_of_events_keeps_a_token_that_the_server_chose_as_the_subprotocol() {
        // Only the offer before it says that it is a token.
        let secrets = Secrets::of("ws://h", &[], &["access_token".into(), "s3cret".into()]);
        let chosen = Handshake::new(([127, 0, 0, 1], 80), Some("s3cret".into()));
        let handshake = Arc::new(Handshake { secrets, ..chosen });
        let connected = Event::Connected { handshake: Arc::clone(&handshake), attempts: 1, resumed: false };
        let moved = Event::Moved { handshake, maybe_delivered: Tickets::default() };
        for shown in [format!("{connected:?}"), format!("{moved:?}")] {
            assert!(shown.contains(r#"Some("***")"#) && shown.contains("127.0.0.1:80"), "{shown}");
        }
    }

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
