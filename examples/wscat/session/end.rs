//! The end of a session: the line is closed, and what became of the lines decides the exit code.

use std::io::{self, ErrorKind, IsTerminal, Read};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::TryRecvError;
use tautline::ConnectionState::{Closed, Closing};
use tautline::{CloseReason, DisconnectReason};

use super::super::advice::explain;
use super::super::input::{self, Typed};
use super::super::signals::INTERRUPTED;
use super::super::{OVER, complain, paper};
use super::{Session, Stop};

/// Within this time, a signal or the time of `--timeout` lets stdout be written. Then there is still time to tell what was not
/// delivered.
const MOST_FOR_STDOUT: Duration = Duration::from_secs(4);

impl Session {
    /// Closes the line, tells what was not delivered, and returns the exit code.
    pub(super) fn end(mut self, stopped: &Stop) -> u8 {
        let (status, began) = (self.client.status(), Instant::now());
        self.begin_end();
        // It writes what was accepted first.
        let left = self.left_by_close.take().unwrap_or_else(|| self.client.close());
        for event in self.client.events().clone() {
            self.see(event);
        }
        self.take_last();
        let reason = self.client.wait_closed();
        // A server that closes with 1000 has read what it wanted, unless each line counts.
        let counts = matches!(reason, CloseReason::ByCaller) || self.options.ending.undelivered.is_some();
        let ended = reason.clone().into_result();
        if self.confirming.is_possible() && counts || ended.is_err() {
            self.undelivered.doubt(&left.maybe_delivered);
        }
        self.look();
        let is_bounded = matches!(stopped, Stop::Signal | Stop::Timeout);
        let signals = self.signals.clone();
        self.out.finish(|| signals.is_hurried() || is_bounded && began.elapsed() > MOST_FOR_STDOUT);
        if self.is_stdout_closed() && self.options.ending.undelivered.is_none() {
            paper::put(""); // clears the status
            return 0;
        }
        let by = match &reason {
            CloseReason::NotRetried(by @ DisconnectReason::ClosedByServer(frame)) if frame.code == 1000 => {
                format!("  {by}")
            }
            _ => String::new(), // the error says it
        };
        self.tell(Closed, &(by + &self.status()));

        self.undelivered.end(self.tally.written);
        let undelivered = self.tell_undelivered();
        let options = &self.options;
        match (stopped, self.out.failure(), ended) {
            (Stop::Signal, ..) => INTERRUPTED,
            _ if self.signals.is_hurried() => INTERRUPTED,
            (_, Some(_), _) if self.is_stdout_closed() => undelivered,
            (_, Some(error), _) => complain(3, &format!("stdout: {error}")),
            (.., Err(error)) if !self.is_satisfied() => explain(3, &error, options),
            (Stop::Timeout, ..) => complain(5, OVER),
            _ if options.ending.waits() && !self.is_satisfied() => complain(3, self.what_is_missing()),
            _ if undelivered == 0
                && status.state != Closed
                && !status.ready
                && self.tally.ended.is_some() =>
            {
                match &status.trouble {
                    Some(error) => explain(3, error, options),
                    None => complain(3, "the line was down at the end"),
                }
            }
            _ => undelivered,
        }
    }

    /// The line is about to be closed, and Ctrl-C ends the program at once.
    pub(super) fn begin_end(&mut self) {
        self.signals.is_open.store(false, Ordering::SeqCst);
        self.draw(Closing);
    }

    /// Takes what was typed and read, and from a file all else, if it is to be kept. The prompt ends.
    fn take_last(&mut self) {
        self.take_typed();
        self.screen.end_prompt();
        loop {
            match self.typed.try_recv() {
                Ok(typed) => self.take(typed),
                Err(TryRecvError::Disconnected) => self.read_no_more(),
                Err(TryRecvError::Empty) => break,
            }
        }
        if self.options.ending.undelivered.is_none() || !input::is_file() {
            return;
        }
        if self.tally.ended.is_none() {
            // Their thread ends soon, because nothing is sent any more.
            self.typed.clone().iter().for_each(|typed| self.take(typed));
        }
        match io::stdin().lock().read_to_end(&mut self.undelivered.rest) {
            Ok(_) => {
                self.tally.is_cut = false;
                self.tally.ended.get_or_insert_with(Instant::now);
            }
            Err(error) => self.take(Typed::Failed(error)),
        }
    }

    fn is_stdout_closed(&self) -> bool {
        self.out.failure().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    }

    /// What --once, --count or --expect wait for.
    fn what_is_missing(&self) -> &'static str {
        match self.tally.received {
            0 => "no message came",
            _ if self.options.ending.expect.is_some() => "no message was as expected",
            _ => "not so many messages came",
        }
    }

    /// Returns the exit code for that.
    fn tell_undelivered(&self) -> u8 {
        let (left, options) = (&self.undelivered, &self.options);
        let end = options.shape.end();
        let is_kept = match &options.ending.undelivered {
            None => {
                left.show(end);
                Ok(())
            }
            Some(file) => left.write(file, end).map_err(|error| {
                left.show(end);
                complain(4, &format!("{}: {error}", file.display()))
            }),
        };
        let unread = left.rest.split_inclusive(|byte| *byte == end).count() as u64;
        let (missing, doubtful) = (left.missing.len() as u64 + unread, left.doubtful.len());
        let is_open = self.tally.ended.is_none() && !io::stdin().is_terminal();
        let is_cut = self.tally.is_cut || is_open && options.ending.undelivered.is_some();
        if missing == 0 && doubtful == 0 && !is_cut {
            return is_kept.map_or_else(|code| code, |()| 0);
        }
        let more = if is_cut || is_open { "; stdin was not read to its end" } else { "" };
        complain(4, &format!("lines not delivered: {missing}; perhaps not delivered: {doubtful}{more}"))
    }
}
