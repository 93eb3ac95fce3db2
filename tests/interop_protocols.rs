//! The examples that speak a protocol, run as programs against its real server.
//!
//! `tests/interop/run.sh` starts those and runs these tests. The head of each server's source, in `interop`, tells what
//! it does.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

#[expect(unused_macros, reason = "the tests of the echo servers use it")]
#[path = "interop/client.rs"]
mod client;
mod common;

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use client::server;
use common::LONG;
use common::faults::{Fault, Plan, Point, Proxy, Way};
use crossbeam_channel::{Receiver, bounded};
use serde_json::Value;

/// What a program has said, and how it ended.
struct Ended {
    lines: Vec<String>,
    error: String,
    well: bool,
}

/// Killed when it is dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs an example, which is built beside the tests: `target/<profile>/{deps/<this test>,examples/<name>}`.
fn run(name: &str, arguments: [&str; 4]) -> Ended {
    let test = std::env::current_exe().unwrap();
    let folder: PathBuf = test.parent().unwrap().parent().unwrap().join("examples");
    let mut command = Command::new(folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX)));
    let command = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut program = Program(command.spawn().unwrap());
    let (out, err) = (all(program.0.stdout.take().unwrap()), all(program.0.stderr.take().unwrap()));
    let lines = out.recv_timeout(3 * LONG).unwrap_or_else(|_| panic!("{name} {arguments:?} does not end"));
    let ended = Ended {
        lines: lines.lines().map(str::to_owned).collect(),
        error: err.recv_timeout(LONG).unwrap(),
        well: program.0.wait().unwrap().success(),
    };
    print!("{name} {arguments:?}\n{lines}{}", ended.error);
    ended
}

/// All that comes from a stream, once it has ended.
fn all(mut stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = bounded(1);
    thread::spawn(move || {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        let _ = sender.send(text);
    });
    receiver
}

impl Ended {
    /// What comes behind this at the start of a line.
    fn said(&self, start: &str) -> Vec<&str> {
        self.lines.iter().filter_map(|line| line.strip_prefix(start)).collect()
    }

    /// The same, in JSON.
    fn values(&self, start: &str) -> Vec<Value> {
        self.said(start).iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }

    /// The numbers of the events of this name.
    fn events(&self, name: &str) -> Vec<u64> {
        let events = self.said("event: ").into_iter().filter_map(|text| serde_json::from_str(text).ok());
        events.filter(|event: &Value| event[0] == name).map(|event| event[1].as_u64().unwrap()).collect()
    }

    /// It ended well, and was never lost.
    fn undisturbed(self) -> Self {
        assert!(self.well && self.said("lost: ").is_empty(), "{}", self.error);
        self
    }

    /// It ended well, and was lost once, for this reason.
    fn lost_once(self, reason: &str) -> Self {
        let lost = self.said("lost: ");
        assert!(self.well && lost.len() == 1 && lost[0].contains(reason), "{lost:?} {}", self.error);
        self
    }

    /// It ended with this error.
    fn failed(self, error: &str) -> Self {
        assert!(!self.well && self.error.contains(error), "{:?}", self.error);
        self
    }
}

/// A proxy in front of a server, by its name, that does this to the n-th connection. The path is kept.
fn behind(name: &str, n: usize, fault: Fault) -> (Proxy, String) {
    let url = server(name);
    let address: SocketAddr = url.trim_start_matches("ws://").parse().unwrap();
    let proxy = Proxy::start(address, move |this| if this == n { fault.into() } else { Plan::calm() });
    let url = format!("ws://{}", proxy.address());
    (proxy, url)
}

fn cut(after: u64) -> Fault {
    Fault::Cut(Point { way: Way::Down, after })
}

/// The server hears no more of the client, and is heard.
fn muted(after: u64) -> Fault {
    Fault::Muted(Point { way: Way::Up, after })
}

/// Whether each number follows on the last.
fn consecutive(numbers: &[u64]) -> bool {
    numbers.windows(2).all(|two| two[1] == two[0] + 1)
}

const SECRET: &str = r#"{"token": "secret"}"#;

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn socket_io_answers_the_servers_pings_and_questions() {
    let ended = run("socket_io", [&server("SOCKET_IO"), SECRET, r#"["hello", "me"]"#, "80"]).undisturbed();
    assert_eq!(ended.said("answer: "), [r#"["hello me"]"#]);
    assert!(ended.lines.iter().any(|line| line.ends_with(r#"["well?"]"#)), "the question, behind its number");
    assert!(ended.said(r#"event: ["well","yes","#).len() == 1, "its answer arrived");
    // One for each answered ping.
    let beats = ended.events("beat");
    assert!(beats.len() >= 5 && beats[0] == 1 && consecutive(&beats), "{beats:?}");
    assert!(consecutive(&ended.events("tick")));
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn socket_io_resumes_a_session_that_was_cut_and_misses_nothing() {
    let (proxy, url) = behind("SOCKET_IO", 0, cut(1_500));
    let ended = run("socket_io", [&url, SECRET, r#"["hello", "me"]"#, "200"]).lost_once("1006");
    assert_eq!(proxy.finish(), 2);
    assert_eq!((ended.said("resumed").len(), ended.said("answer: ").len()), (1, 1));
    let ticks = ended.events("tick");
    assert!(ticks.len() > 100 && consecutive(&ticks), "{ticks:?}");
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn socket_io_begins_anew_what_the_server_has_forgotten() {
    // Once for each name.
    let forget = format!(r#"["forget", "{}"]"#, std::process::id());
    let ended = run("socket_io", [&server("SOCKET_IO"), SECRET, &forget, "60"]).lost_once("1006");
    assert_eq!((ended.said("resumed").len(), ended.said("answer: ").len()), (0, 2));
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn socket_io_leaves_a_server_that_sends_on_but_pings_no_more() {
    let ended = run("socket_io", [&server("SOCKET_IO"), SECRET, r#"["mute", "me"]"#, "200"]);
    let ended = ended.lost_once("no ping from the server for 1.2s");
    assert_eq!((ended.said("resumed").len(), ended.said("answer: ").len()), (1, 1));
    assert!(consecutive(&ended.events("tick")));
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn socket_io_ends_when_it_is_refused_or_the_server_ends_the_session() {
    let wrong = r#"{"token": "sesame"}"#;
    let ended = run("socket_io", [&server("SOCKET_IO"), wrong, r#"["hello", "me"]"#, "10"]);
    assert!(ended.failed("the server refused the login").lines.is_empty());
    let ended = run("socket_io", [&server("SOCKET_IO"), SECRET, r#"["leave", "me"]"#, "1000"]);
    assert_eq!(ended.failed("the server has ended it").said("lost: ").len(), 1);
}

const TICKS: &str = "subscription { ticks { number pings pongs } }";

fn graphql() -> String {
    format!("{}/graphql", server("GRAPHQL_WS"))
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn graphql_pings_go_both_ways_and_a_subscription_is_ended() {
    // What it counts, it counts for each token.
    let token = format!("token-{}", std::process::id());
    let ended = run("graphql_ws", [&graphql(), &token, TICKS, "90"]).undisturbed();
    let results = ended.values("result: ");
    let last = &results[89]["data"]["ticks"];
    assert_eq!(last["number"], 90);
    assert!(last["pings"].as_u64() >= Some(3) && last["pongs"].as_u64() >= Some(5), "{last}");

    let ended = run("graphql_ws", [&graphql(), &token, "{ withdrawn }", "5"]).undisturbed();
    assert_eq!(ended.said("result: "), [r#"{"data":{"withdrawn":1}}"#]);
    assert_eq!(ended.said("the subscription is complete"), [""]);
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn graphql_subscribes_again_after_a_cut() {
    let (proxy, url) = behind("GRAPHQL_WS", 0, cut(2_000));
    let ended = run("graphql_ws", [&url, "cut", TICKS, "60"]).lost_once("1006");
    assert_eq!(proxy.finish(), 2);
    assert_eq!(ended.said("subscribing").len(), 2);
    let results = ended.values("result: ");
    let numbers: Vec<_> = results.iter().map(|r| r["data"]["ticks"]["number"].as_u64().unwrap()).collect();
    let again = numbers.iter().rposition(|number| *number == 1).unwrap();
    assert!(again > 0 && consecutive(&numbers[..again]) && consecutive(&numbers[again..]), "{numbers:?}");
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn graphql_leaves_a_server_that_sends_on_but_answers_no_ping() {
    let (proxy, url) = behind("GRAPHQL_WS", 0, muted(700));
    let ended = run("graphql_ws", [&url, "muted", TICKS, "150"]).lost_once("heartbeat timeout");
    assert_eq!((proxy.finish(), ended.said("subscribing").len()), (2, 2));
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn graphql_close_codes_say_whether_to_come_back() {
    for code in ["4400", "4004", "4005", "4401", "4406", "4409", "4429", "4500"] {
        let ended =
            run("graphql_ws", [&graphql(), "codes", &format!("subscription {{ close(code: {code}) }}"), "3"]);
        assert_eq!(ended.failed(code).said("result: ").len(), 1);
    }
    let ended = run("graphql_ws", [&graphql(), "codes", "subscription { close(code: 4408) }", "2"]);
    assert_eq!(ended.lost_once("4408").said("result: ").len(), 2);
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn graphql_ends_when_it_is_refused() {
    let refused = run("graphql_ws", [&graphql(), "wrong", TICKS, "3"]);
    assert!(refused.failed(r#"4403: \"Forbidden\""#).lines.is_empty());
    run("graphql_ws", [&server("OTHER_WS"), "any", TICKS, "3"]).failed("offered: graphql-transport-ws");
    run("graphql_ws", [&graphql(), "any", "{ nonsense }", "3"]).failed("Cannot query field");
}

const EVALUATE: &str = "Runtime.evaluate";
const VERSION: &str = r#"{"expression": "process.version"}"#;
/// It forgets what it has printed, which would come at once.
const CLEARED: &str = r#"{"expression": "console.clear(), process.version"}"#;

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn json_rpc_asks_an_inspector_and_hears_the_console() {
    // This takes 10 s, and more than two heartbeats. A WebSocket ping would end it.
    let ended = run("json_rpc", [&server("INSPECTED"), EVALUATE, CLEARED, "100"]).undisturbed();
    assert!(ended.values("result: ")[0]["result"]["value"].as_str().unwrap().starts_with('v'));
    let shown = ended.values("console: ");
    let lines: Vec<_> = shown.iter().filter_map(|line| line[1]["value"].as_u64()).collect();
    assert!(lines.len() > 90 && consecutive(&lines), "{lines:?}");
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn json_rpc_looks_the_url_up_again_after_a_cut() {
    // Of two connections each: one to look it up.
    let (proxy, url) = behind("INSPECTED", 1, cut(3_000));
    run("json_rpc", [&url, EVALUATE, VERSION, "40"]).lost_once("1006");
    assert_eq!(proxy.finish(), 4);
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn json_rpc_finds_a_program_that_was_started_again() {
    let url = r#"{"expression": "url()"}"#;
    let before = run("json_rpc", [&server("INSPECTED_ANEW"), EVALUATE, url, "1"]).undisturbed();
    let dying = r#"{"expression": "console.clear(), setTimeout(die, 500), url()"}"#;
    let meanwhile =
        run("json_rpc", [&server("INSPECTED_ANEW"), EVALUATE, dying, "30"]).lost_once("connection");
    let after = run("json_rpc", [&server("INSPECTED_ANEW"), EVALUATE, url, "1"]).undisturbed();
    assert_eq!(before.said("result: "), meanwhile.said("result: "));
    assert_ne!(before.said("result: "), after.said("result: "));
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn json_rpc_leaves_an_inspector_that_answers_no_heartbeat() {
    let (proxy, url) = behind("INSPECTED", 1, muted(450));
    run("json_rpc", [&url, EVALUATE, CLEARED, "200"]).lost_once("heartbeat timeout");
    assert_eq!(proxy.finish(), 4);
}

#[test]
#[ignore = "needs real servers: tests/interop/run.sh protocols"]
fn json_rpc_ends_with_what_the_inspector_says_or_that_there_is_none() {
    let refused = run("json_rpc", [&server("INSPECTED"), EVALUATE, "{}", "5"]);
    assert!(refused.failed("Invalid parameters").lines.is_empty());
    run("json_rpc", [&server("OTHER_WS"), EVALUATE, VERSION, "5"]).failed("no inspector at");
}
