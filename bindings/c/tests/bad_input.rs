//! What bad input gets: a code, never undefined behaviour, and nothing half-open.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tautline::testing::LoopbackServer;
use tautline_c::*;

const LONG_MS: u32 = 20_000;

/// Options for this URL, which are freed with it.
struct Opts(*mut Options);

impl Opts {
    fn new(url: &str) -> Self {
        let url = format!("{url}\0");
        let mut options = null_mut();
        // SAFETY: the URL ends with a NUL, and there is room for the pointer.
        assert_eq!(unsafe { tautline_options_new(url.as_ptr().cast(), &raw mut options) }, TAUTLINE_OK);
        Self(options)
    }

    fn try_open(&self) -> Result<Client, i32> {
        let mut client = Client { id: 0 };
        // SAFETY: the options are those of `new`, and there is room for the client.
        match unsafe { tautline_open(self.0, &raw mut client) } {
            TAUTLINE_OK => Ok(client),
            code => Err(code),
        }
    }

    fn open(&self) -> Client {
        self.try_open().unwrap()
    }
}

impl Drop for Opts {
    fn drop(&mut self) {
        // SAFETY: they are those of `new`, and nobody uses them now.
        unsafe { tautline_options_free(self.0) };
    }
}

fn last() -> String {
    let mut text = [0_u8; 1024];
    // SAFETY: there is as much room as it says.
    unsafe { tautline_last_error(text.as_mut_ptr().cast(), text.len()) };
    CStr::from_bytes_until_nul(&text).unwrap().to_str().unwrap().into()
}

fn shutdown(client: Client, how: i32) -> i32 {
    // SAFETY: null is right for what is left.
    unsafe { tautline_shutdown(client, how, LONG_MS, null_mut()) }
}

fn send(client: Client, text: &str) -> i32 {
    // SAFETY: there are as many bytes as it says.
    unsafe { tautline_send_text(client, text.as_ptr().cast(), text.len()) }
}

fn empty() -> Event {
    let size = size_of::<Event>();
    Event { size, ..Event::default() }
}

fn next(client: Client, buffer: &mut [u8]) -> (i32, Event) {
    let mut event = empty();
    // SAFETY: there is room for the event, and as much for the payload as it says.
    let code = unsafe { tautline_next_event(client, &raw mut event, buffer.as_mut_ptr(), buffer.len()) };
    (code, event)
}

/// Takes events until one of this kind.
fn until(client: Client, kind: i32) -> Event {
    let mut buffer = [0; 4096];
    loop {
        match next(client, &mut buffer) {
            (TAUTLINE_OK, event) if event.kind == kind => return event,
            (TAUTLINE_OK, _) => {}
            // The end of a client wakes who waits for it.
            (TAUTLINE_E_EMPTY, _) => match tautline_wait_event(client, LONG_MS) {
                TAUTLINE_OK | TAUTLINE_E_WOKEN => {}
                code => panic!("{code}: {}", last()),
            },
            (code, _) => panic!("{code}: {}", last()),
        }
    }
}

/// A call of each function that takes a client.
fn each_call(client: Client) -> Vec<(&'static str, i32)> {
    let mut stats = [0_u64; 32];
    stats[0] = size_of_val(&stats) as u64;
    vec![
        ("wait_ready", tautline_wait_ready(client, 0)),
        ("wake", tautline_wake(client)),
        ("send_text", send(client, "text")),
        // SAFETY: there are as many bytes as it says.
        ("send_binary", unsafe { tautline_send_binary(client, b"12".as_ptr(), 2) }),
        // SAFETY: as above.
        ("send_timeout", unsafe { tautline_send_timeout(client, TAUTLINE_TEXT, b"12".as_ptr(), 2, 0) }),
        ("next_event", next(client, &mut []).0),
        ("wait_event", tautline_wait_event(client, 0)),
        ("event_fd", tautline_event_fd(client)),
        ("state", tautline_state(client)),
        // SAFETY: there is more room than it needs, and its size is set.
        ("stats", unsafe { tautline_stats(client, stats.as_mut_ptr().cast()) }),
        ("shutdown", shutdown(client, TAUTLINE_TERMINATE)),
    ]
}

#[test]
fn a_client_that_was_shut_down_and_one_that_never_was_are_no_clients() {
    let server = LoopbackServer::echo().unwrap();
    let options = Opts::new(&server.url());
    let gone = options.open();
    assert_eq!(tautline_wait_ready(gone, LONG_MS), TAUTLINE_OK);
    assert_eq!(shutdown(gone, TAUTLINE_CLOSE), TAUTLINE_OK);
    // Another one may stand in its place.
    let other = options.open();
    for stranger in [gone.id, 0, 1, u64::MAX, u64::MAX << 32, other.id ^ (1 << 40)] {
        for (call, code) in each_call(Client { id: stranger }) {
            assert_eq!(code, TAUTLINE_E_HANDLE, "{call} of {stranger:#x}");
        }
        assert!(last().contains(&format!("no client {stranger:#x}")), "{}", last());
    }
    assert_eq!(send(other, "it goes on"), TAUTLINE_OK);
    assert_eq!(shutdown(other, TAUTLINE_TERMINATE), TAUTLINE_OK);
}

#[test]
fn null_and_misaligned_pointers_and_sizes_too_small_are_refused() {
    let server = LoopbackServer::echo().unwrap();
    let options = Opts::new(&server.url());
    let client = options.open();
    let mut room = [0_u64; 32];
    let crooked = room.as_mut_ptr().cast::<u8>().wrapping_add(1);
    // SAFETY: null and misaligned pointers are what is tried; the others are right.
    unsafe {
        for (call, code) in [
            ("options_new", tautline_options_new(null(), (&raw mut room).cast())),
            ("options_new", tautline_options_new(c"ws://h".as_ptr(), null_mut())),
            ("header", tautline_options_header(null_mut(), c"a".as_ptr(), c"b".as_ptr())),
            ("header", tautline_options_header(options.0, null(), c"b".as_ptr())),
            ("header", tautline_options_header(options.0, c"a".as_ptr(), null())),
            ("proxy", tautline_options_proxy(options.0, null())),
            ("ca_pem", tautline_options_ca_pem(options.0, null(), 3)),
            ("login", tautline_options_login_json(options.0, c"{".as_ptr(), null(), null())),
            ("login", tautline_options_login_json(options.0, c"{}".as_ptr(), c"op".as_ptr(), null())),
            ("open", tautline_open(null(), (&raw mut room).cast())),
            ("open", tautline_open(options.0, null_mut())),
            ("open", tautline_open(options.0, crooked.cast())),
            ("send_text", tautline_send_text(client, null(), 1)),
            ("send_binary", tautline_send_binary(client, null(), 1)),
            ("send_timeout", tautline_send_timeout(client, 7, b"1".as_ptr(), 1, 0)),
            ("next_event", tautline_next_event(client, null_mut(), null_mut(), 0)),
            ("next_event", tautline_next_event(client, crooked.cast(), null_mut(), 0)),
            ("next_event", tautline_next_event(client, &raw mut *Box::new(empty()), null_mut(), 1)),
            ("stats", tautline_stats(client, null_mut())),
            ("shutdown", tautline_shutdown(client, 7, 0, null_mut())),
            ("shutdown", tautline_shutdown(client, TAUTLINE_CLOSE, 0, crooked.cast())),
            ("log_to", tautline_log_to(None, null_mut(), 6)),
        ] {
            assert_eq!(code, TAUTLINE_E_ARGUMENT, "{call}: {}", last());
        }
        room[0] = size_of::<Stats>() as u64 - 1;
        assert_eq!(tautline_stats(client, room.as_mut_ptr().cast()), TAUTLINE_E_SIZE);
        room[0] = size_of::<Event>() as u64 - 1;
        assert_eq!(tautline_next_event(client, room.as_mut_ptr().cast(), null_mut(), 0), TAUTLINE_E_SIZE);
        room[0] = 0;
        assert_eq!(tautline_shutdown(client, TAUTLINE_CLOSE, 0, room.as_mut_ptr().cast()), TAUTLINE_E_SIZE);
        assert!(last().contains("sizeof(tautline_undelivered)"), "{}", last());
        // A later version's struct is larger, and keeps what this one doesn't know.
        (room[0], room[31]) = (size_of_val(&room) as u64, 7);
        assert_eq!(tautline_stats(client, room.as_mut_ptr().cast()), TAUTLINE_OK);
        assert_eq!((room[0], room[31]), (size_of_val(&room) as u64, 7));
        tautline_options_free(null_mut());
        assert_eq!(tautline_last_error(null_mut(), 0), last().len());
    }
    assert_eq!(tautline_wait_ready(client, LONG_MS), TAUTLINE_OK, "nothing of this has ended it");
    assert_eq!(shutdown(client, TAUTLINE_CLOSE), TAUTLINE_OK);
}

#[test]
fn text_that_is_not_utf8_and_options_that_cannot_be_used_are_refused_with_the_reason() {
    let options = Opts::new("ws://h");
    // SAFETY: the texts end with a NUL.
    unsafe {
        let mut none = null_mut();
        assert_eq!(tautline_options_new(c"ws://\xFF".as_ptr(), &raw mut none), TAUTLINE_E_UTF8);
        assert!(none.is_null() && last().starts_with("the URL: "), "{}", last());
        assert_eq!(tautline_options_header(options.0, c"a".as_ptr(), c"\xC3".as_ptr()), TAUTLINE_E_UTF8);
        assert_eq!(tautline_options_connect_timeout(options.0, 0), TAUTLINE_OK);
    }
    assert_eq!(options.try_open().unwrap_err(), TAUTLINE_E_CONFIG);
    assert!(last().contains("connect_timeout"), "{}", last());
    assert_eq!(Opts::new("http://h").try_open().unwrap_err(), TAUTLINE_E_CONFIG);
    assert!(last().contains("ws:// or wss://"), "{}", last());
    let server = LoopbackServer::echo().unwrap();
    let client = Opts::new(&server.url()).open();
    // SAFETY: there is one byte.
    assert_eq!(unsafe { tautline_send_text(client, b"\xFF".as_ptr().cast(), 1) }, TAUTLINE_E_UTF8);
    // SAFETY: there are no bytes.
    assert_eq!(unsafe { tautline_send_binary(client, null(), 0) }, TAUTLINE_OK, "an empty message is one");
    assert_eq!(until(client, TAUTLINE_EVENT_MESSAGE).length, 0);
    assert_eq!(shutdown(client, TAUTLINE_CLOSE), TAUTLINE_OK);
}

#[test]
fn a_message_that_is_too_large_is_refused_before_it_is_copied() {
    let _alone = alone();
    assert_eq!(tautline::ConnectionConfig::new("ws://h").max_message_size, TAUTLINE_MOST_BYTES);
    let client = Opts::new("ws://127.0.0.1:9").open();
    let byte = 7_u8;
    for length in [TAUTLINE_MOST_BYTES + 1, isize::MAX as usize, usize::MAX] {
        // SAFETY: a payload of this length is refused, and not looked at.
        let code = unsafe { tautline_send_binary(client, &raw const byte, length) };
        assert_eq!(code, TAUTLINE_E_TOO_LARGE, "{length}");
    }
    assert!(last().contains("67108864 are allowed"), "{}", last());
    assert_eq!(shutdown(client, TAUTLINE_TERMINATE), TAUTLINE_OK);
}

#[test]
fn a_long_error_is_cut_and_a_short_buffer_gets_its_beginning() {
    let options = Opts::new("ws://h");
    let long = format!("{}é\0", "x".repeat(5000));
    // SAFETY: the text ends with a NUL; the buffers are as long as it says.
    unsafe {
        assert_eq!(tautline_options_proxy(options.0, long.as_ptr().cast()), TAUTLINE_OK);
        assert!(options.try_open().is_err());
        let length = tautline_last_error(null_mut(), 0);
        assert!((1..1024).contains(&length), "{length}");
        let mut short: [c_char; 6] = [63; 6];
        assert_eq!(tautline_last_error(short.as_mut_ptr(), 5), length);
        assert_eq!((short[4], short[5]), (0, 63), "nothing is written behind it");
    }
}

#[test]
fn an_event_that_does_not_fit_stays_until_there_is_room() {
    let server = LoopbackServer::echo().unwrap();
    let client = Opts::new(&server.url()).open();
    assert_eq!(send(client, &"x".repeat(100)), TAUTLINE_OK);
    until(client, TAUTLINE_EVENT_READY);
    let mut buffer = [0; 100];
    for room in [0, 99] {
        assert_eq!(tautline_wait_event(client, LONG_MS), TAUTLINE_OK);
        let (code, event) = next(client, &mut buffer[..room]);
        assert_eq!((code, event.kind, event.length), (TAUTLINE_E_BUFFER, TAUTLINE_EVENT_MESSAGE, 100));
    }
    let (code, event) = next(client, &mut buffer);
    assert_eq!((code, event.message_kind), (TAUTLINE_OK, TAUTLINE_TEXT));
    assert_eq!(buffer, [b'x'; 100]);
    assert_eq!(next(client, &mut buffer).0, TAUTLINE_E_EMPTY, "it was taken once");
    assert_eq!(shutdown(client, TAUTLINE_CLOSE), TAUTLINE_OK);
}

#[test]
fn a_client_that_gives_up_says_why_and_its_events_end() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = Opts::new(&format!("ws://{nobody}"));
    // SAFETY: they are options.
    assert_eq!(unsafe { tautline_options_reconnect(options.0, 10, 10, 0) }, TAUTLINE_OK);
    let client = options.open();
    assert_eq!(tautline_wait_ready(client, LONG_MS), TAUTLINE_E_CLOSED);
    assert!(last().contains("refused"), "{}", last());
    assert!(until(client, TAUTLINE_EVENT_CLOSED).length > 0);
    assert_eq!(next(client, &mut []).0, TAUTLINE_E_CLOSED);
    assert_eq!(tautline_wait_event(client, LONG_MS), TAUTLINE_E_CLOSED);
    // What is accepted at the last moment is among what is left.
    let mut left = Undelivered { size: size_of::<Undelivered>(), ..Undelivered::default() };
    let mut accepted = 0;
    let until = Instant::now() + Duration::from_millis(LONG_MS.into());
    loop {
        match send(client, "too late") {
            TAUTLINE_OK => accepted += 1,
            TAUTLINE_E_FULL => {}
            code => break assert_eq!(code, TAUTLINE_E_CLOSED),
        }
        assert!(Instant::now() < until);
    }
    assert_eq!(tautline_state(client), TAUTLINE_STATE_CLOSED);
    // SAFETY: there is room for it, and its size is set.
    assert_eq!(unsafe { tautline_shutdown(client, TAUTLINE_CLOSE, LONG_MS, &raw mut left) }, TAUTLINE_OK);
    assert_eq!((left.never_written, left.maybe_delivered), (accepted, 0));
}

#[test]
fn a_loss_and_the_end_have_the_close_code_of_the_server_or_the_status_of_its_refusal() {
    let server = LoopbackServer::start(|mut connection| {
        if connection.recv().is_some() {
            connection.close(4321, "moved");
        }
    });
    let server = server.unwrap();
    let options = Opts::new(&server.url());
    // SAFETY: they are options.
    assert_eq!(unsafe { tautline_options_reconnect(options.0, 10, 10, 1) }, TAUTLINE_OK);
    let numbers = |event: Event| (event.close_code, event.http_status);
    let closed = options.open();
    assert_eq!(numbers(until(closed, TAUTLINE_EVENT_READY)), (0, 0));
    server.reject(401);
    assert_eq!(send(closed, "close"), TAUTLINE_OK);
    assert_eq!(numbers(until(closed, TAUTLINE_EVENT_DISCONNECTED)), (4321, 0));
    assert_eq!(numbers(until(closed, TAUTLINE_EVENT_DISCONNECTED)), (0, 401));
    assert_eq!(numbers(until(closed, TAUTLINE_EVENT_CLOSED)), (0, 401), "it has given up");
    assert_eq!(shutdown(closed, TAUTLINE_CLOSE), TAUTLINE_OK);

    server.accept();
    // SAFETY: they are options.
    assert_eq!(unsafe { tautline_options_reconnect(options.0, 10, 10, 0) }, TAUTLINE_OK);
    let once = options.open();
    assert_eq!(send(once, "close"), TAUTLINE_OK);
    assert_eq!(numbers(until(once, TAUTLINE_EVENT_CLOSED)), (4321, 0));
    assert_eq!(shutdown(once, TAUTLINE_CLOSE), TAUTLINE_OK);
}

#[test]
fn a_call_that_finds_nothing_leaves_the_text_of_the_last_failure() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Opts::new(&format!("ws://{}", silent.local_addr().unwrap())).open();
    assert_eq!(tautline_state(Client { id: 0 }), TAUTLINE_E_HANDLE);
    let failure = last();
    while next(client, &mut []).0 == TAUTLINE_OK {}
    // The events of the attempt are few, and come at its begin.
    let until = Instant::now() + Duration::from_millis(LONG_MS.into());
    while tautline_wait_event(client, 0) != TAUTLINE_E_TIMEOUT {
        assert!([TAUTLINE_OK, TAUTLINE_E_EMPTY].contains(&next(client, &mut []).0) && Instant::now() < until);
    }
    assert_eq!(tautline_wake(client), TAUTLINE_OK);
    assert_eq!(tautline_wait_ready(client, LONG_MS), TAUTLINE_E_WOKEN);
    assert_eq!(last(), failure);
    assert_eq!(tautline_wait_ready(client, 0), TAUTLINE_E_TIMEOUT);
    assert!(
        last().starts_with("the line was not ready after"),
        "a line that is down is a failure: {}",
        last()
    );
    assert_eq!(shutdown(client, TAUTLINE_TERMINATE), TAUTLINE_OK);
}

#[test]
fn waits_of_other_threads_end_by_a_wake_up_and_by_a_shutdown() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Opts::new(&format!("ws://{}", silent.local_addr().unwrap()));
    let client = options.open();
    // The first wait finds the wake-up there.
    assert_eq!(tautline_wake(client), TAUTLINE_OK);
    assert_eq!(tautline_wait_ready(client, LONG_MS), TAUTLINE_E_WOKEN);
    thread::scope(|scope| {
        let waits = scope.spawn(|| tautline_wait_ready(client, LONG_MS));
        let began = Instant::now();
        assert_eq!(shutdown(client, TAUTLINE_TERMINATE), TAUTLINE_OK);
        // It was woken, found the client closed, or came too late.
        let code = waits.join().unwrap();
        assert!([TAUTLINE_E_WOKEN, TAUTLINE_E_CLOSED, TAUTLINE_E_HANDLE].contains(&code), "{code}");
        assert!(began.elapsed() < Duration::from_millis(LONG_MS.into()));
    });
}

#[test]
fn several_shutdowns_at_once_hear_that_all_is_gone_or_that_it_was() {
    let server = LoopbackServer::echo().unwrap();
    for _ in 0..20 {
        let client = Opts::new(&server.url()).open();
        assert_eq!(tautline_wait_ready(client, LONG_MS), TAUTLINE_OK);
        let codes: Vec<_> = thread::scope(|scope| {
            let ends: Vec<_> = (0..4).map(|_| scope.spawn(|| shutdown(client, TAUTLINE_CLOSE))).collect();
            ends.into_iter().map(|end| end.join().unwrap()).collect()
        });
        assert!(codes.contains(&TAUTLINE_OK), "{codes:?}");
        assert!(codes.iter().all(|code| [TAUTLINE_OK, TAUTLINE_E_HANDLE].contains(code)), "{codes:?}");
    }
}

#[test]
fn no_more_clients_than_there_is_room_for_and_a_place_is_free_again_after_a_shutdown() {
    // Each has a thread and descriptors, so not all of them are opened: the places are claimed and given back.
    for _ in 0..TAUTLINE_MOST_CLIENTS + 10 {
        assert_eq!(Opts::new("http://h").try_open().unwrap_err(), TAUTLINE_E_CONFIG);
    }
}

static IN_CALLBACK: [AtomicI32; 3] = [const { AtomicI32::new(1) }; 3];

/// What the callback of the log calls: the client that says something.
extern "C" fn calls_back(user: *mut c_void, _: i32, _: *const c_char, _: usize) {
    let client = Client { id: user as usize as u64 };
    let on_a_client = thread::current().name() == Some("tautline-io");
    if on_a_client && IN_CALLBACK[0].load(SeqCst) == 1 {
        IN_CALLBACK[1].store(tautline_wait_event(client, LONG_MS), SeqCst);
        IN_CALLBACK[2].store(shutdown(client, TAUTLINE_CLOSE), SeqCst);
        // SAFETY: null is right.
        IN_CALLBACK[0].store(unsafe { tautline_log_to(None, null_mut(), TAUTLINE_LOG_OFF) }, SeqCst);
    }
}

#[test]
fn a_callback_of_the_log_may_not_wait_and_is_over_when_it_is_turned_off() {
    let _alone = alone();
    let server = LoopbackServer::echo().unwrap();
    let client = Opts::new(&server.url()).open();
    assert_eq!(tautline_wait_ready(client, LONG_MS), TAUTLINE_OK);
    let user = usize::try_from(client.id).unwrap() as *mut c_void;
    // SAFETY: the function is one for it, and takes the number of the client for a pointer.
    assert_eq!(unsafe { tautline_log_to(Some(calls_back), user, TAUTLINE_LOG_INFO) }, TAUTLINE_OK);
    server.cut();
    until(client, TAUTLINE_EVENT_CLOSED);
    let codes = [0, 1, 2].map(|at| IN_CALLBACK[at].load(SeqCst));
    assert_eq!(codes, [TAUTLINE_E_BUSY, TAUTLINE_E_DEADLOCK, TAUTLINE_E_STILL_RUNNING]);
    assert_eq!(shutdown(client, TAUTLINE_TERMINATE), TAUTLINE_OK);
    // SAFETY: null is right.
    assert_eq!(unsafe { tautline_log_to(None, null_mut(), TAUTLINE_LOG_OFF) }, TAUTLINE_OK);
}

static HELD: Mutex<()> = Mutex::new(());
static REACHED: AtomicBool = AtomicBool::new(false);

/// `user` is the port that the line of the log is about: other tests log, too.
extern "C" fn waits_for_a_lock(user: *mut c_void, _: i32, text: *const c_char, _: usize) {
    // SAFETY: a NUL ends the text.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    if text.contains(&format!(":{}", user as usize)) && thread::current().name() == Some("tautline-io") {
        REACHED.store(true, SeqCst);
        drop(HELD.lock());
    }
}

#[test]
fn a_shutdown_keeps_its_deadline_while_a_callback_waits_for_a_lock_that_its_caller_holds() {
    let _alone = alone();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let held = HELD.lock().unwrap();
    // SAFETY: the function is one for it.
    unsafe {
        tautline_log_to(Some(waits_for_a_lock), usize::from(nobody.port()) as *mut c_void, TAUTLINE_LOG_INFO)
    };
    let client = Opts::new(&format!("ws://{nobody}")).open();
    let until = Instant::now() + Duration::from_millis(LONG_MS.into());
    while !REACHED.load(SeqCst) {
        assert!(Instant::now() < until, "nothing was logged");
        thread::yield_now();
    }
    let began = Instant::now();
    // SAFETY: null is right.
    let code = unsafe { tautline_shutdown(client, TAUTLINE_CLOSE, 100, null_mut()) };
    assert_eq!(code, TAUTLINE_E_STILL_RUNNING);
    assert!(last().contains("tautline-io"), "{}", last());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // SAFETY: null is right.
    assert_eq!(unsafe { tautline_log_to(None, null_mut(), TAUTLINE_LOG_OFF) }, TAUTLINE_E_BUSY);
    drop(held);
    assert_eq!(shutdown(client, TAUTLINE_CLOSE), TAUTLINE_OK);
    // SAFETY: null is right.
    assert_eq!(unsafe { tautline_log_to(None, null_mut(), TAUTLINE_LOG_OFF) }, TAUTLINE_OK);
}

/// The tests that set the log, one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn each_code_has_a_text_of_its_own_and_so_has_a_number_that_is_none() {
    // SAFETY: they are static texts.
    let text = |code| unsafe { CStr::from_ptr(tautline_error_text(code)) }.to_str().unwrap();
    let codes = TAUTLINE_E_FORKED..=TAUTLINE_OK;
    let texts: std::collections::HashSet<_> = codes.clone().map(text).collect();
    assert_eq!(texts.len(), codes.count());
    assert_eq!(text(TAUTLINE_E_FORKED - 1), text(i32::MAX));
}

#[cfg(unix)]
#[test]
fn the_descriptor_is_readable_while_events_wait_and_not_otherwise() {
    let server = LoopbackServer::echo().unwrap();
    let client = Opts::new(&server.url()).open();
    assert_eq!(tautline_wait_ready(client, LONG_MS), TAUTLINE_OK);
    let readable = |patience: i32| {
        let fd = tautline_event_fd(client);
        assert!(fd >= 0, "{}", last());
        let mut one = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: it is one entry, which nobody else uses.
        unsafe { libc::poll(&raw mut one, 1, patience) == 1 }
    };
    // Those events were there before the descriptor was.
    assert!(readable(0));
    let mut buffer = [0; 64];
    until(client, TAUTLINE_EVENT_READY);
    // A ring may come after its event was taken: the next look makes it unreadable.
    let quiet = || {
        let until = Instant::now() + Duration::from_millis(LONG_MS.into());
        while readable(0) {
            assert_eq!(next(client, &mut []).0, TAUTLINE_E_EMPTY);
            assert!(Instant::now() < until, "it stays readable");
        }
    };
    quiet();
    for _ in 0..200 {
        assert_eq!(send(client, "echo"), TAUTLINE_OK);
        loop {
            assert!(readable(20_000));
            match next(client, &mut []).0 {
                TAUTLINE_E_EMPTY => {}
                code => break assert_eq!(code, TAUTLINE_E_BUFFER),
            }
        }
        assert!(readable(0), "the event has stayed");
        assert_eq!(next(client, &mut buffer).0, TAUTLINE_OK);
        quiet();
    }
    assert_eq!(shutdown(client, TAUTLINE_CLOSE), TAUTLINE_OK);
}
