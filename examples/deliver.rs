//! A batch tool: sends each line of stdin to a WebSocket server, until the server's application has acknowledged it.
//!
//! ```sh
//! cargo run --example deliver -- ws://127.0.0.1:8080 --failed undelivered.txt < lines.txt
//! ```
//!
//! A line goes out as `{"id":"17ab…-5","line":"…"}`, and the server's application answers `{"ack":"17ab…-5"}` once it has
//! stored it. It may get a line twice, even from two runs. The line has the same id each time, so a repeated id can be dropped.
//!
//! * No line is lost, even if this program is killed. The whole input is stored in FILE before the first line is sent, and
//!   FILE is trimmed as acknowledgements come. So each line of it is acknowledged or in FILE at any time, after its id and
//!   a tab. The last trim is exact. After a kill, FILE may also have lines that were acknowledged within the last second, or
//!   behind one that was not.
//! * Each run sends what is in FILE first, and then its input. To send only what is left, run it with an empty input.
//! * Two runs at the same time need two files.
//! * If the program was killed before it had the whole input, FILE is as it was, or not there. Run it with the input again.
//!
//! Exit codes: 0 all lines are acknowledged, 1 some are in FILE, 2 nothing was stored or sent: stderr says why.
#![allow(clippy::disallowed_methods, reason = "an example owns its clock and its threads")]

use std::collections::HashSet;
use std::error::Error as StdError;
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, bounded, select, tick};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tautline::{
    Client, Confirmation, ConnectionConfig, Delivery, Error, Event, Inbound, JsonSession, ReconnectConfig,
    Ticket,
};

const USAGE: &str = "\
deliver URL --failed FILE [--patience SECONDS] < LINES

--failed FILE       where lines are kept until they are acknowledged
--patience SECONDS  ends when no line was acknowledged for so long (default 60)
";

/// How many bytes a line may have.
const LONGEST: usize = 1 << 20;

struct Options {
    url: String,
    failed: PathBuf,
    patience: Duration,
}

/// The lines of this run, in the order in which they are sent.
struct Batch {
    lines: Vec<Line>,
    failed: PathBuf,
}

struct Line {
    /// Unique among all lines of all runs.
    id: String,
    text: String,
}

fn main() -> ExitCode {
    env_logger::init();
    match prepare() {
        Ok((client, batch, patience)) => deliver(&client, &batch, patience),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Everything that can fail before a line is sent. The input is read behind the rest, and is stored last.
fn prepare() -> Result<(Client, Batch, Duration), Box<dyn StdError>> {
    let Options { url, failed, patience } = options().ok_or(USAGE)?;
    let config = ConnectionConfig::new(url)
        .delivery(Delivery::AtLeastOnce) // sends again what was not acknowledged when a connection was lost
        .confirmation(Confirmation::Acknowledgement) // by the application, and not by the pongs of its library
        .inbound(Inbound::Discard) // the session still sees the acknowledgements
        .stable_after(Duration::from_secs(1))
        .reconnect(ReconnectConfig::default().initial_delay(Duration::from_millis(100)));
    let session = JsonSession::new().acknowledged_by("id", "ack");
    let client = Client::builder(config).protocol(session).start()?; // it connects while the input is read
    let batch = Batch::read(failed)?;
    batch.store(batch.lines.iter())?;
    Ok((client, batch, patience))
}

fn options() -> Option<Options> {
    let (mut url, mut failed, mut patience) = (None, None, Duration::from_secs(60));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--failed" => failed = Some(arguments.next()?.into()),
            "--patience" => patience = Duration::from_secs(arguments.next()?.parse().ok()?),
            option if option.starts_with('-') => return None,
            _ if url.is_some() => return None,
            _ => url = Some(argument),
        }
    }
    Some(Options { url: url?, failed: failed?, patience })
}

impl Batch {
    /// The lines that an earlier run has left, and those of stdin.
    fn read(failed: PathBuf) -> Result<Self, Box<dyn StdError>> {
        let left = match fs::read_to_string(&failed) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            left => left.map_err(|error| format!("{}: {error}", failed.display()))?,
        };
        let line =
            |line: &str| line.split_once('\t').map(|(id, text)| Line { id: id.into(), text: text.into() });
        let left = left.split_terminator('\n').map(line).collect::<Option<Vec<_>>>();
        let mut lines = left.ok_or_else(|| format!("{} is not of this program", failed.display()))?;
        let input = io::read_to_string(io::stdin()).map_err(|error| format!("stdin: {error}"))?;
        let run = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        for (text, number) in input.split_terminator('\n').zip(1..) {
            if text.len() > LONGEST {
                return Err(format!("line {number} of stdin has more than {LONGEST} bytes").into());
            }
            lines.push(Line { id: format!("{run:x}-{number}"), text: text.into() });
        }
        Ok(Self { lines, failed })
    }

    /// Replaces FILE in one step: a program that is killed leaves the old lines or the new ones.
    fn store<'a>(&self, lines: impl Iterator<Item = &'a Line>) -> io::Result<usize> {
        let mut new = self.failed.clone().into_os_string();
        new.push(".new");
        let mut count = 0;
        let mut file = BufWriter::new(File::create(&new)?);
        for Line { id, text } in lines {
            writeln!(file, "{id}\t{text}")?;
            count += 1;
        }
        file.into_inner()?.sync_all()?;
        fs::rename(new, &self.failed)?;
        Ok(count)
    }

    /// Takes the acknowledged lines out of FILE. The fate of the messages up to `known` is known. Returns how many are left.
    fn trim(&self, client: &Client, known: Option<Ticket>) -> Result<usize, Box<dyn StdError>> {
        // The library gives a message up that three connections were lost over. Events say so, too, but those are merged
        // if they are not read in time; `confirm` always knows.
        let lost: HashSet<u64> = match known.map(|known| client.confirm(..=known, Duration::ZERO)) {
            Some(Ok(())) | None => HashSet::new(),
            Some(Err(Error::Unconfirmed { maybe_delivered, never_sent, .. })) => {
                maybe_delivered.iter().chain(never_sent.iter()).map(Ticket::number).collect()
            }
            Some(Err(error)) => return Err(error.into()),
        };
        let known = known.map_or(0, Ticket::number);
        // Only this program sends, so the tickets count its lines.
        let left = self.lines.iter().zip(1..).filter(|(_, n)| *n > known || lost.contains(n));
        Ok(self.store(left.map(|(line, _)| line))?)
    }

    /// Sends all lines. Blocks while the outbox is full, and ends when the client is closed. Returns the last ticket.
    fn send(&self, client: &Client) -> Option<Ticket> {
        let messages = self.lines.iter().map(|Line { id, text }| json!({"id": id, "line": text}));
        messages.map_while(|message| client.send(message).ok()).last()
    }

    /// Shows the progress and trims FILE, until all fates are known, the client or the user ends it, or nothing happens.
    fn watch(
        &self,
        client: &Client,
        stop: &Receiver<()>,
        patience: Duration,
    ) -> Result<(), Box<dyn StdError>> {
        let bar = ProgressBar::new(self.lines.len() as u64); // hidden where stderr is no terminal
        bar.set_style(ProgressStyle::with_template("{bar:30} {pos} of {len}, {eta} left; {msg}")?);
        let (redraw, trim) = (tick(Duration::from_millis(100)), tick(Duration::from_secs(1)));
        let (mut known, mut trimmed) = (None, None);
        let (mut confirmed, mut since) = (0, Instant::now());
        while known.map_or(0, Ticket::number) < self.lines.len() as u64 && since.elapsed() < patience {
            select! {
                recv(client.events()) -> event => if let Event::Closed { .. } = event? { break },
                recv(stop) -> _ => break,
                recv(redraw) -> _ => {
                    let status = client.status();
                    bar.set_position(status.stats.messages_confirmed);
                    bar.set_message(status.to_string());
                    known = status.confirmed_up_to;
                    if status.stats.messages_confirmed > confirmed {
                        (confirmed, since) = (status.stats.messages_confirmed, Instant::now());
                    }
                }
                // Somebody who reads FILE may stand in the way, on Windows. The next trim does it then, or the last.
                recv(trim) -> _ => if known > trimmed && self.trim(client, known).is_ok() {
                    trimmed = known;
                }
            }
        }
        bar.finish_and_clear();
        Ok(())
    }
}

fn deliver(client: &Client, batch: &Batch, patience: Duration) -> ExitCode {
    let (left, trouble) = thread::scope(|scope| {
        let sender = scope.spawn(|| batch.send(client));
        let watched = signals().map_err(Into::into).and_then(|stop| batch.watch(client, &stop, patience));
        let trouble = client.status().trouble;
        let _ = client.close(); // waits a little for acknowledgements; then `confirm` knows all fates
        let last = sender.join().map_err(|_| "the sender has panicked".into());
        (watched.and(last.and_then(|last| batch.trim(client, last))), trouble)
    });
    let (all, file) = (batch.lines.len(), batch.failed.display());
    match left {
        Ok(0) => {
            eprintln!("all {all} lines are acknowledged");
            return ExitCode::SUCCESS;
        }
        Ok(left) => eprintln!("{} of {all} lines are acknowledged; the others are in {file}", all - left),
        Err(error) => eprintln!("{error}; what is not acknowledged is in {file}, and perhaps more"),
    }
    if let Some(trouble) = trouble {
        eprintln!("{trouble}");
    }
    ExitCode::FAILURE
}

/// SIGINT and SIGTERM.
fn signals() -> Result<Receiver<()>, ctrlc::Error> {
    let (ask, stop) = bounded(1);
    ctrlc::set_handler(move || _ = ask.try_send(()))?;
    Ok(stop)
}
