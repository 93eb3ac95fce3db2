//! A whole line driven by bytes: its configuration, then step by step what happens to it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::input::Input;
use super::ledger::message;
use super::peer::Peer;
use super::rig::{Line, Opening, Rig};
use super::wild::{Fallen, Wild};
use crate::client::{SendOptions, offer};
use crate::compression::Compression;
use crate::config::{
    Beat, Confirmation, ConnectionConfig, Delivery, HeartbeatConfig, Inbound, Jitter, QueueLimit,
    ReconnectConfig, ServerOrder, WhileDown,
};
use crate::error::{CloseFrame, Error, Rejection, SendErrorKind};
use crate::io::turn::Turn;
use crate::message::Message;
use crate::protocol::{JsonSession, Protocol};
use crate::session::Startup;
use crate::shared::{Command, Offer, Reply, Special};
use crate::transport::pipe::{End, frame};

/// Which protocol the line has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    Plain,
    Json,
    Wild,
}

/// The most steps in one run.
const STEPS: usize = 400;

/// This bit of a step says that the next one happens in the same turn.
const AT_ONCE: u8 = 0x80;

/// With these bits in its step, what is sent is for the present connection only.
const FOR_THIS: u8 = 0x60;

/// With these, several messages are sent while another one is written.
const MEANWHILE: u8 = 0x40;

/// With this one, the events go through a channel from now on.
const AS_CHANNEL: u8 = 0x40;

/// The times without data, by the upper bits of the byte that says how the client starts: there is room for them, and the
/// corpus keeps its meaning. With `true`, only messages of an even length count.
const IDLE: [Option<(u64, bool)>; 8] = [
    None,
    None,
    None,
    Some((3000, false)),
    Some((3000, true)),
    Some((200, false)),
    Some((200, true)),
    Some((60, false)),
];

/// How many servers there are, by the lower bits of the same byte, and in which order they are tried.
const SERVERS: [(usize, ServerOrder); 16] = {
    use ServerOrder::{InTurn, Random};
    let one = (1, InTurn);
    let (two, three) = ((2, InTurn), (3, InTurn));
    let (any_of_two, any_of_three) = ((2, Random), (3, Random));
    [
        one,
        one,
        one,
        one,
        two,
        two,
        two,
        two,
        two,
        three,
        three,
        (5, InTurn),
        any_of_two,
        any_of_three,
        any_of_three,
        (5, Random),
    ]
};

/// The values of these bits with which there is one attempt.
const ONE_ATTEMPT: [u8; 3] = [1, 9, 14];

/// Runs with a protocol that the input chooses.
pub(super) fn run_any(data: &[u8], now: Instant) {
    let choice = Input::new(data).pick(&[Speaks::Plain, Speaks::Plain, Speaks::Json, Speaks::Wild]);
    run(data.get(1..).unwrap_or_default(), choice, now);
}

pub(super) fn run(data: &[u8], speaks: Speaks, now: Instant) {
    let mut input = Input::new(data);
    let mut config = config(&mut input, speaks);
    let mode = input.byte();
    let idle = IDLE[usize::from(mode >> 5)];
    config.idle_timeout = idle.map(|(ms, _)| Duration::from_millis(ms));
    let (count, order) = SERVERS[usize::from(mode & 0xF)];
    let others = (2..=count).map(|n| format!("ws://h{n}"));
    config.servers = (count > 1).then(|| others.collect());
    config.server_order = order;
    let mode = Startup { one_attempt: ONE_ATTEMPT.contains(&(mode & 0xF)), fetches: mode & 0x10 != 0 };
    let fallen = Fallen::default();
    let mut pairs_by_id = false;
    let protocol: Option<Box<dyn Protocol>> = match speaks {
        Speaks::Plain => None,
        Speaks::Json => Some(Box::new(json_session(input.byte(), &mut pairs_by_id))),
        Speaks::Wild => Some(Box::new(Wild::new(input.block(), fallen.clone()))),
    };
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
    let mut rig = Rig::new(config, protocol, mode, (now, wall));
    rig.fallen = fallen;
    if let Some((_, true)) = idle {
        rig.count_even_lengths();
    }
    rig.answers_requests = speaks != Speaks::Plain;
    rig.check.pairs_by_id = pairs_by_id;
    rig.check.unruly = speaks == Speaks::Wild;
    rig.check.rounds.is_known = speaks != Speaks::Wild && !mode.fetches;
    let mut due = None;
    for _ in 0..STEPS {
        if input.is_empty() || rig.stopped {
            break;
        }
        let step = input.byte();
        act(&mut rig, step & !AT_ONCE, &mut input, due);
        if step & AT_ONCE == 0 {
            due = rig.settle();
        }
    }
    rig.turn.host.commands.push_back(Command::Terminate);
    rig.settle();
    assert!(rig.stopped, "a terminated client goes on");
}

fn config(input: &mut Input<'_>, speaks: Speaks) -> ConnectionConfig {
    let ms = |input: &mut Input<'_>, all: &[u64]| Duration::from_millis(input.pick(all));
    let beats = [Beat::WebSocketPing, Beat::WebSocketPing, Beat::Json, Beat::Off, Beat::Protocol];
    // Only the wild protocol makes its own heartbeats.
    let beat = input.pick(&beats[..if speaks == Speaks::Wild { 5 } else { 4 }]);
    let heartbeat = HeartbeatConfig::default()
        .beat(beat)
        .interval(ms(input, &[30_000, 1000, 50]))
        .timeout(ms(input, &[10_000, 500, 20]))
        .strict(input.flag());
    let reconnect = ReconnectConfig {
        max_attempts: input.pick(&[None, Some(0), Some(3)]),
        ..ReconnectConfig::default().jitter(Jitter::None)
    };
    let keeps = input.flag() && beat == Beat::WebSocketPing;
    let limits =
        [QueueLimit::default(), QueueLimit::new(1, 1), QueueLimit::new(3, 200), QueueLimit::new(16, 40_000)];
    let mut config = ConnectionConfig::new("ws://h")
        .heartbeat(heartbeat)
        .reconnect(reconnect)
        .delivery(if keeps { Delivery::AtLeastOnce } else { Delivery::AtMostOnce })
        .inbound(input.pick(&[Inbound::Deliver, Inbound::Deliver, Inbound::Discard]))
        .outbox(input.pick(&limits))
        .events(input.pick(&limits))
        .max_message_size(input.pick(&[1 << 20, 300, 100_000]))
        .max_frame_size(input.pick(&[1 << 20, 100]))
        .connect_timeout(ms(input, &[10_000, 40]))
        .login_timeout(ms(input, &[10_000, 40]))
        .close_timeout(ms(input, &[3000, 10]))
        .write_timeout(ms(input, &[30_000, 100]))
        .stable_after(ms(input, &[5000, 0]));
    config.max_age =
        input.pick(&[None, None, Some(Duration::from_millis(500)), Some(Duration::from_millis(20))]);
    config.fragment = input.pick(&[None, None, Some(1000), Some(100), Some(3)]);
    config.while_down = input.pick(&[WhileDown::Queue, WhileDown::Queue, WhileDown::Refuse]);
    if speaks != Speaks::Plain {
        config.confirmation =
            input.pick(&[Confirmation::Pong, Confirmation::Pong, Confirmation::Acknowledgement]);
    }
    config.compression = match input.pick(&[0, 0, 1, 2]) {
        0 => None,
        compresses => {
            let alone = compresses == 2;
            let compression = Compression::default().threshold(0);
            Some(compression.client_no_context_takeover(alone).server_no_context_takeover(alone))
        }
    };
    let realtime = input.byte();
    let capacities = [config.outbox.messages, 1, 2, 3, 8];
    config.realtime = (realtime % 3 == 2).then(|| capacities[usize::from(realtime / 3) % capacities.len()]);
    config.fit_queues();
    config
}

fn json_session(choice: u8, pairs_by_id: &mut bool) -> JsonSession {
    let mut session = JsonSession::new();
    if choice & 1 != 0 {
        session = session.login(json!({"login": "me"}));
    }
    if choice & 2 != 0 {
        session = session.accepted(|value| value["ok"] == true);
    }
    if choice & 4 != 0 {
        session = session.refused(|value| value.get("err").is_some());
    }
    match choice >> 3 & 3 {
        0 => session,
        1 => session.answers_in_order(|value| value.get("re").is_some()),
        _ => {
            *pairs_by_id = true;
            session.answers_by("id")
        }
    }
}

/// `due`: when the I/O thread would wake up.
fn act(rig: &mut Rig, step: u8, input: &mut Input<'_>, due: Option<Instant>) {
    match step % 32 {
        0 => rig.switch(),
        1 => rig.sleep(Duration::from_millis(u64::from(input.short()))),
        2 => {
            let due = [due, rig.turn.host.plan.map(|plan| plan.at)]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(rig.now());
            let late = input.pick(&[0, 0, 0, 1, 4000, 6000]);
            rig.sleep(due.saturating_duration_since(rig.now()) + Duration::from_millis(late));
            rig.look_at_the_clock();
        }
        3 => {
            let by = Duration::from_millis(u64::from(input.short()));
            rig.wall = if input.flag() { rig.wall + by } else { rig.wall - by };
            rig.look_at_the_clock();
        }
        4 => {
            let (count, size) = (input.byte() % 8, usize::from(input.byte()));
            if step & FOR_THIS == MEANWHILE {
                rig.send_meanwhile(count, size);
                return;
            }
            (0..=count).for_each(|_| send(rig, size, false, step & FOR_THIS == FOR_THIS));
        }
        5 => send(rig, usize::from(input.short()), true, step & FOR_THIS == FOR_THIS),
        6 => {
            if rig.answers_requests {
                request(rig, input);
            }
        }
        7 => {
            let back = u64::from(input.byte());
            let ticket = rig.ledger.accepted().saturating_sub(back);
            if rig.ledger.is_request(ticket) {
                rig.ledger.drop(ticket);
                rig.turn.host.commands.push_back(Command::Withdraw { ticket });
            }
        }
        8 => rig.turn.host.commands.push_back(Command::Confirm { through: rig.ledger.accepted() }),
        9 => {
            let choice = input.byte();
            let code = [1000, 1001, 3000, 4999][usize::from(choice & 3)];
            let frame = CloseFrame::new(code, "r".repeat(usize::from(input.byte() % 124)));
            // A `shutdown` may give it less time.
            let whole = rig.config.close_timeout;
            let time = [whole, whole, Duration::ZERO, whole / 2][usize::from(choice >> 2 & 3)];
            let close = Command::Close { frame, flush: input.flag(), until: rig.now() + time };
            // The caller closes the intake first, and may lose its processor before its command is there.
            match choice >> 4 & 3 {
                0 | 1 => rig.turn.host.commands.push_back(close),
                2 => {
                    rig.turn.intake.close();
                    rig.turn.host.commands.push_back(close);
                }
                _ => _ = rig.turn.intake.close(),
            }
        }
        10 => rig.turn.host.commands.push_back(Command::Terminate),
        11 => {
            let command = match input.byte() {
                0..=99 => Command::ReconnectNow,
                100..=149 => Command::Reconnect,
                150..=199 => Command::Suspend,
                _ => Command::Resume,
            };
            rig.turn.host.commands.push_back(command);
        }
        12..=14 => dialled(rig, step % 32, input),
        15 => {
            // A timer fires for an earlier plan.
            let generation = u64::from(input.byte());
            if rig.turn.host.plan.is_none_or(|plan| plan.generation != generation) {
                rig.turn.session.handle_retry(rig.now(), generation);
            }
        }
        28 => {
            if step & AS_CHANNEL != 0 {
                rig.events.channel();
            }
            rig.taking = input.pick(&[usize::MAX, 0, 1, 2, 100]);
        }
        31 => {
            rig.check.panicked = true;
            rig.turn.session.handle_panic("on_event_ready");
        }
        other => {
            let which = if rig.turn.host.lines.len() > 1 { usize::from(input.byte()) } else { 0 };
            happen(rig, which, other, input);
        }
    }
}

fn send(rig: &mut Rig, size: usize, binary: bool, for_this: bool) {
    let message = message(rig.ledger.accepted() + 1, size, binary);
    let expires = rig.config.max_age.map(|age| rig.now() + age);
    let options = if for_this { SendOptions::new().this_connection() } else { SendOptions::new() };
    let offer = offer(&rig.turn.intake, message, options, expires);
    let session = offer.session();
    if let Ok(ticket) = rig.turn.intake.try_push(offer) {
        rig.ledger.accept(ticket, false, expires.is_some(), session);
    }
}

fn request(rig: &mut Rig, input: &mut Input<'_>) {
    let mut value = json!({"n": rig.ledger.accepted() + 1, "x": "z".repeat(input.byte().into())});
    match input.byte() {
        id @ 0..=3 => value["id"] = id.into(),
        4 => value["id"] = Value::Null,
        _ => {}
    }
    let many = value["x"].as_str().is_some_and(|x| x.len() % 2 == 1);
    let message = match input.byte() {
        0 => Message::from(value.to_string().into_bytes()),
        _ => value.into(),
    };
    let (way, answers) = crossbeam_channel::unbounded();
    // A wait for room is not possible here.
    let offer =
        Offer { message, special: Some(Box::new(Special::Request(Reply { way, many }))), expires: None };
    match rig.turn.intake.push(offer, rig.now(), |_| Duration::ZERO) {
        Ok(ticket) => {
            rig.ledger.accept(ticket, true, false, None);
            rig.asked.insert(ticket.number(), answers);
        }
        Err(error) => assert!(!matches!(error.kind(), SendErrorKind::ConsumerStalled { .. }), "{error:?}"),
    }
}

/// An attempt ends, possibly one that nobody waits for any more.
fn dialled(rig: &mut Rig, step: u8, input: &mut Input<'_>) {
    let generation = match step {
        // An earlier attempt.
        14 => Some(u64::from(input.byte() % 4)).filter(|generation| {
            *generation <= rig.turn.host.newest && rig.turn.host.dialling != Some(*generation)
        }),
        _ => rig.turn.host.dialling,
    };
    let Some(generation) = generation else { return };
    if step == 13 {
        let error = match input.pick(&[0, 401, 403, 404, 429, 503, 301]) {
            0 => {
                let source = Arc::new(std::io::ErrorKind::ConnectionRefused.into());
                Error::Connect { host: "h".into(), source }
            }
            status => {
                let headers = vec![("Retry-After".to_owned(), input.byte().to_string())];
                let rejection = Rejection::new(status, "", headers);
                Error::UpgradeRejected(Arc::new(rejection))
            }
        };
        rig.turn.host.results.push_back((generation, Err(error)));
        return;
    }
    let mut peer = Peer::new(generation, rig.config.compression.as_ref());
    let glued = match input.byte() {
        0..=159 => Vec::new(),
        160..=199 => peer.message(5),
        200..=219 => peer.ping(b"early"),
        _ => {
            peer.raw = true;
            input.block().to_vec()
        }
    };
    let room = input.pick(&[usize::MAX, 0, 10, 1000]);
    rig.turn.host.results.push_back((generation, Ok(Opening { glued, peer, room })));
}

/// What happens on an open connection, if there is one.
fn happen(rig: &mut Rig, which: usize, step: u8, input: &mut Input<'_>) {
    let even_only = rig.even_only;
    let Turn { host: sim, sockets, .. } = &mut rig.turn;
    let count = sim.lines.len().max(1);
    let Some(line) = sim.lines.get_mut(which % count) else { return };
    let Line { id, pipe, peer, flight, end, cut, sent, data_ends, .. } = line;
    let bytes = match step {
        16 => peer.message(usize::from(input.short() % 2000)),
        17 => peer.text(String::from_utf8_lossy(input.block()).trim_start_matches('m').as_bytes()),
        18 => peer.ping(input.block()),
        19 => peer.pong(input.byte().into()),
        20 => peer.forge(input.block()),
        21 => {
            let code = input.short();
            let code = [1000, 1001, 1008, 1014].get(usize::from(code)).copied().unwrap_or(code);
            frame(0x88, &[&code.to_be_bytes(), input.block()].concat())
        }
        22 => {
            peer.raw = true;
            input.block().to_vec()
        }
        23 => {
            let (fin, size) = (input.flag(), input.byte());
            peer.fragment(fin, size.into())
        }
        24 => {
            *end = Some(if input.flag() { End::Reset } else { End::Eof });
            return;
        }
        25 => {
            *cut = input.short().into();
            return;
        }
        26 => {
            pipe.state().room = match input.short() {
                u16::MAX => usize::MAX,
                room => room.into(),
            };
            return;
        }
        27 => {
            pipe.state().broken = true;
            return;
        }
        29 => {
            let number: Value = match input.byte() {
                number @ 0..=199 => number.into(),
                _ => Value::Null,
            };
            peer.text(json!({"id": number, "ok": true, "re": 1}).to_string().as_bytes())
        }
        _ => {
            pipe.state().interrupts = input.byte() % 4;
            // The poller may report this wrongly.
            if let Some(open) = sockets.iter_mut().find(|open| open.id == *id) {
                open.socket.wire_mut().edge();
            }
            return;
        }
    };
    if end.is_none() && pipe.state().end.is_none() {
        *sent += bytes.len() as u64;
        // A frame's header has an even length here, and a message that is compressed an odd one. A fragment is part of a message
        // that may not count in the end.
        let even = step == 16 && bytes[0] == 0x81 && bytes.len().is_multiple_of(2);
        let counts = if even_only { even } else { matches!(step, 16 | 23) };
        data_ends.extend(counts.then_some(*sent));
        flight.extend(bytes);
    }
}
