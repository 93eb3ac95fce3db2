//! MQTT 3.1.1 over WebSocket: packets don't match WebSocket messages, a keepalive is due when nothing was *sent*, requests
//! have 16-bit ids, sessions are resumed, and without a DISCONNECT the server publishes the client's will.
//!
//! ```sh
//! cargo run --example mqtt -- ws://127.0.0.1:9001 --id me --sub 'sensors/#' --count 3
//! cargo run --example mqtt -- ws://127.0.0.1:9001 --pub 'sensors/1 21.5' --login NAME:PASSWORD
//! ```
//!
//! With an `--id`, the server keeps the session while the line is down, and publishes `lost` to `gone/ID` when the line is
//! lost. Without one, the program subscribes again. `--keepalive SECONDS` is 60 by default, and `--count` is 1.
//!
//! Messages are published with quality of service 1: the server's PUBACK acknowledges each, and one without it is sent again.

mod packets;

use std::{collections::HashMap, error::Error as StdError, num::NonZeroU16, time::Duration};

use packets::{connect, cut, outgoing, packet, published};
use tautline::{
    Beat, Client, Confirmation, ConnectionConfig, Context, Delivery, Error, Event, Handshake,
    HeartbeatConfig, Message, Outgoing, Protocol, ReconnectConfig, RequestId, Ticket,
};

/// The application sends `SUB filter` and `PUB topic text`, and receives `topic text`. A request is answered by the server's
/// acknowledgement.
#[derive(Default)]
pub(crate) struct Mqtt {
    connect: Vec<u8>,
    keepalive: Duration,
    inbox: Vec<u8>,
    open: HashMap<u16, RequestId>,
    /// What was sent and not acknowledged, on this connection or one before.
    sent: HashMap<u16, Ticket>,
}

impl Protocol for Mqtt {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        (self.inbox, self.open) = Default::default(); // they belonged to the last connection
        send(cx, self.keepalive, self.connect.clone());
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        for (head, body) in cut(&mut self.inbox, message.as_bytes())? {
            match (head & 0xF0, &body[..]) {
                (0x20, [0, 0]) => cx.ready(), // CONNACK
                (0x20, [1, 0]) => cx.resumed(),
                (0x20, [_, 3]) => return Err(Error::session("the server is unavailable for now")),
                (0x20, [_, code]) => cx.stop(Error::login_refused(format!("CONNACK with code {code}"))),
                (0x30, _) => {
                    let (line, ack) = published(head, &body).ok_or(Error::session("a broken PUBLISH"))?;
                    cx.deliver(line);
                    send(cx, self.keepalive, ack);
                }
                (0x40 | 0x90, /* PUBACK, SUBACK */ [high, low, codes @ ..]) => {
                    let id = u16::from_be_bytes([*high, *low]);
                    self.sent.remove(&id).into_iter().for_each(|ticket| cx.acknowledge(ticket));
                    self.open.remove(&id).into_iter().for_each(|request| cx.answer(request, codes));
                }
                (0xD0, _) => cx.beat_answered(), // PINGRESP
                _ => return Err(Error::session(format!("nobody expects a packet {head:#x}"))),
            }
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, message: Outgoing) -> Result<(), Error> {
        let id = (message.ticket.number() % 0xFFFF) as u16 + 1;
        let again = self.sent.get(&id) == Some(&message.ticket);
        let Some(packet) = outgoing(&message, id, again) else {
            refuse(cx, &message, "it is neither SUB filter nor PUB topic text, or too long");
            return Ok(());
        };
        self.open.retain(|_, request| cx.is_waiting(*request)); // some have timed out
        self.open.extend(message.request.map(|request| (id, request)));
        self.sent.insert(id, message.ticket);
        send(cx, self.keepalive, packet);
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send(packet(0xC0, &[])); // PINGREQ
        Ok(())
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send(packet(0xE0, &[])); // DISCONNECT
        Ok(())
    }
}

/// Refuses the message by sending nothing. An error would end the connection, now and again after the reconnect.
fn refuse(cx: &mut Context<'_>, outgoing: &Outgoing, why: &str) {
    match outgoing.request {
        Some(request) => cx.fail_request(request, Error::invalid_message(why)),
        None => log::error!("{} is not sent: {why}", outgoing.ticket),
    }
}

/// Every packet sent delays the next PINGREQ.
fn send(cx: &mut Context<'_>, keepalive: Duration, packet: impl Into<Option<Vec<u8>>>) {
    if let Some(packet) = packet.into() {
        cx.send(packet);
        cx.set_beats(keepalive, keepalive);
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    env_logger::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name| args.iter().skip_while(|arg| *arg != name).nth(1).map(String::as_str);
    let url = args.first().ok_or("usage: mqtt URL [--sub FILTER] [--pub 'TOPIC TEXT'] [--id ID] …")?;
    let mut left: u32 = option("--count").unwrap_or("1").parse()?;
    let seconds: NonZeroU16 = option("--keepalive").unwrap_or("60").parse()?;
    let connect = connect(option("--id").unwrap_or_default(), option("--login"), seconds.get());
    let connect = connect.ok_or("--id or --login is too long, or has a NUL in it")?;
    let keepalive = Duration::from_secs(seconds.get().into());
    let session = Mqtt { connect, keepalive, ..Mqtt::default() };
    let heartbeat = HeartbeatConfig::default().interval(keepalive).timeout(keepalive).beat(Beat::Protocol);
    let config = ConnectionConfig::new(url).subprotocol("mqtt").heartbeat(heartbeat);
    let config = config.delivery(Delivery::AtLeastOnce).confirmation(Confirmation::Acknowledgement);
    let config = config.reconnect(ReconnectConfig::default().initial_delay(Duration::from_millis(200)));
    let client = Client::builder(config).protocol(session).connect().map_err(|error| error.to_string())?;
    if let Some(line) = option("--pub") {
        let ticket = client.send(format!("PUB {line}"))?;
        client.confirm(ticket, Duration::from_secs(5))?;
        println!("published");
        left = 0;
    }
    let (mut subscribed, filter) = (false, option("--sub").unwrap_or("#"));
    while left > 0
        && let Ok(event) = client.events().recv()
    {
        match event {
            Event::Connected { resumed, .. } => {
                println!("connected, resumed: {resumed}");
                if !(subscribed && resumed) {
                    let answer = client.request(format!("SUB {filter}"), Duration::from_secs(5));
                    println!("subscribed to {filter}: {answer:?}"); // the code 0x80 means failure
                    subscribed = answer.is_ok();
                }
            }
            Event::Disconnected { reason, .. } => println!("lost: {reason}"),
            Event::Message(message) => {
                println!("message: {message}");
                left -= 1;
            }
            _ => {}
        }
    }
    let _ = client.close();
    Ok(client.wait_closed().into_result().map_err(|error| error.to_string())?)
}
