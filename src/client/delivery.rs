//! What became of what was sent.

use std::time::Duration;

use crate::client::{Client, not_on_io_thread};
use crate::error::Error;
use crate::event::Tickets;
use crate::shared::{Command, Inner};

impl Client {
    /// Blocks until none of the messages that were accepted before the call waits to be written to the operating system, the
    /// client is closed, or `timeout` is over.
    ///
    /// What became of them is another question: a message that was lost or given up waits no longer. See
    /// [`confirm`](Self::confirm). On a closed client the call waits for nothing, and returns `Ok` when nothing was left
    /// unwritten.
    ///
    /// # Errors
    /// [`Error::Timeout`], with why the line is down, if it is; [`Error::Closed`]: the client is closed, and some was
    /// never written, see [`Undelivered::never_written`](crate::Undelivered::never_written).
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
        not_on_io_thread()?;
        let target = self.line.shared.intake.last_ticket();
        let flushed = self.line.watch(timeout, |status| flushed(target, status));
        flushed.unwrap_or_else(|| Err(self.line.timeout("the messages to be written", timeout)))
    }

    /// Blocks until it is known of each of these messages whether the server has received it. `Ok` says that it has received
    /// them all; else [`Error::Unconfirmed`] names those that it has not, or perhaps not.
    ///
    /// The answer is about these messages only, whichever thread or handle sent them. It is final: nothing is used up by a
    /// call, and the same question gets the same answer. `tickets` are one [`Ticket`](crate::Ticket), a list, a range, or
    /// what [`send_all`](Self::send_all) returns; `..` are all that were accepted before the call, and `first..` those of
    /// them from `first` on. With a `timeout` of zero it says what is known already.
    ///
    /// # How it is known
    /// The server is asked with a ping, which it answers behind everything that was sent before it; where the line is
    /// down, it is asked after the reconnect. That takes one round trip; callers that wait at once share pings, and wait
    /// for two at most. An answer to a [`request`](Self::request) confirms that request.
    ///
    /// An intermediary that answers pings itself confirms only up to itself. A server whose pongs do not repeat the payload
    /// of the ping, as RFC 6455 (section 5.5.3) asks, confirms nothing: the call times out, and the log says so once.
    ///
    /// The pong lies behind the messages that arrived before it. When those fill their bound, the application must take
    /// them meanwhile, or it is not read.
    ///
    /// A message that a protocol's [`on_send`](crate::Protocol::on_send) drops, and a request that was given up before it
    /// was sent, need no confirmation. On a closed client everything is known, and the call waits for nothing.
    ///
    /// The client remembers 1,024 runs of lost tickets. Of more, the two oldest become one with what lies between them,
    /// so that a message between them is named in `maybe_delivered` though it has arrived, or was never sent. Never is
    /// a lost one called received.
    ///
    /// # Errors
    /// [`Error::Unconfirmed`]; [`Error::Timeout`]: of some it is not known yet; [`Error::InvalidArgument`]: this client has
    /// not accepted one of them, or its heartbeats are not WebSocket pings; [`Error::Closed`]: the client has ended by a
    /// defect, and what became of some is not known.
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
        not_on_io_thread()?;
        let wrong = |argument, reason: &str| Error::InvalidArgument { argument, reason: reason.into() };
        if !self.line.confirms {
            return Err(wrong("confirm", "only WebSocket pings as heartbeats bring confirmations"));
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
}

/// How a wait ends for everything up to ticket `target` to be written.
fn flushed(target: u64, status: &Inner) -> Option<Result<(), Error>> {
    match &status.closed {
        _ if status.watermarks.written >= target => Some(Ok(())),
        Some((_, left)) if left.unfinished || !left.never_written.is_empty() => Some(Err(Error::Closed)),
        Some(_) => Some(Ok(())),
        None => None,
    }
}

/// What became of these messages, once that is known of each.
fn fates(tickets: &Tickets, status: &Inner) -> Option<Result<(), Error>> {
    let settled = status.watermarks.settled;
    let newer = tickets.runs().iter().rev().take_while(|run| *run.end() > settled);
    let known =
        newer.map(|run| settled.max(run.start() - 1) + 1..=*run.end()).all(|run| status.losses.cover(run));
    match &status.closed {
        None if !known => return None,
        Some((_, left)) if !known && left.unfinished => return Some(Err(Error::Closed)),
        // Of a closed client all losses are known.
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

    use crate::error::INTERNAL;
    use crate::event::{CloseReason, Ticket, Undelivered};
    use crate::session::{LostMessages, Watermarks};
    use crate::shared::Status;

    fn status(written: u64, settled: u64, lost: &[(u64, bool)]) -> Status {
        let status = Status::new();
        let doubt =
            |&(ticket, expired): &(u64, bool)| LostMessages { tickets: Ticket(ticket).into(), expired };
        status.set_watermarks(Watermarks { written, settled }, lost.iter().map(doubt).collect());
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
        status.update(|status| status.closed = Some((reason, Arc::new(left))));
        assert!(matches!(ask(2), [Some(Err(Error::Closed)), Some(Err(Error::Closed))]));
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
        status.set_watermarks(Watermarks { written: 6, settled: 3 }, vec![]);
        assert_eq!(ask(&[1, 4]), "received", "what was known stays so");
    }
}
