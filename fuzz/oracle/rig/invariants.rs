//! What must hold of a client that sleeps, and of one that is closed.

use crossbeam_channel::TryRecvError;

use super::Rig;
use crate::config::Delivery;
use crate::error::{Error, Fault};
use crate::io::publisher::Publisher;
use crate::message::Message;
use crate::session::ConnectionId;
use crate::shared::EventQueue;
use crate::state::ConnectionState;

impl Rig {
    pub(super) fn check_asleep(&mut self) {
        use ConnectionState::{Authenticated, Closing, Connected, Connecting, Disconnected};
        let session = &self.turn.session;
        let state = session.state();
        let up = matches!(state, Connected | Authenticated | Closing);
        let dials = self.turn.host.dialling.is_some();
        assert_eq!(
            dials,
            state == Connecting || up && session.is_dialling_successor(),
            "dialling in {state}"
        );
        let waits = state == Disconnected && !session.is_suspended();
        assert_eq!(self.turn.host.plan.is_some(), waits, "a plan in {state}");
        assert_eq!(session.next_attempt(), self.turn.host.plan.map(|plan| plan.at));
        assert_eq!(session.current().is_some(), up, "a connection in {state}");
        let (deadline, current) = (session.next_deadline(), session.current());
        self.check_nothing_waits();
        let takes_all = self.taking == usize::MAX && self.halfway.is_none();
        assert!(!takes_all || self.check.passed.is_empty(), "messages wait for the one that takes all");
        let line = self.turn.host.lines.iter().find(|line| Some(line.id) == current);
        let blocked = line.filter(|line| line.is_blocked()).map(|line| line.moved);
        let heard = line.map(|line| line.heard);
        let (ready, paused) = (self.turn.session.wants_outbox(), self.turn.is_paused());
        let now = self.now();
        self.check.silent = current.is_some_and(|current| self.fallen.is_silent(current));
        self.check.asleep(now, state, deadline, (&self.config, blocked, heard, ready, paused));
        self.turn.session.handle_timeout(now);
        assert!(!self.turn.session.has_output(), "a call without need did something");
        assert_eq!(self.turn.session.next_deadline(), deadline);
    }

    /// Everything that can be sent is sent, and everything that can be received is received.
    fn check_nothing_waits(&mut self) {
        let (reads, current) = (!self.turn.is_paused(), self.turn.session.current());
        let session = &self.turn.session;
        let mut count = 0;
        for open in self.turn.sockets.iter_mut() {
            count += 1;
            assert!(session.has(open.id), "a socket of a connection that was given up");
            let line = self.turn.host.lines.iter().find(|line| line.id == open.id);
            let line = line.expect("a socket that was opened");
            let reads = reads && !open.socket.owes_answers();
            assert!(!reads || line.pipe.state().incoming.is_empty(), "something to read");
            let goes_out = session.wants_outbox() && !session.holds() && !open.socket.is_blocked();
            if Some(open.id) == current && goes_out {
                self.ledger.check_out(open.id);
                assert!(
                    !reads || !session.accepts_messages() || line.peer.is_answered(),
                    "a ping without its pong"
                );
            }
        }
        assert_eq!(count, self.turn.host.lines.len(), "a connection without a socket");
    }

    /// Ends the I/O thread, and tries what comes too late.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.turn.close_intake();
        let now = self.now();
        let session = &mut self.turn.session;
        let left = session.take_left();
        assert!(session.take_close_reason().is_some());
        // The callers of requests that came too late learn of the end without a reply.
        let late = self.asked.keys().filter(|ticket| self.ledger.never_met(**ticket)).count();
        let let_go = self.ledger.close(&left);
        let accepted = usize::try_from(self.ledger.accepted()).expect("few tickets");
        let released = accepted - self.turn.intake.held() + session.take_released().messages;
        let kept = self.config.delivery == Delivery::AtLeastOnce;
        assert!(released <= let_go && (kept || released + late >= let_go), "room for {released} of {let_go}");
        session.handle_timeout(now);
        let late = ConnectionId(1);
        let fault = Fault::Broken(Error::ConnectionLost { source: None });
        session.handle_fault(now, late, fault);
        session.handle_pong(now, late, &1_u64.to_be_bytes());
        session.handle_message(now, late, Message::from("late"));
        session.handle_reconnect_now(now);
        session.handle_suspend(now);
        session.handle_reconnect(now);
        session.handle_resume(now);
        session.handle_retry(now, 1);
        assert_eq!(session.poll_message(late), None);
        assert_eq!(session.poll_transmit(now, late), None);
        assert!(!session.has_output() && session.next_deadline().is_none(), "after the end");
        // The I/O thread drops its ends of the queues last.
        self.turn.publisher = Publisher::new(EventQueue::new().1, self.config.events);
        for event in self.events.drain() {
            self.check.taken(event);
        }
        let end = loop {
            match self.take_message() {
                Ok(message) => self.check.taken_message(&message),
                Err(end) => break end,
            }
        };
        assert_eq!(end == TryRecvError::Disconnected, self.inbox.is_some(), "the end of the messages");
        if self.halfway.is_some() {
            self.switch();
        }
        self.check.is_over();
    }
}
