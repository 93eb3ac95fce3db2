//! Logins, and sessions that are resumed.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use common::hooks::{Hooks, connect, hook};
use common::json::{echo_json, gateway, hear, login, say};
use common::{LONG, MS, Server, accept, config, listen, wait_for};
use serde_json::{Value, json};
use tautline::ConnectionState::{Authenticated, Connected, Connecting, Disconnected};
use tautline::{Client, CloseReason, DisconnectReason, Error, Event, JsonSession};

#[test]
fn the_login_is_the_first_message_and_makes_the_line_authenticated() {
    let server = gateway(echo_json);
    let client = Client::builder(config(&server.url())).protocol(login()).start().unwrap();
    client.send_json(&json!({"n": 1})).unwrap();
    client.wait_ready(LONG).unwrap();
    assert_eq!(client.state(), Authenticated);
    assert_eq!(client.recv_timeout(LONG).unwrap().json::<Value>().unwrap(), json!({"n": 1}));
    assert!(client.close().is_empty());
}

#[test]
fn a_refused_login_is_an_error_of_connect_and_ends_a_client_that_was_never_ready() {
    let server = gateway(echo_json);
    let wrong = || {
        let session = JsonSession::new().login(json!({"type": "login", "password": "left"}));
        session.accepted(|m| m["type"] == "welcome").refused(|m| m["type"] == "refused")
    };
    let error = Client::builder(server.url()).protocol(wrong()).connect().unwrap_err();
    assert!(matches!(error, Error::LoginRefused { .. }), "{error:?}");
    assert!(error.to_string().contains("wrong password"), "{error}");
    let client = Client::builder(config(&server.url())).protocol(wrong()).start().unwrap();
    let reason = client.wait_closed_timeout(LONG).unwrap();
    assert!(
        matches!(
            reason,
            CloseReason::NotRetried(DisconnectReason::ConnectFailed(Error::LoginRefused { .. }))
        ),
        "{reason:?}"
    );
    assert_eq!(client.stats().attempts, 1);
}

#[test]
fn a_login_that_is_not_answered_times_out() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let config = config(&server.url()).login_timeout(30 * MS);
    let error = Client::builder(config).protocol(login()).connect().unwrap_err();
    assert!(matches!(error, Error::LoginTimeout { .. }), "{error:?}");
}

#[test]
fn after_a_reconnect_the_login_comes_before_anything_else() {
    let server = gateway(|n, mut socket| {
        if n == 0 {
            hear(&mut socket);
        } else {
            echo_json(n, socket);
        }
    });
    let client = Client::builder(config(&server.url())).protocol(login()).connect().unwrap();
    client.send_json(&json!("cut me")).unwrap();
    let mut states = Vec::new();
    while states.len() < 7 {
        if let Event::StateChanged { to, .. } = client.events().recv_timeout(LONG).unwrap() {
            states.push(to);
            if to == Disconnected {
                for n in 0..10 {
                    client.send_json(&json!(n)).unwrap();
                }
            }
        }
    }
    assert_eq!(
        states,
        [Connecting, Connected, Authenticated, Disconnected, Connecting, Connected, Authenticated]
    );
    for n in 0..10 {
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(n.to_string().as_str()));
    }
}

#[test]
fn a_session_that_cannot_work_is_refused_before_anything_is_tried() {
    let (tried_in, tried) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, _| tried_in.send(()).unwrap());
    let refused = |session: fn() -> JsonSession, says: &str| {
        let builder = || Client::builder(server.url()).protocol(session());
        for error in [builder().connect().unwrap_err(), builder().start().unwrap_err()] {
            assert!(matches!(error, Error::InvalidConfig { setting: "JsonSession", .. }), "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
        }
    };
    refused(|| login().answers_by("id").answers_in_order(|_| true), "not both");
    refused(|| login().answers_in_order(|_| true).answers_by("id"), "not both");
    refused(|| login().answers_by(""), "the name of a field");
    refused(|| JsonSession::new().refused(|m| m["type"] == "refused"), "login_with");
    assert!(tried.is_empty());
}

#[test]
fn a_repeated_acceptance_is_ignored_and_is_no_answer() {
    let server = gateway(|_, mut socket| {
        while let Some(request) = hear(&mut socket) {
            say(&mut socket, &json!({"type": "welcome"}));
            say(&mut socket, &json!({"type": "answer", "to": request["n"]}));
        }
    });
    let session = login().answers_in_order(|_| true);
    let client = Client::builder(config(&server.url())).protocol(session).connect().unwrap();
    let answer: Value = client.request(json!({"n": 1}), LONG).unwrap().json().unwrap();
    assert_eq!(answer["type"], "answer");
}

#[test]
fn a_session_that_is_resumed_says_so() {
    let server = Server::echo();
    let mut opened = 0;
    let open = hook(move |cx, ()| {
        opened += 1;
        if opened == 1 { cx.ready() } else { cx.resumed() }
    });
    let client = connect(&server, Hooks { open, ..Hooks::default() });
    let resumed = |event| match event {
        Event::Connected { resumed, .. } => Some(resumed),
        _ => None,
    };
    assert!(!wait_for(&client, resumed));
    server.cut();
    assert!(wait_for(&client, resumed));
}
