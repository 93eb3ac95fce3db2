//! JSON sessions that need only configuration.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::error::Error;
use crate::event::Ticket;
use crate::handshake::Handshake;
use crate::logging::LOG;
use crate::message::Message;
use crate::protocol::{Context, Loss, Outgoing, Protocol, RequestId, Retry};
use crate::secrets::Secrets;

/// The common JSON session: the login is the first message, and answers are paired with requests by a field or by their
/// order.
///
/// * Without a login, the line is ready as soon as the WebSocket is open.
/// * The message that accepts the login is not delivered, even if the server repeats it later.
/// * The answer to a request goes to [`Client::request`](crate::Client::request). Every other message, including one
///   that isn't JSON, is delivered to the application.
/// * The answer to a request that has timed out is dropped.
///
/// For JSON heartbeats, add [`HeartbeatConfig::json`](crate::HeartbeatConfig::json) to the configuration. Like all
/// heartbeats, they start when the login has been accepted. For a server that says how often it wants them, if at all,
/// see [`beats_by`](Self::beats_by).
///
/// `connect` and `start` reject a session that can't work with [`Error::InvalidConfig`].
///
/// ```no_run
/// use std::time::Duration;
/// use serde_json::json;
/// use tautline::{Client, JsonSession};
///
/// let session = JsonSession::new()
///     .login(json!({"Type": "POST_LOGIN", "Data": {"Email": "me@example.com", "Password": "…"}}))
///     .accepted(|m| m["Type"] == "RTN_LOGIN" && m["Data"]["Success"] == true)
///     .refused(|m| m["Type"] == "RTN_ERR")
///     .answers_in_order(|m| m["Type"].as_str().is_some_and(|t| t.starts_with("RTN_")));
/// let client = Client::builder("ws://gateway.local:5000").protocol(session).connect()?; // AUTHENTICATED
/// let sensors = client.request(json!({"Type": "GET_DYN_CONNECTED"}), Duration::from_secs(5))?;
/// println!("{sensors}");
/// # Ok::<(), tautline::Error>(())
/// ```
#[derive(Default)]
#[must_use = "a session does nothing until it is given to a builder"]
pub struct JsonSession {
    login: Option<Box<dyn FnMut() -> Value + Send>>,
    /// The secrets of the last login.
    secrets: Secrets,
    accepted: Option<Test>,
    refused: Option<Test>,
    /// The field that pairs an answer with its request.
    field: Option<Box<str>>,
    /// Which messages are answers, if only their order pairs them.
    in_order: Option<Test>,
    /// Reads out of a message how often the server wants heartbeats.
    beats: Option<Reader>,
    /// Requests that wait for an answer, oldest first. One that timed out keeps its place: its late answer must not be
    /// taken for that of the next request.
    open: VecDeque<Open>,
    acknowledged: Option<Acknowledged>,
    /// Whether the application has set the value of such a field itself.
    sets_values: bool,
}

/// How messages are acknowledged.
struct Acknowledged {
    /// The field that names a message, and the one by which the server acknowledges it.
    sent: Box<str>,
    by: Box<str>,
    /// Messages without an acknowledgement, oldest first, also of connections before.
    open: VecDeque<Unacknowledged>,
    /// The last ones that were acknowledged: a message that was sent twice may be acknowledged twice.
    done: VecDeque<Key>,
    /// Whether the log has said that a message can't be acknowledged.
    warned: bool,
}

/// A message that waits for its acknowledgement.
struct Unacknowledged {
    key: Key,
    ticket: Ticket,
    /// It was sent on this connection. One of a connection before may be lost, and its value in use again.
    here: bool,
}

/// A request that waits for an answer.
struct Open {
    key: Key,
    request: RequestId,
    /// Whether it has many answers, without an end.
    many: bool,
}

/// Reads a time out of a message, if it has one.
type Reader = Box<dyn FnMut(&Value) -> Option<Duration> + Send>;

/// Looks at a message.
type Test = Box<dyn FnMut(&Value) -> bool + Send>;

/// What identifies an answer: the value of a field, as JSON text. Empty if only the order counts.
type Key = Box<str>;

/// How much of a refusal its error repeats, and how much of it is examined for that, in characters.
const SAID: usize = 200;
const LOOKED_AT: usize = 8 << 10;

/// How many requests may wait for their answers.
const OPEN: usize = 1024;

/// How many acknowledgements are remembered, so that their repetitions are recognised.
const REMEMBERED: usize = 1024;

/// How many messages may wait for their acknowledgements.
const UNACKNOWLEDGED: usize = 65_536;

impl JsonSession {
    /// Returns a session without a login and without requests.
    pub fn new() -> Self {
        Self::default()
    }

    /// Logs in with this message. Unless [`accepted`](Self::accepted) is set, the next message that is not a refusal
    /// accepts the login.
    ///
    /// Secrets in the message are hidden from errors, `Debug` and the log, even where the server repeats them in a
    /// refusal or a close reason. A value of at least 4 bytes is secret in two cases:
    /// * It is a text or a number, and its name ends like `password`, `token`, `secret`, `key` or `auth`.
    /// * It is a text under any name, and more than words of letters: `me@example.com` and `hunter2` are secret,
    ///   `POST_LOGIN` is not.
    ///
    /// A login is never compressed.
    pub fn login(self, message: Value) -> Self {
        self.login_with(move || message.clone())
    }

    /// Logs in with a message that `make` creates for each connection, for credentials that expire. `make` must not
    /// block; for that, see [`Builder::fetch`](crate::Builder::fetch).
    pub fn login_with(mut self, make: impl FnMut() -> Value + Send + 'static) -> Self {
        self.login = Some(Box::new(make));
        self
    }

    /// Sets the test for the message that accepts the login. It is applied after that as well: a message that passes it again
    /// is not delivered.
    pub fn accepted(mut self, test: impl FnMut(&Value) -> bool + Send + 'static) -> Self {
        self.accepted = Some(Box::new(test));
        self
    }

    /// Sets the test for the message that refuses the login. It is applied only until the login is accepted.
    pub fn refused(mut self, test: impl FnMut(&Value) -> bool + Send + 'static) -> Self {
        self.refused = Some(Box::new(test));
        self
    }

    /// Pairs an answer with the request that has the same value in this top-level field. Use either this or
    /// [`answers_in_order`](Self::answers_in_order).
    ///
    /// A request without the field gets the number of its ticket there. Adding it rewrites the JSON: the order of the fields may
    /// change, and numbers beyond 64 bits lose digits. Set the field yourself to have the request sent unchanged.
    ///
    /// A value stays in use until its answer has arrived or the line is lost, even if the request has timed out. JSON
    /// nested deeper than 128 levels is not read as JSON.
    ///
    /// For a [`request_many`](crate::Client::request_many), such as a subscription, every message with its value is one
    /// of its answers, until the iterator is dropped or the line is lost.
    pub fn answers_by(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into().into());
        self
    }

    /// Pairs answers with requests by their order. `test` tells which messages are answers.
    ///
    /// Everything that the server answers must then be sent as a request. The answer to a message sent with `send`
    /// would be taken for the answer to the next request.
    pub fn answers_in_order(mut self, test: impl FnMut(&Value) -> bool + Send + 'static) -> Self {
        self.in_order = Some(Box::new(test));
        self
    }

    /// Pairs the server's acknowledgements with messages: a message with a value in the top-level field `sent` is
    /// acknowledged by a message of the server with the same value in the field `by`. Both may have the same name. The
    /// server's message is not delivered, unless it answers a request.
    ///
    /// For [`Confirmation::Acknowledgement`](crate::Confirmation::Acknowledgement). A message without the field gets the
    /// number of its ticket there, and has it again when it is sent again, so that a server can recognise it. As with
    /// [`answers_by`](Self::answers_by), adding it rewrites the JSON. A message that is not a JSON object can't be
    /// acknowledged; the log says so once. A request needs no such field: its answer acknowledges it.
    ///
    /// Two values are the same if their JSON is: `1` is not `1.0`, nor `"1"`. Of two messages with one value, the one
    /// that was sent on this connection is acknowledged first, and the older of two such. If the application sets such values itself, a number that it uses is not given to another
    /// message: that one gets its ticket's number plus a multiple of 2³². 65,536 messages may wait. Beyond that the oldest
    /// is not recognised any more. A repeated acknowledgement is not delivered, for the last 1,024.
    ///
    /// With `Confirmation::Acknowledgement`, a session without `acknowledged_by` can confirm requests only: `confirm` of any
    /// other message times out, and an outbox at least once fills up.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use serde_json::json;
    /// use tautline::{Client, Confirmation, ConnectionConfig, Delivery, JsonSession};
    ///
    /// let config = ConnectionConfig::new("ws://127.0.0.1:8080")
    ///     .delivery(Delivery::AtLeastOnce)
    ///     .confirmation(Confirmation::Acknowledgement);
    /// let session = JsonSession::new().acknowledged_by("seq", "ack");
    /// let client = Client::builder(config).protocol(session).connect()?;
    /// let ticket = client.send(json!({"order": "buy"}))?; // goes out as {"order":"buy","seq":1}
    /// client.confirm(ticket, Duration::from_secs(3))?; // {"ack":1} has come
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn acknowledged_by(mut self, sent: impl Into<String>, by: impl Into<String>) -> Self {
        let (sent, by) = (sent.into().into(), by.into().into());
        let (open, done) = Default::default();
        self.acknowledged = Some(Acknowledged { sent, by, open, done, warned: false });
        self
    }

    /// Reads out of the server's messages how often it wants heartbeats. `read` gets each message in JSON, also the one
    /// that accepts the login, and returns
    /// * `None` if the message does not say;
    /// * an interval: the next heartbeat follows after it, and then one after each, instead of the configured
    ///   [`interval`](field@crate::HeartbeatConfig::interval);
    /// * zero if the server wants no heartbeats. There are none until another message asks for them.
    ///
    /// What a heartbeat is, and how long its answer may take, is configured. What the server says holds for its
    /// connection. It has no effect with [`Beat::Off`](crate::Beat::Off). The message goes on as without this setting:
    /// it is delivered, or it answers a request.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tautline::{ConnectionConfig, HeartbeatConfig, JsonSession};
    ///
    /// // {"welcome": {"beat_ms": 5000}}
    /// let session = JsonSession::new().beats_by(|m| m["welcome"]["beat_ms"].as_u64().map(Duration::from_millis));
    /// let config = ConnectionConfig::new("wss://example.com/socket").heartbeat(HeartbeatConfig::json());
    /// # drop((session, config));
    /// ```
    pub fn beats_by(mut self, read: impl FnMut(&Value) -> Option<Duration> + Send + 'static) -> Self {
        self.beats = Some(Box::new(read));
        self
    }

    /// The verdict on a login, if `value` is its answer.
    fn judge_login(&mut self, value: &Value) -> Option<Result<(), Error>> {
        if self.refused.as_mut().is_some_and(|refused| refused(value)) {
            let said: String = value.to_string().chars().take(LOOKED_AT).collect();
            // Before the text is cut: half a secret is still a secret.
            let said = self.secrets.hide(&said);
            return Some(Err(Error::login_refused(said.chars().take(SAID).collect::<String>())));
        }
        self.accepted.as_mut().is_none_or(|accepted| accepted(value)).then_some(Ok(()))
    }

    /// The request that `value` answers, and whether it may have more answers.
    fn answered(&mut self, value: &Value) -> Option<(RequestId, bool)> {
        let Open { request, .. } = if let Some(field) = &self.field {
            let key = value.get(&**field)?.to_string();
            let at = self.open.iter().position(|open| *open.key == *key)?;
            if self.open[at].many {
                return Some((self.open[at].request, true));
            }
            self.open.remove(at)?
        } else {
            let is_answer = self.in_order.as_mut()?;
            (!self.open.is_empty() && is_answer(value)).then(|| self.open.pop_front())??
        };
        Some((request, false))
    }

    /// The message as it is sent, with the key that its acknowledgement will have.
    fn numbered(&mut self, ticket: Ticket, message: Message) -> (Message, Option<Key>) {
        let Some(Acknowledged { sent, warned, .. }) = &mut self.acknowledged else { return (message, None) };
        let Ok(Value::Object(mut object)) = message.json() else {
            if !std::mem::replace(warned, true) {
                log::warn!(target: LOG, "A message that is not a JSON object has no field {sent:?} to acknowledge it by");
            }
            return (message, None);
        };
        if let Some(value) = object.get(&**sent) {
            self.sets_values = true;
            let key = value.to_string();
            return (message, Some(key.into()));
        }
        let sent = sent.to_string();
        let number = self.number(ticket);
        object.insert(sent, number.into());
        let numbered = Message::from(Value::Object(object)).compress(message.may_be_compressed());
        (numbered, Some(number.to_string().into()))
    }

    /// The number that a message gets: that of its ticket, so that it has the same when it is sent again. If the
    /// application has set values itself, it is one that is not in use.
    fn number(&self, ticket: Ticket) -> u64 {
        let requests = || self.open.iter().map(|open| &open.key);
        let messages = || {
            let open = self.acknowledged.iter().flat_map(|acknowledged| &acknowledged.open);
            open.filter(|sent| sent.ticket != ticket).map(|sent| &sent.key)
        };
        let is_taken = |number: &u64| {
            let number = number.to_string();
            requests().chain(messages()).any(|key| **key == *number)
        };
        let mut numbers = std::iter::successors(Some(ticket.number()), |number| number.checked_add(1 << 32));
        let number = if self.sets_values { numbers.find(|number| !is_taken(number)) } else { numbers.next() };
        number.unwrap_or(ticket.number())
    }

    /// Acknowledges the message that `value` names. Returns whether `value` is an acknowledgement, of the first time or not.
    fn acknowledge(&mut self, cx: &mut Context<'_>, value: &Value) -> bool {
        let Some(Acknowledged { by, open, done, .. }) = &mut self.acknowledged else { return false };
        let Some(key) = value.get(&**by).map(ToString::to_string) else { return false };
        let is_it = |sent: &Unacknowledged| *sent.key == *key;
        let here = open.iter().position(|sent| sent.here && is_it(sent));
        let at = here.or_else(|| open.iter().position(is_it));
        let Some(Unacknowledged { key, ticket, .. }) = at.and_then(|at| open.remove(at)) else {
            return done.iter().any(|done| **done == *key);
        };
        cx.acknowledge(ticket);
        done.push_back(key);
        if done.len() > REMEMBERED {
            done.pop_front();
        }
        true
    }

    /// The request as it is sent, with the key that its answer will have.
    fn keyed(
        &mut self,
        cx: &Context<'_>,
        ticket: Ticket,
        message: Message,
    ) -> Result<(Message, Key), &'static str> {
        if self.open.len() >= OPEN && self.field.is_some() {
            // If each answer names its request, requests that nobody waits for any more can be forgotten.
            self.open.retain(|open| cx.is_waiting(open.request));
        }
        if self.open.len() >= OPEN {
            return Err("1,024 requests are already waiting for their answers");
        }
        let field = match (&self.field, &self.in_order) {
            (Some(field), _) => field,
            (None, Some(_)) => return Ok((message, Key::default())),
            (None, None) => return Err("the session pairs no answers: see answers_by and answers_in_order"),
        };
        let Ok(Value::Object(mut object)) = message.json() else {
            return Err("it is not a JSON object, so it has no field to pair the answer by");
        };
        if let Some(value) = object.get(&**field) {
            self.sets_values = true;
            let key = value.to_string();
            if self.open.iter().any(|open| *open.key == *key) {
                return Err(
                    "the answer to another request with that value in the field may still come; use another value",
                );
            }
            return Ok((message, key.into()));
        }
        let number = self.number(ticket);
        object.insert(field.to_string(), number.into());
        let numbered = Message::from(Value::Object(object)).compress(message.may_be_compressed());
        Ok((numbered, number.to_string().into()))
    }
}

impl Protocol for JsonSession {
    fn check(&mut self) -> Result<(), Error> {
        let wrong = if self.field.is_some() && self.in_order.is_some() {
            "answers are paired either by a field or by their order: use answers_by or answers_in_order, not both"
        } else if self.field.as_ref().is_some_and(|field| field.is_empty()) {
            "answers_by needs the name of a field"
        } else if self
            .acknowledged
            .as_ref()
            .is_some_and(|Acknowledged { sent, by, .. }| sent.is_empty() || by.is_empty())
        {
            "acknowledged_by needs the names of two fields"
        } else if self.login.is_none() && (self.accepted.is_some() || self.refused.is_some()) {
            "accepted and refused test the answer to a login, but the session has none; set login or login_with"
        } else {
            return Ok(());
        };
        Err(Error::InvalidConfig { setting: "JsonSession", reason: wrong.into() })
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        match &mut self.login {
            Some(login) => {
                let message = login();
                self.secrets = Secrets::of_login(&message);
                cx.keep_secret(self.secrets.clone());
                // Its length would tell of it, and later messages would refer to it.
                cx.send(Message::from(message).compress(false));
            }
            None => cx.ready(),
        }
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let Ok(value) = message.json::<Value>() else {
            cx.deliver(message);
            return Ok(());
        };
        match self.beats.as_mut().and_then(|beats| beats(&value)) {
            Some(Duration::ZERO) => cx.stop_beats(),
            Some(interval) => cx.set_beats(interval, interval),
            None => {}
        }
        let is_acknowledgement = self.acknowledge(cx, &value);
        if !cx.is_ready() {
            match self.judge_login(&value) {
                Some(Ok(())) => cx.ready(),
                Some(Err(error)) => return Err(error),
                None if is_acknowledgement => {}
                None => cx.deliver(message),
            }
            return Ok(());
        }
        if self.login.is_some() && self.accepted.as_mut().is_some_and(|accepted| accepted(&value)) {
            log::debug!(target: LOG, "the server accepted the login once more; ignored");
            return Ok(());
        }
        match self.answered(&value) {
            Some((request, true)) => cx.answer_part(request, message),
            Some((request, false)) => cx.answer(request, message),
            None if is_acknowledgement => {}
            None => cx.deliver(message),
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        let Some(request) = outgoing.request else {
            let (message, key) = self.numbered(outgoing.ticket, outgoing.message);
            if let Some((key, Acknowledged { open, .. })) = key.zip(self.acknowledged.as_mut()) {
                let sent = Unacknowledged { key, ticket: outgoing.ticket, here: true };
                match open.binary_search_by_key(&sent.ticket, |sent| sent.ticket) {
                    // It is sent again.
                    Ok(at) => open[at] = sent,
                    Err(at) => open.insert(at, sent),
                }
                if open.len() > UNACKNOWLEDGED {
                    open.pop_front();
                }
            }
            cx.send(message);
            return Ok(());
        };
        match self.keyed(cx, outgoing.ticket, outgoing.message) {
            Ok((message, key)) => {
                let many = outgoing.many && self.field.is_some();
                self.open.push_back(Open { key, request, many });
                cx.send(message);
            }
            Err(reason) => {
                cx.fail_request(
                    request,
                    Error::InvalidArgument { argument: "request", reason: reason.into() },
                );
            }
        }
        Ok(())
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        self.open.clear();
        for sent in self.acknowledged.iter_mut().flat_map(|acknowledged| &mut acknowledged.open) {
            sent.here = false;
        }
        down.default_retry()
    }
}

impl fmt::Debug for JsonSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The login is a secret.
        f.debug_struct("JsonSession")
            .field("logs_in", &self.login.is_some())
            .field("open_requests", &self.open.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
