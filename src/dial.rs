//! THREAD `tautline-dial`: runs while an attempt is made; a line has at most one.
//!
//! Everything that may block happens here. What can be interrupted is interrupted through the attempt's own waker. What
//! can't (a look-up in the system's resolver) is abandoned: the thread stays inside that call, and does no harm when it
//! returns. The next attempt is given to that same thread, so that it uses the look-up under way instead of starting a
//! second one.
#![expect(clippy::disallowed_methods, reason = "this thread reads the clock its attempt is limited by")]

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::{Registry, Waker};

use crate::endpoint::Endpoint;
use crate::error::{Error, INTERNAL, Phase};
use crate::handshake::Timings;
use crate::panics::caught;
use crate::protocol::UpgradeRequest;
use crate::shared::{self, Calls, Gate, ThreadHandle};
use crate::transport::stream::Stream;
use crate::transport::wire::{Poller, Raw, Wire};
use crate::transport::{Attempt, Connection, Settings, connect};

/// How long the end of an attempt waits for what its thread reports, and for the thread itself.
const REPORT: Duration = Duration::from_millis(50);

/// The result of attempt `generation`.
pub(crate) struct Dialled<T: Raw = Stream> {
    pub(crate) generation: u64,
    pub(crate) result: Result<Connection<T>, Error>,
}

/// Makes the attempts of one client.
pub(crate) struct Dialler {
    results: Sender<Dialled>,
    gate: Arc<Gate>,
    calls: Arc<Calls>,
    thread: Option<DialThread>,
    /// What the first attempt needs.
    reserve: Option<Box<Reserve>>,
}

/// The descriptors of an attempt, taken when the client starts, so that it does not start where there are none.
pub(crate) struct Reserve {
    poller: Poller,
    waker: Waker,
    /// Stands for that of the socket.
    _socket: Registry,
}

struct DialThread {
    shared: Arc<Shared>,
    handle: Arc<ThreadHandle>,
}

struct Shared {
    state: Mutex<State>,
    waker: Waker,
    /// Records the uninterruptible call that the thread is inside of, if any. The thread enters it under the lock of
    /// `state`.
    calls: Arc<Calls>,
}

struct State {
    /// The attempt that is wanted; `None` tells the thread to end.
    job: Option<Box<Job>>,
    phase: Phase,
    /// The host that the attempt is dealing with.
    host: Box<str>,
    /// Why an attempt that was abandoned had not reached the addresses of its host.
    unreached: Option<io::Error>,
    /// The thread has seen that nothing is wanted, and takes no more jobs.
    gone: bool,
}

#[derive(Clone)]
struct Job {
    generation: u64,
    request: UpgradeRequest,
    settings: Arc<Settings>,
    began: Instant,
    until: Instant,
}

/// Measures the phases of one attempt.
#[derive(Default)]
struct Stopwatch {
    timings: Timings,
    /// The phase under way, and when it began.
    running: Option<(Phase, Instant)>,
}

impl Dialler {
    pub(crate) fn new(
        results: Sender<Dialled>,
        gate: Arc<Gate>,
        calls: Arc<Calls>,
        reserve: Box<Reserve>,
    ) -> Self {
        Self { results, gate, calls, thread: None, reserve: Some(reserve) }
    }

    /// Starts attempt `generation`.
    pub(crate) fn dial(
        &mut self,
        now: Instant,
        generation: u64,
        request: UpgradeRequest,
        settings: &Arc<Settings>,
    ) {
        let until = crate::config::deadline(now, settings.config.connect_timeout);
        let stack = settings.config.thread_stack;
        // On the heap, as the thread is: see `spawn`.
        let job = Box::new(Job { generation, request, settings: Arc::clone(settings), began: now, until });
        if self.thread.as_ref().is_some_and(|thread| thread.shared.give(&job)) {
            return;
        }
        match self.spawn(job, stack) {
            Ok(thread) => self.thread = Some(thread),
            Err(source) => {
                let error =
                    Error::System { what: "a thread or a descriptor to dial with", source: Arc::new(source) };
                // The I/O thread holds the receiver while it lives.
                let _ = self.results.send(Dialled { generation, result: Err(error) });
            }
        }
    }

    fn spawn(&mut self, job: Box<Job>, stack: usize) -> io::Result<DialThread> {
        let Reserve { poller, waker, .. } = *self.reserve.take().map_or_else(Reserve::new, Ok)?;
        let state =
            State { phase: Phase::Start, host: job.host(), job: Some(job), unreached: None, gone: false };
        let calls = Arc::clone(&self.calls);
        let shared = Arc::new(Shared { state: Mutex::new(state), waker, calls });
        // On the heap: the I/O thread, which is idle most of the time, would keep a page of its stack for it.
        let mut thread = Box::new(Thread {
            shared: Arc::clone(&shared),
            poller,
            job: None,
            watch: Stopwatch::default(),
            resolved: None,
            results: self.results.clone(),
            gate: Arc::clone(&self.gate),
        });
        let handle = self.calls.spawn(shared::Thread::Dial, stack, move |begun| thread.run(&begun))?;
        Ok(DialThread { shared, handle })
    }

    /// The phase that the attempt is in, and the host it deals with.
    pub(crate) fn whereabouts(&self) -> (Phase, Box<str>) {
        self.thread.as_ref().map_or((Phase::Start, Box::default()), |thread| {
            let state = thread.shared.lock();
            (state.phase, state.host.clone())
        })
    }

    /// Abandons the attempt. Returns why the addresses of the host had not been reached, if there are several, or that the
    /// connector has not returned. A thread that can be interrupted reports that at once, and ends. One that can't must
    /// not delay what follows the attempt.
    pub(crate) fn abandon(&mut self) -> Option<io::Error> {
        let thread = self.thread.as_ref()?;
        let shared = Arc::clone(&thread.shared);
        shared.lock().job = None;
        // If this fails, the thread ends at its next I/O readiness instead.
        let _ = shared.waker.wake();
        let calls = &self.calls;
        let is_inside = calls.is_inside(shared::Thread::Dial);
        let patience = if is_inside || calls.is_in_stream() { Duration::ZERO } else { REPORT };
        self.thread
            .take_if(|thread| calls.outlives(shared::Thread::Dial, &thread.handle, patience).is_none());
        let mut state = shared.lock();
        // No other call of this phase is uninterruptible.
        let by_connector = is_inside && state.phase == Phase::Connect;
        let stuck = || by_connector.then(|| io::Error::other("the application's connector has not returned"));
        state.unreached.take().or_else(stuck)
    }

    /// The attempt has delivered its result: its thread is about to end.
    pub(crate) fn finished(&mut self) {
        let calls = &self.calls;
        self.thread.take_if(|thread| {
            let gone = thread.shared.lock().gone;
            // An `on_thread_end` that takes longer must not delay what follows the attempt.
            gone && calls.outlives(shared::Thread::Dial, &thread.handle, REPORT).is_none()
        });
    }
}

impl Drop for Dialler {
    fn drop(&mut self) {
        // If the I/O thread has panicked, an attempt may be under way.
        drop(self.abandon());
    }
}

impl Reserve {
    pub(crate) fn new() -> io::Result<Box<Self>> {
        let poller = Poller::new()?;
        let (waker, socket) = (poller.waker()?, poller.registry().try_clone()?);
        Ok(Box::new(Self { poller, waker, _socket: socket }))
    }
}

impl Stopwatch {
    /// The phase under way has ended, and another one begins, or none.
    fn enter(&mut self, now: Instant, phase: Option<Phase>) {
        if let Some((ended, began)) = self.running.take() {
            let took = now.saturating_duration_since(began);
            // With a proxy, there may be two look-ups.
            if let Some(before) = self.timings.of(ended) {
                *before = Some(before.unwrap_or_default() + took);
            }
        }
        self.running = phase.map(|phase| (phase, now));
    }
}

impl Job {
    fn host(&self) -> Box<str> {
        // A fetch may complete what is not valid yet.
        Endpoint::parse(&self.request.url).map(|endpoint| endpoint.to_string()).unwrap_or_default().into()
    }
}

impl Shared {
    /// Gives the job to a thread that is still inside a call. Returns `false` if the thread takes no more.
    fn give(&self, job: &Job) -> bool {
        let mut state = self.lock();
        if state.gone {
            return false;
        }
        // The thread is inside a call of an earlier attempt, and this attempt waits for that call.
        state.host = job.host();
        state.unreached = None;
        state.job = Some(Box::new(job.clone()));
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look-up that has ended.
struct LookUp {
    /// The attempt that began it.
    generation: u64,
    name: Box<str>,
    port: u16,
    addresses: Vec<SocketAddr>,
}

/// The state of the thread itself.
struct Thread {
    shared: Arc<Shared>,
    poller: Poller,
    job: Option<Box<Job>>,
    watch: Stopwatch,
    /// What a look-up has found for an attempt that was abandoned meanwhile. The next attempt alone may use it.
    resolved: Option<LookUp>,
    results: Sender<Dialled>,
    gate: Arc<Gate>,
}

impl Thread {
    /// Each attempt fails if the begin of the thread did.
    fn run(&mut self, begun: &Result<(), Error>) {
        while let Some(job) = self.next_job() {
            self.job = Some(job.clone());
            self.watch = Stopwatch::default();
            let Job { generation, request, settings, .. } = *job;
            let result = begun.clone().and_then(|()| {
                caught(|| connect(request, &settings, self))
                    .unwrap_or_else(|| Err(Error::Panicked { callback: self.callback() }))
            });
            // What an earlier attempt has found may be old by now: each name is looked up anew.
            self.resolved.take_if(|found| found.generation != generation);
            // If the thread panicked, the call it was in is still registered.
            self.shared.calls.leave(shared::Thread::Dial);
            let mut state = self.shared.lock();
            if state.job.as_ref().is_some_and(|wanted| wanted.generation == generation) {
                state.job = None;
                state.gone = true;
                drop(state);
                // If the I/O thread has ended, nobody needs the result.
                let _ = self.results.send(Dialled { generation, result });
                self.gate.urgent();
                return;
            }
        }
    }

    /// The application's code that can have panicked, if any was running.
    fn callback(&self) -> &'static str {
        let has =
            |behaviour: fn(&Settings) -> bool| self.job.as_ref().is_some_and(|job| behaviour(&job.settings));
        match self.shared.lock().phase {
            Phase::Fetch => "fetch",
            Phase::Resolve if has(|settings| settings.resolver.is_some()) => "resolver",
            Phase::Connect if has(|settings| settings.supply.is_some()) => "connector",
            _ => INTERNAL,
        }
    }

    fn next_job(&mut self) -> Option<Box<Job>> {
        let mut state = self.shared.lock();
        state.gone = state.job.is_none();
        state.job.clone()
    }

    /// Fails if the attempt under way is no longer wanted.
    fn still_wanted(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.shared.lock();
        let wanted = state.job.as_ref().map(|job| job.generation);
        if wanted.is_some() && wanted == self.job.as_ref().map(|job| job.generation) {
            Ok(state)
        } else {
            Err(Error::Closed { reason: None })
        }
    }
}

impl Attempt for Thread {
    fn enter(&mut self, phase: Phase, whither: Option<&dyn fmt::Display>) -> Result<(), Error> {
        let mut state = self.still_wanted()?;
        state.phase = phase;
        if let Some(whither) = whither {
            state.host = whither.to_string().into();
        }
        drop(state);
        self.watch.enter(Instant::now(), Some(phase));
        Ok(())
    }

    fn timings(&mut self) -> Timings {
        let now = Instant::now();
        self.watch.enter(now, None);
        let began = self.job.as_ref().map_or(now, |job| job.began);
        Timings { total: now.saturating_duration_since(began), ..self.watch.timings }
    }

    fn uninterruptible<R>(&mut self, what: &str, call: impl FnOnce() -> R) -> Result<R, Error> {
        let calls = &self.shared.calls;
        let wanted = self.still_wanted()?;
        if !calls.enter(shared::Thread::Dial, what) {
            return Err(Error::Closed { reason: None });
        }
        drop(wanted);
        let result = call();
        calls.leave(shared::Thread::Dial);
        Ok(result)
    }

    fn resolve(&mut self, endpoint: &Endpoint, settings: &Settings) -> Result<Vec<SocketAddr>, Error> {
        let (name, port) = (endpoint.name(), endpoint.port);
        // A look-up that an abandoned attempt began, and that has ended since, serves this attempt.
        if let Some(found) = self.resolved.take_if(|found| found.name == name && found.port == port) {
            return Ok(found.addresses);
        }
        let addresses = self
            .uninterruptible(&format!("looking up {name}"), || match &settings.resolver {
                // An address with a zone is not a name, and only the system knows its interfaces.
                Some(resolver) if endpoint.zone.is_none() => resolver(&name, port),
                _ => (&*name, port).to_socket_addrs().map(Iterator::collect),
            })?
            .and_then(|addresses: Vec<_>| {
                let none = || io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
                if addresses.is_empty() { Err(none()) } else { Ok(addresses) }
            })
            .map_err(|source| Error::Resolve { host: name.clone(), source: Arc::new(source) })?;
        if self.still_wanted().is_err() {
            let generation = self.job.as_ref().map_or(0, |job| job.generation);
            self.resolved = Some(LookUp { generation, name, port, addresses });
            return Err(Error::Closed { reason: None });
        }
        Ok(addresses)
    }

    fn wait(&mut self, wire: &mut Wire, patience: Option<Duration>) -> Result<bool, Error> {
        drop(self.still_wanted()?);
        let system = |source| Error::System { what: "a wait for the socket", source: Arc::new(source) };
        wire.arm(self.poller.registry()).map_err(system)?;
        let end = patience.map(|patience| crate::config::deadline(Instant::now(), patience));
        self.poller.wait(Some(wire), patience).map_err(system)?;
        drop(self.still_wanted()?);
        Ok(end.is_none_or(|end| Instant::now() < end))
    }

    fn wait_any(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        drop(self.still_wanted()?);
        let system = |source| Error::System { what: "a wait for sockets", source: Arc::new(source) };
        self.poller.wait(None, timeout).map_err(system)?;
        drop(self.still_wanted()?);
        Ok(())
    }

    fn leave_unreached(&mut self, why: io::Error) {
        self.shared.lock().unreached = Some(why);
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn time_left(&self) -> Duration {
        self.job.as_ref().map_or(Duration::ZERO, |job| job.until.saturating_duration_since(Instant::now()))
    }

    fn registry(&self) -> &Registry {
        self.poller.registry()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_takes_place_twice_counts_with_both() {
        let start = Instant::now();
        let mut watch = Stopwatch::default();
        for (ms, phase) in [(0, Phase::Resolve), (5, Phase::Resolve), (7, Phase::Connect)] {
            watch.enter(start + Duration::from_millis(ms), Some(phase));
        }
        assert_eq!(watch.timings.resolve, Some(Duration::from_millis(7)));
    }

    #[test]
    fn each_phase_is_measured_until_the_next_begins_and_one_that_was_left_out_is_not() {
        let ms = Duration::from_millis;
        let start = Instant::now();
        let mut watch = Stopwatch::default();
        watch.enter(start + ms(5), Some(Phase::Fetch));
        watch.enter(start + ms(7), Some(Phase::Connect));
        watch.enter(start + ms(10), Some(Phase::Upgrade));
        assert_eq!(watch.timings.upgrade, None, "it is under way");
        watch.enter(start + ms(20), None);
        watch.enter(start + ms(30), None);
        let (fetch, connect, upgrade) = (Some(ms(2)), Some(ms(3)), Some(ms(10)));
        assert_eq!(watch.timings, Timings { fetch, connect, upgrade, ..Timings::default() });
    }
}
