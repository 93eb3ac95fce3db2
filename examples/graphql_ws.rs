//! GraphQL subscriptions over `graphql-transport-ws`: a subprotocol that both sides must agree on, requests with many
//! answers under ids that the protocol chooses, and close codes that say whether to reconnect.
//!
//! ```sh
//! cargo run --example graphql_ws -- ws://127.0.0.1:4000/graphql secret 'subscription { ticks }' 10
//! ```
//!
//! The program logs in with the token, subscribes, and shows the results. It subscribes again after each loss, because this
//! protocol can't resume. It ends after 10 results, or with the subscription.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::time::Duration;

use serde_json::{Value, json};
use tautline::DisconnectReason::ClosedByServer;
use tautline::{Beat, Client, ConnectionConfig, Context, Error, Handshake, Loss};
use tautline::{HeartbeatConfig, Message, Outgoing, Protocol, RequestId, Retry};

const SUBPROTOCOL: &str = "graphql-transport-ws";

/// The close codes after which another attempt would end the same way.
const FATAL: [u16; 8] = [4004, 4005, 4400, 4401, 4406, 4409, 4429, 4500];

/// Short, for the demonstration. The default of 30 s suits real use.
const BEAT: Duration = Duration::from_secs(1);

fn main() -> Result<(), String> {
    env_logger::init();
    run().map_err(|error| error.to_string())
}

fn run() -> Result<(), Box<dyn StdError>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [url, token, query, count] = &*arguments else {
        return Err("usage: graphql_ws URL TOKEN QUERY COUNT".into());
    };
    let mut left: u32 = count.parse()?;
    let config = ConnectionConfig::new(url).subprotocol(SUBPROTOCOL).require_subprotocol(true).heartbeat(
        HeartbeatConfig::default().interval(BEAT).timeout(2 * BEAT).beat(Beat::Protocol).strict(true),
    );
    let session = GraphQl { login: json!({"token": token}), open: HashMap::new() };
    let client = Client::builder(config).protocol(session).connect()?;
    'ask: while left > 0 {
        println!("subscribing");
        // Waits for the reconnect, if the line is lost.
        let Ok(results) = client.request_many(json!({"query": query}), Duration::from_secs(60)) else {
            break;
        };
        for result in results {
            match result {
                Ok(result) => println!("result: {result}"),
                Err(error @ Error::Answer { .. }) => return Err(error.into()), // the server's error for the query
                Err(error) => {
                    println!("lost: {error}");
                    continue 'ask;
                }
            }
            left -= 1;
            if left == 0 {
                break 'ask; // dropping the answers withdraws the request
            }
        }
        println!("the subscription is complete");
        break;
    }
    let _ = client.close();
    Ok(client.wait_closed().into_result()?)
}

/// The application's requests are payloads of a `subscribe`. A message that is not a request is refused, because its
/// answers could not be paired.
#[derive(Default)]
pub(crate) struct GraphQl {
    login: Value,
    open: HashMap<String, RequestId>,
}

impl Protocol for GraphQl {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.send(json!({"type": "connection_init", "payload": self.login}));
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let value: Value = message.json()?;
        let id = value["id"].as_str().unwrap_or_default();
        match (value["type"].as_str(), self.open.get(id).copied()) {
            (Some("connection_ack"), _) => cx.ready(),
            (Some("ping"), _) => cx.send(json!({"type": "pong"})),
            (Some("pong"), _) => cx.beat_answered(),
            (Some("next"), Some(request)) => cx.answer_part(request, value["payload"].clone()),
            (Some("error"), Some(request)) => {
                cx.fail_request(request, Error::answer(value["payload"].to_string()));
            }
            (Some("complete"), Some(request)) => cx.end_request(request),
            _ => {} // belongs to a request that was withdrawn
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        let Some(request) = outgoing.request else {
            log::error!("{} is not sent: it is no request", outgoing.ticket);
            return Ok(());
        };
        let (id, payload) = (outgoing.ticket.number(), outgoing.message);
        let compress = payload.may_be_compressed();
        // The server would end the connection over it. So would an error here.
        let Ok(Value::Object(payload)) = payload.json() else {
            cx.fail_request(request, Error::invalid_message("it is no JSON object"));
            return Ok(());
        };
        self.open.retain(|_, request| cx.is_waiting(*request));
        self.open.insert(id.to_string(), request);
        let subscribe = json!({"id": id.to_string(), "type": "subscribe", "payload": payload});
        cx.send(Message::from(subscribe).compress(compress));
        Ok(())
    }

    fn on_withdrawn(&mut self, cx: &mut Context<'_>, request: RequestId) -> Result<(), Error> {
        for (id, _) in self.open.extract_if(|_, open| *open == request) {
            cx.send(json!({"id": id, "type": "complete"}));
        }
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send(json!({"type": "ping"}));
        Ok(())
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        self.open.clear();
        let fatal = matches!(down.reason, ClosedByServer(frame) if FATAL.contains(&frame.code));
        if fatal { Retry::Never } else { down.default_retry() }
    }
}
