//! What arrives: whole messages straight from the stream, and the rest by tungstenite.

use std::io::{ErrorKind, Read};
use std::sync::Arc;

use tungstenite::Message as Frame;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocketContext};

use super::{Incoming, LARGE, READ_BUFFER_AT_REST, READ_BUFFER_AT_WORK, Socket};
use crate::error::{CloseFrame, Error, Fault};
use crate::message::{Binary, Message, Text};
use crate::transport::frame;
use crate::transport::frame_scanner::{self, Violation};
use crate::transport::scanned::Ahead;
use crate::transport::wire::Raw;

/// How much is read and dropped after a violation, so that no reset overtakes the close code.
pub(super) const MOST_DRAINED_BYTES: usize = 1 << 20;

/// A message up to this size always gets its own memory.
const SMALL: usize = 1024;

impl<T: Raw> Socket<T> {
    /// The next thing that arrived, or `None` if everything has been read.
    #[inline]
    pub(crate) fn read(&mut self) -> Result<Option<Incoming>, Fault> {
        if self.draining.is_some() {
            return self.drain();
        }
        // A pong goes out before anything else is read, and so its bytes are counted in time.
        if !self.owes_pong {
            match self.stream.message() {
                Ahead::Message(message) => return Ok(Some(Incoming::Message(message))),
                Ahead::Nothing => {
                    self.rest();
                    return Ok(None);
                }
                Ahead::Other => {}
            }
        }
        self.read_by_context()
    }

    /// As [`read`](Self::read), with tungstenite for everything: the two must agree.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn read_slowly(&mut self) -> Result<Option<Incoming>, Fault> {
        if self.draining.is_some() { self.drain() } else { self.read_by_context() }
    }

    /// The next thing that arrived, by tungstenite.
    fn read_by_context(&mut self) -> Result<Option<Incoming>, Fault> {
        if self.config.read_buffer_size < READ_BUFFER_AT_WORK && self.stream.begins_message() {
            self.renew(READ_BUFFER_AT_WORK);
        }
        let handed = self.handed();
        let read = self.context.read(&mut self.stream);
        self.owed += self.handed() - handed;
        self.owes_pong = matches!(read, Ok(Frame::Ping(_)));
        match read {
            Ok(Frame::Text(text)) => {
                let owned = self.owns(text.len());
                let text = if owned { Text::copied(&text) } else { Text::new(text) };
                Ok(Some(Incoming::Message(Message::Text(text))))
            }
            Ok(Frame::Binary(bytes)) => {
                let owned = self.owns(bytes.len());
                let bytes = if owned { Binary::copied(&bytes) } else { Binary::new(bytes) };
                Ok(Some(Incoming::Message(Message::Binary(bytes))))
            }
            Ok(Frame::Ping(payload)) => Ok(Some(Incoming::Ping(payload))),
            Ok(Frame::Pong(payload)) => Ok(Some(Incoming::Pong(payload))),
            Ok(Frame::Close(frame)) => self.close_frame(frame).map(|frame| Some(Incoming::Close(frame))),
            // Only a raw frame to be written has this variant; a read never returns it.
            Ok(Frame::Frame(_)) => Ok(None),
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                self.rest();
                Ok(None)
            }
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Whether a message of this size is copied to its own memory. Otherwise it would keep the whole buffer alive that
    /// it was read into.
    fn owns(&mut self, size: usize) -> bool {
        self.swollen |= size >= LARGE;
        size <= SMALL || (self.swollen && size < LARGE)
    }

    /// Everything has been read: a large message's buffer is not kept.
    fn rest(&mut self) {
        if self.swollen {
            self.renew(READ_BUFFER_AT_WORK);
        }
    }

    /// Frees the large buffers once the line is quiet.
    pub(crate) fn shrink(&mut self) {
        self.renew(READ_BUFFER_AT_REST);
        self.batch.shrink_to_fit();
        self.deflater.iter_mut().for_each(|deflater| deflater.shrink());
        self.stream.shrink();
    }

    /// Replaces the context's buffers, which never shrink, if they are empty and nothing depends on the context's
    /// state.
    fn renew(&mut self, read_buffer: usize) {
        if self.stream.is_between_messages()
            && self.context.can_write()
            && self.context.flush(&mut self.stream).is_ok()
        {
            self.config = self.config.read_buffer_size(read_buffer);
            self.context = WebSocketContext::new(Role::Client, Some(self.config));
            self.swollen = false;
        }
    }

    /// The server's close frame, as it was sent.
    fn close_frame(&mut self, frame: Option<tungstenite::protocol::CloseFrame>) -> Result<CloseFrame, Fault> {
        // An empty close frame counts as 1005 (RFC 6455, section 7.1.5).
        let (Some(frame), Some((code, reason))) = (frame, self.stream.scanner.close()) else {
            return Ok(CloseFrame::new(1005, ""));
        };
        let sent = CloseFrame::new(code, String::from_utf8_lossy(reason));
        if code == u16::from(frame.code) {
            return Ok(sent);
        }
        if code == 1014 {
            self.answer_close(&sent);
            return Ok(sent);
        }
        let reason = format!("{}, {}", Self::named(code, reason), frame_scanner::misused(code)).into();
        self.draining = Some(MOST_DRAINED_BYTES);
        Err(Fault::Violation { code: 1002, reason })
    }

    /// Answers a close frame with its own code, instead of tungstenite.
    fn answer_close(&mut self, frame: &CloseFrame) {
        self.answered = true;
        // tungstenite's next read would write an answer of its own.
        self.draining = Some(MOST_DRAINED_BYTES);
        frame::append(&mut self.batch, 0x88, self.masks.next(), &frame.code.to_be_bytes());
        // A write to the link always succeeds. If TLS refuses it, the next read returns the error.
        let _ = self.pass_on();
    }

    /// Drops what still arrives after a violation. Once this side has ended its own stream, that is read below TLS: some
    /// libraries then read nothing any more, and what is not read becomes a reset, over which the peer loses the close code. Not
    /// inlined, because its buffer would add a page to the stack of every thread that reads.
    #[inline(never)]
    fn drain(&mut self) -> Result<Option<Incoming>, Fault> {
        self.stream.drop_input();
        let mut scratch = [0; 4096];
        while let Some(left) = self.draining {
            let half_closed = self.half_closed;
            let link = self.link();
            let read = if half_closed { link.wire_mut().read(&mut scratch) } else { link.read(&mut scratch) };
            match read {
                Ok(n) if n > 0 && left > n => self.draining = Some(left - n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Ok(_) | Err(_) => break,
            }
        }
        Err(Fault::Broken(Error::ConnectionLost { source: None }))
    }

    /// Every error but `WouldBlock` ends the connection: tungstenite's next read would continue after the offending
    /// frame.
    pub(super) fn fault(&mut self, error: tungstenite::Error) -> Fault {
        use tungstenite::Error as E;
        let (code, reason) = match error {
            E::ConnectionClosed
            | E::AlreadyClosed
            | E::Protocol(
                ProtocolError::ResetWithoutClosingHandshake
                | ProtocolError::ReceivedAfterClosing
                | ProtocolError::SendAfterClosing,
            ) => return Fault::Broken(Error::ConnectionLost { source: None }),
            E::Io(error) => match error.get_ref().and_then(|cause| cause.downcast_ref::<Violation>()) {
                Some(Violation { code, reason }) => (*code, reason.clone()),
                None => return Fault::Broken(Error::ConnectionLost { source: Some(Arc::new(error)) }),
            },
            E::Utf8(_) => (1007, self.not_utf8()),
            E::Protocol(error) => (1002, error.to_string().into()),
            other => return Fault::Broken(Error::ConnectionLost { source: Some(Arc::new(other)) }),
        };
        self.draining = Some(MOST_DRAINED_BYTES);
        Fault::Violation { code, reason }
    }

    /// Names what should have been UTF-8.
    fn not_utf8(&self) -> Box<str> {
        match self.stream.scanner.close() {
            Some((code, reason)) if std::str::from_utf8(reason).is_err() => {
                format!("{}, a reason that is not UTF-8", Self::named(code, reason)).into()
            }
            _ => "text that is not UTF-8".into(),
        }
    }

    /// Describes a close frame that violates the protocol. Here a 1005 was really sent, and does not stand for an empty
    /// frame.
    fn named(code: u16, reason: &[u8]) -> String {
        match reason {
            [] => format!("close code {code}"),
            _ => CloseFrame::new(code, String::from_utf8_lossy(reason)).to_string(),
        }
    }
}
