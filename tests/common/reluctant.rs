//! A server that reads nothing until the test allows it, and messages that fill the buffers on the way to it.

use std::net::Shutdown;

use super::{MS, Server, accept_raw, read_frame};
use tautline::{Client, Message};

/// 8 KB that begin with `id`.
pub fn message(id: u64) -> Message {
    let mut payload = id.to_be_bytes().to_vec();
    payload.resize(8_000, 0);
    payload.into()
}

pub fn id(payload: &[u8]) -> u64 {
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}

/// A server whose first connection reads nothing until it is released. Then it reads everything, after a half-close if
/// the test asks for one. The server reports what each connection received, when the connection has ended or has
/// received `u64::MAX`.
pub fn reluctant(
    half_close: bool,
) -> (Server, crossbeam_channel::Sender<()>, crossbeam_channel::Receiver<Vec<u64>>) {
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let (seen_in, seen) = crossbeam_channel::unbounded();
    let server = Server::start(move |n, stream| {
        let mut stream = accept_raw(stream);
        if n == 0 {
            go.recv().unwrap();
            if half_close {
                stream.shutdown(Shutdown::Write).unwrap();
            }
        }
        let mut received = Vec::new();
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            if opcode == 2 {
                received.push(id(&payload));
                if received.last() == Some(&u64::MAX) {
                    break;
                }
            }
        }
        seen_in.send(received).unwrap();
    });
    (server, go_in, seen)
}

/// Sends until nothing moves any more, and returns how many messages were accepted. The system's buffers are full then:
/// it is not just that the I/O thread is late.
pub fn fill(client: &Client) -> u64 {
    (0..u64::MAX).find(|n| client.send_timeout(message(*n), 100 * MS).is_err()).unwrap()
}
