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
    Attempt, Certificate, Client, CloseFrame, CloseReason, ConnectionConfig, Context, DisconnectReason,
    Error, Event, Handshake, HeartbeatConfig, Identity, Loss, Message, Protocol, Rejection, Retry, TlsConfig,
    TlsVersion, UpgradeRequest,
};

on_each_line! {
    { plain: "NGINX_WS", over_tls: "NGINX_WSS" }
    messages_come_back_as_they_went,
    both_sides_learn_how_the_other_ended_the_line,
    an_idle_line_is_cut_and_comes_back_by_itself,
    heartbeats_keep_an_idle_line,
    a_401_names_the_login_it_wants_and_is_final,
    a_403_is_final,
    a_404_is_final,
    a_301_names_the_other_address_and_is_final,
    a_302_names_the_other_address_and_is_final,
    a_307_to_a_websocket_over_tls_names_it_and_is_final,
    a_redirect_leads_to_the_line_where_it_may_be_followed,
    a_426_for_an_upgrade_that_was_not_handed_on_is_final,
    a_429_is_tried_again_but_not_before_it_asked_for,
    a_502_for_a_server_that_is_dead_is_tried_again,
    a_503_is_tried_again_but_not_before_it_asked_for,
    a_200_from_what_is_no_websocket_is_tried_again,
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

/// What nginx answers to the upgrade, and what the client makes of it.
struct Answer<'a> {
    path: &'a str,
    status: u16,
    /// `None`: it has no such header.
    header: (&'a str, Option<&'a str>),
    body: &'a str,
    /// The error's text, behind the server's host and port.
    text: &'a str,
}

impl Answer<'_> {
    fn check(&self, rejection: &Rejection) {
        let (name, value) = self.header;
        assert_eq!((rejection.status, rejection.header(name)), (self.status, value));
        assert!(rejection.header("server").is_some_and(|server| server.starts_with("nginx")));
        assert_says(rejection, self.body);
        let shown = rejection.to_string();
        assert_eq!(shown.split_once(' ').map(|(_place, text)| text), Some(self.text));
    }

    /// Checks that a client on its first attempt is closed.
    fn is_final(&self, url: &str) {
        let url = format!("{url}{}", self.path);
        self.check(&refused(&url));

        let client = Client::start(config(&url)).unwrap();
        let (reason, retry_in, _) = lost(&client);
        self.check(&rejection(reason));
        assert_eq!(retry_in, None);
        let closed = client.wait_closed_timeout(LONG);
        let Ok(CloseReason::NotRetried(reason)) = closed else { panic!("{closed:?}") };
        self.check(&rejection(reason));
        assert_eq!(client.stats().attempts, 1);
    }

    /// Checks that there is another attempt, but not before the server has asked for one.
    fn is_tried_again(&self, url: &str) {
        let url = format!("{url}{}", self.path);
        self.check(&refused(&url));

        let client = Client::start(config(&url)).unwrap();
        let (reason, retry_in, _) = lost(&client);
        self.check(&rejection(reason));
        let asked = match self.header {
            ("Retry-After", Some(seconds)) => Duration::from_secs(seconds.parse().unwrap()),
            _ => Duration::ZERO,
        };
        assert!(retry_in.is_some_and(|retry_in| retry_in >= asked), "{retry_in:?}");
    }
}

fn a_401_names_the_login_it_wants_and_is_final(url: &str) {
    Answer {
        path: "/basic",
        status: 401,
        header: ("WWW-Authenticate", Some(r#"Basic realm="front""#)),
        body: "Authorization Required",
        text: "answered 401 Unauthorized to the WebSocket upgrade; check the credentials",
    }
    .is_final(url);
}

fn a_403_is_final(url: &str) {
    Answer {
        path: "/forbidden",
        status: 403,
        header: ("Content-Type", Some("text/html")),
        body: "403 Forbidden",
        text: "answered 403 Forbidden to the WebSocket upgrade; check the credentials, and the headers, such as Origin",
    }
    .is_final(url);
    Answer {
        path: "/key",
        status: 403,
        header: ("Content-Type", Some("text/plain")),
        body: "a wrong key\n",
        text: r#"answered 403 Forbidden to the WebSocket upgrade: "a wrong key"; check the credentials, and the headers, such as Origin"#,
    }
    .is_final(url);
}

fn a_404_is_final(url: &str) {
    Answer {
        path: "/missing",
        status: 404,
        header: ("Content-Type", Some("text/plain")),
        body: "nothing here\n",
        text: r#"answered 404 Not Found to the WebSocket upgrade: "nothing here"; check the path of the URL"#,
    }
    .is_final(url);
}

/// A redirect to another address, which the text names.
fn is_redirected(url: &str, path: &str, status: u16, reason: &str, to: &str) {
    let text = format!(
        "answered {status} {reason} to the WebSocket upgrade, with another address: {to:?}. Redirects are not \
         followed: use that URL (ws:// or wss://), or set redirects"
    );
    let body = format!("{status} {reason}");
    let header = ("Location", Some(to));
    // nginx's page has another name for a 302.
    let body = body.replace("302 Moved Temporarily", "302 Found");
    Answer { path, status, header, body: &body, text: &text }.is_final(url);
}

// nginx makes an address of the path.

fn a_301_names_the_other_address_and_is_final(url: &str) {
    let to = format!("{}/", url.replacen("ws", "http", 1));
    is_redirected(url, "/moved", 301, "Moved Permanently", &to);
}

fn a_302_names_the_other_address_and_is_final(url: &str) {
    let to = format!("{}/", url.replacen("ws", "http", 1));
    is_redirected(url, "/found", 302, "Moved Temporarily", &to);
}

fn a_307_to_a_websocket_over_tls_names_it_and_is_final(url: &str) {
    let to = format!("{}/", server("NGINX_WSS"));
    is_redirected(url, "/moved-to-tls", 307, "Temporary Redirect", &to);
}

fn a_redirect_leads_to_the_line_where_it_may_be_followed(url: &str) {
    for path in ["/moved", "/found", "/moved-to-tls"] {
        let client = connect(config(&format!("{url}{path}")).tls(trusting()).redirects(1));
        echo(&client);
        assert_eq!(client.stats().attempts, 1);
    }
}

fn a_426_for_an_upgrade_that_was_not_handed_on_is_final(url: &str) {
    Answer {
        path: "/forgetful",
        status: 426,
        header: ("Transfer-Encoding", Some("chunked")),
        body: "Upgrade Required",
        text: r#"answered 426 Upgrade Required to the WebSocket upgrade: "Upgrade Required""#,
    }
    .is_final(url);
}

fn a_429_is_tried_again_but_not_before_it_asked_for(url: &str) {
    Answer {
        path: "/limit",
        status: 429,
        header: ("Retry-After", Some("1")),
        body: "slow down\n",
        text: r#"answered 429 Too Many Requests to the WebSocket upgrade: "slow down""#,
    }
    .is_tried_again(url);
}

fn a_502_for_a_server_that_is_dead_is_tried_again(url: &str) {
    Answer {
        path: "/dead",
        status: 502,
        header: ("Retry-After", None),
        body: "502 Bad Gateway",
        text: "answered 502 Bad Gateway to the WebSocket upgrade",
    }
    .is_tried_again(url);
}

fn a_503_is_tried_again_but_not_before_it_asked_for(url: &str) {
    Answer {
        path: "/busy",
        status: 503,
        header: ("Retry-After", Some("2")),
        body: "try later\n",
        text: r#"answered 503 Service Temporarily Unavailable to the WebSocket upgrade: "try later""#,
    }
    .is_tried_again(url);
}

/// It is no refusal, only no answer to what was asked.
fn a_200_from_what_is_no_websocket_is_tried_again(url: &str) {
    Answer {
        path: "/plain",
        status: 200,
        header: ("Retry-After", None),
        body: "no WebSocket\n",
        text: r#"answered 200 OK to the WebSocket upgrade: "no WebSocket"; check that the URL is that of a WebSocket"#,
    }
    .is_tried_again(url);
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

/// Checks what a TLS handshake fails with, by the beginning of the text, and that it is tried again: it may be mended at
/// the server.
fn tls_fails(config: &ConnectionConfig, reason: &str) {
    let check = |error: &Error| {
        let Error::Tls { host, .. } = error else { panic!("{error:?}") };
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("TLS with {host}: {reason}")), "{shown}");
    };
    check(&Client::connect(config.clone()).unwrap_err());

    let client = Client::start(config.clone()).unwrap();
    let (reason, retry_in, _) = lost(&client);
    let DisconnectReason::ConnectFailed(error) = &reason else { panic!("{reason:?}") };
    check(error);
    assert!(retry_in.is_some());
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn an_expired_certificate_is_told_with_what_to_do_and_tried_again() {
    let says = "the server's certificate has expired; it has to be renewed there, unless this machine's clock is wrong";
    tls_fails(&config(&server("NGINX_EXPIRED")), says);
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_certificate_for_another_name_is_told_with_what_to_do_and_tried_again() {
    let says = "the server's certificate is not for the name localhost; connect by a name that is in it";
    tls_fails(&config(&server("NGINX_WRONG_NAME")), says);
}

/// Its certificate is checked, and that it has no WebSocket there is its own affair.
#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_certificate_for_another_name_is_taken_by_who_asks_for_that_name() {
    let tls = trusting().server_name("elsewhere.invalid");
    let error = Client::connect(config(&server("NGINX_WRONG_NAME")).tls(tls)).unwrap_err();
    assert!(matches!(&error, Error::UpgradeRejected(rejection) if rejection.status == 404), "{error:?}");
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_certificate_of_an_unknown_authority_is_told_with_what_to_do_and_tried_again() {
    let says = "the server's certificate was issued by nobody whom this system trusts, or the server does not send the \
                certificates in between; make it one that this system trusts, or trust it";
    tls_fails(&ConnectionConfig::new(server("NGINX_WSS")), says);
}

/// Trusts the test's CA.
fn trusting() -> TlsConfig {
    TlsConfig::default().root(Certificate::from_pem(std::fs::read(variable("TAUTLINE_CA")).unwrap()))
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn nginx_answers_a_missing_client_certificate_with_a_400_that_is_final() {
    Answer {
        path: "",
        status: 400,
        header: ("Content-Type", Some("text/html")),
        body: "No required SSL certificate was sent",
        text: "answered 400 Bad Request to the WebSocket upgrade",
    }
    .is_final(&server("NGINX_CLIENT"));
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_client_certificate_opens_the_line() {
    let certs = Path::new(&variable("TAUTLINE_CA")).with_file_name("");
    let read = |name: &str| std::fs::read(certs.join(name)).unwrap();
    for identity in [
        Identity::from_pem(read("client.pem"), read("client.key")),
        Identity::from_pkcs12(read("client.p12"), "open sesame"),
    ] {
        echo(&connect(config(&server("NGINX_CLIENT")).tls(trusting().identity(identity))));
    }
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn a_server_that_knows_nothing_newer_than_tls_1_2_is_reached_unless_that_is_too_old() {
    let url = server("NGINX_TLS12");
    echo(&connect(config(&url)));
    let tls = trusting().min_version(TlsVersion::Tls13);
    let says =
        "the server and this system have no TLS version or cipher in common; one of them has to be updated";
    tls_fails(&config(&url).tls(tls), says);
}

#[test]
#[ignore = "needs the real servers that tests/interop/run.sh starts"]
fn an_ipv6_address_is_reached_over_tls() {
    let url = server("NGINX_IPV6");
    if !url.is_empty() {
        echo(&connect(config(&url)));
    }
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
