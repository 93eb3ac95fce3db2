//! A WebSocket client for the command line: `cargo run --example wscat -- --help`.
#![allow(clippy::disallowed_methods, reason = "a program owns its clock")]

pub(crate) mod advice;
pub(crate) mod commands;
pub(crate) mod confirming;
pub(crate) mod input;
pub(crate) mod json;
pub(crate) mod keys;
pub(crate) mod line;
pub(crate) mod lock;
pub(crate) mod opening;
pub(crate) mod options;
pub(crate) mod output;
pub(crate) mod paper;
pub(crate) mod prompt;
pub(crate) mod screen;
pub(crate) mod session;
pub(crate) mod signals;
pub(crate) mod stdout;
pub(crate) mod terminal;
pub(crate) mod undelivered;
pub(crate) mod verbose;

use std::env;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use env_logger::{Target, WriteStyle};
use tautline::ConnectionState::{Connecting, Disconnected};
use tautline::{Client, Error};

use advice::explain;
use confirming::Confirming;
use input::Reader;
use options::Options;
use screen::Screen;
use session::Session;
use signals::Signals;
use terminal::one_line;

const OVER: &str = "the time of --timeout was over";

/// An exit code, and what is wrong.
type Failure = (u8, String);

fn main() -> ExitCode {
    let code = Options::parse(env::args_os().skip(1)).and_then(|options| options.map_or(Ok(0), run));
    code.unwrap_or_else(|(code, what)| complain(code, &what)).into()
}

/// Returns the exit code.
fn run(mut options: Options) -> Result<u8, Failure> {
    let began = Instant::now();
    terminal::remember();
    let signals = Signals::take().map_err(|error| (1, format!("signals: {error}")))?;
    options.ending.timeout.iter().for_each(|timeout| signals.end_in_time(*timeout));
    show_log(&options, &signals.is_open);
    let mut screen = Screen::new(&options);
    screen.draw(Connecting, "");
    let connected = connect(&mut options);
    paper::put(""); // clears the status, so that an error starts on a clean line
    if connected.is_err() && screen.typing {
        terminal::drop_typed();
    }
    let client = match connected {
        Ok(client) => client,
        Err(error @ (Error::InvalidUrl { .. } | Error::InvalidConfig { .. })) => {
            return Ok(explain(2, &error, &options));
        }
        Err(error) => {
            if options.shape.is_log() {
                let why = Some(&*error.to_string());
                // What can't be written is no reason to keep the error back.
                let _ = output::log_state(&mut io::stdout(), Disconnected, why, screen.shared);
            }
            let code = explain(1, &error, &options);
            let is_over = options.ending.timeout.is_some_and(|timeout| began.elapsed() >= timeout);
            return Ok(if is_over { complain(5, OVER) } else { code });
        }
    };
    signals.connected(&client);
    let no_thread = |error| (1, format!("a thread: {error}"));
    let confirming = Confirming::start(&client, &options).map_err(no_thread)?;
    let editor = screen.begin_prompt();
    let typed =
        Reader::start(&client, &options, editor, confirming.clone(), signals.clone()).map_err(no_thread)?;
    let session = Session::new(client, typed, signals, confirming, options, screen, began);
    let code = session.map_err(no_thread)?.run();
    terminal::give_back();
    Ok(code)
}

/// One attempt, of which no part takes longer than the whole program may.
fn connect(options: &mut Options) -> Result<Client, Error> {
    if let Some(timeout) = options.ending.timeout {
        options.config.connect_timeout = options.config.connect_timeout.min(timeout);
        options.config.login_timeout = options.config.login_timeout.min(timeout);
    }
    match options.opening.take() {
        None => Client::connect(&options.config),
        Some(opening) => Client::builder(&options.config).protocol(opening).connect(),
    }
}

/// Shows the library's log on stderr, if that is wanted.
fn show_log(options: &Options, open: &Arc<AtomicBool>) {
    let Some(level) = options.log else { return };
    let (mut log, opened) = (env_logger::Builder::new(), Arc::clone(open));
    log.format(move |out, record| {
        let (level, time) = (record.level(), out.timestamp());
        let (style, said) = (out.default_level_style(level), one_line(&record.args().to_string()));
        if !opened.load(Ordering::SeqCst) && said.starts_with(advice::ENDED) {
            return Ok(()); // that is the end of the program, which says why
        }
        writeln!(out, "[{time} {style}{level:<5}{style:#} {}] {said}", record.target())
    });
    let is_coloured = io::stderr().is_terminal() && terminal::has_colours();
    log.write_style(if is_coloured { WriteStyle::Always } else { WriteStyle::Never });
    log.target(Target::Pipe(Box::new(paper::Log)));
    log.filter_module("tautline", level).init();
}

/// Returns `code`, for the end of the program.
fn complain(code: u8, what: &str) -> u8 {
    writeln!(io::stderr(), "wscat: {}", one_line(what)).ok(); // a closed stderr can't be reported
    code
}
