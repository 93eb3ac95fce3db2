//! The program's options, and the signals that end it.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, bounded};

use crate::mock;

pub(crate) struct Options {
    pub(crate) url: Option<String>,
    pub(crate) email: String,
    pub(crate) password: String,
    pub(crate) watch: bool,
}

/// SIGINT and SIGTERM: the first asks the program to stop, the second ends it at once.
pub(crate) fn signals() -> Result<Receiver<()>, ctrlc::Error> {
    let (ask, stop) = bounded(1);
    let asked = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        ask.try_send(()).ok();
    })?;
    Ok(stop)
}

pub(crate) fn options() -> Result<Options, String> {
    let mut options =
        Options { url: None, email: "me@example.com".into(), password: mock::PASSWORD.into(), watch: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--watch" => options.watch = true,
            "--url" => options.url = Some(value()?),
            "--email" => options.email = value()?,
            "--password" => options.password = value()?,
            _ => {
                return Err(format!(
                    "unknown option {argument}; there are --watch, --url, --email, --password"
                ));
            }
        }
    }
    Ok(options)
}
