//! What a server's session needs beyond RFC 6455: logging in, reading messages, answering requests, resuming after a
//! loss.

mod context;
mod json;
mod request;
mod retry;

pub use context::{Context, Outgoing, RequestId};
pub(crate) use context::{Effect, Moment, Work};
pub use json::JsonSession;
pub use request::{Attempt, UpgradeRequest};
pub use retry::{Loss, Retry};

use crate::error::Error;
use crate::handshake::Handshake;
use crate::message::Message;

/// A session protocol. One object serves all connections of a client, one after the other.
///
/// The hooks are called on the I/O thread and must not block. Calls that need to block belong in
/// [`Builder::fetch`](crate::Builder::fetch) or in [`Context::work`]. Through its [`Context`], a hook requests what is
/// to happen: send a message, deliver one, declare the line ready. The protocol's messages are sent ahead of the
/// application's, which wait until the line is ready. So a login is the first message on the connection.
///
/// A client without a protocol is *plain*: it is ready as soon as the WebSocket is open, and every message is
/// delivered. [`JsonSession`] covers the common JSON session by configuration. The feature `testing` has a test kit in
/// `tautline::testing`, with a scripted server and a virtual clock.
///
/// A protocol can wrap another one: it returns that one from [`inner`](Self::inner) and implements the hooks that it
/// changes.
///
/// # Errors
/// A hook that returns an error ends the connection. If the line was not ready, the attempt has failed; if it was, the
/// line is lost. [`on_down`](Self::on_down) decides what follows.
///
/// # Secrets
/// What a protocol sends may be secret, and servers repeat what they refuse. A protocol that logs in passes its secrets
/// to [`Context::secret`], so that they are not printed or logged. The client hides the secrets of the upgrade request
/// by itself, including those set in [`prepare`](Self::prepare). On a line with compression, the length of a message tells of
/// what is in it and in those before it: send a login with [`Message::compress(false)`](Message::compress).
///
/// # Blocking calls
/// In a hook, calls that would block fail with [`Error::WouldDeadlock`]. These calls are allowed: each whose page says that
/// it never blocks, `send` and `send_with` while there is room, and `close` and `terminate`, which return at once there.
///
/// # Misbehaving hooks
/// | a hook | the result |
/// |---|---|
/// | returns an error | the connection ends: see above |
/// | ends the connection in `on_send` without sending the message | the message is passed to `on_send` again on the next connection; after the third time it is given up: see [`on_send`](Self::on_send) |
/// | panics | the client is closed with [`Error::Panicked`], and the protocol is not called again |
/// | takes longer than 100 ms | a warning in the log names it; nothing else happens on the line meanwhile |
/// | does not return | a call that ends the client waits until its bound, names the hook, and calls no other application code but drops: see [`Client`](crate::Client) |
/// | sends, sets timers or requests work when the connection is gone | nothing |
/// | calls [`Context::ready`] twice | the second call does nothing |
/// | closes twice, or while the caller or the server closes | nothing; a `stop` after a `close` counts |
/// | requests anything but messages and answers for the old connection of a line that has moved | nothing |
/// | sends more than the outbox's bound, sets over 1,024 timers, or has over 64 jobs pending | the connection is lost |
/// | answers a request that has ended, or answers one twice | nothing |
///
/// # Example
///
/// ```
/// use tautline::{Handshake, Context, Error, Message, Protocol};
///
/// /// A server that says "hello" and wants a password before anything else.
/// struct Password(String);
///
/// impl Protocol for Password {
///     fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
///         Ok(()) // the server speaks first; not ready yet
///     }
///
///     fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
///         match message.as_text() {
///             Some("hello") if !cx.is_ready() => {
///                 cx.secret(&self.0);
///                 cx.send(Message::from(self.0.as_str()).compress(false));
///             }
///             Some("welcome") if !cx.is_ready() => cx.ready(),
///             Some("wrong") if !cx.is_ready() => return Err(Error::login_refused("wrong password")),
///             _ => cx.deliver(message),
///         }
///         Ok(())
///     }
/// }
/// # drop(Password(String::new()));
/// ```
pub trait Protocol: Send {
    /// Returns the protocol that this one wraps. By default there is none.
    ///
    /// Every hook that this protocol does not implement itself calls the same hook of the inner protocol, also a hook
    /// that a later version adds. So a wrapper implements this method and the hooks that it changes. A hook that it
    /// changes calls the inner one where that is wanted.
    ///
    /// Return the same protocol each time, and never this protocol itself: its hooks would call themselves.
    ///
    /// ```
    /// use tautline::{Context, Error, JsonSession, Outgoing, Protocol};
    ///
    /// /// Logs each message of the application that goes out.
    /// struct Logged<P>(P);
    ///
    /// impl<P: Protocol> Protocol for Logged<P> {
    ///     fn inner(&mut self) -> Option<&mut dyn Protocol> {
    ///         Some(&mut self.0)
    ///     }
    ///
    ///     fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
    ///         log::debug!("message {} goes out", outgoing.ticket);
    ///         self.0.on_send(cx, outgoing)
    ///     }
    /// }
    ///
    /// let protocol = Logged(JsonSession::new());
    /// # drop(protocol);
    /// ```
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        None
    }

    /// Checks the protocol's own settings. `connect` and `start` call it once, on the caller's thread, before anything
    /// else, and return its error. By default the settings are valid.
    fn check(&mut self) -> Result<(), Error> {
        self.inner().map_or(Ok(()), <dyn Protocol>::check)
    }

    /// Called before each attempt, to change what the attempt requests. `request` starts with the values of the
    /// configuration, and with the URL of the server that the attempt goes to: see
    /// [`servers`](field@crate::ConnectionConfig::servers). For a move, that is the server of the line.
    ///
    /// If the last attempt was refused, [`Attempt::last`] has the refusal with its headers: a server may say there which
    /// credentials it wants. To repeat an attempt at once with others, see [`Loss::wants_credentials`].
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        self.inner().map_or(Ok(()), |inner| inner.prepare(attempt, request))
    }

    /// Called when the WebSocket is open. By default the line is ready.
    ///
    /// A protocol that does not log in calls [`Context::ready`] here, and the line is ready in the state CONNECTED. A
    /// protocol that calls it later makes the line AUTHENTICATED. Until then, for at most `login_timeout`, the
    /// application's messages wait.
    fn on_open(&mut self, cx: &mut Context<'_>, accepted: &Handshake) -> Result<(), Error> {
        let Some(inner) = self.inner() else {
            cx.ready();
            return Ok(());
        };
        inner.on_open(cx, accepted)
    }

    /// Called for each message. By default it is delivered to the application.
    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let Some(inner) = self.inner() else {
            cx.deliver(message);
            return Ok(());
        };
        inner.on_message(cx, message)
    }

    /// Called for a WebSocket ping. The client sends the pong with the same payload by itself.
    fn on_ping(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        self.inner().map_or(Ok(()), |inner| inner.on_ping(cx, payload))
    }

    /// Called for a WebSocket pong, whether it answers a heartbeat or is unsolicited.
    fn on_pong(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        self.inner().map_or(Ok(()), |inner| inner.on_pong(cx, payload))
    }

    /// Called for each message of the application that is about to be sent, to frame it, sign it or number it. By
    /// default it is sent unchanged.
    ///
    /// What this hook sends replaces the message. If it sends nothing, the message is dropped, and no confirmation is
    /// awaited for it. So to refuse one message, send nothing and return `Ok`.
    ///
    /// An error ends the connection, as does [`close`](Context::close). The message is then passed to this hook again
    /// on the next connection, and so is every message that could not be written. When three connections have ended in
    /// this hook for the same message, the message is given up: [`Event::Expired`](crate::Event::Expired) lists it, or,
    /// if it was written before, `maybe_delivered` of [`Event::Disconnected`](crate::Event::Disconnected) does.
    /// [`confirm`](crate::Client::confirm) reports it too.
    ///
    /// A message that is made of another one passes on whether it
    /// [may be compressed](crate::Message::may_be_compressed).
    ///
    /// To refuse a request, end it with [`Context::fail_request`] and [`Error::invalid_message`].
    ///
    /// To pair answers with requests, store the request's id under a key that the answer will carry:
    ///
    /// ```
    #[doc = include_str!("../client/echo.txt")]
    /// use std::collections::HashMap;
    /// use std::time::Duration;
    /// use tautline::{Handshake, Client, Context, Loss, Error, Message, Outgoing, Protocol, RequestId, Retry};
    ///
    /// /// A number stands in front of each message, and in front of its answer.
    /// #[derive(Default)]
    /// struct Numbered {
    ///     open: HashMap<u64, RequestId>,
    /// }
    ///
    /// impl Protocol for Numbered {
    ///     fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
    ///         cx.ready();
    ///         Ok(())
    ///     }
    ///
    ///     fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
    ///         let number = outgoing.ticket.number();
    ///         if let Some(request) = outgoing.request {
    ///             self.open.retain(|_, request| cx.is_waiting(*request)); // some have timed out
    ///             self.open.insert(number, request);
    ///         }
    ///         cx.send(format!("{number} {}", outgoing.message));
    ///         Ok(())
    ///     }
    ///
    ///     fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
    ///         let parts = message.as_text().and_then(|text| text.split_once(' '));
    ///         let answer = parts.and_then(|(number, text)| Some((self.open.remove(&number.parse().ok()?)?, text)));
    ///         match answer {
    ///             Some((request, text)) => cx.answer(request, text),
    ///             None => cx.deliver(message),
    ///         }
    ///         Ok(())
    ///     }
    ///
    ///     fn on_down(&mut self, down: &Loss<'_>) -> Retry {
    ///         self.open.clear(); // they failed with the line
    ///         down.default_retry()
    ///     }
    /// }
    ///
    /// let client = Client::builder(url).protocol(Numbered::default()).connect()?;
    /// let answer = client.request("status", Duration::from_secs(5))?;
    /// # assert_eq!(answer.as_text(), Some("status"));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        let Some(inner) = self.inner() else {
            cx.send(outgoing.message);
            return Ok(());
        };
        inner.on_send(cx, outgoing)
    }

    /// Called when a request that was sent waits for no answer any more: its timeout has passed, or the caller dropped
    /// its [`Answers`](crate::Answers). The protocol can notify the server here.
    fn on_withdrawn(&mut self, cx: &mut Context<'_>, request: RequestId) -> Result<(), Error> {
        self.inner().map_or(Ok(()), |inner| inner.on_withdrawn(cx, request))
    }

    /// Called with the result of a job that [`Context::work`] started on this connection.
    fn on_work(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        result: Result<Message, Error>,
    ) -> Result<(), Error> {
        self.inner().map_or(Ok(()), |inner| inner.on_work(cx, id, result))
    }

    /// Called when the line could not move, with the error of the attempt, of the login, or of a hook of the new
    /// connection. The line stays on the old connection. To try again, set a timer: [`Context::move_line`] does nothing
    /// here.
    fn on_move_failed(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<(), Error> {
        self.inner().map_or(Ok(()), |inner| inner.on_move_failed(cx, error))
    }

    /// Called when a timer that was set with [`Context::set_timer`] on this connection has expired.
    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        self.inner().map_or(Ok(()), |inner| inner.on_timer(cx, id))
    }

    /// Called when a heartbeat of [`Beat::Protocol`](crate::Beat::Protocol) is due, to send it. Report its answer with
    /// [`Context::beat_answered`].
    ///
    /// By default this returns an error, which ends the connection: a protocol without this hook can't be used with
    /// that setting.
    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        match self.inner() {
            Some(inner) => inner.on_beat(cx),
            None => Err(Error::session(
                "heartbeat.beat is Protocol, but this protocol has no on_beat to send heartbeats",
            )),
        }
    }

    /// Called when the caller closes the client, or takes the line down by [`suspend`](crate::Client::suspend) or
    /// [`reconnect`](crate::Client::reconnect), and everything else has been sent or is [held](Context::hold) or stays in
    /// the outbox. The protocol can send a last message here.
    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        self.inner().map_or(Ok(()), |inner| inner.on_closing(cx))
    }

    /// Called when an attempt failed or a connection was lost. Drop here what belonged to the connection, and return
    /// what is to follow. By default the rules of [`Retry`] apply. [`Loss::wants_credentials`] says that the server has
    /// refused the credentials, and that an attempt with fresh ones may follow at once.
    ///
    /// Also called when the caller takes the line down, with
    /// [`DisconnectReason::ByCaller`](crate::DisconnectReason::ByCaller): then the result is ignored. Not called when the
    /// caller closes the client, nor when a move fails.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tautline::{Handshake, CloseFrame, Context, DisconnectReason, Loss, Error, Protocol, Retry};
    ///
    /// /// A server that says by its close codes what it wants.
    /// struct Tracker {
    ///     subscribed: bool,
    /// }
    ///
    /// impl Protocol for Tracker {
    ///     fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
    ///         cx.send("subscribe");
    ///         self.subscribed = true;
    ///         cx.ready();
    ///         Ok(())
    ///     }
    ///
    ///     fn on_down(&mut self, down: &Loss<'_>) -> Retry {
    ///         self.subscribed = false;
    ///         match down.reason {
    ///             // Logged in elsewhere: to come back would throw that one out.
    ///             DisconnectReason::ClosedByServer(CloseFrame { code: 4001, .. }) => Retry::Never,
    ///             // A restart takes minutes.
    ///             DisconnectReason::ClosedByServer(CloseFrame { code: 1012, .. }) => {
    ///                 Retry::After(Duration::from_secs(120))
    ///             }
    ///             _ => down.default_retry(),
    ///         }
    ///     }
    /// }
    /// # let _ = Tracker { subscribed: false };
    /// ```
    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        match self.inner() {
            Some(inner) => inner.on_down(down),
            None => down.default_retry(),
        }
    }
}

/// A protocol whose type is chosen when the program runs.
impl Protocol for Box<dyn Protocol + '_> {
    fn inner(&mut self) -> Option<&mut dyn Protocol> {
        Some(&mut **self)
    }
}
