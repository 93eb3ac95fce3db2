//! The library's texts, in the words of this interface. They name the settings and the calls of Rust.

use std::cmp::Reverse;
use std::fmt::{self, Display, Write};

/// What an error of the library calls a setting, and the argument of the function that sets it.
const SETTINGS: [(&str, &str, &str); 17] = [
    ("headers", "name or value", "tautline_options_header"),
    ("subprotocols", "name", "tautline_options_subprotocol"),
    ("connect_timeout", "timeout_ms", "tautline_options_connect_timeout"),
    ("close_timeout", "timeout_ms", "tautline_options_close_timeout"),
    ("heartbeat.interval", "interval_ms", "tautline_options_heartbeat"),
    ("heartbeat.timeout", "timeout_ms", "tautline_options_heartbeat"),
    ("reconnect.initial_delay", "initial_delay_ms", "tautline_options_reconnect"),
    ("compression.level", "level", "tautline_options_compression"),
    ("proxy", "url", "tautline_options_proxy"),
    ("tls.roots", "pem", "tautline_options_ca_pem"),
    ("outbox.messages", "messages", "tautline_options_outbox"),
    ("outbox.bytes", "bytes", "tautline_options_outbox"),
    ("events.messages", "messages", "tautline_options_inbox"),
    ("events.bytes", "bytes", "tautline_options_inbox"),
    ("max_age", "max_age_ms", "tautline_options_max_age"),
    ("realtime", "capacity", "tautline_options_realtime"),
    ("thread_name", "name", "tautline_options_thread_name"),
];

/// What else the library's texts say to those who write Rust, and what they say here. Of what this interface does not have,
/// they say nothing.
const PHRASES: [(&str, &str); 24] = [
    ("; use subprotocol", "; use tautline_options_subprotocol"),
    ("; use compression", "; use tautline_options_compression"),
    ("ConnectionConfig::proxy", "tautline_options_proxy"),
    ("Proxy::login", "tautline_options_proxy"),
    (
        "trust it with TlsConfig::root, or trust its fingerprint alone, by TlsConfig::pin with danger_accept_invalid_certs",
        "or trust it with tautline_options_ca_pem",
    ),
    ("TlsConfig::root", "tautline_options_ca_pem"),
    ("danger_accept_invalid_certs", "tautline_options_insecure"),
    (", or set that name by TlsConfig::server_name", ""),
    ("TlsConfig::min_version is too high for", "the oldest version that is allowed here is too new for"),
    ("TlsBackend::NativeTls", "a build with native-tls"),
    ("set the right one by TlsConfig::identity", "there is none to show"),
    (" (TlsConfig::identity)", ""),
    (", or set redirects", ""),
    (" (max_message_size)", ""),
    (" (max_frame_size)", ""),
    (" (max_response_size)", ""),
    ("Certificate::from_der", "openssl x509 -inform DER to convert it"),
    (", or name the address in no_proxy", ""),
    (". `confirm` will time out, and with Delivery::AtLeastOnce the outbox fills up", ""),
    (" (or the protocol never called ready)", ""),
    ("; Client::wait_closed returns the reason", ""),
    ("while_down is Refuse, or it is for this connection only", "tautline_options_refuse_while_down"),
    ("use try_send here", "use tautline_send_text or tautline_send_binary here"),
    ("; the message is inside this error", ""),
];

/// Passes a text on in the words of this interface. None of the library's words is written in two parts.
pub(crate) struct InC<W>(pub(crate) W);

impl<W: Write> Write for InC<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, theirs, ours)) = first(rest) {
            self.0.write_str(&rest[..at])?;
            self.0.write_str(ours)?;
            rest = &rest[at + theirs.len()..];
        }
        self.0.write_str(rest)
    }
}

/// The first phrase in the text, and the longest of those that begin there.
fn first(text: &str) -> Option<(usize, &'static str, &'static str)> {
    let found = PHRASES.iter().filter_map(|&(theirs, ours)| Some((text.find(theirs)?, theirs, ours)));
    found.min_by_key(|&(at, theirs, _)| (at, Reverse(theirs.len())))
}

/// The text in the words of this interface.
pub(crate) fn in_c(text: impl Display) -> String {
    let mut ours = InC(String::new());
    // A string takes all of it.
    let _ = write!(ours, "{text}");
    ours.0
}

/// The argument, and its function, that set this setting of the library's.
pub(crate) fn setter(setting: &str) -> Option<(&'static str, &'static str)> {
    SETTINGS.iter().find(|(name, ..)| *name == setting).map(|&(_, argument, function)| (argument, function))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn here() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    /// The library's source files, without those of its tests.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_of_tests = |path: &PathBuf| {
            ["tests", "testing"].iter().any(|name| path.file_stem().is_some_and(|stem| stem == *name))
        };
        entries
            .filter(|path| !is_of_tests(path))
            .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
            .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
            .collect()
    }

    /// The texts in the library's code.
    fn texts() -> Vec<String> {
        let mut texts = Vec::new();
        for file in files(&here().join("../../src")) {
            let code = fs::read_to_string(file).unwrap();
            let code = code.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = code.lines().map(str::trim).filter(|line| !line.starts_with("//"));
            // A text may go on in the next line.
            let code =
                lines.map(|line| line.strip_suffix('\\').map_or_else(|| format!("{line}\n"), str::to_owned));
            let code = code.collect::<String>().replace(r#"\""#, "'").replace("'\"'", "");
            texts.extend(code.split('"').skip(1).step_by(2).map(str::to_owned));
        }
        assert!(texts.len() > 1000, "{} texts", texts.len());
        texts
    }

    /// Of Rust, and about what this interface does not have: none of these texts comes here.
    const ELSEWHERE: [&str; 8] = [
        "Certificate::from_pem",
        "Identity::from_",
        "certificate of TlsConfig::identity",
        "that of TlsConfig::identity",
        "TlsConfig::pin",
        "TlsConfig::root, or set it to false",
        "Beat::",
        "TlsBackend::",
    ];

    #[test]
    fn no_text_of_the_library_names_a_call_of_rust() {
        let is_name = |text: &str| {
            let mut parts = text.split("::").collect::<Vec<_>>();
            let last = parts.pop().unwrap_or_default();
            let is_type = |part: &str| {
                let word = part.rsplit(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
                word.starts_with(|c: char| c.is_ascii_uppercase())
            };
            parts.into_iter().any(is_type) && !last.is_empty()
        };
        assert!(
            is_name("set it by TlsConfig::root, or not") && !is_name("such as [fe80::1]:80 and fd00::/8")
        );
        for text in texts().iter().map(in_c).filter(|text| is_name(text)) {
            assert!(ELSEWHERE.iter().any(|elsewhere| text.contains(elsewhere)), "{text}");
        }
    }

    #[test]
    fn each_phrase_and_each_setting_is_one_of_the_librarys() {
        let texts = texts();
        for (phrase, _) in PHRASES {
            let phrase = phrase.trim_matches([' ', '(', ')']);
            assert!(texts.iter().any(|text| text.contains(phrase)), "{phrase}");
        }
        for (setting, ..) in SETTINGS {
            assert!(texts.iter().any(|text| text == setting), "{setting}");
        }
    }

    #[test]
    fn each_setting_has_its_argument_in_the_header() {
        let header = fs::read_to_string(here().join("include/tautline.h")).unwrap();
        for (setting, arguments, function) in SETTINGS {
            let (_, after) = header.split_once(&format!("int32_t {function}(")).expect(setting);
            let (declared, _) = after.split_once(')').unwrap();
            for argument in arguments.split(" or ") {
                let is_last = declared.ends_with(argument);
                let is_there = is_last || declared.contains(&format!("{argument},"));
                assert!(is_there, "{setting}: {function}({declared})");
            }
        }
    }

    #[test]
    fn a_text_is_passed_on_in_the_words_of_c() {
        let text = "trust its authority with TlsConfig::root; the message is inside this error";
        assert_eq!(in_c(text), "trust its authority with tautline_options_ca_pem");
        assert_eq!(in_c("TlsConfig::rootTlsConfig::root"), "tautline_options_ca_pem".repeat(2));
        assert_eq!(in_c("nothing of Rust"), "nothing of Rust");
    }
}
