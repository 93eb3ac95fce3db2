//! The second server, while the line moves from one server to another.

use crate::error::CloseFrame;
use crate::message::Message;
use crate::testing::Line;
use crate::testing::turn::Role;
use crate::transport::pipe::End;

impl Line {
    /// Whether the line is moving to another connection: see [`Context::move_line`](crate::Context::move_line). Answer
    /// the attempt of the move like any other; then there are two servers.
    pub fn is_moving(&self) -> bool {
        self.is_dialling() && self.turn.session.current().is_some() || self.beside.is_open
    }

    /// Sends a message as the server that the line is moving to.
    #[track_caller]
    pub fn say_beside(&mut self, message: impl Into<Message>) {
        self.has_beside();
        self.say_at(Role::Beside, &message.into());
    }

    /// Returns the messages that the server that the line is moving to has received since the last call. After the
    /// move, [`heard`](Self::heard) returns them.
    pub fn heard_beside(&mut self) -> Vec<String> {
        self.beside.heard.drain(..).map(|message| message.to_string()).collect()
    }

    /// Closes the connection of the server that the line is moving to.
    #[track_caller]
    pub fn close_beside(&mut self, code: u16, reason: &str) {
        self.has_beside();
        self.beside.close(&CloseFrame::new(code, reason));
        self.beside.has_ended = true;
        self.settle();
    }

    /// Breaks the connection to the server that the line is moving to.
    #[track_caller]
    pub fn break_off_beside(&mut self) {
        self.has_beside();
        self.beside.hang_up(End::Eof);
        self.settle();
    }

    /// Sends a message as the server that the line has moved from. It can still send until it has answered the client's
    /// close frame: see [`answer_close`](Self::answer_close).
    ///
    /// # Panics
    /// If that connection has ended.
    #[track_caller]
    pub fn say_old(&mut self, message: impl Into<Message>) {
        assert!(
            self.old.is_open,
            "there is no old connection: the line has not moved, or the old server has answered its close frame; \
             call answer_close(false) before the move"
        );
        self.say_at(Role::Old, &message.into());
    }

    /// Returns the messages that the old server has received after a move.
    pub fn heard_old(&mut self) -> Vec<String> {
        self.old.heard.drain(..).map(|message| message.to_string()).collect()
    }

    #[track_caller]
    fn has_beside(&self) {
        assert!(
            self.beside.is_open,
            "no server stands beside the line's; the protocol asks for one with Context::move_line, and open() accepts"
        );
    }
}
