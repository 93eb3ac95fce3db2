//! What a server agreed to.

use std::fmt;
use std::net::SocketAddr;

use crate::secrets::{Secrets, shown_subprotocols};

/// The result of the opening handshake. `Debug` shows no subprotocol that looks like a token.
#[derive(Clone)]
#[non_exhaustive]
pub struct Handshake {
    /// The address of the server.
    pub address: SocketAddr,
    /// The subprotocol that the server chose, if it chose one.
    pub subprotocol: Option<Box<str>>,
    /// The secrets of the request, which the server may repeat.
    pub(crate) secrets: Secrets,
}

impl Handshake {
    pub(crate) fn new(address: impl Into<SocketAddr>, subprotocol: Option<Box<str>>) -> Self {
        Self { address: address.into(), subprotocol, secrets: Secrets::default() }
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The choice alone does not say what its neighbours among the offers announced. The secrets of the request do.
        let shown = |name: &str| self.secrets.hide(&shown_subprotocols(&[name.to_owned()]).concat());
        let subprotocol = self.subprotocol.as_deref().map(shown);
        f.debug_struct("Handshake")
            .field("address", &self.address)
            .field("subprotocol", &subprotocol)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_keeps_a_token_that_the_server_chose_as_the_subprotocol() {
        let address: SocketAddr = ([127, 0, 0, 1], 80).into();
        let accepted = |name: &str| format!("{:?}", Handshake::new(address, Some(name.into())));
        assert!(accepted("mqtt").contains(r#"Some("mqtt")"#));
        assert!(accepted("bearer.s3cret").contains(r#"Some("bearer.***")"#));
    }
}
