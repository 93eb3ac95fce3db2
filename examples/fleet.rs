//! Many clients in one process. The program connects them to its own loopback server, shows their states, and measures what
//! they cost while idle and while busy. It ends with a table.
//!
//! ```sh
//! cargo run --release --example fleet            # 500 clients
//! cargo run --release --example fleet -- 5000    # needs 20,000 file descriptors: `ulimit -n 25000`
//! ```
#![allow(clippy::disallowed_methods, reason = "an example owns its clock and its threads")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{self, BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tautline::{Client, ConnectionConfig, HeartbeatConfig, QueueLimit};

/// How long the idle fleet is measured.
const WATCH: Duration = Duration::from_secs(5);

/// The heartbeat interval. It is longer than it takes to open the fleet and to measure it.
const BEAT: Duration = Duration::from_secs(120);

/// How often each client sends and waits for its echo.
const ROUNDS: usize = 20;

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    match std::env::args().nth(1).as_deref() {
        Some("--serve") => Ok(serve()?),
        Some(count) => run(count.parse()?),
        None => run(500),
    }
}

fn run(count: usize) -> Result<(), Box<dyn Error>> {
    let (mut server, url) = start_server()?;
    let config = ConnectionConfig::new(url)
        .heartbeat(HeartbeatConfig::default().interval(BEAT))
        .outbox(QueueLimit::new(64, 1 << 20))
        .events(QueueLimit::new(64, 1 << 20));
    let mut table = Vec::new();

    let before = Usage::now();
    let start = Instant::now();
    let mut fleet = Vec::with_capacity(count);
    for n in 1..=count {
        fleet.push(Client::connect(config.clone())?);
        if n % count.div_ceil(50) == 0 || n == count {
            eprint!("\r{n:>6} of {count} open");
            io::stderr().flush()?;
        }
    }
    eprintln!();
    table.push(("opened in", format!("{:.2?}", start.elapsed())));
    table.push(("states", states(&fleet)));

    // The dial threads end soon and free their memory.
    thread::sleep(Duration::from_millis(500));
    let open = Usage::now();
    if let (Some(open), Some(before)) = (&open, &before) {
        let each = |now: u64, then: u64| now.saturating_sub(then) / count as u64;
        table.push(("memory a client", format!("{} KiB", each(open.resident, before.resident))));
        table.push(("threads", format!("{} for {count} clients, and this one", open.threads - 1)));
        table.push(("file descriptors a client", each(open.descriptors, before.descriptors).to_string()));
    } else {
        table.push(("memory, threads, CPU", "this system does not report them as Linux does".into()));
    }

    eprintln!("watching the idle fleet for {WATCH:?}");
    thread::sleep(WATCH);
    if let (Some(idle), Some(open)) = (Usage::now(), &open) {
        let share = idle.cpu.saturating_sub(open.cpu).as_secs_f64() / WATCH.as_secs_f64() * 100.0;
        table.push(("CPU between heartbeats", format!("{share:.2} % of a core")));
    }

    eprintln!("{ROUNDS} rounds of an echo by each");
    let (before, start) = (Usage::now(), Instant::now());
    for round in 0..ROUNDS {
        for client in &fleet {
            client.send(format!("round {round}"))?;
        }
        for client in &fleet {
            client.recv_timeout(Duration::from_secs(30))?;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure to print")]
    let rate = (ROUNDS * count) as f64 / start.elapsed().as_secs_f64();
    table.push(("echoes", format!("{rate:.0} a second")));
    if let (Some(after), Some(before)) = (Usage::now(), before) {
        let echoes = u32::try_from(ROUNDS * count)?;
        table.push((
            "CPU an echo, this process",
            format!("{:.1?}", after.cpu.saturating_sub(before.cpu) / echoes),
        ));
    }

    table.push(("states", states(&fleet)));
    let start = Instant::now();
    // Each close waits for its handshake; in parallel they take little longer than one.
    let closing: Vec<_> = fleet.chunks(count.div_ceil(8)).map(<[Client]>::to_vec).collect();
    drop(fleet);
    let closing: Vec<_> = closing
        .into_iter()
        .map(|part| thread::spawn(move || part.iter().all(|c| c.close().is_empty())))
        .collect();
    let clean = closing.into_iter().filter_map(|part| part.join().ok()).all(|clean| clean);
    let clean = if clean { "nothing left" } else { "something left" };
    table.push(("closed in", format!("{:.2?}, {clean}", start.elapsed())));

    for (what, figure) in table {
        println!("{what:<28}{figure}");
    }
    drop(server.stdin.take());
    server.wait()?;
    Ok(())
}

/// How many clients are in each state.
fn states(fleet: &[Client]) -> String {
    let mut states = BTreeMap::new();
    for client in fleet {
        *states.entry(client.state().to_string()).or_insert(0) += 1;
    }
    states.iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

/// What this process uses, as Linux reports it. Other systems have no `/proc`, or one of another process.
struct Usage {
    /// In KiB.
    resident: u64,
    threads: u64,
    descriptors: u64,
    cpu: Duration,
}

impl Usage {
    fn now() -> Option<Self> {
        if cfg!(not(target_os = "linux")) {
            return None;
        }
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_end_matches("kB").trim().parse().ok()
        };
        // User and system time are fields 14 and 15, counted from the process's number, in hundredths of a second.
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        Some(Self {
            resident: field("VmRSS:")?,
            threads: field("Threads:")?,
            descriptors: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
            cpu: Duration::from_millis(ticks * 10),
        })
    }
}

/// The server runs in its own process, whose costs are not counted.
fn start_server() -> Result<(Child, String), Box<dyn Error>> {
    let mut server = Command::new(std::env::current_exe()?)
        .arg("--serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut address = String::new();
    io::BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut address)?;
    Ok((server, format!("ws://{}", address.trim())))
}

/// Echoes on a free port until its input ends.
fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Thousands of threads need small stacks.
            let spawned = thread::Builder::new().stack_size(128 << 10).spawn(move || echo(stream));
            if let Err(error) = spawned {
                eprintln!("no thread for a connection: {error}");
            }
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn echo(stream: TcpStream) {
    stream.set_nodelay(true).ok();
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    while let Ok(message) = socket.read() {
        if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
            return;
        }
    }
}
