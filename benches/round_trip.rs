//! How long a message takes to the server and back, when the caller sends and receives on one thread.
#![expect(clippy::disallowed_methods, reason = "a program that measures owns its clock and its pace")]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::server::{Server, serve_if_asked};
use common::table::{Table, Target, seconds};
use common::{bare, echo, percentile, plain_or_tls, time};

/// Alternating blocks of round trips without pauses.
const BLOCKS: usize = 60;
const BLOCK: usize = 500;

/// How many round trips each contestant makes with a pause between them, and the interval between two.
const PACED: usize = 1500;
const PACE: Duration = Duration::from_millis(2);

fn main() {
    serve_if_asked();
    let server = Server::start();
    let mut table = Table::new("round_trip");
    for secure in [false, true] {
        for (size, name) in [(64, "64 B"), (1 << 10, "1 KiB"), (16 << 10, "16 KiB")] {
            let name = format!("{name}, {}", plain_or_tls(secure));
            let client = common::connect(&server, secure, "echo");
            let mut other = bare::connect(&server, secure, "echo");
            let payload = vec![7; size];
            let mut ours = || time(|| echo(&client, &payload));
            let mut bares = || time(|| bare::echo(&mut other, &payload));
            // A warm-up.
            for _ in 0..BLOCK {
                ours();
                bares();
            }
            let judged = size == 64 && !secure;
            report(&mut table, &format!("{name}, back to back"), back_to_back(&mut ours, &mut bares), judged);
            report(&mut table, &format!("{name}, each 2 ms"), paced(&mut ours, &mut bares), judged);
        }
    }
    table.print();
}

type Samples = (Vec<Duration>, Vec<Duration>);

fn back_to_back(ours: &mut dyn FnMut() -> Duration, bare: &mut dyn FnMut() -> Duration) -> Samples {
    let mut samples = (Vec::new(), Vec::new());
    for _ in 0..BLOCKS {
        samples.0.extend((0..BLOCK).map(|_| ours()));
        samples.1.extend((0..BLOCK).map(|_| bare()));
    }
    samples
}

/// The two contestants take turns, so that each sends a message every [`PACE`].
fn paced(ours: &mut dyn FnMut() -> Duration, bare: &mut dyn FnMut() -> Duration) -> Samples {
    let mut samples = (Vec::new(), Vec::new());
    let mut at = Instant::now();
    let mut wait = || {
        at += PACE / 2;
        thread::sleep(at.saturating_duration_since(Instant::now()));
    };
    for _ in 0..PACED {
        wait();
        samples.0.push(ours());
        wait();
        samples.1.push(bare());
    }
    samples
}

fn report(table: &mut Table, name: &str, (mut ours, mut bare): Samples, judged: bool) {
    for (share, rank, target) in [
        (500, "p50", Some(Target::AtMost(1.25))),
        (990, "p99", None),
        (999, "p99.9", Some(Target::AtMost(1.5))),
    ] {
        let figures =
            (percentile(&mut ours, share).as_secs_f64(), percentile(&mut bare, share).as_secs_f64());
        table.compare(&format!("{name}, {rank}"), figures, seconds, target.filter(|_| judged));
    }
}
