//! What the program is told by its arguments.

use std::error::Error as StdError;
use std::ffi::OsString;
use std::io::{self, Write};
use std::time::Duration;
use std::{fs, path};

use log::LevelFilter;
use tautline::{
    AddressFamily, Certificate, Compression, ConnectionConfig, HeartbeatConfig, Identity, Proxy, TlsConfig,
};

use super::complain;

const HELP: &str = "\
wscat [options] URL           sends lines of stdin to a WebSocket server, prints its messages on stdout

--header 'NAME: VALUE'        a header of the upgrade request (repeatable)
--subprotocol NAME            a subprotocol to offer, the preferred one first (repeatable)
--compress, --compress=LEVEL  offers compression (permessage-deflate), from level 1, which is fast, to 9, which is small
--heartbeat SECONDS|json|off  a WebSocket ping every SECONDS (default 5) and behind what was sent, to learn whether
                              that has arrived; or {\"type\":\"ping\"} every 30 s
--connect-timeout SECONDS     how long an attempt to connect may take (default 10)
--no-reconnect                ends when the line is lost. Without it the line is brought back, however
                              long it takes, and what is typed waits; only the first attempt must succeed
--follow                      follows up to 10 redirects of an attempt
--proxy URL|env               goes through this proxy (http://, https://, socks5://, socks5h://), or through the one that
                              HTTPS_PROXY and its kin name
--proxy-ca FILE, --proxy-cert FILE, --proxy-key FILE, --proxy-pin FINGERPRINT, --proxy-sni NAME, --proxy-insecure
                              --ca, --cert, --key, --pin, --sni and --insecure for an https:// proxy
--unix PATH                   connects to this Unix socket instead of the URL's host
--bind ADDRESS, -4, -6        connects from this address; only by IPv4; only by IPv6
--ca FILE                     trusts the root certificates in this PEM file too (repeatable)
--cert FILE, --key FILE       shows this certificate (PEM, with those up to its root) and has its key (PEM, PKCS#8)
--pin FINGERPRINT             wants a certificate with this SHA-256 fingerprint, as openssl prints it (repeatable)
--sni NAME                    asks for this host, and checks the certificate for it
--insecure                    accepts any certificate; with --pin, any that is pinned
--binary                      sends lines as binary messages; without it they must be UTF-8
--raw                         prints messages as they are: binary not in hex and without a newline, text
                              also on a terminal with what that would obey or hide: control characters,
                              changes of the writing direction, what has no width
--json                        lays messages that are JSON out over several lines, keys in order
--once                        prints one message, and ends once stdin has (a terminal's needn't)
--wait SECONDS                goes on so long after the end of stdin. Without it: until all is sent and
                              nothing has come for 1 s; with --once, until the message comes
-v, -vv                       shows on stderr how long each phase of an attempt took, what was agreed on about
                              compression, the headers of the answer, the body of one that refuses, and the library's log: level info, debug
-q                            shows no status on stderr (coloured on a terminal unless NO_COLOR is set)
--help, --version, --         this; the version; nothing that follows is an option

Exit codes: 0  stdin has ended and all has arrived, or the server closed with 1000, or stdout was closed
            1  could not connect
            2  the options can't be used
            3  the line is lost for good, the server closed with another code, or --once got no message
            4  lines were not delivered, or perhaps not: stderr says how many
          130  Ctrl-C, or a signal to end: the line is closed first; at once when asked for twice
";

/// How many redirects `--follow` allows.
const REDIRECTS: u32 = 10;

pub(crate) struct Options {
    pub(crate) config: ConnectionConfig,
    pub(crate) wait: Option<Duration>, // how long to receive after the end of stdin, if set
    pub(crate) log: Option<LevelFilter>,
    flags: Vec<String>,
}

impl Options {
    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    /// Returns `None` after showing a text, such as the help.
    pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Option<Self>, Box<dyn StdError>> {
        let mut args =
            args.map(|arg| arg.into_string().map_err(|arg| format!("{} is no UTF-8", arg.display())));
        let (mut config, mut wait, mut log, mut flags) = (ConnectionConfig::new(""), None, None, Vec::new());
        let (mut urls, mut unix) = (Vec::new(), None);
        let (mut server, mut proxy, mut proxys) = (Tls::default(), None, None::<Tls>);
        config.heartbeat.interval = Duration::from_secs(5);
        while let Some(arg) = args.next().transpose()? {
            let mut value = || args.next().transpose()?.ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--header" => {
                    let header = value()?;
                    let (name, value) = header.split_once(':').ok_or(format!("no colon in {header:?}"))?;
                    config.headers.push((name.into(), value.trim().into()));
                }
                "--subprotocol" => config.subprotocols.push(value()?),
                "--heartbeat" => {
                    config.heartbeat = match value()?.as_str() {
                        "json" => HeartbeatConfig::json(),
                        "off" => HeartbeatConfig::off(),
                        text => HeartbeatConfig::default().interval(seconds(&arg, text)?),
                    }
                }
                "--connect-timeout" => config.connect_timeout = seconds(&arg, &value()?)?,
                "--no-reconnect" => config.reconnect = tautline::ReconnectConfig::never(),
                "--ca" => server.trust(&value()?)?,
                "--insecure" => server.config.danger_accept_invalid_certs = true,
                "--cert" => server.cert = Some(read(&value()?)?),
                "--key" => server.key = Some(read(&value()?)?),
                "--pin" => server.config.pins.push(value()?.into()),
                "--sni" => server.config.server_name = Some(value()?),
                "--proxy" => {
                    proxy = Some(match value()?.as_str() {
                        "env" => (Proxy::from_env(), true),
                        // Without a scheme it is http://.
                        url => (Proxy::new(url), url.to_ascii_lowercase().starts_with("https://")),
                    });
                }
                "--proxy-pin" => proxys.get_or_insert_default().config.pins.push(value()?.into()),
                "--proxy-sni" => proxys.get_or_insert_default().config.server_name = Some(value()?),
                "--proxy-ca" => proxys.get_or_insert_default().trust(&value()?)?,
                "--proxy-insecure" => {
                    proxys.get_or_insert_default().config.danger_accept_invalid_certs = true;
                }
                "--proxy-cert" => proxys.get_or_insert_default().cert = Some(read(&value()?)?),
                "--proxy-key" => proxys.get_or_insert_default().key = Some(read(&value()?)?),
                "--unix" => unix = Some(value()?),
                "--bind" => {
                    let text = value()?;
                    let address = text.parse().map_err(|_| format!("--bind {text:?} is no IP address"))?;
                    config.network.local_address = Some(address);
                }
                "--follow" => config.redirects = REDIRECTS,
                "-4" | "-6" => {
                    let only = if arg == "-4" { AddressFamily::Ipv4Only } else { AddressFamily::Ipv6Only };
                    if ![AddressFamily::default(), only].contains(&config.network.family) {
                        return Err("-4 and -6 exclude each other: give one of them, or none".into());
                    }
                    config.network.family = only;
                }
                "--wait" => wait = Some(seconds(&arg, &value()?)?),
                "-v" | "-vv" => log = Some(if arg == "-v" { LevelFilter::Info } else { LevelFilter::Debug }),
                "--compress" => config.compression = Some(Compression::default()),
                _ if arg.starts_with("--compress=") => {
                    let level = &arg["--compress=".len()..];
                    let level = level.parse().map_err(|_| format!("{arg}: {level:?} is no level"))?;
                    config.compression = Some(Compression::default().level(level));
                }
                "--binary" | "--raw" | "--json" | "--once" | "-q" => flags.push(arg),
                "--help" | "--version" => {
                    let out =
                        if arg == "--help" { HELP } else { concat!("wscat ", env!("CARGO_PKG_VERSION")) };
                    writeln!(io::stdout(), "{}", out.trim_end()).ok(); // a closed stdout needs no text
                    return Ok(None);
                }
                "--" => urls.extend(args.by_ref().collect::<Result<Vec<_>, _>>()?),
                _ if arg.starts_with('-') => return Err(format!("there is no option {arg}").into()),
                _ => urls.push(arg),
            }
        }
        let [url] = <[_; 1]>::try_from(urls).map_err(|urls| format!("give one URL, not {}", urls.len()))?;
        config.url = url;
        config.tls = server.finish("").ok_or("--cert and --key need each other")?;
        lead_to_socket(&mut config, unix.as_deref(), proxy.is_some())?;
        config.proxy = match (proxy, proxys) {
            (None, Some(_)) => return Err("--proxy-ca and its kin need --proxy".into()),
            (Some((_, false)), Some(_)) => {
                return Err("--proxy-ca and its kin are for a proxy whose URL begins with https://".into());
            }
            (Some((proxy, true)), Some(tls)) => {
                let tls =
                    tls.finish(" of the proxy").ok_or("--proxy-cert and --proxy-key need each other")?;
                Some(proxy.tls(tls))
            }
            (proxy, None) => proxy.map(|(proxy, _)| proxy),
        };
        Ok(Some(Self { config, wait, log, flags }))
    }
}

/// TLS with the server, or with the proxy.
#[derive(Default)]
struct Tls {
    config: TlsConfig,
    cert: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
}

impl Tls {
    fn trust(&mut self, file: &str) -> Result<(), String> {
        let pem = read(file)?;
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(format!("{file}: it has no certificate in PEM"));
        }
        self.config.roots.push(Certificate::from_pem(pem));
        Ok(())
    }

    /// Warns if anybody is trusted. `None` if either the certificate or its key is missing.
    fn finish(mut self, whose: &str) -> Option<TlsConfig> {
        self.config.identity = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some(Identity::from_pem(cert, key)),
            (None, None) => None,
            _ => return None,
        };
        if self.config.danger_accept_invalid_certs && self.config.pins.is_empty() {
            complain(0, &format!("warning: any certificate{whose} is accepted"));
        }
        Some(self.config)
    }
}

/// Puts the Unix socket at `path`, if there is one, into the place of the URL's host, which the server and TLS still get to know.
/// Refuses what has no meaning on the way to a socket.
fn lead_to_socket(
    config: &mut ConnectionConfig,
    path: Option<&str>,
    by_proxy: bool,
) -> Result<(), Box<dyn StdError>> {
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

fn read(file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{file}: {error}"))
}

fn seconds(option: &str, text: &str) -> Result<Duration, String> {
    let duration = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("{option} {text:?} is no number of seconds"))
}
