//! From the first connection to the exit code.

mod end;
mod status;
mod typed;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvError, never, select, tick};
use tautline::ConnectionState::{Closed, Closing, Connected, Connecting, Disconnected};
use tautline::{
    Client, ConnectionState, DisconnectReason, Error, Event, Message, Ticket, Tickets, Undelivered as Left,
};

use super::advice;
use super::confirming::Confirming;
use super::input::Typed;
use super::options::Options;
use super::output::{Direction, log, log_state, print};
use super::paper;
use super::screen::Screen;
use super::signals::Signals;
use super::stdout::Stdout;
use super::undelivered::Undelivered;
use super::verbose::describe;

/// How long an event may take that has happened.
const SOON: Duration = Duration::from_secs(1);

pub(crate) struct Session {
    client: Client,
    typed: Receiver<Typed>,
    signals: Signals,
    confirming: Confirming,
    options: Options,
    screen: Screen,
    out: Stdout,
    began: Instant,
    last_message: Instant, // when one was sent or received
    tally: Tally,
    undelivered: Undelivered,
    known: Option<Ticket>, // up to here, `undelivered` knows what became of the lines
    left_by_close: Option<Left>, // by /close
    is_asked: bool,        // for a ping, by /ping
    is_suspended: bool,    // by /suspend, also before the client acts on it
}

#[derive(Default)]
struct Tally {
    written: u64,
    received: u64,
    is_expected: bool,      // what --expect waits for has come
    ended: Option<Instant>, // when stdin ended, or was read no more
    is_cut: bool,           // stdin was not read to its end
    is_over: bool,          // the line is lost or closed for good
    round_trip: Option<Duration>,
}

/// Why it goes on no more.
enum Stop {
    Signal,
    Timeout,
    /// stdout can't be written.
    Stdout,
    /// The line is closed, or there is nothing more to wait for.
    Done,
}

impl Session {
    pub(crate) fn new(
        client: Client,
        typed: Receiver<Typed>,
        signals: Signals,
        confirming: Confirming,
        options: Options,
        screen: Screen,
        began: Instant,
    ) -> io::Result<Self> {
        let out = Stdout::start()?;
        Ok(Self {
            client,
            typed,
            signals,
            confirming,
            options,
            screen,
            out,
            began,
            last_message: Instant::now(),
            tally: Tally::default(),
            undelivered: Undelivered::default(),
            known: None,
            left_by_close: None,
            is_asked: false,
            is_suspended: false,
        })
    }

    /// Returns the exit code.
    pub(crate) fn run(mut self) -> u8 {
        let stopped = self.serve();
        self.end(&stopped)
    }

    /// Runs until the line is closed, there is nothing more to wait for, a signal arrives, or stdout fails.
    fn serve(&mut self) -> Stop {
        let tick = tick(Duration::from_millis(100));
        // How the line came up stands before what goes out on it.
        while let Ok(event) = self.client.events().recv_timeout(SOON) {
            let is_up = matches!(event, Event::Connected { .. });
            self.see(event);
            if is_up {
                break;
            }
        }
        loop {
            let is_behind = self.screen.is_behind() || self.out.is_behind();
            let events = if is_behind { &never() } else { self.client.events() };
            select! {
                recv(events) -> event => match event {
                    Ok(event) => self.see(event),
                    Err(RecvError) => return Stop::Done,
                },
                recv(self.typed) -> typed => {
                    if let Ok(typed) = typed {
                        self.take(typed);
                    } else {
                        self.read_no_more();
                    }
                }
                recv(self.out.written) -> _ => self.out.go_on(),
                recv(self.signals.stop) -> _ => return Stop::Signal,
                recv(tick) -> _ => {
                    if self.look() {
                        return Stop::Done;
                    }
                    if self.options.ending.timeout.is_some_and(|timeout| self.began.elapsed() >= timeout) {
                        return Stop::Timeout;
                    }
                }
            }
            if self.left_by_close.is_some() {
                return Stop::Done;
            }
            if self.client.events().is_empty() {
                self.out.flush();
            }
            if self.out.failure().is_some() {
                return Stop::Stdout;
            }
        }
    }

    fn see(&mut self, event: Event) {
        match event {
            Event::Message(message) => {
                (self.last_message, self.tally.received) = (Instant::now(), self.tally.received + 1);
                self.show(&message);
            }
            Event::StateChanged { to, .. } if !matches!(to, Disconnected | Closed) => {
                self.log_state(to, None);
                if matches!(to, Connecting | Closing) && !self.screen.live {
                    self.tell(to, &self.status());
                }
            }
            Event::Connected { handshake, .. } => {
                for text in self.options.first.clone() {
                    self.log_ours(&text, None);
                }
                self.last_message = Instant::now();
                let chosen = handshake.subprotocol.as_deref();
                let chosen = match chosen {
                    Some(name) => format!(", subprotocol {name}"),
                    None if self.options.config.subprotocols.is_empty() => String::new(),
                    None => ", no subprotocol".into(),
                };
                let proxy = handshake.proxy.as_deref();
                let by = proxy.map(|proxy| format!("  through the proxy {proxy}")).unwrap_or_default();
                let to = if by.is_empty() { "  to" } else { " at" };
                let to = handshake.address.map(|address| format!("{to} {address}")).unwrap_or_default();
                self.tell(Connected, &format!("{by}{to}{chosen}"));
                if self.options.log.is_some() {
                    paper::put(&describe(&handshake, self.options.config.compression.is_some()));
                }
            }
            Event::Disconnected { reason, retry_in, maybe_delivered, .. } => {
                // Each line was reported before it was sent, and may be among those in doubt.
                self.take_typed();
                let is_suspended = matches!(reason, DisconnectReason::ByCaller { .. });
                if retry_in.is_none() && !is_suspended {
                    // What follows is the end, which says what is in doubt.
                    self.tally.is_over = true;
                    return;
                }
                self.log_state(Disconnected, Some(&reason.to_string()));
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
                self.tell(Disconnected, &what);
            }
            Event::Closed { reason, .. } => self.log_state(Closed, Some(&reason.to_string())),
            Event::Missed { count, state, .. } => {
                // Nobody took events for long. Losses may be among them, which only a confirmation tells.
                if !self.confirming.is_possible() {
                    self.take_typed();
                    self.undelivered.doubt_all(self.client.stats().messages_written);
                }
                let what = format!("{count} changes were not told, because stdout took nothing for long");
                self.log_state(state, Some(&what));
                self.tell(state, &format!("  {what}"));
            }
            _ => {}
        }
    }

    /// Prints a message of the server's, unless enough came before it.
    fn show(&mut self, message: &Message) {
        let ending = &self.options.ending;
        if self.tally.is_expected || ending.enough().is_some_and(|enough| self.tally.received > enough) {
            return;
        }
        if let Some(expected) = &ending.expect {
            let text =
                message.as_text().map_or_else(|| String::from_utf8_lossy(message.as_bytes()), Into::into);
            self.tally.is_expected = expected.is_match(&text);
        }
        let shape = Arc::clone(&self.options.shape);
        let tame = self.screen.shared && !shape.raw;
        if shape.is_log() {
            self.write(|out| log(out, message, Direction::In, &shape, tame));
        } else if self.screen.has_prompt() {
            self.screen.show(&in_memory(|out| print(out, message, &shape, tame)));
        } else {
            self.write(|out| print(out, message, &shape, tame));
        }
    }

    /// Writes whole lines to stdout; at a prompt, by way of that.
    fn write(&mut self, what: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        if self.screen.has_prompt() {
            self.screen.print(&in_memory(what));
            return;
        }
        if self.screen.shared {
            paper::put("");
        }
        self.out.write(what);
    }

    /// Tells what became of the line, behind what was written before.
    fn tell(&mut self, state: ConnectionState, what: &str) {
        self.out.flush();
        self.screen.tell(state, what);
    }

    /// Shows the status, behind what was written before.
    fn draw(&mut self, state: ConnectionState) {
        self.out.flush();
        self.screen.draw(state, &self.status());
    }

    /// In the log of JSON, what is sent is a line, too.
    fn log_ours(&mut self, message: &Message, ticket: Option<u64>) {
        let (shape, tame) = (Arc::clone(&self.options.shape), self.screen.shared);
        if shape.is_log() {
            self.write(|out| log(out, message, Direction::Out { ticket }, &shape, tame));
        }
    }

    /// So are states.
    fn log_state(&mut self, state: ConnectionState, reason: Option<&str>) {
        if self.options.shape.is_log() {
            let tame = self.screen.shared;
            self.write(|out| log_state(out, state, reason, tame));
        }
    }

    /// Takes what was typed or read so far.
    fn take_typed(&mut self) {
        self.typed.clone().try_iter().for_each(|typed| self.take(typed));
    }

    fn take(&mut self, typed: Typed) {
        self.screen.enter();
        match typed {
            Typed::Line(line, message) => self.accept(line, &message),
            Typed::Entered(text) => text.split('\n').for_each(|line| self.enter(line)),
            Typed::End => _ = self.tally.ended.get_or_insert_with(Instant::now),
            Typed::Refused(line, what) => {
                self.undelivered.refuse(line);
                self.tally.is_cut = true;
                paper::put(&format!("wscat: a line of stdin: {what}; it is read no further\n"));
            }
            Typed::Long(begin) => {
                self.undelivered.rest = begin;
                self.tally.is_cut = true;
                paper::put("wscat: a line of stdin is too long; it is read no further\n");
            }
            Typed::Failed(error) => {
                self.tally.is_cut = true;
                paper::put(&format!("wscat: stdin: {error}; it is read no further\n"));
            }
        }
    }

    /// The thread that reads has ended.
    fn read_no_more(&mut self) {
        self.typed = never();
        self.tally.is_cut |= self.tally.ended.is_none();
        self.tally.ended.get_or_insert_with(Instant::now);
    }

    /// The client has accepted the message of this line, or is about to.
    fn accept(&mut self, line: Vec<u8>, message: &Message) {
        self.undelivered.accept(line);
        self.log_ours(message, Some(self.undelivered.accepted));
    }

    /// Forgets the lines that have arrived, and keeps those in doubt.
    fn settle(&mut self) {
        let known = self.client.confirmed_up_to().filter(|known| Some(*known) != self.known);
        let Some(known) = known else { return };
        // A line was reported before it was sent.
        self.take_typed();
        let tickets: Tickets = match self.known.replace(known) {
            Some(before) => (before..=known).into(),
            None => (..=known).into(),
        };
        if let Err(Error::Unconfirmed { maybe_delivered, .. }) = self.client.confirm(tickets, Duration::ZERO)
        {
            self.undelivered.doubt(&maybe_delivered);
        }
        self.undelivered.confirm(known);
    }

    /// Handles what changes without an event. Returns whether there is nothing more to wait for.
    fn look(&mut self) -> bool {
        let now = Instant::now();
        let (done, state) = (self.client.stats(), self.client.state());
        if done.messages_written > self.tally.written {
            (self.tally.written, self.last_message) = (done.messages_written, now);
        }
        // Whether the last connection leaves lines in doubt is decided at the end.
        if self.confirming.is_possible() && !self.tally.is_over && self.client.events().is_empty() {
            self.settle();
        }
        let is_answered = done.round_trip.is_some() && done.round_trip != self.tally.round_trip;
        self.tally.round_trip = done.round_trip;
        let wanted = self.options.telling.pings || self.is_asked;
        if let Some(time) = done.round_trip.filter(|_| is_answered && wanted) {
            self.is_asked = false;
            self.out.flush();
            self.say(&format!("a ping was answered after {time:.1?}"));
        }
        self.draw(state);

        let (tally, ending) = (&self.tally, &self.options.ending);
        let past = |since, time| now.saturating_duration_since(since) >= time;
        match (tally.ended, ending.wait) {
            _ if self.is_satisfied() => tally.ended.is_some() || self.screen.typing,
            (None, _) => false,
            (Some(end), Some(wait)) => past(end, wait),
            (Some(_), None) => {
                let all = tally.written >= self.undelivered.accepted && self.client.events().is_empty();
                // Nothing more is to be sent, so that a line which is down needn't come back.
                all && !ending.waits() && past(self.last_message, Duration::from_secs(1))
            }
        }
    }

    /// Whether all has come that is waited for. Not where nothing is.
    fn is_satisfied(&self) -> bool {
        let ending = &self.options.ending;
        self.tally.is_expected || ending.enough().is_some_and(|enough| self.tally.received >= enough)
    }
}

/// What is written, as a text.
fn in_memory(what: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
    let mut text = Vec::new();
    let _ = what(&mut text); // there is room
    String::from_utf8_lossy(&text).into_owned()
}
