//! How far a close handshake has come (RFC 6455, section 7), whichever side began it.

use std::time::{Duration, Instant};

use crate::error::CloseFrame;
use crate::event::DisconnectReason;
use crate::session::inquiry::{Inquiry, Matter};

/// How long the server has to end the TCP connection once both close frames are through (RFC 6455, section 7.1.1: it
/// should do so first, and at once).
pub(super) const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Closing {
    /// When the connection is dropped, at whatever step the handshake is.
    pub(super) until: Instant,
    pub(super) step: Step,
    pub(super) outcome: Outcome,
    /// When the handshake began.
    pub(super) since: Instant,
    /// The protocol has been asked for its goodbye.
    pub(super) goodbye: bool,
    /// A message for the application found no room and was dropped. All later ones are dropped, too.
    pub(super) overflowed: bool,
}

#[derive(Debug)]
pub(super) enum Step {
    /// What was begun goes out first, with `outbox` also what waits there; then `frame`.
    Flushing { frame: CloseFrame, inquiry: Inquiry, outbox: bool },
    /// Our close frame is out, or on its way. The server's is still to come.
    Sent,
    /// The server's close frame has come and is answered. Only the end of the stream is still to come.
    Answered,
}

/// What happens after the handshake.
#[derive(Debug)]
pub(super) enum Outcome {
    ClosedByCaller,
    Down(DisconnectReason),
}

impl Closing {
    /// `matter` says what the server is asked about; `held` says that the protocol holds back the outbox.
    pub(super) fn next_deadline(&self, matter: Matter, held: bool) -> Instant {
        let Step::Flushing { inquiry, .. } = &self.step else { return self.until };
        match inquiry {
            // The inquiry is due already: the next `handle_timeout` serves it.
            _ if inquiry.is_due(matter) => self.since,
            Inquiry::NotAsked if held => self.patience_with_hold(),
            _ => inquiry.until().map_or(self.until, |until| until.min(self.until)),
        }
    }

    /// Whether a ping is out whose answer decides what happens next.
    pub(super) fn awaits_answer(&self) -> bool {
        matches!(&self.step, Step::Flushing { inquiry, .. } if inquiry.until().is_some())
    }

    /// Until when to wait for messages that the protocol holds back. The goodbye needs time, too.
    pub(super) fn patience_with_hold(&self) -> Instant {
        self.since + self.until.saturating_duration_since(self.since) / 2
    }

    /// Whether messages may still arrive.
    pub(super) fn accepts_input(&self) -> bool {
        !matches!(self.step, Step::Answered)
    }

    pub(super) fn flushes_outbox(&self) -> bool {
        matches!(self.step, Step::Flushing { outbox: true, .. })
    }

    pub(super) fn is_flushing(&self) -> bool {
        matches!(self.step, Step::Flushing { .. })
    }
}
