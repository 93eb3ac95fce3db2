//! What the program is told by its arguments.

use std::error::Error as StdError;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::LevelFilter;
use tautline::{
    AddressFamily, Certificate, Client, ConnectionConfig, Error, HeartbeatConfig, Identity, Proxy, Stream,
    TlsConfig,
};

use super::complain;

const HELP: &str = "\
wscat [options] URL           sends lines of stdin to a WebSocket server, prints its messages on stdout

--header 'NAME: VALUE'        a header of the upgrade request (repeatable)
--subprotocol NAME            a subprotocol to offer, the preferred one first (repeatable)
--heartbeat SECONDS|json|off  a WebSocket ping every SECONDS (default 5) and behind what was sent, to learn whether
                              that has arrived; or {\"type\":\"ping\"} every 30 s
--connect-timeout SECONDS     how long an attempt to connect may take (default 10)
--no-reconnect                ends when the line is lost. Without it the line is brought back, however
                              long it takes, and what is typed waits; only the first attempt must succeed
--follow                      follows up to 10 redirects of an attempt
--proxy URL|env               goes through this proxy (http://, https://, socks5://, socks5h://), or through the one that
                              HTTPS_PROXY and its kin name
--proxy-ca FILE, --proxy-cert FILE, --proxy-key FILE, --proxy-insecure
                              --ca, --cert, --key and --insecure for an https:// proxy
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
-v, -vv                       shows on stderr how long each phase of an attempt took, the headers of the answer, the
                              body of one that refuses, and the library's log: level info, debug
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
    unix: Option<PathBuf>, // a socket to connect to instead of the host of the URL
    flags: Vec<String>,
}

impl Options {
    /// Makes the first attempt.
    pub(crate) fn connect(&self) -> Result<Client, Error> {
        let builder = Client::builder(&self.config);
        match self.unix.clone() {
            Some(path) => builder.connector(move |_| socket_at(&path)).connect(),
            None => builder.connect(),
        }
    }

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
                        "env" => Proxy::from_env(),
                        url => Proxy::new(url),
                    });
                }
                "--proxy-ca" => proxys.get_or_insert_default().trust(&value()?)?,
                "--proxy-insecure" => {
                    proxys.get_or_insert_default().config.danger_accept_invalid_certs = true;
                }
                "--proxy-cert" => proxys.get_or_insert_default().cert = Some(read(&value()?)?),
                "--proxy-key" => proxys.get_or_insert_default().key = Some(read(&value()?)?),
                "--unix" => unix = Some(value()?.into()),
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
        if unix.is_some() && (config.network.family, config.network.local_address) != Default::default() {
            return Err("--unix connects to no address: leave out -4, -6 and --bind".into());
        }
        config.tls = server.finish("").ok_or("--cert and --key need each other")?;
        config.proxy = match (proxy, proxys) {
            (None, Some(_)) => return Err("--proxy-ca and its kin need --proxy".into()),
            (Some(proxy), Some(tls)) => {
                let tls =
                    tls.finish(" of the proxy").ok_or("--proxy-cert and --proxy-key need each other")?;
                Some(proxy.tls(tls))
            }
            (proxy, None) => proxy,
        };
        Ok(Some(Self { config, wait, log, unix, flags }))
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

#[cfg(unix)]
fn socket_at(path: &Path) -> io::Result<Stream> {
    std::os::unix::net::UnixStream::connect(path).map(Stream::from)
}

#[cfg(not(unix))]
fn socket_at(_: &Path) -> io::Result<Stream> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no Unix sockets"))
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{file}: {error}"))
}

fn seconds(option: &str, text: &str) -> Result<Duration, String> {
    let duration = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("{option} {text:?} is no number of seconds"))
}
