//! Plugins in hosts that this project did not write: a LADSPA plugin in `applyplugin`, and an extension of `SQLite` in the
//! command-line tool and in Python. `tests/interop/run.sh hosts` installs what that takes; what is not there is skipped.
#![cfg(target_os = "linux")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::{env, fs};

use common::{compile, folder, here, run};
use tautline::Message;
use tautline::testing::LoopbackServer;

/// Whether this program and this header of the system are there.
fn has(program: &str, header: &str) -> bool {
    let found = env::split_paths(&env::var_os("PATH").unwrap_or_default())
        .any(|folder| folder.join(program).exists())
        && Path::new("/usr/include").join(header).exists();
    // The script that installs them says so: nothing is to be skipped then.
    assert!(found || env::var_os("TAUTLINE_HOSTS").is_none(), "there is no {program}, or no {header}");
    if !found {
        println!("skipped: there is no {program}, or no {header}");
    }
    found
}

/// A second of a tone, as a WAV file of 16 bits, whose peak is half of what there is room for.
fn tone(folder: &Path) -> PathBuf {
    const RATE: u32 = 44_100;
    let samples = (0..RATE).map(|at| if at % 100 < 50 { 0x4000_i16 } else { -0x4000 });
    let data: Vec<u8> = samples.flat_map(i16::to_le_bytes).collect();
    let mut wav = b"RIFF".to_vec();
    let length = u32::try_from(data.len()).unwrap();
    wav.extend((36 + length).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    wav.extend([1_u16, 1].into_iter().flat_map(u16::to_le_bytes));
    wav.extend([RATE, RATE * 2].into_iter().flat_map(u32::to_le_bytes));
    wav.extend([2_u16, 16].into_iter().flat_map(u16::to_le_bytes));
    wav.extend(b"data");
    wav.extend(length.to_le_bytes());
    wav.extend(data);
    let file = folder.join("tone.wav");
    fs::write(&file, wav).unwrap();
    file
}

#[test]
fn a_level_meter_runs_in_applyplugin_and_is_gone_at_its_end() {
    if !has("applyplugin", "ladspa.h") {
        return;
    }
    let levels = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&levels);
    let server = LoopbackServer::start(move |mut connection| {
        while let Some(message) = connection.recv() {
            theirs.lock().unwrap().push(message);
        }
    });
    let server = server.unwrap();
    let folder = folder("ladspa");
    let meter = compile(&folder, "hosts/meter.c", "meter.so", &["-shared", "-fPIC"]);
    let tone = tone(&folder);
    let apply = |url: &str| {
        let mut host = Command::new("sh");
        host.args(["-c", "exec applyplugin \"$@\" 2>&1", "sh"]).env("TAUTLINE_METER_URL", url);
        run(host.arg(&tone).arg(folder.join("out.wav")).arg(&meter).arg("tautline_meter"))
    };
    let said = apply(&server.url());
    print!("{said}");
    assert!(said.contains("levels accepted") && said.contains("; gone"), "{said}");
    server.join();
    let levels = levels.lock().unwrap();
    // The host runs as fast as it can: some are refused.
    assert!(!levels.is_empty(), "{said}");
    for level in &*levels {
        let peak = f32::from_le_bytes(level.as_bytes().try_into().unwrap());
        assert!(matches!(level, Message::Binary(_)) && (peak - 0.5).abs() < 0.01, "{peak}");
    }
    // A server that is not there costs the host its wait, and nothing else.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = apply(&format!("ws://{nobody}"));
    print!("{said}");
    assert!(said.contains("meter: 0 levels accepted") && said.contains("; gone"), "{said}");
}

/// The extension, and what is done with it: the last line stays open.
fn extension(test: &str) -> (PathBuf, [&'static str; 4]) {
    let folder = folder(test);
    let extension = compile(&folder, "hosts/lines.c", "lines.so", &["-shared", "-fPIC"]);
    let statements = [
        "create table line as select ws_open('URL') as id",
        "select ws_send(id, 'from SQL'), ws_receive(id, 5000), ws_close(id) from line",
        "update line set id = ws_open('URL')",
        "select ws_send(id, x'0001'), hex(ws_receive(id, 5000)), ws_receive(id, 0) is null from line",
    ];
    (extension, statements)
}

#[test]
fn a_sqlite_extension_runs_in_the_command_line_tool() {
    if !has("sqlite3", "sqlite3ext.h") {
        return;
    }
    let server = LoopbackServer::echo().unwrap();
    let (extension, statements) = extension("sqlite");
    let mut tool = Command::new("sqlite3");
    tool.arg(":memory:").arg(format!(".load {}", extension.display()));
    tool.args(statements.map(|statement| statement.replace("URL", &server.url())));
    // Once more, in one process: the extension is unloaded with the first database and loaded with the next.
    for again in [".open :memory:".to_owned(), format!(".load {}", extension.display())] {
        tool.arg(again);
    }
    tool.args(statements.map(|statement| statement.replace("URL", &server.url())));
    let said = run(&mut tool);
    print!("{said}");
    assert_eq!(said, "1|from SQL|0\n1|0001|1\n".repeat(2));
    let mut wrong = Command::new("sqlite3");
    wrong.arg(":memory:").arg(format!(".load {}", extension.display()));
    let out = wrong.args(["select ws_send(7, 'x')"]).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("there is no client 0x7"), "{said}");
}

#[test]
fn a_sqlite_extension_runs_in_python() {
    if !has("python3", "sqlite3ext.h") {
        return;
    }
    let loads = "import sqlite3; sqlite3.connect(':memory:').enable_load_extension(True)";
    let python = ["python3", "/usr/bin/python3"].into_iter().find(|python| {
        let tried = Command::new(python).args(["-c", loads]).output();
        tried.is_ok_and(|out| out.status.success())
    });
    let Some(python) = python else {
        println!("skipped: no Python here loads extensions of SQLite");
        return;
    };
    let server = LoopbackServer::echo().unwrap();
    let (extension, statements) = extension("sqlite-python");
    let mut command = Command::new(python);
    command.arg(here().join("hosts/lines.py")).arg(extension).arg("20");
    let said = run(command.args(statements.map(|statement| statement.replace("URL", &server.url()))));
    print!("{said}");
    assert_eq!(said, "20 databases opened and closed; no thread of a line is left\n");
}
