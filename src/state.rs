//! The states of a line and the transitions between them.

use std::fmt;

/// The state of a line.
///
/// ```text
///                 ┌──────────────── retry ────────────┐
///                 ▼                                   │
///  DISCONNECTED ─▶ CONNECTING ─▶ CONNECTED ─▶ AUTHENTICATED
///       ▲              │            │  │            │  │
///       ├── will retry─┴────────────┘  └─▶ CLOSING ◀┘  │
///       ├──────────────────────────────────┤           │
///       └──────────────────────────────────┼───────────┘
///                                          ▼
///                     (from any state)  CLOSED   final
/// ```
///
/// A line is *ready* in [`Connected`](Self::Connected), or, with a protocol that logs in, in
/// [`Authenticated`](Self::Authenticated). Only a ready line carries the application's messages.
///
/// ```
/// use tautline::ConnectionState;
///
/// assert_eq!(ConnectionState::Connecting.to_string(), "CONNECTING");
/// assert!(ConnectionState::Connecting.may_become(ConnectionState::Connected));
/// assert!(!ConnectionState::Closed.may_become(ConnectionState::Connecting));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionState {
    /// No connection. Another attempt follows, unless the line is [suspended](crate::Client::suspend).
    Disconnected,
    /// An attempt is under way: DNS lookup, TCP, TLS, upgrade.
    Connecting,
    /// The WebSocket is open.
    Connected,
    /// The WebSocket is open and the protocol has logged in.
    Authenticated,
    /// The close handshake is under way.
    Closing,
    /// Final: the caller closed the client, the client gave up, or the server refused it for good.
    Closed,
}

impl ConnectionState {
    /// All of them; each at the place that its number (`as u8`) says.
    const ALL: [Self; 6] = [
        Self::Disconnected,
        Self::Connecting,
        Self::Connected,
        Self::Authenticated,
        Self::Closing,
        Self::Closed,
    ];

    /// The state whose number (`as u8`) this is.
    pub(crate) fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Closed)
    }

    /// Whether `next` may directly follow this state.
    pub const fn may_become(self, next: Self) -> bool {
        use ConnectionState::{Authenticated, Closed, Closing, Connected, Connecting, Disconnected};
        match next {
            Disconnected => matches!(self, Connecting | Connected | Authenticated | Closing),
            Connecting => matches!(self, Disconnected),
            Connected => matches!(self, Connecting),
            Authenticated => matches!(self, Connected),
            Closing => matches!(self, Connected | Authenticated),
            Closed => !matches!(self, Closed),
        }
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Disconnected => "DISCONNECTED",
            Self::Connecting => "CONNECTING",
            Self::Connected => "CONNECTED",
            Self::Authenticated => "AUTHENTICATED",
            Self::Closing => "CLOSING",
            Self::Closed => "CLOSED",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectionState::{self, *};

    const ALL: [ConnectionState; 6] = [Disconnected, Connecting, Connected, Authenticated, Closing, Closed];

    #[test]
    fn the_legal_transitions_are_exactly_those_of_the_diagram() {
        let legal: Vec<_> = ALL
            .iter()
            .flat_map(|from| ALL.iter().map(move |to| (*from, *to)))
            .filter(|(from, to)| from.may_become(*to))
            .collect();
        assert_eq!(
            legal,
            [
                (Disconnected, Connecting),
                (Disconnected, Closed),
                (Connecting, Disconnected),
                (Connecting, Connected),
                (Connecting, Closed),
                (Connected, Disconnected),
                (Connected, Authenticated),
                (Connected, Closing),
                (Connected, Closed),
                (Authenticated, Disconnected),
                (Authenticated, Closing),
                (Authenticated, Closed),
                (Closing, Disconnected),
                (Closing, Closed),
            ]
        );
    }

    #[test]
    fn the_names_are_upper_case() {
        let names: Vec<_> = ALL.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["DISCONNECTED", "CONNECTING", "CONNECTED", "AUTHENTICATED", "CLOSING", "CLOSED"]);
    }
}
