//! A line that moves from one connection to another, over real sockets: the test is both servers.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/proc.rs"]
mod proc;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use common::{LONG, accept_raw, frame, read_frame, wait_for};
use tautline::{
    Accepted, Attempt, Client, ConnectionConfig, Context, Error, Event, HeartbeatConfig, Message, Protocol,
    ReconnectConfig, Request, Tickets,
};

const MS: Duration = Duration::from_millis(1);

/// Nothing that is due then comes up in these tests.
const AGES: Duration = Duration::from_secs(3600);

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;

/// Does what a server says, word by word, and delivers what it does not know.
struct Obedient {
    /// Where a move goes to.
    elsewhere: String,
    /// The number of the I/O thread.
    thread: Arc<AtomicU32>,
}

impl Obedient {
    fn obey(cx: &mut Context<'_>, text: &str) {
        let mut words = text.split(' ');
        match words.next() {
            Some("ready") => cx.ready(),
            Some("move") => cx.move_line(),
            _ => cx.deliver(text),
        }
    }
}

impl Protocol for Obedient {
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut Request) -> Result<(), Error> {
        if attempt.moving {
            request.url.clone_from(&self.elsewhere);
        }
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Accepted) -> Result<(), Error> {
        self.thread.store(this_thread(), SeqCst);
        if !cx.is_moving() {
            cx.ready();
        }
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_text() {
            Some(text) => Self::obey(cx, text),
            None => cx.deliver(message),
        }
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
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn url(&self) -> String {
        format!("ws://{}", self.0.local_addr().unwrap())
    }

    /// The next connection, upgraded.
    fn accept(&self) -> Peer {
        let start = Instant::now();
        loop {
            match self.0.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).unwrap();
                    stream.set_nodelay(true).unwrap();
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    stream.set_write_timeout(Some(LONG)).unwrap();
                    return Peer(accept_raw(stream));
                }
                Err(_) => assert!(start.elapsed() < LONG, "nobody has connected"),
            }
            thread::yield_now();
        }
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
                (PING, payload) => self.write(&frame(0x8A, &payload)),
                said => return said,
            }
        }
    }

    fn hear_close(&mut self) {
        assert_eq!(self.hear(), (CLOSE, 1000_u16.to_be_bytes().to_vec()));
    }

    fn answer_close(&mut self) {
        self.write(&common::close_frame(1000, ""));
    }
}

/// No heartbeat and no timeout comes by itself.
fn config(host: &Host) -> ConnectionConfig {
    ConnectionConfig::new(host.url())
        .reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
        .heartbeat(HeartbeatConfig::default().interval(AGES).timeout(AGES))
        .close_timeout(AGES)
}

/// A line between two servers.
struct Scene {
    client: Client,
    new: Host,
    thread: Arc<AtomicU32>,
}

impl Scene {
    /// An open line to a server, and that server's end of it.
    fn open(config: impl FnOnce(&Host) -> ConnectionConfig) -> (Self, Peer) {
        let (old, new) = (Host::new(), Host::new());
        let thread = Arc::new(AtomicU32::new(0));
        let protocol = Obedient { elsewhere: new.url(), thread: Arc::clone(&thread) };
        let client = Client::builder(config(&old)).protocol(protocol).start().unwrap();
        let peer = old.accept();
        client.wait_ready(LONG).unwrap();
        (Self { client, new, thread }, peer)
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
