//! Who has the turn: the I/O thread or, on a plain line while that thread sleeps, a caller.
#![expect(clippy::disallowed_methods, reason = "a caller who takes the turn reads the clock for it")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mio::{Registry, Waker};

use crate::config::deadline;
use crate::io::thread::Threads;
use crate::io::turn::Turn;
use crate::logging::LOG;
use crate::panics::caught;
use crate::session::ConnectionId;
use crate::shared::{AdaptiveSpin, Between, Gate, Intake, Sleep, spin};
use crate::transport::wire::Poller;

/// The turn, and who may run it. The I/O thread gives it up only while it sleeps.
///
/// To start another thread, on a processor that may be asleep, costs more than to write and to read. So a caller whose message
/// finds the I/O thread asleep writes it himself. A caller who waits for a message waits for the socket in place of the I/O
/// thread, and reads what comes. Either wakes it only if something is left to do that is not his: he drops no connection,
/// judges no peer and makes no attempt.
///
/// This holds for plain lines only: no code of the application, of TLS or of compression runs in such a turn.
pub(crate) struct Helm {
    at: Mutex<Option<Box<AtHelm>>>,
    /// The I/O thread waits for the helm. No caller takes it now.
    wanted: AtomicBool,
    /// What the one caller waits with who waits for the socket. It is made when the first does.
    watch: Mutex<Option<Poller>>,
    /// Wakes him. Empty if the system had none.
    waker: OnceLock<Option<Waker>>,
    /// Whether he waits. He clears this before he asks for the helm, which he may not get.
    is_watched: AtomicBool,
    /// Whether a caller has taken what he waited for, left the socket with his poller, and is about to come back. Only ever
    /// swapped, as the sleep of the gate is.
    is_leased: AtomicBool,
    /// Whether a caller did not get the helm when he came to wait for the socket.
    is_asked_for: AtomicBool,
    /// How often callers have come to wait for the socket.
    visits: AtomicU64,
    gate: Arc<Gate>,
    intake: Arc<Intake>,
    by_callers: bool,
    began: Instant,
    /// When a caller has last written, in ns since the client began.
    written_at: AtomicU64,
}

/// What goes from hand to hand.
pub(super) struct AtHelm {
    pub(super) turn: Turn<Threads>,
    /// Until when the I/O thread sleeps at most.
    pub(super) sleeps_until: Option<Instant>,
    /// Whose socket is registered with the poller of the caller who waits, and not with that of the I/O thread.
    moved: Option<ConnectionId>,
    /// The poller of that caller.
    callers: Option<Registry>,
    /// The newest message that callers had sent when it was last decided whether to leave reading to them.
    newest: u64,
}

pub(super) type Hold<'a> = MutexGuard<'a, Option<Box<AtHelm>>>;

/// Who sends again so soon is in a burst. The I/O thread writes many messages of it at once.
const BURST_NS: u64 = 30_000;

/// How long who comes back waits for a turn of the I/O thread at most.
const LONGEST_TURN: Duration = Duration::from_micros(50);

/// How long he may be away. After that, the I/O thread looks after the socket.
pub(super) const LEASE: Duration = Duration::from_millis(1);

/// How many bytes a caller writes at most. With more the system's buffer fills, and the I/O thread has to wait for room.
const MOST_WRITTEN: usize = 16 << 10;

impl Helm {
    pub(super) fn new(turn: Turn<Threads>, by_callers: bool, began: Instant) -> Self {
        let (gate, intake) = (Arc::clone(&turn.host.shared.gate), Arc::clone(&turn.intake));
        Self {
            at: Mutex::new(Some(Box::new(AtHelm {
                turn,
                sleeps_until: None,
                moved: None,
                callers: None,
                newest: 0,
            }))),
            wanted: AtomicBool::new(false),
            watch: Mutex::default(),
            waker: OnceLock::new(),
            is_watched: AtomicBool::new(false),
            is_leased: AtomicBool::new(false),
            is_asked_for: AtomicBool::new(false),
            visits: AtomicU64::new(0),
            gate,
            intake,
            by_callers,
            began,
            written_at: AtomicU64::new(0),
        }
    }

    /// Whether callers may ever have the helm.
    pub(crate) fn is_for_callers(&self) -> bool {
        self.by_callers
    }

    /// The I/O thread is awake: takes the helm for it, after a caller who has it. `None` if a turn of a caller has panicked.
    pub(super) fn hold(&self) -> Option<Hold<'_>> {
        self.gate.awake();
        self.wanted.store(true, SeqCst);
        let held = self.at.lock();
        self.wanted.store(false, SeqCst);
        held.ok()
    }

    /// Takes away what was at the helm: the client ends, and nobody waits for its socket any more.
    pub(super) fn end(&self) -> Option<Box<AtHelm>> {
        let last = self.at.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.wake_watcher();
        last
    }

    /// Has the caller look who waits for the socket: something may have come for him.
    pub(super) fn tell(&self) {
        if self.is_watched.load(SeqCst) {
            self.wake_watcher();
        }
    }

    fn wake_watcher(&self) {
        if let Some(Some(waker)) = self.waker.get()
            && let Err(error) = waker.wake()
        {
            log::error!(target: LOG, "waking a caller failed: {error}");
        }
    }

    /// Whether the socket is registered with the poller of a caller who does not wait any more.
    pub(super) fn is_left(&self, at: &AtHelm) -> bool {
        at.moved.is_some() && !self.is_watched.load(SeqCst) && !self.is_leased.load(SeqCst)
    }

    /// While a caller is away who is about to come back: how often callers have come so far.
    pub(super) fn lease(&self) -> Option<u64> {
        self.is_leased.load(SeqCst).then(|| self.visits.load(SeqCst))
    }

    /// Whether the I/O thread need not look at anything though its wait has ended before its time. `was` is the lease that it
    /// waited under, and `is_quiet` says whether nothing had been reported.
    pub(super) fn waits_on(&self, was: Option<u64>, is_quiet: bool) -> bool {
        match self.lease() {
            // A lease has begun, or somebody has come back since, or the ring was for that.
            Some(visits) => (is_quiet || self.gate.is_asleep()) && !(is_quiet && was == Some(visits)),
            // Who was away waits for the socket again.
            None => is_quiet && was.is_some() && self.is_watched.load(SeqCst),
        }
    }

    /// Nobody comes back.
    pub(super) fn ends_lease(&self) {
        self.is_leased.swap(false, SeqCst);
    }

    /// The I/O thread looks after the socket, whoever is about to come for it.
    pub(super) fn takes_back(&self, at: &mut AtHelm) {
        self.ends_lease();
        at.move_to_io();
    }

    /// This caller goes to wait for what others read.
    fn gives_up(&self) -> bool {
        if self.is_leased.swap(false, SeqCst) {
            self.gate.urgent();
        }
        self.is_asked_for.store(true, SeqCst);
        false
    }

    /// Whether what there is to read is left to a caller who is about to come for it. If there is anything, and a caller has asked
    /// for the helm meanwhile, it is his.
    pub(super) fn leaves_reading(&self, at: &mut AtHelm) -> bool {
        let is_asked_for =
            at.turn.sockets.are_readable() && self.is_asked_for.swap(false, SeqCst) && at.only_receives();
        if !is_asked_for && !self.is_leased.load(SeqCst) {
            return false;
        }
        // Only the I/O thread waits for room, and for more than one socket.
        if at.callers.is_none() || !at.is_plain() || at.turn.sockets.are_blocked() {
            self.takes_back(at);
            return false;
        }
        if is_asked_for {
            at.move_to_caller();
            self.is_leased.swap(true, SeqCst);
        }
        true
    }

    /// A message waits: has it written, by this thread if the I/O thread sleeps.
    pub(crate) fn message_waits(&self) {
        if !(self.is_for_callers() && self.gate.sleeps_for_all() && self.guarded(|| self.write())) {
            self.gate.data();
        }
    }

    /// Waits for the socket in place of the I/O thread, if that sleeps, until there is something for this caller, or until
    /// `until`. Returns whether there is something. Only where callers may have the helm.
    pub(crate) fn attend(
        &self,
        until: Option<Instant>,
        spins: Option<(Duration, &AdaptiveSpin)>,
        is_there: impl Fn() -> bool,
    ) -> bool {
        self.guarded(|| self.watch(until, spins, &is_there))
    }

    /// Runs a caller's part. A panic in it is a defect of the library, and is left to the I/O thread.
    fn guarded(&self, run: impl FnOnce() -> bool) -> bool {
        caught(run).unwrap_or_else(|| {
            self.is_watched.store(false, SeqCst);
            self.ends_lease();
            self.gate.rouse();
            false
        })
    }

    /// Takes the helm for a caller, unless that would make him wait.
    fn try_hold(&self) -> Option<Hold<'_>> {
        if self.wanted.load(SeqCst) { None } else { self.at.try_lock().ok() }
    }

    /// Takes the helm for a caller who waits for the socket. If he was about to come back, he waits for a turn of the I/O thread
    /// that may have come between, unless something arrives in it.
    fn hold_soon(&self, is_there: &dyn Fn() -> bool) -> Option<Hold<'_>> {
        let look = || {
            if is_there() {
                return Some(None);
            }
            let held = self.try_hold();
            (held.is_some() || !self.is_leased.load(SeqCst)).then_some(held)
        };
        let began = Instant::now();
        spin(Between::Yield, look, || began.elapsed() < LONGEST_TURN).flatten()
    }

    /// Runs a caller's part of a turn, which writes. Returns whether it has: then nobody need be woken.
    fn write(&self) -> bool {
        let now = Instant::now();
        let since = u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let in_burst = since.saturating_sub(self.written_at.load(Relaxed)) < BURST_NS;
        if in_burst || self.intake.held_bytes() > MOST_WRITTEN {
            return false;
        }
        let Some(mut held) = self.try_hold() else { return false };
        let Some(at) = held.as_deref_mut() else { return false };
        if !at.is_plain() || !self.gate.takes_over() {
            return false;
        }
        if at.turn.take_turn(now) {
            self.tell();
        }
        self.written_at.store(since, Relaxed);
        if !self.lets_sleep(at, now) {
            drop(held);
            self.gate.rouse();
        }
        true
    }

    fn watch(
        &self,
        until: Option<Instant>,
        mut spins: Option<(Duration, &AdaptiveSpin)>,
        is_there: &dyn Fn() -> bool,
    ) -> bool {
        // One caller at a time. Others wait for what he reads.
        let Ok(mut watch) = self.watch.try_lock() else { return false };
        let Some(mut held) = self.hold_soon(is_there) else { return is_there() || self.gives_up() };
        let Some(at) = held.as_deref_mut() else { return false };
        if !at.is_plain() {
            return self.gives_up();
        }
        let Some(poller) = self.poller(&mut watch, at) else { return false };
        if !self.gate.takes_over() {
            return self.gives_up();
        }
        self.is_asked_for.store(false, SeqCst);
        self.visits.fetch_add(1, SeqCst);
        loop {
            let now = Instant::now();
            let Some(at) = held.as_deref_mut() else { return is_there() };
            at.turn.take_turn(now);
            if let Some((time, looks)) = spins.take().filter(|_| !is_there()) {
                looks.note(self.spin(at, deadline(now, time), is_there));
            }
            let found = is_there();
            let is_plain = at.is_plain();
            let stays = !found && until.is_none_or(|until| until > now) && is_plain;
            let leases = found && is_plain && at.turn.sockets.are_readable() && at.only_receives();
            // Before the socket is moved: what the I/O thread's poller reports of it during a lease is left to the caller.
            self.is_watched.store(stays, SeqCst);
            let was_leased = self.is_leased.swap(leases, SeqCst);
            if stays || leases {
                at.move_to_caller();
            } else {
                at.move_to_io();
            }
            let sleeps_on = self.lets_sleep(at, now);
            drop(held);
            if !sleeps_on {
                self.is_watched.store(false, SeqCst);
                self.ends_lease();
                self.gate.rouse();
            } else if leases && !was_leased {
                // It begins to look whether he comes back.
                self.gate.wake();
            }
            if !(stays && sleeps_on) {
                return found;
            }
            let waited = poller.wait(None, until.map(|until| until.saturating_duration_since(now)));
            self.is_watched.store(false, SeqCst);
            let Some(again) = self.try_hold() else {
                // Whoever has the helm may not have seen that nobody waits any more.
                self.gate.urgent();
                return is_there();
            };
            held = again;
            let Some(at) = held.as_deref_mut() else { return is_there() };
            at.turn.sockets.hear(poller);
            if waited.is_err() || !self.gate.takes_over() {
                // The I/O thread is awake, and takes the helm next.
                at.move_to_io();
                return is_there();
            }
        }
    }

    /// The poller of the caller who waits for the socket. `None` if the system has none.
    fn poller<'a>(&self, watch: &'a mut Option<Poller>, at: &mut AtHelm) -> Option<&'a mut Poller> {
        if watch.is_none() && self.waker.get().is_none() {
            let make = |poller: Poller| Ok((poller.waker()?, poller.registry().try_clone()?, poller));
            let (waker, rest) = match Poller::new().and_then(make) {
                Ok((waker, registry, poller)) => (Some(waker), Some((registry, poller))),
                Err(_) => (None, None),
            };
            let _ = self.waker.set(waker);
            (at.callers, *watch) = rest.unzip();
        }
        watch.as_mut()
    }

    /// Reads without waiting, again and again. Returns whether something has come.
    fn spin(&self, at: &mut AtHelm, until: Instant, is_there: &dyn Fn() -> bool) -> bool {
        let turn = &mut at.turn;
        let look = || {
            turn.take_turn(Instant::now());
            let stops = is_there() || self.wanted.load(SeqCst) || turn.host.have_news();
            stops.then_some(())
        };
        // The server may share this processor.
        let _ = spin(Between::Yield, look, || Instant::now() < until);
        is_there()
    }

    /// Whether the I/O thread can sleep on, which is announced then.
    fn lets_sleep(&self, at: &mut AtHelm, now: Instant) -> bool {
        at.turn
            .may_sleep_on(now, at.sleeps_until, self.is_leased.load(SeqCst))
            .is_some_and(|wakes| self.falls_asleep(at, wakes))
    }

    /// Announces that the I/O thread sleeps, unless there is something for it that came before.
    pub(super) fn falls_asleep(&self, at: &mut AtHelm, wakes: Sleep) -> bool {
        let missed = || at.turn.host.have_news() || at.turn.may_go_on();
        let sleeps = self.gate.falls_asleep(wakes, &self.intake, missed);
        // Behind the announcement: who leaves the socket looks at that.
        let is_left = sleeps && self.is_left(at);
        if is_left {
            self.gate.awake();
        }
        sleeps && !is_left
    }
}

impl AtHelm {
    /// Whether a caller may have the turn.
    fn is_plain(&mut self) -> bool {
        let turn = &mut self.turn;
        turn.session.wants_outbox() && turn.sockets.only().is_some_and(|open| open.socket.is_plain())
    }

    /// Whether callers have sent nothing since this was last asked. While they send, the I/O thread writes for them, and reads
    /// beside that.
    fn only_receives(&mut self) -> bool {
        let newest = self.turn.intake.newest();
        std::mem::replace(&mut self.newest, newest) == newest
    }

    /// Registers the one socket with the poller of the caller.
    fn move_to_caller(&mut self) {
        let Turn { host, sockets, .. } = &mut self.turn;
        if let Some(only) = sockets.only().filter(|_| self.moved.is_none())
            && let Some(callers) = &self.callers
        {
            self.moved = Some(only.id);
            only.socket.move_to(&host.registry, callers);
        }
    }

    /// Registers it with the poller of the I/O thread again, if it is still there.
    pub(super) fn move_to_io(&mut self) {
        let Turn { host, sockets, .. } = &mut self.turn;
        let (Some(moved), Some(callers)) = (self.moved.take(), &self.callers) else { return };
        for open in sockets.iter_mut().filter(|open| open.id == moved) {
            open.socket.move_to(callers, &host.registry);
        }
    }
}
