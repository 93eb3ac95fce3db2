//! The counters of bytes, over all connections.

use crate::common::{eventually, frame};
use crate::scene::{Peer, Scene, config};

const MUCH: usize = 100_000;

/// The server sends much, and has as much sent to it.
fn exchange_much(peer: &mut Peer) {
    peer.write(&frame(0x82, &vec![1; MUCH]));
    peer.say(&format!("bytes {MUCH}"));
    assert_eq!(peer.hear().1.len(), MUCH);
}

/// At least so many bytes were counted in each direction; the counters never go back.
fn assert_counted(scene: &Scene, last: &mut (u64, u64), much: u64, what: &str) {
    eventually(what, || {
        let stats = scene.client.stats();
        let now = (stats.bytes_read, stats.bytes_written);
        assert!(now.0 >= last.0 && now.1 >= last.1, "{what}: {last:?}, and then {now:?}");
        *last = now;
        now.0.min(now.1) >= much * MUCH as u64
    });
}

#[test]
fn byte_counters_do_not_go_back_at_a_move() {
    let (scene, mut old) = Scene::open(config);
    let mut last = (0, 0);
    exchange_much(&mut old);
    assert_counted(&scene, &mut last, 1, "on the line");
    let _new = scene.moves(&mut old);
    assert_counted(&scene, &mut last, 1, "after the move");
    old.answer_close();
    old.assert_end("the old connection");
    assert_counted(&scene, &mut last, 1, "after the old connection's end");
    let _ = scene.client.terminate();
    assert_counted(&scene, &mut last, 1, "after the client's end");
}

#[test]
fn bytes_are_counted_on_every_connection_while_it_stands() {
    let (scene, mut old) = Scene::open(config);
    let mut last = (0, 0);
    let mut new = scene.begin(&mut old);
    exchange_much(&mut new);
    assert_counted(&scene, &mut last, 1, "where the line is to move");
    new.say("ready");
    old.hear_close();
    exchange_much(&mut new);
    assert_counted(&scene, &mut last, 2, "where it has moved");
    (0..2).for_each(|_| old.write(&frame(0x82, &vec![1; MUCH])));
    eventually("late bytes", || scene.client.stats().bytes_read >= 4 * MUCH as u64);
    let _ = scene.client.terminate();
    assert_counted(&scene, &mut last, 2, "after the client's end");
}

#[test]
fn bytes_of_a_move_that_failed_are_counted() {
    let (scene, mut old) = Scene::open(config);
    let mut new = scene.begin(&mut old);
    exchange_much(&mut new);
    drop(new);
    assert!(scene.told().starts_with("the move failed"));
    // The next turn counts them.
    scene.client.send("next").unwrap();
    assert_eq!(old.hear_text(), "next");
    eventually("a count", || scene.client.stats().messages_written == 1);
    let stats = scene.client.stats();
    assert!(stats.bytes_read.min(stats.bytes_written) >= MUCH as u64, "{stats:?}");
}
