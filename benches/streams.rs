//! Many messages at once: echoes with 1,024 in flight, and a server that sends as fast as it can.

mod common;

use common::server::{Server, serve_if_asked};
use common::table::{Table, per_second};
use common::{bare, interleave, plain_or_tls, rate};
use tautline::Client;
use tungstenite::Message;

use bare::Bare;

const ROUNDS: usize = 9;
const IN_FLIGHT: usize = 1024;
const ECHOES: usize = 30_000;

/// Bare tungstenite flushes after each message, or after this many.
const BATCH: usize = 64;

fn main() {
    serve_if_asked();
    let server = Server::start();
    let mut table = Table::new("streams");
    for secure in [false, true] {
        let kind = plain_or_tls(secure);
        let client = common::connect(&server, secure, "echo");
        let mut each = bare::connect(&server, secure, "echo");
        let mut batch = bare::connect(&server, secure, "echo");
        let [ours, bare_each, bare_batch] = interleave(
            ROUNDS,
            &mut [&mut || echoes(&client), &mut || bare_echoes(&mut each, 1), &mut || {
                bare_echoes(&mut batch, BATCH)
            }],
        );
        let name = format!("1,024 echoes in flight, 64 B, {kind}");
        table.compare(&format!("{name}, bare send"), (ours, bare_each), per_second, None);
        table.compare(&format!("{name}, bare flush each {BATCH}"), (ours, bare_batch), per_second, None);

        let client = common::connect(&server, secure, "flood");
        let mut other = bare::connect(&server, secure, "flood");
        for (size, count, name) in [(16, 200_000, "16 B"), (1 << 10, 50_000, "1 KiB")] {
            let order = format!("{size} {count}");
            let [ours, bare] = interleave(
                ROUNDS,
                &mut [&mut || flood(&client, &order, count), &mut || bare_flood(&mut other, &order, count)],
            );
            table.compare(&format!("inbound flood, {name}, {kind}"), (ours, bare), per_second, None);
        }
    }
    table.print();
}

fn echoes(client: &Client) -> f64 {
    let payload = [7; 64];
    rate(ECHOES, || {
        for _ in 0..IN_FLIGHT {
            client.send(payload).unwrap();
        }
        for n in 0..ECHOES {
            client.recv().unwrap();
            if n + IN_FLIGHT < ECHOES {
                client.send(payload).unwrap();
            }
        }
    })
}

fn bare_echoes(bare: &mut Bare, batch: usize) -> f64 {
    let payload = [7; 64];
    rate(ECHOES, || {
        for _ in 0..IN_FLIGHT {
            bare.write(Message::binary(payload.to_vec())).unwrap();
        }
        bare.flush().unwrap();
        for n in 0..ECHOES {
            bare.read().unwrap();
            if n + IN_FLIGHT < ECHOES {
                bare.write(Message::binary(payload.to_vec())).unwrap();
            }
            if n % batch == 0 {
                bare.flush().unwrap();
            }
        }
    })
}

fn flood(client: &Client, order: &str, count: usize) -> f64 {
    rate(count, || {
        client.send(order).unwrap();
        (0..count).for_each(|_| drop(client.recv().unwrap()));
    })
}

fn bare_flood(bare: &mut Bare, order: &str, count: usize) -> f64 {
    rate(count, || {
        bare.send(Message::text(order)).unwrap();
        (0..count).for_each(|_| drop(bare.read().unwrap()));
    })
}
