//! Which servers are reached without the proxy.

use std::net::IpAddr;

use crate::endpoint::Endpoint;

/// The entries of a list such as `NO_PROXY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bypass(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    port: Option<u16>,
    /// What is to be said if it may mean something else.
    doubt: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// A name, and those below it.
    Below(Box<str>),
    /// The addresses that have this many first bits of this one, and this zone, if there is one.
    Block(Address, u8),
}

/// An address, and the network interface that it belongs to.
type Address = (IpAddr, Option<Box<str>>);

impl Bypass {
    /// The error says which entry is wrong, and how. It repeats none: one may hold a password by mistake.
    pub(super) fn parse(list: &str) -> Result<Self, String> {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        let parsed = entries
            .enumerate()
            .map(|(at, entry)| Entry::parse(without_scheme(entry)).map_err(|why| numbered(at, &why)));
        parsed.collect::<Result<_, _>>().map(Self)
    }

    /// Which entries may mean something else than they match, for the log, and how to write that.
    pub(super) fn doubts(&self) -> impl Iterator<Item = String> {
        let entries = self.0.iter().enumerate();
        entries.filter_map(|(at, entry)| entry.doubt.map(|doubt| numbered(at, doubt)))
    }

    pub(super) fn has(&self, endpoint: &Endpoint) -> bool {
        let name = endpoint.tls_name().to_ascii_lowercase();
        let address = name.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let address = address.map(|address| (address, endpoint.zone.clone()));
        self.0.iter().any(|entry| {
            entry.port.is_none_or(|port| port == endpoint.port) && entry.hosts.have(&name, address.as_ref())
        })
    }
}

/// No entry is repeated: see [`Bypass::parse`].
fn numbered(at: usize, what: &str) -> String {
    format!("its entry number {} {what}", at + 1)
}

const PORT_OR_NOT: &str = "is taken for an IPv6 address without a port; if its last part is a port, write brackets, such as [fd00::1]:80";

const NO_ADDRESS: &str = "ends in a number and is no address, so it matches names alone; for the addresses that begin \
                          so, write a block, such as 10.0.0.0/8";

impl Entry {
    fn parse(entry: &str) -> Result<Self, String> {
        let all = |hosts, port| Ok(Self { hosts, port, doubt: None });
        if entry == "*" {
            return all(Hosts::All, None);
        }
        if let Some((address, bits)) = entry.split_once('/') {
            return all(Hosts::block(address, bits)?, None);
        }
        let split = entry.rsplit_once(':');
        if let Some(address) = address(entry) {
            let port_or_not = split.is_some_and(|(host, port)| {
                !host.starts_with('[') && self::address(host).is_some() && number(port).is_some()
            });
            let doubt = port_or_not.then_some(PORT_OR_NOT);
            return Ok(Self { hosts: Hosts::only(address), port: None, doubt });
        }
        let (host, port) = match split {
            Some((host, port)) => {
                (host, Some(number(port).ok_or("has a port that is not a number from 1 to 65535")?))
            }
            None => (entry, None),
        };
        if host == "*" {
            return all(Hosts::All, port);
        }
        if let Some(address) = address(host) {
            return all(Hosts::only(address), port);
        }
        let name = host.strip_prefix('*').unwrap_or(host);
        if name.len() < host.len() && !name.starts_with('.') {
            return Err("has a '*' that is not alone and not before a dot".into());
        }
        let name = name.strip_prefix('.').unwrap_or(name);
        let endpoint = Some(name).filter(|name| !name.contains([':', '/', '?', '#', '@', '[', ']']));
        let endpoint = endpoint.and_then(|name| Endpoint::parse(&format!("ws://{name}")).ok());
        let wrong = "is no host name, no address, no block of addresses and no '*'";
        let name = endpoint.ok_or(wrong)?.tls_name().to_ascii_lowercase();
        // A dot behind an address is one behind a name.
        match address(&name) {
            Some((address, _)) if host.starts_with(['*', '.']) => {
                Err(format!("has something before the address {address}, below which no name is"))
            }
            Some(address) => all(Hosts::only(address), port),
            None => {
                let last = name.rsplit('.').next().unwrap_or_default();
                let doubt = last.bytes().all(|byte| byte.is_ascii_digit()).then_some(NO_ADDRESS);
                Ok(Self { hosts: Hosts::Below(name.into()), port, doubt })
            }
        }
    }
}

/// An entry that is a URL means its host, and its port if it has one.
fn without_scheme(entry: &str) -> &str {
    match entry.split_once("://") {
        Some((scheme, rest)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            rest.strip_suffix('/').unwrap_or(rest)
        }
        _ => entry,
    }
}

fn number(port: &str) -> Option<u16> {
    port.parse().ok().filter(|number| *number > 0)
}

impl Hosts {
    fn only(address: Address) -> Self {
        let bits = bits_of(&address);
        Self::Block(address, bits)
    }

    fn block(address: &str, bits: &str) -> Result<Self, String> {
        let wrong = "is no block of addresses, such as 10.0.0.0/8 or fd00::/8";
        let address = self::address(address).ok_or(wrong)?;
        let most = bits_of(&address);
        let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        match bits.parse() {
            Ok(bits) if digits && bits <= most => Ok(Self::Block(address, bits)),
            _ => Err(format!("is a block of addresses with a number behind its '/' that is not 0 to {most}")),
        }
    }

    fn have(&self, name: &str, address: Option<&Address>) -> bool {
        match self {
            Self::All => true,
            Self::Below(domain) => name
                .strip_suffix(&**domain)
                .is_some_and(|before| address.is_none() && (before.is_empty() || before.ends_with('.'))),
            Self::Block((block, zone), bits) => address.is_some_and(|(address, its)| {
                let begins_alike = match (block, address) {
                    (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32 - bits),
                    (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128 - bits),
                    _ => false,
                };
                begins_alike && (zone.is_none() || zone == its)
            }),
        }
    }
}

/// Whether two numbers differ in their last bits only.
fn same(a: u128, b: u128, last: u8) -> bool {
    (a ^ b).checked_shr(last.into()).unwrap_or(0) == 0
}

/// An address, with brackets or without. Its zone is written as the system does, or as in a URL (RFC 6874).
fn address(text: &str) -> Option<Address> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bracketed.unwrap_or(text);
    let (address, zone) = match address.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (address, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let may_be = if address.is_ipv4() { bracketed.is_none() && zone.is_none() } else { zone != Some("") };
    may_be.then(|| (address.to_canonical(), zone.map(Into::into)))
}

fn bits_of((address, _): &Address) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(list: &str, url: &str) -> bool {
        Bypass::parse(list).expect(list).has(&Endpoint::parse(url).expect(url))
    }

    #[test]
    fn each_form_of_an_entry_matches_what_it_should_and_nothing_else() {
        for (list, inside, outside) in [
            ("*", &["ws://h", "ws://[::1]:81"][..], &[][..]),
            ("*:81", &["ws://h:81"], &["ws://h"]),
            ("", &[], &["ws://h", "ws://10.0.0.1"]),
            (" , ,", &[], &["ws://h"]),
            (
                "corp.example",
                &[
                    "ws://corp.example",
                    "ws://a.b.corp.example",
                    "ws://CORP.example.",
                    "wss://corp.example:81",
                ],
                &["ws://notcorp.example", "ws://example", "ws://corp.example.org"],
            ),
            (".corp.example", &["ws://corp.example", "ws://a.corp.example"], &["ws://acorp.example"]),
            ("*.corp.example", &["ws://corp.example", "ws://a.corp.example"], &["ws://acorp.example"]),
            ("Corp.Example.", &["ws://corp.example", "ws://a.corp.example."], &[]),
            (
                "corp.example:8080",
                &["ws://a.corp.example:8080"],
                &["ws://corp.example", "wss://corp.example"],
            ),
            (".corp.example:443", &["wss://corp.example"], &["ws://corp.example"]),
            ("a,b c\td\n", &["ws://a", "ws://b", "ws://c", "ws://d"], &["ws://e"]),
            ("10.1.2.3", &["ws://10.1.2.3:81", "ws://[::ffff:10.1.2.3]"], &["ws://10.1.2.4", "ws://3"]),
            ("2.3", &[], &["ws://10.1.2.3"]),
            ("10.1.2.3:81", &["ws://10.1.2.3:81"], &["ws://10.1.2.3"]),
            ("10.0.0.0/8", &["ws://10.255.0.1", "ws://[::ffff:10.0.0.1]"], &["ws://11.0.0.1", "ws://h"]),
            ("10.1.2.3/31", &["ws://10.1.2.2", "ws://10.1.2.3"], &["ws://10.1.2.4", "ws://10.1.2.1"]),
            ("10.1.2.3/32", &["ws://10.1.2.3"], &["ws://10.1.2.2"]),
            ("0.0.0.0/0", &["ws://255.1.2.3"], &["ws://[::1]", "ws://h"]),
            ("::/0", &["ws://[::1]"], &["ws://10.0.0.1"]),
            ("::1", &["ws://[::1]", "ws://[::1]:81"], &["ws://[::2]"]),
            ("[::1]", &["ws://[0:0::1]"], &["ws://[::2]"]),
            ("[::1]:81", &["ws://[::1]:81"], &["ws://[::1]"]),
            ("fe80::1", &["ws://[fe80::1%25eth1]", "ws://[fe80::1]"], &["ws://[fe80::2]"]),
            (
                "fe80::1%eth0",
                &["ws://[fe80::1%25eth0]", "ws://[fe80::1%25eth0]:81"],
                &[
                    "ws://[fe80::1%25eth1]",
                    "ws://[fe80::1%25ETH0]",
                    "ws://[fe80::1]",
                    "ws://[fe80::2%25eth0]",
                ],
            ),
            ("[fe80::1%25eth0]:81", &["ws://[fe80::1%25eth0]:81"], &["ws://[fe80::1%25eth1]:81"]),
            ("fe80::%eth0/64", &["ws://[fe80::7%25eth0]"], &["ws://[fe80::7%25eth1]", "ws://[fe80::7]"]),
            ("fe80::/64", &["ws://[fe80::7%25eth0]"], &["ws://[fe81::7%25eth0]"]),
            ("fd00::/8", &["ws://[fdab::1]"], &["ws://[fe80::1]"]),
            ("[fd00::]/8", &["ws://[fdab::1]"], &["ws://[fe80::1]"]),
            ("localhost", &["ws://localhost:9"], &["ws://127.0.0.1", "ws://[::1]"]),
            ("127.0.0.1.", &["ws://127.0.0.1", "ws://127.0.0.1.:81"], &["ws://127.0.0.2"]),
            ("127.0.0.1.:81", &["ws://127.0.0.1:81"], &["ws://127.0.0.1"]),
            ("::1:80", &["ws://[::1:80]:9"], &["ws://[::1]", "ws://[::1]:80"]),
            ("[::1:80]", &["ws://[::1:80]"], &["ws://[::1]"]),
            ("[::1]:80", &["ws://[::1]"], &["ws://[::1]:81", "ws://[::1:80]"]),
            ("http://corp.example", &["ws://corp.example", "wss://a.corp.example:9"], &["ws://example"]),
            ("HTTPS://corp.example:81/", &["ws://corp.example:81"], &["ws://corp.example"]),
            ("ws://[::1]:81", &["ws://[::1]:81"], &["ws://[::1]"]),
            ("http://10.1.2.3/", &["ws://10.1.2.3"], &["ws://10.1.2.4"]),
            ("192.168.", &["ws://192.168"], &["ws://192.168.0.1"]),
        ] {
            for url in inside {
                assert!(has(list, url), "{url} is in {list:?}");
            }
            for url in outside {
                assert!(!has(list, url), "{url} is not in {list:?}");
            }
        }
    }

    #[test]
    fn an_entry_that_may_mean_something_else_is_named_by_its_number() {
        for (list, says) in [
            ("a,::1:80", "its entry number 2 is taken for an IPv6 address without a port"),
            ("fd00::1:8080", "write brackets, such as [fd00::1]:80"),
            ("192.168.", "ends in a number and is no address"),
            ("b 10", "its entry number 2 ends in a number"),
        ] {
            let bypass = Bypass::parse(list).expect(list);
            let doubts: Vec<_> = bypass.doubts().collect();
            let [doubt] = &doubts[..] else { panic!("{list}: {doubts:?}") };
            assert!(doubt.contains(says), "{list}: {doubt}");
        }
        let clear =
            "::1 fd00::1 fe80::a:b [::1:80] [::1]:80 1:2:3:4:5:6:7:80 127.0.0.1 127.0.0.1. h2 10.0.0.0/8 *";
        assert_eq!(Bypass::parse(clear).unwrap().doubts().next(), None);
    }

    #[test]
    fn an_entry_that_can_not_be_read_is_named_by_its_number_and_not_repeated() {
        for (list, says) in [
            ("a,s3cret@b", "its entry number 2 is no host name"),
            ("http://ann:s3cret@h", "a port that is not a number"),
            ("http://ann@s3cret", "is no host name"),
            ("http://h/s3cret", "entry number 1 is no block of addresses"),
            ("s3cret+x://h", "entry number 1 is no block of addresses"),
            ("*.10.1.2.3", "before the address 10.1.2.3"),
            (".10.1.2.3", "before the address 10.1.2.3"),
            ("s3cret/8", "is no block of addresses"),
            ("10.0.0.0/33", "not 0 to 32"),
            ("10.0.0.0/", "not 0 to 32"),
            ("10.0.0.0/+8", "not 0 to 32"),
            ("::/129", "not 0 to 128"),
            ("a:0", "a port that is not a number"),
            ("a:99999", "a port that is not a number"),
            ("a:s3cret", "a port that is not a number"),
            ("*s3cret", "a '*' that is not alone"),
            ("s3c*ret", "is no host name"),
            (".", "is no host name"),
            ("[10.0.0.1]", "is no host name"),
            ("10.0.0.1%s3cret", "is no host name"),
            ("[fe80::1%]", "a port that is not a number"),
            ("s3cret?x", "is no host name"),
        ] {
            let error = Bypass::parse(list).expect_err(list);
            assert!(error.contains(says) && !error.contains("s3cret"), "{list:?}: {error}");
        }
    }
}
