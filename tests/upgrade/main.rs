//! Answers to the upgrade: good ones, those that break the rules, and refusals.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod answers;
#[path = "../common/mod.rs"]
mod common;
mod redirects;
mod refusals;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{LONG, MS, Server, accept, disconnected, echo, good_answer, quick, read_head, wait_for};
use tautline::{Client, ConnectionConfig, DisconnectReason, Error};

/// An attempt that failed.
struct Failure {
    error: Error,
    retry_in: Option<Duration>,
    took: Duration,
}

/// The first attempt at a server that does `serve` on its first connection, and echoes on the others: they are reached.
/// An attempt may take twice [`LONG`], so one that takes less has not waited for that.
fn failure(config: Config, serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Failure {
    let server =
        Server::start(move |n, mut stream| if n == 0 { serve(&mut stream) } else { echo(accept(stream)) });
    let start = Instant::now();
    let client = Client::start(config(quick(&server.url()).connect_timeout(2 * LONG))).unwrap();
    let (reason, retry_in) = wait_for(&client, disconnected);
    let took = start.elapsed();
    let DisconnectReason::ConnectFailed(error) = reason else { panic!("{reason:?}") };
    if retry_in == Some(MS) {
        client.wait_ready(LONG).unwrap();
        assert!(client.close().is_empty());
    }
    let _ = client.terminate();
    Failure { error, retry_in, took }
}

type Config = fn(ConnectionConfig) -> ConnectionConfig;

fn as_it_is(config: ConnectionConfig) -> ConnectionConfig {
    config
}

/// An attempt that fails at once, since the answer is no WebSocket server's: the text that says why.
fn bad_answer(config: Config, serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> String {
    let Failure { error, retry_in, .. } = failure(config, serve);
    assert!(matches!(error, Error::Upgrade { .. }), "{error:?}");
    assert!(retry_in.is_some(), "a proxy may be in the way for now: {error}");
    let text = error.to_string();
    assert!(text.starts_with("127.0.0.1:"), "it names the server: {text}");
    text
}

/// The answer to the upgrade that `change` makes of the good one, on a connection that stays open.
fn answer(change: fn(String) -> String) -> impl Fn(&mut TcpStream) + Send + Sync {
    move |stream| {
        let head = read_head(stream);
        stream.write_all(change(good_answer(&head, "")).as_bytes()).unwrap();
        outlast(stream);
    }
}

/// Keeps a connection open until the client ends it.
fn outlast(stream: &mut TcpStream) {
    while stream.read(&mut [0; 512]).is_ok_and(|n| n > 0) {}
}

/// Writes `bytes` again and again until the client ends the connection.
fn flood(stream: &mut TcpStream, bytes: &[u8]) {
    while stream.write_all(bytes).is_ok() {}
}
