//! What calls return.

use std::ffi::{CStr, c_char};

use crate::boundary;

/// The call has done what it says.
pub const TAUTLINE_OK: i32 = 0;
/// An argument is wrong: a null or misaligned pointer, or a value that means nothing.
pub const TAUTLINE_E_ARGUMENT: i32 = -1;
/// The field `size` of a struct is smaller than the struct of any version. Set it to `sizeof` before the call.
pub const TAUTLINE_E_SIZE: i32 = -2;
/// A text is not UTF-8.
pub const TAUTLINE_E_UTF8: i32 = -3;
/// There is no such client: it has been shut down, or there never was one.
pub const TAUTLINE_E_HANDLE: i32 = -4;
/// The URL or an option can't be used. `tautline_last_error` says which, and what is allowed.
pub const TAUTLINE_E_CONFIG: i32 = -5;
/// The outbox is full. The message was not accepted.
pub const TAUTLINE_E_FULL: i32 = -6;
/// The line is not ready, and the options say that messages are refused then. The message was not accepted.
pub const TAUTLINE_E_NOT_READY: i32 = -7;
/// The client is closed, or is closing. Of events: all have been taken. `tautline_last_error` says why it is closed.
pub const TAUTLINE_E_CLOSED: i32 = -8;
/// The message is larger than `TAUTLINE_MOST_BYTES`. It was not accepted.
pub const TAUTLINE_E_TOO_LARGE: i32 = -9;
/// The time is over.
pub const TAUTLINE_E_TIMEOUT: i32 = -10;
/// `tautline_wake` or `tautline_shutdown` has ended the wait.
pub const TAUTLINE_E_WOKEN: i32 = -11;
/// The buffer is too small. The event stays; its field `length` says how much room it needs.
pub const TAUTLINE_E_BUFFER: i32 = -12;
/// There is no event now.
pub const TAUTLINE_E_EMPTY: i32 = -13;
/// Another thread is in the same call, or in a call that has to end first. Nothing was done.
pub const TAUTLINE_E_BUSY: i32 = -14;
/// The call would wait, and was made in a callback on the thread of a client, which may not wait.
pub const TAUTLINE_E_DEADLOCK: i32 = -15;
/// The operating system refused a thread, a descriptor or something else.
pub const TAUTLINE_E_SYSTEM: i32 = -16;
/// There are `TAUTLINE_MOST_CLIENTS` clients already.
pub const TAUTLINE_E_CLIENTS: i32 = -17;
/// Some threads of the client have not ended: `tautline_last_error` names them. Call `tautline_shutdown` again.
pub const TAUTLINE_E_STILL_RUNNING: i32 = -18;
/// A defect of the library, which has panicked. `tautline_last_error` says where. Other clients go on.
pub const TAUTLINE_E_PANIC: i32 = -19;
/// This system has nothing of the kind.
pub const TAUTLINE_E_UNSUPPORTED: i32 = -20;
/// The client belongs to the process that forked this one, and its threads are there. Each function on a client may return this.
/// Nothing was done; the parent's client goes on. Open a new client in this process.
pub const TAUTLINE_E_FORKED: i32 = -21;

fn text(code: i32) -> &'static CStr {
    match code {
        TAUTLINE_OK => c"done",
        TAUTLINE_E_ARGUMENT => c"an argument is wrong",
        TAUTLINE_E_SIZE => c"the struct's size is too small",
        TAUTLINE_E_UTF8 => c"the text is not UTF-8",
        TAUTLINE_E_HANDLE => c"there is no such client",
        TAUTLINE_E_CONFIG => c"the URL or an option can't be used",
        TAUTLINE_E_FULL => c"the outbox is full",
        TAUTLINE_E_NOT_READY => c"the line is not ready",
        TAUTLINE_E_CLOSED => c"the client is closed",
        TAUTLINE_E_TOO_LARGE => c"the message is too large",
        TAUTLINE_E_TIMEOUT => c"the time is over",
        TAUTLINE_E_WOKEN => c"the wait was ended by another thread",
        TAUTLINE_E_BUFFER => c"the buffer is too small",
        TAUTLINE_E_EMPTY => c"there is no event now",
        TAUTLINE_E_BUSY => c"another thread is in this call",
        TAUTLINE_E_DEADLOCK => c"the call would wait on a thread of a client",
        TAUTLINE_E_SYSTEM => c"the operating system refused something",
        TAUTLINE_E_CLIENTS => c"there are too many clients",
        TAUTLINE_E_STILL_RUNNING => c"some threads of the client have not ended",
        TAUTLINE_E_PANIC => c"a defect of the library",
        TAUTLINE_E_UNSUPPORTED => c"this system has nothing of the kind",
        TAUTLINE_E_FORKED => c"the client belongs to the process that forked this one",
        _ => c"no code of this library",
    }
}

/// Returns what a code means: a static text, never null, also for a number that is no code.
///
/// Threads: any. Never blocks. Allocates nothing.
#[unsafe(no_mangle)]
pub extern "C" fn tautline_error_text(code: i32) -> *const c_char {
    text(code).as_ptr()
}

/// Returns the version of the library, such as `0.1.0`: a static text.
///
/// Threads: any. Never blocks. Allocates nothing.
#[unsafe(no_mangle)]
pub extern "C" fn tautline_version() -> *const c_char {
    const VERSION: &CStr =
        match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
            Ok(version) => version,
            Err(_) => panic!("a version has no NUL"),
        };
    VERSION.as_ptr()
}

/// Copies what the last failed call of this thread has to say in detail: which option, which thread, what the server said. Up to
/// 1,023 bytes of it are kept. Returns its length, without the NUL. `capacity` is the room at `buffer`; what doesn't fit is cut
/// off, and a NUL ends the text if `capacity` is not 0. A null `buffer` is right with a `capacity` of 0.
///
/// Calls that succeed leave the text as it is, and so do those that find nothing, which is no failure: `TAUTLINE_E_EMPTY`,
/// `TAUTLINE_E_WOKEN`, and `TAUTLINE_E_TIMEOUT` of `tautline_wait_event`. It never contains a secret that the client has sent.
///
/// Threads: any; each has a text of its own. Never blocks. Allocates nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_last_error(buffer: *mut c_char, capacity: usize) -> usize {
    boundary::with_last(|text| {
        if capacity == 0 || buffer.is_null() {
            return text.len();
        }
        let cut = boundary::beginning(text, capacity - 1);
        // SAFETY: there is room for `capacity` bytes at `buffer`, of which `cut` and a NUL are less; the text is this
        // library's, and so overlaps with nothing of the caller's.
        unsafe {
            buffer.copy_from_nonoverlapping(text.as_ptr().cast(), cut);
            buffer.add(cut).write(0);
        }
        text.len()
    })
}
