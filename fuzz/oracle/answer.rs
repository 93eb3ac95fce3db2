//! A server's answer to the upgrade, cut into pieces in any way.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::Registry;
use tungstenite::handshake::derive_accept_key;

use super::input::{Input, cut};
use crate::config::ConnectionConfig;
use crate::endpoint::Endpoint;
use crate::error::{Error, Phase};
use crate::handshake::{ResponseHeaders, Timings};
use crate::protocol::UpgradeRequest;
use crate::transport::link::Link;
use crate::transport::pipe::{End, Pipe};
use crate::transport::upgrade::{Upgraded, upgrade};
use crate::transport::wire::Wire;
use crate::transport::{Attempt, Settings, Target};

/// The answer of RFC 6455, section 1.3. It is replaced by the one that belongs to our key.
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const URL: &str = "ws://bob:p%40ss-w0rd@h:81/x?token=t0ken-s3cret";

/// Secrets that the request tells the server and that no error may show.
const SECRETS: [&str; 5] = ["p@ss-w0rd", "Ym9iOnBAc3MtdzByZA==", "t0ken-s3cret", "k3y-s3cret", "p%40ss-w0rd"];

/// How long an attempt may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let limit = input.pick(&[64 << 10, 16, 100, 300, 1000, 4095, 4096, 8192]);
    let end = input.pick(&[None, Some(End::Eof), Some(End::Reset)]);
    let seed = input.byte();
    let pause = Duration::from_millis(input.pick(&[0, 1, 400, 3000]));
    let answer = input.rest();
    let whole = attempt(answer, 0, limit, end, pause.min(Duration::from_millis(1)));
    let cut = attempt(answer, seed, limit, end, pause);
    if pause.is_zero() {
        assert_eq!(whole, cut, "it depends on how the answer is cut");
        if let Some(status) = status(&answer[..limit.min(answer.len())]).filter(|status| *status != 101) {
            let told = format!(" answered {status} ");
            assert!(whole.is_err_and(|error| error.contains(&told)), "a refusal that got lost");
        }
    }
}

/// The status of a complete head, not counting interim ones.
fn status(mut answer: &[u8]) -> Option<u16> {
    loop {
        let mut headers = vec![httparse::EMPTY_HEADER; answer.len()];
        let mut response = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = response.parse(answer) else { return None };
        match response.code {
            Some(100 | 102..=199) => answer = &answer[length..],
            code => return code,
        }
    }
}

/// The request that a client sends with this configuration.
pub(super) fn request_of(config: &ConnectionConfig) -> Vec<u8> {
    let pipe = Pipe::new();
    let mut server = Server {
        pipe: pipe.clone(),
        pieces: Pieces::Cut(Vec::new()),
        end: None,
        pause: LIMIT,
        left: LIMIT,
        accept: String::new(),
    };
    let ended = dial(config.clone(), pipe.clone(), &mut server);
    assert!(matches!(ended, Err(Error::Closed { .. })), "{ended:?}");
    std::mem::take(&mut pipe.state().taken)
}

/// What the server agreed to: the subprotocol, the headers, and everything after the answer.
type Agreed = (Option<Box<str>>, Vec<(String, String)>, Vec<u8>);

/// The result of an attempt, or the text of its error.
fn attempt(
    answer: &[u8],
    seed: u8,
    limit: usize,
    end: Option<End>,
    pause: Duration,
) -> Result<Agreed, String> {
    let mut config = ConnectionConfig::new(URL).header("X-Key", "k3y-s3cret").subprotocol("chat");
    config.max_response_size = limit;
    let secrets = UpgradeRequest::new(&config).secrets();
    let pipe = Pipe::new();
    let mut server = Server {
        pipe: pipe.clone(),
        pieces: Pieces::Coming(answer, seed),
        end,
        pause,
        left: LIMIT,
        accept: String::new(),
    };
    match dial(config, pipe, &mut server) {
        Ok(Upgraded { subprotocol, compression, headers, rest }) => {
            assert_eq!(compression, None, "none was offered");
            assert!(subprotocol.as_deref().is_none_or(|name| name == "chat"));
            let pairs = || headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let kept = ResponseHeaders::new(pairs(), secrets);
            assert!(kept.iter().eq(pairs()), "{headers:?}");
            let shown = format!("{kept:?}");
            for secret in SECRETS {
                assert!(!shown.contains(secret), "{secret} in {shown}");
            }
            // The key differs in each attempt.
            let headers = headers.into_iter().filter(|(_, value)| !value.contains(&server.accept)).collect();
            Ok((subprotocol, headers, server.behind(rest)))
        }
        Err(error) => {
            check(&error, limit);
            let body = match &error {
                Error::UpgradeRejected(rejection) => rejection.body.clone(),
                _ => Vec::new(),
            };
            // The key differs in each attempt.
            let said = format!("{error} {error:?}").replace(&server.accept, "…");
            Err(said + &String::from_utf8_lossy(&body))
        }
    }
}

fn dial(config: ConnectionConfig, pipe: Pipe, server: &mut Server<'_>) -> Result<Upgraded, Error> {
    let request = UpgradeRequest::new(&config);
    let settings = Settings::new(config);
    let target = Target::new(request, &settings).expect("a good URL");
    upgrade(&mut Link::Plain(Wire::new(pipe)), &target, server)
}

fn check(error: &Error, limit: usize) {
    let told = format!("{error} {error:?}");
    if let Error::UpgradeRejected(rejection) = error {
        assert_ne!(rejection.status, 101);
        assert!(rejection.body.len() <= limit, "{} bytes of a body", rejection.body.len());
    }
    for secret in SECRETS {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

/// The other side, and the thread that waits for it.
pub(super) struct Server<'a> {
    pub(super) pipe: Pipe,
    pub(super) pieces: Pieces<'a>,
    pub(super) end: Option<End>,
    /// The delay before each piece.
    pub(super) pause: Duration,
    pub(super) left: Duration,
    /// The accept value that belongs to the key of the request.
    pub(super) accept: String,
}

pub(super) enum Pieces<'a> {
    /// The request has not been read yet.
    Coming(&'a [u8], u8),
    Cut(Vec<Vec<u8>>),
}

impl Server<'_> {
    /// Sends the next piece of the answer, or ends the stream. Returns `false` if there is nothing more.
    fn send(&mut self, wire: &mut Wire<Pipe>) -> bool {
        if let Pieces::Coming(answer, seed) = self.pieces {
            self.accept = accept_key(&self.pipe.state().taken);
            let accepts = status(answer) == Some(101);
            let answer =
                if accepts { replace(answer, ACCEPT, self.accept.as_bytes()) } else { answer.to_vec() };
            let mut pieces: Vec<_> = cut(&answer, seed).into_iter().map(Vec::from).collect();
            pieces.reverse();
            self.pieces = Pieces::Cut(pieces);
        }
        let Pieces::Cut(pieces) = &mut self.pieces else { return false };
        if let Some(piece) = pieces.pop() {
            self.pipe.state().incoming.extend(piece);
            wire.edge();
            return true;
        }
        let Some(end) = self.end.take() else { return false };
        // A reset discards what was not read. Nothing is left here, since every wait follows a read.
        self.pipe.end(end);
        wire.edge_of_end();
        true
    }

    /// Everything after the answer, of which `rest` was read together with it.
    pub(super) fn behind(&mut self, mut rest: Vec<u8>) -> Vec<u8> {
        rest.extend(&self.pipe.state().incoming);
        if let Pieces::Cut(pieces) = &self.pieces {
            rest.extend(pieces.iter().rev().flatten());
        }
        rest
    }
}

impl Attempt<Pipe> for Server<'_> {
    fn enter(&mut self, _: Phase, _: Option<&dyn fmt::Display>) -> Result<(), Error> {
        Ok(())
    }

    fn timings(&mut self) -> Timings {
        Timings::default()
    }

    fn uninterruptible<R>(&mut self, _: &str, call: impl FnOnce() -> R) -> Result<R, Error> {
        Ok(call())
    }

    fn resolve(&mut self, _: &Endpoint, _: &Settings) -> Result<Vec<SocketAddr>, Error> {
        Ok(Vec::new())
    }

    fn wait(&mut self, wire: &mut Wire<Pipe>, patience: Option<Duration>) -> Result<bool, Error> {
        // The system reports each arrival once.
        assert!(!wire.is_readable(), "a wait for what is there already");
        assert!(patience.is_none_or(|patience| patience <= self.left), "patience beyond the attempt's end");
        let over = |server: &mut Self, after| {
            server.left = server.left.saturating_sub(after);
            if server.left.is_zero() { Err(Error::Closed { reason: None }) } else { Ok(()) }
        };
        match patience {
            Some(patience) if patience <= self.pause => {
                over(self, patience)?;
                return Ok(false);
            }
            _ => over(self, self.pause)?,
        }
        if self.send(wire) {
            return Ok(true);
        }
        over(self, patience.unwrap_or(LIMIT))?;
        Ok(false)
    }

    fn wait_any(&mut self, _: Option<Duration>) -> Result<(), Error> {
        unreachable!("an upgrade races nothing")
    }

    fn leave_unreached(&mut self, _: std::io::Error) {
        unreachable!("an upgrade reaches nobody else")
    }

    fn now(&self) -> Instant {
        unreachable!("an upgrade knows no more than the time that is left")
    }

    fn time_left(&self) -> Duration {
        self.left
    }

    fn registry(&self) -> &Registry {
        unreachable!("an upgrade registers nothing")
    }
}

fn accept_key(request: &[u8]) -> String {
    let request = String::from_utf8_lossy(request);
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    derive_accept_key(key.expect("a key in the request").as_bytes())
}

fn replace(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(at) = bytes.windows(what.len()).position(|window| window == what) {
        bytes[at..at + what.len()].copy_from_slice(with);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::head::tests::bytes_looked_at;

    fn told(answer: &str, seed: u8, limit: usize, end: Option<End>) -> String {
        attempt(answer.as_bytes(), seed, limit, end, Duration::ZERO).expect_err("a refusal")
    }

    #[test]
    fn the_limit_of_an_answer_does_not_depend_on_how_it_is_cut() {
        let answer = format!("HTTP/1.1 403 No\r\nX-Pad: {}\r\n\r\n", "x".repeat(200));
        for seed in [0, 1, 100] {
            assert!(told(&answer, seed, 100, None).contains("exceed 100 bytes"), "cut {seed}");
        }
    }

    #[test]
    fn a_refusal_is_read_up_to_the_limit_without_a_wait_for_what_is_there() {
        let answer = format!("HTTP/1.1 403 No\r\n\r\n{}", "x".repeat(9000));
        assert!(told(&answer, 0, 4096, None).ends_with(&"x".repeat(4096)));
    }

    #[test]
    fn a_refusal_counts_though_its_connection_breaks_before_the_body() {
        let answer = "HTTP/1.1 401 No\r\nContent-Length: 5\r\n\r\n";
        assert!(told(answer, 0, 4096, Some(End::Reset)).contains(" answered 401 No "));
    }

    #[test]
    fn an_answer_in_single_bytes_costs_no_more_than_in_one_piece() {
        let head =
            "HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n".to_owned() + &"X-Pad: x\r\n".repeat(1000);
        let answer = format!("{head}\r\n{}0\r\n", "1\r\nx\r\n".repeat(1000));
        let cost = |seed| bytes_looked_at(|| drop(told(&answer, seed, 64 << 10, None)));
        assert!(cost(0) > head.len() && cost(0) <= answer.len());
        assert_eq!(cost(1), cost(0));
    }

    #[test]
    fn an_answer_that_repeats_the_request_repeats_no_secret() {
        for secret in SECRETS {
            let body = format!("HTTP/1.1 400 No\r\n\r\nyou said {secret}");
            assert!(told(&body, 0, 4096, Some(End::Eof)).contains("you said "), "{secret}");
            let extension = format!(
                "HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Extensions: {secret}\r\n\r\n"
            );
            assert!(told(&extension, 0, 4096, None).contains("it chose the extension"), "{secret}");
        }
    }
}
