//! What kept TLS from being set up.

/// What kept TLS from being set up: the field `kind` of [`Error::Tls`](crate::Error::Tls). The error's text says the same in
/// detail, and what to do. By default, [`Backoff`](crate::Retry::Backoff) follows each.
///
/// TLS with a [proxy](crate::Proxy) fails with [`Error::Proxy`](crate::Error::Proxy) of the kind
/// [`Unreachable`](crate::ProxyErrorKind::Unreachable). Its field `source` is the `Error::Tls`:
///
/// ```
/// use tautline::{Error, TlsErrorKind};
///
/// /// What is wrong with TLS, with the server or with a proxy.
/// fn tls_kind(error: &Error) -> Option<TlsErrorKind> {
///     match error {
///         Error::Tls { kind, .. } => Some(*kind),
///         Error::Proxy(error) => tls_kind(error.source.as_ref()?.downcast_ref()?),
///         _ => None,
///     }
/// }
/// # let _ = tls_kind;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The peer's certificate has expired. Windows tells only that its time is over or has not begun; that is this kind,
    /// too.
    Expired,
    /// The peer's certificate is not valid yet, or this machine's clock is slow.
    NotYetValid,
    /// The peer's certificate is for another name, or the peer has no host of this name.
    WrongName,
    /// The peer's certificate was issued by nobody who is trusted, or has signed itself.
    UnknownIssuer,
    /// The peer's certificate was revoked.
    Revoked,
    /// The peer wants a certificate of the client, or does not take the one it got. Over TLS 1.3 the server says so only
    /// when the upgrade has been sent. One that ends the connection without saying so is an
    /// [`Error::Upgrade`](crate::Error::Upgrade), with a hint at it.
    ClientCertificate,
    /// The peer's certificate is none of the pinned ones.
    Pin,
    /// Client and peer have no version or cipher in common.
    Version,
    /// The peer refused the handshake and did not say why. Until TLS 1.2, a missing certificate of the client is refused
    /// like this.
    Refused,
    /// What the peer answered is not TLS.
    NotTls,
    /// The peer ended or reset the connection in the handshake, or instead of it.
    Ended,
    /// TLS could not be set up on this machine. Nothing was sent.
    Setup,
    /// Something else. The text has the words of the TLS library, if there are no clearer ones.
    Other,
}
