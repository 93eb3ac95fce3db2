//! Errors without the secrets of a request or a login.

use std::sync::Arc;

use serde::de::Error as _;

use crate::error::Error;
use crate::error::json::without_values;
use crate::secrets::Secrets;

impl Error {
    /// Hides secrets in the text of a hook, which may repeat the server's words.
    pub(crate) fn hiding(self, secrets: &Secrets) -> Self {
        let hide = |reason: &str| secrets.hide(reason).into();
        match self {
            Self::LoginRefused { reason } => Self::LoginRefused { reason: hide(&reason) },
            Self::Session { reason } => Self::Session { reason: hide(&reason) },
            Self::Answer { reason } => Self::Answer { reason: hide(&reason) },
            Self::InvalidArgument { argument, reason } => {
                Self::InvalidArgument { argument, reason: hide(&reason) }
            }
            Self::Protocol { code, reason } => Self::Protocol { code, reason: hide(&reason) },
            Self::ClosedByServer(frame) => Self::ClosedByServer(frame.hiding(secrets)),
            Self::Json { message, source } => {
                let text = without_values(&source);
                let shown = secrets.hide(&text);
                let hidden = || Arc::new(serde_json::Error::custom(&shown));
                Self::Json { message, source: if text == shown { source } else { hidden() } }
            }
            other => other,
        }
    }
}
