//! On a plain line, a caller does the work of the I/O thread while that sleeps: he writes what he sends, and waits for the
//! socket himself. Nothing that a line promises may depend on who does it.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/proc.rs"]
mod proc;

use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use common::{LONG, MS, Server, accept, disconnected, echo, eventually, listen, quick, wait_for};
use tautline::{Client, CloseReason, ConnectionConfig, ConnectionState, Error, Event, HeartbeatConfig};

const ROUNDS: usize = 50;

/// How often the I/O thread of a client went to sleep while a caller sent messages and another one waited for as many, and all
/// slept in between.
#[cfg(target_os = "linux")]
fn sleeps(name: &str, configure: impl FnOnce(ConnectionConfig) -> ConnectionConfig) -> u64 {
    let (came_in, came) = mpsc::channel();
    let (ask_in, ask) = crossbeam_channel::unbounded::<()>();
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        for () in &ask {
            socket.send("for him who waits".into()).unwrap();
            came_in.send(socket.read().unwrap()).unwrap();
        }
    });
    let client = Client::connect(configure(quick(&server.url()).thread_name(name))).unwrap();
    let find = |name: &str| {
        let is_it = |thread: &proc::Thread| thread.name == name;
        eventually(name, || proc::threads().into_values().any(|thread| is_it(&thread)));
        proc::threads().into_values().find(is_it).unwrap()
    };
    let (io, caller) = (format!("{name}-io"), format!("{name}-in"));
    let slept = thread::scope(|scope| {
        let (client, (taken_in, taken)) = (&client, mpsc::channel());
        let receive = move || client.messages().for_each(|message| taken_in.send(message).unwrap());
        thread::Builder::new().name(caller.clone()).spawn_scoped(scope, receive).unwrap();
        let rest = || eventually("threads that sleep", || find(&io).asleep && find(&caller).asleep);
        rest();
        let begun = find(&io).sleeps;
        for _ in 0..ROUNDS {
            ask_in.send(()).unwrap();
            taken.recv_timeout(LONG).unwrap();
            rest();
            client.send("from him who sends").unwrap();
            came.recv_timeout(LONG).unwrap();
            rest();
        }
        let slept = find(&io).sleeps - begun;
        let _ = client.terminate();
        slept
    });
    drop(ask_in);
    slept
}

#[cfg(target_os = "linux")]
#[test]
fn callers_wake_nobody_when_they_send_and_wait_but_where_they_must_wait_for_nobody() {
    let plain = sleeps("tautline-p", |config| config);
    assert!(plain < ROUNDS as u64 / 2, "woken {plain} times in {ROUNDS} rounds");
    let realtime = sleeps("tautline-r", |config| config.realtime(16));
    assert!(realtime >= 2 * ROUNDS as u64, "slept {realtime} times in {ROUNDS} rounds");
}

#[test]
fn a_caller_who_waits_is_told_of_a_loss_and_goes_on_over_the_next_connection() {
    let server = Server::start(|number, stream| {
        let mut socket = accept(stream);
        if number == 0 {
            let _ = socket.read();
        } else {
            socket.send("again".into()).unwrap();
            listen(socket);
        }
    });
    let client = Client::connect(quick(&server.url())).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| client.recv_timeout(LONG));
        // Whether he waits by now or not, he gets it.
        client.send("go").unwrap();
        assert_eq!(waits.join().unwrap().unwrap().as_text(), Some("again"));
    });
    let _ = client.terminate();
}

#[test]
fn a_caller_who_waits_takes_nothing_from_the_heartbeat() {
    let server = Server::start(|number, stream| {
        let mut socket = accept(stream);
        if number > 0 {
            listen(socket);
        } else if socket.read().is_ok() {
            // It is silent from here on, and reads nothing.
            thread::park_timeout(LONG);
        }
    });
    let beats = HeartbeatConfig::default().interval(100 * MS).timeout(200 * MS);
    let client = Client::connect(quick(&server.url()).heartbeat(beats)).unwrap();
    let (waiting_in, waiting) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            waiting_in.send(()).unwrap();
            assert!(matches!(client.recv(), Err(Error::Closed { .. })));
        });
        waiting.recv().unwrap();
        client.send("the last that it reads").unwrap();
        eventually("a dead peer", || client.stats().connects == 2);
        let _ = client.terminate();
    });
}

#[test]
fn a_caller_who_waits_for_so_long_waits_no_longer_whatever_else_goes_on() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let client = Client::connect(quick(&server.url())).unwrap();
    thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        let client = &client;
        scope.spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                client.send("on and on").unwrap();
            }
        });
        for wait in [0, 1, 20, 100] {
            let begun = Instant::now();
            assert!(matches!(client.recv_timeout(wait * MS), Err(Error::Timeout { .. })));
            assert!(begun.elapsed() >= wait * MS);
        }
        drop(stop);
    });
    let _ = client.terminate();
}

#[test]
fn of_many_callers_who_send_and_wait_each_message_reaches_one() {
    const CALLERS: usize = 4;
    const EACH: usize = 300;
    let server = Server::start(|_, stream| echo(accept(stream)));
    let client = Client::connect(quick(&server.url())).unwrap();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    client.send("x").unwrap();
                    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("x"));
                }
            });
        }
    });
    assert!(client.try_recv().unwrap().is_none());
    assert!(client.close().is_empty());
}

#[test]
fn whoever_reads_events_gets_them_in_order_also_while_a_caller_waits_for_the_socket() {
    let server = Server::echo();
    let client = Client::connect(quick(&server.url())).unwrap();
    client.send("one").unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("one"));
    client.send("two").unwrap();
    let two =
        wait_for(&client, |event| if let Event::Message(message) = event { Some(message) } else { None });
    assert_eq!(two.as_text(), Some("two"));
    assert!(matches!(client.recv_timeout(MS), Err(Error::Timeout { .. })));
    server.cut();
    wait_for(&client, disconnected);
    let _ = client.terminate();
}

#[test]
fn an_end_frees_a_caller_who_waits_and_so_does_a_suspension_and_its_end() {
    let server = Server::echo();
    let client = Client::connect(quick(&server.url())).unwrap();
    thread::scope(|scope| {
        let waits = scope.spawn(|| client.recv());
        client.suspend();
        eventually("a line that is down", || client.state() == ConnectionState::Disconnected);
        client.resume();
        client.wait_ready(LONG).unwrap();
        client.send("after it").unwrap();
        assert_eq!(waits.join().unwrap().unwrap().as_text(), Some("after it"));
        let waits = scope.spawn(|| client.recv());
        assert!(client.close().is_empty());
        let Err(Error::Closed { reason: Some(reason), .. }) = waits.join().unwrap() else { panic!() };
        assert!(matches!(*reason, CloseReason::ByCaller), "{reason}");
    });
}
