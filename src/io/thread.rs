//! THREAD `tautline-io`: one for each client. It blocks in one place only, in [`IoThread::park`], where callers may take its
//! turn: see [`helm`](crate::io::helm). All decisions are in `session`, and the steps of a turn in
//! [`turn`](crate::io::turn). This file holds the clock, the poller and the other threads.
#![expect(
    clippy::disallowed_methods,
    reason = "this thread reads the clocks, once a turn, and hands the time on"
)]

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::Receiver;
use log::warn;
use mio::Registry;

use crate::dial::{Dialled, Dialler, Reserve};
use crate::error::{Error, Fault, INTERNAL, Phase};
use crate::event::{CloseReason, Ticket, Undelivered};
use crate::io::helm::{AtHelm, Helm, Hold, LEASE};
use crate::io::publisher::Publisher;
use crate::io::slow_callbacks::{Timed, timed};
use crate::io::turn::{Host, News, Next, Turn};
use crate::jobs::{JobResult, Jobs};
use crate::logging::LOG;
use crate::panics::caught;
use crate::protocol::{Protocol, UpgradeRequest};
use crate::session::reconnect::ReconnectPlan;
use crate::session::{ConnectionId, DataFilter, Job, Session, Startup};
use crate::shared::{AdaptiveSpin, Callback, Command, EventWriter, InboxWriter, Shared, Status};
use crate::state::ConnectionState;
use crate::timer::Timer;
use crate::transport::stream::Stream;
use crate::transport::wire::Poller;
use crate::transport::{Connection, Settings, frame};

/// The longest time between two polls of the sockets, however much there is to do besides. Without it, a steady sender
/// would keep the answers from being read.
const LONGEST_UNHEARD: Duration = Duration::from_millis(1);

/// A line is idle when nothing has happened on it for this long. Then it frees the memory that a burst has left behind.
pub(crate) const IDLE_BEFORE_SHRINK: Duration = Duration::from_secs(1);

/// Called on the I/O thread after events were enqueued.
pub(crate) type Notify = Box<dyn Fn() + Send>;

/// The thread's turn, and how it waits for the next one.
pub(crate) struct IoThread {
    helm: Arc<Helm>,
    pub(super) poller: Poller,
    /// When the sockets were last polled.
    listened: Instant,
    /// Whether spinning before the sleep pays, after each kind of turn.
    pub(super) looks: [AdaptiveSpin; 2],
    pub(super) looks_for_room: AdaptiveSpin,
}

/// The other threads of a client, and the clock.
pub(super) struct Threads {
    pub(super) registry: Registry,
    pub(super) shared: Shared,
    commands: Receiver<Command>,
    results: Receiver<Dialled>,
    dialler: Dialler,
    timer: Arc<Timer>,
    settings: Arc<Settings>,
    jobs: Jobs,
    worked: Receiver<JobResult>,
    notify: Option<Notify>,
}

/// What an I/O thread needs to start.
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) protocol: Option<Box<dyn Protocol>>,
    pub(crate) one_attempt: bool,
    pub(crate) notify: Option<Notify>,
    pub(crate) data: Option<DataFilter>,
    pub(crate) poller: Poller,
    pub(crate) reserve: Box<Reserve>,
    pub(crate) timer: Arc<Timer>,
    pub(crate) shared: Shared,
    pub(crate) commands: Receiver<Command>,
    pub(crate) events: EventWriter,
    pub(crate) inbox: Option<InboxWriter>,
}

impl Host for Threads {
    type Raw = Stream;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn poll(&mut self) -> Option<News<Stream>> {
        if let Ok(Dialled { generation, result }) = self.results.try_recv() {
            self.dialler.finished();
            let result = result.and_then(|connection| self.register(generation, connection));
            return Some(News::Dialled(Dialled { generation, result }));
        }
        if let Ok(worked) = self.worked.try_recv() {
            return Some(News::JobResult(worked));
        }
        if let Ok(command) = self.commands.try_recv() {
            return Some(News::Command(command));
        }
        self.shared.gate.take_due().map(|generation| News::Due { generation })
    }

    fn dial(&mut self, now: Instant, generation: u64, request: UpgradeRequest) {
        self.dialler.dial(now, generation, request, &self.settings);
    }

    fn abandon_dial(&mut self) -> (Phase, Box<str>, Option<Arc<io::Error>>) {
        let (phase, host) = self.dialler.whereabouts();
        let source = self.dialler.abandon();
        (phase, host, source.map(Arc::new))
    }

    fn schedule(&mut self, plan: ReconnectPlan) {
        self.timer.schedule(plan.at, plan.generation, &self.shared.gate);
    }

    fn unschedule(&mut self) {
        self.timer.cancel(&self.shared.gate);
    }

    fn run(&mut self, job: Job) {
        self.jobs.take(job, self.settings.config.thread_stack);
    }

    fn drop_jobs(&mut self, connection: ConnectionId) {
        self.jobs.forget(connection);
    }

    fn set_paused(&mut self, paused: bool) {
        self.shared.gate.set_stalled(paused);
    }

    fn notify(&mut self) -> bool {
        let Some(notify) = &self.notify else { return true };
        let calls = &self.shared.calls;
        let told = caught(|| timed(calls, Callback::OnEventReady, notify)).is_some();
        if !told {
            let notify = self.notify.take();
            // Dropping the callback runs the application's code, too.
            let _ = caught(|| self.shared.calls.dispose(notify));
        }
        told
    }
}

impl Threads {
    /// Registers a new socket with the poller.
    fn register(&self, generation: u64, mut connection: Connection) -> Result<Connection, Error> {
        // Generations rise from 1, so they tell the sockets apart in the poller.
        let number = usize::try_from(generation).unwrap_or(usize::MAX);
        let what = "a socket's registration";
        let registered = connection.socket.register(&self.registry, number);
        registered.map_err(|source| Error::System { what, source: Arc::new(source) })?;
        Ok(connection)
    }

    /// Whether something has come in. An I/O thread that is awake gets no wake-up for it.
    pub(super) fn have_news(&self) -> bool {
        !self.commands.is_empty() || !self.results.is_empty() || !self.worked.is_empty()
    }
}

impl IoThread {
    /// # Errors
    /// A setting can't be used.
    pub(crate) fn new(setup: Setup) -> Result<Self, Error> {
        let by_callers = setup.settings.config.realtime.is_none()
            && setup.protocol.is_none()
            && setup.notify.is_none()
            && setup.data.is_none();
        let Setup { settings, protocol, one_attempt, notify, data, .. } = setup;
        let Setup { poller, reserve, timer, shared, commands, events, inbox, .. } = setup;
        // There is one attempt at a time, whose result is taken in the next turn. An unbounded channel would take 2 KiB with it.
        let (results_in, results) = crossbeam_channel::bounded(8);
        let (worked_in, worked) = crossbeam_channel::unbounded();
        let mode = Startup { one_attempt, fetches: settings.fetch.is_some() };
        let clocks = (Instant::now(), SystemTime::now());
        let protocol = protocol.map(|protocol| {
            let calls = Arc::clone(&shared.calls);
            Box::new(Timed::new(protocol, calls)) as Box<dyn Protocol>
        });
        let mut session = Session::new(Arc::clone(&settings.config), protocol, mode, clocks)?;
        let calls = Arc::clone(&shared.calls);
        session.set_abandonment(move || calls.is_abandoned());
        if let Some(filter) = data {
            let calls = Arc::clone(&shared.calls);
            session.set_data_filter(Box::new(move |message| {
                timed(&calls, Callback::CountsAsData, || filter(message)).unwrap_or(true)
            }));
        }
        let publisher = Publisher::new(events, settings.config.events).with_inbox(inbox);
        let (intake, status) = (Arc::clone(&shared.intake), Arc::clone(&shared.status));
        let (what, registry) = ("a descriptor to register sockets with", poller.registry().try_clone());
        let threads = Threads {
            registry: registry.map_err(|source| Error::System { what, source: Arc::new(source) })?,
            dialler: Dialler::new(results_in, Arc::clone(&shared.gate), Arc::clone(&shared.calls), reserve),
            jobs: Jobs::new(worked_in, Arc::clone(&shared.gate), Arc::clone(&shared.calls)),
            worked,
            shared,
            commands,
            results,
            timer,
            settings: Arc::new(settings),
            notify,
        };
        let turn = Turn::new(threads, session, publisher, intake, status);
        let helm = Arc::new(Helm::new(turn, by_callers, clocks.0));
        Ok(Self {
            helm,
            poller,
            listened: clocks.0,
            looks: Default::default(),
            looks_for_room: AdaptiveSpin::default(),
        })
    }

    /// What callers get of it.
    pub(crate) fn helm(&self) -> Arc<Helm> {
        Arc::clone(&self.helm)
    }

    /// The thread's whole life.
    pub(crate) fn run(self, shared: &Shared, begun: &Result<(), Error>) {
        let helm = Arc::clone(&self.helm);
        if caught(|| self.serve(begun)) != Some(true) {
            // A defect of this library. Nobody may wait for a thread that has ended.
            let last = helm.end();
            let _ = caught(|| shared.calls.dispose(last));
            let reason = CloseReason::from(Error::Panicked { callback: INTERNAL });
            shared.status.set_close_reason(&reason);
            shared.intake.close();
            let mut untaken = VecDeque::new();
            shared.intake.exchange(&mut untaken, (0, 0));
            let never_written = untaken.into_iter().map(|item| (Ticket(item.ticket), item.message)).collect();
            // What the session held is dropped with it.
            let still_inside = shared.calls.elsewhere();
            let left =
                Undelivered { never_written, still_inside, unfinished: true, ..Undelivered::default() };
            finish(&shared.status, reason, left);
        }
    }

    /// Returns whether it came to its proper end: a caller's turn may have panicked.
    fn serve(mut self, begun: &Result<(), Error>) -> bool {
        frame::prepare();
        let helm = Arc::clone(&self.helm);
        let Some(mut hold) = helm.hold() else { return false };
        if let Some(at) = hold.as_deref_mut() {
            match begun {
                Err(Error::Panicked { callback }) => at.turn.session.handle_panic(callback),
                _ => at.turn.session.start(Instant::now()),
            }
        }
        loop {
            let Some(at) = hold.as_deref_mut() else { return false };
            let stops = at.turn.turn(Instant::now());
            helm.tell();
            if stops {
                break;
            }
            let Some(again) = self.park(&helm, hold) else { return false };
            hold = again;
        }
        drop(hold);
        helm.end().is_some_and(|last| {
            end(last);
            true
        })
    }

    /// Sleeps until there is something to do.
    fn park<'a>(&mut self, helm: &'a Helm, mut hold: Hold<'a>) -> Option<Hold<'a>> {
        let at = hold.as_deref_mut()?;
        if helm.is_left(at) {
            helm.takes_back(at);
        }
        let now = Instant::now();
        let is_leased = helm.leaves_reading(at);
        let (until, wakes) = match at.turn.next(now, is_leased) {
            Next::Look => {
                // What has come is read before anything is judged, whoever waits for it.
                self.look(helm, at, now);
                return Some(hold);
            }
            Next::Turn => {
                self.look_in_time(helm, at, now);
                return Some(hold);
            }
            Next::Sleep { until, wakes } => (until, wakes),
        };
        let moved = at.turn.moved.take();
        let spins = !is_leased
            && (moved.is_some_and(|moved| self.spin_before_park(&mut at.turn, now, moved))
                || self.spin_for_channel(&mut at.turn, now));
        if spins {
            self.look_in_time(helm, at, now);
            return Some(hold);
        }
        at.sleeps_until = until;
        if !helm.falls_asleep(at, wakes) {
            self.look_in_time(helm, at, now);
            return Some(hold);
        }
        if at.turn.sockets.are_blocked() {
            // Only this thread waits for room.
            helm.takes_back(at);
        }
        let armed = at.turn.sockets.arm(&self.poller);
        // From here on, a caller may take the turn.
        drop(hold);
        let timeout = until.map(|until| until.saturating_duration_since(now));
        let waited = armed.and_then(|()| self.wait(helm, until, now));
        let mut hold = helm.hold()?;
        self.waited(&mut hold.as_deref_mut()?.turn, now, timeout, waited);
        Some(hold)
    }

    /// Waits until there is something to do for this thread. While a caller is about to come back to the socket, it looks each
    /// time that he may be away whether he did, without the helm.
    fn wait(&mut self, helm: &Helm, until: Option<Instant>, mut now: Instant) -> io::Result<()> {
        loop {
            let left = until.map(|until| until.saturating_duration_since(now));
            let lease = helm.lease();
            let tick = lease.map(|_| LEASE);
            self.poller.wait(None, tick.into_iter().chain(left).min())?;
            now = Instant::now();
            if until.is_some_and(|until| until <= now) {
                return Ok(());
            }
            if !helm.waits_on(lease, self.poller.is_quiet()) {
                if self.poller.is_quiet() {
                    helm.ends_lease();
                }
                return Ok(());
            }
        }
    }

    /// Polls the sockets if that was not done for long.
    fn look_in_time(&mut self, helm: &Helm, at: &mut AtHelm, now: Instant) {
        if now.saturating_duration_since(self.listened) >= LONGEST_UNHEARD {
            self.look(helm, at, now);
        }
    }

    /// Polls the sockets, without a sleep.
    fn look(&mut self, helm: &Helm, at: &mut AtHelm, now: Instant) {
        helm.takes_back(at);
        let (turn, timeout) = (&mut at.turn, Some(Duration::ZERO));
        let waited = turn.sockets.arm(&self.poller).and_then(|()| self.poller.wait(None, timeout));
        self.waited(turn, now, timeout, waited);
    }

    /// A wait is over that began at `now`.
    fn waited(
        &mut self,
        turn: &mut Turn<Threads>,
        now: Instant,
        timeout: Option<Duration>,
        waited: io::Result<()>,
    ) {
        let after = Instant::now();
        self.listened = after;
        match waited {
            Ok(()) => turn.sockets.hear(&self.poller),
            Err(source) => {
                let error = Error::System { what: "a wait for the socket", source: Arc::new(source) };
                if let Some(id) = turn.session.current() {
                    turn.session.handle_fault(after, id, Fault::Broken(error));
                }
            }
        }
        let slept = after.saturating_duration_since(now);
        if slept >= IDLE_BEFORE_SHRINK {
            turn.shrink(after);
        }
        // The clocks are compared only when a beat may be due, not at each message.
        if timeout.is_some_and(|timeout| slept >= timeout) {
            turn.session.handle_clock(after, SystemTime::now());
        }
    }
}

/// The client is closed: counts what is undelivered, and wakes everyone who waits.
fn end(mut last: Box<AtHelm>) {
    let turn = &mut last.turn;
    turn.close_intake();
    let mut left = turn.session.take_left();
    turn.host.jobs.end();
    left.still_inside = turn.host.shared.calls.keep_others();
    if let Some(inside) = &left.still_inside {
        turn.host.shared.calls.leave_behind();
        warn!(target: LOG, "Left behind, in a call that can't be interrupted: {inside}");
    }
    turn.status.set_stats(&turn.stats());
    turn.tell_watermarks();
    if let Some(reason) = turn.session.take_close_reason() {
        finish(&turn.status, reason, left);
    }
    let calls = Arc::clone(&turn.host.shared.calls);
    calls.dispose(last);
}

fn finish(status: &Status, reason: CloseReason, left: Undelivered) {
    status.update(|status| {
        status.state = ConnectionState::Closed;
        status.ready = false;
        status.handshake = None;
        // If a later drop panics, the end that was reported first stays.
        status.closed.get_or_insert((reason, Arc::new(left)));
    });
}
