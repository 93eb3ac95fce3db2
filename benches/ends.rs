//! How long an end takes, from each phase of an attempt and from each state of a line. The two calls that are measured are
//! `terminate` and `close`; the documented bound of both is 50 ms while no line is open.
#![expect(clippy::disallowed_methods, reason = "a program that measures owns its clock and its pace")]

mod common;
#[cfg(target_os = "linux")]
#[path = "../tests/common/full.rs"]
mod full;

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use common::server::{Server, serve_if_asked};
use common::table::{Table, Target, seconds};
use common::{percentile, time};
use tautline::{
    Builder, Client, ConnectionConfig, ConnectionState, Context, Error, Handshake, Protocol, Proxy,
    ReconnectConfig,
};

const ROUNDS: usize = 40;

/// Nothing that is waited for comes within the hour.
const FAR: Duration = Duration::from_secs(3600);

/// The documented bound, in seconds.
const BOUND: f64 = 0.050;

fn main() {
    serve_if_asked();
    let server = Server::start();
    let silent = silent();
    let mut table = Table::new("ends");
    in_an_attempt(&mut table, silent);
    in_code_of_the_application(&mut table);
    otherwise(&mut table, &server);
    table.print();
}

/// A server that takes connections and says nothing; its port.
fn silent() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || swallow(stream));
        }
    });
    port
}

fn swallow(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
}

fn patient(url: &str) -> ConnectionConfig {
    let reconnect = ReconnectConfig::default().initial_delay(FAR).max_delay(FAR);
    ConnectionConfig::new(url).reconnect(reconnect).connect_timeout(FAR).login_timeout(FAR)
}

/// Waits until the attempt has come as far as it will. Nothing tells how far that is.
fn settle(client: &Client) {
    while client.state() == ConnectionState::Disconnected && client.stats().attempts == 0 {
        thread::yield_now();
    }
    thread::sleep(Duration::from_millis(3));
}

/// Measures `terminate` and `close` of clients in this phase.
fn measure(table: &mut Table, phase: &str, client: impl Fn() -> Client) {
    for (name, end) in [("terminate", Client::terminate as fn(&Client) -> _), ("close", Client::close)] {
        let times = (0..ROUNDS).map(|_| {
            let client = client();
            settle(&client);
            time(|| drop(end(&client)))
        });
        let mut times: Vec<_> = times.collect();
        for (share, rank) in [(500, "p50"), (1000, "longest")] {
            let figure = percentile(&mut times, share).as_secs_f64();
            table.own(&format!("{phase}: {name}, {rank}"), figure, seconds, Some(Target::AtMost(BOUND)));
        }
    }
}

fn in_an_attempt(table: &mut Table, silent: u16) {
    #[cfg(target_os = "linux")]
    {
        let full = full::Full::listen();
        let config = patient(&format!("ws://{}", full.address));
        measure(table, "TCP", || Client::start(config.clone()).unwrap());
    }
    for scheme in ["http", "socks5h", "https"] {
        let proxy = Proxy::new(format!("{scheme}://127.0.0.1:{silent}"));
        let config = patient("ws://gateway.invalid").proxy(proxy);
        let phase = format!("the answer of a proxy, {scheme}");
        measure(table, &phase, || Client::start(config.clone()).unwrap());
    }
    let config = patient(&format!("wss://127.0.0.1:{silent}"));
    measure(table, "TLS", || Client::start(config.clone()).unwrap());
    let config = patient(&format!("ws://127.0.0.1:{silent}"));
    measure(table, "the upgrade", || Client::start(config.clone()).unwrap());
}

/// A client whose callback does not return while it is measured. `make` gives it what it is to wait with.
fn inside(make: impl Fn(Builder, Wait) -> Builder) -> impl Fn() -> Client {
    move || {
        let (keep, kept) = channel::<()>();
        let kept = Mutex::new(kept);
        let wait: Wait = Box::new(move || _ = kept.lock().unwrap().recv());
        let client = make(Client::builder(patient("ws://gateway.invalid")), wait).start().unwrap();
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(keep);
        });
        client
    }
}

type Wait = Box<dyn Fn() + Send + Sync>;

fn in_code_of_the_application(table: &mut Table) {
    let error = || io::Error::other("released");
    let resolver = inside(move |builder, wait| {
        builder.resolver(move |_, _| {
            wait();
            Err(error())
        })
    });
    measure(table, "a resolver that does not return", resolver);
    let fetch = inside(|builder, wait| {
        builder.fetch(move |request| {
            wait();
            Ok(request)
        })
    });
    measure(table, "a fetch that does not return", fetch);
    let connector = inside(move |builder, wait| {
        builder.connector(move |_| {
            wait();
            Err(error())
        })
    });
    measure(table, "a connector that does not return", connector);
}

/// Never says that it is logged in.
struct Mute;

impl Protocol for Mute {
    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        Ok(())
    }
}

fn otherwise(table: &mut Table, server: &Server) {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let config = patient(&format!("ws://{nobody}"));
    measure(table, "the backoff", || Client::start(config.clone()).unwrap());
    let config = common::config(server, false, "echo").login_timeout(FAR);
    measure(table, "the login", || Client::builder(config.clone()).protocol(Mute).start().unwrap());
    measure(table, "an open line", || common::connect(server, false, "echo"));
    measure(table, "an open line over TLS", || common::connect(server, true, "echo"));
}
