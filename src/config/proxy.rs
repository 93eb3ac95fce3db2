//! A proxy: how to reach it, and what it wants to know.

mod bypass;
mod environment;
mod ways;

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64;

use crate::config::TlsConfig;
pub(crate) use crate::config::proxy::ways::Ways;
use crate::config::tls::MISSING;
use crate::endpoint::{CUT, Endpoint, LOGIN, decode, is_cut};
use crate::error::Error;
use crate::secrets::{Secrets, shown_name};

/// A proxy through which the client reaches its servers, or none: what the environment says.
///
/// ```no_run
/// use tautline::{Client, ConnectionConfig, Proxy};
///
/// let proxy = Proxy::new("http://proxy.corp.example:3128").login("ann", "secret").no_proxy("localhost, .corp.example");
/// let config = ConnectionConfig::new("wss://gateway.example/socket").proxy(proxy);
/// let client = Client::connect(config)?;
/// # drop(client);
/// # Ok::<(), tautline::Error>(())
/// ```
///
/// The client connects to the proxy and asks it to open a tunnel to the server: with `http://` and `https://` by HTTP
/// CONNECT (RFC 9110, section 9.3.6), also for `ws://`, and with `socks5://` and `socks5h://` by SOCKS 5 (RFC 1928). TLS to
/// a `wss://` server goes through the tunnel, so the proxy reads nothing of it. It has
/// [`connect_timeout`](crate::ConnectionConfig::connect_timeout) together with the other steps of the attempt.
/// An address with a zone (`[fe80::1%25eth0]`) has a meaning on this machine only: a server with one is an
/// [`Error::InvalidUrl`], unless [`no_proxy`](Self::no_proxy) names it.
/// What the proxy refuses is an [`Error::Proxy`]. No attempt ever goes around a proxy that can't be used. A Unix socket
/// (`ws+unix:`) is on this machine, and is reached without one.
///
/// When the client starts, the log says at the level info which servers are reached through which proxy and why, and at the
/// level debug it names the proxy of each connection. [`Handshake::proxy`](crate::Handshake::proxy) has it for the program.
///
/// A [resolver](crate::Builder::resolver) also looks up the name of the proxy.
///
/// [`connect`](crate::Client::connect) and [`start`](crate::Client::start) check it: what can't be used is an
/// [`Error::InvalidConfig`] about the setting `proxy`. No text, and neither `Debug` nor `Display`, shows the login or the
/// value of a header.
#[derive(Clone)]
pub struct Proxy {
    /// The URL; `None` for those of the environment.
    url: Option<Box<str>>,
    login: Option<Login>,
    headers: Vec<(String, String)>,
    /// The list of servers that are reached without it.
    past: Option<Box<str>>,
    tls: TlsConfig,
}

/// How one speaks with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
    /// The client looks up the server's name.
    Socks5,
    /// The proxy does.
    Socks5h,
}

/// A proxy, parsed into something that can't be wrong.
#[derive(Clone)]
pub(crate) struct Via {
    pub(crate) scheme: Scheme,
    pub(crate) endpoint: Endpoint,
    /// User and password. With HTTP, they are among the headers, too.
    pub(crate) login: Option<Login>,
    /// What CONNECT says beside the target.
    pub(crate) headers: Vec<(String, String)>,
    /// For a proxy that is reached over TLS.
    pub(crate) tls: TlsConfig,
    pub(crate) secrets: Secrets,
}

/// How many bytes a SOCKS proxy takes of the name of a host (RFC 1928), and of a user name and a password (RFC 1929).
const LONGEST: usize = 255;

impl Proxy {
    /// A proxy with this URL: `scheme://user:password@host:port`. Without a scheme it is `http`, and user and password may
    /// be left out. Of their characters, `/`, `?`, `#` and `%` must be percent-encoded, and others may be;
    /// [`login`](Self::login) takes them as they are.
    ///
    /// | scheme | the proxy | default port |
    /// |---|---|---|
    /// | `http` | HTTP CONNECT | 80 |
    /// | `https` | HTTP CONNECT, over TLS to the proxy | 443 |
    /// | `socks5` | SOCKS 5; the client looks up the server's name, and the proxy gets its first address | 1080 |
    /// | `socks5h` | SOCKS 5; the proxy looks up the server's name, which this machine need not know | 1080 |
    ///
    /// ```
    /// use tautline::Proxy;
    ///
    /// let proxy = Proxy::new("socks5h://ann:secret@127.0.0.1:9050");
    /// assert_eq!(proxy.to_string(), "socks5h://127.0.0.1:9050");
    /// ```
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: Some(url.into().into()),
            login: None,
            headers: Vec::new(),
            past: None,
            tls: TlsConfig::default(),
        }
    }

    /// The proxy that the process's environment names, if it names one. It is read once, by
    /// [`connect`](crate::Client::connect) or [`start`](crate::Client::start), and the log says at the level info which
    /// variable sends the client through which proxy, or past it.
    ///
    /// | for | variables, of which the first that is set counts |
    /// |---|---|
    /// | `wss://` | `WSS_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` |
    /// | `ws://` | `WS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` |
    /// | servers that are reached without a proxy: see [`no_proxy`](Self::no_proxy) | `NO_PROXY` |
    ///
    /// Of each name, the lower-case form counts before the upper-case form, and an empty value is none. Their values are
    /// URLs as [`new`](Self::new) takes them. One that can't be used, in `NO_PROXY` as well, is an error that names the
    /// variable.
    ///
    /// `HTTP_PROXY` in upper case is ignored where `REQUEST_METHOD` is set: in a CGI program it holds the header `Proxy` of
    /// whoever sent the request ([httpoxy](https://httpoxy.org), CVE-2016-5385). On Windows, where case makes no
    /// difference, `http_proxy` is ignored there, too.
    ///
    /// ```
    /// use tautline::{ConnectionConfig, Proxy};
    ///
    /// let config = ConnectionConfig::new("wss://gateway.example").proxy(Proxy::from_env());
    /// # let _ = config;
    /// ```
    pub fn from_env() -> Self {
        Self { url: None, login: None, headers: Vec::new(), past: None, tls: TlsConfig::default() }
    }

    /// Sets TLS with an `https` proxy: other roots, a client certificate, a fingerprint. By default the proxy must have a
    /// certificate that the operating system trusts. TLS with the server has
    /// [settings of its own](field@crate::ConnectionConfig::tls).
    ///
    /// ```no_run
    /// use tautline::{Certificate, Proxy, TlsConfig};
    ///
    /// let root = Certificate::from_pem(std::fs::read("corp-ca.pem")?);
    /// let proxy = Proxy::new("https://proxy.corp.example").tls(TlsConfig::default().root(root));
    /// # drop(proxy);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn tls(mut self, tls: impl Into<TlsConfig>) -> Self {
        self.tls = tls.into();
        self
    }

    /// Logs in at the proxy, in place of the user and password of its URL: by HTTP Basic (RFC 7617), for which the user
    /// must not contain a colon, or with SOCKS by user and password (RFC 1929), each of 255 bytes at most. Default: no
    /// login but that of the URL.
    ///
    /// ```
    /// use tautline::Proxy;
    ///
    /// let proxy = Proxy::new("proxy.corp.example:3128").login("ann", "secret");
    /// assert!(!format!("{proxy:?}").contains("secret"));
    /// ```
    pub fn login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.login = Some((user.into().into(), password.into().into()));
        self
    }

    /// Adds a header to the CONNECT request. Only the proxy sees it. `Host` and `Proxy-Authorization` replace the client's
    /// own, and so the latter replaces the login. A SOCKS proxy takes no headers: with one, they are an error.
    ///
    /// ```
    /// use tautline::Proxy;
    ///
    /// let proxy = Proxy::new("http://proxy.corp.example:3128").header("Proxy-Authorization", "Bearer …");
    /// # let _ = proxy;
    /// ```
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets which servers are reached without the proxy. With [`from_env`](Self::from_env) they come in addition to those
    /// of `NO_PROXY`, whose value has the same form. Default: none.
    ///
    /// The list has commas or white space between its entries. Case makes no difference, and neither does a dot at the end.
    ///
    /// | entry | matches |
    /// |---|---|
    /// | `*` | every server |
    /// | `corp.example`, `.corp.example` or `*.corp.example` | `corp.example` and every name below it |
    /// | `10.1.2.3`, `::1` or `[::1]` | this address, with any zone |
    /// | `fe80::1%eth0` | this address with this zone |
    /// | `10.0.0.0/8` or `fd00::/8` | the addresses of this block (CIDR) |
    /// | any of the first four with a port, such as `corp.example:8080` or `[::1]:80` | the same at this port |
    ///
    /// An entry may be a URL without a path: its scheme makes no difference. An entry that can't be read is an error. One that
    /// may mean something else, such as `fd00::1:80`, which is an address without a port, or `192.168.`, which is a name,
    /// matches as the table says, and the log warns of it at the start.
    ///
    /// A server is matched as its URL has it: a name is not looked up, so no address matches it. `localhost` is a name like
    /// any other, and goes through the proxy if it is not in the list.
    ///
    /// ```
    /// use tautline::Proxy;
    ///
    /// let proxy = Proxy::from_env().no_proxy("localhost, 127.0.0.0/8, .corp.example");
    /// # let _ = proxy;
    /// ```
    pub fn no_proxy(mut self, list: impl Into<String>) -> Self {
        self.past = Some(list.into().into());
        self
    }

    /// Checks what does not depend on the environment.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_tls(TlsConfig::check)?;
        // With no variable set.
        self.ways(&|_| None).map(drop)
    }

    /// The settings of TLS with the proxy.
    pub(crate) fn tls_config(&self) -> &TlsConfig {
        &self.tls
    }

    /// Checks them.
    pub(crate) fn check_tls<T>(&self, check: fn(&TlsConfig) -> Result<T, Error>) -> Result<T, Error> {
        check(&self.tls).map_err(|error| match error {
            Error::InvalidConfig { setting, reason } => {
                let reason = format!("its own {setting} can't be used: {reason}").into();
                Error::InvalidConfig { setting: "proxy", reason }
            }
            other => other,
        })
    }

    /// The proxy with this URL, and with what this configuration adds to it. The error says what is wrong with it.
    fn via(&self, url: &str) -> Result<Arc<Via>, String> {
        let (scheme, endpoint, login) = parse(url)?;
        if let (Scheme::Https, Some(reason)) = (scheme, MISSING) {
            return Err(reason.into());
        }
        let login = match &self.login {
            Some((user, password)) => Some((user.clone(), password.clone())),
            None => login,
        };
        let login = login.filter(|(user, password)| !user.is_empty() || !password.is_empty());
        let http = matches!(scheme, Scheme::Http | Scheme::Https);
        if let Some((user, password)) = &login {
            check_login(http, user, password)?;
        }
        if let Some((name, _)) = self.headers.first().filter(|_| !http) {
            let name = shown_name(name);
            return Err(format!("it has the header {name:?}, and a SOCKS proxy takes no headers"));
        }
        let mut headers = self.headers.clone();
        let given = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION));
        let basic = login.as_ref().map(|(user, password)| {
            let basic = BASE64.encode(format!("{user}:{password}").as_bytes());
            (AUTHORIZATION.to_owned(), format!("Basic {basic}"))
        });
        // A login for SOCKS is as secret as one for HTTP.
        let all: Vec<_> = headers.iter().chain(&basic).cloned().collect();
        let secrets = Secrets::of("", &all, &[]);
        headers.splice(..0, basic.filter(|_| !given));
        Ok(Arc::new(Via { scheme, endpoint, login, headers, tls: self.tls.clone(), secrets }))
    }
}

impl Via {
    /// Whether TLS is spoken with the proxy.
    pub(crate) fn is_secure(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// Refuses a server that this proxy can't be asked for.
    pub(crate) fn check_target(&self, target: &Endpoint) -> Result<(), Error> {
        if target.zone.is_some() {
            let reason = format!(
                "{target} has a zone, the name of a network interface of this machine, which means nothing at the proxy \
                 {self}; leave the zone out, or name the address in no_proxy"
            );
            return Err(Error::InvalidUrl { reason: reason.into() });
        }
        if self.scheme == Scheme::Socks5h && target.host.len() > LONGEST {
            return Err(too_long(target));
        }
        Ok(())
    }
}

/// The error of a host whose name a SOCKS proxy does not take.
pub(crate) fn too_long(target: &Endpoint) -> Error {
    let length = target.host.len();
    let reason = format!("its host has {length} bytes; a SOCKS proxy takes names of {LONGEST} bytes at most");
    Error::InvalidUrl { reason: reason.into() }
}

/// The header that a proxy wants a login in.
const AUTHORIZATION: &str = "Proxy-Authorization";

impl Scheme {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.endpoint)
    }
}

/// Scheme and port, without a login.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.url.as_deref().map(parse) {
            None => f.write_str("the proxy of the environment"),
            Some(Err(_)) => f.write_str("unusable"),
            Some(Ok((scheme, endpoint, _))) => write!(f, "{}://{endpoint}", scheme.name()),
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| shown_name(name)).collect();
        let in_url =
            self.url.as_deref().is_some_and(|url| parse(url).is_ok_and(|(.., login)| login.is_some()));
        f.debug_struct("Proxy")
            .field("url", &format_args!("{self}"))
            .field("login", &(self.login.is_some() || in_url))
            .field("headers", &headers)
            .field("no_proxy", &self.past.is_some())
            .field("tls", &self.tls)
            .finish()
    }
}

/// A user and a password.
pub(crate) type Login = (Box<str>, Box<str>);

const SCHEMES: &str = "it must be http://, https://, socks5:// or socks5h://";

/// Takes a URL apart. The error repeats nothing of it but a well-known scheme: any other part may hold a password.
fn parse(url: &str) -> Result<(Scheme, Endpoint, Option<Login>), String> {
    if url.is_empty() {
        return Err("it is empty".into());
    }
    if let Some(at) = url.find(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("white space or a control character at byte {at}"));
    }
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '#', '@']) => (scheme, rest),
        _ => ("http", url),
    };
    let (scheme, port) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (Scheme::Http, 80),
        "https" => (Scheme::Https, 443),
        "socks5" => (Scheme::Socks5, 1080),
        "socks5h" => (Scheme::Socks5h, 1080),
        other @ ("socks" | "socks4" | "socks4a") => {
            return Err(format!("its scheme is {other}://, which is SOCKS 4; {SCHEMES}"));
        }
        other @ ("ws" | "wss" | "ftp" | "quic" | "direct") => {
            return Err(format!("its scheme is {other}://; {SCHEMES}"));
        }
        _ => return Err(format!("its scheme is an unknown one; {SCHEMES}")),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if is_cut(authority, path) {
        return Err(format!("it has an '@' behind its host and port; {CUT}"));
    }
    let (userinfo, authority) = match authority.rsplit_once('@') {
        Some((userinfo, authority)) => (Some(userinfo), authority),
        None => (None, authority),
    };
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(host, port)| !port.is_empty() && (!host.starts_with('[') || host.ends_with(']')));
    let port = if has_port { String::new() } else { format!(":{port}") };
    let endpoint =
        format!("ws://{}{port}", if has_port { authority } else { authority.trim_end_matches(':') });
    let reason = |error| match error {
        Error::InvalidUrl { reason } => String::from(reason),
        other => other.to_string(),
    };
    let endpoint = Endpoint::parse(&endpoint).map_err(reason)?;
    if !matches!(path, "" | "/") {
        return Err("something follows its host and port, which only an empty path may".into());
    }
    let login = |userinfo: &str| -> Result<Login, String> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        Ok((decode(user, LOGIN).map_err(reason)?, decode(password, LOGIN).map_err(reason)?))
    };
    Ok((scheme, endpoint, userinfo.map(login).transpose()?))
}

fn check_login(http: bool, user: &str, password: &str) -> Result<(), String> {
    if http {
        if user.contains(':') {
            return Err("its user name has a colon, which Basic credentials can't carry; log in as another user, or by a \
                 header of your own"
                .into());
        }
        if user.chars().chain(password.chars()).any(char::is_control) {
            return Err(
                "its user name or password has a control character, which Basic credentials can't carry"
                    .into(),
            );
        }
        return Ok(());
    }
    if user.is_empty() {
        return Err("it has a password and no user name, which a SOCKS proxy does not take".into());
    }
    for (what, part) in [("user name", user), ("password", password)] {
        if part.len() > LONGEST {
            let length = part.len();
            return Err(format!("its {what} has {length} bytes; a SOCKS proxy takes {LONGEST} at most"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
