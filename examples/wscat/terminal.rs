//! What the terminal shows, and which characters it must not get.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::sync::{Mutex, PoisonError};
use std::{env, mem};

#[cfg(unix)]
use nix::sys::termios::{self, SetArg, Termios};
use tautline::ConnectionState::{self, Authenticated, Connected};

use super::Options;
use super::prompt::{self, Prompt};

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

/// Has the terminal put no brackets around a paste, as the editor of lines wants them.
const NO_BRACKETS: &[u8] = b"\x1b[?2004l";

/// Whether lines are edited, or were until the terminal is given back.
static HAS_PROMPT: AtomicBool = AtomicBool::new(false);

/// The settings of the terminal when the program began.
#[cfg(unix)]
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Remembers how the terminal is set, if stdin is one.
pub(crate) fn remember() {
    #[cfg(unix)]
    {
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = termios::tcgetattr(io::stdin()).ok();
    }
}

/// Sets the terminal as it was. Also called when the program ends without dropping anything.
pub(crate) fn give_back() {
    if HAS_PROMPT.swap(false, Ordering::SeqCst) {
        io::stderr().write_all(NO_BRACKETS).ok();
    }
    #[cfg(unix)]
    if let Some(settings) = &*BEFORE.lock().unwrap_or_else(PoisonError::into_inner) {
        // There is nobody to tell that it is gone.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, settings);
    }
}

/// What is told about the line: at a prompt if stdin and stdout are the terminal, else on stderr. On a terminal the status line is
/// rewritten in place.
pub(crate) struct Screen {
    quiet: bool,
    pub(crate) live: bool,
    pub(crate) typing: bool,
    pub(crate) shared: bool, // stdout is a terminal too, so messages appear on this one
    colour: bool,
    shown: String, // the status in the cursor's row, if any
    prompt: Option<Prompt>,
}

impl Screen {
    pub(crate) fn new(options: &Options) -> Self {
        let terminal = io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            quiet: options.telling.quiet,
            live: terminal && !options.telling.quiet && options.log.is_none(), // log lines would overwrite it
            typing: io::stdin().is_terminal() && !options.sends_only,
            shared: io::stdout().is_terminal(),
            colour: terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            shown: String::new(),
            prompt: None,
        }
    }

    /// Begins to edit lines, where that is possible.
    pub(crate) fn begin_prompt(&mut self) -> Option<prompt::Lines> {
        if !(self.live && self.typing && self.shared) {
            return None;
        }
        let (prompt, lines) = Prompt::new(self.colour)?;
        self.prompt = Some(prompt);
        HAS_PROMPT.store(true, Ordering::SeqCst);
        Some(lines)
    }

    /// Ends that, with all on the screen that was printed.
    pub(crate) fn end_prompt(&mut self) {
        if let Some(mut prompt) = self.prompt.take() {
            prompt.finish();
            give_back();
            self.shown = " ".into(); // the prompt, which is cleared next
        }
    }

    pub(crate) fn has_prompt(&self) -> bool {
        self.prompt.is_some()
    }

    pub(crate) fn paint(&self, state: ConnectionState) -> String {
        let colour = if matches!(state, Connected | Authenticated) { 32 } else { 33 };
        if self.colour { format!("\x1b[{colour}m{state}\x1b[0m") } else { state.to_string() }
    }

    /// Marks a message of the server's, where it stands beside what was typed.
    pub(crate) fn mark(&self) -> &'static str {
        match (&self.prompt, self.colour) {
            (None, _) => "",
            (_, true) => "\x1b[36m<\x1b[0m ",
            (_, false) => "< ",
        }
    }

    /// Writes a line that stays.
    pub(crate) fn tell(&mut self, state: ConnectionState, what: &str) {
        if !self.quiet {
            self.put(&format!("{}{}\n", self.paint(state), one_line(what)));
        }
    }

    pub(crate) fn draw(&mut self, state: ConnectionState, what: &str) {
        if let Some(prompt) = &mut self.prompt {
            return prompt.show(&format!("{state}{}", one_line(what)));
        }
        let status = self.paint(state) + what;
        if self.live && self.shown != status {
            if self.typing && self.shown.chars().count() == status.chars().count() {
                self.shown.clear(); // the typed text after it stays
                self.put(&format!("\x1b7\r{status}\x1b8"));
            } else {
                self.put(&format!("{status}{}", if self.typing { " > " } else { "" }));
            }
            self.shown = status;
        }
    }

    /// A line was typed, and its end has moved the cursor to the next row.
    pub(crate) fn enter(&mut self) {
        if self.typing {
            self.shown.clear();
        }
    }

    /// Overwrites the status. At a prompt, `text` is whole lines.
    pub(crate) fn put(&mut self, text: &str) {
        if let Some(prompt) = &mut self.prompt {
            if !text.is_empty() {
                prompt.print(text);
            }
            return;
        }
        let clear = if mem::take(&mut self.shown).is_empty() { "" } else { "\r\x1b[2K" };
        io::stderr().write_all(format!("{clear}{text}").as_bytes()).ok();
    }
}
