//! The example `wscat` in a pseudo-terminal: what becomes of what is typed, and of what a server says.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::common::{LONG, Server, accept, echo, listen, parrot, read_frame};
use crate::wscat::terminal::is_wild;

/// The program, and the user of its terminal.
struct Terminal {
    child: Child,
    keys: File,
    screen: Receiver<Vec<u8>>,
    seen: String,
    /// The program's side, and how it was set before the program began.
    device: OwnedFd,
    before: Vec<u8>,
}

impl Terminal {
    fn start(args: &[&str], url: &str) -> Self {
        Self::start_as("xterm", args, url)
    }

    /// Connected, with an empty line.
    fn at_prompt(args: &[&str], url: &str) -> Self {
        let mut terminal = Self::start(args, url);
        terminal.wait("a prompt", |t| t.shows("", "CONNECTED "));
        terminal
    }

    fn start_as(kind: &str, args: &[&str], url: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let test = std::env::current_exe().unwrap();
        let program = test.parent().unwrap().parent().unwrap().join("examples/wscat");
        let before = settings(&slave);
        let device = || Stdio::from(slave.try_clone().unwrap());
        let mut command = Command::new(program);
        // Its process group is its own: Ctrl-Z stops a whole one.
        command.args(args).arg(url).env("TERM", kind).env("NO_COLOR", "1").process_group(0);
        let child = command.stdin(device()).stdout(device()).stderr(device()).spawn().unwrap();
        // A user who looks at nothing takes no more than so many reads.
        let (sender, screen) = bounded(256);
        let keys = File::from(master);
        let mut output = keys.try_clone().unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // It fails when nobody holds the device any more.
            while let Ok(n) = output.read(&mut bytes) {
                if sender.send(bytes[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, keys, screen, seen: String::new(), device: slave, before }
    }

    fn strike(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen is so.
    fn wait(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + LONG;
        while !is_so(self) {
            let bytes = self.screen.recv_deadline(until);
            let bytes = bytes.unwrap_or_else(|_| panic!("never saw {what:?}: {:?}", self.seen));
            self.seen.push_str(&String::from_utf8_lossy(&bytes));
        }
    }

    /// What stands in the row of the cursor, without what only moves it.
    fn row(&self) -> String {
        let row = self.seen.rsplit('\n').next().unwrap_or_default();
        let row = row.rsplit("\x1b[K").next().unwrap_or_default();
        let row = row.rsplit("\x1b[2K").next().unwrap_or_default();
        row.split('\r').next().unwrap_or_default().trim_end().to_owned()
    }

    /// The row is this line and the status behind it.
    fn shows(&self, line: &str, state: &str) -> bool {
        self.row().strip_prefix(&format!("> {line}  ")).is_some_and(|status| status.starts_with(state))
    }

    /// Whether the device is set as it was before the program began.
    fn is_as_before(&self) -> bool {
        settings(&self.device) == self.before
    }

    /// Ctrl-C is `INT` while no line is edited.
    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    /// The end of the program: its exit code.
    fn end(&mut self) -> i32 {
        crate::common::eventually("the end of the program", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code().unwrap()
    }
}

/// A server that takes everything and answers nothing.
fn mute() -> Server {
    Server::start(|_, stream| {
        let mut bytes = [0; 1024];
        let socket = accept(stream);
        while socket.get_ref().read(&mut bytes).is_ok_and(|n| n > 0) {}
    })
}

fn settings(device: &OwnedFd) -> Vec<u8> {
    let device = Stdio::from(device.try_clone().unwrap());
    let settings = Command::new("stty").arg("-g").stdin(device).output().unwrap().stdout;
    assert!(!settings.is_empty());
    settings
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_being_typed_stays_on_the_screen_while_the_line_is_lost_and_messages_come() {
    let (step_in, step) = bounded::<()>(0);
    let server = Server::start(move |n, stream| match n {
        0 => {
            let mut socket = accept(stream);
            step.recv().unwrap();
            socket.send("news".into()).unwrap();
            step.recv().unwrap();
        }
        1 => {
            drop(stream); // an attempt that fails
            step.recv().unwrap();
        }
        2 => {
            step.recv().unwrap();
            echo(accept(stream));
        }
        _ => {}
    });
    let mut terminal = Terminal::at_prompt(&["--heartbeat", "3600"], &server.url());
    terminal.strike("hel");
    terminal.wait("what was typed", |t| t.shows("hel", "CONNECTED "));
    step_in.send_timeout((), LONG).unwrap();
    terminal.wait("the message", |t| t.seen.contains("< news\r\n") && t.row().contains("received 1"));
    assert!(terminal.shows("hel", "CONNECTED "), "{:?}", terminal.row());
    step_in.send_timeout((), LONG).unwrap();
    terminal.wait("the loss", |t| t.shows("hel", "DISCONNECTED  next try in "));
    terminal.strike("lx");
    terminal.wait("more", |t| t.shows("hellx", ""));
    step_in.send_timeout((), LONG).unwrap();
    terminal.wait("an attempt", |t| t.shows("hellx", "CONNECTING "));
    terminal.strike("\x7fo");
    terminal.wait("a correction", |t| t.shows("hello", ""));
    terminal.strike("\r");
    terminal.wait("an entered line", |t| {
        t.seen.contains("> hello\r") && t.shows("", "") && t.row().contains("  waiting 1, sent later")
    });
    step_in.send_timeout((), LONG).unwrap();
    terminal.wait("its echo", |t| t.seen.contains("< hello\r\n") && t.row().contains("received 2"));
    terminal.strike("\x04");
    assert_eq!(terminal.end(), 0);
    assert!(terminal.is_as_before());
}

#[test]
fn lines_are_edited_remembered_and_completed() {
    let server = Server::echo();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("hlo\x1b[D\x1b[Del");
    terminal.wait("an insertion", |t| t.shows("hello", ""));
    terminal.strike("\x05 you\x17me");
    terminal.wait("a word less", |t| t.shows("hello me", ""));
    terminal.strike("\r");
    terminal.wait("the echo", |t| t.seen.contains("< hello me\r\n") && t.shows("", ""));
    terminal.strike("\x1b[A");
    terminal.wait("the line before", |t| t.shows("hello me", ""));
    terminal.strike("\x15/st\t");
    terminal.wait("a command", |t| t.shows("/stats", ""));
    terminal.strike("\r");
    terminal.wait("what was counted", |t| t.seen.contains("connected 1 of 1 times; "));
    terminal.strike("/nope\r");
    terminal.wait("a refusal", |t| t.seen.contains("there is no command \"/nope\""));
    terminal.strike("//slash\r");
    terminal.wait("its echo", |t| t.seen.contains("< /slash\r\n"));
    // What is typed ahead of the prompt is kept, whatever comes together.
    terminal.strike("1st\r2nd\r3");
    terminal.wait("two lines, and a part", |t| t.seen.contains("< 2nd\r\n") && t.shows("3", ""));
    terminal.strike("rd\r");
    terminal.wait("all", |t| ["< 1st\r\n", "< 3rd\r\n"].iter().all(|line| t.seen.contains(line)));
    // What is pasted is sent line by line.
    terminal.strike("\x1b[200~one\ntwo\x1b[201~\r");
    terminal.wait("both", |t| t.seen.contains("< one\r\n") && t.seen.contains("< two\r\n"));
    // So is the end of the input.
    terminal.strike("last\r\x04");
    assert_eq!(terminal.end(), 0);
    terminal.wait("the end", |t| t.seen.contains("CLOSED") && t.seen.contains("sent 8 "));
}

#[test]
fn commands_end_connections_and_make_new_ones() {
    let (seen_in, seen) = unbounded();
    let server = Server::start(move |n, stream| {
        let mut socket = accept(stream);
        loop {
            match socket.read() {
                Ok(tungstenite::Message::Close(frame)) => {
                    seen_in
                        .send((n, frame.map(|frame| (u16::from(frame.code), frame.reason.to_string()))))
                        .unwrap();
                }
                Ok(message) if message.is_text() => _ = socket.send(message),
                Ok(_) => {}
                Err(_) => return,
            }
        }
    });
    let closed = || seen.recv_timeout(LONG).unwrap();
    let mut terminal = Terminal::at_prompt(&["--heartbeat", "3600"], &server.url());
    terminal.strike("/suspend\r");
    assert_eq!(closed().0, 0);
    terminal.wait("a line that is down", |t| t.shows("", "DISCONNECTED  suspended"));
    assert!(terminal.seen.contains("DISCONNECTED  as asked for; in doubt: none"), "{:?}", terminal.seen);
    terminal.strike("/ping\r");
    terminal.wait("an answer", |t| t.seen.contains("it is suspended: see /resume"));
    terminal.strike("kept\r");
    terminal.wait("a message that waits", |t| t.row().contains("  waiting 1, sent later"));
    terminal.strike("/resume\r");
    terminal.wait("its echo", |t| t.seen.contains("< kept\r\n"));
    terminal.strike("/reconnect\r");
    assert_eq!(closed().0, 1);
    terminal.wait("a third connection", |t| t.seen.matches("CONNECTED  to ").count() == 3);
    terminal.strike("/resume\r");
    terminal.wait("an answer", |t| t.seen.contains("it is not suspended"));
    // Another is due in an hour.
    terminal.strike("/ping\r");
    terminal.wait("a round trip", |t| t.seen.contains("\na ping was answered after "));
    terminal.strike("/help\r");
    terminal.wait("help", |t| t.seen.contains("/close [CODE [REASON]]"));
    terminal.strike("/close 1005\r");
    terminal.wait("a refusal", |t| t.seen.contains("not closed: ") && t.shows("", "CONNECTED "));
    terminal.strike("/close 4001 good bye\r");
    assert_eq!(closed(), (2, Some((4001, "good bye".into()))));
    assert_eq!(terminal.end(), 0);
    assert!(terminal.is_as_before());
    terminal.wait("a paste without brackets", |t| t.seen.rfind("\x1b[?2004h") < t.seen.rfind("\x1b[?2004l"));
}

#[test]
fn commands_that_are_struck_together_are_done_in_their_order() {
    let server = Server::echo();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("/suspend\r/resume\r/suspend\r/ping\r/resume\rkept\r");
    terminal.wait("the echo", |t| t.seen.contains("< kept\r\n"));
    assert_eq!(terminal.seen.matches("it is suspended: see /resume").count(), 1, "{:?}", terminal.seen);
    assert!(!terminal.seen.contains("it is not suspended"), "{:?}", terminal.seen);
    terminal.strike("\x04");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn ctrl_c_closes_the_line_in_each_phase() {
    // While it connects.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut terminal = Terminal::start(&[], &format!("ws://{}", silent.local_addr().unwrap()));
    terminal.wait("an attempt", |t| t.seen.contains("CONNECTING"));
    terminal.signal("INT");
    assert_eq!(terminal.end(), 130);

    // At the prompt, with half a line: the server gets a close frame.
    let (seen_in, seen) = unbounded();
    let server = Server::start(move |n, stream| {
        let mut socket = accept(stream);
        if n == 1 {
            return;
        }
        while let Ok(message) = socket.read() {
            if let tungstenite::Message::Close(Some(frame)) = message {
                seen_in.send(u16::from(frame.code)).unwrap();
            }
        }
    });
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("half\x03");
    assert_eq!((terminal.end(), seen.recv_timeout(LONG).unwrap()), (130, 1000));
    assert!(terminal.is_as_before());
    // What was half typed stays.
    terminal.wait("the end", |t| t.seen.contains("> half\r\n") && t.seen.contains("CLOSED "));

    // While the line is down.
    let mut terminal = Terminal::start(&[], &server.url());
    terminal.wait("the loss", |t| t.shows("", "DISCONNECTED "));
    terminal.strike("\x03");
    assert_eq!(terminal.end(), 130);
    assert!(terminal.is_as_before());
}

#[test]
fn ctrl_c_ends_it_at_once_while_the_line_is_closed() {
    let server = mute();
    for end in ["\x03", "\x04", "/close\r"] {
        let mut terminal = Terminal::at_prompt(&[], &server.url());
        terminal.strike(end);
        terminal.wait("the end", |t| t.shows("", "CLOSING "));
        terminal.strike("\x03");
        assert_eq!(terminal.end(), 130, "{end:?}");
        assert!(terminal.is_as_before());
    }
}

#[test]
fn a_second_signal_leaves_the_terminal_as_it_was() {
    let server = mute();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("typed");
    terminal.wait("what was typed", |t| t.shows("typed", ""));
    terminal.signal("INT");
    // Two that come together are one.
    terminal.wait("the end", |t| t.shows("typed", "CLOSING "));
    terminal.signal("INT");
    assert_eq!(terminal.end(), 130);
    assert!(terminal.is_as_before());
    // What was half typed stays, and the next program begins a row of its own.
    terminal.wait("the end", |t| t.seen.contains("> typed\r\n") && t.seen.contains("CLOSED  rtt"));
    terminal.wait("a clear row", |t| t.seen.ends_with('\n'));
}

#[test]
fn nothing_that_a_server_says_is_obeyed() {
    const WILD: &str = "a\u{9B}31mb\u{7F}c\u{202E}d\u{200B}e\u{2028}f\u{E0041}g";
    for args in [&[][..], &["--json"], &["-v"], &["--log-format", "json"]] {
        let server = Server::start(|_, stream| {
            let mut socket = accept(stream);
            socket.send(WILD.into()).unwrap();
            socket.send(serde_json::json!({"key": WILD}).to_string().into()).unwrap();
            let reason = format!("{WILD}\u{1B}[2J\r\n");
            let frame = tungstenite::protocol::CloseFrame { code: 1008.into(), reason: reason.into() };
            let _ = socket.close(Some(frame));
            listen(socket);
        });
        let mut terminal = Terminal::start(args, &server.url());
        terminal.wait("the end", |t| t.seen.contains("wscat: ") && t.seen.ends_with("\r\n"));
        assert_eq!(terminal.end(), 3);
        let ours = [
            "\x1b[2K",
            "\x1b[K",
            "\x1b[A",
            "\x1b[2C",
            "\x1b[?2004h",
            "\x1b[?2004l",
            "\x1b[?2026h",
            "\x1b[?2026l",
        ];
        let rest = ours.iter().fold(terminal.seen.clone(), |seen, own| seen.replace(own, ""));
        assert!(!rest.contains(|c| is_wild(c) && !matches!(c, '\r' | '\n')), "{args:?}: {rest:?}");
        assert!(rest.contains("close code 1008"), "{rest:?}");
    }
}

/// A server that sends a message whenever the test asks for one.
fn telling() -> (Server, Sender<&'static str>) {
    let (tell, told) = bounded::<&str>(0);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        for text in &told {
            socket.send(text.into()).unwrap();
        }
        listen(socket);
    });
    (server, tell)
}

#[test]
fn half_a_key_and_a_search_hold_nothing_back_for_long() {
    let (server, tell) = telling();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("half\x1b");
    tell.send_timeout("news", LONG).unwrap();
    terminal.wait("a message", |t| t.seen.contains("< news\r\n") && t.shows("half", "CONNECTED "));

    // While the history is searched, messages wait for the next key, and the status for the end of the search.
    let (server, tell) = telling();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("kept\r");
    terminal.wait("a new line", |t| t.row().contains("sent 1"));
    terminal.strike("\x12ke");
    terminal.wait("a search", |t| t.row().ends_with("`ke': kept"));
    tell.send_timeout("more", LONG).unwrap();
    terminal.strike("p");
    terminal.wait("more of it", |t| t.row().ends_with("`kep': kept"));
    terminal.strike("\x07");
    terminal.wait("the prompt", |t| t.seen.contains("< more\r\n") && t.shows("", "CONNECTED "));
    // The first Ctrl-C ends the search, and so does Tab.
    for ends in ["\x03", "\t"] {
        terminal.strike("\x12");
        terminal.wait("a search", |t| t.row().ends_with("`':"));
        terminal.strike(ends);
        terminal.wait("the prompt", |t| t.shows("", "CONNECTED "));
    }
    // A message finds the screen free behind a completion.
    terminal.strike("/\t/re\t");
    terminal.wait("the commands", |t| t.seen.contains("/stats\r\n/suspend\r\n") && t.shows("//re", ""));
    terminal.strike("\x15/sta\t");
    terminal.wait("one of them", |t| t.shows("/stats", ""));
    tell.send_timeout("last", LONG).unwrap();
    terminal.wait("a message", |t| t.seen.contains("< last\r\n") && t.shows("/stats", ""));
    drop(tell);
    terminal.strike("\x15\x03");
    assert_eq!(terminal.end(), 130);
    assert!(terminal.is_as_before());
}

#[test]
fn ctrl_z_stops_it_with_the_terminal_as_it_was_and_it_goes_on_with_what_was_typed() {
    let (server, tell) = telling();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("half");
    terminal.wait("what was typed", |t| t.shows("half", ""));
    let pid = Pid::from_raw(terminal.child.id().try_into().unwrap());
    for _ in 0..3 {
        terminal.strike("\x1a");
        let stopped = Some(WaitPidFlag::WUNTRACED);
        assert_eq!(waitpid(pid, stopped).unwrap(), WaitStatus::Stopped(pid, Signal::SIGTSTP));
        assert!(terminal.is_as_before());
        terminal.signal("CONT");
        crate::common::eventually("a prompt", || !terminal.is_as_before());
        terminal.strike("\x7f");
    }
    terminal.wait("edited", |t| t.shows("h", "CONNECTED "));
    tell.send_timeout("news", LONG).unwrap();
    terminal.wait("a message", |t| t.seen.contains("< news\r\n") && t.shows("h", "CONNECTED "));
    drop(tell);
    terminal.strike("\x03");
    assert_eq!(terminal.end(), 130);
    assert!(terminal.is_as_before());
}

#[test]
fn the_log_and_a_quiet_program_have_a_prompt_too() {
    let (server, tell) = telling();
    let mut terminal = Terminal::at_prompt(&["-v"], &server.url());
    terminal.strike("half");
    terminal.wait("what was typed", |t| t.shows("half", ""));
    terminal.signal("TERM");
    drop(tell);
    assert_eq!(terminal.end(), 130);
    terminal.wait("the log", |t| t.seen.contains("CONNECTED -> CLOSING") && t.seen.contains("CLOSED  rtt "));
    // Each line of the log begins a row, also while a line is edited.
    let lines: Vec<_> = terminal.seen.split('\n').filter(|line| line.contains(" INFO ")).collect();
    let begins = |line: &&str| line.rsplit(['\r', 'K', 'l']).any(|part| part.starts_with("[2"));
    assert!(lines.len() >= 4 && lines.iter().all(begins), "{lines:?}");

    let (server, tell) = telling();
    let mut terminal = Terminal::start(&["-q"], &server.url());
    terminal.wait("a prompt", |t| t.row() == ">");
    tell.send_timeout("news", LONG).unwrap();
    terminal.wait("a message", |t| t.seen.contains("< news\r\n"));
    terminal.strike("/stats\r");
    terminal.wait("an answer", |t| t.seen.contains("connected 1 of 1 times"));
    drop(tell);
    terminal.strike("\x03");
    assert_eq!(terminal.end(), 130);
    assert!(!terminal.seen.contains("CLOSED"), "{:?}", terminal.seen);
}

#[test]
fn a_terminal_that_edits_no_lines_has_the_commands_too() {
    let (server, tell) = telling();
    let mut terminal = Terminal::start_as("dumb", &[], &server.url());
    terminal.wait("the line", |t| t.seen.contains("CONNECTED  to "));
    tell.send_timeout("news", LONG).unwrap();
    terminal.wait("a message", |t| t.seen.contains("\nnews\r\n"));
    terminal.strike("/stats\n");
    terminal.wait("an answer", |t| t.seen.contains("connected 1 of 1 times"));
    drop(tell);
    // The first sends what was typed.
    terminal.strike("half\x04\x04");
    assert_eq!(terminal.end(), 0);
    assert!(!terminal.seen.contains('\x1b'), "{:?}", terminal.seen);
}

#[test]
fn after_ctrl_d_it_says_that_it_is_ending_and_goes_on_until_all_is_sent() {
    let (server, seen) = parrot();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("/suspend\r");
    terminal.wait("a line that is down", |t| t.shows("", "DISCONNECTED  suspended"));
    // An empty line is no message, and neither is one at the end of what is pasted.
    terminal.strike("\r\x1b[200~one\ntwo\n\x1b[201~\r");
    terminal.wait("two that wait", |t| t.row().contains("  waiting 2, sent later"));
    terminal.strike("\x04");
    terminal.wait("the end, said", |t| t.shows("", "DISCONNECTED  ending (Ctrl-C: now)  suspended"));
    terminal.strike("/resume\r");
    assert_eq!(terminal.end(), 0);
    assert_eq!(*seen.lock().unwrap(), ["one", "two"]);
    terminal.wait("the echoes", |t| t.seen.contains("< one\r\n") && t.seen.contains("< two\r\n"));
}

#[test]
fn a_paste_whose_end_never_comes_holds_up_nobody() {
    let (server, tell) = telling();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("kept\x1b[200~half\r\n");
    tell.send_timeout("news", LONG).unwrap();
    terminal.wait("a message", |t| t.seen.contains("< news\r\n") && t.shows("kept", ""));
    terminal.strike("\x03");
    drop(tell);
    assert_eq!(terminal.end(), 130);
    assert!(terminal.is_as_before());
    // What came of it was typed, and stays.
    terminal.wait("the end", |t| t.seen.contains("> kepthalf\r\n"));
}

#[test]
fn what_is_pasted_comes_as_it_is_whatever_keys_it_looks_like() {
    let (server, seen) = parrot();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("a\x1b[200~\tb\x03\x04\x12\x1a\r\nc\rd\ne\x1b[D\x1b[201~f\r\x04");
    assert_eq!(terminal.end(), 0);
    assert_eq!(*seen.lock().unwrap(), ["a\tb\x03\x04\x12\x1a", "c", "d", "ef"]);
}

#[test]
fn a_paste_may_be_longer_than_the_outbox_of_others() {
    let (server, seen) = parrot();
    let lines: Vec<_> = (0..3000).map(|n| n.to_string()).collect();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike(&format!("\x1b[200~{}\x1b[201~\r", lines.join("\n")));
    terminal.wait("the last echo", |t| t.seen.contains("< 2999\r\n"));
    terminal.strike("\x04");
    assert_eq!(terminal.end(), 0);
    assert_eq!(*seen.lock().unwrap(), lines);
}

#[test]
fn a_paste_with_bytes_that_are_no_text_ends_there_and_keeps_what_came_before() {
    let (server, seen) = parrot();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("\x1b[200~one\r");
    terminal.keys.write_all(b"\xff\x1b[201~").unwrap();
    terminal.wait("the reason", |t| t.seen.contains("left out: a key that is no UTF-8"));
    terminal.strike("two\r\x04");
    assert_eq!(terminal.end(), 0);
    assert_eq!(*seen.lock().unwrap(), ["one", "two"]);
}

#[test]
fn each_line_of_a_paste_goes_out_or_is_told_whenever_the_end_comes() {
    let (server, seen) = parrot();
    let lines: Vec<_> = (0..500).map(|n| format!("line {n}.")).collect();
    for end in ["\x03", "\x04\x03", "/close\r", "/suspend\r\x03\x03"] {
        let mut terminal = Terminal::at_prompt(&[], &server.url());
        terminal.strike(&format!("\x1b[200~{}\x1b[201~\r{end}", lines.join("\n")));
        terminal.end();
        let sent: Vec<_> = seen.lock().unwrap().drain(..).collect();
        let lost: Vec<_> = lines.iter().filter(|line| !sent.contains(line)).collect();
        terminal.wait("what was lost", |t| {
            lost.iter().all(|line| t.seen.contains(&format!("delivered: {line}\r\n")))
        });
    }
}

#[test]
fn what_comes_while_the_line_is_closed_stands_in_rows_of_its_own() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        while read_frame(socket.get_mut()).is_some_and(|(opcode, _)| opcode != 8) {}
        socket.send("last".into()).unwrap();
        let _ = socket.close(None);
        let _ = socket.flush();
    });
    // Without a prompt.
    let mut terminal = Terminal::start(&["-x", "first", "-w", "3600"], &server.url());
    terminal.wait("the status", |t| t.seen.contains("CONNECTED  rtt"));
    terminal.signal("INT");
    assert_eq!(terminal.end(), 130);
    terminal.wait("the last message", |t| t.seen.contains("\x1b[2Klast\r\n"));
}

#[test]
fn a_byte_that_is_no_text_costs_nothing_of_what_was_typed() {
    let (server, seen) = parrot();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    terminal.strike("before");
    terminal.wait("what was typed", |t| t.shows("before", ""));
    terminal.keys.write_all(b"\xff").unwrap();
    terminal.wait("the line again", |t| t.seen.matches("\x1b[?2004h").count() == 2 && t.shows("before", ""));
    terminal.strike(" and after\r");
    terminal.wait("the echo", |t| t.seen.contains("< before and after\r\n"));
    terminal.strike("\x04");
    assert_eq!(terminal.end(), 0);
    assert_eq!(*seen.lock().unwrap(), ["before and after"]);
}

#[test]
fn each_row_of_a_message_bears_its_mark_and_what_is_typed_is_not_obeyed_either() {
    let (server, tell) = telling();
    let mut terminal = Terminal::at_prompt(&[], &server.url());
    tell.send_timeout("one\nCLOSED\n\nwscat: two", LONG).unwrap();
    let marked = "< one\r\n< CLOSED\r\n< \r\n< wscat: two\r\n";
    terminal.wait("all rows", |t| t.seen.contains(marked));
    terminal.strike("\x1b[200~a\x07b\u{9B}31m\u{202E}c\x1b[201~");
    terminal.wait("what was pasted", |t| t.shows("ab31mc", ""));
    assert!(!terminal.seen.contains(['\x07', '\u{9B}', '\u{202E}']), "{:?}", terminal.seen);
    drop(tell);
    terminal.strike("\x03");
    assert_eq!(terminal.end(), 130);
}

#[test]
fn a_normal_close_by_the_server_is_told() {
    let server = Server::start(|_, stream| {
        let mut socket = accept(stream);
        let frame = tungstenite::protocol::CloseFrame { code: 1000.into(), reason: "that is all".into() };
        let _ = socket.close(Some(frame));
        listen(socket);
    });
    let mut terminal = Terminal::start(&[], &server.url());
    assert_eq!(terminal.end(), 0);
    terminal.wait("the end", |t| {
        t.seen.contains("CLOSED  the server closed the line with ") && t.seen.contains("that is all")
    });
}

#[test]
fn a_ping_is_not_sent_where_heartbeats_are_off() {
    let server = Server::echo();
    let mut terminal = Terminal::at_prompt(&["--heartbeat", "off"], &server.url());
    terminal.strike("/ping\r");
    terminal.wait("an answer", |t| t.seen.contains("not sent: --heartbeat is off"));
    terminal.strike("\x04");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn what_is_typed_for_a_server_that_never_answers_goes_to_nobody_else() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let mut terminal = Terminal::start(&["--connect-timeout", "0.5"], &url);
    terminal.wait("an attempt", |t| t.seen.contains("CONNECTING"));
    terminal.strike("rm x\n");
    terminal.wait("its echo", |t| t.seen.contains("rm x"));
    assert_eq!(terminal.end(), 1);
    // What is left in the device can be read at once.
    let device = || Stdio::from(terminal.device.try_clone().unwrap());
    let settings = ["-icanon", "min", "0", "time", "0"];
    assert!(Command::new("stty").args(settings).stdin(device()).status().unwrap().success());
    let mut left = String::new();
    File::from(terminal.device.try_clone().unwrap()).read_to_string(&mut left).unwrap();
    assert_eq!(left, "");
}

#[test]
fn a_terminal_that_takes_nothing_does_not_keep_it() {
    let (sent_in, sent) = bounded(1);
    let server = Server::start(move |_, stream| {
        let mut socket = accept(stream);
        let line = "x".repeat(100);
        (0..20_000).for_each(|_| socket.write(line.as_str().into()).unwrap());
        socket.flush().unwrap();
        sent_in.send(()).unwrap();
        listen(socket);
    });
    let mut terminal = Terminal::start(&[], &server.url());
    sent.recv_timeout(LONG).unwrap();
    crate::common::eventually("a screen that nobody looks at", || terminal.screen.is_full());
    // No key is read, but the terminal makes a signal of Ctrl-C.
    crate::common::eventually("a key for signals", || {
        let shown = Command::new("stty").arg("-a").stdin(terminal.device.try_clone().unwrap()).output();
        String::from_utf8(shown.unwrap().stdout).unwrap().split_whitespace().any(|word| word == "isig")
    });
    terminal.signal("INT");
    assert_eq!(terminal.end(), 130);
    assert!(terminal.is_as_before());
}
