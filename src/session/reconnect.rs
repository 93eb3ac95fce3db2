//! When the next attempt is due.

use std::time::{Duration, Instant};

use log::info;

use crate::config::{ReconnectConfig, SHORTEST_DELAY, deadline};
use crate::error::Error;
use crate::logging::LOG;
use crate::protocol::Retry;
use crate::session::backoff::ExponentialBackoff;

/// The delay between the attempts of a round through the servers.
pub(crate) const BETWEEN_SERVERS: Duration = Duration::from_millis(100);

/// Plans the attempts after a loss. It has no thread and no clock: it says when an attempt is due, and the caller
/// reports when that time has come.
///
/// Each plan has a generation number. A timer that fires late, for a plan that was cancelled or replaced, has no
/// effect.
///
/// ```
/// use std::time::Instant;
/// use tautline::{ReconnectConfig, ReconnectionManager, Retry};
///
/// let mut manager = ReconnectionManager::new(ReconnectConfig::default())?;
/// let plan = manager.schedule_reconnect(Instant::now(), Retry::Backoff).expect("attempts are unlimited");
/// assert_eq!(plan.attempt, 1);
/// assert!(manager.is_scheduled());
///
/// manager.cancel_reconnect();
/// assert!(!manager.handle_due(plan.generation), "a late timer revives nothing");
/// # Ok::<(), tautline::Error>(())
/// ```
#[derive(Debug)]
pub struct ReconnectionManager {
    backoff: ExponentialBackoff,
    /// When the planned attempt is due.
    scheduled: Option<Instant>,
    generation: u64,
}

/// A planned attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReconnectPlan {
    /// The time of the attempt.
    pub attempt: u32,
    /// The delay until the attempt.
    pub delay: Duration,
    /// When.
    pub at: Instant,
    /// The number to pass to [`handle_due`](ReconnectionManager::handle_due).
    pub generation: u64,
}

impl ReconnectionManager {
    /// Returns a manager without a plan.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] names the invalid setting.
    pub fn new(config: ReconnectConfig) -> Result<Self, Error> {
        ExponentialBackoff::new(config).map(Self::with_backoff)
    }

    /// Like [`new`](Self::new), with a backoff of your own.
    pub fn with_backoff(backoff: ExponentialBackoff) -> Self {
        Self { backoff, scheduled: None, generation: 0 }
    }

    /// Plans the next attempt, replacing an earlier plan. For [`Retry::Never`], and when all attempts have been made,
    /// it removes the plan and returns `None`.
    pub fn schedule_reconnect(&mut self, now: Instant, retry: Retry) -> Option<ReconnectPlan> {
        self.schedule_not_before(now, retry, Duration::ZERO)
    }

    /// Like [`schedule_reconnect`](Self::schedule_reconnect), but a delay of the backoff is at least `floor`.
    pub(crate) fn schedule_not_before(
        &mut self,
        now: Instant,
        retry: Retry,
        floor: Duration,
    ) -> Option<ReconnectPlan> {
        self.cancel_reconnect();
        if retry == Retry::Never || self.has_given_up() {
            return None;
        }
        let backoff = self.backoff.next_delay();
        let delay = match retry {
            Retry::Backoff => backoff.max(floor),
            Retry::After(delay) => delay.max(SHORTEST_DELAY),
            Retry::Now | Retry::Never => Duration::ZERO,
        };
        let plan = self.plan(now, delay);
        info!(target: LOG, "Scheduling reconnect attempt {} in {}ms", plan.attempt, delay.as_millis());
        Some(plan)
    }

    /// Plans the next attempt of a round, replacing an earlier plan: at the next server, or with fresh credentials. It takes
    /// no step of the backoff.
    pub(crate) fn schedule_in_round(&mut self, now: Instant, retry: Retry) -> ReconnectPlan {
        self.cancel_reconnect();
        let delay = match retry {
            Retry::Now => Duration::ZERO,
            Retry::After(delay) => delay.max(SHORTEST_DELAY),
            Retry::Backoff | Retry::Never => BETWEEN_SERVERS,
        };
        info!(target: LOG, "The next attempt of this round is made in {}ms", delay.as_millis());
        self.plan(now, delay)
    }

    fn plan(&mut self, now: Instant, delay: Duration) -> ReconnectPlan {
        let at = deadline(now, delay);
        self.scheduled = Some(at);
        ReconnectPlan { attempt: self.backoff.attempts(), delay, at, generation: self.generation }
    }

    /// Reports that the time of a plan has come. Returns `true` if the attempt is to be made now.
    pub fn handle_due(&mut self, generation: u64) -> bool {
        generation == self.generation && self.cancel_reconnect()
    }

    /// Removes the plan. Returns `true` if there was one.
    pub fn cancel_reconnect(&mut self) -> bool {
        self.generation += 1;
        self.scheduled.take().is_some()
    }

    /// Restarts the backoff, once the line has been stable.
    pub fn reset_backoff(&mut self) {
        self.backoff.reset();
    }

    /// Removes the plan and restarts the backoff.
    pub fn cleanup(&mut self) {
        self.cancel_reconnect();
        self.reset_backoff();
    }

    /// Whether an attempt is planned.
    pub fn is_scheduled(&self) -> bool {
        self.scheduled.is_some()
    }

    /// When the planned attempt is due.
    pub(crate) fn next_attempt(&self) -> Option<Instant> {
        self.scheduled
    }

    /// Returns how many attempts were planned since the last reset.
    pub fn attempts(&self) -> u32 {
        self.backoff.attempts()
    }

    /// Whether all attempts that the configuration allows have been made.
    pub(crate) fn has_given_up(&self) -> bool {
        self.backoff.has_exceeded_max_attempts()
    }

    pub(crate) fn max_delay(&self) -> Duration {
        self.backoff.config().max_delay
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source; the tests step from it")]
mod tests {
    use super::*;

    fn manager(config: ReconnectConfig) -> ReconnectionManager {
        ReconnectionManager::with_backoff(ExponentialBackoff::with_random(config, || 0.5).unwrap())
    }

    #[test]
    fn a_plan_says_when_and_is_due_once() {
        let now = Instant::now();
        let mut manager = manager(ReconnectConfig::default());
        let plan = manager.schedule_reconnect(now, Retry::Backoff).unwrap();
        assert_eq!(
            (plan.attempt, plan.delay, plan.at),
            (1, Duration::from_secs(2), now + Duration::from_secs(2))
        );
        assert!(manager.is_scheduled());
        assert!(manager.handle_due(plan.generation));
        assert!(!manager.is_scheduled());
        assert!(!manager.handle_due(plan.generation));
    }

    #[test]
    fn a_late_timer_does_not_make_the_attempt_of_a_newer_plan() {
        let now = Instant::now();
        let mut manager = manager(ReconnectConfig::default());
        let old = manager.schedule_reconnect(now, Retry::Backoff).unwrap();
        let new = manager.schedule_reconnect(now, Retry::Backoff).unwrap();
        assert!(!manager.handle_due(old.generation));
        assert!(manager.is_scheduled());
        assert!(manager.handle_due(new.generation));
    }

    #[test]
    fn each_decision_has_its_delay() {
        let now = Instant::now();
        let mut manager = manager(ReconnectConfig::default());
        let ms = |plan: Option<ReconnectPlan>| plan.unwrap().delay.as_millis();
        assert_eq!(ms(manager.schedule_reconnect(now, Retry::Now)), 0);
        assert_eq!(ms(manager.schedule_reconnect(now, Retry::After(Duration::from_millis(17)))), 17);
        assert_eq!(ms(manager.schedule_not_before(now, Retry::Backoff, Duration::from_secs(60))), 60_000);
        assert_eq!(ms(manager.schedule_not_before(now, Retry::Backoff, Duration::from_secs(1))), 12_500);
        assert_eq!(ms(manager.schedule_reconnect(now, Retry::After(Duration::ZERO))), 10);
        assert!(manager.schedule_reconnect(now, Retry::Never).is_none());
        assert!(!manager.is_scheduled());
    }

    #[test]
    fn attempts_end_at_the_maximum_and_begin_anew_after_a_reset() {
        let now = Instant::now();
        let mut manager = manager(ReconnectConfig::default().max_attempts(2));
        assert!(manager.schedule_reconnect(now, Retry::Backoff).is_some());
        assert!(manager.schedule_reconnect(now, Retry::Now).is_some());
        assert!(manager.schedule_reconnect(now, Retry::Backoff).is_none());
        assert_eq!(manager.attempts(), 2);
        manager.reset_backoff();
        assert_eq!(manager.schedule_reconnect(now, Retry::Backoff).unwrap().attempt, 1);
        manager.cleanup();
        assert_eq!((manager.attempts(), manager.is_scheduled()), (0, false));
    }
}
