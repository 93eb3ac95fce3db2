//! What happens between two calls of a test.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::dial::Dialled;
use crate::error::{Error, Phase};
use crate::event::Event;
use crate::io::turn::{Host, News, Next};
use crate::jobs::JobResult;
use crate::message::Message;
use crate::panics::caught;
use crate::protocol::{UpgradeRequest, Work};
use crate::session::reconnect::ReconnectPlan;
use crate::session::{ConnectionId, Job};
use crate::shared::{Command, Sleep};
use crate::testing::server::{Arrival, Server};
use crate::testing::{Fetch, Line, host};
use crate::transport::pipe::{End, Pipe};

/// This many turns at one instant mean an endless loop.
const TURNS: usize = 10_000;

/// Which of the servers is meant.
#[derive(Clone, Copy)]
pub(super) enum Role {
    Old,
    Line,
    Beside,
}

impl Role {
    const ALL: [Self; 3] = [Self::Old, Self::Line, Self::Beside];
}

/// The test, in place of the clock and the other threads.
pub(super) struct Script {
    pub(super) now: Instant,
    pub(super) fetch: Option<Fetch>,
    pub(super) attempt: Option<(u64, UpgradeRequest)>,
    pub(super) plan: Option<ReconnectPlan>,
    pub(super) jobs: VecDeque<Job>,
    pub(super) results: VecDeque<Dialled<Pipe>>,
    pub(super) commands: VecDeque<Command>,
    pub(super) worked: VecDeque<JobResult>,
}

impl Script {
    pub(super) fn new(now: Instant, fetch: Option<Fetch>) -> Self {
        Self {
            now,
            fetch,
            attempt: None,
            plan: None,
            jobs: VecDeque::new(),
            results: VecDeque::new(),
            commands: VecDeque::new(),
            worked: VecDeque::new(),
        }
    }
}

impl Host for Script {
    type Raw = Pipe;

    fn now(&self) -> Instant {
        self.now
    }

    fn poll(&mut self) -> Option<News<Pipe>> {
        if let Some(dialled) = self.results.pop_front() {
            return Some(News::Dialled(dialled));
        }
        if let Some(worked) = self.worked.pop_front() {
            return Some(News::JobResult(worked));
        }
        if let Some(command) = self.commands.pop_front() {
            return Some(News::Command(command));
        }
        let due = self.plan.take_if(|plan| plan.at <= self.now);
        due.map(|plan| News::Due { generation: plan.generation })
    }

    fn dial(&mut self, _: Instant, generation: u64, request: UpgradeRequest) {
        let fetched = match &self.fetch {
            None => Ok(request),
            Some(fetch) => caught(|| fetch(request)).unwrap_or(Err(Error::Panicked { callback: "fetch" })),
        };
        match fetched.and_then(|request| request.check().map(|_| request)) {
            Ok(request) => self.attempt = Some((generation, request)),
            Err(error) => self.results.push_back(Dialled { generation, result: Err(error) }),
        }
    }

    fn abandon_dial(&mut self) -> (Phase, Box<str>, Option<Arc<std::io::Error>>) {
        let host = self.attempt.take().map_or_else(|| "?".into(), |(_, request)| host(&request));
        (Phase::Upgrade, host, None)
    }

    fn schedule(&mut self, plan: ReconnectPlan) {
        self.plan = Some(plan);
    }

    fn unschedule(&mut self) {
        self.plan = None;
    }

    fn run(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    fn drop_jobs(&mut self, connection: ConnectionId) {
        self.jobs.retain(|job| job.connection != connection);
    }
}

impl Line {
    pub(super) fn now(&self) -> Instant {
        self.turn.host.now
    }

    /// Does everything that is due at this instant.
    #[track_caller]
    pub(super) fn settle(&mut self) {
        for _ in 0..TURNS {
            if !self.turn() {
                return;
            }
        }
        panic!(
            "the line goes round in circles at {:?}, without time going by: does a hook ask each time for \
             what has it called again?",
            self.elapsed()
        );
    }

    /// Runs one turn. Returns whether another turn may find something to do.
    fn turn(&mut self) -> bool {
        let now = self.now();
        for role in Role::ALL {
            self.at(role).make_room();
        }
        self.bring();
        let stop = self.turn.turn(now);
        self.application();
        if stop && self.left.is_none() {
            self.turn.close_intake();
            self.left = Some(self.turn.session.take_left());
            self.reason = self.turn.session.take_close_reason();
        }
        self.follow();
        for role in Role::ALL {
            self.hear(role);
        }
        let sleeps = match self.turn.next(now, false) {
            Next::Sleep { wakes, .. } => {
                (wakes == Sleep::Light || self.turn.intake.is_empty()) && !self.turn.may_go_on()
            }
            Next::Turn | Next::Look => false,
        };
        let script = &self.turn.host;
        let news = !script.results.is_empty() || script.plan.as_ref().is_some_and(|plan| plan.at <= now);
        let reads = !self.turn.is_paused();
        !sleeps || news || reads && Role::ALL.into_iter().any(|role| self.at(role).is_heard())
    }

    /// The application takes its events, as many as the test lets it.
    fn application(&mut self) {
        while self.takes != Some(0) {
            // A message that came before a loss is there before it.
            let message = self.ring.as_ref().and_then(|ring| ring.try_take().ok());
            let Some(event) = message.map(Event::Message).or_else(|| self.queue.try_take().ok()) else {
                return;
            };
            if let (Event::Message(_), Some(left)) = (&event, &mut self.takes) {
                *left -= 1;
            }
            self.events.push_back(event);
        }
    }

    /// Reports what has arrived, as the poller does.
    fn bring(&mut self) {
        let Self { turn, server, beside, old, .. } = self;
        for open in turn.sockets.iter_mut() {
            let servers = [&*server, beside, old];
            if servers.iter().any(|server| server.id == open.id && server.is_heard()) {
                open.socket.assume_readable();
            }
        }
    }

    /// Swaps the servers' roles once the line has moved.
    fn follow(&mut self) {
        if self.beside.is_open && self.turn.session.current() == Some(self.beside.id) {
            let mut old = std::mem::take(&mut self.beside);
            std::mem::swap(&mut old, &mut self.server);
            old.heard.splice(0..0, std::mem::take(&mut self.old.heard));
            self.old = old;
        }
    }

    pub(super) fn at(&mut self, role: Role) -> &mut Server {
        match role {
            Role::Old => &mut self.old,
            Role::Line => &mut self.server,
            Role::Beside => &mut self.beside,
        }
    }

    /// Lets a server take what the client has sent, and answer some of it.
    fn hear(&mut self, role: Role) {
        let (answers_pings, answers_close) = (self.answers_pings, self.answers_close);
        let server = self.at(role);
        if !server.is_open {
            return;
        }
        for arrival in server.take() {
            match arrival {
                Arrival::Ping(payload) => {
                    if answers_pings {
                        server.say(0x8A, &payload);
                    }
                }
                Arrival::Close(_) if server.has_ended => server.hang_up(End::Eof),
                Arrival::Close(frame) => {
                    if answers_close {
                        server.close(&frame);
                        server.hang_up(End::Eof);
                    }
                }
            }
        }
        if server.is_left() {
            server.end();
        } else if server.breaks() {
            server.hang_up(End::Eof);
        }
    }

    /// When something is due next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let planned = self.turn.host.plan.as_ref().map(|plan| plan.at);
        [self.turn.session.next_deadline(), planned].into_iter().flatten().min()
    }

    /// Passes on the result of a job.
    #[track_caller]
    pub(super) fn worked(&mut self, id: u32, result: impl FnOnce(Work) -> Result<Message, Error>) {
        let jobs = &mut self.turn.host.jobs;
        let found = jobs.iter().position(|job| job.id == id);
        let Some(Job { connection, work, .. }) = found.and_then(|at| jobs.remove(at)) else {
            panic!(
                "no work {id} is to be done, but {:?}: the protocol asks for it with Context::work",
                self.work()
            );
        };
        self.turn.host.worked.push_back(JobResult { connection, id, result: result(work) });
        self.settle();
    }

    /// Executes a command of the application.
    #[track_caller]
    pub(super) fn command(&mut self, command: Command) {
        self.turn.host.commands.push_back(command);
        self.settle();
    }
}

/// Runs a job here. The client does so on another thread.
pub(super) fn run(work: Work) -> Result<Message, Error> {
    caught(work).unwrap_or(Err(Error::Panicked { callback: "work" }))
}

/// The error of an attempt at which no server listened.
pub(super) fn refused(request: &UpgradeRequest) -> Error {
    let source = Arc::new(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
    Error::Connect { host: host(request), source }
}
