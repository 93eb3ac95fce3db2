//! Where callers meet the I/O thread: the gate that wakes it, the queue of messages, and the state that it reports.

mod calls;
mod counters;
mod events;
mod gate;
mod inbox;
mod item;
mod losses;
#[cfg(all(test, loom))]
mod model;
mod outward;
mod queue;
mod ring;
mod spin;
mod status;
mod sync;
mod thread_mark;
mod waiters;

use std::sync::Arc;

pub(crate) use crate::shared::calls::{Callback, Calls, LATE, ThreadHooks};
pub(crate) use crate::shared::events::{EventQueue, EventWriter};
pub(crate) use crate::shared::gate::{Gate, Sleep};
pub(crate) use crate::shared::inbox::{Inbox, InboxWriter};
pub(crate) use crate::shared::item::{Item, Offer, Reply, Special};
pub(crate) use crate::shared::queue::{Command, Intake};
pub(crate) use crate::shared::spin::{AdaptiveSpin, Between, CALLERS_FACTOR, IN_CONVERSATION_NS, spin};
pub(crate) use crate::shared::status::{Inner, Status};
pub(crate) use crate::shared::thread_mark::{Thread, ThreadHandle};

/// What the I/O thread shares with its callers.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) gate: Arc<Gate>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) status: Arc<Status>,
    pub(crate) calls: Arc<Calls>,
}
