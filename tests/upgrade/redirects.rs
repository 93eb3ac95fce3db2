//! Redirects: where they lead, what goes there, and where they end.

use std::io::{Read, Write};
use std::thread;

use crossbeam_channel::{Receiver, unbounded};
use tautline::{Client, ConnectionConfig, DisconnectReason, Error, Event, Phase};

use crate::common::{
    LONG, MS, Server, config, disconnected, eventually, good_answer, loopback, quick, read_frame, read_head,
    wait_for,
};

/// What a server answers to a request.
enum Then {
    To(String),
    Accept,
}
use Then::{Accept, To};

fn to(location: impl Into<String>) -> Then {
    To(location.into())
}

fn serve(stream: &mut (impl Read + Write), head: &str, then: &Then) {
    match then {
        To(location) => {
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
        Accept => {
            let _ = stream.write_all(good_answer(head, "").as_bytes());
            while read_frame(stream).is_some() {}
        }
    }
}

/// The resource that a request asks for.
fn resource(head: &str) -> &str {
    head.split(' ').nth(1).expect("a request line")
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.split_once(": ").filter(|(n, _)| *n == name)).map(|(_, value)| value)
}

/// A server that answers each resource as the test says, and the heads of the requests that it got.
fn server(then: impl Fn(&str) -> Then + Send + Sync + 'static) -> (Server, Receiver<String>) {
    let (heads_in, heads) = unbounded();
    let server = Server::start(move |_, mut stream| {
        let head = read_head(&mut stream);
        if !head.is_empty() {
            let _ = heads_in.send(head.clone());
            serve(&mut stream, &head, &then(resource(&head)));
        }
    });
    (server, heads)
}

fn follow(url: &str, redirects: u32) -> ConnectionConfig {
    config(url).redirects(redirects)
}

fn connected(config: ConnectionConfig) -> Client {
    Client::builder(config).resolver(loopback).connect().unwrap()
}

fn refused(config: ConnectionConfig) -> Error {
    Client::builder(config).resolver(loopback).connect().unwrap_err()
}

fn next(heads: &Receiver<String>) -> String {
    heads.recv_timeout(LONG).unwrap()
}

#[test]
fn each_kind_of_redirect_is_followed_to_each_kind_of_address() {
    let (other, other_heads) = server(|_| Accept);
    let address = other.address();
    for (location, resource_there) in [
        (format!("ws://{address}/feed?x=1#part"), "/feed?x=1"),
        (format!("http://{address}/feed"), "/feed"),
        (format!("//{address}"), "/"),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let answer =
                format!("HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
            let first = Server::start(move |_, mut stream| {
                read_head(&mut stream);
                let _ = stream.write_all(answer.as_bytes());
            });
            let client = connected(follow(&first.url(), 1));
            assert_eq!(client.handshake().unwrap().address, Some(address));
            assert_eq!(client.stats().attempts, 1, "it is the same attempt");
            let head = next(&other_heads);
            assert_eq!(resource(&head), resource_there, "{status}");
            assert_eq!(header(&head, "Host"), Some(&*address.to_string()));
            let _ = client.terminate();
        }
    }
}

#[test]
fn an_address_without_a_host_is_one_at_the_same_server() {
    for (location, expected) in
        [("/feed", "/feed"), ("feed", "/a/feed"), ("../feed?x", "/feed?x"), ("?y", "/a/b?y")]
    {
        let (server, heads) =
            server(move |resource| if resource == "/a/b?x" { to(location) } else { Accept });
        let client = connected(follow(&(server.url() + "/a/b?x"), 1));
        assert_eq!([next(&heads), next(&heads)].map(|head| resource(&head).to_owned()), ["/a/b?x", expected]);
        let _ = client.terminate();
    }
}

#[test]
fn a_chain_is_followed_as_far_as_is_allowed_and_no_further() {
    let chain = |resource: &str| match resource {
        "/0" => to("/1"),
        "/1" => to("/2?token=hush-hush-hush"),
        "/2?token=hush-hush-hush" => to("/3?token=hush-hush-hush"),
        _ => Accept,
    };
    let (server, heads) = server(chain);
    let url = server.url() + "/0";
    let client = connected(follow(&url, 3));
    assert_eq!(heads.try_iter().count(), 4);
    let _ = client.terminate();
    for (allowed, last) in [(2, "/3?***"), (1, "/2?***")] {
        let error = refused(follow(&url, allowed));
        assert!(matches!(&error, Error::UpgradeRejected(answer) if answer.status == 302), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("another address: {last:?}")), "{text}");
        assert!(text.contains(&format!("It is not followed: redirects allows {allowed} in a row")), "{text}");
        assert!(!format!("{error:?}").contains("hush"), "{error:?}");
        assert_eq!(heads.try_iter().count(), allowed as usize + 1);
    }
    let text = refused(follow(&url, 0)).to_string();
    assert!(text.contains("Redirects are not followed"), "{text}");
    assert_eq!(heads.try_iter().count(), 1);
}

#[test]
fn a_loop_ends_at_the_bound() {
    let (server, heads) = server(|resource| to(if resource == "/a" { "/b" } else { "/a" }));
    let text = refused(follow(&(server.url() + "/a"), 20)).to_string();
    assert!(text.contains("redirects allows 20 in a row"), "{text}");
    assert_eq!(heads.try_iter().count(), 21);
}

#[test]
fn an_answer_without_an_address_and_other_statuses_are_refusals() {
    for (status, headers) in [
        (302, ""),
        (300, "Location: /feed\r\n"),
        (304, "Location: /feed\r\n"),
        (305, "Location: /feed\r\n"),
        (401, "Location: /feed\r\n"),
    ] {
        let (heads_in, heads) = unbounded();
        let server = Server::start(move |_, mut stream| {
            let _ = heads_in.send(read_head(&mut stream));
            let answer = format!("HTTP/1.1 {status} No\r\n{headers}Content-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        });
        let error = refused(follow(&server.url(), 3));
        assert!(matches!(&error, Error::UpgradeRejected(answer) if answer.status == status), "{error:?}");
        assert_eq!(heads.try_iter().count(), 1, "{status}");
        let says = "It is not followed: of redirects, only 301, 302, 303, 307 and 308 are";
        assert_eq!(error.to_string().contains(says), matches!(status, 300 | 304 | 305), "{error}");
    }
}

#[cfg(feature = "native-tls")]
mod over_tls {
    use super::*;
    use crate::common::{over_tls, tls_acceptor, tls_connector};

    /// A server over TLS that does what the test says, and the heads of the requests that it got.
    fn tls_server(then: Then) -> (Server, Receiver<String>) {
        let (heads_in, heads) = unbounded();
        let acceptor = tls_acceptor();
        let server = Server::start(move |_, stream| {
            let Ok(mut stream) = acceptor.accept(stream) else { return };
            let head = read_head(&mut stream);
            let _ = heads_in.send(head.clone());
            serve(&mut stream, &head, &then);
        });
        (server, heads)
    }

    #[test]
    fn a_redirect_leads_into_tls() {
        for scheme in ["wss", "https"] {
            let (secure, heads) = tls_server(Accept);
            let location = format!("{scheme}://localhost:{}/feed", secure.address().port());
            let (plain, _) = server(move |_| to(&*location));
            let client = connected(follow(&plain.url(), 1).tls(tls_connector()));
            assert!(client.handshake().unwrap().timings.tls.is_some());
            assert_eq!(resource(&next(&heads)), "/feed");
            let _ = client.terminate();
        }
    }

    #[test]
    fn a_redirect_out_of_tls_is_not_followed() {
        let (plain, heads) = server(|_| Accept);
        for scheme in ["ws", "http"] {
            let (secure, _) = tls_server(to(format!("{scheme}://{}/feed", plain.address())));
            let text = refused(over_tls(&secure).redirects(3)).to_string();
            let says = "It is not followed: it leads from wss:// to ws://, out of TLS";
            assert!(text.contains(says) && text.contains(&plain.address().to_string()), "{text}");
        }
        assert!(heads.is_empty(), "nothing was asked there");
    }
}

fn with_credentials(server: &Server) -> ConnectionConfig {
    let url = server.url().replace("ws://", "ws://ann:pass-s3cret@") + "/start?key=query-s3cret";
    follow(&url, 2)
        .header("Host", "front.example")
        .header("Cookie", "id=cookie-s3cret")
        .header("X-Api-Key", "key-s3cret")
        .header("Proxy-Authorization", "Basic proxy-s3cret")
        .header("User-Agent", "tests")
        .subprotocol("mqtt")
        .subprotocol("bearer.token-s3cret")
}

#[test]
fn no_credentials_go_to_another_origin() {
    let (other, heads) = server(|_| Accept);
    let location = other.url() + "/feed";
    let (first, first_heads) = server(move |_| to(&*location));
    let auth = "Authorization";
    let with_header = with_credentials(&first).header(auth, "Bearer auth-s3cret");
    for (config, secrets) in [(with_credentials(&first), 5), (with_header, 6)] {
        let client = connected(config);
        assert_eq!(next(&first_heads).matches("s3cret").count(), secrets);
        let head = next(&heads);
        assert_eq!(header(&head, "Host"), Some(&*other.address().to_string()), "{head}");
        assert_eq!((header(&head, auth), header(&head, "Cookie")), (None, None), "{head}");
        assert_eq!(header(&head, "User-Agent"), Some("tests"));
        assert_eq!(header(&head, "Sec-WebSocket-Protocol"), Some("mqtt"));
        assert!(!head.contains("s3cret"), "{head}");
        let _ = client.terminate();
    }
}

#[test]
fn the_same_origin_keeps_them() {
    let (server, heads) =
        server(|resource| if resource.starts_with("/start") { to("/feed") } else { Accept });
    let client = connected(with_credentials(&server));
    let [first, second] = [next(&heads), next(&heads)];
    // Only the line of the request and the key of the upgrade differ.
    let rest = |head: &str| {
        let lines = head.lines().skip(1).filter(|line| !line.starts_with("Sec-WebSocket-Key"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(rest(&second), rest(&first));
    assert!(header(&second, "Authorization").is_some_and(|value| value.starts_with("Basic ")), "{second}");
    let _ = client.terminate();
}

#[test]
fn the_secrets_of_every_request_of_a_chain_are_hidden() {
    // It repeats what it was sent, and what it sent itself the client on its way with.
    let said = "query-s3cret bob:loc-s3cret Ym9iOmxvYy1zM2NyZXQ= next-s3cret";
    for accepts in [false, true] {
        let (heads_in, heads) = unbounded();
        let last = Server::start(move |_, mut stream| {
            let head = read_head(&mut stream);
            let _ = heads_in.send(head.clone());
            if accepts {
                let _ = stream.write_all(good_answer(&head, "X-query-s3cret: 1\r\n").as_bytes());
                while read_frame(&mut stream).is_some() {}
            } else {
                let length = said.len();
                let answer = format!("HTTP/1.1 403 No\r\nContent-Length: {length}\r\n\r\n{said}");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let location = format!("ws://bob:loc-s3cret@{}/?t=next-s3cret", last.address());
        let (first, _) = server(move |_| to(&*location));
        let config = with_credentials(&first);
        if accepts {
            let client = connected(config);
            let shown = format!("{:?}", client.handshake().unwrap());
            assert!(shown.contains("X-***") && !shown.contains("s3cret"), "{shown}");
            let _ = client.terminate();
        } else {
            let error = refused(config);
            let text = error.to_string();
            assert!(text.contains("403") && text.contains("***"), "{text}");
            assert!(!format!("{text}{error:?}").contains("s3cret") && !text.contains("Ym9i"), "{text}");
        }
        let sent = next(&heads);
        assert_eq!(
            header(&sent, "Authorization"),
            Some("Basic Ym9iOmxvYy1zM2NyZXQ="),
            "those of the address"
        );
    }
}

#[test]
fn a_server_whose_redirect_leads_nowhere_is_followed_by_the_next_of_the_list() {
    let (looping, heads) = server(|_| to("/"));
    let (good, _) = server(|_| Accept);
    let list = ConnectionConfig::from([looping.url(), good.url()]).redirects(2);
    let client = connected(list);
    assert_eq!(client.handshake().unwrap().address, Some(good.address()));
    assert_eq!(heads.try_iter().count(), 3);
    let _ = client.terminate();
}

#[test]
fn a_reconnect_begins_at_the_configured_url_again() {
    let (second, _) = server(|_| Accept);
    let location = second.url();
    let (first, heads) = server(move |_| to(&*location));
    let client = connected(follow(&first.url(), 1));
    second.cut();
    // The counters are a step ahead of the state.
    eventually("another connection", || client.stats().connects == 2 && client.handshake().is_some());
    assert_eq!(heads.try_iter().count(), 2);
    assert_eq!(client.handshake().unwrap().address, Some(second.address()));
    let _ = client.terminate();
}

#[test]
fn a_redirect_that_can_not_be_followed_is_a_refusal_like_any_other() {
    // Accepts the first connection, and drops it.
    let server = Server::start(|n, mut stream| {
        let head = read_head(&mut stream);
        if n == 0 {
            let _ = stream.write_all(good_answer(&head, "").as_bytes());
        } else {
            serve(&mut stream, &head, &to("/"));
        }
    });
    let client = Client::start(quick(&server.url()).redirects(1)).unwrap();
    let retry_in = wait_for(&client, |event| match disconnected(event)? {
        (DisconnectReason::ConnectFailed(Error::UpgradeRejected(_)), retry_in) => Some(retry_in),
        _ => None,
    });
    assert_eq!(retry_in, Some(10 * MS), "the longest delay, since the line was ready");
    let _ = client.terminate();
    let (never, _) = self::server(|_| to("/"));
    let client = Client::start(quick(&never.url()).redirects(1)).unwrap();
    let reason = client.wait_closed_timeout(LONG).unwrap();
    assert!(matches!(reason.into_result(), Err(Error::UpgradeRejected(_))));
    assert_eq!(client.stats().attempts, 1);
}

#[test]
fn what_fails_behind_a_redirect_names_who_redirected_there() {
    let nobody = crate::common::Nobody::new();
    let leaves = Server::start(|_, mut stream| drop(read_head(&mut stream)));
    let rejects = Server::start(|_, mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    });
    let shut = Server::start(|_, mut stream| _ = stream.read(&mut [0]));
    let silent = Server::start(|_, mut stream| {
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let (leaves, rejects) = (leaves.address(), rejects.address());
    let (shut, silent) = (shut.address(), silent.address());
    for (location, says) in [
        (format!("ws://{}", nobody.address()), format!("connecting to {} (FROM): ", nobody.address())),
        ("ws://unknown.invalid".into(), "looking up unknown.invalid (FROM): ".into()),
        (format!("ws://{leaves}"), format!("{leaves} (FROM) did not answer the WebSocket upgrade")),
        (format!("ws://{rejects}"), format!("{rejects} (FROM) answered 404 Not Found")),
        (format!("wss://{shut}"), format!("TLS with {shut} (FROM): ")),
        (format!("ws://{silent}"), format!("connecting to {silent} (FROM) timed out")),
    ] {
        if location.starts_with("wss:") && cfg!(not(feature = "native-tls")) {
            continue;
        }
        let there = location.clone();
        // The second redirect leads to another resource of the same server, and is none to name.
        let (first, _) = server(move |resource| to(if resource == "/" { "/again" } else { &*there }));
        let config = follow(&first.url(), 2).connect_timeout(if location.ends_with(&silent.to_string()) {
            200 * MS
        } else {
            LONG
        });
        let resolver = |host: &str, port| match host {
            "unknown.invalid" => Err(std::io::Error::other("no such name")),
            _ => loopback(host, port),
        };
        let error = Client::builder(config).resolver(resolver).connect().unwrap_err().to_string();
        let says = says.replace("FROM", &format!("where {} redirected to", first.address()));
        assert!(error.starts_with(&says), "{location}: {error}");
    }
    // Where both are one server, there is nobody to name.
    let (one, _) = server(|resource| to(if resource == "/" { "/again" } else { "ftp://h" }));
    let error = refused(follow(&one.url(), 2)).to_string();
    assert!(error.starts_with(&format!("{} answered 302", one.address())), "{error}");
}

#[test]
fn one_deadline_holds_for_the_whole_chain() {
    let silent = Server::start(|_, mut stream| {
        read_head(&mut stream);
        let _ = stream.read(&mut [0]);
    });
    let location = silent.url();
    let (timeout, pause) = (1000 * MS, 700 * MS);
    let first = Server::start(move |_, mut stream| {
        let head = read_head(&mut stream);
        thread::sleep(pause);
        serve(&mut stream, &head, &to(&*location));
    });
    let client = Client::start(quick(&first.url()).redirects(1).connect_timeout(timeout)).unwrap();
    let began = std::time::Instant::now();
    let error = wait_for(&client, |event| match event {
        Event::Disconnected { reason: DisconnectReason::ConnectFailed(error), .. } => Some(error),
        _ => None,
    });
    let took = began.elapsed();
    let Error::ConnectTimeout { host, phase, after, .. } = &error else { panic!("{error:?}") };
    let place = format!("{} (where {} redirected to)", silent.address(), first.address());
    assert_eq!((&**host, *phase, *after), (&*place, Phase::Upgrade, timeout));
    assert!(took < timeout + pause, "it began anew: {took:?}");
    let _ = client.terminate();
}

#[test]
fn the_times_of_a_chain_add_up() {
    let pause = 30 * MS;
    let slow = move |then: Then| {
        Server::start(move |_, mut stream| {
            let head = read_head(&mut stream);
            thread::sleep(pause);
            serve(&mut stream, &head, &then);
        })
    };
    let second = slow(Accept);
    let first = slow(to(second.url()));
    let client = connected(follow(&first.url(), 1));
    let all = client.handshake().unwrap().timings;
    let (connect, upgrade) = (all.connect.unwrap(), all.upgrade.unwrap());
    assert!(upgrade >= 2 * pause && all.total >= connect + upgrade, "{all:?}");
    let _ = client.terminate();
}
