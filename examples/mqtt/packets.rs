//! MQTT's packets. Each has a byte with type and flags, the length of the rest (seven bits a byte, lowest first), and the
//! rest.

#![expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]

use tautline::{Error, Outgoing};

/// The largest packet that is accepted.
const MOST: usize = 1 << 20;

pub(crate) fn packet(head: u8, parts: &[&[u8]]) -> Vec<u8> {
    let (body, mut packet) = (parts.concat(), vec![head]);
    let mut left = body.len();
    while left > 0x7F {
        packet.push(0x80 | (left & 0x7F) as u8);
        left >>= 7;
    }
    packet.push((left & 0x7F) as u8);
    [packet, body].concat()
}

/// Returns `None` for a text that MQTT can't carry: it is too long, or has a NUL, over which a server ends the connection.
fn string(text: &str) -> Option<Vec<u8>> {
    let length = u16::try_from(text.len()).ok().filter(|_| !text.contains('\0'))?;
    Some([&length.to_be_bytes(), text.as_bytes()].concat())
}

/// Appends the input to `inbox`, and removes and returns the complete packets: their headers and bodies.
pub(crate) fn cut(inbox: &mut Vec<u8>, bytes: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, Error> {
    inbox.extend(bytes);
    let (mut packets, mut used) = (Vec::new(), 0);
    while let [head, rest @ ..] = &inbox[used..] {
        let Some(last) = rest.iter().take(4).position(|byte| byte & 0x80 == 0) else { break };
        let length = rest[..=last].iter().rev().fold(0, |sum, byte| (sum << 7) | usize::from(byte & 0x7F));
        let Some(body) = rest.get(last + 1..last + 1 + length) else { break };
        packets.push((*head, body.to_vec()));
        used += last + 2 + length;
    }
    inbox.drain(..used);
    if inbox.len() > MOST { Err(Error::session("a packet that never ends")) } else { Ok(packets) }
}

/// With a name, the server keeps the session, and the client has a will. `login` is `NAME:PASSWORD`. `None` if one is too
/// long.
pub(crate) fn connect(name: &str, login: Option<&str>, keepalive: u16) -> Option<Vec<u8>> {
    let (mut flags, mut fields) = (0x02, string(name)?);
    if !name.is_empty() {
        flags = 0x04;
        fields.extend([string(&format!("gone/{name}"))?, string("lost")?].concat());
    }
    if let Some((user, password)) = login.and_then(|login| login.split_once(':')) {
        flags |= 0xC0;
        fields.extend([string(user)?, string(password)?].concat());
    }
    Some(packet(0x10, &[&string("MQTT")?, &[4, flags], &keepalive.to_be_bytes(), &fields]))
}

/// A line of the application: `SUB filter`, or `PUB topic text` with quality of service 1. `again`: sent before. `None` for anything
/// else.
pub(crate) fn outgoing(outgoing: &Outgoing, id: u16, again: bool) -> Option<Vec<u8>> {
    let (verb, line) = outgoing.message.as_text()?.split_once(' ')?;
    let id = id.to_be_bytes();
    if verb == "SUB" && !line.is_empty() {
        return Some(packet(0x82, &[&id, &string(line)?, &[1]]));
    }
    let (topic, text) = line.split_once(' ').filter(|_| verb == "PUB")?;
    let topic = string(topic).filter(|_| !topic.is_empty() && !topic.contains(['+', '#']))?;
    let head = if again { 0x3A } else { 0x32 };
    Some(packet(head, &[&topic, &id, text.as_bytes()]))
}

/// A PUBLISH as the application receives it, `topic text`, and its PUBACK if it wants one. `None` if it is malformed.
pub(crate) fn published(head: u8, body: &[u8]) -> Option<(String, Option<Vec<u8>>)> {
    let (length, body) = body.split_first_chunk()?;
    let (topic, body) = body.split_at_checked(u16::from_be_bytes(*length).into())?;
    let (id, text) = body.split_at_checked(if head & 6 == 0 { 0 } else { 2 })?;
    let line = [topic, b" ", text].concat();
    Some((String::from_utf8_lossy(&line).into(), (!id.is_empty()).then(|| packet(0x40, &[id]))))
}
