//! The recipes of `examples/wscat/README.md`, each run by a shell.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use crate::common::{Server, accept, accept_raw, echo, frame, good_answer, read_frame, read_head};
use crate::program::{program, server_that_says};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// The scripts of the page, by the numbers of their headings.
fn scripts() -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/wscat/README.md");
    let page = fs::read_to_string(page).unwrap();
    let sections = page.split("\n## ").skip(1);
    let sections = sections.filter(|section| section.starts_with(|c: char| c.is_ascii_digit())).enumerate();
    let script = |(n, section): (usize, &str)| {
        assert!(section.starts_with(&format!("{}. ", n + 1)), "{section}");
        section.split("```sh\n").nth(1).unwrap().split("```").next().unwrap().to_owned()
    };
    sections.map(script).collect()
}

/// A folder of its own, in which a recipe is run.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("tautline-recipe-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a recipe against this server.
fn cook(number: usize, server: &Server, folder: &PathBuf) -> Output {
    let place = server.url().trim_start_matches("ws://").trim_end_matches('/').to_owned();
    let script = scripts()[number - 1].replace("localhost:8080", &place);
    let path = std::env::join_paths(
        [program().parent().unwrap().to_owned()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(folder).env("PATH", path.unwrap()).env("TOKEN", "t0ken");
    shell.output().unwrap()
}

/// What a recipe prints. It must end with 0, and say nothing on stderr.
fn printed(number: usize, server: &Server) -> String {
    let output = cook(number, server, &folder(&number.to_string()));
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && err.is_empty(), "{}: {out} {err}", output.status);
    out
}

#[test]
fn there_are_ten() {
    assert_eq!(scripts().len(), 10);
}

#[test]
fn one_asks_and_prints_the_answer() {
    assert_eq!(printed(1, &Server::echo()), "hello\n");
}

#[test]
fn two_subscribes_and_takes_three_messages() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        assert_eq!(socket.read().unwrap().to_string(), r#"{"subscribe":"prices"}"#);
        for price in 1..=4 {
            let _ = socket.send(price.to_string().into());
        }
        echo(socket);
    });
    assert_eq!(printed(2, &server), "1\n2\n3\n");
}

#[test]
fn three_waits_until_a_service_is_ready() {
    let server =
        server_that_says([r#"{"state":"busy"}"#, r#"{"state":"ready"}"#].map(Message::text).to_vec());
    assert_eq!(printed(3, &server), "up\n");
}

#[test]
fn four_keeps_a_feed_as_a_log() {
    let server = server_that_says(vec![Message::text(r#"{"a":1}"#), Message::text("plain")]);
    assert_eq!(printed(4, &server), "");
    let log = fs::read_to_string(folder("4").join("feed.log")).unwrap();
    let lines: Vec<serde_json::Value> = log.lines().map(|line| line.parse().unwrap()).collect();
    let said: Vec<_> = lines.iter().filter(|line| line["direction"] == "in").collect();
    assert_eq!((&said[0]["json"]["a"], &said[1]["text"]), (&1.into(), &"plain".into()), "{log}");
}

#[test]
fn five_reads_json() {
    let server = server_that_says(vec![Message::text(r#"{"b":[1],"a":null}"#)]);
    assert_eq!(printed(5, &server), "{\n  \"b\": [\n    1\n  ],\n  \"a\": null\n}\n");
}

#[test]
fn six_shows_a_token_that_nobody_else_sees() {
    let server = Server::start(|n, mut stream| {
        let head = read_head(&mut stream);
        let header = if n == 0 { "Authorization: Bearer t0ken\r\n" } else { "X-Token: t0ken\r\n" };
        assert!(head.contains(header), "{head}");
        stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
        echo(WebSocket::from_raw_socket(stream, Role::Server, None));
    });
    assert_eq!(printed(6, &server), "hello\nhello\n");
}

#[test]
fn seven_sends_a_file_and_keeps_the_answer_as_one() {
    let photo: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    fs::write(folder("7").join("photo.jpg"), &photo).unwrap();
    assert_eq!(printed(7, &Server::echo()), "");
    assert!(fs::read(folder("7").join("answer.jpg")).unwrap() == photo);
}

#[test]
fn eight_logs_in() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        assert!(socket.read().unwrap().to_string().contains("geheim"));
        socket.send(r#"{"Type":"LOGIN","Data":{"Success":true}}"#.into()).unwrap();
        echo(socket);
    });
    fs::write(folder("8").join("login.json"), r#"{"Type":"LOGIN","Password":"geheim"}"#).unwrap();
    assert_eq!(printed(8, &server), "{\"get\":\"sensors\"}\n");
}

#[test]
fn nine_loses_no_line() {
    const LINES: usize = 3_000;
    let heard = Arc::new(Mutex::new(HashSet::new()));
    let record = Arc::clone(&heard);
    let server = Server::start(move |n, stream| {
        if n == 0 {
            return; // no connection comes about
        }
        let mut stream = accept_raw(stream);
        for taken in 0.. {
            // The second takes some lines and answers no ping, the third closes behind some more.
            match read_frame(&mut stream) {
                _ if n == 1 && taken == 20 => return,
                _ if n == 2 && taken == 50 => {
                    let _ = stream.write_all(&frame(0x88, &1000_u16.to_be_bytes()));
                }
                Some((1, text)) => _ = record.lock().unwrap().insert(text),
                Some((8, reason)) => _ = stream.write_all(&frame(0x88, &reason)),
                Some((9, ping)) if n > 1 => _ = stream.write_all(&frame(0x8A, &ping)),
                Some(_) => {}
                None => return,
            }
        }
    });
    let folder = folder("9");
    let lines: Vec<_> = (0..LINES).map(|line| line.to_string()).collect();
    fs::write(folder.join("lines.txt"), lines.join("\n")).unwrap();
    let output = cook(9, &server, &folder);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(fs::read_to_string(folder.join("left.txt")).unwrap(), "");
    assert_eq!(heard.lock().unwrap().len(), LINES);
}

#[test]
fn ten_has_messages_with_newlines() {
    assert_eq!(printed(10, &Server::echo()), "two\nlines|one|");
}
