//! Single lines of text that are parsed: `Retry-After`, URLs, headers.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::answer::request_of;
use super::input::Input;
use crate::config::{ConnectionConfig, Jitter, ReconnectConfig};
use crate::endpoint::Endpoint;
use crate::error::{Error, Rejection};
use crate::event::{DisconnectReason, Event};
use crate::protocol::{Loss, UpgradeRequest};
use crate::session::{Action, Session, Startup};
use crate::transport::tls;

/// A refusal with this `Retry-After`, at any time of the wall clock.
pub(super) fn retry_after(data: &[u8], now: Instant) {
    let mut input = Input::new(data);
    let status = input.pick(&[503, 429, 408, 425, 500, 404, 302]);
    let wall = wall(&mut input);
    let cap = Duration::from_secs(u64::from(input.short()));
    let later = now + Duration::from_millis(u64::from(input.short()));
    let value = String::from_utf8_lossy(input.rest()).into_owned();
    let headers = vec![("Retry-After".to_owned(), value.clone())];
    let rejection = Rejection::new(status, "", headers);
    let error = Error::UpgradeRejected(Arc::new(rejection));
    let reason = DisconnectReason::ConnectFailed(error.clone());
    let down = Loss {
        reason: &reason,
        url: "ws://h",
        ever_ready: true,
        ready_for: None,
        attempts: 1,
        failures: 1,
        max_delay: Duration::from_secs(30),
        fetches: false,
        refreshed: false,
        has_other: false,
        rest: Duration::ZERO,
    };
    let wall_then = wall.checked_add(later - now).unwrap_or(wall);
    let asked = down.retry_after(wall_then);
    let digits = value.trim();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = digits.parse().unwrap_or(u64::MAX);
        assert_eq!(asked, Some(Duration::from_secs(seconds)));
    } else if let Some(asked) = asked {
        let until = httpdate::parse_http_date(digits).expect("a date");
        assert_eq!(asked, until.duration_since(wall_then).unwrap_or_default());
    }

    let config = ConnectionConfig::new("ws://h")
        .retry_after_cap(cap)
        .reconnect(ReconnectConfig::default().jitter(Jitter::None));
    let mut session =
        Session::new(config, None, Startup::default(), (now, wall)).expect("a good configuration");
    session.start(now);
    session.handle_dial_failed(later, 1, error);
    let mut planned = None;
    while let Some(action) = session.poll_action() {
        if let Action::Schedule(plan) = action {
            planned = Some(plan);
        }
    }
    let retry_in = std::iter::from_fn(|| session.poll_event()).find_map(|event| match event {
        Event::Disconnected { retry_in, .. } => retry_in,
        _ => None,
    });
    assert_eq!(planned.map(|plan| plan.delay), retry_in);
    let first = ReconnectConfig::default().initial_delay;
    if matches!(status, 404 | 302) {
        assert_eq!(planned, None, "refused for good");
    } else {
        let delay = planned.expect("another attempt").delay;
        assert_eq!(delay, asked.unwrap_or_default().min(cap).max(first), "asked for {asked:?}");
    }
}

/// Any time that a clock can show.
fn wall(input: &mut Input<'_>) -> SystemTime {
    let before = input.flag();
    let nanoseconds = u32::from(input.short()) * 10_000;
    let distance = Duration::new(input.long() >> (input.byte() & 63), nanoseconds);
    let epoch = SystemTime::UNIX_EPOCH;
    let wall = if before { epoch.checked_sub(distance) } else { epoch.checked_add(distance) };
    wall.unwrap_or(epoch)
}

/// Long enough not to occur in anything else by chance.
const SECRET: &str = "s3cretS3cret";

/// A URL that may hold a secret where secrets belong, and headers. If they are accepted, the request is as configured.
/// Accepted or not, the secret is not shown.
pub(super) fn url_and_headers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default();
    let (url, secret) = match first.strip_prefix('!') {
        Some(pattern) => (secretive(pattern), true),
        None => (first.to_owned(), false),
    };
    // Among good ones, it is as good, and shows as little.
    let among = ConnectionConfig::from(["ws://one", &url, "ws://three"]);
    let in_list = among.check();
    let mut config = ConnectionConfig::new(&url);
    assert_eq!(config.check().is_ok(), in_list.is_ok(), "{in_list:?}");
    for line in lines {
        config = match line.split_once(':') {
            Some((name, value)) => config.header(name, value.replace('$', SECRET)),
            None => config.subprotocol(line),
        };
    }
    let checked = config.check();
    let request = UpgradeRequest::new(&config);
    let mut shown = format!("{config:?} {request:?} {among:?} {in_list:?}");
    shown.extend(in_list.err().map(|error| error.to_string()));
    match (&checked, request.check()) {
        (Ok(servers), Ok(endpoint)) => {
            let endpoint = &endpoint;
            assert_eq!(servers, std::slice::from_ref(endpoint));
            shown = format!("{shown} {endpoint} {endpoint:?}");
            sound(endpoint);
            // Without TLS built in, nothing is dialled over it.
            if tls::require(endpoint).is_ok() {
                dialled(endpoint, &config);
            }
        }
        (Err(error), Err(again)) => shown = format!("{shown} {error} {error:?} {again}"),
        other => panic!("two opinions: {other:?}"),
    }
    if secret && !text.contains(SECRET) {
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

/// A URL with the secret in its password or, if it has none, in its query: `scheme|user|host|path`.
fn secretive(pattern: &str) -> String {
    let mut parts = pattern.splitn(4, '|');
    let mut part = || parts.next().unwrap_or_default();
    let (scheme, user, host, path) = (part(), part(), part(), part());
    if user.is_empty() {
        format!("{scheme}://{host}/{path}?{SECRET}")
    } else {
        format!("{scheme}://{user}:{SECRET}@{host}/{path}?{SECRET}")
    }
}

fn sound(endpoint: &Endpoint) {
    let Endpoint { host, port, resource, .. } = endpoint;
    assert!(!host.is_empty() && *port > 0 && resource.starts_with('/'), "{endpoint:?}");
    assert!(host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@[]\\".contains(&byte)), "{host}");
    assert!(resource.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{resource}");
    assert_eq!(host.contains(':'), host.parse::<std::net::Ipv6Addr>().is_ok(), "{host}");
    let scheme = if endpoint.secure { "wss" } else { "ws" };
    let again = Endpoint::parse(&format!("{scheme}://{endpoint}{resource}")).expect("its own text");
    assert_eq!(again, Endpoint { userinfo: None, ..endpoint.clone() });
}

/// The request contains what was configured, and nothing else.
fn dialled(endpoint: &Endpoint, config: &ConnectionConfig) {
    let head = request_of(config);
    let mut headers = vec![httparse::EMPTY_HEADER; head.len()];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(&head).expect("our request is HTTP");
    assert_eq!(parsed, httparse::Status::Complete(head.len()), "nothing behind the head");
    assert_eq!((request.method, request.path), (Some("GET"), Some(&*endpoint.resource)));
    let values = |name: &str| -> Vec<String> {
        let named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| String::from_utf8_lossy(header.value).into_owned()).collect()
    };
    let given = |name: &str| config.headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    for (name, value) in &config.headers {
        let value = value.trim_matches([' ', '\t']);
        assert!(values(name).iter().any(|sent| sent.trim_matches([' ', '\t']) == value), "{name}");
    }
    assert_eq!(values("Host").len(), 1);
    assert!(given("Host") || values("Host")[0] == endpoint.host_header());
    assert_eq!((values("Upgrade"), values("Connection")), (vec!["websocket".into()], vec!["Upgrade".into()]));
    let offered = (!config.subprotocols.is_empty()).then(|| config.subprotocols.join(", "));
    assert_eq!(values("Sec-WebSocket-Protocol").first(), offered.as_ref());
    assert_eq!(
        values("Authorization").len(),
        usize::from(given("Authorization") || endpoint.userinfo.is_some())
    );
    let ours = [endpoint.userinfo.is_some() && !given("Authorization"), offered.is_some(), !given("Host")];
    let ours = 4 + ours.into_iter().filter(|present| *present).count();
    assert_eq!(request.headers.len(), config.headers.len() + ours, "lines that nobody asked for");
}
