//! The sentence of each error.

use std::fmt;
use std::time::Duration;

use crate::error::json::describe;
use crate::error::send::FORKED;
use crate::error::{CloseReason, Error, INTERNAL, Phase, advice, servers};
use crate::system::refusals::remedy;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUrl { reason } => write!(f, "the URL can't be used: {reason}"),
            Self::InvalidConfig { setting, reason } => {
                write!(f, "the setting {setting} can't be used: {reason}")
            }
            Self::InvalidArgument { argument, reason } => write!(f, "the {argument} can't be used: {reason}"),
            Self::Resolve { host, source } => write!(f, "looking up {host}: {source}{}", advice::of_look_up(host)),
            Self::Connect { host, source } => {
                write!(f, "connecting to {host}: {source}{}", advice::of_connect(host, source))
            }
            Self::Proxy(error) => error.fmt(f),
            Self::Tls { host, reason, .. } => write!(f, "TLS with {host}: {reason}"),
            Self::UpgradeRejected(rejection) => rejection.fmt(f),
            Self::Upgrade { host, reason, .. } => {
                write!(f, "{host} did not answer the WebSocket upgrade as it should: {reason}")
            }
            Self::ConnectTimeout { host, phase, after, source } => {
                write!(f, "connecting to {host} timed out after {after:?} while {phase}")?;
                source.iter().try_for_each(|source| write!(f, ": {source}"))?;
                f.write_str(advice::of_timeout(host, *phase, source.as_deref()))
            }
            Self::AllServersFailed { failures } => servers::fmt(failures, f),
            Self::LoginRefused { reason } => write!(f, "the server refused the login: {reason}"),
            Self::LoginTimeout { after } => write!(f, "the login was not accepted within {after:?} (or the protocol never called ready)"),
            Self::Session { reason } => write!(f, "the session can't go on: {reason}"),
            Self::Unanswered { reason } => write!(f, "the request will not be answered: {reason}"),
            Self::Answer { reason } => write!(f, "the server answered with an error: {reason}"),
            Self::ClosedByServer(frame) => write!(f, "the server closed the line with {frame}"),
            Self::ByCaller { call } => write!(f, "the application took the line down by `{call}`"),
            Self::ConnectionLost { source: None } => {
                f.write_str("the server ended the connection without a close frame (1006)")
            }
            Self::ConnectionLost { source: Some(source) } => write!(f, "the connection broke: {source}"),
            Self::HeartbeatTimeout { silence } => {
                write!(f, "heartbeat timeout: no answer for {}", brief(*silence))
            }
            Self::IdleTimeout { after } => write!(
                f,
                "the server sent no data for {after:?}, though the connection is open; if it may be silent for that long, raise idle_timeout"
            ),
            Self::WriteStalled { after } => {
                write!(f, "the server took no more bytes for {}", brief(*after))
            }
            Self::Protocol { code, reason } => {
                write!(
                    f,
                    "the server violated the WebSocket protocol: {reason} (closed with code {code})"
                )
            }
            Self::GaveUp { attempts: 0, source } => write!(f, "not reconnecting: {source}"),
            Self::GaveUp { attempts: 1, source } => write!(f, "gave up after one reconnect attempt: {source}"),
            Self::GaveUp { attempts, source } => {
                write!(f, "gave up after {attempts} reconnect attempts; the last: {source}")
            }
            Self::Timeout { waiting_for, after, source: None } => {
                write!(f, "timed out after {after:?} waiting for {waiting_for}")
            }
            Self::Timeout { waiting_for, after, source: Some(source) } => {
                write!(f, "timed out after {after:?} waiting for {waiting_for}: {source}")
            }
            Self::Unconfirmed { maybe_delivered, never_sent } => {
                if !maybe_delivered.is_empty() {
                    let why = "their connection ended before the server confirmed them";
                    let then = if never_sent.is_empty() { "" } else { "; " };
                    write!(f, "{maybe_delivered} may or may not have arrived: {why}{then}")?;
                }
                if never_sent.is_empty() {
                    return Ok(());
                }
                let why = "each waited longer than max_age, or was for one connection only, or the protocol's on_send failed for it on three connections (see the log), \
                           or the client was closed first";
                write!(f, "{never_sent} will never be sent: {why}")
            }
            Self::Send(kind) => kind.fmt(f),
            Self::Json { message, source } => describe(f, message.as_deref(), source),
            Self::Closed { reason: None } => {
                f.write_str("the client is closed; Client::wait_closed returns the reason")
            }
            Self::Closed { reason: Some(reason) } => match &**reason {
                CloseReason::ByCaller => f.write_str("the client is closed: the application closed it"),
                CloseReason::NotRetried(reason) => write!(f, "the client is closed: {reason}"),
                reason => write!(f, "the client is closed: {reason}"),
            },
            Self::WouldDeadlock => f.write_str(
                "a blocking call was made in a callback, on an I/O thread, where it would stop the line; make it on another thread",
            ),
            Self::Forked => f.write_str(FORKED),
            Self::Panicked { callback: INTERNAL } => f.write_str(
                "tautline itself panicked, or the program's logger did; unless it was the logger, this is a defect in the library: please report it",
            ),
            Self::Panicked { callback } => write!(f, "the application's {callback} callback panicked"),
            Self::System { what, source } => {
                write!(f, "the system refused {what}: {source}{}", remedy(source))
            }
        }
    }
}

/// A measured time, rounded to what is meaningful.
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
            Self::Start => "starting its thread",
            Self::Fetch => "in the application's fetch",
            Self::Resolve => "looking up the host name",
            Self::Connect => "waiting for the connection",
            Self::Proxy => "waiting for the proxy to open a way to the server",
            Self::Tls => "in the TLS handshake",
            Self::Upgrade => "waiting for the server's answer to the upgrade",
        })
    }
}
