//! Which options of this program an error of the library speaks of.

use std::io::{self, Write};

use tautline::Error;

use super::complain;
use super::options::Options;
use super::terminal::one_line;

/// The library's words, and the options that stand for them: about the server, and about a proxy. Words that hold others come
/// before these.
pub(crate) const OPTIONS: &[(&str, &str, &str)] = &[
    ("TlsConfig::pin with danger_accept_invalid_certs", "--pin FINGERPRINT --insecure", ""),
    ("danger_accept_invalid_certs", "--insecure", "--proxy-insecure"),
    ("TlsConfig::root", "--ca FILE", "--proxy-ca FILE"),
    ("tls.roots", "--ca FILE", "--proxy-ca FILE"),
    ("TlsConfig::pin", "--pin FINGERPRINT", ""),
    ("tls.pins", "--pin FINGERPRINT", ""),
    ("TlsConfig::identity", "--cert FILE --key FILE", "--proxy-cert FILE --proxy-key FILE"),
    ("tls.identity", "--cert FILE --key FILE", "--proxy-cert FILE --proxy-key FILE"),
    ("TlsConfig::server_name", "--sni NAME", ""),
    ("tls.server_name", "--sni NAME", ""),
    ("Proxy::login", "", "--proxy SCHEME://USER:PASSWORD@HOST:PORT"),
    ("set redirects", "--follow", ""),
    ("network.family", "-4, -6", "-4, -6"),
    ("network.local_address", "--bind ADDRESS", "--bind ADDRESS"),
    ("heartbeat.", "--heartbeat SECONDS", ""),
];

/// Returns the options that this error speaks of by the library's names, if it does.
pub(crate) fn options(error: &Error) -> Option<String> {
    let cause = if let Error::GaveUp { source, .. } = error { source } else { error };
    let of_proxy = matches!(cause, Error::Proxy(_) | Error::InvalidConfig { setting: "proxy", .. });
    let (mut text, mut found) = (error.to_string(), Vec::new());
    for (words, servers, proxys) in OPTIONS {
        let option = if of_proxy { proxys } else { servers };
        if text.contains(words) && !option.is_empty() {
            text = text.replace(words, "");
            found.push(*option);
        }
    }
    (!found.is_empty()).then(|| found.join(", or "))
}

/// Shows an error, and the options that it speaks of. With `-v` also what its text leaves out: the rest of an answer that
/// refuses, and the causes. Returns `code`, for the end of the program.
pub(crate) fn explain(code: u8, error: &Error, given: &Options) -> u8 {
    let text = if given.log.is_some() { format!("{error:?}") } else { one_line(&error.to_string()) };
    let mut lines = text.lines();
    complain(code, lines.next().unwrap_or_default());
    let more = lines.map(one_line).chain(options(error).map(|options| format!("with wscat: {options}")));
    for line in more {
        writeln!(io::stderr(), "{line}").ok(); // a closed stderr can't be reported
    }
    code
}
