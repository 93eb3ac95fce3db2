//! Requests that wait for their answers.

use std::collections::{BTreeMap, VecDeque};

use crate::error::Error;
use crate::message::Message;
use crate::session::connection::ConnectionId;

/// Each request is identified by its ticket. It gets one reply, or several and then an end.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    waiting: BTreeMap<u64, Waiting>,
    replies: VecDeque<Reply>,
}

#[derive(Debug)]
struct Waiting {
    /// The connection for which it was handed to the protocol. From then on the protocol can answer it.
    handed: Option<ConnectionId>,
    /// Whether it may have several answers.
    many: bool,
}

/// How far a request had come when it was withdrawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    Ended,
    /// It had not been handed to the protocol.
    Queued,
    /// It had been handed to the protocol, for this connection.
    Handed(ConnectionId),
}

/// Something for the caller of a request.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) ticket: u64,
    /// `None` for an end without a further answer.
    pub(crate) answer: Option<Result<Message, Error>>,
    /// Whether this is the last reply.
    pub(crate) last: bool,
}

impl Requests {
    pub(crate) fn add(&mut self, ticket: u64, many: bool) {
        self.waiting.insert(ticket, Waiting { handed: None, many });
    }

    /// The message is handed to the protocol, for this connection. If it is a request, returns whether several answers
    /// are wanted.
    pub(crate) fn mark_handed(&mut self, ticket: u64, connection: ConnectionId) -> Option<bool> {
        let waiting = self.waiting.get_mut(&ticket)?;
        waiting.handed = Some(connection);
        Some(waiting.many)
    }

    pub(crate) fn is_waiting(&self, ticket: u64) -> bool {
        self.waiting.contains_key(&ticket)
    }

    /// Passes on one of several answers to a request, unless the request has ended.
    pub(crate) fn part(&mut self, ticket: u64, answer: Message) {
        match self.waiting.get(&ticket) {
            Some(Waiting { many: true, .. }) => {
                self.replies.push_back(Reply { ticket, answer: Some(Ok(answer)), last: false });
            }
            Some(_) => self.end(ticket, Ok(Some(answer))),
            None => {}
        }
    }

    /// Ends a request, unless it has ended: with a last answer, without one, or with an error.
    pub(crate) fn end(&mut self, ticket: u64, end: Result<Option<Message>, Error>) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        let answer = match end {
            Ok(None) if !waiting.many => {
                let reason = "the protocol has ended it without an answer";
                Some(Err(Error::Unanswered { reason: reason.into() }))
            }
            other => other.transpose(),
        };
        self.replies.push_back(Reply { ticket, answer, last: true });
    }

    /// The caller no longer waits for this request. Returns how far it had come.
    pub(crate) fn withdraw(&mut self, ticket: u64) -> Withdrawn {
        match self.waiting.remove(&ticket) {
            None => Withdrawn::Ended,
            Some(Waiting { handed: None, .. }) => Withdrawn::Queued,
            Some(Waiting { handed: Some(id), .. }) => Withdrawn::Handed(id),
        }
    }

    /// Fails all requests, or only those that were handed over, and returns their tickets.
    pub(crate) fn fail(&mut self, all: bool, error: &Error) -> Vec<u64> {
        self.fail_those(error, |waiting| all || waiting.handed.is_some())
    }

    /// Fails the requests that were handed over for this connection.
    pub(crate) fn fail_on(&mut self, connection: ConnectionId, error: &Error) {
        self.fail_those(error, |waiting| waiting.handed == Some(connection));
    }

    fn fail_those(&mut self, error: &Error, those: impl Fn(&Waiting) -> bool) -> Vec<u64> {
        let failed = self.waiting.iter().filter(|(_, waiting)| those(waiting));
        let failed: Vec<_> = failed.map(|(ticket, _)| *ticket).collect();
        for ticket in &failed {
            self.end(*ticket, Err(error.clone()));
        }
        failed
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn pending(&self) -> &VecDeque<Reply> {
        &self.replies
    }

    pub(crate) fn poll(&mut self) -> Option<Reply> {
        self.replies.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(requests: &mut Requests) -> Vec<(u64, String, bool)> {
        let text = |answer: Option<Result<Message, Error>>| match answer {
            Some(Ok(message)) => message.to_string(),
            Some(Err(error)) => error.to_string(),
            None => String::new(),
        };
        std::iter::from_fn(|| requests.poll()).map(|r| (r.ticket, text(r.answer), r.last)).collect()
    }

    #[test]
    fn a_request_gets_one_reply_at_most() {
        let mut requests = Requests::default();
        requests.add(7, false);
        assert_eq!(
            (requests.mark_handed(7, ConnectionId(1)), requests.mark_handed(8, ConnectionId(1))),
            (Some(false), None),
            "8 is a message like any other"
        );
        requests.part(7, "first".into());
        requests.end(7, Ok(Some("second".into())));
        requests.end(8, Ok(Some("never asked".into())));
        assert_eq!(replies(&mut requests), [(7, "first".into(), true)]);
    }

    #[test]
    fn a_request_for_many_answers_has_them_until_it_ends() {
        let mut requests = Requests::default();
        requests.add(7, true);
        assert_eq!(requests.mark_handed(7, ConnectionId(1)), Some(true));
        requests.part(7, "first".into());
        requests.part(7, "second".into());
        requests.end(7, Ok(None));
        requests.part(7, "late".into());
        let expected = [(7, "first".into(), false), (7, "second".into(), false), (7, String::new(), true)];
        assert_eq!(replies(&mut requests), expected);
    }

    #[test]
    fn an_end_without_an_answer_is_an_error_to_who_waits_for_one() {
        let mut requests = Requests::default();
        requests.add(7, false);
        requests.end(7, Ok(None));
        assert!(matches!(requests.poll(), Some(Reply { answer: Some(Err(_)), last: true, .. })));
    }

    #[test]
    fn a_loss_fails_what_was_handed_over_and_a_close_everything() {
        let mut requests = Requests::default();
        for ticket in 1..=3 {
            requests.add(ticket, ticket == 2);
        }
        requests.mark_handed(2, ConnectionId(1));
        assert_eq!(requests.fail(false, &Error::Closed { reason: None }), [2]);
        assert_eq!(requests.withdraw(3), Withdrawn::Queued);
        assert_eq!(requests.withdraw(3), Withdrawn::Ended);
        assert_eq!(requests.fail(true, &Error::Closed { reason: None }), [1]);
        assert_eq!(
            std::iter::from_fn(|| requests.poll()).map(|reply| reply.ticket).collect::<Vec<_>>(),
            [2, 1]
        );
    }
}
