//! A host in C loads a plugin and unloads it: `tests/host/`.
#![cfg(target_os = "linux")]

mod common;

use std::process::Command;

use common::{compile, folder, run};
use tautline::testing::LoopbackServer;

/// A run of the host: `host WHAT plugin.so URL MORE…`.
fn host(test: &str) -> impl Fn(&str, &str, &[&str]) -> String {
    let folder = folder(test);
    let plugin = compile(&folder, "tests/host/plugin.c", "plugin.so", &["-shared", "-fPIC"]);
    let host = compile(&folder, "tests/host/host.c", "host", &["-pthread", "-ldl"]);
    move |what, url, more| run(Command::new(&host).arg(what).arg(&plugin).arg(url).args(more))
}

#[test]
fn what_a_plugin_does_at_load_and_at_unload_returns_within_its_bounds() {
    let server = LoopbackServer::echo().unwrap();
    let said = host("load")("load", &server.url(), &[]);
    assert!(said.contains("unload: gone") || said.contains("still running"), "{said}");
    print!("{said}");
}

#[test]
fn a_plugin_that_is_unloaded_without_an_end_crashes_nothing() {
    let server = LoopbackServer::echo().unwrap();
    print!("{}", host("left")("left", &server.url(), &[]));
}

#[test]
fn cycles_of_load_and_unload_leave_no_thread_and_no_descriptor() {
    let server = LoopbackServer::echo().unwrap();
    print!("{}", host("cycles")("cycles", &server.url(), &["alive", "50"]));
}
