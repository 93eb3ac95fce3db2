//! The main job with a loopback server of its own: connect, exchange messages, lose the server, reconnect, close.
//!
//! ```sh
//! cargo run --example quickstart
//! ```
//!
//! The server is that of the feature `testing`, which the repository turns on for its examples. Elsewhere, add
//! `--features testing`.
//!
//! The log, on stderr, shows what the client does by itself. `RUST_LOG=off cargo run --example quickstart` shows only what
//! the program says.
#![allow(clippy::disallowed_methods, reason = "an example owns its clock")]

use std::time::{Duration, Instant};

use tautline::testing::LoopbackServer;
use tautline::{Client, ConnectionConfig, Event, HeartbeatConfig, ReconnectConfig};

/// The timeout for anything that a loopback server does.
const SOON: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    env_logger::init_from_env(env_logger::Env::default().default_filter_or("info"));
    let start = Instant::now();
    let say = |what: String| println!("{:>5} ms  {what}", start.elapsed().as_millis());

    let mut server = LoopbackServer::echo()?; // of the feature `testing`
    say(format!("a server listens on {}", server.address()));

    // Short delays, for the demonstration. The defaults suit real use.
    let config = ConnectionConfig::new(server.url())
        .heartbeat(HeartbeatConfig::default().interval(Duration::from_millis(100)))
        .reconnect(ReconnectConfig::default().initial_delay(Duration::from_millis(200)));

    let client = Client::connect(config)?; // blocks until connected, or returns the reason
    client.send("hello")?;
    wait_for_answer(&client, &say)?;

    say("the server is killed; this message waits in the outbox meanwhile".into());
    server.go_down()?;
    wait_for(&client, &say, |event| matches!(event, Event::Disconnected { .. }))?;
    client.send("are you back?")?;
    wait_for(&client, &say, |event| matches!(event, Event::Disconnected { .. }))?;

    server.come_up()?;
    say("the server is back on the same port; the line will find it by itself".into());
    wait_for_answer(&client, &say)?;

    // Heartbeats measure the round trip.
    while client.stats().round_trip.is_none() {
        client.events().recv_timeout(Duration::from_millis(10)).ok();
    }
    let stats = client.stats();
    say(format!("a heartbeat's round trip takes {:?}", stats.round_trip.unwrap_or_default()));

    let left = client.close(); // writes what was accepted, then does the close handshake
    for event in client.events() {
        show(&event, &say);
    }
    say(format!(
        "closed; attempts: {}, losses: {}, messages sent: {}, received: {}, undelivered: {}",
        stats.attempts,
        stats.disconnects,
        stats.messages_written,
        stats.messages_received,
        left.never_written.len()
    ));
    Ok(())
}

fn wait_for_answer(client: &Client, say: &impl Fn(String)) -> Result<(), Box<dyn std::error::Error>> {
    wait_for(client, say, |event| matches!(event, Event::Message(_)))
}

/// Shows events up to the wanted one.
fn wait_for(
    client: &Client,
    say: &impl Fn(String),
    wanted: impl Fn(&Event) -> bool,
) -> Result<(), Box<dyn std::error::Error>> {
    loop {
        let event = client.events().recv_timeout(SOON)?;
        show(&event, say);
        if wanted(&event) {
            return Ok(());
        }
    }
}

fn show(event: &Event, say: &impl Fn(String)) {
    match event {
        Event::StateChanged { from, to, .. } => say(format!("state     {from} -> {to}")),
        Event::Connected { attempts, .. } => say(format!("ready     after {attempts} attempt(s)")),
        Event::Message(message) => say(format!("message   {message:?} came back")),
        Event::Disconnected { reason, retry_in: Some(delay), .. } => {
            say(format!("lost      {reason}; next try in {} ms", delay.as_millis()));
        }
        Event::Closed { reason, .. } => say(format!("the end   {reason}")),
        _ => {}
    }
}
