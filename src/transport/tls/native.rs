//! TLS by the operating system's library.

use std::io::{self, Read, Write};

use data_encoding::BASE64;
use native_tls::{
    Certificate, HandshakeError, Identity, MidHandshakeTlsStream, Protocol, TlsConnector, TlsStream,
};

use crate::config::{Parts, TlsConfig, TlsVersion};
use crate::transport::link::Layer;
use crate::transport::tls::{Said, Secured, Step, Unfinished, Unusable, said_once};
use crate::transport::wire::Wire;

/// Parses the certificates. Whether the key of an identity fits is found out by [`build`].
pub(super) fn check(config: &TlsConfig) -> Result<(), Unusable> {
    roots(config).map_err(|reason| ("tls.roots", reason))?;
    identity(config).map(drop).map_err(|reason| ("tls.identity", reason))
}

/// What is wrong with a certificate and a key of which each can be read.
fn mismatch(said: &str) -> String {
    if said.contains("key values mismatch") || said.contains("key type mismatch") {
        "its key does not fit its certificate, which must be the first of its file".into()
    } else {
        format!("the TLS library refuses it: {said}")
    }
}

fn roots(config: &TlsConfig) -> Result<Vec<Certificate>, String> {
    let mut roots = Vec::new();
    for (at, root) in config.roots.iter().enumerate() {
        for der in root.ders().map_err(|reason| config.of_root(at, &reason))? {
            let root = Certificate::from_der(&der);
            roots.push(root.map_err(|error| config.of_root(at, &format!("it is no certificate: {error}")))?);
        }
    }
    Ok(roots)
}

fn identity(config: &TlsConfig) -> Result<Option<Identity>, String> {
    let Some(identity) = &config.identity else { return Ok(None) };
    let identity = match identity.parts()? {
        Parts::Pair { chain, key } => {
            let chain: String = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
            let key = pem("PRIVATE KEY", &key);
            Identity::from_pkcs8(chain.as_bytes(), key.as_bytes())
                .map_err(|error| mismatch(&error.to_string()))
        }
        Parts::Pkcs12 { der, password } => Identity::from_pkcs12(der, password).map_err(|error| {
            let said = error.to_string();
            let is_password =
                ["mac verify", "Wrong password", "password"].iter().any(|sign| said.contains(sign));
            if is_password {
                "its password is wrong, or it is damaged".into()
            } else {
                format!(
                    "the TLS library can't open it; a file of old tools may have to be made again: {said}"
                )
            }
        }),
    };
    identity.map(Some)
}

/// A certificate or a key as PEM.
fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
}

pub(super) fn build(config: &TlsConfig) -> Result<TlsConnector, Said> {
    if let Some(connector) = &config.connector {
        return Ok(connector.clone());
    }
    let mut builder = TlsConnector::builder();
    for root in roots(config).map_err(|reason| Said::new(&reason))? {
        builder.add_root_certificate(root);
    }
    if let Some(identity) = identity(config).map_err(|reason| Said::new(&reason))? {
        builder.identity(identity);
    }
    if let Some(version) = config.min_version {
        builder.min_protocol_version(Some(match version {
            TlsVersion::Tls10 => Protocol::Tlsv10,
            TlsVersion::Tls11 => Protocol::Tlsv11,
            TlsVersion::Tls12 => Protocol::Tlsv12,
            TlsVersion::Tls13 => Protocol::Tlsv13,
        }));
    }
    builder
        .disable_built_in_roots(config.only_these_roots)
        .danger_accept_invalid_certs(config.danger_accept_invalid_certs)
        .danger_accept_invalid_hostnames(config.danger_accept_invalid_certs);
    builder.build().map_err(|error| match config.identity {
        Some(_) => Said::new(&mismatch(&error.to_string())),
        None => Said::new(&error),
    })
}

type Outcome = Result<TlsStream<Wire>, HandshakeError<Wire>>;

/// Begins a handshake.
pub(super) fn begin(connector: &TlsConnector, name: &str, wire: Wire) -> Step {
    step(connector.connect(name, wire))
}

fn step(outcome: Outcome) -> Step {
    match outcome {
        Ok(stream) => Step::Done(Box::new(Session(stream))),
        Err(HandshakeError::WouldBlock(unfinished)) => Step::Waiting(Box::new(unfinished)),
        Err(HandshakeError::Failure(error)) => Step::Failed(Said::new(&error)),
    }
}

impl Unfinished for MidHandshakeTlsStream<Wire> {
    fn wire_mut(&mut self) -> &mut Wire {
        self.get_mut()
    }

    fn go_on(self: Box<Self>) -> Step {
        step(self.handshake())
    }
}

/// TLS over a wire after its handshake.
struct Session(TlsStream<Wire>);

impl Layer for Session {
    fn wire(&self) -> &Wire {
        self.0.get_ref()
    }

    fn wire_mut(&mut self) -> &mut Wire {
        self.0.get_mut()
    }

    fn shutdown(&mut self) -> io::Result<()> {
        self.0.shutdown()
    }
}

impl Secured for Session {
    fn certificate(&self) -> Option<Vec<u8>> {
        self.0.peer_certificate().ok()??.to_der().ok()
    }
}

impl Read for Session {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(said_once)
    }
}

impl Write for Session {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(said_once)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(said_once)
    }
}
