//! How an open connection ended.

use crate::error::Error;
use crate::secrets::Secrets;

/// How an open connection ended.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The stream ended, or an operation on it failed.
    Broken(Error),
    /// The peer violated the protocol. The connection is closed with this code.
    Violation { code: u16, reason: Box<str> },
}

impl Fault {
    /// Hides secrets in the words of the server.
    pub(crate) fn hiding(self, secrets: &Secrets) -> Self {
        match self {
            Self::Violation { code, reason } => {
                Self::Violation { code, reason: secrets.hide(&reason).into() }
            }
            broken @ Self::Broken(_) => broken,
        }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Broken(error) => error,
            Self::Violation { code, reason } => Error::Protocol { code, reason },
        }
    }
}
