//! A line between two servers that are the test itself, and a protocol that does what they say.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tautline::{
    Attempt, Client, ConnectionConfig, Context, Error, Handshake, HeartbeatConfig, Message, Outgoing,
    Protocol, QueueLimit, ReconnectConfig, RequestId, UpgradeRequest,
};

use crate::common::{
    self, CLOSE, LONG, MS, PING, TEXT, accept_raw, eventually, frame, moved, read_frame, wait_for,
};
#[cfg(target_os = "linux")]
use crate::proc;

/// Nothing that is due then comes up in these tests.
pub(crate) const AGES: Duration = Duration::from_secs(3600);

/// The timers of [`Obedient`].
pub(crate) const TICK: u32 = 1;
pub(crate) const LATER: u32 = 2;

/// Does what a server says, and delivers what it does not know. It is ready as soon as it is open, or where it moves to
/// at the word.
pub(crate) struct Obedient {
    /// It is ready at the word only, wherever it is.
    pub(crate) waits: bool,
    /// Where a move goes to.
    pub(crate) elsewhere: String,
    /// The number of the I/O thread.
    pub(crate) thread: Arc<AtomicU32>,
    /// What it tells the test.
    pub(crate) tell: Sender<String>,
    /// The test lets it go on.
    pub(crate) go_on: Receiver<()>,
    /// What it does when it may.
    pub(crate) later: String,
    /// The last request.
    pub(crate) asked: Option<RequestId>,
}

impl Obedient {
    pub(crate) fn obey(&mut self, cx: &mut Context<'_>, said: &str) {
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
pub(crate) fn this_thread() -> u32 {
    let path = fs::read_link("/proc/thread-self").unwrap_or_default();
    path.file_name().and_then(|name| name.to_str()?.parse().ok()).unwrap_or_default()
}

/// A server that the test plays.
pub(crate) struct Host(pub(crate) TcpListener);

impl Host {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // What a server does not read must not vanish in its system.
        socket2::SockRef::from(&listener).set_recv_buffer_size(64 << 10).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    /// The next connection, not upgraded.
    pub(crate) fn accept_tcp(&self) -> TcpStream {
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
    pub(crate) fn accept(&self) -> Peer {
        Peer(accept_raw(self.accept_tcp()))
    }
}

/// The server's end of a connection.
pub(crate) struct Peer(pub(crate) TcpStream);

impl Peer {
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the client takes it");
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.write(&frame(0x80 | TEXT, text.as_bytes()));
    }

    /// The next frame; a ping is answered, and passed over.
    pub(crate) fn hear(&mut self) -> (u8, Vec<u8>) {
        loop {
            match read_frame(&mut self.0).expect("the client says something") {
                (PING, payload) => self.pong(&payload),
                said => return said,
            }
        }
    }

    pub(crate) fn pong(&mut self, payload: &[u8]) {
        self.write(&frame(0x8A, payload));
    }

    pub(crate) fn hear_text(&mut self) -> String {
        let (opcode, payload) = self.hear();
        assert_eq!(opcode, TEXT);
        String::from_utf8(payload).unwrap()
    }

    pub(crate) fn hear_close(&mut self) {
        assert_eq!(self.hear(), (CLOSE, 1000_u16.to_be_bytes().to_vec()));
    }

    pub(crate) fn answer_close(&mut self) {
        self.write(&common::close_frame(1000, ""));
    }

    /// Answers pings and a close on a thread of its own, until the connection ends.
    pub(crate) fn attend(&self) {
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
    pub(crate) fn assert_end(self, what: &str) {
        assert_end(self.0, what);
    }
}

/// The client ends this connection.
pub(crate) fn assert_end(mut stream: TcpStream, what: &str) {
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
pub(crate) fn config(host: &Host) -> ConnectionConfig {
    ConnectionConfig::new(host.url())
        .reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
        .heartbeat(HeartbeatConfig::default().interval(AGES).timeout(AGES))
        .login_timeout(AGES)
        .close_timeout(AGES)
}

/// So many messages fill the queue of [`slow`].
pub(crate) const FULL: usize = 10;

/// An application that takes nothing unless the test does; where there are heartbeats, a silent server is soon dead.
pub(crate) fn slow(host: &Host) -> ConnectionConfig {
    let heartbeat = HeartbeatConfig::default().interval(AGES).timeout(100 * MS);
    config(host).events(QueueLimit::new(FULL, 1 << 20)).heartbeat(heartbeat)
}

/// A line between two servers.
pub(crate) struct Scene {
    pub(crate) client: Client,
    pub(crate) old: Host,
    pub(crate) new: Host,
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "only Linux says what a thread has used")
    )]
    pub(crate) thread: Arc<AtomicU32>,
    pub(crate) told: Receiver<String>,
    pub(crate) go_on: Sender<()>,
}

impl Scene {
    /// An open line to a server, and that server's end of it.
    pub(crate) fn open(config: impl FnOnce(&Host) -> ConnectionConfig) -> (Self, Peer) {
        let (scene, peer) = Self::log_in(config, false);
        scene.client.wait_ready(LONG).unwrap();
        (scene, peer)
    }

    /// The same; with `waits`, the line is not ready yet.
    pub(crate) fn log_in(config: impl FnOnce(&Host) -> ConnectionConfig, waits: bool) -> (Self, Peer) {
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
    pub(crate) fn begin(&self, old: &mut Peer) -> Peer {
        old.say("move");
        self.new.accept()
    }

    /// The line moves; the old server has heard the close frame, and not answered it yet.
    pub(crate) fn moves(&self, old: &mut Peer) -> Peer {
        let mut new = self.begin(old);
        new.say("ready");
        old.hear_close();
        wait_for(&self.client, moved);
        new
    }

    pub(crate) fn next_message(&self) -> Message {
        self.client.recv_timeout(LONG).expect("a message")
    }

    pub(crate) fn told(&self) -> String {
        self.told.recv_timeout(LONG).expect("the protocol tells something")
    }

    /// The server sends numbered messages, three times as many as the application's queue holds; it is full then, and
    /// reading is paused. `before`: as many were said before.
    pub(crate) fn flood(&self, peer: &mut Peer, before: u64) {
        (0..3 * FULL).for_each(|n| peer.say(&n.to_string()));
        eventually("a full queue", || self.client.stats().messages_received == before + FULL as u64);
    }

    /// The application takes those messages.
    pub(crate) fn take_flood(&self) {
        for n in 0..3 * FULL {
            assert_eq!(self.next_message().as_text(), Some(&*n.to_string()));
        }
    }

    /// Many heartbeats later, the line still stands.
    pub(crate) fn assert_not_judged(&self, what: &str) {
        let before = self.client.stats().heartbeats;
        let count = |stats: tautline::Stats| stats.heartbeats - before;
        eventually("heartbeats, or a loss", || {
            count(self.client.stats()) >= 20 || self.client.stats().disconnects > 0
        });
        let lost = self.client.stats().disconnects > 0;
        assert!(!lost, "{what}: {}", wait_for(&self.client, common::disconnected).0);
    }

    /// The protocol's timer of 5 ms runs out so many times, and nothing else is told.
    pub(crate) fn ticks(&self, count: usize) {
        for _ in 0..count {
            let told = self.told.recv_timeout(LONG).expect("the connection of the timer is gone");
            assert!(told.ends_with("on 1"), "{told}");
        }
    }

    /// The I/O thread sleeps, but for a few looks.
    #[cfg(target_os = "linux")]
    pub(crate) fn assert_no_spin(&self, situation: &str) {
        let ticks = || proc::threads()[&self.thread.load(SeqCst)].ticks;
        let before = ticks();
        // It is the one thing that has to be sat out.
        thread::sleep(Duration::from_secs(1));
        let used = ticks() - before;
        assert!(used <= 5, "{situation}: {used}0 ms of the processor in a second in which nothing happens");
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn assert_no_spin(&self, _: &str) {}
}
