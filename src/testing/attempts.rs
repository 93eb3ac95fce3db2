//! How the test answers an attempt.

use std::sync::Arc;

use crate::config::is_token;
use crate::dial::Dialled;
use crate::error::{Error, Rejection};
use crate::handshake::{Handshake, ResponseHeaders};
use crate::protocol::UpgradeRequest;
use crate::session::ConnectionId;
use crate::testing::{Line, host, turn};
use crate::transport::Connection;
use crate::transport::link::Link;
use crate::transport::socket::Socket;
use crate::transport::wire::Wire;

/// The header by which a server chooses a subprotocol.
const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol";

impl Line {
    /// Returns the request of the attempt under way: the first, a later one, or that of a move.
    ///
    /// # Panics
    /// If no attempt is under way.
    #[track_caller]
    pub fn attempt(&self) -> &UpgradeRequest {
        match &self.turn.host.attempt {
            Some((_, request)) => request,
            None => self.no_attempt(),
        }
    }

    /// Whether an attempt is under way.
    pub fn is_dialling(&self) -> bool {
        self.turn.host.attempt.is_some()
    }

    /// Accepts the attempt under way as the server, without a subprotocol. If the attempt requires one, it fails: see
    /// [`require_subprotocol`](crate::ConnectionConfig::require_subprotocol).
    #[track_caller]
    pub fn open(&mut self) {
        self.open_with_headers(&[]);
    }

    /// Accepts the attempt under way as the server, with this subprotocol.
    ///
    /// # Panics
    /// If the subprotocol was not offered.
    #[track_caller]
    pub fn open_with(&mut self, subprotocol: &str) {
        self.open_with_headers(&[(SUBPROTOCOL, subprotocol)]);
    }

    /// Accepts the attempt under way as the server, with these headers in the answer. `Sec-WebSocket-Protocol` among them
    /// chooses a subprotocol.
    ///
    /// # Panics
    /// If that subprotocol was not offered, or a server can't send such a header.
    ///
    /// ```
    /// # use tautline::{Event, JsonSession, testing::Line};
    /// let mut line = Line::new("ws://test.example", JsonSession::new())?;
    /// line.open_with_headers(&[("X-Node", "7")]);
    /// assert!(line.events().iter().any(|event| match event {
    ///     Event::Connected { handshake, .. } => handshake.headers.get("X-Node") == Some("7"),
    ///     _ => false,
    /// }));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    #[track_caller]
    pub fn open_with_headers(&mut self, headers: &[(&str, &str)]) {
        for (name, value) in headers {
            assert!(
                is_token(name) && !value.contains(|c: char| c != '\t' && c.is_control()),
                "no server sends the header {name:?} with the value {value:?}"
            );
        }
        let chosen = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(SUBPROTOCOL));
        let chosen = chosen.map(|(_, name)| *name);
        let offered = &self.attempt().subprotocols;
        assert!(
            chosen.is_none_or(|chosen| offered.iter().any(|name| name == chosen)),
            "the server can't choose {:?}; the attempt offers {offered:?}",
            chosen.unwrap_or_default()
        );
        if let Err(reason) = self.attempt().check_choice(chosen) {
            return self.fail(|request| {
                let reason = request.secrets().hide(&reason).into();
                Error::Upgrade { host: host(request), reason, source: None }
            });
        }
        let (generation, request) = self.take_attempt();
        let secrets = request.secrets();
        let headers = ResponseHeaders::new(headers.iter().copied(), secrets.clone());
        let agreed = Handshake::new(Some(([192, 0, 2, 1], 443).into()), chosen.map(Into::into));
        let handshake = Handshake { headers, secrets, ..agreed };
        let moves = self.turn.session.current().is_some();
        let server = if moves { &mut self.beside } else { &mut self.server };
        let link = Link::Plain(Wire::new(server.begin(ConnectionId(generation))));
        let socket = Box::new(Socket::new(link, Vec::new(), self.turn.session.config(), None));
        let result = Ok(Connection { socket, handshake: Arc::new(handshake) });
        self.turn.host.results.push_back(Dialled { generation, result });
        self.settle();
    }

    /// Answers the attempt under way with this HTTP status.
    #[track_caller]
    pub fn reject(&mut self, status: u16) {
        self.reject_with(status, &[]);
    }

    /// Answers the attempt under way with this HTTP status and these headers.
    ///
    /// # Panics
    /// If a server can't reject an upgrade with this status.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tautline::{JsonSession, testing::Line};
    /// let mut line = Line::new("ws://test.example", JsonSession::new())?;
    /// line.reject_with(503, &[("Retry-After", "120")]);
    /// assert_eq!(line.next_attempt(), Some(Duration::from_secs(120)));
    /// # Ok::<(), tautline::Error>(())
    /// ```
    #[track_caller]
    pub fn reject_with(&mut self, status: u16, headers: &[(&str, &str)]) {
        assert!((200..600).contains(&status), "no server refuses with {status}: take 200 to 599");
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let rejection = Rejection::new(status, "", headers);
        self.fail(|request| {
            Error::UpgradeRejected(Arc::new(Rejection { place: host(request), ..rejection }))
        });
    }

    /// Fails the attempt under way: no TCP connection is made.
    #[track_caller]
    pub fn refuse(&mut self) {
        self.fail(turn::refused);
    }

    #[track_caller]
    fn fail(&mut self, error: impl FnOnce(&UpgradeRequest) -> Error) {
        let (generation, request) = self.take_attempt();
        let result = Err(error(&request));
        self.turn.host.results.push_back(Dialled { generation, result });
        self.settle();
    }

    #[track_caller]
    fn take_attempt(&mut self) -> (u64, UpgradeRequest) {
        match self.turn.host.attempt.take() {
            Some(attempt) => attempt,
            None => self.no_attempt(),
        }
    }

    #[track_caller]
    fn no_attempt(&self) -> ! {
        let state = self.state();
        match self.next_attempt() {
            Some(delay) => {
                panic!("no attempt is under way ({state}); the next is due in {delay:?}: step so far")
            }
            None => panic!("no attempt is under way: the line is {state}"),
        }
    }
}
