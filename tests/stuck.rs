//! Ends within their bounds while code of the application does not return: it waits for a lock that the caller holds.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use common::{LONG, MS, Nobody, Server, accept_raw, eventually, frame, quick, read_frame};
use crossbeam_channel::{Receiver, Sender};
use tautline::{
    Attempt, Beat, Builder, Client, CloseReason, ConnectionConfig, ConnectionState, Context, Ending, Error,
    Handshake, HeartbeatConfig, Loss, Message, Outgoing, Protocol, ReconnectConfig, RequestId, Retry,
    Shutdown, Stream, Undelivered, UpgradeRequest,
};

const HOUR: Duration = Duration::from_secs(3600);

/// Code of the application: at one place, or more, it waits for the lock. Whoever holds it may still run it.
#[derive(Clone)]
struct Code(Arc<Place>);

struct Place {
    stuck_at: &'static str,
    lock: Arc<Mutex<()>>,
    inside: Sender<()>,
    /// How often any of it was called.
    calls: AtomicUsize,
}

impl Code {
    fn new(stuck_at: &'static str, lock: &Arc<Mutex<()>>) -> (Self, Receiver<()>) {
        let (inside, entered) = crossbeam_channel::bounded(2);
        let calls = AtomicUsize::new(0);
        (Self(Arc::new(Place { stuck_at, lock: Arc::clone(lock), inside, calls })), entered)
    }

    fn pass(&self, place: &str) {
        self.0.calls.fetch_add(1, SeqCst);
        self.wait(place);
    }

    fn wait(&self, place: &str) {
        if self.0.stuck_at.split(", ").any(|stuck_at| stuck_at == place) {
            let _ = self.0.inside.try_send(());
            drop(self.0.lock.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Its drop is code, too, and no call.
struct Dropped(Code, &'static str);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.wait(self.1);
    }
}

/// Calls every hook, sooner or later.
struct Busy(Code, #[expect(dead_code, reason = "its drop is what counts")] Dropped);

impl Protocol for Busy {
    fn prepare(&mut self, _: &Attempt<'_>, _: &mut UpgradeRequest) -> Result<(), Error> {
        self.0.pass("prepare");
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        self.0.pass("on_open");
        let code = self.0.clone();
        cx.work(1, move || {
            code.pass("work");
            Ok("done".into())
        });
        cx.set_timer(1, MS);
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, _: &mut Context<'_>, _: Message) -> Result<(), Error> {
        self.0.pass("on_message");
        Ok(())
    }

    fn on_ping(&mut self, _: &mut Context<'_>, _: &[u8]) -> Result<(), Error> {
        self.0.pass("on_ping");
        Ok(())
    }

    fn on_pong(&mut self, _: &mut Context<'_>, _: &[u8]) -> Result<(), Error> {
        self.0.pass("on_pong");
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        self.0.pass("on_send");
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_withdrawn(&mut self, _: &mut Context<'_>, _: RequestId) -> Result<(), Error> {
        self.0.pass("on_withdrawn");
        Ok(())
    }

    fn on_work(&mut self, cx: &mut Context<'_>, _: u32, _: Result<Message, Error>) -> Result<(), Error> {
        self.0.pass("on_work");
        if self.0.0.stuck_at == "on_move_failed" {
            cx.move_line();
        }
        Ok(())
    }

    fn on_move_failed(&mut self, _: &mut Context<'_>, _: &Error) -> Result<(), Error> {
        self.0.pass("on_move_failed");
        Ok(())
    }

    fn on_timer(&mut self, _: &mut Context<'_>, _: u32) -> Result<(), Error> {
        self.0.pass("on_timer");
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        self.0.pass("on_beat");
        cx.beat_answered();
        Ok(())
    }

    fn on_closing(&mut self, _: &mut Context<'_>) -> Result<(), Error> {
        self.0.pass("on_closing");
        Ok(())
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        self.0.pass("on_down");
        down.default_retry()
    }
}

/// Every place there is, and how it is named.
const PLACES: &[(&str, &str)] = &[
    ("prepare", "tautline-io: prepare"),
    ("on_open", "tautline-io: on_open"),
    ("on_message", "tautline-io: on_message"),
    ("on_ping", "tautline-io: on_ping"),
    ("on_pong", "tautline-io: on_pong"),
    ("on_send", "tautline-io: on_send"),
    ("on_withdrawn", "tautline-io: on_withdrawn"),
    ("on_work", "tautline-io: on_work"),
    ("on_move_failed", "tautline-io: on_move_failed"),
    ("on_timer", "tautline-io: on_timer"),
    ("on_beat", "tautline-io: on_beat"),
    ("on_closing", "tautline-io: on_closing"),
    ("on_down", "tautline-io: on_down"),
    ("counts_as_data", "tautline-io: counts_as_data"),
    ("on_event_ready", "tautline-io: on_event_ready"),
    ("drop of the protocol", DROP),
    ("drop of a callback", DROP),
    ("fetch", "tautline-dial: the application's fetch"),
    ("resolver", "tautline-dial: looking up h"),
    ("connector", "tautline-dial: the application's connector"),
    ("work", "tautline-work: the protocol's work"),
    ("on_thread_start on tautline-io", "tautline-io: on_thread_start"),
    ("on_thread_start on tautline-dial", "tautline-dial: on_thread_start"),
    ("on_thread_start on tautline-work", "tautline-work: on_thread_start"),
    ("on_thread_end on tautline-io", END),
    ("on_thread_end on tautline-dial", "tautline-dial: on_thread_end"),
    ("on_thread_end on tautline-work", "tautline-work: on_thread_end"),
    #[cfg(unix)]
    ("read on tautline-io", "tautline-io: the stream of the connector"),
    #[cfg(unix)]
    ("write on tautline-io", "tautline-io: the stream of the connector"),
    #[cfg(unix)]
    ("drop on tautline-io", "tautline-io: the stream of the connector"),
    #[cfg(unix)]
    ("read on tautline-dial", "tautline-dial: the stream of the connector"),
    #[cfg(unix)]
    ("write on tautline-dial", "tautline-dial: the stream of the connector"),
    #[cfg(unix)]
    ("drop on tautline-dial", "tautline-dial: the stream of the connector"),
];

const END: &str = "tautline-io: on_thread_end";
const DROP: &str = "tautline-io: the drop of a callback, of the protocol or of its work";

/// A stream of the application's, which is code on two threads.
#[cfg(unix)]
struct Slow(TcpStream, Code);

#[cfg(unix)]
impl Slow {
    fn here(what: &str) -> String {
        format!("{what} on {}", thread::current().name().unwrap_or_default())
    }
}

#[cfg(unix)]
impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1.pass(&Self::here("read"));
        if self.1.0.stuck_at == "drop on tautline-dial" {
            // It is dropped where it has failed.
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        self.0.read(buffer)
    }
}

#[cfg(unix)]
impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.pass(&Self::here("write"));
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(unix)]
impl std::os::fd::AsFd for Slow {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(unix)]
impl Drop for Slow {
    fn drop(&mut self) {
        self.1.wait(&Self::here("drop"));
    }
}

/// Says something of each kind, ends the line over the word "end", and takes no second one.
fn server() -> Server {
    Server::start(|n, stream| {
        if n > 0 {
            return;
        }
        let mut stream = accept_raw(stream);
        let hello = [frame(0x89, b"ping"), frame(0x8A, b"pong"), frame(0x81, b"text")].concat();
        if stream.write_all(&hello).is_ok() {
            while read_frame(&mut stream).is_some_and(|(_, payload)| payload != b"end") {}
        }
    })
}

fn config(url: &str, close_timeout: Duration) -> ConnectionConfig {
    let heartbeat = HeartbeatConfig::default().beat(Beat::Protocol).interval(10 * MS);
    quick(&url.replace("127.0.0.1", "h")).heartbeat(heartbeat).close_timeout(close_timeout).idle_timeout(HOUR)
}

fn builder(config: ConnectionConfig, code: &Code) -> Builder {
    let (fetch, resolver, data, ready) = (code.clone(), code.clone(), code.clone(), code.clone());
    let dropped = Dropped(code.clone(), "drop of a callback");
    let mut builder = Client::builder(config);
    if code.0.stuck_at == "connector" {
        // It takes the place of the resolver.
        let connector = code.clone();
        builder = builder.connector(move |to| {
            connector.pass("connector");
            TcpStream::connect(("127.0.0.1", to.port)).map(Stream::from)
        });
    }
    #[cfg(unix)]
    if code.0.stuck_at.contains(" on tautline-") && !code.0.stuck_at.contains("thread") {
        let stream = code.clone();
        builder = builder.connector(move |to| {
            let tcp = TcpStream::connect(("127.0.0.1", to.port))?;
            Ok(Stream::new(Slow(tcp, stream.clone())))
        });
    }
    let (begins, ends) = (code.clone(), code.clone());
    builder
        .on_thread_start(move |thread| begins.pass(&format!("on_thread_start on {thread}")))
        // It follows the other one in any case.
        .on_thread_end(move |thread| ends.wait(&format!("on_thread_end on {thread}")))
        .fetch(move |request| {
            fetch.pass("fetch");
            Ok(request)
        })
        .resolver(move |host, port| {
            resolver.pass("resolver");
            common::loopback(host, port)
        })
        .counts_as_data(move |_| {
            data.pass("counts_as_data");
            true
        })
        .on_event_ready(move || {
            let _ = &dropped;
            ready.pass("on_event_ready");
        })
        .protocol(Busy(code.clone(), Dropped(code.clone(), "drop of the protocol")))
}

/// A client that is about to be stuck there. Where its end is what brings it there, it is ready.
fn start(server: &Server, code: &Code, entered: &Receiver<()>, close_timeout: Duration) -> Client {
    let client = builder(config(&server.url(), close_timeout), code).start().unwrap();
    match code.0.stuck_at {
        "on_closing"
        | "drop of the protocol"
        | "drop of a callback"
        | "drop on tautline-io"
        | "on_thread_end on tautline-io" => {
            eventually("the connection", || client.stats().connects > 0);
            return client;
        }
        "on_send" => drop(client.send("x")),
        "on_down" => drop(client.send("end")),
        "on_withdrawn" => {
            eventually("the connection", || client.stats().connects > 0);
            while entered.is_empty() {
                drop(client.request("x", 20 * MS));
            }
        }
        _ => {}
    }
    entered.recv_timeout(LONG).unwrap_or_else(|_| panic!("{} was never called", code.0.stuck_at));
    client
}

/// What `call` returns, which it must do in time.
fn in_time<T: Send + 'static>(what: &str, call: impl FnOnce() -> T + Send + 'static) -> T {
    let (done_in, done) = crossbeam_channel::bounded(1);
    thread::spawn(move || done_in.send(call()));
    done.recv_timeout(LONG).unwrap_or_else(|_| panic!("it hangs: {what}"))
}

/// When the code returns after all, none of it is called any more, and all of it is dropped.
fn comes_to_nothing(code: &Code, lock: MutexGuard<'_, ()>) {
    let calls = code.0.calls.load(SeqCst);
    drop(lock);
    eventually("the end of every thread", || Arc::strong_count(&code.0) == 1);
    assert_eq!(code.0.calls.load(SeqCst), calls, "called after the end: {}", code.0.stuck_at);
}

/// Ends a client that is stuck at each of these places, and shows that this returns and what it says.
fn ends_at(places: &[(&'static str, &str)], close_timeout: Duration, end: fn(Client) -> Option<Undelivered>) {
    thread::scope(|scope| {
        for (place, name) in places {
            scope.spawn(move || {
                let lock = Arc::<Mutex<()>>::default();
                let held = lock.lock().unwrap();
                let server = server();
                let (code, entered) = Code::new(place, &lock);
                let client = start(&server, &code, &entered, close_timeout);
                if let Some(left) = in_time(place, move || end(client)) {
                    assert_eq!(left.still_inside.as_deref(), Some(*name), "{place}");
                    let in_hook = name.starts_with("tautline-io") && ![DROP, END].contains(name);
                    assert_eq!(
                        left.unfinished, in_hook,
                        "{place}: what is left is known once the line has ended"
                    );
                }
                comes_to_nothing(&code, held);
            });
        }
    });
}

#[test]
fn a_terminate_keeps_its_bound_whatever_code_it_meets_and_names_it() {
    let places: Vec<_> = PLACES.iter().copied().filter(|(place, _)| *place != "on_closing").collect();
    // It is not that timeout which ends the wait.
    ends_at(&places, HOUR, |client| Some(client.terminate()));
}

#[test]
fn a_close_keeps_its_bound_whatever_code_it_meets_and_names_it() {
    ends_at(PLACES, 20 * MS, |client| Some(client.close()));
}

#[test]
fn a_close_while_no_line_is_open_waits_for_no_timeout_and_for_no_code_but_a_callback() {
    // What the dial thread is in is left behind.
    let places: Vec<_> = PLACES
        .iter()
        .copied()
        .filter(|(place, name)| name.starts_with("tautline-dial") && !place.starts_with("on_thread_end"))
        .collect();
    assert_eq!(places.len(), if cfg!(unix) { 7 } else { 4 });
    ends_at(&places, HOUR, |client| Some(client.close()));
    let silent = Server::start(|_, mut stream| while stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) {});
    let nobody = Nobody::new();
    for (what, url, wanted) in [
        ("an attempt", silent.url(), ConnectionState::Connecting),
        ("a wait for the next", nobody.url(), ConnectionState::Disconnected),
    ] {
        let patient = ReconnectConfig::default().initial_delay(HOUR).max_delay(HOUR);
        let config = ConnectionConfig::new(url).connect_timeout(HOUR).close_timeout(HOUR).reconnect(patient);
        let client = Client::start(config).unwrap();
        eventually(what, || client.state() == wanted && client.stats().attempts > 0);
        let left = in_time(what, move || client.close());
        assert!(left.is_empty() && left.still_inside.is_none(), "{what}: {left:?}");
    }
}

#[test]
fn a_drop_keeps_its_bound_whatever_code_it_meets() {
    ends_at(PLACES, 20 * MS, |client| {
        drop(client);
        None
    });
}

#[test]
fn a_shutdown_keeps_its_deadline_whatever_code_it_meets_and_says_when_all_of_it_is_gone() {
    thread::scope(|scope| {
        let ways = [Ending::Close, Ending::Terminate].into_iter();
        for (how, &(place, name)) in ways.flat_map(|how| PLACES.iter().map(move |place| (how, place))) {
            if how == Ending::Terminate && place == "on_closing" {
                continue;
            }
            scope.spawn(move || {
                let lock = Arc::<Mutex<()>>::default();
                let held = lock.lock().unwrap();
                let server = server();
                let (code, entered) = Code::new(place, &lock);
                let client = start(&server, &code, &entered, 20 * MS);
                let shutdown = move |timeout| {
                    let client = client.clone();
                    move || client.shutdown(how, timeout)
                };
                // The end is what brings it to some of the places, which takes a moment.
                let first = in_time(place, shutdown(3000 * MS));
                let Shutdown::StillRunning(threads) = first else { panic!("{place}: {first:?}") };
                assert_eq!(&*threads, name, "{place}");
                let again = in_time(place, shutdown(Duration::ZERO));
                assert!(matches!(&again, Shutdown::StillRunning(threads) if &**threads == name), "{again:?}");
                let waiting = [LONG, HOUR].map(|timeout| thread::spawn(shutdown(timeout)));
                comes_to_nothing(&code, held);
                for waiting in waiting {
                    let gone = in_time(place, || waiting.join().unwrap());
                    assert!(matches!(gone, Shutdown::Gone(_)), "{place}: {gone:?}");
                }
                let at_last = shutdown(Duration::ZERO)();
                assert!(matches!(at_last, Shutdown::Gone(_)), "{place}: {at_last:?}");
            });
        }
    });
}

/// Takes longer over a message than an end has, and returns.
struct Late(#[expect(dead_code, reason = "its count is what counts")] Arc<()>, Sender<()>);

impl Protocol for Late {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, _: &mut Context<'_>, _: Message) -> Result<(), Error> {
        self.1.send(()).unwrap();
        // As it is on a machine where the thread does not get the processor.
        thread::sleep(300 * MS);
        Ok(())
    }
}

#[test]
fn a_callback_that_is_only_late_is_waited_for() {
    let ends: [fn(Client) -> Undelivered; 2] = [
        |client| client.terminate(),
        |client| {
            drop(client);
            Undelivered::default()
        },
    ];
    for end in ends {
        let server = server();
        let code = Arc::new(());
        let (inside, entered) = crossbeam_channel::unbounded();
        let late = Late(Arc::clone(&code), inside);
        let config = quick(&server.url()).close_timeout(20 * MS);
        let client = Client::builder(config).protocol(late).start().unwrap();
        entered.recv_timeout(LONG).unwrap();
        let left = end(client);
        assert_eq!((left.still_inside, Arc::strong_count(&code)), (None, 1), "all of it is gone");
    }
}

#[test]
fn every_caller_is_told_what_is_left_behind_however_many_there_are() {
    let lock = Arc::<Mutex<()>>::default();
    let held = lock.lock().unwrap();
    let server = server();
    let (code, entered) = Code::new("on_message", &lock);
    let client = start(&server, &code, &entered, 20 * MS);
    let ends = [Client::terminate, Client::close, Client::terminate, Client::close];
    let ends: Vec<_> = ends.map(|end| (end, client.clone())).into();
    let callers: Vec<_> = ends.into_iter().map(|(end, client)| thread::spawn(move || end(&client))).collect();
    for caller in callers {
        let left = in_time("one of many", || caller.join().unwrap());
        assert_eq!(left.still_inside.as_deref(), Some("tautline-io: on_message"));
    }
    assert!(client.send("late").is_err(), "nothing is accepted that nobody would send");
    in_time("the last drop", || drop(client));
    comes_to_nothing(&code, held);
}

#[test]
fn a_connect_keeps_its_bound_whatever_code_it_meets() {
    let places = [
        "on_thread_start on tautline-io",
        "on_thread_start on tautline-dial",
        "prepare",
        "on_open",
        "on_event_ready",
        "fetch",
        "resolver",
        "connector",
        #[cfg(unix)]
        "read on tautline-dial",
        #[cfg(unix)]
        "write on tautline-dial",
    ];
    thread::scope(|scope| {
        for place in places {
            scope.spawn(move || {
                let lock = Arc::<Mutex<()>>::default();
                let held = lock.lock().unwrap();
                let server = server();
                let (code, _entered) = Code::new(place, &lock);
                let config = config(&server.url(), 10 * MS).connect_timeout(1000 * MS).login_timeout(10 * MS);
                let builder = builder(config, &code);
                let error = in_time(place, || builder.connect().unwrap_err());
                let expected = match place {
                    "on_thread_start on tautline-dial"
                    | "fetch"
                    | "resolver"
                    | "connector"
                    | "read on tautline-dial"
                    | "write on tautline-dial" => matches!(error, Error::ConnectTimeout { .. }),
                    _ => matches!(error, Error::Timeout { .. }),
                };
                assert!(expected, "{place}: {error:?}");
                comes_to_nothing(&code, held);
            });
        }
    });
}

#[test]
fn a_connect_that_failed_says_why_though_the_protocol_is_not_dropped_in_time() {
    let lock = Arc::<Mutex<()>>::default();
    let held = lock.lock().unwrap();
    let nobody = Nobody::new();
    let (code, _entered) = Code::new("drop of the protocol", &lock);
    let builder = builder(config(&nobody.url(), HOUR), &code);
    let error = in_time("connect", || builder.connect().unwrap_err());
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    comes_to_nothing(&code, held);
}

/// The program's logger: keeps what it is given, and waits over the line that has the mark.
struct Logger {
    lines: Mutex<Vec<String>>,
    lock: Mutex<()>,
    waits: AtomicBool,
}

const MARK: &str = "the logger waits over this";

static LOGGER: Logger =
    Logger { lines: Mutex::new(Vec::new()), lock: Mutex::new(()), waits: AtomicBool::new(false) };

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        if line.contains(MARK) {
            self.waits.store(true, SeqCst);
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        }
        self.lines.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

fn logger() -> &'static Logger {
    // It is the same one each time.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(log::LevelFilter::Info);
    &LOGGER
}

struct Failing;

impl Protocol for Failing {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, _: &mut Context<'_>, _: Message) -> Result<(), Error> {
        Err(Error::session(MARK))
    }
}

#[test]
fn a_terminate_is_not_kept_by_the_programs_logger() {
    let logger = logger();
    let held = logger.lock.lock().unwrap();
    let server = server();
    let client = Client::builder(quick(&server.url())).protocol(Failing).start().unwrap();
    eventually("the line that it waits over", || logger.waits.load(SeqCst));
    let left = in_time("terminate", move || client.terminate());
    let named = left.still_inside.as_deref();
    assert_eq!(named, Some("tautline-io: the program's logger, or the library itself"));
    assert!(left.unfinished);
    drop(held);
}

#[test]
fn each_thread_that_a_drop_leaves_behind_is_named_in_the_log() {
    let lock = Arc::<Mutex<()>>::default();
    let held = lock.lock().unwrap();
    let logger = logger();
    let server = server();
    let (code, entered) = Code::new("on_timer, work", &lock);
    let client = start(&server, &code, &entered, 20 * MS);
    entered.recv_timeout(LONG).expect("the other of the two");
    in_time("the drop", || drop(client));
    let both = "tautline-io: on_timer, tautline-work: the protocol's work";
    let lines = logger.lines.lock().unwrap().clone();
    assert!(lines.iter().any(|line| line.contains(both)), "{lines:?}");
    comes_to_nothing(&code, held);
}

/// Tells of its drop, and waits in it.
struct SlowDrop {
    begun: Sender<()>,
    go: Receiver<()>,
    done: Arc<AtomicBool>,
}

impl Drop for SlowDrop {
    fn drop(&mut self) {
        let _ = self.begun.send(());
        let _ = self.go.recv();
        self.done.store(true, SeqCst);
    }
}

#[test]
fn all_who_end_a_client_at_once_wait_until_its_thread_has_gone() {
    let server = Server::echo();
    let (begun_in, begun) = crossbeam_channel::bounded(1);
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let done = Arc::<AtomicBool>::default();
    let slow = SlowDrop { begun: begun_in, go, done: Arc::clone(&done) };
    let config = quick(&server.url()).close_timeout(HOUR);
    let client = Client::builder(config).on_event_ready(move || _ = &slow).connect().unwrap();
    let (returned_in, returned) = crossbeam_channel::unbounded();
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (client, done, returned) = (client.clone(), Arc::clone(&done), returned_in.clone());
            thread::spawn(move || {
                let left = client.close();
                returned.send((done.load(SeqCst), left)).unwrap();
            })
        })
        .collect();
    begun.recv_timeout(LONG).unwrap();
    assert!(returned.recv_timeout(50 * MS).is_err(), "its code still runs");
    drop(go_in);
    for _ in &callers {
        let (done, left) = returned.recv_timeout(LONG).unwrap();
        assert!(done && left.is_empty() && left.still_inside.is_none(), "{left:?}");
    }
}

#[test]
fn a_terminate_ends_the_close_of_another_caller_too() {
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::connect(quick(&server.url()).close_timeout(HOUR)).unwrap();
    let ticket = client.send("unconfirmed").unwrap();
    let closing = client.clone();
    let close = thread::spawn(move || closing.close());
    eventually("the close", || client.state() == ConnectionState::Closing);
    let terminated = in_time("terminate", move || client.terminate());
    let closed = in_time("close", || close.join().unwrap());
    for left in [terminated, closed] {
        assert!(left.maybe_delivered.contains(ticket) && left.still_inside.is_none(), "{left:?}");
    }
}

#[test]
fn a_client_that_was_left_behind_in_a_hook_is_closed_by_its_caller() {
    // The second message has come by the time that the first one is done with, and no hook hears of it.
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        stream.write_all(&[frame(0x81, b"first"), frame(0x81, b"second")].concat()).unwrap();
        while read_frame(&mut stream).is_some() {}
    });
    for how in [Ending::Terminate, Ending::Close] {
        let lock = Arc::<Mutex<()>>::default();
        let held = lock.lock().unwrap();
        let (code, entered) = Code::new("on_message", &lock);
        let client = builder(config(&server.url(), HOUR), &code).start().unwrap();
        entered.recv_timeout(LONG).unwrap();
        let running = client.shutdown(how, MS);
        assert!(matches!(running, Shutdown::StillRunning(_)), "{running:?}");
        drop(held);
        let reason = client.wait_closed_timeout(LONG).unwrap();
        assert!(matches!(reason, CloseReason::ByCaller), "{reason:?}");
        let gone = client.shutdown(Ending::Terminate, LONG);
        assert!(matches!(gone, Shutdown::Gone(_)), "{gone:?}");
    }
}
