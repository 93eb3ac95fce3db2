//! The running program, and servers for it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::common;
use crate::common::{LONG, Server, accept, listen};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use tungstenite::Message;
use tungstenite::protocol::CloseFrame;

/// The program, which `cargo test` builds beside the tests: `target/<profile>/{deps/<this test>,examples/wscat}`.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let name = format!("wscat{}", std::env::consts::EXE_SUFFIX);
    let program = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is missing: cargo build --example wscat", program.display());
    program
}

/// A running program, killed when it is dropped. Threads write and read for the test, which waits on channels alone.
pub(crate) struct Wscat {
    pub(crate) child: Child,
    pub(crate) stdin: Option<Sender<Vec<u8>>>,
    pub(crate) stdout: Receiver<Vec<u8>>,
    pub(crate) stderr: Receiver<Vec<u8>>,
}

impl Wscat {
    pub(crate) fn start(args: &[&str], url: &str) -> Self {
        Self::spawn(Command::new(program()).args(args).arg(url))
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (input, text) = unbounded::<Vec<u8>>();
        // A program that has ended reads no more; its exit code tells.
        thread::spawn(move || while text.recv().is_ok_and(|text| stdin.write_all(&text).is_ok()) {});
        let (stdout, stderr) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
        Self { child, stdin: Some(input), stdout, stderr }
    }

    pub(crate) fn say(&mut self, text: impl AsRef<[u8]>) {
        let _ = self.stdin.as_ref().unwrap().send(text.as_ref().to_vec());
    }

    /// The input ends with this text.
    pub(crate) fn input(mut self, text: impl AsRef<[u8]>) -> Self {
        self.say(text);
        self.stdin = None;
        self
    }

    /// The next line of its output.
    pub(crate) fn hear(&self) -> String {
        String::from_utf8(self.stdout.recv_timeout(LONG).expect("a line that never came")).unwrap()
    }

    /// The next line on stderr with this in it.
    pub(crate) fn see(&self, what: &str) -> String {
        loop {
            let line = self.stderr.recv_timeout(LONG).unwrap_or_else(|_| panic!("never saw {what:?}"));
            let line = String::from_utf8(line).unwrap();
            if line.contains(what) {
                return line;
            }
        }
    }

    /// The exit code, and what is left on stdout and stderr.
    pub(crate) fn end(mut self) -> (i32, String, String) {
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
pub(crate) fn lines(stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
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
pub(crate) fn rest(lines: &Receiver<Vec<u8>>) -> String {
    let mut rest: Vec<Vec<u8>> = Vec::new();
    loop {
        match lines.recv_timeout(LONG) {
            Ok(line) => rest.push(line),
            Err(RecvTimeoutError::Disconnected) => {
                return String::from_utf8_lossy(&rest.concat()).into_owned();
            }
            Err(RecvTimeoutError::Timeout) => {
                let last = rest.last().map(|line| String::from_utf8_lossy(line));
                panic!("no end after {} lines, the last of them {last:?}", rest.len());
            }
        }
    }
}

/// A whole run: arguments and input, then exit code, stdout and stderr.
pub(crate) fn run(args: &[&str], url: &str, input: impl AsRef<[u8]>) -> (i32, String, String) {
    Wscat::start(args, url).input(input).end()
}

/// The same, with an input that ends when so many lines came back.
pub(crate) fn talk(
    args: &[&str],
    url: &str,
    input: impl AsRef<[u8]>,
    lines: usize,
) -> (i32, Vec<u8>, String) {
    let mut wscat = Wscat::start(&[args, &["--wait", "0"]].concat(), url);
    wscat.say(input);
    let next = |_| wscat.stdout.recv_timeout(LONG).expect("a line that never came");
    let heard: Vec<u8> = (0..lines).flat_map(next).collect();
    let (code, out, err) = wscat.input("").end();
    assert_eq!(out, "", "more than {lines} lines");
    (code, heard, err)
}

/// A server that sends these at once, and then listens.
pub(crate) fn server_that_says(messages: Vec<Message>) -> Server {
    Server::start(move |_, stream| {
        let mut socket = accept(stream);
        for message in &messages {
            socket.send(message.clone()).unwrap();
        }
        listen(socket);
    })
}

/// A server that closes with this code as soon as it has a message.
pub(crate) fn server_that_closes_with(code: u16) -> Server {
    Server::start(move |_, stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if message.is_text() {
                let _ = socket.close(Some(CloseFrame { code: code.into(), reason: "enough".into() }));
            }
        }
    })
}

/// A file of this test process with this in it.
pub(crate) fn file(name: &str, content: impl AsRef<[u8]>) -> String {
    let path = std::env::temp_dir().join(format!("tautline-wscat-{}-{name}", std::process::id()));
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}
