//! The server's end of a connection, in the hands of a script.

use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::panic::Location;
use std::time::{Duration, Instant};

use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::CloseFrame as WireCloseFrame;
use tungstenite::{Message as WireMessage, WebSocket};

use super::{Duplex, TIMEOUT};
use crate::config::deadline;
use crate::error::CloseFrame;
use crate::message::Message;
use crate::system::facts::SHUTDOWN_WAKES_READS;

/// The server's end of a WebSocket connection: what the script of a [`LoopbackServer`](super::LoopbackServer) gets.
///
/// Pings of the client are answered while the script is in [`recv`](Self::recv) or [`close`](Self::close), and not
/// meanwhile: a script that does something else for a long time is a server that does not respond.
#[must_use = "the connection ends when it is dropped"]
pub struct LoopbackConnection {
    socket: WebSocket<Box<dyn Duplex>>,
    tcp: TcpStream,
    number: usize,
    target: String,
    headers: Vec<(String, String)>,
    timeout: Duration,
    goodbye: Option<CloseFrame>,
    has_ended: bool,
}

impl LoopbackConnection {
    /// Makes the server's side of the opening handshake. `None` if the client did not make its own.
    pub(super) fn accept(
        stream: Box<dyn Duplex>,
        tcp: TcpStream,
        subprotocol: Option<&str>,
        number: impl FnOnce() -> usize,
    ) -> Option<Self> {
        let (mut target, mut headers) = (String::new(), Vec::new());
        #[expect(clippy::result_large_err, reason = "the signature of tungstenite's callback")]
        let look = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            target = request.uri().to_string();
            for (name, value) in request.headers() {
                headers.push((name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
            }
            if let Some(name) = subprotocol.filter(|name| offers(&headers, name))
                && let Ok(name) = HeaderValue::from_str(name)
            {
                response.headers_mut().insert("Sec-WebSocket-Protocol", name);
            }
            Ok(response)
        };
        // The client's limits are what is tested.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let socket = tungstenite::accept_hdr_with_config(stream, look, Some(config)).ok()?;
        let number = number();
        Some(Self { socket, tcp, number, target, headers, timeout: TIMEOUT, goodbye: None, has_ended: false })
    }

    /// Returns the number of this connection on its server, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Returns the path of the upgrade request, with its query.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns a header of the upgrade request, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Sets how long [`recv`](Self::recv) and [`close`](Self::close) wait. By default it is the server's
    /// [timeout](super::LoopbackServer::set_timeout).
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Waits for the client's next message. Returns `None` once the client has closed or lost the connection.
    ///
    /// ```
    /// use tautline::Client;
    /// use tautline::testing::LoopbackServer;
    ///
    /// let server = LoopbackServer::start(|mut connection| {
    ///     while let Some(message) = connection.recv() {
    ///         connection.send(format!("you said: {message}"));
    ///     }
    ///     assert_eq!(connection.goodbye().map(|frame| frame.code), Some(1000));
    /// })?;
    /// let client = Client::connect(server.url())?;
    /// client.send("hello")?;
    /// assert_eq!(client.recv()?.to_string(), "you said: hello");
    /// let _ = client.close();
    /// server.join();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If none has come within the [timeout](Self::set_timeout): the test that expects one fails instead of hanging.
    #[track_caller]
    pub fn recv(&mut self) -> Option<Message> {
        match self.next(self.timeout) {
            Next::Message(message) => Some(message),
            Next::End => None,
            Next::TimedOut => panic!(
                "connection {} of the loopback server got no message within {:?}; it waits at {}",
                self.number,
                self.timeout,
                Location::caller()
            ),
        }
    }

    /// Waits for a message, a close frame, or the end.
    fn next(&mut self, timeout: Duration) -> Next {
        let until = deadline(Instant::now(), timeout);
        while !self.has_ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::TimedOut;
            }
            let _ = self.tcp.set_read_timeout(Some(left.clamp(SHORTEST_READ, LONGEST_READ)));
            match self.socket.read() {
                Ok(WireMessage::Text(text)) => return Next::Message(text.as_str().into()),
                Ok(WireMessage::Binary(bytes)) => return Next::Message(bytes.to_vec().into()),
                Ok(WireMessage::Close(frame)) => {
                    let frame =
                        frame.map(|frame| CloseFrame::new(frame.code.into(), frame.reason.to_string()));
                    self.goodbye = Some(frame.unwrap_or_else(|| CloseFrame::new(1005, "")));
                    // The answer to it.
                    let _ = self.socket.flush();
                    self.end();
                }
                Ok(_) => {}
                Err(tungstenite::Error::Io(error))
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => self.end(),
            }
        }
        Next::End
    }

    /// Sends a message: text, bytes, or JSON. Blocks while the client does not read and the system's buffers are full,
    /// until the connection ends. Returns whether the connection was still open.
    pub fn send(&mut self, message: impl Into<Message>) -> bool {
        self.write(match message.into() {
            Message::Text(text) => WireMessage::text(&*text),
            Message::Binary(binary) => WireMessage::binary(binary.to_vec()),
        })
    }

    /// Sends a WebSocket ping. Returns whether the connection was still open.
    ///
    /// # Panics
    /// If the payload is longer than 125 bytes (RFC 6455, section 5.5).
    #[track_caller]
    pub fn ping(&mut self, payload: impl AsRef<[u8]>) -> bool {
        let payload = payload.as_ref();
        assert!(payload.len() <= 125, "a ping carries 125 bytes at most, not {}", payload.len());
        self.write(WireMessage::Ping(payload.to_vec().into()))
    }

    fn write(&mut self, message: WireMessage) -> bool {
        if !self.has_ended && self.socket.send(message).is_err() {
            self.end();
        }
        !self.has_ended
    }

    /// Closes the connection with this code, and waits for the client's close frame for the
    /// [timeout](Self::set_timeout). What the client sends before it is dropped. Then the connection has ended.
    ///
    /// # Panics
    /// If the code may not be sent (RFC 6455, section 7.4), or the reason is longer than 123 bytes.
    #[track_caller]
    pub fn close(&mut self, code: u16, reason: &str) {
        let frame =
            CloseFrame::checked(code, reason).unwrap_or_else(|error| panic!("no server says that: {error}"));
        let frame = WireCloseFrame { code: frame.code.into(), reason: (&*frame.reason).into() };
        if self.socket.close(Some(frame)).is_ok() && self.socket.flush().is_ok() {
            let until = deadline(Instant::now(), self.timeout);
            while let Next::Message(_) = self.next(until.saturating_duration_since(Instant::now())) {}
        }
        self.end();
    }

    /// Cuts the connection without a close frame, as does returning from the script.
    pub fn cut(self) {
        drop(self);
    }

    /// Answers every message with itself, until the client ends the connection. It waits without a limit.
    pub fn echo(mut self) {
        self.timeout = Duration::MAX;
        while let Some(message) = self.recv() {
            self.send(message);
        }
    }

    /// Returns the client's close frame, once it has come. One without a code has the code 1005.
    pub fn goodbye(&self) -> Option<&CloseFrame> {
        self.goodbye.as_ref()
    }

    fn end(&mut self) {
        self.has_ended = true;
        let _ = self.tcp.shutdown(Shutdown::Both);
    }
}

impl Drop for LoopbackConnection {
    fn drop(&mut self) {
        self.end();
    }
}

/// What every system allows as the timeout of a read, and how soon one notices that the server has cut the connection.
const SHORTEST_READ: Duration = Duration::from_millis(1);
const LONGEST_READ: Duration =
    if SHUTDOWN_WAKES_READS { Duration::from_secs(3600) } else { Duration::from_millis(200) };

enum Next {
    Message(Message),
    End,
    TimedOut,
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

fn offers(headers: &[(String, String)], subprotocol: &str) -> bool {
    header(headers, "Sec-WebSocket-Protocol")
        .is_some_and(|offered| offered.split(',').any(|name| name.trim() == subprotocol))
}
