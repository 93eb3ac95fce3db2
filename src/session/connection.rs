//! A connection: all that ends with a socket, and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{ConnectionConfig, deadline};
use crate::handshake::Handshake;
use crate::secrets::Secrets;
use crate::session::close_handshake::Closing;
use crate::session::heartbeat::HeartbeatManager;
use crate::session::idle::IdleTimer;
use crate::session::inquiry::Inquiry;
use crate::session::ledger::WriteLedger;
use crate::session::pings::Pings;
use crate::session::sender::Sender;
use crate::session::timers::Timers;

/// Identifies a connection by the number of its attempt. Later connections have higher numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    /// What the server agreed to.
    pub(super) handshake: Arc<Handshake>,
    pub(super) stage: Stage,
    /// What goes out ahead of the outbox.
    pub(super) sender: Sender,
    /// What the system has taken.
    pub(super) ledger: WriteLedger,
    pub(super) pings: Pings,
    pub(super) heartbeat: HeartbeatManager,
    /// How long the server has sent no data.
    pub(super) idle: IdleTimer,
    /// The protocol's timers.
    pub(super) timers: Timers,
    /// The message that the protocol is framing. It stays here if the protocol ends the connection while framing it.
    pub(super) framed: Option<u64>,
    /// Until when the protocol holds back the outbox.
    pub(super) hold: Option<Instant>,
    /// How many of the protocol's jobs have no result yet.
    pub(super) jobs: usize,
    /// Secrets that the protocol has sent to the server. They must not be shown where they are repeated.
    pub(super) secrets: Secrets,
    /// Whether the log has said that the protocol acknowledges a message that was never sent.
    pub(super) acknowledged_unsent: bool,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    LoggingIn {
        until: Instant,
    },
    /// A successor that is ready. What went out on the current connection is being confirmed, until `until` at the
    /// latest.
    Standby {
        since: Instant,
        until: Instant,
        inquiry: Inquiry,
    },
    Ready,
    Closing(Closing),
    /// The line is done with this connection. What is queued still goes out. If `heard`, what arrives is still
    /// delivered, until the connection ends or until `until`.
    Leaving {
        until: Instant,
        heard: bool,
    },
}

/// How many bytes are compressed at once, and in one turn, so that no heartbeat and no input waits for more than a few
/// milliseconds.
pub(crate) const COMPRESSED_AT_ONCE: usize = 64 << 10;

/// The role that a connection has on its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Current,
    /// The connection that the line is to move to.
    Successor,
    /// The connection that the line has moved from.
    Predecessor,
    /// A connection that is closed in good order, and whose messages are ignored.
    Dismissed,
}

impl Connection {
    /// An open connection, of which the system has taken `taken` bytes. `paused`: reading is paused.
    pub(super) fn new(
        id: ConnectionId,
        handshake: Arc<Handshake>,
        stage: Stage,
        config: &ConnectionConfig,
        taken: u64,
        paused: bool,
    ) -> Self {
        Self {
            id,
            handshake,
            stage,
            sender: Sender::default(),
            ledger: WriteLedger::new(taken),
            pings: Pings::new(),
            heartbeat: HeartbeatManager::on_connection(config.heartbeat.clone(), paused),
            idle: IdleTimer::new(config.idle_timeout),
            timers: Timers::default(),
            framed: None,
            hold: None,
            jobs: 0,
            secrets: Secrets::default(),
            acknowledged_unsent: false,
        }
    }

    /// The longest payload of a frame. A compressed message goes out in pieces, so that no heartbeat waits until a large one
    /// is compressed.
    pub(super) fn longest_frame(&self, config: &ConnectionConfig) -> usize {
        let piece = self.handshake.compression.as_ref().map_or(usize::MAX, |_| COMPRESSED_AT_ONCE);
        config.fragment.unwrap_or(usize::MAX).min(piece)
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready)
    }

    pub(super) fn closing(&self) -> Option<&Closing> {
        match &self.stage {
            Stage::Closing(closing) => Some(closing),
            _ => None,
        }
    }

    pub(super) fn closing_mut(&mut self) -> Option<&mut Closing> {
        match &mut self.stage {
            Stage::Closing(closing) => Some(closing),
            _ => None,
        }
    }

    /// Whether messages that arrive are wanted: the server has not closed.
    pub(super) fn accepts_input(&self) -> bool {
        match &self.stage {
            Stage::Closing(closing) => closing.accepts_input(),
            Stage::Leaving { heard, .. } => *heard,
            Stage::LoggingIn { .. } | Stage::Standby { .. } | Stage::Ready => true,
        }
    }

    /// Stops the heartbeat and clears the send queue. Only what is queued after this call is sent.
    pub(super) fn stop_sending(&mut self) {
        self.heartbeat.stop();
        self.sender.clear();
    }

    /// Reading pauses, because the application does not take its messages, or resumes. While it is paused, no timeout
    /// counts the server's silence.
    pub(super) fn set_paused(&mut self, now: Instant, paused: bool, config: &ConnectionConfig) {
        self.heartbeat.handle_paused(now, paused);
        if paused {
            self.timers.miss_input();
            return;
        }
        self.idle.restart(now);
        match &mut self.stage {
            Stage::LoggingIn { until, .. } => *until = deadline(now, config.login_timeout),
            Stage::Leaving { until, .. } => *until = deadline(now, config.close_timeout),
            Stage::Standby { .. } | Stage::Ready | Stage::Closing(_) => {}
        }
    }

    /// When the server is given up if it sends nothing and takes nothing until then. While reading is paused, its
    /// silence does not count.
    pub(super) fn next_judgement(&self, paused: bool, write_timeout: Duration) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::LoggingIn { until, .. } | Stage::Leaving { until, .. } => Some(*until),
            Stage::Ready => self.idle.next_deadline(),
            Stage::Standby { .. } | Stage::Closing(_) => None,
        };
        let judged = [stage.filter(|_| !paused), self.ledger.deadline(write_timeout)];
        judged.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
