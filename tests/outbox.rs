//! The room for messages that wait to go out, and how long they wait.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::thread;

use common::reluctant::{fill, message, reluctant};
use common::{LONG, MS, Nobody, Server, accept, accept_raw, config, fate, listen, parrot, quick, read_frame};
use tautline::{
    Client, CloseReason, ConnectionConfig, Context, Error, Event, Handshake, HeartbeatConfig, Message,
    Outgoing, Protocol, QueueLimit, SendErrorKind,
};

#[test]
fn every_waiting_sender_learns_of_the_close_and_has_its_message_back() {
    // A server that does not read: the outbox fills up.
    let server = Server::start(|_, stream| {
        let stream = accept_raw(stream);
        let _ = stream.peek(&mut [0; 1]);
        thread::park();
    });
    let config = ConnectionConfig::new(server.url())
        .outbox(tautline::QueueLimit::new(4, 8 << 20))
        .close_timeout(50 * MS);
    let client = Client::connect(config).unwrap();
    let big = Message::from(vec![0; 1 << 20]);
    let mut accepted = 0;
    let full = loop {
        match client.try_send(big.clone()) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(full.kind(), SendErrorKind::Full { .. }), "{full:?}");
    assert_eq!(full.into_message(), big);
    // The system may still take one or the other; in the end it takes no more.
    while client.send_timeout(big.clone(), 20 * MS).is_ok() {
        accepted += 1;
    }
    let timeout = client.send_timeout(big.clone(), MS).unwrap_err();
    assert!(matches!(timeout.kind(), SendErrorKind::Timeout { after: MS, .. }));
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let (client, big) = (client.clone(), big.clone());
            thread::spawn(move || client.send(big))
        })
        .collect();
    let left = client.close();
    for sender in waiting {
        match sender.join().unwrap() {
            Ok(_) => accepted += 1,
            Err(error) => {
                assert_eq!((error.kind(), error.into_message().len()), (SendErrorKind::Closed, 1 << 20));
            }
        }
    }
    assert_eq!(left.never_written.len() as u64 + left.maybe_delivered.len(), accepted, "{left:?}");
}

#[test]
fn room_that_is_made_during_a_last_look_is_used() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        // Little by little, so that room is made while the client looks whether anything has happened.
        let mut some = vec![0; 64 << 10];
        while std::io::Read::read(&mut stream, &mut some).is_ok_and(|n| n > 0) {
            thread::yield_now();
        }
    });
    let config = ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::off()).spin(MS);
    let client = Client::connect(config).unwrap();
    for _ in 0..50 {
        client.send(vec![7; 8 << 20]).unwrap();
        client.flush(LONG).unwrap();
    }
    let _ = client.terminate();
}

#[test]
fn a_message_larger_than_the_outbox_goes_alone() {
    let server = Server::echo();
    let config = ConnectionConfig::new(server.url()).outbox(tautline::QueueLimit::new(10, 1000));
    let client = Client::connect(config).unwrap();
    for _ in 0..3 {
        client.send(vec![7; 100_000]).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().len(), 100_000);
    }
}

#[test]
fn room_is_given_back_when_a_message_was_written_though_the_server_says_nothing() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::connect(config(&server.url()).outbox(QueueLimit::new(1, 1 << 20))).unwrap();
    for n in 0..200 {
        client.send_timeout(message(n), LONG).unwrap();
    }
    let _ = client.terminate();
}

#[test]
fn what_was_accepted_is_counted_at_once_also_while_the_line_is_down() {
    let nobody = Nobody::new();
    let client = Client::start(config(&nobody.url()).outbox(QueueLimit::new(2, 1 << 20))).unwrap();
    for n in 1..=2 {
        client.send("x").unwrap();
        assert_eq!(client.stats().messages_accepted, n);
    }
    client.try_send("one too many").unwrap_err();
    let _ = client.close();
    assert_eq!(client.stats().messages_accepted, 2);
}

#[test]
fn a_message_that_waited_too_long_makes_room_and_is_named() {
    let nobody = Nobody::new();
    let config = config(&nobody.url()).outbox(QueueLimit::new(2, 1 << 20)).max_age(50 * MS);
    let client = Client::start(config).unwrap();
    let sent = [client.send("a").unwrap(), client.send("b").unwrap()];
    let third = client.send_timeout("c", LONG).unwrap();
    let expired = common::wait_for(&client, |event| match event {
        Event::Expired { tickets, .. } => Some(tickets),
        _ => None,
    });
    assert!(expired.contains(sent[0]) && !expired.contains(third));
    client.send_timeout("d", LONG).unwrap();
    assert_eq!(fate(&client, sent), "never #1 to #2");
    client.send_timeout("e", LONG).unwrap();
    client.flush(LONG).expect("what has expired waits no longer");
    common::eventually("the last to grow old", || client.stats().messages_expired == 5);
    assert!(client.close().is_empty());
}

#[test]
fn what_is_sent_while_the_line_is_down_may_be_refused() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let nobody = Nobody::new();
    let address = Arc::new(Mutex::new(server.address()));
    let start = || {
        let address = Arc::clone(&address);
        let config = config("ws://h").while_down(tautline::WhileDown::Refuse);
        Client::builder(config).resolver(move |_, _| Ok(vec![*address.lock().unwrap()])).start().unwrap()
    };
    let client = start();
    client.wait_ready(LONG).unwrap();
    client.send("ready").unwrap();
    client.confirm(.., LONG).unwrap();
    *address.lock().unwrap() = nobody.address();
    drop(server);
    common::eventually("the loss", || client.state() != tautline::ConnectionState::Connected);
    let error = common::wait_for(&client, |event| {
        matches!(event, Event::Disconnected { .. }).then(|| client.send("precious").unwrap_err())
    });
    assert!(matches!(error.kind(), SendErrorKind::NotReady { .. }), "{error}");
    assert!(error.to_string().contains("while_down"), "{error}");
    assert_eq!(error.into_message().as_text(), Some("precious"));
    assert!(matches!(client.send_timeout("x", LONG).unwrap_err().kind(), SendErrorKind::NotReady { .. }));
    let server = Server::start_on(nobody.listen(), |_, stream| listen(accept(stream)));
    client.wait_ready(LONG).unwrap();
    client.send("again").unwrap();
    assert!(client.close().is_empty());

    let client = start();
    assert!(client.try_send("too early").is_err() || client.stats().connects == 1);
    drop(server);
}

#[test]
fn a_sender_that_waits_for_room_is_refused_when_the_line_goes_down() {
    let (server, go, _seen) = reluctant(false);
    let config =
        config(&server.url()).while_down(tautline::WhileDown::Refuse).outbox(QueueLimit::new(64, 1 << 20));
    let client = Client::connect(config).unwrap();
    fill(&client);
    let waiting = client.clone();
    let sender = std::thread::spawn(move || {
        loop {
            if let Err(error) = waiting.send_timeout(message(1), LONG) {
                return error;
            }
        }
    });
    // For good: one that comes back at once may let the sender in.
    drop(server);
    let error = sender.join().unwrap();
    assert!(matches!(error.kind(), SendErrorKind::NotReady { .. }), "{error}");
    let _ = client.terminate();
    drop(go);
}

#[test]
fn many_messages_go_in_at_once_and_come_out_in_order() {
    let server = Server::echo();
    let client = Client::connect(config(&server.url()).outbox(QueueLimit::new(10, 1 << 20))).unwrap();
    assert!(client.send_all(Vec::<String>::new()).unwrap().is_empty());
    let sent = client.send_all((0..1_000).map(|n| n.to_string())).unwrap();
    assert_eq!(sent.to_string(), "#1 to #1000", "also more than there is room for");
    for n in 0..1_000 {
        assert_eq!(client.recv_timeout(LONG).unwrap().to_string(), n.to_string());
    }
    let _ = client.close();
}

#[test]
fn what_send_all_could_not_hand_over_comes_back() {
    let server = Server::echo();
    let client = Client::connect(config(&server.url()).max_message_size(5)).unwrap();
    let texts = ["a", "b", "too large", "c", "d"];
    let error = client.send_all(texts).unwrap_err();
    assert!(matches!(error.kind(), SendErrorKind::TooLarge { size: 9, .. }), "{error:?}");
    let unsent: Vec<_> = error.into_unsent().iter().map(ToString::to_string).collect();
    assert_eq!(unsent, ["too large", "c", "d"]);
    for text in ["a", "b"] {
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(text));
    }
    let _ = client.close();
    let mut more = texts.iter().cycle().copied();
    let error = client.send_all(more.by_ref()).unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::Closed);
    let unsent = error.into_unsent();
    assert_eq!(unsent[0].as_text(), Some("a"));
    assert_eq!(more.next(), Some(texts[unsent.len() % 5]), "the rest is still in the iterator");
}

#[test]
fn send_all_takes_no_more_from_an_iterator_than_it_promises() {
    let server = Server::echo();
    let client = Client::connect(config(&server.url())).unwrap();
    // What is handed over comes back while the iterator waits for it.
    let mut n = 0;
    let messages = std::iter::from_fn(|| {
        if n > 0 {
            assert_eq!(client.recv_timeout(LONG).unwrap().to_string(), n.to_string());
        }
        n += 1;
        (n <= 3).then(|| n.to_string())
    });
    assert_eq!(client.send_all(messages).unwrap().to_string(), "#1 to #3");
    let lost = std::panic::AssertUnwindSafe(|| {
        let _ = client.send_all((4..=10).map(|n| {
            assert!(n < 6, "the iterator's own defect");
            n.to_string()
        }));
    });
    std::panic::catch_unwind(lost).unwrap_err();
    assert_eq!(client.send("next").unwrap().number(), 4, "what was gathered is gone with the iterator");
    let _ = client.close();
}

#[test]
fn send_all_gathers_no_more_than_so_many_bytes_at_once() {
    let server = Server::echo();
    let client = Client::connect(config(&server.url())).unwrap();
    let messages = (1..=6).map(|n| {
        if n == 4 {
            // 300,000 bytes are gathered: these are on their way.
            for _ in 1..=3 {
                assert_eq!(client.recv_timeout(LONG).unwrap().len(), 100_000);
            }
        }
        vec![0; 100_000]
    });
    assert_eq!(client.send_all(messages).unwrap().to_string(), "#1 to #6");
    let _ = client.close();
}

#[test]
fn a_closed_client_has_counted_every_message_it_accepted() {
    let (asked_in, asked) = crossbeam_channel::bounded(1);
    let (refuse, refusal) = crossbeam_channel::bounded(1);
    let server = Server::start(move |_, mut stream| {
        common::read_head(&mut stream);
        asked_in.send(()).unwrap();
        refusal.recv_timeout(LONG).unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let client = Client::start(quick(&server.url())).unwrap();
    asked.recv_timeout(LONG).unwrap();
    for _ in 0..3 {
        client.send("never written").unwrap();
    }
    refuse.send(()).unwrap();
    assert!(matches!(client.wait_closed_timeout(LONG), Ok(CloseReason::NotRetried(_))));
    assert_eq!(client.close().never_written.len(), 3);
    assert_eq!(client.stats().messages_accepted, 3);
}

#[test]
fn a_message_that_a_protocol_lets_fall_takes_no_room_and_waits_for_nothing() {
    struct Sieve;
    impl Protocol for Sieve {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.ready();
            Ok(())
        }

        fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
            if outgoing.message.as_text() != Some("drop") {
                cx.send(outgoing.message);
            }
            Ok(())
        }
    }
    let (server, heard) = parrot();
    let config = config(&server.url()).outbox(tautline::QueueLimit::new(4, 1000));
    let client = Client::builder(config).protocol(Sieve).connect().unwrap();
    for _ in 0..20 {
        client.send_timeout("drop", LONG).unwrap();
        client.flush(LONG).unwrap();
    }
    client.send("keep").unwrap();
    client.send("drop").unwrap();
    client.confirm(.., LONG).unwrap();
    assert!(client.close().is_empty());
    assert_eq!(*heard.lock().unwrap(), ["keep"]);
}
