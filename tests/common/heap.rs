//! What the program has allocated, counted by a wrapper around the system's allocator. Memory that the system's
//! allocator keeps for later does not count: how much that is depends on what was freed before, and in which order.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module that several test crates include")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static LIVE: AtomicUsize = AtomicUsize::new(0);
/// The largest single allocation since [`measure`].
static LARGEST: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// How often this thread has allocated or freed memory.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn more(size: usize) {
    CALLS.set(CALLS.get() + 1);
    LARGEST.fetch_max(size, Relaxed);
    LIVE.fetch_add(size, Relaxed);
}

fn less(size: usize) {
    CALLS.set(CALLS.get() + 1);
    LIVE.fetch_sub(size, Relaxed);
}

// SAFETY: each call goes to the system's allocator as it is; counting touches no memory of the caller's.
#[expect(unsafe_code, reason = "an allocator can't be written without; only in tests")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        less(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`, which is the same.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        less(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The bytes that are allocated now.
pub fn live() -> usize {
    LIVE.load(Relaxed)
}

/// Resets the largest allocation.
pub fn measure() {
    LARGEST.store(0, Relaxed);
}

pub fn largest() -> usize {
    LARGEST.load(Relaxed)
}

/// How often this thread has allocated or freed memory so far.
pub fn calls() -> usize {
    CALLS.get()
}
