//! What a server agreed to, and what a client makes of it: the headers of the answer to the upgrade, the subprotocol, and
//! how long the attempt took.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::Write;
use std::sync::Arc;

use common::hooks::{self, Hooks, hook, mover};
use common::{
    LONG, Server, config, disconnected, eventually, frame, good_answer, moved, quick, read_frame, read_head,
    wait_for,
};
use tautline::{Client, ConnectionState, Context, Error, Event, Handshake, ReconnectConfig};

/// A server whose answers have these headers, too. It ends a connection at its first message or close frame.
fn server(headers: impl Fn(usize) -> String + Send + Sync + 'static) -> Server {
    Server::start(move |n, mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(good_answer(&head, &headers(n)).as_bytes()).unwrap();
        while read_frame(&mut stream).is_some_and(|(opcode, _)| !matches!(opcode, 1 | 8)) {}
    })
}

fn connected(event: Event) -> Option<Arc<Handshake>> {
    match event {
        Event::Connected { handshake, .. } => Some(handshake),
        _ => None,
    }
}

#[test]
fn the_headers_of_the_answer_are_in_the_event_and_at_the_client() {
    let server = Server::start(|_, mut stream| {
        let head = read_head(&mut stream);
        let early = "HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\n";
        let more = "Set-Cookie: a=hush\r\nX-Folded: b\r\n  c\r\nset-cookie: d=hush\r\nX-Latin: \u{e4}\r\n";
        let answer = early.to_owned() + &good_answer(&head, more);
        stream.write_all(&answer.into_bytes()).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::connect(server.url()).unwrap();
    let handshake = wait_for(&client, connected);
    assert!(Arc::ptr_eq(&handshake, &client.handshake().unwrap()));
    assert_eq!(handshake.address, Some(server.address()));
    let headers = &handshake.headers;
    assert_eq!(headers.get("SET-COOKIE"), Some("a=hush"));
    assert_eq!(headers.get_all("Set-Cookie").collect::<Vec<_>>(), ["a=hush", "d=hush"]);
    assert_eq!((headers.get("X-Folded"), headers.get("X-Latin")), (Some("b c"), Some("\u{e4}")));
    assert_eq!((headers.get("X-Early"), headers.get("upgrade")), (None, Some("websocket")));
    let shown = format!("{handshake:?}");
    assert!(shown.contains(r#""Set-Cookie": ***"#) && !shown.contains("hush"), "{shown}");
    let _ = client.terminate();
}

#[test]
fn the_handshake_is_that_of_the_connection_and_none_while_there_is_none() {
    let server = server(|n| format!("X-Number: {n}\r\nSec-WebSocket-Protocol: v{}\r\n", n + 1));
    let config = quick(&server.url()).subprotocol("v1").subprotocol("v2");
    let client = Client::connect(config.clone()).unwrap();
    let number = || client.handshake()?.headers.get("X-Number").map(String::from);
    let seen = || (number(), client.subprotocol());
    assert_eq!(seen(), (Some("0".into()), Some("v1".into())));
    client.send("end").unwrap();
    wait_for(&client, disconnected);
    wait_for(&client, connected);
    assert_eq!(seen(), (Some("1".into()), Some("v2".into())));
    let _ = client.close();
    assert_eq!(seen(), (None, None));

    let slow = quick(&server.url()).subprotocol("v1").subprotocol("v2").subprotocol("v3");
    let slow = slow.reconnect(ReconnectConfig::default().initial_delay(LONG).max_delay(LONG));
    let client = Client::connect(slow).unwrap();
    assert_eq!(client.subprotocol().as_deref(), Some("v3"));
    client.send("end").unwrap();
    wait_for(&client, disconnected);
    assert!(client.handshake().is_none() && client.subprotocol().is_none());
    let _ = client.terminate();
}

#[test]
fn a_connection_whose_login_is_pending_has_a_handshake() {
    let server = server(|_| "X-Number: 7\r\n".into());
    let hooks = Hooks { open: hook(|_: &mut Context<'_>, ()| {}), ..Hooks::default() };
    let client = Client::builder(config(&server.url())).protocol(hooks).start().unwrap();
    eventually("a connection", || client.state() == ConnectionState::Connected);
    assert_eq!(client.handshake().unwrap().headers.get("x-number"), Some("7"));
    let _ = client.terminate();
}

#[test]
fn after_a_move_the_handshake_is_that_of_the_new_server() {
    let (old, tell_old, _heard_by_old) = hooks::puppet();
    let (new, tell_new, _heard_by_new) = hooks::puppet();
    let client = hooks::connect(&old, mover(new.url()));
    assert_eq!(client.handshake().unwrap().address, Some(old.address()));
    tell_old.send("move".into()).unwrap();
    tell_new.send("welcome".into()).unwrap();
    let told = wait_for(&client, |event| match event {
        Event::Moved { handshake, .. } => Some(handshake),
        other => moved(other).and(None),
    });
    assert_eq!(told.address, Some(new.address()));
    assert!(Arc::ptr_eq(&told, &client.handshake().unwrap()));
    assert_eq!(client.stats().disconnects, 0);
    let _ = client.terminate();
}

#[test]
fn the_phases_that_took_place_have_a_time_and_the_others_none() {
    let plain = server(|_| String::new());
    let client = Client::connect(plain.url()).unwrap();
    let bare = client.handshake().unwrap().timings;
    assert_eq!((bare.fetch, bare.resolve, bare.tls), (None, None, None), "it has an address, and no TLS");
    assert!(bare.connect.is_some() && bare.upgrade.is_some());
    let _ = client.terminate();
}

#[test]
fn a_server_that_chooses_no_required_subprotocol_is_refused_and_tried_again() {
    let server = server(|n| if n == 2 { "Sec-WebSocket-Protocol: v2\r\n".into() } else { String::new() });
    let config = quick(&server.url()).subprotocol("v2").subprotocol("bearer.s3cret-token");
    let config = config.require_subprotocol(true);
    let says = "it chose no subprotocol, and require_subprotocol is true; offered: v2, bearer.***";
    let error = Client::connect(config.clone()).unwrap_err();
    assert!(matches!(error, Error::Upgrade { .. }) && error.to_string().ends_with(says), "{error}");
    let client = Client::start(config).unwrap();
    let (reason, retry_in) = wait_for(&client, disconnected);
    assert!(reason.to_string().ends_with(says) && retry_in.is_some(), "{reason}");
    assert_eq!(wait_for(&client, connected).subprotocol.as_deref(), Some("v2"));
    let _ = client.terminate();
}

#[test]
fn a_required_subprotocol_is_offered_by_the_configuration_or_by_who_completes_the_request() {
    let server = server(|_| "Sec-WebSocket-Protocol: v1\r\n".into());
    let required = || quick(&server.url()).require_subprotocol(true);
    let unoffered = |error: Error| {
        let text = error.to_string();
        assert!(text.starts_with("the setting require_subprotocol can't be used: it is true, but"), "{text}");
    };
    unoffered(Client::connect(required()).unwrap_err());
    // Nobody can offer one later.
    unoffered(Client::start(required()).unwrap_err());
    let offers = |name: &'static str| Hooks {
        prepare: Some(Box::new(move |_, request| {
            request.subprotocols.extend((!name.is_empty()).then(|| name.into()));
        })),
        ..Hooks::default()
    };
    unoffered(Client::builder(required()).protocol(offers("")).connect().unwrap_err());
    let by_protocol = Client::builder(required()).protocol(offers("v1")).connect().unwrap();
    let by_fetch = Client::builder(required()).fetch(|mut request| {
        request.subprotocols.push("v1".into());
        Ok(request)
    });
    for client in [by_protocol, by_fetch.connect().unwrap()] {
        assert_eq!(client.subprotocol().as_deref(), Some("v1"));
        let _ = client.terminate();
    }
    // A protocol that can't do without says so itself.
    let none = Server::echo();
    let adamant = Hooks {
        prepare: Some(Box::new(|_, request| {
            request.subprotocols.push("v1".into());
            request.require_subprotocol = true;
        })),
        ..Hooks::default()
    };
    let error = Client::builder(quick(&none.url())).protocol(adamant).connect().unwrap_err();
    assert!(error.to_string().ends_with("offered: v1"), "{error}");
}

#[test]
fn a_move_to_a_server_that_chooses_no_required_subprotocol_fails_and_the_line_stays() {
    let old = Server::start(|_, mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(good_answer(&head, "Sec-WebSocket-Protocol: v1\r\n").as_bytes()).unwrap();
        stream.write_all(&frame(0x81, b"move")).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let new = server(|_| String::new());
    let config = config(&old.url()).subprotocol("v1").require_subprotocol(true);
    let client = Client::builder(config).protocol(mover(new.url())).connect().unwrap();
    let why = client.recv_timeout(LONG).unwrap().to_string();
    assert!(why.contains("it chose no subprotocol, and require_subprotocol is true; offered: v1"), "{why}");
    assert_eq!(client.handshake().unwrap().address, Some(old.address()));
    assert_eq!((client.subprotocol().as_deref(), client.stats().disconnects), (Some("v1"), 0));
    let _ = client.terminate();
}
