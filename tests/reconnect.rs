//! Losses, and what follows them: the next attempt, its delay, close codes and statuses that decide.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::{LONG, MS, Nobody, Server, accept, answer, close_frame, config, disconnected, echo, wait_for};
use tautline::ConnectionState::{Connected, Connecting, Disconnected};
use tautline::{
    Client, CloseReason, ConnectionConfig, ConnectionState, Context, DisconnectReason, Error, Event,
    ExponentialBackoff, Handshake, Jitter, Loss, Protocol, ReconnectConfig, Retry, SendErrorKind,
};

/// The first loss of a client of a server that does `serve` on its first connection and echoes on the others.
fn first_loss(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> (DisconnectReason, Option<Duration>) {
    let server = Server::start(move |n, stream| if n == 0 { serve(stream) } else { echo(accept(stream)) });
    let client = Client::start(config(&server.url())).unwrap();
    wait_for(&client, disconnected)
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
    let Err(Error::Closed { reason: Some(why), .. }) = client.recv() else { panic!("it says why") };
    assert!(matches!(&*why, CloseReason::GaveUp { attempts: 3, .. }), "{why:?}");
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
fn a_server_that_accepts_and_drops_is_not_hammered() {
    let server = Server::start(|_, stream| drop(accept(stream)));
    let reconnect =
        ReconnectConfig::default().initial_delay(MS).max_delay(Duration::from_secs(3600)).multiplier(4.0);
    let client = Client::start(ConnectionConfig::new(server.url()).reconnect(reconnect)).unwrap();
    // The delays grow though each attempt succeeds: the sixth base is over a second.
    let longest = (0..6).map(|_| wait_for(&client, disconnected).1.unwrap()).max().unwrap();
    assert!(longest > 20 * MS, "{longest:?}");
    let _ = client.terminate();
}

#[test]
fn a_protocol_decides_what_follows_a_loss() {
    struct Decided(Vec<Retry>);
    impl Protocol for Decided {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.ready();
            Ok(())
        }

        fn on_down(&mut self, down: &Loss<'_>) -> Retry {
            assert!(down.ever_ready && down.attempts == 0, "{down:?}");
            self.0.remove(0)
        }
    }
    let server = Server::start(|_, stream| drop(accept(stream)));
    let hour = Duration::from_secs(3600);
    let decided =
        Decided(vec![Retry::Now, Retry::After(17 * MS), Retry::Backoff, Retry::After(hour), Retry::Never]);
    let client = Client::builder(config(&server.url())).protocol(decided).start().unwrap();
    let retry_in = || common::wait_for(&client, common::disconnected).1;
    assert_eq!([retry_in(), retry_in()], [Some(Duration::ZERO), Some(17 * MS)]);
    assert_eq!(retry_in(), Some(10 * MS));
    assert_eq!(retry_in(), Some(hour));
    client.reconnect_now();
    assert_eq!(retry_in(), None);
    assert!(matches!(client.wait_closed_timeout(LONG), Ok(CloseReason::NotRetried(_))));
    assert_eq!(client.stats().connects, 5);
}

/// The delays of a client whose connections end one after the other, in milliseconds.
fn delays(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Vec<u128> {
    let server = Server::start(move |_, stream| serve(stream));
    let reconnect = ReconnectConfig::default().initial_delay(MS).max_delay(50 * MS).jitter(Jitter::None);
    let client = Client::start(ConnectionConfig::new(server.url()).reconnect(reconnect)).unwrap();
    let delays = (0..8).map(|_| wait_for(&client, disconnected).1.unwrap().as_millis()).collect();
    let _ = client.terminate();
    delays
}

#[test]
fn a_server_that_accepts_and_closes_for_ever_is_not_hammered() {
    let growing = [10, 10, 10, 10, 16, 32, 50, 50];
    assert_eq!(delays(drop), growing, "without a word");
    assert_eq!(delays(|stream| drop(accept(stream))), growing, "after the upgrade");
    let goodbye = |stream| {
        let mut stream = common::accept_raw(stream);
        stream.write_all(&close_frame(1001, "restarting")).unwrap();
        common::read_frames(&mut stream);
    };
    assert_eq!(delays(goodbye), growing, "with a close frame");
}

#[test]
fn a_client_that_gave_up_says_why_and_accepts_nothing_from_its_last_event_on() {
    let nobody = Nobody::new();
    let config = config(&nobody.url()).reconnect(ReconnectConfig::never());
    let handle = Arc::new(OnceLock::<Client>::new());
    let (said_in, said) = crossbeam_channel::unbounded();
    let (go, begun) = crossbeam_channel::bounded::<()>(0);
    let theirs = Arc::clone(&handle);
    // It is called behind the events, before the client has reported what it left.
    let builder = Client::builder(config).on_event_ready(move || {
        let _ = begun.recv_timeout(LONG);
        let client = theirs.get().expect("it is set");
        let status = client.status();
        if status.state == ConnectionState::Closed {
            let _ = said_in.send((status.trouble, client.try_send("late").map_err(|error| error.kind())));
        }
    });
    handle.set(builder.start().unwrap()).unwrap();
    drop(go);
    let (trouble, accepted) = said.recv_timeout(LONG).unwrap();
    assert!(matches!(trouble, Some(Error::GaveUp { .. } | Error::Connect { .. })), "{trouble:?}");
    assert_eq!(accepted, Err(SendErrorKind::Closed));
    let _ = handle.get().unwrap().terminate();
}
