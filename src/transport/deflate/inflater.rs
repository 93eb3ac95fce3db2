//! The server's compressed messages.

use flate2::{Decompress, FlushDecompress, Status};

use crate::compression::Compression;
use crate::stats::Compressed;

/// Inflates the messages of one connection, piece by piece.
pub(crate) struct Inflater {
    /// Made for the first compressed message.
    state: Option<Box<Decompress>>,
    forgets: bool,
    /// How long a message may become.
    pub(crate) most: u64,
    /// How long the present message is so far.
    size: u64,
    /// Whether a block begins here without what was left out: nothing of the message has come, or its last block has ended.
    is_at_block: bool,
    /// The payloads of all messages.
    pub(crate) counts: Compressed,
}

/// What was left out at the end of a message, and a stored block of no bytes. That changes nothing where a block may begin;
/// in the middle of one, it makes something.
const END: [u8; 9] = [0, 0, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF];

/// Why a message can't be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bomb {
    /// It becomes longer than a message may be.
    TooLong,
    /// It is not what DEFLATE makes.
    Broken,
}

impl Inflater {
    /// Messages may become `most` bytes long.
    pub(crate) fn new(agreed: &Compression, most: u64) -> Self {
        let forgets = agreed.server_no_context_takeover;
        Self { state: None, forgets, most, size: 0, is_at_block: true, counts: Compressed::default() }
    }

    /// A message begins.
    pub(crate) fn begin(&mut self) {
        if let Some(state) = self.state.as_mut().filter(|_| self.forgets) {
            state.reset(false);
        }
        (self.size, self.is_at_block) = (0, true);
    }

    /// Inflates some of `input` into `output`. Returns how many bytes it took and made. When all is taken and room is left,
    /// there is no more.
    pub(crate) fn inflate(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), Bomb> {
        let state = self.state.get_or_insert_with(|| Box::new(Decompress::new(false)));
        let (read, written) = (state.total_in(), state.total_out());
        let status = state.decompress(input, output, FlushDecompress::Sync);
        let since = |count: u64, before: u64| usize::try_from(count - before).unwrap_or(usize::MAX);
        let (taken, made) = (since(state.total_in(), read), since(state.total_out(), written));
        let is_stuck = taken == 0 && made == 0 && !input.is_empty() && !output.is_empty();
        let is_last = matches!(status, Ok(Status::StreamEnd));
        match status {
            // A last block, and more may follow (section 7.2.3.4).
            Ok(Status::StreamEnd) => state.reset(false),
            Ok(Status::Ok | Status::BufError) if !is_stuck => {}
            _ => return Err(Bomb::Broken),
        }
        self.size += made as u64;
        self.is_at_block = is_last || self.is_at_block && taken == 0;
        self.counts.before += made as u64;
        self.counts.after += taken as u64;
        if self.size > self.most { Err(Bomb::TooLong) } else { Ok((taken, made)) }
    }

    /// The payload of the message is complete, and all of it is inflated. Checks that nothing is missing: what was left out at
    /// its end completes a block, and makes nothing. `scratch` has room for a byte.
    pub(crate) fn finish(&mut self, scratch: &mut [u8]) -> Result<(), Bomb> {
        // Some servers send an empty message as nothing at all, where it takes a byte (section 7.2.3.6), and some a last block
        // without the one that follows it (section 7.2.3.4).
        if self.is_at_block {
            return Ok(());
        }
        let counts = self.counts;
        let mut rest = &END[..];
        while !rest.is_empty() {
            let (taken, made) = self.inflate(rest, scratch)?;
            if made > 0 {
                return Err(Bomb::Broken);
            }
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.counts = counts;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::deflate::{Deflater, TAIL};

    fn inflater(agreed: &Compression) -> Inflater {
        Inflater::new(agreed, 1 << 20)
    }

    /// Inflates one message whose payload comes `size` bytes at a time, into pieces of `room` bytes.
    fn message(inflater: &mut Inflater, payload: &[u8], size: usize, room: usize) -> Result<Vec<u8>, Bomb> {
        let (mut whole, mut output) = (Vec::new(), vec![0; room]);
        inflater.begin();
        for mut chunk in payload.chunks(size) {
            loop {
                let (taken, made) = inflater.inflate(chunk, &mut output)?;
                whole.extend(&output[..made]);
                chunk = &chunk[taken..];
                if chunk.is_empty() && made < room {
                    break;
                }
            }
        }
        inflater.finish(&mut output)?;
        Ok(whole)
    }

    /// The examples of RFC 7692, section 7.2.3.
    #[test]
    fn the_messages_of_the_rfc_say_hello() {
        let mut inflater = inflater(&Compression::default());
        for payload in [
            &[0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00][..],
            &[0xF2, 0x00, 0x11, 0x00, 0x00],
            &[0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00],
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00],
            &[0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00],
            &[0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00],
        ] {
            assert_eq!(message(&mut inflater, payload, 1, 64).as_deref(), Ok(&b"Hello"[..]), "{payload:x?}");
        }
        assert_eq!(message(&mut inflater, &[0x00], 1, 64).as_deref(), Ok(&b""[..]), "section 7.2.3.6");
        assert_eq!(message(&mut inflater, &[], 1, 64).as_deref(), Ok(&b""[..]));
        let hello = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];
        assert_eq!(message(&mut inflater, &hello, 1, 64).as_deref(), Ok(&b"Hello"[..]), "after that");
    }

    #[test]
    fn whatever_is_deflated_is_inflated_however_it_is_cut() {
        let mut random = fastrand::Rng::with_seed(7);
        for forgets in [false, true] {
            let agreed = Compression::default()
                .client_no_context_takeover(forgets)
                .server_no_context_takeover(forgets)
                .threshold(0);
            let (mut deflater, mut inflater) = (Deflater::new(&agreed), inflater(&agreed));
            for _ in 0..200 {
                let text: String = (0..random.usize(0..3_000)).map(|_| random.char('a'..'e')).collect();
                let Some(payload) = deflater.whole(text.as_bytes(), true) else { continue };
                let back = message(&mut inflater, payload, random.usize(1..900), random.usize(1..900));
                assert!(back.as_deref() == Ok(text.as_bytes()));
            }
            assert!(inflater.counts.after * 2 < inflater.counts.before);
        }
    }

    #[test]
    fn what_becomes_too_long_and_what_is_broken_is_told_apart() {
        let zeros = vec![0; 1 << 20];
        let agreed = Compression::default();
        let payload = Deflater::new(&agreed).whole(&zeros, true).unwrap().to_vec();
        let mut strict = Inflater::new(&agreed, (1 << 20) - 1);
        assert_eq!(message(&mut strict, &payload, 100, 1000), Err(Bomb::TooLong));
        assert!(strict.counts.before <= 1 << 20, "no more than one piece over it");
        assert_eq!(message(&mut inflater(&agreed), &payload, 100, 1000).as_deref(), Ok(&zeros[..]));
        let text = "hello hello world, this is some text".repeat(3);
        let whole = Deflater::new(&agreed).whole(text.as_bytes(), true).unwrap().to_vec();
        assert!(message(&mut inflater(&agreed), &whole, 100, 64).is_ok());
        for cut in 1..whole.len() {
            assert_eq!(
                message(&mut inflater(&agreed), &whole[..cut], 100, 64),
                Err(Bomb::Broken),
                "{cut} bytes"
            );
        }
        let unstripped = [&whole[..], &TAIL].concat();
        assert_eq!(message(&mut inflater(&agreed), &unstripped, 100, 64), Err(Bomb::Broken));
        for broken in [&[0xFF; 9][..], &[0x00, 0x05, 0x00, 0xFA, 0xFE, 1]] {
            assert_eq!(message(&mut inflater(&agreed), broken, 1, 64), Err(Bomb::Broken), "{broken:x?}");
        }
    }

    #[test]
    fn a_server_that_promised_to_forget_can_not_refer_to_an_earlier_message() {
        let text = "the same words again and again".as_bytes();
        let mut deflater = Deflater::new(&Compression::default().threshold(0));
        let payloads = [(); 2].map(|()| deflater.whole(text, true).unwrap().to_vec());
        assert!(payloads[1].len() * 2 < payloads[0].len());
        let mut inflater = inflater(&Compression::default().server_no_context_takeover(true));
        assert_eq!(message(&mut inflater, &payloads[0], 10, 64).as_deref(), Ok(text));
        assert_eq!(message(&mut inflater, &payloads[1], 10, 64), Err(Bomb::Broken));
    }
}
