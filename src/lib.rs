//! A blocking WebSocket client whose line stays taut: it connects, keeps itself alive, notices a dead peer, reconnects
//! with jittered backoff, and tells the fate of every message, on plain threads and no async runtime.
//!
//! ```no_run
//! use tautline::Client;
//!
//! fn main() -> Result<(), tautline::Error> {
//!     let client = Client::connect("wss://example.com/socket")?; // blocks until the line is ready, or says why not
//!     client.send("hello")?;
//!     for message in client.messages() {                         // blocks; lives through reconnects
//!         println!("{message}");
//!     }
//!     client.wait_closed().into_result()                              // why it ended
//! }
//! ```
//!
//! [`Client`] is the handle; [`ConnectionConfig`] says where to connect and how to behave; [`Event`] is what happens.
//! [`ConnectionState`] has the diagram of the states, and [`Retry`] the rules for what follows a loss. The parts that
//! decide can be used by themselves: [`ExponentialBackoff`], [`ReconnectionManager`], [`HeartbeatManager`].
//!
//! A session of your own, with a login, heartbeats and answers, is a [`Protocol`]; the [`guide`] writes one, from its first
//! line to its test.
//!
//! # The threads
//!
//! ```text
//!  callers (any number)                   tautline-io (one a client)                 server
//!    send ──▶ intake ──gate──▶  worker: a blocking read with a deadline  ◀──TLS/TCP──▶
//!    recv ◀── events ────────   session (pure) decides, worker does
//!                                 │ dial              ▲ a finished socket, or why not
//!                                 ▼                   │
//!                         tautline-dial (lives for one attempt: look-up, TCP, TLS, upgrade)
//!                                 │ schedule          ▲ retry now
//!                                 ▼                   │
//!                         tautline-timer (one a process: backoff for all clients)
//! ```
//!
//! N clients need N + 1 threads, and one more for each line that is being dialled or whose protocol has
//! [work](Context::work) done. An idle client makes no system call between two heartbeats.
//!
//! # The log
//!
//! State changes, attempts and reasons are logged at info and warn under the target `tautline`; nothing in the steady
//! state, and never a password, a token, a query string or a payload.
#![forbid(unsafe_code)]
// The programs of the docs and of the README compile without a warning.
#![doc(test(attr(deny(warnings))))]
#![cfg_attr(
    all(test, not(feature = "oracle")),
    allow(dead_code, reason = "some of what is there for tests is only used by the oracle of the fuzzers")
)]

// Its name makes its test the first: it starts what watches over all the others.
#[cfg(all(test, not(loom)))]
#[path = "../tests/common/watchdog.rs"]
mod _watchdog;
mod client;
mod config;
mod dial;
mod endpoint;
mod error;
mod event;
// Not in the published package, whose tests do without: there nothing turns the feature on.
#[cfg(any(fuzzing, all(test, feature = "oracle")))]
#[doc(hidden)]
#[path = "../fuzz/oracle/mod.rs"]
pub mod fuzzing;
#[doc = include_str!("guide.md")]
pub mod guide {}
mod io;
mod jobs;
mod message;
mod protocol;
mod secrets;
mod session;
mod shared;
mod state;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;
mod ticket;
mod timer;
mod transport;

pub use crossbeam_channel::Receiver;
pub use native_tls::TlsConnector;
pub use serde_json::Value;

pub use client::{Answers, Builder, Client, Messages, TryMessages};
pub use config::{
    Beat, ConnectionConfig, Delivery, HeartbeatConfig, Inbound, Jitter, QueueLimit, ReconnectConfig,
    WhileDown,
};
pub use error::{Cause, CloseFrame, Error, Phase, Rejection, SendError, SendErrorKind};
pub use event::{CloseReason, DisconnectReason, Event, Ticket, Tickets, Undelivered};
pub use message::{Binary, Message, Text};
pub use protocol::{
    Attempt, Context, Handshake, JsonSession, Loss, Outgoing, Protocol, RequestId, Retry, UpgradeRequest,
};
pub use session::backoff::ExponentialBackoff;
pub use session::heartbeat::{HeartbeatAction, HeartbeatFrame, HeartbeatManager, HeartbeatResponse};
pub use session::reconnect::{ReconnectPlan, ReconnectionManager};
pub use state::ConnectionState;
pub use stats::Stats;

/// The programs of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
