//! Calls that wait for nobody: the setting `realtime`.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/heap.rs"]
mod heap;

use std::collections::HashSet;
use std::sync::{Barrier, Mutex};
use std::thread;

use common::hooks::{Hooks, hook, in_order, puppet};
use common::{LONG, MS, Nobody, Server, accept, config, eventually, fate, listen, parrot};
use crossbeam_channel::unbounded;
use tautline::{
    Client, ConnectionConfig, ConnectionState, Context, Delivery, Error, Event, Inbound, QueueLimit,
    ReconnectConfig, SendErrorKind, SendOptions, WhileDown,
};
use tungstenite::Message as Frame;

/// The longest payload that has no memory of its own.
const SMALL: [u8; 80] = [7; 80];

fn realtime(url: &str, capacity: usize) -> ConnectionConfig {
    config(url).realtime(capacity)
}

/// Runs `call`, which must allocate nothing and free nothing on this thread.
#[track_caller]
fn still<T>(call: impl FnOnce() -> T) -> T {
    let before = heap::calls();
    let outcome = call();
    assert_eq!(heap::calls() - before, 0, "allocations and frees");
    outcome
}

#[test]
fn the_calls_allocate_and_free_nothing_when_they_succeed() {
    let server = Server::echo();
    let client = Client::connect(realtime(&server.url(), 4)).unwrap();
    for round in 0..20 {
        let ticket = still(|| client.try_send(SMALL)).unwrap();
        assert_eq!(ticket.number(), 2 * round + 1);
        let mut echo = None;
        eventually("the echo", || {
            echo = still(|| client.try_recv()).unwrap();
            echo.is_some()
        });
        assert_eq!(echo.unwrap().as_bytes(), SMALL);
        assert!(still(|| client.try_recv()).unwrap().is_none());
        client.try_send("text").unwrap();
        eventually("the echo", || still(|| client.drain(1).count()) == 1);
        assert_eq!(still(|| client.try_messages().count()), 0);
        assert_eq!(still(|| client.state()), ConnectionState::Connected);
        assert_eq!(still(|| client.stats()).messages_accepted, 2 * round + 2);
    }
}

#[test]
fn the_calls_allocate_and_free_nothing_when_they_refuse() {
    let nobody = Nobody::new();
    let start = |change: fn(ConnectionConfig) -> ConnectionConfig| {
        Client::start(change(realtime(&nobody.url(), 2))).unwrap()
    };
    let refused = |client: &Client| {
        let error = still(|| client.try_send(SMALL)).unwrap_err();
        (error.kind(), error)
    };
    let client = start(|config| config);
    (0..2).for_each(|_| _ = client.try_send(SMALL).unwrap());
    let (kind, full) = refused(&client);
    assert!(matches!(kind, SendErrorKind::Full { messages: 2, bytes: 160, .. }), "{kind:?}");
    assert_eq!(full.into_message().as_bytes(), SMALL);
    let queued = still(|| client.stats());
    assert_eq!((queued.messages_queued, queued.bytes_queued), (2, 160));

    let (kind, _) = refused(&start(|config| config.while_down(WhileDown::Refuse)));
    assert!(matches!(kind, SendErrorKind::NotReady { .. }), "{kind:?}");
    let (kind, _) = refused(&start(|config| config.max_message_size(10)));
    assert!(matches!(kind, SendErrorKind::TooLarge { size: 80, limit: 10, .. }), "{kind:?}");

    let left = client.close();
    assert_eq!(left.never_written.len(), 2);
    let (kind, closed) = refused(&client);
    assert_eq!(kind, SendErrorKind::Closed);
    let closed = still(|| Error::from(closed));
    assert!(matches!(closed, Error::Closed { reason: Some(_), .. }), "{closed:?}");
    assert!(matches!(still(|| client.try_recv()), Err(Error::Closed { reason: Some(_), .. })));
    assert_eq!(still(|| client.state()), ConnectionState::Closed);
    assert_eq!(still(|| client.stats()).messages_accepted, 2);
}

/// How many reads and writes of the system's this thread has made so far. A wake-up is one.
#[cfg(target_os = "linux")]
fn reads_and_writes() -> u64 {
    let counters = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let of =
        |line: &str| line.strip_prefix("syscr: ").or(line.strip_prefix("syscw: ")).map(str::parse::<u64>);
    counters.lines().filter_map(of).map(Result::unwrap).sum()
}

#[cfg(target_os = "linux")]
#[test]
fn a_call_makes_at_most_one_system_call_the_wake_up() {
    let (server, nobody) = (Server::echo(), Nobody::new());
    let ready = Client::connect(realtime(&server.url(), 4)).unwrap();
    let down = Client::start(realtime(&nobody.url(), 1)).unwrap();
    down.try_send(SMALL).unwrap();
    let counted = |call: &dyn Fn()| {
        let (start, none) = (reads_and_writes(), reads_and_writes());
        call();
        // The look itself is in both.
        (reads_and_writes() - none) - (none - start)
    };
    let mut woken = 0;
    for _ in 0..200 {
        woken += counted(&|| drop(ready.try_send(SMALL)));
        eventually("the echo", || ready.stats().messages_queued == 0);
        assert!(counted(&|| drop(ready.try_recv())) <= 1);
        assert!(counted(&|| drop(ready.drain(1).next())) <= 1);
        assert_eq!(counted(&|| drop(down.try_send(SMALL))), 0, "a refusal wakes nobody");
        for client in [&ready, &down] {
            assert_eq!(counted(&|| _ = client.state()), 0);
            assert_eq!(counted(&|| _ = client.stats()), 0);
        }
    }
    assert!((1..=200).contains(&woken), "{woken}");
}

#[test]
fn a_refusal_allocates_and_frees_nothing_without_the_setting_either() {
    let nobody = Nobody::new();
    let client = Client::start(config(&nobody.url()).outbox(QueueLimit::new(1, 1 << 20))).unwrap();
    client.try_send(SMALL).unwrap();
    let full = still(|| client.try_send(SMALL)).unwrap_err();
    assert!(matches!(full.kind(), SendErrorKind::Full { .. }), "{full:?}");
    let _ = client.terminate();
    let closed = still(|| client.try_send(SMALL)).unwrap_err();
    assert_eq!(closed.kind(), SendErrorKind::Closed);
}

#[test]
fn many_senders_keep_their_order_and_a_close_between_them_loses_nothing() {
    for round in 0..20 {
        let (server, seen) = parrot();
        let client = Client::connect(realtime(&server.url(), 16)).unwrap();
        let begin = Barrier::new(5);
        let (accepted, left) = thread::scope(|scope| {
            let senders: Vec<_> = (0..4)
                .map(|sender| {
                    let (client, begin) = (&client, &begin);
                    let work = move || {
                        begin.wait();
                        let mut accepted = Vec::new();
                        for n in 0.. {
                            let message = format!("{sender} {n}");
                            let outcome = match sender {
                                0 | 1 => client.try_send(message),
                                2 => client.send(message),
                                _ => client.send_with(message, SendOptions::new().this_connection()),
                            };
                            match outcome {
                                Ok(ticket) => accepted.push((ticket.number(), n)),
                                Err(error) if error.kind() == SendErrorKind::Closed => break,
                                Err(error) => assert!(matches!(error.kind(), SendErrorKind::Full { .. })),
                            }
                            while client.try_recv().is_ok_and(|message| message.is_some()) {}
                        }
                        (sender, accepted)
                    };
                    thread::Builder::new().name("sender".into()).spawn_scoped(scope, work).unwrap()
                })
                .collect();
            begin.wait();
            eventually("some messages", || client.stats().messages_written > 50 * round);
            let left = client.close();
            (senders.into_iter().map(|sender| sender.join().unwrap()).collect::<Vec<_>>(), left)
        });
        assert!(!left.unfinished, "{left:?}");
        let seen = seen.lock().unwrap();
        let mut tickets = HashSet::new();
        let mut total = 0;
        for (sender, accepted) in &accepted {
            assert!(accepted.is_sorted(), "the tickets rise with the messages");
            tickets.extend(accepted.iter().map(|(ticket, _)| *ticket));
            total += accepted.len();
            let of_this = |text: &str| text.starts_with(&format!("{sender} "));
            let arrived: Vec<_> = seen.iter().filter(|text| of_this(text)).cloned().collect();
            let unsent = left.never_written.iter().filter_map(|(_, message)| message.as_text());
            let known: Vec<_> =
                arrived.into_iter().chain(unsent.filter(|text| of_this(text)).map(Into::into)).collect();
            let expected: Vec<_> = accepted.iter().map(|(_, n)| format!("{sender} {n}")).collect();
            assert_eq!(known, expected, "each accepted message arrived, or was returned, in order");
        }
        assert_eq!(tickets.len(), total, "each ticket once");
        assert_eq!(client.stats().messages_accepted, total as u64);
    }
}

#[test]
fn a_sender_that_waits_gets_the_room_of_what_was_written() {
    let (server, seen) = parrot();
    let client = Client::connect(realtime(&server.url(), 1)).unwrap();
    thread::scope(|scope| {
        for _ in 0..3 {
            let work = || (0..200).for_each(|n| _ = client.send(n.to_string()).unwrap());
            thread::Builder::new().name("sender".into()).spawn_scoped(scope, work).unwrap();
        }
        for _ in 0..600 {
            client.recv_timeout(LONG).unwrap();
        }
    });
    let tickets = client.send_all((0..10).map(|n| n.to_string())).unwrap();
    (0..10).for_each(|_| _ = client.recv_timeout(LONG).unwrap());
    assert_eq!(tickets.to_string(), "#601 to #610");
    client.confirm(tickets, LONG).unwrap();
    assert_eq!(seen.lock().unwrap().len(), 610);
}

#[test]
fn readers_share_the_messages_and_a_reader_that_comes_late_gets_all_and_the_end() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        (0..1000).for_each(|n| socket.send(Frame::text(n.to_string())).unwrap());
        let _ = socket.close(None);
        while socket.read().is_ok() {}
    });
    let once = ReconnectConfig::default().max_attempts(0);
    let connect = || Client::connect(realtime(&server.url(), 8).reconnect(once.clone())).unwrap();
    let client = connect();
    let taken = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..3 {
            let work = || {
                let own: Vec<u32> = client.messages().map(|m| m.to_string().parse().unwrap()).collect();
                assert!(own.is_sorted());
                taken.lock().unwrap().extend(own);
            };
            thread::Builder::new().name("reader".into()).spawn_scoped(scope, work).unwrap();
        }
    });
    let mut taken = taken.into_inner().unwrap();
    taken.sort_unstable();
    assert!(taken.into_iter().eq(0..1000));
}

#[test]
fn what_a_protocol_delivers_at_once_beyond_the_room_arrives_in_order_also_after_the_end() {
    for ends_first in [false, true] {
        let text = hook(|cx: &mut Context<'_>, text: String| {
            (0..100).for_each(|n| cx.deliver(format!("{text} {n}")));
        });
        let (server, wire, _heard) = puppet();
        let protocol = Hooks { text, ..Hooks::default() };
        let client = Client::builder(realtime(&server.url(), 8)).protocol(protocol).connect().unwrap();
        (0..3).for_each(|n| wire.send(Frame::text(n.to_string())).unwrap());
        eventually("the first", || client.stats().messages_received > 0);
        if ends_first {
            let _ = client.terminate();
        }
        let expected = (0..3).flat_map(|m| (0..100).map(move |n| format!("{m} {n}")));
        let enough = if ends_first { 100 } else { 300 };
        for expected in expected.take(enough) {
            assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(&*expected));
        }
        let _ = client.terminate();
        while client.try_recv().is_ok_and(|message| message.is_some()) {}
        assert!(matches!(client.recv(), Err(Error::Closed { .. })));
    }
}

#[test]
fn a_pause_ends_when_the_last_message_was_taken_and_the_signal_comes_for_what_followed() {
    let (signal, signalled) = unbounded();
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        (0..5000).for_each(|n| socket.send(Frame::text(n.to_string())).unwrap());
        listen(socket);
    });
    let client = Client::builder(realtime(&server.url(), 4))
        .on_event_ready(move || _ = signal.send(()))
        .connect()
        .unwrap();
    let mut next = 0;
    while next < 5000 {
        signalled.recv_timeout(LONG).unwrap();
        for message in client.try_messages() {
            assert_eq!(message.as_text(), Some(&*next.to_string()));
            next += 1;
        }
    }
}

#[test]
fn events_that_are_no_messages_come_by_the_channel_alone() {
    let server = Server::echo();
    let client = Client::connect(realtime(&server.url(), 4)).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    let timeout = client.recv_timeout(MS).unwrap_err();
    assert!(matches!(timeout, Error::Timeout { .. }), "{timeout}");
    let _ = client.close();
    let events: Vec<_> = client.events().iter().collect();
    assert!(events.iter().any(|event| matches!(event, Event::Connected { .. })), "no recv has dropped it");
    assert!(matches!(events.last(), Some(Event::Closed { .. })));
    assert!(!events.iter().any(|event| matches!(event, Event::Message(_))));
}

#[test]
fn what_is_to_arrive_at_least_once_does_and_what_is_for_one_connection_is_named() {
    let (server, seen) = parrot();
    let config = realtime(&server.url(), 64).delivery(Delivery::AtLeastOnce).inbound(Inbound::Discard);
    let client = Client::connect(config).unwrap();
    let mut here = Vec::new();
    for n in 0..200 {
        client.send(format!("{n}")).unwrap();
        here.extend(client.try_send_with("here", SendOptions::new().this_connection()));
        if n % 50 == 49 {
            server.cut();
        }
    }
    let last = client.send("last").unwrap();
    client.flush(LONG).unwrap();
    client.confirm(last, LONG).unwrap();
    let seen = seen.lock().unwrap();
    for n in 0..200 {
        assert!(seen.contains(&n.to_string()), "{n}");
    }
    drop(seen);
    for ticket in here {
        let fate = fate(&client, ticket);
        assert!(["received", "maybe", "never"].iter().any(|word| fate.starts_with(word)), "{fate}");
    }
}

#[test]
fn a_request_has_its_answer() {
    let server = Server::echo();
    let client = Client::builder(realtime(&server.url(), 1)).protocol(in_order()).connect().unwrap();
    for n in 0..10 {
        assert_eq!(client.request(n.to_string(), LONG).unwrap().as_text(), Some(&*n.to_string()));
    }
}
