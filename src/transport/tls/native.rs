//! TLS by the operating system's library.

use std::io;

use native_tls::{HandshakeError, MidHandshakeTlsStream, TlsConnector, TlsStream};

use crate::transport::link::Layer;
use crate::transport::stream::Wire;
use crate::transport::tls::{Said, Step, Unfinished};

type Outcome = Result<TlsStream<Wire>, HandshakeError<Wire>>;

/// Begins a handshake.
pub(super) fn begin(connector: &TlsConnector, name: &str, wire: Wire) -> Step {
    step(connector.connect(name, wire))
}

fn step(outcome: Outcome) -> Step {
    match outcome {
        Ok(stream) => Step::Done(Box::new(stream)),
        Err(HandshakeError::WouldBlock(unfinished)) => Step::Waiting(Box::new(unfinished)),
        Err(HandshakeError::Failure(error)) => Step::Failed(Said::new(&error)),
    }
}

impl Unfinished for MidHandshakeTlsStream<Wire> {
    fn wire_mut(&mut self) -> &mut Wire {
        self.get_mut()
    }

    fn go_on(self: Box<Self>) -> Step {
        step(self.handshake())
    }
}

impl Layer for TlsStream<Wire> {
    fn wire(&self) -> &Wire {
        self.get_ref()
    }

    fn wire_mut(&mut self) -> &mut Wire {
        self.get_mut()
    }

    fn shutdown(&mut self) -> io::Result<()> {
        TlsStream::shutdown(self)
    }
}
