//! What the server says and hears, and what the network does.

use serde_json::Value;

use crate::error::CloseFrame;
use crate::message::Message;
use crate::testing::Line;
use crate::testing::turn::Role;
use crate::transport::pipe::End;

/// The most that a ping or a pong carries (RFC 6455, section 5.5).
const CONTROL: usize = 125;

impl Line {
    /// Sends a message as the server: text, bytes, or JSON.
    #[track_caller]
    pub fn say(&mut self, message: impl Into<Message>) {
        self.connected();
        self.say_at(Role::Line, &message.into());
    }

    #[track_caller]
    pub(super) fn say_at(&mut self, role: Role, message: &Message) {
        let first = if message.as_text().is_some() { 0x81 } else { 0x82 };
        self.at(role).say(first, message.as_bytes());
        self.settle();
    }

    /// Sends a WebSocket ping as the server. The answer appears in [`pongs`](Self::pongs).
    #[track_caller]
    pub fn ping(&mut self, payload: impl AsRef<[u8]>) {
        let payload = self.control(payload.as_ref());
        self.server.say(0x89, &payload);
        self.settle();
    }

    /// Sends a WebSocket pong as the server, such as the answer to one of [`pings`](Self::pings).
    #[track_caller]
    pub fn pong(&mut self, payload: impl AsRef<[u8]>) {
        let payload = self.control(payload.as_ref());
        self.server.say(0x8A, &payload);
        self.settle();
    }

    #[track_caller]
    fn control(&self, payload: &[u8]) -> Vec<u8> {
        self.connected();
        assert!(
            payload.len() <= CONTROL,
            "a ping or a pong carries {CONTROL} bytes at most, not {}",
            payload.len()
        );
        payload.to_vec()
    }

    /// Returns the messages that the server has received since the last call, as they are displayed: a binary message
    /// as its length. It includes messages received on a connection that has ended since.
    pub fn heard(&mut self) -> Vec<String> {
        self.server.heard.drain(..).map(|message| message.to_string()).collect()
    }

    /// Like [`heard`](Self::heard), as JSON.
    ///
    /// # Panics
    /// If a message is not JSON.
    #[track_caller]
    pub fn heard_json(&mut self) -> Vec<Value> {
        let read = |message: Message| match message.json() {
            Ok(value) => value,
            Err(error) => panic!("the server heard {message}, which is no JSON: {error}"),
        };
        self.server.heard.drain(..).map(read).collect()
    }

    /// Like [`heard`](Self::heard), as messages, for a protocol that sends binary ones.
    pub fn heard_messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.server.heard)
    }

    /// Returns the payloads of the WebSocket pings that the server has received since the last call.
    pub fn pings(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.server.pings)
    }

    /// Returns the payloads of the WebSocket pongs that the server has received since the last call.
    pub fn pongs(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.server.pongs)
    }

    /// Returns the close frame that the server received on this connection, or on the last one.
    pub fn goodbye(&self) -> Option<&CloseFrame> {
        self.server.goodbye.as_ref()
    }

    /// Sets whether the server answers WebSocket pings at once. By default it does.
    pub fn answer_pings(&mut self, answers: bool) {
        self.answers_pings = answers;
    }

    /// Sets whether the server answers a close frame at once. By default it does.
    pub fn answer_close(&mut self, answers: bool) {
        self.answers_close = answers;
    }

    /// Closes the connection as the server with this code. The server ends the connection when the client has answered.
    ///
    /// # Panics
    /// If the code may not be sent (RFC 6455, section 7.4), or the reason is longer than 123 bytes.
    #[track_caller]
    pub fn close(&mut self, code: u16, reason: &str) {
        self.connected();
        let frame =
            CloseFrame::checked(code, reason).unwrap_or_else(|error| panic!("no server says that: {error}"));
        self.server.has_ended = true;
        self.server.close(&frame);
        if self.server.goodbye.is_some() {
            self.server.hang_up(End::Eof);
        }
        self.settle();
    }

    /// Breaks the connection.
    #[track_caller]
    pub fn break_off(&mut self) {
        self.connected();
        self.server.hang_up(End::Eof);
        self.settle();
    }

    /// Breaks the connection when the server has received this many more bytes from the client. Count frames as they
    /// are on the wire: a text of up to 125 bytes takes six bytes more than its length. While an attempt is under way,
    /// this applies to the connection that it opens.
    ///
    /// Messages that are written together share their fate, as on a real connection. If the server received a byte of
    /// the first, each may have been delivered. If it received none, none was written.
    #[track_caller]
    pub fn break_after(&mut self, bytes: u64) {
        self.connected_or_dialling();
        self.server.breaks_after = Some(usize::try_from(bytes).unwrap_or(usize::MAX));
        self.settle();
    }

    /// Makes the server accept no more bytes; it can still send. While an attempt is under way, this applies to the
    /// connection that it opens.
    #[track_caller]
    pub fn stall(&mut self) {
        self.connected_or_dialling();
        self.server.stalled = true;
    }

    /// Makes the server accept bytes again.
    #[track_caller]
    pub fn resume(&mut self) {
        self.server.stalled = false;
        self.settle();
    }

    #[track_caller]
    fn connected(&self) {
        let state = self.state();
        assert!(
            self.server.is_open && !self.server.has_ended,
            "there is no connection that the server has not ended: the line is {state}; open() the attempt, or step() to the \
             next one, unless the client is closed"
        );
    }

    #[track_caller]
    fn connected_or_dialling(&self) {
        if !self.is_dialling() {
            self.connected();
        }
    }
}
