//! Losses, and what follows them.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/full.rs"]
mod full;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::{LONG, Nobody, Server, accept, accept_raw, echo, read_frame, read_head};
use tautline::ConnectionState::{Connected, Connecting, Disconnected};
use tautline::{
    Client, CloseReason, ConnectionConfig, ConnectionState, DisconnectReason, Error, Event,
    ExponentialBackoff, HeartbeatConfig, Jitter, Phase, ReconnectConfig,
};

const MS: Duration = Duration::from_millis(1);

/// Reconnects after 1 to 10 ms.
fn config(url: &str) -> ConnectionConfig {
    ConnectionConfig::new(url).reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
}

/// Events until the one that `wanted` maps to something.
fn wait_for<T>(client: &Client, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    loop {
        let event = client.events().recv_timeout(LONG).expect("the awaited event never came");
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

fn disconnected(event: Event) -> Option<(DisconnectReason, Option<Duration>)> {
    match event {
        Event::Disconnected { reason, retry_in, .. } => Some((reason, retry_in)),
        _ => None,
    }
}

/// The first loss of a client of a server that does `serve` on its first connection and echoes on the others.
fn first_loss(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> (DisconnectReason, Option<Duration>) {
    let server = Server::start(move |n, stream| if n == 0 { serve(stream) } else { echo(accept(stream)) });
    let client = Client::start(config(&server.url())).unwrap();
    wait_for(&client, disconnected)
}

/// Answers the upgrade with these bytes.
fn answer(text: &'static str) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        read_head(&mut stream);
        stream.write_all(text.as_bytes()).unwrap();
    }
}

fn close_with(code: u16) -> impl Fn(TcpStream) + Send + Sync {
    move |stream| {
        let mut socket = accept(stream);
        let frame = tungstenite::protocol::CloseFrame { code: code.into(), reason: "reason".into() };
        socket.close(Some(frame)).unwrap();
        while socket.read().is_ok() {}
    }
}

#[test]
fn a_line_that_is_cut_comes_back_and_what_waited_goes_out() {
    let server = Server::echo();
    let client = Client::connect(config(&server.url())).unwrap();
    for round in 0..20 {
        server.cut();
        wait_for(&client, disconnected);
        client.send(round.to_string()).unwrap();
        let message = wait_for(&client, Event::into_message);
        assert_eq!(message.as_text(), Some(round.to_string().as_str()));
    }
    assert_eq!(client.stats().disconnects, 20);
    assert!(client.close().is_empty());
}

#[test]
fn the_states_are_published_in_order() {
    let server = Server::start(|n, stream| {
        let mut socket = accept(stream);
        if n == 0 {
            let _ = socket.read();
            return;
        }
        echo(socket);
    });
    let client = Client::connect(config(&server.url())).unwrap();
    client.send("go").unwrap();
    let mut states = vec![ConnectionState::Disconnected];
    while states.len() < 6 {
        if let Event::StateChanged { from, to, .. } = client.events().recv_timeout(LONG).unwrap() {
            assert_eq!(Some(&from), states.last());
            states.push(to);
        }
    }
    assert_eq!(states, [Disconnected, Connecting, Connected, Disconnected, Connecting, Connected]);
}

#[test]
fn an_address_with_a_zone_is_dialled_and_its_zone_is_not_sent() {
    // Where the system has no IPv6, there is nothing to reach.
    let Ok(listener) = TcpListener::bind("[::1]:0") else { return };
    let port = listener.local_addr().unwrap().port();
    let (head_in, head) = crossbeam_channel::unbounded();
    let _server = Server::start_on(listener, move |_, mut stream| {
        let request = read_head(&mut stream);
        stream.write_all(common::good_answer(&request, "").as_bytes()).unwrap();
        head_in.send(request).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::builder(config(&format!("ws://[::1%251]:{port}")))
        .resolver(|_, _| panic!("an address is no name"))
        .connect()
        .unwrap();
    let request = head.recv_timeout(LONG).unwrap();
    assert!(request.contains(&format!("\r\nHost: [::1]:{port}\r\n")), "{request}");
    client.terminate();
}

#[test]
fn only_the_system_is_asked_for_the_interface_of_an_address() {
    let connect = |url| {
        let config = config(url).connect_timeout(Duration::from_millis(200));
        Client::builder(config).resolver(|_, _| panic!("an address is no name")).connect().unwrap_err()
    };
    let unknown = connect("ws://[fe80::1%25nosuch0]:9");
    let Error::Resolve { host, .. } = &unknown else { panic!("{unknown:?}") };
    assert_eq!(&**host, "fe80::1%nosuch0");
    if cfg!(target_os = "linux") {
        // Nobody has that address, but the interface is found.
        let known = connect("ws://[fe80::1%25lo]:9");
        assert!(matches!(known, Error::Connect { .. } | Error::ConnectTimeout { .. }), "{known:?}");
    }
}

#[test]
fn connect_makes_one_attempt_and_says_why_it_failed() {
    let nobody = Nobody::new();
    let error = Client::connect(config(&nobody.url())).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains(&nobody.address().to_string()), "{error}");

    let unknown = |_: &str, _| Err(std::io::Error::other("no such host"));
    let error = Client::builder("ws://gateway.invalid").resolver(unknown).connect().unwrap_err();
    assert_eq!(error.to_string(), "looking up gateway.invalid: no such host");

    let server = Server::start(|_, stream| {
        answer("HTTP/1.1 403 Forbidden\r\nX-Id: 7\r\nContent-Length: 13\r\n\r\ntoken expired")(stream);
    });
    let Err(Error::UpgradeRejected(rejection)) = Client::connect(config(&server.url())) else { panic!() };
    assert_eq!((rejection.status, rejection.header("x-id")), (403, Some("7")));
    assert_eq!(rejection.body, b"token expired");
}

/// The time for an attempt of which one phase hangs. A busy machine needs some of it for the phases before.
const STALL: Duration = Duration::from_secs(1);

#[test]
fn each_phase_that_stalls_is_named_by_the_timeout() {
    let stalled = |serve: fn(TcpStream), scheme: &str| {
        let server = Server::start(move |_, stream| serve(stream));
        let config = config(&server.url().replace("ws", scheme)).connect_timeout(STALL);
        match Client::connect(config).unwrap_err() {
            Error::ConnectTimeout { phase, after, .. } if after == STALL => phase,
            other => panic!("{other:?}"),
        }
    };
    let silent: fn(TcpStream) =
        |mut stream| while std::io::Read::read(&mut stream, &mut [0; 512]).is_ok_and(|n| n > 0) {};
    assert_eq!(stalled(silent, "ws"), Phase::Upgrade);
    assert_eq!(stalled(silent, "wss"), Phase::Tls);
    let half: fn(TcpStream) = |mut stream| {
        stream.write_all(b"HTTP/1.1 101 Switching").unwrap();
        while std::io::Read::read(&mut stream, &mut [0; 512]).is_ok_and(|n| n > 0) {}
    };
    assert_eq!(stalled(half, "ws"), Phase::Upgrade);
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_that_does_not_answer_at_all_is_a_timeout_of_tcp() {
    let full = full::Full::listen();
    let config = config(&format!("ws://{}", full.address)).connect_timeout(STALL);
    let error = Client::connect(config).unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { phase: Phase::Connect, .. }), "{error:?}");
    assert!(error.to_string().contains("while waiting for the TCP connection"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn an_address_that_does_not_answer_does_not_hide_the_next() {
    let (full, server) = (full::Full::listen(), Server::echo());
    let addresses = vec![full.address, server.address()];
    // Half of it goes to the first.
    let config = config("ws://h").connect_timeout(2 * STALL);
    let client = Client::builder(config).resolver(move |_, _| Ok(addresses.clone())).connect().unwrap();
    assert!(client.close().is_empty());
}

#[test]
fn a_look_up_that_hangs_is_abandoned_and_then_joined_by_the_next_attempt() {
    let server = Server::echo();
    let address = server.address();
    let (asked_in, asked) = crossbeam_channel::unbounded();
    let (answer_in, answer) = crossbeam_channel::bounded::<()>(0);
    let client = Client::builder(config("ws://gateway.invalid").connect_timeout(20 * MS))
        .resolver(move |_, _| {
            asked_in.send(()).unwrap();
            let _ = answer.recv();
            Ok(vec![address])
        })
        .start()
        .unwrap();
    for _ in 0..3 {
        let (reason, _) = wait_for(&client, disconnected);
        let DisconnectReason::ConnectFailed(Error::ConnectTimeout { phase, .. }) = reason else {
            panic!("{reason}")
        };
        assert_eq!(phase, Phase::Resolve);
    }
    assert_eq!(asked.len(), 1, "one look-up for all attempts");
    drop(answer_in);
    client.wait_ready(LONG).unwrap();
    assert!(client.close().is_empty());
}

#[test]
fn an_address_that_refuses_does_not_hide_the_next() {
    let server = Server::echo();
    let nobody = Nobody::new();
    let addresses = vec![nobody.address(), server.address()];
    let client = Client::builder("ws://h").resolver(move |_, _| Ok(addresses.clone())).connect().unwrap();
    assert!(client.close().is_empty());
}

#[test]
fn a_server_that_comes_late_is_found() {
    let nobody = Nobody::new();
    let client = Client::start(config(&nobody.url())).unwrap();
    for _ in 0..3 {
        let (reason, retry_in) = wait_for(&client, disconnected);
        assert!(matches!(reason, DisconnectReason::ConnectFailed(Error::Connect { .. })), "{reason}");
        assert!(retry_in.is_some());
    }
    let error = client.wait_ready(MS).unwrap_err();
    assert!(matches!(&error, Error::Timeout { source: Some(_), .. }), "{error:?}");
    let _server = Server::start_on(nobody.listen(), |_, stream| echo(accept(stream)));
    client.wait_ready(LONG).unwrap();
}

#[test]
fn attempts_end_at_the_maximum_with_the_last_cause() {
    let nobody = Nobody::new();
    let mut config = config(&nobody.url());
    config.reconnect.max_attempts = Some(3);
    let client = Client::start(config).unwrap();
    let reason = client.wait_closed_timeout(LONG).unwrap();
    let CloseReason::GaveUp { attempts: 3, last, .. } = &reason else { panic!("{reason:?}") };
    assert!(matches!(last, DisconnectReason::ConnectFailed(Error::Connect { .. })));
    assert_eq!(client.stats().attempts, 4, "the first and three reconnects");
    assert!(matches!(reason.into_result(), Err(Error::GaveUp { .. })));
    assert!(matches!(client.events().iter().last(), Some(Event::Closed { .. })));
    assert!(matches!(client.recv(), Err(Error::Closed)));
}

#[test]
fn the_servers_close_code_decides() {
    for (code, comes_back) in [(1000, false), (1008, false), (1001, true), (1011, true), (4000, true)] {
        let (reason, retry_in) = first_loss(close_with(code));
        let DisconnectReason::ClosedByServer(frame) = reason else { panic!("{reason}") };
        assert_eq!((frame.code, &*frame.reason), (code, "reason"));
        assert_eq!(retry_in.is_some(), comes_back, "{code}");
    }
}

#[test]
fn the_http_status_decides() {
    for (head, comes_back) in [
        ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 429 Slow down\r\nContent-Length: 0\r\n\r\n", true),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
    ] {
        let (reason, retry_in) = first_loss(answer(head));
        assert!(matches!(reason, DisconnectReason::ConnectFailed(Error::UpgradeRejected(_))), "{reason}");
        assert_eq!(retry_in.is_some(), comes_back, "{head}");
    }
}

#[test]
fn retry_after_is_waited_out() {
    let (_, retry_in) =
        first_loss(answer("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!(retry_in, Some(Duration::from_secs(7)));
}

#[test]
fn a_line_that_was_told_to_slow_down_comes_back() {
    let server = Server::start(|n, stream| match n {
        0 => answer("HTTP/1.1 429 Slow down\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")(stream),
        1 => answer("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")(stream),
        _ => echo(accept(stream)),
    });
    let client = Client::start(config(&server.url())).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    assert_eq!(client.stats().attempts, 3);
}

#[test]
fn clients_that_were_cut_off_together_do_not_come_back_together() {
    const FLEET: usize = 10_000;
    // Where each has been gone for so many attempts, how many come in the worst 100 ms of the next?
    let worst = |attempts: u32, jitter| {
        let mut slots = std::collections::HashMap::<u128, usize>::new();
        for seed in 0..FLEET {
            let mut random = fastrand::Rng::with_seed(seed as u64);
            let reconnect = ReconnectConfig::default().jitter(jitter);
            let mut backoff = ExponentialBackoff::with_random(reconnect, move || random.f64()).unwrap();
            let delay = (0..attempts).map(|_| backoff.next_delay()).sum::<Duration>();
            *slots.entry(delay.as_millis() / 100).or_default() += 1;
        }
        slots.into_values().max().unwrap()
    };
    assert_eq!(worst(1, Jitter::None), FLEET, "the storm that jitter is for");
    for jitter in [Jitter::Decorrelated, Jitter::Full, Jitter::Equal] {
        assert!(worst(1, jitter) < FLEET / 4, "{jitter:?}: all draw from a second or two");
        assert!(worst(8, jitter) < FLEET / 40, "{jitter:?}: {}", worst(8, jitter));
    }
}

#[test]
fn reconnect_now_ends_the_wait() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            answer("HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n")(stream);
        } else {
            echo(accept(stream));
        }
    });
    let client = Client::start(config(&server.url())).unwrap();
    let (_, retry_in) = wait_for(&client, disconnected);
    assert_eq!(retry_in, Some(Duration::from_secs(3600)));
    client.reconnect_now();
    client.wait_ready(LONG).unwrap();
}

#[test]
fn a_silent_peer_is_noticed_within_interval_and_timeout() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            // Reads, and never answers.
            let mut stream = accept_raw(stream);
            while read_frame(&mut stream).is_some() {}
        } else {
            echo(accept(stream));
        }
    });
    let heartbeat = HeartbeatConfig::default().interval(40 * MS).timeout(20 * MS);
    let start = Instant::now();
    let client = Client::connect(config(&server.url()).heartbeat(heartbeat)).unwrap();
    let (reason, _) = wait_for(&client, disconnected);
    let DisconnectReason::Lost(Error::HeartbeatTimeout { silence, .. }) = reason else { panic!("{reason}") };
    assert!(silence >= 20 * MS && start.elapsed() >= 60 * MS, "{silence:?} after {:?}", start.elapsed());
    client.wait_ready(LONG).unwrap();
}

/// A server that answers each ping by saying something, but never with a pong; the client of a `strict` configuration,
/// or of one that is not.
fn talkative(strict: bool) -> (Server, Client) {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, _)) = read_frame(&mut stream) {
            if opcode == 9 && stream.write_all(b"\x81\x05hello").is_err() {
                return;
            }
        }
    });
    let heartbeat = HeartbeatConfig::default().interval(10 * MS).timeout(1000 * MS).strict(strict);
    let client = Client::connect(config(&server.url()).heartbeat(heartbeat)).unwrap();
    (server, client)
}

#[test]
fn a_server_that_talks_is_alive_though_it_answers_no_ping_unless_only_the_answer_counts() {
    let (_server, client) = talkative(false);
    // For more than twice as long as an answer may take.
    for _ in 0..220 {
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    }
    assert_eq!((client.stats().disconnects, client.stats().round_trip), (0, None));
    client.terminate();

    let (_server, client) = talkative(true);
    let (reason, _) = wait_for(&client, disconnected);
    assert!(matches!(reason, DisconnectReason::Lost(Error::HeartbeatTimeout { .. })), "{reason}");
    client.terminate();
}

#[test]
fn a_beat_that_was_never_answered_does_not_judge_the_next_connection() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            // Gone with the beat unanswered.
            let mut stream = accept_raw(stream);
            while read_frame(&mut stream).is_some_and(|(opcode, _)| opcode != 9) {}
        } else {
            echo(accept(stream));
        }
    });
    let heartbeat = HeartbeatConfig::default().interval(Duration::from_secs(3600)).timeout(1000 * MS);
    let client = Client::connect(config(&server.url()).heartbeat(heartbeat.strict(true))).unwrap();
    client.reconnect_now();
    wait_for(&client, disconnected);
    wait_for(&client, |event| matches!(event, Event::Connected { .. }).then_some(()));
    // The old beat's time runs out meanwhile.
    let judged = client.events().recv_timeout(1200 * MS);
    assert!(judged.is_err(), "{judged:?}");
    client.reconnect_now();
    common::eventually("an answer", || client.stats().round_trip.is_some());
    assert_eq!((client.stats().connects, client.stats().disconnects), (2, 1));
    client.terminate();
}

#[test]
fn reconnect_now_on_an_open_line_asks_the_peer_at_once() {
    let (frames_in, frames) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, _)) = read_frame(&mut stream) {
            frames_in.send(opcode).unwrap();
        }
    });
    let heartbeat = HeartbeatConfig::default().interval(Duration::from_secs(3600)).timeout(20 * MS);
    let client = Client::connect(config(&server.url()).heartbeat(heartbeat)).unwrap();
    client.reconnect_now();
    assert_eq!(frames.recv_timeout(LONG).unwrap(), 9, "a ping");
    let (reason, _) = wait_for(&client, disconnected);
    assert!(matches!(reason, DisconnectReason::Lost(Error::HeartbeatTimeout { .. })), "{reason}");
    client.terminate();
}

#[test]
fn a_peer_that_takes_no_bytes_is_noticed() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            // Upgrades, and never reads again.
            let stream = accept_raw(stream);
            std::thread::park();
            drop(stream);
        } else {
            echo(accept(stream));
        }
    });
    let config = config(&server.url()).heartbeat(HeartbeatConfig::off()).write_timeout(50 * MS);
    let client = Client::connect(config).unwrap();
    client.send(vec![0; 32 << 20]).unwrap();
    let (reason, _) = wait_for(&client, disconnected);
    assert!(matches!(reason, DisconnectReason::Lost(Error::WriteStalled { .. })), "{reason}");
}

#[test]
fn what_was_written_before_a_loss_is_named_and_the_rest_goes_out_after_it() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            let mut stream = accept_raw(stream);
            read_frame(&mut stream);
        } else {
            echo(accept(stream));
        }
    });
    let client = Client::connect(config(&server.url())).unwrap();
    let ticket = client.send("swallowed").unwrap();
    let doubtful = wait_for(&client, |event| match event {
        Event::Disconnected { maybe_delivered, .. } => Some(maybe_delivered),
        _ => None,
    });
    assert!(doubtful.contains(ticket) && doubtful.len() == 1, "{doubtful}");
    client.send("after").unwrap();
    assert_eq!(
        client.recv_timeout(LONG).unwrap().as_text(),
        Some("after"),
        "and not 'swallowed', which went out once"
    );
}

#[test]
fn a_server_that_accepts_and_drops_is_not_hammered() {
    let server = Server::start(|_, stream| drop(accept(stream)));
    let reconnect =
        ReconnectConfig::default().initial_delay(MS).max_delay(Duration::from_secs(3600)).multiplier(4.0);
    let client = Client::start(ConnectionConfig::new(server.url()).reconnect(reconnect)).unwrap();
    // The delays grow though each attempt succeeds: the sixth base is over a second.
    let longest = (0..6).map(|_| wait_for(&client, disconnected).1.unwrap()).max().unwrap();
    assert!(longest > 20 * MS, "{longest:?}");
    client.terminate();
}
