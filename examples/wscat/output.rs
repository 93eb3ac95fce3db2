//! The messages on stdout.

use std::io::{self, Write};

use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use serde_json::json;
use tautline::{ConnectionState, Message, Value};

use super::options::Shape;
use super::terminal::is_wild;

/// Prints a message. `tame` for a terminal, because a server's messages could contain control sequences.
pub(crate) fn print(
    out: &mut (impl Write + ?Sized),
    message: &Message,
    shape: &Shape,
    tame: bool,
) -> io::Result<()> {
    let wild = |c: char| tame && is_wild(c) && !matches!(c, '\n' | '\t');
    if shape.json
        && let Some(json) = laid_out(message)
    {
        write_json(out, &format!("{json:#}"), wild)?;
        return out.write_all(&[shape.end()]);
    }
    match message {
        Message::Text(text) => out.write_all(text.replace(wild, "\u{fffd}").as_bytes())?,
        Message::Binary(bytes) if shape.raw => {
            out.write_all(bytes)?;
            // Where bytes are wanted, a newline would be one more.
            return if shape.null { out.write_all(&[0]) } else { Ok(()) };
        }
        Message::Binary(bytes) if shape.base64 => out.write_all(BASE64.encode(bytes).as_bytes())?,
        Message::Binary(bytes) => out.write_all(HEXLOWER.encode(bytes).as_bytes())?,
    }
    out.write_all(&[shape.end()])
}

/// A line of the log: one of this program's messages with its ticket, or one of the server's.
pub(crate) fn log(
    out: &mut (impl Write + ?Sized),
    message: &Message,
    ticket: Option<u64>,
    shape: &Shape,
    tame: bool,
) -> io::Result<()> {
    let mut line = json!({"time": now(), "direction": if ticket.is_some() { "out" } else { "in" }});
    if let Some(ticket) = ticket {
        line["ticket"] = ticket.into();
    }
    let json = if shape.json { laid_out(message) } else { None };
    let (field, value) = match (json, message) {
        (Some(json), _) => ("json", json),
        (None, Message::Text(text)) => ("text", (**text).into()),
        (None, Message::Binary(bytes)) => ("base64", BASE64.encode(bytes).into()),
    };
    line[field] = value;
    write_line(out, &line, tame)
}

/// A line of the log about the state of the line.
pub(crate) fn log_state(
    out: &mut (impl Write + ?Sized),
    state: ConnectionState,
    reason: Option<&str>,
    tame: bool,
) -> io::Result<()> {
    let mut line = json!({"time": now(), "state": state.to_string()});
    if let Some(reason) = reason {
        line["reason"] = reason.into();
    }
    write_line(out, &line, tame)
}

fn write_line(out: &mut (impl Write + ?Sized), line: &Value, tame: bool) -> io::Result<()> {
    write_json(out, &line.to_string(), |c| tame && is_wild(c))?;
    writeln!(out)
}

/// Writes JSON with escapes for these characters: they are inside of strings, where an escape means the same.
fn write_json(out: &mut (impl Write + ?Sized), json: &str, wild: impl Fn(char) -> bool) -> io::Result<()> {
    for part in json.split_inclusive(&wild) {
        let last = part.chars().next_back().filter(|last| wild(*last));
        write!(out, "{}", last.map_or(part, |last| &part[..part.len() - last.len_utf8()]))?;
        let mut units = [0; 2];
        let units = last.map(|last| last.encode_utf16(&mut units)).unwrap_or_default();
        units.iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
    }
    Ok(())
}

/// The value of a message that is meant to be JSON.
fn laid_out(message: &Message) -> Option<Value> {
    let json: Value = message.json().ok()?;
    (message.as_text().is_some() || json.is_object() || json.is_array()).then_some(json)
}

fn now() -> String {
    format!("{:.3}", Timestamp::now())
}
