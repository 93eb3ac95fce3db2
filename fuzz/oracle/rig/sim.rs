//! The surroundings of a line: the network, its servers, and the other threads.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::ConnectionConfig;
use crate::dial::Dialled;
use crate::error::{Error, Phase};
use crate::fuzzing::peer::Peer;
use crate::handshake::Handshake;
use crate::io::turn::{Host, News};
use crate::jobs::JobResult;
use crate::protocol::UpgradeRequest;
use crate::session::reconnect::ReconnectPlan;
use crate::session::{ConnectionId, Job};
use crate::shared::Command;
use crate::transport::Connection;
use crate::transport::link::Link;
use crate::transport::pipe::{End, Pipe};
use crate::transport::socket::Socket;
use crate::transport::wire::Wire;

pub(in crate::fuzzing) struct Sim {
    pub(in crate::fuzzing) now: Instant,
    config: ConnectionConfig,
    pub(in crate::fuzzing) results: VecDeque<(u64, Result<Opening, Error>)>,
    pub(in crate::fuzzing) commands: VecDeque<Command>,
    /// Jobs that are under way, and take a moment.
    jobs: Vec<Job>,
    worked: VecDeque<JobResult>,
    pub(in crate::fuzzing) dialling: Option<u64>,
    /// The newest attempt so far.
    pub(in crate::fuzzing) newest: u64,
    pub(in crate::fuzzing) plan: Option<ReconnectPlan>,
    /// The delays of the plans that were made since they were last read.
    pub(in crate::fuzzing) planned: Vec<Duration>,
    /// The URLs that were dialled since they were last read.
    pub(in crate::fuzzing) dialled: Vec<String>,
    pub(in crate::fuzzing) lines: Vec<Line>,
    /// How many requests the host has served.
    pub(in crate::fuzzing) work: usize,
}

/// Both ends of a connection.
pub(in crate::fuzzing) struct Line {
    pub(in crate::fuzzing) id: ConnectionId,
    pub(in crate::fuzzing) pipe: Pipe,
    pub(in crate::fuzzing) peer: Peer,
    /// What the server has sent and the network has not delivered yet.
    pub(in crate::fuzzing) flight: VecDeque<u8>,
    pub(in crate::fuzzing) end: Option<End>,
    /// How many of these bytes arrive at a time.
    pub(in crate::fuzzing) cut: usize,
    /// When bytes were last read, or when the connection opened.
    pub(in crate::fuzzing) heard: Instant,
    /// How many bytes the server has sent, and how many of them the network has delivered.
    pub(in crate::fuzzing) sent: u64,
    pub(super) delivered: u64,
    /// Up to where messages go that count as data and that the client has not read.
    pub(in crate::fuzzing) data_ends: VecDeque<u64>,
    /// When the client last read such a message, or when the connection opened.
    pub(in crate::fuzzing) data: Instant,
    /// When the system last took some of what waits, or when nothing waited.
    pub(in crate::fuzzing) moved: Instant,
    taken: u64,
    blocked: bool,
}

/// A connection that is being opened.
pub(in crate::fuzzing) struct Opening {
    /// Bytes that came together with the answer.
    pub(in crate::fuzzing) glued: Vec<u8>,
    pub(in crate::fuzzing) peer: Peer,
    pub(in crate::fuzzing) room: usize,
}

impl Sim {
    pub(super) fn new(config: ConnectionConfig, now: Instant) -> Self {
        Self {
            now,
            config,
            results: VecDeque::new(),
            commands: VecDeque::new(),
            jobs: Vec::new(),
            worked: VecDeque::new(),
            dialling: None,
            newest: 0,
            plan: None,
            planned: Vec::new(),
            dialled: Vec::new(),
            lines: Vec::new(),
            work: 0,
        }
    }

    /// Finishes the jobs.
    pub(super) fn work_on(&mut self) {
        for Job { connection, id, work } in self.jobs.drain(..) {
            self.worked.push_back(JobResult { connection, id, result: work() });
        }
    }

    /// Whether the I/O thread would be woken.
    pub(super) fn has_news(&self) -> bool {
        let flies = |line: &Line| !line.flight.is_empty() || line.end.is_some();
        let brought = !self.worked.is_empty() || !self.results.is_empty() || !self.commands.is_empty();
        let due = self.plan.is_some_and(|plan| plan.at <= self.now);
        brought || due || self.lines.iter().any(flies)
    }

    fn open(&mut self, generation: u64, opening: Opening) -> Connection<Pipe> {
        let pipe = Pipe::new();
        let mut link = Link::Plain(Wire::new(pipe.clone()));
        link.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a write always succeeds");
        pipe.take();
        pipe.state().room = opening.room;
        let socket =
            Box::new(Socket::new(link, opening.glued, &self.config, self.config.compression.as_ref()));
        self.lines.push(Line {
            id: ConnectionId(generation),
            pipe,
            peer: opening.peer,
            flight: VecDeque::new(),
            end: None,
            cut: 0,
            heard: self.now,
            sent: 0,
            delivered: 0,
            data_ends: VecDeque::new(),
            data: self.now,
            moved: self.now,
            taken: 0,
            blocked: false,
        });
        let agreed = Handshake::new(Some(([127, 0, 0, 1], 80).into()), None);
        let handshake = Arc::new(Handshake { compression: self.config.compression.clone(), ..agreed });
        Connection { socket, handshake }
    }
}

impl Host for Sim {
    type Raw = Pipe;

    fn now(&self) -> Instant {
        self.now
    }

    fn poll(&mut self) -> Option<News<Pipe>> {
        self.work += 1;
        if let Some((generation, result)) = self.results.pop_front() {
            self.dialling.take_if(|dialling| *dialling == generation);
            let result = result.map(|opening| self.open(generation, opening));
            return Some(News::Dialled(Dialled { generation, result }));
        }
        if let Some(worked) = self.worked.pop_front() {
            return Some(News::JobResult(worked));
        }
        if let Some(command) = self.commands.pop_front() {
            return Some(News::Command(command));
        }
        let due = self.plan.take_if(|plan| plan.at <= self.now);
        self.work -= usize::from(due.is_none());
        due.map(|plan| News::Due { generation: plan.generation })
    }

    fn dial(&mut self, now: Instant, generation: u64, request: UpgradeRequest) {
        self.work += 1;
        self.dialled.push(request.url);
        assert_eq!(now, self.now);
        assert!(self.dialling.replace(generation).is_none(), "two attempts");
        self.newest = generation;
        assert!(self.plan.is_none(), "an attempt next to a plan");
    }

    fn abandon_dial(&mut self) -> (Phase, Box<str>, Option<Arc<std::io::Error>>) {
        self.work += 1;
        self.dialling = None;
        (Phase::Tls, "h".into(), None)
    }

    fn schedule(&mut self, plan: ReconnectPlan) {
        self.work += 1;
        assert_eq!(plan.at, self.now + plan.delay);
        self.planned.push(plan.delay);
        assert!(self.plan.replace(plan).is_none(), "two plans");
    }

    fn unschedule(&mut self) {
        self.work += 1;
        self.plan = None;
    }

    fn run(&mut self, job: Job) {
        self.work += 1;
        self.jobs.push(job);
    }

    fn drop_jobs(&mut self, connection: ConnectionId) {
        self.work += 1;
        self.jobs.retain(|job| job.connection != connection);
    }
}

impl Line {
    /// Whether bytes wait for the system to take them.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Notes which data the client has read.
    pub(super) fn note_data(&mut self, now: Instant) {
        let state = self.pipe.state();
        if state.end == Some(End::Reset) {
            // What was not read is lost.
            return;
        }
        let read = self.delivered - state.incoming.len() as u64;
        drop(state);
        let ends = self.data_ends.partition_point(|end| *end <= read);
        if self.data_ends.drain(..ends).count() > 0 {
            self.data = now;
        }
    }

    /// The system has taken `taken` bytes.
    pub(super) fn moves(&mut self, now: Instant, taken: u64, blocked: bool) {
        if taken != self.taken || !blocked || !self.blocked {
            self.moved = now;
        }
        (self.taken, self.blocked) = (taken, blocked);
    }
}
