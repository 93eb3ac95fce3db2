//! What the options do, as the server sees it.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::ffi::{CStr, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use common::{Mood, Silent, identity};
use tautline::testing::{LoopbackConnection, LoopbackServer};
use tautline_c::*;

const LONG_MS: u32 = 20_000;

/// Opens a client with options that are set by `set`, and frees the options.
fn open(url: &str, set: impl FnOnce(*mut Options) -> Vec<i32>) -> Client {
    let url = format!("{url}\0");
    let (mut options, mut client) = (null_mut(), Client { id: 0 });
    // SAFETY: the URL ends with a NUL, and there is room for what is written.
    unsafe {
        assert_eq!(tautline_options_new(url.as_ptr().cast(), &raw mut options), TAUTLINE_OK);
        for (at, code) in set(options).into_iter().enumerate() {
            assert_eq!(code, TAUTLINE_OK, "call {at}: {}", last());
        }
        assert_eq!(tautline_open(options, &raw mut client), TAUTLINE_OK, "{}", last());
        tautline_options_free(options);
    }
    client
}

fn last() -> String {
    let mut text = [0_u8; 1024];
    // SAFETY: there is as much room as it says.
    unsafe { tautline_last_error(text.as_mut_ptr().cast(), text.len()) };
    CStr::from_bytes_until_nul(&text).unwrap().to_str().unwrap().into()
}

fn send(client: Client, text: &str) -> i32 {
    // SAFETY: there are as many bytes as it says.
    unsafe { tautline_send_text(client, text.as_ptr().cast(), text.len()) }
}

fn end(client: Client) {
    // SAFETY: null is right.
    assert_eq!(unsafe { tautline_shutdown(client, TAUTLINE_CLOSE, LONG_MS, null_mut()) }, TAUTLINE_OK);
}

#[test]
fn headers_subprotocols_and_the_login_reach_the_server() {
    let (seen_in, seen) = mpsc::channel();
    let server = LoopbackServer::start(move |mut connection: LoopbackConnection| {
        let header = |name| connection.header(name).map(str::to_owned);
        let request =
            (header("x-plugin"), header("sec-websocket-protocol"), header("sec-websocket-extensions"));
        let login = connection.recv();
        connection.send(r#"{"op": "welcome"}"#);
        seen_in.send((request, login)).unwrap();
        connection.recv();
    });
    let server = server.unwrap();
    server.choose_subprotocol("levels");
    // SAFETY: the texts end with a NUL, and the options are options.
    let client = open(&server.url(), |options| unsafe {
        vec![
            tautline_options_header(options, c"X-Plugin".as_ptr(), c"meter".as_ptr()),
            tautline_options_subprotocol(options, c"levels".as_ptr()),
            tautline_options_compression(options, 6),
            tautline_options_heartbeat(options, 0, 0),
            tautline_options_login_json(
                options,
                c"{\"token\": 1}".as_ptr(),
                c"op".as_ptr(),
                c"welcome".as_ptr(),
            ),
        ]
    });
    assert_eq!(tautline_wait_ready(client, LONG_MS), TAUTLINE_OK, "{}", last());
    assert_eq!(tautline_state(client), TAUTLINE_STATE_AUTHENTICATED);
    let ((header, protocol, extensions), login) = seen.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!((header.as_deref(), protocol.as_deref()), (Some("meter"), Some("levels")));
    assert!(extensions.is_some_and(|extensions| extensions.contains("permessage-deflate")));
    assert_eq!(login.unwrap().as_text(), Some(r#"{"token":1}"#));
    end(client);
}

#[test]
fn a_certificate_authority_that_is_given_is_trusted_and_no_other_unless_any_is() {
    let server = LoopbackServer::start_tls(identity(), LoopbackConnection::echo).unwrap();
    let authority = include_bytes!("../../../tests/data/ca.pem");
    let once = |options| {
        // SAFETY: the options are options.
        unsafe { tautline_options_reconnect(options, 10, 10, 0) }
    };
    let strange = open(&server.url(), |options| vec![once(options)]);
    assert_eq!(tautline_wait_ready(strange, LONG_MS), TAUTLINE_E_CLOSED);
    assert!(last().contains("certificate"), "{}", last());
    // SAFETY: there are as many bytes as it says, and the options are options.
    let trusted = open(&server.url(), |options| unsafe {
        vec![once(options), tautline_options_ca_pem(options, authority.as_ptr(), authority.len())]
    });
    assert_eq!(tautline_wait_ready(trusted, LONG_MS), TAUTLINE_OK, "{}", last());
    // SAFETY: the options are options.
    let any =
        open(&server.url(), |options| unsafe { vec![once(options), tautline_options_insecure(options, 1)] });
    assert_eq!(tautline_wait_ready(any, LONG_MS), TAUTLINE_OK, "{}", last());
    [strange, trusted, any].into_iter().for_each(end);
}

#[test]
fn the_outbox_has_its_bound_and_messages_are_refused_while_the_line_is_down_if_that_is_set() {
    let silent = Silent::start();
    // SAFETY: the options are options.
    let patient = open(&silent.url(Mood::Silent), |options| unsafe {
        vec![tautline_options_outbox(options, 2, 100), tautline_options_inbox(options, 2, 100)]
    });
    let codes = [send(patient, "1"), send(patient, "2"), send(patient, "3")];
    assert_eq!(codes, [TAUTLINE_OK, TAUTLINE_OK, TAUTLINE_E_FULL]);
    let mut stats = [0_u64; 12];
    stats[0] = size_of::<Stats>() as u64;
    // SAFETY: there is room for it, and its size is set.
    assert_eq!(unsafe { tautline_stats(patient, stats.as_mut_ptr().cast()) }, TAUTLINE_OK);
    assert_eq!((stats[4], stats[6], stats[7]), (2, 2, 2), "accepted, queued, and the bytes of these");
    // SAFETY: there is one byte.
    let late = unsafe { tautline_send_timeout(patient, TAUTLINE_TEXT, b"4".as_ptr(), 1, 10) };
    assert_eq!(late, TAUTLINE_E_TIMEOUT);
    let mut left = Undelivered { size: size_of::<Undelivered>(), ..Undelivered::default() };
    // SAFETY: there is room for it, and its size is set.
    let code = unsafe { tautline_shutdown(patient, TAUTLINE_TERMINATE, LONG_MS, &raw mut left) };
    assert_eq!((code, left.never_written), (TAUTLINE_OK, 2));

    // SAFETY: the options are options.
    let hasty = open(&silent.url(Mood::Silent), |options| unsafe {
        vec![
            tautline_options_refuse_while_down(options, 1),
            tautline_options_connect_timeout(options, LONG_MS),
            tautline_options_close_timeout(options, 100),
            tautline_options_max_age(options, 100),
        ]
    });
    assert_eq!(send(hasty, "now"), TAUTLINE_E_NOT_READY);
    assert!(last().ends_with("may not wait for it (tautline_options_refuse_while_down)"), "{}", last());
    end(hasty);
}

fn next(client: Client) -> (i32, i32, Vec<u8>) {
    let size = size_of::<Event>();
    let mut event = Event { size, ..Event::default() };
    let mut buffer = vec![0; 1024];
    // SAFETY: there is room for the event, and as much for the payload as it says.
    let code = unsafe { tautline_next_event(client, &raw mut event, buffer.as_mut_ptr(), buffer.len()) };
    buffer.truncate(event.length);
    (code, event.kind, buffer)
}

#[test]
fn messages_with_a_queue_of_their_own_come_in_order_and_before_the_end() {
    let server = LoopbackServer::start(|mut connection: LoopbackConnection| {
        connection.recv();
        for number in 0..50_u8 {
            connection.send(vec![number]);
        }
        connection.close(1000, "that was all");
    });
    let server = server.unwrap();
    // SAFETY: the options are options.
    let client = open(&server.url(), |options| unsafe {
        vec![tautline_options_realtime(options, 8), tautline_options_reconnect(options, 10, 10, 0)]
    });
    assert!(tautline_event_fd(client) >= 0);
    assert_eq!(send(client, "go on"), TAUTLINE_OK);
    let mut messages = Vec::new();
    loop {
        assert_eq!(tautline_wait_event(client, LONG_MS), TAUTLINE_OK, "{}", last());
        match next(client) {
            (TAUTLINE_OK, TAUTLINE_EVENT_MESSAGE, message) => messages.extend(message),
            (TAUTLINE_OK, TAUTLINE_EVENT_CLOSED, _) => break,
            (TAUTLINE_OK | TAUTLINE_E_EMPTY, ..) => {}
            (code, ..) => panic!("{code}: {}", last()),
        }
    }
    assert_eq!(messages, (0..50).collect::<Vec<_>>());
    assert_eq!(next(client).0, TAUTLINE_E_CLOSED);
    end(client);
}

static THREADS: Mutex<Vec<(&str, usize, String)>> = Mutex::new(Vec::new());

fn note(what: &'static str, user: *mut c_void, name: *const c_char) {
    // SAFETY: a NUL ends the name.
    let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap().into();
    THREADS.lock().unwrap().push((what, user as usize, name));
}

extern "C" fn begins(user: *mut c_void, name: *const c_char) {
    note("begins", user, name);
}

extern "C" fn ends(user: *mut c_void, name: *const c_char) {
    note("ends", user, name);
}

#[test]
fn each_thread_of_a_client_is_announced_by_its_name_until_the_client_is_gone() {
    let server = LoopbackServer::echo().unwrap();
    // SAFETY: the name ends with a NUL, the functions are such, and the options are options.
    let client = open(&server.url(), |options| unsafe {
        vec![
            tautline_options_thread_name(options, c"meter".as_ptr()),
            tautline_options_on_thread(options, Some(begins), Some(ends), 7 as *mut c_void),
        ]
    });
    assert_eq!(tautline_wait_ready(client, LONG_MS), TAUTLINE_OK, "{}", last());
    end(client);
    let mut threads = THREADS.lock().unwrap().clone();
    threads.sort();
    let expected =
        ["begins", "ends"].map(|what| ["meter-dial", "meter-io"].map(|name| (what, 7, name.to_owned())));
    assert_eq!(threads, expected.concat());
}

#[test]
fn a_proxy_is_gone_through() {
    let silent = Silent::start();
    let proxy = silent.url(Mood::Refused).replace("ws:", "http:") + "\0";
    // SAFETY: the text ends with a NUL, and the options are options.
    let client = open("ws://gateway.example", |options| unsafe {
        vec![
            tautline_options_proxy(options, proxy.as_ptr().cast()),
            tautline_options_reconnect(options, 10, 10, 0),
        ]
    });
    assert_eq!(tautline_wait_ready(client, LONG_MS), TAUTLINE_E_CLOSED);
    assert!(last().contains("proxy"), "{}", last());
    end(client);
}

#[test]
fn an_option_that_can_not_be_used_is_named_by_its_function() {
    type Set = unsafe fn(*mut Options) -> i32;
    // SAFETY: the texts end with a NUL, there are as many bytes as it says, and the options are options.
    let wrong: [(Set, &str); 8] = unsafe {
        [
            (|o| tautline_options_heartbeat(o, 30_000, 0), "timeout_ms of tautline_options_heartbeat"),
            (|o| tautline_options_reconnect(o, 0, 9, 9), "initial_delay_ms of tautline_options_reconnect"),
            (|o| tautline_options_inbox(o, 0, 1), "messages of tautline_options_inbox"),
            (|o| tautline_options_ca_pem(o, b"x".as_ptr(), 1), "pem of tautline_options_ca_pem"),
            (|o| tautline_options_ca_pem(o, b"\x30\x03".as_ptr(), 2), "use openssl x509"),
            (|o| tautline_options_proxy(o, c"h:x".as_ptr()), "url of tautline_options_proxy"),
            (
                |o| tautline_options_header(o, c"Sec-WebSocket-Protocol".as_ptr(), c"a".as_ptr()),
                "use tautline_options_subprotocol",
            ),
            (|o| tautline_options_thread_name(o, c" ".as_ptr()), "name of tautline_options_thread_name"),
        ]
    };
    for (set, said) in wrong {
        let (mut options, mut client) = (null_mut(), Client { id: 0 });
        // SAFETY: as above, and there is room for what is written.
        unsafe {
            assert_eq!(tautline_options_new(c"ws://h".as_ptr(), &raw mut options), TAUTLINE_OK);
            assert_eq!(set(options), TAUTLINE_OK);
            assert_eq!(tautline_open(options, &raw mut client), TAUTLINE_E_CONFIG, "{said}");
            tautline_options_free(options);
        }
        assert!(last().contains(said), "{}", last());
    }
}

#[test]
fn a_login_that_is_no_json_is_refused_without_a_word_of_it() {
    let mut options = null_mut();
    // SAFETY: the texts end with a NUL, and there is room for the pointer.
    unsafe {
        assert_eq!(tautline_options_new(c"ws://h".as_ptr(), &raw mut options), TAUTLINE_OK);
        let code = tautline_options_login_json(options, c"{\"token\": s3cret}".as_ptr(), null(), null());
        assert_eq!(code, TAUTLINE_E_ARGUMENT);
        assert_eq!(last(), "the login is not JSON, at line 1 column 11");
        tautline_options_free(options);
    }
}
