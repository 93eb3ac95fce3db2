//! A server that compresses: `permessage-deflate` (RFC 7692), written without the library's own code.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module that several test crates include")]

use std::io::{Read, Write};
use std::net::TcpStream;

#[path = "codec.rs"]
mod codec;

use codec::Codec;

use crate::common::{frame, good_answer, read_head};

/// The server's side of a connection.
pub struct Peer<S = TcpStream> {
    pub stream: S,
    /// The head of the request.
    pub request: String,
    codec: Codec,
}

/// A message or a control frame of the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub opcode: u8,
    pub payload: Vec<u8>,
    pub was_compressed: bool,
    /// How many bytes of payload there were on the wire, in how many frames.
    pub on_wire: usize,
    pub frames: usize,
}

impl<S: Read + Write> Peer<S> {
    /// Accepts the upgrade with these extensions.
    pub fn accept(stream: S, extensions: &str) -> Self {
        Self::accept_if_whole(stream, extensions).expect("a whole request")
    }

    /// The same, if the whole request comes.
    pub fn accept_if_whole(mut stream: S, extensions: &str) -> Option<Self> {
        let request = read_head(&mut stream);
        if !request.ends_with("\r\n\r\n") {
            return None;
        }
        let more = format!("Sec-WebSocket-Extensions: {extensions}\r\n");
        // Whoever is gone by now ends the reading, too.
        let _ = stream.write_all(good_answer(&request, &more).as_bytes());
        let forgets = |side: &str| extensions.contains(&format!("{side}_no_context_takeover"));
        Some(Self { stream, request, codec: Codec::new((forgets("client"), forgets("server"))) })
    }

    /// The next message or control frame, whatever stands between the fragments. `None` at the end of the stream.
    pub fn read(&mut self) -> Option<Seen> {
        let mut whole: Option<(u8, Vec<u8>, usize)> = None;
        loop {
            let (first, payload) = self.read_frame()?;
            let (last, opcode) = (first & 0x80 != 0, first & 0x0F);
            if opcode >= 8 {
                assert_eq!(first & 0x40, 0, "a control frame is never compressed");
                if opcode == 9 {
                    self.stream.write_all(&frame(0x8A, &payload)).ok()?;
                }
                let on_wire = payload.len();
                if whole.is_none() {
                    return Some(Seen { opcode, payload, was_compressed: false, on_wire, frames: 1 });
                }
                continue;
            }
            match &mut whole {
                None => whole = Some((first, payload, 1)),
                Some((_, so_far, frames)) => {
                    assert_eq!(first & 0x7F, 0, "a fragment that continues");
                    so_far.extend(payload);
                    *frames += 1;
                }
            }
            if last {
                let (first, payload, frames) = whole?;
                let (was_compressed, on_wire) = (first & 0x40 != 0, payload.len());
                let payload = if was_compressed { self.inflated(payload) } else { payload };
                return Some(Seen { opcode: first & 0x0F, payload, was_compressed, on_wire, frames });
            }
        }
    }

    /// The next frame: its first byte, and its payload, unmasked.
    pub fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let width = match head[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mut length = [0; 8];
        self.stream.read_exact(&mut length[8 - width..]).ok()?;
        let length = if width == 0 { u64::from(head[1] & 0x7F) } else { u64::from_be_bytes(length) };
        let mut mask = [0; 4];
        self.stream.read_exact(&mut mask).ok()?;
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).ok()?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        Some((head[0], payload))
    }

    /// What a compressed message is.
    pub fn inflated(&mut self, payload: Vec<u8>) -> Vec<u8> {
        self.codec.inflate(payload, true)
    }

    /// The payload of a compressed message.
    pub fn deflated(&mut self, payload: &[u8]) -> Vec<u8> {
        self.codec.deflate(payload, true, true)
    }

    /// Sends a compressed message, in fragments of this size, with an empty ping between them.
    pub fn send(&mut self, opcode: u8, payload: &[u8], fragment: usize) -> std::io::Result<()> {
        let made = self.deflated(payload);
        let mut wire = Vec::new();
        let count = made.len().div_ceil(fragment).max(1);
        for at in 0..count {
            let piece = &made[at * fragment..made.len().min((at + 1) * fragment)];
            let first = if at == 0 { 0x40 | opcode } else { 0 } | if at + 1 == count { 0x80 } else { 0 };
            wire.extend(frame(first, piece));
            if at + 1 < count {
                wire.extend(frame(0x89, b""));
            }
        }
        self.stream.write_all(&wire)
    }

    /// Sends every message back, compressed. Control frames are answered; a close ends it.
    pub fn echo(mut self, fragment: usize) {
        while let Some(seen) = self.read() {
            let sent = match seen.opcode {
                8 => return drop(self.stream.write_all(&frame(0x88, &seen.payload))),
                1 | 2 => self.send(seen.opcode, &seen.payload, fragment),
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    }
}
