//! How the line at the prompt looks, and what completes it.

use std::borrow::Cow;
use std::sync::Arc;

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::{Hint, Hinter};
use rustyline::validate::Validator;
use rustyline::{Context, Helper};
use terminal_size::{Width, terminal_size};

use super::prompt::{MARK, Sheet};
use super::terminal::{is_wild, painted};

/// With less room than this behind the line, the status is left out.
const LEAST: usize = 12;

/// What the editor asks while it draws.
pub(crate) struct Look(Arc<Sheet>);

/// What stands behind the line, which no key makes a part of it.
pub(crate) struct Behind(String);

impl Look {
    pub(crate) fn new(sheet: Arc<Sheet>) -> Self {
        Self(sheet)
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

impl Hinter for Look {
    type Hint = Behind;

    /// The room for the status: the rest of the row. What stands there is decided when it is drawn, which is more often.
    fn hint(&self, line: &str, _: usize, _: &Context<'_>) -> Option<Behind> {
        self.0.set_typed(line);
        if self.0.is_searching() {
            return None;
        }
        // A terminal that does not know its width says 0.
        let columns =
            terminal_size().map(|(Width(columns), _)| columns.into()).filter(|columns| *columns > 0);
        let columns: usize = columns.unwrap_or(80);
        // The last column stays free: behind it, the cursor would be in the next row.
        let room = columns - (MARK.len() + width(line)) % columns - 1;
        (room >= LEAST).then(|| Behind(" ".repeat(room)))
    }
}

impl Highlighter for Look {
    /// Lines of other threads, then the mark.
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        (self.0.take_lines() + prompt).into()
    }

    /// What is typed or pasted, without what the terminal would obey. None of it has a width.
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        tamed(line)
    }

    /// The state in its colour, the rest dim.
    fn highlight_hint<'h>(&self, room: &'h str) -> Cow<'h, str> {
        let Some((state, more)) = self.0.status() else { return room.into() };
        let (room, name) = (room.len().saturating_sub(2), state.to_string());
        let left = room.saturating_sub(name.len());
        let more: String = more.chars().take(left).collect();
        if !self.0.colour || left == 0 {
            let status: String = (name + &more).chars().take(room).collect();
            return format!("  {status:room$}").into();
        }
        format!("  {}\x1b[2m{more:left$}\x1b[0m", painted(state)).into()
    }
}

/// Tab is among the keys: the editor would wait for another one.
impl Completer for Look {
    type Candidate = String;
}

impl Validator for Look {}

impl Helper for Look {}

pub(crate) fn tamed(line: &str) -> Cow<'_, str> {
    let is_obeyed = |c: char| is_wild(c) && !matches!(c, '\n' | '\t' | '\u{200c}' | '\u{200d}');
    if line.contains(is_obeyed) { line.replace(is_obeyed, "").into() } else { line.into() }
}

/// How many columns a text takes. A character outside ASCII counts as two, to be safe.
fn width(text: &str) -> usize {
    text.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
}
