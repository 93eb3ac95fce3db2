//! Protocols, told by a scripted server and a virtual clock: `tautline::testing`.

mod acknowledge;
mod credentials;
mod examples;
mod hooks;
mod json;
mod kit;
mod moving;
mod services;
#[path = "../common/watchdog.rs"]
mod watchdog;
mod wrapping;

use std::time::Duration;

use tautline::testing::Line;
use tautline::{
    Attempt, ConnectionConfig, Context, Error, Handshake, HeartbeatConfig, Loss, Message, Outgoing, Protocol,
    RequestId, Retry, UpgradeRequest,
};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

const URL: &str = "ws://test.example";

fn quiet() -> ConnectionConfig {
    ConnectionConfig::new(URL).heartbeat(HeartbeatConfig::off())
}

/// Does what the server says, word by word, and delivers what it does not know. It is ready at the word `ready`.
#[derive(Default)]
struct Obedient {
    /// When it is to send `poison`.
    on_poison: &'static str,
    /// What it does in these hooks.
    on_open: &'static str,
    on_closing: &'static str,
    on_timer: &'static str,
    retry: Option<Retry>,
    /// Where a move goes to.
    elsewhere: &'static str,
}

impl Obedient {
    /// Ready as soon as it is open.
    fn ready() -> Self {
        Self { on_open: "ready", ..Self::default() }
    }

    fn obey(cx: &mut Context<'_>, words: &str) -> Result<(), Error> {
        let mut words = words.split(' ').filter(|word| !word.is_empty());
        while let Some(word) = words.next() {
            let mut next = || words.next().expect("another word");
            let number = |word: &str| word.parse::<u32>().expect("a number");
            match word {
                "ready" => cx.ready(),
                "resumed" => cx.resumed(),
                "send" => cx.send(next()),
                "timers" => (0..number(next())).for_each(|id| cx.set_timer(id, S)),
                "timer" => cx.set_timer(number(next()), S),
                "cancel" => cx.cancel_timer(number(next())),
                "work" => {
                    let id = number(next());
                    cx.work(id, move || Ok(format!("send done-{id}").into()));
                }
                "hold" => cx.hold(number(next()) * S),
                "release" => cx.release(),
                "answered" => cx.beat_answered(),
                "beats" => {
                    let interval = number(next()) * S;
                    cx.set_beats(interval, interval);
                }
                "close" => cx.close(u16::try_from(number(next())).unwrap(), "as told"),
                "stop" => cx.stop(Error::login_refused("as told")),
                "fail" => return Err(Error::session("as told")),
                "panic" => panic!("as told"),
                "move" => cx.move_line(),
                "random" => {
                    let number = cx.random();
                    cx.send(number.to_string());
                }
                "number" => cx.deliver(cx.connection().to_string()),
                "clock" => cx.send(cx.unix_time().as_secs().to_string()),
                other => cx.deliver(other),
            }
        }
        Ok(())
    }
}

impl Protocol for Obedient {
    fn prepare(&mut self, attempt: &Attempt<'_>, request: &mut UpgradeRequest) -> Result<(), Error> {
        if attempt.moving {
            self.elsewhere.clone_into(&mut request.url);
        }
        if self.elsewhere == "fails" { Err(Error::session("no attempt")) } else { Ok(()) }
    }

    fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
        if cx.is_moving() { Ok(()) } else { Self::obey(cx, self.on_open) }
    }

    fn on_message(&mut self, cx: &mut Context<'_>, message: Message) -> Result<(), Error> {
        Self::obey(cx, message.as_text().unwrap_or("bytes"))
    }

    fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
        let words = if outgoing.message.as_text() == Some("poison") { self.on_poison } else { "" };
        Self::obey(cx, words)?;
        cx.send(outgoing.message);
        Ok(())
    }

    fn on_withdrawn(&mut self, cx: &mut Context<'_>, _: RequestId) -> Result<(), Error> {
        cx.send("withdrawn");
        Ok(())
    }

    fn on_beat(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        cx.send("beat");
        Ok(())
    }

    fn on_work(&mut self, cx: &mut Context<'_>, _: u32, result: Result<Message, Error>) -> Result<(), Error> {
        let words = result.map_or_else(|error| error.to_string(), |message| message.to_string());
        Self::obey(cx, &words)
    }

    fn on_move_failed(&mut self, cx: &mut Context<'_>, error: &Error) -> Result<(), Error> {
        cx.deliver(error.to_string());
        Ok(())
    }

    fn on_timer(&mut self, cx: &mut Context<'_>, id: u32) -> Result<(), Error> {
        cx.send(format!("timer {id}"));
        Self::obey(cx, self.on_timer)
    }

    fn on_closing(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        Self::obey(cx, self.on_closing)
    }

    fn on_down(&mut self, down: &Loss<'_>) -> Retry {
        self.retry.unwrap_or_else(|| down.default_retry())
    }
}

/// An open line of this protocol, without heartbeats.
fn opened(protocol: impl Protocol + 'static) -> Line {
    let mut line = Line::new(quiet(), protocol).unwrap();
    line.open();
    line
}

/// Why the line is down or closed.
fn trouble(line: &Line) -> String {
    line.last_failure().expect("it is down").to_string()
}

/// The one answer that a request has got, or why it has none.
fn answer(line: &mut Line, asked: tautline::Ticket) -> String {
    let mut answers = line.answers(asked);
    assert_eq!(answers.len(), 1, "{answers:?}");
    answers.remove(0).map_or_else(|error| error.to_string(), |answer| answer.to_string())
}
