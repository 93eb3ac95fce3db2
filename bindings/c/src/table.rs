//! From the number that C holds to the client.
//!
//! A look-up takes the lock of its slot for the time of a copy, and never waits for it: only an open that nobody has the
//! number of yet, and the end of a client, hold it to write. In both cases there is no such client.
//!
//! A child made by fork has a copy of the table. A lock that another thread held at that moment is held for ever there: such a
//! slot is of no use to the child, and nothing waits for it.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard, TryLockError};

use tautline::Error;

use crate::boundary::{Result, failed, refuse};
use crate::client::Line;
use crate::codes::{TAUTLINE_E_CLIENTS, TAUTLINE_E_HANDLE};

/// A client. Copy it freely: it is a number. One that was shut down is never another one's, unless 2^30 others stood in its
/// place since. `{0}` is no client.
///
/// A child made by fork has none of the threads that serve it. There, each function on a client of the parent's returns
/// `TAUTLINE_E_FORKED` at once and does nothing, `tautline_shutdown` too. Open a new one there; options can be used on.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The number.
    pub id: u64,
}

/// How many clients there can be at a time.
pub const TAUTLINE_MOST_CLIENTS: usize = 1024;

static SLOTS: [Slot; TAUTLINE_MOST_CLIENTS] = [const { Slot::new() }; TAUTLINE_MOST_CLIENTS];

/// What `Slot::generation` rises by with each client. Below are two bits: the slot is in use, and its client is being taken out.
const NEXT: u32 = 4;
const USED: u32 = 1;
const LEAVING: u32 = 2;

struct Slot {
    /// Rises with each client that stands here; see [`NEXT`].
    generation: AtomicU32,
    line: RwLock<Entry>,
}

type Entry = Option<(u32, Arc<Line>)>;

impl Slot {
    const fn new() -> Self {
        Self { generation: AtomicU32::new(0), line: RwLock::new(None) }
    }
}

/// A slot that was claimed, and is given back unless a client is put there.
pub(crate) struct Claim {
    index: usize,
    generation: u32,
    entry: RwLockWriteGuard<'static, Entry>,
}

impl Claim {
    pub(crate) fn new() -> Result<Self> {
        let found = Self::find().or_else(|| {
            sweep();
            Self::find()
        });
        found.ok_or_else(|| {
            let text = format_args!("there are {TAUTLINE_MOST_CLIENTS} clients already: shut one down");
            refuse(TAUTLINE_E_CLIENTS, text)
        })
    }

    fn find() -> Option<Self> {
        for (index, slot) in SLOTS.iter().enumerate() {
            let free = slot.generation.load(Relaxed);
            let generation = free.wrapping_add(NEXT) | USED;
            if free & USED != 0
                || slot.generation.compare_exchange(free, generation, AcqRel, Relaxed).is_err()
            {
                continue;
            }
            let entry = match slot.line.try_write() {
                Ok(entry) => entry,
                Err(TryLockError::Poisoned(entry)) => entry.into_inner(),
                // A look-up by a number that is stale, or was in the process that forked this one.
                Err(TryLockError::WouldBlock) => {
                    slot.generation.store(free, Release);
                    continue;
                }
            };
            return Some(Self { index, generation, entry });
        }
        None
    }

    pub(crate) fn put(mut self, line: Arc<Line>) -> Client {
        *self.entry = Some((self.generation, line));
        client(self.index, self.generation)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.entry.is_none() {
            SLOTS[self.index].generation.store(self.generation & !USED, Release);
        }
    }
}

fn client(index: usize, generation: u32) -> Client {
    Client { id: (u64::from(generation) << 32) | index as u64 }
}

fn slot(client: Client) -> Option<(&'static Slot, u32)> {
    let index = usize::try_from(client.id & u64::from(u32::MAX)).ok()?;
    let generation = u32::try_from(client.id >> 32).ok()?;
    Some((SLOTS.get(index)?, generation))
}

/// What stands in the slot, if its generation is wanted, without waiting for it.
fn entry(slot: &Slot, wanted: impl Fn(u32) -> bool) -> Entry {
    let entry = match slot.line.try_read() {
        Ok(entry) => entry,
        Err(TryLockError::Poisoned(entry)) => entry.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    entry.as_ref().filter(|(generation, _)| wanted(*generation)).cloned()
}

/// The client with this number, if this process has opened it.
pub(crate) fn line(client: Client) -> Result<Arc<Line>> {
    let found = slot(client).and_then(|(slot, generation)| entry(slot, |its| its == generation));
    let (_, line) = found.ok_or_else(|| {
        let text = format_args!(
            "there is no client {:#x}: it has been shut down, or there never was one",
            client.id
        );
        refuse(TAUTLINE_E_HANDLE, text)
    })?;
    if line.process.is_current() { Ok(line) } else { Err(failed(&Error::Forked)) }
}

/// The client is gone. Of several calls at once, one takes it out of its slot.
pub(crate) fn retire(client: Client) {
    let Some((slot, generation)) = slot(client) else { return };
    // A second call must not hold the lock to write: by then, another client may stand here.
    if slot.generation.compare_exchange(generation, generation | LEAVING, AcqRel, Relaxed).is_err() {
        return;
    }
    let line = slot.line.write().unwrap_or_else(PoisonError::into_inner).take();
    slot.generation.store(generation & !USED, Release);
    // The drop frees what nobody has taken, and so comes last.
    drop(line);
}

/// Takes out the clients that have been shut down and are gone, where nobody has asked once more.
fn sweep() {
    for (index, slot) in SLOTS.iter().enumerate() {
        if let Some((generation, _)) = entry(slot, |_| true).filter(|(_, line)| line.is_gone()) {
            retire(client(index, generation));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::{Mutex, mpsc};
    use std::thread;
    use std::time::Duration;

    /// Both tests have the whole table.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a claim that waits must not stop the test")]
    fn an_open_waits_for_no_lock_that_a_look_up_holds() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // As in a child that was forked while threads of its parent's looked up numbers that are stale.
        let held: Vec<_> = SLOTS[..3].iter().map(|slot| slot.line.read().unwrap()).collect();
        let (claimed_in, claimed) = mpsc::channel();
        thread::spawn(move || claimed_in.send(Claim::new().map(|claim| claim.index)));
        assert_eq!(claimed.recv_timeout(Duration::from_secs(10)).unwrap().unwrap(), 3);
        drop(held);
        assert_eq!(Claim::new().unwrap().index, 0, "it is free");
    }

    #[test]
    fn an_open_that_needs_a_place_takes_that_of_a_client_that_is_gone_and_of_no_other() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut options, mut ended) = (std::ptr::null_mut(), Client { id: 0 });
        // SAFETY: the URL ends with a NUL, and there is room for what is written.
        unsafe {
            crate::options::tautline_options_new(c"ws://127.0.0.1:9".as_ptr(), &raw mut options);
            assert_eq!(crate::tautline_open(options, &raw mut ended), 0);
            crate::options::tautline_options_free(options);
        }
        let mut others = std::iter::from_fn(Claim::find).collect::<Vec<_>>();
        assert_eq!(others.len(), TAUTLINE_MOST_CLIENTS - 1);
        assert!(Claim::new().is_err() && line(ended).is_ok(), "it has not been shut down");
        let its = line(ended).unwrap();
        // As by a call on a thread of its own: that one starts the end, and can't wait for it.
        its.ending.store(true, SeqCst);
        let end = its.client.shutdown(tautline::Ending::Terminate, Duration::from_secs(20));
        assert!(matches!(end, tautline::Shutdown::Gone(_)));
        drop(its);
        others.push(Claim::new().unwrap());
        assert!(line(ended).is_err() && Claim::new().is_err());
    }
}
