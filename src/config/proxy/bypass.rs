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
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// A name, and those below it.
    Below(Box<str>),
    /// The addresses that have this many first bits of this one.
    Block(IpAddr, u8),
}

impl Bypass {
    /// The error says which entry is wrong, and how. It repeats none: one may hold a password by mistake.
    pub(super) fn parse(list: &str) -> Result<Self, String> {
        let entries = list.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        let parsed = entries.enumerate().map(|(at, entry)| {
            Entry::parse(entry).map_err(|why| format!("its entry number {} {why}", at + 1))
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn has(&self, endpoint: &Endpoint) -> bool {
        let name = endpoint.tls_name().to_ascii_lowercase();
        let address = name.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        self.0.iter().any(|entry| {
            entry.port.is_none_or(|port| port == endpoint.port) && entry.hosts.have(&name, address)
        })
    }
}

impl Entry {
    fn parse(entry: &str) -> Result<Self, String> {
        if entry == "*" {
            return Ok(Self { hosts: Hosts::All, port: None });
        }
        if let Some((address, bits)) = entry.split_once('/') {
            return Ok(Self { hosts: Hosts::block(address, bits)?, port: None });
        }
        if let Some(address) = address(entry) {
            return Ok(Self { hosts: Hosts::Block(address, bits_of(address)), port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => {
                let port = port.parse().ok().filter(|number| *number > 0);
                (host, Some(port.ok_or("has a port that is not a number from 1 to 65535")?))
            }
            None => (entry, None),
        };
        if host == "*" {
            return Ok(Self { hosts: Hosts::All, port });
        }
        if let Some(address) = address(host) {
            return Ok(Self { hosts: Hosts::Block(address, bits_of(address)), port });
        }
        let name = host.strip_prefix('*').unwrap_or(host);
        if name.len() < host.len() && !name.starts_with('.') {
            return Err("has a '*' that is not alone and not before a dot".into());
        }
        let name = name.strip_prefix('.').unwrap_or(name);
        let endpoint = Some(name).filter(|name| !name.contains([':', '/', '?', '#', '@', '[', ']']));
        let endpoint = endpoint.and_then(|name| Endpoint::parse(&format!("ws://{name}")).ok());
        let Some(endpoint) = endpoint else {
            return Err("is no host name, no address, no block of addresses and no '*'".into());
        };
        Ok(Self { hosts: Hosts::Below(endpoint.tls_name().to_ascii_lowercase().into()), port })
    }
}

impl Hosts {
    fn block(address: &str, bits: &str) -> Result<Self, String> {
        let wrong = "is no block of addresses, such as 10.0.0.0/8 or fd00::/8";
        let address = self::address(address).ok_or(wrong)?;
        let most = bits_of(address);
        let digits = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        match bits.parse() {
            Ok(bits) if digits && bits <= most => Ok(Self::Block(address, bits)),
            _ => Err(format!("is a block of addresses with a number behind its '/' that is not 0 to {most}")),
        }
    }

    fn have(&self, name: &str, address: Option<IpAddr>) -> bool {
        match self {
            Self::All => true,
            Self::Below(domain) => name
                .strip_suffix(&**domain)
                .is_some_and(|before| address.is_none() && (before.is_empty() || before.ends_with('.'))),
            Self::Block(block, bits) => address.is_some_and(|address| match (block, address) {
                (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32 - bits),
                (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128 - bits),
                _ => false,
            }),
        }
    }
}

/// Whether two numbers differ in their last bits only.
fn same(a: u128, b: u128, last: u8) -> bool {
    (a ^ b).checked_shr(last.into()).unwrap_or(0) == 0
}

/// An address, with brackets or without. Its zone makes no difference, since it is another one on each machine.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = bracketed.unwrap_or(text);
    let address = address.split_once('%').map_or(address, |(address, _)| address);
    let address: IpAddr = address.parse().ok()?;
    (address.is_ipv6() || bracketed.is_none()).then(|| address.to_canonical())
}

fn bits_of(address: IpAddr) -> u8 {
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
            ("fe80::1%eth0", &["ws://[fe80::1%25eth1]"], &["ws://[fe80::2]"]),
            ("fd00::/8", &["ws://[fdab::1]"], &["ws://[fe80::1]"]),
            ("[fd00::]/8", &["ws://[fdab::1]"], &["ws://[fe80::1]"]),
            ("localhost", &["ws://localhost:9"], &["ws://127.0.0.1", "ws://[::1]"]),
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
    fn an_entry_that_can_not_be_read_is_named_by_its_number_and_not_repeated() {
        for (list, says) in [
            ("a,s3cret@b", "its entry number 2 is no host name"),
            ("http://s3cret", "entry number 1 is no block of addresses"),
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
            ("s3cret?x", "is no host name"),
        ] {
            let error = Bypass::parse(list).expect_err(list);
            assert!(error.contains(says) && !error.contains("s3cret"), "{list:?}: {error}");
        }
    }
}
