//! Frames written past tungstenite, whose buffer takes a copy of each frame and never shrinks.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};

/// A frame is masked and written in pieces of this size; a multiple of the mask's.
const PIECE: usize = 64 << 10;

/// Writes a client's frame (RFC 6455, section 5.2): `first` is its first byte, the final bit and the opcode.
pub(super) fn write(out: &mut impl Write, first: u8, payload: &[u8]) -> io::Result<()> {
    let mask = mask();
    let mut buffer = Vec::with_capacity(PIECE.min(payload.len()) + 14);
    buffer.push(first);
    match payload.len() {
        // The casts keep what the patterns allow.
        #[expect(clippy::cast_possible_truncation, reason = "at most 125")]
        short @ 0..=125 => buffer.push(0x80 | short as u8),
        #[expect(clippy::cast_possible_truncation, reason = "at most 65,535")]
        middle @ 126..=0xFFFF => {
            buffer.push(0x80 | 0x7E);
            buffer.extend((middle as u16).to_be_bytes());
        }
        long => {
            buffer.push(0x80 | 0x7F);
            buffer.extend((long as u64).to_be_bytes());
        }
    }
    buffer.extend(mask);
    let mut pieces = payload.chunks(PIECE);
    loop {
        let start = buffer.len();
        let piece = pieces.next().unwrap_or_default();
        buffer.extend_from_slice(piece);
        apply(mask, &mut buffer[start..]);
        if !buffer.is_empty() {
            out.write_all(&buffer)?;
        }
        if piece.len() < PIECE {
            return Ok(());
        }
        buffer.clear();
    }
}

fn apply(mask: [u8; 4], bytes: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// Must not be predictable (section 5.3): a keyed hash, with keys that the system drew.
fn mask() -> [u8; 4] {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

    #[test]
    fn a_server_reads_frames_of_every_size_as_they_were() {
        let sizes = [0, 1, 7, 8, 125, 126, 65_535, 65_536, PIECE - 1, PIECE + 1, 2 * PIECE, 3 * PIECE + 5];
        for size in sizes {
            let payload: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut wire = Vec::new();
            write(&mut wire, 0x82, &payload).unwrap();
            write(&mut wire, 0x81, b"next").unwrap();
            let config = WebSocketConfig::default();
            let mut server = WebSocket::from_raw_socket(Cursor::new(wire), Role::Server, Some(config));
            assert_eq!(server.read().unwrap(), Message::binary(payload), "{size} bytes");
            assert_eq!(server.read().unwrap(), Message::text("next"));
        }
    }

    #[test]
    fn masks_differ() {
        assert!((0..8).map(|_| mask()).collect::<std::collections::HashSet<_>>().len() > 1);
    }
}
