//! What each option does, and how wrong ones are named.

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use crate::common::{LONG, Nobody, Server, accept, good_answer, listen, read_frame, read_head};
use crate::deflate::Peer;
use crate::program::{Wscat, program, run, server_that_closes_with, server_that_says, talk};
use crossbeam_channel::{bounded, unbounded};
use tungstenite::Message;

#[test]
fn quiet_says_nothing_but_errors() {
    let server = Server::echo();
    assert_eq!(talk(&["-q"], &server.url(), "one\n", 1), (0, b"one\n".to_vec(), String::new()));
    let (code, _, err) = run(&["-q"], &Nobody::new().url(), "");
    assert_eq!((code, err.lines().count()), (1, 1), "{err}");
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
    let laid_out = "{\n  \"list\": [\n    1,\n    {}\n  ],\n  \"celsius\": 21.5\n}\n";
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
    // Bytes stay as they are, also those that are JSON.
    let says = server_that_says(vec![Message::binary(&b"{\"a\":1}"[..]), Message::text("{\"a\":1}")]);
    let (code, out, err) = talk(&["--raw", "--json"], &says.url(), "", 3);
    assert_eq!((code, out), (0, b"{\"a\":1}{\n  \"a\": 1\n}\n".to_vec()), "{err}");
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
    let (_, _, err) = run(&["-s", "v1", "--wait", "0"], &server_that_says(vec![]).url(), "");
    assert!(err.contains(", no subprotocol\n"), "{err}");
}

#[test]
fn compressed_lines_are_counted_and_what_was_agreed_on_is_said() {
    const BOTH: &str = "permessage-deflate; client_no_context_takeover; server_no_context_takeover";
    for (answer, option, agreed) in [
        ("permessage-deflate", "--compress", "compression agreed on: level 3\n"),
        (
            BOTH,
            "--compress=9",
            "level 9, the client's messages each on its own, the server's messages each on its own\n",
        ),
        ("", "--compress", "no compression: the server agreed to none\n"),
    ] {
        let server = match answer {
            "" => Server::echo(),
            _ => Server::start(move |_, stream| Peer::accept(stream, answer).echo(usize::MAX)),
        };
        let line = format!("{}\n", "0123456789".repeat(1_000));
        let (code, out, err) = talk(&["-v", option, "--heartbeat", "off"], &server.url(), &line, 1);
        assert_eq!((code, String::from_utf8(out).unwrap()), (0, line), "{err}");
        assert!(err.contains(agreed), "{err}");
        let status = err.lines().last().unwrap();
        assert_eq!(status.contains("  sent 1  received 1  20.0 kB as "), !answer.is_empty(), "{err}");
    }
}

#[test]
fn a_server_whose_answer_to_the_offer_does_not_fit_names_the_option() {
    let server = Server::start(|_, mut stream| {
        let head = read_head(&mut stream);
        let terms = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10\r\n";
        let _ = stream.write_all(good_answer(&head, terms).as_bytes());
    });
    let (code, _, err) = run(&["-q", "--compress"], &server.url(), "");
    assert!(code == 1 && err.contains("client_max_window_bits=10"), "{err}");
    assert!(err.ends_with("\nwith wscat: leave out --compress\n"), "{err}");
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
fn unusable_options_are_named() {
    let nobody = Nobody::new();
    let url = nobody.url();
    for (args, named) in [
        (&["--nope"][..], "--nope"),
        (&["-Z"], "-Z"),
        (&["--wait", "soon"], "'soon' for '--wait <SECONDS>'"),
        (&["--wait", "-1"], "'-1' for '--wait <SECONDS>'"),
        (&["--heartbeat", "NaN"], "'NaN' for '--heartbeat"),
        (&["--heartbeat", "0"], "heartbeat.interval"),
        (&["--connect-timeout", "1e300"], "--connect-timeout"),
        (&["--compress=fast"], "invalid value 'fast' for '--compress"),
        (&["--compress=0"], "with wscat: --compress=LEVEL"),
        (&["--header", "no colon"], "a header has no colon"),
        (&["--header", "bad name: x"], "begins with \"bad\" has a ' '"),
        (&["--header", "bad name: x"], "with wscat: --header 'NAME: VALUE'"),
        (&["--connect-timeout", "0"], "with wscat: --connect-timeout SECONDS"),
        (&["--subprotocol", ""], "with wscat: --subprotocol NAME"),
        (&["--proxy", "foo://x"], "with wscat: --proxy URL"),
        (&["--count", "0"], "'0' for '--count <N>'"),
        (&["--login", "{}", "--accepted", "=x"], "a name is empty"),
        (&["--login", "{}", "--accepted", "a..b=x"], "a name is empty"),
        (&["--header", "X: a\r\nY: b"], "control character"),
        (&["--subprotocol", "a b"], "begins with \"a\" has a ' '"),
        (&["--ca", "/no/such/file.pem"], "/no/such/file.pem"),
        (&["--ca", "Cargo.toml"], "Cargo.toml"),
        (&["ws://other"], "unexpected argument 'ws://127.0.0.1"),
        (&["--"], ""),
    ] {
        let (code, out, err) = run(args, &url, "");
        let expected = if args == ["--"] { 1 } else { 2 };
        assert_eq!((code, out.as_str()), (expected, ""), "{args:?}: {err}");
        assert!(err.starts_with("wscat: ") && err.contains(named), "{args:?}: {err}");
        assert!(!err.contains("'-- "), "no text is meant: {err}");
    }
    for (last, named) in [
        ("http://127.0.0.1/", "ws:// or wss://"),
        ("", "URL"),
        ("--header", "a value is required for '--header <NAME: VALUE>'"),
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
        "-c, --connect",
        "-H, --header",
        "--header-env",
        "-o, --origin",
        "-s, --subprotocol",
        "-L, --follow",
        "--proxy <URL|env>",
        "--proxy-ca <FILE>",
        "also --proxy-cert, -key, -pin, -sni, -insecure",
        "--unix",
        "--bind",
        "-4",
        "-6",
        "--ca",
        "--cert",
        "--key",
        "--pin",
        "--sni",
        "-n, --insecure",
        "--login",
        "--accepted",
        "--refused",
        "--compress[=<LEVEL>]",
        "--heartbeat",
        "--connect-timeout",
        "--no-reconnect",
        "-x, --send",
        "--binary[=<hex|base64>]",
        "-0, --null",
        "--raw",
        "--base64",
        "--json",
        "--log-format",
        "--once",
        "--count",
        "--expect",
        "-w, --wait",
        "--timeout",
        "--undelivered",
        "-P, --pings",
        "-v...",
        "-q",
        "--completions",
        "NO_COLOR",
        "  0  ",
        "  1  could not connect",
        "  2  ",
        "  3  ",
        "  4  ",
        "  5  ",
        "  130",
    ] {
        assert!(help.contains(name), "{name}");
    }
    let (rows, columns) = (help.lines().count(), help.lines().map(|line| line.chars().count()).max());
    assert!(rows <= 72 && columns <= Some(100), "{rows} rows, {columns:?} columns");
    let (code, brief, err) = run(&[], "-h", "");
    assert_eq!((code, err.as_str()), (0, ""));
    let (rows, columns) = (brief.lines().count(), brief.lines().map(|line| line.chars().count()).max());
    assert!(rows <= 24 && columns <= Some(80), "one screen, and not {rows} rows, {columns:?} columns");
    assert_eq!(run(&[], "--version", "").1, concat!("wscat ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_text_that_nobody_gets_is_a_failure() {
    for option in ["--help", "-h", "--version", "--completions=bash"] {
        let mut command = Command::new(program());
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = command.arg(option).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{option}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("wscat: stdout: "), "{output:?}");
    }
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

#[cfg(feature = "native-tls")]
#[test]
fn a_root_of_its_own_or_none_at_all_lets_it_talk_tls() {
    let identity = native_tls::Identity::from_pkcs8(
        include_bytes!("../data/server.pem"),
        include_bytes!("../data/server.key"),
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
