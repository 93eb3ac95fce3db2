//! What ends the program from outside: signals, Ctrl-C at the prompt, and the time of `--timeout`.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tautline::Client;

use super::{OVER, complain, terminal};

/// The exit code after a signal.
pub(crate) const INTERRUPTED: u8 = 130;

/// How long the program may take to end: the close, and a little. It takes longer only if nobody reads what it writes.
const LONGEST_END: Duration = Duration::from_secs(5);

/// The same for an end at once: to tell what was not delivered.
const SHORTEST_END: Duration = Duration::from_secs(1);

/// An attempt to connect whose own time is over says so itself, within this time.
const SOON: Duration = Duration::from_millis(500);

/// What signals have changed, for all threads.
#[derive(Clone)]
pub(crate) struct Signals {
    /// Whether the line is to be closed first. Otherwise the program ends at once.
    pub(crate) is_open: Arc<AtomicBool>,
    /// The line is to be closed.
    pub(crate) stop: Receiver<()>,
    ask: Sender<()>,
    is_hurried: Arc<AtomicBool>,
    /// Known from the first connection on.
    client: Arc<OnceLock<Client>>,
}

impl Signals {
    /// Begins to take SIGINT, SIGTERM and SIGHUP, but for those that were ignored when the program began.
    pub(crate) fn take() -> Result<Self, ctrlc::Error> {
        let (ask, stop) = bounded(1);
        let (is_open, is_hurried, client) = Default::default();
        let signals = Self { is_open, stop, ask, is_hurried, client };
        #[cfg(target_os = "linux")]
        keep_ignored();
        let interrupted = signals.clone();
        ctrlc::set_handler(move || interrupted.interrupt())?;
        Ok(signals)
    }

    /// A signal, or Ctrl-C at the prompt. The first one closes the line. While no line is open, and while it is closed, the
    /// program ends at once.
    pub(crate) fn interrupt(&self) {
        if self.is_open.swap(false, Ordering::SeqCst) {
            self.ask.try_send(()).ok();
            end_after(LONGEST_END);
            return;
        }
        let Some(client) = self.client.get() else { end(INTERRUPTED) };
        self.is_hurried.store(true, Ordering::SeqCst);
        end_after(SHORTEST_END);
        let _ = client.terminate(); // who closes the client has what is left
    }

    /// There is a connection now.
    pub(crate) fn connected(&self, client: &Client) {
        let _ = self.client.set(client.clone()); // there is one
        self.is_open.store(true, Ordering::SeqCst);
    }

    /// Whether a close was interrupted.
    pub(crate) fn is_hurried(&self) -> bool {
        self.is_hurried.load(Ordering::SeqCst)
    }

    /// THREAD `timeout`: ends the program when the time of `--timeout` is over, if it has not ended by then.
    pub(crate) fn end_in_time(&self, timeout: Duration) {
        let client = Arc::clone(&self.client);
        run("timeout", move || {
            thread::sleep(timeout + SOON);
            if client.get().is_none() {
                terminal::leave();
                process::exit(complain(5, OVER).into());
            }
            thread::sleep(LONGEST_END);
            end(5)
        });
    }
}

/// THREAD `end`: ends the program if it has not ended by then.
fn end_after(time: Duration) {
    run("end", move || {
        thread::sleep(time);
        end(INTERRUPTED)
    });
}

fn end(code: u8) -> ! {
    terminal::leave();
    process::exit(code.into())
}

fn run(name: &str, what: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.into()).spawn(what) {
        complain(0, &format!("a thread: {error}"));
    }
}

/// `nohup` ignores SIGHUP for the program that it starts, and shells ignore SIGINT for those in the background. The handler
/// would take both; what this thread blocks reaches none of its threads. Only Linux tells what is ignored without unsafe code.
#[cfg(target_os = "linux")]
fn keep_ignored() {
    use nix::sys::signal::{SigSet, Signal};

    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    // A file that may not grow is an error like any other.
    let mut blocked = SigSet::from(Signal::SIGXFSZ);
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        if ignored & (1 << (signal as i32 - 1)) != 0 {
            blocked.add(signal);
        }
    }
    let _ = blocked.thread_block(); // it fails for no set
}
