//! Everything that can go wrong, in the user's words.

mod addresses;
mod advice;
mod close_frame;
mod debug;
mod display;
mod fault;
mod hiding;
mod json;
mod proxy;
mod reason;
mod rejection;
mod send;
mod servers;
mod source;
mod tls;

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvError;

pub use crate::error::addresses::AddressErrors;
pub use crate::error::close_frame::CloseFrame;
pub(crate) use crate::error::fault::Fault;
pub use crate::error::proxy::{ProxyError, ProxyErrorKind};
pub use crate::error::reason::{CloseReason, DisconnectReason};
pub use crate::error::rejection::Rejection;
pub use crate::error::send::{SendError, SendErrorKind};
pub use crate::error::tls::TlsErrorKind;
use crate::message::Message;
use crate::ticket::Tickets;

/// What went wrong, where, and what to do about it. Cheap to clone.
///
/// The text includes the cause, so `{error}` is the whole message. [`source`](StdError::source) returns only causes
/// that the text does not already contain, so printing the chain repeats nothing. To inspect the cause, such as the
/// kind of an [`io::Error`], match the variant and read its field `source`.
///
/// The [front page](crate#what-stops-a-line) lists each way in which an attempt fails or a line ends, with the variant, the text
/// and what follows.
///
/// `Debug` is what Rust prints of an error that `main` returns. It is the same text, and below it what the text leaves
/// out: the body of a [`Rejection`] that it shortens, and the chain of sources. It has several lines then; for a
/// log, use `{error}`.
///
/// One `?` turns each error of this library into an `Error`, as in the program below, and into a
/// `Box<dyn std::error::Error + Send + Sync>`. A [`SendError`] loses its message by that.
///
/// ```
#[doc = include_str!("client/echo.txt")]
/// use std::time::Duration;
/// use serde_json::json;
/// use tautline::{Client, JsonSession, Value};
///
/// const SOON: Duration = Duration::from_secs(5);
///
/// fn talk(url: &str) -> Result<(), tautline::Error> {
///     let client = Client::builder(url).protocol(JsonSession::new().answers_by("id")).connect()?;
///     println!("{:?}", client.events().recv()?);
///     client.send("[1]")?;
///     client.try_send("[2]")?;
///     client.send_timeout("[3]", SOON)?;
///     client.send_json(&[4])?;
///     let last = client.send_all(["[5]", "[6]"])?;
///     client.confirm(last, SOON)?;
///     let one: Vec<u32> = client.recv()?.json()?;
///     let two: Vec<u32> = client.recv_timeout(SOON)?.json()?;
///     let three: Vec<u32> = client.recv_json()?;
///     assert_eq!([one, two, three].concat(), [1, 2, 3]);
///     let answer: Value = client.request(json!({"method": "status"}), SOON)?.json()?;
///     assert_eq!(answer["method"], "status");
///     let _ = client.close_with(1000, "done")?;
///     client.wait_closed().into_result()
/// }
/// talk(&url).unwrap();
/// ```
///
/// # Secrets
/// No error text contains a secret that the client sent, even where the server repeats it. `***` stands in its place.
/// These are treated as secret:
///
/// * In the request: the user and password of the URL, the values of its query, random-looking parts of its path,
///   tokens offered as subprotocols, and the values of cookies and of all headers except harmless ones such as
///   `User-Agent`.
/// * In a login: what [`JsonSession::login`](crate::JsonSession::login) sends, except plain words, and what another
///   protocol passes to [`Context::secret`](crate::Context::secret).
///
/// A text looks random if, after a split at everything that is neither letter nor digit, one part is neither a word,
/// nor a number, nor one followed by the other. `graphql-ws`, `v2` and `room42` are shown; a key, a hash, a JWT and a
/// UUID are hidden, and so may be the identifier of a room.
///
/// A secret is found as it was sent, decoded, percent-encoded, and escaped as in JSON and HTML. A secret of 4 to 7
/// bytes is found only where it is not part of a longer word. A shorter one is found only in the form `user:password`.
/// The fields of a [`Rejection`] and of a [`CloseFrame`] hold the server's words unchanged.
///
/// ```
/// use tautline::{Client, Error};
///
/// let error = Client::connect("http://example.com").unwrap_err();
/// assert!(matches!(error, Error::InvalidUrl { .. }));
/// assert!(error.to_string().contains("ws:// or wss://"));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// The URL is invalid. No attempt was made.
    #[non_exhaustive]
    InvalidUrl {
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// A setting is invalid. No attempt was made.
    #[non_exhaustive]
    InvalidConfig {
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// An argument of a call is invalid. The call had no effect.
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
        /// The host name, and the server that redirected there, if one did.
        host: Box<str>,
        /// The resolver's error.
        source: Arc<io::Error>,
    },
    /// No address of the host accepted a TCP connection, or none may be used by the settings of the
    /// [`network`](field@crate::ConnectionConfig::network).
    #[non_exhaustive]
    Connect {
        /// Host and port, and the server that redirected there, if one did.
        host: Box<str>,
        /// The error of the address, or [`AddressErrors`] with those of all addresses, if there are several. Its kind is
        /// that of the last one.
        source: Arc<io::Error>,
    },
    /// The [`Proxy`](crate::Proxy) did not open the way to the server. A proxy that stalls is a
    /// [`ConnectTimeout`](Self::ConnectTimeout) in [`Phase::Proxy`].
    Proxy(Arc<ProxyError>),
    /// The TLS handshake with the server failed, or TLS could not be set up. TLS with a proxy fails with
    /// [`Proxy`](Self::Proxy).
    #[non_exhaustive]
    Tls {
        /// Host and port; the server that redirected there, if one did; and the proxy, if the way there goes through one.
        host: Box<str>,
        /// What is wrong.
        kind: TlsErrorKind,
        /// The same in detail, and what to do.
        reason: Box<str>,
        /// The error of the TLS library or the operating system. The text uses clearer words where it has them.
        source: Cause,
    },
    /// The server answered the upgrade with an HTTP status other than 101.
    UpgradeRejected(Arc<Rejection>),
    /// The response to the upgrade is not that of a WebSocket server, or chooses no subprotocol that can be used.
    #[non_exhaustive]
    Upgrade {
        /// Host and port; the server that redirected there, if one did; and the proxy, if the way there goes through one.
        host: Box<str>,
        /// What is wrong with the response.
        reason: Box<str>,
        /// The error of the operating system or the TLS library, if the connection was lost.
        source: Option<Cause>,
    },
    /// The whole attempt took longer than `connect_timeout`.
    #[non_exhaustive]
    ConnectTimeout {
        /// Host and port; the server that redirected there, if one did; and the proxy, if the way there goes through one.
        host: Box<str>,
        /// What the attempt was doing.
        phase: Phase,
        /// The configured timeout.
        after: Duration,
        /// Why each address could not be connected to ([`AddressErrors`]), if the host has several and the time was over
        /// before one of them had answered; or that the [`connector`](crate::Builder::connector) has not returned.
        source: Option<Arc<io::Error>>,
    },
    /// Each server of the list that could be tried has failed: see
    /// [`ConnectionConfig::servers`](field@crate::ConnectionConfig::servers).
    #[non_exhaustive]
    AllServersFailed {
        /// Host and port of each server, and why it failed, in the order of the attempts.
        failures: Arc<[(Box<str>, Error)]>,
    },
    /// The server refused the login.
    #[non_exhaustive]
    LoginRefused {
        /// What the server said.
        reason: Box<str>,
    },
    /// The server did not accept the login within `login_timeout`.
    #[non_exhaustive]
    LoginTimeout {
        /// The configured timeout.
        after: Duration,
    },
    /// The protocol ended the connection with an error.
    #[non_exhaustive]
    Session {
        /// Why.
        reason: Box<str>,
    },
    /// A request was sent and will not be answered, although the line is up. Whether the server acted on it is unknown.
    /// The application may send it again.
    #[non_exhaustive]
    Unanswered {
        /// Why.
        reason: Box<str>,
    },
    /// The server answered a request with an error.
    #[non_exhaustive]
    Answer {
        /// What the server said.
        reason: Box<str>,
    },
    /// The server closed the connection with a close frame.
    ClosedByServer(CloseFrame),
    /// The application took the line down by [`suspend`](crate::Client::suspend) or
    /// [`reconnect`](crate::Client::reconnect).
    #[non_exhaustive]
    ByCaller {
        /// The call.
        call: &'static str,
    },
    /// The connection was lost without a close frame (RFC 6455's code 1006).
    #[non_exhaustive]
    ConnectionLost {
        /// The error of the operating system or the TLS library; `None` if the server ended the stream.
        source: Option<Cause>,
    },
    /// The peer did not answer a heartbeat in time and is considered dead.
    #[non_exhaustive]
    HeartbeatTimeout {
        /// How long the oldest unanswered heartbeat has waited since it was written. Usually this is the heartbeat's
        /// timeout. The last sign of life may be older, by up to one interval.
        silence: Duration,
    },
    /// The server sent no data for too long, although the connection is open and heartbeats may be answered.
    #[non_exhaustive]
    IdleTimeout {
        /// How long it sent none: the configured `idle_timeout`.
        after: Duration,
    },
    /// The operating system accepted no more bytes, because the peer does not read.
    #[non_exhaustive]
    WriteStalled {
        /// How long it accepted none: the configured `write_timeout`.
        after: Duration,
    },
    /// The server violated the WebSocket protocol. The client closed the connection with a close frame.
    #[non_exhaustive]
    Protocol {
        /// The close code that the client sent: 1002, 1007 or 1009.
        code: u16,
        /// The violation.
        reason: Box<str>,
    },
    /// The client has made all reconnect attempts that the configuration allows.
    #[non_exhaustive]
    GaveUp {
        /// How many reconnects were tried. With several servers, how many rounds through the list.
        attempts: u32,
        /// Why the last one failed.
        source: Arc<Error>,
    },
    /// A wait timed out.
    #[non_exhaustive]
    Timeout {
        /// What was waited for.
        waiting_for: &'static str,
        /// The timeout that the caller gave.
        after: Duration,
        /// Why the line is down, if it is.
        source: Option<Arc<Error>>,
    },
    /// The server did not confirm some of the messages that [`confirm`](crate::Client::confirm) was called for, and
    /// will not: they are not sent again.
    #[non_exhaustive]
    Unconfirmed {
        /// Messages that may or may not have arrived: their connection ended before the server confirmed them.
        maybe_delivered: Tickets,
        /// Messages that were never sent. There are four reasons:
        /// * The message waited longer than `max_age`.
        /// * It was for [this connection](crate::SendOptions::this_connection) only, which was lost first.
        /// * The protocol's [`on_send`](crate::Protocol::on_send) failed for it on three connections. The log has a
        ///   warning for each such message.
        /// * The client was closed first.
        never_sent: Tickets,
    },
    /// A message was not accepted, although the client is not closed. The [`SendError`] that this error was made from
    /// held the message.
    Send(SendErrorKind),
    /// A value could not be written as JSON or read from it. The text repeats no value that was read. What the
    /// application's own `Deserialize` says stands in it unchanged.
    #[non_exhaustive]
    Json {
        /// The message that could not be read, from [`Message::json`](crate::Message::json) or
        /// [`Client::recv_json`](crate::Client::recv_json). Otherwise `None`.
        message: Option<Arc<Message>>,
        /// The error of `serde_json`. Its text may repeat values of the message.
        source: Arc<serde_json::Error>,
    },
    /// The client is closed, or is closing.
    #[non_exhaustive]
    Closed {
        /// Why. `None` where it isn't known, such as in the error made from that of the channel of
        /// [`events`](crate::Client::events); [`Client::wait_closed`](crate::Client::wait_closed) returns it.
        reason: Option<Arc<CloseReason>>,
    },
    /// A blocking call was made in a callback or a protocol hook. These run on the I/O thread of their client, where
    /// blocking would stop its line. It does not matter whether the call is made on that client or another. Make the
    /// call on another thread, or use its `try_` form.
    ///
    /// A resolver, a [`fetch`](crate::Builder::fetch) and a protocol's [`work`](crate::Context::work) run on threads of
    /// their own and may block. If such code waits for its own result, such as a `fetch` that waits for the line to be
    /// ready, it waits until its timeout.
    WouldDeadlock,
    /// The client was made by the process that this one was forked from, and its threads are there: see
    /// [`Client`](crate::Client#forks). Make a new client in this process.
    Forked,
    /// A callback of the application panicked. What follows depends on the callback:
    /// * After a panic of a resolver or a `fetch`, the attempt has failed.
    /// * After a panic of a protocol's work, this error is the work's result.
    /// * After a panic of [`on_thread_start`](crate::Builder::on_thread_start), what its thread is for has failed in these ways.
    /// * After any other panic, the client is closed.
    #[non_exhaustive]
    Panicked {
        /// The name of the callback. `internal` means a defect in this library; please report it.
        callback: &'static str,
    },
    /// The operating system refused a resource that the client needs: a thread or a file descriptor.
    #[non_exhaustive]
    System {
        /// The resource.
        what: &'static str,
        /// The operating system's error.
        source: Arc<io::Error>,
    },
}

/// The `callback` of a panic that was in no callback.
pub(crate) const INTERNAL: &str = "internal";

/// The error of another library, as the cause of an [`Error`].
pub type Cause = Arc<dyn StdError + Send + Sync>;

/// What an attempt to connect was doing when it timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The attempt's thread has not begun with it: it is in [`on_thread_start`](crate::Builder::on_thread_start), or the system
    /// has not run it.
    Start,
    /// In the application's [`fetch`](crate::Builder::fetch).
    Fetch,
    /// Looking up the host name.
    Resolve,
    /// Waiting for the connection. With a proxy, for that to the proxy.
    Connect,
    /// Waiting for the proxy to open a way to the server.
    Proxy,
    /// In the TLS handshake.
    Tls,
    /// Waiting for the answer to the WebSocket upgrade.
    Upgrade,
}

impl Error {
    /// For a [`Protocol`](crate::Protocol): the server refused the login, with these words. The client is then closed
    /// if the line was never ready; see [`Retry`](crate::Retry).
    pub fn login_refused(reason: impl Into<String>) -> Self {
        Self::LoginRefused { reason: reason.into().into() }
    }

    /// For a [`Protocol`](crate::Protocol): the server answered a request with an error, with these words. Pass it to
    /// [`Context::fail_request`](crate::Context::fail_request). The line stays up.
    pub fn answer(reason: impl Into<String>) -> Self {
        Self::Answer { reason: reason.into().into() }
    }

    /// For a [`Protocol`](crate::Protocol): the application's message can't be sent in this session, for this reason.
    /// Pass it to [`Context::fail_request`](crate::Context::fail_request) in `on_send`. The line stays up.
    pub fn invalid_message(reason: impl Into<String>) -> Self {
        Self::InvalidArgument { argument: "message", reason: reason.into().into() }
    }

    /// For a [`Protocol`](crate::Protocol): the session can't continue, for this reason. Return it from a hook to end
    /// the connection.
    pub fn session(reason: impl Into<String>) -> Self {
        Self::Session { reason: reason.into().into() }
    }
}

/// For [`Client::events`](crate::Client::events): the channel has ended, because the client is closed.
impl From<RecvError> for Error {
    fn from(_: RecvError) -> Self {
        Self::Closed { reason: None }
    }
}

#[cfg(test)]
pub(crate) mod tests;
