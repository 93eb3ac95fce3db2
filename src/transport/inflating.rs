//! Compressed messages on their way to tungstenite, which sees them as any other.

use std::io::{self, ErrorKind};

use crate::compression::Compression;
use crate::config::ConnectionConfig;
use crate::stats::Compressed;
use crate::transport::deflate::{Bomb, Inflater};
use crate::transport::frame_scanner::{FrameScanner, Violation};
use crate::transport::input::Input;

/// What becomes of the compressed messages on a line with compression.
///
/// A compressed message becomes one without compression, in fragments of up to [`PIECE`] bytes. It is inflated as far as it
/// is asked for, so that memory grows with what was taken, and not with what it would become.
pub(super) struct Inflating {
    inflater: Inflater,
    /// Room for a frame's header, and the payload so far of the fragment that is being made.
    made: Vec<u8>,
    length: usize,
    /// The part of a fragment that is complete and was not passed on.
    ready: std::ops::Range<usize>,
    /// Whether the payload of a compressed message's frame comes next.
    is_inside: bool,
    /// Whether a fragment of the present message was made, and not the last one.
    has_begun: bool,
}

/// The payload of a fragment.
const PIECE: usize = 64 << 10;

/// The length of a fragment's header.
const HEAD: usize = 10;

impl Inflating {
    pub(super) fn new(agreed: &Compression, config: &ConnectionConfig) -> Self {
        Self {
            inflater: Inflater::new(agreed, config.largest_message() as u64),
            made: Vec::new(),
            length: 0,
            ready: 0..0,
            is_inside: false,
            has_begun: false,
        }
    }

    /// The payloads of the compressed messages that came.
    pub(super) fn counts(&self) -> Compressed {
        self.inflater.counts
    }

    /// Whether nothing is under way. Between two frames of a message, what the first has brought may be in a fragment that is
    /// not full.
    pub(super) fn is_idle(&self) -> bool {
        self.ready.is_empty() && !self.is_inside && !self.has_begun && self.length == 0
    }

    /// Whether what comes next is the payload of a compressed message's frame.
    pub(super) fn is_inside(&self) -> bool {
        self.is_inside
    }

    /// Frees the memory that a burst has left behind.
    pub(super) fn shrink(&mut self) {
        if self.is_idle() {
            self.made = Vec::new();
        }
    }

    /// Passes on what becomes of the compressed messages at the start of `input`. `None` if more must be read first, if another
    /// frame comes, or if the scanner has stopped. `budget` says how many bytes may still be inflated in this burst.
    pub(super) fn pass(
        &mut self,
        scanner: &mut FrameScanner,
        input: &mut Input,
        buffer: &mut [u8],
        budget: &mut usize,
    ) -> io::Result<Option<usize>> {
        loop {
            if !self.ready.is_empty() {
                let n = self.ready.len().min(buffer.len());
                buffer[..n].copy_from_slice(&self.made[self.ready.start..self.ready.start + n]);
                self.ready.start += n;
                return Ok(Some(n));
            }
            if self.is_inside {
                if *budget == 0 {
                    return Err(ErrorKind::WouldBlock.into());
                }
                let before = self.inflater.counts.before;
                let more = self.inflate(scanner, input).map_err(|bomb| self.violation(bomb))?;
                *budget =
                    budget.saturating_sub(usize::try_from(self.inflater.counts.before - before).unwrap_or(0));
                if !more {
                    return Ok(None);
                }
                continue;
            }
            if let Some(size) = scanner.begin_deflated(input.waiting()) {
                input.take(size);
                self.is_inside = true;
                if scanner.deflated().is_some_and(|frame| frame.is_first) {
                    self.inflater.begin();
                }
                continue;
            }
            return Ok(None);
        }
    }

    /// Inflates more of the present message. Returns `false` if more must be read first.
    fn inflate(&mut self, scanner: &mut FrameScanner, input: &mut Input) -> Result<bool, Bomb> {
        if self.made.is_empty() {
            self.made.resize(HEAD + PIECE, 0);
        }
        let output = &mut self.made[HEAD + self.length..];
        let n = scanner.left_of(input.waiting());
        let (taken, made) = self.inflater.inflate(&input.waiting()[..n], output)?;
        scanner.take_deflated(taken);
        input.take(taken);
        let is_full = made == output.len();
        self.length += made;
        if is_full {
            self.complete(scanner, false);
        } else if !scanner.is_inside_frame() {
            self.is_inside = false;
            if scanner.deflated().is_some_and(|frame| frame.is_last) {
                self.inflater.finish(&mut self.made[HEAD + self.length..])?;
                self.complete(scanner, true);
            }
        } else if input.is_empty() {
            return Ok(false);
        }
        Ok(true)
    }

    /// The fragment is complete.
    fn complete(&mut self, scanner: &FrameScanner, is_last: bool) {
        let opcode = scanner.deflated().map_or(0, |frame| frame.opcode);
        let first = if self.has_begun { 0 } else { opcode } | if is_last { 0x80 } else { 0 };
        self.made[0] = first;
        self.made[1] = 127;
        self.made[2..HEAD].copy_from_slice(&(self.length as u64).to_be_bytes());
        self.ready = 0..HEAD + self.length;
        self.length = 0;
        self.has_begun = !is_last;
    }

    fn violation(&self, bomb: Bomb) -> io::Error {
        let violation = match bomb {
            Bomb::TooLong => {
                let allowed = self.inflater.most;
                let size = allowed.saturating_add(1);
                let reason = format!(
                    "a compressed message that becomes at least {size} bytes, where {allowed} are allowed (max_message_size)"
                );
                Violation { code: 1009, reason: reason.into() }
            }
            Bomb::Broken => {
                Violation { code: 1007, reason: "a compressed message that can't be inflated".into() }
            }
        };
        io::Error::new(ErrorKind::InvalidData, violation)
    }
}
