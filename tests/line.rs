//! The main job: connect, talk, close.

mod common;

use common::{LONG, Server};
use tautline::{Client, CloseReason, ConnectionState};

#[test]
fn a_client_connects_talks_and_closes() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    assert_eq!(client.state(), ConnectionState::Connected);
    let ticket = client.send("hello").unwrap();
    assert_eq!(ticket.number(), 1);
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
    let left = client.close();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(client.state(), ConnectionState::Closed);
    assert!(matches!(client.closed(), CloseReason::ByCaller));
}
