//! The examples `mqtt` and `nats`, run as programs against mosquitto and nats-server.
//!
//! `tests/interop/run.sh brokers` starts those and runs these tests. What the brokers saw is in their logs.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

#[path = "interop/client.rs"]
#[allow(unused_macros, reason = "these tests are of programs")]
mod client;
mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use client::{server, variable};
use common::faults::{Fault, Plan, Point, Proxy, Way};
use common::{LONG, eventually};
use crossbeam_channel::{Receiver, Sender, unbounded};

/// A running example, killed when it is dropped.
struct Program {
    child: Child,
    /// The lines of stdout and stderr.
    lines: Receiver<String>,
}

impl Program {
    fn start(name: &str, url: &str, args: &[&str]) -> Self {
        let test = std::env::current_exe().unwrap();
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        let program = test.parent().unwrap().parent().unwrap().join("examples").join(file);
        let mut command = Command::new(&program);
        command.arg(url).args(args).env("RUST_LOG", "info").stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = unbounded();
        forward(child.stdout.take().unwrap(), sender.clone());
        forward(child.stderr.take().unwrap(), sender);
        Self { child, lines }
    }

    /// The next line with this in it.
    fn see(&self, what: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(LONG).unwrap_or_else(|_| panic!("never saw {what:?}"));
            if line.contains(what) {
                return line;
            }
        }
    }

    /// Whether it succeeded, and the lines that nobody has looked at.
    fn end(mut self) -> (bool, String) {
        let lines: Vec<String> = std::iter::from_fn(|| self.lines.recv_timeout(LONG).ok()).collect();
        eventually("the end of the program", || self.child.try_wait().unwrap().is_some());
        (self.child.wait().unwrap().success(), lines.join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward(stream: impl Read + Send + 'static, lines: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
}

/// Runs an example to its end, which is a good one.
fn run(name: &str, url: &str, args: &[&str]) -> String {
    let (success, lines) = Program::start(name, url, args).end();
    assert!(success, "{name} {args:?}: {lines}");
    lines
}

fn mqtt(url: &str, args: &[&str]) -> Program {
    Program::start("mqtt", url, &[args, &["--login", "bob:open sesame", "--keepalive", "1"]].concat())
}

fn publish(line: &str) {
    let lines = run("mqtt", &server("MOSQUITTO"), &["--login", "bob:open sesame", "--pub", line]);
    assert!(lines.contains("published"), "{lines}");
}

fn nats(url: &str, args: &[&str]) -> Program {
    Program::start("nats", url, &[args, &["--token", "open sesame"]].concat())
}

/// How many lines of a broker's log hold all of this.
fn logged(broker: &str, parts: &[&str]) -> usize {
    let log = std::fs::read(PathBuf::from(variable(&format!("TAUTLINE_{broker}_LOG")))).unwrap();
    let log = String::from_utf8_lossy(&log);
    log.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}

fn address(broker: &str) -> SocketAddr {
    server(broker).trim_start_matches("ws://").parse().unwrap()
}

/// Cuts the first connection once the broker has sent so many bytes: in the middle of something large.
fn cutting(broker: &str, after: u64) -> (Proxy, String) {
    let cut = move |n| {
        if n == 0 { Fault::Cut(Point { way: Way::Down, after }).into() } else { Plan::calm() }
    };
    let proxy = Proxy::start(address(broker), cut);
    let url = format!("ws://{}", proxy.address());
    (proxy, url)
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh brokers"]
fn mqtt_is_kept_alive_by_packets_and_says_goodbye() {
    let heir = mqtt(&server("MOSQUITTO"), &["--sub", "gone/will/#", "--count", "1"]);
    heir.see("subscribed");
    let program = mqtt(&server("MOSQUITTO"), &["--id", "will/kept", "--sub", "kept/#", "--count", "2"]);
    program.see("connected, resumed: false");
    program.see("subscribed");
    // The broker ends a client that was silent for one and a half keepalives.
    eventually("keepalives", || logged("MOSQUITTO", &["Received PINGREQ from will/kept"]) >= 4);
    publish("kept/a first");
    program.see("message: kept/a first");
    publish("kept/b second");
    let (success, lines) = program.end();
    assert!(success && lines.contains("message: kept/b second") && !lines.contains("lost"), "{lines}");
    assert_eq!(logged("MOSQUITTO", &["Sending CONNACK to will/kept"]), 1, "one connection all the time");
    eventually("the goodbye", || logged("MOSQUITTO", &["Received DISCONNECT from will/kept"]) == 1);

    // One that is killed says none: its will is the only one that is heard.
    let killed = mqtt(&server("MOSQUITTO"), &["--id", "will/killed", "--sub", "kept/#"]);
    killed.see("subscribed");
    drop(killed);
    assert_eq!(heir.see("message:"), "message: gone/will/killed lost");
    assert!(heir.end().0);
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh brokers"]
fn mqtt_comes_back_to_its_session_and_misses_nothing() {
    let (proxy, url) = cutting("MOSQUITTO", 4096);
    let program = mqtt(&url, &["--id", "cut", "--sub", "cut/#", "--count", "2"]);
    program.see("connected, resumed: false");
    program.see("subscribed");
    let large = "x".repeat(20_000);
    publish(&format!("cut/large {large}"));
    program.see("lost:");
    program.see("connected, resumed: true");
    // The broker sends again what was not acknowledged.
    assert_eq!(program.see("message:"), format!("message: cut/large {large}"));
    publish("cut/small after");
    let (success, lines) = program.end();
    assert!(success && lines.contains("message: cut/small after"), "{lines}");
    assert!(!lines.contains("subscribed"), "the session is still subscribed: {lines}");
    assert_eq!(logged("MOSQUITTO", &["Received SUBSCRIBE from cut"]), 1);
    assert_eq!(proxy.finish(), 2);
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh brokers"]
fn mqtt_without_a_session_subscribes_anew() {
    let (proxy, url) = cutting("MOSQUITTO", 4096);
    let program = mqtt(&url, &["--sub", "anew/#", "--count", "1"]);
    program.see("subscribed");
    publish(&format!("anew/large {}", "x".repeat(20_000)));
    program.see("lost:");
    program.see("connected, resumed: false");
    program.see("subscribed");
    publish("anew/small after");
    let (success, lines) = program.end();
    assert!(success && lines.contains("message: anew/small after"), "{lines}");
    assert_eq!(proxy.finish(), 2);
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh brokers"]
fn mqtt_that_is_refused_ends_and_says_why() {
    let program = Program::start("mqtt", &server("MOSQUITTO"), &["--login", "bob:wrong", "--id", "refused"]);
    let (success, lines) = program.end();
    assert!(!success);
    assert!(lines.contains("the server refused the login: CONNACK with code 5"), "{lines}");
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh brokers"]
fn nats_is_kept_alive_from_both_sides() {
    // The server pings only a client that does not.
    let theirs = nats(&server("NATS"), &["--sub", "theirs.>", "--count", "1"]);
    let ours = nats(&server("NATS"), &["--sub", "ours.>", "--count", "1", "--ping", "1"]);
    let id = |subject: &str| {
        let parts = ["<<- [SUB", subject];
        eventually("the subscription", || logged("NATS", &parts) == 1);
        let log = std::fs::read_to_string(variable("TAUTLINE_NATS_LOG")).unwrap();
        let line = log.lines().find(|line| parts.iter().all(|part| line.contains(part))).unwrap();
        line.split_whitespace().find(|word| word.starts_with("wid:")).unwrap().to_owned() + " "
    };
    let (theirs_id, ours_id) = (id("theirs.>"), id("ours.>"));
    // The server ends a client that answers none of two.
    eventually("pongs of ours", || logged("NATS", &[&theirs_id, "<<- [PONG]"]) >= 4);
    eventually("pings of ours", || logged("NATS", &[&ours_id, "<<- [PING]"]) >= 4);
    eventually("pongs of theirs", || logged("NATS", &[&ours_id, "->> [PONG]"]) >= 4);
    for (program, subject) in [(theirs, "theirs.a"), (ours, "ours.a")] {
        let line = format!("{subject} still here");
        assert!(nats(&server("NATS"), &["--pub", &line]).end().0);
        let (success, lines) = program.end();
        assert!(success && lines.contains(&format!("message: {subject} - still here")), "{lines}");
        assert!(!lines.contains("-> DISCONNECTED"), "{lines}");
    }
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh brokers"]
fn nats_answers_requests_and_comes_back_with_its_subscriptions() {
    let (proxy, url) = cutting("NATS", 8192);
    let program = nats(&url, &["--sub", "asked.>", "--count", "2", "--reply", "pong"]);
    eventually("the subscription", || logged("NATS", &["<<- [SUB asked.>"]) == 1);
    let ask = |what: &str| run("nats", &server("NATS"), &["--token", "open sesame", "--request", what]);
    assert!(ask("asked.first ping").contains("answer: pong"));
    program.see("message: asked.first _INBOX.");
    let large = format!("asked.large {}", "x".repeat(20_000));
    assert!(nats(&server("NATS"), &["--pub", &large]).end().0);
    program.see("-> DISCONNECTED");
    eventually("the subscription again", || logged("NATS", &["<<- [SUB asked.>"]) == 2);
    assert!(ask("asked.second ping").contains("answer: pong"));
    let (success, lines) = program.end();
    assert!(success && lines.contains("message: asked.second _INBOX."), "{lines}");
    assert_eq!(proxy.finish(), 2);
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh brokers"]
fn nats_tells_that_the_server_leaves() {
    let program = nats(&server("NATS_LEAVING"), &["--sub", "left.>", "--count", "1"]);
    eventually("the subscription", || logged("NATS_LEAVING", &["<<- [SUB left.>"]) == 1);
    let signal = Command::new("kill").args(["-USR2", &variable("TAUTLINE_NATS_LEAVING_PID")]).status();
    assert!(signal.unwrap().success());
    let told = program.see("message: INFO");
    assert!(told.contains(r#""ldm":true"#), "{told}");
    assert!(program.end().0);
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh brokers"]
fn nats_that_is_refused_ends_and_says_why() {
    let (success, lines) = Program::start("nats", &server("NATS"), &["--token", "wrong"]).end();
    assert!(!success);
    assert!(lines.contains("the server refused the login: 'Authorization Violation'"), "{lines}");
}
