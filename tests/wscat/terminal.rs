//! The example `wscat` on a terminal: what a server can do to it, and what becomes of what is typed.

use tautline::Message;

use crate::wscat::commands::{Command, parse};
use crate::wscat::options::Options;
use crate::wscat::output::print;
use crate::wscat::terminal::is_wild;

/// What is printed of a message on a terminal, or where there is none.
fn printed(flag: Option<&str>, message: impl Into<Message>, tame: bool) -> String {
    let args = flag.into_iter().chain(["ws://h"]).map(Into::into);
    let mut out = Vec::new();
    print(&mut out, &message.into(), &Options::parse(args).unwrap().unwrap().shape, tame).unwrap();
    String::from_utf8(out).unwrap()
}

/// All that a server may hide behind, one of each kind at least; and what it may say.
const WILD: [char; 52] = [
    '\0',
    '\x07',
    '\x08',
    '\x0B',
    '\r',
    '\x1B',
    '\x1F',
    '\x7F',
    '\u{80}',
    '\u{84}',
    '\u{85}',
    '\u{90}',
    '\u{9B}',
    '\u{9D}',
    '\u{9F}',
    '\u{AD}',
    '\u{34F}',
    '\u{61C}',
    '\u{115F}',
    '\u{1160}',
    '\u{17B4}',
    '\u{180B}',
    '\u{180E}',
    '\u{200B}',
    '\u{200C}',
    '\u{200D}',
    '\u{200E}',
    '\u{200F}',
    '\u{2028}',
    '\u{2029}',
    '\u{202A}',
    '\u{202B}',
    '\u{202C}',
    '\u{202D}',
    '\u{202E}',
    '\u{2060}',
    '\u{2064}',
    '\u{2066}',
    '\u{2067}',
    '\u{2068}',
    '\u{2069}',
    '\u{206F}',
    '\u{3164}',
    '\u{FEFF}',
    '\u{FFA0}',
    '\u{FFF9}',
    '\u{FFFB}',
    '\u{1D173}',
    '\u{E0001}',
    '\u{E0041}',
    '\u{E007F}',
    '\u{E0100}',
];
const HARMLESS: &str =
    "az ~|é e\u{301} ß → 漢字 한글 नमस्ते ไทย עברית مرحبا 👍 ❤\u{FE0F} 🇩🇪 \u{A0}\u{2003}\u{2013}\u{FFFD}";

#[test]
fn what_a_terminal_obeys_or_hides_is_wild_and_what_it_shows_is_not() {
    for c in WILD {
        assert!(is_wild(c), "{c:?}");
    }
    assert!(!HARMLESS.contains(is_wild));
    assert!((0..0x20).chain(0x7F..0xA0).filter_map(char::from_u32).all(is_wild), "all of C0, DEL and C1");
    assert_eq!(('\0'..='\u{10FFFF}').filter(|c| is_wild(*c)).count(), 4_228, "and nothing by mistake");
}

#[test]
fn on_a_terminal_a_message_is_text_and_nothing_else() {
    for c in WILD {
        let text = format!("{HARMLESS}{c}z\n\t{c}");
        assert_eq!(printed(None, text.as_str(), true), format!("{HARMLESS}\u{FFFD}z\n\t\u{FFFD}\n"), "{c:?}");
        assert_eq!(printed(None, text.as_str(), false), format!("{text}\n"), "{c:?}");
        assert_eq!(printed(Some("--json"), format!("no json {c}"), true), "no json \u{FFFD}\n", "{c:?}");
    }
}

#[test]
fn on_a_terminal_json_is_shown_without_what_it_obeys_and_means_the_same() {
    let text: String = WILD.iter().flat_map(|c| [*c, 'z']).chain(HARMLESS.chars()).collect();
    let value = serde_json::json!({"key": [text.as_str(), {text.as_str(): 1}], "other": "\"\\u{}"});
    for message in [Message::from(&value), value.to_string().into_bytes().into()] {
        let shown = printed(Some("--json"), message.clone(), true);
        assert!(!shown.contains(|c| is_wild(c) && c != '\n'), "{shown:?}");
        assert!(
            shown.contains("\\u009b") && shown.contains("\\u202e") && shown.contains("\\udb40\\udc41"),
            "{shown}"
        );
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        assert_eq!(printed(Some("--json"), message, false), format!("{value:#}\n"));
    }
}

#[test]
fn a_line_at_the_prompt_is_a_command_or_a_message() {
    let close = |code, reason: &str| Ok(Ok(Command::Close { code, reason: reason.into() }));
    for (line, meaning) in [
        ("", Ok(Err(""))),
        ("text /close", Ok(Err("text /close"))),
        ("//close", Ok(Err("/close"))),
        ("///", Ok(Err("//"))),
        ("/close", close(1000, "")),
        ("/close 4001", close(4001, "")),
        ("/close 4001  good bye ", close(4001, "good bye")),
        ("/reconnect ", Ok(Ok(Command::Reconnect))),
        ("/suspend", Ok(Ok(Command::Suspend))),
        ("/resume", Ok(Ok(Command::Resume))),
        ("/stats", Ok(Ok(Command::Stats))),
        ("/help", Ok(Ok(Command::Help))),
    ] {
        assert_eq!(parse(line), meaning, "{line:?}");
    }
    for (line, says) in
        [("/", "\"/\""), ("/nope", "\"/nope\""), ("/close now", "\"now\""), ("/stats all", "\"/stats all\"")]
    {
        assert!(parse(line).unwrap_err().contains(says), "{line:?}");
    }
}

#[cfg(unix)]
mod on_a_terminal {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::process::{Child, Command, Stdio};
    use std::thread;

    use crossbeam_channel::{Receiver, bounded, unbounded};
    use nix::pty::{OpenptyResult, Winsize, openpty};

    use super::is_wild;
    use crate::common::{LONG, Server, accept, echo, listen};

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
            let size = Winsize { ws_row: 24, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
            let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
            let test = std::env::current_exe().unwrap();
            let program = test.parent().unwrap().parent().unwrap().join("examples/wscat");
            let before = settings(&slave);
            let device = || Stdio::from(slave.try_clone().unwrap());
            let mut command = Command::new(program);
            command.args(args).arg(url).env("TERM", "xterm").env("NO_COLOR", "1");
            let child = command.stdin(device()).stdout(device()).stderr(device()).spawn().unwrap();
            let (sender, screen) = unbounded();
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
            while !is_so(self) {
                let bytes = self.screen.recv_timeout(LONG);
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

        /// What Ctrl-C is while no line is edited.
        fn signal(&self) {
            let pid = self.child.id().to_string();
            assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
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
        let mut terminal = Terminal::start(&["--heartbeat", "3600"], &server.url());
        terminal.wait("a prompt", |t| t.shows("", "CONNECTED "));
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
            t.seen.contains("> hello\r") && t.shows("", "") && t.row().ends_with("waiting 1, sent later")
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
        let mut terminal = Terminal::start(&[], &server.url());
        terminal.wait("a prompt", |t| t.shows("", "CONNECTED "));
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
        terminal.wait("what was counted", |t| t.seen.contains("1 connections of 1 attempts; "));
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
        let mut terminal = Terminal::start(&[], &server.url());
        terminal.wait("a prompt", |t| t.shows("", "CONNECTED "));
        terminal.strike("/suspend\r");
        assert_eq!(closed().0, 0);
        terminal.wait("a line that is down", |t| t.shows("", "DISCONNECTED  suspended"));
        terminal.strike("kept\r");
        terminal.wait("a message that waits", |t| t.row().ends_with("waiting 1, sent later"));
        terminal.strike("/resume\r");
        terminal.wait("its echo", |t| t.seen.contains("< kept\r\n"));
        terminal.strike("/reconnect\r");
        assert_eq!(closed().0, 1);
        terminal.wait("a third connection", |t| t.seen.matches("CONNECTED  to ").count() == 3);
        terminal.strike("/help\r");
        terminal.wait("help", |t| t.seen.contains("/close [CODE [REASON]]"));
        terminal.strike("/close 1005\r");
        terminal.wait("a refusal", |t| t.seen.contains("not closed: ") && t.shows("", "CONNECTED "));
        terminal.strike("/close 4001 good bye\r");
        assert_eq!(closed(), (2, Some((4001, "good bye".into()))));
        assert_eq!(terminal.end(), 0);
        assert!(terminal.is_as_before());
        terminal
            .wait("a paste without brackets", |t| t.seen.rfind("\x1b[?2004h") < t.seen.rfind("\x1b[?2004l"));
    }

    #[test]
    fn ctrl_c_closes_the_line_in_each_phase() {
        // While it connects.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut terminal = Terminal::start(&[], &format!("ws://{}", silent.local_addr().unwrap()));
        terminal.wait("an attempt", |t| t.seen.contains("CONNECTING"));
        terminal.signal();
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
        let mut terminal = Terminal::start(&[], &server.url());
        terminal.wait("a prompt", |t| t.shows("", "CONNECTED "));
        terminal.strike("half\x03");
        assert_eq!((terminal.end(), seen.recv_timeout(LONG).unwrap()), (130, 1000));
        assert!(terminal.is_as_before());
        terminal.wait("the end", |t| t.seen.contains("CLOSED"));

        // While the line is down.
        let mut terminal = Terminal::start(&[], &server.url());
        terminal.wait("the loss", |t| t.shows("", "DISCONNECTED "));
        terminal.strike("\x03");
        assert_eq!(terminal.end(), 130);
        assert!(terminal.is_as_before());
    }

    #[test]
    fn ctrl_c_twice_ends_a_server_that_does_not_answer() {
        let server = mute();
        let mut terminal = Terminal::start(&[], &server.url());
        terminal.wait("a prompt", |t| t.shows("", "CONNECTED "));
        terminal.strike("\x03");
        crate::common::eventually("the end of the prompt", || terminal.is_as_before());
        terminal.signal();
        assert_eq!(terminal.end(), 130);
        assert!(terminal.is_as_before());
    }

    #[test]
    fn a_second_signal_leaves_the_terminal_as_it_was() {
        let server = mute();
        let mut terminal = Terminal::start(&[], &server.url());
        terminal.wait("a prompt", |t| t.shows("", "CONNECTED "));
        terminal.strike("typed");
        terminal.wait("what was typed", |t| t.shows("typed", ""));
        terminal.signal();
        terminal.signal();
        assert_eq!(terminal.end(), 130);
        assert!(terminal.is_as_before());
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
}
