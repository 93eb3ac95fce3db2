use std::fmt;

use super::*;
use crate::system::refusals::TOO_MANY;

fn shared<T: Clone + Send + Sync + StdError + 'static>() {}

#[test]
fn an_error_is_small_and_can_be_shared() {
    assert!(size_of::<Error>() <= 56, "{} bytes", size_of::<Error>());
    shared::<Error>();
    shared::<SendError>();
}

#[test]
fn json_that_could_not_be_read_is_not_said_to_be_unwritable() {
    // As returned by a hook that parses a message with `?`.
    let error = Error::from(serde_json::from_str::<serde_json::Value>("nonsense").unwrap_err());
    assert!(error.to_string().starts_with("the JSON can't be read or written: expected"), "{error}");
}

#[test]
fn an_illegal_close_code_is_refused() {
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
        let error = CloseFrame::checked(code, "").unwrap_err();
        assert!(error.to_string().contains(&code.to_string()), "{error}");
    }
    for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999] {
        assert_eq!(CloseFrame::checked(code, "bye").unwrap().code, code);
    }
}

#[test]
fn a_close_reason_over_123_bytes_is_refused() {
    assert!(CloseFrame::checked(1000, &"x".repeat(123)).is_ok());
    let error = CloseFrame::checked(1000, &"x".repeat(124)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the close reason can't be used: 124 bytes; a close frame carries 123 at most"
    );
}

#[test]
fn an_error_that_returns_a_message_does_not_print_it() {
    let error = SendError::new("s3cret".into(), SendErrorKind::Full { messages: 3, bytes: 90 });
    assert_eq!(
        error.to_string(),
        "the outbox is full (3 messages, 90 bytes); the message is inside this error"
    );
    assert_eq!(format!("{error:?}"), error.to_string());
    let more = error.with(["s3cret".into(), "s3cret".into()].into_iter());
    assert_eq!(
        format!("{more:?}"),
        "the outbox is full (3 messages, 90 bytes); the message and 2 that were to follow are inside this error"
    );
}

#[test]
fn a_panic_names_the_callback_or_the_library_itself() {
    let callback = Error::Panicked { callback: "resolver" };
    assert_eq!(callback.to_string(), "the application's resolver callback panicked");
    let ours = Error::Panicked { callback: INTERNAL }.to_string();
    assert!(ours.contains("tautline") && ours.contains("report") && !ours.contains("callback"), "{ours}");
}

#[test]
fn what_was_lost_or_expired_is_named() {
    let tickets: Tickets = [1..=2, 5..=5].into_iter().collect();
    let text = |maybe_delivered: &Tickets, never_sent: &Tickets| {
        let (maybe_delivered, never_sent) = (maybe_delivered.clone(), never_sent.clone());
        Error::Unconfirmed { maybe_delivered, never_sent }.to_string()
    };
    let (none, other) = (Tickets::default(), [3..=3].into_iter().collect());
    let lost = text(&tickets, &none);
    assert!(lost.starts_with("#1 to #2, #5 may or may not have arrived: ") && !lost.contains(';'), "{lost}");
    let unsent = text(&none, &tickets);
    assert!(
        unsent.starts_with("#1 to #2, #5 will never be sent: each waited longer than max_age, "),
        "{unsent}"
    );
    assert_eq!(text(&other, &tickets), format!("{}; {unsent}", text(&other, &none)));
}

#[test]
fn a_proxy_that_stalls_is_named_by_the_timeout() {
    let host = "gateway:443 through the proxy proxy.local:3128".into();
    let after = Duration::from_secs(10);
    assert_eq!(
        Error::ConnectTimeout { host, phase: Phase::Proxy, after, source: None }.to_string(),
        "connecting to gateway:443 through the proxy proxy.local:3128 timed out after 10s while waiting for the proxy to \
         open a way to the server; check the scheme of its URL: http, https, socks5 or socks5h"
    );
}

#[test]
fn a_proxy_that_fails_has_a_sentence_for_each_kind_and_its_cause_once() {
    use ProxyErrorKind::{
        Ended, Forbidden, LoginRefused, LoginRequired, Nonsense, Refused, TargetUnreachable, Unreachable,
    };
    for (kind, text) in [
        (Unreachable, "the proxy p:3128 for h:1 can't be reached: why"),
        (LoginRequired, "the proxy p:3128 wants a login to open the way to h:1: why"),
        (LoginRefused, "the proxy p:3128, on the way to h:1, does not accept the login: why"),
        (Forbidden, "the proxy p:3128 forbids the way to h:1: why"),
        (TargetUnreachable, "the proxy p:3128 did not reach h:1: why"),
        (Refused, "the proxy p:3128 did not open the way to h:1: why"),
        (Ended, "the proxy p:3128 ended the connection before it had opened the way to h:1: why"),
        (Nonsense, "the proxy p:3128, asked for the way to h:1, did not answer as it should: why"),
    ] {
        let cause: Cause = Arc::new(Outer(io::Error::other("beneath")));
        let error = by_proxy(kind, Some(cause));
        assert_eq!(error.to_string(), text);
        assert_eq!(format!("{error:?}"), format!("{text}\ncaused by: outer\ncaused by: beneath"));
    }
}

#[test]
fn main_prints_the_rest_of_what_a_proxy_answered() {
    let body = b"<html>\n<p>Ask ann</p>".to_vec();
    let answer = Some(Rejection { body, ..Rejection::new(403, "Forbidden", Vec::new()) });
    let Error::Proxy(error) = by_proxy(ProxyErrorKind::Forbidden, None) else { panic!() };
    let error = Error::Proxy(Arc::new(ProxyError { answer, ..(*error).clone() }));
    let printed = format!("{error:?}");
    let says = "h:1: why\nthe proxy's answer:\n    <html>\n    <p>Ask ann</p>";
    assert!(printed.ends_with(says), "{printed}");
}

#[test]
fn a_short_wait_is_shown_in_milliseconds() {
    let ms = Duration::from_millis;
    let dead = |silence| Error::HeartbeatTimeout { silence }.to_string();
    assert_eq!(dead(ms(150)), "heartbeat timeout: no answer for 150ms");
    assert_eq!(dead(ms(10_012)), "heartbeat timeout: no answer for 10.0s");
    let stalled = |after| Error::WriteStalled { after }.to_string();
    assert_eq!(stalled(Duration::from_nanos(999_999_999)), "the server took no more bytes for 999ms");
    assert_eq!(stalled(ms(1000)), "the server took no more bytes for 1.0s");
}

#[test]
fn a_wait_in_vain_says_for_what_and_why() {
    let timeout =
        |source| Error::Timeout { waiting_for: "a message", after: Duration::from_millis(300), source };
    assert_eq!(timeout(None).to_string(), "timed out after 300ms waiting for a message");
    let down = timeout(Some(Arc::new(Error::WriteStalled { after: Duration::from_secs(1) }))).to_string();
    assert_eq!(down, "timed out after 300ms waiting for a message: the server took no more bytes for 1.0s");
}

/// An error whose text does not mention its cause.
#[derive(Debug)]
struct Outer(io::Error);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("outer")
    }
}

impl StdError for Outer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

fn by_proxy(kind: ProxyErrorKind, source: Option<Cause>) -> Error {
    let (proxy, target, reason) = ("p:3128".into(), "h:1".into(), "why".into());
    Error::Proxy(Arc::new(ProxyError { proxy, target, kind, reason, source, answer: None }))
}

/// One error of each variant, and one for each kind of cause.
pub(crate) fn every_error() -> Vec<Error> {
    let io = || io::Error::from_raw_os_error(2);
    let causes: [Cause; 4] = [
        Arc::new(io()),
        Arc::new(io::Error::other(Outer(io()))),
        Arc::new(Outer(io())),
        Arc::new(tungstenite::Error::Io(io())),
    ];
    let (host, reason, after): (Box<str>, Box<str>, _) = ("h:1".into(), "why".into(), Duration::from_secs(1));
    let tickets = Tickets::between(0, 2);
    let rejection = Rejection { body: b"no".to_vec(), ..Rejection::new(403, "Forbidden", Vec::new()) };
    let mut errors = vec![
        Error::InvalidUrl { reason: reason.clone() },
        Error::InvalidConfig { setting: "spin", reason: reason.clone() },
        Error::InvalidArgument { argument: "request", reason: reason.clone() },
        Error::UpgradeRejected(Arc::new(rejection)),
        Error::Upgrade { host: host.clone(), reason: reason.clone(), source: None },
        Error::ConnectTimeout { host: host.clone(), phase: Phase::Tls, after, source: None },
        by_proxy(ProxyErrorKind::Forbidden, None),
        Error::login_refused("why"),
        Error::LoginTimeout { after },
        Error::session("why"),
        Error::answer("why"),
        Error::ClosedByServer(CloseFrame::new(1008, "why")),
        Error::ByCaller { call: "suspend" },
        Error::ConnectionLost { source: None },
        Error::HeartbeatTimeout { silence: after },
        Error::IdleTimeout { after },
        Error::WriteStalled { after },
        Error::Protocol { code: 1002, reason: reason.clone() },
        Error::Timeout { waiting_for: "a message", after, source: None },
        Error::Unconfirmed { maybe_delivered: tickets.clone(), never_sent: tickets },
        Error::Send(SendErrorKind::Closed),
        serde_json::from_str::<()>("nonsense").unwrap_err().into(),
        serde_json::from_reader::<_, ()>(io::Read::chain(&b"["[..], Broken)).unwrap_err().into(),
        Error::Closed { reason: None },
        CloseReason::ByCaller.into_error(),
        Error::WouldDeadlock,
        Error::Forked,
        Error::Panicked { callback: INTERNAL },
        Error::Panicked { callback: "resolver" },
    ];
    for io in [io(), io::Error::other(Outer(io())), io::Error::other("no address")] {
        let source = Arc::new(io);
        errors.extend([
            Error::Resolve { host: host.clone(), source: Arc::clone(&source) },
            Error::Connect { host: host.clone(), source: Arc::clone(&source) },
            Error::ConnectTimeout {
                host: host.clone(),
                phase: Phase::Connect,
                after,
                source: Some(Arc::clone(&source)),
            },
            Error::System { what: "a thread", source },
        ]);
    }
    for cause in causes {
        errors.extend([
            Error::Tls {
                host: host.clone(),
                kind: TlsErrorKind::Other,
                reason: format!("broke: {cause}").into(),
                source: Arc::clone(&cause),
            },
            Error::ConnectionLost { source: Some(Arc::clone(&cause)) },
            Error::Upgrade {
                host: host.clone(),
                reason: format!("broke: {cause}").into(),
                source: Some(Arc::clone(&cause)),
            },
            by_proxy(ProxyErrorKind::Ended, Some(Arc::clone(&cause))),
        ]);
    }
    let cause: Cause = Arc::new(Outer(io()));
    errors.push(Error::Tls {
        host: host.clone(),
        kind: TlsErrorKind::Expired,
        reason: reason.clone(),
        source: Arc::clone(&cause),
    });
    errors.push(Error::Upgrade { host, reason, source: Some(cause) });
    let nested: Vec<_> = errors.iter().cloned().map(Arc::new).collect();
    for source in nested {
        errors.extend((0..3).map(|attempts| Error::GaveUp { attempts, source: Arc::clone(&source) }));
        let last = DisconnectReason::Lost((*source).clone());
        let ends = [
            CloseReason::Failed((*source).clone()),
            CloseReason::NotRetried(last.clone()),
            CloseReason::GaveUp { attempts: 2, last },
        ];
        errors.extend(ends.map(|reason| Error::Closed { reason: Some(Arc::new(reason)) }));
        let failures =
            Arc::new([("a:80".into(), Error::login_refused("no")), ("h:1".into(), (*source).clone())]);
        errors.push(Error::AllServersFailed { failures });
        errors.push(Error::Timeout { waiting_for: "a message", after, source: Some(source) });
    }
    errors
}

#[test]
fn a_socket_too_many_is_told_apart_from_a_thread_too_many() {
    let [sockets, threads] = TOO_MANY.map(|code| Arc::new(io::Error::from_raw_os_error(code)));
    let connect = |source: &Arc<io::Error>| {
        Error::Connect { host: "h:1".into(), source: Arc::clone(source) }.to_string()
    };
    assert!(connect(&sockets).contains("; close files or sockets"), "{}", connect(&sockets));
    assert_eq!(connect(&threads), format!("connecting to h:1: {threads}"));
    let thread = Error::System { what: "a thread", source: threads }.to_string();
    assert!(thread.contains("; end other threads"), "{thread}");
}

#[test]
fn each_server_that_failed_is_named_once_and_the_last_is_the_cause() {
    let refused = Arc::new(io::Error::other(Outer(io::Error::other("inner"))));
    let connect = Error::Connect { host: "b:80".into(), source: refused };
    let failures = Arc::new([("a:80".into(), Error::login_refused("no")), ("b:80".into(), connect)]);
    let error = Error::AllServersFailed { failures };
    let text =
        "all 2 servers failed: (1) a:80: the server refused the login: no; (2) connecting to b:80: outer";
    assert_eq!(chain(&error), [text, "inner"]);
}

/// A reader that fails.
struct Broken;

impl io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::from_raw_os_error(2))
    }
}

/// The texts of an error and of all its causes.
fn chain(error: &dyn StdError) -> Vec<String> {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

#[test]
fn a_text_says_nothing_of_what_is_behind_it_and_nothing_is_lost() {
    for error in every_error() {
        let chain = chain(&error);
        // Causes from other libraries may repeat their own.
        assert!(!chain[1..].iter().any(|behind| chain[0].contains(behind)), "{chain:?}");
        // The error that this one is made from is in its text, or in its chain of sources.
        let cause = error.cause().map(ToString::to_string).unwrap_or_default();
        assert!(chain.iter().any(|text| text.contains(&cause)), "{cause}: {chain:?}");
    }
}

#[test]
fn a_cause_that_the_text_does_not_name_is_behind_it() {
    let text = |error: &Error| error.source().map(ToString::to_string);
    let lost = Error::ConnectionLost { source: Some(Arc::new(Outer(io::Error::other("inner")))) };
    assert_eq!(
        (lost.to_string().as_str(), text(&lost).as_deref()),
        ("the connection broke: outer", Some("inner"))
    );
    let gave_up = Error::GaveUp { attempts: 3, source: Arc::new(lost) };
    assert_eq!(text(&gave_up).as_deref(), Some("inner"));
    let refused = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
    let error = Error::Connect { host: "h:1".into(), source: refused };
    assert_eq!(text(&error), None);
    assert!(
        matches!(error, Error::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    );
}

#[test]
fn what_main_prints_is_the_sentence_and_below_it_what_that_leaves_out() {
    for error in every_error() {
        let printed = format!("{error:?}");
        let sentence = error.to_string();
        let below = printed.strip_prefix(&sentence).expect("the sentence comes first");
        assert!(below.is_empty() || below.starts_with("\ncaused by: "), "{printed}");
        for cause in &chain(&error)[1..] {
            assert_eq!(printed.matches(cause).count(), 1, "{cause}: {printed}");
        }
        assert_eq!(format!("{error:#?}"), printed);
    }
    let cause = |source| Error::ConnectionLost { source: Some(source) };
    let lost = cause(Arc::new(Outer(io::Error::other("inner"))));
    assert_eq!(format!("{lost:?}"), "the connection broke: outer\ncaused by: inner");
}

#[test]
fn main_prints_the_servers_own_words_whatever_stands_around_them() {
    let body = b"<html>\n<p>Ask your administrator</p>".to_vec();
    let rejected =
        Error::UpgradeRejected(Arc::new(Rejection { body, ..Rejection::new(403, "Forbidden", Vec::new()) }));
    let answer = "\nthe server's answer:\n    <html>\n    <p>Ask your administrator</p>";
    assert_eq!(
        format!("{rejected:?}"),
        format!(
            "the server answered 403 Forbidden to the WebSocket upgrade; check the credentials, and the headers, such as \
             Origin{answer}"
        )
    );
    let after = Duration::from_secs(1);
    let source = Arc::new(rejected);
    let errors = [
        Error::GaveUp { attempts: 3, source: Arc::clone(&source) },
        Error::Timeout { waiting_for: "a message", after, source: Some(Arc::clone(&source)) },
        Error::Closed { reason: Some(Arc::new(CloseReason::Failed((*source).clone()))) },
    ];
    for error in errors {
        assert_eq!(format!("{error:?}"), format!("{error}{answer}"));
    }
}

#[test]
fn a_closed_client_says_why_whatever_was_asked_of_it() {
    let closed = |reason| Error::Closed { reason: Some(Arc::new(reason)) };
    let frame = || DisconnectReason::ClosedByServer(CloseFrame::new(1000, "bye"));
    let lost = || {
        DisconnectReason::Lost(Error::ConnectionLost {
            source: Some(Arc::new(Outer(io::Error::other("inner")))),
        })
    };
    for (reason, text) in [
        (CloseReason::ByCaller, "the application closed it"),
        (CloseReason::NotRetried(frame()), "the server closed the line with close code 1000: \"bye\""),
        (
            CloseReason::GaveUp { attempts: 1, last: lost() },
            "gave up after one reconnect attempt: the connection broke: outer",
        ),
        (
            CloseReason::Failed(Error::Panicked { callback: "resolver" }),
            "the application's resolver callback panicked",
        ),
    ] {
        let error = closed(reason.clone());
        assert_eq!(error.to_string(), format!("the client is closed: {text}"));
        let unsent =
            SendError::new("s3cret".into(), SendErrorKind::Closed).explained(|| Arc::new(reason.clone()));
        assert_eq!(unsent.to_string(), format!("{error}; the message is inside this error"));
        assert_eq!(chain(&unsent)[1..], chain(&error)[1..]);
        assert_eq!(
            format!("{unsent:?}").replace("; the message is inside this error", ""),
            format!("{error:?}")
        );
        assert_eq!(Error::from(unsent).to_string(), error.to_string());
    }
    assert_eq!(chain(&closed(CloseReason::NotRetried(lost())))[1..], ["inner"]);
    let unknown = "the client is closed; Client::wait_closed returns the reason";
    assert_eq!(Error::from(SendErrorKind::Closed).to_string(), unknown);
    assert_eq!(Error::from(RecvError).to_string(), unknown);
    let full = SendErrorKind::Full { messages: 1, bytes: 1 };
    let other = SendError::new("".into(), full).explained(|| panic!("the client is open"));
    assert!(matches!(Error::from(other), Error::Send(SendErrorKind::Full { .. })));
}
