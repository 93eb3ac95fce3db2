//! Messages that take longer than a heartbeat, and the fragments that let one pass.
#![expect(clippy::disallowed_methods, reason = "the sleeps are the slow line that is tested")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use common::{LONG, Server, accept_raw, eventually, frame, good_answer, quick, read_frame, read_head};
use crossbeam_channel::unbounded;
use tautline::{Client, ConnectionConfig, DisconnectReason, Error, Event, HeartbeatConfig, QueueLimit};

const SIZE: usize = 64 << 20;

/// In so many steps a slow server takes a large message, or sends one.
const STEPS: usize = 40;
const STEP: usize = SIZE / STEPS;

/// A beat every second, to be answered within two.
fn heartbeat() -> HeartbeatConfig {
    HeartbeatConfig::default().interval(Duration::from_secs(1)).timeout(Duration::from_secs(2))
}

fn beating(url: &str) -> ConnectionConfig {
    let room = QueueLimit::new(16, 2 * SIZE);
    quick(url).outbox(room).events(room).heartbeat(heartbeat())
}

/// Does the steps, of 100 ms each: together they take longer than a peer may be silent.
fn slowly(mut step: impl FnMut()) {
    for _ in 0..STEPS {
        step();
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until the server has it all.
fn assert_confirmed(client: &Client) {
    let confirmed = client.confirm(.., LONG);
    assert_never_lost(client);
    confirmed.unwrap();
}

/// Says what was lost, if anything was.
fn assert_never_lost(client: &Client) {
    let lost = client.events().try_iter().find(|event| matches!(event, Event::Disconnected { .. }));
    assert!(lost.is_none(), "{lost:?}");
    assert_eq!(client.stats().connects, 1);
}

/// A server whose system buffers no more than a slow line would, and less than a step: a beat waits behind it. Some let
/// 32 MiB of an upload pile up, which a server that reads slowly needs longer for than a heartbeat's answer may take.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // What is accepted from here on inherits it.
    socket2::SockRef::from(&listener).set_recv_buffer_size(256 << 10).unwrap();
    Server::start_on(listener, move |_, stream| serve(stream))
}

/// Reads 64 MiB slowly, and says nothing meanwhile: answers to pings come before it and after it.
fn swallow_slowly(mut stream: impl Read + Write) {
    let head = read_head(&mut stream);
    stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
    let mut first = [0; 2];
    // A client that comes late with its message sends pings first.
    loop {
        stream.read_exact(&mut first).unwrap();
        if first[1] == 0x80 | 0x7F {
            break;
        }
        answer(&mut stream, first);
    }
    // The rest of its header: the length, and the mask.
    stream.read_exact(&mut [0; 12]).unwrap();
    let mut buffer = vec![0; STEP];
    slowly(|| stream.read_exact(&mut buffer).unwrap());
    stream.read_exact(&mut buffer[..SIZE % STEPS]).unwrap();
    answer_all(&mut stream);
}

/// Answers pings until the end of the stream.
fn answer_all(stream: &mut (impl Read + Write)) {
    let mut first = [0; 2];
    while stream.read_exact(&mut first).is_ok() {
        answer(stream, first);
    }
}

/// Reads the frame that begins with these bytes, and answers it if it is a ping.
fn answer(stream: &mut (impl Read + Write), first: [u8; 2]) {
    if let Some((9, payload)) = read_frame(&mut first.chain(&mut *stream)) {
        stream.write_all(&frame(0x8A, &payload)).unwrap();
    }
}

#[test]
fn a_slow_upload_kills_nothing() {
    let server = server(swallow_slowly);
    let client = Client::connect(beating(&server.url())).unwrap();
    client.send(vec![7; SIZE]).unwrap();
    assert_confirmed(&client);
    let _ = client.terminate();
}

#[cfg(feature = "native-tls")]
#[test]
fn a_slow_upload_over_tls_kills_nothing() {
    let acceptor = common::tls_acceptor();
    let server = server(move |stream| {
        let Ok(stream) = acceptor.accept(stream) else { return };
        swallow_slowly(stream);
    });
    let config = common::over_tls(&server).heartbeat(heartbeat()).outbox(QueueLimit::new(16, 2 * SIZE));
    let client = Client::builder(config).resolver(common::loopback).connect().unwrap();
    client.send(vec![7; SIZE]).unwrap();
    assert_confirmed(&client);
    let _ = client.terminate();
}

#[test]
fn a_slow_download_kills_nothing() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&[0x82, 0x7F]).unwrap();
        stream.write_all(&(SIZE as u64).to_be_bytes()).unwrap();
        let buffer = vec![0; STEP];
        slowly(|| stream.write_all(&buffer).unwrap());
        stream.write_all(&buffer[..SIZE % STEPS]).unwrap();
        answer_all(&mut stream);
    });
    let client = Client::start(beating(&server.url())).unwrap();
    let message = client.events().iter().find_map(Event::into_message).expect("the message");
    assert_eq!(message.len(), SIZE);
    assert_never_lost(&client);
    let _ = client.terminate();
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
    let _ = client.terminate();
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
    let _ = client.terminate();

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
    let server = server(move |stream| {
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
    assert_confirmed(&client);
    let opcodes: Vec<u8> = seen.try_iter().collect();
    let last = opcodes.iter().rposition(|opcode| *opcode == 0).expect("fragments");
    assert!(opcodes[..last].contains(&9), "a ping before the last fragment: {opcodes:?}");
    assert_eq!(opcodes.iter().filter(|opcode| **opcode < 8).count(), 128);
    eventually("the beat's answer", || client.stats().round_trip.is_some());
    assert_never_lost(&client);
    let _ = client.terminate();
}
