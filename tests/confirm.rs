//! What is confirmed, and by what.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{LONG, Server, accept_raw, eventually, frame, quick, read_frame};
use serde_json::json;
use tautline::{Client, Event, JsonSession, Ticket};

const PING: u8 = 9;
const CLOSE: u8 = 8;
const PONG: u8 = 0x8A;

#[test]
fn callers_are_confirmed_however_many_come_before_the_first_answer() {
    // A ping is answered when 50 more messages have come: as a server that is far away does, but by count.
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        let mut pings = VecDeque::new();
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            let messages = counter.load(Ordering::SeqCst);
            if opcode == PING {
                pings.push_back((messages + 50, payload));
                continue;
            }
            let due = pings.partition_point(|(due, _)| *due <= messages);
            for (_, payload) in pings.drain(..due) {
                if stream.write_all(&frame(PONG, &payload)).is_err() {
                    return;
                }
            }
            counter.store(messages + 1, Ordering::SeqCst);
        }
    });
    let client = Client::connect(quick(&server.url())).unwrap();
    let confirmed = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (1..=600)
        .map(|n| {
            client.send("news").unwrap();
            let (client, confirmed) = (client.clone(), Arc::clone(&confirmed));
            let caller = thread::spawn(move || {
                if client.confirm(LONG).is_ok() {
                    confirmed.fetch_add(1, Ordering::SeqCst);
                }
            });
            eventually("the server has the message", || seen.load(Ordering::SeqCst) >= n);
            caller
        })
        .collect();
    eventually("many are confirmed", || confirmed.load(Ordering::SeqCst) >= 100);
    client.terminate();
    for caller in callers {
        caller.join().unwrap();
    }
}

#[test]
fn a_server_whose_pongs_repeat_nothing_confirms_nothing_and_holds_up_no_close() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, _)) = read_frame(&mut stream) {
            let answer = match opcode {
                PING => frame(PONG, b""),
                CLOSE => common::close_frame(1000, ""),
                _ => continue,
            };
            if stream.write_all(&answer).is_err() || opcode == CLOSE {
                return;
            }
        }
    });
    // Were the answer awaited, the close would take half of this.
    let client = Client::connect(quick(&server.url()).close_timeout(4 * LONG)).unwrap();
    client.send("news").unwrap();
    let (closed_in, closed) = crossbeam_channel::bounded(1);
    let closing = client.clone();
    thread::spawn(move || closed_in.send(closing.close()));
    let left = closed.recv_timeout(LONG).expect("a close that waits for what can't come");
    assert_eq!((left.never_written.len(), left.maybe_delivered.len()), (0, 1), "it may have arrived");
}

#[test]
fn an_answered_request_is_in_no_doubt_when_the_line_is_lost() {
    let server = Server::start(|n, stream| {
        let mut socket = common::accept(stream);
        if n > 0 {
            while socket.read().is_ok() {}
            return;
        }
        let answered = socket.read().unwrap();
        socket.send(answered).unwrap();
        // The next is read, and not answered.
        socket.read().unwrap();
    });
    let client = Client::builder(quick(&server.url()))
        .protocol(JsonSession::new().answers_by("id"))
        .connect()
        .unwrap();
    client.request(json!({"get": "time"}), LONG).unwrap();
    let lost = client.request(json!({"get": "more"}), LONG);
    assert!(lost.is_err(), "{lost:?}");
    let in_doubt = common::wait_for(&client, |event| match event {
        Event::Disconnected { maybe_delivered, .. } => Some(maybe_delivered),
        _ => None,
    });
    assert_eq!(in_doubt.iter().map(Ticket::number).collect::<Vec<_>>(), [2]);
}
