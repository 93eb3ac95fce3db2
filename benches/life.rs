//! The life of a line: how long it takes to open, to close, to reconnect, and to notice a dead peer; and how exactly
//! heartbeats keep their schedule.
#![expect(clippy::disallowed_methods, reason = "a program that measures owns its clock and its pace")]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::server::{Server, serve_if_asked};
use common::table::{Table, seconds};
use common::{LONG, bare, median, percentile, plain_or_tls, time};
use tautline::{Client, Event, HeartbeatConfig, Jitter, ReconnectConfig};

const ROUNDS: usize = 40;

/// A dead peer should be noticed after one interval and one timeout.
const BEAT: Duration = Duration::from_millis(50);

/// The interval of the heartbeats whose times are compared with their schedule.
const TICK: Duration = Duration::from_millis(20);
const TICKS: u32 = 200;

fn main() {
    serve_if_asked();
    let mut server = Server::start();
    let mut table = Table::new("life");
    opening_and_closing(&mut table, &server);
    coming_back(&mut table, &mut server);
    noticing(&mut table, &server);
    ticking(&mut table, &server);
    table.print();
}

fn opening_and_closing(table: &mut Table, server: &Server) {
    for secure in [false, true] {
        let config = common::config(server, secure, "echo");
        let tls = secure.then(bare::connector);
        let mut times: [Vec<f64>; 4] = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            let mut client = None;
            times[0].push(time(|| client = Some(common::start(config.clone()))).as_secs_f64());
            times[1].push(time(|| drop(client.take().unwrap().close())).as_secs_f64());
            let mut other = None;
            times[2]
                .push(time(|| other = Some(bare::connect_with(server, tls.as_ref(), "echo"))).as_secs_f64());
            times[3].push(time(|| close(other.as_mut().unwrap())).as_secs_f64());
        }
        let [open, shut, bare_open, bare_shut] = times.map(median);
        let kind = plain_or_tls(secure);
        table.compare(&format!("to connect, {kind}"), (open, bare_open), seconds, None);
        table.compare(&format!("to close, {kind}"), (shut, bare_shut), seconds, None);
    }
}

/// Runs the close handshake until the server has ended the connection.
fn close(bare: &mut bare::Bare) {
    bare.close(None).unwrap();
    while bare.read().is_ok() {}
}

fn retrying(server: &Server, delay: Duration) -> Client {
    let reconnect =
        ReconnectConfig::default().initial_delay(delay).max_delay(delay).jitter(Jitter::None).multiplier(1.0);
    common::start(common::config(server, false, "echo").reconnect(reconnect))
}

fn coming_back(table: &mut Table, server: &mut Server) {
    let client = retrying(server, Duration::from_millis(1));
    let mut times = Vec::new();
    for round in 1..=ROUNDS {
        let start = Instant::now();
        server.cut();
        until_connected(&client, round as u64 + 1);
        times.push(start.elapsed());
    }
    let median = percentile(&mut times, 500).as_secs_f64();
    table.own("to reconnect after a cut, a try after 1 ms", median, seconds, None);
    let _ = client.terminate();

    let client = retrying(server, Duration::from_millis(10));
    let mut times = Vec::new();
    for round in 1..=ROUNDS {
        server.go_down();
        // Some attempts fail first.
        thread::sleep(Duration::from_millis(30));
        let start = Instant::now();
        server.come_up();
        until_connected(&client, round as u64 + 1);
        times.push(start.elapsed());
    }
    let median = percentile(&mut times, 500).as_secs_f64();
    table.own("to reconnect after the server returns, a try each 10 ms", median, seconds, None);
    let _ = client.terminate();
}

/// Waits until the line has become ready this many times.
fn until_connected(client: &Client, times: u64) {
    while client.stats().connects < times {
        client.events().recv_timeout(LONG).expect("a reconnect");
    }
}

fn noticing(table: &mut Table, server: &Server) {
    let heartbeat = HeartbeatConfig::default().interval(BEAT).timeout(BEAT);
    let mut times = Vec::new();
    for _ in 0..ROUNDS / 2 {
        let client = common::start(common::config(server, false, "mute").heartbeat(heartbeat.clone()));
        let start = Instant::now();
        while !matches!(client.events().recv_timeout(LONG), Ok(Event::Disconnected { .. })) {}
        times.push(start.elapsed());
        let _ = client.terminate();
    }
    for (share, rank) in [(500, "p50"), (990, "p99")] {
        let figure = percentile(&mut times, share);
        table.own(
            &format!("to notice a dead peer, 50 ms + 50 ms, {rank}"),
            figure.as_secs_f64(),
            seconds,
            None,
        );
    }
}

/// Measures how far each heartbeat is from its schedule, counted from the first and from the one before, as the server
/// sees it.
fn ticking(table: &mut Table, server: &Server) {
    let heartbeat = HeartbeatConfig::default().interval(TICK).timeout(LONG);
    let client = common::start(common::config(server, false, "beats").heartbeat(heartbeat));
    thread::sleep(TICK * TICKS);
    client.send("?").unwrap();
    let answer = client.recv().unwrap();
    let times = answer.as_text().unwrap().split(' ');
    let times: Vec<_> = times.map(|micros| Duration::from_micros(micros.parse().unwrap())).collect();
    let mut off: Vec<_> = times.iter().zip(0..).map(|(time, n)| time.abs_diff(TICK * n)).collect();
    let mut apart: Vec<_> = times.windows(2).map(|pair| pair[1].abs_diff(pair[0] + TICK)).collect();
    for (share, rank) in [(500, "p50"), (990, "p99")] {
        let schedule = percentile(&mut off, share).as_secs_f64();
        table.own(&format!("a heartbeat off its schedule, each 20 ms, {rank}"), schedule, seconds, None);
        let interval = percentile(&mut apart, share).as_secs_f64();
        table.own(&format!("an interval of heartbeats off 20 ms, {rank}"), interval, seconds, None);
    }
    let _ = client.terminate();
}
