//! How many allocations a message takes in the steady state, besides that of its payload.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use common::server::{Server, serve_if_asked};
use common::table::{Table, Target, plain};
use common::{bare, received, to_float};
use tungstenite::Message;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a counter.
struct Counting;

// SAFETY: each call goes to the system's allocator as it is; the count touches no memory of the caller's.
#[expect(unsafe_code, reason = "an allocator can't be written without; only in this program")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`, which is the same.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const MESSAGES: usize = 100_000;

fn main() {
    serve_if_asked();
    let server = Server::start();
    let mut table = Table::new("allocations");
    for (size, name) in [(16, "16 B"), (1 << 10, "1 KiB")] {
        let client = common::connect(&server, false, "sink");
        let mut other = bare::connect(&server, false, "sink");
        let payload = vec![7; size];
        let mut ours = || {
            (0..MESSAGES).for_each(|_| _ = client.send(payload.as_slice()).unwrap());
            received(&client);
        };
        let mut bares = || {
            (0..MESSAGES).for_each(|_| other.send(Message::binary(payload.clone())).unwrap());
            bare::received(&mut other);
        };
        report(&mut table, &format!("allocations a message out, {name}"), &mut ours, &mut bares);

        let client = common::connect(&server, false, "flood");
        let mut other = bare::connect(&server, false, "flood");
        let order = format!("{size} {MESSAGES}");
        let mut ours = || {
            client.send(order.as_str()).unwrap();
            (0..MESSAGES).for_each(|_| drop(client.recv().unwrap()));
        };
        let mut bares = || {
            other.send(Message::text(order.as_str())).unwrap();
            (0..MESSAGES).for_each(|_| drop(other.read().unwrap()));
        };
        report(&mut table, &format!("allocations a message in, {name}"), &mut ours, &mut bares);
    }
    table.print();
}

fn report(table: &mut Table, name: &str, ours: &mut dyn FnMut(), bare: &mut dyn FnMut()) {
    let (ours, bare) = (beyond_the_payload(ours), beyond_the_payload(bare));
    table.own(name, ours, plain, Some(Target::AtMost(1.0)));
    table.note(&format!("{name}, bare"), "", &plain(bare), "");
}

/// The result of the second of two runs, when the buffers exist already. It may be negative: several small messages
/// that arrived in one read can share an allocation.
fn beyond_the_payload(work: &mut dyn FnMut()) -> f64 {
    work();
    let before = COUNT.load(Ordering::Relaxed);
    work();
    let each = to_float(COUNT.load(Ordering::Relaxed) - before) / to_float(MESSAGES) - 1.0;
    // Rounded, because a buffer that grows once in a run is not an allocation per message.
    (each * 100.0).round() / 100.0
}
