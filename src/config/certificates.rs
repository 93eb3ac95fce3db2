//! Certificates and identities: what the application gives, and what is in it.

use std::fmt;
use std::sync::Arc;

use data_encoding::BASE64;

/// A certificate to trust: see [`TlsConfig::root`](crate::TlsConfig::root). It is looked at when the client starts.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    encoding: Encoding,
    bytes: Arc<[u8]>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Pem,
    Der,
}

impl Certificate {
    /// Takes the content of a PEM file: text with the lines `BEGIN CERTIFICATE` and `END CERTIFICATE`. If it has several
    /// certificates, each is meant.
    ///
    /// ```no_run
    /// use tautline::{Certificate, TlsConfig};
    ///
    /// let tls = TlsConfig::default().root(Certificate::from_pem(std::fs::read("ca.pem")?));
    /// # drop(tls);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Self {
        Self { encoding: Encoding::Pem, bytes: pem.as_ref().into() }
    }

    /// Takes the content of a DER file, which has one certificate. Its name often ends in `.der`, `.cer` or `.crt`.
    ///
    /// ```no_run
    /// use tautline::{Certificate, TlsConfig};
    ///
    /// let tls = TlsConfig::default().root(Certificate::from_der(std::fs::read("ca.der")?));
    /// # drop(tls);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_der(der: impl AsRef<[u8]>) -> Self {
        Self { encoding: Encoding::Der, bytes: der.as_ref().into() }
    }

    /// The DER of each certificate, or what is wrong.
    pub(crate) fn ders(&self) -> Result<Vec<Vec<u8>>, String> {
        match self.encoding {
            Encoding::Pem => certificates(&self.bytes, "Certificate::from_der"),
            Encoding::Der if is_pem(&self.bytes) => Err("it is PEM; use Certificate::from_pem".into()),
            Encoding::Der if !is_sequence(&self.bytes) => Err("it is neither DER nor PEM".into()),
            Encoding::Der => Ok(vec![self.bytes.to_vec()]),
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoding = match self.encoding {
            Encoding::Pem => "PEM",
            Encoding::Der => "DER",
        };
        write!(f, "Certificate({} bytes of {encoding})", self.bytes.len())
    }
}

/// A certificate of the client's own with its private key: see [`TlsConfig::identity`](crate::TlsConfig::identity()). It is
/// looked at when the client starts. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity(Arc<Source>);

#[derive(PartialEq, Eq)]
enum Source {
    Pem { chain: Box<[u8]>, key: Box<[u8]> },
    Pkcs12 { der: Box<[u8]>, password: Box<str> },
}

/// What is in an identity.
#[cfg_attr(
    not(feature = "native-tls"),
    allow(
        dead_code,
        reason = "without a backend, nobody uses an identity, and only native-tls opens PKCS#12"
    )
)]
pub(crate) enum Parts<'a> {
    /// The DER of the client's certificate and of those between it and a root, and the DER of the key in PKCS#8.
    Pair { chain: Vec<Vec<u8>>, key: Vec<u8> },
    /// It takes a TLS library to look into it.
    Pkcs12 { der: &'a [u8], password: &'a str },
}

impl Identity {
    /// Takes two PEM files. `chain` has the client's certificate, followed by those between it and a root, if there are any.
    /// `key` has the private key in PKCS#8, not encrypted: `BEGIN PRIVATE KEY`. Both may be the same file.
    ///
    /// ```no_run
    /// use tautline::{Identity, TlsConfig};
    ///
    /// let identity = Identity::from_pem(std::fs::read("client.pem")?, std::fs::read("client.key")?);
    /// let tls = TlsConfig::default().identity(identity);
    /// # drop(tls);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        Self(Arc::new(Source::Pem { chain: chain.as_ref().into(), key: key.as_ref().into() }))
    }

    /// Takes a PKCS#12 file, which has the certificates and the key, and its password. Its name often ends in `.p12` or
    /// `.pfx`. Only the backend native-tls can open it.
    ///
    /// ```no_run
    /// use tautline::{Identity, TlsConfig};
    ///
    /// let identity = Identity::from_pkcs12(std::fs::read("client.p12")?, "password");
    /// let tls = TlsConfig::default().identity(identity);
    /// # drop(tls);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_pkcs12(der: impl AsRef<[u8]>, password: impl Into<String>) -> Self {
        Self(Arc::new(Source::Pkcs12 { der: der.as_ref().into(), password: password.into().into() }))
    }

    /// What is in it, or what is wrong.
    pub(crate) fn parts(&self) -> Result<Parts<'_>, String> {
        match &*self.0 {
            Source::Pem { chain, key } => {
                let chain = certificates(chain, "Identity::from_pkcs12 for PKCS#12")
                    .map_err(|reason| format!("its certificate: {reason}"))?;
                let key = private_key(key).map_err(|reason| format!("its key: {reason}"))?;
                Ok(Parts::Pair { chain, key })
            }
            Source::Pkcs12 { der, .. } if is_pem(der) => {
                Err("it is PEM and not PKCS#12; use Identity::from_pem".into())
            }
            Source::Pkcs12 { der, .. } if !is_sequence(der) => Err("it is not PKCS#12".into()),
            Source::Pkcs12 { der, password } => Ok(Parts::Pkcs12 { der, password }),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// The DER of the certificates in a PEM file. `for_der` takes DER.
fn certificates(pem: &[u8], for_der: &str) -> Result<Vec<Vec<u8>>, String> {
    let blocks = blocks(pem).map_err(|reason| {
        if is_sequence(pem) { format!("it is DER and not PEM; use {for_der}") } else { reason }
    })?;
    let found: Vec<_> = blocks.iter().filter(|block| block.label == "CERTIFICATE").collect();
    if found.is_empty() {
        return Err(format!("it has no certificate (BEGIN CERTIFICATE), only {}", labels(&blocks)));
    }
    found.into_iter().map(Block::der).collect()
}

/// The DER of the private key in a PEM file.
fn private_key(pem: &[u8]) -> Result<Vec<u8>, String> {
    let blocks = blocks(pem).map_err(|reason| {
        let der = "it is DER and not PEM; convert it: openssl pkey -inform DER -in KEY -out NEW";
        if is_sequence(pem) { der.into() } else { reason }
    })?;
    let found = |label: &str| blocks.iter().find(|block| block.label == label);
    if let Some(block) = found("PRIVATE KEY") {
        return block.der();
    }
    let convert = "convert it: openssl pkcs8 -topk8 -nocrypt -in KEY -out NEW";
    if found("ENCRYPTED PRIVATE KEY").is_some() || blocks.iter().any(|block| block.is_encrypted) {
        return Err(format!("it is encrypted; {convert}"));
    }
    match blocks.iter().find(|block| block.label.ends_with(" PRIVATE KEY")) {
        Some(block) => Err(format!("it is a {} and not in PKCS#8; {convert}", block.label)),
        None => Err(format!("it has no private key (BEGIN PRIVATE KEY), only {}", labels(&blocks))),
    }
}

/// A part of a PEM file (RFC 7468).
struct Block {
    label: String,
    base64: String,
    /// It begins with headers, as old encrypted keys do.
    is_encrypted: bool,
}

impl Block {
    fn der(&self) -> Result<Vec<u8>, String> {
        BASE64
            .decode(self.base64.as_bytes())
            .ok()
            .filter(|der| is_sequence(der))
            .ok_or_else(|| format!("what stands between BEGIN {0} and END {0} is damaged", self.label))
    }
}

fn blocks(pem: &[u8]) -> Result<Vec<Block>, String> {
    // What stands around the blocks may be in any encoding (RFC 7468, section 5.2). Windows puts a byte order mark in front.
    let text = String::from_utf8_lossy(pem);
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for line in text.lines().map(str::trim) {
        let border = |kind| line.strip_prefix("-----")?.strip_suffix("-----")?.strip_prefix(kind);
        match &mut open {
            None => {
                if let Some(label) = border("BEGIN ") {
                    open = Some(Block { label: label.into(), base64: String::new(), is_encrypted: false });
                }
            }
            Some(block) if border("END ") == Some(&*block.label) => blocks.extend(open.take()),
            Some(block) if line.starts_with("-----") => {
                return Err(format!("its BEGIN {} has no END", block.label));
            }
            Some(block) if line.contains(':') => block.is_encrypted |= line.contains("ENCRYPTED"),
            Some(block) => block.base64.extend(line.split_whitespace()),
        }
    }
    match open {
        Some(block) => Err(format!("its BEGIN {} has no END", block.label)),
        None if blocks.is_empty() => Err("it is not PEM: it has no line that starts with -----BEGIN".into()),
        None => Ok(blocks),
    }
}

fn labels(blocks: &[Block]) -> String {
    blocks.iter().map(|block| &*block.label).collect::<Vec<_>>().join(", ")
}

fn is_pem(bytes: &[u8]) -> bool {
    blocks(bytes).is_ok()
}

/// What every structure in DER that we take begins with.
fn is_sequence(der: &[u8]) -> bool {
    der.first() == Some(&0x30)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der))
    }

    const CA: &[u8] = include_bytes!("../../tests/data/ca.pem");
    const KEY: &[u8] = include_bytes!("../../tests/data/server.key");

    #[test]
    fn each_certificate_of_a_file_is_found_and_what_is_around_it_is_not() {
        let ca = Certificate::from_pem(CA).ders().unwrap();
        assert_eq!(ca.len(), 1);
        let server = include_bytes!("../../tests/data/server.pem");
        let both = [b"Subject: CN = a\n".as_slice(), CA, b"\r\nmore\r\n", KEY, server].concat();
        let both = Certificate::from_pem(both.as_slice()).ders().unwrap();
        assert_eq!((both.len(), &both[0]), (2, &ca[0]));
        assert_eq!(Certificate::from_der(&ca[0]).ders().unwrap(), ca);
        // A byte order mark, and a comment in Latin-1.
        for before in [&b"\xEF\xBB\xBF"[..], b"# Autorit\xE9\n"] {
            assert_eq!(Certificate::from_pem([before, CA].concat()).ders().unwrap(), ca);
        }
        assert_eq!(Certificate::from_pem(pem("CERTIFICATE", &ca[0])).ders().unwrap(), ca);
    }

    #[test]
    fn an_identity_may_stand_in_one_file() {
        let file = [KEY, CA].concat();
        let identity = Identity::from_pem(&file, &file);
        let Ok(Parts::Pair { chain, key }) = identity.parts() else { panic!("it can be used") };
        assert_eq!((chain.len(), is_sequence(&key)), (1, true));
    }

    #[test]
    fn what_can_not_be_used_is_named_with_what_to_do() {
        let der = &Certificate::from_pem(CA).ders().unwrap()[0];
        for (certificate, says) in [
            (Certificate::from_pem(der), "it is DER and not PEM; use Certificate::from_der"),
            (Certificate::from_der(CA), "it is PEM; use Certificate::from_pem"),
            (Certificate::from_der("nothing"), "it is neither DER nor PEM"),
            (Certificate::from_pem("nothing"), "it has no line that starts with -----BEGIN"),
            (Certificate::from_pem([0xFF]), "it is not PEM"),
            (Certificate::from_pem(KEY), "it has no certificate (BEGIN CERTIFICATE), only PRIVATE KEY"),
            (Certificate::from_pem("-----BEGIN CERTIFICATE-----\nMII"), "its BEGIN CERTIFICATE has no END"),
            (
                Certificate::from_pem("-----BEGIN CERTIFICATE-----\nM!\n-----END CERTIFICATE-----"),
                "what stands between BEGIN CERTIFICATE and END CERTIFICATE is damaged",
            ),
        ] {
            let reason = certificate.ders().unwrap_err();
            assert!(reason.contains(says), "{reason}");
        }
        let encrypted =
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMII=\n-----END RSA PRIVATE KEY-----";
        for (identity, says) in [
            (Identity::from_pem(KEY, KEY), "its certificate: it has no certificate"),
            (
                Identity::from_pem(CA, CA),
                "its key: it has no private key (BEGIN PRIVATE KEY), only CERTIFICATE",
            ),
            (
                Identity::from_pem(CA, pem("RSA PRIVATE KEY", b"0")),
                "it is a RSA PRIVATE KEY and not in PKCS#8",
            ),
            (
                Identity::from_pem(CA, pem("ENCRYPTED PRIVATE KEY", b"0")),
                "its key: it is encrypted; convert it",
            ),
            (Identity::from_pem(CA, encrypted), "its key: it is encrypted; convert it"),
            (Identity::from_pem(CA, b"0"), "its key: it is DER and not PEM"),
            (Identity::from_pem(b"0", KEY), "use Identity::from_pkcs12"),
            (Identity::from_pkcs12(CA, "pw"), "use Identity::from_pem"),
            (Identity::from_pkcs12("pw", "pw"), "it is not PKCS#12"),
        ] {
            let Err(reason) = identity.parts() else { panic!("it was used, and not: {says}") };
            assert!(reason.contains(says), "{reason}");
        }
    }
}
