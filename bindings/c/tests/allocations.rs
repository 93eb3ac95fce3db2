//! What calls allocate: what the table of the README says.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{null, null_mut};

use tautline::testing::LoopbackServer;
use tautline_c::*;

thread_local!(static COUNT: Cell<usize> = const { Cell::new(0) });

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: it does what the system's allocator does; the counter has no memory of its own and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as this function's caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as this function's caller says.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How many allocations these calls make on this thread.
fn allocations(calls: impl FnOnce()) -> usize {
    let before = COUNT.get();
    calls();
    COUNT.get() - before
}

fn event() -> Event {
    let size = size_of::<Event>();
    Event { size, ..Event::default() }
}

#[test]
fn with_a_queue_for_threads_that_never_wait_a_refusal_for_want_of_room_allocates_nothing_either() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut options, mut client) = (null_mut(), Client { id: 0 });
    let url = format!("ws://{}\0", silent.local_addr().unwrap());
    // SAFETY: the URL ends with a NUL, and there is room for what is written.
    unsafe {
        assert_eq!(tautline_options_new(url.as_ptr().cast(), &raw mut options), TAUTLINE_OK);
        assert_eq!(tautline_options_realtime(options, 4), TAUTLINE_OK);
        assert_eq!(tautline_open(options, &raw mut client), TAUTLINE_OK);
        tautline_options_free(options);
    }
    let allocated = allocations(|| {
        for at in 0..6 {
            // SAFETY: there are as many bytes as it says.
            let code = unsafe { tautline_send_binary(client, [7; 80].as_ptr(), 80) };
            assert_eq!(code, if at < 4 { TAUTLINE_OK } else { TAUTLINE_E_FULL });
        }
    });
    assert_eq!(allocated, 0);
    // SAFETY: null is right.
    assert_eq!(unsafe { tautline_shutdown(client, TAUTLINE_TERMINATE, 20_000, null_mut()) }, TAUTLINE_OK);
}

#[test]
fn looks_small_messages_and_refusals_allocate_nothing() {
    let server = LoopbackServer::echo().unwrap();
    let (mut options, mut client) = (null_mut(), Client { id: 0 });
    let url = server.url() + "\0";
    // SAFETY: the URL ends with a NUL, and there is room for what is written.
    unsafe {
        assert_eq!(tautline_options_new(url.as_ptr().cast(), &raw mut options), TAUTLINE_OK);
        assert_eq!(tautline_open(options, &raw mut client), TAUTLINE_OK);
        tautline_options_free(options);
    }
    assert_eq!(tautline_wait_ready(client, 20_000), TAUTLINE_OK);
    let mut buffer = [0_u8; 80];
    let mut next = || {
        let mut event = event();
        // SAFETY: there is room for the event, and as much for the payload as it says.
        let code = unsafe { tautline_next_event(client, &raw mut event, buffer.as_mut_ptr(), buffer.len()) };
        (code, event)
    };
    while next().0 == TAUTLINE_OK {}
    let mut stats = [0_u64; 12];
    stats[0] = size_of::<Stats>() as u64;
    let looks = allocations(|| {
        assert_eq!(tautline_state(client), TAUTLINE_STATE_CONNECTED);
        // SAFETY: there is room for it, and its size is set.
        assert_eq!(unsafe { tautline_stats(client, stats.as_mut_ptr().cast()) }, TAUTLINE_OK);
        assert_eq!(tautline_wake(client), TAUTLINE_OK);
        assert_eq!(tautline_wait_event(client, 0), TAUTLINE_E_WOKEN);
        assert_eq!(next().0, TAUTLINE_E_EMPTY);
    });
    assert_eq!(looks, 0);
    let refusals = allocations(|| {
        assert_eq!(tautline_state(Client { id: 1 }), TAUTLINE_E_HANDLE);
        // SAFETY: null is refused.
        assert_eq!(unsafe { tautline_send_text(client, null(), 1) }, TAUTLINE_E_ARGUMENT);
        // SAFETY: there is one byte.
        assert_eq!(unsafe { tautline_send_text(client, b"\xFF".as_ptr().cast(), 1) }, TAUTLINE_E_UTF8);
        // SAFETY: there is no room, as it says.
        assert!(unsafe { tautline_last_error(null_mut(), 0) } > 0);
    });
    assert_eq!(refusals, 0);
    // The queue has its room after the first messages.
    let mut last = 0;
    for _ in 0..100 {
        last = allocations(|| {
            // SAFETY: there are as many bytes as it says.
            assert_eq!(unsafe { tautline_send_binary(client, [7; 80].as_ptr(), 80) }, TAUTLINE_OK);
            loop {
                match next() {
                    (TAUTLINE_OK, event) => break assert_eq!(event.length, 80),
                    (TAUTLINE_E_EMPTY, _) => assert_eq!(tautline_wait_event(client, 20_000), TAUTLINE_OK),
                    (code, _) => panic!("{code}"),
                }
            }
        });
    }
    assert_eq!(last, 0, "of a small message, there and back");
    // SAFETY: null is right.
    assert_eq!(unsafe { tautline_shutdown(client, TAUTLINE_CLOSE, 20_000, null_mut()) }, TAUTLINE_OK);
}
