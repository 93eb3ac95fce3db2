#![expect(clippy::disallowed_methods, reason = "an Instant has no other source")]

use std::sync::Arc;

use super::*;
use crate::config::ConnectionConfig;
use crate::handshake::Handshake;

fn open(id: u64, stage: Stage) -> Connection {
    let config = ConnectionConfig::new("ws://test.example");
    let handshake = Arc::new(Handshake::new(Some(([192, 0, 2, 1], 80).into()), None));
    Connection::new(ConnectionId(id), handshake, stage, &config, 0, false)
}

fn leaving(id: u64, heard: bool) -> Connection {
    open(id, Stage::Leaving { until: Instant::now(), heard })
}

/// Connection 3 carries the line; 1 and 2 are leaving, and the messages of 2 are ignored.
fn line(successor: Option<Successor>) -> Line {
    let leaving = vec![leaving(1, true), leaving(2, false)];
    Line::Up(Box::new(Up { current: open(3, Stage::Ready), successor, leaving, ready: None }))
}

fn roles(line: &Line) -> [Option<Role>; 4] {
    [1, 2, 3, 4].map(|id| line.role(ConnectionId(id)))
}

#[test]
fn each_open_connection_has_a_role() {
    use Role::{Current, Dismissed, Predecessor};
    let open = line(Some(Successor::Open(Box::new(open(4, Stage::Ready)))));
    assert_eq!(roles(&open), [Some(Predecessor), Some(Dismissed), Some(Current), Some(Role::Successor)]);
    let dialling = line(Some(Successor::Dialling { id: ConnectionId(4), until: None }));
    assert_eq!(roles(&dialling), [Some(Predecessor), Some(Dismissed), Some(Current), None]);
    for without in [Line::Down, Line::Dialling(None), Line::Closed] {
        assert_eq!(roles(&without), [None; 4], "{without:?}");
    }
}

#[test]
fn the_connections_come_in_the_order_of_their_attempts_and_each_is_found_by_its_number() {
    let mut line = line(Some(Successor::Open(Box::new(open(4, Stage::Ready)))));
    let numbers: Vec<u64> = line.connections().map(|connection| connection.id.0).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    let numbers: Vec<u64> = line.connections_mut().map(|connection| connection.id.0).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    for id in [1, 2, 3, 4].map(ConnectionId) {
        assert_eq!(line.connection(id).map(|found| found.id), Some(id));
        assert_eq!(line.connection_mut(id).map(|found| found.id), Some(id));
    }
    assert!(line.connection(ConnectionId(5)).is_none() && line.connection_mut(ConnectionId(5)).is_none());
}

#[test]
fn an_attempt_of_a_move_is_no_connection_yet() {
    let line = line(Some(Successor::Dialling { id: ConnectionId(4), until: None }));
    assert!(line.is_dialling_successor(ConnectionId(4)) && !line.is_dialling_successor(ConnectionId(3)));
    assert!(line.successor().is_none() && line.connection(ConnectionId(4)).is_none());
    assert!(!line.has_standby());
}

#[test]
fn a_line_is_ready_with_its_current_connection_whatever_the_others_are() {
    assert_eq!(line(None).ready().map(|connection| connection.id), Some(ConnectionId(3)));
    let mut left = line(Some(Successor::Open(Box::new(open(4, Stage::Ready)))));
    left.current_mut().unwrap().stage = Stage::Leaving { until: Instant::now(), heard: true };
    assert!(left.ready().is_none());
}
