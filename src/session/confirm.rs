//! What the server has received, according to its pongs.

use std::time::Instant;

use log::warn;

use crate::config::Beat;
use crate::session::close_handshake::Closing;
use crate::session::connection::Connection;
use crate::session::pings::Pong;
use crate::session::{ConnectionId, LOG, Session};

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
            Pong::Confirms(ticket) => self.outbox.confirm(ticket),
            Pong::IsDoubtful if current.heartbeat.is_running() => self.ping_to_confirm(now),
            Pong::IsMute if !std::mem::replace(&mut self.wanted.warned_of_mute, true) => warn!(
                target: LOG,
                "The server answers pings without repeating their payload (RFC 6455, section 5.5.3): nothing can be \
                 confirmed. `confirm` will time out, and with Delivery::AtLeastOnce the outbox fills up"
            ),
            Pong::IsDoubtful | Pong::IsMute | Pong::Nothing => {}
        }
        if self.line.current().and_then(Connection::closing).is_some_and(Closing::awaits_answer) {
            self.closing_timeout(now);
        }
    }

    /// Whether pongs can confirm anything on the current connection.
    pub(super) fn confirms(&self) -> bool {
        self.config.heartbeat.beat == Beat::WebSocketPing
            && self
                .line
                .current()
                .is_some_and(|current| current.heartbeat.is_running() && !current.pings.are_mute())
    }

    /// Whether to ask the server now: the window of unconfirmed messages fills up, or a caller waits for what has gone
    /// out.
    pub(super) fn should_ask(&self) -> bool {
        let Some(current) = self.line.current().filter(|_| self.confirms()) else { return false };
        let (handed, confirmed) = (self.outbox.last_handed(), self.outbox.confirmed());
        let known = current.pings.asked().max(confirmed);
        let fills = self.outbox.is_half_full(self.config.outbox) && !current.pings.ask_behind(confirmed);
        fills || (self.wanted.wants_ping(handed, known, self.outbox.has_waiting()) && current.pings.may_ask())
    }

    /// Sends a ping outside the schedule. Its answer confirms everything sent before it.
    pub(super) fn ping_to_confirm(&mut self, now: Instant) {
        if let Some(current) = self.line.current_mut() {
            let pulse = current.heartbeat.beat(now);
            self.beat(now, pulse);
        }
    }
}
