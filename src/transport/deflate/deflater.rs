//! The client's messages, compressed.

use flate2::{Compress, FlushCompress};

use crate::compression::Compression;
use crate::message::Position;
use crate::stats::Compressed;
use crate::transport::deflate::TAIL;

/// With takeover, a message is compressed although it grows by a few bytes, so that later ones have it to refer to: short
/// messages do not shrink without others before them. In all, they may grow by as much, and by a part of all payloads.
const MOST_GROWTH: usize = 16;
const GROWTH: u64 = 256;
const PAYLOAD_PER_GROWTH: u64 = 256;

/// The least room for another call of the coder.
const ROOM: usize = 256;

/// Deflates the messages of one connection, in the order in which they go out.
pub(crate) struct Deflater {
    /// Made for the first message that is compressed.
    state: Option<Box<Compress>>,
    level: u32,
    forgets: bool,
    threshold: usize,
    /// What the last call has made: so many bytes of it.
    output: Vec<u8>,
    length: usize,
    /// Whether the message that is under way in fragments is compressed.
    is_compressing: bool,
    /// How many bytes went through the coder, also in vain.
    seen: u64,
    /// By how much messages have grown.
    grown: u64,
    /// The payloads of all messages that were compressed.
    pub(crate) counts: Compressed,
}

impl Deflater {
    pub(crate) fn new(agreed: &Compression) -> Self {
        Self {
            state: None,
            level: agreed.level,
            forgets: agreed.client_no_context_takeover,
            threshold: agreed.smallest(),
            output: Vec::new(),
            length: 0,
            is_compressing: false,
            seen: 0,
            grown: 0,
            counts: Compressed::default(),
        }
    }

    /// How many bytes went through the coder so far.
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    /// The compressed form of a message, unless it goes out as it is. `wanted`: it may be compressed.
    pub(crate) fn whole(&mut self, payload: &[u8], wanted: bool) -> Option<&[u8]> {
        (wanted && self.begin(payload, payload.len())).then(|| self.made(payload, true))
    }

    /// The compressed form of a piece of a message, like [`whole`](Self::whole). The first piece decides.
    pub(crate) fn piece(&mut self, position: Position, payload: &[u8], wanted: bool) -> Option<&[u8]> {
        if let Position::First { of, .. } = position {
            self.is_compressing = wanted && self.begin(payload, of);
        } else if self.is_compressing {
            self.deflate(payload);
        }
        let is_last = position == Position::Last;
        self.is_compressing.then(|| self.made(payload, is_last))
    }

    /// Deflates the beginning of a message of `length` bytes. Returns whether it goes out compressed: whether that makes it
    /// shorter.
    fn begin(&mut self, payload: &[u8], length: usize) -> bool {
        // The end of a message can't be told from nothing: zlib makes nothing of it.
        if length < self.threshold || payload.is_empty() {
            return false;
        }
        if let Some(state) = self.state.as_mut().filter(|_| self.forgets) {
            state.reset();
        }
        let may_grow = !self.forgets && self.grown < GROWTH + self.counts.before / PAYLOAD_PER_GROWTH;
        let growth = if may_grow { MOST_GROWTH } else { 0 };
        let pays = self.deflate(payload) && self.length < payload.len() + TAIL.len() + growth;
        if pays {
            self.grown += self.length.saturating_sub(payload.len() + TAIL.len()) as u64;
        }
        if !pays && let Some(state) = &mut self.state {
            // The server does not get what this message has put into the window.
            state.reset();
        }
        pays
    }

    /// Deflates up to a byte's boundary, into an empty output. It can't fail; if it did, the message goes out as it is.
    fn deflate(&mut self, payload: &[u8]) -> bool {
        let level = self.level;
        let state =
            self.state.get_or_insert_with(|| Box::new(Compress::new(flate2::Compression::new(level), false)));
        self.seen += payload.len() as u64;
        self.length = 0;
        let mut rest = payload;
        loop {
            if self.output.len() - self.length < ROOM {
                self.output.resize(self.length + rest.len() / 4 + 2 * ROOM, 0);
            }
            let (read, written) = (state.total_in(), state.total_out());
            if state.compress(rest, &mut self.output[self.length..], FlushCompress::Sync).is_err() {
                return false;
            }
            let since = |count: u64, before: u64| usize::try_from(count - before).unwrap_or(usize::MAX);
            rest = rest.get(since(state.total_in(), read)..).unwrap_or_default();
            self.length += since(state.total_out(), written);
            // With room left, nothing is held back any more.
            if rest.is_empty() && self.length < self.output.len() {
                return true;
            }
        }
    }

    /// What was deflated of this payload.
    fn made(&mut self, payload: &[u8], is_last: bool) -> &[u8] {
        let made = &self.output[..self.length];
        let made = made.strip_suffix(&TAIL).filter(|_| is_last).unwrap_or(made);
        self.counts.before += payload.len() as u64;
        self.counts.after += made.len() as u64;
        made
    }

    /// Frees the memory that a large message has left behind.
    pub(crate) fn shrink(&mut self) {
        (self.output, self.length) = (Vec::new(), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_or_does_not_shrink_goes_out_as_it_is() {
        let mut deflater = Deflater::new(&Compression::default());
        assert_eq!(deflater.whole(&[b'a'; 31], true), None);
        assert_eq!(Deflater::new(&Compression::default().threshold(0)).whole(b"", true), None);
        assert!(deflater.state.is_none(), "and takes no memory");
        let mut random = fastrand::Rng::with_seed(3);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(500_000).collect();
        assert_eq!(deflater.whole(&noise, true), None);
        assert!(deflater.whole(&[b'a'; 32], true).is_some_and(|made| made.len() < 10));
        // What was not sent is not referred to.
        assert_eq!(deflater.whole(&noise, true), None);
        assert_eq!((deflater.counts.before, deflater.counts.after < 10), (32, true));
        let alone = Compression::default().client_no_context_takeover(true);
        assert_eq!(Deflater::new(&alone).whole(&[b'a'; 1023], true), None);
        assert!(Deflater::new(&alone).whole(&[b'a'; 1024], true).is_some());
        assert!(Deflater::new(&alone.threshold(40)).whole(&[b'a'; 40], true).is_some());
    }

    #[test]
    fn noise_does_not_make_messages_longer_for_ever_nor_keeps_the_others_from_getting_shorter() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut noise = |size| std::iter::repeat_with(|| random.u8(..)).take(size).collect::<Vec<u8>>();
        let mut deflater = Deflater::new(&Compression::default());
        for _ in 0..1_000 {
            deflater.whole(&noise(100), true);
        }
        let Compressed { before, after } = deflater.counts;
        let most = before + GROWTH + before / PAYLOAD_PER_GROWTH + MOST_GROWTH as u64;
        assert!(before > 0 && after <= most, "{before} became {after}");
        let mut deflater = Deflater::new(&Compression::default());
        let (mut json, mut made) = (0, 0);
        for n in 0..200 {
            deflater.whole(&noise(5_000), true);
            let message = format!(r#"{{"sensor":"vib-{}","rms":{n}.25,"unit":"mm/s","ok":true}}"#, n % 4);
            json += message.len();
            made += deflater.whole(message.as_bytes(), true).map_or(message.len(), <[u8]>::len);
        }
        assert!(made * 2 < json, "{json} became {made}");
    }

    #[test]
    fn the_first_fragment_decides_for_its_message() {
        let mut deflater = Deflater::new(&Compression::default());
        let (first, text) = (Position::First { text: true, of: 300 }, [b'a'; 100]);
        let mut pieces = |positions: &[Position], wanted: bool| {
            positions.iter().map(|at| deflater.piece(*at, &text, wanted).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(pieces(&[first, Position::Middle, Position::Last], true), [true; 3]);
        assert_eq!(pieces(&[first, Position::Middle, Position::Last], false), [false; 3]);
        let made = deflater.piece(first, &text, true).unwrap();
        assert!(made.ends_with(&TAIL), "only the last one goes without");
        assert!(!deflater.piece(Position::Last, b"", true).unwrap().ends_with(&TAIL));
    }

    #[test]
    fn a_message_in_fragments_is_measured_as_a_whole() {
        let terms = Compression::default().threshold(1_000);
        for (of, compresses) in [(999, false), (1_000, true)] {
            let first = Position::First { text: true, of };
            assert_eq!(Deflater::new(&terms).piece(first, &[b'a'; 100], true).is_some(), compresses, "{of}");
        }
    }

    #[test]
    fn takeover_makes_messages_that_resemble_each_other_shorter() {
        let message = |n: u32| format!(r#"{{"sensor":"vib-{}","rms":{n}.25,"unit":"mm/s"}}"#, n % 4);
        let total = |agreed: &Compression| {
            let mut deflater = Deflater::new(agreed);
            let sizes = (0..100)
                .map(message)
                .map(|message| deflater.whole(message.as_bytes(), true).map_or(message.len(), <[u8]>::len));
            sizes.sum::<usize>()
        };
        let with = Compression::default().threshold(0);
        assert!(total(&with) * 2 < total(&with.clone().client_no_context_takeover(true)));
    }
}
