//! A WebSocket client for the command line: `cargo run --example wscat -- --help`.
#![allow(clippy::disallowed_methods, reason = "a program owns its clock")]

use std::error::Error as StdError;
use std::ffi::OsString;
use std::io::{self, BufRead, BufWriter, ErrorKind, IsTerminal, Read, StdoutLock, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs, mem, thread};

use crossbeam_channel::{Receiver, RecvError, Sender, bounded, never, select, tick};
use log::LevelFilter;
use native_tls::{Certificate, TlsConnector};
use tautline::ConnectionState::{self, Closed, Closing, Connected, Connecting, Disconnected};
use tautline::{Beat, Client, CloseReason, ConnectionConfig, Error, Event, HeartbeatConfig, Message};

const HELP: &str = "\
wscat [options] URL           sends lines of stdin to a WebSocket server, prints its messages on stdout

--header 'NAME: VALUE'        a header of the upgrade request (repeatable)
--subprotocol NAME            a subprotocol to offer, the preferred one first (repeatable)
--heartbeat SECONDS|json|off  a WebSocket ping every SECONDS (default 5), or {\"type\":\"ping\"} every 30 s
--connect-timeout SECONDS     how long an attempt to connect may take (default 10)
--no-reconnect                ends when the line is lost. Without it the line is brought back, however
                              long it takes, and what is typed waits; only the first attempt must succeed
--ca FILE                     trusts the root certificate in this PEM file too (repeatable)
--insecure                    accepts any certificate
--binary                      sends lines as binary messages; without it they must be UTF-8
--raw                         prints messages as they are: binary not in hex and without a newline, text
                              with its control characters even on a terminal
--json                        lays messages that are JSON out over several lines, keys in order
--once                        prints one message, and ends once stdin has (a terminal's needn't)
--wait SECONDS                goes on so long after the end of stdin. Without it: until all is sent and
                              nothing has come for 1 s; with --once, until the message comes
-v, -vv                       shows the library's log on stderr: level info, debug
-q                            shows no status on stderr (coloured on a terminal unless NO_COLOR is set)
--help, --version, --         this; the version; nothing that follows is an option

Exit codes: 0  stdin has ended and all has arrived, or the server closed with 1000, or stdout was closed
            1  could not connect
            2  the options can't be used
            3  the line is lost for good, the server closed with another code, or --once got no message
            4  lines were not delivered, or perhaps not: stderr says how many
";

fn main() -> ExitCode {
    let options = Options::parse(env::args_os().skip(1)).map_err(|what| (2, format!("{what} (see --help)")));
    let code = options.and_then(|options| options.map_or(Ok(0), run));
    code.unwrap_or_else(|(code, what)| complain(code, &what)).into()
}

/// The exit code, or one and what to say.
fn run(options: Options) -> Result<u8, (u8, String)> {
    if let Some(level) = options.log {
        env_logger::Builder::new().filter_module("tautline", level).init();
    }
    let mut screen = Screen::new(&options);
    screen.draw(screen.paint(Connecting));
    let connected = Client::connect(&options.config);
    screen.put(""); // nothing stands in the way of an error
    let client = connected.map_err(|error| match error {
        Error::InvalidUrl { .. } | Error::InvalidConfig { .. } => (2, error.to_string()),
        _ => (1, error.to_string()),
    })?;
    let (told, lines) = bounded(16);
    let (sender, binary, max) = (client.clone(), options.has("--binary"), options.config.max_message_size);
    let stdin = thread::Builder::new().name("stdin".into());
    let stdin = stdin.spawn(move || send_lines(&sender, &told, binary, max).or_else(|e| told.send(Err(e))));
    stdin.map_err(|error| (1, format!("a thread: {error}")))?;
    let (out, silent) = (BufWriter::new(io::stdout().lock()), Instant::now());
    match (Session { client, lines, options, screen, out, silent, tally: Tally::default() }).run() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        ended => ended.map_err(|error| (3, format!("stdout: {error}"))),
    }
}

/// THREAD `stdin`: reads and sends, so that a full outbox holds up nothing but stdin. Each line is told before it is
/// sent; when no more is told, stdin has ended.
fn send_lines(client: &Client, told: &Sender<io::Result<()>>, binary: bool, max: usize) -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        if stdin.by_ref().take(max as u64 + 1).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.pop_if(|last| *last == b'\n').is_none() && line.len() > max {
            return Err(io::Error::other("a line is too long"));
        }
        line.pop_if(|last| *last == b'\r' && !binary);
        let text = |line| String::from_utf8(line).map_err(|_| io::Error::other("a line is no UTF-8"));
        let message = if binary { Message::from(line) } else { text(line)?.into() };
        // Who has closed the line, or ended the main thread, knows why.
        if told.send(Ok(())).is_err() || client.send(message).is_err() {
            return Ok(());
        }
    }
}

/// From the first connection to the exit code.
struct Session {
    client: Client,
    lines: Receiver<io::Result<()>>,
    options: Options,
    screen: Screen,
    out: BufWriter<StdoutLock<'static>>,
    silent: Instant, // since when nothing has come or gone
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    read: u64,
    unsent: u64,
    written: u64,
    received: u64,
    doubtful: u64,          // written to a connection that was lost before it confirmed them
    ended: Option<Instant>, // since when stdin is at its end
}

impl Session {
    /// Fails when stdout can't be written.
    fn run(mut self) -> io::Result<u8> {
        let served = self.serve();
        let left = self.client.close(); // what was accepted goes out first
        self.screen.put("");
        served?;
        for event in self.client.events().clone() {
            self.see(event)?;
        }
        self.out.flush()?;
        self.lines.clone().try_iter().for_each(|line| self.take(Ok(line)));
        self.look();
        self.screen.tell(&self.status(Closed));

        let (reason, tally, options) = (self.client.closed(), self.tally, self.options);
        // Only pings confirm, and a server that closes with 1000 has read what it wanted to read.
        let pings = options.config.heartbeat.beat == Beat::WebSocketPing;
        let confirmable = pings && matches!(reason, CloseReason::ByCaller);
        let ended = reason.into_result();
        let doubtful = tally.doubtful + u64::from(confirmable || ended.is_err()) * left.maybe_delivered.len();
        let missing = tally.read.saturating_sub(tally.written) + tally.unsent;
        let mut code = 0;
        if missing + doubtful > 0 {
            code = complain(4, &format!("lines not delivered: {missing}; perhaps not delivered: {doubtful}"));
        }
        Ok(match ended {
            Err(error) => complain(3, &error.to_string()),
            Ok(()) if options.has("--once") && tally.received == 0 => complain(3, "no message came"),
            Ok(()) => code,
        })
    }

    /// Until the line is closed, or there is nothing more to wait for.
    fn serve(&mut self) -> io::Result<()> {
        let tick = tick(Duration::from_millis(100));
        loop {
            select! {
                recv(self.client.events()) -> event => match event {
                    Ok(event) => self.see(event)?,
                    Err(RecvError) => return Ok(()),
                },
                recv(self.lines) -> line => self.take(line),
                recv(tick) -> _ => if self.look() { return Ok(()) },
            }
            if self.client.events().is_empty() {
                self.out.flush()?;
            }
        }
    }

    fn see(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Message(message) => {
                (self.silent, self.tally.received) = (Instant::now(), self.tally.received + 1);
                if self.screen.shared {
                    self.screen.put("");
                }
                if self.tally.received == 1 || !self.options.has("--once") {
                    print(&mut self.out, &message, &self.options)?;
                }
            }
            Event::StateChanged { to: to @ (Connecting | Closing), .. } if !self.screen.live => {
                self.screen.tell(&self.status(to));
            }
            Event::Connected { address, subprotocol, .. } => {
                self.silent = Instant::now();
                let chosen = subprotocol.map_or(String::new(), |name| format!(", subprotocol {name}"));
                self.screen.tell(&format!("{}  to {address}{chosen}", self.screen.paint(Connected)));
            }
            Event::Disconnected { reason, retry_in: Some(delay), maybe_delivered, .. } => {
                self.tally.doubtful += maybe_delivered.len();
                let what = format!("  {reason}; next try in {delay:.1?}; in doubt: {maybe_delivered}");
                self.screen.tell(&(self.screen.paint(Disconnected) + &what));
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, line: Result<io::Result<()>, RecvError>) {
        let Ok(line) = line else {
            return (self.lines, self.tally.ended) = (never(), Some(Instant::now()));
        };
        if self.screen.typing {
            self.screen.shown.clear(); // the end of what was typed has taken the cursor to the next row
        }
        if let Err(error) = line {
            self.tally.unsent += 1;
            self.screen.put(&format!("wscat: stdin: {error}; it is read no further\n"));
        } else {
            self.tally.read += 1;
        }
    }

    /// Sees what comes without an event, and returns whether there is nothing more to wait for.
    fn look(&mut self) -> bool {
        let now = Instant::now();
        let (done, state, tally) = (self.client.stats(), self.client.state(), &mut self.tally);
        if done.messages_written > tally.written {
            (tally.written, self.silent) = (done.messages_written, now);
        }
        self.screen.draw(self.status(state));

        let (tally, once) = (&self.tally, self.options.has("--once"));
        let past = |since, time| now.saturating_duration_since(since) >= time;
        match (tally.ended, self.options.wait) {
            (None, _) => once && tally.received > 0 && self.screen.typing,
            (Some(_), _) if once && tally.received > 0 => true,
            (Some(end), Some(wait)) => past(end, wait),
            (Some(_), None) => {
                let all = tally.written >= tally.read && self.client.events().is_empty();
                all && !once && state == Connected && past(self.silent, Duration::from_secs(1))
            }
        }
    }

    fn status(&self, state: ConnectionState) -> String {
        let (Tally { read, received, .. }, done) = (&self.tally, self.client.stats());
        let (state, sent) = (self.screen.paint(state), done.messages_written);
        let round_trip = done.round_trip.map_or("-".into(), |time| format!("{time:.1?}"));
        let waiting = if *read > sent { format!("  waiting {}", read - sent) } else { String::new() };
        format!("{state}  rtt {round_trip:>7}  sent {sent}  received {received}{waiting}")
    }
}

fn print(out: &mut impl Write, message: &Message, options: &Options) -> io::Result<()> {
    if options.has("--json")
        && let Ok(json) = message.json::<tautline::Value>()
        && (message.as_text().is_some() || json.is_object() || json.is_array())
    {
        return writeln!(out, "{json:#}");
    }
    // On a terminal a server's escape sequences could do more than show text.
    let tame = io::stdout().is_terminal() && !options.has("--raw");
    let wild = |c: char| tame && c.is_control() && !matches!(c, '\n' | '\t');
    match message {
        Message::Text(text) => writeln!(out, "{}", text.replace(wild, "\u{fffd}")),
        Message::Binary(bytes) if options.has("--raw") => out.write_all(bytes),
        Message::Binary(bytes) => {
            bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
            writeln!(out)
        }
    }
}

/// Returns `code`, for the end of the program.
fn complain(code: u8, what: &str) -> u8 {
    writeln!(io::stderr(), "wscat: {what}").ok(); // there is nowhere to say that stderr is gone
    code
}

/// Stderr. On a terminal the status is rewritten in place, as the prompt of what is typed if somebody types.
struct Screen {
    quiet: bool,
    live: bool,
    typing: bool,
    shared: bool, // messages go to a terminal too, and so to this one
    colour: bool,
    shown: String, // the status in the cursor's row, if one is there
}

impl Screen {
    fn new(options: &Options) -> Self {
        let terminal = io::stderr().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            quiet: options.has("-q"),
            live: terminal && !options.has("-q") && options.log.is_none(), // a log would be written over
            typing: io::stdin().is_terminal(),
            shared: io::stdout().is_terminal(),
            colour: terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            shown: String::new(),
        }
    }

    fn paint(&self, state: ConnectionState) -> String {
        let colour = if state == Connected { 32 } else { 33 };
        if self.colour { format!("\x1b[{colour}m{state}\x1b[0m") } else { state.to_string() }
    }

    /// A line that stays.
    fn tell(&mut self, what: &str) {
        if !self.quiet {
            self.put(&format!("{what}\n"));
        }
    }

    fn draw(&mut self, status: String) {
        if self.live && self.shown != status {
            if self.typing && self.shown.chars().count() == status.chars().count() {
                self.shown.clear(); // what is being typed behind it stays
                self.put(&format!("\x1b7\r{status}\x1b8"));
            } else {
                self.put(&format!("{status}{}", if self.typing { " > " } else { "" }));
            }
            self.shown = status;
        }
    }

    /// Writes in the place of the status.
    fn put(&mut self, text: &str) {
        let clear = if mem::take(&mut self.shown).is_empty() { "" } else { "\r\x1b[2K" };
        io::stderr().write_all(format!("{clear}{text}").as_bytes()).ok();
    }
}

struct Options {
    config: ConnectionConfig,
    wait: Option<Duration>, // how long to receive after the end of stdin, if that was said
    log: Option<LevelFilter>,
    flags: Vec<String>,
}

impl Options {
    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    /// `None` if they ask for a text, which is shown.
    fn parse(args: impl Iterator<Item = OsString>) -> Result<Option<Self>, Box<dyn StdError>> {
        let mut args =
            args.map(|arg| arg.into_string().map_err(|arg| format!("{} is no UTF-8", arg.display())));
        let (mut config, mut wait, mut log, mut flags) = (ConnectionConfig::new(""), None, None, Vec::new());
        let (mut urls, mut tls) = (Vec::new(), None);
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
                "--ca" => {
                    let file = value()?;
                    let pem = fs::read(&file).map_err(|error| format!("{file}: {error}"))?;
                    let root = Certificate::from_pem(&pem).map_err(|error| format!("{file}: {error}"))?;
                    tls.get_or_insert_with(TlsConnector::builder).add_root_certificate(root);
                }
                "--insecure" => {
                    complain(0, "warning: any certificate is accepted");
                    let tls = tls.get_or_insert_with(TlsConnector::builder);
                    tls.danger_accept_invalid_certs(true).danger_accept_invalid_hostnames(true);
                }
                "--wait" => wait = Some(seconds(&arg, &value()?)?),
                "-v" | "-vv" => log = Some(if arg == "-v" { LevelFilter::Info } else { LevelFilter::Debug }),
                "--binary" | "--raw" | "--json" | "--once" | "-q" => flags.push(arg),
                "--help" | "--version" => {
                    let out =
                        if arg == "--help" { HELP } else { concat!("wscat ", env!("CARGO_PKG_VERSION")) };
                    writeln!(io::stdout(), "{}", out.trim_end()).ok(); // whoever closed stdout doesn't want it
                    return Ok(None);
                }
                "--" => urls.extend(args.by_ref().collect::<Result<Vec<_>, _>>()?),
                _ if arg.starts_with('-') => return Err(format!("there is no option {arg}").into()),
                _ => urls.push(arg),
            }
        }
        let [url] = <[_; 1]>::try_from(urls).map_err(|urls| format!("give one URL, not {}", urls.len()))?;
        config.url = url;
        config.tls = tls.map(|tls| tls.build()).transpose()?;
        Ok(Some(Self { config, wait, log, flags }))
    }
}

fn seconds(option: &str, text: &str) -> Result<Duration, String> {
    let duration = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| format!("{option} {text:?} is no number of seconds"))
}
