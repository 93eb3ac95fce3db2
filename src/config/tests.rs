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
fn a_bad_setting_is_named() {
    let reconnect = ReconnectConfig::default;
    let second = Duration::from_secs(1);
    let zero = Duration::ZERO;
    for (config, says) in [
        (config().reconnect(reconnect().multiplier(0.0)), "reconnect.multiplier"),
        (config().reconnect(reconnect().multiplier(0.5)), "reconnect.multiplier"),
        (config().reconnect(reconnect().multiplier(f64::NAN)), "reconnect.multiplier"),
        (config().reconnect(reconnect().multiplier(f64::INFINITY)), "reconnect.multiplier"),
        (config().reconnect(reconnect().initial_delay(zero)), "reconnect.initial_delay"),
        (
            config().reconnect(reconnect().initial_delay(second * 31)),
            "raise max_delay or lower initial_delay",
        ),
        (config().heartbeat(HeartbeatConfig::default().interval(zero)), "heartbeat.interval"),
        (config().heartbeat(HeartbeatConfig::default().timeout(zero)), "heartbeat.timeout"),
        (config().connect_timeout(zero), "connect_timeout"),
        (config().close_timeout(zero), "close_timeout"),
        (config().write_timeout(zero), "write_timeout"),
        (config().max_message_size(0), "max_message_size"),
        (config().max_frame_size(0), "max_frame_size"),
        (config().max_response_size(0), "max_response_size"),
        (config().outbox(Limit::new(0, 1)), "outbox"),
        (config().events(Limit::new(1, 0)), "events"),
        (config().spin(Duration::from_millis(1) + Duration::from_nanos(1)), "spin"),
        (config().thread_stack((384 << 10) - 1), "thread_stack"),
        (config().thread_stack((1 << 30) + 1), "thread_stack"),
        (config().thread_stack(usize::MAX), "thread_stack"),
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
fn debug_output_keeps_secrets() {
    let config = ConnectionConfig::new("wss://bob:s3cret@h/x?token=s3cret").header("Cookie", "s3cret");
    let shown = format!("{config:?}");
    assert!(
        !shown.contains("s3cret") && shown.contains("wss://h:443") && shown.contains("Cookie"),
        "{shown}"
    );
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
