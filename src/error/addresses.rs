//! Why none of several addresses could be connected to.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why none of a host's addresses could be connected to: each address with its own error, those first that were left out
/// by a setting, and the others in the order in which they failed. It is inside the `source` of
/// [`Error::Connect`](crate::Error::Connect) when the host has several addresses. The text lists the first 16.
///
/// ```
/// use tautline::{AddressErrors, Client, Error};
///
/// // Nobody listens on port 1.
/// let client = Client::builder("ws://gateway.example")
///     .resolver(|_, _| Ok(vec![([127, 0, 0, 1], 1).into(), ([127, 0, 0, 2], 1).into()]));
/// let Err(Error::Connect { source, .. }) = client.connect() else { panic!() };
/// let failures = source.get_ref().and_then(|error| error.downcast_ref::<AddressErrors>()).unwrap();
/// for (address, error) in failures.iter() {
///     println!("{address}: {:?}", error.kind());
/// }
/// # assert_eq!(failures.iter().count(), 2);
/// ```
#[derive(Debug)]
pub struct AddressErrors {
    failures: Vec<(SocketAddr, io::Error)>,
}

/// The text names so many addresses, and how many more there are.
const SHOWN: usize = 16;

impl AddressErrors {
    /// Returns each address with its error.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &io::Error)> {
        self.failures.iter().map(|(address, error)| (*address, error))
    }

    /// The error of one address as it is, or those of several in one.
    pub(crate) fn join(mut failures: Vec<(SocketAddr, io::Error)>) -> io::Error {
        match (failures.pop(), failures.is_empty()) {
            (None, _) => io::Error::new(io::ErrorKind::NotFound, "the host name has no address"),
            (Some((_, only)), true) => only,
            (Some((address, last)), false) => {
                let kind = last.kind();
                failures.push((address, last));
                io::Error::new(kind, Self { failures })
            }
        }
    }
}

impl fmt::Display for AddressErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none of its {} addresses can be reached", self.failures.len())?;
        for (at, (address, error)) in self.failures.iter().take(SHOWN).enumerate() {
            let then = if at == 0 { ": " } else { "; " };
            write!(f, "{then}({}) {address}: {error}", at + 1)?;
        }
        match self.failures.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl StdError for AddressErrors {
    /// The error of the last address.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.failures.last().map(|(_, error)| error as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn failure(port: u16, kind: io::ErrorKind) -> (SocketAddr, io::Error) {
        (([127, 0, 0, 1], port).into(), kind.into())
    }

    fn text(failures: Vec<(SocketAddr, io::Error)>) -> String {
        Error::Connect { host: "h:1".into(), source: AddressErrors::join(failures).into() }.to_string()
    }

    #[test]
    fn one_address_is_not_named_beside_its_host_and_several_are_each_with_its_error() {
        let (refused, unreachable) = (io::ErrorKind::ConnectionRefused, io::ErrorKind::NetworkUnreachable);
        assert_eq!(
            text(vec![failure(1, refused)]),
            "connecting to h:1: connection refused; check the port, and that something listens there"
        );
        assert_eq!(
            text(vec![failure(1, refused), failure(2, unreachable)]),
            "connecting to h:1: none of its 2 addresses can be reached: (1) 127.0.0.1:1: connection refused; \
             (2) 127.0.0.1:2: network unreachable; check the address, and the network of this machine"
        );
        let both = AddressErrors::join(vec![failure(1, refused), failure(2, unreachable)]);
        assert_eq!(both.kind(), unreachable);
        let kept = both.get_ref().and_then(|error| error.downcast_ref::<AddressErrors>()).unwrap();
        assert_eq!(kept.iter().map(|(_, error)| error.kind()).collect::<Vec<_>>(), [refused, unreachable]);
    }

    #[test]
    fn a_thousand_addresses_make_no_text_without_end_and_none_of_their_errors_is_lost() {
        let many: Vec<_> = (1..=1000).map(|n| failure(n, io::ErrorKind::ConnectionRefused)).collect();
        let all = AddressErrors::join(many);
        let text = all.to_string();
        assert!(text.len() < 1200 && text.ends_with("; and 984 more"), "{text}");
        let kept = all.get_ref().and_then(|error| error.downcast_ref::<AddressErrors>()).unwrap();
        assert_eq!(kept.iter().count(), 1000);
    }
}
