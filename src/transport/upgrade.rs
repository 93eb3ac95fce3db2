//! The opening handshake (RFC 6455, section 4.1), as a client.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use tungstenite::handshake::client::generate_key;

use crate::compression::Compression;
use crate::error::{Cause, Error, Rejection};
use crate::transport::answer::{Answer, Reader};
use crate::transport::body::Body;
use crate::transport::deflate;
use crate::transport::link::Link;
use crate::transport::tls;
use crate::transport::wire::Raw;
use crate::transport::{Attempt, Target};

/// What the server agreed to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Upgraded {
    pub(crate) subprotocol: Option<Box<str>>,
    pub(crate) compression: Option<Compression>,
    pub(crate) headers: Vec<(String, String)>,
    /// What followed the answer. It may be the first frames.
    pub(crate) rest: Vec<u8>,
}

/// How long to wait for the body of a refusal once its headers have arrived.
const BODY_PATIENCE: Duration = Duration::from_secs(1);

/// Asks for the upgrade and reads the answer.
pub(crate) fn upgrade<T: Raw>(
    link: &mut Link<T>,
    target: &Target<'_>,
    attempt: &mut impl Attempt<T>,
) -> Result<Upgraded, Error> {
    let key = generate_key();
    let broken = |error: io::Error| tls::broken(error, target);
    link.write_all(&request_head(target, &key)).and_then(|()| link.flush()).map_err(broken)?;
    let limit = target.settings.config.max_response_size;
    let mut answer = Vec::new();
    let mut reader = Reader::default();
    let mut refusal: Option<Refusal> = None;
    let mut ended = false;
    loop {
        if !ended {
            // The whole answer must fit `limit`. Frames after it do not count.
            ended = match fill(link, &mut answer, limit.saturating_add(1)) {
                // A refusal is valid without its body, however its connection ended.
                Err(_) if refusal.is_some() => true,
                other => other.map_err(broken)?,
            };
        }
        if refusal.is_none() {
            let found = reader.read(&answer, &key, &target.request);
            match found.map_err(|reason| {
                not_websocket(target, &tls::instead(&answer, &target.endpoint).unwrap_or(reason))
            })? {
                Some(Answer::Accepted { length, subprotocol, compression, headers }) => {
                    let rest = answer.split_off(length);
                    return Ok(Upgraded { subprotocol, compression, headers, rest });
                }
                Some(Answer::Refused { length, rejection }) => {
                    answer.drain(..length);
                    let left = attempt.time_left();
                    // Nobody reads what a redirect says beside its address.
                    let patience = if target.follows(&rejection) { Duration::ZERO } else { BODY_PATIENCE };
                    let reserve = left.saturating_sub(patience.min(left / 2));
                    refusal = Some(Refusal { body: Body::new(&rejection), rejection, reserve });
                    // The removed head made room. No second wake-up will announce what has arrived already.
                    continue;
                }
                None if answer.len() > limit => {
                    return Err(not_websocket(
                        target,
                        &format!("its headers exceed {limit} bytes (max_response_size)"),
                    ));
                }
                None if ended && answer.is_empty() => {
                    let hint = tls::hint(target);
                    return Err(not_websocket(
                        target,
                        &format!("it ended the connection without a word{hint}"),
                    ));
                }
                None if ended => {
                    if let Some(reason) = tls::instead(&answer, &target.endpoint) {
                        return Err(not_websocket(target, &reason));
                    }
                    let reason = "the connection ended in the middle of the headers".into();
                    // Another read of the link returns why the connection ended.
                    let source = link.read(&mut [0]).err().map(|error| Arc::new(error) as Cause);
                    return Err(Error::Upgrade { host: target.place().into(), reason, source });
                }
                None => {}
            }
        }
        let Some(Refusal { rejection, body, reserve }) = &mut refusal else {
            attempt.wait(link.wire_mut(), None)?;
            continue;
        };
        let complete = ended || answer.len() >= limit || body.is_complete(&answer);
        let patience = attempt.time_left().saturating_sub(*reserve);
        if complete || patience.is_zero() || !attempt.wait(link.wire_mut(), Some(patience))? {
            answer.truncate(limit);
            rejection.body = body.decode(answer);
            rejection.secrets = target.secrets();
            rejection.place = target.place().into();
            return Err(Error::UpgradeRejected(Arc::new(rejection.clone())));
        }
    }
}

/// An answer other than 101, whose body is being read.
struct Refusal {
    rejection: Rejection,
    body: Body,
    /// How much of the attempt's time must be left when we stop waiting for the body.
    reserve: Duration,
}

/// Reads what there is until `answer` has `limit` bytes. Returns whether the stream has ended.
fn fill<T: Raw>(link: &mut Link<T>, answer: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
    let mut chunk = [0; 4096];
    while answer.len() < limit {
        // Never beyond the limit: the result must not depend on how the answer arrives.
        let room = chunk.len().min(limit - answer.len());
        match link.read(&mut chunk[..room]) {
            Ok(0) => return Ok(true),
            Ok(n) => answer.extend(&chunk[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            // A complete answer is valid, however its connection ended.
            Err(_) if !answer.is_empty() => return Ok(true),
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// How many characters are shown of what is wrong with an answer.
const SHOWN: usize = 1000;

fn not_websocket(target: &Target<'_>, reason: &str) -> Error {
    // Servers often repeat the request that they refuse.
    let reason = target.secrets().hide_start(reason, SHOWN);
    Error::Upgrade { host: target.place().into(), reason: reason.into(), source: None }
}

fn request_head(target: &Target<'_>, key: &str) -> Vec<u8> {
    let Target { endpoint, request, .. } = target;
    let given = |name: &str| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut head = format!("GET {} HTTP/1.1\r\n", endpoint.resource);
    let mut line = |name: &str, value: &str| {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    };
    if !given("Host") {
        line("Host", &endpoint.host_header());
    }
    line("Connection", "Upgrade");
    line("Upgrade", "websocket");
    line("Sec-WebSocket-Version", "13");
    line("Sec-WebSocket-Key", key);
    if !request.subprotocols.is_empty() {
        line("Sec-WebSocket-Protocol", &request.subprotocols.join(", "));
    }
    if let Some(compression) = &request.compression {
        line("Sec-WebSocket-Extensions", &deflate::offer(compression));
    }
    if let Some(userinfo) = endpoint.userinfo.as_deref().filter(|_| !given("Authorization")) {
        line("Authorization", &format!("Basic {}", BASE64.encode(userinfo.as_bytes())));
    }
    for (name, value) in &request.headers {
        line(name, value);
    }
    head.push_str("\r\n");
    head.into_bytes()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::ConnectionConfig;
    use crate::protocol::UpgradeRequest;
    use crate::transport::Settings;

    pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn target(settings: &Settings) -> Target<'_> {
        let request = UpgradeRequest::new(&settings.config);
        Target::new(request, settings).unwrap()
    }

    fn head_of(config: ConnectionConfig) -> String {
        String::from_utf8(request_head(&target(&Settings::new(config)), KEY)).unwrap()
    }

    #[test]
    fn the_request_says_what_was_configured() {
        let config = ConnectionConfig::new("ws://bob:p%40ss@h:81?x=1")
            .header("X-A", "1")
            .subprotocol("a")
            .subprotocol("b")
            .compression(Compression::default().server_no_context_takeover(true));
        let head = head_of(config);
        assert_eq!(
            head,
            "GET /?x=1 HTTP/1.1\r\nHost: h:81\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: a, b\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\nAuthorization: Basic Ym9iOnBAc3M=\r\nX-A: 1\r\n\r\n"
        );
    }

    #[test]
    fn given_host_and_authorization_replace_our_own() {
        let config =
            ConnectionConfig::new("ws://bob@h").header("host", "other").header("authorization", "Bearer t");
        let head = head_of(config);
        assert!(!head.contains("Host: h") && !head.contains("Basic"), "{head}");
        assert!(head.contains("host: other\r\n") && head.contains("authorization: Bearer t\r\n"), "{head}");
    }

    #[test]
    fn empty_userinfo_is_not_sent_and_a_user_alone_is_sent_with_his_colon() {
        let head = |url| head_of(ConnectionConfig::new(url));
        assert!(!head("ws://@h").contains("Authorization"));
        assert!(!head("ws://:@h").contains("Authorization"));
        assert!(head("ws://bob@h").contains("Authorization: Basic Ym9iOg==\r\n"));
    }
}
