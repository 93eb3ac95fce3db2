//! STOMP 1.2 over WebSocket: receipts that say that the broker has a message, heart-beats that both sides agree on, and
//! frames that don't match WebSocket messages.
//!
//! ```sh
//! cargo run --example stomp -- ws://127.0.0.1:15674/ws --login guest:guest --send '/queue/a some text'
//! cargo run --example stomp -- ws://127.0.0.1:15674/ws --login guest:guest --sub /queue/a --count 3
//! ```
//!
//! A message that the broker has given no receipt for is sent again on the next connection. If the broker answers it with an
//! ERROR that names it, it is not. If the ERROR does not, the message is given up after three connections, and with it those
//! that were sent right behind it each time; the client names them all. A message that arrives is acknowledged.
//!
//! `--beat SECONDS` is 10 by default, 0 for none; `--host` is `/`, and `--count` is 1.

mod frames;

use std::{collections::HashMap, error::Error as StdError, time::Duration};

use frames::{Frame, cut, frame, message};
use tautline::{
    Beat, Client, Confirmation, ConnectionConfig, Context, Delivery, Error, Handshake, HeartbeatConfig,
    Message, Outgoing, Protocol, ReconnectConfig, RequestId, Ticket,
};

/// The receipt for the last subscription.
const SUBSCRIBED: &str = "subscribed";
/// The timer that runs while the broker is silent.
const SILENCE: u32 = 1;

/// The application sends and receives `destination text`. A request is answered, with nothing, by the broker's receipt.
#[derive(Default)]
pub(crate) struct Stomp {
    /// The value of the header `host`: with some brokers the virtual host, with others the host of the URL.
    pub(crate) host: String,
    /// `name:passcode`.
    pub(crate) login: Option<String>,
    /// How often the client can send heart-beats, and wants some.
    pub(crate) beat: Duration,
    /// The destinations to subscribe to on each connection.
    pub(crate) subscriptions: Vec<String>,
    inbox: Vec<u8>,
    /// The broker sends something more often than this.
    patience: Option<Duration>,
    /// What was sent on this connection and has no receipt yet.
    sent: HashMap<String, (Ticket, Option<RequestId>)>,
    /// What the broker has named in an ERROR, and that would end the next connection, too.
    refused: Vec<Ticket>,
}

impl Protocol for Stomp {
    fn check(&mut self) -> Result<(), Error> {
        self.connect().and_then(|_| self.subscribe()).map(drop)
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        (self.inbox, self.patience, self.sent) = Default::default(); // they belonged to the last connection
        self.credentials().into_iter().for_each(|(_, passcode)| cx.secret(passcode));
        cx.send(self.connect()?);
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        self.patience.into_iter().for_each(|patience| cx.set_timer(SILENCE, patience));
        for Frame { command, headers, body } in cut(&mut self.inbox, message.as_bytes())? {
            let header = |name| headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
            match &*command {
                "CONNECTED" => self.connected(cx, header("heart-beat"))?,
                "MESSAGE" => {
                    cx.deliver(format!("{} {body}", header("destination")));
                    cx.send(frame("ACK", &[("id", header("ack"))], "")?);
                }
                "RECEIPT" if header("receipt-id") == SUBSCRIBED => cx.ready(),
                "RECEIPT" => {
                    if let Some((ticket, request)) = self.sent.remove(header("receipt-id")) {
                        cx.acknowledge(ticket);
                        if let Some(request) = request {
                            cx.answer(request, "");
                        }
                    }
                }
                "ERROR" => {
                    let why = format!("{}: {}", header("message"), body.trim());
                    match self.sent.remove(header("receipt-id")) {
                        Some((_, Some(request))) => cx.fail_request(request, Error::answer(why.as_str())),
                        Some((ticket, None)) => self.refused.push(ticket),
                        None => {} // it says not which
                    }
                    return Err(if cx.is_ready() { Error::session(why) } else { Error::login_refused(why) });
                }
                _ => return Err(Error::session(format!("nobody expects a frame {command:?}"))),
            }
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        if let Some(at) = self.refused.iter().position(|ticket| *ticket == outgoing.ticket) {
            self.refused.remove(at);
            return Ok(()); // what is not sent again is named as undelivered
        }
        let id = outgoing.ticket.number().to_string();
        let Some(frame) = outgoing.message.as_text().and_then(|line| message(line, &id)) else {
            let why = "it is not destination, space and text";
            match outgoing.request {
                Some(request) => cx.fail_request(request, Error::invalid_message(why)),
                None => log::error!("{} is not sent: {why}", outgoing.ticket),
            }
            return Ok(()); // an error would end the connection, now and again after the reconnect
        };
        self.sent.insert(id, (outgoing.ticket, outgoing.request));
        cx.send(frame);
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("\n");
        cx.beat_answered(); // no heart-beat has an answer: the timer judges the broker
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        let patience = self.patience.unwrap_or_default();
        cx.set_timer(id, patience); // wait once more, if reading was paused meanwhile
        let silence = Error::session(format!("nothing from the broker for {patience:?}"));
        if cx.missed_input() { Ok(()) } else { Err(silence) }
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send(frame("DISCONNECT", &[("receipt", "goodbye")], "")?);
        Ok(())
    }
}

impl Stomp {
    fn credentials(&self) -> Option<(&str, &str)> {
        self.login.as_deref()?.split_once(':')
    }

    fn connect(&self) -> Result<String, Error> {
        let beat = self.beat.as_millis();
        let beat = format!("{beat},{beat}");
        let mut headers = vec![("accept-version", "1.2"), ("host", &*self.host), ("heart-beat", &*beat)];
        if let Some((name, passcode)) = self.credentials() {
            headers.extend([("login", name), ("passcode", passcode)]);
        }
        frame("CONNECT", &headers, "")
    }

    fn subscribe(&self) -> Result<Vec<String>, Error> {
        let last = self.subscriptions.len().saturating_sub(1);
        let one = |(n, destination): (usize, &String)| {
            let id = n.to_string();
            let mut headers = vec![("id", &*id), ("destination", destination), ("ack", "client-individual")];
            headers.extend((n == last).then_some(("receipt", SUBSCRIBED)));
            frame("SUBSCRIBE", &headers, "")
        };
        self.subscriptions.iter().enumerate().map(one).collect()
    }

    /// `beats`: how often the broker can send heart-beats, and how often it wants some, in milliseconds; 0 for never. Each
    /// direction has the larger number of what one side can and the other wants.
    fn connected(&mut self, cx: &mut Context<'_>, beats: &str) -> Result<(), Error> {
        let (theirs, ours) = beats.split_once(',').unwrap_or_default();
        let agreed = |number: &str| {
            let told = Duration::from_millis(number.trim().parse().unwrap_or(0));
            (!told.is_zero() && !self.beat.is_zero()).then(|| told.max(self.beat))
        };
        match agreed(ours) {
            Some(interval) => cx.set_beats(interval, interval),
            None => cx.stop_beats(),
        }
        self.patience = agreed(theirs).map(|interval| interval.saturating_mul(2));
        self.patience.into_iter().for_each(|patience| cx.set_timer(SILENCE, patience));
        self.subscribe()?.into_iter().for_each(|frame| cx.send(frame));
        if self.subscriptions.is_empty() {
            cx.ready();
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn StdError>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let option = |name| args.iter().skip_while(|arg| *arg != name).nth(1).map(String::as_str);
    let url = args.first().ok_or("usage: stomp URL [--sub DESTINATION] [--send 'DESTINATION TEXT'] …")?;
    let count: usize = option("--count").unwrap_or("1").parse()?;
    let session = Stomp {
        host: option("--host").unwrap_or("/").to_owned(),
        login: option("--login").map(str::to_owned),
        beat: Duration::from_secs(option("--beat").unwrap_or("10").parse()?),
        subscriptions: option("--sub").map(str::to_owned).into_iter().collect(),
        ..Stomp::default()
    };
    let config = ConnectionConfig::new(url)
        .subprotocol("v12.stomp")
        .heartbeat(HeartbeatConfig::default().beat(Beat::Protocol))
        .delivery(Delivery::AtLeastOnce)
        .confirmation(Confirmation::Acknowledgement)
        .reconnect(ReconnectConfig::default().initial_delay(Duration::from_millis(200)));
    let client = Client::builder(config).protocol(session).connect().map_err(|error| error.to_string())?;
    if let Some(line) = option("--send") {
        let ticket = client.send(line)?;
        client.confirm(ticket, Duration::from_secs(5))?;
        println!("the broker has it");
    }
    for message in client.messages().take(if option("--sub").is_some() { count } else { 0 }) {
        println!("message: {message}");
    }
    let _ = client.close();
    Ok(client.wait_closed().into_result().map_err(|error| error.to_string())?)
}
