//! What is said of a message after a loss or an end is true.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::collections::HashSet;
use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use common::faults::{Fault, Point, Proxy, Way};
use common::hooks::{Hooks, hook};
use common::reluctant::{fill, id, message, reluctant};
use common::{LONG, MS, Server, accept, accept_raw, config, echo, read_frame, wait_for};
use serde_json::json;
use tautline::{
    Client, Confirmation, Context, Delivery, Error, Event, HeartbeatConfig, JsonSession, Outgoing, QueueLimit,
};

#[test]
fn what_was_written_before_a_loss_is_named_and_the_rest_goes_out_after_it() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            let mut stream = accept_raw(stream);
            read_frame(&mut stream);
        } else {
            echo(accept(stream));
        }
    });
    let client = Client::connect(config(&server.url())).unwrap();
    let ticket = client.send("swallowed").unwrap();
    let doubtful = wait_for(&client, |event| match event {
        Event::Disconnected { maybe_delivered, .. } => Some(maybe_delivered),
        _ => None,
    });
    assert!(doubtful.contains(ticket) && doubtful.len() == 1, "{doubtful}");
    client.send("after").unwrap();
    assert_eq!(
        client.recv_timeout(LONG).unwrap().as_text(),
        Some("after"),
        "and not 'swallowed', which went out once"
    );
}

#[test]
fn what_was_called_never_written_was_not_received_before_the_loss() {
    for _ in 0..5 {
        let (server, go, seen) = reluctant(true);
        let client = Client::connect(config(&server.url())).unwrap();
        let accepted = fill(&client);
        go.send(()).unwrap();
        let doubtful = client.events().iter().find_map(|event| match event {
            Event::Disconnected { maybe_delivered, .. } => Some(maybe_delivered),
            _ => None,
        });
        let doubtful: HashSet<u64> = doubtful.unwrap().iter().map(|ticket| ticket.number() - 1).collect();
        client.send(message(u64::MAX)).unwrap();
        let (first, second) = (seen.recv_timeout(LONG).unwrap(), seen.recv_timeout(LONG).unwrap());
        let (first, second) =
            if second.last() == Some(&u64::MAX) { (first, second) } else { (second, first) };
        assert!(first.iter().all(|id| doubtful.contains(id)), "received, and called never written");
        assert!(second.iter().all(|id| !first.contains(id)), "received twice");
        for id in 0..accepted {
            assert!(first.contains(&id) || second.contains(&id) || doubtful.contains(&id), "{id} vanished");
        }
        let _ = client.terminate();
    }
}

#[test]
fn answers_that_arrive_while_the_line_closes_are_delivered() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    for n in 0..100 {
        client.send(n.to_string()).unwrap();
    }
    assert!(client.close().is_empty());
    assert_eq!(client.messages().count(), 100);
}

#[test]
fn what_terminate_returns_as_never_written_was_not_received() {
    for _ in 0..5 {
        let (server, go, seen) = reluctant(false);
        let client = Client::connect(config(&server.url())).unwrap();
        let accepted = fill(&client);
        go.send(()).unwrap();
        let left = client.terminate();
        let received = seen.recv_timeout(LONG).unwrap();
        let never: HashSet<u64> =
            left.never_written.iter().map(|(_, message)| id(message.as_bytes())).collect();
        assert!(received.iter().all(|id| !never.contains(id)), "received, and called never written");
        assert_eq!(never.len() as u64 + left.maybe_delivered.len(), accepted, "each has a fate");
        assert!(!never.is_empty());
    }
}

/// Pings, as many as the client takes, and reads at the same time; reports the messages when the connection has ended.
/// No ping of the client's is answered.
fn ping_and_read(mut stream: std::net::TcpStream, seen: &crossbeam_channel::Sender<u64>) {
    let mut pings = stream.try_clone().unwrap();
    let pings = std::thread::spawn(move || while pings.write_all(&[0x89, 1, b'?']).is_ok() {});
    while let Some((opcode, payload)) = read_frame(&mut stream) {
        if opcode == 2 {
            seen.send(id(&payload)).unwrap();
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
    pings.join().unwrap();
}

#[test]
fn a_pong_takes_nothing_along_that_was_called_never_written() {
    for _ in 0..20 {
        let (go_in, go) = crossbeam_channel::bounded::<()>(0);
        let (seen_in, seen) = crossbeam_channel::unbounded();
        let over = Arc::new(());
        let watched = Arc::downgrade(&over);
        let server = Server::start(move |_, stream| {
            let _over = Arc::clone(&over);
            let stream = accept_raw(stream);
            go.recv().unwrap();
            ping_and_read(stream, &seen_in);
        });
        let config = config(&server.url()).outbox(QueueLimit::new(256, 16 << 20));
        let client = Client::connect(config).unwrap();
        fill(&client);
        go_in.send(()).unwrap();
        let left = client.terminate();
        let never: HashSet<u64> =
            left.never_written.iter().map(|(_, message)| id(message.as_bytes())).collect();
        assert!(!never.is_empty());
        common::eventually("the server has read all", || watched.strong_count() == 1);
        assert!(seen.try_iter().all(|id| !never.contains(&id)), "received, and called never written");
    }
}

#[test]
fn a_pong_takes_nothing_along_that_is_sent_again() {
    let (seen_in, seen) = crossbeam_channel::unbounded();
    let server = Server::start(move |_, mut stream| {
        let head = common::read_head(&mut stream);
        // The last attempt may be given up in the middle.
        if head.ends_with("\r\n\r\n") && stream.write_all(common::good_answer(&head, "").as_bytes()).is_ok() {
            ping_and_read(stream, &seen_in);
        }
    });
    // It dies again and again, in the middle of everything.
    let heartbeat = HeartbeatConfig::default().interval(5 * MS).timeout(5 * MS).strict(true);
    let client = Client::connect(config(&server.url()).heartbeat(heartbeat)).unwrap();
    let mut n = 0;
    while client.stats().disconnects < 30 {
        client.send_timeout(message(n), LONG).unwrap();
        n += 1;
    }
    let _ = client.terminate();
    let mut received = HashSet::new();
    assert!(seen.try_iter().all(|id| received.insert(id)), "received twice");
}

#[test]
fn a_message_that_is_let_fall_when_it_would_be_sent_again_is_in_doubt() {
    let server = Server::start(|n, stream| {
        let mut socket = accept(stream);
        // The first connection ends over the first message.
        while socket.read().is_ok_and(|message| n > 0 || !message.is_text()) {}
    });
    let send = hook(|cx: &mut Context<'_>, outgoing: Outgoing| {
        static SEEN: AtomicBool = AtomicBool::new(false);
        if !SEEN.swap(true, SeqCst) {
            cx.send(outgoing.message);
        }
    });
    let config = config(&server.url()).delivery(Delivery::AtLeastOnce);
    let client = Client::builder(config).protocol(Hooks { send, ..Hooks::default() }).connect().unwrap();
    let ticket = client.send("once").unwrap();
    assert_eq!(common::fate(&client, ticket), format!("maybe {ticket}"));
    assert!(client.close().is_empty());
}

#[test]
fn a_line_that_is_cut_again_and_again_gets_every_message_through_at_least_once() {
    for fault in [Fault::Cut, Fault::Reset] {
        let server = Server::start(|_, stream| {
            let mut socket = accept(stream);
            while socket.read().is_ok() {}
        });
        let cut = fault(Point { way: Way::Up, after: 60_000 });
        let proxy = Proxy::start(server.address(), move |_| cut.into());
        let url = format!("ws://{}", proxy.address());
        let client = Client::connect(config(&url).delivery(Delivery::AtLeastOnce)).unwrap();
        for n in 0..1_000 {
            client.send(format!("{n:01000}")).unwrap();
        }
        client.confirm(.., LONG).unwrap();
        let cuts = client.stats().disconnects;
        assert!(cuts >= 1_000_000 / 60_000, "{cuts} connections were lost");
        assert!(client.terminate().is_empty());
        proxy.finish();
    }
}

#[test]
fn a_message_that_ends_each_connection_is_given_up_and_those_beside_it_arrive() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while socket.read().is_ok_and(|message| message.into_data() != "poison") {}
    });
    let client = Client::connect(config(&server.url()).delivery(Delivery::AtLeastOnce)).unwrap();
    client.send_all((0..20).map(|n| n.to_string())).unwrap();
    let poison = client.send("poison").unwrap();
    client.send_all((0..20).map(|n| n.to_string())).unwrap();
    let error = client.confirm(.., LONG).unwrap_err();
    let Error::Unconfirmed { maybe_delivered, never_sent, .. } = &error else { panic!("{error}") };
    assert!(
        never_sent.is_empty() && maybe_delivered.contains(poison) && maybe_delivered.len() == 1,
        "{error}"
    );
}

#[test]
fn a_message_that_ends_each_connection_before_it_is_acknowledged_is_given_up_alone() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            let Ok(text) = message.to_text().map(str::to_owned) else { return };
            if text.contains("poison") {
                return;
            }
            if let Some(seq) = text.split(r#""seq":"#).nth(1) {
                let number: String = seq.chars().take_while(char::is_ascii_digit).collect();
                socket.send(format!(r#"{{"ack":{number}}}"#).into()).unwrap();
            }
        }
    });
    let config =
        config(&server.url()).delivery(Delivery::AtLeastOnce).confirmation(Confirmation::Acknowledgement);
    let protocol = JsonSession::new().acknowledged_by("seq", "ack");
    let client = Client::builder(config).protocol(protocol).connect().unwrap();
    for n in 0..20 {
        client.send_json(&json!({"n": n})).unwrap();
    }
    let poison = client.send_json(&json!({"n": "poison"})).unwrap();
    for n in 0..20 {
        client.send_json(&json!({"n": n})).unwrap();
    }
    let error = client.confirm(.., LONG).unwrap_err();
    let Error::Unconfirmed { maybe_delivered, never_sent, .. } = &error else { panic!("{error}") };
    assert!(never_sent.is_empty() && maybe_delivered.contains(poison), "{error}");
    assert_eq!(maybe_delivered.len(), 1, "{error}");
}

#[test]
fn what_the_application_ends_costs_no_message_a_try() {
    let (seen_in, seen) = crossbeam_channel::unbounded();
    let server = Server::start(move |n, stream| {
        if n < 5 {
            let mut stream = accept_raw(stream);
            while let Some((opcode, _)) = read_frame(&mut stream) {
                if opcode == 8 {
                    return;
                }
                seen_in.send(n).unwrap();
            }
        } else {
            let mut socket = accept(stream);
            while socket.read().is_ok() {}
        }
    });
    let client = Client::connect(config(&server.url()).delivery(Delivery::AtLeastOnce)).unwrap();
    client.send_all(["one", "two", "three"]).unwrap();
    for round in 0..5 {
        while seen.recv_timeout(LONG).unwrap() < round {}
        if round % 2 == 0 {
            client.suspend();
            client.resume();
        } else {
            client.reconnect();
        }
    }
    client.confirm(.., LONG).unwrap();
}

#[test]
fn a_close_sends_what_still_waits_for_others_to_be_confirmed() {
    let (seen_in, seen) = crossbeam_channel::unbounded();
    let server = Server::start(move |n, stream| {
        let mut stream = accept_raw(stream);
        for at in 0.. {
            let Some((opcode, _)) = read_frame(&mut stream) else { return };
            if n == 0 && at == 2 {
                return;
            }
            // It answers no ping but the last one, which comes before its own goodbye.
            if opcode == 1 && n > 0 {
                seen_in.send(()).unwrap();
            }
            if opcode == 8 {
                let _ = stream.write_all(&common::close_frame(1000, ""));
                return;
            }
        }
    });
    let config = config(&server.url()).delivery(Delivery::AtLeastOnce).close_timeout(500 * MS);
    let client = Client::connect(config).unwrap();
    client.send_all((0..20).map(|n| n.to_string())).unwrap();
    wait_for(&client, |event| matches!(event, Event::Disconnected { .. }).then_some(()));
    seen.recv_timeout(LONG).unwrap();
    let left = client.close();
    assert!(left.never_written.is_empty(), "{left:?}");
    drop(server);
    assert!(seen.iter().count() >= 18);
}

#[test]
fn a_reader_who_takes_nothing_holds_back_nothing_that_is_sent_again() {
    let (seen_in, seen) = crossbeam_channel::unbounded();
    let server = Server::start(move |n, stream| {
        let mut stream = accept_raw(stream);
        if n == 0 {
            read_frame(&mut stream);
            return;
        }
        // More than the client has room for: it stops reading, and sees no pong.
        for _ in 0..64 {
            stream.write_all(&common::frame(0x81, &[b'x'; 1_000])).unwrap();
        }
        while let Some((opcode, payload)) = read_frame(&mut stream) {
            if opcode == 1 {
                let _ = seen_in.send(String::from_utf8(payload).unwrap());
            }
        }
    });
    let config = config(&server.url()).delivery(Delivery::AtLeastOnce).events(QueueLimit::new(4, 1 << 20));
    let client = Client::connect(config).unwrap();
    client.send_all(["a", "b", "c", "d"]).unwrap();
    for message in ["a", "b", "c", "d"] {
        assert_eq!(seen.recv_timeout(LONG).as_deref(), Ok(message));
    }
}
