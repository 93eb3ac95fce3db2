//! The server for all measurements, in its own process: the program starts itself with `--server`. It handles raw
//! frames in large buffers on blocking threads, so that the server is never the bottleneck.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use native_tls::{Identity, TlsAcceptor};
use tungstenite::handshake::derive_accept_key;

/// The caller's handle to the server process, which ends when this is dropped.
pub struct Server {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    plain: u16,
    tls: u16,
}

impl Server {
    pub fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, orders, answers, plain: 0, tls: 0 };
        let ports = server.answer();
        let (plain, tls) = ports.trim().split_once(' ').unwrap();
        server.plain = plain.parse().unwrap();
        server.tls = tls.parse().unwrap();
        server
    }

    pub fn port(&self, secure: bool) -> u16 {
        if secure { self.tls } else { self.plain }
    }

    /// The rooms are those of [`Room`].
    pub fn url(&self, secure: bool, room: &str) -> String {
        let (scheme, host) = if secure { ("wss", "localhost") } else { ("ws", "127.0.0.1") };
        format!("{scheme}://{host}:{}/{room}", self.port(secure))
    }

    /// Cuts every plain connection.
    pub fn cut(&mut self) {
        self.order("cut");
    }

    /// Cuts every plain connection, and refuses new ones.
    pub fn go_down(&mut self) {
        self.order("down");
    }

    /// Accepts plain connections again, at the same port.
    pub fn come_up(&mut self) {
        self.order("up");
    }

    fn order(&mut self, order: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        self.answer();
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        assert!(self.answers.read_line(&mut line).unwrap() > 0, "the server has died");
        line
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// Runs the server if this process was started as one, and then never returns. Every program calls it first.
pub fn serve_if_asked() {
    if std::env::args().nth(1).as_deref() == Some("--server") {
        run();
        std::process::exit(0);
    }
}

/// What the server does with a client's messages, by the path of the URL.
#[derive(Clone, Copy)]
enum Room {
    /// Each message is sent back.
    Echo,
    /// Binary messages are counted. A text is answered with the count.
    Sink,
    /// A text with two numbers is answered with that many messages of that size.
    Flood,
    /// A text is answered with the arrival times of all pings, in microseconds since the first.
    Beats,
    /// A binary message is kept, for all connections. A text is answered with that: whole frames, written as they are.
    Replay,
    /// Nothing is ever answered, pings and closes included.
    Mute,
}

/// What the room `replay` writes.
static KEPT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Runs the server until its standard input ends.
fn run() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut door = Door::open(any);
    let identity = Identity::from_pkcs8(
        include_bytes!("../../tests/data/server.pem"),
        include_bytes!("../../tests/data/server.key"),
    );
    let acceptor = TlsAcceptor::new(identity.unwrap()).unwrap();
    let listener = TcpListener::bind(any).unwrap();
    println!("{} {}", door.address.port(), listener.local_addr().unwrap().port());
    spawn(move || {
        for stream in listener.incoming().flatten() {
            let acceptor = acceptor.clone();
            spawn(move || {
                let _ = stream.set_nodelay(true);
                if let Ok(mut stream) = acceptor.accept(stream) {
                    let _ = serve(&mut stream);
                }
            });
        }
    });
    for order in io::stdin().lines().map_while(Result::ok) {
        match order.as_str() {
            "cut" => door.cut(),
            "down" => door.close(),
            "up" => door = Door::open(door.address),
            other => panic!("an order that nobody knows: {other}"),
        }
        println!("done");
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name("server".into()).stack_size(256 << 10).spawn(work).unwrap()
}

/// The port for plain connections.
struct Door {
    address: SocketAddr,
    closed: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<Weak<TcpStream>>>>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    fn open(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let closed = Arc::new(AtomicBool::new(false));
        let open = Arc::new(Mutex::new(Vec::new()));
        let (stop, streams) = (Arc::clone(&closed), Arc::clone(&open));
        let thread = spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let _ = stream.set_nodelay(true);
                let stream = Arc::new(stream);
                let mut streams = streams.lock().unwrap();
                streams.retain(|stream: &Weak<TcpStream>| stream.strong_count() > 0);
                streams.push(Arc::downgrade(&stream));
                spawn(move || drop(serve(&mut &*stream)));
            }
        });
        Self { address, closed, open, thread: Some(thread) }
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..).filter_map(|stream| stream.upgrade()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn close(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        self.cut();
    }
}

/// Serves one connection until it ends.
fn serve(stream: &mut (impl Read + Write)) -> io::Result<()> {
    let room = upgrade(stream)?;
    let mut input = Input::new();
    let mut output = Vec::new();
    let mut count = 0_u64;
    let mut pings = Vec::new();
    loop {
        while let Some(head) = input.head() {
            if matches!((room, head.opcode), (Room::Sink | Room::Mute, 2)) {
                count += 1;
                input.skip(stream, &head)?;
                continue;
            }
            let Some(payload) = input.payload(&head) else { break };
            match (room, head.opcode) {
                (Room::Mute, _) | (_, 10) => {}
                (_, 8) => {
                    frame(&mut output, 0x88, payload);
                    return stream.write_all(&output);
                }
                (_, 9) => {
                    pings.push(Instant::now());
                    frame(&mut output, 0x8A, payload);
                }
                (Room::Echo, opcode) => frame(&mut output, 0x80 | opcode, payload),
                (Room::Flood, _) => flood(stream, payload)?,
                (Room::Replay, opcode) => {
                    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
                    if opcode == 2 {
                        *kept = payload.to_vec();
                    } else {
                        stream.write_all(&kept)?;
                    }
                }
                (Room::Beats, _) => {
                    let times = pings.iter().map(|ping| (*ping - pings[0]).as_micros().to_string());
                    frame(&mut output, 0x81, times.collect::<Vec<_>>().join(" ").as_bytes());
                }
                (Room::Sink, _) => frame(&mut output, 0x81, count.to_string().as_bytes()),
            }
        }
        stream.write_all(&output)?;
        output.clear();
        if !input.fill(stream)? {
            return Ok(());
        }
    }
}

/// Accepts compression where it is offered, though the server neither inflates nor deflates: the rooms that are made for that
/// look at no payload.
fn upgrade(stream: &mut (impl Read + Write)) -> io::Result<Room> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
    });
    let accept = derive_accept_key(key.unwrap_or_default().as_bytes());
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    let is_offered = head.contains("permessage-deflate");
    let extension = if is_offered { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    write!(stream, "{answer}{extension}Sec-WebSocket-Accept: {accept}\r\n\r\n")?;
    match head.split(' ').nth(1) {
        Some("/echo") => Ok(Room::Echo),
        Some("/sink") => Ok(Room::Sink),
        Some("/flood") => Ok(Room::Flood),
        Some("/beats") => Ok(Room::Beats),
        Some("/replay") => Ok(Room::Replay),
        Some("/mute") => Ok(Room::Mute),
        other => Err(io::Error::other(format!("no such room: {other:?}"))),
    }
}

fn flood(stream: &mut impl Write, order: &[u8]) -> io::Result<()> {
    let order = String::from_utf8_lossy(order);
    let (size, count) = order.split_once(' ').expect("two numbers");
    let (size, mut count): (usize, usize) = (size.parse().unwrap(), count.parse().unwrap());
    let mut one = Vec::new();
    frame(&mut one, 0x82, &vec![7; size]);
    let many = one.repeat((256 << 10) / one.len());
    while count > 0 {
        let batch = count.min(many.len() / one.len());
        stream.write_all(&many[..batch * one.len()])?;
        count -= batch;
    }
    Ok(())
}

/// Appends a server's frame, with this first byte and payload.
pub fn frame(output: &mut Vec<u8>, first: u8, payload: &[u8]) {
    output.push(first);
    if let Ok(short @ 0..=125) = u8::try_from(payload.len()) {
        output.push(short);
    } else if let Ok(middle) = u16::try_from(payload.len()) {
        output.push(126);
        output.extend(middle.to_be_bytes());
    } else {
        output.push(127);
        output.extend((payload.len() as u64).to_be_bytes());
    }
    output.extend_from_slice(payload);
}

/// What a client has sent and the server has not handled.
struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How long the frame at `start` is, if that is known.
    awaited: usize,
}

/// The head of a frame: the lengths of the head itself and of the payload.
struct Head {
    opcode: u8,
    mask: [u8; 4],
    own: usize,
    payload: usize,
}

impl Input {
    fn new() -> Self {
        Self { buffer: vec![0; 256 << 10], start: 0, end: 0, awaited: 0 }
    }

    /// Reads what there is. Returns whether it read anything.
    fn fill(&mut self, stream: &mut impl Read) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < self.awaited {
            self.buffer.resize(self.awaited, 0);
        }
        let read = stream.read(&mut self.buffer[self.end..])?;
        self.end += read;
        Ok(read > 0)
    }

    /// The head of the next frame, if it is complete.
    fn head(&self) -> Option<Head> {
        let bytes = &self.buffer[self.start..self.end];
        let (payload, own) = match bytes.get(1)? & 0x7F {
            126 => (u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 8),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 14),
            short => (u64::from(short), 6),
        };
        let mask = bytes.get(own - 4..own)?.try_into().ok()?;
        Some(Head { opcode: bytes[0] & 0x0F, mask, own, payload: usize::try_from(payload).ok()? })
    }

    /// The payload of the frame with this head, unmasked, if it is complete.
    fn payload(&mut self, head: &Head) -> Option<&[u8]> {
        let from = self.start + head.own;
        let to = from + head.payload;
        if to > self.end {
            self.awaited = head.own + head.payload;
            return None;
        }
        self.start = to;
        let payload = &mut self.buffer[from..to];
        unmask(payload, head.mask);
        Some(payload)
    }

    /// Skips the frame with this head, however long it is.
    fn skip(&mut self, stream: &mut impl Read, head: &Head) -> io::Result<()> {
        self.start += head.own;
        let mut left = head.payload;
        loop {
            let here = left.min(self.end - self.start);
            self.start += here;
            left -= here;
            if left == 0 {
                return Ok(());
            }
            if !self.fill(stream)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    rest.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}
