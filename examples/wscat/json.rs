//! JSON as it came: laid out anew, with not a character of its names and values changed.

use serde::de::IgnoredAny;
use tautline::Message;

/// So deep is JSON laid out. Each level makes all lines within it longer, so a small message could become a huge text.
const DEEPEST: usize = 100;

/// The text of a message that is meant to be JSON. Of binary ones, these are objects and arrays.
pub(crate) fn text(message: &Message) -> Option<&str> {
    let text = message.as_text().or_else(|| str::from_utf8(message.as_bytes()).ok())?.trim_ascii();
    let is_meant = message.as_text().is_some() || text.starts_with(['{', '[']);
    (is_meant && serde_json::from_str::<IgnoredAny>(text).is_ok()).then_some(text)
}

/// Lays JSON out over several lines. `None`: it is too deep.
pub(crate) fn laid_out(json: &str) -> Option<String> {
    let (mut out, mut depth) = (String::new(), 0);
    let mut parts = parts(json).peekable();
    while let Some(part) = parts.next() {
        match part {
            "{" | "[" => {
                out.push_str(part);
                if let Some(end) = parts.next_if(|next| matches!(*next, "}" | "]")) {
                    out.push_str(end);
                    continue;
                }
                depth += 1;
                if depth > DEEPEST {
                    return None;
                }
                new_line(&mut out, depth);
            }
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push_str(part);
            }
            "," => {
                out.push_str(part);
                new_line(&mut out, depth);
            }
            ":" => out.push_str(": "),
            value => out.push_str(value),
        }
    }
    Some(out)
}

/// Puts JSON into one line.
pub(crate) fn in_one_line(json: &str) -> String {
    parts(json).collect()
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    (0..depth).for_each(|_| out.push_str("  "));
}

/// The parts of valid JSON, without the white space in between: strings, other values, and the characters around them.
fn parts(json: &str) -> impl Iterator<Item = &str> {
    let mut rest = json;
    std::iter::from_fn(move || {
        rest = rest.trim_ascii_start();
        let end = match rest.bytes().next()? {
            b'"' => 1 + end_of_string(&rest[1..]),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => rest.find(['{', '}', '[', ']', ',', ':', ' ', '\t', '\r', '\n']).unwrap_or(rest.len()),
        };
        let (part, behind) = rest.split_at(end);
        rest = behind;
        Some(part)
    })
}

/// Where a string ends whose first quotation mark has been taken.
fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    let ends = |byte: u8| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    };
    text.bytes().position(ends).map_or(text.len(), |at| at + 1)
}
