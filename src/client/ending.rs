//! The ends of a client.
#![expect(
    clippy::disallowed_methods,
    reason = "turns the caller's timeouts into deadlines, on the caller's thread"
)]

use std::mem;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use log::warn;

use crate::client::{Client, LineHandle, remaining};
use crate::config::deadline;
use crate::error::{CloseFrame, Error};
use crate::event::{CloseReason, Shutdown, Undelivered};
use crate::logging::LOG;
use crate::shared::{Command, LATE, Thread};
use crate::state::ConnectionState;

/// How [`Client::shutdown`] ends a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Writes what was accepted, and closes the line with close code 1000: see [`Client::close`].
    Close,
    /// Ends the line at once: see [`Client::terminate`].
    Terminate,
}

/// How long the I/O thread may take to end when it has nothing to wait for.
const PROMPT: Duration = Duration::from_millis(50);

impl Client {
    /// Closes the line with close code 1000, after everything accepted has been written. Returns what could not be
    /// delivered: see [`Undelivered`]. The client accepts no message from the moment of the call. The state CLOSED is
    /// final.
    ///
    /// Blocks until the close handshake is done and the I/O thread has ended:
    /// * Open line: `close_timeout` (3 s) in all, and up to 50 ms for the thread to end. A line whose login is pending
    ///   is open.
    /// * No open line, and no callback running: 50 ms at most.
    /// * A callback running: the bound of an open line, since the callback may be about to open it. A callback that
    ///   does not return within one more second is left behind and named: see [`Client`].
    ///   [`terminate`](Self::terminate) waits less for it.
    ///
    /// Called on the I/O thread of a client, it returns at once, with [`unfinished`](Undelivered::unfinished) set.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// client.send("last words")?;
    /// let left = client.close();
    /// println!("{} never written, maybe delivered: {}", left.never_written.len(), left.maybe_delivered);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn close(&self) -> Undelivered {
        self.line.close(CloseFrame::new(1000, ""))
    }

    /// Closes the line like [`close`](Self::close), with this close code and reason.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the code may not be sent, or the reason is longer than 123 bytes. The client stays open.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// let left = client.close_with(4001, "done for today")?;
    /// assert!(left.is_empty(), "nothing was sent");
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn close_with(&self, code: u16, reason: &str) -> Result<Undelivered, Error> {
        let frame = CloseFrame::checked(code, reason)?;
        Ok(self.line.close(frame))
    }

    /// Ends the line at once, without a flush and without a close handshake. Returns what could not be delivered: see
    /// [`Undelivered`].
    ///
    /// Blocks until the I/O thread has ended: 50 ms at most. A callback that does not return within one more second is
    /// left behind and named: see [`Client`]. Called on the I/O thread of a client, it returns at once, with
    /// [`unfinished`](Undelivered::unfinished) set.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// let _ = client.terminate();
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn terminate(&self) -> Undelivered {
        self.line.end(Command::Terminate, PROMPT)
    }

    /// Ends the client by a deadline, for a host that unloads the caller or wants to go on: says whether all threads of the
    /// client have ended, also those that another end has left behind.
    ///
    /// `how` is what [`close`](Self::close) or [`terminate`](Self::terminate) does:
    /// * The first `Close` sets how long the close may take: the shorter of `close_timeout` and `timeout` less 50 ms, or half of a
    ///   `timeout` under 100 ms. With a `timeout` of zero it is `close_timeout`, and the call returns at once.
    /// * While an end is under way, `Close` only waits.
    /// * `Terminate` cuts a close short that is under way.
    ///
    /// Blocks for `timeout` at most, whatever the application's code does and whatever lock the caller holds. On
    /// [`Shutdown::StillRunning`], call it again: later, from another thread, or while other threads call it. Each call that
    /// returns `Gone` returns all that could not be delivered. On the I/O thread of a client, and on the dial and work
    /// threads of this one, it returns `StillRunning` at once.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// use std::time::Duration;
    /// use tautline::{Ending, Shutdown};
    ///
    /// client.send("last words")?;
    /// match client.shutdown(Ending::Close, Duration::from_millis(500)) {
    ///     Shutdown::Gone(left) => assert!(left.is_empty()),
    ///     Shutdown::StillRunning(threads) => eprintln!("not yet: {threads}"),
    /// }
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn shutdown(&self, how: Ending, timeout: Duration) -> Shutdown {
        self.line.shutdown(how, timeout)
    }

    /// Blocks until the client is closed, however long that takes, and returns why it was closed. Does not close it.
    ///
    /// Called on the I/O thread of a client, it returns [`CloseReason::Failed`] with [`Error::WouldDeadlock`].
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// let _ = client.close();
    /// client.wait_closed().into_result()?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn wait_closed(&self) -> CloseReason {
        if let Err(error) = self.line.may_block() {
            return error.into();
        }
        let reason = self.line.wait(None, |status| status.closed.as_ref().map(|(reason, _)| reason.clone()));
        reason.unwrap_or(CloseReason::ByCaller)
    }

    /// Blocks like [`wait_closed`](Self::wait_closed), for `timeout` at most.
    ///
    /// # Errors
    /// [`Error::Timeout`]: the client isn't closed yet.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # use std::time::Duration;
    /// assert!(client.wait_closed_timeout(Duration::from_millis(10)).is_err(), "it is open");
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn wait_closed_timeout(&self, timeout: Duration) -> Result<CloseReason, Error> {
        self.line.may_block()?;
        let reason =
            self.line.wait(Some(timeout), |status| status.closed.as_ref().map(|(reason, _)| reason.clone()));
        reason.ok_or_else(|| self.line.timeout("the client to be closed", timeout))
    }
}

impl LineHandle {
    fn close(&self, frame: CloseFrame) -> Undelivered {
        let command = self.close_command(frame, true);
        self.end(command, self.close_timeout.saturating_add(PROMPT))
    }

    /// Ends the line, and waits for the end up to `bound`.
    fn end(&self, command: Command, bound: Duration) -> Undelivered {
        if !self.is_here() {
            return unfinished();
        }
        self.shared.intake.close();
        self.command(command);
        if Thread::current() == Some(Thread::Io) {
            return unfinished();
        }
        let outlives = self.outlives(bound, Duration::ZERO);
        let mut left = self.left();
        left.still_inside = outlives.or(left.still_inside);
        left
    }

    /// What could not be delivered.
    fn left(&self) -> Undelivered {
        let left = self.shared.status.read(|status| status.closed.as_ref().map(|(_, left)| Arc::clone(left)));
        left.map_or_else(unfinished, Arc::unwrap_or_clone)
    }

    /// Ends the line, and waits for all threads up to `timeout`.
    fn shutdown(&self, how: Ending, timeout: Duration) -> Shutdown {
        if !self.is_here() {
            return Shutdown::Gone(unfinished());
        }
        let now = Instant::now();
        let until = deadline(now, timeout);
        let begins = self.shared.intake.close();
        match how {
            // An end that is under way has a time of its own.
            Ending::Close if !begins => {}
            Ending::Close => {
                let until = deadline(now, time_to_close(self.close_timeout, timeout));
                self.command(Command::Close { frame: CloseFrame::new(1000, ""), flush: true, until });
            }
            Ending::Terminate => self.command(Command::Terminate),
        }
        let calls = &self.shared.calls;
        let ours = match Thread::current() {
            Some(Thread::Io) => true,
            Some(Thread::Dial | Thread::Work) => calls.has_caller(),
            None => false,
        };
        if ours {
            let caller = thread::current();
            let name = caller.name().unwrap_or_default();
            return Shutdown::StillRunning(format!("{name}: the caller of shutdown").into());
        }
        if let Some(running) = calls.outlive_all(|| remaining(until)) {
            if how == Ending::Terminate || (begins && !timeout.is_zero()) {
                calls.abandon();
            }
            return Shutdown::StillRunning(running);
        }
        Shutdown::Gone(Undelivered { still_inside: None, ..self.left() })
    }

    fn close_command(&self, frame: CloseFrame, flush: bool) -> Command {
        Command::Close { frame, flush, until: deadline(Instant::now(), self.close_timeout) }
    }

    /// Waits for the I/O thread to end. If the wait is given up, returns what keeps that thread and others. The thread
    /// has `prompt`; then `more`, for a line that may still be closing, unless a callback of the application is
    /// running; then a second for a thread that is late.
    fn outlives(&self, prompt: Duration, more: Duration) -> Option<Box<str>> {
        let calls = &self.shared.calls;
        if self.thread.join_within(prompt) {
            return None;
        }
        // A callback that is running may wait for a lock that the caller holds. Or the thread only lacks the processor,
        // in a callback or between two, and continues once it gets it. These cases look the same, so the wait goes on a
        // little longer.
        let inside = calls.is_inside(Thread::Io);
        if inside {
            calls.abandon();
        }
        let more = if inside { Duration::ZERO } else { more };
        if self.thread.join_within(more.saturating_add(LATE)) {
            return None;
        }
        calls.abandon();
        let names = calls.names();
        warn!(
            target: LOG,
            "The client is left behind, because a call does not return: {names}; \
             it runs no other application code but drops, and ends when that call returns"
        );
        Some(names)
    }
}

/// How long the close of a `shutdown` may take, so that the threads can end within its timeout. One that only begins the close
/// leaves it all its time.
fn time_to_close(close_timeout: Duration, timeout: Duration) -> Duration {
    if timeout.is_zero() {
        return close_timeout;
    }
    close_timeout.min(timeout.saturating_sub(PROMPT.min(timeout / 2)))
}

/// What is left is not known.
fn unfinished() -> Undelivered {
    Undelivered { unfinished: true, ..Undelivered::default() }
}

impl Drop for LineHandle {
    fn drop(&mut self) {
        if !self.is_here() {
            // What the fields share with the parent's threads must not be dropped with them: that would take locks, and close
            // descriptors.
            mem::forget((self.shared.clone(), self.commands.clone()));
            mem::forget((self.events.clone(), self.inbox.clone(), Arc::clone(&self.thread)));
            return;
        }
        let open = self.shared.status.read(|status| match status.state {
            ConnectionState::Connected | ConnectionState::Authenticated | ConnectionState::Closing => true,
            ConnectionState::Disconnected | ConnectionState::Connecting | ConnectionState::Closed => false,
        });
        self.shared.intake.close();
        self.command(self.close_command(CloseFrame::new(1000, ""), false));
        // A drop on one of our own threads, this client's or another's, waits for nothing. Nor does a drop wait a
        // second time for a call that does not return.
        if Thread::current().is_none() && !self.shared.calls.is_abandoned() {
            let (now, later) = if open {
                (self.close_timeout, Duration::ZERO)
            } else {
                (Duration::ZERO, self.close_timeout)
            };
            self.outlives(now.saturating_add(PROMPT), later);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_has_most_of_a_shutdowns_time_and_one_that_is_only_begun_has_its_own() {
        let ms = Duration::from_millis;
        for (timeout, closing) in [(0, 3000), (1, 0), (20, 10), (100, 50), (500, 450), (9000, 3000)] {
            assert_eq!(time_to_close(ms(3000), ms(timeout)).as_millis(), closing, "{timeout}");
        }
    }
}
