//! A blocking WebSocket client that keeps its line up. It sends heartbeats, detects a dead server, reconnects with
//! jittered backoff, and reports what happened to every message. It runs on plain threads, without an async runtime.
//!
//! # Connecting
//!
//! ```no_run
//! use tautline::Client;
//!
//! fn main() -> Result<(), tautline::Error> {
//!     let log = env_logger::Env::default().default_filter_or("info");
//!     env_logger::init_from_env(log);                            // shows every state, loss and retry on stderr
//!     let client = Client::connect("wss://example.com/socket")?; // blocks until connected, or returns the reason
//!     client.send("hello")?;
//!     for message in client.messages() {                         // blocks; survives reconnects; ends when closed
//!         println!("{message}");
//!     }
//!     client.wait_closed().into_result()                         // the reason; `Ok` after a normal close
//! }
//! ```
//!
//! The program needs `cargo add env_logger`. Its log shows each state, and each loss with its reason and the delay before
//! the next attempt, so that an outage is not silent. [`Client::state`] returns the current state, and [`Client::events`]
//! reports every change. An error that `main` returns is printed as a sentence, with the server's own words and the causes.
//!
//! [`Client::connect`] makes one attempt and returns the reason if it fails. [`Client::start`] returns at once, and keeps
//! trying until the server is there. Both take a URL or a [`ConnectionConfig`]. [`Client::builder`] adds behaviour: a
//! [`Protocol`], a resolver, a callback that wakes an event loop.
//!
//! A *connection* is one TCP connection with its WebSocket. The *line* is the client's link to the server, which outlives
//! its connections: when one is lost, the client opens the next, and the line goes on. The line is *ready* when the
//! WebSocket is open or, with a protocol that logs in, when the login is accepted.
//!
//! # Where to find what
//!
//! | you want to | see |
//! |---|---|
//! | send, receive, close | [`Client`] |
//! | set timeouts, limits, heartbeats, reconnects | [`ConnectionConfig`], [`HeartbeatConfig`], [`ReconnectConfig`] |
//! | try several servers | [`ConnectionConfig::servers`](field@ConnectionConfig::servers) |
//! | trust a private authority or one certificate alone, show a client certificate | [`TlsConfig`], [`Certificate`], [`Identity`] |
//! | connect by a Unix socket, an SSH tunnel, a serial line | [`ConnectionConfig::url`](field@ConnectionConfig::url), [`Builder::connector`], [`Stream`] |
//! | go through a proxy | [`ConnectionConfig::proxy`](field@ConnectionConfig::proxy), [`Proxy`] |
//! | know what happens on the line | [`Event`], [`Client::status`], [`ConnectionState`], [`Stats`] |
//! | know which server answered, with which subprotocol and headers, and how fast | [`Client::handshake`], [`Handshake`] |
//! | go offline for a while, or reconnect | [`Client::suspend`], [`Client::reconnect`] |
//! | know whether a message arrived | [`Client::confirm`], [`Delivery`] |
//! | send and receive types of your own as JSON | [`Client::send_json`], [`Client::recv_json`], [`Message::json`] |
//! | know why a call failed, or why the client is closed | [`Error`], [`CloseReason`], and [each error](#what-stops-a-line) with its text and what follows |
//! | send a request and get its answer | [`Client::request`], [`Client::request_many`] |
//! | log in with JSON | [`JsonSession`] |
//! | implement a session of your own | [`Protocol`], and the [`guide`], which develops one from its first line to its test |
//! | know when the client reconnects | [`Retry`] |
//! | use a client in a plugin of somebody else's program | [`Client::shutdown`], and the page [`plugin`] |
//! | test code that uses a client, or a protocol | `tautline::testing`, with the feature `testing` |
//! | try a server from the command line | the program of the page [`wscat`] |
//! | use the logic without a client | [`ExponentialBackoff`], [`ReconnectionManager`], [`HeartbeatManager`] |
//!
//! # What happens when…
//!
#![doc = include_str!("docs/what_happens.md")]
//!
//! # What stops a line
//!
#![doc = include_str!("docs/errors.md")]
//!
//! # Shutdown
//!
#![doc = include_str!("docs/shutdown.md")]
//!
//! # Defaults
//!
#![doc = include_str!("docs/defaults.md")]
//!
//! # Limits
//!
#![doc = include_str!("docs/limits.md")]
//!
//! # Threads
//!
//! ```text
//!  callers (any number)                   tautline-io (one per client)               server
//!    send ──▶ outbox ──────────▶  waits for the socket, callers, timers  ◀──TLS/TCP──▶
//!    recv ◀── events ───────────  session logic, without I/O of its own
//!                                 │ dial              ▲ a connection, or the error
//!                                 ▼                   │
//!                         tautline-dial (one per attempt: DNS lookup, TCP, proxy, TLS, upgrade)
//!                                 │ schedule          ▲ retry now
//!                                 ▼                   │
//!                         tautline-timer (one per process: backoff for all clients)
//! ```
//!
//! N clients use N + 1 threads, and one more for each line that is being dialled or whose protocol has pending
//! [work](Context::work). An idle client makes no system call between two heartbeats.
//!
//! # The log
//!
//! State changes, attempts and reasons are logged at the levels info and warn under the target `tautline`, through the crate
//! `log`: they are seen once the program has a logger that shows these levels, such as the one of `env_logger` in the
//! program above. Nothing is logged while messages flow normally. The log never contains a password, a token, a query string or a payload.
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
mod compression;
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
// In a published package, where nothing turns the feature on by itself, its programs are no tests.
#[cfg_attr(any(not(doctest), feature = "testing"), doc = include_str!("guide.md"))]
pub mod guide {}
mod handshake;
mod io;
mod jobs;
mod logging;
mod message;
mod panics;
#[cfg_attr(any(not(doctest), feature = "testing"), doc = include_str!("plugin.md"))]
pub mod plugin {}
mod protocol;
mod secrets;
mod session;
mod shared;
mod state;
mod stats;
mod system;
#[cfg(feature = "testing")]
pub mod testing;
mod ticket;
mod timer;
mod transport;
#[doc = include_str!("../examples/wscat/README.md")]
pub mod wscat {}

pub use crossbeam_channel::Receiver;
/// The crate of [`TlsConfig::connector`](field@TlsConfig::connector), with the feature `native-tls`.
#[cfg(feature = "native-tls")]
pub use native_tls;
pub use serde_json::Value;

pub use client::{Answers, Builder, Client, Ending, LineStatus, Messages, SendOptions, TryMessages};
pub use compression::Compression;
pub use config::{
    AddressFamily, Beat, Certificate, Confirmation, ConnectionConfig, Delivery, HeartbeatConfig, Identity,
    Inbound, Jitter, NetworkConfig, Pin, Proxy, QueueLimit, ReconnectConfig, ServerOrder, TlsBackend,
    TlsConfig, TlsVersion, WhileDown,
};
pub use error::{
    AddressErrors, Cause, CloseFrame, Error, Phase, ProxyError, ProxyErrorKind, Rejection, SendError,
    SendErrorKind, TlsErrorKind,
};
pub use event::{CloseReason, DisconnectReason, Event, Shutdown, Ticket, Tickets, Undelivered};
pub use handshake::{Handshake, ResponseHeaders, Timings};
pub use message::{Binary, Message, Text};
pub use protocol::{
    Attempt, Context, JsonSession, Loss, Outgoing, Protocol, RequestId, Retry, UpgradeRequest,
};
pub use session::backoff::ExponentialBackoff;
pub use session::heartbeat::{HeartbeatAction, HeartbeatFrame, HeartbeatManager, HeartbeatResponse};
pub use session::reconnect::{ReconnectPlan, ReconnectionManager};
pub use state::ConnectionState;
pub use stats::{Compressed, Stats};
pub use transport::reach::Destination;
pub use transport::stream::Stream;

/// The programs of the README compile.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../README.md")]
struct Readme;
