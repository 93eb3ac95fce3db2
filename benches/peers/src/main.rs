//! The same work through the ways in which a blocking program can use a WebSocket: this library, tokio-tungstenite with
//! a runtime on its own thread behind channels, ewebsock, and bare tungstenite. One server process, one run,
//! alternating blocks. Run with `cargo run --release`.
//!
//! `rust_socketio` is left out: it speaks Socket.IO, another protocol, which this server does not speak and whose cost
//! would be included.

#[path = "../../common/mod.rs"]
mod common;
mod peers;

use common::server::{Server, serve_if_asked};
use common::table::{Target, print};
use common::{interleave, percentile, rate, table, time};
use peers::{Bare, Ewebsock, Ours, Peer, TokioThread};

const ROUNDS: usize = 9;
const IN_FLIGHT: usize = 1024;

/// How many messages a block has. `ewebsock` sends only one every 10 ms when nothing arrives, so it gets fewer.
struct Counts {
    round_trips: usize,
    one_way: usize,
    echoes: usize,
}

const MANY: Counts = Counts { round_trips: 1_000, one_way: 50_000, echoes: 30_000 };
const FEW: Counts = Counts { round_trips: 20, one_way: 30, echoes: 2_048 };

fn main() {
    serve_if_asked();
    let server = Server::start();
    let (mut ours, mut tokio) = (Ours::connect(&server, "echo"), TokioThread::connect(&server, "echo"));
    let (mut ewebsock, mut bare) = (Ewebsock::connect(&server, "echo"), Bare::connect(&server, "echo"));
    let round_trip = interleave(
        ROUNDS,
        &mut [
            &mut || round_trip(&mut ours, MANY.round_trips),
            &mut || round_trip(&mut tokio, MANY.round_trips),
            &mut || round_trip(&mut ewebsock, FEW.round_trips),
            &mut || round_trip(&mut bare, MANY.round_trips),
        ],
    );
    let in_flight = interleave(
        ROUNDS,
        &mut [
            &mut || echoes(&mut ours, MANY.echoes),
            &mut || echoes(&mut tokio, MANY.echoes),
            &mut || echoes(&mut ewebsock, FEW.echoes),
            &mut || echoes(&mut bare, MANY.echoes),
        ],
    );
    let (mut ours, mut tokio) = (Ours::connect(&server, "sink"), TokioThread::connect(&server, "sink"));
    let (mut ewebsock, mut bare) = (Ewebsock::connect(&server, "sink"), Bare::connect(&server, "sink"));
    let one_way = interleave(
        ROUNDS,
        &mut [
            &mut || one_way(&mut ours, MANY.one_way),
            &mut || one_way(&mut tokio, MANY.one_way),
            &mut || one_way(&mut ewebsock, FEW.one_way),
            &mut || one_way(&mut bare, MANY.one_way),
        ],
    );

    let headings = ["figure", "tautline", "tokio on a thread", "ewebsock", "bare", "to tokio", "target", ""];
    let rows = [
        row("round trip, 64 B, p50", round_trip, table::seconds, Some(Target::AtMost(0.75))),
        row("one way, 16 B", one_way, per_second, None),
        row("1,024 echoes in flight, 64 B", in_flight, per_second, Some(Target::AtLeast(1.3))),
    ];
    print(&headings.map(str::to_owned), &rows);
}

fn row(name: &str, figures: [f64; 4], unit: fn(f64) -> String, target: Option<Target>) -> [String; 8] {
    let [ours, tokio, ewebsock, bare] = figures;
    let ratio = ours / tokio;
    let goal = target.map_or_else(String::new, |target| target.goal("x"));
    let verdict = target.map_or("", |target| target.verdict(ratio));
    let ratio = format!("{ratio:.2}x");
    [name.into(), unit(ours), unit(tokio), unit(ewebsock), unit(bare), ratio, goal, verdict.into()]
}

/// `ewebsock` has less than a thousand a second.
fn per_second(rate: f64) -> String {
    if rate < 1e4 { format!("{rate:.0} /s") } else { table::per_second(rate) }
}

/// The median of a block's round trips, in seconds.
fn round_trip(peer: &mut dyn Peer, count: usize) -> f64 {
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            time(|| {
                peer.send(&[7; 64]);
                assert_eq!(peer.recv(), 64);
            })
        })
        .collect();
    percentile(&mut times, 500).as_secs_f64()
}

/// Messages a second, until the server reports that it has received all.
fn one_way(peer: &mut dyn Peer, count: usize) -> f64 {
    peer.ask();
    let before = peer.recv();
    rate(count, || {
        (0..count).for_each(|_| peer.send(&[7; 16]));
        peer.ask();
        assert_eq!(peer.recv() - before, count);
    })
}

fn echoes(peer: &mut dyn Peer, count: usize) -> f64 {
    rate(count, || {
        (0..IN_FLIGHT).for_each(|_| peer.send(&[7; 64]));
        for n in 0..count {
            assert_eq!(peer.recv(), 64);
            if n + IN_FLIGHT < count {
                peer.send(&[7; 64]);
            }
        }
    })
}
