//! What must hold of everything that a session reports, besides the fates of its messages.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::rig::Line;
use super::rounds::Rounds;
use super::wild::LONGEST_TOLD;
use crate::config::{Beat, ConnectionConfig};
use crate::error::Error;
use crate::event::{CloseReason, DisconnectReason, Event};
use crate::message::Message;
use crate::state::ConnectionState::{self, Authenticated, Closed, Closing, Connected, Connecting};

pub(super) struct Check {
    state: ConnectionState,
    /// When the line entered this state.
    since: Instant,
    /// When reading was last paused.
    pub(super) excused: Instant,
    /// When the machine last turned out to have slept.
    pub(super) slept: Instant,
    /// When the line was last ready on a new connection.
    began: Instant,
    /// The delays of the plans that were not reported yet.
    pub(super) planned: VecDeque<Duration>,
    /// The messages that were passed to the application and that it has not taken.
    pub(super) passed: VecDeque<Message>,
    /// How many messages were ever passed to it.
    pub(super) delivered: u64,
    /// How many other events there are of which it does not know.
    others: u64,
    /// The newest message of each connection.
    newest: BTreeMap<u64, u64>,
    /// Requests that arrived, by ticket: the values that identify their answers.
    requests: BTreeMap<u64, Value>,
    /// Bytes that need not be valid messages were sent on a connection.
    pub(super) raw: bool,
    /// Answers have the `id` of their requests.
    pub(super) pairs_by_id: bool,
    /// The protocol may deliver anything.
    pub(super) unruly: bool,
    /// The protocol has stopped the heartbeats of the connection that was current last.
    pub(super) silent: bool,
    /// A callback was reported to panic.
    pub(super) panicked: bool,
    /// The application has had the last event.
    ended: bool,
    pub(super) rounds: Rounds,
}

impl Check {
    pub(super) fn new(config: &ConnectionConfig, now: Instant) -> Self {
        Self {
            state: ConnectionState::Disconnected,
            since: now,
            excused: now,
            slept: now,
            began: now,
            planned: VecDeque::new(),
            passed: VecDeque::new(),
            delivered: 0,
            others: 0,
            newest: BTreeMap::new(),
            requests: BTreeMap::new(),
            raw: false,
            pairs_by_id: false,
            unruly: false,
            silent: false,
            panicked: false,
            ended: false,
            rounds: Rounds::new(config),
        }
    }

    /// A message for the application was delivered.
    fn arrived(&mut self, message: &Message) {
        let label = |text: &str| {
            let (connection, number) = text.strip_prefix('m')?.split_once(':')?.0.split_once('.')?;
            Some((connection.parse().ok()?, number.parse().ok()?))
        };
        let label = message.as_text().and_then(label);
        if let Some((connection, number)) = label {
            let newest = self.newest.entry(connection).or_default();
            // A closing line may skip messages to reach the close frame behind them.
            let next = number == *newest + 1 || self.state == Closing && number > *newest;
            assert!(next || self.raw || self.unruly, "m{connection}.{number} after {newest}");
            *newest = if next { number } else { *newest };
        }
    }

    /// The server has received one of the application's messages, perhaps a request.
    pub(super) fn requested(&mut self, payload: &[u8]) {
        if let Ok(value) = serde_json::from_slice::<Value>(payload)
            && let Some(ticket) = value["n"].as_u64()
        {
            self.requests.insert(ticket, value["id"].clone());
        }
    }

    /// A request got its reply.
    pub(super) fn answered(&mut self, ticket: u64, answer: &Result<Message, Error>) {
        if let (Ok(message), Some(id), true) = (answer, self.requests.get(&ticket), self.pairs_by_id) {
            let value = message.json::<Value>().expect("an answer in JSON");
            assert_eq!(value["id"], *id, "the answer to another request");
        }
    }

    /// The session reports an event.
    pub(super) fn event(&mut self, event: &Event, now: Instant, config: &ConnectionConfig, lines: &[Line]) {
        if self.state == Closed {
            assert!(matches!(event, Event::Disconnected { .. } | Event::Closed { .. }), "{event:?}");
        }
        self.others += u64::from(!matches!(event, Event::Message(_)));
        match event {
            Event::StateChanged { from, to } => {
                assert_eq!(*from, self.state);
                assert!(from.may_become(*to), "{from} -> {to}");
                self.state = *to;
                self.since = now;
                if *to == Connecting {
                    self.rounds.begins(now);
                }
            }
            Event::Connected { attempts, .. } => {
                self.began = now;
                // A line that began to close at the same moment is already past this state.
                assert!(matches!(self.state, Connected | Authenticated) && *attempts > 0, "{}", self.state);
                self.rounds.ready(now);
            }
            Event::Disconnected { reason, retry_in, .. } => {
                if matches!(reason, DisconnectReason::ByCaller { .. }) {
                    assert!(retry_in.is_none_or(|delay| delay.is_zero()), "{retry_in:?}");
                } else {
                    assert_eq!(*retry_in, retry_in.and_then(|_| self.planned.pop_front()));
                }
                let judged = matches!(reason, DisconnectReason::Lost(Error::HeartbeatTimeout { .. }));
                assert!(!judged || !self.silent, "a peer that nobody asks was judged by its silence");
                self.rounds.ends(now, reason, *retry_in, config);
                lost(reason, now, config, lines);
                self.silent(reason, now, config, lines);
            }
            Event::Closed { reason } => {
                let panicked = matches!(reason, CloseReason::Failed(Error::Panicked { .. }));
                assert!(!panicked || self.panicked, "a protocol panicked");
            }
            Event::Expired { .. } => {}
            Event::Message(message) => {
                assert!(matches!(self.state, Connected | Authenticated | Closing), "{}", self.state);
                self.arrived(message);
            }
            Event::Moved { .. } => {
                self.began = now;
                assert!(matches!(self.state, Connected | Authenticated), "{}", self.state);
            }
            Event::Missed { .. } => panic!("{event:?} out of place"),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == Closed
    }

    /// If the line was given up because no data came, none did.
    fn silent(&self, reason: &DisconnectReason, now: Instant, config: &ConnectionConfig, lines: &[Line]) {
        let DisconnectReason::Lost(Error::IdleTimeout { after }) = reason else { return };
        assert_eq!(Some(*after), config.idle_timeout);
        assert!(now - self.began.max(self.excused) >= *after, "judged too early");
        let silent = |line: &Line| now - line.data >= *after || line.peer.raw;
        assert!(self.unruly || lines.iter().any(silent), "each has sent data");
    }

    /// All events were published.
    pub(super) fn published(&self, state: ConnectionState) {
        assert_eq!(self.state, state);
        assert!(self.planned.is_empty(), "a plan that nobody was told of");
    }

    /// The application takes an event.
    pub(super) fn taken(&mut self, event: Event) {
        assert!(!self.ended, "{event:?} behind the last event");
        match event {
            Event::Message(message) => self.taken_message(&message),
            Event::Missed { count, .. } => {
                assert!(count > 0 && count <= self.others, "{count} missed of {}", self.others);
                self.others -= count;
            }
            other => {
                self.others -= 1;
                self.ended = matches!(other, Event::Closed { .. });
            }
        }
    }

    /// The application takes a message, perhaps behind the last event: the order between messages with a queue of their own
    /// and the events is not known.
    pub(super) fn taken_message(&mut self, message: &Message) {
        let passed = self.passed.pop_front();
        assert_eq!(Some(message), passed.as_ref(), "out of order, left out, or there twice");
    }

    /// The application has taken all that there is of a closed client.
    pub(super) fn is_over(&self) {
        assert!(self.ended, "the last event is missing");
        assert!(self.passed.is_empty(), "{} messages are lost", self.passed.len());
        assert_eq!(self.others, 0, "events vanished, and nobody said so");
    }

    /// What holds while the I/O thread sleeps. `blocked`: since when bytes wait; `heard`: when the line was last heard;
    /// `ready`: messages can be sent.
    pub(super) fn asleep(
        &self,
        now: Instant,
        state: ConnectionState,
        deadline: Option<Instant>,
        (config, blocked, heard, ready, paused): (
            &ConnectionConfig,
            Option<Instant>,
            Option<Instant>,
            bool,
            bool,
        ),
    ) {
        let mut bounds = Vec::new();
        let logging_in = matches!(state, Connected | Authenticated) && !ready;
        let up = ready || logging_in || state == Closing;
        bounds.extend((state == Connecting).then_some(self.since + config.connect_timeout));
        bounds.extend((state == Closing).then_some(self.since + config.close_timeout));
        // While the server is not read, its silence does not count.
        let since = self.since.max(self.excused);
        bounds.extend((logging_in && !paused).then_some(since + config.login_timeout));
        bounds.extend(blocked.filter(|_| up).map(|since| since + config.write_timeout));
        let beats = state != Closing && ready && config.heartbeat.beat != Beat::Off && !self.silent;
        bounds.extend(beats.then_some(now + config.heartbeat.interval.max(LONGEST_TOLD)));
        let idle = config.idle_timeout.filter(|_| state != Closing && ready && !paused);
        let heard = self.began.max(self.excused).max(self.slept).max(heard.unwrap_or(self.began));
        bounds.extend(idle.map(|after| heard + after));
        for bound in bounds {
            assert!(bound > now, "{state} for longer than it may be");
            assert!(deadline.is_some_and(|at| at > now && at <= bound), "{deadline:?} in {state}");
        }
    }
}

/// A connection was given up, for a reason that one of `lines` justifies.
fn lost(reason: &DisconnectReason, now: Instant, config: &ConnectionConfig, lines: &[Line]) {
    match reason {
        DisconnectReason::Lost(Error::HeartbeatTimeout { .. }) => {
            let silent = |line: &Line| now - line.heard >= config.heartbeat.timeout;
            assert!(config.heartbeat.strict || lines.iter().any(silent), "each was heard");
        }
        DisconnectReason::Lost(Error::WriteStalled { .. }) => {
            let stalled = |line: &Line| now - line.moved >= config.write_timeout;
            assert!(lines.iter().any(stalled), "each has taken something");
        }
        _ => {}
    }
}
