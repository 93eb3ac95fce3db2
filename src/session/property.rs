//! Whatever happens on a line, in whatever order, some things always hold. Random sequences of commands, arrivals and
//! times drive a session the way the worker does, over a fake socket that keeps its own account of every message.
#![expect(clippy::disallowed_methods, reason = "an Instant has no other source; the tests step from it")]

mod run;
mod wire;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proptest::collection::vec;
use proptest::prelude::*;

use crate::config::{Beat, ConnectionConfig, HeartbeatConfig, Inbound, Jitter, ReconnectConfig};
use crate::error::{Error, Rejection};
use run::Run;

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Op {
    Time(Time),
    Command(Command),
    Arrival(Arrival),
    Wire(Weather),
}

#[derive(Clone, Copy, Debug)]
enum Time {
    /// So many ms pass.
    Step(u64),
    /// Exactly as long as until the next deadline, the plan's time included.
    ToDeadline,
    /// The wall clock is set, by so many ms.
    WallJump(i64),
}

/// What reaches the worker from other threads. `stale`: it belongs to what is no longer wanted.
#[derive(Clone, Copy, Debug)]
enum Command {
    Accept { messages: u8, size: usize },
    Opened { stale: bool },
    DialFailed { stale: bool, cause: Cause },
    Retry { stale: bool },
    ReconnectNow,
    Close { flush: bool },
    Terminate,
    Panic,
}

#[derive(Clone, Copy, Debug)]
enum Cause {
    Refused,
    Rejected(u16),
    RetryAfter(u16),
}

impl Cause {
    fn error(self) -> Error {
        let (status, headers) = match self {
            Self::Refused => {
                let source = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
                return Error::Connect { host: "h".into(), source };
            }
            Self::Rejected(status) => (status, vec![]),
            Self::RetryAfter(seconds) => (503, vec![("Retry-After".to_owned(), seconds.to_string())]),
        };
        Error::Rejected(Arc::new(Rejection::new(status, "", headers)))
    }
}

/// What a read brings.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    Bytes,
    Ping,
    Message,
    JsonPong,
    /// The answer to the ping that was sent as `back` pings ago.
    Pong {
        back: usize,
    },
    ForgedPong(&'static [u8]),
    Close(u16),
    End,
    Violation(u16),
}

/// What the system does, and the application behind it.
#[derive(Clone, Copy, Debug)]
enum Weather {
    /// It takes so many bytes more, then none.
    Room(u64),
    /// It takes everything.
    Clear,
    /// The next write fails, while a frame is handed over or in the flush.
    Breaks { early: bool },
    /// The application takes its messages, or does not.
    Paused(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => time().prop_map(Op::Time),
        9 => command().prop_map(Op::Command),
        7 => arrival().prop_map(Op::Arrival),
        4 => weather().prop_map(Op::Wire),
    ]
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![
        8 => (0_u64..50).prop_map(Time::Step),
        5 => (50_u64..5000).prop_map(Time::Step),
        1 => (5000_u64..100_000).prop_map(Time::Step),
        6 => Just(Time::ToDeadline),
        1 => (-20_000_i64..20_000).prop_map(Time::WallJump),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let stale = || prop::bool::weighted(0.1);
    // Most lines are to live on.
    let end = prop_oneof![
        8 => any::<bool>().prop_map(|flush| Command::Close { flush }),
        1 => Just(Command::Terminate),
        1 => Just(Command::Panic),
    ];
    prop_oneof![
        40 => (1_u8..4, 1_usize..150).prop_map(|(messages, size)| Command::Accept { messages, size }),
        60 => stale().prop_map(|stale| Command::Opened { stale }),
        6 => (stale(), cause()).prop_map(|(stale, cause)| Command::DialFailed { stale, cause }),
        20 => stale().prop_map(|stale| Command::Retry { stale }),
        10 => Just(Command::ReconnectNow),
        1 => end,
    ]
}

fn cause() -> impl Strategy<Value = Cause> {
    prop_oneof![
        12 => Just(Cause::Refused),
        1 => prop::sample::select(&[403_u16, 404, 500][..]).prop_map(Cause::Rejected),
        2 => (0_u16..200).prop_map(Cause::RetryAfter),
    ]
}

fn arrival() -> impl Strategy<Value = Arrival> {
    const FORGED: [&[u8]; 4] = [b"", b"x", &[0; 8], &[0xFF; 8]];
    prop_oneof![
        10 => Just(Arrival::Bytes),
        5 => Just(Arrival::Ping),
        12 => Just(Arrival::Message),
        5 => Just(Arrival::JsonPong),
        20 => (0_usize..4).prop_map(|back| Arrival::Pong { back }),
        3 => prop::sample::select(&FORGED[..]).prop_map(Arrival::ForgedPong),
        2 => prop_oneof![9 => Just(1001_u16), 1 => Just(1000_u16)].prop_map(Arrival::Close),
        3 => Just(Arrival::End),
        1 => Just(Arrival::Violation(1002)),
    ]
}

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        6 => (0_u64..400).prop_map(Weather::Room),
        6 => Just(Weather::Clear),
        1 => any::<bool>().prop_map(|early| Weather::Breaks { early }),
        2 => any::<bool>().prop_map(Weather::Paused),
    ]
}

fn config() -> impl Strategy<Value = ConnectionConfig> {
    let ms = |all: &'static [u64]| prop::sample::select(all).prop_map(Duration::from_millis);
    let beat = prop_oneof![4 => Just(Beat::WebSocketPing), 1 => Just(Beat::Json), 1 => Just(Beat::Off)];
    let heartbeat = (beat, ms(&[200, 3000, 30_000]), ms(&[100, 10_000]), any::<bool>()).prop_map(
        |(beat, interval, timeout, strict)| {
            HeartbeatConfig::default().beat(beat).interval(interval).timeout(timeout).strict(strict)
        },
    );
    let most = prop_oneof![6 => Just(None), 1 => (0_u32..6).prop_map(Some)];
    // No jitter: a sequence that fails has to fail again when it is shrunk.
    let reconnect = most.prop_map(|max_attempts| ReconnectConfig {
        max_attempts,
        ..ReconnectConfig::default().jitter(Jitter::None)
    });
    let inbound = prop_oneof![4 => Just(Inbound::Deliver), 1 => Just(Inbound::Discard)];
    // No heartbeat is cut.
    let fragment = prop_oneof![3 => Just(None), 1 => (60_usize..120).prop_map(Some)];
    let times = (ms(&[10, 3000]), ms(&[500, 30_000]), ms(&[0, 5000]));
    (heartbeat, reconnect, inbound, times, fragment).prop_map(
        |(heartbeat, reconnect, inbound, (close, write, stable), fragment)| ConnectionConfig {
            fragment,
            ..ConnectionConfig::new("ws://test.example")
                .heartbeat(heartbeat)
                .reconnect(reconnect)
                .inbound(inbound)
                .close_timeout(close)
                .write_timeout(write)
                .stable_after(stable)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// What holds is asserted on the way, in [`Run`] and in the [`Wire`](wire::Wire) that it writes to.
    #[test]
    fn whatever_happens_the_rules_of_a_line_hold(
        config in config(),
        one_attempt in prop::bool::weighted(0.1),
        turns in vec(vec(op(), 1..5), 1..70),
    ) {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        let mut run = Run::new(config, one_attempt, Instant::now(), wall);
        for ops in &turns {
            run.turn(ops);
            run.settle();
        }
        run.finish();
    }
}
