//! An open WebSocket: frames in and out, and the one place that knows tungstenite's errors.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::Registry;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Message as Frame, Utf8Bytes};

use crate::compression::Compression;
use crate::config::ConnectionConfig;
use crate::error::{CloseFrame, Error, Fault};
use crate::message::{Binary, Fragment, Message, Position, Text};
use crate::stats::Traffic;
use crate::transport::deflate::Deflater;
use crate::transport::frame::{self, Masks};
use crate::transport::frame_scanner::{self, Violation};
use crate::transport::link::Link;
use crate::transport::scanned::Scanned;
use crate::transport::stream::Stream;
use crate::transport::wire::{Poller, Raw};

pub(crate) struct Socket<T: Raw = Stream> {
    context: WebSocketContext,
    stream: Scanned<T>,
    config: WebSocketConfig,
    /// Frames on their way to the link. tungstenite writes only the pongs and close frames that it sends on its own.
    /// For a message it would need two allocations and one more copy, into a buffer that never shrinks.
    batch: Vec<u8>,
    masks: Masks,
    /// What compresses the messages, if that was agreed on.
    deflater: Option<Box<Deflater>>,
    /// Whether a large message has enlarged the read buffer.
    swollen: bool,
    /// Whether the last read found no whole frame, neither in the read buffer nor in the stream.
    emptied: bool,
    /// Set after a violation, when nothing is parsed any more: how many bytes may still be read and dropped.
    draining: Option<usize>,
    half_closed: bool,
    /// Whether we have answered the server's close frame ourselves. tungstenite's answer must not follow.
    answered: bool,
    /// Bytes of pongs queued since the system last took everything.
    owed: u64,
}

/// What a read brought.
#[derive(Debug)]
pub(crate) enum Incoming {
    Message(Message),
    /// The pong is queued, and goes out with the next flush.
    Ping(Bytes),
    Pong(Bytes),
    /// The answer is queued, and goes out with the next flush.
    Close(CloseFrame),
}

/// How much is read and dropped after a violation, so that no reset overtakes the close code.
const MOST_DRAINED_BYTES: usize = 1 << 20;

/// The bit of a message's first frame that says that it is compressed (RFC 7692, section 6).
const COMPRESSED: u8 = 0x40;

/// How many bytes of pongs may wait. A server that keeps pinging but takes no pongs is not read any further.
const MOST_OWED_BYTES: u64 = 64 << 10;

/// The read buffer of a quiet line, and of a line with traffic. A large buffer halves the speed of large messages, and
/// is zeroed at each read.
pub(super) const READ_BUFFER_AT_REST: usize = 4 << 10;
const READ_BUFFER_AT_WORK: usize = 16 << 10;

/// A batch of this size is handed to the link.
const BATCH: usize = 64 << 10;

/// A message of this size goes out without the batch, and enlarges tungstenite's buffer on its way in.
const LARGE: usize = 64 << 10;

/// A message up to this size always gets its own memory.
const SMALL: usize = 1024;

impl<T: Raw> Socket<T> {
    /// `rest` is what followed the answer to the upgrade, and `agreed` the compression that was agreed on.
    pub(crate) fn new(
        link: Link<T>,
        rest: Vec<u8>,
        config: &ConnectionConfig,
        agreed: Option<&Compression>,
    ) -> Self {
        let stream = Scanned::new(link, rest, config, agreed);
        // The scanner enforces the limits: tungstenite would apply them to control frames, too.
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_AT_REST)
            .max_message_size(None)
            .max_frame_size(None);
        Self {
            context: WebSocketContext::new(Role::Client, Some(config)),
            stream,
            config,
            batch: Vec::new(),
            masks: Masks::default(),
            deflater: agreed.map(|agreed| Box::new(Deflater::new(agreed))),
            swollen: false,
            emptied: false,
            draining: None,
            half_closed: false,
            answered: false,
            owed: 0,
        }
    }

    /// The next thing that arrived, or `None` if everything has been read.
    pub(crate) fn read(&mut self) -> Result<Option<Incoming>, Fault> {
        if self.draining.is_some() {
            return self.drain();
        }
        let handed = self.handed();
        self.emptied = false;
        let read = self.context.read(&mut self.stream);
        self.owed += self.handed() - handed;
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
                self.emptied = true;
                if self.swollen || (self.stream.filled && self.config.read_buffer_size < READ_BUFFER_AT_WORK)
                {
                    self.renew(READ_BUFFER_AT_WORK);
                }
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

    /// Frees the large buffers once the line is quiet.
    pub(crate) fn shrink(&mut self) {
        self.renew(READ_BUFFER_AT_REST);
        self.batch.shrink_to_fit();
        self.deflater.iter_mut().for_each(|deflater| deflater.shrink());
        self.stream.inflating.iter_mut().for_each(|inflating| inflating.shrink());
    }

    /// Replaces the context's buffers, which never shrink, if they are empty and nothing depends on the context's
    /// state.
    fn renew(&mut self, read_buffer: usize) {
        if self.emptied
            && self.stream.is_between_messages()
            && self.context.can_write()
            && self.context.flush(&mut self.stream).is_ok()
        {
            self.config = self.config.read_buffer_size(read_buffer);
            self.context = WebSocketContext::new(Role::Client, Some(self.config));
            self.swollen = false;
            self.stream.filled = false;
        }
    }

    /// Limits what is read until the next call to about `bytes`. tungstenite itself would read on until a message is
    /// whole, however long that takes.
    pub(crate) fn begin_burst(&mut self, bytes: usize) {
        self.stream.budget = bytes;
    }

    /// Whether the last read ended at the burst's limit, and not because everything was read.
    pub(crate) fn has_more(&self) -> bool {
        self.stream.budget == 0
    }

    /// Whether bytes wait that the system does not take now, or never will because a write failed. What the server sent
    /// before the failure can still be read, for as long as a write may stall.
    pub(crate) fn is_blocked(&self) -> bool {
        self.spilled() > 0 || self.stream.link.wire().is_broken()
    }

    /// Whether so many bytes of pongs wait for the system that nothing more should be read.
    pub(crate) fn owes_answers(&self) -> bool {
        self.owed > MOST_OWED_BYTES && self.spilled() > 0
    }

    /// Queues a message.
    pub(crate) fn write(&mut self, message: &Message) -> Result<(), Fault> {
        let first = if message.as_text().is_some() { 0x81 } else { 0x82 };
        let (payload, wanted) = (message.as_bytes(), message.may_be_compressed());
        self.put_deflated(first, payload, |deflater| deflater.whole(payload, wanted))
    }

    /// Queues a piece of a message (RFC 6455, section 5.4).
    pub(crate) fn write_fragment(&mut self, fragment: &Fragment) -> Result<(), Fault> {
        let first = match fragment.position {
            Position::First { text: true, .. } => 0x01,
            Position::First { text: false, .. } => 0x02,
            Position::Middle => 0x00,
            Position::Last => 0x80,
        };
        let Fragment { position, payload } = fragment;
        let wanted = payload.may_be_compressed();
        self.put_deflated(first, payload, |deflater| deflater.piece(*position, payload, wanted))
    }

    /// Queues a frame of a message: compressed, if that was agreed on and `deflate` makes something of the payload.
    fn put_deflated(
        &mut self,
        first: u8,
        payload: &[u8],
        deflate: impl FnOnce(&mut Deflater) -> Option<&[u8]>,
    ) -> Result<(), Fault> {
        // It is taken out because its output is put into the rest.
        let Some(mut deflater) = self.deflater.take() else { return self.put(first, payload) };
        let written = match deflate(&mut deflater) {
            // Only the first frame of a message has the bit.
            Some(made) if first & 0x0F != 0 => self.put(first | COMPRESSED, made),
            Some(made) => self.put(first, made),
            None => self.put(first, payload),
        };
        self.deflater = Some(deflater);
        written
    }

    /// Queues a ping.
    pub(crate) fn ping(&mut self, payload: [u8; 8]) -> Result<(), Fault> {
        self.put(0x89, &payload)
    }

    /// Queues a close frame; nothing can be written after it.
    pub(crate) fn close(&mut self, frame: &CloseFrame) -> Result<(), Fault> {
        let frame = tungstenite::protocol::CloseFrame {
            code: CloseCode::from(frame.code),
            reason: Utf8Bytes::from(&*frame.reason),
        };
        // A pong that waits goes first: tungstenite would send it after the close frame.
        let written = self
            .pass_on()
            .and_then(|()| self.context.flush(&mut self.stream))
            .and_then(|()| self.context.close(&mut self.stream, Some(frame)));
        match written {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Hands everything that is queued to the system, as far as the system takes it.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        let flushed = self.pass_on().and_then(|()| {
            if self.answered { Ok(self.stream.link.flush()?) } else { self.context.flush(&mut self.stream) }
        });
        if let Err(error) = flushed {
            return Err(self.fault(error));
        }
        if self.spilled() == 0 {
            self.owed = 0;
        }
        if self.draining.is_some() && !self.context.can_write() && self.spilled() == 0 && !self.half_closed {
            self.half_closed = true;
            self.link().half_close();
        }
        Ok(())
    }

    fn put(&mut self, first: u8, payload: &[u8]) -> Result<(), Fault> {
        // Nothing may follow a close frame, whichever side sent it.
        if !self.context.can_write() {
            return Err(Fault::Broken(Error::ConnectionLost { source: None }));
        }
        let written = if payload.len() >= LARGE {
            // Not the whole frame at once: that would be another copy of it in memory.
            self.pass_on().and_then(|()| {
                let Self { batch, masks, stream, .. } = self;
                frame::pieces(batch, first, masks.next(), payload, |piece| stream.link.write_all(piece))?;
                Ok(())
            })
        } else {
            frame::append(&mut self.batch, first, self.masks.next(), payload);
            if self.batch.len() < BATCH { Ok(()) } else { self.pass_on() }
        };
        written.map_err(|error| self.fault(error))
    }

    /// Hands the batch to the link.
    fn pass_on(&mut self) -> tungstenite::Result<()> {
        if !self.batch.is_empty() {
            self.stream.link.write_all(&self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }

    /// Bytes handed over so far, including those that the system has not taken.
    pub(crate) fn handed(&self) -> u64 {
        self.stream.link.wire().handed()
    }

    /// Bytes that the system has taken.
    pub(crate) fn taken(&self) -> u64 {
        self.stream.link.wire().taken()
    }

    /// Bytes that came from the system.
    pub(crate) fn received(&self) -> u64 {
        self.stream.link.wire().received()
    }

    /// How many bytes of messages were compressed so far.
    pub(crate) fn compressed(&self) -> u64 {
        self.deflater.as_ref().map_or(0, |deflater| deflater.seen())
    }

    /// What has gone over the socket.
    pub(crate) fn traffic(&self) -> Traffic {
        let sent = self.deflater.as_ref().map(|deflater| deflater.counts);
        let received = self.stream.inflating.as_ref().map(|inflating| inflating.counts());
        Traffic {
            written: self.taken(),
            read: self.received(),
            compressed_written: sent.unwrap_or_default(),
            compressed_read: received.unwrap_or_default(),
        }
    }

    /// How many bytes of messages have come so far, and whether the last message is incomplete. tungstenite may still hold
    /// some of them.
    pub(crate) fn messages_so_far(&self) -> (u64, bool) {
        (self.stream.scanner.message_bytes(), self.stream.scanner.is_inside_message())
    }

    /// How many bytes wait for the system to take them.
    pub(crate) fn spilled(&self) -> usize {
        self.stream.link.wire().spilled()
    }

    /// Whether the system would now take some of the waiting bytes.
    pub(crate) fn has_room(&self) -> bool {
        self.stream.link.wire().has_room()
    }

    /// Whether a read may return something without waiting.
    pub(crate) fn is_readable(&self) -> bool {
        self.stream.link.wire().is_readable()
    }

    /// Makes the next read ask the system, even if no wait has reported that there is something to read.
    pub(crate) fn assume_readable(&mut self) {
        self.link().wire_mut().assume_readable();
    }

    /// Takes the poller's place.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn wire_mut(&mut self) -> &mut crate::transport::wire::Wire<T> {
        self.link().wire_mut()
    }

    fn link(&mut self) -> &mut Link<T> {
        &mut self.stream.link
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
    fn fault(&mut self, error: tungstenite::Error) -> Fault {
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

impl Socket {
    /// Registers the socket with `poller` under its own number, from 1.
    pub(crate) fn register(&mut self, registry: &Registry, number: usize) -> io::Result<()> {
        self.link().wire_mut().register(registry, number)
    }

    /// Whether neither code of the application nor that of TLS or of compression runs when it is written to.
    pub(crate) fn is_plain(&self) -> bool {
        self.deflater.is_none() && matches!(&self.stream.link, Link::Plain(wire) if wire.is_tcp())
    }

    /// Prepares for a wait.
    pub(crate) fn arm(&mut self, poller: &Poller) -> io::Result<()> {
        self.link().wire_mut().arm(poller.registry())
    }

    /// Learns what that wait reported about this socket.
    pub(crate) fn hear(&mut self, poller: &Poller) {
        poller.tell(self.link().wire_mut());
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.link().wire_mut().deregister(registry)
    }

    /// Registers the socket with another poller, which reports at once what there is.
    pub(crate) fn move_to(&mut self, from: &Registry, to: &Registry) {
        self.link().wire_mut().move_to(from, to);
    }
}

#[cfg(test)]
mod tests;
