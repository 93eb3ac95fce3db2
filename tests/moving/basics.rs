//! What a move is: where the line goes to, and what becomes of the messages on their way.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::common;
use crate::common::hooks::{Hook, Hooks, connect, in_order, mover, next, puppet};
use crate::common::{
    LONG, MS, Nobody, Server, accept, accept_raw, config, eventually, frame, listen, moved, read_frame,
    wait_for,
};
use crossbeam_channel::unbounded;
use tautline::{Client, Delivery, Error, Tickets};
use tungstenite::{Message as Raw, WebSocket};

#[test]
fn a_line_moves_to_another_server_and_the_old_one_is_heard_to_its_end() {
    let (old, tell_old, heard_by_old) = puppet();
    let (new, tell_new, heard_by_new) = puppet();
    let client = connect(&old, mover(new.url()));
    client.send("before").unwrap();
    assert_eq!(next(&heard_by_old), "before");
    tell_old.send(Raw::text("move")).unwrap();
    tell_old.send(Raw::text("meanwhile")).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("meanwhile"));
    client.send("still here").unwrap();
    assert_eq!(next(&heard_by_old), "still here");
    tell_new.send(Raw::text("welcome")).unwrap();
    assert_eq!(wait_for(&client, moved), Tickets::default(), "all was confirmed");
    assert_eq!(next(&heard_by_old), "close Some(1000)");
    client.send("after").unwrap();
    assert_eq!([next(&heard_by_new), next(&heard_by_new)], ["hello", "after"]);
    tell_new.send(Raw::text("from the new one")).unwrap();
    assert_eq!(client.recv_timeout(LONG).unwrap().as_text(), Some("from the new one"));
    let stats = client.stats();
    assert_eq!((stats.disconnects, stats.connects), (0, 1), "no gap");
    assert!(client.close().is_empty());
}

#[test]
fn a_move_that_fails_leaves_the_line_as_it_is() {
    let nobody = Nobody::new();
    let (old, tell_old, heard_by_old) = puppet();
    let client = connect(&old, mover(nobody.url()));
    for _ in 0..2 {
        tell_old.send(Raw::text("move")).unwrap();
        let why = client.recv_timeout(LONG).unwrap().to_string();
        assert!(why.contains("connecting to"), "{why}");
        client.send("still here").unwrap();
        assert_eq!(next(&heard_by_old), "still here");
    }
    // One whose login is not answered, and one that ends.
    for seconds in [0, 20] {
        let (old, tell_old, _heard) = puppet();
        let new = Server::start(move |_, stream| {
            let mut socket = accept(stream);
            if seconds > 0 {
                let _ = socket.close(None);
            }
            listen(socket);
        });
        let config = config(&old.url()).login_timeout(if seconds > 0 { LONG } else { 50 * MS });
        let client = Client::builder(config).protocol(mover(new.url())).connect().unwrap();
        tell_old.send(Raw::text("move")).unwrap();
        let why = client.recv_timeout(LONG).unwrap().to_string();
        assert!(why.contains(if seconds > 0 { "closed the line" } else { "login" }), "{why}");
        assert_eq!(client.stats().disconnects, 0);
    }
}

#[test]
fn a_line_that_is_lost_while_it_moves_is_tried_again_as_ever() {
    let (old, tell_old, heard_by_old) = puppet();
    let (new, _tell_new, _heard_by_new) = puppet();
    let client = connect(&old, mover(new.url()));
    tell_old.send(Raw::text("move")).unwrap();
    eventually("the new connection", || client.stats().attempts == 2);
    old.cut();
    wait_for(&client, common::disconnected);
    client.wait_ready(LONG).unwrap();
    client.send("back").unwrap();
    assert_eq!(next(&heard_by_old), "back");
}

#[test]
fn an_answer_may_come_on_the_connection_that_was_left() {
    let (old, tell_old, heard_by_old) = puppet();
    let (new, tell_new, _heard_by_new) = puppet();
    let asks = in_order();
    let moves = mover(new.url());
    let (mut on_answer, mut on_move) = (asks.text.unwrap(), moves.text.unwrap());
    let text: Option<Hook<String>> = Some(Box::new(move |cx, text| {
        if text == "move" || text == "welcome" { on_move(cx, text) } else { on_answer(cx, text) }
    }));
    let hooks = Hooks { text, send: asks.send, ..moves };
    let client = connect(&old, hooks);
    let mut answers = client.request_many("slow", LONG).unwrap();
    assert_eq!(next(&heard_by_old), "slow");
    tell_old.send(Raw::text("move")).unwrap();
    tell_new.send(Raw::text("welcome")).unwrap();
    wait_for(&client, moved);
    tell_old.send(Raw::text("an answer")).unwrap();
    // Unless it comes too late: the server ends the old connection as soon as it may.
    match answers.next() {
        Some(Ok(answer)) => assert_eq!(answer.as_text(), Some("an answer")),
        other => assert!(matches!(other, Some(Err(Error::Unanswered { .. }))), "{other:?}"),
    }
}

#[test]
fn what_the_old_server_did_not_take_goes_to_the_new_one_alone() {
    const SIZE: usize = 256 << 10;
    let arrived = |seen: &Arc<Mutex<Vec<u8>>>, stream: &mut TcpStream| {
        while let Some((opcode, payload)) = read_frame(stream) {
            if opcode == 2 && payload.len() == SIZE {
                seen.lock().unwrap().push(payload[0]);
            } else if opcode == 9 {
                let _ = stream.write_all(&frame(0x8A, &payload));
            }
        }
    };
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let (seen_by_old, seen_by_new) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // It takes little before it reads, and it reads when the line has moved.
        socket2::SockRef::from(&listener).set_recv_buffer_size(64 << 10).unwrap();
        let (go_on, goes_on) = unbounded::<()>();
        let (full, is_full) = unbounded::<()>();
        let (end, ended) = unbounded::<()>();
        let seen = Arc::clone(&seen_by_old);
        let old = Server::start_on(listener, move |_, stream| {
            let mut stream = accept_raw(stream);
            is_full.recv().unwrap();
            stream.write_all(&frame(0x81, b"move")).unwrap();
            let _ = goes_on.recv();
            arrived(&seen, &mut stream);
            end.send(()).unwrap();
        });
        let seen = Arc::clone(&seen_by_new);
        let new = Server::start(move |_, stream| {
            let mut stream = accept_raw(stream);
            stream.write_all(&frame(0x81, b"welcome")).unwrap();
            arrived(&seen, &mut stream);
        });
        let config = config(&old.url()).delivery(delivery).close_timeout(100 * MS);
        let client = Client::builder(config).protocol(mover(new.url())).connect().unwrap();
        for n in 0..40 {
            client.send(vec![n; SIZE]).unwrap();
        }
        full.send(()).unwrap();
        let doubtful = wait_for(&client, moved);
        go_on.send(()).unwrap();
        eventually("the rest", || seen_by_new.lock().unwrap().contains(&39));
        let _ = client.terminate();
        ended.recv_timeout(LONG).unwrap();
        let (old, new) = (seen_by_old.lock().unwrap(), seen_by_new.lock().unwrap());
        if delivery == Delivery::AtMostOnce {
            assert!(old.iter().all(|n| !new.contains(n)), "{old:?} and {new:?}");
            let named = |n: &u8| doubtful.iter().any(|ticket| ticket.number() == u64::from(*n) + 1);
            assert!((0..40).all(|n| new.contains(&n) || named(&n)), "{doubtful}, and {new:?}");
        } else {
            assert_eq!(*new, (0..40).collect::<Vec<_>>());
        }
    }
}

/// Numbers the messages that arrive at either server.
fn collector(
    seen: &Arc<Mutex<Vec<u32>>>,
    other: impl Fn(&mut WebSocket<TcpStream>, usize) + Send + Sync + 'static,
) -> Server {
    let seen = Arc::clone(seen);
    Server::start(move |n, stream| {
        let mut socket = accept(stream);
        other(&mut socket, n);
        let mut heard = 0;
        while let Ok(message) = socket.read() {
            if let Ok(number) = message.to_text().unwrap_or_default().parse() {
                seen.lock().unwrap().push(number);
                heard += 1;
                // Back and forth, with messages on the way.
                if heard == 50 {
                    let _ = socket.send(Raw::text("move"));
                }
            }
        }
    })
}

/// Says so when it is dropped: a scope waits for its threads, also when a test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_line_that_moves_while_many_send_loses_nothing_and_doubles_nothing() {
    for delivery in [Delivery::AtMostOnce, Delivery::AtLeastOnce] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = collector(&seen, |socket, n| {
            if n > 0 {
                let _ = socket.send(Raw::text("welcome"));
            }
        });
        let config = config(&server.url()).delivery(delivery);
        let client = Client::builder(config).protocol(mover(server.url())).connect().unwrap();
        let (numbers, done) = (AtomicU32::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(SeqCst) {
                        client.send(numbers.fetch_add(1, SeqCst).to_string()).unwrap();
                    }
                });
            }
            let _done = Done(&done);
            for _ in 0..5 {
                assert_eq!(wait_for(&client, moved), Tickets::default(), "all was confirmed");
            }
        });
        client.confirm(.., LONG).unwrap();
        let mut all = seen.lock().unwrap().clone();
        all.sort_unstable();
        assert_eq!(all, (0..numbers.load(SeqCst)).collect::<Vec<_>>(), "{delivery:?}");
        assert_eq!(client.stats().disconnects, 0);
        let _ = client.terminate();
    }
}
