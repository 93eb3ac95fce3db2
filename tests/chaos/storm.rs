//! One storm: what is drawn for it, the server, the senders, and how it goes.

use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use fastrand::Rng;
use native_tls::{TlsAcceptor, TlsConnector};
use tautline::{
    Client, CloseReason, Compression, ConnectionConfig, Context, Delivery, DisconnectReason, Error, Event,
    Handshake, HeartbeatConfig, Message, Protocol, QueueLimit, ReconnectConfig, SendErrorKind, Shutdown,
    Stats, Stream, Ticket, Tickets, Undelivered, WhileDown,
};

use crate::common::faults::{Plan, Proxy};
use crate::common::{BareServer, MS, close_frame, eventually, frame, loopback, tls_acceptor, tls_connector};
use crate::deflate::Peer;
use crate::tunnel::Tunnel;
use crate::{long, patience};

/// A message: its sender, and its number among that sender's.
pub(crate) type Id = (u8, u32);

/// What a seed decides, besides the faults.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    seed: u64,
    pub(crate) delivery: Delivery,
    pub(crate) tls: bool,
    strict: bool,
    senders: u8,
    /// Of each sender.
    messages: u32,
    /// The largest, in bytes, about.
    size: u32,
    fragment: Option<usize>,
    max_age: Option<Duration>,
    while_down: WhileDown,
    outbox: usize,
    /// A sender waits for a confirmation after about so many messages.
    haste: u32,
    /// So many connections suffer a fault.
    faults: usize,
    /// Each within so many bytes of the client's.
    reach: u64,
    pub(crate) ending: Ending,
    /// The line moves to another connection now and then, on one of so many messages of the server's.
    pub(crate) moves: Option<u32>,
    way: Way,
    /// What the server says to the offer of compression, if there is one.
    compression: Option<&'static str>,
    /// With calls that wait for nobody: the room for messages, both ways.
    realtime: Option<usize>,
    /// The end is a `shutdown` that waits so long at a time, and not a call that has its own bounds.
    patience: Option<Duration>,
    /// Another thread calls it as well, and terminates the client.
    second_end: bool,
}

/// How the client reaches the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Tcp,
    /// By a stream of the application's, which reads and writes small pieces.
    Supplied,
    /// They are on the way to a proxy of this kind.
    Http,
    Https,
    Socks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All is sent and confirmed before the client is closed.
    Confirm,
    /// It is closed or terminated once so many messages were accepted, and more are being sent.
    Close(usize),
    Terminate(usize),
}

impl Setup {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = rng(seed, 0);
        let delivery = if seed.is_multiple_of(2) { Delivery::AtLeastOnce } else { Delivery::AtMostOnce };
        // Large messages, many of which are under way at a time, fill the system's buffers, and then the client's.
        let floods = random.u32(0..8) == 0;
        let (size, reach) = if floods { (16_000, 1_000_000) } else { (120, 16_000) };
        let (outbox, haste) = if floods { (6..10, 5..8) } else { (2..10, 0..6) };
        let senders = random.u8(3..6);
        let messages = 1_200 / u32::from(senders);
        let some = random.usize(0..1_000);
        Self {
            seed,
            delivery,
            tls: seed % 10 >= 8,
            strict: random.u32(0..4) == 0,
            senders,
            messages,
            size,
            fragment: (random.u32(0..4) == 0).then(|| random.usize(1..1_000)),
            max_age: (random.u32(0..4) == 0).then(|| random.u32(1..100) * MS),
            while_down: if random.u32(0..4) == 0 { WhileDown::Refuse } else { WhileDown::Queue },
            outbox: 1 << random.u32(outbox),
            haste: 1 << random.u32(haste),
            faults: random.usize(10..40),
            reach,
            ending: match random.u32(0..10) {
                0..2 => Ending::Close(some),
                2..4 => Ending::Terminate(some),
                _ => Ending::Confirm,
            },
            moves: (random.u32(0..4) == 0).then(|| random.u32(2..20)),
            way: match random.u32(0..10) {
                0 => Way::Supplied,
                1 => Way::Http,
                2 => Way::Https,
                3 => Way::Socks,
                _ => Way::Tcp,
            },
            compression: match random.u32(0..6) {
                0 => Some("permessage-deflate"),
                1 => Some("permessage-deflate; client_no_context_takeover; server_no_context_takeover"),
                _ => None,
            },
            realtime: None,
            patience: None,
            second_end: false,
        }
        .with_ends_and_queues(&mut random)
    }

    /// Drawn last, so that the seeds keep the rest of their meaning.
    fn with_ends_and_queues(self, random: &mut Rng) -> Self {
        let realtime = (random.u32(0..3) == 0).then(|| [1, 2, 3, 8, 64, 1024][random.usize(0..6)]);
        let patience =
            [None, Some(Duration::ZERO), Some(MS), Some(20 * MS), Some(long())][random.usize(0..5)];
        // Through so little room, each message waits for the one before it.
        let messages = if realtime.is_some_and(|room| room < 8) { self.messages / 8 } else { self.messages };
        Self { messages, realtime, patience, second_end: random.bool(), ..self }
    }

    fn plan(&self, n: usize) -> Plan {
        if n < self.faults {
            Plan::draw(&mut rng(self.seed, 1_000 + n as u64), self.reach, 2_000)
        } else {
            Plan::calm()
        }
    }

    /// Whether some server of this storm speaks TLS.
    pub(crate) fn needs_tls(&self) -> bool {
        self.tls || self.way == Way::Https
    }

    /// A proxy, if the client goes through one.
    fn tunnel(&self) -> Option<Tunnel> {
        match self.way {
            Way::Tcp | Way::Supplied => None,
            Way::Http => Some(Tunnel::http(None)),
            Way::Https => Some(Tunnel::https()),
            Way::Socks => Some(Tunnel::socks(None)),
        }
    }

    /// The faults have this address, and the server the other one.
    fn config(&self, faults: SocketAddr, server: SocketAddr) -> ConnectionConfig {
        let scheme = match self.way {
            Way::Tcp | Way::Supplied => None,
            Way::Http => Some("http"),
            Way::Https => Some("https"),
            Way::Socks => Some("socks5h"),
        };
        let port = if scheme.is_some() { server.port() } else { faults.port() };
        let url = if self.tls { format!("wss://localhost:{port}") } else { format!("ws://127.0.0.1:{port}") };
        let ms = MS * patience();
        let heartbeat = HeartbeatConfig::default().interval(10 * ms).timeout(60 * ms).strict(self.strict);
        let config = ConnectionConfig::new(url)
            .reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(4 * MS))
            .heartbeat(heartbeat)
            .connect_timeout(150 * ms)
            .close_timeout(300 * ms)
            .delivery(self.delivery)
            .while_down(self.while_down)
            .outbox(QueueLimit::new(self.outbox, 16 << 20));
        let config = if let Some(size) = self.fragment { config.fragment(size) } else { config };
        let config = if let Some(age) = self.max_age { config.max_age(age) } else { config };
        let config = if let Some(room) = self.realtime { config.realtime(room) } else { config };
        let config = match self.compression {
            Some(_) => config.compression(Compression::default().threshold(0)),
            None => config,
        };
        let config = if self.tls { config.tls(tls().1.clone()) } else { config };
        match scheme {
            Some(scheme) => {
                let proxy = tautline::Proxy::new(format!("{scheme}://localhost:{}", faults.port()));
                config.proxy(if self.way == Way::Https { proxy.tls(tls().1.clone()) } else { proxy })
            }
            None => config,
        }
    }
}

/// The `part`-th source of randomness of a storm.
fn rng(seed: u64, part: u64) -> Rng {
    Rng::with_seed(seed << 32 | part)
}

/// Both sides of TLS; each is costly to make.
fn tls() -> &'static (TlsAcceptor, TlsConnector) {
    static TLS: OnceLock<(TlsAcceptor, TlsConnector)> = OnceLock::new();
    TLS.get_or_init(|| (tls_acceptor(), tls_connector()))
}

/// Moves the line on one of so many messages.
struct Mover(u32);

impl Protocol for Mover {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        cx.deliver(message);
        if cx.random() * f64::from(self.0) < 1.0 {
            cx.move_line();
        }
        Ok(())
    }
}

/// Sender, number, size of the filling, filling.
fn message((sender, n): Id, size: u32) -> Message {
    let mut payload = vec![sender];
    payload.extend(n.to_be_bytes());
    payload.extend(size.to_be_bytes());
    payload.resize(HEAD + size as usize, filling(sender, n));
    payload.into()
}

/// What a message begins with.
const HEAD: usize = 9;

fn filling(sender: u8, n: u32) -> u8 {
    sender ^ n.to_be_bytes()[3]
}

/// Which message this is, if it is whole.
pub(crate) fn id(payload: &[u8]) -> Option<Id> {
    let (head, rest) = payload.split_at_checked(HEAD)?;
    let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    let (sender, n, size) = (head[0], number(1), number(5) as usize);
    assert!(
        rest.len() <= size && rest.iter().all(|byte| *byte == filling(sender, n)),
        "a message came changed"
    );
    (rest.len() == size).then_some((sender, n))
}

/// What arrived, in order.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) order: Vec<Id>,
    pub(crate) times: HashMap<Id, u32>,
}

/// A server that writes down every message before it answers the pings behind it.
struct Recorder {
    server: BareServer,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Recorder {
    fn start(setup: &Setup, record: &Arc<Mutex<Record>>) -> Self {
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (all, setup, record) = (Arc::clone(&connections), setup.clone(), Arc::clone(record));
        let server = BareServer::start(move |n, stream| {
            let mut random = rng(setup.seed, 2_000 + n as u64);
            let farewell = (n < setup.faults && random.u32(0..8) == 0).then(|| random.u32(1..60));
            let (setup, record) = (setup.clone(), Arc::clone(&record));
            let n = u32::try_from(n).unwrap();
            all.lock().unwrap().push(thread::spawn(move || {
                if !setup.tls {
                    listen(n, stream, &setup, farewell, &record);
                } else if let Ok(stream) = tls().0.accept(stream) {
                    listen(n, stream, &setup, farewell, &record);
                }
            }));
        });
        Self { server, connections }
    }

    /// Waits until all of these `connections` have ended.
    fn finish(self, connections: usize) {
        eventually("the server takes every connection", || {
            self.connections.lock().unwrap().len() == connections
        });
        drop(self.server);
        for connection in self.connections.lock().unwrap().drain(..) {
            connection.join().unwrap();
        }
    }
}

/// A stream whose small reads take from a buffer: a call of the system each is slow on some.
struct Buffered<S>(BufReader<S>);

impl<S: Read> Read for Buffered<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<S: Write> Write for Buffered<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

/// Writes down what comes in, up to the end of the stream. Now and then it says something itself, so that there is
/// traffic both ways; with a `farewell`, it closes the line after so many messages.
fn listen(n: u32, stream: impl Read + Write, setup: &Setup, farewell: Option<u32>, record: &Mutex<Record>) {
    let extensions = setup.compression.unwrap_or_default();
    let stream = Buffered(BufReader::new(stream));
    let Some(mut peer) = Peer::accept_if_whole(stream, extensions) else { return };
    let (mut messages, mut closing) = (0, false);
    let mut said = 0..;
    let mut say = || [n.to_be_bytes(), u32::to_be_bytes(said.next().unwrap())].concat().repeat(5);
    // The first byte of the message under way, and its payload so far.
    let mut message: Option<(u8, Vec<u8>)> = None;
    while let Some((first, payload)) = peer.read_frame() {
        let answer = match first & 0x0F {
            // A message, or a fragment of one.
            opcode @ (2 | 0) => {
                assert_eq!(opcode == 2, message.is_none(), "a fragment out of place");
                let (begins, mut so_far) = message.take().unwrap_or((first, Vec::new()));
                so_far.extend(payload);
                if first & 0x80 == 0 {
                    message = Some((begins, so_far));
                    continue;
                }
                let whole = if begins & 0x40 == 0 { so_far } else { peer.inflated(so_far) };
                let id = id(&whole).expect("a whole message");
                messages += 1;
                let mut record = record.lock().unwrap();
                record.order.push(id);
                *record.times.entry(id).or_default() += 1;
                drop(record);
                if farewell == Some(messages) {
                    closing = true;
                    close_frame(1001, "going away")
                } else if !closing && messages % 3 == 0 {
                    match setup.compression {
                        Some(_) if messages % 2 == 0 => frame(0xC2, &peer.deflated(&say())),
                        _ => frame(0x82, &say()),
                    }
                } else if !closing && messages % 7 == 0 {
                    frame(0x89, b"still there?")
                } else {
                    continue;
                }
            }
            8 if closing => return,
            8 => {
                closing = true;
                frame(0x88, &payload)
            }
            9 if !closing => frame(0x8A, &payload),
            _ => continue,
        };
        // What the client sent before it went is read all the same.
        let _ = peer.stream.write_all(&answer);
    }
}

/// What a sender knows.
#[derive(Default)]
pub(crate) struct Sent {
    /// Of its messages in turn.
    pub(crate) tickets: Vec<Ticket>,
    /// So many of them were flushed.
    pub(crate) flushed: usize,
    /// What `confirm` said of the first so many, the last time: of the others it said that they were received.
    pub(crate) confirmed: usize,
    pub(crate) maybe: Tickets,
    pub(crate) never: Tickets,
}

fn send(client: &Client, setup: &Setup, sender: u8, record: &Mutex<Record>, accepted: &Sender<()>) -> Sent {
    let mut random = rng(setup.seed, 1 + u64::from(sender));
    let mut sent = Sent::default();
    for n in 0..setup.messages {
        let mut message = message((sender, n), random.u32(0..setup.size));
        let mut patience = random.u32(0..4);
        let ticket = loop {
            let tried = match patience {
                0 => client.try_send(message),
                1 => client.send_timeout(message, MS),
                // A defect must not stop the test for ever.
                _ => client.send_timeout(message, long()),
            };
            let error = match tried {
                Ok(ticket) => break ticket,
                Err(error) => error,
            };
            match error.kind() {
                SendErrorKind::Closed => return sent,
                SendErrorKind::NotReady { .. } => drop(client.wait_ready(long())),
                _ if patience < 2 => patience += 1,
                kind => panic!("{kind}"),
            }
            message = error.into_message();
        };
        sent.tickets.push(ticket);
        let _ = accepted.send(());
        match random.u32(0..2 * setup.haste) {
            0 | 1 => {
                let (maybe, never) = match client.confirm(&sent.tickets, long()) {
                    Ok(()) => Default::default(),
                    Err(Error::Unconfirmed { maybe_delivered, never_sent, .. }) => {
                        (maybe_delivered, never_sent)
                    }
                    Err(error) => panic!("{error:?}"),
                };
                let record = record.lock().unwrap();
                for (n, ticket) in (0_u32..).zip(&sent.tickets) {
                    let lost = maybe.contains(*ticket) || never.contains(*ticket);
                    let there = record.times.contains_key(&(sender, n));
                    assert!(there || lost, "ticket {ticket} was confirmed and is not there");
                    let told = sent.maybe.contains(*ticket) || sent.never.contains(*ticket);
                    assert!(
                        usize::try_from(n).unwrap() >= sent.confirmed || told == lost,
                        "ticket {ticket} has two fates"
                    );
                }
                let named = maybe
                    .iter()
                    .chain(never.iter())
                    .all(|ticket| sent.tickets.binary_search(&ticket).is_ok());
                assert!(named, "nothing of others is named");
                sent = Sent { confirmed: sent.tickets.len(), maybe, never, ..sent };
            }
            2 => match client.flush(long()) {
                Ok(()) => sent.flushed = sent.tickets.len(),
                Err(Error::Closed { .. }) => {}
                Err(error) => panic!("{error:?}"),
            },
            _ => {}
        }
    }
    sent
}

/// The messages of the server that the client has passed on: how many of each connection.
#[derive(Default)]
struct Heard(HashMap<u32, u32>);

impl Heard {
    /// The next message of its connection. What follows it may have been lost with the connection, and nothing before it.
    fn note(&mut self, message: &Message) {
        let words: Vec<u32> =
            message.as_bytes().chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        assert_eq!(words, [words[0], words[1]].repeat(5), "a message came changed");
        let next = self.0.entry(words[0]).or_default();
        assert_eq!(words[1], *next, "a message of connection {} is lost, comes twice or too early", words[0]);
        *next += 1;
    }

    fn count(&self) -> u64 {
        self.0.values().copied().map(u64::from).sum()
    }
}

/// Takes the messages, in every way and now and then slowly, until the client is closed and all are taken.
fn read(client: &Client, seed: u64) -> Heard {
    let mut random = rng(seed, 900);
    let mut heard = Heard::default();
    loop {
        match random.u32(0..40) {
            // The application is busy.
            0 => thread::sleep(random.u32(1..30) * MS),
            1..10 => client.drain(random.usize(0..5)).for_each(|message| heard.note(&message)),
            10..20 => client.try_messages().for_each(|message| heard.note(&message)),
            20..30 => {
                if let Ok(Some(message)) = client.try_recv() {
                    heard.note(&message);
                }
            }
            _ => match client.recv_timeout(random.u32(0..20) * MS) {
                Ok(message) => heard.note(&message),
                Err(Error::Timeout { .. }) => {}
                Err(Error::Closed { .. }) => return heard,
                Err(error) => panic!("{error:?}"),
            },
        }
    }
}

/// What the events told.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) doubtful: Vec<u64>,
    pub(crate) expired: Vec<u64>,
    pub(crate) silences: u64,
    pub(crate) farewells: u64,
    pub(crate) moves: u64,
    /// How many messages came with them.
    pub(crate) heard: u64,
}

/// Takes the events until the client is closed.
fn watch(events: &Receiver<Event>) -> Told {
    let mut told = Told::default();
    let mut heard = Heard::default();
    let mut is_over = false;
    for event in events {
        assert!(!is_over, "{event:?} behind the end");
        match event {
            Event::Message(message) => heard.note(&message),
            Event::Disconnected { reason, maybe_delivered, .. } => {
                told.doubtful.extend(maybe_delivered.iter().map(Ticket::number));
                match reason {
                    DisconnectReason::Lost(Error::HeartbeatTimeout { .. }) => told.silences += 1,
                    DisconnectReason::ClosedByServer(_) => told.farewells += 1,
                    _ => {}
                }
            }
            Event::Moved { maybe_delivered, .. } => {
                told.doubtful.extend(maybe_delivered.iter().map(Ticket::number));
                told.moves += 1;
            }
            Event::Expired { tickets, .. } => told.expired.extend(tickets.iter().map(Ticket::number)),
            Event::Missed { .. } => panic!("the test did not take its events in time"),
            Event::Closed { reason, .. } => {
                assert!(matches!(reason, CloseReason::ByCaller), "{reason:?}");
                is_over = true;
            }
            _ => {}
        }
    }
    assert!(is_over, "the end is missing");
    Told { heard: heard.count(), ..told }
}

/// How a storm went.
pub(crate) struct Outcome {
    pub(crate) setup: Setup,
    pub(crate) sent: Vec<Sent>,
    pub(crate) told: Told,
    pub(crate) left: Undelivered,
    pub(crate) record: Record,
    pub(crate) stats: Stats,
}

/// A connection whose reads and writes move little.
#[cfg(unix)]
fn small(address: SocketAddr) -> io::Result<Stream> {
    struct Small(TcpStream);

    impl std::os::fd::AsFd for Small {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Read for Small {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(700);
            self.0.read(&mut buffer[..most])
        }
    }

    impl Write for Small {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(&bytes[..bytes.len().min(700)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    Ok(Stream::new(Small(TcpStream::connect(address)?)))
}

#[cfg(not(unix))]
fn small(address: SocketAddr) -> io::Result<Stream> {
    TcpStream::connect(address).map(Stream::from)
}

/// Ends the client as it is drawn. Returns what could not be delivered.
fn end(client: &Client, setup: &Setup, threads: &AtomicUsize, how: tautline::Ending) -> Undelivered {
    let Some(patience) = setup.patience else {
        return match how {
            tautline::Ending::Close => client.close(),
            tautline::Ending::Terminate => client.terminate(),
        };
    };
    let gone = |how, mut patience| loop {
        match client.shutdown(how, patience) {
            Shutdown::Gone(left) => {
                assert_eq!(threads.load(SeqCst), 0, "a thread is left");
                return left;
            }
            Shutdown::StillRunning(names) => {
                assert!(names.starts_with("tautline-"), "{names}");
                assert!(patience < long(), "still running: {names}");
                patience = (2 * patience).max(MS);
            }
        }
    };
    thread::scope(|scope| {
        let second = setup.second_end.then(|| {
            let how = if setup.ending == Ending::Confirm { how } else { tautline::Ending::Terminate };
            scope.spawn(move || gone(how, MS))
        });
        let left = gone(how, patience);
        if let Some(second) = second.map(|second| second.join().unwrap()) {
            assert_eq!(format!("{left:?}"), format!("{second:?}"), "each hears the same");
        }
        left
    })
}

pub(crate) fn storm(seed: u64) -> Outcome {
    let setup = Setup::draw(seed);
    let record = Arc::new(Mutex::new(Record::default()));
    let server = Recorder::start(&setup, &record);
    let plans = setup.clone();
    let tunnel = setup.tunnel();
    let address = server.server.address();
    let proxy = Proxy::start(tunnel.as_ref().map_or(address, Tunnel::address), move |n| plans.plan(n));
    let faults = proxy.address();
    let builder = Client::builder(setup.config(faults, address)).resolver(loopback);
    let builder =
        if setup.way == Way::Supplied { builder.connector(move |_| small(faults)) } else { builder };
    let builder = if let Some(rarity) = setup.moves { builder.protocol(Mover(rarity)) } else { builder };
    let threads = Arc::new(AtomicUsize::new(0));
    let (begun, ended) = (Arc::clone(&threads), Arc::clone(&threads));
    let builder = builder
        .on_thread_start(move |_| _ = begun.fetch_add(1, SeqCst))
        .on_thread_end(move |_| _ = ended.fetch_sub(1, SeqCst));
    let client = builder.start().unwrap();
    let events = client.events().clone();
    let consumer = thread::spawn(move || watch(&events));
    let reader = setup.realtime.map(|_| {
        let client = client.clone();
        thread::spawn(move || read(&client, seed))
    });
    let (accepted_in, accepted) = crossbeam_channel::unbounded();
    let senders: Vec<_> = (0..setup.senders)
        .map(|sender| {
            let (client, setup) = (client.clone(), setup.clone());
            let (record, accepted) = (Arc::clone(&record), accepted_in.clone());
            thread::spawn(move || send(&client, &setup, sender, &record, &accepted))
        })
        .collect();
    drop(accepted_in);
    if let Ending::Close(after) | Ending::Terminate(after) = setup.ending {
        // Ends early when the senders do.
        let _ = accepted.iter().nth(after);
    }
    let early = match setup.ending {
        Ending::Confirm => None,
        Ending::Close(_) => Some(end(&client, &setup, &threads, tautline::Ending::Close)),
        Ending::Terminate(_) => Some(end(&client, &setup, &threads, tautline::Ending::Terminate)),
    };
    let sent: Vec<_> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
    let left = early.unwrap_or_else(|| {
        let all = client.confirm(.., long());
        assert!(matches!(all, Ok(()) | Err(Error::Unconfirmed { .. })), "{all:?}");
        end(&client, &setup, &threads, tautline::Ending::Close)
    });
    let mut told = consumer.join().unwrap();
    if let Some(reader) = reader {
        assert_eq!(told.heard, 0, "messages have a queue of their own");
        told.heard = reader.join().unwrap().count();
    }
    let stats = client.stats();
    drop(client);
    // Nothing is under way any more behind these.
    let connections = proxy.finish();
    let connections = tunnel.map_or(connections, |tunnel| tunnel.finish(connections));
    server.finish(connections);
    let record = std::mem::take(&mut *record.lock().unwrap());
    Outcome { setup, sent, told, left, record, stats }
}
