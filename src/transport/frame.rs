//! A client's frames (RFC 6455, section 5.2).

use std::hash::{BuildHasher, RandomState};
use std::io;

use tungstenite::handshake::client::generate_key;

/// A large frame is masked and written in pieces of this size, which is a multiple of the mask's. The peer takes one piece
/// while the next is masked. Between shorter ones it would fall asleep and be woken, which costs more; longer ones do not
/// stay in the processor's cache.
const PIECE: usize = 256 << 10;

/// Makes what frames need of this thread, which is the generator of their masks.
///
/// Its first use registers a destructor, and that takes the lock under which the system loads and unloads libraries. A
/// thread that comes to it only with its close frame would wait for a library's destructor, which waits for that frame.
pub(crate) fn prepare() {
    // The key of an upgrade comes from the same generator, which is tungstenite's.
    let _ = generate_key();
}

/// Appends a frame. `first` is its first byte: the final bit and the opcode.
pub(super) fn append(buffer: &mut Vec<u8>, first: u8, mask: [u8; 4], payload: &[u8]) {
    head(buffer, first, mask, payload.len());
    masked(buffer, mask, payload);
}

/// Writes a frame piece by piece through `buffer`, which is empty before and after.
pub(super) fn pieces(
    buffer: &mut Vec<u8>,
    first: u8,
    mask: [u8; 4],
    payload: &[u8],
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    head(buffer, first, mask, payload.len());
    for piece in payload.chunks(PIECE) {
        masked(buffer, mask, piece);
        let written = write(buffer);
        buffer.clear();
        written?;
    }
    Ok(())
}

fn head(buffer: &mut Vec<u8>, first: u8, mask: [u8; 4], length: usize) {
    buffer.push(first);
    match length {
        // The match arms ensure that the casts lose nothing.
        #[expect(clippy::cast_possible_truncation, reason = "at most 125")]
        short @ 0..=125 => buffer.push(0x80 | short as u8),
        #[expect(clippy::cast_possible_truncation, reason = "at most 65,535")]
        middle @ 126..=0xFFFF => {
            buffer.push(0x80 | 0x7E);
            buffer.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            buffer.push(0x80 | 0x7F);
            buffer.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    buffer.extend_from_slice(&mask);
}

fn masked(buffer: &mut Vec<u8>, mask: [u8; 4], payload: &[u8]) {
    let start = buffer.len();
    buffer.extend_from_slice(payload);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = buffer[start..].as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

/// The masks of a connection. They must not be predictable (section 5.3): each is a keyed hash of a counter, with keys
/// that the system drew.
#[derive(Default)]
pub(super) struct Masks {
    keys: RandomState,
    count: u64,
    /// The second half of a hash: each gives two masks.
    spare: Option<[u8; 4]>,
}

impl Masks {
    #[expect(clippy::cast_possible_truncation, reason = "each half is a mask")]
    pub(super) fn next(&mut self) -> [u8; 4] {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        self.count += 1;
        let hash = self.keys.hash_one(self.count);
        self.spare = Some(((hash >> 32) as u32).to_ne_bytes());
        (hash as u32).to_ne_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::io::Cursor;
    use tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};

    #[test]
    fn a_server_reads_frames_of_every_size_as_they_were() {
        let sizes = [0, 1, 7, 8, 125, 126, 65_535, 65_536, PIECE - 1, PIECE + 1, 2 * PIECE, 3 * PIECE + 5];
        let mut masks = Masks::default();
        for size in sizes {
            let payload: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let (mut wire, mut buffer) = (Vec::new(), Vec::new());
            append(&mut wire, 0x82, masks.next(), &payload);
            let in_pieces = |piece: &[u8]| {
                wire.extend(piece);
                Ok(())
            };
            if size > 0 {
                pieces(&mut buffer, 0x82, masks.next(), &payload, in_pieces).unwrap();
            } else {
                append(&mut wire, 0x82, masks.next(), &payload);
            }
            append(&mut wire, 0x81, masks.next(), b"next");
            let config = WebSocketConfig::default();
            let mut server = WebSocket::from_raw_socket(Cursor::new(wire), Role::Server, Some(config));
            for _ in 0..2 {
                assert_eq!(server.read().unwrap(), Message::binary(payload.clone()), "{size} bytes");
            }
            assert_eq!(server.read().unwrap(), Message::text("next"));
        }
    }

    #[test]
    fn masks_differ() {
        let draw = |mut masks: Masks| (0..100).map(|_| masks.next()).collect::<Vec<_>>();
        let drawn: HashSet<_> =
            [draw(Masks::default()), draw(Masks::default())].concat().into_iter().collect();
        assert!(drawn.len() > 190, "{} of 200", drawn.len());
    }
}
