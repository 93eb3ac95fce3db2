//! The tests that `README.md`, beside this file, names do exist, and no row of its tables is without one. So do the files
//! and functions that `ARCHITECTURE.md` and `CONTRIBUTING.md` name.
//! The README of the library says what the front page of its docs says.

#[path = "common/watchdog.rs"]
mod watchdog;

use std::fs;
use std::path::Path;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md")).unwrap()
}

/// The tests that a text names, by file and function: what stands between backquotes and has a `::`.
fn named(text: &str) -> Vec<(&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect()
}

/// Those that don't exist.
fn missing(text: &str) -> Vec<(&str, &str)> {
    let exists = |(file, function): &(&str, &str)| {
        let folder = if file.starts_with("src/") { "" } else { "tests" };
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(file);
        let begins = |open: &str| format!("fn {function}{open}");
        fs::read_to_string(file)
            .is_ok_and(|source| source.contains(&begins("(")) || source.contains(&begins("<")))
    };
    named(text).into_iter().filter(|test| !exists(test)).collect()
}

/// The rows of the tables that say what shows something, each as its first cell and the rest.
fn rows(text: &str) -> Vec<(&str, &str)> {
    let shows = |head: &str| head.starts_with('|') && head.contains(" shown by ");
    let tables = text.split("\n\n").filter(|block| block.lines().next().is_some_and(shows));
    let lines = tables.flat_map(|table| table.lines().skip(2));
    lines.filter_map(|line| line.strip_prefix("| ")?.split_once(" | ")).collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let text = readme();
    assert!(named(&text).len() > 100);
    assert_eq!(missing(&text), []);
}

#[test]
fn every_row_names_a_test_and_every_complaint_has_a_row() {
    let text = readme();
    let rows = rows(&text);
    for (first, rest) in &rows {
        assert!(!named(rest).is_empty(), "{first}");
    }
    let complaints: Vec<usize> = rows.iter().filter_map(|(first, _)| first.parse().ok()).collect();
    assert!(complaints.iter().copied().eq(1..=25), "{complaints:?}");
    assert!(rows.len() > complaints.len() + 15, "and the traps");
}

/// The files and folders that a text names in backquotes, and that don't exist. A published package does without the tools.
fn missing_paths(text: &str) -> Vec<&str> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = text.split('`').skip(1).step_by(2);
    let paths = code.map(|code| code.split("::").next().unwrap_or(code)).filter(|path| {
        let is_path = path.contains('/') && path.chars().all(|c| c.is_alphanumeric() || "/._".contains(c));
        is_path && (root.join(".ci").exists() || !(path.starts_with("fuzz/") || path.starts_with(".ci/")))
    });
    paths.filter(|path| !root.join(path).exists()).collect()
}

#[test]
fn every_place_that_the_papers_name_exists() {
    for (paper, places) in [("ARCHITECTURE.md", 80), ("CONTRIBUTING.md", 0)] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(paper)).unwrap();
        let files: Vec<_> = named(&text).into_iter().filter(|(file, _)| file.contains('/')).collect();
        assert!(files.len() >= places, "{paper} names {} places", files.len());
        let gone: Vec<_> = missing(&text).into_iter().filter(|place| files.contains(place)).collect();
        assert_eq!((gone, missing_paths(&text)), (vec![], vec![]), "{paper} names what is gone");
    }
}

#[test]
fn the_look_finds_what_is_missing() {
    let text = "`idle.rs::no_such_test`, `no_file.rs::no_thread_wakes_up_for_nothing_in_any_state`, `a::b`, `code`, \
                `idle.rs::no_thread_wakes_up_for_nothing_in_any_state`, `src/timer.rs::sleeper`";
    let files: Vec<_> = missing(text).into_iter().map(|(file, _)| file).collect();
    assert_eq!(files, ["idle.rs", "no_file.rs", "a"]);
    let text = "`src/lib.rs`, `src/no_file.rs::run`, `src/io/`, `tests/no_folder/`, `cargo run --bin a/b`";
    assert_eq!(missing_paths(text), ["src/no_file.rs", "tests/no_folder/"]);
}

#[test]
fn the_readme_has_the_tables_of_the_docs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let (readme, front) = (read(&root.join("README.md")), read(&root.join("src/lib.rs")));
    let mut parts = 0;
    for part in fs::read_dir(root.join("src/docs")).unwrap() {
        let part = part.unwrap();
        let name = part.file_name().into_string().unwrap();
        // The README only leads to the longest of them.
        let differs = name != "errors.md" && !readme.contains(&read(&part.path()));
        assert!(!differs, "README.md and src/docs/{name} differ");
        assert!(
            front.contains(&format!("include_str!(\"docs/{name}\")")),
            "src/lib.rs lacks src/docs/{name}"
        );
        parts += 1;
    }
    assert_eq!(parts, 5);
}

/// The first program of a text.
fn first_program(text: &str) -> String {
    let program = text.split("```rust,no_run\n").nth(1).or_else(|| text.split("```no_run\n").nth(1)).unwrap();
    program.split("```").next().unwrap().to_owned()
}

#[test]
fn the_first_program_is_the_same_everywhere_and_an_outage_is_not_silent_in_it() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (readme, source) = (read("README.md"), read("src/lib.rs"));
    let docs: String = source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(|line| line.strip_prefix(' ').unwrap_or(line).to_owned() + "\n")
        .collect();
    let program = first_program(&readme);
    assert_eq!(program, first_program(&docs));
    for text in [&readme, &docs] {
        let says =
            |what: &str| text.find(what).unwrap_or_else(|| panic!("the first page says nothing of {what}"));
        let before_the_second_program = text.match_indices("fn main").nth(1).map_or(text.len(), |(at, _)| at);
        for what in ["default_filter_or(\"info\")", "cargo add env_logger", "state", "events"] {
            assert!(says(what) < before_the_second_program, "{what}");
        }
    }
}
