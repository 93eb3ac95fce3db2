//! The race of a host's addresses (RFC 8305, section 5): which address is tried next, and when. It has no socket and no
//! clock.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::config::SHORTEST_ATTEMPT_DELAY;
use crate::logging::LOG;

/// What an attempt does next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Begin to connect to this address.
    Begin(SocketAddr),
    /// Close the connection to this address. It counts as failed.
    GiveUp(SocketAddr),
    /// Wait until one of those under way has connected or failed, but not beyond this time.
    Wait(Option<Instant>),
    /// All have failed.
    End,
}

pub(crate) struct Race {
    /// In the order of the attempts.
    waiting: VecDeque<SocketAddr>,
    /// Under way, and since when; in the order in which they began.
    running: VecDeque<(SocketAddr, Instant)>,
    failures: Vec<(SocketAddr, io::Error)>,
    delay: Duration,
    /// When the next one may begin beside those under way. `None`: at once.
    next: Option<Instant>,
}

/// So many are under way at once. With the default delay, the first of them has had 4 s when the next one wants its place.
const MOST_AT_ONCE: usize = 16;

/// How long an address keeps its place when others wait for it. The system repeats a lost SYN after 1 s.
const LEAST_PATIENCE: Duration = Duration::from_secs(2);

/// The delay before the next of `count` addresses, so that each of those that may be under way at once begins in the time
/// that is left, however long the setting is.
pub(crate) fn delay(setting: Duration, left: Duration, count: usize) -> Duration {
    let count = u32::try_from(count.clamp(1, MOST_AT_ONCE)).unwrap_or(1);
    setting.min((left / count).max(SHORTEST_ATTEMPT_DELAY))
}

impl Race {
    pub(crate) fn new(order: Vec<SocketAddr>, delay: Duration) -> Self {
        Self { waiting: order.into(), running: VecDeque::new(), failures: Vec::new(), delay, next: None }
    }

    pub(crate) fn poll(&mut self, now: Instant) -> Step {
        let Some(address) = self.waiting.front().copied() else {
            // The attempt's deadline ends them.
            return if self.running.is_empty() { Step::End } else { Step::Wait(None) };
        };
        let oldest = self.running.front().copied().filter(|_| self.running.len() >= MOST_AT_ONCE);
        let place = oldest.map(|(_, began)| crate::config::deadline(began, LEAST_PATIENCE));
        if let Some(due) = self.next.max(place).filter(|due| *due > now) {
            return Step::Wait(Some(due));
        }
        if let Some((oldest, began)) = oldest {
            self.handle_failure(oldest, silent(now, began));
            return Step::GiveUp(oldest);
        }
        self.waiting.pop_front();
        self.running.push_back((address, now));
        self.next = Some(crate::config::deadline(now, self.delay));
        Step::Begin(address)
    }

    /// This address failed. The next one begins at once.
    pub(crate) fn handle_failure(&mut self, address: SocketAddr, error: io::Error) {
        log::debug!(target: LOG, "{address} did not take the connection: {error}");
        self.running.retain(|(other, _)| *other != address);
        self.failures.push((address, error));
        self.next = None;
    }

    /// Those that have not answered yet, in the order in which they began.
    pub(crate) fn running(&self) -> impl Iterator<Item = SocketAddr> {
        self.running.iter().map(|(address, _)| *address)
    }

    /// Those that have failed, in this order.
    pub(crate) fn failures(&self) -> &[(SocketAddr, io::Error)] {
        &self.failures
    }

    /// All that have failed, and that have not answered until now.
    pub(crate) fn into_failures(mut self, now: Instant) -> Vec<(SocketAddr, io::Error)> {
        self.failures.extend(self.running.iter().map(|(address, began)| (*address, silent(now, *began))));
        self.failures
    }
}

fn silent(now: Instant, began: Instant) -> io::Error {
    let why = format!("no answer within {:.1?}", now.saturating_duration_since(began));
    io::Error::new(io::ErrorKind::TimedOut, why)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(250);

    fn address(n: u16) -> SocketAddr {
        ([127, 0, 0, 1], n).into()
    }

    fn race(addresses: u16) -> (Race, Instant) {
        (Race::new((1..=addresses).map(address).collect(), DELAY), Instant::now())
    }

    fn refused() -> io::Error {
        io::ErrorKind::ConnectionRefused.into()
    }

    fn ports(race: &Race) -> Vec<u16> {
        race.running().map(|address| address.port()).collect()
    }

    #[test]
    fn the_next_address_begins_after_the_delay_while_the_first_goes_on() {
        let (mut race, start) = race(2);
        assert_eq!(race.poll(start), Step::Begin(address(1)));
        assert_eq!(race.poll(start), Step::Wait(Some(start + DELAY)));
        assert_eq!(
            race.poll(start + DELAY / 2),
            Step::Wait(Some(start + DELAY)),
            "to ask early does no harm"
        );
        assert_eq!(race.poll(start + DELAY), Step::Begin(address(2)));
        assert_eq!(race.poll(start + DELAY * 100), Step::Wait(None), "the deadline ends the last ones");
        assert_eq!(ports(&race), [1, 2]);
    }

    #[test]
    fn the_next_address_begins_at_once_when_one_fails_and_the_delay_counts_from_there() {
        let (mut race, start) = race(4);
        let ms = Duration::from_millis;
        assert_eq!(race.poll(start), Step::Begin(address(1)));
        race.handle_failure(address(1), refused());
        assert_eq!(race.poll(start + ms(10)), Step::Begin(address(2)));
        assert_eq!(race.poll(start + ms(10)), Step::Wait(Some(start + ms(10) + DELAY)));
        assert_eq!(race.poll(start + ms(260)), Step::Begin(address(3)));
        race.handle_failure(address(2), refused());
        assert_eq!(race.poll(start + ms(270)), Step::Begin(address(4)), "while 3 goes on");
        assert_eq!(ports(&race), [3, 4]);
    }

    #[test]
    fn when_all_have_failed_each_error_is_kept_in_the_order_in_which_they_failed() {
        let (mut race, start) = race(2);
        assert_eq!(race.poll(start), Step::Begin(address(1)));
        assert_eq!(race.poll(start + DELAY), Step::Begin(address(2)));
        race.handle_failure(address(2), refused());
        assert_eq!(race.poll(start + DELAY), Step::Wait(None));
        race.handle_failure(address(1), io::ErrorKind::HostUnreachable.into());
        assert_eq!(race.poll(start + DELAY), Step::End);
        let failures: Vec<_> =
            race.into_failures(start).iter().map(|(address, error)| (address.port(), error.kind())).collect();
        assert_eq!(failures, [(2, io::ErrorKind::ConnectionRefused), (1, io::ErrorKind::HostUnreachable)]);
    }

    #[test]
    fn a_delay_that_is_longer_than_the_attempt_leaves_each_address_its_share() {
        let second = Duration::from_secs(1);
        for (setting, left, count, expected) in [
            (DELAY, 10 * second, 2, DELAY),
            (DELAY, 10 * second, 1000, DELAY),
            (Duration::MAX, 10 * second, 2, 5 * second),
            (20 * second, 10 * second, 5, 2 * second),
            (DELAY, second / 5, 2, second / 10),
            (DELAY, Duration::ZERO, 2, SHORTEST_ATTEMPT_DELAY),
            (DELAY, second, 0, DELAY),
        ] {
            assert_eq!(delay(setting, left, count), expected, "{setting:?} {left:?} {count}");
        }
    }

    #[test]
    fn a_race_without_addresses_ends_at_once() {
        let (mut race, start) = race(0);
        assert_eq!(race.poll(start), Step::End);
    }

    #[test]
    fn a_thousand_silent_addresses_are_all_tried_sixteen_at_once() {
        let (mut race, mut now) = race(1000);
        let start = now;
        let mut begun = 0;
        loop {
            match race.poll(now) {
                Step::Begin(_) => begun += 1,
                Step::GiveUp(_) => {}
                Step::Wait(Some(until)) => now = until,
                Step::Wait(None) => break,
                Step::End => panic!("they are silent"),
            }
            assert!(race.running.len() <= MOST_AT_ONCE);
        }
        assert_eq!((begun, race.running.len()), (1000, MOST_AT_ONCE));
        assert_eq!(now - start, DELAY * 999, "none of them had to wait for a place");
    }

    #[test]
    fn an_address_keeps_its_place_for_two_seconds_however_short_the_delay_is() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut race = Race::new((1..=17).map(address).collect(), ms(10));
        for n in 1..=16 {
            assert_eq!(race.poll(start + ms(10 * (u64::from(n) - 1))), Step::Begin(address(n)));
        }
        assert_eq!(race.poll(start + ms(160)), Step::Wait(Some(start + LEAST_PATIENCE)));
        assert_eq!(race.poll(start + ms(2000)), Step::GiveUp(address(1)));
        assert_eq!(race.poll(start + ms(2000)), Step::Begin(address(17)));
        assert_eq!(race.into_failures(start)[0].1.to_string(), "no answer within 2.0s");
    }
}
