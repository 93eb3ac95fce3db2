//! What TLS does to the bytes beneath a WebSocket: it takes them in pieces, holds some back, and says so to nobody.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/proc.rs"]
mod proc;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use common::{LONG, Server, frame, good_answer, loopback, over_tls, read_frame, read_head, tls_acceptor};
use native_tls::TlsStream;
use tautline::{Client, ConnectionConfig, HeartbeatConfig, Limit};

/// A server over TLS that does `serve` once a connection is upgraded.
fn server(serve: impl Fn(TlsStream<TcpStream>) + Send + Sync + 'static) -> Server {
    let acceptor = tls_acceptor();
    Server::start(move |_, stream| {
        let Ok(mut stream) = acceptor.accept(stream) else { return };
        let answer = good_answer(&read_head(&mut stream), "");
        stream.write_all(answer.as_bytes()).unwrap();
        serve(stream);
    })
}

fn connect(config: ConnectionConfig) -> Client {
    Client::builder(config.heartbeat(HeartbeatConfig::off())).resolver(loopback).connect().unwrap()
}

/// Passes everything on to a server at `port`, and what that says in single bytes.
fn in_single_bytes(mut client: TcpStream, port: u16) {
    let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let there = thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Write);
    });
    let mut byte = [0];
    while server.read(&mut byte).is_ok_and(|n| n == 1) && client.write_all(&byte).is_ok() {
        thread::yield_now();
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    there.join().unwrap();
}

#[test]
fn a_handshake_and_messages_in_single_bytes_are_waited_for() {
    let acceptor = tls_acceptor();
    let behind = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = behind.local_addr().unwrap().port();
    let echoing = thread::spawn(move || {
        let (stream, _) = behind.accept().unwrap();
        let mut socket = tungstenite::accept(acceptor.accept(stream).unwrap()).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() {
                socket.send(message).unwrap();
            }
        }
    });
    let server = Server::start(move |_, stream| in_single_bytes(stream, port));
    let client = connect(over_tls(&server));
    for text in ["hello", "and on"] {
        client.send(text).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(text));
    }
    assert!(client.close().never_written.is_empty());
    echoing.join().unwrap();
}

#[test]
fn the_dot_behind_an_absolute_name_is_sent_and_not_checked() {
    let acceptor = tls_acceptor();
    let (head_in, head) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let Ok(mut stream) = acceptor.accept(stream) else { return };
        let request = read_head(&mut stream);
        stream.write_all(good_answer(&request, "").as_bytes()).unwrap();
        head_in.send(request).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let mut config = over_tls(&server);
    config.url = config.url.replace("localhost", "localhost.");
    let client = connect(config);
    let host = format!("\r\nHost: localhost.:{}\r\n", server.address().port());
    let request = head.recv_timeout(LONG).unwrap();
    assert!(request.contains(&host), "{request}");
    client.terminate();
}

#[test]
fn messages_in_one_record_arrive_though_the_socket_falls_silent() {
    const COUNT: u8 = 100;
    let server = server(|mut stream| {
        let messages: Vec<u8> = (0..COUNT).flat_map(|n| frame(0x82, &[n; 10])).collect();
        stream.write_all(&messages).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    // With the smaller bound, reading stops while TLS still holds nearly all of them.
    for limit in [Limit::default(), Limit::new(1, 1 << 20)] {
        let client = connect(over_tls(&server).events(limit));
        for n in 0..COUNT {
            assert_eq!(client.recv_timeout(LONG).unwrap().as_bytes(), [n; 10]);
        }
        client.terminate();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_large_message_takes_no_more_work_than_its_parts() {
    const PARTS: usize = 16;
    const PART: usize = 4 << 20;
    let (arrived_in, arrived) = crossbeam_channel::unbounded();
    let server = server(move |mut stream| {
        let mut buffer = vec![0; 1 << 20];
        loop {
            // The header of a frame with a length of eight bytes, and its mask.
            let mut header = [0; 14];
            if stream.read_exact(&mut header).is_err() || header[1] != 0xFF {
                return;
            }
            let length = u64::from_be_bytes(header[2..10].try_into().unwrap());
            let mut left = usize::try_from(length).unwrap();
            while left > 0 {
                let some = left.min(buffer.len());
                stream.read_exact(&mut buffer[..some]).unwrap();
                left -= some;
            }
            arrived_in.send(()).unwrap();
        }
    });
    let client = connect(over_tls(&server).outbox(Limit::new(4, 4 * PARTS * PART)));
    let send = |size: usize| {
        client.send(vec![7; size]).unwrap();
        arrived.recv_timeout(LONG).unwrap();
    };
    // Those of other tests have little to do.
    let ticks = || proc::threads().values().map(|thread| thread.ticks).sum::<u64>();
    let work = |sends: &dyn Fn()| {
        let before = ticks();
        sends();
        ticks() - before
    };
    send(PART);
    let parts = work(&|| (0..PARTS).for_each(|_| send(PART)));
    let whole = work(&|| send(PARTS * PART));
    // With a buffer that is moved to the front for each 16 KiB that TLS takes, it is sixteen times as much.
    assert!(whole < 5 * (parts + 2), "{whole}0 ms, and {parts}0 ms for the parts");
    client.terminate();
}
