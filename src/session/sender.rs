//! What is sent on a connection ahead of the outbox, and how large messages are fragmented.

use std::collections::VecDeque;

use crate::config::QueueLimit;
use crate::error::{CloseFrame, Error};
use crate::message::{Fragment, Message, Position};
use crate::session::unanswered::MOST_UNANSWERED;

/// A frame for the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Message(Message),
    Fragment(Fragment),
    Ping([u8; 8]),
    Close(CloseFrame),
}

/// A frame that goes out ahead of the outbox.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) frame: Frame,
    /// The number of the heartbeat that this frame is.
    pub(super) beat: Option<u64>,
    /// Whether this frame completes a message of the outbox.
    pub(super) completes: bool,
}

/// A message that has been sent in part, as fragments.
#[derive(Debug)]
struct Cut {
    message: Queued,
    sent: usize,
}

#[derive(Debug, Default)]
pub(super) struct Sender {
    frames: VecDeque<Queued>,
    /// The message that is being sent in fragments.
    cut: Option<Cut>,
    /// The newest beat that was handed to the socket.
    pub(super) beat_handed: u64,
}

impl Sender {
    /// Queues a message of the protocol itself, if there is room.
    ///
    /// # Errors
    /// There is no room.
    pub(super) fn push_bounded(&mut self, message: Message, limit: QueueLimit) -> Result<(), Error> {
        let bytes: usize = self.frames.iter().map(|queued| queued.frame.len()).sum();
        let is_full = self.frames.len() >= limit.messages
            || (bytes + message.len() > limit.bytes && !self.frames.is_empty());
        if is_full {
            let reason =
                format!("the protocol sent more than the line took: {} messages wait", self.frames.len());
            return Err(Error::session(reason));
        }
        self.push(Frame::Message(message).into());
        Ok(())
    }

    pub(super) fn push(&mut self, queued: Queued) {
        self.frames.push_back(queued);
    }

    /// Queues beat `number`. While nothing goes out, beats must not pile up. Of too many that wait, one is dropped, but
    /// never the oldest: the next answer belongs to it.
    pub(super) fn push_beat(&mut self, frame: Frame, number: u64) {
        let is_beat = |queued: &Queued| queued.beat.is_some();
        if self.frames.iter().filter(|queued| is_beat(queued)).count() >= MOST_UNANSWERED {
            let second = self.frames.iter().enumerate().filter(|(_, queued)| is_beat(queued)).nth(1);
            second.map(|(at, _)| at).and_then(|at| self.frames.remove(at));
        }
        self.push(Queued { frame, beat: Some(number), completes: false });
    }

    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.cut = None;
    }

    /// Drops the frames of which nothing has been sent. The rest of a message that was begun still goes out.
    pub(super) fn clear_waiting(&mut self) {
        self.frames.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.cut.is_none()
    }

    /// How many frames wait of which nothing has been sent.
    pub(super) fn waiting(&self) -> usize {
        self.frames.len()
    }

    /// The frame that was queued last, if it still waits.
    pub(super) fn last_mut(&mut self) -> Option<&mut Queued> {
        self.frames.back_mut()
    }

    /// The message that was queued last, if it still waits.
    pub(super) fn last_message_mut(&mut self) -> Option<&mut Queued> {
        self.frames.iter_mut().rfind(|queued| matches!(queued.frame, Frame::Message(_)))
    }

    /// Returns the next frame, and whether it completes a message of the outbox. A message that is being fragmented
    /// gives its next fragment of at most `limit` bytes. Only frames that may stand between fragments interrupt it (RFC
    /// 6455, section 5.4).
    pub(super) fn next(&mut self, limit: usize) -> Option<(Frame, bool)> {
        if let Some(cut) = &mut self.cut {
            let is_control = |queued: &Queued| !matches!(queued.frame, Frame::Message(_));
            if let Some(at) = self.frames.iter().position(is_control) {
                return self.frames.remove(at).map(|queued| self.hand(queued));
            }
            let fragment = cut.next(limit)?;
            let mut completes = false;
            if fragment.position == Position::Last {
                let Cut { message, .. } = self.cut.take()?;
                completes = self.hand(message).1;
            }
            return Some((Frame::Fragment(fragment), completes));
        }
        let queued = self.frames.pop_front()?;
        if matches!(&queued.frame, Frame::Message(message) if message.len() > limit) {
            self.cut = Some(Cut { message: queued, sent: 0 });
            return self.next(limit);
        }
        Some(self.hand(queued))
    }

    /// Hands a whole frame to the socket.
    fn hand(&mut self, queued: Queued) -> (Frame, bool) {
        self.beat_handed = queued.beat.unwrap_or(self.beat_handed);
        if matches!(queued.frame, Frame::Close(_)) {
            // Nothing may follow a close frame, not even the rest of a message that was begun.
            self.clear();
        }
        (queued.frame, queued.completes)
    }

    /// Frees the memory that a burst has left behind.
    pub(super) fn shrink(&mut self) {
        self.frames.shrink_to_fit();
    }
}

impl Frame {
    /// Roughly how much memory the frame takes.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Message(message) => message.len(),
            Self::Fragment(fragment) => fragment.payload.len(),
            Self::Ping(_) | Self::Close(_) => 0,
        }
    }
}

impl Cut {
    /// The next fragment, of at most `limit` bytes.
    fn next(&mut self, limit: usize) -> Option<Fragment> {
        let Frame::Message(message) = &self.message.frame else { return None };
        let start = self.sent;
        self.sent = start.saturating_add(limit).min(message.len());
        let position = match start {
            _ if self.sent == message.len() => Position::Last,
            0 => Position::First { text: message.as_text().is_some(), of: message.len() },
            _ => Position::Middle,
        };
        Some(Fragment { position, payload: message.slice(start..self.sent) })
    }
}

impl From<Frame> for Queued {
    fn from(frame: Frame) -> Self {
        Self { frame, beat: None, completes: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_that_cannot_go_out_do_not_pile_up() {
        let mut sender = Sender::default();
        sender.push(Frame::Message("first".into()).into());
        for number in 1..=1000_u64 {
            sender.push_beat(Frame::Ping(number.to_be_bytes()), number);
        }
        assert_eq!(sender.waiting(), MOST_UNANSWERED + 1);
        let mut next = || sender.next(usize::MAX).map(|(frame, _)| frame);
        assert_eq!(next(), Some(Frame::Message("first".into())));
        assert_eq!(next(), Some(Frame::Ping(1_u64.to_be_bytes())));
        let last = std::iter::from_fn(next).last();
        assert_eq!(last, Some(Frame::Ping(1000_u64.to_be_bytes())));
    }

    fn text(text: &str) -> Queued {
        Frame::Message(text.into()).into()
    }

    fn all(sender: &mut Sender, limit: usize) -> Vec<String> {
        let name = |frame| match frame {
            Frame::Message(message) => message.to_string(),
            Frame::Fragment(Fragment { position, payload }) => {
                format!("{position:?} {}", String::from_utf8_lossy(&payload))
            }
            Frame::Ping(_) => "ping".to_owned(),
            Frame::Close(_) => "close".to_owned(),
        };
        std::iter::from_fn(|| sender.next(limit)).map(|(frame, _)| name(frame)).collect()
    }

    #[test]
    fn a_message_over_the_limit_is_cut_and_only_control_frames_stand_in_between() {
        let mut sender = Sender::default();
        sender.push(text("abcdef"));
        sender.push(text("next"));
        let first = sender.next(4).map(|(frame, _)| matches!(frame, Frame::Fragment(_)));
        assert_eq!(first, Some(true));
        sender.push(Queued { beat: Some(7), ..Frame::Ping([0; 8]).into() });
        assert_eq!(all(&mut sender, 4), ["ping", "Last ef", "next"]);
        assert_eq!((sender.beat_handed, sender.is_empty()), (7, true));
    }

    #[test]
    fn nothing_follows_a_close_frame() {
        let mut sender = Sender::default();
        sender.push(text("abcdef"));
        assert!(sender.next(4).is_some());
        sender.push(Frame::Close(CloseFrame::new(1000, "")).into());
        sender.push(text("late"));
        assert_eq!(all(&mut sender, 4), ["close"]);
    }

    #[test]
    fn what_completes_a_message_of_the_outbox_says_so_with_its_last_piece() {
        let mut sender = Sender::default();
        sender.push(Queued { completes: true, ..text("abcdef") });
        let completes: Vec<_> =
            std::iter::from_fn(|| sender.next(4)).map(|(_, completes)| completes).collect();
        assert_eq!(completes, [false, true]);
    }

    #[test]
    fn a_protocol_is_bounded_by_count_and_by_bytes_but_a_large_message_goes_alone() {
        let mut sender = Sender::default();
        assert!(sender.push_bounded("a large one".into(), QueueLimit::new(3, 4)).is_ok());
        assert!(sender.push_bounded("x".into(), QueueLimit::new(3, 4)).is_err());
        sender.clear();
        assert!((0..3).all(|_| sender.push_bounded("x".into(), QueueLimit::new(3, 4)).is_ok()));
        assert!(sender.push_bounded("".into(), QueueLimit::new(3, 4)).is_err());
    }
}
