//! Models of the queue of events: who takes from it, and how that ends a pause.

use crossbeam_channel::TryRecvError;
use loom::sync::atomic::Ordering::{Acquire, Release};

use super::*;
use crate::event::Event;
use crate::shared::events::EventQueue;
use crate::state::ConnectionState;

/// Events that can be told apart.
fn numbered(numbers: impl IntoIterator<Item = u64>) -> VecDeque<Event> {
    numbers.into_iter().map(|count| Event::Missed { count, state: ConnectionState::Connected }).collect()
}

fn number(event: Event) -> u64 {
    let Event::Missed { count, .. } = event else { panic!("{event:?}") };
    count
}

/// Takes events until the end, as `recv` does.
fn take_all(queue: &EventQueue) -> Vec<u64> {
    std::iter::from_fn(|| queue.take(None, |_| Duration::MAX).ok()).map(number).collect()
}

/// What the client does for each event.
fn take_one(queue: &EventQueue, gate: &Gate<Alarm>) {
    while queue.try_take().is_err() {
        thread::yield_now();
    }
    if gate.is_stalled() && queue.is_empty() {
        gate.drained();
    }
}

#[test]
fn a_caller_who_waits_gets_every_event_in_order_and_the_end() {
    explore("events: a caller who waits", None, || {
        let (queue, writer) = EventQueue::new();
        let waits = thread::spawn(move || take_all(&queue));
        writer.put(&mut numbered([1]));
        writer.put(&mut numbered([2, 3]));
        drop(writer);
        assert_eq!(waits.join().unwrap(), [1, 2, 3]);
    });
}

#[test]
fn of_two_callers_one_gets_each_event_and_both_the_end() {
    explore("events: two callers who wait", BOUND, || {
        let (queue, writer) = EventQueue::new();
        let callers = [Arc::clone(&queue), queue].map(|queue| thread::spawn(move || take_all(&queue)));
        writer.put(&mut numbered([1, 2]));
        writer.put(&mut numbered([3]));
        drop(writer);
        let mut all = Vec::new();
        for taken in callers.map(|caller| caller.join().unwrap()) {
            assert!(taken.is_sorted(), "{taken:?}");
            all.extend(taken);
        }
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
    });
}

#[test]
fn two_events_are_for_two_callers_though_neither_takes_both() {
    explore("events: one each for two callers", BOUND, || {
        let (queue, writer) = EventQueue::new();
        for queue in [Arc::clone(&queue), queue] {
            thread::spawn(move || queue.take(None, |_| Duration::MAX).map(number).unwrap());
        }
        writer.put(&mut numbered([1]));
        writer.put(&mut numbered([2]));
        // Nothing else wakes whoever is left out.
        std::mem::forget(writer);
    });
}

#[test]
fn a_caller_who_looks_sees_what_he_was_told_of() {
    explore("events: a caller who looks", None, || {
        let (queue, writer) = EventQueue::new();
        let told = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&told);
        let looks = thread::spawn(move || {
            let told = theirs.load(Acquire);
            let taken: Vec<_> = queue.drain().map(number).collect();
            assert!(taken.len() >= told && taken.iter().copied().eq(1..=taken.len() as u64));
            let is_over = queue.try_take().err() == Some(TryRecvError::Disconnected);
            assert!(!is_over || taken.len() <= 2);
        });
        writer.put(&mut numbered([1]));
        told.store(1, Release);
        writer.put(&mut numbered([2]));
        told.store(2, Release);
        drop(writer);
        looks.join().unwrap();
    });
}

#[test]
fn a_queue_that_becomes_a_channel_keeps_the_order_and_the_end() {
    explore("events: a channel", BOUND, || {
        let (queue, writer) = EventQueue::new();
        let theirs = Arc::clone(&queue);
        let asks = thread::spawn(move || {
            let channel = theirs.channel();
            channel.try_iter().map(number).collect::<Vec<_>>()
        });
        writer.put(&mut numbered([1]));
        let mut taken: Vec<_> = queue.try_take().into_iter().map(number).collect();
        writer.put(&mut numbered([2, 3]));
        drop(writer);
        let of_channel = asks.join().unwrap();
        assert!(of_channel.is_sorted(), "{of_channel:?}");
        taken.extend(of_channel);
        taken.extend(queue.drain().map(number));
        taken.sort_unstable();
        assert_eq!(taken, [1, 2, 3]);
        assert_eq!(queue.try_take().err(), Some(TryRecvError::Disconnected));
    });
}

#[test]
fn a_caller_who_waits_goes_over_to_the_channel() {
    explore("events: a channel and a caller who waits", BOUND, || {
        let (queue, writer) = EventQueue::new();
        let theirs = Arc::clone(&queue);
        let waits = thread::spawn(move || {
            // A channel that waits is none of loom's: the end is put in before.
            queue.take(Some(Instant::now()), |_| Duration::MAX).map(number)
        });
        writer.put(&mut numbered([1]));
        drop(writer);
        let channel = theirs.channel();
        assert_eq!(waits.join().unwrap().ok(), Some(1));
        assert_eq!(channel.try_recv().err(), Some(TryRecvError::Disconnected));
    });
}

#[test]
fn a_consumer_that_empties_the_queue_ends_the_pause() {
    explore("pauses and a consumer", BOUND, || {
        let line = Line::new(9);
        let (queue, writer) = EventQueue::new();
        writer.put(&mut numbered([0]));
        spawn(&line, move |line| (0..2).for_each(|_| take_one(&queue, &line.gate)));
        let thread = IoThread::new(line);
        for _ in 0..2 {
            thread.line.gate.set_stalled(true);
            while writer.len() == 1 {
                thread.park_unless(Sleep::Light, || writer.len() == 0);
            }
            thread.line.gate.set_stalled(false);
            writer.put(&mut numbered([0]));
        }
    });
}

#[test]
fn of_two_consumers_the_last_ends_the_pause() {
    explore("a pause and two consumers", BOUND, || {
        let line = Line::new(9);
        let (queue, writer) = EventQueue::new();
        writer.put(&mut numbered([0, 0]));
        for queue in [Arc::clone(&queue), queue] {
            spawn(&line, move |line| take_one(&queue, &line.gate));
        }
        let thread = IoThread::new(line);
        thread.line.gate.set_stalled(true);
        while writer.len() > 0 {
            thread.park_unless(Sleep::Light, || writer.len() == 0);
        }
    });
}
