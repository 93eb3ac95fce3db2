//! The keys at the prompt that do more than edit.

use std::sync::Arc;

use rustyline::history::MemHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Editor, Event, EventContext, EventHandler, KeyCode, KeyEvent, Modifiers,
    RepeatCount,
};

use super::line::Line;
use super::prompt::Sheet;
#[cfg(unix)]
use super::terminal;

/// What becomes of each key first.
struct Keys<E, I> {
    sheet: Arc<Sheet>,
    end: E,
    interrupt: I,
}

/// `end` is called for Ctrl-D in an empty line, `interrupt` for Ctrl-C. Both leave the line on the screen.
pub(crate) fn bind(
    editor: &mut Editor<Line, MemHistory>,
    sheet: &Arc<Sheet>,
    end: impl Fn() + Send + Sync + 'static,
    interrupt: impl Fn() + Send + Sync + 'static,
) {
    let keys = Keys { sheet: Arc::clone(sheet), end, interrupt };
    editor.bind_sequence(Event::Any, EventHandler::Conditional(Box::new(keys)));
}

impl<E: Fn() + Send + Sync, I: Fn() + Send + Sync> ConditionalEventHandler for Keys<E, I> {
    /// `None` leaves the key to the editor.
    fn handle(&self, struck: &Event, _: RepeatCount, _: bool, edited: &EventContext<'_>) -> Option<Cmd> {
        let KeyEvent(key, modifiers) = *struck.get(0)?;
        let is_ctrl = modifiers == Modifiers::CTRL;
        match key {
            // In a line, it deletes a character.
            KeyCode::Char('D') if is_ctrl && edited.line().is_empty() => (self.end)(),
            KeyCode::Char('C') if is_ctrl => (self.interrupt)(),
            #[cfg(unix)]
            KeyCode::Char('Z') if is_ctrl => {
                // By itself, the editor goes on before the signal has stopped it.
                terminal::stop();
                return Some(Cmd::Repaint);
            }
            KeyCode::Char('R') if is_ctrl => {
                self.sheet.search();
                return None;
            }
            // These go on with a search, and all others end it.
            KeyCode::Char(_) if !is_ctrl => return None,
            KeyCode::Backspace | KeyCode::Char('H' | 'S') => return None,
            _ => {
                self.sheet.end_search();
                return None;
            }
        }
        Some(Cmd::Noop)
    }
}
