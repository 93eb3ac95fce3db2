//! What the system refuses because there is no more of it.

use std::io::{self, ErrorKind};

/// What to do about something that the system has refused, if that is known.
pub(crate) fn remedy(error: &io::Error) -> Option<&'static str> {
    #[cfg(unix)]
    if let Some(libc::EMFILE | libc::ENFILE) = error.raw_os_error() {
        return Some("close files or sockets, or raise the limit of open files (ulimit -n)");
    }
    match error.kind() {
        // That is what it says of one thread too many, and of one whose stack finds no room.
        ErrorKind::WouldBlock | ErrorKind::OutOfMemory => {
            Some("end other threads, or raise the limits of threads and of memory (ulimit -u, ulimit -v)")
        }
        _ => None,
    }
}
