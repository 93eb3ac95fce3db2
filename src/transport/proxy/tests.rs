use super::*;
use crate::config::Proxy;

const LIMIT: usize = 4096;

/// What comes of an answer that arrives in pieces of this size, and then ends if `ends`: how many bytes were taken, or
/// why the way stays shut. `None` if more is awaited.
fn drive(
    machine: &mut impl Machine,
    answer: &[u8],
    size: usize,
    ends: bool,
) -> (Vec<u8>, Option<Result<usize, Fault>>) {
    let mut sent = Vec::new();
    let mut at = 0;
    for piece in (1..=answer.len().div_ceil(size)).map(|n| (n * size).min(answer.len())) {
        while at < piece {
            sent.extend(machine.poll_transmit().unwrap_or_default());
            let end = (at + machine.wanted()).min(piece);
            match machine.handle_bytes(&answer[at..end]) {
                Ok(true) => return (sent, Some(Ok(end))),
                Ok(false) => at = end,
                Err(fault) => return (sent, Some(Err(fault))),
            }
        }
    }
    sent.extend(machine.poll_transmit().unwrap_or_default());
    (sent, ends.then(|| Err(machine.handle_end())))
}

fn via(proxy: &Proxy) -> Via {
    let ways = proxy.ways(&|_| None).unwrap();
    ways.to(&Endpoint::parse("ws://h").unwrap()).unwrap().clone()
}

fn connect(proxy: &Proxy) -> Connect {
    let via = via(proxy);
    Connect::new("gateway.example:443", &via.headers, via.secrets, LIMIT, HTTP_HINT)
}

fn socks(proxy: &Proxy, whom: &Whom) -> Socks {
    let via = via(proxy);
    Socks::new(whom.clone(), via.login.as_ref(), via.secrets)
}

fn name() -> Whom {
    Whom::name("gateway.example", 443).unwrap()
}

fn plain() -> Proxy {
    Proxy::new("p")
}

fn with_login() -> Proxy {
    Proxy::new("p").login("ann", "p@ss-w0rd")
}

/// The fault, which is the same however the answer is cut.
fn fault<M: Machine>(new: impl Fn() -> M, answer: &[u8]) -> Fault {
    let at_once = drive(&mut new(), answer, usize::MAX, true).1.expect("an end").expect_err("a fault");
    for size in [1, 2, 3, 7] {
        let cut = drive(&mut new(), answer, size, true).1.expect("an end").expect_err("a fault");
        assert_eq!((&cut.reason, cut.kind), (&at_once.reason, at_once.kind), "in pieces of {size}");
        assert_eq!(cut.answer, at_once.answer, "in pieces of {size}");
    }
    assert!(
        !at_once.reason.contains("p@ss-w0rd") && !at_once.reason.contains("YW5uOnBAc3Mtdz"),
        "{at_once:?}"
    );
    at_once
}

/// A good answer opens the tunnel with its last byte, and not a byte of the tunnel is taken. Returns what was sent.
fn opens<M: Machine>(new: impl Fn() -> M, answer: &[u8]) -> Vec<u8> {
    for end in 0..answer.len() {
        for size in [1, usize::MAX] {
            let outcome = drive(&mut new(), &answer[..end], size, false).1;
            assert!(outcome.is_none(), "{end} of {}: {outcome:?}", answer.len());
        }
    }
    let with_tunnel = [answer, b"\x16\x03\x01 and more"].concat();
    for size in [1, 2, 7, usize::MAX] {
        let (_, outcome) = drive(&mut new(), &with_tunnel, size, true);
        assert_eq!(outcome.expect("an end").expect("a tunnel"), answer.len(), "in pieces of {size}");
    }
    drive(&mut new(), answer, usize::MAX, false).0
}

#[test]
fn connect_names_the_target_and_logs_in() {
    let sent = |proxy: &Proxy| {
        String::from_utf8(opens(|| connect(proxy), b"HTTP/1.1 200 Connection established\r\n\r\n")).unwrap()
    };
    let head = "CONNECT gateway.example:443 HTTP/1.1\r\nHost: gateway.example:443\r\n";
    assert_eq!(sent(&plain()), format!("{head}\r\n"));
    let login = "Proxy-Authorization: Basic YW5uOnBAc3MtdzByZA==\r\n";
    assert_eq!(sent(&with_login().header("User-Agent", "x")), format!("{head}{login}User-Agent: x\r\n\r\n"));
    let own = with_login().header("Host", "other").header("proxy-authorization", "Bearer t");
    assert_eq!(
        sent(&own),
        "CONNECT gateway.example:443 HTTP/1.1\r\nHost: other\r\nproxy-authorization: Bearer t\r\n\r\n"
    );
}

#[test]
fn every_answer_of_2xx_opens_the_tunnel_at_the_end_of_its_head() {
    for answer in [
        "HTTP/1.0 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11\r\n\r\n",
        "HTTP/1.1 204\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        // They must be ignored (RFC 9110, section 9.3.6).
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        opens(|| connect(&plain()), answer.as_bytes());
    }
}

#[test]
fn each_refusal_of_an_http_proxy_has_its_kind_and_says_what_the_proxy_said() {
    use ProxyErrorKind::{Forbidden, LoginRefused, LoginRequired, Refused, TargetUnreachable};
    for (proxy, status, kind, says) in [
        (
            plain(),
            "407 Proxy Authentication Required",
            LoginRequired,
            "; give it user and password, as by Proxy::login",
        ),
        (with_login(), "407 Proxy Authentication Required", LoginRefused, "; are user and password right?"),
        (plain(), "401 Unauthorized", LoginRequired, "; give it user and password, as by Proxy::login"),
        (with_login(), "401 Unauthorized", LoginRefused, "; are user and password right?"),
        (
            plain().header("Proxy-Authorization", "Bearer t"),
            "407 No",
            LoginRefused,
            "; are user and password right?",
        ),
        (plain(), "403 Forbidden", Forbidden, "; whoever runs it has to allow this host and port"),
        (plain(), "500 Unable to connect", TargetUnreachable, UNREACHED),
        (plain(), "502 Bad Gateway", TargetUnreachable, UNREACHED),
        (plain(), "503 Service Unavailable", TargetUnreachable, UNREACHED),
        (plain(), "504 Gateway Timeout", TargetUnreachable, UNREACHED),
        (plain(), "501 Not Implemented", Refused, "; does it allow CONNECT?"),
        (plain(), "405 Method Not Allowed", Refused, "; is it an HTTP proxy that allows CONNECT?"),
        (plain(), "302 Found", Refused, "; is it an HTTP proxy that allows CONNECT?"),
        (plain(), "429 Too Many Requests", Refused, ""),
        (plain(), "101 Switching Protocols", Refused, ""),
    ] {
        let answer = format!("HTTP/1.1 {status}\r\nRetry-After: 7\r\nContent-Length: 7\r\n\r\nso sorry");
        let fault = fault(|| connect(&proxy), answer.as_bytes());
        assert_eq!((fault.kind, &fault.reason), (kind, &format!("it answered {status}: \"so sorr\"{says}")));
        let answer = fault.answer.unwrap();
        assert_eq!((answer.header("retry-after"), &*answer.body), (Some("7"), &b"so sorr"[..]));
    }
}

#[test]
fn a_refusal_is_read_to_its_end_or_to_the_limit_and_no_further() {
    let refusal = |body: &str| format!("HTTP/1.1 403 No\r\n{body}");
    let body = |answer: &str| fault(|| connect(&plain()), answer.as_bytes()).answer.unwrap().body;
    assert_eq!(body(&refusal("\r\nuntil the end")), b"until the end");
    assert_eq!(body(&refusal("Content-Length: 50\r\n\r\nhalf")), b"half");
    assert_eq!(body(&refusal("Content-Length: 0\r\n\r\n")), b"");
    assert_eq!(body(&refusal("Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\nmore")), b"no");
    assert_eq!(body(&refusal(&format!("\r\n{}", "x".repeat(2 * LIMIT)))).len(), LIMIT);
}

#[test]
fn a_head_without_an_end_is_given_up_at_the_limit() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Pad: {}\r\n\r\n", "x".repeat(LIMIT));
    let fault = fault(|| connect(&plain()), long.as_bytes());
    assert_eq!(fault.kind, ProxyErrorKind::Nonsense);
    assert_eq!(fault.reason, "its headers exceed 4096 bytes (max_response_size)");
    let head = "HTTP/1.1 200 OK\r\nX-Pad: \r\n\r\n";
    opens(
        || connect(&plain()),
        head.replace(": ", &format!(": {}", "x".repeat(LIMIT - head.len()))).as_bytes(),
    );
}

#[test]
fn what_is_no_answer_of_an_http_proxy_says_what_came_and_what_to_do() {
    for (answer, says) in [
        (&b"SSH-2.0-OpenSSH_9\r\n"[..], r#"it answered "SSH-2.0-OpenSSH_9", which is not HTTP/1.1"#),
        (b"\x15\x03\x01\x00\x02\x02\x46", "it speaks TLS; use https:// for that proxy"),
        (b"\x05\xFF", "it answered as a SOCKS 5 proxy does; use socks5:// or socks5h://"),
        (b"\x05", "it answered as a SOCKS 5 proxy does; use socks5:// or socks5h://"),
        (b"\x00\x5B\0\0\0\0\0\0", "as a SOCKS 4 proxy does, and can't be used"),
        (b"HTTP/2.0 200 OK\r\n\r\n", r#"it answered "HTTP/2.0 200 OK", which is not HTTP/1.1"#),
        (b"HTTP/1.1 fine\r\n\r\n", r#"it answered "HTTP/1.1 fine", which has no status"#),
        (
            b"you said so much before, and then ann:p@ss-w0rd\n",
            r#""you said so much before, and then ***", "#,
        ),
        (
            b"you said so much before this, and then p@ss-w0rd\n",
            r#""you said so much before this, and then *", "#,
        ),
        (b"you said ann:p@ss-w0rd\n", r#"it answered "you said ***", which is not HTTP"#),
        (
            b"no line at all, which goes on and on and on and on",
            r#""no line at all, which goes on and on and", which"#,
        ),
    ] {
        let fault = fault(|| connect(&with_login()), answer);
        assert_eq!(fault.kind, ProxyErrorKind::Nonsense, "{answer:?}");
        assert!(fault.reason.contains(says), "{says}: {}", fault.reason);
    }
}

#[test]
fn an_http_proxy_that_ends_the_connection_is_an_error_at_each_byte() {
    let answer = b"HTTP/1.1 200 OK\r\n\r\n";
    for end in 0..answer.len() {
        let fault = fault(|| connect(&plain()), &answer[..end]);
        let (kind, says) = match end {
            0 => (
                ProxyErrorKind::Ended,
                "it said nothing; if it speaks TLS, use https://, and if it speaks SOCKS",
            ),
            1 => (ProxyErrorKind::Nonsense, r#"it answered "H", which is not HTTP"#),
            _ => (ProxyErrorKind::Ended, "in the middle of the headers of its answer"),
        };
        assert!(fault.kind == kind && fault.reason.starts_with(says), "{end}: {fault:?}");
    }
}

#[test]
fn socks_asks_for_a_name_or_an_address() {
    let answer = b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x1f\x90";
    let sent = |whom: &Whom| opens(|| socks(&plain(), whom), answer);
    assert_eq!(sent(&name()), b"\x05\x01\x00\x05\x01\x00\x03\x0fgateway.example\x01\xbb");
    let v4 = Whom::Address("10.1.2.3:81".parse().unwrap());
    assert_eq!(sent(&v4), b"\x05\x01\x00\x05\x01\x00\x01\x0a\x01\x02\x03\x00\x51");
    let v6 = Whom::Address("[fd00::1]:81".parse().unwrap());
    assert_eq!(sent(&v6), b"\x05\x01\x00\x05\x01\x00\x04\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x51");
    let mapped = Whom::Address("[::ffff:10.1.2.3]:81".parse().unwrap());
    assert_eq!(sent(&mapped), sent(&v4));
    assert!(Whom::name(&"x".repeat(255), 1).is_some() && Whom::name(&"x".repeat(256), 1).is_none());
}

#[test]
fn socks_logs_in_where_the_proxy_wants_it() {
    let request = b"\x05\x01\x00\x03\x0fgateway.example\x01\xbb";
    let wanted = opens(|| socks(&with_login(), &name()), b"\x05\x02\x01\x00\x05\x00\x00\x01\0\0\0\0\0\0");
    let login = b"\x01\x03ann\x09p@ss-w0rd";
    assert_eq!(wanted, [&b"\x05\x02\x00\x02"[..], login, request].concat());
    let not_wanted = opens(|| socks(&with_login(), &name()), b"\x05\x00\x05\x00\x00\x01\0\0\0\0\0\0");
    assert_eq!(not_wanted, [&b"\x05\x02\x00\x02"[..], request].concat());
}

#[test]
fn the_address_in_a_socks_reply_may_be_of_each_type() {
    for address in
        [&b"\x01\x7f\0\0\x01"[..], b"\x04\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", b"\x03\x04here", b"\x03\x00"]
    {
        let answer = [b"\x05\x00\x05\x00\x00", address, b"\x1f\x90"].concat();
        opens(|| socks(&plain(), &name()), &answer);
    }
}

#[test]
fn each_reply_of_a_socks_proxy_has_its_kind_and_its_words() {
    use ProxyErrorKind::{Forbidden, Refused, TargetUnreachable};
    for (reply, kind, says) in [
        (1, Refused, "a general failure"),
        (
            2,
            Forbidden,
            "its rules do not allow it; whoever runs it has to allow this host and port (SOCKS reply 2)",
        ),
        (3, TargetUnreachable, "the network is unreachable"),
        (4, TargetUnreachable, "the host is unreachable"),
        (5, TargetUnreachable, "the host refused the connection (SOCKS reply 5)"),
        (6, TargetUnreachable, "took too long"),
        (7, Refused, "does not know the command CONNECT"),
        (8, Refused, "does not know this type of address"),
        (9, Refused, "a failure that has no name (SOCKS reply 9)"),
    ] {
        let answer = [&b"\x05\x00\x05"[..], &[reply], b"\x00\x01\0\0\0\0\0\0"].concat();
        let whole = fault(|| socks(&plain(), &name()), &answer);
        assert!(whole.kind == kind && whole.reason.contains(says), "{whole:?}");
        // Some end the connection behind the reply.
        assert_eq!(fault(|| socks(&plain(), &name()), &answer[..4]).reason, whole.reason);
    }
}

#[test]
fn what_a_socks_proxy_refuses_or_garbles_says_what_and_what_to_do() {
    use ProxyErrorKind::{LoginRefused, LoginRequired, Nonsense};
    for (proxy, answer, kind, says) in [
        (
            plain(),
            &b"\x05\xFF"[..],
            LoginRequired,
            "it takes nobody without a login; give it user and password",
        ),
        (with_login(), b"\x05\xFF", LoginRefused, "it takes no login by user and password"),
        (with_login(), b"\x05\x02\x01\x01", LoginRefused, "status 1; are user and password right?"),
        (with_login(), b"\x05\x02\x01\xFF", LoginRefused, "status 255; are user and password right?"),
        (plain(), b"\x05\x02", Nonsense, "login method 2, which was not offered"),
        (with_login(), b"\x05\x01", Nonsense, "login method 1, which was not offered"),
        (
            plain(),
            b"HTTP/1.1 400 Bad Request\r\n",
            Nonsense,
            "that is an HTTP proxy, or a server: use http://",
        ),
        (plain(), b"\x15\x03\x01\0\x02", Nonsense, "it speaks TLS; use https://"),
        (plain(), b"\x00\x5B", Nonsense, "as a SOCKS 4 proxy does"),
        (plain(), b"\x04\x00", Nonsense, "as a SOCKS 4 proxy does"),
        (plain(), b"SSH-2.0\r\n", Nonsense, r#"it answered "SSH-2.0", which is not SOCKS 5"#),
        (
            with_login(),
            b"\x05\x02who is p@ss-w0rd?\n",
            Nonsense,
            r#"it answered "who is ***?", which is not SOCKS 5"#,
        ),
        (plain(), b"\x05\x00HTTP/1.1 400\r\n", Nonsense, "that is an HTTP proxy, or a server"),
        (plain(), b"\x05\x00\x05\x00\x00\x02", Nonsense, "an address of the unknown type 2"),
    ] {
        let fault = fault(|| socks(&proxy, &name()), answer);
        assert!(fault.kind == kind && fault.reason.contains(says), "{says}: {fault:?}");
    }
}

#[test]
fn a_socks_proxy_that_ends_the_connection_is_an_error_at_each_byte() {
    let answer = b"\x05\x02\x01\x00\x05\x00\x00\x01\0\0\0\0\0\0";
    for end in 0..answer.len() {
        let fault = fault(|| socks(&with_login(), &name()), &answer[..end]);
        let says = match end {
            0 => "it said nothing; if it is an HTTP proxy, use http:// or",
            2 => "it did not answer the login; are user and password right?",
            4 => "it did not answer the request",
            _ => "in the middle of its answer",
        };
        assert!(fault.kind == ProxyErrorKind::Ended && fault.reason.starts_with(says), "{end}: {fault:?}");
    }
}
