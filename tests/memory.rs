//! What large messages cost. One test, since it looks at the whole process.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/heap.rs"]
mod heap;
#[path = "common/proc.rs"]
mod proc;

use std::io::{self, Read, Write};
use std::net::TcpStream;

use common::{LONG, Server, eventually, good_answer, read_frame, read_head};
use proc::Peak;
use tautline::{Client, ConnectionConfig};

const SIZE: usize = 64 << 20;

/// What may be allocated for other things after a message.
const SLACK: usize = 512 << 10;

/// How much memory `work` takes at its most. What it allocated is to be freed, soon.
///
/// The peak is the system's word: of what is allocated, not all need be there. What was freed is not: the C library keeps
/// up to 64 MiB of that resident, as much as the sizes suggest that it has freed before, and these depend on how fast each
/// side reads.
fn memory(work: impl FnOnce()) -> usize {
    let peak = Peak::new();
    let allocated = heap::live();
    work();
    let peak = peak.bytes();
    eventually("the memory back", || heap::live() <= allocated + SLACK);
    peak
}

/// Upgrades, sends one large message when a text comes, swallows large messages, answers pings.
fn serve(mut stream: impl Read + Write) -> io::Result<()> {
    let head = read_head(&mut stream);
    stream.write_all(good_answer(&head, "").as_bytes())?;
    let buffer = vec![0; 64 << 10];
    loop {
        let mut first = [0; 2];
        stream.read_exact(&mut first)?;
        if first[1] == 0x80 | 0x7F {
            let mut length = [0; 8];
            stream.read_exact(&mut length)?;
            let payload = u64::from_be_bytes(length) + 4;
            io::copy(&mut (&mut stream).take(payload), &mut io::sink())?;
            continue;
        }
        let Some((opcode, payload)) = read_frame(&mut first.chain(&mut stream)) else { return Ok(()) };
        match opcode {
            1 => {
                stream.write_all(&[0x82, 127])?;
                stream.write_all(&(SIZE as u64).to_be_bytes())?;
                for _ in 0..SIZE / buffer.len() {
                    stream.write_all(&buffer)?;
                }
            }
            9 => stream.write_all(&common::frame(0x8A, &payload))?,
            _ => return Ok(()),
        }
    }
}

fn measure(kind: &str, client: &Client) {
    // What stays for good, such as buffers, is there before the measurement.
    client.send(vec![7; 100_000]).unwrap();
    client.confirm(.., LONG).unwrap();
    let peak = memory(|| {
        client.send(vec![7; SIZE]).unwrap();
        client.confirm(.., LONG).unwrap();
    });
    println!("{kind}, sent: {:.2} times the message at its peak", ratio(peak));
    assert!(peak <= 3 * SIZE, "{peak} bytes to send {SIZE}");
    let peak = memory(|| {
        client.send("please").unwrap();
        assert_eq!(client.recv_timeout(LONG).unwrap().len(), SIZE);
    });
    println!("{kind}, received: {:.2} times the message at its peak", ratio(peak));
    assert!(peak <= 3 * SIZE, "{peak} bytes to receive {SIZE}");
    assert_eq!(client.stats().disconnects, 0);
}

#[expect(clippy::cast_precision_loss, reason = "a ratio to print")]
fn ratio(bytes: usize) -> f64 {
    bytes as f64 / SIZE as f64
}

#[test]
fn a_large_message_costs_three_times_its_size_at_most_and_gives_it_back() {
    let server = Server::start(|_, stream: TcpStream| drop(serve(stream)));
    let limit = tautline::QueueLimit::new(16, 2 * SIZE);
    let client = Client::connect(ConnectionConfig::new(server.url()).outbox(limit).events(limit)).unwrap();
    measure("plain", &client);
    let _ = client.terminate();

    #[cfg(feature = "native-tls")]
    {
        let acceptor = common::tls_acceptor();
        let server = Server::start(move |_, stream| {
            let Ok(stream) = acceptor.accept(stream) else { return };
            drop(serve(stream));
        });
        let config = common::over_tls(&server).outbox(limit).events(limit);
        let client = Client::builder(config).resolver(common::loopback).connect().unwrap();
        measure("TLS", &client);
        let _ = client.terminate();
    }
}
