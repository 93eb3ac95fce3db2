//! The same frames, cut into pieces in any way, and read in both ways: whole messages straight from the stream, or all by
//! tungstenite.

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
    let glued = input.byte();
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
    let whole = seen(Socket::read_slowly, &config, agreed.as_ref(), &[bytes], 0, 256 << 10);
    let (rest, behind) = bytes.split_at(usize::from(glued).min(bytes.len()));
    let mut pieces = vec![rest];
    // Pieces of all sizes, with compression or without.
    pieces.extend(cut(behind, seed ^ (glued & 0x80)));
    let in_pieces = seen(Socket::read_slowly, &config, agreed.as_ref(), &pieces, 1, burst);
    assert_eq!(whole.0, in_pieces.0, "it depends on how the frames are cut");
    let straight = seen(Socket::read, &config, agreed.as_ref(), &[bytes], 0, 256 << 10);
    assert_eq!(whole, straight, "the two ways of reading differ");
    let straight = seen(Socket::read, &config, agreed.as_ref(), &pieces, 1, burst);
    assert_eq!(in_pieces, straight, "the two ways of reading differ where the frames are cut");
    check(&whole.0, &config);
}

/// A way of reading.
type Way = fn(&mut Socket<Pipe>) -> Result<Option<Incoming>, Fault>;

/// Reads `pieces` to the end, each as one arrival. The first `glued` of them come together with the answer to the
/// upgrade. Returns what was seen, and after each arrival before the end what the socket counts of messages.
fn seen(
    way: Way,
    config: &ConnectionConfig,
    agreed: Option<&Compression>,
    pieces: &[&[u8]],
    glued: usize,
    burst: usize,
) -> (Vec<Seen>, Vec<(u64, bool)>) {
    let pipe = Pipe::new();
    let rest = pieces[..glued].concat();
    let mut socket = Socket::new(Link::Plain(Wire::new(pipe.clone())), rest, config, agreed);
    let (mut seen, mut counts) = (Vec::new(), Vec::new());
    for piece in &pieces[glued..] {
        let goes_on = read(way, &mut socket, burst, &mut seen);
        // What comes behind a close frame is dropped, or ends the connection, as it happens to be read.
        if !matches!(seen.last(), Some(Seen::Close(_) | Seen::Broken)) {
            counts.push(socket.messages_so_far());
        }
        if !goes_on {
            return (seen, counts);
        }
        pipe.state().incoming.extend(*piece);
        socket.wire_mut().edge();
    }
    let goes_on = read(way, &mut socket, burst, &mut seen);
    if goes_on {
        if !matches!(seen.last(), Some(Seen::Close(_))) {
            counts.push(socket.messages_so_far());
        }
        pipe.end(End::Eof);
        socket.wire_mut().edge_of_end();
        assert!(!read(way, &mut socket, burst, &mut seen), "an end that is none");
    }
    (seen, counts)
}

/// Reads what has arrived. Returns `false` at the end of the connection.
fn read(way: Way, socket: &mut Socket<Pipe>, burst: usize, seen: &mut Vec<Seen>) -> bool {
    loop {
        socket.begin_burst(burst);
        let before = socket.traffic();
        seen.push(match way(socket) {
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

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::run;
    use crate::transport::pipe::frame;

    /// A frame of a kind that occurs on a line, and sometimes one that breaks a rule.
    fn any_frame() -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            12 => prop::sample::select(&[0x81_u8, 0x82][..]),
            2 => prop::sample::select(&[0x89_u8, 0x8A][..]),
            1 => prop::sample::select(&[0xC1_u8, 0x83, 0x00, 0x91][..]),
        ];
        let size = prop_oneof![8 => 0_usize..125, 2 => 125_usize..300, 1 => 4000_usize..20_000];
        let letter = prop_oneof![40 => Just(b'a'), 1 => Just(0xFF)];
        let single = (first, size, letter).prop_map(|(first, size, letter)| {
            let size = if first & 8 == 0 { size } else { size.min(125) };
            frame(first, &vec![letter; size])
        });
        let pieces = (any::<bool>(), 0_usize..200).prop_map(|(text, size)| {
            let payload = vec![b'p'; size];
            [
                frame(if text { 1 } else { 2 }, &payload),
                frame(0x8A, b""),
                frame(0, &payload),
                frame(0x80, b"!"),
            ]
            .concat()
        });
        let close = Just(frame(0x88, &[3, 232]));
        prop_oneof![30 => single, 3 => pieces, 1 => close]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn both_ways_of_reading_bring_the_same(
            (limits, rest) in ((0_u8..5, 0_u8..4), (any::<u8>(), 0_u8..4, any::<u8>(), any::<u16>())),
            roomy in prop::bool::weighted(0.8),
            frames in vec(any_frame(), 1..40),
        ) {
            let (max_message, max_frame) = if roomy { (0, 0) } else { limits };
            let (glued, burst, seed, large) = rest;
            let [high, low] = large.to_be_bytes();
            let head = vec![max_message, max_frame, glued, burst, seed, high, low];
            run(&[head, frames.concat()].concat());
        }
    }
}
