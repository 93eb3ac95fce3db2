//! tautline: a blocking WebSocket client whose line stays taut.
#![forbid(unsafe_code)]

mod client;
mod config;
mod dial;
mod endpoint;
mod error;
mod event;
mod intake;
mod message;
mod protocol;
mod session;
mod state;
mod stats;
mod timer;
mod transport;
mod worker;

pub use crossbeam_channel::Receiver;
pub use native_tls::TlsConnector;
pub use serde_json::Value;

pub use client::{Builder, Client, Messages, TryMessages};
pub use config::{Beat, ConnectionConfig, HeartbeatConfig, Inbound, Jitter, Limit, ReconnectConfig};
pub use error::{Cause, CloseFrame, Error, Phase, Rejection, SendError, SendErrorKind};
pub use event::{CloseReason, DisconnectReason, Event, Left, Ticket, Tickets};
pub use message::{Binary, Message, Text};
pub use protocol::Retry;
pub use session::backoff::ExponentialBackoff;
pub use session::heartbeat::{HeartbeatAction, HeartbeatManager, Pulse, Response};
pub use session::reconnect::{Plan, ReconnectionManager};
pub use state::ConnectionState;
pub use stats::Stats;
