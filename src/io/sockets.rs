//! The sockets of a line: one, or two or three during a move.

use crate::io::traffic::HIGH_WATER;
use crate::session::ConnectionId;
use crate::stats::Traffic;
use crate::transport::socket::Socket;
use crate::transport::stream::Stream;
use crate::transport::wire::{Poller, Raw};

/// The socket of a connection, and what the next turn is to do with it.
pub(crate) struct Open<T: Raw = Stream> {
    pub(crate) id: ConnectionId,
    pub(crate) socket: Box<Socket<T>>,
    /// Bytes may wait in TLS or in tungstenite, where the poller can't see them.
    pub(crate) may_have_more: bool,
    /// The socket has queued an answer to a ping or to a close frame.
    pub(crate) needs_flush: bool,
    /// The last turn ended while it had more to hand to the socket.
    pub(crate) has_more_to_send: bool,
}

impl<T: Raw> Open<T> {
    /// Frames may have arrived together with the answer to the upgrade.
    pub(crate) fn new(id: ConnectionId, socket: Box<Socket<T>>) -> Self {
        Self { id, socket, may_have_more: true, needs_flush: false, has_more_to_send: false }
    }

    /// Whether the next turn reads from this socket, if there is room for the messages.
    pub(crate) fn is_readable(&self) -> bool {
        (self.may_have_more || self.socket.is_readable()) && !self.socket.owes_answers()
    }
}

/// All sockets of a line.
pub(crate) struct Sockets<T: Raw = Stream> {
    open: Vec<Open<T>>,
    /// What went over the sockets that are gone.
    gone: Traffic,
}

impl<T: Raw> Default for Sockets<T> {
    fn default() -> Self {
        Self { open: Vec::new(), gone: Traffic::default() }
    }
}

impl<T: Raw> Sockets<T> {
    pub(super) fn add(&mut self, open: Open<T>) {
        self.open.push(open);
    }

    /// Drops the socket of a connection, if it has one.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        let dropped = self.open.extract_if(.., |open| open.id == id);
        for Open { socket, .. } in dropped {
            self.gone = self.gone.and(socket.traffic());
        }
    }

    /// Starts with another socket than last time, so that no socket always takes the room that is left for messages.
    pub(super) fn take_turns(&mut self) {
        if self.open.len() > 1 {
            self.open.rotate_left(1);
        }
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Open<T>> {
        self.open.iter_mut()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The only socket, if there is exactly one.
    pub(crate) fn only(&mut self) -> Option<&mut Open<T>> {
        match &mut self.open[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether the next turn reads from any socket, if there is room for the messages.
    pub(crate) fn are_readable(&self) -> bool {
        self.open.iter().any(Open::is_readable)
    }

    /// Whether the last turn had more to hand to any socket.
    pub(super) fn have_more_to_send(&self) -> bool {
        self.open.iter().any(|open| open.has_more_to_send)
    }

    /// Whether bytes wait on any socket that the system does not take now.
    pub(super) fn are_blocked(&self) -> bool {
        self.open.iter().any(|open| open.socket.is_blocked())
    }

    /// Whether any socket has something to read, or room for bytes that wait.
    pub(super) fn have_news(&self) -> bool {
        self.open.iter().any(|open| open.socket.is_readable() || open.socket.has_room())
    }

    /// Whether so many bytes wait on the socket of this connection that it is handed no more.
    pub(super) fn is_full(&self, id: Option<ConnectionId>) -> bool {
        self.open.iter().any(|open| Some(open.id) == id && open.socket.spilled() >= HIGH_WATER)
    }

    /// What has gone over all sockets there were.
    pub(crate) fn traffic(&self) -> Traffic {
        self.open.iter().fold(self.gone, |traffic, open| traffic.and(open.socket.traffic()))
    }
}

impl Sockets {
    /// Prepares for a wait until there is something to read or room to write.
    pub(super) fn arm(&mut self, poller: &Poller) -> std::io::Result<()> {
        self.open.iter_mut().try_for_each(|open| open.socket.arm(poller))
    }

    /// Learns what the wait reported.
    pub(super) fn hear(&mut self, poller: &Poller) {
        self.open.iter_mut().for_each(|open| open.socket.hear(poller));
    }
}
