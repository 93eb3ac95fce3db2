//! The example `deliver`, run as a program: whatever is killed, each line is acknowledged by the server's application or in
//! the file.
//!
//! In a *siege* the server and the program are killed at points that a seed chooses, until the program has delivered
//! everything. What is drawn for one point is the same again with the same seed; what meets it there is the timing's.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, MS, Server, watchdog};
use fastrand::Rng;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tungstenite::Message;

/// The server's application. What it has stored outlives its server.
#[derive(Default)]
struct App {
    stored: Mutex<Store>,
    /// It has stored more, or its server has heard more.
    changed: Condvar,
}

#[derive(Default)]
struct Store {
    /// The lines by their ids.
    lines: HashMap<String, String>,
    /// How many came with an id that was stored already.
    repeated: u64,
    /// Messages that the server has read, stored or not.
    heard: u64,
    /// Messages that died with their server after it had read them.
    swallowed: u64,
}

/// How the server of one connection behaves.
#[derive(Clone, Copy, Debug)]
struct Mood {
    /// It dies after so many messages,
    life: u64,
    /// before it stores those of the last batch, or else after that and before it acknowledges them.
    forgets: bool,
    /// After so many messages
    mute_after: u64,
    /// it stores and acknowledges nothing for so long. Pings are answered.
    mute: Duration,
    /// How many messages it stores before it acknowledges them.
    batch: usize,
}

impl Mood {
    const FINE: Self = Self { life: u64::MAX, forgets: false, mute_after: 0, mute: Duration::ZERO, batch: 1 };
    /// It never stores a message, and never dies.
    const MUTE: Self = Self { forgets: true, mute: Duration::from_secs(1_000), ..Self::FINE };

    fn draw(random: &mut Rng) -> Self {
        Self {
            life: random.u64(200..4_000),
            forgets: random.bool(),
            mute_after: random.u64(..500),
            mute: if random.u8(..4) == 0 { random.u32(50..400) * MS } else { Duration::ZERO },
            batch: random.usize(1..200),
        }
    }
}

impl App {
    /// Serves a connection until it ends or the server dies.
    fn serve(&self, mood: Mood, random: &mut Rng, stream: TcpStream) {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        let (mut mute_until, mut pending) = (None, Vec::new());
        let mut heard = 0;
        while heard < mood.life {
            let idle = if pending.is_empty() { LONG } else { 5 * MS };
            let _ = socket.get_ref().set_read_timeout(Some(idle));
            let is_idle = match socket.read() {
                Ok(Message::Text(text)) => {
                    pending.push(text.to_string());
                    heard += 1;
                    self.note(|store| store.heard += 1);
                    false
                }
                // A pong waits in the socket.
                Ok(_) => socket.flush().is_err(),
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    true
                }
                Err(_) => break,
            };
            if heard > mood.mute_after {
                mute_until.get_or_insert_with(|| Instant::now() + mood.mute);
            }
            let is_mute = mute_until.is_some_and(|until| Instant::now() < until);
            if (is_idle || pending.len() >= mood.batch) && heard < mood.life && !is_mute {
                let mut ids = self.store(pending.drain(..));
                random.shuffle(&mut ids);
                if ids.iter().any(|id| socket.send(json!({"ack": id}).to_string().into()).is_err()) {
                    break;
                }
            }
        }
        if !mood.forgets {
            self.store(pending.drain(..));
        }
        self.note(|store| store.swallowed += pending.len() as u64);
    }

    fn store(&self, messages: impl Iterator<Item = String>) -> Vec<String> {
        let mut ids = Vec::new();
        self.note(|store| {
            for message in messages {
                let message: Value = serde_json::from_str(&message).unwrap();
                let [id, line] = ["id", "line"].map(|field| message[field].as_str().unwrap().to_owned());
                if let Some(earlier) = store.lines.insert(id.clone(), line.clone()) {
                    assert_eq!(earlier, line, "two lines have the id {id}");
                    store.repeated += 1;
                }
                ids.push(id);
            }
        });
        ids
    }

    fn note(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.stored.lock().unwrap());
        self.changed.notify_all();
    }

    fn read<R>(&self, look: impl FnOnce(&Store) -> R) -> R {
        look(&self.stored.lock().unwrap())
    }

    /// Waits until its server has heard so many messages, for `limit` at most.
    fn wait_heard(&self, heard: u64, limit: Duration) {
        let stored = self.stored.lock().unwrap();
        drop(self.changed.wait_timeout_while(stored, limit, |store| store.heard < heard).unwrap());
    }
}

/// A server at one port, for a program that sends the lines of a file.
struct Siege {
    name: String,
    lines: Vec<String>,
    app: Arc<App>,
    address: SocketAddr,
    server: Option<Server>,
    /// How each connection is served, from the first on.
    mood: Arc<dyn Fn(u64) -> Mood + Send + Sync>,
    connections: Arc<AtomicU64>,
}

impl Siege {
    fn new(name: &str, lines: usize, mood: impl Fn(u64) -> Mood + Send + Sync + 'static) -> Self {
        watchdog::watch();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut siege = Self {
            name: name.to_owned(),
            lines: (1..=lines).map(line).collect(),
            app: Arc::default(),
            address: listener.local_addr().unwrap(),
            server: None,
            mood: Arc::new(mood),
            connections: Arc::default(),
        };
        siege.up(listener);
        // What a test has left that was stopped midway, in whatever state.
        let _ = fs::remove_dir_all(siege.folder());
        fs::create_dir_all(siege.folder()).unwrap();
        fs::write(siege.input(), siege.lines.iter().map(|line| line.clone() + "\n").collect::<String>())
            .unwrap();
        siege
    }

    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("deliver_{}", self.name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    fn input(&self) -> PathBuf {
        self.path("input")
    }

    /// Where the program keeps what is not acknowledged.
    fn file(&self) -> PathBuf {
        self.path("failed")
    }

    fn up(&mut self, listener: TcpListener) {
        let (app, mood, connections) =
            (Arc::clone(&self.app), Arc::clone(&self.mood), Arc::clone(&self.connections));
        self.server = Some(Server::start_on(listener, move |_, stream| {
            let n = connections.fetch_add(1, Ordering::SeqCst);
            app.serve(mood(n), &mut Rng::with_seed(n), stream);
        }));
    }

    /// Kills the server, and starts it again at the same port after a while.
    fn restart(&mut self, after: Duration) {
        self.server = None;
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Its connections keep the port for a while. On Windows they don't, and the option means something else.
        #[cfg(unix)]
        socket.set_reuse_address(true).unwrap();
        socket.bind(&self.address.into()).unwrap();
        thread::sleep(after);
        socket.listen(128).unwrap();
        self.up(socket.into());
    }

    fn cut(&self) {
        self.server.as_ref().unwrap().cut();
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg(format!("ws://{}", self.address)).arg("--failed").arg(self.file()).args(more);
        // Once the program has taken the lines, they are in the file.
        let input =
            if self.file().exists() { Stdio::null() } else { File::open(self.input()).unwrap().into() };
        command.stdin(input).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn start(&self, more: &[&str]) -> Deliver {
        Deliver(self.command(more).spawn().unwrap())
    }

    /// Runs the program to its end. Returns its exit code and what it said.
    fn run(&self, more: &[&str]) -> (i32, String) {
        self.start(more).end()
    }

    /// The lines in the file by their numbers, which are the last part of their ids. `None` if there is no file.
    fn left(&self) -> Option<HashSet<usize>> {
        let text = fs::read_to_string(self.file()).ok()?;
        let line = |line: &str| {
            let (id, text) = line.split_once('\t').unwrap();
            self.number(id, text)
        };
        Some(text.split_terminator('\n').map(line).collect())
    }

    /// The number of a line that should have this text.
    fn number(&self, id: &str, text: &str) -> usize {
        let number: usize = id.rsplit('-').next().unwrap().parse().unwrap();
        assert_eq!(self.lines[number - 1], text, "{id}");
        number
    }

    fn stored(&self) -> HashSet<usize> {
        self.app.read(|store| {
            let numbers: HashSet<_> = store.lines.iter().map(|(id, text)| self.number(id, text)).collect();
            assert_eq!(numbers.len(), store.lines.len(), "a line has two ids");
            numbers
        })
    }

    /// That no line is neither stored by the server's application nor in the file. Returns how many are in the file.
    fn judge(&self) -> usize {
        let Some(left) = self.left() else {
            assert_eq!(self.app.read(|store| store.heard), 0, "sent before it was in the file");
            return 0;
        };
        let stored = self.stored();
        let lost: Vec<_> =
            (1..=self.lines.len()).filter(|n| !left.contains(n) && !stored.contains(n)).collect();
        assert!(lost.is_empty(), "{} lines are nowhere, the first of them {}", lost.len(), lost[0]);
        left.len()
    }

    /// That everything is stored, and nothing in the file.
    fn assert_delivered(&self, end: (i32, String)) {
        let (code, said) = end;
        assert_eq!(code, 0, "{said}");
        assert!(said.starts_with("all ") && said.ends_with(" lines are acknowledged\n"), "{said:?}");
        assert_eq!(said.lines().count(), 1, "no progress bar where stderr is no terminal: {said:?}");
        assert_eq!((self.judge(), self.stored().len()), (0, self.lines.len()));
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        if !thread::panicking() {
            for file in [self.input(), self.file()] {
                let _ = fs::remove_file(file);
            }
        }
    }
}

/// The n-th line: some are empty, some have what an encoding could spoil.
fn line(n: usize) -> String {
    match n % 8 {
        0 => String::new(),
        1 => format!("{n}\tbehind a tab, \"in quotes\", \\ and a return\r"),
        2 => format!("  {n} ä € 𝄞\u{2028}\u{0} "),
        3 => "the same again".into(),
        _ => format!("reading {n}"),
    }
}

/// The program, which `cargo test` builds beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let name = format!("deliver{}", std::env::consts::EXE_SUFFIX);
    let program = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    let changed = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/deliver.rs");
    // `cargo test` builds the examples, and `cargo test --test deliver` does not.
    assert!(changed(&program) >= changed(&source), "missing or out of date: cargo build --example deliver");
    program
}

/// The running program, killed when it is dropped.
struct Deliver(Child);

impl Deliver {
    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }

    /// Kills it at once, without a word: SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn end(mut self) -> (i32, String) {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.wait().unwrap().code().unwrap(), said)
    }
}

impl Drop for Deliver {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How often what was killed, and what came of it.
#[derive(Debug, Default)]
struct Tally {
    connections: u64,
    /// Messages that the server's application had stored before.
    repeated: u64,
    /// Messages that died with their server after it had read them.
    swallowed: u64,
    runs: u64,
    programs_killed: u64,
    servers_killed: u64,
    cuts: u64,
    /// Lines in the file at the ends of the program, all together.
    left: usize,
    /// How often the program has ended by itself with lines in the file.
    gave_up: u64,
}

/// Kills the server and the program at points that `seed` chooses, until the program has delivered everything.
fn besiege(name: &str, lines: usize, seed: u64, pace: u64) -> Tally {
    let start = Instant::now();
    let mut random = Rng::with_seed(seed);
    let mut siege = Siege::new(name, lines, move |n| Mood::draw(&mut Rng::with_seed(seed ^ n)));
    let mut tally = Tally::default();
    loop {
        tally.runs += 1;
        let mut program = siege.start(&[]);
        if random.u8(..6) == 0 {
            // While it reads, stores, or connects: nothing of that can be seen from here.
            thread::sleep(random.u32(..40) * MS);
            tally.programs_killed += 1;
            program.kill();
        } else {
            let end = loop {
                let heard = siege.app.read(|store| store.heard);
                siege.app.wait_heard(heard + random.u64(1..pace), 300 * MS);
                if program.has_ended() {
                    break Some(program.end());
                }
                // While the line is down there is no use in killing the server again.
                let is_up = siege.app.read(|store| store.heard) > heard;
                let fault = random.u8(if is_up { 0 } else { 7 }..16);
                if let 0..=4 = fault {
                    tally.cuts += 1;
                    siege.cut();
                }
                if let 5..=6 = fault {
                    tally.servers_killed += 1;
                    siege.restart(random.u32(..200) * MS);
                }
                if let 4 | 7 = fault {
                    tally.programs_killed += 1;
                    program.kill();
                    break None;
                }
            };
            if let Some((code, said)) = end {
                if code == 0 {
                    siege.assert_delivered((code, said));
                    break;
                }
                assert!(code == 1 && siege.judge() > 0, "{code}: {said}");
                tally.gave_up += 1;
            }
        }
        tally.left += siege.judge();
    }
    let took = start.elapsed();
    tally.connections = siege.connections.load(Ordering::SeqCst);
    siege.app.read(|store| (tally.repeated, tally.swallowed) = (store.repeated, store.swallowed));
    println!("seed {seed}: {lines} lines, all of them acknowledged, {took:.1?}: {tally:#?}");
    tally
}

#[test]
fn whatever_is_killed_each_line_is_stored_by_the_servers_application_or_in_the_file() {
    let tallies = [3, 7].map(|seed| besiege("siege", 4_000, seed, 1_500));
    assert!(tallies.iter().any(|tally| tally.repeated > 0), "nothing was at stake: {tallies:?}");
}

#[test]
#[ignore = "takes minutes: 100,000 lines and a hundred kills; it prints what became of them"]
fn of_100_000_lines_not_one_is_neither_stored_nor_in_the_file() {
    let tally = besiege("long_siege", 100_000, 13, 4_000);
    assert!(
        tally.programs_killed.min(tally.servers_killed).min(tally.cuts) > 10,
        "hardly a siege: {tally:?}"
    );
    assert!(tally.repeated.min(tally.swallowed) > 0, "nothing was at stake: {tally:?}");
}

#[test]
fn what_the_server_has_read_and_not_acknowledged_is_sent_again() {
    let dies = Mood { life: 50, forgets: true, batch: 100, ..Mood::FINE };
    let siege = Siege::new("read", 200, move |n| if n == 0 { dies } else { Mood::FINE });
    siege.assert_delivered(siege.run(&[]));
    assert_eq!(siege.app.read(|store| (store.swallowed, store.repeated)), (50, 0));
}

#[test]
fn what_was_stored_and_not_acknowledged_comes_again_with_the_same_id() {
    let dies = Mood { life: 50, batch: 100, ..Mood::FINE };
    let siege = Siege::new("stored", 200, move |n| if n == 0 { dies } else { Mood::FINE });
    siege.assert_delivered(siege.run(&[]));
    assert_eq!(siege.app.read(|store| store.repeated), 50);
}

#[test]
fn the_line_over_which_three_connections_were_lost_is_in_the_file_and_the_next_run_sends_it() {
    let dies = Mood { life: 10, forgets: true, batch: 100, ..Mood::FINE };
    let siege = Siege::new("given_up", 200, move |n| if n < 3 { dies } else { Mood::FINE });
    let (code, said) = siege.run(&[]);
    assert_eq!((code, siege.judge() + siege.stored().len()), (1, 200), "{said}");
    assert_eq!(siege.judge(), 1, "{said}");
    let begins = format!("{} of 200 lines are acknowledged; the others are in ", siege.stored().len());
    assert!(said.starts_with(&begins), "{said}");
    siege.assert_delivered(siege.run(&[]));
}

#[test]
fn a_server_that_answers_pings_and_acknowledges_nothing_leaves_every_line_in_the_file() {
    let siege = Siege::new("mute", 3_000, move |n| if n == 0 { Mood::MUTE } else { Mood::FINE });
    let (code, said) = siege.run(&["--patience", "1"]);
    assert!(
        code == 1 && said.starts_with("0 of 3000 lines are acknowledged; the others are in "),
        "{code}: {said}"
    );
    assert_eq!((siege.judge(), siege.stored().len()), (3_000, 0));
    siege.assert_delivered(siege.run(&[]));
}

#[test]
fn a_server_that_acknowledges_late_is_waited_for() {
    let late = Mood { mute: 700 * MS, ..Mood::FINE };
    let siege = Siege::new("late", 3_000, move |_| late);
    siege.assert_delivered(siege.run(&[]));
    assert_eq!(siege.app.read(|store| store.heard), 3_000, "once each");
}

#[test]
fn a_program_that_is_killed_has_every_line_in_the_file_before_it_sends_the_first() {
    let siege = Siege::new("killed", 3_000, move |n| if n == 0 { Mood::MUTE } else { Mood::FINE });
    let program = siege.start(&[]);
    siege.app.wait_heard(1, LONG);
    program.kill();
    assert_eq!((siege.judge(), siege.stored().len()), (3_000, 0));
    siege.assert_delivered(siege.run(&[]));
}

#[test]
fn the_file_of_a_program_that_is_killed_has_been_trimmed_as_acknowledgements_came() {
    let stops = Mood { mute_after: 2_000, ..Mood::MUTE };
    let siege = Siege::new("trimmed", 3_000, move |_| stops);
    let program = siege.start(&[]);
    siege.app.wait_heard(1, LONG);
    let whole = fs::read_to_string(siege.file()).unwrap();
    let rest: usize = whole.split_terminator('\n').rev().take(1_000).map(|line| line.len() + 1).sum();
    // To look at its length does not keep the file from being replaced, as reading it may.
    common::eventually("a file that is trimmed", || {
        fs::metadata(siege.file()).unwrap().len() == u64::try_from(rest).unwrap()
    });
    program.kill();
    assert_eq!(siege.judge(), 1_000);
}

#[test]
fn a_trim_that_fails_is_done_again() {
    let stops = Mood { mute_after: 2_000, ..Mood::MUTE };
    let siege = Siege::new("again", 3_000, move |_| stops);
    let program = siege.start(&[]);
    siege.app.wait_heard(1, LONG);
    // No file can take the place of a folder.
    fs::remove_file(siege.file()).unwrap();
    fs::create_dir(siege.file()).unwrap();
    let written = || fs::metadata(siege.path("failed.new")).and_then(|new| new.modified());
    common::eventually("a trim", || written().is_ok());
    // Each takes some milliseconds, and the next one is a second later. A program that ends does one more.
    for which in ["a second trim", "a third trim"] {
        let before = written().unwrap();
        common::eventually(which, || written().unwrap() > before + 500 * MS);
    }
    fs::remove_dir(siege.file()).unwrap();
    common::eventually("a trim that works", || siege.left().is_some());
    program.kill();
    assert_eq!(siege.judge(), 1_000);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_it_in_good_order_with_the_rest_in_the_file() {
    for signal in ["-INT", "-TERM"] {
        let siege = Siege::new("signal", 3_000, |_| Mood::MUTE);
        let program = siege.start(&[]);
        siege.app.wait_heard(1, LONG);
        assert!(Command::new("kill").args([signal, &program.0.id().to_string()]).status().unwrap().success());
        let (code, said) = program.end();
        assert!(code == 1 && said.starts_with("0 of 3000 lines are acknowledged"), "{code}: {said}");
        assert_eq!(siege.judge(), 3_000);
    }
}

#[test]
fn new_lines_go_out_behind_those_that_are_left() {
    let siege = Siege::new("behind", 3, |_| Mood::FINE);
    fs::write(siege.file(), "a-2\tolder\n").unwrap();
    let (code, said) =
        Deliver(siege.command(&[]).stdin(File::open(siege.input()).unwrap()).spawn().unwrap()).end();
    assert_eq!((code, &*said), (0, "all 4 lines are acknowledged\n"));
    let lines = siege.app.read(|store| store.lines.clone());
    assert!(lines.len() == 4 && lines["a-2"] == "older", "{lines:?}");
}

#[test]
fn what_can_not_be_used_is_named_and_nothing_is_stored_or_sent() {
    let siege = Siege::new("unusable", 1, |_| Mood::FINE);
    let (url, file) = (format!("ws://{}", siege.address), siege.file());
    let (url, file) = (url.as_str(), file.to_str().unwrap());
    let run = |arguments: &[&str], input: &[u8]| {
        fs::write(siege.input(), input).unwrap();
        let mut command = Command::new(program());
        command.args(arguments).stdin(File::open(siege.input()).unwrap()).stderr(Stdio::piped());
        let (code, said) = Deliver(command.spawn().unwrap()).end();
        assert_eq!(code, 2, "{arguments:?}: {said}");
        said
    };
    for arguments in [
        &[][..],
        &[url],
        &["--failed", file],
        &[url, "--failed"],
        &[url, url, "--failed", file],
        &[url, "--failed", file, "--patience", "long"],
        &[url, "--failed", file, "--help"],
    ] {
        assert!(run(arguments, b"a\n").starts_with("deliver URL --failed FILE"), "{arguments:?}");
    }
    assert!(run(&["http://127.0.0.1", "--failed", file], b"a\n").contains("ws://"));
    let usable = [url, "--failed", file];
    assert!(run(&usable, b"a\n\xFF\n").starts_with("stdin: "));
    let long = [&b"a\n"[..], &vec![b'x'; (1 << 20) + 1]].concat();
    assert_eq!(run(&usable, &long), "line 2 of stdin has more than 1048576 bytes\n");
    assert!(siege.left().is_none());
    run(&[url, "--failed", "/"], b"a\n");
    fs::write(file, "no id\n").unwrap();
    assert_eq!(run(&usable, b"a\n"), format!("{file} is not of this program\n"));
    assert_eq!(fs::read_to_string(file).unwrap(), "no id\n");
    assert_eq!(siege.app.read(|store| store.heard), 0);
}
