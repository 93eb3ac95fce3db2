//! A file imports only from lines below it: the house has floors, and no stairs up.

#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down. `transport` and `session` do not know each other, whichever stands higher.
const FLOORS: [&str; 20] = [
    "testing",
    "fuzzing",
    "client",
    "io",
    "jobs",
    "dial",
    "timer",
    "shared",
    "transport",
    "session",
    "protocol",
    "config",
    "endpoint",
    "event",
    "stats",
    "error",
    "message",
    "ticket",
    "state",
    "secrets",
];

const STRANGERS: [(&str, &str); 1] = [("transport", "session")];

/// What each `use crate::…` of a file names first, the braces of `use crate::{a, b}` included.
fn imports(source: &str) -> Vec<String> {
    let source: String =
        source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (at, _) in source.match_indices("crate::") {
        let rest = &source[at + "crate::".len()..];
        let list =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or(rest, |(list, _)| list);
        let items = if rest.starts_with('{') { list.split(',').collect() } else { vec![rest] };
        for item in items {
            found.push(item.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| *floor == name)
}

/// Every import of `module` that climbs.
fn climbs(module: &str, source: &str) -> Vec<String> {
    let own = floor(module).unwrap_or_else(|| panic!("{module} has no floor: give it one"));
    let wrong = |import: &String| {
        let strangers = |a: &str, b: &str| module == a && import == b || module == b && import == a;
        floor(import).is_none_or(|other| other < own) || STRANGERS.iter().any(|(a, b)| strangers(a, b))
    };
    imports(source).into_iter().filter(wrong).collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_file_imports_from_above() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    assert!(all.len() > FLOORS.len());
    for file in all {
        let path = file.strip_prefix(&src).unwrap();
        let module = path.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        if module != "lib" {
            let climbs = climbs(module, &fs::read_to_string(&file).unwrap());
            assert!(climbs.is_empty(), "{} imports from above: {climbs:?}", path.display());
        }
    }
}

#[test]
fn the_rule_finds_what_breaks_it() {
    assert!(
        climbs("session", "use crate::config::QueueLimit;\nuse crate::{error::Error, event::Event};")
            .is_empty()
    );
    assert_eq!(climbs("config", "use crate::client::Client;"), ["client"]);
    assert_eq!(climbs("session", "let x = crate::io::run();"), ["io"]);
    assert_eq!(climbs("session", "use crate::{error::Error, io::Turn};"), ["io"]);
    assert_eq!(climbs("transport", "use crate::session::Session;"), ["session"]);
    assert_eq!(climbs("session", "use crate::transport::UpgradeRequest;"), ["transport"]);
    assert_eq!(climbs("error", "use crate::stats::Stats;"), ["stats"]);
    assert_eq!(climbs("error", "use crate::unheard_of::X;"), ["unheard_of"]);
}

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    let mut all = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    for file in all {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines", file.display());
    }
}
