//! From the first connection to the exit code.

mod status;
mod typed;

use std::io::{self, BufWriter, Read, StdoutLock, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, Sender, never, select, tick};
use tautline::ConnectionState::{Closed, Closing, Connected, Connecting, Disconnected};
use tautline::{
    Beat, Client, CloseReason, ConnectionState, DisconnectReason, Event, Message, Undelivered as Left,
};

use super::advice::{self, explain};
use super::input::{self, Typed};
use super::options::Options;
use super::output::{Direction, log, log_state, print};
use super::paper;
use super::screen::Screen;
use super::undelivered::Undelivered;
use super::verbose::describe;
use super::{INTERRUPTED, OVER, Signals, complain};

/// How long an event may take that has happened.
const SOON: Duration = Duration::from_secs(1);

pub(crate) struct Session {
    client: Client,
    lines: Receiver<io::Result<Typed>>,
    signals: Signals,
    /// Requests a confirmation of what was sent, where that is possible.
    sent: Option<Sender<()>>,
    options: Options,
    screen: Screen,
    out: BufWriter<StdoutLock<'static>>,
    began: Instant,
    silent: Instant, // when a message was last sent or received
    tally: Tally,
    undelivered: Undelivered,
    closed: Option<Left>, // what /close has left
    is_asked: bool,       // for a ping, by /ping
}

#[derive(Default)]
struct Tally {
    unsent: u64,
    written: u64,
    received: u64,
    is_expected: bool,      // what --expect waits for has come
    ended: Option<Instant>, // when stdin ended
    is_over: bool,          // the line is lost or closed for good
    round_trip: Option<Duration>,
}

/// Why it goes on no more.
enum Stop {
    Signal,
    Timeout,
    /// The line is closed, or there is nothing more to wait for.
    Done,
}

impl Session {
    pub(crate) fn new(
        client: Client,
        lines: Receiver<io::Result<Typed>>,
        signals: Signals,
        sent: Option<Sender<()>>,
        options: Options,
        screen: Screen,
        began: Instant,
    ) -> Self {
        let (out, silent) = (BufWriter::new(io::stdout().lock()), Instant::now());
        let (tally, undelivered) = (Tally::default(), Undelivered::default());
        Self {
            client,
            lines,
            signals,
            sent,
            options,
            screen,
            out,
            began,
            silent,
            tally,
            undelivered,
            closed: None,
            is_asked: false,
        }
    }

    /// Fails when stdout can't be written.
    pub(crate) fn run(mut self) -> io::Result<u8> {
        let served = self.serve();
        let line = self.client.status();
        self.begin_end();
        // It writes what was accepted first.
        let left = self.closed.take().unwrap_or_else(|| self.client.close());
        let stopped = served?;
        for event in self.client.events().clone() {
            self.see(event)?;
        }
        self.take_last()?;
        let reason = self.client.wait_closed();
        // Only pings confirm. A server that closes with 1000 has read what it wanted, unless each line counts.
        let pings = self.options.config.heartbeat.beat == Beat::WebSocketPing;
        let counts = matches!(reason, CloseReason::ByCaller) || self.options.ending.undelivered.is_some();
        let ended = reason.clone().into_result();
        if pings && counts || ended.is_err() {
            self.undelivered.doubt(&left.maybe_delivered);
        }
        self.look()?;
        self.screen.end_prompt();
        let by = match &reason {
            CloseReason::NotRetried(by @ DisconnectReason::ClosedByServer(frame)) if frame.code == 1000 => {
                format!("  {by}")
            }
            _ => String::new(), // the error says it
        };
        self.tell(Closed, &(by + &self.status()))?;

        self.undelivered.end(self.tally.written);
        let undelivered = self.tell_undelivered();
        let (tally, options) = (&self.tally, &self.options);
        Ok(match (stopped, ended) {
            (Stop::Signal, _) => INTERRUPTED,
            (_, Err(error)) if !self.is_satisfied() => explain(3, &error, options),
            (Stop::Timeout, _) => complain(5, OVER),
            _ if options.ending.waits() && !self.is_satisfied() => complain(
                3,
                match tally.received {
                    0 => "no message came",
                    _ if options.ending.expect.is_some() => "no message was as expected",
                    _ => "not so many messages came",
                },
            ),
            _ if undelivered == 0 && line.state != Closed && !line.ready && self.tally.ended.is_some() => {
                match &line.trouble {
                    Some(error) => explain(3, error, options),
                    None => complain(3, "the line was down at the end"),
                }
            }
            _ => undelivered,
        })
    }

    /// Takes the lines that were read, and from a file all others, if they are to be kept.
    fn take_last(&mut self) -> io::Result<()> {
        let lines = self.lines.clone();
        if self.options.ending.undelivered.is_none() || !input::is_file() {
            return lines.try_iter().try_for_each(|line| self.take(Ok(line)));
        }
        if self.tally.ended.is_none() {
            // Their thread ends soon, because nothing is sent any more.
            lines.iter().try_for_each(|line| self.take(Ok(line)))?;
        }
        match io::stdin().lock().read_to_end(&mut self.undelivered.rest) {
            Ok(_) => Ok(()),
            Err(error) => self.take(Ok(Err(error))),
        }
    }

    /// The line is about to be closed, and Ctrl-C ends the program at once.
    fn begin_end(&self) {
        self.signals.is_open.store(false, Ordering::SeqCst);
        self.screen.draw(Closing, &self.status());
    }

    /// Returns the exit code for that.
    fn tell_undelivered(&self) -> u8 {
        let (left, options) = (&self.undelivered, &self.options);
        let end = options.shape.end();
        let unread = left.rest.split_inclusive(|byte| *byte == end).count() as u64;
        let missing = left.missing.len() as u64 + unread + self.tally.unsent;
        let is_kept = match &options.ending.undelivered {
            None => {
                left.show();
                Ok(())
            }
            Some(file) => left.write(file, end).map_err(|error| {
                left.show();
                complain(4, &format!("{}: {error}", file.display()))
            }),
        };
        if left.is_empty() && missing == 0 {
            return is_kept.map_or_else(|code| code, |()| 0);
        }
        let doubtful = left.doubtful.len();
        complain(4, &format!("lines not delivered: {missing}; perhaps not delivered: {doubtful}"))
    }

    /// Runs until the line is closed, there is nothing more to wait for, or a signal arrives.
    fn serve(&mut self) -> io::Result<Stop> {
        let tick = tick(Duration::from_millis(100));
        // How the line came up stands before what goes out on it.
        while let Ok(event) = self.client.events().recv_timeout(SOON) {
            let is_up = matches!(event, Event::Connected { .. });
            self.see(event)?;
            if is_up {
                break;
            }
        }
        loop {
            let events = if self.screen.is_behind() { &never() } else { self.client.events() };
            select! {
                recv(events) -> event => match event {
                    Ok(event) => self.see(event)?,
                    Err(RecvError) => return Ok(Stop::Done),
                },
                recv(self.lines) -> line => self.take(line)?,
                recv(self.signals.stop) -> _ => return Ok(Stop::Signal),
                recv(tick) -> _ => {
                    if self.look()? {
                        return Ok(Stop::Done);
                    }
                    if self.options.ending.timeout.is_some_and(|timeout| self.began.elapsed() >= timeout) {
                        return Ok(Stop::Timeout);
                    }
                }
            }
            if self.closed.is_some() {
                return Ok(Stop::Done);
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
                self.show(&message)?;
            }
            Event::StateChanged { to, .. } if !matches!(to, Disconnected | Closed) => {
                self.log_state(to, None)?;
                if matches!(to, Connecting | Closing) && !self.screen.live {
                    self.tell(to, &self.status())?;
                }
            }
            Event::Connected { handshake, .. } => {
                for text in self.options.first.clone() {
                    self.log_ours(&text, None)?;
                }
                self.silent = Instant::now();
                let chosen = handshake.subprotocol.as_deref();
                let chosen = chosen.map_or(String::new(), |name| format!(", subprotocol {name}"));
                let proxy = handshake.proxy.as_deref();
                let by = proxy.map(|proxy| format!("  through the proxy {proxy}")).unwrap_or_default();
                let to = if by.is_empty() { "  to" } else { " at" };
                let to = handshake.address.map(|address| format!("{to} {address}")).unwrap_or_default();
                self.tell(Connected, &format!("{by}{to}{chosen}"))?;
                if self.options.log.is_some() {
                    paper::put(&describe(&handshake, self.options.config.compression.is_some()));
                }
            }
            Event::Disconnected { reason, retry_in, maybe_delivered, .. } => {
                // Each line was reported before it was sent, and may be among those in doubt.
                for line in self.lines.clone().try_iter() {
                    self.take(Ok(line))?;
                }
                let is_suspended = matches!(reason, DisconnectReason::ByCaller { .. });
                if retry_in.is_none() && !is_suspended {
                    // What follows is the end, which says what is in doubt.
                    self.tally.is_over = true;
                    return Ok(());
                }
                self.log_state(Disconnected, Some(&reason.to_string()))?;
                self.undelivered.doubt(&maybe_delivered);
                let why = match reason {
                    DisconnectReason::ByCaller { .. } => "as asked for".to_owned(),
                    _ => reason.to_string(),
                };
                let next = match retry_in {
                    None => String::new(),
                    Some(Duration::ZERO) => "; next try now".to_owned(),
                    Some(delay) => format!("; next try in {delay:.1?}"),
                };
                let mut what = format!("  {why}{next}; in doubt: {maybe_delivered}");
                if let Some(options) = advice::options(&reason.to_error()) {
                    what.extend(["; with wscat: ", &options]);
                }
                self.tell(Disconnected, &what)?;
            }
            Event::Closed { reason, .. } => self.log_state(Closed, Some(&reason.to_string()))?,
            _ => {}
        }
        Ok(())
    }

    /// Prints a message of the server's, unless enough came before it.
    fn show(&mut self, message: &Message) -> io::Result<()> {
        let ending = &self.options.ending;
        if self.tally.is_expected || ending.enough().is_some_and(|enough| self.tally.received > enough) {
            return Ok(());
        }
        if let Some(expected) = &ending.expect {
            let text =
                message.as_text().map_or_else(|| String::from_utf8_lossy(message.as_bytes()), Into::into);
            self.tally.is_expected = expected.is_match(&text);
        }
        let shape = Arc::clone(&self.options.shape);
        let tame = self.screen.shared && !shape.raw;
        if shape.is_log() {
            return self.write(|out| log(out, message, Direction::In, &shape, tame));
        }
        if !self.screen.has_prompt() {
            return self.write(|out| print(out, message, &shape, tame));
        }
        let mut text = Vec::new();
        print(&mut text, message, &shape, tame)?;
        self.screen.show(&String::from_utf8_lossy(&text));
        Ok(())
    }

    /// Writes whole lines to stdout; at a prompt, by way of that.
    fn write(&mut self, what: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        if self.screen.has_prompt() {
            let mut text = Vec::new();
            what(&mut text)?;
            self.screen.print(&String::from_utf8_lossy(&text));
            return Ok(());
        }
        if self.screen.shared {
            paper::put("");
        }
        what(&mut self.out)
    }

    /// Tells what became of the line, behind what was written before.
    fn tell(&mut self, state: ConnectionState, what: &str) -> io::Result<()> {
        self.out.flush()?;
        self.screen.tell(state, what);
        Ok(())
    }

    /// In the log of JSON, what is sent is a line, too.
    fn log_ours(&mut self, message: &Message, ticket: Option<u64>) -> io::Result<()> {
        let (shape, tame) = (Arc::clone(&self.options.shape), self.screen.shared);
        if shape.is_log() {
            self.write(|out| log(out, message, Direction::Out { ticket }, &shape, tame))?;
        }
        Ok(())
    }

    /// So are states.
    fn log_state(&mut self, state: ConnectionState, reason: Option<&str>) -> io::Result<()> {
        if !self.options.shape.is_log() {
            return Ok(());
        }
        let tame = self.screen.shared;
        self.write(|out| log_state(out, state, reason, tame))
    }

    fn take(&mut self, line: Result<io::Result<Typed>, RecvError>) -> io::Result<()> {
        let Ok(line) = line else {
            self.lines = never();
            self.tally.ended.get_or_insert_with(Instant::now);
            return Ok(());
        };
        match line {
            Ok(Typed::Line(line, message)) => {
                self.screen.enter();
                self.read(line, &message)?;
            }
            Ok(Typed::Refused(line, what)) => {
                self.undelivered.missing.push(line);
                self.screen.enter();
                paper::put(&format!("wscat: a line of stdin: {what}; it is read no further\n"));
            }
            Ok(Typed::Entered(line)) => {
                self.screen.enter();
                self.enter(&line)?;
            }
            Ok(Typed::End) => _ = self.tally.ended.get_or_insert_with(Instant::now),
            Ok(Typed::Long(begin)) => {
                self.undelivered.rest = begin;
                self.screen.enter();
                paper::put("wscat: a line of stdin is too long; it is read no further\n");
            }
            Err(error) => {
                self.tally.unsent += 1;
                self.screen.enter();
                paper::put(&format!("wscat: stdin: {error}; it is read no further\n"));
            }
        }
        Ok(())
    }

    /// A line was read, and its message accepted or about to be.
    fn read(&mut self, line: Vec<u8>, message: &Message) -> io::Result<()> {
        self.undelivered.read(line);
        self.log_ours(message, Some(self.undelivered.read))
    }

    /// Handles what changes without an event. Returns whether there is nothing more to wait for.
    fn look(&mut self) -> io::Result<bool> {
        let now = Instant::now();
        let (done, state, tally) = (self.client.stats(), self.client.state(), &mut self.tally);
        if done.messages_written > tally.written {
            (tally.written, self.silent) = (done.messages_written, now);
        }
        // What an event lists as lost counts as known, too: then the event is among those that wait.
        let known = self.client.confirmed_up_to();
        if let Some(known) = known.filter(|_| !tally.is_over && self.client.events().is_empty()) {
            self.undelivered.confirm(known);
        }
        let is_answered = done.round_trip.is_some() && done.round_trip != tally.round_trip;
        tally.round_trip = done.round_trip;
        let wanted = self.options.telling.pings || self.is_asked;
        if let Some(time) = done.round_trip.filter(|_| is_answered && wanted) {
            let answered = format!("a ping was answered after {time:.1?}");
            if std::mem::take(&mut self.is_asked) {
                self.say(&answered);
            } else {
                self.tell(state, &format!("  {answered}"))?;
            }
        }
        self.screen.draw(state, &self.status());

        let (tally, ending) = (&self.tally, &self.options.ending);
        let past = |since, time| now.saturating_duration_since(since) >= time;
        Ok(match (tally.ended, ending.wait) {
            _ if self.is_satisfied() => tally.ended.is_some() || self.screen.typing,
            (None, _) => false,
            (Some(end), Some(wait)) => past(end, wait),
            (Some(_), None) => {
                let all = tally.written >= self.undelivered.read && self.client.events().is_empty();
                // Nothing more is to be sent, so that a line which is down needn't come back.
                all && !ending.waits() && past(self.silent, Duration::from_secs(1))
            }
        })
    }

    /// Whether all has come that is waited for. Not where nothing is.
    fn is_satisfied(&self) -> bool {
        let ending = &self.options.ending;
        self.tally.is_expected || ending.enough().is_some_and(|enough| self.tally.received >= enough)
    }
}
