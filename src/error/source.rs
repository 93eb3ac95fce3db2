//! The causes of an error.

use std::error::Error as StdError;

use crate::error::Error;

impl StdError for Error {
    /// The nearest cause that the error's text does not include already.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        beyond(&self.to_string(), self.cause())
    }
}

/// The nearest of these causes that `text` does not include.
pub(super) fn beyond<'a>(
    text: &str,
    mut cause: Option<&'a (dyn StdError + 'static)>,
) -> Option<&'a (dyn StdError + 'static)> {
    // Errors of other libraries also repeat their causes.
    while cause.is_some_and(|cause| text.contains(&cause.to_string())) {
        cause = cause.and_then(StdError::source);
    }
    cause
}

impl Error {
    pub(super) fn cause(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Resolve { source, .. }
            | Self::Connect { source, .. }
            | Self::ConnectTimeout { source: Some(source), .. }
            | Self::System { source, .. } => Some(source.as_ref()),
            Self::Tls { source, .. }
            | Self::ConnectionLost { source: Some(source) }
            | Self::Upgrade { source: Some(source), .. } => Some(source.as_ref()),
            Self::Proxy(error) => error.source.as_ref().map(|source| source.as_ref() as _),
            Self::GaveUp { source, .. } | Self::Timeout { source: Some(source), .. } => Some(source.as_ref()),
            Self::AllServersFailed { failures } => failures.last().map(|(_, error)| error as _),
            Self::Closed { reason: Some(reason) } => Some(reason.error()?),
            // The error itself may repeat values of the message.
            Self::Json { source, .. } => source.source(),
            _ => None,
        }
    }
}
