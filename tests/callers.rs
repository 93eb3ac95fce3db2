//! On a plain line, a caller does the work of the I/O thread while that sleeps: he writes what he sends, and waits for the
//! socket himself. Nothing that a line promises may depend on who does it.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/proc.rs"]
mod proc;

use std::collections::BTreeSet;
use std::io::{Read, Write};
#[cfg(target_os = "linux")]
use std::net::TcpStream;
use std::sync::mpsc::TryRecvError;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use common::{
    LONG, MS, Server, accept, accept_raw, disconnected, echo, eventually, frame, listen, quick, read_frame,
    wait_for,
};
#[cfg(target_os = "linux")]
use tautline::ConnectionConfig;
use tautline::{
    Client, CloseReason, ConnectionState, Context, Error, Event, Handshake, HeartbeatConfig, Message,
    Outgoing, Protocol,
};

const ROUNDS: usize = 50;

/// How often the I/O thread of a client went to sleep while a caller sent messages and another one waited for as many, and all
/// slept in between. `serve` is the server's side of its connection.
#[cfg(target_os = "linux")]
fn sleeps<S: Read + Write>(
    name: &str,
    serve: impl Fn(TcpStream) -> S + Send + Sync + 'static,
    configure: impl FnOnce(&Server) -> ConnectionConfig,
) -> u64 {
    let (came_in, came) = mpsc::channel();
    let (ask_in, ask) = crossbeam_channel::unbounded::<()>();
    let server = Server::start(move |_, stream| {
        let mut socket = tungstenite::accept(serve(stream)).map_err(|error| error.to_string()).unwrap();
        for () in &ask {
            socket.send("for him who waits".into()).unwrap();
            came_in.send(socket.read().unwrap()).unwrap();
        }
    });
    let client =
        Client::builder(configure(&server).thread_name(name)).resolver(common::loopback).connect().unwrap();
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
    let plain = |stream: TcpStream| stream;
    let woken = sleeps("tautline-p", plain, |server| quick(&server.url()));
    assert!(woken < ROUNDS as u64 / 2, "woken {woken} times in {ROUNDS} rounds");
    let woken = sleeps("tautline-r", plain, |server| quick(&server.url()).realtime(16));
    assert!(woken >= 2 * ROUNDS as u64, "woken {woken} times in {ROUNDS} rounds");
}

/// OpenSSL keeps its errors by threads, and those that the program has left behind on its own would look like ours.
#[cfg(all(target_os = "linux", feature = "native-tls"))]
#[test]
fn no_caller_does_what_takes_tls() {
    let acceptor = common::tls_acceptor();
    let woken = sleeps("tautline-t", move |stream| acceptor.accept(stream).unwrap(), common::over_tls);
    assert!(woken >= 2 * ROUNDS as u64, "woken {woken} times in {ROUNDS} rounds");
}

#[test]
fn callbacks_run_on_the_io_thread_whoever_sends_and_waits() {
    let names = Arc::<Mutex<BTreeSet<String>>>::default();
    let note = |names: &Arc<Mutex<BTreeSet<String>>>| {
        let names = Arc::clone(names);
        move || _ = names.lock().unwrap().insert(thread::current().name().unwrap_or_default().to_owned())
    };
    let server = Server::echo();
    let builder = |name: &str, idle: bool| {
        let config = quick(&server.url()).thread_name(name);
        Client::builder(if idle { config.idle_timeout(LONG) } else { config })
    };
    let note_data = note(&names);
    let counts = move |_: &Message| {
        note_data();
        true
    };
    let clients = [
        builder("event", false).on_event_ready(note(&names)).connect().unwrap(),
        builder("data", true).counts_as_data(counts).connect().unwrap(),
        builder("hooks", false).protocol(Notes(Box::new(note(&names)))).connect().unwrap(),
    ];
    for client in &clients {
        for _ in 0..ROUNDS {
            client.send("a").unwrap();
            assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("a"));
        }
        let _ = client.terminate();
    }
    let names = names.lock().unwrap();
    assert!(names.iter().eq(["data-io", "event-io", "hooks-io"]), "{names:?}");
}

/// A protocol that notes where it runs.
struct Notes(Box<dyn Fn() + Send>);

impl Protocol for Notes {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        (self.0)();
        cx.deliver(message);
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        (self.0)();
        cx.send(outgoing.message);
        Ok(())
    }
}

#[test]
fn callers_who_never_rest_leave_the_heartbeat_its_turns() {
    let server = Server::echo();
    let beats = HeartbeatConfig::default().interval(50 * MS).timeout(LONG);
    let client = Client::connect(quick(&server.url()).heartbeat(beats)).unwrap();
    let begun = Instant::now();
    while client.stats().heartbeats < 10 {
        assert!(begun.elapsed() < LONG, "{} beats", client.stats().heartbeats);
        client.send("a").unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("a"));
    }
    let _ = client.terminate();
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
            while stopped.try_recv() == Err(TryRecvError::Empty) {
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
fn of_callers_who_send_at_once_nobody_s_message_waits_for_another_one() {
    const ROUNDS: usize = 2000;
    let (came_in, came) = mpsc::channel();
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while socket.read().is_ok_and(|message| message.is_text()) {
            let _ = came_in.send(());
        }
    });
    let client = Client::connect(quick(&server.url())).unwrap();
    thread::scope(|scope| {
        let (client, (go_in, go)) = (&client, mpsc::channel());
        scope.spawn(move || {
            while let Ok(()) | Err(TryRecvError::Empty) =
                go.try_recv().map(|()| _ = client.send("x").unwrap())
            {}
        });
        for _ in 0..ROUNDS {
            go_in.send(()).unwrap();
            client.send("x").unwrap();
            came.recv_timeout(LONG).unwrap();
            came.recv_timeout(LONG).unwrap();
        }
    });
    let _ = client.terminate();
}

#[test]
fn a_caller_who_takes_a_part_of_a_flood_and_never_comes_back_leaves_the_rest_to_the_io_thread() {
    const MESSAGES: usize = 600;
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        for _ in 0..2 {
            assert_eq!(read_frame(&mut stream).unwrap(), (1, b"more".to_vec()));
            let flood = [frame(0x81, b"x").repeat(MESSAGES), frame(0x89, b"all read")].concat();
            stream.write_all(&flood).unwrap();
            assert_eq!(read_frame(&mut stream).unwrap(), (0xA, b"all read".to_vec()));
            stream.write_all(&frame(0x82, b"answered")).unwrap();
        }
        let _ = stream.read(&mut [0]);
    });
    let client = Client::connect(quick(&server.url())).unwrap();
    for round in 1..=2 {
        client.send("more").unwrap();
        client.recv_timeout(LONG).unwrap();
        eventually("an answer", || client.stats().messages_received == round * (MESSAGES as u64 + 1));
        assert_eq!(client.drain(usize::MAX).count(), MESSAGES);
    }
    let _ = client.terminate();
}

#[test]
fn a_program_that_goes_over_to_events_in_the_middle_of_a_flood_gets_the_rest_in_order() {
    const MESSAGES: u32 = 3000;
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        assert_eq!(read_frame(&mut stream).unwrap(), (1, b"more".to_vec()));
        let flood: Vec<_> = (0..MESSAGES).flat_map(|n| frame(0x82, &n.to_be_bytes())).collect();
        stream.write_all(&flood).unwrap();
        let _ = stream.read(&mut [0]);
    });
    for taken_first in [1, 200, 1500] {
        let client = Client::connect(quick(&server.url())).unwrap();
        let expected = |message: &Message, n: u32| assert_eq!(message.as_bytes(), n.to_be_bytes());
        client.send("more").unwrap();
        for n in 0..taken_first {
            expected(&client.recv_timeout(LONG).unwrap(), n);
        }
        let events = client.events();
        for n in (taken_first..MESSAGES).step_by(2) {
            let Ok(Event::Message(message)) = events.recv_timeout(LONG) else {
                panic!("message {n} is missing")
            };
            expected(&message, n);
            if n + 1 < MESSAGES {
                expected(&client.recv_timeout(LONG).unwrap(), n + 1);
            }
        }
        let waits = thread::scope(|scope| {
            let waits = scope.spawn(|| client.recv());
            let _ = client.close();
            waits.join().unwrap()
        });
        assert!(matches!(waits, Err(Error::Closed { .. })), "{waits:?}");
        assert!(matches!(events.iter().last(), None | Some(Event::Closed { .. })));
    }
}

#[test]
fn a_server_that_takes_no_answers_for_a_while_gets_them_all_while_a_caller_waits() {
    const PINGS: usize = 60_000;
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |_, stream| {
        let mut reads = accept_raw(stream);
        let mut writes = reads.try_clone().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || (0..PINGS).try_for_each(|_| writes.write_all(&frame(0x89, &[0; 125]))));
            let _ = go.recv();
            for _ in 0..PINGS {
                assert_eq!(read_frame(&mut reads).unwrap().0, 0xA);
            }
            reads.write_all(&frame(0x81, b"all")).unwrap();
        });
        let _ = reads.read(&mut [0]);
    });
    let client = Client::connect(quick(&server.url())).unwrap();
    // Until the answers wait for room.
    eventually("a client that stops reading", || {
        let before = client.stats().bytes_read;
        assert!(matches!(client.recv_timeout(10 * MS), Err(Error::Timeout { .. })));
        client.stats().bytes_read == before && before > 0
    });
    drop(go_in);
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("all"));
    assert_eq!(client.stats().connects, 1);
    let _ = client.terminate();
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
