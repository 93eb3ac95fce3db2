//! What scripts need: messages that are sent first, what is waited for, and the forms of messages.

use std::io::Write;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{LONG, Nobody, Server, accept, echo, good_answer, listen, read_frame, read_head};
use crate::program::{Wscat, file, program, run, server_that_says, talk};
use crate::wscat::options::address::completed;
use crossbeam_channel::{Receiver, unbounded};
use tautline::Value;
use tungstenite::Message;

/// A server that tells which texts have come on which connection, and cuts the first so many when one says so.
fn listening(cuts: usize) -> (Server, Receiver<(usize, String)>) {
    let (seen_in, seen) = unbounded();
    let server = Server::start(move |n, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if message.is_text() {
                let text = message.to_string();
                let is_cut = n < cuts && text == "cut";
                seen_in.send((n, text)).unwrap();
                if is_cut {
                    return;
                }
            }
        }
    });
    (server, seen)
}

#[test]
fn what_is_sent_first_comes_before_any_line_on_each_connection() {
    let (server, seen) = listening(1);
    let args =
        ["-q", "-x", "@@one", "--send", "-two", "--execute", &format!("@{}", file("three", "three\n"))];
    let mut wscat = Wscat::start(&args, &server.url());
    wscat.say("line\ncut\n");
    let next = || seen.recv_timeout(LONG).unwrap();
    for text in ["@one", "-two", "three\n", "line", "cut"] {
        assert_eq!(next(), (0, text.into()));
    }
    for text in ["@one", "-two", "three\n"] {
        assert_eq!(next(), (1, text.into()));
    }
    drop(wscat);
}

#[test]
fn a_login_is_first_and_what_is_sent_waits_until_it_is_accepted() {
    let (go_in, go) = crossbeam_channel::bounded::<()>(0);
    let (seen_in, seen) = unbounded();
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if !message.is_text() {
                continue;
            }
            let text = message.to_string();
            if text.contains("password") {
                go.recv_timeout(LONG).unwrap();
                let answer = if text.contains("wrong") { "DENIED" } else { "OK" };
                let _ = socket.send(format!(r#"{{"Data":{{"State":"{answer}"}}}}"#).into());
            }
            let _ = seen_in.send(text);
        }
    });
    let login = format!("@{}", file("login", r#"{"type":"login","password":"geheim"}"#));
    let answers = ["--accepted", "Data.State=OK", "--refused", "Data.State=DENIED"];
    let args = [&["-v", "--login", &login, "-x", "first", "--wait", "0"][..], &answers].concat();
    let mut wscat = Wscat::start(&args, &server.url());
    wscat.say("line\n");
    go_in.send_timeout((), LONG).unwrap();
    for text in [r#"{"type":"login","password":"geheim"}"#, "first", "line"] {
        let seen: String = seen.recv_timeout(LONG).unwrap();
        let (seen, text) = (seen.parse::<Value>(), text.parse::<Value>());
        assert!(seen.is_ok() == text.is_ok() && seen.ok() == text.ok());
    }
    let (code, _, err) = wscat.input("").end();
    assert!(code == 0 && err.contains("AUTHENTICATED") && !err.contains("geheim"), "{err}");

    let args = [&["-q", "--login", r#"{"password":"wrong"}"#][..], &answers].concat();
    let wscat = Wscat::start(&args, &server.url());
    go_in.send_timeout((), LONG).unwrap();
    let (code, _, err) = wscat.end();
    assert!(code == 1 && err.contains("login"), "{err}");
    for (args, says) in [
        (&["--login", "{}"][..], "--accepted <FIELD=VALUE>"),
        (&["--login", "secret", "--accepted", "a=b"], "--login: it is no JSON"),
        (&["--login", "{}", "--accepted", "a"], "it is no FIELD=VALUE"),
        (&["--accepted", "a=b"], "--login <JSON>"),
    ] {
        let (code, _, err) = run(args, &server.url(), "");
        assert!(code == 2 && err.contains(says) && !err.contains("secret"), "{args:?}: {err}");
    }
}

#[test]
fn so_many_messages_are_printed_and_no_more() {
    let server = server_that_says(["a", "b", "c", "d"].map(Message::text).to_vec());
    assert_eq!(run(&["-q", "--count", "3"], &server.url(), ""), (0, "a\nb\nc\n".into(), String::new()));
    let (code, out, err) = run(&["-q", "--count", "9", "-w", "0.1"], &server.url(), "");
    assert_eq!((code, out.as_str(), err.as_str()), (3, "a\nb\nc\nd\n", "wscat: not so many messages came\n"));
}

#[test]
fn an_expected_message_ends_it_and_one_that_does_not_come_is_a_failure() {
    let messages =
        vec![Message::text("state: busy"), Message::binary(&b"ready 7"[..]), Message::text("more")];
    let server = server_that_says(messages);
    let (code, out, err) = run(&["-q", "--expect", r"ready \d"], &server.url(), "");
    assert_eq!((code, out.as_str(), err.as_str()), (0, "state: busy\n72656164792037\n", ""));
    let (code, _, err) = run(&["-q", "--expect", "^never$", "-w", "0.1"], &server.url(), "");
    assert_eq!((code, err.as_str()), (3, "wscat: no message was as expected\n"));
    let (code, _, err) = run(&["-q", "--expect", "("], &server.url(), "");
    assert!(code == 2 && err.contains("--expect <REGEX>"), "{err}");
}

#[test]
fn the_time_of_all_is_bounded_also_while_it_connects() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let wscat = Wscat::start(&["-q", "--timeout", "0.3"], &server.url());
    let (code, _, err) = wscat.end();
    assert_eq!((code, err.as_str()), (5, "wscat: the time of --timeout was over\n"));
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let began = Instant::now();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let (code, _, err) = run(&["-q", "--timeout", "0.1"], &url, "");
    assert!(code == 5 && err.contains("timed out after 100ms"), "{err}");
    assert!(began.elapsed() < LONG.min(Duration::from_secs(8)), "not the ten seconds of an attempt");
    // The parts of an attempt may take no longer together.
    let server = Server::start(|_, stream| {
        thread::sleep(Duration::from_secs(1));
        listen(accept(stream));
    });
    let (code, _, err) =
        run(&["-q", "--timeout", "2", "--login", "{}", "--accepted", "a=b"], &server.url(), "");
    assert_eq!((code, err.as_str()), (5, "wscat: the time of --timeout was over\n"));
}

#[test]
fn a_login_that_is_not_answered_and_a_stdout_that_nobody_reads_take_no_longer() {
    let server = Server::start(|_, stream| listen(accept(stream)));
    let login = ["--login", "{}", "--accepted", "a=b", "--timeout", "0.2"];
    let (code, _, err) = run(&login, &server.url(), "");
    assert!(code == 5 && err.ends_with("wscat: the time of --timeout was over\n"), "{err}");

    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while socket.send(Message::text("x".repeat(1 << 16))).is_ok() {}
    });
    let mut command = Command::new(program());
    command.args(["-q", "--timeout", "0.2", &server.url()]);
    let (stdin, stdout) = (std::process::Stdio::null(), std::process::Stdio::piped());
    let mut child = command.stdin(stdin).stdout(stdout).spawn().unwrap();
    crate::common::eventually("its end", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[cfg(unix)]
#[test]
fn one_signal_ends_it_though_nobody_reads_stdout() {
    let (full_in, full) = crossbeam_channel::bounded::<()>(1);
    let server = Server::start(move |_, stream| {
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut socket = accept(stream);
        while socket.send(Message::text("x".repeat(1 << 16))).is_ok() {}
        let _ = full_in.try_send(());
        listen(socket);
    });
    let mut command = Command::new(program());
    command.args(["-q", "--heartbeat", "off", &server.url()]);
    let mut child =
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    full.recv_timeout(LONG).unwrap();
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    crate::common::eventually("its end", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_session_with_a_login_ends_when_it_is_silent_and_a_line_that_is_down_is_a_failure() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if message.is_text() {
                let _ = socket.send(message);
            }
        }
    });
    let args = ["-q", "--login", r#"{"a":"b"}"#, "--accepted", "a=b"];
    assert_eq!(run(&args, &server.url(), "x\n"), (0, "x\n".into(), String::new()));

    let server = Server::start(|n, stream| {
        if n == 0 {
            drop(accept(stream));
        }
    });
    let (code, _, err) = run(&["-q"], &server.url(), "");
    assert!(code == 3 && err.starts_with("wscat: "), "{code} {err}");
}

#[test]
fn binary_messages_go_out_decoded_and_come_in_as_it_is_asked_for() {
    let server = Server::echo();
    let (code, out, err) = talk(&["-q", "--binary=hex"], &server.url(), "00fF7f\r\n", 1);
    assert_eq!((code, out), (0, b"00ff7f\n".to_vec()), "{err}");
    let (code, out, err) = talk(&["-q", "--binary=base64", "--base64"], &server.url(), "AP9/\n", 1);
    assert_eq!((code, out), (0, b"AP9/\n".to_vec()), "{err}");
    for (option, line, says) in
        [("--binary=hex", "0g", "it is no hex"), ("--binary=base64", "A", "it is no base64")]
    {
        let (code, _, err) = run(&["-q", option], &server.url(), line);
        assert!(code == 4 && err.contains(&format!("a line of stdin: {says}")), "{err}");
        assert!(err.contains(&format!("not delivered: {line}\n")), "{err}");
        let (code, _, err) = run(&["-q", option, "-x", line], &server.url(), "");
        assert!(code == 2 && err.contains(&format!("--send: {says}")), "{err}");
    }
    assert_eq!(run(&["--binary=octal"], &server.url(), "").0, 2);
    let bytes = file("bytes", b"\xFF\x00\n");
    let args = ["-q", "--binary", "-x", &format!("@{bytes}"), "--once"];
    assert_eq!(run(&args, &server.url(), ""), (0, "ff000a\n".into(), String::new()));
}

#[test]
fn a_nul_ends_messages_where_that_is_asked_for() {
    let server = Server::echo();
    let mut wscat = Wscat::start(&["-q", "-0", "--count", "2"], &server.url());
    wscat.say("two\nlines\0");
    let (code, out, err) = wscat.input("one\r\0").end();
    assert_eq!((code, out.as_str()), (0, "two\nlines\0one\r\0"), "{err}");
    let (code, out, err) = run(&["-q", "-0", "--binary", "--raw", "--once"], &server.url(), b"x\n");
    assert_eq!((code, out.as_str()), (0, "x\n\0"), "{err}");
}

#[test]
fn the_log_of_json_has_states_directions_tickets_and_times() {
    let server = Server::echo();
    let args = ["-q", "--log-format", "json", "--json", "--count", "4", "-x", "first"];
    let mut wscat = Wscat::start(&args, &server.url());
    wscat.say("{\"b\":1,\"a\":[]}\nplain\n");
    wscat.say("last\n");
    let lines: Vec<Value> = (0..10).map(|_| wscat.hear().parse().unwrap()).collect();
    assert!(lines.iter().all(|line| line["time"].as_str().unwrap().ends_with('Z')), "{lines:?}");
    let states: Vec<_> = lines.iter().filter_map(|line| line["state"].as_str()).collect();
    assert_eq!(states, ["CONNECTING", "CONNECTED"]);
    let of = |way: &str| lines.iter().filter(|line| line["direction"] == way).collect::<Vec<_>>();
    let (out, back) = (of("out"), of("in"));
    let tickets: Vec<_> = out.iter().map(|line| line["ticket"].as_u64()).collect();
    assert_eq!((tickets, back.len()), (vec![None, Some(1), Some(2), Some(3)], 4), "{lines:?}");
    for lines in [out, back] {
        assert_eq!(lines[1]["json"], serde_json::json!({"a": [], "b": 1}));
        let said = [0, 2, 3].map(|line| lines[line]["text"].as_str().unwrap_or_default());
        assert_eq!(said, ["first", "plain", "last"]);
    }
    let (code, rest, _) = wscat.input("").end();
    let states: Vec<_> = rest.lines().map(|line| line.rsplit("state").next().unwrap_or_default()).collect();
    let closed = "\":\"CLOSED\",\"reason\":\"closed by the caller\"}";
    assert_eq!((code, &*states), (0, &["\":\"CLOSING\"}", closed][..]));

    let server = server_that_says(vec![Message::binary(&[0, 0xFF][..])]);
    let (code, out, err) = run(&["-q", "--log-format", "json", "--once"], &server.url(), "");
    assert!(code == 0 && out.contains(r#""base64":"AP8=""#), "{out} {err}");
}

#[test]
fn who_got_what_was_waited_for_does_not_mind_the_end() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        socket.send("one".into()).unwrap();
        let frame = tungstenite::protocol::CloseFrame { code: 1011.into(), reason: "".into() };
        let _ = socket.close(Some(frame));
        listen(socket);
    });
    for (args, ends) in [(&["--once"][..], 0), (&["--expect", "^one$"], 0), (&["--count", "2"], 3), (&[], 3)]
    {
        let (code, _, err) = run(&[&["-q", "--no-reconnect"], args].concat(), &server.url(), "");
        assert_eq!(code, ends, "{args:?}: {err}");
    }
}

#[test]
fn an_attempt_that_fails_is_in_the_log_of_json_too() {
    let (code, out, err) = run(&["-q", "--log-format", "json"], &Nobody::new().url(), "");
    let line: Value = out.parse().unwrap();
    assert_eq!((code, &line["state"]), (1, &"DISCONNECTED".into()), "{err}");
    assert!(err.contains(line["reason"].as_str().unwrap()), "{err}");
}

#[test]
fn headers_come_from_files_and_the_environment_and_an_error_shows_none_of_them() {
    let (seen_in, seen) = unbounded();
    let server = Server::start(move |_, mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(good_answer(&head, "").as_bytes()).unwrap();
        let _ = seen_in.send(head);
        while read_frame(&mut stream).is_some_and(|(opcode, _)| opcode != 8) {}
    });
    let headers =
        file("headers", "\u{feff}X-One: 1\r\n\n  # Cookie: not this\nAuthorization: Bearer geheim\n");
    let mut command = Command::new(program());
    command.args(["-q", "-w", "0", "-H", &format!("@{headers}"), "--header-env", "X-Token=WSCAT_TOKEN"]);
    command.args(["-o", "https://app.example", "-c", &server.url()]).env("WSCAT_TOKEN", "t0ken");
    let (code, _, err) = Wscat::spawn(&mut command).input("").end();
    let head = seen.recv_timeout(LONG).unwrap();
    assert_eq!(code, 0, "{err}");
    assert!(!head.contains("Cookie"), "{head}");
    for line in ["X-One: 1", "Authorization: Bearer geheim", "X-Token: t0ken", "Origin: https://app.example"]
    {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
    }
    let wrong = file("wrong", "geheim");
    for (args, says) in [
        (["-H", &format!("@{wrong}")], "wrong, line 1: a header has no colon"),
        (["-H", "@/no/such/file"], "/no/such/file: "),
        (["--header-env", "X-Token"], "give --header-env NAME=VARIABLE"),
        (["--header-env", "X=geheim"], "the variable for X is not set"),
        (["-x", "@/dev/zero"], "/dev/zero: it has more than 64 MiB"),
        (["--timeout", "0"], "it is less than 0.01"),
    ] {
        let (code, _, err) = run(&args, &server.url(), "");
        assert!(code == 2 && err.contains(says) && !err.contains("geheim"), "{args:?}: {err}");
    }
}

#[test]
fn a_url_without_a_scheme_gets_one_which_is_told() {
    let server = Server::start(|_, stream| echo(accept(stream)));
    let bare = server.url().replace("ws://", "");
    let (code, out, err) = talk(&[], &bare, "hello\n", 1);
    assert_eq!((code, out), (0, b"hello\n".to_vec()), "{err}");
    let told =
        format!("wscat: the URL has no scheme, and is taken for ws://{}\n", bare.trim_end_matches('/'));
    assert!(err.starts_with(&told), "{err}");
    let port = bare.trim_end_matches('/').rsplit(':').next().unwrap();
    let (code, _, err) = run(&["-w", "0"], &format!("ann:geheim@127.0.0.1:{port}/x?y"), "");
    assert!(
        code == 0 && err.contains(&format!("ws://127.0.0.1:{port}\n")) && !err.contains("geheim"),
        "{err}"
    );
    for (given, whole) in [
        ("localhost:8080", Some("ws://localhost:8080")),
        ("localhost/feed", Some("ws://localhost/feed")),
        (":8080/feed", Some("ws://localhost:8080/feed")),
        ("[::1]/x", Some("ws://[::1]/x")),
        ("[::1]:443", Some("wss://[::1]:443")),
        ("192.168.7.20", Some("ws://192.168.7.20")),
        ("example.com", Some("wss://example.com")),
        ("example.com/a:b", Some("wss://example.com/a:b")),
        ("ann:pw@example.com", Some("wss://ann:pw@example.com")),
        ("example.com:443", Some("wss://example.com:443")),
        ("example.com:9001", Some("ws://example.com:9001")),
        ("WSS://h", None),
        (":", None),
        (":x", None),
        ("ws:h:1", None),
        ("wss:/h", None),
        ("ws:8080", Some("ws://ws:8080")),
        ("http://h", None),
        ("ws+unix:/s", None),
        ("", None),
    ] {
        assert_eq!(completed(given).as_deref(), whole, "{given}");
    }
}

#[test]
fn answers_to_pings_are_shown_where_that_is_asked_for() {
    let server = Server::echo();
    for args in [&["-P"][..], &["-P", "-q"]] {
        let wscat = Wscat::start(&[args, &["--heartbeat", "0.02", "-w", "0"]].concat(), &server.url());
        wscat.see("a ping was answered after ");
        assert_eq!(wscat.input("").end().0, 0);
    }
}

#[test]
fn a_shell_gets_what_completes_the_options() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, out, err) = run(&[], &format!("--completions={shell}"), "");
        assert!(code == 0 && out.contains("undelivered"), "{shell}: {out} {err}");
    }
}
