//! Lines go out, and messages come back as lines.

use std::fmt::Write as _;

use crate::common::{LONG, Server, accept};
use crate::program::{Wscat, run};
use crossbeam_channel::bounded;

#[test]
fn lines_go_out_and_their_echoes_come_back_in_order() {
    let server = Server::echo();
    let (code, out, err) = run(&[], &server.url(), "one\n\nthree ✓\r\nfour, without an end");
    assert_eq!((code, out.as_str()), (0, "one\n\nthree ✓\nfour, without an end\n"), "{err}");
    let told: Vec<_> = err.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(told, ["CONNECTING", "CONNECTED", "CLOSING", "CLOSED"], "{err}");
    assert!(err.trim_end().ends_with("sent 4  received 4"), "{err}");
    assert!(!err.contains('\x1b'), "no terminal, no escape sequences: {err:?}");
}

#[test]
fn a_hundred_thousand_lines_come_back_complete_and_in_order() {
    let server = Server::echo();
    let mut text = String::new();
    for n in 0..100_000 {
        writeln!(text, "{n}").unwrap();
    }
    let (code, out, err) = run(&[], &server.url(), &text);
    assert_eq!(code, 0, "{err}");
    assert!(out == text, "{} of {} bytes came back, or others did", out.len(), text.len());
}

#[test]
fn what_the_server_is_slow_to_take_arrives_before_the_end() {
    let (all_in, all) = bounded(1);
    let (go_in, go) = bounded::<()>(1);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        go.recv_timeout(LONG).unwrap();
        let mut bytes = 0;
        while let Ok(message) = socket.read() {
            bytes += if message.is_text() { message.len() } else { 0 };
        }
        all_in.send(bytes).unwrap();
    });
    // More than sockets and outbox hold: the program must stop reading.
    let line = format!("{}\n", "x".repeat((1 << 20) - 1));
    let mut wscat = Wscat::start(&[], &server.url());
    for _ in 0..8 {
        wscat.say(&line);
    }
    go_in.send(()).unwrap();
    for _ in 8..40 {
        wscat.say(&line);
    }
    let (code, out, err) = wscat.input("").end();
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert_eq!(all.recv_timeout(LONG).unwrap(), 40 * (line.len() - 1));
}

#[test]
fn a_line_that_is_no_text_is_refused() {
    let server = Server::echo();
    let (code, out, err) = run(&["-q"], &server.url(), b"fine\nbad \xFF\nunread\n");
    assert_eq!((code, out.as_str()), (4, "fine\n"));
    assert!(
        err.contains("a line of stdin: it is no UTF-8") && err.contains("lines not delivered: 1;"),
        "{err}"
    );
}
