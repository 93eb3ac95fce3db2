//! An application that takes its messages slowly, late, or never.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use common::{
    BareServer, LONG, MS, Server, accept, accept_raw, await_unread, close_frame, config, disconnected,
    eventually, frame, good_answer, listen, quick, read_frame, read_frames, read_head, wait_for,
};
use crossbeam_channel::{Receiver, Sender};
use tautline::{
    Client, CloseReason, ConnectionConfig, ConnectionState, DisconnectReason, Error, Event, HeartbeatConfig,
    Inbound, Message, QueueLimit, SendErrorKind,
};

#[test]
fn a_program_that_only_sends_may_discard_what_arrives() {
    let server = Server::echo();
    let config = ConnectionConfig::new(server.url()).inbound(Inbound::Discard);
    let client = Client::connect(config).unwrap();
    for _ in 0..5_000 {
        client.send("x").unwrap();
    }
    assert!(client.close().is_empty());
    assert!(client.events().iter().all(|event| !matches!(event, Event::Message(_))));
}

#[test]
fn a_pause_of_the_reader_stops_the_server_and_not_the_line() {
    let arrived = Arc::new(Mutex::new(0_usize));
    let count = Arc::clone(&arrived);
    let server = Server::start(move |_, stream| {
        let mut reader = accept_raw(stream);
        let mut writer: TcpStream = reader.try_clone().unwrap();
        let flooded = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&flooded);
        let mut answers = reader.try_clone().unwrap();
        let flood = thread::spawn(move || {
            for n in 0..2_000_u32 {
                let mut frame = vec![0x82, 126, 0x10, 0x00];
                frame.extend(n.to_be_bytes());
                frame.resize(4 + 4096, 0);
                if writer.write_all(&frame).is_err() {
                    return;
                }
            }
            done.store(true, SeqCst);
        });
        // Pings are counted, and answered once nothing else is sent: silence would be held against us.
        while read_frame(&mut reader).is_some() {
            *count.lock().unwrap() += 1;
            if flooded.load(SeqCst) {
                let _ = answers.write_all(&[0x8A, 0]);
            }
        }
        flood.join().unwrap();
    });
    let config = ConnectionConfig::new(server.url())
        .events(tautline::QueueLimit::new(10, 1 << 20))
        .heartbeat(HeartbeatConfig::default().interval(50 * MS).timeout(1000 * MS));
    let client = Client::connect(config).unwrap();
    let messages = || client.stats().messages_received;
    common::eventually("the bound is reached", || messages() >= 10);
    // More than a timeout passes while the application takes nothing; sends and beats go on, and the peer is not judged.
    common::eventually("beats go on", || *arrived.lock().unwrap() >= 30);
    client.send("sends go on").unwrap();
    let before = *arrived.lock().unwrap();
    common::eventually("the message arrives", || *arrived.lock().unwrap() > before);
    assert!(messages() <= 10, "no more is read than the bound allows");
    for n in 0..2_000_u32 {
        assert_eq!(client.recv_timeout(LONG).unwrap().as_bytes()[..4], n.to_be_bytes());
    }
    assert_eq!(client.stats().disconnects, 0);
    let _ = client.terminate();
}

/// What may be read beyond the bound: what came with the answer to the upgrade (64 KiB), and a read buffer.
const SLACK: u64 = 128 << 10;

/// Numbered messages of `size` bytes, as they are on the wire.
fn numbered(count: u32, size: usize) -> Vec<u8> {
    let message = |n: u32| {
        let mut payload = n.to_be_bytes().to_vec();
        payload.resize(size, 0);
        frame(0x82, &payload)
    };
    (0..count).flat_map(message).collect()
}

/// Takes the next message, which has this number.
fn take(client: &Client, number: u32) {
    let message = client.recv_timeout(LONG).unwrap();
    assert_eq!(message.as_bytes()[..4], number.to_be_bytes());
}

/// A server that sends without end, and says when its client takes no more.
fn flooding(size: usize) -> (Server, Receiver<()>) {
    let (stalled_in, stalled) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        // As long as the client takes something now and then, it is only slow.
        stream.set_write_timeout(Some(400 * MS)).unwrap();
        // Small writes take long to fill the buffers of some systems.
        let messages = numbered(3, size);
        let messages = messages.repeat(1 + (64 << 10) / messages.len());
        while stream.write_all(&messages).is_ok() {}
        let _ = stalled_in.send(());
        while stream.read(&mut [0; 512]).is_ok_and(|n| n > 0) {}
    });
    (server, stalled)
}

/// What a server does in these tests: sends some messages, at once with its answer to the upgrade, so that no beat comes
/// between; then tells the test of every frame of the client's, answers
/// pings if it `answers`, and the close frame always.
fn converse(mut stream: TcpStream, messages: &[u8], answers: bool, heard: &Sender<(u8, Vec<u8>)>) {
    answer_with(&mut stream, messages);
    while let Some((opcode, payload)) = read_frame(&mut stream) {
        match opcode {
            8 => stream.write_all(&frame(0x88, &payload)).unwrap(),
            9 if answers => stream.write_all(&frame(0x8A, &payload)).unwrap(),
            _ => {}
        }
        let _ = heard.send((opcode, payload));
        if opcode == 8 {
            return;
        }
    }
}

/// Accepts the upgrade, and says this in the same breath.
fn answer_with(stream: &mut TcpStream, messages: &[u8]) {
    let answer = good_answer(&read_head(stream), "");
    stream.write_all(&[answer.as_bytes(), messages].concat()).unwrap();
}

/// Waits for frames of the client until one has this opcode.
fn hear(heard: &Receiver<(u8, Vec<u8>)>, opcode: u8) -> Vec<u8> {
    loop {
        let (found, payload) = heard.recv_timeout(LONG).unwrap();
        if found == opcode {
            return payload;
        }
    }
}

/// Beats every 50 ms, each to be answered within a second, and room for 10 messages.
fn beating(url: &str) -> ConnectionConfig {
    let heartbeat = HeartbeatConfig::default().interval(50 * MS).timeout(1000 * MS);
    quick(url).heartbeat(heartbeat).events(QueueLimit::new(10, 1 << 20))
}

/// So many beats take longer than an answer may.
const MANY: u64 = 30;

/// After so many, reading has long been paused.
const SOME: u64 = 3;

/// A client of a server that sends 300 messages, after so many beats in which none of them was taken. It may take its time to
/// close.
fn paused(answers: bool, beats: u64) -> (Server, Client, Receiver<(u8, Vec<u8>)>) {
    let (heard_in, heard) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| converse(stream, &numbered(300, 100), answers, &heard_in));
    let client = Client::connect(beating(&server.url()).close_timeout(2 * LONG)).unwrap();
    for _ in 0..beats {
        hear(&heard, 9);
    }
    let stats = client.stats();
    assert_eq!((stats.messages_received, stats.disconnects), (10, 0));
    (server, client, heard)
}

#[test]
fn what_is_not_taken_is_bounded_by_count() {
    let (server, stalled) = flooding(50);
    let client = Client::connect(quick(&server.url()).events(QueueLimit::new(10, 1 << 20))).unwrap();
    stalled.recv_timeout(LONG).unwrap();
    eventually("the bound", || client.stats().messages_received >= 10);
    let stats = client.stats();
    assert_eq!(stats.messages_received, 10);
    assert!(stats.bytes_read < SLACK, "{} bytes are in memory", stats.bytes_read);
    let _ = client.terminate();
    assert_eq!(client.messages().count(), 10);
}

#[test]
fn what_is_not_taken_is_bounded_by_bytes() {
    const LIMIT: usize = 1 << 20;
    // The size is known once a message is there: the one that reaches the bound may cross it.
    for (size, count) in [(256 << 10, 4), (300_000, 4), (2 << 20, 1)] {
        let (server, stalled) = flooding(size);
        let client = Client::connect(quick(&server.url()).events(QueueLimit::new(1000, LIMIT))).unwrap();
        stalled.recv_timeout(LONG).unwrap();
        eventually("the bound", || client.stats().messages_received >= count);
        let stats = client.stats();
        assert_eq!(stats.messages_received, count, "messages of {size} bytes");
        let most = (LIMIT + size) as u64 + SLACK;
        assert!(stats.bytes_read < most, "{} bytes are in memory", stats.bytes_read);
        let _ = client.terminate();
        assert_eq!(client.messages().count() as u64, count);
    }
}

#[test]
fn beats_that_are_answered_and_sends_go_on_while_nothing_is_taken() {
    let (_server, client, heard) = paused(true, MANY);
    client.send("still here").unwrap();
    assert_eq!(hear(&heard, 1), b"still here");
    assert_eq!(client.stats().messages_received, 10);
    (0..300).for_each(|n| take(&client, n));
    // The answers stood behind the messages, and count now.
    eventually("a round trip", || client.stats().round_trip.is_some());
    assert_eq!(client.stats().disconnects, 0);
    assert!(client.close().is_empty());
}

#[test]
fn a_peer_that_answers_nothing_is_not_judged_before_the_messages_are_taken() {
    let (_server, client, heard) = paused(false, MANY);
    client.send("still here").unwrap();
    assert_eq!(hear(&heard, 1), b"still here");
    assert_eq!(client.stats().disconnects, 0);
    (0..300).for_each(|n| take(&client, n));
    let (reason, _) = wait_for(&client, disconnected);
    assert!(matches!(reason, DisconnectReason::Lost(Error::HeartbeatTimeout { .. })), "{reason}");
    let _ = client.terminate();
}

#[test]
fn a_close_goes_through_while_nothing_is_taken() {
    let (_server, client, heard) = paused(true, SOME);
    client.send("last words").unwrap();
    assert!(client.close_with(4000, "enough").unwrap().is_empty(), "the server has confirmed it all");
    assert_eq!(hear(&heard, 1), b"last words");
    assert_eq!(hear(&heard, 8), b"\x0F\xA0enough");
    // What had arrived before is there, and no gap in it.
    let numbers: Vec<_> = client.messages().map(|message| message.as_bytes()[3]).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
}

#[test]
fn terminate_is_prompt_while_nothing_is_taken() {
    let (_server, client, _heard) = paused(true, SOME);
    let start = Instant::now();
    let _ = client.terminate();
    assert!(start.elapsed() < LONG, "that was a close: {:?}", start.elapsed());
    assert_eq!(client.messages().count(), 10);
}

#[test]
fn a_consumer_that_comes_and_goes_gets_everything_in_order() {
    const BOUND: u32 = 200;
    const ALL: u32 = 10 * BOUND;
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&numbered(ALL, 2000)).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let limit = QueueLimit::new(BOUND as usize, 16 << 20);
    let client = Client::connect(quick(&server.url()).events(limit)).unwrap();
    for taken in (0..ALL).step_by(BOUND as usize) {
        eventually("the bound", || client.stats().messages_received == u64::from(taken + BOUND));
        (taken..taken + BOUND).for_each(|n| take(&client, n));
    }
    let _ = client.terminate();
    assert_eq!(client.messages().count(), 0);
}

#[test]
fn a_consumer_that_comes_after_the_server_has_gone_gets_everything_and_the_reason() {
    let (gone_in, gone) = crossbeam_channel::bounded(1);
    let server = BareServer::start(move |n, mut stream| {
        if n == 0 {
            let goodbye = close_frame(4002, "gone");
            answer_with(&mut stream, &[numbered(300, 100), goodbye].concat());
            // Unread beats: the connection is reset.
            await_unread(&stream);
            drop(stream);
            gone_in.send(()).unwrap();
        } else {
            read_frames(&mut accept_raw(stream));
        }
    });
    let client = Client::connect(beating(&server.url())).unwrap();
    gone.recv_timeout(LONG).unwrap();
    let beats = client.stats().heartbeats;
    eventually("beats to nobody", || client.stats().heartbeats > beats + MANY);
    assert_eq!(client.stats().messages_received, 10);
    (0..300).for_each(|n| take(&client, n));
    let (reason, _) = wait_for(&client, disconnected);
    assert_eq!(reason.to_string(), r#"the server closed the line with close code 4002: "gone""#);
    let _ = client.terminate();
}

#[test]
fn a_small_bound_does_not_slow_a_consumer_that_takes_at_once() {
    // With a wait of 64 ms for the next look, each, they would take twice as long as is allowed.
    const COUNT: u32 = 625;
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&numbered(COUNT, 100)).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::connect(quick(&server.url()).events(QueueLimit::new(1, 1 << 20))).unwrap();
    let start = Instant::now();
    for n in 0..COUNT {
        take(&client, n);
        assert!(start.elapsed() < LONG, "{n} messages in {:?}", start.elapsed());
    }
    let _ = client.terminate();
}

#[test]
fn a_thread_that_takes_some_messages_and_then_only_sends_is_told_that_it_stalls() {
    let (_hold, held) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&numbered(100, 100)).unwrap();
        // Until the end of the test, nothing is read.
        let _ = held.recv();
    });
    let heartbeat = HeartbeatConfig::default().timeout(50 * MS);
    let limit = QueueLimit::new(1, 1 << 20);
    let config = quick(&server.url()).heartbeat(heartbeat).events(limit).outbox(limit);
    let client = Client::connect(config).unwrap();
    // Each of these ends a pause, and the next message begins one.
    (0..20).for_each(|n| take(&client, n));
    let sender = client.clone();
    let sending = thread::spawn(move || {
        let big = tautline::Message::from(vec![0; 256 << 10]);
        (0..10_000).find_map(|_| sender.send(big.clone()).err()).unwrap()
    });
    eventually("an end of the wait for room", || sending.is_finished());
    let error = sending.join().unwrap();
    assert!(matches!(error.kind(), SendErrorKind::ConsumerStalled { .. }), "{error:?}");
    let _ = client.terminate();
}

#[test]
fn a_pause_ends_with_its_connection() {
    let (upgrade, upgraded) = crossbeam_channel::bounded(1);
    let server = BareServer::start(move |n, mut stream| {
        if n == 0 {
            let mut stream = accept_raw(stream);
            stream.write_all(&numbered(2, 100)).unwrap();
            // From here on the client's writes fail.
            await_unread(&stream);
        } else {
            let head = common::read_head(&mut stream);
            upgraded.recv_timeout(LONG).unwrap();
            stream.write_all(common::good_answer(&head, "").as_bytes()).unwrap();
            while read_frame(&mut stream).is_some() {}
        }
    });
    let heartbeat = HeartbeatConfig::default().timeout(50 * MS);
    let limit = QueueLimit::new(1, 1 << 20);
    let config = quick(&server.url()).heartbeat(heartbeat).events(limit).outbox(limit).write_timeout(20 * MS);
    let client = Client::connect(config).unwrap();
    eventually("the bound", || client.stats().messages_received == 1);
    eventually("a loss", || {
        let _ = client.try_send("x");
        client.stats().disconnects == 1
    });
    // Everything is taken: whatever keeps a message from going out now, it is not the consumer.
    eventually("the end of the loss's events", || client.state() == ConnectionState::Connecting);
    assert_eq!(client.events().try_iter().filter(|event| matches!(event, Event::Message(_))).count(), 1);
    let (sent_in, sent) = crossbeam_channel::unbounded();
    let sender = client.clone();
    let sending = thread::spawn(move || {
        (0..3).for_each(|_| {
            sent_in.send(sender.send("behind the pause").map_err(|error| error.to_string())).unwrap();
        });
    });
    // The first or the second of them finds the outbox full, and waits for longer than a stalled consumer would.
    let mut outcomes = Vec::new();
    while let Ok(outcome) = sent.recv_timeout(500 * MS) {
        outcomes.push(outcome);
    }
    upgrade.send(()).unwrap();
    sending.join().unwrap();
    outcomes.extend(sent.iter());
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let _ = client.terminate();
}

#[test]
fn a_program_that_only_sends_survives_hundreds_of_outages() {
    const OUTAGES: u64 = 300;
    let server = BareServer::start(|n, stream| {
        let mut stream = accept_raw(stream);
        if n as u64 == OUTAGES {
            stream.write_all(&close_frame(1008, "enough")).unwrap();
            while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
        } else {
            // A message is taken, and others are not: a reset.
            read_frame(&mut stream);
        }
    });
    let client = Client::connect(quick(&server.url()).outbox(QueueLimit::new(10, 1 << 20))).unwrap();
    while client.send_timeout("x", LONG).is_ok() {
        assert!(client.events().len() <= 256 + 2, "besides: what was missed, and the end");
    }
    let why = client.wait_closed_timeout(LONG).expect("sending is stuck");
    assert!(matches!(why, CloseReason::NotRetried(DisconnectReason::ClosedByServer(_))), "{why}");
    let stats = client.stats();
    assert_eq!((stats.connects, stats.disconnects), (OUTAGES + 1, OUTAGES + 1));

    let events: Vec<_> = client.events().iter().collect();
    assert_eq!(events.len(), 256 + 2);
    // An outage has five events: three state changes, Connected, Disconnected. The end has seven.
    let all = 5 * OUTAGES + 7;
    let [.., Event::Missed { count, state, .. }, Event::Closed { reason, .. }] = &events[..] else {
        panic!("{:?}", events.last())
    };
    assert_eq!((*count, *state), (all - 256 - 1, ConnectionState::Closed));
    assert_eq!(reason.to_string(), why.to_string());
}

#[test]
fn a_program_that_only_sends_is_not_wedged_by_messages_it_never_takes() {
    const BOUND: usize = 5;
    let server = BareServer::start(|_, stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&numbered(1, 100)).unwrap();
        read_frame(&mut stream);
    });
    let config = quick(&server.url()).events(QueueLimit::new(BOUND, 1 << 20)).write_timeout(20 * MS);
    let client = Client::connect(config).unwrap();
    let start = Instant::now();
    while client.stats().connects < 4 * BOUND as u64 {
        // A full outbox is none of this test's business.
        let _ = client.try_send("x");
        assert!(
            start.elapsed() < LONG,
            "stuck in a connection that is gone: {:?}, {:?}",
            client.state(),
            client.stats()
        );
        thread::yield_now();
    }
    let _ = client.terminate();
    assert_eq!(client.messages().count(), BOUND);
}

#[test]
fn discarded_messages_are_read_and_cost_nothing() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&numbered(20_000, 100)).unwrap();
        stream.write_all(&close_frame(1000, "")).unwrap();
        read_frames(&mut stream);
    });
    let config = quick(&server.url()).inbound(Inbound::Discard).events(QueueLimit::new(5, 1000));
    let client = Client::connect(config).unwrap();
    client.wait_closed_timeout(LONG).unwrap().into_result().unwrap();
    assert_eq!(client.stats().messages_received, 20_000);
    assert!(client.events().iter().all(|event| !matches!(event, Event::Message(_))));
}

#[test]
fn a_receiver_that_is_dropped_takes_nothing_with_it() {
    let (_server, client, heard) = paused(true, SOME);
    drop(client.events().clone());
    client.send("still here").unwrap();
    assert_eq!(hear(&heard, 1), b"still here");
    (0..300).for_each(|n| take(&client, n));
    assert!(client.close().is_empty());
}

#[test]
fn a_client_that_is_dropped_while_nothing_is_taken_says_goodbye() {
    let (_server, client, heard) = paused(true, SOME);
    let events = client.events().clone();
    let start = Instant::now();
    drop(client);
    assert!(start.elapsed() < LONG, "the server's answer was not heard: {:?}", start.elapsed());
    assert_eq!(hear(&heard, 8), 1000_u16.to_be_bytes());
    let events: Vec<_> = events.iter().collect();
    assert_eq!(events.iter().filter(|event| matches!(event, Event::Message(_))).count(), 10);
    assert!(matches!(events.last(), Some(Event::Closed { reason: CloseReason::ByCaller, .. })));
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
    let _ = client.terminate();
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
    let _ = client.terminate();
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
    let _ = client.terminate();
    assert_eq!(sending.join().unwrap(), SendErrorKind::Closed);
    drop(release);
}
