//! Requests and their answers.
#![expect(
    clippy::disallowed_methods,
    reason = "turns the caller's timeouts into deadlines, on the caller's thread"
)]

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::client::{Client, remaining};
use crate::config::deadline;
use crate::error::{Error, SendErrorKind};
use crate::event::Ticket;
use crate::message::Message;
use crate::shared::{Command, Offer, Reply, Special};

impl Client {
    /// Sends a request and returns the answer to it. The protocol pairs answers with requests: see
    /// [`JsonSession`](crate::JsonSession).
    ///
    /// Blocks until the answer arrives, the line is lost, the client is closed, or `timeout` has passed. The timeout
    /// includes the waits for room in the outbox and for the line to be ready.
    ///
    /// A request is never sent twice. One that times out before it was sent is withdrawn. An answer that arrives after
    /// the timeout goes to the protocol only.
    ///
    /// # Errors
    /// * [`Error::Timeout`].
    /// * The reason the line was lost.
    /// * The error with which the protocol ended the request, such as [`Error::Answer`].
    /// * [`Error::Unanswered`]: the line has [moved](crate::Context::move_line), and the answer did not arrive on the
    ///   old connection. Send the request again.
    /// * [`Error::Send`]: the request was not accepted.
    /// * [`Error::Closed`]: the client is closed, or was closed while the request waited. It says why.
    /// * [`Error::InvalidArgument`]: the client has no protocol, or the protocol can't send the request.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use serde_json::json;
    /// # use tautline::{Client, JsonSession};
    /// #[derive(serde::Deserialize)]
    /// struct Status {
    ///     uptime: u64,
    /// }
    ///
    /// let session = JsonSession::new().answers_by("id");
    /// let client = Client::builder("ws://127.0.0.1:8080").protocol(session).connect()?;
    /// let status: Status = client.request(json!({"method": "status"}), Duration::from_secs(5))?.json()?;
    /// println!("up for {} s", status.uptime);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn request(&self, message: impl Into<Message>, timeout: Duration) -> Result<Message, Error> {
        let until = deadline(Instant::now(), timeout);
        let (way, answer) = crossbeam_channel::bounded(1);
        let ticket = self.ask(message.into(), Reply { way, many: false }, timeout, until)?;
        match self.line.take(|| answer.try_recv(), timeout, || answer.recv_deadline(until)) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Disconnected) => Err(self.line.closed()),
            Err(RecvTimeoutError::Timeout) => {
                self.line.command(Command::Withdraw { ticket: ticket.number() });
                Err(self.line.timeout("the answer to a request", timeout))
            }
        }
    }

    /// Sends a request that has many answers, such as a subscription. Returns an iterator over the answers.
    ///
    /// Blocks while the outbox is full, for `timeout` at most. The iterator blocks for up to `timeout` for each answer,
    /// including the wait for the line to be ready.
    ///
    /// A request is never sent twice. When the line is lost, the iterator ends with the reason, and the application
    /// must send the request again. When the line has moved and the old server has ended its connection, the iterator
    /// ends with [`Error::Unanswered`].
    ///
    /// Answers queue up until the iterator takes them, as many as [`events`](crate::ConnectionConfig::events) allows;
    /// then reading pauses. Dropping the iterator withdraws the request, and the protocol is notified.
    ///
    /// # Errors
    /// The request was not accepted.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn _look(client: tautline::Client) -> Result<(), tautline::Error> {
    /// for answer in client.request_many("subscribe to prices", Duration::from_secs(60))? {
    ///     println!("{}", answer?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn request_many(&self, message: impl Into<Message>, timeout: Duration) -> Result<Answers, Error> {
        let until = deadline(Instant::now(), timeout);
        let (way, inbox) = crossbeam_channel::unbounded();
        let ticket = self.ask(message.into(), Reply { way, many: true }, timeout, until)?;
        Ok(Answers { client: self.clone(), ticket, inbox, timeout, ended: false })
    }

    fn ask(
        &self,
        message: Message,
        reply: Reply,
        timeout: Duration,
        until: Instant,
    ) -> Result<Ticket, Error> {
        self.line.may_block()?;
        if !self.line.answers {
            let reason = "a client without a protocol can't pair answers with requests; give the builder one that does, such as JsonSession";
            return Err(Error::InvalidArgument { argument: "request", reason: reason.into() });
        }
        let offer = Offer { message, special: Some(Box::new(Special::Request(reply))), expires: None };
        match self.line.shared.intake.push(offer, until, remaining) {
            Ok(ticket) => Ok(self.accepted(ticket)),
            Err(error) if matches!(error.kind(), SendErrorKind::Full { .. }) => {
                Err(SendErrorKind::Timeout { after: timeout }.into())
            }
            Err(error) => Err(self.line.explained(error).into()),
        }
    }
}

/// An iterator over the answers to a request, from [`Client::request_many`].
///
/// An answer that does not arrive in time is [`Error::Timeout`], and the next call keeps waiting. Any other error is
/// the last item. If the iterator ends without an error, the request has ended normally. Dropping the iterator
/// withdraws the request.
#[derive(Debug)]
#[must_use = "dropping it withdraws the request"]
pub struct Answers {
    client: Client,
    ticket: Ticket,
    inbox: Receiver<Result<Message, Error>>,
    timeout: Duration,
    ended: bool,
}

impl Answers {
    /// Returns the next answer, or `None` if there is none now. Never blocks. Once the request has ended, returns
    /// `None`.
    ///
    /// # Errors
    /// The reason the request ended.
    pub fn try_next(&mut self) -> Result<Option<Message>, Error> {
        self.client.line.here()?;
        match self.inbox.try_recv() {
            Ok(answer) => self.taken(answer).map(Some),
            Err(crossbeam_channel::TryRecvError::Empty) => Ok(None),
            Err(crossbeam_channel::TryRecvError::Disconnected) => {
                self.ended = true;
                Ok(None)
            }
        }
    }

    /// Whether the request has ended and all its answers have been taken.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns the request's ticket.
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    fn taken(&mut self, answer: Result<Message, Error>) -> Result<Message, Error> {
        self.ended |= answer.is_err();
        self.client.line.took(|| self.inbox.is_empty());
        answer
    }
}

impl Iterator for Answers {
    type Item = Result<Message, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if let Err(error) = self.client.line.may_block() {
            return Some(Err(error));
        }
        let inbox = &self.inbox;
        match self.client.line.take(|| inbox.try_recv(), self.timeout, || inbox.recv_timeout(self.timeout)) {
            Ok(answer) => Some(self.taken(answer)),
            Err(RecvTimeoutError::Timeout) => {
                Some(Err(self.client.line.timeout("the next answer to a request", self.timeout)))
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.ended = true;
                None
            }
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        if !self.client.line.is_here() {
            // The channel of another process: see the drop of `LineHandle`.
            std::mem::forget(self.inbox.clone());
            return;
        }
        if !self.ended {
            self.client.line.command(Command::Withdraw { ticket: self.ticket.number() });
        }
    }
}
