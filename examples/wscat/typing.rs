//! Line editing at a terminal, key by key.
//!
//! A terminal in line mode shows the typed line at the cursor, and can't restore it after a message or a new status has
//! overwritten it. So the program reads single keys, and draws the line after its status.

use std::mem;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The terminal's previous settings.
static BEFORE: OnceLock<String> = OnceLock::new();

/// Turns off the line mode and the echo of the terminal, until this is dropped.
pub(crate) struct Keys {
    /// The terminal's width.
    pub(crate) columns: usize,
}

impl Keys {
    /// Returns `None` without a terminal, or without an `stty` to set it. Then the terminal stays in line mode.
    pub(crate) fn take() -> Option<Self> {
        let before = stty(&["-g"])?;
        let columns = stty(&["size"]).and_then(|size| size.split(' ').nth(1)?.parse().ok());
        BEFORE.set(before).ok()?;
        let keys = Self { columns: columns.filter(|columns| *columns > 0).unwrap_or(80) };
        stty(&["-icanon", "-echo", "min", "1", "time", "0"]).map(|_| keys)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        give_back();
    }
}

/// Restores the terminal's settings. Also called when the program ends without dropping anything.
pub(crate) fn give_back() {
    BEFORE.get().and_then(|before| stty(&[before]));
}

fn stty(args: &[&str]) -> Option<String> {
    let ran = Command::new("stty").args(args).stdin(Stdio::inherit()).stderr(Stdio::null()).output();
    let said = ran.ok().filter(|ran| ran.status.success())?.stdout;
    Some(String::from_utf8(said).ok()?.trim().to_owned())
}

/// A line that is being typed.
#[derive(Default)]
pub(crate) struct Line {
    bytes: Vec<u8>,
    escape: Escape,
}

/// How much of an escape sequence has arrived: ESC, then `[` or `O`, then bytes up to a letter or `~`.
#[derive(Default)]
enum Escape {
    #[default]
    None,
    Begun,
    Inside,
}

/// The meaning of a byte.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The line is complete.
    Enter(Vec<u8>),
    /// The end of the input.
    End,
    /// The line continues.
    Other,
}

impl Line {
    pub(crate) fn key(&mut self, byte: u8) -> Key {
        match (mem::take(&mut self.escape), byte) {
            (Escape::Begun, b'[' | b'O') | (Escape::Inside, 0x20..=0x3F) => self.escape = Escape::Inside,
            (Escape::Inside, 0x40..=0x7E) => {}
            (_, 0x1B) => self.escape = Escape::Begun,
            (_, b'\n' | b'\r') => return Key::Enter(mem::take(&mut self.bytes)),
            (_, 0x04) if self.bytes.is_empty() => return Key::End, // Ctrl-D
            (_, 0x08 | 0x7F) => {
                // The first byte of a character is removed last.
                while self.bytes.pop_if(|last| *last & 0xC0 == 0x80).is_some() {}
                self.bytes.pop();
            }
            (_, 0x15) => self.bytes.clear(), // Ctrl-U
            (_, 0x17) => {
                // Ctrl-W
                while self.bytes.pop_if(|last| *last == b' ').is_some() {}
                while self.bytes.pop_if(|last| *last != b' ').is_some() {}
            }
            (_, b'\t' | 0x20..) => self.bytes.push(byte),
            _ => {}
        }
        Key::Other
    }

    /// Returns the line so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Returns the end of `text` that fits these columns. A character outside ASCII counts as two, to be safe.
pub(crate) fn tail(text: &str, columns: usize) -> &str {
    let mut left = columns;
    let fits = |(_, c): &(usize, char)| {
        let width = if c.is_ascii() { 1 } else { 2 };
        left.checked_sub(width).map(|rest| left = rest).is_some()
    };
    text.char_indices().rev().take_while(fits).last().map_or("", |(at, _)| &text[at..])
}
