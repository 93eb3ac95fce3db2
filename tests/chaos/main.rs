//! Whatever the network does, every message has a fate, and what is said of it is true.
//!
//! A *storm* is one client, threads that send through it, a server that writes down what it gets, and the fault proxy
//! between them. Everything but the timing is drawn from one seed. A seed that fails is named, with the command that
//! plays it again. Thousands of storms, and what became of their messages:
//!
//! ```sh
//! cargo test --release --test chaos -- --ignored --nocapture
//! ```
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/deflate.rs"]
mod deflate;
mod judge;
mod storm;
#[path = "../common/tunnel.rs"]
mod tunnel;

use std::io::Write;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use common::LONG;
use crossbeam_channel::{RecvTimeoutError, Sender};
use judge::{Tally, judge, table};
use storm::{Setup, storm};

/// So many storms at a time: most of each is waiting.
const LANES: usize = 12;

/// A storm that is under way. One that fails or never ends is named.
struct Running<'a> {
    seed: u64,
    all: &'a Mutex<Vec<u64>>,
    failed: &'a AtomicBool,
}

impl<'a> Running<'a> {
    fn new(seed: u64, all: &'a Mutex<Vec<u64>>, failed: &'a AtomicBool) -> Self {
        all.lock().unwrap().push(seed);
        Self { seed, all, failed }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap();
        if let Some(at) = all.iter().position(|seed| *seed == self.seed) {
            all.swap_remove(at);
        }
        drop(all);
        if thread::panicking() {
            self.failed.store(true, Ordering::SeqCst);
            blame(self.seed, "failed");
        }
    }
}

/// Says it past the test harness, which would keep it until the end, if there is one.
fn blame(seed: u64, how: &str) {
    let setup = Setup::draw(seed);
    let again = format!("TAUTLINE_SEED={seed} cargo test --test chaos");
    let _ = writeln!(std::io::stderr(), "{setup:?}\nseed {seed} {how}; to play it again: {again}");
}

/// Goes through the storms of all these seeds, or through that of the environment's alone, a few times since the timing
/// differs.
fn weather(seeds: Range<u64>) {
    let replayed: Option<u64> = std::env::var("TAUTLINE_SEED").ok().map(|seed| seed.parse().unwrap());
    let storms = replayed.map_or(seeds.end - seeds.start, |_| 20);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let running = Mutex::new(Vec::new());
    let tallies = Mutex::new([Tally::default(), Tally::default()]);
    let (over_in, over) = crossbeam_channel::unbounded::<()>();
    let play = |over: Sender<()>| {
        while !failed.load(Ordering::SeqCst) {
            let n = next.fetch_add(1, Ordering::SeqCst);
            if n >= storms {
                return;
            }
            let seed = replayed.unwrap_or(seeds.start + n);
            let _running = Running::new(seed, &running, &failed);
            let tally = judge(&storm(seed));
            tallies.lock().unwrap()[usize::from(!seed.is_multiple_of(2))] += tally;
            over.send(()).unwrap();
        }
    };
    thread::scope(|scope| {
        for _ in 0..LANES {
            let over = over_in.clone();
            scope.spawn(|| play(over));
        }
        drop(over_in);
        loop {
            match over.recv_timeout(3 * LONG) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    running.lock().unwrap().iter().for_each(|seed| blame(*seed, "does not end"));
                    std::process::exit(1);
                }
            }
        }
    });
    let [least, most] = tallies.into_inner().unwrap();
    println!("{}", table(&least, &most));
    if replayed.is_none() {
        assert!(least.disconnects + most.disconnects > 4 * storms, "hardly a storm");
        assert!(least.duplicates > 0 && most.doubtful > 0, "nothing was at stake");
        assert!(
            4 * (least.confirmed + most.confirmed) > least.messages + most.messages,
            "hardly a message got through"
        );
    }
}

#[test]
fn every_message_has_a_fate_whatever_the_network_does() {
    // Among these is something of everything.
    weather(814..830);
}

#[test]
#[ignore = "takes minutes: 4,000 storms, 4 million messages; it prints what became of them"]
fn every_message_has_a_fate_in_many_storms() {
    let start = Instant::now();
    weather(1_000..5_000);
    println!("{:.1?}", start.elapsed());
}
