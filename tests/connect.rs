//! How a connection comes about: attempts, their phases, addresses, look-ups, and what a `fetch` brings.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/full.rs"]
mod full;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::hooks::Hooks;
use common::{
    LONG, MS, Nobody, Server, accept, answer, config, disconnected, good_answer, listen, read_frame,
    read_head, wait_for,
};
use tautline::{
    Client, CloseReason, ConnectionConfig, DisconnectReason, Error, Event, Phase, Proxy, ReconnectConfig,
    Retry, UpgradeRequest,
};

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
    let _ = client.terminate();
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
    let advice = "; check that this machine has a network interface with the name or the number nosuch0";
    assert!(unknown.to_string().ends_with(advice), "{unknown}");
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
    assert_eq!(
        error.to_string(),
        "looking up gateway.invalid: no such host; check the name, and that this machine is online"
    );

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
    #[cfg(feature = "native-tls")]
    assert_eq!(stalled(silent, "wss"), Phase::Tls);
    let half: fn(TcpStream) = |mut stream| {
        stream.write_all(b"HTTP/1.1 101 Switching").unwrap();
        while std::io::Read::read(&mut stream, &mut [0; 512]).is_ok_and(|n| n > 0) {}
    };
    assert_eq!(stalled(half, "ws"), Phase::Upgrade);
    for scheme in ["http", "socks5", "socks5h"] {
        let server = Server::start(move |_, stream| silent(stream));
        let proxy = Proxy::new(format!("{scheme}://{}", server.address()));
        let config = config("ws://10.0.0.1").proxy(proxy).connect_timeout(STALL);
        let error = Client::connect(config).unwrap_err();
        assert!(matches!(error, Error::ConnectTimeout { phase: Phase::Proxy, .. }), "{error:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_that_does_not_answer_at_all_is_a_timeout_of_tcp() {
    let full = full::Full::listen();
    let config = config(&format!("ws://{}", full.address)).connect_timeout(STALL);
    let error = Client::connect(config).unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { phase: Phase::Connect, .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("while waiting for the connection; check the address, and that no firewall"),
        "{error}"
    );
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
fn a_fetch_completes_each_request_and_is_asked_for_fresh_credentials_once() {
    let server = Server::start(|_, mut stream| {
        let head = read_head(&mut stream);
        let token =
            head.lines().find_map(|line| line.strip_prefix("Authorization: Bearer ")).unwrap().to_owned();
        if token == "2" {
            stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
            while common::read_frame(&mut stream).is_some() {}
        } else {
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    let fetch = |start: u32| {
        let count = AtomicU32::new(start);
        move |mut request: UpgradeRequest| {
            request.set_header("Authorization", format!("Bearer {}", count.fetch_add(1, SeqCst)));
            Ok(request)
        }
    };
    let client = Client::builder(ConnectionConfig::new(server.url())).fetch(fetch(1)).start().unwrap();
    let delay = client.events().iter().find_map(|event| match event {
        Event::Disconnected { retry_in, .. } => retry_in,
        _ => None,
    });
    assert_eq!(delay, Some(Duration::ZERO), "the second attempt is made at once");
    client.wait_ready(LONG).unwrap();
    let _ = client.terminate();
    let client = Client::builder(server.url()).fetch(fetch(1)).connect().unwrap();
    assert_eq!(client.stats().attempts, 2, "connect, too, tries fresh credentials");
    let _ = client.terminate();
    let client = Client::builder(ConnectionConfig::new(server.url())).fetch(fetch(7)).start().unwrap();
    let reason = client.wait_closed_timeout(LONG).unwrap();
    assert!(matches!(
        reason,
        CloseReason::NotRetried(DisconnectReason::ConnectFailed(Error::UpgradeRejected(_)))
    ));
    assert_eq!(client.stats().attempts, 2, "once more, and no oftener");
}

#[test]
fn a_protocol_without_a_fetch_tries_fresh_credentials_once_and_connect_returns_the_line() {
    // It answers a challenge, as in HTTP's Digest: only the refusal says what the answer has to repeat.
    let server = Server::start(|n, mut stream| {
        let head = read_head(&mut stream);
        if head.contains("Authorization: Nonce n") {
            stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
            while common::read_frame(&mut stream).is_some() {}
        } else {
            let challenge = format!("WWW-Authenticate: Nonce n{n}");
            let refusal = format!("HTTP/1.1 401 Unauthorized\r\n{challenge}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(refusal.as_bytes()).unwrap();
        }
    });
    let protocol = |answers: bool| Hooks {
        prepare: Some(Box::new(move |attempt, request| {
            let Some(DisconnectReason::ConnectFailed(Error::UpgradeRejected(refusal))) = attempt.last else {
                return;
            };
            let challenge = refusal.header("WWW-Authenticate").unwrap();
            request.set_header("Authorization", if answers { challenge } else { "Nonce of its own" });
        })),
        down: Some(Box::new(|down| if down.wants_credentials() { Retry::Now } else { down.default_retry() })),
        ..Hooks::default()
    };
    let client = Client::builder(server.url()).protocol(protocol(true)).connect().unwrap();
    assert_eq!((client.stats().attempts, client.stats().connects), (2, 1));
    let _ = client.terminate();
    let never = ConnectionConfig::new(server.url()).reconnect(ReconnectConfig::never());
    let client = Client::builder(never).protocol(protocol(true)).connect().unwrap();
    assert_eq!(client.stats().attempts, 2, "it is no reconnect");
    let _ = client.terminate();
    let error = Client::builder(server.url()).protocol(protocol(false)).connect().unwrap_err();
    assert!(matches!(&error, Error::UpgradeRejected(refusal) if refusal.status == 401), "{error:?}");
    let client = Client::builder(config(&server.url())).protocol(protocol(false)).start().unwrap();
    let reason = client.wait_closed_timeout(LONG).unwrap();
    assert!(matches!(reason, CloseReason::NotRetried(DisconnectReason::ConnectFailed(_))), "{reason}");
    assert_eq!(client.stats().attempts, 2, "once more, and no oftener");
}

#[test]
fn a_fetch_that_fails_panics_or_hangs_is_a_failed_attempt() {
    let fails = Client::builder("ws://h").fetch(|_| Err(Error::session("no token to be had"))).connect();
    assert_eq!(fails.unwrap_err().to_string(), "the session can't go on: no token to be had");
    let panics = Client::builder("ws://h").fetch(|_| panic!("on purpose")).connect();
    assert!(matches!(panics, Err(Error::Panicked { callback: "fetch", .. })), "{panics:?}");
    let spoils = Client::builder("ws://h").fetch(|mut request| {
        request.url = "http://h".into();
        Ok(request)
    });
    assert!(matches!(spoils.connect(), Err(Error::InvalidUrl { .. })));
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let config = ConnectionConfig::new("ws://h").connect_timeout(1000 * MS);
    let hangs = Client::builder(config).fetch(move |request| {
        let _ = held.recv();
        Ok(request)
    });
    let error = hangs.connect().unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { phase: Phase::Fetch, .. }), "{error:?}");
    drop(release);
}

#[test]
fn an_attempt_whose_thread_does_not_get_to_it_says_so() {
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let hangs = Client::builder(ConnectionConfig::new("ws://127.0.0.1:9").connect_timeout(50 * MS))
        .on_thread_start(move |thread| {
            if thread == "tautline-dial" {
                let _ = held.recv();
            }
        });
    let error = hangs.connect().unwrap_err();
    assert!(matches!(error, Error::ConnectTimeout { phase: Phase::Start, .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "connecting to 127.0.0.1:9 timed out after 50ms while starting its thread; check that on_thread_start returns soon"
    );
    drop(release);
}

#[test]
fn a_fetch_that_fails_panics_or_hangs_is_tried_again_until_it_works() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let (url, calls) = (server.url(), AtomicU32::new(0));
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let fetch = move |mut request: UpgradeRequest| {
        match calls.fetch_add(1, SeqCst) {
            0 => return Err(Error::session("no token to be had")),
            // A panic, without the time that the trace of one takes.
            1 => std::panic::resume_unwind(Box::new("on purpose")),
            2 => request.url = "http://h".into(),
            3 => drop(held.recv()),
            _ => request.url.clone_from(&url),
        }
        Ok(request)
    };
    let config = config("ws://h").connect_timeout(1000 * MS);
    let client = Client::builder(config).fetch(fetch).start().unwrap();
    client.send("waits for the line").unwrap();
    let says =
        ["no token to be had", "fetch callback panicked", "it must start with ws://", "timed out after"];
    for says in says {
        let (reason, retry_in) = common::wait_for(&client, common::disconnected);
        assert!(reason.to_string().contains(says), "{reason}");
        assert!(retry_in.is_some(), "{reason}");
    }
    // What it brings after its time is not wanted.
    drop(release);
    client.confirm(.., LONG).unwrap();
    let _ = client.terminate();
}

#[cfg(not(any(feature = "native-tls", feature = "rustls")))]
#[test]
fn without_tls_its_scheme_is_refused_with_the_name_of_the_feature() {
    /// Moves every attempt to TLS.
    struct Mover;
    impl tautline::Protocol for Mover {
        fn prepare(
            &mut self,
            _: &tautline::Attempt<'_>,
            request: &mut tautline::UpgradeRequest,
        ) -> Result<(), Error> {
            request.url = "wss://h".into();
            Ok(())
        }
    }
    let says = |error: &Error| {
        assert!(matches!(error, Error::InvalidUrl { .. }), "{error:?}");
        assert!(error.to_string().contains("the feature native-tls"), "{error}");
    };
    says(&Client::start("wss://h").unwrap_err());
    says(&Client::connect(["ws://127.0.0.1:1", "wss://h"]).unwrap_err());
    says(&Client::builder("ws://h").protocol(Mover).connect().unwrap_err());
    let redirect = Server::start(|_, mut stream| {
        common::read_head(&mut stream);
        let answer = "HTTP/1.1 302 Found\r\nLocation: wss://h/\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes());
    });
    let error = Client::connect(config(&redirect.url()).redirects(1)).unwrap_err();
    assert!(matches!(error, Error::UpgradeRejected(_)), "{error:?}");
    let says = r#"with another address: "wss://h/". It is not followed: its scheme is one for TLS"#;
    assert!(error.to_string().contains(says), "{error}");
    let error = Client::start(config("ws://h").proxy(Proxy::new("https://h"))).unwrap_err();
    assert!(matches!(error, Error::InvalidConfig { setting: "proxy", .. }), "{error:?}");
    assert!(error.to_string().contains("the feature native-tls"), "{error}");
}
