//! Large messages, one way and echoed: how fast they are, and how much memory they take.

mod common;

use common::server::{Server, serve_if_asked};
use common::table::{Table, Target, megabytes, plain};
use common::{bare, interleave, plain_or_tls, process, time, to_float};
use tautline::Client;
use tungstenite::Message;

use bare::Bare;

const MIB: usize = 1 << 20;

/// The sizes of the messages, and how many make a block.
const SIZES: [(usize, usize, &str); 3] =
    [(MIB, 16, "1 MiB"), (16 * MIB, 2, "16 MiB"), (64 * MIB, 1, "64 MiB")];

/// The server's rooms, and what the server does with a message there.
const ROOMS: [(&str, &str); 2] = [("sink", "sent"), ("echo", "echoed")];

const ROUNDS: usize = 5;

fn main() {
    serve_if_asked();
    let server = Server::start();
    let mut table = Table::new("large");
    for secure in [false, true] {
        for (size, count, name) in SIZES {
            let run = Run { secure, size, count, name: format!("{name}, {}", plain_or_tls(secure)) };
            // Bare tungstenite moves the rest of its buffer to the front after each record: about 10 s for 64 MiB.
            if secure && size == 64 * MIB {
                once(&mut table, &server, &run);
            } else {
                alternate(&mut table, &server, &run);
            }
        }
    }
    table.print();
}

struct Run {
    secure: bool,
    size: usize,
    count: usize,
    name: String,
}

fn alternate(table: &mut Table, server: &Server, run: &Run) {
    let target = (!run.secure && run.size == MIB).then_some(Target::AtLeast(0.95));
    for (room, direction) in ROOMS {
        let client = common::connect(server, run.secure, room);
        let mut other = bare::connect(server, run.secure, room);
        let figures = interleave(
            ROUNDS,
            &mut [&mut || block(run, |message| through_ours(&client, room, message)), &mut || {
                block(run, |message| through_bare(&mut other, room, message))
            }],
        );
        table.compare(&format!("{}, {direction}", run.name), figures.into(), megabytes, target);
        drop((client, other));
        if run.size == 64 * MIB {
            peak_of_ours(table, server, run, room, direction);
            let mut other = bare::connect(server, run.secure, room);
            note_peak(table, run, direction, peak(run, |message| through_bare(&mut other, room, message)));
        }
    }
}

/// For measurements that take bare tungstenite too long to be repeated. The echo is left out, too.
fn once(table: &mut Table, server: &Server, run: &Run) {
    let mut speeds = [0.0; 2];
    for ((room, direction), figure) in ROOMS.into_iter().zip(&mut speeds) {
        let client = common::connect(server, run.secure, room);
        [*figure] =
            interleave(ROUNDS, &mut [&mut || block(run, |message| through_ours(&client, room, message))]);
        drop(client);
        peak_of_ours(table, server, run, room, direction);
    }
    let mut other = bare::connect(server, run.secure, "sink");
    let mut speed = 0.0;
    let peak = peak(run, |message| {
        speed = to_float(run.size) / time(|| through_bare(&mut other, "sink", message)).as_secs_f64();
    });
    note_peak(table, run, "sent", peak);
    let [sent, echoed] = speeds;
    let target = Some(Target::AtLeast(10.0));
    table.compare(&format!("{}, sent (bare: once)", run.name), (sent, speed), megabytes, target);
    table.own(&format!("{}, echoed", run.name), echoed, megabytes, None);
}

/// Measured on a line of its own, which has no buffers yet.
fn peak_of_ours(table: &mut Table, server: &Server, run: &Run, room: &str, direction: &str) {
    let client = common::connect(server, run.secure, room);
    if let Some(sizes) = peak(run, |message| through_ours(&client, room, message)) {
        let name = format!("{}, {direction}, peak memory over size", run.name);
        table.own(&name, sizes, plain, Some(Target::AtMost(3.0)));
    }
}

fn note_peak(table: &mut Table, run: &Run, direction: &str, sizes: Option<f64>) {
    if let Some(sizes) = sizes {
        table.note(&format!("{}, {direction}, peak memory over size, bare", run.name), "", &plain(sizes), "");
    }
}

/// Bytes a second. The messages are created before the clock starts.
fn block(run: &Run, mut one: impl FnMut(Vec<u8>)) -> f64 {
    let messages = vec![vec![7; run.size]; run.count];
    let taken = time(|| messages.into_iter().for_each(&mut one));
    to_float(run.size * run.count) / taken.as_secs_f64()
}

/// The peak memory of sending one message, as a multiple of its size. The message itself is included.
fn peak(run: &Run, one: impl FnOnce(Vec<u8>)) -> Option<f64> {
    let bytes = process::peak(|| one(vec![7; run.size]))?;
    Some(to_float(usize::try_from(bytes).ok()?) / to_float(run.size))
}

/// Sends one message, and waits until the server has received it or echoed it.
fn through_ours(client: &Client, room: &str, message: Vec<u8>) {
    let size = message.len();
    client.send(message).unwrap();
    if room == "sink" {
        common::received(client);
    } else {
        assert_eq!(client.recv().unwrap().len(), size);
    }
}

fn through_bare(bare: &mut Bare, room: &str, message: Vec<u8>) {
    let size = message.len();
    bare.send(Message::binary(message)).unwrap();
    if room == "sink" {
        bare::received(bare);
    } else {
        assert_eq!(bare.read().unwrap().len(), size);
    }
}
