//! What is secret on a connection: what the request for it held, and what its protocol calls so.

use crate::error::Error;
use crate::protocol::Effect;
use crate::secrets::Secrets;
use crate::session::{ConnectionId, Session};

/// So many of a protocol's are known on a connection: the last ones. The request's are always known.
const MOST_SECRETS: usize = 512;

impl Session {
    pub(super) fn secrets_of(&self, id: ConnectionId) -> Secrets {
        self.line
            .connection(id)
            .map(|connection| connection.request_secrets.and(&connection.secrets))
            .unwrap_or_default()
    }

    /// Learns what a hook says is secret, and hides it in the errors that the hook brings.
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
        // Most hooks bring none: they are called for each message.
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
