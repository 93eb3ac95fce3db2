//! Why a line was lost, and why a client is closed.

use std::fmt;
use std::sync::Arc;

use crate::error::{CloseFrame, Error};

/// Why an attempt failed or a line was lost.
#[derive(Clone)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// An attempt to connect failed.
    ConnectFailed(Error),
    /// The server closed the connection with a close frame.
    ClosedByServer(CloseFrame),
    /// An open connection was lost.
    Lost(Error),
    /// The application took the line down.
    #[non_exhaustive]
    ByCaller {
        /// The call: [`suspend`](crate::Client::suspend) or [`reconnect`](crate::Client::reconnect).
        call: &'static str,
    },
}

/// Why a client is closed.
#[derive(Clone)]
#[non_exhaustive]
pub enum CloseReason {
    /// The application called [`close`](crate::Client::close), [`close_with`](crate::Client::close_with) or
    /// [`terminate`](crate::Client::terminate), or dropped the last handle.
    ByCaller,
    /// The line was lost, and the retry rules forbid a reconnect: see [`Retry`](crate::Retry).
    NotRetried(DisconnectReason),
    /// `max_attempts` reconnects failed in a row.
    #[non_exhaustive]
    GaveUp {
        /// How many reconnects were tried. With several servers, how many rounds through the list.
        attempts: u32,
        /// Why the last one failed.
        last: DisconnectReason,
    },
    /// The client itself failed.
    Failed(Error),
}

impl DisconnectReason {
    /// Returns the reason as an [`Error`].
    pub fn to_error(&self) -> Error {
        match self {
            Self::ConnectFailed(error) | Self::Lost(error) => error.clone(),
            Self::ClosedByServer(frame) => Error::ClosedByServer(frame.clone()),
            Self::ByCaller { call } => Error::ByCaller { call },
        }
    }
}

impl CloseReason {
    /// Returns `Ok` if the caller closed the client or the server closed the line normally (1000), and otherwise the
    /// reason as an error.
    ///
    /// # Errors
    /// The reason the client was closed.
    pub fn into_result(self) -> Result<(), Error> {
        match self {
            Self::ByCaller
            | Self::NotRetried(DisconnectReason::ClosedByServer(CloseFrame { code: 1000, .. })) => Ok(()),
            other => Err(other.into_error()),
        }
    }

    /// The reason as an error, even if the end was a normal one.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::ByCaller => Error::Closed { reason: Some(Arc::new(Self::ByCaller)) },
            Self::NotRetried(reason) => reason.to_error(),
            Self::GaveUp { attempts, last } => Error::GaveUp { attempts, source: Arc::new(last.to_error()) },
            Self::Failed(error) => error,
        }
    }
}

impl CloseReason {
    /// The error that ended the line.
    pub(super) fn error(&self) -> Option<&Error> {
        match self {
            Self::NotRetried(last) | Self::GaveUp { last, .. } => match last {
                DisconnectReason::ConnectFailed(error) | DisconnectReason::Lost(error) => Some(error),
                DisconnectReason::ClosedByServer(_) | DisconnectReason::ByCaller { .. } => None,
            },
            Self::Failed(error) => Some(error),
            Self::ByCaller => None,
        }
    }
}

impl From<Error> for CloseReason {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed(error) | Self::Lost(error) => error.fmt(f),
            Self::ClosedByServer(frame) => write!(f, "the server closed the line with {frame}"),
            Self::ByCaller { .. } => self.to_error().fmt(f),
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByCaller => f.write_str("closed by the caller"),
            Self::NotRetried(reason) => write!(f, "not reconnecting: {reason}"),
            Self::GaveUp { .. } => self.clone().into_error().fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// The variant, with the sentence of its error.
impl fmt::Debug for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailed(error) => f.debug_tuple("ConnectFailed").field(&error.to_string()).finish(),
            Self::ClosedByServer(frame) => f.debug_tuple("ClosedByServer").field(frame).finish(),
            Self::Lost(error) => f.debug_tuple("Lost").field(&error.to_string()).finish(),
            Self::ByCaller { call } => f.debug_struct("ByCaller").field("call", call).finish(),
        }
    }
}

/// The variant, with the sentence of its error.
impl fmt::Debug for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByCaller => f.write_str("ByCaller"),
            Self::NotRetried(reason) => f.debug_tuple("NotRetried").field(reason).finish(),
            Self::GaveUp { attempts, last } => {
                f.debug_struct("GaveUp").field("attempts", attempts).field("last", last).finish()
            }
            Self::Failed(error) => f.debug_tuple("Failed").field(&error.to_string()).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::tests::every_error;

    #[test]
    fn a_normal_close_is_no_error_and_any_other_is_one() {
        assert!(CloseReason::ByCaller.into_result().is_ok());
        let by_server =
            |code| CloseReason::NotRetried(DisconnectReason::ClosedByServer(CloseFrame::new(code, "")));
        assert!(by_server(1000).into_result().is_ok());
        assert!(matches!(by_server(1008).into_result(), Err(Error::ClosedByServer(_))));
        let gave_up = CloseReason::GaveUp { attempts: 2, last: DisconnectReason::Lost(Error::WouldDeadlock) };
        assert!(matches!(gave_up.into_result(), Err(Error::GaveUp { attempts: 2, .. })));
    }

    #[test]
    fn the_reasons_of_events_say_what_happened_and_why_once() {
        for error in every_error() {
            let text = error.to_string();
            for reason in
                [DisconnectReason::ConnectFailed(error.clone()), DisconnectReason::Lost(error.clone())]
            {
                assert_eq!(reason.to_string(), text);
                assert_eq!(reason.to_error().to_string(), text);
                let ends = [
                    CloseReason::NotRetried(reason.clone()),
                    CloseReason::GaveUp { attempts: 2, last: reason },
                    CloseReason::Failed(error.clone()),
                ];
                for end in ends {
                    assert_eq!(end.to_string().matches(&text).count(), 1, "{end}");
                    assert_eq!(
                        end.into_result().unwrap_err().to_string().matches(&text).count(),
                        1,
                        "{text}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_debug_form_of_a_reason_is_one_line_with_the_sentence() {
        for error in every_error() {
            let sentence = format!("{:?}", error.to_string());
            let lost = DisconnectReason::Lost(error.clone());
            assert_eq!(format!("{lost:?}"), format!("Lost({sentence})"));
            let failed = DisconnectReason::ConnectFailed(error.clone());
            assert_eq!(
                format!("{:?}", CloseReason::GaveUp { attempts: 2, last: failed }),
                format!("GaveUp {{ attempts: 2, last: ConnectFailed({sentence}) }}")
            );
            assert_eq!(
                format!("{:?}", CloseReason::NotRetried(lost)),
                format!("NotRetried(Lost({sentence}))")
            );
            assert_eq!(format!("{:?}", CloseReason::Failed(error)), format!("Failed({sentence})"));
        }
        let closed = DisconnectReason::ClosedByServer(CloseFrame::new(1008, "why"));
        assert_eq!(format!("{closed:?}"), r#"ClosedByServer(CloseFrame { code: 1008, reason: "why" })"#);
        assert_eq!(format!("{:?}", CloseReason::ByCaller), "ByCaller");
    }
}
