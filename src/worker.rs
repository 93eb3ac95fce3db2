//! THREAD `tautline-io`: one a client. It owns the open socket and blocks in one place only, in
//! [`Socket::read_until`]. Everything that decides is in `session`; everything that touches the socket is here.
#![expect(
    clippy::disallowed_methods,
    reason = "this thread reads the clocks, once a turn, and hands the time on"
)]

mod looks;
mod pause;
pub(crate) mod publisher;
pub(crate) mod sockets;
pub(crate) mod traffic;
mod watch;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender};
use log::warn;

use crate::config::WhileDown;
use crate::dial::{Dialled, Dialler};
use crate::error::{Error, Fault, INTERNAL};
use crate::event::{Event, Left};
use crate::intake::{Burst, Callback, Calls, Command, Gate, Intake, Item, Looks, Sleep, Status, list};
use crate::protocol::Protocol;
use crate::session::{Action, ConnectionId, LOG, Mode, Session, Watermarks};
use crate::state::ConnectionState;
use crate::timer::Timer;
use crate::transport::stream::Poller;
use crate::transport::{Connection, Settings};
use crate::work::{Worked, Workshop};
use crate::worker::looks::Moved;
use crate::worker::pause::Pause;
use crate::worker::publisher::Publisher;
use crate::worker::sockets::{Open, Sockets};
use crate::worker::watch::{Watched, timed};

/// A line on which nothing happened for so long is at rest.
pub(crate) const QUIET: Duration = Duration::from_secs(1);

/// So long at most goes by before the sockets are asked what has come, however much there is to do besides: a steady sender
/// would keep the answers from being read.
const LISTEN: Duration = Duration::from_millis(1);

/// So many events at once are a burst.
const MANY: usize = 8;

/// Called on the I/O thread after events were enqueued.
pub(crate) type Notify = Box<dyn Fn() + Send>;

/// What a worker shares with its callers.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) gate: Arc<Gate>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) status: Arc<Status>,
    pub(crate) burst: Arc<Burst>,
    pub(crate) calls: Arc<Calls>,
}

pub(crate) struct Worker {
    session: Session,
    sockets: Sockets,
    poller: Poller,
    shared: Shared,
    commands: Receiver<Command>,
    results: Receiver<Dialled>,
    dialler: Dialler,
    timer: Arc<Timer>,
    settings: Arc<Settings>,
    workshop: Workshop,
    worked: Receiver<Worked>,
    publisher: Publisher,
    notify: Option<Notify>,
    /// Exchanged with the intake's queue.
    accepted: VecDeque<Item>,
    pause: Pause,
    /// When the sockets were last asked what has come.
    listened: Instant,
    /// A last look has read already, in place of the next turn.
    heard: bool,
    /// What moved in this turn, if anything.
    moved: Option<Moved>,
    /// Whether a last look before the sleep pays, after each kind of turn.
    looks: [Looks; 2],
    /// The state and the watermarks that callers know.
    published: ConnectionState,
    watermarks: Watermarks,
}

/// What it takes to start a worker.
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) protocol: Option<Box<dyn Protocol>>,
    pub(crate) one_attempt: bool,
    pub(crate) notify: Option<Notify>,
    pub(crate) poller: Poller,
    pub(crate) timer: Arc<Timer>,
    pub(crate) shared: Shared,
    pub(crate) commands: Receiver<Command>,
    pub(crate) events: Sender<Event>,
}

impl Worker {
    /// # Errors
    /// A setting can't be used.
    pub(crate) fn new(setup: Setup) -> Result<Box<Self>, Error> {
        let Setup { settings, protocol, one_attempt, notify, poller, timer, shared, commands, events } =
            setup;
        let (results_in, results) = crossbeam_channel::unbounded();
        let (worked_in, worked) = crossbeam_channel::unbounded();
        let publisher = Publisher::new(events, settings.config.events);
        let mode = Mode { one_attempt, fetches: settings.fetch.is_some() };
        let clocks = (Instant::now(), SystemTime::now());
        let protocol = protocol.map(|protocol| {
            let calls = Arc::clone(&shared.calls);
            Box::new(Watched::new(protocol, calls)) as Box<dyn Protocol>
        });
        let session = Session::new(settings.config.clone(), protocol, mode, clocks)?;
        // Boxed: moved from frame to frame, it would cost each thread's stack some pages.
        Ok(Box::new(Self {
            published: session.state(),
            session,
            sockets: Sockets::default(),
            poller,
            dialler: Dialler::new(results_in, Arc::clone(&shared.gate), Arc::clone(&shared.calls)),
            workshop: Workshop::new(worked_in, Arc::clone(&shared.gate), Arc::clone(&shared.calls)),
            worked,
            shared,
            commands,
            results,
            timer,
            settings: Arc::new(settings),
            publisher,
            notify,
            accepted: VecDeque::new(),
            pause: Pause::default(),
            watermarks: Watermarks::default(),
            listened: clocks.0,
            heard: false,
            moved: None,
            looks: Default::default(),
        }))
    }

    /// The thread's whole life.
    pub(crate) fn run(self: Box<Self>) {
        let shared = self.shared.clone();
        if catch_unwind(AssertUnwindSafe(|| self.serve())).is_err() {
            // A defect of this library. Nobody may wait for a thread that is gone.
            shared.intake.close();
            let mut untaken = VecDeque::new();
            shared.intake.exchange(&mut untaken, (0, 0));
            let never_written = untaken.into_iter().map(|item| item.message).collect();
            // What the session held is gone with it.
            let still_inside = shared.calls.elsewhere();
            let left = Left { never_written, still_inside, unfinished: true, ..Left::default() };
            finish(&shared.status, Error::Panicked { callback: INTERNAL }.into(), left);
        }
    }

    fn serve(mut self: Box<Self>) {
        self.session.start(Instant::now());
        while !self.turn(Instant::now()) {
            self.park();
        }
        self.end();
    }

    /// Everything there is to do at `now`. Returns whether the client is closed.
    fn turn(&mut self, now: Instant) -> bool {
        self.take_commands(now);
        self.take_messages();
        if !std::mem::take(&mut self.heard) {
            self.read(now);
        }
        self.drain(now);
        self.session.handle_timeout(now);
        // A connection that was given up is dropped before another byte of it goes out: what was called never written
        // must not be received.
        let stop = self.act(now);
        self.transmit(now);
        let stop = stop || self.act(now);
        self.publish();
        stop
    }

    fn take_commands(&mut self, now: Instant) {
        while let Ok(Dialled { generation, result }) = self.results.try_recv() {
            self.dialler.finished();
            self.take_result(now, generation, result);
        }
        while let Ok(Worked { connection, id, result }) = self.worked.try_recv() {
            self.session.handle_work(now, connection, id, result);
        }
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Close { frame, flush, until } => {
                    self.close_intake();
                    self.session.handle_close(now, frame, flush);
                    self.session.close_by(until);
                }
                Command::Terminate => self.session.handle_terminate(),
                Command::Withdraw { ticket } => {
                    self.exchange();
                    self.publisher.forget(ticket);
                    self.session.handle_withdrawn(now, ticket);
                }
                Command::Confirm { through } => self.session.handle_confirm(through),
                Command::ReconnectNow => self.session.handle_reconnect_now(now),
            }
        }
        if let Some(generation) = self.shared.gate.take_due() {
            self.session.handle_retry(now, generation);
        }
    }

    fn take_result(&mut self, now: Instant, generation: u64, result: Result<Box<Connection>, Error>) {
        let opened = result.and_then(|mut connection| {
            // Generations rise from 1, and so tell the sockets under the wait apart.
            let number = usize::try_from(generation).unwrap_or(usize::MAX);
            let registered = connection.socket.register(self.poller.registry(), number);
            registered.map_err(|source| Error::System {
                what: "a socket's registration",
                source: Arc::new(source),
            })?;
            Ok(connection)
        });
        match opened {
            Ok(connection) => {
                let Connection { socket, accepted } = *connection;
                if self.session.handle_opened(now, generation, accepted, socket.taken()) {
                    self.sockets.add(Open::new(ConnectionId(generation), socket));
                }
            }
            Err(error) => self.session.handle_dial_failed(now, generation, error),
        }
    }

    /// What was accepted goes to the session, once it can go out.
    fn take_messages(&mut self) {
        let released = self.session.has_released();
        if released || self.session.wants_outbox() || self.session.ages() {
            self.exchange();
        }
    }

    /// Exchanges what was accepted for the room of what was written.
    fn exchange(&mut self) {
        let released = self.session.take_released();
        self.shared.intake.exchange(&mut self.accepted, (released.messages, released.bytes));
        for Item { ticket, message, reply, expires } in self.accepted.drain(..) {
            match reply {
                None => self.session.handle_accepted(ticket, message, expires),
                Some(reply) => {
                    let many = reply.many;
                    self.publisher.expect(ticket, reply);
                    self.session.handle_request(ticket, message, many);
                }
            }
        }
    }

    /// Nothing is accepted from here on, and all that was is with the session.
    fn close_intake(&mut self) {
        self.shared.intake.close();
        self.exchange();
    }

    /// Does what the session asks for. Returns whether it asks to stop.
    fn act(&mut self, now: Instant) -> bool {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Dial { generation, request } => {
                    self.dialler.dial(now, generation, request, &self.settings);
                }
                Action::TimeOutDial { generation } => {
                    let (phase, host) = self.dialler.whereabouts();
                    self.dialler.abandon();
                    let after = self.settings.config.connect_timeout;
                    let error = Error::ConnectTimeout { host, phase, after };
                    self.session.handle_dial_failed(now, generation, error);
                }
                Action::AbandonDial => self.dialler.abandon(),
                Action::Schedule(plan) => self.timer.schedule(plan.at, plan.generation, &self.shared.gate),
                Action::Unschedule => self.timer.cancel(&self.shared.gate),
                Action::Drop(id) => self.drop_connection(id),
                Action::Stop => return true,
            }
        }
        while let Some(piece) = self.session.poll_work() {
            self.workshop.take(piece, self.settings.config.thread_stack);
        }
        false
    }

    fn drop_connection(&mut self, id: ConnectionId) {
        self.sockets.remove(id);
        self.workshop.forget(id);
    }

    /// Tells the callers what happened: first the state, then the events, then that there are some.
    fn publish(&mut self) {
        self.shared.status.set_stats(self.stats());
        if self.session.state() != self.published {
            self.published = self.session.state();
            let state = self.published;
            let ready = self.session.wants_outbox() && state != ConnectionState::Closing;
            let trouble = self.session.trouble();
            if self.settings.config.while_down == WhileDown::Refuse {
                self.shared.intake.set_refusing((!ready).then_some(state));
            }
            self.shared.status.update(|status| {
                status.state = state;
                status.ready = ready;
                status.trouble = trouble;
            });
        }
        while let Some(reply) = self.session.poll_reply() {
            self.publisher.reply(reply);
        }
        let mut count = 0;
        while let Some(event) = self.session.poll_event() {
            count += 1;
            if count == MANY {
                self.shared.burst.begin();
            }
            self.publisher.put(event);
        }
        self.shared.burst.end();
        // Who waits for a fate finds the events about it in the channel.
        self.tell_watermarks();
        if count > 0
            && let Some(notify) = &self.notify
            && catch_unwind(AssertUnwindSafe(|| timed(&self.shared.calls, Callback::OnEventReady, notify)))
                .is_err()
        {
            let notify = self.notify.take();
            // Its drop is its code, too.
            let _ = catch_unwind(AssertUnwindSafe(|| self.shared.calls.dispose(notify)));
            self.session.handle_panic("on_event_ready");
        }
    }

    /// Sleeps until something is to be done.
    fn park(&mut self) {
        let now = Instant::now();
        let slept = self.sleep(now);
        if !slept && now.saturating_duration_since(self.listened) >= LISTEN {
            self.wait(now, Some(Duration::ZERO));
        }
    }

    /// Returns whether it has, and so has asked the sockets what has come.
    fn sleep(&mut self, now: Instant) -> bool {
        let mut deadline = self.session.next_deadline();
        let unheard = self.sockets.are_readable();
        let paused = unheard && self.session.delivers() && !self.publisher.has_room();
        if paused != self.pause.is_on() {
            self.session.handle_paused(now, paused);
            deadline = self.session.next_deadline();
        }
        if paused {
            let look = now + self.pause.go_on(&self.shared.gate);
            deadline = Some(deadline.map_or(look, |deadline| deadline.min(look)));
        } else {
            self.pause.end(&self.shared.gate);
        }
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(now));
        // What is due is decided after a look at what has come: it may be this thread that is late, and not the peer.
        if timeout == Some(Duration::ZERO) {
            self.wait(now, timeout);
            return true;
        }
        // Room that became free is given back before anything else: a sender may wait for it.
        if (unheard && !paused) || self.session.has_output() || self.session.has_released() {
            return false;
        }
        if self.moved.take().is_some_and(|moved| self.linger(now, moved)) {
            return false;
        }
        let blocked = self.sockets.is_full(self.session.current());
        let all = (self.session.wants_outbox() && !blocked) || self.session.ages();
        let sleep = if all { Sleep::ForAll } else { Sleep::Light };
        let missed = || {
            !self.commands.is_empty()
                || !self.results.is_empty()
                || !self.worked.is_empty()
                || (self.pause.is_on() && self.publisher.has_room())
        };
        let sleeps = self.shared.gate.falls_asleep(sleep, &self.shared.intake, missed);
        if sleeps {
            self.wait(now, timeout);
            self.shared.gate.awake();
        }
        sleeps
    }

    fn wait(&mut self, now: Instant, timeout: Option<Duration>) {
        let waited = self.sockets.wait(&mut self.poller, timeout);
        let after = Instant::now();
        self.listened = after;
        if let Err(source) = waited {
            let error = Error::System { what: "a wait for the socket", source: Arc::new(source) };
            if let Some(id) = self.session.current() {
                self.session.handle_fault(after, id, Fault::Broken(error));
            }
        }
        let slept = after.saturating_duration_since(now);
        if slept >= QUIET {
            self.rest(after);
        }
        // The clocks are compared when a beat may be due, not at each message.
        if timeout.is_some_and(|timeout| after.saturating_duration_since(now) >= timeout) {
            self.session.handle_clock(after, SystemTime::now());
        }
    }

    /// What a burst of traffic has left behind is given back.
    fn rest(&mut self, now: Instant) {
        self.session.rest();
        self.sockets.iter_mut().for_each(|open| traffic::rest(&mut self.session, open, now));
        self.accepted.shrink_to_fit();
        self.publisher.rest();
        self.shared.intake.rest();
    }

    fn tell_watermarks(&mut self) {
        let (watermarks, doubts) = (self.session.watermarks(), self.session.take_doubts());
        if watermarks != self.watermarks || !doubts.is_empty() {
            self.watermarks = watermarks.clone();
            self.shared.status.set_watermarks(watermarks, doubts);
        }
    }

    fn stats(&self) -> crate::stats::Stats {
        let mut stats = self.session.stats();
        (stats.bytes_written, stats.bytes_read) = self.sockets.bytes();
        stats
    }

    /// The client is closed: what is left is counted, and whoever waits is told.
    fn end(mut self: Box<Self>) {
        self.close_intake();
        let mut left = self.session.take_left();
        left.still_inside = list([self.dialler.still_inside(), self.workshop.end()]);
        if let Some(inside) = &left.still_inside {
            warn!(target: LOG, "Left behind, in a call that can't be interrupted: {inside}");
        }
        self.shared.status.set_stats(self.stats());
        self.tell_watermarks();
        if let Some(reason) = self.session.take_close_reason() {
            finish(&self.shared.status, reason, left);
        }
        let calls = Arc::clone(&self.shared.calls);
        calls.dispose(self);
    }
}

fn finish(status: &Status, reason: crate::event::CloseReason, left: Left) {
    status.update(|status| {
        status.state = ConnectionState::Closed;
        status.ready = false;
        // Whatever panics when it is dropped comes behind the end.
        status.closed.get_or_insert((reason, Arc::new(left)));
    });
}
