//! What the programs in this folder share. Each compares this library with bare blocking tungstenite, in short
//! alternating blocks within one run, so that noise on the machine affects both.
#![allow(dead_code, reason = "each program uses its own part")]
#![allow(unreachable_pub, reason = "a module that several programs include")]
#![allow(clippy::disallowed_methods, reason = "programs that measure own their clocks and their threads")]

pub mod bare;
pub mod process;
pub mod server;
pub mod table;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tautline::{Client, ConnectionConfig, Message};

use server::Server;

/// Long enough for any machine; a wait of this length has failed.
pub const LONG: Duration = Duration::from_secs(60);

/// A configuration for the server's `room`, with the defaults of the library in all else.
pub fn config(server: &Server, secure: bool, room: &str) -> ConnectionConfig {
    let config = ConnectionConfig::new(server.url(secure, room));
    if secure { config.tls(bare::connector()) } else { config }
}

pub fn connect(server: &Server, secure: bool, room: &str) -> Client {
    start(config(server, secure, room))
}

pub fn start(config: ConnectionConfig) -> Client {
    Client::builder(config).resolver(loopback).connect().unwrap()
}

/// Resolves every name to this machine.
#[expect(clippy::unnecessary_wraps, reason = "the signature of a resolver")]
fn loopback(_: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    Ok(vec![([127, 0, 0, 1], port).into()])
}

/// One round trip, on the caller's thread.
pub fn echo(client: &Client, payload: &[u8]) {
    client.send(payload).unwrap();
    assert_eq!(client.recv().unwrap().len(), payload.len());
}

/// How many messages the room `sink` has received from this client so far. The server answers after all of them.
pub fn received(client: &Client) -> u64 {
    client.send("?").unwrap();
    number(&client.recv().unwrap())
}

fn number(message: &Message) -> u64 {
    message.as_text().unwrap().parse().unwrap()
}

pub fn plain_or_tls(secure: bool) -> &'static str {
    if secure { "TLS" } else { "plain" }
}

pub fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// How many items a second `work` handles.
pub fn rate(count: usize, work: impl FnOnce()) -> f64 {
    to_float(count) / time(work).as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a figure to print")]
pub fn to_float(count: usize) -> f64 {
    count as f64
}

/// Lets each contestant run one short block, and repeats that for `rounds` rounds. Returns the median of each. The
/// order rotates with each round, and the first round only warms up.
pub fn interleave<const N: usize>(rounds: usize, contestants: &mut [&mut dyn FnMut() -> f64; N]) -> [f64; N] {
    let mut figures: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
    for round in 0..=rounds {
        for place in 0..N {
            let who = (round + place) % N;
            let figure = contestants[who]();
            if round > 0 {
                figures[who].push(figure);
            }
        }
    }
    figures.map(median)
}

pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The time below which `share` thousandths of the samples lie.
pub fn percentile(samples: &mut [Duration], share: usize) -> Duration {
    samples.sort_unstable();
    samples[(samples.len() * share / 1000).min(samples.len() - 1)]
}
