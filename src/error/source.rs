//! The causes of an error.

use std::error::Error as StdError;

use crate::error::Error;

impl StdError for Error {
    /// The nearest cause that the error's text does not include already.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let text = self.to_string();
        let mut cause = self.cause()?;
        // Errors of other libraries also repeat their causes.
        while text.contains(&cause.to_string()) {
            cause = cause.source()?;
        }
        Some(cause)
    }
}

impl Error {
    pub(super) fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Resolve { source, .. } | Self::Connect { source, .. } | Self::System { source, .. } => {
                Some(source.as_ref())
            }
            Self::Tls { source, .. }
            | Self::ConnectionLost { source: Some(source) }
            | Self::Upgrade { source: Some(source), .. } => Some(source.as_ref()),
            Self::GaveUp { source, .. } | Self::Timeout { source: Some(source), .. } => Some(source.as_ref()),
            Self::Json(source) => Some(source.as_ref()),
            _ => None,
        }
    }
}
