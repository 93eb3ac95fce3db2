//! What the library says of itself, for those who ask.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use log::{LevelFilter, Log, Metadata, Record};

use crate::boundary::{call, refuse};
use crate::codes::{TAUTLINE_E_ARGUMENT, TAUTLINE_E_BUSY, TAUTLINE_E_SYSTEM};

/// Nothing is logged.
pub const TAUTLINE_LOG_OFF: i32 = 0;
/// What ends a client by a defect.
pub const TAUTLINE_LOG_ERROR: i32 = 1;
/// Each loss and each failed attempt, with its reason, and what looks wrong in the options.
pub const TAUTLINE_LOG_WARN: i32 = 2;
/// Each state of a line.
pub const TAUTLINE_LOG_INFO: i32 = 3;
/// Details.
pub const TAUTLINE_LOG_DEBUG: i32 = 4;
/// More details.
pub const TAUTLINE_LOG_TRACE: i32 = 5;

/// Gets a line of the log: the `user` that was given with it, the level, and the text of `length` bytes with a NUL behind it, which is
/// gone when the call returns. It is called on whichever thread has something to say, on several at once, and on those of a client:
/// there a call that would block fails. It must not wait for a lock that the caller of `tautline_shutdown` holds, and nothing
/// may be thrown out of it.
pub type LogFn =
    Option<unsafe extern "C" fn(user: *mut c_void, level: i32, text: *const c_char, length: usize)>;

struct Sink {
    call: unsafe extern "C" fn(*mut c_void, i32, *const c_char, usize),
    user: *mut c_void,
    level: LevelFilter,
}

// SAFETY: `user` is not looked at here, and the header says that the function is called on any thread.
unsafe impl Send for Sink {}
// SAFETY: as above; and that it is called on several threads at once.
unsafe impl Sync for Sink {}

struct Logger;

struct Sinks {
    current: Option<Arc<Sink>>,
    /// Those that were replaced, until their last call has returned.
    leaving: Vec<Weak<Sink>>,
}

static SINKS: Mutex<Sinks> = Mutex::new(Sinks { current: None, leaving: Vec::new() });

fn sinks() -> MutexGuard<'static, Sinks> {
    SINKS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Those of other crates say what is in the messages.
        metadata.target().starts_with("tautline") && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Some(sink) = sinks().current.clone() else { return };
        if record.level() > sink.level {
            return;
        }
        let mut text = record.args().to_string();
        let length = text.len();
        text.push('\0');
        // SAFETY: the header says what the function has to be, and the text outlives the call.
        unsafe { (sink.call)(sink.user, record.level() as i32, text.as_ptr().cast(), length) };
    }

    fn flush(&self) {}
}

/// Has lines of the log up to this level (`TAUTLINE_LOG_…`) given to `callback`, instead of to the one before. A null `callback`, or
/// `TAUTLINE_LOG_OFF`, turns that off. Nothing is logged anywhere unless this is called.
///
/// Turn it off before the code of `callback` or `user` goes. Nothing of it is called once this has returned `TAUTLINE_OK`.
///
/// Threads: any. Never waits for a callback: `TAUTLINE_E_BUSY` says that a call of an earlier one has not returned. The new
/// setting holds then; call again to hear when that call is over.
///
/// Errors: `TAUTLINE_E_BUSY`, `TAUTLINE_E_ARGUMENT`; `TAUTLINE_E_SYSTEM` if a Rust program that this is linked into has a logger.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_log_to(callback: LogFn, user: *mut c_void, level: i32) -> i32 {
    call(|| {
        let level = match level {
            TAUTLINE_LOG_OFF => LevelFilter::Off,
            TAUTLINE_LOG_ERROR => LevelFilter::Error,
            TAUTLINE_LOG_WARN => LevelFilter::Warn,
            TAUTLINE_LOG_INFO => LevelFilter::Info,
            TAUTLINE_LOG_DEBUG => LevelFilter::Debug,
            TAUTLINE_LOG_TRACE => LevelFilter::Trace,
            _ => return Err(refuse(TAUTLINE_E_ARGUMENT, format_args!("{level} is no level of the log"))),
        };
        let sink =
            callback.filter(|_| level != LevelFilter::Off).map(|call| Arc::new(Sink { call, user, level }));
        if sink.is_some() && !is_installed() {
            return Err(refuse(
                TAUTLINE_E_SYSTEM,
                format_args!("this program has a logger of the crate log already"),
            ));
        }
        let mut sinks = sinks();
        log::set_max_level(if sink.is_some() { level } else { LevelFilter::Off });
        let before = std::mem::replace(&mut sinks.current, sink);
        sinks.leaving.extend(before.as_ref().map(Arc::downgrade));
        drop(before);
        sinks.leaving.retain(|sink| sink.strong_count() > 0);
        if sinks.leaving.is_empty() {
            return Ok(());
        }
        Err(refuse(TAUTLINE_E_BUSY, format_args!("a call of an earlier callback has not returned")))
    })
}

/// Installs the logger with the first call. Returns whether it is there.
fn is_installed() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(|| log::set_logger(&Logger).is_ok())
}
