//! STOMP's frames. Each is a command, headers, an empty line, a body, and a NUL. Heart-beats are line ends between them.

use std::fmt::Write;

use tautline::Error;

/// The largest frame that is accepted.
const MOST: usize = 2 << 20;

/// A frame that has come.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) command: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// A frame to send. In all but CONNECT, some characters of a header are escaped. NUL can't be, nor can a line's end there.
pub(crate) fn frame(command: &str, headers: &[(&str, &str)], body: &str) -> Result<String, Error> {
    let mut text = format!("{command}\n");
    for (name, value) in headers {
        let escaped =
            value.replace('\\', r"\\").replace('\n', r"\n").replace('\r', r"\r").replace(':', r"\c");
        let value = if command == "CONNECT" { value } else { &*escaped };
        if value.contains(['\0', '\n', '\r']) {
            return Err(Error::session(format!(
                "STOMP can't carry this {name}: it has a line's end or a NUL"
            )));
        }
        let _ = writeln!(text, "{name}:{value}"); // a String takes everything
    }
    Ok(text + "\n" + body + "\0")
}

/// What the application says. `None` if it is no destination, space and text. A broker that keeps messages on disk has
/// this one there when it gives the receipt.
pub(crate) fn message(line: &str, receipt: &str) -> Option<String> {
    let (destination, text) = line.split_once(' ').filter(|(destination, _)| !destination.is_empty())?;
    let length = text.len().to_string();
    let headers = [
        ("destination", destination),
        ("receipt", receipt),
        ("content-length", &length),
        ("persistent", "true"),
    ];
    frame("SEND", &headers, text).ok()
}

/// Appends the input to `inbox`, and removes and returns the complete frames.
pub(crate) fn cut(inbox: &mut Vec<u8>, bytes: &[u8]) -> Result<Vec<Frame>, Error> {
    let broken = || Error::session("the broker sent a broken frame");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    inbox.extend(bytes);
    let (mut frames, mut rest) = (Vec::new(), inbox.trim_ascii_start());
    loop {
        let empty = |at: &usize| rest[*at..].starts_with(b"\n\n") || rest[*at..].starts_with(b"\n\r\n");
        let Some(end) = (0..rest.len()).find(empty) else { break };
        let head = text(&rest[..=end]);
        let mut lines = head.lines();
        let command = lines.next().unwrap_or_default().to_owned();
        let plain = |text: &str| if command == "CONNECTED" { Some(text.to_owned()) } else { unescaped(text) };
        let pair =
            |line: &str| line.split_once(':').and_then(|(key, value)| Some((plain(key)?, plain(value)?)));
        let headers = lines.map(pair).collect::<Option<Vec<_>>>().ok_or_else(broken)?;
        let behind = &rest[end + if rest[end + 1] == b'\n' { 2 } else { 3 }..];
        let length = match headers.iter().find(|(key, _)| key == "content-length") {
            Some((_, length)) => Some(length.parse().map_err(|_| broken())?),
            None => behind.iter().position(|byte| *byte == 0),
        };
        let Some((body, [nul, behind @ ..])) = length.and_then(|length| behind.split_at_checked(length))
        else {
            break;
        };
        if *nul != 0 {
            return Err(broken());
        }
        frames.push(Frame { command, headers, body: text(body) });
        rest = behind.trim_ascii_start();
    }
    *inbox = rest.to_vec();
    if inbox.len() > MOST { Err(Error::session("a frame that never ends")) } else { Ok(frames) }
}

/// `None` for an escape that means nothing.
fn unescaped(text: &str) -> Option<String> {
    let mut letters = text.chars();
    std::iter::from_fn(|| {
        let letter = letters.next()?;
        Some(if letter == '\\' {
            let meant = [('n', '\n'), ('r', '\r'), ('c', ':'), ('\\', '\\')];
            let escape = letters.next();
            meant.iter().find(|(letter, _)| Some(*letter) == escape).map(|(_, meant)| *meant)
        } else {
            Some(letter)
        })
    })
    .collect()
}
