//! The library's name in the log.

/// The log target of every file: the log names the library, not its files.
pub(crate) const LOG: &str = "tautline";
