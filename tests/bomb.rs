//! What a bomb costs: a compressed message that would become a gibibyte. One test, since it looks at the whole process.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/deflate.rs"]
mod deflate;
#[path = "common/proc.rs"]
mod proc;

use std::io::Write;

use common::{LONG, Server, config, wait_for};
use deflate::Peer;
use proc::Peak;
use tautline::{Client, Compression, DisconnectReason, Error, Event};

/// The largest message that is allowed.
const LIMIT: usize = 8 << 20;

/// What may be taken besides.
const SLACK: usize = 1 << 20;

#[test]
fn a_bomb_takes_no_more_memory_than_the_largest_message() {
    let (go, goes) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |_, stream| {
        let mut peer = Peer::accept(stream, "permessage-deflate");
        // Small pieces, so that the C library does not come to keep what is freed.
        let mut zeros = peer.deflated(&vec![0; 64 << 10]);
        zeros.extend([0, 0, 0xFF, 0xFF]);
        let bomb = zeros.repeat(16 << 10);
        let head = [&[0xC2, 127][..], &(bomb.len() as u64).to_be_bytes()].concat();
        // What the client keeps for good is there before it is measured.
        peer.send(1, "ready ".repeat(20_000).as_bytes(), usize::MAX).unwrap();
        if goes.recv().is_err() {
            return;
        }
        let _ = peer.stream.write_all(&head).and_then(|()| peer.stream.write_all(&bomb));
        while peer.read().is_some() {}
    });
    let config = config(&server.url()).compression(Compression::default()).max_message_size(LIMIT);
    let client = Client::connect(config).unwrap();
    client.recv_timeout(LONG).unwrap();
    let peak = Peak::new();
    go.send(()).unwrap();
    let error = wait_for(&client, |event| match event {
        Event::Disconnected { reason: DisconnectReason::Lost(error), .. } => Some(error),
        _ => None,
    });
    let peak = peak.bytes();
    assert!(matches!(error, Error::Protocol { code: 1009, .. }), "{error}");
    assert!(peak <= LIMIT + SLACK, "{peak} bytes at the peak");
}
