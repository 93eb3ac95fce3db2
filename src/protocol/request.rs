//! What an attempt requests.

use std::fmt;

use crate::config::{ConnectionConfig, check_headers, check_subprotocols};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::event::DisconnectReason;
use crate::secrets::{Secrets, shown_name, shown_subprotocols};

/// What an attempt requests. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpgradeRequest {
    /// The URL, with the scheme `ws://` or `wss://`.
    pub url: String,
    /// Headers of the upgrade, in order.
    pub headers: Vec<(String, String)>,
    /// Subprotocols to offer, in order of preference.
    pub subprotocols: Vec<String>,
}

/// An attempt that is about to start.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// The number of the attempt since the line was last ready, from 1.
    pub number: u32,
    /// Whether the line was ever ready.
    pub ever_ready: bool,
    /// Why the line was lost or the last attempt failed.
    pub last: Option<&'a DisconnectReason>,
    /// Whether the line is up and about to move: see [`Context::move_line`](crate::Context::move_line).
    pub moving: bool,
}

impl UpgradeRequest {
    /// The secrets of this request.
    pub(crate) fn secrets(&self) -> Secrets {
        Secrets::of(&self.url, &self.headers, &self.subprotocols)
    }

    pub(crate) fn new(config: &ConnectionConfig) -> Self {
        Self {
            url: config.url.clone(),
            headers: config.headers.clone(),
            subprotocols: config.subprotocols.clone(),
        }
    }

    /// Sets a header, replacing any with this name.
    ///
    /// ```
    /// # fn _prepare(request: &mut tautline::UpgradeRequest) {
    /// request.set_header("Authorization", "Bearer …");
    /// # }
    /// ```
    pub fn set_header(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(&name));
        self.headers.push((name, value.into()));
    }

    /// Checks everything, and parses the URL.
    pub(crate) fn check(&self) -> Result<Endpoint, Error> {
        check_headers(&self.headers)?;
        check_subprotocols(&self.subprotocols)?;
        Endpoint::parse(&self.url)
    }
}

impl fmt::Debug for UpgradeRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| shown_name(name)).collect();
        let subprotocols = shown_subprotocols(&self.subprotocols);
        f.debug_struct("UpgradeRequest")
            .field("url", &Endpoint::redacted(&self.url))
            .field("headers", &headers)
            .field("subprotocols", &subprotocols)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_keeps_secrets() {
        let config = ConnectionConfig::new("wss://bob:s3cret@h/x?token=s3cret").header("Cookie", "s3cret");
        let config = config.header("Authorization: Bearer s3cret", "").subprotocol("bearer s3cret");
        let shown = format!("{:?}", UpgradeRequest::new(&config));
        assert!(!shown.contains("s3cret") && shown.contains("wss://h:443"), "{shown}");
        assert!(shown.contains(r#"["Cookie", "Authorization"]"#), "{shown}");
    }

    #[test]
    fn debug_output_keeps_a_token_that_is_offered_as_a_subprotocol() {
        let config = ConnectionConfig::new("ws://h").subprotocol("v12.stomp").subprotocol("bearer.s3cret");
        let shown = format!("{:?}", UpgradeRequest::new(&config));
        assert!(shown.contains(r#"["v12.stomp", "bearer.***"]"#), "{shown}");
    }
}
