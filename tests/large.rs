//! Messages that take longer than a heartbeat, and the fragments that let one pass.
#![expect(clippy::disallowed_methods, reason = "the sleeps are the slow line that is tested")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use common::{LONG, Server, accept_raw, eventually, frame, good_answer, quick, read_frame, read_head};
use crossbeam_channel::unbounded;
use tautline::{Client, ConnectionConfig, DisconnectReason, Error, Event, HeartbeatConfig, Limit};

const SIZE: usize = 64 << 20;

/// A beat every second, to be answered within a second.
fn beating(url: &str) -> ConnectionConfig {
    let beat = Duration::from_secs(1);
    let room = Limit::new(16, 2 * SIZE);
    let heartbeat = HeartbeatConfig::default().interval(beat).timeout(beat);
    quick(url).outbox(room).events(room).heartbeat(heartbeat)
}

/// Reads, or writes with `work`, 64 MiB in 32 steps of 100 ms each: longer than a peer may be silent.
fn slowly(mut work: impl FnMut(usize)) {
    for _ in 0..32 {
        work(SIZE / 32);
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Says what was lost, if anything was.
fn assert_never_lost(client: &Client) {
    let lost = client.events().try_iter().find(|event| matches!(event, Event::Disconnected { .. }));
    assert!(lost.is_none(), "{lost:?}");
    assert_eq!(client.stats().connects, 1);
}

/// A server whose system buffers no more than a slow line would: some let 32 MiB of an upload pile up, which a server that
/// reads slowly needs longer for than a heartbeat's answer may take.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // What is accepted from here on inherits it.
    socket2::SockRef::from(&listener).set_recv_buffer_size(1 << 20).unwrap();
    Server::start_on(listener, move |_, stream| serve(stream))
}

/// Reads 64 MiB slowly, and says nothing meanwhile: answers to pings come after it.
fn swallow_slowly(mut stream: impl Read + Write) {
    let head = read_head(&mut stream);
    stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
    stream.read_exact(&mut [0; 14]).unwrap();
    let mut buffer = vec![0; SIZE / 32];
    slowly(|bytes| stream.read_exact(&mut buffer[..bytes]).unwrap());
    while let Some((9, payload)) = read_frame(&mut stream) {
        stream.write_all(&frame(0x8A, &payload)).unwrap();
    }
}

#[test]
fn a_slow_upload_kills_nothing() {
    let server = server(swallow_slowly);
    let client = Client::connect(beating(&server.url())).unwrap();
    client.send(vec![7; SIZE]).unwrap();
    client.confirm(LONG).unwrap();
    assert_never_lost(&client);
    client.terminate();
}

#[test]
fn a_slow_upload_over_tls_kills_nothing() {
    let acceptor = common::tls_acceptor();
    let server = server(move |stream| {
        let Ok(stream) = acceptor.accept(stream) else { return };
        swallow_slowly(stream);
    });
    let heartbeat = beating("ws://h").heartbeat;
    let config = common::over_tls(&server).heartbeat(heartbeat).outbox(Limit::new(16, 2 * SIZE));
    let client = Client::builder(config).resolver(common::loopback).connect().unwrap();
    client.send(vec![7; SIZE]).unwrap();
    client.confirm(LONG).unwrap();
    assert_never_lost(&client);
    client.terminate();
}

#[test]
fn a_slow_download_kills_nothing() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&[0x82, 0x7F]).unwrap();
        stream.write_all(&(SIZE as u64).to_be_bytes()).unwrap();
        let buffer = vec![0; SIZE / 32];
        slowly(|bytes| stream.write_all(&buffer[..bytes]).unwrap());
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::start(beating(&server.url())).unwrap();
    let message = client.events().iter().find_map(Event::into_message).expect("the message");
    assert_eq!(message.len(), SIZE);
    assert_never_lost(&client);
    client.terminate();
}

#[test]
fn a_peer_that_stops_taking_a_large_upload_is_noticed() {
    let (gone, wait) = unbounded::<()>();
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        let _ = stream.read_exact(&mut vec![0; 1 << 20]);
        // Open, and silent, until the client has had enough.
        let _ = wait.recv();
    });
    let client = Client::connect(beating(&server.url())).unwrap();
    client.send(vec![7; SIZE]).unwrap();
    let (reason, _) = common::wait_for(&client, common::disconnected);
    assert!(matches!(&reason, DisconnectReason::Lost(Error::HeartbeatTimeout { .. })), "{reason}");
    client.terminate();
    drop(gone);
}

#[test]
fn a_large_message_goes_out_in_fragments_that_are_one_message() {
    let (saw, seen) = unbounded();
    let server = Server::start(move |n, stream| {
        if n == 0 {
            let mut stream = accept_raw(stream);
            while let Some((opcode, payload)) = read_frame(&mut stream) {
                saw.send((opcode, payload.len())).unwrap();
            }
        } else {
            common::echo(common::accept(stream));
        }
    });
    let config = quick(&server.url()).fragment(1000);
    let client = Client::connect(config.clone()).unwrap();
    for message in ["x".repeat(1000), "y".repeat(2000), "z".repeat(2001), "w".into()] {
        client.send(message).unwrap();
    }
    let next = || seen.recv_timeout(LONG).unwrap();
    assert_eq!(next(), (1, 1000), "as large as a fragment may be");
    assert_eq!([next(), next()], [(1, 1000), (0, 1000)]);
    assert_eq!([next(), next(), next()], [(1, 1000), (0, 1000), (0, 1)]);
    assert_eq!(next(), (1, 1));
    client.terminate();

    let client = Client::connect(config).unwrap();
    // Cut within a character of three bytes.
    let (text, bytes) = ("€".repeat(70_000), vec![7; 300_000]);
    client.send(text.as_str()).unwrap();
    client.send(bytes.clone()).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(&*text));
    assert_eq!(client.recv_timeout(LONG).unwrap().as_bytes(), bytes);
    client.send("x".repeat(5000)).unwrap();
    assert!(client.close().is_empty(), "the last fragment is out before the close frame");
}

#[test]
fn a_beat_passes_between_the_fragments_of_a_slow_upload() {
    let (saw, seen) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            if opcode == 9 {
                stream.write_all(&frame(0x8A, &payload)).unwrap();
            } else {
                // A line that takes a fragment in 15 ms.
                std::thread::sleep(Duration::from_millis(15));
            }
            saw.send(opcode).unwrap();
        }
    });
    let client = Client::connect(beating(&server.url()).fragment(64 << 10)).unwrap();
    client.send(vec![7; 8 << 20]).unwrap();
    client.confirm(LONG).unwrap();
    let opcodes: Vec<u8> = seen.try_iter().collect();
    let last = opcodes.iter().rposition(|opcode| *opcode == 0).expect("fragments");
    assert!(opcodes[..last].contains(&9), "a ping before the last fragment: {opcodes:?}");
    assert_eq!(opcodes.iter().filter(|opcode| **opcode < 8).count(), 128);
    eventually("the beat's answer", || client.stats().round_trip.is_some());
    assert_never_lost(&client);
    client.terminate();
}
