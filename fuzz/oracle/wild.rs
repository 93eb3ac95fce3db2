//! A protocol that asks for anything at any time, as the bytes of the input say.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::event::Ticket;
use crate::handshake::Handshake;
use crate::message::Message;
use crate::protocol::{Attempt, Context, Loss, Outgoing, Protocol, RequestId, Retry, UpgradeRequest};
use crate::session::ConnectionId;

/// The longest time between two heartbeats that it asks for.
pub(super) const LONGEST_TOLD: Duration = Duration::from_millis(2 * 39 * 7);

pub(super) struct Wild {
    script: Vec<u8>,
    at: usize,
    requests: VecDeque<RequestId>,
    /// The tickets of the messages that it has sent, oldest first.
    sent: VecDeque<Ticket>,
    fallen: Fallen,
}

/// What it did with the messages that it was given to send.
#[derive(Clone, Default)]
pub(super) struct Fallen(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    /// The tickets of the messages that it dropped.
    fallen: Vec<u64>,
    /// The tickets of the requests that it has answered, whether or not anybody still waited, and of the messages that it
    /// has acknowledged.
    answered: Vec<u64>,
    /// How often it was given each message to send.
    times: BTreeMap<u64, u8>,
    /// The connections whose heartbeats it has stopped.
    silent: BTreeSet<u64>,
    /// All servers that it has named.
    servers: BTreeSet<String>,
}

impl Fallen {
    pub(super) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.seen().fallen)
    }

    pub(super) fn take_answered(&self) -> Vec<u64> {
        std::mem::take(&mut self.seen().answered)
    }

    /// How often it was given this message to send.
    pub(super) fn times(&self, ticket: u64) -> u8 {
        self.seen().times.get(&ticket).copied().unwrap_or_default()
    }

    /// Whether it has stopped the heartbeats of this connection.
    pub(super) fn is_silent(&self, connection: ConnectionId) -> bool {
        self.seen().silent.contains(&connection.0)
    }

    /// Whether it has named this server.
    pub(super) fn has_named(&self, url: &str) -> bool {
        self.seen().servers.contains(url)
    }

    fn change(&self, urls: &[String]) {
        self.seen().servers.extend(urls.iter().cloned());
    }

    fn add(&self, ticket: u64) {
        self.seen().fallen.push(ticket);
    }

    fn answer(&self, request: RequestId) -> RequestId {
        self.seen().answered.push(request.0);
        request
    }

    fn acknowledge(&self, tickets: RangeInclusive<u64>) {
        self.seen().answered.extend(tickets);
    }

    fn meet(&self, ticket: u64) {
        let mut seen = self.seen();
        let times = seen.times.entry(ticket).or_default();
        *times = times.saturating_add(1);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wild {
    pub(super) fn new(script: &[u8], fallen: Fallen) -> Self {
        Self { script: script.to_vec(), at: 0, requests: VecDeque::new(), sent: VecDeque::new(), fallen }
    }

    fn choose(&mut self, n: u8) -> u8 {
        self.at += 1;
        self.script.get(self.at % (self.script.len() + 1)).map_or(0, |byte| byte % n)
    }

    fn effect(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let ms = Duration::from_millis(u64::from(self.choose(40)) * 7);
        match self.choose(37) {
            0 => cx.send("w: anything"),
            1 => cx.send("w".repeat(70_000)),
            2 => cx.deliver("anything"),
            3 => cx.ready(),
            4 => cx.set_timer(u32::from(self.choose(3)), ms),
            5 => cx.cancel_timer(u32::from(self.choose(3))),
            6 => cx.beat_answered(),
            7 => {
                if let Some(request) = self.requests.pop_front() {
                    cx.answer(self.fallen.answer(request), "an answer");
                }
            }
            8 => {
                if let Some(request) = self.requests.pop_back() {
                    cx.fail_request(self.fallen.answer(request), Error::answer("a failure"));
                }
            }
            9 => cx.hold(ms),
            10 => cx.release(),
            11 => cx.work(u32::from(self.choose(3)), || Ok("done".into())),
            12 if self.choose(4) == 1 => cx.close(4000 + u16::from(self.choose(9)), "w: goodbye"),
            13 if self.choose(9) == 1 => cx.stop(Error::session("enough for good")),
            14 => {
                if let Some(request) = self.requests.front() {
                    cx.answer_part(self.fallen.answer(*request), "a part");
                }
            }
            15 => {
                if let Some(request) = self.requests.pop_front() {
                    cx.end_request(request);
                }
            }
            16 => cx.resumed(),
            20 => {
                cx.set_beats(ms, ms + ms);
                self.fallen.seen().silent.remove(&cx.connection());
            }
            17 => drop(cx.random()),
            18 if self.choose(4) == 1 => return Err(Error::session("enough")),
            19 if self.choose(4) == 1 => return Err(Error::login_refused("enough")),
            21..=27 => cx.move_line(),
            28..=29 => {
                if let Some(ticket) = self.sent.pop_front() {
                    self.fallen.acknowledge(ticket.number()..=ticket.number());
                    cx.acknowledge(ticket);
                }
            }
            30 => {
                if let Some(ticket) = self.sent.pop_back() {
                    self.fallen.acknowledge(ticket.number()..=ticket.number());
                    cx.acknowledge([ticket, ticket]);
                }
            }
            31 => {
                if let Some(ticket) = self.sent.front().copied() {
                    self.fallen.acknowledge(1..=ticket.number());
                    cx.acknowledge(..=ticket);
                }
            }
            32 => {
                let ticket = u64::from(self.choose(20)) + 1;
                self.fallen.acknowledge(ticket..=ticket);
                cx.acknowledge(Ticket(ticket));
            }
            33 => {
                cx.stop_beats();
                self.fallen.seen().silent.insert(cx.connection());
            }
            34 => {
                let (first, count) = (self.choose(6), self.choose(4));
                let urls: Vec<_> = (first..first + count).map(|n| format!("ws://h{n}")).collect();
                // An empty list changes nothing but the connection.
                if !urls.is_empty() {
                    self.fallen.change(&urls);
                }
                cx.set_servers(urls);
            }
            35 if self.choose(4) == 1 => cx.set_servers(["ws://h1", "http://h2"]),
            _ => {}
        }
        Ok(())
    }
}

impl Protocol for Wild {
    fn prepare(&mut self, _: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        request.set_header("X-Wild", "1");
        if self.choose(9) == 5 { Err(Error::session("not now")) } else { Ok(()) }
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        if self.choose(2) == 0 {
            cx.ready();
        }
        self.effect(cx)
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        match self.choose(4) {
            0 => cx.ready(),
            1 => {}
            _ => cx.deliver(message),
        }
        self.effect(cx)
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        self.fallen.meet(outgoing.ticket.number());
        self.requests.extend(outgoing.request);
        let before = self.effect(cx);
        if self.choose(8) == 7 && before.is_ok() {
            self.fallen.add(outgoing.ticket.number());
        } else {
            self.sent.push_back(outgoing.ticket);
            cx.send(outgoing.message);
        }
        before?;
        if self.choose(3) == 2 { self.effect(cx) } else { Ok(()) }
    }

    fn on_ping(&mut self, cx: &mut Context<'_>, _: &[u8]) -> Result<(), Error> {
        self.effect(cx)
    }

    fn on_pong(&mut self, cx: &mut Context<'_>, _: &[u8]) -> Result<(), Error> {
        self.effect(cx)
    }

    fn on_withdrawn(&mut self, cx: &mut Context<'_>, _: RequestId) -> Result<(), Error> {
        self.effect(cx)
    }

    fn on_work(&mut self, cx: &mut Context<'_>, _: u32, _: Result<Message, Error>) -> Result<(), Error> {
        self.effect(cx)
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, _: u32) -> Result<(), Error> {
        self.effect(cx)
    }

    fn on_move_failed(&mut self, cx: &mut Context<'_>, _: &Error) -> Result<(), Error> {
        self.effect(cx)
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("w: beat");
        self.effect(cx)
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        self.effect(cx)?;
        self.effect(cx)
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        self.requests.clear();
        match self.choose(6) {
            0 => Retry::After(Duration::from_millis(u64::from(self.choose(100)) + 1)),
            1 => Retry::Never,
            2 => Retry::Backoff,
            3 if down.wants_credentials() => Retry::Now,
            _ => down.default_retry(),
        }
    }
}
