//! Which process this is. A child made by fork has copies of what its parent had, and none of the threads that served it.

use forkguard::Guard;

use crate::boundary::{Result, refuse};
use crate::codes::TAUTLINE_E_SYSTEM;

/// The process in which this value was made. A comparison costs one load of an atomic: a handler that the C library calls in
/// each child counts the forks.
#[derive(Clone)]
pub(crate) struct Process(Guard);

impl Process {
    pub(crate) fn current() -> Result<Self> {
        #[cfg(unix)]
        let guard = Guard::try_new()
            .map_err(|error| refuse(TAUTLINE_E_SYSTEM, format_args!("a handler of forks: {error}")))?;
        #[cfg(not(unix))]
        let guard = Guard::default();
        Ok(Self(guard))
    }

    /// Whether the caller is in that process.
    pub(crate) fn is_current(&self) -> bool {
        // A clone, because a guard reports a fork only once.
        !self.0.clone().detected_fork()
    }
}
