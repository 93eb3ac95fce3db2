//! The main job: connect, talk, close.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{LONG, Server, accept, accept_raw, echo, good_answer, listen, loopback, read_frame, read_head};
use tautline::{
    Beat, Client, CloseReason, ConnectionConfig, ConnectionState, Error, Event, HeartbeatConfig, Inbound,
    Message, SendErrorKind,
};

const MS: Duration = Duration::from_millis(1);

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
    client.terminate();
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
        Event::Connected { subprotocol, .. } => Some(subprotocol),
        _ => None,
    });
    assert_eq!(chosen.unwrap().as_deref(), Some("v2"));
    client.terminate();
}

#[test]
fn json_heartbeats_are_sent_answered_and_not_delivered() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            let Ok(text) = message.to_text() else { continue };
            let answer =
                if text.starts_with(r#"{"type":"ping","timestamp":"#) { r#"{"type":"pong"}"# } else { text };
            if socket.send(answer.to_owned().into()).is_err() {
                return;
            }
        }
    });
    let config = ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::json().interval(5 * MS));
    let client = Client::connect(config).unwrap();
    common::eventually("three heartbeats", || client.stats().heartbeats >= 3);
    common::eventually("a round trip", || client.stats().round_trip.is_some());
    client.send("done").unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("done"));
}

#[test]
fn pings_are_sent_and_measured_and_the_servers_are_answered() {
    let (pong_in, pong) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        socket.send(tungstenite::Message::Ping("from the server".into())).unwrap();
        while let Ok(message) = socket.read() {
            if let tungstenite::Message::Pong(payload) = message {
                pong_in.send(payload).unwrap();
            }
        }
    });
    let config = ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::default().interval(5 * MS));
    let client = Client::connect(config).unwrap();
    assert_eq!(pong.recv_timeout(LONG).unwrap(), "from the server");
    common::eventually("a round trip", || client.stats().round_trip.is_some());
}

#[test]
fn with_heartbeats_off_nothing_is_sent() {
    let (frames_in, frames) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        frames_in.send(read_frame(&mut stream)).unwrap();
        frames_in.send(read_frame(&mut stream)).unwrap();
    });
    let heartbeat = HeartbeatConfig::default().beat(Beat::Off).interval(MS);
    let client = Client::connect(ConnectionConfig::new(server.url()).heartbeat(heartbeat)).unwrap();
    client.send("only this").unwrap();
    assert_eq!(frames.recv_timeout(LONG).unwrap(), Some((1, b"only this".to_vec())));
    client.terminate();
    assert_eq!(frames.recv_timeout(LONG).unwrap(), None, "the stream ended and nothing else was on it");
}

#[test]
fn a_program_that_only_sends_may_discard_what_arrives() {
    let server = Server::echo();
    let config = ConnectionConfig::new(server.url()).inbound(Inbound::Discard);
    let client = Client::connect(config).unwrap();
    for _ in 0..5_000 {
        client.send("x").unwrap();
    }
    assert!(client.close().is_empty());
    assert!(client.events().iter().all(|event| !matches!(event, Event::Message(_))));
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
fn every_waiting_sender_learns_of_the_close_and_has_its_message_back() {
    // A server that does not read: the outbox fills up.
    let server = Server::start(|_, stream| {
        let stream = accept_raw(stream);
        let _ = stream.peek(&mut [0; 1]);
        thread::park();
    });
    let config = ConnectionConfig::new(server.url())
        .outbox(tautline::QueueLimit::new(4, 8 << 20))
        .close_timeout(50 * MS);
    let client = Client::connect(config).unwrap();
    let big = Message::from(vec![0; 1 << 20]);
    let mut accepted = 0;
    let full = loop {
        match client.try_send(big.clone()) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full.kind(), SendErrorKind::Full { .. }), "{full:?}");
    assert_eq!(full.into_message(), big);
    // The system may still take one or the other; in the end it takes no more.
    while client.send_timeout(big.clone(), 20 * MS).is_ok() {
        accepted += 1;
    }
    let timeout = client.send_timeout(big.clone(), MS).unwrap_err();
    assert!(matches!(timeout.kind(), SendErrorKind::Timeout { after: MS, .. }));
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let (client, big) = (client.clone(), big.clone());
            thread::spawn(move || client.send(big))
        })
        .collect();
    let left = client.close();
    for sender in waiting {
        match sender.join().unwrap() {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert_eq!((error.kind(), error.into_message().len()), (SendErrorKind::Closed, 1 << 20));
            }
        }
    }
    assert_eq!(left.never_written.len() as u64 + left.maybe_delivered.len(), accepted, "{left:?}");
}

#[test]
fn room_that_is_made_during_a_last_look_is_used() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        // Little by little, so that room is made while the client looks whether anything has happened.
        let mut some = vec![0; 64 << 10];
        while std::io::Read::read(&mut stream, &mut some).is_ok_and(|n| n > 0) {
            thread::yield_now();
        }
    });
    let config = ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::off()).spin(MS);
    let client = Client::connect(config).unwrap();
    for _ in 0..50 {
        client.send(vec![7; 8 << 20]).unwrap();
        client.flush(LONG).unwrap();
    }
    client.terminate();
}

#[test]
fn a_message_larger_than_the_outbox_goes_alone() {
    let server = Server::echo();
    let config = ConnectionConfig::new(server.url()).outbox(tautline::QueueLimit::new(10, 1000));
    let client = Client::connect(config).unwrap();
    for _ in 0..3 {
        client.send(vec![7; 100_000]).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().len(), 100_000);
    }
}

#[test]
fn a_pause_of_the_reader_stops_the_server_and_not_the_line() {
    let arrived = Arc::new(Mutex::new(0_usize));
    let count = Arc::clone(&arrived);
    let server = Server::start(move |_, stream| {
        let mut reader = accept_raw(stream);
        let mut writer: TcpStream = reader.try_clone().unwrap();
        let flooded = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&flooded);
        let mut answers = reader.try_clone().unwrap();
        let flood = thread::spawn(move || {
            for n in 0..2_000_u32 {
                let mut frame = vec![0x82, 126, 0x10, 0x00];
                frame.extend(n.to_be_bytes());
                frame.resize(4 + 4096, 0);
                if writer.write_all(&frame).is_err() {
                    return;
                }
            }
            done.store(true, SeqCst);
        });
        // Pings are counted, and answered once nothing else is sent: silence would be held against us.
        while read_frame(&mut reader).is_some() {
            *count.lock().unwrap() += 1;
            if flooded.load(SeqCst) {
                let _ = answers.write_all(&[0x8A, 0]);
            }
        }
        flood.join().unwrap();
    });
    let config = ConnectionConfig::new(server.url())
        .events(tautline::QueueLimit::new(10, 1 << 20))
        .heartbeat(HeartbeatConfig::default().interval(50 * MS).timeout(1000 * MS));
    let client = Client::connect(config).unwrap();
    let messages = || client.stats().messages_received;
    common::eventually("the bound is reached", || messages() >= 10);
    // More than a timeout passes while the application takes nothing; sends and beats go on, and the peer is not judged.
    common::eventually("beats go on", || *arrived.lock().unwrap() >= 30);
    client.send("sends go on").unwrap();
    let before = *arrived.lock().unwrap();
    common::eventually("the message arrives", || *arrived.lock().unwrap() > before);
    assert!(messages() <= 10, "no more is read than the bound allows");
    for n in 0..2_000_u32 {
        assert_eq!(client.recv_timeout(LONG).unwrap().as_bytes()[..4], n.to_be_bytes());
    }
    assert_eq!(client.stats().disconnects, 0);
    client.terminate();
}

#[test]
fn over_tls_with_a_root_of_our_own() {
    let acceptor = common::tls_acceptor();
    let server = Server::start(move |_, stream| {
        let Ok(stream) = acceptor.accept(stream) else { return };
        let mut socket = tungstenite::accept(stream).unwrap();
        while let Ok(message) = socket.read() {
            if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                return;
            }
        }
    });
    let url = server.url().replace("ws://127.0.0.1", "wss://localhost");

    let error = Client::builder(&url).resolver(loopback).connect().unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    let at = url.trim_start_matches("wss://");
    assert!(error.to_string().starts_with(&format!("TLS with {at}: ")), "{error}");

    let client = Client::builder(common::over_tls(&server)).resolver(loopback).connect().unwrap();
    for size in [0, 5, 16 << 10, (16 << 10) + 1, 3 << 20] {
        let message = Message::from(vec![1; size]);
        client.send(message.clone()).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap(), message);
    }
    assert!(client.close().is_empty());
}

#[test]
fn clients_can_be_shared_and_sent() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Client>();
    shared::<ConnectionConfig>();
    shared::<Event>();
}

#[test]
fn a_close_confirms_what_the_server_received() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let client = Client::connect(server.url()).unwrap();
    client.send("swallowed").unwrap();
    assert!(
        client.close().is_empty(),
        "the pong before the close frame confirms what the server has received"
    );
}
