//! Logins, requests, and protocols of the application's own.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{LONG, Server, accept, good_answer, listen, read_head};
use serde_json::{Value, json};
use tautline::ConnectionState::{Authenticated, Connected, Connecting, Disconnected};
use tautline::{
    Attempt, Beat, Client, CloseReason, ConnectionConfig, Context, Delivery, DisconnectReason, Error, Event,
    Handshake, HeartbeatConfig, JsonSession, Loss, Message, Outgoing, Phase, Protocol, ReconnectConfig,
    Retry, UpgradeRequest,
};
use tungstenite::WebSocket;

const MS: Duration = Duration::from_millis(1);

fn config(url: &str) -> ConnectionConfig {
    ConnectionConfig::new(url).reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
}

fn login() -> JsonSession {
    JsonSession::new()
        .login(json!({"type": "login", "password": "right"}))
        .accepted(|m| m["type"] == "welcome")
        .refused(|m| m["type"] == "refused")
}

fn say(socket: &mut WebSocket<TcpStream>, value: &Value) -> bool {
    socket.send(value.to_string().into()).is_ok()
}

/// The next text of the client, as JSON.
fn hear(socket: &mut WebSocket<TcpStream>) -> Option<Value> {
    loop {
        let message = socket.read().ok()?;
        if message.is_text() {
            return Some(serde_json::from_str(message.to_text().unwrap()).unwrap());
        }
    }
}

/// A server that wants a login first and then does `serve`; anything else before the login ends the connection.
fn gateway(serve: impl Fn(usize, WebSocket<TcpStream>) + Send + Sync + 'static) -> Server {
    Server::start(move |n, stream| {
        let mut socket = accept(stream);
        match hear(&mut socket) {
            Some(first) if first["type"] == "login" && first["password"] == "right" => {
                say(&mut socket, &json!({"type": "welcome"}));
                serve(n, socket);
            }
            Some(first) if first["type"] == "login" => {
                say(&mut socket, &json!({"type": "refused", "why": "wrong password"}));
                listen(socket);
            }
            _ => {}
        }
    })
}

fn echo_json(_: usize, mut socket: WebSocket<TcpStream>) {
    while let Some(value) = hear(&mut socket) {
        if !say(&mut socket, &value) {
            return;
        }
    }
}

#[test]
fn the_login_is_the_first_message_and_makes_the_line_authenticated() {
    let server = gateway(echo_json);
    let client = Client::builder(config(&server.url())).protocol(login()).start().unwrap();
    client.send_json(&json!({"n": 1})).unwrap();
    client.wait_ready(LONG).unwrap();
    assert_eq!(client.state(), Authenticated);
    assert_eq!(client.recv_timeout(LONG).unwrap().json::<Value>().unwrap(), json!({"n": 1}));
    assert!(client.close().is_empty());
}

#[test]
fn a_refused_login_is_an_error_of_connect_and_ends_a_client_that_was_never_ready() {
    let server = gateway(echo_json);
    let wrong = || {
        let session = JsonSession::new().login(json!({"type": "login", "password": "left"}));
        session.accepted(|m| m["type"] == "welcome").refused(|m| m["type"] == "refused")
    };
    let error = Client::builder(server.url()).protocol(wrong()).connect().unwrap_err();
    assert!(matches!(error, Error::LoginRefused { .. }), "{error:?}");
    assert!(error.to_string().contains("wrong password"), "{error}");
    let client = Client::builder(config(&server.url())).protocol(wrong()).start().unwrap();
    let reason = client.wait_closed_timeout(LONG).unwrap();
    assert!(
        matches!(
            reason,
            CloseReason::NotRetried(DisconnectReason::ConnectFailed(Error::LoginRefused { .. }))
        ),
        "{reason:?}"
    );
    assert_eq!(client.stats().attempts, 1);
}

#[test]
fn a_login_that_is_not_answered_times_out() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let config = config(&server.url()).login_timeout(30 * MS);
    let error = Client::builder(config).protocol(login()).connect().unwrap_err();
    assert!(matches!(error, Error::LoginTimeout { .. }), "{error:?}");
}

#[test]
fn after_a_reconnect_the_login_comes_before_anything_else() {
    let server = gateway(|n, mut socket| {
        if n == 0 {
            hear(&mut socket);
        } else {
            echo_json(n, socket);
        }
    });
    let client = Client::builder(config(&server.url())).protocol(login()).connect().unwrap();
    client.send_json(&json!("cut me")).unwrap();
    let mut states = Vec::new();
    while states.len() < 7 {
        if let Event::StateChanged { to, .. } = client.events().recv_timeout(LONG).unwrap() {
            states.push(to);
            if to == Disconnected {
                for n in 0..10 {
                    client.send_json(&json!(n)).unwrap();
                }
            }
        }
    }
    assert_eq!(
        states,
        [Connecting, Connected, Authenticated, Disconnected, Connecting, Connected, Authenticated]
    );
    for n in 0..10 {
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(n.to_string().as_str()));
    }
}

#[test]
fn heartbeats_start_only_when_the_line_is_ready() {
    let (first_in, first) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        let login = hear(&mut socket).unwrap();
        // Long enough for several beats: none may come before the login is accepted.
        socket.get_ref().set_read_timeout(Some(50 * MS)).unwrap();
        let early = hear(&mut socket);
        socket.get_ref().set_read_timeout(None).unwrap();
        say(&mut socket, &json!({"type": "welcome"}));
        first_in.send((login, early, hear(&mut socket).unwrap())).unwrap();
        listen(socket);
    });
    let heartbeat = HeartbeatConfig::json().interval(5 * MS);
    let client =
        Client::builder(config(&server.url()).heartbeat(heartbeat)).protocol(login()).connect().unwrap();
    let (login, early, beat) = first.recv_timeout(LONG).unwrap();
    assert_eq!((login["type"].as_str(), early), (Some("login"), None));
    assert_eq!(beat["type"], "ping");
    client.terminate();
}

#[test]
fn a_session_that_cannot_work_is_refused_before_anything_is_tried() {
    let (tried_in, tried) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, _| tried_in.send(()).unwrap());
    let refused = |session: fn() -> JsonSession, says: &str| {
        let builder = || Client::builder(server.url()).protocol(session());
        for error in [builder().connect().unwrap_err(), builder().start().unwrap_err()] {
            assert!(matches!(error, Error::InvalidConfig { setting: "JsonSession", .. }), "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
        }
    };
    refused(|| login().answers_by("id").answers_in_order(|_| true), "not both");
    refused(|| login().answers_in_order(|_| true).answers_by("id"), "not both");
    refused(|| login().answers_by(""), "the name of a field");
    refused(|| JsonSession::new().refused(|m| m["type"] == "refused"), "login_with");
    assert!(tried.is_empty());
}

#[test]
fn a_protocol_may_refuse_how_it_is_set_up() {
    struct Fussy;
    impl Protocol for Fussy {
        fn check(&self) -> Result<(), Error> {
            Err(Error::session("no device number"))
        }

        fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            unreachable!("it was refused")
        }
    }
    let error = Client::builder("ws://127.0.0.1:9").protocol(Fussy).start().unwrap_err();
    assert_eq!(error.to_string(), "the session can't go on: no device number");
}

#[test]
fn answers_are_paired_by_a_field_in_any_order() {
    let server = gateway(|_, mut socket| {
        let mut held = Vec::new();
        while let Some(request) = hear(&mut socket) {
            held.push(json!({"id": request["id"], "answers": request["n"]}));
            if held.len() == 3 {
                say(&mut socket, &json!({"id": "nobody asked"}));
                say(&mut socket, &json!({"event": "on its own"}));
                while let Some(answer) = held.pop() {
                    say(&mut socket, &answer);
                }
            }
        }
    });
    let client = Client::builder(config(&server.url())).protocol(login().answers_by("id")).connect().unwrap();
    let ask = |request: Value| {
        let client = client.clone();
        thread::spawn(move || client.request(request, LONG).unwrap().json::<Value>().unwrap())
    };
    let asked = [json!({"n": 1}), json!({"n": 2, "id": "mine"}), json!({"n": 3})].map(ask);
    for (n, asked) in (1..).zip(asked) {
        assert_eq!(asked.join().unwrap()["answers"], n);
    }
    let rest: Vec<Value> = (0..2).map(|_| client.recv_timeout(LONG).unwrap().json().unwrap()).collect();
    assert_eq!(rest, [json!({"id": "nobody asked"}), json!({"event": "on its own"})]);
}

#[test]
fn a_request_that_timed_out_keeps_its_place_in_the_order() {
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let server = gateway(move |_, mut socket| {
        let late = hear(&mut socket).unwrap();
        go.recv().unwrap();
        say(&mut socket, &json!({"type": "RTN", "to": late["n"]}));
        while let Some(request) = hear(&mut socket) {
            say(&mut socket, &json!({"type": "NOTE"}));
            say(&mut socket, &json!({"type": "RTN", "to": request["n"]}));
        }
    });
    let session = login().answers_in_order(|m| m["type"] == "RTN");
    let client = Client::builder(config(&server.url())).protocol(session).connect().unwrap();
    let error = client.request(json!({"n": 1}), 30 * MS).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    go_in.send(()).unwrap();
    let answer: Value = client.request(json!({"n": 2}), LONG).unwrap().json().unwrap();
    assert_eq!(answer["to"], 2, "and not the late answer to the first");
    assert_eq!(client.recv_timeout(LONG).unwrap().json::<Value>().unwrap()["type"], "NOTE");
}

#[test]
fn a_repeated_acceptance_is_ignored_and_is_no_answer() {
    let server = gateway(|_, mut socket| {
        while let Some(request) = hear(&mut socket) {
            say(&mut socket, &json!({"type": "welcome"}));
            say(&mut socket, &json!({"type": "answer", "to": request["n"]}));
        }
    });
    let session = login().answers_in_order(|_| true);
    let client = Client::builder(config(&server.url())).protocol(session).connect().unwrap();
    let answer: Value = client.request(json!({"n": 1}), LONG).unwrap().json().unwrap();
    assert_eq!(answer["type"], "answer");
}

#[test]
fn a_request_fails_with_the_line_and_is_not_sent_again() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    let server = gateway(move |n, mut socket| {
        while let Some(value) = hear(&mut socket) {
            all.lock().unwrap().push(value.clone());
            if n == 0 {
                return;
            }
            say(&mut socket, &value);
        }
    });
    let session = login().answers_by("id");
    let client = Client::builder(config(&server.url())).protocol(session).connect().unwrap();
    let error = client.request(json!({"id": 1}), LONG).unwrap_err();
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error:?}");
    client.wait_ready(LONG).unwrap();
    client.request(json!({"id": 2}), LONG).unwrap();
    assert_eq!(*heard.lock().unwrap(), [json!({"id": 1}), json!({"id": 2})]);
}

#[test]
fn a_request_that_times_out_before_it_went_out_is_withdrawn() {
    let (released_in, released) = crossbeam_channel::bounded::<()>(0);
    let first = AtomicU32::new(0);
    let server = gateway(echo_json);
    let address = server.address();
    let resolver = move |_: &str, _| {
        if first.fetch_add(1, SeqCst) == 0 {
            released.recv().unwrap();
        }
        Ok(vec![address])
    };
    let session = login().answers_by("id");
    let client =
        Client::builder(config("ws://gateway.invalid")).resolver(resolver).protocol(session).start().unwrap();
    let error = client.request(json!({"id": "withdrawn"}), 10 * MS).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    client.send_json(&json!("first on the line")).unwrap();
    released_in.send(()).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("\"first on the line\""));
}

#[test]
fn a_plain_client_makes_no_requests_and_a_closed_one_ends_those_it_has() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    let error = client.request("?", LONG).unwrap_err();
    assert!(error.to_string().contains("JsonSession"), "{error}");

    let server = gateway(|_, socket| listen(socket));
    let client = Client::builder(server.url()).protocol(login().answers_by("id")).connect().unwrap();
    let asking = client.clone();
    let waiting = thread::spawn(move || asking.request(json!({}), LONG));
    common::eventually("the request is out", || client.stats().messages_written == 1);
    client.close();
    assert!(matches!(waiting.join().unwrap(), Err(Error::Closed)));
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
    client.terminate();
    let client = Client::builder(server.url()).fetch(fetch(1)).connect().unwrap();
    assert_eq!(client.stats().attempts, 2, "connect, too, tries fresh credentials");
    client.terminate();
    let client = Client::builder(ConnectionConfig::new(server.url())).fetch(fetch(7)).start().unwrap();
    let reason = client.wait_closed_timeout(LONG).unwrap();
    assert!(matches!(
        reason,
        CloseReason::NotRetried(DisconnectReason::ConnectFailed(Error::UpgradeRejected(_)))
    ));
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
    client.terminate();
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

/// Exercises every hook; panics or fails in the one that it is told to.
struct Probe {
    breaks: &'static str,
    panics: bool,
}

impl Probe {
    fn reach(&self, hook: &str) -> Result<(), Error> {
        if self.breaks != hook {
            return Ok(());
        }
        assert!(!self.panics, "on purpose");
        Err(Error::session(format!("{hook} fails on purpose")))
    }
}

impl Protocol for Probe {
    fn prepare(&mut self, _: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        request.set_header("X-Prepared", "yes");
        self.reach("prepare")
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.send("open");
        cx.set_timer(1, MS);
        cx.set_timer(2, MS);
        cx.cancel_timer(2);
        self.reach("on_open")
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        if message.as_text() == Some("timer 1") {
            cx.ready();
            cx.ready();
        } else {
            cx.deliver(format!("got {message}"));
        }
        self.reach("on_message")
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        cx.send(format!("[{}] {}", outgoing.ticket.number(), outgoing.message));
        self.reach("on_send")
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        cx.send(format!("timer {id}"));
        self.reach("on_timer")
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("beat");
        cx.beat_answered();
        self.reach("on_beat")
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("goodbye");
        self.reach("on_closing")
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        let _ = self.reach("on_down");
        down.default_retry()
    }
}

/// Echoes, and keeps what it heard.
fn parrot() -> (Server, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if let tungstenite::Message::Text(text) = message {
                all.lock().unwrap().push(text.to_string());
                let _ = socket.send(tungstenite::Message::Text(text));
            }
        }
    });
    (server, heard)
}

#[test]
fn every_hook_is_called_in_its_turn() {
    let (server, heard) = parrot();
    let heartbeat = HeartbeatConfig::default().beat(Beat::Protocol).interval(5 * MS);
    let probe = Probe { breaks: "", panics: false };
    let client =
        Client::builder(config(&server.url()).heartbeat(heartbeat)).protocol(probe).connect().unwrap();
    assert_eq!(client.state(), Authenticated);
    client.send("hello").unwrap();
    let expected = ["got open", "got [1] hello", "got beat"];
    let mut missing: Vec<_> = expected.to_vec();
    while !missing.is_empty() {
        let message = client.recv_timeout(LONG).unwrap().to_string();
        missing.retain(|expected| *expected != message);
    }
    common::eventually("a round trip", || client.stats().round_trip.is_some());
    client.close();
    let heard = heard.lock().unwrap();
    assert_eq!((heard[0].as_str(), heard.last().map(String::as_str)), ("open", Some("goodbye")));
    assert!(!heard.contains(&"timer 2".to_owned()));
}

const HOOKS: [&str; 7] = ["prepare", "on_open", "on_message", "on_send", "on_timer", "on_beat", "on_closing"];

fn broken(url: &str, hook: &'static str, panics: bool) -> Client {
    let heartbeat = HeartbeatConfig::default().beat(Beat::Protocol).interval(MS);
    let probe = Probe { breaks: hook, panics };
    let client = Client::builder(config(url).heartbeat(heartbeat)).protocol(probe).start().unwrap();
    // It may be closed already.
    let _ = client.send("x");
    client
}

#[test]
fn a_hook_that_panics_closes_its_client_and_no_other() {
    let (server, _) = parrot();
    let other = Client::connect(server.url()).unwrap();
    for hook in HOOKS {
        let client = broken(&server.url(), hook, true);
        if hook == "on_closing" {
            client.wait_ready(LONG).unwrap();
            client.close();
        }
        let reason = client.wait_closed_timeout(LONG).unwrap();
        assert!(
            matches!(&reason, CloseReason::Failed(Error::Panicked { callback: "protocol", .. })),
            "{hook}: {reason:?}"
        );
        assert!(matches!(client.events().iter().last(), Some(Event::Closed { .. })));
    }
    let client = broken(&server.url(), "on_down", true);
    client.wait_ready(LONG).unwrap();
    server.cut();
    assert!(matches!(client.wait_closed_timeout(LONG), Ok(CloseReason::Failed(_))));
    drop(other);
}

#[test]
fn a_hook_that_fails_ends_the_connection_and_the_line_is_tried_again() {
    let (server, _) = parrot();
    for hook in HOOKS.into_iter().filter(|hook| *hook != "on_closing") {
        let client = broken(&server.url(), hook, false);
        let mut failures = 0;
        while failures < 2 {
            if let Event::Disconnected { reason, retry_in, .. } = client.events().recv_timeout(LONG).unwrap()
            {
                assert!(reason.to_string().contains(hook), "{reason}");
                assert!(retry_in.is_some());
                failures += 1;
            }
        }
        client.terminate();
    }
    let client = broken(&server.url(), "on_closing", false);
    client.wait_ready(LONG).unwrap();
    client.close();
    assert!(matches!(client.wait_closed(), CloseReason::ByCaller), "a failed goodbye is still a close");
}

#[test]
fn a_protocol_that_sends_without_end_loses_the_line_and_not_the_memory() {
    struct Flood;
    impl Protocol for Flood {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            for _ in 0..2_000 {
                cx.send("x");
            }
            Ok(())
        }
    }
    let (server, _) = parrot();
    let error = Client::builder(server.url()).protocol(Flood).connect().unwrap_err();
    assert!(matches!(error, Error::Session { .. }), "{error:?}");
}

#[test]
fn every_call_from_within_a_hook_is_defined() {
    struct Caller(Arc<Mutex<Option<Client>>>, crossbeam_channel::Sender<()>);
    impl Protocol for Caller {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.ready();
            Ok(())
        }

        fn on_message(&mut self, _: &mut Context<'_>, _: Message) -> Result<(), Error> {
            let Some(client) = self.0.lock().unwrap().take() else { return Ok(()) };
            assert!(client.try_send("from a hook").is_ok() && client.send("from a hook").is_ok());
            assert!(matches!(client.request("x", LONG), Err(Error::WouldDeadlock)));
            assert!(matches!(client.recv(), Err(Error::WouldDeadlock)));
            assert!(matches!(client.recv_timeout(LONG), Err(Error::WouldDeadlock)));
            assert!(matches!(client.wait_ready(LONG), Err(Error::WouldDeadlock)));
            assert!(client.try_recv().is_ok());
            let _ = (client.state(), client.stats());
            client.reconnect_now();
            assert!(matches!(client.wait_closed_timeout(LONG), Err(Error::WouldDeadlock)));
            assert!(client.close().unfinished && client.terminate().unfinished);
            self.1.send(()).unwrap();
            Ok(())
        }
    }
    let (server, _) = parrot();
    let slot = Arc::new(Mutex::new(None));
    let (done_in, done) = crossbeam_channel::bounded(1);
    let caller = Caller(Arc::clone(&slot), done_in);
    let client = Client::builder(server.url()).protocol(caller).connect().unwrap();
    *slot.lock().unwrap() = Some(client.clone());
    client.send("call me").unwrap();
    done.recv_timeout(LONG).unwrap();
    assert!(matches!(client.wait_closed_timeout(LONG), Ok(CloseReason::ByCaller)));
}

#[test]
fn a_message_that_a_protocol_lets_fall_takes_no_room_and_waits_for_nothing() {
    struct Sieve;
    impl Protocol for Sieve {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.ready();
            Ok(())
        }

        fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
            if outgoing.message.as_text() != Some("drop") {
                cx.send(outgoing.message);
            }
            Ok(())
        }
    }
    let (server, heard) = parrot();
    let config = config(&server.url()).outbox(tautline::QueueLimit::new(4, 1000));
    let client = Client::builder(config).protocol(Sieve).connect().unwrap();
    for _ in 0..20 {
        client.send_timeout("drop", LONG).unwrap();
        client.flush(LONG).unwrap();
    }
    client.send("keep").unwrap();
    client.send("drop").unwrap();
    client.confirm(.., LONG).unwrap();
    assert!(client.close().is_empty());
    assert_eq!(*heard.lock().unwrap(), ["keep"]);
}

#[test]
fn confirm_says_which_message_a_protocol_failed_to_send_and_the_others_arrive() {
    struct Choosy;
    impl Protocol for Choosy {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.ready();
            Ok(())
        }

        fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
            let text = outgoing.message.as_text().ok_or(Error::session("that is no text"))?;
            cx.send(text);
            Ok(())
        }
    }
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let (server, heard) = parrot();
        let config = common::quick(&server.url()).delivery(delivery);
        let client = Client::builder(config).protocol(Choosy).connect().unwrap();
        let never = client.send([0xFF]).unwrap();
        let text = client.send("text").unwrap();
        assert_eq!(common::fate(&client, ..), format!("never {never}"));
        client.confirm(text, LONG).unwrap();
        assert_eq!((client.stats().messages_expired, client.stats().disconnects), (1, 3));
        assert!(client.close().is_empty());
        assert_eq!(*heard.lock().unwrap(), ["text"]);
    }
}

#[test]
fn a_number_that_a_request_brought_along_is_not_given_to_another() {
    let server = gateway(|_, mut socket| {
        let (first, second) = (hear(&mut socket).unwrap(), hear(&mut socket).unwrap());
        for request in [second, first] {
            say(&mut socket, &request);
        }
        listen(socket);
    });
    let client = Client::builder(config(&server.url())).protocol(login().answers_by("id")).connect().unwrap();
    let own = client.clone();
    let first = thread::spawn(move || own.request(json!({"id": 1, "who": "own"}), LONG).unwrap());
    common::eventually("the first is out", || client.stats().messages_written == 1);
    let second: Value = client.request(json!({"who": "numbered"}), LONG).unwrap().json().unwrap();
    let first: Value = first.join().unwrap().json().unwrap();
    assert_eq!((first["who"].as_str(), second["who"].as_str()), (Some("own"), Some("numbered")));
}

#[test]
fn a_protocol_may_not_send_more_than_the_limit_allows() {
    struct Large;
    impl Protocol for Large {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.send(vec![0; 101]);
            Ok(())
        }
    }
    let (server, _) = parrot();
    let config = ConnectionConfig::new(server.url()).max_message_size(100);
    let error = Client::builder(config).protocol(Large).connect().unwrap_err();
    assert!(error.to_string().contains("101 bytes"), "{error}");
}

#[test]
fn heartbeats_of_a_protocol_need_a_protocol() {
    let config = ConnectionConfig::new("ws://127.0.0.1:9");
    let error = Client::start(config.heartbeat(HeartbeatConfig::default().beat(Beat::Protocol))).unwrap_err();
    assert!(matches!(error, Error::InvalidConfig { setting: "heartbeat.beat", .. }), "{error:?}");
    assert!(error.to_string().contains("it is Protocol, which needs"), "{error}");
}

#[test]
fn a_protocol_that_sends_no_heartbeats_says_so_when_one_is_due() {
    let server = Server::echo();
    let heartbeat = HeartbeatConfig::default().beat(Beat::Protocol).interval(MS);
    let client = Client::builder(config(&server.url()).heartbeat(heartbeat))
        .protocol(JsonSession::new())
        .connect()
        .unwrap();
    let (reason, _) = common::wait_for(&client, common::disconnected);
    assert!(matches!(reason, DisconnectReason::Lost(Error::Session { .. })), "{reason}");
    assert!(reason.to_string().contains("on_beat"), "{reason}");
    client.terminate();
}
