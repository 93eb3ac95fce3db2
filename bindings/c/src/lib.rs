//! The C interface of [tautline](../tautline/index.html). `include/tautline.h` is the reference for programs in C; it is made
//! from the comments here. `README.md` says how to build and link.
//!
//! All `unsafe` code of the project is in this crate. It does three things: it reads what C points to, it writes where C
//! points to, and it calls the functions that C gives.
#![allow(
    clippy::missing_safety_doc,
    reason = "the comments are those of the header, and say what C has to keep to"
)]

mod boundary;
mod client;
mod codes;
mod ending;
mod events;
mod logging;
mod options;
mod process;
mod sending;
mod signal;
mod status;
mod table;
mod words;

pub use client::{tautline_open, tautline_wait_ready, tautline_wake};
pub use codes::*;
pub use ending::{TAUTLINE_CLOSE, TAUTLINE_TERMINATE, Undelivered, tautline_shutdown};
pub use events::{
    Event, TAUTLINE_BINARY, TAUTLINE_EVENT_CLOSED, TAUTLINE_EVENT_DISCONNECTED, TAUTLINE_EVENT_EXPIRED,
    TAUTLINE_EVENT_MESSAGE, TAUTLINE_EVENT_MISSED, TAUTLINE_EVENT_OTHER, TAUTLINE_EVENT_READY,
    TAUTLINE_EVENT_STATE, TAUTLINE_TEXT, tautline_event_fd, tautline_next_event, tautline_wait_event,
};
pub use logging::{
    LogFn, TAUTLINE_LOG_DEBUG, TAUTLINE_LOG_ERROR, TAUTLINE_LOG_INFO, TAUTLINE_LOG_OFF, TAUTLINE_LOG_TRACE,
    TAUTLINE_LOG_WARN, tautline_log_to,
};
pub use options::*;
pub use sending::{TAUTLINE_MOST_BYTES, tautline_send_binary, tautline_send_text, tautline_send_timeout};
pub use status::{
    Stats, TAUTLINE_STATE_AUTHENTICATED, TAUTLINE_STATE_CLOSED, TAUTLINE_STATE_CLOSING,
    TAUTLINE_STATE_CONNECTED, TAUTLINE_STATE_CONNECTING, TAUTLINE_STATE_DISCONNECTED, tautline_state,
    tautline_stats,
};
pub use table::{Client, TAUTLINE_MOST_CLIENTS};
