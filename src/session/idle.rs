//! Has the server stopped sending data?

use std::time::{Duration, Instant};

use crate::config::deadline;
use crate::session::heartbeat::OVERSLEPT;

/// Decides when a server that may well answer heartbeats has sent no data for too long. It has no clock.
///
/// While a message is arriving, the server is not silent. Whether the message counts is known only when it is complete:
/// until then it postpones the verdict, and restarts nothing.
#[derive(Debug)]
pub(super) struct IdleTimer {
    /// The setting `idle_timeout`.
    after: Option<Duration>,
    /// When the server is given up if nothing that counts arrives until then. `None` before the start.
    due: Option<Instant>,
    /// Until when the message that is arriving postpones that.
    arriving: Option<Instant>,
}

impl IdleTimer {
    pub(super) fn new(after: Option<Duration>) -> Self {
        Self { after, due: None, arriving: None }
    }

    /// The connection is ready.
    pub(super) fn start(&mut self, now: Instant) {
        self.due = self.after.map(|after| deadline(now, after));
        self.arriving = None;
    }

    /// Until now the server could not be heard. It has all the time again.
    pub(super) fn restart(&mut self, now: Instant) {
        if self.due.is_some() {
            self.start(now);
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.due.is_some()
    }

    /// Part of a message has arrived, and the message is not complete.
    pub(super) fn handle_part(&mut self, now: Instant) {
        self.arriving = self.after.filter(|_| self.due.is_some()).map(|after| deadline(now, after));
    }

    /// A message is complete. `counts`: it is data.
    pub(super) fn handle_message(&mut self, now: Instant, counts: bool) {
        if counts {
            return self.restart(now);
        }
        self.arriving = None;
        // A verdict that the message has postponed is due now, and is not late.
        self.due = self.due.map(|due| due.max(now));
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.max(self.arriving)
    }

    /// If the server has been silent for too long, returns for how long it may be. A call that is more than 5 s late means
    /// that the process was suspended, and could not hear the server.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> Option<Duration> {
        let due = self.next_deadline().filter(|due| *due <= now)?;
        if now.saturating_duration_since(due) > OVERSLEPT {
            self.restart(now);
            return None;
        }
        self.after
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source; the tests step from it")]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const NS: Duration = Duration::from_nanos(1);
    const ALMOST: Duration = Duration::from_nanos(9_999_999_999);

    /// A server that may be silent for 10 s, ready at the instant that is returned.
    fn ready() -> (IdleTimer, Instant) {
        let now = Instant::now();
        let mut idle = IdleTimer::new(Some(10 * S));
        assert!(
            !idle.is_running() && idle.next_deadline().is_none(),
            "the time begins when the line is ready"
        );
        idle.start(now);
        (idle, now)
    }

    #[test]
    fn a_server_is_given_up_when_it_has_been_silent_for_all_of_the_time_and_not_before() {
        let (mut idle, start) = ready();
        assert_eq!(idle.next_deadline(), Some(start + 10 * S));
        assert!(idle.handle_timeout(start + ALMOST).is_none());
        assert_eq!(idle.handle_timeout(start + 10 * S), Some(10 * S));
    }

    #[test]
    fn data_begins_the_time_anew_and_anything_else_does_not() {
        let (mut idle, start) = ready();
        idle.handle_message(start + 4 * S, false);
        assert_eq!(idle.next_deadline(), Some(start + 10 * S));
        idle.handle_message(start + 6 * S, true);
        assert_eq!(idle.next_deadline(), Some(start + 16 * S));
    }

    #[test]
    fn without_the_setting_and_before_the_start_nothing_is_judged() {
        let now = Instant::now();
        let mut off = IdleTimer::new(None);
        off.start(now);
        let mut early = IdleTimer::new(Some(S));
        for idle in [&mut off, &mut early] {
            idle.handle_part(now);
            idle.handle_message(now, true);
            idle.restart(now);
            assert!(
                !idle.is_running()
                    && idle.next_deadline().is_none()
                    && idle.handle_timeout(now + 99 * S).is_none()
            );
        }
    }

    #[test]
    fn a_message_that_is_arriving_postpones_the_verdict_for_as_long_as_it_moves() {
        let (mut idle, start) = ready();
        for second in [9, 18, 27] {
            idle.handle_part(start + second * S);
            assert_eq!(idle.handle_timeout(start + second * S + ALMOST), None);
        }
        assert_eq!(idle.handle_timeout(start + 37 * S), Some(10 * S), "it stopped in the middle");
        idle.handle_message(start + 37 * S, true);
        assert_eq!(idle.next_deadline(), Some(start + 47 * S));
    }

    #[test]
    fn a_long_message_that_turns_out_not_to_count_leaves_the_silence_as_it_was() {
        let (mut idle, start) = ready();
        idle.handle_part(start + 2 * S);
        idle.handle_message(start + 3 * S, false);
        assert_eq!(idle.next_deadline(), Some(start + 10 * S));
        for second in [9, 18, 27] {
            idle.handle_part(start + second * S);
        }
        idle.handle_message(start + 30 * S, false);
        assert_eq!(
            idle.handle_timeout(start + 30 * S),
            Some(10 * S),
            "the verdict was only postponed, and nobody overslept it"
        );
    }

    #[test]
    fn who_overslept_did_not_hear_and_does_not_judge() {
        let (mut idle, start) = ready();
        assert_eq!(idle.handle_timeout(start + 15 * S + NS), None);
        assert_eq!(idle.next_deadline(), Some(start + 25 * S + NS));
        let (mut idle, start) = ready();
        assert_eq!(idle.handle_timeout(start + 15 * S), Some(10 * S));
    }
}
