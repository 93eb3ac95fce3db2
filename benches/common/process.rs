//! What the system reports about this process. Linux only: elsewhere each function returns `None`.

use std::fs;
use std::time::Duration;

/// The number after `name:` in a `/proc` file, in the file's unit.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The sum over all live threads whose name begins with `name`.
fn threads(name: &str, of: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let folder = task.path().display().to_string();
        if fs::read_to_string(format!("{folder}/comm")).is_ok_and(|comm| comm.starts_with(name)) {
            sum += of(&folder).unwrap_or(0);
        }
    }
    Some(sum)
}

/// Whether this system provides what these functions read.
pub fn is_measured() -> bool {
    fs::exists("/proc/self/schedstat").unwrap_or(false)
}

/// The processor time of all live threads.
pub fn cpu() -> Option<Duration> {
    let nanos = threads("", |folder| {
        let text = fs::read_to_string(format!("{folder}/schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    });
    nanos.map(Duration::from_nanos)
}

/// How often the live threads gave up a processor, or were preempted.
pub fn switches() -> Option<u64> {
    threads("", |folder| {
        let file = format!("{folder}/status");
        Some(field(&file, "voluntary_ctxt_switches")? + field(&file, "nonvoluntary_ctxt_switches")?)
    })
}

/// How often the library's live threads went to sleep, and so woke up.
pub fn wake_ups() -> Option<u64> {
    threads("tautline", |folder| field(&format!("{folder}/status"), "voluntary_ctxt_switches"))
}

/// Resident memory, in bytes. Read from the pages themselves: the counters in `status` may lag.
pub fn resident() -> Option<u64> {
    let kib = field("/proc/self/smaps_rollup", "Rss").or_else(|| field("/proc/self/status", "VmRSS"))?;
    Some(kib << 10)
}

/// How much resident memory grows at the peak of `work`, in bytes.
pub fn peak(work: impl FnOnce()) -> Option<u64> {
    // Resets the recorded peak to the present value.
    let reset = fs::write("/proc/self/clear_refs", "5");
    let before = resident();
    work();
    reset.ok()?;
    Some((field("/proc/self/status", "VmHWM")? << 10).saturating_sub(before?))
}
