//! A client inside a plugin: when its end has returned, the code of the plugin may be unloaded. None of what it gave to
//! the client is kept, or called again, and no thread of the library runs.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/proc.rs"]
mod proc;

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::{LONG, Nobody, Server, accept, accept_raw, disconnected, eventually, listen, wait_for};
use tautline::{
    Builder, Client, ConnectionConfig, Context, Error, Handshake, Message, Protocol, ReconnectConfig,
};

/// Stands for the plugin's code: whoever holds it may still run it.
type Code = Arc<()>;

struct Session(Code);

impl Protocol for Session {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, _: &mut Context<'_>, message: Message) -> Result<(), Error> {
        assert!(Arc::strong_count(&self.0) > 1);
        panic!("on purpose: {message}");
    }
}

/// A client of the plugin's with all that can be given to one; no attempt and no timeout comes soon.
fn plugin(url: &str, code: &Code) -> Builder {
    let hour = Duration::from_secs(3600);
    let reconnect = ReconnectConfig::default().initial_delay(hour).max_delay(hour);
    let config = ConnectionConfig::new(url.replace("127.0.0.1", "h"))
        .reconnect(reconnect)
        .connect_timeout(hour)
        .close_timeout(Duration::from_millis(50));
    let (resolver, fetch, ready) = (Code::clone(code), Code::clone(code), Code::clone(code));
    Client::builder(config)
        .resolver(move |_, port| {
            assert!(Arc::strong_count(&resolver) > 1);
            common::loopback("h", port)
        })
        .fetch(move |request| {
            assert!(Arc::strong_count(&fetch) > 1);
            Ok(request)
        })
        .on_event_ready(move || assert!(Arc::strong_count(&ready) > 1))
        .protocol(Session(Code::clone(code)))
}

/// Returns the call that a thread is still inside.
type End = fn(Client) -> Option<Box<str>>;

const ENDS: [(&str, End); 3] = [
    ("close", |client| client.close().still_inside),
    ("terminate", |client| client.terminate().still_inside),
    ("drop", |_| None),
];

/// Brings a client into a phase, ends it in these ways, and shows that nothing is left of it.
fn leaves_nothing(phase: &str, ends: &[(&str, End)], begin: impl Fn(&Code) -> Client) {
    // Threads are looked for in the whole process.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, end) in ends {
        let code = Code::default();
        let client = begin(&code);
        if end(client).is_some() {
            eventually("the end of a call that was named", || Arc::strong_count(&code) == 1);
        }
        assert_eq!(Arc::strong_count(&code), 1, "{name} while {phase}");
        #[cfg(target_os = "linux")]
        eventually("the end of every thread", || proc::threads().is_empty());
    }
}

#[test]
fn after_the_end_of_an_open_line_nothing_of_the_plugin_is_kept() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    leaves_nothing("open", &ENDS, |code| plugin(&server.url(), code).connect().unwrap());
    let silent = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while common::read_frame(&mut stream).is_some() {}
    });
    leaves_nothing("open to a server that says nothing", &ENDS, |code| {
        let client = plugin(&silent.url(), code).connect().unwrap();
        client.send("unconfirmed").unwrap();
        client
    });
}

#[test]
fn after_the_end_of_an_attempt_nothing_of_the_plugin_is_kept() {
    let (asked_in, asked) = crossbeam_channel::unbounded();
    let silent = Server::start(move |_, mut stream| {
        let mut hears = || stream.read(&mut [0; 512]).is_ok_and(|n| n > 0);
        // Once for each client, though a greeting of TLS takes several reads: a word about the second of them would come
        // late, and be taken for the next client's.
        if hears() {
            asked_in.send(()).unwrap();
        }
        while hears() {}
    });
    for url in [silent.url(), silent.url().replace("ws", "wss")] {
        if url.starts_with("wss") && !cfg!(feature = "native-tls") {
            continue;
        }
        leaves_nothing("dialling", &ENDS, |code| {
            let client = plugin(&url, code).start().unwrap();
            asked.recv_timeout(LONG).unwrap();
            client
        });
    }
    let nobody = Nobody::new();
    leaves_nothing("backing off", &ENDS, |code| {
        let client = plugin(&nobody.url(), code).start().unwrap();
        wait_for(&client, disconnected);
        client
    });
    // It may be inside the application's code, or building what TLS needs, and a drop could not tell.
    leaves_nothing("just begun", &ENDS[..2], |code| plugin(&silent.url(), code).start().unwrap());
}

#[test]
fn after_a_client_that_ended_by_itself_nothing_of_the_plugin_is_kept() {
    let refusing = Server::start(|_, mut stream| {
        common::read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n");
    });
    let speaking = Server::start(|_, stream| {
        let mut socket = accept(stream);
        socket.send("the protocol panics over this".into()).unwrap();
        listen(socket);
    });
    for url in [refusing.url(), speaking.url()] {
        leaves_nothing("closed", &ENDS, |code| {
            let client = plugin(&url, code).start().unwrap();
            client.wait_closed_timeout(LONG).unwrap();
            client
        });
    }
    let code = Code::default();
    plugin(&refusing.url(), &code).connect().unwrap_err();
    assert_eq!(Arc::strong_count(&code), 1, "an error of connect");
}

#[test]
fn a_plugin_whose_resolver_hangs_is_told_and_let_go_when_it_returns() {
    let code = Code::default();
    let (inside_in, inside) = crossbeam_channel::bounded(1);
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let hanging = Code::clone(&code);
    let client = Client::builder("ws://gateway.invalid").resolver(move |_, _| {
        inside_in.send(()).unwrap();
        let _ = held.recv();
        assert!(Arc::strong_count(&hanging) > 1);
        Err(std::io::Error::other("released"))
    });
    let client = client.start().unwrap();
    inside.recv_timeout(LONG).unwrap();
    let left = client.terminate();
    assert_eq!(left.still_inside.as_deref(), Some("tautline-dial: looking up gateway.invalid"));
    assert_eq!(Arc::strong_count(&code), 2, "it must not be unloaded yet");
    drop(release);
    eventually("its end", || Arc::strong_count(&code) == 1);
}
