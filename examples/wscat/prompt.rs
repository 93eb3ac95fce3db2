//! The prompt: line editing with a history, and the status behind what is typed.
//!
//! One thread edits the line. Whatever others print goes through it: it takes the line off the screen, prints, and draws the line
//! again. So nothing that is typed is ever overwritten.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustyline::completion::Completer;
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::history::MemHistory;
use rustyline::validate::Validator;
use rustyline::{ColorMode, Config, Context, Editor, ExternalPrinter, Helper};

use super::commands;

const MARK: &str = "> ";

/// With less room than this behind the line, the status is left out.
const LEAST: usize = 12;

/// Prints nothing, and has the line drawn again: one row up, and down by the newline that each print ends with.
const REDRAW: &str = "\x1b[A\n";

/// Long enough for a thread that is awake to draw a line.
const DRAWN: Duration = Duration::from_millis(20);

/// What prints while a line is edited.
pub(crate) struct Prompt {
    printer: Box<dyn ExternalPrinter + Send>,
    status: Arc<Mutex<String>>,
}

/// What edits a line.
pub(crate) struct Lines(Editor<Side, MemHistory>);

/// How a read of a line ended.
pub(crate) enum Entered {
    Line(String),
    Interrupted,
    End,
}

/// What stands on the screen besides the line.
struct Side {
    status: Arc<Mutex<String>>,
    columns: AtomicUsize,
    colour: bool,
}

/// What stands behind the line, which no key makes a part of it.
struct Behind(String);

impl Prompt {
    /// `None` where the terminal can't edit lines.
    pub(crate) fn new(colour: bool) -> Option<(Self, Lines)> {
        let config = Config::builder().auto_add_history(true).completion_prompt_limit(20).build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history).ok()?;
        // Without it the status would not be drawn anew. What is coloured is decided here.
        editor.set_color_mode(ColorMode::Forced);
        let printer = Box::new(editor.create_external_printer().ok()?);
        let (status, columns) = (Arc::new(Mutex::new(String::new())), AtomicUsize::new(80));
        editor.set_helper(Some(Side { status: Arc::clone(&status), columns, colour }));
        Some((Self { printer, status }, Lines(editor)))
    }

    /// Prints whole lines.
    pub(crate) fn print(&mut self, text: &str) {
        // It fails when the line is edited no more.
        if self.printer.print(text.to_owned()).is_err() {
            io::Write::write_all(&mut io::stdout(), text.as_bytes()).ok();
        }
    }

    /// Shows another status.
    pub(crate) fn show(&mut self, status: &str) {
        if *lock(&self.status) != status {
            status.clone_into(&mut lock(&self.status));
            self.print(REDRAW);
        }
    }

    /// Returns when all has been printed, and the line is drawn no more unless a key is struck.
    pub(crate) fn finish(&mut self) {
        lock(&self.status).clear();
        // The first takes the place of what was printed last, so that this is on the screen when the second is taken.
        (0..2).for_each(|_| self.print(REDRAW));
        std::thread::sleep(DRAWN);
    }
}

impl Lines {
    pub(crate) fn next(&mut self) -> io::Result<Entered> {
        // A terminal that does not know its width says 0.
        let columns = self.0.dimensions().map(|(columns, _)| columns.into()).filter(|columns| *columns > 0);
        let columns = columns.unwrap_or(80);
        if let Some(side) = self.0.helper() {
            side.columns.store(columns, Ordering::Relaxed);
        }
        match self.0.readline(MARK) {
            Ok(line) => Ok(Entered::Line(line)),
            Err(ReadlineError::Eof) => Ok(Entered::End),
            Err(ReadlineError::Interrupted) => Ok(Entered::Interrupted),
            Err(ReadlineError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Hint for Behind {
    fn display(&self) -> &str {
        &self.0
    }

    fn completion(&self) -> Option<&str> {
        None
    }
}

impl Hinter for Side {
    type Hint = Behind;

    /// The room for the status: the rest of the row. What stands there is decided when it is drawn, which is more often.
    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<Behind> {
        let columns = self.columns.load(Ordering::Relaxed);
        // The last column stays free: behind it, the cursor would be in the next row.
        let room = columns - (MARK.len() + width(line)) % columns - 1;
        (room >= LEAST).then(|| Behind(" ".repeat(room)))
    }
}

impl Highlighter for Side {
    /// The state in green or yellow, the rest dim.
    fn highlight_hint<'h>(&self, room: &'h str) -> Cow<'h, str> {
        let room = room.len().saturating_sub(2);
        let status: String = lock(&self.status).chars().take(room).collect();
        let status = format!("{status:room$}");
        if !self.colour {
            return format!("  {status}").into();
        }
        let (state, rest) = status.split_once(' ').unwrap_or((&status, ""));
        let colour = if matches!(state, "CONNECTED" | "AUTHENTICATED") { 32 } else { 33 };
        format!("  \x1b[{colour}m{state}\x1b[0m \x1b[2m{rest}\x1b[0m").into()
    }
}

impl Completer for Side {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok((0, line.get(..at).map(commands::beginning_with).unwrap_or_default()))
    }
}

impl Validator for Side {}

impl Helper for Side {}

/// How many columns a text takes. A character outside ASCII counts as two, to be safe.
fn width(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
