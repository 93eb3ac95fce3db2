//! The ends of a client.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::client::{Client, LineHandle, not_on_io_thread};
use crate::error::{CloseFrame, Error};
use crate::event::{CloseReason, Left};
use crate::intake::{Command, Thread};

impl Client {
    /// Closes the line with code 1000, after everything that was accepted has gone out, and returns what is left: see
    /// [`Left`]. Nothing is accepted any more from the moment of the call. CLOSED is final.
    ///
    /// Blocks until the close handshake is done and the I/O thread is gone, for `close_timeout` (3 s) at most. Only a line
    /// that isn't open is closed at once; one whose login is pending is open. Made on the I/O thread, the call returns at once, with
    /// [`unfinished`](Left::unfinished) set.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// client.send("last words")?;
    /// let left = client.close();
    /// println!("{} never written, maybe delivered: {}", left.never_written.len(), left.maybe_delivered);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn close(&self) -> Left {
        self.line.close(Command::Close { frame: CloseFrame::new(1000, ""), flush: true })
    }

    /// Closes the line like [`close`](Self::close), with a code and a reason of your own.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`]: the code may not be sent, or the reason is longer than 123 bytes. Nothing was done.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// client.close_with(4001, "done for today")?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn close_with(&self, code: u16, reason: &str) -> Result<Left, Error> {
        let frame = CloseFrame::checked(code, reason)?;
        Ok(self.line.close(Command::Close { frame, flush: true }))
    }

    /// Ends the line at once, without a flush and without a close handshake, and returns what is left: see [`Left`].
    ///
    /// Blocks until the I/O thread is gone: 50 ms at most. Made on the I/O thread, the call returns at once, with
    /// [`unfinished`](Left::unfinished) set.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// client.terminate();
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn terminate(&self) -> Left {
        self.line.close(Command::Terminate)
    }

    /// Blocks until the client is closed, for however long that takes, and tells why it is. Does not close it.
    ///
    /// Made on the I/O thread, which it would wait for, it returns [`CloseReason::Failed`] with
    /// [`Error::WouldDeadlock`].
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// client.close();
    /// client.closed().into_result()?;
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn closed(&self) -> CloseReason {
        if let Err(error) = not_on_io_thread() {
            return error.into();
        }
        let reason = self.line.wait(None, |status| status.closed.as_ref().map(|(reason, _)| reason.clone()));
        reason.unwrap_or(CloseReason::ByCaller)
    }

    /// Blocks like [`closed`](Self::closed), for `timeout` at most.
    ///
    /// # Errors
    /// [`Error::Timeout`]: the client isn't closed yet.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// # use std::time::Duration;
    /// assert!(client.wait_closed(Duration::from_millis(10)).is_err(), "it is open");
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn wait_closed(&self, timeout: Duration) -> Result<CloseReason, Error> {
        not_on_io_thread()?;
        let reason =
            self.line.wait(Some(timeout), |status| status.closed.as_ref().map(|(reason, _)| reason.clone()));
        reason.ok_or_else(|| self.line.timeout("the client to be closed", timeout))
    }
}

impl LineHandle {
    fn close(&self, command: Command) -> Left {
        self.command(command);
        if Thread::current() == Some(Thread::Io) {
            return Left { unfinished: true, ..Left::default() };
        }
        let left = self.wait(None, |status| status.closed.as_ref().map(|(_, left)| Arc::clone(left)));
        self.join();
        left.map_or_else(Left::default, |left| Left::clone(&left))
    }

    /// Waits for the end of the I/O thread, which has nothing left to wait for itself.
    pub(super) fn join(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panics are caught and told on the thread itself.
            let _ = thread.join();
        }
    }
}

impl Drop for LineHandle {
    fn drop(&mut self) {
        self.command(Command::Close { frame: CloseFrame::new(1000, ""), flush: false });
        // On one of our own threads, this one or another client's, nothing is waited for.
        if Thread::current().is_none() {
            self.join();
        }
    }
}
