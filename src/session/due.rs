//! What is due, and when.

use std::time::Instant;

use crate::error::Error;
use crate::session::connection::{ConnectionId, Stage};
use crate::session::heartbeat::HeartbeatAction;
use crate::session::line::Line;
use crate::session::{Action, Session};

impl Session {
    /// Does everything that is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.time_out(now, self.paused);
    }

    /// Does everything that is due, but judges no server by its silence: not all that has come was read. Whoever is due to be
    /// judged stays so.
    pub(crate) fn handle_timeout_unheard(&mut self, now: Instant) {
        self.time_out(now, true);
    }

    fn time_out(&mut self, now: Instant, spares: bool) {
        if let Line::Dialling(limit) = &mut self.line
            && limit.take_if(|at| *at <= now).is_some()
        {
            self.out.actions.push_back(Action::TimeOutDial { generation: self.retries.generation });
        }
        self.expire(now);
        self.moving_timeout(now);
        let ids: Vec<_> = self.line.connections().map(|connection| connection.id).collect();
        for id in ids {
            self.connection_timeout(now, id, spares);
        }
        // A beat that is due goes out before the goodbye, because nothing follows the goodbye.
        self.heartbeat_timeout(now, spares);
        self.closing_timeout(now);
    }

    /// Does what is due on one connection, whatever its role.
    fn connection_timeout(&mut self, now: Instant, id: ConnectionId, spares: bool) {
        let write_timeout = self.config.write_timeout;
        let Some(connection) = self.line.connection_mut(id) else { return };
        connection.hold.take_if(|until| *until <= now);
        let judged = connection.is_ready() && !spares;
        let idle_for = if judged { connection.idle.handle_timeout(now) } else { None };
        if connection.next_judgement(spares, write_timeout).is_some_and(|at| at <= now) {
            let stalled = Error::WriteStalled { after: write_timeout };
            let error = match connection.stage {
                Stage::LoggingIn { until, .. } if until <= now && !spares => {
                    Error::LoginTimeout { after: self.config.login_timeout }
                }
                Stage::Leaving { until, .. } if until <= now && !spares => {
                    Error::session("its server has not ended it within close_timeout")
                }
                _ => idle_for.map_or(stalled, |after| Error::IdleTimeout { after }),
            };
            return self.lose(now, id, error);
        }
        self.timers_timeout(now, id);
    }

    fn heartbeat_timeout(&mut self, now: Instant, spares: bool) {
        let Some(current) = self.line.current_mut() else { return };
        let heartbeat = &mut current.heartbeat;
        let due = if spares { heartbeat.handle_timeout_unheard(now) } else { heartbeat.handle_timeout(now) };
        match due {
            Some(HeartbeatAction::Send(pulse)) => self.beat(now, pulse),
            Some(HeartbeatAction::Dead { silence }) => {
                self.line_lost(now, Error::HeartbeatTimeout { silence });
            }
            None => {}
        }
    }

    /// When `handle_timeout` next has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let line = match &self.line {
            Line::Dialling(limit) => *limit,
            Line::Up(up) => {
                let held = self.outbox.has_waiting() && up.current.hold.is_some();
                up.current.closing().map(|closing| closing.next_deadline(self.closing_matter(), held))
            }
            Line::Down | Line::Closed => None,
        };
        let expiry = self.config.max_age.and_then(|_| self.outbox.next_expiry());
        let deadlines = [line, expiry, self.moving_deadline()];
        let connections = self.line.connections().flat_map(|connection| {
            [
                connection.next_judgement(self.paused, self.config.write_timeout),
                connection.timers.next_deadline(),
                connection.hold,
                connection.heartbeat.next_deadline(),
            ]
        });
        connections.chain(deadlines).flatten().min()
    }
}
