//! The sharpest rules of real services, each as a protocol in small.

mod beats;
mod gateway;
mod idle_on_send;
mod moving;
mod pinged;
mod rate_limit;

use serde_json::{Value, json};
use tautline::ConnectionState::{Authenticated, Closed, Connected, Disconnected};
use tautline::{CloseFrame, DisconnectReason, Event, RequestId};

use super::*;

fn almost(time: Duration) -> Duration {
    time.saturating_sub(MS)
}

fn json_of(message: &Message) -> Result<Value, Error> {
    message.json()
}
