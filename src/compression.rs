//! Compression of messages (RFC 7692).

use crate::error::Error;

/// Compression of messages by `permessage-deflate` (RFC 7692), for
/// [`compression`](field@crate::ConnectionConfig::compression).
///
/// It is an offer: a server that does not know it ignores it, and the line goes on without.
/// [`Handshake::compression`](crate::Handshake::compression) says what was agreed on.
///
/// *Takeover* means that a message is compressed with the last 32 KiB of the messages before it. Short messages that
/// resemble each other, such as JSON, then become several times shorter. Without it, each message stands alone. That saves
/// memory in some servers, which then need no window for each line.
///
/// ```
/// use tautline::{Compression, ConnectionConfig};
///
/// let config = ConnectionConfig::new("wss://example.com/feed").compression(Compression::default());
/// let frugal = Compression::default().level(1).server_no_context_takeover(true);
/// # let _ = (config, frugal);
/// ```
///
/// # Memory
/// A line that never receives or sends a compressed message takes none. The first compressed message that is sent takes about
/// 310 KiB, and the first one that is received about 45 KiB, for as long as the connection lives. While compressed messages
/// come, up to 90 KiB more are in use. Takeover changes nothing in that.
///
/// # Secrets
/// The length of a compressed message tells what is in it. If one message holds a secret beside text that an attacker
/// chooses, and he can see the lengths, he can guess the secret piece by piece (CRIME, BREACH). With takeover that is also
/// true of messages that follow each other. Send such messages with
/// [`Message::compress(false)`](crate::Message::compress), or leave compression off. A
/// [`JsonSession`](crate::JsonSession) never compresses its login.
///
/// # Servers that fail over it
/// The offer has no window sizes, because some servers reject an offer that has them. Few reject one without: `ws` (Node) with
/// a limit on the client's window answers 400. Leave compression off for a server that fails. If you don't know it in advance,
/// make a second attempt without it:
///
/// ```
#[doc = include_str!("client/echo.txt")]
/// use tautline::{Client, Compression, ConnectionConfig, Error};
///
/// let plain = ConnectionConfig::new(url);
/// let client = match Client::connect(plain.clone().compression(Compression::default())) {
///     Err(Error::Upgrade { .. } | Error::UpgradeRejected(_)) => Client::connect(plain)?,
///     other => other?,
/// };
/// # drop(client);
/// # Ok::<(), Error>(())
/// ```
///
/// In a list of servers, [`prepare`](crate::Protocol::prepare) leaves it out for one of them by setting
/// [`UpgradeRequest::compression`](crate::UpgradeRequest::compression) to `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compression {
    /// How hard to compress: from 1, which is fast, to 9, which is small. Default 3.
    pub level: u32,
    /// Whether each message that the client sends is compressed on its own. Default `false`: takeover. The server can ask for
    /// the same in its answer.
    pub client_no_context_takeover: bool,
    /// Whether the server is to compress each of its messages on its own. Default `false`: takeover. A server that does not
    /// promise it in its answer has not accepted the offer, and the attempt fails.
    pub server_no_context_takeover: bool,
    /// A message with fewer bytes goes out as it is. Default `None`: 32 with takeover, and 1,024 without.
    ///
    /// So does a message that would not become shorter. With takeover it may become up to 16 bytes longer, so that later ones
    /// have something to refer to; all messages together become longer by 256 bytes and 0.4 % at most. A message that goes out
    /// in fragments is measured as a whole, and compressed if its first fragment becomes shorter. Each message of more than
    /// 64 KiB goes out in fragments on such a line: see [`fragment`](field@crate::ConnectionConfig::fragment).
    pub threshold: Option<usize>,
}

impl Compression {
    /// Sets [`level`](field@Self::level).
    pub fn level(mut self, level: u32) -> Self {
        self.level = level;
        self
    }

    /// Sets [`client_no_context_takeover`](field@Self::client_no_context_takeover).
    pub fn client_no_context_takeover(mut self, alone: bool) -> Self {
        self.client_no_context_takeover = alone;
        self
    }

    /// Sets [`server_no_context_takeover`](field@Self::server_no_context_takeover).
    pub fn server_no_context_takeover(mut self, alone: bool) -> Self {
        self.server_no_context_takeover = alone;
        self
    }

    /// Sets [`threshold`](field@Self::threshold).
    pub fn threshold(mut self, threshold: usize) -> Self {
        self.threshold = Some(threshold);
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if (1..=9).contains(&self.level) {
            return Ok(());
        }
        let reason = format!("it is {}; 1 to 9 are allowed", self.level);
        Err(Error::InvalidConfig { setting: "compression.level", reason: reason.into() })
    }

    /// The size from which on messages are compressed.
    pub(crate) fn smallest(&self) -> usize {
        self.threshold.unwrap_or(if self.client_no_context_takeover { 1024 } else { 32 })
    }
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            level: 3,
            client_no_context_takeover: false,
            server_no_context_takeover: false,
            threshold: None,
        }
    }
}
