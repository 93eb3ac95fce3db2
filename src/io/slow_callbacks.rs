//! Watches for callbacks of the application that keep the I/O thread too long.
#![expect(
    clippy::disallowed_methods,
    reason = "what it measures runs on this thread, between two looks at the clock"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::warn;

use crate::error::{CloseReason, Error};
use crate::handshake::Handshake;
use crate::logging::LOG;
use crate::message::Message;
use crate::protocol::{Attempt, Context, Loss, Outgoing, Protocol, RequestId, Retry, UpgradeRequest};
use crate::shared::{Callback, Calls};

/// A callback that takes longer than this is reported in the log.
const PATIENCE: Duration = Duration::from_millis(100);

/// A protocol whose hooks are timed, and recorded by name while they run.
pub(super) struct Timed {
    /// Present until this is dropped.
    protocol: Option<Box<dyn Protocol>>,
    calls: Arc<Calls>,
}

/// Runs a callback, and logs a warning if it took long. `None` if no code of the application may be called any more.
pub(super) fn timed<R>(calls: &Calls, callback: Callback, call: impl FnOnce() -> R) -> Option<R> {
    let start = Instant::now();
    let result = calls.run(callback, call)?;
    let took = start.elapsed();
    if took > PATIENCE {
        warn!(
            target: LOG,
            "The callback {} took {}ms on the I/O thread, where nothing else happens meanwhile; \
             what blocks belongs on another thread",
            callback.name(),
            took.as_millis()
        );
    }
    Some(result)
}

impl Timed {
    pub(super) fn new(protocol: Box<dyn Protocol>, calls: Arc<Calls>) -> Self {
        Self { protocol: Some(protocol), calls }
    }

    /// After a client was abandoned, its next hook ends it without calling the protocol.
    fn hook(
        &mut self,
        callback: Callback,
        call: impl FnOnce(&mut dyn Protocol) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let closed = || Err(CloseReason::ByCaller.into_error());
        let Some(protocol) = &mut self.protocol else { return closed() };
        timed(&self.calls, callback, || call(&mut **protocol)).unwrap_or_else(closed)
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.calls.dispose(self.protocol.take());
    }
}

#[deny(
    clippy::missing_trait_methods,
    reason = "a hook that is not passed on here would be called without being timed"
)]
impl Protocol for Timed {
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut **self.protocol.as_mut()?)
    }

    fn check(&mut self) -> Result<(), Error> {
        self.protocol.as_mut().map_or(Ok(()), Protocol::check)
    }

    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        self.hook(Callback::Prepare, |protocol| protocol.prepare(attempt, request))
    }

    fn on_open(&mut self, cx: &mut Context<'_>, accepted: &Handshake) -> Result<(), Error> {
        self.hook(Callback::OnOpen, |protocol| protocol.on_open(cx, accepted))
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        self.hook(Callback::OnMessage, |protocol| protocol.on_message(cx, message))
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        self.hook(Callback::OnPing, |protocol| protocol.on_ping(cx, payload))
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        self.hook(Callback::OnPong, |protocol| protocol.on_pong(cx, payload))
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        self.hook(Callback::OnSend, |protocol| protocol.on_send(cx, outgoing))
    }

    fn on_withdrawn(&mut self, cx: &mut Context<'_>, request: RequestId) -> Result<(), Error> {
        self.hook(Callback::OnWithdrawn, |protocol| protocol.on_withdrawn(cx, request))
    }

    fn on_work(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        result: Result<Message, Error>,
    ) -> Result<(), Error> {
        self.hook(Callback::OnWork, |protocol| protocol.on_work(cx, id, result))
    }

    fn on_move_failed(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<(), Error> {
        self.hook(Callback::OnMoveFailed, |protocol| protocol.on_move_failed(cx, error))
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        self.hook(Callback::OnTimer, |protocol| protocol.on_timer(cx, id))
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        self.hook(Callback::OnBeat, |protocol| protocol.on_beat(cx))
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        self.hook(Callback::OnClosing, |protocol| protocol.on_closing(cx))
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        let Some(protocol) = &mut self.protocol else { return Retry::Never };
        timed(&self.calls, Callback::OnDown, || protocol.on_down(down)).unwrap_or(Retry::Never)
    }
}
