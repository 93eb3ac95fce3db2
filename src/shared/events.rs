//! The events that wait for the application.

use std::collections::VecDeque;
use std::mem;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use crate::event::Event;
use crate::shared::sync::{AtomicBool, Condvar, Mutex, MutexGuard};

/// The side of the callers.
///
/// They take from the front, under a lock of their own. Who finds it empty exchanges it for the back, where the writer puts all
/// events of a turn at once. So an event costs no step that two processors contend for.
///
/// Once a caller asks for a channel, all events go through that, in the same order.
pub(crate) struct EventQueue {
    /// Locked before the back.
    front: Mutex<VecDeque<Event>>,
    back: Mutex<Back>,
    /// Whether to look at the back: it holds something, has ended, or has been replaced by the channel.
    has_news: AtomicBool,
    /// Something was put into the back, or what `has_news` says.
    changed: Condvar,
    channel: OnceLock<Receiver<Event>>,
}

/// The side of the I/O thread, and of a caller who has its turn. Dropping it ends the queue.
pub(crate) struct EventWriter(Arc<EventQueue>);

#[derive(Default)]
struct Back {
    events: VecDeque<Event>,
    /// How many callers wait for a change.
    waiting: usize,
    /// Replaces both deques.
    channel: Option<Sender<Event>>,
    has_ended: bool,
}

/// What a look has found.
enum Found {
    Event(Event),
    Nothing,
    TheEnd,
    Channel,
}

impl EventQueue {
    /// An empty queue, and the one side that puts events in.
    pub(crate) fn new() -> (Arc<Self>, EventWriter) {
        let queue = Arc::new(Self {
            front: Mutex::new(VecDeque::new()),
            back: Mutex::new(Back::default()),
            has_news: AtomicBool::new(false),
            changed: Condvar::new(),
            channel: OnceLock::new(),
        });
        let writer = EventWriter(Arc::clone(&queue));
        (queue, writer)
    }

    /// Takes the next event.
    ///
    /// # Errors
    /// There is none now, or none will come any more.
    #[inline]
    pub(crate) fn try_take(&self) -> Result<Event, TryRecvError> {
        if let Some(channel) = self.channel.get() {
            return channel.try_recv();
        }
        let mut front = lock(&self.front);
        if let Some(event) = front.pop_front() {
            return Ok(event);
        }
        if !self.has_news.load(Acquire) {
            return Err(TryRecvError::Empty);
        }
        match self.exchange(&mut front, &mut lock(&self.back)) {
            Found::Event(event) => Ok(event),
            Found::Nothing => Err(TryRecvError::Empty),
            Found::TheEnd => Err(TryRecvError::Disconnected),
            Found::Channel => self.channel().try_recv(),
        }
    }

    /// Takes the next event, and waits for it until `until`. `remaining` returns the time left.
    ///
    /// # Errors
    /// None has come by then, or none will come any more.
    pub(crate) fn take(
        &self,
        until: Option<Instant>,
        remaining: impl Fn(Instant) -> Duration,
    ) -> Result<Event, RecvTimeoutError> {
        loop {
            // Under both locks: another caller may exchange what is put in for the front.
            let mut front = lock(&self.front);
            if let Some(event) = front.pop_front() {
                return Ok(event);
            }
            let mut back = lock(&self.back);
            match self.exchange(&mut front, &mut back) {
                Found::Event(event) => return Ok(event),
                Found::TheEnd => return Err(RecvTimeoutError::Disconnected),
                Found::Channel => break,
                Found::Nothing => drop(front),
            }
            let left = until.map(&remaining);
            if left.is_some_and(|left| left.is_zero()) {
                return Err(RecvTimeoutError::Timeout);
            }
            back.waiting += 1;
            let mut back = match left {
                None => self.changed.wait(back).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let woken = self.changed.wait_timeout(back, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            back.waiting -= 1;
        }
        match until {
            None => self.channel().recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self.channel().recv_deadline(until),
        }
    }

    /// Takes what there is now.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn drain(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.try_take().ok())
    }

    /// Exchanges the front, which is empty, for the back.
    fn exchange(&self, front: &mut VecDeque<Event>, back: &mut Back) -> Found {
        if self.channel.get().is_some() {
            return Found::Channel;
        }
        mem::swap(front, &mut back.events);
        self.has_news.store(back.has_ended, Relaxed);
        match front.pop_front() {
            Some(event) => Found::Event(event),
            None if back.has_ended => Found::TheEnd,
            None => Found::Nothing,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        if let Some(channel) = self.channel.get() {
            return channel.is_empty();
        }
        let front = lock(&self.front);
        front.is_empty() && (!self.has_news.load(Acquire) || self.len_behind(&front) == 0)
    }

    /// How many events were not taken yet.
    pub(crate) fn len(&self) -> usize {
        let front = lock(&self.front);
        self.len_behind(&front)
    }

    fn len_behind(&self, front: &VecDeque<Event>) -> usize {
        let back = lock(&self.back);
        self.channel.get().map_or(front.len() + back.events.len(), Receiver::len)
    }

    /// The channel, which takes the place of the queue when it is first asked for.
    pub(crate) fn channel(&self) -> &Receiver<Event> {
        if let Some(channel) = self.channel.get() {
            return channel;
        }
        let mut front = lock(&self.front);
        let mut back = lock(&self.back);
        self.channel.get_or_init(|| {
            let (sender, receiver) = crossbeam_channel::unbounded();
            for event in mem::take(&mut *front).into_iter().chain(mem::take(&mut back.events)) {
                // The receiver is here.
                let _ = sender.send(event);
            }
            back.channel = Some(sender).filter(|_| !back.has_ended);
            self.has_news.store(true, Release);
            self.changed.notify_all();
            receiver
        })
    }
}

impl EventWriter {
    /// Puts in all of these events, and leaves none.
    pub(crate) fn put(&self, events: &mut VecDeque<Event>) {
        if events.is_empty() {
            return;
        }
        let mut back = lock(&self.0.back);
        if let Some(channel) = &back.channel {
            // A send fails only if nobody is left who could read the event.
            return events.drain(..).for_each(|event| _ = channel.send(event));
        }
        let count = events.len();
        if back.events.is_empty() {
            mem::swap(&mut back.events, events);
        } else {
            back.events.append(events);
        }
        self.0.has_news.store(true, Release);
        let waiting = back.waiting;
        drop(back);
        if waiting > 0 && count == 1 {
            self.0.changed.notify_one();
        } else if waiting > 0 {
            self.0.changed.notify_all();
        }
    }

    /// Whether events go through a channel.
    pub(crate) fn is_channel(&self) -> bool {
        self.0.channel.get().is_some()
    }

    /// How many events were not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Frees the memory that a burst has left behind.
    pub(crate) fn shrink(&self) {
        let mut front = lock(&self.0.front);
        front.shrink_to_fit();
        lock(&self.0.back).events.shrink_to_fit();
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        let mut back = lock(&self.0.back);
        back.has_ended = true;
        back.channel = None;
        self.0.has_news.store(true, Release);
        self.0.changed.notify_all();
    }
}

/// A panic while the lock was held has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::message::Message;
    use std::thread;

    fn messages(numbers: impl IntoIterator<Item = u32>) -> VecDeque<Event> {
        numbers.into_iter().map(|number| Event::Message(Message::from(number.to_string()))).collect()
    }

    fn texts(events: impl IntoIterator<Item = Event>) -> Vec<String> {
        events.into_iter().map(|event| event.into_message().unwrap().to_string()).collect()
    }

    fn forever(_: Instant) -> Duration {
        Duration::MAX
    }

    #[test]
    fn what_waits_is_taken_in_order_whether_the_queue_becomes_a_channel_or_not() {
        for becomes_channel in [false, true] {
            let (queue, writer) = EventQueue::new();
            writer.put(&mut messages(0..3));
            assert_eq!(texts(queue.try_take()), ["0"]);
            writer.put(&mut messages(3..5));
            assert_eq!((queue.len(), queue.is_empty()), (4, false));
            if becomes_channel {
                assert_eq!(texts(queue.channel().try_recv()), ["1"]);
            } else {
                assert_eq!(texts(queue.take(None, forever)), ["1"]);
            }
            writer.put(&mut messages(5..6));
            assert_eq!(writer.len(), 4);
            drop(writer);
            assert_eq!(texts(queue.drain()), ["2", "3", "4", "5"]);
            assert!(queue.is_empty());
            assert_eq!(queue.take(None, forever).unwrap_err(), RecvTimeoutError::Disconnected);
            assert_eq!(queue.channel().try_recv().unwrap_err(), TryRecvError::Disconnected);
        }
    }

    #[test]
    fn who_waits_is_served_by_the_queue_and_by_the_channel_that_replaces_it() {
        for becomes_channel in [false, true] {
            let (queue, writer) = EventQueue::new();
            thread::scope(|scope| {
                let waits = scope.spawn(|| texts(queue.take(None, forever)));
                while lock(&queue.back).waiting == 0 {
                    thread::yield_now();
                }
                if becomes_channel {
                    assert!(queue.channel().is_empty());
                }
                writer.put(&mut messages(7..8));
                assert_eq!(waits.join().unwrap(), ["7"]);
            });
        }
    }

    #[test]
    fn a_wait_ends_in_time_and_takes_what_is_there_though_no_time_is_left() {
        let (queue, writer) = EventQueue::new();
        #[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
        let now = Instant::now();
        let none_left = |_| Duration::ZERO;
        assert_eq!(queue.take(Some(now), none_left).unwrap_err(), RecvTimeoutError::Timeout);
        let soon = |_| Duration::from_millis(1);
        let left = std::cell::Cell::new(true);
        let once = |until| if left.replace(false) { soon(until) } else { Duration::ZERO };
        assert_eq!(queue.take(Some(now), once).unwrap_err(), RecvTimeoutError::Timeout);
        writer.put(&mut messages(1..2));
        assert_eq!(texts(queue.take(Some(now), none_left)), ["1"]);
    }

    #[test]
    fn a_burst_leaves_no_memory_behind() {
        let (queue, writer) = EventQueue::new();
        for _ in 0..3 {
            writer.put(&mut messages(0..1000));
            writer.put(&mut messages(0..1000));
            assert_eq!(queue.drain().count(), 2000);
        }
        assert!(lock(&queue.front).capacity() + lock(&queue.back).events.capacity() >= 1000);
        writer.shrink();
        assert_eq!(lock(&queue.front).capacity() + lock(&queue.back).events.capacity(), 0);
    }
}
