//! How a message is sent.

use std::time::Instant;

use crate::message::Message;
use crate::session::Readiness;
use crate::shared::{Intake, Offer};

/// How a message is sent, for [`Client::send_with`](crate::Client::send_with). By default it is sent as
/// [`send`](crate::Client::send) does.
///
/// ```
/// use tautline::SendOptions;
///
/// let options = SendOptions::new().this_connection();
/// assert!(options.this_connection);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SendOptions {
    /// Whether the message is for the present connection only, such as a subscription, or a key press that means nothing a
    /// minute later. Default `false`.
    ///
    /// * It is accepted only while the line is ready.
    /// * If the connection is lost before any of the message was written, it is never sent:
    ///   [`Event::Expired`](crate::Event::Expired) lists it, and [`confirm`](crate::Client::confirm) names it in
    ///   `never_sent`.
    /// * If it was written, at least in part, and not confirmed, it is in `maybe_delivered` of the loss, also with
    ///   [`Delivery::AtLeastOnce`](crate::Delivery::AtLeastOnce). It is not sent again.
    /// * A [move](crate::Context::move_line) keeps the session: a message of which nothing was written goes out on the
    ///   new connection.
    pub this_connection: bool,
}

impl SendOptions {
    /// Returns the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`this_connection`](field@Self::this_connection).
    pub fn this_connection(mut self) -> Self {
        self.this_connection = true;
        self
    }
}

/// A message to be accepted with these options.
pub(crate) fn offer(
    intake: &Intake,
    message: Message,
    options: SendOptions,
    expires: Option<Instant>,
) -> Offer {
    // No session has this number: on a line that is not ready, the message is refused.
    const NONE: u64 = 0;
    let session = options.this_connection.then(|| match intake.readiness() {
        Readiness::Ready(session) => session,
        Readiness::NotReady(_) => NONE,
    });
    Offer::new(message, session, expires)
}
