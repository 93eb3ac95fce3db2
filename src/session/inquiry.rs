//! Asks the server by a ping, and waits for the answer.

use std::time::Instant;

/// Asks the server by a ping whether what went out has arrived, and waits for the answer. A closing line asks before
/// its goodbye, and a moving line before its successor takes over.
#[derive(Debug, Default)]
pub(super) enum Inquiry {
    #[default]
    NotAsked,
    /// A ping is out. The wait for its answer ends at `until`.
    Asked {
        until: Instant,
    },
    Over,
}

/// What an inquiry is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matter {
    /// All of the messages have been handed over.
    pub(super) out: bool,
    /// Some of the messages are not settled.
    pub(super) open: bool,
    /// A ping can settle them.
    pub(super) can_ask: bool,
}

impl Inquiry {
    /// Whether [`advance`](Self::advance) would do something now, whatever the time.
    pub(super) fn is_due(&self, matter: Matter) -> bool {
        match self {
            Self::NotAsked => matter.out && (!matter.open || matter.can_ask),
            Self::Asked { .. } => !matter.open,
            Self::Over => false,
        }
    }

    /// Takes the next step. Returns whether to send a ping; the wait for its answer ends at `patience`.
    pub(super) fn advance(&mut self, now: Instant, matter: Matter, patience: Instant) -> bool {
        let asks = matches!(self, Self::NotAsked) && matter.open;
        if self.is_due(matter) {
            *self = if asks { Self::Asked { until: patience } } else { Self::Over };
            return asks;
        }
        if self.until().is_some_and(|until| until <= now) {
            *self = Self::Over;
        }
        false
    }

    /// Until when to wait for an answer.
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Self::Asked { until } => Some(*until),
            Self::NotAsked | Self::Over => None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
mod tests {
    use super::*;
    use std::time::Duration;

    const OUT: Matter = Matter { out: true, open: true, can_ask: true };

    #[test]
    fn an_inquiry_asks_once_when_everything_is_out_and_is_over_with_the_answer_or_the_patience() {
        let now = Instant::now();
        let patience = now + Duration::from_secs(1);
        let waiting = Matter { out: false, ..OUT };
        let settled = Matter { open: false, ..OUT };
        for answered in [true, false] {
            let mut inquiry = Inquiry::default();
            assert!(!inquiry.is_due(waiting) && !inquiry.advance(now, waiting, patience));
            assert!(inquiry.is_due(OUT) && inquiry.advance(now, OUT, patience));
            assert!(!inquiry.is_due(OUT) && !inquiry.advance(now, OUT, patience), "it has asked");
            assert_eq!((inquiry.until(), inquiry.is_over()), (Some(patience), false));
            if answered {
                assert!(inquiry.is_due(settled) && !inquiry.advance(now, settled, patience));
            } else {
                assert!(!inquiry.advance(patience, OUT, patience));
            }
            assert!(inquiry.is_over() && !inquiry.is_due(OUT));
        }
    }

    #[test]
    fn what_is_settled_needs_no_ping_and_what_no_ping_can_settle_is_waited_for() {
        let now = Instant::now();
        let mut inquiry = Inquiry::default();
        assert!(!inquiry.advance(now, Matter { open: false, ..OUT }, now));
        assert!(inquiry.is_over());
        let mut inquiry = Inquiry::default();
        let stuck = Matter { can_ask: false, ..OUT };
        assert!(!inquiry.is_due(stuck) && !inquiry.advance(now, stuck, now));
        assert!(!inquiry.is_over());
    }
}
