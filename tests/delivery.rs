//! What is said of a message is true.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::HashSet;
use std::io::Write;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{LONG, Nobody, Server, accept, accept_raw, fate, listen, read_frame};
use tautline::{
    Client, ConnectionConfig, Delivery, Error, Event, HeartbeatConfig, Message, QueueLimit, ReconnectConfig,
    SendErrorKind,
};

const MS: Duration = Duration::from_millis(1);

/// 8 KB that begin with `id`.
fn message(id: u64) -> Message {
    let mut payload = id.to_be_bytes().to_vec();
    payload.resize(8_000, 0);
    payload.into()
}

fn id(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}

/// A server whose first connection reads nothing until it is told to go, and then, after a half-close if it is told
/// so, everything; it reports what each connection received, when that has ended or has received `u64::MAX`.
fn reluctant(
    half_close: bool,
) -> (Server, crossbeam_channel::Sender<()>, crossbeam_channel::Receiver<Vec<u64>>) {
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let (seen_in, seen) = crossbeam_channel::unbounded();
    let server = Server::start(move |n, stream| {
        let mut stream = accept_raw(stream);
        if n == 0 {
            go.recv().unwrap();
            if half_close {
                stream.shutdown(Shutdown::Write).unwrap();
            }
        }
        let mut received = Vec::new();
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            if opcode == 2 {
                received.push(id(&payload));
                if received.last() == Some(&u64::MAX) {
                    break;
                }
            }
        }
        seen_in.send(received).unwrap();
    });
    (server, go_in, seen)
}

/// Sends until nothing moves any more, and returns how many messages were accepted. The system is full then, and it is not
/// just that the I/O thread has not come to it.
fn fill(client: &Client) -> u64 {
    (0..u64::MAX).find(|n| client.send_timeout(message(*n), 100 * MS).is_err()).unwrap()
}

fn config(url: &str) -> ConnectionConfig {
    ConnectionConfig::new(url).reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
}

#[test]
fn what_was_called_never_written_was_not_received_before_the_loss() {
    for _ in 0..5 {
        let (server, go, seen) = reluctant(true);
        let client = Client::connect(config(&server.url())).unwrap();
        let accepted = fill(&client);
        go.send(()).unwrap();
        let doubtful = client.events().iter().find_map(|event| match event {
            Event::Disconnected { maybe_delivered, .. } => Some(maybe_delivered),
            _ => None,
        });
        let doubtful: HashSet<u64> = doubtful.unwrap().iter().map(|ticket| ticket.number() - 1).collect();
        client.send(message(u64::MAX)).unwrap();
        let (first, second) = (seen.recv_timeout(LONG).unwrap(), seen.recv_timeout(LONG).unwrap());
        let (first, second) =
            if second.last() == Some(&u64::MAX) { (first, second) } else { (second, first) };
        assert!(first.iter().all(|id| doubtful.contains(id)), "received, and called never written");
        assert!(second.iter().all(|id| !first.contains(id)), "received twice");
        for id in 0..accepted {
            assert!(first.contains(&id) || second.contains(&id) || doubtful.contains(&id), "{id} vanished");
        }
        client.terminate();
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
    client.terminate();
}

#[test]
fn answers_that_arrive_while_the_line_closes_are_delivered() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    for n in 0..100 {
        client.send(n.to_string()).unwrap();
    }
    assert!(client.close().is_empty());
    assert_eq!(client.messages().count(), 100);
}

#[test]
fn a_small_bound_does_not_slow_a_consumer_that_keeps_up() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        for n in 0..2_000 {
            socket.send(n.to_string().into()).unwrap();
        }
        listen(socket);
    });
    let client = Client::connect(config(&server.url()).events(QueueLimit::new(2, 1 << 20))).unwrap();
    let start = Instant::now();
    for n in 0..2_000 {
        // At the longest look of 64 ms each, this would take two minutes.
        let message = client.recv_timeout(LONG.saturating_sub(start.elapsed())).unwrap();
        assert_eq!(message.as_text(), Some(n.to_string().as_str()));
    }
}

#[test]
fn what_terminate_returns_as_never_written_was_not_received() {
    for _ in 0..5 {
        let (server, go, seen) = reluctant(false);
        let client = Client::connect(config(&server.url())).unwrap();
        let accepted = fill(&client);
        go.send(()).unwrap();
        let left = client.terminate();
        let received = seen.recv_timeout(LONG).unwrap();
        let never: HashSet<u64> = left.never_written.iter().map(|message| id(message.as_bytes())).collect();
        assert!(received.iter().all(|id| !never.contains(id)), "received, and called never written");
        assert_eq!(never.len() as u64 + left.maybe_delivered.len(), accepted, "each has a fate");
        assert!(!never.is_empty());
    }
}

#[test]
fn confirm_waits_for_the_server_and_flush_for_the_system() {
    let (pong_in, pong) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            if opcode == 9 && pong.recv().is_ok() {
                let mut frame = vec![0x8A, 8];
                frame.extend(payload);
                stream.write_all(&frame).unwrap();
            }
        }
    });
    let client = Client::connect(config(&server.url())).unwrap();
    client.confirm(.., LONG).unwrap();
    client.send("x").unwrap();
    client.flush(LONG).unwrap();
    let error = client.confirm(.., 20 * MS).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    pong_in.send(()).unwrap();
    client.confirm(.., LONG).unwrap();
}

#[test]
fn confirm_says_when_the_line_was_lost_over_a_message() {
    let server = Server::start(|n, stream| {
        let mut stream = accept_raw(stream);
        if n == 0 {
            read_frame(&mut stream);
        } else {
            while read_frame(&mut stream).is_some() {}
        }
    });
    let client = Client::connect(config(&server.url())).unwrap();
    client.send("x").unwrap();
    common::eventually("the loss", || client.stats().connects == 2);
    assert_eq!(fate(&client, ..), "maybe #1");
    client.terminate();
}

#[test]
fn what_was_lost_and_what_expired_are_told_apart_and_exactly() {
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |n, stream| {
        if n > 0 && go.recv().is_err() {
            return;
        }
        let mut socket = accept(stream);
        while socket.read().is_ok_and(|message| message != "die".into()) {}
    });
    // Long enough for what is sent on an open line to go out.
    let client = Client::connect(config(&server.url()).max_age(1000 * MS)).unwrap();
    let mut sent = Vec::new();
    for round in 0..2 {
        sent.push(client.send("die").unwrap());
        common::wait_for(&client, common::disconnected);
        sent.push(client.send("old").unwrap());
        common::wait_for(&client, |event| matches!(event, Event::Expired { .. }).then_some(()));
        go_in.send(()).unwrap();
        client.wait_ready(LONG).unwrap();
        let fine = client.send("fine").unwrap();
        sent.push(fine);
        let told = ["maybe #1, never #2", "maybe #1, #4, never #2, #5"];
        assert_eq!(fate(&client, ..), told[round]);
        assert_eq!(fate(&client, fine), "received");
        client.flush(LONG).unwrap();
    }
    let [lost, expired, fine, ..] = sent[..] else { panic!("{sent:?}") };
    assert_eq!(fate(&client, lost), "maybe #1");
    assert_eq!(fate(&client, expired), "never #2");
    assert_eq!(fate(&client, [fine, expired]), "never #2");
    assert_eq!(fate(&client, expired..), "maybe #4, never #2, #5");
    client.terminate();
}

#[test]
fn confirmations_need_pings() {
    let server = Server::echo();
    let json = || ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::json());
    let error = Client::connect(json().delivery(Delivery::AtLeastOnce)).unwrap_err();
    assert!(error.to_string().contains("delivery"), "{error}");
    let error = Client::connect(json()).unwrap().confirm(.., LONG).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
}

#[test]
fn a_full_window_of_unconfirmed_messages_asks_for_confirmation_at_once() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let config = config(&server.url()).delivery(Delivery::AtLeastOnce).outbox(QueueLimit::new(8, 1 << 20));
    let client = Client::connect(config).unwrap();
    // Heartbeats are 30 s away; room comes only from confirmations.
    for n in 0..1_000 {
        client.send_timeout(n.to_string(), LONG).unwrap();
    }
    assert!(client.close().is_empty());
}

#[test]
fn a_thread_that_sends_and_takes_nothing_is_told_instead_of_waiting_for_ever() {
    let server = Server::echo();
    let heartbeat = HeartbeatConfig::default().timeout(50 * MS);
    let config = config(&server.url())
        .heartbeat(heartbeat)
        .events(QueueLimit::new(4, 1 << 20))
        .outbox(QueueLimit::new(4, 1 << 20));
    let client = Client::connect(config).unwrap();
    let big = Message::from(vec![0; 256 << 10]);
    let mut sent = 0;
    let error = loop {
        match client.send(big.clone()) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error.kind(), SendErrorKind::ConsumerStalled { .. }), "{error:?}");
    // The line is well: who takes the messages can send again.
    for _ in 0..sent {
        client.recv_timeout(LONG).unwrap();
    }
    client.send("on we go").unwrap();
    client.terminate();
}

#[test]
fn a_thread_that_took_everything_once_and_no_more_is_told_too() {
    let server = Server::echo();
    let heartbeat = HeartbeatConfig::default().timeout(50 * MS);
    let limit = QueueLimit::new(4, 1 << 20);
    let config = config(&server.url()).heartbeat(heartbeat).events(limit).outbox(limit);
    let client = Client::connect(config).unwrap();
    // As many as the bound allows are read at once.
    let big = Message::from(vec![0; 16 << 10]);
    for _ in 0..3 {
        let (sender, big) = (client.clone(), big.clone());
        let (told_in, told) = crossbeam_channel::bounded(1);
        std::thread::spawn(move || {
            told_in.send(std::iter::repeat_with(|| sender.send(big.clone())).find_map(Result::err))
        });
        let error = told.recv_timeout(LONG).expect("it waits for ever").unwrap();
        assert!(matches!(error.kind(), SendErrorKind::ConsumerStalled { .. }), "{error:?}");
        // More is on its way, and is not taken.
        for _ in 0..4 {
            client.recv_timeout(LONG).unwrap();
        }
    }
    client.terminate();
}

#[test]
fn a_sender_is_not_told_of_a_stalled_consumer_while_the_line_is_down() {
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let (stalled_in, stalled) = crossbeam_channel::bounded(1);
    let server = Server::start(move |n, stream| {
        if n > 0 {
            // No answer to the upgrade.
            let _ = held.recv();
            return;
        }
        let mut stream = accept_raw(stream);
        stream.set_write_timeout(Some(100 * MS)).unwrap();
        while stream.write_all(&common::frame(0x82, &[7; 1000]).repeat(100)).is_ok() {}
        stalled_in.send(()).unwrap();
    });
    let heartbeat = HeartbeatConfig::default().timeout(20 * MS);
    let limit = QueueLimit::new(4, 1 << 20);
    let config =
        config(&server.url()).heartbeat(heartbeat).events(limit).outbox(limit).write_timeout(20 * MS);
    let client = Client::connect(config).unwrap();
    stalled.recv_timeout(LONG).unwrap();
    // The client reads nothing, and learns of the end when it writes.
    common::eventually("the loss", || {
        let _ = client.try_send("x");
        client.stats().disconnects == 1
    });
    while client.try_send("waits").is_ok() {}
    let sender = client.clone();
    let sending = std::thread::spawn(move || sender.send("waits").unwrap_err().kind());
    // Ten times as long as a stalled consumer would be waited for.
    std::thread::sleep(200 * MS);
    client.terminate();
    assert_eq!(sending.join().unwrap(), SendErrorKind::Closed);
    drop(release);
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
    client.close();
    assert_eq!(client.stats().messages_accepted, 2);
}

#[test]
fn what_a_closed_client_never_wrote_is_neither_flushed_nor_confirmed() {
    let nobody = Nobody::new();
    let client = Client::start(config(&nobody.url())).unwrap();
    client.send("x").unwrap();
    let waiting = client.clone();
    let confirming = std::thread::spawn(move || waiting.confirm(.., LONG));
    assert_eq!(client.close().never_written.len(), 1);
    let error = confirming.join().unwrap().unwrap_err();
    assert!(matches!(&error, Error::Unconfirmed { never_sent, .. } if never_sent.len() == 1), "{error:?}");
    assert_eq!(fate(&client, ..), "never #1");
    assert!(matches!(client.flush(LONG), Err(Error::Closed)));
}

/// What `flush` and `confirm` say of a closed client.
fn fates(client: &Client) -> [String; 2] {
    let flushed = match client.flush(LONG) {
        Ok(()) => "flushed".to_owned(),
        Err(error) => error.to_string(),
    };
    [flushed, fate(client, ..)]
}

#[test]
fn a_closed_client_still_tells_what_became_of_its_messages() {
    let echo = Server::echo();
    let client = Client::connect(echo.url()).unwrap();
    assert!(client.close().is_empty());
    assert_eq!(fates(&client), ["flushed", "received"], "nothing was accepted");

    let client = Client::connect(echo.url()).unwrap();
    client.send("x").unwrap();
    assert!(client.close().is_empty());
    assert_eq!(fates(&client), ["flushed", "received"]);
    assert_eq!(client.recv().unwrap().as_text(), Some("x"), "so does recv");
    assert!(matches!(client.recv(), Err(Error::Closed)));
    assert!(client.send("y").is_err(), "what is to be done is refused");
    assert_eq!(fates(&client), ["flushed", "received"], "it was never accepted");

    let silent = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::connect(config(&silent.url()).close_timeout(20 * MS)).unwrap();
    client.send("x").unwrap();
    client.flush(LONG).unwrap();
    client.close();
    assert_eq!(fates(&client), ["flushed", "maybe #1"]);

    let nobody = Nobody::new();
    let client = Client::start(config(&nobody.url())).unwrap();
    client.send("x").unwrap();
    assert_eq!(client.close().never_written.len(), 1);
    assert_eq!(fates(&client), ["the client is closed", "never #1"]);
}

#[test]
fn what_waits_to_be_sent_again_is_in_doubt_when_the_client_is_closed() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            read_frame(&mut accept_raw(stream));
        }
    });
    let client = Client::connect(config(&server.url()).delivery(Delivery::AtLeastOnce)).unwrap();
    client.send("x").unwrap();
    common::wait_for(&client, common::disconnected);
    let left = client.terminate();
    assert_eq!((left.never_written.len(), left.maybe_delivered.len()), (0, 1));
    assert_eq!(fates(&client), ["flushed", "maybe #1"]);
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
    client.terminate();
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
    client.close();
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
    client.close();
    let mut more = texts.iter().cycle().copied();
    let error = client.send_all(more.by_ref()).unwrap_err();
    assert_eq!(error.kind(), SendErrorKind::Closed);
    let unsent = error.into_unsent();
    assert_eq!(unsent[0].as_text(), Some("a"));
    assert_eq!(more.next(), Some(texts[unsent.len() % 5]), "the rest is still in the iterator");
}

/// Pings, as many as the client takes, and reads at the same time; reports the messages when the connection has ended.
/// No ping of the client's is answered.
fn ping_and_read(mut stream: std::net::TcpStream, seen: &crossbeam_channel::Sender<u64>) {
    let mut pings = stream.try_clone().unwrap();
    let pings = std::thread::spawn(move || while pings.write_all(&[0x89, 1, b'?']).is_ok() {});
    while let Some((opcode, payload)) = read_frame(&mut stream) {
        if opcode == 2 {
            seen.send(id(&payload)).unwrap();
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    pings.join().unwrap();
}

#[test]
fn a_pong_takes_nothing_along_that_was_called_never_written() {
    for _ in 0..20 {
        let (go_in, go) = crossbeam_channel::bounded::<()>(0);
        let (seen_in, seen) = crossbeam_channel::unbounded();
        let over = Arc::new(());
        let watched = Arc::downgrade(&over);
        let server = Server::start(move |_, stream| {
            let _over = Arc::clone(&over);
            let stream = accept_raw(stream);
            go.recv().unwrap();
            ping_and_read(stream, &seen_in);
        });
        let config = config(&server.url()).outbox(QueueLimit::new(256, 16 << 20));
        let client = Client::connect(config).unwrap();
        fill(&client);
        go_in.send(()).unwrap();
        let left = client.terminate();
        let never: HashSet<u64> = left.never_written.iter().map(|message| id(message.as_bytes())).collect();
        assert!(!never.is_empty());
        common::eventually("the server has read all", || watched.strong_count() == 1);
        assert!(seen.try_iter().all(|id| !never.contains(&id)), "received, and called never written");
    }
}

#[test]
fn a_pong_takes_nothing_along_that_is_sent_again() {
    let (seen_in, seen) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, mut stream| {
        let head = common::read_head(&mut stream);
        // The last attempt may be given up in the middle.
        if head.ends_with("\r\n\r\n") && stream.write_all(common::good_answer(&head, "").as_bytes()).is_ok() {
            ping_and_read(stream, &seen_in);
        }
    });
    // It dies again and again, in the middle of everything.
    let heartbeat = HeartbeatConfig::default().interval(5 * MS).timeout(5 * MS).strict(true);
    let client = Client::connect(config(&server.url()).heartbeat(heartbeat)).unwrap();
    let mut n = 0;
    while client.stats().disconnects < 30 {
        client.send_timeout(message(n), LONG).unwrap();
        n += 1;
    }
    client.terminate();
    let mut received = HashSet::new();
    assert!(seen.try_iter().all(|id| received.insert(id)), "received twice");
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
    client.close();
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
    client.close();
}
