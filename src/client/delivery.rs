//! The fate of the messages that were sent.

use std::time::Duration;

use crate::client::Client;
use crate::error::Error;
use crate::event::Ticket;
use crate::event::Tickets;
use crate::shared::{Command, Inner};

impl Client {
    /// Blocks until every message accepted before the call has been written to the operating system or has been given
    /// up, the client is closed, or `timeout` has passed.
    ///
    /// A flush does not say whether messages arrived: for that, see [`confirm`](Self::confirm). On a closed client it
    /// returns at once: `Ok` if nothing was left unwritten.
    ///
    /// # Errors
    /// * [`Error::Timeout`], whose source says why the line is down, if it is down.
    /// * [`Error::Closed`]: the client is closed, and some messages were never written: see
    ///   [`Undelivered::never_written`](crate::Undelivered::never_written).
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # use std::time::Duration;
    /// client.send("hello")?;
    /// client.flush(Duration::from_secs(3))?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn flush(&self, timeout: Duration) -> Result<(), Error> {
        self.line.may_block()?;
        let target = self.line.shared.intake.last_ticket();
        let flushed = self.line.watch(timeout, |status| flushed(target, status));
        flushed.unwrap_or_else(|| Err(self.line.timeout("the messages to be written", timeout)))
    }

    /// Blocks until it is known of each of these messages whether the server received it. Returns `Ok` if the server
    /// received all of them; otherwise [`Error::Unconfirmed`] lists those that were not received and those that may not
    /// have been.
    ///
    /// `tickets` is one [`Ticket`](crate::Ticket), a list, a range, or the result of [`send_all`](Self::send_all). `..`
    /// means all messages accepted before the call, and `first..` means those of them from `first` on. A `timeout` of
    /// zero returns what is known already.
    ///
    /// The result concerns these messages only, whichever thread or handle sent them. It is final: the same question
    /// gets the same answer, however often it is asked.
    ///
    /// # What it proves
    /// By default a WebSocket pong confirms: the server's WebSocket library has read everything before the ping. It does
    /// not say that the application behind it has handled the messages. A server that is killed at that moment loses
    /// confirmed messages. Where that matters, let the server's application acknowledge messages, and set
    /// [`Confirmation::Acknowledgement`](crate::Confirmation::Acknowledgement).
    ///
    /// # How it works
    /// With pongs, the client sends a WebSocket ping behind the messages. The server answers in order, so the pong confirms
    /// everything written before the ping. This takes one round trip; if the line is down, the ping follows the
    /// reconnect. Callers that wait at the same time share pings, and wait for two round trips at most. An answered
    /// [`request`](Self::request) is confirmed by its answer.
    ///
    /// With acknowledgements, nothing is asked: the call waits for the protocol to acknowledge the messages.
    ///
    /// * An intermediary that answers pings itself confirms only that it has the messages.
    /// * A server whose pongs do not repeat the ping's payload, as RFC 6455 (section 5.5.3) requires, confirms nothing:
    ///   the call times out, and the log says so once.
    /// * The pong arrives behind the messages that the server sent before it. When those fill the `events` bound, the
    ///   client stops reading, so the application must take messages for the pong to be read.
    /// * A message that a protocol's [`on_send`](crate::Protocol::on_send) drops needs no confirmation, nor does a
    ///   request that ended before it was sent: its caller has the reason.
    /// * On a closed client everything is known, and the call returns at once.
    ///
    /// The client remembers 1,024 runs of lost tickets. Beyond that it merges the two oldest runs, with the tickets
    /// between them: such a ticket is reported in `maybe_delivered` although it arrived, or was never sent. A lost
    /// message is never reported as received.
    ///
    /// # Errors
    /// * [`Error::Unconfirmed`]: some messages were lost or never sent.
    /// * [`Error::Timeout`]: the fate of some messages is not known yet.
    /// * [`Error::InvalidArgument`]: this client has not accepted one of the tickets, or nothing can confirm: its
    ///   heartbeats are not WebSocket pings, and its protocol does not acknowledge messages.
    /// * [`Error::Closed`]: the client ended because of a defect in this library, and the fate of some messages is
    ///   unknown.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # use std::time::Duration;
    /// # let client = tautline::Client::connect(&url)?;
    /// let order = client.send("buy")?;
    /// client.confirm(order, Duration::from_secs(3))?; // the server has it
    /// let samples = client.send_all(["1", "2", "3"])?;
    /// client.confirm(samples, Duration::from_secs(3))?; // these, too
    /// client.confirm(.., Duration::from_secs(3))?; // everything that was accepted so far
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn confirm(&self, tickets: impl Into<Tickets>, timeout: Duration) -> Result<(), Error> {
        self.line.may_block()?;
        let wrong = |argument, reason: &str| Error::InvalidArgument { argument, reason: reason.into() };
        if !self.line.confirms {
            return Err(wrong(
                "confirm",
                "confirmations need heartbeats by WebSocket ping, or a protocol that acknowledges messages: use Beat::WebSocketPing or Confirmation::Acknowledgement",
            ));
        }
        let tickets = tickets.into().of_accepted(self.line.shared.intake.last_ticket());
        let tickets = tickets
            .map_err(|ticket| wrong("tickets", &format!("this client has accepted no message {ticket}")))?;
        let Some(through) = tickets.runs().last().map(|run| *run.end()) else { return Ok(()) };
        let known = self.line.shared.status.read(|status| fates(&tickets, status)).or_else(|| {
            self.line.command(Command::Confirm { through });
            self.line.watch(timeout, |status| fates(&tickets, status))
        });
        known.unwrap_or_else(|| Err(self.line.timeout("the confirmation", timeout)))
    }

    /// Returns the last message up to which the fate of all is known, or `None` if there is none yet. Each message up to
    /// it was confirmed, or an event or the result of [`close`](Self::close) has listed it as lost. What a closed client
    /// has returned does not raise it; [`confirm`](Self::confirm) knows those fates, too. Never blocks.
    ///
    /// Use it to trim a buffer of your own, or for a progress bar, together with [`stats`](Self::stats). Fates become
    /// known when something asks for them: with pongs, each heartbeat and each [`confirm`](Self::confirm) does, and with
    /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce) an outbox that is half full. With
    /// [`Confirmation::Acknowledgement`](crate::Confirmation::Acknowledgement), each acknowledgement counts at once.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # use std::time::Duration;
    /// # let client = tautline::Client::connect(&url)?;
    /// let order = client.send("buy")?;
    /// client.confirm(.., Duration::from_secs(3))?;
    /// assert_eq!(client.confirmed_up_to(), Some(order));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn confirmed_up_to(&self) -> Option<Ticket> {
        self.line.here().ok()?;
        self.line.shared.status.read(|status| status.watermarks.confirmed_up_to())
    }
}

/// Returns how a wait ends for all messages up to ticket `target` to be written, once it ends.
fn flushed(target: u64, status: &Inner) -> Option<Result<(), Error>> {
    match &status.closed {
        _ if status.watermarks.written >= target => Some(Ok(())),
        Some((_, left)) if left.unfinished || !left.never_written.is_empty() => {
            Some(Err(status.closed_error()))
        }
        Some(_) => Some(Ok(())),
        None => None,
    }
}

/// Returns the fates of these messages, once all of them are known.
fn fates(tickets: &Tickets, status: &Inner) -> Option<Result<(), Error>> {
    let known = tickets.runs().iter().rev().all(|run| status.knows(run.clone()));
    match &status.closed {
        None if !known => return None,
        Some((_, left)) if !known && left.unfinished => return Some(Err(status.closed_error())),
        // Once a client is closed, all its losses are known.
        _ => {}
    }
    let (maybe_delivered, never_sent) = status.losses.among(tickets);
    let all_arrived = maybe_delivered.is_empty() && never_sent.is_empty();
    Some(if all_arrived { Ok(()) } else { Err(Error::Unconfirmed { maybe_delivered, never_sent }) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Instant;

    use crate::error::INTERNAL;
    use crate::event::{CloseReason, Ticket, Undelivered};
    use crate::session::{LostMessages, Watermarks};
    use crate::shared::Status;

    fn status(written: u64, settled: u64, lost: &[(u64, bool)]) -> Status {
        #[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
        let status = Status::new(Instant::now());
        let doubt =
            |&(ticket, expired): &(u64, bool)| LostMessages { tickets: Ticket(ticket).into(), expired };
        status.set_watermarks(
            Watermarks { written, settled, ahead: Vec::new() },
            lost.iter().map(doubt).collect(),
        );
        status
    }

    #[test]
    fn of_a_client_that_ended_by_a_defect_nothing_is_called_written_or_received() {
        let status = status(1, 1, &[]);
        let ask = |ticket| {
            let tickets = Ticket(ticket).into();
            status.read(|status| [flushed(ticket, status), fates(&tickets, status)])
        };
        assert!(matches!(ask(2), [None, None]));
        let left = Undelivered { unfinished: true, ..Undelivered::default() };
        let reason = CloseReason::Failed(Error::Panicked { callback: INTERNAL });
        status.update(|status| {
            status.closed = Some((reason, Arc::new(left)));
        });
        for answer in ask(2) {
            let Some(Err(Error::Closed { reason: Some(reason) })) = answer else { panic!("{answer:?}") };
            assert!(matches!(*reason, CloseReason::Failed(Error::Panicked { .. })));
        }
        assert!(matches!(ask(1), [Some(Ok(())), Some(Ok(()))]));
    }

    #[test]
    fn fates_wait_for_what_is_not_known_and_then_name_what_was_lost_of_what_is_asked_about() {
        let status = status(4, 4, &[(2, false), (3, true), (6, true)]);
        let ask = |tickets: &[u64]| {
            let tickets = tickets.iter().map(|ticket| Ticket(*ticket)).collect();
            status.read(|status| match fates(&tickets, status) {
                None => "unknown".to_owned(),
                Some(Ok(())) => "received".to_owned(),
                Some(Err(Error::Unconfirmed { maybe_delivered, never_sent })) => {
                    format!("{maybe_delivered}; {never_sent}")
                }
                Some(Err(error)) => panic!("{error:?}"),
            })
        };
        assert_eq!(ask(&[1, 4]), "received");
        assert_eq!(ask(&[1, 2, 4]), "#2; none");
        assert_eq!(ask(&[3, 4]), "none; #3");
        assert_eq!(ask(&[1, 2, 3, 6]), "#2; #3, #6", "6 is known, though 5 is not");
        for asked in [&[5][..], &[2, 5], &[5, 6], &[6, 7]] {
            assert_eq!(ask(asked), "unknown");
        }
        status.set_watermarks(Watermarks { written: 6, settled: 3, ahead: Vec::new() }, vec![]);
        assert_eq!(ask(&[1, 4]), "received", "what was known stays so");
    }
}
