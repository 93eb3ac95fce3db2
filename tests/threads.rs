//! No call, from whatever thread it is made, waits for itself.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::sync::Mutex;
use std::thread;

use common::{LONG, MS, Server, quick};
use crossbeam_channel::bounded;
use tautline::{Client, CloseReason, Ending, Event, JsonSession, SendErrorKind};

type Call = fn(Client);

/// Every call there is. Those that wait have a bound, or end the client.
const CALLS: [(&str, Call); 15] = [
    ("send", |client| drop(client.send("x"))),
    ("send_timeout", |client| drop(client.send_timeout("x", MS))),
    ("try_send", |client| drop(client.try_send("x"))),
    ("recv_timeout", |client| drop(client.recv_timeout(MS))),
    ("try_messages", |client| client.try_messages().for_each(drop)),
    ("wait_ready", |client| drop(client.wait_ready(MS))),
    ("wait_closed", |client| drop(client.wait_closed_timeout(MS))),
    ("flush", |client| drop(client.flush(MS))),
    ("confirm", |client| drop(client.confirm(.., MS))),
    ("request", |client| drop(client.request("x", MS))),
    ("reconnect_now", |client| client.reconnect_now()),
    ("close", |client| drop(client.close())),
    ("terminate", |client| drop(client.terminate())),
    ("shutdown", |client| drop(client.shutdown(Ending::Close, LONG))),
    ("drop", drop),
];

#[test]
fn every_call_from_the_dial_thread_returns() {
    let server = Server::echo();
    for in_resolver in [false, true] {
        for (name, call) in CALLS {
            let (handle_in, handle) = bounded::<Client>(1);
            let (ended_in, ended) = bounded(1);
            let callback = move || {
                if let Ok(client) = handle.recv() {
                    call(client);
                    ended_in.send(()).unwrap();
                }
            };
            let builder = Client::builder(quick(&server.url().replace("127.0.0.1", "h")));
            let builder = builder.protocol(JsonSession::new());
            let builder = if in_resolver {
                builder.resolver(move |_, port| {
                    callback();
                    common::loopback("h", port)
                })
            } else {
                let builder = builder.resolver(common::loopback);
                builder.fetch(move |request| {
                    callback();
                    Ok(request)
                })
            };
            let client = builder.start().unwrap();
            let events = client.events().clone();
            handle_in.send(client).unwrap();
            drop(handle_in);
            ended.recv_timeout(LONG).unwrap_or_else(|_| panic!("{name} never returned"));
            // The last handle went with the call.
            let last = events.iter().last();
            assert!(
                matches!(&last, Some(Event::Closed { reason: CloseReason::ByCaller, .. })),
                "{name}: {last:?}"
            );
        }
    }
}

#[test]
fn calls_from_many_threads_at_once_all_return() {
    let server = Server::echo();
    for round in 0..20 {
        let client = Client::connect(quick(&server.url())).unwrap();
        let threads: Vec<_> = CALLS
            .iter()
            .map(|(_, call)| {
                let client = client.clone();
                thread::spawn(move || call(client))
            })
            .collect();
        if round % 2 == 0 {
            server.cut();
        }
        drop(client);
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

#[test]
fn one_clients_callback_may_use_another_client() {
    let server = Server::echo();
    let other = Client::connect(server.url()).unwrap();
    let (told_in, told) = bounded(64);
    let sender = Mutex::new(other.clone());
    let client = Client::builder(server.url())
        .on_event_ready(move || {
            let other = sender.lock().unwrap();
            // What would block is refused on any client's own thread; what need not is done.
            let refused = other.send("through").err().map(|error| error.kind());
            let _ = told_in.try_send(refused);
        })
        .connect()
        .unwrap();
    client.send("hello").unwrap();
    let refused = told.recv_timeout(LONG).unwrap();
    assert!(matches!(refused, None | Some(SendErrorKind::WouldDeadlock)), "{refused:?}");
    assert!(other.recv_timeout(LONG).is_ok());
    let _ = client.close();
    let _ = other.close();
}
