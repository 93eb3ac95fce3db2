//! What TLS does to the bytes beneath a WebSocket: it takes them in pieces, holds some back, and says so to nobody.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/proc.rs"]
mod proc;
#[path = "common/tunnel.rs"]
mod tunnel;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    BareServer, LONG, Server, await_unread, disconnected, frame, good_answer, loopback, read_frame,
    read_head, tls_acceptor, tls_acceptor_with, wait_for,
};
use native_tls::TlsStream;
use sha2::Digest;
use tautline::{
    Certificate, Client, ConnectionConfig, DisconnectReason, Error, HeartbeatConfig, Identity, Message,
    QueueLimit, TlsBackend, TlsConfig, TlsErrorKind, TlsVersion,
};

/// Makes tests of each behaviour, a function that gets a backend: one with each that is there.
macro_rules! with_each_backend {
    ($($behaviour:ident,)*) => {
        $(
            mod $behaviour {
                use tautline::TlsBackend;

                #[test]
                fn native_tls() {
                    super::$behaviour(TlsBackend::NativeTls);
                }

                #[cfg(feature = "rustls")]
                #[test]
                fn rustls() {
                    super::$behaviour(TlsBackend::Rustls);
                }
            }
        )*
    };
}

with_each_backend! {
    each_phase_of_an_attempt_over_tls_has_the_time_that_it_took,
    over_tls_with_a_root_of_our_own,
    a_private_authority_and_a_client_certificate_take_no_other_crate,
    a_handshake_and_messages_in_single_bytes_are_waited_for,
    the_dot_behind_an_absolute_name_is_sent_and_not_checked,
    messages_in_one_record_arrive_though_the_socket_falls_silent,
    tls_to_a_port_that_speaks_plain_says_so_and_what_to_do,
    a_certificate_that_is_no_good_is_told_in_words_with_what_to_do,
    a_handshake_that_the_server_refuses_may_lack_a_certificate_of_the_client,
    an_end_instead_of_an_answer_may_be_about_a_certificate_of_the_client,
    a_broken_record_behind_the_upgrade_is_an_error_of_tls_and_no_end,
    a_pinned_certificate_is_compared_before_a_byte_of_the_request_goes_out,
    a_pin_alone_trusts_a_certificate_that_nobody_vouches_for,
    a_certificate_that_has_signed_itself_is_trusted_as_a_root_for_its_names_alone,
    another_name_is_asked_for_and_checked,
    what_is_wrong_with_the_certificate_of_a_proxy_is_said_of_the_proxy,
    a_version_that_the_server_does_not_speak_is_refused_with_what_to_do,
    what_can_not_be_used_is_refused_at_the_start_with_what_to_do,
}

#[cfg(feature = "rustls")]
with_each_backend! {
    a_server_that_requires_a_certificate_gets_it_or_the_error_says_so,
}

#[cfg(target_os = "linux")]
with_each_backend! {
    a_large_message_takes_no_more_work_than_its_parts,
}

fn ca() -> Certificate {
    Certificate::from_pem(include_bytes!("data/ca.pem"))
}

/// Trusts the servers of these tests.
fn trusting(backend: TlsBackend) -> TlsConfig {
    TlsConfig::default().root(ca()).backend(backend)
}

fn over_tls(server: &Server, backend: TlsBackend) -> ConnectionConfig {
    common::over_tls(server).tls(trusting(backend))
}

fn over_tls_with_a_root_of_our_own(backend: TlsBackend) {
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
    let mut config = over_tls(&server, backend);
    config.tls.roots.clear();
    let error = Client::builder(&config).resolver(loopback).connect().unwrap_err();
    assert!(matches!(error, Error::Tls { .. }), "{error:?}");
    let at = config.url.trim_start_matches("wss://");
    assert!(error.to_string().starts_with(&format!("TLS with {at}: ")), "{error}");

    for only in [false, true] {
        let tls = trusting(backend).only_these_roots(only);
        let client =
            Client::builder(common::over_tls(&server).tls(tls)).resolver(loopback).connect().unwrap();
        for size in [0, 5, 16 << 10, (16 << 10) + 1, 3 << 20] {
            let message = Message::from(vec![1; size]);
            client.send(message.clone()).unwrap();
            assert_eq!(client.recv_timeout(LONG).unwrap(), message);
        }
        assert!(client.close().is_empty());
    }
}

fn a_private_authority_and_a_client_certificate_take_no_other_crate(backend: TlsBackend) {
    let server = server(|mut stream| while read_frame(&mut stream).is_some() {});
    let (certificate, key) = (include_bytes!("data/client.pem"), include_bytes!("data/client.key"));
    let own = Identity::from_pem(certificate, key);
    let tls = TlsConfig::default().backend(backend).root(ca()).identity(own);
    let config = common::over_tls(&server).tls(tls);
    let client = Client::builder(config).resolver(loopback).connect().unwrap();
    assert!(client.handshake().unwrap().timings.tls.is_some());
    let _ = client.terminate();
}

/// How long a phase takes that is measured.
const PAUSE: Duration = Duration::from_millis(30);

fn each_phase_of_an_attempt_over_tls_has_the_time_that_it_took(backend: TlsBackend) {
    let acceptor = tls_acceptor();
    let server = Server::start(move |_, stream| {
        // Only once the client has begun with TLS.
        await_unread(&stream);
        thread::sleep(PAUSE);
        let Ok(mut stream) = acceptor.accept(stream) else { return };
        let head = read_head(&mut stream);
        thread::sleep(PAUSE);
        stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::builder(over_tls(&server, backend))
        .resolver(|host, port| {
            thread::sleep(PAUSE);
            loopback(host, port)
        })
        .fetch(|request| {
            thread::sleep(PAUSE);
            Ok(request)
        });
    let start = Instant::now();
    let client = client.connect().unwrap();
    let took = start.elapsed();
    let all = client.handshake().unwrap().timings;
    for (phase, time) in
        [("fetch", all.fetch), ("resolve", all.resolve), ("tls", all.tls), ("upgrade", all.upgrade)]
    {
        assert!(time.is_some_and(|time| time >= PAUSE), "{phase}: {all:?}");
    }
    let phases = [all.fetch, all.resolve, all.connect, all.tls, all.upgrade];
    let sum = phases.into_iter().map(Option::unwrap).sum();
    assert!(all.total >= sum && all.total <= took, "{all:?} in {took:?}");
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

fn a_handshake_and_messages_in_single_bytes_are_waited_for(backend: TlsBackend) {
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
    let client = connect(over_tls(&server, backend).connect_timeout(3 * LONG));
    for text in ["hello", "and on"] {
        client.send(text).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(text));
    }
    assert!(client.close().never_written.is_empty());
    echoing.join().unwrap();
}

fn the_dot_behind_an_absolute_name_is_sent_and_not_checked(backend: TlsBackend) {
    let acceptor = tls_acceptor();
    let (head_in, head) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let Ok(mut stream) = acceptor.accept(stream) else { return };
        let request = read_head(&mut stream);
        stream.write_all(good_answer(&request, "").as_bytes()).unwrap();
        head_in.send(request).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let mut config = over_tls(&server, backend);
    config.url = config.url.replace("localhost", "localhost.");
    let client = connect(config);
    let host = format!("\r\nHost: localhost.:{}\r\n", server.address().port());
    let request = head.recv_timeout(LONG).unwrap();
    assert!(request.contains(&host), "{request}");
    let _ = client.terminate();
}

fn messages_in_one_record_arrive_though_the_socket_falls_silent(backend: TlsBackend) {
    const COUNT: u8 = 100;
    let server = server(|mut stream| {
        let messages: Vec<u8> = (0..COUNT).flat_map(|n| frame(0x82, &[n; 10])).collect();
        stream.write_all(&messages).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    // With the smaller bound, reading stops while TLS still holds nearly all of them.
    for limit in [QueueLimit::default(), QueueLimit::new(1, 1 << 20)] {
        let client = connect(over_tls(&server, backend).events(limit));
        for n in 0..COUNT {
            assert_eq!(client.recv_timeout(LONG).unwrap().as_bytes(), [n; 10]);
        }
        let _ = client.terminate();
    }
}

#[cfg(target_os = "linux")]
fn a_large_message_takes_no_more_work_than_its_parts(backend: TlsBackend) {
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
    let config = over_tls(&server, backend)
        .outbox(QueueLimit::new(4, 4 * PARTS * PART))
        .heartbeat(HeartbeatConfig::off());
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

/// What kept TLS with the server, or with the proxy, from being set up.
fn kind(error: &Error) -> TlsErrorKind {
    match error {
        Error::Tls { kind, .. } => *kind,
        Error::Proxy(error) => kind(error.source.as_ref().and_then(|source| source.downcast_ref()).unwrap()),
        other => panic!("{other:?}"),
    }
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

const ENDED: &str = "ended the connection instead of answering";

fn tls_to_a_port_that_speaks_plain_says_so_and_what_to_do(backend: TlsBackend) {
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
        ("resets", raw(drop), ENDED, ""),
        ("ends", raw(|mut stream| hear(&mut stream)), ENDED, ""),
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
        let (error, shown) = refused(ConnectionConfig::new(format!("wss://{at}")).tls(trusting(backend)));
        let Error::Tls { host, source, .. } = &error else { panic!("{how}: {error:?}") };
        assert_eq!(**host, *at);
        let expected = if says == ENDED { TlsErrorKind::Ended } else { TlsErrorKind::NotTls };
        assert_eq!(kind(&error), expected, "{how}");
        assert!(shown.contains(says) && shown.ends_with(&format!("use ws://{at}")), "{how}: {shown}");
        assert!(source.to_string().contains(cause), "{how}: {source}");
    }
}

fn a_certificate_that_is_no_good_is_told_in_words_with_what_to_do(backend: TlsBackend) {
    let good = &include_bytes!("data/server.pem")[..];
    let expired = &include_bytes!("data/expired.pem")[..];
    let not_yet_valid = &include_bytes!("data/not_yet_valid.pem")[..];
    let self_signed = &include_bytes!("data/self_signed.pem")[..];
    let alone =
        |certificate: &[u8]| TlsConfig::default().backend(backend).root(Certificate::from_pem(certificate));
    let nobody = || TlsConfig::default().backend(backend);
    for (what, certificate, tls, name, says, to_do) in [
        (TlsErrorKind::Expired, expired, alone(expired), "localhost", "has expired", "has to be renewed"),
        (
            TlsErrorKind::NotYetValid,
            not_yet_valid,
            alone(not_yet_valid),
            "localhost",
            "not valid yet",
            "clock",
        ),
        (
            TlsErrorKind::WrongName,
            good,
            trusting(backend),
            "other.test",
            "not for the name other.test",
            "TlsConfig::server_name",
        ),
        (
            TlsErrorKind::UnknownIssuer,
            good,
            nobody(),
            "localhost",
            "by nobody whom this system trusts",
            "TlsConfig::root",
        ),
        (
            TlsErrorKind::UnknownIssuer,
            self_signed,
            nobody(),
            "localhost",
            "is self-signed",
            "TlsConfig::root",
        ),
    ] {
        let acceptor = tls_acceptor_with(certificate);
        let server = Server::start(move |_, stream| drop(acceptor.accept(stream)));
        let at = format!("{name}:{}", server.address().port());
        let (error, shown) = refused(ConnectionConfig::new(format!("wss://{at}")).tls(tls));
        assert!(shown.starts_with(&format!("TLS with {at}: ")), "{what:?}: {shown}");
        // Windows does not tell an end from a beginning, and only OpenSSL tells what signs itself.
        let exact = cfg!(not(any(windows, target_vendor = "apple")));
        assert!(
            !exact || (kind(&error) == what && shown.contains(says) && shown.contains(to_do)),
            "{what:?}: {error:?}"
        );
        assert!(!shown.contains("SSL routines"), "{what:?}: {shown}");
    }
}

/// OpenSSL's servers send this alert over TLS 1.2 to a client that has no certificate.
fn a_handshake_that_the_server_refuses_may_lack_a_certificate_of_the_client(backend: TlsBackend) {
    let server = raw(|mut stream| {
        hear(&mut stream);
        stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]).unwrap();
    });
    let config = ConnectionConfig::new(format!("wss://localhost:{}", server.address().port()));
    let (error, shown) = refused(config.tls(trusting(backend)));
    assert_eq!(kind(&error), TlsErrorKind::Refused, "{shown}");
    assert!(shown.contains("TlsConfig::identity") && shown.contains("no TLS version"), "{shown}");
}

fn an_end_instead_of_an_answer_may_be_about_a_certificate_of_the_client(backend: TlsBackend) {
    // The one ends as TLS does, and the other as TCP alone.
    for with_alert in [true, false] {
        let acceptor = tls_acceptor();
        let server = Server::start(move |_, stream| {
            let Ok(mut stream) = acceptor.accept(stream) else { return };
            let _ = read_head(&mut stream);
            if with_alert {
                let _ = stream.shutdown();
            }
        });
        let (error, shown) = refused(over_tls(&server, backend));
        assert!(matches!(error, Error::Upgrade { .. }), "{error:?}");
        assert!(shown.contains("it ended the connection without a word; if the server wants"), "{shown}");
        assert!(shown.ends_with("set the right one by TlsConfig::identity"), "{shown}");
    }
}

/// The fingerprint of a certificate in a PEM file, as openssl prints it.
fn fingerprint(pem: &[u8]) -> String {
    let pem = std::str::from_utf8(pem).unwrap();
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = data_encoding::BASE64.decode(base64.as_bytes()).unwrap();
    sha2::Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

fn of_self_signed() -> String {
    fingerprint(include_bytes!("data/self_signed.pem"))
}

fn of_server() -> String {
    fingerprint(include_bytes!("data/server.pem"))
}

/// A server with this certificate, and what each client sent behind the handshake.
fn hearing(certificate: &'static [u8]) -> (Server, crossbeam_channel::Receiver<String>) {
    let acceptor = tls_acceptor_with(certificate);
    let (heard_in, heard) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let Ok(mut stream) = acceptor.accept(stream) else { return };
        let request = read_head(&mut stream);
        let answer = (!request.is_empty()).then(|| good_answer(&request, ""));
        heard_in.send(request).unwrap();
        if let Some(answer) = answer {
            stream.write_all(answer.as_bytes()).unwrap();
            while read_frame(&mut stream).is_some() {}
        }
    });
    (server, heard)
}

fn a_pinned_certificate_is_compared_before_a_byte_of_the_request_goes_out(backend: TlsBackend) {
    let (server, heard) = hearing(include_bytes!("data/server.pem"));
    let (own, other) = (of_server(), of_self_signed());
    let with_pin = |pin: &str| common::over_tls(&server).tls(trusting(backend).pin(pin));
    let (error, shown) = refused(with_pin(&other));
    assert_eq!(kind(&error), TlsErrorKind::Pin);
    assert!(shown.contains(&format!("its SHA-256 fingerprint is {own};")), "{shown}");
    assert!(shown.contains("TlsConfig::pin"), "{shown}");
    assert_eq!(heard.recv_timeout(LONG).unwrap(), "", "the server has heard nothing");
    for pin in [&own, &own.to_lowercase().replace(':', "")] {
        let _ = connect(with_pin(pin)).terminate();
    }
    let mut several = with_pin(&other);
    several.tls.pins.push(own.as_str().into());
    let _ = connect(several).terminate();
    // It replaces no trust.
    let mut untrusted = with_pin(&own);
    untrusted.tls.roots.clear();
    assert!(refused(untrusted).1.contains("by nobody whom this system trusts"));
}

fn a_pin_alone_trusts_a_certificate_that_nobody_vouches_for(backend: TlsBackend) {
    let (server, _heard) = hearing(include_bytes!("data/self_signed.pem"));
    let with = |tls: TlsConfig| {
        let mut config =
            common::over_tls(&server).tls(tls.backend(backend).danger_accept_invalid_certs(true));
        config.url = config.url.replace("localhost", "other.test");
        config
    };
    let _ = connect(with(TlsConfig::default().pin(of_self_signed()))).terminate();
    let _ = connect(with(TlsConfig::default())).terminate();
    assert!(refused(with(TlsConfig::default().pin(of_server()))).1.contains(&of_self_signed()));
}

fn a_certificate_that_has_signed_itself_is_trusted_as_a_root_for_its_names_alone(backend: TlsBackend) {
    let own = &include_bytes!("data/self_signed.pem")[..];
    let (server, _heard) = hearing(include_bytes!("data/self_signed.pem"));
    for only in [true, false] {
        let tls =
            TlsConfig::default().backend(backend).root(Certificate::from_pem(own)).only_these_roots(only);
        let _ = connect(common::over_tls(&server).tls(tls.clone())).terminate();
        let (_, shown) = refused(common::over_tls(&server).tls(tls.server_name("other.test")));
        assert!(shown.contains("not for the name other.test"), "{shown}");
        // Another root changes nothing for it.
        assert!(
            refused(common::over_tls(&server).tls(trusting(backend).only_these_roots(only)))
                .1
                .contains("self-signed")
        );
    }
}

fn what_is_wrong_with_the_certificate_of_a_proxy_is_said_of_the_proxy(backend: TlsBackend) {
    let tunnel = tunnel::Tunnel::https();
    let through = |tls: TlsConfig| {
        let proxy = tautline::Proxy::new(format!("https://localhost:{}", tunnel.address().port()));
        let config = ConnectionConfig::new("ws://h").proxy(proxy.tls(tls.backend(backend)));
        Client::builder(config).resolver(loopback).connect().unwrap_err()
    };
    let tls = TlsConfig::default;
    for (tls, what, says) in [
        (tls(), TlsErrorKind::UnknownIssuer, "certificate was issued by nobody whom this system trusts"),
        (tls().root(ca()).server_name("h"), TlsErrorKind::WrongName, "certificate is not for the name h"),
        (tls().root(ca()).pin([1; 32]), TlsErrorKind::Pin, "certificate is not a pinned one"),
    ] {
        let error = through(tls);
        assert_eq!(kind(&error), what);
        let (shown, says) = (error.to_string(), format!("the proxy's {says}"));
        assert!(shown.contains(&says) && !shown.contains("the server's"), "{shown}");
    }
    assert_eq!(tunnel.asked().concat(), "", "the proxy has heard nothing");
}

fn another_name_is_asked_for_and_checked(backend: TlsBackend) {
    let (server, heard) = hearing(include_bytes!("data/server.pem"));
    let with = |host: &str, name: &str| {
        let mut config = common::over_tls(&server).tls(trusting(backend).server_name(name));
        config.url = config.url.replace("localhost", host);
        config
    };
    for (host, name) in
        [("other.test", "localhost"), ("other.test", "127.0.0.1"), ("127.0.0.1", "localhost.")]
    {
        let client = connect(with(host, name));
        let request = heard.recv_timeout(LONG).unwrap();
        assert!(request.contains(&format!("\r\nHost: {host}:")), "{request}");
        let _ = client.terminate();
    }
    let (_, shown) = refused(with("localhost", "other.test"));
    assert!(shown.contains("not for the name other.test"), "{shown}");
}

fn a_version_that_the_server_does_not_speak_is_refused_with_what_to_do(backend: TlsBackend) {
    let certificate = native_tls::Identity::from_pkcs8(
        include_bytes!("data/server.pem"),
        include_bytes!("data/server.key"),
    );
    let mut old = native_tls::TlsAcceptor::builder(certificate.unwrap());
    let old = old.max_protocol_version(Some(native_tls::Protocol::Tlsv12)).build().unwrap();
    let server = Server::start(move |_, stream| {
        let Ok(mut stream) = old.accept(stream) else { return };
        let answer = good_answer(&read_head(&mut stream), "");
        stream.write_all(answer.as_bytes()).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let with = |version| common::over_tls(&server).tls(trusting(backend).min_version(version));
    for version in [TlsVersion::Tls10, TlsVersion::Tls12] {
        let _ = connect(with(version)).terminate();
    }
    let (error, shown) = refused(with(TlsVersion::Tls13));
    assert_eq!(kind(&error), TlsErrorKind::Version);
    assert!(shown.contains("no TLS version") && shown.contains("TlsConfig::min_version"), "{shown}");
}

fn what_can_not_be_used_is_refused_at_the_start_with_what_to_do(backend: TlsBackend) {
    let server = &include_bytes!("data/server.pem")[..];
    let key = &include_bytes!("data/server.key")[..];
    let other_key = include_bytes!("data/client.key");
    let p12 = include_bytes!("data/client.p12");
    let tls = || TlsConfig::default().backend(backend);
    let broken = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----";
    let mut cases = vec![
        (tls().root(Certificate::from_der(b"0nothing")), "tls.roots", "it is no certificate"),
        (
            tls().root(ca()).root(Certificate::from_der(b"0")),
            "tls.roots",
            "number 2 of 2: it is no certificate",
        ),
        (
            tls().identity(Identity::from_pem(server, other_key)),
            "tls.identity",
            "its key does not fit its certificate",
        ),
        (tls().identity(Identity::from_pem(server, broken)), "tls.identity", "the TLS library refuses it"),
    ];
    let client_key = include_bytes!("data/client.key");
    let version_1 = Identity::from_pem(include_bytes!("data/client_version_1.pem"), client_key);
    if backend == TlsBackend::NativeTls {
        let tls = tls().identity(version_1);
        let _ = Client::start(ConnectionConfig::new("wss://127.0.0.1:1").tls(tls)).unwrap().terminate();
    } else {
        let nothing = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----";
        let nothing = tls().identity(Identity::from_pem(nothing, client_key));
        let says = "of X.509 version 1, which rustls can't use; have it issued in version 3, or use";
        cases.push((tls().identity(version_1), "tls.identity", says));
        cases.push((nothing, "tls.identity", "rustls can't read its certificate: "));
    }
    let good = tls().identity(Identity::from_pkcs12(p12, "secret"));
    if backend == TlsBackend::NativeTls {
        let wrong = Identity::from_pkcs12(p12, "s3cret");
        cases.push((tls().identity(wrong), "tls.identity", "its password is wrong"));
        cases.push((
            tls().identity(Identity::from_pkcs12(key, "secret")),
            "tls.identity",
            "Identity::from_pem",
        ));
        let _ = Client::start(ConnectionConfig::new("wss://127.0.0.1:1").tls(good)).unwrap().terminate();
    } else {
        cases.push((good, "tls.identity", "convert it to PEM for Identity::from_pem"));
    }
    for (tls, which, says) in cases {
        let error = Client::start(ConnectionConfig::new("wss://127.0.0.1:1").tls(tls)).unwrap_err();
        let Error::InvalidConfig { setting, reason, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*setting, which);
        assert!(reason.contains(says) && !reason.contains("s3cret"), "{reason}");
    }
}

#[test]
fn a_connector_of_ones_own_obeys_what_it_is_given_beside_it_or_that_is_refused() {
    let (server, _heard) = hearing(include_bytes!("data/server.pem"));
    let connector = common::tls_connector();
    let own = || TlsConfig::from(connector.clone());
    let with = |tls: TlsConfig| common::over_tls(&server).tls(tls);
    let _ = connect(common::over_tls(&server).tls(connector.clone())).terminate();
    let _ = connect(with(own().pin(of_server()).server_name("127.0.0.1"))).terminate();
    assert!(refused(with(own().pin(of_self_signed()))).1.contains(&of_server()));
    for (tls, says) in [
        (own().root(ca()), "tls.roots"),
        (own().identity(Identity::from_pem("", "")), "tls.identity"),
        (own().min_version(TlsVersion::Tls12), "tls.min_version"),
        (own().danger_accept_invalid_certs(true), "tls.danger_accept_invalid_certs"),
    ] {
        let error = Client::start(with(tls)).unwrap_err().to_string();
        assert!(error.contains(says) || error.contains("its certificate"), "{error}");
    }
}

/// TLS 1.3 has the server find out only after the client's handshake has ended.
#[cfg(feature = "rustls")]
fn a_server_that_requires_a_certificate_gets_it_or_the_error_says_so(backend: TlsBackend) {
    let der = |pem: &[u8]| {
        use rustls::pki_types::pem::PemObject;
        rustls::pki_types::CertificateDer::from_pem_slice(pem).unwrap()
    };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(der(include_bytes!("data/client_ca.pem"))).unwrap();
        let clients =
            rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(&[version]).unwrap();
        let key = {
            use rustls::pki_types::pem::PemObject;
            rustls::pki_types::PrivateKeyDer::from_pem_slice(include_bytes!("data/server.key")).unwrap()
        };
        let config = builder
            .with_client_cert_verifier(clients.build().unwrap())
            .with_single_cert(vec![der(include_bytes!("data/server.pem"))], key)
            .unwrap();
        let config = std::sync::Arc::new(config);
        let server = Server::start(move |_, stream| {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let request = read_head(&mut stream);
            if !request.is_empty() {
                stream.write_all(good_answer(&request, "").as_bytes()).unwrap();
                while read_frame(&mut stream).is_some() {}
            }
        });
        let with = |tls: TlsConfig| common::over_tls(&server).tls(tls);
        let (error, shown) = refused(with(trusting(backend)));
        // Over TLS 1.2, one alert stands for it and for more.
        let expected = [TlsErrorKind::ClientCertificate, TlsErrorKind::Refused];
        assert!(expected.contains(&kind(&error)), "{error:?}");
        assert!(
            shown.contains("certificate of the client") && shown.contains("TlsConfig::identity"),
            "{shown}"
        );
        let other = Identity::from_pem(include_bytes!("data/server.pem"), include_bytes!("data/server.key"));
        let (_, shown) = refused(with(trusting(backend).identity(other)));
        assert!(shown.contains("TlsConfig::identity"), "{shown}");
        let (certificate, key) = (include_bytes!("data/client.pem"), include_bytes!("data/client.key"));
        let _ = connect(with(trusting(backend).identity(Identity::from_pem(certificate, key)))).terminate();
        // SChannel takes keys of RSA alone, and nobody has tried another with Secure Transport.
        if backend == TlsBackend::Rustls || cfg!(not(any(windows, target_vendor = "apple"))) {
            let (certificate, key) =
                (include_bytes!("data/client_ec.pem"), include_bytes!("data/client_ec.key"));
            let own = Identity::from_pem(certificate, key);
            let _ = connect(with(trusting(backend).identity(own))).terminate();
        }
        if backend == TlsBackend::NativeTls {
            let own = Identity::from_pkcs12(include_bytes!("data/client.p12"), "secret");
            let _ = connect(with(trusting(backend).identity(own))).terminate();
        }
        // A proxy that requires one says so at the same places.
        let through = |tls: TlsConfig| {
            let proxy = tautline::Proxy::new(server.url().replace("ws://127.0.0.1", "https://localhost"));
            refused(ConnectionConfig::new("ws://h").proxy(proxy.tls(tls)))
        };
        let others = Identity::from_pem(include_bytes!("data/server.pem"), include_bytes!("data/server.key"));
        for tls in [trusting(backend), trusting(backend).identity(others)] {
            let (error, shown) = through(tls);
            let Error::Proxy(why) = &error else { panic!("{error:?}") };
            assert_eq!(why.kind, tautline::ProxyErrorKind::Unreachable, "{error}");
            if version.version == rustls::ProtocolVersion::TLSv1_3 {
                assert_eq!(kind(&error), TlsErrorKind::ClientCertificate, "{error:?}");
                assert!(shown.contains("the proxy wants a certificate of the client"), "{shown}");
            }
            assert!(shown.contains("TlsConfig::identity") && !shown.contains("alert"), "{shown}");
        }
        // Another origin, from which a redirect leads here, must not have the client show who it is.
        let location = server.url().replace("ws://127.0.0.1", "wss://localhost");
        let from = Server::start(move |_, mut stream| {
            read_head(&mut stream);
            let head = format!("HTTP/1.1 307 No\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
        });
        let own = trusting(backend).identity(Identity::from_pem(certificate, key));
        let (_, shown) = refused(ConnectionConfig::new(from.url()).redirects(1).tls(own));
        assert!(shown.contains("certificate of the client"), "{shown}");
        assert!(
            shown.contains("that of TlsConfig::identity is set, and is shown to no other origin")
                && !shown.contains("set the right one"),
            "{shown}"
        );
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

fn a_broken_record_behind_the_upgrade_is_an_error_of_tls_and_no_end(backend: TlsBackend) {
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
    let config = config.tls(trusting(backend)).heartbeat(HeartbeatConfig::off());
    let client = Client::builder(config).resolver(loopback).connect().unwrap();
    let (reason, _) = wait_for(&client, disconnected);
    let DisconnectReason::Lost(Error::ConnectionLost { source: Some(source), .. }) = &reason else {
        panic!("{reason:?}")
    };
    assert!(!source.to_string().is_empty());
    let _ = client.terminate();
}
