//! The lines that were not delivered, or perhaps not.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tautline::{Ticket, Tickets};

use super::terminal::one_line;

/// What was read from stdin and is not known to have arrived. The number of a line is that of its ticket.
#[derive(Default)]
pub(crate) struct Undelivered {
    /// How many lines were read.
    pub(crate) read: u64,
    kept: VecDeque<(u64, Vec<u8>)>,
    /// Those that were written to a connection that was lost before it confirmed them.
    pub(crate) doubtful: Vec<Vec<u8>>,
    /// Those that were not written.
    pub(crate) missing: Vec<Vec<u8>>,
    /// What nobody has read yet, where it is to be kept.
    pub(crate) rest: Vec<u8>,
}

impl Undelivered {
    pub(crate) fn read(&mut self, line: Vec<u8>) {
        self.read += 1;
        self.kept.push_back((self.read, line));
    }

    /// All up to this one have arrived, but for those in doubt.
    pub(crate) fn confirm(&mut self, up_to: Ticket) {
        let known = self.kept.partition_point(|(number, _)| *number <= up_to.number());
        self.kept.drain(..known);
    }

    /// A connection is lost, and with it perhaps these.
    pub(crate) fn doubt(&mut self, tickets: &Tickets) {
        let numbers: Vec<_> = tickets.iter().map(Ticket::number).collect();
        let is_lost = |(number, _): &(u64, Vec<u8>)| numbers.binary_search(number).is_ok();
        let (lost, kept): (Vec<_>, _) = self.kept.drain(..).partition(is_lost);
        self.kept = kept.into();
        self.doubtful.extend(lost.into_iter().map(|(_, line)| line));
    }

    /// Nothing more is written: so many were, and the rest was not.
    pub(crate) fn end(&mut self, written: u64) {
        self.missing
            .extend(self.kept.drain(..).filter(|(number, _)| *number > written).map(|(_, line)| line));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.doubtful.is_empty() && self.missing.is_empty() && self.rest.is_empty()
    }

    /// Writes the lines as they were read, those first that perhaps arrived, those last that were not read.
    pub(crate) fn write(&self, file: &Path, end: u8) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(file)?);
        for line in self.doubtful.iter().chain(&self.missing) {
            out.write_all(line)?;
            out.write_all(&[end])?;
        }
        out.write_all(&self.rest)?;
        out.flush()
    }

    /// Shows the lines on stderr.
    pub(crate) fn show(&self) {
        let mut out = io::stderr().lock();
        for (lines, what) in [(&self.doubtful, "perhaps not delivered"), (&self.missing, "not delivered")] {
            for line in lines {
                writeln!(out, "{what}: {}", one_line(&String::from_utf8_lossy(line))).ok();
            }
        }
    }
}
