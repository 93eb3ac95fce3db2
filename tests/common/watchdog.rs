//! Ends a run in which a test hangs, and reports which test hangs and what each thread is doing.
//!
//! A test may take two minutes, and all tests of one program together five; those that are ignored by default may take
//! longer. `TAUTLINE_TEST_LIMIT` sets another limit for a test, in seconds, and 0 sets none, for a debugger.
//!
//! A test does not have to start it: the helpers of `common` register the test that calls them, and the test in this
//! file starts the watchdog of a program whose tests call none. `watchdog.rs` checks that every program includes this
//! file.
#![allow(dead_code, reason = "where no helper calls it, the test below does")]
#![allow(unreachable_pub, reason = "a module that several test crates include")]
#![allow(clippy::disallowed_methods, reason = "it owns a thread, and a clock")]

use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// A test that is running.
struct Test {
    thread: ThreadId,
    name: String,
    since: Instant,
}

static RUNNING: Mutex<Vec<Test>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Test>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tests that are watched now.
pub fn names() -> Vec<String> {
    running().iter().map(|test| test.name.clone()).collect()
}

/// A test's place in the list, until its thread ends.
struct Entry(ThreadId);

impl Drop for Entry {
    fn drop(&mut self) {
        running().retain(|test| test.thread != self.0);
    }
}

thread_local! {
    static ENTRY: Option<Entry> = enter();
}

/// The test harness gives each test a thread with the test's name. Threads that a test starts have no name.
fn enter() -> Option<Entry> {
    let current = thread::current();
    let name = current.name().filter(|name| *name != "main" && !name.starts_with("tautline-"))?;
    running().push(Test { thread: current.id(), name: name.to_owned(), since: Instant::now() });
    Some(Entry(current.id()))
}

/// Watches the calling test. On any thread but a test's own it does nothing.
pub fn watch() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        if let Some(limit) = limit() {
            let watchdog = thread::Builder::new().name("watchdog".into());
            watchdog.spawn(move || watch_over(limit)).expect("a thread for the watchdog");
        }
    });
    // A thread that is ending is not a test that hangs.
    let _ = ENTRY.try_with(|_| ());
}

/// How long a test may take, if there is a limit.
fn limit() -> Option<Duration> {
    let long = std::env::args().any(|arg| arg == "--ignored" || arg == "--include-ignored");
    let seconds = match std::env::var("TAUTLINE_TEST_LIMIT") {
        Ok(seconds) => seconds.parse().expect("TAUTLINE_TEST_LIMIT is a number of seconds"),
        Err(_) if long => 30 * 60,
        Err(_) => 2 * 60,
    };
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

fn watch_over(limit: Duration) {
    let start = Instant::now();
    loop {
        thread::sleep(Duration::from_millis(200));
        let stuck: Vec<String> = running()
            .iter()
            .filter(|test| test.since.elapsed() >= limit)
            .map(|test| {
                format!("the test {} has been running for {} s", test.name, test.since.elapsed().as_secs())
            })
            .collect();
        if !stuck.is_empty() {
            end(&stuck.join(", and "));
        }
        if start.elapsed() >= limit * 5 / 2 {
            let names = names();
            let seconds = start.elapsed().as_secs();
            end(&format!("the tests of this program have been running for {seconds} s: {names:?}"));
        }
    }
}

/// Ends the process at once: the hanging test may hold any lock, and an orderly exit might wait for it.
fn end(why: &str) -> ! {
    let report = format!("\nwatchdog: {why}. The run ends here.\n{}", threads());
    // Bypasses the harness, which keeps a test's output until the test ends.
    let _ = std::io::stderr().write_all(report.as_bytes());
    std::process::abort();
}

/// What each thread is doing, as far as the system reports it. Names are cut off after 15 bytes. A thread without a
/// name has that of the thread that started it.
#[cfg(target_os = "linux")]
fn threads() -> String {
    use std::fmt::Write as _;

    let mut table =
        format!("{:>8}  {:<15}  {:<5}  {:<24}  {}\n", "thread", "name", "state", "waits in", "system call");
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for task in tasks {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let stat = read("stat");
        // After the name in parentheses.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?');
        let _ = writeln!(
            table,
            "{:>8}  {:<15}  {state:<5}  {:<24}  {}",
            task.file_name().to_string_lossy(),
            read("comm").trim_end(),
            read("wchan").trim_end(),
            read("syscall").split_whitespace().next().unwrap_or_default(),
        );
    }
    table
}

#[cfg(not(target_os = "linux"))]
fn threads() -> String {
    String::new()
}

#[test]
fn a_test_is_watched_under_its_name() {
    watch();
    let name = "a_test_is_watched_under_its_name";
    assert!(names().iter().any(|test| test.ends_with(name)), "{:?}", names());
}
