//! What is secret on a connection: contents of its upgrade request, and what its protocol declares secret.

use crate::error::Error;
use crate::protocol::Effect;
use crate::secrets::Secrets;
use crate::session::{ConnectionId, Session};

/// How many of the protocol's secrets a connection remembers: the newest ones. Those of the request are never
/// forgotten.
const MOST_SECRETS: usize = 512;

impl Session {
    pub(super) fn secrets_of(&self, id: ConnectionId) -> Secrets {
        self.line
            .connection(id)
            .map(|connection| connection.handshake.secrets.and(&connection.secrets))
            .unwrap_or_default()
    }

    /// Learns the secrets that a hook declares, and hides them in the errors that the hook returns.
    pub(super) fn hide_secrets(
        &mut self,
        id: ConnectionId,
        effects: &mut [Effect],
        outcome: Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(connection) = self.line.connection_mut(id) else { return outcome };
        for effect in &*effects {
            if let Effect::Secret(secrets) = effect {
                connection.secrets = connection.secrets.and(secrets).newest(MOST_SECRETS);
            }
        }
        let brings_error =
            |effect: &Effect| matches!(effect, Effect::End(_, Err(_)) | Effect::Close { error: Some(_), .. });
        // Most calls bring no error, and hooks run for each message.
        if outcome.is_ok() && !effects.iter().any(brings_error) {
            return outcome;
        }
        let secrets = &self.secrets_of(id);
        for effect in effects {
            if let Effect::End(_, Err(error)) | Effect::Close { error: Some(error), .. } = effect {
                *error = error.clone().hiding(secrets);
            }
        }
        outcome.map_err(|error| error.hiding(secrets))
    }
}
