//! What the library says of itself, for those who ask.

use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst, fence};
use std::{iter, ptr};

use crossbeam_utils::atomic::AtomicCell;
use log::{LevelFilter, Log, Metadata, Record};

use crate::boundary::{Result, call, refuse};
use crate::codes::{TAUTLINE_E_ARGUMENT, TAUTLINE_E_BUSY, TAUTLINE_E_SYSTEM};
use crate::process::Process;
use crate::words::in_c;

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

/// One is never freed: a thread may be about to count its call. It is used again when C sets the same.
struct Sink {
    call: unsafe extern "C" fn(*mut c_void, i32, *const c_char, usize),
    user: *mut c_void,
    level: LevelFilter,
    /// Which process calls it. In a child made by fork, no call that a thread of the parent's was inside of ever returns.
    process: Process,
    /// How many calls have not returned.
    calls: AtomicUsize,
    next: Option<&'static Sink>,
}

// SAFETY: `user` is not looked at here, and the header says that the function is called on any thread.
unsafe impl Send for Sink {}
// SAFETY: as above; and that it is called on several threads at once.
unsafe impl Sync for Sink {}

/// Where lines go. No lock, which another thread may hold during a fork, and nothing with a destructor in the thread: a thread
/// of a client ends while a destructor of a library waits for it with the lock of the system's loader.
static CURRENT: AtomicCell<Option<&'static Sink>> = AtomicCell::new(None);

const _: () = assert!(AtomicCell::<Option<&Sink>>::is_lock_free());

/// The head of the list of all.
static ALL: AtomicCell<Option<&'static Sink>> = AtomicCell::new(None);

/// Compared by its place.
impl PartialEq for Sink {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl Eq for Sink {}

impl Sink {
    /// The one of this process that calls this.
    fn of(
        call: unsafe extern "C" fn(*mut c_void, i32, *const c_char, usize),
        user: *mut c_void,
        level: LevelFilter,
    ) -> Result<&'static Self> {
        loop {
            let next = ALL.load();
            let is_same =
                |sink: &Self| ptr::fn_addr_eq(sink.call, call) && sink.user == user && sink.level == level;
            if let Some(found) = Self::all().find(|sink| is_same(sink)) {
                return Ok(found);
            }
            let (process, calls) = (Process::current()?, AtomicUsize::new(0));
            let made = &*Box::leak(Box::new(Self { call, user, level, process, calls, next }));
            // Another thread may have been faster.
            if ALL.compare_exchange(next, Some(made)).is_ok() {
                return Ok(made);
            }
        }
    }

    /// Those of this process.
    fn all() -> impl Iterator<Item = &'static Self> {
        iter::successors(ALL.load(), |sink| sink.next).filter(|sink| sink.process.is_current())
    }
}

/// A call of a sink.
struct Call(&'static Sink);

impl Call {
    /// Begins a call of the current sink.
    fn begin() -> Option<Self> {
        loop {
            let sink = CURRENT.load()?;
            if !sink.process.is_current() {
                let own = Sink::of(sink.call, sink.user, sink.level).ok()?;
                let _ = CURRENT.compare_exchange(Some(sink), Some(own));
                continue;
            }
            sink.calls.fetch_add(1, SeqCst);
            let call = Self(sink);
            // The count comes before the look: who replaces it looks at the count afterwards.
            fence(SeqCst);
            if CURRENT.load() == Some(sink) {
                return Some(call);
            }
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, SeqCst);
    }
}

/// Its place says whether it is the one that was installed; a place of no size could be another's, too.
struct Logger(#[expect(dead_code, reason = "its size")] u8);

static LOGGER: Logger = Logger(0);

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Those of other crates say what is in the messages.
        metadata.target().starts_with("tautline") && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Some(call) = Call::begin() else { return };
        let sink = call.0;
        if record.level() > sink.level {
            return;
        }
        let mut text = in_c(record.args());
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
/// setting holds then; call again to hear when that call is over. Some 60 bytes stay for each setting that is unlike all before.
/// In a child made by fork the setting of the parent holds.
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
        let sink = match callback.filter(|_| level != LevelFilter::Off) {
            Some(call) => Some(Sink::of(call, user, level)?),
            None => None,
        };
        if sink.is_some() && !is_installed() {
            return Err(refuse(
                TAUTLINE_E_SYSTEM,
                format_args!("this program has a logger of the crate log already"),
            ));
        }
        CURRENT.store(sink);
        set_max_level();
        fence(SeqCst);
        if Sink::all().any(|one| sink != Some(one) && one.calls.load(SeqCst) > 0) {
            return Err(refuse(
                TAUTLINE_E_BUSY,
                format_args!("a call of an earlier callback has not returned"),
            ));
        }
        Ok(())
    })
}

/// Has the crate `log` leave out what the current one does not get.
fn set_max_level() {
    loop {
        let sink = CURRENT.load();
        log::set_max_level(sink.map_or(LevelFilter::Off, |sink| sink.level));
        // The level of one that another thread has replaced meanwhile must not stay.
        if CURRENT.load() == sink {
            return;
        }
    }
}

/// Installs the logger with the first call. Returns whether it is there.
fn is_installed() -> bool {
    let is_there = || ptr::addr_eq(log::logger(), &raw const LOGGER);
    // Of two first calls at once, one installs it.
    is_there() || log::set_logger(&LOGGER).is_ok() || is_there()
}
