//! The text of an error about several servers.

use std::fmt;

use crate::error::Error;

/// Each server that failed, with its place among the attempts.
pub(super) fn fmt(failures: &[(Box<str>, Error)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "all {} servers failed", failures.len())?;
    for (at, (server, error)) in failures.iter().enumerate() {
        let (text, place) = (error.to_string(), at + 1);
        let then = if at == 0 { ": " } else { "; " };
        // Most texts name the server.
        if text.contains(&**server) {
            write!(f, "{then}({place}) {text}")?;
        } else {
            write!(f, "{then}({place}) {server}: {text}")?;
        }
    }
    Ok(())
}
