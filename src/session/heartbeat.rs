//! Is the peer still there?

use std::time::{Duration, Instant};

use crate::config::{Beat, HeartbeatConfig, deadline};
use crate::error::Error;
use crate::session::unanswered::Unanswered;

/// Decides when to send a heartbeat and when a silent peer is dead. It has no thread and no clock. Use one for each
/// connection, so that nothing left over from one can end the next.
///
/// * A heartbeat is due every `interval`, whether or not the last was answered, because it also keeps intermediaries
///   from dropping the connection.
/// * The timeout of a heartbeat starts when it has left the client's buffers. If it can't leave, it is late once no
///   byte has moved for the timeout.
/// * Any byte received is a sign of life. With a `strict` configuration, only the answer to the heartbeat is.
/// * A WebSocket ping carries a counter of 8 bytes. Pong *k* answers all heartbeats up to *k*, because a peer may
///   answer only the latest ping (RFC 6455, section 5.5.3). A JSON pong has no number and answers the oldest heartbeat.
///
/// A dead peer is detected within `interval + timeout`. Calling [`handle_timeout`](Self::handle_timeout) early has no
/// effect. Calling it more than 5 s late means that the process or the machine was suspended: the manager then sends a
/// new heartbeat and judges the peer by that one.
///
/// ```
/// use std::time::{Duration, Instant};
/// use tautline::{HeartbeatAction, HeartbeatConfig, HeartbeatManager, HeartbeatFrame, HeartbeatResponse};
///
/// let mut heartbeat = HeartbeatManager::new(HeartbeatConfig::default())?;
/// let start = Instant::now();
/// heartbeat.start(start);
///
/// let due = start + Duration::from_secs(30);
/// assert_eq!(heartbeat.next_deadline(), Some(due));
/// let Some(HeartbeatAction::Send(HeartbeatFrame::Ping(counter))) = heartbeat.handle_timeout(due) else { panic!() };
/// heartbeat.handle_written(due, heartbeat.sent());
///
/// let answered = due + Duration::from_millis(3);
/// let round_trip = heartbeat.handle_response(answered, HeartbeatResponse::Pong(&counter));
/// assert_eq!(round_trip, Some(Duration::from_millis(3)));
/// # Ok::<(), tautline::Error>(())
/// ```
#[derive(Debug)]
pub struct HeartbeatManager {
    config: HeartbeatConfig,
    /// The number of the newest beat. It never restarts, so that an answer can't belong to another connection.
    sent: u64,
    running: Option<Running>,
    /// Reading is paused, because the application does not take its messages. A start does not change that.
    paused: bool,
    schedule: Schedule,
}

/// When beats are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Schedule {
    /// As the configuration says.
    Configured,
    /// As the server of this connection asks for: the time to the first beat, and the interval after it.
    Told { first: Duration, interval: Duration },
    /// The server of this connection wants none.
    Stopped,
}

#[derive(Debug)]
struct Running {
    next_beat: Instant,
    /// Beats without an answer of their own.
    beats: Unanswered<Sent>,
    /// The beat that was answered last.
    answered: u64,
    /// Beats up to this one need no further proof of life.
    satisfied: u64,
    /// When bytes last moved in either direction.
    moved: Instant,
    /// Since when the oldest unsatisfied beat has been waiting.
    waiting_since: Option<Instant>,
}

#[derive(Debug)]
struct Sent {
    at: Instant,
    written: Option<Instant>,
}

/// What [`HeartbeatManager::handle_timeout`] asks the caller to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeartbeatAction {
    /// Send this now.
    Send(HeartbeatFrame),
    /// The peer is dead.
    #[non_exhaustive]
    Dead {
        /// How long the oldest unanswered heartbeat has waited.
        silence: Duration,
    },
}

/// A heartbeat to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeartbeatFrame {
    /// A WebSocket ping with this payload.
    Ping([u8; 8]),
    /// The JSON text of [`Beat::Json`].
    Json,
    /// What the protocol sends: [`Beat::Protocol`].
    Protocol,
}

/// A possible answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeartbeatResponse<'a> {
    /// A WebSocket pong with this payload.
    Pong(&'a [u8]),
    /// An answer without a number: a JSON pong, or the protocol's.
    Json,
}

/// The shortest interval that a protocol can set.
const CLOSEST: Duration = Duration::from_millis(1);

/// A call that is later than this means that the process was suspended, and could not hear an answer.
pub(super) const OVERSLEPT: Duration = Duration::from_secs(5);

impl HeartbeatManager {
    /// Returns a manager that is not running.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] names the invalid setting.
    pub fn new(config: HeartbeatConfig) -> Result<Self, Error> {
        config.check()?;
        Ok(Self::on_connection(config, false))
    }

    /// A manager that is not running, with settings that are already validated.
    pub(crate) fn on_connection(config: HeartbeatConfig, paused: bool) -> Self {
        Self { config, sent: 0, running: None, paused, schedule: Schedule::Configured }
    }

    /// Starts on a connection that is ready. The first heartbeat is due after one interval. Does nothing with
    /// [`Beat::Off`].
    pub fn start(&mut self, now: Instant) {
        let first = match self.schedule {
            Schedule::Told { first, .. } => first,
            Schedule::Configured | Schedule::Stopped => self.config.interval,
        };
        self.running = (self.config.beat != Beat::Off).then(|| Running {
            next_beat: deadline(now, first),
            beats: Unanswered::new(),
            answered: self.sent,
            satisfied: self.sent,
            moved: now,
            waiting_since: None,
        });
    }

    /// Stops, and clears the state of the connection.
    pub fn stop(&mut self) {
        self.running = None;
        self.schedule = Schedule::Configured;
    }

    /// Whether it was started and not stopped.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let running = self.running.as_ref().filter(|_| self.schedule != Schedule::Stopped)?;
        let judged = self.judged_at(running).unwrap_or(running.next_beat);
        Some(running.next_beat.min(judged))
    }

    fn judged_at(&self, running: &Running) -> Option<Instant> {
        let since = running.waiting_since.filter(|_| !self.paused)?;
        Some(deadline(since, self.config.timeout))
    }

    /// Returns the heartbeat to send or the verdict that the peer is dead, if one of them is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<HeartbeatAction> {
        let due = self.next_deadline().filter(|due| *due <= now)?;
        if now.saturating_duration_since(due) > OVERSLEPT {
            self.handle_sleep(now);
        }
        let running = self.running.as_ref()?;
        if self.judged_at(running).is_some_and(|at| at <= now) {
            let silence = now.saturating_duration_since(running.waiting_since?);
            self.stop();
            return Some(HeartbeatAction::Dead { silence });
        }
        let planned = running.next_beat;
        if planned > now {
            return None;
        }
        let pulse = self.beat(now);
        // A late beat does not delay the next ones: servers count by their own clocks.
        let next = deadline(planned, self.interval());
        if let Some(running) = self.running.as_mut().filter(|_| next > now) {
            running.next_beat = next;
        }
        Some(HeartbeatAction::Send(pulse))
    }

    /// Like [`handle_timeout`](Self::handle_timeout), but without a verdict: not all that has come was read.
    pub(crate) fn handle_timeout_unheard(&mut self, now: Instant) -> Option<HeartbeatAction> {
        let paused = std::mem::replace(&mut self.paused, true);
        let due = self.handle_timeout(now);
        self.paused = paused;
        due
    }

    /// Sends a beat outside the schedule. The interval starts anew.
    pub(crate) fn beat(&mut self, now: Instant) -> HeartbeatFrame {
        self.sent += 1;
        let number = self.sent;
        let interval = self.interval();
        if let Some(running) = &mut self.running {
            running.next_beat = deadline(now, interval);
            // The beat that the peer is judged by is not evicted.
            running.beats.push(number, Sent { at: now, written: None }, running.satisfied);
            running.assess();
        }
        match self.config.beat {
            Beat::Json => HeartbeatFrame::Json,
            Beat::Protocol => HeartbeatFrame::Protocol,
            Beat::WebSocketPing | Beat::Off => HeartbeatFrame::Ping(number.to_be_bytes()),
        }
    }

    /// Returns the number of the latest heartbeat, for [`handle_written`](Self::handle_written).
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Reports that all heartbeats up to number `through` have left the client's buffers. Their timeout starts.
    pub fn handle_written(&mut self, now: Instant, through: u64) {
        let Some(running) = &mut self.running else { return };
        let mut changed = false;
        for (number, beat) in running.beats.iter_mut().rev().take_while(|(_, beat)| beat.written.is_none()) {
            if *number <= through {
                beat.written = Some(now);
                changed = true;
            }
        }
        if changed {
            running.assess();
        }
    }

    /// Reports that bytes or a message arrived.
    #[inline]
    pub fn handle_activity(&mut self, now: Instant) {
        let strict = self.config.strict;
        let Some(running) = &mut self.running else { return };
        if strict || running.waiting_since.is_none() {
            return;
        }
        running.live(now);
    }

    /// Reports that the operating system accepted more output. The peer has made room, so it is alive, although its
    /// answer to a heartbeat may come behind megabytes that it has not read yet.
    pub fn handle_progress(&mut self, now: Instant) {
        let strict = self.config.strict;
        let Some(running) = &mut self.running else { return };
        running.moved = now;
        if running.waiting_since.is_some() {
            if strict { running.assess() } else { running.live(now) }
        }
    }

    /// Reports an answer, and returns the round trip. Returns `None` if the answer belongs to no heartbeat that was
    /// sent, to one that has not left the client's buffers yet, or to one that is no longer remembered among many
    /// unanswered ones.
    pub fn handle_response(&mut self, now: Instant, response: HeartbeatResponse<'_>) -> Option<Duration> {
        let running = self.running.as_mut()?;
        let number = match response {
            HeartbeatResponse::Pong(payload) => counter(payload)?,
            HeartbeatResponse::Json => running.answered + 1,
        };
        if number <= running.answered || number > self.sent {
            return None;
        }
        running.answered = number;
        running.satisfied = running.satisfied.max(number);
        let last = running.beats.answer(number);
        running.assess();
        let (_, beat) = last.filter(|(last, beat)| *last == number && beat.written.is_some())?;
        Some(now.saturating_duration_since(beat.at))
    }

    /// Reports that the application stopped taking its messages, so that none are read (`true`), or takes them again
    /// (`false`). The peer is not judged while reading is paused.
    pub fn handle_paused(&mut self, now: Instant, paused: bool) {
        let ends = std::mem::replace(&mut self.paused, paused) && !paused;
        if let Some(running) = self.running.as_mut().filter(|_| ends) {
            running.live(now);
        }
    }

    /// Sends a heartbeat at the next [`handle_timeout`](Self::handle_timeout), unless one is unanswered already.
    pub fn probe(&mut self, now: Instant) {
        if let Some(running) = &mut self.running
            && running.waiting_since.is_none()
        {
            running.next_beat = now;
        }
    }

    /// The process was suspended and could not hear the peer. It asks the peer at once, and judges it by that answer
    /// alone.
    pub(crate) fn handle_sleep(&mut self, now: Instant) {
        let Some(running) = &mut self.running else { return };
        running.next_beat = now;
        running.satisfied = self.sent;
        running.assess();
    }

    /// The server of this connection wants the next beat after `first`, and then one every `interval`.
    pub(crate) fn set_beats(&mut self, now: Instant, first: Duration, interval: Duration) {
        // Beats without a pause would leave time for nothing else.
        let (first, interval) = (first.max(CLOSEST), interval.max(CLOSEST));
        let before = std::mem::replace(&mut self.schedule, Schedule::Told { first, interval });
        if let Some(running) = &mut self.running {
            running.next_beat = deadline(now, first);
            if before == Schedule::Stopped {
                // What was sent until now has not been judged, and is not any more.
                running.satisfied = self.sent;
                running.assess();
            }
        }
    }

    /// The server of this connection wants no beats until [`set_beats`](Self::set_beats). Nothing is due until then,
    /// not even the verdict on the peer: pings that ask for a confirmation still go out, and measure the round trip.
    pub(crate) fn stop_beats(&mut self) {
        self.schedule = Schedule::Stopped;
    }

    fn interval(&self) -> Duration {
        match self.schedule {
            Schedule::Told { interval, .. } => interval,
            Schedule::Configured | Schedule::Stopped => self.config.interval,
        }
    }
}

impl Running {
    /// The peer showed that it is alive: every beat that it could have received is satisfied.
    fn live(&mut self, now: Instant) {
        self.moved = now;
        if let Some((heard, _)) = self.beats.iter().rev().find(|(_, beat)| beat.written.is_some()) {
            self.satisfied = self.satisfied.max(*heard);
        }
        self.assess();
    }

    fn assess(&mut self) {
        let oldest = self.beats.iter().find(|(number, _)| *number > self.satisfied);
        self.waiting_since = oldest.map(|(_, beat)| beat.written.unwrap_or(beat.at.max(self.moved)));
    }
}

/// The counter in a pong's payload, if the payload has the form of ours.
pub(crate) fn counter(payload: &[u8]) -> Option<u64> {
    payload.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests;
