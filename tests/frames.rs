//! Servers that break the rules once the line is open, or close it in odd ways.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    BareServer, LONG, MS, Server, accept, accept_raw, await_unread, close_frame, disconnected, echo, frame,
    is_reset, quick, read_frame, read_frames, wait_for,
};
use tautline::{
    Client, CloseReason, ConnectionConfig, DisconnectReason, Error, Event, HeartbeatConfig, Message,
    QueueLimit, ReconnectConfig,
};

/// What a client made of a connection.
struct Verdict {
    messages: Vec<Message>,
    reason: DisconnectReason,
    retry_in: Option<Duration>,
    /// What it sent, up to its close frame.
    sent: Vec<(u8, Vec<u8>)>,
}

impl Verdict {
    /// The code of the close frame that the client sent, and that it sent nothing else.
    fn told(&self) -> u16 {
        match &self.sent[..] {
            [(8, payload)] if payload.is_empty() => 1005,
            [(8, payload)] => u16::from_be_bytes([payload[0], payload[1]]),
            other => panic!("not just a close frame: {other:?}"),
        }
    }
}

/// A line on which a server sends these bytes first; when it is lost, and the decision is to come back, it comes back.
fn verdict(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Verdict {
    let (sent_in, sent) = crossbeam_channel::bounded(1);
    let server = Server::start(move |n, stream| {
        if n > 0 {
            return echo(accept(stream));
        }
        let mut stream = accept_raw(stream);
        stream.write_all(bytes.as_ref()).unwrap();
        sent_in.send(read_frames(&mut stream)).unwrap();
    });
    let config = quick(&server.url()).heartbeat(HeartbeatConfig::off()).max_message_size(1000);
    let client = Client::connect(config).unwrap();
    let mut messages = Vec::new();
    let (reason, retry_in) = wait_for(&client, |event| match event {
        Event::Message(message) => {
            messages.push(message);
            None
        }
        other => disconnected(other),
    });
    match retry_in {
        Some(_) => client.wait_ready(LONG).unwrap(),
        None => drop(client.wait_closed_timeout(LONG).unwrap()),
    }
    assert!(client.close().is_empty());
    Verdict { messages, reason, retry_in, sent: sent.recv_timeout(LONG).unwrap() }
}

/// These bytes, behind a message and before another, break the protocol: the client tells so with `code`, names it by
/// `says`, delivers what came before and nothing after it, and comes back.
fn violates(bytes: &[u8], code: u16, says: &str) {
    let verdict = verdict([b"\x81\x06before", bytes, b"\x81\x05after"].concat());
    assert_eq!(verdict.told(), code, "{says}");
    let DisconnectReason::Lost(error @ Error::Protocol { code: told, .. }) = &verdict.reason else {
        panic!("{says}: {:?}", verdict.reason)
    };
    assert_eq!(*told, code, "{says}");
    let text = error.to_string();
    assert!(text.starts_with("the server violated the WebSocket protocol: "), "{text}");
    assert!(text.contains(says) && text.ends_with(&format!("(closed with code {code})")), "{text}");
    assert!(verdict.retry_in.is_some(), "{says}");
    assert_eq!(verdict.messages, [Message::from("before")], "{says}");
}

#[test]
fn a_masked_frame_is_a_violation() {
    violates(b"\x81\x82\x01\x02\x03\x04ij", 1002, "a masked frame");
    violates(b"\x89\x80\x01\x02\x03\x04", 1002, "a masked frame");
}

#[test]
fn a_reserved_bit_is_a_violation() {
    for bit in [0x40, 0x20, 0x10] {
        violates(&frame(0x81 | bit, b"x"), 1002, "a reserved bit");
        violates(&frame(0x88 | bit, b"\x03\xE8"), 1002, "a reserved bit");
    }
}

#[test]
fn an_unknown_opcode_is_a_violation() {
    violates(&frame(0x83, b"x"), 1002, "unknown opcode 3");
    violates(&frame(0x8B, b"x"), 1002, "unknown opcode 11");
}

#[test]
fn text_that_is_no_utf8_is_a_violation() {
    for bad in [&b"\xC3\x28"[..], b"\xFF", b"cut off: \xE2\x82", b"a surrogate: \xED\xA0\x80", b"\xC0\xAF"] {
        violates(&frame(0x81, bad), 1007, "text that is not UTF-8");
        // The same in fragments of a byte.
        let mut fragments = frame(0x01, b"");
        for byte in bad {
            fragments.extend(frame(0x00, &[*byte]));
        }
        fragments.extend(frame(0x80, b""));
        violates(&fragments, 1007, "text that is not UTF-8");
    }
}

#[test]
fn a_character_that_is_split_between_fragments_is_no_violation() {
    let verdict = verdict(
        [
            frame(0x01, b"\xE2"),
            frame(0x89, b"hi"),
            frame(0x00, b"\x82"),
            frame(0x80, b"\xAC"),
            close_frame(1000, ""),
        ]
        .concat(),
    );
    assert_eq!(verdict.messages, [Message::from("€")]);
    assert_eq!(verdict.sent, [(10, b"hi".to_vec()), (8, b"\x03\xE8".to_vec())]);
}

#[test]
fn a_fragmented_control_frame_is_a_violation() {
    for opcode in [0x08, 0x09, 0x0A] {
        violates(&frame(opcode, b""), 1002, "a control frame in fragments");
    }
}

#[test]
fn a_control_frame_over_125_bytes_is_a_violation() {
    for opcode in [0x88, 0x89, 0x8A] {
        violates(&frame(opcode, &[b'x'; 126]), 1002, "a control frame of 126 bytes");
    }
}

#[test]
fn a_length_that_is_not_in_its_shortest_form_is_a_violation() {
    violates(b"\x81\x7E\x00\x01x", 1002, "the length 1 in 2 bytes");
    violates(b"\x89\x7E\x00\x01x", 1002, "the length 1 in 2 bytes");
    violates(b"\x82\x7F\x00\x00\x00\x00\x00\x00\x00\x7Ex", 1002, "the length 126 in 8 bytes");
    violates(b"\x82\x7F\x80\x00\x00\x00\x00\x00\x00\x00", 1002, "highest bit is set");
}

#[test]
fn a_continuation_without_a_start_is_a_violation() {
    violates(&frame(0x80, b"x"), 1002, "nothing to continue");
    violates(&frame(0x00, b"x"), 1002, "nothing to continue");
}

#[test]
fn a_new_message_inside_a_fragmented_one_is_a_violation() {
    for start in [0x01, 0x02] {
        for next in [0x81, 0x82, 0x01, 0x02] {
            let bytes = [frame(start, b"x"), frame(next, b"y")].concat();
            violates(&bytes, 1002, "in the middle of one in fragments");
        }
    }
}

#[test]
fn a_message_over_the_limit_is_a_violation() {
    let says = "a message of at least 1001 bytes, where 1000 are allowed";
    violates(&frame(0x82, &[0; 1001]), 1009, says);
    violates(&[frame(0x02, &[0; 600]), frame(0x80, &[0; 401])].concat(), 1009, says);
    violates(&[frame(0x01, &[b'x'; 1000]), frame(0x00, b""), frame(0x00, b"x")].concat(), 1009, says);
    let at_the_limit = verdict([frame(0x82, &[7; 1000]), close_frame(1000, "")].concat());
    assert_eq!(at_the_limit.messages, [Message::from(vec![7; 1000])]);
}

#[test]
fn a_frame_over_the_limit_is_refused_by_its_header() {
    // The payload never comes.
    let verdict = verdict(b"\x82\x7F\x00\x00\x01\x00\x00\x00\x00\x00");
    assert_eq!(verdict.told(), 1009);
    let says = "a message of at least 1099511627776 bytes, where 1000 are allowed";
    assert!(verdict.reason.to_string().contains(says), "{}", verdict.reason);
}

#[test]
fn after_a_violation_the_rest_is_dropped_and_the_end_is_no_reset() {
    let (end_in, end) = crossbeam_channel::bounded(1);
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&[&b"\x81\x80\x01\x02\x03\x04"[..], &[0xFF].repeat(300_000)].concat()).unwrap();
        let sent = read_frames(&mut stream);
        let _ = end_in.send((sent, stream.read(&mut [0; 1])));
    });
    let client = Client::connect(server.url()).unwrap();
    let (sent, end) = end.recv_timeout(LONG).unwrap();
    assert_eq!(sent, [(8, b"\x03\xEA".to_vec())]);
    assert!(matches!(end, Ok(0)), "a reset may overtake the code: {end:?}");
    let (reason, _) = wait_for(&client, disconnected);
    assert!(matches!(reason, DisconnectReason::Lost(Error::Protocol { code: 1002, .. })), "{reason}");
    let _ = client.terminate();
}

#[test]
fn a_close_frame_with_half_a_code_is_a_violation() {
    violates(b"\x88\x01\x03", 1002, "a close frame of one byte, where a code takes two");
}

#[test]
fn bad_utf8_in_a_close_reason_is_a_violation() {
    violates(b"\x88\x04\x03\xE8\xC3\x28", 1007, "not UTF-8");
}

/// The close codes that must not be on the wire, or that nobody has defined.
const ILLEGAL: [u16; 9] = [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535];

#[test]
fn an_illegal_close_code_is_answered_with_1002() {
    for code in ILLEGAL {
        let verdict = verdict(close_frame(code, "because"));
        assert_eq!(verdict.told(), 1002, "{code}");
        assert!(verdict.retry_in.is_some(), "{code}");
    }
}

#[test]
fn an_illegal_close_code_is_the_servers_violation_and_not_its_word() {
    for code in ILLEGAL {
        let DisconnectReason::Lost(error @ Error::Protocol { code: 1002, .. }) =
            verdict(close_frame(code, "because")).reason
        else {
            panic!("{code}: the server never said 1002, the code for what its peer did wrong")
        };
        let text = error.to_string();
        let says =
            format!("the server violated the WebSocket protocol: close code {code}: \"because\", which ");
        assert!(text.starts_with(&says) && text.ends_with("(closed with code 1002)"), "{text}");
    }
}

#[test]
fn a_legal_close_code_is_reported_and_answered_with_itself() {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999] {
        let verdict = verdict(close_frame(code, "because"));
        assert_eq!(verdict.told(), code);
        let says = format!("the server closed the line with close code {code}: \"because\"");
        assert_eq!(verdict.reason.to_string(), says);
        assert!(matches!(verdict.reason, DisconnectReason::ClosedByServer(frame) if frame.code == code));
        assert_eq!(verdict.retry_in.is_none(), matches!(code, 1000 | 1008), "{code}");
    }
}

#[test]
fn the_legal_close_code_1014_is_reported_and_answered_with_itself() {
    let verdict = verdict(close_frame(1014, "bad gateway"));
    let DisconnectReason::ClosedByServer(frame) = &verdict.reason else { panic!("{:?}", verdict.reason) };
    assert_eq!((frame.code, &*frame.reason), (1014, "bad gateway"));
    assert_eq!(verdict.told(), 1014);
}

#[test]
fn an_empty_close_is_reported_as_1005_and_answered_with_an_empty_one() {
    let verdict = verdict(frame(0x88, b""));
    assert_eq!(verdict.reason.to_string(), "the server closed the line with an empty close frame (1005)");
    assert!(matches!(verdict.reason, DisconnectReason::ClosedByServer(frame) if frame.code == 1005));
    assert_eq!(verdict.sent, [(8, Vec::new())]);
    assert!(verdict.retry_in.is_some());
}

#[test]
fn what_a_server_sends_after_its_close_frame_is_not_delivered() {
    for after in [frame(0x81, b"late"), frame(0x89, b"late"), close_frame(1008, "late"), frame(0xC3, b"late")]
    {
        let verdict = verdict([frame(0x81, b"before"), close_frame(4000, "first"), after].concat());
        assert_eq!(verdict.messages, [Message::from("before")]);
        assert_eq!(verdict.told(), 4000);
        let says = r#"the server closed the line with close code 4000: "first""#;
        assert_eq!(verdict.reason.to_string(), says);
        assert!(verdict.retry_in.is_some());
    }
}

#[test]
fn a_close_frame_behind_many_messages_waits_until_all_are_taken() {
    const COUNT: usize = 500;
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        let mut bytes = Vec::new();
        (0..COUNT).for_each(|n| bytes.extend(frame(0x81, n.to_string().as_bytes())));
        bytes.extend(close_frame(1000, "that was all"));
        stream.write_all(&bytes).unwrap();
        read_frames(&mut stream);
    });
    for limit in [QueueLimit::default(), QueueLimit::new(100, 1 << 20)] {
        let client = Client::connect(quick(&server.url()).events(limit)).unwrap();
        let messages: Vec<_> = client.messages().map(|message| message.to_string()).collect();
        assert_eq!(messages.len(), COUNT);
        assert!(messages.iter().enumerate().all(|(n, message)| *message == n.to_string()));
        let reason = client.wait_closed();
        assert_eq!(
            reason.to_string(),
            r#"not reconnecting: the server closed the line with close code 1000: "that was all""#
        );
        assert!(reason.into_result().is_ok());
    }
}

#[test]
fn a_reset_of_an_open_line_is_a_loss_with_its_cause() {
    let server = BareServer::start(|n, stream| {
        let stream = accept_raw(stream);
        if n == 0 {
            await_unread(&stream);
        } else {
            common::listen(tungstenite::WebSocket::from_raw_socket(stream, SERVER, None));
        }
    });
    let client = Client::connect(quick(&server.url())).unwrap();
    let ticket = client.send("unread").unwrap();
    let (reason, retry_in, doubtful) = wait_for(&client, |event| match event {
        Event::Disconnected { reason, retry_in, maybe_delivered, .. } => {
            Some((reason, retry_in, maybe_delivered))
        }
        _ => None,
    });
    let DisconnectReason::Lost(Error::ConnectionLost { source: Some(source), .. }) = &reason else {
        panic!("{reason:?}")
    };
    assert!(is_reset(&**source), "{reason:?}");
    assert!(reason.to_string().starts_with(&format!("the connection broke: {source}")), "{reason}");
    assert!(retry_in.is_some() && doubtful.contains(ticket), "{doubtful}");
    client.wait_ready(LONG).unwrap();
    assert!(client.close().is_empty());
}

/// A client that was reset in the middle of a long message, and will not try again for long; and what it was told.
fn reset_while_writing() -> (BareServer, Client, DisconnectReason) {
    let server = BareServer::start(|_, stream| {
        let stream = accept_raw(stream);
        await_unread(&stream);
    });
    let reconnect = ReconnectConfig::default().initial_delay(LONG).max_delay(LONG);
    let config = ConnectionConfig::new(server.url()).reconnect(reconnect).write_timeout(1000 * MS);
    let client = Client::connect(config).unwrap();
    client.send(vec![0; 8 << 20]).unwrap();
    let (reason, _) = wait_for(&client, disconnected);
    (server, client, reason)
}

#[test]
fn a_reset_that_a_write_meets_is_a_loss_with_its_cause() {
    for _ in 0..5 {
        let (_server, client, reason) = reset_while_writing();
        assert!(reason.to_string().starts_with("the connection broke: "), "{reason}");
        let _ = client.terminate();
    }
}

#[test]
fn a_loss_with_bytes_unwritten_is_told_once() {
    let (_server, client, reason) = reset_while_writing();
    assert!(matches!(reason, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{reason}");
    // Nothing else can happen: the next attempt is far off. The write timeout is not.
    let more = client.events().recv_timeout(1200 * MS);
    assert!(more.is_err(), "{more:?}");
    let _ = client.terminate();
    assert!(matches!(client.wait_closed(), CloseReason::ByCaller), "{}", client.wait_closed());
}

const SERVER: tungstenite::protocol::Role = tungstenite::protocol::Role::Server;

/// A client closes a line to this server with a bound of 80 ms. Returns how long that took, at its quickest.
fn time_to_close(serve: fn(TcpStream)) -> Duration {
    let server = Server::start(move |_, stream| serve(accept_raw(stream)));
    let close = || {
        let config = quick(&server.url()).close_timeout(80 * MS).events(QueueLimit::new(5, 1 << 20));
        let client = Client::connect(config).unwrap();
        let start = Instant::now();
        let _ = client.close();
        let took = start.elapsed();
        assert!(matches!(client.wait_closed(), CloseReason::ByCaller));
        took
    };
    let mut quickest = close();
    // A busy machine makes it slower, but not again and again.
    for _ in 0..9 {
        if quickest < IN_TIME {
            break;
        }
        quickest = quickest.min(close());
    }
    quickest
}

/// The library waits for a second where the bound of the close does not forbid it, and for three without a bound.
const IN_TIME: Duration = Duration::from_millis(900);

#[test]
fn a_server_that_never_answers_the_close_is_waited_for_within_the_bound() {
    let bound = 80 * MS..IN_TIME;
    let took = time_to_close(|mut stream| while read_frame(&mut stream).is_some() {});
    assert!(bound.contains(&took), "reads and is silent: {took:?}");
    let took = time_to_close(|stream| {
        thread::park_timeout(LONG);
        drop(stream);
    });
    assert!(bound.contains(&took), "does not even read: {took:?}");
    let took = time_to_close(|mut stream| while stream.write_all(&frame(0x82, &[0; 5000])).is_ok() {});
    assert!(bound.contains(&took), "sends without end: {took:?}");
    // Answers the close, and never ends the connection.
    let took = time_to_close(|mut stream| {
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            stream.write_all(&frame(0x80 | if opcode == 9 { 10 } else { opcode }, &payload)).unwrap();
        }
        thread::park_timeout(LONG);
    });
    assert!(took < bound.end, "keeps TCP open: {took:?}");
}

#[test]
fn a_close_code_is_not_lost_to_the_reset_behind_it_however_busy_the_client() {
    // Small messages, then such as fill the system's buffers.
    for size in [10, 100_000] {
        let server = BareServer::start(|_, stream| {
            let mut stream = accept_raw(stream);
            await_unread(&stream);
            stream.write_all(&close_frame(4001, "busy")).unwrap();
        });
        let client = Client::start(quick(&server.url())).unwrap();
        let sender = {
            let client = client.clone();
            thread::spawn(move || {
                let message = Message::from(vec![0; size]);
                while client.send(message.clone()).is_ok() {}
            })
        };
        for round in 0..150 {
            let (reason, _) = wait_for(&client, disconnected);
            let DisconnectReason::ClosedByServer(frame) = &reason else {
                panic!("round {round}, {size} bytes: {reason}")
            };
            assert_eq!((frame.code, &*frame.reason), (4001, "busy"));
        }
        let _ = client.terminate();
        sender.join().unwrap();
    }
}

#[test]
fn a_message_in_fragments_without_end_holds_up_neither_sends_nor_the_end() {
    let (begun_in, begun) = crossbeam_channel::bounded(1);
    let (heard_in, heard) = crossbeam_channel::bounded(1);
    let (ended_in, ended) = crossbeam_channel::bounded(1);
    let server = Server::start(move |_, stream| {
        let mut reader = accept_raw(stream);
        let mut writer = reader.try_clone().unwrap();
        let begun_in = begun_in.clone();
        let flood = thread::spawn(move || {
            let fragments = frame(0x00, &[7; 1000]).repeat(1000);
            writer.write_all(&frame(0x02, b"start")).unwrap();
            // More than the system's buffers hold: the client is in the middle of it.
            for _ in 0..20 {
                let _ = writer.write_all(&fragments);
            }
            let _ = begun_in.send(());
            // Of empty ones there are never too many for a message, and they are slower to read than to write.
            let fragments = frame(0x00, b"").repeat(100_000);
            let start = Instant::now();
            while writer.write_all(&fragments).is_ok() {
                if start.elapsed() > 2 * LONG {
                    return false;
                }
            }
            true
        });
        let _ = heard_in.send(read_frame(&mut reader));
        let _ = ended_in.send(flood.join().unwrap());
    });
    let client =
        Client::connect(ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::off())).unwrap();
    begun.recv_timeout(LONG).unwrap();
    client.send("hello").unwrap();
    assert_eq!(heard.recv_timeout(LONG).unwrap(), Some((1, b"hello".to_vec())));
    let _ = client.terminate();
    assert!(ended.recv_timeout(LONG).unwrap(), "the client has not ended the flood");
}

#[test]
fn pings_without_end_from_a_server_that_takes_no_answer_cost_no_memory() {
    let (done_in, done) = crossbeam_channel::bounded(1);
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        stream.set_write_timeout(Some(300 * MS)).unwrap();
        let pings = frame(0x89, &[b'x'; 125]).repeat(1000);
        let stalled = (0..600).any(|_| stream.write_all(&pings).is_err());
        done_in.send(stalled).unwrap();
        // Its end would tell the client.
        thread::park_timeout(LONG);
    });
    let client = Client::connect(quick(&server.url()).heartbeat(HeartbeatConfig::off())).unwrap();
    let stalled = done.recv_timeout(LONG).unwrap();
    let stats = client.stats();
    let waiting = stats.bytes_read.saturating_sub(stats.bytes_written);
    assert!(waiting < 2 << 20, "{waiting} bytes of answers wait in memory");
    assert!(stalled, "all was read");
    let _ = client.terminate();
}
