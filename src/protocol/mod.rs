//! What a server's session needs beyond RFC 6455: logging in, reading messages, answering requests, going on after a
//! loss.

mod context;
mod json;
mod request;
mod retry;

pub use context::{Context, Outgoing, RequestId};
pub(crate) use context::{Effect, Moment, Work};
pub use json::JsonSession;
pub use request::{Attempt, Handshake, UpgradeRequest};
pub use retry::{Loss, Retry};

use crate::error::Error;
use crate::message::Message;

/// A session protocol: one object for all connections of a client.
///
/// The hooks are called on the I/O thread and must not block; what must be fetched by blocking goes into
/// [`Builder::fetch`](crate::Builder::fetch). Through its [`Context`] a hook asks for what is to happen: send, deliver,
/// declare the line ready. What it sends goes out ahead of the application's messages, and only a ready line carries
/// those, so a login is the first message on the line.
///
/// Hooks that do what they should not, and what comes of it:
///
/// | a hook | comes of it |
/// |---|---|
/// | returns an error | the connection ends: see below |
/// | ends the connection in `on_send` without sending the message, by an error, a close or a fault of this table | the message meets it again on the next connection; after the third time it is given up and named: see [`on_send`](Self::on_send) |
/// | panics | the client is closed with [`Error::Panicked`], and the protocol is not called again |
/// | takes longer than 100 ms | a warning in the log that names it: nothing else happens on the line meanwhile |
/// | does not return | an end of the client waits until its bound, names the hook, and calls nothing more: see [`Client`](crate::Client) |
/// | sends, sets timers or asks for work when the line is gone | nothing |
/// | calls [`Context::ready`] twice | the second does nothing |
/// | closes twice, or while the caller or the server closes | nothing; a stop after a close counts |
/// | asks for anything but messages and answers about the old connection of a line that has moved | nothing |
/// | sends more than the outbox's bound, sets over 1,024 timers, or asks for over 64 pieces of work at a time | the line is lost |
/// | answers a request that has ended, or one twice | nothing |
///
/// A hook that returns an error ends the connection with it: a failed attempt before the line was ready, a loss
/// after; [`on_down`](Self::on_down) says what follows.
///
/// What it sends may be secret, and servers repeat what they refuse: a protocol that logs in says to
/// [`Context::secret`] what must not be printed or logged. Of [`prepare`](Self::prepare) the library knows by itself what is
/// secret in the request.
///
/// Calls that would block fail with [`Error::WouldDeadlock`] in a hook; `try_send`, `send` while there is room,
/// `reconnect_now`, and `close` and `terminate`, which then return at once, are fine.
///
/// A client without a protocol of its own is *plain*: ready as soon as it is open, every message delivered.
/// [`JsonSession`] covers the common JSON session by configuration alone. To test one, the feature `testing` brings a
/// scripted server and a virtual clock, in `tautline::testing`.
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
///                 cx.send(self.0.as_str());
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
    /// Whether it can be used as it is set up. Asked once, by `connect` and `start`, on their caller's thread and before
    /// anything else; its error is theirs. By default it can.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Before each attempt: says what to ask for. `request` holds what the configuration says.
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        let _ = (attempt, request);
        Ok(())
    }

    /// The WebSocket is open. A protocol that need not log in calls [`Context::ready`] here, and the line is ready in
    /// the state CONNECTED; one that calls it later makes it AUTHENTICATED. Until it does, within `login_timeout`, the
    /// application's messages wait.
    fn on_open(&mut self, cx: &mut Context<'_>, accepted: &Handshake) -> Result<(), Error>;

    /// A message arrived. By default the application gets it.
    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        cx.deliver(message);
        Ok(())
    }

    /// A WebSocket ping arrived. Its pong, with the same payload, goes out by itself.
    fn on_ping(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        let _ = (cx, payload);
        Ok(())
    }

    /// A WebSocket pong arrived: the answer to a heartbeat, or one that nobody asked for.
    fn on_pong(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Result<(), Error> {
        let _ = (cx, payload);
        Ok(())
    }

    /// A message of the application is to go out: frame it, sign it, number it. By default it is sent as it is.
    ///
    /// What is sent here takes the message's place; if nothing is, the message is dropped, and nobody waits for it. So to
    /// refuse one message, send nothing and return `Ok`: an error ends the connection, as does [`close`](Context::close), and
    /// the message meets this hook again on the next, as does each that could not be written. A message over which three
    /// connections have ended in this hook is given up: [`Event::Expired`](crate::Event::Expired) names it, or, if it was written before, `maybe_delivered`
    /// of [`Event::Disconnected`](crate::Event::Disconnected), and [`confirm`](crate::Client::confirm) says so. A request
    /// that can't be sent is ended with [`Context::fail_request`] and [`Error::invalid_message`].
    ///
    /// To pair answers with requests, remember here what the answer will be known by:
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
        cx.send(outgoing.message);
        Ok(())
    }

    /// Nobody waits any more for the answer to this request, which was sent: its caller's time ran out, or he dropped his
    /// [`Answers`](crate::Answers). The chance to tell the server.
    fn on_withdrawn(&mut self, cx: &mut Context<'_>, request: RequestId) -> Result<(), Error> {
        let _ = (cx, request);
        Ok(())
    }

    /// What was asked for with [`Context::work`] on this connection is done.
    fn on_work(
        &mut self,
        cx: &mut Context<'_>,
        id: u32,
        result: Result<Message, Error>,
    ) -> Result<(), Error> {
        let _ = (cx, id, result);
        Ok(())
    }

    /// The line was to move, and can't: the attempt failed, the login there did, or a hook about it returned this error.
    /// The old connection goes on. To try again, set a timer: [`Context::move_line`] does nothing here.
    fn on_move_failed(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<(), Error> {
        let _ = (cx, error);
        Ok(())
    }

    /// A timer that was set with [`Context::set_timer`] on this connection has run out.
    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        let _ = (cx, id);
        Ok(())
    }

    /// A heartbeat is due, with [`Beat::Protocol`](crate::Beat::Protocol): send it. Its answer is told with
    /// [`Context::beat_answered`]. By default an error, which ends the connection: a protocol that sends no heartbeats
    /// can't be used with that setting.
    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let _ = cx;
        Err(Error::session(
            "the heartbeats are Beat::Protocol, and this protocol sends none: it has no on_beat",
        ))
    }

    /// The caller closes the line, and everything else is out, or is [held](Context::hold): the last chance to say goodbye.
    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let _ = cx;
        Ok(())
    }

    /// The attempt failed or the line is lost: forget what belonged to the connection, and say what follows. By default
    /// the rules of [`Retry`] do. Not called when the caller closes the line, nor for a move that fails.
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
        down.default_retry()
    }
}
