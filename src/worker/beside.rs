//! The sockets next to the line's, while it moves from one connection to another.

use std::time::Instant;

use crate::error::{CloseFrame, Error, Fault};
use crate::session::{Frame, Session};
use crate::transport::socket::{Incoming, Socket};
use crate::transport::stream::Poller;
use crate::worker::Worker;
use crate::worker::looks::Moved;
use crate::worker::publisher::Publisher;
use crate::worker::traffic::{BURST_BYTES, BURST_MESSAGES};

/// The socket that the line is to move to, and the one that it has moved from.
#[derive(Default)]
pub(super) struct Others {
    pub(super) beside: Option<Other>,
    pub(super) leaving: Option<Other>,
}

pub(super) struct Other {
    pub(super) socket: Socket,
    /// Bytes may wait in TLS or in tungstenite, where no descriptor shows them.
    unread: bool,
}

impl Other {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, unread: true }
    }

    fn is_readable(&self) -> bool {
        (self.unread || self.socket.is_readable()) && !self.socket.owes_answers()
    }

    /// The next thing that arrived; `None` when all was read.
    fn read(&mut self) -> Result<Option<Incoming>, Fault> {
        let read = self.socket.read();
        self.unread = match &read {
            Ok(None) => self.socket.has_more(),
            _ => true,
        };
        read
    }
}

impl Others {
    /// Whether the line moves, or has just moved.
    pub(super) fn any(&self) -> bool {
        self.beside.is_some() || self.leaving.is_some()
    }

    fn sockets(&mut self) -> impl Iterator<Item = &mut Socket> {
        [&mut self.beside, &mut self.leaving].into_iter().flatten().map(|other| &mut other.socket)
    }

    /// Makes ready for a wait that is the line's.
    pub(super) fn arm(&mut self, poller: &Poller) -> std::io::Result<()> {
        self.sockets().try_for_each(|socket| socket.arm(poller))
    }

    /// Hears what that wait said of these.
    pub(super) fn hear(&mut self, poller: &Poller) {
        self.sockets().for_each(|socket| socket.hear(poller));
    }

    /// Whether the next turn would read from the socket that the line is to move to.
    pub(super) fn beside_is_readable(&self) -> bool {
        self.beside.as_ref().is_some_and(Other::is_readable)
    }

    /// The same for the one that it has moved from.
    pub(super) fn leaving_is_readable(&self) -> bool {
        self.leaving.as_ref().is_some_and(Other::is_readable)
    }

    /// Whether one of them has something to read, or room for what waits.
    pub(super) fn have_news(&mut self) -> bool {
        self.sockets().any(|socket| socket.is_readable() || socket.has_room())
    }
}

impl Worker {
    /// Reads what there is on the other sockets.
    pub(super) fn read_others(&mut self, now: Instant) {
        let (session, publisher) = (&mut self.session, &mut self.publisher);
        if let Some(leaving) = &mut self.others.leaving
            && read(leaving, publisher, |incoming| hear_leaving(session, now, incoming)).is_err()
        {
            self.session.handle_left();
        }
        let session = &mut self.session;
        if let Some(beside) = &mut self.others.beside
            && let Err(error) = read(beside, publisher, |incoming| hear_beside(session, now, incoming))
        {
            self.session.handle_beside_lost(now, &error);
        }
    }

    /// Writes what there is for the other sockets.
    pub(super) fn transmit_others(&mut self, now: Instant) {
        let mut result = Ok(());
        if let Some(Other { socket, .. }) = &mut self.others.beside {
            while let Some(frame) = self.session.poll_beside() {
                if let Frame::Message(message) = frame {
                    result = result.and_then(|()| socket.write(&message));
                }
                self.moved.get_or_insert(Moved::Out);
            }
            result = result.and_then(|()| socket.flush());
        }
        if let Err(fault) = result {
            self.session.handle_beside_lost(now, &to_error(fault));
        }
        if let Some(Other { socket, .. }) = &mut self.others.leaving {
            // Its end is told by the next read.
            let _ = socket.flush();
        }
    }

    /// The line moves to the socket beside its own.
    pub(super) fn switch(&mut self) {
        let Some(Other { socket, .. }) = self.others.beside.take() else { return };
        self.session.handle_switched(socket.taken(), socket.handed());
        // Another turn comes at once: what was held back goes out.
        let unread = std::mem::replace(&mut self.unread, true);
        if let Some(old) = self.socket.replace(socket) {
            let mut old = Other { socket: old, unread };
            self.let_go();
            // What the system had not taken goes out on the new one, and so must not go out here as well.
            let is_done = old.socket.spilled() == 0;
            if is_done {
                // One that has ended says so at the next read.
                let _ = old.socket.close(&CloseFrame::new(1000, "")).and_then(|()| old.socket.flush());
            }
            self.others.leaving = Some(old);
            if !is_done {
                self.let_go();
                self.session.handle_left();
            }
        }
        self.answers = true;
    }

    /// The socket that the line has moved from is dropped.
    pub(super) fn let_go(&mut self) {
        if let Some(Other { socket, .. }) = self.others.leaving.take() {
            self.bytes.0 += socket.taken();
            self.bytes.1 += socket.received();
        }
    }
}

fn read(
    other: &mut Other,
    publisher: &mut Publisher,
    mut hear: impl FnMut(Incoming) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut frames, mut bytes) = (0, 0);
    other.socket.begin_burst(BURST_BYTES);
    while other.is_readable() && frames < BURST_MESSAGES && publisher.has_room_behind(frames, bytes) {
        // Without an incoming frame all was read, or as much as a turn may.
        let Some(incoming) = other.read().map_err(to_error)? else { return Ok(()) };
        if let Incoming::Message(message) = &incoming {
            bytes += message.len();
        }
        hear(incoming)?;
        frames += 1;
    }
    Ok(())
}

fn hear_leaving(session: &mut Session, now: Instant, incoming: Incoming) -> Result<(), Error> {
    match incoming {
        Incoming::Message(message) => session.handle_old_message(now, message),
        Incoming::Ping(payload) => session.handle_old_ping(now, &payload),
        Incoming::Pong(_) => {}
        Incoming::Close(frame) => return Err(Error::ClosedByServer(frame)),
    }
    Ok(())
}

fn hear_beside(session: &mut Session, now: Instant, incoming: Incoming) -> Result<(), Error> {
    match incoming {
        Incoming::Message(message) => session.handle_beside_message(now, message),
        Incoming::Ping(payload) => session.handle_beside_ping(now, &payload, false),
        Incoming::Pong(payload) => session.handle_beside_ping(now, &payload, true),
        Incoming::Close(frame) => return Err(Error::ClosedByServer(frame)),
    }
    Ok(())
}

fn to_error(fault: Fault) -> Error {
    match fault {
        Fault::Broken(error) => error,
        Fault::Violation { code, reason } => Error::Protocol { code, reason },
    }
}
