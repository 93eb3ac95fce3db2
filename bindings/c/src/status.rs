//! How a client is.

use std::mem::offset_of;

use tautline::ConnectionState;

use crate::boundary::{Out, Sizes, call, call_for};
use crate::table::{Client, line};

/// No connection. Another attempt follows.
pub const TAUTLINE_STATE_DISCONNECTED: i32 = 1;
/// An attempt is under way.
pub const TAUTLINE_STATE_CONNECTING: i32 = 2;
/// The WebSocket is open. Without a login, the line is ready.
pub const TAUTLINE_STATE_CONNECTED: i32 = 3;
/// The WebSocket is open and the login is accepted: the line is ready.
pub const TAUTLINE_STATE_AUTHENTICATED: i32 = 4;
/// The close handshake is under way.
pub const TAUTLINE_STATE_CLOSING: i32 = 5;
/// Final: the client was shut down, or gave up.
pub const TAUTLINE_STATE_CLOSED: i32 = 6;

/// What a client has done since it was opened. Set `size` before the call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// The size of this struct, in bytes: `sizeof(tautline_counters)`.
    pub size: usize,
    /// Attempts to connect, including failed ones.
    pub attempts: u64,
    /// How often the line became ready.
    pub connects: u64,
    /// How often an open line was lost or closed.
    pub disconnects: u64,
    /// Messages that were accepted.
    pub messages_accepted: u64,
    /// Messages that were handed to the operating system.
    pub messages_written: u64,
    /// Messages in the outbox.
    pub messages_queued: u64,
    /// The bytes of their payloads.
    pub bytes_queued: u64,
    /// Messages that were received.
    pub messages_received: u64,
    /// Bytes handed to the operating system, including TLS and framing.
    pub bytes_written: u64,
    /// Bytes read, including TLS and framing.
    pub bytes_read: u64,
    /// The latest measured round trip of a heartbeat, in microseconds; 0 until one was answered.
    pub round_trip_us: u64,
}

// SAFETY: it begins with its size, and consists of numbers; the fields of its first version are its first ones.
unsafe impl Sizes for Stats {
    const NAME: &str = "tautline_counters";
    const FIRST: usize = offset_of!(Self, round_trip_us) + size_of::<u64>();
}

pub(crate) fn number(state: ConnectionState) -> i32 {
    match state {
        ConnectionState::Disconnected => TAUTLINE_STATE_DISCONNECTED,
        ConnectionState::Connecting => TAUTLINE_STATE_CONNECTING,
        ConnectionState::Connected => TAUTLINE_STATE_CONNECTED,
        ConnectionState::Authenticated => TAUTLINE_STATE_AUTHENTICATED,
        ConnectionState::Closing => TAUTLINE_STATE_CLOSING,
        _ => TAUTLINE_STATE_CLOSED,
    }
}

/// Returns the state of the line: one of `TAUTLINE_STATE_…`, which are above 0.
///
/// Threads: any. Never blocks. Allocates nothing.
///
/// Errors: `TAUTLINE_E_HANDLE`.
#[unsafe(no_mangle)]
pub extern "C" fn tautline_state(client: Client) -> i32 {
    call_for(|| Ok(number(line(client)?.client.state())))
}

/// Writes the counters of the client to `stats`.
///
/// Threads: any. Never blocks. Allocates nothing.
///
/// Errors: `TAUTLINE_E_HANDLE`, `TAUTLINE_E_ARGUMENT`, `TAUTLINE_E_SIZE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tautline_stats(client: Client, stats: *mut Stats) -> i32 {
    call(|| {
        // SAFETY: the header says what `stats` has to be.
        let out = unsafe { Out::new(stats) }?;
        let now = line(client)?.client.stats();
        let trip = now.round_trip.map_or(0, |trip| trip.as_micros());
        out.set(Stats {
            size: out.size,
            attempts: now.attempts,
            connects: now.connects,
            disconnects: now.disconnects,
            messages_accepted: now.messages_accepted,
            messages_written: now.messages_written,
            messages_queued: now.messages_queued as u64,
            bytes_queued: now.bytes_queued as u64,
            messages_received: now.messages_received,
            bytes_written: now.bytes_written,
            bytes_read: now.bytes_read,
            round_trip_us: u64::try_from(trip).unwrap_or(u64::MAX),
        });
        Ok(())
    })
}
