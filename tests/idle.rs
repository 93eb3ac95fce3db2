//! Idle means idle: no wake-up between two heartbeats, in any state, whatever the peer does or leaves undone.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/full.rs"]
mod full;
#[path = "common/proc.rs"]
mod proc;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::{
    LONG, MS, Nobody, Server, accept, accept_raw, disconnected, eventually, frame, good_answer, listen,
};
use common::{read_frame, read_head, wait_for};
use crossbeam_channel::{Receiver, Sender};
use full::Full;
use proc::Thread;
use serde_json::json;
use tautline::ConnectionState::{self, Authenticated, Closing, Connected, Connecting, Disconnected};
use tautline::{
    Client, ConnectionConfig, Context, Error, Handshake, HeartbeatConfig, JsonSession, Loss, Protocol,
    QueueLimit, ReconnectConfig, Retry, Undelivered,
};

/// Nothing that is due then comes up in this test.
const AGES: Duration = Duration::from_secs(3600);

/// How long nothing may happen. It is the one thing that has to be sat out.
const SPAN: Duration = Duration::from_secs(1);

/// So far apart are the looks at whether the application takes its messages, once it has not for a while.
const LOOK: Duration = Duration::from_millis(64);

/// In these situations the client looks now and then.
const LOOKS: &str = "paused";

/// Clients in all kinds of situations, and which thread belongs to which.
#[derive(Default)]
struct Scene {
    servers: Vec<Server>,
    clients: Vec<Client>,
    situations: BTreeMap<u32, &'static str>,
    closing: Vec<JoinHandle<Undelivered>>,
}

impl Scene {
    /// The URL of a new server.
    fn serve(&mut self, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
        self.servers.push(Server::start(move |_, stream| serve(stream)));
        self.servers.last().unwrap().url()
    }

    /// This client is in that situation, or about to be.
    fn add(&mut self, situation: &'static str, client: &Client, state: ConnectionState) {
        eventually(situation, || client.state() == state);
        for number in proc::threads().into_keys() {
            self.situations.entry(number).or_insert(situation);
        }
        self.clients.push(client.clone());
    }

    fn looks(&self, number: u32) -> bool {
        self.situations.get(&number).is_some_and(|situation| situation.starts_with(LOOKS))
    }

    /// Waits until everything has come to rest: the same picture again and again, and all asleep.
    fn rest(&self) -> BTreeMap<u32, Thread> {
        let start = Instant::now();
        let (mut before, mut same) = (proc::threads(), 0);
        // By then, the looks have become rare.
        while same < 8 {
            thread::sleep(30 * MS);
            let now = proc::threads();
            let rests = |(number, thread): (&u32, &Thread)| {
                self.looks(*number) || (thread.asleep && before.get(number) == Some(thread))
            };
            let restless = now.iter().find(|entry| !rests(*entry)).map(|(number, _)| self.situations[number]);
            assert!(start.elapsed() < LONG, "no rest while {restless:?}");
            same = if restless.is_none() { same + 1 } else { 0 };
            before = now;
        }
        before
    }

    /// No thread wakes up, but for those that look now and then.
    fn assert_idle(&self) {
        let before = self.rest();
        let since = Instant::now();
        thread::sleep(SPAN);
        let after = proc::threads();
        let looks = u64::try_from(since.elapsed().as_millis() / LOOK.as_millis()).unwrap() + 1;
        assert_eq!(after.len(), before.len());
        let mut looking = 0;
        for (number, after) in after {
            let (before, situation) = (&before[&number], self.situations[&number]);
            if self.looks(number) {
                let looked = after.sleeps - before.sleeps;
                assert!((1..=looks).contains(&looked), "{situation}: {looked} looks, not {looks}");
                let ticks = after.ticks - before.ticks;
                assert!(ticks <= 2, "{situation}: {ticks}0 ms of the processor for {looked} looks");
                looking += 1;
            } else {
                assert_eq!(after, *before, "{situation}");
            }
        }
        assert_eq!(looking, 2);
    }

    /// Ends all clients, and shows that nothing of them is left once `held` is let go: what hangs in the application's
    /// code is not ours to end.
    fn end<T>(self, held: T) {
        for client in &self.clients {
            let _ = client.terminate();
        }
        for closing in self.closing {
            let _ = closing.join().unwrap();
        }
        drop(held);
        eventually("the end of every thread", || proc::threads().is_empty());
    }
}

/// No attempt, no heartbeat and no timeout comes soon.
fn config(url: &str) -> ConnectionConfig {
    let reconnect = ReconnectConfig::default().initial_delay(AGES).max_delay(AGES);
    let heartbeat = HeartbeatConfig::default().interval(AGES).timeout(AGES);
    ConnectionConfig::new(url)
        .reconnect(reconnect)
        .heartbeat(heartbeat)
        .connect_timeout(AGES)
        .login_timeout(AGES)
        .write_timeout(AGES)
        .close_timeout(AGES)
        .max_age(AGES)
        .outbox(QueueLimit::new(16, 64 << 20))
}

/// Reads, and says nothing.
fn outlast(mut stream: impl Read) {
    while stream.read(&mut [0; 512]).is_ok_and(|n| n > 0) {}
}

/// Does not even read.
fn ignore(stream: TcpStream) {
    thread::park_timeout(2 * LONG);
    drop(stream);
}

/// Whether TCP waits for an answer of that address.
fn waits_for_tcp(address: SocketAddr) -> bool {
    let remote = format!(":{:04X} 02 ", address.port());
    fs::read_to_string("/proc/self/net/tcp").unwrap().contains(&remote)
}

/// Tries again in ages.
struct Patient;
impl Protocol for Patient {
    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        Ok(())
    }

    fn on_down(&mut self, _: &Loss<'_>) -> Retry {
        Retry::After(Duration::MAX)
    }
}
/// DISCONNECTED: the next attempt is far away.
fn down(scene: &mut Scene) {
    let nobody = Nobody::new();
    let client = Client::start(config(&nobody.url())).unwrap();
    wait_for(&client, disconnected);
    client.send("waits").unwrap();
    scene.add("backing off", &client, Disconnected);

    let client = Client::builder(config(&nobody.url())).protocol(Patient).start().unwrap();
    wait_for(&client, disconnected);
    scene.add("told to retry in ages", &client, Disconnected);

    let url = scene.serve(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 503 Busy\r\nRetry-After: 3600\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let client = Client::start(ConnectionConfig::new(url)).unwrap();
    wait_for(&client, disconnected);
    scene.add("asked to come back in an hour", &client, Disconnected);
}

/// CONNECTING: every step of an attempt, hanging. Dropping what is returned ends what hangs in the application's code.
fn dialling(scene: &mut Scene) -> (Full, Sender<()>) {
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let (reached_in, reached) = crossbeam_channel::bounded(1);

    let (inside, hanging) = (reached_in.clone(), held.clone());
    let client = Client::builder(config("ws://gateway.invalid")).resolver(move |_, _| {
        inside.send(()).unwrap();
        let _ = hanging.recv();
        Err(std::io::Error::other("released"))
    });
    let client = client.start().unwrap();
    reached.recv_timeout(LONG).unwrap();
    client.send("waits").unwrap();
    scene.add("looking up", &client, Connecting);

    let inside = reached_in.clone();
    let client = Client::builder(config("ws://gateway.invalid")).fetch(move |request| {
        inside.send(()).unwrap();
        let _ = held.recv();
        Ok(request)
    });
    let client = client.start().unwrap();
    reached.recv_timeout(LONG).unwrap();
    scene.add("fetching", &client, Connecting);

    let full = Full::listen();
    let client = Client::start(config(&format!("ws://{}", full.address))).unwrap();
    eventually("TCP", || waits_for_tcp(full.address));
    scene.add("waiting for TCP", &client, Connecting);

    let asked = reached_in.clone();
    let url = scene.serve(move |mut stream| {
        stream.read_exact(&mut [0; 100]).unwrap();
        asked.send(()).unwrap();
        outlast(stream);
    });
    #[cfg(feature = "native-tls")]
    {
        let client = Client::start(config(&url.replace("ws", "wss"))).unwrap();
        reached.recv_timeout(LONG).unwrap();
        scene.add("in the TLS handshake", &client, Connecting);
    }
    let client = Client::start(config(&url)).unwrap();
    reached.recv_timeout(LONG).unwrap();
    scene.add("waiting for the answer to the upgrade", &client, Connecting);

    let url = scene.serve(move |mut stream| {
        let answer = good_answer(&read_head(&mut stream), "");
        stream.write_all(&answer.as_bytes()[..answer.len() / 2]).unwrap();
        reached_in.send(()).unwrap();
        outlast(stream);
    });
    let client = Client::start(config(&url)).unwrap();
    reached.recv_timeout(LONG).unwrap();
    scene.add("in the middle of the answer to the upgrade", &client, Connecting);
    (full, release)
}

/// CONNECTED and AUTHENTICATED: there is nothing to do but to wait for the next heartbeat.
fn open(scene: &mut Scene) {
    let url = scene.serve(|stream| listen(accept(stream)));
    let client = Client::connect(config(&url)).unwrap();
    scene.add("connected", &client, Connected);
    let client = Client::connect(config(&url)).unwrap();
    client.send("x").unwrap();
    client.confirm(.., LONG).unwrap();
    scene.add("connected, after traffic", &client, Connected);

    let url = scene.serve(|stream| {
        let mut socket = accept(stream);
        if socket.read().is_ok_and(|login| login.to_text().is_ok_and(|text| text.contains("right"))) {
            socket.send("{}".into()).unwrap();
        }
        listen(socket);
    });
    let logging_in = |password| {
        let session = JsonSession::new().login(json!({ "password": password }));
        Client::builder(config(&url)).protocol(session)
    };
    let client = logging_in("wrong").start().unwrap();
    client.send("waits").unwrap();
    scene.add("logging in", &client, Connected);
    scene.add("logged in", &logging_in("right").connect().unwrap(), Authenticated);

    let url = scene.serve(|stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&frame(0x82, &[7; 5000])[..2500]).unwrap();
        outlast(stream);
    });
    let client = Client::connect(config(&url)).unwrap();
    scene.add("in the middle of a message", &client, Connected);

    let client = Client::connect(config(&scene.serve(|stream| outlast(accept_raw(stream))))).unwrap();
    client.send("x").unwrap();
    client.confirm(.., MS).unwrap_err();
    scene.add("waiting for a confirmation", &client, Connected);
}

/// CONNECTED, and one side does not take what the other sends.
fn stalled(scene: &mut Scene) {
    let (stalled_in, stalled): (_, Receiver<()>) = crossbeam_channel::bounded(1);
    let url = scene.serve(move |stream| {
        let mut stream = accept_raw(stream);
        stream.set_write_timeout(Some(100 * MS)).unwrap();
        while stream.write_all(&frame(0x82, &[7; 1000]).repeat(100)).is_ok() {}
        stalled_in.send(()).unwrap();
        ignore(stream);
    });
    for (situation, sends) in
        [("paused: nothing is taken", false), ("paused: nothing is taken on either side", true)]
    {
        let client = Client::connect(config(&url).events(QueueLimit::new(10, 1 << 20))).unwrap();
        stalled.recv_timeout(LONG).unwrap();
        if sends {
            client.send(vec![0; 16 << 20]).unwrap();
        }
        eventually("the bound", || client.stats().messages_received >= 10);
        scene.add(situation, &client, Connected);
    }

    let url = scene.serve(|stream| ignore(accept_raw(stream)));
    let client = Client::connect(config(&url)).unwrap();
    client.send(vec![0; 32 << 20]).unwrap();
    client.send("waits").unwrap();
    scene.add("unable to write", &client, Connected);
}

/// CLOSING, and the peer has no part in it.
fn closing(scene: &mut Scene) {
    let (frames_in, frames) = crossbeam_channel::unbounded();
    let silent = scene.serve(move |stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, _)) = read_frame(&mut stream) {
            frames_in.send(opcode).unwrap();
        }
    });
    let unreading = scene.serve(|stream| ignore(accept_raw(stream)));
    for (situation, url) in
        [("closing, unanswered", silent), ("closing, with messages that nobody takes", unreading)]
    {
        let client = Client::connect(config(&url)).unwrap();
        if situation.ends_with("takes") {
            client.send(vec![0; 32 << 20]).unwrap();
        }
        let closer = client.clone();
        scene.closing.push(thread::spawn(move || closer.close()));
        scene.add(situation, &client, Closing);
    }
    assert_eq!(frames.recv_timeout(LONG).unwrap(), 8, "the close frame");
}

#[test]
fn no_thread_wakes_up_for_nothing_in_any_state() {
    let mut scene = Scene::default();
    down(&mut scene);
    let held = dialling(&mut scene);
    open(&mut scene);
    stalled(&mut scene);
    closing(&mut scene);
    scene.assert_idle();
    scene.end(held);
}
