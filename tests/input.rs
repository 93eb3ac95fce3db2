//! Bad input is refused before anything is sent, with what and where, and the message given back.

mod common;

use std::time::Duration;

use common::{LONG, Server};
use tautline::{Client, ConnectionConfig, Error, HeartbeatConfig, ReconnectConfig, SendErrorKind};

#[test]
fn a_bad_url_or_setting_is_an_error_of_connect_and_of_start() {
    let config = || ConnectionConfig::new("ws://127.0.0.1:9");
    for (config, says) in [
        (ConnectionConfig::new("http://h"), "http://"),
        (ConnectionConfig::new("ws://"), "no host"),
        (ConnectionConfig::new("ws://h:99999"), "port"),
        (ConnectionConfig::new(" ws://h"), "white space"),
        (ConnectionConfig::new("ws://h/#x"), "fragment"),
        (config().header("X-A", "1\r\nX-B: 2"), "X-A"),
        (config().subprotocol("a,b"), "subprotocol"),
        (config().reconnect(ReconnectConfig::default().multiplier(f64::NAN)), "reconnect.multiplier"),
        (config().heartbeat(HeartbeatConfig::default().interval(Duration::ZERO)), "heartbeat.interval"),
    ] {
        for error in [Client::connect(&config).unwrap_err(), Client::start(&config).unwrap_err()] {
            assert!(matches!(error, Error::InvalidUrl { .. } | Error::InvalidConfig { .. }), "{error:?}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}

#[test]
fn a_bad_close_frame_is_refused_and_the_line_stays_open() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    for (code, reason, says) in [(1005, "", "1005"), (999, "", "999"), (1000, &*"x".repeat(124), "124 bytes")]
    {
        let error = client.close_with(code, reason).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { .. }));
        assert!(error.to_string().contains(says), "{error}");
    }
    client.send("still open").unwrap();
    assert!(client.recv_timeout(LONG).is_ok());
}

#[test]
fn a_message_over_the_limit_comes_back() {
    let server = Server::echo();
    let client = Client::connect(ConnectionConfig::new(server.url()).max_message_size(100)).unwrap();
    let error = client.send(vec![7; 101]).unwrap_err();
    assert!(matches!(error.kind(), SendErrorKind::TooLarge { size: 101, limit: 100, .. }));
    assert_eq!(
        error.to_string(),
        "the message has 101 bytes; max_message_size allows 100; the message is inside this error"
    );
    assert_eq!(error.into_message().len(), 101);
    client.send(vec![7; 100]).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().len(), 100);
}

#[test]
fn waits_for_ever_and_no_time_at_all_are_fine() {
    let server = Server::echo();
    let client = Client::connect(ConnectionConfig::new(server.url()).connect_timeout(Duration::MAX)).unwrap();
    client.wait_ready(Duration::MAX).unwrap();
    client.send_timeout("x", Duration::MAX).unwrap();
    assert!(client.recv_timeout(Duration::MAX).is_ok());
    assert!(matches!(client.recv_timeout(Duration::ZERO), Err(Error::Timeout { .. })));
    assert!(client.wait_closed_timeout(Duration::ZERO).is_err());
}
