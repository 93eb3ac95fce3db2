//! Callers who stand in for the I/O thread while it sleeps, and callers who send while others do their work.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use super::Rig;
use crate::client::{SendOptions, offer};
use crate::config::ConnectionConfig;
use crate::event::Ticket;
use crate::fuzzing::ledger::message;
use crate::io::turn::Turn;

/// A message that was accepted: whether it expires, and the session that it is for.
type Accepted = (Ticket, bool, Option<u64>);

pub(super) struct Callers {
    /// Whether they may stand in at all: no code of the application runs in a turn, and nobody waits for nobody.
    may: bool,
    stand_in: bool,
    /// Whether the I/O thread sleeps, and until when at most.
    pub(super) io_sleeps: bool,
    pub(super) sleeps_until: Option<Instant>,
    /// What was accepted in the middle of a turn.
    pub(super) accepted: Rc<RefCell<Vec<Accepted>>>,
}

impl Callers {
    pub(super) fn new(config: &ConnectionConfig, is_plain: bool) -> Self {
        let may = is_plain && config.realtime.is_none() && config.compression.is_none();
        Self { may, stand_in: false, io_sleeps: false, sleeps_until: None, accepted: Rc::default() }
    }

    pub(super) fn switch(&mut self) {
        self.stand_in = self.may && !self.stand_in;
    }
}

impl Rig {
    /// A caller takes the part of a turn that is his, if the I/O thread sleeps. Returns whether it sleeps on.
    pub(super) fn a_caller_stands_in(&mut self) -> bool {
        let is_plain =
            !self.even_only && self.turn.session.wants_outbox() && self.turn.sockets.only().is_some();
        if !self.callers.io_sleeps || !self.callers.stand_in || !is_plain || self.stopped {
            return false;
        }
        let planned = self.callers.sleeps_until;
        // Each time but the last, he leaves what there still is to read, and is about to come back for it.
        for comes_back in [true, true, false] {
            if self.run(Turn::stand_in) {
                self.publish();
            }
            let is_left = comes_back && self.turn.sockets.are_readable();
            let sleeps_on = self
                .decide(|turn, now| turn.may_sleep_on(now, planned, is_left))
                .is_some_and(|wakes| !self.is_woken(wakes));
            if !sleeps_on || !is_left {
                return sleeps_on;
            }
        }
        false
    }

    /// Another caller sends messages when the next write begins.
    pub(in crate::fuzzing) fn send_meanwhile(&mut self, count: u8, size: usize) {
        let current = self.turn.session.current();
        let Some(line) = self.turn.host.lines.iter().find(|line| Some(line.id) == current) else { return };
        let (intake, accepted) = (Arc::clone(&self.turn.intake), Rc::clone(&self.callers.accepted));
        let expires = self.config.max_age.map(|age| self.now() + age);
        line.pipe.state().meanwhile = Some(Box::new(move || {
            for _ in 0..count {
                let message = message(intake.last_ticket() + 1, size, false);
                let offer = offer(&intake, message, SendOptions::new(), expires);
                let session = offer.session();
                if let Ok(ticket) = intake.try_push(offer) {
                    accepted.borrow_mut().push((ticket, expires.is_some(), session));
                }
            }
        }));
    }
}
