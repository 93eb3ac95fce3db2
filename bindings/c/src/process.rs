//! Which process this is, and that this code stays in it. A child made by fork has copies of what its parent had, and none of
//! the threads that served it.

use forkguard::Guard;

use crate::boundary::{Result, refuse};
use crate::codes::TAUTLINE_E_SYSTEM;

/// The process in which this value was made. A comparison costs one load of an atomic: a handler that the C library calls in
/// each child counts the forks.
#[derive(Clone)]
pub(crate) struct Process(Guard);

impl Process {
    /// The process of the caller. On Windows this code stays in it from now on.
    pub(crate) fn current() -> Result<Self> {
        #[cfg(unix)]
        let guard = Guard::try_new()
            .map_err(|error| refuse(TAUTLINE_E_SYSTEM, format_args!("a handler of forks: {error}")))?;
        #[cfg(windows)]
        let guard = {
            stay()?;
            Guard::default()
        };
        Ok(Self(guard))
    }

    /// Whether the caller is in that process.
    pub(crate) fn is_current(&self) -> bool {
        // A clone, because a guard reports a fork only once.
        !self.0.clone().detected_fork()
    }
}

/// Has this code stay in the process, even if the host unloads the library while a client's threads run. On Linux the linker
/// does that: see `build.rs`.
#[cfg(windows)]
fn stay() -> Result<()> {
    use windows_sys::Win32::System::LibraryLoader::{
        GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS, GET_MODULE_HANDLE_EX_FLAG_PIN, GetModuleHandleExW,
    };

    /// It lies in the module that is meant.
    static HERE: u16 = 0;
    let mut module = std::ptr::null_mut();
    let flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN;
    // SAFETY: with this flag, an address stands in the place of a name. The handle is written to a variable.
    if unsafe { GetModuleHandleExW(flags, &raw const HERE, &raw mut module) } == 0 {
        let error = std::io::Error::last_os_error();
        return Err(refuse(TAUTLINE_E_SYSTEM, format_args!("keeping the library in the process: {error}")));
    }
    Ok(())
}
