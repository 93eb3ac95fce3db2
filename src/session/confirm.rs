//! What the server has received, according to its pongs.

use std::time::Instant;

use log::warn;

use crate::config::{Beat, Confirmation};
use crate::event::Tickets;
use crate::logging::LOG;
use crate::session::close_handshake::Closing;
use crate::session::connection::Connection;
use crate::session::pings::Pong;
use crate::session::{ConnectionId, Session};
use crate::ticket::OPEN;

impl Session {
    /// A caller wants to know whether everything up to ticket `through` has arrived. The server is asked as soon as
    /// that is out.
    pub(crate) fn handle_confirm(&mut self, through: u64) {
        let asked = self.line.current().map_or(0, |current| current.pings.asked());
        self.wanted.add(through, asked);
    }

    /// A pong arrived on a connection. On the current connection, it may confirm messages.
    pub(super) fn confirm(&mut self, now: Instant, id: ConnectionId, payload: &[u8]) {
        let Some(current) = self.line.current_mut().filter(|current| current.id == id) else { return };
        match current.pings.handle_pong(payload) {
            Pong::Confirms(_) if self.config.confirmation != Confirmation::Pong => {}
            Pong::Confirms(ticket) => self.outbox.confirm(ticket),
            Pong::IsDoubtful if current.heartbeat.is_running() => self.ping_to_confirm(now),
            Pong::IsMute if !std::mem::replace(&mut self.wanted.warned_of_mute, true) => warn!(
                target: LOG,
                "The server answers pings without repeating their payload (RFC 6455, section 5.5.3): nothing can be \
                 confirmed. `confirm` will time out, and with Delivery::AtLeastOnce the outbox fills up"
            ),
            Pong::IsDoubtful | Pong::IsMute | Pong::Nothing => {}
        }
        self.go_on_closing(now);
    }

    /// The protocol says that the server's application has handled these messages.
    pub(super) fn acknowledge(&mut self, now: Instant, id: ConnectionId, tickets: &Tickets) {
        // Of an open range, only what is there counts.
        let last = self.outbox.last_sent();
        let mut unsent = None;
        for run in tickets.runs() {
            let (first, end) = (*run.start(), *run.end());
            if first == 1 {
                self.outbox.acknowledge_through(end.min(last));
            } else {
                (first..=end.min(last)).for_each(|ticket| self.outbox.acknowledge(ticket));
            }
            unsent = unsent.or((end > last && end < OPEN).then_some(end));
        }
        if let Some(ticket) = unsent
            && let Some(connection) = self.line.connection_mut(id)
            && !std::mem::replace(&mut connection.acknowledged_unsent, true)
        {
            warn!(target: LOG, "The protocol acknowledges message #{ticket}, which was never sent: ignored");
        }
        self.go_on_closing(now);
    }

    /// What the server has received decides how a line that closes goes on.
    fn go_on_closing(&mut self, now: Instant) {
        if self.line.current().and_then(Connection::closing).is_some_and(Closing::awaits_answer) {
            self.closing_timeout(now);
        }
    }

    /// Whether the server may still confirm what it has received.
    pub(super) fn confirms(&self) -> bool {
        match self.config.confirmation {
            Confirmation::Pong => self.pongs_confirm(),
            Confirmation::Acknowledgement => self.line.current().is_some(),
        }
    }

    /// Whether pongs can confirm anything on the current connection.
    fn pongs_confirm(&self) -> bool {
        self.config.heartbeat.beat == Beat::WebSocketPing
            && self
                .line
                .current()
                .is_some_and(|current| current.heartbeat.is_running() && !current.pings.are_mute())
    }

    /// Whether to ask the server now: much went out that is kept until it is confirmed, the window of such messages fills
    /// up, or a caller waits for what has gone out.
    pub(super) fn should_ask(&self) -> bool {
        let asks = self.config.confirmation == Confirmation::Pong && self.pongs_confirm();
        let Some(current) = self.line.current().filter(|_| asks) else { return false };
        let (handed, confirmed) = (self.outbox.last_handed(), self.outbox.confirmed());
        let known = current.pings.asked().max(confirmed);
        let fills = self.outbox.is_half_full(self.config.outbox) && !current.pings.ask_behind(confirmed);
        let is_due =
            self.outbox.should_ask() || self.wanted.wants_ping(handed, known, self.outbox.has_waiting());
        fills || (is_due && current.pings.may_ask())
    }

    /// Whether the outbox waits for the server to confirm some of what has gone out.
    pub(super) fn is_cautious(&self) -> bool {
        // A pause of reading holds nothing back that is to be sent, and a line that closes sends what it can.
        self.outbox.is_cautious()
            && self.line.current().is_some_and(|current| current.closing().is_none())
            && !self.paused
            && self.config.confirmation == Confirmation::Pong
            && self.pongs_confirm()
    }

    /// Sends a ping outside the schedule. Its answer confirms everything sent before it. If the protocol acknowledges
    /// messages, there is nothing to ask.
    pub(super) fn ping_to_confirm(&mut self, now: Instant) {
        if self.config.confirmation != Confirmation::Pong {
            return;
        }
        if let Some(current) = self.line.current_mut() {
            let pulse = current.heartbeat.beat(now);
            self.beat(now, pulse);
        }
    }
}
