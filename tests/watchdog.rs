//! A test that hangs ends its run, and is named.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;

use common::{LONG, Server};
use tautline::Client;

/// Set for a child: only there do the tests hang that are made for it.
const HANGS: &str = "TAUTLINE_TEST_HANGS";

/// Hangs, for longer than a watchdog needs that has a second, and not for ever: nobody else would end the child.
fn hang() {
    if std::env::var_os(HANGS).is_some() {
        thread::park_timeout(3 * LONG);
    }
}

#[test]
#[ignore = "hangs, as a child of another test"]
fn made_to_hang_on_an_open_line() {
    let server = Server::echo();
    let client = Client::connect(server.url()).unwrap();
    hang();
    let _ = client.terminate();
}

#[test]
#[ignore = "hangs, as a child of another test"]
fn made_to_hang_without_a_helper() {
    hang();
}

/// Runs these tests of this program, whose watchdog gives each a second.
fn run(tests: &[&str]) -> (Output, String) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(tests).args(["--include-ignored", "--test-threads=4"]);
    let output = child.env(HANGS, "").env("TAUTLINE_TEST_LIMIT", "1").output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, told)
}

#[test]
fn a_test_that_hangs_ends_the_run_and_is_named_with_its_threads() {
    let (output, told) = run(&["made_to_hang_on_an_open_line"]);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("watchdog: the test made_to_hang_on_an_open_line has been running for "), "{told}");
    if cfg!(target_os = "linux") {
        // Of a longer name, the first 15 bytes.
        for thread in ["made_to_hang_on", "tautline-io", "tautline-timer", "watchdog"] {
            assert!(told.contains(thread), "{thread}: {told}");
        }
    }
}

#[test]
fn a_run_that_hangs_in_a_test_that_calls_no_helper_is_ended_too() {
    let (output, told) = run(&["made_to_hang_without_a_helper", "a_test_is_watched_under_its_name"]);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("watchdog: the tests of this program have been running for "), "{told}");
}

#[test]
fn a_test_that_ends_is_watched_no_more() {
    let watched = |name: &str| common::watchdog::names().iter().any(|test| test == name);
    let name = "a_test_by_its_thread";
    let test = thread::Builder::new().name(name.into()).spawn(move || {
        common::watchdog::watch();
        assert!(watched(name));
    });
    test.unwrap().join().unwrap();
    assert!(!watched(name));
}

/// The sources that `cargo test` makes a program of, each.
fn programs() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = fs::read_dir(root.join("tests")).unwrap().map(|entry| entry.unwrap().path());
    let programs = tests.map(|path| if path.is_dir() { path.join("main.rs") } else { path });
    let programs = programs.filter(|path| path.extension().is_some_and(|end| end == "rs") && path.exists());
    programs.chain([root.join("src/lib.rs")]).collect()
}

#[test]
fn every_program_of_tests_has_the_watchdog() {
    let programs = programs();
    assert!(programs.len() > 30, "{programs:?}");
    for program in programs {
        let source = fs::read_to_string(&program).unwrap();
        let includes =
            source.lines().any(|line| line == "mod common;" || line.contains("common/watchdog.rs"));
        assert!(includes, "{}: say `mod common;`", program.display());
    }
}
