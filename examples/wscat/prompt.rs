//! The prompt: line editing with a history, and the status behind what is typed.
//!
//! One thread edits the line, and it alone draws. What others print lies on a sheet until the line is drawn the next time, and
//! comes out above it. So nothing that is typed is ever overwritten, and nobody waits for the keyboard.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{mem, thread};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustyline::config::Configurer;
use rustyline::error::ReadlineError;
use rustyline::history::{History, MemHistory};
use rustyline::{ColorMode, Config, Editor, ExternalPrinter};
use tautline::ConnectionState;

use super::keys;
use super::line::{Look, tamed};
use super::lock::lock;
use super::signals::Signals;
use super::terminal;

/// What stands before the line.
pub(crate) const MARK: &str = "> ";

/// Has the line drawn: the editor does so behind each print, and this one leaves no trace. It goes one row up, and down by the
/// newline that each print ends with.
const DRAW: &str = "\x1b[A\n";

/// Leaves the line where it is, and clears what is below its row.
pub(crate) const BELOW: &str = "\r\n\x1b[J";

/// How long a key of several characters may take, in milliseconds. Escape alone is one, too.
const ONE_KEY: u16 = 50;

const NO_TEXT: &str = "left out: a key that is no UTF-8, and what came together with it\n";

/// How long the editor may take to stop. It takes longer while it waits for the second key of a pair.
const STOPPED: Duration = Duration::from_millis(200);

/// How long it may take to draw the line.
const STUCK: Duration = Duration::from_millis(300);

/// So many bytes may wait to be drawn.
const MOST: usize = 1 << 16;

/// What prints while a line is edited.
#[derive(Clone)]
pub(crate) struct Prompt {
    sheet: Arc<Sheet>,
    draw: Sender<()>,
    stopped: Receiver<()>,
}

/// What edits a line.
pub(crate) struct LineEditor {
    editor: Editor<Look, MemHistory>,
    sheet: Arc<Sheet>,
}

/// How a read of a line ended.
pub(crate) enum Entered {
    Line(String),
    /// By the key of the terminal for that, where it is none of those that are bound.
    Interrupted,
    End,
}

/// What the thread that edits shares with the others.
pub(crate) struct Sheet {
    pub(crate) colour: bool,
    status: Mutex<Option<(ConnectionState, String)>>,
    /// Lines that are not on the screen yet.
    lines: Mutex<String>,
    /// What was typed so far.
    typed: Mutex<String>,
    /// What came so far of a paste whose end is still to come.
    pub(crate) pasted: Mutex<Option<String>>,
    /// Somebody waits for what follows a Ctrl-C in it.
    pub(crate) is_watched: AtomicBool,
    /// Since when it is to be drawn anew.
    wanted: Mutex<Option<Instant>>,
    /// The keys for signals are signals.
    has_signals: AtomicBool,
    is_searching: AtomicBool,
    has_history: AtomicBool,
    is_over: AtomicBool,
    stopped: Sender<()>,
}

impl Prompt {
    /// `None` where the terminal can't edit lines.
    pub(crate) fn new(colour: bool) -> Option<(Self, LineEditor)> {
        let config = Config::builder().auto_add_history(true);
        let config = config.keyseq_timeout(Some(ONE_KEY)).build();
        let history = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, history).ok()?;
        // Without it the status would not be drawn anew. What is coloured is decided here.
        editor.set_color_mode(ColorMode::Forced);
        let printer = editor.create_external_printer().ok()?;
        let ((draw, wanted), (stop, stopped)) = (bounded(1), bounded(1));
        let sheet = Arc::new(Sheet {
            colour,
            status: Mutex::default(),
            lines: Mutex::default(),
            typed: Mutex::default(),
            pasted: Mutex::default(),
            is_watched: AtomicBool::new(false),
            wanted: Mutex::default(),
            has_signals: AtomicBool::new(false),
            is_searching: AtomicBool::new(false),
            has_history: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            stopped: stop,
        });
        editor.set_helper(Some(Look::new(Arc::clone(&sheet))));
        let drawing = thread::Builder::new().name("draw".into());
        drawing.spawn(move || draw_again(printer, &wanted)).ok()?;
        Some((Self { sheet: Arc::clone(&sheet), draw, stopped }, LineEditor { editor, sheet }))
    }

    /// Prints whole lines.
    pub(crate) fn print(&self, text: &str) {
        if !text.is_empty() {
            lock(&self.sheet.lines).push_str(text);
            self.draw();
        }
    }

    /// Shows another status.
    pub(crate) fn show(&self, state: ConnectionState, more: String) {
        self.sheet.take_signals();
        let status = Some((state, more));
        if *lock(&self.sheet.status) != status {
            *lock(&self.sheet.status) = status;
            self.draw();
        }
    }

    /// Whether so much waits to be drawn that there should not be more. It waits while two keys are struck that belong together.
    pub(crate) fn is_behind(&self) -> bool {
        lock(&self.sheet.lines).len() > MOST
    }

    /// Ends with all on the screen that was printed, and with what was typed. The terminal is not touched by the editor any more.
    pub(crate) fn end(&self) {
        self.sheet.is_over.store(true, Ordering::SeqCst);
        self.draw();
        let is_clear = self.stopped.recv_timeout(STOPPED).is_ok();
        let mut rest = String::new();
        if !is_clear {
            rest.push_str(BELOW); // it is inside of a key, which nobody may strike any more
        }
        rest += &mem::take(&mut *lock(&self.sheet.lines));
        self.sheet.keep_pasted();
        let typed = mem::take(&mut *lock(&self.sheet.typed));
        if is_clear && !typed.is_empty() {
            rest.extend([MARK, &tamed(&typed), "\n"]);
        }
        io::stdout().write_all(rest.as_bytes()).ok(); // where stdout is gone, so is the reader
    }

    fn draw(&self) {
        lock(&self.sheet.wanted).get_or_insert_with(Instant::now);
        let _ = self.draw.try_send(()); // if one is wanted already, it shows this, too
    }
}

/// THREAD `draw`: waits where others must not. While the editor reads the second key of a pair, it takes nothing.
fn draw_again(mut printer: impl ExternalPrinter, wanted: &Receiver<()>) {
    for () in wanted {
        let _ = printer.print(DRAW.into()); // it fails when the line is edited no more
    }
}

impl LineEditor {
    /// `end` is called for Ctrl-D in an empty line. Neither that nor Ctrl-C takes the line from the screen.
    pub(crate) fn bind(&mut self, end: impl Fn() + Send + Sync + 'static, signals: Signals) {
        keys::bind(&mut self.editor, &self.sheet, end, signals);
    }

    pub(crate) fn next(&mut self) -> io::Result<Entered> {
        loop {
            self.sheet.stop_if_over();
            let typed = mem::take(&mut *lock(&self.sheet.typed));
            let read = self.editor.readline_with_initial(MARK, (&typed, ""));
            self.sheet.has_history.store(!self.editor.history().is_empty(), Ordering::SeqCst);
            match read {
                // A byte that is no UTF-8. What was typed before it stays.
                Err(ReadlineError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    lock(&self.sheet.lines).push_str(NO_TEXT);
                    self.sheet.keep_pasted(); // its end may be among what is left out
                }
                Ok(line) => {
                    lock(&self.sheet.typed).clear();
                    return Ok(Entered::Line(line));
                }
                Err(ReadlineError::Eof) => return Ok(Entered::End),
                Err(ReadlineError::Interrupted) => return Ok(Entered::Interrupted),
                Err(ReadlineError::Io(error)) => return Err(error),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

impl Sheet {
    /// The history is searched, if there is any. No status stands behind that.
    pub(crate) fn search(&self) {
        self.is_searching.store(self.has_history.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    pub(crate) fn end_search(&self) {
        self.is_searching.store(false, Ordering::SeqCst);
    }

    pub(crate) fn is_searching(&self) -> bool {
        self.is_searching.load(Ordering::SeqCst)
    }

    /// The line is about to be drawn. Returns the lines that come before it.
    pub(crate) fn take_lines(&self) -> String {
        self.stop_if_over();
        *lock(&self.wanted) = None;
        if self.has_signals.swap(false, Ordering::SeqCst) {
            terminal::set_signals(false);
        }
        mem::take(&mut *lock(&self.lines))
    }

    /// Has Ctrl-C be a signal if the line can't be drawn: then no key is read either. That is where a terminal takes nothing.
    fn take_signals(&self) {
        let is_stuck = lock(&self.wanted).is_some_and(|since| since.elapsed() > STUCK);
        if is_stuck && !self.is_searching() && !self.has_signals.swap(true, Ordering::SeqCst) {
            terminal::set_signals(true);
        }
    }

    /// Shows these lines with what is drawn next.
    pub(crate) fn add(&self, lines: &str) {
        lock(&self.lines).push_str(lines);
    }

    pub(crate) fn set_typed(&self, line: &str) {
        line.clone_into(&mut lock(&self.typed));
    }

    /// Ends a paste before its own end.
    fn keep_pasted(&self) {
        lock(&self.typed).push_str(&self.end_paste().unwrap_or_default());
    }

    /// Returns the text of the paste, if there is one.
    pub(crate) fn end_paste(&self) -> Option<String> {
        Some(lock(&self.pasted).take()?.replace("\r\n", "\n").replace('\r', "\n"))
    }

    pub(crate) fn status(&self) -> Option<(ConnectionState, String)> {
        lock(&self.status).clone()
    }

    /// The thread that edits stops here for good: another has the terminal.
    fn stop_if_over(&self) {
        while self.is_over.load(Ordering::SeqCst) {
            let _ = self.stopped.try_send(()); // said once
            thread::park();
        }
    }
}
