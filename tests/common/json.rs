//! A server that speaks JSON, behind a login.

use std::net::TcpStream;

use super::{Server, accept, listen};
use serde_json::{Value, json};
use tautline::JsonSession;
use tungstenite::WebSocket;

pub fn login() -> JsonSession {
    JsonSession::new()
        .login(json!({"type": "login", "password": "right"}))
        .accepted(|m| m["type"] == "welcome")
        .refused(|m| m["type"] == "refused")
}

pub fn say(socket: &mut WebSocket<TcpStream>, value: &Value) -> bool {
    socket.send(value.to_string().into()).is_ok()
}

/// The client's next text, as JSON.
pub fn hear(socket: &mut WebSocket<TcpStream>) -> Option<Value> {
    loop {
        let message = socket.read().ok()?;
        if message.is_text() {
            return Some(serde_json::from_str(message.to_text().unwrap()).unwrap());
        }
    }
}

/// A server that first requires a login and then runs `serve`. Anything else before the login ends the connection.
pub fn gateway(serve: impl Fn(usize, WebSocket<TcpStream>) + Send + Sync + 'static) -> Server {
    Server::start(move |n, stream| {
        let mut socket = accept(stream);
        match hear(&mut socket) {
            Some(first) if first["type"] == "login" && first["password"] == "right" => {
                say(&mut socket, &json!({"type": "welcome"}));
                serve(n, socket);
            }
            Some(first) if first["type"] == "login" => {
                say(&mut socket, &json!({"type": "refused", "why": "wrong password"}));
                listen(socket);
            }
            _ => {}
        }
    })
}

pub fn echo_json(_: usize, mut socket: WebSocket<TcpStream>) {
    while let Some(value) = hear(&mut socket) {
        if !say(&mut socket, &value) {
            return;
        }
    }
}
