//! An industrial vibration gateway: the program logs in, requests the list of sensors, subscribes, and shows readings as
//! they arrive. It does all of that again when the line was lost.
//!
//! ```sh
//! cargo run --example gateway                  # a tour, with a mock gateway
//! cargo run --example gateway -- --watch       # runs until SIGINT or SIGTERM, which close the line gracefully
//! cargo run --example gateway -- --watch --url ws://10.0.0.7:5000 --email me@example.com --password …
//! ```
#![allow(clippy::disallowed_methods, reason = "an example owns its clock and its threads")]

mod cli;
mod field;
mod mock;

use std::error::Error;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};
use serde_json::{Value, json};
use tautline::{Client, ConnectionConfig, Event, JsonSession, ReconnectConfig};

const SOON: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    env_logger::init();
    let stop = cli::signals()?;
    let options = cli::options()?;
    let (gateway, url) = if let Some(url) = options.url.clone() {
        (None, url)
    } else {
        let gateway = mock::Gateway::start()?;
        let url = format!("ws://{}", gateway.address);
        println!("a gateway of our own listens on {}", gateway.address);
        (Some(gateway), url)
    };
    if gateway.is_some() {
        field::show_what_goes_wrong(&url)?;
    }

    println!("\n-- logging in");
    let client =
        Client::builder(config(&url)).protocol(session(&options.email, &options.password)).connect()?;
    println!("{}", client.state());
    if let Some(gateway) = gateway.as_ref().filter(|_| !options.watch) {
        run(&client, &stop, |event| matches!(event, Event::Message(_)))?;
        println!("\n-- the gateway drops the line");
        gateway.drop_lines();
        let mut is_back = false;
        run(&client, &stop, |event| {
            is_back |= matches!(event, Event::Connected { .. });
            is_back && matches!(event, Event::Message(_))
        })?;
        println!("the sensors again: {}", client.request(json!({"Type": "GET_DYN_CONNECTED"}), SOON)?);
    } else {
        run(&client, &stop, |_| false)?;
    }

    println!("\n-- closing");
    let left = client.close(); // within close_timeout
    println!("{}; undelivered: {}", client.wait_closed(), left.never_written.len());
    Ok(())
}

/// Closes within 2 s whatever the gateway does, and reconnects quickly.
fn config(url: &str) -> ConnectionConfig {
    ConnectionConfig::new(url)
        .close_timeout(Duration::from_millis(1500))
        .reconnect(ReconnectConfig::default().initial_delay(Duration::from_millis(200)))
}

/// The gateway's session. It doesn't answer JSON heartbeats, so the line is kept alive by WebSocket pings, the default.
fn session(email: &str, password: &str) -> JsonSession {
    JsonSession::new()
        .login(json!({"Type": "POST_LOGIN", "Data": {"Email": email, "Password": password}}))
        .accepted(|m| m["Type"] == "RTN_LOGIN" && m["Data"]["Success"] == true)
        .refused(|m| m["Type"] == "RTN_ERR")
        .answers_in_order(|m| m["Type"].as_str().is_some_and(|t| t.starts_with("RTN_")))
}

/// Requests the sensors and subscribes to their readings.
fn subscribe(client: &Client) -> Result<(), tautline::Error> {
    println!("sensors: {}", client.request(json!({"Type": "GET_DYN_CONNECTED"}), SOON)?);
    println!("subscribed: {}", client.request(json!({"Type": "POST_SUB_CHANGES"}), SOON)?);
    println!("reading ordered: {}", client.request(json!({"Type": "TAKE_DYN_READING"}), SOON)?);
    Ok(())
}

/// Shows what arrives, until `last` returns `true`, the line is closed, or a signal arrives. It subscribes on each
/// connection, because the gateway forgets the previous one.
fn run(
    client: &Client,
    stop: &Receiver<()>,
    mut last: impl FnMut(&Event) -> bool,
) -> Result<(), Box<dyn Error>> {
    loop {
        select! {
            recv(client.events()) -> event => {
                let event = event?;
                match &event {
                    Event::Message(message) => show(&message.json()?),
                    Event::StateChanged { from, to, .. } => println!("{from} -> {to}"),
                    Event::Connected { .. } => {
                        // The line may be lost again meanwhile. Then the next connection is subscribed.
                        if let Err(error) = subscribe(client) {
                            println!("not subscribed: {error}");
                        }
                    }
                    Event::Disconnected { reason, retry_in, .. } => {
                        println!("line lost: {reason}; next try in {retry_in:?}");
                    }
                    Event::Closed { .. } => return Ok(()),
                    _ => {}
                }
                if last(&event) {
                    return Ok(());
                }
            }
            recv(stop) -> _ => {
                println!("asked to stop");
                return Ok(());
            }
        }
    }
}

fn show(message: &Value) {
    match message["Type"].as_str() {
        Some("NOT_DYN_READING") => println!("reading: {}", message["Data"]),
        _ => println!("message: {message}"),
    }
}
