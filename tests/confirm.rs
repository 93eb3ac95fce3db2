//! What is confirmed, and by what.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{
    CLOSE, LONG, MS, Nobody, PING, PONG, Server, TEXT, accept, accept_raw, config, eventually, fate, frame,
    listen, parrot, quick, read_frame, wait_for,
};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::json;
use tautline::{
    Beat, Client, Confirmation, ConnectionConfig, Context, Delivery, Error, Event, Handshake,
    HeartbeatConfig, JsonSession, Outgoing, Protocol, QueueLimit, Ticket, Tickets,
};

#[test]
fn confirm_waits_for_the_server_and_flush_for_the_system() {
    let (pong_in, pong) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |_, stream| {
        let mut stream = accept_raw(stream);
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            if opcode == 9 && pong.recv().is_ok() {
                let mut frame = vec![0x8A, 8];
                frame.extend(payload);
                stream.write_all(&frame).unwrap();
            }
        }
    });
    let client = Client::connect(config(&server.url())).unwrap();
    client.confirm(.., LONG).unwrap();
    client.send("x").unwrap();
    client.flush(LONG).unwrap();
    let error = client.confirm(.., 20 * MS).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
    pong_in.send(()).unwrap();
    client.confirm(.., LONG).unwrap();
}

#[test]
fn confirm_says_when_the_line_was_lost_over_a_message() {
    let server = Server::start(|n, stream| {
        let mut stream = accept_raw(stream);
        if n == 0 {
            read_frame(&mut stream);
        } else {
            while read_frame(&mut stream).is_some() {}
        }
    });
    let client = Client::connect(config(&server.url())).unwrap();
    client.send("x").unwrap();
    common::eventually("the loss", || client.stats().connects == 2);
    assert_eq!(fate(&client, ..), "maybe #1");
    let _ = client.terminate();
}

#[test]
fn what_was_lost_and_what_expired_are_told_apart_and_exactly() {
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let server = Server::start(move |n, stream| {
        if n > 0 && go.recv().is_err() {
            return;
        }
        let mut socket = accept(stream);
        while socket.read().is_ok_and(|message| message != "die".into()) {}
    });
    // Long enough for what is sent on an open line to go out.
    let client = Client::connect(config(&server.url()).max_age(1000 * MS)).unwrap();
    let mut sent = Vec::new();
    for round in 0..2 {
        sent.push(client.send("die").unwrap());
        common::wait_for(&client, common::disconnected);
        sent.push(client.send("old").unwrap());
        common::wait_for(&client, |event| matches!(event, Event::Expired { .. }).then_some(()));
        go_in.send(()).unwrap();
        client.wait_ready(LONG).unwrap();
        let fine = client.send("fine").unwrap();
        sent.push(fine);
        let told = ["maybe #1, never #2", "maybe #1, #4, never #2, #5"];
        assert_eq!(fate(&client, ..), told[round]);
        assert_eq!(fate(&client, fine), "received");
        client.flush(LONG).unwrap();
    }
    let [lost, expired, fine, ..] = sent[..] else { panic!("{sent:?}") };
    assert_eq!(fate(&client, lost), "maybe #1");
    assert_eq!(fate(&client, expired), "never #2");
    assert_eq!(fate(&client, [fine, expired]), "never #2");
    assert_eq!(fate(&client, expired..), "maybe #4, never #2, #5");
    let _ = client.terminate();
}

#[test]
fn confirmations_need_pings() {
    let server = Server::echo();
    let json = || ConnectionConfig::new(server.url()).heartbeat(HeartbeatConfig::json());
    let error = Client::connect(json().delivery(Delivery::AtLeastOnce)).unwrap_err();
    assert!(error.to_string().contains("delivery"), "{error}");
    let error = Client::connect(json()).unwrap().confirm(.., LONG).unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
}

#[test]
fn a_full_window_of_unconfirmed_messages_asks_for_confirmation_at_once() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let config = config(&server.url()).delivery(Delivery::AtLeastOnce).outbox(QueueLimit::new(8, 1 << 20));
    let client = Client::connect(config).unwrap();
    // Heartbeats are 30 s away; room comes only from confirmations.
    for n in 0..1_000 {
        client.send_timeout(n.to_string(), LONG).unwrap();
    }
    assert!(client.close().is_empty());
}

#[test]
fn what_a_closed_client_never_wrote_is_neither_flushed_nor_confirmed() {
    let nobody = Nobody::new();
    let client = Client::start(config(&nobody.url())).unwrap();
    client.send("x").unwrap();
    let waiting = client.clone();
    let confirming = std::thread::spawn(move || waiting.confirm(.., LONG));
    assert_eq!(client.close().never_written.len(), 1);
    let error = confirming.join().unwrap().unwrap_err();
    assert!(matches!(&error, Error::Unconfirmed { never_sent, .. } if never_sent.len() == 1), "{error:?}");
    assert_eq!(fate(&client, ..), "never #1");
    assert!(matches!(client.flush(LONG), Err(Error::Closed { .. })));
}

/// What `flush` and `confirm` say of a closed client.
fn fates(client: &Client) -> [String; 2] {
    let flushed = match client.flush(LONG) {
        Ok(()) => "flushed".to_owned(),
        Err(error) => error.to_string(),
    };
    [flushed, fate(client, ..)]
}

#[test]
fn a_closed_client_still_tells_what_became_of_its_messages() {
    let echo = Server::echo();
    let client = Client::connect(echo.url()).unwrap();
    assert!(client.close().is_empty());
    assert_eq!(fates(&client), ["flushed", "received"], "nothing was accepted");

    let client = Client::connect(echo.url()).unwrap();
    client.send("x").unwrap();
    assert!(client.close().is_empty());
    assert_eq!(fates(&client), ["flushed", "received"]);
    assert_eq!(client.recv().unwrap().as_text(), Some("x"), "so does recv");
    assert!(matches!(client.recv(), Err(Error::Closed { .. })));
    assert!(client.send("y").is_err(), "what is to be done is refused");
    assert_eq!(fates(&client), ["flushed", "received"], "it was never accepted");

    let silent = Server::start(|_, stream| {
        let mut stream = accept_raw(stream);
        while read_frame(&mut stream).is_some() {}
    });
    let client = Client::connect(config(&silent.url()).close_timeout(20 * MS)).unwrap();
    client.send("x").unwrap();
    client.flush(LONG).unwrap();
    let _ = client.close();
    assert_eq!(fates(&client), ["flushed", "maybe #1"]);

    let nobody = Nobody::new();
    let client = Client::start(config(&nobody.url())).unwrap();
    client.send("x").unwrap();
    assert_eq!(client.close().never_written.len(), 1);
    assert_eq!(fates(&client), ["the client is closed: the application closed it", "never #1"]);
}

#[test]
fn what_waits_to_be_sent_again_is_in_doubt_when_the_client_is_closed() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            read_frame(&mut accept_raw(stream));
        }
    });
    let client = Client::connect(config(&server.url()).delivery(Delivery::AtLeastOnce)).unwrap();
    client.send("x").unwrap();
    common::wait_for(&client, common::disconnected);
    let left = client.terminate();
    assert_eq!((left.never_written.len(), left.maybe_delivered.len()), (0, 1));
    assert_eq!(fates(&client), ["flushed", "maybe #1"]);
}

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
    let _ = client.terminate();
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
        let _ = client.terminate();
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
    let _ = client.terminate();
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
    let _ = client.close();
    let _ = other.close();
}

#[test]
fn confirm_says_which_message_a_protocol_failed_to_send_and_the_others_arrive() {
    struct Choosy;
    impl Protocol for Choosy {
        fn on_open(&mut self, cx: &mut Context<'_>, _: &Handshake) -> Result<(), Error> {
            cx.ready();
            Ok(())
        }

        fn on_send(&mut self, cx: &mut Context<'_>, outgoing: Outgoing) -> Result<(), Error> {
            let text = outgoing.message.as_text().ok_or(Error::session("that is no text"))?;
            cx.send(text);
            Ok(())
        }
    }
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let (server, heard) = parrot();
        let config = common::quick(&server.url()).delivery(delivery);
        let client = Client::builder(config).protocol(Choosy).connect().unwrap();
        let never = client.send([0xFF]).unwrap();
        let text = client.send("text").unwrap();
        assert_eq!(common::fate(&client, ..), format!("never {never}"));
        client.confirm(text, LONG).unwrap();
        assert_eq!((client.stats().messages_expired, client.stats().disconnects), (1, 3));
        assert!(client.close().is_empty());
        assert_eq!(*heard.lock().unwrap(), ["text"]);
    }
}

#[test]
fn a_close_confirms_what_the_server_received() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let client = Client::connect(server.url()).unwrap();
    client.send("swallowed").unwrap();
    assert!(
        client.close().is_empty(),
        "the pong before the close frame confirms what the server has received"
    );
}

#[test]
fn an_acknowledged_message_is_confirmed_though_the_one_before_it_is_not() {
    // Answers pings, and acknowledges nothing but the second message.
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if message.is_text() && message.to_text().unwrap().contains("second") {
                let _ = socket.send(tungstenite::Message::text(r#"{"ack":2}"#));
            }
        }
    });
    let config = config(&server.url())
        .heartbeat(HeartbeatConfig::json())
        .delivery(Delivery::AtLeastOnce)
        .confirmation(Confirmation::Acknowledgement)
        .close_timeout(100 * MS);
    let session = JsonSession::new().acknowledged_by("seq", "ack");
    let client = Client::builder(config).protocol(session).connect().unwrap();
    let first = client.send(json!({"text": "first"})).unwrap();
    let second = client.send(json!({"text": "second"})).unwrap();
    client.confirm(second, LONG).unwrap();
    assert!(matches!(client.confirm(first, Duration::ZERO), Err(Error::Timeout { .. })));
    assert_eq!(client.confirmed_up_to(), None);
    let stats = client.stats();
    assert_eq!((stats.messages_confirmed, stats.messages_accepted), (1, 2));
    eventually("the room of the second", || client.stats().messages_queued == 1);
    let left = client.close();
    assert_eq!((left.unconfirmed.len(), left.unconfirmed[0].0, left.never_written.len()), (1, first, 0));
    assert_eq!(fate(&client, ..), "maybe #1");
}
