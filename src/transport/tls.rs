//! TLS by the system's library.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use native_tls::{HandshakeError, TlsConnector};

use crate::error::{Cause, Error};
use crate::transport::stream::{Link, Wire};
use crate::transport::{Attempt, Settings, Target};

/// The connector of one client: the one it was given, or the default one, which costs about 70 ms and 860 KiB to build
/// and is shared by all clients that are alive.
#[derive(Clone, Default)]
pub(crate) struct Connector(Arc<OnceLock<Arc<TlsConnector>>>);

impl Connector {
    fn get(&self, settings: &Settings) -> Result<Arc<TlsConnector>, native_tls::Error> {
        if let Some(connector) = self.0.get() {
            return Ok(Arc::clone(connector));
        }
        let connector = match &settings.config.tls {
            Some(given) => Arc::new(given.clone()),
            None => default_connector()?,
        };
        Ok(Arc::clone(self.0.get_or_init(|| connector)))
    }
}

fn default_connector() -> Result<Arc<TlsConnector>, native_tls::Error> {
    static SHARED: Mutex<Weak<TlsConnector>> = Mutex::new(Weak::new());
    // Nothing that is left half done by a panic: the guard holds one pointer.
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(connector) = shared.upgrade() {
        return Ok(connector);
    }
    let connector = Arc::new(TlsConnector::new()?);
    *shared = Arc::downgrade(&connector);
    Ok(connector)
}

pub(crate) fn handshake(wire: Wire, target: &Target<'_>, attempt: &mut impl Attempt) -> Result<Link, Error> {
    let host = &target.endpoint.host;
    let failed = |source: Cause| Error::Tls { host: host.clone(), source };
    let connector = attempt
        .uninterruptible("building the TLS connector", || target.settings.tls.get(target.settings))?
        .map_err(|error| failed(Arc::new(error)))?;
    let mut result = connector.connect(target.endpoint.tls_name(), wire);
    loop {
        match result {
            Ok(stream) => return Ok(Link::tls(stream)),
            Err(HandshakeError::Failure(error)) => return Err(failed(Arc::new(error))),
            Err(HandshakeError::WouldBlock(mut unfinished)) => {
                attempt.wait(unfinished.get_mut(), None)?;
                result = unfinished.handshake();
            }
        }
    }
}
