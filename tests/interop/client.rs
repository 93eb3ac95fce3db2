//! A client of the real servers, and what the tests wait for.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module that several test crates include")]
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tautline::{
    Certificate, Client, ConnectionConfig, DisconnectReason, Event, ReconnectConfig, Stats, Tickets,
    TlsConfig,
};

use crate::common::LONG;

/// Makes tests of each behaviour, a function that gets the URL of a server: one with each of the servers.
macro_rules! on_each_line {
    ($servers:tt $($behaviour:ident,)*) => {
        $(
            mod $behaviour {
                on_each_line!(@ $behaviour $servers);
            }
        )*
    };
    (@ $behaviour:ident { $($line:ident: $server:literal),* }) => {
        $(
            #[test]
            #[ignore = "needs the real servers that tests/interop/run.sh starts"]
            fn $line() {
                super::$behaviour(&crate::client::server($server));
            }
        )*
    };
}

/// The URL of one of the servers.
pub fn server(name: &str) -> String {
    variable(&format!("TAUTLINE_{name}"))
}

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run tests/interop/run.sh"))
}

/// Trusts the test's CA, and reconnects at once.
pub fn config(url: &str) -> ConnectionConfig {
    static TLS: OnceLock<TlsConfig> = OnceLock::new();
    let config = ConnectionConfig::new(url).reconnect(ReconnectConfig::default().initial_delay(ms(20)));
    if !url.starts_with("wss") {
        return config;
    }
    let tls = TLS.get_or_init(|| {
        let ca = std::fs::read(variable("TAUTLINE_CA")).unwrap();
        TlsConfig::default().root(Certificate::from_pem(ca))
    });
    config.tls(tls.clone())
}

/// A client whose line is ready, and told so.
pub fn connect(config: ConnectionConfig) -> Client {
    let client = connect_only(config);
    connected(&client);
    client
}

pub fn connect_only(config: ConnectionConfig) -> Client {
    let shown = format!("{config:?}");
    Client::connect(config).unwrap_or_else(|error| panic!("{error}: {shown}"))
}

/// Waits until the line is ready, and returns the subprotocol.
pub fn connected(client: &Client) -> Option<Box<str>> {
    wait_for(client, "a line that is ready", |event| match event {
        Event::Connected { handshake, .. } => Some(handshake.subprotocol.clone()),
        _ => None,
    })
}

/// Waits for a loss or a failed attempt.
pub fn lost(client: &Client) -> (DisconnectReason, Option<Duration>, Tickets) {
    wait_for(client, "a loss", |event| match event {
        Event::Disconnected { reason, retry_in, maybe_delivered, .. } => {
            Some((reason, retry_in, maybe_delivered))
        }
        _ => None,
    })
}

/// Takes events until there is one that is `wanted`.
pub fn wait_for<R>(client: &Client, what: &str, wanted: impl Fn(Event) -> Option<R>) -> R {
    let end = Instant::now() + LONG;
    loop {
        match client.events().recv_deadline(end) {
            Ok(event) => {
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
            Err(error) => panic!("waited for {what}: {error}; {client:?}"),
        }
    }
}

/// Waits, without taking events, until the client has counted enough, on one and the same connection.
pub fn counted(client: &Client, what: &str, enough: impl Fn(&Stats) -> bool) {
    let end = Instant::now() + LONG;
    loop {
        let stats = client.stats();
        assert_eq!((stats.connects, stats.disconnects), (1, 0), "waited for {what}: {stats:?}");
        if enough(&stats) {
            return;
        }
        assert!(Instant::now() < end, "waited for {what}: {stats:?}");
        // Returns at once should the client be closed.
        let _ = client.wait_closed_timeout(ms(5));
    }
}

/// The next message, which is text.
pub fn receive(client: &Client) -> String {
    client.recv_timeout(LONG).unwrap().as_text().expect("text").to_owned()
}

pub fn echo(client: &Client) {
    client.send("is anybody there").unwrap();
    assert_eq!(receive(client), "is anybody there");
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
