//! Threads that take nothing over from the thread that starts them.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread that has no signals, no real-time policy and no choice of processors of its caller's.
///
/// For its whole life it blocks all signals but those that report a fault of its own, such as SIGSEGV: these a host can't
/// collect elsewhere, and where they are blocked, its handler for crashes is not called.
pub(crate) fn spawn(builder: Builder, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    // A thread inherits the mask. So it blocks signals from its first instruction on.
    #[cfg(unix)]
    let _blocked = signals::Blocked::new();
    builder.spawn(move || {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        schedule::leave_callers();
        run();
    })
}

#[cfg(unix)]
mod signals {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal};

    use crate::logging::LOG;

    /// While it lives, the calling thread blocks signals.
    pub(super) struct Blocked(Option<SigSet>);

    /// The system sends them to the thread whose instruction was at fault. SIGSYS is among them: sandboxes carry out calls
    /// of the system in its handler.
    const FAULTS: [Signal; 7] = [
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGTRAP,
        Signal::SIGABRT,
        Signal::SIGSYS,
    ];

    impl Blocked {
        pub(super) fn new() -> Self {
            let mut blocked = SigSet::all();
            for fault in FAULTS {
                blocked.remove(fault);
            }
            let before = blocked.thread_swap_mask(SigmaskHow::SIG_SETMASK);
            Self(before.map_err(|error| log::debug!(target: LOG, "a thread blocks no signals: {error}")).ok())
        }
    }

    impl Drop for Blocked {
        fn drop(&mut self) {
            if let Some(before) = &self.0
                && let Err(error) = before.thread_set_mask()
            {
                log::debug!(target: LOG, "signals stay blocked on the thread that started a client: {error}");
            }
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod schedule {
    use std::process;

    use nix::errno::Errno;
    use nix::sched::{sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;
    use thread_priority::{
        NormalThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
    };

    use crate::logging::LOG;

    /// What the crate `thread-priority` takes for a nice value of 0, the only one that it sets together with a policy.
    const NICE_0: u8 = 49;

    /// The calling thread, which is a new one, gives back what it has inherited from the thread that started it.
    pub(super) fn leave_callers() {
        if let Err(error) = leave_policy() {
            log::debug!(target: LOG, "a thread keeps the real-time policy of the thread that started it: {error}");
        }
        if let Err(error) = leave_processors() {
            log::debug!(target: LOG, "a thread keeps the processors of the thread that started it: {error}");
        }
    }

    fn leave_policy() -> Result<(), thread_priority::Error> {
        if let ThreadSchedulePolicy::Normal(_) = thread_schedule_policy()? {
            return Ok(());
        }
        let priority = ThreadPriorityValue::try_from(NICE_0).map(ThreadPriority::Crossplatform);
        let usual = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
        set_thread_priority_and_policy(thread_native_id(), priority.unwrap_or(ThreadPriority::Min), usual)
    }

    /// The process's first thread has the processors that whoever started the process has chosen.
    fn leave_processors() -> Result<(), Errno> {
        let first = i32::try_from(process::id()).map_or_else(|_| Pid::this(), Pid::from_raw);
        let usual = sched_getaffinity(first)?;
        if sched_getaffinity(Pid::from_raw(0))? == usual {
            Ok(())
        } else {
            sched_setaffinity(Pid::from_raw(0), &usual)
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use nix::sys::signal::SigSet;

    #[test]
    fn a_caller_that_gets_no_thread_has_the_signals_that_it_had() {
        let before = SigSet::thread_get_mask().unwrap();
        // All addresses but those that the system adds to it.
        let too_large = Builder::new().stack_size(usize::MAX - (1 << 20));
        assert!(spawn(too_large, || unreachable!("there is no room for its stack")).is_err());
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
