//! HTTP CONNECT (RFC 9110, section 9.3.6), as a client.

use crate::error::{ProxyErrorKind, Rejection};
use crate::secrets::Secrets;
use crate::transport::body::Body;
use crate::transport::head::{Head, Odd, Reader};
use crate::transport::proxy::{Fault, Machine, READ, UNREACHED, is_shown};

const NOT_HTTP: &str = ", which is not HTTP/1.1";

/// Asks an HTTP proxy for a tunnel, and reads its answer.
pub(crate) struct Connect {
    request: Option<Vec<u8>>,
    logs_in: bool,
    secrets: Secrets,
    /// How many bytes the answer may have.
    limit: usize,
    /// What to do if it says nothing.
    hint: &'static str,
    reader: Reader,
    answer: Vec<u8>,
    state: State,
}

enum State {
    Head,
    /// The way stays shut, and the body may say why.
    Refused(Box<(Rejection, Body)>),
    /// It is not HTTP, and why not.
    Odd(&'static str),
}

impl Connect {
    /// `authority` is host and port of the target.
    pub(crate) fn new(
        authority: &str,
        headers: &[(String, String)],
        secrets: Secrets,
        limit: usize,
        hint: &'static str,
    ) -> Self {
        let given = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\n");
        if !given("Host") {
            request.extend(["Host: ", authority, "\r\n"]);
        }
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        request.push_str("\r\n");
        Self {
            request: Some(request.into_bytes()),
            logs_in: given("Proxy-Authorization"),
            secrets,
            limit,
            hint,
            reader: Reader::default(),
            answer: Vec::new(),
            state: State::Head,
        }
    }

    /// Judges a complete head. `Ok(true)` means that the tunnel is open.
    fn judge(&mut self, head: Head, length: usize) -> Result<bool, Fault> {
        if matches!(head.status, 200..=299) {
            // "A client MUST ignore any Content-Length or Transfer-Encoding header fields received in a successful
            // response to CONNECT."
            return Ok(true);
        }
        self.answer.drain(..length);
        let mut rejection = Rejection::new(head.status, head.reason, head.headers);
        rejection.secrets = self.secrets.clone();
        let body = Body::new(&rejection);
        self.state = State::Refused(Box::new((rejection, body)));
        self.go_on()
    }

    /// Fails once there is no more to say.
    fn go_on(&mut self) -> Result<bool, Fault> {
        let is_over = match &mut self.state {
            State::Head => false,
            State::Refused(refused) => {
                let (_, body) = &mut **refused;
                self.answer.len() >= self.limit || body.is_complete(&self.answer)
            }
            State::Odd(_) => is_shown(&self.answer),
        };
        if is_over { Err(self.handle_end()) } else { Ok(false) }
    }
}

impl Machine for Connect {
    fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.request.take()
    }

    fn wanted(&self) -> usize {
        let most = match self.state {
            // The next byte may be the last of the head.
            State::Head => 1,
            State::Refused(_) => self.limit.saturating_sub(self.answer.len()),
            State::Odd(_) => READ.saturating_sub(self.answer.len()),
        };
        most.max(1)
    }

    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        self.answer.extend(bytes);
        if !matches!(self.state, State::Head) {
            return self.go_on();
        }
        match self.reader.read(&self.answer) {
            Ok(Some((head, length))) => self.judge(head, length),
            Ok(None) if self.answer.len() >= self.limit => {
                let limit = self.limit;
                let reason = format!("its headers exceed {limit} bytes (max_response_size)");
                Err(Fault::new(ProxyErrorKind::Nonsense, reason))
            }
            Ok(None) => Ok(false),
            Err(odd) => {
                let why = match odd {
                    Odd::Other => NOT_HTTP,
                    Odd::NoStatus => ", which has no status",
                };
                // The empty lines before it say nothing.
                let begin = self.answer.iter().take_while(|byte| b"\r\n".contains(byte)).count();
                self.answer.drain(..begin);
                self.state = State::Odd(why);
                self.go_on()
            }
        }
    }

    fn has_failed(&self) -> bool {
        !matches!(self.state, State::Head)
    }

    fn handle_end(&mut self) -> Fault {
        match std::mem::replace(&mut self.state, State::Head) {
            State::Head if self.answer.is_empty() => {
                Fault::new(ProxyErrorKind::Ended, format!("it said nothing; {}", self.hint))
            }
            State::Head if self.answer.len() == 1 => Fault::nonsense(&self.answer, &self.secrets, NOT_HTTP),
            State::Head => Fault::new(ProxyErrorKind::Ended, "in the middle of the headers of its answer"),
            State::Odd(why) => Fault::nonsense(&self.answer, &self.secrets, why),
            State::Refused(refused) => {
                let (mut rejection, mut body) = *refused;
                self.answer.truncate(self.limit);
                rejection.body = body.decode(std::mem::take(&mut self.answer));
                refused_with(rejection, self.logs_in)
            }
        }
    }
}

/// What an answer other than 2xx means.
fn refused_with(rejection: Rejection, logs_in: bool) -> Fault {
    let (kind, advice) = match rejection.status {
        // Some, such as tinyproxy, answer wrong credentials with 401.
        407 | 401 if logs_in => (ProxyErrorKind::LoginRefused, "; are user and password right?"),
        407 | 401 => (ProxyErrorKind::LoginRequired, "; give it user and password, as by Proxy::login"),
        403 => (ProxyErrorKind::Forbidden, "; whoever runs it has to allow this host and port"),
        501 | 505 => (ProxyErrorKind::Refused, "; does it allow CONNECT?"),
        500..=599 => (ProxyErrorKind::TargetUnreachable, UNREACHED),
        405 | 400 | 404 | 300..=399 => {
            (ProxyErrorKind::Refused, "; is it an HTTP proxy that allows CONNECT?")
        }
        _ => (ProxyErrorKind::Refused, ""),
    };
    let reason = format!("it answered {}{advice}", rejection.said_by_proxy());
    Fault { answer: Some(Box::new(rejection)), ..Fault::new(kind, reason) }
}
