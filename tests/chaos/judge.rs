//! What the client said, held against what the server got.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::AddAssign;

use tautline::{Delivery, Ticket, Tickets};

use crate::storm::{Ending, Id, Outcome, id};

/// What became of the messages of some storms.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    storms: u64,
    over_tls: u64,
    pub(crate) messages: u64,
    pub(crate) confirmed: u64,
    pub(crate) duplicates: u64,
    pub(crate) doubtful: u64,
    /// How many of the doubtful had arrived.
    doubtful_arrived: u64,
    never_written: u64,
    expired: u64,
    connects: u64,
    failed_attempts: u64,
    pub(crate) disconnects: u64,
    silences: u64,
    farewells: u64,
    pub(crate) moves: u64,
}

/// What the client said of a message that it did not confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    MaybeDelivered,
    NeverWritten,
    Expired,
}

/// Panics where what the client said does not hold against what the server got.
pub(crate) fn judge(outcome: &Outcome) -> Tally {
    let Outcome { setup, sent, told, left, record, stats } = outcome;
    let mut accepted: BTreeMap<u64, Id> = BTreeMap::new();
    for (sender, sent) in (0_u8..).zip(sent) {
        assert!(sent.tickets.is_sorted(), "the tickets of one sender rise");
        for (n, ticket) in (0_u32..).zip(&sent.tickets) {
            assert!(
                accepted.insert(ticket.number(), (sender, n)).is_none(),
                "ticket {ticket} was given twice"
            );
        }
    }
    let messages = accepted.len() as u64;
    assert!(accepted.keys().copied().eq(1..=messages), "tickets rise by one");
    assert_eq!(stats.messages_accepted, messages);
    assert_eq!((stats.messages_queued, stats.bytes_queued), (0, 0));
    // While a line closes, a protocol hears messages that the application has no room for.
    let passed_on =
        if setup.moves.is_some() { told.heard.min(stats.messages_received) } else { stats.messages_received };
    assert_eq!(told.heard, passed_on, "each message that came was passed on, and no other");
    let tickets: HashMap<Id, u64> = accepted.iter().map(|(ticket, id)| (*id, *ticket)).collect();
    let arrived = |ticket: &u64| record.times.contains_key(&accepted[ticket]);
    assert!(record.times.keys().all(|id| tickets.contains_key(id)), "what was not accepted arrived");

    let fates = fates(outcome, &tickets);
    let is = |ticket: &u64, fate| fates.get(ticket) == Some(&fate);
    assert!(
        fates.keys().all(|ticket| accepted.contains_key(ticket)),
        "a ticket was named that was never given"
    );
    // A connection on which the server confirms something does not count against a message. So it can come on each of them.
    let most = if setup.delivery == Delivery::AtLeastOnce { stats.connects + told.moves } else { 1 };
    for (ticket, id) in &accepted {
        let fate = fates.get(ticket);
        let times = u64::from(record.times.get(id).copied().unwrap_or_default());
        assert!(times <= most, "ticket {ticket} arrived {times} times");
        match fate {
            None => assert!(times > 0, "ticket {ticket} is lost"),
            Some(Fate::MaybeDelivered) => {}
            Some(Fate::NeverWritten | Fate::Expired) => {
                assert!(times == 0, "ticket {ticket} was called {fate:?}, and arrived");
            }
        }
    }
    // A message in doubt may be under way still while newer ones arrive.
    let mut seen = HashSet::new();
    let firsts = record.order.iter().filter(|id| seen.insert(**id)).map(|id| tickets[id]);
    let firsts: Vec<u64> = firsts.filter(|ticket| !fates.contains_key(ticket)).collect();
    assert!(firsts.is_sorted(), "first arrivals are in order");

    for sent in sent {
        let numbers = |tickets: &Tickets| tickets.iter().map(Ticket::number).collect::<HashSet<_>>();
        let (maybe, never) = (numbers(&sent.maybe), numbers(&sent.never));
        for ticket in sent.tickets[..sent.confirmed].iter().map(|ticket| ticket.number()) {
            let said = match fates.get(&ticket) {
                None => !maybe.contains(&ticket) && !never.contains(&ticket),
                Some(Fate::MaybeDelivered) => maybe.contains(&ticket),
                Some(Fate::NeverWritten | Fate::Expired) => never.contains(&ticket),
            };
            assert!(said, "ticket {ticket} was told otherwise: {:?}", fates.get(&ticket));
        }
        for ticket in &sent.tickets[..sent.flushed] {
            let fate = fates.get(&ticket.number());
            assert!(fate != Some(&Fate::NeverWritten), "ticket {ticket} was flushed, and never written");
        }
    }
    assert!(!left.unfinished);
    if setup.ending == Ending::Confirm {
        assert!(left.is_empty(), "all was confirmed, and yet there is left: {left:?}");
    }
    let count = |fate| fates.values().filter(|other| **other == fate).count() as u64;
    assert_eq!(stats.messages_expired, count(Fate::Expired));

    let all = || accepted.keys();
    Tally {
        storms: 1,
        over_tls: setup.tls.into(),
        messages,
        confirmed: all().filter(|ticket| !fates.contains_key(ticket) && arrived(ticket)).count() as u64,
        duplicates: (record.order.len() - seen.len()) as u64,
        doubtful: count(Fate::MaybeDelivered),
        doubtful_arrived: all().filter(|ticket| is(ticket, Fate::MaybeDelivered) && arrived(ticket)).count()
            as u64,
        never_written: count(Fate::NeverWritten),
        expired: count(Fate::Expired),
        connects: stats.connects,
        failed_attempts: stats.attempts - stats.connects,
        disconnects: stats.disconnects,
        silences: told.silences,
        farewells: told.farewells,
        moves: told.moves,
    }
}

/// What was said of each ticket; nothing, if it was confirmed.
fn fates(outcome: &Outcome, tickets: &HashMap<Id, u64>) -> HashMap<u64, Fate> {
    let Outcome { told, left, .. } = outcome;
    let never = left.never_written.iter().map(|(_, message)| tickets[&id(message.as_bytes()).unwrap()]);
    let never: Vec<u64> = never.collect();
    assert!(never.is_sorted(), "what is left is in order: {never:?}");
    let mut fates = HashMap::new();
    let mut name = |ticket: u64, fate| {
        let before = fates.insert(ticket, fate);
        assert!(before.is_none(), "ticket {ticket} has two fates: {before:?} and {fate:?}");
    };
    for ticket in told.doubtful.iter().copied().chain(left.maybe_delivered.iter().map(Ticket::number)) {
        name(ticket, Fate::MaybeDelivered);
    }
    for ticket in &told.expired {
        name(*ticket, Fate::Expired);
    }
    for ticket in never {
        name(ticket, Fate::NeverWritten);
    }
    fates
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.storms += other.storms;
        self.over_tls += other.over_tls;
        self.messages += other.messages;
        self.confirmed += other.confirmed;
        self.duplicates += other.duplicates;
        self.doubtful += other.doubtful;
        self.doubtful_arrived += other.doubtful_arrived;
        self.never_written += other.never_written;
        self.expired += other.expired;
        self.connects += other.connects;
        self.failed_attempts += other.failed_attempts;
        self.disconnects += other.disconnects;
        self.silences += other.silences;
        self.farewells += other.farewells;
        self.moves += other.moves;
    }
}

/// One column for each delivery.
pub(crate) fn table(least: &Tally, most: &Tally) -> String {
    let row = |name: &str, value: fn(&Tally) -> u64| {
        let (least, most) = (value(least), value(most));
        let all = least + most;
        format!("{name:<34}{least:>14}{most:>14}{all:>14}\n")
    };
    let mut table = format!("\n{:<34}{:>14}{:>14}{:>14}\n", "", "at least once", "at most once", "in all");
    table += &row("storms", |tally| tally.storms);
    table += &row("  over TLS", |tally| tally.over_tls);
    table += &row("messages accepted", |tally| tally.messages);
    table += &row("  confirmed", |tally| tally.confirmed);
    table += &row("  named in doubt", |tally| tally.doubtful);
    table += &row("    and had arrived", |tally| tally.doubtful_arrived);
    table += &row("  returned as never written", |tally| tally.never_written);
    table += &row("  named as expired", |tally| tally.expired);
    table += &row("  lost", |tally| {
        tally.messages - tally.confirmed - tally.doubtful - tally.never_written - tally.expired
    });
    table += &row("duplicates", |tally| tally.duplicates);
    table += &row("connections that were ready", |tally| tally.connects);
    table += &row("  lost or closed", |tally| tally.disconnects);
    table += &row("    for silence", |tally| tally.silences);
    table += &row("    by the server's close frame", |tally| tally.farewells);
    table += &row("moves to another connection", |tally| tally.moves);
    table += &row("attempts that failed", |tally| tally.failed_attempts);
    table
}
