//! A close frame, in the user's words.

use std::fmt;

use crate::error::Error;
use crate::secrets::Secrets;

/// A close frame (RFC 6455, section 5.5.1): close code and reason.
///
/// Code 1005 means that the frame had no code (section 7.1.5). `Display` and `Debug` replace secrets of the request and
/// the login that the server repeats with `***`: see [`Error`].
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CloseFrame {
    /// The close code.
    pub code: u16,
    /// The reason, at most 123 bytes. Often empty.
    pub reason: Box<str>,
    secrets: Secrets,
}

impl CloseFrame {
    pub(crate) fn new(code: u16, reason: impl Into<Box<str>>) -> Self {
        Self { code, reason: reason.into(), secrets: Secrets::default() }
    }

    /// Hides these secrets in the reason, too.
    pub(crate) fn hiding(mut self, secrets: &Secrets) -> Self {
        self.secrets = self.secrets.and(secrets);
        self
    }

    /// A frame that an endpoint may send: its code is not reserved (RFC 6455, section 7.4), and its reason is not too
    /// long.
    pub(crate) fn checked(code: u16, reason: &str) -> Result<Self, Error> {
        let sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        if !sendable {
            let why = format!("{code} may not be sent; use 1000 to 1003, 1007 to 1014, or 3000 to 4999");
            return Err(Error::InvalidArgument { argument: "close code", reason: why.into() });
        }
        // A control frame carries 125 bytes at most, and the code takes two (section 5.5).
        if reason.len() > 123 {
            let why = format!("{} bytes; a close frame carries 123 at most", reason.len());
            return Err(Error::InvalidArgument { argument: "close reason", reason: why.into() });
        }
        Ok(Self::new(code, reason))
    }
}

impl fmt::Display for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, &*self.reason) {
            (1005, "") => f.write_str("an empty close frame (1005)"),
            (code, "") => write!(f, "close code {code}"),
            (code, reason) => write!(f, "close code {code}: {:?}", self.secrets.hide(reason)),
        }
    }
}

impl fmt::Debug for CloseFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = self.secrets.hide(&self.reason);
        f.debug_struct("CloseFrame").field("code", &self.code).field("reason", &reason).finish()
    }
}
