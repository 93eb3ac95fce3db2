//! How the program ends, what it says of lines that may be lost, and with which exit code.

use std::io::Write;
use std::net::TcpListener;

use crate::common::{Nobody, Server, accept, echo, read_head};
use crate::program::{Wscat, run, server_that_closes_with};
use crossbeam_channel::bounded;

#[test]
fn who_cannot_connect_says_why() {
    let (code, out, err) = run(&[], &Nobody::new().url(), "lost\n");
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("onnection refused") || err.contains("refused"), "{err}");

    let server = Server::start(|_, mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let (code, _, err) = run(&[], &server.url(), "");
    assert_eq!(code, 1);
    assert!(err.contains("403 Forbidden"), "{err}");

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let (code, _, err) = run(&["--connect-timeout", "0.1"], &url, "");
    assert_eq!(code, 1);
    assert!(err.contains("timed out after 100ms"), "{err}");
}

#[test]
fn the_server_s_close_code_decides_the_exit_code() {
    assert_eq!(
        run(&["-q"], &server_that_closes_with(1000).url(), "bye\n"),
        (0, String::new(), String::new())
    );
    for code in [1008, 4001] {
        let server = server_that_closes_with(code);
        let (exit, _, err) = run(&["-q", "--no-reconnect"], &server.url(), "bye\n");
        assert_eq!(exit, 3, "{err}");
        assert!(err.contains(&format!("close code {code}: \"enough\"")), "{err}");
    }
}

#[test]
fn a_lost_line_ends_the_program_if_it_may_not_reconnect() {
    let server = Server::start(|_, stream| drop(accept(stream)));
    let (code, _, err) = run(&["--no-reconnect"], &server.url(), "");
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("wscat: not reconnecting: "), "{err}");
}

#[test]
fn a_lost_line_comes_back_and_what_was_typed_meanwhile_goes_out() {
    let server = Server::echo();
    let mut wscat = Wscat::start(&["--heartbeat", "0.02"], &server.url());
    wscat.say("before\n");
    assert_eq!(wscat.hear(), "before\n");
    server.cut();
    wscat.see("DISCONNECTED");
    wscat.say("meanwhile\n");
    assert_eq!(wscat.hear(), "meanwhile\n");
    wscat.see("CONNECTED  to ");
    let (code, out, err) = wscat.input("after\n").end();
    // Whether a ping had confirmed the first line before the cut is a matter of luck.
    assert!(code == 0 || (code == 4 && err.contains("perhaps not delivered: 1\n")), "{code} {err}");
    assert_eq!(out, "after\n");
}

#[test]
fn lines_in_doubt_are_counted() {
    let server = Server::start(|n, stream| {
        let mut socket = accept(stream);
        if n > 0 {
            return echo(socket);
        }
        assert!(socket.read().unwrap().is_text());
    });
    let mut wscat = Wscat::start(&[], &server.url());
    wscat.say("swallowed\n");
    assert!(wscat.see("DISCONNECTED").contains("in doubt: #1"));
    let (code, out, err) = wscat.input("echoed\n").end();
    assert_eq!((code, out.as_str()), (4, "echoed\n"), "{err}");
    assert!(err.contains("lines not delivered: 0; perhaps not delivered: 1\n"), "{err}");
}

#[test]
fn what_was_answered_before_the_line_was_lost_is_in_no_doubt() {
    let server = Server::start(|n, stream| {
        let mut socket = accept(stream);
        let text = socket.read().unwrap();
        socket.send(text).unwrap();
        if n > 0 {
            return echo(socket);
        }
        assert!(socket.read().unwrap().is_ping());
        socket.flush().unwrap();
    });
    // No heartbeat is due.
    let mut wscat = Wscat::start(&["--heartbeat", "3600"], &server.url());
    wscat.say("echoed\n");
    assert!(wscat.see("DISCONNECTED").ends_with("in doubt: none\n"));
    assert_eq!(wscat.hear(), "echoed\n");
    let (code, out, err) = wscat.input("again\n").end();
    assert_eq!((code, out.as_str()), (0, "again\n"), "{err}");
}

#[test]
fn what_never_went_out_is_counted() {
    let server = Server::start(|n, stream| {
        if n == 0 {
            drop(accept(stream));
        }
    });
    let mut wscat = Wscat::start(&["--wait", "0"], &server.url());
    wscat.see("DISCONNECTED");
    wscat.say("one\n");
    let (code, _, err) = wscat.input("two\n").end();
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("lines not delivered: 2; perhaps not delivered: 0\n"), "{err}");
}

#[test]
fn a_reader_that_stops_reading_ends_the_program_quietly() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while socket.send("more".into()).is_ok() {}
    });
    let mut wscat = Wscat::start(&["-q"], &server.url());
    assert_eq!(wscat.hear(), "more\n");
    // The thread that reads ends with its receiver, and breaks the pipe; stdin stays open.
    wscat.stdout = bounded(0).1;
    assert_eq!(wscat.end(), (0, String::new(), String::new()));
}

#[cfg(unix)]
mod signals {
    use std::process::Command;

    use crossbeam_channel::unbounded;
    use tungstenite::Message;

    use super::*;
    use crate::common::{LONG, read_frame};

    /// Sends the program a signal.
    fn signal(wscat: &Wscat, name: &str) {
        assert!(Command::new("kill").args([name, &wscat.child.id().to_string()]).status().unwrap().success());
    }

    #[test]
    fn a_signal_to_end_closes_the_line_with_a_close_frame() {
        for name in ["-INT", "-TERM"] {
            let (closed_in, closed) = unbounded();
            let server = Server::start(move |_, stream| {
                let mut socket = accept(stream);
                socket.send("hello".into()).unwrap();
                while let Ok(message) = socket.read() {
                    if message.is_text() || message.is_close() {
                        closed_in.send(message).unwrap();
                    }
                }
            });
            let mut wscat = Wscat::start(&[], &server.url());
            assert_eq!(wscat.hear(), "hello\n");
            wscat.say("typed\n");
            assert_eq!(closed.recv_timeout(LONG).unwrap(), Message::text("typed"));
            signal(&wscat, name);
            let (code, out, err) = wscat.end();
            assert_eq!((code, out.as_str()), (130, ""), "{err}");
            assert!(err.contains("CLOSED"), "{err}");
            let frame = closed.recv_timeout(LONG).unwrap();
            assert!(
                matches!(&frame, Message::Close(Some(frame)) if u16::from(frame.code) == 1000),
                "{frame:?}"
            );
        }
    }

    #[test]
    fn a_signal_ends_an_attempt_or_a_wait_or_a_close_at_once() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let wscat = Wscat::start(&[], &format!("ws://{}", silent.local_addr().unwrap()));
        let _connection = silent.accept().unwrap();
        signal(&wscat, "-INT");
        assert_eq!(wscat.end().0, 130);

        let server = Server::start(|n, stream| {
            if n == 0 {
                drop(accept(stream));
            }
        });
        let wscat = Wscat::start(&[], &server.url());
        wscat.see("DISCONNECTED");
        signal(&wscat, "-INT");
        assert_eq!(wscat.end().0, 130);

        // It waits up to 3 s for the server's close frame, unless it is asked once more.
        let ((written_in, written), (closing_in, closing)) = (bounded(1), bounded(1));
        let server = Server::start(move |_, stream| {
            let mut socket = accept(stream);
            while read_frame(socket.get_mut()).is_some_and(|(opcode, _)| opcode != 1) {}
            written_in.send(()).unwrap();
            while read_frame(socket.get_mut()).is_some_and(|(opcode, _)| opcode != 8) {}
            closing_in.send(()).unwrap();
            while read_frame(socket.get_mut()).is_some() {}
        });
        let mut wscat = Wscat::start(&[], &server.url());
        wscat.see("CONNECTED");
        wscat.say("line\n");
        written.recv_timeout(LONG).unwrap();
        signal(&wscat, "-INT");
        closing.recv_timeout(LONG).unwrap();
        signal(&wscat, "-INT");
        let (code, _, err) = wscat.end();
        // What was not delivered is told all the same.
        assert!(code == 130 && err.contains("CLOSED"), "{code} {err}");
        assert!(err.contains("perhaps not delivered: line\n"), "{err}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_signal_that_is_ignored_stays_so() {
        let server = Server::echo();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "trap '' HUP INT; exec \"$0\" \"$1\""])
            .arg(crate::program::program())
            .arg(server.url());
        let mut wscat = Wscat::spawn(&mut shell);
        wscat.see("CONNECTED");
        signal(&wscat, "-HUP");
        signal(&wscat, "-INT");
        wscat.say("line\n");
        assert_eq!(wscat.hear(), "line\n");
        signal(&wscat, "-TERM");
        assert_eq!(wscat.end().0, 130);
    }
}
