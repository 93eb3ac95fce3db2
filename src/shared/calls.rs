//! Which of the application's code runs on a client's threads, so that an end that can't wait for it can name it.

use std::io;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::error::Error;
use crate::logging::LOG;
use crate::panics::caught;
use crate::shared::thread_mark::{Running, Thread, ThreadHandle, Threads};
use crate::transport::stream::Watch;

/// Code of the application on the I/O thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Callback {
    Prepare = 1,
    OnOpen,
    OnMessage,
    OnPing,
    OnPong,
    OnSend,
    OnWithdrawn,
    OnWork,
    OnMoveFailed,
    OnTimer,
    OnBeat,
    OnClosing,
    OnDown,
    CountsAsData,
    OnThreadStart,
    OnThreadEnd,
    OnEventReady,
    Stream,
    Drop,
}

/// The names of the callbacks, in that order. The first entry stands for anything else that may keep the thread.
const NAMES: [&str; 20] = [
    ELSE,
    "prepare",
    "on_open",
    "on_message",
    "on_ping",
    "on_pong",
    "on_send",
    "on_withdrawn",
    "on_work",
    "on_move_failed",
    "on_timer",
    "on_beat",
    "on_closing",
    "on_down",
    "counts_as_data",
    "on_thread_start",
    "on_thread_end",
    "on_event_ready",
    STREAM,
    "the drop of a callback, of the protocol or of its work",
];

const STREAM: &str = "the stream of the connector";

/// What an I/O thread does that is in no call of the application and about to end.
const CLOSING: &str = "closing the line";

/// What keeps a thread that is in no call of the application.
const ELSE: &str = "the program's logger, or the library itself";

/// How much longer to wait for a thread that is in no call: it ends as soon as it gets the processor.
pub(crate) const LATE: Duration = Duration::from_secs(1);

/// How long one of our threads waits for another. It is less than [`LATE`], because the waiting thread is waited for,
/// too.
const LATE_HELPER: Duration = Duration::from_millis(500);

/// What the application does on each thread of a client.
#[derive(Default)]
pub(crate) struct ThreadHooks {
    pub(crate) start: Option<ThreadHook>,
    pub(crate) end: Option<ThreadHook>,
}

/// Gets the name of the thread.
pub(crate) type ThreadHook = Box<dyn Fn(&str) + Send + Sync>;

/// A call that a dial thread or a job thread is inside of.
struct Entry {
    thread: ThreadId,
    what: Box<str>,
    /// Whether it may block. A hook must not, so it is waited for.
    may_block: bool,
}

/// The threads of a client, and which of the application's code runs on them.
pub(crate) struct Calls {
    threads: Threads,
    /// `None` once no more threads are started.
    hooks: Mutex<Option<Arc<ThreadHooks>>>,
    /// The [`Callback`] on the I/O thread, 0 for none.
    io: AtomicU8,
    /// The calls on the dial thread and on the job thread. When one of them ends, the next of its kind may have begun.
    dial: Mutex<Vec<Entry>>,
    work: Mutex<Vec<Entry>>,
    /// Whether the dial thread is inside the stream of the connector. That must not block, so it is waited for.
    stream: AtomicBool,
    /// An end came and did not wait: from then on, no code of the application is called.
    abandoned: AtomicBool,
    /// The I/O thread ends, and the others do not: they call no more of the stream.
    left_behind: AtomicBool,
}

impl Calls {
    /// `name`: what the names of the threads begin with.
    pub(crate) fn new(name: &str, hooks: ThreadHooks) -> Self {
        Self {
            threads: Threads::new(name),
            hooks: Mutex::new(Some(Arc::new(hooks))),
            io: AtomicU8::new(0),
            dial: Mutex::default(),
            work: Mutex::default(),
            stream: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            left_behind: AtomicBool::new(false),
        }
    }

    /// Starts a thread. It calls the application's hooks first and last. `run` gets an error instead if the first of them
    /// has panicked.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        thread: Thread,
        stack: usize,
        run: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> io::Result<Arc<ThreadHandle>> {
        let calls = Arc::clone(self);
        let hooks = self.hooks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.threads.spawn(thread, stack, move || {
            let name = calls.threads.name(thread);
            let begun = hooks.as_ref().map_or(Ok(true), |hooks| calls.begin(thread, hooks, &name));
            let has_begun = matches!(begun, Ok(true));
            // Each run catches what the application panics with. Another panic is a defect of the library, and the hooks are
            // called all the same.
            let _ = caught(|| run(begun.map(|_| ())));
            if thread == Thread::Io {
                // It is the only one that starts others.
                calls.hooks.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            if let Some(hooks) = hooks {
                calls.finish(thread, hooks, has_begun, &name);
            }
        })
    }

    /// Calls the hook of the start. Returns whether that of the end is to follow.
    fn begin(&self, thread: Thread, hooks: &ThreadHooks, name: &str) -> Result<bool, Error> {
        let Some(hook) = &hooks.start else { return Ok(true) };
        let hook = || {
            let may = !self.is_abandoned();
            if may {
                hook(name);
            }
            may
        };
        let callback = Callback::OnThreadStart;
        self.named(thread, callback, hook).ok_or(Error::Panicked { callback: callback.name() })
    }

    /// Calls the hook of the end, also for an abandoned client, because it undoes what the other one did. Drops both hooks if
    /// this is the last thread.
    fn finish(&self, thread: Thread, hooks: Arc<ThreadHooks>, has_begun: bool, name: &str) {
        let ended = self.named(thread, Callback::OnThreadEnd, || {
            if let Some(hook) = hooks.end.as_ref().filter(|_| has_begun) {
                hook(name);
            }
        });
        let dropped = self.named(thread, Callback::Drop, || drop(hooks));
        if ended.and(dropped).is_none() {
            log::error!(target: LOG, "the application's on_thread_end panicked on {name}, or the drop of a hook did");
        }
    }

    /// Calls the application at the begin or the end of a thread. Returns an error if it panics.
    fn named<R>(&self, thread: Thread, callback: Callback, call: impl FnOnce() -> R) -> Option<R> {
        let _inside = (thread == Thread::Io).then(|| self.inside(callback));
        if thread != Thread::Io {
            self.note(thread, callback.name(), false);
        }
        let result = caught(call);
        if thread != Thread::Io {
            self.leave(thread);
        }
        result
    }

    /// Calls the application on the I/O thread. `None` if its code may not be called any more.
    pub(crate) fn run<R>(&self, callback: Callback, call: impl FnOnce() -> R) -> Option<R> {
        let _inside = self.inside(callback);
        // `abandon` sets the flag first and then looks at what runs, so at least one side sees the other.
        (!self.is_abandoned()).then(call)
    }

    /// Drops a value of the application on the I/O thread.
    pub(crate) fn dispose<T>(&self, theirs: T) {
        let _inside = self.inside(Callback::Drop);
        drop(theirs);
    }

    fn inside(&self, callback: Callback) -> Inside<'_> {
        Inside { place: &self.io, outer: self.io.swap(callback as u8, SeqCst) }
    }

    /// The dial thread or the job thread is about to make an uninterruptible call. Returns whether it may.
    pub(crate) fn enter(&self, thread: Thread, what: &str) -> bool {
        self.note(thread, what, true);
        let may = !self.is_abandoned();
        if !may {
            self.leave(thread);
        }
        may
    }

    /// That call is over.
    pub(crate) fn leave(&self, thread: Thread) {
        let own = thread::current().id();
        self.place(thread).retain(|entry| entry.thread != own);
    }

    fn note(&self, thread: Thread, what: &str, may_block: bool) {
        self.place(thread).push(Entry { thread: thread::current().id(), what: what.into(), may_block });
    }

    /// Whether that thread is inside an uninterruptible call.
    pub(crate) fn is_inside(&self, thread: Thread) -> bool {
        match thread {
            Thread::Io => self.io.load(SeqCst) != 0,
            Thread::Dial | Thread::Work => self.place(thread).iter().any(|entry| entry.may_block),
        }
    }

    /// Whether the dial thread is inside the stream of the connector.
    pub(crate) fn is_in_stream(&self) -> bool {
        self.stream.load(SeqCst)
    }

    /// Waits a little for the end of a dial thread or a job thread, unless it is inside an uninterruptible call. If the
    /// thread has not ended, returns what keeps it.
    pub(crate) fn keeps(&self, thread: Thread, handle: &ThreadHandle) -> Option<Box<str>> {
        let patience = if self.is_inside(thread) { Duration::ZERO } else { LATE_HELPER };
        self.outlives(thread, handle, patience)
    }

    /// What keeps a dial thread or a job thread, if it has not ended after `patience`.
    pub(crate) fn outlives(
        &self,
        thread: Thread,
        handle: &ThreadHandle,
        patience: Duration,
    ) -> Option<Box<str>> {
        (!handle.join_within(patience)).then(|| self.name(thread))
    }

    /// Waits a little for the end of all threads but that of the I/O, each as [`keeps`](Self::keeps) does. If some have not
    /// ended, returns what keeps them.
    pub(crate) fn keep_others(&self) -> Option<Box<str>> {
        let mut names: Vec<_> =
            self.threads.others().iter().filter_map(|(thread, handle)| self.keeps(*thread, handle)).collect();
        names.dedup();
        list(names.into_iter().map(Some))
    }

    /// Whether the caller is one of the threads of this client.
    pub(crate) fn has_caller(&self) -> bool {
        self.threads.has_caller()
    }

    /// Waits for the end of all threads, until `left` returns zero. If some have not ended by then, returns what keeps them.
    pub(crate) fn outlive_all(&self, left: impl Fn() -> Duration) -> Option<Box<str>> {
        let running = self.threads.join(left);
        let names = running.iter().map(|&Running { thread, has_begun }| {
            let name = self.threads.name(thread);
            if !has_begun {
                format!("{name}: it has not begun").into()
            } else if thread == Thread::Io && !self.is_inside(Thread::Io) {
                format!("{name}: {CLOSING}").into()
            } else {
                self.name(thread)
            }
        });
        list(names.map(Some))
    }

    /// An end waits no longer: from here on, no code of the application is called.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, SeqCst);
    }

    /// The I/O thread ends and leaves another one behind, which calls the application's stream no more.
    pub(crate) fn leave_behind(&self) {
        self.left_behind.store(true, SeqCst);
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(SeqCst)
    }

    /// Names what the I/O thread is in, and the call that each other thread is inside of.
    pub(crate) fn names(&self) -> Box<str> {
        list([Some(self.name(Thread::Io)), self.elsewhere()]).unwrap_or_default()
    }

    /// Names the calls that the other threads are inside of.
    pub(crate) fn elsewhere(&self) -> Option<Box<str>> {
        let inside = |thread| {
            let is_inside = !self.place(thread).is_empty();
            is_inside.then(|| self.name(thread))
        };
        let dial = inside(Thread::Dial).or_else(|| self.is_in_stream().then(|| self.name(Thread::Dial)));
        list([dial, inside(Thread::Work)])
    }

    fn name(&self, thread: Thread) -> Box<str> {
        let name = self.threads.name(thread);
        match thread {
            Thread::Io => format!("{name}: {}", NAMES[usize::from(self.io.load(SeqCst))]),
            Thread::Dial | Thread::Work => {
                let streams = thread == Thread::Dial && self.is_in_stream();
                let otherwise = if streams { STREAM } else { ELSE };
                let place = self.place(thread);
                format!("{name}: {}", place.first().map_or(otherwise, |entry| &entry.what))
            }
        }
        .into()
    }

    /// The entry of the dial thread, or of the job thread.
    fn place(&self, thread: Thread) -> MutexGuard<'_, Vec<Entry>> {
        let place = if thread == Thread::Dial { &self.dial } else { &self.work };
        place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Calls {
    fn during(&self, call: &mut dyn FnMut(bool)) {
        match Thread::current() {
            Some(Thread::Io) => {
                let _inside = self.inside(Callback::Stream);
                call(!self.is_abandoned());
            }
            Some(Thread::Dial) => {
                self.stream.store(true, SeqCst);
                call(!self.is_abandoned() && !self.left_behind.load(SeqCst));
                self.stream.store(false, SeqCst);
            }
            Some(Thread::Work) | None => call(true),
        }
    }
}

impl Callback {
    pub(crate) fn name(self) -> &'static str {
        NAMES[self as usize]
    }
}

/// Joins the names that are present into one list.
fn list(names: impl IntoIterator<Item = Option<Box<str>>>) -> Option<Box<str>> {
    let names: Vec<_> = names.into_iter().flatten().collect();
    (!names.is_empty()).then(|| names.join(", ").into())
}

/// Marks a call while it runs. The call may panic, and may be nested in another.
struct Inside<'a> {
    place: &'a AtomicU8,
    outer: u8,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.place.store(self.outer, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_callback_has_its_name() {
        assert_eq!(Callback::Prepare.name(), "prepare");
        assert_eq!(Callback::CountsAsData.name(), "counts_as_data");
        assert_eq!(Callback::OnEventReady.name(), "on_event_ready");
        assert_eq!(NAMES.len(), Callback::Drop as usize + 1);
    }

    #[test]
    fn what_runs_is_named_while_it_does_also_inside_another_and_when_it_panics() {
        let calls = Calls::new("tautline", ThreadHooks::default());
        let nothing = "tautline-io: the program's logger, or the library itself";
        assert_eq!(&*calls.names(), nothing);
        calls.run(Callback::OnOpen, || {
            assert!(calls.is_inside(Thread::Io));
            assert!(caught(|| calls.run(Callback::Drop, || panic!("on purpose"))).is_none());
            assert!(calls.enter(Thread::Dial, "looking up h") && calls.enter(Thread::Work, "work"));
            assert_eq!(
                &*calls.names(),
                "tautline-io: on_open, tautline-dial: looking up h, tautline-work: work"
            );
            calls.leave(Thread::Dial);
            assert!(!calls.is_inside(Thread::Dial) && calls.is_inside(Thread::Work));
        });
        calls.leave(Thread::Work);
        assert_eq!(&*calls.names(), nothing);
    }

    #[test]
    fn the_stream_is_named_on_the_thread_that_uses_it_and_is_called_no_more_once_abandoned() {
        for (thread, named) in [
            (Thread::Io, "tautline-io: the stream of the connector"),
            (
                Thread::Dial,
                "tautline-io: the program's logger, or the library itself, tautline-dial: the stream of the connector",
            ),
        ] {
            let calls = std::sync::Arc::new(Calls::new("tautline", ThreadHooks::default()));
            let on_it = std::sync::Arc::clone(&calls);
            let (told_in, told) = crossbeam_channel::unbounded();
            let handle = calls.spawn(thread, 128 << 10, move |_| {
                on_it.during(&mut |may| told_in.send((may, on_it.names())).unwrap());
                on_it.abandon();
                on_it.during(&mut |may| told_in.send((may, on_it.names())).unwrap());
            });
            assert!(handle.unwrap().join_within(Duration::MAX));
            let told: Vec<_> = told.iter().collect();
            assert_eq!(told, [(true, named.into()), (false, named.into())]);
            assert!(calls.names().ends_with(ELSE), "it has returned");
            assert!(!calls.is_inside(Thread::Dial), "it is waited for");
        }
    }

    #[test]
    fn once_abandoned_nothing_begins_but_what_is_dropped() {
        let calls = Calls::new("tautline", ThreadHooks::default());
        calls.abandon();
        assert_eq!(calls.run(Callback::OnMessage, || unreachable!("it must not be called")), None::<()>);
        assert!(!calls.enter(Thread::Dial, "a fetch") && !calls.is_inside(Thread::Dial));
        let dropped = std::sync::Arc::new(());
        calls.dispose(std::sync::Arc::clone(&dropped));
        assert_eq!(std::sync::Arc::strong_count(&dropped), 1);
    }
}
