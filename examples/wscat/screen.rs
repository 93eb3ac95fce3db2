//! What is told about the line.

use std::env;
use std::io::{self, IsTerminal};

use tautline::ConnectionState;

use super::options::Options;
use super::paper;
use super::prompt::{LineEditor, Prompt};
use super::terminal::{self, one_line};

/// What is told about the line: at a prompt if stdin and stdout are the terminal, else on stderr. On a terminal the status is
/// rewritten in place.
pub(crate) struct Screen {
    quiet: bool,
    /// The status is shown.
    pub(crate) live: bool,
    /// Lines are typed.
    pub(crate) typing: bool,
    /// stdout is a terminal, too, so messages appear on this one.
    pub(crate) shared: bool,
    colour: bool,
    prompt: Option<Prompt>,
}

impl Screen {
    pub(crate) fn new(options: &Options) -> Self {
        let able = env::var_os("TERM").is_none_or(|term| term != "dumb");
        let terminal = io::stderr().is_terminal() && able;
        let typing = io::stdin().is_terminal() && !options.sends_only;
        let shared = io::stdout().is_terminal();
        // Where there will be no prompt, lines of the log would come between what is typed.
        let in_log = typing && !shared && options.log.is_some();
        Self {
            quiet: options.telling.quiet,
            live: terminal && !options.telling.quiet && !in_log,
            typing,
            shared,
            colour: terminal && terminal::has_colours(),
            prompt: None,
        }
    }

    /// Begins to edit lines, where that is possible.
    pub(crate) fn begin_prompt(&mut self) -> Option<LineEditor> {
        if !(self.typing && self.shared) {
            return None;
        }
        let (prompt, lines) = Prompt::new(terminal::has_colours())?;
        paper::put("");
        paper::set_prompt(Some(prompt.clone()));
        terminal::begin_prompt();
        self.prompt = Some(prompt);
        Some(lines)
    }

    /// Ends that, with all on the screen that was printed.
    pub(crate) fn end_prompt(&mut self) {
        if let Some(prompt) = self.prompt.take() {
            paper::set_prompt(None);
            prompt.end();
            terminal::give_back();
            self.typing = false;
        }
    }

    pub(crate) fn has_prompt(&self) -> bool {
        self.prompt.is_some()
    }

    /// Whether so much waits to be shown that there should not be more.
    pub(crate) fn is_behind(&self) -> bool {
        self.prompt.as_ref().is_some_and(Prompt::is_behind)
    }

    fn paint(&self, state: ConnectionState) -> String {
        if self.colour { terminal::painted(state) } else { state.to_string() }
    }

    /// Shows a message of the server's at the prompt. The mark says whose it is, also of those lines that look like this program's.
    pub(crate) fn show(&self, message: &str) {
        let mark = if terminal::has_colours() { "\x1b[36m<\x1b[0m" } else { "<" };
        let message = message.strip_suffix('\n').unwrap_or(message);
        self.print(&message.split('\n').flat_map(|line| [mark, " ", line, "\n"]).collect::<String>());
    }

    /// Prints whole lines at the prompt.
    pub(crate) fn print(&self, lines: &str) {
        self.prompt.iter().for_each(|prompt| prompt.print(lines));
    }

    /// Answers what was typed, with whole lines.
    pub(crate) fn answer(&self, lines: &str) {
        if self.has_prompt() { self.print(lines) } else { paper::put(lines) }
    }

    /// Writes a line that stays.
    pub(crate) fn tell(&self, state: ConnectionState, what: &str) {
        if !self.quiet {
            paper::put(&format!("{}{}\n", self.paint(state), one_line(what)));
        }
    }

    pub(crate) fn draw(&self, state: ConnectionState, what: &str) {
        match &self.prompt {
            _ if !self.live => {}
            Some(prompt) => prompt.show(state, one_line(what)),
            // Where a prompt follows, what is typed before would stand there twice.
            None => paper::show(&(self.paint(state) + &one_line(what)), self.typing && !self.shared),
        }
    }

    /// A line was typed, and its end has moved the cursor to the next row.
    pub(crate) fn enter(&self) {
        if self.typing {
            paper::leave_row();
        }
    }
}
