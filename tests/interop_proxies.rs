//! The client through tinyproxy, squid, microsocks and dante, and Node's ws behind haproxy.
//!
//! `tests/interop/run.sh proxies` starts them and runs these tests. What each proxy answers stands in `tests/README.md`.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

#[path = "interop/client.rs"]
#[allow(unused_macros, reason = "these tests are of ways through proxies")]
mod client;
mod common;

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{config, connect, connected, counted, echo, lost, ms, receive, server, variable, wait_for};
use common::LONG;
use tautline::{
    Certificate, Client, CloseReason, ConnectionConfig, DisconnectReason, Error, Event, HeartbeatConfig,
    Message, Phase, Proxy, ProxyError, ProxyErrorKind, Rejection, TlsConfig,
};

/// Makes tests of each behaviour, a function that gets a way: one with each of these.
macro_rules! on_each_way {
    ($ways:tt $($behaviour:ident,)*) => {
        $(
            mod $behaviour {
                on_each_way!(@ $behaviour $ways);
            }
        )*
    };
    (@ $behaviour:ident { $($way:ident),* }) => {
        $(
            #[test]
            #[ignore = "needs real proxies: tests/interop/run.sh proxies"]
            fn $way() {
                super::$behaviour(&super::$way());
            }
        )*
    };
}

/// A way through a proxy.
struct Way {
    scheme: &'static str,
    /// Which port of which proxy that `run.sh` has started.
    port: &'static str,
    /// User and password as a URL has them, or nothing.
    login: &'static str,
}

impl Way {
    fn new(scheme: &'static str, port: &'static str, login: &'static str) -> Self {
        Self { scheme, port, login }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", server(self.port))
    }

    fn is_over_tls(&self) -> bool {
        self.scheme == "https"
    }

    fn proxy(&self) -> Proxy {
        self.proxy_for(self.login)
    }

    fn proxy_for(&self, login: &str) -> Proxy {
        let at = if login.is_empty() { "" } else { "@" };
        let proxy = Proxy::new(format!("{}://{login}{at}{}", self.scheme, self.address()));
        if self.is_over_tls() { proxy.tls(trusting()) } else { proxy }
    }

    /// With a line to this server through the proxy.
    fn to(&self, url: &str) -> ConnectionConfig {
        config(url).proxy(self.proxy())
    }
}

/// Trusts the test's CA.
fn trusting() -> TlsConfig {
    TlsConfig::default().root(Certificate::from_pem(std::fs::read(variable("TAUTLINE_CA")).unwrap()))
}

fn tinyproxy() -> Way {
    Way::new("http", "TINYPROXY_PORT", "")
}

fn tinyproxy_with_a_login() -> Way {
    Way::new("http", "TINYPROXY_LOGIN_PORT", "bob:sesame")
}

fn impatient_tinyproxy() -> Way {
    Way::new("http", "TINYPROXY_IDLE_PORT", "")
}

fn squid() -> Way {
    Way::new("http", "SQUID_PORT", "bob:correct%20horse")
}

fn squid_over_tls() -> Way {
    Way::new("https", "SQUID_TLS", "bob:correct%20horse")
}

fn tinyproxy_behind_haproxy() -> Way {
    Way::new("https", "HAPROXY_PROXY", "")
}

fn microsocks() -> Way {
    Way::new("socks5", "MICROSOCKS_PORT", "")
}

fn microsocks_by_name() -> Way {
    Way::new("socks5h", "MICROSOCKS_PORT", "")
}

fn microsocks_with_a_login() -> Way {
    Way::new("socks5h", "MICROSOCKS_LOGIN_PORT", "bob:correct%20horse")
}

fn dante() -> Way {
    Way::new("socks5", "DANTE_PORT", "")
}

fn dante_by_name() -> Way {
    Way::new("socks5h", "DANTE_PORT", "")
}

/// One that has a login for nobody.
fn dante_with_a_login() -> Way {
    Way::new("socks5h", "DANTE_LOGIN_PORT", "bob:correct%20horse")
}

on_each_way! {
    {
        tinyproxy, tinyproxy_with_a_login, tinyproxy_behind_haproxy, squid, squid_over_tls, microsocks,
        microsocks_by_name, microsocks_with_a_login, dante, dante_by_name
    }
    messages_come_back_as_they_went_over_ws,
    messages_come_back_as_they_went_over_wss,
}

/// The server, by a name that the proxy may have to look up.
fn ws() -> String {
    server("NODE_WS").replace("127.0.0.1", "localhost")
}

fn wss() -> String {
    server("NODE_WSS")
}

fn messages_come_back_as_they_went_over_ws(way: &Way) {
    messages_come_back_as_they_went(way, &ws());
}

fn messages_come_back_as_they_went_over_wss(way: &Way) {
    messages_come_back_as_they_went(way, &wss());
}

fn messages_come_back_as_they_went(way: &Way, url: &str) {
    let client = connect(way.to(url));
    for size in [0, 126, 65_536, 4 << 20] {
        let message = Message::from("x".repeat(size));
        client.send(message.clone()).unwrap();
        assert!(client.recv_timeout(LONG).unwrap() == message, "{size}");
    }
    client.send("flood:5000").unwrap();
    for n in 0..5000 {
        assert_eq!(receive(&client), n.to_string());
    }
    let handshake = client.handshake().unwrap();
    assert_eq!(handshake.address, Some(way.address().parse::<SocketAddr>().unwrap()));
    assert!(handshake.timings.proxy.is_some(), "{handshake:?}");
    // Both ends say goodbye through the proxy.
    let left = client.close();
    assert!(left.is_empty(), "{left:?}");
    assert!(matches!(client.wait_closed(), CloseReason::ByCaller));
}

on_each_way! {
    { impatient_tinyproxy, squid, squid_over_tls, dante, dante_by_name }
    an_idle_line_is_cut_by_the_proxy_and_comes_back_by_itself,
    heartbeats_keep_an_idle_line,
}

fn an_idle_line_is_cut_by_the_proxy_and_comes_back_by_itself(way: &Way) {
    for url in [ws(), wss()] {
        is_cut_and_comes_back(way.to(&url));
    }
}

/// The silence after which each of these proxies cuts a line is 2 s, by a clock that may know whole seconds only.
fn is_cut_and_comes_back(config: ConnectionConfig) {
    let client = connect(config);
    let quiet_since = Instant::now();
    echo(&client);
    let (reason, retry_in, _) = lost(&client);
    // Not by anything else.
    assert!(quiet_since.elapsed() >= ms(900), "{reason:?} after {:?}", quiet_since.elapsed());
    assert!(matches!(reason, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{reason:?}");
    assert!(retry_in.is_some());
    connected(&client);
    echo(&client);
    assert_eq!(client.stats().connects, 2);
}

fn heartbeats_keep_an_idle_line(way: &Way) {
    is_kept_by_heartbeats(way.to(&ws()));
}

fn is_kept_by_heartbeats(config: ConnectionConfig) {
    let heartbeat = HeartbeatConfig::default().interval(ms(500)).timeout(ms(1900)).strict(true);
    let idle_since = Instant::now();
    let client = connect(config.heartbeat(heartbeat));
    counted(&client, "heartbeats", |stats| stats.heartbeats >= 11 && stats.round_trip.is_some());
    assert!(idle_since.elapsed() >= ms(5000), "{:?}", idle_since.elapsed());
    echo(&client);
}

fn proxy_error(error: &Error) -> &ProxyError {
    match error {
        Error::Proxy(error) => error,
        other => panic!("{other:?}"),
    }
}

/// What follows an attempt that fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The client is closed.
    Over,
    /// Another attempt, after a delay.
    Again,
}

/// Checks what an attempt fails with, all that is said about it, and what follows. In the text, `{p}` is the proxy and
/// `{t}` the target.
fn fails(config: &ConnectionConfig, kind: ProxyErrorKind, text: &str, then: Then) {
    let check = |error: &Error| {
        let proxy = proxy_error(error);
        assert_eq!(proxy.kind, kind, "{error}");
        assert_eq!(error.to_string(), text.replace("{p}", &proxy.proxy).replace("{t}", &proxy.target));
        for shown in [error.to_string(), format!("{error:?}"), format!("{config:?}")] {
            assert!(!["horse", "sesame", "battery"].iter().any(|secret| shown.contains(secret)), "{shown}");
        }
    };
    check(&Client::connect(config.clone()).unwrap_err());

    let client = Client::start(config.clone()).unwrap();
    let (reason, retry_in, _) = lost(&client);
    let DisconnectReason::ConnectFailed(error) = &reason else { panic!("{reason:?}") };
    check(error);
    if then == Then::Again {
        assert!(retry_in.is_some_and(|retry_in| retry_in < LONG), "{retry_in:?}");
        let _ = client.terminate();
        return;
    }
    assert_eq!(retry_in, None);
    let closed = client.wait_closed_timeout(LONG);
    assert!(matches!(closed, Ok(CloseReason::NotRetried(_))), "{closed:?}");
    assert_eq!(client.stats().attempts, 1);
}

on_each_way! {
    { tinyproxy_with_a_login, squid, squid_over_tls, microsocks_with_a_login, dante_with_a_login }
    a_missing_login_is_asked_for_and_final,
    a_wrong_login_is_refused_and_final,
}

fn a_missing_login_is_asked_for_and_final(way: &Way) {
    let says = match way.scheme {
        "http" | "https" => {
            "it answered 407 Proxy Authentication Required; give it user and password, as by Proxy::login"
        }
        _ => "it takes nobody without a login; give it user and password, as by Proxy::login",
    };
    let text = format!("the proxy {{p}} wants a login to open the way to {{t}}: {says}");
    let config = config(&wss()).proxy(way.proxy_for(""));
    fails(&config, ProxyErrorKind::LoginRequired, &text, Then::Over);
}

fn a_wrong_login_is_refused_and_final(way: &Way) {
    let says = match way.port {
        // It takes the login for one at a server.
        "TINYPROXY_LOGIN_PORT" => "it answered 401 Unauthorized",
        "MICROSOCKS_LOGIN_PORT" => "it answered with status 2",
        "DANTE_LOGIN_PORT" => "it answered with status 1",
        _ => "it answered 407 Proxy Authentication Required",
    };
    let text = format!(
        "the proxy {{p}}, on the way to {{t}}, does not accept the login: {says}; are user and password right?"
    );
    let config = config(&wss()).proxy(way.proxy_for("bob:battery"));
    fails(&config, ProxyErrorKind::LoginRefused, &text, Then::Over);
}

on_each_way! {
    { tinyproxy_with_a_login, squid, squid_over_tls, dante, dante_by_name }
    a_port_that_the_proxy_forbids_is_said_so_and_final,
}

fn a_port_that_the_proxy_forbids_is_said_so_and_final(way: &Way) {
    let says = match way.port {
        "TINYPROXY_LOGIN_PORT" => "it answered 403 Access violation",
        "DANTE_PORT" => "its rules do not allow it",
        _ => "it answered 403 Forbidden",
    };
    let reply = if way.port == "DANTE_PORT" { " (SOCKS reply 2)" } else { "" };
    let text = format!(
        "the proxy {{p}} forbids the way to {{t}}: {says}; whoever runs it has to allow this host and port{reply}"
    );
    fails(&way.to("ws://localhost:9"), ProxyErrorKind::Forbidden, &text, Then::Over);
}

on_each_way! {
    {
        tinyproxy, tinyproxy_behind_haproxy, squid, squid_over_tls, microsocks, microsocks_by_name,
        microsocks_with_a_login, dante, dante_by_name
    }
    a_server_that_the_proxy_does_not_reach_is_tried_again,
}

fn a_server_that_the_proxy_does_not_reach_is_tried_again(way: &Way) {
    let says = match way.port {
        "TINYPROXY_PORT" | "HAPROXY_PROXY" => "it answered 500 Unable to connect",
        "SQUID_PORT" | "SQUID_TLS" => "it answered 503 Service Unavailable",
        _ => "the host refused the connection (SOCKS reply 5)",
    };
    let text =
        format!("the proxy {{p}} did not reach {{t}}: {says}; check host and port, and that the server runs");
    fails(&way.to("ws://localhost:1"), ProxyErrorKind::TargetUnreachable, &text, Then::Again);
}

on_each_way! {
    {
        tinyproxy, tinyproxy_behind_haproxy, squid, squid_over_tls, microsocks_by_name, microsocks_with_a_login,
        dante_by_name
    }
    a_name_that_the_proxy_does_not_find_is_tried_again,
}

fn a_name_that_the_proxy_does_not_find_is_tried_again(way: &Way) {
    let (kind, text) = match way.port {
        "TINYPROXY_PORT" | "HAPROXY_PROXY" => (
            ProxyErrorKind::TargetUnreachable,
            "did not reach {t}: it answered 500 Unable to connect; check host and port, and that the server runs",
        ),
        "SQUID_PORT" | "SQUID_TLS" => (
            ProxyErrorKind::TargetUnreachable,
            "did not reach {t}: it answered 500 Internal Server Error; check host and port, and that the server runs",
        ),
        "DANTE_PORT" => (
            ProxyErrorKind::TargetUnreachable,
            "did not reach {t}: the host is unreachable from there, or its name has no address (SOCKS reply 4); \
             check host and port, and that the server runs",
        ),
        // It does not say what failed.
        _ => (
            ProxyErrorKind::Refused,
            "did not open the way to {t}: a general failure; its log may say why (SOCKS reply 1)",
        ),
    };
    // No name server is asked about it (RFC 6761, section 6.4).
    fails(&way.to("wss://nowhere.invalid:1"), kind, &format!("the proxy {{p}} {text}"), Then::Again);
}

#[test]
#[ignore = "needs real proxies: tests/interop/run.sh proxies"]
fn a_name_that_is_looked_up_here_does_not_reach_the_proxy() {
    let error = Client::connect(dante().to("ws://nowhere.invalid:1")).unwrap_err();
    assert!(matches!(&error, Error::Resolve { host, .. } if &**host == "nowhere.invalid"), "{error:?}");
}

fn a_proxy_that_is_taken_for_one_of_another_kind_says_what_it_is(
    port: &'static str,
    kind: ProxyErrorKind,
    text: &str,
) {
    let text = format!("the proxy {{p}}{text}");
    fails(&Way::new("http", port, "").to(&wss()), kind, &text, Then::Again);
}

mod a_proxy_of_another_kind {
    use super::{ProxyErrorKind, a_proxy_that_is_taken_for_one_of_another_kind_says_what_it_is as check};

    const SAYS_NOTHING: &str = " ended the connection before it had opened the way to {t}: it said nothing; if it speaks \
                                TLS, use https://, and if it speaks SOCKS, socks5://";

    #[test]
    #[ignore = "needs real proxies: tests/interop/run.sh proxies"]
    fn microsocks() {
        check(
            "MICROSOCKS_PORT",
            ProxyErrorKind::Nonsense,
            ", asked for the way to {t}, did not answer as it should: it answered as a SOCKS 5 proxy does; use socks5:// or socks5h://",
        );
    }

    #[test]
    #[ignore = "needs real proxies: tests/interop/run.sh proxies"]
    fn dante() {
        check("DANTE_PORT", ProxyErrorKind::Ended, SAYS_NOTHING);
    }

    #[test]
    #[ignore = "needs real proxies: tests/interop/run.sh proxies"]
    fn squid_over_tls() {
        check(
            "SQUID_TLS",
            ProxyErrorKind::Nonsense,
            ", asked for the way to {t}, did not answer as it should: it speaks TLS; use https:// for that proxy",
        );
    }
}

#[test]
#[ignore = "needs real proxies: tests/interop/run.sh proxies"]
fn a_proxy_that_nobody_vouches_for_is_named_by_the_error() {
    let address = squid_over_tls().address();
    let proxy = Proxy::new(format!("https://bob:battery@{address}"));
    // The server's settings are not the proxy's.
    let error = Client::connect(config(&wss()).proxy(proxy)).unwrap_err();
    assert_eq!(proxy_error(&error).kind, ProxyErrorKind::Unreachable);
    let says = format!("can't be reached: TLS with the proxy {address}: ");
    let shown = error.to_string();
    assert!(shown.contains(&says) && shown.contains("issued by nobody whom this system trusts"), "{shown}");
}

#[test]
#[ignore = "needs real proxies: tests/interop/run.sh proxies"]
fn a_proxy_that_is_not_there_is_tried_again_and_never_gone_around() {
    for scheme in ["http", "https", "socks5", "socks5h"] {
        let config = config(&ws()).proxy(Proxy::new(format!("{scheme}://127.0.0.1:1")));
        let text = "the proxy {p} for {t} can't be reached: connecting to {p}: Connection refused (os error 111); check \
             the port, and that something listens there";
        fails(&config, ProxyErrorKind::Unreachable, text, Then::Again);
    }
}

#[test]
#[ignore = "needs real proxies: tests/interop/run.sh proxies"]
fn a_proxy_that_does_not_answer_is_named_by_the_timeout() {
    for (scheme, port) in [
        ("http", "HAPROXY_SILENT"),
        ("socks5h", "HAPROXY_SILENT"),
        // These wait for the rest of an HTTP request.
        ("socks5h", "TINYPROXY_PORT"),
        ("socks5h", "SQUID_PORT"),
    ] {
        let way = Way::new(scheme, port, "");
        let error = Client::connect(way.to(&wss()).connect_timeout(ms(500))).unwrap_err();
        assert!(matches!(error, Error::ConnectTimeout { phase: Phase::Proxy, .. }), "{error:?}");
        let (target, proxy) = (wss().replace("wss://", ""), way.address());
        let text = format!(
            "connecting to {target} through the proxy {proxy} timed out after 500ms while waiting for the proxy to open a \
             way to the server; check the scheme of its URL: http, https, socks5 or socks5h"
        );
        assert_eq!(error.to_string(), text);
    }
}

/// A proxy that `run.sh` has started for this purpose, and after a stop the test's own.
struct Stopped {
    name: &'static str,
    own: Option<Child>,
}

impl Stopped {
    fn stop(&self) {
        let pid = server(&format!("{}_PID", self.name));
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
    }

    fn start(&mut self) {
        let command = server(&format!("{}_RUN", self.name));
        let mut words = command.lines();
        self.own = Some(Command::new(words.next().unwrap()).args(words).spawn().unwrap());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            let _ = own.kill();
            let _ = own.wait();
        }
    }
}

mod a_line_comes_back {
    #[test]
    #[ignore = "needs real proxies: tests/interop/run.sh proxies"]
    fn tinyproxy() {
        super::a_line_comes_back_when_its_proxy_does(
            &super::Way::new("http", "TINYPROXY_STOPPED_PORT", ""),
            "TINYPROXY_STOPPED",
        );
    }

    #[test]
    #[ignore = "needs real proxies: tests/interop/run.sh proxies"]
    fn microsocks() {
        super::a_line_comes_back_when_its_proxy_does(
            &super::Way::new("socks5h", "MICROSOCKS_STOPPED_PORT", ""),
            "MICROSOCKS_STOPPED",
        );
    }
}

fn a_line_comes_back_when_its_proxy_does(way: &Way, name: &'static str) {
    let mut proxy = Stopped { name, own: None };
    let clients = [ws(), wss()].map(|url| {
        let config = way.to(&url);
        let impatient = config.reconnect.clone().max_delay(ms(200));
        connect(config.reconnect(impatient))
    });
    clients.iter().for_each(echo);
    proxy.stop();
    for client in &clients {
        let (reason, ..) = lost(client);
        assert!(matches!(reason, DisconnectReason::Lost(Error::ConnectionLost { .. })), "{reason:?}");
        let retry_in = wait_for(client, "nobody to listen", |event| match event {
            Event::Disconnected {
                reason: DisconnectReason::ConnectFailed(Error::Proxy(error)),
                retry_in,
                ..
            } if error.kind == ProxyErrorKind::Unreachable => Some(retry_in),
            _ => None,
        });
        assert!(retry_in.is_some());
        client.send("sent meanwhile").unwrap();
    }
    proxy.start();
    for client in &clients {
        connected(client);
        assert_eq!(receive(client), "sent meanwhile");
        echo(client);
        assert_eq!(client.stats().connects, 2);
    }
}

/// The lines to haproxy, which is in front of the server: as HTTP, the same over TLS, and as bytes.
fn haproxy(place: &str) -> String {
    let scheme = if matches!(place, "TLS" | "CLIENT") { "wss" } else { "ws" };
    format!("{scheme}://localhost:{}", server(&format!("HAPROXY_{place}")))
}

macro_rules! behind_haproxy {
    ($($behaviour:ident,)*) => {
        $(
            mod $behaviour {
                #[test]
                #[ignore = "needs real proxies: tests/interop/run.sh proxies"]
                fn plain() {
                    super::$behaviour(&super::haproxy("PLAIN"));
                }

                #[test]
                #[ignore = "needs real proxies: tests/interop/run.sh proxies"]
                fn over_tls() {
                    super::$behaviour(&super::haproxy("TLS"));
                }
            }
        )*
    };
}

behind_haproxy! {
    behind_haproxy_messages_come_back_as_they_went,
    haproxy_cuts_an_idle_line_which_comes_back_by_itself,
    heartbeats_keep_an_idle_line_behind_haproxy,
    haproxy_asks_for_patience_by_429_and_is_given_it,
    a_server_that_is_dead_behind_haproxy_is_a_503_and_tried_again,
    a_server_that_is_silent_behind_haproxy_is_a_504_and_tried_again,
}

fn echoes(url: &str) {
    let client = connect(config(url));
    let message = Message::from(vec![0xAA; 1 << 20]);
    client.send(message.clone()).unwrap();
    assert!(client.recv_timeout(LONG).unwrap() == message);
    echo(&client);
    assert!(client.close().is_empty());
}

fn behind_haproxy_messages_come_back_as_they_went(url: &str) {
    echoes(url);
}

#[test]
#[ignore = "needs real proxies: tests/interop/run.sh proxies"]
fn behind_haproxy_as_bytes_messages_come_back_as_they_went() {
    echoes(&haproxy("TCP"));
}

fn haproxy_cuts_an_idle_line_which_comes_back_by_itself(url: &str) {
    is_cut_and_comes_back(config(url));
}

fn heartbeats_keep_an_idle_line_behind_haproxy(url: &str) {
    is_kept_by_heartbeats(config(url));
}

fn haproxy_asks_for_patience_by_429_and_is_given_it(url: &str) {
    let text = r#"answered 429 Too Many Requests to the WebSocket upgrade: "slow down""#;
    is_refused(&format!("{url}/limit"), text, Some(ms(1000)));
}

fn a_server_that_is_dead_behind_haproxy_is_a_503_and_tried_again(url: &str) {
    is_refused(&format!("{url}/dead"), "answered 503 Service Unavailable to the WebSocket upgrade", None);
}

fn a_server_that_is_silent_behind_haproxy_is_a_504_and_tried_again(url: &str) {
    is_refused(&format!("{url}/silent"), "answered 504 Gateway Time-out to the WebSocket upgrade", None);
}

/// With TLS 1.3 the handshake is over for the client, which asks for the upgrade already, when haproxy's alert comes.
#[test]
#[ignore = "needs real proxies: tests/interop/run.sh proxies"]
fn haproxy_misses_a_client_certificate_by_an_alert_that_is_told_with_what_to_do() {
    for _ in 0..10 {
        let client = Client::start(config(&haproxy("CLIENT"))).unwrap();
        let (reason, retry_in, _) = lost(&client);
        let says = "the server wants a certificate of the client, or does not take the one it got; ";
        assert!(reason.to_string().contains(says), "{reason}: {reason:?}");
        assert!(retry_in.is_some());
    }
}

/// Checks a refusal after which the server is tried again, but not before the time it asked for.
fn is_refused(url: &str, text: &str, asked: Option<Duration>) {
    let client = Client::start(config(url)).unwrap();
    let (reason, retry_in, _) = lost(&client);
    let DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection)) = &reason else {
        panic!("{reason:?}")
    };
    let rejection: &Arc<Rejection> = rejection;
    assert!(rejection.to_string().ends_with(&format!(" {text}")), "{rejection}");
    assert!(retry_in.is_some_and(|retry_in| retry_in >= asked.unwrap_or_default()), "{retry_in:?}");
}
