//! What is confirmed, and by what.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{LONG, Server, accept_raw, eventually, fate, frame, quick, read_frame, wait_for};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::json;
use tautline::{Beat, Client, Error, Event, HeartbeatConfig, JsonSession, Ticket, Tickets};

const PING: u8 = 9;
const CLOSE: u8 = 8;
const TEXT: u8 = 1;
const PONG: u8 = 0x8A;

/// The warnings of this file's clients.
struct Warnings(Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl Log for Warnings {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() == Level::Warn {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn callers_are_confirmed_however_many_come_before_the_first_answer() {
    // A ping is answered when 150 more messages have come: as a server that is far away does, but by count.
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        let mut pings = VecDeque::new();
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            let messages = counter.load(Ordering::SeqCst);
            if opcode == PING {
                pings.push_back((messages + 150, payload));
                continue;
            }
            let due = pings.partition_point(|(due, _)| *due <= messages);
            for (_, payload) in pings.drain(..due) {
                if stream.write_all(&frame(PONG, &payload)).is_err() {
                    return;
                }
            }
            counter.store(messages + 1, Ordering::SeqCst);
        }
    });
    let client = Client::connect(quick(&server.url())).unwrap();
    let confirmed = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (1..=600)
        .map(|n| {
            client.send("news").unwrap();
            let (client, confirmed) = (client.clone(), Arc::clone(&confirmed));
            let caller = thread::spawn(move || {
                if client.confirm(.., LONG).is_ok() {
                    confirmed.fetch_add(1, Ordering::SeqCst);
                }
            });
            eventually("the server has the message", || seen.load(Ordering::SeqCst) >= n);
            caller
        })
        .collect();
    eventually("many are confirmed", || confirmed.load(Ordering::SeqCst) >= 100);
    client.terminate();
    for caller in callers {
        caller.join().unwrap();
    }
}

#[test]
fn a_server_whose_pongs_are_empty_is_named_in_the_log_and_does_not_hold_up_a_close() {
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(LevelFilter::Warn);
    let server = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            let answered = match opcode {
                PING => stream.write_all(&frame(PONG, b"")),
                CLOSE => stream.write_all(&frame(0x88, &payload)),
                _ => Ok(()),
            };
            if answered.is_err() || opcode == CLOSE {
                return;
            }
        }
    });
    let warnings = || {
        let all = WARNINGS.0.lock().unwrap();
        all.iter().filter(|warning| warning.contains("without repeating their payload")).count()
    };
    // Half of this is what a goodbye leaves to a confirmation.
    let config = quick(&server.url()).close_timeout(100 * LONG);
    let client = Client::connect(config).unwrap();
    let ticket = client.send("news").unwrap();
    let error = client.confirm(.., Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    eventually("a warning", || warnings() == 1);
    client.send("more").unwrap();
    assert!(client.confirm(.., Duration::from_millis(50)).is_err());
    let (closed_in, closed) = crossbeam_channel::bounded(1);
    thread::spawn(move || closed_in.send(client.close()));
    let left = closed.recv_timeout(LONG).unwrap();
    assert!(left.maybe_delivered.contains(ticket) && left.maybe_delivered.len() == 2, "{left:?}");
    assert_eq!(warnings(), 1, "one for all");
}

#[test]
fn an_answered_request_is_in_no_doubt_though_no_ping_is_answered() {
    for beat in [Beat::WebSocketPing, Beat::Off] {
        // It answers the two requests, and ends the connection at the third.
        let server = Server::start(|n, stream| {
            let mut stream = accept_raw(stream);
            while let Some((opcode, payload)) = read_frame(&mut stream) {
                let text = String::from_utf8_lossy(&payload);
                if n == 0 && text.contains("end") {
                    return;
                }
                if opcode == TEXT && text.contains("id") && stream.write_all(&frame(0x81, &payload)).is_err()
                {
                    return;
                }
            }
        });
        let config = quick(&server.url()).heartbeat(HeartbeatConfig::default().beat(beat));
        let session = JsonSession::new().answers_by("id");
        let client = Client::builder(config).protocol(session).connect().unwrap();
        client.send("1: news").unwrap();
        client.request(json!({"number": 2}), LONG).unwrap();
        client.send("3: news").unwrap();
        let mut answers = client.request_many(json!({"number": 4}), LONG).unwrap();
        answers.next().unwrap().unwrap();
        client.request(json!({"number": 5, "say": "end"}), LONG).unwrap_err();
        let doubtful = wait_for(&client, |event| match event {
            Event::Disconnected { maybe_delivered, .. } => Some(maybe_delivered),
            _ => None,
        });
        assert_eq!(doubtful.iter().map(Ticket::number).collect::<Vec<_>>(), [1, 3, 5], "{beat:?}");
        client.terminate();
    }
}

/// Sends one message that the server's end leaves in doubt and, while the line is down, one that expires; then those that
/// `after` sends arrive.
fn after_a_loss<T>(after: impl FnOnce(&Client, [Ticket; 2]) -> T) -> T {
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |n, stream| {
        if n > 0 && go.recv().is_err() {
            return;
        }
        let mut stream = accept_raw(stream);
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            let goes_on = opcode != PING || stream.write_all(&frame(PONG, &payload)).is_ok();
            if payload == b"lost" || !goes_on {
                return;
            }
        }
    });
    let client = Client::connect(quick(&server.url()).max_age(Duration::from_millis(500))).unwrap();
    let lost = client.send("lost").unwrap();
    wait_for(&client, |event| matches!(event, Event::Disconnected { .. }).then_some(()));
    let old = client.send("old").unwrap();
    wait_for(&client, |event| matches!(event, Event::Expired { .. }).then_some(()));
    go_in.send(()).unwrap();
    client.wait_ready(LONG).unwrap();
    let outcome = after(&client, [lost, old]);
    client.terminate();
    outcome
}

#[test]
fn threads_that_share_a_client_learn_of_their_own_messages_and_of_no_others() {
    after_a_loss(|client, mine| {
        let fine = client.send("fine").unwrap();
        thread::scope(|scope| {
            for _ in 0..50 {
                scope.spawn(|| assert_eq!(fate(client, mine), "maybe #1, never #2"));
                scope.spawn(|| assert_eq!(fate(client, fine), "received"));
            }
        });
    });
}

#[test]
fn the_same_question_gets_the_same_answer_in_whatever_form_and_by_whichever_handle() {
    after_a_loss(|client, [lost, old]| {
        let clone = client.clone();
        let fine = client.send_all(["a", "b", "c"]).unwrap();
        let list: Vec<Ticket> = fine.iter().collect();
        for handle in [client, &clone, client] {
            assert_eq!(fate(handle, ..), "maybe #1, never #2");
            assert_eq!(fate(handle, lost..), "maybe #1, never #2");
            assert_eq!(fate(handle, lost..=old), "maybe #1, never #2");
            assert_eq!(fate(handle, ..=lost), "maybe #1");
            assert_eq!(fate(handle, old..), "never #2");
            assert_eq!(fate(handle, [list[2], old, list[0]]), "never #2");
            assert_eq!(fate(handle, &list), "received");
            assert_eq!(fate(handle, &list[1..]), "received");
            assert_eq!(fate(handle, list[0]..), "received");
            assert_eq!(fate(handle, list.iter().copied().collect::<Tickets>()), "received");
            assert_eq!(fate(handle, &fine), "received");
            assert_eq!(fate(handle, Tickets::default()), "received", "there are none");
        }
        client.confirm(fine, Duration::ZERO).expect("what is known is said at once");
    });
}

#[test]
fn a_message_that_was_never_accepted_is_no_question() {
    let server = Server::echo();
    let [client, other] = [(); 2].map(|()| Client::connect(quick(&server.url())).unwrap());
    client.confirm(.., LONG).expect("nothing was accepted");
    client.send("1").unwrap();
    let theirs = other.send_all(["1", "2", "3"]).unwrap();
    let [first, second, third]: [Ticket; 3] = theirs.iter().collect::<Vec<_>>().try_into().unwrap();
    client.confirm(first, LONG).unwrap();
    client.confirm(second.., LONG).expect("there is none yet");
    let wrong = [second.into(), (first..=second).into(), Tickets::from(third..), theirs];
    for tickets in wrong {
        let error = client.confirm(&tickets, LONG).unwrap_err();
        assert!(matches!(error, Error::InvalidArgument { argument: "tickets", .. }), "{tickets}: {error:?}");
        assert!(error.to_string().contains("has accepted no message #"), "{error}");
    }
    client.close();
    other.close();
}
