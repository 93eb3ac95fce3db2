//! What must hold of the rounds through a list of servers, by the rules that users know.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::config::ConnectionConfig;
use crate::error::Error;
use crate::event::DisconnectReason;

/// The delay between two attempts of a round.
const BETWEEN: Duration = Duration::from_millis(100);

pub(super) struct Rounds {
    /// Nothing but the rules of the client itself says when the next attempt comes, and at which server.
    pub(super) is_known: bool,
    /// The URLs of the attempts that were not reported yet.
    pub(super) dialled: VecDeque<String>,
    list: Vec<String>,
    current: String,
    is_under_way: bool,
    /// The servers that were dialled in this round.
    tried: BTreeSet<String>,
    /// Until when a server need not be tried, because it has refused or wants to be left alone.
    excused: BTreeMap<String, Instant>,
    ready_since: Option<Instant>,
}

impl Rounds {
    pub(super) fn new(config: &ConnectionConfig) -> Self {
        Self {
            is_known: false,
            dialled: VecDeque::new(),
            list: config.server_list().expect("a good configuration"),
            current: String::new(),
            is_under_way: false,
            tried: BTreeSet::new(),
            excused: BTreeMap::new(),
            ready_since: None,
        }
    }

    /// An attempt begins.
    pub(super) fn begins(&mut self, now: Instant) {
        // A protocol may fail to prepare its attempt.
        let Some(url) = self.dialled.pop_front() else {
            assert!(!self.is_known, "an attempt without a server");
            return;
        };
        let again = !self.tried.insert(url.clone());
        assert!(!again || !self.is_known, "{url} twice in a round, of which there are {:?}", self.tried);
        let may = |url: &String| self.excused.get(url).is_none_or(|until| *until <= now);
        let waits = self.list.iter().any(|other| may(other) && !self.tried.contains(other));
        assert!(may(&url) || !waits || !self.is_known, "{url} is to be left alone, and another server waits");
        self.current = url;
        self.is_under_way = true;
    }

    pub(super) fn ready(&mut self, now: Instant) {
        self.ready_since = Some(now);
    }

    /// The attempt failed, or the line was lost. `retry_in`: the delay of the next attempt.
    pub(super) fn ends(
        &mut self,
        now: Instant,
        reason: &DisconnectReason,
        retry_in: Option<Duration>,
        config: &ConnectionConfig,
    ) {
        let was_under_way = std::mem::take(&mut self.is_under_way);
        let ready = self.ready_since.take();
        // Silence does not prove a line.
        let silence = match reason {
            DisconnectReason::Lost(Error::IdleTimeout { after }) => *after,
            _ => Duration::ZERO,
        };
        let stable_for = ready.map(|since| (now - since).saturating_sub(silence));
        let stable = stable_for.is_some_and(|time| time >= config.stable_after.max(BETWEEN));
        if stable {
            self.tried.clear();
            self.tried.insert(self.current.clone());
        }
        let by_caller = matches!(reason, DisconnectReason::ByCaller { .. });
        let Some(retry_in) = retry_in.filter(|_| self.is_known && !by_caller) else {
            // What the application asks for says nothing of the server.
            if was_under_way {
                self.tried.remove(&self.current);
            }
            return;
        };
        let until = now + away(reason, config);
        self.excused.insert(self.current.clone(), until);
        if retry_in == BETWEEN {
            assert!(self.tried.len() < self.list.len(), "each server was tried");
            return;
        }
        assert!(retry_in > BETWEEN, "{retry_in:?} after a round");
        let then = now + BETWEEN;
        for url in &self.list {
            let excused = self.excused.get(url).is_some_and(|until| *until > then);
            assert!(excused || self.tried.contains(url), "{url} was left out of a round");
        }
        self.tried.clear();
    }
}

/// How long this failure excuses its server.
fn away(reason: &DisconnectReason, config: &ConnectionConfig) -> Duration {
    let refusal = config.reconnect.max_delay;
    match reason {
        DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection)) => {
            let asked = rejection.header("Retry-After").and_then(|value| value.parse().ok());
            let asked = Duration::from_secs(asked.unwrap_or_default()).min(config.retry_after_cap);
            let refuses = matches!(rejection.status, 301 | 401 | 403 | 404);
            if refuses { asked.max(refusal) } else { asked }
        }
        DisconnectReason::ConnectFailed(Error::LoginRefused { .. })
        | DisconnectReason::Lost(Error::LoginRefused { .. }) => refusal,
        _ => Duration::ZERO,
    }
}
