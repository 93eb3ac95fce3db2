//! What the gateway was known for in the field.

use std::error::Error;
use std::time::Duration;

use tautline::{Client, Event, HeartbeatConfig};

use crate::{config, session};

pub(crate) fn show_what_goes_wrong(url: &str) -> Result<(), Box<dyn Error>> {
    println!("\n-- a wrong password");
    match Client::builder(config(url)).protocol(session("me@example.com", "wrong")).connect() {
        Ok(_) => return Err("the gateway took a wrong password".into()),
        Err(error) => println!("{error}"),
    }

    println!("\n-- a heartbeat before the login: without a session, heartbeats start at once");
    let heartbeat = HeartbeatConfig::json().interval(Duration::from_millis(50));
    let client = Client::connect(config(url).heartbeat(heartbeat))?;
    for event in client.events() {
        if let Event::Disconnected { reason, .. } = event {
            println!("it crashed: {reason}");
            break;
        }
    }
    let _ = client.terminate();
    Ok(())
}
