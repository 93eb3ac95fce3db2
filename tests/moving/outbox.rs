//! What goes out to the new server: how much of it may wait, for how long, and in which frames.

use std::io::Write;
use std::time::Duration;

use crate::common::{BINARY, MS, TEXT, frame};
use crate::scene::{Scene, config};
use tautline::QueueLimit;

/// The new server asks for so many messages of that size, and reads none of them.
fn asks_for_too_much(limit: QueueLimit, count: usize, size: usize) {
    let (scene, mut old) = Scene::open(|host| config(host).outbox(limit));
    let mut new = scene.begin(&mut old);
    for _ in 0..count {
        // When the move has failed, nobody takes it.
        let _ = new.0.write_all(&frame(0x80 | TEXT, format!("bytes {size}").as_bytes()));
    }
    let _ = new.0.write_all(&frame(0x80 | TEXT, b"tell all of it waits"));
    let told = scene.told();
    assert!(told.starts_with("the move failed"), "{told}");
    scene.client.send("still here").unwrap();
    assert_eq!(old.hear_text(), "still here");
    assert_eq!(scene.client.stats().disconnects, 0);
    new.assert_end("the new connection");
}

#[test]
fn the_bytes_that_wait_where_the_line_moves_to_are_bounded_by_the_outbox() {
    asks_for_too_much(QueueLimit::new(1000, 4 << 20), 64, 1 << 20);
}

#[test]
fn the_messages_that_wait_where_the_line_moves_to_are_bounded_by_the_outbox() {
    asks_for_too_much(QueueLimit::new(100, 64 << 20), 8_000, 4096);
}

#[test]
fn what_the_protocol_sends_where_the_line_moves_to_arrives_as_far_as_the_outbox_allows() {
    let (scene, mut old) = Scene::open(|host| config(host).outbox(QueueLimit::new(4, 4 << 20)));
    let mut new = scene.begin(&mut old);
    for _ in 0..4 {
        new.say("bytes 1000000");
    }
    new.say("ready, tell so");
    assert_eq!(scene.told(), "so");
    old.hear_close();
    scene.client.send("behind it").unwrap();
    for _ in 0..4 {
        let (opcode, payload) = new.hear();
        assert_eq!((opcode, payload.len()), (BINARY, 1_000_000));
    }
    assert_eq!(new.hear_text(), "behind it");
}

#[test]
fn a_new_server_that_takes_no_bytes_is_given_up_after_the_write_timeout() {
    // Else the login would time out.
    let (scene, mut old) =
        Scene::open(|host| config(host).write_timeout(100 * MS).login_timeout(Duration::from_secs(5)));
    let mut new = scene.begin(&mut old);
    new.say("bytes 8000000");
    let told = scene.told();
    assert!(told.contains("the server took no more bytes for 100ms"), "{told}");
    scene.client.send("still here").unwrap();
    assert_eq!(old.hear_text(), "still here");
    assert_eq!(scene.client.stats().disconnects, 0);
}

#[test]
fn large_messages_to_the_new_server_go_out_in_fragments() {
    let (scene, mut old) = Scene::open(|host| config(host).fragment(1000));
    let mut new = scene.begin(&mut old);
    new.say("bytes 2500");
    for expected in [(BINARY, 1000), (0, 1000), (0, 500)] {
        let (opcode, payload) = new.hear();
        assert_eq!((opcode, payload.len()), expected);
    }
    assert_eq!(scene.client.stats().disconnects, 0);
}
