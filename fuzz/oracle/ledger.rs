//! The fate of each accepted message, as the client reports it and as the server saw it.

use std::collections::BTreeMap;

use crate::config::{Confirmation, ConnectionConfig, Delivery};
use crate::event::{Ticket, Tickets, Undelivered};
use crate::message::Message;
use crate::session::outbox::{MOST_FAILURES, MOST_LOSSES};
use crate::session::{ConnectionId, LostMessages, Readiness, Watermarks};

pub(super) struct Ledger {
    fates: Vec<Fate>,
    /// Messages are sent again until they are confirmed: at least once.
    keeps: bool,
    /// Only the protocol confirms messages.
    by_acknowledgement: bool,
    /// The newest ticket that the server has seen on each connection or, for messages that are sent once, on any.
    newest: BTreeMap<ConnectionId, u64>,
    settled: u64,
    /// How many more connections a message may go out on, because that has risen, or because a connection ended that no message
    /// has ended.
    free: usize,
}

#[derive(Debug, Default)]
struct Fate {
    request: bool,
    /// The message may expire.
    expires: bool,
    /// The session of the line that the message is for, if it is for one only.
    session: Option<u64>,
    /// The server has received all of it.
    arrived: bool,
    /// The number of connections on which the system took some of it, and the last of them.
    connections: u8,
    connection: ConnectionId,
    /// How many were free when it went out on the first of them.
    free: usize,
    /// The watermarks count it as confirmed.
    confirmed: bool,
    /// It was reported as maybe delivered: in an event or at the end, and to callers that wait for its confirmation.
    doubted: bool,
    told: bool,
    /// It was returned as never written.
    unwritten: bool,
    /// It was reported as too old, or as one that the protocol failed to send.
    expired: bool,
    /// The caller took it back, or the protocol dropped it.
    dropped: bool,
    replies: u8,
    /// The server has answered or acknowledged it.
    answered: bool,
    /// When that came, it had arrived: it goes out on no more than this many connections.
    acknowledged: Option<u8>,
}

impl Fate {
    /// The protocol may have had its answer without anybody being told, because the caller has withdrawn it.
    fn may_be_answered(&self) -> bool {
        self.answered || self.request && self.dropped && self.arrived
    }

    /// It has met a fate other than being delivered or left over. A request that went out is not exempt: it may have
    /// been delivered, whatever its caller was told.
    fn is_gone(&self) -> bool {
        let may_have_arrived = self.request && self.connections > 0;
        self.expired || !may_have_arrived && (self.dropped || self.request && self.replies > 0)
    }
}

impl Ledger {
    pub(super) fn new(config: &ConnectionConfig) -> Self {
        let keeps = config.delivery == Delivery::AtLeastOnce;
        let by_acknowledgement = config.confirmation == Confirmation::Acknowledgement;
        Self { fates: Vec::new(), keeps, by_acknowledgement, newest: BTreeMap::new(), settled: 0, free: 0 }
    }

    fn fate(&mut self, ticket: u64) -> &mut Fate {
        &mut self.fates[usize::try_from(ticket).expect("few tickets") - 1]
    }

    pub(super) fn accept(&mut self, ticket: Ticket, request: bool, expires: bool, session: Option<u64>) {
        self.fates.push(Fate { request, expires, session, ..Fate::default() });
        assert_eq!(ticket.number(), self.accepted());
    }

    pub(super) fn accepted(&self) -> u64 {
        self.fates.len() as u64
    }

    pub(super) fn is_request(&self, ticket: u64) -> bool {
        let at = usize::try_from(ticket).ok().and_then(|ticket| ticket.checked_sub(1));
        at.and_then(|at| self.fates.get(at)).is_some_and(|fate| fate.request)
    }

    /// The system has taken some of this message, or all of it, in this session of the line.
    pub(super) fn see(&mut self, payload: &[u8], (connection, session): (ConnectionId, u64), whole: bool) {
        let Some(ticket) = label(payload) else { return };
        let (keeps, free) = (self.keeps, self.free);
        let newest = self.newest.entry(if keeps { connection } else { ConnectionId::default() }).or_default();
        assert!(ticket > *newest, "#{ticket} after #{newest}");
        *newest = ticket;
        let fate = self.fate(ticket);
        assert!(
            (!fate.confirmed || fate.acknowledged.is_some()) && !fate.doubted && !fate.expired,
            "#{ticket} once more: {fate:?}"
        );
        assert!(
            fate.session.is_none_or(|meant| meant == session),
            "#{ticket} in session {session}: {fate:?}"
        );
        fate.arrived |= whole;
        if fate.connection != connection {
            fate.connection = connection;
            fate.connections += 1;
            if fate.connections == 1 {
                fate.free = free;
            }
        }
        // A loss counts against one message, and against none if its connection has confirmed something. The first one may
        // have done so before it had this message.
        let free = free - fate.free + MOST_LOSSES;
        let most = if keeps && !fate.request && fate.session.is_none() { MOST_LOSSES + free } else { 1 };
        let most = fate.acknowledged.map_or(most, |times| most.min(times.into()));
        assert!(usize::from(fate.connections) <= most, "#{ticket} on {} connections", fate.connections);
    }

    /// These messages may have been delivered, and are not sent again.
    pub(super) fn doubt(&mut self, tickets: &Tickets) {
        for ticket in tickets.iter().map(Ticket::number) {
            let fate = self.fate(ticket);
            assert!(!fate.confirmed && !fate.doubted && !fate.expired, "#{ticket}: {fate:?}");
            fate.doubted = !fate.is_gone();
        }
    }

    /// Callers that wait for the confirmation of these messages learn that it will not come.
    pub(super) fn tell(&mut self, doubts: &[LostMessages]) {
        for LostMessages { tickets, expired } in doubts {
            for ticket in tickets.iter().map(Ticket::number) {
                let fate = self.fate(ticket);
                assert!(!fate.confirmed && !fate.told && *expired == fate.expired, "#{ticket}: {fate:?}");
                fate.told = true;
            }
        }
    }

    /// These messages were too old to be written, or were for a session that is over, or the protocol has been given them
    /// too often, according to `times`.
    pub(super) fn expire(&mut self, tickets: &Tickets, times: impl Fn(u64) -> u8, now: Readiness) {
        for ticket in tickets.iter().map(Ticket::number) {
            let fate = self.fate(ticket);
            assert!(
                (fate.expires
                    || fate.session.is_some_and(|session| now != Readiness::Ready(session))
                    || times(ticket) >= MOST_FAILURES)
                    && fate.connections == 0
                    && !fate.expired
                    && !fate.doubted,
                "#{ticket}: {fate:?}"
            );
            fate.expired = true;
        }
    }

    pub(super) fn drop(&mut self, ticket: u64) {
        self.fate(ticket).dropped = true;
    }

    /// Whether this request has no reply and did not go out. Its caller no longer waits.
    pub(super) fn never_met(&mut self, ticket: u64) -> bool {
        let fate = self.fate(ticket);
        let never = fate.replies == 0 && fate.connections == 0;
        fate.dropped |= never;
        never
    }

    /// The server has answered this request, or acknowledged this message, if there is one. The protocol was given it to
    /// send so many times.
    pub(super) fn answer(&mut self, ticket: u64, times: u8) {
        if (1..=self.accepted()).contains(&ticket) {
            let fate = self.fate(ticket);
            fate.answered = true;
            if fate.arrived && fate.acknowledged.is_none() {
                fate.acknowledged = Some(times.max(1));
            }
        }
    }

    /// This request got its last reply.
    pub(super) fn reply(&mut self, ticket: u64) {
        let fate = self.fate(ticket);
        fate.replies += 1;
        assert!(fate.request && fate.replies == 1, "#{ticket}: {fate:?}");
    }

    /// What the client reports of its messages while the line is up.
    pub(super) fn settle(&mut self, marks: &Watermarks) {
        assert!(marks.settled <= marks.written && marks.written <= self.accepted(), "{marks:?}");
        let by_acknowledgement = self.by_acknowledgement;
        for ticket in self.settled + 1..=marks.settled {
            let fate = self.fate(ticket);
            if !fate.told && !fate.is_gone() {
                // A wild server may answer a request that it has not read.
                assert!(
                    fate.may_be_answered() || fate.arrived && !by_acknowledgement,
                    "#{ticket} confirmed, and it did not arrive: {fate:?}"
                );
                fate.confirmed = fate.arrived;
            }
        }
        if marks.settled > self.settled {
            self.free += MOST_LOSSES;
        }
        // Dropped messages may leave the mark where it was: nobody waits for a smaller one.
        self.settled = self.settled.max(marks.settled);
    }

    /// A connection ended that no message has ended.
    pub(super) fn excuse(&mut self) {
        self.free += 1;
    }

    /// Everything accepted has gone out, on this connection if it was not confirmed before.
    pub(super) fn check_out(&self, connection: ConnectionId) {
        for (fate, ticket) in self.fates.iter().zip(1_u64..) {
            let sent = fate.arrived && (fate.connection == connection || !self.keeps);
            assert!(
                sent || fate.confirmed || fate.answered || fate.doubted || fate.is_gone(),
                "#{ticket} waits for nothing: {fate:?}"
            );
        }
    }

    /// The line is lost and will be dialled again, or it has moved. Whatever the server may have is settled or
    /// reported, except for what goes out on the `current` connection. Tickets up to `sure` may have been confirmed.
    pub(super) fn lose(&self, sure: u64, current: Option<ConnectionId>) {
        let on_others = |fate: &Fate| current != Some(fate.connection);
        for (fate, ticket) in self.fates.iter().zip(1_u64..).filter(|(fate, _)| on_others(fate)) {
            let confirmed = fate.confirmed || fate.arrived && ticket <= sure;
            let known = confirmed
                || fate.may_be_answered()
                || fate.doubted
                || fate.is_gone()
                || self.keeps && !fate.request && fate.session.is_none();
            // After a loss, nothing may wait that was for the lost session only.
            let waits = fate.connections == 0 && (fate.session.is_none() || current.is_some());
            assert!(waits || known, "#{ticket}: {fate:?}");
        }
    }

    /// The client is closed, and `left` remains. Returns how many messages it has released.
    pub(super) fn close(&mut self, left: &Undelivered) -> usize {
        for (ticket, message) in &left.never_written {
            let ticket = ticket.number();
            assert_eq!(label(message.as_bytes()), Some(ticket));
            let fate = self.fate(ticket);
            assert!(!fate.unwritten && !fate.request, "#{ticket}: {fate:?}");
            fate.unwritten = true;
        }
        for ticket in left.maybe_delivered.iter().map(Ticket::number) {
            let fate = self.fate(ticket);
            fate.doubted = !fate.is_gone();
        }
        for (fate, ticket) in self.fates.iter().zip(1_u64..) {
            assert!(!fate.unwritten || fate.connections == 0 && !fate.confirmed, "#{ticket}: {fate:?}");
            let fates = [fate.confirmed, fate.doubted, fate.unwritten, fate.expired];
            let fates = fates.into_iter().filter(|is_so| *is_so).count();
            assert!(
                fates == 1 || fates == 0 && (fate.is_gone() || fate.may_be_answered()),
                "#{ticket} vanished, or has two fates: {fate:?}"
            );
            assert!(!fate.request || fate.dropped || fate.replies == 1, "#{ticket}: {fate:?}");
        }
        self.fates.len() - left.never_written.len()
    }
}

/// A message that contains its ticket.
pub(super) fn message(ticket: u64, size: usize, binary: bool) -> Message {
    let text = format!("{ticket}:{}", "z".repeat(size));
    if binary { text.into_bytes().into() } else { text.into() }
}

/// The ticket of one of the application's messages, of which perhaps only the beginning is there.
pub(super) fn label(payload: &[u8]) -> Option<u64> {
    let at = match payload {
        [b'0'..=b'9', ..] => 0,
        [b'{', ..] => payload.windows(4).position(|window| window == br#""n":"#)? + 4,
        _ => return None,
    };
    let digits = payload[at..].iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&payload[at..at + digits]).ok()?.parse().ok()
}
