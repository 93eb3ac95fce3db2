//! How long the calls that wait for nobody take, beside a queue made for real time (`rtrb`) in the same run: under load, while
//! the line reconnects, and while the server takes nothing. Once as any thread, and once as a thread of the policy `SCHED_FIFO`
//! that shares its one processor with the I/O thread and a busy neighbour, where the system and its tools `chrt` and `taskset`
//! allow that. Each also without the setting.
//!
//! `cargo bench --bench realtime -- 1000000` makes that many of each call; by default it makes fewer.
#![allow(clippy::disallowed_methods, reason = "programs that measure own their clocks and their threads")]

mod common;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::server::{Server, serve_if_asked};
use tautline::{Client, ConnectionConfig, ReconnectConfig};
use tungstenite::handshake::derive_accept_key;

/// How many of each call, unless the command says otherwise.
const CALLS: usize = 50_000;

/// The room of the rings.
const ROOM: usize = 1024;

/// A caller does this many calls of each kind at once, as a callback of an audio host would, and then sleeps. A thread of
/// real-time priority that never slept would be stopped by the system.
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_micros(100);

/// The last three are the floor: `try_send` is a push that wakes the thread behind the queue where that sleeps.
const CALLED: [&str; 8] =
    ["try_send", "try_recv", "drain(4)", "state", "stats", "push, wake", "rtrb push", "rtrb pop"];

fn main() {
    serve_if_asked();
    let calls = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(CALLS);
    println!("{:<36} {:<10} {:>9} {:>9} {:>9} {:>9}", "", "", "p50", "p99", "p99.99", "max");
    let mut server = Server::start();
    each_way("any thread", calls, &mut server);
    if !is_pinned() {
        println!("no SCHED_FIFO here: chrt and taskset are needed, and the right to use them");
        return;
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let neighbour = thread::Builder::new().name("neighbour".into());
    let neighbour = neighbour.spawn(move || {
        while !stopped.load(Relaxed) {
            std::hint::spin_loop();
        }
    });
    each_way("SCHED_FIFO", calls, &mut server);
    stop.store(true, Relaxed);
    neighbour.unwrap().join().unwrap();
}

/// Each state of the line, with the setting and without.
fn each_way(policy: &str, calls: usize, server: &mut Server) {
    let stalled = stalled();
    for realtime in [Some(ROOM), None] {
        let setting = if realtime.is_some() { "realtime" } else { "default" };
        let delay = Duration::from_millis(10);
        let again = ReconnectConfig::default().initial_delay(delay).max_delay(delay);
        let mut config = common::config(server, false, "echo").reconnect(again);
        config.realtime = realtime;
        let run = |state: &str, client: &Client| {
            let name = format!("{policy}, {setting}, {state}");
            let measured = in_real_time(policy, || measure(client, calls));
            for (called, samples) in CALLED.iter().zip(measured) {
                report(&name, called, samples);
            }
        };
        let client = common::start(config.clone());
        run("load", &client);
        server.go_down();
        run("reconnecting", &client);
        server.come_up();
        drop(client);
        let mut config = ConnectionConfig::new(stalled.as_str());
        config.realtime = realtime;
        let client = common::start(config);
        while client.try_send([7; 64]).is_ok() {
            thread::yield_now();
        }
        run("stalled", &client);
        let _ = client.terminate();
    }
}

/// Runs `work` on a thread of this policy.
fn in_real_time<T: Send>(policy: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let caller = thread::Builder::new().name("caller".into()).spawn_scoped(scope, || {
            if policy == "SCHED_FIFO" {
                let me = fs::read_link("/proc/thread-self").unwrap();
                let number = me.file_name().unwrap().to_str().unwrap();
                assert!(tool("chrt", &["-f", "-p", "10", number]), "chrt");
            }
            work()
        });
        caller.unwrap().join().unwrap()
    })
}

/// Restricts this process to one processor, where that and the policy are allowed.
fn is_pinned() -> bool {
    let me = std::process::id().to_string();
    tool("chrt", &["-f", "10", "true"]) && tool("taskset", &["-a", "-c", "-p", "0", &me])
}

fn tool(name: &str, arguments: &[&str]) -> bool {
    let (out, errors) = (Stdio::null(), Stdio::null());
    Command::new(name)
        .args(arguments)
        .stdout(out)
        .stderr(errors)
        .status()
        .is_ok_and(|status| status.success())
}

/// The times of each call, in ns.
fn measure(client: &Client, calls: usize) -> [Vec<u32>; CALLED.len()] {
    let mut times = CALLED.map(|_| Vec::with_capacity(calls));
    let (mut woken, mut taker) = Woken::new();
    let (mut to, mut from) = rtrb::RingBuffer::<[u8; 96]>::new(ROOM);
    let (mut back, mut to_us) = rtrb::RingBuffer::<[u8; 96]>::new(ROOM);
    let done = AtomicBool::new(false);
    let mut first = 0;
    thread::scope(|scope| {
        let echo = thread::Builder::new().name("echo".into()).spawn_scoped(scope, || {
            while !done.load(Relaxed) {
                while let Ok(item) = from.pop() {
                    let _ = back.push(item);
                }
                thread::sleep(PAUSE);
            }
        });
        let sleeper = thread::Builder::new().name("sleeper".into()).spawn_scoped(scope, || {
            while !done.load(Relaxed) {
                taker.take_all_and_sleep();
            }
        });
        while times[0].len() < calls {
            first += 1;
            for at in 0..AT_ONCE * CALLED.len() {
                // Another one is the first behind each sleep, when nothing is in the caches.
                let which = (at + first) % CALLED.len();
                let times = &mut times[which];
                // Whether a call succeeds or refuses, it may take no longer.
                match which {
                    0 => drop(timed(times, || client.try_send([7; 64]))),
                    1 => drop(timed(times, || client.try_recv())),
                    2 => timed(times, || client.drain(4).for_each(drop)),
                    3 => _ = timed(times, || client.state()),
                    4 => drop(timed(times, || client.stats())),
                    5 => timed(times, || woken.push([7; 96])),
                    6 => _ = timed(times, || to.push([7; 96])),
                    _ => _ = timed(times, || to_us.pop()),
                }
            }
            thread::sleep(PAUSE);
        }
        done.store(true, Relaxed);
        echo.unwrap().join().unwrap();
        woken.wake();
        sleeper.unwrap().join().unwrap();
    });
    times
}

/// A queue with a thread behind it that sleeps while there is nothing, as the I/O thread of a client does.
struct Woken {
    to: rtrb::Producer<[u8; 96]>,
    waker: mio::Waker,
    sleeps: Arc<AtomicBool>,
}

struct Taker {
    from: rtrb::Consumer<[u8; 96]>,
    poll: mio::Poll,
    sleeps: Arc<AtomicBool>,
}

impl Woken {
    fn new() -> (Self, Taker) {
        let (to, from) = rtrb::RingBuffer::new(ROOM);
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
        let sleeps = Arc::new(AtomicBool::new(false));
        (Self { to, waker, sleeps: Arc::clone(&sleeps) }, Taker { from, poll, sleeps })
    }

    fn push(&mut self, item: [u8; 96]) {
        let _ = self.to.push(item);
        if self.sleeps.load(SeqCst) && self.sleeps.swap(false, SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        self.waker.wake().unwrap();
    }
}

impl Taker {
    fn take_all_and_sleep(&mut self) {
        while self.from.pop().is_ok() {}
        self.sleeps.swap(true, SeqCst);
        if self.from.is_empty() {
            self.poll.poll(&mut mio::Events::with_capacity(1), None).unwrap();
        }
        self.sleeps.swap(false, SeqCst);
    }
}

fn timed<T>(times: &mut Vec<u32>, call: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let outcome = call();
    times.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
    outcome
}

fn report(name: &str, called: &str, mut times: Vec<u32>) {
    times.sort_unstable();
    let at = |share: usize| micros(times[(times.len() * share / 10_000).min(times.len() - 1)]);
    println!("{name:<36} {called:<10} {} {} {} {}", at(5_000), at(9_900), at(9_999), at(10_000));
}

fn micros(ns: u32) -> String {
    format!("{:>6.1} µs", f64::from(ns) / 1000.0)
}

/// The URL of a server that reads nothing behind the upgrade.
fn stalled() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let serve = move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n")
                && std::io::Read::read(&mut stream, &mut byte).is_ok_and(|n| n > 0)
            {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
            let accept = derive_accept_key(key.unwrap_or_default().as_bytes());
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
            let _ = write!(stream, "{answer}Sec-WebSocket-Accept: {accept}\r\n\r\n");
            open.push(stream);
        }
    };
    thread::Builder::new().name("stalls".into()).spawn(serve).unwrap();
    url
}
