//! A line that moves from one connection to another, over real sockets: the test is both servers.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/proc.rs"]
mod proc;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, accept_raw, eventually, frame, read_frame, wait_for};
use crossbeam_channel::{Receiver, Sender, unbounded};
use tautline::{
    Attempt, Client, ConnectionConfig, Context, Delivery, Error, Event, Handshake, HeartbeatConfig, Inbound,
    Message, Outgoing, Protocol, QueueLimit, ReconnectConfig, RequestId, Tickets, UpgradeRequest,
};

const MS: Duration = Duration::from_millis(1);

/// Nothing that is due then comes up in these tests.
const AGES: Duration = Duration::from_secs(3600);

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// The timers of [`Obedient`].
const TICK: u32 = 1;
const LATER: u32 = 2;

/// Does what a server says, and delivers what it does not know. It is ready as soon as it is open, or where it moves to
/// at the word.
struct Obedient {
    /// It is ready at the word only, wherever it is.
    waits: bool,
    /// Where a move goes to.
    elsewhere: String,
    /// The number of the I/O thread.
    thread: Arc<AtomicU32>,
    /// What it tells the test.
    tell: Sender<String>,
    /// The test lets it go on.
    go_on: Receiver<()>,
    /// What it does when it may.
    later: String,
    /// The last request.
    asked: Option<RequestId>,
}

impl Obedient {
    fn obey(&mut self, cx: &mut Context<'_>, said: &str) {
        let mut left = said;
        while !left.is_empty() {
            let (order, behind) = left.split_once(", ").unwrap_or((left, ""));
            let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
            let number = || rest.parse::<usize>().unwrap();
            let time = || Duration::from_millis(number() as u64);
            let everything = left.split_once(' ').map(|(_, everything)| everything.to_owned());
            left = behind;
            match word {
                "ready" => cx.ready(),
                "move" => cx.move_line(),
                "send" => cx.send(rest),
                "bytes" => cx.send(vec![7; number()]),
                "beats" => cx.set_beats(time(), time()),
                "tick" => cx.set_timer(TICK, time()),
                "close" => cx.close(4000, "as told"),
                // These do all that follows when the test lets them go on.
                "work" => {
                    let go_on = self.go_on.clone();
                    cx.work(1, move || {
                        go_on.recv_timeout(LONG).map_err(|_| Error::session("the test forgot the work"))?;
                        Ok(everything.unwrap_or_default().into())
                    });
                    return;
                }
                "timer" => {
                    self.later = everything.unwrap_or_default();
                    return cx.set_timer(LATER, MS);
                }
                "block" => drop(self.go_on.recv_timeout(LONG)),
                "part" => {
                    if let Some(request) = self.asked {
                        cx.answer_part(request, rest);
                    }
                }
                "tell" => drop(self.tell.send(rest.to_owned())),
                _ => cx.deliver(order),
            }
        }
    }
}

impl Protocol for Obedient {
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        if attempt.moving {
            request.url.clone_from(&self.elsewhere);
        }
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        self.thread.store(this_thread(), SeqCst);
        if !self.waits && !cx.is_moving() {
            cx.ready();
        }
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_text() {
            Some(text) => self.obey(cx, text),
            None => cx.deliver(message),
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        self.asked = outgoing.request.or(self.asked);
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        if id == TICK {
            let heard = if cx.missed_input() { "deaf" } else { "listening" };
            drop(self.tell.send(format!("{heard} on {}", cx.connection())));
            cx.set_timer(TICK, 5 * MS);
        } else if self.go_on.try_recv().is_ok() {
            let later = std::mem::take(&mut self.later);
            self.obey(cx, &later);
        } else {
            cx.set_timer(LATER, 5 * MS);
        }
        Ok(())
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        if payload == b"late" {
            drop(self.tell.send(format!("pong late on {}", cx.connection())));
        }
        Ok(())
    }

    fn on_work(&mut self, cx: &mut Context<'_>, _: u32, result: Result<Message, Error>) -> Result<(), Error> {
        self.obey(cx, result?.as_text().unwrap_or_default());
        Ok(())
    }

    fn on_withdrawn(&mut self, cx: &mut Context<'_>, _: RequestId) -> Result<(), Error> {
        cx.send("withdrawn");
        Ok(())
    }

    fn on_move_failed(&mut self, _: &mut Context<'_>, error: &Error) -> Result<(), Error> {
        drop(self.tell.send(format!("the move failed: {error}")));
        Ok(())
    }
}

/// What the system calls this thread; 0 where it does not say.
fn this_thread() -> u32 {
    let path = fs::read_link("/proc/thread-self").unwrap_or_default();
    path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or_default()
}

/// A server that the test plays.
struct Host(TcpListener);

impl Host {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // What a server does not read must not vanish in its system.
        socket2::SockRef::from(&listener).set_recv_buffer_size(64 << 10).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    /// The next connection, not upgraded.
    fn accept_tcp(&self) -> TcpStream {
        let start = Instant::now();
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    stream.set_write_timeout(Some(LONG)).unwrap();
                    return stream;
                }
                Err(_) => assert!(start.elapsed() < LONG, "nobody has connected"),
            }
            thread::yield_now();
        }
    }

    /// The next connection, upgraded.
    fn accept(&self) -> Peer {
        Peer(accept_raw(self.accept_tcp()))
    }
}

/// The server's end of a connection.
struct Peer(TcpStream);

impl Peer {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the client takes it");
    }

    fn say(&mut self, text: &str) {
        self.write(&frame(0x80 | TEXT, text.as_bytes()));
    }

    /// The next frame; a ping is answered, and passed over.
    fn hear(&mut self) -> (u8, Vec<u8>) {
        loop {
            match read_frame(&mut self.0).expect("the client says something") {
                (PING, payload) => self.pong(&payload),
                said => return said,
            }
        }
    }

    fn pong(&mut self, payload: &[u8]) {
        self.write(&frame(0x8A, payload));
    }

    fn hear_text(&mut self) -> String {
        let (opcode, payload) = self.hear();
        assert_eq!(opcode, TEXT);
        String::from_utf8(payload).unwrap()
    }

    fn hear_close(&mut self) {
        assert_eq!(self.hear(), (CLOSE, 1000_u16.to_be_bytes().to_vec()));
    }

    fn answer_close(&mut self) {
        self.write(&common::close_frame(1000, ""));
    }

    /// Answers pings and a close on a thread of its own, until the connection ends.
    fn attend(&self) {
        let mut stream = self.0.try_clone().unwrap();
        thread::spawn(move || {
            while let Some((opcode, payload)) = read_frame(&mut stream) {
                let answer = match opcode {
                    PING => frame(0x8A, &payload),
                    CLOSE => frame(0x88, &payload),
                    _ => continue,
                };
                if stream.write_all(&answer).is_err() || opcode == CLOSE {
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    return;
                }
            }
        });
    }

    /// The client ends the connection.
    fn assert_end(self, what: &str) {
        assert_end(self.0, what);
    }
}

/// The client ends this connection.
fn assert_end(mut stream: TcpStream, what: &str) {
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                assert!(error.kind() != ErrorKind::WouldBlock, "{what}: left open");
                return;
            }
        }
    }
}

/// No heartbeat and no timeout comes by itself.
fn config(host: &Host) -> ConnectionConfig {
    ConnectionConfig::new(host.url())
        .reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
        .heartbeat(HeartbeatConfig::default().interval(AGES).timeout(AGES))
        .login_timeout(AGES)
        .close_timeout(AGES)
}

/// So many messages fill the queue of [`slow`].
const FULL: usize = 10;

/// An application that takes nothing unless the test does; where there are heartbeats, a silent server is soon dead.
fn slow(host: &Host) -> ConnectionConfig {
    let heartbeat = HeartbeatConfig::default().interval(AGES).timeout(100 * MS);
    config(host).events(QueueLimit::new(FULL, 1 << 20)).heartbeat(heartbeat)
}

/// A line between two servers.
struct Scene {
    client: Client,
    old: Host,
    new: Host,
    thread: Arc<AtomicU32>,
    told: Receiver<String>,
    go_on: Sender<()>,
}

impl Scene {
    /// An open line to a server, and that server's end of it.
    fn open(config: impl FnOnce(&Host) -> ConnectionConfig) -> (Self, Peer) {
        let (scene, peer) = Self::log_in(config, false);
        scene.client.wait_ready(LONG).unwrap();
        (scene, peer)
    }

    /// The same; with `waits`, the line is not ready yet.
    fn log_in(config: impl FnOnce(&Host) -> ConnectionConfig, waits: bool) -> (Self, Peer) {
        let (old, new) = (Host::new(), Host::new());
        let thread = Arc::new(AtomicU32::new(0));
        let ((tell, told), (go_on, goes_on)) = (unbounded(), unbounded());
        let protocol = Obedient {
            waits,
            elsewhere: new.url(),
            thread: Arc::clone(&thread),
            tell,
            go_on: goes_on,
            later: String::new(),
            asked: None,
        };
        let client = Client::builder(config(&old)).protocol(protocol).start().unwrap();
        let peer = old.accept();
        (Self { client, old, new, thread, told, go_on }, peer)
    }

    /// The line begins to move: the new server's end.
    fn begin(&self, old: &mut Peer) -> Peer {
        old.say("move");
        self.new.accept()
    }

    /// The line moves; the old server has heard the close frame, and not answered it yet.
    fn moves(&self, old: &mut Peer) -> Peer {
        let mut new = self.begin(old);
        new.say("ready");
        old.hear_close();
        wait_for(&self.client, moved);
        new
    }

    fn next_message(&self) -> Message {
        self.client.recv_timeout(LONG).expect("a message")
    }

    fn told(&self) -> String {
        self.told.recv_timeout(LONG).expect("the protocol tells something")
    }

    /// The server sends numbered messages, three times as many as the application's queue holds; it is full then, and
    /// reading is paused. `before`: as many were said before.
    fn flood(&self, peer: &mut Peer, before: u64) {
        (0..3 * FULL).for_each(|n| peer.say(&n.to_string()));
        eventually("a full queue", || self.client.stats().messages_received == before + FULL as u64);
    }

    /// The application takes those messages.
    fn take_flood(&self) {
        for n in 0..3 * FULL {
            assert_eq!(self.next_message().as_text(), Some(&*n.to_string()));
        }
    }

    /// Many heartbeats later, the line still stands.
    fn assert_not_judged(&self, what: &str) {
        let before = self.client.stats().heartbeats;
        let count = |stats: tautline::Stats| stats.heartbeats - before;
        eventually("heartbeats, or a loss", || {
            count(self.client.stats()) >= 20 || self.client.stats().disconnects > 0
        });
        let lost = self.client.stats().disconnects > 0;
        assert!(!lost, "{what}: {}", wait_for(&self.client, common::disconnected).0);
    }

    /// The protocol's timer of 5 ms runs out so many times, and nothing else is told.
    fn ticks(&self, count: usize) {
        for _ in 0..count {
            let told = self.told.recv_timeout(LONG).expect("the connection of the timer is gone");
            assert!(told.ends_with("on 1"), "{told}");
        }
    }

    /// The I/O thread sleeps, but for a few looks.
    #[cfg(target_os = "linux")]
    fn assert_no_spin(&self, situation: &str) {
        let ticks = || proc::threads()[&self.thread.load(SeqCst)].ticks;
        let before = ticks();
        // It is the one thing that has to be sat out.
        thread::sleep(Duration::from_secs(1));
        let used = ticks() - before;
        assert!(used <= 5, "{situation}: {used}0 ms of the processor in a second in which nothing happens");
    }

    #[cfg(not(target_os = "linux"))]
    fn assert_no_spin(&self, _: &str) {}
}

fn moved(event: Event) -> Option<Tickets> {
    match event {
        Event::Moved { maybe_delivered, .. } => Some(maybe_delivered),
        Event::Disconnected { reason, .. } => panic!("{reason}"),
        _ => None,
    }
}

#[test]
fn all_that_the_old_server_sends_before_it_answers_the_close_arrives() {
    for (count, size) in [(100, 10_000), (1, 1 << 20), (3, 1 << 20)] {
        let (scene, mut old) = Scene::open(config);
        let _new = scene.moves(&mut old);
        let writer = thread::spawn(move || {
            for n in 0..count {
                old.write(&frame(0x82, &vec![n; size]));
            }
            old.answer_close();
            old
        });
        for n in 0..count {
            let message = scene.next_message();
            assert_eq!((message.len(), message.as_bytes()[0]), (size, n), "{count} of {size} bytes");
        }
        writer.join().unwrap();
    }
}

#[test]
fn a_server_beside_the_line_that_sends_much_or_half_a_message_makes_nobody_spin() {
    let (scene, mut old) = Scene::open(config);
    let mut new = scene.begin(&mut old);
    // More than one turn reads, and the last of it is half a message.
    let whole = |n| frame(0x82, &vec![n; 400_000]);
    let (half, rest) = (|n| whole(n)[..300_000].to_vec(), |n| whole(n)[300_000..].to_vec());
    new.write(&[whole(1), half(2)].concat());
    assert_eq!(scene.next_message().len(), 400_000);
    scene.assert_no_spin("half a message of the new server");
    new.write(&rest(2));
    assert_eq!(scene.next_message().as_bytes(), vec![2; 400_000]);
    new.say("ready");
    old.hear_close();
    wait_for(&scene.client, moved);
    old.write(&[whole(3), half(4)].concat());
    assert_eq!(scene.next_message().len(), 400_000);
    scene.assert_no_spin("half a message of the old server");
    old.write(&rest(4));
    assert_eq!(scene.next_message().as_bytes(), vec![4; 400_000]);
}

// A slow consumer.

#[test]
fn a_line_that_moves_while_reading_is_paused_is_not_judged() {
    for by in ["work", "timer"] {
        let (scene, mut old) = Scene::open(slow);
        let mut new = scene.begin(&mut old);
        new.say(&format!("beats 20, tell so, {by} ready"));
        assert_eq!(scene.told(), "so");
        scene.flood(&mut old, 2);
        scene.go_on.send(()).unwrap();
        old.hear_close();
        new.attend();
        scene.assert_not_judged(by);
        scene.take_flood();
        new.say("from the new one");
        assert_eq!(scene.next_message().as_text(), Some("from the new one"));
        assert_eq!(scene.client.stats().disconnects, 0);
    }
}

#[test]
fn a_line_that_moves_when_its_time_for_that_is_over_while_reading_is_paused_is_not_judged() {
    let (scene, mut old) = Scene::open(|host| slow(host).close_timeout(200 * MS));
    scene.client.send("not confirmed").unwrap();
    assert_eq!(old.hear_text(), "not confirmed");
    let mut new = scene.begin(&mut old);
    new.say("beats 20, ready, tell so");
    assert_eq!(scene.told(), "so");
    // The answer to the ping is behind what is not read.
    scene.flood(&mut old, 2);
    let payload = |stream: &mut TcpStream| match read_frame(stream) {
        Some((PING, payload)) => payload,
        other => panic!("{other:?}"),
    };
    let ping = payload(&mut old.0);
    old.pong(&ping);
    old.hear_close();
    new.attend();
    scene.assert_not_judged("after the close timeout");
}

#[test]
fn a_line_that_becomes_ready_while_reading_is_paused_is_not_judged() {
    for by in ["work", "timer"] {
        let (scene, mut old) = Scene::log_in(slow, true);
        old.say(&format!("beats 20, {by} ready"));
        scene.flood(&mut old, 1);
        scene.go_on.send(()).unwrap();
        scene.client.wait_ready(LONG).unwrap();
        old.attend();
        scene.assert_not_judged(by);
        scene.take_flood();
        old.say("still here");
        assert_eq!(scene.next_message().as_text(), Some("still here"));
        assert_eq!(scene.client.stats().disconnects, 0);
    }
}

#[test]
fn a_timer_of_the_new_connection_knows_that_nothing_is_read() {
    let (scene, mut old) = Scene::open(slow);
    let mut new = scene.begin(&mut old);
    new.say("tick 1, work ready");
    assert_eq!(scene.told(), "listening on 2");
    scene.flood(&mut old, 2);
    // One may have run out before the pause.
    let words = |number| -> Vec<String> {
        while scene.told.try_recv().is_ok() {}
        (0..=number).map(|_| scene.told()).skip(1).collect()
    };
    assert_eq!(words(3), ["deaf on 2"; 3], "the line is to move there");
    scene.go_on.send(()).unwrap();
    old.hear_close();
    assert_eq!(words(3), ["deaf on 2"; 3], "it has moved there");
    scene.take_flood();
    eventually("hearing again", || scene.told() == "listening on 2");
}

// The bounds of a connection.

/// The new server asks for so many messages of that size, and reads none of them.
fn asks_for_too_much(limit: QueueLimit, count: usize, size: usize) {
    let (scene, mut old) = Scene::open(|host| config(host).outbox(limit));
    let mut new = scene.begin(&mut old);
    for _ in 0..count {
        // When the move has failed, nobody takes it.
        let _ = new.0.write_all(&frame(0x80 | TEXT, format!("bytes {size}").as_bytes()));
    }
    let _ = new.0.write_all(&frame(0x80 | TEXT, b"tell all of it waits"));
    let told = scene.told();
    assert!(told.starts_with("the move failed"), "{told}");
    scene.client.send("still here").unwrap();
    assert_eq!(old.hear_text(), "still here");
    assert_eq!(scene.client.stats().disconnects, 0);
    new.assert_end("the new connection");
}

#[test]
fn the_bytes_that_wait_where_the_line_moves_to_are_bounded_by_the_outbox() {
    asks_for_too_much(QueueLimit::new(1000, 4 << 20), 64, 1 << 20);
}

#[test]
fn the_messages_that_wait_where_the_line_moves_to_are_bounded_by_the_outbox() {
    asks_for_too_much(QueueLimit::new(100, 64 << 20), 8_000, 4096);
}

#[test]
fn what_the_protocol_sends_where_the_line_moves_to_arrives_as_far_as_the_outbox_allows() {
    let (scene, mut old) = Scene::open(|host| config(host).outbox(QueueLimit::new(4, 4 << 20)));
    let mut new = scene.begin(&mut old);
    for _ in 0..4 {
        new.say("bytes 1000000");
    }
    new.say("ready, tell so");
    assert_eq!(scene.told(), "so");
    old.hear_close();
    scene.client.send("behind it").unwrap();
    for _ in 0..4 {
        let (opcode, payload) = new.hear();
        assert_eq!((opcode, payload.len()), (BINARY, 1_000_000));
    }
    assert_eq!(new.hear_text(), "behind it");
}

#[test]
fn a_new_server_that_takes_no_bytes_is_given_up_after_the_write_timeout() {
    // Else the login would time out.
    let (scene, mut old) =
        Scene::open(|host| config(host).write_timeout(100 * MS).login_timeout(Duration::from_secs(5)));
    let mut new = scene.begin(&mut old);
    new.say("bytes 8000000");
    let told = scene.told();
    assert!(told.contains("the server took no more bytes for 100ms"), "{told}");
    scene.client.send("still here").unwrap();
    assert_eq!(old.hear_text(), "still here");
    assert_eq!(scene.client.stats().disconnects, 0);
}

#[test]
fn large_messages_to_the_new_server_go_out_in_fragments() {
    let (scene, mut old) = Scene::open(|host| config(host).fragment(1000));
    let mut new = scene.begin(&mut old);
    new.say("bytes 2500");
    for expected in [(BINARY, 1000), (0, 1000), (0, 500)] {
        let (opcode, payload) = new.hear();
        assert_eq!((opcode, payload.len()), expected);
    }
    assert_eq!(scene.client.stats().disconnects, 0);
}

// Nobody spins.

#[test]
fn a_line_that_moves_with_a_queue_that_the_old_server_fills_makes_nobody_spin() {
    let (scene, mut old) = Scene::open(slow);
    let mut new = scene.begin(&mut old);
    (0..FULL).for_each(|n| old.say(&n.to_string()));
    eventually("a full queue", || scene.client.stats().messages_received == 1 + FULL as u64);
    new.say("from the new one");
    scene.assert_no_spin("the line is to move");
    for n in 0..FULL {
        assert_eq!(scene.next_message().as_text(), Some(&*n.to_string()));
    }
    assert_eq!(scene.next_message().as_text(), Some("from the new one"));
}

#[test]
fn a_line_that_moves_with_a_queue_that_the_new_server_fills_makes_nobody_spin() {
    let (scene, mut old) = Scene::open(slow);
    let mut new = scene.begin(&mut old);
    scene.flood(&mut new, 1);
    scene.assert_no_spin("the line is to move");
    scene.take_flood();
    old.say("still here");
    assert_eq!(scene.next_message().as_text(), Some("still here"));
}

#[test]
fn a_line_that_has_moved_with_a_full_queue_makes_nobody_spin() {
    let (scene, mut old) = Scene::open(slow);
    let _new = scene.moves(&mut old);
    scene.flood(&mut old, 2);
    scene.assert_no_spin("the line has moved");
    scene.take_flood();
}

/// A caller of `request_many` who does not take the answers, of which as many stand as may.
fn unanswered(scene: &Scene, old: &mut Peer) -> tautline::Answers {
    let answers = scene.client.request_many("all", LONG).unwrap();
    assert_eq!(old.hear_text(), "all");
    for n in 0..FULL {
        old.say(&format!("part {n}"));
    }
    eventually("a full queue", || scene.client.stats().messages_received >= FULL as u64);
    answers
}

#[test]
fn a_line_that_moves_with_answers_that_are_not_taken_makes_nobody_spin() {
    for inbound in [Inbound::Deliver, Inbound::Discard] {
        let (scene, mut old) = Scene::open(|host| slow(host).inbound(inbound));
        let mut new = scene.begin(&mut old);
        let answers = unanswered(&scene, &mut old);
        new.say("ready, tell so");
        scene.assert_no_spin(&format!("{inbound:?}, the line is to move"));
        let taken = answers.take(FULL).map(|answer| answer.unwrap().to_string());
        assert_eq!(taken.collect::<Vec<_>>(), (0..FULL).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(scene.told(), "so");
    }
}

#[test]
fn a_line_that_has_moved_with_answers_that_are_not_taken_makes_nobody_spin() {
    for inbound in [Inbound::Deliver, Inbound::Discard] {
        let (scene, mut old) = Scene::open(|host| slow(host).inbound(inbound));
        let mut new = scene.begin(&mut old);
        let answers = unanswered(&scene, &mut old);
        let mut answers = answers.map(|answer| answer.unwrap().to_string());
        // There is room for one, and so for the word.
        assert_eq!(answers.next().as_deref(), Some("0"));
        new.say("ready");
        old.hear_close();
        for n in FULL..3 * FULL {
            old.say(&format!("part {n}"));
        }
        scene.assert_no_spin(&format!("{inbound:?}, the line has moved"));
        for n in 1..3 * FULL {
            assert_eq!(answers.next(), Some(n.to_string()));
        }
    }
}

#[test]
fn answers_that_are_not_taken_push_back_also_where_messages_are_dropped() {
    let (scene, mut old) = Scene::open(|host| slow(host).inbound(Inbound::Discard));
    let answers = scene.client.request_many("all", LONG).unwrap();
    assert_eq!(old.hear_text(), "all");
    for n in 0..200 {
        old.say(&format!("part {n}"));
    }
    eventually("as many answers as may wait", || scene.client.stats().messages_received >= FULL as u64);
    // A heartbeat later all would be here, if nothing held them back.
    scene.client.reconnect_now();
    assert_eq!(read_frame(&mut old.0).unwrap().0, PING);
    scene.client.reconnect_now();
    eventually("the heartbeat", || scene.client.stats().heartbeats > 0);
    assert_eq!(scene.client.stats().messages_received, FULL as u64);
    let taken: Vec<_> = answers.take(200).map(|answer| answer.unwrap().to_string()).collect();
    assert_eq!(taken, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
}

// What belongs to which connection.

const MUCH: usize = 100_000;

/// The server sends much, and has as much sent to it.
fn exchange_much(peer: &mut Peer) {
    peer.write(&frame(0x82, &vec![1; MUCH]));
    peer.say(&format!("bytes {MUCH}"));
    assert_eq!(peer.hear().1.len(), MUCH);
}

/// At least so many bytes were counted in each direction; the counters never go back.
fn assert_counted(scene: &Scene, last: &mut (u64, u64), much: u64, what: &str) {
    eventually(what, || {
        let stats = scene.client.stats();
        let now = (stats.bytes_read, stats.bytes_written);
        assert!(now.0 >= last.0 && now.1 >= last.1, "{what}: {last:?}, and then {now:?}");
        *last = now;
        now.0.min(now.1) >= much * MUCH as u64
    });
}

#[test]
fn byte_counters_do_not_go_back_at_a_move() {
    let (scene, mut old) = Scene::open(config);
    let mut last = (0, 0);
    exchange_much(&mut old);
    assert_counted(&scene, &mut last, 1, "on the line");
    let _new = scene.moves(&mut old);
    assert_counted(&scene, &mut last, 1, "after the move");
    old.answer_close();
    old.assert_end("the old connection");
    assert_counted(&scene, &mut last, 1, "after the old connection's end");
    scene.client.terminate();
    assert_counted(&scene, &mut last, 1, "after the client's end");
}

#[test]
fn bytes_are_counted_on_every_connection_while_it_stands() {
    let (scene, mut old) = Scene::open(config);
    let mut last = (0, 0);
    let mut new = scene.begin(&mut old);
    exchange_much(&mut new);
    assert_counted(&scene, &mut last, 1, "where the line is to move");
    new.say("ready");
    old.hear_close();
    exchange_much(&mut new);
    assert_counted(&scene, &mut last, 2, "where it has moved");
    (0..2).for_each(|_| old.write(&frame(0x82, &vec![1; MUCH])));
    eventually("late bytes", || scene.client.stats().bytes_read >= 4 * MUCH as u64);
    scene.client.terminate();
    assert_counted(&scene, &mut last, 2, "after the client's end");
}

#[test]
fn bytes_of_a_move_that_failed_are_counted() {
    let (scene, mut old) = Scene::open(config);
    let mut new = scene.begin(&mut old);
    exchange_much(&mut new);
    drop(new);
    assert!(scene.told().starts_with("the move failed"));
    // The next turn counts them.
    scene.client.send("next").unwrap();
    assert_eq!(old.hear_text(), "next");
    eventually("a count", || scene.client.stats().messages_written == 1);
    let stats = scene.client.stats();
    assert!(stats.bytes_read.min(stats.bytes_written) >= MUCH as u64, "{stats:?}");
}

#[test]
fn a_request_that_the_old_server_has_is_not_withdrawn_from_the_new_one() {
    let (scene, mut old) = Scene::open(config);
    let answers = scene.client.request_many("all", LONG).unwrap();
    assert_eq!(old.hear_text(), "all");
    let mut new = scene.moves(&mut old);
    drop(answers);
    scene.client.send("next").unwrap();
    assert_eq!(new.hear_text(), "next");
}

// Everything together.

/// The request has ended without an answer.
fn assert_failed(mut answers: tautline::Answers, what: &str) {
    match answers.next() {
        Some(Err(error)) => assert!(!matches!(error, Error::Timeout { .. }), "{what}: the request hangs"),
        other => panic!("{what}: the request has {other:?}"),
    }
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The new server has TCP, and has not answered the upgrade.
    Dialling,
    LoggingIn,
    /// Ready, while the old server has not confirmed what went out there.
    Switching,
    /// The old server has not answered the close frame.
    Leaving,
}

const STAGES: [Stage; 4] = [Stage::Dialling, Stage::LoggingIn, Stage::Switching, Stage::Leaving];

impl Scene {
    /// A line at that stage of a move: both servers' ends. The old one has heard `before`, and a request.
    fn at(stage: Stage) -> (Self, Peer, TcpStream, tautline::Answers) {
        let (scene, mut old) = Self::open(|host| config(host).close_timeout(LONG / 4));
        scene.client.send("before").unwrap();
        assert_eq!(old.hear_text(), "before");
        let answers = scene.client.request_many("all", LONG).unwrap();
        assert_eq!(old.hear_text(), "all");
        old.say("move");
        let mut new = scene.new.accept_tcp();
        if stage != Stage::Dialling {
            new = accept_raw(new);
        }
        match stage {
            Stage::Dialling | Stage::LoggingIn => {}
            Stage::Switching => {
                new.write_all(&frame(0x81, b"ready")).unwrap();
                assert!(matches!(read_frame(&mut old.0), Some((PING, _))), "it asks for a confirmation");
            }
            Stage::Leaving => {
                new.write_all(&frame(0x81, b"ready")).unwrap();
                old.hear_close();
                wait_for(&scene.client, moved);
            }
        }
        (scene, old, new, answers)
    }
}

#[test]
fn the_end_of_the_client_ends_every_connection_at_each_stage_of_a_move() {
    type End = fn(Client);
    let ends: [(&str, End); 3] = [
        ("close", |client| drop(client.close())),
        ("terminate", |client| drop(client.terminate())),
        ("drop", drop),
    ];
    for stage in STAGES {
        for (how, end) in ends {
            let what = format!("{how}, {stage:?}");
            let (scene, old, new, answers) = Scene::at(stage);
            let events = scene.client.events().clone();
            let Scene { client, .. } = scene;
            let (ended, has_ended) = unbounded();
            let what_ends = what.clone();
            thread::spawn(move || {
                if how == "drop" {
                    // It is a handle, too.
                    drop(answers);
                    end(client);
                } else {
                    end(client);
                    assert_failed(answers, &what_ends);
                }
                ended.send(()).unwrap();
            });
            let new = Peer(new);
            old.attend();
            if stage != Stage::Dialling {
                new.attend();
            }
            assert!(
                has_ended.recv_timeout(LONG).is_ok(),
                "{what}: it does not return, or the request does not fail"
            );
            assert!(matches!(events.try_iter().last(), Some(Event::Closed { .. })), "{what}");
            old.assert_end(&what);
            new.assert_end(&what);
        }
    }
}

#[test]
fn an_old_server_that_dies_at_any_stage_of_a_move_costs_what_it_must() {
    for stage in STAGES {
        let (scene, old, new, answers) = Scene::at(stage);
        drop(old);
        match stage {
            Stage::Dialling | Stage::LoggingIn => {
                wait_for(&scene.client, common::disconnected);
                assert_end(new, "the new connection");
                let mut back = scene.old.accept();
                scene.client.send("back").unwrap();
                assert_eq!(back.hear_text(), "back");
            }
            Stage::Switching | Stage::Leaving => {
                if stage == Stage::Switching {
                    wait_for(&scene.client, moved);
                }
                let mut new = Peer(new);
                scene.client.send("elsewhere").unwrap();
                assert_eq!(new.hear_text(), "elsewhere");
                assert_eq!(scene.client.stats().disconnects, 0);
            }
        }
        assert_failed(answers, &format!("{stage:?}"));
    }
}

#[test]
fn a_new_server_that_dies_at_any_stage_of_a_move_costs_what_it_must() {
    for stage in STAGES {
        let (scene, mut old, new, mut answers) = Scene::at(stage);
        drop(new);
        if stage == Stage::Leaving {
            wait_for(&scene.client, common::disconnected);
            old.assert_end("the old connection");
            let mut back = scene.old.accept();
            scene.client.send("back").unwrap();
            assert_eq!(back.hear_text(), "back");
            assert_failed(answers, &format!("{stage:?}"));
        } else {
            assert!(scene.told().starts_with("the move failed"), "{stage:?}");
            scene.client.send("still here").unwrap();
            assert_eq!(old.hear_text(), "still here", "{stage:?}");
            old.say("part of it");
            assert_eq!(answers.next().unwrap().unwrap().as_text(), Some("of it"));
            assert_eq!(scene.client.stats().disconnects, 0);
        }
    }
}

/// Answers each message and, after a while, each ping; sends the line on now and then. Once it has moved, it still says
/// all that it has to say.
fn serve(mut stream: TcpStream, heard: &Sender<String>, moves: bool) {
    const ROUND_TRIP: Duration = Duration::from_millis(30);
    if moves && stream.write_all(&frame(0x81, b"ready")).is_err() {
        return;
    }
    let mut count = 0;
    while let Some((opcode, payload)) = read_frame(&mut stream) {
        let answer = match opcode {
            PING => {
                thread::sleep(ROUND_TRIP);
                frame(0x8A, &payload)
            }
            CLOSE => common::close_frame(1000, ""),
            _ => {
                let text = String::from_utf8(payload).unwrap();
                count += 1;
                let order = if count == 40 { frame(0x81, b"move") } else { Vec::new() };
                let answer = frame(0x81, format!("part {text}").as_bytes());
                heard.send(text.clone()).unwrap();
                [order, if text == "all" { answer } else { frame(0x81, text.as_bytes()) }].concat()
            }
        };
        if stream.write_all(&answer).is_err() || opcode == CLOSE {
            return;
        }
    }
}

#[test]
fn a_line_that_moves_on_and_on_under_a_slow_consumer_loses_nothing_on_either_way() {
    const COUNT: usize = 400;
    let (tell_heard, heard) = unbounded();
    let server = common::Server::start(move |n, stream| serve(accept_raw(stream), &tell_heard, n > 0));
    let (tell, _told) = unbounded();
    let protocol = Obedient {
        waits: false,
        elsewhere: server.url(),
        thread: Arc::default(),
        tell,
        go_on: unbounded().1,
        later: String::new(),
        asked: None,
    };
    // The heartbeats leave room for a few round trips, and the application takes longer than that.
    let heartbeat = HeartbeatConfig::default().interval(20 * MS).timeout(300 * MS);
    let config = ConnectionConfig::new(server.url())
        .reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
        .heartbeat(heartbeat)
        .delivery(Delivery::AtLeastOnce)
        .outbox(QueueLimit::new(32, 1 << 20))
        .events(QueueLimit::new(FULL, 1 << 20))
        .close_timeout(LONG);
    let client = Client::builder(config).protocol(protocol).connect().unwrap();
    let sender = client.clone();
    let sending = thread::spawn(move || {
        (0..COUNT).try_for_each(|n| sender.send_timeout(n.to_string(), LONG).map(drop))
    });
    let (mut got, mut moves) = (Vec::new(), 0);
    while got.len() < COUNT {
        match client.events().recv_timeout(LONG).expect("something") {
            Event::Message(message) => {
                got.push(message.to_string());
                if got.len() % 100 == 0 {
                    // It is busy elsewhere for longer than a silent server lives.
                    thread::sleep(500 * MS);
                }
            }
            Event::Moved { maybe_delivered, .. } => {
                assert!(maybe_delivered.is_empty());
                moves += 1;
            }
            Event::Disconnected { reason, .. } => {
                panic!("after {} messages and {moves} moves: {reason}", got.len())
            }
            _ => {}
        }
    }
    sending.join().unwrap().unwrap();
    let expected: Vec<_> = (0..COUNT).map(|n| n.to_string()).collect();
    assert_eq!(
        heard.try_iter().collect::<Vec<_>>(),
        expected,
        "the servers hear all of it once, and in order"
    );
    got.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert_eq!(got, expected, "all that they say arrives");
    assert!(moves >= 5, "{moves} moves");
    client.terminate();
}

// What nobody had listed.

#[test]
fn a_slow_consumer_loses_nothing_of_what_the_old_server_sends_late() {
    let (scene, mut old) = Scene::open(|host| slow(host).close_timeout(100 * MS));
    let mut new = scene.begin(&mut old);
    new.say("beats 20, ready");
    old.hear_close();
    new.attend();
    scene.flood(&mut old, 2);
    old.answer_close();
    // Many close timeouts later.
    scene.assert_not_judged("the old server's messages wait");
    scene.take_flood();
}

#[test]
fn a_login_is_not_judged_while_reading_is_paused() {
    let (scene, mut old) = Scene::log_in(|host| slow(host).login_timeout(200 * MS), true);
    old.say("tick 1");
    scene.flood(&mut old, 1);
    old.say("ready");
    scene.ticks(100);
    assert_eq!(scene.client.stats().attempts, 1, "{:?}", scene.client.state());
    scene.take_flood();
    scene.client.wait_ready(LONG).unwrap();
}

#[test]
fn the_login_of_a_move_is_not_judged_while_reading_is_paused() {
    let (scene, mut old) = Scene::open(|host| slow(host).login_timeout(200 * MS));
    old.say("tick 1");
    let mut new = scene.begin(&mut old);
    scene.flood(&mut old, 2);
    new.say("ready");
    scene.ticks(100);
    scene.take_flood();
    old.hear_close();
    scene.client.send("elsewhere").unwrap();
    assert_eq!(new.hear_text(), "elsewhere");
}

#[test]
fn what_the_new_server_says_in_the_moment_of_the_move_is_not_lost() {
    for last in [common::close_frame(1000, ""), Vec::new()] {
        let (scene, mut old) = Scene::open(config);
        scene.client.send("not confirmed").unwrap();
        assert_eq!(old.hear_text(), "not confirmed");
        let mut new = scene.begin(&mut old);
        old.say("timer tell inside, block");
        new.say("ready, tell so");
        assert_eq!(scene.told(), "so");
        assert!(matches!(read_frame(&mut old.0), Some((PING, _))), "it asks for a confirmation");
        // While the I/O thread is in a hook, the old server ends its connection, and the new one speaks.
        scene.go_on.send(()).unwrap();
        assert_eq!(scene.told(), "inside");
        new.say("early");
        old.write(&last);
        drop(old);
        scene.go_on.send(()).unwrap();
        let mut early = false;
        wait_for(&scene.client, |event| {
            early |= matches!(&event, Event::Message(message) if message.as_text() == Some("early"));
            moved(event)
        });
        new.say("late");
        // The message may stand before the event.
        assert!(early || scene.next_message().as_text() == Some("early"), "the message is lost");
    }
}

#[test]
fn a_move_that_begins_takes_nothing_from_what_the_old_server_of_the_last_one_still_sends() {
    const LATE: u8 = 100;
    let (scene, mut old) = Scene::open(config);
    let mut new = scene.moves(&mut old);
    new.say("move");
    let mut newest = scene.new.accept();
    let late: Vec<_> = (0..LATE).map(|n| frame(0x82, &[n; 100])).collect();
    let written = old.0.write_all(&late.concat());
    for n in 0..LATE {
        let message = scene.client.recv_timeout(LONG).ok();
        assert_eq!(message.map(|message| message.as_bytes()[0]), Some(n), "of {LATE}: {written:?}");
    }
    newest.say("ready");
    new.hear_close();
    scene.client.send("elsewhere").unwrap();
    assert_eq!(newest.hear_text(), "elsewhere");
}

#[test]
fn a_pong_of_the_old_server_reaches_the_protocol() {
    let (scene, mut old) = Scene::open(config);
    let _new = scene.moves(&mut old);
    old.pong(b"late");
    assert_eq!(scene.told(), "pong late on 1");
}

#[test]
fn a_close_of_the_new_connection_says_goodbye_there() {
    let (scene, mut old) = Scene::open(config);
    let mut new = scene.begin(&mut old);
    new.say("send bye, close");
    assert!(scene.told().starts_with("the move failed"));
    match read_frame(&mut new.0) {
        Some((TEXT, payload)) => assert_eq!(payload, b"bye"),
        other => panic!("{other:?} and no word of what was sent before the close"),
    }
    assert_eq!(read_frame(&mut new.0), Some((CLOSE, b"\x0F\xA0as told".to_vec())));
}

#[test]
fn a_new_server_that_breaks_the_rules_is_told_so() {
    let (scene, mut old) = Scene::open(config);
    let mut new = scene.begin(&mut old);
    new.write(&frame(0xC1, b"a reserved bit"));
    assert!(scene.told().starts_with("the move failed"));
    assert_eq!(read_frame(&mut new.0), Some((CLOSE, 1002_u16.to_be_bytes().to_vec())));
}
