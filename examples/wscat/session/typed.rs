//! What is typed at a terminal: messages and commands.

use std::sync::atomic::Ordering;

use tautline::ConnectionState::{Closed, Connected};
use tautline::{Beat, SendErrorKind};

use super::super::commands::{self, Command, Meaning};
use super::super::terminal::one_line;
use super::super::verbose::bytes;
use super::Session;

impl Session {
    /// Does what was typed: sends it, or obeys. An empty line does nothing.
    pub(super) fn enter(&mut self, line: &str) {
        if line.is_empty() {
            return;
        }
        let text = match commands::parse(line) {
            Ok(Meaning::Command(command)) => return self.obey(command),
            Ok(Meaning::Text(text)) => text,
            Err(what) => return self.say(&what),
        };
        let message = match self.options.shape.message(text.into()) {
            Ok(message) => message,
            Err(what) => return self.say(&format!("not sent: {what}")),
        };
        match self.client.try_send(message.clone()) {
            Ok(_) => {
                self.confirming.request();
                self.accept((text.to_owned() + "\n").into(), &message);
            }
            Err(error) => {
                self.undelivered.refuse((text.to_owned() + "\n").into());
                let why = match error.kind() {
                    SendErrorKind::Full { messages, .. } => format!("{messages} messages wait already"),
                    SendErrorKind::Closed => "the line is closed".to_owned(),
                    _ => error.to_string(),
                };
                self.say(&format!("not sent: {why}"));
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let status = self.client.status();
        match command {
            Command::Help => self.screen.answer(commands::HELP),
            Command::Stats => {
                let done = self.client.stats();
                self.say(&status.to_string());
                self.say(&format!(
                    "connected {} of {} times; {} written, {} read",
                    done.connects,
                    done.attempts,
                    bytes(done.bytes_written),
                    bytes(done.bytes_read)
                ));
            }
            _ if status.state == Closed || !self.signals.is_open.load(Ordering::SeqCst) => {
                self.say("the line is closed");
            }
            Command::Close { code, reason } => {
                self.begin_end();
                match self.client.close_with(code, &reason) {
                    Ok(left) => self.left_by_close = Some(left),
                    Err(error) => {
                        self.signals.is_open.store(true, Ordering::SeqCst);
                        self.say(&format!("not closed: {error}"));
                    }
                }
            }
            Command::Resume if self.is_suspended => {
                self.is_suspended = false;
                self.client.resume();
            }
            Command::Resume => self.say("it is not suspended"),
            Command::Ping | Command::Reconnect | Command::Suspend if self.is_suspended => {
                self.say("it is suspended: see /resume");
            }
            Command::Ping if status.state == Connected && !status.ready => {
                self.say("not sent: the login is not accepted yet");
            }
            Command::Ping if status.ready && self.options.config.heartbeat.beat == Beat::Off => {
                self.say("not sent: --heartbeat is off");
            }
            Command::Ping => {
                self.is_asked = status.ready;
                self.client.reconnect_now();
            }
            Command::Reconnect => self.client.reconnect(),
            Command::Suspend => {
                self.is_suspended = true;
                self.client.suspend();
            }
        }
    }

    /// Shows a line of this program's own.
    pub(super) fn say(&self, what: &str) {
        self.screen.answer(&format!("{}\n", one_line(what)));
    }
}
