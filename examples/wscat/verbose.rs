//! What `-v` shows of a connection.

use tautline::Handshake;

use super::advice::shown;

/// How long each phase of the attempt took, what was agreed on if compression was offered, and the headers of the answer.
pub(crate) fn describe(handshake: &Handshake, is_offered: bool) -> String {
    let times = handshake.timings;
    let phases = [
        ("look-up", times.resolve),
        ("connection", times.connect),
        ("proxy", times.proxy),
        ("TLS", times.tls),
        ("upgrade", times.upgrade),
    ];
    let phases = phases.iter().filter_map(|(phase, time)| Some(format!("{phase} {:.1?}", (*time)?)));
    let phases: Vec<_> = phases.collect();
    let times = format!("  {}; {:.1?} in all", phases.join(", "), times.total);
    let compression = handshake.compression.as_ref().map(|agreed| {
        let alone = [
            (agreed.client_no_context_takeover, ", the client's messages each on its own"),
            (agreed.server_no_context_takeover, ", the server's messages each on its own"),
        ];
        let alone: String = alone.into_iter().filter_map(|(is, words)| is.then_some(words)).collect();
        format!("  compression agreed on: level {}{alone}", agreed.level)
    });
    let none = || is_offered.then(|| "  no compression: the server agreed to none".into());
    let headers = shown(handshake.headers.iter());
    let lines = [times].into_iter().chain(compression.or_else(none)).chain(headers);
    lines.flat_map(|line| [line, "\n".into()]).collect()
}

/// As "999 B", "1.5 kB" and so on.
pub(crate) fn bytes(count: u64) -> String {
    let unit = |unit: u64, name| format!("{}.{} {name}", count / unit, count % unit / (unit / 10));
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => unit(1_000, "kB"),
        1_000_000..1_000_000_000 => unit(1_000_000, "MB"),
        _ => unit(1_000_000_000, "GB"),
    }
}
