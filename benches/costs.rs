//! What a line costs besides time: processor time, context switches, the wake-ups of an idle client, and memory. The
//! figures are from `/proc`: on other systems than Linux there is nothing to print.
#![expect(clippy::disallowed_methods, reason = "a program that measures owns its clock and its pace")]

mod common;

use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::server::{Server, serve_if_asked};
use common::table::{Table, Target, kibibytes, plain};
use common::{LONG, bare, echo, process, received, to_float};
use tautline::{Client, Compression, ConnectionConfig, ConnectionState, ReconnectConfig};
use tungstenite::Message;

const ROUNDS: usize = 12;

/// Messages in a block.
const ECHOES: usize = 2_000;
const STREAM: usize = 100_000;

/// How many round trips are made at one a millisecond.
const PACED: u32 = 300;
const PACE: Duration = Duration::from_millis(1);

/// How long an idle client is observed.
const WATCHED: Duration = Duration::from_secs(2);

const CLIENTS: usize = 500;

fn main() {
    serve_if_asked();
    let url_behind = |option: &str| std::env::args().skip_while(|arg| arg != option).nth(1);
    if let Some(url) = url_behind("--idle") {
        println!("{}", idle_clients(&ConnectionConfig::new(url)));
        return;
    }
    if let Some(url) = url_behind("--idle-compressing") {
        // No message is compressed: the server does not inflate.
        let compression = Compression::default().threshold(usize::MAX);
        println!("{}", idle_clients(&ConnectionConfig::new(url).compression(compression)));
        return;
    }
    let mut table = Table::new("costs");
    if !process::is_measured() {
        table.note("costs", "", "", "this system has no /proc to measure them by");
        return table.print();
    }
    let server = Server::start();
    traffic(&mut table, &server);
    pace(&mut table, &server);
    idle(&mut table, &server);
    memory(&mut table, &server);
    table.print();
}

/// What the threads of this process have used so far.
#[derive(Clone, Copy, Default)]
struct Cost {
    cpu: Duration,
    switches: u64,
}

impl Cost {
    fn now() -> Self {
        Self { cpu: process::cpu().unwrap_or_default(), switches: process::switches().unwrap_or(0) }
    }

    fn add(&mut self, work: impl FnOnce()) {
        let before = Self::now();
        work();
        let after = Self::now();
        self.cpu += after.cpu.saturating_sub(before.cpu);
        self.switches += after.switches - before.switches;
    }
}

fn traffic(table: &mut Table, server: &Server) {
    let client = common::connect(server, false, "echo");
    let mut other = bare::connect(server, false, "echo");
    let payload = [7; 64];
    let mut ours = || (0..ECHOES).for_each(|_| echo(&client, &payload));
    let mut bares = || (0..ECHOES).for_each(|_| bare::echo(&mut other, &payload));
    compare(table, "round trips, 64 B", ECHOES, &mut ours, &mut bares);

    let client = common::connect(server, false, "sink");
    let mut other = bare::connect(server, false, "sink");
    let mut ours = || {
        (0..STREAM).for_each(|_| _ = client.send([7; 16]).unwrap());
        received(&client);
    };
    let mut bares = || {
        (0..STREAM).for_each(|_| other.send(Message::binary(vec![7; 16])).unwrap());
        bare::received(&mut other);
    };
    compare(table, "messages out, 16 B", STREAM, &mut ours, &mut bares);

    let client = common::connect(server, false, "flood");
    let mut other = bare::connect(server, false, "flood");
    let order = format!("16 {STREAM}");
    let mut ours = || {
        client.send(order.as_str()).unwrap();
        (0..STREAM).for_each(|_| drop(client.recv().unwrap()));
    };
    let mut bares = || {
        other.send(Message::text(order.as_str())).unwrap();
        (0..STREAM).for_each(|_| drop(other.read().unwrap()));
    };
    compare(table, "messages in, 16 B", STREAM, &mut ours, &mut bares);
}

/// Sums over alternating blocks, because the system updates the time of a running thread with a delay.
fn alternate<const N: usize>(mut contestants: [&mut dyn FnMut(); N]) -> [Cost; N] {
    let mut costs = [Cost::default(); N];
    for _ in 0..ROUNDS {
        for (cost, contestant) in costs.iter_mut().zip(&mut contestants) {
            cost.add(contestant);
        }
    }
    costs
}

fn compare(table: &mut Table, name: &str, count: usize, ours: &mut dyn FnMut(), bare: &mut dyn FnMut()) {
    let [ours, bare] = alternate([ours, bare]);
    let million = to_float(count * ROUNDS) / 1e6;
    let cpu = |cost: Cost| cost.cpu.as_secs_f64() / million;
    let switches = |cost: Cost| to_float(usize::try_from(cost.switches).unwrap_or(usize::MAX)) / million;
    table.compare(&format!("CPU seconds a million {name}"), (cpu(ours), cpu(bare)), plain, None);
    let whole = |figure: f64| format!("{figure:.0}");
    table.compare(
        &format!("context switches a million {name}"),
        (switches(ours), switches(bare)),
        whole,
        None,
    );
}

/// One echo a millisecond: mostly sleep, and the cost of spinning before each sleep.
fn pace(table: &mut Table, server: &Server) {
    let client = common::connect(server, false, "echo");
    let still = common::start(common::config(server, false, "echo").spin(Duration::ZERO));
    let mut other = bare::connect(server, false, "echo");
    let [ours, without, bare] = alternate([
        &mut || paced(&mut || echo(&client, &[7; 64])),
        &mut || paced(&mut || echo(&still, &[7; 64])),
        &mut || paced(&mut || bare::echo(&mut other, &[7; 64])),
    ]);
    let rounds = to_float(ROUNDS);
    let [ours, without, bare] = [ours, without, bare]
        .map(|cost| cost.cpu.as_secs_f64() / ((PACE * PACED).as_secs_f64() * rounds) * 100.0);
    let percent = |figure: f64| format!("{figure:.2} %");
    table.compare("CPU at a message a ms, of one processor", (ours, bare), percent, None);
    table.compare(
        "CPU at a message a ms / without a spin",
        (ours, without),
        percent,
        Some(Target::AtMost(1.15)),
    );
}

fn paced(one: &mut dyn FnMut()) {
    let mut at = Instant::now();
    for _ in 0..PACED {
        at += PACE;
        thread::sleep(at.saturating_duration_since(Instant::now()));
        one();
    }
}

fn idle(table: &mut Table, server: &Server) {
    let connected = common::connect(server, false, "echo");
    echo(&connected, &[7; 64]);
    watch(table, "connected");
    let _ = connected.terminate();

    // Accepts connections, and answers none.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config =
        ConnectionConfig::new(format!("ws://{}", silent.local_addr().unwrap())).connect_timeout(LONG);
    let dialling = Client::start(config).unwrap();
    until(&dialling, |client| client.state() == ConnectionState::Connecting);
    watch(table, "dialling");
    let _ = dialling.terminate();

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reconnect = ReconnectConfig::default().initial_delay(LONG).max_delay(LONG);
    let waiting =
        Client::start(ConnectionConfig::new(format!("ws://{nobody}")).reconnect(reconnect)).unwrap();
    until(&waiting, |client| client.stats().attempts == 1 && client.state() == ConnectionState::Disconnected);
    watch(table, "backing off");
    let _ = waiting.terminate();
    watch(table, "closed");
}

fn until(client: &Client, there: impl Fn(&Client) -> bool) {
    while !there(client) {
        thread::sleep(PACE);
    }
}

/// Counts wake-ups while nothing happens, once the threads are at rest.
fn watch(table: &mut Table, state: &str) {
    thread::sleep(Duration::from_millis(200));
    let before = process::wake_ups();
    thread::sleep(WATCHED);
    if let Some((before, after)) = before.zip(process::wake_ups()) {
        let count = usize::try_from(after - before).unwrap_or(usize::MAX);
        let rate = to_float(count) / WATCHED.as_secs_f64();
        table.own(&format!("wake-ups a second when idle, {state}"), rate, plain, Some(Target::AtMost(0.0)));
    }
}

/// Runs in a process that has done nothing else, and may open as many files as it needs.
fn memory(table: &mut Table, server: &Server) {
    for (option, kind, most) in [("--idle", "", 32.0), ("--idle-compressing", ", which may compress", 33.0)] {
        let program = std::env::current_exe().unwrap();
        let script = r#"ulimit -n "$(ulimit -H -n)"; exec "$0" "$1" "$2""#;
        let url = server.url(false, "echo");
        let output = Command::new("sh").arg("-c").arg(script).arg(program).arg(option).arg(url).output();
        let output = String::from_utf8(output.unwrap().stdout).unwrap();
        let (opened, used) = output.trim().split_once(' ').unwrap();
        let target = Some(Target::AtMost(most * 1024.0));
        let figure = format!("memory of an idle client of 500{kind}");
        table.own(&figure, opened.parse().unwrap(), kibibytes, target);
        let figure = format!("{figure}, after a round trip");
        table.own(&figure, used.parse().unwrap(), kibibytes, None);
    }
}

/// How many bytes each of many idle clients keeps resident, before and after its first message.
fn idle_clients(config: &ConnectionConfig) -> String {
    // What only the first client allocates, for all, is not counted.
    let first = Client::connect(config.clone()).unwrap();
    echo(&first, &[7; 64]);
    let before = process::resident().unwrap();
    let each = || {
        thread::sleep(Duration::from_millis(300));
        let bytes = process::resident().unwrap().saturating_sub(before);
        to_float(usize::try_from(bytes).unwrap()) / to_float(CLIENTS)
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| Client::connect(config.clone()).unwrap()).collect();
    let opened = each();
    for client in &clients {
        echo(client, &[7; 64]);
    }
    let used = each();
    for client in &clients {
        let _ = client.terminate();
    }
    format!("{opened} {used}")
}
