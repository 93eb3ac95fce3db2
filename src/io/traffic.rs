//! Moves frames between the session and the sockets.

use std::time::Instant;

use crate::error::Fault;
use crate::io::publisher::Publisher;
use crate::io::sockets::Open;
use crate::session::{COMPRESSED_AT_ONCE, Frame, Progress, Session};
use crate::transport::socket::Incoming;
use crate::transport::wire::Raw;

/// While more than this many bytes wait for the system, a socket is handed no more messages.
pub(crate) const HIGH_WATER: usize = 64 << 10;

/// How much one turn reads at most, so that output never waits behind a flood of input.
const BURST_MESSAGES: usize = 256;
const BURST_BYTES: usize = 256 << 10;

/// Reports the progress of a socket, once everything polled for it is with the link.
fn progress<T: Raw>(session: &mut Session, open: &Open<T>, now: Instant) {
    let (handed, taken, blocked) = (open.socket.handed(), open.socket.taken(), open.socket.is_blocked());
    session.handle_progress(now, open.id, Progress { handed, taken, blocked });
}

/// What a read came to.
pub(crate) struct Outcome {
    pub(crate) frames: usize,
    /// Whether it has stopped for want of room.
    pub(crate) is_paused: bool,
}

/// Reads what has arrived, within the burst's bounds and the room for it.
pub(crate) fn read<T: Raw>(
    session: &mut Session,
    publisher: &mut Publisher,
    open: &mut Open<T>,
    now: Instant,
) -> Outcome {
    let id = open.id;
    let (received, mut taken) = (open.socket.received(), open.socket.taken());
    let (messages_before, _) = open.socket.messages_so_far();
    let (mut frames, mut bytes, mut is_paused) = (0, 0, false);
    let handed_out = session.handed_out();
    open.may_have_more = true;
    open.socket.begin_burst(BURST_BYTES);
    // A connection that was given up in this turn is already settled: a read could send more of it, together with a
    // pong.
    while session.has(id) && frames < BURST_MESSAGES && bytes < BURST_BYTES {
        // What the protocol keeps for itself takes no room, nor do messages that are dropped by configuration.
        let behind = session.handed_out().since(handed_out);
        let room = publisher.has_room_behind(behind.messages, behind.bytes);
        // What was handed out in this turn is counted exactly in the next one.
        if !room && (session.delivers() || behind.messages > 0) {
            is_paused = session.delivers();
            break;
        }
        let read = open.socket.read();
        if open.socket.taken() > taken {
            taken = open.socket.taken();
            progress(session, open, now);
        }
        match read {
            Ok(Some(Incoming::Message(message))) => {
                frames += 1;
                bytes += message.len();
                if room {
                    session.handle_message(now, id, message);
                } else {
                    // The line is closing: the server's answer must not wait behind messages that nobody takes.
                    session.handle_message_without_room(now, id, message);
                }
            }
            Ok(Some(Incoming::Ping(payload))) => {
                frames += 1;
                open.needs_flush = true;
                session.handle_ping(now, id, &payload);
            }
            Ok(Some(Incoming::Pong(payload))) => {
                frames += 1;
                session.handle_pong(now, id, &payload);
            }
            Ok(Some(Incoming::Close(frame))) => {
                open.needs_flush = true;
                session.handle_close_frame(now, id, frame);
            }
            Ok(None) => {
                open.may_have_more = open.socket.has_more();
                break;
            }
            Err(fault) => {
                session.handle_fault(now, id, fault);
                break;
            }
        }
    }
    let has_received = open.socket.received() > received;
    if has_received {
        session.handle_activity(now, id);
    }
    let (messages, is_incomplete) = open.socket.messages_so_far();
    // A part may have come in an earlier turn, behind what that turn took. In the middle of a message, bytes that have brought
    // nothing yet belong to a TLS record that holds more of it.
    if is_incomplete && (messages > messages_before || has_received && frames == 0) {
        session.handle_part(now, id);
    }
    Outcome { frames, is_paused }
}

/// Lets the system take as much as it can of what waits, before the peer is judged by that. The peer is not to blame
/// when this thread is late.
pub(crate) fn drain<T: Raw>(session: &mut Session, open: &mut Open<T>, now: Instant) {
    // A connection that was given up in this turn is already settled: no more of it may be sent.
    if open.socket.spilled() == 0 || !session.has(open.id) {
        return;
    }
    let flushed = open.socket.flush();
    progress(session, open, now);
    if let Err(fault) = flushed {
        session.handle_fault(now, open.id, fault);
    }
}

/// The line is idle: frees the memory that a burst has left behind.
pub(crate) fn shrink<T: Raw>(session: &mut Session, open: &mut Open<T>, now: Instant) {
    // Shrinking may send bytes, which a connection that was given up must not do.
    if session.has(open.id) {
        open.socket.shrink();
        progress(session, open, now);
    }
}

/// Hands frames to a socket until there are no more, or until the system takes no more, with one flush for all. `later`
/// gives the time again, in case a large message took long. Returns whether there were any frames.
pub(crate) fn transmit<T: Raw>(
    session: &mut Session,
    open: &mut Open<T>,
    now: Instant,
    later: impl Fn() -> Instant,
) -> bool {
    let before = open.socket.handed();
    let outcome = hand_over(session, open, now, &later);
    let handed = open.socket.handed() - before;
    // The time spent on a large message must not count against the peer.
    let now = if handed > BURST_BYTES as u64 { later() } else { now };
    progress(session, open, now);
    if let Err(fault) = outcome {
        session.handle_fault(now, open.id, fault);
    }
    handed > 0
}

fn hand_over<T: Raw>(
    session: &mut Session,
    open: &mut Open<T>,
    now: Instant,
    later: &impl Fn() -> Instant,
) -> Result<(), Fault> {
    let id = open.id;
    let mut unflushed = std::mem::take(&mut open.needs_flush) || open.socket.spilled() > 0;
    let compressed = open.socket.compressed();
    open.has_more_to_send = false;
    loop {
        let mut exhausted = false;
        while !exhausted && !open.has_more_to_send && open.socket.spilled() < HIGH_WATER {
            let socket = &mut open.socket;
            let before = socket.handed();
            if let Some(message) = session.poll_message(id) {
                socket.write(message)?;
            } else {
                match session.poll_transmit(now, id) {
                    None if session.frame_message(now, id) => continue,
                    None => exhausted = true,
                    Some(Frame::Message(message)) => socket.write(&message)?,
                    Some(Frame::Fragment(fragment)) => socket.write_fragment(&fragment)?,
                    Some(Frame::Ping(payload)) => socket.ping(payload)?,
                    Some(Frame::Close(frame)) => socket.close(&frame)?,
                }
            }
            unflushed |= !exhausted;
            open.has_more_to_send = open.socket.compressed() - compressed >= COMPRESSED_AT_ONCE as u64;
            // The socket has passed on its batch. A mark here makes the report of a loss more exact.
            let passed = open.socket.handed() - before;
            if passed > 0 {
                progress(session, open, if passed > BURST_BYTES as u64 { later() } else { now });
            }
        }
        // A hook has given the connection up, and it is already settled: no more of it may be sent.
        if !session.has(id) {
            return Ok(());
        }
        if unflushed {
            open.socket.flush()?;
            progress(session, open, now);
        }
        // If a flush made room, continue: nothing else would come back for what still waits.
        if exhausted || open.has_more_to_send || open.socket.spilled() >= HIGH_WATER {
            return Ok(());
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source; nothing here takes time")]
mod tests;
