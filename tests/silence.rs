//! A feed that is dead although the server answers pings.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::time::{Duration, Instant};

use common::{LONG, MS, Server, accept, config, disconnected, eventually, listen, wait_for};
use tautline::{Client, CloseReason, ConnectionConfig, DisconnectReason, Error, HeartbeatConfig};
use tungstenite::Message as Frame;

/// How long a server may send no data.
const IDLE: Duration = Duration::from_millis(60);

/// The heartbeats are answered, and none is judged before the test has failed.
fn with_beats(url: &str) -> ConnectionConfig {
    let heartbeat = HeartbeatConfig::default().interval(5 * MS).timeout(LONG);
    config(url).heartbeat(heartbeat).idle_timeout(IDLE)
}

fn is_idle(reason: &DisconnectReason) -> bool {
    matches!(reason, DisconnectReason::Lost(Error::IdleTimeout { after: IDLE, .. }))
}

#[test]
fn a_server_that_answers_pings_and_sends_no_data_is_left_and_the_next_one_is_heard() {
    let server = Server::start(|n, stream| {
        let mut socket = accept(stream);
        if n > 0 {
            socket.send(Frame::text("news")).unwrap();
        }
        listen(socket);
    });
    let start = Instant::now();
    let client = Client::connect(with_beats(&server.url())).unwrap();
    let (reason, retry_in) = wait_for(&client, disconnected);
    assert!(is_idle(&reason) && retry_in.is_some(), "{reason}");
    assert!(start.elapsed() >= IDLE, "{:?}", start.elapsed());
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("news"));
    eventually("an answered ping", || client.stats().round_trip.is_some());
    let _ = client.terminate();
}

#[test]
fn messages_that_do_not_count_as_data_keep_no_line_up() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while socket.send(Frame::text("tick")).is_ok() {
            std::thread::sleep(5 * MS);
        }
    });
    let counts = |message: &tautline::Message| message.as_text() != Some("tick");
    let client = Client::builder(with_beats(&server.url())).counts_as_data(counts).connect().unwrap();
    let mut ticks = 0;
    let reason = wait_for(&client, |event| {
        ticks += u64::from(matches!(event, tautline::Event::Message(_)));
        disconnected(event)
    });
    assert!(is_idle(&reason.0), "{}", reason.0);
    assert!(ticks > 0, "what does not count is delivered all the same");
    let _ = client.terminate();
}

#[test]
fn a_filter_that_panics_closes_its_client_and_is_named() {
    let server = Server::echo();
    let config = config(&server.url()).idle_timeout(LONG);
    let client = Client::builder(config).counts_as_data(|_| panic!("on purpose")).connect().unwrap();
    client.send("x").unwrap();
    let reason = client.wait_closed_timeout(LONG).unwrap();
    let CloseReason::Failed(Error::Panicked { callback: "counts_as_data", .. }) = reason else {
        panic!("{reason}");
    };
}

#[test]
fn a_filter_without_a_timeout_that_it_could_restart_is_refused() {
    let error = Client::builder("ws://127.0.0.1:9").counts_as_data(|_| true).start().unwrap_err();
    assert!(matches!(error, Error::InvalidConfig { setting: "idle_timeout", .. }), "{error:?}");
    assert!(error.to_string().contains("counts_as_data"), "{error}");
}
