//! The end of the client, of the old server and of the new one, at each stage of a move.

use std::io::Write;
use std::net::TcpStream;
use std::thread;

use crate::common;
use crate::common::{LONG, PING, accept_raw, frame, moved, read_frame, wait_for};
use crate::scene::{Peer, Scene, assert_end, config};
use crossbeam_channel::unbounded;
use tautline::{Client, Error, Event};

/// The request has ended without an answer.
fn assert_failed(mut answers: tautline::Answers, what: &str) {
    match answers.next() {
        Some(Err(error)) => assert!(!matches!(error, Error::Timeout { .. }), "{what}: the request hangs"),
        other => panic!("{what}: the request has {other:?}"),
    }
}

/// How far a move has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The new server has TCP, and has not answered the upgrade.
    Dialling,
    LoggingIn,
    /// Ready, while the old server has not confirmed what went out there.
    Switching,
    /// The old server has not answered the close frame.
    Leaving,
}

const STAGES: [Stage; 4] = [Stage::Dialling, Stage::LoggingIn, Stage::Switching, Stage::Leaving];

impl Scene {
    /// A line at that stage of a move: both servers' ends. The old one has heard `before`, and a request.
    fn at(stage: Stage) -> (Self, Peer, TcpStream, tautline::Answers) {
        let (scene, mut old) = Self::open(|host| config(host).close_timeout(LONG / 4));
        scene.client.send("before").unwrap();
        assert_eq!(old.hear_text(), "before");
        let answers = scene.client.request_many("all", LONG).unwrap();
        assert_eq!(old.hear_text(), "all");
        old.say("move");
        let mut new = scene.new.accept_tcp();
        if stage != Stage::Dialling {
            new = accept_raw(new);
        }
        match stage {
            Stage::Dialling | Stage::LoggingIn => {}
            Stage::Switching => {
                new.write_all(&frame(0x81, b"ready")).unwrap();
                assert!(matches!(read_frame(&mut old.0), Some((PING, _))), "it asks for a confirmation");
            }
            Stage::Leaving => {
                new.write_all(&frame(0x81, b"ready")).unwrap();
                old.hear_close();
                wait_for(&scene.client, moved);
            }
        }
        (scene, old, new, answers)
    }
}

#[test]
fn the_end_of_the_client_ends_every_connection_at_each_stage_of_a_move() {
    type End = fn(Client);
    let ends: [(&str, End); 3] = [
        ("close", |client| drop(client.close())),
        ("terminate", |client| drop(client.terminate())),
        ("drop", drop),
    ];
    for stage in STAGES {
        for (how, end) in ends {
            let what = format!("{how}, {stage:?}");
            let (scene, old, new, answers) = Scene::at(stage);
            let events = scene.client.events().clone();
            let Scene { client, .. } = scene;
            let (ended, has_ended) = unbounded();
            let what_ends = what.clone();
            thread::spawn(move || {
                if how == "drop" {
                    // It is a handle, too.
                    drop(answers);
                    end(client);
                } else {
                    end(client);
                    assert_failed(answers, &what_ends);
                }
                ended.send(()).unwrap();
            });
            let new = Peer(new);
            old.attend();
            if stage != Stage::Dialling {
                new.attend();
            }
            assert!(
                has_ended.recv_timeout(LONG).is_ok(),
                "{what}: it does not return, or the request does not fail"
            );
            assert!(matches!(events.try_iter().last(), Some(Event::Closed { .. })), "{what}");
            old.assert_end(&what);
            new.assert_end(&what);
        }
    }
}

#[test]
fn an_old_server_that_dies_at_any_stage_of_a_move_costs_what_it_must() {
    for stage in STAGES {
        let (scene, old, new, answers) = Scene::at(stage);
        drop(old);
        match stage {
            Stage::Dialling | Stage::LoggingIn => {
                wait_for(&scene.client, common::disconnected);
                assert_end(new, "the new connection");
                let mut back = scene.old.accept();
                scene.client.send("back").unwrap();
                assert_eq!(back.hear_text(), "back");
            }
            Stage::Switching | Stage::Leaving => {
                if stage == Stage::Switching {
                    wait_for(&scene.client, moved);
                }
                let mut new = Peer(new);
                scene.client.send("elsewhere").unwrap();
                assert_eq!(new.hear_text(), "elsewhere");
                assert_eq!(scene.client.stats().disconnects, 0);
            }
        }
        assert_failed(answers, &format!("{stage:?}"));
    }
}

#[test]
fn a_new_server_that_dies_at_any_stage_of_a_move_costs_what_it_must() {
    for stage in STAGES {
        let (scene, mut old, new, mut answers) = Scene::at(stage);
        drop(new);
        if stage == Stage::Leaving {
            wait_for(&scene.client, common::disconnected);
            old.assert_end("the old connection");
            let mut back = scene.old.accept();
            scene.client.send("back").unwrap();
            assert_eq!(back.hear_text(), "back");
            assert_failed(answers, &format!("{stage:?}"));
        } else {
            assert!(scene.told().starts_with("the move failed"), "{stage:?}");
            scene.client.send("still here").unwrap();
            assert_eq!(old.hear_text(), "still here", "{stage:?}");
            old.say("part of it");
            assert_eq!(answers.next().unwrap().unwrap().as_text(), Some("of it"));
            assert_eq!(scene.client.stats().disconnects, 0);
        }
    }
}
