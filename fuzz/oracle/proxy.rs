//! A proxy's answers to CONNECT and to SOCKS 5, cut into pieces in any way.

use std::time::Duration;

use super::answer::{LIMIT, Pieces, Server};
use super::input::{Input, cut};
use crate::config::Proxy;
use crate::config::proxy::Via;
use crate::endpoint::Endpoint;
use crate::error::{Error, ProxyErrorKind};
use crate::transport::pipe::{End, Pipe};
use crate::transport::proxy::connect::Connect;
use crate::transport::proxy::socks::{Socks, Whom};
use crate::transport::proxy::{HTTP_HINT, Through, open};
use crate::transport::wire::Wire;

/// What the proxy is told and no error may show. The first three are of the login, and the last is a header.
const SECRETS: [&str; 4] = ["p@ss-w0rd", "Ym9iOnBAc3MtdzByZA==", "p%40ss-w0rd", "k3y-s3cret"];

const TARGET: &str = "wss://h.example:443";

/// How one speaks with the proxy.
#[derive(Clone, Copy, PartialEq)]
enum Speaks {
    Http,
    Socks,
    SocksWithLogin,
}

pub(super) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let speaks = input.pick(&[Speaks::Http, Speaks::Socks, Speaks::SocksWithLogin]);
    let limit = input.pick(&[64 << 10, 16, 100, 300, 1000, 4095, 4096, 8192]);
    let end = input.pick(&[None, Some(End::Eof), Some(End::Reset)]);
    let seed = input.byte();
    let pause = Duration::from_millis(input.pick(&[0, 1, 400, 3000]));
    let answer = input.rest();
    let whole = attempt(speaks, answer, 0, limit, end, pause.min(Duration::from_millis(1)));
    let cut = attempt(speaks, answer, seed, limit, end, pause);
    if pause.is_zero() {
        assert_eq!(whole, cut, "it depends on how the answer is cut");
        match speaks {
            Speaks::Http => check_http(answer, limit, &whole),
            Speaks::Socks | Speaks::SocksWithLogin => check_socks(answer, speaks, &whole),
        }
    }
}

/// What is behind a tunnel that was opened, or the text of the error.
type Outcome = Result<Vec<u8>, String>;

fn attempt(
    speaks: Speaks,
    answer: &[u8],
    seed: u8,
    limit: usize,
    end: Option<End>,
    pause: Duration,
) -> Outcome {
    let (via, target) = (via(speaks), Endpoint::parse(TARGET).expect("a good URL"));
    let through = Through { via: &via, target: &target };
    let pipe = Pipe::new();
    let mut pieces: Vec<_> = cut(answer, seed).into_iter().map(Vec::from).collect();
    pieces.reverse();
    let mut server = Server {
        pipe: pipe.clone(),
        pieces: Pieces::Cut(pieces),
        end,
        pause,
        left: LIMIT,
        accept: String::new(),
    };
    let mut wire = Wire::new(pipe);
    let secrets = via.secrets.clone();
    let opened = match speaks {
        Speaks::Http => {
            let connect = Connect::new(&target.authority(), &via.headers, secrets, limit, HTTP_HINT);
            open(&mut wire, connect, &through, &mut server)
        }
        Speaks::Socks | Speaks::SocksWithLogin => {
            let whom = Whom::name(&target.host, target.port).expect("a short name");
            open(&mut wire, Socks::new(whom, via.login.as_ref(), secrets), &through, &mut server)
        }
    };
    match opened {
        Ok(()) => Ok(server.behind(Vec::new())),
        Err(error) => {
            let shown = format!("{error} {error:?}");
            let told = match speaks {
                Speaks::Http => &SECRETS[..],
                Speaks::Socks => &[],
                Speaks::SocksWithLogin => &SECRETS[..3],
            };
            for secret in told {
                assert!(!shown.contains(secret), "{secret} in {shown}");
            }
            if let Error::Proxy(why) = &error {
                let body = why.answer.as_ref().map_or(0, |answer| answer.body.len());
                assert!(body <= limit, "{body} bytes of a body");
                assert_ne!(why.kind, ProxyErrorKind::Unreachable);
            }
            Err(shown)
        }
    }
}

fn via(speaks: Speaks) -> Via {
    let proxy = match speaks {
        Speaks::Http => Proxy::new("http://bob:p%40ss-w0rd@p:1").header("X-Key", "k3y-s3cret"),
        Speaks::Socks => Proxy::new("socks5h://p:1"),
        Speaks::SocksWithLogin => Proxy::new("socks5h://bob:p%40ss-w0rd@p:1"),
    };
    let ways = proxy.ways(&|_| None).expect("a good proxy");
    ways.to(&Endpoint::parse(TARGET).expect("a good URL")).expect("a way").clone()
}

/// What a parser of its own says about a head.
fn check_http(answer: &[u8], limit: usize, outcome: &Outcome) {
    let mut rest = &answer[..limit.min(answer.len())];
    loop {
        let mut headers = vec![httparse::EMPTY_HEADER; rest.len()];
        let mut response = httparse::Response::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = response.parse(rest) else { return };
        rest = &rest[length..];
        match response.code {
            Some(100 | 102..=199) => {}
            Some(200..=299) => {
                let begin = limit.min(answer.len()) - rest.len();
                assert_eq!(outcome.as_deref(), Ok(&answer[begin..]), "the tunnel begins behind the head");
                return;
            }
            Some(status) => {
                let told = format!("it answered {status}");
                assert!(
                    outcome.as_ref().is_err_and(|error| error.contains(&told)),
                    "a refusal that got lost"
                );
                return;
            }
            None => return,
        }
    }
}

/// The answers that open a tunnel, in the words of RFC 1928 and RFC 1929.
fn check_socks(answer: &[u8], speaks: Speaks, outcome: &Outcome) {
    assert_eq!(outcome.as_deref().ok(), tunnel(answer, speaks));
}

/// What is behind them.
fn tunnel(answer: &[u8], speaks: Speaks) -> Option<&[u8]> {
    let (([5, 0, rest @ ..], _) | ([5, 2, 1, 0, rest @ ..], Speaks::SocksWithLogin)) = (answer, speaks)
    else {
        return None;
    };
    let [5, 0, _, kind, address @ ..] = rest else { return None };
    let length = match (kind, address) {
        (1, _) => 4,
        (4, _) => 16,
        (3, [length, ..]) => 1 + usize::from(*length),
        _ => return None,
    };
    address.get(length + 2..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answer: &str, seed: u8, limit: usize, end: Option<End>) -> String {
        let outcome = attempt(Speaks::Http, answer.as_bytes(), seed, limit, end, Duration::ZERO);
        outcome.expect_err("a refusal")
    }

    #[test]
    fn a_refusal_counts_though_its_connection_breaks_before_the_body() {
        let answer = "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n";
        assert!(told(answer, 0, 4096, Some(End::Reset)).contains("it answered 403 No"));
    }

    #[test]
    fn a_refusal_is_read_up_to_the_limit_however_it_is_cut() {
        let answer = format!("HTTP/1.1 403 No\r\n\r\n{}", "x".repeat(9000));
        for seed in [0, 1, 200] {
            assert!(told(&answer, seed, 4096, None).contains(&"x".repeat(2000)));
        }
    }

    #[test]
    fn a_connection_that_breaks_is_a_cause_and_names_the_proxy() {
        for seed in [0, 1] {
            let said = told("HTTP/1.1 200", seed, 4096, Some(End::Reset));
            assert!(said.starts_with("the proxy p:1 ended the connection before"), "{said}");
            assert!(said.contains("the connection broke: connection reset"), "{said}");
        }
    }

    #[test]
    fn an_answer_that_repeats_the_request_repeats_no_secret() {
        for secret in SECRETS {
            for answer in
                [format!("HTTP/1.1 400 {secret}\r\n\r\nyou said {secret}"), format!("who is {secret}?\n")]
            {
                let said = told(&answer, 0, 4096, Some(End::Eof));
                assert!(said.contains("***"), "{said}");
            }
        }
    }
}
