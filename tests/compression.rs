//! Messages are compressed where that was agreed on, and nothing else changes.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/deflate.rs"]
mod deflate;

use std::io::Write;

use common::{BINARY, LONG, MS, Server, TEXT, config, frame, wait_for};
use crossbeam_channel::{Receiver, unbounded};
use deflate::{Peer, Seen};
use serde_json::json;
use tautline::{
    Attempt, Client, Compression, Confirmation, ConnectionConfig, Delivery, DisconnectReason, Error, Event,
    HeartbeatConfig, JsonSession, Message, Protocol, UpgradeRequest,
};

const PLAIN: &str = "permessage-deflate";
const ALONE: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";

fn compressing(server: &Server) -> ConnectionConfig {
    config(&server.url()).compression(Compression::default())
}

fn echo(extensions: &'static str, fragment: usize) -> Server {
    Server::start(move |_, stream| Peer::accept(stream, extensions).echo(fragment))
}

/// A server that tells what it sees.
fn watcher(extensions: &'static str) -> (Server, Receiver<Seen>) {
    let (seen_in, seen) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut peer = Peer::accept(stream, extensions);
        while let Some(seen) = peer.read() {
            let _ = seen_in.send(seen);
        }
    });
    (server, seen)
}

fn next(seen: &Receiver<Seen>) -> Seen {
    seen.recv_timeout(LONG).unwrap()
}

/// JSON as gateways send it.
fn reading(n: usize) -> String {
    format!(r#"{{"sensor":"vib-{}","t":{},"rms":{}.25,"unit":"mm/s"}}"#, n % 8, 1_700_000_000 + n, n % 97)
}

#[test]
fn what_comes_back_is_what_was_sent_whatever_its_size_with_and_without_takeover() {
    for extensions in [PLAIN, ALONE, "permessage-deflate; server_max_window_bits=9"] {
        for fragment in [usize::MAX, 7_000] {
            let server = echo(extensions, fragment);
            let client = Client::connect(compressing(&server)).unwrap();
            let mut random = fastrand::Rng::with_seed(15);
            for size in [0, 1, 31, 32, 125, 126, 1_023, 1_024, 65_535, 65_536, 200_000, 3 << 20] {
                let text: String = (0..=size / 40).map(reading).collect();
                let text = Message::from(&text[..size.min(text.len())]);
                let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(size).collect();
                for message in [text, noise.into()] {
                    client.send(message.clone()).unwrap();
                    assert!(client.recv_timeout(LONG).unwrap() == message, "{size} bytes by {extensions}");
                }
            }
            let stats = client.stats();
            assert!(stats.compressed_written.after * 4 < stats.compressed_written.before, "{stats:?}");
            // The server compresses the noise, too.
            assert!(stats.compressed_read.after < stats.compressed_read.before, "{stats:?}");
            assert!(client.close().is_empty());
        }
    }
}

#[test]
fn many_messages_in_both_directions_keep_their_order() {
    for extensions in [PLAIN, ALONE] {
        let server = echo(extensions, usize::MAX);
        let client = Client::connect(compressing(&server)).unwrap();
        let sender = client.clone();
        let sending =
            std::thread::spawn(move || (0..10_000).try_for_each(|n| sender.send(reading(n)).map(drop)));
        for n in 0..10_000 {
            assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(&*reading(n)));
        }
        sending.join().unwrap().unwrap();
    }
}

#[test]
fn what_was_agreed_on_is_known_and_a_server_that_ignores_the_offer_is_no_failure() {
    for (answer, agreed) in [
        ("", None),
        (PLAIN, Some(Compression::default())),
        (
            "permessage-deflate; client_no_context_takeover",
            Some(Compression::default().client_no_context_takeover(true)),
        ),
    ] {
        let (server, seen) = watcher(answer);
        let client = Client::connect(compressing(&server)).unwrap();
        assert_eq!(client.handshake().unwrap().compression, agreed);
        client.send("a".repeat(2_000)).unwrap();
        assert_eq!(next(&seen).was_compressed, agreed.is_some(), "{answer}");
    }
}

#[test]
fn the_offer_is_made_where_it_is_configured_and_a_hook_can_leave_it_out() {
    struct Without;
    impl Protocol for Without {
        fn prepare(&mut self, _: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
            assert!(request.compression.take().is_some());
            Ok(())
        }
    }
    let (requests_in, requests) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut peer = Peer::accept(stream, "");
        requests_in.send(peer.request.clone()).unwrap();
        while peer.read().is_some() {}
    });
    let offered = || {
        let request = requests.recv_timeout(LONG).unwrap();
        request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: ").map(str::to_owned))
    };
    let _none = Client::connect(config(&server.url())).unwrap();
    assert_eq!(offered(), None);
    let _plain = Client::connect(compressing(&server)).unwrap();
    assert_eq!(offered().as_deref(), Some(PLAIN));
    let without = Client::builder(compressing(&server)).protocol(Without).start().unwrap();
    assert_eq!(offered(), None);
    drop(without);
}

#[test]
fn an_answer_that_does_not_fit_the_offer_fails_the_attempt_and_says_why() {
    for (answer, says) in [
        ("permessage-deflate; client_max_window_bits=10", "client_max_window_bits was not offered"),
        ("permessage-deflate; server_max_window_bits=16", "a number from 8 to 15"),
        ("permessage-deflate, permessage-deflate", "twice"),
        ("x-custom", "it chose the extension \"x-custom\"; offered: permessage-deflate"),
    ] {
        let server = Server::start(move |_, stream| drop(Peer::accept(stream, answer)));
        let error = Client::connect(compressing(&server)).unwrap_err();
        assert!(matches!(error, Error::Upgrade { .. }) && error.to_string().contains(says), "{error}");
    }
    let server = Server::start(|_, stream| drop(Peer::accept(stream, PLAIN)));
    let error = Client::connect(config(&server.url())).unwrap_err();
    assert!(error.to_string().contains("and none was offered"), "{error}");
    let bad = ConnectionConfig::new("ws://h").compression(Compression::default().level(10));
    let error = Client::connect(bad).unwrap_err().to_string();
    assert_eq!(error, "the setting compression.level can't be used: it is 10; 1 to 9 are allowed");
}

#[test]
fn short_messages_noise_and_what_the_application_says_go_out_as_they_are() {
    let (server, seen) = watcher(ALONE);
    let client = Client::connect(compressing(&server)).unwrap();
    let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(100_000).collect();
    let text = "compressible ".repeat(100);
    for (message, compressed) in [
        (Message::from(&*text), true),
        (Message::from(&*text).compress(false), false),
        (Message::from("x".repeat(1_023)), false),
        (Message::from(noise), false),
        (Message::from(text.as_bytes().repeat(1_000)), true),
        (Message::from(text.as_bytes().repeat(1_000)).compress(false), false),
    ] {
        client.send(message.clone()).unwrap();
        let seen = next(&seen);
        assert_eq!(seen.was_compressed, compressed, "{message:?}");
        assert!(seen.payload == message.as_bytes());
        assert!(!compressed || seen.on_wire * 5 < seen.payload.len());
    }
}

/// Why the line is lost when the server does this after the upgrade. The server gets a close frame.
fn lost_over(
    mut settings: ConnectionConfig,
    does: impl Fn(&mut Peer) + Send + Sync + 'static,
) -> (u16, Error) {
    let (code_in, code) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut peer = Peer::accept(stream, PLAIN);
        does(&mut peer);
        while let Some(seen) = peer.read() {
            if let [high, low, ..] = seen.payload[..]
                && seen.opcode == 8
            {
                let _ = code_in.send(u16::from_be_bytes([high, low]));
                return;
            }
        }
    });
    settings.url = server.url();
    let client = Client::start(settings.reconnect(tautline::ReconnectConfig::never())).unwrap();
    let error = wait_for(&client, |event| match event {
        Event::Disconnected { reason: DisconnectReason::Lost(error), .. } => Some(error),
        _ => None,
    });
    (code.recv_timeout(LONG).unwrap(), error)
}

#[test]
fn a_bomb_is_a_message_that_is_too_long() {
    let limit = 1 << 20;
    let settings = ConnectionConfig::new("").compression(Compression::default()).max_message_size(limit);
    for fragment in [usize::MAX, 100] {
        let (code, error) = lost_over(settings.clone(), move |peer| {
            // A gibibyte, if it were inflated.
            let bomb = peer.deflated(&vec![0; 64 << 20]).repeat(16);
            let _ = peer.stream.write_all(&frame(0x41, &bomb[..fragment.min(bomb.len())]));
            let _ = peer.stream.write_all(&frame(0x80, &bomb[fragment.min(bomb.len())..]));
        });
        assert_eq!(code, 1009);
        assert!(matches!(error, Error::Protocol { code: 1009, .. }), "{error}");
        let says = "a compressed message that becomes at least 1048577 bytes, where 1048576 are allowed (max_message_size)";
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn a_message_as_long_as_is_allowed_is_none_that_is_too_long() {
    let size = 200_000;
    let server = Server::start(move |_, stream| {
        let mut peer = Peer::accept(stream, PLAIN);
        // Noise is longer on the wire than it is.
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(size).collect();
        peer.send(BINARY, &noise, usize::MAX).unwrap();
        while peer.read().is_some() {}
    });
    let client = Client::connect(compressing(&server).max_message_size(size)).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().len(), size);
}

#[test]
fn what_breaks_the_rules_of_the_extension_is_named_with_its_code() {
    type Act = fn(&mut Peer);
    for (does, code, says) in [
        (
            (|peer| _ = peer.stream.write_all(&frame(0xC1, &[0xFF; 20]))) as Act,
            1007,
            "a compressed message that can't be inflated",
        ),
        (
            |peer| {
                let text = peer.deflated(&[0xFF; 100]);
                let _ = peer.stream.write_all(&frame(0xC1, &text));
            },
            1007,
            "text that is not UTF-8",
        ),
        (
            |peer| {
                let text = peer.deflated(reading(7).as_bytes());
                let _ = peer.stream.write_all(&frame(0xC1, &text[..text.len() - 9]));
            },
            1007,
            "a compressed message that can't be inflated",
        ),
        (
            |peer| _ = peer.stream.write_all(&[frame(0x01, b"a"), frame(0xC0, b"b")].concat()),
            1002,
            "the bit of a compressed message in a frame that can't have it",
        ),
        (
            |peer| _ = peer.stream.write_all(&frame(0xC9, b"")),
            1002,
            "the bit of a compressed message in a frame that can't have it",
        ),
        (
            |peer| _ = peer.stream.write_all(&frame(0xA1, b"a")),
            1002,
            "a reserved bit that compression does not use",
        ),
    ] {
        let settings = ConnectionConfig::new("").compression(Compression::default());
        let (sent, error) = lost_over(settings, does);
        assert_eq!(sent, code, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn what_is_sent_again_is_compressed_anew_for_each_connection() {
    let (seen_in, seen) = unbounded();
    let server = Server::start(move |n, stream| {
        let mut peer = Peer::accept(stream, PLAIN);
        for _ in 0..if n == 0 { 3 } else { usize::MAX } {
            let Some(seen) = peer.read() else { return };
            if seen.opcode == TEXT {
                let _ = seen_in.send((n, seen));
            }
        }
    });
    let client = Client::connect(compressing(&server).delivery(Delivery::AtLeastOnce)).unwrap();
    for n in 0..50 {
        client.send(reading(n).repeat(3)).unwrap();
    }
    client.confirm(.., LONG).unwrap();
    let mut second = Vec::new();
    while let Ok((n, seen)) = seen.try_recv() {
        if n > 0 {
            second.push(String::from_utf8(seen.payload).unwrap());
        }
    }
    let all: Vec<_> = (0..50).map(|n| reading(n).repeat(3)).collect();
    assert!(all.ends_with(&second) && second.len() > 40, "{} on the second connection", second.len());
}

#[test]
fn a_heartbeat_passes_between_the_pieces_of_a_large_message() {
    let (between_in, between) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut peer = Peer::accept(stream, PLAIN);
        let mut inside = false;
        while let Some((first, payload)) = peer.read_frame() {
            if first & 0x0F == 9 {
                let _ = between_in.send(inside);
                let _ = peer.stream.write_all(&frame(0x8A, &payload));
            } else {
                inside = first & 0x80 == 0;
            }
        }
    });
    let heartbeat = HeartbeatConfig::default().interval(5 * MS).timeout(LONG);
    let level = Compression::default().level(9);
    let client = Client::connect(compressing(&server).heartbeat(heartbeat).compression(level)).unwrap();
    let text: String = (0..200_000).map(reading).collect();
    client.send(text).unwrap();
    while !between.recv_timeout(LONG).unwrap() {}
}

#[test]
fn a_reader_who_takes_nothing_pauses_what_is_inflated_and_gets_all_of_it_in_the_end() {
    let server = Server::start(|_, stream| {
        let mut peer = Peer::accept(stream, PLAIN);
        for n in 0..2_000_u32 {
            if peer.send(TEXT, format!("{n} {}", "x".repeat(20_000)).as_bytes(), usize::MAX).is_err() {
                return;
            }
        }
        while peer.read().is_some() {}
    });
    let events = tautline::QueueLimit::new(8, 100_000);
    let client = Client::connect(compressing(&server).events(events)).unwrap();
    common::eventually("a pause", || client.events().len() >= 5);
    for n in 0..2_000 {
        let message = client.recv_timeout(LONG).unwrap();
        assert!(message.as_text().unwrap().starts_with(&format!("{n} x")), "{message}");
    }
}

#[test]
fn a_session_in_json_keeps_what_is_said_of_a_message_and_compresses_no_login() {
    let (server, seen) = watcher(PLAIN);
    let session = JsonSession::new()
        .login(json!({"user": "u".repeat(100), "password": "p".repeat(100)}))
        .accepted(|_| false)
        .answers_by("id");
    let client = Client::builder(compressing(&server)).protocol(session).start().unwrap();
    assert!(!next(&seen).was_compressed, "the login");
    assert!(client.terminate().never_written.is_empty());

    let (server, seen) = watcher(PLAIN);
    let session = JsonSession::new().answers_by("id").acknowledged_by("n", "ack");
    let config = compressing(&server).confirmation(Confirmation::Acknowledgement);
    let client = Client::builder(config).protocol(session).connect().unwrap();
    let message = || Message::from(json!({"filling": "x".repeat(300)}));
    for compressed in [true, false] {
        client.send(message().compress(compressed)).unwrap();
        assert_eq!(next(&seen).was_compressed, compressed);
        let _ = client.request(message().compress(compressed), MS);
        assert_eq!(next(&seen).was_compressed, compressed);
    }
}
