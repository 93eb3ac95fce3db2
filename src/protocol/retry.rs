//! What follows a loss.

use std::time::{Duration, SystemTime};

use crate::error::{CloseFrame, Error};
use crate::event::DisconnectReason;

/// What to do after a failed attempt or a loss.
///
/// The first rule that matches applies:
///
/// | what happened | what follows |
/// |---|---|
/// | close code 1000 or 1008 | `Never` |
/// | HTTP 401 or 403, or a refused login, and there is a [`fetch`](crate::Builder::fetch) | `Now`, with fresh credentials, once since the line was last ready |
/// | HTTP 408, 425, 429 or 5xx | `Backoff`, but not before the server's `Retry-After` (at most [`retry_after_cap`](crate::ConnectionConfig::retry_after_cap)) |
/// | another HTTP 4xx, a 3xx, or a refused login | `Never` if the line was never ready; otherwise `After(max_delay)`, because a server that is being replaced must not end the client for good |
/// | anything else | `Backoff` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Try again after the next delay of the backoff.
    Backoff,
    /// Try again at once. If the line was not stable since the last `Now`, try again after 100 ms.
    Now,
    /// Try again after exactly this time, at least 10 ms.
    After(Duration),
    /// Close the client.
    Never,
}

/// A failed attempt or a lost connection, with what is needed to decide what follows.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Loss<'a> {
    /// What happened.
    pub reason: &'a DisconnectReason,
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
    /// Whether fresh credentials can be fetched, and have not been since the line was last ready.
    pub(crate) can_refresh: bool,
}

impl Loss<'_> {
    /// Returns what the rules of [`Retry`] say.
    pub fn default_retry(&self) -> Retry {
        let refused = if self.ever_ready { Retry::After(self.max_delay) } else { Retry::Never };
        if self.is_about_credentials() {
            return if self.can_refresh { Retry::Now } else { refused };
        }
        match self.reason {
            DisconnectReason::ClosedByServer(CloseFrame { code: 1000 | 1008, .. }) => Retry::Never,
            DisconnectReason::ByCaller { .. } => Retry::Now,
            DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection)) => match rejection.status {
                408 | 425 | 429 => Retry::Backoff,
                300..=499 => refused,
                _ => Retry::Backoff,
            },
            _ => Retry::Backoff,
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

    /// How long the server asked us to stay away: `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
    pub(crate) fn retry_after(&self, wall: SystemTime) -> Option<Duration> {
        let DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection)) = self.reason else {
            return None;
        };
        let value = rejection.header("Retry-After")?.trim();
        if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
            return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
        }
        let date = httpdate::parse_http_date(value).ok()?;
        Some(date.duration_since(wall).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Rejection;
    use std::sync::Arc;

    fn rejected(status: u16, retry_after: Option<&str>) -> DisconnectReason {
        let headers =
            retry_after.map(|value| ("retry-after".to_owned(), value.to_owned())).into_iter().collect();
        let rejection = Rejection::new(status, "", headers);
        DisconnectReason::ConnectFailed(Error::UpgradeRejected(Arc::new(rejection)))
    }

    fn down(reason: &DisconnectReason, ever_ready: bool) -> Loss<'_> {
        let max_delay = Duration::from_secs(30);
        Loss { reason, ever_ready, ready_for: None, attempts: 1, failures: 1, max_delay, can_refresh: false }
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
            let down = Loss { can_refresh: true, ..down(&reason, false) };
            assert_eq!(down.default_retry(), Retry::Now);
            assert_eq!(Loss { can_refresh: false, ..down }.default_retry(), Retry::Never);
        }
        let gone = rejected(404, None);
        assert_eq!(Loss { can_refresh: true, ..down(&gone, false) }.default_retry(), Retry::Never);
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
