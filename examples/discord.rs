//! A session of Discord's gateway, version 10. The server sets the heartbeat interval. A heartbeat that is not acknowledged
//! ends the connection, and the session is resumed on another one, at a URL that the server gave.
//!
//! ```sh
//! cargo run --example discord -- wss://gateway.discord.gg TOKEN [COUNT]     # shows COUNT events; 10 by default
//! ```

use std::time::Duration;

use serde_json::{Value, json};
use tautline::{
    Attempt, Client, ConnectionConfig, Context, DisconnectReason, Error, Event, Handshake, HeartbeatConfig,
    Loss, Message, Outgoing, Protocol, Retry, UpgradeRequest,
};

/// The server accepts 120 messages in any 60 s. This interval leaves room for the protocol's own.
const PACE: Duration = Duration::from_millis(550);

/// The application receives the server's events, and sends payloads such as `{"op": 3, "d": {…}}`.
#[derive(Default)]
pub(crate) struct Discord {
    token: String,
    session: Option<Value>, // the READY event's data
    seen: Option<u64>,      // the sequence number of the last event
    interval: Duration,
    unanswered: bool,
}

impl Protocol for Discord {
    fn prepare(&mut self, _: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        let there = self.session.as_ref().and_then(|session| session["resume_gateway_url"].as_str());
        request.url = format!("{}/?v=10&encoding=json", there.unwrap_or(&request.url));
        Ok(())
    }

    fn on_open(&mut self, _: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        Ok(()) // the server speaks first
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let payload: Value = message.json()?;
        self.seen = payload["s"].as_u64().or(self.seen);
        match (payload["op"].as_u64(), payload["t"].as_str()) {
            (Some(0), Some("READY")) => {
                self.session = Some(payload["d"].clone());
                cx.ready();
            }
            (Some(0), Some("RESUMED")) => cx.resumed(),
            (Some(0), _) => cx.deliver(message),
            (Some(1), _) => cx.send(json!({"op": 1, "d": self.seen})),
            (Some(7 | 9), _) => {
                self.session = self.session.take().filter(|_| payload["d"] != false);
                cx.close(4000, "coming back"); // 1000 would end the session
            }
            (Some(10), _) => {
                (self.interval, self.unanswered) = (interval(&payload), false);
                first_beat(cx, self.interval);
                cx.send(login(&self.token, self.session.as_ref(), self.seen));
            }
            (Some(11), _) => self.unanswered = false,
            _ => {}
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        let is_payload = |payload: Value| payload["op"].is_u64();
        if outgoing.message.as_text().is_none() || !outgoing.message.json().is_ok_and(is_payload) {
            match outgoing.request {
                Some(request) => cx.fail_request(request, Error::invalid_message("it is no payload")),
                None => log::error!("{} is not sent: it is no payload", outgoing.ticket),
            }
            return Ok(()); // an error would end the connection, now and again after the reconnect
        }
        cx.send(outgoing.message);
        cx.hold(PACE);
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: u32) -> Result<(), Error> {
        if std::mem::replace(&mut self.unanswered, true) && !cx.missed_input() {
            cx.close(4000, "a beat was not acknowledged"); // nothing is sent after it
        }
        cx.send(json!({"op": 1, "d": self.seen}));
        cx.set_timer(0, self.interval);
        Ok(())
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        let DisconnectReason::ClosedByServer(frame) = down.reason else { return down.default_retry() };
        self.session = self.session.take().filter(|_| !matches!(frame.code, 1000 | 1001 | 4007 | 4009));
        if matches!(frame.code, 4004 | 4010..=4014) { Retry::Never } else { Retry::Backoff }
    }
}

pub(crate) fn session(token: String) -> Discord {
    Discord { token, ..Discord::default() }
}

fn interval(hello: &Value) -> Duration {
    Duration::from_millis(hello["d"]["heartbeat_interval"].as_u64().unwrap_or(41_250))
}

/// The first heartbeat is sent at a random time, so that clients that reconnect together don't send theirs together.
fn first_beat(cx: &mut Context<'_>, interval: Duration) {
    let share = cx.random();
    cx.set_timer(0, interval.mul_f64(share));
}

/// Resumes the session, or starts a new one.
fn login(token: &str, session: Option<&Value>, seen: Option<u64>) -> Value {
    if let Some(session) = session {
        return json!({"op": 6, "d": {"token": token, "session_id": session["session_id"], "seq": seen}});
    }
    let us = json!({"os": std::env::consts::OS, "browser": "tautline", "device": "tautline"});
    json!({"op": 2, "d": {"token": token, "intents": 513, "properties": us}})
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init();
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(token)) = (args.next(), args.next()) else {
        return Err("usage: discord URL TOKEN [COUNT]".into());
    };
    let mut left: u32 = args.next().as_deref().unwrap_or("10").parse()?;
    // The session has its own heartbeats. The default first delay of 1 s to 3 s is what the server asks for.
    let config = ConnectionConfig::new(url).heartbeat(HeartbeatConfig::off());
    let client =
        Client::builder(config).protocol(session(token)).connect().map_err(|error| error.to_string())?;
    while left > 0
        && let Ok(event) = client.events().recv()
    {
        match event {
            Event::Connected { resumed, .. } => println!("ready, resumed: {resumed}"),
            Event::Disconnected { reason, retry_in, .. } => {
                println!("line lost: {reason}; next try in {retry_in:?}");
            }
            Event::Message(message) => {
                let payload: Value = message.json()?;
                println!("{}: {}", payload["t"].as_str().unwrap_or("?"), payload["d"]);
                left -= 1;
            }
            _ => {}
        }
    }
    let _ = client.close();
    Ok(client.wait_closed().into_result().map_err(|error| error.to_string())?)
}
