//! Requests that wait for their answers.

use std::collections::{BTreeMap, VecDeque};

use crate::error::Error;
use crate::message::Message;

/// Each request is known by its ticket, and gets one reply at most.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// Whether each was handed to the protocol, which can answer it from then on.
    waiting: BTreeMap<u64, bool>,
    replies: VecDeque<(u64, Result<Message, Error>)>,
}

impl Requests {
    pub(crate) fn add(&mut self, ticket: u64) {
        self.waiting.insert(ticket, false);
    }

    /// The message goes to the protocol; says whether it is a request.
    pub(crate) fn hand(&mut self, ticket: u64) -> bool {
        self.waiting.get_mut(&ticket).map(|handed| *handed = true).is_some()
    }

    pub(crate) fn is_waiting(&self, ticket: u64) -> bool {
        self.waiting.contains_key(&ticket)
    }

    /// Replies to a request, unless it is past that.
    pub(crate) fn reply(&mut self, ticket: u64, reply: Result<Message, Error>) {
        if self.waiting.remove(&ticket).is_some() {
            self.replies.push_back((ticket, reply));
        }
    }

    /// Nobody waits for this request any more.
    pub(crate) fn withdraw(&mut self, ticket: u64) -> bool {
        self.waiting.remove(&ticket).is_some()
    }

    /// Fails the requests that were handed over, or all of them, and names them.
    pub(crate) fn fail(&mut self, all: bool, error: &Error) -> Vec<u64> {
        let failed: Vec<_> =
            self.waiting.iter().filter(|(_, handed)| all || **handed).map(|(ticket, _)| *ticket).collect();
        for ticket in &failed {
            self.reply(*ticket, Err(error.clone()));
        }
        failed
    }

    pub(crate) fn poll(&mut self) -> Option<(u64, Result<Message, Error>)> {
        self.replies.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_gets_one_reply_at_most() {
        let mut requests = Requests::default();
        requests.add(7);
        assert!(requests.hand(7) && !requests.hand(8), "8 is a message like any other");
        requests.reply(7, Ok("first".into()));
        requests.reply(7, Ok("second".into()));
        requests.reply(8, Ok("never asked".into()));
        let (ticket, reply) = requests.poll().unwrap();
        assert_eq!((ticket, reply.unwrap().as_text()), (7, Some("first")));
        assert!(requests.poll().is_none());
    }

    #[test]
    fn a_loss_fails_what_was_handed_over_and_a_close_everything() {
        let mut requests = Requests::default();
        for ticket in 1..=3 {
            requests.add(ticket);
        }
        requests.hand(2);
        assert_eq!(requests.fail(false, &Error::Closed), [2]);
        assert!(requests.withdraw(3) && !requests.withdraw(3));
        assert_eq!(requests.fail(true, &Error::Closed), [1]);
        assert_eq!(
            std::iter::from_fn(|| requests.poll()).map(|(ticket, _)| ticket).collect::<Vec<_>>(),
            [2, 1]
        );
    }
}
