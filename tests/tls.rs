//! What TLS does to the bytes beneath a WebSocket: it takes them in pieces, holds some back, and says so to nobody.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/proc.rs"]
mod proc;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use common::{
    BareServer, LONG, Server, await_unread, disconnected, frame, good_answer, loopback, over_tls, read_frame,
    read_head, tls_acceptor, tls_acceptor_with, tls_connector, wait_for,
};
use native_tls::{Certificate, TlsConnector, TlsStream};
use tautline::{
    Client, ConnectionConfig, DisconnectReason, Error, HeartbeatConfig, Identity, Message, QueueLimit,
    TlsConfig,
};

#[test]
fn over_tls_with_a_root_of_our_own() {
    let acceptor = common::tls_acceptor();
    let server = Server::start(move |_, stream| {
        let Ok(stream) = acceptor.accept(stream) else { return };
        let mut socket = tungstenite::accept(stream).unwrap();
        while let Ok(message) = socket.read() {
            if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
                return;
            }
        }
    });
    let url = server.url().replace("ws://127.0.0.1", "wss://localhost");

    let error = Client::builder(&url).resolver(loopback).connect().unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    let at = url.trim_start_matches("wss://");
    assert!(error.to_string().starts_with(&format!("TLS with {at}: ")), "{error}");

    let client = Client::builder(common::over_tls(&server)).resolver(loopback).connect().unwrap();
    for size in [0, 5, 16 << 10, (16 << 10) + 1, 3 << 20] {
        let message = Message::from(vec![1; size]);
        client.send(message.clone()).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap(), message);
    }
    assert!(client.close().is_empty());
}

#[test]
fn a_private_authority_and_a_client_certificate_take_no_other_crate() {
    let server = server(|mut stream| while read_frame(&mut stream).is_some() {});
    let url = server.url().replace("ws://127.0.0.1", "wss://localhost");
    let connect = |config| Client::builder(config).resolver(loopback).connect();
    assert!(matches!(connect(ConnectionConfig::new(&url)), Err(Error::Tls { .. })), "nobody else trusts it");

    let root = tautline::Certificate::from_pem(include_bytes!("data/ca.pem"));
    let (certificate, key) = (include_bytes!("data/server.pem"), include_bytes!("data/server.key"));
    let tls = TlsConfig::default().root(root).identity(Identity::from_pem(certificate, key));
    let client = connect(ConnectionConfig::new(&url).tls(tls)).unwrap();
    assert!(client.handshake().unwrap().timings.tls.is_some());
    let _ = client.terminate();
}

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
    // Each byte waits for the processor.
    let client = connect(over_tls(&server).connect_timeout(3 * LONG));
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
    let _ = client.terminate();
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
    for limit in [QueueLimit::default(), QueueLimit::new(1, 1 << 20)] {
        let client = connect(over_tls(&server).events(limit));
        for n in 0..COUNT {
            assert_eq!(client.recv_timeout(LONG).unwrap().as_bytes(), [n; 10]);
        }
        let _ = client.terminate();
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
    let (io_in, io) = crossbeam_channel::unbounded();
    let config =
        over_tls(&server).outbox(QueueLimit::new(4, 4 * PARTS * PART)).heartbeat(HeartbeatConfig::off());
    let client = Client::builder(config).resolver(loopback);
    let client = client.on_event_ready(move || io_in.send(proc::this_thread()).unwrap()).connect().unwrap();
    let send = |size: usize| {
        client.send(vec![7; size]).unwrap();
        arrived.recv_timeout(LONG).unwrap();
    };
    let number = io.recv_timeout(LONG).unwrap();
    let ticks = || proc::threads()[&number].ticks;
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
    let _ = client.terminate();
}

/// The error of a client that can't connect, whose chain of causes says nothing twice, and its text.
fn refused(config: ConnectionConfig) -> (Error, String) {
    let error = Client::builder(config).resolver(loopback).connect().unwrap_err();
    let first: &dyn std::error::Error = &error;
    let texts: Vec<_> =
        std::iter::successors(Some(first), |error| error.source()).map(ToString::to_string).collect();
    for (at, text) in texts.iter().enumerate() {
        assert!(!texts[..at].iter().any(|before| before.contains(text.as_str())), "{texts:?}");
    }
    let shown = error.to_string();
    (error, shown)
}

/// A server that does `serve` with the raw stream once the client has said something.
fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> BareServer {
    BareServer::start(move |_, stream| {
        await_unread(&stream);
        serve(stream);
    })
}

/// Reads what the client says first.
fn hear(stream: &mut TcpStream) {
    assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
}

#[test]
fn plain_to_a_port_that_speaks_tls_says_so_and_what_to_do() {
    let resets = raw(drop);
    let ends = raw(|mut stream| hear(&mut stream));
    let alerts = raw(|mut stream| {
        hear(&mut stream);
        stream.write_all(&[0x15, 3, 1, 0, 2, 2, 10]).unwrap();
    });
    let begins_to = raw(|mut stream| {
        hear(&mut stream);
        stream.write_all(&[0x15]).unwrap();
    });
    let acceptor = tls_acceptor();
    let real = raw(move |stream| drop(acceptor.accept(stream)));
    for (how, server, sure) in [
        ("resets", resets, Some(false)),
        ("ends", ends, Some(false)),
        ("alerts", alerts, Some(true)),
        ("alerts in pieces", begins_to, Some(true)),
        // Its reset may overtake its alert.
        ("is real", real, None),
    ] {
        let (error, shown) = refused(ConnectionConfig::new(server.url()));
        let at = server.address();
        assert!(matches!(error, Error::Upgrade { .. }), "{how}: {error:?}");
        assert!(shown.starts_with(&format!("{at} did not answer")), "{how}: {shown}");
        assert!(shown.ends_with(&format!("use wss://{at}")), "{how}: {shown}");
        let says = match sure {
            Some(true) => "it speaks TLS on port ",
            Some(false) => "if the server speaks TLS on port ",
            None => "speaks TLS on port ",
        };
        assert!(shown.contains(&format!("{says}{}", at.port())), "{how}: {shown}");
    }
}

#[test]
fn tls_to_a_port_that_speaks_plain_says_so_and_what_to_do() {
    let answers = |answer: &'static [u8]| {
        raw(move |mut stream| {
            hear(&mut stream);
            stream.write_all(answer).unwrap();
        })
    };
    let speaks_first = BareServer::start(|_, mut stream| {
        stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").unwrap();
        let _ = stream.read(&mut [0; 4096]);
    });
    for (how, server, says, cause) in [
        ("resets", raw(drop), "ended the connection instead of answering", ""),
        ("ends", raw(|mut stream| hear(&mut stream)), "ended the connection instead of answering", ""),
        (
            "answers",
            answers(b"HTTP/1.1 400 Bad UpgradeRequest\r\n\r\n"),
            "is not TLS",
            "HTTP/1.1 400 Bad UpgradeRequest",
        ),
        ("answers with a byte", answers(b"\n"), "is not TLS", r"\n"),
        ("speaks first", speaks_first, "is not TLS", "SSH-2.0-OpenSSH_9.9"),
    ] {
        let at = format!("localhost:{}", server.address().port());
        let (error, shown) = refused(ConnectionConfig::new(format!("wss://{at}")).tls(tls_connector()));
        let Error::Tls { host, source, .. } = &error else { panic!("{how}: {error:?}") };
        assert_eq!(**host, *at);
        assert!(shown.contains(says) && shown.ends_with(&format!("use ws://{at}")), "{how}: {shown}");
        assert!(source.to_string().contains(cause), "{how}: {source}");
    }
}

#[test]
fn a_certificate_that_is_no_good_is_told_in_words_with_what_to_do() {
    let good = &include_bytes!("data/server.pem")[..];
    let expired = &include_bytes!("data/expired.pem")[..];
    let not_yet_valid = &include_bytes!("data/not_yet_valid.pem")[..];
    let self_signed = &include_bytes!("data/self_signed.pem")[..];
    let trusting = |certificate| {
        let root = Certificate::from_pem(certificate).unwrap();
        TlsConnector::builder().add_root_certificate(root).build().unwrap()
    };
    let nobody = || TlsConnector::new().unwrap();
    for (what, certificate, connector, name, says, to_do) in [
        ("expired", expired, trusting(expired), "localhost", "has expired", "has to be renewed"),
        ("not yet valid", not_yet_valid, trusting(not_yet_valid), "localhost", "not valid yet", "clock"),
        (
            "wrong name",
            good,
            tls_connector(),
            "other.test",
            "not for the name other.test",
            "a name that is in it",
        ),
        (
            "unknown issuer",
            good,
            nobody(),
            "localhost",
            "by nobody whom this system trusts",
            "ConnectionConfig::tls",
        ),
        ("self-signed", self_signed, nobody(), "localhost", "is self-signed", "ConnectionConfig::tls"),
    ] {
        let acceptor = tls_acceptor_with(certificate);
        let server = Server::start(move |_, stream| drop(acceptor.accept(stream)));
        let at = format!("{name}:{}", server.address().port());
        let (error, shown) = refused(ConnectionConfig::new(format!("wss://{at}")).tls(connector));
        assert!(matches!(error, Error::Tls { .. }), "{what}: {error:?}");
        assert!(shown.starts_with(&format!("TLS with {at}: ")), "{what}: {shown}");
        // Windows does not tell an end from a beginning, and only OpenSSL tells what signs itself.
        let exact = cfg!(not(any(windows, target_vendor = "apple")));
        assert!(!exact || (shown.contains(says) && shown.contains(to_do)), "{what}: {shown}");
        assert!(!shown.contains("SSL routines"), "{what}: {shown}");
    }
}

/// A stream that can keep what is written for later.
struct Gathering {
    stream: TcpStream,
    gathered: Option<Vec<u8>>,
}

impl Read for Gathering {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Gathering {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match &mut self.gathered {
            Some(gathered) => gathered.write(bytes),
            None => self.stream.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

#[test]
fn a_broken_record_behind_the_upgrade_is_an_error_of_tls_and_no_end() {
    let acceptor = tls_acceptor();
    let server = BareServer::start(move |_, stream| {
        let Ok(mut stream) = acceptor.accept(Gathering { stream, gathered: None }) else { return };
        let answer = good_answer(&read_head(&mut stream), "");
        stream.get_mut().gathered = Some(Vec::new());
        stream.write_all(answer.as_bytes()).unwrap();
        let mut bytes = stream.get_mut().gathered.take().unwrap();
        // A record that nobody has encrypted.
        bytes.extend([&[0x17, 3, 3, 0, 32][..], &[0xAA; 32]].concat());
        stream.get_mut().write_all(&bytes).unwrap();
        let _ = stream.read(&mut [0; 1]);
    });
    let config = ConnectionConfig::new(format!("wss://localhost:{}", server.address().port()));
    let config = config.tls(tls_connector()).heartbeat(HeartbeatConfig::off());
    let client = Client::builder(config).resolver(loopback).connect().unwrap();
    let (reason, _) = wait_for(&client, disconnected);
    let DisconnectReason::Lost(Error::ConnectionLost { source: Some(source), .. }) = &reason else {
        panic!("{reason:?}")
    };
    assert!(!source.to_string().is_empty());
    let _ = client.terminate();
}
