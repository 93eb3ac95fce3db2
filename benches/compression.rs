//! What compression earns and costs: JSON messages out and in, beside bare tungstenite, which has none, and beside Python's
//! websockets and Node's ws with it, where `tests/interop/run.sh servers` has installed them.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use common::server::{Server, frame, serve_if_asked};
use common::table::{Table, megabytes, per_second, plain};
use common::{LONG, bare, interleave, rate, received, to_float};
use flate2::{Compress, FlushCompress};
use tautline::{Client, Compression};

use bare::Bare;

const ROUNDS: usize = 5;
const TAIL: [u8; 4] = [0, 0, 0xFF, 0xFF];

fn main() {
    serve_if_asked();
    let server = Server::start();
    let mut table = Table::new("compression");
    for (name, size, count) in [("200 B", 200, 20_000), ("4 KiB", 4 << 10, 3_000)] {
        let messages = messages(size, count);
        ratios(&mut table, &server, name, &messages);
        speed(&mut table, &server, name, &messages);
    }
    table.print();
}

/// How much shorter the messages become.
fn ratios(table: &mut Table, server: &Server, name: &str, messages: &[String]) {
    let alone = Compression::default().client_no_context_takeover(true).threshold(1);
    for (what, compression) in [
        ("level 1", Compression::default().level(1)),
        ("level 3", Compression::default()),
        ("level 9", Compression::default().level(9)),
        ("level 3, no takeover", alone),
    ] {
        let client = common::start(common::config(server, false, "sink").compression(compression));
        let speed = out(&client, messages);
        let bytes = client.stats().compressed_written;
        #[expect(clippy::cast_precision_loss, reason = "a figure to print")]
        let ratio = bytes.before as f64 / bytes.after as f64;
        table.own(&format!("{name}, {what}: bytes before to after"), ratio, plain, None);
        table.own(&format!("{name}, {what}: payload out"), speed * size(messages), megabytes, None);
    }
}

fn speed(table: &mut Table, server: &Server, name: &str, messages: &[String]) {
    let zipped = |room| common::config(server, false, room).compression(Compression::default());
    let client = common::start(zipped("sink"));
    let unzipped = common::connect(server, false, "sink");
    let mut bare = bare::connect(server, false, "sink");
    let [with, without, other] = interleave(
        ROUNDS,
        &mut [&mut || out(&client, messages), &mut || out(&unzipped, messages), &mut || {
            bare_out(&mut bare, messages)
        }],
    );
    table.compare(&format!("{name} out, with / bare without"), (with, other), per_second, None);
    table.compare(&format!("{name} out, without / bare without"), (without, other), per_second, None);
    let payload = size(messages);
    table.compare(
        &format!("{name} out, the same, payload"),
        (with * payload, other * payload),
        megabytes,
        None,
    );

    // Each kind of frames needs the server for itself.
    let unzipped = common::connect(server, false, "replay");
    let mut bare = bare::connect(server, false, "replay");
    keep(&unzipped, messages, false);
    let [without, other] = interleave(
        ROUNDS,
        &mut [&mut || inbound(&unzipped, messages), &mut || bare_inbound(&mut bare, messages)],
    );
    let client = common::start(zipped("replay"));
    keep(&unzipped, messages, true);
    let [with] = interleave(ROUNDS, &mut [&mut || inbound(&client, messages)]);
    table.compare(&format!("{name} in, with / bare without"), (with, other), per_second, None);
    table.compare(&format!("{name} in, without / bare without"), (without, other), per_second, None);
    table.compare(
        &format!("{name} in, the same, payload"),
        (with * payload, other * payload),
        megabytes,
        None,
    );

    let file = env::temp_dir().join(format!("tautline-bench-{}.json", std::process::id()));
    fs::write(&file, messages.join("\n")).unwrap();
    let sink = common::start(zipped("sink"));
    for (who, program) in peers() {
        let mut theirs = Vec::new();
        let [with] = interleave(
            ROUNDS,
            &mut [&mut || {
                theirs.push(program(server, &file));
                out(&sink, messages)
            }],
        );
        let [their_out, their_in] = [0, 1].map(|way| common::median(theirs.iter().map(|r| r[way]).collect()));
        let [ours] = interleave(ROUNDS, &mut [&mut || inbound(&client, messages)]);
        table.compare(&format!("{name} out, with / {who} with"), (with, their_out), per_second, None);
        table.compare(&format!("{name} in, with / {who} with"), (ours, their_in), per_second, None);
    }
    let _ = fs::remove_file(&file);
}

/// Runs another client, and returns how many messages a second it sends and receives.
type Program = Box<dyn Fn(&Server, &Path) -> [f64; 2]>;

fn peers() -> Vec<(&'static str, Program)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let installed = root.join("target/interop");
    let (python, modules) = (installed.join("python/bin/python"), installed.join("node/node_modules"));
    let mut peers: Vec<(&str, Program)> = Vec::new();
    for (who, is_there, command, script) in [
        ("websockets (Python)", python.exists(), python.clone(), "compression.py"),
        ("ws (Node)", modules.exists(), "node".into(), "compression.js"),
    ] {
        let script = root.join("benches/peers").join(script);
        if !is_there || !script.exists() {
            eprintln!("compression: without {who}, which tests/interop/run.sh servers installs");
            continue;
        }
        let modules = modules.clone();
        peers.push((
            who,
            Box::new(move |server, file| {
                let mut command = Command::new(&command);
                command.arg(&script).arg(server.url(false, "")).arg(file).env("NODE_PATH", &modules);
                let output = command.output().unwrap();
                let said = String::from_utf8_lossy(&output.stdout);
                let figures: Vec<f64> =
                    said.split_whitespace().filter_map(|part| part.parse().ok()).collect();
                <[f64; 2]>::try_from(figures).unwrap_or_else(|_| panic!("{output:?}"))
            }),
        ));
    }
    peers
}

/// JSON as a gateway of sensors sends it, of about this size.
fn messages(size: usize, count: usize) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(15);
    let mut reading = |n: usize| {
        let (rms, peak, heat) = (random.u32(100..9_999), random.u32(100..9_999), random.u32(200..900));
        let (sensor, time) = (random.u32(0..16), 1_764_324_301_000 + n as u64 * 25);
        format!(
            r#"{{"type":"reading","sensor":"vib-{sensor:02}","line":3,"time":{time},"rms":0.{rms:04},"peak":1.{peak:04},"temperature":{}.{},"unit":"mm/s","status":"ok","alarms":[],"sequence":{n},"gateway":"hall-2"}}"#,
            heat / 10,
            heat % 10,
        )
    };
    (0..count)
        .map(|n| {
            let mut text = reading(n);
            if size > 1_000 {
                while text.len() + 200 < size {
                    text.push(',');
                    text += &reading(n);
                }
                text = format!(r#"{{"batch":[{text}]}}"#);
            }
            text
        })
        .collect()
}

/// The mean length of the messages.
fn size(messages: &[String]) -> f64 {
    to_float(messages.iter().map(String::len).sum()) / to_float(messages.len())
}

fn out(client: &Client, messages: &[String]) -> f64 {
    let before = received(client);
    rate(messages.len(), || {
        client.send_all(messages.iter().map(String::as_bytes)).unwrap();
        assert_eq!(received(client) - before, messages.len() as u64);
    })
}

fn bare_out(bare: &mut Bare, messages: &[String]) -> f64 {
    let before = bare::received(bare);
    rate(messages.len(), || {
        for text in messages {
            bare.write(tungstenite::Message::binary(text.as_bytes().to_vec())).unwrap();
        }
        bare.flush().unwrap();
        assert_eq!(bare::received(bare) - before, messages.len() as u64);
    })
}

/// Has the server keep the frames of these messages, by a connection without compression, which needs no fragments. The first refers to nothing, so that they can be sent again and again.
fn keep(client: &Client, messages: &[String], zipped: bool) {
    let mut deflate = Compress::new(flate2::Compression::new(6), false);
    let mut frames = Vec::new();
    for text in messages {
        if !zipped {
            frame(&mut frames, 0x81, text.as_bytes());
            continue;
        }
        let mut made = Vec::with_capacity(text.len() + 64);
        deflate.compress_vec(text.as_bytes(), &mut made, FlushCompress::Sync).unwrap();
        frame(&mut frames, 0xC1, made.strip_suffix(&TAIL).unwrap());
    }
    client.send(frames).unwrap();
    client.confirm(.., LONG).unwrap();
}

fn inbound(client: &Client, messages: &[String]) -> f64 {
    rate(messages.len(), || {
        client.send("?").unwrap();
        for text in messages {
            assert_eq!(client.recv().unwrap().len(), text.len());
        }
    })
}

fn bare_inbound(bare: &mut Bare, messages: &[String]) -> f64 {
    rate(messages.len(), || {
        bare.send(tungstenite::Message::text("?")).unwrap();
        for text in messages {
            assert_eq!(bare.read().unwrap().len(), text.len());
        }
    })
}
