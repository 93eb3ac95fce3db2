//! What a hook can ask for.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::event::{Ticket, Tickets};
use crate::message::Message;
use crate::secrets::Secrets;

/// What a hook of a [`Protocol`](crate::Protocol) works with. Its methods record requests, which the client carries out
/// after the hook has returned, in the order in which they were made.
///
/// If the hook returns an error, its messages are still delivered and its requests are still answered, but nothing more
/// is sent. To send something first, use [`send`](Self::send) and [`close`](Self::close), and return `Ok`.
pub struct Context<'a> {
    effects: &'a mut Vec<Effect>,
    waiting: &'a dyn Fn(u64) -> bool,
    random: &'a mut dyn FnMut() -> f64,
    moment: Moment,
}

/// What a hook can learn about when and where it is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) unix: Duration,
    /// The number of the attempt that made the connection.
    pub(crate) connection: u64,
    pub(crate) ready: bool,
    /// Whether it is the connection that the line is to move to.
    pub(crate) moving: bool,
    /// Whether it is the connection that the line has moved from.
    pub(crate) old: bool,
    /// For a timer: whether the line was not read for some time while it ran.
    pub(crate) missed_input: bool,
}

/// A message of the application that is about to be sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outgoing {
    /// The message, as passed to `send` or `request`.
    pub message: Message,
    /// Its ticket.
    pub ticket: Ticket,
    /// The id of the request, if the message is one. Pass it to [`Context::answer`] with the answer.
    pub request: Option<RequestId>,
    /// Whether the request expects many answers: it came from [`Client::request_many`](crate::Client::request_many).
    pub many: bool,
}

/// Identifies a request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// What a protocol has done on another thread.
pub(crate) type Work = Box<dyn FnOnce() -> Result<Message, Error> + Send>;

/// Something that a hook asked for.
pub(crate) enum Effect {
    Send(Message),
    /// A secret that the server may repeat.
    Secret(Secrets),
    Deliver(Message),
    Acknowledge(Tickets),
    Ready {
        resumed: bool,
    },
    Part(RequestId, Message),
    End(RequestId, Result<Option<Message>, Error>),
    SetTimer(u32, Duration),
    CancelTimer(u32),
    BeatAnswered,
    Beats {
        first: Duration,
        interval: Duration,
    },
    StopBeats,
    Hold(Duration),
    Release,
    Move,
    Servers(Vec<String>),
    Work(u32, Work),
    /// With an error, the client closes for good.
    Close {
        code: u16,
        reason: Box<str>,
        error: Option<Error>,
    },
}

impl<'a> Context<'a> {
    pub(crate) fn new(
        effects: &'a mut Vec<Effect>,
        waiting: &'a dyn Fn(u64) -> bool,
        random: &'a mut dyn FnMut() -> f64,
        moment: Moment,
    ) -> Self {
        Self { effects, waiting, random, moment }
    }

    /// Sends a message, ahead of the application's messages.
    ///
    /// The pending messages are bounded like the outbox. A protocol that exceeds the bound loses the connection. Once
    /// the connection is gone, as after [`close`](Self::close) in the same hook, nothing is sent.
    pub fn send(&mut self, message: impl Into<Message>) {
        self.effects.push(Effect::Send(message.into()));
    }

    /// Marks a text as secret, such as a password or a token of the login. Mark each secret by itself, before or after
    /// it is sent.
    ///
    /// Where the server repeats the secret on this connection, `***` replaces it in what is printed and logged:
    /// * in the reason of a close frame; the field itself is unchanged;
    /// * in the text of an error that a hook returns from then on, or passes to [`stop`](Self::stop) or
    ///   [`fail_request`](Self::fail_request). Such an error must contain the server's words in full, because half of a
    ///   secret is found only at the end.
    ///
    /// The secret is also found percent-encoded, and escaped as in JSON or HTML. One of 4 to 7 bytes is found only
    /// where it is not part of a longer word. A shorter one is not hidden.
    ///
    /// The client remembers the last few hundred secrets until the connection ends. It hides those of the upgrade
    /// request by itself: the password in the URL, and tokens in the query, headers and subprotocols.
    ///
    /// ```
    /// # use tautline::{Handshake, Context, Error, Message, Protocol};
    /// # struct Password(String);
    /// # impl Protocol for Password {
    /// fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
    ///     cx.secret(&self.0);
    ///     cx.send(format!("login {}", self.0));
    ///     Ok(())
    /// }
    ///
    /// fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
    ///     match message.as_text() {
    ///         Some(text) if text.starts_with("wrong ") => return Err(Error::login_refused(text)), // "wrong ***"
    ///         _ => cx.ready(),
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// # drop(Password(String::new()));
    /// ```
    pub fn secret(&mut self, text: impl AsRef<str>) {
        self.keep_secret(Secrets::of_text(text.as_ref()));
    }

    pub(crate) fn keep_secret(&mut self, secrets: Secrets) {
        self.effects.push(Effect::Secret(secrets));
    }

    /// Delivers a message to the application, even before the line is ready.
    pub fn deliver(&mut self, message: impl Into<Message>) {
        self.effects.push(Effect::Deliver(message.into()));
    }

    /// Reports that the server's application has handled these messages: one [`Ticket`], a list, a range, or with
    /// `..=ticket` all messages up to one. The tickets are those of [`on_send`](crate::Protocol::on_send).
    ///
    /// With [`Confirmation::Acknowledgement`](crate::Confirmation::Acknowledgement) this is what confirms a message: see
    /// there. With pongs it confirms the message earlier than they would.
    ///
    /// A message may be acknowledged in any order, on any connection, and again: the first time counts. In
    /// [`on_send`](crate::Protocol::on_send), the message that the hook was called for is not sent yet. One that waits to
    /// be sent again is not sent. One that an event has listed as maybe delivered stays so. A message that was never sent
    /// can't be acknowledged: the call does nothing for it, and the log has a warning for each connection that does so.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use tautline::{Context, Error, Handshake, Message, Outgoing, Protocol, Ticket};
    /// /// A server that answers each message with `ok` and the message's number.
    /// #[derive(Default)]
    /// struct Receipts {
    ///     sent: HashMap<String, Ticket>,
    ///     number: u64,
    /// }
    ///
    /// impl Protocol for Receipts {
    /// #   fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> { cx.ready(); Ok(()) }
    ///     fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
    ///         self.number += 1;
    ///         self.sent.insert(self.number.to_string(), outgoing.ticket);
    ///         cx.send(format!("{} {}", self.number, outgoing.message));
    ///         Ok(())
    ///     }
    ///
    ///     fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
    ///         match message.as_text().and_then(|text| text.strip_prefix("ok ")) {
    ///             Some(number) => self.sent.remove(number).into_iter().for_each(|ticket| cx.acknowledge(ticket)),
    ///             None => cx.deliver(message),
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// # drop(Receipts::default());
    /// ```
    pub fn acknowledge(&mut self, tickets: impl Into<Tickets>) {
        self.effects.push(Effect::Acknowledge(tickets.into()));
    }

    /// Declares the line ready, for example because the login was accepted. The application's messages are now sent,
    /// and heartbeats start. If the line is ready already, this does nothing.
    pub fn ready(&mut self) {
        self.moment.ready = true;
        self.effects.push(Effect::Ready { resumed: false });
    }

    /// Declares the line ready like [`ready`](Self::ready), with a session that continues where the last connection
    /// left it. [`Event::Connected`] says so, and the application need not subscribe again.
    ///
    /// [`Event::Connected`]: crate::Event::Connected
    pub fn resumed(&mut self) {
        self.moment.ready = true;
        self.effects.push(Effect::Ready { resumed: true });
    }

    /// Whether the line is ready, or was when it began to close.
    pub fn is_ready(&self) -> bool {
        self.moment.ready
    }

    /// Answers a request, with its only answer or its last. If the request has ended (answered, timed out, failed, or
    /// lost), this does nothing.
    pub fn answer(&mut self, request: RequestId, answer: impl Into<Message>) {
        self.effects.push(Effect::End(request, Ok(Some(answer.into()))));
    }

    /// Passes one of many answers to a request of [`Client::request_many`](crate::Client::request_many). A request that
    /// expects a single answer ends with it.
    pub fn answer_part(&mut self, request: RequestId, answer: impl Into<Message>) {
        self.effects.push(Effect::Part(request, answer.into()));
    }

    /// Ends a request whose answers are complete.
    pub fn end_request(&mut self, request: RequestId) {
        self.effects.push(Effect::End(request, Ok(None)));
    }

    /// Ends a request with an error. Use [`Error::answer`] if the server answered with one.
    pub fn fail_request(&mut self, request: RequestId, error: Error) {
        self.effects.push(Effect::End(request, Err(error)));
    }

    /// Whether a request still waits for an answer.
    pub fn is_waiting(&self, request: RequestId) -> bool {
        (self.waiting)(request.0)
    }

    /// Starts a timer: [`on_timer`](crate::Protocol::on_timer) is called once with `id` after this time (at least 1
    /// ms). It replaces an earlier timer with the same `id`.
    ///
    /// Timers belong to the connection and are dropped with it. There may be 1,024 of them. A protocol that sets more
    /// loses the connection.
    pub fn set_timer(&mut self, id: u32, after: Duration) {
        self.effects.push(Effect::SetTimer(id, after));
    }

    /// Cancels the timer `id`.
    pub fn cancel_timer(&mut self, id: u32) {
        self.effects.push(Effect::CancelTimer(id));
    }

    /// Whether input may be unread although it has arrived, in a hook called for a timer: reading was paused while the
    /// timer ran because the application did not take its messages, or the machine was suspended.
    ///
    /// A timer that treats silence as the peer's death must check this first, and wait once more if it is `true`.
    pub fn missed_input(&self) -> bool {
        self.moment.missed_input
    }

    /// Sets when this connection sends heartbeats, instead of the configured interval: the first after `first` from
    /// now, or from when the line is ready; then one every `interval` (at least 1 ms).
    ///
    /// With [`Beat::Protocol`](crate::Beat::Protocol), the heartbeats are what [`on_beat`](crate::Protocol::on_beat)
    /// sends. Called whenever something is sent, this makes a heartbeat for a line that is idle on send. Called
    /// whenever something arrives, it makes one for a line that is idle on receive.
    ///
    /// After [`stop_beats`](Self::stop_beats), this starts the heartbeats again. With [`Beat::Off`](crate::Beat::Off)
    /// there is nothing that could be sent, and this does nothing: choose another beat for a protocol that turns
    /// heartbeats on, and call `stop_beats` in [`on_open`](crate::Protocol::on_open).
    pub fn set_beats(&mut self, first: Duration, interval: Duration) {
        self.effects.push(Effect::Beats { first, interval });
    }

    /// Stops the heartbeats of this connection, until [`set_beats`](Self::set_beats). Before the line is ready, it keeps
    /// them from starting. The next connection has the configured heartbeats again.
    ///
    /// From then on the peer is not judged by its silence, not even by that which began before. Pings that ask for a
    /// confirmation are no heartbeats and still go out: those of [`confirm`](crate::Client::confirm), of
    /// [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce), of a close and of a move. For a server that tolerates no
    /// ping at all, use [`Beat::Off`](crate::Beat::Off).
    ///
    /// ```
    /// use std::time::Duration;
    /// use tautline::{Context, Error, Handshake, Message, Protocol};
    ///
    /// /// Its server says in the welcome message how often it wants heartbeats, if at all.
    /// struct Told;
    ///
    /// impl Protocol for Told {
    ///     fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
    ///         cx.stop_beats();
    ///         Ok(())
    ///     }
    ///
    ///     fn on_message(&mut self, cx: &mut Context<'_>, welcome: Message) -> Result<(), Error> {
    ///         if let Some(seconds) = welcome.as_text().and_then(|text| text.strip_prefix("welcome ")?.parse().ok()) {
    ///             let interval = Duration::from_secs(seconds);
    ///             cx.set_beats(interval, interval);
    ///         }
    ///         cx.ready();
    ///         Ok(())
    ///     }
    /// }
    /// # drop(Box::new(Told));
    /// ```
    pub fn stop_beats(&mut self) {
        self.effects.push(Effect::StopBeats);
    }

    /// Reports that the oldest heartbeat of [`Beat::Protocol`](crate::Beat::Protocol) was answered. A message about which
    /// `on_message` says so does not restart [`idle_timeout`](crate::ConnectionConfig::idle_timeout).
    ///
    /// If the server does not answer heartbeats, call this in [`on_beat`](crate::Protocol::on_beat), behind the
    /// heartbeat. The peer is then not judged by it, and no round trip is measured. A timer can judge the peer by what
    /// it sends.
    pub fn beat_answered(&mut self) {
        self.effects.push(Effect::BeatAnswered);
    }

    /// Holds back the application's messages for this long from now, for a server with a rate limit. It replaces an
    /// earlier hold.
    ///
    /// Held messages wait in the outbox; the protocol's own messages are sent. If [`on_send`](crate::Protocol::on_send)
    /// calls this, the message that it was called for is still sent. The hold ends with the connection. A caller that
    /// closes the client waits for the hold for half of `close_timeout`; messages still held then count as never
    /// written.
    pub fn hold(&mut self, time: Duration) {
        self.effects.push(Effect::Hold(time));
    }

    /// Ends a hold early.
    pub fn release(&mut self) {
        self.effects.push(Effect::Release);
    }

    /// Runs `work`, which may block, on a thread of the client, and passes its result to
    /// [`on_work`](crate::Protocol::on_work) with `id`. Use it for a token or a signature that this connection needs
    /// from an HTTP request.
    ///
    /// The result is dropped if the connection is gone. Jobs run one after the other, even behind a job of an earlier
    /// connection that still runs: give each a timeout of its own. 64 jobs may be pending. A protocol that requests
    /// more loses the connection. A job that panics has [`Error::Panicked`] as its result.
    pub fn work(&mut self, id: u32, work: impl FnOnce() -> Result<Message, Error> + Send + 'static) {
        self.effects.push(Effect::Work(id, Box::new(work)));
    }

    /// Closes this connection with a close frame, after everything sent before, within `close_timeout`.
    ///
    /// This counts as a loss, whatever the code: [`on_down`](crate::Protocol::on_down) decides what follows, and by
    /// default the client reconnects, even after 1000. To end the connection without a close handshake, return an error
    /// from the hook; the error takes precedence over this call. If the connection is closing already, this does
    /// nothing.
    ///
    /// A code that may not be sent (RFC 6455, section 7.4) ends the connection without a close frame.
    pub fn close(&mut self, code: u16, reason: impl Into<String>) {
        self.effects.push(Effect::Close { code, reason: reason.into().into(), error: None });
    }

    /// Closes this connection with code 1000, and the client for good: it does not reconnect. The application gets
    /// `error` in the [`CloseReason`](crate::CloseReason).
    ///
    /// [`on_down`](crate::Protocol::on_down) is called, but its result is ignored. The call still counts after
    /// [`close`](Self::close), and in a hook that returns an error.
    pub fn stop(&mut self, error: Error) {
        self.effects.push(Effect::Close { code: 1000, reason: Box::default(), error: Some(error) });
    }

    /// Moves the session to another connection without a gap. The steps are these:
    /// 1. A second connection is dialled while this one stays in use. [`prepare`](crate::Protocol::prepare) names its
    ///    URL. Hooks for it are called with [`is_moving`](Self::is_moving), and what they send is sent there.
    /// 2. Once the new connection is ready, the client waits for the server to confirm what was sent on the old one.
    ///    This needs pings as heartbeats, and takes at most `close_timeout`.
    /// 3. The application's messages are sent on the new connection, and [`Event::Moved`](crate::Event::Moved) is
    ///    emitted. The old connection is closed with code 1000.
    /// 4. Messages that still arrive on the old connection are handled by hooks with [`is_old`](Self::is_old). The old
    ///    server has `close_timeout` to finish; a pause in reading does not count.
    ///
    /// A request that the old server does not answer in that time fails with [`Error::Unanswered`]. An application that
    /// subscribes with [`request_many`](crate::Client::request_many) must subscribe again at
    /// [`Event::Moved`](crate::Event::Moved).
    ///
    /// A move can fail by an error, or by [`close`](Self::close) in a hook of the new connection; `close` lets the new
    /// connection write what was sent before. Then the line stays on the old connection: see
    /// [`on_move_failed`](crate::Protocol::on_move_failed). If the old connection is lost before the new one is ready,
    /// the move is cancelled, and [`on_down`](crate::Protocol::on_down) decides as after any loss.
    ///
    /// Both connections have the same limits: pending output, `write_timeout`, `login_timeout`, `fragment`. Each hook
    /// acts on the connection that it was called for: a [`hold`](Self::hold) requested by the new connection holds back
    /// what is sent there.
    ///
    /// If the line is not ready or is moving already, and in `on_move_failed`, this does nothing.
    pub fn move_line(&mut self) {
        self.effects.push(Effect::Move);
    }

    /// Replaces the [list](field@crate::ConnectionConfig::servers) of servers, for example by what a server says about
    /// its cluster. The connection stays as it is; the next attempt after it goes to the server behind this one in the
    /// new list, or to the first if this one is not in it. What is known of servers that stay in the list is kept.
    ///
    /// A list that is empty or too long, or in which a URL can't be used, ends the connection with an error that says
    /// so, and the old list stays. Until the line is ready, `connect` tries only the servers of its configuration. For
    /// the old connection of a move, this does nothing.
    ///
    /// ```
    /// # use tautline::{Context, Error, Handshake, Message, Protocol};
    /// # struct Cluster { home: String }
    /// # impl Protocol for Cluster {
    /// #   fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> { cx.ready(); Ok(()) }
    /// fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
    ///     match message.as_text().and_then(|text| text.strip_prefix("servers ")) {
    ///         Some(hosts) => {
    ///             let others = hosts.split(',').map(|host| format!("wss://{host}"));
    ///             cx.set_servers([self.home.clone()].into_iter().chain(others));
    ///         }
    ///         None => cx.deliver(message),
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// # drop(Cluster { home: String::new() });
    /// ```
    pub fn set_servers<U: Into<String>>(&mut self, urls: impl IntoIterator<Item = U>) {
        self.effects.push(Effect::Servers(urls.into_iter().map(Into::into).collect()));
    }

    /// Whether this hook was called for the new connection of a move that is under way.
    pub fn is_moving(&self) -> bool {
        self.moment.moving
    }

    /// Whether this hook was called for the old connection after a move. Messages that it delivers and answers that it
    /// gives count. Anything it sends or sets is dropped. An error ends the old connection only.
    pub fn is_old(&self) -> bool {
        self.moment.old
    }

    /// Returns a random number of at least 0 and below 1.
    pub fn random(&mut self) -> f64 {
        (self.random)()
    }

    /// Returns the number of the connection that this hook was called for. The new connection of a move has another
    /// number, and messages that arrive late on the old one come with the old number.
    pub fn connection(&self) -> u64 {
        self.moment.connection
    }

    /// Returns the time of the monotonic clock that timers use.
    pub fn now(&self) -> Instant {
        self.moment.now
    }

    /// Returns the wall-clock time since 1970.
    pub fn unix_time(&self) -> Duration {
        self.moment.unix
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("moment", &self.moment).finish_non_exhaustive()
    }
}
