//! The state of a line, and its connections.

use std::time::Instant;

use crate::session::connection::{Connection, ConnectionId, Role, Stage};
use crate::state::ConnectionState;

/// Whether callers can send now, as far as they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// The line is ready. The number rises each time that it becomes so after a loss. A move does not change it.
    Ready(u64),
    NotReady(ConnectionState),
}

impl Default for Readiness {
    fn default() -> Self {
        Self::NotReady(ConnectionState::Disconnected)
    }
}

#[derive(Debug)]
pub(super) enum Line {
    Down,
    /// An attempt is under way. It has no deadline once it has timed out.
    Dialling(Option<Instant>),
    Up(Box<Up>),
    Closed,
}

/// A line with one connection, or with several during a move.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) current: Connection,
    pub(super) successor: Option<Successor>,
    /// The connections that the line is done with, oldest first: predecessors that are read to their end, and dismissed
    /// successors.
    pub(super) leaving: Vec<Connection>,
    /// Present once the line is ready. A move does not restart it.
    pub(super) ready: Option<Ready>,
}

/// A line that is ready, or was ready before it began to close.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) since: Instant,
    /// The line was ready after a login.
    pub(super) authenticated: bool,
}

/// The connection that the line is to move to.
#[derive(Debug)]
pub(super) enum Successor {
    /// An attempt is under way. It has no deadline once it has timed out.
    Dialling {
        id: ConnectionId,
        until: Option<Instant>,
    },
    Open(Box<Connection>),
}

impl Line {
    pub(super) fn state(&self) -> ConnectionState {
        match self {
            Self::Down => ConnectionState::Disconnected,
            Self::Dialling(_) => ConnectionState::Connecting,
            Self::Up(up) if up.current.closing().is_some() => ConnectionState::Closing,
            Self::Up(up) if up.ready.is_some_and(|ready| ready.authenticated) => {
                ConnectionState::Authenticated
            }
            Self::Up(_) => ConnectionState::Connected,
            Self::Closed => ConnectionState::Closed,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    pub(super) fn up(&self) -> Option<&Up> {
        match self {
            Self::Up(up) => Some(up),
            Self::Down | Self::Dialling(_) | Self::Closed => None,
        }
    }

    pub(super) fn up_mut(&mut self) -> Option<&mut Up> {
        match self {
            Self::Up(up) => Some(up),
            Self::Down | Self::Dialling(_) | Self::Closed => None,
        }
    }

    pub(super) fn current(&self) -> Option<&Connection> {
        self.up().map(|up| &up.current)
    }

    pub(super) fn current_mut(&mut self) -> Option<&mut Connection> {
        self.up_mut().map(|up| &mut up.current)
    }

    /// The connection that carries the line, if it is ready.
    pub(super) fn ready(&self) -> Option<&Connection> {
        self.current().filter(|current| current.is_ready())
    }

    /// The connection that the line is to move to, if it is open.
    pub(super) fn successor(&self) -> Option<&Connection> {
        match &self.up()?.successor {
            Some(Successor::Open(connection)) => Some(connection),
            Some(Successor::Dialling { .. }) | None => None,
        }
    }

    /// All open connections.
    pub(super) fn connections(&self) -> impl Iterator<Item = &Connection> {
        let leaving = self.up().map(|up| up.leaving.iter());
        leaving.into_iter().flatten().chain(self.current()).chain(self.successor())
    }

    pub(super) fn connections_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.up_mut().into_iter().flat_map(|Up { current, successor, leaving, .. }| {
            let successor = match successor {
                Some(Successor::Open(connection)) => Some(&mut **connection),
                Some(Successor::Dialling { .. }) | None => None,
            };
            leaving.iter_mut().chain([current]).chain(successor)
        })
    }

    pub(super) fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        let is = |connection: &&Connection| connection.id == id;
        // The current connection is almost always the one.
        self.current().filter(is).or_else(|| self.connections().find(is))
    }

    pub(super) fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections_mut().find(|connection| connection.id == id)
    }

    /// The role of an open connection.
    pub(super) fn role(&self, id: ConnectionId) -> Option<Role> {
        let is = |connection: &Connection| connection.id == id;
        if self.current().is_some_and(is) {
            Some(Role::Current)
        } else if self.successor().is_some_and(is) {
            Some(Role::Successor)
        } else {
            let leaving = self.up()?.leaving.iter().find(|connection| is(connection))?;
            Some(if leaving.accepts_input() { Role::Predecessor } else { Role::Dismissed })
        }
    }

    /// Whether `id` is the attempt of a move.
    pub(super) fn is_dialling_successor(&self, id: ConnectionId) -> bool {
        let up = self.up();
        matches!(up, Some(Up { successor: Some(Successor::Dialling { id: dialled, .. }), .. }) if *dialled == id)
    }

    /// Whether the successor is ready, and what went out on the current connection is being confirmed.
    pub(super) fn has_standby(&self) -> bool {
        self.successor().is_some_and(|successor| matches!(successor.stage, Stage::Standby { .. }))
    }
}

#[cfg(test)]
mod tests;
