//! The messages on stdout.

use std::io::{self, Write};

use data_encoding::{BASE64, HEXLOWER};
use jiff::Timestamp;
use serde_json::json;
use tautline::{ConnectionState, Message};

use super::json;
use super::options::Shape;
use super::terminal::is_wild;

/// Prints a message. `tame` for a terminal, because a server's messages could contain control sequences.
pub(crate) fn print(out: &mut dyn Write, message: &Message, shape: &Shape, tame: bool) -> io::Result<()> {
    let wild = |c: char| tame && is_wild(c) && !matches!(c, '\n' | '\t');
    let end = if tame { b'\n' } else { shape.end() };
    let is_json = shape.json && !(shape.raw && matches!(message, Message::Binary(_)));
    if let Some(json) = json::text(message).filter(|_| is_json).and_then(json::laid_out) {
        write_json(out, &json, wild)?;
        return out.write_all(&[end]);
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
    out.write_all(&[end])
}

/// Whose message it is. What was read from stdin has a ticket.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    In,
    Out { ticket: Option<u64> },
}

/// A line of the log about a message.
pub(crate) fn log(
    out: &mut dyn Write,
    message: &Message,
    direction: Direction,
    shape: &Shape,
    tame: bool,
) -> io::Result<()> {
    let way = match direction {
        Direction::In => r#""in""#.to_owned(),
        Direction::Out { ticket: None } => r#""out""#.to_owned(),
        Direction::Out { ticket: Some(ticket) } => format!(r#""out","ticket":{ticket}"#),
    };
    let mut line = format!(r#"{{"time":"{}","direction":{way},"#, now());
    let json = json::text(message).filter(|_| shape.json).map(json::in_one_line);
    let (field, value) = match (json, message) {
        (Some(json), _) => ("json", json),
        (None, Message::Text(text)) => ("text", json!(**text).to_string()),
        (None, Message::Binary(bytes)) => ("base64", json!(BASE64.encode(bytes)).to_string()),
    };
    line.extend(["\"", field, "\":", &value, "}"]);
    write_line(out, &line, tame)
}

/// A line of the log about the state of the line.
pub(crate) fn log_state(
    out: &mut dyn Write,
    state: ConnectionState,
    reason: Option<&str>,
    tame: bool,
) -> io::Result<()> {
    let mut line = format!(r#"{{"time":"{}","state":"{state}""#, now());
    if let Some(reason) = reason {
        line.extend([r#","reason":"#, &json!(reason).to_string()]);
    }
    write_line(out, &(line + "}"), tame)
}

fn write_line(out: &mut dyn Write, line: &str, tame: bool) -> io::Result<()> {
    write_json(out, line, |c| tame && is_wild(c))?;
    writeln!(out)
}

/// Writes JSON with escapes for these characters: they are inside of strings, where an escape means the same.
fn write_json(out: &mut dyn Write, json: &str, wild: impl Fn(char) -> bool) -> io::Result<()> {
    for part in json.split_inclusive(&wild) {
        let last = part.chars().next_back().filter(|last| wild(*last));
        write!(out, "{}", last.map_or(part, |last| &part[..part.len() - last.len_utf8()]))?;
        let mut units = [0; 2];
        let units = last.map(|last| last.encode_utf16(&mut units)).unwrap_or_default();
        units.iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?;
    }
    Ok(())
}

fn now() -> String {
    format!("{:.3}", Timestamp::now())
}
