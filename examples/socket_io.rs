//! Socket.IO 5 over Engine.IO 4: the server sends first and sends the heartbeats, and a lost session can be resumed.
//!
//! ```sh
//! cargo run --example socket_io -- ws://127.0.0.1:3000 '{"token": "secret"}' '["join", "news"]' 10
//! ```
//!
//! The program logs in, emits the event and shows the answer, and does so again if a reconnect starts a new session. It
//! shows the events that arrive, answers those that want an answer, and ends after 10 of them.

use std::{collections::HashMap, error::Error as StdError, time::Duration};

use serde_json::{Map, Value};
use tautline::DisconnectReason::ClosedByServer;
use tautline::{Client, ConnectionConfig, Context, Error, Event, Handshake, HeartbeatConfig, Loss};
use tautline::{Message, Outgoing, Protocol, RequestId, Retry};

fn main() -> Result<(), String> {
    env_logger::init();
    run().map_err(|error| error.to_string())
}

fn run() -> Result<(), Box<dyn StdError>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [url, auth, event, count] = &*arguments else { return Err("usage: URL AUTH EVENT COUNT".into()) };
    let mut left: u32 = count.parse()?;
    // Only the server's pings count as a sign of life. The protocol watches them, and the library's heartbeat is off.
    let config = ConnectionConfig::new(format!("{url}/socket.io/?EIO=4&transport=websocket"));
    let session = SocketIo { auth: serde_json::from_str(auth)?, ..SocketIo::default() };
    let client = Client::builder(config.heartbeat(HeartbeatConfig::off())).protocol(session).connect()?;
    for happened in client.events() {
        match happened {
            Event::Connected { resumed: true, .. } => println!("resumed"),
            Event::Connected { .. } => match client.request(event.as_str(), Duration::from_secs(10)) {
                Ok(answer) => println!("answer: {answer}"),
                Err(error) => println!("no answer: {error}"),
            },
            Event::Disconnected { reason, .. } => println!("lost: {reason}"),
            Event::Message(message) => {
                println!("event: {message}");
                left -= 1;
                let (number, _) = numbered(message.as_text().unwrap_or_default());
                if !number.is_empty() {
                    client.send(format!(r#"{number}["yes"]"#))?;
                }
            }
            _ => {}
        }
        if left == 0 {
            break;
        }
    }
    let _ = client.close();
    Ok(client.wait_closed().into_result()?)
}

/// The application sees an event as an array, `["name","argument"]`, and so it sees the answer to an event that it emits
/// with `request`. An event that the server wants answered has a number before it, `7["name"]`; so has the application's
/// answer. `auth` is the content of the login. A server that keeps sessions gives each session a `pid`, and each event in
/// it an `offset` after the arguments. The next login contains both.
#[derive(Default)]
pub(crate) struct SocketIo {
    auth: Map<String, Value>,
    patience: Duration,
    asked: HashMap<String, RequestId>,
}

impl Protocol for SocketIo {
    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        Ok(()) // the server speaks first
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let text = message.as_text().unwrap_or_default();
        match text.as_bytes() {
            [b'0', hello @ ..] => {
                self.patience = patience(hello);
                cx.set_timer(0, self.patience);
                cx.send(format!("40{}", Value::Object(self.auth.clone())));
            }
            b"2" => {
                cx.set_timer(0, self.patience);
                cx.send("3");
            }
            [b'4', b'0', welcome @ ..] => match self.auth.insert("pid".into(), member(welcome, "pid")) {
                Some(Value::String(last)) if self.auth["pid"] == last => cx.resumed(),
                _ => cx.ready(),
            },
            [b'4', b'2', event @ ..] => {
                self.auth.extend(offset(event).map(|offset| ("offset".into(), offset)));
                cx.deliver(&text[2..]);
            }
            [b'4', b'3', ..] => {
                let (number, answer) = numbered(&text[2..]);
                let Some(request) = self.asked.remove(number) else { return Ok(()) };
                cx.answer(request, answer);
            }
            [b'4', b'4', why @ ..] => cx.stop(Error::login_refused(member(why, "message").to_string())),
            b"41" => cx.stop(Error::session("the server has ended it")),
            _ => return Err(Error::session("a packet that is not spoken here, such as a binary one")),
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        let number = outgoing.request.map(|_| outgoing.ticket.number().to_string());
        let text = outgoing.message.as_text().unwrap_or_default();
        match (packet(text, number.as_deref()), outgoing.request) {
            (Some(packet), request) => {
                cx.send(Message::from(packet).compress(outgoing.message.may_be_compressed()));
                self.asked.extend(number.zip(request));
            }
            // The server would end the connection over it. So would an error here, now and again after the reconnect.
            (None, Some(request)) => cx.fail_request(request, Error::invalid_message("it is no event")),
            (None, None) => log::error!("{} is not sent: neither event nor answer", outgoing.ticket),
        }
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        cx.set_timer(id, self.patience); // wait once more, if reading was paused meanwhile
        let silence = Error::session(format!("no ping from the server for {:?}", self.patience));
        if cx.missed_input() { Ok(()) } else { Err(silence) }
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        self.asked.clear();
        if matches!(down.reason, ClosedByServer(_)) { Retry::Backoff } else { down.default_retry() }
    }
}

/// What the application says, as the server wants it; `None` if it is neither an event nor an answer. `number` is that of
/// a request.
fn packet(text: &str, number: Option<&str>) -> Option<String> {
    let (asked, array) = numbered(text);
    let array: Vec<Value> = serde_json::from_str(array).ok()?;
    let is_answer = !asked.is_empty() && asked.bytes().all(|byte| byte.is_ascii_digit());
    match array.first() {
        Some(Value::String(_)) if asked.is_empty() => Some(format!("42{}{text}", number.unwrap_or_default())),
        _ => (is_answer && number.is_none()).then(|| format!("43{text}")),
    }
}

fn member(object: &[u8], name: &str) -> Value {
    serde_json::from_slice(object).map_or(Value::Null, |object: Value| object[name].clone())
}

fn patience(hello: &[u8]) -> Duration {
    let told = ["pingInterval", "pingTimeout"].map(|name| member(hello, name).as_u64().unwrap_or(20_000));
    Duration::from_millis(told[0].saturating_add(told[1]))
}

fn offset(event: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Vec<Value>>(event).ok()?.pop().filter(Value::is_string)
}

fn numbered(text: &str) -> (&str, &str) {
    text.split_at(text.find('[').unwrap_or_default())
}
