use super::*;

fn config() -> ConnectionConfig {
    ConnectionConfig::new("ws://h")
}

#[test]
fn the_defaults_are_valid() {
    assert!(config().check().is_ok());
    assert!(config().spin(Duration::from_millis(1)).thread_stack(1 << 30).check().is_ok());
    assert!(config().reconnect(ReconnectConfig::never()).heartbeat(HeartbeatConfig::off()).check().is_ok());
}

#[test]
fn a_bad_setting_is_named_with_what_it_is_and_what_is_allowed() {
    let reconnect = ReconnectConfig::default;
    let second = Duration::from_secs(1);
    let zero = Duration::ZERO;
    for (config, says) in vec![
        (
            config().reconnect(reconnect().multiplier(0.0)),
            "reconnect.multiplier can't be used: it is 0; a number of at",
        ),
        (
            config().reconnect(reconnect().multiplier(0.5)),
            "reconnect.multiplier can't be used: it is 0.5; a number",
        ),
        (
            config().reconnect(reconnect().multiplier(f64::NAN)),
            "reconnect.multiplier can't be used: it is NaN; a number",
        ),
        (
            config().reconnect(reconnect().multiplier(f64::INFINITY)),
            "reconnect.multiplier can't be used: it is inf",
        ),
        (
            config().reconnect(reconnect().initial_delay(zero)),
            "reconnect.initial_delay can't be used: it is zero",
        ),
        (
            config().reconnect(reconnect().initial_delay(second * 31)),
            "reconnect.initial_delay can't be used: it is 31s, more than max_delay (30s): raise max_delay or lower initial_delay",
        ),
        (
            config().heartbeat(HeartbeatConfig::default().interval(zero)),
            "heartbeat.interval can't be used: it is 0ns; at least 1 ms is needed",
        ),
        (
            config().heartbeat(HeartbeatConfig::default().timeout(zero)),
            "heartbeat.timeout can't be used: it is 0ns; at least 1 ms is needed",
        ),
        (config().max_message_size(0), "max_message_size can't be used: it is 0; at least 1 is needed"),
        (config().max_frame_size(0), "max_frame_size can't be used: it is 0; at least 1 is needed"),
        (config().max_response_size(0), "max_response_size can't be used: it is 0; at least 1 is needed"),
        (
            config().outbox(QueueLimit::new(0, 1)),
            "outbox.messages can't be used: it is 0; at least 1 is needed",
        ),
        (config().outbox(QueueLimit::new(1, 0)), "outbox.bytes can't be used: it is 0; at least 1 is needed"),
        (
            config().events(QueueLimit::new(0, 1)),
            "events.messages can't be used: it is 0; at least 1 is needed",
        ),
        (config().events(QueueLimit::new(1, 0)), "events.bytes can't be used: it is 0; at least 1 is needed"),
        (config().fragment(0), "fragment can't be used: it is 0; at least 1 is needed"),
        (
            config().delivery(Delivery::AtLeastOnce).heartbeat(HeartbeatConfig::off()),
            "delivery can't be used: it is AtLeastOnce, which needs the confirmations of Beat::WebSocketPing or of Confirmation::Acknowledgement, but heartbeat.beat is Off",
        ),
        (
            config().spin(Duration::from_millis(1) + Duration::from_nanos(1)),
            "spin can't be used: it is 1.000001ms; at most 1ms is allowed",
        ),
        (
            config().thread_stack((384 << 10) - 1),
            "thread_stack can't be used: it is 393215 bytes; 393216 to 1073741824 are allowed",
        ),
        (config().thread_stack((1 << 30) + 1), "it is 1073741825 bytes; 393216 to 1073741824 are allowed"),
        (config().thread_stack(usize::MAX), "bytes; 393216 to 1073741824 are allowed"),
        (
            config().proxy(Proxy::new("socks4://ann:s3cret@h")),
            "the setting proxy can't be used: its scheme is socks4://, which is SOCKS 4; it must be http://",
        ),
        (config().subprotocol("a b"), "subprotocol"),
        (config().subprotocol(""), "subprotocol"),
        (config().subprotocol("a").subprotocol("a"), "twice"),
        (
            config().subprotocol("bearer.s3cret").subprotocol("bearer.s3cret"),
            r#""bearer.***" is offered twice"#,
        ),
        (config().subprotocol("bearer.s3cret x"), r#"the name that begins with "bearer.***" has a ' '"#),
        (
            config().header("X-A", "s3cret\r\nX-B: 2"),
            "setting headers can't be used: the value of X-A has a control character",
        ),
        (config().header("X A", "s3cret"), r#"the name that begins with "X" has a ' '"#),
        (
            config().header("Authorization: s3cret", ""),
            r#"the name that begins with "Authorization" has a ':'"#,
        ),
        (
            config().header("Authorization:s3cret", ""),
            r#"the name that begins with "Authorization" has a ':'"#,
        ),
        (config().header("(s3cret)", ""), "a name begins with '('"),
        (config().subprotocol("Bearer s3cret"), r#"the name that begins with "Bearer" has a ' '"#),
        (config().header("", "s3cret"), "a name is empty"),
        (config().header("upgrade", "h2c"), "set by the client"),
        (config().header("Sec-WebSocket-Protocol", "chat"), "use subprotocol"),
    ] {
        let error = config.check().expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_bad_setting_of_the_network_is_named_with_what_it_is_and_what_is_allowed() {
    let (network, second) = (NetworkConfig::default, Duration::from_secs(1));
    for (config, says) in [
        (config().redirects(21), "redirects can't be used: it is 21; at most 20 are allowed"),
        (config().realtime(0), "realtime can't be used: it is 0; at least 1 is needed"),
        (
            config().realtime(65_537),
            "realtime can't be used: it is 65537, and so much memory would be allocated at once; at most 65536 is allowed",
        ),
        (
            config().network(network().attempt_delay(Duration::from_nanos(9_999_999))),
            "network.attempt_delay can't be used: it is 9.999999ms; at least 10ms is needed",
        ),
        (
            config().network(network().keepalive(Duration::from_millis(999))),
            "network.keepalive can't be used: it is 999ms; 1s to 32767s are allowed",
        ),
        (
            config().network(network().keepalive(second * 32_768)),
            "network.keepalive can't be used: it is 32768s; 1s to 32767s are allowed",
        ),
        (
            config().network(network().send_buffer(0)),
            "network.send_buffer can't be used: it is 0 bytes; 1 to 2147483647 are allowed",
        ),
        (
            config().network(network().receive_buffer(1 << 31)),
            "network.receive_buffer can't be used: it is 2147483648 bytes; 1 to 2147483647 are allowed",
        ),
        (
            config().network(network().family(AddressFamily::Ipv6Only).local_address([127, 0, 0, 1].into())),
            "network.local_address can't be used: it is 127.0.0.1, but network.family is Ipv6Only",
        ),
    ] {
        let error = config.check().expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_bad_setting_of_tls_is_named_with_what_it_is_and_what_is_allowed() {
    for (config, says) in [
        (
            config()
                .tls(TlsConfig::default().root(Certificate::from_pem("")).root(Certificate::from_der(""))),
            "tls.roots can't be used: number 1 of 2: it is not PEM",
        ),
        (
            config().tls(TlsConfig::default().identity(Identity::from_pem("", ""))),
            "tls.identity can't be used: its certificate: it is not PEM",
        ),
        (
            config().tls(TlsConfig::default().pin("ab:cd")),
            "tls.pins can't be used: number 1 is not a SHA-256 fingerprint; write its 64 hex digits",
        ),
        (
            config().tls(TlsConfig::default().server_name("h:443")),
            "tls.server_name can't be used: it is more than a host name",
        ),
        (
            config().tls(TlsConfig::default().only_these_roots(true)),
            "tls.only_these_roots can't be used: it is true, but there are no roots",
        ),
    ] {
        let error = config.check().expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn a_time_of_zero_is_refused_by_name_where_it_makes_no_sense() {
    let zero = Duration::ZERO;
    for (config, setting) in [
        (config().connect_timeout(zero), "connect_timeout"),
        (config().login_timeout(zero), "login_timeout"),
        (config().close_timeout(zero), "close_timeout"),
        (config().write_timeout(zero), "write_timeout"),
        (config().idle_timeout(zero), "idle_timeout"),
        (config().max_age(zero), "max_age"),
    ] {
        let says = format!("the setting {setting} can't be used: it is zero; it must be longer");
        assert_eq!(config.check().expect_err(setting).to_string(), says);
    }
}

#[test]
fn a_bad_list_of_servers_says_what_is_wrong_and_names_each_bad_url_by_its_place() {
    for (config, says) in [
        (
            config().servers([""; 0]),
            "servers can't be used: the list is empty; name at least one server, or leave the setting out",
        ),
        (
            ConnectionConfig::from([""; 0]),
            "servers can't be used: the list is empty; name at least one server",
        ),
        (
            config().servers(["ws://i", "http://s3cret:s3cret@j/s3cret"]),
            "servers can't be used: the URL of server 3 of 3: its scheme is http://; it must start with",
        ),
        (
            ConnectionConfig::from(vec!["ws://i:s3cret", "ws://j", ""]),
            "the URL of server 1 of 3: its port is not a number from 1 to 65535; the URL of server 3 of 3: it has no scheme",
        ),
        (
            config().servers((1..=1024).map(|n| format!("ws://h{n}"))),
            "servers can't be used: the list has 1025 servers; at most 1024 are allowed",
        ),
    ] {
        let error = config.check().expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn a_list_is_the_url_and_the_further_servers_each_of_them_once() {
    let list = |config: ConnectionConfig| config.server_list().unwrap().join(" ");
    assert_eq!(list(config().servers(["ws://i", "ws://j"])), "ws://h ws://i ws://j");
    assert_eq!(list(ConnectionConfig::from(["ws://h", "ws://i", "ws://j"])), "ws://h ws://i ws://j");
    assert_eq!(list(config().servers(["ws://i"]).servers(["ws://j"])), "ws://h ws://i ws://j");
    assert_eq!(list(ConnectionConfig::from(["ws://h"])), "ws://h");
    assert_eq!(
        list(config().servers(["ws://h", "ws://h:80/", "ws://h/x", "wss://h"])),
        "ws://h ws://h/x wss://h"
    );
    assert!(
        ConnectionConfig::from((0..1024).map(|n| format!("ws://h{n}")).collect::<Vec<_>>()).check().is_ok()
    );
}

#[test]
fn one_url_that_cannot_be_used_is_still_no_list() {
    for config in [ConnectionConfig::new("http://h"), ConnectionConfig::from(["http://h"])] {
        assert!(matches!(config.check(), Err(Error::InvalidUrl { .. })));
    }
}

#[test]
fn debug_output_keeps_secrets() {
    let config = ConnectionConfig::new("wss://bob:s3cret@h/x?token=s3cret").header("Cookie", "s3cret");
    let config = config.servers(["wss://bob:s3cret@i/s3cret", "s3cret"]);
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("s3cret") && shown.contains("wss://h:443") && shown.contains("Cookie"),
        "{shown}"
    );
    assert!(shown.contains(r#"servers: Some(["wss://i:443", "unusable"])"#), "{shown}");
    assert!(!format!("{:?}", ConnectionConfig::new("s3cret")).contains("s3cret"));
    let config = config.header("Authorization: Bearer s3cret", "").subprotocol("bearer s3cret");
    let shown = format!("{config:?}");
    assert!(!shown.contains("s3cret") && shown.contains("\"Authorization\""), "{shown}");
    let config =
        ConnectionConfig::new("ws://h").subprotocol("access_token").subprotocol("s3cret").subprotocol("mqtt");
    let shown = format!("{config:?}");
    assert!(shown.contains(r#"["access_token", "***", "mqtt"]"#), "{shown}");
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
fn a_deadline_too_far_away_never_comes() {
    let now = Instant::now();
    assert!(deadline(now, Duration::MAX) > now + Duration::from_secs(60 * 60 * 24 * 365));
}

#[test]
fn a_name_that_some_system_would_cut_or_refuse_is_no_name_for_threads() {
    for name in ["", "a long name", "two words", "é", "a\0", "01234567890"] {
        let error = config().thread_name(name).check().unwrap_err().to_string();
        let expected = format!(
            "thread_name can't be used: it is {name:?}; 1 to 10 printable ASCII characters without a space are allowed"
        );
        assert!(error.ends_with(&expected), "{error}");
    }
}

#[test]
fn no_message_may_be_larger_than_a_buffer_that_doubles_whatever_is_set() {
    let set = |size| ConnectionConfig::new("ws://h").max_message_size(size).largest_message();
    assert_eq!(set(1_000), 1_000);
    assert_eq!(set(usize::MAX).checked_mul(2), Some(isize::MAX as usize - 1));
}
