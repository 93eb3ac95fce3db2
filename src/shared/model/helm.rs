//! Callers who take the turn while the I/O thread sleeps: what `io/helm.rs` does, step by step.

use loom::sync::atomic::AtomicBool;

use super::*;

/// A line whose turn goes from hand to hand.
struct Helm {
    line: Arc<Line>,
    at: Mutex<AtHelm>,
    kernel: Mutex<Kernel>,
    is_watched: AtomicBool,
    is_leased: AtomicBool,
    is_asked_for: AtomicBool,
    visits: AtomicUsize,
    /// Stands for the poller of the caller who waits for the socket.
    watch: Alarm,
    /// After so many messages and bytes the I/O thread ends.
    enough: (usize, usize),
}

struct AtHelm {
    thread: IoThread,
    /// How many messages have gone out.
    sent: usize,
    read: usize,
    is_moved: bool,
    /// Whether a read of the socket may return something. Only a read clears it.
    is_readable: bool,
}

/// The socket, and with whose poller it is registered. A poller reports it once: when it is registered with something to read,
/// and when something comes.
#[derive(Default)]
struct Kernel {
    bytes: usize,
    is_with_caller: bool,
    /// Whether that poller has a report that its next wait gets.
    is_reported: bool,
}

impl Helm {
    fn new(messages: usize, bytes: usize) -> Arc<Self> {
        let line = Line::new(9);
        let thread = IoThread::new(Arc::clone(&line));
        Arc::new(Self {
            line,
            at: Mutex::new(AtHelm { thread, sent: 0, read: 0, is_moved: false, is_readable: false }),
            kernel: Mutex::default(),
            is_watched: AtomicBool::new(false),
            is_leased: AtomicBool::new(false),
            is_asked_for: AtomicBool::new(false),
            visits: AtomicUsize::new(0),
            watch: Alarm::default(),
            enough: (messages, bytes),
        })
    }

    fn report(&self, kernel: &mut Kernel) {
        kernel.is_reported = true;
        let alarm = if kernel.is_with_caller { &self.watch } else { &self.line.gate.waker };
        alarm.wake().unwrap();
    }

    /// The server sends a byte.
    fn arrive(&self) {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.bytes += 1;
        self.report(&mut kernel);
    }

    fn move_socket(&self, at: &mut AtHelm, to_caller: bool) {
        if std::mem::replace(&mut at.is_moved, to_caller) != to_caller {
            let mut kernel = self.kernel.lock().unwrap();
            (kernel.is_with_caller, kernel.is_reported) = (to_caller, false);
            if kernel.bytes > 0 {
                self.report(&mut kernel);
            }
        }
    }

    /// A wait of this poller is over: what it has reported about the socket.
    fn reported(&self, is_callers: bool) -> bool {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.is_with_caller == is_callers && std::mem::take(&mut kernel.is_reported)
    }

    /// A caller's turn, which reads in any case.
    fn stands_in(&self, at: &mut AtHelm) {
        at.is_readable = true;
        self.turn(at);
    }

    fn turn(&self, at: &mut AtHelm) {
        at.thread.exchange();
        if std::mem::take(&mut at.is_readable) {
            at.read += std::mem::take(&mut self.kernel.lock().unwrap().bytes);
        }
        at.sent = at.thread.messages;
        // Freed room is given back, and what others have put there is taken along.
        at.thread.exchange();
    }

    fn is_left(&self, at: &AtHelm) -> bool {
        at.is_moved && !self.is_watched.load(SeqCst) && !self.is_leased.load(SeqCst)
    }

    fn has_enough(&self, at: &AtHelm) -> bool {
        (at.sent, at.read) == self.enough
    }

    fn lease(&self) -> Option<usize> {
        self.is_leased.load(SeqCst).then(|| self.visits.load(SeqCst))
    }

    fn waits_on(&self, was: Option<usize>, is_quiet: bool) -> bool {
        match self.lease() {
            Some(visits) => (is_quiet || self.line.gate.is_asleep()) && !(is_quiet && was == Some(visits)),
            None => is_quiet && was.is_some() && self.is_watched.load(SeqCst),
        }
    }

    fn gives_up(&self) {
        if self.is_leased.swap(false, SeqCst) {
            self.line.gate.urgent();
        }
        self.is_asked_for.store(true, SeqCst);
    }

    /// The I/O thread's wait. While somebody may come back, its time is over whenever it looks: he may take any time. Returns
    /// whether the poller has reported the socket at last.
    fn wait(&self) -> bool {
        let alarm = &self.line.gate.waker;
        loop {
            let lease = self.lease();
            let is_quiet = if lease.is_some() {
                thread::yield_now();
                !std::mem::take(&mut *alarm.rung.lock().unwrap())
            } else {
                alarm.wait();
                false
            };
            let is_reported = self.reported(false);
            if !self.waits_on(lease, is_quiet) {
                if is_quiet {
                    self.is_leased.swap(false, SeqCst);
                }
                return is_reported;
            }
        }
    }

    /// Announces the sleep of the I/O thread. Returns whether it may.
    fn lets_sleep(&self, at: &AtHelm) -> bool {
        let gate = &self.line.gate;
        at.sent == at.thread.messages && gate.falls_asleep(Sleep::ForAll, &self.line.intake, || false) && {
            let is_left = self.is_left(at);
            if is_left {
                gate.awake();
            }
            !is_left
        }
    }

    fn sends(&self) {
        let gate = &self.line.gate;
        self.line.intake.try_push(offer()).unwrap();
        self.line.accepted.fetch_add(1, Relaxed);
        if gate.sleeps_for_all()
            && let Ok(mut at) = self.at.try_lock()
            && gate.takes_over()
        {
            self.stands_in(&mut at);
            let sleeps_on = !self.has_enough(&at) && self.lets_sleep(&at);
            drop(at);
            if !sleeps_on {
                gate.rouse();
            }
        } else {
            gate.data();
        }
    }

    /// Waits for the socket, reads it, and is about to come back if `leases`.
    fn watches(&self, leases: bool) {
        let gate = &self.line.gate;
        let Ok(mut at) = self.at.try_lock() else { return self.gives_up() };
        if !gate.takes_over() {
            return self.gives_up();
        }
        self.is_asked_for.store(false, SeqCst);
        self.visits.fetch_add(1, SeqCst);
        let before = at.read;
        loop {
            self.stands_in(&mut at);
            let stays = at.read == before;
            let leases = leases && !stays;
            self.is_watched.store(stays, SeqCst);
            let was_leased = self.is_leased.swap(leases, SeqCst);
            self.move_socket(&mut at, stays || leases);
            let sleeps_on = !self.has_enough(&at) && self.lets_sleep(&at);
            drop(at);
            if !sleeps_on {
                self.is_watched.store(false, SeqCst);
                self.is_leased.swap(false, SeqCst);
                gate.rouse();
            } else if leases && !was_leased {
                gate.wake();
            }
            if !(stays && sleeps_on) {
                return;
            }
            self.watch.wait();
            let is_reported = self.reported(true);
            self.is_watched.store(false, SeqCst);
            let Ok(again) = self.at.try_lock() else { return gate.urgent() };
            at = again;
            at.is_readable |= is_reported;
            if !gate.takes_over() {
                return self.move_socket(&mut at, false);
            }
        }
    }

    /// The I/O thread.
    fn serves(&self) {
        let gate = &self.line.gate;
        let mut at = self.at.lock().unwrap();
        loop {
            self.turn(&mut at);
            if self.is_watched.load(SeqCst) {
                self.watch.wake().unwrap();
            }
            if self.has_enough(&at) {
                return;
            }
            if self.is_left(&at) {
                self.move_socket(&mut at, false);
            }
            if self.is_asked_for.swap(false, SeqCst) {
                self.move_socket(&mut at, true);
                self.is_leased.swap(true, SeqCst);
            }
            if self.lets_sleep(&at) {
                drop(at);
                let is_reported = self.wait();
                gate.awake();
                at = self.at.lock().unwrap();
                at.is_readable |= is_reported;
            }
        }
    }
}

fn spawn(helm: &Arc<Helm>, run: impl FnOnce(&Helm) + 'static) {
    let helm = Arc::clone(helm);
    thread::spawn(move || run(&helm));
}

#[test]
fn a_message_goes_out_whoever_has_the_helm() {
    explore("two senders and the helm", BOUND, || {
        let helm = Helm::new(2, 0);
        (0..2).for_each(|_| spawn(&helm, Helm::sends));
        helm.serves();
    });
}

#[test]
fn what_arrives_is_read_by_the_caller_who_waits_or_by_the_worker() {
    explore("a caller who waits, and a byte", BOUND, || {
        let helm = Helm::new(0, 1);
        spawn(&helm, |helm| helm.watches(false));
        spawn(&helm, Helm::arrive);
        helm.serves();
    });
}

#[test]
fn a_caller_who_does_not_get_the_helm_back_leaves_the_socket_to_the_worker() {
    explore("a caller who waits, a byte and a sender", BOUND, || {
        let helm = Helm::new(1, 1);
        spawn(&helm, |helm| helm.watches(false));
        spawn(&helm, Helm::arrive);
        spawn(&helm, Helm::sends);
        helm.serves();
    });
}

#[test]
fn who_is_about_to_come_back_and_does_or_does_not_leaves_nothing_unread() {
    explore("a caller who waits and is about to come back, and a byte", BOUND, || {
        let helm = Helm::new(0, 2);
        spawn(&helm, |helm| helm.watches(true));
        spawn(&helm, |helm| (0..2).for_each(|_| helm.arrive()));
        helm.serves();
    });
    explore("one who comes back once, and two bytes", BOUND, || {
        let helm = Helm::new(0, 2);
        spawn(&helm, |helm| (0..2).for_each(|_| helm.watches(true)));
        spawn(&helm, |helm| (0..2).for_each(|_| helm.arrive()));
        helm.serves();
    });
    // With fewer preemptions, the fault that this is for is not found: a report that comes while he ends the lease.
    explore("one who comes back once and then leaves, and three bytes", Some(4), || {
        let helm = Helm::new(0, 3);
        spawn(&helm, |helm| [true, false].into_iter().for_each(|leases| helm.watches(leases)));
        spawn(&helm, |helm| (0..3).for_each(|_| helm.arrive()));
        helm.serves();
    });
}

#[test]
fn what_is_sent_while_somebody_is_about_to_come_back_goes_out() {
    let run = |visits: usize| {
        move || {
            let helm = Helm::new(1, 1);
            spawn(&helm, move |helm| (0..visits).for_each(|_| helm.watches(true)));
            spawn(&helm, Helm::arrive);
            spawn(&helm, Helm::sends);
            helm.serves();
        }
    };
    explore("a caller who is about to come back, a byte and a sender", BOUND, run(1));
    explore("the same with one who does", Some(2), run(2));
}
