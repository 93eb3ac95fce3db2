//! What the fuzzers in `fuzz/` call. Not a part of the library: it is there for them and for the unit tests, which
//! replay what the fuzzers have found.

mod answer;
mod check;
mod frames;
mod input;
mod ledger;
mod peer;
mod pipe;
mod rig;
mod steps;
mod text;
mod wild;

use std::sync::OnceLock;
use std::time::Instant;

/// The answer to an upgrade, cut anywhere, up to any limit of its size and of the time.
pub fn http_answer(data: &[u8]) {
    answer::run(data);
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

/// A whole client without its threads: whatever the server, the network, the clock and the callers do.
pub fn connection(data: &[u8]) {
    steps::run(data, steps::Kind::Any, start());
}

/// The same, with a session in JSON.
pub fn json_session(data: &[u8]) {
    steps::run(data, steps::Kind::Json, start());
}

/// When everything begins. An `Instant` has no other source than the clock; from here on nobody looks at it.
#[expect(clippy::disallowed_methods, reason = "the one look at the clock; all else steps from it")]
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}
