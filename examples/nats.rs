//! NATS over WebSocket: the server sends first, both sides ping, operations don't match WebSocket messages, replies arrive
//! at an inbox, and a server names the others of its cluster.
//!
//! ```sh
//! cargo run --example nats -- ws://127.0.0.1:8080,ws://127.0.0.1:8081 --sub 'sensors.>' --count 3 --reply pong
//! cargo run --example nats -- ws://127.0.0.1:8080 --pub 'sensors.1 21.5' --token SECRET
//! cargo run --example nats -- ws://127.0.0.1:8080 --request 'sensors.1 ping'
//! ```
//!
//! The first argument is a list of servers. When one is lost, the next one follows, also one that the cluster has named. The
//! protocol remembers the subscriptions, and subscribes again on each connection. `--ping SECONDS` is 30 by default, and
//! `--count` is 1. `--reply TEXT` answers the messages that are requests. The log shows what happens to the line.

use std::{collections::HashMap, error::Error as StdError, time::Duration};

use tautline::{
    Beat, Client, ConnectionConfig, Context, Error, Handshake, HeartbeatConfig, Message, Outgoing, Protocol,
    ReconnectConfig, RequestId,
};

/// The application sends `SUB subject` and `PUB subject text`. It receives `subject reply text`, where `reply` is `-` if no
/// reply is expected, and the server's other messages: errors, other servers, its shutdown. A `PUB` that is a request is
/// answered by the message that arrives at its inbox.
#[derive(Default)]
pub(crate) struct Nats {
    pub(crate) servers: Vec<String>,
    login: String,
    bytes: Vec<u8>,
    inbox: String,
    subjects: Vec<String>,
    open: HashMap<String, RequestId>,
}

impl Protocol for Nats {
    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        (self.bytes, self.open) = Default::default(); // they belonged to the last connection
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        for (line, text) in cut(&mut self.bytes, message.as_bytes())? {
            if let Some(servers) = line.strip_prefix("INFO ").and_then(|info| cluster(&self.servers, info)) {
                cx.set_servers(servers);
            }
            match &line.split_whitespace().collect::<Vec<_>>()[..] {
                ["INFO", ..] if !cx.is_ready() => cx.send(self.login.as_bytes()),
                ["-ERR", ..] if !cx.is_ready() => return Err(Error::login_refused(&line[5..])),
                ["PING"] => cx.send(b"PONG\r\n"),
                ["PONG"] if cx.is_ready() => cx.beat_answered(),
                ["PONG"] => {
                    let again = |(id, subject)| operation(&format!("SUB {subject}"), id, "");
                    cx.send(
                        self.subjects.iter().enumerate().filter_map(again).flatten().collect::<Vec<u8>>(),
                    );
                    cx.ready();
                }
                ["MSG", subject, _, rest @ ..] => match (self.open.remove(*subject), rest) {
                    (Some(request), _) => cx.answer(request, text),
                    (None, [reply, _]) => cx.deliver(format!("{subject} {reply} {text}")),
                    (None, _) => cx.deliver(format!("{subject} - {text}")),
                },
                _ => cx.deliver(line),
            }
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        let reply = outgoing.request.map(|_| format!("{}.{}", self.inbox, outgoing.ticket.number()));
        let line = outgoing.message.as_text().unwrap_or_default();
        let Some(operation) = operation(line, self.subjects.len(), reply.as_deref().unwrap_or_default())
        else {
            refuse(cx, &outgoing, "it is neither SUB subject nor PUB subject text");
            return Ok(());
        };
        self.subjects.extend(line.strip_prefix("SUB ").map(str::to_owned));
        self.open.retain(|_, request| cx.is_waiting(*request)); // some have timed out
        self.open.extend(reply.zip(outgoing.request));
        cx.send(operation);
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send(b"PING\r\n");
        Ok(())
    }
}

/// The given servers, and those that the server knows of.
pub(crate) fn cluster(given: &[String], info: &str) -> Option<Vec<String>> {
    let info: serde_json::Value = serde_json::from_str(info).ok()?;
    let (scheme, _) = given.first()?.split_once("://")?;
    let others = info["connect_urls"].as_array()?.iter().filter_map(|host| host.as_str());
    Some(given.iter().cloned().chain(others.map(|host| format!("{scheme}://{host}"))).collect())
}

/// What the application says, as the server wants it. `None` for what would end the connection, and for a subscription
/// that would end each that follows.
fn operation(line: &str, id: usize, reply: &str) -> Option<Vec<u8>> {
    let (verb, line) = line.split_once(' ')?;
    let (subject, text) = if verb == "PUB" { line.split_once(' ')? } else { (line, "") };
    let wrong =
        |token: &str| token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control());
    match verb {
        _ if subject.split('.').any(wrong) => None,
        "PUB" => Some(format!("PUB {subject} {reply} {}\r\n{text}\r\n", text.len()).into_bytes()),
        "SUB" => Some(format!("SUB {subject} {id}\r\n").into_bytes()),
        _ => None,
    }
}

/// Refuses the message by sending nothing. An error would end the connection, now and again after the reconnect.
fn refuse(cx: &mut Context<'_>, outgoing: &Outgoing, why: &str) {
    match outgoing.request {
        Some(request) => cx.fail_request(request, Error::invalid_message(why)),
        None => log::error!("{} is not sent: {why}", outgoing.ticket),
    }
}

/// Adds what came to `inbox`, and takes the operations out that are whole now: their lines, and what follows a `MSG`.
pub(crate) fn cut(inbox: &mut Vec<u8>, bytes: &[u8]) -> Result<Vec<(String, String)>, Error> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    inbox.extend(bytes);
    let (mut operations, mut rest) = (Vec::new(), &inbox[..]);
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let (line, behind) = (text(&rest[..end]), &rest[end + 2..]);
        let size = line.strip_prefix("MSG ").and_then(|line| line.rsplit(' ').next()?.parse().ok());
        let Some((said, _)) = behind.split_at_checked(size.unwrap_or(0)) else { break };
        let Some(behind) = behind.get(size.map_or(0, |size: usize| size.saturating_add(2))..) else { break };
        operations.push((line, text(said)));
        rest = behind;
    }
    *inbox = rest.to_vec();
    if inbox.len() > 2 << 20 { Err(Error::session("an operation that never ends")) } else { Ok(operations) }
}

fn main() -> Result<(), Box<dyn StdError>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name| args.iter().skip_while(|arg| *arg != name).nth(1).map(String::as_str);
    let urls =
        args.first().ok_or("usage: nats URL,… [--sub SUBJECT | --pub 'SUBJECT TEXT' | --request …]")?;
    let servers: Vec<String> = urls.split(',').map(str::to_owned).collect();
    let count: usize = option("--count").unwrap_or("1").parse()?;
    let ping = Duration::from_secs(option("--ping").unwrap_or("30").parse()?);
    let inbox = format!("_INBOX.{:x}", fastrand::u64(..));
    let subjects = vec![format!("{inbox}.*")];
    let user = serde_json::json!({"verbose": false, "protocol": 1, "auth_token": option("--token")});
    let login = format!("CONNECT {user}\r\nPING\r\n");
    let session = Nats { servers: servers.clone(), login, inbox, subjects, ..Nats::default() };
    // The connection ends after two heartbeats during which nothing arrives.
    let beat = HeartbeatConfig::default().beat(Beat::Protocol).interval(ping).timeout(ping * 2);
    let delay = ReconnectConfig::default().initial_delay(Duration::from_millis(200));
    let config = ConnectionConfig::from(servers).heartbeat(beat).reconnect(delay);
    let client = Client::builder(config).protocol(session).connect().map_err(|error| error.to_string())?;
    if let Some(line) = option("--request") {
        println!("answer: {}", client.request(format!("PUB {line}"), Duration::from_secs(5))?);
    } else if let Some(line) = option("--pub") {
        client.send(format!("PUB {line}"))?;
    } else {
        client.send(format!("SUB {}", option("--sub").unwrap_or(">")))?;
    }
    let listens = option("--request").or(option("--pub")).is_none();
    for message in client.messages().take(if listens { count } else { 0 }) {
        println!("message: {message}");
        let reply = message.as_text().and_then(|text| text.split(' ').nth(1)).unwrap_or("-");
        if let Some(text) = option("--reply").filter(|_| reply != "-") {
            client.send(format!("PUB {reply} {text}"))?;
        }
    }
    let _ = client.close();
    Ok(client.wait_closed().into_result().map_err(|error| error.to_string())?)
}
