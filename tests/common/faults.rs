//! A proxy that treats connections as bad networks do.
//!
//! The test decides what happens to the n-th connection, so that a schedule drawn from a seed can be replayed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fastrand::Rng;
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, SockRef, Socket, Type};

/// A direction through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens to one connection.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long nobody listens before the connection can be made.
    pub absent: Duration,
    /// The proxy's receive buffer is small, so that the client soon has to wait.
    pub narrow: bool,
    pub pace: Pace,
    pub fault: Fault,
}

/// How bytes are passed on.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As they arrive.
    Even,
    /// This many bytes at a time.
    Trickle(usize),
    /// Each piece this much later.
    Delayed(Duration),
}

/// The fault of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing.
    Calm,
    /// It is closed as soon as it is accepted.
    Refused,
    /// Both sides see the end of the stream.
    Cut(Point),
    /// Both sides see a reset.
    Reset(Point),
    /// Nothing more passes either way. Both sides stay open until another connection is accepted.
    Stalled(Point),
    /// Nothing more passes this way, but everything passes the other way, until another connection is accepted.
    Muted(Point),
    /// What the client sends after `after` bytes is held until a newer connection has passed on `lead` bytes. Then it
    /// is passed on.
    Late { after: u64, lead: u64 },
}

/// The moment when this many bytes have passed in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub way: Way,
    pub after: u64,
}

/// The most that is passed on in one piece.
const PIECE: usize = 16 << 10;

impl Plan {
    pub fn calm() -> Self {
        Fault::Calm.into()
    }

    /// Draws a fault. It happens within this many bytes of the client's or the server's.
    pub fn draw(random: &mut Rng, client: u64, server: u64) -> Self {
        // Faults near the handshake are more frequent.
        let mut bytes = |most: u64| {
            let scale = random.u32(0..4);
            random.u64(0..=(most >> scale))
        };
        let (up, down, lead) = (bytes(client), bytes(server), bytes(client));
        let way = if random.bool() { Way::Up } else { Way::Down };
        let after = if way == Way::Up { up } else { down };
        let point = Point { way, after };
        let fault = match random.u32(0..100) {
            0..7 => Fault::Refused,
            7..32 => Fault::Cut(point),
            32..57 => Fault::Reset(point),
            57..67 => Fault::Stalled(point),
            67..82 => Fault::Muted(point),
            _ => Fault::Late { after: up, lead },
        };
        let pace = match random.u32(0..10) {
            // This keeps it to some hundred pieces at most.
            0..2 => Pace::Trickle(random.usize(1..16) + usize::try_from(after >> 8).unwrap()),
            2 => Pace::Delayed(Duration::from_micros(random.u64(100..3_000))),
            _ => Pace::Even,
        };
        let absent = if random.u32(0..8) == 0 { random.u64(1..8) } else { 0 };
        Self { absent: Duration::from_millis(absent), narrow: random.bool(), pace, fault }
    }
}

impl From<Fault> for Plan {
    fn from(fault: Fault) -> Self {
        Self { absent: Duration::ZERO, narrow: false, pace: Pace::Even, fault }
    }
}

/// The proxy, on a free port of the loopback interface. Drop the clients first.
pub struct Proxy {
    address: SocketAddr,
    road: Arc<Road>,
    /// Returns the listener: its port is free for others only after `stop` has connected to it.
    acceptor: Option<JoinHandle<TcpListener>>,
}

/// State that the connections share.
#[derive(Default)]
struct Road {
    traffic: Mutex<Traffic>,
    changed: Condvar,
}

#[derive(Default)]
struct Traffic {
    /// How many connections were accepted.
    taken: usize,
    /// How many bytes of the newest connection were passed on to the server.
    passed: u64,
    /// How many connections to the server were opened.
    made: usize,
    pumps: Vec<JoinHandle<()>>,
    /// The test is over: nothing waits any more.
    over: bool,
}

impl Proxy {
    /// Passes connections on to `server`. `plan(n)` says what happens to the n-th, from 0.
    pub fn start(server: SocketAddr, plan: impl Fn(usize) -> Plan + Send + 'static) -> Self {
        let mut port = Port::new();
        let (address, listener) = (port.address, port.listen());
        let road = Arc::new(Road::default());
        let way = Arc::clone(&road);
        let acceptor = thread::spawn(move || way.accept(&mut port, listener, server, plan));
        Self { address, road, acceptor: Some(acceptor) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Releases what is held, and waits until every connection has ended, which its clients must do. Returns how many
    /// connections the server received.
    pub fn finish(mut self) -> usize {
        self.stop();
        let pumps = std::mem::take(&mut self.road.lock().pumps);
        for pump in pumps {
            pump.join().unwrap();
        }
        self.road.lock().made
    }

    fn stop(&mut self) {
        let Some(acceptor) = self.acceptor.take() else { return };
        self.road.change(|traffic| traffic.over = true);
        let _ = TcpStream::connect(self.address);
        let _ = acceptor.join();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Road {
    fn accept(
        self: Arc<Self>,
        port: &mut Port,
        mut listener: TcpListener,
        server: SocketAddr,
        plan: impl Fn(usize) -> Plan,
    ) -> TcpListener {
        let mut n = 0;
        loop {
            let plan = plan(n);
            if !plan.absent.is_zero() {
                drop(listener);
                self.pause(plan.absent);
                listener = port.listen();
            }
            // `stop` sets this before it connects: if nobody listens at that moment, its connection wakes nobody.
            if self.lock().over {
                return listener;
            }
            let accepted = listener.accept();
            if self.lock().over {
                return listener;
            }
            if let Ok((near, _)) = accepted {
                self.change(|traffic| (traffic.taken, traffic.passed) = (n + 1, 0));
                if !matches!(plan.fault, Fault::Refused) {
                    self.open(n, plan, near, server);
                }
            }
            n += 1;
        }
    }

    fn open(self: &Arc<Self>, n: usize, plan: Plan, near: TcpStream, server: SocketAddr) {
        // A server that is gone refuses the connection.
        let Ok(far) = TcpStream::connect(server) else { return };
        near.set_nodelay(true).unwrap();
        if plan.narrow {
            SockRef::from(&near).set_recv_buffer_size(4096).unwrap();
        }
        far.set_nodelay(true).unwrap();
        let (up, down) = (Pump::new(&near, &far), Pump::new(&far, &near));
        let wakers = [up.waker(), down.waker()];
        let (struck, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let link = Arc::new(Link { n, plan, near, far, struck, over, wakers, road: Arc::clone(self) });
        let pumps = [(Way::Up, up), (Way::Down, down)].map(|(way, pump)| {
            let link = Arc::clone(&link);
            thread::spawn(move || link.pump(way, pump))
        });
        self.change(|traffic| {
            traffic.made += 1;
            traffic.pumps.extend(pumps);
        });
    }

    fn change(&self, change: impl FnOnce(&mut Traffic)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// Waits until `condition` holds, or the test is over.
    fn wait(&self, condition: impl Fn(&Traffic) -> bool) {
        let held = |traffic: &mut Traffic| !traffic.over && !condition(traffic);
        drop(self.changed.wait_while(self.lock(), held));
    }

    /// Waits for this long, or until the test is over.
    fn pause(&self, time: Duration) {
        drop(self.changed.wait_timeout_while(self.lock(), time, |traffic| !traffic.over));
    }

    fn lock(&self) -> MutexGuard<'_, Traffic> {
        // Another test's failure does not concern this one.
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client's connection, and the matching one to the server.
struct Link {
    n: usize,
    plan: Plan,
    near: TcpStream,
    far: TcpStream,
    /// Whether the fault has happened.
    struck: AtomicBool,
    /// No pump waits for bytes or for room any more.
    over: AtomicBool,
    wakers: [Waker; 2],
    road: Arc<Road>,
}

/// A direction through a link. It waits with a poller, because not every system wakes a read when another thread shuts the
/// socket down.
struct Pump {
    poll: Poll,
    from: mio::net::TcpStream,
    to: mio::net::TcpStream,
}

impl Link {
    /// Passes bytes on in one direction, until that direction ends.
    fn pump(&self, way: Way, mut pump: Pump) {
        let mut left = self.plan.fault.reach(way);
        let mut buffer = vec![0; PIECE];
        loop {
            if left == 0 {
                if !self.strike(&mut pump) {
                    return;
                }
                left = u64::MAX;
            }
            let most = self.plan.pace.piece().min(usize::try_from(left).unwrap_or(PIECE));
            let n = match pump.read(self, &mut buffer[..most]) {
                Ok(0) | Err(_) => break,
                Ok(n) => n,
            };
            if let Pace::Delayed(time) = self.plan.pace {
                self.road.pause(time);
            }
            if self.has_struck() && matches!(self.plan.fault, Fault::Stalled(_)) {
                return self.await_successor();
            }
            if pump.write_all(self, &buffer[..n]).is_err() {
                return pump.discard(self);
            }
            left -= n as u64;
            if way == Way::Up {
                self.road.change(|traffic| {
                    if traffic.taken == self.n + 1 {
                        traffic.passed += n as u64;
                    }
                });
            }
        }
        // No end of stream may precede a reset.
        if !(self.has_struck() && matches!(self.plan.fault, Fault::Reset(_))) {
            let _ = pump.to.shutdown(Shutdown::Write);
        }
    }

    /// Makes the fault happen, in this pump. Returns whether bytes are passed on after it.
    fn strike(&self, pump: &mut Pump) -> bool {
        self.struck.store(true, Ordering::SeqCst);
        match self.plan.fault {
            Fault::Calm | Fault::Refused => unreachable!("these never strike"),
            Fault::Cut(_) => {
                let _ = self.near.shutdown(Shutdown::Write);
                let _ = self.far.shutdown(Shutdown::Write);
                // Closing a socket with unread bytes would cause a reset.
                pump.discard(self);
                false
            }
            Fault::Reset(_) => {
                for stream in [&self.near, &self.far] {
                    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                }
                // When the other pump ends, the sockets are closed.
                self.end();
                false
            }
            Fault::Stalled(_) | Fault::Muted(_) => {
                self.await_successor();
                false
            }
            Fault::Late { lead, .. } => {
                self.road.wait(|traffic| traffic.taken > self.n + 1 && traffic.passed >= lead);
                true
            }
        }
    }

    /// Ends both sides once another connection has been accepted.
    fn await_successor(&self) {
        self.road.wait(|traffic| traffic.taken > self.n + 1);
        let _ = self.near.shutdown(Shutdown::Both);
        let _ = self.far.shutdown(Shutdown::Both);
        self.end();
    }

    /// Ends the pumps.
    fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.wakers.iter().for_each(|waker| waker.wake().unwrap());
    }

    fn has_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }
}

impl Pump {
    const WAKE: Token = Token(2);

    fn new(from: &TcpStream, to: &TcpStream) -> Self {
        let poll = Poll::new().unwrap();
        let ends = [(from, Interest::READABLE), (to, Interest::WRITABLE)];
        let [from, to] = ends.map(|(stream, interest)| {
            stream.set_nonblocking(true).unwrap();
            let mut stream = mio::net::TcpStream::from_std(stream.try_clone().unwrap());
            poll.registry().register(&mut stream, Token(0), interest).unwrap();
            stream
        });
        Self { poll, from, to }
    }

    fn waker(&self) -> Waker {
        Waker::new(self.poll.registry(), Self::WAKE).unwrap()
    }

    /// Does this as soon as the system allows it, or fails at the end of the link.
    fn when_possible<T>(
        &mut self,
        link: &Link,
        mut act: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        while !link.over.load(Ordering::SeqCst) {
            match act(self) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let waited = self.poll.poll(&mut Events::with_capacity(4), None);
                    waited.or_else(|error| match error.kind() {
                        ErrorKind::Interrupted => Ok(()),
                        _ => Err(error),
                    })?;
                }
                done => return done,
            }
        }
        Err(ErrorKind::NotConnected.into())
    }

    fn read(&mut self, link: &Link, buffer: &mut [u8]) -> io::Result<usize> {
        self.when_possible(link, |pump| pump.from.read(buffer))
    }

    fn write_all(&mut self, link: &Link, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let taken = self.when_possible(link, |pump| pump.to.write(bytes))?;
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Reads up to the end.
    fn discard(&mut self, link: &Link) {
        let mut scratch = [0; 4096];
        while self.read(link, &mut scratch).is_ok_and(|n| n > 0) {}
    }
}

impl Fault {
    /// How many bytes pass in this direction before the fault.
    fn reach(self, way: Way) -> u64 {
        match self {
            Self::Cut(point) | Self::Reset(point) | Self::Stalled(point) | Self::Muted(point)
                if point.way == way =>
            {
                point.after
            }
            Self::Late { after, .. } if way == Way::Up => after,
            _ => u64::MAX,
        }
    }
}

impl Pace {
    fn piece(self) -> usize {
        match self {
            Self::Trickle(bytes) => bytes.min(PIECE),
            Self::Even | Self::Delayed(_) => PIECE,
        }
    }
}

/// A port that stays reserved while nobody listens on it, where the system allows that: by a second socket that is
/// bound to it.
struct Port {
    address: SocketAddr,
    spare: Option<Socket>,
}

impl Port {
    fn new() -> Self {
        let socket = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, spare: Some(socket) }
    }

    fn listen(&mut self) -> TcpListener {
        let mut socket = self.spare.take();
        super::eventually("the port is free", || {
            socket = socket.take().or_else(|| bind(self.address).ok());
            socket.is_some()
        });
        // Once somebody listens, the system refuses this.
        self.spare = bind(self.address).ok();
        let socket = socket.unwrap();
        socket.listen(128).unwrap();
        socket.into()
    }
}

fn bind(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // On Windows this would let other sockets bind the same port.
    socket.set_reuse_address(!cfg!(windows))?;
    socket.bind(&address.into())?;
    Ok(socket)
}
