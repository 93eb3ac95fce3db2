//! Clients of a process that forks. Each test runs in a process of its own, with few threads besides those of its clients.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, exit};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::{LONG, MS, Nobody, Server, accept, disconnected, echo, eventually, quick, wait_for};
use fork::Fork;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};
use serde_json::json;
use tautline::{
    Client, CloseReason, ConnectionState, Ending, Error, JsonSession, SendErrorKind, SendOptions, Shutdown,
    Stats,
};

/// Set for the process that forks.
const FORKS: &str = "TAUTLINE_TEST_FORKS";

/// Runs the test in a process of its own.
fn alone(test: &str, run: impl FnOnce()) {
    if std::env::var_os(FORKS).is_some() {
        return run();
    }
    let mut own = Command::new(std::env::current_exe().unwrap());
    let output =
        own.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(FORKS, "").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {told}", output.status);
}

/// Runs this in a child made by fork, which must do it within a time, and without a panic.
fn in_child(check: impl FnOnce()) {
    match fork::fork().unwrap() {
        Fork::Child => {
            alarm::set(20);
            let passed = catch_unwind(AssertUnwindSafe(check)).is_ok();
            exit(i32::from(!passed));
        }
        Fork::Parent(child) => {
            let child = Pid::from_raw(child);
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
    }
}

fn is_forked<T>(outcome: Result<T, impl Into<Error>>) -> bool {
    matches!(outcome.map_err(Into::into), Err(Error::Forked))
}

#[test]
fn every_call_on_a_client_of_the_parents_fails_at_once_and_a_drop_does_nothing() {
    alone("every_call_on_a_client_of_the_parents_fails_at_once_and_a_drop_does_nothing", || {
        let server = Server::echo();
        let builder = Client::builder(quick(&server.url())).protocol(JsonSession::new().answers_by("id"));
        let mut client = Some(builder.connect().unwrap());
        let mut answers = client.as_ref().map(|client| client.request_many(json!({"q": 1}), LONG).unwrap());
        in_child(|| {
            let mut ours = answers.take().unwrap();
            assert!(!ours.has_ended(), "message {}", ours.ticket());
            assert!(is_forked(ours.try_next()));
            assert!(matches!(ours.next(), Some(Err(Error::Forked))));
            drop(ours);
            let client = client.take().unwrap();
            let outcomes = [
                is_forked(client.send("x")),
                is_forked(client.try_send("x")),
                is_forked(client.send_timeout("x", LONG)),
                is_forked(client.send_with("x", SendOptions::new().this_connection())),
                is_forked(client.try_send_with("x", SendOptions::new().this_connection())),
                is_forked(client.send_json(&json!({}))),
                is_forked(client.request(json!({}), LONG)),
                is_forked(client.request_many(json!({}), LONG)),
                is_forked(client.recv()),
                is_forked(client.recv_timeout(LONG)),
                is_forked(client.recv_json::<String>()),
                is_forked(client.try_recv()),
                is_forked(client.flush(LONG)),
                is_forked(client.confirm(.., LONG)),
                is_forked(client.wait_ready(LONG)),
                is_forked(client.wait_closed_timeout(LONG)),
            ];
            assert_eq!(outcomes, [true; 16]);
            let error = client.send_all(["a", "b"]).unwrap_err();
            assert_eq!(error.kind(), SendErrorKind::Forked);
            assert_eq!(
                error.to_string(),
                "the client belongs to the process that forked this one, and its threads are there; make a new client in this process; the message and 1 that were to follow are inside this error"
            );
            assert_eq!(error.into_unsent(), ["a".into(), "b".into()]);
            assert!(matches!(client.wait_closed(), CloseReason::Failed(Error::Forked)));
            let status = client.status();
            assert!(matches!(status.trouble, Some(Error::Forked)) && status.state == ConnectionState::Closed);
            assert_eq!((client.state(), client.stats()), (ConnectionState::Closed, Stats::default()));
            assert!(client.handshake().is_none() && client.subprotocol().is_none());
            assert!(client.confirmed_up_to().is_none());
            assert_eq!(
                client.messages().count() + client.try_messages().count() + client.drain(9).count(),
                0
            );
            assert_eq!(client.events().iter().count(), 0);
            assert_eq!(format!("{client:?}"), "Client { state: Closed, .. }");
            client.reconnect();
            client.reconnect_now();
            client.suspend();
            client.resume();
            assert!(client.close().unfinished && client.terminate().unfinished);
            assert!(client.close_with(4000, "").unwrap().unfinished);
            let gone = client.shutdown(Ending::Close, LONG);
            assert!(matches!(&gone, Shutdown::Gone(left) if left.unfinished), "{gone:?}");
            drop(client.clone());
            drop(client);
        });
        let client = client.unwrap();
        client.send("the parent's client goes on").unwrap();
        client.confirm(.., LONG).unwrap();
        assert_eq!((client.stats().disconnects, client.state()), (0, ConnectionState::Connected));
        let left = client.close();
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn a_child_takes_no_lock_that_a_thread_of_the_parents_holds() {
    const FORKS: usize = 200;
    alone("a_child_takes_no_lock_that_a_thread_of_the_parents_holds", || {
        let server = Server::echo();
        let client = Client::connect(quick(&server.url())).unwrap();
        let mut last = Some(client.clone());
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let threads: [fn(&Client); 4] = [
                |client| drop(client.try_send("x")),
                |client| drop(client.try_recv()),
                |client| drop((client.stats(), client.status())),
                |client| drop(client.confirm(.., MS)),
            ];
            for call in threads {
                let (client, done) = (&client, &done);
                scope.spawn(move || {
                    while !done.load(SeqCst) {
                        call(client);
                    }
                });
            }
            for _ in 0..FORKS {
                in_child(|| {
                    assert!(is_forked(client.try_send("x")) && is_forked(client.try_recv()));
                    assert_eq!(client.state(), ConnectionState::Closed);
                    assert!(client.terminate().unfinished);
                    drop(last.take());
                });
            }
            done.store(true, SeqCst);
        });
        eventually("the confirmation of all that the parent has sent", || {
            client.try_messages().for_each(drop);
            client.confirm(.., MS).is_ok()
        });
        assert_eq!(client.stats().disconnects, 0);
    });
}

#[test]
fn a_client_that_a_child_makes_works_and_reconnects() {
    alone("a_client_that_a_child_makes_works_and_reconnects", || {
        let nobody = Nobody::new();
        // The first connection of each child ends after a message.
        let server = Server::start(|n, stream| {
            let mut socket = accept(stream);
            if n % 2 == 0 {
                let _ = socket.read();
            } else {
                echo(socket);
            }
        });
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            // A client that keeps the timer busy, and others that come and go.
            let _waiting = Client::start(quick(&nobody.url())).unwrap();
            let come_and_go = scope.spawn(|| {
                while !done.load(SeqCst) {
                    let _ = Client::start(quick(&nobody.url())).unwrap().terminate();
                }
            });
            for _ in 0..30 {
                in_child(|| {
                    let client = Client::connect(quick(&server.url())).unwrap();
                    client.send("cut").unwrap();
                    wait_for(&client, disconnected);
                    client.wait_ready(LONG).unwrap();
                    client.send("back").unwrap();
                    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("back"));
                    let gone = client.shutdown(Ending::Close, Duration::from_secs(5));
                    assert!(matches!(gone, Shutdown::Gone(_)), "{gone:?}");
                });
            }
            done.store(true, SeqCst);
            come_and_go.join().unwrap();
        });
    });
}

#[test]
fn no_call_on_a_client_is_left_out_of_what_a_child_may_call() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = vec![root.join("src/client.rs")];
    sources.extend(fs::read_dir(root.join("src/client")).unwrap().map(|entry| entry.unwrap().path()));
    let own = fs::read_to_string(root.join("tests/fork.rs")).unwrap();
    let mut calls = 0;
    for source in sources {
        let source = fs::read_to_string(source).unwrap();
        for call in source.split("\n    pub fn ").skip(1) {
            let (name, arguments) = call.split_once('(').unwrap();
            let name = name.split('<').next().unwrap();
            if arguments.trim_start().starts_with("&self") {
                let is_called =
                    [".NAME(", ".NAME::<"].iter().any(|form| own.contains(&form.replace("NAME", name)));
                assert!(is_called, "{name} is not called in a child");
                calls += 1;
            }
        }
    }
    assert!(calls > 30, "{calls}");
}
