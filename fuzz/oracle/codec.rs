//! The server's side of `permessage-deflate` (RFC 7692), a message at a time.

use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress};

use crate::compression::Compression;

pub(super) struct Codec {
    inflate: Decompress,
    deflate: Compress,
    /// Whether each message stands alone: of the client's, and of the server's.
    forgets: (bool, bool),
}

const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

impl Codec {
    pub(super) fn new(agreed: &Compression) -> Self {
        Self {
            inflate: Decompress::new(false),
            deflate: Compress::new(Level::new(6), false),
            forgets: (agreed.client_no_context_takeover, agreed.server_no_context_takeover),
        }
    }

    /// The client's message, or what can be told of it if it is not `whole`.
    pub(super) fn inflate(&mut self, payload: &[u8], whole: bool) -> Vec<u8> {
        if self.forgets.0 {
            self.inflate.reset(false);
        }
        let tail: &[u8] = if whole { &TAIL } else { &[] };
        let (input, mut message, mut chunk) = ([payload, tail].concat(), Vec::new(), [0; 4096]);
        let mut rest = &input[..];
        loop {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            self.inflate.decompress(rest, &mut chunk, FlushDecompress::Sync).expect("the client's DEFLATE");
            rest = &rest[size(self.inflate.total_in() - read)..];
            let made = size(self.inflate.total_out() - written);
            message.extend(&chunk[..made]);
            if rest.is_empty() && made < chunk.len() {
                return message;
            }
        }
    }

    /// A piece of a message of ours.
    pub(super) fn deflate(&mut self, payload: &[u8], is_first: bool, is_last: bool) -> Vec<u8> {
        if is_first && self.forgets.1 {
            self.deflate.reset();
        }
        let (mut rest, mut made, mut chunk) = (payload, Vec::new(), [0; 4096]);
        loop {
            let (read, written) = (self.deflate.total_in(), self.deflate.total_out());
            self.deflate.compress(rest, &mut chunk, FlushCompress::Sync).expect("deflating can't fail");
            rest = &rest[size(self.deflate.total_in() - read)..];
            let length = size(self.deflate.total_out() - written);
            made.extend(&chunk[..length]);
            if rest.is_empty() && length < chunk.len() {
                break;
            }
        }
        if !is_last {
            return made;
        }
        match made.strip_suffix(&TAIL) {
            Some(made) => made.to_vec(),
            // Nothing, behind a piece that was complete: a byte says so (section 7.2.3.6).
            None => vec![0],
        }
    }
}

fn size(count: u64) -> usize {
    usize::try_from(count).expect("it fits in memory")
}
