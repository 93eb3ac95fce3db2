//! The client against real servers: Python's websockets and Node's ws, plain and over TLS.
//!
//! `tests/interop/run.sh` starts them and runs these tests. The heads of `echo.py` and `ws-server.js`, beside it, list
//! what a message can ask a server to do.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

#[macro_use]
#[path = "interop/client.rs"]
mod client;
mod common;

use std::thread;

use client::{config, connect, connect_only, connected, counted, echo, lost, ms, receive, server};
use common::LONG;
use tautline::{
    Client, CloseFrame, CloseReason, ConnectionConfig, DisconnectReason, Error, HeartbeatConfig, Message,
    QueueLimit,
};

on_each_line! {
    { with_python: "PY_WS", with_python_over_tls: "PY_WSS", with_node: "NODE_WS", with_node_over_tls: "NODE_WSS" }
    messages_of_every_size_come_back_as_they_went,
    the_fragments_of_a_message_are_joined,
    a_flood_arrives_in_order,
    a_reader_that_stops_slows_the_server_down_and_keeps_the_line,
    many_threads_keep_the_order_of_each,
    the_pings_of_the_server_are_answered,
    a_heartbeat_measures_the_round_trip,
    twenty_heartbeats_keep_the_line,
    a_close_code_is_told_and_decides_what_follows,
    a_line_that_breaks_comes_back_by_itself,
    the_server_sees_how_the_client_ended_the_line,
    a_server_that_breaks_the_protocol_is_told_so,
}

fn messages_of_every_size_come_back_as_they_went(url: &str) {
    let client = connect(config(url));
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 16 << 20] {
        for message in [text(size), binary(size)] {
            client.send(message.clone()).unwrap();
            let echo = client.recv_timeout(LONG).unwrap();
            assert!(echo == message, "{message:?} came back as {echo:?}");
        }
    }
    let left = client.close();
    assert!(left.is_empty(), "{left:?}");
}

fn the_fragments_of_a_message_are_joined(url: &str) {
    let client = connect(config(url));
    for count in [1, 2, 1000] {
        client.send(format!("frag:{count}")).unwrap();
        let whole = receive(&client);
        assert!(whole.split_terminator(' ').eq((0..count).map(|n| n.to_string())), "{whole}");
    }
}

fn a_flood_arrives_in_order(url: &str) {
    let client = connect(config(url));
    client.send("flood:20000").unwrap();
    for n in 0..20_000 {
        assert_eq!(receive(&client), n.to_string());
    }
    echo(&client);
}

fn a_reader_that_stops_slows_the_server_down_and_keeps_the_line(url: &str) {
    const COUNT: u64 = 500;
    let heartbeat = HeartbeatConfig::default().interval(ms(200)).timeout(ms(2000));
    let client = connect(config(url).events(QueueLimit::new(16, 16 << 20)).heartbeat(heartbeat));
    // 31 MiB: more than the system holds between the two.
    client.send(format!("flood:{COUNT}:65536")).unwrap();
    // For longer than a heartbeat may go unanswered: no answer is read, and that is not the server's fault. Not for
    // many more: ws hangs up once 60 pongs wait to be written.
    counted(&client, "heartbeats", |stats| stats.heartbeats >= 12);
    let stats = client.stats();
    assert!(stats.messages_received < COUNT / 2, "{stats:?}");
    for n in 0..COUNT {
        let message = receive(&client);
        assert_eq!((message.len(), message.trim_end()), (65_536, &*n.to_string()));
    }
    echo(&client);
    assert_eq!(client.stats().connects, 1);
}

fn many_threads_keep_the_order_of_each(url: &str) {
    const SENDERS: usize = 8;
    const EACH: usize = 1250;
    let client = connect(config(url));
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let client = &client;
            scope.spawn(move || {
                for n in 0..EACH {
                    client.send_timeout(format!("{sender} {n}"), LONG).unwrap();
                }
            });
        }
        let mut next = [0; SENDERS];
        for _ in 0..SENDERS * EACH {
            let message = receive(&client);
            let (sender, n) = message.split_once(' ').unwrap();
            let next = &mut next[sender.parse::<usize>().unwrap()];
            assert_eq!(n, next.to_string(), "sender {sender}");
            *next += 1;
        }
    });
    let left = client.close();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(client.stats().messages_written, (SENDERS * EACH) as u64);
}

fn the_pings_of_the_server_are_answered(url: &str) {
    let client = connect(config(url));
    for _ in 0..50 {
        client.send("ping").unwrap();
        assert_eq!(receive(&client), "pong");
    }
}

fn a_heartbeat_measures_the_round_trip(url: &str) {
    let client = connect(config(url).heartbeat(HeartbeatConfig::default().interval(ms(50))));
    counted(&client, "a round trip", |stats| stats.round_trip.is_some());
    assert!(client.stats().heartbeats >= 1);
}

fn twenty_heartbeats_keep_the_line(url: &str) {
    let heartbeat = HeartbeatConfig::default().interval(ms(20)).timeout(ms(2000)).strict(true);
    let client = connect(config(url).heartbeat(heartbeat));
    counted(&client, "heartbeats", |stats| stats.heartbeats >= 20);
    echo(&client);
    assert_eq!(client.stats().connects, 1);
}

fn a_close_code_is_told_and_decides_what_follows(url: &str) {
    // 1014 is not among them: tungstenite takes it for a code that nobody may send, and reports 1002.
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 4999] {
        let client = connect(config(url));
        client.send(format!("close:{code}:because of {code}")).unwrap();
        let (reason, retry_in, _) = lost(&client);
        let same = |reason: &DisconnectReason| {
            matches!(reason, DisconnectReason::ClosedByServer(CloseFrame { code: told, reason, .. })
                if *told == code && **reason == *format!("because of {code}"))
        };
        assert!(same(&reason), "{code}: {reason:?}");
        if [1000, 1008].contains(&code) {
            assert_eq!(retry_in, None, "{code}");
            let closed = client.wait_closed_timeout(LONG);
            assert!(matches!(&closed, Ok(CloseReason::NotRetried(why)) if same(why)), "{code}: {closed:?}");
        } else {
            assert!(retry_in.is_some(), "{code}");
            connected(&client);
        }
    }
    let client = connect(config(url));
    client.send("close:").unwrap();
    let (reason, retry_in, _) = lost(&client);
    assert!(matches!(&reason, DisconnectReason::ClosedByServer(CloseFrame { code: 1005, .. })), "{reason:?}");
    assert!(retry_in.is_some());
    connected(&client);
}

fn a_line_that_breaks_comes_back_by_itself(url: &str) {
    breaks_and_comes_back(url, "abort");
}

fn the_server_sees_how_the_client_ended_the_line(url: &str) {
    let witness = connect(config(url));
    let open = |path: &str| connect(config(&format!("{url}{path}")));

    let client = open("/close");
    for n in 0..100 {
        client.send(n.to_string()).unwrap();
    }
    let left = client.close();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(seen(&witness, "/close"), "1000:");

    let longest = format!("{}.", "é".repeat(61));
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999] {
        let path = format!("/close_with/{code}");
        let _ = open(&path).close_with(code, &longest).unwrap();
        assert_eq!(seen(&witness, &path), format!("{code}:{longest}"));
    }

    drop(open("/drop"));
    assert_eq!(seen(&witness, "/drop"), "1000:");

    let _ = open("/terminate").terminate();
    assert_eq!(seen(&witness, "/terminate"), "1006:");
}

fn a_server_that_breaks_the_protocol_is_told_so(url: &str) {
    let witness = connect(config(url));
    for (path, frame, code) in [
        ("/masked", "81810102030440", 1002),
        ("/rsv1", "c10141", 1002),
        ("/unknown-opcode", "8300", 1002),
        ("/no-utf-8", "8102c328", 1007),
        ("/4-gib", "827f0000000100000000", 1009),
    ] {
        let client = connect(config(&format!("{url}{path}")));
        client.send(format!("raw:{frame}")).unwrap();
        let (reason, retry_in, _) = lost(&client);
        assert!(
            matches!(&reason, DisconnectReason::Lost(Error::Protocol { code: told, .. }) if *told == code),
            "{path}: {reason:?}"
        );
        assert!(retry_in.is_some(), "{path}");
        assert_eq!(seen(&witness, path), format!("{code}:"), "{path}");
        connected(&client);
        echo(&client);
    }
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_reset_line_comes_back_by_itself() {
    breaks_and_comes_back(&server("PY_WS"), "reset");
    breaks_and_comes_back(&server("PY_WSS"), "reset");
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn the_heartbeats_of_both_sides_keep_the_line() {
    let heartbeat = HeartbeatConfig::default().interval(ms(50)).timeout(ms(2000)).strict(true);
    let client = connect(config(&server("PY_PINGING")).heartbeat(heartbeat));
    // 1 s: the server gives up on a client that leaves a ping unanswered for half of that.
    counted(&client, "heartbeats", |stats| stats.heartbeats >= 20);
    client.send("latency").unwrap();
    assert_eq!(receive(&client), "latency");
    assert_eq!(client.stats().connects, 1);
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn json_heartbeats_are_answered_out_of_sight_of_the_application() {
    let heartbeat = HeartbeatConfig::json().interval(ms(20)).timeout(ms(2000)).strict(true);
    let client = connect(config(&server("NODE_WS")).heartbeat(heartbeat));
    counted(&client, "heartbeats", |stats| stats.heartbeats >= 20 && stats.round_trip.is_some());
    echo(&client);
    assert_eq!(client.stats().connects, 1);
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn the_subprotocol_is_what_the_server_chose() {
    let offer = |name, offered: &[&str]| {
        offered.iter().fold(config(&server(name)), |config, offer| config.subprotocol(*offer))
    };
    for name in ["PY_CHAT", "NODE_WS", "NODE_WSS"] {
        let client = connect_only(offer(name, &["superchat", "chat"]));
        assert_eq!(connected(&client).as_deref(), Some("chat"), "{name}");
        echo(&client);
    }
    for (name, offered) in [("PY_WS", "chat"), ("NODE_WS", "superchat")] {
        let client = connect_only(offer(name, &[offered]));
        assert_eq!(connected(&client), None, "{name}");
        echo(&client);
    }
    let refused = Client::connect(offer("PY_CHAT", &[])).unwrap_err();
    assert!(matches!(&refused, Error::UpgradeRejected(rejection) if rejection.status == 400), "{refused}");
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn basic_credentials_open_the_line_and_wrong_ones_are_refused() {
    let url = server("PY_BASIC");
    let with = |userinfo: &str| config(&url.replace("://", &format!("://{userinfo}")));
    echo(&connect(with("bob:correct%20horse@")));
    echo(&connect(with("").header("Authorization", "Basic Ym9iOmNvcnJlY3QgaG9yc2U=")));
    for wrong in ["", "bob@", "bob:battery@", "alice:correct%20horse@"] {
        let error = Client::connect(with(wrong)).unwrap_err();
        let Error::UpgradeRejected(rejection) = &error else { panic!("{wrong}: {error}") };
        assert_eq!(rejection.status, 401, "{wrong}");
        let challenge = rejection.header("WWW-Authenticate").unwrap();
        assert!(challenge.contains(r#"realm="interop""#), "{challenge}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("battery") && !shown.contains("horse"), "{shown}");
    }
    let client = Client::start(with("bob:battery@")).unwrap();
    let closed = client.wait_closed_timeout(LONG);
    assert!(
        matches!(
            &closed,
            Ok(CloseReason::NotRetried(DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection))))
                if rejection.status == 401
        ),
        "{closed:?}"
    );
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_certificate_is_good_for_the_name_and_for_the_addresses_in_it() {
    for name in ["PY_WSS", "NODE_WSS"] {
        let url = server(name);
        echo(&connect(config(&url)));
        echo(&connect(config(&url.replace("localhost", "127.0.0.1"))));
    }
    let ipv6 = server("PY_IPV6");
    if !ipv6.is_empty() {
        echo(&connect(config(&ipv6)));
    }
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_certificate_that_is_no_good_is_refused_with_what_is_wrong() {
    for server_of in ["PY", "NODE"] {
        let server = |kind| server(&format!("{server_of}_{kind}"));
        for (config, wrong) in [
            (ConnectionConfig::new(server("WSS")), "issued by nobody whom this system trusts"),
            (config(&server("EXPIRED")), "has expired"),
            (config(&server("WRONG_NAME")), "is not for the name localhost"),
        ] {
            let error = Client::connect(config).unwrap_err();
            assert!(
                matches!(&error, Error::Tls { host, .. } if host.starts_with("localhost:")),
                "{wrong}: {error:?}"
            );
            let shown = error.to_string();
            assert!(shown.contains(wrong), "{wrong}: {shown}");
        }
    }
}

/// With TLS 1.3 the handshake is over for the client, which asks for the upgrade already, when the server judges the
/// certificate. This one then ends TCP without an alert, and resets it if the request has come.
#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_server_that_leaves_over_a_missing_client_certificate_is_tried_again() {
    for _ in 0..20 {
        let client = Client::start(config(&server("PY_CLIENT"))).unwrap();
        let (reason, retry_in, _) = lost(&client);
        let DisconnectReason::ConnectFailed(Error::Upgrade { host, .. }) = &reason else {
            panic!("{reason:?}")
        };
        let shown = reason.to_string();
        let says =
            ["it ended the connection without a word", "the connection broke: Connection reset by peer"]
                .map(|says| format!("{host} did not answer the WebSocket upgrade as it should: {says}"));
        assert!(says.iter().any(|says| shown.starts_with(says)), "{shown}");
        assert!(retry_in.is_some());
    }
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_certificate_that_may_be_mended_is_tried_again() {
    let client = Client::start(config(&server("PY_EXPIRED"))).unwrap();
    for _ in 0..3 {
        let (reason, retry_in, _) = lost(&client);
        assert!(matches!(&reason, DisconnectReason::ConnectFailed(Error::Tls { .. })), "{reason:?}");
        assert!(retry_in.is_some());
    }
    let error = client.wait_ready(ms(1)).unwrap_err();
    assert!(
        matches!(&error, Error::Timeout { source: Some(why), .. } if matches!(**why, Error::Tls { .. })),
        "{error}"
    );
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn tls_on_one_side_only_is_an_error() {
    for name in ["PY_WS", "NODE_WS"] {
        let error = Client::connect(config(&server(name).replace("ws://", "wss://"))).unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{name}: {error:?}");
    }
    for name in ["PY_WSS", "NODE_WSS"] {
        let error = Client::connect(config(&server(name).replace("wss://", "ws://"))).unwrap_err();
        assert!(matches!(error, Error::Upgrade { .. } | Error::ConnectionLost { .. }), "{name}: {error:?}");
    }
}

/// What the server of `witness` saw at the end of the connection to `path`: code and reason.
fn seen(witness: &Client, path: &str) -> String {
    witness.send(format!("last-close:{path}")).unwrap();
    receive(witness)
}

fn breaks_and_comes_back(url: &str, how: &str) {
    let client = connect(config(url));
    for _ in 0..3 {
        let ticket = client.send(how).unwrap();
        let (reason, retry_in, in_doubt) = lost(&client);
        assert!(matches!(reason, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{reason:?}");
        assert!(retry_in.is_some());
        assert!(in_doubt.contains(ticket), "{in_doubt}");
        connected(&client);
        echo(&client);
    }
    assert_eq!(client.stats().connects, 4);
}

/// Text of this many bytes, in characters of one to four bytes.
fn text(size: usize) -> Message {
    let mut text = "aé€🙂".repeat(size / 10);
    text.extend(std::iter::repeat_n('x', size - text.len()));
    text.into()
}

fn binary(size: usize) -> Message {
    (0..=u8::MAX).cycle().take(size).collect::<Vec<_>>().into()
}
