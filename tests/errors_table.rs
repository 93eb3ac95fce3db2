//! Every row of `src/docs/errors.md`: each failure is brought about over loopback, and its variant, its text and what
//! follows it are compared with the row. On Linux, whose words for a failure are known.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/deflate.rs"]
mod deflate;
#[path = "common/full.rs"]
mod full;
#[path = "common/tunnel.rs"]
mod tunnel;

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;
use std::{fs, thread};

use common::hooks::{Hooks, hook};
use common::{
    LONG, MS, Nobody, Server, accept_raw, answer, await_unread, close_frame, frame, good_answer, loopback,
    read_frame, read_head,
};
use tautline::{
    AddressFamily, Builder, Client, Compression, ConnectionConfig, DisconnectReason, Error, HeartbeatConfig,
    NetworkConfig, Proxy, QueueLimit, Retry, Stream,
};
use tunnel::{Tunnel, says};

/// The time for an attempt of which one phase hangs. A busy machine needs some of it for the phases before.
const STALL: Duration = Duration::from_secs(1);

/// A failure, as a row shows it.
#[derive(Debug)]
struct Seen {
    kind: String,
    text: String,
    then: String,
}

impl Seen {
    /// Puts what stands in the table in the place of what this run had.
    fn name(mut self, what: impl Display, name: &str) -> Self {
        self.text = self.text.replace(&what.to_string(), name);
        self
    }

    /// Puts `STATUS` in the place of the status and the reason phrase of this answer.
    fn name_status(self, said: &str) -> Self {
        let status = said.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split_once("\r\n"));
        match status {
            Some((status, _)) => self.name(status, "STATUS"),
            None => self,
        }
    }

    /// Puts `PORT` in the place of a port that a text names by itself.
    fn name_port(mut self) -> Self {
        if let Some((before, behind)) = self.text.split_once(" on port ") {
            let behind = behind.trim_start_matches(|c: char| c.is_ascii_digit());
            self.text = format!("{before} on port PORT{behind}");
        }
        self
    }
}

/// The first cell of a row, and what brings its failure about. A row may have several causes.
type Case = (&'static str, Box<dyn FnOnce() -> Vec<Seen> + Send>);

fn case(what: &'static str, scene: impl FnOnce() -> Seen + Send + 'static) -> Case {
    (what, Box::new(move || vec![scene()]))
}

/// The variant of an error, and its kind.
fn kind(error: &Error) -> String {
    match error {
        Error::Proxy(error) => format!("`Proxy`, `{:?}`", error.kind),
        Error::Tls { kind, .. } => format!("`Tls`, `{kind:?}`"),
        Error::ConnectTimeout { phase, .. } => format!("`ConnectTimeout`, `{phase:?}`"),
        Error::InvalidUrl { .. } => "`InvalidUrl`".into(),
        Error::Resolve { .. } => "`Resolve`".into(),
        Error::Connect { .. } => "`Connect`".into(),
        Error::UpgradeRejected(_) => "`UpgradeRejected`".into(),
        Error::Upgrade { .. } => "`Upgrade`".into(),
        Error::AllServersFailed { .. } => "`AllServersFailed`".into(),
        Error::LoginRefused { .. } => "`LoginRefused`".into(),
        Error::LoginTimeout { .. } => "`LoginTimeout`".into(),
        Error::Session { .. } => "`Session`".into(),
        Error::ClosedByServer(_) => "`ClosedByServer`".into(),
        Error::ConnectionLost { .. } => "`ConnectionLost`".into(),
        Error::HeartbeatTimeout { .. } => "`HeartbeatTimeout`".into(),
        Error::IdleTimeout { .. } => "`IdleTimeout`".into(),
        Error::WriteStalled { .. } => "`WriteStalled`".into(),
        Error::Protocol { .. } => "`Protocol`".into(),
        Error::Panicked { .. } => "`Panicked`".into(),
        other => panic!("{other:?}"),
    }
}

/// An error that a call returns. Nothing follows it.
fn returned(error: &Error, call: &str) -> Seen {
    Seen { kind: kind(error), text: error.to_string(), then: format!("{call} returns it") }
}

/// What follows by default while the line was never ready, and once it was.
fn then(down: &tautline::Loss<'_>, max_delay: Duration) -> String {
    let [never, once] = [false, true].map(|ever_ready| {
        let mut down = *down;
        down.ever_ready = ever_ready;
        match down.default_retry() {
            Retry::After(time) if time == max_delay => "`After(max_delay)`".to_owned(),
            other => format!("`{other:?}`"),
        }
    });
    if never == once { never } else { format!("{never}; once ready, {once}") }
}

/// The first failure of a client that does this once it runs.
fn fails(builder: Builder, hooks: Hooks, act: impl FnOnce(&Client)) -> Seen {
    let (seen_in, seen) = crossbeam_channel::unbounded();
    let down = Box::new(move |down: &tautline::Loss<'_>| {
        let error = match down.reason {
            DisconnectReason::ConnectFailed(error) | DisconnectReason::Lost(error) => error.clone(),
            DisconnectReason::ClosedByServer(frame) => Error::ClosedByServer(frame.clone()),
            other => panic!("{other:?}"),
        };
        // That of `config`.
        let then = then(down, 10 * MS);
        let _ = seen_in.send(Seen { kind: kind(&error), text: error.to_string(), then });
        Retry::Never
    });
    let client = builder.protocol(Hooks { down: Some(down), ..hooks }).start().unwrap();
    act(&client);
    let first = seen.recv_timeout(LONG).unwrap();
    let _ = client.terminate();
    first
}

fn config(url: &str) -> ConnectionConfig {
    common::config(url).heartbeat(HeartbeatConfig::off())
}

/// The failure of an attempt.
fn attempt(config: ConnectionConfig) -> Seen {
    fails(Client::builder(config), Hooks::default(), |_| {})
}

/// The failure of an attempt at a server that does this.
fn at(server: &Server, change: impl FnOnce(ConnectionConfig) -> ConnectionConfig) -> Seen {
    attempt(change(config(&server.url()))).name(server.address(), "HOST")
}

fn same(config: ConnectionConfig) -> ConnectionConfig {
    config
}

/// Reads until the client ends the connection.
fn outlast(mut stream: impl Read) {
    while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
}

fn silent() -> Server {
    Server::start(|_, stream| outlast(stream))
}

/// The failures at servers that give these answers to the upgrade.
fn answers(answers: &[&'static str], change: fn(ConnectionConfig) -> ConnectionConfig) -> Vec<Seen> {
    let one = |said: &'static str| {
        let server = Server::start(move |_, stream| answer(said)(stream));
        at(&server, change).name_status(said)
    };
    answers.iter().copied().map(one).collect()
}

/// A server that answers the upgrade with 101 and these lines, and any key where `lines` has one.
fn accepts(lines: &'static str, change: fn(ConnectionConfig) -> ConnectionConfig) -> Seen {
    let server = Server::start(move |_, mut stream| {
        let head = read_head(&mut stream);
        let mut good = good_answer(&head, lines);
        if lines.starts_with("Sec-WebSocket-Accept") {
            let own = good.find("Sec-WebSocket-Accept").unwrap();
            let behind = own + good[own..].find("\r\n").unwrap() + 2;
            good.replace_range(own..behind, "");
        }
        let _ = stream.write_all(good.as_bytes());
    });
    at(&server, change)
}

fn through(proxy: &str, address: impl Display) -> Seen {
    let proxy = Proxy::new(format!("{proxy}{address}"));
    attempt(config("ws://gateway.invalid").proxy(proxy).connect_timeout(STALL))
        .name(address, "PROXY")
        .name("gateway.invalid:80", "HOST")
}

/// The failures at proxies that say this. Their URL begins like that.
fn proxies(begin: &str, all: &[&'static [u8]]) -> Vec<Seen> {
    let one = |said: &&'static [u8]| {
        through(begin, says(said).address()).name_status(std::str::from_utf8(said).unwrap_or_default())
    };
    all.iter().map(one).collect()
}

/// The failure of a line that is open, to a server that does this.
fn open(change: impl FnOnce(ConnectionConfig) -> ConnectionConfig, serve: fn(TcpStream)) -> Seen {
    let server = Server::start(move |_, stream| serve(accept_raw(stream)));
    at(&server, change)
}

/// The failure of a line to a server that sends these bytes once it is open.
fn sends(bytes: Vec<u8>) -> Seen {
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&bytes).unwrap();
        outlast(stream);
    });
    at(&server, same)
}

fn compressing(config: ConnectionConfig) -> ConnectionConfig {
    config.compression(Compression::default()).max_message_size(1_000)
}

/// The failure of a line that compresses, to a server that sends the frame which this makes.
fn sends_compressed(make: fn(&mut deflate::Peer) -> Vec<u8>) -> Seen {
    let server = Server::start(move |_, stream| {
        let mut peer = deflate::Peer::accept(stream, "permessage-deflate");
        let bytes = make(&mut peer);
        peer.stream.write_all(&bytes).unwrap();
        outlast(peer.stream);
    });
    at(&server, compressing)
}

/// Holds whoever asks until the test is over.
fn held() -> (crossbeam_channel::Sender<()>, impl Fn() + Send + Sync + 'static) {
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    (release, move || _ = held.recv())
}

fn unknown(_: &str, _: u16) -> io::Result<Vec<std::net::SocketAddr>> {
    Err(io::Error::other("no such host"))
}

fn named() -> Builder {
    Client::builder(config("ws://gateway.invalid").connect_timeout(STALL))
}

/// What `named` fails with.
fn here(seen: Seen) -> Seen {
    seen.name("gateway.invalid:80", "HOST").name("gateway.invalid", "NAME")
}

fn reaching() -> Vec<Case> {
    vec![
        case("the host name is unknown", move || {
            here(fails(named().resolver(unknown), Hooks::default(), |_| {}))
        }),
        case("the host name has no address", move || {
            here(fails(named().resolver(|_, _| Ok(Vec::new())), Hooks::default(), |_| {}))
        }),
        case("nobody listens on the port", || {
            let nobody = Nobody::new();
            attempt(config(&nobody.url())).name(nobody.address(), "HOST")
        }),
        case("no address of several can be reached", move || {
            let dead = [Nobody::new(), Nobody::new()];
            let addresses = dead.each_ref().map(Nobody::address);
            let builder = named().resolver(move |_, _| Ok(addresses.to_vec()));
            let seen = here(fails(builder, Hooks::default(), |_| {}));
            seen.name(addresses[0], "A").name(addresses[1], "B")
        }),
        case("no address is of the required family", move || {
            let network = NetworkConfig::default().family(AddressFamily::Ipv6Only);
            let url = config("ws://gateway.invalid").network(network);
            here(fails(Client::builder(url).resolver(loopback), Hooks::default(), |_| {}))
        }),
        case("a setting of `network` can't be used", move || {
            // An address for documentation, which no machine has. Nothing is sent.
            let network = NetworkConfig::default().local_address([192, 0, 2, 1].into());
            let url = config("ws://gateway.invalid").network(network);
            here(fails(Client::builder(url).resolver(loopback), Hooks::default(), |_| {}))
        }),
        case("the `connector` fails", move || {
            let builder = named().connector(|_| Err(io::Error::other("the modem is off")));
            here(fails(builder, Hooks::default(), |_| {}))
        }),
        case("the `connector` supplies what can't be waited for", move || {
            let builder = named().connector(|_| Ok(Stream::new(NoSocket(fs::File::open("Cargo.toml")?))));
            here(fails(builder, Hooks::default(), |_| {}))
        }),
        (
            "a callback of the attempt panics",
            Box::new(move || {
                let builders = [
                    named().connector(|_| panic!("a connector that panics")),
                    named().resolver(|_, _| panic!("a resolver that panics")),
                    named().fetch(|_| panic!("a fetch that panics")),
                ];
                let seen = builders.map(|builder| fails(builder, Hooks::default(), |_| {}));
                let names = ["connector", "resolver", "fetch"].into_iter();
                seen.into_iter().zip(names).map(|(seen, name)| seen.name(name, "NAME")).collect()
            }),
        ),
        case("the `fetch` returns an error, such as `Error::session`", || {
            fails(named().fetch(|_| Err(Error::session("no token"))), Hooks::default(), |_| {})
        }),
        case("all servers of the list fail", || {
            let dead = [Nobody::new(), Nobody::new()];
            let list = config(&dead[0].url()).servers([dead[1].url()]);
            let error = Client::connect(list).unwrap_err();
            returned(&error, "`connect`").name(dead[0].address(), "HOST").name(dead[1].address(), "OTHER")
        }),
    ]
}

fn taking_too_long_to_reach() -> Vec<Case> {
    vec![
        case("the `fetch` takes too long", move || {
            let (_release, hold) = held();
            here(fails(
                named().fetch(move |request| {
                    hold();
                    Ok(request)
                }),
                Hooks::default(),
                |_| {},
            ))
        }),
        case("the look-up takes too long", move || {
            let (_release, hold) = held();
            here(fails(
                named().resolver(move |_, _| {
                    hold();
                    Ok(Vec::new())
                }),
                Hooks::default(),
                |_| {},
            ))
        }),
        case("nobody answers", || {
            let full = full::Full::listen();
            let url = format!("ws://{}", full.address);
            attempt(config(&url).connect_timeout(STALL)).name(full.address, "HOST")
        }),
        case("nobody answers at any of several addresses", move || {
            let (full, nobody) = (full::Full::listen(), Nobody::new());
            let addresses = [full.address, nobody.address()];
            let builder = named().resolver(move |_, _| Ok(addresses.to_vec()));
            here(fails(builder, Hooks::default(), |_| {})).name(addresses[1], "A").name(addresses[0], "B")
        }),
        case("the `connector` takes too long", move || {
            let (_release, hold) = held();
            let builder = named().connector(move |_| {
                hold();
                Err(io::ErrorKind::Other.into())
            });
            here(fails(builder, Hooks::default(), |_| {}))
        }),
    ]
}

fn by_unix_socket() -> Vec<Case> {
    vec![
        case("there is no such Unix socket", || {
            attempt(config("ws+unix:/nonexistent/app.sock")).name("/nonexistent/app.sock", "PATH")
        }),
        case("nobody listens on the Unix socket", || {
            let path = std::env::temp_dir().join(format!("tautline-{}-table.sock", std::process::id()));
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let seen = attempt(config(&format!("ws+unix:{}", path.display()))).name(path.display(), "PATH");
            fs::remove_file(path).unwrap();
            seen
        }),
        case("the path of the Unix socket is too long", || {
            let error = Client::start(config(&format!("ws+unix:/{}", "x".repeat(107)))).unwrap_err();
            returned(&error, "`start`").name(108, "N").name(107, "M")
        }),
    ]
}

/// A descriptor that no poller takes.
struct NoSocket(fs::File);

impl Read for NoSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for NoSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::os::fd::AsFd for NoSocket {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A proxy of HTTP that gives these answers, each with an end of its own.
fn http(begin: &'static str, answers: &'static [&'static [u8]]) -> Box<dyn FnOnce() -> Vec<Seen> + Send> {
    Box::new(move || proxies(begin, answers))
}

fn socks(reply: u8) -> Vec<Seen> {
    let said: &'static [u8] = Box::leak(Box::new([5, 0, 5, reply, 0, 1, 0, 0, 0, 0, 0, 0]));
    proxies("socks5h://", &[said])
}

fn by_http_proxy() -> Vec<Case> {
    vec![
        case("the proxy can't be reached", || {
            let nobody = Nobody::new();
            through("http://", nobody.address())
        }),
        case("the proxy's name is unknown", || {
            let proxy = Proxy::new("http://proxy.invalid:3128");
            let builder = Client::builder(config("ws://gateway.invalid").proxy(proxy)).resolver(unknown);
            let seen = fails(builder, Hooks::default(), |_| {});
            seen.name("gateway.invalid:80", "HOST")
                .name("proxy.invalid:3128", "PROXY")
                .name("proxy.invalid", "NAME")
        }),
        (
            "a proxy wants a login",
            http(
                "http://",
                &[
                    b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
                ],
            ),
        ),
        (
            "a proxy does not accept the login",
            http(
                "http://ann:s3cret@",
                &[
                    b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n",
                ],
            ),
        ),
        ("a proxy forbids the server", http("http://", &[b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"])),
        (
            "a proxy answers 500, 502, 503 or 504",
            http(
                "http://",
                &[
                    b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 504 No\r\nContent-Length: 0\r\n\r\n",
                ],
            ),
        ),
        (
            "a proxy answers 501 or 505",
            http(
                "http://",
                &[
                    b"HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 505 No\r\nContent-Length: 0\r\n\r\n",
                ],
            ),
        ),
        (
            "a proxy answers 3xx, 400, 404 or 405",
            http(
                "http://",
                &[
                    b"HTTP/1.1 302 No\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n",
                ],
            ),
        ),
        ("a proxy answers another 4xx", http("http://", &[b"HTTP/1.1 410 No\r\nContent-Length: 0\r\n\r\n"])),
        (
            "a proxy answers 408, 425 or 429",
            http(
                "http://",
                &[
                    b"HTTP/1.1 408 No\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 425 No\r\nContent-Length: 0\r\n\r\n",
                    b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n",
                ],
            ),
        ),
        ("an HTTP proxy ends the connection without a word", http("http://", &[b""])),
        ("a proxy ends the connection in its answer", http("http://", &[b"HTTP/1.1 200"])),
        ("what should be an HTTP proxy is none", http("http://", &[b"SSH-2.0-x\r\n"])),
        ("what should be an HTTP proxy speaks TLS", http("http://", &[b"\x15\x03\x01\0\x02\x02\x0A"])),
        ("what should be an HTTP proxy speaks SOCKS 5", http("http://", &[b"\x05\xFF"])),
    ]
}

fn by_socks_proxy() -> Vec<Case> {
    let reply = |what: &'static str, reply: u8| -> Case { (what, Box::new(move || socks(reply))) };
    vec![
        ("what should be a SOCKS proxy is none", http("socks5h://", &[b"SSH-2.0-x\r\n"])),
        ("what should be a SOCKS proxy speaks HTTP", http("socks5h://", &[b"HTTP/1.1 400 No\r\n\r\n"])),
        ("a SOCKS proxy ends the connection without a word", http("socks5h://", &[b""])),
        ("a SOCKS proxy wants a login", http("socks5h://", &[b"\x05\xFF"])),
        ("a SOCKS proxy takes no login like this", http("socks5h://ann:s3cret@", &[b"\x05\xFF"])),
        ("a SOCKS proxy does not accept the login", http("socks5h://ann:s3cret@", &[b"\x05\x02\x01\x01"])),
        reply("SOCKS reply 1", 1),
        reply("SOCKS reply 2", 2),
        reply("SOCKS reply 3", 3),
        reply("SOCKS reply 4", 4),
        reply("SOCKS reply 5", 5),
        reply("SOCKS reply 6", 6),
        reply("SOCKS reply 7", 7),
        reply("SOCKS reply 8", 8),
        (
            "a proxy stalls",
            Box::new(|| {
                let stalls = silent();
                ["http://", "socks5h://"].map(|begin| through(begin, stalls.address())).into()
            }),
        ),
        case("the server behind a proxy fails", || {
            let server = Server::start(|_, stream| answer("HTTP/1.1 403 No\r\n\r\n")(stream));
            let tunnel = Tunnel::http(None);
            at(&server, |config| config.proxy(Proxy::new(tunnel.address().to_string())))
                .name(tunnel.address(), "PROXY")
                .name("403 No", "STATUS")
        }),
    ]
}

fn upgrading() -> Vec<Case> {
    let plain =
        |what, said: &'static [&'static str]| -> Case { (what, Box::new(move || answers(said, same))) };
    vec![
        plain("the server answers 401", &["HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n"]),
        plain("the server answers 403", &["HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"]),
        plain("the server answers 404", &["HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"]),
        plain("the server answers 407", &["HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"]),
        plain(
            "the server answers another 4xx",
            &[
                "HTTP/1.1 400 No\r\nContent-Length: 4\r\n\r\nbody",
                "HTTP/1.1 426 No\r\nContent-Length: 4\r\n\r\nbody",
            ],
        ),
        plain(
            "the server answers 408, 425, 429 or 5xx",
            &[
                "HTTP/1.1 408 No\r\nContent-Length: 4\r\n\r\nbody",
                "HTTP/1.1 425 No\r\nContent-Length: 4\r\n\r\nbody",
                "HTTP/1.1 429 No\r\nContent-Length: 4\r\n\r\nbody",
                "HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nbody",
            ],
        ),
        plain(
            "the server answers 200, or another 2xx",
            &["HTTP/1.1 200 No\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No\r\n\r\n"],
        ),
        plain("the server redirects, and `redirects` is 0", &["HTTP/1.1 302 No\r\nLocation: /x\r\n\r\n"]),
        (
            "the server redirects too often",
            Box::new(|| {
                answers(&["HTTP/1.1 302 No\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"], |config| {
                    config.redirects(2)
                })
            }),
        ),
        (
            "the server redirects by another status",
            Box::new(|| {
                answers(&["HTTP/1.1 300 No\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"], |config| {
                    config.redirects(2)
                })
            }),
        ),
        plain("the answer is not HTTP", &["SSH-2.0-x\r\n"]),
        (
            "the answer has too many headers",
            Box::new(|| {
                answers(&["HTTP/1.1 101 No\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n"], |config| {
                    config.max_response_size(30)
                })
            }),
        ),
        plain("the server ends in its answer", &["HTTP/1.1 101 Swit"]),
        case("the server ends without an answer", || {
            at(&Server::start(|_, mut stream| drop(read_head(&mut stream))), same).name_port()
        }),
        case("the server resets the connection", || {
            let server = common::BareServer::start(|_, stream| await_unread(&stream));
            attempt(config(&server.url())).name(server.address(), "HOST").name_port()
        }),
        case("the server speaks TLS, and the URL is `ws://`", || {
            at(
                &Server::start(|_, mut stream| {
                    await_unread(&stream);
                    let _ = stream.write_all(&[0x15, 3, 1, 0, 2, 2, 10]);
                    outlast(stream);
                }),
                same,
            )
            .name_port()
        }),
        plain("the answer is one of HTTP/1.0", &["HTTP/1.0 101 Switching\r\n\r\n"]),
        plain("the answer lacks `Upgrade`", &["HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\n\r\n"]),
        plain("the answer lacks `Connection`", &["HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n"]),
        plain(
            "the answer lacks its key",
            &["HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"],
        ),
        case("the answer has another key", || accepts("Sec-WebSocket-Accept: bm9uZQ==\r\n", same)),
        case("the server chooses an extension", || accepts("Sec-WebSocket-Extensions: x-y\r\n", same)),
        case("the server chooses a subprotocol that was not offered", || {
            accepts("Sec-WebSocket-Protocol: c\r\n", |config| config.subprotocol("a"))
        }),
        case("the server chooses no subprotocol, and one is required", || {
            accepts("", |config| config.subprotocol("a").require_subprotocol(true))
        }),
        case("the server does not answer the upgrade", || {
            at(&silent(), |config| config.connect_timeout(STALL))
        }),
    ]
}

fn on_an_open_line() -> Vec<Case> {
    let violation = |what, bytes: &'static [u8]| -> Case { case(what, move || sends(bytes.to_vec())) };
    vec![
        case("the server refuses the login", || {
            let server = Server::start(|_, stream| {
                let mut stream = accept_raw(stream);
                stream.write_all(&frame(0x81, b"no")).unwrap();
                outlast(stream);
            });
            let refused =
                Box::new(|_: &mut tautline::Context<'_>, said: String| Err(Error::login_refused(said)));
            let hooks = Hooks { open: hook(|_, ()| {}), text: Some(refused), ..Hooks::default() };
            fails(Client::builder(config(&server.url())), hooks, |_| {})
        }),
        case("the login takes too long", || {
            let server = Server::start(|_, stream| outlast(accept_raw(stream)));
            let hooks = Hooks { open: hook(|_, ()| {}), ..Hooks::default() };
            fails(Client::builder(config(&server.url()).login_timeout(100 * MS)), hooks, |_| {})
        }),
        case("a hook of the protocol fails", || {
            let server = Server::start(|_, stream| outlast(accept_raw(stream)));
            let fails_at_once = Box::new(|_: &mut tautline::Context<'_>, ()| Err(Error::session("why")));
            let hooks = Hooks { open: Some(fails_at_once), ..Hooks::default() };
            fails(Client::builder(config(&server.url())), hooks, |_| {})
        }),
        (
            "the server closes with 1000 or 1008",
            Box::new(|| [1000, 1008].map(|code| sends(close_frame(code, "bye")).name(code, "CODE")).into()),
        ),
        (
            "the server closes with another code",
            Box::new(|| {
                [1001, 1011, 4000].map(|code| sends(close_frame(code, "bye")).name(code, "CODE")).into()
            }),
        ),
        case("the server ends without a close frame", || open(same, drop)),
        case("the connection breaks", || {
            let server = common::BareServer::start(|_, mut stream| {
                let head = read_head(&mut stream);
                stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
                await_unread(&stream);
            });
            fails(Client::builder(config(&server.url())), Hooks::default(), |client| {
                client.wait_ready(LONG).unwrap();
                client.send("unread").unwrap();
            })
        }),
        case("the server does not answer heartbeats", || {
            let beats = HeartbeatConfig::default().interval(100 * MS).timeout(100 * MS);
            open(|config| config.heartbeat(beats), |mut stream| while read_frame(&mut stream).is_some() {})
        }),
        case("the server sends no data for `idle_timeout`", || {
            open(|config| config.idle_timeout(100 * MS), outlast)
        }),
        case("the server reads nothing for `write_timeout`", || {
            let (release, held) = crossbeam_channel::bounded::<()>(0);
            let server = Server::start(move |_, stream| {
                let _stream = accept_raw(stream);
                let _ = held.recv();
            });
            let room = QueueLimit::new(2, 1 << 30);
            let config = config(&server.url()).write_timeout(100 * MS).outbox(room);
            let seen = fails(Client::builder(config), Hooks::default(), |client| {
                client.send(vec![7; 64 << 20]).unwrap();
            });
            drop(release);
            seen
        }),
        violation("the server violates the protocol", b"\x83\x00"),
        violation("a text is not UTF-8", b"\x81\x01\xFF"),
        case("a message is too large", || {
            let server = Server::start(|_, stream| {
                let mut stream = accept_raw(stream);
                stream.write_all(&frame(0x82, &[7; 200])).unwrap();
                outlast(stream);
            });
            at(&server, |config| config.max_message_size(100))
        }),
    ]
}

fn compressing_messages() -> Vec<Case> {
    vec![
        case("the server chooses another extension than compression", || {
            accepts("Sec-WebSocket-Extensions: x-y\r\n", compressing)
        }),
        case("the server chooses compression twice", || {
            accepts("Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate\r\n", compressing)
        }),
        (
            "the server chooses compression, and its terms do not fit the offer",
            Box::new(|| {
                let answers = [
                    "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=15\r\n",
                    "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=7\r\n",
                    "Sec-WebSocket-Extensions: permessage-deflate; unknown\r\n",
                ];
                answers.map(|answer| accepts(answer, compressing)).into()
            }),
        ),
        case("a compressed message becomes too large", || {
            sends_compressed(|peer| frame(0xC2, &peer.deflated(&[0; 10_000])))
        }),
        case("a compressed message is broken", || sends_compressed(|_| frame(0xC1, &[0xFF; 20]))),
        case("a frame is marked as compressed that must not be", || sends_compressed(|_| frame(0xC9, b""))),
    ]
}

#[cfg(feature = "native-tls")]
mod over_tls {
    use std::sync::Arc;

    use native_tls::{Identity, Protocol, TlsAcceptor};
    use tautline::{Certificate, TlsConfig, TlsVersion};

    use super::*;

    const GOOD: &[u8] = include_bytes!("data/server.pem");
    const EXPIRED: &[u8] = include_bytes!("data/expired.pem");
    const NOT_YET: &[u8] = include_bytes!("data/not_yet_valid.pem");
    const SELF_SIGNED: &[u8] = include_bytes!("data/self_signed.pem");

    fn trusting(certificate: &[u8]) -> TlsConfig {
        TlsConfig::default().root(Certificate::from_pem(certificate))
    }

    fn ca() -> TlsConfig {
        trusting(include_bytes!("data/ca.pem"))
    }

    /// The failure of an attempt over TLS with the host of this name.
    fn to(host: &str, server: &Server, tls: TlsConfig) -> Seen {
        over(host, server, tls, same)
    }

    fn over(
        host: &str,
        server: &Server,
        tls: TlsConfig,
        change: fn(ConnectionConfig) -> ConnectionConfig,
    ) -> Seen {
        let at = format!("{host}:{}", server.address().port());
        let config = change(config(&format!("wss://{at}")).tls(tls));
        fails(Client::builder(config).resolver(loopback), Hooks::default(), |_| {})
            .name(at, "HOST")
            .name(host, "NAME")
            .name_port()
    }

    /// A server with this certificate.
    fn server(certificate: &[u8]) -> Server {
        let acceptor = common::tls_acceptor_with(certificate);
        Server::start(move |_, stream| drop(acceptor.accept(stream)))
    }

    /// A server that says this once the client has begun.
    fn saying(said: &'static [u8]) -> Server {
        Server::start(move |_, mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(said);
        })
    }

    pub(super) fn cases() -> Vec<Case> {
        let good = |what, host: &'static str, tls: fn() -> TlsConfig| -> Case {
            case(what, move || to(host, &server(GOOD), tls()))
        };
        let alert =
            |what, said: &'static [u8]| -> Case { case(what, move || to("localhost", &saying(said), ca())) };
        vec![
            case("the certificate has expired", || to("localhost", &server(EXPIRED), trusting(EXPIRED))),
            case("the certificate is not valid yet", || to("localhost", &server(NOT_YET), trusting(NOT_YET))),
            good("the certificate is for another name", "other.test", ca),
            good("the certificate's issuer is not trusted", "localhost", TlsConfig::default),
            case("the certificate is self-signed", || {
                to("localhost", &server(SELF_SIGNED), TlsConfig::default())
            }),
            good("the certificate is not a pinned one", "localhost", || ca().pin([1; 32])),
            alert("the server knows no such host", &[0x15, 3, 3, 0, 2, 2, 112]),
            alert("the server wants a certificate of the client", &[0x15, 3, 3, 0, 2, 2, 116]),
            alert("the server refuses the handshake", &[0x15, 3, 3, 0, 2, 2, 40]),
            case("there is no TLS version in common", || {
                let identity = Identity::from_pkcs8(GOOD, include_bytes!("data/server.key")).unwrap();
                let mut old = TlsAcceptor::builder(identity);
                let old = old.max_protocol_version(Some(Protocol::Tlsv12)).build().unwrap();
                let server = Server::start(move |_, stream| drop(old.accept(stream)));
                to("localhost", &server, ca().min_version(TlsVersion::Tls13))
            }),
            alert("the server speaks no TLS, and the URL is `wss://`", b"HTTP/1.1 400 No\r\n\r\n"),
            alert("the server ends instead of a handshake", b""),
            alert("the server ends in the handshake", &[0x16, 3, 3, 0, 50]),
            alert("the handshake fails for another reason", &[0x16, 3, 3, 0, 5, 99, 0, 0, 1, 0]),
            case("the handshake takes too long", || {
                over("localhost", &silent(), ca(), |config| config.connect_timeout(STALL))
            }),
            case("the server ends without an answer over TLS", || {
                let acceptor = common::tls_acceptor();
                let server = Server::start(move |_, stream| {
                    let Ok(mut stream) = acceptor.accept(stream) else { return };
                    drop(read_head(&mut stream));
                });
                to("localhost", &server, ca())
            }),
            case("a redirect leads out of TLS", || {
                let acceptor = Arc::new(common::tls_acceptor());
                let server = Server::start(move |_, stream| {
                    let Ok(mut stream) = acceptor.accept(stream) else { return };
                    drop(read_head(&mut stream));
                    let _ = stream
                        .write_all(b"HTTP/1.1 302 No\r\nLocation: ws://h/x\r\nContent-Length: 0\r\n\r\n");
                });
                let at = format!("localhost:{}", server.address().port());
                let config = config(&format!("wss://{at}")).tls(ca()).redirects(1);
                fails(Client::builder(config).resolver(loopback), Hooks::default(), |_| {})
                    .name(at, "HOST")
                    .name("302 No", "STATUS")
            }),
            case("TLS with a proxy fails", || {
                let tunnel = Tunnel::https();
                let at = format!("localhost:{}", tunnel.address().port());
                let config = config("ws://gateway.invalid").proxy(Proxy::new(format!("https://{at}")));
                fails(Client::builder(config).resolver(loopback), Hooks::default(), |_| {})
                    .name(at, "PROXY")
                    .name("gateway.invalid:80", "HOST")
            }),
        ]
    }
}

/// What no server on loopback brings about: the file that has its words, and the row.
const ELSEWHERE: &[(&str, &str)] = &[
    ("the certificate was revoked", "src/transport/tls/verdicts.rs"),
    ("TLS can't be set up", "src/transport/tls/mod.rs"),
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The rows of the tables: what happens, and the other cells.
fn rows(text: &str) -> Vec<(String, [String; 3])> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = cells.map(|row| row.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    rows.map(|row| <[String; 4]>::try_from(row).unwrap_or_else(|row| panic!("{row:?}")))
        .map(|[what, kind, text, then]| (what, [kind, text, then]))
        .filter(|(what, _)| what != "what stops the line")
        .collect()
}

/// Whether a text is the row's, whose `…` stands for anything.
fn fits(row: &str, text: &str) -> bool {
    let mut parts = row.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = first;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        (rest, last) = (&rest[at + part.len()..], part);
    }
    rest.is_empty() || last.is_empty()
}

/// Runs the cases on a few threads, because most of them wait.
fn run(cases: Vec<Case>) -> Vec<(&'static str, Vec<Seen>)> {
    let (waiting, done) = (Mutex::new(VecDeque::from(cases)), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().pop_front();
                    let Some((what, scene)) = next else { return };
                    let seen = scene();
                    done.lock().unwrap().push((what, seen));
                }
            });
        }
    });
    done.into_inner().unwrap()
}

#[test]
fn each_row_of_the_table_is_what_happens_and_nothing_that_happens_has_no_row() {
    let text = read("src/docs/errors.md");
    let rows = rows(&text);
    let cases = [
        reaching(),
        taking_too_long_to_reach(),
        by_unix_socket(),
        by_http_proxy(),
        by_socks_proxy(),
        upgrading(),
        on_an_open_line(),
        compressing_messages(),
    ]
    .into_iter()
    .flatten();
    #[cfg(feature = "native-tls")]
    let cases = cases.chain(over_tls::cases());
    let mut wrong = Vec::new();
    let mut tested: Vec<&str> = ELSEWHERE.iter().map(|(what, _)| *what).collect();
    for (what, file) in ELSEWHERE {
        let Some((_, [_, text, _])) = rows.iter().find(|(row, _)| row == what) else { continue };
        let source: String = read(file).split("\\\n").map(str::trim_start).collect();
        let text = text.trim_matches('`').replace("TLS with HOST: ", "").replace("the server", "{peer}");
        if !source.contains(text.trim_end_matches('…')) {
            wrong.push(format!("{file} does not say: {text}"));
        }
    }
    for (what, seen) in run(cases.collect()) {
        tested.push(what);
        let row = rows.iter().find(|(row, _)| row == what).map(|(_, cells)| cells);
        for Seen { kind, text, then } in seen {
            let as_in =
                |[k, t, r]: &[String; 3]| *k == kind && fits(t.trim_matches('`'), &text) && *r == then;
            if !row.is_some_and(as_in) {
                wrong.push(format!("| {what} | {kind} | `{text}` | {then} |\n  and the table has {row:?}"));
            }
        }
    }
    // The rows about TLS have a heading of their own.
    let about_tls =
        self::rows(text.split("\n## ").find(|part| part.starts_with("In TLS")).unwrap_or_default());
    let is_left_out =
        |row: &str| cfg!(not(feature = "native-tls")) && about_tls.iter().any(|(what, _)| what == row);
    let untested = rows.iter().map(|(what, _)| what.as_str()).filter(|what| !tested.contains(what));
    wrong.extend(untested.filter(|what| !is_left_out(what)).map(|what| format!("no test of: {what}")));
    tested.sort_unstable();
    wrong.extend(
        tested.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| format!("twice: {}", pair[0])),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_text_fits_its_row_if_it_differs_in_what_the_row_leaves_open_alone() {
    for (row, text, does) in [
        ("a…c", "abc", true),
        ("a…", "a", true),
        ("a…c", "abcd", false),
        ("abc", "abcd", false),
        ("a…b…", "a1b2", true),
        ("…x", "y", false),
    ] {
        assert_eq!(fits(row, text), does, "{row} {text}");
    }
}
