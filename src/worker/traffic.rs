//! Frames between the session and the socket.

use std::time::Instant;

use crate::error::Fault;
use crate::session::{Frame, Session};
use crate::transport::socket::{Incoming, Socket};
use crate::transport::stream::Raw;
use crate::worker::Worker;
use crate::worker::looks::Moved;
use crate::worker::publisher::Publisher;

/// Above this many bytes that the system has not taken, no more messages are handed to the socket.
pub(crate) const HIGH_WATER: usize = 64 << 10;

/// A turn reads at most so much, so that what is sent never waits behind a flood.
const BURST_MESSAGES: usize = 64;
const BURST_BYTES: usize = 256 << 10;

/// What a read brought, besides what went to the session.
pub(crate) struct Burst {
    /// How many frames.
    pub(crate) frames: usize,
    /// There may be more.
    pub(crate) unread: bool,
    /// The socket has an answer of its own to flush.
    pub(crate) answers: bool,
}

impl Worker {
    pub(super) fn read(&mut self, now: Instant) {
        let Some(socket) = &mut self.socket else { return };
        if (!self.unread && !socket.is_readable()) || socket.owes_answers() {
            return;
        }
        let burst = read(&mut self.session, &mut self.publisher, socket, now);
        self.unread = burst.unread;
        self.answers |= burst.answers;
        if burst.frames > 0 {
            self.moved = Some(Moved::In);
            self.pause.look_soon();
        }
    }

    pub(super) fn drain(&mut self, now: Instant) {
        if let Some(socket) = &mut self.socket {
            drain(&mut self.session, socket, now);
        }
    }

    /// Hands frames to the socket until there are no more or the system takes no more; one flush for all.
    pub(super) fn transmit(&mut self, now: Instant) {
        let Some(socket) = &mut self.socket else { return };
        let answers = std::mem::take(&mut self.answers);
        let before = socket.handed();
        let result = transmit(&mut self.session, socket, now, answers);
        if socket.handed() > before {
            self.moved.get_or_insert(Moved::Out);
        }
        // A large message takes its time, which is not the peer's.
        let now = if socket.handed() - before > BURST_BYTES as u64 { Instant::now() } else { now };
        self.session.handle_progress(now, socket.taken(), socket.is_blocked());
        if let Err(fault) = result {
            self.session.handle_fault(now, fault);
        }
    }
}

/// Reads what there is, up to the burst's bounds, as far as there is room for it.
pub(crate) fn read<T: Raw>(
    session: &mut Session,
    publisher: &mut Publisher,
    socket: &mut Socket<T>,
    now: Instant,
) -> Burst {
    let (received, mut taken) = (socket.received(), socket.taken());
    let mut burst = Burst { frames: 0, unread: true, answers: false };
    socket.begin_burst(BURST_BYTES);
    let mut bytes = 0;
    // A connection that was given up in this turn is accounted for: a read would let more of it out, with a pong.
    while session.is_up() && burst.frames < BURST_MESSAGES && bytes < BURST_BYTES {
        let room = publisher.has_room_behind(burst.frames, bytes);
        if !room && session.delivers() {
            break;
        }
        let read = socket.read();
        if socket.taken() > taken {
            taken = socket.taken();
            session.handle_progress(now, taken, socket.is_blocked());
        }
        match read {
            Ok(Some(Incoming::Message(message))) => {
                burst.frames += 1;
                bytes += message.len();
                if room || session.discards() {
                    session.handle_message(now, message);
                }
                // Else the line is closing: the server's answer must not wait behind what nobody takes.
            }
            Ok(Some(Incoming::Ping)) => {
                burst.frames += 1;
                burst.answers = true;
            }
            Ok(Some(Incoming::Pong(payload))) => {
                burst.frames += 1;
                session.handle_pong(now, &payload);
            }
            Ok(Some(Incoming::Close(frame))) => {
                burst.answers = true;
                session.handle_close_frame(now, frame);
            }
            Ok(None) => {
                burst.unread = socket.has_more();
                break;
            }
            Err(fault) => {
                session.handle_fault(now, fault);
                break;
            }
        }
    }
    if socket.received() > received {
        session.handle_activity(now);
    }
    burst
}

/// Lets the system take what it will of what waits, before the peer is judged by what was taken: it is not to blame
/// when this thread comes late.
pub(crate) fn drain<T: Raw>(session: &mut Session, socket: &mut Socket<T>, now: Instant) {
    // A connection that was given up in this turn is accounted for: nothing more of it may go out.
    if socket.spilled() == 0 || !session.is_up() {
        return;
    }
    let flushed = socket.flush();
    session.handle_progress(now, socket.taken(), socket.is_blocked());
    if let Err(fault) = flushed {
        session.handle_fault(now, fault);
    }
}

/// The line is quiet: what a burst of traffic has left behind is given back.
pub(crate) fn rest<T: Raw>(session: &mut Session, socket: &mut Socket<T>, now: Instant) {
    session.rest();
    socket.rest();
    // It may have let bytes out.
    session.handle_progress(now, socket.taken(), socket.is_blocked());
}

/// `answers`: the socket has something of its own to flush.
pub(crate) fn transmit<T: Raw>(
    session: &mut Session,
    socket: &mut Socket<T>,
    now: Instant,
    answers: bool,
) -> Result<(), Fault> {
    let mut unflushed = answers || socket.spilled() > 0;
    loop {
        let mut exhausted = false;
        while !exhausted && socket.spilled() < HIGH_WATER {
            let before = socket.handed();
            if let Some(message) = session.poll_message() {
                socket.write(message)?;
            } else {
                match session.poll_transmit(now) {
                    None => exhausted = true,
                    Some(Frame::Message(message)) => socket.write(&message)?,
                    Some(Frame::Fragment(fragment)) => socket.write_fragment(&fragment)?,
                    Some(Frame::Ping(payload)) => socket.ping(payload)?,
                    Some(Frame::Close(frame)) => socket.close(&frame)?,
                }
            }
            unflushed |= !exhausted;
            // The socket passed its batch on: a mark in between makes a loss more exact.
            if socket.handed() > before {
                session.handle_handed(socket.handed());
            }
        }
        if unflushed {
            socket.flush()?;
            session.handle_handed(socket.handed());
        }
        // A flush that made room goes on: nothing else would come back for what still waits.
        if exhausted || socket.spilled() >= HIGH_WATER {
            return Ok(());
        }
    }
}
