//! Which options of this program an error of the library speaks of.

use std::io::{self, Write};

use tautline::Error;

use super::complain;
use super::options::Options;
use super::terminal::one_line;

/// The library's words, and the options that stand for them: about the server, and about a proxy. Words that hold others come
/// before these.
pub(crate) const OPTIONS: &[(&str, &str, &str)] = &[
    (
        "TlsConfig::pin with danger_accept_invalid_certs",
        "--pin FINGERPRINT --insecure",
        "--proxy-pin FINGERPRINT --proxy-insecure",
    ),
    ("danger_accept_invalid_certs", "--insecure", "--proxy-insecure"),
    ("TlsConfig::root", "--ca FILE", "--proxy-ca FILE"),
    ("tls.roots", "--ca FILE", "--proxy-ca FILE"),
    ("TlsConfig::pin", "--pin FINGERPRINT", "--proxy-pin FINGERPRINT"),
    ("tls.pins", "--pin FINGERPRINT", "--proxy-pin FINGERPRINT"),
    ("TlsConfig::identity", "--cert FILE --key FILE", "--proxy-cert FILE --proxy-key FILE"),
    ("tls.identity", "--cert FILE --key FILE", "--proxy-cert FILE --proxy-key FILE"),
    ("TlsConfig::server_name", "--sni NAME", "--proxy-sni NAME"),
    ("tls.server_name", "--sni NAME", "--proxy-sni NAME"),
    ("Proxy::login", "", "--proxy SCHEME://USER:PASSWORD@HOST:PORT"),
    ("ConnectionConfig::proxy", "--proxy SCHEME://USER:PASSWORD@HOST:PORT", ""),
    ("set redirects", "--follow", ""),
    ("network.family", "leave out -4 and -6", "leave out -4 and -6"),
    ("network.local_address", "--bind ADDRESS", "--bind ADDRESS"),
    ("compression.level", "--compress=LEVEL", ""),
    ("permessage-deflate", "leave out --compress", ""),
    ("heartbeat.", "--heartbeat SECONDS", ""),
    ("the login was not accepted", "--accepted FIELD=VALUE", ""),
];

/// The option for each setting that has the name of none.
pub(crate) const SETTINGS: &[(&str, &str)] = &[
    ("connect_timeout", "--connect-timeout SECONDS"),
    ("headers", "--header 'NAME: VALUE'"),
    ("proxy", "--proxy URL"),
    ("subprotocols", "--subprotocol NAME"),
];

/// How the library's log begins to say why a client is closed.
pub(crate) const ENDED: &str = "The client is closed for good: ";

/// Returns the options that this error speaks of by the library's names, in that order, if it does.
pub(crate) fn options(error: &Error) -> Option<String> {
    let of_proxy = matches!(cause(error), Error::Proxy(_) | Error::InvalidConfig { setting: "proxy", .. });
    let (mut text, mut found) = (error.to_string(), Vec::new());
    for (words, for_server, for_proxy) in OPTIONS {
        let option = if of_proxy { for_proxy } else { for_server };
        if let Some(at) = text.find(words).filter(|_| !option.is_empty()) {
            text = text.replace(words, &" ".repeat(words.len()));
            found.push((at, *option));
        }
    }
    if let Error::InvalidConfig { setting, .. } = cause(error)
        && found.is_empty()
    {
        found.extend(SETTINGS.iter().find(|(name, _)| name == setting).map(|(_, option)| (0, *option)));
    }
    found.sort_unstable();
    let found: Vec<_> = found.into_iter().map(|(_, option)| option).collect();
    (!found.is_empty()).then(|| found.join(", or "))
}

/// Why a client gave up, if it did.
fn cause(error: &Error) -> &Error {
    if let Error::GaveUp { source, .. } = error { source } else { error }
}

/// Shows an error, and the options that it speaks of. With `-v` also what its text leaves out: the headers and the rest of an
/// answer that refuses, and the causes. Returns `code`, for the end of the program.
pub(crate) fn explain(code: u8, error: &Error, given: &Options) -> u8 {
    let (mut text, mut headers) = (one_line(&error.to_string()), Vec::new());
    if given.log.is_some() {
        text = format!("{error:?}");
        if let Error::UpgradeRejected(answer) = cause(error) {
            headers = shown(answer.headers.iter().map(|(name, value)| (&**name, &**value)));
        }
    }
    let mut lines = text.lines();
    complain(code, lines.next().unwrap_or_default());
    let advice = options(error).map(|options| format!("with wscat: {options}"));
    for line in headers.into_iter().chain(lines.map(one_line)).chain(advice) {
        writeln!(io::stderr(), "{line}").ok(); // a closed stderr can't be reported
    }
    code
}

/// The headers of an answer, each as a line. Cookies are secrets.
pub(crate) fn shown<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let value = |name: &str, value| if name.eq_ignore_ascii_case("Set-Cookie") { "***" } else { value };
    headers.map(|(name, said)| one_line(&format!("  < {name}: {}", value(name, said)))).collect()
}
