//! What the program is told by its arguments.

pub(crate) mod address;
mod login;
mod reach;

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser, ValueEnum};
use clap_complete::Shell;
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use log::LevelFilter;
use regex::Regex;
use tautline::{Compression, ConnectionConfig, HeartbeatConfig, Message, ReconnectConfig};

use super::Failure;
use super::opening::Opening;

use login::Login;
use reach::Reach;

/// How much is read of a file at most: as much as a message may have.
const MOST_READ: u64 = 64 << 20;

/// The shortest time for `--timeout`.
const LEAST: Duration = Duration::from_millis(10);

/// So many typed lines may wait: nobody can hold up who types, and a paste may be long.
const MOST_TYPED: usize = 1 << 20;

/// What most come for, on one screen.
const BRIEF: &str = "\
wscat [OPTIONS] URL    lines of stdin go to the server, its messages to stdout

  wscat localhost:8080                       at a prompt; /help, Ctrl-D ends
  echo hello | wscat wss://HOST/PATH         in a script
  wscat -x '{\"subscribe\":1}' --count 3 URL  says this first; three messages
  wscat --expect ready --timeout 10 URL      exit code 0 if a message matches
  wscat --json URL                           lays JSON out over several lines
  wscat --log-format json URL >log           a line of JSON for each message
  wscat -H 'Authorization: Bearer …' URL     a header; -H @FILE keeps it secret
  wscat -s graphql-transport-ws URL          a subprotocol
  wscat -n URL                               any certificate; see --ca and --pin
  wscat --proxy env URL                      through the proxy of HTTPS_PROXY
  wscat -v URL                               phases, headers, the log

  -c URL   -H 'NAME: VALUE'   -s SUBPROTOCOL   -o ORIGIN   -n  any certificate
  -x TEXT  sends first        -w SECONDS  waits for answers after stdin
  -L       redirects          -P  pings        -0  a NUL ends each message
  -4, -6   IPv4 or IPv6 only  -v  shows more   -q  shows no status

--help has all options, and the exit codes.
";

const CODES: &str = "\
Exit codes:
    0  stdin has ended and all has arrived, or the server closed with 1000, or stdout was closed
    1  could not connect; nothing was read from stdin
    2  the options can't be used
    3  the line is lost for good or down at the end, the server closed with another code or none,
       stdout can't be written, or what --once, --count or --expect wait for has not come
    4  lines were not delivered, or perhaps not: stderr or --undelivered has them
    5  the time of --timeout was over
  130  Ctrl-C, or a signal to end: the line is closed first; at once when asked for twice
If several hold: 130; 3 for stdout or a lost connection; 5; 3 for what has not come; 4; 3.";

#[derive(Parser)]
#[command(
    name = "wscat",
    version,
    about = "Sends lines of stdin to a WebSocket server, and prints its messages on stdout",
    override_usage = "wscat [OPTIONS] URL",
    after_help = CODES,
    disable_help_flag = true,
    args_override_self = true
)]
struct Args {
    /// ws:// or wss://; without one, wss:// for another machine's name without a port, else ws://
    #[arg(required_unless_present_any = ["brief", "completions", "connect"])]
    url: Option<String>,
    /// The same, by an option
    #[arg(short, long, value_name = "URL", conflicts_with = "url")]
    connect: Option<String>,
    /// What most come for, on one screen
    #[arg(short = 'h')]
    brief: bool,
    /// All options
    #[arg(long, action = ArgAction::HelpShort)]
    help: Option<bool>,
    /// Prints completions for bash, elvish, fish, powershell or zsh
    #[arg(long, value_name = "SHELL", hide_possible_values = true)]
    completions: Option<Shell>,

    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    login: Login,
    #[command(flatten)]
    upkeep: Upkeep,
    #[command(flatten)]
    first: First,
    #[command(flatten)]
    shape: Shape,
    #[command(flatten)]
    ending: Ending,
    #[command(flatten)]
    telling: Telling,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Session")]
struct Upkeep {
    /// Offers permessage-deflate, of level 1 (fast) to 9 (small)
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, require_equals = true, default_missing_value = "3")]
    compress: Option<u32>,
    /// A ping so often (5), and behind what is sent; json: each 30 s
    #[arg(long, value_name = "SECONDS|json|off", value_parser = heartbeat, allow_hyphen_values = true)]
    heartbeat: Option<HeartbeatConfig>,
    /// How long an attempt to connect may take (10)
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_hyphen_values = true)]
    connect_timeout: Option<Duration>,
    /// Ends when the line is lost. Else it is brought back
    #[arg(long)]
    no_reconnect: bool,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Messages")]
struct First {
    /// Sends this first at each connect; @FILE: what it holds; @@: an @
    #[arg(short = 'x', long, alias = "execute", value_name = "TEXT", allow_hyphen_values = true)]
    send: Vec<String>,
}

/// What goes out, and what is shown of what comes in.
#[derive(clap::Args)]
#[command(next_help_heading = "Messages")]
pub(crate) struct Shape {
    /// Sends lines as binary messages: as they are, or decoded first
    #[arg(long, value_name = "hex|base64", num_args = 0..=1, require_equals = true, default_missing_value = "bytes", hide_possible_values = true)]
    binary: Option<Coding>,
    /// A NUL ends a message in place of a newline, on stdin and stdout
    #[arg(short = '0', long)]
    pub(crate) null: bool,
    /// Prints binary messages as bytes, and text with what terminals obey
    #[arg(long)]
    pub(crate) raw: bool,
    /// Prints binary messages in base64 and not in hex
    #[arg(long, conflicts_with = "raw")]
    pub(crate) base64: bool,
    /// Lays messages that are JSON out over several lines
    #[arg(long)]
    pub(crate) json: bool,
    /// Prints a line of JSON for each message and state, with its time
    #[arg(long, value_name = "json", hide_possible_values = true, conflicts_with_all = ["raw", "base64"])]
    log_format: Option<LogFormat>,
}

/// When the program ends.
#[derive(clap::Args)]
#[command(next_help_heading = "End and status")]
pub(crate) struct Ending {
    /// Prints one message, and ends when a pipe on stdin has, too
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// The same with so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// The same with the first message that this matches, and all before it
    #[arg(long, value_name = "REGEX", conflicts_with_all = ["once", "count"])]
    pub(crate) expect: Option<Regex>,
    /// Goes on so long after stdin has ended. Else until 1 s was silent
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) wait: Option<Duration>,
    /// Ends after so long in any case; a close may take 5 s more
    #[arg(long, value_name = "SECONDS", value_parser = moments, allow_hyphen_values = true)]
    pub(crate) timeout: Option<Duration>,
    /// Has the lines that were not delivered, or perhaps not, in the end
    #[arg(long, value_name = "FILE")]
    pub(crate) undelivered: Option<PathBuf>,
}

/// What is told on stderr.
#[derive(clap::Args)]
#[command(next_help_heading = "End and status")]
pub(crate) struct Telling {
    /// Shows each answer to a ping, with its round trip
    #[arg(short = 'P', long, alias = "show-ping-pong")]
    pub(crate) pings: bool,
    /// Shows phases, headers, answers that refuse, and the log; -vv: more
    #[arg(short, action = ArgAction::Count)]
    verbose: u8,
    /// Shows no status; `NO_COLOR` in the environment: no colours
    #[arg(short)]
    pub(crate) quiet: bool,
}

/// How a line becomes a binary message.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Coding {
    Bytes,
    Hex,
    Base64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Json,
}

impl Shape {
    /// The message that a line stands for.
    pub(crate) fn message(&self, line: Vec<u8>) -> Result<Message, &'static str> {
        let bytes = match self.binary {
            None => return String::from_utf8(line).map(Message::from).map_err(|_| "it is no UTF-8"),
            Some(Coding::Bytes) => line,
            Some(Coding::Hex) => HEXLOWER_PERMISSIVE.decode(&line).map_err(|_| "it is no hex")?,
            Some(Coding::Base64) => BASE64.decode(&line).map_err(|_| "it is no base64")?,
        };
        Ok(bytes.into())
    }

    /// Whether stdin has lines, whose end may be that of Windows, and not bytes.
    pub(crate) fn is_lines(&self) -> bool {
        self.binary != Some(Coding::Bytes)
    }

    /// What ends a message on stdin and on stdout.
    pub(crate) fn end(&self) -> u8 {
        if self.null { 0 } else { b'\n' }
    }

    pub(crate) fn is_log(&self) -> bool {
        self.log_format == Some(LogFormat::Json)
    }
}

impl Ending {
    /// Whether there are messages to wait for.
    pub(crate) fn waits(&self) -> bool {
        self.enough().is_some() || self.expect.is_some()
    }

    /// After how many messages nothing more is printed.
    pub(crate) fn enough(&self) -> Option<u64> {
        self.count.or(self.once.then_some(1))
    }
}

/// What the program is told to do.
pub(crate) struct Options {
    pub(crate) config: ConnectionConfig,
    /// What each connection begins with, if that is more than nothing.
    pub(crate) opening: Option<Opening>,
    /// Of that, what is no login.
    pub(crate) first: Vec<Message>,
    /// There is no need to read more from a terminal.
    pub(crate) sends_only: bool,
    pub(crate) shape: Arc<Shape>,
    pub(crate) ending: Ending,
    pub(crate) telling: Telling,
    /// What of the library's log is shown.
    pub(crate) log: Option<LevelFilter>,
}

impl Options {
    /// Returns `None` after showing a text, such as the help. Fails with an exit code.
    pub(crate) fn parse(args: impl Iterator<Item = OsString>) -> Result<Option<Self>, Failure> {
        let unusable = |what| (2, format!("{what} (see --help)"));
        let args = match Args::try_parse_from([OsString::from("wscat")].into_iter().chain(args)) {
            Ok(args) => args,
            Err(told) if matches!(told.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                return show(&told.to_string());
            }
            Err(error) => return Err(unusable(in_one_line(&error))),
        };
        if args.brief {
            return show(BRIEF);
        }
        if let Some(shell) = args.completions {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "wscat", &mut script);
            return show(&String::from_utf8_lossy(&script));
        }
        args.options().map(Some).map_err(unusable)
    }
}

/// Fails when stdout can't be written. A closed one needs no text.
fn show(text: &str) -> Result<Option<Options>, Failure> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err((3, format!("stdout: {error}"))),
        _ => Ok(None),
    }
}

impl Args {
    fn options(self) -> Result<Options, String> {
        let mut config = ConnectionConfig::new(self.url.or(self.connect).unwrap_or_default());
        config.heartbeat.interval = Duration::from_secs(5);
        if io::stdin().is_terminal() {
            config.outbox.messages = MOST_TYPED;
        }
        self.upkeep.apply(&mut config);
        self.reach.apply(&mut config, self.telling.quiet)?;
        let log = match self.telling.verbose {
            0 => None,
            1 => Some(LevelFilter::Info),
            _ => Some(LevelFilter::Debug),
        };
        let (shape, login) = (self.shape, self.login.session()?);
        let mut texts = Vec::new();
        for text in self.first.send {
            let bytes = bytes_or_file(&text)?;
            // A text may be a secret. The name of a file is none.
            let place = if text.starts_with('@') { format!("--send {text}") } else { "--send".into() };
            texts.push(shape.message(bytes).map_err(|what| format!("{place}: {what}"))?);
        }
        let (ending, telling) = (self.ending, self.telling);
        let sends_only = !texts.is_empty() && ending.wait.is_some();
        let opening = (login.is_some() || !texts.is_empty()).then(|| Opening::new(login, texts.clone()));
        if let Some(file) = &ending.undelivered {
            can_keep(file).map_err(|what| format!("{}: {what}", file.display()))?;
        }
        let shape = Arc::new(shape);
        Ok(Options { config, opening, first: texts, sends_only, shape, ending, telling, log })
    }
}

/// Fails where lines can't be kept. The file may be what stdin reads, and is written when that has ended.
fn can_keep(file: &Path) -> Result<(), String> {
    if [Path::new("/dev/stdout"), Path::new("/dev/stderr")].contains(&file) {
        return Err("name a file: without this option, the lines come on stderr".into());
    }
    #[cfg(unix)]
    if std::fs::metadata(file).is_ok_and(|it| std::os::unix::fs::FileTypeExt::is_fifo(&it.file_type())) {
        return Err("it is a pipe: name a file".into());
    }
    let opened = File::options().append(true).create(true).open(file);
    opened.map(drop).map_err(|error| error.to_string())
}

impl Upkeep {
    fn apply(self, config: &mut ConnectionConfig) {
        config.compression = self.compress.map(|level| Compression::default().level(level));
        if let Some(heartbeat) = self.heartbeat {
            config.heartbeat = heartbeat;
        }
        if let Some(timeout) = self.connect_timeout {
            config.connect_timeout = timeout;
        }
        if self.no_reconnect {
            config.reconnect = ReconnectConfig::never();
        }
    }
}

/// What is wrong with the options. The parser gives a paragraph to each part of it, and then shows the usage.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let said = text.split("\n\nUsage:").next().unwrap_or_default();
    let said = said.split("\n\nFor more").next().unwrap_or_default().trim_start_matches("error: ");
    // An option that is misspelt is no text to be sent, as that would make it.
    let parts = said.split("\n\n").filter(|part| !part.contains("tip: to pass"));
    let parts: Vec<_> = parts.map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    parts.join("; ")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let duration = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or("it is no number of seconds")
}

/// Enough to do anything in.
fn moments(text: &str) -> Result<Duration, &'static str> {
    seconds(text).and_then(|time| if time < LEAST { Err("it is less than 0.01") } else { Ok(time) })
}

fn heartbeat(text: &str) -> Result<HeartbeatConfig, &'static str> {
    Ok(match text {
        "json" => HeartbeatConfig::json(),
        "off" => HeartbeatConfig::off(),
        text => HeartbeatConfig::default().interval(seconds(text)?),
    })
}

/// What a file holds, which is bounded: it may be a device.
fn read(file: &str) -> Result<Vec<u8>, String> {
    let named = |error: &dyn Display| format!("{file}: {error}");
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(|error| named(&error))?;
    opened.take(MOST_READ + 1).read_to_end(&mut bytes).map_err(|error| named(&error))?;
    if bytes.len() as u64 > MOST_READ { Err(named(&"it has more than 64 MiB")) } else { Ok(bytes) }
}

/// A text, or that of a file whose name follows an `@`, so that a secret needn't stand among the arguments.
fn text_or_file(text: &str) -> Result<String, String> {
    String::from_utf8(bytes_or_file(text)?).map_err(|_| format!("{text}: it is no UTF-8"))
}

/// The same for what need be no text. `@@` stands for an `@` that begins a text.
fn bytes_or_file(text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix('@') {
        Some(name) if !name.starts_with('@') => read(name),
        escaped => Ok(escaped.unwrap_or(text).into()),
    }
}
