//! What a protocol has said to be secret on a connection.

use crate::error::Error;
use crate::protocol::Effect;
use crate::secrets::Secrets;
use crate::session::{ConnectionId, Session};

/// So many are known of a connection: the last ones.
const MOST_SECRETS: usize = 512;

impl Session {
    pub(super) fn secrets_of(&self, id: ConnectionId) -> Secrets {
        self.line.connection(id).map(|connection| connection.secrets.clone()).unwrap_or_default()
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
        let secrets = &connection.secrets;
        for effect in effects {
            if let Effect::End(_, Err(error)) | Effect::Close { error: Some(error), .. } = effect {
                *error = error.clone().hiding(secrets);
            }
        }
        outcome.map_err(|error| error.hiding(secrets))
    }
}
