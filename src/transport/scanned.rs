//! The stream of frames: the link, with a scanner for those that arrive. Short messages are taken out of it as they are.
//! tungstenite reads the rest, and writes.

use std::io::{self, ErrorKind, Read, Write};

use crate::compression::Compression;
use crate::config::ConnectionConfig;
use crate::message::{Binary, Message, Text};
use crate::transport::frame_scanner::{FrameScanner, Next};
use crate::transport::inflating::Inflating;
use crate::transport::input::{self, Input};
use crate::transport::link::Link;
use crate::transport::wire::Raw;

pub(super) struct Scanned<T: Raw> {
    pub(super) link: Link<T>,
    pub(super) scanner: FrameScanner,
    input: Input,
    /// Whether the link has come to its end, which it may tell once only.
    has_ended: bool,
    /// How much may still be read in this burst.
    pub(super) budget: usize,
    /// What compressed messages go through, if some may come.
    pub(super) inflating: Option<Box<Inflating>>,
}

/// What comes next in the stream.
#[derive(Debug)]
pub(super) enum Ahead {
    Message(Message),
    /// Nothing before more arrives.
    Nothing,
    /// Something that tungstenite has to read.
    Other,
}

/// From so many bytes on, the rest of a long frame is read from the link without the input in between.
const LONG: usize = 16 << 10;

/// Into less room than this, no read of the link is made.
const SHORT: usize = 4 << 10;

impl<T: Raw> Scanned<T> {
    /// `rest` is what followed the answer to the upgrade.
    pub(super) fn new(
        link: Link<T>,
        rest: Vec<u8>,
        config: &ConnectionConfig,
        agreed: Option<&Compression>,
    ) -> Self {
        let (mut scanner, input) = (FrameScanner::new(config), Input::new(rest));
        let inflating = agreed.map(|agreed| {
            scanner.allow_deflated();
            Box::new(Inflating::new(agreed, config))
        });
        Self { link, scanner, input, has_ended: false, budget: usize::MAX, inflating }
    }

    /// The next message, if it is one frame that has come whole and breaks no rule. No state of tungstenite depends on it.
    /// Where compression was agreed on, tungstenite reads all.
    #[inline]
    pub(super) fn message(&mut self) -> Ahead {
        if self.inflating.is_some() || !self.scanner.is_between_messages() {
            return Ahead::Other;
        }
        loop {
            let waiting = self.input.waiting();
            let is_frame = match self.scanner.next(waiting) {
                Next::Message { is_text, payload } => {
                    let end = payload.end;
                    let message = if is_text {
                        match str::from_utf8(&waiting[payload]) {
                            Ok(text) => Message::Text(Text::copied(text)),
                            Err(_) => return Ahead::Other,
                        }
                    } else {
                        Message::Binary(Binary::copied(&waiting[payload]))
                    };
                    self.scanner.take_message(end);
                    self.input.take(end);
                    return Ahead::Message(message);
                }
                Next::Incomplete { size } if size <= input::MOST as u64 => true,
                Next::Unknown => false,
                Next::Incomplete { .. } | Next::Other => return Ahead::Other,
            };
            match self.fill() {
                Ok(1..) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && !is_frame => return Ahead::Nothing,
                // Part of a message counts as soon as it has come. An end or an error comes again.
                Ok(0) | Err(_) => return Ahead::Other,
            }
        }
    }

    /// Whether a message begins at what waits.
    pub(super) fn begins_message(&self) -> bool {
        self.is_between_messages()
            && self.input.waiting().first().is_some_and(|first| matches!(first & 0x0F, 1 | 2))
    }

    /// Reads once from the link, within the burst.
    fn receive(
        &mut self,
        read: impl FnOnce(&mut Link<T>, &mut Input) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.has_ended {
            return Ok(0);
        }
        if self.budget == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = read(&mut self.link, &mut self.input)?;
        self.has_ended = n == 0;
        self.budget = self.budget.saturating_sub(n);
        Ok(n)
    }

    /// Reads into the input what comes next.
    fn fill(&mut self) -> io::Result<usize> {
        self.receive(|link, input| input.fill(link))
    }

    /// Reads straight from the link what comes next.
    fn read_straight(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(|link, _| link.read(buffer))
    }

    /// Passes on what waits, up to the end of the present frame.
    fn pass(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let waiting = self.input.waiting_mut();
        let n = waiting.len().min(buffer.len()).min(self.scanner.room());
        let passed = self.scanner.feed(&mut waiting[..n]);
        if passed == 0 && n < waiting.len() && self.scanner.violation().is_none() {
            // The buffer is too short for the header that comes next.
            return Err(ErrorKind::InvalidInput.into());
        }
        buffer[..passed].copy_from_slice(&waiting[..passed]);
        self.input.take(passed);
        Ok(passed)
    }

    /// Whether what was passed on so far are whole messages and control frames. Then tungstenite holds nothing.
    pub(super) fn is_between_messages(&self) -> bool {
        self.scanner.is_between_messages()
            && self.inflating.as_ref().is_none_or(|inflating| inflating.is_idle())
    }

    /// Drops what waits: it does not count any more.
    pub(super) fn drop_input(&mut self) {
        self.input.clear();
    }

    /// Frees the memory that a burst has left behind.
    pub(super) fn shrink(&mut self) {
        self.input.shrink();
        self.inflating.iter_mut().for_each(|inflating| inflating.shrink());
    }
}

impl<T: Raw> Read for Scanned<T> {
    /// `buffer` has room for a frame's header: tungstenite reserves that much.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(violation) = self.scanner.violation() {
                return Err(io::Error::new(ErrorKind::InvalidData, violation.clone()));
            }
            if self.scanner.is_closed() {
                // tungstenite sees the end of the stream here: it would parse a header after a close frame.
                self.input.clear();
                return self.read_straight(buffer).map(|_| 0);
            }
            if let Some(head) = self.scanner.due() {
                return (&mut *buffer).write_all(&head).map(|()| head.len());
            }
            let Self { scanner, input, budget, inflating, .. } = self;
            let mut is_deflated = false;
            if let Some(inflating) = inflating {
                if let Some(n) = inflating.pass(scanner, input, buffer, budget)? {
                    return Ok(n);
                }
                is_deflated = inflating.is_inside();
            }
            if !is_deflated && self.scanner.violation().is_none() {
                let room = buffer.len().min(self.scanner.room());
                if self.input.is_empty() && self.scanner.left() >= LONG as u64 && room >= SHORT {
                    let n = self.read_straight(&mut buffer[..room])?;
                    return Ok(self.scanner.feed(&mut buffer[..n]));
                }
                let n = self.pass(buffer)?;
                if n > 0 {
                    return Ok(n);
                }
            }
            if self.scanner.violation().is_none() && self.fill()? == 0 {
                return Ok(0);
            }
        }
    }
}

impl<T: Raw> Write for Scanned<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.link.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.link.flush()
    }
}
