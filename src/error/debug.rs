//! What `main` prints of an error that it returns.

use std::error::Error as StdError;
use std::fmt;

use crate::error::{Error, Rejection};

/// The alternate form is the same.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, self, self.http_answer())
    }
}

/// Prints the text of an error and, below it, on lines of their own, what that text leaves out: the rest of the
/// server's answer, and the causes.
pub(super) fn print(
    f: &mut fmt::Formatter<'_>,
    error: &dyn StdError,
    answer: Option<(&str, &Rejection)>,
) -> fmt::Result {
    let mut above = error.to_string();
    f.write_str(&above)?;
    let unshown = answer.and_then(|(whose, rejection)| Some((whose, rejection.unshown_body()?)));
    if let Some((whose, body)) = unshown {
        write!(f, "\nthe {whose}'s answer:")?;
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
    /// The answer that this error is about, if it is about one, and whose it is.
    pub(super) fn http_answer(&self) -> Option<(&'static str, &Rejection)> {
        match self {
            Self::UpgradeRejected(rejection) => Some(("server", rejection)),
            Self::Proxy(error) => Some(("proxy", error.answer.as_ref()?)),
            Self::GaveUp { source, .. } | Self::Timeout { source: Some(source), .. } => source.http_answer(),
            Self::Closed { reason: Some(reason) } => reason.error()?.http_answer(),
            _ => None,
        }
    }
}
