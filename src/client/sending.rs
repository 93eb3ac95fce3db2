//! What a client sends.
#![expect(
    clippy::disallowed_methods,
    reason = "turns the caller's timeouts into deadlines, on the caller's thread"
)]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::{Client, SendOptions, offer, remaining};
use crate::config::deadline;
use crate::error::{Error, SendError, SendErrorKind};
use crate::event::{Ticket, Tickets};
use crate::message::Message;
use crate::shared::Shared;
use crate::shared::{Offer, Thread};

/// How many messages of `send_all` are handed over at once, and how many bytes make a batch full.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 << 10;

impl Client {
    /// Accepts a message into the outbox. It is written at once if the line is ready, and otherwise once it is.
    ///
    /// Blocks while the outbox is full, until there is room or the client is closed. There is one exception: if the
    /// application takes none of the messages that have arrived, the server may never read ours, so the call then fails
    /// after the heartbeat's timeout. See also [`send_timeout`](Self::send_timeout) and [`try_send`](Self::try_send).
    ///
    /// # Errors
    /// The error contains the message. Its [kind](SendError::kind) is one of these:
    /// * [`SendErrorKind::Closed`]: the client is closing or closed. The text says why, and so does the
    ///   [`Error::Closed`] that `?` makes of it.
    /// * [`SendErrorKind::TooLarge`]: the message is larger than `max_message_size`.
    /// * [`SendErrorKind::ConsumerStalled`]: the exception above.
    /// * [`SendErrorKind::NotReady`]: the line is not ready, and [`while_down`](crate::ConnectionConfig::while_down) is
    ///   `Refuse`.
    /// * [`SendErrorKind::WouldDeadlock`]: the outbox is full, and the call was made on an I/O thread, where it must
    ///   not block.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// let ticket = client.send("hello")?;
    /// client.send(vec![1, 2, 3])?;
    /// println!("the greeting is message {ticket}");
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn send(&self, message: impl Into<Message>) -> Result<Ticket, SendError> {
        self.push(Offer::new(message.into(), None, self.line.expires()), None)
    }

    /// Accepts a message like [`send`](Self::send), but blocks for `timeout` at most.
    ///
    /// # Errors
    /// As `send`, with [`SendErrorKind::Timeout`] instead of `ConsumerStalled`.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # use std::time::Duration;
    /// client.send_timeout("hello", Duration::from_millis(100))?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn send_timeout(&self, message: impl Into<Message>, timeout: Duration) -> Result<Ticket, SendError> {
        self.push(Offer::new(message.into(), None, self.line.expires()), Some(timeout))
    }

    /// Accepts a message if there is room in the outbox. Never blocks. With
    /// [`realtime`](field@crate::ConnectionConfig::realtime) it takes no lock and allocates nothing, and otherwise it takes a lock
    /// that is held for a moment.
    ///
    /// # Errors
    /// As [`send`](Self::send), with [`SendErrorKind::Full`] where `send` would block.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # let mut dropped = Vec::new();
    /// if let Err(error) = client.try_send("frame 17") {
    ///     dropped.push(error.into_message());
    /// }
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn try_send(&self, message: impl Into<Message>) -> Result<Ticket, SendError> {
        self.try_push(Offer::new(message.into(), None, self.line.expires()))
    }

    /// Accepts a message with options of its own. Blocks as [`send`](Self::send) does.
    ///
    /// With [`this_connection`](SendOptions::this_connection), the message is accepted only while the line is ready, and
    /// is never sent on a later connection.
    ///
    /// # Errors
    /// As `send`. With `this_connection` it is [`SendErrorKind::NotReady`] whenever the line is not ready, whatever
    /// `while_down` says, and also if the line was lost while the call waited for room.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// use tautline::SendOptions;
    ///
    /// // Each new connection subscribes anew. A subscription that is left over from the last one must not go out.
    /// client.send_with("subscribe to prices", SendOptions::new().this_connection())?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn send_with(&self, message: impl Into<Message>, options: SendOptions) -> Result<Ticket, SendError> {
        self.push(self.offer(message.into(), options), None)
    }

    /// Accepts a message with options of its own, if there is room in the outbox. Never blocks: see [`try_send`](Self::try_send).
    ///
    /// # Errors
    /// As [`send_with`](Self::send_with), with [`SendErrorKind::Full`] where that would block.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// use tautline::SendOptions;
    ///
    /// // A key that was pressed while the line was down means nothing when it is back.
    /// if let Err(error) = client.try_send_with("key a", SendOptions::new().this_connection()) {
    ///     println!("not sent: {error}");
    /// }
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn try_send_with(
        &self,
        message: impl Into<Message>,
        options: SendOptions,
    ) -> Result<Ticket, SendError> {
        self.try_push(self.offer(message.into(), options))
    }

    /// Accepts all of these messages, in order, and returns their tickets. Blocks as [`send`](Self::send) does.
    /// Messages are handed over in batches, which is faster than one `send` each.
    ///
    /// Other threads' messages may be accepted in between. Their tickets are not part of the result, unless that
    /// happens more than 1,024 times: then the oldest gaps are filled.
    ///
    /// A batch holds as many messages as the iterator promises by its [`size_hint`](Iterator::size_hint), but at most
    /// 64, and it is not filled further once it holds 256 KiB. If the iterator promises nothing, each message is
    /// accepted before the next is taken. If the iterator panics, the batch that was being filled is lost.
    ///
    /// # Errors
    /// As `send`. The error contains the message that failed and those already taken from the iterator after it: see
    /// [`SendError::into_unsent`]. Earlier messages were accepted. Pass the iterator by `&mut` to keep the rest of it.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// let samples = client.send_all((0..100).map(|n| format!("sample {n}")))?;
    /// assert_eq!(samples.to_string(), "#1 to #100");
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn send_all<M: Into<Message>>(
        &self,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Tickets, SendError> {
        let mut messages = messages.into_iter().map(Into::into).fuse();
        let mut batch = VecDeque::new();
        let mut tickets = Tickets::default();
        loop {
            // The application's iterator must not run under the lock of the queue.
            gather(&mut messages, &mut batch);
            if batch.is_empty() {
                return Ok(tickets);
            }
            while !batch.is_empty() {
                if self.line.is_here()
                    && let Some((first, last)) =
                        self.line.shared.intake.push_some(&mut batch, self.line.expires())
                {
                    tickets.push(first, self.accepted(last));
                }
                if let Some(next) = batch.pop_front() {
                    let offer = Offer::new(next, None, self.line.expires());
                    let ticket = self.push(offer, None).map_err(|error| error.with(batch.drain(..)))?;
                    tickets.push(ticket, ticket);
                }
            }
        }
    }

    /// Sends a value as JSON text. Blocks as [`send`](Self::send) does.
    ///
    /// # Errors
    /// As `send`, as the [`Error`] that `?` makes of it, or [`Error::Json`]: the value can't be written as JSON. The
    /// error holds no message, because the value is still the caller's.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// client.send_json(&serde_json::json!({"type": "subscribe", "channel": 7}))?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn send_json<T: Serialize + ?Sized>(&self, value: &T) -> Result<Ticket, Error> {
        Ok(self.send(serde_json::to_string(value)?)?)
    }

    fn offer(&self, message: Message, options: SendOptions) -> Offer {
        if !self.line.is_here() {
            // It is refused.
            return Offer::new(message, None, None);
        }
        offer(&self.line.shared.intake, message, options, self.line.expires())
    }

    fn try_push(&self, offer: Offer) -> Result<Ticket, SendError> {
        if !self.line.is_here() {
            return Err(SendError::new(offer.message, SendErrorKind::Forked));
        }
        let accepted = self.line.shared.intake.try_push(offer);
        accepted.map(|ticket| self.accepted(ticket)).map_err(|error| self.line.explained(error))
    }

    fn push(&self, offer: Offer, timeout: Option<Duration>) -> Result<Ticket, SendError> {
        if !self.line.is_here() {
            return Err(SendError::new(offer.message, SendErrorKind::Forked));
        }
        let intake = &self.line.shared.intake;
        let (session, expires) = (offer.session(), offer.expires);
        let is_full = |error: &SendError| matches!(error.kind(), SendErrorKind::Full { .. });
        // Usually there is room, and no deadline to compute.
        let accepted = match intake.try_push(offer) {
            Err(full) if is_full(&full) && Thread::current() == Some(Thread::Io) => {
                Err(full.because(SendErrorKind::WouldDeadlock))
            }
            Err(full) if is_full(&full) => {
                let offer = Offer::new(full.into_message(), session, expires);
                match timeout {
                    None => self.push_patiently(offer),
                    Some(after) => {
                        let until = deadline(Instant::now(), after);
                        intake.push(offer, until, remaining).map_err(|error| match error.kind() {
                            SendErrorKind::Full { .. } => error.because(SendErrorKind::Timeout { after }),
                            _ => error,
                        })
                    }
                }
            }
            other => other,
        };
        accepted.map(|ticket| self.accepted(ticket)).map_err(|error| self.line.explained(error))
    }

    /// Waits for room for as long as it takes, unless the wait would never end: when the server takes nothing because
    /// the application takes nothing from it.
    fn push_patiently(&self, mut offer: Offer) -> Result<Ticket, SendError> {
        let Shared { intake, gate, status, .. } = &self.line.shared;
        let stalled_at = || gate.is_stalled().then(|| status.counters.messages_received());
        let after = self.line.patience;
        let (session, expires) = (offer.session(), offer.expires);
        loop {
            let before = stalled_at();
            let error = match intake.push(offer, deadline(Instant::now(), after), remaining) {
                Err(error) if matches!(error.kind(), SendErrorKind::Full { .. }) => error,
                other => return other,
            };
            if before.is_some() && before == stalled_at() {
                return Err(error.because(SendErrorKind::ConsumerStalled { after }));
            }
            offer = Offer::new(error.into_message(), session, expires);
        }
    }
}

/// Takes as many of the next messages as the iterator promises, or one if it promises none.
fn gather(messages: &mut impl Iterator<Item = Message>, batch: &mut VecDeque<Message>) {
    let promised = messages.size_hint().0.clamp(1, BATCH);
    batch.reserve(promised);
    let mut bytes = 0;
    while batch.len() < promised && bytes < BATCH_BYTES {
        let Some(message) = messages.next() else { return };
        bytes += message.len();
        batch.push_back(message);
    }
}
