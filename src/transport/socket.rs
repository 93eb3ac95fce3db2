//! An open WebSocket: frames in and out, and the one place that knows tungstenite's errors.

use std::io::{self, Write};

use mio::Registry;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Utf8Bytes};

use crate::compression::Compression;
use crate::config::ConnectionConfig;
use crate::error::{CloseFrame, Error, Fault};
use crate::message::{Fragment, Message, Position};
use crate::stats::Traffic;
use crate::transport::deflate::Deflater;
use crate::transport::frame::{self, Masks};
use crate::transport::link::Link;
use crate::transport::scanned::Scanned;
use crate::transport::stream::Stream;
use crate::transport::wire::{Poller, Raw};

/// How an open WebSocket is read stands in `socket/reading.rs`.
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
    /// Whether a pong may wait in the context, which writes it at its next read.
    owes_pong: bool,
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

/// The bit of a message's first frame that says that it is compressed (RFC 7692, section 6).
const COMPRESSED: u8 = 0x40;

/// How many bytes of pongs may wait. A server that keeps pinging but takes no pongs is not read any further.
const MOST_OWED_BYTES: u64 = 64 << 10;

/// The context's read buffer on a quiet line, and for messages that the context reads. A large buffer halves the speed of
/// large messages, and is zeroed at each read.
const READ_BUFFER_AT_REST: usize = 256;
const READ_BUFFER_AT_WORK: usize = 16 << 10;

/// A batch of this size is handed to the link.
const BATCH: usize = 64 << 10;

/// A message of this size goes out without the batch, and enlarges tungstenite's buffer on its way in.
const LARGE: usize = 64 << 10;

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
            owes_pong: false,
            draining: None,
            half_closed: false,
            answered: false,
            owed: 0,
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

mod reading;
#[cfg(test)]
mod tests;
