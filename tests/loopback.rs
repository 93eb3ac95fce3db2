//! The loopback server of `tautline::testing`: what it does to a whole client, and what of a script reaches the test.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

#[cfg(feature = "native-tls")]
use common::tls_connector;
use common::{LONG, MS, eventually, quick, wait_for};
#[cfg(feature = "native-tls")]
use tautline::testing::LoopbackConnection;
use tautline::testing::LoopbackServer;
use tautline::{Client, DisconnectReason, Error, Event, HeartbeatConfig, Message};

/// What `call` panics with.
fn panic_of(call: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("a panic");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).expect("a text")
}

fn lost(event: Event) -> Option<DisconnectReason> {
    match event {
        Event::Disconnected { reason, .. } => Some(reason),
        _ => None,
    }
}

#[test]
fn a_script_sees_the_request_and_talks_and_closes() {
    let server = LoopbackServer::start(|mut connection| {
        assert_eq!((connection.number(), connection.target()), (0, "/path?token=abc"));
        assert_eq!((connection.header("x-key"), connection.header("X-Other")), (Some("1"), None));
        assert_eq!(connection.recv(), Some("hello".into()));
        assert_eq!(connection.recv(), Some(vec![1, 2, 3].into()));
        assert!(connection.send("text") && connection.send(vec![4]) && connection.ping("ping"));
        connection.close(4000, "enough");
    })
    .unwrap();
    server.choose_subprotocol("b");
    let url = format!("{}/path?token=abc", server.url());
    let config = quick(&url).header("X-Key", "1").subprotocol("a").subprotocol("b");
    let client = Client::connect(config.reconnect(tautline::ReconnectConfig::never())).unwrap();
    let subprotocol = wait_for(&client, |event| match event {
        Event::Connected { handshake, .. } => Some(handshake.subprotocol.clone()),
        _ => None,
    });
    assert_eq!(subprotocol.as_deref(), Some("b"));
    client.send_all(["hello".into(), Message::from(vec![1, 2, 3])]).unwrap();
    let all: Vec<_> = client.messages().collect();
    assert_eq!(all, [Message::from("text"), Message::from(vec![4])]);
    assert!(client.wait_closed().to_string().contains("enough"));
    assert_eq!(server.connections(), 1);
    server.join();
}

#[test]
fn a_subprotocol_that_is_not_offered_is_not_chosen() {
    let server = LoopbackServer::echo().unwrap();
    server.choose_subprotocol("b");
    drop(Client::connect(quick(&server.url()).subprotocol("a")).unwrap());
    server.join();
}

#[test]
fn each_connection_has_its_number_and_a_script_that_returns_cuts_it() {
    let server = LoopbackServer::start(|mut connection| {
        connection.send(connection.number().to_string());
        if connection.number() == 2 {
            assert_eq!(connection.recv(), None);
            assert_eq!(connection.goodbye().map(|frame| frame.code), Some(1000));
            assert!(!connection.send("late"));
        }
    })
    .unwrap();
    let client = Client::connect(quick(&server.url())).unwrap();
    for number in ["0", "1", "2"] {
        assert_eq!(client.recv_timeout(LONG).unwrap().to_string(), number);
    }
    let _ = client.close();
    server.join();
}

#[test]
fn an_echo_returns_small_and_large_messages_and_answers_heartbeats() {
    let server = LoopbackServer::echo().unwrap();
    let heartbeat = HeartbeatConfig::default().interval(10 * MS).strict(true);
    let client = Client::connect(quick(&server.url()).heartbeat(heartbeat)).unwrap();
    for size in [0, 1, 125, 126, 70_000, 20 << 20] {
        let message = Message::from("x".repeat(size));
        client.send(message.clone()).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().len(), size);
        client.send(message.as_bytes()).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().as_bytes(), message.as_bytes());
    }
    eventually("an answered heartbeat", || client.stats().round_trip.is_some());
    let _ = client.close();
    server.join();
}

#[test]
fn it_cuts_and_rejects_and_goes_down_and_comes_back_at_the_same_port() {
    let mut server = LoopbackServer::echo().unwrap();
    let (url, address) = (server.url(), server.address());
    let client = Client::connect(quick(&url)).unwrap();
    server.cut();
    wait_for(&client, lost);
    client.send("after a cut").unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().to_string(), "after a cut");

    server.reject_with(503, &[("Retry-After", "7")]);
    let Err(Error::UpgradeRejected(rejection)) = Client::connect(url.as_str()) else {
        panic!("no rejection")
    };
    assert_eq!(rejection.status, 503);
    assert!(rejection.headers.iter().any(|(name, value)| name == "Retry-After" && value == "7"));
    server.reject(200);
    assert!(matches!(Client::connect(url.as_str()), Err(Error::UpgradeRejected(_))), "also with a success");
    server.accept();
    drop(Client::connect(url.as_str()).unwrap());

    for _ in 0..3 {
        server.go_down().unwrap();
        wait_for(&client, lost);
        assert!(matches!(Client::connect(url.as_str()), Err(Error::Connect { .. })));
        server.go_down().unwrap();
        client.send("are you back?").unwrap();
        server.come_up().unwrap();
        server.come_up().unwrap();
        assert_eq!((server.address(), server.url()), (address, url.clone()));
        assert_eq!(client.recv_timeout(LONG).unwrap().to_string(), "are you back?");
    }
    let _ = client.close();
    server.join();
}

#[cfg(feature = "native-tls")]
#[test]
fn it_speaks_tls_with_the_identity_of_the_test() {
    let (certificate, key) = (include_bytes!("data/server.pem"), include_bytes!("data/server.key"));
    let identity = native_tls::Identity::from_pkcs8(certificate, key).unwrap();
    let server = LoopbackServer::start_tls(identity, LoopbackConnection::echo).unwrap();
    assert!(server.url().starts_with("wss://localhost:"));
    let config = quick(&server.url());
    assert!(matches!(Client::connect(&config), Err(Error::Tls { .. })), "nobody trusts it");
    let client = Client::connect(config.tls(tls_connector())).unwrap();
    client.send("x".repeat(100_000)).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().len(), 100_000);
    server.reject(403);
    let refused = Client::connect(quick(&server.url()).tls(tls_connector()));
    assert!(matches!(refused, Err(Error::UpgradeRejected(_))));
    let _ = client.close();
    server.join();
}

/// A server whose scripts expect something else than what its client has sent.
fn disappointed() -> LoopbackServer {
    let server = LoopbackServer::start(|mut connection| {
        assert_eq!(connection.recv(), Some("expected".into()), "on purpose");
    })
    .unwrap();
    let client = Client::connect(quick(&server.url()).reconnect(tautline::ReconnectConfig::never())).unwrap();
    client.send("something else").unwrap();
    client.wait_closed();
    server
}

#[test]
fn what_a_script_panics_with_reaches_the_test() {
    assert!(panic_of(|| disappointed().join()).contains("on purpose"));
    let server = disappointed();
    eventually("the end of the thread", || !format!("{server:?}").contains("running: 1"));
    assert!(panic_of(move || drop(server)).contains("on purpose"));
    // Not a second time, where the test panics already.
    let server = disappointed();
    let both = panic_of(move || {
        let _server = server;
        panic!("the test itself");
    });
    assert_eq!(both, "the test itself");
}

#[test]
fn a_message_that_does_not_come_fails_the_test_instead_of_hanging_it() {
    let server = LoopbackServer::start(|mut connection| {
        connection.recv();
    })
    .unwrap();
    server.set_timeout(500 * MS);
    // Its pings are no messages.
    let heartbeat = HeartbeatConfig::default().interval(MS);
    let client = Client::connect(quick(&server.url()).heartbeat(heartbeat)).unwrap();
    let panic = panic_of(|| server.join());
    assert!(panic.contains("connection 0 of the loopback server got no message within 500ms"), "{panic}");
    assert!(panic.contains("loopback.rs"), "where the script waits: {panic}");
    let _ = client.terminate();
}

#[test]
fn nothing_of_a_server_is_left_when_it_is_dropped() {
    let theirs = Arc::new(());
    let script = Arc::clone(&theirs);
    let server = LoopbackServer::start(move |mut connection| {
        let _ = &script;
        while connection.recv().is_some() {}
        assert_eq!(connection.number(), 99, "this comes after the end, and is nobody's matter");
    })
    .unwrap();
    let clients = [(); 3].map(|()| Client::connect(quick(&server.url())).unwrap());
    drop(server);
    assert_eq!(Arc::strong_count(&theirs), 1);
    for client in clients {
        let _ = client.terminate();
    }
}

#[test]
fn a_client_that_does_not_notice_the_end_keeps_no_thread_of_the_server() {
    let server = LoopbackServer::echo().unwrap();
    let stream = TcpStream::connect(server.address()).unwrap();
    let (client, _) = tungstenite::client(server.url(), stream).unwrap();
    // It panics if the script is still there after its timeout.
    drop(server);
    drop(client);
}

#[test]
fn a_script_that_does_not_return_is_waited_for_within_the_bound_and_named() {
    let (go, wait) = crossbeam_channel::bounded::<()>(0);
    let server = LoopbackServer::start(move |_connection| _ = wait.recv()).unwrap();
    server.set_timeout(20 * MS);
    let client = Client::start(quick(&server.url())).unwrap();
    client.wait_ready(LONG).unwrap();
    let panic = panic_of(move || drop(server));
    assert!(panic.contains("does not return although its connection has ended"), "{panic}");
    drop(go);
    let _ = client.terminate();
}
