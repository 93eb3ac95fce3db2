//! Idle means idle: no wake-up between two heartbeats, in any state.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use common::{LONG, Server, accept, listen};
use tautline::{Client, ConnectionConfig, ConnectionState, ReconnectConfig};

/// How often the library's threads of this process were switched off and on again, or `None` while one still runs.
fn switches() -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
        if !status.starts_with("Name:\ttautline-") {
            continue;
        }
        if !status.contains("State:\tS") {
            return None;
        }
        let counts = status.lines().filter(|line| line.contains("_ctxt_switches:"));
        sum += counts.filter_map(|line| line.split('\t').nth(1)?.parse::<u64>().ok()).sum::<u64>();
    }
    Some(sum)
}

/// A span in which nothing may happen is the one thing that has to be sat out.
fn assert_idle(phase: &str) {
    // The threads come to rest first: twice the same count, all asleep.
    let mut before = None;
    common::eventually("rest", || {
        std::thread::sleep(Duration::from_millis(30));
        let now = switches();
        let rests = now.is_some() && now == before;
        before = now;
        rests
    });
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(switches(), before, "wake-ups while {phase}");
}

#[test]
fn no_thread_wakes_up_for_nothing_in_any_state() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let client = Client::connect(server.url()).unwrap();
    assert_idle("connected");
    client.send("x").unwrap();
    assert_idle("connected, after traffic");

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dialling = Client::start(format!("ws://{}", silent.local_addr().unwrap())).unwrap();
    common::eventually("an attempt", || dialling.state() == ConnectionState::Connecting);
    dialling.send("waits").unwrap();
    assert_idle("dialling");

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let reconnect = ReconnectConfig::default().initial_delay(LONG);
    let waiting =
        Client::start(ConnectionConfig::new(format!("ws://{nobody}")).reconnect(reconnect)).unwrap();
    common::eventually("a failure", || {
        waiting.stats().attempts == 1 && waiting.state() == ConnectionState::Disconnected
    });
    waiting.send("waits").unwrap();
    assert_idle("backing off");

    for client in [&client, &dialling, &waiting] {
        client.close();
    }
    assert_eq!(switches(), Some(0), "no thread is left once all are closed");
}
