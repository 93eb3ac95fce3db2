//! The example `stomp` against `RabbitMQ`, which keeps the messages on disk before it gives their receipts.
//!
//! `tests/interop/run.sh stomp` starts it, again whenever it is killed, and runs these tests.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

#[path = "interop/client.rs"]
#[expect(unused_macros, reason = "the tests of the echo servers use it")]
mod client;
mod common;
#[path = "../examples/stomp/main.rs"]
#[allow(dead_code, reason = "its program is run as one")]
mod stomp;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use client::{config, counted, lost, ms, server, variable};
use common::LONG;
use tautline::{
    Beat, Client, Confirmation, ConnectionConfig, Delivery, DisconnectReason, Error, HeartbeatConfig, Ticket,
};

const LOGIN: &str = "bob:open sesame";

fn at_least_once() -> ConnectionConfig {
    let config = config(&server("RABBITMQ"));
    let often = config.reconnect.clone().max_delay(ms(300));
    config
        .reconnect(often)
        .subprotocol("v12.stomp")
        .require_subprotocol(true)
        .heartbeat(HeartbeatConfig::default().beat(Beat::Protocol))
        .delivery(Delivery::AtLeastOnce)
        .confirmation(Confirmation::Acknowledgement)
}

fn open(beat: Duration, subscriptions: &[&str]) -> Client {
    common::watchdog::watch();
    let mut session = stomp::Stomp::default();
    session.host = "/".into();
    session.login = Some(LOGIN.into());
    session.beat = beat;
    session.subscriptions = subscriptions.iter().map(|&destination| destination.into()).collect();
    Client::builder(at_least_once()).protocol(session).connect().unwrap()
}

/// Runs the example to its end: whether that is a good one, and what it has said.
fn run(args: &[&str]) -> (bool, String) {
    common::watchdog::watch();
    let test = std::env::current_exe().unwrap();
    let file = format!("stomp{}", std::env::consts::EXE_SUFFIX);
    let program = test.parent().unwrap().parent().unwrap().join("examples").join(file);
    let url = server("RABBITMQ");
    let Output { status, stdout, stderr } = Command::new(program).arg(url).args(args).output().unwrap();
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

/// What STOMP has to escape or count, and a number.
fn text(n: usize) -> String {
    format!("{n} a:b\\c\n\n\u{e4}\0{}", "x".repeat(n % 300))
}

/// Takes what comes until all of these have come. How often each has.
fn receive_all(client: &Client, numbers: &BTreeSet<usize>) -> BTreeMap<usize, usize> {
    let mut seen = BTreeMap::new();
    let end = Instant::now() + 3 * LONG;
    while !numbers.iter().all(|n| seen.contains_key(n)) {
        let left = end.saturating_duration_since(Instant::now());
        let message = client.recv_timeout(left).unwrap_or_else(|error| {
            let missing: Vec<_> = numbers.iter().filter(|n| !seen.contains_key(*n)).collect();
            panic!("{error}: acknowledged, and not there: {missing:?}")
        });
        let (_, came) = message.as_text().unwrap().split_once(' ').unwrap();
        let n = came.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(came, text(n));
        *seen.entry(n).or_default() += 1;
    }
    seen
}

#[test]
#[ignore = "needs a real server: tests/interop/run.sh stomp"]
fn every_message_is_acknowledged_or_named_though_the_broker_is_killed() {
    const ALL: usize = 5000;
    let subscriber = open(Duration::from_secs(5), &["/queue/killed"]);
    let sender = open(Duration::from_secs(5), &[]);
    let mut tickets: Vec<Ticket> = Vec::new();
    for n in 0..ALL {
        if n == 1000 {
            sender.confirm(.., LONG).unwrap();
        }
        if n == 2000 {
            let pid = std::fs::read_to_string(variable("TAUTLINE_RABBITMQ_PID")).unwrap();
            assert!(Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
            let confirmed = usize::try_from(sender.stats().messages_confirmed).unwrap();
            assert!((1000..2000).contains(&confirmed), "it was not in the middle: {confirmed}");
        }
        // Waits for room while the broker is down.
        tickets.push(sender.send(format!("/queue/killed {}", text(n))).unwrap());
    }
    let named = match sender.confirm(.., 3 * LONG) {
        Ok(()) => BTreeSet::new(),
        Err(Error::Unconfirmed { maybe_delivered, never_sent, .. }) => {
            maybe_delivered.iter().chain(never_sent.iter()).collect()
        }
        Err(error) => panic!("some have no fate: {error}"),
    };
    let stats = sender.stats();
    assert_eq!(stats.messages_confirmed, (ALL - named.len()) as u64);
    assert!(stats.disconnects >= 1 && stats.connects >= 2, "{stats:?}");
    let acknowledged = (0..ALL).filter(|n| !named.contains(&tickets[*n])).collect();
    let seen = receive_all(&subscriber, &acknowledged);
    let again = seen.values().filter(|times| **times > 1).count();
    println!("{} acknowledged, {} named, {again} came more than once", acknowledged.len(), named.len());
    for client in [sender, subscriber] {
        let left = client.close();
        assert!(left.is_empty(), "{left:?}");
        client.wait_closed().into_result().unwrap();
    }
}

#[test]
#[ignore = "needs a real server: tests/interop/run.sh stomp"]
fn heart_beats_go_both_ways_and_keep_the_line_up() {
    let client = open(Duration::from_secs(1), &[]);
    // One side without them would end the line after two or three seconds.
    counted(&client, "heart-beats", |stats| stats.heartbeats >= 6 && stats.messages_received >= 6);
    assert_eq!(client.stats().round_trip, None);
    let _ = client.close();
    client.wait_closed().into_result().unwrap();
}

#[test]
#[ignore = "needs a real server: tests/interop/run.sh stomp"]
fn a_message_that_the_broker_can_not_take_is_named_and_later_ones_arrive() {
    let client = open(Duration::ZERO, &["/queue/fine"]);
    let bad = client.send("/nowhere/a text").unwrap();
    for _ in 0..3 {
        let (reason, ..) = lost(&client);
        let said = reason.to_string();
        let is_error = matches!(reason, DisconnectReason::Lost(Error::Session { .. }));
        assert!(is_error && said.contains("Unknown destination") && said.contains("/nowhere/a"), "{said}");
    }
    let good = client.send(format!("/queue/fine {}", text(7))).unwrap();
    client.confirm(good, LONG).unwrap();
    assert_eq!(common::fate(&client, ..), format!("maybe {bad}"));
    receive_all(&client, &BTreeSet::from([7]));
    let _ = client.close();
}

#[test]
#[ignore = "needs a real server: tests/interop/run.sh stomp"]
fn the_program_sends_and_receives() {
    let (well, said) = run(&["--login", LOGIN, "--send", "/queue/program some text"]);
    assert!(well && said.contains("the broker has it"), "{said}");
    let (well, said) = run(&["--login", LOGIN, "--sub", "/queue/program"]);
    assert!(well && said.contains("message: /queue/program some text"), "{said}");
    // The broker has the acknowledgement, or it would deliver the message again.
    let (well, said) = run(&["--login", LOGIN, "--sub", "/queue/program", "--send", "/queue/program more"]);
    assert!(well && said.contains("message: /queue/program more") && !said.contains("some text"), "{said}");
}

#[test]
#[ignore = "needs a real server: tests/interop/run.sh stomp"]
fn a_login_that_is_refused_ends_the_program_with_the_brokers_words() {
    let (well, said) = run(&["--login", "bob:wrong passcode"]);
    assert!(!well && said.contains("the server refused the login: Bad CONNECT: Access refused"), "{said}");
    assert!(!said.contains("wrong passcode"), "{said}");
}
