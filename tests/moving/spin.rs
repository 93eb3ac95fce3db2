//! A line that moves, or has moved, with something that is not taken sleeps.

use crate::common::{LONG, eventually, frame, moved, wait_for};
use crate::scene::{FULL, Peer, Scene, config, slow};
use tautline::Inbound;

#[test]
fn a_server_beside_the_line_that_sends_much_or_half_a_message_makes_nobody_spin() {
    let (scene, mut old) = Scene::open(config);
    let mut new = scene.begin(&mut old);
    // More than one turn reads, and the last of it is half a message.
    let whole = |n| frame(0x82, &vec![n; 400_000]);
    let (half, rest) = (|n| whole(n)[..300_000].to_vec(), |n| whole(n)[300_000..].to_vec());
    new.write(&[whole(1), half(2)].concat());
    assert_eq!(scene.next_message().len(), 400_000);
    scene.assert_no_spin("half a message of the new server");
    new.write(&rest(2));
    assert_eq!(scene.next_message().as_bytes(), vec![2; 400_000]);
    new.say("ready");
    old.hear_close();
    wait_for(&scene.client, moved);
    old.write(&[whole(3), half(4)].concat());
    assert_eq!(scene.next_message().len(), 400_000);
    scene.assert_no_spin("half a message of the old server");
    old.write(&rest(4));
    assert_eq!(scene.next_message().as_bytes(), vec![4; 400_000]);
}

#[test]
fn a_line_that_moves_with_a_queue_that_the_old_server_fills_makes_nobody_spin() {
    let (scene, mut old) = Scene::open(slow);
    let mut new = scene.begin(&mut old);
    (0..FULL).for_each(|n| old.say(&n.to_string()));
    eventually("a full queue", || scene.client.stats().messages_received == 1 + FULL as u64);
    new.say("from the new one");
    scene.assert_no_spin("the line is to move");
    for n in 0..FULL {
        assert_eq!(scene.next_message().as_text(), Some(&*n.to_string()));
    }
    assert_eq!(scene.next_message().as_text(), Some("from the new one"));
}

#[test]
fn a_line_that_moves_with_a_queue_that_the_new_server_fills_makes_nobody_spin() {
    let (scene, mut old) = Scene::open(slow);
    let mut new = scene.begin(&mut old);
    scene.flood(&mut new, 1);
    scene.assert_no_spin("the line is to move");
    scene.take_flood();
    old.say("still here");
    assert_eq!(scene.next_message().as_text(), Some("still here"));
}

#[test]
fn a_line_that_has_moved_with_a_full_queue_makes_nobody_spin() {
    let (scene, mut old) = Scene::open(slow);
    let _new = scene.moves(&mut old);
    scene.flood(&mut old, 2);
    scene.assert_no_spin("the line has moved");
    scene.take_flood();
}

/// A caller of `request_many` who does not take the answers, of which as many stand as may.
fn unanswered(scene: &Scene, old: &mut Peer) -> tautline::Answers {
    let answers = scene.client.request_many("all", LONG).unwrap();
    assert_eq!(old.hear_text(), "all");
    for n in 0..FULL {
        old.say(&format!("part {n}"));
    }
    eventually("a full queue", || scene.client.stats().messages_received >= FULL as u64);
    answers
}

#[test]
fn a_line_that_moves_with_answers_that_are_not_taken_makes_nobody_spin() {
    for inbound in [Inbound::Deliver, Inbound::Discard] {
        let (scene, mut old) = Scene::open(|host| slow(host).inbound(inbound));
        let mut new = scene.begin(&mut old);
        let answers = unanswered(&scene, &mut old);
        new.say("ready, tell so");
        scene.assert_no_spin(&format!("{inbound:?}, the line is to move"));
        let taken = answers.take(FULL).map(|answer| answer.unwrap().to_string());
        assert_eq!(taken.collect::<Vec<_>>(), (0..FULL).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(scene.told(), "so");
    }
}

#[test]
fn a_line_that_has_moved_with_answers_that_are_not_taken_makes_nobody_spin() {
    for inbound in [Inbound::Deliver, Inbound::Discard] {
        let (scene, mut old) = Scene::open(|host| slow(host).inbound(inbound));
        let mut new = scene.begin(&mut old);
        let answers = unanswered(&scene, &mut old);
        let mut answers = answers.map(|answer| answer.unwrap().to_string());
        // There is room for one, and so for the word.
        assert_eq!(answers.next().as_deref(), Some("0"));
        new.say("ready");
        old.hear_close();
        for n in FULL..3 * FULL {
            old.say(&format!("part {n}"));
        }
        scene.assert_no_spin(&format!("{inbound:?}, the line has moved"));
        for n in 1..3 * FULL {
            assert_eq!(answers.next(), Some(n.to_string()));
        }
    }
}
