//! Lines that go half-open: packets are lost or refused on the way, and neither end is told.
//!
//! `tests/interop/run.sh netfault` makes a network namespace with the rules of `interop/netfault.nft`, and runs these
//! tests in it. A rule holds for the ports in its set: a test puts that of its own server in, and takes it out again to
//! heal the line. Anywhere else there is no such set, and nothing is touched.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, MS, Server, frame, wait_for};
use crossbeam_channel::{Receiver, Sender, tick, unbounded};
use native_tls::{Certificate, Identity, TlsAcceptor, TlsConnector};
use socket2::SockRef;
use tautline::{
    Client, ConnectionConfig, Delivery, DisconnectReason, Error, Event, HeartbeatConfig, Jitter, QueueLimit,
    ReconnectConfig, SendErrorKind, Ticket,
};

const S: Duration = Duration::from_secs(1);

/// Intervals and timeouts.
const PAIRS: [(Duration, Duration); 3] = [
    (Duration::from_millis(200), Duration::from_millis(400)),
    (S, Duration::from_secs(2)),
    (Duration::from_secs(2), S),
];

/// An attempt into the hole is given up after this, and the next follows after `RETRY`.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(100);

/// The time between two messages, and the least between two looks at the line.
const PACE: Duration = Duration::from_millis(10);

/// The size of a message of an upload.
const UPLOADED: usize = 16 << 10;

/// What becomes of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// All are lost.
    Blackhole,
    /// What the client sends is lost.
    ToServer,
    /// What the server sends is lost.
    ToClient,
    /// What the client sends is answered with a reset, which the server does not see.
    ResetToClient,
    /// What the server sends is answered with a reset, which the client does not see.
    ResetToServer,
    /// One in five is lost, either way.
    Loss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Plain,
    Tls,
}

/// What is sent meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Nothing.
    Idle,
    /// A few bytes at a time.
    Trickle,
    /// As much as the line takes: its writes stall once it is broken.
    Upload,
    /// A few bytes at a time, and from the server, too.
    Talk,
}

#[derive(Clone, Debug)]
struct Case {
    fault: Fault,
    line: Line,
    load: Load,
    delivery: Delivery,
    heartbeat: HeartbeatConfig,
    write_timeout: Duration,
}

/// What was measured.
struct Row {
    case: Case,
    /// `None`: the line was kept.
    noticed: Option<Noticed>,
    /// From the moment the rule is out until the line is ready, or, where it was kept, until everything is confirmed
    /// that was sent in the hole.
    back: Duration,
}

/// When the loss was told.
struct Noticed {
    /// After the rule was in.
    after_fault: Duration,
    /// After something was last read.
    after_read: Duration,
    /// After the system last took something.
    after_written: Duration,
    reason: DisconnectReason,
}

#[test]
#[ignore = "needs a network namespace: run tests/interop/run.sh netfault"]
fn a_line_that_falls_silent_is_noticed_within_interval_and_timeout() {
    let mut cases = Vec::new();
    for fault in [Fault::Blackhole, Fault::ToServer, Fault::ToClient] {
        for pair in PAIRS {
            for (line, delivery) in lines_and_deliveries() {
                cases.push(case(fault, line, Load::Trickle, delivery, pair));
            }
            cases.push(case(fault, Line::Plain, Load::Idle, Delivery::AtMostOnce, pair));
        }
    }
    for row in measure(cases, fall) {
        row.assert_noticed(|noticed| noticed.after_fault);
        assert!(matches!(row.reason(), Error::HeartbeatTimeout { .. }), "{row}");
    }
}

#[test]
#[ignore = "needs a network namespace: run tests/interop/run.sh netfault"]
fn an_address_behind_a_black_hole_costs_less_than_350_ms_and_the_next_attempt_nothing() {
    let (dead, live) = (Server::echo(), Server::echo());
    let hole = Hole::dig(Fault::Blackhole, dead.address().port(), None);
    let addresses = vec![dead.address(), live.address()];
    let config = ConnectionConfig::new("ws://h").reconnect(ReconnectConfig::default().initial_delay(RETRY));
    let start = Instant::now();
    let client = Client::builder(config).resolver(move |_, _| Ok(addresses.clone())).connect().unwrap();
    let connected = start.elapsed();
    assert!((250 * MS..350 * MS).contains(&connected), "{connected:?}");
    live.cut();
    wait_for(&client, common::disconnected);
    let again = wait_for(&client, |event| match event {
        Event::Connected { handshake, .. } => Some(handshake),
        _ => None,
    });
    assert_eq!(again.address, Some(live.address()));
    let timed = again.timings.connect.unwrap();
    assert!(timed < 100 * MS, "{timed:?}: it went last");
    println!("connected past a black hole in {connected:?}, and again in {timed:?}");
    let _ = client.terminate();
    hole.fill();
}

#[test]
#[ignore = "needs a network namespace: run tests/interop/run.sh netfault"]
fn a_line_that_heals_in_time_is_kept() {
    let mut cases = Vec::new();
    for fault in [Fault::Blackhole, Fault::ToServer, Fault::ToClient] {
        for pair in PAIRS {
            for (line, delivery) in lines_and_deliveries() {
                cases.push(case(fault, line, Load::Trickle, delivery, pair));
            }
            cases.push(case(fault, Line::Plain, Load::Upload, Delivery::AtMostOnce, pair));
        }
    }
    // A healed line may carry nothing before TCP's next retransmission. The first comes 0.2 s after the first packet
    // that was lost, which here is the beat or next to it, and each pause is twice the one before: 0.2, 0.6, 1.4 s. So
    // the beat is answered about 0.2 s after it was sent where the line is healed after 0.1 s, with a timeout of 0.4 s;
    // and about 0.6 s after it where the line is healed after 0.3 s, with a timeout of 1 s or more.
    measure(cases, |case| ride_out(case, if case.heartbeat.timeout < S { 100 * MS } else { 300 * MS }));
}

#[test]
#[ignore = "needs a network namespace: run tests/interop/run.sh netfault"]
fn an_upload_that_stalls_is_noticed_within_its_bound() {
    let mut cases = Vec::new();
    for fault in [Fault::Blackhole, Fault::ToServer, Fault::ToClient] {
        for pair in PAIRS {
            cases.push(case(fault, Line::Plain, Load::Upload, Delivery::AtMostOnce, pair));
            cases.push(case(fault, Line::Tls, Load::Upload, Delivery::AtLeastOnce, pair));
        }
    }
    for row in measure(cases, fall) {
        row.assert_noticed(|noticed| noticed.after_fault);
        assert!(matches!(row.reason(), Error::HeartbeatTimeout { .. }), "{row}");
        let stalled = row.noticed.as_ref().unwrap().after_written;
        // TCP's first retransmission, 0.2 s after the fault, may let the system take a little more.
        assert!(stalled > (row.case.heartbeat.timeout / 2).saturating_sub(50 * MS), "it went on: {row}");
    }
}

#[test]
#[ignore = "needs a network namespace: run tests/interop/run.sh netfault"]
fn without_heartbeats_an_upload_that_stalls_is_noticed_by_the_write_timeout() {
    let cases = [Line::Plain, Line::Tls].map(|line| Case {
        heartbeat: HeartbeatConfig::off(),
        write_timeout: S,
        ..case(Fault::Blackhole, line, Load::Upload, Delivery::AtMostOnce, PAIRS[0])
    });
    for row in measure(cases.to_vec(), fall) {
        // Nothing asks the peer: only that the system takes no more shows that it is gone.
        row.assert_noticed(|noticed| noticed.after_written);
        assert!(matches!(row.reason(), Error::WriteStalled { .. }), "{row}");
    }
}

#[test]
#[ignore = "needs a network namespace: run tests/interop/run.sh netfault"]
fn a_reset_is_noticed_by_whoever_sees_it_and_silence_by_the_other() {
    let mut cases = Vec::new();
    for fault in [Fault::ResetToClient, Fault::ResetToServer] {
        for pair in PAIRS {
            for (line, delivery) in lines_and_deliveries() {
                cases.push(case(fault, line, Load::Trickle, delivery, pair));
            }
            cases.push(case(fault, Line::Plain, Load::Idle, Delivery::AtMostOnce, pair));
        }
    }
    for row in measure(cases, fall) {
        row.assert_noticed(|noticed| noticed.after_fault);
        match row.case.fault {
            Fault::ResetToClient => assert!(matches!(row.reason(), Error::ConnectionLost { .. }), "{row}"),
            _ => assert!(matches!(row.reason(), Error::HeartbeatTimeout { .. }), "{row}"),
        }
    }
}

#[test]
#[ignore = "needs a network namespace: run tests/interop/run.sh netfault"]
fn a_server_that_talks_on_does_not_hide_that_it_hears_nothing() {
    let mut cases = Vec::new();
    for pair in PAIRS {
        for strict in [false, true] {
            let mut case = case(Fault::ToServer, Line::Plain, Load::Talk, Delivery::AtLeastOnce, pair);
            case.heartbeat.strict = strict;
            cases.push(case);
        }
    }
    for row in measure(cases, fall) {
        // Every byte is life, unless the heartbeat is strict. But the server hears no acknowledgements either, so that
        // its TCP soon says nothing new.
        let strict = row.case.heartbeat.strict;
        row.assert_noticed(|noticed| if strict { noticed.after_fault } else { noticed.after_read });
        assert!(matches!(row.reason(), Error::HeartbeatTimeout { .. }), "{row}");
    }
}

#[test]
#[ignore = "needs a network namespace: run tests/interop/run.sh netfault"]
fn a_lossy_line_is_kept() {
    // However unlucky a packet is, its next retransmission after the loss has ended comes after as much time again as
    // it has waited already, and TCP's 0.2 s: 10.2 s after a beat, at the latest.
    let (interval, timeout, lossy) = (500 * MS, 12 * S, 5 * S);
    let cases = lines_and_deliveries()
        .map(|(line, delivery)| case(Fault::Loss, line, Load::Trickle, delivery, (interval, timeout)));
    let before = retransmitted();
    measure(cases.to_vec(), |case| ride_out(case, lossy));
    let again = retransmitted() - before;
    println!("{again} segments were sent again");
    assert!(again > 0, "nothing was lost");
}

fn case(
    fault: Fault,
    line: Line,
    load: Load,
    delivery: Delivery,
    (interval, timeout): (Duration, Duration),
) -> Case {
    let heartbeat = HeartbeatConfig::default().interval(interval).timeout(timeout);
    Case { fault, line, load, delivery, heartbeat, write_timeout: Duration::from_secs(30) }
}

fn lines_and_deliveries() -> [(Line, Delivery); 4] {
    [
        (Line::Plain, Delivery::AtMostOnce),
        (Line::Plain, Delivery::AtLeastOnce),
        (Line::Tls, Delivery::AtMostOnce),
        (Line::Tls, Delivery::AtLeastOnce),
    ]
}

/// Runs all cases side by side, each with a server of its own, and prints what was measured, also when some failed.
fn measure(cases: Vec<Case>, run: impl Fn(&Case) -> Row + Sync) -> Vec<Row> {
    let results: Vec<_> = thread::scope(|scope| {
        let run = &run;
        let start = |(case, _): (Case, Instant)| {
            // A panic names the thread, and so the case.
            thread::Builder::new().name(case.to_string()).spawn_scoped(scope, move || run(&case)).unwrap()
        };
        // One after the other, so that they do not change the rules all at once: that takes about 15 ms.
        let running: Vec<_> = cases.into_iter().zip(tick(40 * MS)).map(start).collect();
        running.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    println!("\n{}", head());
    results.iter().flatten().for_each(|row| println!("{row}"));
    results.into_iter().map(|row| row.expect("a case failed: see above")).collect()
}

/// The line breaks, is noticed to be broken, heals and comes back; what was sent meanwhile keeps its promise.
fn fall(case: &Case) -> Row {
    let mut scene = Scene::open(case);
    let hole = Hole::dig(case.fault, scene.port(), None);
    let since = Instant::now();
    let (mut read, mut written) = (since, since);
    let mut before = scene.client.stats();
    while scene.losses.is_empty() {
        scene.look();
        let stats = scene.client.stats();
        if stats.bytes_read > before.bytes_read {
            read = Instant::now();
        }
        if stats.bytes_written > before.bytes_written {
            written = Instant::now();
        }
        before = stats;
        assert!(since.elapsed() < LONG, "never noticed");
    }
    let noticed = Some(Noticed {
        after_fault: since.elapsed(),
        after_read: read.elapsed(),
        after_written: written.elapsed(),
        reason: scene.losses[0].clone(),
    });
    // Sends go on while there is no line, and attempts fail.
    let down_since = Instant::now();
    while down_since.elapsed() < 300 * MS {
        scene.look();
    }
    let healed = hole.fill();
    while scene.connects < 2 {
        scene.look();
        assert!(healed.elapsed() < LONG, "never back");
    }
    let back = healed.elapsed();
    assert!(back < CONNECT_TIMEOUT + RETRY + S, "back after {back:?}");
    for _ in 0..5 {
        scene.post();
    }
    scene.await_last();
    let left = scene.client.close();
    scene.see_all();
    assert_eq!(scene.connects, 2, "{:?}", scene.losses);
    // Without pings nothing is ever confirmed.
    assert!(left.is_empty() || !case.has_heartbeats(), "{left:?}");
    scene.doubtful.extend(left.maybe_delivered.iter().map(Ticket::number));
    // The system lets out what it took for the broken line once it can; the server hears that, too. But who was reset
    // has forgotten all, and the other is never told.
    if case.fault != Fault::ResetToClient {
        scene.await_end_of_first();
    }
    scene.assert_promise_kept(case.delivery);
    Row { case: case.clone(), noticed, back }
}

/// The line breaks under a beat and heals after `hold`, before the beat's time is up: it is kept.
fn ride_out(case: &Case, hold: Duration) -> Row {
    let mut scene = Scene::open(case);
    let _hole = Hole::dig(case.fault, scene.port(), Some(hold));
    let since = Instant::now();
    let before = scene.client.stats();
    // On an open line, this is a beat at once.
    scene.client.reconnect_now();
    while since.elapsed() < hold / 2 {
        scene.look();
    }
    let stats = scene.client.stats();
    assert!(stats.heartbeats > before.heartbeats, "no beat went into the hole");
    // What an upload was answered may wait to be read, and what is lossy lets some through.
    let silent =
        stats.bytes_read == before.bytes_read || case.load == Load::Upload || case.fault == Fault::Loss;
    assert!(silent, "the hole is none: {before:?}, {stats:?}");
    while since.elapsed() < hold {
        scene.look();
    }
    let healed = Instant::now();
    if scene.load == Load::Upload {
        scene.load = Load::Idle;
    }
    let confirmed = scene.client.confirm(.., LONG);
    let back = healed.elapsed();
    // Past the time at which the beat, or one after it, would have been judged.
    while since.elapsed() < case.bound() {
        scene.look();
    }
    let left = scene.client.close();
    scene.see_all();
    assert!(scene.losses.is_empty(), "lost: {:?}", scene.losses);
    assert!(confirmed.is_ok() && left.is_empty(), "{confirmed:?}, {left:?}");
    scene.hear_all();
    let all: Vec<_> = (0..scene.next).map(|number| (scene.first, number)).collect();
    assert!(scene.arrived == all, "{} sent, {} arrived", all.len(), scene.arrived.len());
    Row { case: case.clone(), noticed: None, back }
}

/// A client with a server of its own, and what has passed between them.
struct Scene {
    load: Load,
    client: Client,
    heard: Receiver<Heard>,
    /// The next message's number; they rise by one.
    next: u64,
    /// Tickets that a loss has named.
    doubtful: HashSet<u64>,
    /// Why the line was lost, and why attempts failed.
    losses: Vec<DisconnectReason>,
    /// How often the line was ready.
    connects: u32,
    /// The connection that breaks.
    first: usize,
    /// What the server has received: on which connection, and the number.
    arrived: Vec<(usize, u64)>,
    ended: HashSet<usize>,
    server: Server,
}

/// What the server saw.
enum Heard {
    Message { connection: usize, number: u64 },
    End { connection: usize },
}

impl Scene {
    /// A line that works. Unless it is busy with an upload, its last beat was answered a moment ago: the next is as far
    /// away as can be.
    fn open(case: &Case) -> Self {
        let (server, heard) = recorder(case);
        let client = Client::start(config(case, &server)).unwrap();
        wait_for(&client, |event| matches!(event, Event::Connected { .. }).then_some(()));
        let (doubtful, ended) = (HashSet::new(), HashSet::new());
        let mut scene = Self {
            load: case.load,
            client,
            heard,
            next: 0,
            doubtful,
            losses: Vec::new(),
            connects: 1,
            first: 0,
            arrived: Vec::new(),
            ended,
            server,
        };
        scene.post();
        if case.load == Load::Upload {
            // More than what the system takes at once.
            while scene.arrived.len() * UPLOADED < 1 << 20 {
                // Takes turns: room may come a while after a message has arrived.
                scene.look();
                scene.hear_all();
            }
        } else {
            scene.hear();
            scene.client.confirm(.., LONG).unwrap();
        }
        scene.first = scene.arrived[0].0;
        scene
    }

    fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// Sends the next message, if there is room.
    fn post(&mut self) -> bool {
        let mut payload = self.next.to_be_bytes().to_vec();
        if self.load == Load::Upload {
            payload.resize(UPLOADED, 0);
        }
        match self.client.try_send(payload) {
            Ok(ticket) => {
                self.next += 1;
                assert_eq!(ticket.number(), self.next);
                true
            }
            Err(error) => {
                assert!(matches!(error.kind(), SendErrorKind::Full { .. }), "{error}");
                false
            }
        }
    }

    /// Waits a moment for an event, or sends what the load asks for.
    fn look(&mut self) {
        match self.client.events().recv_timeout(PACE) {
            Ok(event) => self.see(event),
            Err(_) => match self.load {
                Load::Idle => {}
                Load::Trickle | Load::Talk => drop(self.post()),
                Load::Upload => while self.post() {},
            },
        }
    }

    fn see(&mut self, event: Event) {
        match event {
            Event::Connected { .. } => self.connects += 1,
            Event::Disconnected { reason, maybe_delivered, .. } => {
                self.doubtful.extend(maybe_delivered.iter().map(Ticket::number));
                self.losses.push(reason);
            }
            _ => {}
        }
    }

    /// What has happened up to a close.
    fn see_all(&mut self) {
        while let Ok(event) = self.client.events().try_recv() {
            self.see(event);
        }
    }

    /// Waits for the last message, on whatever line.
    fn await_last(&mut self) {
        let last = self.next - 1;
        while !self.arrived.iter().any(|(_, number)| *number == last) {
            self.hear();
        }
    }

    fn await_end_of_first(&mut self) {
        while !self.ended.contains(&self.first) {
            self.hear();
        }
    }

    /// Waits for the server to see something.
    fn hear(&mut self) {
        let heard = self.heard.recv_timeout(LONG);
        let heard = heard.unwrap_or_else(|_| panic!("the server waits in vain: {:?}", self.client.stats()));
        self.note(&heard);
    }

    fn hear_all(&mut self) {
        while let Ok(heard) = self.heard.try_recv() {
            self.note(&heard);
        }
    }

    fn note(&mut self, heard: &Heard) {
        match heard {
            Heard::Message { connection, number } => self.arrived.push((*connection, *number)),
            Heard::End { connection } => drop(self.ended.insert(*connection)),
        }
    }

    /// At least once: all arrived, and for the first time in order. At most once: none arrived twice, and each that did
    /// not arrive was named.
    fn assert_promise_kept(&mut self, delivery: Delivery) {
        self.hear_all();
        let mut seen = HashSet::new();
        let first_arrivals: Vec<u64> =
            self.arrived.iter().map(|(_, number)| *number).filter(|number| seen.insert(*number)).collect();
        if delivery == Delivery::AtLeastOnce {
            let all: Vec<u64> = (0..self.next).collect();
            assert!(first_arrivals == all, "{} sent, first arrivals: {first_arrivals:?}", self.next);
            assert!(self.doubtful.is_empty(), "named: {:?}", self.doubtful);
        } else {
            assert_eq!(first_arrivals.len(), self.arrived.len(), "something arrived twice");
            let vanished: Vec<u64> = (0..self.next)
                .filter(|number| !seen.contains(number) && !self.doubtful.contains(&(number + 1)))
                .collect();
            assert!(vanished.is_empty(), "of {} neither arrived nor named: {vanished:?}", self.next);
        }
    }
}

/// A server that notes the number of each message, and answers pings.
fn recorder(case: &Case) -> (Server, Receiver<Heard>) {
    let (line, talks) = (case.line, case.load == Load::Talk);
    let (heard_in, heard) = unbounded();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // A ping waits behind all that the server has not read yet, and left alone the system holds megabytes of that.
    SockRef::from(&listener).set_recv_buffer_size(64 << 10).unwrap();
    let server = Server::start_on(listener, move |connection, stream| {
        if line == Line::Plain {
            let mouth = talks.then(|| stream.try_clone().unwrap());
            record(connection, stream, &heard_in, || {
                if let Some(mouth) = mouth {
                    thread::spawn(|| talk(mouth));
                }
            });
        } else if let Ok(stream) = acceptor().accept(stream) {
            record(connection, stream, &heard_in, || ());
        }
        // A test that has seen enough is gone.
        let _ = heard_in.send(Heard::End { connection });
    });
    (server, heard)
}

fn record(connection: usize, stream: impl Read + Write, heard: &Sender<Heard>, opened: impl FnOnce()) {
    // An attempt may be given up before it is through.
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    opened();
    // The client says nothing before the handshake is done, so that none of it is in the socket's own buffer.
    let stream = socket.get_mut();
    while let Ok((opcode, start)) = read_start_of_frame(stream) {
        let answered = match opcode {
            2 => heard.send(Heard::Message { connection, number: u64::from_be_bytes(start) }).is_ok(),
            8 => stream.write_all(&frame(0x88, &start[..2])).is_ok(),
            9 => stream.write_all(&frame(0x8A, &start)).is_ok(),
            _ => true,
        };
        if !answered {
            return;
        }
    }
}

/// A client's frame: its opcode, and the first eight bytes of its payload. The others are not unmasked: an upload has
/// many, and a server that is slow would look like one that is gone.
fn read_start_of_frame(stream: &mut impl Read) -> io::Result<(u8, [u8; 8])> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let mut length = [0; 8];
    match head[1] & 0x7F {
        126 => stream.read_exact(&mut length[6..])?,
        127 => stream.read_exact(&mut length)?,
        short => length[7] = short,
    }
    let mut mask = [0; 4];
    stream.read_exact(&mut mask)?;
    let mut payload = vec![0; usize::try_from(u64::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut payload)?;
    let mut start = [0; 8];
    start
        .iter_mut()
        .zip(payload.iter().zip(mask.iter().cycle()))
        .for_each(|(at, (byte, mask))| *at = byte ^ mask);
    Ok((head[0] & 0x0F, start))
}

/// Says something every 20 ms, until the connection ends.
fn talk(mut stream: TcpStream) {
    for _ in tick(20 * MS) {
        if stream.write_all(&frame(0x81, b"and another thing")).is_err() {
            return;
        }
    }
}

fn config(case: &Case, server: &Server) -> ConnectionConfig {
    let reconnect = ReconnectConfig::default().initial_delay(RETRY).max_delay(RETRY).jitter(Jitter::None);
    let config = match case.line {
        Line::Plain => ConnectionConfig::new(server.url()),
        Line::Tls => ConnectionConfig::new(server.url().replace("ws:", "wss:")).tls(connector()),
    };
    config
        .reconnect(reconnect)
        .heartbeat(case.heartbeat.clone())
        .delivery(case.delivery)
        .connect_timeout(CONNECT_TIMEOUT)
        .write_timeout(case.write_timeout)
        .outbox(QueueLimit::new(1024, 512 << 10))
}

fn acceptor() -> &'static TlsAcceptor {
    static ACCEPTOR: OnceLock<TlsAcceptor> = OnceLock::new();
    ACCEPTOR.get_or_init(|| {
        let (certificate, key) = (include_bytes!("data/server.pem"), include_bytes!("data/server.key"));
        TlsAcceptor::new(Identity::from_pkcs8(certificate, key).unwrap()).unwrap()
    })
}

fn connector() -> TlsConnector {
    static CONNECTOR: OnceLock<TlsConnector> = OnceLock::new();
    let connector = CONNECTOR.get_or_init(|| {
        let ca = Certificate::from_pem(include_bytes!("data/ca.pem")).unwrap();
        TlsConnector::builder().add_root_certificate(ca).build().unwrap()
    });
    connector.clone()
}

/// A fault that is there until its time is over, or this is filled or dropped.
struct Hole {
    fault: Fault,
    port: u16,
    /// To end a fault takes `nft` tens of milliseconds, and hundreds on a busy machine; this is exact.
    lasts: Option<Duration>,
}

impl Hole {
    fn dig(fault: Fault, port: u16, lasts: Option<Duration>) -> Self {
        let hole = Self { fault, port, lasts };
        let done = hole.nft("add");
        assert!(done.is_ok(), "{done:?}; run tests/interop/run.sh netfault");
        hole
    }

    /// Returns when the line was whole again.
    fn fill(self) -> Instant {
        drop(self);
        Instant::now()
    }

    fn nft(&self, verb: &str) -> Result<(), String> {
        // One at a time: two changes to the rules at once make one of them start anew.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = self.lasts.map(|lasts| format!(" timeout {}ms", lasts.as_millis())).unwrap_or_default();
        let command = |set| format!("{verb} element inet netfault {set} {{ {}{timeout} }}", self.port);
        let commands: Vec<_> = self.fault.sets().iter().map(command).collect();
        match Command::new("nft").arg(commands.join("; ")).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("nft: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => Err(format!("nft: {error}")),
        }
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        if self.lasts.is_none() {
            let done = self.nft("delete");
            // A second panic would hide the first.
            assert!(done.is_ok() || thread::panicking(), "{done:?}");
        }
    }
}

impl Fault {
    /// The sets of the rules that make it.
    fn sets(self) -> &'static [&'static str] {
        match self {
            Self::Blackhole => &["lost_to_server", "lost_to_client"],
            Self::ToServer => &["lost_to_server"],
            Self::ToClient => &["lost_to_client"],
            Self::ResetToClient => &["reset_to_client"],
            Self::ResetToServer => &["reset_to_server"],
            Self::Loss => &["lossy"],
        }
    }
}

impl Case {
    fn has_heartbeats(&self) -> bool {
        self.heartbeat != HeartbeatConfig::off()
    }

    /// A dead peer is noticed within this.
    fn bound(&self) -> Duration {
        if self.has_heartbeats() {
            self.heartbeat.interval + self.heartbeat.timeout
        } else {
            self.write_timeout
        }
    }
}

impl Row {
    fn assert_noticed(&self, after: impl Fn(&Noticed) -> Duration) {
        let bound = self.case.bound();
        let noticed = self.noticed.as_ref().map(after).unwrap();
        assert!(noticed <= bound + (bound / 10).max(50 * MS), "{self}");
    }

    /// The error with which the line was lost.
    fn reason(&self) -> Error {
        self.noticed.as_ref().unwrap().reason.to_error()
    }
}

/// Segments that TCP has sent again in this namespace.
fn retransmitted() -> u64 {
    let snmp = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut tcp = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let at = names.split(' ').position(|name| name == "RetransSegs").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

fn head() -> String {
    format!(
        "{:<14} {:<5} {:<7} {:<11} {:<20} {:>8} | {:>8} {:>10} {:>11} {:<16} | {:>8}",
        "fault",
        "line",
        "load",
        "delivery",
        "interval / timeout",
        "bound",
        "noticed",
        "after read",
        "after write",
        "as",
        "back"
    )
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HeartbeatConfig { interval, timeout, strict, .. } = &self.heartbeat;
        let beats = match (self.has_heartbeats(), strict) {
            (false, _) => "off".to_owned(),
            (true, false) => format!("{interval:?} / {timeout:?}"),
            (true, true) => format!("{interval:?} / {timeout:?} strict"),
        };
        let Self { fault, line, load, delivery, .. } = self;
        let [fault, line] = [format!("{fault:?}"), format!("{line:?}")];
        let [load, delivery] = [format!("{load:?}"), format!("{delivery:?}")];
        write!(f, "{fault:<14} {line:<5} {load:<7} {delivery:<11} {beats:<20}")
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |duration: Duration| format!("{} ms", duration.as_millis());
        write!(f, "{} {:>8} | ", self.case, ms(self.case.bound()))?;
        match &self.noticed {
            None => write!(f, "{:>8} {:>10} {:>11} {:<16}", "kept", "", "", "")?,
            Some(Noticed { after_fault, after_read, after_written, .. }) => {
                let error = format!("{:?}", self.reason());
                let name = error.split(' ').next().unwrap_or_default();
                let [fault, read, written] = [after_fault, after_read, after_written].map(|after| ms(*after));
                write!(f, "{fault:>8} {read:>10} {written:>11} {name:<16}")?;
            }
        }
        write!(f, " | {:>8}", ms(self.back))
    }
}
