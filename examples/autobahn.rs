//! The client side of the Autobahn conformance cases: it echoes what each case sends, through the whole library.
//!
//! ```sh
//! cargo run --example autobahn -- ws://127.0.0.1:9001 [AGENT]      # against a fuzzing server that runs already
//! tests/interop/run.sh conformance                                  # starts one itself
//! ```

use std::error::Error;

use tautline::{
    Client, ConnectionConfig, Context, Handshake, HeartbeatConfig, Message, Protocol, ReconnectConfig,
};

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().ok_or("usage: autobahn URL [AGENT]")?;
    let agent = arguments.next().unwrap_or_else(|| "tautline".into());

    let count = Client::connect(config(format!("{server}/getCaseCount")))?.recv()?;
    let count: u32 = count.as_text().ok_or("the case count is not text")?.parse()?;
    for case in 1..=count {
        let config = config(format!("{server}/runCase?case={case}&agent={agent}"));
        Client::builder(config).protocol(Echo).connect()?.wait_closed();
    }
    Client::connect(config(format!("{server}/updateReports?agent={agent}")))?.wait_closed();
    println!("{count} cases run");
    Ok(())
}

/// Echoes each message in the order of the wire, even if a protocol violation follows it.
struct Echo;

impl Protocol for Echo {
    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), tautline::Error> {
        cx.ready();
        Ok(())
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), tautline::Error> {
        cx.send(message);
        Ok(())
    }
}

/// Sends nothing but what the case asks for, and does not reconnect.
fn config(url: String) -> ConnectionConfig {
    ConnectionConfig::new(url).heartbeat(HeartbeatConfig::off()).reconnect(ReconnectConfig::never())
}
