//! The entry points of the fuzzers in `fuzz/`. This is not a part of the library: it is there for them and for the unit
//! tests, which replay what the fuzzers have found.

mod answer;
mod check;
#[path = "../../tests/common/codec.rs"]
mod codec;
mod frames;
mod input;
mod ledger;
mod peer;
mod proxy;

#[cfg(test)]
mod property;
mod rig;
mod rounds;
mod steps;
mod text;
mod wild;

use std::sync::OnceLock;
use std::time::Instant;

/// The answer to an upgrade, cut anywhere, up to any limit of size and time.
pub fn http_answer(data: &[u8]) {
    answer::run(data);
}

/// The answers of a proxy, cut anywhere, up to any limit of size and time.
pub fn proxy_answer(data: &[u8]) {
    proxy::run(data);
}

/// A `Retry-After`, at any time of the wall clock.
pub fn retry_after(data: &[u8]) {
    text::retry_after(data, start());
}

/// A URL and the headers and subprotocols of an upgrade.
pub fn url_and_headers(data: &[u8]) {
    text::url_and_headers(data);
}

/// Frames, cut anywhere.
pub fn frames(data: &[u8]) {
    frames::run(data);
}

/// A whole client without its threads, against anything that the server, the network, the clock and the callers may do.
pub fn connection(data: &[u8]) {
    steps::run_any(data, start());
}

/// Like [`connection`], with a session in JSON.
pub fn json_session(data: &[u8]) {
    steps::run(data, steps::Speaks::Json, start());
}

/// When everything begins. An `Instant` has no other source than the clock; from here on nobody reads it.
#[expect(clippy::disallowed_methods, reason = "the one look at the clock; all else steps from it")]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// Runs a target on every input that is kept in `fuzz/corpus`.
    fn replay(target: &str, run: fn(&[u8])) {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        if !fuzz.exists() {
            // The published package does not contain the fuzzers.
            return;
        }
        let mut count = 0;
        for entry in fs::read_dir(fuzz.join("corpus").join(target)).unwrap() {
            let path = entry.unwrap().path();
            // The last path printed is the one that failed.
            println!("{}", path.display());
            run(&fs::read(path).unwrap());
            count += 1;
        }
        assert!(count > 0, "nothing to replay");
    }

    #[test]
    fn every_kept_answer_to_an_upgrade_is_taken_as_it_should() {
        replay("http_answer", super::http_answer);
    }

    #[test]
    fn every_kept_answer_of_a_proxy_is_taken_as_it_should() {
        replay("proxy_answer", super::proxy_answer);
    }

    #[test]
    fn every_kept_retry_after_is_taken_as_it_should() {
        replay("retry_after", super::retry_after);
    }

    #[test]
    fn every_kept_url_is_taken_as_it_should() {
        replay("url_and_headers", super::url_and_headers);
    }

    #[test]
    fn every_kept_stream_of_frames_is_taken_as_it_should() {
        replay("frames", super::frames);
    }

    #[test]
    fn every_kept_line_lives_as_it_should() {
        replay("connection", super::connection);
    }

    #[test]
    fn every_kept_session_in_json_lives_as_it_should() {
        replay("json_session", super::json_session);
    }
}
