//! Servers that answer the upgrade wrongly, late, in pieces, or not at all.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use common::{
    BareServer, LONG, Server, accept, await_unread, close_frame, disconnected, echo, frame, good_answer,
    quick, read_head, wait_for,
};
use tautline::{
    Client, ConnectionConfig, DisconnectReason, Error, Event, Jitter, Phase, ReconnectConfig, Rejection,
};
use tungstenite::WebSocket;
use tungstenite::protocol::Role;

const MS: Duration = Duration::from_millis(1);

/// Sooner than a body that falls silent is given up, after a second.
const PROMPTLY: Duration = Duration::from_millis(900);

/// An attempt that failed.
struct Failure {
    error: Error,
    retry_in: Option<Duration>,
    took: Duration,
}

/// The first attempt at a server that does `serve` on its first connection, and echoes on the others: they are reached.
/// An attempt may take twice [`LONG`], so one that takes less has not waited for that.
fn failure(config: Config, serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Failure {
    let server =
        Server::start(move |n, mut stream| if n == 0 { serve(&mut stream) } else { echo(accept(stream)) });
    let start = Instant::now();
    let client = Client::start(config(quick(&server.url()).connect_timeout(2 * LONG))).unwrap();
    let (reason, retry_in) = wait_for(&client, disconnected);
    let took = start.elapsed();
    let DisconnectReason::ConnectFailed(error) = reason else { panic!("{reason:?}") };
    if retry_in == Some(MS) {
        client.wait_ready(LONG).unwrap();
        assert!(client.close().is_empty());
    }
    client.terminate();
    Failure { error, retry_in, took }
}

type Config = fn(ConnectionConfig) -> ConnectionConfig;

fn as_it_is(config: ConnectionConfig) -> ConnectionConfig {
    config
}

/// An attempt that fails at once, since the answer is no WebSocket server's: the text that says why.
fn bad_answer(config: Config, serve: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> String {
    let Failure { error, retry_in, .. } = failure(config, serve);
    assert!(matches!(error, Error::Upgrade { .. }), "{error:?}");
    assert!(retry_in.is_some(), "a proxy may be in the way for now: {error}");
    let text = error.to_string();
    assert!(text.starts_with("127.0.0.1:"), "it names the server: {text}");
    text
}

/// The answer to the upgrade that `change` makes of the good one, on a connection that stays open.
fn answer(change: fn(String) -> String) -> impl Fn(&mut TcpStream) + Send + Sync {
    move |stream| {
        let head = read_head(stream);
        stream.write_all(change(good_answer(&head, "")).as_bytes()).unwrap();
        outlast(stream);
    }
}

/// Keeps a connection open until the client ends it.
fn outlast(stream: &mut TcpStream) {
    while stream.read(&mut [0; 512]).is_ok_and(|n| n > 0) {}
}

/// Writes `bytes` again and again until the client ends the connection.
fn flood(stream: &mut TcpStream, bytes: &[u8]) {
    while stream.write_all(bytes).is_ok() {}
}

/// Connects to a server that answers the upgrade by `write`, and talks to it.
fn accepted(write: impl Fn(&mut TcpStream, String) + Send + Sync + 'static) {
    let server = Server::start(move |_, mut stream| {
        let head = read_head(&mut stream);
        write(&mut stream, good_answer(&head, ""));
        echo(WebSocket::from_raw_socket(stream, Role::Server, None));
    });
    let client = Client::connect(server.url()).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    assert!(client.close().is_empty());
}

#[test]
fn garbage_in_place_of_http_is_named() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "220 mail.example ESMTP\r\n",
        "-ERR unknown command 'GET'\r\n",
        "\x15 is no TLS",
        "\0\0\0\0\0\0\0\0",
        "<!doctype html><title>Log in to the hotel's network</title>",
        "HTTP/9.9 101 Switching Protocols\r\n\r\n",
        "HTTP/1.1 one-oh-one\r\n\r\n",
    ] {
        let text = bad_answer(as_it_is, move |stream| {
            read_head(stream);
            stream.write_all(garbage.as_bytes()).unwrap();
            outlast(stream);
        });
        assert!(text.contains("did not answer the WebSocket upgrade as it should: it is not HTTP"), "{text}");
    }
}

#[test]
fn half_an_answer_and_then_silence_is_a_timeout_of_the_upgrade() {
    let Failure { error, retry_in, took } = failure(
        |config| config.connect_timeout(1000 * MS),
        |stream| {
            let head = read_head(stream);
            let answer = good_answer(&head, "");
            stream.write_all(&answer.as_bytes()[..answer.len() / 2]).unwrap();
            outlast(stream);
        },
    );
    let Error::ConnectTimeout { phase, after, .. } = &error else { panic!("{error:?}") };
    assert_eq!((*phase, *after), (Phase::Upgrade, 1000 * MS));
    assert!(
        error
            .to_string()
            .ends_with("timed out after 1s while waiting for the server's answer to the upgrade")
    );
    assert!(retry_in.is_some() && took >= 1000 * MS, "{took:?}");
}

#[test]
fn an_answer_in_single_bytes_is_accepted() {
    accepted(|stream, answer| {
        for byte in answer.bytes() {
            stream.write_all(&[byte]).unwrap();
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_list_in_the_connection_header_is_accepted() {
    accepted(|stream, answer| {
        let listed = answer.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade");
        assert_ne!(listed, answer);
        stream.write_all(listed.as_bytes()).unwrap();
    });
}

#[test]
fn headers_that_matter_to_nobody_are_no_reason_to_refuse_an_answer() {
    accepted(|stream, answer| {
        let odd = "X-Folded: a\r\n b\r\nX-Spaced : c\r\nX Y: d\r\nno colon\r\nX-Odd: \0\u{1}\r\n";
        let many = "X-Filler: x\r\n".repeat(200);
        stream.write_all(answer.replacen("\r\n", &format!("\r\n{odd}{many}"), 1).as_bytes()).unwrap();
    });
}

#[test]
fn a_refusal_with_very_many_headers_keeps_its_status_and_its_retry_after() {
    let Failure { error, retry_in, .. } = failure(as_it_is, |stream| {
        read_head(stream);
        let many = "X-Filler: x\r\n".repeat(1000);
        write!(stream, "HTTP/1.1 503 Busy\r\n{many}Retry-After: 7\r\nContent-Length: 0\r\n\r\n").unwrap();
        outlast(stream);
    });
    assert!(matches!(&error, Error::UpgradeRejected(rejection) if rejection.status == 503), "{error:?}");
    assert_eq!(retry_in, Some(Duration::from_secs(7)));
}

#[test]
fn an_upgrade_in_http_1_0_is_refused() {
    let text = bad_answer(as_it_is, answer(|good| good.replace("HTTP/1.1", "HTTP/1.0")));
    assert!(text.contains("status 101 in HTTP/1.0"), "{text}");
}

#[test]
fn an_endless_header_is_cut_off() {
    let text = bad_answer(
        |config| config.max_response_size(4096),
        |stream| {
            read_head(stream);
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nX-Filler: ").unwrap();
            flood(stream, &[b'x'; 1024]);
        },
    );
    assert!(text.ends_with("its headers exceed 4096 bytes (max_response_size)"), "{text}");
}

#[test]
fn endless_interim_answers_are_cut_off() {
    let text = bad_answer(
        |config| config.max_response_size(4096),
        |stream| {
            read_head(stream);
            flood(stream, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        },
    );
    assert!(text.ends_with("its headers exceed 4096 bytes (max_response_size)"), "{text}");
}

#[test]
fn a_second_accept_key_that_is_wrong_is_refused() {
    let second: fn(String) -> String =
        |good| good.replace("\r\n\r\n", "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    let text = bad_answer(as_it_is, answer(second));
    assert!(text.contains("Sec-WebSocket-Accept does not belong to our key"), "{text}");
}

#[test]
fn a_wrong_accept_key_is_refused() {
    let text = bad_answer(
        as_it_is,
        answer(|good| {
            let (start, rest) = good.split_once("Sec-WebSocket-Accept: ").unwrap();
            let (_, end) = rest.split_once("\r\n").unwrap();
            format!("{start}Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{end}")
        }),
    );
    assert!(text.contains("Sec-WebSocket-Accept does not belong to our key"), "{text}");
}

#[test]
fn a_subprotocol_that_nobody_offered_is_refused() {
    let choose: fn(String) -> String =
        |good| good.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n");
    let text = bad_answer(as_it_is, answer(choose));
    assert!(text.ends_with(r#"it chose the subprotocol "chat"; offered: none"#), "{text}");
    let text = bad_answer(|config| config.subprotocol("v1").subprotocol("v2"), answer(choose));
    assert!(text.ends_with(r#"it chose the subprotocol "chat"; offered: v1, v2"#), "{text}");
}

#[test]
fn an_extension_that_nobody_offered_is_refused() {
    let text = bad_answer(
        as_it_is,
        answer(|good| good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")),
    );
    assert!(text.ends_with(r#"it chose the extension "permessage-deflate", and none was offered"#), "{text}");
}

/// The answer to the upgrade of a line that was ready before, or never was; and the decision. Backoff is 1 to 3 ms here,
/// and its longest delay 25 ms.
fn refusal(status: &str, retry_after: Option<&str>, ever_ready: bool) -> (Arc<Rejection>, Option<Duration>) {
    let retry_after = retry_after.map(|value| format!("Retry-After: {value}\r\n")).unwrap_or_default();
    let answer = format!("HTTP/1.1 {status}\r\nX-Request: 7\r\n{retry_after}Content-Length: 5\r\n\r\nlater");
    let server = Server::start(move |n, mut stream| {
        if ever_ready && n == 0 {
            drop(accept(stream));
        } else {
            read_head(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let reconnect = ReconnectConfig::default().initial_delay(MS).max_delay(25 * MS).multiplier(1.0);
    let config = ConnectionConfig::new(server.url()).reconnect(reconnect).retry_after_cap(1000 * 60 * MS);
    let client = Client::start(config).unwrap();
    let (rejection, retry_in) = wait_for(&client, |event| match disconnected(event)? {
        (DisconnectReason::ConnectFailed(Error::UpgradeRejected(rejection)), retry_in) => {
            Some((rejection, retry_in))
        }
        (reason, _) => {
            assert!(ever_ready && matches!(reason, DisconnectReason::Lost(_)), "{reason:?}");
            None
        }
    });
    if retry_in.is_none() {
        let reason = client.wait_closed_timeout(LONG).unwrap();
        let says =
            format!("not reconnecting: the server answered {status} to the WebSocket upgrade: \"later\"");
        assert_eq!(reason.to_string(), says);
        assert!(matches!(reason.into_result(), Err(Error::UpgradeRejected(_))));
    }
    client.terminate();
    let (code, phrase) = status.split_once(' ').unwrap();
    assert_eq!((rejection.status.to_string().as_str(), rejection.reason.as_str()), (code, phrase));
    assert_eq!((rejection.header("x-request"), &*rejection.body), (Some("7"), &b"later"[..]));
    (rejection, retry_in)
}

/// A date in so many seconds, as HTTP writes it.
fn date_in(seconds: u64) -> String {
    httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds))
}

/// A status that says "later": backoff, and `Retry-After` is its floor, up to a cap of a minute.
fn says_later(status: &str) {
    // The shortest there is.
    let backoff = 10 * MS;
    for ever_ready in [false, true] {
        let retry_in = |retry_after: &str| refusal(status, Some(retry_after), ever_ready).1.unwrap();
        assert_eq!(refusal(status, None, ever_ready).1, Some(backoff));
        assert_eq!(retry_in("7"), Duration::from_secs(7));
        let date = retry_in(&date_in(50));
        assert!(date > Duration::from_secs(40) && date <= Duration::from_secs(50), "{date:?}");
        for too_long in ["61", "99999999999999999999999", &date_in(3600)] {
            assert_eq!(retry_in(too_long), Duration::from_secs(60), "the cap");
        }
        for nothing in ["0", "soon", "-5", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(retry_in(nothing), backoff, "{nothing}");
        }
    }
}

/// A status that says "no": for good if the line was never ready, else another try after the longest delay.
fn says_no(status: &str) {
    for retry_after in [None, Some("7"), Some(date_in(50).as_str())] {
        assert_eq!(refusal(status, retry_after, false).1, None);
        assert_eq!(refusal(status, retry_after, true).1, Some(25 * MS));
    }
}

macro_rules! statuses {
    ($($name:ident: $says:ident($status:literal);)*) => {
        $(
            #[test]
            fn $name() {
                $says($status);
            }
        )*
    };
}

statuses! {
    status_301_is_no_way_on_but_a_no: says_no("301 Moved Permanently");
    status_401_says_no: says_no("401 Unauthorized");
    status_403_says_no: says_no("403 Forbidden");
    status_404_says_no: says_no("404 Not Found");
    status_426_says_no: says_no("426 Upgrade Required");
    status_408_says_later: says_later("408 Request Timeout");
    status_425_says_later: says_later("425 Too Early");
    status_429_says_later: says_later("429 Too Many Requests");
    status_503_says_later: says_later("503 Service Unavailable");
}

/// What `write` sends to refuse the upgrade: the body that the rejection carries, and how long it took to come.
fn refused(config: Config, write: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> (String, Duration) {
    let Failure { error, took, .. } = failure(config, move |stream| {
        read_head(stream);
        write(stream);
    });
    let Error::UpgradeRejected(rejection) = error else { panic!("{error:?}") };
    assert_eq!((rejection.status, rejection.header("server")), (503, Some("test")));
    (String::from_utf8(rejection.body.clone()).unwrap(), took)
}

/// The same, for a body whose end is known when it comes: the attempt does not wait for more.
fn refused_promptly(
    config: Config,
    write: impl Fn(&mut TcpStream) + Clone + Send + Sync + 'static,
) -> String {
    // A busy machine makes it slower, but not again and again.
    for _ in 0..10 {
        let (body, took) = refused(config, write.clone());
        if took < PROMPTLY {
            return body;
        }
    }
    panic!("it waits for more");
}

const REFUSED: &str = "HTTP/1.1 503 Busy\r\nServer: test\r\n";

#[test]
fn a_body_with_a_length_ends_there() {
    let body = refused_promptly(as_it_is, |stream| {
        write!(stream, "{REFUSED}Content-Length: 5\r\n\r\ncome ").unwrap();
        outlast(stream);
    });
    assert_eq!(body, "come ");
}

#[test]
fn a_body_in_chunks_is_joined() {
    let body = refused_promptly(as_it_is, |stream| {
        write!(stream, "{REFUSED}Transfer-Encoding: chunked\r\n\r\n5\r\ncome \r\n").unwrap();
        write!(stream, "6;x=y\r\nback l\r\n4\r\nater\r\n0\r\n\r\n").unwrap();
        outlast(stream);
    });
    assert_eq!(body, "come back later");
}

#[test]
fn a_body_without_a_length_goes_to_the_end_of_the_stream() {
    let body = refused_promptly(as_it_is, |stream| {
        write!(stream, "{REFUSED}\r\ncome ").unwrap();
        write!(stream, "back later").unwrap();
    });
    assert_eq!(body, "come back later");
}

#[test]
fn a_body_that_breaks_off_is_carried_as_far_as_it_came() {
    let body = refused_promptly(as_it_is, |stream| {
        write!(stream, "{REFUSED}Content-Length: 500\r\n\r\ncome back").unwrap();
    });
    assert_eq!(body, "come back");
}

#[test]
fn a_body_that_falls_silent_delays_the_refusal_by_a_second() {
    let (body, took) = refused(as_it_is, |stream| {
        write!(stream, "{REFUSED}Content-Length: 500\r\n\r\ncome back").unwrap();
        outlast(stream);
    });
    assert_eq!(body, "come back");
    assert!(took >= 900 * MS, "{took:?}");
}

#[test]
fn a_body_that_trickles_for_ever_does_not_become_a_timeout() {
    let (body, took) = refused(
        |config| config.connect_timeout(2000 * MS),
        |stream| {
            write!(stream, "{REFUSED}\r\n").unwrap();
            let tick = crossbeam_channel::tick(5 * MS);
            while stream.write_all(b"x").is_ok() {
                tick.recv().unwrap();
            }
        },
    );
    assert!(body.len() > 2 && body.bytes().all(|byte| byte == b'x'), "{body}");
    assert!(took >= 990 * MS, "half of what the attempt had left: {took:?}");
}

#[test]
fn a_body_that_floods_is_cut_off() {
    let body = refused_promptly(
        |config| config.max_response_size(4096),
        |stream| {
            write!(stream, "{REFUSED}\r\n").unwrap();
            flood(stream, &[b'x'; 1024]);
        },
    );
    assert_eq!(body, "x".repeat(4096));
}

#[test]
fn a_refusal_prints_no_secret_that_it_repeats_and_carries_what_was_said() {
    const SAID: &str =
        "t0ken-query, t0ken%2Dquery, p@ssw0rd, Ym9iOnBAc3N3MHJk, t0ken-bearer, t0ken-cookie, t0ken-key";
    let error = failure(
        |config| {
            let mut config = config;
            config.url = config.url.replace("ws://", "ws://bob:p%40ssw0rd@") + "/rooms?v=1&token=t0ken-query";
            for (name, value) in [
                ("Authorization", "Bearer t0ken-bearer"),
                ("Cookie", "theme=1; sid=t0ken-cookie"),
                ("X-Key", "t0ken-key"),
                ("X-Version", "1"),
                ("User-Agent", "refusal"),
            ] {
                config = config.header(name, value);
            }
            config
        },
        |stream| {
            read_head(stream);
            let location = "Location: /login?next=/rooms%3Ftoken%3Dt0ken-query";
            write!(
                stream,
                "HTTP/1.1 403 No to {SAID}\r\n{location}\r\nContent-Length: {}\r\n\r\n{SAID}!",
                SAID.len() + 1
            )
            .unwrap();
            outlast(stream);
        },
    )
    .error;
    let hidden = ["***"; 7].join(", ");
    let text = format!("the server answered 403 No to {hidden} to the WebSocket upgrade: \"{hidden}!\"");
    assert_eq!(error.to_string(), text);
    let debug = format!("{error:?}");
    assert!(!debug.contains("t0ken") && !debug.contains("p@ss") && debug.contains("No to ***"), "{debug}");
    let Error::UpgradeRejected(rejection) = &error else { panic!("{debug}") };
    assert_eq!(rejection.reason, format!("No to {SAID}"));
    assert_eq!(rejection.body, format!("{SAID}!").into_bytes());
    assert_eq!(rejection.header("location"), Some("/login?next=/rooms%3Ftoken%3Dt0ken-query"));
}

#[test]
fn harmless_parts_of_the_request_stay_in_the_text_of_a_refusal() {
    let error = failure(
        |config| config.header("X", "1").header("User-Agent", "refusal").header("Accept-Language", "later"),
        |stream| {
            read_head(stream);
            write!(stream, "HTTP/1.1 403 No\r\nContent-Length: 24\r\n\r\nrefusal 111 until later.").unwrap();
            outlast(stream);
        },
    )
    .error;
    assert_eq!(
        error.to_string(),
        r#"the server answered 403 No to the WebSocket upgrade: "refusal 111 until later.""#
    );
}

#[test]
fn of_the_frames_glued_to_the_answer_none_is_lost() {
    const COUNT: usize = 500;
    // More than the answer may have: what is behind it is no part of it.
    for max_response_size in [256, 64 << 10] {
        let server = Server::start(|_, mut stream| {
            let head = read_head(&mut stream);
            let mut bytes = good_answer(&head, "").into_bytes();
            for n in 0..COUNT {
                bytes.extend(frame(0x81, format!("{n:0>1000}").as_bytes()));
            }
            bytes.extend(close_frame(4000, "that was all"));
            stream.write_all(&bytes).unwrap();
            outlast(&mut stream);
        });
        let client = Client::connect(quick(&server.url()).max_response_size(max_response_size)).unwrap();
        let mut count = 0;
        let (reason, _) = wait_for(&client, |event| match event {
            Event::Message(message) => {
                assert_eq!(message.as_text().map(str::parse), Some(Ok(count)));
                count += 1;
                None
            }
            other => disconnected(other),
        });
        assert_eq!(count, COUNT);
        assert_eq!(reason.to_string(), r#"the server closed the line with close code 4000: "that was all""#);
        client.terminate();
    }
}

#[test]
fn an_end_at_any_byte_of_the_answer_is_a_clean_failure() {
    let length = good_answer("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "").len();
    let server = Server::start(move |n, mut stream| {
        let head = read_head(&mut stream);
        let answer = good_answer(&head, "");
        stream.write_all(&answer.as_bytes()[..n.min(length)]).unwrap();
        if n >= length {
            echo(WebSocket::from_raw_socket(stream, Role::Server, None));
        }
    });
    let client = Client::start(quick(&server.url())).unwrap();
    for end in 0..length {
        let (reason, retry_in) = wait_for(&client, disconnected);
        let DisconnectReason::ConnectFailed(error) = reason else { panic!("{end} bytes: {reason:?}") };
        match &error {
            Error::Upgrade { reason, .. } if end == 0 => {
                assert!(reason.starts_with("it ended the connection without a word"), "{reason}");
            }
            Error::Upgrade { reason, .. } if end > 0 => {
                assert_eq!(&**reason, "the connection ended in the middle of the headers", "{end} bytes");
            }
            other => panic!("{end} bytes: {other:?}"),
        }
        assert_eq!(retry_in, Some(10 * MS), "{end} bytes");
    }
    client.wait_ready(LONG).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    assert_eq!(client.stats().attempts, length as u64 + 1);
    assert!(client.close().is_empty());
}

#[test]
fn a_reset_during_the_handshake_is_a_clean_failure() {
    let server = BareServer::start(|n, mut stream| match n {
        0 => await_unread(&stream),
        1 => {
            stream.read_exact(&mut [0; 1]).unwrap();
            await_unread(&stream);
            stream.write_all(b"HTTP/1.1 101 Swit").unwrap();
        }
        _ => echo(accept(stream)),
    });
    let client = Client::start(quick(&server.url())).unwrap();
    let (reason, retry_in) = wait_for(&client, disconnected);
    let cause = |reason: &DisconnectReason| match reason {
        DisconnectReason::ConnectFailed(Error::Upgrade { source: Some(source), .. }) => source.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(reason.to_string().contains("the connection broke: Connection reset"), "{reason}");
    assert!(cause(&reason).contains("Connection reset"), "{reason:?}");
    assert!(retry_in.is_some());
    let (reason, retry_in) = wait_for(&client, disconnected);
    assert!(cause(&reason).contains("Connection reset"), "{reason:?}");
    assert!(reason.to_string().ends_with("the connection ended in the middle of the headers"), "{reason}");
    assert!(retry_in.is_some());
    client.wait_ready(LONG).unwrap();
    assert!(client.close().is_empty());
}

/// The delays of a client whose connections end one after the other, in milliseconds.
fn delays(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Vec<u128> {
    let server = Server::start(move |_, stream| serve(stream));
    let reconnect = ReconnectConfig::default().initial_delay(MS).max_delay(50 * MS).jitter(Jitter::None);
    let client = Client::start(ConnectionConfig::new(server.url()).reconnect(reconnect)).unwrap();
    let delays = (0..8).map(|_| wait_for(&client, disconnected).1.unwrap().as_millis()).collect();
    client.terminate();
    delays
}

#[test]
fn a_server_that_accepts_and_closes_for_ever_is_not_hammered() {
    let growing = [10, 10, 10, 10, 16, 32, 50, 50];
    assert_eq!(delays(drop), growing, "without a word");
    assert_eq!(delays(|stream| drop(accept(stream))), growing, "after the upgrade");
    let goodbye = |stream| {
        let mut stream = common::accept_raw(stream);
        stream.write_all(&close_frame(1001, "restarting")).unwrap();
        common::read_frames(&mut stream);
    };
    assert_eq!(delays(goodbye), growing, "with a close frame");
}
