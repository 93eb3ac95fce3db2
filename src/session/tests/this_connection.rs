//! Messages for this connection only.

use super::*;
use crate::config::Delivery;
use crate::error::Fault;
use crate::session::Readiness;
use crate::session::released::Released;

impl Rig {
    /// Accepts a message for the session of the line that callers see.
    fn accept_for_this(&mut self, text: &str) -> u64 {
        let Readiness::Ready(session) = self.session.readiness() else { panic!("the line is not ready") };
        self.accept_for(text, session)
    }

    fn accept_for(&mut self, text: &str, session: u64) -> u64 {
        self.last_ticket += 1;
        self.session.handle_accepted_for(self.last_ticket, text.into(), None, session);
        self.last_ticket
    }

    /// The tickets that callers of `confirm` learn were never sent, and those that may have been delivered.
    fn named_lost(&mut self) -> (Vec<u64>, Vec<u64>) {
        let (mut never, mut maybe) = (Vec::new(), Vec::new());
        for lost in self.session.take_lost() {
            if lost.expired { &mut never } else { &mut maybe }.extend(numbers(&lost.tickets));
        }
        (never, maybe)
    }
}

#[test]
fn it_goes_out_in_order_with_the_others() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    rig.accept_for_this("b");
    rig.accept(&["c"]);
    assert_eq!(rig.transmit(), texts(["a", "b", "c"]));
}

#[test]
fn one_that_waits_when_its_connection_is_lost_is_named_before_the_loss_and_never_sent() {
    let mut rig = Rig::opened(config());
    rig.accept(&["a"]);
    rig.accept_for_this("b");
    rig.accept(&["c"]);
    rig.lose();
    assert_eq!(rig.told(), ["expired #2", "CONNECTED -> DISCONNECTED", "disconnected"]);
    assert_eq!(rig.named_lost(), (vec![2], vec![]));
    assert_eq!(rig.session.stats().messages_expired, 1);
    assert_eq!(rig.session.take_released(), Released { messages: 1, bytes: 1 }, "its room is free");
    rig.open();
    assert_eq!(rig.transmit(), texts(["a", "c"]));
}

#[test]
fn one_that_the_system_took_nothing_of_was_never_sent() {
    let mut rig = Rig::opened(config());
    rig.accept_for_this("a");
    assert_eq!(rig.hand(), texts(["a"]));
    rig.lose();
    assert_eq!(rig.named_lost(), (vec![1], vec![]));
    rig.open();
    assert_eq!(rig.transmit(), []);
}

#[test]
fn one_that_was_written_in_part_is_in_doubt_and_is_not_sent_again_though_the_others_are() {
    for (delivery, again) in [(Delivery::AtMostOnce, &["d"][..]), (Delivery::AtLeastOnce, &["a", "c", "d"])] {
        let mut rig = Rig::opened(config().delivery(delivery));
        rig.accept(&["a"]);
        let for_this = rig.accept_for_this("b");
        rig.accept(&["c"]);
        let never = rig.accept_for_this("never");
        rig.accept(&["d"]);
        for _ in 0..3 {
            rig.session.poll_transmit(rig.now, rig.id()).unwrap();
            rig.handed += FRAME;
            rig.report();
        }
        rig.take(2 * FRAME + 1);
        rig.lose();
        let in_doubt = rig.in_doubt();
        assert!(in_doubt.contains(&for_this) && !in_doubt.contains(&never), "{delivery:?}: {in_doubt:?}");
        assert_eq!(in_doubt.len(), 4 - again.len(), "{delivery:?}");
        let (named_never, maybe) = rig.named_lost();
        assert_eq!((named_never, maybe), (vec![never], in_doubt));
        rig.open();
        // What is sent again waits for its confirmation, one after the other.
        let turns = std::iter::from_fn(|| {
            rig.pong(1);
            rig.pong(2);
            Some(rig.transmit()).filter(|frames| !frames.is_empty())
        });
        let sent: Vec<_> = turns.flatten().filter(|frame| !matches!(frame, Frame::Ping(_))).collect();
        let again: Vec<_> = again.iter().map(|again| text(again)).collect();
        assert_eq!(sent, again, "{delivery:?}");
    }
}

#[test]
fn one_that_was_confirmed_is_in_no_doubt() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let mut rig = Rig::opened(config().delivery(delivery));
        rig.accept_for_this("a");
        rig.transmit();
        rig.step(30 * S);
        rig.transmit();
        rig.pong(1);
        rig.lose();
        assert_eq!((rig.in_doubt(), rig.named_lost()), (vec![], (vec![], vec![])), "{delivery:?}");
    }
}

#[test]
fn one_that_was_accepted_for_an_earlier_connection_is_not_sent_on_this_one() {
    let mut rig = Rig::opened(config());
    let Readiness::Ready(earlier) = rig.session.readiness() else { panic!("not ready") };
    rig.lose();
    assert_eq!(rig.session.readiness(), Readiness::NotReady(ConnectionState::Disconnected));
    rig.forget();
    rig.accept_for("while it is down", earlier);
    assert_eq!(rig.told(), ["expired #1"]);
    rig.open();
    rig.forget();
    rig.accept_for("when it is back", earlier);
    assert_eq!(rig.told(), ["expired #2"]);
    rig.accept_for_this("for this one");
    assert_eq!(rig.transmit(), texts(["for this one"]));
    assert_eq!(rig.named_lost(), (vec![1, 2], vec![]));
}

#[test]
fn one_that_waits_while_the_server_closes_is_named_when_the_line_is_down() {
    let mut rig = Rig::opened(config());
    rig.accept_for_this("a");
    rig.server_closes(1012);
    assert_eq!(rig.session.readiness(), Readiness::NotReady(ConnectionState::Closing));
    rig.forget();
    rig.session.handle_fault(rig.now, rig.id(), Fault::Broken(broken()));
    assert_eq!(rig.told(), ["expired #1", "CLOSING -> DISCONNECTED", "disconnected"]);
}

#[test]
fn one_that_is_left_at_the_end_comes_back_with_its_payload() {
    let mut rig = Rig::opened(config());
    let Readiness::Ready(session) = rig.session.readiness() else { panic!("not ready") };
    rig.accept_for_this("a");
    rig.session.handle_terminate();
    rig.accept_for("late", session);
    assert!(matches!(rig.closed(), CloseReason::ByCaller));
    assert_eq!(rig.left(), (vec!["a".to_owned(), "late".to_owned()], vec![]));
}

#[test]
fn a_close_that_flushes_sends_it() {
    let mut rig = Rig::opened(without_beats());
    rig.accept_for_this("a");
    rig.close(true);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.hand()[..1], texts(["a"]));
}
