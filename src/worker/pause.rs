//! The pause of reading, while the application does not take its messages.

use std::time::Duration;

use crate::intake::Gate;

/// The times between two looks at whether the application has taken its messages.
const SHORTEST_LOOK: Duration = Duration::from_millis(1);
const LONGEST_LOOK: Duration = Duration::from_millis(64);

#[derive(Default)]
pub(crate) struct Pause {
    /// The time to the next look, while there is a pause.
    look: Option<Duration>,
}

impl Pause {
    pub(crate) fn is_on(&self) -> bool {
        self.look.is_some()
    }

    /// Begins the pause, or goes on with it. Returns the time to the next look.
    pub(crate) fn go_on(&mut self, gate: &Gate) -> Duration {
        if !self.is_on() {
            gate.set_stalled(true);
        }
        let look = self.look.map_or(SHORTEST_LOOK, |look| (look * 2).clamp(SHORTEST_LOOK, LONGEST_LOOK));
        *self.look.insert(look)
    }

    /// The application takes its messages: the next look comes soon.
    pub(crate) fn look_soon(&mut self) {
        self.look = self.look.map(|_| Duration::ZERO);
    }

    /// Reading goes on, or there is nothing to read any more.
    pub(crate) fn end(&mut self, gate: &Gate) {
        if self.look.take().is_some() {
            gate.set_stalled(false);
        }
    }
}
