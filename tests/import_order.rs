//! A file imports only from lines below it: the house has floors, and no stairs up. Inside a folder there are floors, too.
//! What is for one kind of system stands in two folders.

#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::path::{Path, PathBuf};

/// From the top down. `transport` and `session` do not know each other, whichever stands higher.
const FLOORS: [&str; 25] = [
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
    "handshake",
    "compression",
    "stats",
    "error",
    "message",
    "ticket",
    "state",
    "secrets",
    "system",
    "logging",
    "panics",
];

const STRANGERS: [(&str, &str); 1] = [("transport", "session")];

/// The floors inside a folder.
struct Folder {
    name: &'static str,
    /// What is written in several files of the folder. They stand on its first floor, which the machines below don't know.
    in_parts: Option<&'static str>,
    /// From the top down, a line each. Files on one floor do not import each other, unless it begins with [`CIRCLE`]. `mod`
    /// is the folder's root file, and stands for all that is imported from the folder and is no file.
    floors: &'static [&'static str],
}

/// The files of such a floor import each other, or may.
const CIRCLE: &str = "circle:";

const FOLDERS: [Folder; 6] = [
    Folder {
        name: "client",
        in_parts: Some("Client"),
        floors: &[
            "circle: mod builder delivery ending messages reconnecting requests sending status",
            "options",
        ],
    },
    Folder {
        name: "io",
        in_parts: Some("IoThread"),
        floors: &[
            "circle: thread spin helm",
            "turn",
            "circle: traffic sockets",
            "publisher backpressure slow_callbacks",
            "mod",
        ],
    },
    Folder {
        name: "shared",
        in_parts: None,
        floors: &[
            "mod",
            "model",
            "gate",
            "queue status calls",
            "events inbox outward",
            "ring waiters",
            "counters item losses spin sync thread_mark",
        ],
    },
    Folder {
        name: "transport",
        in_parts: None,
        floors: &[
            "circle: mod answer body proxy reach redirect tcp tls upgrade",
            "circle: socket scanned",
            "inflating",
            "frame_scanner deflate input",
            "tunnel",
            "head link",
            "frame pipe fake",
            "circle: stream descriptor wire",
            "addresses race",
        ],
    },
    Folder {
        name: "session",
        in_parts: Some("Session"),
        floors: &[
            "circle: mod closing confirm due hooks moving outputs retries secrets suspending transmit",
            "line",
            "requests",
            "connection",
            "close_handshake pings",
            "reconnect idle",
            "heartbeat",
            "sender outbox",
            "backoff inquiry ledger released servers settled timers unanswered",
        ],
    },
    Folder { name: "protocol", in_parts: None, floors: &["json", "mod", "context request retry"] },
];

/// Imports that climb today. Whoever takes one away takes its line away.
const CLIMBS: [(&str, &str, &str); 0] = [];

/// What each `crate::…` of a source names first and second, the braces of a `use crate::{a, b::{c, d}}` included.
fn imports(source: &str) -> Vec<(&str, &str)> {
    let is_code = |at| !source[..at].rsplit('\n').next().unwrap_or_default().trim_start().starts_with("//");
    let mut found = Vec::new();
    for (at, crate_root) in source.match_indices("crate::").filter(|(at, _)| is_code(*at)) {
        for first in items(&source[at + crate_root.len()..]) {
            let rest = first.trim_start_matches(is_name).strip_prefix("::");
            let seconds = rest.map_or_else(|| vec![""], items);
            found.extend(seconds.into_iter().map(|second| (name(first), name(second))));
        }
    }
    found
}

/// The items of a list in braces, or the one that stands there without.
fn items(tree: &str) -> Vec<&str> {
    let Some(list) = tree.strip_prefix('{') else { return vec![tree] };
    let (mut found, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices() {
        match c {
            ',' | '}' if depth == 0 => {
                found.push(list[start..at].trim());
                start = at + 1;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if c == '}' && start == at + 1 {
            break;
        }
    }
    found.retain(|item| !item.is_empty());
    found
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn name(item: &str) -> &str {
    &item[..item.len() - item.trim_start_matches(is_name).len()]
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| *floor == name)
}

/// Every import of `module` that climbs.
fn climbs<'a>(module: &str, source: &'a str) -> Vec<&'a str> {
    let own = floor(module).unwrap_or_else(|| panic!("{module} has no floor: give it one"));
    let wrong = |import: &&str| {
        let strangers = |a: &str, b: &str| module == a && *import == b || module == b && *import == a;
        floor(import).is_none_or(|other| other < own) || STRANGERS.iter().any(|(a, b)| strangers(a, b))
    };
    imports(source).into_iter().map(|(first, _)| first).filter(wrong).collect()
}

impl Folder {
    fn floor(&self, file: &str) -> Option<usize> {
        self.floors.iter().position(|floor| floor.split(' ').any(|other| other == file))
    }

    /// Every import of `file` from the same folder that climbs, or goes to a neighbour outside a circle.
    fn climbs(&self, file: &str, source: &str) -> Vec<String> {
        let name = self.name;
        let own = self.floor(file).unwrap_or_else(|| panic!("{name}/{file} has no floor: give it one"));
        let (mut wrong, code) = (Vec::new(), without_tests(source));
        // What a root file passes on is no use that it makes of it.
        let passed_on: Vec<_> = passed_on(code).into_iter().filter(|_| file == "mod").collect();
        for import @ (_, second) in imports(code).into_iter().filter(|(first, _)| *first == name) {
            let to = if self.floor(second).is_some() { second } else { "mod" };
            let other = self.floor(to).unwrap_or(usize::MAX);
            let circle = self.floors[own].starts_with(CIRCLE);
            let is_wrong = other < own || (other == own && to != file && !circle);
            if is_wrong && !passed_on.contains(&import) {
                wrong.push(to.to_owned());
            }
        }
        wrong.sort();
        wrong.dedup();
        wrong
    }
}

/// What a source imports only to pass it on.
fn passed_on(source: &str) -> Vec<(&str, &str)> {
    let of_line = |line| imports(line).into_iter();
    let statements = source.split(';').map(str::trim_start);
    statements.filter(|line| line.starts_with("pub") && line.contains(" use ")).flat_map(of_line).collect()
}

/// Tests stand last, and may know everything.
fn without_tests(source: &str) -> &str {
    source.split("mod tests {").next().unwrap_or(source)
}

/// The only folders with code for one kind of system. The first may also ask for Windows.
const OF_SYSTEMS: [&str; 2] = ["transport", "system"];

/// What exists on one kind of system only.
const PARTS_OF_SYSTEMS: [&str; 3] = ["os::", "libc::", "nix::"];

/// What a condition says of the system.
const KINDS_OF_SYSTEMS: [&str; 4] = ["unix", "windows", "target_os", "target_family"];

/// The code that a file of `module` must not have, each with the number of its line: what is for one kind of system.
fn of_one_system(module: &str, source: &str) -> Vec<(usize, String)> {
    let code = without_comments(source);
    let mut found = Vec::new();
    for (at, condition) in conditions(&code) {
        let asks_for = |kind: &str| words(condition).any(|word| word == kind);
        let for_windows = words(condition).any(|word| word == "windows");
        let allowed = if for_windows { &OF_SYSTEMS[..1] } else { &OF_SYSTEMS[..] };
        if !allowed.contains(&module) && KINDS_OF_SYSTEMS.into_iter().any(asks_for) {
            found.push((at, condition.to_owned()));
        }
    }
    for part in PARTS_OF_SYSTEMS {
        let begins = |at: &usize| !code[..*at].ends_with(is_name);
        let places = code.match_indices(part).map(|(at, _)| at).filter(begins);
        found.extend(places.filter(|_| !OF_SYSTEMS.contains(&module)).map(|at| (at, part.to_owned())));
    }
    found.sort();
    let line = |at: usize| code[..at].matches('\n').count() + 1;
    found.into_iter().map(|(at, what)| (line(at), what)).collect()
}

/// The same lines, without those that are comments.
fn without_comments(source: &str) -> String {
    let code = source.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    code.flat_map(|line| [line, "\n"]).collect()
}

/// Each condition of a `cfg(…)`, `cfg!(…)` or `cfg_attr(…, …)`, and where it stands.
fn conditions(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for open in ["cfg(", "cfg!(", "cfg_attr("] {
        for (at, _) in code.match_indices(open).filter(|(at, _)| !code[..*at].ends_with(is_name)) {
            let (inside, mut depth) = (&code[at + open.len()..], 0);
            let end = inside.find(|c| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth < 0 || (depth == 0 && c == ',')
            });
            found.push((at, &inside[..end.unwrap_or(inside.len())]));
        }
    }
    found
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_name(c))
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

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The library's files, each with the names of its modules from the top. The oracle of the fuzzers, which is not in the
/// published package, is the module `fuzzing`.
fn modules() -> Vec<(PathBuf, Vec<String>)> {
    let (src, oracle) = (root().join("src"), root().join("fuzz/oracle"));
    let mut all = Vec::new();
    files(&src, &mut all);
    if oracle.exists() {
        files(&oracle, &mut all);
    }
    let names = |file: &Path| -> Vec<_> {
        let (fuzzing, path) = file
            .strip_prefix(&oracle)
            .map_or_else(|_| (None, file.strip_prefix(&src).unwrap()), |p| (Some("fuzzing"), p));
        let names = path.iter().map(|name| name.to_str().unwrap().trim_end_matches(".rs"));
        fuzzing.into_iter().chain(names).map(str::to_owned).collect()
    };
    all.into_iter().map(|file| (file.clone(), names(&file))).collect()
}

/// The files of a folder, without its tests: the name of each, and what is in it.
fn files_of(folder: &Folder) -> Vec<(String, String)> {
    let own = modules().into_iter().filter(|(_, names)| names[0] == folder.name);
    let code = own.filter(|(_, names)| !names.iter().any(|name| name == "tests"));
    let file = |names: &[String]| names.get(1).map_or("mod", String::as_str).to_owned();
    code.map(|(path, names)| (file(&names), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_line_of_the_log_has_the_name_of_the_library() {
    let mut lines = 0;
    for (path, _) in modules() {
        let source = fs::read_to_string(&path).unwrap();
        for macro_call in ["error!(", "warn!(", "info!(", "debug!(", "trace!("] {
            for (at, _) in source.match_indices(macro_call) {
                let line = source[..at].rsplit('\n').next().unwrap_or_default();
                if line.trim_start().starts_with("//") || line.ends_with(|c: char| is_name(c)) {
                    continue;
                }
                let target = source[at + macro_call.len()..].trim_start().starts_with("target: LOG,");
                assert!(target, "{}: {line}{macro_call}… without target: LOG", path.display());
                lines += 1;
            }
        }
    }
    assert!(lines > 20, "{lines}");
}

#[test]
fn no_file_imports_from_above() {
    let all = modules();
    assert!(all.len() > FLOORS.len());
    for (path, names) in all {
        if names[0] != "lib" {
            let source = fs::read_to_string(&path).unwrap();
            let climbs = climbs(&names[0], &source);
            assert!(climbs.is_empty(), "{} imports from above: {climbs:?}", path.display());
        }
    }
}

#[test]
fn code_for_one_system_stands_where_sockets_and_systems_do() {
    let (mut strays, mut in_its_place) = (Vec::new(), 0);
    for (path, names) in modules() {
        let source = fs::read_to_string(&path).unwrap();
        let found = of_one_system(&names[0], &source).into_iter();
        strays.extend(found.map(|(line, what)| format!("{}:{line}: {what}", path.display())));
        in_its_place += usize::from(!of_one_system("elsewhere", &source).is_empty());
    }
    assert!(strays.is_empty(), "this is for one kind of system:\n{}", strays.join("\n"));
    assert!(in_its_place > 5, "{in_its_place}");
}

#[test]
fn no_file_imports_from_above_inside_its_folder() {
    let mut seen = Vec::new();
    for folder in &FOLDERS {
        let files = files_of(folder);
        for file in folder.floors.iter().flat_map(|floor| floor.trim_start_matches(CIRCLE).split_whitespace())
        {
            let exists = files.iter().any(|(other, _)| other == file);
            assert!(exists, "{}/{file} is gone: take it off its floor", folder.name);
        }
        for (file, source) in files {
            for to in folder.climbs(&file, &source) {
                let name = folder.name;
                let known = CLIMBS.iter().find(|climb| **climb == (name, &file, &to));
                seen.push(known.unwrap_or_else(|| panic!("{name}/{file} imports {name}/{to} from above")));
            }
        }
    }
    for climb in &CLIMBS {
        assert!(seen.contains(&climb), "{climb:?} climbs no more: take its line away");
    }
}

#[test]
fn what_is_written_in_several_files_stands_on_the_first_floor_of_its_folder() {
    for folder in &FOLDERS {
        let Some(name) = folder.in_parts else { continue };
        let parts: Vec<_> = files_of(folder)
            .into_iter()
            .filter(|(_, source)| without_tests(source).contains(&format!("\nimpl {name} {{")))
            .collect();
        assert!(parts.len() > 1, "{name} is in one file: it needs no floor of its own");
        for (file, _) in parts {
            let floor = folder.floor(&file);
            assert_eq!(floor, Some(0), "{}/{file} has a part of {name}", folder.name);
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
    assert_eq!(
        climbs("session", "use crate::{error::{self, Error}, io::{turn::Turn, thread}};"),
        ["io", "io"]
    );
    assert_eq!(climbs("transport", "use crate::session::Session;"), ["session"]);
    assert_eq!(climbs("session", "use crate::transport::UpgradeRequest;"), ["transport"]);
    assert_eq!(climbs("error", "use crate::stats::Stats;"), ["stats"]);
    assert_eq!(climbs("error", "use crate::unheard_of::X;"), ["unheard_of"]);
    assert!(climbs("error", "/// See [`Client`](crate::client::Client).\n// crate::io").is_empty());
}

#[test]
fn the_rule_finds_what_breaks_it_inside_a_folder() {
    let house = Folder {
        name: "house",
        in_parts: Some("House"),
        floors: &["circle: mod roof", "attic hall", "cellar"],
    };
    let below = "use crate::house::cellar::{Coal, Wine};\nuse crate::error::Error;";
    for file in ["mod", "roof", "attic", "hall"] {
        assert!(house.climbs(file, below).is_empty());
    }
    assert!(house.climbs("mod", "use crate::house::roof::Tile;").is_empty(), "a circle");
    assert!(house.climbs("roof", "use crate::house::{House, LOG};").is_empty(), "a circle");
    assert!(house.climbs("attic", "use crate::house::attic::Trunk;").is_empty(), "itself");
    assert_eq!(house.climbs("attic", "use crate::house::House;"), ["mod"]);
    assert_eq!(
        house.climbs("cellar", "use crate::{error::Error, house::{hall::Door, LOG}};"),
        ["hall", "mod"]
    );
    assert_eq!(house.climbs("attic", "let door = crate::house::hall::open();"), ["hall"], "a neighbour");
    assert!(house.climbs("attic", "mod tests {\n    use crate::house::House;\n}").is_empty(), "a test");

    let library = Folder { name: "library", in_parts: None, floors: &["json", "mod", "context"] };
    assert!(library.climbs("json", "use crate::library::Context;").is_empty());
    assert!(library.climbs("mod", "pub use crate::library::json::Json;").is_empty(), "it is passed on");
    assert_eq!(library.climbs("mod", "use crate::library::json::Json;"), ["json"]);
    assert_eq!(library.climbs("context", "use crate::library::Context;"), ["mod"]);
}

#[test]
fn the_rule_finds_code_for_one_system() {
    let lines = |module: &str, source: &str| -> Vec<_> {
        of_one_system(module, source).into_iter().map(|(line, _)| line).collect()
    };
    for code in [
        "#[cfg(unix)]",
        "let x = cfg!(not(unix));",
        "#[cfg(all(test,\n    target_os = \"linux\"))]",
        "#[cfg_attr(not(target_family = \"unix\"), allow(dead_code))]",
        "use std::os::fd::AsFd;",
        "use std::{io, os::unix::net::UnixStream};",
        "libc::EMFILE => true,",
        "use nix::sys::signal::SigSet;",
    ] {
        let source = format!("//! cfg(unix)\n\n{code}\n");
        assert_eq!(lines("session", &source), [3], "{code}");
        assert_eq!((lines("transport", &source), lines("system", &source)), (vec![], vec![]), "{code}");
    }
    for windows in ["#[cfg(windows)]", "let x = cfg!(any(test, target_os = \"windows\"));"] {
        assert_eq!((lines("system", windows), lines("transport", windows)), (vec![1], vec![]), "{windows}");
    }
    for other in [
        "let pairs = list.windows(2);",
        "let unix = now.since(UNIX_EPOCH);",
        "#[cfg(any(test, feature = \"testing\"))]",
        "#[cfg_attr(not(test), expect(dead_code, reason = \"only unix does\"))]",
        "/// [`libc::EMFILE`], on Unix: cfg(unix)",
        "let x = their_libc::EMFILE;",
    ] {
        assert!(lines("session", other).is_empty(), "{other}");
    }
}

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    for (file, _) in modules() {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines", file.display());
    }
}
