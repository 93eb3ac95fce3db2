//! Confirms what was sent again and again, so that a loss leaves only the latest messages in doubt.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use tautline::{Beat, Client, Error};

use super::options::Options;

/// How long one confirmation may take before the next is requested.
const PATIENCE: Duration = Duration::from_secs(5);

/// Requests confirmations, where that is possible.
#[derive(Clone)]
pub(crate) struct Confirming(Option<Sender<()>>);

impl Confirming {
    /// Only pings confirm.
    pub(crate) fn start(client: &Client, options: &Options) -> io::Result<Self> {
        if options.config.heartbeat.beat != Beat::WebSocketPing {
            return Ok(Self(None));
        }
        let (client, (request, requested)) = (client.clone(), bounded(1));
        let waits = |outcome| matches!(outcome, Err(Error::Timeout { .. }));
        // THREAD `confirm`
        let confirm = move || requested.iter().for_each(|()| while waits(client.confirm(.., PATIENCE)) {});
        thread::Builder::new().name("confirm".into()).spawn(confirm)?;
        Ok(Self(Some(request)))
    }

    pub(crate) fn is_possible(&self) -> bool {
        self.0.is_some()
    }

    /// Asks whether what was sent so far has arrived.
    pub(crate) fn request(&self) {
        if let Some(request) = &self.0 {
            let _ = request.try_send(()); // if one is requested already, it is for this, too
        }
    }
}
