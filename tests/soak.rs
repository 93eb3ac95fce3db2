//! However often a line is lost, and however many clients come and go, nothing is left behind: no thread, no
//! descriptor, no memory.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/proc.rs"]
mod proc;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{BareServer, LONG, MS, Nobody, loopback, quick, read_head, wait_for};
use tautline::{Client, ConnectionConfig, DisconnectReason, Error, Event, HeartbeatConfig, TlsConfig};
use tungstenite::protocol::frame::coding::CloseCode;

/// How much more memory may be in use after 10,000 reconnects, or 2,000 clients, than after the first few hundred: 26
/// bytes each, or 131. Measured was less than 100 KiB.
const TOLERATED_KIB: u64 = 256;

/// The tests look at the whole process, so one runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the process holds. Elsewhere than on Linux nobody looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Holds {
    /// The library's own.
    threads: usize,
    descriptors: usize,
}

impl Holds {
    #[cfg(target_os = "linux")]
    fn now() -> Self {
        Self { threads: proc::threads().len(), descriptors: proc::descriptors() }
    }

    #[cfg(not(target_os = "linux"))]
    fn now() -> Self {
        Self::default()
    }

    /// What is held once nothing changes any more: the servers have noticed that their clients are gone.
    fn at_rest() -> Self {
        let mut before = Self::now();
        let mut same = 0;
        common::eventually("rest", || {
            std::thread::sleep(10 * MS);
            let now = Self::now();
            same = if now == before { same + 1 } else { 0 };
            before = now;
            same == 5
        });
        before
    }
}

#[cfg(target_os = "linux")]
use proc::resident_kib;

#[cfg(not(target_os = "linux"))]
fn resident_kib() -> u64 {
    0
}

/// How a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With a close frame.
    Goodbye,
    Reset,
    /// The upgrade is refused.
    Refusal,
    /// Silence, until the heartbeat notices.
    Stall,
}

/// How many messages a server of these hears before it ends the connection.
const HEARD: usize = 3;

fn converse(mut stream: Box<dyn Stream>, tcp: &TcpStream, end: End) {
    if matches!(end, End::Refusal) {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    // The client may have given up by now.
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    for _ in 0..HEARD {
        let Ok(message) = socket.read() else { return };
        if message.is_text() && socket.send(message).is_err() {
            return;
        }
    }
    match end {
        End::Goodbye => {
            let frame =
                tungstenite::protocol::CloseFrame { code: CloseCode::Again, reason: "in turn".into() };
            let _ = socket.close(Some(frame));
            while socket.read().is_ok() {}
        }
        End::Reset => socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)).unwrap(),
        // What arrives is taken, and nothing is answered.
        End::Stall => while socket.get_mut().read(&mut [0; 512]).is_ok_and(|n| n > 0) {},
        End::Refusal => {}
    }
}

/// A server on which every connection ends so.
fn server(end: End, tls: bool) -> BareServer {
    serving(tls, move |stream, tcp| converse(stream, tcp, end))
}

/// A server that echoes until the client says "go on"; then it ends the connection.
fn rest(tls: bool) -> BareServer {
    serving(tls, |stream, _| {
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        while let Ok(message) = socket.read() {
            let done = message.to_text().is_ok_and(|text| text == "go on");
            if done || (message.is_text() && socket.send(message).is_err()) {
                return;
            }
        }
    })
}

/// TCP, or TLS over it.
trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// Calls `serve` for one connection after the other, with the TCP connection beneath.
fn serving(tls: bool, serve: impl Fn(Box<dyn Stream>, &TcpStream) + Send + 'static) -> BareServer {
    let acceptor = tls.then(common::tls_acceptor);
    BareServer::start(move |_, stream| {
        let tcp = stream.try_clone().unwrap();
        // A connection that a client has forgotten fails the test, and does not hang it.
        tcp.set_read_timeout(Some(LONG)).unwrap();
        match &acceptor {
            None => serve(Box::new(stream), &tcp),
            Some(acceptor) => {
                if let Ok(stream) = acceptor.accept(stream) {
                    serve(Box::new(stream), &tcp);
                }
            }
        }
    })
}

fn secure(server: &BareServer) -> String {
    server.url().replace("ws://127.0.0.1", "wss://localhost")
}

/// Trusts the servers.
fn trusting() -> TlsConfig {
    TlsConfig::default().root(tautline::Certificate::from_pem(include_bytes!("data/ca.pem")))
}

/// What the losses of a client were.
#[derive(Debug, Default)]
struct Losses {
    goodbyes: usize,
    breaks: usize,
    refusals: usize,
    nobody: usize,
    stalls: usize,
}

impl Losses {
    fn count(&mut self, reason: &DisconnectReason) {
        match reason {
            DisconnectReason::ClosedByServer(_) => self.goodbyes += 1,
            DisconnectReason::ConnectFailed(Error::UpgradeRejected(_)) => self.refusals += 1,
            DisconnectReason::ConnectFailed(Error::Connect { .. }) => self.nobody += 1,
            DisconnectReason::Lost(Error::HeartbeatTimeout { .. }) => self.stalls += 1,
            _ => self.breaks += 1,
        }
    }

    fn all(&self) -> usize {
        self.goodbyes + self.breaks + self.refusals + self.nobody + self.stalls
    }
}

/// A client that is sent to one server after the other; while it `rests`, to the one that keeps it.
struct Wanderer {
    client: Client,
    rests: Arc<AtomicBool>,
    resting_place: SocketAddr,
    losses: Losses,
}

impl Wanderer {
    fn start(urls: Vec<String>, resting_place: SocketAddr) -> Self {
        let rests = Arc::new(AtomicBool::new(false));
        let (resting, turn) = (Arc::clone(&rests), AtomicUsize::new(0));
        let heartbeat = HeartbeatConfig::default().interval(5 * MS).timeout(10 * MS);
        let client = Client::builder(quick("ws://h").heartbeat(heartbeat).tls(trusting()))
            .resolver(loopback)
            .fetch(move |mut request| {
                request.url = if resting.load(SeqCst) {
                    format!("ws://{resting_place}")
                } else {
                    urls[turn.fetch_add(1, SeqCst) % urls.len()].clone()
                };
                Ok(request)
            })
            .start()
            .unwrap();
        Self { client, rests, resting_place, losses: Losses::default() }
    }

    /// Loses the line until it has been lost so often in all, and comes to rest. Returns what the process holds then.
    fn wander(&mut self, losses: usize) -> (Holds, u64) {
        self.rests.store(false, SeqCst);
        self.client.send("go on").unwrap();
        loop {
            match self.client.events().recv_timeout(LONG).expect("the line is stuck") {
                Event::Disconnected { reason, .. } => {
                    self.losses.count(&reason);
                    if self.losses.all() >= losses {
                        self.rests.store(true, SeqCst);
                    }
                }
                Event::Connected { handshake, .. } => {
                    if handshake.address == Some(self.resting_place) && self.rests.load(SeqCst) {
                        break;
                    }
                    for _ in 0..HEARD {
                        self.client.send("one of some").unwrap();
                    }
                }
                _ => {}
            }
        }
        // The dial thread's end, and the servers'.
        (Holds::at_rest(), resident_kib())
    }
}

fn address(server: &BareServer) -> SocketAddr {
    server.url().strip_prefix("ws://").unwrap().parse().unwrap()
}

/// One client, lost `all` times in every way there is. Returns the memory in use after `first` of them, and after all.
fn reconnects(first: usize, all: usize) -> (u64, u64) {
    let _alone = alone();
    let ends = [End::Goodbye, End::Reset, End::Refusal, End::Stall];
    let plain = ends.map(|end| server(end, false));
    let over_tls = ends.map(|end| server(end, true));
    let rest = rest(false);
    let nobody = Nobody::new();
    let urls = plain.iter().map(BareServer::url).chain(over_tls.iter().map(secure));
    let urls = urls.chain([nobody.url()]).collect();

    let without = Holds::at_rest();
    let start = Instant::now();
    let mut wanderer = Wanderer::start(urls, address(&rest));
    let (before, kib_before) = wanderer.wander(first);
    println!("after {first} reconnects: {before:?}, {kib_before} KiB");
    let (after, kib_after) = wanderer.wander(all);
    println!("after {all} reconnects: {after:?}, {kib_after} KiB, {:?}", start.elapsed());
    println!("{:?}, {:?}", wanderer.losses, wanderer.client.stats());
    assert_eq!(after, before);
    let each = all / 9 / 2;
    let Losses { goodbyes, breaks, refusals, nobody, stalls } = &wanderer.losses;
    for count in [goodbyes, breaks, refusals, nobody, stalls] {
        assert!(*count >= each, "{:?}", wanderer.losses);
    }
    let _ = wanderer.client.close();
    drop(wanderer);
    assert_eq!(Holds::at_rest(), without, "with the client, everything of it is gone");
    (kib_before, kib_after)
}

/// Clients that come and go in every way there is, so many of them. Returns the memory in use after `first` of them, and
/// after all.
fn clients(first: usize, all: usize) -> (u64, u64) {
    let _alone = alone();
    let (plain, over_tls) = (rest(false), rest(true));
    let silent = serving(false, |mut stream, _| while stream.read(&mut [0; 512]).is_ok_and(|n| n > 0) {});
    let nobody = Nobody::new();
    let tls = trusting();
    let talk = |client: Client| {
        client.send("hello").unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("hello"));
        client
    };
    let come_and_go = |n: usize| match n % 8 {
        0 => drop(talk(Client::connect(quick(&plain.url())).unwrap())),
        1 => assert!(talk(Client::connect(quick(&plain.url())).unwrap()).close().is_empty()),
        2 => drop(talk(Client::connect(quick(&plain.url())).unwrap()).terminate()),
        3 => {
            let config = ConnectionConfig::new(secure(&over_tls)).tls(tls.clone());
            drop(talk(Client::builder(config).resolver(loopback).connect().unwrap()));
        }
        4 => drop(Client::connect(quick(&nobody.url())).unwrap_err()),
        5 => {
            let client = Client::start(quick(&nobody.url())).unwrap();
            client.send("never written").unwrap();
            wait_for(&client, common::disconnected);
        }
        6 => {
            let client = Client::start(quick(&silent.url())).unwrap();
            client.send("never written").unwrap();
            assert_eq!(client.close().never_written.len(), 1);
        }
        // Nobody trusts that server by himself.
        _ => {
            let untrusted = Client::builder(secure(&over_tls)).resolver(loopback).connect();
            assert!(matches!(untrusted, Err(Error::Tls { .. })), "{untrusted:?}");
        }
    };

    let without = Holds::at_rest();
    let start = Instant::now();
    (0..first).for_each(come_and_go);
    let (before, kib_before) = (Holds::at_rest(), resident_kib());
    println!("after {first} clients: {before:?}, {kib_before} KiB");
    (first..all).for_each(come_and_go);
    let (after, kib_after) = (Holds::at_rest(), resident_kib());
    println!("after {all} clients: {after:?}, {kib_after} KiB, {:?}", start.elapsed());
    assert_eq!((before, after), (without, without));
    (kib_before, kib_after)
}

/// Runs the test of this name in a process whose allocator has one arena: with one for each thread, what it keeps to
/// itself varies by megabytes, and hides what is lost.
fn assert_kept(test: &str, work: impl FnOnce() -> (u64, u64)) {
    const ARENAS: &str = "MALLOC_ARENA_MAX";
    if std::env::var(ARENAS).as_deref() == Ok("1") {
        let (before, after) = work();
        assert!(after <= before + TOLERATED_KIB, "{before} KiB have become {after} KiB");
        return;
    }
    let _alone = alone();
    let mut again = Command::new(std::env::current_exe().unwrap());
    let again = again.args([test, "--exact", "--ignored", "--nocapture"]).env(ARENAS, "1");
    assert!(again.status().unwrap().success(), "see above");
}

#[test]
fn some_reconnects_leave_no_thread_and_no_descriptor_behind() {
    reconnects(18, 60);
}

#[test]
fn some_clients_leave_no_thread_and_no_descriptor_behind() {
    clients(8, 16);
}

#[test]
#[ignore = "takes minutes: 10,000 reconnects"]
fn ten_thousand_reconnects_leave_nothing_behind() {
    assert_kept("ten_thousand_reconnects_leave_nothing_behind", || reconnects(500, 10_500));
}

#[test]
#[ignore = "takes minutes: 2,000 clients"]
fn two_thousand_clients_leave_nothing_behind() {
    assert_kept("two_thousand_clients_leave_nothing_behind", || clients(200, 2_200));
}
