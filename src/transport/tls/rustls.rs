//! TLS by rustls.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, InconsistentKeys,
    RootCertStore, SignatureScheme, StreamOwned, SupportedProtocolVersion,
};

use crate::config::{Parts, TlsConfig, TlsVersion};
use crate::transport::link::Layer;
use crate::transport::tls::{Said, Secured, Step, Unfinished, Unusable, said_once};
use crate::transport::wire::Wire;

/// Parses the certificates. The roots of the system are not loaded.
pub(super) fn check(config: &TlsConfig) -> Result<(), Unusable> {
    roots(config).map_err(|reason| ("tls.roots", reason))?;
    let Some((chain, key)) = identity(config).map_err(|reason| ("tls.identity", reason))? else {
        return Ok(());
    };
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map(drop).map_err(|error| {
        let reason = match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                "its key does not fit its certificate, which must be the first of its file".into()
            }
            // Rustls has the same words for a certificate of its own side as for one of the peer's.
            Error::InvalidCertificate(why) if format!("{why:?}").contains("UnsupportedCertVersion") => {
                "its certificate is of X.509 version 1, which rustls can't use; have it issued in version 3, or use \
                 TlsBackend::NativeTls"
                    .into()
            }
            Error::InvalidCertificate(why) => format!("rustls can't read its certificate: {why:?}"),
            error => format!("the TLS library refuses it: {error}"),
        };
        ("tls.identity", reason)
    })
}

/// The roots of the configuration.
fn roots(config: &TlsConfig) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut roots = Vec::new();
    for (at, root) in config.roots.iter().enumerate() {
        for der in root.ders().map_err(|reason| config.of_root(at, &reason))? {
            let root = CertificateDer::from(der);
            RootCertStore::empty()
                .add(root.clone())
                .map_err(|error| config.of_root(at, &format!("it is no certificate: {error}")))?;
            roots.push(root);
        }
    }
    Ok(roots)
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(config: &TlsConfig) -> Result<Option<Pair>, String> {
    let Some(identity) = &config.identity else { return Ok(None) };
    match identity.parts()? {
        Parts::Pair { chain, key } => {
            let chain = chain.into_iter().map(CertificateDer::from).collect();
            Ok(Some((chain, PrivatePkcs8KeyDer::from(key).into())))
        }
        Parts::Pkcs12 { .. } => {
            Err("it is PKCS#12, which rustls can't open; convert it to PEM for Identity::from_pem: \
             openssl pkcs12 -in FILE -nodes -out NEW"
                .into())
        }
    }
}

pub(super) fn build(config: &TlsConfig) -> Result<Arc<ClientConfig>, Said> {
    const SINCE_12: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    const SINCE_13: &[&SupportedProtocolVersion] = &[&TLS13];
    let said = |error: Error| Said::new(&error);
    let provider = Arc::new(ring::default_provider());
    let versions = if config.min_version > Some(TlsVersion::Tls12) { SINCE_13 } else { SINCE_12 };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions).map_err(said)?;
    let verifier = verifier(config, provider)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let built = match identity(config).map_err(|reason| Said::new(&reason))? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(said)?,
    };
    Ok(Arc::new(built))
}

fn verifier(config: &TlsConfig, provider: Arc<CryptoProvider>) -> Result<Arc<Verifier>, Said> {
    let trust = if config.danger_accept_invalid_certs { None } else { Some(Trust::new(config, &provider)?) };
    Ok(Arc::new(Verifier { trust, provider }))
}

/// Whose certificates are taken.
#[derive(Debug)]
struct Trust {
    roots: Vec<CertificateDer<'static>>,
    chains: Arc<dyn ServerCertVerifier>,
}

impl Trust {
    fn new(config: &TlsConfig, provider: &Arc<CryptoProvider>) -> Result<Self, Said> {
        let roots = roots(config).map_err(|reason| Said::new(&reason))?;
        let chains: Arc<dyn ServerCertVerifier> = if config.only_these_roots {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(roots.iter().cloned());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
            verifier.build().map_err(|error| Said::new(&error))?
        } else {
            let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(
                roots.iter().cloned(),
                Arc::clone(provider),
            );
            Arc::new(verifier.map_err(|error| Said::new(&error))?)
        };
        Ok(Self { roots, chains })
    }
}

/// Takes a certificate that leads to a root, or is one. Rustls alone takes no root that may issue others, as most
/// certificates that have signed themselves may. Without trust, it takes any. In each case the peer must have its key.
#[derive(Debug)]
struct Verifier {
    trust: Option<Trust>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(Trust { roots, chains }) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        match chains.verify_server_cert(certificate, between, name, ocsp, now) {
            // Its dates have been compared before, and its name has not.
            Err(error) if is_authority(&error) && roots.contains(certificate) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate was refused because it may issue others.
fn is_authority(error: &Error) -> bool {
    // The error's own type belongs to a crate beneath rustls.
    matches!(error, Error::InvalidCertificate(CertificateError::Other(_)))
        && error.to_string().contains("CaUsedAsEndEntity")
}

/// Begins a handshake.
pub(super) fn begin(config: &Arc<ClientConfig>, name: &str, wire: Wire) -> Step {
    let name = match ServerName::try_from(name.to_owned()) {
        Ok(name) => name,
        Err(error) => return Step::Failed(Said::new(&error)),
    };
    match ClientConnection::new(Arc::clone(config), name) {
        Ok(connection) => {
            let stream = StreamOwned::new(connection, wire);
            Box::new(Session { stream, failed: None }).go_on()
        }
        Err(error) => Step::Failed(Said::new(&error)),
    }
}

/// TLS over a wire, in its handshake and after it.
struct Session {
    stream: StreamOwned<ClientConnection, Wire>,
    /// Why reading is over. What came before it is read first.
    failed: Option<io::Error>,
}

impl Unfinished for Session {
    fn wire_mut(&mut self) -> &mut Wire {
        self.stream.get_mut()
    }

    fn go_on(mut self: Box<Self>) -> Step {
        let mut progress = Ok((1, 1));
        while self.stream.conn.is_handshaking() && matches!(progress, Ok(moved) if moved != (0, 0)) {
            progress = self.stream.conn.complete_io(&mut self.stream.sock);
        }
        match progress {
            Ok(_) if self.stream.conn.is_handshaking() => Step::Waiting(self),
            Ok(_) => Step::Done(self),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Waiting(self),
            Err(error) => Step::Failed(Said::new(&error)),
        }
    }
}

impl Layer for Session {
    fn wire(&self) -> &Wire {
        self.stream.get_ref()
    }

    fn wire_mut(&mut self) -> &mut Wire {
        self.stream.get_mut()
    }

    fn shutdown(&mut self) -> io::Result<()> {
        self.stream.conn.send_close_notify();
        self.stream.flush()
    }
}

impl Secured for Session {
    fn certificate(&self) -> Option<Vec<u8>> {
        Some(self.stream.conn.peer_certificates()?.first()?.to_vec())
    }
}

impl Read for Session {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed.is_none() {
            match self.stream.read(buffer) {
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    self.failed = Some(error);
                }
                other => return other,
            }
        }
        match self.stream.conn.reader().read(buffer) {
            Ok(read) if read > 0 => Ok(read),
            _ => match self.failed.take() {
                // Many servers end without an alert. What it would protect from, the frames show, and the answer's end.
                Some(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(0),
                Some(error) => Err(said_once(error)),
                None => Ok(0),
            },
        }
    }
}

impl Write for Session {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
