//! Models of the gate, the intake and the status. Each runs in every order in which its threads can interleave.
//!
//! A lost wake-up leaves a thread that nothing wakes, which loom reports as a deadlock: no wait here has a timeout.
//! Loom treats `SeqCst` as little more than acquire and release, so what holds here also holds with the real, stronger
//! ordering. Run them with `RUSTFLAGS="--cfg loom" cargo test --target-dir target/loom --release --lib model --
//! --nocapture`.
#![expect(clippy::disallowed_methods, reason = "a deadline that never comes is still an `Instant`")]

mod events;
mod helm;
mod rings;

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize as Count;
use std::time::{Duration, Instant};

use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use loom::thread;

use std::io;

use super::*;
use crate::config::QueueLimit;
use crate::error::SendError;
use crate::event::{CloseReason, Ticket};
use crate::session::Watermarks;
use crate::shared::gate::Wake;
use crate::shared::sync::{Condvar, Mutex};

/// The most preemptions in one run, for the models that would otherwise take hours. Of the faults that were planted to test
/// the models, one needed more, and its model says so.
const BOUND: Option<usize> = Some(3);

/// Runs `model` in every order, or with at most `preemptions`, and prints how many orders there were.
fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let orders = Arc::new(Count::new(0));
    let counted = Arc::clone(&orders);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions.or(builder.preemption_bound);
    builder.check(move || {
        counted.fetch_add(1, Relaxed);
        model();
    });
    let orders = orders.load(Relaxed);
    println!("{name}: {orders} orders");
    assert!(orders > 1, "the threads never meet");
}

/// Stands for the poller: ringing it once ends one wait, the current one or the next.
#[derive(Default)]
struct Alarm {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Alarm {
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.ringing.wait(rung).unwrap();
        }
        *rung = false;
    }
}

impl Wake for Alarm {
    fn wake(&self) -> io::Result<()> {
        *self.rung.lock().unwrap() = true;
        self.ringing.notify_one();
        Ok(())
    }
}

/// What an I/O thread shares with its callers.
struct Line {
    gate: Gate<Alarm>,
    intake: Intake,
    status: Status,
    /// Stands for the channels of commands and results. It guarantees less than any channel does: only the gate orders
    /// it.
    commands: AtomicUsize,
    /// How many messages the senders know to be accepted, and how many the I/O thread has drained.
    accepted: Count,
    drained: Count,
}

impl Line {
    /// A line with room for this many messages.
    fn new(messages: usize) -> Arc<Self> {
        Self::with(Intake::new(QueueLimit::new(messages, 1 << 20), 1 << 20))
    }

    fn with(intake: Intake) -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(Alarm::default()),
            intake,
            status: Status::new(Instant::now()),
            commands: AtomicUsize::new(0),
            accepted: Count::new(0),
            drained: Count::new(0),
        })
    }

    fn command(&self) {
        self.commands.fetch_add(1, Relaxed);
        self.gate.urgent();
    }

    /// Sends one message, and waits for room as often as it must.
    fn send(&self) {
        self.sent(self.intake.push(offer(), Instant::now(), |_| Duration::MAX));
    }

    /// Sends one message, and waits for room once at most.
    fn send_hastily(&self) {
        let left = Cell::new(Duration::MAX);
        self.sent(self.intake.push(offer(), Instant::now(), |_| left.replace(Duration::ZERO)));
    }

    /// Sends one message without waiting for room.
    fn try_send(&self) {
        self.sent(self.intake.try_push(offer()));
    }

    fn sent(&self, outcome: Result<Ticket, SendError>) {
        if outcome.is_ok() {
            self.gate.data();
            self.accepted.fetch_add(1, Relaxed);
        }
    }
}

fn offer() -> Offer {
    Offer::new("x".into(), None, None)
}

impl Drop for Line {
    /// The last of the threads has ended.
    fn drop(&mut self) {
        if !thread::panicking() {
            let mut left = VecDeque::new();
            if let Some(outward) = &self.intake.outward {
                outward.exchange(&mut left, (0, 0));
                assert!(!outward.waiters.any());
            }
            let queue = self.intake.queue.get_mut().unwrap();
            queue.messages.append(&mut left);
            let known = *self.drained.get_mut() + queue.messages.len();
            assert_eq!(*self.accepted.get_mut(), known, "each message is refused, or drained in the end");
            assert!(queue.messages.is_empty() || !queue.closed, "a message behind the end");
            assert_eq!(queue.waiting, 0);
            assert_eq!(self.status.inner.get_mut().unwrap().watching, 0);
        }
    }
}

/// The I/O thread, as far as its callers can see it. It writes at once what it has taken.
struct IoThread {
    line: Arc<Line>,
    commands: usize,
    messages: usize,
    mine: VecDeque<Item>,
    released: (usize, usize),
}

impl IoThread {
    fn new(line: Arc<Line>) -> Self {
        Self { line, commands: 0, messages: 0, mine: VecDeque::new(), released: (0, 0) }
    }

    fn take_commands(&mut self) {
        self.commands += self.line.commands.swap(0, Relaxed);
    }

    /// Takes the accepted messages, and gives back the room of the written ones.
    fn exchange(&mut self) {
        self.line.intake.exchange(&mut self.mine, std::mem::take(&mut self.released));
        for item in self.mine.drain(..) {
            self.messages += 1;
            assert_eq!(item.ticket, self.messages as u64, "each message once, in order");
            self.released.0 += 1;
            self.released.1 += item.message.len();
        }
        self.line.drained.store(self.messages, Relaxed);
    }

    fn park(&self, sleep: Sleep) {
        // Freed room is given back before anything else.
        if self.released == (0, 0) {
            self.park_unless(sleep, || self.line.commands.load(Relaxed) > 0);
        }
    }

    fn park_unless(&self, sleep: Sleep, missed: impl FnOnce() -> bool) {
        let gate = &self.line.gate;
        if gate.falls_asleep(sleep, &self.line.intake, missed) {
            gate.waker.wait();
            gate.awake();
        }
    }
}

/// Takes messages until there have been so many, and sleeps meanwhile.
fn serve(line: Arc<Line>, messages: usize) {
    let mut thread = IoThread::new(line);
    while thread.messages < messages {
        thread.park(Sleep::ForAll);
        thread.exchange();
    }
}

fn spawn(line: &Arc<Line>, run: impl FnOnce(&Line) + 'static) {
    let line = Arc::clone(line);
    thread::spawn(move || run(&line));
}

#[test]
fn a_message_wakes_a_worker_that_waits_for_messages() {
    explore("two messages", None, || {
        let line = Line::new(9);
        (0..2).for_each(|_| spawn(&line, Line::try_send));
        serve(line, 2);
    });
}

#[test]
fn a_command_wakes_a_worker_however_it_sleeps() {
    for sleep in [Sleep::Light, Sleep::ForAll] {
        explore("two commands", None, move || {
            let line = Line::new(9);
            (0..2).for_each(|_| spawn(&line, Line::command));
            let mut thread = IoThread::new(line);
            while thread.commands < 2 {
                thread.park(sleep);
                thread.take_commands();
            }
        });
    }
}

#[test]
fn a_plan_that_is_due_wakes_a_worker_and_so_does_what_comes_with_it() {
    explore("a plan and a command", None, || {
        let line = Line::new(9);
        spawn(&line, |line| line.gate.retry(7));
        spawn(&line, Line::command);
        let mut thread = IoThread::new(line);
        let mut due = None;
        while due.is_none() || thread.commands == 0 {
            thread.park(Sleep::Light);
            thread.take_commands();
            due = due.or(thread.line.gate.take_due());
        }
        assert_eq!(due, Some(7));
    });
}

#[test]
fn of_two_plans_that_come_due_the_newer_is_not_lost() {
    explore("two plans", None, || {
        let line = Line::new(9);
        spawn(&line, |line| (1..=2).for_each(|generation| line.gate.retry(generation)));
        let thread = IoThread::new(line);
        let mut last = 0;
        while last < 2 {
            thread.park(Sleep::Light);
            let due = thread.line.gate.take_due();
            assert!(due.is_none_or(|due| due > last));
            last = due.unwrap_or(last);
        }
    });
}

#[test]
fn a_plan_that_is_due_a_command_and_a_message_wake_the_worker_together() {
    explore("a plan, a command and a message", BOUND, || {
        let line = Line::new(9);
        spawn(&line, |line| line.gate.retry(7));
        spawn(&line, Line::command);
        spawn(&line, Line::try_send);
        let mut thread = IoThread::new(line);
        let mut due = None;
        while due.is_none() || thread.commands == 0 || thread.messages == 0 {
            thread.park(Sleep::ForAll);
            thread.take_commands();
            due = due.or(thread.line.gate.take_due());
            thread.exchange();
        }
        assert_eq!(due, Some(7));
    });
}

#[test]
fn a_message_that_came_while_the_line_was_down_goes_out_once_it_is_ready() {
    explore("a message and a dial", None, || {
        let line = Line::new(9);
        spawn(&line, Line::try_send);
        spawn(&line, Line::command);
        let mut thread = IoThread::new(line);
        while thread.commands == 0 {
            thread.park(Sleep::Light);
            thread.take_commands();
        }
        while thread.messages == 0 {
            thread.park(Sleep::ForAll);
            thread.exchange();
        }
    });
}

#[test]
fn a_closing_intake_has_refused_or_given_out_every_message() {
    explore("a close and two senders", None, || {
        let line = Line::new(9);
        (0..2).for_each(|_| spawn(&line, |line| (0..2).for_each(|_| line.try_send())));
        let mut thread = IoThread::new(line);
        thread.line.intake.close();
        thread.exchange();
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken_by_room() {
    explore("two messages through room for one", None, || {
        let line = Line::new(1);
        line.try_send();
        spawn(&line, Line::send);
        serve(line, 2);
    });
}

#[test]
fn senders_that_wait_for_room_are_all_woken_in_the_end() {
    explore("three messages through room for one", BOUND, || {
        let line = Line::new(1);
        spawn(&line, Line::send);
        spawn(&line, |line| (0..2).for_each(|_| line.send()));
        serve(line, 3);
    });
}

#[test]
fn room_for_two_wakes_two() {
    explore("four messages through room for two", None, || {
        let line = Line::new(2);
        (0..2).for_each(|_| line.try_send());
        (0..2).for_each(|_| spawn(&line, Line::send));
        let mut thread = IoThread::new(line);
        thread.exchange();
        thread.exchange();
    });
}

#[test]
fn senders_that_wait_for_room_are_told_of_the_end() {
    explore("a close and two senders that wait", None, || {
        let line = Line::new(1);
        line.try_send();
        (0..2).for_each(|_| spawn(&line, Line::send));
        let mut thread = IoThread::new(line);
        thread.line.intake.close();
        thread.exchange();
    });
}

#[test]
fn a_sender_whose_time_is_up_keeps_nobody_from_room_or_the_end() {
    explore("a patient sender and one whose time is up", None, || {
        let line = Line::new(1);
        line.try_send();
        spawn(&line, Line::send);
        spawn(&line, Line::send_hastily);
        let mut thread = IoThread::new(line);
        thread.exchange();
        thread.exchange();
        thread.line.intake.close();
        thread.exchange();
    });
}

#[test]
fn who_waits_for_the_state_sees_it_change() {
    explore("a state and two who wait for it", None, || {
        let line = Line::new(9);
        for _ in 0..2 {
            spawn(&line, |line| {
                line.status.wait(None, |_| Duration::MAX, |status| status.ready.then_some(()));
            });
        }
        line.status.update(|status| status.ready = true);
    });
}

#[test]
fn who_watches_the_watermarks_sees_them_rise() {
    explore("two watermarks and two who watch them", None, || {
        let line = Line::new(9);
        for through in 1..=2 {
            spawn(&line, move |line| {
                let written = |status: &Inner| (status.watermarks.written >= through).then_some(());
                line.status.watch(None, |_| Duration::MAX, written);
            });
        }
        for written in 1..=2 {
            line.status.set_watermarks(Watermarks { written, ..Watermarks::default() }, Vec::new());
        }
    });
}

#[test]
fn a_line_that_closes_between_senders_has_counted_every_message() {
    explore("the whole life of a line", BOUND, || {
        let line = Line::new(1);
        spawn(&line, |line| (0..2).for_each(|_| line.send()));
        spawn(&line, |line| {
            line.command();
            line.status.wait(None, |_| Duration::MAX, |status| status.closed.clone());
            assert!(line.intake.try_push(offer()).is_err());
        });
        let mut thread = IoThread::new(line);
        while thread.commands == 0 {
            thread.park(Sleep::ForAll);
            thread.take_commands();
            thread.exchange();
        }
        thread.line.intake.close();
        thread.exchange();
        let end = (CloseReason::ByCaller, Arc::default());
        thread.line.status.update(|status| status.closed = Some(end));
    });
}
