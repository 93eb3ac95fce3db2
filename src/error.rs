//! Everything that can go wrong, in the user's words.

mod close_frame;
mod rejection;
mod send;
mod source;

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error as _;

pub use crate::error::close_frame::CloseFrame;
pub use crate::error::rejection::Rejection;
pub use crate::error::send::{SendError, SendErrorKind};
use crate::secrets::Secrets;
use crate::ticket::Tickets;

/// What went wrong: what happened, where, and what to do.
///
/// Cheap to clone. The text names the cause, too, so that `{error}` says it all; [`source`](StdError::source) returns only
/// what the text does not say already, and a chain that is printed says nothing twice. To look at the cause itself, such
/// as the kind of an [`io::Error`], match the variant: its field `source` has it. No text holds what was
/// secret in what the server was sent, also where the server repeats it: `***` stands there.
///
/// * Of the request: user and password of the URL, the values of its query, what looks random in its path, tokens that are
///   offered as subprotocols, the values of cookies and of all headers but harmless ones, such as `User-Agent`.
/// * Of a login: what [`JsonSession::login`](crate::JsonSession::login) sends, but for words, and what another protocol calls
///   [`secret`](crate::Context::secret).
///
/// To look random is to have a piece, between what is neither letter nor digit, that is neither a word nor a number nor one
/// behind the other: `graphql-ws`, `v2` and `room42` stay, a key, a hash, a JWT and a UUID do not, so that the identifier of
/// a room may be hidden as well. Secrets are found as they were sent, decoded, percent-encoded, and escaped as in JSON and
/// HTML; one of 4 to 7 bytes where it is no piece of a longer word, a shorter one not at all, unless it stands in
/// `user:password`. The fields of a [`Rejection`] and of a [`CloseFrame`] hold what the server said.
///
/// ```
/// use tautline::{Client, Error};
///
/// let error = Client::connect("http://example.com").unwrap_err();
/// assert!(matches!(error, Error::InvalidUrl { .. }));
/// assert!(error.to_string().contains("ws:// or wss://"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The URL can't be used. Nothing was tried.
    #[non_exhaustive]
    InvalidUrl {
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// A setting can't be used. Nothing was tried.
    #[non_exhaustive]
    InvalidConfig {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// An argument of a call can't be used. Nothing was done.
    #[non_exhaustive]
    InvalidArgument {
        /// The argument.
        argument: &'static str,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// The host name has no address.
    #[non_exhaustive]
    Resolve {
        /// The host name.
        host: Box<str>,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// No address of the host accepted a TCP connection.
    #[non_exhaustive]
    Connect {
        /// Host and port.
        host: Box<str>,
        /// What the last address that was tried said.
        source: Arc<io::Error>,
    },
    /// The TLS handshake failed, or TLS could not be set up.
    #[non_exhaustive]
    Tls {
        /// Host and port.
        host: Box<str>,
        /// What is wrong, and what to do.
        reason: Box<str>,
        /// What the TLS library or the operating system said; the text has words of its own where they are known.
        source: Cause,
    },
    /// The server answered the upgrade with an HTTP status other than 101.
    UpgradeRejected(Arc<Rejection>),
    /// What came back to the upgrade is not the answer of a WebSocket server.
    #[non_exhaustive]
    Upgrade {
        /// Host and port.
        host: Box<str>,
        /// What is wrong with the answer.
        reason: Box<str>,
        /// What the operating system or the TLS library said, if the connection broke.
        source: Option<Cause>,
    },
    /// The whole attempt took longer than `connect_timeout`.
    #[non_exhaustive]
    ConnectTimeout {
        /// Host and port.
        host: Box<str>,
        /// What the attempt was doing.
        phase: Phase,
        /// The configured timeout.
        after: Duration,
    },
    /// The server refused the login.
    #[non_exhaustive]
    LoginRefused {
        /// What it said.
        reason: Box<str>,
    },
    /// The server did not accept the login within `login_timeout`.
    #[non_exhaustive]
    LoginTimeout {
        /// The configured timeout.
        after: Duration,
    },
    /// The protocol could not go on.
    #[non_exhaustive]
    Session {
        /// Why.
        reason: Box<str>,
    },
    /// A request was sent, and will not be answered, though the line goes on. It may be asked again; whether the server
    /// has acted on it is not known.
    #[non_exhaustive]
    Unanswered {
        /// Why.
        reason: Box<str>,
    },
    /// The server answered a request with an error.
    #[non_exhaustive]
    Answer {
        /// What it said.
        reason: Box<str>,
    },
    /// The server closed the line with a close frame.
    ClosedByServer(CloseFrame),
    /// The connection broke, or the server ended it without a close frame (RFC 6455's code 1006).
    #[non_exhaustive]
    ConnectionLost {
        /// What the operating system or the TLS library said; `None` for a plain end of the stream.
        source: Option<Cause>,
    },
    /// The peer is taken for dead: it answered nothing.
    #[non_exhaustive]
    HeartbeatTimeout {
        /// How long the oldest beat that was not answered has waited, from when it was written: the heartbeat's timeout,
        /// as a rule. The last sign of life may be older, by up to an interval.
        silence: Duration,
    },
    /// The operating system took no more bytes: the peer does not read.
    #[non_exhaustive]
    WriteStalled {
        /// How long nothing was taken: the configured `write_timeout`.
        after: Duration,
    },
    /// The server broke the WebSocket protocol; it was told so with a close frame.
    #[non_exhaustive]
    Protocol {
        /// The close code it was told: 1002, 1007 or 1009.
        code: u16,
        /// What it did.
        reason: Box<str>,
    },
    /// All attempts that the configuration allows have failed.
    #[non_exhaustive]
    GaveUp {
        /// How many reconnects were tried.
        attempts: u32,
        /// Why the last one failed.
        source: Arc<Error>,
    },
    /// A wait reached its deadline.
    #[non_exhaustive]
    Timeout {
        /// What was waited for.
        waiting_for: &'static str,
        /// The deadline that was given.
        after: Duration,
        /// Why the line is down, if it is.
        source: Option<Arc<Error>>,
    },
    /// The server has not confirmed these of the messages that [`confirm`](crate::Client::confirm) was asked about, and it
    /// will not: they are not sent again.
    #[non_exhaustive]
    Unconfirmed {
        /// Those that may have arrived or not: their connection ended before the server confirmed them.
        maybe_delivered: Tickets,
        /// Those that were never sent: each waited longer than `max_age`, or the protocol's
        /// [`on_send`](crate::Protocol::on_send) failed three times over it, for each of which the log has a warning, or the
        /// client was closed first.
        never_sent: Tickets,
    },
    /// A message was not accepted. The message itself is in the [`SendError`] this came from.
    Send(SendErrorKind),
    /// A value could not be turned into JSON, or read from it.
    Json(Arc<serde_json::Error>),
    /// The client is closed; [`Client::wait_closed`](crate::Client::wait_closed) tells why.
    Closed,
    /// A blocking call was made in a callback or in a hook of a protocol. These run on the I/O thread of their client,
    /// where a wait would stop its line, whether the call is made on that client or on another. Make the call on another
    /// thread, or use the `try_` form.
    ///
    /// A resolver, a [`fetch`](crate::Builder::fetch) and a protocol's [`work`](crate::Context::work) have threads of their
    /// own, where calls may block; but one that waits for what it is itself to bring, such as a `fetch` for the line to
    /// be ready, waits for its whole timeout.
    WouldDeadlock,
    /// A callback of the application panicked; the client was closed, or, over a resolver or a fetch, the attempt failed.
    /// Work of a protocol that panicked has this as its result, and nothing else happens.
    #[non_exhaustive]
    Panicked {
        /// Which callback; `internal` for none of them, but a defect of this library. Please report it.
        callback: &'static str,
    },
    /// The operating system refused what the client itself needs: a thread or its wake-up descriptor.
    #[non_exhaustive]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
}

/// The `callback` of a panic that is no callback's.
pub(crate) const INTERNAL: &str = "internal";

/// A cause from another library.
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// What an attempt to connect was doing when its time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// In the application's [`fetch`](crate::Builder::fetch).
    Fetch,
    /// Looking the host name up.
    Resolve,
    /// Waiting for the TCP connection.
    Connect,
    /// In the TLS handshake.
    Tls,
    /// Waiting for the answer to the WebSocket upgrade.
    Upgrade,
}

impl Error {
    /// For a [`Protocol`](crate::Protocol): the server refused the login, and said this. After it, the client closes
    /// if the line was never ready; see [`Retry`](crate::Retry).
    pub fn login_refused(reason: impl Into<String>) -> Self {
        Self::LoginRefused { reason: reason.into().into() }
    }

    /// For a [`Protocol`](crate::Protocol): the server answered a request with an error, and said this. What
    /// [`Context::fail_request`](crate::Context::fail_request) takes; the line goes on.
    pub fn answer(reason: impl Into<String>) -> Self {
        Self::Answer { reason: reason.into().into() }
    }

    /// For a [`Protocol`](crate::Protocol): the application's message can't be sent in this session, for this reason. What
    /// [`Context::fail_request`](crate::Context::fail_request) takes in `on_send`; the line goes on.
    pub fn invalid_message(reason: impl Into<String>) -> Self {
        Self::InvalidArgument { argument: "message", reason: reason.into().into() }
    }

    /// For a [`Protocol`](crate::Protocol): the session can't go on, for this reason.
    pub fn session(reason: impl Into<String>) -> Self {
        Self::Session { reason: reason.into().into() }
    }
}

impl Error {
    /// Hides what is secret in the words of a hook, which may be those of the server.
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
            Self::Json(error) => {
                let (text, shown) = (error.to_string(), secrets.hide(&error.to_string()));
                if text == shown { Self::Json(error) } else { serde_json::Error::custom(shown).into() }
            }
            other => other,
        }
    }
}

/// How an open connection ended.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The stream ended, or an operation on it failed.
    Broken(Error),
    /// The peer broke the protocol, and is to be told so.
    Violation { code: u16, reason: Box<str> },
}

impl Fault {
    /// Hides what is secret in the words of the server.
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

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(Arc::new(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUrl { reason } => write!(f, "the URL can't be used: {reason}"),
            Self::InvalidConfig { setting, reason } => {
                write!(f, "the setting {setting} can't be used: {reason}")
            }
            Self::InvalidArgument { argument, reason } => write!(f, "the {argument} can't be used: {reason}"),
            Self::Resolve { host, source } => write!(f, "looking up {host}: {source}"),
            Self::Connect { host, source } => write!(f, "connecting to {host}: {source}"),
            Self::Tls { host, reason, .. } => write!(f, "TLS with {host}: {reason}"),
            Self::UpgradeRejected(rejection) => rejection.fmt(f),
            Self::Upgrade { host, reason, .. } => {
                write!(f, "{host} did not answer the WebSocket upgrade as it should: {reason}")
            }
            Self::ConnectTimeout { host, phase, after } => {
                write!(f, "connecting to {host} timed out after {after:?} while {phase}")
            }
            Self::LoginRefused { reason } => write!(f, "the server refused the login: {reason}"),
            Self::LoginTimeout { after } => write!(f, "the login was not accepted within {after:?} (or the protocol never called ready)"),
            Self::Session { reason } => write!(f, "the session can't go on: {reason}"),
            Self::Unanswered { reason } => write!(f, "the request will not be answered: {reason}"),
            Self::Answer { reason } => write!(f, "the server answered with an error: {reason}"),
            Self::ClosedByServer(frame) => write!(f, "the server closed the line with {frame}"),
            Self::ConnectionLost { source: None } => {
                f.write_str("the server ended the connection without a close frame (1006)")
            }
            Self::ConnectionLost { source: Some(source) } => write!(f, "the connection broke: {source}"),
            Self::HeartbeatTimeout { silence } => {
                write!(f, "heartbeat timeout: no answer for {}", brief(*silence))
            }
            Self::WriteStalled { after } => {
                write!(f, "the server took no more bytes for {}", brief(*after))
            }
            Self::Protocol { code, reason } => {
                write!(
                    f,
                    "the server broke the WebSocket protocol: {reason} (told so with close code {code})"
                )
            }
            Self::GaveUp { attempts: 0, source } => write!(f, "not reconnecting: {source}"),
            Self::GaveUp { attempts: 1, source } => write!(f, "gave up after one reconnect attempt: {source}"),
            Self::GaveUp { attempts, source } => {
                write!(f, "gave up after {attempts} reconnect attempts; the last: {source}")
            }
            Self::Timeout { waiting_for, after, source: None } => {
                write!(f, "waited {after:?} in vain for {waiting_for}")
            }
            Self::Timeout { waiting_for, after, source: Some(source) } => {
                write!(f, "waited {after:?} in vain for {waiting_for}: {source}")
            }
            Self::Unconfirmed { maybe_delivered, never_sent } => {
                if !maybe_delivered.is_empty() {
                    let why = "their connection ended before the server confirmed them";
                    let then = if never_sent.is_empty() { "" } else { "; " };
                    write!(f, "{maybe_delivered} may have arrived or not: {why}{then}")?;
                }
                if never_sent.is_empty() {
                    return Ok(());
                }
                let why = "each waited longer than max_age, or the protocol's on_send failed three times over it, which \
                           the log says, or the client was closed first";
                write!(f, "{never_sent} will never be sent: {why}")
            }
            Self::Send(kind) => kind.fmt(f),
            Self::Json(source) => write!(f, "the JSON can't be read or written: {source}"),
            Self::Closed => f.write_str("the client is closed"),
            Self::WouldDeadlock => f.write_str(
                "a blocking call in a callback, on the I/O thread of this client or another, would stop its line; make it on another thread",
            ),
            Self::Panicked { callback: INTERNAL } => f.write_str(
                "tautline itself panicked, or the program's logger did; if not the logger, it is a defect of the library, please report it",
            ),
            Self::Panicked { callback } => write!(f, "the application's {callback} callback panicked"),
            Self::System { what, source } => write!(f, "the system refused {what}: {source}"),
        }
    }
}

/// As much of a measured time as says something.
fn brief(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{}ms", time.as_millis())
    } else {
        format!("{:.1}s", time.as_secs_f64())
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fetch => "fetching what the attempt needs",
            Self::Resolve => "looking up the host name",
            Self::Connect => "waiting for the TCP connection",
            Self::Tls => "in the TLS handshake",
            Self::Upgrade => "waiting for the server's answer to the upgrade",
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
