//! What the TLS libraries say, in plain words.

use std::fmt;

use crate::error::TlsErrorKind::{
    self, ClientCertificate, Expired, NotYetValid, Other, Refused, Revoked, UnknownIssuer, Version, WrongName,
};

/// What a TLS library's error means, its kind and in plain words, with what to do, if the error is a known one. `peer` is the
/// server or the proxy, `name` the one that was checked, and `identity` what to do if it wants another certificate.
pub(super) fn verdict(
    error: &(impl fmt::Display + fmt::Debug),
    peer: &str,
    name: &str,
    identity: &str,
) -> Option<(TlsErrorKind, String)> {
    let said = said(error);
    let known = VERDICTS.iter().find(|(_, signs, _)| signs.iter().any(|sign| said.contains(sign)));
    known.map(|(kind, _, words)| {
        (*kind, words.replace("{peer}", peer).replace("{host}", name).replace("{identity}", identity))
    })
}

/// The kind of each verdict, its signs in lower case, and the words for it. The first match counts. OpenSSL reports texts. The
/// libraries of Windows and macOS report codes, and texts in the language of the machine.
const VERDICTS: &[(TlsErrorKind, &[&str], &str)] = &[
    (
        ClientCertificate,
        &[
            "certificate required",
            "alert bad certificate",
            "alert unknown ca",
            "alert certificate expired",
            "alert certificate revoked",
            "alert certificate unknown",
            "alert unsupported certificate",
            "alertreceived(certificaterequired)",
            "alertreceived(badcertificate)",
            "alertreceived(unknownca)",
            "alertreceived(certificateexpired)",
            "alertreceived(certificaterevoked)",
            "alertreceived(certificateunknown)",
            "alertreceived(unsupportedcertificate)",
        ],
        "{peer} wants a certificate of the client, or does not take the one it got; {identity}",
    ),
    (
        Expired,
        &[
            "certificate has expired",
            "certificate is expired",
            "invalidcertificate(expired",
            "code: -67818",
            "code: -9814",
            "code: -2146893016",
        ],
        "{peer}'s certificate has expired; it has to be renewed there, unless this machine's clock is wrong",
    ),
    (
        NotYetValid,
        &["certificate is not yet valid", "invalidcertificate(notvalidyet", "code: -67819", "code: -9815"],
        "{peer}'s certificate is not valid yet; is this machine's clock right?",
    ),
    (
        // Windows does not say which of the two it is.
        Expired,
        &["code: -2146762495"],
        "{peer}'s certificate has expired or is not valid yet; it has to be renewed there, unless this machine's \
         clock is wrong",
    ),
    (
        WrongName,
        &[
            "hostname mismatch",
            "ip address mismatch",
            "invalidcertificate(notvalidforname",
            "code: -67602",
            "code: -9843",
            "code: -2146762481",
            "code: -2146893022",
        ],
        "{peer}'s certificate is not for the name {host}; connect by a name that is in it, or set that name by \
         TlsConfig::server_name",
    ),
    (
        Revoked,
        &[
            "certificate revoked",
            "invalidcertificate(revoked",
            "code: -67820",
            "code: -2146762484",
            "code: -2146885616",
        ],
        "{peer}'s certificate was revoked; it has to be replaced there",
    ),
    (
        // Rustls does not look for a root where an authority stands in the place of a server.
        UnknownIssuer,
        &["self-signed certificate", "self signed certificate", "causedasendentity"],
        "{peer}'s certificate is self-signed, or its authority is; make it one that this system trusts, trust it with \
         TlsConfig::root, or trust its fingerprint alone, by TlsConfig::pin with danger_accept_invalid_certs",
    ),
    (
        UnknownIssuer,
        &[
            "unable to get local issuer certificate",
            "unable to get issuer certificate",
            "unable to verify the first certificate",
            "invalidcertificate(unknownissuer",
            "code: -67843",
            "code: -9807",
            "code: -9812",
            "code: -9813",
            "code: -2146762487",
            "code: -2146762486",
            "code: -2146893019",
        ],
        "{peer}'s certificate was issued by nobody whom this system trusts, or {peer} does not send the \
         certificates in between; make it one that this system trusts, or trust its authority with TlsConfig::root",
    ),
    (
        Version,
        &[
            "unsupported protocol",
            "alert protocol version",
            "alert insufficient security",
            "no protocols available",
            "peerincompatible(",
            "alertreceived(protocolversion)",
            "alertreceived(insufficientsecurity)",
            "code: -9836",
            "code: -9801",
            "code: -2146893007",
        ],
        "{peer} and this system have no TLS version or cipher in common; one of them has to be updated, unless \
         TlsConfig::min_version is too high for {peer}",
    ),
    (
        // Until TLS 1.2 this alert stands for both, and no other for a certificate that is missing (RFC 5246, section 7.4.6).
        Refused,
        // On Windows it is SEC_E_ILLEGAL_MESSAGE, and on macOS errSSLPeerHandshakeFail.
        &["alert handshake failure", "alertreceived(handshakefailure)", "code: -2146893018", "code: -9824"],
        "{peer} refused the handshake; if it wants a certificate of the client, {identity}, and \
         otherwise it and this system have no TLS version or cipher in common: one of them has to be updated, unless \
         TlsConfig::min_version is too high for {peer}",
    ),
    (
        Other,
        &["unsupportedcertversion", "invalidcertificate(badsignature"],
        "rustls can't check {peer}'s certificate: it is of X.509 version 1, its key is too short, or its signature is \
         wrong; it has to be replaced there, or TlsBackend::NativeTls may take it",
    ),
    (
        WrongName,
        &["unrecognized name", "unrecognisedname"],
        "{peer} knows no host of the name {host}; is it the right one?",
    ),
];

/// Whether an error says that the connection ended. The system's texts are in the language of the machine, and on Windows no
/// text says "reset"; the names of the kinds are the same everywhere. macOS reports codes.
pub(super) fn is_end(error: &(impl fmt::Display + fmt::Debug)) -> bool {
    const SIGNS: &[&str] = &[
        "unexpected eof",
        "unexpectedeof",
        "connection reset",
        "connectionreset",
        "connectionaborted",
        "broken pipe",
        "brokenpipe",
        "code: -9805",
        "code: -9806",
        "code: -9816",
    ];
    let said = said(error);
    SIGNS.iter().any(|sign| said.contains(sign))
}

fn said(error: &(impl fmt::Display + fmt::Debug)) -> String {
    format!("{error} {error:?}").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;

    /// The errors that native-tls shows on each system.
    #[test]
    fn the_verdict_of_each_library_is_put_into_words() {
        assert_eq!(verdict(&"something new", "the server", "h.example", ""), None);
        for (said, words, kind) in [
            // OpenSSL 1.1 and 3
            (
                "certificate verify failed:ssl/statem/statem_clnt.c:1919: (certificate has expired)",
                "has expired;",
                Expired,
            ),
            (
                "certificate verify failed:../ssl/statem/statem_clnt.c:2092: (certificate is not yet valid)",
                "not valid yet;",
                NotYetValid,
            ),
            ("certificate verify failed: (hostname mismatch)", "not for the name h.example", WrongName),
            ("certificate verify failed: (IP address mismatch)", "not for the name h.example", WrongName),
            ("certificate verify failed: (self signed certificate)", "self-signed", UnknownIssuer),
            (
                "certificate verify failed: (self-signed certificate in certificate chain)",
                "self-signed",
                UnknownIssuer,
            ),
            (
                "certificate verify failed: (unable to get local issuer certificate)",
                "by nobody whom this system trusts",
                UnknownIssuer,
            ),
            ("certificate verify failed: (certificate revoked)", "was revoked", Revoked),
            (
                "error:0A00042E:SSL routines:ssl3_read_bytes:tlsv1 alert protocol version",
                "no TLS version or cipher",
                Version,
            ),
            (
                "error:0A000410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure",
                "if it wants a certificate of the client, set the right one, and otherwise",
                Refused,
            ),
            (
                "error:0A00045C:SSL routines:ssl3_read_bytes:tlsv13 alert certificate required",
                "certificate of the client",
                ClientCertificate,
            ),
            (
                "error:0A000458:SSL routines:ssl3_read_bytes:tlsv1 unrecognized name",
                "no host of the name h.example",
                WrongName,
            ),
            // Windows, on a German machine
            (
                "Os { code: -2146762495, message: \"Ein Zertifikat ist abgelaufen\" }",
                "has expired or is not valid yet",
                Expired,
            ),
            ("Os { code: -2146762481, message: \"…\" }", "not for the name h.example", WrongName),
            ("Os { code: -2146893018, message: \"…\" }", "refused the handshake", Refused),
            ("Error { code: -9824, message: \"…\" }", "refused the handshake", Refused),
            ("Os { code: -2146762487, message: \"…\" }", "by nobody whom this system trusts", UnknownIssuer),
            ("Os { code: -2146893019, message: \"…\" }", "by nobody whom this system trusts", UnknownIssuer),
            // macOS
            (
                "Error { code: -67818, message: \"An expired certificate was detected.\" }",
                "has expired;",
                Expired,
            ),
            (
                "Error { code: -67602, message: \"A host name mismatch has occurred.\" }",
                "not for the name h.example",
                WrongName,
            ),
            (
                "Error { code: -67843, message: \"The certificate was not trusted.\" }",
                "by nobody whom this system trusts",
                UnknownIssuer,
            ),
            (
                "ssl3_read_bytes:sslv3 alert certificate revoked",
                "certificate of the client",
                ClientCertificate,
            ),
            // Rustls
            ("InvalidCertificate(Other(OtherError(UnsupportedCertVersion)))", "X.509 version 1", Other),
            ("InvalidCertificate(BadSignature)", "its key is too short", Other),
        ] {
            let (found, verdict) = verdict(&said, "the server", "h.example", "set the right one").unwrap();
            assert!(found == kind && verdict.contains(words), "{said}: {found:?}, {verdict}");
            assert!(!verdict.contains("code:") && !verdict.contains("routines"), "{verdict}");
        }
    }

    #[test]
    fn an_end_is_no_verdict_about_what_ended() {
        for said in [
            "unexpected EOF",
            "Connection reset by peer",
            // Windows, on a German machine
            "Os { code: 10054, kind: ConnectionReset, message: \"Eine vorhandene Verbindung wurde geschlossen\" }",
            "Os { code: 10053, kind: ConnectionAborted, message: \"Eine Verbindung wurde abgebrochen\" }",
            // Unix, in a program that speaks French
            "Os { code: 32, kind: BrokenPipe, message: \"Relais brisé (pipe)\" }",
            // macOS: an end in good order, a reset, an end without the alert
            "Error { code: -9805 }",
            "Error { code: -9806, message: \"connection closed via error\" }",
            "Error { code: -9816 }",
        ] {
            assert!(is_end(&said) && verdict(&said, "the server", "h.example", "").is_none(), "{said}");
        }
        assert!(!is_end(&"certificate verify failed: (certificate has expired)"));
    }

    #[test]
    fn each_kind_of_error_that_ends_a_connection_is_an_end() {
        use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        for kind in [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof] {
            assert!(is_end(&std::io::Error::from(kind)), "{kind:?}");
        }
    }

    #[test]
    fn a_verdict_names_what_was_checked_and_no_dot_behind_it() {
        for (said, words) in [
            ("certificate verify failed: (hostname mismatch)", "not for the name h.example;"),
            ("tlsv1 unrecognized name", "no host of the name h.example;"),
        ] {
            let endpoint = Endpoint::parse("wss://h.example.").unwrap();
            let (_, verdict) = verdict(&said, "the server", endpoint.tls_name(), "").unwrap();
            assert!(verdict.contains(words), "{verdict}");
        }
    }
}
