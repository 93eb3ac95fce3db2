//! The end of a client.

use std::mem::offset_of;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tautline::{Ending, Shutdown};

use crate::boundary::{Out, Sizes, call, refuse};
use crate::codes::{TAUTLINE_E_ARGUMENT, TAUTLINE_E_STILL_RUNNING};
use crate::table::{Client, line, retire};

/// Writes what was accepted, and closes the line with close code 1000.
pub const TAUTLINE_CLOSE: i32 = 0;
/// Ends the line at once.
pub const TAUTLINE_TERMINATE: i32 = 1;

/// How much could not be delivered when a client was shut down. Set `size` before the call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Undelivered {
    /// The size of this struct, in bytes: `sizeof(tautline_undelivered)`.
    pub size: usize,
    /// Messages that were accepted and never written to a connection.
    pub never_written: u64,
    /// Messages that were written to the last connection and not confirmed.
    pub maybe_delivered: u64,
}

// SAFETY: it begins with its size, and consists of numbers; the fields of its first version are its first ones.
unsafe impl Sizes for Undelivered {
    const NAME: &str = "tautline_undelivered";
    const FIRST: usize = offset_of!(Self, maybe_delivered) + size_of::<u64>();
}

/// Ends the client: `TAUTLINE_CLOSE` or `TAUTLINE_TERMINATE`. Returns `TAUTLINE_OK` when no thread of the client runs any more; its
/// number is stale from then on, and what was not taken of its events is dropped. If `undelivered` is not null, it then says how
/// much was not delivered.
///
/// If some threads have not ended by the deadline, it returns `TAUTLINE_E_STILL_RUNNING`, and `tautline_last_error` names each with
/// the call that it is inside of, such as `tautline-dial: looking up gateway.example`. Such a thread calls nothing of the plugin's
/// any more. Call `tautline_shutdown` again, later or from another thread, until it returns `TAUTLINE_OK`. Until then the client
/// counts among the `TAUTLINE_MOST_CLIENTS`, unless all others are taken: then an open takes its place, once its threads have
/// ended, and its number is stale.
///
/// The first `TAUTLINE_CLOSE` sets how long the close may take: `tautline_options_close_timeout`, or `deadline_ms` less 50 ms (less its
/// half, if that is shorter). With 0 it is the former, and the call returns at once; later ones wait for it. `TAUTLINE_TERMINATE`
/// cuts it short. What waits while the line is not ready is not written by any of them.
///
/// Threads: any, also several at once: each hears `TAUTLINE_OK` when all is gone, or `TAUTLINE_E_HANDLE` if it comes later. On a thread
/// of a client it starts the end and returns `TAUTLINE_E_STILL_RUNNING` at once. Blocks for `deadline_ms` at most, whatever the host
/// does and whatever lock the caller holds, also in a constructor or destructor of a library. With 0 it starts the end, and looks.
/// Ends the waits of other threads with this client.
///
/// Errors: `TAUTLINE_E_STILL_RUNNING`, `TAUTLINE_E_HANDLE`, `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_SIZE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_shutdown(
    client: Client,
    how: i32,
    deadline_ms: u32,
    undelivered: *mut Undelivered,
) -> i32 {
    call(|| {
        let how = match how {
            TAUTLINE_CLOSE => Ending::Close,
            TAUTLINE_TERMINATE => Ending::Terminate,
            _ => return Err(refuse(TAUTLINE_E_ARGUMENT, format_args!("{how} is no way to end a client"))),
        };
        let out = if undelivered.is_null() {
            None
        } else {
            // SAFETY: the header says what `undelivered` has to be.
            Some(unsafe { Out::new(undelivered) }?)
        };
        let line = line(client)?;
        line.ending.store(true, SeqCst);
        line.signal.wake(false);
        match line.client.shutdown(how, Duration::from_millis(deadline_ms.into())) {
            Shutdown::Gone(left) => {
                retire(client);
                if let Some(out) = out {
                    out.set(Undelivered {
                        size: out.size,
                        never_written: left.never_written.len() as u64,
                        maybe_delivered: left.maybe_delivered.len(),
                    });
                }
                Ok(())
            }
            Shutdown::StillRunning(threads) => {
                Err(refuse(TAUTLINE_E_STILL_RUNNING, format_args!("still running: {threads}")))
            }
        }
    })
}
