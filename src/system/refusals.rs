//! What the system refuses because there is no more of it.

use std::io;

/// Something that there may be no more of.
struct Scarce {
    /// The system's errors that say so.
    codes: &'static [i32],
    /// Whether a socket is refused so. What stands for threads means something else where a socket is to connect.
    of_sockets: bool,
    /// What the user can do, as the end of a sentence.
    remedy: &'static str,
}

/// What to do about something that the system has refused, as the end of a sentence. It is empty if that is not known.
pub(crate) fn remedy(error: &io::Error) -> &'static str {
    scarce(error).map_or("", |scarce| scarce.remedy)
}

/// The same about a socket that could not be had, or not be connected.
pub(crate) fn remedy_for_socket(error: &io::Error) -> &'static str {
    scarce(error).filter(|scarce| scarce.of_sockets).map_or("", |scarce| scarce.remedy)
}

fn scarce(error: &io::Error) -> Option<&'static Scarce> {
    let code = error.raw_os_error()?;
    SCARCE.iter().find(|scarce| scarce.codes.contains(&code))
}

#[cfg(unix)]
const SCARCE: &[Scarce] = &[
    Scarce {
        codes: &[libc::EMFILE, libc::ENFILE],
        of_sockets: true,
        remedy: "; close files or sockets, or raise the limit of open files (ulimit -n)",
    },
    Scarce {
        // That is what it says of one thread too many, and of one whose stack finds no room.
        codes: &[libc::EAGAIN, libc::ENOMEM],
        of_sockets: false,
        remedy: "; end other threads, or raise the limits of threads and of memory (ulimit -u, ulimit -v)",
    },
];

#[cfg(not(unix))]
use windows::SCARCE;

/// The standard library has no names for these errors. The tests look at the list on each system.
#[cfg(any(test, not(unix)))]
mod windows {
    use super::Scarce;

    const ERROR_TOO_MANY_OPEN_FILES: i32 = 4;
    const ERROR_NOT_ENOUGH_MEMORY: i32 = 8;
    const ERROR_OUTOFMEMORY: i32 = 14;
    const ERROR_MAX_THRDS_REACHED: i32 = 164;
    const ERROR_NO_SYSTEM_RESOURCES: i32 = 1450;
    const ERROR_COMMITMENT_LIMIT: i32 = 1455;
    const WSAEMFILE: i32 = 10_024;
    const WSAENOBUFS: i32 = 10_055;

    /// No user can raise a limit of a process there.
    pub(super) const SCARCE: &[Scarce] = &[
        Scarce {
            codes: &[ERROR_TOO_MANY_OPEN_FILES, WSAEMFILE],
            of_sockets: true,
            remedy: "; close files or sockets that nobody needs",
        },
        Scarce {
            // It also says so when each port that it may choose is taken.
            codes: &[WSAENOBUFS],
            of_sockets: true,
            remedy: "; close sockets, or end programs that have many: no memory or no port is left",
        },
        Scarce {
            codes: &[
                ERROR_NOT_ENOUGH_MEMORY,
                ERROR_OUTOFMEMORY,
                ERROR_MAX_THRDS_REACHED,
                ERROR_NO_SYSTEM_RESOURCES,
                ERROR_COMMITMENT_LIMIT,
            ],
            of_sockets: false,
            remedy: "; end other threads or programs, or give the system more memory (a larger paging file)",
        },
    ];
}

/// An error that says that there are too many sockets, and one that says it of threads.
#[cfg(all(test, unix))]
pub(crate) const TOO_MANY: [i32; 2] = [libc::EMFILE, libc::EAGAIN];
#[cfg(all(test, not(unix)))]
pub(crate) const TOO_MANY: [i32; 2] = [10_024, 1455];

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy_of(code: i32) -> &'static str {
        remedy(&io::Error::from_raw_os_error(code))
    }

    #[test]
    fn a_refusal_for_want_of_something_says_what_to_do() {
        #[cfg(unix)]
        let said = [(libc::EMFILE, "ulimit -n"), (libc::ENFILE, "ulimit -n"), (libc::EAGAIN, "ulimit -u")];
        #[cfg(not(unix))]
        let said = [(10_024, "close files or sockets"), (10_055, "no port"), (1455, "paging file")];
        for (code, words) in said {
            assert!(remedy_of(code).contains(words), "{code}: {}", remedy_of(code));
        }
        // No file has the name: 2 on each system.
        assert_eq!(remedy_of(2), "");
        assert_eq!(remedy(&io::ErrorKind::OutOfMemory.into()), "", "that is not the system's word");
    }

    #[test]
    fn only_unix_has_limits_that_ulimit_raises_and_no_error_means_two_things() {
        for (list, has_ulimit) in [(SCARCE, cfg!(unix)), (windows::SCARCE, false)] {
            assert!(list.iter().all(|scarce| scarce.remedy.contains("ulimit") == has_ulimit));
            let codes: Vec<_> = list.iter().flat_map(|scarce| scarce.codes).collect();
            let mut once = codes.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), codes.len(), "{codes:?}");
        }
    }
}
