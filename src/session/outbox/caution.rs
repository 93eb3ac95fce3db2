//! How messages go out that are kept until they are confirmed.

use crate::message::Message;
use crate::session::released::Released;

/// Where a loss has left messages in doubt, the next connection starts slowly: with one message. Whenever the server
/// confirms some, twice as many may be under way. A message that ends each connection stands alone soon, and those beside
/// it are not given up for it. A line that is cut after a few bytes gets on by that many.
///
/// A loss counts against the first message in doubt, and not where the connection has confirmed something in order.
#[derive(Debug, Default)]
pub(super) struct Caution {
    /// How many messages may be under way without a confirmation. `None` if nothing was in doubt.
    most: Option<usize>,
    /// What was confirmed in order when the connection began, and is now.
    began_at: u64,
    confirmed: u64,
    /// What was handed over since the server was asked what it has.
    unasked: Released,
}

/// How many bytes are handed over before the server is asked what it has. A loss makes no more than a few times as much be
/// sent again. A ping takes 14 bytes.
const ASK_EVERY: usize = 16 << 10;

impl Caution {
    /// A connection begins, with everything up to `confirmed` confirmed in order.
    pub(super) fn new(confirmed: u64, has_doubtful: bool) -> Self {
        let most = has_doubtful.then_some(1);
        Self { most, began_at: confirmed, confirmed, unasked: Released::default() }
    }

    /// A message was handed over in full.
    pub(super) fn hand_over(&mut self, message: &Message) {
        self.unasked.add(message);
    }

    /// Everything up to `ticket` is confirmed, in order.
    pub(super) fn confirm(&mut self, ticket: u64) {
        if ticket > self.confirmed {
            self.confirmed = ticket;
            self.most = self.most.map(|most| most.saturating_mul(2));
        }
    }

    /// Whether the server has confirmed something on this connection, in order, when everything up to `confirmed` is.
    pub(super) fn has_got_on(&self, confirmed: u64) -> bool {
        confirmed > self.began_at
    }

    /// Whether as many messages as may be are under way.
    pub(super) fn is_full(&self, under_way: usize) -> bool {
        self.most.is_some_and(|most| under_way >= most)
    }

    /// Whether the server should be asked what it has of these messages under way.
    pub(super) fn should_ask(&self, under_way: usize) -> bool {
        self.unasked.bytes >= ASK_EVERY || self.unasked.messages > 0 && self.is_full(under_way)
    }

    /// The server is asked what it has.
    pub(super) fn ask(&mut self) {
        self.unasked = Released::default();
    }
}
