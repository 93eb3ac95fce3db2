//! What is said of a message is true.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::HashSet;
use std::net::Shutdown;
use std::time::Duration;

use common::{LONG, Server, accept, accept_raw, listen, read_frame};
use tautline::{Client, ConnectionConfig, Event, Limit, Message, ReconnectConfig};

const MS: Duration = Duration::from_millis(1);

/// 8 KB that begin with `id`.
fn message(id: u64) -> Message {
    let mut payload = id.to_be_bytes().to_vec();
    payload.resize(8_000, 0);
    payload.into()
}

fn id(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}

/// A server whose first connection reads nothing until it is told to go, and then, after a half-close if it is told
/// so, everything; it reports what each connection received, when that has ended or has received `u64::MAX`.
fn reluctant(
    half_close: bool,
) -> (Server, crossbeam_channel::Sender<()>, crossbeam_channel::Receiver<Vec<u64>>) {
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let (seen_in, seen) = crossbeam_channel::unbounded();
    let server = Server::start(move |n, stream| {
        let mut stream = accept_raw(stream);
        if n == 0 {
            go.recv().unwrap();
            if half_close {
                stream.shutdown(Shutdown::Write).unwrap();
            }
        }
        let mut received = Vec::new();
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            if opcode == 2 {
                received.push(id(&payload));
                if received.last() == Some(&u64::MAX) {
                    break;
                }
            }
        }
        seen_in.send(received).unwrap();
    });
    (server, go_in, seen)
}

/// Sends until nothing moves any more, and returns how many messages were accepted.
fn fill(client: &Client) -> u64 {
    (0..u64::MAX).find(|n| client.send_timeout(message(*n), 20 * MS).is_err()).unwrap()
}

fn config(url: &str) -> ConnectionConfig {
    ConnectionConfig::new(url).reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
}

#[test]
fn what_was_called_never_written_was_not_received_before_the_loss() {
    for _ in 0..5 {
        let (server, go, seen) = reluctant(true);
        let client = Client::connect(config(&server.url())).unwrap();
        let accepted = fill(&client);
        go.send(()).unwrap();
        let doubtful = client.events().iter().find_map(|event| match event {
            Event::Disconnected { maybe_delivered, .. } => Some(maybe_delivered),
            _ => None,
        });
        let doubtful: HashSet<u64> = doubtful.unwrap().iter().map(|ticket| ticket.number() - 1).collect();
        client.send(message(u64::MAX)).unwrap();
        let (first, second) = (seen.recv_timeout(LONG).unwrap(), seen.recv_timeout(LONG).unwrap());
        let (first, second) =
            if second.last() == Some(&u64::MAX) { (first, second) } else { (second, first) };
        assert!(first.iter().all(|id| doubtful.contains(id)), "received, and called never written");
        assert!(second.iter().all(|id| !first.contains(id)), "received twice");
        for id in 0..accepted {
            assert!(first.contains(&id) || second.contains(&id) || doubtful.contains(&id), "{id} vanished");
        }
        client.terminate();
    }
}

#[test]
fn room_is_given_back_when_a_message_was_written_though_the_server_says_nothing() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::connect(config(&server.url()).outbox(Limit::new(1, 1 << 20))).unwrap();
    for n in 0..200 {
        client.send_timeout(message(n), LONG).unwrap();
    }
    client.terminate();
}

#[test]
fn answers_that_arrive_while_the_line_closes_are_delivered() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    for n in 0..100 {
        client.send(n.to_string()).unwrap();
    }
    assert!(client.close().is_empty());
    assert_eq!(client.messages().count(), 100);
}

#[test]
fn a_small_bound_does_not_slow_a_consumer_that_keeps_up() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        for n in 0..2_000 {
            socket.send(n.to_string().into()).unwrap();
        }
        listen(socket);
    });
    let client = Client::connect(config(&server.url()).events(Limit::new(2, 1 << 20))).unwrap();
    for n in 0..2_000 {
        // At the longest look of 64 ms each, this would take a minute.
        assert_eq!(
            client.recv_timeout(Duration::from_millis(500)).unwrap().as_text(),
            Some(n.to_string().as_str())
        );
    }
}

#[test]
fn what_terminate_returns_as_never_written_was_not_received() {
    for _ in 0..5 {
        let (server, go, seen) = reluctant(false);
        let client = Client::connect(config(&server.url())).unwrap();
        let accepted = fill(&client);
        go.send(()).unwrap();
        let left = client.terminate();
        let received = seen.recv_timeout(LONG).unwrap();
        let never: HashSet<u64> = left.never_written.iter().map(|message| id(message.as_bytes())).collect();
        assert!(received.iter().all(|id| !never.contains(id)), "received, and called never written");
        assert_eq!(never.len() as u64 + left.maybe_delivered.len(), accepted, "each has a fate");
        assert!(!never.is_empty());
    }
}
