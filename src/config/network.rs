//! How a connection is made, and how its socket is set.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::setters::setters;
use crate::config::{AddressFamily, invalid};
use crate::error::Error;

/// Which addresses of a host are tried, from where, and how the sockets are set.
///
/// A host name may have several addresses. They are raced (RFC 8305): the first is tried, the next follows after
/// [`attempt_delay`](field@Self::attempt_delay) or as soon as one has failed, and the first that connects is used. The
/// others are closed. IPv6 and IPv4 take turns in the order. An address that failed goes last for the next ten minutes, or
/// until an attempt at it succeeds.
///
/// With a proxy, these are the settings of the connection to the proxy, and `family` also chooses the address of
/// the server that a `socks5` proxy gets. They concern neither a Unix socket (`ws+unix:`) nor a
/// stream that a [`connector`](crate::Builder::connector) opens.
///
/// ```
/// use std::time::Duration;
/// use tautline::{AddressFamily, ConnectionConfig, NetworkConfig};
///
/// let network = NetworkConfig::default()
///     .family(AddressFamily::PreferIpv4)
///     .local_address([192, 168, 7, 2].into())
///     .keepalive(Duration::from_secs(60));
/// let config = ConnectionConfig::new("wss://gateway.example").network(network);
/// assert_eq!(config.network.attempt_delay, Duration::from_millis(250));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NetworkConfig {
    /// Which addresses of a host are used, and which come first. Default [`AddressFamily::Any`].
    pub family: AddressFamily,
    /// The local address to connect from, such as that of one of several networks. The system chooses the port. Addresses
    /// of the other family are left out. Default `None`: the system chooses.
    pub local_address: Option<IpAddr>,
    /// How long an address may take before the next one is tried beside it. At least 10 ms; RFC 8305 recommends 100 ms to
    /// 2 s. It is shorter if the attempt has not so much time left: of a host with two addresses, the second is tried after
    /// half of the time at the latest, of one with three, each after a third. Default 250 ms.
    pub attempt_delay: Duration,
    /// How long the connection must be idle before the system probes it (`SO_KEEPALIVE`), in whole seconds: 1 s to
    /// 32,767 s. Heartbeats notice a dead peer sooner; probes keep a middlebox from forgetting a line without heartbeats.
    /// Default `None`: no probes.
    pub keepalive: Option<Duration>,
    /// Whether a small message is sent at once (`TCP_NODELAY`), and does not wait until those before it are acknowledged
    /// (Nagle's algorithm). Default `true`.
    pub nodelay: bool,
    /// The size of the system's send buffer (`SO_SNDBUF`), in bytes: 1 to 2,147,483,647. The system may use another size.
    /// Default `None`: the system's own on Linux and Android, and elsewhere 128 KiB, so that a ping does not wait long.
    pub send_buffer: Option<usize>,
    /// The size of the system's receive buffer (`SO_RCVBUF`), in bytes: 1 to 2,147,483,647. The system may use another
    /// size. Default `None`: the system's own.
    pub receive_buffer: Option<usize>,
}

setters!(NetworkConfig {
    family: AddressFamily,
    local_address: IpAddr,
    attempt_delay: Duration,
    keepalive: Duration,
    nodelay: bool,
    send_buffer: usize,
    receive_buffer: usize,
});

/// RFC 8305, section 5: "this delay MUST NOT be less than 10 milliseconds".
pub(crate) const SHORTEST_ATTEMPT_DELAY: Duration = Duration::from_millis(10);

/// What Linux takes. Other systems take more.
const KEEPALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(32_767);

/// Systems take a signed number of 32 bits.
const LARGEST_BUFFER: usize = i32::MAX as usize;

impl NetworkConfig {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.attempt_delay < SHORTEST_ATTEMPT_DELAY {
            let why =
                format!("it is {:?}; at least {SHORTEST_ATTEMPT_DELAY:?} is needed", self.attempt_delay);
            return invalid("network.attempt_delay", why);
        }
        if let Some(keepalive) = self.keepalive.filter(|keepalive| !KEEPALIVE.contains(keepalive)) {
            let (least, most) = (KEEPALIVE.start(), KEEPALIVE.end());
            return invalid(
                "network.keepalive",
                format!("it is {keepalive:?}; {least:?} to {most:?} are allowed"),
            );
        }
        for (setting, size) in
            [("network.send_buffer", self.send_buffer), ("network.receive_buffer", self.receive_buffer)]
        {
            if let Some(size) = size.filter(|size| !(1..=LARGEST_BUFFER).contains(size)) {
                return invalid(setting, format!("it is {size} bytes; 1 to {LARGEST_BUFFER} are allowed"));
            }
        }
        if let Some(local) = self.local_address.filter(|local| !self.family.allows(local.is_ipv6())) {
            let why = format!(
                "it is {local}, but network.family is {:?}; no connection can be made from there with it",
                self.family
            );
            return invalid("network.local_address", why);
        }
        Ok(())
    }
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            family: AddressFamily::default(),
            local_address: None,
            attempt_delay: Duration::from_millis(250),
            keepalive: None,
            nodelay: true,
            send_buffer: None,
            receive_buffer: None,
        }
    }
}
