//! Every way to a server carries everything that a line does: logins, losses, moves, pauses, large messages, an orderly end.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/tunnel.rs"]
mod tunnel;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{LONG, MS, Server, eventually, loopback, moved, quick, tls_acceptor, tls_connector, wait_for};
use tautline::{
    Builder, Client, Context, Delivery, Error, Event, Handshake, HeartbeatConfig, Message, Protocol, Proxy,
    QueueLimit, SendOptions, Stream,
};
use tungstenite::{Message as Frame, WebSocket};
use tunnel::Tunnel;

/// Logs in, and moves the line when the server says so.
struct Session;

impl Protocol for Session {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.send("login");
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match message.as_text() {
            Some("welcome") => cx.ready(),
            Some("moving") => cx.move_line(),
            _ => cx.deliver(message),
        }
        Ok(())
    }
}

/// Welcomes, echoes, and does what it is told.
fn serve<S: Read + Write>(mut socket: WebSocket<S>) {
    while let Ok(message) = socket.read() {
        let answers = match message {
            Frame::Text(text) => match text.as_str() {
                "login" => vec![Frame::text("welcome")],
                "move" => vec![Frame::text("moving")],
                "cut" => return,
                "burst" => (0..300).map(|n| Frame::text(format!("burst {n}"))).collect(),
                _ => vec![Frame::Text(text)],
            },
            Frame::Binary(bytes) => vec![Frame::Binary(bytes)],
            _ => Vec::new(),
        };
        for answer in answers {
            drop(socket.send(answer));
        }
    }
}

/// A server, plain or over TLS, and how many connections it has had.
fn server(secure: bool) -> (Server, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let acceptor = secure.then(tls_acceptor);
    let server = Server::start(move |_, stream| {
        count.fetch_add(1, SeqCst);
        match &acceptor {
            None => {
                if let Ok(socket) = tungstenite::accept(stream) {
                    serve(socket);
                }
            }
            Some(acceptor) => {
                if let Ok(Ok(socket)) = acceptor.accept(stream).map(tungstenite::accept) {
                    serve(socket);
                }
            }
        }
    });
    (server, connections)
}

/// What a way needs while a line uses it.
type Kept = Option<Tunnel>;

/// Sends a client that way.
type Way = fn(Builder, &Server) -> (Builder, Kept);

fn supplied(builder: Builder, server: &Server) -> (Builder, Kept) {
    let address = server.address();
    (builder.connector(move |_| TcpStream::connect(address).map(Stream::from)), None)
}

/// Through a socket pair whose other end a thread passes on.
#[cfg(unix)]
fn passed_on(builder: Builder, server: &Server) -> (Builder, Kept) {
    use std::os::unix::net::UnixStream;

    let address = server.address();
    let connector = move |_: &tautline::Destination<'_>| {
        let tcp = TcpStream::connect(address)?;
        let (ours, theirs) = UnixStream::pair()?;
        let (mut up, mut down) = (tcp.try_clone()?, theirs.try_clone()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut &theirs, &mut up);
            let _ = up.shutdown(std::net::Shutdown::Write);
        });
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut &tcp, &mut down);
            let _ = down.shutdown(std::net::Shutdown::Both);
        });
        Ok(Stream::from(ours))
    };
    (builder.connector(connector), None)
}

/// Every way, and its name.
const WAYS: &[(&str, Way)] = &[
    ("TCP", |builder, _| (builder, None)),
    ("a connector", supplied),
    #[cfg(unix)]
    ("a connector with a socket pair", passed_on),
];

/// Starts a proxy, and says how to go through it.
type Start = fn() -> (Tunnel, Proxy);

/// Every proxy, and its name.
const PROXIES: &[(&str, Start)] = &[
    ("http", || {
        let tunnel = Tunnel::http(Some("Basic dXNlcjpwdw=="));
        let proxy = Proxy::new(format!("http://user:pw@{}", tunnel.address()));
        (tunnel, proxy)
    }),
    ("https", || {
        let tunnel = Tunnel::https();
        let proxy = Proxy::new(format!("https://localhost:{}", tunnel.address().port())).tls(tls_connector());
        (tunnel, proxy)
    }),
    ("socks5", || {
        let tunnel = Tunnel::socks(None);
        let proxy = Proxy::new(format!("socks5://{}", tunnel.address()));
        (tunnel, proxy)
    }),
    ("socks5h", || {
        let tunnel = Tunnel::socks(Some(("user", "pw")));
        let proxy = Proxy::new(format!("socks5h://user:pw@{}", tunnel.address()));
        (tunnel, proxy)
    }),
];

/// So many messages wait for the application, while more arrive.
const ROOM: usize = 50;

/// A line of everything, to this server.
fn builder(server: &Server, secure: bool, proxy: Option<Proxy>) -> Builder {
    let scheme = if secure { "wss" } else { "ws" };
    let config = quick(&format!("{scheme}://localhost:{}", server.address().port()))
        .delivery(Delivery::AtLeastOnce)
        .heartbeat(HeartbeatConfig::default().interval(20 * MS).timeout(LONG))
        .events(QueueLimit::new(ROOM, 64 << 20))
        .connect_timeout(LONG)
        .fragment(100_000);
    let config = if secure { config.tls(tls_connector()) } else { config };
    let config = match proxy {
        Some(proxy) => config.proxy(proxy),
        None => config,
    };
    Client::builder(config).resolver(loopback).protocol(Session)
}

/// Everything that a line does, one after the other.
fn does_everything(what: &str, client: &Client) {
    let text = |expected: &str| {
        let message = client.recv_timeout(LONG).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(message.as_text(), Some(expected), "{what}");
    };
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let echoes = |round: &str| {
        let first = client.send(round).unwrap();
        text(round);
        let second = client.send(large.clone()).unwrap();
        let message = client.recv_timeout(LONG).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(message == Message::from(large.clone()), "{what}: the large message of {round}");
        client.confirm(first..=second, LONG).unwrap_or_else(|error| panic!("{what}, {round}: {error}"));
    };
    let ready_again = |connects: u64| {
        eventually(what, || client.stats().connects == connects);
        client.wait_ready(LONG).unwrap();
    };
    echoes("the first connection");
    // A reader that pauses: more arrives than there is room for.
    let burst = client.send("burst").unwrap();
    eventually(what, || client.events().len() >= ROOM);
    (0..300).for_each(|n| text(&format!("burst {n}")));
    // Otherwise it is sent again after the loss.
    client.confirm(burst, LONG).unwrap();
    // A loss; on the next connection it would be another one.
    client.send_with("cut", SendOptions::new().this_connection()).unwrap();
    ready_again(2);
    echoes("after a loss");
    // A move.
    client.send("move").unwrap();
    wait_for(client, moved);
    echoes("after a move");
    // A suspension, with a message that waits.
    client.suspend();
    wait_for(client, |event| matches!(event, Event::Disconnected { .. }).then_some(()));
    client.send("meanwhile").unwrap();
    client.resume();
    text("meanwhile");
    echoes("after a suspension");
    client.reconnect();
    wait_for(client, |event| matches!(event, Event::Connected { .. }).then_some(()));
    echoes("after a reconnect");
    let left = client.close();
    assert!(left.is_empty(), "{what}: {left:?}");
}

/// Runs all of these beside each other.
fn each(cases: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = cases.into_iter().map(std::thread::spawn).collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_line_does_everything_whichever_way_it_goes() {
    let mut cases: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for (name, way) in WAYS {
        for secure in [false, true] {
            cases.push(Box::new(move || {
                let what = format!("{name}, {}", if secure { "wss" } else { "ws" });
                let (server, connections) = server(secure);
                let (builder, _kept) = way(builder(&server, secure, None), &server);
                does_everything(&what, &builder.connect().unwrap_or_else(|error| panic!("{what}: {error}")));
                assert_eq!(connections.load(SeqCst), 5, "{what}");
            }));
        }
    }
    each(cases);
}

#[test]
fn a_line_does_everything_through_each_proxy() {
    let mut cases: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for (name, start) in PROXIES {
        for secure in [false, true] {
            cases.push(Box::new(move || {
                let what = format!("{name}, {}", if secure { "wss" } else { "ws" });
                let (server, connections) = server(secure);
                let (tunnel, proxy) = start();
                let builder = builder(&server, secure, Some(proxy));
                does_everything(&what, &builder.connect().unwrap_or_else(|error| panic!("{what}: {error}")));
                assert_eq!(
                    (connections.load(SeqCst), tunnel.asked().len()),
                    (5, 5),
                    "{what}: none goes around it"
                );
            }));
        }
    }
    each(cases);
}

#[test]
fn a_connector_opens_the_way_to_the_proxy() {
    let (server, connections) = server(true);
    let tunnel = Tunnel::http(None);
    let (address, asked) = (tunnel.address(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let builder =
        builder(&server, true, Some(Proxy::new("http://proxy.invalid:3128"))).connector(move |to| {
            count.fetch_add(1, SeqCst);
            assert_eq!((to.host, to.port), ("proxy.invalid", 3128));
            TcpStream::connect(address).map(Stream::from)
        });
    does_everything("a connector to a proxy", &builder.connect().unwrap());
    assert_eq!((connections.load(SeqCst), asked.load(SeqCst), tunnel.asked().len()), (5, 5, 5));
}
