//! A host in C loads a plugin and unloads it: `tests/host/`.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::{
    Full, LONG, Mood, Silent, Stalled, built, compile, folder, has, here, identity, run, run_within,
};
use tautline::testing::{LoopbackConnection, LoopbackServer};

/// A run of the host: `host WHAT plugin.so URL MORE…`.
fn host(test: &str) -> impl Fn(&str, &str, &[&str]) -> String {
    let folder = folder(test);
    let plugin = compile(&folder, "tests/host/plugin.c", "plugin.so", &["-shared", "-fPIC"]);
    let host = compile(&folder, "tests/host/host.c", "host", &["-pthread", "-ldl"]);
    move |what, url, more| run(Command::new(&host).arg(what).arg(&plugin).arg(url).args(more))
}

#[test]
fn a_line_that_a_constructor_opens_comes_up_afterwards_and_is_ended_by_a_destructor() {
    let server = LoopbackServer::echo().unwrap();
    let said = host("unload")("load", &server.url(), &["alive", "at-unload"]);
    // The wait of the constructor took its time, because no thread could begin.
    assert!(said.contains("the wait returned -10") && said.contains("unload: gone"), "{said}");
}

#[test]
fn a_line_that_is_not_up_is_ended_by_a_destructor_too() {
    let host = host("moods");
    for mood in [Mood::Refused, Mood::Silent, Mood::SilentTls] {
        let server = Silent::start();
        let said = host("load", &server.url(mood), &["down", "at-unload"]);
        assert!(said.contains("unload: gone"), "{mood:?}: {said}");
    }
}

#[test]
fn an_open_line_over_tls_is_ended_by_a_destructor_too() {
    let server = LoopbackServer::start_tls(identity(), LoopbackConnection::echo).unwrap();
    let said = host("tls")("load", &server.url(), &["alive", "at-unload"]);
    assert!(said.contains("unload: gone"), "{said}");
}

#[test]
fn an_end_in_a_constructor_names_the_thread_that_has_not_begun_and_is_finished_afterwards() {
    let server = LoopbackServer::echo().unwrap();
    let said = host("load")("load", &server.url(), &["alive", "at-load"]);
    assert!(said.contains("load: still running: tautline-io: it has not begun"), "{said}");
}

#[test]
fn a_line_that_has_no_descriptors_or_no_threads_is_refused_and_leaves_nothing_half_open() {
    let server = LoopbackServer::echo().unwrap();
    let host = host("starved");
    let said = host("no-descriptors", &server.url(), &[]);
    assert!(
        said.contains("without descriptors: -16: the system refused") && said.contains("ulimit -n"),
        "{said}"
    );
    let said = host("no-threads", &server.url(), &[]);
    assert!(said.contains("without threads: -16: the system refused a timer thread"), "{said}");
    assert!(said.contains("end other threads"), "{said}");
}

#[test]
fn a_signal_that_the_host_waits_for_reaches_it() {
    let server = LoopbackServer::echo().unwrap();
    let said = host("signal")("signal", &server.url(), &[]);
    assert_eq!(said, format!("signal {}\n", libc::SIGTERM));
}

#[test]
fn the_threads_of_a_client_have_no_real_time_policy_though_the_host_has() {
    let server = LoopbackServer::echo().unwrap();
    let said = host("fifo")("fifo", &server.url(), &[]);
    print!("{said}");
    let is_left_out = said == "this process may not have a real-time policy\n";
    assert!(is_left_out || said.ends_with(" threads, none with a real-time policy\n"), "{said}");
}

#[test]
fn a_child_made_by_fork_is_refused_its_parents_client_and_has_one_of_its_own() {
    let server = LoopbackServer::start(|mut connection| {
        while let Some(message) = connection.recv().filter(|message| message.as_text() != Some("cut")) {
            connection.send(message);
        }
    });
    let fork = compile(&folder("fork"), "tests/host/fork.c", "fork", &["-pthread"]);
    let said = run(Command::new(fork).arg(server.unwrap().url()));
    assert_eq!(said, "40 children\n");
}

#[test]
fn no_function_on_a_client_is_left_out_of_what_a_child_calls() {
    let header = fs::read_to_string(here().join("include/tautline.h")).unwrap();
    let program = fs::read_to_string(here().join("tests/host/fork.c")).unwrap();
    let mut functions = 0;
    for (before, _) in
        header.match_indices("(struct tautline_client client").map(|(at, _)| header.split_at(at))
    {
        let name = before.rsplit(' ').next().unwrap();
        assert!(program.contains(&format!("{name}(line")), "{name} is not called in a child");
        functions += 1;
    }
    assert!(functions > 10, "{functions}");
}

#[test]
fn a_plugin_that_is_unloaded_without_an_end_crashes_nothing() {
    let server = LoopbackServer::echo().unwrap();
    print!("{}", host("left")("left", &server.url(), &[]));
}

/// Loads and unloads a plugin so often, in each mood of its server.
fn cycles(test: &str, count: u32) {
    let folder = folder(test);
    let plugin = compile(&folder, "tests/host/plugin.c", "plugin.so", &["-shared", "-fPIC"]);
    let copy = folder.join("copy.so");
    fs::copy(&plugin, &copy).unwrap();
    let host = compile(&folder, "tests/host/host.c", "host", &["-pthread", "-ldl"]);
    let resolver =
        compile(&folder, "tests/host/resolver.c", "resolver.so", &["-shared", "-fPIC", "-D_DEFAULT_SOURCE"]);
    let plain = LoopbackServer::echo().unwrap();
    let tls = LoopbackServer::start_tls(identity(), LoopbackConnection::echo).unwrap();
    let stalled = Stalled::start();
    let silent = Silent::start();
    let full = Full::start();
    for (mood, url) in [
        ("alive", plain.url()),
        ("alive", tls.url()),
        ("stalled", stalled.url()),
        ("refused", silent.url(Mood::Refused)),
        ("silent", silent.url(Mood::Silent)),
        ("silent", silent.url(Mood::SilentTls)),
        ("black hole", full.url()),
        ("look-up", "ws://gateway.example".into()),
    ] {
        let mut host = Command::new(&host);
        if mood == "look-up" {
            host.env("LD_PRELOAD", &resolver);
        }
        host.arg("cycles").arg(&plugin).arg(&url).arg(mood).arg(count.to_string());
        print!("{url}: {}", run_within(host.arg(&copy), LONG.max(Duration::from_millis(200) * count)));
    }
}

#[test]
fn cycles_of_load_and_unload_leave_no_thread_and_no_descriptor() {
    cycles("cycles", 30);
}

#[test]
#[ignore = "it takes minutes"]
fn thousands_of_cycles_leave_no_thread_no_descriptor_and_no_memory() {
    cycles("cycles-long", 2500);
}

/// The same in a host in Python, which uses TLS by the library that the plugin has used, too.
fn cycles_in_python(test: &str, count: u32) {
    if !has("python3") {
        return;
    }
    let folder = folder(test);
    let plugin = compile(&folder, "tests/host/plugin.c", "plugin.so", &["-shared", "-fPIC"]);
    let copy = folder.join("copy.so");
    fs::copy(&plugin, &copy).unwrap();
    let plain = LoopbackServer::echo().unwrap();
    let tls = LoopbackServer::start_tls(identity(), LoopbackConnection::echo).unwrap();
    for (url, said) in [(plain.url(), ": a session"), (tls.url(), ": TLSv1")] {
        let mut python = Command::new("python3");
        python.arg(here().join("tests/host/cycles.py")).arg(&plugin).arg(&url).arg(count.to_string());
        python.arg(&copy).arg(here().join("../../tests/data/ca.pem"));
        let printed = run_within(&mut python, LONG.max(Duration::from_millis(200) * count));
        print!("{url}: {printed}");
        assert!(printed.contains(said), "{printed}");
    }
}

#[test]
fn cycles_in_python_leave_nothing_and_its_own_tls_goes_on() {
    cycles_in_python("cycles-python", 20);
}

#[test]
#[ignore = "it takes minutes"]
fn thousands_of_cycles_in_python_leave_nothing_and_its_own_tls_goes_on() {
    cycles_in_python("cycles-python-long", 2500);
}

#[test]
fn connect_in_a_constructor_and_close_in_a_destructor_of_a_plugin_in_rust_return() {
    let server = LoopbackServer::echo().unwrap();
    let folder = folder("rust");
    let host = compile(&folder, "tests/host/host.c", "host", &["-pthread", "-ldl"]);
    let plugin = rust_plugin();
    let said = run(Command::new(&host).arg("rust").arg(plugin).arg(server.url()));
    let took = |call: &str| {
        let line =
            said.lines().find(|line| line.starts_with(call)).unwrap_or_else(|| panic!("no {call}: {said}"));
        line.split_whitespace().find_map(|word| word.parse::<f64>().ok()).unwrap()
    };
    // 300 ms for the attempt, 100 ms for its close, a second for a thread that is late, and 1.05 s for its end.
    assert!(said.contains("Err(\"timed out") && took("connect") < 4.0, "{said}");
    // A drop, and a start that does not wait.
    assert!(took("drop") < 2.5, "{said}");
    // The line is ready, and its server answers.
    assert!(took("close") < 1.0 && said.contains("None"), "{said}");
}

/// The plugin in Rust: cargo puts no library of an example where a test finds it.
fn rust_plugin() -> PathBuf {
    let target = built().ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--example", "rust_plugin", "--manifest-path"])
        .arg(here().join("Cargo.toml"));
    run(cargo.arg("--target-dir").arg(&target));
    target.join("debug/examples/librust_plugin.so")
}
