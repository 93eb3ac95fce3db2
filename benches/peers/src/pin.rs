//! Which processors the server and the threads of the clients run on, so that it is not up to the kernel.

use std::thread;

/// A processor for each, by number.
#[derive(Clone, Copy)]
pub struct Places {
    pub server: usize,
    /// For the threads of the clients that have some.
    pub io: usize,
    pub caller: usize,
}

/// The first three processors of this process, or why there are not so many.
pub fn apart() -> Result<Places, String> {
    let there = allowed()?;
    let [server, io, caller, ..] = there[..] else {
        return Err(format!("--pin takes three processors of {there:?}; --pin=SERVER,IO,CALLER shares them"));
    };
    Ok(Places { server, io, caller })
}

/// The processors with these numbers, which may be the same: `SERVER,IO,CALLER`.
pub fn named(numbers: &str) -> Result<Places, String> {
    let there = allowed()?;
    let places: Option<Vec<_>> = numbers.split(',').map(|number| number.parse().ok()).collect();
    match places.as_deref() {
        Some(&[server, io, caller]) if [server, io, caller].iter().all(|number| there.contains(number)) => {
            Ok(Places { server, io, caller })
        }
        _ => Err(format!("--pin={numbers} does not name three processors of {there:?}")),
    }
}

/// Does the work on a thread of its own, which runs on this processor if there is one. What it starts does as well.
pub fn on_a_thread<T: Send>(processor: Option<usize>, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let work = || {
            processor.into_iter().for_each(to);
            work()
        };
        thread::Builder::new().name("caller".into()).spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

/// Moves the calling thread.
#[cfg(target_os = "linux")]
pub fn to(processor: usize) {
    let mut set = nix::sched::CpuSet::new();
    set.set(processor).unwrap();
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).unwrap();
}

#[cfg(not(target_os = "linux"))]
pub fn to(_: usize) {}

/// The processors that this process may use.
#[cfg(target_os = "linux")]
fn allowed() -> Result<Vec<usize>, String> {
    use nix::sched::{CpuSet, sched_getaffinity};
    let set = sched_getaffinity(nix::unistd::Pid::from_raw(0)).map_err(|error| error.to_string())?;
    Ok((0..CpuSet::count()).filter(|&processor| set.is_set(processor).unwrap_or(false)).collect())
}

#[cfg(not(target_os = "linux"))]
fn allowed() -> Result<Vec<usize>, String> {
    Err("threads are pinned on Linux only".into())
}
