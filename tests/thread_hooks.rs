//! What an application does at the begin and at the end of each thread of a client.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::sync::{Arc, Mutex};
use std::thread;

use common::{LONG, Server, accept, eventually, listen, quick};
use crossbeam_channel::{Receiver, Sender};
use tautline::{
    Attempt, Builder, Client, Context, Ending, Error, Handshake, Message, Protocol, Shutdown, UpgradeRequest,
};

/// What happened, and on which thread.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<(String, String)>>>);

impl Record {
    fn note(&self, what: &str) {
        let thread = thread::current();
        let thread = thread.name().unwrap_or_default().to_owned();
        self.0.lock().unwrap().push((thread, what.to_owned()));
    }

    /// What happened on the threads of that name.
    fn on(&self, thread: &str) -> Vec<String> {
        let all = self.0.lock().unwrap();
        all.iter().filter(|(on, _)| on == thread).map(|(_, what)| what.clone()).collect()
    }

    /// A client that notes the hooks, one callback of each thread, and the drop of the protocol.
    fn builder(&self, url: &str) -> Builder {
        let (start, end, resolver) = (self.clone(), self.clone(), self.clone());
        Client::builder(quick(&url.replace("127.0.0.1", "h")))
            .on_thread_start(move |name| {
                assert_eq!(thread::current().name(), Some(name));
                start.note("start");
            })
            .on_thread_end(move |name| {
                assert_eq!(thread::current().name(), Some(name));
                end.note("end");
            })
            .resolver(move |host, port| {
                resolver.note("resolver");
                common::loopback(host, port)
            })
    }

    /// How many hold it besides the test.
    fn holders(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

struct Session(Record, Sender<Result<Message, Error>>);

impl Protocol for Session {
    fn prepare(&mut self, _: &Attempt<'_>, _: &mut UpgradeRequest) -> Result<(), Error> {
        self.0.note("prepare");
        Ok(())
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        let record = self.0.clone();
        cx.work(1, move || {
            record.note("work");
            Ok("done".into())
        });
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, _: Message) -> Result<(), Error> {
        cx.work(2, || Ok("done, too".into()));
        Ok(())
    }

    fn on_work(&mut self, _: &mut Context<'_>, _: u32, result: Result<Message, Error>) -> Result<(), Error> {
        self.1.send(result).unwrap();
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.0.note("drop");
    }
}

fn session(record: &Record) -> (Session, Receiver<Result<Message, Error>>) {
    let (worked_in, worked) = crossbeam_channel::unbounded();
    (Session(record.clone(), worked_in), worked)
}

fn server() -> Server {
    Server::start(|_, stream| listen(accept(stream)))
}

type End = fn(Client);

const ENDS: [End; 4] = [
    |client| drop(client.close()),
    |client| drop(client.terminate()),
    drop,
    |client| {
        let gone = client.shutdown(Ending::Close, LONG);
        assert!(matches!(gone, Shutdown::Gone(_)), "{gone:?}");
    },
];

#[test]
fn the_hooks_are_the_first_and_the_last_on_each_thread_and_nothing_is_left_of_them_after_an_end() {
    for end in ENDS {
        let (server, record) = (server(), Record::default());
        let (session, worked) = session(&record);
        let client = record.builder(&server.url()).protocol(session).connect().unwrap();
        worked.recv_timeout(LONG).unwrap().unwrap();
        end(client);
        assert_eq!(record.on("tautline-io"), ["start", "prepare", "drop", "end"]);
        assert_eq!(record.on("tautline-dial"), ["start", "resolver", "end"]);
        assert_eq!(record.on("tautline-work"), ["start", "work", "end"]);
        assert_eq!(record.holders(), 0, "both hooks are dropped");
    }
}

#[test]
fn the_hooks_are_dropped_with_the_last_thread_though_a_handle_is_kept() {
    let (server, record) = (server(), Record::default());
    let client = record.builder(&server.url()).connect().unwrap();
    let _ = client.close();
    assert_eq!(record.holders(), 0);
    assert_eq!(record.on("tautline-io"), ["start", "end"]);
}

#[test]
fn a_hook_of_the_start_that_panics_fails_what_its_thread_is_for() {
    let server = server();
    let panicked = |error: &Error| matches!(error, Error::Panicked { callback: "on_thread_start", .. });
    for on in ["tautline-io", "tautline-dial", "tautline-work"] {
        let record = Record::default();
        let (session, worked) = session(&record);
        let builder = record.builder(&server.url()).protocol(session);
        let start = record.clone();
        let builder = builder.on_thread_start(move |name| {
            start.note("start");
            assert_ne!(name, on, "on purpose");
        });
        match builder.connect() {
            Err(error) => assert!(on != "tautline-work" && panicked(&error), "{on}: {error:?}"),
            Ok(client) => {
                let error = worked.recv_timeout(LONG).unwrap().unwrap_err();
                assert!(on == "tautline-work" && panicked(&error), "{on}: {error:?}");
                let _ = client.close();
            }
        }
        assert!(
            !record.on(on).contains(&"end".to_owned()),
            "the start has not returned: {:?}",
            record.on(on)
        );
        assert!(!record.on(on).iter().any(|what| ["prepare", "resolver", "work"].contains(&&**what)));
        if on != "tautline-io" {
            assert_eq!(record.on("tautline-io"), ["start", "prepare", "drop", "end"], "{on}");
        }
        assert_eq!(record.holders(), 0, "{on}");
    }
}

#[test]
fn a_hook_of_the_end_that_panics_changes_nothing_for_the_client() {
    let (server, record) = (server(), Record::default());
    let (session, worked) = session(&record);
    let end = record.clone();
    let builder = record.builder(&server.url()).protocol(session).on_thread_end(move |_| {
        end.note("end");
        panic!("on purpose");
    });
    let client = builder.connect().unwrap();
    worked.recv_timeout(LONG).unwrap().unwrap();
    // The trace of a panic takes its time, and a close names the thread that it takes too much of.
    let Shutdown::Gone(left) = client.shutdown(Ending::Close, LONG) else { panic!("a thread still runs") };
    assert!(left.is_empty() && !left.unfinished, "{left:?}");
    assert_eq!(record.on("tautline-io"), ["start", "prepare", "drop", "end"]);
    assert_eq!(record.on("tautline-dial"), ["start", "resolver", "end"]);
    assert_eq!(record.holders(), 0);
}

#[test]
fn a_thread_that_was_left_behind_is_given_its_end() {
    let (record, (inside_in, inside)) = (Record::default(), crossbeam_channel::bounded(1));
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let client = record.builder("ws://h").resolver(move |_, _| {
        let _ = inside_in.try_send(());
        let _ = held.recv();
        Err(std::io::Error::other("released"))
    });
    let client = client.start().unwrap();
    inside.recv_timeout(LONG).unwrap();
    assert!(client.terminate().still_inside.is_some());
    assert_eq!(record.on("tautline-io"), ["start", "end"]);
    assert_eq!(record.on("tautline-dial"), ["start"]);
    drop(release);
    eventually("the end", || record.on("tautline-dial") == ["start", "end"]);
    eventually("the drop of the hooks", || record.holders() == 0);
}

#[test]
fn an_end_names_a_hook_of_a_thread_whose_successor_has_ended_already() {
    let (server, record) = (Server::echo(), Record::default());
    let (session, worked) = session(&record);
    let (inside_in, inside) = crossbeam_channel::unbounded();
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let first = Mutex::new(Some(held));
    let client = record.builder(&server.url()).protocol(session).on_thread_end(move |name| {
        if name == "tautline-work"
            && let Some(held) = { first.lock().unwrap().take() }
        {
            inside_in.send(()).unwrap();
            let _ = held.recv();
        }
    });
    let client = client.connect().unwrap();
    worked.recv_timeout(LONG).unwrap().unwrap();
    inside.recv_timeout(LONG).unwrap();
    client.send("another job").unwrap();
    assert_eq!(worked.recv_timeout(LONG).unwrap().unwrap().as_text(), Some("done, too"));
    assert_eq!(client.terminate().still_inside.as_deref(), Some("tautline-work: on_thread_end"));
    drop(release);
    let gone = client.shutdown(Ending::Terminate, LONG);
    assert!(matches!(gone, Shutdown::Gone(_)), "{gone:?}");
    assert_eq!(record.holders(), 0);
}
