//! Pauses reading while the application does not take its messages.

use std::time::Duration;

/// The shortest and the longest time between two checks whether the application has taken its messages.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);
const LONGEST_LOOK: Duration = Duration::from_millis(64);

#[derive(Default)]
pub(crate) struct Backpressure {
    /// The time to the next check, while reading is paused.
    look: Option<Duration>,
}

impl Backpressure {
    pub(crate) fn is_on(&self) -> bool {
        self.look.is_some()
    }

    /// Begins, continues or ends the pause. Returns the time to the next check while reading is paused.
    pub(crate) fn next_look(&mut self, paused: bool) -> Option<Duration> {
        let longer = self.look.map_or(SHORTEST_LOOK, |look| (look * 2).clamp(SHORTEST_LOOK, LONGEST_LOOK));
        self.look = paused.then_some(longer);
        self.look
    }

    /// The application is taking its messages: the next check comes soon.
    pub(crate) fn look_soon(&mut self) {
        self.look = self.look.map(|_| Duration::ZERO);
    }
}
