//! What each server may still say and is told.

use std::io::Write;
use std::thread;

use crate::common;
use crate::common::{CLOSE, LONG, PING, TEXT, frame, moved, read_frame, wait_for};
use crate::scene::{Scene, config};
use tautline::Event;

#[test]
fn all_that_the_old_server_sends_before_it_answers_the_close_arrives() {
    for (count, size) in [(100, 10_000), (1, 1 << 20), (3, 1 << 20)] {
        let (scene, mut old) = Scene::open(config);
        let _new = scene.moves(&mut old);
        let writer = thread::spawn(move || {
            for n in 0..count {
                old.write(&frame(0x82, &vec![n; size]));
            }
            old.answer_close();
            old
        });
        for n in 0..count {
            let message = scene.next_message();
            assert_eq!((message.len(), message.as_bytes()[0]), (size, n), "{count} of {size} bytes");
        }
        writer.join().unwrap();
    }
}

#[test]
fn a_request_that_the_old_server_has_is_not_withdrawn_from_the_new_one() {
    let (scene, mut old) = Scene::open(config);
    let answers = scene.client.request_many("all", LONG).unwrap();
    assert_eq!(old.hear_text(), "all");
    let mut new = scene.moves(&mut old);
    drop(answers);
    scene.client.send("next").unwrap();
    assert_eq!(new.hear_text(), "next");
}

#[test]
fn what_the_new_server_says_in_the_moment_of_the_move_is_not_lost() {
    for last in [common::close_frame(1000, ""), Vec::new()] {
        let (scene, mut old) = Scene::open(config);
        scene.client.send("not confirmed").unwrap();
        assert_eq!(old.hear_text(), "not confirmed");
        let mut new = scene.begin(&mut old);
        old.say("timer tell inside, block");
        new.say("ready, tell so");
        assert_eq!(scene.told(), "so");
        assert!(matches!(read_frame(&mut old.0), Some((PING, _))), "it asks for a confirmation");
        // While the I/O thread is in a hook, the old server ends its connection, and the new one speaks.
        scene.go_on.send(()).unwrap();
        assert_eq!(scene.told(), "inside");
        new.say("early");
        old.write(&last);
        drop(old);
        scene.go_on.send(()).unwrap();
        let mut early = false;
        wait_for(&scene.client, |event| {
            early |= matches!(&event, Event::Message(message) if message.as_text() == Some("early"));
            moved(event)
        });
        new.say("late");
        // The message may stand before the event.
        assert!(early || scene.next_message().as_text() == Some("early"), "the message is lost");
    }
}

#[test]
fn a_move_that_begins_takes_nothing_from_what_the_old_server_of_the_last_one_still_sends() {
    const LATE: u8 = 100;
    let (scene, mut old) = Scene::open(config);
    let mut new = scene.moves(&mut old);
    new.say("move");
    let mut newest = scene.new.accept();
    let late: Vec<_> = (0..LATE).map(|n| frame(0x82, &[n; 100])).collect();
    let written = old.0.write_all(&late.concat());
    for n in 0..LATE {
        let message = scene.client.recv_timeout(LONG).ok();
        assert_eq!(message.map(|message| message.as_bytes()[0]), Some(n), "of {LATE}: {written:?}");
    }
    newest.say("ready");
    new.hear_close();
    scene.client.send("elsewhere").unwrap();
    assert_eq!(newest.hear_text(), "elsewhere");
}

#[test]
fn a_pong_of_the_old_server_reaches_the_protocol() {
    let (scene, mut old) = Scene::open(config);
    let _new = scene.moves(&mut old);
    old.pong(b"late");
    assert_eq!(scene.told(), "pong late on 1");
}

#[test]
fn a_close_of_the_new_connection_says_goodbye_there() {
    let (scene, mut old) = Scene::open(config);
    let mut new = scene.begin(&mut old);
    new.say("send bye, close");
    assert!(scene.told().starts_with("the move failed"));
    match read_frame(&mut new.0) {
        Some((TEXT, payload)) => assert_eq!(payload, b"bye"),
        other => panic!("{other:?} and no word of what was sent before the close"),
    }
    assert_eq!(read_frame(&mut new.0), Some((CLOSE, b"\x0F\xA0as told".to_vec())));
}

#[test]
fn a_new_server_that_breaks_the_rules_is_told_so() {
    let (scene, mut old) = Scene::open(config);
    let mut new = scene.begin(&mut old);
    new.write(&frame(0xC1, b"a reserved bit"));
    assert!(scene.told().starts_with("the move failed"));
    assert_eq!(read_frame(&mut new.0), Some((CLOSE, 1002_u16.to_be_bytes().to_vec())));
}
