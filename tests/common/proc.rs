//! What the system reports about this process. Linux only.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module that several test crates include")]

use std::collections::BTreeMap;
use std::fs;

/// One of the library's threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    pub name: String,
    pub asleep: bool,
    /// How often it went to sleep.
    pub sleeps: u64,
    /// How often it was preempted.
    pub preemptions: u64,
    /// The time it ran, in ticks of 10 ms.
    pub ticks: u64,
}

/// The library's live threads, by thread id. Those of the test itself have other names.
pub fn threads() -> BTreeMap<u32, Thread> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|task| thread(&task.ok()?)).collect()
}

/// `None` if the thread is not one of the library's, or has ended meanwhile.
fn thread(task: &fs::DirEntry) -> Option<(u32, Thread)> {
    let status = fs::read_to_string(task.path().join("status")).ok()?;
    let stat = fs::read_to_string(task.path().join("stat")).ok()?;
    let name = field(&status, "Name:").filter(|name| name.starts_with("tautline-"))?;
    let count = |name| field(&status, name)?.parse::<u64>().ok();
    // After the name in parentheses, utime and stime are the 12th and 13th fields.
    let (_, times) = stat.rsplit_once(')')?;
    let times = times.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok());
    let thread = Thread {
        name: name.to_owned(),
        asleep: field(&status, "State:")?.starts_with('S'),
        sleeps: count("voluntary_ctxt_switches:")?,
        preemptions: count("nonvoluntary_ctxt_switches:")?,
        ticks: times.sum::<Option<u64>>()?,
    };
    Some((task.file_name().to_str()?.parse().ok()?, thread))
}

/// The id of the calling thread.
pub fn this_thread() -> u32 {
    let path = fs::read_link("/proc/thread-self").unwrap();
    path.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// How many descriptors are open, without the one that this function opens.
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// This process's resident memory, in KiB.
pub fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = field(&status, "VmRSS:").unwrap();
    resident.trim_end_matches(" kB").parse().unwrap()
}

/// How many bytes of addresses this process has taken, used or not.
pub fn address_space() -> usize {
    status("VmSize:")
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

/// How much memory the process takes at its most, from a moment on.
pub struct Peak {
    before: usize,
}

impl Peak {
    pub fn new() -> Self {
        // Makes the peak what it is now.
        fs::write("/proc/self/clear_refs", "5").unwrap();
        Self { before: status("VmRSS:") }
    }

    /// By how many bytes the peak is above what there was then.
    pub fn bytes(&self) -> usize {
        status("VmHWM:").saturating_sub(self.before)
    }
}

/// A number of bytes from `/proc/self/status`.
fn status(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    field(&status, name).and_then(|value| value.trim_end_matches(" kB").parse::<usize>().ok()).unwrap() << 10
}
