//! The pings of a connection, and what their answers confirm: every message that was handed over before the ping.

use crate::session::heartbeat::counter;
use crate::session::unanswered::Unanswered;

/// How many pings may be under way before another one is sent for a waiting caller. Whatever callers want meanwhile is
/// asked about by one ping, at the next answer. Nobody waits longer than two round trips, and the server is not
/// flooded.
const MOST_ASKING: usize = 4;

#[derive(Debug)]
pub(super) struct Pings {
    /// Pings behind the same message share one entry, under the number of the first.
    under_way: Unanswered<Asked>,
    /// The number of the newest ping, and of the newest one that is on the wire.
    sent: u64,
    written: u64,
    /// The last ticket that a ping has asked about.
    asked: u64,
    answers: Answers,
}

/// Pings behind the same message.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// The number of the last one of them.
    last: u64,
    /// The last ticket handed over before these pings.
    handed: u64,
}

/// What the server's pongs are like. A pong that answers a ping repeats its payload. A pong may also come unasked (RFC
/// 6455, section 5.5.3), from servers that keep their connections alive that way; it proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    NoneYet,
    /// They repeat the payload of the ping.
    Telling,
    /// One pong came while a ping was under way, and repeated no payload.
    Doubtful,
    /// Another such pong came: nobody knows what these pongs answer.
    Mute,
}

/// What a pong says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pong {
    /// Everything up to this ticket has arrived.
    Confirms(u64),
    /// The pong answers no ping, though one is under way. The answer to one more ping will show what the server's pongs
    /// are like.
    IsDoubtful,
    /// The server's pongs confirm nothing. Reported once.
    IsMute,
    Nothing,
}

impl Pings {
    pub(super) fn new() -> Self {
        Self { under_way: Unanswered::new(), sent: 0, written: 0, asked: 0, answers: Answers::NoneYet }
    }

    /// Ping `number` is sent after the message with ticket `handed`.
    pub(super) fn send(&mut self, number: u64, handed: u64) {
        let newest = self.under_way.iter_mut().next_back().map(|(_, asked)| asked);
        if let Some(asked) = newest.filter(|asked| asked.handed == handed) {
            asked.last = number;
        } else {
            self.under_way.push(number, Asked { last: number, handed }, 0);
        }
        self.sent = number;
        self.asked = handed;
    }

    /// All pings up to number `through` are on the wire.
    pub(super) fn handle_written(&mut self, through: u64) {
        self.written = through;
    }

    /// A pong came in.
    pub(super) fn handle_pong(&mut self, payload: &[u8]) -> Pong {
        if let Some(number) = counter(payload).filter(|number| (1..=self.sent).contains(number)) {
            self.answers = Answers::Telling;
            let Some((_, asked)) = self.under_way.answer(number) else { return Pong::Nothing };
            // Later answers to these pings may confirm more: this one may have come before it was known what the system
            // has taken.
            if asked.last > number {
                self.under_way.put_back(number + 1, asked);
            }
            return Pong::Confirms(asked.handed);
        }
        if self.under_way.iter().next().is_none_or(|(oldest, _)| *oldest > self.written) {
            return Pong::Nothing;
        }
        match self.answers {
            Answers::NoneYet => {
                self.answers = Answers::Doubtful;
                Pong::IsDoubtful
            }
            Answers::Doubtful => {
                self.answers = Answers::Mute;
                Pong::IsMute
            }
            Answers::Telling | Answers::Mute => Pong::Nothing,
        }
    }

    /// Whether the server's pongs confirm nothing, so that there is no point in waiting for them.
    pub(super) fn are_mute(&self) -> bool {
        self.answers == Answers::Mute
    }

    /// Whether a ping has already asked for a ticket after `confirmed`.
    pub(super) fn ask_behind(&self, confirmed: u64) -> bool {
        self.asked > confirmed
    }

    /// The last ticket that a ping has asked about.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// Whether another ping may be sent for a waiting caller.
    pub(super) fn may_ask(&self) -> bool {
        self.under_way.len() < MOST_ASKING
    }
}

/// What callers want to have confirmed.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// The first ticket that is wanted and that no ping of this connection has asked about.
    first: Option<u64>,
    /// The last ticket that is wanted.
    last: u64,
    /// The log has a warning that a server's pongs confirm nothing.
    pub(super) warned_of_mute: bool,
}

impl Wanted {
    /// A caller waits until everything up to ticket `through` is confirmed, where pings have asked up to `asked`.
    pub(super) fn add(&mut self, through: u64, asked: u64) {
        if through > asked {
            self.first = Some(self.first.map_or(through, |first| first.min(through)));
        }
        self.last = self.last.max(through);
    }

    /// A ping asks about everything up to ticket `handed`.
    pub(super) fn ask(&mut self, handed: u64) {
        if self.first.is_some_and(|first| first <= handed) {
            self.first = Some(self.last).filter(|last| *last > handed);
        }
    }

    /// The connection has changed. Tickets that are wanted and not confirmed yet must be asked about on the new one.
    pub(super) fn ask_again(&mut self, confirmed: u64) {
        self.first = Some(self.last).filter(|last| *last > confirmed);
    }

    /// Whether to send a ping. Messages up to ticket `handed` were handed over; those up to `known` are confirmed or
    /// asked about; `more` says that others wait to be handed over.
    pub(super) fn wants_ping(&self, handed: u64, known: u64, more: bool) -> bool {
        let is_new = self.last.min(handed) > known;
        is_new && (!more || self.first.is_some_and(|first| first <= handed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pong(pings: &mut Pings, number: u64) -> Pong {
        pings.handle_pong(&number.to_be_bytes())
    }

    #[test]
    fn an_answer_confirms_what_went_before_its_ping() {
        let mut pings = Pings::new();
        pings.send(1, 10);
        pings.send(2, 10);
        pings.send(3, 20);
        assert_eq!(pong(&mut pings, 1), Pong::Confirms(10));
        assert_eq!(pong(&mut pings, 1), Pong::Nothing, "once");
        assert_eq!(
            pong(&mut pings, 2),
            Pong::Confirms(10),
            "and again: it may not have been known to be written before"
        );
        assert_eq!(pong(&mut pings, 4), Pong::Nothing, "never sent");
        assert_eq!(pong(&mut pings, 3), Pong::Confirms(20));
    }

    #[test]
    fn pongs_that_repeat_nothing_are_mute_until_one_does() {
        let mut pings = Pings::new();
        assert_eq!(pings.handle_pong(b""), Pong::Nothing, "nobody asked: it is a sign of life");
        pings.send(1, 10);
        assert_eq!(pings.handle_pong(b""), Pong::Nothing, "the ping is not on the wire yet");
        pings.handle_written(1);
        let unknown = 7_u64.to_be_bytes();
        assert_eq!((pings.handle_pong(&unknown), pings.are_mute()), (Pong::IsDoubtful, false));
        assert_eq!((pings.handle_pong(b""), pings.are_mute()), (Pong::IsMute, true));
        assert_eq!(pings.handle_pong(b"x"), Pong::Nothing, "said once");
        assert_eq!((pong(&mut pings, 1), pings.are_mute()), (Pong::Confirms(10), false));
        pings.send(2, 20);
        assert_eq!((pings.handle_pong(b""), pings.are_mute()), (Pong::Nothing, false));
    }
}
