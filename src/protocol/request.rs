//! What an attempt requests.

use std::fmt;

use crate::compression::Compression;
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
    /// Whether the server must choose one of them. Starts as
    /// [`require_subprotocol`](crate::ConnectionConfig::require_subprotocol); a protocol that can't do without sets it in
    /// [`prepare`](crate::Protocol::prepare).
    pub require_subprotocol: bool,
    /// The compression to offer. Starts as [`compression`](field@crate::ConnectionConfig::compression); `None` offers none, for
    /// a server that fails over it.
    pub compression: Option<Compression>,
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
            require_subprotocol: config.require_subprotocol,
            compression: config.compression.clone(),
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
        self.compression.as_ref().map_or(Ok(()), Compression::check)?;
        if self.require_subprotocol && self.subprotocols.is_empty() {
            let reason =
                "it is true, but no subprotocol is offered; offer one in subprotocols, or set it to false";
            return Err(Error::InvalidConfig { setting: "require_subprotocol", reason: reason.into() });
        }
        Endpoint::parse(&self.url)
    }

    /// Checks the subprotocol that the server chose. The error says what is wrong with the choice.
    pub(crate) fn check_choice(&self, chosen: Option<&str>) -> Result<(), String> {
        let what = match chosen {
            Some(name) if self.subprotocols.iter().any(|offer| offer == name) => return Ok(()),
            Some(name) => format!("it chose the subprotocol {name:?}"),
            None if self.require_subprotocol => {
                "it chose no subprotocol, and require_subprotocol is true".into()
            }
            None => return Ok(()),
        };
        let offered = if self.subprotocols.is_empty() { "none".into() } else { self.subprotocols.join(", ") };
        Err(format!("{what}; offered: {offered}"))
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
            .field("require_subprotocol", &self.require_subprotocol)
            .field("compression", &self.compression)
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

    #[test]
    fn a_choice_is_checked_against_what_was_offered_and_whether_one_is_required() {
        let choose = |request: &UpgradeRequest, name| request.check_choice(name).err();
        let mut request =
            UpgradeRequest::new(&ConnectionConfig::new("ws://h").subprotocol("a").subprotocol("b"));
        assert_eq!([Some("a"), Some("b"), None].map(|name| choose(&request, name)), [None, None, None]);
        let other = Some("it chose the subprotocol \"c\"; offered: a, b".to_owned());
        assert_eq!(choose(&request, Some("c")), other);
        request.require_subprotocol = true;
        assert!(request.check().is_ok());
        assert_eq!([choose(&request, Some("b")), choose(&request, Some("c"))], [None, other]);
        let none = "it chose no subprotocol, and require_subprotocol is true; offered: a, b";
        assert_eq!(choose(&request, None).as_deref(), Some(none));
        request.subprotocols.clear();
        let error = request.check().unwrap_err().to_string();
        assert!(
            error.starts_with("the setting require_subprotocol can't be used: it is true, but no"),
            "{error}"
        );
    }
}
