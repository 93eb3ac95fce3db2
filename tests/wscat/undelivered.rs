//! What becomes of the lines that were not delivered.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::{Nobody, Server, accept, accept_raw};
use crate::program::{Wscat, file, lines, program, run};
use crate::wscat::undelivered::Undelivered;
use crossbeam_channel::bounded;

#[test]
fn what_was_not_delivered_is_written_to_a_file_or_to_stderr() {
    let refusing = || {
        Server::start(|n, stream| {
            if n == 0 {
                let mut socket = accept(stream);
                assert!(socket.read().unwrap().is_text());
            }
        })
    };
    let target = file("undelivered", "");
    for args in [&["--wait", "0"][..], &["--wait", "0", "--undelivered", &target]] {
        let server = refusing();
        let mut wscat = Wscat::start(args, &server.url());
        wscat.say("doubtful\n");
        wscat.see("DISCONNECTED");
        let (code, _, err) = wscat.input("missing \x1b[2J\n").end();
        assert!(code == 4 && err.contains("lines not delivered: 1; perhaps not delivered: 1\n"), "{err}");
        let shown = err.contains("perhaps not delivered: doubtful\nnot delivered: missing \x1b[2J\n");
        assert_eq!(shown, args.len() == 2, "{err}");
    }
    assert_eq!(fs::read_to_string(&target).unwrap(), "doubtful\nmissing \x1b[2J\n");
    // What is in it may be the input, and stays until that was read.
    let (code, _, err) = run(&["-q", "--undelivered", &target], &Nobody::new().url(), "");
    assert_eq!((code, &*fs::read_to_string(&target).unwrap()), (1, "doubtful\nmissing \x1b[2J\n"), "{err}");
    let (code, _, err) = run(&["-q", "--undelivered", &target], &Server::echo().url(), "all\n");
    assert_eq!((code, &*fs::read_to_string(&target).unwrap()), (0, ""), "{err}");
    let (code, _, err) = run(&["--undelivered", "/no/such/folder/file"], &refusing().url(), "line\n");
    assert!(code == 2 && err.starts_with("wscat: /no/such/folder/file: "), "{err}");
    let (code, _, err) = run(&["--undelivered", "/dev/stderr"], &refusing().url(), "line\n");
    assert!(code == 2 && err.starts_with("wscat: /dev/stderr: name a file: "), "{err}");
    // A file that can't be written in the end loses nothing.
    let server = refusing();
    let mut wscat = Wscat::start(&["--wait", "0", "--undelivered", "/dev/full"], &server.url());
    wscat.say("doubtful\n");
    wscat.see("DISCONNECTED");
    let (code, _, err) = wscat.input("").end();
    assert!(code == 4 && err.contains("perhaps not delivered: doubtful\n"), "{err}");
    assert!(err.contains("wscat: /dev/full: "), "{err}");
}

/// Runs the program with this file as its input.
fn feed(args: &[&str], url: &str, input: &str) -> (i32, String) {
    let mut command = Command::new(program());
    let output = command.args(args).arg(url).stdin(fs::File::open(input).unwrap()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_server_that_takes_lines_and_confirms_none_leaves_all_of_them_in_doubt() {
    let (over_in, over) = bounded::<()>(0);
    let server = Server::start(move |_, stream| {
        let _stream = accept_raw(stream); // it reads nothing
        let _ = over.recv();
    });
    let (input, left) = (file("unread-input", "one\ntwo\n"), file("unread", ""));
    let (code, err) = feed(&["-q", "--undelivered", &left], &server.url(), &input);
    assert_eq!((code, &*fs::read_to_string(&left).unwrap()), (4, "one\ntwo\n"), "{err}");
    assert!(err.ends_with("lines not delivered: 0; perhaps not delivered: 2\n"), "{err}");
    drop(over_in);
}

#[test]
fn what_was_not_read_of_a_file_is_not_delivered() {
    let server = Server::echo();
    // Behind a line that stands for no message, nothing more is sent.
    let (input, left) = (file("rest-input", "ab\nno hex\ncd\n\nef"), file("rest", ""));
    let (code, err) = feed(&["-q", "--binary=hex", "--undelivered", &left], &server.url(), &input);
    assert_eq!((code, &*fs::read_to_string(&left).unwrap()), (4, "no hex\ncd\n\nef"), "{err}");
    assert!(err.ends_with("lines not delivered: 4; perhaps not delivered: 0\n"), "{err}");
    // Nor is a line that is longer than a message may be, and what comes behind it.
    let long = "x".repeat((64 << 20) + 10) + "\nlast\n";
    let (code, err) =
        feed(&["-q", "--undelivered", &left], &server.url(), &file("rest-long", format!("first\n{long}")));
    assert!(code == 4 && fs::read_to_string(&left).unwrap() == long, "{err}");
    assert!(err.ends_with("lines not delivered: 2; perhaps not delivered: 0\n"), "{err}");
    // It may be the same file.
    fs::write(&left, "no hex\ncd\n\nef").unwrap();
    let (code, err) = feed(&["-q", "--binary=hex", "--undelivered", &left], &server.url(), &left);
    assert_eq!((code, &*fs::read_to_string(&left).unwrap()), (4, "no hex\ncd\n\nef"), "{err}");
}

#[test]
fn what_was_under_way_when_the_line_was_lost_for_good_is_in_doubt() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        assert!(socket.read().unwrap().is_text());
    });
    let (code, _, err) = run(&["-q", "--no-reconnect"], &server.url(), "lost\n");
    assert!(code == 3 && err.contains("perhaps not delivered: lost\n"), "{err}");
}

#[test]
fn what_was_refused_stays_behind_what_was_accepted_before_it() {
    let mut lines = Undelivered::default();
    let line = |line: &str| line.as_bytes().to_vec();
    lines.accept(line("1"));
    lines.accept(line("2"));
    lines.refuse(line("none"));
    lines.accept(line("3"));
    lines.end(1);
    let missing: Vec<_> = lines.missing.iter().map(|(_, line)| &line[..]).collect();
    assert_eq!(missing, [b"2", &b"none"[..], b"3"]);
}

#[test]
fn it_is_said_that_stdin_was_not_read_to_its_end() {
    let server = Server::echo();
    let cut = "; stdin was not read to its end\n";
    // A pipe behind a line that stands for no message.
    let (code, _, err) = run(&["-q", "--binary=hex"], &server.url(), "ab\nno hex\ncd\n");
    assert!(code == 4 && err.ends_with(&format!("delivered: 1; perhaps not delivered: 0{cut}")), "{err}");
    // What is none of both.
    let folder = std::env::temp_dir();
    let (code, err) = feed(&["-q"], &server.url(), folder.to_str().unwrap());
    assert!(code == 4 && err.ends_with(&format!("delivered: 0; perhaps not delivered: 0{cut}")), "{err}");
}

#[test]
fn lines_are_kept_with_their_ends() {
    let server = Server::echo();
    let (input, left) = (file("windows-input", "ab\r\nno hex\r\ncd\r\n"), file("windows", ""));
    let (code, err) = feed(&["-q", "--binary=hex", "--undelivered", &left], &server.url(), &input);
    assert_eq!((code, &*fs::read_to_string(&left).unwrap()), (4, "no hex\r\ncd\r\n"), "{err}");
    // The last line has none, if it had none.
    let input = file("windows-input", "ab\r\nno hex");
    let (code, err) = feed(&["-q", "--binary=hex", "--undelivered", &left], &server.url(), &input);
    assert_eq!((code, &*fs::read_to_string(&left).unwrap()), (4, "no hex"), "{err}");
}

#[test]
fn a_closed_stdout_with_lines_to_keep_is_no_success_before_the_end_of_a_pipe() {
    let (server, left) = (talkative(), file("pipe", ""));
    let mut wscat = Wscat::start(&["-q", "--undelivered", &left], &server.url());
    assert_eq!(wscat.hear(), "more\n");
    wscat.stdout = bounded(0).1;
    let (code, _, err) = wscat.end();
    let said = "wscat: lines not delivered: 0; perhaps not delivered: 0; stdin was not read to its end\n";
    assert_eq!((code, err.as_str()), (4, said));
}

/// A server that confirms nothing, and sends until nobody reads.
fn talkative() -> Server {
    Server::start(|_, stream| {
        let mut socket = accept(stream);
        while socket.send("more".into()).is_ok() {}
    })
}

#[test]
fn a_stdout_that_fails_leaves_no_line_out() {
    let (input, left) = (file("gone-input", "one\ntwo\n"), file("gone", ""));
    let server = talkative();
    let start = |args: &[&str], stdout: Stdio| {
        let mut command = Command::new(program());
        command.args(args).arg(server.url()).stdin(fs::File::open(&input).unwrap());
        command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut child = start(&["-q", "--undelivered", &left], Stdio::piped());
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), &*fs::read_to_string(&left).unwrap()),
        (Some(4), "one\ntwo\n"),
        "{err}"
    );
    assert!(err.starts_with("wscat: lines not delivered: "), "{err}");

    if cfg!(target_os = "linux") {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let output = start(&["-q", "--undelivered", &left], full.into()).wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            (output.status.code(), &*fs::read_to_string(&left).unwrap()),
            (Some(3), "one\ntwo\n"),
            "{err}"
        );
        assert!(err.contains("wscat: stdout: No space left on device"), "{err}");
    }
}

#[test]
fn a_stdout_that_nobody_reads_leaves_no_line_out() {
    let (input, left) = (file("stuck-input", "one\ntwo\n"), file("stuck", ""));
    let server = talkative();
    let mut command = Command::new(program());
    command.args(["-q", "--timeout", "1", "--undelivered", &left, &server.url()]);
    command.stdin(fs::File::open(&input).unwrap()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (stdout, stderr) = (child.stdout.take(), lines(child.stderr.take().unwrap()));
    let nothing = bounded(0).1;
    let (code, _, err) = Wscat { child, stdin: None, stdout: nothing, stderr }.end();
    drop(stdout);
    assert_eq!((code, &*fs::read_to_string(&left).unwrap()), (5, "one\ntwo\n"), "{err}");
    assert!(err.contains("perhaps not delivered: 2\n"), "{err}");
    assert!(err.ends_with("wscat: the time of --timeout was over\n"), "{err}");
}

#[cfg(unix)]
#[test]
fn the_file_keeps_who_may_read_it_and_is_made_again_where_it_was_taken_away() {
    use std::os::unix::fs::PermissionsExt;

    let (server, left) = (Server::echo(), file("mode", ""));
    fs::set_permissions(&left, fs::Permissions::from_mode(0o640)).unwrap();
    let input = file("mode-input", "no hex\n");
    feed(&["-q", "--binary=hex", "--undelivered", &left], &server.url(), &input);
    assert_eq!(fs::metadata(&left).unwrap().permissions().mode() & 0o777, 0o640);

    let mut wscat = Wscat::start(&["-q", "--binary=hex", "--undelivered", &left], &server.url());
    wscat.say("ab\n");
    assert_eq!(wscat.hear(), "ab\n");
    fs::remove_file(&left).unwrap();
    let (code, _, err) = wscat.input("no hex\n").end();
    assert_eq!((code, &*fs::read_to_string(&left).unwrap()), (4, "no hex\n"), "{err}");

    fs::remove_file(&left).unwrap();
    assert!(Command::new("mkfifo").arg(&left).status().unwrap().success());
    let (code, _, err) = run(&["-q", "--undelivered", &left], &server.url(), "");
    assert!(code == 2 && err.contains("it is a pipe: name a file"), "{err}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_can_not_be_written_whole_stays_as_it_was() {
    let server = talkative();
    let left = file("whole", "one\ntwo\n");
    // No file may grow.
    let script = "ulimit -f 0; exec \"$0\" -q --timeout 1 --undelivered \"$1\" \"$2\" <\"$1\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(program()).args([&left, &server.url()]).stdout(Stdio::null());
    let output = shell.output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), &*fs::read_to_string(&left).unwrap()),
        (Some(5), "one\ntwo\n"),
        "{err}"
    );
    assert!(err.contains("delivered: two\n") && err.contains(&format!("wscat: {left}: ")), "{err}");
}

#[test]
fn a_stdout_that_nobody_reads_for_long_costs_no_line() {
    const LINES: usize = 30;
    let server = Server::echo();
    let line = "x".repeat(4 << 20) + "\n";
    let mut command = Command::new(program());
    command.args(["-q", &server.url()]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (input, stderr) = (line.repeat(LINES), lines(child.stderr.take().unwrap()));
    thread::spawn(move || stdin.write_all(input.as_bytes()));
    // After ten seconds the library says that its caller takes nothing. Nobody outside sees that.
    thread::sleep(Duration::from_secs(12));
    let (code, echoes, err) = Wscat { child, stdin: None, stdout: lines(stdout), stderr }.end();
    assert!(code == 0 && echoes == line.repeat(LINES), "{code}, {} bytes: {err}", echoes.len());
}
