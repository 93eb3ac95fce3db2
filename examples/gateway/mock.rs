//! A mock of a vibration gateway that behaves like those in the field. The first message must be the login; anything else
//! crashes it. Answers have no number and arrive in order. Readings arrive unrequested. It does not answer JSON heartbeats.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tungstenite::WebSocket;

/// The password that it accepts.
pub(crate) const PASSWORD: &str = "taut";

pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gateway {
    pub(crate) fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let gateway = Self { address: listener.local_addr()?, connections: Arc::clone(&connections) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let (Ok(mut open), Ok(clone)) = (connections.lock(), stream.try_clone()) {
                    open.push(clone);
                }
                thread::spawn(move || {
                    // However it ends, the peer sees the end at once.
                    serve(&stream);
                    stream.shutdown(Shutdown::Both).ok();
                });
            }
        });
        Ok(gateway)
    }

    /// Drops every connection, like a gateway that loses power.
    pub(crate) fn drop_lines(&self) {
        if let Ok(mut open) = self.connections.lock() {
            for stream in open.drain(..) {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
    }
}

fn serve(stream: &TcpStream) -> Option<()> {
    let mut socket = tungstenite::accept(stream).ok()?;
    let mut readings = 0;
    let first = hear(&mut socket)?;
    if first["Type"] != "POST_LOGIN" {
        return None; // crashed
    }
    if first["Data"]["Password"] != PASSWORD {
        say(
            &mut socket,
            &json!({"Type": "RTN_ERR", "Data": {"Attempted": "POST_LOGIN", "Error": "wrong password"}}),
        )?;
        while hear(&mut socket).is_some() {}
        return None;
    }
    let welcome = json!({"Type": "RTN_LOGIN", "Data": {"Success": true}});
    say(&mut socket, &welcome)?;
    loop {
        let command = hear(&mut socket)?;
        match command["Type"].as_str()? {
            "GET_DYN_CONNECTED" => {
                // Real ones repeat the login's answer now and then.
                say(&mut socket, &welcome)?;
                say(&mut socket, &json!({"Type": "RTN_DYN", "Data": {"7": {"Serial": 7, "Name": "pump"}}}))?;
            }
            "POST_SUB_CHANGES" => {
                say(&mut socket, &json!({"Type": "RTN_SUB_CHANGES", "Data": {"Success": true}}))?;
                readings += 1;
                say(
                    &mut socket,
                    &json!({"Type": "NOT_DYN_READING", "Data": {"Serial": 7, "Rms": 0.25 * f64::from(readings)}}),
                )?;
            }
            "TAKE_DYN_READING" => {
                // The reading comes first, on its own, and the answer to the command after it.
                readings += 1;
                say(
                    &mut socket,
                    &json!({"Type": "NOT_DYN_READING", "Data": {"Serial": 7, "Rms": 0.25 * f64::from(readings)}}),
                )?;
                say(&mut socket, &json!({"Type": "RTN_READING_STARTED", "Data": {"Serial": 7}}))?;
            }
            "ping" => {} // not answered
            other => say(
                &mut socket,
                &json!({"Type": "RTN_ERR", "Data": {"Attempted": other, "Error": "unknown"}}),
            )?,
        }
    }
}

/// The next text, as JSON.
fn hear(socket: &mut WebSocket<&TcpStream>) -> Option<Value> {
    loop {
        let message = socket.read().ok()?;
        if message.is_text() {
            let value: Value = serde_json::from_str(message.to_text().ok()?).ok()?;
            return Some(if value["type"] == "ping" { json!({"Type": "ping"}) } else { value });
        }
    }
}

fn say(socket: &mut WebSocket<&TcpStream>, value: &Value) -> Option<()> {
    socket.send(value.to_string().into()).ok()
}
