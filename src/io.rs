//! The work of the I/O thread: its [`turn`], and the [`thread`] around it.

mod backpressure;
pub(crate) mod helm;
pub(crate) mod publisher;
mod slow_callbacks;
pub(crate) mod sockets;
mod spin;
pub(crate) mod thread;
pub(crate) mod traffic;
pub(crate) mod turn;
