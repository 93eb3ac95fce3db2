//! The lines that were not delivered, or perhaps not.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use tautline::{Ticket, Tickets};
use tempfile::NamedTempFile;

use super::terminal::one_line;

/// What was read from stdin and is not known to have arrived, with the ends of lines. The number of a line is that of its ticket.
#[derive(Default)]
pub(crate) struct Undelivered {
    /// How many lines the client has accepted.
    pub(crate) accepted: u64,
    kept: VecDeque<(u64, Vec<u8>)>,
    /// Those that were written to a connection that was lost before it confirmed them.
    pub(crate) doubtful: Vec<Vec<u8>>,
    /// Those that were not written. One that was not accepted has the number of the one before it.
    pub(crate) missing: Vec<(u64, Vec<u8>)>,
    /// What nobody has read yet, where it is to be kept.
    pub(crate) rest: Vec<u8>,
}

impl Undelivered {
    pub(crate) fn accept(&mut self, line: Vec<u8>) {
        self.accepted += 1;
        self.kept.push_back((self.accepted, line));
    }

    pub(crate) fn refuse(&mut self, line: Vec<u8>) {
        self.missing.push((self.accepted, line));
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

    /// Connections are lost, and with them perhaps all that were written, which were so many.
    pub(crate) fn doubt_all(&mut self, written: u64) {
        let lost = self.kept.partition_point(|(number, _)| *number <= written);
        self.doubtful.extend(self.kept.drain(..lost).map(|(_, line)| line));
    }

    /// Nothing more is written: so many were, and the rest was not.
    pub(crate) fn end(&mut self, written: u64) {
        let refused = std::mem::take(&mut self.missing);
        let unwritten = self.kept.drain(..).filter(|(number, _)| *number > written);
        self.missing = unwritten.chain(refused).collect();
        self.missing.sort_by_key(|(number, _)| *number);
    }

    /// Writes the lines as they were read, those first that perhaps arrived, those last that were not read. What the file had
    /// stays until all is written: it may be the only copy of the lines.
    pub(crate) fn write(&self, path: &Path, end: u8) -> io::Result<()> {
        let old = fs::metadata(path).and_then(|old| Ok((fs::canonicalize(path)?, old)));
        let old = old.ok().filter(|(_, old)| old.is_file());
        let new = old.as_ref().and_then(|(path, _)| NamedTempFile::new_in(path.parent()?).ok());
        // A device has no place for a new file, and a folder need not let one be made.
        let (Some((path, old)), Some(new)) = (old, new) else {
            return self.write_to(&File::create(path)?, end);
        };
        self.write_to(new.as_file(), end)?;
        new.as_file().set_permissions(old.permissions())?;
        new.as_file().sync_all()?;
        new.persist(path)?;
        Ok(())
    }

    fn write_to(&self, file: &File, end: u8) -> io::Result<()> {
        let mut out = BufWriter::new(file);
        let lines = self.doubtful.iter().chain(self.missing.iter().map(|(_, line)| line));
        let mut has_end = true;
        for line in lines.chain([&self.rest]).filter(|line| !line.is_empty()) {
            if !has_end {
                out.write_all(&[end])?; // only the last line of stdin has none
            }
            out.write_all(line)?;
            has_end = line.ends_with(&[end]);
        }
        out.flush()
    }

    /// Shows the lines on stderr: as they are where that is no terminal.
    pub(crate) fn show(&self, end: u8) {
        let mut out = io::stderr().lock();
        let is_terminal = out.is_terminal();
        let mut show = |what: &str, line: &[u8]| {
            let line = line.strip_suffix(&[end]).unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let tamed = is_terminal.then(|| one_line(&String::from_utf8_lossy(line)));
            let line = tamed.as_ref().map_or(line, String::as_bytes);
            out.write_all(&[what.as_bytes(), b": ", line, b"\n"].concat()).ok(); // a closed stderr can't be reported
        };
        self.doubtful.iter().for_each(|line| show("perhaps not delivered", line));
        self.missing.iter().for_each(|(_, line)| show("not delivered", line));
    }
}
