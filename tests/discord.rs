//! The session of the example `discord`, against a gateway of this process.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "../examples/discord.rs"]
#[allow(dead_code, reason = "the example's program is not run here")]
mod example;

use std::time::Duration;

use common::{LONG, disconnected, quick, wait_for};
use crossbeam_channel::{Receiver, unbounded};
use serde_json::{Value, json};
use tautline::testing::{LoopbackConnection, LoopbackServer};
use tautline::{Client, CloseReason, ConnectionConfig, Error, Event, HeartbeatConfig};

/// One connection, as the gateway sees it.
struct Line(LoopbackConnection);

impl Line {
    fn say(&mut self, payload: &Value) {
        self.0.send(payload);
    }

    fn hello(&mut self, interval: u64) {
        self.say(&json!({"op": 10, "d": {"heartbeat_interval": interval}, "s": null, "t": null}));
    }

    fn event(&mut self, number: u64, kind: &str, data: &Value) {
        self.say(&json!({"op": 0, "t": kind, "s": number, "d": data}));
    }

    fn acknowledge(&mut self) {
        self.say(&json!({"op": 11, "d": null, "s": null, "t": null}));
    }

    /// The next payload; or the code of the client's close frame.
    fn hear(&mut self) -> Result<Value, u16> {
        match self.0.recv() {
            Some(message) => Ok(message.json().unwrap()),
            None => Err(self.0.goodbye().map_or(1006, |frame| frame.code)),
        }
    }

    /// The next payload that is no beat; beats are acknowledged.
    fn hear_past_beats(&mut self) -> Result<Value, u16> {
        loop {
            let payload = self.hear()?;
            if payload["op"] != 1 {
                return Ok(payload);
            }
            self.acknowledge();
        }
    }

    fn serve_beats(&mut self) -> u16 {
        loop {
            if let Err(code) = self.hear_past_beats() {
                return code;
            }
        }
    }
}

/// A gateway that does this on each connection.
fn server(serve: impl Fn(Line) + Send + Sync + 'static) -> LoopbackServer {
    LoopbackServer::start(move |connection| serve(Line(connection))).unwrap()
}

/// What the gateway does to end a connection.
type End = fn(&mut Line);

fn ready(name: &str, url: &str) -> Value {
    json!({"v": 10, "session_id": name, "resume_gateway_url": url})
}

fn client(url: &str) -> Client {
    start(quick(url))
}

fn start(config: ConnectionConfig) -> Client {
    let session = example::session("secret".into());
    Client::builder(config.heartbeat(HeartbeatConfig::off())).protocol(session).start().unwrap()
}

fn resumed(client: &Client) -> bool {
    wait_for(client, |event| match event {
        Event::Connected { resumed, .. } => Some(resumed),
        _ => None,
    })
}

fn identify(payload: &Value) -> bool {
    payload["op"] == 2 && payload["d"]["token"] == "secret"
}

fn next<T>(heard: &Receiver<T>) -> T {
    heard.recv_timeout(LONG).expect("the gateway hears something")
}

#[test]
fn beats_carry_the_last_number_and_a_zombie_is_left_for_the_other_url() {
    let (resumes, resume) = unbounded();
    let second = server(move |mut line| {
        line.hello(3_600_000);
        resumes.send((line.0.target().to_owned(), line.hear().unwrap())).unwrap();
        line.event(8, "MESSAGE_CREATE", &json!("missed"));
        line.event(9, "RESUMED", &json!({}));
        line.serve_beats();
    });
    let (beats, beat) = unbounded();
    let (ends, end) = unbounded();
    let there = second.url();
    let first = server(move |mut line| {
        assert_eq!(line.0.target(), "/?v=10&encoding=json");
        line.hello(1000);
        let mut numbers = Vec::new();
        // The first may come before the login.
        while numbers.len() < 4 {
            let payload = line.hear().unwrap();
            if identify(&payload) {
                line.event(7, "READY", &ready("one", &there));
            } else {
                assert_eq!(payload["op"], 1, "{payload}");
                numbers.push(payload["d"].clone());
                line.acknowledge();
            }
        }
        // At once, not when it is due; it is not acknowledged, and neither is the next.
        line.say(&json!({"op": 1, "d": null}));
        beats.send(numbers).unwrap();
        let mut unanswered = 0;
        let code = loop {
            match line.hear() {
                Ok(payload) => unanswered += u32::from(payload["op"] == 1),
                Err(code) => break code,
            }
        };
        ends.send((unanswered, code)).unwrap();
    });
    let client = client(&first.url());
    assert!(!resumed(&client));
    let numbers = next(&beat);
    assert_eq!(numbers.last(), Some(&json!(7)), "{numbers:?}");
    let (unanswered, code) = next(&end);
    assert_eq!(code, 4000);
    assert_eq!(unanswered, 2, "the one that was asked for, and one that was due");
    let (reason, _) = wait_for(&client, disconnected);
    assert!(reason.to_string().contains("not acknowledged"), "{reason}");
    let (query, payload) = next(&resume);
    assert_eq!(query, "/?v=10&encoding=json");
    assert_eq!(payload, json!({"op": 6, "d": {"token": "secret", "session_id": "one", "seq": 7}}));
    let missed = wait_for(&client, Event::into_message).json::<Value>().unwrap();
    assert_eq!(missed["d"], "missed");
    assert!(resumed(&client));
    assert_eq!(client.stats().connects, 2);
}

#[test]
fn the_server_says_whether_the_session_goes_on() {
    // What ends the connection, and what the next one begins with: 6 resumes, 2 identifies anew.
    let ends: [(End, u64); 6] = [
        (|line| line.say(&json!({"op": 7, "d": null})), 6),
        (|line| line.say(&json!({"op": 9, "d": true})), 6),
        (|line| line.say(&json!({"op": 9, "d": false})), 2),
        (|line| line.0.close(4007, ""), 2),
        (|line| line.0.close(4009, ""), 2),
        (|line| line.0.close(4000, ""), 6),
    ];
    let (logins, login) = unbounded();
    let url = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let here = std::sync::Arc::clone(&url);
    let server = server(move |mut line| {
        line.hello(3_600_000);
        logins.send(line.hear().unwrap()["op"].as_u64().unwrap()).unwrap();
        // A session that is resumed is there for the next, too.
        line.event(1, "READY", &ready("one", here.wait()));
        if let Some((end, _)) = ends.get(line.0.number()) {
            end(&mut line);
        }
        line.serve_beats();
    });
    url.set(server.url()).unwrap();
    let client = client(&server.url());
    assert_eq!(next(&login), 2);
    for (n, (_, expected)) in ends.iter().enumerate() {
        assert_eq!(next(&login), *expected, "after the end {n}");
    }
    let _ = client.terminate();
}

#[test]
fn what_cannot_be_mended_ends_the_client() {
    for code in [4004, 4010, 4011, 4012, 4013, 4014] {
        let server = server(move |mut line| {
            line.hello(3_600_000);
            assert!(identify(&line.hear().unwrap()));
            line.0.close(code, "");
        });
        let client = client(&server.url());
        let reason = client.wait_closed_timeout(LONG).unwrap();
        assert!(matches!(reason, CloseReason::NotRetried(_)), "{reason:?}");
        let error = reason.into_result().unwrap_err();
        assert!(matches!(&error, Error::ClosedByServer(frame) if frame.code == code), "{error}");
        assert_eq!(server.connections(), 1);
        server.join();
    }
}

#[test]
fn the_applications_messages_keep_the_servers_pace_and_beats_do_not_wait_for_them() {
    let (heard, hearing) = unbounded();
    let server = server(move |mut line| {
        line.hello(400);
        while let Ok(payload) = line.hear() {
            match payload["op"].as_u64() {
                Some(1) => line.acknowledge(),
                Some(2) => line.event(1, "READY", &ready("one", "ws://127.0.0.1:9")),
                _ => {}
            }
            heard.send(payload["op"].as_u64().unwrap()).unwrap();
        }
    });
    let client = client(&server.url());
    client.wait_ready(LONG).unwrap();
    client.send_all((0..10).map(|n| json!({"op": 3, "d": n}))).unwrap();
    let mut order = Vec::new();
    while order.iter().filter(|op| **op == 3).count() < 3 {
        order.push(next(&hearing));
    }
    let first = order.iter().position(|op| *op == 3).unwrap();
    let beats = order[first..].iter().filter(|op| **op == 1).count();
    assert!(beats >= 2, "{order:?}");
    let _ = client.terminate();
}

#[test]
fn a_close_by_the_caller_ends_the_session() {
    let (codes, code) = unbounded();
    let server = server(move |mut line| {
        line.hello(3_600_000);
        assert!(identify(&line.hear().unwrap()));
        line.event(1, "READY", &ready("one", "ws://127.0.0.1:9"));
        codes.send(line.serve_beats()).unwrap();
    });
    let client = start(quick(&server.url()).close_timeout(Duration::from_secs(10)));
    client.wait_ready(LONG).unwrap();
    assert!(client.close().is_empty());
    assert_eq!(next(&code), 1000);
}
