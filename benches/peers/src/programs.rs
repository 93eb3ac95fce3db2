//! The clients in other languages. Each is a program that runs as a child of this one, takes an order on its standard
//! input, and answers with a line of figures.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{env, fs};

use crate::common::server::Server;

/// How a client is started, if it can be.
pub type Start = Option<Vec<PathBuf>>;

/// Builds the client in C++, unless an earlier run did. Says what is missing where that fails.
pub fn beast() -> Start {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("beast.cpp");
    let program = env::current_exe().ok()?.with_file_name("beast");
    let time = |file: &Path| fs::metadata(file).and_then(|it| it.modified()).ok();
    if time(&program).is_some_and(|built| time(&source).is_some_and(|written| written < built)) {
        return Some(vec![program]);
    }
    let made =
        Command::new("c++").args(["-std=c++17", "-O2", "-pthread", "-o"]).arg(&program).arg(&source).output();
    let reason = match made {
        Ok(output) if output.status.success() => return Some(vec![program]),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            said.lines().find(|line| line.contains("error")).unwrap_or("c++ fails").to_owned()
        }
        Err(error) => format!("c++: {error}"),
    };
    eprintln!(
        "peers: without Boost.Beast (C++), which `apt-get install g++ libboost-dev` installs: {reason}"
    );
    None
}

/// Finds a Python that has websockets: the one of the tests against other servers, or the system's.
pub fn websockets() -> Start {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let probe =
        "import websockets.sync.client, websockets.version as v; assert int(v.version.split('.')[0]) >= 15";
    for python in [folder.join("../../target/interop/python/bin/python"), "python3".into()] {
        let (out, errors) = (Stdio::null(), Stdio::null());
        let found = Command::new(&python).args(["-c", probe]).stdout(out).stderr(errors).status();
        if found.is_ok_and(|status| status.success()) {
            return Some(vec![python, folder.join("websockets_sync.py")]);
        }
    }
    eprintln!("peers: without websockets (Python), which `pip install 'websockets>=15'` installs");
    None
}

/// A client at work, which ends when this is dropped.
pub struct Program {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Program {
    /// The program's thread that reads, if it has one, runs on the processor `io`.
    pub fn connect(start: &[PathBuf], server: &Server, room: &str, io: Option<usize>) -> Self {
        let mut child = Command::new(&start[0])
            .args(&start[1..])
            .args(["127.0.0.1", &server.port(false).to_string(), room])
            .envs(io.map(|io| ("PEERS_IO", io.to_string())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Self { child, orders, answers }
    }

    /// Has the program do one block, and returns its figures.
    pub fn figures(&mut self, order: &str) -> Vec<f64> {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        let mut line = String::new();
        assert!(self.answers.read_line(&mut line).unwrap() > 0, "the program for `{order}` has died");
        line.split_whitespace().map(|figure| figure.parse().unwrap()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}
