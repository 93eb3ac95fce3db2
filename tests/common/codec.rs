//! DEFLATE on the server's side of `permessage-deflate` (RFC 7692), a message at a time: for the servers of the tests and of
//! the fuzzers' model, and without the library's own code.
#![allow(dead_code, reason = "each user needs its own part")]
#![allow(unreachable_pub, reason = "a module that several crates include")]

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

pub struct Codec {
    inflate: Decompress,
    deflate: Compress,
    /// Whether each message stands alone: of the client's, and of the server's.
    forgets: (bool, bool),
}

const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

impl Codec {
    /// Whether each message stands alone: of the client's, and of the server's.
    pub fn new(forgets: (bool, bool)) -> Self {
        let deflate = Compress::new(Compression::new(6), false);
        Self { inflate: Decompress::new(false), deflate, forgets }
    }

    /// The client's message, or what can be told of it if it is not `whole`.
    pub fn inflate(&mut self, mut payload: Vec<u8>, whole: bool) -> Vec<u8> {
        if self.forgets.0 {
            self.inflate.reset(false);
        }
        payload.extend(TAIL.iter().filter(|_| whole));
        let inflate = &mut self.inflate;
        through(&payload, |rest, chunk| {
            let (read, written) = (inflate.total_in(), inflate.total_out());
            inflate.decompress(rest, chunk, FlushDecompress::Sync).expect("the client's DEFLATE");
            (inflate.total_in() - read, inflate.total_out() - written)
        })
    }

    /// A message of the server's, or a piece of it.
    pub fn deflate(&mut self, payload: &[u8], is_first: bool, is_last: bool) -> Vec<u8> {
        if is_first && self.forgets.1 {
            self.deflate.reset();
        }
        let deflate = &mut self.deflate;
        let mut made = through(payload, |rest, chunk| {
            let (read, written) = (deflate.total_in(), deflate.total_out());
            deflate.compress(rest, chunk, FlushCompress::Sync).expect("deflating can't fail");
            (deflate.total_in() - read, deflate.total_out() - written)
        });
        if is_last {
            match made.strip_suffix(&TAIL).map(<[u8]>::len) {
                Some(length) => made.truncate(length),
                // Nothing, behind a piece that was complete: a byte says so (section 7.2.3.6).
                None => made = vec![0],
            }
        }
        made
    }
}

/// Passes `input` through a coder, until that has room left. It returns how much it took and made.
fn through(input: &[u8], mut code: impl FnMut(&[u8], &mut [u8]) -> (u64, u64)) -> Vec<u8> {
    let (mut rest, mut whole, mut chunk) = (input, Vec::new(), vec![0; 64 << 10]);
    loop {
        let (taken, made) = code(rest, &mut chunk);
        let [taken, made] = [taken, made].map(|count| usize::try_from(count).expect("it fits in memory"));
        whole.extend_from_slice(&chunk[..made]);
        rest = &rest[taken..];
        if rest.is_empty() && made < chunk.len() {
            return whole;
        }
    }
}
