//! The keys at the prompt that do more than edit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustyline::history::MemHistory;
use rustyline::{
    Cmd, ConditionalEventHandler, Editor, Event, EventContext, EventHandler, KeyCode, KeyEvent, Modifiers,
    Movement, RepeatCount,
};

use super::commands;
use super::line::Look;
use super::lock::lock;
use super::prompt::Sheet;
use super::signals::Signals;
#[cfg(unix)]
use super::terminal;

/// In a paste, the next character comes within this time.
const MOMENT: Duration = Duration::from_millis(100);

const CTRL_C: char = '\x03';

/// What becomes of each key first.
struct Keys<E> {
    sheet: Arc<Sheet>,
    end: E,
    signals: Signals,
}

/// `end` is called for Ctrl-D in an empty line. Neither that nor Ctrl-C takes the line from the screen.
pub(crate) fn bind(
    editor: &mut Editor<Look, MemHistory>,
    sheet: &Arc<Sheet>,
    end: impl Fn() + Send + Sync + 'static,
    signals: Signals,
) {
    let keys = Keys { sheet: Arc::clone(sheet), end, signals };
    editor.bind_sequence(Event::Any, EventHandler::Conditional(Box::new(keys)));
}

impl<E> Keys<E> {
    /// Has the line drawn, and ends a search, behind which a move restores the prompt.
    fn drawn(&self) -> Cmd {
        let is_searching = self.sheet.is_searching();
        self.sheet.end_search();
        if is_searching { Cmd::Move(Movement::EndOfLine) } else { Cmd::Repaint }
    }

    /// Collects what the terminal puts between the brackets of a paste, and inserts it as a whole. The editor's own way would wait
    /// for the end, and a terminal that is cut off sends none. `None` for a key outside of a paste.
    fn paste(&self, KeyEvent(key, modifiers): KeyEvent) -> Option<Cmd> {
        match key {
            KeyCode::BracketedPasteStart => {
                *lock(&self.sheet.pasted) = Some(String::new());
                return Some(self.drawn());
            }
            KeyCode::BracketedPasteEnd => return self.sheet.end_paste().map(|text| Cmd::Insert(1, text)),
            _ => {}
        }
        let mut pasted = lock(&self.sheet.pasted);
        let text = pasted.as_mut()?;
        match key {
            KeyCode::Enter => text.push('\r'),
            KeyCode::Tab => text.push('\t'),
            KeyCode::Char(c) if modifiers.is_empty() => text.push(c),
            KeyCode::Char(c @ '@'..='_') if modifiers == Modifiers::CTRL => {
                text.push((c as u8 - b'@').into());
                if text.ends_with(CTRL_C) {
                    self.interrupt_behind(text.len());
                }
            }
            _ => {} // what a terminal would obey
        }
        Some(Cmd::Noop)
    }

    /// Nothing follows a Ctrl-C that is struck, where the end of a paste does not come: then it is one.
    fn interrupt_behind(&self, mut length: usize) {
        if self.sheet.is_watched.swap(true, Ordering::SeqCst) {
            return;
        }
        let (sheet, signals) = (Arc::clone(&self.sheet), self.signals.clone());
        let interrupt = move || {
            loop {
                thread::sleep(MOMENT);
                let now = lock(&sheet.pasted).as_ref().filter(|text| text.ends_with(CTRL_C)).map(String::len);
                match now {
                    Some(now) if now == length => break signals.interrupt(),
                    Some(now) => length = now,
                    None => break,
                }
            }
            sheet.is_watched.store(false, Ordering::SeqCst);
        };
        let _ = thread::Builder::new().name("paste".into()).spawn(interrupt); // without it, the paste goes on
    }

    /// Adds what all commands have in common that the line may become, or shows these.
    fn complete(&self, line: &str, at: usize) -> Cmd {
        let fitting = commands::beginning_with(line);
        let common = commands::in_common(&fitting);
        match common.get(line.len()..) {
            _ if self.sheet.is_searching() => self.drawn(),
            Some(more) if !more.is_empty() && at == line.len() => Cmd::Insert(1, more.to_owned()),
            _ => {
                self.sheet.add(&fitting.iter().flat_map(|name| [name, "\n"]).collect::<String>());
                Cmd::Repaint
            }
        }
    }
}

impl<E: Fn() + Send + Sync> ConditionalEventHandler for Keys<E> {
    /// `None` leaves the key to the editor.
    fn handle(&self, struck: &Event, _: RepeatCount, _: bool, edited: &EventContext<'_>) -> Option<Cmd> {
        let struck = *struck.get(0)?;
        if let Some(done) = self.paste(struck) {
            return Some(done);
        }
        let KeyEvent(key, modifiers) = struck;
        let is_ctrl = modifiers == Modifiers::CTRL;
        match key {
            // In a line, it deletes a character.
            KeyCode::Char('D') if is_ctrl && edited.line().is_empty() => (self.end)(),
            KeyCode::Char('C') if is_ctrl && self.sheet.is_searching() => {
                self.sheet.end_search();
                return Some(Cmd::Abort);
            }
            KeyCode::Char('C') if is_ctrl => self.signals.interrupt(),
            #[cfg(unix)]
            KeyCode::Char('Z') if is_ctrl => {
                // By itself, the editor goes on before the signal has stopped it.
                terminal::stop();
                return Some(self.drawn());
            }
            KeyCode::Tab => return Some(self.complete(edited.line(), edited.pos())),
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
