//! Memory grows with what arrives, not with what a header announces. The largest allocation is that of the whole process.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/heap.rs"]
mod heap;

use std::io::Write;

use common::{Server, accept_raw, disconnected, eventually, read_frames, wait_for};
use tautline::{Client, ConnectionConfig, DisconnectReason, Error, HeartbeatConfig};

const MIB: usize = 1 << 20;

/// The longest message that is taken without a limit of the application's: a buffer that doubles can hold it.
const MOST: u64 = isize::MAX as u64 / 2;

type Configure = fn(ConnectionConfig) -> ConnectionConfig;

/// The start of a frame of this length.
fn header(first: u8, length: u64) -> Vec<u8> {
    [&[first, 127][..], &length.to_be_bytes()].concat()
}

#[test]
fn a_frame_takes_memory_as_it_arrives_and_not_as_its_header_says() {
    let unlimited = |config: ConnectionConfig| config.max_message_size(usize::MAX).max_frame_size(usize::MAX);
    let cases: [(&str, u64, usize, Configure); 4] = [
        ("64 MiB, the default limit", (64 << 20) - 1, 3, |config| config),
        ("1 TiB, no limit", 1 << 40, 3, unlimited),
        ("2 EiB, no limit", 1 << 61, 3, unlimited),
        ("1 TiB, and only the header comes", 1 << 40, 0, unlimited),
    ];
    for (what, length, arrive, configure) in cases {
        // In 32 bits a TiB is refused at once. The first byte counts, too.
        let length = length.min(MOST - 1);
        let server = Server::start(move |_, stream| {
            let mut stream = accept_raw(stream);
            stream.write_all(&[vec![0x01, 1, b'A'], header(0x80, length)].concat()).unwrap();
            let part = vec![b'B'; MIB];
            (0..arrive).for_each(|_| stream.write_all(&part).unwrap());
            read_frames(&mut stream);
        });
        let config = ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::off());
        let client = Client::connect(configure(config)).unwrap();
        heap::measure();
        let received = || usize::try_from(client.stats().bytes_read).unwrap();
        eventually("all that arrives", || received() >= 13 + arrive * MIB);
        // A buffer that doubles, and the piece that is announced next.
        let largest = heap::largest();
        assert!(largest <= 2 * arrive * MIB + 2 * MIB, "{what}: {largest} bytes at once");
        assert_eq!(client.stats().disconnects, 0, "{what}");
        let _ = client.terminate();
    }
}

#[test]
fn a_length_that_nothing_could_hold_is_refused_whatever_the_limits() {
    for length in [MOST + 1, i64::MAX as u64] {
        let server = Server::start(move |_, stream| {
            let mut stream = accept_raw(stream);
            stream.write_all(&header(0x82, length)).unwrap();
            assert_eq!(read_frames(&mut stream), [(8, 1009_u16.to_be_bytes().to_vec())]);
        });
        let config = ConnectionConfig::new(server.url()).max_message_size(usize::MAX);
        let client = Client::connect(config.max_frame_size(usize::MAX)).unwrap();
        let (reason, _) = wait_for(&client, disconnected);
        assert!(matches!(reason, DisconnectReason::Lost(Error::Protocol { code: 1009, .. })), "{reason}");
        let _ = client.terminate();
    }
}
