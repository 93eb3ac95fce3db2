//! What must hold of a client that sleeps, and of one that is closed.

use super::{Line, Rig};
use crate::config::Delivery;
use crate::error::{Error, Fault};
use crate::event::Left;
use crate::message::Message;
use crate::session::ConnectionId;
use crate::state::ConnectionState;
use crate::worker::sockets::Open;

impl Rig {
    pub(super) fn check_asleep(&mut self) {
        use ConnectionState::{Authenticated, Closing, Connected, Connecting, Disconnected};
        let state = self.session.state();
        assert_eq!(self.dialling.is_some(), state == Connecting, "dialling in {state}");
        assert_eq!(self.plan.is_some(), state == Disconnected, "a plan in {state}");
        let up = matches!(state, Connected | Authenticated | Closing);
        assert_eq!(self.line.is_some(), up, "a socket in {state}");
        self.check_nothing_waits();
        let deadline = self.session.next_deadline();
        let blocked = self.line.as_ref().is_some_and(|line| line.open.socket.is_blocked());
        self.check.asleep(
            self.now,
            state,
            deadline,
            (&self.config, blocked, self.session.wants_outbox(), self.look.is_some()),
        );
        self.session.handle_timeout(self.now);
        assert!(!self.session.has_output(), "a call without need did something");
        assert_eq!(self.session.next_deadline(), deadline);
    }

    /// What can go out is out, and what can come in is in.
    fn check_nothing_waits(&self) {
        let Some(Line { open: Open { socket, .. }, pipe, peer, .. }) = &self.line else { return };
        let reads = self.look.is_none() && !socket.owes_answers();
        assert!(!reads || pipe.state().incoming.is_empty(), "something to read");
        if self.session.wants_outbox() && !self.session.holds() && !socket.is_blocked() {
            self.ledger.check_out();
            assert!(!reads || !self.session.hears() || peer.is_answered(), "a ping without its pong");
        }
    }

    /// The worker's end, and what comes too late.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        self.close_intake();
        let left: Left = self.session.take_left();
        assert!(self.session.take_close_reason().is_some());
        let let_go = self.ledger.close(&left);
        let released = self.check.released + self.session.take_released().messages;
        let kept = self.config.delivery == Delivery::AtLeastOnce;
        assert!(released == let_go || kept && released <= let_go, "room for {released} of {let_go}");
        self.session.handle_timeout(self.now);
        let late = ConnectionId(1);
        let fault = Fault::Broken(Error::ConnectionLost { source: None });
        self.session.handle_fault(self.now, late, fault);
        self.session.handle_pong(self.now, late, &1_u64.to_be_bytes());
        self.session.handle_message(self.now, late, Message::from("late"));
        self.session.handle_reconnect_now(self.now);
        self.session.handle_retry(self.now, 1);
        assert_eq!(self.session.poll_message(late), None);
        assert_eq!(self.session.poll_transmit(self.now, late), None);
        assert!(!self.session.has_output() && self.session.next_deadline().is_none(), "after the end");
        while let Ok(event) = self.inbox.try_recv() {
            self.check.taken(event);
        }
        assert!(self.check.ended, "the last event is missing");
    }
}
