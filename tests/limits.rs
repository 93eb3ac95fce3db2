//! Every setting at its extremes: it is refused by name, or the client works with it, and no peer can end the process.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::{LONG, MS, Server, accept, accept_raw, close_frame, eventually, frame, read_frames, wait_for};
use serde_json::{Value, json};
use tautline::{
    AddressFamily, Beat, Certificate, Client, CloseReason, Compression, Confirmation, ConnectionConfig,
    Context, Delivery, Error, Event, Handshake, HeartbeatAction, HeartbeatConfig, HeartbeatManager, Identity,
    Inbound, Jitter, JsonSession, Message, NetworkConfig, Protocol, Proxy, QueueLimit, ReconnectConfig,
    ReconnectionManager, Retry, ServerOrder, TlsBackend, TlsConfig, TlsVersion, WhileDown,
};
use tungstenite::Message as Frame;

const NS: Duration = Duration::from_nanos(1);
const ZERO: Duration = Duration::ZERO;
const MAX: Duration = Duration::MAX;
const JUST_TOO_SHORT: Duration = Duration::from_nanos(999_999);
const MOST: usize = usize::MAX;

/// What comes of a setting.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// It can't be used.
    Refused,
    /// A message goes there and back.
    Works,
    /// The client does what it is told to, so that none does.
    Fails,
}
use Then::{Fails, Refused, Works};

type Case = (&'static str, ConnectionConfig, Then);

fn sized(
    name: &'static str,
    set: fn(ConnectionConfig, usize) -> ConnectionConfig,
    thens: &[(usize, Then)],
) -> Vec<Case> {
    thens.iter().map(|(size, then)| (name, set(config(), *size), *then)).collect()
}

fn timed(
    name: &'static str,
    set: fn(ConnectionConfig, Duration) -> ConnectionConfig,
    thens: &[(Duration, Then)],
) -> Vec<Case> {
    thens.iter().map(|(time, then)| (name, set(config(), *time), *then)).collect()
}

/// The URL is set where it is used.
fn config() -> ConnectionConfig {
    ConnectionConfig::new("ws://h")
}

fn reconnect(name: &'static str, config: ReconnectConfig, then: Then) -> Case {
    (name, self::config().reconnect(config), then)
}

fn heartbeat(name: &'static str, config: HeartbeatConfig, then: Then) -> Case {
    (name, self::config().heartbeat(config), then)
}

fn cases() -> Vec<Case> {
    [
        times_and_sizes(),
        bounds_and_choices(),
        compressions(),
        networks(),
        tls(),
        reconnects(),
        heartbeats(),
        everything(),
    ]
    .concat()
}

fn times_and_sizes() -> Vec<Case> {
    [
        timed(
            "connect_timeout",
            ConnectionConfig::connect_timeout,
            &[(ZERO, Refused), (NS, Fails), (MAX, Works)],
        ),
        timed(
            "login_timeout",
            ConnectionConfig::login_timeout,
            &[(ZERO, Refused), (NS, Works), (MAX, Works)],
        ),
        timed(
            "close_timeout",
            ConnectionConfig::close_timeout,
            &[(ZERO, Refused), (NS, Works), (MAX, Works)],
        ),
        timed(
            "write_timeout",
            ConnectionConfig::write_timeout,
            &[(ZERO, Refused), (NS, Works), (MAX, Works)],
        ),
        timed("idle_timeout", ConnectionConfig::idle_timeout, &[(ZERO, Refused), (NS, Fails), (MAX, Works)]),
        timed("stable_after", ConnectionConfig::stable_after, &[(ZERO, Works), (NS, Works), (MAX, Works)]),
        timed(
            "retry_after_cap",
            ConnectionConfig::retry_after_cap,
            &[(ZERO, Works), (NS, Works), (MAX, Works)],
        ),
        timed("max_age", ConnectionConfig::max_age, &[(ZERO, Refused), (NS, Fails), (MAX, Works)]),
        timed(
            "spin",
            ConnectionConfig::spin,
            &[(ZERO, Works), (NS, Works), (MS, Works), (MS + NS, Refused), (MAX, Refused)],
        ),
        sized(
            "max_message_size",
            ConnectionConfig::max_message_size,
            &[(0, Refused), (1, Works), (MOST, Works)],
        ),
        sized("max_frame_size", ConnectionConfig::max_frame_size, &[(0, Refused), (1, Works), (MOST, Works)]),
        sized(
            "max_response_size",
            ConnectionConfig::max_response_size,
            &[(0, Refused), (1, Fails), (MOST, Works)],
        ),
        sized(
            "realtime",
            ConnectionConfig::realtime,
            &[(0, Refused), (1, Works), (65_536, Works), (65_537, Refused), (MOST, Refused)],
        ),
        sized("fragment", ConnectionConfig::fragment, &[(0, Refused), (1, Works), (MOST, Works)]),
        sized(
            "thread_stack",
            ConnectionConfig::thread_stack,
            &[
                (0, Refused),
                (1, Refused),
                (384 << 10, Works),
                (1 << 30, Works),
                ((1 << 30) + 1, Refused),
                (MOST, Refused),
            ],
        ),
    ]
    .concat()
}

fn bounds_and_choices() -> Vec<Case> {
    let mut cases = Vec::new();
    for (messages, bytes, then) in [
        (0, 0, Refused),
        (0, 1, Refused),
        (1, 0, Refused),
        (1, 1, Works),
        (MOST, 1, Works),
        (1, MOST, Works),
        (MOST, MOST, Works),
    ] {
        cases.push(("outbox", config().outbox(QueueLimit::new(messages, bytes)), then));
        cases.push(("events", config().events(QueueLimit::new(messages, bytes)), then));
    }
    for (name, then) in
        [("", Refused), ("x", Works), ("~!?/:.%\"'`", Works), ("12345678901", Refused), ("a\0", Refused)]
    {
        cases.push(("thread_name", config().thread_name(name), then));
    }
    // The server chooses none.
    let requires = |required, offered| {
        let config = config().require_subprotocol(required);
        if offered { config.subprotocol("a") } else { config }
    };
    for (required, offered, then) in
        [(false, false, Works), (false, true, Works), (true, false, Refused), (true, true, Fails)]
    {
        cases.push(("require_subprotocol", requires(required, offered), then));
    }
    // Nobody redirects.
    for (redirects, then) in [(0, Works), (1, Works), (20, Works), (21, Refused), (u32::MAX, Refused)] {
        cases.push(("redirects", config().redirects(redirects), then));
    }
    // The URL is the first of the list.
    let many = |count: usize| (1..count).map(|n| format!("ws://h{n}")).collect::<Vec<_>>();
    for (servers, then) in [
        (vec![], Refused),
        (vec!["http://h".into()], Refused),
        (vec!["ws://h".into(); 2], Works),
        (many(1024), Works),
        (many(1025), Refused),
    ] {
        cases.push(("servers", config().servers(servers), then));
    }
    // The last ones lead past the proxy that they name, to the server of these tests.
    let long = "x".repeat(256);
    for (proxy, then) in [
        (Proxy::new(""), Refused),
        (Proxy::new("http://h:0"), Refused),
        (Proxy::new("http://h:65536"), Refused),
        (Proxy::new("socks4://h"), Refused),
        (Proxy::new("socks5://h").login(long.clone(), ""), Refused),
        (Proxy::new("socks5://h").login("x", long), Refused),
        (Proxy::new("h").no_proxy("10.0.0.0/33"), Refused),
        (Proxy::new("http://h:65535").no_proxy("*"), Works),
        (Proxy::new("socks5h://h").login("x".repeat(255), "x".repeat(255)).no_proxy("127.0.0.1"), Works),
        (Proxy::from_env().no_proxy("0.0.0.0/0"), Works),
    ] {
        cases.push(("proxy", config().proxy(proxy), then));
    }
    for order in [ServerOrder::InTurn, ServerOrder::Random] {
        cases.push(("server_order", config().server_order(order), Works));
    }
    for (inbound, then) in [(Inbound::Deliver, Works), (Inbound::Discard, Fails)] {
        cases.push(("inbound", config().inbound(inbound), then));
    }
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        cases.push(("delivery", config().delivery(delivery), Works));
    }
    for beat in [Beat::Json, Beat::Off] {
        cases.push((
            "delivery",
            config().delivery(Delivery::AtLeastOnce).heartbeat(HeartbeatConfig::default().beat(beat)),
            Refused,
        ));
    }
    // There is no protocol that acknowledges anything.
    for (confirmation, then) in [(Confirmation::Pong, Works), (Confirmation::Acknowledgement, Refused)] {
        cases.push(("confirmation", config().confirmation(confirmation), then));
    }
    for while_down in [WhileDown::Queue, WhileDown::Refuse] {
        cases.push(("while_down", config().while_down(while_down), Works));
    }
    cases
}

/// The server ignores the offer.
fn compressions() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |compression, then| cases.push(("compression", config().compression(compression), then));
    for (level, then) in [(0, Refused), (1, Works), (9, Works), (10, Refused), (u32::MAX, Refused)] {
        case(Compression::default().level(level), then);
    }
    for threshold in [0, MOST] {
        case(Compression::default().threshold(threshold), Works);
    }
    for alone in [false, true] {
        case(Compression::default().client_no_context_takeover(alone), Works);
        case(Compression::default().server_no_context_takeover(alone), Works);
    }
    cases
}

/// The server has one address: 127.0.0.1.
fn tls() -> Vec<Case> {
    let pem = include_bytes!("data/ca.pem");
    let root = || Certificate::from_pem(pem);
    let own = || Identity::from_pem(include_bytes!("data/server.pem"), include_bytes!("data/server.key"));
    let mut cases = Vec::new();
    let mut case = |name, tls: TlsConfig, then| cases.push((name, config().tls(tls), then));
    let tls = TlsConfig::default;
    case("tls.roots", tls().root(Certificate::from_pem("")), Refused);
    case("tls.roots", tls().root(root()).root(Certificate::from_der(pem)), Refused);
    case("tls.roots", (0..1000).fold(tls(), |tls, _| tls.root(root())), Works);
    case("tls.only_these_roots", tls().only_these_roots(true), Refused);
    case("tls.only_these_roots", tls().only_these_roots(true).root(root()), Works);
    case("tls.identity", tls().identity(Identity::from_pem("", "")), Refused);
    case("tls.identity", tls().identity(Identity::from_pkcs12("", "")), Refused);
    // Only a TLS library knows a key.
    let has_tls = cfg!(any(feature = "native-tls", feature = "rustls"));
    case("tls.identity", tls().identity(own()), if has_tls { Works } else { Refused });
    for version in [TlsVersion::Tls10, TlsVersion::Tls11, TlsVersion::Tls12, TlsVersion::Tls13] {
        case("tls.min_version", tls().min_version(version), Works);
    }
    case("tls.server_name", tls().server_name(""), Refused);
    case("tls.server_name", tls().server_name("a".repeat(1 << 20)), Works);
    case("tls.pins", tls().pin(""), Refused);
    case("tls.pins", tls().pin([0; 32]), Works);
    case("tls.danger_accept_invalid_certs", tls().danger_accept_invalid_certs(true), Works);
    #[cfg(feature = "native-tls")]
    {
        let connector = || tautline::native_tls::TlsConnector::new().unwrap();
        case("tls.connector", tls().connector(connector()).root(root()), Refused);
        case("tls.connector", tls().connector(connector()).pin([0; 32]).server_name("h"), Works);
        case("tls.backend", tls().backend(TlsBackend::NativeTls), Works);
    }
    #[cfg(feature = "rustls")]
    case("tls.backend", tls().backend(TlsBackend::Rustls), Works);
    case("tls.backend", tls().backend(TlsBackend::Default), Works);
    cases
}

fn networks() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut case = |name, network, then| cases.push((name, config().network(network), then));
    let network = NetworkConfig::default;
    for (family, then) in [
        (AddressFamily::Any, Works),
        (AddressFamily::PreferIpv4, Works),
        (AddressFamily::PreferIpv6, Works),
        (AddressFamily::Ipv4Only, Works),
        (AddressFamily::Ipv6Only, Fails),
    ] {
        case("network.family", network().family(family), then);
    }
    for (local, then) in [("127.0.0.1", Works), ("0.0.0.0", Works), ("::1", Fails), ("::", Fails)] {
        case("network.local_address", network().local_address(local.parse().unwrap()), then);
        let other = if local.contains(':') { AddressFamily::Ipv4Only } else { AddressFamily::Ipv6Only };
        let both = network().local_address(local.parse().unwrap()).family(other);
        case("network.local_address", both, Refused);
    }
    for (delay, then) in
        [(ZERO, Refused), (Duration::from_nanos(9_999_999), Refused), (10 * MS, Works), (MAX, Works)]
    {
        case("network.attempt_delay", network().attempt_delay(delay), then);
    }
    let second = Duration::from_secs(1);
    for (time, then) in [
        (ZERO, Refused),
        (Duration::from_nanos(999_999_999), Refused),
        (second, Works),
        (32_767 * second, Works),
        (32_767 * second + NS, Refused),
        (MAX, Refused),
    ] {
        case("network.keepalive", network().keepalive(time), then);
    }
    for nodelay in [false, true] {
        case("network.nodelay", network().nodelay(nodelay), Works);
    }
    let largest = usize::try_from(i32::MAX).unwrap();
    for (size, then) in [(0, Refused), (1, Works), (largest, Works), (largest + 1, Refused), (MOST, Refused)]
    {
        case("network.send_buffer", network().send_buffer(size), then);
        case("network.receive_buffer", network().receive_buffer(size), then);
    }
    cases
}

fn reconnects() -> Vec<Case> {
    let mut cases = Vec::new();
    for (initial, longest, then) in
        [(ZERO, MAX, Refused), (NS, NS, Works), (NS, MAX, Works), (MAX, MAX, Works), (MAX, NS, Refused)]
    {
        cases.push(reconnect(
            "reconnect.initial_delay",
            ReconnectConfig::default().initial_delay(initial).max_delay(longest),
            then,
        ));
    }
    // It is less than the initial delay.
    cases.push(reconnect("max_delay", ReconnectConfig::default().max_delay(ZERO), Refused));
    cases.push(reconnect("max_delay", ReconnectConfig::default().max_delay(MAX), Works));
    for (multiplier, then) in [
        (0.0, Refused),
        (-1.0, Refused),
        (1.0 - f64::EPSILON, Refused),
        (f64::NAN, Refused),
        (f64::INFINITY, Refused),
        (1.0, Works),
        (f64::MAX, Works),
    ] {
        cases.push(reconnect(
            "reconnect.multiplier",
            ReconnectConfig::default().multiplier(multiplier),
            then,
        ));
    }
    for attempts in [0, 1, u32::MAX] {
        cases.push(reconnect(
            "reconnect.max_attempts",
            ReconnectConfig::default().max_attempts(attempts),
            Works,
        ));
    }
    for jitter in [Jitter::Decorrelated, Jitter::Full, Jitter::Equal, Jitter::None] {
        cases.push(reconnect("reconnect.jitter", ReconnectConfig::default().jitter(jitter), Works));
    }
    cases
}

fn heartbeats() -> Vec<Case> {
    let mut cases = Vec::new();
    for (time, then) in [(ZERO, Refused), (NS, Refused), (JUST_TOO_SHORT, Refused), (MS, Works), (MAX, Works)]
    {
        cases.push(heartbeat("heartbeat.interval", HeartbeatConfig::default().interval(time), then));
        cases.push(heartbeat("heartbeat.timeout", HeartbeatConfig::default().timeout(time), then));
        cases.push(heartbeat(
            "heartbeat.interval",
            HeartbeatConfig::default().interval(time).timeout(MAX).strict(true),
            then,
        ));
    }
    for (beat, then) in
        [(Beat::WebSocketPing, Works), (Beat::Json, Works), (Beat::Off, Works), (Beat::Protocol, Refused)]
    {
        cases.push(heartbeat("heartbeat.beat", HeartbeatConfig::default().beat(beat), then));
    }
    for strict in [false, true] {
        cases.push(heartbeat("heartbeat.strict", HeartbeatConfig::default().strict(strict), Works));
    }
    cases
}

/// All at once.
fn everything() -> Vec<Case> {
    let mut cases = Vec::new();
    for (messages, bytes) in [(1, 1), (MOST, MOST)] {
        let everything = config()
            .connect_timeout(MAX)
            .login_timeout(MAX)
            .close_timeout(MAX)
            .write_timeout(MAX)
            .idle_timeout(MAX)
            .stable_after(MAX)
            .retry_after_cap(MAX)
            .max_age(MAX)
            .max_message_size(bytes)
            .max_frame_size(bytes)
            .max_response_size(MOST)
            .fragment(bytes)
            .outbox(QueueLimit::new(messages, bytes))
            .events(QueueLimit::new(messages, bytes))
            .heartbeat(HeartbeatConfig::default().interval(MAX).timeout(MAX))
            .reconnect(
                ReconnectConfig::default()
                    .initial_delay(MAX)
                    .max_delay(MAX)
                    .multiplier(f64::MAX)
                    .max_attempts(u32::MAX),
            );
        cases.push(("everything", everything, Works));
    }
    cases
}

/// One message there and back, and a close.
fn echoed(config: ConnectionConfig) -> Result<(), Error> {
    let beside_events = config.realtime.is_some();
    let client = Client::connect(config)?;
    client.send("x")?;
    client.flush(LONG)?;
    // The end comes behind the echo, if there is one.
    let echo = if beside_events {
        client.recv_timeout(LONG).ok()
    } else {
        wait_for(&client, |event| match event {
            Event::Message(message) => Some(Some(message)),
            Event::Expired { .. } | Event::Disconnected { .. } | Event::Closed { .. } => Some(None),
            _ => None,
        })
    };
    let _ = client.close();
    match echo {
        Some(message) if message.as_text() == Some("x") => Ok(()),
        other => Err(Error::session(format!("instead of the echo: {other:?}"))),
    }
}

#[test]
fn each_setting_at_its_extremes_is_refused_by_name_or_works() {
    // Answers a message at once, and closes.
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if message.is_text() && (socket.send(message).is_err() || socket.close(None).is_err()) {
                return;
            }
        }
    });
    for (setting, mut config, then) in cases() {
        config.url = server.url();
        let shown = format!("{setting}: {config:?}");
        let result = echoed(config);
        match (then, &result) {
            (Refused, Err(error @ Error::InvalidConfig { .. })) => {
                assert!(error.to_string().contains(setting), "{shown}: {error}");
            }
            (Works, Ok(())) => {}
            (Fails, Err(error)) if !matches!(error, Error::InvalidConfig { .. } | Error::Panicked { .. }) => {
            }
            _ => panic!("{shown}: {result:?}"),
        }
    }
}

#[test]
fn no_setting_is_left_out_of_the_extremes() {
    let covered: Vec<_> = cases().into_iter().map(|(setting, ..)| setting).collect();
    let shown = format!("{:#?}", config());
    let mut group = "";
    for line in shown.lines().skip(1) {
        let Some((name, value)) = line.trim().split_once(": ") else { continue };
        let indent = line.len() - line.trim_start().len();
        match indent {
            4 if value.ends_with('{') => group = name,
            4 => group = "",
            _ => {}
        }
        // These have no extremes.
        if ["url", "headers", "subprotocols"].contains(&name) {
            continue;
        }
        let setting = if indent > 4 { format!("{group}.{name}") } else { name.to_owned() };
        let found = covered.iter().any(|covered| {
            *covered == setting
                || setting.ends_with(&format!(".{covered}"))
                || setting.starts_with(&format!("{covered}."))
        });
        let is_group = ["network", "reconnect", "heartbeat", "tls"].contains(&&*setting);
        if setting == "tls.connector" && cfg!(not(feature = "native-tls")) {
            continue;
        }
        assert!(found || is_group, "{setting} is in no case");
    }
}

#[test]
fn no_delay_between_attempts_is_shorter_than_ten_milliseconds() {
    const ATTEMPTS: u32 = 20;
    let server = Server::start(|_, stream| drop(accept(stream)));
    let reconnect = ReconnectConfig::default().initial_delay(NS).max_delay(NS).max_attempts(ATTEMPTS);
    let config =
        ConnectionConfig::new(server.url()).reconnect(reconnect.jitter(Jitter::Full).multiplier(1.0));
    let start = Instant::now();
    // No line is stable, so that the attempts are counted.
    let client = Client::start(config.stable_after(MAX)).unwrap();
    assert!(matches!(client.wait_closed_timeout(LONG), Ok(CloseReason::GaveUp { .. })));
    assert_eq!(client.stats().attempts, u64::from(ATTEMPTS) + 1);
    assert!(start.elapsed() >= 10 * MS * ATTEMPTS, "{:?}", start.elapsed());
}

#[test]
fn plans_and_heartbeats_at_their_extremes_never_panic() {
    let now = Instant::now();
    for (initial, longest) in [(NS, NS), (NS, MAX), (MAX, MAX)] {
        for multiplier in [1.0, f64::MAX] {
            let config =
                ReconnectConfig::default().initial_delay(initial).max_delay(longest).multiplier(multiplier);
            let mut manager = ReconnectionManager::new(config).unwrap();
            for retry in [Retry::Backoff, Retry::Now, Retry::After(ZERO), Retry::After(MAX)].repeat(50) {
                let plan = manager.schedule_reconnect(now, retry).unwrap();
                assert!(plan.at >= now && (retry == Retry::Now || plan.delay >= 10 * MS), "{plan:?}");
            }
        }
    }
    for interval in [MS, MAX] {
        for timeout in [MS, MAX] {
            let config = HeartbeatConfig::default().interval(interval).timeout(timeout);
            let mut heartbeat = HeartbeatManager::new(config).unwrap();
            heartbeat.start(now);
            for _ in 0..100 {
                let due = heartbeat.next_deadline().unwrap();
                assert!(due > now);
                match heartbeat.handle_timeout(due) {
                    Some(HeartbeatAction::Send(_)) => heartbeat.handle_written(due, heartbeat.sent()),
                    Some(_) => heartbeat.start(due),
                    None => {}
                }
            }
        }
    }
}

/// Asks for everything that takes a time, at its extremes.
struct Extreme;

impl Protocol for Extreme {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        for (first, interval) in [(MAX, MAX), (ZERO, MAX), (MAX, ZERO), (ZERO, ZERO)] {
            cx.set_beats(first, interval);
        }
        cx.hold(MAX);
        cx.hold(ZERO);
        cx.set_timer(0, MAX);
        cx.set_timer(1, ZERO);
        cx.ready();
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        cx.deliver(format!("timer {id}"));
        Ok(())
    }
}

#[test]
fn times_that_a_server_may_have_chosen_never_panic_or_spin() {
    let server = Server::echo();
    let client = Client::builder(server.url().as_str()).protocol(Extreme).connect().unwrap();
    client.send("x").unwrap();
    let mut seen: Vec<_> =
        (0..2).map(|_| client.recv_timeout(LONG).unwrap().as_text().unwrap().to_owned()).collect();
    seen.sort();
    assert_eq!(seen, ["timer 1", "x"]);
    eventually("beats", || client.stats().heartbeats > 3);
    assert_eq!(client.stats().disconnects, 0);
    assert!(client.close().is_empty());
}

/// JSON as deep as it is read.
fn deep() -> String {
    format!("{}1{}", r#"{"a":["#.repeat(63), "]}".repeat(63))
}

/// Answers each text with `answers` to it.
fn answering(answers: impl Fn(&Value) -> Vec<String> + Send + Sync + 'static) -> Server {
    Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            let Ok(text) = message.to_text() else { continue };
            let Ok(value) = serde_json::from_str(text) else { continue };
            for answer in answers(&value) {
                if socket.send(Frame::text(answer)).is_err() {
                    return;
                }
            }
        }
    })
}

#[test]
fn the_deepest_json_fits_the_smallest_stack() {
    let server = answering(|value| {
        let id = if value["id"].is_null() { json!(0) } else { value["id"].clone() };
        // Pongs, events and answers, each as deep as can be.
        let nested = format!("{}{}", "[".repeat(125), "]".repeat(125));
        vec![deep(), format!(r#"{{"type":"pong","x":{nested}}}"#), format!(r#"{{"id":{id},"x":{nested}}}"#)]
    });
    let smallest = |url: String| {
        ConnectionConfig::new(url)
            .thread_stack(384 << 10)
            .heartbeat(HeartbeatConfig::json().interval(5 * MS).timeout(LONG))
    };
    let session = JsonSession::new().login(json!({"login": 1})).answers_by("id");
    let client = Client::builder(smallest(server.url())).protocol(session).connect().unwrap();
    let id: Value = serde_json::from_str(&format!("{}{}", "[".repeat(120), "]".repeat(120))).unwrap();
    client.request(json!({"id": id}), LONG).unwrap();
    client.request(json!({"q": id}), LONG).unwrap();
    eventually("beats", || client.stats().heartbeats > 3);
    assert_eq!(client.stats().disconnects, 0);
    let _ = client.terminate();

    let server = answering(|_| vec![deep()]);
    let session = JsonSession::new().login(json!({"login": 1})).refused(|_| true);
    let refused = Client::builder(smallest(server.url())).protocol(session).connect().unwrap_err();
    assert!(matches!(refused, Error::LoginRefused { .. }), "{refused:?}");
}

#[test]
fn control_frames_are_no_messages_and_have_no_other_limit_than_their_own() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        let long = [b'x'; 123];
        let bytes = [
            frame(0x89, &[7; 125]),
            frame(0x8A, &[7; 125]),
            frame(0x81, b"m"),
            close_frame(1000, std::str::from_utf8(&long).unwrap()),
        ];
        stream.write_all(&bytes.concat()).unwrap();
        let sent = read_frames(&mut stream);
        assert_eq!(sent.iter().map(|(opcode, _)| *opcode).collect::<Vec<_>>(), [10, 8]);
        assert_eq!(sent[0].1, [7; 125]);
    });
    let config = ConnectionConfig::new(server.url()).max_message_size(1).max_frame_size(1);
    let client = Client::connect(config.heartbeat(HeartbeatConfig::off())).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap(), Message::from("m"));
    let reason = wait_for(&client, |event| match event {
        Event::Closed { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(matches!(&reason, CloseReason::NotRetried(why) if why.to_string().contains("1000")), "{reason}");
}
