//! A line that the application takes down and brings up again, and how a line is in one look.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::time::Duration;

use common::{LONG, MS, Nobody, Server, accept, config, disconnected, echo, eventually, wait_for};
use crossbeam_channel::{Receiver, unbounded};
use serde_json::json;
use tautline::ConnectionState::{Closed, Connected, Connecting, Disconnected};
use tautline::{Client, ConnectionConfig, DisconnectReason, Error, JsonSession, ReconnectConfig};
use tungstenite::Message as Frame;

/// Echoes, and says which close code came last on each connection.
fn server() -> (Server, Receiver<u16>) {
    let (codes_in, codes) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            match message {
                Frame::Close(frame) => _ = codes_in.send(frame.map_or(0, |frame| frame.code.into())),
                message if message.is_text() => _ = socket.send(message),
                _ => {}
            }
        }
    });
    (server, codes)
}

fn call(reason: &DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::ByCaller { call, .. } => call,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_suspended_line_is_closed_in_good_order_keeps_its_outbox_and_comes_back() {
    let (server, codes) = server();
    let client = Client::connect(config(&server.url())).unwrap();
    client.send("before").unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("before"));
    client.suspend();
    let (reason, retry_in) = wait_for(&client, disconnected);
    assert_eq!((call(&reason), retry_in, codes.recv_timeout(LONG)), ("suspend", None, Ok(1001)));
    client.confirm(.., LONG).unwrap();
    client.send("meanwhile").unwrap();
    let error = client.wait_ready(20 * MS).unwrap_err();
    assert!(error.to_string().contains("`suspend`"), "{error:?}");
    let status = client.status();
    assert_eq!((status.state, status.suspended, status.next_attempt), (Disconnected, true, None));
    assert!(matches!(status.trouble, Some(Error::ByCaller { call: "suspend", .. })), "{status:?}");
    assert_eq!(status.to_string(), "DISCONNECTED for 0s; suspended; 1 message waits");
    client.reconnect_now();
    client.reconnect();
    client.resume();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("meanwhile"));
    assert_eq!((client.stats().attempts, client.status().suspended), (2, false));
    assert!(client.close().is_empty());
}

#[test]
fn a_reconnect_opens_a_new_connection_at_once() {
    let (server, codes) = server();
    let reconnect = ReconnectConfig::default().initial_delay(LONG).max_delay(LONG);
    let client = Client::connect(config(&server.url()).reconnect(reconnect)).unwrap();
    for round in 1..=3 {
        client.reconnect();
        let (reason, retry_in) = wait_for(&client, disconnected);
        assert_eq!((call(&reason), retry_in), ("reconnect", Some(Duration::ZERO)));
        assert_eq!(codes.recv_timeout(LONG), Ok(1001));
        client.send(round.to_string()).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(&*round.to_string()));
    }
    assert_eq!(client.stats().connects, 4);
}

#[test]
fn a_request_fails_when_its_line_is_suspended_and_one_that_waits_goes_out_later() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if message.to_text().is_ok_and(|text| text.contains("answer")) {
                let _ = socket.send(message);
            }
        }
    });
    let session = JsonSession::new().answers_by("id");
    let client = Client::builder(config(&server.url())).protocol(session).connect().unwrap();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.request(json!({"silence": 1}), LONG).unwrap_err());
        eventually("the request", || client.stats().messages_written == 1);
        client.suspend();
        let error = asked.join().unwrap();
        assert!(matches!(error, Error::ByCaller { call: "suspend", .. }), "{error:?}");
        let asked = scope.spawn(|| client.request(json!({"answer": 2}), LONG).unwrap());
        eventually("the next request", || client.stats().messages_accepted == 2);
        client.resume();
        assert!(asked.join().unwrap().to_string().contains("answer"));
    });
}

#[test]
fn a_suspended_client_is_closed_and_dropped_at_once() {
    let (server, _codes) = server();
    let client = Client::connect(config(&server.url())).unwrap();
    client.suspend();
    wait_for(&client, disconnected);
    let ticket = client.send("never").unwrap();
    let left = client.close();
    assert_eq!(left.never_written, [(ticket, "never".into())]);
    client.suspend();
    client.resume();
    client.reconnect();
    let status = client.status();
    assert_eq!((status.state, status.trouble.is_none(), status.next_attempt), (Closed, true, None));
    assert_eq!(status.to_string(), "CLOSED for 0s", "what was left was returned");
    let client = Client::connect(config(&server.url())).unwrap();
    client.suspend();
    drop(client);
}

#[test]
fn a_status_says_what_the_events_would() {
    let nobody = Nobody::new();
    let reconnect = ReconnectConfig::default().initial_delay(LONG).max_delay(LONG);
    let client = Client::start(ConnectionConfig::new(nobody.url()).reconnect(reconnect)).unwrap();
    client.send("waits").unwrap();
    eventually("the failure", || client.status().next_attempt.is_some());
    let status = client.status();
    assert_eq!((status.state, status.ready, status.suspended), (Disconnected, false, false));
    assert!(matches!(status.trouble, Some(Error::Connect { .. })), "{status:?}");
    assert!(status.next_attempt.is_some_and(|next| next <= LONG && next > LONG / 2), "{status:?}");
    let text = status.to_string();
    assert!(text.starts_with("DISCONNECTED for 0s: connecting to 127.0.0.1:"), "{text}");
    assert!(text.contains("; next attempt in ") && text.ends_with("; 1 message waits"), "{text}");
    client.close().never_written.pop().expect("the message");

    let server = Server::start(|_, stream| echo(accept(stream)));
    let client = Client::start(config(&server.url())).unwrap();
    assert!([Disconnected, Connecting, Connected].contains(&client.status().state));
    client.wait_ready(LONG).unwrap();
    let status = client.status();
    assert_eq!((status.state, status.ready, status.trouble.is_none()), (Connected, true, true));
    assert_eq!(status.to_string(), "CONNECTED for 0s");
}
