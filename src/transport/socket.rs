//! An open WebSocket: frames in and out, and the one place that knows tungstenite's errors.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use mio::Registry;
use mio::net::TcpStream;
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Bytes, Message as Frame, Utf8Bytes, WebSocket};

use crate::config::ConnectionConfig;
use crate::error::{CloseFrame, Error, Fault};
use crate::message::{Binary, Message, Text};
use crate::transport::stream::{Link, Poller, Raw};
use crate::transport::tap::Tap;

pub(crate) struct Socket<T: Raw = TcpStream> {
    ws: WebSocket<Tapped<T>>,
    /// After a violation nothing is parsed any more: what still arrives is dropped, up to a bound.
    draining: Option<usize>,
    half_closed: bool,
    /// The server's close frame was answered by ourselves: tungstenite's answer must not follow.
    answered: bool,
    /// Bytes of answers to pings since all was last taken by the system.
    owed: u64,
}

/// What tungstenite reads and writes: the link, with an eye on close frames.
struct Tapped<T: Raw> {
    link: Link<T>,
    tap: Tap,
    /// How much may still be read in this burst.
    budget: usize,
}

/// What a read brought.
#[derive(Debug)]
pub(crate) enum Incoming {
    Message(Message),
    /// Its pong is queued, and goes out with the next flush.
    Ping,
    Pong(Bytes),
    /// Its answer is queued, and goes out with the next flush.
    Close(CloseFrame),
}

/// How much is read and dropped after a violation, for a reset not to overtake the close code.
const DRAINED: usize = 1 << 20;

/// So many bytes of answers may wait; a server that pings on and takes none is not heard further.
const OWED: u64 = 64 << 10;

/// A message up to this size gets memory of its own: it would keep alive the whole buffer that it was read into.
const SMALL: usize = 1024;

impl<T: Raw> Socket<T> {
    /// `rest` came behind the answer to the upgrade.
    pub(crate) fn new(link: Link<T>, rest: Vec<u8>, config: &ConnectionConfig) -> Self {
        let config = WebSocketConfig::default()
            // Zeroed at each read: larger ones cost time, smaller ones halve the speed of large messages.
            .read_buffer_size(16 << 10)
            .max_message_size(Some(config.max_message_size))
            // A frame that no message may have is refused by its header, before its payload takes memory.
            .max_frame_size(Some(config.max_frame_size.min(config.max_message_size)));
        let mut tap = Tap::default();
        tap.feed(&rest);
        let ws = WebSocket::from_partially_read(
            Tapped { link, tap, budget: usize::MAX },
            rest,
            Role::Client,
            Some(config),
        );
        Self { ws, draining: None, half_closed: false, answered: false, owed: 0 }
    }

    /// The next thing that arrived, or `None` when all was read.
    pub(crate) fn read(&mut self) -> Result<Option<Incoming>, Fault> {
        if self.draining.is_some() {
            return self.drain();
        }
        let handed = self.handed();
        let read = self.ws.read();
        self.owed += self.handed() - handed;
        match read {
            Ok(Frame::Text(text)) => Ok(Some(Incoming::Message(Message::Text(own_text(text))))),
            Ok(Frame::Binary(bytes)) => Ok(Some(Incoming::Message(Message::Binary(own_bytes(bytes))))),
            Ok(Frame::Ping(_)) => Ok(Some(Incoming::Ping)),
            Ok(Frame::Pong(payload)) => Ok(Some(Incoming::Pong(payload))),
            Ok(Frame::Close(frame)) => self.close_frame(frame).map(|frame| Some(Incoming::Close(frame))),
            // Only a raw frame that somebody wrote is one; a read never is.
            Ok(Frame::Frame(_)) => Ok(None),
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Limits what is read until the next call to about `bytes`: tungstenite itself reads on until a message is whole,
    /// however long that takes.
    pub(crate) fn begin_burst(&mut self, bytes: usize) {
        self.ws.get_mut().budget = bytes;
    }

    /// Whether the last read ended for the burst's limit, and not because all was read.
    pub(crate) fn has_more(&self) -> bool {
        self.ws.get_ref().budget == 0
    }

    /// Whether bytes wait that the system does not take, or never will. What the server said before a write failed is
    /// there to be read, for as long as a write may stall.
    pub(crate) fn is_blocked(&self) -> bool {
        self.spilled() > 0 || self.ws.get_ref().link.wire().is_broken()
    }

    /// Whether so many answers to pings wait for the system to take them that nothing more should be read.
    pub(crate) fn owes_answers(&self) -> bool {
        self.owed > OWED && self.spilled() > 0
    }

    /// Queues a message.
    pub(crate) fn write(&mut self, message: Message) -> Result<(), Fault> {
        self.put(match message {
            Message::Text(text) => Frame::Text(text.into_inner()),
            Message::Binary(binary) => Frame::Binary(binary.into_inner()),
        })
    }

    /// Queues a ping.
    pub(crate) fn ping(&mut self, payload: [u8; 8]) -> Result<(), Fault> {
        self.put(Frame::Ping(Bytes::copy_from_slice(&payload)))
    }

    /// Queues a close frame; nothing can be written after it.
    pub(crate) fn close(&mut self, frame: &CloseFrame) -> Result<(), Fault> {
        let frame = tungstenite::protocol::CloseFrame {
            code: CloseCode::from(frame.code),
            reason: Utf8Bytes::from(&*frame.reason),
        };
        match self.ws.close(Some(frame)) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Hands all that is queued to the system, as far as it takes it.
    pub(crate) fn flush(&mut self) -> Result<(), Fault> {
        let flushed = if self.answered { self.link().flush().map_err(Into::into) } else { self.ws.flush() };
        if let Err(error) = flushed {
            return Err(self.fault(error));
        }
        if self.spilled() == 0 {
            self.owed = 0;
        }
        if self.draining.is_some() && !self.ws.can_write() && self.spilled() == 0 && !self.half_closed {
            self.half_closed = true;
            self.link().half_close();
        }
        Ok(())
    }

    fn put(&mut self, message: Frame) -> Result<(), Fault> {
        // After a close frame, either side's, tungstenite would take the message and lose it.
        if !self.ws.can_write() {
            return Err(Fault::Broken(Error::ConnectionLost { source: None }));
        }
        match self.ws.write(message) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fault(error)),
        }
    }

    /// Bytes handed over so far, those included that the system has not taken.
    pub(crate) fn handed(&self) -> u64 {
        self.ws.get_ref().link.wire().handed()
    }

    /// Bytes that the system has taken.
    pub(crate) fn taken(&self) -> u64 {
        self.ws.get_ref().link.wire().taken()
    }

    /// Bytes that came from the system.
    pub(crate) fn received(&self) -> u64 {
        self.ws.get_ref().link.wire().received()
    }

    /// How many bytes wait for the system to take them.
    pub(crate) fn spilled(&self) -> usize {
        self.ws.get_ref().link.wire().spilled()
    }

    /// Whether a read may bring something without a wait.
    pub(crate) fn is_readable(&self) -> bool {
        self.ws.get_ref().link.wire().is_readable()
    }

    fn link(&mut self) -> &mut Link<T> {
        &mut self.ws.get_mut().link
    }

    /// The server's close frame, as the server sent it.
    fn close_frame(&mut self, frame: Option<tungstenite::protocol::CloseFrame>) -> Result<CloseFrame, Fault> {
        // An empty close frame counts as 1005 (RFC 6455, section 7.1.5).
        let Some(frame) = frame else { return Ok(CloseFrame::new(1005, "")) };
        let sent = self.ws.get_ref().tap.close();
        let sent = sent.map(|(code, reason)| (code, String::from_utf8_lossy(reason).into_owned()));
        let reported = u16::from(frame.code);
        match sent {
            Some((code, _)) if code == reported => Ok(CloseFrame::new(code, frame.reason.as_str())),
            Some((1014, reason)) => {
                let frame = CloseFrame::new(1014, reason);
                self.answer_close(&frame);
                Ok(frame)
            }
            Some((code, _)) => {
                self.draining = Some(DRAINED);
                Err(Fault::Violation {
                    code: 1002,
                    reason: format!("close code {code}, which nobody may send").into(),
                })
            }
            None => Ok(CloseFrame::new(reported, frame.reason.as_str())),
        }
    }

    /// Answers a close frame with its code, in place of tungstenite.
    fn answer_close(&mut self, frame: &CloseFrame) {
        self.answered = true;
        let mask = fastrand::u32(..).to_be_bytes();
        let mut bytes = vec![0x88, 0x82];
        bytes.extend(mask);
        bytes.extend(frame.code.to_be_bytes().iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        // A write to the link always succeeds; one that TLS refuses shows at the next read.
        let _ = self.link().write_all(&bytes);
    }

    fn drain(&mut self) -> Result<Option<Incoming>, Fault> {
        let mut scratch = [0; 4096];
        while let Some(left) = self.draining {
            match self.link().read(&mut scratch) {
                Ok(n) if n > 0 && left > n => self.draining = Some(left - n),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Ok(_) | Err(_) => break,
            }
        }
        Err(Fault::Broken(Error::ConnectionLost { source: None }))
    }

    /// Every error but `WouldBlock` ends the connection: tungstenite's next read would go on behind the offending frame.
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
            E::Io(error) => return Fault::Broken(Error::ConnectionLost { source: Some(Arc::new(error)) }),
            E::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
                (1009, format!("a message of at least {size} bytes, where {max_size} are allowed"))
            }
            E::Utf8(_) => (1007, "text that is not UTF-8".into()),
            E::Protocol(error) => (1002, error.to_string()),
            other => return Fault::Broken(Error::ConnectionLost { source: Some(Arc::new(other)) }),
        };
        self.draining = Some(DRAINED);
        Fault::Violation { code, reason: reason.into() }
    }
}

impl Socket {
    /// Moves the socket under `poller`'s wait.
    pub(crate) fn register(&mut self, registry: &Registry) -> std::io::Result<()> {
        self.link().wire_mut().register(registry)
    }

    pub(crate) fn deregister(&mut self, registry: &Registry) -> std::io::Result<()> {
        self.link().wire_mut().deregister(registry)
    }

    /// Blocks until there is something to read, room to write, a wake-up, or `timeout`: the heartbeat's tick. Everything
    /// must have been read before, since TLS and tungstenite may hold what no descriptor shows.
    pub(crate) fn read_until(
        &mut self,
        poller: &mut Poller,
        timeout: Option<Duration>,
    ) -> std::io::Result<()> {
        let wire = self.link().wire_mut();
        wire.arm(poller.registry())?;
        poller.wait(Some(wire), timeout)
    }
}

fn own_text(text: Utf8Bytes) -> Text {
    Text::new(if text.len() <= SMALL { text.as_str().into() } else { text })
}

fn own_bytes(bytes: Bytes) -> Binary {
    Binary::new(if bytes.len() <= SMALL { Bytes::copy_from_slice(&bytes) } else { bytes })
}

impl<T: Raw> Read for Tapped<T> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.budget == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = self.link.read(buffer)?;
        self.budget = self.budget.saturating_sub(n);
        self.tap.feed(&buffer[..n]);
        Ok(n)
    }
}

impl<T: Raw> Write for Tapped<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.link.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.link.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::fake::Fake;
    use crate::transport::stream::Wire;

    fn socket(fake: &Fake, config: &ConnectionConfig) -> Socket<Fake> {
        Socket::new(Link::Plain(Wire::new(fake.clone())), Vec::new(), config)
    }

    fn config() -> ConnectionConfig {
        ConnectionConfig::new("ws://h").max_message_size(100)
    }

    fn violation(bytes: &[u8]) -> (u16, Box<str>) {
        let fake = Fake::with_room(1000);
        fake.feed(bytes);
        match socket(&fake, &config()).read() {
            Err(Fault::Violation { code, reason }) => (code, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_violation_has_its_close_code() {
        assert_eq!(violation(&[0xC1, 1, b'A']).0, 1002, "reserved bit");
        assert_eq!(violation(&[0x83, 0]).0, 1002, "unknown opcode");
        assert_eq!(violation(&[0x81, 0x81, 1, 2, 3, 4, 5]).0, 1002, "masked");
        assert_eq!(violation(&[0x09, 0]).0, 1002, "fragmented ping");
        assert_eq!(violation(&[0x88, 1, 3]).0, 1002, "a close frame with half a code");
        assert_eq!(violation(&[0x81, 2, 0xC3, 0x28]).0, 1007, "bad UTF-8");
        let (code, reason) = violation(&[0x82, 101]);
        assert_eq!((code, &*reason), (1009, "a message of at least 101 bytes, where 100 are allowed"));
    }

    #[test]
    fn close_codes_are_told_as_they_were_sent() {
        let close = |code: u16| {
            let fake = Fake::with_room(1000);
            fake.feed([0x88, 5, code.to_be_bytes()[0], code.to_be_bytes()[1], b'b', b'y', b'e']);
            let mut socket = socket(&fake, &config());
            let read = socket.read();
            socket.close(&CloseFrame::new(1002, "")).unwrap();
            socket.flush().unwrap();
            let written = fake.0.lock().unwrap().written.clone();
            let answer = u16::from_be_bytes([written[6] ^ written[2], written[7] ^ written[3]]);
            (read, answer)
        };
        for code in [1000, 1001, 1013, 1014, 3000, 4999] {
            let (Ok(Some(Incoming::Close(frame))), answer) = close(code) else { panic!("{code}") };
            assert_eq!((frame.code, &*frame.reason, answer), (code, "bye", code));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            let (Err(Fault::Violation { code: 1002, reason }), answer) = close(code) else {
                panic!("{code}")
            };
            assert!(reason.contains(&code.to_string()), "{reason}");
            assert_eq!(answer, 1002);
        }
    }

    #[test]
    fn after_a_violation_the_close_frame_goes_out_and_the_rest_is_dropped() {
        let fake = Fake::with_room(1000);
        fake.feed([0xC1, 1, b'A', 0x81, 1, b'B']);
        let mut socket = socket(&fake, &config());
        assert!(matches!(socket.read(), Err(Fault::Violation { .. })));
        socket.close(&CloseFrame::new(1002, "")).unwrap();
        socket.flush().unwrap();
        assert!(fake.0.lock().unwrap().half_closed);
        assert_eq!(fake.0.lock().unwrap().written[0], 0x88);
        fake.feed([0x81, 1, b'C']);
        socket.link().wire_mut().edge();
        assert!(matches!(socket.read(), Ok(None)), "not parsed any more");
        fake.feed([]);
        socket.link().wire_mut().edge();
        assert!(matches!(socket.read(), Err(Fault::Broken(Error::ConnectionLost { source: None }))));
    }

    #[test]
    fn a_peer_that_floods_after_its_violation_is_left() {
        let fake = Fake::with_room(1000);
        fake.feed([0xC1, 1, b'A']);
        let mut socket = socket(&fake, &config());
        assert!(socket.read().is_err());
        for _ in 0..DRAINED / 4096 {
            fake.feed(vec![0; 4096]);
        }
        socket.link().wire_mut().edge();
        assert!(matches!(socket.read(), Err(Fault::Broken(_))));
    }

    #[test]
    fn a_small_message_owns_its_memory() {
        let fake = Fake::with_room(1000);
        fake.feed([0x81, 1, b'A', 0x82, 1, 7]);
        let mut socket = socket(&fake, &config());
        let mut next = || match socket.read() {
            Ok(Some(Incoming::Message(message))) => message,
            other => panic!("{other:?}"),
        };
        let (text, binary) = (next(), next());
        assert_eq!((text.as_text(), binary.as_bytes()), (Some("A"), &[7][..]));
        let distance = text.as_bytes().as_ptr().addr().abs_diff(binary.as_bytes().as_ptr().addr());
        assert_ne!(distance, 3, "still side by side in the read buffer");
    }

    #[test]
    fn the_end_of_the_stream_is_a_loss_and_not_a_violation() {
        let fake = Fake::with_room(1000);
        fake.feed([]);
        assert!(matches!(
            socket(&fake, &config()).read(),
            Err(Fault::Broken(Error::ConnectionLost { source: None }))
        ));
    }

    #[test]
    fn a_ping_is_answered_with_its_payload() {
        let fake = Fake::with_room(1000);
        fake.feed([0x89, 2, b'h', b'i']);
        let mut socket = socket(&fake, &config());
        assert!(matches!(socket.read(), Ok(Some(Incoming::Ping))));
        socket.flush().unwrap();
        let written = fake.0.lock().unwrap().written.clone();
        let unmasked: Vec<u8> =
            written[6..].iter().zip(&written[2..6]).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!((&written[..2], &unmasked[..]), (&[0x8A, 0x82][..], &b"hi"[..]));
    }
}
