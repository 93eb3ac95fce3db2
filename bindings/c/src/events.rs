//! What C hears of a client.

use std::mem::offset_of;
use std::sync::TryLockError;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tautline::{CloseReason, DisconnectReason, Error, Message, Receiver};

use crate::boundary::{Out, Result, Sizes, call, call_for, failed, nothing, refuse};
use crate::client::{Held, Line, ended};
use crate::codes::{TAUTLINE_E_ARGUMENT, TAUTLINE_E_BUFFER, TAUTLINE_E_BUSY, TAUTLINE_E_EMPTY};
use crate::status::number;
use crate::table::{Client, line};
use crate::words::in_c;

/// An event that this version of the interface has no number for.
pub const TAUTLINE_EVENT_OTHER: i32 = 0;
/// The line changed its `state`.
pub const TAUTLINE_EVENT_STATE: i32 = 1;
/// The line is ready. The payload is the subprotocol that the server chose, if any; `count` is the number of attempts.
pub const TAUTLINE_EVENT_READY: i32 = 2;
/// A message arrived, of this `message_kind`. The payload is its own.
pub const TAUTLINE_EVENT_MESSAGE: i32 = 3;
/// An attempt failed, or an open connection was lost. The payload is the reason, as text; `count` is how many messages were
/// written and may have been lost; `retry_in_ms` is the delay until the next attempt.
pub const TAUTLINE_EVENT_DISCONNECTED: i32 = 4;
/// Messages were given up before they were sent: `count` of them.
pub const TAUTLINE_EVENT_EXPIRED: i32 = 5;
/// `count` events were dropped, because too many were unread. No message is ever among them. `state` is the one after them.
pub const TAUTLINE_EVENT_MISSED: i32 = 6;
/// The client is closed. The payload is the reason, as text. This is the last event.
pub const TAUTLINE_EVENT_CLOSED: i32 = 7;

/// A message of UTF-8 text.
pub const TAUTLINE_TEXT: i32 = 1;
/// A message of bytes.
pub const TAUTLINE_BINARY: i32 = 2;

/// Something that happened on the line. Set `size` before the call. A field that the kind of event does not have is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// The size of this struct, in bytes: `sizeof(tautline_event)`.
    pub size: usize,
    /// What happened: one of `TAUTLINE_EVENT_…`. Skip those that you don't know: a later version may have more.
    pub kind: i32,
    /// `TAUTLINE_TEXT` or `TAUTLINE_BINARY`.
    pub message_kind: i32,
    /// One of `TAUTLINE_STATE_…`.
    pub state: i32,
    /// The close code of the server, if that has ended the line: 1005 if it gave none. Of `DISCONNECTED` and `CLOSED`.
    pub close_code: u16,
    /// The HTTP status by which the server refused the upgrade, such as 401. Of `DISCONNECTED` and `CLOSED`.
    pub http_status: u16,
    /// How many: see the kinds.
    pub count: u64,
    /// The delay until the next attempt, in milliseconds; -1 if there will be none.
    pub retry_in_ms: i64,
    /// The length of the payload, in bytes. No NUL follows it.
    pub length: usize,
}

// SAFETY: it begins with its size, and consists of numbers; the fields of its first version are its first ones.
unsafe impl Sizes for Event {
    const NAME: &str = "tautline_event";
    const FIRST: usize = offset_of!(Self, length) + size_of::<usize>();
}

/// Takes the next event: writes it to `event`, and its payload to the `capacity` bytes at `buffer`. A null `buffer` is right with a
/// `capacity` of 0. If the payload doesn't fit, the event stays, `event` says what it is and how long the payload is, and the call
/// returns `TAUTLINE_E_BUFFER`: call again with more room.
///
/// Call it until it returns `TAUTLINE_E_EMPTY`: only then does the descriptor of `tautline_event_fd` become unreadable.
///
/// Threads: any; one at a time for each client (`TAUTLINE_E_BUSY`). Never blocks. Frees the memory of a payload of more than 80
/// bytes. The text of a `DISCONNECTED` or `CLOSED` event is put together, and allocates. Makes a system call if there is no event
/// and a descriptor that is readable.
///
/// Errors: `TAUTLINE_E_EMPTY`, `TAUTLINE_E_BUFFER`, `TAUTLINE_E_CLOSED` after the last event, `TAUTLINE_E_BUSY`,
/// `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_SIZE`, `TAUTLINE_E_HANDLE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_next_event(
    client: Client,
    event: *mut Event,
    buffer: *mut u8,
    capacity: usize,
) -> i32 {
    call(|| {
        // SAFETY: the header says what `event` has to be.
        let out = unsafe { Out::new(event) }?;
        if buffer.is_null() && capacity > 0 {
            return Err(refuse(
                TAUTLINE_E_ARGUMENT,
                format_args!("buffer is null, and its capacity is {capacity}"),
            ));
        }
        let line = line(client)?;
        let mut held = match line.held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(held)) => held.into_inner(),
            Err(TryLockError::WouldBlock) => {
                let text = format_args!("another thread is taking an event of this client");
                return Err(refuse(TAUTLINE_E_BUSY, text));
            }
        };
        let next = match held.next.take() {
            Some(next) => next,
            None => next(&line, &mut held)?,
        };
        let (payload, described) = describe(&next, out.size);
        let payload = payload.bytes();
        out.set(described);
        if payload.len() > capacity {
            let text = format_args!("the payload has {} bytes, and the buffer {capacity}", payload.len());
            let refused = refuse(TAUTLINE_E_BUFFER, text);
            held.next = Some(next);
            return Err(refused);
        }
        if !payload.is_empty() {
            // SAFETY: there is room for `capacity` bytes at `buffer`, which is not null then; the payload is this library's, and so
            // overlaps with nothing of the caller's.
            unsafe { buffer.copy_from_nonoverlapping(payload.as_ptr(), payload.len()) };
        }
        line.holds.store(held.last.is_some(), SeqCst);
        Ok(())
    })
}

/// Takes the next event from the client.
fn next(line: &Line, held: &mut Held) -> Result<tautline::Event> {
    // Before it is taken: it may not fit, and then stays, and a wait that looked in between would have missed it.
    line.holds.store(true, SeqCst);
    if let Some(message) = line.message() {
        return Ok(message);
    }
    if let Some(last) = held.last.take() {
        return Ok(last);
    }
    match take(line.client.events()) {
        Taken::Event(event) => {
            if matches!(event, tautline::Event::Closed { .. }) {
                line.ended.store(true, SeqCst);
                // One that came since the look above has come before the end.
                if let Some(message) = line.message() {
                    held.last = Some(event);
                    return Ok(message);
                }
            }
            Ok(event)
        }
        // After the last event, the channel's end comes a moment later.
        Taken::Nothing if !line.ended.load(SeqCst) => {
            line.holds.store(false, SeqCst);
            #[cfg(unix)]
            line.signal.quiet(|| line.is_waiting_for(held));
            Err(nothing(TAUTLINE_E_EMPTY))
        }
        Taken::Nothing | Taken::End => {
            line.holds.store(false, SeqCst);
            line.ended.store(true, SeqCst);
            #[cfg(unix)]
            line.signal.quiet(|| false);
            Err(line.closed(TAKEN))
        }
    }
}

/// Why there is no event after the last one.
const TAKEN: &str = "all events were taken, and the client is closed";

enum Taken {
    Event(tautline::Event),
    Nothing,
    End,
}

fn take(events: &Receiver<tautline::Event>) -> Taken {
    match events.try_recv() {
        Ok(event) => Taken::Event(event),
        Err(error) if error.is_empty() => Taken::Nothing,
        Err(_) => Taken::End,
    }
}

/// What C gets of an event beside its fields.
enum Payload<'a> {
    Message(&'a Message),
    Text(String),
    Nothing,
}

impl Payload<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Message(message) => message.as_bytes(),
            Self::Text(text) => text.as_bytes(),
            Self::Nothing => &[],
        }
    }
}

fn describe(event: &tautline::Event, size: usize) -> (Payload<'_>, Event) {
    use tautline::Event as E;

    let mut out = Event { size, ..Event::default() };
    let payload = match event {
        E::StateChanged { to, .. } => {
            (out.kind, out.state) = (TAUTLINE_EVENT_STATE, number(*to));
            Payload::Nothing
        }
        E::Connected { handshake, attempts, .. } => {
            (out.kind, out.count) = (TAUTLINE_EVENT_READY, u64::from(*attempts));
            Payload::Text(handshake.subprotocol.as_deref().map(Into::into).unwrap_or_default())
        }
        E::Message(message) => {
            out.kind = TAUTLINE_EVENT_MESSAGE;
            out.message_kind = if message.as_text().is_some() { TAUTLINE_TEXT } else { TAUTLINE_BINARY };
            Payload::Message(message)
        }
        E::Disconnected { reason, retry_in, maybe_delivered, .. } => {
            (out.kind, out.count) = (TAUTLINE_EVENT_DISCONNECTED, maybe_delivered.len());
            out.retry_in_ms =
                retry_in.map_or(-1, |delay| i64::try_from(delay.as_millis()).unwrap_or(i64::MAX));
            (out.close_code, out.http_status) = numbers(reason);
            Payload::Text(in_c(reason))
        }
        E::Expired { tickets, .. } => {
            (out.kind, out.count) = (TAUTLINE_EVENT_EXPIRED, tickets.len());
            Payload::Nothing
        }
        E::Missed { count, state, .. } => {
            (out.kind, out.count, out.state) = (TAUTLINE_EVENT_MISSED, *count, number(*state));
            Payload::Nothing
        }
        E::Closed { reason, .. } => {
            out.kind = TAUTLINE_EVENT_CLOSED;
            if let CloseReason::NotRetried(last) | CloseReason::GaveUp { last, .. } = reason {
                (out.close_code, out.http_status) = numbers(last);
            }
            Payload::Text(in_c(reason))
        }
        _ => Payload::Nothing,
    };
    out.length = payload.bytes().len();
    (payload, out)
}

/// The server's close code, and its HTTP status, where this is why the line is down.
fn numbers(reason: &DisconnectReason) -> (u16, u16) {
    match reason.to_error() {
        Error::ClosedByServer(frame) => (frame.code, 0),
        Error::UpgradeRejected(answer) => (0, answer.status),
        _ => (0, 0),
    }
}

/// Waits until there is an event to take, for `timeout_ms` at most. With 0 it only looks.
///
/// Threads: any but those of a client (`TAUTLINE_E_DEADLOCK`). Blocks until there is an event, `timeout_ms` is over, or another
/// thread calls `tautline_wake` or `tautline_shutdown`. While another thread is inside `tautline_next_event`, it returns
/// `TAUTLINE_OK`, because that thread may leave the event where it is.
///
/// Errors: `TAUTLINE_E_TIMEOUT`, `TAUTLINE_E_WOKEN`, `TAUTLINE_E_CLOSED` after the last event, `TAUTLINE_E_DEADLOCK`,
/// `TAUTLINE_E_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn tautline_wait_event(client: Client, timeout_ms: u32) -> i32 {
    call(|| {
        let line = line(client)?;
        if let Err(error @ Error::WouldDeadlock) = line.client.wait_ready(Duration::ZERO) {
            return Err(failed(&error));
        }
        let look = || {
            if line.is_waiting() {
                return Some(Ok(()));
            }
            line.ended.load(SeqCst).then(|| Err(line.closed(TAKEN)))
        };
        let timeout = Duration::from_millis(timeout_ms.into());
        line.signal.wait(timeout, look).unwrap_or_else(|how| Err(ended(&how)))
    })
}

/// Returns a descriptor that is readable while events wait, for `poll` and the like. It is always the same, and is not to be read
/// or closed: `tautline_next_event` makes it unreadable when there is no event. It can be readable without one, if an event was
/// taken before the client's thread made it so. It belongs to the client, so take it out of the loop before `tautline_shutdown`.
///
/// Threads: any. Never blocks. The first call opens two descriptors; a client without such a call has none for this.
///
/// Errors, which are below 0: `TAUTLINE_E_SYSTEM`, `TAUTLINE_E_HANDLE`; `TAUTLINE_E_UNSUPPORTED` on Windows.
#[unsafe(no_mangle)]
pub extern "C" fn tautline_event_fd(client: Client) -> i32 {
    call_for(|| {
        let line = line(client)?;
        #[cfg(unix)]
        {
            let descriptor = line.signal.descriptor(|| line.is_waiting());
            let failed =
                |error| refuse(crate::codes::TAUTLINE_E_SYSTEM, format_args!("a pair of sockets: {error}"));
            descriptor.map_err(failed)
        }
        #[cfg(not(unix))]
        {
            drop(line);
            Err(refuse(crate::codes::TAUTLINE_E_UNSUPPORTED, format_args!("there are no descriptors here")))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::TAUTLINE_OK;
    use std::ptr::null_mut;

    #[test]
    fn a_wait_does_not_miss_an_event_that_is_being_taken_and_may_stay() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}\0", silent.local_addr().unwrap());
        let (mut options, mut client) = (null_mut(), Client { id: 0 });
        // SAFETY: the URL ends with a NUL, and there is room for what is written.
        unsafe {
            assert_eq!(crate::tautline_options_new(url.as_ptr().cast(), &raw mut options), TAUTLINE_OK);
            assert_eq!(crate::tautline_open(options, &raw mut client), TAUTLINE_OK);
            crate::tautline_options_free(options);
        }
        assert_eq!(tautline_wait_event(client, 20_000), TAUTLINE_OK);
        let line = line(client).unwrap();
        let mut held = line.held.lock().unwrap();
        let mut count = 0;
        while next(&line, &mut held).is_ok() {
            assert!(line.is_waiting() && line.holds.load(SeqCst), "it may not fit, and stay");
            count += 1;
        }
        assert!(count > 0 && !line.holds.load(SeqCst), "there is none after {count}");
        drop(held);
        // SAFETY: null is right.
        assert_eq!(unsafe { crate::tautline_shutdown(client, 1, 20_000, null_mut()) }, TAUTLINE_OK);
    }
}
