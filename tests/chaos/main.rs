//! Whatever the network does, every message has a fate, and what is said of it is true.
//!
//! A *storm* is one client, threads that send through it, a server that writes down what it gets, and the fault proxy
//! between them. Everything but the timing is drawn from one seed. A seed that fails is named, with the command that
//! plays it again. Thousands of storms, and what became of their messages:
//!
//! ```sh
//! cargo test --release --test chaos -- --ignored --nocapture
//! ```
//!
//! The environment may change that:
//!
//! - `TAUTLINE_SEED`: the storm of this seed alone, twenty times.
//! - `TAUTLINE_STORMS`: so many storms.
//! - `TAUTLINE_LANES`: so many storms at a time, in place of twelve.
//! - `TAUTLINE_PATIENCE`: timeouts that are so many times as long, where the system is too slow for the short ones.
//! - `TAUTLINE_PLAIN`, whatever it is: none that needs TLS, where there is no server of it.
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
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::LONG;
use crossbeam_channel::{RecvTimeoutError, Sender};
use judge::{Tally, judge, table};
use storm::{Setup, storm};

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

/// A number that the environment sets.
fn wished(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap())
}

/// How many times as long as usual a storm may take for each thing.
pub(crate) fn patience() -> u32 {
    wished("TAUTLINE_PATIENCE").map_or(1, |times| times.try_into().unwrap())
}

/// What takes longer than that has failed.
pub(crate) fn long() -> Duration {
    LONG * patience()
}

/// Goes through so many storms from this seed on, or through that of the environment's alone, a few times since the timing
/// differs.
fn weather(first: u64, storms: u64) {
    let replayed = wished("TAUTLINE_SEED");
    let storms = wished("TAUTLINE_STORMS").unwrap_or(storms);
    let plain = std::env::var_os("TAUTLINE_PLAIN").is_some();
    let drawn = || {
        let all = (first..).filter(|seed| !plain || !Setup::draw(*seed).needs_tls());
        all.zip(0..storms).map(|(seed, _)| seed).collect()
    };
    let seeds: Vec<u64> = replayed.map_or_else(drawn, |seed| vec![seed; 20]);
    // Most of each storm is waiting.
    let lanes = wished("TAUTLINE_LANES").unwrap_or(12);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let running = Mutex::new(Vec::new());
    let tallies = Mutex::new([Tally::default(), Tally::default()]);
    let (over_in, over) = crossbeam_channel::unbounded::<()>();
    let play = |over: Sender<()>| {
        while !failed.load(Ordering::SeqCst) {
            let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst)) else { return };
            let _running = Running::new(seed, &running, &failed);
            let tally = judge(&storm(seed));
            tallies.lock().unwrap()[usize::from(!seed.is_multiple_of(2))] += tally;
            over.send(()).unwrap();
        }
    };
    thread::scope(|scope| {
        for _ in 0..lanes {
            let over = over_in.clone();
            scope.spawn(|| play(over));
        }
        drop(over_in);
        loop {
            match over.recv_timeout(3 * long()) {
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
    weather(814, 16);
}

#[test]
#[ignore = "takes minutes: 4,000 storms, 4 million messages; it prints what became of them"]
fn every_message_has_a_fate_in_many_storms() {
    let start = Instant::now();
    weather(1_000, 4_000);
    println!("{:.1?}", start.elapsed());
}
