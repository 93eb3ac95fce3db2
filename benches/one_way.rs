//! How many messages a second go out, until the server reports that it has received all.

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use common::server::{Server, serve_if_asked};
use common::table::{Table, Target, per_second};
use common::{bare, interleave, rate, received};
use tautline::Client;
use tungstenite::Message;

use bare::Bare;

const ROUNDS: usize = 9;

/// How many messages a block has: with batching, and with a system call for each message.
const MANY: usize = 100_000;
const FEW: usize = 20_000;

fn main() {
    serve_if_asked();
    let server = Server::start();
    let mut table = Table::new("one_way");
    for threads in [1, 4] {
        for (size, name) in [(16, "16 B"), (128, "128 B"), (1 << 10, "1 KiB")] {
            let client = common::connect(&server, false, "sink");
            let each = Mutex::new(bare::connect(&server, false, "sink"));
            let batch = Mutex::new(bare::connect(&server, false, "sink"));
            let run = Run { threads, payload: vec![7; size] };
            let [one, all, bare_each, bare_batch] = interleave(
                ROUNDS,
                &mut [
                    &mut || send(&run, &client),
                    &mut || send_all(&run, &client),
                    &mut || send_each(&run, &each),
                    &mut || write_batch(&run, &batch),
                ],
            );
            let name = format!("{name}, {threads} thread{}", if threads == 1 { "" } else { "s" });
            let (single, small) = (threads == 1, size == 16);
            let batched = if single { 0.45 } else { 0.55 };
            let mut row = |what: &str, figures, least: Option<f64>| {
                let target = least.filter(|_| small).map(Target::AtLeast);
                table.compare(&format!("{name}, {what}"), figures, per_second, target);
            };
            row("send / bare send", (one, bare_each), single.then_some(12.0));
            row("send_all / bare send", (all, bare_each), single.then_some(20.0));
            row("send / bare write, one flush", (one, bare_batch), Some(batched));
            row("send_all / bare write, one flush", (all, bare_batch), None);
        }
    }
    table.print();
}

/// What is sent, and by how many threads.
struct Run {
    threads: usize,
    payload: Vec<u8>,
}

impl Run {
    /// Gives each thread its share of `count` messages.
    fn share(&self, count: usize, work: impl Fn(usize) + Sync) {
        let share = || work(count / self.threads);
        if self.threads == 1 {
            return share();
        }
        thread::scope(|scope| {
            for _ in 0..self.threads {
                thread::Builder::new().name("sender".into()).spawn_scoped(scope, share).unwrap();
            }
        });
    }
}

/// This library, one call per message.
fn send(run: &Run, client: &Client) -> f64 {
    confirmed(run, client, &|part| (0..part).for_each(|_| _ = client.send(run.payload.as_slice()).unwrap()))
}

/// This library, one call per thread.
fn send_all(run: &Run, client: &Client) -> f64 {
    confirmed(run, client, &|part| {
        client.send_all((0..part).map(|_| run.payload.as_slice())).unwrap();
    })
}

fn confirmed(run: &Run, client: &Client, work: &(dyn Fn(usize) + Sync)) -> f64 {
    let before = received(client);
    rate(MANY, || {
        run.share(MANY, work);
        assert_eq!(received(client) - before, MANY as u64);
    })
}

/// Bare tungstenite, one system call per message.
fn send_each(run: &Run, bare: &Mutex<Bare>) -> f64 {
    let before = bare::received(&mut lock(bare));
    rate(FEW, || {
        run.share(FEW, |part| {
            (0..part).for_each(|_| lock(bare).send(Message::binary(run.payload.clone())).unwrap());
        });
        assert_eq!(bare::received(&mut lock(bare)) - before, FEW as u64);
    })
}

/// Bare tungstenite at its fastest, in a program that knows all its messages beforehand.
fn write_batch(run: &Run, bare: &Mutex<Bare>) -> f64 {
    let before = bare::received(&mut lock(bare));
    rate(MANY, || {
        run.share(MANY, |part| {
            (0..part).for_each(|_| lock(bare).write(Message::binary(run.payload.clone())).unwrap());
        });
        lock(bare).flush().unwrap();
        assert_eq!(bare::received(&mut lock(bare)) - before, MANY as u64);
    })
}

fn lock(bare: &Mutex<Bare>) -> MutexGuard<'_, Bare> {
    bare.lock().unwrap_or_else(PoisonError::into_inner)
}
