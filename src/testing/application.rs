//! The application and the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::client::{SendOptions, offer};
use crate::config::deadline;
use crate::error::{CloseFrame, Error, SendError};
use crate::event::{CloseReason, Event, Ticket, Tickets, Undelivered};
use crate::message::Message;
use crate::shared::{Command, Offer, Reply, Special};
use crate::state::ConnectionState;
use crate::stats::Stats;
use crate::testing::{Asked, Line, turn};

impl Line {
    /// Lets this much time pass. Everything that falls due in it happens in order, including attempts.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tautline::{JsonSession, testing::Line};
    /// let mut line = Line::new("ws://test.example", JsonSession::new())?;
    /// line.open();
    /// line.step(Duration::from_secs(90)); // heartbeats each 30 s
    /// assert_eq!(line.pings().len(), 3);
    /// # Ok::<(), tautline::Error>(())
    /// ```
    #[track_caller]
    pub fn step(&mut self, time: Duration) {
        let until = deadline(self.now(), time);
        while let Some(at) = self.next_deadline().filter(|at| *at <= until) {
            self.turn.host.now = self.now().max(at);
            self.settle();
        }
        self.turn.host.now = until;
        self.settle();
    }

    /// Returns the virtual time since the line was created.
    pub fn elapsed(&self) -> Duration {
        self.now().saturating_duration_since(self.start)
    }

    /// Sets the value that [`Context::random`](crate::Context::random) returns and the backoff uses from now on. It is
    /// 0.5 by default. With the default jitter and 0.5, the first reconnect comes after 2 s.
    ///
    /// # Panics
    /// If the value is not at least 0 and below 1.
    #[track_caller]
    pub fn set_random(&mut self, number: f64) {
        assert!((0.0..1.0).contains(&number), "{number} is no number of at least 0 and below 1");
        self.random.store(number.to_bits(), SeqCst);
    }

    /// Returns the state of the line.
    pub fn state(&self) -> ConnectionState {
        self.turn.session.state()
    }

    /// Returns the time until the next attempt, if one is planned.
    pub fn next_attempt(&self) -> Option<Duration> {
        let plan = self.turn.host.plan.as_ref();
        plan.map(|plan| plan.at.saturating_duration_since(self.now()))
    }

    /// Returns why the line is down or closed; `None` while it is up, and before anything failed.
    pub fn last_failure(&self) -> Option<Error> {
        let closed = self.reason.clone().map(CloseReason::into_error);
        closed.or_else(|| self.turn.session.last_failure())
    }

    /// Returns why the line is closed, once it is.
    pub fn close_reason(&self) -> Option<&CloseReason> {
        self.reason.as_ref()
    }

    /// Returns the events that the application has taken since the last call, including messages.
    pub fn events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    /// Returns the messages among the events, as they are displayed. The other events stay for
    /// [`events`](Self::events).
    pub fn messages(&mut self) -> Vec<String> {
        let mut messages = Vec::new();
        for event in std::mem::take(&mut self.events) {
            match event {
                Event::Message(message) => messages.push(message.to_string()),
                other => self.events.push_back(other),
            }
        }
        messages
    }

    /// Makes the application take nothing from now on. The server's messages pile up to the bound
    /// [`events`](field@crate::ConnectionConfig::events). Then reading [is paused](Self::is_reading_paused), and what the
    /// server says waits in the network. Events that the application does not take do not appear in
    /// [`events`](Self::events).
    ///
    /// The answers to requests have queues of their own: [`answers`](Self::answers) takes them. Those to a
    /// [`request_many`](Self::request_many) pause reading in the same way.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use tautline::testing::Line;
    /// use tautline::{ConnectionConfig, ConnectionState, JsonSession, QueueLimit};
    ///
    /// let config = ConnectionConfig::new("ws://test.example").events(QueueLimit::new(2, 1000));
    /// let mut line = Line::new(config, JsonSession::new())?;
    /// line.open();
    /// line.stop_taking();
    /// for n in 1..=5 {
    ///     line.say(n.to_string());
    /// }
    /// assert!(line.is_reading_paused() && line.messages().is_empty());
    ///
    /// // The server is not judged while it is not heard.
    /// line.step(Duration::from_secs(3600));
    /// assert_eq!(line.state(), ConnectionState::Connected);
    ///
    /// line.take(1);
    /// assert_eq!(line.messages(), ["1"]);
    /// assert!(line.is_reading_paused());
    /// line.take_all();
    /// assert_eq!(line.messages(), ["2", "3", "4", "5"]);
    /// assert!(!line.is_reading_paused());
    /// # Ok::<(), tautline::Error>(())
    /// ```
    pub fn stop_taking(&mut self) {
        self.takes = Some(0);
    }

    /// Makes the application take this many messages, now or as they come, and then nothing more. It also takes the
    /// other events before the last of them.
    #[track_caller]
    pub fn take(&mut self, messages: usize) {
        self.takes = Some(messages);
        self.settle();
    }

    /// Makes the application take everything at once again, as at the beginning.
    #[track_caller]
    pub fn take_all(&mut self) {
        self.takes = None;
        self.settle();
    }

    /// Whether reading is paused, because the application does not take its messages or answers.
    pub fn is_reading_paused(&self) -> bool {
        self.turn.is_paused()
    }

    /// Returns `maybe_delivered` of the latest loss or move that is still among the events: messages that were written,
    /// were not confirmed, and are not sent again.
    pub fn doubtful(&self) -> Tickets {
        let doubtful = |event: &Event| match event {
            Event::Disconnected { maybe_delivered, .. } | Event::Moved { maybe_delivered, .. } => {
                Some(maybe_delivered.clone())
            }
            _ => None,
        };
        self.events.iter().rev().find_map(doubtful).unwrap_or_default()
    }

    /// Returns the last message up to which the fate of all is known: see
    /// [`Client::confirmed_up_to`](crate::Client::confirmed_up_to).
    pub fn confirmed_up_to(&self) -> Option<Ticket> {
        self.turn.session.watermarks().confirmed_up_to()
    }

    /// Returns the counters: see [`Client::stats`](crate::Client::stats).
    pub fn stats(&self) -> Stats {
        let mut stats = self.turn.stats();
        self.turn.intake.complete(&mut stats);
        if self.left.is_some() {
            (stats.messages_queued, stats.bytes_queued) = (0, 0);
        }
        stats
    }

    /// Sends a message as the application.
    ///
    /// # Panics
    /// If the message is not accepted: see [`try_send`](Self::try_send).
    #[track_caller]
    pub fn send(&mut self, message: impl Into<Message>) -> Ticket {
        match self.try_send(message) {
            Ok(ticket) => ticket,
            Err(error) => panic!("the message is not accepted: {error}; to see that, use try_send"),
        }
    }

    /// Sends a message as the application, where it may not be accepted.
    ///
    /// # Errors
    /// The message, and why it was not accepted.
    #[track_caller]
    pub fn try_send(&mut self, message: impl Into<Message>) -> Result<Ticket, SendError> {
        self.send_with(message, SendOptions::new())
    }

    /// Sends a message as the application, with these options: see [`Client::send_with`](crate::Client::send_with).
    ///
    /// # Errors
    /// The message, and why it was not accepted.
    #[track_caller]
    pub fn send_with(
        &mut self,
        message: impl Into<Message>,
        options: SendOptions,
    ) -> Result<Ticket, SendError> {
        let expires = self.turn.session.config().max_age.map(|age| deadline(self.now(), age));
        let intake = &self.turn.intake;
        let accepted = intake.try_push(offer(intake, message.into(), options, expires));
        let closed = || Arc::new(self.reason.clone().unwrap_or(CloseReason::ByCaller));
        let ticket = accepted.map_err(|error| error.explained(closed))?;
        self.settle();
        Ok(ticket)
    }

    /// Sets which messages restart `idle_timeout`: see
    /// [`Builder::counts_as_data`](crate::Builder::counts_as_data).
    pub fn counts_as_data(&mut self, counts: impl Fn(&Message) -> bool + Send + 'static) {
        self.turn.session.set_data_filter(Box::new(counts));
    }

    /// Sends a request as the application, which then waits for its answer without a timeout: see
    /// [`answers`](Self::answers). To simulate a timeout, call [`withdraw`](Self::withdraw).
    ///
    /// ```
    /// # use serde_json::json;
    /// # use tautline::{JsonSession, testing::Line};
    /// let mut line = Line::new("ws://test.example", JsonSession::new().answers_by("id"))?;
    /// line.open();
    /// let asked = line.request(json!({"get": "time"}));
    /// assert_eq!(line.heard_json(), [json!({"get": "time", "id": 1})]);
    /// line.say(json!({"id": 1, "time": "noon"}));
    /// let answers = line.answers(asked);
    /// assert!(matches!(&answers[..], [Ok(answer)] if answer.to_string().contains("noon")));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    #[track_caller]
    pub fn request(&mut self, message: impl Into<Message>) -> Ticket {
        self.ask(message.into(), false)
    }

    /// Sends a request with many answers as the application.
    #[track_caller]
    pub fn request_many(&mut self, message: impl Into<Message>) -> Ticket {
        self.ask(message.into(), true)
    }

    #[track_caller]
    fn ask(&mut self, message: Message, many: bool) -> Ticket {
        let (way, answers) = crossbeam_channel::unbounded();
        let offer =
            Offer { message, special: Some(Box::new(Special::Request(Reply { way, many }))), expires: None };
        match self.turn.intake.try_push(offer) {
            Ok(ticket) => {
                self.asked.insert(ticket.number(), Asked { answers, waits: !many });
                self.settle();
                ticket
            }
            Err(error) => panic!("the request is not accepted: {error}"),
        }
    }

    /// Returns what a request has received since the last call: answers, or the error that ended it. Nothing follows
    /// once it [has ended](Self::has_ended).
    #[track_caller]
    pub fn answers(&mut self, asked: Ticket) -> Vec<Result<Message, Error>> {
        let is_closed = self.state() == ConnectionState::Closed;
        let reason = self.reason.clone().map(Arc::new);
        let asked = self.asked_for(asked);
        let mut answers: Vec<_> = asked.answers.try_iter().collect();
        // A caller who waits for many answers sees the end of them. One who waits for a single answer gets an error.
        if asked.waits && is_closed && answers.is_empty() {
            answers.push(Err(Error::Closed { reason }));
        }
        asked.waits &= answers.is_empty();
        // They may have been what reading waited for.
        self.settle();
        answers
    }

    /// Whether a request has ended: all its answers have arrived, it failed, or it was withdrawn.
    ///
    /// # Panics
    /// If some of its answers have not been taken yet.
    #[track_caller]
    pub fn has_ended(&self, asked: Ticket) -> bool {
        match self
            .asked
            .get(&asked.number())
            .map_or_else(|| no_request(asked), |asked| asked.answers.try_recv())
        {
            Err(end) => end.is_disconnected(),
            Ok(answer) => {
                panic!("take the answers first: {answer:?} is not the only thing that may be there")
            }
        }
    }

    /// Withdraws a request, as the application does when its timeout has passed or it drops the
    /// [`Answers`](crate::Answers).
    #[track_caller]
    pub fn withdraw(&mut self, asked: Ticket) {
        self.asked_for(asked).waits = false;
        self.command(Command::Withdraw { ticket: asked.number() });
    }

    #[track_caller]
    fn asked_for(&mut self, asked: Ticket) -> &mut Asked {
        self.asked.get_mut(&asked.number()).unwrap_or_else(|| no_request(asked))
    }

    /// Returns the ids of the jobs that the protocol has requested with [`Context::work`](crate::Context::work) and
    /// that have no result yet, in the order of the requests.
    pub fn work(&self) -> Vec<u32> {
        self.turn.host.jobs.iter().map(|job| job.id).collect()
    }

    /// Runs a job now and passes its result to the protocol.
    #[track_caller]
    pub fn do_work(&mut self, id: u32) {
        self.worked(id, turn::run);
    }

    /// Passes this result of a job to the protocol, without running the job.
    #[track_caller]
    pub fn finish_work(&mut self, id: u32, result: Result<impl Into<Message>, Error>) {
        self.worked(id, |_| result.map(Into::into));
    }

    /// Skips the wait for the next attempt: see [`Client::reconnect_now`](crate::Client::reconnect_now).
    #[track_caller]
    pub fn reconnect_now(&mut self) {
        self.command(Command::ReconnectNow);
    }

    /// Replaces the connection: see [`Client::reconnect`](crate::Client::reconnect).
    #[track_caller]
    pub fn reconnect(&mut self) {
        self.command(Command::Reconnect);
    }

    /// Takes the line down: see [`Client::suspend`](crate::Client::suspend).
    #[track_caller]
    pub fn suspend_line(&mut self) {
        self.command(Command::Suspend);
    }

    /// Ends a [`suspend_line`](Self::suspend_line): see [`Client::resume`](crate::Client::resume).
    #[track_caller]
    pub fn resume_line(&mut self) {
        self.command(Command::Resume);
    }

    /// Closes the line as the application: see [`Client::close`](crate::Client::close).
    #[track_caller]
    pub fn close_client(&mut self) {
        let until = deadline(self.now(), self.turn.session.config().close_timeout);
        self.command(Command::Close { frame: CloseFrame::new(1000, ""), flush: true, until });
    }

    /// Ends the line as the application: see [`Client::terminate`](crate::Client::terminate).
    #[track_caller]
    pub fn terminate(&mut self) {
        self.command(Command::Terminate);
    }

    /// Returns what could not be delivered, once the line is closed.
    pub fn left(&self) -> Option<&Undelivered> {
        self.left.as_ref()
    }
}

#[track_caller]
fn no_request(asked: Ticket) -> ! {
    panic!("{asked} is no request; the ticket of one comes from request or request_many")
}
