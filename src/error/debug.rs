//! What `main` prints of an error that it returns.

use std::error::Error as StdError;
use std::fmt;

use crate::error::{Error, Rejection};

/// The alternate form is the same.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self, self.rejection())
    }
}

/// Prints the text of an error and, below it, on lines of their own, what that text leaves out: the rest of the
/// server's answer, and the causes.
pub(super) fn print(
    f: &mut fmt::Formatter<'_>,
    error: &dyn StdError,
    rejection: Option<&Rejection>,
) -> fmt::Result {
    let mut above = error.to_string();
    f.write_str(&above)?;
    if let Some(body) = rejection.and_then(Rejection::unshown_body) {
        f.write_str("\nthe server's answer:")?;
        for line in body.lines() {
            // Indented, so that no line of the server's looks like one of the program's.
            write!(f, "\n    {line}")?;
        }
    }
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        // Errors of other libraries also repeat their causes.
        if !above.contains(&text) {
            write!(f, "\ncaused by: {text}")?;
            above = text;
        }
        next = cause.source();
    }
    Ok(())
}

impl Error {
    /// The server's answer that this error is about, if it is about one.
    pub(super) fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::UpgradeRejected(rejection) => Some(rejection),
            Self::GaveUp { source, .. } | Self::Timeout { source: Some(source), .. } => source.rejection(),
            Self::Closed { reason: Some(reason) } => reason.error()?.rejection(),
            _ => None,
        }
    }
}
