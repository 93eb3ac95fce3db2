//! Bare blocking tungstenite, as a program without this library would use it: a standard TCP stream without Nagle's
//! delay, and TLS by native-tls.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use native_tls::{Certificate, TlsConnector, TlsStream};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

use super::server::Server;

pub type Bare = WebSocket<Stream>;

pub enum Stream {
    Plain(TcpStream),
    Tls(TlsStream<TcpStream>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A connector that trusts the server's certificate.
pub fn connector() -> TlsConnector {
    let root = Certificate::from_pem(include_bytes!("../../tests/data/ca.pem")).unwrap();
    TlsConnector::builder().add_root_certificate(root).build().unwrap()
}

pub fn connect(server: &Server, secure: bool, room: &str) -> Bare {
    connect_with(server, secure.then(connector).as_ref(), room)
}

/// Connects, over TLS if there is a connector.
pub fn connect_with(server: &Server, tls: Option<&TlsConnector>, room: &str) -> Bare {
    let stream = TcpStream::connect(("127.0.0.1", server.port(tls.is_some()))).unwrap();
    stream.set_nodelay(true).unwrap();
    let stream = match tls {
        Some(connector) => Stream::Tls(connector.connect("localhost", stream).unwrap()),
        None => Stream::Plain(stream),
    };
    // The same limits as this library's defaults.
    let config = WebSocketConfig::default().max_message_size(Some(64 << 20)).max_frame_size(Some(64 << 20));
    let url = server.url(tls.is_some(), room);
    tungstenite::client::client_with_config(url, stream, Some(config)).map_err(drop).unwrap().0
}

pub fn echo(bare: &mut Bare, payload: &[u8]) {
    bare.send(Message::binary(payload.to_vec())).unwrap();
    assert_eq!(bare.read().unwrap().len(), payload.len());
}

/// How many messages the room `sink` has received on this connection so far. The server answers after all of them.
pub fn received(bare: &mut Bare) -> u64 {
    bare.send(Message::text("?")).unwrap();
    bare.read().unwrap().to_text().unwrap().parse().unwrap()
}
