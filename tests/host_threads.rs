//! What the threads of a client take over from the thread that starts it, and what they leave to the host.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;
#[path = "common/proc.rs"]
mod proc;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::thread;

use common::{Server, accept, eventually, listen, quick};
use crossbeam_channel::Sender;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use tautline::{Client, Context, Error, Handshake, Protocol};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// Its work waits until the sender is dropped.
struct Working(crossbeam_channel::Receiver<()>);

impl Protocol for Working {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        let held = self.0.clone();
        cx.work(1, move || {
            let _ = held.recv();
            Ok("done".into())
        });
        cx.ready();
        Ok(())
    }
}

/// A server, and one that says nothing.
struct Servers(Server, TcpListener);

impl Servers {
    fn new() -> Self {
        Self(Server::start(|_, stream| listen(accept(stream))), TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// A client with an open line and a job, and one that is dialling: together they have each kind of thread. The job ends
    /// when the sender is dropped.
    fn clients(&self) -> (Client, Client, Sender<()>) {
        let (held_in, held) = crossbeam_channel::bounded(0);
        let working = Client::builder(quick(&self.0.url())).protocol(Working(held)).start().unwrap();
        let dialling = Client::start(format!("ws://{}", self.1.local_addr().unwrap())).unwrap();
        (working, dialling, held_in)
    }
}

fn wait_for_each_kind_of_thread() {
    eventually("each kind of thread", || {
        let names: BTreeSet<_> = proc::threads().into_values().map(|thread| thread.name).collect();
        ["io", "dial", "work", "timer"].iter().all(|kind| names.contains(&format!("tautline-{kind}")))
    });
}

/// A field of the status of a thread of this process. `None` if the thread has ended.
fn status(thread: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.map(|value| value.trim().to_owned())
}

const SCHED_OTHER: u32 = 0;
const SCHED_FIFO: u32 = 1;

/// The number of the scheduling policy of a thread of this process.
fn policy(thread: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?;
    // After the name in parentheses, it is the 39th field.
    stat.rsplit_once(')')?.1.split_whitespace().nth(38)?.parse().ok()
}

#[test]
fn the_threads_of_a_client_block_all_signals_but_those_of_faults() {
    let servers = Servers::new();
    let _clients = servers.clients();
    let server = tautline::testing::LoopbackServer::echo().unwrap();
    let _client = Client::connect(server.url()).unwrap();
    wait_for_each_kind_of_thread();
    let open = |signal: i32| {
        let faults = ["SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGABRT", "SIGSYS"];
        let name = Signal::try_from(signal).map_or("a real-time signal", Signal::as_str);
        // Two can't be blocked, and two are those of the C library.
        let is_blockable = !["SIGKILL", "SIGSTOP"].contains(&name) && signal != 32 && signal != 33;
        is_blockable.then(|| faults.contains(&name))
    };
    for (id, thread) in proc::threads() {
        let Some(blocked) = status(id, "SigBlk") else { continue };
        let blocked = u64::from_str_radix(&blocked, 16).unwrap();
        for signal in 1..=64 {
            if let Some(open) = open(signal) {
                assert_eq!(blocked >> (signal - 1) & 1 == 0, open, "{} and signal {signal}", thread.name);
            }
        }
    }
}

#[test]
fn the_thread_that_starts_a_client_keeps_its_signals() {
    let mine = || status(proc::this_thread(), "SigBlk").unwrap();
    let before = mine();
    let servers = Servers::new();
    let _clients = servers.clients();
    assert_eq!(mine(), before);
}

/// Set for the child that is the host.
const HOST: &str = "TAUTLINE_TEST_HOST";

#[test]
fn a_host_that_collects_sigterm_gets_it() {
    if std::env::var_os(HOST).is_none() {
        // Every thread of the child blocks SIGTERM, also those of the test harness.
        let mut host = Command::new("env");
        host.arg("--block-signal=TERM").arg(std::env::current_exe().unwrap());
        host.args(["--exact", "a_host_that_collects_sigterm_gets_it"]).env(HOST, "").stdout(Stdio::null());
        let ended = host.status().unwrap();
        assert!(ended.success(), "{ended}");
        return;
    }
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    let servers = Servers::new();
    // The thread that starts the clients takes signals.
    term.thread_unblock().unwrap();
    let _clients = servers.clients();
    term.thread_block().unwrap();
    wait_for_each_kind_of_thread();
    kill(Pid::this(), Signal::SIGTERM).unwrap();
    assert_eq!(term.wait().unwrap(), Signal::SIGTERM);
}

#[test]
fn the_threads_of_a_client_take_neither_the_real_time_policy_nor_the_processors_of_whoever_starts_it() {
    let servers = Servers::new();
    let begin = || {
        let own = Pid::from_raw(0);
        let processors = sched_getaffinity(own).unwrap();
        let last = (0..CpuSet::count()).rfind(|processor| processors.is_set(*processor).unwrap());
        let mut pinned = CpuSet::new();
        pinned.set(last.unwrap()).unwrap();
        sched_setaffinity(own, &pinned).unwrap();
        if pinned == processors {
            println!("left out, as there is one processor: the choice of processors");
        }
        let realtime = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        match set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, realtime) {
            Ok(()) => assert_eq!(policy(proc::this_thread()), Some(SCHED_FIFO)),
            Err(error) => println!("left out, as the system refuses SCHED_FIFO: the policy ({error})"),
        }
        servers.clients()
    };
    let _clients = thread::scope(|scope| scope.spawn(begin).join().unwrap());
    wait_for_each_kind_of_thread();
    let allowed = status(std::process::id(), "Cpus_allowed_list");
    eventually("threads that are like the process's first", || {
        proc::threads().into_keys().all(|thread| {
            policy(thread).is_none_or(|policy| policy == SCHED_OTHER)
                && status(thread, "Cpus_allowed_list").is_none_or(|list| Some(list) == allowed)
        })
    });
}

#[test]
fn the_threads_of_a_client_have_its_name_wherever_they_are_named() {
    let names = || -> Vec<_> {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok()).collect()
    };
    let (inside_in, inside) = crossbeam_channel::bounded(1);
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let client = Client::builder(quick("ws://h").thread_name("0123456789")).resolver(move |_, _| {
        let _ = inside_in.try_send(());
        let _ = held.recv();
        Err(std::io::Error::other("released"))
    });
    let client = client.start().unwrap();
    inside.recv().unwrap();
    for name in ["0123456789-io\n", "0123456789-dial\n"] {
        assert!(names().contains(&name.to_owned()), "{name}: {:?}", names());
    }
    assert!(names().contains(&"tautline-timer\n".to_owned()), "it belongs to no client");
    let left = client.terminate();
    assert_eq!(left.still_inside.as_deref(), Some("0123456789-dial: looking up h"));
    drop(release);
    let gone = client.shutdown(tautline::Ending::Terminate, common::LONG);
    assert!(matches!(gone, tautline::Shutdown::Gone(_)), "{gone:?}");
}
