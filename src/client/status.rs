//! How the line is, in one look.
#![expect(
    clippy::disallowed_methods,
    reason = "turns the times that are known into times from now, on the caller's thread"
)]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::error::{CloseReason, Error};
use crate::event::Ticket;
use crate::handshake::Handshake;
use crate::state::ConnectionState;
use crate::stats::Stats;

/// How a line is at one moment: a snapshot taken by [`Client::status`]. Displayed as one line for a user, such as
/// `DISCONNECTED for 12s: looking up gateway.example: …; next attempt in 4s; 3 messages wait`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LineStatus {
    /// The state.
    pub state: ConnectionState,
    /// How long the line has been in this state.
    pub since: Duration,
    /// Whether the line is ready: messages are now written.
    pub ready: bool,
    /// Why the line is down or closed. `None` while it is ready, before the first attempt has ended, and after a close by
    /// the caller.
    pub trouble: Option<Error>,
    /// The time until the next attempt, if one is planned. Zero if it is due.
    pub next_attempt: Option<Duration>,
    /// Whether the line is suspended: see [`Client::suspend`]. `true` once the client has begun to act on that call.
    pub suspended: bool,
    /// What the server of the line's connection agreed to, if there is one: see [`Client::handshake`].
    pub handshake: Option<Arc<Handshake>>,
    /// The last message up to which the fate of all is known: see [`Client::confirmed_up_to`].
    pub confirmed_up_to: Option<Ticket>,
    /// The counters, among them what waits in the outbox.
    pub stats: Stats,
}

impl Client {
    /// Returns how the line is: its state and since when, why it is down, when the next attempt comes, and what waits. It
    /// needs no following of events. All but the counters is of one moment; the counters may be newer or older than the rest.
    /// Never blocks, but takes a lock that is held for a moment: [`state`](Self::state) and [`stats`](Self::stats) take none.
    ///
    /// ```
    #[doc = include_str!("echo.txt")]
    /// # let client = tautline::Client::connect(&url)?;
    /// let status = client.status();
    /// assert!(status.ready && status.trouble.is_none() && status.stats.messages_queued == 0);
    /// println!("{status}"); // CONNECTED for 0s
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn status(&self) -> LineStatus {
        let now = Instant::now();
        if !self.line.is_here() {
            return LineStatus {
                state: ConnectionState::Closed,
                since: Duration::ZERO,
                ready: false,
                trouble: Some(Error::Forked),
                next_attempt: None,
                suspended: false,
                handshake: None,
                confirmed_up_to: None,
                stats: Stats::default(),
            };
        }
        let mut status = self.line.shared.status.read(|status| LineStatus {
            state: status.state,
            since: now.saturating_duration_since(status.since),
            ready: status.ready,
            // The reason is known before what the client left is.
            trouble: match self.line.shared.status.close_reason() {
                Some(reason) if status.state == ConnectionState::Closed => {
                    CloseReason::clone(reason).into_result().err()
                }
                _ => status.last_failure.clone(),
            },
            next_attempt: status.next_attempt.map(|at| at.saturating_duration_since(now)),
            suspended: status.suspended,
            handshake: status.handshake.clone(),
            confirmed_up_to: status.watermarks.confirmed_up_to(),
            stats: self.line.shared.status.counters.load(),
        });
        self.line.complete(&mut status.stats);
        status.suspended &= status.state != ConnectionState::Closed;
        status
    }
}

impl fmt::Display for LineStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}s", self.state, self.since.as_secs())?;
        match &self.trouble {
            Some(Error::ByCaller { .. }) | None => {}
            Some(trouble) => write!(f, ": {trouble}")?,
        }
        if self.suspended {
            f.write_str("; suspended")?;
        }
        if let Some(next) = &self.next_attempt {
            // Rounded up: it is not due before it is.
            write!(f, "; next attempt in {}s", next.as_secs() + u64::from(next.subsec_nanos() > 0))?;
        }
        match self.stats.messages_queued {
            0 => Ok(()),
            1 => f.write_str("; 1 message waits"),
            many => write!(f, "; {many} messages wait"),
        }
    }
}
