//! A loopback server with the behaviour that a test gives it: each connection goes to the test's own function.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module that several test crates include")]
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

pub mod faults;
pub mod hooks;
pub mod json;
pub mod reluctant;
pub mod watchdog;

use std::error::Error as StdError;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tautline::{Client, ConnectionConfig, DisconnectReason, Error, Event, ReconnectConfig, Tickets};
use tungstenite::WebSocket;

pub const MS: Duration = Duration::from_millis(1);

/// Long enough for any machine; a test that waits this long has failed.
pub const LONG: Duration = Duration::from_secs(20);

/// A server on a free port of the loopback interface. Dropping it ends it and every connection.
pub struct Server {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Calls `serve(n, stream)` on a thread of its own for the n-th connection, from 0.
    pub fn start(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), serve)
    }

    /// Like `start`, on a listener of the test's own.
    pub fn start_on(listener: TcpListener, serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Self {
        watchdog::watch();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(Vec::new()));
        let serve = Arc::new(serve);
        let (stop, streams) = (Arc::clone(&stopped), Arc::clone(&open));
        let acceptor = thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                let handle = stream.try_clone().unwrap();
                streams.lock().unwrap().push(stream.try_clone().unwrap());
                let serve = Arc::clone(&serve);
                thread::spawn(move || {
                    serve(n, stream);
                    // The list of open streams keeps the descriptor open, but the peer must see the end now.
                    let _ = handle.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, stopped, open, acceptor: Some(acceptor) }
    }

    /// Answers every message with itself, until the connection ends.
    pub fn echo() -> Self {
        Self::start(|_, stream| echo(accept(stream)))
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts every open connection. New ones are accepted.
    pub fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.acceptor.take().unwrap().join();
        self.cut();
    }
}

/// The server's side of the opening handshake.
pub fn accept(stream: TcpStream) -> WebSocket<TcpStream> {
    tungstenite::accept(stream).unwrap()
}

pub fn echo(mut socket: WebSocket<TcpStream>) {
    while let Ok(message) = socket.read() {
        if (message.is_text() || message.is_binary()) && socket.send(message).is_err() {
            return;
        }
    }
}

/// A server that echoes texts, and what it has heard so far.
pub fn parrot() -> (Server, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if let tungstenite::Message::Text(text) = message {
                all.lock().unwrap().push(text.to_string());
                let _ = socket.send(tungstenite::Message::Text(text));
            }
        }
    });
    (server, heard)
}

/// Reads until the connection ends, answering pings and closes.
pub fn listen(mut socket: WebSocket<TcpStream>) {
    while socket.read().is_ok() {}
}

/// Reads the upgrade request, and returns its head.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A valid answer to that request, with more header lines (each ended by CR LF).
pub fn good_answer(head: &str, more: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = tungstenite::handshake::derive_accept_key(key.trim().as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
}

/// Answers the upgrade with these bytes.
pub fn answer(text: &'static str) -> impl Fn(TcpStream) + Send + Sync {
    move |mut stream| {
        read_head(&mut stream);
        stream.write_all(text.as_bytes()).unwrap();
    }
}

/// Accepts the upgrade, and returns the raw stream for the test to use.
pub fn accept_raw(mut stream: TcpStream) -> TcpStream {
    let head = read_head(&mut stream);
    stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
    stream
}

/// The opcodes that [`read_frame`] returns.
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

/// The first byte of a pong in a single frame, for [`frame`].
pub const PONG: u8 = 0x8A;

/// Reads a client's next frame from a raw stream, unmasked: opcode and payload. `None` at the end of the stream.
pub fn read_frame(stream: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let length = match head[1] & 0x7F {
        126 => {
            let mut more = [0; 2];
            stream.read_exact(&mut more).ok()?;
            u64::from(u16::from_be_bytes(more))
        }
        127 => {
            let mut more = [0; 8];
            stream.read_exact(&mut more).ok()?;
            u64::from_be_bytes(more)
        }
        short => u64::from(short),
    };
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).ok()?;
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).ok()?;
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some((head[0] & 0x0F, payload))
}

/// Waits for `condition`, which something else makes true.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    watchdog::watch();
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < LONG, "waited in vain: {what}");
        thread::yield_now();
    }
}

/// An address that refuses connections while this value lives: its port is taken, and nobody listens there. A port that
/// was freed may belong to another test's server a moment later.
pub struct Nobody(Socket);

impl Nobody {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        Self(socket)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address())
    }

    /// Listens on the port from now on.
    pub fn listen(self) -> TcpListener {
        self.0.listen(128).unwrap();
        self.0.into()
    }
}

/// A server that serves one connection after the other and keeps no handle to them. When `serve` drops a stream it is
/// closed, or reset if bytes are unread. Drop the clients first.
pub struct BareServer {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl BareServer {
    /// Calls `serve(n, stream)` for the n-th connection, from 0.
    pub fn start(serve: impl Fn(usize, TcpStream) + Send + 'static) -> Self {
        watchdog::watch();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let thread = thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.unwrap();
                stream.set_nodelay(true).unwrap();
                serve(n, stream);
            }
        });
        Self { address, stopped, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

/// Waits until something has arrived on this stream, and leaves it unread, so that dropping the stream resets it.
pub fn await_unread(stream: &TcpStream) {
    assert!(stream.peek(&mut [0; 1]).unwrap() > 0, "the client ended the connection");
}

/// Whether a reset stands behind this error. Windows may call it an abort, and each system has its own words for it.
pub fn is_reset(error: &(dyn StdError + 'static)) -> bool {
    let mut chain = std::iter::successors(Some(error), |error| (*error).source());
    let kind = chain.find_map(|error| error.downcast_ref::<io::Error>().map(io::Error::kind));
    matches!(kind, Some(ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted))
}

/// A frame of a server: its first byte (FIN, reserved bits, opcode) and its payload.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(u8::try_from(short).unwrap()),
        middle @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// A server's close frame.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A client's frames up to its close frame or the end of the stream.
pub fn read_frames(stream: &mut TcpStream) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while frames.last().is_none_or(|(opcode, _)| *opcode != 8) {
        match read_frame(stream) {
            Some(frame) => frames.push(frame),
            None => break,
        }
    }
    frames
}

/// Reconnects after 1 to 10 ms.
pub fn config(url: &str) -> ConnectionConfig {
    watchdog::watch();
    ConnectionConfig::new(url).reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
}

/// Reconnects after ten milliseconds.
pub fn quick(url: &str) -> ConnectionConfig {
    watchdog::watch();
    let delay = 10 * MS;
    ConnectionConfig::new(url).reconnect(ReconnectConfig::default().initial_delay(delay).max_delay(delay))
}

/// The result of `confirm` for these messages, as text.
pub fn fate(client: &Client, tickets: impl Into<Tickets>) -> String {
    match client.confirm(tickets, LONG) {
        Ok(()) => "received".into(),
        Err(Error::Unconfirmed { maybe_delivered, never_sent, .. }) => {
            let named = [("maybe", maybe_delivered), ("never", never_sent)];
            let named = named.iter().filter(|(_, tickets)| !tickets.is_empty());
            named.map(|(kind, tickets)| format!("{kind} {tickets}")).collect::<Vec<_>>().join(", ")
        }
        Err(error) => panic!("{error:?}"),
    }
}

/// Takes events until `wanted` maps one to a value.
pub fn wait_for<T>(client: &Client, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    watchdog::watch();
    loop {
        let event = client.events().recv_timeout(LONG).expect("the awaited event never came");
        if let Some(found) = wanted(event) {
            return found;
        }
    }
}

/// For a loss, its reason and the delay of the retry.
pub fn disconnected(event: Event) -> Option<(DisconnectReason, Option<Duration>)> {
    match event {
        Event::Disconnected { reason, retry_in, .. } => Some((reason, retry_in)),
        _ => None,
    }
}

/// For a move, the messages that it left in doubt. Panics at a loss.
pub fn moved(event: Event) -> Option<Tickets> {
    match event {
        Event::Moved { maybe_delivered, .. } => Some(maybe_delivered),
        Event::Disconnected { reason, .. } => panic!("{reason}"),
        _ => None,
    }
}

/// The server's side of TLS, with a certificate for `localhost`.
#[cfg(feature = "native-tls")]
pub fn tls_acceptor() -> native_tls::TlsAcceptor {
    tls_acceptor_with(include_bytes!("../data/server.pem"))
}

/// The same, with another certificate for the same key.
#[cfg(feature = "native-tls")]
pub fn tls_acceptor_with(certificate: &[u8]) -> native_tls::TlsAcceptor {
    let identity = native_tls::Identity::from_pkcs8(certificate, include_bytes!("../data/server.key"));
    native_tls::TlsAcceptor::new(identity.unwrap()).unwrap()
}

/// The client's side of TLS, which trusts that server.
#[cfg(feature = "native-tls")]
pub fn tls_connector() -> native_tls::TlsConnector {
    let root = native_tls::Certificate::from_pem(include_bytes!("../data/ca.pem")).unwrap();
    native_tls::TlsConnector::builder().add_root_certificate(root).build().unwrap()
}

/// A configuration that trusts that server; it needs [`loopback`] as its resolver.
#[cfg(feature = "native-tls")]
pub fn over_tls(server: &Server) -> ConnectionConfig {
    let ca = tautline::Certificate::from_pem(include_bytes!("../data/ca.pem"));
    ConnectionConfig::new(server.url().replace("ws://127.0.0.1", "wss://localhost"))
        .tls(tautline::TlsConfig::default().root(ca))
}

/// Resolves every name to this machine.
#[expect(clippy::unnecessary_wraps, reason = "the signature of a resolver")]
pub fn loopback(_: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
    Ok(vec![([127, 0, 0, 1], port).into()])
}
