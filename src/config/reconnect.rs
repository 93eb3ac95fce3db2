//! How to reconnect.

use std::time::Duration;

use crate::config::setters::setters;
use crate::config::{Jitter, invalid, not_zero};
use crate::error::Error;

/// How to reconnect after a loss.
///
/// With the defaults, the first attempt comes 1 s to 3 s after the loss. For large fleets, whose clients all lose their
/// lines at once, raise `initial_delay`: the first retry puts the highest load on the server.
///
/// ```
/// use std::time::Duration;
/// use tautline::ReconnectConfig;
///
/// let config = ReconnectConfig::default().initial_delay(Duration::from_secs(5)).max_attempts(10);
/// assert_eq!(config.max_delay, Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReconnectConfig {
    /// The shortest delay; with the default jitter, the first is 1 to 3 times as long. Default 1 s. Never under 10 ms.
    pub initial_delay: Duration,
    /// The longest delay before an attempt, at least `initial_delay`. Default 30 s.
    pub max_delay: Duration,
    /// The factor by which the delay grows with each failed attempt. At least 1. Default 2.
    pub multiplier: f64,
    /// How many reconnects may fail in a row before the client gives up; 0 never reconnects. A round through a list of
    /// [`servers`](field@crate::ConnectionConfig::servers) counts as one. Default: no limit.
    pub max_attempts: Option<u32>,
    /// How the delay is randomized. Default [`Jitter::Decorrelated`].
    pub jitter: Jitter,
}

setters!(ReconnectConfig {
    initial_delay: Duration,
    max_delay: Duration,
    multiplier: f64,
    max_attempts: u32,
    jitter: Jitter,
});

impl ReconnectConfig {
    /// Returns a configuration that never reconnects by itself: the first loss closes the client.
    pub fn never() -> Self {
        Self::default().max_attempts(0)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        not_zero("reconnect.initial_delay", self.initial_delay)?;
        if self.initial_delay > self.max_delay {
            let why = format!(
                "it is {:?}, more than max_delay ({:?}): raise max_delay or lower initial_delay",
                self.initial_delay, self.max_delay
            );
            return invalid("reconnect.initial_delay", why);
        }
        if !(self.multiplier.is_finite() && self.multiplier >= 1.0) {
            let why = format!("it is {}; a number of at least 1 is needed", self.multiplier);
            return invalid("reconnect.multiplier", why);
        }
        Ok(())
    }
}

impl Default for ReconnectConfig {
    fn default() -> Self {
        Self {
            initial_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(30),
            multiplier: 2.0,
            max_attempts: None,
            jitter: Jitter::default(),
        }
    }
}
