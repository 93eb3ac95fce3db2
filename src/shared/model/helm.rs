//! Callers who take the turn while the I/O thread sleeps: what `io/helm.rs` does, step by step.

use loom::sync::atomic::AtomicBool;

use super::*;

/// A line whose turn goes from hand to hand.
struct Helm {
    line: Arc<Line>,
    at: Mutex<AtHelm>,
    kernel: Mutex<Kernel>,
    is_watched: AtomicBool,
    /// Stands for the poller of the caller who waits for the socket.
    watch: Alarm,
    /// After so many messages and bytes the I/O thread ends.
    enough: (usize, usize),
}

struct AtHelm {
    thread: IoThread,
    read: usize,
    is_moved: bool,
}

/// The socket, and with whose poller it is registered.
#[derive(Default)]
struct Kernel {
    bytes: usize,
    is_with_caller: bool,
}

impl Helm {
    fn new(messages: usize, bytes: usize) -> Arc<Self> {
        let line = Line::new(9);
        let thread = IoThread::new(Arc::clone(&line));
        Arc::new(Self {
            line,
            at: Mutex::new(AtHelm { thread, read: 0, is_moved: false }),
            kernel: Mutex::default(),
            is_watched: AtomicBool::new(false),
            watch: Alarm::default(),
            enough: (messages, bytes),
        })
    }

    fn ring(&self, kernel: &Kernel) {
        let alarm = if kernel.is_with_caller { &self.watch } else { &self.line.gate.waker };
        alarm.wake().unwrap();
    }

    /// The server sends a byte.
    fn arrive(&self) {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.bytes += 1;
        self.ring(&kernel);
    }

    fn move_socket(&self, at: &mut AtHelm, to_caller: bool) {
        if std::mem::replace(&mut at.is_moved, to_caller) != to_caller {
            let mut kernel = self.kernel.lock().unwrap();
            kernel.is_with_caller = to_caller;
            if kernel.bytes > 0 {
                self.ring(&kernel);
            }
        }
    }

    fn turn(&self, at: &mut AtHelm) {
        at.thread.exchange();
        at.read += std::mem::take(&mut self.kernel.lock().unwrap().bytes);
        at.thread.exchange();
    }

    fn is_left(&self, at: &AtHelm) -> bool {
        at.is_moved && !self.is_watched.load(SeqCst)
    }

    fn has_enough(&self, at: &AtHelm) -> bool {
        (at.thread.messages, at.read) == self.enough
    }

    /// Announces the sleep of the I/O thread. Returns whether it may.
    fn lets_sleep(&self, at: &AtHelm) -> bool {
        let gate = &self.line.gate;
        gate.falls_asleep(Sleep::ForAll, &self.line.intake, || false) && {
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
            self.turn(&mut at);
            let sleeps_on = !self.has_enough(&at) && self.lets_sleep(&at);
            drop(at);
            if !sleeps_on {
                gate.wake();
            }
        } else {
            gate.data();
        }
    }

    /// Waits for the socket once, and reads it.
    fn watches(&self) {
        let gate = &self.line.gate;
        let Ok(mut at) = self.at.try_lock() else { return };
        if !gate.takes_over() {
            return;
        }
        loop {
            self.turn(&mut at);
            let stays = at.read == 0;
            self.move_socket(&mut at, stays);
            self.is_watched.store(stays, SeqCst);
            let sleeps_on = !self.has_enough(&at) && self.lets_sleep(&at);
            drop(at);
            if !sleeps_on {
                self.is_watched.store(false, SeqCst);
                gate.wake();
            }
            if !(stays && sleeps_on) {
                return;
            }
            self.watch.wait();
            self.is_watched.store(false, SeqCst);
            let Ok(again) = self.at.try_lock() else { return gate.urgent() };
            at = again;
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
            if self.lets_sleep(&at) {
                drop(at);
                gate.waker.wait();
                gate.awake();
                at = self.at.lock().unwrap();
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
        spawn(&helm, Helm::watches);
        spawn(&helm, Helm::arrive);
        helm.serves();
    });
}

#[test]
fn a_caller_who_does_not_get_the_helm_back_leaves_the_socket_to_the_worker() {
    explore("a caller who waits, a byte and a sender", BOUND, || {
        let helm = Helm::new(1, 1);
        spawn(&helm, Helm::watches);
        spawn(&helm, Helm::arrive);
        spawn(&helm, Helm::sends);
        helm.serves();
    });
}
