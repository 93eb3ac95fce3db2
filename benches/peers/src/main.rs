//! The same work through the ways in which a blocking program can use a WebSocket: this library, tokio-tungstenite with
//! a runtime on its own thread behind channels, ewebsock, bare tungstenite, Boost.Beast (C++) and websockets (Python). One
//! server process, one run, alternating blocks. Run with `cargo run --release`; a number after `--` sets the rounds.
//!
//! `rust_socketio` is left out: it speaks Socket.IO, another protocol, which this server does not speak and whose cost
//! would be included.
#![allow(clippy::disallowed_methods, reason = "programs that measure own their clocks and their threads")]

#[path = "../../common/mod.rs"]
mod common;
mod peers;
mod programs;

use std::thread;
use std::time::Duration;

use common::server::{Server, serve_if_asked};
use common::table::{Target, print};
use common::{interleave, percentile, rate, table, time};
use peers::{Bare, Ewebsock, Ours, Peer, TokioThread};
use programs::{Program, Start};

/// How many rounds, unless the command says otherwise.
const ROUNDS: usize = 9;
const IN_FLIGHT: usize = 1024;

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
}

const MANY: Counts =
    Counts { round_trips: 1_000, paced: 120, one_way: 50_000, echoes: 30_000, flood: 100_000 };

/// Python has a small part of the rate.
const SOME: Counts = Counts { round_trips: 300, one_way: 5_000, echoes: 5_000, flood: 10_000, ..MANY };

/// `ewebsock` sends only one every 10 ms when nothing arrives.
const FEW: Counts = Counts { round_trips: 20, one_way: 30, echoes: 2_048, ..MANY };

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

#[derive(Clone, Copy)]
enum Work {
    OneWay,
    Echoes,
    /// Of messages of this size.
    Flood(usize),
}

/// One figure of each client. That of a missing one is not a number.
type Figures = [f64; 6];

fn main() {
    serve_if_asked();
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(ROUNDS);
    let others = [programs::beast(), programs::websockets()];
    let server = Server::start();
    let mut lines = connect(&server, "echo", &others);
    let [round_trip, _] = times(rounds, &mut lines, Duration::ZERO, |counts| counts.round_trips);
    let [paced, tail] = times(rounds, &mut lines, PAUSE, |counts| counts.paced);
    let in_flight = rates(rounds, &mut lines, Work::Echoes);
    let one_way = rates(rounds, &mut connect(&server, "sink", &others), Work::OneWay);
    let mut lines = connect(&server, "flood", &others);
    let [small, large] = [16, 1024].map(|size| rates(rounds, &mut lines, Work::Flood(size)));

    let rows = [
        row("round trip, 64 B, p50", round_trip, table::seconds, Some(Target::AtMost(0.75))),
        row("the same, one every 2 ms, p50", paced, table::seconds, None),
        row("the same, one every 2 ms, p99.9", tail, table::seconds, None),
        row("one way, 16 B", one_way, per_second, None),
        row("1,024 echoes in flight, 64 B", in_flight, per_second, Some(Target::AtLeast(1.3))),
        row("flood in, 16 B", small, per_second, None),
        row("flood in, 1 KiB", large, per_second, None),
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

fn connect(server: &Server, room: &str, others: &[Start; 2]) -> [Line; 6] {
    let line = |client, counts| Line { client, counts, times: Vec::new() };
    let here = |peer, counts| line(Client::Here(peer), counts);
    let apart = |start: &Start, counts| {
        let connect = |start: &Vec<_>| Client::Apart(Program::connect(start, server, room));
        line(start.as_ref().map_or(Client::Missing, connect), counts)
    };
    let [beast, websockets] = others;
    [
        here(Box::new(Ours::connect(server, room)), MANY),
        here(Box::new(TokioThread::connect(server, room)), MANY),
        here(Box::new(Ewebsock::connect(server, room)), FEW),
        here(Box::new(Bare::connect(server, room)), MANY),
        apart(beast, MANY),
        apart(websockets, SOME),
    ]
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
fn rates(rounds: usize, lines: &mut [Line; 6], work: Work) -> Figures {
    blocks(rounds, lines, |line| line.client.rate(work, &line.counts))
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

    fn rate(&mut self, work: Work, counts: &Counts) -> f64 {
        match (self, work) {
            (Self::Here(peer), Work::OneWay) => one_way(&mut **peer, counts.one_way),
            (Self::Here(peer), Work::Echoes) => echoes(&mut **peer, counts.echoes),
            (Self::Here(peer), Work::Flood(size)) => flood(&mut **peer, counts.flood, size),
            (Self::Apart(program), Work::OneWay) => {
                program.figures(&format!("one_way {}", counts.one_way))[0]
            }
            (Self::Apart(program), Work::Echoes) => program.figures(&format!("echoes {}", counts.echoes))[0],
            (Self::Apart(program), Work::Flood(size)) => {
                program.figures(&format!("flood {} {size}", counts.flood))[0]
            }
            (Self::Missing, _) => f64::NAN,
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
fn one_way(peer: &mut dyn Peer, count: usize) -> f64 {
    peer.ask("?");
    let before = peer.recv();
    rate(count, || {
        (0..count).for_each(|_| peer.send(&[7; 16]));
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
