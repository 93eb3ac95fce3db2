//! How kept messages go out after a loss.

use super::*;

#[test]
fn a_connection_that_confirmed_something_in_order_costs_no_message_a_try() {
    let mut outbox = kept(1..=12);
    for first in 1..=10 {
        outbox.begin(0);
        assert_eq!(outbox.next().unwrap().0, first);
        hand(&mut outbox, 3, 30);
        outbox.progress(30);
        outbox.confirm(first);
        assert!(outbox.lost(30, true).is_empty(), "message {} was sent three times", first + 2);
    }
    // What was confirmed out of order says nothing about the message that ends each connection.
    for loss in 1..=3 {
        outbox.begin(0);
        hand(&mut outbox, 1, 10);
        outbox.push(12 + loss, "x".into(), None);
        hand(&mut outbox, 1, 20);
        outbox.progress(20);
        outbox.acknowledge(11 + loss);
        assert_eq!(numbers(&outbox.lost(20, true)), if loss < 3 { vec![] } else { vec![11] });
    }
}

#[test]
fn what_is_kept_is_asked_about_once_there_is_much_of_it() {
    for keeps in [true, false] {
        let mut outbox = Outbox { keeps, ..Outbox::default() };
        for ticket in 1..=5 {
            outbox.push(ticket, "x".repeat(8 << 10).into(), None);
        }
        outbox.begin(0);
        hand(&mut outbox, 1, 8 << 10);
        assert!(!outbox.should_ask());
        outbox.pop();
        assert!(!outbox.should_ask(), "it is not out in full");
        outbox.complete();
        assert_eq!(outbox.should_ask(), keeps);
        outbox.ask();
        outbox.pop_whole();
        assert!(!outbox.should_ask());
        outbox.pop_whole();
        assert_eq!(outbox.should_ask(), keeps);
        outbox.lost(0, true);
        outbox.begin(0);
        assert!(!outbox.should_ask(), "of another connection");
    }
}

#[test]
fn a_loss_counts_against_the_first_message_in_doubt_alone() {
    let mut outbox = kept(1..=6);
    for loss in 1..=6 {
        outbox.begin(0);
        let waiting = 6 - usize::from(loss > 3);
        hand(&mut outbox, waiting, 60);
        let given_up = numbers(&outbox.lost(60, true));
        assert_eq!(given_up, if loss % 3 > 0 { vec![] } else { vec![loss / 3] }, "loss {loss}");
    }
    assert_eq!(outbox.drain().1.len(), 4, "the others may have arrived");
}

#[test]
fn an_end_that_no_message_has_caused_counts_against_none() {
    let mut outbox = kept(1..=1);
    for _ in 0..10 {
        outbox.begin(0);
        hand(&mut outbox, 1, 10);
        assert!(outbox.lost(10, false).is_empty());
    }
}
