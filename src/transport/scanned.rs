//! The stream that tungstenite reads and writes: the link, with a scanner for the frames that arrive.

use std::io::{self, Cursor, ErrorKind, Read, Write};

use crate::compression::Compression;
use crate::config::ConnectionConfig;
use crate::transport::frame_scanner::FrameScanner;
use crate::transport::inflating::Inflating;
use crate::transport::link::Link;
use crate::transport::socket::READ_BUFFER_AT_REST;
use crate::transport::wire::Raw;

pub(super) struct Scanned<T: Raw> {
    pub(super) link: Link<T>,
    pub(super) scanner: FrameScanner,
    /// What followed the answer to the upgrade and has not been read.
    behind: Cursor<Vec<u8>>,
    /// How much may still be read in this burst.
    pub(super) budget: usize,
    /// Whether a read has filled the whole buffer: there is more traffic than the buffer is meant for.
    pub(super) filled: bool,
    /// What compressed messages go through, if some may come.
    pub(super) inflating: Option<Box<Inflating>>,
}

impl<T: Raw> Scanned<T> {
    /// `rest` is what followed the answer to the upgrade.
    pub(super) fn new(
        link: Link<T>,
        rest: Vec<u8>,
        config: &ConnectionConfig,
        agreed: Option<&Compression>,
    ) -> Self {
        let (mut scanner, behind) = (FrameScanner::new(config), Cursor::new(rest));
        let inflating = agreed.map(|agreed| {
            scanner.allow_deflated();
            Box::new(Inflating::new(agreed, config))
        });
        Self { link, scanner, behind, budget: usize::MAX, filled: false, inflating }
    }

    /// The bytes that come next, whatever they mean.
    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.behind.read(buffer)?;
        if n > 0 {
            return Ok(n);
        }
        self.behind = Cursor::default();
        if self.budget == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = self.link.read(buffer)?;
        self.budget = self.budget.saturating_sub(n);
        Ok(n)
    }

    /// Passes on what goes through the inflating. `None` if the scanner has something to say.
    fn pass(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // It is taken out because it reads from the rest.
        let Some(mut inflating) = self.inflating.take() else { return Ok(None) };
        let passed = inflating.pass(&mut self.scanner, buffer, &mut self.budget);
        let passed = match passed {
            Ok(None) if self.scanner.violation().is_none() && !self.scanner.is_closed() => {
                // A line that is idle needs no memory for what it reads.
                let read = self.next(buffer);
                read.map(|n| {
                    inflating.take(&buffer[..n]);
                    self.filled |= n == buffer.len() && n >= READ_BUFFER_AT_REST;
                    (n == 0).then_some(0)
                })
            }
            other => other,
        };
        self.inflating = Some(inflating);
        passed
    }

    /// Whether what was passed on so far are whole messages and control frames, and nothing waits to be passed on.
    pub(super) fn is_between_messages(&self) -> bool {
        self.scanner.is_between_messages()
            && self.inflating.as_ref().is_none_or(|inflating| inflating.is_idle())
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
                return self.next(buffer).map(|_| 0);
            }
            if let Some(head) = self.scanner.due() {
                return (&mut *buffer).write_all(&head).map(|()| head.len());
            }
            if self.inflating.is_some() {
                match self.pass(buffer)? {
                    Some(n) => return Ok(n),
                    None => continue,
                }
            }
            let held = self.scanner.held().len();
            let room = self.scanner.room();
            let (front, fresh) = buffer.split_at_mut_checked(held).ok_or(ErrorKind::InvalidInput)?;
            front.copy_from_slice(self.scanner.held());
            let size = fresh.len().min(room);
            let n = self.next(&mut fresh[..size])?;
            if n == 0 {
                return Ok(0);
            }
            self.filled |= n == size && n >= READ_BUFFER_AT_REST;
            let passed = self.scanner.feed(&mut buffer[..held + n]);
            if passed > 0 {
                return Ok(passed);
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
