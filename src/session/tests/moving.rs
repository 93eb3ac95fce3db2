//! A move: the successor, the ping before it takes over, and the connections that are left.

use super::*;
use crate::protocol::{Attempt, Context, UpgradeRequest};
use crate::session::Readiness;

/// Moves when the server says so, and sends a hello on each connection. A text from the server logs it in.
struct Mover;

impl Protocol for Mover {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        if !cx.is_moving() {
            cx.ready();
        }
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_text() {
            Some("move") => cx.move_line(),
            Some("welcome") => cx.ready(),
            _ => cx.deliver(message),
        }
        Ok(())
    }

    fn on_move_failed(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<(), Error> {
        cx.deliver(format!("move failed: {error}"));
        Ok(())
    }
}

/// A line that is ready, and moves.
fn ready() -> Rig {
    ready_with(config())
}

fn ready_with(config: ConnectionConfig) -> Rig {
    let mut rig = Rig::with(config, Some(Box::new(Mover)), false);
    rig.session.start(rig.now);
    rig.forget();
    rig.open();
    rig.forget();
    rig
}

impl Rig {
    /// The move begins, and its attempt succeeds.
    fn open_successor(&mut self) -> ConnectionId {
        self.receive("move");
        let dialled = self.actions();
        assert!(matches!(dialled[..], [Action::Dial { .. }]), "{dialled:?}");
        let opened = Arc::new(Handshake::new(Some(address()), None));
        assert!(self.session.handle_opened(self.now, self.generation, &opened, UPGRADE));
        ConnectionId(self.generation)
    }

    fn receive_on(&mut self, id: ConnectionId, message: &str) {
        self.session.handle_message(self.now, id, message.into());
    }

    /// From now on, the counts of the fake wire are those of the current connection.
    fn on_the_new_wire(&mut self) {
        (self.handed, self.taken) = (UPGRADE, UPGRADE);
    }

    fn frames_on(&mut self, id: ConnectionId) -> Vec<Frame> {
        std::iter::from_fn(|| self.session.poll_transmit(self.now, id)).collect()
    }
}

#[test]
fn a_successor_takes_over_when_the_server_has_confirmed_what_went_out() {
    let mut rig = ready();
    let old = rig.id();
    rig.accept(&["a"]);
    rig.transmit();
    let new = rig.open_successor();
    rig.accept(&["b"]);
    assert_eq!(rig.transmit(), texts(["b"]), "the line goes on meanwhile");
    rig.receive_on(new, "welcome");
    rig.accept(&["c"]);
    assert_eq!(rig.hand(), [], "nothing new goes out where the line leaves");
    assert!(rig.session.next_deadline().unwrap() <= rig.now, "the question is due");
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    rig.assert_nothing_happened();
    rig.step(20 * MS);
    rig.pong(1);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.told(), ["moved"]);
    assert_eq!(rig.id(), new);
    assert_eq!(rig.frames_on(old), [Frame::Close(CloseFrame::new(1000, ""))]);
    rig.on_the_new_wire();
    assert_eq!(rig.transmit(), texts(["c"]));
    rig.receive_on(old, "late");
    assert_eq!(rig.delivered(), ["late"], "the old server is heard to its end");
    rig.session.handle_close_frame(rig.now, old, CloseFrame::new(1000, ""));
    rig.session.handle_fault(rig.now, old, crate::error::Fault::Broken(broken()));
    assert_eq!(rig.actions(), [Action::Drop(old)]);
    assert!(rig.told().is_empty(), "that is no loss");
}

#[test]
fn a_line_without_doubts_moves_at_once() {
    let mut rig = ready();
    let new = rig.open_successor();
    rig.receive_on(new, "welcome");
    rig.session.handle_timeout(rig.now);
    assert_eq!((rig.told(), rig.id()), (vec!["moved".to_owned()], new));
}

#[test]
fn without_an_answer_the_successor_takes_over_after_the_close_timeout_and_the_doubts_are_named() {
    let mut rig = ready();
    rig.accept(&["a", "b"]);
    rig.transmit();
    let new = rig.open_successor();
    rig.receive_on(new, "welcome");
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    rig.step(almost(3 * S));
    assert_ne!(rig.id(), new);
    rig.step(MS);
    let events = rig.events();
    let [Event::Moved { maybe_delivered, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((numbers(maybe_delivered), rig.id()), (vec![1, 2], new));
}

#[test]
fn an_attempt_of_a_move_that_takes_too_long_is_abandoned_and_the_line_stays() {
    let mut rig = ready();
    let old = rig.id();
    rig.receive("move");
    rig.actions();
    rig.step(10 * S);
    let generation = rig.generation;
    assert_eq!(rig.actions(), [Action::TimeOutDial { generation }]);
    rig.session.handle_dial_failed(rig.now, generation, timed_out());
    let delivered = rig.delivered();
    assert!(delivered[0].starts_with("move failed: "), "{delivered:?}");
    assert_eq!((rig.id(), rig.session.state()), (old, ConnectionState::Connected));
}

#[test]
fn a_successor_takes_over_where_the_current_connection_closes_or_breaks() {
    for closes in [true, false] {
        let mut rig = ready();
        rig.accept(&["a"]);
        rig.transmit();
        let new = rig.open_successor();
        rig.receive_on(new, "welcome");
        if closes {
            rig.server_closes(1001);
        } else {
            rig.lose();
        }
        assert_eq!((rig.told(), rig.id()), (vec!["moved".to_owned()], new), "{closes}");
    }
}

#[test]
fn a_line_that_is_lost_before_its_successor_stands_by_is_down_and_both_are_dropped() {
    let mut rig = ready();
    let old = rig.id();
    let new = rig.open_successor();
    rig.lose();
    let actions = rig.actions();
    assert!(actions.contains(&Action::Drop(old)) && actions.contains(&Action::Drop(new)), "{actions:?}");
    assert_eq!(rig.session.state(), ConnectionState::Disconnected);
}

#[test]
fn a_line_that_closes_moves_no_more() {
    let mut rig = ready();
    rig.receive("move");
    rig.actions();
    rig.close(true);
    assert_eq!(rig.actions(), [Action::AbandonDial]);
    let mut rig = ready();
    let new = rig.open_successor();
    rig.close(true);
    assert_eq!(rig.actions(), [Action::Drop(new)]);
    assert!(!rig.try_open(rig.generation), "it comes too late");
}

#[test]
fn of_the_connections_that_a_line_leaves_the_oldest_is_dropped_behind_the_fourth() {
    let mut rig = ready();
    let first = rig.id();
    for moves in 1..=5 {
        let new = rig.open_successor();
        rig.receive_on(new, "welcome");
        rig.session.handle_timeout(rig.now);
        assert_eq!(rig.id(), new);
        let dropped = rig.actions();
        assert_eq!(dropped, if moves == 5 { vec![Action::Drop(first)] } else { vec![] }, "{moves}");
    }
}

#[test]
fn after_a_move_the_time_without_data_begins_anew() {
    let mut rig = ready_with(without_beats().login_timeout(60 * S).idle_timeout(20 * S));
    let new = rig.open_successor();
    rig.step(15 * S);
    rig.receive_on(new, "welcome");
    rig.step(Duration::ZERO);
    assert_eq!(rig.id(), new);
    rig.step(almost(20 * S));
    assert_eq!(rig.id(), new);
    rig.step(MS);
    let (reason, ..) = rig.disconnected();
    assert!(matches!(reason, DisconnectReason::Lost(Error::IdleTimeout { .. })), "{reason}");
}

#[test]
fn a_message_for_this_connection_goes_on_with_a_move_unless_it_was_written() {
    let mut rig = ready_with(config().delivery(crate::config::Delivery::AtLeastOnce));
    let Readiness::Ready(session) = rig.session.readiness() else { panic!("not ready") };
    rig.session.handle_accepted_for(1, "written".into(), None, session);
    rig.transmit();
    let new = rig.open_successor();
    rig.receive_on(new, "welcome");
    rig.session.handle_accepted_for(2, "waits".into(), None, session);
    rig.session.handle_timeout(rig.now);
    assert_eq!(rig.transmit(), [ping(1)]);
    rig.step(3 * S);
    assert_eq!((rig.id(), rig.session.readiness()), (new, Readiness::Ready(session)), "one session");
    let events = rig.events();
    let moved = events.iter().find_map(|event| match event {
        Event::Moved { maybe_delivered, .. } => Some(numbers(maybe_delivered)),
        _ => None,
    });
    assert_eq!(moved, Some(vec![1]), "{events:?}");
    rig.on_the_new_wire();
    assert_eq!(rig.transmit(), texts(["waits"]));
}

/// Its own moves fail at once, and it asks for a beat 5 s later each time.
struct Unprepared;

impl Protocol for Unprepared {
    fn prepare(&mut self, attempt: &Attempt<'_>, _: &mut UpgradeRequest) -> Result<(), Error> {
        if attempt.moving { Err(Error::session("not now")) } else { Ok(()) }
    }

    fn on_message(&mut self, cx: &mut Context<'_>, _: Message) -> Result<(), Error> {
        cx.move_line();
        cx.stop_beats();
        Ok(())
    }

    fn on_move_failed(&mut self, cx: &mut Context<'_>, _: &Error) -> Result<(), Error> {
        cx.set_beats(5 * S, 5 * S);
        Ok(())
    }
}

#[test]
fn what_is_asked_for_when_a_move_fails_at_once_comes_behind_what_was_asked_for_with_it() {
    let mut rig = Rig::with(config(), Some(Box::new(Unprepared)), false);
    rig.session.start(rig.now);
    rig.open();
    rig.receive("move, and no beats before that is over");
    assert_eq!(rig.deadline(), Some(5 * S));
}
