//! Beats, their answers, and how a peer that is silent is noticed.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use common::hooks::{Hooks, hook};
use common::json::{hear, login, say};
use common::{
    LONG, MS, Server, accept, accept_raw, config, disconnected, echo, frame, listen, read_frame, wait_for,
};
use crossbeam_channel::unbounded;
use serde_json::json;
use tautline::{
    Beat, Client, ConnectionConfig, Context, DisconnectReason, Error, Event, HeartbeatConfig, JsonSession,
    Outgoing,
};

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
    let _ = client.terminate();
    assert_eq!(frames.recv_timeout(LONG).unwrap(), None, "the stream ended and nothing else was on it");
}

#[test]
fn heartbeats_start_only_when_the_line_is_ready() {
    let (first_in, first) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        let login = hear(&mut socket).unwrap();
        // Long enough for several beats: none may come before the login is accepted.
        socket.get_ref().set_read_timeout(Some(50 * MS)).unwrap();
        let early = hear(&mut socket);
        socket.get_ref().set_read_timeout(None).unwrap();
        say(&mut socket, &json!({"type": "welcome"}));
        first_in.send((login, early, hear(&mut socket).unwrap())).unwrap();
        listen(socket);
    });
    let heartbeat = HeartbeatConfig::json().interval(5 * MS);
    let client =
        Client::builder(config(&server.url()).heartbeat(heartbeat)).protocol(login()).connect().unwrap();
    let (login, early, beat) = first.recv_timeout(LONG).unwrap();
    assert_eq!((login["type"].as_str(), early), (Some("login"), None));
    assert_eq!(beat["type"], "ping");
    let _ = client.terminate();
}

#[test]
fn heartbeats_of_a_protocol_need_a_protocol() {
    let config = ConnectionConfig::new("ws://127.0.0.1:9");
    let error = Client::start(config.heartbeat(HeartbeatConfig::default().beat(Beat::Protocol))).unwrap_err();
    assert!(matches!(error, Error::InvalidConfig { setting: "heartbeat.beat", .. }), "{error:?}");
    assert!(error.to_string().contains("the client has no protocol to send the heartbeats"), "{error}");
}

#[test]
fn a_protocol_that_sends_no_heartbeats_says_so_when_one_is_due() {
    let server = Server::echo();
    let heartbeat = HeartbeatConfig::default().beat(Beat::Protocol).interval(MS);
    let client = Client::builder(config(&server.url()).heartbeat(heartbeat))
        .protocol(JsonSession::new())
        .connect()
        .unwrap();
    let (reason, _) = common::wait_for(&client, common::disconnected);
    assert!(matches!(reason, DisconnectReason::Lost(Error::Session { .. })), "{reason}");
    assert!(reason.to_string().contains("on_beat"), "{reason}");
    let _ = client.terminate();
}

#[test]
fn a_silent_peer_is_noticed_within_interval_and_timeout() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            // Reads, and never answers.
            let mut stream = accept_raw(stream);
            while read_frame(&mut stream).is_some() {}
        } else {
            echo(accept(stream));
        }
    });
    let heartbeat = HeartbeatConfig::default().interval(40 * MS).timeout(20 * MS);
    let start = Instant::now();
    let client = Client::connect(config(&server.url()).heartbeat(heartbeat)).unwrap();
    let (reason, _) = wait_for(&client, disconnected);
    let DisconnectReason::Lost(Error::HeartbeatTimeout { silence, .. }) = reason else { panic!("{reason}") };
    assert!(silence >= 20 * MS && start.elapsed() >= 60 * MS, "{silence:?} after {:?}", start.elapsed());
    client.wait_ready(LONG).unwrap();
}

/// A server that answers each ping by saying something, but never with a pong; the client of a `strict` configuration,
/// or of one that is not.
fn talkative(strict: bool) -> (Server, Client) {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, _)) = read_frame(&mut stream) {
            if opcode == 9 && stream.write_all(b"\x81\x05hello").is_err() {
                return;
            }
        }
    });
    let heartbeat = HeartbeatConfig::default().interval(10 * MS).timeout(1000 * MS).strict(strict);
    let client = Client::connect(config(&server.url()).heartbeat(heartbeat)).unwrap();
    (server, client)
}

#[test]
fn a_server_that_talks_is_alive_though_it_answers_no_ping_unless_only_the_answer_counts() {
    let (_server, client) = talkative(false);
    // For more than twice as long as an answer may take.
    for _ in 0..220 {
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    }
    assert_eq!((client.stats().disconnects, client.stats().round_trip), (0, None));
    let _ = client.terminate();

    let (_server, client) = talkative(true);
    let (reason, _) = wait_for(&client, disconnected);
    assert!(matches!(reason, DisconnectReason::Lost(Error::HeartbeatTimeout { .. })), "{reason}");
    let _ = client.terminate();
}

#[test]
fn a_beat_that_was_never_answered_does_not_judge_the_next_connection() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            // Gone with the beat unanswered.
            let mut stream = accept_raw(stream);
            while read_frame(&mut stream).is_some_and(|(opcode, _)| opcode != 9) {}
        } else {
            echo(accept(stream));
        }
    });
    let heartbeat = HeartbeatConfig::default().interval(Duration::from_secs(3600)).timeout(1000 * MS);
    let client = Client::connect(config(&server.url()).heartbeat(heartbeat.strict(true))).unwrap();
    client.reconnect_now();
    wait_for(&client, disconnected);
    wait_for(&client, |event| matches!(event, Event::Connected { .. }).then_some(()));
    // The old beat's time runs out meanwhile.
    let judged = client.events().recv_timeout(1200 * MS);
    assert!(judged.is_err(), "{judged:?}");
    client.reconnect_now();
    common::eventually("an answer", || client.stats().round_trip.is_some());
    assert_eq!((client.stats().connects, client.stats().disconnects), (2, 1));
    let _ = client.terminate();
}

#[test]
fn reconnect_now_on_an_open_line_asks_the_peer_at_once() {
    let (frames_in, frames) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, _)) = read_frame(&mut stream) {
            frames_in.send(opcode).unwrap();
        }
    });
    let heartbeat = HeartbeatConfig::default().interval(Duration::from_secs(3600)).timeout(20 * MS);
    let client = Client::connect(config(&server.url()).heartbeat(heartbeat)).unwrap();
    client.reconnect_now();
    assert_eq!(frames.recv_timeout(LONG).unwrap(), 9, "a ping");
    let (reason, _) = wait_for(&client, disconnected);
    assert!(matches!(reason, DisconnectReason::Lost(Error::HeartbeatTimeout { .. })), "{reason}");
    let _ = client.terminate();
}

#[test]
fn a_peer_that_takes_no_bytes_is_noticed() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            // Upgrades, and never reads again.
            let stream = accept_raw(stream);
            std::thread::park();
            drop(stream);
        } else {
            echo(accept(stream));
        }
    });
    let config = config(&server.url()).heartbeat(HeartbeatConfig::off()).write_timeout(50 * MS);
    let client = Client::connect(config).unwrap();
    client.send(vec![0; 32 << 20]).unwrap();
    let (reason, _) = wait_for(&client, disconnected);
    assert!(matches!(reason, DisconnectReason::Lost(Error::WriteStalled { .. })), "{reason}");
}

#[test]
fn an_answer_that_came_while_a_hook_took_its_time_is_heard_before_the_peer_is_judged() {
    let (asked_in, asked) = unbounded();
    let (busy, is_busy) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            if opcode == 9 {
                asked_in.send(()).unwrap();
                // The first answer comes when nobody listens.
                let _ = is_busy.recv_timeout(LONG);
                stream.write_all(&frame(0x8A, &payload)).unwrap();
            }
        }
    });
    let timeout = 1000 * MS;
    let send = hook(move |cx: &mut Context<'_>, outgoing: Outgoing| {
        cx.send(outgoing.message);
        // A word in stock for each ping that is still to come.
        (0..10).for_each(|_| busy.send(()).unwrap());
        thread::sleep(timeout * 2);
    });
    let heartbeat = HeartbeatConfig::default().interval(LONG).timeout(timeout);
    let config = config(&server.url()).heartbeat(heartbeat);
    let client = Client::builder(config).protocol(Hooks { send, ..Hooks::default() }).connect().unwrap();
    client.reconnect_now();
    asked.recv_timeout(LONG).unwrap();
    client.send("takes longer than an answer may").unwrap();
    client.confirm(.., LONG).unwrap();
    assert_eq!(client.stats().disconnects, 0);
    let _ = client.terminate();
}
