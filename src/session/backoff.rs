//! How long to stay away after a failure.

use std::fmt;
use std::time::Duration;

use crate::config::{Jitter, ReconnectConfig, SHORTEST_DELAY};
use crate::error::Error;

/// Delays that grow with each failed attempt, randomized by jitter.
///
/// A delay is `min(initial_delay * multiplier^attempts, max_delay)`, to which the [`Jitter`] is applied. It is rounded
/// down to whole milliseconds, and is at least 10 ms.
///
/// The default jitter is the decorrelated one of Brooker, *Exponential Backoff And Jitter* (AWS, 2015), applied to that
/// base instead of the previous delay.
///
/// ```
/// use std::time::Duration;
/// use tautline::{ExponentialBackoff, ReconnectConfig};
///
/// let mut backoff = ExponentialBackoff::new(ReconnectConfig::default().max_attempts(2))?;
/// let first = backoff.next_delay();
/// assert!(first >= Duration::from_secs(1) && first <= Duration::from_secs(3));
/// backoff.next_delay();
/// assert!(backoff.has_exceeded_max_attempts());
/// backoff.reset();
/// assert_eq!(backoff.attempts(), 0);
/// # Ok::<(), tautline::Error>(())
/// ```
pub struct ExponentialBackoff {
    config: ReconnectConfig,
    attempts: u32,
    random: Random,
}

/// A source of numbers uniform in [0, 1).
type Random = Box<dyn FnMut() -> f64 + Send>;

impl ExponentialBackoff {
    /// Returns a backoff before its first attempt.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] names the invalid setting.
    pub fn new(config: ReconnectConfig) -> Result<Self, Error> {
        Self::with_random(config, fastrand::f64)
    }

    /// Like [`new`](Self::new), with a random source of your own. The source returns numbers uniform in [0, 1).
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] names the invalid setting.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tautline::{ExponentialBackoff, ReconnectConfig};
    /// let mut backoff = ExponentialBackoff::with_random(ReconnectConfig::default(), || 0.5)?;
    /// assert_eq!(backoff.next_delay(), Duration::from_secs(2));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn with_random(
        config: ReconnectConfig,
        random: impl FnMut() -> f64 + Send + 'static,
    ) -> Result<Self, Error> {
        config.check()?;
        Ok(Self { config, attempts: 0, random: Box::new(random) })
    }

    /// Returns the delay before the next attempt, and counts that attempt.
    pub fn next_delay(&mut self) -> Duration {
        let initial = self.config.initial_delay.as_secs_f64();
        let max = self.config.max_delay.as_secs_f64();
        let exponent = i32::try_from(self.attempts).unwrap_or(i32::MAX);
        // An overflow gives infinity; the minimum of infinity and `max` is `max`.
        let base = (initial * self.config.multiplier.powi(exponent)).min(max);
        self.attempts = self.attempts.saturating_add(1);
        // Correct a random source that leaves its range: a delay must be neither NaN nor negative.
        let random = (self.random)();
        let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.5 };
        let seconds = match self.config.jitter {
            Jitter::Decorrelated => (random * (3.0 * base - initial) + initial).min(max),
            Jitter::Full => random * base,
            Jitter::Equal => base / 2.0 + random * base / 2.0,
            Jitter::None => base,
        };
        let delay = Duration::try_from_secs_f64(seconds).unwrap_or(self.config.max_delay);
        Duration::new(delay.as_secs(), delay.subsec_millis() * 1_000_000).max(SHORTEST_DELAY)
    }

    /// Starts over: the next delay is that of the first attempt.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Returns how many delays were returned since the start or the last reset.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether all attempts that the configuration allows have been made.
    pub fn has_exceeded_max_attempts(&self) -> bool {
        self.config.max_attempts.is_some_and(|max| self.attempts >= max)
    }

    pub(crate) fn config(&self) -> &ReconnectConfig {
        &self.config
    }
}

impl fmt::Debug for ExponentialBackoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExponentialBackoff")
            .field("config", &self.config)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(config: ReconnectConfig, random: f64, n: usize) -> Vec<u128> {
        let mut backoff = ExponentialBackoff::with_random(config, move || random).unwrap();
        (0..n).map(|_| backoff.next_delay().as_millis()).collect()
    }

    #[test]
    fn decorrelated_jitter_follows_the_formula_to_the_letter() {
        let config = ReconnectConfig::default;
        // random * (3 * base - initial) + initial, for bases of 1, 2, 4, 8, 16, 30, 30 s
        assert_eq!(delays(config(), 0.0, 4), [1000, 1000, 1000, 1000]);
        assert_eq!(delays(config(), 0.5, 7), [2000, 3500, 6500, 12_500, 24_500, 30_000, 30_000]);
        assert_eq!(delays(config(), 0.1, 7), [1200, 1500, 2100, 3300, 5700, 9900, 9900]);
        assert_eq!(delays(config(), 0.999_999, 2), [2999, 5999], "floored to whole milliseconds");
    }

    #[test]
    fn the_other_jitters_follow_theirs() {
        let config = |jitter| ReconnectConfig::default().jitter(jitter);
        assert_eq!(delays(config(Jitter::Full), 0.5, 6), [500, 1000, 2000, 4000, 8000, 15_000]);
        assert_eq!(delays(config(Jitter::Equal), 0.5, 6), [750, 1500, 3000, 6000, 12_000, 22_500]);
        assert_eq!(delays(config(Jitter::None), 0.5, 6), [1000, 2000, 4000, 8000, 16_000, 30_000]);
    }

    #[test]
    fn once_the_base_is_at_the_maximum_two_delays_in_three_are_the_maximum() {
        let mut source = fastrand::Rng::with_seed(7);
        let mut backoff =
            ExponentialBackoff::with_random(ReconnectConfig::default(), move || source.f64()).unwrap();
        let at_max = (0..100_000).filter(|_| backoff.next_delay() == Duration::from_secs(30)).count();
        assert!((66_000..69_000).contains(&at_max), "{at_max}");
    }

    #[test]
    fn nothing_overflows_after_any_number_of_attempts() {
        for multiplier in [1.0, 2.0, f64::MAX] {
            let config = ReconnectConfig::default().multiplier(multiplier);
            let mut backoff = ExponentialBackoff::new(config).unwrap();
            for _ in 0..10_000 {
                let delay = backoff.next_delay();
                assert!(delay >= Duration::from_secs(1) && delay <= Duration::from_secs(30));
            }
            backoff.attempts = u32::MAX;
            backoff.next_delay();
            assert_eq!(backoff.attempts(), u32::MAX);
        }
    }

    #[test]
    fn extreme_settings_give_extreme_delays_and_no_panic() {
        let config = ReconnectConfig::default().initial_delay(Duration::MAX).max_delay(Duration::MAX);
        assert!(delays(config, 1.0, 3).iter().all(|ms| *ms > 0));
    }

    #[test]
    fn no_setting_makes_a_delay_shorter_than_ten_milliseconds() {
        let nanosecond = Duration::from_nanos(1);
        for jitter in [Jitter::Decorrelated, Jitter::Full, Jitter::Equal, Jitter::None] {
            let tiny = ReconnectConfig::default().initial_delay(nanosecond).jitter(jitter);
            let config = tiny.clone().max_delay(nanosecond).multiplier(1.0);
            assert_eq!(delays(config, 0.5, 3), [10; 3]);
            assert_eq!(delays(tiny, 0.0, 3), [10; 3]);
            assert!(delays(ReconnectConfig::default().jitter(jitter), 0.0, 3).iter().all(|ms| *ms >= 10));
        }
    }

    #[test]
    fn a_random_source_that_breaks_its_word_breaks_nothing() {
        for random in [f64::NAN, f64::INFINITY, -5.0, 7.0] {
            for delay in delays(ReconnectConfig::default(), random, 3) {
                assert!((1000..=30_000).contains(&delay));
            }
        }
    }

    #[test]
    fn attempts_are_counted_and_reset() {
        let mut backoff = ExponentialBackoff::new(ReconnectConfig::default().max_attempts(2)).unwrap();
        assert!(!backoff.has_exceeded_max_attempts());
        backoff.next_delay();
        backoff.next_delay();
        assert!(backoff.has_exceeded_max_attempts());
        backoff.reset();
        assert_eq!((backoff.attempts(), backoff.has_exceeded_max_attempts()), (0, false));
        let endless = ExponentialBackoff::new(ReconnectConfig::default()).unwrap();
        assert!(!endless.has_exceeded_max_attempts());
    }
}
