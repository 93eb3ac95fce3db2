//! Small proxies that do open tunnels: by HTTP CONNECT, and by SOCKS 5. Every host is this machine.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module that several test crates include")]
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

#[cfg(feature = "native-tls")]
use mio::{Events, Interest, Poll, Token};

use crate::common::{Server, eventually, read_head};

/// A proxy, and what it was asked for: the whole head of each CONNECT, or the target of each SOCKS request.
pub struct Tunnel {
    server: Server,
    asked: Asked,
    made: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    panicked: Arc<AtomicBool>,
}

type Asked = Arc<Mutex<Vec<String>>>;

impl Tunnel {
    /// Speaks HTTP. It wants this value of `Proxy-Authorization`, if one is given, and shows the whole request to a client
    /// that has another.
    pub fn http(authorization: Option<&'static str>) -> Self {
        Self::start(move |mut client, asked, made| {
            if let Some(target) = http(&mut client, authorization, asked, made) {
                splice(client, target);
            }
        })
    }

    /// Speaks HTTP over TLS.
    #[cfg(feature = "native-tls")]
    pub fn https() -> Self {
        let acceptor = crate::common::tls_acceptor();
        Self::start(move |client, asked, made| {
            let Ok(mut client) = acceptor.accept(client) else { return };
            if let Some(target) = http(&mut client, None, asked, made) {
                unwrap(client, target);
            }
        })
    }

    /// Speaks SOCKS 5. It wants this user and password, if some are given.
    pub fn socks(login: Option<(&'static str, &'static str)>) -> Self {
        Self::start(move |mut client, asked, made| {
            if let Some(target) = socks(&mut client, login, asked, made) {
                splice(client, target);
            }
        })
    }

    fn start(serve: impl Fn(TcpStream, &Mutex<Vec<String>>, &dyn Fn()) + Send + Sync + 'static) -> Self {
        let (asked, made, ended) =
            (Asked::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let panicked = Arc::<AtomicBool>::default();
        let (heard, opened, over) = (Arc::clone(&asked), Arc::clone(&made), Arc::clone(&ended));
        let broken = Arc::clone(&panicked);
        let server = Server::start(move |_, client| {
            let served = || serve(client, &heard, &|| _ = opened.fetch_add(1, SeqCst));
            // The panic has been printed; the test fails by it when the tunnel is dropped.
            if catch_unwind(AssertUnwindSafe(served)).is_err() {
                broken.store(true, SeqCst);
            }
            over.fetch_add(1, SeqCst);
        });
        Self { server, asked, made, ended, panicked }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until all of these `connections` have ended. Returns how many of them led to a server.
    pub fn finish(self, connections: usize) -> usize {
        eventually("the proxy ends every connection", || self.ended.load(SeqCst) == connections);
        self.made.load(SeqCst)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let panicked = self.panicked.load(SeqCst) && !thread::panicking();
        assert!(!panicked, "a thread of the proxy has panicked");
    }
}

/// A proxy that reads a request of HTTP, or the greeting of SOCKS, and says this.
pub fn says(answer: &'static [u8]) -> Server {
    Server::start(move |_, mut stream| {
        let mut first = [0; 3];
        if stream.read_exact(&mut first).is_ok() {
            if first == *b"CON" {
                read_head(&mut stream);
            }
            let _ = stream.write_all(answer);
        }
    })
}

/// Passes everything on, both ways, until both sides have ended.
fn splice(client: TcpStream, target: TcpStream) {
    fn pass(mut from: TcpStream, mut to: TcpStream) {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }
    let (up, down) = (client.try_clone().unwrap(), target.try_clone().unwrap());
    let upward = thread::spawn(move || pass(up, target));
    pass(down, client);
    upward.join().unwrap();
}

/// Passes on what is inside TLS, both ways, on one thread: a TLS stream can't be split.
#[cfg(feature = "native-tls")]
fn unwrap(mut client: native_tls::TlsStream<TcpStream>, mut behind: TcpStream) {
    client.get_ref().set_nonblocking(true).unwrap();
    behind.set_nonblocking(true).unwrap();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(2);
    // Registered by a handle of its own each, which reports once when there is something to read, or room again.
    let mut heard =
        [client.get_ref(), &behind].map(|stream| mio::net::TcpStream::from_std(stream.try_clone().unwrap()));
    for (token, stream) in heard.iter_mut().enumerate() {
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(stream, Token(token), both).unwrap();
    }
    let (mut up, mut down) = (Vec::new(), Vec::new());
    loop {
        let moved = pump(&mut client, &mut behind, &mut up)
            .and_then(|up| Ok(up | pump(&mut behind, &mut client, &mut down)?));
        match moved {
            Ok(true) => {}
            // Both sides are quiet, or full.
            Ok(false) => match poll.poll(&mut events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => panic!("{error}"),
                _ => {}
            },
            Err(_) => break,
        }
    }
    let _ = client.shutdown();
    let _ = behind.shutdown(Shutdown::Both);
}

/// Moves what there is. Returns whether that was anything; an error is the end.
fn pump(from: &mut impl Read, to: &mut impl Write, waiting: &mut Vec<u8>) -> io::Result<bool> {
    let later = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
    let mut moved = false;
    if waiting.is_empty() {
        let mut chunk = [0; 16 << 10];
        match from.read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => waiting.extend(&chunk[..n]),
            Err(error) if later(&error) => {}
            Err(error) => return Err(error),
        }
        moved = !waiting.is_empty();
    }
    while !waiting.is_empty() {
        match to.write(waiting) {
            Ok(n) => drop(waiting.drain(..n)),
            Err(error) if later(&error) => break,
            Err(error) => return Err(error),
        }
        moved = true;
    }
    Ok(moved)
}

fn http<S: Read + Write>(
    client: &mut S,
    wanted: Option<&str>,
    asked: &Mutex<Vec<String>>,
    made: &dyn Fn(),
) -> Option<TcpStream> {
    let head = read_head(client);
    asked.lock().unwrap().push(head.clone());
    let target = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    let given = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    let refuse = |client: &mut S, status: &str| {
        let length = head.len();
        let _ = write!(client, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{head}");
        None
    };
    if wanted.is_some() && wanted != given {
        return refuse(client, "407 Proxy Authentication Required");
    }
    let port = target.rsplit_once(':')?.1.parse().ok()?;
    let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
        return refuse(client, "502 Bad Gateway");
    };
    // The client may be gone by now; the server has the connection all the same.
    made();
    client.write_all(b"HTTP/1.0 200 Connection established\r\n\r\n").ok()?;
    Some(stream)
}

fn socks(
    client: &mut TcpStream,
    login: Option<(&str, &str)>,
    asked: &Mutex<Vec<String>>,
    made: &dyn Fn(),
) -> Option<TcpStream> {
    let [_, count] = bytes(client)?;
    let mut methods = vec![0; count.into()];
    client.read_exact(&mut methods).ok()?;
    let method = if login.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        client.write_all(&[5, 0xFF]).ok()?;
        return None;
    }
    client.write_all(&[5, method]).ok()?;
    if let Some((user, password)) = login {
        let [_] = bytes(client)?;
        let given = (text(client)?, text(client)?);
        let right = (given.0.as_str(), given.1.as_str()) == (user, password);
        client.write_all(&[1, u8::from(!right)]).ok()?;
        if !right {
            return None;
        }
    }
    let [_, _, _, kind] = bytes(client)?;
    let host = match kind {
        1 => Ipv4Addr::from(bytes::<4>(client)?).to_string(),
        3 => text(client)?,
        _ => Ipv6Addr::from(bytes::<16>(client)?).to_string(),
    };
    let port = u16::from_be_bytes(bytes(client)?);
    asked.lock().unwrap().push(format!("{host}:{port}"));
    let target = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
    if target.is_some() {
        made();
    }
    let reply = if target.is_some() { 0 } else { 5 };
    client.write_all(&[5, reply, 0, 1, 127, 0, 0, 1, 0, 80]).ok()?;
    target
}

fn bytes<const N: usize>(client: &mut TcpStream) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// A text behind its length.
fn text(client: &mut TcpStream) -> Option<String> {
    let [length] = bytes(client)?;
    let mut text = vec![0; length.into()];
    client.read_exact(&mut text).ok()?;
    String::from_utf8(text).ok()
}
