//! A process that can't have another thread: there is no room for its stack. Alone in its file: the limit is that of the
//! process.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/proc.rs"]
mod proc;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{LONG, MS, Server, eventually, quick};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tautline::{Client, ConnectionConfig, Error};

const MIB: usize = 1 << 20;

/// The largest that can be set, and more than the system keeps of a thread that has ended.
const STACK: usize = 1024 * MIB;

/// A process of limited memory, in which one test runs at a time.
struct Limited {
    before: (u64, u64),
    _alone: MutexGuard<'static, ()>,
}

impl Limited {
    fn new() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { before: getrlimit(Resource::RLIMIT_AS).unwrap(), _alone: alone }
    }

    /// Leaves room for stacks of so many bytes, and for everything else: the system's allocator takes 128 MiB of addresses for
    /// a thread that allocates.
    fn room_for(&self, stacks: usize) {
        let most = (proc::address_space() + stacks + 512 * MIB) as u64;
        setrlimit(Resource::RLIMIT_AS, most, self.before.1).unwrap();
    }

    fn lift(&self) {
        setrlimit(Resource::RLIMIT_AS, self.before.0, self.before.1).unwrap();
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        self.lift();
    }
}

fn config(url: &str) -> ConnectionConfig {
    quick(url).thread_stack(STACK)
}

/// The error says what was refused, and what to do.
#[track_caller]
fn check(error: &Error, what: &str) {
    let text = error.to_string();
    assert!(matches!(error, Error::System { .. }), "{text}");
    assert!(text.starts_with(&format!("the system refused {what}: ")) && text.contains("ulimit"), "{text}");
}

/// Waits until no more is there than before. What the test before has left may go meanwhile, and the system lists a thread that
/// was joined for some ms.
fn leaves_nothing(threads: usize, descriptors: usize) {
    eventually("the end of each thread", || proc::threads().len() <= threads);
    eventually("the end of each descriptor", || proc::descriptors() <= descriptors);
}

#[test]
fn a_client_that_can_have_no_thread_does_not_start_and_the_next_one_does() {
    let limited = Limited::new();
    let server = Server::echo();
    let (threads, descriptors) = (proc::threads().len(), proc::descriptors());
    limited.room_for(0);
    check(&Client::start(config(&server.url())).unwrap_err(), "a timer thread");
    check(&Client::connect(config(&server.url())).unwrap_err(), "a timer thread");
    leaves_nothing(threads, descriptors);
    // The timer thread is made, and ends again.
    limited.room_for(STACK);
    check(&Client::start(config(&server.url())).unwrap_err(), "an I/O thread");
    leaves_nothing(threads, descriptors);
    limited.lift();
    let client = Client::connect(config(&server.url())).unwrap();
    drop(client.terminate());
}

#[test]
fn a_client_beside_another_one_that_can_have_no_thread_does_not_start_and_the_other_goes_on() {
    let limited = Limited::new();
    let server = Server::echo();
    let other = Client::connect(quick(&server.url())).unwrap();
    eventually("the end of the attempt's thread", || proc::threads().len() <= 2);
    let descriptors = proc::descriptors();
    limited.room_for(0);
    check(&Client::start(config(&server.url())).unwrap_err(), "an I/O thread");
    leaves_nothing(2, descriptors);
    other.send("it goes on").unwrap();
    assert_eq!(other.recv_timeout(LONG).unwrap().as_text(), Some("it goes on"));
    limited.lift();
    let client = Client::connect(config(&server.url())).unwrap();
    drop((client.terminate(), other.terminate()));
}

#[test]
fn an_attempt_that_can_have_no_thread_fails_at_once_and_a_later_one_is_made() {
    let limited = Limited::new();
    let server = Server::echo();
    let (threads, descriptors) = (proc::threads().len(), proc::descriptors());
    limited.room_for(2 * STACK);
    let slow = |config: ConnectionConfig| config.connect_timeout(10 * LONG);
    let refused = Client::connect(slow(config(&server.url()))).unwrap_err();
    check(&refused, "a thread or a descriptor to dial with");
    leaves_nothing(threads, descriptors);
    let client = Client::start(slow(config(&server.url()))).unwrap();
    eventually("attempts that fail", || client.stats().attempts > 2);
    check(&client.status().trouble.unwrap(), "a thread or a descriptor to dial with");
    assert!(client.wait_ready(10 * MS).is_err());
    limited.lift();
    client.wait_ready(LONG).unwrap();
    drop(client.terminate());
}
