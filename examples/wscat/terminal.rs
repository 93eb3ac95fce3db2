//! What the terminal shows, and which characters it must not get.

use std::io::{self, IsTerminal, Write};
use std::{env, mem};

use tautline::ConnectionState::{self, Connected};

use super::Options;
use super::typing::tail;

/// Whether a terminal would interpret this character or hide it: the control characters of ASCII and Latin-1, the line and
/// paragraph separators, and Unicode's ignorable characters, such as text directions, zero widths, fillers and tags. The
/// sixteen variation selectors of emoji are not included.
pub(crate) fn is_wild(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}')
        || matches!(c, '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// For stderr. Error texts, close reasons and the log repeat the server's words.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(is_wild, "\u{fffd}")
}

/// Stderr. On a terminal the status line is rewritten in place. While a line is typed, the status is its prompt.
pub(crate) struct Screen {
    quiet: bool,
    pub(crate) live: bool,
    pub(crate) typing: bool,
    pub(crate) shared: bool, // stdout is a terminal too, so messages appear on this one
    colour: bool,
    shown: String,                     // the status in the cursor's row, if any
    pub(crate) columns: Option<usize>, // the width of the terminal, if the program draws the typed line itself
    pub(crate) typed: String,
}

impl Screen {
    pub(crate) fn new(options: &Options) -> Self {
        let terminal = io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            quiet: options.telling.quiet,
            live: terminal && !options.telling.quiet && options.log.is_none(), // log lines would overwrite it
            typing: io::stdin().is_terminal(),
            shared: io::stdout().is_terminal(),
            colour: terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            shown: String::new(),
            columns: None,
            typed: String::new(),
        }
    }

    pub(crate) fn paint(&self, state: ConnectionState) -> String {
        let colour = if state == Connected { 32 } else { 33 };
        if self.colour { format!("\x1b[{colour}m{state}\x1b[0m") } else { state.to_string() }
    }

    /// Writes a line that stays.
    pub(crate) fn tell(&mut self, state: ConnectionState, what: &str) {
        if !self.quiet {
            self.put(&format!("{}{}\n", self.paint(state), one_line(what)));
        }
    }

    pub(crate) fn draw(&mut self, state: ConnectionState, what: &str) {
        let mut status = self.paint(state) + what;
        if let Some(columns) = self.columns {
            let taken = state.to_string().len() + what.chars().count() + 4;
            let typed = one_line(&self.typed);
            status = format!("{status} > {}", tail(&typed, columns.saturating_sub(taken).max(1)));
            if self.shown != status {
                self.put(&status);
                self.shown = status;
            }
        } else if self.live && self.shown != status {
            if self.typing && self.shown.chars().count() == status.chars().count() {
                self.shown.clear(); // the typed text after it stays
                self.put(&format!("\x1b7\r{status}\x1b8"));
            } else {
                self.put(&format!("{status}{}", if self.typing { " > " } else { "" }));
            }
            self.shown = status;
        }
    }

    /// Keeps the typed line, which is complete.
    pub(crate) fn enter(&mut self, state: ConnectionState, what: &str, line: &str) {
        if self.columns.is_some() {
            self.typed.clear();
            self.put(&format!("{}{what} > {}\n", self.paint(state), one_line(line)));
        } else if self.typing {
            self.shown.clear(); // the line's end has moved the cursor to the next row
        }
    }

    /// Overwrites the status.
    pub(crate) fn put(&mut self, text: &str) {
        let clear = if mem::take(&mut self.shown).is_empty() { "" } else { "\r\x1b[2K" };
        io::stderr().write_all(format!("{clear}{text}").as_bytes()).ok();
    }
}
