//! Refusals of an upgrade: their statuses, headers and bodies.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::common::{LONG, MS, Server, accept, disconnected, read_head, wait_for};
use crate::{Config, Failure, as_it_is, failure, flood, outlast};
use tautline::{Client, ConnectionConfig, DisconnectReason, Error, ReconnectConfig, Rejection};

/// Sooner than a body that falls silent is given up, after a second.
const PROMPTLY: Duration = Duration::from_millis(900);

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
        let says = format!(
            "not reconnecting: {} answered {status} to the WebSocket upgrade: \"later\"",
            server.address()
        );
        assert!(reason.to_string().starts_with(&says), "{reason}");
        assert!(matches!(reason.into_result(), Err(Error::UpgradeRejected(_))));
    }
    let _ = client.terminate();
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

/// A status that says "no": for good if the line was never ready, else another try after the longest delay, or after
/// `Retry-After`.
fn says_no(status: &str) {
    let date = date_in(50);
    for retry_after in [None, Some("7"), Some(date.as_str())] {
        assert_eq!(refusal(status, retry_after, false).1, None);
    }
    let retry_in = |retry_after| refusal(status, retry_after, true).1.unwrap();
    assert_eq!(retry_in(None), 25 * MS);
    assert_eq!(retry_in(Some("0")), 25 * MS);
    assert_eq!(retry_in(Some("7")), Duration::from_secs(7));
    let date = retry_in(Some(&date));
    assert!(date > Duration::from_secs(40) && date <= Duration::from_secs(50), "{date:?}");
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
    let text = format!(" answered 403 No to {hidden} to the WebSocket upgrade: \"{hidden}!\"; ");
    assert!(error.to_string().contains(&text), "{error}");
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
    let text = r#" answered 403 No to the WebSocket upgrade: "refusal 111 until later."; "#;
    assert!(error.to_string().contains(text), "{error}");
}
