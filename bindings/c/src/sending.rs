//! Messages of C's.

use std::ffi::c_char;
use std::time::Duration;

use tautline::{Message, SendError, SendErrorKind};

use crate::boundary::{Refused, Result, bytes, call, refuse};
use crate::codes::{
    TAUTLINE_E_ARGUMENT, TAUTLINE_E_CLOSED, TAUTLINE_E_DEADLOCK, TAUTLINE_E_FORKED, TAUTLINE_E_FULL,
    TAUTLINE_E_NOT_READY, TAUTLINE_E_TIMEOUT, TAUTLINE_E_TOO_LARGE, TAUTLINE_E_UTF8,
};
use crate::events::{TAUTLINE_BINARY, TAUTLINE_TEXT};
use crate::table::{Client, line};

/// The largest message that can be sent, in bytes.
pub const TAUTLINE_MOST_BYTES: usize = 67_108_864;

/// Sends the `length` bytes of UTF-8 at `text` as a text message. It is accepted into the outbox, and written at once if the line
/// is ready, and otherwise once it is. The bytes are copied. A NUL is a byte as any other.
///
/// Threads: any. Never blocks. Allocates memory for a payload of more than 80 bytes, and for a refusal. Makes a system call if the
/// client's thread has to be woken.
///
/// Errors: `TAUTLINE_E_FULL`, `TAUTLINE_E_NOT_READY`, `TAUTLINE_E_TOO_LARGE`, `TAUTLINE_E_CLOSED`, `TAUTLINE_E_UTF8`,
/// `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_HANDLE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_send_text(client: Client, text: *const c_char, length: usize) -> i32 {
    call(|| {
        // SAFETY: the header says what `text` has to be.
        let message = unsafe { message(TAUTLINE_TEXT, text.cast(), length) }?;
        accepted(line(client)?.client.try_send(message))
    })
}

/// Sends the `length` bytes at `data` as a binary message, as `tautline_send_text` does. A null `data` is right with a `length` of 0.
///
/// Threads: any. Never blocks. Allocates as `tautline_send_text` does.
///
/// Errors: as those of `tautline_send_text`, without `TAUTLINE_E_UTF8`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_send_binary(client: Client, data: *const u8, length: usize) -> i32 {
    call(|| {
        // SAFETY: the header says what `data` has to be.
        let message = unsafe { message(TAUTLINE_BINARY, data, length) }?;
        accepted(line(client)?.client.try_send(message))
    })
}

/// Sends a message of this kind (`TAUTLINE_TEXT`, `TAUTLINE_BINARY`), and waits for room in the outbox for `timeout_ms` at most.
///
/// Threads: any; on those of a client it does not wait (`TAUTLINE_E_DEADLOCK`). Blocks until there is room, the client is closed, or
/// `timeout_ms` is over.
///
/// Errors: as those of `tautline_send_text`, with `TAUTLINE_E_TIMEOUT` instead of `TAUTLINE_E_FULL`, and `TAUTLINE_E_DEADLOCK`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_send_timeout(
    client: Client,
    kind: i32,
    data: *const u8,
    length: usize,
    timeout_ms: u32,
) -> i32 {
    call(|| {
        // SAFETY: the header says what `data` has to be.
        let message = unsafe { message(kind, data, length) }?;
        let timeout = Duration::from_millis(timeout_ms.into());
        accepted(line(client)?.client.send_timeout(message, timeout))
    })
}

/// # Safety
/// As that of [`bytes`].
unsafe fn message(kind: i32, data: *const u8, length: usize) -> Result<Message> {
    if length > TAUTLINE_MOST_BYTES {
        // Before the copy: for a very large one there may be no memory.
        let text = format_args!("the payload has {length} bytes, where {TAUTLINE_MOST_BYTES} are allowed");
        return Err(refuse(TAUTLINE_E_TOO_LARGE, text));
    }
    // SAFETY: as this function's caller says.
    let payload = unsafe { bytes(data, length, "the payload") }?;
    match kind {
        TAUTLINE_TEXT => match str::from_utf8(payload) {
            Ok(text) => Ok(text.into()),
            Err(error) => Err(refuse(TAUTLINE_E_UTF8, format_args!("the payload: {error}"))),
        },
        TAUTLINE_BINARY => Ok(payload.into()),
        _ => Err(refuse(TAUTLINE_E_ARGUMENT, format_args!("{kind} is no kind of message"))),
    }
}

fn accepted<T>(outcome: std::result::Result<T, SendError>) -> Result<()> {
    outcome.map(drop).map_err(|error| refused(&error))
}

fn refused(error: &SendError) -> Refused {
    let code = match error.kind() {
        // Only a wait ends by that, and only one for room is made here.
        SendErrorKind::Timeout { .. } | SendErrorKind::ConsumerStalled { .. } => TAUTLINE_E_TIMEOUT,
        SendErrorKind::NotReady { .. } => TAUTLINE_E_NOT_READY,
        SendErrorKind::Closed => TAUTLINE_E_CLOSED,
        SendErrorKind::TooLarge { .. } => TAUTLINE_E_TOO_LARGE,
        SendErrorKind::WouldDeadlock => TAUTLINE_E_DEADLOCK,
        SendErrorKind::Forked => TAUTLINE_E_FORKED,
        _ => TAUTLINE_E_FULL,
    };
    refuse(code, format_args!("{error}"))
}
