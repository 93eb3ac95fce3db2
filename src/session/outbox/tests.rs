mod caution;

use super::*;
use crate::event::Ticket;

fn outbox(tickets: std::ops::RangeInclusive<u64>) -> Outbox {
    let mut outbox = Outbox::default();
    for ticket in tickets {
        outbox.push(ticket, format!("message {ticket}").into(), None);
    }
    outbox
}

fn numbers(tickets: &Tickets) -> Vec<u64> {
    tickets.iter().map(Ticket::number).collect()
}

fn tickets(left: &[(Ticket, Message)]) -> Vec<u64> {
    left.iter().map(|(ticket, _)| ticket.number()).collect()
}

/// Hands over `n` messages as one batch that ends at `end`.
fn hand(outbox: &mut Outbox, n: usize, end: u64) {
    for _ in 0..n {
        outbox.pop().unwrap();
        outbox.complete();
    }
    outbox.mark(end, 0);
}

#[test]
fn a_message_is_written_when_the_system_took_its_last_byte() {
    let mut outbox = outbox(1..=3);
    outbox.begin(100);
    hand(&mut outbox, 2, 130);
    outbox.progress(129);
    assert_eq!((outbox.counts().0, outbox.take_released()), (0, Released::default()));
    outbox.progress(130);
    assert_eq!((outbox.counts().0, outbox.take_released()), (2, Released { messages: 2, bytes: 18 }));
}

#[test]
fn a_loss_names_what_was_touched_and_keeps_what_was_not() {
    let mut outbox = outbox(1..=5);
    outbox.begin(100);
    hand(&mut outbox, 1, 110);
    hand(&mut outbox, 1, 120);
    hand(&mut outbox, 1, 130);
    assert_eq!(
        numbers(&outbox.lost(111, true)),
        [1, 2],
        "the first went out, the second in part, the third not at all"
    );
    assert_eq!(outbox.take_released().messages, 2);
    let left: Vec<_> = outbox.drain().0.iter().map(|(_, message)| message.to_string()).collect();
    assert_eq!(left, ["message 3", "message 4", "message 5"]);
}

#[test]
fn a_batch_that_was_not_marked_yet_counts_from_the_last_mark() {
    let mut untouched = outbox(1..=1);
    untouched.begin(100);
    untouched.pop();
    assert!(untouched.lost(100, true).is_empty());
    assert_eq!(untouched.drain().0.len(), 1);
    let mut touched = outbox(1..=1);
    touched.begin(100);
    touched.pop();
    assert_eq!(numbers(&touched.lost(101, true)), [1]);
    assert!(touched.drain().0.is_empty());
}

#[test]
fn what_is_confirmed_is_no_longer_in_doubt() {
    let mut outbox = outbox(1..=3);
    outbox.begin(0);
    hand(&mut outbox, 3, 30);
    outbox.progress(30);
    outbox.confirm(2);
    assert!(outbox.has_unconfirmed());
    assert_eq!(numbers(&outbox.lost(30, true)), [3]);
    assert!(!outbox.has_unconfirmed());
}

#[test]
fn nothing_is_confirmed_that_was_not_written() {
    let mut outbox = outbox(1..=2);
    outbox.begin(0);
    hand(&mut outbox, 1, 10);
    hand(&mut outbox, 1, 20);
    outbox.progress(10);
    outbox.confirm(2);
    assert_eq!(numbers(&outbox.lost(20, true)), [2]);
}

#[test]
fn a_message_of_which_a_fragment_went_out_is_in_doubt_and_not_written() {
    for taken in [15, 20, 25] {
        let mut outbox = outbox(1..=3);
        outbox.begin(0);
        hand(&mut outbox, 1, 10);
        outbox.pop();
        outbox.mark(20, 0);
        assert!(outbox.has_waiting());
        assert_eq!(outbox.last_handed(), 1, "a ping asks for no more than this");
        outbox.mark(30, 0);
        outbox.progress(taken);
        assert_eq!(outbox.counts().0, 1);
        assert_eq!(numbers(&outbox.lost(taken, true)), [1, 2]);
        assert_eq!(outbox.drain().0.len(), 1);
    }
}

#[test]
fn a_loss_is_reported_once() {
    let mut outbox = outbox(1..=2);
    outbox.begin(0);
    hand(&mut outbox, 2, 20);
    assert_eq!(numbers(&outbox.lost(20, true)), [1, 2]);
    outbox.begin(500);
    assert!(outbox.lost(500, true).is_empty());
}

#[test]
fn beats_ride_on_the_marks() {
    let mut outbox = outbox(1..=1);
    outbox.begin(0);
    outbox.mark(8, 1);
    outbox.mark(8, 1);
    hand(&mut outbox, 1, 20);
    outbox.mark(30, 2);
    assert_eq!(outbox.progress(7), None);
    assert_eq!(outbox.progress(29), Some(0));
    assert_eq!(outbox.progress(30), Some(2));
}

fn kept(tickets: std::ops::RangeInclusive<u64>) -> Outbox {
    Outbox { keeps: true, ..outbox(tickets) }
}

#[test]
fn at_least_once_a_message_is_kept_until_it_is_confirmed_and_sent_again_in_order() {
    let mut outbox = kept(1..=4);
    outbox.begin(0);
    hand(&mut outbox, 3, 30);
    outbox.progress(30);
    assert_eq!(outbox.take_released(), Released::default(), "written is not enough");
    outbox.confirm(1);
    assert_eq!(outbox.take_released().messages, 1);
    assert!(outbox.lost(30, true).is_empty(), "nothing is given up");
    outbox.begin(0);
    let again: Vec<_> = std::iter::from_fn(|| outbox.pop().map(|(ticket, _)| ticket)).collect();
    outbox.complete();
    assert_eq!(again, [2, 3, 4]);
    outbox.mark(60, 0);
    outbox.confirm(4);
    assert!(outbox.has_unconfirmed(), "not written on this connection yet");
    outbox.progress(60);
    outbox.confirm(4);
    assert_eq!((outbox.has_unconfirmed(), outbox.take_released().messages), (false, 3));
}

#[test]
fn a_message_is_given_up_and_named_when_three_connections_were_lost_over_it() {
    let mut outbox = kept(1..=2);
    for loss in 1..=3 {
        outbox.begin(0);
        hand(&mut outbox, 1, 10);
        let given_up = numbers(&outbox.lost(10, true));
        assert_eq!(given_up, if loss < 3 { vec![] } else { vec![1] });
    }
    assert_eq!(outbox.pop().unwrap().0, 2);
}

#[test]
fn a_message_is_given_up_when_the_protocol_has_failed_three_times_to_send_it() {
    for was_written in [false, true] {
        let mut outbox = kept(1..=3);
        if was_written {
            outbox.begin(0);
            hand(&mut outbox, 1, 10);
            assert!(outbox.lost(10, true).is_empty());
        }
        for failure in 1..=3 {
            outbox.begin(0);
            assert_eq!(outbox.next().unwrap().0, 1);
            assert!(outbox.lost(0, true).is_empty());
            assert_eq!(outbox.fail(1), (failure == 3).then_some(was_written), "failure {failure}");
        }
        assert_eq!(outbox.take_released().messages, 1);
        assert_eq!((outbox.fail(1), outbox.fail(9)), (None, None), "it is gone");
        outbox.begin(0);
        hand(&mut outbox, 2, 20);
        outbox.progress(20);
        outbox.confirm(3);
        assert_eq!(outbox.watermarks(), (3, 3), "nobody waits for it");
        assert_eq!(outbox.counts().0, if was_written { 3 } else { 2 });
    }
}

#[test]
fn what_left_unwritten_waits_for_nothing_though_newer_messages_do() {
    for keeps in [false, true] {
        let mut outbox = Outbox { keeps, ..outbox(1..=5) };
        outbox.withdraw(1);
        assert_eq!(outbox.watermarks(), (1, 1));
        outbox.begin(0);
        hand(&mut outbox, 1, 10);
        outbox.withdraw(3);
        assert_eq!(outbox.watermarks(), (1, 1), "2 is not written yet");
        outbox.progress(10);
        assert_eq!(outbox.watermarks(), (3, 1));
        outbox.confirm(2);
        assert_eq!(outbox.watermarks(), (3, 3));
        hand(&mut outbox, 1, 20);
        assert_eq!(outbox.watermarks(), (3, 3), "what is known stays so");
        let (never, _) = outbox.drain();
        assert_eq!(tickets(&never), [5]);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
fn messages_that_were_dropped_are_not_counted_as_written() {
    let now = Instant::now();
    for keeps in [false, true] {
        let mut outbox = Outbox { keeps, ..Outbox::default() };
        for ticket in 1..=7 {
            outbox.push(ticket, "x".into(), (ticket == 2).then_some(now));
        }
        outbox.push_request(8, "ask".into());
        outbox.begin(0);
        hand(&mut outbox, 1, 10);
        outbox.progress(10);
        assert_eq!(outbox.counts().0, 1);
        outbox.expire(now);
        outbox.withdraw(4);
        assert_eq!((outbox.drop_unsent(5), outbox.drop_unsent(1)), (Some(false), None));
        hand(&mut outbox, 4, 20);
        outbox.acknowledge(8);
        assert_eq!(outbox.counts().0, 2, "1 and the answered request: the system has said no more yet");
        outbox.progress(20);
        assert_eq!(outbox.counts().0, 5, "1, 3, 6, 7 and the answered request");
        outbox.lost(20, true);
        outbox.begin(0);
        let again = std::iter::from_fn(|| outbox.pop().map(|_| ())).count();
        outbox.complete();
        outbox.mark(10, 0);
        outbox.progress(10);
        assert_eq!((again, outbox.counts().0), (if keeps { 4 } else { 0 }, 5), "none is counted twice");
    }
}

#[test]
fn what_is_left_at_least_once_tells_the_doubtful_from_the_unwritten() {
    let mut outbox = kept(1..=3);
    outbox.begin(0);
    hand(&mut outbox, 2, 20);
    outbox.lost(20, true);
    let (never, maybe) = outbox.drain();
    assert_eq!((never.len(), tickets(&maybe)), (1, vec![1, 2]));
}

#[test]
fn the_window_is_half_full_by_count_or_by_bytes() {
    let mut outbox = kept(1..=4);
    outbox.begin(0);
    hand(&mut outbox, 1, 10);
    assert!(!outbox.is_half_full(QueueLimit::new(4, 1000)) && outbox.is_half_full(QueueLimit::new(4, 18)));
    hand(&mut outbox, 1, 20);
    assert!(outbox.is_half_full(QueueLimit::new(4, 1000)));
    outbox.progress(20);
    outbox.confirm(1);
    assert!(!outbox.is_half_full(QueueLimit::new(4, 1000)));
}

#[test]
fn what_was_never_written_grows_too_old_and_what_is_sent_again_does_not() {
    #[expect(clippy::disallowed_methods, reason = "an Instant has no other source")]
    let now = Instant::now();
    let at = |ms| now + std::time::Duration::from_millis(ms);
    let mut outbox = Outbox { keeps: true, ..Outbox::default() };
    for (ticket, expires) in [(1, Some(10)), (2, Some(20)), (3, None), (4, Some(20)), (5, Some(40))] {
        outbox.push(ticket, "x".into(), expires.map(at));
    }
    outbox.begin(0);
    hand(&mut outbox, 1, 10);
    assert_eq!(outbox.next_expiry(), Some(at(20)), "the first is with the socket");
    outbox.lost(10, true);
    assert_eq!(outbox.next_expiry(), Some(at(20)), "the first waits to be sent again");
    assert!(outbox.expire(at(19)).is_empty());
    assert_eq!(numbers(&outbox.expire(at(30))), [2]);
    assert_eq!(numbers(&outbox.expire(at(30))), [4], "a run of its own: 3 has all the time");
    assert!(outbox.expire(at(30)).is_empty());
    assert_eq!((outbox.next_expiry(), outbox.take_released().messages), (Some(at(40)), 2));
    let (never, maybe) = outbox.drain();
    assert_eq!((never.len(), tickets(&maybe)), (2, vec![1]));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "an Instant has no other source; the test steps from it")]
fn what_left_without_being_written_is_not_in_doubt() {
    let now = Instant::now();
    for keeps in [false, true] {
        let mut outbox = Outbox { keeps, ..Outbox::default() };
        for ticket in 1..=7 {
            let expires = [2, 5].contains(&ticket).then_some(now);
            outbox.push(ticket, "x".into(), expires);
        }
        for loss in 1..=9 {
            outbox.begin(0);
            hand(&mut outbox, 1, 10);
            if loss == 1 {
                assert_eq!(numbers(&outbox.expire(now)), [2]);
                assert_eq!(numbers(&outbox.expire(now)), [5]);
                outbox.withdraw(3);
            }
            let rest = outbox.entries.len() - outbox.held.messages - 1;
            hand(&mut outbox, rest, 20);
            let doubtful = outbox.lost(20, true);
            match (keeps, loss) {
                (false, 1) => assert_eq!(numbers(&doubtful), [1, 4, 6]),
                (true, 3 | 6 | 9) => assert_eq!(numbers(&doubtful), [[1, 4, 6][loss / 3 - 1]]),
                _ => assert!(doubtful.is_empty()),
            }
            if !keeps {
                break;
            }
        }
        assert!(outbox.settled_ahead().is_empty(), "what lies behind costs no memory");
        let (never, maybe) = outbox.drain();
        assert_eq!((never.len(), maybe.len()), (1, 0));
    }
}

#[test]
fn at_least_once_a_request_is_not_sent_again_answered_or_not() {
    let mut outbox = kept(1..=1);
    outbox.push_request(2, "request".into());
    outbox.push(3, "message 3".into(), None);
    outbox.begin(0);
    hand(&mut outbox, 3, 30);
    outbox.lost(30, true);
    assert_eq!(outbox.take_released(), Released { messages: 1, bytes: 7 });
    outbox.begin(0);
    let again: Vec<_> = std::iter::from_fn(|| outbox.pop().map(|(ticket, _)| ticket)).collect();
    assert_eq!(again, [1, 3]);
}

#[test]
fn a_request_that_was_not_written_when_its_line_was_lost_is_not_in_doubt_later() {
    let mut outbox = outbox(1..=1);
    outbox.push_request(2, "request".into());
    outbox.push(3, "message 3".into(), None);
    outbox.begin(0);
    hand(&mut outbox, 1, 10);
    hand(&mut outbox, 2, 30);
    assert_eq!(numbers(&outbox.lost(10, true)), [1]);
    outbox.begin(0);
    hand(&mut outbox, 1, 10);
    assert_eq!(numbers(&outbox.lost(10, true)), [3]);
}

#[test]
fn at_least_once_a_request_that_went_out_is_named_when_its_line_is_lost() {
    let mut outbox = kept(1..=1);
    outbox.push_request(2, "request".into());
    outbox.push(3, "message 3".into(), None);
    outbox.push_request(4, "request".into());
    outbox.push_request(5, "request".into());
    outbox.push_request(6, "request".into());
    outbox.begin(0);
    hand(&mut outbox, 4, 40);
    hand(&mut outbox, 1, 50);
    hand(&mut outbox, 1, 60);
    assert_eq!(numbers(&outbox.lost(41, true)), [2, 4, 5], "of the sixth, nothing went out");
    for named in [vec![], vec![1]] {
        outbox.begin(0);
        hand(&mut outbox, 2, 20);
        assert_eq!(numbers(&outbox.lost(20, true)), named, "a request is named once");
    }
    assert_eq!(tickets(&outbox.drain().1), [3]);
}

#[test]
fn at_least_once_a_request_that_was_confirmed_is_not_in_doubt() {
    let mut outbox = kept(1..=1);
    outbox.push_request(2, "request".into());
    outbox.push_request(3, "request".into());
    outbox.begin(0);
    hand(&mut outbox, 3, 30);
    outbox.progress(30);
    outbox.confirm(2);
    assert_eq!(numbers(&outbox.lost(30, true)), [3]);
}

#[test]
fn an_answered_request_is_in_no_doubt_and_what_went_before_it_is() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let mut outbox = Outbox::new(delivery);
        for ticket in 1..=3 {
            outbox.push_request(ticket, "ask".into());
            assert!(outbox.pop_whole().is_some());
        }
        outbox.mark(30, 0);
        outbox.progress(30);
        outbox.acknowledge(2);
        outbox.acknowledge(2);
        outbox.acknowledge(4);
        let lost: Vec<_> = outbox.lost(30, true).iter().map(Ticket::number).collect();
        assert_eq!(lost, [1, 3], "{delivery:?}");
        outbox.acknowledge(1);
    }
}

#[test]
fn an_acknowledged_message_makes_room_wherever_it_stands_and_is_not_sent_again() {
    let mut outbox = kept(1..=5);
    outbox.begin(0);
    hand(&mut outbox, 4, 40);
    outbox.acknowledge(3);
    outbox.acknowledge(3);
    assert_eq!((outbox.take_released().messages, outbox.watermarks(), outbox.counts()), (1, (0, 0), (1, 1)));
    outbox.progress(40);
    assert_eq!(outbox.counts(), (4, 1), "it counts as written once");
    outbox.acknowledge(1);
    assert_eq!(outbox.watermarks().1, 1);
    assert!(outbox.lost(40, true).is_empty());
    assert_eq!(outbox.next().map(|(ticket, _)| ticket), Some(2));
    outbox.acknowledge(4);
    hand(&mut outbox, 2, 60);
    assert_eq!(outbox.last_handed(), 5, "4 was acknowledged before it was sent again");
    outbox.acknowledge_through(5);
    assert_eq!((outbox.watermarks(), outbox.counts(), outbox.has_unconfirmed()), ((5, 5), (5, 5), false));
    assert!(outbox.drain().1.is_empty());
}

#[test]
fn what_was_never_sent_or_is_settled_can_not_be_acknowledged() {
    let mut outbox = kept(1..=3);
    outbox.begin(0);
    outbox.acknowledge(1);
    outbox.acknowledge_through(3);
    assert_eq!((outbox.watermarks(), outbox.counts()), ((0, 0), (0, 0)));
    hand(&mut outbox, 1, 10);
    outbox.acknowledge_through(u64::MAX);
    outbox.acknowledge(0);
    outbox.acknowledge(7);
    assert_eq!((outbox.watermarks(), outbox.counts()), ((1, 1), (1, 1)));
    let mut once = Outbox::new(Delivery::AtMostOnce);
    once.push(1, "1".into(), None);
    once.begin(0);
    hand(&mut once, 1, 10);
    assert_eq!(numbers(&once.lost(10, true)), [1]);
    once.acknowledge(1);
    assert_eq!(once.counts().1, 0, "it was named as maybe delivered, and stays so");
}

#[test]
fn at_most_once_an_acknowledged_message_is_in_no_doubt() {
    let mut outbox = Outbox::new(Delivery::AtMostOnce);
    (1..=5).for_each(|ticket| outbox.push(ticket, "m".into(), None));
    outbox.begin(0);
    hand(&mut outbox, 4, 40);
    outbox.progress(20);
    outbox.acknowledge(2);
    outbox.acknowledge(4);
    assert_eq!(*outbox.settled_ahead(), [2..=2, 4..=4]);
    assert_eq!(numbers(&outbox.lost(40, true)), [1, 3]);
    assert_eq!((outbox.watermarks(), outbox.counts()), ((4, 4), (4, 2)));
}
