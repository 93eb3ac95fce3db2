//! What the tests with programs in C share.
#![allow(clippy::disallowed_methods, reason = "tests own their clocks and their threads")]
#![allow(dead_code, reason = "not every test program uses all of it")]
#![allow(unreachable_pub, reason = "a module that several test crates include")]

use std::env;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tautline::native_tls;
use tautline::testing::LoopbackServer;

/// What a client finds where it connects to.
#[derive(Clone, Copy, Debug)]
pub enum Mood {
    /// Nobody listens.
    Refused,
    /// A server accepts and says nothing.
    Silent,
    /// The same, when TLS is expected of it.
    SilentTls,
}

/// A server that says nothing. What connects to it waits in the queue of the system.
pub struct Silent(TcpListener);

impl Silent {
    pub fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").expect("there is a free port"))
    }

    pub fn url(&self, mood: Mood) -> String {
        let address = self.0.local_addr().expect("it is bound");
        match mood {
            Mood::Refused => {
                let nobody = TcpListener::bind("127.0.0.1:0").and_then(|nobody| nobody.local_addr());
                format!("ws://{}", nobody.expect("there is a free port"))
            }
            Mood::Silent => format!("ws://{address}"),
            Mood::SilentTls => format!("wss://{address}"),
        }
    }
}

/// A server that opens each line and then reads nothing. It keeps those that came last.
pub struct Stalled {
    server: LoopbackServer,
    /// The number of the newest line.
    newest: Arc<(Mutex<usize>, Condvar)>,
}

impl Stalled {
    pub fn start() -> Self {
        const KEPT: usize = 4;
        let newest = Arc::new((Mutex::new(0), Condvar::new()));
        let theirs = Arc::clone(&newest);
        let server = LoopbackServer::start(move |connection| {
            let number = connection.number();
            raise(&theirs, number);
            let newest = theirs.0.lock().unwrap_or_else(PoisonError::into_inner);
            drop(theirs.1.wait_while(newest, |newest| *newest < number + KEPT));
        });
        Self { server: server.expect("there is a free port"), newest }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }
}

fn raise(newest: &(Mutex<usize>, Condvar), number: usize) {
    let mut newest_now = newest.0.lock().unwrap_or_else(PoisonError::into_inner);
    *newest_now = number.max(*newest_now);
    newest.1.notify_all();
}

impl Drop for Stalled {
    fn drop(&mut self) {
        // Its connections end before it does.
        raise(&self.newest, usize::MAX);
    }
}

/// A server whose queue is full: an attempt to connect gets no answer.
pub struct Full(Silent, Vec<TcpStream>);

impl Full {
    pub fn start() -> Self {
        let server = Silent(TcpListener::bind("127.0.0.1:0").expect("there is a free port"));
        let address = server.0.local_addr().expect("it is bound");
        // The library of Rust lets the queue be as long as the system allows.
        // SAFETY: the descriptor is that of a socket that listens.
        assert_eq!(unsafe { libc::listen(server.0.as_raw_fd(), 0) }, 0);
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            waiting.push(stream);
        }
        Self(server, waiting)
    }

    pub fn url(&self) -> String {
        self.0.url(Mood::Silent)
    }
}

pub fn identity() -> native_tls::Identity {
    let (certificate, key) = (
        include_bytes!("../../../../tests/data/server.pem"),
        include_bytes!("../../../../tests/data/server.key"),
    );
    native_tls::Identity::from_pkcs8(certificate, key).expect("the certificate is right")
}

/// How long a program may run before it counts as stuck.
pub const LONG: Duration = Duration::from_secs(100);

pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder that the shared library was built into. It is that of the test program: the one above has what `cargo build` made.
pub fn built() -> PathBuf {
    let program = env::current_exe().expect("a test program has a path");
    let built = program.parent().expect("it is in a folder").to_owned();
    assert!(built.join("libtautline_c.so").exists(), "the shared library is not in {}", built.display());
    built
}

/// Whether there is such a program. Says so if there is none.
pub fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        println!("skipped: there is no {program}");
    }
    found
}

/// A folder for what this test makes, with the shared library under the name that programs look for.
pub fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&folder).expect("a folder can be made");
    let soname = folder.join("libtautline_c.so.0");
    let _ = fs::remove_file(&soname);
    std::os::unix::fs::symlink(built().join("libtautline_c.so"), soname).expect("a link can be made");
    folder
}

/// Compiles a file of this crate with all warnings, and returns the program.
pub fn compile(folder: &Path, source: &str, made: &str, options: &[&str]) -> PathBuf {
    let made = folder.join(made);
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g"]).args(options);
    command.arg("-I").arg(here().join("include")).arg(here().join(source)).arg("-o").arg(&made);
    command.arg(folder.join("libtautline_c.so.0")).arg(format!("-Wl,-rpath,{}", folder.display()));
    let done = command.output().expect("a C compiler runs");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    made
}

/// Runs a program to its end. Returns what it printed. One that fails, or is stuck, ends the test.
pub fn run(command: &mut Command) -> String {
    run_within(command, LONG)
}

/// Runs a program like [`run`], which counts as stuck after this time.
pub fn run_within(command: &mut Command, limit: Duration) -> String {
    let name = format!("{command:?}");
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let mut pipes = [
        Box::new(child.stdout.take().expect("it is piped")) as Box<dyn Read + Send>,
        Box::new(child.stderr.take().expect("it is piped")),
    ]
    .map(|mut pipe| {
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = pipe.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        })
    })
    .into_iter();
    let until = Instant::now() + limit;
    let status = loop {
        match child.try_wait().expect("it is a child of ours") {
            Some(status) => break Some(status),
            None if Instant::now() > until => {
                child.kill().expect("it is a child of ours");
                break None;
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut next = || pipes.next().and_then(|pipe| pipe.join().ok()).unwrap_or_default();
    let (out, err) = (next(), next());
    let status = status.unwrap_or_else(|| panic!("{name} is stuck:\n{out}{err}"));
    assert!(status.success(), "{name}: {status}\n{out}{err}");
    out
}
