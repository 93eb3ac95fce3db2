//! How the server is reached.

use std::net::IpAddr;
use std::{env, path};

use tautline::{AddressFamily, Certificate, ConnectionConfig, Identity, Proxy, TlsConfig};

use super::super::complain;
use super::{address, read, text_or_file};

/// How many redirects `--follow` allows.
const REDIRECTS: u32 = 10;

#[derive(clap::Args)]
#[command(next_help_heading = "Way to the server")]
pub(super) struct Reach {
    /// A header; @FILE for those of a file, without its # lines
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A header with the value of a variable of the environment
    #[arg(long, value_name = "NAME=VARIABLE")]
    header_env: Vec<String>,
    /// The header Origin
    #[arg(short, long)]
    origin: Option<String>,
    /// A subprotocol to offer, the preferred one first (repeatable)
    #[arg(short, long, value_name = "NAME")]
    subprotocol: Vec<String>,
    /// Follows up to 10 redirects of an attempt
    #[arg(short = 'L', long, alias = "location")]
    follow: bool,
    /// A proxy (http, https, socks5, socks5h); env: the environment's
    #[arg(long, value_name = "URL|env")]
    proxy: Option<String>,
    /// Connects to this Unix socket instead of the URL's host
    #[arg(long, value_name = "PATH")]
    unix: Option<String>,
    /// Connects from this address
    #[arg(long, value_name = "ADDRESS", value_parser = ip)]
    bind: Option<IpAddr>,
    /// Connects by IPv4 only
    #[arg(short = '4', conflicts_with = "six")]
    four: bool,
    /// Connects by IPv6 only
    #[arg(short = '6')]
    six: bool,
    #[command(flatten)]
    tls: Server,
    #[command(flatten)]
    proxy_tls: Between,
}

/// TLS with the server.
#[derive(clap::Args)]
struct Server {
    /// Trusts the root certificates in this PEM file, too
    #[arg(long, value_name = "FILE")]
    ca: Vec<String>,
    /// Shows this certificate (PEM, with those up to its root)
    #[arg(long, value_name = "FILE")]
    cert: Option<String>,
    /// The key of that certificate (PEM, PKCS#8)
    #[arg(long, value_name = "FILE")]
    key: Option<String>,
    /// Wants a certificate with this SHA-256 fingerprint (openssl)
    #[arg(long, value_name = "FINGERPRINT")]
    pin: Vec<String>,
    /// Asks for this host, and checks the certificate for it
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,
    /// Accepts any certificate; with --pin, any that is pinned
    #[arg(short = 'n', long, alias = "no-check")]
    insecure: bool,
}

/// TLS with a proxy.
#[derive(clap::Args)]
#[expect(clippy::struct_field_names, reason = "their names are those of the options")]
struct Between {
    /// For a proxy; also --proxy-cert, -key, -pin, -sni, -insecure
    #[arg(long, value_name = "FILE")]
    proxy_ca: Vec<String>,
    #[arg(long, value_name = "FILE", hide = true)]
    proxy_cert: Option<String>,
    #[arg(long, value_name = "FILE", hide = true)]
    proxy_key: Option<String>,
    #[arg(long, value_name = "FINGERPRINT", hide = true)]
    proxy_pin: Vec<String>,
    #[arg(long, value_name = "NAME", hide = true)]
    proxy_sni: Option<String>,
    #[arg(long, hide = true)]
    proxy_insecure: bool,
}

impl Reach {
    /// `is_quiet`: a scheme that was added is not told.
    pub(super) fn apply(self, config: &mut ConnectionConfig, is_quiet: bool) -> Result<(), String> {
        if let Some(url) = address::completed(&config.url) {
            if !is_quiet {
                complain(0, &format!("the URL has no scheme, and is taken for {}", without_login(&url)));
            }
            config.url = url;
        }
        for header in self.header {
            let text = text_or_file(&header)?;
            // What it says may be a secret, and is not shown.
            let pair = |line: &str, place: &str| {
                let pair = line.split_once(':').map(|(name, value)| (name.into(), value.trim().into()));
                pair.ok_or_else(|| format!("{place}a header has no colon: give --header 'NAME: VALUE'"))
            };
            let Some(file) = header.strip_prefix('@') else {
                config.headers.push(pair(&text, "")?);
                continue;
            };
            let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).zip(1..);
            for (line, number) in lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#')) {
                config.headers.push(pair(line, &format!("{file}, line {number}: "))?);
            }
        }
        for header in self.header_env {
            // Its value in the place of its name would be a secret.
            let (name, variable) = header.split_once('=').ok_or("give --header-env NAME=VARIABLE")?;
            let value = env::var_os(variable)
                .ok_or_else(|| format!("--header-env: the variable for {name} is not set"))?;
            let value = value
                .into_string()
                .map_err(|_| format!("--header-env: the variable for {name} is no UTF-8"))?;
            config.headers.push((name.into(), value));
        }
        config.headers.extend(self.origin.map(|origin| ("Origin".into(), origin)));
        config.subprotocols = self.subprotocol;
        config.redirects = if self.follow { REDIRECTS } else { 0 };
        config.network.local_address = self.bind;
        config.network.family = match (self.four, self.six) {
            (true, _) => AddressFamily::Ipv4Only,
            (_, true) => AddressFamily::Ipv6Only,
            _ => AddressFamily::default(),
        };
        config.tls = self.tls.config("")?.unwrap_or_default();
        lead_to_socket(config, self.unix.as_deref(), self.proxy.is_some())?;
        config.proxy = proxy(self.proxy.as_deref(), self.proxy_tls.server())?;
        Ok(())
    }
}

impl Between {
    /// The same for a proxy, which is the server of its own TLS.
    fn server(self) -> Server {
        Server {
            ca: self.proxy_ca,
            cert: self.proxy_cert,
            key: self.proxy_key,
            pin: self.proxy_pin,
            sni: self.proxy_sni,
            insecure: self.proxy_insecure,
        }
    }
}

impl Server {
    /// Warns if anybody is trusted. `None` if nothing is set. `whose` is what the options begin with.
    fn config(self, whose: &str) -> Result<Option<TlsConfig>, String> {
        let mut config = TlsConfig::default();
        for file in &self.ca {
            let pem = read(file)?;
            if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
                return Err(format!("{file}: it has no certificate in PEM"));
            }
            config.roots.push(Certificate::from_pem(pem));
        }
        config.identity = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some(Identity::from_pem(read(&cert)?, read(&key)?)),
            (None, None) => None,
            _ => return Err(format!("--{whose}cert and --{whose}key need each other")),
        };
        config.pins = self.pin.into_iter().map(Into::into).collect();
        config.server_name = self.sni;
        config.danger_accept_invalid_certs = self.insecure;
        let is_set = config.identity.is_some() || config.server_name.is_some() || self.insecure;
        if self.insecure && config.pins.is_empty() {
            let of_whom = if whose.is_empty() { "" } else { " of the proxy" };
            complain(0, &format!("warning: any certificate{of_whom} is accepted"));
        }
        Ok((is_set || !config.roots.is_empty() || !config.pins.is_empty()).then_some(config))
    }
}

fn proxy(url: Option<&str>, tls: Server) -> Result<Option<Proxy>, String> {
    let tls = tls.config("proxy-")?;
    let (proxy, may_have_tls) = match url {
        None if tls.is_some() => return Err("--proxy-ca and its kin need --proxy".into()),
        None => return Ok(None),
        Some("env") => (Proxy::from_env(), true),
        // Without a scheme it is http://.
        Some(url) => (Proxy::new(url), url.to_ascii_lowercase().starts_with("https://")),
    };
    Ok(Some(match tls {
        Some(_) if !may_have_tls => {
            return Err("--proxy-ca and its kin are for a proxy whose URL begins with https://".into());
        }
        Some(tls) => proxy.tls(tls),
        None => proxy,
    }))
}

fn ip(text: &str) -> Result<IpAddr, &'static str> {
    text.parse().map_err(|_| "it is no IP address")
}

/// A URL as it may be shown: without user and password.
fn without_login(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let (authority, _) = rest.split_at(end);
            format!("{scheme}://{}", authority.rsplit('@').next().unwrap_or_default())
        }
        None => url.to_owned(),
    }
}

/// Puts the Unix socket at `path`, if there is one, into the place of the URL's host, which the server and TLS still get to know.
/// Refuses what has no meaning on the way to a socket.
fn lead_to_socket(config: &mut ConnectionConfig, path: Option<&str>, by_proxy: bool) -> Result<(), String> {
    let has_socket = config.url.split_once(':').is_some_and(|(scheme, _)| scheme.ends_with("+unix"));
    if !has_socket && path.is_none() {
        return Ok(());
    }
    if (config.network.family, config.network.local_address) != Default::default() {
        return Err("a Unix socket has no address: leave out -4, -6 and --bind".into());
    }
    if by_proxy {
        return Err("a Unix socket is reached without a proxy: leave out --proxy".into());
    }
    let Some(path) = path else { return Ok(()) };
    if has_socket {
        return Err("the URL names a Unix socket itself: leave out --unix".into());
    }
    if config.redirects > 0 {
        return Err("--unix goes to no host that --follow may lead to: leave out one of them".into());
    }
    let (scheme, rest) = config
        .url
        .split_once("://")
        .filter(|(scheme, _)| ["ws", "wss"].contains(&&*scheme.to_ascii_lowercase()))
        .ok_or("with --unix, the URL must begin with ws:// or wss://")?;
    let (host, resource) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if host.is_empty() {
        return Err("with --unix, the URL still needs a host, such as localhost".into());
    }
    if host.contains('@') {
        return Err(
            "with --unix, user and password can't stand in the URL: give --header 'Authorization: …'".into(),
        );
    }
    let path = path::absolute(path).map_err(|error| format!("--unix {path}: {error}"))?;
    let mut url = format!("{scheme}+unix:");
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => url.push(byte.into()),
            _ => url.extend(["%".into(), format!("{byte:02X}")]),
        }
    }
    url.extend([":", resource]);
    if !config.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Host")) {
        config.headers.push(("Host".into(), host.into()));
    }
    let name = match host.strip_prefix('[') {
        Some(address) => address.split(']').next(),
        None => host.split(':').next(),
    };
    if scheme.eq_ignore_ascii_case("wss") {
        config.tls.server_name = config.tls.server_name.take().or(name.map(Into::into));
    }
    config.url = url;
    Ok(())
}
