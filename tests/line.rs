//! The main job: connect, talk, close.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::HashMap;
use std::io::Write;
use std::thread;

use common::{LONG, Server, accept, echo, good_answer, read_frame, read_head};
use tautline::{Client, CloseReason, ConnectionConfig, ConnectionState, Event, HeartbeatConfig, Message};

#[test]
fn a_client_connects_talks_and_closes() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    assert_eq!(client.state(), ConnectionState::Connected);
    let ticket = client.send("hello").unwrap();
    assert_eq!(ticket.number(), 1);
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    let left = client.close();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(client.state(), ConnectionState::Closed);
    assert!(matches!(client.wait_closed(), CloseReason::ByCaller));
    assert!(client.wait_closed().into_result().is_ok());
}

#[test]
fn messages_of_all_kinds_and_sizes_come_back_as_they_were() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    let sizes = [0, 1, 125, 126, 1024, 1025, 65_535, 65_536, 1 << 20];
    for size in sizes {
        let text = Message::from("x".repeat(size));
        let binary = Message::from((0..size).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>());
        for message in [text, binary] {
            client.send(message.clone()).unwrap();
            assert_eq!(client.recv_timeout(LONG).unwrap(), message, "{size} bytes");
        }
    }
}

#[test]
fn json_goes_both_ways() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    client.send_json(&serde_json::json!({"celsius": 21.5})).unwrap();
    let value: serde_json::Value = client.recv_timeout(LONG).unwrap().json().unwrap();
    assert_eq!(value["celsius"], 21.5);
}

#[test]
fn what_is_sent_before_the_line_is_ready_goes_out_in_order() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Client::start(format!("ws://{}", listener.local_addr().unwrap())).unwrap();
    for n in 1..=100 {
        assert_eq!(client.send(n.to_string()).unwrap().number(), n);
    }
    let _server = Server::start_on(listener, |_, stream| echo(accept(stream)));
    client.wait_ready(LONG).unwrap();
    for n in 1..=100 {
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(n.to_string().as_str()));
    }
}

#[test]
fn many_threads_send_and_nothing_is_lost_or_reordered() {
    const THREADS: usize = 4;
    const EACH: usize = 5_000;
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    let senders: Vec<_> = (0..THREADS)
        .map(|thread| {
            let client = client.clone();
            thread::spawn(move || {
                let send = |n| client.send(format!("{thread} {n}")).unwrap().number();
                let tickets: Vec<_> = (0..EACH).map(send).collect();
                assert!(tickets.is_sorted());
            })
        })
        .collect();
    let mut next: HashMap<String, usize> = HashMap::new();
    for _ in 0..THREADS * EACH {
        let message = client.recv_timeout(LONG).unwrap();
        let (thread, n) = message.as_text().unwrap().split_once(' ').unwrap();
        let expected = next.entry(thread.to_owned()).or_default();
        assert_eq!(n.parse(), Ok(*expected));
        *expected += 1;
    }
    for sender in senders {
        sender.join().unwrap();
    }
    assert!(client.close().is_empty());
    assert_eq!(client.stats().messages_written, (THREADS * EACH) as u64);
}

#[test]
fn a_wake_is_never_lost_however_the_gaps_fall() {
    let server = Server::echo();
    // Without heartbeats a lost wake-up would be for ever.
    let config = ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::off());
    let client = Client::connect(config).unwrap();
    let senders: Vec<_> = (0..3)
        .map(|seed| {
            let client = client.clone();
            thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..2_000 {
                    client.send("x").unwrap();
                    // A gap that now and then ends just when the worker goes to sleep.
                    for _ in 0..random.u32(0..3_000) {
                        std::hint::spin_loop();
                    }
                }
            })
        })
        .collect();
    for n in 0..6_000 {
        assert!(client.recv_timeout(LONG).is_ok(), "message {n} is still waiting for a wake-up");
    }
    for sender in senders {
        sender.join().unwrap();
    }
}

#[test]
fn frames_glued_to_the_answer_are_not_lost() {
    let server = Server::start(|_, mut stream| {
        let head = read_head(&mut stream);
        let mut answer = good_answer(&head, "").into_bytes();
        answer.extend(b"\x81\x05first\x81\x06second");
        stream.write_all(&answer).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::connect(server.url()).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("first"));
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("second"));
    let _ = client.terminate();
}

#[test]
fn the_request_carries_headers_subprotocols_and_credentials() {
    let (seen_in, seen) = crossbeam_channel::bounded(1);
    let server = Server::start(move |_, mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(good_answer(&head, "Sec-WebSocket-Protocol: v2\r\n").as_bytes()).unwrap();
        seen_in.send(head).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let url = server.url().replace("ws://", "ws://user:pa%20ss@") + "?token=1";
    let config = ConnectionConfig::new(url).header("X-Device", "7").subprotocol("v1").subprotocol("v2");
    let client = Client::connect(config).unwrap();
    let head = seen.recv_timeout(LONG).unwrap();
    assert!(head.starts_with("GET /?token=1 HTTP/1.1\r\n"), "{head}");
    for line in ["X-Device: 7", "Sec-WebSocket-Protocol: v1, v2", "Authorization: Basic dXNlcjpwYSBzcw=="] {
        assert!(head.contains(line), "{head}");
    }
    let chosen = client.events().iter().find_map(|event| match event {
        Event::Connected { handshake, .. } => Some(handshake.subprotocol.clone()),
        _ => None,
    });
    assert_eq!(chosen.unwrap().as_deref(), Some("v2"));
    let _ = client.terminate();
}

#[test]
fn a_callback_is_told_of_events_after_they_are_there() {
    let server = Server::echo();
    let (ready_in, ready) = crossbeam_channel::unbounded();
    let client =
        Client::builder(server.url()).on_event_ready(move || ready_in.send(()).unwrap()).connect().unwrap();
    client.send("hello").unwrap();
    let mut messages = Vec::new();
    while messages.is_empty() {
        ready.recv_timeout(LONG).unwrap();
        messages.extend(client.try_messages());
    }
    assert_eq!(messages[0].as_text(), Some("hello"));
}

#[test]
fn clients_can_be_shared_and_sent() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Client>();
    shared::<ConnectionConfig>();
    shared::<Event>();
}
