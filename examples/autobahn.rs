//! The client side of the Autobahn conformance cases: it echoes what each case sends, through the whole library. It offers
//! compression.
//!
//! ```sh
//! cargo run --example autobahn -- ws://127.0.0.1:9001 [AGENT]      # against a fuzzing server that runs already
//! tests/interop/run.sh conformance                                  # starts some itself
//! ```
//!
//! `--ca FILE` trusts this authority, and `--no-takeover` offers that each message is compressed on its own.

use std::error::Error;

use tautline::{
    Certificate, Client, Compression, ConnectionConfig, Context, Handshake, HeartbeatConfig, Message,
    Protocol, ReconnectConfig, TlsConfig,
};

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let (mut places, mut alone, mut tls) = (Vec::new(), false, TlsConfig::default());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--no-takeover" => alone = true,
            "--ca" => {
                let file = arguments.next().ok_or("--ca takes a file")?;
                tls = tls.root(Certificate::from_pem(std::fs::read(file)?));
            }
            _ => places.push(argument),
        }
    }
    let mut places = places.into_iter();
    let server = places.next().ok_or("usage: autobahn [--ca FILE] [--no-takeover] URL [AGENT]")?;
    let agent = places.next().unwrap_or_else(|| "tautline".into());
    let compression =
        Compression::default().client_no_context_takeover(alone).server_no_context_takeover(alone);
    // Sends nothing but what the case asks for, and does not reconnect.
    let config = |url: String| {
        ConnectionConfig::new(url)
            .tls(tls.clone())
            .compression(compression.clone())
            .heartbeat(HeartbeatConfig::off())
            .reconnect(ReconnectConfig::never())
    };

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
