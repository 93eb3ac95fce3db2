//! What is typed at a terminal: messages and commands.

use std::io;
use std::sync::atomic::Ordering;

use tautline::ConnectionState::Connected;
use tautline::{Beat, SendErrorKind};

use super::super::commands::{self, Command};
use super::super::terminal::one_line;
use super::super::verbose::bytes;
use super::Session;

impl Session {
    /// Does what was typed: sends it, or obeys. An empty line does nothing.
    pub(super) fn enter(&mut self, line: &str) -> io::Result<()> {
        if line.is_empty() {
            return Ok(());
        }
        let text = match commands::parse(line) {
            Ok(Ok(command)) => {
                self.obey(command);
                return Ok(());
            }
            Ok(Err(text)) => text,
            Err(what) => {
                self.say(&what);
                return Ok(());
            }
        };
        let message = match self.options.shape.message(text.into()) {
            Ok(message) => message,
            Err(what) => {
                self.say(&format!("not sent: {what}"));
                return Ok(());
            }
        };
        match self.client.try_send(message.clone()) {
            Ok(_) => {
                self.sent.as_ref().map(|sent| sent.try_send(()));
                self.read(text.into(), &message)
            }
            Err(error) => {
                self.undelivered.missing.push(text.into());
                let why = match error.kind() {
                    SendErrorKind::Full { messages, .. } => format!("{messages} messages wait already"),
                    SendErrorKind::Closed => "the line is closed".to_owned(),
                    _ => error.to_string(),
                };
                self.say(&format!("not sent: {why}"));
                Ok(())
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let line = self.client.status();
        match command {
            Command::Close { code, reason } => {
                self.begin_end();
                match self.client.close_with(code, &reason) {
                    Ok(left) => self.closed = Some(left),
                    Err(error) => {
                        self.signals.is_open.store(true, Ordering::SeqCst);
                        self.say(&format!("not closed: {error}"));
                    }
                }
            }
            Command::Resume if line.suspended => self.client.resume(),
            Command::Resume => self.say("it is not suspended"),
            Command::Ping | Command::Reconnect | Command::Suspend if line.suspended => {
                self.say("it is suspended: see /resume");
            }
            Command::Ping if line.state == Connected && !line.ready => {
                self.say("not sent: the login is not accepted yet");
            }
            Command::Ping if line.ready && self.options.config.heartbeat.beat == Beat::Off => {
                self.say("not sent: --heartbeat is off");
            }
            Command::Ping => {
                self.is_asked = line.ready;
                self.client.reconnect_now();
            }
            Command::Reconnect => self.client.reconnect(),
            Command::Suspend => self.client.suspend(),
            Command::Help => self.screen.answer(commands::HELP),
            Command::Stats => {
                let done = self.client.stats();
                self.say(&line.to_string());
                self.say(&format!(
                    "connected {} of {} times; {} written, {} read",
                    done.connects,
                    done.attempts,
                    bytes(done.bytes_written),
                    bytes(done.bytes_read)
                ));
            }
        }
    }

    /// Shows a line of this program's own.
    pub(super) fn say(&self, what: &str) {
        self.screen.answer(&format!("{}\n", one_line(what)));
    }
}
