//! Which characters a terminal must not get, and how it is set.

use std::env;
use std::io;
#[cfg(not(unix))]
use std::io::Write;
#[cfg(unix)]
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
#[cfg(unix)]
use nix::{
    libc,
    sys::signal::{self, Signal},
    sys::termios::{self, FlushArg, LocalFlags, SetArg, SpecialCharacterIndices, Termios},
    unistd::{self, Pid},
};
use tautline::ConnectionState::{self, Authenticated, Connected};

#[cfg(unix)]
use super::lock::lock;
use super::paper;
use super::prompt::BELOW;

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

/// Whether colours are wanted: see <https://no-color.org>.
pub(crate) fn has_colours() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The state, in green or yellow.
pub(crate) fn painted(state: ConnectionState) -> String {
    let colour = if matches!(state, Connected | Authenticated) { 32 } else { 33 };
    format!("\x1b[{colour}m{state}\x1b[0m")
}

/// Has the terminal put no brackets around a paste, as the editor of lines wants them, and show what it was to show at once.
const AS_BEFORE: &[u8] = b"\x1b[?2004l\x1b[?2026l";

#[cfg(unix)]
const AS_FOR_THE_PROMPT: &[u8] = b"\x1b[?2004h";

/// Long enough for a signal to reach the thread that takes it, and how often to look whether the terminal is this program's again.
#[cfg(unix)]
const MOMENT: Duration = Duration::from_millis(100);

/// How long it may take to leave the terminal.
const LONGEST: Duration = Duration::from_millis(300);

/// Whether lines are edited, or were until the terminal is given back.
static HAS_PROMPT: AtomicBool = AtomicBool::new(false);

/// The settings of the terminal when the program began.
#[cfg(unix)]
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Remembers how the terminal is set, if stdin is one.
pub(crate) fn remember() {
    #[cfg(unix)]
    {
        *lock(&BEFORE) = termios::tcgetattr(io::stdin()).ok();
    }
}

/// From now on lines are edited.
pub(crate) fn begin_prompt() {
    HAS_PROMPT.store(true, Ordering::SeqCst);
}

/// Sets the terminal as it was. Not in the background: it belongs to another program by then, and who sets it is stopped.
pub(crate) fn give_back() {
    #[cfg(unix)]
    if is_in_background() {
        return;
    }
    set_as_before();
    if HAS_PROMPT.swap(false, Ordering::SeqCst) {
        write(AS_BEFORE);
    }
}

/// Waits for nobody: what the terminal still has to show stays in its place.
fn set_as_before() {
    #[cfg(unix)]
    if let Some(settings) = &*lock(&BEFORE) {
        // There is nobody to tell that it is gone.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, settings);
    }
}

/// The same for an end at once, which a terminal that takes nothing holds up no longer than for a moment.
pub(crate) fn leave() {
    let (done, is_done) = bounded(1);
    let leave = move || {
        #[cfg(unix)]
        if !is_in_background() {
            set_as_before(); // a terminal that takes nothing holds up what is written
        }
        if HAS_PROMPT.load(Ordering::SeqCst) {
            write(BELOW.as_bytes());
        }
        paper::tidy();
        give_back();
        done.send(())
    };
    if thread::Builder::new().name("leave".into()).spawn(leave).is_ok() {
        let _ = is_done.recv_timeout(LONGEST);
    }
}

/// What was typed for this program is for no other.
pub(crate) fn drop_typed() {
    #[cfg(unix)]
    let _ = termios::tcflush(io::stdin(), FlushArg::TCIFLUSH); // where stdin is no terminal, there is nothing to drop
}

/// Stops this program and those of its pipe, as Ctrl-Z does where no line is edited. Returns when it has the terminal again.
#[cfg(unix)]
pub(crate) fn stop() {
    let settings = termios::tcgetattr(io::stdin());
    give_back();
    if signal::kill(Pid::from_raw(0), Signal::SIGTSTP).is_ok() {
        thread::sleep(MOMENT); // the stop falls into this time
    }
    while is_in_background() {
        thread::sleep(MOMENT);
    }
    begin_prompt();
    if let Ok(settings) = settings {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &settings); // as in `give_back`
    }
    write(AS_FOR_THE_PROMPT);
}

/// At the prompt, Ctrl-C is a key. While `are` it is a signal, too, which takes nothing of what was typed; Ctrl-Z and Ctrl-\\ are
/// keys in any case.
#[cfg(unix)]
pub(crate) fn set_signals(are: bool) {
    let Ok(mut settings) = termios::tcgetattr(io::stdin()) else { return };
    settings.local_flags.set(LocalFlags::ISIG | LocalFlags::NOFLSH, are);
    let before = lock(&BEFORE);
    let Some(before) = before.as_ref().filter(|_| !is_in_background()) else { return };
    for key in [SpecialCharacterIndices::VSUSP, SpecialCharacterIndices::VQUIT] {
        let key = key as usize;
        settings.control_chars[key] = if are { libc::_POSIX_VDISABLE } else { before.control_chars[key] };
    }
    let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &settings); // as in `give_back`
}

/// On Windows, nothing is known of a terminal that takes nothing.
#[cfg(not(unix))]
pub(crate) fn set_signals(_: bool) {}

#[cfg(unix)]
fn is_in_background() -> bool {
    unistd::tcgetpgrp(io::stdin()).is_ok_and(|foreground| foreground != unistd::getpgrp())
}

/// Writes to the terminal of the prompt. The main thread has locked stdout.
fn write(bytes: &[u8]) {
    #[cfg(unix)]
    let _ = unistd::write(io::stdout(), bytes); // there is nobody to tell that it is gone
    #[cfg(not(unix))]
    io::stderr().write_all(bytes).ok();
}
