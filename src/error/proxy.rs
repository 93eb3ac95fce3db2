//! A proxy that did not open the way to the server.

use std::error::Error as StdError;
use std::fmt;

use crate::error::source::beyond;
use crate::error::{Cause, Rejection};

/// Why a [`Proxy`](crate::Proxy) did not open the way to the server: what happened, where, and what to do.
///
/// No text shows the login, the value of a header, or what the proxy repeats of them.
///
/// ```
/// use tautline::{Error, ProxyErrorKind};
///
/// fn wants_password(error: &Error) -> bool {
///     let Error::Proxy(error) = error else { return false };
///     matches!(error.kind, ProxyErrorKind::LoginRequired | ProxyErrorKind::LoginRefused)
/// }
/// # let _ = wants_password;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProxyError {
    /// Host and port of the proxy.
    pub proxy: Box<str>,
    /// Host and port of the server that it should have opened the way to.
    pub target: Box<str>,
    /// What happened.
    pub kind: ProxyErrorKind,
    /// The same in detail, and what to do.
    pub reason: Box<str>,
    /// The error of the operating system; with [`Unreachable`](ProxyErrorKind::Unreachable), the [`Error`](crate::Error) of
    /// the attempt to reach the proxy. [`TlsErrorKind`](crate::TlsErrorKind) shows how to get at it.
    pub source: Option<Cause>,
    /// The answer of an HTTP proxy that refused.
    pub(crate) answer: Option<Rejection>,
}

/// What kept a proxy from opening the way.
///
/// | kind | the text of the error | [`Retry`](crate::Retry) |
/// |---|---|---|
/// | `Unreachable` | the proxy P for T can't be reached: … | `Backoff` |
/// | `LoginRequired` | the proxy P wants a login to open the way to T: … | as with an HTTP 4xx of the server |
/// | `LoginRefused` | the proxy P, on the way to T, does not accept the login: … | as with an HTTP 4xx |
/// | `Forbidden` | the proxy P forbids the way to T: … | as with an HTTP 4xx |
/// | `TargetUnreachable` | the proxy P did not reach T: … | `Backoff` |
/// | `Refused` | the proxy P did not open the way to T: … | as with that HTTP status; with SOCKS, `Backoff` |
/// | `Ended` | the proxy P ended the connection before it had opened the way to T: … | `Backoff` |
/// | `Nonsense` | the proxy P, asked for the way to T, did not answer as it should: … | `Backoff` |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyErrorKind {
    /// The proxy itself was not reached: its name has no address, it took no connection, or TLS with it failed.
    Unreachable,
    /// It wants a login, and none is set (HTTP 407 or 401; a SOCKS proxy takes no client without one).
    LoginRequired,
    /// It does not accept the login (HTTP 407 or 401; SOCKS).
    LoginRefused,
    /// Its rules forbid the server or its port (HTTP 403, SOCKS reply 2).
    Forbidden,
    /// It did not reach the server (HTTP 500, 502, 503, 504 and the like, SOCKS replies 3 to 6).
    TargetUnreachable,
    /// It refused for another reason: any other HTTP status, a redirect too, and SOCKS replies 1, 7, 8.
    Refused,
    /// The connection to it ended or broke before it had answered.
    Ended,
    /// What it answered is not what such a proxy answers. The port may belong to something else.
    Nonsense,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proxy, target, reason, .. } = self;
        match self.kind {
            ProxyErrorKind::Unreachable => {
                write!(f, "the proxy {proxy} for {target} can't be reached: {reason}")
            }
            ProxyErrorKind::LoginRequired => {
                write!(f, "the proxy {proxy} wants a login to open the way to {target}: {reason}")
            }
            ProxyErrorKind::LoginRefused => {
                write!(f, "the proxy {proxy}, on the way to {target}, does not accept the login: {reason}")
            }
            ProxyErrorKind::Forbidden => write!(f, "the proxy {proxy} forbids the way to {target}: {reason}"),
            ProxyErrorKind::TargetUnreachable => {
                write!(f, "the proxy {proxy} did not reach {target}: {reason}")
            }
            ProxyErrorKind::Refused => {
                write!(f, "the proxy {proxy} did not open the way to {target}: {reason}")
            }
            ProxyErrorKind::Ended => {
                write!(
                    f,
                    "the proxy {proxy} ended the connection before it had opened the way to {target}: {reason}"
                )
            }
            ProxyErrorKind::Nonsense => {
                write!(
                    f,
                    "the proxy {proxy}, asked for the way to {target}, did not answer as it should: {reason}"
                )
            }
        }
    }
}

impl StdError for ProxyError {
    /// The nearest cause that the text does not include already.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        beyond(&self.to_string(), self.source.as_ref().map(|source| source.as_ref() as _))
    }
}
