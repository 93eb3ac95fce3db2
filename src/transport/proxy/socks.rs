//! SOCKS 5 (RFC 1928), with the login of RFC 1929, as a client.
//!
//! ```text
//!  Greeting ──method 0──▶ Request ──reply 0──▶ Address ──▶ open
//!      └───method 2──▶ Login ──status 0──▲
//! ```

use std::net::{IpAddr, SocketAddr};

use crate::config::proxy::Login;
use crate::error::ProxyErrorKind;
use crate::secrets::Secrets;
use crate::transport::proxy::{Fault, Machine, READ, UNREACHED, is_shown};

/// Asks a SOCKS proxy for a tunnel, and reads its answers.
pub(crate) struct Socks {
    whom: Whom,
    login: Option<Login>,
    secrets: Secrets,
    state: State,
    outgoing: Option<Vec<u8>>,
    /// What has come of the answer that is awaited.
    answer: Vec<u8>,
    /// Whether the proxy has answered before.
    spoke: bool,
}

/// The target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Address(SocketAddr),
    /// A name of 255 bytes at most, with its length before it, and a port.
    Name(Vec<u8>, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for the method that the proxy chooses.
    Greeting,
    /// Waits for what it says to user and password.
    Login,
    /// Waits for the reply to the request, and its address.
    Request,
    /// It does not speak SOCKS 5.
    Odd,
}

const VERSION: u8 = 5;

const NO_LOGIN: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xFF;

const CONNECT: u8 = 1;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

const NOT_SOCKS: &str = ", which is not SOCKS 5";

const HTTP: &str = "; that is an HTTP proxy, or a server: use http:// for an HTTP proxy";

impl Whom {
    /// `None` for a name that is too long.
    pub(crate) fn name(name: &str, port: u16) -> Option<Self> {
        let length = u8::try_from(name.len()).ok()?;
        Some(Self::Name([&[length], name.as_bytes()].concat(), port))
    }

    /// Its type, address and port (RFC 1928, section 5).
    fn bytes(&self) -> Vec<u8> {
        let (kind, host, port) = match self {
            Self::Name(name, port) => (NAME, name.clone(), *port),
            Self::Address(address) => match address.ip().to_canonical() {
                IpAddr::V4(ip) => (IPV4, ip.octets().to_vec(), address.port()),
                IpAddr::V6(ip) => (IPV6, ip.octets().to_vec(), address.port()),
            },
        };
        [&[kind], &*host, &port.to_be_bytes()].concat()
    }
}

impl Socks {
    pub(crate) fn new(whom: Whom, login: Option<&Login>, secrets: Secrets) -> Self {
        // A proxy that needs no login may choose so, even if there is one.
        let methods: &[u8] = if login.is_some() { &[NO_LOGIN, USER_AND_PASSWORD] } else { &[NO_LOGIN] };
        let outgoing = Some([&[VERSION, counted(methods)], methods].concat());
        let login = login.cloned();
        Self { whom, login, secrets, state: State::Greeting, outgoing, answer: Vec::new(), spoke: false }
    }

    /// What the next answer is expected to have in bytes, as far as is known.
    fn length(&self) -> usize {
        match self.state {
            State::Greeting | State::Login => 2,
            State::Odd => READ,
            State::Request => match *self.answer {
                [_, _, _, IPV4, ..] => 4 + 4 + 2,
                [_, _, _, IPV6, ..] => 4 + 16 + 2,
                [_, _, _, NAME, length, ..] => 4 + 1 + usize::from(length) + 2,
                [_, _, _, NAME] => 5,
                _ => 4,
            },
        }
    }

    /// The answer that was awaited is there: another one is.
    fn enter(&mut self, state: State, outgoing: Vec<u8>) {
        self.state = state;
        self.outgoing = Some(outgoing);
        self.answer.clear();
        self.spoke = true;
    }

    fn ask(&mut self) {
        let request = [&[VERSION, CONNECT, 0][..], &self.whom.bytes()].concat();
        self.enter(State::Request, request);
    }

    fn odd(&mut self) -> Result<bool, Fault> {
        self.state = State::Odd;
        if is_shown(&self.answer) { Err(self.handle_end()) } else { Ok(false) }
    }

    fn greeted(&mut self, method: u8) -> Result<bool, Fault> {
        match (method, &self.login) {
            (NO_LOGIN, _) => self.ask(),
            (USER_AND_PASSWORD, Some((user, password))) => {
                let part = |part: &str| [&[counted(part.as_bytes())], part.as_bytes()].concat();
                let login = [vec![1], part(user), part(password)].concat();
                self.enter(State::Login, login);
            }
            (NO_METHOD, None) => {
                let reason = "it takes nobody without a login; give it user and password, as by Proxy::login";
                return Err(Fault::new(ProxyErrorKind::LoginRequired, reason));
            }
            (NO_METHOD, Some(_)) => {
                let reason =
                    "it takes no login by user and password; does it want another one, or none from here?";
                return Err(Fault::new(ProxyErrorKind::LoginRefused, reason));
            }
            (other, _) => {
                let reason = format!("it chose login method {other}, which was not offered");
                return Err(Fault::new(ProxyErrorKind::Nonsense, reason));
            }
        }
        Ok(false)
    }
}

/// The length of what was checked to have 255 bytes at most.
fn counted(bytes: &[u8]) -> u8 {
    u8::try_from(bytes.len()).unwrap_or(u8::MAX)
}

impl Machine for Socks {
    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.outgoing.take()
    }

    fn wanted(&self) -> usize {
        self.length().saturating_sub(self.answer.len()).max(1)
    }

    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        self.answer.extend(bytes);
        match (self.state, &*self.answer) {
            (State::Odd, _) => self.odd(),
            (State::Greeting | State::Request, [first, ..]) if *first != VERSION => self.odd(),
            (State::Greeting, [_, method, ..]) => self.greeted(*method),
            // The version of the login.
            (State::Login, [first, ..]) if *first != 1 => self.odd(),
            (State::Login, [_, 0, ..]) => {
                self.ask();
                Ok(false)
            }
            (State::Login, [_, status, ..]) => {
                let reason = format!("it answered with status {status}; are user and password right?");
                Err(Fault::new(ProxyErrorKind::LoginRefused, reason))
            }
            (State::Request, [_, reply, ..]) if *reply != 0 => Err(refused_with(*reply)),
            (State::Request, [_, _, _, kind, ..]) if !matches!(*kind, IPV4 | NAME | IPV6) => {
                let reason = format!("its reply has an address of the unknown type {kind}");
                Err(Fault::new(ProxyErrorKind::Nonsense, reason))
            }
            (State::Request, answer) => Ok(answer.len() > 4 && answer.len() == self.length()),
            _ => Ok(false),
        }
    }

    fn has_failed(&self) -> bool {
        self.state == State::Odd
    }

    fn handle_end(&mut self) -> Fault {
        let reason = match self.state {
            State::Odd => {
                let why = if self.answer.starts_with(b"HTTP/") { HTTP } else { NOT_SOCKS };
                return Fault::nonsense(&self.answer, &self.secrets, why);
            }
            _ if !self.answer.is_empty() => "in the middle of its answer",
            State::Greeting if !self.spoke => {
                "it said nothing; if it is an HTTP proxy, use http:// or, if it speaks TLS, https://"
            }
            State::Login => "it did not answer the login; are user and password right?",
            _ => "it did not answer the request; its log may say why",
        };
        Fault::new(ProxyErrorKind::Ended, reason)
    }
}

/// What a reply other than 0 means (RFC 1928, section 6).
fn refused_with(reply: u8) -> Fault {
    let (kind, words) = match reply {
        1 => (ProxyErrorKind::Refused, "a general failure; its log may say why"),
        2 => (
            ProxyErrorKind::Forbidden,
            "its rules do not allow it; whoever runs it has to allow this host and port",
        ),
        3 => (ProxyErrorKind::TargetUnreachable, "the network is unreachable from there"),
        4 => (
            ProxyErrorKind::TargetUnreachable,
            "the host is unreachable from there, or its name has no address",
        ),
        5 => (ProxyErrorKind::TargetUnreachable, "the host refused the connection"),
        6 => (ProxyErrorKind::TargetUnreachable, "the connection took too long (TTL expired)"),
        7 => (ProxyErrorKind::Refused, "it does not know the command CONNECT"),
        8 => (
            ProxyErrorKind::Refused,
            "it does not know this type of address; if it takes no names, use socks5://, and if it takes no IPv6, \
             socks5h://",
        ),
        _ => (ProxyErrorKind::Refused, "a failure that has no name"),
    };
    let advice = if kind == ProxyErrorKind::TargetUnreachable { UNREACHED } else { "" };
    Fault::new(kind, format!("{words} (SOCKS reply {reply}){advice}"))
}
