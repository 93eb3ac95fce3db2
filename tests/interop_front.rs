//! The client against Node's ws behind nginx, plain and over TLS.
//!
//! `tests/interop/run.sh` starts them and runs these tests. The head of `nginx.conf`, beside it, lists what nginx does.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

#[macro_use]
#[path = "interop/client.rs"]
mod client;
mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use client::{config, connect, connected, counted, echo, lost, ms, receive, server, variable, wait_for};
use common::{LONG, eventually};
use tautline::{
    Attempt, Client, CloseFrame, CloseReason, Context, DisconnectReason, Error, Event, Handshake,
    HeartbeatConfig, Loss, Message, Protocol, Rejection, Retry, UpgradeRequest,
};

on_each_line! {
    { plain: "NGINX_WS", over_tls: "NGINX_WSS" }
    messages_come_back_as_they_went,
    both_sides_learn_how_the_other_ended_the_line,
    an_idle_line_is_cut_and_comes_back_by_itself,
    heartbeats_keep_an_idle_line,
    a_refusal_is_told_in_full_and_is_final,
    a_server_in_trouble_is_tried_again_but_not_before_it_asked_for,
    the_time_the_server_asked_for_is_waited_out,
    credentials_open_the_line,
}

fn messages_come_back_as_they_went(url: &str) {
    let client = connect(config(url));
    for size in [0, 1, 126, 65_536, 4 << 20] {
        for message in [Message::from("x".repeat(size)), Message::from(vec![0xAA; size])] {
            client.send(message.clone()).unwrap();
            let echo = client.recv_timeout(LONG).unwrap();
            assert!(echo == message, "{message:?} came back as {echo:?}");
        }
    }
    client.send("flood:5000").unwrap();
    for n in 0..5000 {
        assert_eq!(receive(&client), n.to_string());
    }
    client.send("ping").unwrap();
    assert_eq!(receive(&client), "pong");
    let left = client.close();
    assert!(left.is_empty(), "{left:?}");
}

fn both_sides_learn_how_the_other_ended_the_line(url: &str) {
    let witness = connect(config(url));
    let path = if url.starts_with("wss") { "/told-over-tls" } else { "/told" };
    let client = connect(config(&format!("{url}{path}")));
    let _ = client.close_with(4321, "enough").unwrap();
    witness.send(format!("last-close:{path}")).unwrap();
    assert_eq!(receive(&witness), "4321:enough");

    witness.send("close:4999:too much").unwrap();
    let (reason, retry_in, _) = lost(&witness);
    assert!(
        matches!(&reason, DisconnectReason::ClosedByServer(CloseFrame { code: 4999, reason, .. })
            if &**reason == "too much"),
        "{reason:?}"
    );
    assert!(retry_in.is_some());
    connected(&witness);
    echo(&witness);
}

fn an_idle_line_is_cut_and_comes_back_by_itself(url: &str) {
    let client = connect(config(&format!("{url}/idle")));
    for _ in 0..2 {
        let quiet_since = Instant::now();
        echo(&client);
        let (reason, retry_in, _) = lost(&client);
        // Not by anything else: after the 2 s that nginx waits, with room for its clock.
        assert!(quiet_since.elapsed() >= ms(1800), "{reason:?} after {:?}", quiet_since.elapsed());
        assert!(matches!(reason, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{reason:?}");
        assert!(retry_in.is_some());
        connected(&client);
    }
    echo(&client);
    assert_eq!(client.stats().connects, 3);
}

fn heartbeats_keep_an_idle_line(url: &str) {
    let heartbeat = HeartbeatConfig::default().interval(ms(500)).timeout(ms(1900)).strict(true);
    let idle_since = Instant::now();
    let client = connect(config(&format!("{url}/idle")).heartbeat(heartbeat));
    // nginx speaks no WebSocket: the pongs are the server's behind it.
    counted(&client, "heartbeats", |stats| stats.heartbeats >= 11 && stats.round_trip.is_some());
    assert!(idle_since.elapsed() >= ms(5000), "{:?}", idle_since.elapsed());
    echo(&client);
    assert_eq!(client.stats().connects, 1);
}

/// What an attempt to connect is refused with.
fn refused(url: &str) -> Arc<Rejection> {
    match Client::connect(config(url)) {
        Err(Error::UpgradeRejected(rejection)) => rejection,
        other => panic!("{url}: {other:?}"),
    }
}

fn rejection(reason: DisconnectReason) -> Arc<Rejection> {
    match reason {
        DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}

/// The body is this text, or a page of nginx's own about it.
fn assert_says(rejection: &Rejection, body: &str) {
    let said = String::from_utf8_lossy(&rejection.body);
    assert!(said == body || said.starts_with("<html>") && said.contains(body), "{said}");
    assert!(!said.starts_with("<html>") || said.trim_end().ends_with("</html>"), "{said}");
}

fn a_refusal_is_told_in_full_and_is_final(url: &str) {
    let http = url.replacen("ws", "http", 1);
    let tls = server("NGINX_WSS");
    for (path, status, header, body) in [
        ("/basic", 401, ("WWW-Authenticate", r#"Basic realm="front""#), "Authorization Required"),
        ("/forbidden", 403, ("Content-Type", "text/html"), "403 Forbidden"),
        ("/key", 403, ("Content-Type", "text/plain"), "a wrong key\n"),
        ("/missing", 404, ("Content-Type", "text/plain"), "nothing here\n"),
        ("/moved", 301, ("Location", &*format!("{http}/")), "301 Moved Permanently"),
        ("/found", 302, ("Location", &*format!("{http}/")), "302 Found"),
        ("/moved-to-tls", 307, ("Location", &*format!("{tls}/")), "307 Temporary Redirect"),
        ("/forgetful", 426, ("Transfer-Encoding", "chunked"), "Upgrade Required"),
    ] {
        let url = format!("{url}{path}");
        let (name, value) = header;
        let check = |rejection: &Rejection| {
            assert_eq!(rejection.status, status, "{path}");
            assert_eq!(rejection.header(name), Some(value), "{path}");
            assert!(rejection.header("server").is_some_and(|server| server.starts_with("nginx")), "{path}");
            assert_says(rejection, body);
        };
        check(&refused(&url));

        let client = Client::start(config(&url)).unwrap();
        let (reason, retry_in, _) = lost(&client);
        check(&rejection(reason));
        assert_eq!(retry_in, None, "{path}");
        let closed = client.wait_closed_timeout(LONG);
        let Ok(CloseReason::NotRetried(reason)) = closed else { panic!("{path}: {closed:?}") };
        check(&rejection(reason));
        assert_eq!(client.stats().attempts, 1, "{path}");
    }
}

fn a_server_in_trouble_is_tried_again_but_not_before_it_asked_for(url: &str) {
    for (path, status, after, body) in [
        ("/limit", 429, Some("1"), "slow down\n"),
        ("/dead", 502, None, "502 Bad Gateway"),
        ("/busy", 503, Some("2"), "try later\n"),
        // It is no refusal, only no answer to what was asked.
        ("/plain", 200, None, "no WebSocket\n"),
    ] {
        let url = format!("{url}{path}");
        let check = |rejection: &Rejection| {
            assert_eq!((rejection.status, rejection.header("Retry-After")), (status, after), "{path}");
            assert_says(rejection, body);
        };
        check(&refused(&url));

        let client = Client::start(config(&url)).unwrap();
        let (reason, retry_in, _) = lost(&client);
        check(&rejection(reason));
        let asked = Duration::from_secs(after.map_or(0, |after| after.parse().unwrap()));
        assert!(retry_in.is_some_and(|retry_in| retry_in >= asked), "{path}: {retry_in:?}");
    }
}

fn the_time_the_server_asked_for_is_waited_out(url: &str) {
    let client = Client::start(config(&format!("{url}/limit"))).unwrap();
    let (_, retry_in, _) = lost(&client);
    let first = Instant::now();
    let (reason, ..) = lost(&client);
    let (waited, asked) = (first.elapsed(), retry_in.unwrap());
    assert_eq!(rejection(reason).status, 429);
    // The event tells of a delay that has begun a moment before.
    assert!(asked >= ms(1000) && waited >= asked.saturating_sub(ms(100)), "{waited:?} of {asked:?}");
}

fn credentials_open_the_line(url: &str) {
    let given = config(&format!("{}/basic", url.replace("://", "://bob:correct%20horse@")));
    echo(&connect(given));

    // "bob:battery", then "bob:correct horse".
    let fetched = AtomicU32::new(0);
    let client = Client::builder(config(&format!("{url}/basic")))
        .fetch(move |mut request| {
            let wrong = fetched.fetch_add(1, SeqCst) == 0;
            let credentials = if wrong { "Ym9iOmJhdHRlcnk=" } else { "Ym9iOmNvcnJlY3QgaG9yc2U=" };
            request.set_header("Authorization", format!("Basic {credentials}"));
            Ok(request)
        })
        .start()
        .unwrap();
    let (reason, retry_in, _) = lost(&client);
    assert_eq!((rejection(reason).status, retry_in), (401, Some(Duration::ZERO)));
    connected(&client);
    echo(&client);
    assert_eq!(client.stats().attempts, 2);
}

/// Has another key for each attempt, and doesn't take the refusal of one for the last word.
struct Keys;

impl Protocol for Keys {
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        request.set_header("X-Key", if attempt.number == 1 { "first" } else { "second" });
        request.subprotocols.push("chat".into());
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, accepted: &Handshake) -> Result<(), Error> {
        cx.deliver(accepted.subprotocol.as_deref().unwrap_or_default());
        cx.ready();
        Ok(())
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        match down.reason {
            DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection)) if rejection.status == 403 => {
                Retry::Now
            }
            _ => down.default_retry(),
        }
    }
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_protocol_says_anew_for_each_attempt_what_to_ask_for() {
    for name in ["NGINX_WS", "NGINX_WSS"] {
        let config = config(&format!("{}/key", server(name))).header("x-key", "none");
        let client = Client::builder(config).protocol(Keys).start().unwrap();
        let (reason, retry_in, _) = lost(&client);
        assert_eq!((rejection(reason).status, retry_in), (403, Some(Duration::ZERO)));
        assert_eq!(receive(&client), "chat");
        echo(&client);
        assert_eq!(client.stats().attempts, 2);
    }
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_server_that_recovers_is_found_again_after_the_time_it_asked_for() {
    let client = Client::start(config(&format!("{}/heals", server("NGINX_WS")))).unwrap();
    let (reason, retry_in, _) = lost(&client);
    let refused_at = Instant::now();
    assert_eq!(rejection(reason).status, 503);
    assert!(retry_in.is_some_and(|retry_in| retry_in >= ms(2000)), "{retry_in:?}");
    let healed = Path::new(&variable("TAUTLINE_NGINX_DIR")).join("flags/healed");
    std::fs::write(healed, "").unwrap();
    connected(&client);
    assert!(refused_at.elapsed() >= ms(1900), "{:?}", refused_at.elapsed());
    echo(&client);
    assert_eq!(client.stats().attempts, 2);
}

/// The nginx that `run.sh` has started for this purpose, and after a stop the test's own.
struct Nginx {
    dir: PathBuf,
    own: Option<Child>,
}

impl Nginx {
    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.dir.join("nginx.pid")).unwrap();
        assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
    }

    fn start(&mut self) {
        let mut prefix = self.dir.clone().into_os_string();
        prefix.push("/");
        let child = Command::new("nginx").arg("-p").arg(prefix).args(["-c", "nginx.conf"]).spawn();
        self.own = Some(child.unwrap());
        // Else there would be no pid to stop it by.
        eventually("nginx says its pid", || {
            std::fs::read_to_string(self.dir.join("nginx.pid")).is_ok_and(|pid| !pid.is_empty())
        });
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Some(mut own) = self.own.take() {
            self.signal("-TERM");
            let _ = own.wait();
        }
    }
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_line_comes_back_when_nginx_does() {
    let mut nginx = Nginx { dir: variable("TAUTLINE_NGINX_STOPPED_DIR").into(), own: None };
    let clients = ["NGINX_STOPPED_WS", "NGINX_STOPPED_WSS"].map(|name| {
        let config = config(&server(name));
        let impatient = config.reconnect.clone().max_delay(ms(200));
        connect(config.reconnect(impatient))
    });
    clients.iter().for_each(echo);

    // Reads its configuration anew, and cuts the lines it had a second later.
    nginx.signal("-HUP");
    for client in &clients {
        let (reason, retry_in, _) = lost(client);
        assert!(matches!(reason, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{reason:?}");
        assert!(retry_in.is_some());
        connected(client);
        echo(client);
    }

    nginx.signal("-TERM");
    for client in &clients {
        let (reason, ..) = lost(client);
        assert!(matches!(reason, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{reason:?}");
        wait_for(client, "nobody to listen", |event| match event {
            Event::Disconnected {
                reason: DisconnectReason::ConnectFailed(Error::Connect { .. }), ..
            } => Some(()),
            _ => None,
        });
        client.send("sent meanwhile").unwrap();
    }
    nginx.start();
    for client in &clients {
        connected(client);
        assert_eq!(receive(client), "sent meanwhile");
        echo(client);
        assert_eq!(client.stats().connects, 3);
    }
}
