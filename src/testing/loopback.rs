//! A real server on a loopback socket, for tests of code that uses a whole client.

#![expect(clippy::disallowed_methods, reason = "the test hears of what its own code panicked with")]

mod connection;
mod port;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder, JoinHandle};
use std::time::Duration;

pub use connection::LoopbackConnection;
use port::Port;

use crate::system::threads;

/// A WebSocket server on a free port of `127.0.0.1`, for tests of code that uses a whole [`Client`](crate::Client). It
/// runs a script for each connection, on a thread of its own.
///
/// ```
/// use tautline::Client;
/// use tautline::testing::LoopbackServer;
///
/// let server = LoopbackServer::start(|mut connection| {
///     assert_eq!(connection.recv(), Some("hello".into()));
///     connection.send("welcome");
///     connection.close(1000, "that was all");
/// })?;
///
/// // The code to test.
/// let client = Client::connect(server.url())?;
/// client.send("hello")?;
/// let messages: Vec<_> = client.messages().map(|message| message.to_string()).collect();
/// assert_eq!(messages, ["welcome"]);
///
/// server.join(); // panics if the script has panicked
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Scripts
/// The script gets a [`LoopbackConnection`]. Its waits are limited, so that a test does not hang. When it returns, the
/// TCP connection ends, without a close frame if the script has not closed it. To tell a first connection from later
/// ones, look at [`LoopbackConnection::number`].
///
/// A script that panics ends its connection. [`join`](Self::join), or else the drop of the server, panics with the same
/// message in the test. A panic that comes after the drop has cut the connections is not passed on.
///
/// # Faults
/// ```
/// use std::time::Duration;
/// use tautline::testing::LoopbackServer;
/// use tautline::{Client, ConnectionConfig, Error, Event, ReconnectConfig};
///
/// const SOON: Duration = Duration::from_secs(5);
///
/// let mut server = LoopbackServer::echo()?;
/// let quick = ReconnectConfig::default().initial_delay(Duration::from_millis(10));
/// let client = Client::connect(ConnectionConfig::new(server.url()).reconnect(quick))?;
///
/// server.cut(); // what is sent before the client notices may be lost
/// while !matches!(client.events().recv_timeout(SOON)?, Event::Disconnected { .. }) {}
/// client.send("still there?")?;
/// assert_eq!(client.recv_timeout(SOON)?.to_string(), "still there?");
///
/// server.reject(403); // the answer to new connections, until accept()
/// assert!(matches!(Client::connect(server.url()), Err(Error::UpgradeRejected(_))));
///
/// server.go_down()?; // also cuts the connections
/// assert!(matches!(Client::connect(server.url()), Err(Error::Connect { .. })));
/// server.come_up()?; // at the same port
/// # drop(client);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # TLS
/// `start_tls`, which needs the feature `native-tls`, takes a certificate and its key. Make them for your tests, with OpenSSL.
/// macOS takes no certificate that is valid for more than 825 days, and only one for servers; elsewhere it may be valid for longer.
///
/// ```sh
/// openssl req -x509 -newkey rsa:2048 -nodes -days 825 -keyout key.pem -out cert.pem -subj "/CN=localhost" \
///     -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -addext "extendedKeyUsage=serverAuth"
/// ```
///
/// The client has to trust the certificate:
///
#[cfg_attr(feature = "native-tls", doc = "```no_run")]
#[cfg_attr(not(feature = "native-tls"), doc = "```ignore")]
/// use tautline::native_tls::Identity;
/// use tautline::testing::{LoopbackConnection, LoopbackServer};
/// use tautline::{Certificate, Client, ConnectionConfig, TlsConfig};
///
/// let (certificate, key) = (std::fs::read("tests/cert.pem")?, std::fs::read("tests/key.pem")?);
/// let server = LoopbackServer::start_tls(Identity::from_pkcs8(&certificate, &key)?, LoopbackConnection::echo)?;
///
/// let tls = TlsConfig::default().root(Certificate::from_pem(&certificate));
/// let client = Client::connect(ConnectionConfig::new(server.url()).tls(tls))?; // wss://localhost:…
/// # drop(client);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the server ends when it is dropped"]
pub struct LoopbackServer {
    shared: Arc<Shared>,
    port: Port,
}

/// What the test's thread shares with the server's.
struct Shared {
    script: Box<dyn Fn(LoopbackConnection) + Send + Sync>,
    tls: Option<Secure>,
    state: Mutex<State>,
    /// A connection has ended.
    ended: Condvar,
}

struct State {
    /// How long a script waits for a message, and a drop for the scripts.
    timeout: Duration,
    /// The server ends: no script is run any more, and no panic is kept.
    ending: bool,
    /// What an attempt to connect is answered with, unless it is accepted.
    rejection: Option<Arc<str>>,
    subprotocol: Option<Box<str>>,
    /// How many TCP connections and how many WebSocket connections there were so far.
    streams: u64,
    connections: usize,
    /// The connections that have a thread.
    open: BTreeMap<u64, Open>,
    /// What the scripts have panicked with.
    panics: Vec<Box<dyn Any + Send>>,
    /// The threads of connections that have ended.
    done: Vec<JoinHandle<()>>,
}

struct Open {
    stream: TcpStream,
    thread: JoinHandle<()>,
}

/// The default of `set_timeout`, and how long a client has for its side of the handshakes.
const TIMEOUT: Duration = Duration::from_secs(10);

impl LoopbackServer {
    /// Starts a server that runs `script` for each connection.
    ///
    /// # Errors
    /// The system gives no port or no thread.
    pub fn start(script: impl Fn(LoopbackConnection) + Send + Sync + 'static) -> io::Result<Self> {
        Self::begin(None, Box::new(script))
    }

    /// Starts a server like [`start`](Self::start), with TLS. The certificate must be valid for `localhost`: see
    /// [TLS](Self#tls).
    ///
    /// # Errors
    /// As with [`start`](Self::start), or the TLS library can't use the certificate.
    ///
    /// Needs the feature `native-tls`.
    #[cfg(feature = "native-tls")]
    pub fn start_tls(
        identity: native_tls::Identity,
        script: impl Fn(LoopbackConnection) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let acceptor = native_tls::TlsAcceptor::new(identity).map_err(io::Error::other)?;
        let secure =
            move |stream| acceptor.accept(stream).ok().map(|stream| Box::new(stream) as Box<dyn Duplex>);
        Self::begin(Some(Box::new(secure)), Box::new(script))
    }

    /// Starts a server that answers every message with itself.
    ///
    /// # Errors
    /// As with [`start`](Self::start).
    pub fn echo() -> io::Result<Self> {
        Self::start(LoopbackConnection::echo)
    }

    fn begin(tls: Option<Secure>, script: Box<dyn Fn(LoopbackConnection) + Send + Sync>) -> io::Result<Self> {
        let state = State {
            timeout: TIMEOUT,
            ending: false,
            rejection: None,
            subprotocol: None,
            streams: 0,
            connections: 0,
            open: BTreeMap::new(),
            panics: Vec::new(),
            done: Vec::new(),
        };
        let shared = Shared { script, tls, state: Mutex::new(state), ended: Condvar::new() };
        let shared = Arc::new(shared);
        let port = Port::open(serve(&shared))?;
        Ok(Self { shared, port })
    }

    /// Returns the URL to connect to: `ws://127.0.0.1:PORT` or, with TLS, `wss://localhost:PORT`.
    pub fn url(&self) -> String {
        match &self.shared.tls {
            None => format!("ws://{}", self.address()),
            Some(_) => format!("wss://localhost:{}", self.address().port()),
        }
    }

    /// Returns the address that the server listens on. It stays the same while the server is down.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Sets how long the scripts of new connections wait for a message, and how long the end of the server waits for the
    /// scripts. It is 10 s by default.
    pub fn set_timeout(&self, timeout: Duration) {
        self.shared.state().timeout = timeout;
    }

    /// Returns how many WebSocket connections were opened so far.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Cuts every open connection, without a close frame. New ones are accepted.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Answers new connections with this HTTP status from now on, instead of accepting them.
    ///
    /// # Panics
    /// If a server can't reject an upgrade with this status.
    #[track_caller]
    pub fn reject(&self, status: u16) {
        self.reject_with(status, &[]);
    }

    /// Answers new connections with this HTTP status and these headers from now on, such as `Retry-After`.
    ///
    /// # Panics
    /// If a server can't reject an upgrade with this status.
    #[track_caller]
    pub fn reject_with(&self, status: u16, headers: &[(&str, &str)]) {
        assert!((200..600).contains(&status), "no server refuses with {status}: take 200 to 599");
        let head = format!("HTTP/1.1 {status} \r\nContent-Length: 0\r\nConnection: close\r\n");
        let answer = headers.iter().fold(head, |answer, (name, value)| answer + name + ": " + value + "\r\n");
        let answer = answer + "\r\n";
        self.shared.state().rejection = Some(answer.into());
    }

    /// Accepts new connections again.
    pub fn accept(&self) {
        self.shared.state().rejection = None;
    }

    /// Chooses this subprotocol on new connections that offer it. By default none is chosen.
    pub fn choose_subprotocol(&self, name: impl Into<String>) {
        self.shared.state().subprotocol = Some(name.into().into());
    }

    /// Cuts every open connection and stops listening, until [`come_up`](Self::come_up). New connections are refused by
    /// the system. The server keeps its port. Does nothing if it is down.
    ///
    /// # Errors
    /// The system does not leave the port to the server: another program has taken it in the same moment.
    pub fn go_down(&mut self) -> io::Result<()> {
        let closed = self.port.close();
        self.shared.cut();
        closed
    }

    /// Listens again, at the same port. Does nothing if the server is up.
    ///
    /// # Errors
    /// The system gives no port or no thread.
    pub fn come_up(&mut self) -> io::Result<()> {
        self.port.reopen(serve(&self.shared))
    }

    /// Ends the server: it stops listening, waits until each script has returned, and cuts those that have not after
    /// twice the [timeout](Self::set_timeout). End the clients first if the scripts wait for that.
    ///
    /// # Panics
    /// If a script has panicked, with what it has panicked with. If a script has not returned in time.
    #[track_caller]
    pub fn join(mut self) {
        let _ = self.port.close();
        // A script that waits for a message in vain says so first.
        let patience = self.shared.state().timeout.saturating_mul(2);
        let all = self.shared.wait(patience);
        drop(self);
        assert!(all, "a script of the loopback server has not returned within {patience:?}");
    }
}

/// Ends the server, cuts its connections, and waits until its threads have ended, for the
/// [timeout](LoopbackServer::set_timeout) at most.
///
/// # Panics
/// If a script has panicked before, with what it has panicked with. If a script does not return although its connection
/// is cut, because it waits for something else. Nothing panics in a test that panics already.
impl Drop for LoopbackServer {
    fn drop(&mut self) {
        let (panics, timeout) = {
            let mut state = self.shared.state();
            state.ending = true;
            (std::mem::take(&mut state.panics), state.timeout)
        };
        let _ = self.port.close();
        self.shared.cut();
        let all = self.shared.wait(timeout);
        if thread::panicking() {
            return;
        }
        if let Some(first) = panics.into_iter().next() {
            resume_unwind(first);
        }
        assert!(all, "a script of the loopback server does not return although its connection has ended");
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cut(&self) {
        for open in self.state().open.values() {
            let _ = open.stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits until no connection has a thread. Returns whether that is so.
    fn wait(&self, limit: Duration) -> bool {
        let waited = self.ended.wait_timeout_while(self.state(), limit, |state| !state.open.is_empty());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let (all, done) = (state.open.is_empty(), std::mem::take(&mut state.done));
        drop(state);
        for thread in done {
            let _ = thread.join();
        }
        all
    }

    /// The thread of a connection has nothing more to do.
    fn end(&self, id: u64, outcome: thread::Result<()>) {
        let mut state = self.state();
        if let Some(panic) = outcome.err().filter(|_| !state.ending) {
            state.panics.push(panic);
        }
        if let Some(Open { stream, thread }) = state.open.remove(&id) {
            // This handle would keep the connection open.
            let _ = stream.shutdown(Shutdown::Both);
            state.done.push(thread);
        }
        self.ended.notify_all();
    }

    /// Runs on the thread of a connection, from its TCP connection on.
    fn serve(&self, stream: TcpStream) {
        // A client that never says what it wants does not keep the thread.
        let _ = stream.set_read_timeout(Some(TIMEOUT));
        let (rejection, subprotocol, timeout) = {
            let state = self.state();
            (state.rejection.clone(), state.subprotocol.clone(), state.timeout)
        };
        let Ok(tcp) = stream.try_clone() else { return };
        let Some(mut secured) = self.secured(stream) else { return };
        if let Some(answer) = rejection {
            return reject(&mut *secured, &answer);
        }
        let accepted = LoopbackConnection::accept(secured, tcp, subprotocol.as_deref(), || {
            let mut state = self.state();
            state.connections += 1;
            state.connections - 1
        });
        if let Some(mut connection) = accepted {
            connection.set_timeout(timeout);
            (self.script)(connection);
        }
    }

    /// The stream with TLS around it, where there is any. `None` if the client did not agree to it.
    fn secured(&self, stream: TcpStream) -> Option<Box<dyn Duplex>> {
        match &self.tls {
            None => Some(Box::new(stream)),
            Some(secure) => secure(stream),
        }
    }
}

/// Puts TLS around a stream.
type Secure = Box<dyn Fn(TcpStream) -> Option<Box<dyn Duplex>> + Send + Sync>;

/// A stream, with TLS or without.
trait Duplex: Read + Write + Send {}

impl<T: Read + Write + Send> Duplex for T {}

/// Answers the request for the upgrade with this.
fn reject(stream: &mut dyn Duplex, answer: &str) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
    }
    // A client that has gone meanwhile does not read it.
    let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.flush());
}

/// What serves each TCP connection.
fn serve(shared: &Arc<Shared>) -> impl Fn(TcpStream) + Send + 'static {
    let shared = Arc::clone(shared);
    move |stream| {
        let _ = stream.set_nodelay(true);
        let Ok(handle) = stream.try_clone() else { return };
        // The thread can't end before it is in the list: that takes the lock.
        let mut state = shared.state();
        let id = state.streams;
        state.streams += 1;
        let mine = Arc::clone(&shared);
        let thread = threads::spawn(Builder::new().name("tautline-loopback".into()), move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| mine.serve(stream)));
            mine.end(id, outcome);
        });
        match thread {
            Ok(thread) => drop(state.open.insert(id, Open { stream: handle, thread })),
            Err(error) => state.panics.push(Box::new(format!("the loopback server gets no thread: {error}"))),
        }
    }
}

impl fmt::Debug for LoopbackServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopbackServer")
            .field("url", &self.url())
            .field("connections", &self.connections())
            .field("running", &self.shared.state().open.len())
            .finish_non_exhaustive()
    }
}
