//! A connection: all that dies with a socket, and nothing else.

use std::time::{Duration, Instant};

use crate::config::{ConnectionConfig, deadline};
use crate::protocol::Handshake;
use crate::secrets::Secrets;
use crate::session::close_handshake::Closing;
use crate::session::heartbeat::HeartbeatManager;
use crate::session::inquiry::Inquiry;
use crate::session::ledger::WriteLedger;
use crate::session::pings::Pings;
use crate::session::sender::Sender;
use crate::session::timers::Timers;

/// Names a connection: the number of the attempt that brought it. Later ones have higher numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ConnectionId(pub(crate) u64);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) stage: Stage,
    /// What goes out ahead of the outbox.
    pub(super) sender: Sender,
    /// What the system has taken.
    pub(super) ledger: WriteLedger,
    pub(super) pings: Pings,
    pub(super) heartbeat: HeartbeatManager,
    /// The protocol's.
    pub(super) timers: Timers,
    /// The message that the protocol frames. It stays here if the protocol ends the connection over it.
    pub(super) framed: Option<u64>,
    /// Until when the protocol holds the outbox.
    pub(super) hold: Option<Instant>,
    /// How many jobs of the protocol's have no result yet.
    pub(super) jobs: usize,
    /// What the protocol has said to the server, and must not be shown when it is repeated.
    pub(super) secrets: Secrets,
    /// What the request for it held.
    pub(super) request_secrets: Secrets,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    LoggingIn {
        until: Instant,
        accepted: Handshake,
    },
    /// A successor that is ready. What went out on the current connection is being confirmed, until then at the latest.
    Standby {
        since: Instant,
        until: Instant,
        accepted: Handshake,
        inquiry: Inquiry,
    },
    Ready,
    Closing(Closing),
    /// The line is done with it. What waits goes out, and `heard` says whether what still comes is wanted: until its end,
    /// or until then.
    Leaving {
        until: Instant,
        heard: bool,
    },
}

/// What a connection is to its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Current,
    /// The line is to move to it.
    Successor,
    /// The line has moved from it.
    Predecessor,
    /// It is to be ended in good order, and nothing more is heard of it.
    Dismissed,
}

impl Connection {
    /// One that is open, and on which the system has taken `taken` bytes. `paused`: reading is paused.
    pub(super) fn new(
        id: ConnectionId,
        stage: Stage,
        config: &ConnectionConfig,
        taken: u64,
        paused: bool,
    ) -> Self {
        Self {
            id,
            stage,
            sender: Sender::default(),
            ledger: WriteLedger::new(taken),
            pings: Pings::new(),
            heartbeat: HeartbeatManager::on_connection(config.heartbeat.clone(), paused),
            timers: Timers::default(),
            framed: None,
            hold: None,
            jobs: 0,
            secrets: Secrets::default(),
            request_secrets: Secrets::default(),
        }
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

    /// Whether what arrives is for the application: the server has not closed, and nothing was dropped before it.
    pub(super) fn accepts_input(&self) -> bool {
        match &self.stage {
            Stage::Closing(closing) => closing.accepts_input(),
            Stage::Leaving { heard, .. } => *heard,
            Stage::LoggingIn { .. } | Stage::Standby { .. } | Stage::Ready => true,
        }
    }

    /// No more heartbeats, and nothing more is sent, but what may follow this.
    pub(super) fn stop_sending(&mut self) {
        self.heartbeat.stop();
        self.sender.clear();
    }

    /// Reading is paused, since the application does not take its messages, or goes on. Meanwhile nothing is judged by
    /// what the server says.
    pub(super) fn set_paused(&mut self, now: Instant, paused: bool, config: &ConnectionConfig) {
        self.heartbeat.handle_paused(now, paused);
        if paused {
            self.timers.miss_input();
            return;
        }
        match &mut self.stage {
            Stage::LoggingIn { until, .. } => *until = deadline(now, config.login_timeout),
            Stage::Leaving { until, .. } => *until = deadline(now, config.close_timeout),
            Stage::Standby { .. } | Stage::Ready | Stage::Closing(_) => {}
        }
    }

    /// When the server is given up, unless it says or takes something. While reading is paused it is not judged by what it
    /// says.
    pub(super) fn next_judgement(&self, paused: bool, write_timeout: Duration) -> Option<Instant> {
        let stage = match &self.stage {
            Stage::LoggingIn { until, .. } | Stage::Leaving { until, .. } => Some(*until),
            Stage::Standby { .. } | Stage::Ready | Stage::Closing(_) => None,
        };
        let judged = [stage.filter(|_| !paused), self.ledger.deadline(write_timeout)];
        judged.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
