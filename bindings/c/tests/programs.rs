//! Programs that are not in Rust: one in C, one in C++, one in Python, and what `make install` installs.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use common::{built, compile, folder, has, here, identity, run};
use tautline::testing::{LoopbackConnection, LoopbackServer};

#[test]
fn a_program_in_c_builds_without_a_warning_and_talks_to_a_server() {
    let server = LoopbackServer::echo().unwrap();
    let line = compile(&folder("line"), "examples/line.c", "line", &["-D_POSIX_C_SOURCE=200809L"]);
    let said = run(Command::new(&line).arg(server.url()).arg("greetings"));
    assert_eq!(said, "ready\nreceived: greetings\ngone; 0 never written\n");
    let refused = Command::new(&line).arg("http://h").output().unwrap();
    let why = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && why.contains("ws:// or wss://"), "{why}");
}

/// Has a compiler read a program with the header.
fn reads_header(compiler: &str, standard: &str, source: &str) {
    if !has(compiler) {
        return;
    }
    let source_file = folder("standards").join(source);
    // The second time, its guard leaves out all of it.
    let include = "#include <tautline.h>\n".repeat(2);
    fs::write(&source_file, include + "int main(void) { return tautline_version()[0] == 0; }\n").unwrap();
    let mut command = Command::new(compiler);
    command.args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic-errors", "-fsyntax-only", "-I"]);
    run(command.arg(here().join("include")).arg(&source_file));
}

#[test]
fn the_header_is_one_for_the_first_standard_of_c_too() {
    reads_header("cc", "-std=c89", "program.c");
}

#[test]
fn the_header_is_one_for_cpp_too() {
    reads_header("c++", "-std=c++11", "program.cpp");
}

#[test]
fn python_drives_it_by_ctypes() {
    if !has("python3") {
        return;
    }
    let plain = LoopbackServer::echo().unwrap();
    let tls = LoopbackServer::start_tls(identity(), LoopbackConnection::echo).unwrap();
    for url in [plain.url(), tls.url()] {
        let mut python = Command::new("python3");
        python.arg(here().join("tests/line.py")).arg(built().join("libtautline_c.so")).arg(url);
        assert_eq!(run(&mut python), format!("{} by ctypes\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn what_is_installed_is_found_by_pkg_config_and_the_static_library_suffices_alone() {
    if !has("make") || !has("pkg-config") {
        return;
    }
    let folder = folder("installed");
    let prefix = folder.join("usr");
    let _ = fs::remove_dir_all(&prefix);
    let mut make = Command::new("make");
    make.arg("-C").arg(here()).arg("install").arg(format!("PREFIX={}", prefix.display()));
    run(make.arg(format!("BUILT={}", built().display())));
    let server = LoopbackServer::echo().unwrap();
    let flags = |more: &[&str]| {
        let mut config = Command::new("pkg-config");
        config.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(["--cflags", "--libs"]).args(more);
        let flags = run(config.arg("tautline-c"));
        flags.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let build = |made: &Path, flags: &[String]| {
        let mut compiler = Command::new(env::var("CC").unwrap_or_else(|_| "cc".into()));
        compiler.arg("-D_POSIX_C_SOURCE=200809L").arg(here().join("examples/line.c")).arg("-o").arg(made);
        run(compiler.args(flags));
    };
    let shared = folder.join("line-shared");
    build(&shared, &flags(&[]));
    let said = run(Command::new(&shared).env("LD_LIBRARY_PATH", prefix.join("lib")).arg(server.url()));
    assert!(said.contains("received: hello"), "{said}");
    // Without the shared library, the linker takes the static one.
    for name in ["libtautline_c.so", "libtautline_c.so.0"] {
        fs::remove_file(prefix.join("lib").join(name)).unwrap();
    }
    let alone = folder.join("line-alone");
    build(&alone, &flags(&["--static"]));
    assert!(run(Command::new(&alone).arg(server.url())).contains("received: hello"));
}
