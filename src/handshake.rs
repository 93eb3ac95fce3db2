//! What a server agreed to.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::compression::Compression;
use crate::error::Phase;
use crate::secrets::{Secrets, shown_subprotocols};

/// The result of the opening handshake: what the server agreed to.
///
/// A protocol gets it in [`on_open`](crate::Protocol::on_open), an application in
/// [`Event::Connected`](crate::Event::Connected) and from [`Client::handshake`](crate::Client::handshake). `Debug` shows no
/// subprotocol that looks like a token, and no value of a header.
///
/// ```
/// use tautline::Event;
///
/// fn report(event: &Event) {
///     if let Event::Connected { handshake, .. } = event {
///         let node = handshake.headers.get("X-Node").unwrap_or("unknown");
///         match &handshake.proxy {
///             Some(proxy) => println!("connected through the proxy {proxy}, node {node}"),
///             None => println!("connected to {:?}, node {node}", handshake.address),
///         }
///     }
/// }
/// # let _ = report;
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Handshake {
    /// The address that the client is connected to: the server's or, where there is a [`proxy`](field@Self::proxy), the
    /// proxy's. `None` where there is no such address: for a Unix socket, and with a
    /// [`connector`](crate::Builder::connector).
    pub address: Option<SocketAddr>,
    /// The proxy that the connection goes through, with scheme and port and without a login, as in
    /// `http://proxy.corp.example:3128`. `None` if it goes straight to the server.
    pub proxy: Option<Box<str>>,
    /// The subprotocol that the server chose, if it chose one.
    pub subprotocol: Option<Box<str>>,
    /// The compression that the server agreed to, with what its answer adds. `None` if none was offered, or accepted.
    pub compression: Option<Compression>,
    /// The headers of the server's answer.
    pub headers: ResponseHeaders,
    /// How long the attempt took.
    pub timings: Timings,
    /// The secrets of the request, which the server may repeat.
    pub(crate) secrets: Secrets,
}

/// The headers of the server's answer to the upgrade, in order.
///
/// All of them are kept as long as the handshake is. The server can send at most
/// [`max_response_size`](crate::ConnectionConfig::max_response_size) bytes of them: 64 KiB by default. Bytes that are not
/// UTF-8, and control characters, are replaced by U+FFFD. Headers of interim answers (103) are not among them.
///
/// They may hold secrets of the server's, such as cookies. `Debug` shows their names, and `***` in place of each value.
///
/// ```
/// use tautline::ResponseHeaders;
///
/// /// The cookie that keeps the session at one node of a cluster.
/// fn sticky(headers: &ResponseHeaders) -> Option<&str> {
///     headers.get_all("Set-Cookie").find(|cookie| cookie.starts_with("node="))
/// }
/// # let _ = sticky;
/// ```
#[derive(Clone, Default)]
pub struct ResponseHeaders {
    /// `name:value` on a line each: no name has a colon, and no value has a line break. A server that sends thousands of
    /// headers costs no more memory than one that sends a long one.
    lines: Box<str>,
    /// The secrets of the request, which the server may repeat in a name.
    secrets: Secrets,
}

/// How long the attempt that led to a connection took, in all and in each of its phases. A phase that did not take place
/// has `None`. One that took place several times has the sum: an attempt that follows
/// [`redirects`](field@crate::ConnectionConfig::redirects) connects to each server on its way. In the test kit, no time passes
/// during an attempt.
///
/// ```
/// use tautline::Timings;
///
/// /// Which share of the attempt the server took to answer the upgrade.
/// fn share(timings: &Timings) -> f64 {
///     timings.upgrade.unwrap_or_default().as_secs_f64() / timings.total.as_secs_f64().max(1e-9)
/// }
/// # let _ = share;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// In the application's [`fetch`](crate::Builder::fetch). `None` without one.
    pub fetch: Option<Duration>,
    /// Looking up the host name, and with a proxy that of the proxy. `None` if nothing was looked up, since they are
    /// addresses, or since the proxy looks up the server.
    pub resolve: Option<Duration>,
    /// Connecting by TCP: the race of the host's addresses, until the first has connected. See
    /// [`NetworkConfig`](crate::NetworkConfig).
    pub connect: Option<Duration>,
    /// Waiting for the proxy to open a way to the server. `None` without a proxy.
    pub proxy: Option<Duration>,
    /// In the TLS handshake. `None` with `ws://`.
    pub tls: Option<Duration>,
    /// From the request of the upgrade to the end of the headers of its answer.
    pub upgrade: Option<Duration>,
    /// The whole attempt, as [`connect_timeout`](crate::ConnectionConfig::connect_timeout) limits it. It includes what is
    /// in no phase, such as the start of the attempt's thread.
    pub total: Duration,
}

impl Timings {
    /// The time of one phase, if it is measured.
    pub(crate) fn of(&mut self, phase: Phase) -> Option<&mut Option<Duration>> {
        Some(match phase {
            Phase::Start => return None,
            Phase::Fetch => &mut self.fetch,
            Phase::Resolve => &mut self.resolve,
            Phase::Connect => &mut self.connect,
            Phase::Proxy => &mut self.proxy,
            Phase::Tls => &mut self.tls,
            Phase::Upgrade => &mut self.upgrade,
        })
    }
}

impl ResponseHeaders {
    pub(crate) fn new<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>, secrets: Secrets) -> Self {
        let mut lines = String::new();
        for (name, value) in headers {
            lines.extend([name, ":", value, "\n"]);
        }
        Self { lines: lines.into(), secrets }
    }

    /// Returns the value of the first header with this name. The comparison ignores case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_all(name).next()
    }

    /// Returns the values of all headers with this name, in order. The comparison ignores case.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.iter().filter(move |(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Returns all headers in order: their names as received, and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.split_terminator('\n').filter_map(|line| line.split_once(':'))
    }
}

impl Handshake {
    pub(crate) fn new(address: impl Into<Option<SocketAddr>>, subprotocol: Option<Box<str>>) -> Self {
        Self {
            address: address.into(),
            proxy: None,
            subprotocol,
            compression: None,
            headers: ResponseHeaders::default(),
            timings: Timings::default(),
            secrets: Secrets::default(),
        }
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The choice alone does not say what its neighbours among the offers announced. The secrets of the request do.
        let shown = |name: &str| self.secrets.hide(&shown_subprotocols(&[name.to_owned()]).concat());
        let subprotocol = self.subprotocol.as_deref().map(shown);
        f.debug_struct("Handshake")
            .field("address", &self.address)
            .field("proxy", &self.proxy)
            .field("subprotocol", &subprotocol)
            .field("compression", &self.compression)
            .field("headers", &self.headers)
            .field("timings", &self.timings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ResponseHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = format_args!("***");
        f.debug_map().entries(self.iter().map(|(name, _)| (self.secrets.hide(name), hidden))).finish()
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

    #[test]
    fn headers_are_found_in_any_case_and_in_order() {
        let sent = [("Set-Cookie", "a=1"), ("X-Empty", ""), ("SET-COOKIE", "b: 2"), ("X-Tab", "a\tb")];
        let headers = ResponseHeaders::new(sent, Secrets::default());
        assert_eq!(headers.iter().collect::<Vec<_>>(), sent);
        assert_eq!(headers.get("set-cookie"), Some("a=1"));
        assert_eq!(headers.get_all("Set-Cookie").collect::<Vec<_>>(), ["a=1", "b: 2"]);
        assert_eq!((headers.get("x-empty"), headers.get("X")), (Some(""), None));
        assert_eq!(ResponseHeaders::default().iter().count(), 0);
    }

    #[test]
    fn debug_output_keeps_the_values_of_headers_and_a_secret_in_a_name() {
        let secrets = Secrets::of("ws://h/?token=t0ken-s3cret", &[], &[]);
        let headers = ResponseHeaders::new([("X-A", "hush"), ("X-t0ken-s3cret", "hush")], secrets);
        let handshake = Handshake { headers, ..Handshake::new(Some(([127, 0, 0, 1], 80).into()), None) };
        let shown = format!("{handshake:?}");
        assert!(shown.contains(r#"headers: {"X-A": ***, "X-***": ***}"#), "{shown}");
        assert!(!shown.contains("hush") && !shown.contains("s3cret"), "{shown}");
    }
}
