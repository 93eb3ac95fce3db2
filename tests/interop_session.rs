//! Sessions with a gateway on Python's websockets: it wants a login first, and crashes over anything else.
//!
//! `tests/interop/run.sh` starts it and runs these tests. The head of `echo.py`, beside it, tells how it behaves.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

#[macro_use]
#[path = "interop/client.rs"]
mod client;
mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use client::{config, connected, counted, echo, lost, ms, receive, server, wait_for};
use common::LONG;
use serde_json::{Value, json};
use tautline::{
    Attempt, Client, CloseReason, ConnectionConfig, ConnectionState, Context, DisconnectReason, Error, Event,
    Handshake, HeartbeatConfig, JsonSession, Protocol, UpgradeRequest,
};

on_each_line! {
    { plain: "GATEWAY", over_tls: "GATEWAY_TLS" }
    the_right_password_opens_the_session,
    a_wrong_password_is_an_error_of_connect,
    a_login_without_an_answer_that_it_knows_times_out,
    each_thread_gets_the_answers_to_its_own_requests,
    what_was_accepted_before_the_login_goes_out_after_it,
    a_heartbeat_before_the_login_would_crash_the_gateway,
    answered_json_heartbeats_measure_the_round_trip,
    json_heartbeats_without_an_answer_lose_a_silent_line,
    other_traffic_makes_up_for_the_answers_unless_only_they_count,
    a_crash_is_followed_by_another_login,
}

fn session(password: &str) -> JsonSession {
    JsonSession::new()
        .login(json!({"Type": "POST_LOGIN", "Data": {"Password": password}}))
        .accepted(|m| m["Type"] == "RTN_LOGIN" && m["Data"]["Success"] == true)
        .refused(|m| m["Type"] == "RTN_ERR")
        .answers_in_order(|m| m["Type"].as_str().is_some_and(|t| t.starts_with("RTN_")))
}

/// A client that has logged in, and was told so.
fn log_in(config: ConnectionConfig) -> Client {
    let shown = format!("{config:?}");
    let client = Client::builder(config).protocol(session("open sesame")).connect();
    let client = client.unwrap_or_else(|error| panic!("{error}: {shown}"));
    connected(&client);
    assert_eq!(client.state(), ConnectionState::Authenticated);
    client
}

/// Asks the gateway for something, and checks that it is the answer to this very request.
fn ask(client: &Client, about: &str, n: usize) {
    let answer = client.request(json!({"Type": format!("GET_{about}"), "n": n}), LONG).unwrap();
    assert_eq!(answer.json::<Value>().unwrap(), json!({"Type": format!("RTN_{about}"), "n": n}));
}

/// The next message that no request has asked for.
fn notification(client: &Client) -> Value {
    client.recv_timeout(LONG).unwrap().json().unwrap()
}

fn the_right_password_opens_the_session(url: &str) {
    let client = log_in(config(url));
    // More than three: the gateway repeats that it has accepted the login.
    for n in 0..10 {
        ask(&client, "STATUS", n);
        assert_eq!(notification(&client), json!({"Type": "NOT_STATUS", "n": n}));
    }
    let unknown = client.request(json!({"Type": "POST_NONSENSE"}), LONG).unwrap();
    assert_eq!(unknown.json::<Value>().unwrap()["Type"], "RTN_ERR");
    ask(&client, "STATUS", 10);
    assert_eq!(client.stats().connects, 1);
    let _ = client.close();
    assert_eq!(notification(&client)["n"], 10);
    assert!(matches!(client.recv(), Err(Error::Closed { .. })));
}

fn a_wrong_password_is_an_error_of_connect(url: &str) {
    let error = Client::builder(config(url)).protocol(session("sesame")).connect().unwrap_err();
    assert!(
        matches!(&error, Error::LoginRefused { reason, .. } if reason.contains("wrong password")),
        "{error}"
    );
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("sesame"), "{shown}");

    let client = Client::builder(config(url)).protocol(session("sesame")).start().unwrap();
    let (reason, retry_in, _) = lost(&client);
    assert!(matches!(reason, DisconnectReason::ConnectFailed(Error::LoginRefused { .. })), "{reason:?}");
    assert_eq!(retry_in, None);
    let closed = client.wait_closed_timeout(LONG);
    assert!(
        matches!(
            closed,
            Ok(CloseReason::NotRetried(DisconnectReason::ConnectFailed(Error::LoginRefused { .. })))
        ),
        "{closed:?}"
    );
    let stats = client.stats();
    assert_eq!((stats.attempts, stats.connects), (1, 0));
}

fn a_login_without_an_answer_that_it_knows_times_out(url: &str) {
    // It would know an acceptance, and the gateway refuses, but keeps the line open.
    let session = JsonSession::new()
        .login(json!({"Type": "POST_LOGIN", "Data": {"Password": "sesame"}}))
        .accepted(|m| m["Type"] == "RTN_LOGIN");
    let config = config(url).login_timeout(ms(300));
    let error = Client::builder(config).protocol(session).connect().unwrap_err();
    assert!(matches!(error, Error::LoginTimeout { after, .. } if after == ms(300)), "{error}");
}

fn each_thread_gets_the_answers_to_its_own_requests(url: &str) {
    const THREADS: usize = 8;
    const EACH: usize = 50;
    let client = log_in(config(url));
    thread::scope(|scope| {
        for asker in 0..THREADS {
            let client = &client;
            scope.spawn(move || {
                for n in 0..EACH {
                    ask(client, &format!("SENSOR_{asker}"), n);
                }
            });
        }
    });
    let mut notified = BTreeSet::new();
    for _ in 0..THREADS * EACH {
        let notification = notification(&client);
        let about = notification["Type"].as_str().unwrap().strip_prefix("NOT_SENSOR_").unwrap();
        let about: usize = about.parse().unwrap();
        assert!(notified.insert((about, notification["n"].as_u64().unwrap())), "twice: {notification}");
    }
    assert!(client.try_recv().unwrap().is_none());
}

fn what_was_accepted_before_the_login_goes_out_after_it(url: &str) {
    let slow = config(&format!("{url}/slow"));
    let client = Client::builder(slow).protocol(session("open sesame")).start().unwrap();
    // Any of these would crash the gateway before or during the login.
    for n in 0..20 {
        client.send(json!({"Type": "GET_EARLY", "n": n})).unwrap();
    }
    // These are no requests, so all that comes is for the application.
    let answers = (0..).map(|_| notification(&client)).filter(|message| message["Type"] == "RTN_EARLY");
    assert!(answers.take(20).map(|answer| answer["n"].as_u64()).eq((0..20).map(Some)));
    ask(&client, "STATUS", 20);
    let stats = client.stats();
    assert_eq!((stats.attempts, stats.connects), (1, 1));
}

fn a_heartbeat_before_the_login_would_crash_the_gateway(url: &str) {
    let beating = config(&format!("{url}/slow+beats"))
        .heartbeat(HeartbeatConfig::json().interval(ms(20)).timeout(ms(2000)).strict(true));
    // Without a session, the line counts as ready when it is open.
    let client = Client::connect(beating.clone()).unwrap();
    let (reason, ..) = lost(&client);
    assert!(matches!(reason, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{reason:?}");
    let _ = client.terminate();

    // 0.3 s of a login: fifteen beats' worth.
    let client = log_in(beating);
    counted(&client, "heartbeats", |stats| stats.heartbeats >= 5 && stats.round_trip.is_some());
    assert_eq!(client.stats().attempts, 1);
}

fn answered_json_heartbeats_measure_the_round_trip(url: &str) {
    let heartbeat = HeartbeatConfig::json().interval(ms(20)).timeout(ms(2000)).strict(true);
    let client = log_in(config(&format!("{url}/beats")).heartbeat(heartbeat));
    counted(&client, "heartbeats", |stats| stats.heartbeats >= 20 && stats.round_trip.is_some());
    ask(&client, "STATUS", 1);
    // No pong came to light.
    assert_eq!(notification(&client), json!({"Type": "NOT_STATUS", "n": 1}));
    assert!(client.try_recv().unwrap().is_none());
    assert_eq!(client.stats().connects, 1);
}

fn json_heartbeats_without_an_answer_lose_a_silent_line(url: &str) {
    let heartbeat = HeartbeatConfig::json().interval(ms(100)).timeout(ms(300));
    let client = log_in(config(url).heartbeat(heartbeat));
    for _ in 0..2 {
        let (reason, retry_in, _) = lost(&client);
        assert!(
            matches!(reason, DisconnectReason::Lost(Error::HeartbeatTimeout { silence, .. })
                if silence >= ms(300)),
            "{reason:?}"
        );
        assert!(retry_in.is_some());
        connected(&client);
    }
}

fn other_traffic_makes_up_for_the_answers_unless_only_they_count(url: &str) {
    let chatty = config(&format!("{url}/chatty"));
    let heartbeat = HeartbeatConfig::json().interval(ms(50)).timeout(ms(1000));

    let strict = log_in(chatty.clone().heartbeat(heartbeat.clone().strict(true)));
    let lenient = log_in(chatty.heartbeat(heartbeat));
    // The heartbeats of 2.5 s, more than twice what one may wait for its answer.
    counted(&lenient, "heartbeats", |stats| stats.heartbeats >= 50);
    assert_eq!(lenient.stats().round_trip, None);
    ask(&lenient, "STATUS", 1);
    assert_eq!(lenient.stats().connects, 1);

    let (reason, ..) = lost(&strict);
    assert!(matches!(reason, DisconnectReason::Lost(Error::HeartbeatTimeout { .. })), "{reason:?}");
}

fn a_crash_is_followed_by_another_login(url: &str) {
    let client = log_in(config(url));
    for n in 1..=3 {
        let lost_with = client.request(json!({"Type": "DROP"}), LONG).unwrap_err();
        assert!(matches!(lost_with, Error::ConnectionLost { .. }), "{lost_with}");
        // Without waiting for the line.
        ask(&client, "STATUS", n);
        let (reason, retry_in, _) = lost(&client);
        assert!(matches!(reason, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{reason:?}");
        assert!(retry_in.is_some());
        wait_for(&client, "a login", |event| match event {
            Event::StateChanged { to: ConnectionState::Authenticated, .. } => Some(()),
            _ => None,
        });
        assert_eq!(notification(&client), json!({"Type": "NOT_STATUS", "n": n}));
    }
    assert_eq!(client.stats().connects, 4);
}

/// Offers a subprotocol that the configuration doesn't know of, and needs it.
struct Chat;

impl Protocol for Chat {
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        assert!(attempt.number == 1 && attempt.last.is_none(), "{attempt:?}");
        request.subprotocols.extend(["superchat".to_owned(), "chat".to_owned()]);
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, accepted: &Handshake) -> Result<(), Error> {
        if accepted.subprotocol.as_deref() != Some("chat") {
            return Err(Error::session(format!("{:?}", accepted.subprotocol)));
        }
        cx.ready();
        Ok(())
    }
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_protocol_offers_the_subprotocol_it_needs() {
    // The first refuses who doesn't offer it; the other chooses from what is offered.
    for name in ["PY_CHAT", "NODE_WS"] {
        let client = Client::builder(config(&server(name))).protocol(Chat).connect().unwrap();
        assert_eq!(connected(&client).as_deref(), Some("chat"), "{name}");
        assert_eq!(client.state(), ConnectionState::Connected);
        client.send("hello").unwrap();
        assert_eq!(receive(&client), "hello");
    }
    let error = Client::builder(config(&server("PY_BASIC").replace("://", "://bob:correct%20horse@")))
        .protocol(Chat)
        .connect()
        .unwrap_err();
    assert!(matches!(&error, Error::Session { reason, .. } if &**reason == "None"), "{error}");
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn fetched_credentials_are_fetched_anew_once_when_they_are_refused() {
    // "bob:battery" and "bob:correct horse".
    const WRONG: &str = "Basic Ym9iOmJhdHRlcnk=";
    const RIGHT: &str = "Basic Ym9iOmNvcnJlY3QgaG9yc2U=";
    let fetching = |credentials: [&'static str; 2]| {
        let fetched = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&fetched);
        // So long a backoff that only an attempt at once is made in time.
        let config = config(&server("PY_BASIC"));
        let patient = config.reconnect.clone().initial_delay(Duration::from_secs(25));
        let builder = Client::builder(config.reconnect(patient)).fetch(move |mut request| {
            let n = count.fetch_add(1, SeqCst) as usize;
            request.set_header("Authorization", credentials[n.min(1)]);
            Ok(request)
        });
        (builder, fetched)
    };
    let is_401 = |reason: &DisconnectReason| {
        matches!(reason, DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection))
            if rejection.status == 401)
    };

    let (builder, fetched) = fetching([WRONG, RIGHT]);
    let client = builder.start().unwrap();
    let (reason, retry_in, _) = lost(&client);
    assert!(is_401(&reason), "{reason:?}");
    assert_eq!(retry_in, Some(Duration::ZERO));
    let attempts = wait_for(&client, "a line that is ready", |event| match event {
        Event::Connected { attempts, .. } => Some(attempts),
        _ => None,
    });
    assert_eq!((attempts, fetched.load(SeqCst)), (2, 2));
    echo(&client);

    let (builder, fetched) = fetching([WRONG, WRONG]);
    let client = builder.start().unwrap();
    let closed = client.wait_closed_timeout(LONG);
    assert!(matches!(&closed, Ok(CloseReason::NotRetried(reason)) if is_401(reason)), "{closed:?}");
    assert_eq!((client.stats().attempts, fetched.load(SeqCst)), (2, 2));

    let (builder, fetched) = fetching([RIGHT, WRONG]);
    echo(&builder.connect().unwrap());
    assert_eq!(fetched.load(SeqCst), 1);
}
