//! What a client receives.
#![expect(
    clippy::disallowed_methods,
    reason = "turns the caller's timeouts into deadlines, on the caller's thread"
)]

use std::iter::Take;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};
use serde::de::DeserializeOwned;

use crate::client::{Client, remaining};
use crate::config::deadline;
use crate::error::Error;
use crate::event::Event;
use crate::message::Message;
use crate::system::fork::PerProcess;

impl Client {
    /// Returns the next message. Other events that stand before it in the queue are dropped.
    ///
    /// Blocks until a message arrives, through any number of reconnects, or until the client is closed.
    ///
    /// # Errors
    /// [`Error::Closed`]: the client is closed, and every message has been taken. It says why.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// client.send("hello")?;
    /// assert_eq!(client.recv()?.as_text(), Some("hello"));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn recv(&self) -> Result<Message, Error> {
        self.line.may_block()?;
        self.next(Duration::MAX, None).map_err(|_| self.line.closed())
    }

    /// Returns the next message, like [`recv`](Self::recv), but blocks for `timeout` at most.
    ///
    /// # Errors
    /// As `recv`, and [`Error::Timeout`].
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # use std::time::Duration;
    /// # use tautline::Error;
    /// let error = client.recv_timeout(Duration::from_millis(10)).unwrap_err();
    /// assert!(matches!(error, Error::Timeout { .. }));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Message, Error> {
        self.line.may_block()?;
        let until = deadline(Instant::now(), timeout);
        self.next(timeout, Some(until)).map_err(|error| match error {
            RecvTimeoutError::Timeout => self.line.timeout("a message", timeout),
            RecvTimeoutError::Disconnected => self.line.closed(),
        })
    }

    /// Waits for the next message, as long as `patience`, until `until`.
    fn next(&self, patience: Duration, until: Option<Instant>) -> Result<Message, RecvTimeoutError> {
        let line = &self.line;
        if let Some(inbox) = &line.inbox {
            let message = line.take(|| inbox.try_take(), patience, || inbox.take(until, remaining))?;
            line.took(|| inbox.is_empty());
            return Ok(message);
        }
        let events = &line.events;
        loop {
            let event = if let Ok(event) = events.try_take() {
                event
            } else {
                line.attend(until);
                line.take(|| events.try_take(), patience, || events.take(until, remaining))?
            };
            if let Some(message) = line.taken(event) {
                return Ok(message);
            }
        }
    }

    /// Returns the next message, read as JSON. Blocks as [`recv`](Self::recv) does.
    ///
    /// With a timeout, write `client.recv_timeout(timeout)?.json()`: see [`Message::json`].
    ///
    /// # Errors
    /// As `recv`, and [`Error::Json`]: the message is no JSON, or not that of a `T`. This error holds the message. The
    /// line stays up, and the next call reads the next message.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// use tautline::Error;
    ///
    /// client.send("[1, 2, 3]")?;
    /// client.send("hello")?;
    /// client.send("[4]")?;
    /// let _ = client.close();
    /// let mut sum = 0;
    /// loop {
    ///     match client.recv_json::<Vec<u32>>() {
    ///         Ok(numbers) => sum += numbers.iter().sum::<u32>(),
    ///         Err(Error::Json { message: Some(message), .. }) => assert_eq!(message.as_text(), Some("hello")),
    ///         Err(_) => break, // the client is closed
    ///     }
    /// }
    /// assert_eq!(sum, 10);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn recv_json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.recv()?.json()
    }

    /// Returns the next message, or `None` if there is none now. Never blocks. With
    /// [`realtime`](field@crate::ConnectionConfig::realtime) it waits for no other thread, wherever that was stopped, and frees
    /// no memory.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// assert!(client.try_recv()?.is_none());
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn try_recv(&self) -> Result<Option<Message>, Error> {
        self.line.here()?;
        let taken = match &self.line.inbox {
            Some(inbox) => inbox.try_take().inspect(|_| self.line.took(|| inbox.is_empty())),
            None => self.try_next(),
        };
        match taken {
            Ok(message) => Ok(Some(message)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.line.closed()),
        }
    }

    fn try_next(&self) -> Result<Message, TryRecvError> {
        loop {
            if let Some(message) = self.line.taken(self.line.events.try_take()?) {
                return Ok(message);
            }
        }
    }

    /// Returns an iterator over the messages as they arrive. Each `next` blocks as [`recv`](Self::recv) does.
    ///
    /// The iterator ends when the client is closed; [`wait_closed`](Self::wait_closed) returns why. On an I/O thread,
    /// where `recv` fails, it ends at once.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// for n in 1..=3 {
    ///     client.send(n.to_string())?;
    /// }
    /// let _ = client.close();
    /// assert_eq!(client.messages().count(), 3);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn messages(&self) -> Messages<'_> {
        Messages { client: self }
    }

    /// Returns an iterator over the messages that are there now. Never blocks: each `next` does as [`try_recv`](Self::try_recv).
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # let apply = |_| ();
    /// for message in client.try_messages() {
    ///     apply(message);
    /// }
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn try_messages(&self) -> TryMessages<'_> {
        TryMessages { client: self }
    }

    /// Returns an iterator over the messages that are there now, `max` of them at most. Never blocks: each `next` does as
    /// [`try_recv`](Self::try_recv). What is left stays for the next call, so that a caller can bound its work.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # let apply = |_| ();
    /// client.drain(16).for_each(apply);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn drain(&self, max: usize) -> Take<TryMessages<'_>> {
        self.try_messages().take(max)
    }

    /// Returns the receiver of all events, in order. The channel ends after [`Event::Closed`].
    ///
    /// From the first call on, all events go through this channel, beginning with those that wait. [`recv`](Self::recv) takes from
    /// it then.
    ///
    /// Messages and other events share one queue. An event taken here is not returned by [`recv`](Self::recv) and its
    /// relatives, nor by another clone of this receiver; and `recv` drops events that aren't messages. A program should
    /// read one or the other. With [`realtime`](field@crate::ConnectionConfig::realtime) messages have a queue of their own, and
    /// this one has the other events alone.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # use tautline::Event;
    /// let _ = client.close();
    /// assert!(matches!(client.events().iter().last(), Some(Event::Closed { .. })));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn events(&self) -> &Receiver<Event> {
        static ENDED: PerProcess<Ended> = PerProcess::new();
        if self.line.is_here() { self.line.events.channel() } else { &ENDED.get().0 }
    }
}

/// A channel that has ended.
struct Ended(Receiver<Event>);

impl Default for Ended {
    fn default() -> Self {
        Self(crossbeam_channel::bounded(0).1)
    }
}

/// An iterator over a client's messages: see [`Client::messages`].
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is consumed"]
pub struct Messages<'a> {
    pub(super) client: &'a Client,
}

impl Iterator for Messages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.client.recv().ok()
    }
}

/// An iterator over the messages that a client has now: see [`Client::try_messages`].
#[derive(Debug)]
#[must_use = "an iterator does nothing until it is consumed"]
pub struct TryMessages<'a> {
    pub(super) client: &'a Client,
}

impl Iterator for TryMessages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        self.client.try_recv().ok().flatten()
    }
}
