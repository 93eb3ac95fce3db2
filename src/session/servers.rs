//! Which server of the list an attempt goes to.

use std::time::{Duration, Instant};

use crate::config::{ServerOrder, deadline};
use crate::endpoint::Endpoint;
use crate::error::Error;

/// The servers of a line, and what became of the attempts at each.
///
/// A round lasts until each server has been tried, or can't be tried yet. It has no more attempts than the list has
/// servers, so that a list that always changes does not keep the backoff from growing.
pub(super) struct Servers {
    list: Vec<Server>,
    order: ServerOrder,
    /// The URL of the server that the newest attempt went to. A protocol may have taken it from the list since.
    url: String,
    /// Its place in the list.
    at: usize,
    /// The next attempt goes to the same server.
    stays: bool,
    /// The failures of this round, oldest first: host and port, and why.
    failures: Vec<(Box<str>, Error)>,
    pub(super) random: Random,
}

/// A source of numbers uniform in [0, 1).
type Random = Box<dyn FnMut() -> f64 + Send>;

struct Server {
    url: String,
    /// In this round.
    tried: bool,
    /// The server has asked to be left alone until then.
    rests_until: Option<Instant>,
    /// The server has refused, and is left out until then.
    out_until: Option<Instant>,
}

/// What a failure at a server says about the attempts that follow.
pub(super) struct Failure {
    pub(super) error: Error,
    /// The server's `Retry-After`.
    pub(super) rest: Option<Duration>,
    /// For how long the server is left out.
    pub(super) out: Option<Duration>,
}

impl Server {
    fn new(url: String) -> Self {
        Self { url, tried: false, rests_until: None, out_until: None }
    }

    /// When an attempt makes sense again; `None` for now.
    fn away(&self, now: Instant) -> Option<Instant> {
        self.rests_until.max(self.out_until).filter(|until| *until > now)
    }

    fn is_out(&self, now: Instant) -> bool {
        self.out_until.is_some_and(|until| until > now)
    }
}

impl Servers {
    /// `list` has been checked: it is not empty.
    pub(super) fn new(list: Vec<String>, order: ServerOrder, random: Random) -> Self {
        let url = list.first().cloned().unwrap_or_default();
        // The first server is next.
        let at = list.len().saturating_sub(1);
        let list = list.into_iter().map(Server::new).collect();
        Self { list, order, url, at, stays: false, failures: Vec::new(), random }
    }

    /// The URL of the server that the newest attempt went to.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Host and port of that server.
    pub(super) fn host(&self) -> Box<str> {
        Endpoint::parse(&self.url).map(|endpoint| endpoint.to_string()).unwrap_or_default().into()
    }

    /// How many servers there are.
    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// Chooses the server of the next attempt: one that was not tried in this round and that may be tried now, if there
    /// is one.
    pub(super) fn choose(&mut self, now: Instant) {
        if std::mem::take(&mut self.stays) {
            return;
        }
        let rank = |server: &Server| (server.tried, server.away(now));
        let best = self.list.iter().map(rank).min();
        let in_turn = (1..=self.list.len()).map(|step| (self.at + step) % self.list.len());
        let mut fit: Vec<usize> = in_turn.filter(|at| Some(rank(&self.list[*at])) == best).collect();
        if self.order == ServerOrder::Random && fit.len() > 1 {
            let drawn = draw((self.random)(), fit.len());
            fit.swap(0, drawn);
        }
        if let Some(at) = fit.first() {
            self.at = *at;
            self.url.clone_from(&self.list[*at].url);
        }
    }

    /// The newest attempt, or the line that it opened, has failed.
    pub(super) fn fail(&mut self, now: Instant, failure: Failure) {
        let Failure { error, rest, out } = failure;
        self.failures.push((self.host(), error));
        if let Some(server) = self.list.iter_mut().find(|server| server.url == self.url) {
            server.tried = true;
            server.rests_until = rest.map(|time| deadline(now, time));
            server.out_until = out.map(|time| deadline(now, time));
        }
    }

    /// The next attempt goes to the same server, in the same round.
    pub(super) fn stay(&mut self) {
        self.stays = true;
    }

    /// Whether the round goes on: a server that was not tried in it can be tried at `then`.
    pub(super) fn has_next(&self, then: Instant) -> bool {
        let fits = |server: &Server| !server.tried && server.away(then).is_none();
        self.failures.len() < self.list.len() && self.list.iter().any(fits)
    }

    /// Whether another server is not left out at `then`.
    pub(super) fn has_other(&self, then: Instant) -> bool {
        self.list.iter().any(|server| server.url != self.url && !server.is_out(then))
    }

    /// How long it is until no `Retry-After` keeps the first server away, if the newest attempt has brought this one.
    pub(super) fn rest(&self, now: Instant, newest: Option<Duration>) -> Duration {
        let rest = |server: &Server| match server.rests_until {
            _ if server.url == self.url => newest.unwrap_or_default(),
            until => until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)),
        };
        self.list.iter().map(rest).min().unwrap_or_default()
    }

    /// How long it is until the first server may be tried. With all of them left out, that they are does not count.
    pub(super) fn floor(&self, now: Instant) -> Duration {
        let all_out = self.list.iter().all(|server| server.is_out(now));
        let until = |server: &Server| if all_out { server.rests_until } else { server.away(now) };
        let first = self.list.iter().map(until).min().flatten();
        first.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    pub(super) fn begin_round(&mut self) {
        self.failures.clear();
        self.list.iter_mut().for_each(|server| server.tried = false);
    }

    /// The failures of this round, oldest first: host and port, and why.
    pub(super) fn failures(&self) -> &[(Box<str>, Error)] {
        &self.failures
    }

    /// Replaces the list by another that has been checked. What is known of servers that stay is kept. `tries_new`:
    /// whether servers that are new are tried in this round.
    pub(super) fn replace(&mut self, list: Vec<String>, tries_new: bool) {
        let mut old = std::mem::take(&mut self.list);
        for url in list {
            let known = old.iter().position(|server| server.url == url).map(|at| old.swap_remove(at));
            self.list.push(known.unwrap_or_else(|| Server { tried: !tries_new, ..Server::new(url) }));
        }
        let current = self.list.iter().position(|server| server.url == self.url);
        self.at = current.unwrap_or(self.list.len().saturating_sub(1));
    }
}

/// A place among `count`. A random source that leaves its range is corrected.
fn draw(random: f64, count: usize) -> usize {
    let random = if random.is_finite() { random.clamp(0.0, 1.0) } else { 0.0 };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a list has 1,024 servers at most, and the number is not negative"
    )]
    let drawn = (random * count as f64) as usize;
    drawn.min(count.saturating_sub(1))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source; the tests step from it")]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn servers(names: &[&str], order: ServerOrder, random: f64) -> Servers {
        let list = names.iter().map(|name| format!("ws://{name}")).collect();
        Servers::new(list, order, Box::new(move || random))
    }

    fn in_turn(names: &[&str]) -> Servers {
        servers(names, ServerOrder::InTurn, 0.0)
    }

    fn failure() -> Failure {
        Failure { error: Error::session("gone"), rest: None, out: None }
    }

    fn rest(time: Duration) -> Failure {
        Failure { rest: Some(time), ..failure() }
    }

    fn out(time: Duration) -> Failure {
        Failure { out: Some(time), ..failure() }
    }

    /// The host of the next attempt.
    fn next(servers: &mut Servers, now: Instant) -> String {
        servers.choose(now);
        servers.url().trim_start_matches("ws://").to_owned()
    }

    /// One attempt that fails. Returns its host, and whether the round goes on.
    fn attempt(servers: &mut Servers, now: Instant, failure: Failure) -> (String, bool) {
        let host = next(servers, now);
        servers.fail(now, failure);
        let goes_on = servers.has_next(now);
        if !goes_on {
            servers.begin_round();
        }
        (host, goes_on)
    }

    fn hosts(servers: &mut Servers, now: Instant, count: usize) -> String {
        (0..count).map(|_| attempt(servers, now, failure()).0).collect()
    }

    #[test]
    fn a_round_in_turn_goes_through_the_list_and_starts_over() {
        let now = Instant::now();
        let mut servers = in_turn(&["a", "b", "c"]);
        let rounds: Vec<_> = (0..6).map(|_| attempt(&mut servers, now, failure())).collect();
        let rounds: Vec<_> = rounds.iter().map(|(host, goes_on)| (host.as_str(), *goes_on)).collect();
        let round = [("a", true), ("b", true), ("c", false)];
        assert_eq!(rounds, [round, round].concat());
    }

    #[test]
    fn one_server_is_a_round_by_itself() {
        let now = Instant::now();
        let mut servers = in_turn(&["a"]);
        assert!(!servers.has_other(now));
        for _ in 0..3 {
            assert_eq!(attempt(&mut servers, now, failure()), ("a".into(), false));
            assert_eq!(servers.floor(now), Duration::ZERO);
        }
        servers.choose(now);
        servers.fail(now, rest(7 * S));
        assert_eq!((servers.has_next(now), servers.floor(now)), (false, 7 * S));
    }

    #[test]
    fn a_round_at_random_tries_each_server_once() {
        let now = Instant::now();
        for random in [0.0, 0.3, 0.5, 0.99, 1.0, 7.0, -1.0, f64::NAN] {
            let mut servers = servers(&["a", "b", "c", "d"], ServerOrder::Random, random);
            for _ in 0..3 {
                let mut round = hosts(&mut servers, now, 4).into_bytes();
                round.sort_unstable();
                assert_eq!(round, b"abcd", "{random}");
            }
        }
        let mut servers = servers(&["a", "b", "c", "d"], ServerOrder::Random, 0.5);
        assert_eq!(next(&mut servers, now), "c", "the first attempt is at random, too");
    }

    #[test]
    fn a_server_that_rests_or_is_left_out_does_not_hold_up_the_round() {
        let now = Instant::now();
        for away in [rest, out] {
            let mut servers = in_turn(&["a", "b", "c"]);
            attempt(&mut servers, now, away(30 * S));
            assert_eq!(hosts(&mut servers, now, 5), "bcbcb");
            assert_eq!(servers.floor(now), Duration::ZERO, "the others need not wait");
            assert_eq!(hosts(&mut servers, now + 30 * S, 3), "cab");
        }
    }

    #[test]
    fn when_none_may_be_tried_the_first_that_may_is_waited_for() {
        let now = Instant::now();
        let mut servers = in_turn(&["a", "b", "c"]);
        attempt(&mut servers, now, rest(60 * S));
        attempt(&mut servers, now, out(30 * S));
        assert_eq!(attempt(&mut servers, now, rest(90 * S)), ("c".into(), false));
        assert_eq!(servers.floor(now + S), 29 * S);
        assert_eq!(next(&mut servers, now + S), "b", "a caller who does not wait");
        assert_eq!(next(&mut servers, now + 60 * S), "a");
    }

    #[test]
    fn with_all_left_out_only_what_they_said_counts() {
        let now = Instant::now();
        let mut servers = in_turn(&["a", "b"]);
        attempt(&mut servers, now, Failure { rest: Some(5 * S), ..out(30 * S) });
        assert!(servers.has_other(now));
        next(&mut servers, now);
        servers.fail(now, Failure { rest: Some(9 * S), ..out(30 * S) });
        assert!(!servers.has_other(now) && !servers.has_next(now));
        assert_eq!(servers.floor(now), 5 * S);
        assert!(servers.has_other(now + 30 * S));
    }

    #[test]
    fn a_failure_without_a_wish_ends_the_rest() {
        let now = Instant::now();
        let mut servers = in_turn(&["a"]);
        attempt(&mut servers, now, rest(60 * S));
        attempt(&mut servers, now, failure());
        assert_eq!(servers.floor(now), Duration::ZERO);
    }

    #[test]
    fn an_attempt_that_stays_takes_no_turn() {
        let now = Instant::now();
        let mut servers = in_turn(&["a", "b"]);
        next(&mut servers, now);
        servers.stay();
        assert_eq!(hosts(&mut servers, now, 3), "aba");
    }

    #[test]
    fn a_new_list_keeps_what_is_known_of_the_servers_that_stay() {
        let now = Instant::now();
        let list = |names: &[&str]| names.iter().map(|name| format!("ws://{name}")).collect();
        let mut servers = in_turn(&["a", "b", "c"]);
        attempt(&mut servers, now, rest(60 * S));
        assert_eq!(next(&mut servers, now), "b");
        servers.replace(list(&["d", "b", "a", "c"]), true);
        servers.fail(now, failure());
        assert_eq!(hosts(&mut servers, now, 3), "cdb", "behind b; a rests");
        servers.replace(list(&["e", "f"]), true);
        assert_eq!(next(&mut servers, now), "e", "the server of the line is not in the list any more");
    }

    #[test]
    fn new_servers_can_be_left_to_the_next_round() {
        let now = Instant::now();
        let mut servers = in_turn(&["a", "b"]);
        next(&mut servers, now);
        servers.replace(["ws://c", "ws://a", "ws://b"].map(Into::into).to_vec(), false);
        servers.fail(now, failure());
        assert_eq!(attempt(&mut servers, now, failure()), ("b".into(), false));
    }

    #[test]
    fn a_list_that_always_changes_does_not_make_an_endless_round() {
        let now = Instant::now();
        let mut servers = in_turn(&["a0", "b0"]);
        for round in 1..9 {
            next(&mut servers, now);
            servers.replace(vec![format!("ws://a{round}"), format!("ws://b{round}")], true);
            servers.fail(now, failure());
            assert_eq!(servers.has_next(now), round % 2 == 1);
            if !servers.has_next(now) {
                servers.begin_round();
            }
        }
    }
}
