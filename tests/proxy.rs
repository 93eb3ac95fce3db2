//! Through a proxy: HTTP CONNECT and SOCKS 5, and what is said about a proxy that does not open the way.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/tunnel.rs"]
mod tunnel;

use std::env;
use std::io::Write;
use std::net::{SocketAddrV6, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::hooks::{mover, next, puppet};
use common::{
    BareServer, LONG, Nobody, Server, await_unread, config, disconnected, eventually, loopback, moved,
    parrot, read_head, wait_for,
};
use tautline::{
    Client, CloseReason, ConnectionConfig, DisconnectReason, Error, Event, Phase, Proxy, ProxyError,
    ProxyErrorKind, Retry,
};
use tungstenite::Message as Raw;
use tunnel::{Tunnel, says};

/// For attempts that must not look up a name.
fn unasked(host: &str, _: u16) -> std::io::Result<Vec<std::net::SocketAddr>> {
    panic!("{host} was looked up")
}

fn through(url: &str, proxy: Proxy) -> ConnectionConfig {
    config(url).proxy(proxy)
}

/// The URL of a server, by a name that nobody but the proxy knows.
fn hidden(server: &Server) -> String {
    server.url().replace("127.0.0.1", "gateway.invalid")
}

fn echoes(client: &Client) {
    for text in ["one", "two"] {
        client.send(text).unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some(text));
    }
}

#[test]
fn a_line_goes_through_each_kind_of_proxy_and_no_name_is_looked_up_here_that_the_proxy_can_look_up() {
    let (server, _) = parrot();
    let port = server.address().port();
    let http = Tunnel::http(Some("Basic YW5uOnBAc3M="));
    let socks = Tunnel::socks(Some(("ann", "p@ss")));
    let open = Tunnel::socks(None);
    for (proxy, address, timed) in [
        (Proxy::new(format!("http://ann:p%40ss@{}", http.address())), http.address(), false),
        (Proxy::new(format!("socks5h://ann:p%40ss@{}", socks.address())), socks.address(), false),
        (Proxy::new(format!("socks5h://{}", open.address())), open.address(), false),
        (Proxy::new(format!("socks5://{}", open.address())), open.address(), true),
    ] {
        let builder = Client::builder(through(&hidden(&server), proxy.clone()));
        let client = if timed { builder.resolver(loopback) } else { builder.resolver(unasked) };
        let client = client.connect().unwrap();
        echoes(&client);
        let handshake = client.handshake().unwrap();
        let shown = proxy.to_string();
        assert_eq!((handshake.address, handshake.proxy.as_deref()), (Some(address), Some(shown.as_str())));
        assert!(!format!("{handshake:?}").contains("ann"), "{handshake:?}");
        assert!(handshake.timings.proxy.is_some() && handshake.timings.resolve.is_some() == timed, "{proxy}");
        assert!(client.close().is_empty());
    }
    let heads = http.asked();
    assert!(heads[0].starts_with(&format!("CONNECT gateway.invalid:{port} HTTP/1.1\r\n")), "{heads:?}");
    assert_eq!(socks.asked(), [format!("gateway.invalid:{port}")]);
    assert_eq!(open.asked(), [format!("gateway.invalid:{port}"), format!("127.0.0.1:{port}")]);
}

#[cfg(feature = "native-tls")]
#[test]
fn tls_goes_through_the_tunnel_to_the_server() {
    let acceptor = common::tls_acceptor();
    let server = Server::start(move |_, stream| {
        let Ok(stream) = acceptor.accept(stream) else { return };
        let mut socket = tungstenite::accept(stream).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                return;
            }
        }
    });
    let url = server.url().replace("ws://127.0.0.1", "wss://localhost");
    let (http, socks) = (Tunnel::http(None), Tunnel::socks(None));
    for proxy in [format!("{}", http.address()), format!("socks5h://{}", socks.address())] {
        let config = through(&url, Proxy::new(proxy)).tls(common::tls_connector());
        let client = Client::builder(config).resolver(unasked).connect().unwrap();
        echoes(&client);
        assert!(client.close().is_empty());
    }
}

#[test]
fn the_name_of_a_proxy_is_looked_up_and_the_first_bytes_of_the_server_are_not_lost() {
    // A frame directly behind the answer to the upgrade, which comes as soon as the tunnel is open.
    let server = Server::start(|_, mut stream| {
        let head = read_head(&mut stream);
        let answer = [common::good_answer(&head, "").as_bytes(), b"\x81\x05hello"].concat();
        stream.write_all(&answer).unwrap();
        while common::read_frame(&mut stream).is_some() {}
    });
    let http = Tunnel::http(None);
    let proxy = Proxy::new(format!("proxy.invalid:{}", http.address().port()));
    let client = Client::builder(through(&hidden(&server), proxy))
        .resolver(|host, port| {
            assert_eq!(host, "proxy.invalid");
            loopback(host, port)
        })
        .connect()
        .unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    assert!(client.handshake().unwrap().timings.resolve.is_some());
    let _ = client.terminate();
}

#[test]
fn a_line_reconnects_through_its_proxy() {
    let (server, _) = parrot();
    let http = Tunnel::http(None);
    let proxy = Proxy::new(http.address().to_string());
    let client = Client::builder(through(&hidden(&server), proxy)).resolver(unasked).connect().unwrap();
    for round in 2..4 {
        server.cut();
        wait_for(&client, disconnected);
        client.wait_ready(LONG).unwrap();
        echoes(&client);
        assert_eq!(http.asked().len(), round);
    }
    assert!(client.close().is_empty());
}

#[test]
fn a_line_moves_through_its_proxy() {
    let (old, tell_old, _heard) = puppet();
    let (new, tell_new, heard_by_new) = puppet();
    let socks = Tunnel::socks(None);
    let proxy = Proxy::new(format!("socks5h://{}", socks.address()));
    let client = Client::builder(through(&hidden(&old), proxy))
        .protocol(mover(hidden(&new)))
        .resolver(unasked)
        .connect()
        .unwrap();
    tell_old.send(Raw::text("move")).unwrap();
    tell_new.send(Raw::text("welcome")).unwrap();
    wait_for(&client, moved);
    client.send("after").unwrap();
    assert_eq!([next(&heard_by_new), next(&heard_by_new)], ["hello", "after"]);
    let ports = [old.address().port(), new.address().port()];
    assert_eq!(socks.asked(), ports.map(|port| format!("gateway.invalid:{port}")));
    let _ = client.terminate();
}

#[test]
fn each_server_of_a_list_is_tried_through_the_proxy() {
    let (server, _) = parrot();
    let nobody = Nobody::new();
    let http = Tunnel::http(None);
    let dead = nobody.url().replace("127.0.0.1", "dead.invalid");
    let config = through(&dead, Proxy::new(http.address().to_string())).servers([hidden(&server)]);
    let client = Client::builder(config).resolver(unasked).connect().unwrap();
    echoes(&client);
    let _ = client.terminate();
    let asked = http.asked();
    assert!(asked[0].starts_with("CONNECT dead.invalid") && asked[1].starts_with("CONNECT gateway.invalid"));

    let all =
        through(&dead, Proxy::new(http.address().to_string())).servers([dead.replace("dead", "dead-too")]);
    let error = Client::builder(all).resolver(unasked).connect().unwrap_err();
    let Error::AllServersFailed { failures, .. } = &error else { panic!("{error:?}") };
    for (_, error) in failures.iter() {
        assert_eq!(proxy_error(error).kind, ProxyErrorKind::TargetUnreachable);
    }
}

#[test]
fn a_server_in_the_list_of_no_proxy_is_reached_past_the_proxy() {
    let (server, _) = parrot();
    let nobody = Nobody::new();
    let proxy = Proxy::new(nobody.address().to_string()).no_proxy("10.0.0.0/8, 127.0.0.0/8");
    let client = Client::connect(through(&server.url(), proxy.clone())).unwrap();
    echoes(&client);
    let handshake = client.handshake().unwrap();
    assert_eq!((handshake.address, handshake.timings.proxy), (Some(server.address()), None));
    assert_eq!(handshake.proxy, None);
    let _ = client.terminate();
    let error = Client::connect(through(&hidden(&server), proxy)).unwrap_err();
    assert_eq!(proxy_error(&error).kind, ProxyErrorKind::Unreachable);
}

fn proxy_error(error: &Error) -> &ProxyError {
    match error {
        Error::Proxy(error) => error,
        other => panic!("{other:?}"),
    }
}

/// What follows an attempt that fails like this, on a line that was never ready.
fn followed_by(config: ConnectionConfig) -> Retry {
    let client = Client::start(config).unwrap();
    let (reason, retry_in) = wait_for(&client, disconnected);
    assert!(matches!(reason, DisconnectReason::ConnectFailed(Error::Proxy(_))), "{reason:?}");
    if retry_in.is_some() {
        let _ = client.terminate();
        return Retry::Backoff;
    }
    let reason = client.wait_closed_timeout(LONG).unwrap();
    assert!(matches!(reason, CloseReason::NotRetried(_)), "{reason:?}");
    Retry::Never
}

/// What begins the proxy's URL, what the proxy says, what becomes of it and what follows, and the text. In the text `{p}`
/// stands for the proxy, and `{t}` for the target.
type Failure = (&'static str, &'static [u8], ProxyErrorKind, Retry, &'static str);

fn failures() -> Vec<Failure> {
    use ProxyErrorKind::{
        Ended, Forbidden, LoginRefused, LoginRequired, Nonsense, Refused, TargetUnreachable,
    };
    vec![
        (
            "http",
            b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            LoginRequired,
            Retry::Never,
            "the proxy {p} wants a login to open the way to {t}: it answered 407 Proxy Authentication Required; \
             give it user and password, as by Proxy::login",
        ),
        (
            "http://ann:s3cret@",
            b"HTTP/1.1 401 Unauthorized\r\n\r\nann:s3cret",
            LoginRefused,
            Retry::Never,
            "the proxy {p}, on the way to {t}, does not accept the login: it answered 401 Unauthorized: \"***\"; are \
             user and password right?",
        ),
        (
            "http",
            b"HTTP/1.1 403 Forbidden\r\n\r\n",
            Forbidden,
            Retry::Never,
            "the proxy {p} forbids the way to {t}: it answered 403 Forbidden; whoever runs it has to allow this host \
             and port",
        ),
        (
            "http",
            b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nsoon",
            TargetUnreachable,
            Retry::Backoff,
            "the proxy {p} did not reach {t}: it answered 503 Busy: \"soon\"; check host and port, and that the \
             server runs",
        ),
        (
            "http",
            b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n",
            Refused,
            Retry::Never,
            "the proxy {p} did not open the way to {t}: it answered 405 No; is it an HTTP proxy that allows CONNECT?",
        ),
        (
            "http",
            b"SSH-2.0-x\r\n",
            Nonsense,
            Retry::Backoff,
            "the proxy {p}, asked for the way to {t}, did not answer as it should: it answered \"SSH-2.0-x\", which is \
             not HTTP/1.1",
        ),
        (
            "http",
            b"",
            Ended,
            Retry::Backoff,
            "the proxy {p} ended the connection before it had opened the way to {t}: it said nothing; if it speaks TLS, \
             use https://, and if it speaks SOCKS, socks5://",
        ),
        (
            "socks5h",
            b"\x05\xFF",
            LoginRequired,
            Retry::Never,
            "the proxy {p} wants a login to open the way to {t}: it takes nobody without a login; give it user and \
             password, as by Proxy::login",
        ),
        (
            "socks5h",
            b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0",
            Forbidden,
            Retry::Never,
            "the proxy {p} forbids the way to {t}: its rules do not allow it; whoever runs it has to allow this host and \
             port (SOCKS reply 2)",
        ),
        (
            "socks5h",
            b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0",
            TargetUnreachable,
            Retry::Backoff,
            "the proxy {p} did not reach {t}: the host refused the connection (SOCKS reply 5); check host and \
             port, and that the server runs",
        ),
        (
            "socks5h",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            Nonsense,
            Retry::Backoff,
            "the proxy {p}, asked for the way to {t}, did not answer as it should: it answered \"HTTP/1.1 400 Bad \
             Request\"; that is an HTTP proxy, or a server: use http:// for an HTTP proxy",
        ),
    ]
}

#[test]
fn each_way_in_which_a_proxy_fails_has_its_error_its_retry_and_no_byte_goes_around_it() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let server = Server::start(move |_, _| {
        counted.fetch_add(1, SeqCst);
    });
    for (scheme, answer, kind, retry, text) in failures() {
        let proxy = says(answer);
        let begin = if scheme.ends_with('@') { scheme.to_owned() } else { format!("{scheme}://") };
        let config = through(&hidden(&server), Proxy::new(format!("{begin}{}", proxy.address())));
        let error = Client::connect(config.clone()).unwrap_err();
        let at = format!("gateway.invalid:{}", server.address().port());
        let text = text.replace("{p}", &proxy.address().to_string()).replace("{t}", &at);
        assert_eq!((error.to_string(), proxy_error(&error).kind), (text, kind));
        assert_eq!(followed_by(config), retry, "{error}");
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }
    assert_eq!(count.load(SeqCst), 0, "a byte went around a proxy");
}

#[test]
fn a_proxy_that_is_not_there_is_named_and_found_again_when_it_is() {
    let (server, _) = parrot();
    let nobody = Nobody::new();
    let at = nobody.address();
    let config = through(&hidden(&server), Proxy::new(at.to_string()));
    let error = Client::connect(config.clone()).unwrap_err();
    let says = format!("the proxy {at} for gateway.invalid:{} can't be reached: ", server.address().port());
    assert!(error.to_string().starts_with(&format!("{says}connecting to {at}: ")), "{error}");
    assert_eq!(proxy_error(&error).kind, ProxyErrorKind::Unreachable);

    let by_name = through(&hidden(&server), Proxy::new("proxy.invalid:3128"));
    let no_host = |_: &str, _| Err(std::io::Error::other("no such host"));
    let error = Client::builder(by_name).resolver(no_host).connect().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("can't be reached: looking up proxy.invalid: no such host; check the name"),
        "{error}"
    );

    let client = Client::start(config).unwrap();
    wait_for(&client, disconnected);
    let listener = nobody.listen();
    let _proxy = Server::start_on(listener, |_, mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 503 Not yet\r\nContent-Length: 0\r\n\r\n");
    });
    eventually("the proxy answers", || {
        wait_for(&client, disconnected).0.to_string().contains("it answered 503 Not yet")
    });
    let _ = client.terminate();
}

#[test]
fn a_proxy_that_opens_the_way_keeps_its_place_though_the_server_behind_it_fails() {
    // Two addresses of one proxy, at the same port.
    let (asked_in, asked) = crossbeam_channel::unbounded();
    let serve = move |mut stream: TcpStream| {
        read_head(&mut stream);
        let _ = asked_in.send(stream.local_addr().unwrap().ip().to_string());
        // The way is open, and the server ends it at once.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    };
    let other = serve.clone();
    let first = Server::start(move |_, stream| serve(stream));
    let port = first.address().port();
    let _second =
        Server::start_on(TcpListener::bind(("127.0.0.2", port)).unwrap(), move |_, stream| other(stream));
    let both = move |_: &str, port| Ok(vec![([127, 0, 0, 1], port).into(), ([127, 0, 0, 2], port).into()]);
    let config = through("ws://gateway.invalid", Proxy::new(format!("proxy.invalid:{port}")));
    let client = Client::builder(config).resolver(both).start().unwrap();
    for _ in 0..4 {
        assert_eq!(asked.recv_timeout(LONG).unwrap(), "127.0.0.1");
    }
    let _ = client.terminate();
}

#[test]
fn a_proxy_that_breaks_off_or_leaves_without_a_word_gets_the_hint_that_fits_its_scheme() {
    let resets = BareServer::start(|_, stream| await_unread(&stream));
    let error = Client::connect(through("ws://h.invalid", Proxy::new(resets.address().to_string())));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("the connection broke: ") && error.contains("if it speaks TLS, use https://"),
        "{error}"
    );

    #[cfg(feature = "native-tls")]
    {
        const WITHOUT_A_WORD: &str = "it said nothing; is it an HTTP proxy, and does it want a certificate of the client \
             (TlsConfig::identity)?";
        let acceptor = common::tls_acceptor();
        let leaves = Server::start(move |_, stream| {
            if let Ok(mut stream) = acceptor.accept(stream) {
                read_head(&mut stream);
                let _ = stream.shutdown();
            }
        });
        let url = format!("https://localhost:{}", leaves.address().port());
        let proxy = Proxy::new(url).tls(common::tls_connector());
        let client = Client::builder(through("ws://h.invalid", proxy)).resolver(loopback).connect();
        let error = client.unwrap_err().to_string();
        assert!(error.ends_with(WITHOUT_A_WORD), "{error}");
    }
}

#[test]
fn a_proxy_that_stalls_is_named_by_the_timeout() {
    let silent = Server::start(
        |_, mut stream| {
            while std::io::Read::read(&mut stream, &mut [0; 512]).is_ok_and(|n| n > 0) {}
        },
    );
    let stall = Duration::from_secs(1);
    for scheme in ["http", "socks5h"] {
        let proxy = Proxy::new(format!("{scheme}://{}", silent.address()));
        let config = through("ws://gateway.invalid", proxy).connect_timeout(stall);
        let error = Client::builder(config).resolver(unasked).connect().unwrap_err();
        assert!(matches!(error, Error::ConnectTimeout { phase: Phase::Proxy, .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "connecting to gateway.invalid:80 through the proxy {} timed out after 1s while waiting for the proxy to \
                 open a way to the server; check the scheme of its URL: http, https, socks5 or socks5h",
                silent.address()
            )
        );
    }
}

#[test]
fn what_fails_behind_an_open_tunnel_names_the_proxy_on_the_way() {
    let silent = |mut stream: TcpStream| {
        while std::io::Read::read(&mut stream, &mut [0; 512]).is_ok_and(|n| n > 0) {}
    };
    let refuses = Server::start(|_, stream| common::answer("HTTP/1.1 403 No\r\n\r\n")(stream));
    let nonsense = Server::start(move |_, mut stream| {
        let _ = stream.write_all(b"SSH-2.0-x\r\n");
        silent(stream);
    });
    let stalls = Server::start(move |_, stream| silent(stream));
    let tunnel = Tunnel::http(None);
    let mut cases = vec![
        (hidden(&refuses), " answered 403 No to the WebSocket upgrade; "),
        (hidden(&nonsense), " did not answer the WebSocket upgrade as it should: it is not HTTP/1.1; "),
        (hidden(&stalls), " timed out after 500ms while waiting for the server's answer to the upgrade; "),
    ];
    if cfg!(feature = "native-tls") {
        let over_tls = |server: &Server| hidden(server).replace("ws:", "wss:");
        cases.push((over_tls(&nonsense), ": the server answered \"SSH-2.0-x\\r\\n\", which is not TLS; "));
        cases.push((over_tls(&stalls), " timed out after 500ms while in the TLS handshake; "));
    }
    for (url, says) in cases {
        let config = through(&url, Proxy::new(tunnel.address().to_string()));
        // Only what stalls has to end soon.
        let limit = if says.contains("timed out") { Duration::from_millis(500) } else { LONG };
        let error = Client::connect(config.connect_timeout(limit)).unwrap_err().to_string();
        let (_, host) = url.split_once("//").unwrap();
        let says = format!("{host} through the proxy {}{says}", tunnel.address());
        assert!(error.contains(&says), "{error}");
    }
}

#[test]
fn a_refusal_whose_body_does_not_come_is_told_within_the_attempt() {
    let slow = Server::start(|_, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nnot today").unwrap();
        while std::io::Read::read(&mut stream, &mut [0; 512]).is_ok_and(|n| n > 0) {}
    });
    let proxy = Proxy::new(slow.address().to_string());
    let error = Client::connect(through("ws://gateway.invalid", proxy)).unwrap_err();
    assert!(error.to_string().contains("it answered 403 Forbidden: \"not today\""), "{error}");
}

#[test]
fn a_name_that_is_too_long_for_socks_is_refused_and_not_cut() {
    let socks = Tunnel::socks(None);
    let url = format!("ws://{}", "x".repeat(256));
    let proxy = Proxy::new(format!("socks5h://{}", socks.address()));
    let error = Client::connect(through(&url, proxy)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the URL can't be used: its host has 256 bytes; a SOCKS proxy takes names of 255 bytes at most"
    );
}

#[test]
fn a_zone_is_refused_where_a_proxy_would_get_the_address_without_it() {
    let nobody = Nobody::new();
    let address = nobody.address();
    let proxies = ["http", "socks5", "socks5h"].map(|scheme| format!("{scheme}://{address}"));
    let known = |url: &str| {
        let Error::InvalidUrl { reason, .. } =
            Client::connect(through(url, Proxy::new(&proxies[0]))).unwrap_err()
        else {
            panic!("{url}")
        };
        reason
    };
    let says = format!(
        "[fe80::1%25eth0]:81 has a zone, the name of a network interface of this machine, which means nothing at the \
         proxy http://{address}; leave the zone out, or name the address in no_proxy"
    );
    assert_eq!(*known("ws://[fe80::1%25eth0]:81"), *says);
    assert!(known("ws://[fe80::1%257]").starts_with("[fe80::1%257]:80 has a zone"));
    for proxy in &proxies {
        // One that is not known before the attempt.
        let builder = Client::builder(through("ws://h", Proxy::new(proxy))).fetch(|mut request| {
            request.url = "ws://[fe80::1%25eth0]:81".into();
            Ok(request)
        });
        let error = builder.connect().unwrap_err();
        assert!(
            matches!(&error, Error::InvalidUrl { reason, .. } if reason.contains("has a zone")),
            "{error}"
        );
        // What a look-up here has found.
        let found = SocketAddrV6::new([0xfe80, 0, 0, 0, 0, 0, 0, 1].into(), 81, 0, 7).into();
        let builder = Client::builder(through("ws://h", Proxy::new(proxy)));
        let error = builder.resolver(move |_, _| Ok(vec![found])).connect().unwrap_err();
        let left_out = error.to_string().contains("its zone means nothing at the proxy; use socks5h://");
        assert_eq!(left_out, proxy.starts_with("socks5:"), "{error}");
    }
    let past = Proxy::new(&proxies[0]).no_proxy("fe80::1");
    let error = Client::connect(through("ws://[fe80::1%25none]:81", past)).unwrap_err();
    assert!(matches!(error, Error::Resolve { .. }), "{error}");
}

#[test]
fn a_redirect_to_where_the_proxy_can_not_be_asked_for_is_not_followed() {
    for (location, says) in [
        ("ws://[fe80::1%25lo]:81/".to_owned(), "[fe80::1%25lo]:81 has a zone"),
        (format!("ws://{}/", "x".repeat(256)), "its host has 256 bytes; a SOCKS proxy takes names of 255"),
    ] {
        let server = Server::start(move |_, mut stream| {
            let _ = read_head(&mut stream);
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        });
        let tunnel = Tunnel::socks(None);
        let proxy = Proxy::new(format!("socks5h://{}", tunnel.address()));
        let client = Client::start(through(&server.url(), proxy).redirects(1)).unwrap();
        let error = client.wait_closed_timeout(LONG).unwrap().into_result().unwrap_err();
        assert!(matches!(error, Error::UpgradeRejected(_)), "{error}");
        assert!(error.to_string().contains(&format!("It is not followed: {says}")), "{error}");
        assert_eq!((client.stats().attempts, tunnel.asked().len()), (1, 1));
    }
}

#[test]
fn a_proxy_that_can_not_be_used_is_an_error_before_anything_is_dialled() {
    for proxy in ["socks4://ann:s3cret@h", "http://ann:s3cret@h:0"] {
        for error in [
            Client::connect(through("ws://h", Proxy::new(proxy))).unwrap_err(),
            Client::start(through("ws://h", Proxy::new(proxy))).unwrap_err(),
        ] {
            assert!(matches!(error, Error::InvalidConfig { setting: "proxy", .. }), "{error:?}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}

/// Says that this process is the one whose environment a test has set.
const CHILD: &str = "TAUTLINE_TEST_CHILD";

/// Runs a test of this file in a process of its own, with these variables and no other that names a proxy. Returns what it
/// printed.
fn with_environment(test: &str, url: &str, variables: &[(&str, String)]) -> String {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, url);
    for name in ["WS_PROXY", "WSS_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let variables = variables.iter().map(|(name, value)| (*name, value.as_str()));
    let output = command.envs(variables).output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn the_environment_names_the_proxy_only_where_it_is_asked() {
    if let Ok(url) = env::var(CHILD) {
        env_logger::Builder::new().filter_level(log::LevelFilter::Info).init();
        for config in [config(&url), config(&url).proxy(Proxy::from_env())] {
            match Client::builder(config).connect() {
                Ok(client) => {
                    echoes(&client);
                    println!("by way of {:?}", client.handshake().unwrap().timings.proxy.is_some());
                    let _ = client.terminate();
                }
                Err(error) => println!("failed: {error}"),
            }
        }
        return;
    }
    let me = "the_environment_names_the_proxy_only_where_it_is_asked";
    let (server, _) = parrot();
    let http = Tunnel::http(None);
    let (to, url) = (http.address(), server.url());
    let named = ("ALL_PROXY", format!("http://ann:s3cret@{to}"));
    // The lower-case form is looked for first, and on Windows it is the same variable.
    let shown = |name: &str| if cfg!(windows) { name.to_lowercase() } else { name.to_owned() };
    let at = server.address();

    let said = with_environment(me, &url, std::slice::from_ref(&named));
    assert!(said.contains("by way of false") && said.contains("by way of true"), "{said}");
    assert!(
        said.contains(&format!("Through the proxy http://{to} to {at}, by {}", shown("ALL_PROXY"))),
        "{said}"
    );
    assert_eq!(http.asked().len(), 1, "only one of the two asks for it");
    assert!(!said.contains("s3cret"), "{said}");

    let past = with_environment(me, &url, &[named.clone(), ("no_proxy", "127.0.0.1, ::1:80".into())]);
    assert!(
        past.contains(&format!("Past the proxy http://{to} of {} to {at}, by no_proxy", shown("ALL_PROXY"))),
        "{past}"
    );
    assert!(!past.contains("by way of true"), "{past}");
    assert!(past.contains("In no_proxy, its entry number 2 is taken for an IPv6 address"), "{past}");

    let none = with_environment(me, &url, &[("HTTPS_PROXY", named.1.clone())]);
    assert!(
        none.contains(&format!("No proxy for {at}: none of WS_PROXY, HTTP_PROXY, ALL_PROXY is set")),
        "{none}"
    );

    let bad = with_environment(me, &url, &[("http_proxy", "socks4://ann:s3cret@h".into()), named]);
    assert!(
        bad.contains("failed: the setting proxy can't be used: the variable http_proxy: its scheme"),
        "{bad}"
    );
    assert!(!bad.contains("s3cret"), "{bad}");
    assert_eq!(http.asked().len(), 1, "and the others do not go through it");
}

#[test]
fn events_tell_of_a_proxy_as_of_a_server() {
    let proxy = says(b"HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n");
    let config = through("ws://gateway.invalid", Proxy::new(proxy.address().to_string()));
    let client = Client::start(config).unwrap();
    let delay = wait_for(&client, |event| match event {
        Event::Disconnected { retry_in, .. } => retry_in,
        _ => None,
    });
    assert_eq!(delay, Duration::from_secs(3600), "as long as the proxy asks for");
    let _ = client.terminate();
}
