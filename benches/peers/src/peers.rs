//! The libraries that are compared, behind one trait.

use std::ops::ControlFlow;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use ewebsock::{WsEvent, WsMessage, WsSender};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tungstenite::Message;

use crate::common::server::Server;
use crate::common::{self, bare};

/// A line to the server, used by a blocking thread.
pub trait Peer {
    /// Sends a binary message.
    fn send(&mut self, payload: &[u8]);

    /// Sends a text, which the rooms `sink` and `flood` answer.
    fn ask(&mut self, text: &str);

    /// Blocks until a message arrives. Returns the length of a binary message, or the number in a text.
    fn recv(&mut self) -> usize;
}

/// This library.
pub struct Ours(tautline::Client);

impl Ours {
    pub fn connect(server: &Server, room: &str) -> Self {
        Self(common::connect(server, false, room))
    }
}

impl Peer for Ours {
    fn send(&mut self, payload: &[u8]) {
        self.0.send(payload).unwrap();
    }

    fn ask(&mut self, text: &str) {
        self.0.send(text).unwrap();
    }

    fn recv(&mut self) -> usize {
        let message = self.0.recv().unwrap();
        message.as_text().map_or(message.len(), |text| text.parse().unwrap())
    }
}

/// Bare tungstenite on the caller's thread.
pub struct Bare(bare::Bare);

impl Bare {
    pub fn connect(server: &Server, room: &str) -> Self {
        Self(bare::connect(server, false, room))
    }
}

impl Peer for Bare {
    fn send(&mut self, payload: &[u8]) {
        self.0.send(Message::binary(payload.to_vec())).unwrap();
    }

    fn ask(&mut self, text: &str) {
        self.0.send(Message::text(text)).unwrap();
    }

    fn recv(&mut self) -> usize {
        number(&self.0.read().unwrap())
    }
}

/// A runtime on its own thread, which writes all waiting messages with one flush. Its channels are unbounded, which is
/// its fastest way; this library's are bounded.
pub struct TokioThread {
    outgoing: mpsc::UnboundedSender<Message>,
    incoming: Receiver<Message>,
}

impl TokioThread {
    pub fn connect(server: &Server, room: &str) -> Self {
        let (outgoing, to_send) = mpsc::unbounded_channel();
        let (received, incoming) = crossbeam_channel::unbounded();
        let (url, port) = (server.url(false, room), server.port(false));
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(serve(url, port, to_send, received));
        };
        thread::Builder::new().name("tokio".into()).spawn(serve).unwrap();
        Self { outgoing, incoming }
    }
}

async fn serve(
    url: String,
    port: u16,
    mut to_send: mpsc::UnboundedReceiver<Message>,
    received: Sender<Message>,
) {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let (mut sink, mut stream) = socket.split();
    tokio::spawn(async move {
        while let Some(message) = to_send.recv().await {
            sink.feed(message).await.unwrap();
            while let Ok(message) = to_send.try_recv() {
                sink.feed(message).await.unwrap();
            }
            sink.flush().await.unwrap();
        }
        let _ = sink.close().await;
    });
    while let Some(Ok(message)) = stream.next().await {
        if received.send(message).is_err() {
            return;
        }
    }
}

impl Peer for TokioThread {
    fn send(&mut self, payload: &[u8]) {
        self.outgoing.send(Message::binary(payload.to_vec())).unwrap();
    }

    fn ask(&mut self, text: &str) {
        self.outgoing.send(Message::text(text)).unwrap();
    }

    fn recv(&mut self) -> usize {
        number(&self.incoming.recv().unwrap())
    }
}

/// With our own event handler, because ewebsock's receiver can't block.
pub struct Ewebsock {
    sender: WsSender,
    incoming: Receiver<WsMessage>,
}

impl Ewebsock {
    pub fn connect(server: &Server, room: &str) -> Self {
        let (opened, open) = crossbeam_channel::bounded(1);
        let (received, incoming) = crossbeam_channel::unbounded();
        let handler = move |event| {
            let gone = match event {
                WsEvent::Opened => opened.send(()).is_err(),
                WsEvent::Message(message) => received.send(message).is_err(),
                WsEvent::Error(_) | WsEvent::Closed => true,
            };
            if gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let url = server.url(false, room);
        let sender = ewebsock::ws_connect(url, ewebsock::Options::default(), Box::new(handler)).unwrap();
        open.recv_timeout(common::LONG).expect("a connection");
        Self { sender, incoming }
    }
}

impl Peer for Ewebsock {
    fn send(&mut self, payload: &[u8]) {
        self.sender.send(WsMessage::Binary(payload.to_vec()));
    }

    fn ask(&mut self, text: &str) {
        self.sender.send(WsMessage::Text(text.into()));
    }

    fn recv(&mut self) -> usize {
        match self.incoming.recv().unwrap() {
            WsMessage::Binary(payload) => payload.len(),
            WsMessage::Text(text) => text.parse().unwrap(),
            other => panic!("nobody sends {other:?}"),
        }
    }
}

fn number(message: &Message) -> usize {
    match message {
        Message::Text(text) => text.parse().unwrap(),
        other => other.len(),
    }
}
