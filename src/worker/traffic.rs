//! Frames between the session and the socket.

use std::time::Instant;

use crate::error::Fault;
use crate::session::{Frame, Session};
use crate::transport::socket::{Incoming, Socket};
use crate::worker::Worker;
use crate::worker::looks::Moved;

/// Above this many bytes that the system has not taken, no more messages are handed to the socket.
pub(super) const HIGH_WATER: usize = 64 << 10;

/// A turn reads at most so much, so that what is sent never waits behind a flood.
const BURST_MESSAGES: usize = 64;
const BURST_BYTES: usize = 256 << 10;

impl Worker {
    pub(super) fn read(&mut self, now: Instant) {
        let Some(socket) = &mut self.socket else { return };
        if (!self.unread && !socket.is_readable()) || socket.owes_answers() {
            return;
        }
        let (received, mut taken) = (socket.received(), socket.taken());
        self.unread = true;
        socket.begin_burst(BURST_BYTES);
        let (mut messages, mut bytes) = (0, 0);
        // A connection that was given up in this turn is accounted for: a read would let more of it out, with a pong.
        while self.session.is_up() && messages < BURST_MESSAGES && bytes < BURST_BYTES {
            let room = self.publisher.has_room_behind(messages, bytes);
            if !room && self.session.delivers() {
                break;
            }
            let read = socket.read();
            if socket.taken() > taken {
                taken = socket.taken();
                self.session.handle_progress(now, taken, socket.is_blocked());
            }
            match read {
                Ok(Some(Incoming::Message(message))) => {
                    messages += 1;
                    bytes += message.len();
                    if room || self.session.discards() {
                        self.session.handle_message(now, message);
                    }
                    // Else the line is closing: the server's answer must not wait behind what nobody takes.
                }
                Ok(Some(Incoming::Ping)) => {
                    messages += 1;
                    self.answers = true;
                }
                Ok(Some(Incoming::Pong(payload))) => {
                    messages += 1;
                    self.session.handle_pong(now, &payload);
                }
                Ok(Some(Incoming::Close(frame))) => {
                    self.answers = true;
                    self.session.handle_close_frame(now, frame);
                }
                Ok(None) => {
                    self.unread = socket.has_more();
                    break;
                }
                Err(fault) => {
                    self.session.handle_fault(now, fault);
                    break;
                }
            }
        }
        if socket.received() > received {
            self.session.handle_activity(now);
        }
        if messages > 0 {
            self.moved = Some(Moved::In);
            self.pause.look_soon();
        }
    }

    /// Lets the system take what it will of what waits, before the peer is judged by what was taken: it is not to blame
    /// when this thread comes late.
    pub(super) fn drain(&mut self, now: Instant) {
        let Some(socket) = &mut self.socket else { return };
        // A connection that was given up in this turn is accounted for: nothing more of it may go out.
        if socket.spilled() == 0 || !self.session.is_up() {
            return;
        }
        let flushed = socket.flush();
        self.session.handle_progress(now, socket.taken(), socket.is_blocked());
        if let Err(fault) = flushed {
            self.session.handle_fault(now, fault);
        }
    }

    /// Hands frames to the socket until there are no more or the system takes no more; one flush for all.
    pub(super) fn transmit(&mut self, now: Instant) {
        let Some(socket) = &mut self.socket else { return };
        let answers = std::mem::take(&mut self.answers);
        let before = socket.handed();
        let result = Self::transmit_all(&mut self.session, socket, now, answers);
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

    /// `answers`: the socket has something of its own to flush.
    fn transmit_all(
        session: &mut Session,
        socket: &mut Socket,
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
}
