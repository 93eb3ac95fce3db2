//! How to notice a dead peer.

use std::time::Duration;

use crate::config::setters::setters;
use crate::config::{Beat, invalid};
use crate::error::Error;

/// How to keep the line alive and to detect a dead peer.
///
/// ```
/// use std::time::Duration;
/// use tautline::{Beat, HeartbeatConfig};
///
/// let config = HeartbeatConfig::json().interval(Duration::from_secs(20));
/// assert_eq!(config.beat, Beat::Json);
/// assert_eq!(config.timeout, Duration::from_secs(10));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeartbeatConfig {
    /// The time between two heartbeats. Default 30 s.
    pub interval: Duration,
    /// How long a heartbeat may stay unanswered after it was written. Default 10 s.
    pub timeout: Duration,
    /// What is sent as a heartbeat. Default [`Beat::WebSocketPing`].
    pub beat: Beat,
    /// Whether only the answer to a heartbeat counts as a sign of life. Default `false`: any byte received does. A pong
    /// that does not repeat the payload of a ping does not answer it.
    pub strict: bool,
}

setters!(HeartbeatConfig { interval: Duration, timeout: Duration, beat: Beat, strict: bool });

impl HeartbeatConfig {
    /// Returns a configuration with JSON heartbeats: see [`Beat::Json`].
    pub fn json() -> Self {
        Self::default().beat(Beat::Json)
    }

    /// Returns a configuration without heartbeats: see [`Beat::Off`].
    pub fn off() -> Self {
        Self::default().beat(Beat::Off)
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        for (setting, duration) in
            [("heartbeat.interval", self.interval), ("heartbeat.timeout", self.timeout)]
        {
            if duration < Duration::from_millis(1) {
                return invalid(setting, format!("it is {duration:?}; at least 1 ms is needed"));
            }
        }
        Ok(())
    }
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            beat: Beat::default(),
            strict: false,
        }
    }
}
