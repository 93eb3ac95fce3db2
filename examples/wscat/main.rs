//! A WebSocket client for the command line: `cargo run --example wscat -- --help`.
#![allow(clippy::disallowed_methods, reason = "a program owns its clock")]

pub(crate) mod advice;
pub(crate) mod options;
pub(crate) mod terminal;
pub(crate) mod typing;

use std::io::{self, BufRead, BufWriter, ErrorKind, Read, StdoutLock, Write};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use crossbeam_channel::{Receiver, RecvError, Sender, bounded, never, select, tick};
use tautline::ConnectionState::{Closed, Closing, Connected, Connecting, Disconnected};
use tautline::{Beat, Client, CloseReason, Error, Event, Handshake, Message};

use advice::{explain, shown};
use options::Options;
use terminal::{Screen, is_wild, one_line};
use typing::{Key, Keys};

/// The exit code after a signal.
const INTERRUPTED: u8 = 130;

/// How long one confirmation may take before the next is requested.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let options = Options::parse(env::args_os().skip(1)).map_err(|what| (2, format!("{what} (see --help)")));
    let code = options.and_then(|options| options.map_or(Ok(0), run));
    code.unwrap_or_else(|(code, what)| complain(code, &what)).into()
}

/// The exit code, or an exit code and an error text.
fn run(options: Options) -> Result<u8, (u8, String)> {
    let (open, stop) = signals().map_err(|error| (1, format!("signals: {error}")))?;
    if let Some(level) = options.log {
        let (mut log, opened) = (env_logger::Builder::new(), Arc::clone(&open));
        log.format(move |out, record| {
            let (level, time) = (record.level(), out.timestamp());
            let (style, said) = (out.default_level_style(level), one_line(&record.args().to_string()));
            if !opened.load(Ordering::SeqCst) && said.starts_with(advice::ENDED) {
                return Ok(()); // that is the end of the program, which says why
            }
            writeln!(out, "[{time} {style}{level:<5}{style:#} {}] {said}", record.target())
        });
        log.filter_module("tautline", level).init();
    }
    let mut screen = Screen::new(&options);
    screen.draw(Connecting, "");
    let connected = Client::connect(&options.config);
    open.store(true, Ordering::SeqCst);
    screen.put(""); // clears the status, so that an error starts on a clean line
    let client = match connected {
        Ok(client) => client,
        Err(error @ (Error::InvalidUrl { .. } | Error::InvalidConfig { .. })) => {
            return Ok(explain(2, &error, &options));
        }
        Err(error) => return Ok(explain(1, &error, &options)),
    };
    let (told, lines) = bounded(16);
    let sender = Lines { client: client.clone(), told, sent: confirming(&client, &options)? };
    let (binary, max) = (options.has("--binary"), options.config.max_message_size);
    let keys = if screen.live && screen.typing { Keys::take() } else { None };
    screen.columns = keys.as_ref().map(|keys| keys.columns);
    let by_key = keys.is_some();
    let stdin = thread::Builder::new().name("stdin".into());
    let stdin = stdin.spawn(move || sender.read(by_key, binary, max).or_else(|e| sender.told.send(Err(e))));
    stdin.map_err(|error| (1, format!("a thread: {error}")))?;
    let (out, silent) = (BufWriter::new(io::stdout().lock()), Instant::now());
    match (Session { client, lines, stop, options, screen, out, silent, tally: Tally::default() }).run() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        ended => ended.map_err(|error| (3, format!("stdout: {error}"))),
    }
}

/// SIGINT and SIGTERM end the program at once while no line is open. Later the first signal closes the line, and the next
/// ends the program at once.
fn signals() -> Result<(Arc<AtomicBool>, Receiver<()>), ctrlc::Error> {
    let (open, (ask, stop)) = (Arc::new(AtomicBool::new(false)), bounded(1));
    let is_open = Arc::clone(&open);
    ctrlc::set_handler(move || {
        if !is_open.swap(false, Ordering::SeqCst) {
            typing::give_back();
            process::exit(INTERRUPTED.into());
        }
        ask.try_send(()).ok();
    })?;
    Ok((open, stop))
}

/// THREAD `confirm`: confirms what was sent again and again, so that a loss leaves only the latest messages in doubt. Only
/// pings confirm.
fn confirming(client: &Client, options: &Options) -> Result<Option<Sender<()>>, (u8, String)> {
    if options.config.heartbeat.beat != Beat::WebSocketPing {
        return Ok(None);
    }
    let (client, (sent, more)) = (client.clone(), bounded(1));
    let thread = thread::Builder::new().name("confirm".into());
    let waits = |outcome| matches!(outcome, Err(Error::Timeout { .. }));
    let thread =
        thread.spawn(move || more.iter().for_each(|()| while waits(client.confirm(.., PATIENCE)) {}));
    thread.map(|_| Some(sent)).map_err(|error| (1, format!("a thread: {error}")))
}

/// Input from stdin.
enum Typed {
    /// A line. It holds the text if the terminal has not shown it.
    Line(String),
    /// An incomplete line.
    Part(String),
}

/// The channels for the lines of stdin.
struct Lines {
    client: Client,
    /// Reports each line before it is sent. Disconnects at the end of stdin.
    told: Sender<io::Result<Typed>>,
    /// Requests a confirmation of what was sent, where that is possible.
    sent: Option<Sender<()>>,
}

impl Lines {
    /// THREAD `stdin`: reads and sends, so that a full outbox blocks nothing but stdin.
    fn read(&self, by_key: bool, binary: bool, max: usize) -> io::Result<()> {
        let (mut stdin, mut typed) = (io::stdin().lock(), typing::Line::default());
        loop {
            let mut line = Vec::new();
            if by_key {
                let Some(typed) = self.type_line(&mut stdin, &mut typed)? else { return Ok(()) };
                line = typed;
            } else if stdin.by_ref().take(max as u64 + 1).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if line.pop_if(|last| *last == b'\n').is_none() && line.len() > max {
                return Err(io::Error::other("a line is too long"));
            }
            line.pop_if(|last| *last == b'\r' && !binary);
            let shown = if by_key { String::from_utf8_lossy(&line).into_owned() } else { String::new() };
            let text = |line| String::from_utf8(line).map_err(|_| io::Error::other("a line is no UTF-8"));
            let message = if binary { Message::from(line) } else { text(line)?.into() };
            // The main thread knows why the line was closed.
            if self.told.send(Ok(Typed::Line(shown))).is_err() || self.client.send(message).is_err() {
                return Ok(());
            }
            self.sent.as_ref().map(|sent| sent.try_send(()));
        }
    }

    /// Returns the next typed line, or `None` at the end of the input or of the program.
    fn type_line(&self, stdin: &mut impl BufRead, line: &mut typing::Line) -> io::Result<Option<Vec<u8>>> {
        loop {
            let keys = stdin.fill_buf()?;
            let (mut taken, mut last) = (0, Key::Other);
            while let (Key::Other, Some(key)) = (&last, keys.get(taken)) {
                (taken, last) = (taken + 1, line.key(*key));
            }
            stdin.consume(taken);
            match last {
                Key::Enter(bytes) => return Ok(Some(bytes)),
                Key::Other if taken > 0 && self.told.send(Ok(Typed::Part(line.text()))).is_ok() => {}
                Key::Other | Key::End => return Ok(None),
            }
        }
    }
}

/// From the first connection to the exit code.
struct Session {
    client: Client,
    lines: Receiver<io::Result<Typed>>,
    stop: Receiver<()>,
    options: Options,
    screen: Screen,
    out: BufWriter<StdoutLock<'static>>,
    silent: Instant, // when a message was last sent or received
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    read: u64,
    unsent: u64,
    written: u64,
    received: u64,
    doubtful: u64,          // written to a connection that was lost before it confirmed them
    ended: Option<Instant>, // when stdin ended
}

impl Session {
    /// Fails when stdout can't be written.
    fn run(mut self) -> io::Result<u8> {
        let served = self.serve();
        let left = self.client.close(); // writes what was accepted first
        self.screen.put("");
        let interrupted = served?;
        for event in self.client.events().clone() {
            self.see(event)?;
        }
        self.out.flush()?;
        self.lines.clone().try_iter().for_each(|line| self.take(Ok(line)));
        self.look();
        self.screen.tell(Closed, &self.status());

        let (reason, tally, options) = (self.client.wait_closed(), self.tally, self.options);
        // Only pings confirm. A server that closes with 1000 has read what it wanted.
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
            _ if interrupted => INTERRUPTED,
            Err(error) => explain(3, &error, &options),
            Ok(()) if options.has("--once") && tally.received == 0 => complain(3, "no message came"),
            Ok(()) => code,
        })
    }

    /// Runs until the line is closed, there is nothing more to wait for, or a signal arrives. Returns whether a signal did.
    fn serve(&mut self) -> io::Result<bool> {
        let tick = tick(Duration::from_millis(100));
        loop {
            select! {
                recv(self.client.events()) -> event => match event {
                    Ok(event) => self.see(event)?,
                    Err(RecvError) => return Ok(false),
                },
                recv(self.lines) -> line => self.take(line),
                recv(self.stop) -> _ => return Ok(true),
                recv(tick) -> _ => if self.look() { return Ok(false) },
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
                    let tame = self.screen.shared && !self.options.has("--raw");
                    print(&mut self.out, &message, &self.options, tame)?;
                }
            }
            Event::StateChanged { to: to @ (Connecting | Closing), .. } if !self.screen.live => {
                self.screen.tell(to, &self.status());
            }
            Event::Connected { handshake, .. } => {
                self.silent = Instant::now();
                let chosen = handshake.subprotocol.as_deref();
                let chosen = chosen.map_or(String::new(), |name| format!(", subprotocol {name}"));
                let proxy = handshake.proxy.as_deref();
                let by = proxy.map(|proxy| format!("  through the proxy {proxy}")).unwrap_or_default();
                let to = if by.is_empty() { "  to" } else { " at" };
                let to = handshake.address.map(|address| format!("{to} {address}")).unwrap_or_default();
                self.screen.tell(Connected, &format!("{by}{to}{chosen}"));
                if self.options.log.is_some() {
                    self.screen.put(&describe(&handshake, self.options.config.compression.is_some()));
                }
            }
            Event::Disconnected { reason, retry_in: Some(delay), maybe_delivered, .. } => {
                self.tally.doubtful += maybe_delivered.len();
                let mut what = format!("  {reason}; next try in {delay:.1?}; in doubt: {maybe_delivered}");
                if let Some(options) = advice::options(&reason.to_error()) {
                    what.extend(["; with wscat: ", &options]);
                }
                self.screen.tell(Disconnected, &what);
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, line: Result<io::Result<Typed>, RecvError>) {
        let Ok(line) = line else {
            return (self.lines, self.tally.ended) = (never(), Some(Instant::now()));
        };
        match line {
            Ok(Typed::Part(text)) => {
                self.screen.typed = text;
                self.screen.draw(self.client.state(), &self.status());
            }
            Ok(Typed::Line(text)) => {
                self.screen.enter(self.client.state(), &self.status(), &text);
                self.tally.read += 1;
            }
            Err(error) => {
                self.tally.unsent += 1;
                self.screen.enter(self.client.state(), &self.status(), "");
                self.screen.put(&format!("wscat: stdin: {error}; it is read no further\n"));
            }
        }
    }

    /// Handles what changes without an event. Returns whether there is nothing more to wait for.
    fn look(&mut self) -> bool {
        let now = Instant::now();
        let (done, state, tally) = (self.client.stats(), self.client.state(), &mut self.tally);
        if done.messages_written > tally.written {
            (tally.written, self.silent) = (done.messages_written, now);
        }
        self.screen.draw(state, &self.status());

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

    fn status(&self) -> String {
        let (Tally { read, received, .. }, done) = (&self.tally, self.client.stats());
        let sent = done.messages_written;
        let round_trip = done.round_trip.map_or("-".into(), |time| format!("{time:.1?}"));
        let waiting = if *read > sent { format!("  waiting {}", read - sent) } else { String::new() };
        let (out, back) = (done.compressed_written, done.compressed_read);
        let (before, after) = (out.before + back.before, out.after + back.after);
        let bytes =
            if before > 0 { format!("  {} as {}", bytes(before), bytes(after)) } else { String::new() };
        format!("  rtt {round_trip:>7}  sent {sent}  received {received}{bytes}{waiting}")
    }
}

/// As "999 B", "1.5 kB" and so on.
fn bytes(count: u64) -> String {
    let unit = |unit: u64, name| format!("{}.{} {name}", count / unit, count % unit / (unit / 10));
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => unit(1_000, "kB"),
        1_000_000..1_000_000_000 => unit(1_000_000, "MB"),
        _ => unit(1_000_000_000, "GB"),
    }
}

/// How long each phase of the attempt took, what was agreed on if compression was offered, and the headers of the answer.
fn describe(handshake: &Handshake, is_offered: bool) -> String {
    let times = handshake.timings;
    let phases = [
        ("look-up", times.resolve),
        ("connection", times.connect),
        ("proxy", times.proxy),
        ("TLS", times.tls),
        ("upgrade", times.upgrade),
    ];
    let phases = phases.iter().filter_map(|(phase, time)| Some(format!("{phase} {:.1?}", (*time)?)));
    let phases: Vec<_> = phases.collect();
    let times = format!("  {}; {:.1?} in all", phases.join(", "), times.total);
    let compression = handshake.compression.as_ref().map(|agreed| {
        let alone = [
            (agreed.client_no_context_takeover, ", the client's messages each on its own"),
            (agreed.server_no_context_takeover, ", the server's messages each on its own"),
        ];
        let alone: String = alone.into_iter().filter_map(|(is, words)| is.then_some(words)).collect();
        format!("  compression agreed on: level {}{alone}", agreed.level)
    });
    let none = || is_offered.then(|| "  no compression: the server agreed to none".into());
    let headers = shown(handshake.headers.iter());
    let lines = [times].into_iter().chain(compression.or_else(none)).chain(headers);
    lines.flat_map(|line| [line, "\n".into()]).collect()
}

/// `tame` for a terminal, because a server's messages could contain control sequences.
pub(crate) fn print(
    out: &mut impl Write,
    message: &Message,
    options: &Options,
    tame: bool,
) -> io::Result<()> {
    let wild = |c: char| tame && is_wild(c) && !matches!(c, '\n' | '\t');
    if options.has("--json")
        && let Ok(json) = message.json::<tautline::Value>()
        && (message.as_text().is_some() || json.is_object() || json.is_array())
    {
        for part in format!("{json:#}\n").split_inclusive(wild) {
            let last = part.chars().next_back().filter(|last| wild(*last));
            write!(out, "{}", last.map_or(part, |last| &part[..part.len() - last.len_utf8()]))?;
            // Such a character is inside a string, where the escape means the same.
            let mut units = [0; 2];
            let units = last.map(|last| last.encode_utf16(&mut units)).unwrap_or_default();
            units.iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
        }
        return Ok(());
    }
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
    writeln!(io::stderr(), "wscat: {}", one_line(what)).ok(); // a closed stderr can't be reported
    code
}
