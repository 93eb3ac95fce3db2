//! What is said in the log, at its most talkative: by this library, and by those beneath it.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/tunnel.rs"]
mod tunnel;

use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use common::{
    LONG, Server, accept_raw, close_frame, disconnected, frame, good_answer, quick, read_frame, read_head,
    wait_for,
};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::de::Error as _;
use serde_json::json;
use tautline::{
    Client, CloseReason, ConnectionConfig, Context, DisconnectReason, Error, Event, Handshake, JsonSession,
    Message, Outgoing, Protocol, Proxy, SendErrorKind, TlsConfig,
};
use tunnel::Tunnel;

/// What was logged so far: level, target, text.
#[derive(Default)]
struct Journal(Mutex<Vec<(Level, String, String)>>);

/// The next line of this thread makes the logger panic. An I/O thread guards the application's callbacks one by one, and
/// not its log lines, so that this stands for any defect there.
static PANICS: Mutex<Option<ThreadId>> = Mutex::new(None);

impl Log for Journal {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let panics =
            PANICS.lock().unwrap_or_else(PoisonError::into_inner).take_if(|id| *id == thread::current().id());
        assert!(panics.is_none(), "a defect");
        let entry = (record.level(), record.target().to_owned(), record.args().to_string());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }

    fn flush(&self) {}
}

/// All that is logged while `work` is done, by one test at a time.
fn logged(work: impl FnOnce()) -> Vec<(Level, String, String)> {
    static JOURNAL: OnceLock<Journal> = OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let journal = JOURNAL.get_or_init(Journal::default);
    // It is the same one each time.
    let _ = log::set_logger(journal);
    log::set_max_level(LevelFilter::Trace);
    journal.0.lock().unwrap().clear();
    work();
    log::set_max_level(LevelFilter::Off);
    std::mem::take(&mut *journal.0.lock().unwrap())
}

/// A server that refuses the first upgrade and repeats parts of the request while it does, answers each message with
/// "s3cret answer", and ends the connection after two. It logs nothing.
fn server() -> Server {
    Server::start(|n, mut stream| {
        if n == 0 {
            let head = read_head(&mut stream);
            let words = head.split([' ', '=', ';', '\r', '\n']);
            let words: Vec<_> =
                words.filter(|word| word.starts_with("s3cret") || word.starts_with("Ym9i")).collect();
            let said = format!("s3cret-password, {}, {head}", words.join(", "));
            let location = "Location: /login?was=s3cret-query";
            let length = said.len();
            let refusal = format!(
                "HTTP/1.1 503 No s3cret%2Dquery\r\n{location}\r\nContent-Length: {length}\r\n\r\n{said}"
            );
            stream.write_all(refusal.as_bytes()).unwrap();
            return;
        }
        let mut stream = accept_raw(stream);
        for _ in 0..2 {
            if read_frame(&mut stream).is_none()
                || stream.write_all(&frame(0x81, b"\"s3cret answer\"")).is_err()
            {
                return;
            }
        }
    })
}

#[test]
fn each_step_of_a_redirect_is_logged_with_its_endpoints_alone() {
    let last = server_that(|head| good_answer(head, ""));
    let location = last.url().replace("ws://", "http://bob:s3cret-password@") + "/s3cret?token=s3cret";
    let answer = format!("HTTP/1.1 307 On\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
    let first = server_that(move |_| answer.clone());
    let journal = logged(|| {
        let config = quick(&(first.url() + "/s3cret?token=s3cret")).redirects(1);
        let _ = Client::connect(config).unwrap().terminate();
    });
    let step = format!("{} redirects to {}", first.address(), last.address());
    let told = journal.iter().find(|(_, target, text)| target.starts_with("tautline") && *text == step);
    assert!(told.is_some_and(|(level, ..)| *level == Level::Info), "{journal:?}");
    assert!(journal.iter().all(|(_, _, text)| !text.contains("s3cret")), "{journal:?}");
}

/// A server that answers each request so.
fn server_that(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Server {
    Server::start(move |_, mut stream| {
        let head = read_head(&mut stream);
        let _ = stream.write_all(answer(&head).as_bytes());
        while read_frame(&mut stream).is_some() {}
    })
}

#[test]
fn no_secret_is_logged_by_anybody_and_no_payload_by_this_library() {
    let url = |server: &Server| {
        server.url().replace("ws://", "ws://bob:s3cret-password@") + "/path?token=s3cret-query"
    };
    let secrets = [
        "s3cret-password",
        "s3cret-query",
        "s3cret-bearer",
        "s3cret-login",
        "Ym9iOnMzY3JldC1wYXNzd29yZA",
        "s3cret-cookie",
    ];
    let talk = |change: fn(ConnectionConfig) -> ConnectionConfig| {
        let server = server();
        let config = change(quick(&url(&server)));
        let session = JsonSession::new().login(json!({"password": "s3cret-login"}));
        let client = Client::builder(config).protocol(session).start().unwrap();
        for _ in 0..2 {
            wait_for(&client, disconnected);
            client.send("s3cret message").unwrap();
        }
        let _ = client.close();
    };
    let journal = logged(|| {
        talk(|config| config);
        talk(|config| config.header("Authorization", "Bearer s3cret-bearer"));
        talk(|config| config.header("Cookie", "a=1; sid=s3cret-cookie").header("X-Key", "s3cret-key"));
        Client::connect(url(&server()).replace("ws://", "http://")).unwrap_err();
    });
    let ours = journal.iter().filter(|(_, target, _)| target.starts_with("tautline"));
    assert!(ours.clone().count() > 10, "{journal:?}");
    for (level, target, text) in &journal {
        for secret in secrets {
            assert!(!text.contains(secret), "{level} {target}: {text}");
        }
    }
    for (level, target, text) in ours.clone() {
        assert!(!text.contains("s3cret"), "{level} {target}: {text}");
    }
    let told = |says: &str| ours.clone().any(|(.., text)| text.contains(says));
    assert!(told(r#"503 No *** to the WebSocket upgrade: "***, ***, "#), "{journal:?}");
}

#[test]
fn tls_with_anybody_is_a_warning_once_a_client_for_the_server_and_for_the_proxy() {
    let anybody = || TlsConfig::default().danger_accept_invalid_certs(true);
    let config = || ConnectionConfig::new("ws://127.0.0.1:9");
    let proxy = |tls: TlsConfig| config().proxy(Proxy::new("http://127.0.0.1:9").tls(tls));
    for (config, peers) in [
        (config(), vec![]),
        (config().tls(anybody()), vec!["the server"]),
        (config().tls(anybody().pin([0; 32])), vec![]),
        (proxy(anybody()), vec!["the proxy"]),
        (proxy(anybody().pin([0; 32])), vec![]),
        (proxy(anybody()).tls(anybody()), vec!["the server", "the proxy"]),
    ] {
        let lines = logged(|| drop(Client::start(&config).unwrap().terminate()));
        let warned: Vec<_> = lines
            .iter()
            .filter(|(level, _, text)| *level == Level::Warn && text.contains("danger"))
            .collect();
        assert_eq!(warned.len(), peers.len(), "{warned:?}");
        for ((_, target, text), peer) in warned.iter().zip(peers) {
            assert!(target == "tautline" && text.contains(&format!("on the way to {peer} can")), "{text}");
        }
    }
}

#[test]
fn no_credential_of_a_proxy_is_logged_though_the_proxy_and_the_server_repeat_them() {
    // "ann:s3cret-word" as HTTP has it.
    const BASIC: &str = "Basic YW5uOnMzY3JldC13b3Jk";
    let server = Server::start(|n, mut stream| {
        read_head(&mut stream);
        let said = "who is ann:s3cret-word, s3cret-word, YW5uOnMzY3JldC13b3Jk?";
        let length = said.len();
        if n == 0 {
            let _ = write!(stream, "HTTP/1.1 503 Busy\r\nContent-Length: {length}\r\n\r\n{said}");
        }
    });
    let (open, shut) = (Tunnel::http(Some(BASIC)), Tunnel::http(Some("none is right")));
    let socks = Tunnel::socks(Some(("ann", "s3cret-other")));
    let url = server.url().replace("127.0.0.1", "gateway.invalid");
    let talk = |proxy: Proxy| {
        let client = Client::start(quick(&url).proxy(proxy)).unwrap();
        let (reason, _) = wait_for(&client, disconnected);
        let shown = format!("{reason} {reason:?} {:?}", client.status());
        assert!(!shown.contains("s3cret") && !shown.contains("YW5u"), "{shown}");
        let _ = client.terminate();
    };
    let journal = logged(|| {
        talk(Proxy::new(format!("http://ann:s3cret-word@{}", open.address())));
        talk(Proxy::new(format!("http://{}", shut.address())).login("ann", "s3cret-word"));
        let own = Proxy::new(format!("http://{}", shut.address()));
        talk(own.header("Proxy-Authorization", "Bearer s3cret-bearer").header("X-Key", "s3cret-key"));
        talk(Proxy::new(format!("socks5h://ann:s3cret-word@{}", socks.address())));
        Client::start(quick(&url).proxy(Proxy::new("socks4://ann:s3cret-word@h"))).unwrap_err();
    });
    assert!(open.asked()[0].contains(BASIC) && shut.asked()[1].contains("s3cret-bearer"), "it was sent");
    let shown = journal.iter().find(|(.., text)| text.contains("s3cret") || text.contains("YW5u"));
    assert_eq!(shown, None);
    let told = |says: &str| journal.iter().any(|(.., text)| text.contains(says));
    assert!(told("who is ***") && told("does not accept the login"), "{journal:?}");
}

#[test]
fn a_proxy_of_the_configuration_is_logged_at_the_start_and_at_each_connection() {
    let (server, tunnel) = (server_that(|head| good_answer(head, "")), Tunnel::http(None));
    let (proxy, at) = (format!("http://{}", tunnel.address()), server.address());
    let told = |journal: &[(Level, String, String)]| -> Vec<_> {
        let ours =
            journal.iter().filter(|(_, target, text)| target == "tautline" && text.contains(" proxy "));
        ours.map(|(level, _, text)| (*level, text.clone())).collect()
    };
    let journal = logged(|| {
        let given = Proxy::new(format!("http://ann:s3cret@{}", tunnel.address()));
        let client = Client::connect(quick(&server.url()).proxy(given)).unwrap();
        server.cut();
        wait_for(&client, |event| matches!(event, Event::Disconnected { .. }).then_some(()));
        wait_for(&client, |event| matches!(event, Event::Connected { .. }).then_some(()));
        assert_eq!(client.handshake().unwrap().proxy.as_deref(), Some(&*proxy));
        let _ = client.terminate();
    });
    let start = (Level::Info, format!("Through the proxy {proxy} to {at}, by the setting proxy"));
    let connected = (Level::Debug, format!("Connected to {at} through the proxy {proxy}"));
    assert_eq!(told(&journal), [start, connected.clone(), connected]);
    let past = logged(|| {
        let given = Proxy::new(&*proxy).no_proxy("127.0.0.1");
        let client = Client::connect(quick(&server.url()).proxy(given)).unwrap();
        assert_eq!(client.handshake().unwrap().proxy, None);
        let _ = client.terminate();
    });
    let said = format!("Past the proxy {proxy} of the setting proxy to {at}, by no_proxy");
    assert_eq!(told(&past), [(Level::Info, said)]);
}

#[test]
fn the_headers_of_an_answer_are_in_no_log_and_in_no_error() {
    // A good answer, and one that chooses what nobody offered.
    let answers = ["Set-Cookie: sid=s3cret\r\n", "Set-Cookie: sid=s3cret\r\nSec-WebSocket-Protocol: c\r\n"];
    let server = Server::start(move |n, mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(good_answer(&head, answers[n % 2]).as_bytes()).unwrap();
        while read_frame(&mut stream).is_some_and(|(opcode, _)| opcode != 1) {}
    });
    let journal = logged(|| {
        let client = Client::connect(quick(&server.url())).unwrap();
        assert_eq!(client.handshake().unwrap().headers.get("set-cookie"), Some("sid=s3cret"));
        client.send("end").unwrap();
        wait_for(&client, disconnected);
        let (refused, _) = wait_for(&client, disconnected);
        assert!(refused.to_string().ends_with("offered: none"), "{refused}");
        assert!(!format!("{refused:?}").contains("s3cret"), "{refused:?}");
        let _ = client.terminate();
    });
    assert!(journal.iter().any(|(.., text)| text.contains("offered: none")), "{journal:?}");
    let shown = journal.iter().find(|(.., text)| text.contains("s3cret"));
    assert_eq!(shown, None);
}

#[test]
fn a_close_frame_that_repeats_a_secret_is_printed_without_it_and_carries_it() {
    // One that nobody may send is told in the words of a violation.
    for code in [4001, 1005] {
        let server = Server::start(move |_, stream| {
            let mut stream = accept_raw(stream);
            let _ = stream.write_all(&close_frame(code, "no t0ken-query here"));
            while read_frame(&mut stream).is_some() {}
        });
        let journal = logged(|| {
            let client = Client::start(quick(&(server.url() + "/?token=t0ken-query"))).unwrap();
            let (reason, _) = wait_for(&client, disconnected);
            let shown = format!("{reason} {reason:?} {:?}", reason.clone());
            assert!(!shown.contains("t0ken") && shown.contains("no *** here"), "{shown}");
            if let DisconnectReason::ClosedByServer(frame) = &reason {
                assert_eq!((frame.code, &*frame.reason), (4001, "no t0ken-query here"));
            }
            let _ = client.terminate();
        });
        let ours: Vec<_> = journal.iter().filter(|(_, target, _)| target.starts_with("tautline")).collect();
        assert!(ours.iter().any(|(.., text)| text.contains("no *** here")), "{ours:?}");
        assert!(ours.iter().all(|(.., text)| !text.contains("t0ken")), "{ours:?}");
    }
}

/// A server that does `answer` to the first message of each connection.
fn answering(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Sync + 'static) -> Server {
    Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        if let Some((_, payload)) = read_frame(&mut stream) {
            let _ = stream.write_all(&answer(&payload));
        }
        while read_frame(&mut stream).is_some() {}
    })
}

/// How the line of this session ends, and the log of that.
fn end(server: &Server, protocol: impl Protocol + 'static) -> (DisconnectReason, String) {
    let mut end = None;
    let journal = logged(|| {
        let client = Client::builder(quick(&server.url())).protocol(protocol).start().unwrap();
        end = Some(wait_for(&client, disconnected).0);
        let _ = client.terminate();
    });
    let ours = journal.iter().filter(|(_, target, _)| target.starts_with("tautline"));
    (end.unwrap(), ours.map(|(.., text)| text.as_str()).collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_server_that_repeats_a_json_login_is_printed_and_logged_without_its_secrets() {
    let session = || {
        JsonSession::new()
            .login(json!({"type": "login", "user": "me@h.example", "password": "correct\"horse", "x": ["hunter2"]}))
            .refused(|m| m["type"] == "refused")
    };
    let repeats = answering(|login| {
        let login: serde_json::Value = serde_json::from_slice(login).unwrap();
        let refusal = json!({"type": "refused", "about": "no login, user", "was": login});
        frame(0x81, refusal.to_string().as_bytes())
    });
    let (reason, log) = end(&repeats, session());
    let DisconnectReason::ConnectFailed(error @ Error::LoginRefused { .. }) = &reason else {
        panic!("{reason:?}")
    };
    let shown = format!("{error} {error:?} {reason} {reason:?} {log}");
    for secret in ["h.example", "correct", "horse", "hunter2"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    for harmless in [r#""type":"login""#, r#""password":"***""#, "no login, user"] {
        assert!(error.to_string().contains(harmless) && log.contains(harmless), "{shown}");
    }
    for code in [4003, 1005] {
        let server = answering(move |_| close_frame(code, "hunter2 of me@h.example may not login"));
        let (reason, log) = end(&server, session());
        let shown = format!("{reason} {reason:?} {log}");
        assert!(!shown.contains("hunter2") && !shown.contains("h.example"), "{shown}");
        assert!(reason.to_string().contains("*** of *** may not login"), "{shown}");
        if let DisconnectReason::ClosedByServer(frame) = &reason {
            assert_eq!((frame.code, &*frame.reason), (4003, "hunter2 of me@h.example may not login"));
        }
    }
}

#[test]
fn an_outage_is_logged_with_its_reason_and_the_next_try_and_so_is_its_end() {
    let log = logged(|| {
        let server = Server::start(|n, stream| {
            if n > 0 { common::listen(common::accept(stream)) } else { drop(common::accept(stream)) }
        });
        let client = Client::start(quick(&server.url())).unwrap();
        wait_for(&client, disconnected);
        wait_for(&client, |event| matches!(event, tautline::Event::Connected { .. }).then_some(()));
        let _ = client.terminate();
    });
    // What a logger shows whose level is info.
    let ours: Vec<_> =
        log.iter().filter(|(level, target, _)| *level <= Level::Info && target == "tautline").collect();
    let mut texts = ours.iter().map(|(_, _, text)| text.as_str());
    for wanted in [
        "CONNECTED -> DISCONNECTED (the server ended the connection without a close frame (1006))",
        "Scheduling reconnect attempt 1 in ",
        "CONNECTING -> CONNECTED",
    ] {
        assert!(texts.any(|text| text.contains(wanted)), "{wanted}: {ours:?}");
    }
}

#[test]
fn an_end_that_nobody_asked_for_is_a_warning_and_one_by_the_caller_or_in_good_order_is_none() {
    let warnings = |end: fn(&Client), code: u16| {
        let log = logged(|| {
            let server = Server::start(move |_, stream| {
                let mut stream = common::accept_raw(stream);
                let _ = stream.write_all(&frame(0x88, &code.to_be_bytes()));
                while common::read_frame(&mut stream).is_some() {}
            });
            let client = Client::start(quick(&server.url())).unwrap();
            end(&client);
        });
        let ours = log.into_iter().filter(|(level, target, _)| *level <= Level::Warn && target == "tautline");
        ours.map(|(_, _, text)| text).collect::<Vec<_>>()
    };
    let by_server: fn(&Client) = |client| drop(client.wait_closed());
    let refused = warnings(by_server, 1008);
    assert!(
        refused.len() == 1 && refused[0].contains("closed for good") && refused[0].contains("1008"),
        "{refused:?}"
    );
    assert_eq!(warnings(by_server, 1000), [""; 0]);
    assert_eq!(warnings(|client| drop(client.terminate()), 1001), [""; 0]);
}

/// Logs in with a token, and brings what the server says in all the ways that there are.
struct Talker(fn(&mut Context<'_>, Message) -> Result<(), Error>);

impl Protocol for Talker {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.secret("t0ken-login");
        cx.send("t0ken-login");
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        (self.0)(cx, message)
    }
}

#[test]
fn what_a_protocol_calls_secret_is_in_no_text_of_its_errors_and_of_its_servers_close() {
    type Answer = fn(&[u8]) -> Vec<u8>;
    fn text(message: &Message) -> &str {
        message.as_text().unwrap()
    }
    let said: Answer = |_| frame(0x81, b"\"no t0ken%2Dlogin here\"");
    let talkers: [(Talker, Answer); 6] = [
        (Talker(|_, message| Err(Error::login_refused(text(&message)))), said),
        (Talker(|_, message| Err(Error::session(text(&message)))), said),
        (Talker(|_, message| Err(Error::answer(text(&message)))), said),
        (Talker(|_, message| Err(serde_json::Error::custom(text(&message)).into())), said),
        (
            Talker(|cx, message| {
                cx.stop(Error::login_refused(text(&message)));
                Ok(())
            }),
            said,
        ),
        (Talker(|_, _| Ok(())), |_| close_frame(4000, "no t0ken-login here")),
    ];
    for (talker, answer) in talkers {
        let (reason, log) = end(&answering(answer), talker);
        let shown = format!("{reason} {reason:?} {log}");
        assert!(!shown.contains("t0ken"), "{shown}");
        assert!(reason.to_string().contains("no *** here") && log.contains("no *** here"), "{shown}");
    }
}

/// Fails each request with the login.
struct Fails;

impl Protocol for Fails {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.secret("t0ken-login");
        cx.ready();
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: tautline::Outgoing) -> Result<(), Error> {
        let request = outgoing.request.unwrap();
        cx.fail_request(request, Error::answer("no t0ken-login here"));
        Ok(())
    }
}

#[test]
fn the_error_of_a_request_holds_no_secret_of_the_login() {
    let server = Server::echo();
    let client = Client::builder(server.url()).protocol(Fails).connect().unwrap();
    let error = client.request("x", LONG).unwrap_err();
    assert_eq!(error.to_string(), "the server answered with an error: no *** here");
    let _ = client.terminate();
}

#[test]
fn a_line_that_is_well_says_nothing_at_info_or_above() {
    let (echoed_in, echoed) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            let answer = if opcode == 9 { 0x8A } else { 0x80 | opcode };
            stream.write_all(&frame(answer, &payload)).unwrap();
            echoed_in.send(opcode).unwrap();
        }
    });
    let heartbeat = tautline::HeartbeatConfig::default().interval(std::time::Duration::from_millis(1));
    let client = Client::connect(quick(&server.url()).heartbeat(heartbeat)).unwrap();
    let journal = logged(|| {
        for n in 0..100 {
            let message = Message::from(vec![n; 100]);
            client.send(message.clone()).unwrap();
            assert_eq!(client.recv_timeout(LONG).unwrap(), message);
        }
        client.confirm(.., LONG).unwrap();
        while echoed.recv_timeout(LONG).unwrap() != 9 {}
    });
    let loud: Vec<_> = journal.iter().filter(|(level, ..)| *level <= Level::Info).collect();
    assert!(loud.is_empty(), "{loud:?}");
    let journal = logged(|| drop(client.close()));
    let told: Vec<_> =
        journal.iter().filter(|(level, ..)| *level == Level::Info).map(|(.., text)| text).collect();
    assert_eq!(told[..1], ["Connection state: CONNECTED -> CLOSING"], "{told:?}");
}

/// Takes its time over each message.
struct Slow;

impl Protocol for Slow {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(120) {
            std::hint::spin_loop();
        }
        cx.deliver(message);
        Ok(())
    }
}

/// Can send nothing.
struct Unable;

impl Protocol for Unable {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_send(&mut self, _: &mut Context<'_>, _: Outgoing) -> Result<(), Error> {
        Err(Error::session("unable"))
    }
}

#[test]
fn a_message_that_the_protocol_fails_over_is_named_in_the_log_as_the_error_says() {
    let server = Server::echo();
    let log = logged(|| {
        let client = Client::builder(quick(&server.url())).protocol(Unable).connect().unwrap();
        client.send("x").unwrap();
        let error = client.confirm(.., LONG).unwrap_err().to_string();
        let says = "the protocol's on_send failed for it on three connections (see the log)";
        assert!(error.starts_with("#1 will never be sent: ") && error.contains(says), "{error}");
        let _ = client.terminate();
    });
    let says = "Message #1 is given up: the protocol failed 3 times to send it";
    assert!(log.iter().any(|(level, _, text)| *level == Level::Warn && text == says), "{log:?}");
}

#[test]
fn a_callback_that_holds_the_line_up_is_named() {
    let server = Server::echo();
    let log = logged(|| {
        let slow = Client::builder(server.url()).protocol(Slow).connect().unwrap();
        slow.send("hello").unwrap();
        slow.recv_timeout(LONG).unwrap();
        let _ = slow.terminate();
    });
    let warnings: Vec<_> = log.iter().filter(|(level, ..)| *level == Level::Warn).collect();
    let named =
        |text: &str| text.starts_with("The callback on_message took 1") && text.contains("another thread");
    assert!(warnings.iter().any(|(_, target, text)| target == "tautline" && named(text)), "{warnings:?}");
}

#[test]
fn a_panic_on_the_io_thread_closes_the_client_and_leaves_nobody_waiting() {
    logged(|| {
        let server = Server::start(|_, stream| {
            let mut stream = accept_raw(stream);
            while read_frame(&mut stream).is_some_and(|(_, payload)| payload != b"{}") {}
        });
        let session = JsonSession::new().answers_in_order(|_| true);
        let (io_in, io) = crossbeam_channel::unbounded();
        let client = Client::builder(quick(&server.url()))
            .protocol(session)
            .on_event_ready(move || io_in.send(thread::current().id()).unwrap())
            .connect()
            .unwrap();
        *PANICS.lock().unwrap() = Some(io.recv_timeout(LONG).unwrap());
        client.send("on its way").unwrap();
        thread::scope(|scope| {
            let recv = scope.spawn(|| client.recv().unwrap_err());
            let confirm = scope.spawn(|| client.confirm(.., LONG).unwrap_err());
            let request = scope.spawn(|| client.request("{}", LONG).unwrap_err());
            let closed = scope.spawn(|| client.wait_closed());
            let reason = closed.join().unwrap();
            let CloseReason::Failed(Error::Panicked { callback: "internal", .. }) = reason else {
                panic!("{reason:?}");
            };
            for waiting in [recv, confirm, request] {
                let error = waiting.join().unwrap();
                assert!(matches!(error, Error::Closed { .. }), "{error}");
            }
        });
        assert_eq!(client.try_send("too late").unwrap_err().kind(), SendErrorKind::Closed);
        let left = client.close();
        assert!(left.unfinished && left.never_written.is_empty(), "{left:?}");
    });
}
