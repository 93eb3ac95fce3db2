//! What a hook can ask for.

use std::fmt;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::event::Ticket;
use crate::message::Message;
use crate::secrets::Secrets;

/// What a hook of a [`Protocol`](crate::Protocol) works with. Everything asked for happens after the hook has returned,
/// in the order in which it was asked for. Of a hook that returns an error, messages are delivered and requests answered,
/// but nothing is sent any more; to say something first, [`send`](Self::send) and [`close`](Self::close).
pub struct Context<'a> {
    effects: &'a mut Vec<Effect>,
    waiting: &'a dyn Fn(u64) -> bool,
    random: &'a mut dyn FnMut() -> f64,
    moment: Moment,
}

/// What a hook can know of when and where it is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) unix: Duration,
    /// The attempt that brought the connection.
    pub(crate) connection: u64,
    pub(crate) ready: bool,
    /// It is the one that the line is to move to.
    pub(crate) moving: bool,
    /// It is the one that the line has moved from.
    pub(crate) old: bool,
    /// For a timer: the line was not heard all the time while it ran.
    pub(crate) missed_input: bool,
}

/// A message of the application that is to go out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outgoing {
    /// The message, as it was given to `send` or `request`.
    pub message: Message,
    /// Its ticket.
    pub ticket: Ticket,
    /// Names the request, if it is one: hand it to [`Context::answer`] with the answer.
    pub request: Option<RequestId>,
    /// The request is one for many answers: of [`Client::request_many`](crate::Client::request_many).
    pub many: bool,
}

/// Names a request that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// What a protocol has done on another thread.
pub(crate) type Work = Box<dyn FnOnce() -> Result<Message, Error> + Send>;

/// Something that a hook asked for.
pub(crate) enum Effect {
    Send(Message),
    /// The server may repeat it.
    Secret(Secrets),
    Deliver(Message),
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
    Hold(Duration),
    Release,
    Move,
    Work(u32, Work),
    /// With an error, for good.
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

    /// Sends a message, ahead of the application's.
    ///
    /// What waits to be sent is bounded as the outbox is; a protocol that exceeds that bound loses the line. On a line
    /// that is gone, as in the same hook after [`close`](Self::close), nothing is sent.
    pub fn send(&mut self, message: impl Into<Message>) {
        self.effects.push(Effect::Send(message.into()));
    }

    /// Says that a text is secret: a password or a token of the login, each by itself, before or after it is sent. Where the
    /// server repeats it on this connection, `***` stands in its place in what is printed and logged: in the reason of a
    /// close frame (the field itself stays as it came), and in the text of an error that a hook returns from then on, or
    /// gives to [`stop`](Self::stop) or [`fail_request`](Self::fail_request). It is found also where it is percent-encoded
    /// or escaped as in JSON or HTML, and, if it has 4 to 7 bytes, where it is no piece of a longer word; a shorter one is
    /// not hidden. Such an error must hold what the server said whole: half of a secret is found only at its end.
    ///
    /// Known until the connection ends are the last of them, some hundreds. What the request for the connection held (the
    /// password of the URL, tokens in the query, in headers and in subprotocols) the library knows by itself.
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

    /// Gives a message to the application, also before the line is ready.
    pub fn deliver(&mut self, message: impl Into<Message>) {
        self.effects.push(Effect::Deliver(message.into()));
    }

    /// Declares the line ready: logged in. The application's messages flow and the heartbeats start. Once it is ready,
    /// this does nothing.
    pub fn ready(&mut self) {
        self.moment.ready = true;
        self.effects.push(Effect::Ready { resumed: false });
    }

    /// The same, for a session that goes on where the last connection left it: [`Event::Connected`] says so, and an
    /// application that subscribed to something need not do it again.
    ///
    /// [`Event::Connected`]: crate::Event::Connected
    pub fn resumed(&mut self) {
        self.moment.ready = true;
        self.effects.push(Effect::Ready { resumed: true });
    }

    /// Whether the line is ready.
    pub fn is_ready(&self) -> bool {
        self.moment.ready
    }

    /// Gives a request its answer, the only one or the last. A request that has ended (answered, timed out, failed,
    /// lost) is past answering, and this does nothing.
    pub fn answer(&mut self, request: RequestId, answer: impl Into<Message>) {
        self.effects.push(Effect::End(request, Ok(Some(answer.into()))));
    }

    /// Gives a request of [`Client::request_many`](crate::Client::request_many) one of its answers; more may follow. To
    /// one that waits for a single answer, this is it.
    pub fn answer_part(&mut self, request: RequestId, answer: impl Into<Message>) {
        self.effects.push(Effect::Part(request, answer.into()));
    }

    /// Ends a request that has had all its answers.
    pub fn end_request(&mut self, request: RequestId) {
        self.effects.push(Effect::End(request, Ok(None)));
    }

    /// Ends a request with an error: [`Error::answer`], if that is what the server said.
    pub fn fail_request(&mut self, request: RequestId, error: Error) {
        self.effects.push(Effect::End(request, Err(error)));
    }

    /// Whether a request still waits for an answer: it has not ended.
    pub fn is_waiting(&self, request: RequestId) -> bool {
        (self.waiting)(request.0)
    }

    /// Has [`on_timer`](crate::Protocol::on_timer) called with `id` after this long (1 ms at least), once, in place of
    /// an earlier timer of that `id`. Timers belong to the connection and die with it. There may be 1,024; a protocol
    /// that sets more loses the line.
    pub fn set_timer(&mut self, id: u32, after: Duration) {
        self.effects.push(Effect::SetTimer(id, after));
    }

    /// Forgets the timer `id`.
    pub fn cancel_timer(&mut self, id: u32) {
        self.effects.push(Effect::CancelTimer(id));
    }

    /// Whether the line was not listened to all the time while the timer ran that this hook is about: the application did
    /// not take its messages, so that none were read, or the machine slept. What the timer has waited for may be there
    /// unheard. A timer that takes silence for death asks this first, and waits once more.
    pub fn missed_input(&self) -> bool {
        self.moment.missed_input
    }

    /// Has the heartbeats of this connection go out as the server wants them: the first after `first` from now, or from
    /// when the line is ready, then one each `interval` (1 ms at
    /// least), in place of the configuration's. With
    /// [`Beat::Protocol`](crate::Beat::Protocol) they are what [`on_beat`](crate::Protocol::on_beat) sends. Called each
    /// time that something is sent, or that something arrives, it makes a heartbeat for a line that is idle on send or on
    /// receive.
    pub fn set_beats(&mut self, first: Duration, interval: Duration) {
        self.effects.push(Effect::Beats { first, interval });
    }

    /// The oldest heartbeat of [`Beat::Protocol`](crate::Beat::Protocol) was answered.
    pub fn beat_answered(&mut self) {
        self.effects.push(Effect::BeatAnswered);
    }

    /// Holds the application's messages back for this long from now, in place of an earlier hold: a server's rate limit.
    /// They wait in the outbox; what the protocol sends goes out. A message whose
    /// [`on_send`](crate::Protocol::on_send) asks for this is still sent. The hold dies with the connection. A caller who
    /// closes waits for it for half of `close_timeout`; what is held then counts as never written.
    pub fn hold(&mut self, time: Duration) {
        self.effects.push(Effect::Hold(time));
    }

    /// Ends a hold before its time.
    pub fn release(&mut self) {
        self.effects.push(Effect::Release);
    }

    /// Has `work`, which may block, done on a thread of the client's own, and its result brought to
    /// [`on_work`](crate::Protocol::on_work) with `id`: a token or a signature that is to be fetched over HTTP for this
    /// connection. Once the connection is gone its result is dropped. One piece is done after the other, also behind one of
    /// an earlier connection that still runs: give it a timeout of its own. There may be 64, and a protocol that asks for
    /// more loses the line. One that panics has [`Error::Panicked`] as its result.
    pub fn work(&mut self, id: u32, work: impl FnOnce() -> Result<Message, Error> + Send + 'static) {
        self.effects.push(Effect::Work(id, Box::new(work)));
    }

    /// Closes this connection with a close frame, after what was sent before, within `close_timeout`. What follows is for
    /// [`on_down`](crate::Protocol::on_down) to say, which hears of a lost line whatever the code was: by default the line
    /// comes back, also after 1000. To end the connection without a close handshake, return an error from the hook, which
    /// goes before this. While the line closes already, this does nothing.
    ///
    /// A code that may not be sent (RFC 6455, section 7.4) loses the line.
    pub fn close(&mut self, code: u16, reason: impl Into<String>) {
        self.effects.push(Effect::Close { code, reason: reason.into().into(), error: None });
    }

    /// Closes this connection with code 1000, and the client for good: there is no coming back.
    /// [`on_down`](crate::Protocol::on_down) is called, but what it decides is ignored. The application learns `error` from
    /// [`CloseReason`](crate::CloseReason). After [`close`](Self::close) this still counts, and in a hook that returns an
    /// error, too.
    pub fn stop(&mut self, error: Error) {
        self.effects.push(Effect::Close { code: 1000, reason: Box::default(), error: Some(error) });
    }

    /// Moves the session to another connection without a gap: one is dialled beside this one, which goes on meanwhile.
    /// [`prepare`](crate::Protocol::prepare) says where to; the new connection's hooks are called with
    /// [`is_moving`](Self::is_moving), and what they send goes out there. Once it is ready, and the server has confirmed
    /// what went out on the old one (with pings as heartbeats; `close_timeout` at most), the application's messages go
    /// out on the new one, [`Event::Moved`](crate::Event::Moved) says so, and the old one is closed with code 1000. What
    /// still arrives there until its end is heard, by hooks with [`is_old`](Self::is_old). A request that the old server does
    /// not answer until then fails with [`Error::Unanswered`]; an application that subscribes with
    /// [`request_many`](crate::Client::request_many) asks again at [`Event::Moved`](crate::Event::Moved).
    ///
    /// A move that fails, by an error or by [`close`](Self::close) in a hook of the new connection too, leaves the line as
    /// it is: see [`on_move_failed`](crate::Protocol::on_move_failed). With `close`, what was sent there before still goes
    /// out, and then the close frame. If the old connection is lost before the new one is ready, the move is off, and
    /// [`on_down`](crate::Protocol::on_down) says what follows, as after any loss. On a line that is not ready, or is moving
    /// already, and in `on_move_failed`, this does nothing.
    ///
    /// Both connections have the same bounds: what waits to be sent, `write_timeout`, `login_timeout`, `fragment`. The old
    /// server has `close_timeout` to say what it still has to say; a pause of the reader does not count. Each hook acts on
    /// the connection that it is about: a [`hold`](Self::hold) of the new connection holds back what goes out there.
    pub fn move_line(&mut self) {
        self.effects.push(Effect::Move);
    }

    /// Whether this hook is about the connection that the line is to move to, and has not yet.
    pub fn is_moving(&self) -> bool {
        self.moment.moving
    }

    /// Whether this hook is about the connection that the line has moved from, and that is heard to its end. What it
    /// delivers and answers counts; what it sends and what it sets is dropped, and an error ends that connection alone.
    pub fn is_old(&self) -> bool {
        self.moment.old
    }

    /// A random number of at least 0 and below 1.
    pub fn random(&mut self) -> f64 {
        (self.random)()
    }

    /// A number for the connection that this hook is about. The one that the line is to move to has another, and while the
    /// old one is heard to its end after a move, its messages come with the old number.
    pub fn connection(&self) -> u64 {
        self.moment.connection
    }

    /// The time by the clock of timers, which does not jump.
    pub fn now(&self) -> Instant {
        self.moment.now
    }

    /// The time since 1970 by the wall clock.
    pub fn unix_time(&self) -> Duration {
        self.moment.unix
    }
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("moment", &self.moment).finish_non_exhaustive()
    }
}
