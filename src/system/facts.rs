//! What the rest asks about the system. One that is not Unix is Windows: the library is for no third.

/// How many bytes the path of a Unix socket has at most, if the system has such sockets. It wants a zero behind the path.
#[cfg(unix)]
pub(crate) const LONGEST_SOCKET_PATH: Option<usize> =
    Some(size_of::<libc::sockaddr_un>() - std::mem::offset_of!(libc::sockaddr_un, sun_path) - 1);
#[cfg(not(unix))]
pub(crate) const LONGEST_SOCKET_PATH: Option<usize> = None;

/// Whether `http_proxy` and `HTTP_PROXY` are one variable of the environment.
pub(crate) const VARIABLES_IGNORE_CASE: bool = cfg!(not(unix));

/// Whether connections that have ended keep their port for a while from a socket that does not reuse addresses. Where they
/// don't, that option means something else.
#[cfg(feature = "testing")]
pub(crate) const ENDED_CONNECTIONS_KEEP_PORTS: bool = cfg!(unix);

/// Whether a read of a socket ends when another thread shuts that socket down. On Windows only the next read does.
#[cfg(feature = "testing")]
pub(crate) const SHUTDOWN_WAKES_READS: bool = cfg!(unix);

/// What a variable of the environment may hold that is no text.
#[cfg(test)]
pub(crate) fn no_text() -> std::ffi::OsString {
    #[cfg(unix)]
    return std::os::unix::ffi::OsStringExt::from_vec(vec![b'p', 0xFF]);
    #[cfg(not(unix))]
    return std::os::windows::ffi::OsStringExt::from_wide(&[u16::from(b'p'), 0xD800]);
}
