//! Models of the rings: callers that wait for nobody, and the I/O thread that waits for none of them.

use super::*;
use crate::session::Readiness;
use crate::shared::ring::Ring;
use crate::state::ConnectionState;

/// A line with a ring of this many places.
fn line(capacity: usize) -> Arc<Line> {
    Line::with(Intake::new(QueueLimit::new(9, 1 << 20), 1 << 20).with_ring(capacity))
}

#[test]
fn a_message_in_the_ring_wakes_a_worker_that_waits_for_messages() {
    explore("ring: two messages", BOUND, || {
        let line = line(2);
        (0..2).for_each(|_| spawn(&line, Line::try_send));
        serve(line, 2);
    });
}

#[test]
fn a_ring_that_is_closed_between_senders_has_refused_or_given_out_every_message() {
    explore("ring: a close and two senders", BOUND, || {
        let line = line(2);
        (0..2).for_each(|_| spawn(&line, Line::try_send));
        line.intake.close();
        let (mut mine, mut revoked) = (VecDeque::new(), Vec::new());
        for _ in 0..2 {
            revoked.extend(line.intake.exchange(&mut mine, (0, 0)));
        }
        let mut tickets: Vec<_> = mine.iter().map(|item| item.ticket).chain(revoked).collect();
        tickets.sort_unstable();
        assert!(
            tickets.iter().copied().eq(1..=tickets.len() as u64),
            "each ticket has one fate: {tickets:?}"
        );
        assert_eq!(line.intake.last_ticket(), tickets.len() as u64);
        line.drained.store(mine.len(), Relaxed);
    });
}

#[test]
fn a_place_is_used_again_once_its_message_was_written() {
    explore("ring: two messages through room for one", BOUND, || {
        let line = line(1);
        line.try_send();
        spawn(&line, Line::send);
        serve(line, 2);
    });
}

#[test]
fn senders_that_wait_for_room_in_the_ring_learn_of_the_end() {
    explore("ring: a close and a sender that waits", BOUND, || {
        let line = line(1);
        line.try_send();
        spawn(&line, Line::send);
        let mut thread = IoThread::new(line);
        thread.exchange();
        thread.line.intake.close();
        thread.exchange();
    });
}

#[test]
fn behind_a_loss_a_message_for_that_connection_is_taken_refused_or_known_to_come() {
    explore("ring: a loss and a sender", BOUND, || {
        let line = line(2);
        line.intake.set_readiness(Readiness::Ready(1), false);
        spawn(&line, |line| line.sent(line.intake.try_push(Offer::new("x".into(), Some(1), None))));
        line.intake.set_readiness(Readiness::NotReady(ConnectionState::Disconnected), false);
        let mut thread = IoThread::new(line);
        thread.exchange();
        while thread.line.intake.owes() {
            thread.park(Sleep::ForAll);
            thread.exchange();
        }
        assert!(thread.line.intake.is_empty(), "nothing comes behind that");
    });
}

#[test]
fn readers_take_each_value_once_while_the_writer_goes_round() {
    explore("ring: three values, two places, two readers", BOUND, || {
        let ring = Arc::new(Ring::new(2));
        let readers = [(); 2].map(|()| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.take().unwrap_or(0))
        });
        let left_out: usize = [1, 10, 100].map(|value| ring.put(value).err().unwrap_or(0)).iter().sum();
        let taken: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        let rest: usize = std::iter::from_fn(|| ring.take()).sum();
        assert_eq!(left_out + taken + rest, 111);
    });
}

#[test]
fn who_waits_for_a_message_sees_it_and_the_end_and_nothing_is_lost() {
    explore("inbox: two messages, room for one, and the end", BOUND, || {
        let (inbox, mut writer) = Inbox::new(1);
        let reader = thread::spawn(move || {
            let taken = std::iter::from_fn(|| inbox.take(None, |_| Duration::MAX).ok());
            taken.map(|message| message.to_string()).collect::<Vec<_>>()
        });
        for message in ["1", "2"] {
            writer.put(message.into());
            writer.wake();
        }
        drop(writer);
        assert_eq!(reader.join().unwrap(), ["1", "2"]);
    });
}
