//! What follows a loss.

use std::fmt;
use std::time::{Duration, SystemTime};

use crate::endpoint::Endpoint;
use crate::error::{CloseFrame, Error, ProxyErrorKind, Rejection};
use crate::event::DisconnectReason;

/// What to do after a failed attempt or a loss.
///
/// The first rule that matches applies:
///
/// | what happened | what follows |
/// |---|---|
/// | close code 1000 or 1008 | `Never` |
/// | HTTP 401 or 403, or a refused login, and there is a [`fetch`](crate::Builder::fetch) | `Now`, with fresh credentials at the same server, once since the line was last ready. A protocol that has fresh ones without a `fetch` returns this itself: see [`Loss::wants_credentials`] |
/// | HTTP 408, 425, 429 or 5xx | `Backoff`, but not before the server's `Retry-After` (at most [`retry_after_cap`](crate::ConnectionConfig::retry_after_cap)) |
/// | another HTTP 4xx, a 3xx, or a refused login, and another server of the [list](field@crate::ConnectionConfig::servers) has not refused | `Backoff`, and the server is left out for `max_delay` |
/// | another HTTP 4xx, a 3xx, or a refused login | `Never` if the line was never ready; otherwise `After(max_delay)`, or after the server's `Retry-After` if that is later, because a server that is being replaced must not end the client for good |
/// | a [proxy](crate::Proxy) wants a login, refuses it, forbids the way, or answers another 3xx or 4xx | as with another HTTP 4xx |
/// | a proxy answers 408, 425, 429 or 5xx | `Backoff`, but not before the proxy's `Retry-After` |
/// | the caller took the line down by `suspend` or `reconnect` | an attempt at once, or none before `resume`, whatever the protocol says |
/// | anything else | `Backoff` |
///
/// The [front page](crate#what-stops-a-line) has the same for each error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Try again after the next delay of the backoff. If another server of the list has not been tried in this round, try
    /// that one after 100 ms.
    Backoff,
    /// Try again at once. If the line was not stable since the last `Now`, try again after 100 ms.
    Now,
    /// Try again after exactly this time, at least 10 ms.
    After(Duration),
    /// Close the client.
    Never,
}

/// A failed attempt or a lost connection, with what is needed to decide what follows. `Debug` shows no secret.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Loss<'a> {
    /// What happened.
    pub reason: &'a DisconnectReason,
    /// The server: its URL in the [list](field@crate::ConnectionConfig::servers).
    pub url: &'a str,
    /// Whether the line was ever ready.
    pub ever_ready: bool,
    /// How long the lost line was ready; `None` for a failed attempt.
    pub ready_for: Option<Duration>,
    /// How many attempts were made since the line was last ready.
    pub attempts: u32,
    /// How many attempts failed or connections were lost in a row, including this one, since the line was ready for at
    /// least [`stable_after`](crate::ConnectionConfig::stable_after).
    pub failures: u32,
    /// The longest delay of the backoff.
    pub(crate) max_delay: Duration,
    /// Whether there is a `fetch`.
    pub(crate) fetches: bool,
    /// Whether fresh credentials have been tried since the line was last ready.
    pub(crate) refreshed: bool,
    /// Whether another server has not refused.
    pub(crate) has_other: bool,
    /// How long a `Retry-After` keeps every server away.
    pub(crate) rest: Duration,
}

impl Loss<'_> {
    /// Returns what the rules of [`Retry`] say.
    pub fn default_retry(&self) -> Retry {
        match self.reason {
            _ if self.fetches && self.wants_credentials() => Retry::Now,
            _ if self.is_refusal() => match (self.has_other, self.ever_ready) {
                (true, _) => Retry::Backoff,
                (false, true) => Retry::After(self.max_delay.max(self.rest)),
                (false, false) => Retry::Never,
            },
            DisconnectReason::ClosedByServer(CloseFrame { code: 1000 | 1008, .. }) => Retry::Never,
            DisconnectReason::ByCaller { .. } => Retry::Now,
            _ => Retry::Backoff,
        }
    }

    /// Whether the server has refused the credentials (HTTP 401 or 403, or a refused login), and no fresh ones were tried
    /// since the line was last ready.
    ///
    /// If a protocol then has fresh ones for the next [`prepare`](crate::Protocol::prepare) or login, it returns
    /// [`Retry::Now`]. The attempt is repeated once with them, at the same server. That costs no reconnect, and holds for
    /// the one attempt of [`connect`](crate::Client::connect), too. With a [`fetch`](crate::Builder::fetch),
    /// [`default_retry`](Self::default_retry) returns the same.
    ///
    /// ```
    /// use tautline::{Attempt, Error, Loss, Protocol, Retry, UpgradeRequest};
    ///
    /// /// Has a second key for the time in which the first one is replaced.
    /// struct TwoKeys {
    ///     key: String,
    ///     other: String,
    /// }
    ///
    /// impl Protocol for TwoKeys {
    ///     fn prepare(&mut self, _: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
    ///         request.set_header("Authorization", format!("Bearer {}", self.key));
    ///         Ok(())
    ///     }
    ///
    ///     fn on_down(&mut self, down: &Loss<'_>) -> Retry {
    ///         if down.wants_credentials() {
    ///             std::mem::swap(&mut self.key, &mut self.other);
    ///             return Retry::Now;
    ///         }
    ///         down.default_retry()
    ///     }
    /// }
    /// # let _ = TwoKeys { key: String::new(), other: String::new() };
    /// ```
    pub fn wants_credentials(&self) -> bool {
        self.is_about_credentials() && !self.refreshed
    }

    /// Whether the server would refuse the same attempt again.
    pub(crate) fn is_refusal(&self) -> bool {
        let refuses = |status| matches!(status, 300..=499) && !matches!(status, 408 | 425 | 429);
        match self.reason {
            DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection)) => refuses(rejection.status),
            DisconnectReason::ConnectFailed(Error::Proxy(error)) => match error.kind {
                ProxyErrorKind::LoginRequired | ProxyErrorKind::LoginRefused | ProxyErrorKind::Forbidden => {
                    true
                }
                ProxyErrorKind::Refused => error.answer.as_ref().is_some_and(|answer| refuses(answer.status)),
                _ => false,
            },
            _ => self.is_about_credentials(),
        }
    }

    /// Whether the server rejected our credentials.
    pub(crate) fn is_about_credentials(&self) -> bool {
        match self.reason {
            DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection)) => {
                matches!(rejection.status, 401 | 403)
            }
            DisconnectReason::ConnectFailed(error) | DisconnectReason::Lost(error) => {
                matches!(error, Error::LoginRefused { .. })
            }
            DisconnectReason::ClosedByServer(_) | DisconnectReason::ByCaller { .. } => false,
        }
    }

    /// The HTTP answer of the server, or of the proxy, that ended the attempt.
    fn answer(&self) -> Option<&Rejection> {
        match self.reason {
            DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection)) => Some(rejection),
            DisconnectReason::ConnectFailed(Error::Proxy(error)) => error.answer.as_ref(),
            _ => None,
        }
    }

    /// How long the server asked us to stay away: `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
    pub(crate) fn retry_after(&self, wall: SystemTime) -> Option<Duration> {
        let value = self.answer()?.header("Retry-After")?.trim();
        if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
            return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
        }
        let date = httpdate::parse_http_date(value).ok()?;
        Some(date.duration_since(wall).unwrap_or_default())
    }
}

impl fmt::Debug for Loss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loss")
            .field("reason", &self.reason)
            .field("url", &Endpoint::redacted(self.url))
            .field("ever_ready", &self.ever_ready)
            .field("ready_for", &self.ready_for)
            .field("attempts", &self.attempts)
            .field("failures", &self.failures)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ProxyError;
    use std::sync::Arc;

    fn rejected(status: u16, retry_after: Option<&str>) -> DisconnectReason {
        let headers =
            retry_after.map(|value| ("retry-after".to_owned(), value.to_owned())).into_iter().collect();
        let rejection = Rejection::new(status, "", headers);
        DisconnectReason::ConnectFailed(Error::UpgradeRejected(Arc::new(rejection)))
    }

    fn down(reason: &DisconnectReason, ever_ready: bool) -> Loss<'_> {
        let max_delay = Duration::from_secs(30);
        let url = "ws://bob:s3cret@h";
        Loss {
            reason,
            url,
            ever_ready,
            ready_for: None,
            attempts: 1,
            failures: 1,
            max_delay,
            fetches: false,
            refreshed: false,
            has_other: false,
            rest: Duration::ZERO,
        }
    }

    fn by_proxy(kind: ProxyErrorKind, status: Option<u16>, retry_after: Option<&str>) -> DisconnectReason {
        let answer = status.map(|status| {
            let headers = retry_after.map(|value| ("Retry-After".to_owned(), value.to_owned()));
            Rejection::new(status, "", headers.into_iter().collect())
        });
        let (proxy, target, reason) = ("p:1".into(), "h:80".into(), "no".into());
        let error = ProxyError { proxy, target, kind, reason, source: None, answer };
        DisconnectReason::ConnectFailed(Error::Proxy(Arc::new(error)))
    }

    #[test]
    fn a_proxy_that_refuses_is_like_a_server_that_does_and_one_that_fails_is_tried_again() {
        use ProxyErrorKind::{
            Ended, Forbidden, LoginRefused, LoginRequired, Nonsense, Refused, TargetUnreachable, Unreachable,
        };
        for (kind, status) in [
            (LoginRequired, Some(407)),
            (LoginRefused, Some(401)),
            (Forbidden, Some(403)),
            (Refused, Some(302)),
            (Refused, Some(405)),
            // By SOCKS.
            (LoginRequired, None),
            (LoginRefused, None),
            (Forbidden, None),
        ] {
            let reason = by_proxy(kind, status, None);
            // Fresh credentials for the server are no login for the proxy.
            let never = Loss { fetches: true, ..down(&reason, false) };
            assert_eq!(never.default_retry(), Retry::Never, "{reason}");
            assert_eq!(
                down(&reason, true).default_retry(),
                Retry::After(Duration::from_secs(30)),
                "{reason}"
            );
            let other = Loss { has_other: true, ..down(&reason, false) };
            assert_eq!(other.default_retry(), Retry::Backoff, "{reason}");
        }
        for (kind, status) in [
            (Unreachable, None),
            (TargetUnreachable, None),
            (TargetUnreachable, Some(502)),
            (Refused, None),
            (Refused, Some(429)),
            (Refused, Some(501)),
            (Refused, Some(101)),
            (Ended, None),
            (Nonsense, None),
        ] {
            let reason = by_proxy(kind, status, None);
            assert_eq!(down(&reason, false).default_retry(), Retry::Backoff, "{reason}");
            assert!(!down(&reason, true).is_refusal(), "{reason}");
        }
    }

    #[test]
    fn the_retry_after_of_a_proxy_counts_as_that_of_the_server() {
        for (kind, status) in [(ProxyErrorKind::TargetUnreachable, 503), (ProxyErrorKind::LoginRequired, 407)]
        {
            let reason = by_proxy(kind, Some(status), Some("7"));
            let wait = down(&reason, false).retry_after(SystemTime::UNIX_EPOCH);
            assert_eq!(wait, Some(Duration::from_secs(7)));
        }
        let by_socks = by_proxy(ProxyErrorKind::Forbidden, None, None);
        assert_eq!(down(&by_socks, false).retry_after(SystemTime::UNIX_EPOCH), None);
    }

    #[test]
    fn a_refusal_of_a_line_that_was_ready_is_waited_out_until_the_later_of_both() {
        let by_proxy = by_proxy(ProxyErrorKind::LoginRequired, Some(407), None);
        for reason in [by_proxy, rejected(403, None)] {
            for (rest, wait) in [(0, 30), (29, 30), (31, 31)] {
                let down = Loss { rest: Duration::from_secs(rest), ..down(&reason, true) };
                assert_eq!(down.default_retry(), Retry::After(Duration::from_secs(wait)), "{reason}");
                assert_eq!(Loss { ever_ready: false, ..down }.default_retry(), Retry::Never, "{reason}");
            }
        }
    }

    #[test]
    fn debug_output_keeps_the_secrets_of_the_url() {
        let shown = format!("{:?}", down(&rejected(503, None), false));
        assert!(shown.contains("ws://h:80") && !shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_refusal_does_not_close_a_client_that_has_another_server() {
        let refusal = DisconnectReason::ConnectFailed(Error::login_refused("no"));
        for reason in [rejected(401, None), rejected(404, None), rejected(301, None), refusal] {
            for ever_ready in [false, true] {
                let down = Loss { has_other: true, ..down(&reason, ever_ready) };
                assert!(down.is_refusal());
                assert_eq!(down.default_retry(), Retry::Backoff);
            }
        }
        for reason in [rejected(429, None), rejected(503, None), rejected(200, None)] {
            assert!(!down(&reason, true).is_refusal(), "{reason}");
        }
        let closed = DisconnectReason::ClosedByServer(CloseFrame::new(1000, ""));
        let down = Loss { has_other: true, ..down(&closed, true) };
        assert_eq!(down.default_retry(), Retry::Never, "it is the session that has ended");
    }

    #[test]
    fn the_status_decides() {
        for status in [408, 425, 429, 500, 502, 503, 599] {
            assert_eq!(down(&rejected(status, None), false).default_retry(), Retry::Backoff, "{status}");
        }
        for status in [301, 302, 400, 401, 403, 404, 426] {
            let reason = rejected(status, None);
            assert_eq!(down(&reason, false).default_retry(), Retry::Never, "{status}");
            assert_eq!(
                down(&reason, true).default_retry(),
                Retry::After(Duration::from_secs(30)),
                "{status}"
            );
        }
    }

    #[test]
    fn fresh_credentials_are_tried_once_where_there_are_any() {
        let refusal = DisconnectReason::ConnectFailed(Error::login_refused("no"));
        for reason in [rejected(401, None), rejected(403, None), refusal] {
            let down = Loss { fetches: true, ..down(&reason, false) };
            assert_eq!((down.default_retry(), down.wants_credentials()), (Retry::Now, true));
            let again = Loss { refreshed: true, ..down };
            assert_eq!((again.default_retry(), again.wants_credentials()), (Retry::Never, false));
            let without = Loss { fetches: false, ..down };
            assert_eq!((without.default_retry(), without.wants_credentials()), (Retry::Never, true));
        }
        let gone = rejected(404, None);
        let gone = Loss { fetches: true, ..down(&gone, false) };
        assert_eq!((gone.default_retry(), gone.wants_credentials()), (Retry::Never, false));
    }

    #[test]
    fn the_close_code_decides() {
        for (code, retry) in
            [(1000, Retry::Never), (1008, Retry::Never), (1001, Retry::Backoff), (4000, Retry::Backoff)]
        {
            let reason = DisconnectReason::ClosedByServer(CloseFrame::new(code, ""));
            assert_eq!(down(&reason, true).default_retry(), retry, "{code}");
        }
        let lost = DisconnectReason::Lost(Error::ConnectionLost { source: None });
        assert_eq!(down(&lost, false).default_retry(), Retry::Backoff);
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_767); // Sun, 06 Nov 1994 08:49:27 GMT
        let after = |value| down(&rejected(503, Some(value)), false).retry_after(wall).map(|d| d.as_secs());
        assert_eq!(after("120"), Some(120));
        assert_eq!(after(" 7 "), Some(7));
        assert_eq!(after("99999999999999999999999"), Some(u64::MAX));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(10));
        assert_eq!(after("Sunday, 06-Nov-94 08:49:37 GMT"), Some(10));
        assert_eq!(after("Sun Nov  6 08:49:37 1994"), Some(10));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        for nonsense in ["", "-1", "1.5", "soon", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(after(nonsense), None, "{nonsense}");
        }
        assert_eq!(down(&rejected(503, None), false).retry_after(wall), None);
    }
}
