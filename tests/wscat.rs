//! The example `wscat`, run as a program against servers of this process.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]

mod common;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{LONG, Nobody, Server, accept, echo, good_answer, listen, read_frame, read_head};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

/// The program, which `cargo test` builds beside the tests: `target/<profile>/{deps/<this test>,examples/wscat}`.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let name = format!("wscat{}", std::env::consts::EXE_SUFFIX);
    let program = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is missing: cargo build --example wscat", program.display());
    program
}

/// A running program, killed when it is dropped. Threads write and read for the test, which waits on channels alone.
struct Wscat {
    child: Child,
    stdin: Option<Sender<Vec<u8>>>,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
}

impl Wscat {
    fn start(args: &[&str], url: &str) -> Self {
        Self::spawn(Command::new(program()).args(args).arg(url))
    }

    fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (input, text) = unbounded::<Vec<u8>>();
        // A program that has ended reads no more; its exit code tells.
        thread::spawn(move || while text.recv().is_ok_and(|text| stdin.write_all(&text).is_ok()) {});
        let (stdout, stderr) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, stdin: Some(input), stdout, stderr }
    }

    fn say(&mut self, text: impl AsRef<[u8]>) {
        let _ = self.stdin.as_ref().unwrap().send(text.as_ref().to_vec());
    }

    /// The input ends with this text.
    fn input(mut self, text: impl AsRef<[u8]>) -> Self {
        self.say(text);
        self.stdin = None;
        self
    }

    /// The next line of its output.
    fn hear(&self) -> String {
        String::from_utf8(self.stdout.recv_timeout(LONG).expect("a line that never came")).unwrap()
    }

    /// The next line on stderr with this in it.
    fn see(&self, what: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(LONG).unwrap_or_else(|_| panic!("never saw {what:?}"));
            let line = String::from_utf8(line).unwrap();
            if line.contains(what) {
                return line;
            }
        }
    }

    /// The exit code, and what is left on stdout and stderr.
    fn end(mut self) -> (i32, String, String) {
        let (out, err) = (rest(&self.stdout), rest(&self.stderr));
        common::eventually("the end of the program", || self.child.try_wait().unwrap().is_some());
        (self.child.wait().unwrap().code().unwrap(), out, err)
    }
}

impl Drop for Wscat {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a stream, each with its end, until the stream ends.
fn lines(stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = unbounded();
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            if !stream.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) || sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// All lines up to the end of the stream. There may be many: what must not take long is the next.
fn rest(lines: &Receiver<Vec<u8>>) -> String {
    let mut rest: Vec<Vec<u8>> = Vec::new();
    loop {
        match lines.recv_timeout(LONG) {
            Ok(line) => rest.push(line),
            Err(RecvTimeoutError::Disconnected) => return String::from_utf8(rest.concat()).unwrap(),
            Err(RecvTimeoutError::Timeout) => {
                let last = rest.last().map(|line| String::from_utf8_lossy(line));
                panic!("no end after {} lines, the last of them {last:?}", rest.len());
            }
        }
    }
}

/// A whole run: arguments and input, then exit code, stdout and stderr.
fn run(args: &[&str], url: &str, input: impl AsRef<[u8]>) -> (i32, String, String) {
    Wscat::start(args, url).input(input).end()
}

/// The same, with an input that ends when so many lines came back.
fn talk(args: &[&str], url: &str, input: impl AsRef<[u8]>, lines: usize) -> (i32, Vec<u8>, String) {
    let mut wscat = Wscat::start(&[args, &["--wait", "0"]].concat(), url);
    wscat.say(input);
    let next = |_| wscat.stdout.recv_timeout(LONG).expect("a line that never came");
    let heard: Vec<u8> = (0..lines).flat_map(next).collect();
    let (code, out, err) = wscat.input("").end();
    assert_eq!(out, "", "more than {lines} lines");
    (code, heard, err)
}

/// A server that sends these at once, and then listens.
fn server_that_says(messages: Vec<Message>) -> Server {
    Server::start(move |_, stream| {
        let mut socket = accept(stream);
        for message in &messages {
            socket.send(message.clone()).unwrap();
        }
        listen(socket);
    })
}

/// A server that closes with this code as soon as it has a message.
fn server_that_closes_with(code: u16) -> Server {
    Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if message.is_text() {
                let _ = socket.close(Some(CloseFrame { code: code.into(), reason: "enough".into() }));
            }
        }
    })
}

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
fn quiet_says_nothing_but_errors() {
    let server = Server::echo();
    assert_eq!(talk(&["-q"], &server.url(), "one\n", 1), (0, b"one\n".to_vec(), String::new()));
    let (code, _, err) = run(&["-q"], &Nobody::new().url(), "");
    assert_eq!((code, err.lines().count()), (1, 1), "{err}");
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
fn json_is_laid_out_and_the_rest_is_left_alone() {
    let server = server_that_says(vec![
        Message::text(r#"{"list":[1,{}],"celsius":21.5}"#),
        Message::text("not {json}"),
        Message::binary(&b"[true]"[..]),
        Message::binary(&b"12"[..]),
    ]);
    let (code, out, err) = talk(&["--json"], &server.url(), "", 12);
    let laid_out = "{\n  \"celsius\": 21.5,\n  \"list\": [\n    1,\n    {}\n  ]\n}\n";
    let expected = format!("{laid_out}not {{json}}\n[\n  true\n]\n3132\n");
    assert_eq!((code, String::from_utf8(out).unwrap()), (0, expected), "{err}");
}

#[test]
fn binary_messages_come_in_hex_or_as_they_are_and_lines_go_out_as_binary() {
    let bytes = Message::binary(&[0, 0x7F, 0x80, 0xFF, b'\n', b'x'][..]);
    let server = server_that_says(vec![bytes.clone(), Message::text("text")]);
    let (code, out, err) = talk(&[], &server.url(), "", 2);
    assert_eq!((code, out), (0, b"007f80ff0a78\ntext\n".to_vec()), "{err}");
    let (code, out, err) = talk(&["--raw"], &server.url(), "", 2);
    assert_eq!((code, out), (0, b"\x00\x7F\x80\xFF\nxtext\n".to_vec()), "{err}");
    let server = Server::echo();
    let (code, out, err) = talk(&["--binary"], &server.url(), b"\xFF\r\n\x00\n", 2);
    assert_eq!((code, out), (0, b"ff0d\n00\n".to_vec()), "{err}");
}

#[test]
fn once_prints_one_message_and_ends() {
    let server = server_that_says(vec![Message::text("first"), Message::text("second")]);
    assert_eq!(run(&["--once", "-q"], &server.url(), ""), (0, "first\n".into(), String::new()));
    // All that stdin holds goes out, however early the message comes.
    let (seen_in, seen) = bounded(1);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        socket.send("hello".into()).unwrap();
        let mut texts = Vec::new();
        while let Ok(message) = socket.read() {
            texts.extend(message.is_text().then(|| message.to_string()));
        }
        seen_in.send(texts).unwrap();
    });
    let mut wscat = Wscat::start(&["--once", "-q"], &server.url());
    assert_eq!(wscat.hear(), "hello\n");
    wscat.say("a\n");
    assert_eq!(wscat.input("b\n").end(), (0, String::new(), String::new()));
    assert_eq!(seen.recv_timeout(LONG).unwrap(), ["a", "b"]);
}

#[test]
fn once_fails_when_no_message_comes() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let (code, out, err) = run(&["--once", "-q", "--wait", "0.05"], &server.url(), "");
    assert_eq!((code, out.as_str(), err.as_str()), (3, "", "wscat: no message came\n"));
    let server = server_that_closes_with(1000);
    assert_eq!(run(&["--once", "-q"], &server.url(), "x\n").0, 3);
}

#[test]
fn wait_sets_how_long_messages_are_awaited_after_the_end_of_stdin() {
    // Later than the silence that would end a session without the option.
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        socket.get_mut().set_read_timeout(Some(Duration::from_millis(1200))).unwrap();
        while socket.read().is_ok() {}
        let _ = socket.send("late".into());
        socket.get_mut().set_read_timeout(None).unwrap();
        listen(socket);
    });
    let (code, out, err) = run(&["-q", "--heartbeat", "off", "--wait", "2.5"], &server.url(), "");
    assert_eq!((code, out.as_str()), (0, "late\n"), "{err}");
}

#[test]
fn headers_subprotocols_and_the_choice_are_seen() {
    let (seen_in, seen) = unbounded();
    let server = Server::start(move |_, mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(good_answer(&head, "Sec-WebSocket-Protocol: v2\r\n").as_bytes()).unwrap();
        seen_in.send(head).unwrap();
        while read_frame(&mut stream).is_some_and(|(opcode, _)| opcode != 8) {}
    });
    let headers = ["--header", "X-Device: 7", "--header", "Authorization:Bearer a:b"];
    let subprotocols = ["--subprotocol", "v1", "--subprotocol", "v2"];
    let (_, _, err) = run(&[&headers[..], &subprotocols, &["--wait", "0"]].concat(), &server.url(), "");
    let head = seen.recv_timeout(LONG).unwrap();
    for line in ["X-Device: 7\r\n", "Authorization: Bearer a:b\r\n", "Sec-WebSocket-Protocol: v1, v2\r\n"] {
        assert!(head.contains(line), "{head}");
    }
    assert!(err.contains("subprotocol v2"), "{err}");
}

#[test]
fn heartbeats_go_out_as_they_were_ordered() {
    let (seen_in, seen) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            let _ = seen_in.send(message);
        }
    });
    let ping = || seen.recv_timeout(LONG).unwrap().is_ping();
    let wscat = Wscat::start(&["--heartbeat", "0.02", "--wait", "0"], &server.url());
    assert!(ping() && ping() && ping(), "a ping each 20 ms");
    let (code, _, err) = wscat.input("").end();
    assert_eq!(code, 0);
    assert!(err.contains("rtt ") && !err.lines().last().unwrap().contains(" - "), "{err}");

    while seen.try_recv().is_ok() {}
    assert_eq!(run(&["-q", "--heartbeat", "off", "--wait", "0"], &server.url(), "unconfirmed\n").0, 0);
    let all: Vec<_> = seen.try_iter().collect();
    assert!(!all.iter().any(Message::is_ping), "{all:?}");
}

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
fn unusable_options_are_named() {
    let nobody = Nobody::new();
    let url = nobody.url();
    for (args, named) in [
        (&["--nope"][..], "--nope"),
        (&["-x"], "-x"),
        (&["--wait", "soon"], "--wait \"soon\""),
        (&["--wait", "-1"], "--wait \"-1\""),
        (&["--heartbeat", "NaN"], "--heartbeat \"NaN\""),
        (&["--heartbeat", "0"], "heartbeat.interval"),
        (&["--connect-timeout", "1e300"], "--connect-timeout"),
        (&["--header", "no colon"], "no colon"),
        (&["--header", "bad name: x"], "begins with \"bad\" has a ' '"),
        (&["--header", "X: a\r\nY: b"], "control character"),
        (&["--subprotocol", "a b"], "begins with \"a\" has a ' '"),
        (&["--ca", "/no/such/file.pem"], "/no/such/file.pem"),
        (&["--ca", "Cargo.toml"], "Cargo.toml"),
        (&["ws://other"], "one URL"),
        (&["--"], ""),
    ] {
        let (code, out, err) = run(args, &url, "");
        let expected = if args == ["--"] { 1 } else { 2 };
        assert_eq!((code, out.as_str()), (expected, ""), "{args:?}: {err}");
        assert!(err.starts_with("wscat: ") && err.contains(named), "{args:?}: {err}");
    }
    for (last, named) in [
        ("http://127.0.0.1/", "ws:// or wss://"),
        ("", "URL"),
        ("-", "no option"),
        ("--header", "--header needs"),
    ] {
        let (code, _, err) = run(&[], last, "");
        assert_eq!(code, 2, "{last:?}: {err}");
        assert!(err.contains(named), "{last:?}: {err}");
    }
    let (code, _, err) = run(&["--", "--help"], &url, "");
    assert_eq!(code, 2, "after -- it is a URL: {err}");
}

#[test]
fn help_names_every_option_and_exit_code() {
    let (code, help, err) = run(&["ws://ignored"], "--help", "");
    assert_eq!((code, err.as_str()), (0, ""));
    for name in [
        "--header",
        "--subprotocol",
        "--heartbeat",
        "--connect-timeout",
        "--no-reconnect",
        "--ca",
        "--insecure",
        "--binary",
        "--raw",
        "--json",
        "--once",
        "--wait",
        "-v, -vv",
        "-q",
        "NO_COLOR",
        "0  ",
        "1  could not connect",
        "2  ",
        "3  ",
        "4  ",
    ] {
        assert!(help.contains(name), "{name}");
    }
    assert_eq!(run(&[], "--version", "").1, concat!("wscat ", env!("CARGO_PKG_VERSION"), "\n"));
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

/// Sends the program a signal.
#[cfg(unix)]
fn signal(wscat: &Wscat, name: &str) {
    assert!(Command::new("kill").args([name, &wscat.child.id().to_string()]).status().unwrap().success());
}

#[cfg(unix)]
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
        assert!(matches!(&frame, Message::Close(Some(frame)) if u16::from(frame.code) == 1000), "{frame:?}");
    }
}

#[cfg(unix)]
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
    let (closing_in, closing) = bounded(1);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while read_frame(socket.get_mut()).is_some_and(|(opcode, _)| opcode != 8) {}
        closing_in.send(()).unwrap();
        while read_frame(socket.get_mut()).is_some() {}
    });
    let wscat = Wscat::start(&[], &server.url());
    wscat.see("CONNECTED");
    signal(&wscat, "-INT");
    closing.recv_timeout(LONG).unwrap();
    signal(&wscat, "-INT");
    let (code, _, err) = wscat.end();
    assert!(code == 130 && !err.contains("CLOSED"), "{code} {err}");
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
fn a_line_that_is_no_text_is_refused() {
    let server = Server::echo();
    let (code, out, err) = run(&["-q"], &server.url(), b"fine\nbad \xFF\nunread\n");
    assert_eq!((code, out.as_str()), (4, "fine\n"));
    assert!(err.contains("no UTF-8") && err.contains("lines not delivered: 1;"), "{err}");
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

#[test]
fn the_log_is_the_library_s() {
    let server = Server::echo();
    for option in ["-v", "-vv"] {
        let mut command = Command::new(program());
        command.args([option, "--wait", "0", &server.url()]).env("NO_COLOR", "1");
        let (code, _, err) = Wscat::spawn(&mut command).input("x\n").end();
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("INFO") && err.contains("CONNECTING -> CONNECTED"), "{err}");
        assert!(!err.contains('\x1b'), "{err:?}");
    }
}

#[test]
fn a_root_of_its_own_or_none_at_all_lets_it_talk_tls() {
    let identity = native_tls::Identity::from_pkcs8(
        include_bytes!("data/server.pem"),
        include_bytes!("data/server.key"),
    );
    let acceptor = native_tls::TlsAcceptor::new(identity.unwrap()).unwrap();
    let server = Server::start(move |_, stream| {
        // A client that doesn't trust the certificate ends the handshake.
        let Ok(stream) = acceptor.accept(stream) else { return };
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        while let Ok(message) = socket.read() {
            if message.is_text() && socket.send(message).is_err() {
                return;
            }
        }
    });
    let url = server.url().replace("ws://", "wss://");
    let (code, _, err) = run(&[], &url, "secret\n");
    assert_eq!(code, 1, "{err}");
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ca.pem");
    let (code, out, err) = talk(&["-q", "--ca", root], &url, "secret\n", 1);
    assert_eq!((code, out, err.as_str()), (0, b"secret\n".to_vec(), ""));
    let (code, out, err) = talk(&["-q", "--insecure"], &url, "secret\n", 1);
    assert_eq!((code, out), (0, b"secret\n".to_vec()), "{err}");
    assert!(err.contains("any certificate"), "{err}");
}
