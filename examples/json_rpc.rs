//! JSON-RPC: numbered calls, notifications, subscriptions to them, and a URL that is fetched for each attempt. The server
//! is Node's inspector, whose protocol is a variant of JSON-RPC:
//!
//! ```sh
//! node --inspect server.js
//! cargo run --example json_rpc -- ws://127.0.0.1:9229 Runtime.evaluate '{"expression": "process.version"}' 10
//! ```
//!
//! The program shows the answer to that call, and then what the Node program prints, even after a restart of it. It ends
//! after 10 lines.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tautline::{Beat, Client, ConnectionConfig, Context, Error, Handshake, HeartbeatConfig, Loss};
use tautline::{Message, Outgoing, Protocol, RequestId, Retry, UpgradeRequest};

/// The interval and the timeout of the heartbeat.
const SOON: Duration = Duration::from_secs(3);

fn main() -> Result<(), String> {
    env_logger::init();
    run().map_err(|error| error.to_string())
}

fn run() -> Result<(), Box<dyn StdError>> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [url, method, params, count] = &*args else { return Err("usage: URL METHOD PARAMS COUNT".into()) };
    let mut left: u32 = count.parse()?;
    let beats = HeartbeatConfig::default().interval(SOON).timeout(SOON).beat(Beat::Protocol).strict(true);
    let config = ConnectionConfig::new(url).heartbeat(beats); // WebSocket pings would end this connection
    let client = Client::builder(config).fetch(look_up).protocol(JsonRpc::default()).connect()?;
    let params: Value = serde_json::from_str(params)?;
    println!("result: {}", client.request(json!({"method": method, "params": params}), SOON)?);
    while left > 0 {
        let subscription = ["Runtime.consoleAPICalled", "Runtime.disable"];
        let enable = json!({"method": "Runtime.enable", "subscription": subscription});
        for line in client.request_many(enable, SOON)? {
            match line {
                Ok(line) => {
                    println!("console: {}", line.json::<Value>()?["args"]);
                    left -= 1;
                }
                Err(Error::Timeout { .. }) => {} // the program has printed nothing
                Err(error @ Error::Answer { .. }) => return Err(error.into()), // the inspector answered with an error
                Err(lost) => println!("lost: {lost}"),
            }
            if left == 0 {
                break;
            }
        }
    }
    let _ = client.close();
    Ok(())
}

/// Fetches the URL of the current program over plain HTTP.
fn look_up(mut request: UpgradeRequest) -> Result<UpgradeRequest, Error> {
    let host = request.url.trim_start_matches("ws://").trim_end_matches('/');
    request.url = target(host).map_err(|error| Error::session(format!("no inspector at {host}: {error}")))?;
    Ok(request)
}

fn target(host: &str) -> Result<String, Box<dyn StdError>> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET /json/list HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
    let mut answer = BufReader::new(stream);
    while answer.read_until(b'\n', &mut Vec::new())? > 2 {} // the HTTP header, up to an empty line
    let mut list = serde_json::Deserializer::from_reader(answer).into_iter::<Value>();
    let url = &list.next().ok_or("no answer")??[0]["webSocketDebuggerUrl"];
    Ok(url.as_str().ok_or("nothing to inspect")?.to_owned())
}

/// The application's call is an object with a `method`; the protocol adds the `id` and reads the `result`. A call that
/// subscribes has a `subscription`: the notification that it wants, and the method that ends it. JSON-RPC 2.0 also requires
/// `"jsonrpc": "2.0"` in each call, which the inspector rejects.
#[derive(Default)]
pub(crate) struct JsonRpc {
    calls: HashMap<u64, RequestId>,
    subscriptions: HashMap<RequestId, Value>,
}

impl Protocol for JsonRpc {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        let value: Value = message.json()?;
        if let Some(method) = value["method"].as_str() {
            match self.subscriptions.iter().find(|(_, subscription)| subscription[0] == *method) {
                Some((request, _)) => cx.answer_part(*request, value["params"].clone()),
                None => cx.deliver(message),
            }
        } else if value["id"] == 0 {
            cx.beat_answered();
        } else if let Some(request) = value["id"].as_u64().and_then(|id| self.calls.remove(&id)) {
            match value.get("error") {
                Some(error) => cx.fail_request(request, Error::answer(error.to_string())),
                None if self.subscriptions.contains_key(&request) => {}
                None => cx.answer(request, value["result"].clone()),
            }
        }
        Ok(())
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        let mut call: Map<_, Value> = outgoing.message.json().unwrap_or_default();
        if !call.get("method").is_some_and(Value::is_string) {
            match outgoing.request {
                Some(request) => cx.fail_request(request, Error::invalid_message("it is no call")),
                None => log::error!("{} is not sent: it is no call", outgoing.ticket),
            }
            return Ok(()); // an error would end the connection, now and again after the reconnect
        }
        self.subscriptions.retain(|request, _| cx.is_waiting(*request));
        if let Some(request) = outgoing.request {
            self.subscriptions.extend(call.remove("subscription").map(|wanted| (request, wanted)));
            self.calls.insert(outgoing.ticket.number(), request);
            call.insert("id".to_owned(), outgoing.ticket.number().into());
        }
        cx.send(Message::from(Value::Object(call)).compress(outgoing.message.may_be_compressed()));
        Ok(())
    }

    fn on_withdrawn(&mut self, cx: &mut Context<'_>, request: RequestId) -> Result<(), Error> {
        if let Some(subscription) = self.subscriptions.remove(&request) {
            cx.send(json!({"id": -1, "method": subscription[1]}));
        }
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send(json!({"id": 0, "method": "Runtime.getIsolateId"})); // only its answer matters
        Ok(())
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        (self.calls, self.subscriptions) = Default::default();
        down.default_retry()
    }
}
