//! Opening a client, and waiting for its line.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use tautline::{ConnectionState, Ending, Error, Event, Shutdown};

use crate::boundary::{Refused, aligned, call, failed, nothing, place, refuse};
use crate::codes::{TAUTLINE_E_CLOSED, TAUTLINE_E_TIMEOUT, TAUTLINE_E_WOKEN};
use crate::options::Options;
use crate::process::Process;
use crate::signal::{Ended, Signal};
use crate::table::{Claim, Client, line};

/// What stands behind the number that C holds.
pub(crate) struct Line {
    pub(crate) client: tautline::Client,
    /// Which process opened it.
    pub(crate) process: Process,
    pub(crate) signal: Arc<Signal>,
    /// What was taken from the client and not by C.
    pub(crate) held: Mutex<Held>,
    /// Whether something is held, or is being taken and may be held then.
    pub(crate) holds: AtomicBool,
    /// Whether messages have a queue of their own.
    realtime: bool,
    /// Whether the last event was taken.
    pub(crate) ended: AtomicBool,
    /// Whether it is being shut down.
    pub(crate) ending: AtomicBool,
}

/// What was taken from the client and not by C.
#[derive(Default)]
pub(crate) struct Held {
    /// An event that C has had no room for, or that a look has found.
    pub(crate) next: Option<Event>,
    /// The last event, before which messages had come.
    pub(crate) last: Option<Event>,
}

impl Line {
    /// Whether there is something to take.
    pub(crate) fn is_waiting(&self) -> bool {
        if self.holds.load(SeqCst) || !self.client.events().is_empty() {
            return true;
        }
        if !self.realtime {
            return false;
        }
        // Only a look that takes it finds a message.
        match self.held.try_lock() {
            Ok(mut held) => self.finds_message(&mut held),
            Err(TryLockError::Poisoned(held)) => self.finds_message(&mut held.into_inner()),
            // Who takes now knows when it finds nothing.
            Err(TryLockError::WouldBlock) => true,
        }
    }

    /// Whether there is something to take, for the thread that is taking.
    #[cfg(unix)]
    pub(crate) fn is_waiting_for(&self, held: &mut Held) -> bool {
        !self.client.events().is_empty() || self.finds_message(held)
    }

    fn finds_message(&self, held: &mut Held) -> bool {
        if held.next.is_none() {
            held.next = self.message();
            self.holds.store(held.next.is_some() || held.last.is_some(), SeqCst);
        }
        held.next.is_some()
    }

    /// Takes the next message out of the queue that they have of their own, if they have one.
    pub(crate) fn message(&self) -> Option<Event> {
        let taken = if self.realtime { self.client.try_recv() } else { Ok(None) };
        taken.ok().flatten().map(Event::Message)
    }

    /// Whether the line will never be ready.
    fn is_over(&self) -> bool {
        self.ending.load(SeqCst) || self.client.state() == ConnectionState::Closed
    }

    /// Whether it has been shut down, and has no thread any more.
    pub(crate) fn is_gone(&self) -> bool {
        let is_ending = self.ending.load(SeqCst) && self.process.is_current();
        is_ending && matches!(self.client.shutdown(Ending::Close, Duration::ZERO), Shutdown::Gone(_))
    }

    /// The refusal of what a closed client can't do.
    pub(crate) fn closed(&self, what: &str) -> Refused {
        match self.client.status().trouble {
            Some(trouble) => refuse(TAUTLINE_E_CLOSED, format_args!("{what}: {trouble}")),
            None => refuse(TAUTLINE_E_CLOSED, format_args!("{what}")),
        }
    }
}

/// What a wait returns that has found nothing.
pub(crate) fn ended(how: &Ended) -> Refused {
    nothing(match how {
        Ended::Woken => TAUTLINE_E_WOKEN,
        Ended::TimedOut => TAUTLINE_E_TIMEOUT,
    })
}

/// Opens a client with these options, and writes its number to `client`. It connects in the background, and retries for as long
/// as it takes, or as the options say. Messages can be sent at once: they wait in the outbox. The options can be used again, and
/// changed; that does not change this client.
///
/// Threads: any. Does not wait for the network. With `wss://` it reads the certificates of the options. Allocates, and starts a
/// thread, and one more with the first client. In a constructor of a library the threads begin when it has been loaded.
///
/// Errors: `TAUTLINE_E_CONFIG`, `TAUTLINE_E_SYSTEM`, `TAUTLINE_E_CLIENTS`, `TAUTLINE_E_ARGUMENT`; `TAUTLINE_E_BUSY` if another thread is
/// changing the options. Nothing is left open then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_open(options: *const Options, client: *mut Client) -> i32 {
    call(|| {
        // SAFETY: the header says what `options` has to be.
        let options = unsafe { place(options, "options") }?;
        aligned(client, "client")?;
        let process = Process::current()?;
        let claim = Claim::new()?;
        let signal = Arc::<Signal>::default();
        let theirs = Arc::clone(&signal);
        let (builder, realtime) = options.builder()?;
        let started = builder.on_event_ready(move || theirs.ready()).start();
        let line = Line {
            client: started.map_err(|error| failed(&error))?,
            process,
            signal,
            held: Mutex::default(),
            holds: AtomicBool::new(false),
            realtime,
            ended: AtomicBool::new(false),
            ending: AtomicBool::new(false),
        };
        let opened = claim.put(Arc::new(line));
        // SAFETY: it is neither null nor misaligned, and the header says that it points to a `tautline_client`.
        unsafe { client.write(opened) };
        Ok(())
    })
}

/// Waits until the line is ready, for `timeout_ms` at most. With 0 it only looks.
///
/// Threads: any but those of a client (`TAUTLINE_E_DEADLOCK`). Blocks until the line is ready, the client is closed, `timeout_ms`
/// is over, or another thread calls `tautline_wake` or `tautline_shutdown`. Don't call it in a constructor of a library: it takes
/// its whole time there, since no thread can begin before the library has been loaded.
///
/// Errors: `TAUTLINE_E_TIMEOUT`, whose text says why the line is down; `TAUTLINE_E_CLOSED`, `TAUTLINE_E_WOKEN`,
/// `TAUTLINE_E_DEADLOCK`, `TAUTLINE_E_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn tautline_wait_ready(client: Client, timeout_ms: u32) -> i32 {
    call(|| {
        let line = line(client)?;
        let timeout = Duration::from_millis(timeout_ms.into());
        let look = || match line.client.wait_ready(Duration::ZERO) {
            // Its last event may come before what it left is known.
            Err(Error::Timeout { .. }) if line.is_over() => Some(Err(line.closed("the client is closed"))),
            Err(Error::Timeout { .. }) => None,
            outcome => Some(outcome.map_err(|error| failed(&error))),
        };
        match line.signal.wait(timeout, look) {
            Ok(outcome) => outcome,
            Err(Ended::TimedOut) => {
                let why =
                    line.client.status().trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
                let text = format_args!("the line was not ready after {timeout:?}{why}");
                Err(refuse(TAUTLINE_E_TIMEOUT, text))
            }
            Err(how) => Err(ended(&how)),
        }
    })
}

/// Ends the waits that other threads are in with this client: `tautline_wait_ready` and `tautline_wait_event` return
/// `TAUTLINE_E_WOKEN`. If nobody waits, the next wait ends at once. Several wake-ups that nobody waited for are one.
///
/// Threads: any. Never waits for more than a waiting thread's look at the client.
///
/// Errors: `TAUTLINE_E_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn tautline_wake(client: Client) -> i32 {
    call(|| {
        line(client)?.signal.wake(true);
        Ok(())
    })
}
