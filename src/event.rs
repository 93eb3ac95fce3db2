//! What a client reports to its application.

use std::sync::Arc;
use std::time::Duration;

pub use crate::error::{CloseReason, DisconnectReason};
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
    /// An attempt failed, an open connection was lost, or the application took the line down.
    #[non_exhaustive]
    Disconnected {
        /// Why.
        reason: DisconnectReason,
        /// The delay until the next attempt. `None` if there will be none, or not before
        /// [`resume`](crate::Client::resume).
        retry_in: Option<Duration>,
        /// Messages that were written to this connection, were not confirmed, and are not sent again. At most
        /// once, beyond 1,024 runs of answered requests or acknowledged messages among them, the oldest of those are
        /// listed, too.
        maybe_delivered: Tickets,
    },
    /// Messages were given up before they were sent. There are three reasons:
    /// * The message waited longer than [`max_age`](crate::ConnectionConfig::max_age).
    /// * It was for [this connection](crate::SendOptions::this_connection) only, which was lost before any of the
    ///   message was written. This event comes before or behind the `Disconnected` of that connection.
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
    /// This event comes when there is room for it again and the I/O thread has something to do, with a heartbeat at the latest,
    /// and before the next event that is not a message; [`Closed`](Self::Closed) always finds room. Messages that arrived
    /// after the dropped events precede it.
    #[non_exhaustive]
    Missed {
        /// How many events were dropped.
        count: u64,
        /// The state after the last dropped event.
        state: ConnectionState,
    },
}

/// What could not be delivered from the outbox and from the last connection when the client was closed.
///
/// Losses on earlier connections and expired messages are not included: events and [`confirm`](crate::Client::confirm)
/// report those. When the server closed the line or the client gave up, the last [`Event::Disconnected`] lists the same
/// tickets.
#[derive(Clone, Debug, Default)]
#[must_use = "it holds what could not be delivered; `let _ =` drops that"]
#[non_exhaustive]
pub struct Undelivered {
    /// Messages that were accepted and never written to a connection, with their tickets, in order.
    pub never_written: Vec<(Ticket, Message)>,
    /// Messages that were written to the last connection and not confirmed. With
    /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce), also messages of earlier connections that were waiting
    /// to be sent again.
    pub maybe_delivered: Tickets,
    /// With [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce), those of `maybe_delivered` that the client still kept,
    /// with the payloads that the application sent, in order. A message that was sent three times is no longer kept.
    pub unconfirmed: Vec<(Ticket, Message)>,
    /// The threads still inside a call that can't be interrupted, with the name of the call; `None` if there are none.
    /// The call is one of these:
    /// * a DNS lookup in the system's resolver, the setup of TLS, a `fetch`, a `connector`, or a protocol's work, such as
    ///   `tautline-dial: looking up gateway.example`;
    /// * a callback that did not return in time, such as `tautline-io: on_message`;
    /// * a read, a write or the drop of a [`Stream`](crate::Stream) that did not return in time:
    ///   `tautline-io: the stream of the connector`, or `tautline-dial: …` while the connection is being opened.
    ///
    /// Each thread ends when its call returns, and calls no other application code but an
    /// [`on_thread_end`](crate::Builder::on_thread_end) and the drops of what it holds, such as the `Stream`. Until then, the code
    /// and the data that these use must stay in place.
    pub still_inside: Option<Box<str>>,
    /// Whether the list is incomplete. There are three reasons:
    /// * The call was made on the I/O thread of a client, so the close is still under way.
    /// * A callback or a [`Stream`](crate::Stream) did not return, and the I/O thread is still inside it.
    /// * The I/O thread ended because of a defect in this library, and what it held is lost.
    pub unfinished: bool,
}

/// How far [`Client::shutdown`](crate::Client::shutdown) has come.
#[derive(Clone, Debug)]
#[must_use = "it says whether the client has ended"]
pub enum Shutdown {
    /// No thread of the client runs any more; the system may list one that is ending for a moment longer. All callbacks and the
    /// protocol were dropped, and if this was the last client of the process, the timer has ended, too. This is what could not be
    /// delivered; if it is [`unfinished`](Undelivered::unfinished), the list is incomplete.
    Gone(Undelivered),
    /// The threads that have not ended, each with what keeps it: a call as in [`still_inside`](Undelivered::still_inside), such
    /// as `tautline-dial: looking up gateway.example`, or `tautline-io: closing the line`.
    ///
    /// After `Terminate`, and after a `Close` whose time is over, no code of the application is called any more but an
    /// [`on_thread_end`](crate::Builder::on_thread_end) and the drops of what the threads hold. A thread ends when its call has
    /// returned.
    StillRunning(Box<str>),
}

impl Event {
    /// Returns the message, if this event is one.
    #[inline]
    pub fn into_message(self) -> Option<Message> {
        match self {
            Self::Message(message) => Some(message),
            _ => None,
        }
    }
}

impl Undelivered {
    /// Whether nothing was left: no message in the outbox, and none written to the last connection without a
    /// confirmation. Earlier losses and expired messages don't count: see [`Undelivered`].
    pub fn is_empty(&self) -> bool {
        self.never_written.is_empty() && self.maybe_delivered.is_empty() && !self.unfinished
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Secrets;

    #[test]
    fn debug_output_of_events_keeps_a_token_that_the_server_chose_as_the_subprotocol() {
        // Only the offer before it says that it is a token.
        let secrets = Secrets::of("ws://h", &[], &["access_token".into(), "s3cret".into()]);
        let chosen = Handshake::new(Some(([127, 0, 0, 1], 80).into()), Some("s3cret".into()));
        let handshake = Arc::new(Handshake { secrets, ..chosen });
        let connected = Event::Connected { handshake: Arc::clone(&handshake), attempts: 1, resumed: false };
        let moved = Event::Moved { handshake, maybe_delivered: Tickets::default() };
        for shown in [format!("{connected:?}"), format!("{moved:?}")] {
            assert!(shown.contains(r#"Some("***")"#) && shown.contains("127.0.0.1:80"), "{shown}");
        }
    }
}
