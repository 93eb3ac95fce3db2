//! The same frames, cut into pieces in any way.

use super::input::{Input, cut};

use super::peer::codec;
use crate::compression::Compression;
use crate::config::ConnectionConfig;
use crate::error::{CloseFrame, Fault};
use crate::message::Message;
use crate::transport::link::Link;
use crate::transport::pipe::{End, Pipe, frame};
use crate::transport::socket::{Incoming, Socket};
use crate::transport::wire::Wire;

/// What a server sent, as the I/O thread receives it.
#[derive(Debug, PartialEq)]
enum Seen {
    Message(Message),
    Ping,
    Pong(Vec<u8>),
    Close(CloseFrame),
    Violation(u16, Box<str>),
    Broken,
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let config = ConnectionConfig::new("ws://h")
        .max_message_size(input.pick(&[1 << 20, 1, 125, 126, 1000]))
        .max_frame_size(input.pick(&[1 << 20, 1, 125, 1000]));
    let glued = usize::from(input.byte());
    let burst = input.pick(&[256 << 10, 1, 7, 100]);
    let seed = input.byte();
    let large = usize::from(input.short());
    let agreed = (seed & 0x80 != 0).then(Compression::default);
    let mut bytes = input.rest().to_vec();
    if let Some(behind) = bytes.len().checked_sub(large) {
        // A message that grows the buffers, somewhere in the middle.
        let large = vec![b'L'; 70_000];
        let message = match &agreed {
            Some(agreed) => frame(0xC2, &codec(agreed).deflate(&large, true, true)),
            None => frame(0x82, &large),
        };
        bytes.splice(behind..behind, message);
    }
    let bytes = &bytes[..];
    let whole = seen(&config, agreed.as_ref(), &[bytes], 0, 256 << 10);
    let (rest, behind) = bytes.split_at(glued.min(bytes.len()));
    let mut pieces = vec![rest];
    pieces.extend(cut(behind, seed));
    let in_pieces = seen(&config, agreed.as_ref(), &pieces, 1, burst);
    assert_eq!(whole, in_pieces, "it depends on how the frames are cut");
    check(&whole, &config);
}

/// Reads `pieces` to the end, each as one arrival. The first `glued` of them come together with the answer to the
/// upgrade.
fn seen(
    config: &ConnectionConfig,
    agreed: Option<&Compression>,
    pieces: &[&[u8]],
    glued: usize,
    burst: usize,
) -> Vec<Seen> {
    let pipe = Pipe::new();
    let rest = pieces[..glued].concat();
    let mut socket = Socket::new(Link::Plain(Wire::new(pipe.clone())), rest, config, agreed);
    let mut seen = Vec::new();
    for piece in &pieces[glued..] {
        if !read(&mut socket, burst, &mut seen) {
            return seen;
        }
        pipe.state().incoming.extend(*piece);
        socket.wire_mut().edge();
    }
    if read(&mut socket, burst, &mut seen) {
        pipe.end(End::Eof);
        socket.wire_mut().edge_of_end();
        assert!(!read(&mut socket, burst, &mut seen), "an end that is none");
    }
    seen
}

/// Reads what has arrived. Returns `false` at the end of the connection.
fn read(socket: &mut Socket<Pipe>, burst: usize, seen: &mut Vec<Seen>) -> bool {
    loop {
        socket.begin_burst(burst);
        let before = socket.traffic();
        seen.push(match socket.read() {
            Ok(Some(Incoming::Message(message))) => Seen::Message(message),
            Ok(Some(Incoming::Ping(_))) => Seen::Ping,
            Ok(Some(Incoming::Pong(payload))) => Seen::Pong(payload.to_vec()),
            Ok(Some(Incoming::Close(frame))) => Seen::Close(frame),
            Ok(None) if socket.has_more() => {
                // What was received before may have been inflated.
                let now = socket.traffic();
                let inflated = now.compressed_read.before > before.compressed_read.before;
                assert!(now.read > before.read || inflated, "a burst that brings nothing");
                continue;
            }
            Ok(None) => return true,
            Err(Fault::Broken(_)) => {
                seen.push(Seen::Broken);
                return false;
            }
            Err(Fault::Violation { code, reason }) => {
                seen.push(Seen::Violation(code, reason));
                return false;
            }
        });
    }
}

fn check(seen: &[Seen], config: &ConnectionConfig) {
    let closes = seen.iter().position(|seen| matches!(seen, Seen::Close(_)));
    for (at, seen) in seen.iter().enumerate() {
        let open = closes.is_none_or(|close| at <= close);
        match seen {
            Seen::Message(message) => assert!(open && message.len() <= config.max_message_size),
            Seen::Pong(payload) => assert!(open && payload.len() <= 125),
            Seen::Close(CloseFrame { code, reason, .. }) => {
                assert!(open && reason.len() <= 123);
                assert!(matches!(code, 1000..=1003 | 1005 | 1007..=1014 | 3000..=4999), "close code {code}");
            }
            Seen::Violation(code, _) => assert!(matches!(code, 1002 | 1007 | 1009)),
            Seen::Ping => assert!(open),
            Seen::Broken => {}
        }
    }
}
