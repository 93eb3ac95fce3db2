//! Where this program's own lines are written: above the prompt, or on stderr in the place of the status.

use std::io::{self, IsTerminal, Write};
use std::mem;
use std::sync::{Mutex, MutexGuard};

use super::lock::lock;
use super::prompt::Prompt;

static PAPER: Mutex<Paper> = Mutex::new(Paper { status: String::new(), prompt: None });

/// The log writes from other threads, so there is one for all of them.
struct Paper {
    /// What stands in the row of the cursor, if anything, and is cleared by the next line.
    status: String,
    prompt: Option<Prompt>,
}

/// Writes whole lines, or nothing: then the row is clear.
pub(crate) fn put(text: &str) {
    let mut paper = paper();
    match &paper.prompt {
        Some(prompt) if io::stderr().is_terminal() => prompt.print(text),
        _ => paper.write(text),
    }
}

/// Writes the status into the row of the cursor, and where lines are typed, a mark behind it.
pub(crate) fn show(status: &str, typing: bool) {
    let mut paper = paper();
    if paper.status == status {
        return;
    }
    if typing && paper.status.chars().count() == status.chars().count() {
        paper.status.clear(); // what was typed behind it stays
        paper.write(&format!("\x1b7\r{status}\x1b8"));
    } else {
        paper.write(&format!("{status}{}", if typing { " > " } else { "" }));
    }
    status.clone_into(&mut paper.status);
}

/// The cursor has moved to another row.
pub(crate) fn leave_row() {
    paper().status.clear();
}

/// From now on a line is edited, or until now.
pub(crate) fn set_prompt(prompt: Option<Prompt>) {
    paper().prompt = prompt;
}

/// Clears the status when the program ends at once. Another thread may be writing to a terminal that takes nothing.
pub(crate) fn tidy() {
    if let Ok(mut paper) = PAPER.try_lock() {
        paper.write("");
    }
}

impl Paper {
    fn write(&mut self, text: &str) {
        let clear = if mem::take(&mut self.status).is_empty() { "" } else { "\r\x1b[2K" };
        io::stderr().write_all(format!("{clear}{text}").as_bytes()).ok(); // a closed stderr can't be reported
    }
}

/// For the library's log, which writes a line at a time.
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        put(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn paper() -> MutexGuard<'static, Paper> {
    lock(&PAPER)
}
