//! In which order the addresses of a host are tried, and which of them failed of late.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{AddressFamily, NetworkConfig};

/// The addresses of a host, sorted.
#[derive(Debug)]
pub(crate) struct Sorted {
    /// In the order of the attempts. None is there twice.
    pub(crate) order: Vec<SocketAddr>,
    /// Those that a setting leaves out, and why.
    pub(crate) left_out: Vec<(SocketAddr, io::Error)>,
}

/// Sorts what a resolver has returned (RFC 8305, section 4). `failed` are the addresses that go last, in this order.
pub(crate) fn sort(found: &[SocketAddr], network: &NetworkConfig, failed: &[SocketAddr]) -> Sorted {
    let mut sorted = Sorted { order: Vec::new(), left_out: Vec::new() };
    let mut used = Vec::new();
    for address in found.iter().copied().map(canonical) {
        let known = used.contains(&address) || sorted.left_out.iter().any(|(other, _)| *other == address);
        match unusable(address, network) {
            _ if known => {}
            Some(why) => {
                let why = io::Error::new(io::ErrorKind::AddrNotAvailable, why);
                sorted.left_out.push((address, why));
            }
            None => used.push(address),
        }
    }
    let ipv6_first = match network.family {
        AddressFamily::PreferIpv4 | AddressFamily::Ipv4Only => false,
        AddressFamily::PreferIpv6 | AddressFamily::Ipv6Only => true,
        AddressFamily::Any => used.first().is_some_and(SocketAddr::is_ipv6),
    };
    let (last, good): (Vec<_>, Vec<_>) = used.into_iter().partition(|address| failed.contains(address));
    let (mut first, mut second): (VecDeque<_>, VecDeque<_>) =
        good.into_iter().partition(|address| address.is_ipv6() == ipv6_first);
    while !first.is_empty() || !second.is_empty() {
        sorted.order.extend(first.pop_front());
        sorted.order.extend(second.pop_front());
    }
    sorted.order.extend(failed.iter().filter(|address| last.contains(address)));
    sorted
}

/// An IPv4 address that was written as an IPv6 address is one of IPv4: that is how it is reached.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// Why a setting leaves this address out.
fn unusable(address: SocketAddr, network: &NetworkConfig) -> Option<String> {
    let other = if address.is_ipv6() { "IPv4" } else { "IPv6" };
    if !network.family.allows(address.is_ipv6()) {
        let family = network.family;
        return Some(format!(
            "left out, because network.family is {family:?}; choose Any, or a host with an {other} address"
        ));
    }
    let local = network.local_address.filter(|local| local.is_ipv6() != address.is_ipv6())?;
    Some(format!(
        "left out, because network.local_address is {local}; choose none or one of the same family, or a host with an {other} address"
    ))
}

/// The addresses that failed, shared by all attempts of one client.
#[derive(Default)]
pub(crate) struct Failed {
    /// In the order in which they failed last.
    addresses: Mutex<VecDeque<(SocketAddr, Instant)>>,
}

/// So many addresses are remembered.
const REMEMBERED: usize = 256;

/// A network may have been mended meanwhile, and the address that was first has its advantages.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

impl Failed {
    /// The address has just failed.
    pub(crate) fn add(&self, now: Instant, address: SocketAddr) {
        let mut addresses = self.lock();
        addresses.retain(|(other, _)| *other != address);
        addresses.push_back((address, now));
        if addresses.len() > REMEMBERED {
            addresses.pop_front();
        }
    }

    /// Somebody has answered there.
    pub(crate) fn forget(&self, address: SocketAddr) {
        self.lock().retain(|(other, _)| *other != address);
    }

    /// Those that failed in the last ten minutes, the latest last.
    pub(crate) fn recent(&self, now: Instant) -> Vec<SocketAddr> {
        let mut addresses = self.lock();
        addresses.retain(|(_, at)| now.saturating_duration_since(*at) < FORGOTTEN_AFTER);
        addresses.iter().map(|(address, _)| *address).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(SocketAddr, Instant)>> {
        // No code that can panic runs under the lock.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
mod tests {
    use super::*;

    fn addresses(list: &str) -> Vec<SocketAddr> {
        let address = |name: &str| match name.split_at(1) {
            ("4", n) => format!("10.0.0.{n}:80"),
            (_, n) => format!("[fd00::{n}]:80"),
        };
        list.split_whitespace().map(|name| address(name).parse().unwrap()).collect()
    }

    fn order(found: &str, family: AddressFamily, failed: &str) -> Vec<SocketAddr> {
        let network = NetworkConfig::default().family(family);
        sort(&addresses(found), &network, &addresses(failed)).order
    }

    #[test]
    fn families_take_turns_beginning_with_the_preferred_or_the_first_and_keep_their_order() {
        use AddressFamily::{Any, Ipv4Only, Ipv6Only, PreferIpv4, PreferIpv6};
        for (found, family, expected) in [
            ("61 62 63 41 42", Any, "61 41 62 42 63"),
            ("41 61 62 63", Any, "41 61 62 63"),
            ("61 62 41 42", PreferIpv4, "41 61 42 62"),
            ("41 42 61", PreferIpv6, "61 41 42"),
            ("41 42", PreferIpv6, "41 42"),
            ("61 41 62 42", Ipv4Only, "41 42"),
            ("61 41 62 42", Ipv6Only, "61 62"),
            ("41 41 61 41 61", Any, "41 61"),
        ] {
            assert_eq!(order(found, family, ""), addresses(expected), "{found} {family:?}");
        }
    }

    #[test]
    fn what_failed_goes_last_the_latest_behind_the_others_and_what_is_left_takes_turns() {
        for (failed, expected) in [
            ("61", "62 41 42 61"),
            ("41", "61 42 62 41"),
            ("41 61", "62 42 41 61"),
            ("61 62 41 42", "61 62 41 42"),
            ("42 41 62 61", "42 41 62 61"),
            ("49", "61 41 62 42"),
        ] {
            let order = order("61 62 41 42", AddressFamily::PreferIpv6, failed);
            assert_eq!(order, addresses(expected), "{failed}");
        }
    }

    #[test]
    fn an_address_that_a_setting_leaves_out_says_which_and_what_to_do() {
        let network = NetworkConfig::default().family(AddressFamily::Ipv6Only);
        let Sorted { order, left_out } = sort(&addresses("41 61 41"), &network, &[]);
        assert_eq!((order, left_out.len()), (addresses("61"), 1));
        assert_eq!(left_out[0].0, addresses("41")[0]);
        assert_eq!(
            left_out[0].1.to_string(),
            "left out, because network.family is Ipv6Only; choose Any, or a host with an IPv6 address"
        );
        let network = NetworkConfig::default().local_address([127, 0, 0, 2].into());
        let Sorted { order, left_out } = sort(&addresses("41 61"), &network, &[]);
        assert_eq!((order, left_out.len()), (addresses("41"), 1));
        assert!(
            left_out[0].1.to_string().starts_with("left out, because network.local_address is 127.0.0.2;")
        );
    }

    #[test]
    fn an_ipv4_address_in_the_clothes_of_ipv6_is_one_of_ipv4() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        let network = NetworkConfig::default().family(AddressFamily::Ipv4Only);
        assert_eq!(sort(&[mapped, addresses("41")[0]], &network, &[]).order, addresses("41"));
    }

    #[test]
    fn a_failure_is_remembered_for_ten_minutes_or_until_somebody_answers() {
        let (failed, start) = (Failed::default(), Instant::now());
        let known = addresses("41 42 61");
        for address in &known {
            failed.add(start, *address);
        }
        failed.add(start + Duration::from_secs(1), known[0]);
        assert_eq!(failed.recent(start), addresses("42 61 41"));
        failed.forget(known[2]);
        assert_eq!(failed.recent(start + Duration::from_secs(599)), addresses("42 41"));
        assert_eq!(failed.recent(start + Duration::from_secs(600)), addresses("41"));
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_the_latest() {
        let (failed, now) = (Failed::default(), Instant::now());
        for port in 1..=1000 {
            failed.add(now, ([127, 0, 0, 1], port).into());
        }
        let kept = failed.recent(now);
        assert_eq!((kept.len(), kept[0].port(), kept[255].port()), (256, 745, 1000));
    }
}
