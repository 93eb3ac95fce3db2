//! The same work through the ways in which a blocking program can use a WebSocket: this library, tokio-tungstenite with
//! a runtime on its own thread behind channels, ewebsock, bare tungstenite, Boost.Beast (C++) and websockets (Python). One
//! server process, one run, alternating blocks. Run with `cargo run --release`; a number after `--` sets the rounds, and
//! `--pin` gives each thread a processor.
//!
//! `rust_socketio` is left out: it speaks Socket.IO, another protocol, which this server does not speak and whose cost
//! would be included.
#![allow(clippy::disallowed_methods, reason = "programs that measure own their clocks and their threads")]

#[path = "../../common/mod.rs"]
mod common;
mod peers;
mod pin;
mod programs;

use std::time::Duration;
use std::{process, thread};

use common::server::{Server, serve_if_asked};
use common::table::{Target, print};
use common::{interleave, percentile, rate, table, time, to_float};
use peers::{Bare, Ewebsock, Ours, Peer, TokioThread};
use pin::Places;
use programs::{Program, Start};

/// How many rounds, unless the command says otherwise.
const ROUNDS: usize = 9;
const IN_FLIGHT: usize = 1024;
const MIB: usize = 1 << 20;

/// Long enough for the processors to fall asleep.
const PAUSE: Duration = Duration::from_millis(2);

/// How many messages a block has.
#[derive(Clone, Copy)]
struct Counts {
    round_trips: usize,
    paced: usize,
    one_way: usize,
    echoes: usize,
    flood: usize,
    large: usize,
}

const MANY: Counts =
    Counts { round_trips: 1_000, paced: 120, one_way: 50_000, echoes: 30_000, flood: 100_000, large: 16 };

/// Python has a small part of the rate.
const SOME: Counts = Counts { round_trips: 300, one_way: 5_000, echoes: 5_000, flood: 10_000, ..MANY };

/// `ewebsock` sends only one every 10 ms when nothing arrives.
const FEW: Counts = Counts { round_trips: 20, one_way: 30, echoes: 2_048, large: 4, ..MANY };

/// A client's line to a room.
struct Line {
    client: Client,
    counts: Counts,
    /// How long each round trip took.
    times: Vec<Duration>,
}

enum Client {
    Here(Box<dyn Peer>),
    /// In a program of its own.
    Apart(Program),
    Missing,
}

/// What is done at a rate.
#[derive(Clone, Copy)]
enum Work {
    /// With messages of this size.
    OneWay(usize),
    Echoes,
    /// Of messages of this size.
    Flood(usize),
}

/// One figure of each client. That of a missing one is not a number.
type Figures = [f64; 6];

/// What all clients have in common.
struct Bench {
    server: Server,
    others: [Start; 2],
    pinned: Option<Places>,
    rounds: usize,
}

fn main() {
    serve_if_asked();
    let (rounds, pinned) = options().unwrap_or_else(|reason| {
        eprintln!("peers: {reason}");
        process::exit(2);
    });
    let heading = match &pinned {
        Ok(None) => "not pinned".into(),
        Ok(Some(at)) => {
            format!("server on processor {}, I/O threads on {}, callers on {}", at.server, at.io, at.caller)
        }
        Err(reason) => format!("not pinned: {reason}"),
    };
    println!("peers: {heading}\n");
    let pinned = pinned.unwrap_or_default();
    let others = [programs::beast(), programs::websockets()];
    let server = pin::on_a_thread(pinned.map(|at| at.server), Server::start);
    if let Some(at) = pinned {
        // The library asks once how many processors there are, and a pinned thread would be told of one.
        drop(common::connect(&server, false, "echo"));
        // The library's threads take the processors of the first thread of the process, which is this one.
        pin::to(at.io);
    }
    let bench = Bench { server, others, pinned, rounds };
    pin::on_a_thread(pinned.map(|at| at.caller), || measure(&bench));
}

/// The number of rounds, and where to pin, or why not although it was asked for. An error is for who has asked for what is not.
fn options() -> Result<(usize, Result<Option<Places>, String>), String> {
    let (mut rounds, mut pinned) = (ROUNDS, Ok(None));
    for argument in std::env::args().skip(1) {
        if argument == "--pin" {
            pinned = pin::apart().map(Some);
        } else if let Some(numbers) = argument.strip_prefix("--pin=") {
            pinned = Ok(Some(pin::named(numbers)?));
        } else {
            let usage = || format!("{argument} is neither a number of rounds nor --pin[=SERVER,IO,CALLER]");
            rounds = argument.parse().map_err(|_| usage())?;
        }
    }
    Ok((rounds, pinned))
}

fn measure(bench: &Bench) {
    // Lines that are not in use are gone: that of `ewebsock` wakes up 100 times a second.
    let mut lines = bench.connect("echo");
    let [round_trip, _] = times(bench.rounds, &mut lines, Duration::ZERO, |counts| counts.round_trips);
    let [paced, tail] = times(bench.rounds, &mut lines, PAUSE, |counts| counts.paced);
    let in_flight = rates(bench.rounds, &mut lines, Work::Echoes, |counts| counts.echoes);
    lines = bench.connect("sink");
    let one_way = rates(bench.rounds, &mut lines, Work::OneWay(16), |counts| counts.one_way);
    let sent = rates(bench.rounds, &mut lines, Work::OneWay(MIB), |counts| counts.large);
    lines = bench.connect("flood");
    let [small, large] =
        [16, 1024].map(|size| rates(bench.rounds, &mut lines, Work::Flood(size), |counts| counts.flood));

    let rows = [
        row("round trip, 64 B, p50", round_trip, table::seconds, Some(Target::AtMost(0.75))),
        row("the same, one every 2 ms, p50", paced, table::seconds, None),
        row("the same, one every 2 ms, p99.9", tail, table::seconds, None),
        row("one way, 16 B", one_way, per_second, None),
        row("1,024 echoes in flight, 64 B", in_flight, per_second, Some(Target::AtLeast(1.3))),
        row("flood in, 16 B", small, per_second, None),
        row("flood in, 1 KiB", large, per_second, None),
        row("1 MiB messages, sent", sent.map(|rate| rate * to_float(MIB)), table::megabytes, None),
    ];
    let headings = [
        "figure",
        "tautline",
        "tokio on a thread",
        "ewebsock",
        "bare",
        "Beast (C++)",
        "websockets (Python)",
        "to tokio",
        "to Beast",
        "to Python",
        "target",
        "",
    ];
    print(&headings.map(str::to_owned), &rows);
}

impl Bench {
    fn connect(&self, room: &str) -> [Line; 6] {
        let server = &self.server;
        let line = |client, counts| Line { client, counts, times: Vec::new() };
        let here = |peer, counts| line(Client::Here(peer), counts);
        let apart = |start: &Start, counts| {
            let io = self.pinned.map(|at| at.io);
            let connect = |start: &Vec<_>| Client::Apart(Program::connect(start, server, room, io));
            line(start.as_ref().map_or(Client::Missing, connect), counts)
        };
        let [beast, websockets] = &self.others;
        // A program starts where its caller is to be. Threads start where they are to be.
        let (beast, websockets) = (apart(beast, MANY), apart(websockets, SOME));
        self.move_to(|at| at.io);
        let ours = here(Box::new(Ours::connect(server, room)), MANY);
        let tokio = here(Box::new(TokioThread::connect(server, room)), MANY);
        let ewebsock = here(Box::new(Ewebsock::connect(server, room)), FEW);
        let bare = here(Box::new(Bare::connect(server, room)), MANY);
        self.move_to(|at| at.caller);
        [ours, tokio, ewebsock, bare, beast, websockets]
    }

    fn move_to(&self, place: fn(Places) -> usize) {
        if let Some(at) = self.pinned {
            pin::to(place(at));
        }
    }
}

fn row(name: &str, figures: Figures, unit: fn(f64) -> String, target: Option<Target>) -> [String; 12] {
    let [ours, tokio, _, _, beast, python] = figures;
    let ratios = [tokio, beast, python].map(|theirs| ours / theirs);
    let [to_tokio, to_beast, to_python] = ratios.map(|ratio| or_dash(ratio, |ratio| format!("{ratio:.2}x")));
    let goal = target.map_or_else(String::new, |target| target.goal("x"));
    let verdict = target.map_or("", |target| target.verdict(ratios[0]));
    let figures = figures.map(|figure| or_dash(figure, unit));
    let [ours, tokio, ewebsock, bare, beast, python] = figures;
    let (name, verdict) = (name.into(), verdict.into());
    [name, ours, tokio, ewebsock, bare, beast, python, to_tokio, to_beast, to_python, goal, verdict]
}

fn or_dash(figure: f64, unit: impl Fn(f64) -> String) -> String {
    if figure.is_nan() { "-".into() } else { unit(figure) }
}

/// `ewebsock` has less than a thousand a second.
fn per_second(rate: f64) -> String {
    if rate < 1e4 { format!("{rate:.0} /s") } else { table::per_second(rate) }
}

/// Lets each client run one block in each round.
fn blocks(rounds: usize, lines: &mut [Line; 6], block: impl Fn(&mut Line) -> f64) -> Figures {
    let mut blocks = lines.each_mut().map(|line| || block(line));
    interleave(rounds, &mut blocks.each_mut().map(|block| block as &mut dyn FnMut() -> f64))
}

/// Round trips with a pause before each: the median of the blocks' medians, and the 99.9th percentile of all, in seconds.
fn times(rounds: usize, lines: &mut [Line; 6], pause: Duration, count: fn(&Counts) -> usize) -> [Figures; 2] {
    for line in lines.iter_mut() {
        line.times.clear();
    }
    let middle = blocks(rounds, lines, |line| {
        let mut times = line.client.round_trips(count(&line.counts), pause);
        line.times.extend_from_slice(&times);
        seconds(&mut times, 500)
    });
    let tail = lines.each_mut().map(|line| {
        // The first round only warms up.
        let warm = count(&line.counts).min(line.times.len());
        seconds(&mut line.times[warm..], 999)
    });
    [middle, tail]
}

/// Messages a second.
fn rates(rounds: usize, lines: &mut [Line; 6], work: Work, count: fn(&Counts) -> usize) -> Figures {
    blocks(rounds, lines, |line| line.client.rate(work, count(&line.counts)))
}

fn seconds(times: &mut [Duration], thousandths: usize) -> f64 {
    if times.is_empty() { f64::NAN } else { percentile(times, thousandths).as_secs_f64() }
}

impl Client {
    fn round_trips(&mut self, count: usize, pause: Duration) -> Vec<Duration> {
        match self {
            Self::Here(peer) => (0..count).map(|_| round_trip(&mut **peer, pause)).collect(),
            Self::Apart(program) => {
                let order = if pause.is_zero() { "round_trip" } else { "paced" };
                let seconds = program.figures(&format!("{order} {count}"));
                seconds.into_iter().map(Duration::from_secs_f64).collect()
            }
            Self::Missing => Vec::new(),
        }
    }

    fn rate(&mut self, work: Work, count: usize) -> f64 {
        match self {
            Self::Here(peer) => match work {
                Work::OneWay(size) => one_way(&mut **peer, count, size),
                Work::Echoes => echoes(&mut **peer, count),
                Work::Flood(size) => flood(&mut **peer, count, size),
            },
            Self::Apart(program) => {
                let order = match work {
                    Work::OneWay(size) => format!("one_way {count} {size}"),
                    Work::Echoes => format!("echoes {count}"),
                    Work::Flood(size) => format!("flood {count} {size}"),
                };
                program.figures(&order)[0]
            }
            Self::Missing => f64::NAN,
        }
    }
}

fn round_trip(peer: &mut dyn Peer, pause: Duration) -> Duration {
    if !pause.is_zero() {
        thread::sleep(pause);
    }
    time(|| {
        peer.send(&[7; 64]);
        assert_eq!(peer.recv(), 64);
    })
}

/// Until the server reports that it has received all.
fn one_way(peer: &mut dyn Peer, count: usize, size: usize) -> f64 {
    let payload = vec![7; size];
    peer.ask("?");
    let before = peer.recv();
    rate(count, || {
        (0..count).for_each(|_| peer.send(&payload));
        peer.ask("?");
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

fn flood(peer: &mut dyn Peer, count: usize, size: usize) -> f64 {
    rate(count, || {
        peer.ask(&format!("{size} {count}"));
        for _ in 0..count {
            assert_eq!(peer.recv(), size);
        }
    })
}
