//! What became of what was sent.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::client::{Client, not_on_io_thread};
use crate::error::Error;
use crate::event::{Left, Tickets};
use crate::intake::{Command, Inner, Runs};

impl Client {
    /// Blocks until everything that was accepted so far has been handed to the operating system, the client is closed, or
    /// `timeout` is over. What was lost on the way counts as written; see [`confirm`](Self::confirm).
    ///
    /// Once the client is closed it waits for nothing, and still answers: `Ok` when nothing was left unwritten.
    ///
    /// # Errors
    /// [`Error::Timeout`], with why the line is down, if it is; [`Error::Expired`]: some will never be sent: too old, or the protocol failed over them, of
    /// which each handle is told once by this, and once by `confirm`; [`Error::Closed`]: the client is closed, and some
    /// was never written, see [`Left::never_written`].
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
        let written = self.line.watch(timeout, |status| {
            if let Some(tickets) = news(&status.doubts.expired, &self.told.expired_by_flush, target) {
                return Some(Err(Error::Expired { tickets }));
            }
            outcome(status.watermarks.written >= target, status)
        });
        written.unwrap_or_else(|| Err(self.line.timeout("the messages to be written", timeout)))
    }

    /// Blocks until the server has received everything that was accepted so far: it is asked with a ping, which it
    /// answers behind all of that. Lives through reconnects; blocks for `timeout` at most.
    ///
    /// An intermediary that answers pings itself confirms only up to itself. A [`request`](Self::request) that the
    /// application at the other end answers confirms end to end.
    ///
    /// The wait is one round trip; where many callers confirm at once they share pings, and wait for two at most. A server
    /// whose pongs do not repeat the payload of the ping, as RFC 6455 (section 5.5.3) asks, confirms nothing: the call times
    /// out, and the log says so once.
    ///
    /// The answer lies behind the messages that arrived before it. When those fill their bound, somebody must take them
    /// meanwhile, or it is not read.
    ///
    /// Once the client is closed nothing can be sent any more, but what became of all that was accepted is known: the call
    /// waits for nothing, and tells that, as [`recv`](Self::recv) still gives what had arrived. `Ok` says that it was
    /// received, but for what this handle has been told of; so it does when nothing was ever accepted.
    ///
    /// # Errors
    /// [`Error::Timeout`]; [`Error::Unconfirmed`]: the line was lost, or closed, over some messages, which are in doubt for
    /// good; [`Error::Expired`]: some will never be sent: too old, or the protocol failed over them; [`Error::Closed`]: the client is closed, and some was never
    /// written, see [`Left::never_written`]; [`Error::InvalidArgument`] when the heartbeats are not WebSocket pings.
    ///
    /// When something was lost or has expired since this handle was last told, the call says so at once and waits for
    /// nothing, also when that was not yours: compare the tickets with your own, and call again for the rest. Each handle
    /// is told once, of one kind by one call; a clone takes over what its original has been told. [`flush`](Self::flush)
    /// tells by itself.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # use std::time::Duration;
    /// # let client = tautline::Client::connect(&url)?;
    /// client.send("last words")?;
    /// client.confirm(Duration::from_secs(3))?; // the server has it
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn confirm(&self, timeout: Duration) -> Result<(), Error> {
        not_on_io_thread()?;
        if !self.line.confirms {
            let reason = "only WebSocket pings as heartbeats bring confirmations";
            return Err(Error::InvalidArgument { argument: "confirm", reason: reason.into() });
        }
        let through = self.line.shared.intake.last_ticket();
        self.line.command(Command::Confirm { through });
        let settled = self.line.watch(timeout, |status| {
            if let Some(tickets) = news(&status.doubts.unconfirmed, &self.told.unconfirmed, through) {
                return Some(Err(Error::Unconfirmed { tickets }));
            }
            if let Some(tickets) = news(&status.doubts.expired, &self.told.expired, through) {
                return Some(Err(Error::Expired { tickets }));
            }
            outcome(status.watermarks.settled >= through, status)
        });
        settled.unwrap_or_else(|| Err(self.line.timeout("the confirmation", timeout)))
    }
}

/// How a wait for fates ends, apart from `news`: they are `known`, or no more will come to be known.
fn outcome(known: bool, status: &Inner) -> Option<Result<(), Error>> {
    let all_written = |left: &Left| left.never_written.is_empty() && !left.unfinished;
    match &status.closed {
        _ if known => Some(Ok(())),
        Some((_, left)) => Some(if all_written(left) { Ok(()) } else { Err(Error::Closed) }),
        None => None,
    }
}

/// What a handle that was `told` up to there has not been told yet of the messages up to ticket `through`; now it is.
fn news(runs: &Runs, told: &AtomicU64, through: u64) -> Option<Tickets> {
    let (number, tickets) = runs.since(told.load(Relaxed), through)?;
    told.store(number, Relaxed);
    Some(tickets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::error::INTERNAL;
    use crate::event::CloseReason;
    use crate::intake::Status;

    #[test]
    fn of_a_client_that_ended_by_a_defect_nothing_is_called_written() {
        let status = Status::new();
        assert!(status.read(|status| outcome(false, status)).is_none());
        let left = Left { unfinished: true, ..Left::default() };
        let reason = CloseReason::Failed(Error::Panicked { callback: INTERNAL });
        status.update(|status| status.closed = Some((reason, Arc::new(left))));
        assert!(matches!(status.read(|status| outcome(false, status)), Some(Err(Error::Closed))));
        assert!(matches!(status.read(|status| outcome(true, status)), Some(Ok(()))));
    }
}
