//! A move while the application takes nothing and reading is paused.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::common;
use crate::common::{CLOSE, LONG, MS, PING, accept_raw, eventually, frame, read_frame};
use crate::scene::{FULL, Obedient, Scene, slow};
use crossbeam_channel::{Sender, unbounded};
use tautline::{
    Client, ConnectionConfig, Delivery, Event, HeartbeatConfig, Inbound, QueueLimit, ReconnectConfig,
};

#[test]
fn a_line_that_moves_while_reading_is_paused_is_not_judged() {
    for by in ["work", "timer"] {
        let (scene, mut old) = Scene::open(slow);
        let mut new = scene.begin(&mut old);
        new.say(&format!("beats 20, tell so, {by} ready"));
        assert_eq!(scene.told(), "so");
        scene.flood(&mut old, 2);
        scene.go_on.send(()).unwrap();
        old.hear_close();
        new.attend();
        scene.assert_not_judged(by);
        scene.take_flood();
        new.say("from the new one");
        assert_eq!(scene.next_message().as_text(), Some("from the new one"));
        assert_eq!(scene.client.stats().disconnects, 0);
    }
}

#[test]
fn a_line_that_moves_when_its_time_for_that_is_over_while_reading_is_paused_is_not_judged() {
    let (scene, mut old) = Scene::open(|host| slow(host).close_timeout(200 * MS));
    scene.client.send("not confirmed").unwrap();
    assert_eq!(old.hear_text(), "not confirmed");
    let mut new = scene.begin(&mut old);
    new.say("beats 20, ready, tell so");
    assert_eq!(scene.told(), "so");
    // The answer to the ping is behind what is not read.
    scene.flood(&mut old, 2);
    let payload = |stream: &mut TcpStream| match read_frame(stream) {
        Some((PING, payload)) => payload,
        other => panic!("{other:?}"),
    };
    let ping = payload(&mut old.0);
    old.pong(&ping);
    old.hear_close();
    new.attend();
    scene.assert_not_judged("after the close timeout");
}

#[test]
fn a_line_that_becomes_ready_while_reading_is_paused_is_not_judged() {
    for by in ["work", "timer"] {
        let (scene, mut old) = Scene::log_in(slow, true);
        old.say(&format!("beats 20, {by} ready"));
        scene.flood(&mut old, 1);
        scene.go_on.send(()).unwrap();
        scene.client.wait_ready(LONG).unwrap();
        old.attend();
        scene.assert_not_judged(by);
        scene.take_flood();
        old.say("still here");
        assert_eq!(scene.next_message().as_text(), Some("still here"));
        assert_eq!(scene.client.stats().disconnects, 0);
    }
}

#[test]
fn a_timer_of_the_new_connection_knows_that_nothing_is_read() {
    let (scene, mut old) = Scene::open(slow);
    let mut new = scene.begin(&mut old);
    new.say("tick 1, work ready");
    assert_eq!(scene.told(), "listening on 2");
    scene.flood(&mut old, 2);
    // One may have run out before the pause.
    let words = |number| -> Vec<String> {
        while scene.told.try_recv().is_ok() {}
        (0..=number).map(|_| scene.told()).skip(1).collect()
    };
    assert_eq!(words(3), ["deaf on 2"; 3], "the line is to move there");
    scene.go_on.send(()).unwrap();
    old.hear_close();
    assert_eq!(words(3), ["deaf on 2"; 3], "it has moved there");
    scene.take_flood();
    eventually("hearing again", || scene.told() == "listening on 2");
}

#[test]
fn answers_that_are_not_taken_push_back_also_where_messages_are_dropped() {
    let (scene, mut old) = Scene::open(|host| slow(host).inbound(Inbound::Discard));
    let answers = scene.client.request_many("all", LONG).unwrap();
    assert_eq!(old.hear_text(), "all");
    for n in 0..200 {
        old.say(&format!("part {n}"));
    }
    eventually("as many answers as may wait", || scene.client.stats().messages_received >= FULL as u64);
    // A heartbeat later all would be here, if nothing held them back.
    scene.client.reconnect_now();
    assert_eq!(read_frame(&mut old.0).unwrap().0, PING);
    scene.client.reconnect_now();
    eventually("the heartbeat", || scene.client.stats().heartbeats > 0);
    assert_eq!(scene.client.stats().messages_received, FULL as u64);
    let taken: Vec<_> = answers.take(200).map(|answer| answer.unwrap().to_string()).collect();
    assert_eq!(taken, (0..200).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Answers each message and, after a while, each ping; sends the line on now and then. Once it has moved, it still says
/// all that it has to say.
fn serve(mut stream: TcpStream, heard: &Sender<String>, moves: bool) {
    const ROUND_TRIP: Duration = Duration::from_millis(30);
    if moves && stream.write_all(&frame(0x81, b"ready")).is_err() {
        return;
    }
    let mut count = 0;
    while let Some((opcode, payload)) = read_frame(&mut stream) {
        let answer = match opcode {
            PING => {
                thread::sleep(ROUND_TRIP);
                frame(0x8A, &payload)
            }
            CLOSE => common::close_frame(1000, ""),
            _ => {
                let text = String::from_utf8(payload).unwrap();
                count += 1;
                let order = if count == 40 { frame(0x81, b"move") } else { Vec::new() };
                let answer = frame(0x81, format!("part {text}").as_bytes());
                heard.send(text.clone()).unwrap();
                [order, if text == "all" { answer } else { frame(0x81, text.as_bytes()) }].concat()
            }
        };
        if stream.write_all(&answer).is_err() || opcode == CLOSE {
            return;
        }
    }
}

#[test]
fn a_line_that_moves_on_and_on_under_a_slow_consumer_loses_nothing_on_either_way() {
    const COUNT: usize = 400;
    let (tell_heard, heard) = unbounded();
    let server = common::Server::start(move |n, stream| serve(accept_raw(stream), &tell_heard, n > 0));
    let (tell, _told) = unbounded();
    let protocol = Obedient {
        waits: false,
        elsewhere: server.url(),
        thread: Arc::default(),
        tell,
        go_on: unbounded().1,
        later: String::new(),
        asked: None,
    };
    // The heartbeats leave room for a few round trips, and the application takes longer than that.
    let heartbeat = HeartbeatConfig::default().interval(20 * MS).timeout(800 * MS);
    let config = ConnectionConfig::new(server.url())
        .reconnect(ReconnectConfig::default().initial_delay(MS).max_delay(10 * MS))
        .heartbeat(heartbeat)
        .delivery(Delivery::AtLeastOnce)
        .outbox(QueueLimit::new(32, 1 << 20))
        .events(QueueLimit::new(FULL, 1 << 20))
        .close_timeout(LONG);
    let client = Client::builder(config).protocol(protocol).connect().unwrap();
    let sender = client.clone();
    let sending = thread::spawn(move || {
        (0..COUNT).try_for_each(|n| sender.send_timeout(n.to_string(), LONG).map(drop))
    });
    let (mut got, mut moves) = (Vec::new(), 0);
    while got.len() < COUNT {
        match client.events().recv_timeout(LONG).expect("something") {
            Event::Message(message) => {
                got.push(message.to_string());
                if got.len() % 100 == 0 {
                    // It is busy elsewhere for longer than a silent server lives.
                    thread::sleep(1000 * MS);
                }
            }
            Event::Moved { maybe_delivered, .. } => {
                assert!(maybe_delivered.is_empty());
                moves += 1;
            }
            Event::Disconnected { reason, .. } => {
                panic!("after {} messages and {moves} moves: {reason}", got.len())
            }
            _ => {}
        }
    }
    sending.join().unwrap().unwrap();
    let expected: Vec<_> = (0..COUNT).map(|n| n.to_string()).collect();
    assert_eq!(
        heard.try_iter().collect::<Vec<_>>(),
        expected,
        "the servers hear all of it once, and in order"
    );
    got.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert_eq!(got, expected, "all that they say arrives");
    assert!(moves >= 5, "{moves} moves");
    let _ = client.terminate();
}

#[test]
fn a_slow_consumer_loses_nothing_of_what_the_old_server_sends_late() {
    let (scene, mut old) = Scene::open(|host| slow(host).close_timeout(100 * MS));
    let mut new = scene.begin(&mut old);
    new.say("beats 20, ready");
    old.hear_close();
    new.attend();
    scene.flood(&mut old, 2);
    old.answer_close();
    // Many close timeouts later.
    scene.assert_not_judged("the old server's messages wait");
    scene.take_flood();
}

#[test]
fn a_login_is_not_judged_while_reading_is_paused() {
    let (scene, mut old) = Scene::log_in(|host| slow(host).login_timeout(200 * MS), true);
    old.say("tick 1");
    scene.flood(&mut old, 1);
    old.say("ready");
    scene.ticks(100);
    assert_eq!(scene.client.stats().attempts, 1, "{:?}", scene.client.state());
    scene.take_flood();
    scene.client.wait_ready(LONG).unwrap();
}

#[test]
fn the_login_of_a_move_is_not_judged_while_reading_is_paused() {
    let (scene, mut old) = Scene::open(|host| slow(host).login_timeout(200 * MS));
    old.say("tick 1");
    let mut new = scene.begin(&mut old);
    scene.flood(&mut old, 2);
    new.say("ready");
    scene.ticks(100);
    scene.take_flood();
    old.hear_close();
    scene.client.send("elsewhere").unwrap();
    assert_eq!(new.hear_text(), "elsewhere");
}
