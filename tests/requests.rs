//! Requests and their answers.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;

use common::hooks::{connect, in_order, next, puppet};
use common::json::{echo_json, gateway, hear, login, say};
use common::{LONG, MS, Server, accept, config, eventually, listen};
use serde_json::{Value, json};
use tautline::{Client, Error, QueueLimit};
use tungstenite::Message as Raw;

#[test]
fn answers_are_paired_by_a_field_in_any_order() {
    let server = gateway(|_, mut socket| {
        let mut held = Vec::new();
        while let Some(request) = hear(&mut socket) {
            held.push(json!({"id": request["id"], "answers": request["n"]}));
            if held.len() == 3 {
                say(&mut socket, &json!({"id": "nobody asked"}));
                say(&mut socket, &json!({"event": "on its own"}));
                while let Some(answer) = held.pop() {
                    say(&mut socket, &answer);
                }
            }
        }
    });
    let client = Client::builder(config(&server.url())).protocol(login().answers_by("id")).connect().unwrap();
    let ask = |request: Value| {
        let client = client.clone();
        thread::spawn(move || client.request(request, LONG).unwrap().json::<Value>().unwrap())
    };
    let asked = [json!({"n": 1}), json!({"n": 2, "id": "mine"}), json!({"n": 3})].map(ask);
    for (n, asked) in (1..).zip(asked) {
        assert_eq!(asked.join().unwrap()["answers"], n);
    }
    let rest: Vec<Value> = (0..2).map(|_| client.recv_timeout(LONG).unwrap().json().unwrap()).collect();
    assert_eq!(rest, [json!({"id": "nobody asked"}), json!({"event": "on its own"})]);
}

#[test]
fn a_request_that_timed_out_keeps_its_place_in_the_order() {
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let server = gateway(move |_, mut socket| {
        let late = hear(&mut socket).unwrap();
        go.recv().unwrap();
        say(&mut socket, &json!({"type": "RTN", "to": late["n"]}));
        while let Some(request) = hear(&mut socket) {
            say(&mut socket, &json!({"type": "NOTE"}));
            say(&mut socket, &json!({"type": "RTN", "to": request["n"]}));
        }
    });
    let session = login().answers_in_order(|m| m["type"] == "RTN");
    let client = Client::builder(config(&server.url())).protocol(session).connect().unwrap();
    let error = client.request(json!({"n": 1}), 30 * MS).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    go_in.send(()).unwrap();
    let answer: Value = client.request(json!({"n": 2}), LONG).unwrap().json().unwrap();
    assert_eq!(answer["to"], 2, "and not the late answer to the first");
    assert_eq!(client.recv_timeout(LONG).unwrap().json::<Value>().unwrap()["type"], "NOTE");
}

#[test]
fn a_request_fails_with_the_line_and_is_not_sent_again() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    let server = gateway(move |n, mut socket| {
        while let Some(value) = hear(&mut socket) {
            all.lock().unwrap().push(value.clone());
            if n == 0 {
                return;
            }
            say(&mut socket, &value);
        }
    });
    let session = login().answers_by("id");
    let client = Client::builder(config(&server.url())).protocol(session).connect().unwrap();
    let error = client.request(json!({"id": 1}), LONG).unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error:?}");
    client.wait_ready(LONG).unwrap();
    client.request(json!({"id": 2}), LONG).unwrap();
    assert_eq!(*heard.lock().unwrap(), [json!({"id": 1}), json!({"id": 2})]);
}

#[test]
fn a_request_that_times_out_before_it_went_out_is_withdrawn() {
    let (released_in, released) = crossbeam_channel::bounded::<()>(0);
    let first = AtomicU32::new(0);
    let server = gateway(echo_json);
    let address = server.address();
    let resolver = move |_: &str, _| {
        if first.fetch_add(1, SeqCst) == 0 {
            released.recv().unwrap();
        }
        Ok(vec![address])
    };
    let session = login().answers_by("id");
    let client =
        Client::builder(config("ws://gateway.invalid")).resolver(resolver).protocol(session).start().unwrap();
    let error = client.request(json!({"id": "withdrawn"}), 10 * MS).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    client.send_json(&json!("first on the line")).unwrap();
    released_in.send(()).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("\"first on the line\""));
}

#[test]
fn a_plain_client_makes_no_requests_and_a_closed_one_ends_those_it_has() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    let error = client.request("?", LONG).unwrap_err();
    assert!(error.to_string().contains("JsonSession"), "{error}");

    let server = gateway(|_, socket| listen(socket));
    let client = Client::builder(server.url()).protocol(login().answers_by("id")).connect().unwrap();
    let asking = client.clone();
    let waiting = thread::spawn(move || asking.request(json!({}), LONG));
    common::eventually("the request is out", || client.stats().messages_written == 1);
    let _ = client.close();
    assert!(matches!(waiting.join().unwrap(), Err(Error::Closed { .. })));
}

#[test]
fn a_number_that_a_request_brought_along_is_not_given_to_another() {
    let server = gateway(|_, mut socket| {
        let (first, second) = (hear(&mut socket).unwrap(), hear(&mut socket).unwrap());
        for request in [second, first] {
            say(&mut socket, &request);
        }
        listen(socket);
    });
    let client = Client::builder(config(&server.url())).protocol(login().answers_by("id")).connect().unwrap();
    let own = client.clone();
    let first = thread::spawn(move || own.request(json!({"id": 1, "who": "own"}), LONG).unwrap());
    common::eventually("the first is out", || client.stats().messages_written == 1);
    let second: Value = client.request(json!({"who": "numbered"}), LONG).unwrap().json().unwrap();
    let first: Value = first.join().unwrap().json().unwrap();
    assert_eq!((first["who"].as_str(), second["who"].as_str()), (Some("own"), Some("numbered")));
}

#[test]
fn a_request_may_have_many_answers_and_an_end_of_each_kind() {
    let (server, say, heard) = puppet();
    let client = connect(&server, in_order());
    let ask = |answers: &[&str]| {
        let asked = client.request_many("subscribe", LONG).unwrap();
        assert_eq!(next(&heard), "subscribe");
        for answer in answers {
            say.send(Raw::text(*answer)).unwrap();
        }
        asked
            .map(|answer| answer.map_or_else(|error| error.to_string(), |a| a.to_string()))
            .collect::<Vec<_>>()
    };
    assert_eq!(ask(&["a…", "b…", "!"]), ["a…", "b…"]);
    assert_eq!(ask(&["a…", "b"]), ["a…", "b"]);
    assert_eq!(ask(&["!"]), [""; 0]);
    assert_eq!(ask(&["a…", "?"]), ["a…", "the session can't go on: no more"]);

    let one = thread::scope(|scope| {
        let one = scope.spawn(|| client.request("once", LONG));
        assert_eq!(next(&heard), "once");
        say.send(Raw::text("first…")).unwrap();
        one.join().unwrap()
    });
    assert_eq!(one.unwrap().as_text(), Some("first…"), "one who waits for one answer takes the first");
}

#[test]
fn answers_end_with_the_line_and_a_wait_that_is_too_long_does_not_end_them() {
    let (server, say, heard) = puppet();
    let client = connect(&server, in_order());
    let mut answers = client.request_many("subscribe", 50 * MS).unwrap();
    assert_eq!(next(&heard), "subscribe");
    assert!(matches!(answers.next(), Some(Err(Error::Timeout { .. }))));
    assert!(answers.try_next().unwrap().is_none() && !answers.has_ended());
    say.send(Raw::text("late…")).unwrap();
    let late = answers.find_map(Result::ok).unwrap();
    assert_eq!(late.as_text(), Some("late…"));
    server.cut();
    let last = answers.find(|answer| !matches!(answer, Err(Error::Timeout { .. })));
    assert!(matches!(last, Some(Err(Error::ConnectionLost { .. }))), "{last:?}");
    assert!(answers.next().is_none() && answers.has_ended());
}

#[test]
fn answers_that_are_dropped_withdraw_the_request_and_the_protocol_is_told() {
    let (server, say, heard) = puppet();
    let client = connect(&server, in_order());
    let answers = client.request_many("subscribe", LONG).unwrap();
    assert_eq!(next(&heard), "subscribe");
    drop(answers);
    assert_eq!(next(&heard), "withdrawn");
    say.send(Raw::text("late…")).unwrap();
    say.send(Raw::text("!")).unwrap();
    say.send(Raw::text("plain")).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("plain"));
}

#[test]
fn answers_that_are_not_taken_push_back_and_none_is_lost() {
    const ANSWERS: usize = 2_000;
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        let _ = socket.read();
        for n in 0..ANSWERS {
            socket.send(Raw::text(format!("{n}…"))).unwrap();
        }
        socket.send(Raw::text("!")).unwrap();
        listen(socket);
    });
    let config = config(&server.url()).events(QueueLimit::new(10, 1 << 20));
    let client = Client::builder(config).protocol(in_order()).connect().unwrap();
    let answers = client.request_many("all", LONG).unwrap();
    eventually("as many answers as may wait", || client.stats().messages_received >= 10);
    // A heartbeat later all would be here, if nothing held them back.
    client.reconnect_now();
    eventually("the heartbeat", || client.stats().heartbeats > 0);
    assert!(client.stats().messages_received < 200, "{:?}", client.stats());
    let all: Vec<_> = answers.map(|answer| answer.unwrap().to_string()).collect();
    assert_eq!(all, (0..ANSWERS).map(|n| format!("{n}…")).collect::<Vec<_>>());
}
